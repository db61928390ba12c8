//! Two keys of one hash: whose record is whose can be read in the records alone.
//!
//! The keydir keeps no keys. While a shard runs, it compares the keys of the records that it
//! fetches; at a start it has only hashes. So the first record of a key says whether another key of
//! its hash was there, all later ones of that key repeat it, and for those few a start reads the
//! keys.
//!
//! # Why the other records need not be read
//!
//! Of the keys of one hash that are alive at a time at most one does not say so: whoever came
//! beside it does. What an earlier such key left behind is older than the first record of the
//! present one, for it was reaped before that came. So the newest of these records speaks for all
//! of them, and its key is told apart from the others by reading it too. The mark must not change
//! while a key lives: a deleted key whose last record had lost it came back after a start.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use crate::base::id::PartitionId;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::Failure;
use crate::storage::effect::File;
use crate::storage::location::Location;
use crate::storage::record;
use crate::storage::record::Order;
use crate::storage::recovery::READ_FAILURES_MAX;
use crate::storage::restore::Restored;
use crate::storage::segments::Segments;

/// Records of one hash, of which at least one said that it collides.
#[derive(Debug)]
struct Group {
    partition: PartitionId,
    hash: u64,
    to_read: Vec<(Order, Location)>,
    /// The newest record of each key that was read.
    by_key: BTreeMap<Vec<u8>, (Order, Location)>,
    damaged: Vec<(Order, Location)>,
}

/// The reading of keys at a start.
#[derive(Debug)]
pub struct Collisions {
    groups: VecDeque<Group>,
    /// Failures in a row to read the present record.
    read_failures: u32,
}

impl Collisions {
    /// Everything that must be read to tell keys apart. What the keydirs have of those hashes is
    /// taken out of them until it is known.
    pub fn new(restored: &mut Restored) -> Self {
        let collisions = std::mem::take(&mut restored.collisions);
        let group = |((partition, hash), mut to_read): ((PartitionId, u64), Vec<_>)| {
            let keydir = &mut restored.keydirs[partition.to_raw() as usize];
            for (at, order) in keydir.find_with_order(hash) {
                keydir.remove(hash, at);
                restored.segments.bury(at, at.counted_length());
                to_read.push((order, at));
            }
            let (by_key, damaged) = (BTreeMap::new(), Vec::new());
            Group { partition, hash, to_read, by_key, damaged }
        };
        Self { groups: collisions.into_iter().map(group).collect(), read_failures: 0 }
    }

    /// The next record to read. `None`: all is known.
    pub fn next_operation(&mut self, restored: &mut Restored) -> Option<Bulk> {
        loop {
            let group = self.groups.front_mut()?;
            match group.to_read.last() {
                Some((_, at)) => return Some(read_of(*at, &restored.segments)),
                None => {
                    let group = self.groups.pop_front().expect("there is a front");
                    group.settle(restored);
                }
            }
        }
    }

    /// The record that [`Collisions::next_operation`] asked for was read, or could not be.
    pub fn done(&mut self, result: Result<Done, Failure>, restored: &Restored) {
        if result.is_err() && self.read_failures < READ_FAILURES_MAX {
            self.read_failures += 1;
            return;
        }
        self.read_failures = 0;
        let group = self.groups.front_mut().expect("an operation was asked for");
        let (order, at) = group.to_read.pop().expect("an operation was asked for");
        let segment = restored.segments.get(at.slot()).id;
        let key = match &result {
            Ok(Done::Read(bytes)) => {
                record::read(bytes, segment, at.offset()).ok().map(|view| view.key.to_vec())
            }
            _ => None,
        };
        match key {
            Some(key) => {
                let newest = group.by_key.entry(key).or_insert((order, at));
                if restored.segments.supersedes(order, at, newest.0, newest.1) {
                    *newest = (order, at);
                }
            }
            None => group.damaged.push((order, at.damaged())),
        }
    }
}

impl Group {
    /// Puts what is known back into the keydir. A damaged record stays beside the others: it may be
    /// any of these keys' newest.
    fn settle(self, restored: &mut Restored) {
        for (order, at) in self.by_key.into_values().chain(self.damaged) {
            restored.keydirs[self.partition.to_raw() as usize].insert(self.hash, at, order);
            restored.segments.enliven(at, at.counted_length());
        }
    }
}

/// The whole record; one too long for a location is read as far as a location can tell, which is
/// enough to be found damaged, never to be taken for another.
fn read_of(at: Location, segments: &Segments) -> Bulk {
    let file = File::Segment(segments.get(at.slot()).id);
    Bulk::Read { file, offset: u64::from(at.offset()), length: at.counted_length() }
}
