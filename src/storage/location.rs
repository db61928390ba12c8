//! Where a record is, in 64 bits: what the keydir holds for each key.
//!
//! # Layout, from the highest bit
//!
//! | bits | field                                                                  |
//! |-----:|------------------------------------------------------------------------|
//! |   16 | slot: the segment's place in the shard's table of segments             |
//! |   24 | offset in the segment, in units of 16 bytes                             |
//! |   20 | length of the record, in units of 16 bytes; all ones: longer than that  |
//! |    4 | marks: tombstone, damaged, collides                                    |
//!
//! A length that does not fit costs such a record a second read, nothing else.

use std::fmt;

use crate::storage::record::RECORD_ALIGNMENT;

/// Segments are at most this long, so that an offset fits.
pub const SEGMENT_BYTES_MAX: u32 = 256 * 1024 * 1024;

const LENGTH_UNITS_MAX: u64 = (1 << 20) - 1;

/// A shard's own short name for a segment.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SegmentSlot(pub u16);

/// What is known of a record without reading it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Marks {
    /// The record says that the key is deleted.
    pub tombstone: bool,
    /// The record's bytes are known to be bad. It is quarantined, not missing.
    pub damaged: bool,
    /// When it was written, another key of the same hash was in the keydir.
    pub collides: bool,
}

/// Where a record is, how long it is, and its marks.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Location(u64);

impl Location {
    /// Packs a place.
    ///
    /// # Panics
    ///
    /// If offset or length are not aligned as records are, or the offset is beyond any segment.
    pub fn new(slot: SegmentSlot, offset: u32, length: usize, marks: Marks) -> Self {
        assert!(offset < SEGMENT_BYTES_MAX, "an offset within a segment");
        assert!((offset as usize).is_multiple_of(RECORD_ALIGNMENT), "records are aligned");
        assert!(length.is_multiple_of(RECORD_ALIGNMENT), "records are padded");
        let units = ((length / RECORD_ALIGNMENT) as u64).min(LENGTH_UNITS_MAX);
        let bits = u64::from(marks.tombstone)
            | u64::from(marks.damaged) << 1
            | u64::from(marks.collides) << 2;
        Self(
            u64::from(slot.0) << 48
                | u64::from(offset / RECORD_ALIGNMENT as u32) << 24
                | units << 4
                | bits,
        )
    }

    /// The segment.
    pub fn slot(self) -> SegmentSlot {
        SegmentSlot((self.0 >> 48) as u16)
    }

    /// Where in the segment, in bytes.
    pub fn offset(self) -> u32 {
        ((self.0 >> 24) as u32 & 0xff_ffff) * RECORD_ALIGNMENT as u32
    }

    /// The record's length with its padding, in bytes, unless it is too long to be kept here.
    pub fn length(self) -> Option<u32> {
        let units = (self.0 >> 4) & LENGTH_UNITS_MAX;
        (units < LENGTH_UNITS_MAX).then_some(units as u32 * RECORD_ALIGNMENT as u32)
    }

    /// The length that accounts use: the same wherever the same record is counted.
    pub fn counted_length(self) -> u32 {
        self.length().unwrap_or(LENGTH_UNITS_MAX as u32 * RECORD_ALIGNMENT as u32)
    }

    /// What is known of the record.
    pub fn marks(self) -> Marks {
        Marks { tombstone: self.0 & 1 != 0, damaged: self.0 & 2 != 0, collides: self.0 & 4 != 0 }
    }

    /// The same place, known to be bad.
    pub fn damaged(self) -> Self {
        Self(self.0 | 2)
    }

    /// The packed bits, for the keydir.
    pub fn to_raw(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}..{:?} {:?}", self.slot().0, self.offset(), self.length(), self.marks())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_packing() {
        let marks = Marks { tombstone: true, damaged: false, collides: true };
        let place = Location::new(SegmentSlot(65_535), SEGMENT_BYTES_MAX - 16, 4096, marks);
        assert_eq!(place.slot(), SegmentSlot(65_535));
        assert_eq!(place.offset(), SEGMENT_BYTES_MAX - 16);
        assert_eq!(place.length(), Some(4096));
        assert_eq!(place.marks(), marks);
        assert_eq!(place.damaged().marks(), Marks { damaged: true, ..marks });
    }

    #[test]
    fn a_long_record_is_known_to_be_long() {
        let place = Location::new(SegmentSlot(0), 0, 32 * 1024 * 1024, Marks::default());
        assert_eq!(place.length(), None);
    }
}
