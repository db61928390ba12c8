//! Data versioning (Dynamo, section 4.4): which writes supersede which, and what a client carries.
//!
//! # The rules
//!
//! A write event is a [`Dot`]. A stored [`Object`] is a [`Clock`] (which dots it has seen) and its
//! siblings (versions that did not see each other, tombstones among them). Two things happen to it:
//!
//! - **join**, where copies meet: a version stays if both sides have it, or if the other side has
//!   never seen it;
//! - **put**, where a client writes: the versions that its [`Context`] covers go, the new one comes
//!   under a dot of the [`Record`]'s own [`Life`].
//!
//! # What looks simpler and loses acknowledged writes
//!
//! An actor per node; a counter per key; lives without a birth; a life that outlasts its shard's
//! start; exact dots kept out of stored or shipped objects, or rounded up into the clock; a put
//! that returns its coordinator's clock. Each is a named trace in `tests/versions.rs`, which also
//! compares random histories with explicit sets of events.
//!
//! Reaping tombstones and folding clocks need agreement between nodes and are not here.

pub mod clock;
pub mod codec;
pub mod context;
pub mod dot;
pub mod format;
pub mod hybrid;
pub mod object;
pub mod put;

pub use clock::Clock;
pub use clock::Run;
pub use context::BadContext;
pub use context::Context;
pub use context::ContextSecret;
pub use dot::Dot;
pub use dot::DotSource;
pub use dot::Life;
pub use hybrid::HybridClock;
pub use hybrid::HybridError;
pub use hybrid::HybridTime;
pub use object::Conflict;
pub use object::Content;
pub use object::Object;
pub use object::Record;
pub use object::Sibling;
pub use put::Cause;
pub use put::Write;
