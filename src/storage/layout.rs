//! Which logs a data directory has, and which shard writes which: the directory's one table.
//!
//! # How a start with another number of cores works
//!
//! Logs outlive shards. When the number of shards differs from the last start's, each shard gets a
//! new log in a new generation, and all logs so far are *adopted*: every shard reads in them what
//! belongs to its partitions, and moves it to its own log in the background. Orders of a later
//! generation are above all of earlier ones, so what is newest is clear wherever it stands. The
//! table switches by one rename before any shard begins; a crash before it leaves the old layout,
//! which has everything, and a crash after it the new one, which reads everything.
//!
//! # Layout (version 1, little-endian), two copies, each padded to whole pages
//!
//! | offset | bytes | field                                                       |
//! |-------:|------:|-------------------------------------------------------------|
//! |      0 |     8 | "StatorND"                                                   |
//! |      8 |     4 | CRC-32C of everything after this field                        |
//! |     12 |     4 | version: 1                                                  |
//! |     16 |    16 | instance: random, of this directory                           |
//! |     32 |     8 | seed of the hash of keys                                      |
//! |     40 |    32 | secret of the tags of contexts                                |
//! |     72 |     2 | partitions of the ring less one                               |
//! |     74 |     2 | generation                                                   |
//! |     76 |     4 | last log id given out                                        |
//! |     80 |     2 | logs of this generation, in order of shards: how many          |
//! |     82 |     2 | adopted logs: how many                                       |
//! |     84 |     – | their ids of 4 bytes, those of this generation first            |

use crate::base::aligned::PAGE_BYTES;
use crate::base::checksum;
use crate::base::id::LogId;
use crate::base::id::ShardId;
use crate::base::rng::Rng;
use crate::storage::record::u32_at;
use crate::storage::record::u64_at;

const HEADER_BYTES: usize = 84;
const MAGIC: &[u8; 8] = b"StatorND";
const VERSION: u32 = 1;

/// The table of a data directory.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Layout {
    /// Random, of this directory: a copy of it has the same.
    pub instance: [u8; 16],
    /// Of the hash of keys, for ever.
    pub hash_seed: u64,
    /// Of the tags of contexts, unless the cluster has a secret.
    pub context_secret: [u8; 32],
    /// Partitions of the ring, fixed when the directory was made.
    pub partitions: u16,
    /// How many times the shards were laid out anew.
    pub generation: u16,
    /// The log of each shard.
    pub logs: Vec<LogId>,
    /// Logs of earlier generations that still have something.
    pub adopted: Vec<LogId>,
    last_log: u32,
}

impl Layout {
    /// The table of a new directory. `entropy` must be true randomness: the secret comes from it.
    pub fn new(partitions: u16, shards: u16, entropy: [u8; 64]) -> Self {
        let take = |from: usize, to: usize| &entropy[from..to];
        let mut layout = Self {
            instance: take(0, 16).try_into().expect("sixteen bytes"),
            hash_seed: u64_at(&entropy, 16),
            context_secret: take(24, 56).try_into().expect("thirty-two bytes"),
            partitions,
            generation: 0,
            logs: Vec::new(),
            adopted: Vec::new(),
            last_log: 0,
        };
        layout.logs = (0..shards).map(|_| layout.next_log()).collect();
        layout
    }

    /// The table for a start with `shards` shards, if that is another number than the last start's:
    /// to be durable before any shard begins.
    pub fn for_shards(&self, shards: u16) -> Option<Self> {
        if self.logs.len() == shards as usize {
            return None;
        }
        let mut next = self.clone();
        next.generation = self.generation.checked_add(1).expect("65,535 changes of cores");
        next.adopted.extend_from_slice(&self.logs);
        next.logs = (0..shards).map(|_| next.next_log()).collect();
        Some(next)
    }

    /// The table without an adopted log that nobody needs any more.
    pub fn without(&self, log: LogId) -> Self {
        let mut next = self.clone();
        next.adopted.retain(|adopted| *adopted != log);
        next
    }

    /// Which shard owns each partition: runs of neighbours of nearly equal length, so that the slot
    /// map that clients get is short.
    pub fn owners(&self) -> Vec<ShardId> {
        let (shards, partitions) = (self.logs.len() as u32, u32::from(self.partitions));
        (0..partitions)
            .map(|partition| ShardId::new((partition * shards / partitions) as u16))
            .collect()
    }

    /// Which partitions a shard owns, as [`super::Settings::owned`] wants it.
    pub fn owned_by(&self, shard: ShardId) -> Vec<bool> {
        self.owners().into_iter().map(|owner| owner == shard).collect()
    }

