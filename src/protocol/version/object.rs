//! What is stored under a key: a clock and the versions that did not see each other.
//!
//! An object is a value of a join-semilattice: however often and in whatever order copies are
//! joined, they end equal. Everything that travels (replica puts, hints, repairs, transfers) is a
//! whole object, so that nothing depends on which message came first.
//!
//! # Last writer wins
//!
//! Under [`Conflict::Lww`], after the causal join only the sibling with the greatest
//! (hybrid time, dot) stays; the losers are covered like superseded ones. The order of joins does
//! not matter, because a version's hybrid time is above that of all that it supersedes: whoever
//! wins, wins against the whole history. For the same reason `Lww` wins over `Siblings` in a join.
//!
//! # Invariants
//!
//! - Siblings are sorted by dot, each dot once, each under its life's entry in the clock.
//! - Values are borrowed from the bytes that were decoded or that a client sent. (The compiler
//!   wants those bytes declared before the object: a small vector's lifetime cannot shrink.)

use smallvec::SmallVec;

use super::clock::Clock;
use super::context::Context;
use super::dot::Dot;
use super::dot::DotSource;
use super::dot::Life;
use super::hybrid::HybridTime;
use crate::base::time::Wall;

/// What a version says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content<'a> {
    /// The key has this value.
    Value(&'a [u8]),
    /// The key was deleted.
    Tombstone,
}

/// One version that no other version of its object supersedes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sibling<'a> {
    /// The write that made it.
    pub dot: Dot,
    /// When, for people: see [`HybridTime`].
    pub hybrid: HybridTime,
    /// From when on it counts as a tombstone. `None` in a tombstone.
    pub expiry: Option<Wall>,
    /// What it says.
    pub content: Content<'a>,
}

impl<'a> Sibling<'a> {
    /// Its value, unless it is a tombstone or its expiry is before `wall`.
    ///
    /// In the millisecond of the expiry it is still there, as in Redis.
    pub fn value(&self, wall: Wall) -> Option<&'a [u8]> {
        match self.content {
            Content::Value(value) if self.expiry.is_none_or(|expiry| wall <= expiry) => Some(value),
            Content::Value(_) | Content::Tombstone => None,
        }
    }

    /// Later ranks higher; dots decide between equal times, so that all nodes agree.
    fn rank(&self) -> (HybridTime, Dot) {
        (self.hybrid, self.dot)
    }
}

/// What becomes of versions that did not see each other.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Conflict {
    /// All stay until a client supersedes them.
    #[default]
    Siblings,
    /// The last writer wins.
    Lww,
}

/// A clock and its siblings. Has no trace of the node that holds it: copies that know the same
/// are equal and have equal bytes.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Object<'a> {
    pub(super) clock: Clock,
    pub(super) siblings: SmallVec<[Sibling<'a>; 1]>,
    pub(super) conflict: Conflict,
}

impl<'a> Object<'a> {
    /// An object that has seen nothing.
    pub fn new(conflict: Conflict) -> Self {
        Self { conflict, ..Self::default() }
    }

    /// What it has seen.
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// All versions, tombstones included, in order of their dots.
    pub fn siblings(&self) -> &[Sibling<'a>] {
        &self.siblings
    }

    /// How many versions, tombstones included: what the sibling limits count.
    pub fn sibling_count(&self) -> usize {
        self.siblings.len()
    }

    /// What becomes of concurrent versions.
    pub fn conflict(&self) -> Conflict {
        self.conflict
    }

    /// The values of a get: neither deleted nor expired at `wall`, in order of their dots.
    pub fn values(&self, wall: Wall) -> impl Iterator<Item = &'a [u8]> {
        self.siblings.iter().filter_map(move |sibling| sibling.value(wall))
    }

    /// The version with the latest (hybrid time, dot): what a plain GET shows, be it a tombstone.
    pub fn latest(&self) -> Option<&Sibling<'a>> {
        self.siblings.iter().max_by_key(|sibling| sibling.rank())
    }

    /// The latest hybrid time in it, for [`HybridClock::observe`]; zero if it has no version.
    ///
    /// [`HybridClock::observe`]: super::HybridClock::observe
    pub fn hybrid(&self) -> HybridTime {
        self.siblings.iter().map(|sibling| sibling.hybrid).max().unwrap_or_default()
    }

    /// The context of a get that is answered from this object: a put with it supersedes exactly
    /// what is here.
    pub fn context(&self) -> Context {
        Context { seen: self.clock.clone(), hybrid: self.hybrid() }
    }

    /// Becomes the least object that has seen what both have seen, and tells whether it changed.
    ///
    /// A version stays if the other side has it too or has never seen it: one that the other has
    /// seen and no longer has was superseded there.
    pub fn join(&mut self, other: &Self) -> bool {
        let siblings_before = self.siblings.len();
        self.siblings.retain(|own| !other.clock.covers(own.dot) || other.has(own.dot));
        let mut changed = self.siblings.len() != siblings_before;
        for theirs in &other.siblings {
            if !self.clock.covers(theirs.dot) {
                self.siblings.push(*theirs);
            }
        }
        self.siblings.sort_unstable_by_key(|sibling| sibling.dot);
        changed |= self.clock.join(&other.clock);
        changed |= self.conflict < other.conflict;
        self.conflict = self.conflict.max(other.conflict);
        self.settle();
        changed
    }

    /// Leaves one sibling if the last writer wins.
    pub(super) fn settle(&mut self) {
        if self.conflict == Conflict::Lww && self.siblings.len() > 1 {
            let winner = *self.latest().expect("there are two at least");
            self.siblings.clear();
            self.siblings.push(winner);
        }
    }

    pub(super) fn insert(&mut self, sibling: Sibling<'a>) {
        let at = self.siblings.partition_point(|known| known.dot < sibling.dot);
        self.siblings.insert(at, sibling);
    }

    fn has(&self, dot: Dot) -> bool {
        self.siblings.binary_search_by_key(&dot, |sibling| sibling.dot).is_ok()
    }
}

/// An object as one shard holds it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record<'a> {
    /// The life under which this shard writes the key. Stored, never shipped.
    pub(super) own: Life,
    pub(super) object: Object<'a>,
}

impl<'a> Record<'a> {
    /// The record of a key that this shard has not, before its first put or join.
    pub fn new(dots: &DotSource, conflict: Conflict) -> Self {
        Self { own: dots.life(), object: Object::new(conflict) }
    }

    /// The object: what is shipped, digested and answered.
    pub fn object(&self) -> &Object<'a> {
        &self.object
    }

    /// The life under which this shard writes the key.
    pub fn own(&self) -> Life {
        self.own
    }

    /// Takes in an object from elsewhere ([`Object::join`]), and tells whether that changed it.
    pub fn join(&mut self, object: &Object<'a>) -> bool {
        self.object.join(object)
    }
}
