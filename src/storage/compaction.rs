//! Copies the live records of segments that are mostly garbage into a new one, and lets the old go.
//!
//! # Why it cannot lose or resurrect
//!
//! - A record is copied if the keydir points to it, and the keydir is asked **again** when the copy
//!   is durable: a record that was superseded in between must not come back.
//! - The old segments go only after everything that had been appended by then is **synced**: what
//!   superseded a dropped record may still be in the write buffer, and a crash would take both.
//! - A reaped tombstone may shadow an older record of its key in another segment, where a start
//!   would find it. It is carried along until no segment can hold such a record: each other
//!   segment is younger, or has no dead record, or was itself *cleaned* since (every record in it
//!   was the newest of its key at that order). "Since" counts synced orders alone: a crash takes
//!   what the others had.
//! - An old segment is forgotten by the table only when its removal is durable: until then it
//!   counts as a place where older records are.
//!
//! Records are written in the order of their partitions, so that a partition's records come to
//! stand together over time.
//!
//! # Turns
//!
//! What is read is taken from images where they are kept. Reading and writing go in pieces, and the
//! second look at the keydir takes [`SWAPS_PER_TURN`] records at a time: no turn of the shard is long.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::base::aligned::AlignedBuffer;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::LogId;
use crate::base::id::PartitionId;
use crate::base::id::SegmentId;
use crate::storage::batch::BATCH_HEADER_BYTES;
use crate::storage::batch::BatchHeader;
use crate::storage::batch::CompactedSegment;
use crate::storage::batch::FIRST_BATCH_OFFSET;
use crate::storage::batch::SegmentHeader;
use crate::storage::effect::Bulk;
use crate::storage::effect::File;
use crate::storage::index_file::IndexBuilder;
use crate::storage::index_file::IndexEntry;
use crate::storage::index_file::IndexHeader;
use crate::storage::keydir;
use crate::storage::keydir::Keydir;
use crate::storage::location::Location;
use crate::storage::location::Marks;
use crate::storage::location::SegmentSlot;
use crate::storage::record;
use crate::storage::record::NewRecord;
use crate::storage::record::Order;
use crate::storage::record::RecordView;
use crate::storage::restore::is_owned;
use crate::storage::scan;
use crate::storage::scan::Scan;
use crate::storage::script::Script;
use crate::storage::segments::Piece;
use crate::storage::segments::Segment;
use crate::storage::segments::Segments;
use crate::storage::segments::Stage;

/// Records that change over to their copies in one turn, at most.
pub const SWAPS_PER_TURN: usize = 1024;

/// Segments are read in pieces of this size, in bytes.
const PIECE_BYTES: u32 = 256 * 1024;

/// Batches of the copy have about this size, in bytes.
const OUTPUT_BATCH_BYTES: usize = 256 * 1024;

/// Records whose places in the keydir are looked for together.
const LOOKED_FOR_TOGETHER: usize = 16;

/// Segments that go at once, at most.
const VICTIMS_MAX: usize = 16;

/// A record that is copied.
#[derive(Clone, Copy, Debug)]
struct Kept {
    entry: IndexEntry,
    /// Where the keydir pointed. `None`: a reaped tombstone that is carried along.
    old: Option<Location>,
    /// Where its key begins in the arena; the value follows the key.
    start: usize,
    key_length: u16,
    value_length: u32,
    /// Where the copy stands.
    new_offset: u32,
}

#[derive(Debug)]
enum Phase {
    Reading { victim: usize, scan: Scan },
    Writing,
    Finishing(Script),
    Swapping,
    AwaitingSync { sequence: u64 },
    Done,
}

/// What a compaction wants next.
#[derive(Debug)]
pub enum Next {
    /// This operation; tell when it is done.
    Do(Bulk),
    /// The copy is durable: look at the keydir again ([`Compaction::swap`]).
    Swap,
    /// Everything up to this sequence must be synced.
    Sync(u64),
    /// The victims may go. If there is a copy, it has the keydir's records now.
    Retire,
}

