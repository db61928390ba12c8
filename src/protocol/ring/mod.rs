//! Partitioning and replication (Dynamo, sections 4.2, 4.3 and 6.2): which slice of the ring a key
//! belongs to, and who holds it.
//!
//! The ring has Q equal partitions, fixed at creation: the paper's strategy 3. A key's partition
//! comes from its slot, which is Redis Cluster's, so that stock cluster clients know it too. Each
//! partition has N places; a [`Table`] says who should hold them, and [`Preferences`] who is asked
//! in what order.

mod member;
mod placement;
mod preference;
mod slot;
mod spread;
mod table;

pub use member::BadMembers;
pub use member::MEMBERS_MAX;
pub use member::Member;
pub use member::Members;
pub use preference::Preferences;
pub use preference::Preferred;
pub use slot::Partitions;
pub use slot::slot_of;
pub use table::PLACES_MAX;
pub use table::Table;
