//! Walks over the keys of a node: `SCAN`, and how many keys a slot has.
//!
//! A walk goes in the order of (partition, hash), whatever is written meanwhile: a key that is there
//! from the first step to the last is met exactly once. The keydir keeps no keys, so each is read
//! from its record; a walk over records that are not in memory waits for each of them.
//!
//! # The cursor
//!
//! Partition in the upper 14 bits, then 49 bits of the hash at which to go on, plus one, so that it
//! is never 0, which means the end. Keys that share those bits are never parted.

use crate::base::id::PartitionId;
use crate::base::id::Slot;
use crate::base::time::Now;
use crate::protocol::ring::Partitions;
use crate::protocol::ring::slot_of;
use crate::protocol::session::Outcome;
use crate::protocol::shard::keeper::Keeper;
use crate::protocol::shard::parked::Origin;
use crate::protocol::version::Object;
use crate::protocol::version::Record;
use crate::protocol::wire::command::Scan;
use crate::protocol::wire::glob::Glob;
use crate::protocol::wire::reply;
use crate::storage::Fetched;
use crate::storage::effect::Resident;

const HASH_BITS: u32 = 49;

/// Entries that one step looks at, at most: a turn stays short.
const STEP_MAX: u64 = 1000;

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
    count: i64,
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
    pub(super) fn scan(scan: &Scan<'_>, partitions: Partitions) -> Result<Self, ()> {
        let (partition, hash) = place_of(scan.cursor);
        if partition >= partitions.count() {
            return Err(());
        }
        let nothing = scan.kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(b"string"));
        Ok(Self {
            partition: PartitionId::new(partition),
            hash,
            seen: 0,
            left: scan.count.clamp(1, STEP_MAX),
            kind: Kind::Scan { pattern: scan.pattern.map(<[u8]>::to_vec), nothing },
            keys: Vec::new(),
            count: 0,
        })
    }

    /// A walk over the partition of a slot.
    pub(super) fn count_slot(slot: u16, partitions: Partitions) -> Self {
        let slot = Slot::new(slot);
        Self {
            partition: partitions.of(slot),
            hash: 0,
            seen: 0,
            left: u64::MAX,
            kind: Kind::CountSlot(slot),
            keys: Vec::new(),
            count: 0,
        }
    }

    /// The partition that it is in.
    pub(super) fn partition(&self) -> PartitionId {
        self.partition
    }

    fn visit(&mut self, now: Now, key: &[u8], record: &[u8]) {
        let live = Record::object_bytes(record)
            .and_then(Object::decode)
            .is_ok_and(|object| object.values(now.wall).next().is_some());
        match &self.kind {
            Kind::CountSlot(slot) => self.count += i64::from(live && slot_of(key) == *slot),
            Kind::Scan { pattern, nothing } => {
                let matches =
                    pattern.as_ref().is_none_or(|pattern| Glob::new(pattern).matches(key));
                if live && matches && !nothing {
                    self.keys.push(key.to_vec());
                }
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
    /// Goes on with a walk until it has looked at enough, or must wait for a record.
    pub(super) fn walk(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        origin: Origin,
        mut walk: Walk,
        out: &mut Vec<u8>,
    ) -> Outcome {
        // Another core may have started, and asked, before this one knows its keys.
        if let Err(error) = self.check_readable() {
            self.count_error(error);
            reply::error(out, error);
            return Outcome::Done;
        }
        loop {
            let keydir = self.store.keydir(walk.partition);
            let Some((hash, at)) = keydir.entry_from(walk.hash, walk.seen) else {
                let next = walk.partition.to_raw() + 1;
                let over = next == self.node.partitions.count();
                if over || matches!(walk.kind, Kind::CountSlot(_)) {
                    walk.write(None, out);
                    return Outcome::Done;
                }
                (walk.partition, walk.hash, walk.seen) = (PartitionId::new(next), 0, 0);
                // Another core's partition begins another step, there.
                if walk.left == 0 || self.node.owner(walk.partition) != self.shard {
                    walk.write(Some(cursor_of(walk.partition, 0)), out);
                    return Outcome::Done;
                }
                continue;
            };
            let same = hash >> (64 - HASH_BITS) == walk.hash >> (64 - HASH_BITS);
            if walk.left == 0 && !(same && walk.seen > 0) {
                walk.write(Some(cursor_of(walk.partition, hash)), out);
                return Outcome::Done;
            }
            match self.store.fetch(at, resident) {
                Fetched::Away => {
                    let ticket = self.store.read(at, &mut self.disk);
                    self.walks.entry(ticket).or_default().push((origin, walk));
                    return Outcome::Parked;
                }
                Fetched::Damaged => {}
                Fetched::Here(view) => walk.visit(now, view.key, view.value),
            }
            walk.seen = if hash == walk.hash { walk.seen + 1 } else { 1 };
            walk.hash = hash;
            walk.left = walk.left.saturating_sub(1);
        }
    }
}

/// Appends a walk that has not begun, for another core.
pub(super) fn encode(walk: &Walk, out: &mut Vec<u8>) {
    out.extend_from_slice(&walk.partition.to_raw().to_le_bytes());
    out.extend_from_slice(&walk.hash.to_le_bytes());
    out.extend_from_slice(&walk.left.to_le_bytes());
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
pub(super) fn decode(bytes: &[u8]) -> Walk {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let long = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let kind = match bytes[18] {
        0 => Kind::CountSlot(Slot::new(half(19))),
        _ => Kind::Scan {
            nothing: bytes[19] != 0,
            pattern: (bytes[20] != 0).then(|| bytes[21..].to_vec()),
        },
    };
    Walk {
        partition: PartitionId::new(half(0)),
        hash: long(2),
        seen: 0,
        left: long(10),
        kind,
        keys: Vec::new(),
        count: 0,
    }
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
