//! From a key to its slot, and from a slot to its partition.
//!
//! A slot is CRC-16/XMODEM of the key modulo 16384, or of the part within its first `{…}` if that
//! is not empty: Redis Cluster's rule, by which people keep related keys together.

use std::ops::Range;

use crate::base::id::PartitionId;
use crate::base::id::Slot;
use crate::base::limits::PARTITIONS_MAX;
use crate::base::limits::PARTITIONS_MIN;
use crate::base::limits::SLOTS;

/// The slot of a key.
pub fn slot_of(key: &[u8]) -> Slot {
    Slot::new(crc16(hashed_part(key)) % SLOTS as u16)
}

/// How many partitions the ring has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Partitions {
    shift: u32,
}

impl Partitions {
    /// A ring of `count` partitions. `None` unless that is a power of two from
    /// [`PARTITIONS_MIN`] to [`PARTITIONS_MAX`].
    pub fn new(count: u16) -> Option<Self> {
        let allowed = (PARTITIONS_MIN..=PARTITIONS_MAX).contains(&(count as usize));
        (allowed && count.is_power_of_two())
            .then(|| Self { shift: SLOTS.trailing_zeros() - count.trailing_zeros() })
    }

    /// How many there are.
    pub fn count(self) -> u16 {
        (SLOTS >> self.shift) as u16
    }

    /// All of them, in order.
    pub fn all(self) -> impl Iterator<Item = PartitionId> {
        (0..self.count()).map(PartitionId::new)
    }

    /// The partition of a slot.
    pub fn of(self, slot: Slot) -> PartitionId {
        PartitionId::new(slot.to_raw() >> self.shift)
    }

    /// The slots of a partition: neighbours.
    pub fn slots(self, partition: PartitionId) -> Range<u16> {
        let first = partition.to_raw() << self.shift;
        first..first + (1 << self.shift)
    }
}

/// What of a key is hashed.
fn hashed_part(key: &[u8]) -> &[u8] {
    let Some(open) = memchr(b'{', key) else { return key };
    let rest = &key[open + 1..];
    match memchr(b'}', rest) {
        Some(length) if length > 0 => &rest[..length],
        _ => key,
    }
}

fn memchr(byte: u8, bytes: &[u8]) -> Option<usize> {
    bytes.iter().position(|other| *other == byte)
}

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc: u16, byte| (crc << 8) ^ TABLE[((crc >> 8) as u8 ^ byte) as usize])
}

/// The polynomial x^16 + x^12 + x^5 + 1, a byte at a time.
const TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = (index as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 != 0 { (crc << 1) ^ 0x1021 } else { crc << 1 };
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-16/XMODEM, and slots that Redis's documentation names.
    #[test]
    fn slots_are_those_of_redis_cluster() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"foo"), Slot::new(12182));
        assert_eq!(slot_of(b"bar"), Slot::new(5061));
        assert_eq!(slot_of(b"{foo}bar"), slot_of(b"foo"));
        assert_eq!(slot_of(b"a{foo}{bar}"), slot_of(b"foo"));
        assert_ne!(slot_of(b"{}foo"), slot_of(b""), "an empty tag counts as none");
        assert_eq!(slot_of(b"foo{"), Slot::new(crc16(b"foo{") % 16384));
    }

    #[test]
    fn every_slot_has_one_partition_and_partitions_are_equal() {
        for count in [16, 1024, 16384] {
            let partitions = Partitions::new(count).expect("a power of two");
            assert_eq!(partitions.count(), count);
            for partition in 0..count {
                let slots = partitions.slots(PartitionId::new(partition));
                assert_eq!(slots.len(), SLOTS / count as usize);
                for slot in slots {
                    assert_eq!(partitions.of(Slot::new(slot)).to_raw(), partition);
                }
            }
        }
        assert_eq!([0, 8, 1000, 32768].map(Partitions::new), [None; 4]);
    }
}
