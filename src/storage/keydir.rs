//! Where each key's newest record is: one table a partition, ordered by the hash of the key.
//!
//! # Why sorted buckets
//!
//! The table must be walked in the order of hashes with a cursor that survives growth (scans,
//! exchanges and transfers do), must never stop the shard to grow, and must cost at most 24 bytes
//! a key. So a partition is a list of buckets in order, each a small sorted run of 16-byte entries.
//! A bucket that is full is split in two: at most [`BUCKET_ENTRIES_MAX`] entries move at a time.
//! Hashes are uniform, so a key's bucket and its place in it are guessed, not searched.
//!
//! # Invariants
//!
//! - Keys are not kept. Two keys may have one hash; then there are two entries, and their records
//!   tell them apart.
//! - Entries of one hash stand in one bucket: a split never parts them.
//! - While a log is recovered, each entry also has the order of its record, so that of two records
//!   of one key the newer wins whatever the order of reading. [`Keydir::finish_recovery`] drops it.

use smallvec::SmallVec;

use crate::base::id::PartitionId;
use crate::storage::location::Location;
use crate::storage::record::Order;

/// Entries in a bucket, at most: a split copies half of them.
pub const BUCKET_ENTRIES_MAX: usize = 128;

/// Room is added to a bucket for this many entries at a time.
const BUCKET_GROWTH: usize = 16;

/// The records that may be a key's: all of its hash, nearly always one or none.
pub type Candidates = SmallVec<[Location; 2]>;

#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    at: Location,
}

#[derive(Debug, Default)]
struct Bucket {
    /// No entry of this bucket has a lower hash, and none of the bucket before has one as high.
    first: u64,
    entries: Vec<Entry>,
    /// Beside `entries` while recovering, else empty.
    orders: Vec<Order>,
}

/// The keys of one partition.
#[derive(Debug, Default)]
pub struct Keydir {
    buckets: Vec<Bucket>,
    entries: usize,
    tombstones: usize,
    recovering: bool,
}

impl Keydir {
    /// An empty table that keeps orders until [`Keydir::finish_recovery`].
    pub fn recovering() -> Self {
        Self { recovering: true, ..Self::default() }
    }

    /// How many keys, tombstones among them.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// How many keys have a value, as far as the log knows (it knows no expiry).
    pub fn values(&self) -> usize {
        self.entries - self.tombstones
    }

    /// All entries of this hash.
    pub fn find(&self, hash: u64) -> Candidates {
        let Some(index) = self.bucket_of(hash) else { return Candidates::new() };
        let (bucket, start) = (&self.buckets[index], self.lower_bound(index, hash));
        bucket.entries[start..]
            .iter()
            .take_while(|entry| entry.hash == hash)
            .map(|entry| entry.at)
            .collect()
    }

    /// Reads from the bucket in which this hash probably stands, so that it is near.
    fn touch_bucket(&self, hash: u64) -> u64 {
        self.buckets.get(guess(hash, self.buckets.len())).map_or(0, |bucket| bucket.first)
    }

    /// The same of the entry, once the bucket is near.
    fn touch_entry(&self, hash: u64) -> u64 {
        let Some(index) = self.bucket_of(hash) else { return 0 };
        self.buckets[index].entries.get(self.guess_in(index, hash)).map_or(0, |entry| entry.hash)
    }

    /// Adds an entry, beside any other of the same hash.
    pub fn insert(&mut self, hash: u64, at: Location, order: Order) {
        if self.buckets.is_empty() {
            self.buckets.push(Bucket::default());
        }
        let mut index = self.bucket_of(hash).expect("there is a bucket");
        if self.buckets[index].entries.len() >= BUCKET_ENTRIES_MAX {
            if let Some(upper) = self.buckets[index].split() {
                self.buckets.insert(index + 1, upper);
            }
            index = self.bucket_of(hash).expect("there is a bucket");
        }
        let place = self.lower_bound(index, hash);
        self.buckets[index].insert(place, Entry { hash, at }, self.recovering.then_some(order));
        self.entries += 1;
        self.tombstones += usize::from(at.marks().tombstone);
    }