    /// The whole file: two copies.
    pub fn to_file(&self) -> Vec<u8> {
        let mut copy = vec![0; HEADER_BYTES];
        copy[..8].copy_from_slice(MAGIC);
        copy[12..16].copy_from_slice(&VERSION.to_le_bytes());
        copy[16..32].copy_from_slice(&self.instance);
        copy[32..40].copy_from_slice(&self.hash_seed.to_le_bytes());
        copy[40..72].copy_from_slice(&self.context_secret);
        copy[72..74].copy_from_slice(&(self.partitions - 1).to_le_bytes());
        copy[74..76].copy_from_slice(&self.generation.to_le_bytes());
        copy[76..80].copy_from_slice(&self.last_log.to_le_bytes());
        copy[80..82].copy_from_slice(&(self.logs.len() as u16).to_le_bytes());
        copy[82..84].copy_from_slice(&(self.adopted.len() as u16).to_le_bytes());
        for log in self.logs.iter().chain(&self.adopted) {
            copy.extend_from_slice(&log.to_raw().to_le_bytes());
        }
        let sum = checksum::checksum(&copy[12..]);
        copy[8..12].copy_from_slice(&sum.to_le_bytes());
        copy.resize(copy.len().next_multiple_of(PAGE_BYTES), 0);
        [copy.as_slice(), copy.as_slice()].concat()
    }

    /// The first good copy in the file. `None`: both are bad, or it is no such file.
    pub fn from_file(file: &[u8]) -> Option<Self> {
        let (first, second) = file.split_at(file.len() / 2);
        Self::from_copy(first).or_else(|| Self::from_copy(second))
    }

    fn from_copy(copy: &[u8]) -> Option<Self> {
        let half = |at: usize| u16::from_le_bytes([copy[at], copy[at + 1]]);
        let head = copy.get(..HEADER_BYTES)?;
        let (own, adopted) = (half(80) as usize, half(82) as usize);
        let bytes = copy.get(..HEADER_BYTES + 4 * (own + adopted))?;
        let good = head[..8] == *MAGIC
            && u32_at(head, 8) == checksum::checksum(&bytes[12..])
            && u32_at(head, 12) == VERSION;
        let mut logs: Vec<LogId> = bytes[HEADER_BYTES..]
            .chunks_exact(4)
            .map(|bytes| LogId::new(u32_at(bytes, 0)))
            .collect();
        let adopted = logs.split_off(own);
        good.then(|| Self {
            instance: head[16..32].try_into().expect("sixteen bytes"),
            hash_seed: u64_at(head, 32),
            context_secret: head[40..72].try_into().expect("thirty-two bytes"),
            partitions: half(72).wrapping_add(1),
            generation: half(74),
            last_log: u32_at(head, 76),
            logs,
            adopted,
        })
    }

    fn next_log(&mut self) -> LogId {
        self.last_log += 1;
        LogId::new(self.last_log)
    }
}

/// Random bytes from a seed, for tests and the simulator; a real directory draws true ones.
pub fn entropy_of(rng: &mut Rng) -> [u8; 64] {
    let mut entropy = [0; 64];
    rng.fill(&mut entropy);
    entropy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::PartitionId;

    #[test]
    fn it_survives_writing_and_one_bad_copy() {
        let layout = layout(3).for_shards(2).expect("another number");
        let mut file = layout.to_file();
        assert_eq!(Layout::from_file(&file), Some(layout.clone()));
        for at in 0..HEADER_BYTES {
            file[at] ^= 1;
            assert_eq!(Layout::from_file(&file), Some(layout.clone()), "byte {at}");
            file[PAGE_BYTES + at] ^= 1;
            assert_eq!(Layout::from_file(&file), None, "byte {at} of both");
            file[at] ^= 1;
            file[PAGE_BYTES + at] ^= 1;
        }
        assert_eq!(Layout::from_file(&[]), None);
    }

    #[test]
    fn another_number_of_shards_gets_new_logs_and_adopts_the_old() {
        let first = layout(2);
        assert_eq!(first.for_shards(2), None);
        let second = first.for_shards(3).expect("another number");
        assert_eq!(second.adopted, first.logs);
        assert_eq!(second.generation, 1);
        assert!(second.logs.iter().all(|log| !first.logs.contains(log)));
        let third = second.for_shards(2).expect("another number");
        assert_eq!(third.adopted.len(), 5);
        assert!(third.logs.iter().all(|log| !third.adopted.contains(log)));
        assert_eq!(third.without(first.logs[0]).adopted.len(), 4);
    }

    #[test]
    fn partitions_are_shared_out_evenly_in_runs() {
        for shards in 1..=16 {
            let owners = layout(shards).owners();
            assert!(owners.is_sorted(), "runs");
            let share = |shard| owners.iter().filter(|owner| owner.to_raw() == shard).count();
            let shares: Vec<usize> = (0..shards).map(share).collect();
            let (most, least) = (shares.iter().max(), shares.iter().min());
            assert!(most.expect("some") - least.expect("some") <= 1, "{shares:?}");
        }
    }

    fn layout(shards: u16) -> Layout {
        Layout::new(64, shards, entropy_of(&mut Rng::from_seed(1)))
    }

    /// The partition of a shard's list is the one that the list of owners says.
    #[test]
    fn both_lists_agree() {
        let layout = layout(3);
        let owners = layout.owners();
        for shard in (0..3).map(ShardId::new) {
            let owned = layout.owned_by(shard);
            for partition in (0..64).map(PartitionId::new) {
                let at = partition.to_raw() as usize;
                assert_eq!(owned[at], owners[at] == shard);
            }
        }
    }
}
