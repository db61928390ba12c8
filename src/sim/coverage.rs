//! What happened at least once: a simulator that never tears a write proves nothing about tearing.

use std::fmt;

macro_rules! sometimes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Something that must happen in some of the seeds of a test run.
        #[derive(Clone, Copy, Debug, Eq, PartialEq)]
        pub enum Sometimes {
            $($(#[$doc])* $name,)*
        }

        impl Sometimes {
            /// Everything that there is to happen.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Whether a store alone knows nothing of it.
            pub fn is_of_node(self) -> bool {
                self as usize >= Self::CrossedCores as usize
            }

            /// Whether it is of a network between nodes.
            pub fn is_of_network(self) -> bool {
                self as usize >= Self::Retransmitted as usize && !self.is_of_cluster()
            }

            /// Whether only clients of several nodes can meet it.
            pub fn is_of_cluster(self) -> bool {
                self as usize >= Self::StoodStill as usize
            }
        }
    };
}

sometimes! {
    /// The power went.
    Crash,
    /// The process was killed, and the kernel finished what was in flight.
    Kill,
    /// A crash kept a part of an append.
    AppendTorn,
    /// Records that were applied and not synced were gone after a crash.
    TailLost,
    /// Records that were applied and not synced survived a crash.
    TailKept,
    /// A crash came while recovery was running.
    CrashInRecovery,
    /// A crash came while compaction had files half made.
    CompactionInterrupted,
    /// An append failed.
    AppendFailed,
    /// A read failed.
    ReadFailed,
    /// An operation in the background failed.
    BulkFailed,
    /// There was no room.
    NoSpace,
    /// A store said that it was read-only.
    BecameReadOnly,
    /// A store took writes again without a restart.
    Healed,
    /// A store gave up its log.
    Poisoned,
    /// A store could not read what is on its disk.
    StartFailed,
    /// A store was stopped in order.
    CleanStop,
    /// The log was read at a start, record by record.
    ScannedSegment,
    /// An index file was read at a start.
    LoadedIndex,
    /// An index file was harmed.
    IndexDamaged,
    /// A segment was harmed.
    SegmentDamaged,
    /// A record was answered as damaged.
    FoundDamaged,
    /// A partition was suspect.
    FoundSuspect,
    /// A damaged or suspect key was written again and answered right.
    Rewritten,
    /// A segment was removed or recycled: compaction ended.
    SegmentRetired,
    /// A retired segment became a new one.
    SegmentRecycled,
    /// Two keys of a partition had the same hash.
    Collision,
    /// A read was served without waiting.
    ReadHere,
    /// A read had to ask the disk.
    ReadAway,
    /// A record moved while it was being read.
    MovedWhileRead,
    /// A tombstone was forgotten.
    Reaped,
    /// A log had no room for a write, which waited.
    NoRoom,
    /// Room came, and what waited was written.
    RoomCame,
    /// A log was adopted by one with another number.
    Adopted,
    /// Two recoveries of the same bytes, with and without index files, were compared.
    IndexCompared,
    // From here on only in a node of shards.
    /// A message went from core to core.
    CrossedCores,
    /// A shard wanted no more of a client for now.
    StoppedReading,
    /// A client went away.
    Disconnected,
    /// A client said that it will send no more.
    HalfClosed,
    /// The wall clock jumped.
    WallJumped,
    /// The disk answered nothing for longer than clients wait.
    DiskStalled,
    /// A request was answered `-TIMEOUT`.
    TimedOut,
    /// A write was answered `-UNKNOWN`.
    OutcomeUnknown,
    /// A request was refused because too many waited, or it would have waited too long.
    Busy,
    /// A write was refused for want of memory for clients.
    OutOfMemory,
    /// An object would have been too long.
    TooBig,
    /// A write would have been one sibling too many.
    TooManySiblings,
    /// A walk over the keys came to its end.
    Walked,
    /// What a walk had to say of a key was certain.
    WalkWasExact,
    /// A walk or a count told of a key to which something was being done.
    WalkMetWrite,
    /// Of several keys of one request some were written and another was refused.
    PartlyStored,
    // From here on only in a network.
    /// A piece was lost on its way and sent again.
    Retransmitted,
    /// A connection broke for no reason.
    ConnectionReset,
    /// Nobody listened where a connection was asked for.
    ConnectRefused,
    /// Nobody answered where a connection was asked for.
    ConnectTimedOut,
    /// What was sent was not acknowledged for so long that the sender gave its connection up.
    GaveUp,
    /// As much was under way as may be.
    WindowFull,
    /// Something could not pass a netsplit.
    MetNetsplit,
    /// Something could not pass where the other direction was open.
    MetOneWayNetsplit,
    /// Something was held up by a clog.
    MetClog,
    // From here on only in a cluster.
    /// A node stood still.
    StoodStill,
    /// A request was refused because nobody who holds its key was known to be alive.
    NoQuorum,
}

/// How often each of them happened.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Coverage {
    counts: Vec<u64>,
}

impl Coverage {
    /// It happened.
    pub fn note(&mut self, what: Sometimes) {
        self.add(what, 1);
    }

    /// How often it happened.
    pub fn count(&self, what: Sometimes) -> u64 {
        self.counts.get(what as usize).copied().unwrap_or(0)
    }

    /// Adds what happened elsewhere.
    pub fn join(&mut self, other: &Self) {
        for what in Sometimes::ALL {
            self.add(*what, other.count(*what));
        }
    }

    /// What never happened, of what there is without a network.
    pub fn missing(&self) -> Vec<Sometimes> {
        let alone = |what: &Sometimes| !what.is_of_network() && !what.is_of_cluster();
        self.never().filter(alone).collect()
    }

    /// What a network never did.
    pub fn missing_of_network(&self) -> Vec<Sometimes> {
        self.never().filter(|what| what.is_of_network()).collect()
    }

    /// What clients of a cluster never met.
    pub fn missing_of_cluster(&self) -> Vec<Sometimes> {
        self.never().filter(|what| what.is_of_network() || what.is_of_cluster()).collect()
    }

    fn never(&self) -> impl Iterator<Item = Sometimes> + '_ {
        Sometimes::ALL.iter().copied().filter(|what| self.count(*what) == 0)
    }

    fn add(&mut self, what: Sometimes, count: u64) {
        if self.counts.is_empty() {
            self.counts = vec![0; Sometimes::ALL.len()];
        }
        self.counts[what as usize] += count;
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for what in Sometimes::ALL {
            writeln!(f, "{:>10}  {what:?}", self.count(*what))?;
        }
        Ok(())
    }
}