/// One compaction, from choosing its victims to letting them go.
#[derive(Debug)]
pub struct Compaction {
    /// The segments that will go.
    pub victims: Vec<SegmentSlot>,
    phase: Phase,
    output: SegmentId,
    output_slot: Option<SegmentSlot>,
    temporaries: [File; 2],
    cleaned_at: Order,
    arena: Vec<u8>,
    by_partition: BTreeMap<PartitionId, Vec<Kept>>,
    /// `by_partition` in order, once reading is over; none of them is empty.
    kept: Vec<Vec<Kept>>,
    /// Which of `kept` is written next, then which is swapped next: the list, and the place in it.
    position: (usize, usize),
    batches: u64,
    offset: u32,
    index: IndexBuilder,
    lowest_order: Order,
    /// Bytes of the records in the copy.
    record_bytes: u64,
    /// Bytes of those that it carries along, and the lowest order of them.
    carried: (u64, Order),
    good_bytes: u64,
    output_limit: u32,
}

/// What a compaction looks at and changes.
pub struct Tables<'a> {
    /// The keydirs, by partition.
    pub keydirs: &'a mut [Keydir],
    /// The table of segments.
    pub segments: &'a mut Segments,
    /// Which partitions are the shard's.
    pub owned: &'a [bool],
}

/// Chooses segments whose live records are worth copying. Empty: none.
///
/// `garbage_percent` of all indexed segments' bytes must be garbage, and the copy must be at least
/// a fifth smaller than what goes; with `eager`, any gain is worth it. What must be carried along
/// still counts as garbage, for what holds it back may be some, and is no gain: a copy of it would be
/// the same again.
///
/// `last_vouched` is the epoch and number of the last batch that a durable one calls synced: its
/// segment stays, for without it the next start could not tell that batch, let go, from one that was
/// damaged. And when a segment goes, the batch that follows it is known to be synced, also to a start
/// that finds it bad.
pub fn choose_victims(
    segments: &Segments,
    own: LogId,
    last_vouched: (u64, u64),
    garbage_percent: u8,
    segment_bytes: u32,
    eager: bool,
) -> Vec<SegmentSlot> {
    let mut candidates: Vec<(SegmentSlot, &Segment, u64)> = segments
        .iter()
        .filter(|(_, segment)| segment.id.log == own)
        .filter(|(_, segment)| segment.stage == Stage::Indexed && !segment.quarantined)
        .filter(|(_, segment)| (segment.epoch, segment.last_batch) < last_vouched)
        .map(|(slot, segment)| (slot, segment, kept_bytes(segments, slot)))
        .collect();
    let length = |segment: &Segment| u64::from(segment.file_bytes);
    let total: u64 = candidates.iter().map(|(_, segment, _)| length(segment)).sum();
    let garbage: u64 = candidates.iter().map(|(_, segment, _)| segment.garbage_bytes()).sum();
    if garbage * 100 < total * u64::from(garbage_percent) && !eager {
        return Vec::new();
    }
    candidates.sort_by_key(|(_, segment, kept)| (kept * 1000 / length(segment).max(1), segment.id));
    let (mut victims, mut copied, mut freed) = (Vec::new(), 0, 0);
    for (slot, segment, kept) in candidates.into_iter().take(VICTIMS_MAX) {
        if copied + kept > u64::from(segment_bytes) * 7 / 8 {
            break;
        }
        victims.push(slot);
        copied += kept;
        freed += length(segment);
    }
    let copy = if copied == 0 { 0 } else { copied + copied / 32 + 3 * PAGE_BYTES as u64 };
    let worth = if eager { freed > copy } else { freed * 4 >= copy * 5 };
    if worth && freed > 0 {
        victims.sort_by_key(|slot| segments.get(*slot).id);
        victims
    } else {
        Vec::new()
    }
}

/// Bytes of a segment that a copy would have: live records, and what was carried into it as long as
/// none of that can go.
fn kept_bytes(segments: &Segments, slot: SegmentSlot) -> u64 {
    let segment = segments.get(slot);
    let carries =
        segment.carried_bytes > 0 && predecessor_possible(segments, slot, segment.lowest_carried);
    segment.live_bytes + if carries { segment.carried_bytes } else { 0 }
}

