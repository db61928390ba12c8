//! The walks that are under way on this core: each waits for a record, or for its turn.
//!
//! A turn looks at [`PER_TURN`] entries for all of them together, however many there are: whoever
//! only wants one key is served between. They go on one after the other, a few entries each, and a
//! new one stands behind all: a short walk does not wait for the whole of a long one.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use crate::base::id::Ticket;
use crate::base::time::Instant;
use crate::protocol::shard::parked::Origin;
use crate::protocol::shard::walk::Walk;

/// Entries that one turn looks at: it stays short.
pub(super) const PER_TURN: usize = 512;

/// Entries that a walk looks at before the next one goes on.
const PER_WALK: usize = 64;

/// A walk, and who asked for it.
type Asked = (Origin, Walk);

/// All walks of a core that wait.
#[derive(Debug)]
pub(super) struct Walks {
    /// For a record.
    reading: BTreeMap<Ticket, Vec<Asked>>,
    /// For their turn, the next one first.
    paused: VecDeque<Asked>,
    /// What they take of memory.
    bytes: usize,
    /// Entries that may still be looked at in this turn.
    entries_left: usize,
}

impl Default for Walks {
    fn default() -> Self {
        Self { reading: BTreeMap::new(), paused: VecDeque::new(), bytes: 0, entries_left: PER_TURN }
    }
}

impl Walks {
    /// Bytes that they hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether some wait for a record.
    pub(super) fn are_reading(&self) -> bool {
        !self.reading.is_empty()
    }

    /// Whether some wait for their turn.
    pub(super) fn are_paused(&self) -> bool {
        !self.paused.is_empty()
    }

    /// At how many entries a walk that comes now may look: none, if others wait for their turn.
    pub(super) fn entries_now(&self) -> usize {
        if self.paused.is_empty() { self.entries_left } else { 0 }
    }

    /// An entry is looked at.
    pub(super) fn spend(&mut self) {
        self.entries_left = self.entries_left.saturating_sub(1);
    }

    /// The turn is over.
    pub(super) fn end_turn(&mut self) {
        self.entries_left = PER_TURN;
    }

    /// Waits for a record.
    pub(super) fn read(&mut self, ticket: Ticket, origin: Origin, walk: Walk) {
        self.bytes += walk.bytes();
        self.reading.entry(ticket).or_default().push((origin, walk));
    }

    /// The record came, or cannot: who waited for it.
    pub(super) fn fetched(&mut self, ticket: Ticket) -> Vec<Asked> {
        let walks = self.reading.remove(&ticket).unwrap_or_default();
        self.discount(&walks);
        walks
    }

    /// Waits for its turn, behind all others that do.
    pub(super) fn pause(&mut self, origin: Origin, walk: Walk) {
        self.bytes += walk.bytes();
        self.paused.push_back((origin, walk));
    }

    /// The walk whose turn it is, and at how many entries it may look. `None` too if this turn has
    /// looked at enough.
    pub(super) fn next_paused(&mut self) -> Option<(Origin, Walk, usize)> {
        if self.entries_left == 0 {
            return None;
        }
        let (origin, walk) = self.paused.pop_front()?;
        self.bytes -= walk.bytes();
        Some((origin, walk, self.entries_left.min(PER_WALK)))
    }

    /// Takes out those that cannot end in time. What they wait for may still come, for others.
    pub(super) fn take_late(&mut self, now: Instant) -> Vec<Asked> {
        let reading = self.reading.values_mut();
        let mut late: Vec<Asked> =
            reading.flat_map(|walks| walks.extract_if(.., |(_, walk)| walk.is_late(now))).collect();
        if self.paused.iter().any(|(_, walk)| walk.is_late(now)) {
            let all = std::mem::take(&mut self.paused);
            let (paused, stays): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|one| one.1.is_late(now));
            self.paused = stays.into();
            late.extend(paused);
        }
        self.discount(&late);
        late
    }

    /// Takes out all of them.
    pub(super) fn take_all(&mut self) -> Vec<Asked> {
        self.bytes = 0;
        let reading = std::mem::take(&mut self.reading).into_values().flatten();
        reading.chain(std::mem::take(&mut self.paused)).collect()
    }

    fn discount(&mut self, walks: &[Asked]) {
        self.bytes -= walks.iter().map(|(_, walk)| walk.bytes()).sum::<usize>();
    }
}
