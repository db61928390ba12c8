//! Keydir files: where the records of a complete segment are, so that a start reads no values.
//!
//! # Layout (version 1, little-endian)
//!
//! | offset | bytes | field                                                              |
//! |-------:|------:|--------------------------------------------------------------------|
//! |      0 |     8 | "StatorIX"                                                         |
//! |      8 |     4 | CRC-32C of the place, then of the 60 bytes after this field           |
//! |     12 |     4 | CRC-32C of all entries                                               |
//! |     16 |     8 | log id, segment number                                             |
//! |     24 |     8 | log epoch of the segment; 0: compacted                             |
//! |     32 |     8 | number of its last batch                                           |
//! |     40 |     8 | cleaned at, of a compacted one                                     |
//! |     48 |     8 | lowest order                                                       |
//! |     56 |     8 | entries                                                            |
//! |     64 |     4 | segment length, in bytes                                           |
//! |     68 |     4 | version: 1                                                         |
//! |     72 |     – | entries of 32 bytes: order 8, hash 8, offset 4, length 4, partition 2, |
//! |        |       | marks 1 (as in a record), five zeros                                 |
//!
//! A keydir file that is missing or bad costs time, never data: the segment is read instead.

use crate::base::checksum;
use crate::base::id::PartitionId;
use crate::base::id::SegmentId;
use crate::storage::record::Order;
use crate::storage::record::RecordHeader;
use crate::storage::record::place_seed;
use crate::storage::record::u32_at;
use crate::storage::record::u64_at;

/// One entry, in bytes.
pub const INDEX_ENTRY_BYTES: usize = 32;

const HEADER_BYTES: usize = 72;
const MAGIC: &[u8; 8] = b"StatorIX";
const VERSION: u32 = 1;

/// How long a piece of a keydir file is that is made of several, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

const TOMBSTONE: u8 = 1;
const COLLIDES: u8 = 2;

/// What a start must know of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IndexEntry {
    /// When the record was written.
    pub order: Order,
    /// The hash of its key.
    pub hash: u64,
    /// Where it begins in its segment.
    pub offset: u32,
    /// Its length with padding, in bytes.
    pub length: u32,
    /// The partition of its key.
    pub partition: PartitionId,
    /// Whether it says that the key is deleted.
    pub tombstone: bool,
    /// Whether another key of the same hash was there when it was written.
    pub collides: bool,
}

impl IndexEntry {
    /// The entry of a record that stands at `offset`.
    pub fn of(header: &RecordHeader, offset: u32) -> Self {
        Self {
            order: header.order,
            hash: header.hash,
            offset,
            length: header.record_length() as u32,
            partition: header.partition,
            tombstone: header.tombstone,
            collides: header.collides,
        }
    }

    fn to_bytes(self) -> [u8; INDEX_ENTRY_BYTES] {
        let mut bytes = [0; INDEX_ENTRY_BYTES];
        bytes[0..8].copy_from_slice(&self.order.0.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.hash.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.offset.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.partition.to_raw().to_le_bytes());
        bytes[26] =
            if self.tombstone { TOMBSTONE } else { 0 } | if self.collides { COLLIDES } else { 0 };
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        Self {
            order: Order(u64_at(bytes, 0)),
            hash: u64_at(bytes, 8),
            offset: u32_at(bytes, 16),
            length: u32_at(bytes, 20),
            partition: PartitionId::new(u16::from_le_bytes([bytes[24], bytes[25]])),
            tombstone: bytes[26] & TOMBSTONE != 0,
            collides: bytes[26] & COLLIDES != 0,
        }
    }
}

/// What a keydir file says of its segment as a whole.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IndexHeader {
    /// Which segment.
    pub segment: SegmentId,
    /// Its log epoch; 0 for one written by compaction.
    pub epoch: u64,
    /// The number of its last batch in that epoch.
    pub last_batch: u64,
    /// Of one written by compaction: see `compaction`.
    pub cleaned_at: Order,
    /// The lowest order of its records.
    pub lowest_order: Order,
    /// The length of its file, in bytes.
    pub segment_bytes: u32,
}

/// The keydir file of a segment, made as its records are appended: to finish it is no long turn.
#[derive(Debug, Default)]
pub struct IndexBuilder {
    /// The file so far, the first with room for the header. One long buffer would be copied into
    /// fresh memory each time that it grows, which took up to 15 ms.
    pieces: Vec<Vec<u8>>,
    /// The checksum of the entries.
    sum: u32,
}

impl IndexBuilder {
    /// Adds a record.
    pub fn push(&mut self, entry: IndexEntry) {
        let bytes = entry.to_bytes();
        self.sum = checksum::extend(self.sum, &bytes);
        self.piece().extend_from_slice(&bytes);
    }

