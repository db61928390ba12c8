//! Walks over the keys of a node: `SCAN`, and how many keys a slot has.
//!
//! A walk goes in the order of (partition, hash), whatever is written meanwhile: a key that is there
//! from the first step to the last is met exactly once. The keydir keeps no keys, so each is read
//! from its record; a walk over records that are not in memory waits for each of them.
//!
//! A step ends early when its keys take [`STEP_BYTES_MAX`], or more than its core may hold: its cursor
//! says where the next goes on. One that cannot end in time tells the keys that it has, and where to go on; one that has not
//! looked at any fails. How many walks share a turn: see `walks`.
//!
//! # What is not synced yet
//!
//! A step that met a record which its namespace shows only when it is synced, be it a key or the
//! tombstone of one that is therefore not told, tells nothing before that: its answer is held, as
//! that of a get of the record would be. Each core answers for its own records: a walk does not go
//! on to the next core before that.
//!
//! # The cursor
//!
//! Partition in the upper 14 bits, then 49 bits of the hash at which to go on, plus one, so that it
//! is never 0, which means the end. Keys that share those bits are never parted.

use crate::base::id::PartitionId;
use crate::base::id::ShardId;
use crate::base::id::Slot;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::protocol::coordinator::RequestError;
use crate::protocol::ring::Partitions;
use crate::protocol::ring::slot_of;
use crate::protocol::session::Outcome;
use crate::protocol::shard::keeper::Keeper;
use crate::protocol::shard::mesh;
use crate::protocol::shard::parked::Asked;
use crate::protocol::shard::parked::HeldReply;
use crate::protocol::shard::parked::Origin;
use crate::protocol::version::Object;
use crate::protocol::version::Record;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::command::Scan;
use crate::protocol::wire::glob::Glob;
use crate::protocol::wire::reply;
use crate::storage::effect::Resident;
use crate::storage::location::Location;
use crate::storage::reading::Fetched;

const HASH_BITS: u32 = 49;

/// What a question to another core begins with when it is a walk handed on.
const QUESTION_WALK: u8 = 1;

/// Entries that one step looks at, at most, over several turns.
const STEP_MAX: u64 = 100_000;

/// What the keys of one step take of memory, about: a client may ask for many steps at once.
const STEP_BYTES_MAX: usize = 256 * 1024;

/// A walk, or one step of one.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    partition: PartitionId,
    hash: u64,
    seen: usize,
    /// Entries still to be looked at.
    left: u64,
    kind: Kind,
    keys: Vec<Vec<u8>>,
    /// What the keys take of memory.
    key_bytes: usize,
    count: i64,
    /// Only partitions of the core that was asked: it was asked through its own port.
    own_only: bool,
    /// The record that it waited for cannot be read: it goes on without that.
    unreadable: bool,
    deadline: Instant,
    /// It has looked at some entry.
    has_begun: bool,
    /// The last record of this core's log that must be synced before anything is told.
    told_after: u64,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Keys that match; of a type that exists.
    Scan { pattern: Option<Vec<u8>>, nothing: bool },
    /// How many keys this slot has.
    CountSlot(Slot),
}

