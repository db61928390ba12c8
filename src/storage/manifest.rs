//! What must be known of a log before its segments are read.
//!
//! Written whole under a temporary name, synced, renamed, and the directory synced: at each start
//! before the first record, and at a clean stop. The file has two copies, each padded to whole
//! pages, so that one bad block does not cost a log.
//!
//! # Why the end of each epoch is recorded
//!
//! Behind the torn end of a crashed run, good batches may stand that were never acknowledged: they
//! had been in flight together with one that was lost. The start that cuts them off must be
//! believed for ever, or a later start, which sees new batches that were synced since, would take
//! the cut for damage and bring them back. And what such a start kept has been told since: if it goes
//! bad, it is damage, and no torn end. That holds for adopted logs too, whose own manifests nobody
//! writes any more: their ends are recorded by those that adopted them.
//!
//! With each end goes the last order that the epoch can have given out. What an epoch lost was not
//! newer, and whatever is written after it has a higher order: also if, when it ended, not all of
//! its log could be read.
//!
//! # Layout (version 1, little-endian)
//!
//! | offset | bytes | field                                                             |
//! |-------:|------:|-------------------------------------------------------------------|
//! |      0 |     8 | "StatorMF"                                                        |
//! |      8 |     4 | CRC-32C of everything after this field                              |
//! |     12 |     4 | version: 1                                                        |
//! |     16 |     4 | log id                                                            |
//! |     20 |     2 | generation of shards                                               |
//! |     22 |     2 | partitions of the ring less one                                    |
//! |     24 |     8 | log epoch of this start                                            |
//! |     32 |     8 | actor of this start                                                |
//! |     40 |     8 | the highest order of all damage found so far, or 0                   |
//! |     48 |     4 | ends: how many                                                    |
//! |     52 |     – | ends of 32 bytes: log 4, epoch 8, its last batch 8, its last segment 4, |
//! |        |       | its last order 8                                                     |

use crate::base::aligned::PAGE_BYTES;
use crate::base::checksum;
use crate::base::id::ActorId;
use crate::base::id::LogId;
use crate::storage::record::Order;
use crate::storage::record::u32_at;
use crate::storage::record::u64_at;

const HEADER_BYTES: usize = 52;
const END_BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"StatorMF";
const VERSION: u32 = 1;

/// The last batch of an epoch that is over. What stands behind it never counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct EpochEnd {
    /// Whose epoch: of the log itself, or of one that it adopted.
    pub log: LogId,
    /// Which epoch; 0: of segments of which it is not known.
    pub epoch: u64,
    /// The number of its last batch; 0: it has none. [`EpochEnd::UNREAD`]: it is not known.
    pub last_batch: u64,
    /// The last segment that had one; 0: none. A later one without batches was prepared ahead, an
    /// earlier one without batches lost them.
    pub last_segment: u32,
    /// No record of the epoch has a higher order than this.
    pub last_order: Order,
}

impl EpochEnd {
    /// The last batch of an epoch of which a segment could not be read when it ended: a start that
    /// can read it says which it is.
    pub const UNREAD: u64 = u64::MAX;
}

/// The content of a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    /// Whose it is.
    pub log: LogId,
    /// How many times the shards had been laid out anew when this log was made.
    pub generation: u16,
    /// Partitions of the ring: 16 to 16384.
    pub partitions: u16,
    /// The log epoch of the start that wrote this; that epoch is running unless it has an end.
    pub epoch: u64,
    /// The actor of that start.
    pub actor: ActorId,
    /// Records of unknown keys, up to this order, are known to be lost to damage.
    pub damaged_upto: Order,
    /// Ends of the epochs that are over, as long as there are segments of them; those of the last
    /// epochs always.
    pub ends: Vec<EpochEnd>,
}

