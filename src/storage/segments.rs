//! The table of a shard's segments: what each holds, what is garbage, and who still needs it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::base::aligned::AlignedBuffer;
use crate::base::id::SegmentId;
use crate::storage::index_file::IndexBuilder;
use crate::storage::location::Location;
use crate::storage::location::SegmentSlot;
use crate::storage::record::Order;

/// Where a segment is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Stage {
    /// Records are appended to it.
    Active,
    /// Its last batch is built; not all of them are synced.
    Sealed,
    /// All of it is synced; its keydir file is not written.
    Synced,
    /// Complete, with its keydir file, or without one until the next start.
    Indexed,
    /// Its live records were copied; it goes as soon as nobody reads it.
    Retired,
    /// The same of a segment in an adopted log: others decide when it goes.
    Released,
}

/// Whether the records of a complete segment are read without waiting.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Residency {
    /// Records that are not in the write buffer are read from the disk.
    Cold,
    /// The driver was asked.
    Asked,
    /// The driver serves it without waiting.
    Resident,
    /// Its image stays as it was written.
    Kept,
}

/// One segment.
#[derive(Debug)]
pub struct Segment {
    /// Which.
    pub id: SegmentId,
    /// The length of its file, in bytes.
    pub file_bytes: u32,
    /// Where it is in its life.
    pub stage: Stage,
    /// Who serves its records.
    pub residency: Residency,
    /// Its log epoch; 0: written by compaction.
    pub epoch: u64,
    /// The number of its last batch.
    pub last_batch: u64,
    /// Bytes of all its records, dead ones too, with their padding.
    pub record_bytes: u64,
    /// Bytes of the records that the keydir points to.
    pub live_bytes: u64,
    /// Bytes of reaped tombstones that compaction carried into it: nothing points to them, and they
    /// stay as long as they may shadow something. Not known after a start.
    pub carried_bytes: u64,
    /// The lowest order of those: none of them can go before that one.
    pub lowest_carried: Order,
    /// The lowest order of its records.
    pub lowest_order: Order,
    /// Of one written by compaction: every record was the newest of its key at this order.
    pub cleaned_at: Order,
    /// Batches that are not synced yet.
    pub unsynced_batches: u32,
    /// Reads in flight. While there are any, its file stays.
    pub readers: u32,
    /// Reads of its records since the last choice of what stays resident.
    hits: Cell<u32>,
    /// Part of it is bad: it is never compacted, for its records could not be copied.
    pub quarantined: bool,
    /// Its batches, as long as they are read from memory.
    pub image: Option<Image>,
    /// Entries for its keydir file, until that is written.
    pub index: IndexBuilder,
}

impl Segment {
    /// A segment of `file_bytes` with nothing in it.
    pub fn new(id: SegmentId, file_bytes: u32, epoch: u64, stage: Stage) -> Self {
        Self {
            id,
            file_bytes,
            stage,
            residency: Residency::Cold,
            epoch,
            last_batch: 0,
            record_bytes: 0,
            live_bytes: 0,
            carried_bytes: 0,
            lowest_carried: Order(u64::MAX),
            lowest_order: Order(u64::MAX),
            cleaned_at: Order(0),
            unsynced_batches: 0,
            readers: 0,
            hits: Cell::new(0),
            quarantined: false,
            image: None,
            index: IndexBuilder::default(),
        }
    }

    /// Bytes of records that nothing points to.
    pub fn dead_bytes(&self) -> u64 {
        self.record_bytes - self.live_bytes
    }

    /// Bytes of the file that hold no live record: dead ones, headers, padding.
    pub fn garbage_bytes(&self) -> u64 {
        u64::from(self.file_bytes).saturating_sub(self.live_bytes)
    }

    /// Whether it takes part of the budget of resident bytes and can give that back.
    pub fn is_resident(&self) -> bool {
        matches!(self.residency, Residency::Resident | Residency::Kept)
    }

    /// Counts a read of one of its records.
    pub fn count_hit(&self) {
        self.hits.set(self.hits.get().saturating_add(1));
    }

    /// Reads of late: each call halves them, so that old ones count less and less.
    pub fn take_hits(&self) -> u32 {
        let hits = self.hits.get();
        self.hits.set(hits / 2);
        hits
    }

    /// Counts a record that was appended to it.
    pub fn count_record(&mut self, length: u32, order: Order) {
        self.record_bytes += u64::from(length);
        self.lowest_order = self.lowest_order.min(order);
    }
}

/// A segment's batches in memory: the write buffer, and sealed segments as long as they are kept.
#[derive(Clone, Debug, Default)]
pub struct Image {
    batches: Vec<(u32, Arc<AlignedBuffer>)>,
    bytes: usize,
}

impl Image {
    /// Adds the next batch, which stands at `offset`.
    pub fn push(&mut self, offset: u32, batch: Arc<AlignedBuffer>) {
        self.bytes += batch.memory_bytes();
        self.batches.push((offset, batch));
    }

    /// The bytes from `offset` to the end of their batch.
    pub fn from(&self, offset: u32) -> Option<&[u8]> {
        let (start, batch) = &self.batches[self.batch_of(offset)?];
        batch.get((offset - start) as usize..)
    }

    /// What [`Image::from`] tells, to be kept. Behind the last batch there is nothing: an empty piece.
    pub fn piece(&self, offset: u32) -> Option<Piece> {
        let (first, batch) = &self.batches[self.batch_of(offset)?];
        let start = ((offset - first) as usize).min(batch.len());
        Some(Piece { batch: batch.clone(), start })
    }