impl Walk {
    /// One step of a scan. An error: its cursor is behind everything.
    pub(super) fn scan(
        scan: &Scan<'_>,
        deadline: Instant,
        partitions: Partitions,
        own_only: bool,
    ) -> Result<Self, ()> {
        let (partition, hash) = place_of(scan.cursor);
        if partition >= partitions.count() {
            return Err(());
        }
        let nothing = scan.kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(b"string"));
        let kind = Kind::Scan { pattern: scan.pattern.map(<[u8]>::to_vec), nothing };
        let walk = Self::new(PartitionId::new(partition), kind, deadline);
        Ok(Self { hash, left: scan.count.clamp(1, STEP_MAX), own_only, ..walk })
    }

    /// A walk over the partition of a slot.
    pub(super) fn count_slot(slot: u16, deadline: Instant, partitions: Partitions) -> Self {
        let slot = Slot::new(slot);
        Self::new(partitions.of(slot), Kind::CountSlot(slot), deadline)
    }

    /// One over everything from the start of a partition on.
    fn new(partition: PartitionId, kind: Kind, deadline: Instant) -> Self {
        Self {
            partition,
            hash: 0,
            seen: 0,
            left: u64::MAX,
            kind,
            keys: Vec::new(),
            key_bytes: 0,
            count: 0,
            own_only: false,
            unreadable: false,
            deadline,
            has_begun: false,
            told_after: 0,
        }
    }

    /// Whether its client waits for it no longer.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline <= now
    }

    /// The record that it waited for cannot be read. To wait for it again would have no end.
    pub(super) fn skip(&mut self) {
        self.unreadable = true;
    }

    /// What it takes of memory, about.
    pub(super) fn bytes(&self) -> usize {
        let pattern = match &self.kind {
            Kind::Scan { pattern: Some(pattern), .. } => pattern.len(),
            _ => 0,
        };
        size_of::<Self>() + pattern + self.key_bytes
    }

    fn add(&mut self, key: &[u8]) {
        self.key_bytes += size_of::<Vec<u8>>() + key.len();
        self.keys.push(key.to_vec());
    }

    /// Looks at a record. Whether it tells of it: of a key that it counts or lists, also if it has no
    /// value.
    fn visit(&mut self, now: Now, key: &[u8], record: &[u8]) -> bool {
        let live = Record::object_bytes(record)
            .and_then(Object::decode)
            .is_ok_and(|object| object.values(now.wall).next().is_some());
        match &self.kind {
            Kind::CountSlot(slot) => {
                let matches = slot_of(key) == *slot;
                self.count += i64::from(live && matches);
                matches
            }
            Kind::Scan { pattern, nothing } => {
                let matches =
                    pattern.as_ref().is_none_or(|pattern| Glob::new(pattern).matches(key));
                let is_told = matches && !nothing;
                if live && is_told {
                    self.add(key);
                }
                is_told
            }
        }
    }

    fn write(&self, next: Option<u64>, out: &mut Vec<u8>) {
        match self.kind {
            Kind::CountSlot(_) => reply::integer(out, self.count),
            Kind::Scan { .. } => {
                reply::array(out, 2);
                reply::bulk(out, next.unwrap_or(0).to_string().as_bytes());
                reply::array(out, self.keys.len());
                self.keys.iter().for_each(|key| reply::bulk(out, key));
            }
        }
    }
}

/// Appends the answer to a scan that is over.
pub(super) fn write_end(out: &mut Vec<u8>) {
    reply::array(out, 2);
    reply::bulk(out, b"0");
    reply::array(out, 0);
}

fn place_of(cursor: u64) -> (u16, u64) {
    let place = cursor.saturating_sub(1);
    let hash = (place & ((1 << HASH_BITS) - 1)) << (64 - HASH_BITS);
    ((place >> HASH_BITS) as u16, hash)
}

fn cursor_of(partition: PartitionId, hash: u64) -> u64 {
    (u64::from(partition.to_raw()) << HASH_BITS | hash >> (64 - HASH_BITS)) + 1
}

impl Keeper {
    /// Begins with a walk, or goes on with one that another core began: behind those of this core.
    pub(super) fn begin_walk(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        origin: Origin,
        walk: Walk,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if self.memory_bytes() > self.node.memory_bytes_max {
            return self.refuse(RequestError::OutOfMemory, out);
        }
        self.walk(now, resident, origin, walk, self.walks.entries_now(), out)
    }