impl Manifest {
    /// The bytes of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[12..16].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.log.to_raw().to_le_bytes());
        bytes[20..22].copy_from_slice(&self.generation.to_le_bytes());
        bytes[22..24].copy_from_slice(&(self.partitions - 1).to_le_bytes());
        bytes[24..32].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.actor.to_raw().to_le_bytes());
        bytes[40..48].copy_from_slice(&self.damaged_upto.0.to_le_bytes());
        bytes[48..52].copy_from_slice(&(self.ends.len() as u32).to_le_bytes());
        for end in &self.ends {
            bytes.extend_from_slice(&end.log.to_raw().to_le_bytes());
            bytes.extend_from_slice(&end.epoch.to_le_bytes());
            bytes.extend_from_slice(&end.last_batch.to_le_bytes());
            bytes.extend_from_slice(&end.last_segment.to_le_bytes());
            bytes.extend_from_slice(&end.last_order.0.to_le_bytes());
        }
        let sum = checksum::checksum(&bytes[12..]);
        bytes[8..12].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The whole file: two copies.
    pub fn to_file(&self) -> Vec<u8> {
        let mut copy = self.to_bytes();
        copy.resize(copy.len().next_multiple_of(PAGE_BYTES), 0);
        [copy.as_slice(), copy.as_slice()].concat()
    }

    /// The first good copy in the file. `None`: both are bad.
    pub fn from_file(file: &[u8]) -> Option<Self> {
        let (first, second) = file.split_at(file.len() / 2);
        Self::from_padded(first).or_else(|| Self::from_padded(second))
    }

    fn from_padded(copy: &[u8]) -> Option<Self> {
        let ends = u32_at(copy.get(..HEADER_BYTES)?, 48) as usize;
        let length = ends.checked_mul(END_BYTES)?.checked_add(HEADER_BYTES)?;
        Self::from_bytes(copy.get(..length)?)
    }

    /// Reads one copy without its padding. `None`: it is bad.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (head, ends) = bytes.split_at_checked(HEADER_BYTES)?;
        let good = head[..8] == *MAGIC
            && u32_at(head, 8) == checksum::checksum(&bytes[12..])
            && u32_at(head, 12) == VERSION
            && (u32_at(head, 48) as usize).checked_mul(END_BYTES) == Some(ends.len());
        let end = |bytes: &[u8]| EpochEnd {
            log: LogId::new(u32_at(bytes, 0)),
            epoch: u64_at(bytes, 4),
            last_batch: u64_at(bytes, 12),
            last_segment: u32_at(bytes, 20),
            last_order: Order(u64_at(bytes, 24)),
        };
        good.then(|| Self {
            log: LogId::new(u32_at(head, 16)),
            generation: u16::from_le_bytes([head[20], head[21]]),
            partitions: u16::from_le_bytes([head[22], head[23]]).wrapping_add(1),
            epoch: u64_at(head, 24),
            actor: ActorId::new(u64_at(head, 32)),
            damaged_upto: Order(u64_at(head, 40)),
            ends: ends.chunks_exact(END_BYTES).map(end).collect(),
        })
    }

    /// Where an epoch ended that is over, if that is known.
    pub fn end_of(&self, log: LogId, epoch: u64) -> Option<EpochEnd> {
        let known = self.ends.iter().filter(|end| end.last_batch != EpochEnd::UNREAD);
        known.copied().find(|end| end.log == log && end.epoch == epoch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_survives_writing_and_every_flipped_bit_is_found() {
        let manifest = Manifest {
            log: LogId::new(5),
            generation: 1,
            partitions: 1024,
            epoch: 9,
            actor: ActorId::new(0x1234_5678_9abc_def0),
            damaged_upto: Order(4),
            ends: vec![
                end(LogId::new(5), 7, 3, Order::new(1, 90)),
                end(LogId::new(4), 8, EpochEnd::UNREAD, Order(70)),
            ],
        };
        let mut bytes = manifest.to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Some(manifest.clone()));
        assert_eq!(manifest.end_of(LogId::new(5), 7), Some(manifest.ends[0]));
        assert_eq!(manifest.end_of(LogId::new(4), 8), None, "it was not known");
        assert_eq!(manifest.end_of(LogId::new(5), 8), None);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Manifest::from_bytes(&bytes), None, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        let mut file = manifest.to_file();
        for copy in [0, PAGE_BYTES] {
            file[copy + 20] ^= 1;
            let expected = (copy == 0).then(|| manifest.clone());
            assert_eq!(Manifest::from_file(&file), expected, "one bad copy is no loss");
        }
        assert_eq!(Manifest::from_file(&[]), None);
    }

    fn end(log: LogId, epoch: u64, last_batch: u64, last_order: Order) -> EpochEnd {
        EpochEnd { log, epoch, last_batch, last_segment: 2, last_order }
    }
}
