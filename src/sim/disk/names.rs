//! The names of one directory: what a lookup finds, and what a crash would leave of it.

use std::collections::BTreeMap;

use crate::base::rng::Rng;
use crate::storage::effect::File;

/// Names an inode of the disk.
pub(super) type InodeNumber = u64;

/// A change of names that the next sync of the directory makes durable.
#[derive(Clone, Copy, Debug)]
enum Change {
    Link { name: File, inode: InodeNumber },
    Rename { from: File, to: File, inode: InodeNumber },
    Unlink { name: File },
}

/// One directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<File, InodeNumber>,
    durable: BTreeMap<File, InodeNumber>,
    /// In the order in which they were made. A crash keeps any subset of them.
    pending: Vec<Change>,
}

impl Names {
    pub(super) fn find(&self, name: File) -> Option<InodeNumber> {
        self.seen.get(&name).copied()
    }

    /// Whether a crash would find this inode under this name.
    pub(super) fn is_durable(&self, name: File, inode: InodeNumber) -> bool {
        self.durable.get(&name) == Some(&inode) && self.pending.iter().all(|c| !c.touches(name))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (File, InodeNumber)> + '_ {
        self.seen.iter().map(|(name, inode)| (*name, *inode))
    }

    /// Whether a lookup or a crash could still lead to this inode.
    pub(super) fn reaches(&self, inode: InodeNumber) -> bool {
        let pending = self.pending.iter().any(|change| match change {
            Change::Link { inode: other, .. } | Change::Rename { inode: other, .. } => {
                *other == inode
            }
            Change::Unlink { .. } => false,
        });
        pending || self.durable.values().chain(self.seen.values()).any(|other| *other == inode)
    }

    pub(super) fn link(&mut self, name: File, inode: InodeNumber) {
        self.change(Change::Link { name, inode });
    }

    pub(super) fn rename(&mut self, from: File, to: File, inode: InodeNumber) {
        self.change(Change::Rename { from, to, inode });
    }

    pub(super) fn unlink(&mut self, name: File) {
        self.change(Change::Unlink { name });
    }

    /// A synced file has its first name: as on ext4 and XFS, its sync carries it along, with what
    /// became of that name before.
    pub(super) fn keep_link(&mut self, inode: InodeNumber) {
        let link = self.pending.iter().enumerate().find_map(|(index, change)| match change {
            Change::Link { name, inode: other } if *other == inode => Some((index, *name)),
            _ => None,
        });
        let Some((last, name)) = link else { return };
        let mut index = 0;
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let carried = index <= last && change.touches(name);
            index += 1;
            if carried {
                change.apply(durable);
            }
            !carried
        });
    }

    pub(super) fn sync(&mut self) {
        self.pending.clear();
        self.durable.clone_from(&self.seen);
    }

    /// The power went: any subset of the pending changes was on the disk, in order.
    pub(super) fn crash(&mut self, rng: &mut Rng) {
        let pending = std::mem::take(&mut self.pending);
        let percent = *rng.pick(&[0, 50, 50, 100]);
        let prefix = rng.chance(1, 3).then(|| rng.below(pending.len() as u64 + 1) as usize);
        for (index, change) in pending.iter().enumerate() {
            if prefix.map_or_else(|| rng.chance(percent, 100), |prefix| index < prefix) {
                change.apply(&mut self.durable);
            }
        }
        self.seen.clone_from(&self.durable);
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }
}

impl Change {
    fn apply(self, names: &mut BTreeMap<File, InodeNumber>) {
        match self {
            Self::Link { name, inode } => {
                names.insert(name, inode);
            }
            Self::Rename { from, to, inode } => {
                if names.get(&from) == Some(&inode) {
                    names.remove(&from);
                }
                names.insert(to, inode);
            }
            Self::Unlink { name } => {
                names.remove(&name);
            }
        }
    }

    fn touches(self, file: File) -> bool {
        match self {
            Self::Link { name, .. } | Self::Unlink { name } => name == file,
            Self::Rename { from, to, .. } => from == file || to == file,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::LogId;
    use crate::base::id::SegmentId;

    const LOG: LogId = LogId::new(1);
    const SEGMENT: File = File::Segment(SegmentId { log: LOG, number: 1 });
    const TEMPORARY: File = File::Temporary { log: LOG, number: 1 };

    #[test]
    fn a_synced_file_has_one_of_its_two_names_after_a_crash() {
        let mut outcomes = [0; 2];
        for seed in 0..200 {
            let mut names = Names::default();
            names.link(TEMPORARY, 7);
            names.keep_link(7);
            names.rename(TEMPORARY, SEGMENT, 7);
            names.crash(&mut Rng::from_seed(seed));
            match (names.find(TEMPORARY), names.find(SEGMENT)) {
                (Some(7), None) => outcomes[0] += 1,
                (None, Some(7)) => outcomes[1] += 1,
                other => panic!("a rename is atomic, but {other:?}; seed={seed}"),
            }
        }
        assert!(outcomes.iter().all(|count| *count > 40), "{outcomes:?}");
    }

    #[test]
    fn an_older_unlink_cannot_take_a_synced_file_of_that_name() {
        for seed in 0..100 {
            let mut names = Names::default();
            names.link(SEGMENT, 6);
            names.sync();
            names.unlink(SEGMENT);
            names.link(SEGMENT, 7);
            names.keep_link(7);
            names.crash(&mut Rng::from_seed(seed));
            assert_eq!(names.find(SEGMENT), Some(7), "seed={seed}");
        }
    }

    #[test]
    fn an_unlink_comes_back_until_the_directory_is_synced() {
        let revived = |sync: bool| {
            (0..200)
                .filter(|seed| {
                    let mut names = Names::default();
                    names.link(SEGMENT, 7);
                    names.sync();
                    names.unlink(SEGMENT);
                    if sync {
                        names.sync();
                    }
                    names.crash(&mut Rng::from_seed(*seed));
                    names.find(SEGMENT).is_some()
                })
                .count()
        };
        assert!((40..160).contains(&revived(false)));
        assert_eq!(revived(true), 0);
    }
}