    /// Goes on with a walk until it has looked at enough, at so many entries for now, or must wait
    /// for a record.
    pub(super) fn walk(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        origin: Origin,
        mut walk: Walk,
        entries: usize,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if self.stopping {
            return self.refuse(RequestError::Stopping, out); // others were told that it asks no more
        }
        // Another core may have started, and asked, before this one knows its keys.
        if let Err(error) = self.check_readable() {
            return self.refuse(error, out);
        }
        if walk.is_late(now.monotonic) {
            self.end_late_walk(walk, out);
            return Outcome::Done;
        }
        let room = self.node.memory_bytes_max.saturating_sub(self.memory_bytes());
        for _ in 0..entries {
            self.walks.spend();
            if self.node.owner(walk.partition) != self.shard {
                if !walk.own_only {
                    self.hand_on(origin, walk);
                    return Outcome::Parked;
                }
                if !self.next_partition(&mut walk) {
                    return self.end_walk(origin, &walk, None, out);
                }
                continue;
            }
            let keydir = self.store.keydir(walk.partition);
            let Some((hash, at)) = keydir.entry_from(walk.hash, walk.seen) else {
                if !self.next_partition(&mut walk) {
                    return self.end_walk(origin, &walk, None, out);
                }
                if walk.left == 0 {
                    let next = Some(cursor_of(walk.partition, 0));
                    return self.end_walk(origin, &walk, next, out);
                }
                continue;
            };
            let same = hash >> (64 - HASH_BITS) == walk.hash >> (64 - HASH_BITS);
            if walk.left == 0 && !(same && walk.seen > 0) {
                let next = Some(cursor_of(walk.partition, hash));
                return self.end_walk(origin, &walk, next, out);
            }
            if !self.look_at(now, resident, at, &mut walk) {
                let ticket = self.store.read(at, &mut self.disk);
                self.walks.read(ticket, origin, walk);
                return Outcome::Parked;
            }
            (walk.unreadable, walk.has_begun) = (false, true);
            walk.seen = if hash == walk.hash { walk.seen + 1 } else { 1 };
            walk.hash = hash;
            let is_full = walk.key_bytes > room.min(STEP_BYTES_MAX);
            walk.left = if is_full { 0 } else { walk.left.saturating_sub(1) };
        }
        self.walks.pause(origin, walk);
        Outcome::Parked
    }

    /// Looks at the record of an entry. False: it must be read first.
    fn look_at(&self, now: Now, resident: &dyn Resident, at: Location, walk: &mut Walk) -> bool {
        match self.store.fetch(at, resident) {
            Fetched::Away => return walk.unreadable,
            Fetched::Damaged => {}
            Fetched::Here(view) => {
                let (order, namespace) = (view.header.order, self.node.namespaces.of(view.key));
                let is_told = walk.visit(now, view.key, view.value);
                if is_told && !self.is_shown_at_once(namespace, order) {
                    walk.told_after = walk.told_after.max(order.sequence());
                }
            }
        }
        true
    }

    /// Answers a walk that has ended, when what it tells of is synced.
    fn end_walk(
        &mut self,
        origin: Origin,
        walk: &Walk,
        next: Option<u64>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let before = out.len();
        walk.write(next, out);
        self.tell_when_synced(asked(origin, walk), walk.told_after, before, out)
    }

    /// Answers a walk that cannot end in time.
    fn end_late_walk(&mut self, mut walk: Walk, out: &mut Vec<u8>) {
        let may_tell = walk.has_begun && walk.told_after <= self.store.synced();
        match self.place_to_part(&mut walk) {
            Some(next) if may_tell => walk.write(next, out),
            _ => {
                self.counters.timeouts += 1;
                reply::error(out, RequestError::TimedOut);
            }
        }
    }

    /// The cursor at which another step may go on. `None`: there is none right here.
    fn place_to_part(&self, walk: &mut Walk) -> Option<Option<u64>> {
        if matches!(walk.kind, Kind::CountSlot(_)) {
            return None; // half a count is none
        }
        if walk.seen == 0 {
            return Some(Some(cursor_of(walk.partition, walk.hash)));
        }
        match self.store.keydir(walk.partition).entry_from(walk.hash, walk.seen) {
            Some((hash, _)) => {
                let same = hash >> (64 - HASH_BITS) == walk.hash >> (64 - HASH_BITS);
                (!same).then(|| Some(cursor_of(walk.partition, hash)))
            }
            None if self.next_partition(walk) => Some(Some(cursor_of(walk.partition, 0))),
            None => Some(None),
        }
    }

    /// Goes on to the next partition. False: there is none, or the walk is over.
    fn next_partition(&self, walk: &mut Walk) -> bool {
        let next = walk.partition.to_raw() + 1;
        if next == self.node.partitions.count() || matches!(walk.kind, Kind::CountSlot(_)) {
            return false;
        }
        (walk.partition, walk.hash, walk.seen) = (PartitionId::new(next), 0, 0);
        true
    }