    /// Puts `new` in the place of `old`. False, and nothing is changed, if `old` is not there.
    pub fn replace(&mut self, hash: u64, old: Location, new: Location) -> bool {
        let Some((bucket, at)) = self.position(hash, old) else { return false };
        self.buckets[bucket].entries[at].at = new;
        self.tombstones += usize::from(new.marks().tombstone);
        self.tombstones -= usize::from(old.marks().tombstone);
        true
    }

    /// Takes an entry out. False if it is not there.
    pub fn remove(&mut self, hash: u64, old: Location) -> bool {
        let Some((bucket, at)) = self.position(hash, old) else { return false };
        self.buckets[bucket].remove(at);
        if self.buckets[bucket].entries.is_empty() && bucket > 0 {
            self.buckets.remove(bucket);
        }
        self.entries -= 1;
        self.tombstones -= usize::from(old.marks().tombstone);
        true
    }

    /// The entries of this hash with the orders of their records. Only while recovering.
    pub fn find_with_order(&self, hash: u64) -> SmallVec<[(Location, Order); 2]> {
        assert!(self.recovering, "orders are kept only while recovering");
        let Some(index) = self.bucket_of(hash) else { return SmallVec::new() };
        let (bucket, start) = (&self.buckets[index], self.lower_bound(index, hash));
        let entries = bucket.entries[start..].iter().zip(&bucket.orders[start..]);
        entries
            .take_while(|(entry, _)| entry.hash == hash)
            .map(|(entry, order)| (entry.at, *order))
            .collect()
    }

    /// Puts a newer record in the place of an older one. Only while recovering.
    pub fn replace_recovered(&mut self, hash: u64, old: Location, new: Location, order: Order) {
        let (bucket, at) = self.position(hash, old).expect("the caller found it just now");
        self.buckets[bucket].orders[at] = order;
        self.replace(hash, old, new);
    }

    /// Forgets the orders.
    pub fn finish_recovery(&mut self) {
        self.recovering = false;
        for bucket in &mut self.buckets {
            bucket.orders = Vec::new();
        }
    }

    /// The first entry at or after a cursor, which is a hash and how many entries of it were seen.
    pub fn entry_from(&self, hash: u64, seen: usize) -> Option<(u64, Location)> {
        let index = self.bucket_of(hash)?;
        let (bucket, start) = (&self.buckets[index], self.lower_bound(index, hash));
        let same = bucket.entries[start..].iter().take_while(|entry| entry.hash == hash).count();
        let at = start + seen.min(same);
        let entry = match bucket.entries.get(at) {
            Some(entry) => entry,
            None => self.buckets[index + 1..].iter().find_map(|next| next.entries.first())?,
        };
        Some((entry.hash, entry.at))
    }

    /// What the table costs, in bytes, with what is reserved and not used.
    pub fn memory_bytes(&self) -> usize {
        let buckets = self.buckets.capacity() * size_of::<Bucket>();
        let entries = self.buckets.iter().map(|bucket| {
            bucket.entries.capacity() * size_of::<Entry>()
                + bucket.orders.capacity() * size_of::<Order>()
        });
        buckets + entries.sum::<usize>()
    }

    /// The bucket in which entries of this hash stand, guessed from the hash and then corrected.
    fn bucket_of(&self, hash: u64) -> Option<usize> {
        let last = self.buckets.len().checked_sub(1)?;
        let mut index = guess(hash, self.buckets.len());
        while index < last && self.buckets[index + 1].first <= hash {
            index += 1;
        }
        while index > 0 && self.buckets[index].first > hash {
            index -= 1;
        }
        Some(index)
    }