    /// The whole keydir file, in pieces that follow one another.
    pub fn finish(mut self, header: &IndexHeader) -> Vec<Vec<u8>> {
        if self.pieces.is_empty() {
            self.piece();
        }
        let length: usize = self.pieces.iter().map(Vec::len).sum();
        let count = ((length - HEADER_BYTES) / INDEX_ENTRY_BYTES) as u64;
        let head = &mut self.pieces[0][..HEADER_BYTES];
        head[..8].copy_from_slice(MAGIC);
        head[12..16].copy_from_slice(&self.sum.to_le_bytes());
        head[16..20].copy_from_slice(&header.segment.log.to_raw().to_le_bytes());
        head[20..24].copy_from_slice(&header.segment.number.to_le_bytes());
        head[24..32].copy_from_slice(&header.epoch.to_le_bytes());
        head[32..40].copy_from_slice(&header.last_batch.to_le_bytes());
        head[40..48].copy_from_slice(&header.cleaned_at.0.to_le_bytes());
        head[48..56].copy_from_slice(&header.lowest_order.0.to_le_bytes());
        head[56..64].copy_from_slice(&count.to_le_bytes());
        head[64..68].copy_from_slice(&header.segment_bytes.to_le_bytes());
        head[68..72].copy_from_slice(&VERSION.to_le_bytes());
        let sum = checksum::extend(place_seed(header.segment, 0), &head[12..]);
        head[8..12].copy_from_slice(&sum.to_le_bytes());
        self.pieces
    }

    /// The piece that has room for one more entry.
    fn piece(&mut self) -> &mut Vec<u8> {
        let full = |piece: &Vec<u8>| piece.len() + INDEX_ENTRY_BYTES > PIECE_BYTES;
        if self.pieces.last().is_none_or(full) {
            self.pieces.push(match self.pieces.is_empty() {
                true => vec![0; HEADER_BYTES],
                false => Vec::with_capacity(PIECE_BYTES),
            });
        }
        self.pieces.last_mut().expect("there is one now")
    }
}

/// Reads a whole keydir file of `segment`. `None`: it is bad, and the segment must be read.
pub fn read(
    file: &[u8],
    segment: SegmentId,
) -> Option<(IndexHeader, impl Iterator<Item = IndexEntry> + '_)> {
    let (head, entries) = file.split_at_checked(HEADER_BYTES)?;
    let sum = checksum::extend(place_seed(segment, 0), &head[12..]);
    let good = head[..8] == *MAGIC
        && u32_at(head, 8) == sum
        && u32_at(head, 68) == VERSION
        && u64_at(head, 56).checked_mul(INDEX_ENTRY_BYTES as u64) == Some(entries.len() as u64)
        && u32_at(head, 12) == checksum::checksum(entries);
    let header = IndexHeader {
        segment,
        epoch: u64_at(head, 24),
        last_batch: u64_at(head, 32),
        cleaned_at: Order(u64_at(head, 40)),
        lowest_order: Order(u64_at(head, 48)),
        segment_bytes: u32_at(head, 64),
    };
    good.then(|| (header, entries.chunks_exact(INDEX_ENTRY_BYTES).map(IndexEntry::from_bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::LogId;

    const HERE: SegmentId = SegmentId { log: LogId::new(1), number: 2 };

    #[test]
    fn a_file_survives_writing_and_every_flipped_bit_is_found() {
        let header = header(65_536);
        let entries: Vec<IndexEntry> = (0..3).map(entry).collect();
        let mut builder = IndexBuilder::default();
        entries.iter().for_each(|entry| builder.push(*entry));
        let mut file = builder.finish(&header).concat();

        let (read_header, read_entries) = read(&file, HERE).expect("it is good");
        assert_eq!(read_header, header);
        assert_eq!(read_entries.collect::<Vec<_>>(), entries);
        assert!(read(&file, SegmentId { number: 3, ..HERE }).is_none());
        assert!(read(&file[..file.len() - 1], HERE).is_none());
        for bit in 0..file.len() * 8 {
            file[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&file, HERE).is_none(), "bit {bit}");
            file[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn a_long_file_has_more_than_one_piece() {
        let header = header(1 << 25);
        let count = 3 * PIECE_BYTES / INDEX_ENTRY_BYTES;
        let entries: Vec<IndexEntry> = (0..count as u32).map(entry).collect();
        let mut builder = IndexBuilder::default();
        entries.iter().for_each(|entry| builder.push(*entry));
        let pieces = builder.finish(&header);

        assert_eq!(pieces.len(), 4);
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        let file = pieces.concat();
        let (read_header, read_entries) = read(&file, HERE).expect("it is good");
        assert_eq!(read_header, header);
        assert!(read_entries.eq(entries));
    }

    fn header(segment_bytes: u32) -> IndexHeader {
        IndexHeader {
            segment: HERE,
            epoch: 4,
            last_batch: 9,
            cleaned_at: Order(0),
            lowest_order: Order(17),
            segment_bytes,
        }
    }

    fn entry(number: u32) -> IndexEntry {
        IndexEntry {
            order: Order(u64::from(number) + 17),
            hash: u64::from(number) << 40,
            offset: 4160 + number % 1000 * 64,
            length: 64,
            partition: PartitionId::new(number as u16),
            tombstone: number == 1,
            collides: number == 2,
        }
    }
}
