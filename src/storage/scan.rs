//! Reads the bytes of a segment from front to back and says what is in it, good and bad.
//!
//! Pure: the caller brings the bytes in any pieces. Recovery, compaction and the offline check use
//! it alike, so that all three call the same things damage.
//!
//! Batches begin on pages. Behind a bad place the scan goes on page by page until it meets a good
//! batch again: only what is found there tells whether the bad place was the torn end.

use crate::base::aligned::PAGE_BYTES;
use crate::base::id::SegmentId;
use crate::storage::batch::BATCH_HEADER_BYTES;
use crate::storage::batch::BatchHeader;
use crate::storage::batch::FIRST_BATCH_OFFSET;
use crate::storage::batch::SegmentHeader;
use crate::storage::index_file::IndexEntry;
use crate::storage::record;
use crate::storage::record::RecordDamage;

/// A batch whose header is good.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ScannedBatch {
    /// Where it stands.
    pub offset: u32,
    /// What its header says.
    pub header: BatchHeader,
    /// Its good records, in order.
    pub records: Vec<IndexEntry>,
    /// Its records with a bad key or value but a good header.
    pub bad_records: Vec<IndexEntry>,
    /// Whether records of unknown keys are lost in it.
    pub lost_records: bool,
}

impl ScannedBatch {
    /// Whether every record of it is good.
    pub fn is_whole(&self) -> bool {
        self.bad_records.is_empty() && !self.lost_records
    }
}

/// What a whole segment holds.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ScannedSegment {
    /// The first page, if it is good.
    pub header: Option<SegmentHeader>,
    /// All batches with good headers, in the order of their offsets.
    pub batches: Vec<ScannedBatch>,
    /// Whether the disk did not give all of it: what is missing may have been synced.
    pub unreadable: bool,
}

/// A scan in progress.
#[derive(Debug)]
pub struct Scan {
    segment: SegmentId,
    segment_bytes: u32,
    /// Bytes from `position` on that do not make a whole batch yet.
    held: Vec<u8>,
    position: u32,
    found: ScannedSegment,
}

impl Scan {
    /// A scan of a segment whose file is `segment_bytes` long.
    pub fn new(segment: SegmentId, segment_bytes: u32) -> Self {
        let found = ScannedSegment::default();
        Self { segment, segment_bytes, held: Vec::new(), position: 0, found }
    }

    /// The same of what follows its first page.
    pub fn of_batches(segment: SegmentId, segment_bytes: u32) -> Self {
        Self { position: FIRST_BATCH_OFFSET, ..Self::new(segment, segment_bytes) }
    }

    /// Which segment is scanned.
    pub fn segment(&self) -> SegmentId {
        self.segment
    }

    /// The first page, if it was brought and is good.
    pub fn header(&self) -> Option<SegmentHeader> {
        self.found.header
    }

    /// The last batch with a good header so far.
    pub fn last_batch(&self) -> Option<&BatchHeader> {
        self.found.batches.last().map(|batch| &batch.header)
    }

    /// How many bytes were not brought yet.
    pub fn missing(&self) -> u32 {
        self.segment_bytes.saturating_sub(self.wanted())
    }

    /// Where the next bytes are wanted from.
    pub fn wanted(&self) -> u32 {
        self.position + self.held.len() as u32
    }

    /// Whether the whole file was brought.
    pub fn at_end(&self) -> bool {
        self.wanted() >= self.segment_bytes
    }

    /// Takes the next bytes of the file, which stand at [`Scan::wanted`]; `visit` sees each batch as
    /// it is met, with its bytes. An empty piece says that the file ended early.
    pub fn feed(&mut self, bytes: &[u8], mut visit: impl FnMut(&ScannedBatch, &[u8])) {
        if bytes.is_empty() {
            self.segment_bytes = self.wanted();
        }
        self.held.extend_from_slice(bytes);
        let mut used = 0;
        while used < self.held.len() {
            let Some(length) = self.step(used, &mut visit) else { break };
            used += length;
        }
        let used = used.min(self.held.len());
        self.held.drain(..used);
        self.position += used as u32;
    }

    /// So many bytes, whole batches, are known otherwise. None: that was the last of them.
    pub fn skip(&mut self, bytes: u32) {
        assert!(self.held.is_empty(), "it stands between batches");
        self.position = if bytes == 0 { self.segment_bytes } else { self.position + bytes };
    }

    /// The disk does not give the next piece. It counts as bad, and never as the torn end: for all
    /// that is known it was synced.
    pub fn skip_unreadable(&mut self, piece_bytes: u32) {
        self.found.unreadable = true;
        let missing = piece_bytes.min(self.missing());
        self.feed(&vec![0; missing as usize], |_, _| {});
    }

    /// What was found. Call it at the end.
    pub fn finish(self) -> ScannedSegment {
        self.found
    }