    /// Where the first entry of a bucket with at least this hash stands: guessed from its share of
    /// the bucket's hashes and then corrected by a few steps. A binary search would wait for the
    /// memory of half a dozen places, one after the other.
    fn lower_bound(&self, index: usize, hash: u64) -> usize {
        let entries = &self.buckets[index].entries;
        let mut at = self.guess_in(index, hash);
        while at < entries.len() && entries[at].hash < hash {
            at += 1;
        }
        while at > 0 && entries[at - 1].hash >= hash {
            at -= 1;
        }
        at
    }

    /// Where a hash would stand in a bucket if its entries were spread evenly.
    fn guess_in(&self, index: usize, hash: u64) -> usize {
        let bucket = &self.buckets[index];
        let end = self.buckets.get(index + 1).map_or(u64::MAX, |next| next.first);
        // The upper halves say enough of both.
        let span = ((end - bucket.first) >> 32).max(1);
        let count = bucket.entries.len();
        let share = (hash.saturating_sub(bucket.first) >> 32) * count as u64 / span;
        (share as usize).min(count)
    }

    fn position(&self, hash: u64, at: Location) -> Option<(usize, usize)> {
        let index = self.bucket_of(hash)?;
        let (bucket, start) = (&self.buckets[index], self.lower_bound(index, hash));
        let within = bucket.entries[start..]
            .iter()
            .take_while(|entry| entry.hash == hash)
            .position(|entry| entry.at == at)?;
        Some((index, start + within))
    }
}

/// These are about to be looked for: reads from all the places where that will look. One after the
/// other each would wait for two or three places that are far from the core; here the waits of all of
/// them overlap. It decides nothing.
pub fn draw_near(keydirs: &[Keydir], places: impl Iterator<Item = (PartitionId, u64)> + Clone) {
    let keydir = |partition: PartitionId| keydirs.get(partition.to_raw() as usize);
    let mut touched = 0;
    for (partition, hash) in places.clone() {
        touched ^= keydir(partition).map_or(0, |keydir| keydir.touch_bucket(hash));
    }
    for (partition, hash) in places {
        touched ^= keydir(partition).map_or(0, |keydir| keydir.touch_entry(hash));
    }
    std::hint::black_box(touched);
}

impl Bucket {
    fn insert(&mut self, at: usize, entry: Entry, order: Option<Order>) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact(BUCKET_GROWTH);
        }
        self.entries.insert(at, entry);
        if let Some(order) = order {
            self.orders.insert(at, order);
        }
    }

    fn remove(&mut self, at: usize) {
        self.entries.remove(at);
        if !self.orders.is_empty() {
            self.orders.remove(at);
        }
        if self.entries.capacity() > self.entries.len() + 2 * BUCKET_GROWTH {
            self.entries.shrink_to(self.entries.len() + BUCKET_GROWTH);
        }
    }

    /// Takes the upper half out, at a border between two hashes. `None` if all have one hash.
    fn split(&mut self) -> Option<Self> {
        let middle = self.entries[self.entries.len() / 2].hash;
        let lowest = self.entries.first().expect("a full bucket has entries").hash;
        let at = if middle > lowest {
            self.entries.partition_point(|entry| entry.hash < middle)
        } else {
            self.entries.partition_point(|entry| entry.hash <= middle)
        };
        let first = self.entries.get(at)?.hash;
        let entries = self.entries.split_off(at);
        let orders = if self.orders.is_empty() { Vec::new() } else { self.orders.split_off(at) };
        self.entries.shrink_to(self.entries.len() + BUCKET_GROWTH);
        Some(Self { first, entries, orders })
    }
}

