//! A write, coordinated by the shard that holds the record (Dynamo, sections 4.4 and 4.5).
//!
//! # Why the answer is not the coordinator's clock
//!
//! A client that puts again with what a put returned supersedes all that the returned context
//! covers. If it covered siblings that the client never saw, they would be lost without anybody
//! having read them. So a put returns what the client gave plus its own dot. Only when the new
//! version is alone, and so has superseded all that is here, is the whole clock the same thing.
//!
//! # Why the own dot is a run
//!
//! Within its life the shard knows the dot before: `(previous, counter]` holds one dot of this
//! key. See [`super::clock`].

use super::clock::Clock;
use super::clock::Run;
use super::context::Context;
use super::dot::DotSource;
use super::hybrid::HybridClock;
use super::hybrid::HybridTime;
use super::object::Conflict;
use super::object::Content;
use super::object::Record;
use super::object::Sibling;
use crate::base::time::Wall;

/// What a write supersedes.
#[derive(Clone, Copy, Debug)]
pub enum Cause<'c> {
    /// Exactly what the client saw. The empty context supersedes nothing.
    Context(&'c Context),
    /// Nothing: it becomes a sibling of whatever is there.
    Blind,
    /// What the coordinator has: plain `SET`, `DEL`, `EXPIRE` and the like.
    Seen,
}

/// One write.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a, 'c> {
    /// What it says.
    pub content: Content<'a>,
    /// From when on a value counts as a tombstone. Ignored in a tombstone.
    pub expiry: Option<Wall>,
    /// What it supersedes.
    pub cause: Cause<'c>,
}

impl<'a> Record<'a> {
    /// Writes, and returns the context for the client: to be handed out only once the write is
    /// acknowledged.
    ///
    /// The version's hybrid time comes from `clock` at `wall` and is above all that the write
    /// supersedes; where the last writer wins, above all that is here, so that the write stands.
    pub fn put(
        &mut self,
        write: Write<'a, '_>,
        dots: &mut DotSource,
        clock: &mut HybridClock,
        wall: Wall,
    ) -> Context {
        if self.own.actor != dots.actor() {
            self.own = dots.life();
        }
        let previous = self.object.clock.highest(self.own);
        let dot = dots.issue(self.own, previous);
        let run = Run { life: self.own, after: previous, upto: dot.counter };

        let hybrid = clock.tick(wall, self.supersede(write.cause));
        let expiry = match write.content {
            Content::Value(_) => write.expiry,
            Content::Tombstone => None,
        };
        self.object.clock.insert(run);
        self.object.insert(Sibling { dot, hybrid, expiry, content: write.content });
        self.object.settle();

        Context { seen: self.seen_by_client(write.cause, run), hybrid }
    }

    /// Drops what the cause covers, takes over what it has seen, and returns the hybrid time that
    /// the new version must be above.
    fn supersede(&mut self, cause: Cause<'_>) -> HybridTime {
        let here = self.object.hybrid();
        let superseded = match cause {
            Cause::Seen => {
                self.object.siblings.clear();
                here
            }
            Cause::Context(context) => {
                self.object.siblings.retain(|sibling| !context.seen.covers(sibling.dot));
                self.object.clock.join(&context.seen);
                context.hybrid
            }
            Cause::Blind => HybridTime::default(),
        };
        match self.object.conflict {
            Conflict::Siblings => superseded,
            Conflict::Lww => superseded.max(here),
        }
    }

    fn seen_by_client(&self, cause: Cause<'_>, run: Run) -> Clock {
        if let [_] = self.object.siblings[..] {
            return self.object.clock.clone();
        }
        let mut seen = match cause {
            Cause::Context(context) => context.seen.clone(),
            Cause::Blind => Clock::default(),
            Cause::Seen => unreachable!("it leaves one sibling"),
        };
        seen.insert(run);
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ActorId;

    const WALL: Wall = Wall::from_millis(1_000_000);

    /// What nearly every put is: two lives, one version. Nothing leaves the stack.
    #[test]
    fn a_common_put_allocates_nothing() {
        let mut clock = HybridClock::default();
        let mut stored = Vec::new();
        for start in 1..=2 {
            let mut dots = DotSource::new(ActorId::new(start));
            let mut record = match &stored[..] {
                [] => Record::new(&dots, Conflict::Siblings),
                bytes => Record::decode(bytes).expect("it was encoded"),
            };
            let write = Write { content: Content::Value(b"v"), expiry: None, cause: Cause::Seen };
            let context = record.put(write, &mut dots, &mut clock, WALL);
            assert!(!record.object.clock.is_spilled());
            assert!(!record.object.siblings.spilled());
            assert!(!context.seen.is_spilled());

            let mut bytes = Vec::with_capacity(record.encoded_len());
            let capacity = bytes.capacity();
            record.encode_into(&mut bytes);
            assert_eq!(bytes.capacity(), capacity);
            drop(record);
            stored = bytes;
        }
        let record = Record::decode(&stored).expect("it was encoded");
        assert_eq!(record.object.clock.runs().len(), 2);
        assert!(!record.object.clock.is_spilled());
    }

    /// A client's chain beside a sibling that it never saw is one run, however long.
    #[test]
    fn a_chain_beside_an_unseen_sibling_is_one_run() {
        let mut clock = HybridClock::default();
        let mut dots = DotSource::new(ActorId::new(1));
        let mut record = Record::new(&dots, Conflict::Siblings);
        let mut put = |record: &mut Record<'static>, cause: Cause<'_>| {
            let write = Write { content: Content::Tombstone, expiry: None, cause };
            record.put(write, &mut dots, &mut clock, WALL)
        };
        put(&mut record, Cause::Blind);
        let mut context = Context::default();
        for _ in 0..100 {
            context = put(&mut record, Cause::Context(&context));
        }
        let run = Run { life: record.own(), after: 1, upto: 101 };
        assert_eq!(context.seen().runs(), [run]);
        assert_eq!(record.object().sibling_count(), 2);
    }
}
