//! Requests that wait: for a record to be read, for room in the log, or for a record to be synced.
//!
//! # Order
//!
//! Requests of one key are carried out in the order in which they came, also when the first must
//! wait for a read: what comes behind it waits with it. While a write waits for room, all writes
//! behind it do, so that none overtakes it because it is smaller; and so do reads of its key, and no
//! others. A request waits for a read or for room, and those of its key wait where it does. A
//! request that waits for a sync is carried out already; only its reply waits.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use crate::base::id::LinkId;
use crate::base::id::ShardId;
use crate::base::id::Ticket;
use crate::base::time::Instant;
use crate::protocol::session::RequestId;
use crate::protocol::shard::walk::Walk;
use crate::protocol::wire::Protocol;

/// Who wants an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// A client of this core.
    Here(RequestId),
    /// A client of another core.
    There(ShardId, RequestId),
    /// Another node that is connected to this core: its request's number.
    Peer(LinkId, u64),
    /// Another node that is connected to that core.
    PeerThere(ShardId, LinkId, u64),
    /// The core that adds up a count, itself or another: this core's part of it.
    Count(ShardId, RequestId),
}

/// Who asked, and until when the answer is awaited.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) origin: Origin,
    pub(super) protocol: Protocol,
    pub(super) deadline: Instant,
}

/// A request that has not begun: it needs a record that is being read, or room in the log.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) asked: Asked,
    /// By `wire::key_command`.
    pub(super) command: Box<[u8]>,
    pub(super) hash: u64,
}

impl Waiting {
    /// What it takes of memory.
    fn bytes(&self) -> usize {
        size_of::<Self>() + self.command.len()
    }
}

/// A reply that must wait for a sync.
#[derive(Debug)]
pub(super) struct Held {
    sequence: u64,
    pub(super) origin: Origin,
    pub(super) reply: HeldReply,
    deadline: Instant,
    /// Whether it would tell of a write: then its failure is of unknown outcome.
    pub(super) write: bool,
}

/// A reply, ready to be sent, or what else may leave this core only after a sync.
#[derive(Debug)]
pub(super) enum HeldReply {
    /// The most common ones.
    Fixed(&'static [u8]),
    /// Any other.
    Owned(Box<[u8]>),
    /// None yet: a walk that another core goes on with.
    Walk(Box<Walk>),
}

impl HeldReply {
    /// What it takes of memory beside its place.
    fn held_bytes(&self) -> usize {
        match self {
            Self::Fixed(_) => 0,
            Self::Owned(bytes) => bytes.len(),
            Self::Walk(walk) => walk.bytes(),
        }
    }
}

/// Those that wait for one read: of one key, or of keys of one hash.
#[derive(Debug)]
struct Queue {
    hash: u64,
    /// None, if all of them waited too long.
    waiting: Vec<Waiting>,
}

/// Those that wait for room in the log.
#[derive(Debug, Default)]
struct Roomless {
    /// In the order in which they came.
    waiting: VecDeque<Waiting>,
    /// How many of them are of each hash.
    hashes: ahash::HashMap<u64, usize>,
    bytes: usize,
    /// None of them is late before this.
    none_late_before: Instant,
}

impl Roomless {
    fn count(&mut self, waiting: &Waiting) {
        let deadline = waiting.asked.deadline;
        let first = self.waiting.is_empty();
        let earliest = if first { deadline } else { self.none_late_before.min(deadline) };
        self.none_late_before = earliest;
        self.bytes += waiting.bytes();
        *self.hashes.entry(waiting.hash).or_default() += 1;
    }

    fn discount(&mut self, waiting: &Waiting) {
        self.bytes -= waiting.bytes();
        let left = self.hashes.get_mut(&waiting.hash).expect("it was counted");
        *left -= 1;
        if *left == 0 {
            self.hashes.remove(&waiting.hash);
        }
    }

    /// Takes those of them that `wanted` names, in order.
    fn take(&mut self, wanted: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let all = std::mem::take(&mut self.waiting);
        let (taken, stays): (Vec<_>, Vec<_>) = all.into_iter().partition(wanted);
        self.waiting = stays.into();
        taken.iter().for_each(|waiting| self.discount(waiting));
        taken
    }
}

/// Replies that wait for a sync.
#[derive(Debug, Default)]
struct Unsynced {
    /// In order of sequences. Deadlines have no order: who waited for a record or for room before
    /// stands behind younger ones.
    held: VecDeque<Held>,
    bytes: usize,
    /// None of them is late before this.
    none_late_before: Instant,
}

impl Unsynced {
    fn push(&mut self, held: Held) {
        let deadline = held.deadline;
        let first = self.held.is_empty();
        let earliest = if first { deadline } else { self.none_late_before.min(deadline) };
        self.none_late_before = earliest;
        self.bytes += held.reply.held_bytes();
        self.held.push_back(held);
    }

    fn pop(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        self.bytes -= held.reply.held_bytes();
        Some(held)
    }

    fn take_late(&mut self, now: Instant) -> Vec<Held> {
        if self.held.is_empty() || self.none_late_before > now {
            return Vec::new();
        }
        let all = std::mem::take(&mut self.held);
        let (late, stays): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.deadline <= now);
        self.held = stays.into();
        self.bytes -= late.iter().map(|one| one.reply.held_bytes()).sum::<usize>();
        self.none_late_before = self.held.iter().map(|one| one.deadline).min().unwrap_or(now);
        late
    }
}