/// Chooses segments of adopted logs, whatever they hold: what is live in them moves to the own log.
pub fn choose_adopted(segments: &Segments, own: LogId, segment_bytes: u32) -> Vec<SegmentSlot> {
    let (mut victims, mut live) = (Vec::new(), 0);
    for (slot, segment) in segments.iter() {
        if segment.id.log == own || segment.stage != Stage::Indexed || segment.quarantined {
            continue;
        }
        live += segment.live_bytes;
        let full = live > u64::from(segment_bytes) * 7 / 8 || victims.len() == VICTIMS_MAX;
        if full && !victims.is_empty() {
            break;
        }
        victims.push(slot);
    }
    victims
}

impl Compaction {
    /// Begins. `segment_bytes` bounds the copy: one more victim is read only below 7/8 of it.
    /// `synced` is the highest order that is known to be durable. `arena` is memory to be used.
    pub fn new(
        victims: Vec<SegmentSlot>,
        segments: &Segments,
        segment_bytes: u32,
        output: SegmentId,
        temporaries: [File; 2],
        synced: Order,
        mut arena: Vec<u8>,
    ) -> Self {
        arena.clear();
        let first = segments.get(victims[0]);
        let scan = Scan::of_batches(first.id, first.file_bytes);
        Self {
            victims,
            phase: Phase::Reading { victim: 0, scan },
            output,
            output_slot: None,
            temporaries,
            cleaned_at: synced,
            arena,
            by_partition: BTreeMap::new(),
            kept: Vec::new(),
            position: (0, 0),
            batches: 0,
            offset: FIRST_BATCH_OFFSET,
            index: IndexBuilder::default(),
            lowest_order: Order(u64::MAX),
            record_bytes: 0,
            carried: (0, Order(u64::MAX)),
            good_bytes: 0,
            output_limit: segment_bytes / 8 * 7,
        }
    }

    /// What to do now. Asked again after each answer.
    pub fn next_step(&mut self) -> Next {
        match &mut self.phase {
            Phase::Reading { scan, .. } => Next::Do(Bulk::Read {
                file: File::Segment(scan.segment()),
                offset: u64::from(scan.wanted()),
                length: PIECE_BYTES,
            }),
            Phase::Writing => self.next_write(),
            Phase::Finishing(script) => match script.next_operation() {
                Some(operation) => Next::Do(operation),
                None => {
                    (self.phase, self.position) = (Phase::Swapping, (0, 0));
                    Next::Swap
                }
            },
            Phase::Swapping => Next::Swap,
            Phase::AwaitingSync { sequence } => Next::Sync(*sequence),
            Phase::Done => Next::Retire,
        }
    }

    /// The victim that is being read.
    pub fn reading(&self) -> Option<SegmentSlot> {
        match self.phase {
            Phase::Reading { victim, .. } => Some(self.victims[victim]),
            _ => None,
        }
    }

    /// The next piece of the victim that is read, if its image is kept. Then nobody is asked.
    pub fn piece_in_memory(&self, segments: &Segments) -> Option<Piece> {
        let Phase::Reading { victim, scan } = &self.phase else { return None };
        segments.get(self.victims[*victim]).image.as_ref()?.piece(scan.wanted())
    }

    /// A piece of a victim's image: what nobody needs is not looked at twice. False: see
    /// [`Compaction::read`].
    pub fn read_image(&mut self, piece: &[u8], tables: &mut Tables<'_>) -> bool {
        let (victim, mut scan) = self.take_scan();
        let slot = self.victims[victim];
        let (segment, offset) = (scan.segment(), scan.wanted());
        let header = BatchHeader::read(piece, segment, offset);
        let last_batch = tables.segments.get(slot).last_batch;
        if let Some(header) = header.filter(|header| header.number <= last_batch) {
            let entries = scan::entries_unchecked(piece, offset, header.records);
            self.look_at(slot, offset, &entries, piece, tables);
        }
        scan.skip(piece.len() as u32);
        self.go_on(victim, scan, tables)
    }

    /// A piece of a victim was read. False: the victim is damaged, and the compaction is over.
    pub fn read(&mut self, bytes: &[u8], tables: &mut Tables<'_>) -> bool {
        let (victim, mut scan) = self.take_scan();
        let slot = self.victims[victim];
        let last_batch = tables.segments.get(slot).last_batch;
        scan.feed(bytes, |batch, bytes| {
            if batch.header.number <= last_batch {
                self.look_at(slot, batch.offset, &batch.records, bytes, tables);
            }
        });
        self.go_on(victim, scan, tables)
    }

