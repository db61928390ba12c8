//! The bytes around records: the first page of a segment, and the header of a batch.
//!
//! # Why batches say how far the log was synced
//!
//! After a crash the end of the log may be torn, and a disk may also have lost a block in the
//! middle. The two look alike, and must not be treated alike: the torn end was never acknowledged
//! and is cut off, while a block that was once synced is *damage*, and records behind it are good.
//! Each batch therefore carries `synced_upto`: the highest batch that was known to be synced when
//! this one was built. A bad batch that any good one calls synced is damage.
//!
//! # Layout (version 1, little-endian)
//!
//! First page of a segment, written and synced before the segment has its name:
//!
//! | offset | bytes | field                                                            |
//! |-------:|------:|------------------------------------------------------------------|
//! |      0 |     8 | "StatorSG"                                                       |
//! |      8 |     4 | CRC-32C of the place, then of the 44 bytes after this field        |
//! |     12 |     1 | version: 1                                                       |
//! |     13 |     1 | 0: written by appends; 1: by compaction, complete as it stands     |
//! |     14 |     2 | zero                                                             |
//! |     16 |     8 | log id, segment number                                           |
//! |     24 |     8 | log epoch                                                        |
//! |     32 |     8 | cleaned at: an order; see `compaction`                           |
//! |     40 |     8 | batches in the segment, of a compacted one; else zero              |
//! |     48 |     8 | lowest order in the segment, of a compacted one; else zero         |
//!
//! Batch, at a multiple of the page size, padded to one:
//!
//! | offset | bytes | field                                                            |
//! |-------:|------:|------------------------------------------------------------------|
//! |      0 |     4 | "STB1"                                                           |
//! |      4 |     4 | CRC-32C of the place, then of the header after this field          |
//! |      8 |     8 | log epoch                                                        |
//! |     16 |     8 | number: counts the batches of the epoch, from 1                    |
//! |     24 |     8 | synced upto: the highest number known to be synced                 |
//! |     32 |     8 | order of the first record                                        |
//! |     40 |     4 | length with this header, without padding                         |
//! |     44 |     4 | records                                                          |
//! |     48 |     1 | 1: seal, the last batch of its segment                            |
//! |     49 |    15 | zero                                                             |
//! |     64 |     – | records                                                          |

use crate::base::aligned::PAGE_BYTES;
use crate::base::checksum;
use crate::base::id::SegmentId;
use crate::storage::record::Order;
use crate::storage::record::place_seed;
use crate::storage::record::u32_at;
use crate::storage::record::u64_at;

/// Before the first record of a batch, in bytes.
pub const BATCH_HEADER_BYTES: usize = 64;

/// Where the first batch of a segment stands, in bytes.
pub const FIRST_BATCH_OFFSET: u32 = PAGE_BYTES as u32;

const SEGMENT_MAGIC: &[u8; 8] = b"StatorSG";
const SEGMENT_VERSION: u8 = 1;
const BATCH_MAGIC: &[u8; 4] = b"STB1";
const SEAL: u8 = 1;

/// What the first page of a segment says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SegmentHeader {
    /// Which segment.
    pub segment: SegmentId,
    /// The log epoch in which it was prepared.
    pub epoch: u64,
    /// What only a segment written by compaction has.
    pub compacted: Option<CompactedSegment>,
}

/// What is known of a segment that compaction wrote, which is complete before it has its name.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct CompactedSegment {
    /// Every record in it was the newest of its key at this order.
    pub cleaned_at: Order,
    /// How many batches it has.
    pub batches: u64,
    /// The lowest order of its records.
    pub lowest_order: Order,
}

