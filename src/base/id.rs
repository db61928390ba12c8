//! Identifiers. Each is its own type, so that swapping two arguments is a compile error.

use std::fmt;

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident($raw:ty), $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name($raw);

        impl $name {
            /// Wraps a raw number.
            pub const fn new(raw: $raw) -> Self {
                Self(raw)
            }

            /// The raw number, for formats and for indexing.
            pub const fn to_raw(self) -> $raw {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{}"), self.0)
            }
        }
    };
}

identifier! {
    /// One core's share of a node, numbered from 0 on that node.
    ShardId(u16), "s"
}
identifier! {
    /// One fixed slice of the hash ring, 0 to Q − 1.
    PartitionId(u16), "p"
}
identifier! {
    /// A key's slot, 0 to 16383: Redis Cluster's word and number.
    Slot(u16), "slot"
}
identifier! {
    /// The writer of a shard: 64 random bits, fresh at every start of the shard, never reused.
    ActorId(u64), "a"
}
identifier! {
    /// A client connection of one shard. Drivers reuse no number while the shard runs.
    ConnectionId(u64), "c"
}
identifier! {
    /// One side's name of a connection to a shard of another node. Drivers reuse no number while
    /// the shard runs.
    LinkId(u64), "l"
}
identifier! {
    /// Names one disk operation in flight. Not a request: several requests may wait for one ticket.
    Ticket(u64), "t"
}
identifier! {
    /// One log on a node's disk. Logs outlive shards: each start with other cores makes new ones.
    LogId(u32), "log"
}

/// One file of a log.
///
/// Numbers grow and are never reused within a log.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SegmentId {
    /// The log that wrote it.
    pub log: LogId,
    /// Its place in that log, from 1.
    pub number: u32,
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.log, self.number)
    }
}