    fn take_scan(&mut self) -> (usize, Scan) {
        match std::mem::replace(&mut self.phase, Phase::Done) {
            Phase::Reading { victim, scan } => (victim, scan),
            phase => panic!("nothing was to be read: {phase:?}"),
        }
    }

    /// After a piece: what is to be read next, if anything is.
    fn go_on(&mut self, victim: usize, scan: Scan, tables: &mut Tables<'_>) -> bool {
        if !scan.at_end() {
            self.phase = Phase::Reading { victim, scan };
            return true;
        }
        let slot = self.victims[victim];
        if self.good_bytes != tables.segments.get(slot).record_bytes {
            tables.segments.get_mut(slot).quarantined = true;
            return false;
        }
        self.good_bytes = 0;
        if self.arena.len() as u64 > u64::from(self.output_limit) {
            // Tombstones that are carried along count as garbage, and may be many.
            self.victims.truncate(victim + 1);
        }
        self.phase = match self.victims.get(victim + 1) {
            Some(next) => {
                let next = tables.segments.get(*next);
                let scan = Scan::of_batches(next.id, next.file_bytes);
                Phase::Reading { victim: victim + 1, scan }
            }
            None => {
                self.kept = std::mem::take(&mut self.by_partition).into_values().collect();
                Phase::Writing
            }
        };
        true
    }

    /// The sequence that must be synced before the victims may go, while that is waited for.
    pub fn awaited_sequence(&self) -> Option<u64> {
        match self.phase {
            Phase::AwaitingSync { sequence } => Some(sequence),
            _ => None,
        }
    }

    /// All files that it may have made.
    pub fn files(&self) -> [File; 4] {
        let [data, keydir] = self.temporaries;
        [data, keydir, File::Index(self.output), File::Segment(self.output)]
    }

    /// Ends it: its memory, for the next one.
    pub fn into_arena(self) -> Vec<u8> {
        self.arena
    }

    /// Whether the copy has no record: then there is no copy.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// Adds the copy, whose file has its name by now, to the table. `None`: that was done before,
    /// or there is no copy.
    pub fn place_output(&mut self, tables: &mut Tables<'_>) -> Option<SegmentSlot> {
        assert!(self.is_swapping(), "the copy is durable first");
        if self.output_slot.is_some() || self.is_empty() {
            return None;
        }
        self.output_slot = Some(tables.segments.add(self.output_segment()));
        self.output_slot
    }

    /// Whether it goes on by the shard's own work, and needs nobody else for that.
    pub fn needs_a_turn(&self, segments: &Segments) -> bool {
        let placed = self.output_slot.is_some() || self.is_empty();
        self.piece_in_memory(segments).is_some() || (self.is_swapping() && placed)
    }

    /// Whether the second look is going on.
    pub fn is_swapping(&self) -> bool {
        matches!(self.phase, Phase::Swapping)
    }

    /// The copy's place in the table.
    pub fn output_slot(&self) -> Option<SegmentSlot> {
        self.output_slot
    }

    /// Changes the next records over to their copies.
    pub fn swap(&mut self, tables: &mut Tables<'_>, appended: u64) {
        assert!(self.is_swapping(), "the copy is durable first");
        for _ in 0..SWAPS_PER_TURN / LOOKED_FOR_TOGETHER {
            let mut swapped: SmallVec<[Kept; LOOKED_FOR_TOGETHER]> = SmallVec::new();
            while swapped.len() < LOOKED_FOR_TOGETHER
                && let Some((list, at)) = self.take_next()
            {
                swapped.push(self.kept[list][at]);
            }
            let places = swapped.iter().map(|kept| (kept.entry.partition, kept.entry.hash));
            keydir::draw_near(tables.keydirs, places);
            for kept in &swapped {
                let slot = self.output_slot.expect("there is a copy of what was kept");
                swap_one(kept, slot, tables);
            }
        }
        if self.next().is_none() {
            self.phase = Phase::AwaitingSync { sequence: appended };
        }
    }

    /// What [`Next::Sync`] asked for is true.
    pub fn synced(&mut self) {
        assert!(matches!(self.phase, Phase::AwaitingSync { .. }), "it waited for the sync");
        self.phase = Phase::Done;
    }