    /// Another core has the next keys: it goes on, and answers whoever asked. Not before this core's
    /// part may be told.
    fn hand_on(&mut self, origin: Origin, walk: Walk) {
        if walk.told_after > self.store.synced() {
            self.store.want_sync();
            let (asked, sequence) = (asked(origin, &walk), walk.told_after);
            return self.parked.hold(sequence, asked, HeldReply::Walk(Box::new(walk)), false);
        }
        let (home, request) = match origin {
            Origin::Here(request) => (self.shard, request),
            Origin::There(home, request) => (home, request),
            Origin::Count(..) | Origin::Peer(..) | Origin::PeerThere(..) => {
                unreachable!("it asks for no walk")
            }
        };
        let owner = self.node.owner(walk.partition).to_raw() as usize;
        let queue = &mut self.mesh[owner];
        mesh::put(queue, mesh::Kind::Question, request, Protocol::default(), |out| {
            out.push(QUESTION_WALK);
            out.extend_from_slice(&home.to_raw().to_le_bytes());
            encode(&walk, out);
        });
    }
}

fn asked(origin: Origin, walk: &Walk) -> Asked {
    Asked { origin, protocol: Protocol::default(), deadline: walk.deadline }
}

/// The walk that another core hands on, if a question is that: and whose client asked.
pub(super) fn handed_on(question: &[u8]) -> Option<(ShardId, Walk)> {
    let (QUESTION_WALK, rest) = question.split_first().map(|(kind, rest)| (*kind, rest))? else {
        return None;
    };
    let (home, walk) = rest.split_at(2);
    Some((ShardId::new(u16::from_le_bytes([home[0], home[1]])), decode(walk)))
}

/// Appends a walk, for another core.
fn encode(walk: &Walk, out: &mut Vec<u8>) {
    mesh::put_deadline(walk.deadline, out);
    out.push(u8::from(walk.has_begun));
    out.extend_from_slice(&walk.partition.to_raw().to_le_bytes());
    out.extend_from_slice(&walk.hash.to_le_bytes());
    out.extend_from_slice(&walk.left.to_le_bytes());
    let bytes = walk.keys.iter().map(|key| 4 + key.len()).sum::<usize>();
    out.extend_from_slice(&(bytes as u32).to_le_bytes());
    for key in &walk.keys {
        out.extend_from_slice(&(key.len() as u32).to_le_bytes());
        out.extend_from_slice(key);
    }
    match &walk.kind {
        Kind::CountSlot(slot) => {
            out.push(0);
            out.extend_from_slice(&slot.to_raw().to_le_bytes());
        }
        Kind::Scan { pattern, nothing } => {
            out.extend_from_slice(&[1, u8::from(*nothing), u8::from(pattern.is_some())]);
            out.extend_from_slice(pattern.as_deref().unwrap_or_default());
        }
    }
}

/// Reads what [`encode`] wrote.
fn decode(bytes: &[u8]) -> Walk {
    let (deadline, rest) = mesh::awaited(bytes);
    let (has_begun, bytes) = (rest[0] != 0, &rest[1..]);
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let partition = PartitionId::new(u16::from_le_bytes([bytes[0], bytes[1]]));
    let (hash, left) = (long(2), long(10));
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes[..4].try_into().expect("four bytes"));
    let (mut keys, rest) = bytes[22..].split_at(number(&bytes[18..]) as usize);
    let kind = match rest[0] {
        0 => Kind::CountSlot(Slot::new(u16::from_le_bytes([rest[1], rest[2]]))),
        _ => Kind::Scan {
            nothing: rest[1] != 0,
            pattern: (rest[2] != 0).then(|| rest[3..].to_vec()),
        },
    };
    let mut walk = Walk { hash, left, has_begun, ..Walk::new(partition, kind, deadline) };
    while !keys.is_empty() {
        let (key, after) = keys[4..].split_at(number(keys) as usize);
        walk.add(key);
        keys = after;
    }
    walk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_name_their_place_and_are_never_the_end() {
        for (partition, hash) in [(0, 0), (16_383, u64::MAX), (7, 1 << 20)] {
            let cursor = cursor_of(PartitionId::new(partition), hash);
            assert_ne!(cursor, 0);
            let (found, prefix) = place_of(cursor);
            assert_eq!(found, partition);
            assert!(prefix <= hash && hash - prefix < 1 << (64 - HASH_BITS));
        }
        assert_eq!(place_of(0), (0, 0));
    }
}
