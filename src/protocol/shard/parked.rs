//! Requests that wait: for a record to be read, or for one to be synced.
//!
//! # Order
//!
//! Requests of one key are carried out in the order in which they came, also when the first must
//! wait for a read: what comes behind it waits with it. A request that waits for a sync is carried
//! out already; only its reply waits.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use crate::base::id::ShardId;
use crate::base::id::Ticket;
use crate::base::time::Instant;
use crate::protocol::session::RequestId;
use crate::protocol::wire::Protocol;

/// Who wants an answer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    /// A client of this core.
    Here(RequestId),
    /// A client of another core.
    There(ShardId, RequestId),
}

/// A request that has not begun: it needs a record that is being read.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) origin: Origin,
    pub(super) protocol: Protocol,
    /// By `key_codec`.
    pub(super) command: Box<[u8]>,
    pub(super) hash: u64,
    pub(super) deadline: Instant,
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

/// A reply, ready to be sent.
#[derive(Debug)]
pub(super) enum HeldReply {
    /// The most common ones.
    Fixed(&'static [u8]),
    /// Any other.
    Owned(Box<[u8]>),
}

impl HeldReply {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Self::Fixed(bytes) => bytes,
            Self::Owned(bytes) => bytes,
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

/// All requests that wait.
#[derive(Debug, Default)]
pub(super) struct Parked {
    by_ticket: BTreeMap<Ticket, Queue>,
    /// For each hash that a read is awaited for: the ticket at which requests of it queue.
    by_hash: ahash::HashMap<u64, Ticket>,
    /// In order of sequences.
    held: VecDeque<Held>,
    bytes: usize,
}

impl Parked {
    /// Bytes that waiting requests hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many requests wait.
    pub(super) fn len(&self) -> usize {
        self.by_ticket.values().map(|queue| queue.waiting.len()).sum::<usize>() + self.held.len()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.by_ticket.is_empty() && self.held.is_empty()
    }

    /// The read behind which a request of this key must queue.
    pub(super) fn queue_of(&self, hash: u64) -> Option<Ticket> {
        if self.by_hash.is_empty() { None } else { self.by_hash.get(&hash).copied() }
    }

    /// Waits for a read.
    pub(super) fn wait(&mut self, ticket: Ticket, waiting: Waiting) {
        self.bytes += waiting.command.len();
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
        self.bytes -= queue.waiting.iter().map(|one| one.command.len()).sum::<usize>();
        queue.waiting
    }

    /// Holds a reply until `sequence` is synced.
    pub(super) fn hold(
        &mut self,
        sequence: u64,
        origin: Origin,
        reply: HeldReply,
        write: bool,
        deadline: Instant,
    ) {
        // A read may wait for an older record than a write before it: it waits a little longer.
        let sequence = sequence.max(self.held.back().map_or(0, |last| last.sequence));
        if let HeldReply::Owned(bytes) = &reply {
            self.bytes += bytes.len();
        }
        self.held.push_back(Held { sequence, origin, reply, deadline, write });
    }

    /// The next reply whose sequence is synced.
    pub(super) fn next_synced(&mut self, upto: u64) -> Option<Held> {
        if self.held.front()?.sequence > upto {
            return None;
        }
        self.pop_held()
    }

    /// The oldest reply that is held, whatever it waits for.
    pub(super) fn pop_held(&mut self) -> Option<Held> {
        let held = self.held.pop_front()?;
        if let HeldReply::Owned(bytes) = &held.reply {
            self.bytes -= bytes.len();
        }
        Some(held)
    }

    /// The next reply that was held too long.
    pub(super) fn next_late_held(&mut self, now: Instant) -> Option<Held> {
        if self.held.front()?.deadline > now {
            return None;
        }
        self.pop_held()
    }

    /// Requests that waited too long for a read. What they wait for may still come, for others.
    pub(super) fn late_waiting(&mut self, now: Instant) -> Vec<Waiting> {
        let mut late = Vec::new();
        for queue in self.by_ticket.values_mut() {
            let waiting = std::mem::take(&mut queue.waiting);
            let (gone, stays) = waiting.into_iter().partition(|one| one.deadline <= now);
            queue.waiting = stays;
            let gone: Vec<Waiting> = gone;
            late.extend(gone);
        }
        self.bytes -= late.iter().map(|one| one.command.len()).sum::<usize>();
        late
    }
}
