//! One write event, and who may name one.
//!
//! A dot must never be issued twice: a second write under an old dot looks already seen, and
//! anti-entropy erases it. A node that forgets (a crash that takes the unsynced tail, a delivered
//! stand-in copy, a quarantined record) forgets which dots it issued, so the writer in a dot is
//! not the node and not even the shard: it is the [`Life`] of one key's record on one shard. Who
//! forgets the record loses the life with it, and the next one has another name.

use crate::base::id::ActorId;

/// The life of one key's record on one shard, from its coming into being until it is forgotten or
/// the shard starts anew.
///
/// Within a life the shard has seen every dot that it issued for the key. Therefore the highest
/// counter of a life stands for all lower ones, and nothing else may.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Life {
    /// The shard's writer: fresh at every start.
    pub actor: ActorId,
    /// The shard's counter when the record came into being.
    pub birth: u64,
}

/// One write event.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Dot {
    /// The life that issued it.
    pub life: Life,
    /// The shard's counter, from 1; it grows with every write of the shard, whatever the key.
    pub counter: u64,
}

/// Issues the dots of one shard, of all its keys, from its start to its end.
#[derive(Debug)]
pub struct DotSource {
    actor: ActorId,
    counter: u64,
}

impl DotSource {
    /// The source of a shard that has just started. `actor` is 64 fresh random bits, durable
    /// before the first dot is issued, and used for no other start: everything rests on it.
    pub const fn new(actor: ActorId) -> Self {
        Self { actor, counter: 0 }
    }

    /// The actor of this start.
    pub const fn actor(&self) -> ActorId {
        self.actor
    }

    /// How far the counter has come.
    pub const fn counter(&self) -> u64 {
        self.counter
    }

    /// The life of a record that comes into being at this moment.
    pub(super) fn life(&self) -> Life {
        Life { actor: self.actor, birth: self.counter }
    }

    /// The next dot of `life`, above `highest`.
    ///
    /// No counter of an own life is above the shard's, unless a peer made it up: then this one
    /// goes above it, for a dot that looks seen is worse than a gap, which costs nothing.
    pub(super) fn issue(&mut self, life: Life, highest: u64) -> Dot {
        assert!(life.actor == self.actor, "a life of another start issues no dots");
        self.counter = self.counter.max(highest).saturating_add(1);
        Dot { life, counter: self.counter }
    }
}
