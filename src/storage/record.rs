//! The bytes of one record in the log.
//!
//! # Why two checksums
//!
//! A flipped bit in a value must not make us forget which key it belonged to: that key answers an
//! error, and all others go on. So the header, which names the key's hash, has a checksum of its
//! own. Both checksums are seeded with where the record stands (log, segment, offset): a block that
//! the disk put elsewhere, or an old one that it never overwrote, is caught like any other damage.
//!
//! # Layout (version 1, little-endian)
//!
//! | offset | bytes | field                                                               |
//! |-------:|------:|---------------------------------------------------------------------|
//! |      0 |     4 | CRC-32C of the place, then of the header after this field            |
//! |      4 |     4 | CRC-32C of the place, then of key and value                          |
//! |      8 |     8 | order: generation of shards (16 bits), sequence (48 bits)            |
//! |     16 |     8 | hash of the key                                                     |
//! |     24 |     4 | value length                                                        |
//! |     28 |     2 | key length                                                          |
//! |     30 |     2 | partition                                                           |
//! |     32 |     1 | marks: 1 tombstone, 2 collides with another key of the same hash     |
//! |     33 |     1 | version: 1                                                          |
//! |     34 |     6 | zero                                                                |
//! |     40 |     – | key, then value, then zeros up to a multiple of 16                   |
//!
//! # Invariants
//!
//! - A record never spans two batches.
//! - `order` grows along a log. A copy made by compaction keeps the order of its original, so that
//!   of two records of one key the one with the higher order is the newer, wherever they stand.

use crate::base::aligned::AlignedBuffer;
use crate::base::checksum;
use crate::base::id::PartitionId;
use crate::base::id::SegmentId;

/// Records begin at multiples of this, in bytes.
pub const RECORD_ALIGNMENT: usize = 16;

/// The fixed part of a record, before its key, in bytes.
pub const RECORD_HEADER_BYTES: usize = 40;

/// The shortest record: a key of one byte.
pub const RECORD_BYTES_MIN: usize = (RECORD_HEADER_BYTES + 1).next_multiple_of(RECORD_ALIGNMENT);

const VERSION: u8 = 1;
const TOMBSTONE: u8 = 1;
const COLLIDES: u8 = 2;

/// When a record was written: comparable over all logs that a shard reads.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Order(pub u64);

/// A log gives out no number above this.
pub const SEQUENCE_MAX: u64 = (1 << 48) - 1;

impl Order {
    /// The order of a sequence number within a generation of shards.
    ///
    /// # Panics
    ///
    /// If a shard wrote more than 2^48 records.
    pub fn new(generation: u16, sequence: u64) -> Self {
        assert!(sequence <= SEQUENCE_MAX, "2^48 records in one log");
        Self(u64::from(generation) << 48 | sequence)
    }

    /// The highest order that so many records after this one can have.
    #[must_use]
    pub fn after(self, records: u64) -> Self {
        let last = self.sequence().saturating_add(records).min(SEQUENCE_MAX);
        Self::new(self.generation(), last)
    }

    /// The number of the record in its log.
    pub fn sequence(self) -> u64 {
        self.0 & ((1 << 48) - 1)
    }

    /// How many times the shards had been laid out anew when it was written.
    pub fn generation(self) -> u16 {
        (self.0 >> 48) as u16
    }
}

/// Everything that a record says before its key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordHeader {
    /// When it was written.
    pub order: Order,
    /// The hash of its key.
    pub hash: u64,
    /// The partition that its key belongs to.
    pub partition: PartitionId,
    /// In bytes, at least 1.
    pub key_length: u16,
    /// In bytes.
    pub value_length: u32,
    /// Whether it says that the key is deleted.
    pub tombstone: bool,
    /// Whether another key of the same hash was there when it was written.
    pub collides: bool,
    body_checksum: u32,
}

impl RecordHeader {
    /// The record's length with its padding, in bytes.
    pub fn record_length(&self) -> usize {
        record_length(self.key_length as usize, self.value_length as usize)
    }
}