impl SegmentHeader {
    /// The first page.
    pub fn to_page(self) -> Vec<u8> {
        let mut page = vec![0; PAGE_BYTES];
        page[..8].copy_from_slice(SEGMENT_MAGIC);
        page[12] = SEGMENT_VERSION;
        page[16..20].copy_from_slice(&self.segment.log.to_raw().to_le_bytes());
        page[20..24].copy_from_slice(&self.segment.number.to_le_bytes());
        page[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        if let Some(compacted) = self.compacted {
            page[13] = 1;
            page[32..40].copy_from_slice(&compacted.cleaned_at.0.to_le_bytes());
            page[40..48].copy_from_slice(&compacted.batches.to_le_bytes());
            page[48..56].copy_from_slice(&compacted.lowest_order.0.to_le_bytes());
        }
        let sum = checksum::extend(place_seed(self.segment, 0), &page[12..56]);
        page[8..12].copy_from_slice(&sum.to_le_bytes());
        page
    }

    /// Reads the first page of `segment`. `None`: it is not that, or is damaged.
    pub fn from_page(page: &[u8], segment: SegmentId) -> Option<Self> {
        let page = page.get(..56)?;
        let sum = checksum::extend(place_seed(segment, 0), &page[12..56]);
        if page[..8] != *SEGMENT_MAGIC || u32_at(page, 8) != sum || page[12] != SEGMENT_VERSION {
            return None;
        }
        let compacted = (page[13] == 1).then(|| CompactedSegment {
            cleaned_at: Order(u64_at(page, 32)),
            batches: u64_at(page, 40),
            lowest_order: Order(u64_at(page, 48)),
        });
        Some(Self { segment, epoch: u64_at(page, 24), compacted })
    }
}

/// What the header of a batch says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BatchHeader {
    /// The log epoch that wrote it.
    pub epoch: u64,
    /// Its place among the batches of the epoch, from 1.
    pub number: u64,
    /// The highest number of the epoch known to be synced when this was built; 0: none.
    pub synced_upto: u64,
    /// The order of its first record; of what comes next, if it has none.
    pub first_order: Order,
    /// Its length with this header, without padding, in bytes.
    pub length: u32,
    /// How many records it has.
    pub records: u32,
    /// Whether it is the last of its segment.
    pub seal: bool,
}

impl BatchHeader {
    /// The length on disk: whole pages.
    pub fn padded_length(&self) -> u32 {
        self.length.next_multiple_of(PAGE_BYTES as u32)
    }

    /// Writes the header over the first bytes of a batch that stands at `offset` of `segment`.
    pub fn write(&self, batch: &mut [u8], segment: SegmentId, offset: u32) {
        let header = &mut batch[..BATCH_HEADER_BYTES];
        header.fill(0);
        header[0..4].copy_from_slice(BATCH_MAGIC);
        header[8..16].copy_from_slice(&self.epoch.to_le_bytes());
        header[16..24].copy_from_slice(&self.number.to_le_bytes());
        header[24..32].copy_from_slice(&self.synced_upto.to_le_bytes());
        header[32..40].copy_from_slice(&self.first_order.0.to_le_bytes());
        header[40..44].copy_from_slice(&self.length.to_le_bytes());
        header[44..48].copy_from_slice(&self.records.to_le_bytes());
        header[48] = if self.seal { SEAL } else { 0 };
        let sum = checksum::extend(place_seed(segment, offset), &header[8..]);
        header[4..8].copy_from_slice(&sum.to_le_bytes());
    }

    /// Reads the header of a batch at `offset` of `segment`. `None`: there is none.
    pub fn read(bytes: &[u8], segment: SegmentId, offset: u32) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER_BYTES)?;
        if bytes[..4] != *BATCH_MAGIC {
            return None;
        }
        let sum = checksum::extend(place_seed(segment, offset), &bytes[8..]);
        let header = Self {
            epoch: u64_at(bytes, 8),
            number: u64_at(bytes, 16),
            synced_upto: u64_at(bytes, 24),
            first_order: Order(u64_at(bytes, 32)),
            length: u32_at(bytes, 40),
            records: u32_at(bytes, 44),
            seal: bytes[48] == SEAL,
        };
        let possible =
            header.length as usize >= BATCH_HEADER_BYTES && header.synced_upto < header.number;
        (sum == u32_at(bytes, 4) && possible).then_some(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::LogId;

    const HERE: SegmentId = SegmentId { log: LogId::new(1), number: 2 };

    #[test]
    fn headers_survive_writing_and_every_flipped_bit_is_found() {
        let batch = BatchHeader {
            epoch: 3,
            number: 4,
            synced_upto: 2,
            first_order: Order::new(1, 77),
            length: 5000,
            records: 9,
            seal: true,
        };
        let mut bytes = vec![0; BATCH_HEADER_BYTES];
        batch.write(&mut bytes, HERE, 8192);
        assert_eq!(BatchHeader::read(&bytes, HERE, 8192), Some(batch));
        assert_eq!(BatchHeader::read(&bytes, HERE, 4096), None);
        assert_eq!(batch.padded_length(), 8192);
        for bit in 0..BATCH_HEADER_BYTES * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(BatchHeader::read(&bytes, HERE, 8192), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn the_first_page_says_whose_it_is() {
        let compacted = Some(CompactedSegment {
            cleaned_at: Order::new(0, 50),
            batches: 3,
            lowest_order: Order::new(0, 4),
        });
        for compacted in [None, compacted] {
            let header = SegmentHeader { segment: HERE, epoch: 6, compacted };
            let page = header.to_page();
            assert_eq!(SegmentHeader::from_page(&page, HERE), Some(header));
            let other = SegmentId { number: 3, ..HERE };
            assert_eq!(SegmentHeader::from_page(&page, other), None, "a recycled file's old page");
        }
    }
}
