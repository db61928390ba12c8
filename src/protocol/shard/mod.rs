//! The hub of one core: the only room that knows every machine.

mod effect;
mod event;

pub use effect::Effect;
pub use event::Door;
pub use event::Event;
pub use event::Peer;