    /// Looks at the place `used` bytes into `held`, and tells how long it is. `None`: bring more.
    fn step(&mut self, used: usize, visit: &mut impl FnMut(&ScannedBatch, &[u8])) -> Option<usize> {
        let bytes = &self.held[used..];
        let offset = self.position + used as u32;
        let complete = self.wanted() >= self.segment_bytes;
        if bytes.len() < PAGE_BYTES && !complete {
            return None;
        }
        if offset < FIRST_BATCH_OFFSET {
            self.found.header = SegmentHeader::from_page(bytes, self.segment);
            return Some(PAGE_BYTES);
        }
        let header = BatchHeader::read(bytes, self.segment, offset);
        let Some(header) = header.filter(|header| self.may_have(header)) else {
            return Some(PAGE_BYTES);
        };
        if header.length > self.segment_bytes.saturating_sub(offset) && complete {
            // The file was cut within the batch: what is there is looked at.
            let batch = scan_batch(self.segment, offset, header, bytes);
            visit(&batch, bytes);
            self.found.batches.push(batch);
            return Some(bytes.len());
        }
        let length = header.padded_length() as usize;
        if bytes.len() < (header.length as usize) {
            return None;
        }
        let bytes = &bytes[..header.length as usize];
        let batch = scan_batch(self.segment, offset, header, bytes);
        visit(&batch, bytes);
        self.found.batches.push(batch);
        Some(length)
    }

    /// Whether a batch was written for the segment. Where the disk lost what was written, an older
    /// segment of the same number may show through, of an epoch that is over.
    fn may_have(&self, batch: &BatchHeader) -> bool {
        let epoch = |header: &SegmentHeader| header.compacted.map_or(header.epoch, |_| 0);
        self.found.header.as_ref().is_none_or(|header| epoch(header) == batch.epoch)
    }
}

/// The records of a batch at `offset` that never left this process's memory: nothing is checked.
pub fn entries_unchecked(batch: &[u8], offset: u32, records: u32) -> Vec<IndexEntry> {
    let mut at = BATCH_HEADER_BYTES;
    let next = |_| {
        let header = record::view_unchecked(batch.get(at..)?)?.header;
        let entry = IndexEntry::of(&header, offset + at as u32);
        at += entry.length as usize;
        Some(entry)
    };
    (0..records).map_while(next).collect()
}

fn scan_batch(segment: SegmentId, offset: u32, header: BatchHeader, bytes: &[u8]) -> ScannedBatch {
    let mut batch = ScannedBatch {
        offset,
        header,
        records: Vec::with_capacity((header.records as usize).min(bytes.len() / 40)),
        bad_records: Vec::new(),
        lost_records: false,
    };
    let mut at = BATCH_HEADER_BYTES;
    for _ in 0..header.records {
        let place = offset + at as u32;
        match record::read(bytes.get(at..).unwrap_or_default(), segment, place) {
            Ok(view) => {
                let entry = IndexEntry::of(&view.header, place);
                batch.records.push(entry);
                at += entry.length as usize;
            }
            Err(RecordDamage::Body(header)) => {
                let entry = IndexEntry::of(&header, place);
                batch.bad_records.push(entry);
                at += entry.length as usize;
            }
            Err(RecordDamage::Header) => {
                batch.lost_records = true;
                break;
            }
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::aligned::AlignedBuffer;
    use crate::base::id::LogId;
    use crate::storage::batch::CompactedSegment;
    use crate::storage::record::Order;

    const HERE: SegmentId = SegmentId { log: LogId::new(1), number: 3 };

    /// The disk lost the zeros that were written over the old file.
    #[test]
    fn a_batch_of_another_epoch_is_not_the_segments() {
        let compacted =
            CompactedSegment { cleaned_at: Order(0), batches: 1, lowest_order: Order(1) };
        for (epoch, compacted, of_batch, is_there) in [
            (7, None, 7, true),
            (7, None, 6, false),
            (7, None, 0, false),
            (0, Some(compacted), 0, true),
            (0, Some(compacted), 6, false),
        ] {
            let header = SegmentHeader { segment: HERE, epoch, compacted };
            let mut file = header.to_page();
            file.extend_from_slice(&empty_batch(of_batch));
            let mut scan = Scan::new(HERE, file.len() as u32);
            scan.feed(&file, |_, _| {});
            let found = scan.finish().batches.len();
            assert_eq!(found, usize::from(is_there), "{of_batch} in {epoch}");
        }
    }

    fn empty_batch(epoch: u64) -> AlignedBuffer {
        let mut batch = AlignedBuffer::with_capacity(PAGE_BYTES);
        batch.extend(&[0; BATCH_HEADER_BYTES]);
        let header = BatchHeader {
            epoch,
            number: 1,
            synced_upto: 0,
            first_order: Order(1),
            length: batch.len() as u32,
            records: 0,
            seal: false,
        };
        header.write(&mut batch, HERE, FIRST_BATCH_OFFSET);
        batch.pad_to(PAGE_BYTES);
        batch
    }
}