    /// Considers these records of the batch at `offset`, which has these bytes.
    fn look_at(
        &mut self,
        slot: SegmentSlot,
        offset: u32,
        entries: &[IndexEntry],
        bytes: &[u8],
        tables: &Tables<'_>,
    ) {
        let segment = tables.segments.get(slot).id;
        for entries in entries.chunks(LOOKED_FOR_TOGETHER) {
            keydir::draw_near(tables.keydirs, entries.iter().map(|it| (it.partition, it.hash)));
            for entry in entries.iter().filter(|entry| is_owned(tables.owned, entry.partition)) {
                let bytes = &bytes[(entry.offset - offset) as usize..];
                if let Some(old) = self.consider(slot, entry, tables) {
                    match record::read(bytes, segment, entry.offset) {
                        Ok(view) => self.keep(*entry, old, view),
                        Err(_) => continue,
                    }
                }
                self.good_bytes += u64::from(location(slot, entry).counted_length());
            }
        }
    }

    /// First look: a record is kept if it is live, or if it must go on shadowing older ones. Tells
    /// where the keydir points then.
    fn consider(
        &self,
        slot: SegmentSlot,
        entry: &IndexEntry,
        tables: &Tables<'_>,
    ) -> Option<Option<Location>> {
        let here = location(slot, entry);
        let keydir = tables.keydirs.get(entry.partition.to_raw() as usize)?;
        let found = keydir.find(entry.hash);
        // A record that was marked as damaged and now reads well is healed by its copy.
        let old = found.iter().copied().find(|at| *at == here || *at == here.damaged());
        let live = old.is_some();
        // A start takes all records that do not collide for those of one key: see `collisions`.
        let superseded = !entry.collides && found.iter().any(|at| !at.marks().collides);
        let carried = entry.tombstone
            && !superseded
            && predecessor_possible(tables.segments, slot, entry.order);
        (live || carried).then_some(old)
    }

    fn keep(&mut self, entry: IndexEntry, old: Option<Location>, view: RecordView<'_>) {
        let start = self.arena.len();
        self.arena.extend_from_slice(view.key);
        self.arena.extend_from_slice(view.value);
        self.by_partition.entry(entry.partition).or_default().push(Kept {
            entry,
            old,
            start,
            key_length: view.header.key_length,
            value_length: view.header.value_length,
            new_offset: 0,
        });
    }

    fn next_write(&mut self) -> Next {
        if self.next().is_some() {
            let offset = u64::from(self.offset);
            let bytes = self.build_batch();
            return Next::Do(Bulk::Write { file: self.temporaries[0], offset, bytes });
        }
        if self.is_empty() {
            self.phase = Phase::Swapping;
            return Next::Swap;
        }
        let mut script = self.finishing_script();
        let first = script.next_operation().expect("the list is not empty");
        self.phase = Phase::Finishing(script);
        Next::Do(first)
    }

    /// What is to be written or swapped next.
    fn next(&self) -> Option<&Kept> {
        self.kept.get(self.position.0)?.get(self.position.1)
    }

    /// The same, as its list and its place in that; the one behind it is next then.
    fn take_next(&mut self) -> Option<(usize, usize)> {
        self.next()?;
        let (list, at) = self.position;
        let is_last = at + 1 == self.kept[list].len();
        self.position = if is_last { (list + 1, 0) } else { (list, at + 1) };
        Some((list, at))
    }

    /// The next batch of the copy; notes where each record stands in it.
    fn build_batch(&mut self) -> Vec<u8> {
        let first = self.next().expect("something is left").entry;
        let least = BATCH_HEADER_BYTES + first.length as usize;
        let capacity = OUTPUT_BATCH_BYTES.max(least).next_multiple_of(PAGE_BYTES);
        let mut buffer = AlignedBuffer::with_capacity(capacity);
        buffer.extend(&[0; BATCH_HEADER_BYTES]);
        let mut records = 0;
        while let Some(kept) = self.next()
            && kept.entry.length as usize <= buffer.remaining()
        {
            let (list, at) = self.take_next().expect("there is one");
            self.write_record(list, at, &mut buffer);
            records += 1;
        }
        self.batches += 1;
        let header = BatchHeader {
            epoch: 0,
            number: self.batches,
            synced_upto: 0,
            first_order: first.order,
            length: buffer.len() as u32,
            records,
            seal: false,
        };
        header.write(&mut buffer, self.output, self.offset);
        buffer.pad_to(PAGE_BYTES);
        self.offset += buffer.len() as u32;
        buffer.to_vec()
    }

