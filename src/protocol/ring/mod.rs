//! Partitioning (Dynamo, sections 4.2 and 6.2): which slice of the ring a key belongs to.
//!
//! The ring has Q equal partitions, fixed at creation: the paper's strategy 3. A key's partition
//! comes from its slot, which is Redis Cluster's, so that stock cluster clients know it too.

mod slot;

pub use slot::Partitions;
pub use slot::slot_of;