/// A record whose checksums were right, or that never left memory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RecordView<'a> {
    /// What it says of itself.
    pub header: RecordHeader,
    /// Its key.
    pub key: &'a [u8],
    /// Its value: for the log only bytes.
    pub value: &'a [u8],
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RecordDamage {
    /// The header is bad: whose record it was is unknown.
    Header,
    /// Key or value are bad; whose record it was is known.
    Body(RecordHeader),
}

/// A record's length with its padding, in bytes.
pub fn record_length(key_length: usize, value_length: usize) -> usize {
    (RECORD_HEADER_BYTES + key_length + value_length).next_multiple_of(RECORD_ALIGNMENT)
}

/// What to write as a record.
#[derive(Clone, Copy, Debug)]
pub struct NewRecord<'a> {
    /// When it is written.
    pub order: Order,
    /// The hash of its key.
    pub hash: u64,
    /// The partition of its key.
    pub partition: PartitionId,
    /// Whether it says that the key is deleted.
    pub tombstone: bool,
    /// Whether another key of the same hash is in the keydir.
    pub collides: bool,
    /// At most [`crate::base::limits::KEY_BYTES_MAX`] bytes.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

/// Appends a record to `buffer`, which will be written to `segment` so that the record stands at
/// `offset` there.
///
/// # Panics
///
/// If it does not fit, or the buffer's end is not aligned.
pub fn write(buffer: &mut AlignedBuffer, segment: SegmentId, offset: u32, record: &NewRecord<'_>) {
    assert!(buffer.len().is_multiple_of(RECORD_ALIGNMENT), "records are aligned");
    let start = buffer.len();
    buffer.extend(&[0; RECORD_HEADER_BYTES]);
    buffer.extend(record.key);
    buffer.extend(record.value);
    let end = buffer.len();
    buffer.pad_to(RECORD_ALIGNMENT);

    // One run of bytes instead of two, and an aligned one: what is short has its cost at both ends.
    let (header, body) = buffer[start..end].split_at_mut(RECORD_HEADER_BYTES);
    let seed = place_seed(segment, offset);
    let sum = checksum::extend(seed, body);
    header[4..8].copy_from_slice(&sum.to_le_bytes());
    header[8..16].copy_from_slice(&record.order.0.to_le_bytes());
    header[16..24].copy_from_slice(&record.hash.to_le_bytes());
    header[24..28].copy_from_slice(&(record.value.len() as u32).to_le_bytes());
    header[28..30].copy_from_slice(&(record.key.len() as u16).to_le_bytes());
    header[30..32].copy_from_slice(&record.partition.to_raw().to_le_bytes());
    header[32] =
        if record.tombstone { TOMBSTONE } else { 0 } | if record.collides { COLLIDES } else { 0 };
    header[33] = VERSION;
    let sum = checksum::extend(seed, &header[4..]);
    header[0..4].copy_from_slice(&sum.to_le_bytes());
}

/// Reads the header of the record that stands at `offset` of `segment`, and checks it.
/// `None`: there is no such record there.
pub fn read_header(bytes: &[u8], segment: SegmentId, offset: u32) -> Option<RecordHeader> {
    let header = parse_header(bytes)?;
    let stored = u32_at(bytes, 0);
    let sum = checksum::extend(place_seed(segment, offset), &bytes[4..RECORD_HEADER_BYTES]);
    (stored == sum && bytes[33] == VERSION && header.key_length > 0).then_some(header)
}

/// Reads the record that stands at `offset` of `segment`, and checks all of it.
///
/// # Errors
///
/// [`RecordDamage`], also when `bytes` end before the record does.
pub fn read(bytes: &[u8], segment: SegmentId, offset: u32) -> Result<RecordView<'_>, RecordDamage> {
    let header = read_header(bytes, segment, offset).ok_or(RecordDamage::Header)?;
    let view = slice_body(bytes, header).ok_or(RecordDamage::Body(header))?;
    let seed = place_seed(segment, offset);
    let body = checksum::extend(checksum::extend(seed, view.key), view.value);
    if body == header.body_checksum { Ok(view) } else { Err(RecordDamage::Body(header)) }
}

