//! The bytes of one file: what a reader sees, and what a crash would leave of them.
//!
//! The view is one run of bytes. Beside it stands, for every sector that was written and not
//! synced, what the disk still holds there. A sync forgets these; a crash draws for each sector
//! which of the two comes back, or neither.

use std::collections::BTreeMap;

use crate::base::rng::Rng;

/// What a disk writes in one piece.
pub const SECTOR_BYTES: usize = 512;

type Sector = [u8; SECTOR_BYTES];

/// One file's bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    /// What a reader sees.
    bytes: Vec<u8>,
    /// What the disk holds of sectors below the durable length that were written since the last
    /// sync. All sectors beyond that length are unsynced.
    unsynced: BTreeMap<usize, Box<Sector>>,
    /// What the disk holds where a failed sync dropped the new bytes and called the page clean.
    lost: BTreeMap<usize, Box<Sector>>,
    durable_length: usize,
}

/// What becomes of the sectors of one write when the power goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Persisted,
    Old,
    Garbage,
}

/// One write's draw: a hole needs a write that is wholly lost before one that is wholly there,
/// which sectors that are drawn one by one would hardly ever give.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fates {
    All,
    None,
    /// Percentages of old and of garbage sectors.
    Mixed {
        old: u64,
        garbage: u64,
    },
}

impl Fates {
    pub(super) fn draw(rng: &mut Rng) -> Self {
        match rng.below(8) {
            0..=2 => Self::All,
            3 | 4 => Self::None,
            5 | 6 => Self::Mixed { old: 10 + rng.below(80), garbage: 0 },
            _ => Self::Mixed { old: rng.below(50), garbage: 1 + rng.below(50) },
        }
    }

    fn sector(self, rng: &mut Rng) -> Fate {
        match self {
            Self::All => Fate::Persisted,
            Self::None => Fate::Old,
            Self::Mixed { old, garbage } => match rng.below(100) {
                roll if roll < old => Fate::Old,
                roll if roll < old + garbage => Fate::Garbage,
                _ => Fate::Persisted,
            },
        }
    }
}

impl Inode {
    /// A file of zeros, nothing of it synced.
    pub(super) fn zeroed(length: usize) -> Self {
        Self { bytes: vec![0; length], ..Self::default() }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn is_length_durable(&self) -> bool {
        self.durable_length == self.bytes.len()
    }

    /// What a reader gets: fewer bytes at the end of the file.
    pub(super) fn read(&self, offset: usize, length: usize) -> &[u8] {
        let start = offset.min(self.bytes.len());
        let end = offset.saturating_add(length).min(self.bytes.len());
        &self.bytes[start..end]
    }

    /// A write into the page cache.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if end > self.bytes.len() {
            self.bytes.resize(end, 0);
        }
        for sector in sectors(offset, bytes.len()) {
            if sector * SECTOR_BYTES >= self.durable_length {
                break;
            }
            let held = self.lost.remove(&sector).unwrap_or_else(|| self.sector(sector));
            self.unsynced.entry(sector).or_insert(held);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    /// A write that is on the disk when it returns.
    pub(super) fn write_through(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        for sector in sectors(offset, bytes.len()) {
            self.unsynced.remove(&sector);
            self.lost.remove(&sector);
        }
    }

    /// A direct write that failed or was cut off by a crash: each sector has a fate of its own.
    /// Tells whether it was torn: neither wholly there nor wholly absent.
    pub(super) fn tear(
        &mut self,
        offset: usize,
        bytes: &[u8],
        fates: Fates,
        rng: &mut Rng,
    ) -> bool {
        let mut kept = 0;
        let mut count = 0;
        for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let at = offset + index * SECTOR_BYTES;
            count += 1;
            match fates.sector(rng) {
                Fate::Persisted => {
                    self.write_through(at, sector);
                    kept += 1;
                }
                Fate::Old => {}
                Fate::Garbage => self.write_through(at, &garbage(rng)[..sector.len()]),
            }
        }
        kept > 0 && kept < count
    }