    /// The batch in which `offset` stands: guessed, for most batches are as long as the others.
    fn batch_of(&self, offset: u32) -> Option<usize> {
        let (last, _) = self.batches.last()?;
        let guess = u64::from(offset) * self.batches.len() as u64 / (u64::from(*last) + 1);
        let guess = (guess as usize).min(self.batches.len() - 1);
        let next = self.batches.get(guess + 1).map_or(u32::MAX, |(start, _)| *start);
        if (self.batches[guess].0..next).contains(&offset) {
            return Some(guess);
        }
        self.batches.partition_point(|(start, _)| *start <= offset).checked_sub(1)
    }

    /// Its memory, as far as nobody else reads it.
    pub fn into_buffers(self) -> impl Iterator<Item = AlignedBuffer> {
        self.batches.into_iter().filter_map(|(_, batch)| Arc::into_inner(batch))
    }

    /// Its size in memory, in bytes: more than in the file, where batches are short.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A part of an image, which stays as long as this does.
#[derive(Debug)]
pub struct Piece {
    batch: Arc<AlignedBuffer>,
    start: usize,
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.batch[self.start..]
    }
}

/// All segments of a shard, under short names.
#[derive(Debug, Default)]
pub struct Segments {
    slots: Vec<Option<Segment>>,
    free: Vec<SegmentSlot>,
    by_id: BTreeMap<SegmentId, SegmentSlot>,
}

impl Segments {
    /// Adds a segment.
    ///
    /// # Panics
    ///
    /// If there are more than 65,536: at 32 MiB each that is 2 TiB a core.
    pub fn add(&mut self, segment: Segment) -> SegmentSlot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            SegmentSlot(u16::try_from(self.slots.len() - 1).expect("at most 65,536 segments"))
        });
        self.by_id.insert(segment.id, slot);
        self.slots[slot.0 as usize] = Some(segment);
        slot
    }

    /// Forgets a segment. Nothing may point to it any more.
    pub fn remove(&mut self, slot: SegmentSlot) -> Segment {
        let segment = self.slots[slot.0 as usize].take().expect("the slot is in use");
        assert_eq!(segment.readers, 0, "somebody reads it");
        self.by_id.remove(&segment.id);
        self.free.push(slot);
        segment
    }

    /// The slot of a segment.
    pub fn slot(&self, id: SegmentId) -> Option<SegmentSlot> {
        self.by_id.get(&id).copied()
    }

    /// A segment that is known to be there.
    pub fn get(&self, slot: SegmentSlot) -> &Segment {
        self.slots[slot.0 as usize].as_ref().expect("the slot is in use")
    }

    /// A segment that is known to be there.
    pub fn get_mut(&mut self, slot: SegmentSlot) -> &mut Segment {
        self.slots[slot.0 as usize].as_mut().expect("the slot is in use")
    }

    /// All segments, in the order of their ids.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (SegmentSlot, &Segment)> {
        self.by_id.values().map(|slot| (*slot, self.get(*slot)))
    }

    /// The first segment, in the order of ids, for which `wanted` holds.
    pub fn find(&self, wanted: impl Fn(&Segment) -> bool) -> Option<SegmentSlot> {
        self.iter().find(|(_, segment)| wanted(segment)).map(|(slot, _)| slot)
    }

    /// Whether a record is to be taken instead of another of the same key. Of two copies of one
    /// record the good one is, then the later copy: what it was copied from can go then.
    pub fn supersedes(&self, order: Order, at: Location, than: Order, other: Location) -> bool {
        let rank = |at: Location| (!at.marks().damaged, self.get(at.slot()).id);
        order > than || (order == than && rank(at) > rank(other))
    }

    /// The keydir points to this record from now on.
    pub fn enliven(&mut self, at: Location, length: u32) {
        self.get_mut(at.slot()).live_bytes += u64::from(length);
    }

    /// The keydir points to it no more.
    pub fn bury(&mut self, at: Location, length: u32) {
        let segment = self.get_mut(at.slot());
        segment.live_bytes = segment
            .live_bytes
            .checked_sub(u64::from(length))
            .expect("a record is counted alive before it is counted dead");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However long they are: a few long batches behind many short ones mislead the guess.
    #[test]
    fn an_image_finds_the_batch_of_every_offset() {
        let (mut image, mut at) = (Image::default(), 4096);
        for pages in [1, 1, 1, 1, 1, 1, 60, 1, 20, 20] {
            let mut batch = AlignedBuffer::with_capacity(pages * 4096);
            batch.extend(&vec![pages as u8; pages * 4096]);
            image.push(at, Arc::new(batch));
            at += (pages * 4096) as u32;
        }
        assert_eq!(image.from(0), None, "the first page is no batch's");
        let mut expected = Vec::new();
        for (start, batch) in &image.batches {
            expected.extend((0..batch.len()).map(|within| (start + within as u32, batch[0])));
        }
        for (offset, first) in expected.iter().step_by(512) {
            let bytes = image.from(*offset).expect("there is a batch");
            assert_eq!(bytes[0], *first, "at {offset}");
            assert!(bytes.len() <= usize::from(*first) * 4096);
            assert_eq!(*image.piece(*offset).expect("the same"), *bytes);
        }
        assert_eq!(image.piece(at).expect("nothing more").len(), 0);
        assert_eq!(Image::default().from(4096), None);
    }
}