    fn write_record(&mut self, list: usize, at: usize, buffer: &mut AlignedBuffer) {
        let kept = &mut self.kept[list][at];
        kept.new_offset = self.offset + buffer.len() as u32;
        let key_end = kept.start + kept.key_length as usize;
        let record = NewRecord {
            order: kept.entry.order,
            hash: kept.entry.hash,
            partition: kept.entry.partition,
            tombstone: kept.entry.tombstone,
            collides: kept.entry.collides,
            key: &self.arena[kept.start..key_end],
            value: &self.arena[key_end..key_end + kept.value_length as usize],
        };
        record::write(buffer, self.output, kept.new_offset, &record);
        self.lowest_order = self.lowest_order.min(kept.entry.order);
        let length = u64::from(location(SegmentSlot(0), &kept.entry).counted_length());
        self.record_bytes += length;
        if kept.old.is_none() {
            let (bytes, lowest) = self.carried;
            self.carried = (bytes + length, lowest.min(kept.entry.order));
        }
        self.index.push(IndexEntry { offset: kept.new_offset, ..kept.entry });
    }

    /// First page, sync, keydir file, sync, then both names and the directory: the copy is whole
    /// before it has its name.
    fn finishing_script(&mut self) -> Script {
        let compacted = CompactedSegment {
            cleaned_at: self.cleaned_at,
            batches: self.batches,
            lowest_order: self.lowest_order,
        };
        let header = SegmentHeader { segment: self.output, epoch: 0, compacted: Some(compacted) };
        let index = std::mem::take(&mut self.index).finish(&IndexHeader {
            segment: self.output,
            epoch: 0,
            last_batch: self.batches,
            cleaned_at: self.cleaned_at,
            lowest_order: self.lowest_order,
            segment_bytes: self.offset,
        });
        let [data, keydir] = self.temporaries;
        let mut script = Script::new([
            Bulk::Write { file: data, offset: 0, bytes: header.to_page() },
            Bulk::Sync { file: data },
        ]);
        script.append(Script::write_and_rename(File::Index(self.output), keydir, index));
        script.push(Bulk::Rename { from: data, to: File::Segment(self.output) });
        script.push(Bulk::SyncDirectory { log: self.output.log });
        script
    }

    fn output_segment(&self) -> Segment {
        let mut segment = Segment::new(self.output, self.offset, 0, Stage::Indexed);
        segment.last_batch = self.batches;
        segment.cleaned_at = self.cleaned_at;
        segment.record_bytes = self.record_bytes;
        (segment.carried_bytes, segment.lowest_carried) = self.carried;
        segment.lowest_order = self.lowest_order;
        segment
    }
}

/// Second look: the copy counts if the keydir still points to the original.
fn swap_one(kept: &Kept, output: SegmentSlot, tables: &mut Tables<'_>) {
    let Some(old) = kept.old else { return };
    let new = location(output, &IndexEntry { offset: kept.new_offset, ..kept.entry });
    let keydir = &mut tables.keydirs[kept.entry.partition.to_raw() as usize];
    // It may have been found damaged since: then the copy, which was checked, heals it.
    if keydir.replace(kept.entry.hash, old, new)
        || keydir.replace(kept.entry.hash, old.damaged(), new)
    {
        tables.segments.bury(old, old.counted_length());
        tables.segments.enliven(new, new.counted_length());
    }
}

/// Where the keydir points for a record.
pub fn location(slot: SegmentSlot, entry: &IndexEntry) -> Location {
    let marks = Marks { tombstone: entry.tombstone, damaged: false, collides: entry.collides };
    Location::new(slot, entry.offset, entry.length as usize, marks)
}