/// Reads a record that never left this process's memory: nothing is checked.
/// `None` if `bytes` are too short, which is a bug of the caller.
pub fn view_unchecked(bytes: &[u8]) -> Option<RecordView<'_>> {
    slice_body(bytes, parse_header(bytes)?)
}

fn slice_body(bytes: &[u8], header: RecordHeader) -> Option<RecordView<'_>> {
    let key_end = RECORD_HEADER_BYTES + header.key_length as usize;
    let value_end = key_end + header.value_length as usize;
    let body = bytes.get(..value_end)?;
    Some(RecordView { header, key: &body[RECORD_HEADER_BYTES..key_end], value: &body[key_end..] })
}

fn parse_header(bytes: &[u8]) -> Option<RecordHeader> {
    let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
    Some(RecordHeader {
        order: Order(u64_at(bytes, 8)),
        hash: u64_at(bytes, 16),
        partition: PartitionId::new(u16::from_le_bytes([bytes[30], bytes[31]])),
        key_length: u16::from_le_bytes([bytes[28], bytes[29]]),
        value_length: u32_at(bytes, 24),
        tombstone: bytes[32] & TOMBSTONE != 0,
        collides: bytes[32] & COLLIDES != 0,
        body_checksum: u32_at(bytes, 4),
    })
}

/// The checksum of a place: log, segment and offset.
pub(in crate::storage) fn place_seed(segment: SegmentId, offset: u32) -> u32 {
    let mut place = [0; 12];
    place[0..4].copy_from_slice(&segment.log.to_raw().to_le_bytes());
    place[4..8].copy_from_slice(&segment.number.to_le_bytes());
    place[8..12].copy_from_slice(&offset.to_le_bytes());
    checksum::checksum(&place)
}

/// A little-endian number in `bytes`, which are known to be long enough.
pub(in crate::storage) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

/// A little-endian number in `bytes`, which are known to be long enough.
pub(in crate::storage) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::LogId;

    const HERE: SegmentId = SegmentId { log: LogId::new(3), number: 7 };

    #[test]
    fn what_was_written_is_read_at_its_place_and_nowhere_else() {
        let buffer = written();
        let view = read(&buffer, HERE, 4096).expect("it was written for this place");
        assert_eq!((view.key, view.value), (&b"key"[..], &b"value"[..]));
        assert_eq!(view.header.record_length(), buffer.len());
        assert!(view.header.tombstone);
        assert_eq!(view_unchecked(&buffer), Some(view));

        let elsewhere = SegmentId { number: 8, ..HERE };
        assert_eq!(read(&buffer, HERE, 4112), Err(RecordDamage::Header), "another offset");
        assert_eq!(read(&buffer, elsewhere, 4096), Err(RecordDamage::Header), "another segment");
    }

    #[test]
    fn every_flipped_bit_is_found_and_a_flipped_value_still_names_its_key() {
        let good = written();
        let end = RECORD_HEADER_BYTES + 8;
        for bit in 0..end * 8 {
            let mut bytes = good.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match read(&bytes, HERE, 4096) {
                Ok(_) => panic!("bit {bit} was flipped and nobody noticed"),
                Err(RecordDamage::Body(header)) => {
                    assert!(
                        bit / 8 >= RECORD_HEADER_BYTES,
                        "bit {bit}: a bad header is not believed"
                    );
                    assert_eq!(header.hash, 42);
                }
                Err(RecordDamage::Header) => assert!(bit / 8 < RECORD_HEADER_BYTES, "bit {bit}"),
            }
        }
    }

    #[test]
    fn a_cut_record_is_damage_and_no_panic() {
        let buffer = written();
        for length in 0..RECORD_HEADER_BYTES + 8 {
            assert!(read(&buffer[..length], HERE, 4096).is_err());
        }
    }

    fn written() -> AlignedBuffer {
        let mut buffer = AlignedBuffer::with_capacity(4096);
        let record = NewRecord {
            order: Order::new(2, 99),
            hash: 42,
            partition: PartitionId::new(5),
            tombstone: true,
            collides: false,
            key: b"key",
            value: b"value",
        };
        write(&mut buffer, HERE, 4096, &record);
        buffer
    }
}
