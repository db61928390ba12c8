//! Records that were read from the disk a moment ago, bounded in bytes.
//!
//! A request that waited for a read is tried again from its start when the bytes are here; that
//! finds them even if they are the only ones that fit. First in, first out: what is read often is
//! made resident by segments, not kept here.

use std::collections::VecDeque;

use crate::storage::location::Location;
use crate::storage::location::SegmentSlot;

/// A record that was read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cached {
    /// Its bytes; they were checked.
    Good(Box<[u8]>),
    /// It is bad.
    Damaged,
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    records: ahash::HashMap<Location, Cached>,
    order: VecDeque<Location>,
    bytes: usize,
    bytes_max: usize,
}

impl Cache {
    /// A cache for about `bytes_max` bytes; one record is always kept.
    pub fn new(bytes_max: usize) -> Self {
        Self { records: ahash::HashMap::default(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// The record at a place.
    pub fn get(&self, at: Location) -> Option<&Cached> {
        self.records.get(&at)
    }

    /// Keeps a record, and forgets the oldest ones for it.
    pub fn insert(&mut self, at: Location, record: Cached) {
        self.remove(at);
        self.bytes += cost(&record);
        self.records.insert(at, record);
        self.order.push_back(at);
        while self.bytes > self.bytes_max && self.order.len() > 1 {
            let oldest = self.order.front().copied().expect("there are several");
            self.remove(oldest);
        }
    }

    /// Forgets all records of a segment whose slot will be used anew.
    pub fn forget_segment(&mut self, slot: SegmentSlot) {
        let gone: Vec<Location> =
            self.order.iter().copied().filter(|at| at.slot() == slot).collect();
        gone.into_iter().for_each(|at| self.remove(at));
    }

    fn remove(&mut self, at: Location) {
        if let Some(record) = self.records.remove(&at) {
            self.bytes -= cost(&record);
            if self.order.front() == Some(&at) {
                self.order.pop_front();
            } else {
                self.order.retain(|other| *other != at);
            }
        }
    }
}

/// What a record costs, with a share of the tables.
fn cost(record: &Cached) -> usize {
    64 + match record {
        Cached::Good(bytes) => bytes.len(),
        Cached::Damaged => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::location::Marks;

    #[test]
    fn the_oldest_goes_first_and_the_newest_always_fits() {
        let mut cache = Cache::new(400);
        for number in 0..3 {
            cache.insert(place(number), Cached::Good(vec![0; 100].into()));
        }
        assert_eq!(cache.get(place(0)), None);
        assert!(cache.get(place(1)).is_some());
        cache.insert(place(9), Cached::Good(vec![0; 10_000].into()));
        assert!(cache.get(place(9)).is_some());
        assert_eq!(cache.get(place(1)), None);
        cache.forget_segment(SegmentSlot(0));
        assert_eq!((cache.bytes, cache.order.len()), (0, 0));
    }

    fn place(number: u32) -> Location {
        Location::new(SegmentSlot(0), number * 16, 64, Marks::default())
    }
}