    /// Everything written so far is durable, its length too; what a failed sync dropped is not.
    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.durable_length = self.bytes.len();
    }

    /// The sync failed: some sectors were dropped, all are called clean, the next sync is content.
    pub(super) fn fail_sync(&mut self, rng: &mut Rng) {
        let unsynced = std::mem::take(&mut self.unsynced);
        let beyond = self.durable_length.div_ceil(SECTOR_BYTES)..self.len().div_ceil(SECTOR_BYTES);
        for (sector, held) in unsynced.into_iter().chain(beyond.map(|s| (s, zeros()))) {
            if rng.chance(1, 2) {
                self.lost.insert(sector, held);
            }
        }
        if rng.chance(1, 2) {
            self.evict(); // the pages were dropped, and readers see it
        }
    }

    /// The power went: what is not durable is drawn sector by sector.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        self.evict();
        let fates = Fates::draw(rng);
        let durable_sectors = self.durable_length.div_ceil(SECTOR_BYTES);
        for (sector, held) in std::mem::take(&mut self.unsynced) {
            self.settle(sector, held, fates, rng);
        }
        if !self.is_length_durable() {
            let length = match rng.below(3) {
                0 => self.durable_length,
                1 => self.len(),
                _ => rng.between(self.durable_length as u64, self.len() as u64) as usize,
            };
            self.bytes.truncate(length);
            for sector in durable_sectors..length.div_ceil(SECTOR_BYTES) {
                self.settle(sector, zeros(), fates, rng);
            }
        }
        self.durable_length = self.len();
    }

    /// Bytes that change at rest, durably, behind everybody's back.
    pub(super) fn rot(&mut self, offset: usize, bytes: &[u8]) {
        let end = (offset + bytes.len()).min(self.len());
        self.bytes[offset..end].copy_from_slice(&bytes[..end - offset]);
    }

    /// What `change` makes of the bytes, durably, its length too.
    pub(super) fn alter(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        self.evict();
        change(&mut self.bytes);
        self.sync();
    }

    fn evict(&mut self) {
        for (sector, held) in std::mem::take(&mut self.lost) {
            self.put_sector(sector, &held);
        }
    }

    fn settle(&mut self, sector: usize, held: Box<Sector>, fates: Fates, rng: &mut Rng) {
        match fates.sector(rng) {
            Fate::Persisted => {}
            Fate::Old => self.put_sector(sector, &held),
            Fate::Garbage => self.put_sector(sector, &garbage(rng)),
        }
    }

    fn sector(&self, sector: usize) -> Box<Sector> {
        let mut copy = zeros();
        let bytes = self.read(sector * SECTOR_BYTES, SECTOR_BYTES);
        copy[..bytes.len()].copy_from_slice(bytes);
        copy
    }

    fn put_sector(&mut self, sector: usize, bytes: &Sector) {
        let start = (sector * SECTOR_BYTES).min(self.len());
        let end = (start + SECTOR_BYTES).min(self.len());
        self.bytes[start..end].copy_from_slice(&bytes[..end - start]);
    }
}

fn sectors(offset: usize, length: usize) -> std::ops::Range<usize> {
    offset / SECTOR_BYTES..(offset + length).div_ceil(SECTOR_BYTES)
}

fn zeros() -> Box<Sector> {
    Box::new([0; SECTOR_BYTES])
}

fn garbage(rng: &mut Rng) -> Sector {
    let mut sector = [0; SECTOR_BYTES];
    rng.fill(&mut sector);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_synced_survives_every_crash() {
        for seed in 0..200 {
            let mut rng = Rng::from_seed(seed);
            let mut inode = Inode::zeroed(2048);
            inode.write(100, &[1; 1000]);
            inode.sync();
            inode.write(2048, &[2; 1000]);
            inode.crash(&mut rng);
            assert!(inode.len() >= 2048, "seed={seed}");
            assert_eq!(inode.read(100, 1000), &[1; 1000], "seed={seed}");
        }
    }

    #[test]
    fn what_was_not_synced_may_stay_go_tear_or_turn_to_garbage() {
        let (mut stayed, mut went, mut torn, mut garbage) = (0, 0, 0, 0);
        for seed in 0..400 {
            let mut rng = Rng::from_seed(seed);
            let mut inode = Inode::zeroed(4096);
            inode.sync();
            inode.write(0, &[7; 4096]);
            inode.crash(&mut rng);
            let new = inode.bytes.iter().filter(|byte| **byte == 7).count();
            let old = inode.bytes.iter().filter(|byte| **byte == 0).count();
            match (new, old) {
                (4096, 0) => stayed += 1,
                (0, 4096) => went += 1,
                (new, old) if new + old == 4096 => torn += 1,
                _ => garbage += 1,
            }
        }
        for count in [stayed, went, torn, garbage] {
            assert!(count > 20, "{stayed} stayed, {went} went, {torn} torn, {garbage} garbage");
        }
    }

    /// fsyncgate: the second sync says yes, and the bytes are gone all the same.
    #[test]
    fn a_sync_after_a_failed_one_is_content_and_saves_nothing() {
        let lost = (0..100).filter(|seed| {
            let mut rng = Rng::from_seed(*seed);
            let mut inode = Inode::zeroed(512);
            inode.sync();
            inode.write(0, &[9; 512]);
            inode.fail_sync(&mut rng);
            inode.sync();
            inode.crash(&mut rng);
            inode.read(0, 512) == [0; 512]
        });
        assert!((20..80).contains(&lost.count()));
    }
}