/// Where a hash would stand among `count` equal slices of all hashes.
fn guess(hash: u64, count: usize) -> usize {
    ((u128::from(hash) * count as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::rng::Rng;
    use crate::storage::location::Marks;
    use crate::storage::location::SegmentSlot;

    /// A walk by cursor, and every look-up, agree with a sorted map through splits and removals.
    #[test]
    fn it_agrees_with_a_sorted_map() {
        for seed in 0..60 {
            let mut rng = Rng::from_seed(seed);
            let mut keydir = Keydir::default();
            let mut model: BTreeMap<u64, Vec<Location>> = BTreeMap::new();
            let few_hashes = rng.chance(1, 3);
            for step in 0..3000 {
                let hash = if few_hashes { rng.below(40) << 58 } else { rng.next_u64() };
                let known = model.iter().nth(rng.below(model.len().max(1) as u64) as usize);
                match (rng.below(4), known.map(|(hash, all)| (*hash, all[0]))) {
                    (0, Some((hash, old))) => {
                        assert!(keydir.remove(hash, old));
                        assert!(!keydir.remove(hash, old));
                        forget(&mut model, hash, old);
                    }
                    (1, Some((hash, old))) => {
                        assert!(keydir.replace(hash, old, place(step)));
                        forget(&mut model, hash, old);
                        model.entry(hash).or_default().push(place(step));
                    }
                    _ => {
                        keydir.insert(hash, place(step), Order::default());
                        model.entry(hash).or_default().push(place(step));
                    }
                }
            }
            check(&keydir, &model, seed);
        }
    }

    #[test]
    fn a_million_keys_cost_at_most_24_bytes_each() {
        let mut rng = Rng::from_seed(1);
        let mut keydirs: Vec<Keydir> = (0..128).map(|_| Keydir::default()).collect();
        for step in 0..1_000_000 {
            let partition = rng.below(128) as usize;
            keydirs[partition].insert(rng.next_u64(), place(step % 1_000_000), Order::default());
        }
        let bytes: usize = keydirs.iter().map(Keydir::memory_bytes).sum();
        assert!(bytes <= 24 * 1_000_000, "{bytes} bytes");
    }

    #[test]
    fn orders_follow_their_entries_while_recovering() {
        let mut rng = Rng::from_seed(3);
        let mut keydir = Keydir::recovering();
        let hashes: Vec<u64> = (0..2000).map(|_| rng.next_u64()).collect();
        for (step, hash) in hashes.iter().enumerate() {
            keydir.insert(*hash, place(step as u32), Order(step as u64));
        }
        for (step, hash) in hashes.iter().enumerate() {
            let found = keydir.find_with_order(*hash);
            assert_eq!(found[..], [(place(step as u32), Order(step as u64))]);
        }
        keydir.replace_recovered(hashes[7], place(7), place(5000), Order(9999));
        assert_eq!(keydir.find_with_order(hashes[7])[..], [(place(5000), Order(9999))]);
        keydir.finish_recovery();
        assert_eq!(keydir.find(hashes[7])[..], [place(5000)]);
    }

    fn check(keydir: &Keydir, model: &BTreeMap<u64, Vec<Location>>, seed: u64) {
        assert_eq!(keydir.len(), model.values().map(Vec::len).sum::<usize>(), "seed={seed}");
        let (mut cursor, mut seen, mut walked) = (0, 0, 0);
        while let Some((hash, at)) = keydir.entry_from(cursor, seen) {
            assert!(model[&hash].contains(&at), "seed={seed}");
            seen = if hash == cursor { seen + 1 } else { 1 };
            cursor = hash;
            walked += 1;
        }
        assert_eq!(walked, keydir.len(), "the walk meets each entry once; seed={seed}");
        for (hash, expected) in model {
            let mut found = keydir.find(*hash).to_vec();
            let mut expected = expected.clone();
            found.sort();
            expected.sort();
            assert_eq!(found, expected, "seed={seed}");
        }
    }

    fn forget(model: &mut BTreeMap<u64, Vec<Location>>, hash: u64, old: Location) {
        let all = model.get_mut(&hash).expect("it was picked from the model");
        all.retain(|at| *at != old);
        if all.is_empty() {
            model.remove(&hash);
        }
    }

    fn place(number: u32) -> Location {
        Location::new(
            SegmentSlot((number >> 12) as u16),
            (number & 0xfff) * 16,
            64,
            Marks::default(),
        )
    }
}
