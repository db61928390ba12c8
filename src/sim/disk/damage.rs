//! Harm at rest: bits that flip, writes that landed elsewhere, blocks that are as they were before.
//!
//! A store can tell damage from a torn end only by something later that says how far the log was
//! once synced. So what is harmed lies before at least two appends that were asked for after it
//! had been durable, and those are spared. Files that were written in the background and renamed
//! were synced as a whole: any byte of them may be harmed.

use std::collections::BTreeMap;
use std::ops::Range;

use super::Disk;
use super::inode::SECTOR_BYTES;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::base::id::Ticket;
use crate::storage::batch::BatchHeader;
use crate::storage::effect::File;

/// Bytes that are not what was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Damage {
    /// Where.
    pub file: File,
    /// Which bytes.
    pub range: Range<u32>,
}

/// The appends of the disk's life that are still there: what of them may be harmed.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// A log vouches for its own past alone.
    logs: BTreeMap<LogId, LogHistory>,
}

/// Those of one log, in the order in which they were asked for.
#[derive(Clone, Debug, Default)]
struct LogHistory {
    writes: BTreeMap<u64, Written>,
    next: u64,
    /// All appends before this number are done: what the next one can vouch for.
    done_below: u64,
    /// What the two best completed appends vouch for.
    vouched: [u64; 2],
}

#[derive(Clone, Debug)]
struct Written {
    ticket: Option<Ticket>,
    segment: SegmentId,
    offset: u32,
    length: u32,
    /// The log's epoch, and in it the number of the batch.
    batch: (u64, u64),
    vouches_below: u64,
}

impl History {
    pub(super) fn issue(&mut self, ticket: Ticket, segment: SegmentId, offset: u32, bytes: &[u8]) {
        let log = self.logs.entry(segment.log).or_default();
        let header = BatchHeader::read(bytes, segment, offset);
        let (batch, synced) = header
            .map_or(((0, 0), (0, 0)), |it| ((it.epoch, it.number), (it.epoch, it.synced_upto)));
        // What it says was known when it was built, which may be long before it is written.
        let unsaid = log.writes.iter().find(|(_, written)| written.batch > synced);
        let unsaid = unsaid.map_or(u64::MAX, |(number, _)| *number);
        let written = Written {
            ticket: Some(ticket),
            segment,
            offset,
            length: bytes.len() as u32,
            batch,
            vouches_below: log.done_below.min(unsaid),
        };
        log.writes.insert(log.next, written);
        log.next += 1;
    }

    pub(super) fn complete(&mut self, segment: SegmentId, ticket: Ticket) {
        self.logs.get_mut(&segment.log).expect("what completes was issued").complete(ticket);
    }

    pub(super) fn fail(&mut self, ticket: Ticket) {
        for log in self.logs.values_mut() {
            log.writes.retain(|_, written| written.ticket != Some(ticket));
        }
    }

    pub(super) fn forget_in_flight(&mut self) {
        for log in self.logs.values_mut() {
            log.writes.retain(|_, written| written.ticket.is_none());
            log.done_below = log.next;
        }
    }

    pub(super) fn rename(&mut self, from: File, to: File) {
        self.unlink(from);
        self.unlink(to);
    }

    pub(super) fn unlink(&mut self, file: File) {
        if let File::Segment(segment) = file
            && let Some(log) = self.logs.get_mut(&segment.log)
        {
            log.writes.retain(|_, written| written.segment != segment || written.ticket.is_some());
        }
    }

    fn writes(&self) -> impl Iterator<Item = &Written> {
        self.logs.values().flat_map(|log| log.writes.values())
    }

    /// Which of the appends may be harmed.
    fn vouched(&self) -> impl Iterator<Item = &Written> {
        self.logs.values().flat_map(|log| log.writes.range(..log.vouched[1]).map(|(_, it)| it))
    }

    /// The others.
    fn unvouched(&self) -> impl Iterator<Item = &Written> {
        self.logs.values().flat_map(|log| log.writes.range(log.vouched[1]..).map(|(_, it)| it))
    }
}

impl LogHistory {
    fn complete(&mut self, ticket: Ticket) {
        let written = self.writes.values_mut().rev().find(|w| w.ticket == Some(ticket));
        let written = written.expect("what completes was issued");
        written.ticket = None;
        let vouches = written.vouches_below;
        if vouches > self.vouched[0] {
            self.vouched = [vouches, self.vouched[0]];
        } else {
            self.vouched[1] = self.vouched[1].max(vouches);
        }
        let in_flight = self.writes.range(self.done_below..).find(|(_, w)| w.ticket.is_some());
        self.done_below = in_flight.map_or(self.next, |(number, _)| *number);
    }
}

impl Written {
    fn place(&self) -> Damage {
        let range = self.offset..self.offset + self.length;
        Damage { file: File::Segment(self.segment), range }
    }
}

impl Disk {
    /// Harms some place that a later append vouches for, and tells which bytes, if any can be.
    pub fn damage(&mut self) -> Vec<Damage> {
        let Some(damage) = self.pick_victim() else { return Vec::new() };
        match self.rng.below(4) {
            0 | 1 => vec![self.flip_bits(damage)],
            2 => vec![self.make_stale(damage)],
            _ => self.misplace(damage),
        }
    }