/// All requests that wait.
#[derive(Debug, Default)]
pub(super) struct Parked {
    by_ticket: BTreeMap<Ticket, Queue>,
    /// For each hash that a read is awaited for: the ticket at which requests of it queue.
    by_hash: ahash::HashMap<u64, Ticket>,
    roomless: Roomless,
    unsynced: Unsynced,
    /// Of those who wait for a read.
    bytes: usize,
}

impl Parked {
    /// Bytes that waiting requests hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.roomless.bytes + self.unsynced.bytes
    }

    /// Those of them that wait for room.
    pub(super) fn roomless_bytes(&self) -> usize {
        self.roomless.bytes
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        let reading = self.by_ticket.values().map(|queue| queue.waiting.len()).sum::<usize>();
        reading + self.roomless.waiting.len() + self.unsynced.held.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        let roomless = self.roomless.waiting.is_empty();
        self.by_ticket.is_empty() && roomless && self.unsynced.held.is_empty()
    }

    /// Whether a request must queue behind those that wait for room.
    pub(super) fn must_await_room(&self, hash: u64, write: bool) -> bool {
        !self.roomless.waiting.is_empty() && (write || self.roomless.hashes.contains_key(&hash))
    }

    /// Waits for room, behind all others that do.
    pub(super) fn await_room(&mut self, waiting: Waiting) {
        self.roomless.count(&waiting);
        self.roomless.waiting.push_back(waiting);
    }

    /// The first that waits for room.
    pub(super) fn next_roomless(&mut self) -> Option<Waiting> {
        let waiting = self.roomless.waiting.pop_front()?;
        self.roomless.discount(&waiting);
        Some(waiting)
    }

    /// There was no room for it yet: it is the first again.
    pub(super) fn return_roomless(&mut self, waiting: Waiting) {
        self.roomless.count(&waiting);
        self.roomless.waiting.push_front(waiting);
    }

    /// Requests that waited too long for room.
    pub(super) fn late_roomless(&mut self, now: Instant) -> Vec<Waiting> {
        let roomless = &mut self.roomless;
        if roomless.waiting.is_empty() || roomless.none_late_before > now {
            return Vec::new();
        }
        let late = roomless.take(|one| one.asked.deadline <= now);
        let deadlines = roomless.waiting.iter().map(|one| one.asked.deadline);
        roomless.none_late_before = deadlines.min().unwrap_or(now);
        late
    }

    /// A request that waited for room must read first: those of its key that are behind it follow.
    pub(super) fn follow(&mut self, hash: u64, ticket: Ticket) {
        if !self.roomless.hashes.contains_key(&hash) {
            return;
        }
        for waiting in self.roomless.take(|one| one.hash == hash) {
            self.wait(ticket, waiting);
        }
    }

    /// The read behind which a request of this key must queue.
    pub(super) fn queue_of(&self, hash: u64) -> Option<Ticket> {
        if self.by_hash.is_empty() { None } else { self.by_hash.get(&hash).copied() }
    }

    /// Waits for a read.
    pub(super) fn wait(&mut self, ticket: Ticket, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.by_hash.insert(waiting.hash, ticket);
        let empty = Queue { hash: waiting.hash, waiting: Vec::new() };
        self.by_ticket.entry(ticket).or_insert(empty).waiting.push(waiting);
    }

    /// The read came: who waited for it, in order.
    pub(super) fn fetched(&mut self, ticket: Ticket) -> Vec<Waiting> {
        let Some(queue) = self.by_ticket.remove(&ticket) else { return Vec::new() };
        // Also if nobody waits any more: the next request must not queue behind a read that is over.
        if self.by_hash.get(&queue.hash) == Some(&ticket) {
            self.by_hash.remove(&queue.hash);
        }
        self.bytes -= queue.waiting.iter().map(Waiting::bytes).sum::<usize>();
        queue.waiting
    }

    /// Holds a reply until `sequence` is synced.
    pub(super) fn hold(&mut self, sequence: u64, asked: Asked, reply: HeldReply, write: bool) {
        // A read may wait for an older record than a write before it: it waits a little longer.
        let last = self.unsynced.held.back();
        let sequence = sequence.max(last.map_or(0, |last| last.sequence));
        let Asked { origin, deadline, .. } = asked;
        self.unsynced.push(Held { sequence, origin, reply, deadline, write });
    }

    /// The next reply whose sequence is synced.
    pub(super) fn next_synced(&mut self, upto: u64) -> Option<Held> {
        if self.unsynced.held.front()?.sequence > upto {
            return None;
        }
        self.unsynced.pop()
    }

    /// The oldest reply that is held, whatever it waits for.
    pub(super) fn pop_held(&mut self) -> Option<Held> {
        self.unsynced.pop()
    }

    /// Replies that were held too long.
    pub(super) fn late_held(&mut self, now: Instant) -> Vec<Held> {
        self.unsynced.take_late(now)
    }

    /// Requests that waited too long for a read. What they wait for may still come, for others.
    pub(super) fn late_waiting(&mut self, now: Instant) -> Vec<Waiting> {
        self.take_waiting(|one| one.asked.deadline <= now)
    }

    /// All requests that wait for a read.
    pub(super) fn all_waiting(&mut self) -> Vec<Waiting> {
        self.take_waiting(|_| true)
    }

    fn take_waiting(&mut self, is_taken: impl Fn(&Waiting) -> bool) -> Vec<Waiting> {
        let mut all = Vec::new();
        for queue in self.by_ticket.values_mut() {
            let waiting = std::mem::take(&mut queue.waiting);
            let (taken, stays): (Vec<_>, Vec<_>) = waiting.into_iter().partition(&is_taken);
            queue.waiting = stays;
            all.extend(taken);
        }
        self.bytes -= all.iter().map(Waiting::bytes).sum::<usize>();
        all
    }
}
