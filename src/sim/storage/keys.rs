//! The keys of a workload: their names, their partitions, and hashes that several may share.

use xxhash_rust::xxh3::xxh3_64;

use super::model::KeyIndex;
use crate::base::id::PartitionId;
use crate::base::rng::Rng;

/// Where a key belongs: its partition, its hash, its name.
pub(super) type Place<'a> = (PartitionId, u64, &'a [u8]);

#[derive(Debug)]
pub(super) struct Keys {
    names: Vec<Vec<u8>>,
    partitions: u16,
    colliding: usize,
}

impl Keys {
    pub(super) fn new(count: usize, partitions: u16, colliding: usize, rng: &mut Rng) -> Self {
        let names = (0..count).map(|key| name(key, rng)).collect();
        Self { names, partitions, colliding }
    }

    pub(super) fn partition(&self, key: KeyIndex) -> PartitionId {
        PartitionId::new((key / self.colliding % usize::from(self.partitions)) as u16)
    }

    pub(super) fn place(&self, key: KeyIndex) -> Place<'_> {
        let name = &self.names[key];
        let hash = xxh3_64(&self.names[key - key % self.colliding]);
        (self.partition(key), hash, name)
    }
}

fn name(key: KeyIndex, rng: &mut Rng) -> Vec<u8> {
    let mut name = format!("key{key}").into_bytes();
    name.resize(name.len() + rng.below(20) as usize, b'.');
    name
}