    /// Harms an index file, or that of one segment: nothing may come of it.
    pub fn damage_index(&mut self, of: Option<File>) -> Option<Damage> {
        let is_wanted = |file: File| match (file, of) {
            (File::Index(index), Some(File::Segment(segment))) => index == segment,
            (File::Index(_), None) => true,
            _ => false,
        };
        let indices: Vec<(File, u64)> =
            self.files().filter(|(file, length)| is_wanted(*file) && *length > 0).collect();
        if indices.is_empty() {
            return None;
        }
        let (file, length) = *self.rng.pick(&indices);
        let at = self.rng.below(length) as u32;
        Some(self.flip_bits(Damage { file, range: at..at + 1 }))
    }

    /// Lets somebody else write to a file at rest: `change` gets its bytes, and what it leaves is
    /// durable. A file that is not there stays so.
    ///
    /// # Panics
    ///
    /// If an operation is in flight: nobody else writes while the store runs.
    pub fn alter(&mut self, file: File, change: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.next_at().is_none(), "the store is still at work");
        if let Some(number) = self.find(file) {
            self.inode_mut(number).alter(change);
        }
    }

    /// What no two later appends vouch for: harm to it may be taken for a torn end.
    pub fn unvouched(&self) -> Vec<Damage> {
        self.history.unvouched().map(Written::place).collect()
    }

    fn pick_victim(&mut self) -> Option<Damage> {
        let mut victims: Vec<Damage> = self
            .history
            .vouched()
            .filter(|written| self.find(File::Segment(written.segment)).is_some())
            .map(Written::place)
            .collect();
        victims.extend(self.sealed_by_rename());
        if victims.is_empty() { None } else { Some(self.rng.pick(&victims).clone()) }
    }

    /// Segments that were never appended to, yet hold something: compaction wrote them.
    fn sealed_by_rename(&self) -> Vec<Damage> {
        let mut segments = self.segments();
        for written in self.history.writes() {
            segments.remove(&written.segment);
        }
        let whole = segments.into_iter().filter_map(|segment| {
            let file = File::Segment(segment);
            let number = self.find(file)?;
            let inode = &self.inodes[&number];
            let is_safe = self.directories[&segment.log].is_durable(file, number)
                && inode.is_length_durable()
                && self.contract_allows(segment);
            let is_blank = inode.read(0, inode.len()).iter().all(|byte| *byte == 0);
            (is_safe && !is_blank).then(|| Damage { file, range: 0..inode.len() as u32 })
        });
        whole.collect()
    }

    fn flip_bits(&mut self, victim: Damage) -> Damage {
        let number = self.find(victim.file).expect("the victim is there");
        let at = self.written_byte(number, &victim);
        let bit = 1 << self.rng.below(8);
        let inode = self.inode_mut(number);
        let byte = inode.read(at as usize, 1)[0];
        inode.rot(at as usize, &[byte ^ bit]);
        Damage { file: victim.file, range: at..at + 1 }
    }

    /// A byte that says something, if there is one: most of a padded batch is zeros.
    fn written_byte(&mut self, number: u64, victim: &Damage) -> u32 {
        let mut at = victim.range.start;
        for _ in 0..32 {
            let (first, last) = (u64::from(victim.range.start), u64::from(victim.range.end) - 1);
            at = self.rng.between(first, last) as u32;
            if self.inodes[&number].read(at as usize, 1)[0] != 0 {
                break;
            }
        }
        at
    }

    /// A block that is as it was before the write: zeros, or what a recycled file held.
    fn make_stale(&mut self, victim: Damage) -> Damage {
        let unit = *self.rng.pick(&[SECTOR_BYTES, PAGE_BYTES]) as u32;
        let range = self.block_of(&victim, unit);
        let donor = self.pick_donor(&victim);
        let mut bytes = vec![0; range.len()];
        if let Some(donor) = donor
            && self.rng.chance(1, 2)
        {
            let donated = self.inodes[&donor].read(range.start as usize, range.len());
            bytes[..donated.len()].copy_from_slice(donated);
        }
        let number = self.find(victim.file).expect("the victim is there");
        self.inode_mut(number).rot(range.start as usize, &bytes);
        Damage { file: victim.file, range }
    }

    /// A page that landed where another one was, and is missing where it belongs.
    fn misplace(&mut self, victim: Damage) -> Vec<Damage> {
        let Some(other) = self.pick_victim() else { return vec![self.flip_bits(victim)] };
        let from = self.block_of(&victim, PAGE_BYTES as u32);
        let to = self.block_of(&other, PAGE_BYTES as u32);
        let number = self.find(victim.file).expect("the victim is there");
        let bytes = self.inodes[&number].read(from.start as usize, from.len()).to_vec();
        self.inode_mut(number).rot(from.start as usize, &vec![0; from.len()]);
        let target = self.find(other.file).expect("the other is there");
        self.inode_mut(target).rot(to.start as usize, &bytes);
        vec![Damage { file: victim.file, range: from }, Damage { file: other.file, range: to }]
    }

    fn block_of(&mut self, victim: &Damage, unit: u32) -> Range<u32> {
        let first = victim.range.start / unit;
        let last = (victim.range.end - 1) / unit;
        let block = self.rng.between(u64::from(first), u64::from(last)) as u32;
        block * unit..(block + 1) * unit
    }

    fn pick_donor(&mut self, victim: &Damage) -> Option<u64> {
        let segments: Vec<SegmentId> = self.segments().into_iter().collect();
        let donor = File::Segment(*self.rng.pick(&segments));
        if donor == victim.file { None } else { self.find(donor) }
    }

    fn contract_allows(&self, segment: SegmentId) -> bool {
        self.history.writes().all(|written| written.segment != segment)
    }
}
