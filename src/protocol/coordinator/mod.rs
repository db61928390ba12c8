//! get() and put() of one key (Dynamo, sections 4.5 and 5): what is asked of how many replicas, what
//! a plain Redis command means in terms of versions, and what the client is told.
//!
//! Nothing here reads or writes: `shard` brings what the replicas hold and carries out what this
//! room decides. With one member, effective N is 1 and the only replica is the local one.

mod namespace;
mod outcome;
mod quorum;
mod read;
mod write;

pub use namespace::BadDurability;
pub use namespace::Durability;
pub use namespace::Interval;
pub use namespace::Namespace;
pub use namespace::Namespaces;
pub use outcome::RequestError;
pub use quorum::check_read;
pub use quorum::check_write;
pub use quorum::wants_synced;
pub use read::answer_from;
pub use write::Change;
pub use write::Reply;
pub use write::change_of;
pub use write::needs_present;