/// Whether a segment other than `except` may hold a dead record older than `order`.
fn predecessor_possible(segments: &Segments, except: SegmentSlot, order: Order) -> bool {
    segments.iter().any(|(slot, segment)| {
        slot != except
            && segment.lowest_order < order
            && segment.cleaned_at < order
            && (segment.dead_bytes() > 0 || segment.quarantined)
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::storage::segments::Image;

    const OWN: LogId = LogId::new(1);
    const BYTES: u32 = 1 << 20;

    /// Batch 31 ended the first segment, 32 never reached the disk, 33 stands in the third and says
    /// that 31 is synced: without 31 nothing would tell a start that it was there and may go.
    #[test]
    fn the_segment_of_the_last_synced_batch_stays() {
        let segments = of_garbage(&[(1, 30), (1, 31), (1, 33)]);
        assert_eq!(victims(&segments, (1, 31)), [1]);
        assert_eq!(victims(&segments, (1, 33)), [1, 2], "31 is not the last any more");
        assert_eq!(victims(&segments, (2, 1)), [1, 2, 3], "the epoch is over");
        assert_eq!(victims(&segments, (1, 0)), [] as [u32; 0]);
    }

    /// What compaction wrote has no place in the order of batches: it may always go.
    #[test]
    fn a_copy_is_no_evidence() {
        let segments = of_garbage(&[(0, 99), (1, 3)]);
        assert_eq!(victims(&segments, (1, 3)), [1]);
    }

    #[test]
    fn what_is_not_complete_or_is_quarantined_stays() {
        let mut segments = of_garbage(&[(1, 1), (1, 2), (1, 3), (1, 4)]);
        segments.get_mut(slot(&segments, 1)).quarantined = true;
        segments.get_mut(slot(&segments, 2)).stage = Stage::Synced;
        segments.get_mut(slot(&segments, 3)).live_bytes = u64::from(BYTES);
        assert_eq!(victims(&segments, (2, 0)), [4]);
    }

    /// Beside a bad segment, which may hold what the tombstones shadow for ever, a segment of them
    /// alone was copied without end. Once the bad one is gone, it is garbage.
    #[test]
    fn what_must_be_carried_is_copied_again_only_when_some_of_it_may_go() {
        let mut segments = of_garbage(&[(1, 1), (0, 1), (0, 1), (0, 1)]);
        let bad = slot(&segments, 1);
        (segments.get_mut(bad).quarantined, segments.get_mut(bad).lowest_order) = (true, Order(5));
        for (number, lowest) in [(2, 7), (3, 6), (4, 8)] {
            let carrier = slot(&segments, number);
            let segment = segments.get_mut(carrier);
            (segment.record_bytes, segment.carried_bytes) = (1000, 1000);
            (segment.lowest_order, segment.lowest_carried) = (Order(lowest), Order(lowest));
            (segment.file_bytes, segment.cleaned_at) = (2 * PAGE_BYTES as u32, Order(9));
        }
        assert_eq!(victims(&segments, (9, 0)), [2, 3, 4], "together they take fewer pages");
        for number in [3, 4] {
            segments.remove(slot(&segments, number));
        }
        assert_eq!(victims(&segments, (9, 0)), [0; 0], "alone it is as small as can be");
        segments.get_mut(slot(&segments, 2)).lowest_carried = Order(4);
        assert_eq!(victims(&segments, (9, 0)), [2], "all that is bad is younger");
        segments.get_mut(slot(&segments, 2)).lowest_carried = Order(7);
        segments.remove(bad);
        assert_eq!(victims(&segments, (9, 0)), [2]);
    }

    /// They are held back by garbage that alone would not be worth a compaction.
    #[test]
    fn what_must_be_carried_is_a_reason_to_look_for_what_holds_it_back() {
        let mut segments = of_garbage(&[(1, 1), (0, 1)]);
        let (holder, carrier) = (slot(&segments, 1), slot(&segments, 2));
        let bytes = u64::from(BYTES);
        let segment = segments.get_mut(holder);
        (segment.file_bytes, segment.record_bytes, segment.lowest_order) =
            (BYTES / 4, 100, Order(1));
        let segment = segments.get_mut(carrier);
        (segment.record_bytes, segment.carried_bytes) = (bytes * 15 / 16, bytes * 15 / 16);
        (segment.lowest_carried, segment.cleaned_at) = (Order(2), Order(9));
        assert_eq!(victims(&segments, (9, 0)), [1]);
        segments.remove(holder);
        assert_eq!(victims(&segments, (9, 0)), [2], "nothing holds it back now");
    }

    /// Its image went, because another segment was read more: the rest comes from the disk.
    #[test]
    fn a_victim_may_leave_memory_in_the_middle() {
        let id = SegmentId { log: OWN, number: 1 };
        let mut image = Image::default();
        let mut file = vec![0; PAGE_BYTES];
        for (number, at) in (1..).zip([1, 2, 3].map(|pages| pages * PAGE_BYTES as u32)) {
            let batch = one_record(id, number, at);
            file.extend_from_slice(&batch);
            image.push(at, Arc::new(batch));
        }
        for kept_pieces in 0..=4 {
            let (mut segments, mut keydirs) = (Segments::default(), vec![Keydir::default()]);
            let mut segment = Segment::new(id, file.len() as u32, 1, Stage::Indexed);
            segment.last_batch = 3;
            let length = record::record_length(1, 100);
            segment.record_bytes = 3 * length as u64;
            segment.image = Some(image.clone());
            let slot = segments.add(segment);
            // The second record was superseded.
            for (hash, at) in [(1, 1), (3, 3)] {
                let offset = at * PAGE_BYTES as u32 + BATCH_HEADER_BYTES as u32;
                let at = Location::new(slot, offset, length, Marks::default());
                keydirs[0].insert(hash, at, Order(hash));
            }
            let (output, synced) = (SegmentId { number: 2, ..id }, Order(3));
            let temporaries = [1, 2].map(|number| File::Temporary { log: OWN, number });
            let mut compaction = Compaction::new(
                vec![slot],
                &segments,
                BYTES,
                output,
                temporaries,
                synced,
                Vec::new(),
            );
            let mut pieces = 0;
            while compaction.reading().is_some() {
                if pieces == kept_pieces {
                    segments.get_mut(slot).image = None;
                }
                pieces += 1;
                let piece = compaction.piece_in_memory(&segments);
                assert_eq!(piece.is_some(), pieces <= kept_pieces);
                let mut tables =
                    Tables { keydirs: &mut keydirs, segments: &mut segments, owned: &[] };
                let good = match piece {
                    Some(piece) => compaction.read_image(&piece, &mut tables),
                    None => {
                        let Next::Do(Bulk::Read { offset, .. }) = compaction.next_step() else {
                            panic!("it reads");
                        };
                        compaction.read(&file[offset as usize..], &mut tables)
                    }
                };
                assert!(good, "{kept_pieces} pieces in memory");
            }
            let kept: Vec<u64> = compaction.kept.iter().flatten().map(|it| it.entry.hash).collect();
            assert_eq!(kept, [1, 3], "{kept_pieces} pieces in memory");
        }
    }

    /// A batch with one record, whose hash is the batch's number.
    fn one_record(segment: SegmentId, number: u64, offset: u32) -> AlignedBuffer {
        let mut batch = AlignedBuffer::with_capacity(PAGE_BYTES);
        batch.extend(&[0; BATCH_HEADER_BYTES]);
        let record = NewRecord {
            order: Order(number),
            hash: number,
            partition: PartitionId::new(0),
            tombstone: false,
            collides: false,
            key: b"k",
            value: &[number as u8; 100],
        };
        record::write(&mut batch, segment, offset + BATCH_HEADER_BYTES as u32, &record);
        let header = BatchHeader {
            epoch: 1,
            number,
            synced_upto: 0,
            first_order: Order(number),
            length: batch.len() as u32,
            records: 1,
            seal: false,
        };
        header.write(&mut batch, segment, offset);
        batch.pad_to(PAGE_BYTES);
        batch
    }

    /// Segments of garbage alone, of these epochs and with these last batches.
    fn of_garbage(ends: &[(u64, u64)]) -> Segments {
        let mut segments = Segments::default();
        for (number, (epoch, last_batch)) in (1..).zip(ends) {
            let id = SegmentId { log: OWN, number };
            let mut segment = Segment::new(id, BYTES, *epoch, Stage::Indexed);
            segment.last_batch = *last_batch;
            segments.add(segment);
        }
        segments
    }

    fn slot(segments: &Segments, number: u32) -> SegmentSlot {
        segments.slot(SegmentId { log: OWN, number }).expect("it was added")
    }

    fn victims(segments: &Segments, last_synced: (u64, u64)) -> Vec<u32> {
        let chosen = choose_victims(segments, OWN, last_synced, 40, BYTES, false);
        chosen.into_iter().map(|slot| segments.get(slot).id.number).collect()
    }
}
