//! What to ask next: which operation, and on which key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::rng::Rng;
use crate::zipf::{Scrambled, Zipf};

/// What a client wants done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// Read a key.
    Get,
    /// Overwrite a key.
    Set,
    /// Write a key that does not exist.
    Insert,
    /// Read a key, then write it.
    ReadModifyWrite,
}

/// Shares of the operations; only their ratios matter.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mix {
    /// Share of [`Operation::Get`].
    pub get: u32,
    /// Share of [`Operation::Set`].
    pub set: u32,
    /// Share of [`Operation::Insert`].
    pub insert: u32,
    /// Share of [`Operation::ReadModifyWrite`].
    pub rmw: u32,
}

impl Mix {
    fn total(self) -> u64 {
        [self.get, self.set, self.insert, self.rmw].into_iter().map(u64::from).sum()
    }

    fn draw(self, rng: &mut Rng) -> Operation {
        let mut rest = rng.below(self.total());
        for (share, operation) in [
            (self.get, Operation::Get),
            (self.set, Operation::Set),
            (self.insert, Operation::Insert),
        ] {
            if rest < u64::from(share) {
                return operation;
            }
            rest -= u64::from(share);
        }
        Operation::ReadModifyWrite
    }
}

impl std::str::FromStr for Mix {
    type Err = String;

    /// `get=95,set=5`: what is left out is zero.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut mix = Self { get: 0, set: 0, insert: 0, rmw: 0 };
        for part in text.split(',') {
            let wrong = || format!("{part:?} is not OPERATION=SHARE");
            let (name, share) = part.split_once('=').ok_or_else(wrong)?;
            let share = share.trim().parse().map_err(|_| wrong())?;
            match name.trim() {
                "get" => mix.get = share,
                "set" => mix.set = share,
                "insert" => mix.insert = share,
                "rmw" => mix.rmw = share,
                other => return Err(format!("{other:?} is none of get, set, insert, rmw")),
            }
        }
        if mix.total() == 0 { Err("all shares are zero".to_owned()) } else { Ok(mix) }
    }
}

/// Which keys are popular.
#[derive(Clone, Debug)]
pub enum Popularity {
    /// None more than another.
    Uniform,
    /// A few, scattered over all keys.
    Zipf(Scrambled),
    /// The newest.
    Latest(Zipf),
}

/// How many keys there are: grows while several threads insert.
#[derive(Debug)]
pub struct Population {
    loaded: u64,
    next: AtomicU64,
    outstanding_max: u64,
}

impl Population {
    /// `loaded` keys exist; at most `outstanding_max` inserts are on their way at any time.
    pub fn new(loaded: u64, outstanding_max: u64) -> Self {
        Self { loaded, next: AtomicU64::new(loaded), outstanding_max }
    }

    /// Keys below this number have been inserted and answered. A read of a key whose insert is
    /// still on its way would be a miss that no real client sees.
    fn visible(&self) -> u64 {
        let next = self.next.load(Ordering::Relaxed);
        self.loaded.max(next.saturating_sub(self.outstanding_max))
    }

    fn insert(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }
}

/// An endless row of operations that a seed determines (with one thread, or without inserts).
#[derive(Clone, Debug)]
pub struct Workload {
    mix: Mix,
    popularity: Popularity,
    population: Arc<Population>,
    rng: Rng,
}

impl Workload {
    /// Operations on keys of `population`.
    pub fn new(mix: Mix, popularity: Popularity, population: Arc<Population>, rng: Rng) -> Self {
        Self { mix, popularity, population, rng }
    }

    /// The next operation and the number of its key.
    pub fn draw(&mut self) -> (Operation, u64) {
        let operation = self.mix.draw(&mut self.rng);
        if operation == Operation::Insert {
            return (operation, self.population.insert());
        }
        let visible = self.population.visible();
        let key = match &mut self.popularity {
            Popularity::Uniform => self.rng.below(visible),
            Popularity::Zipf(scrambled) => scrambled.draw(&mut self.rng),
            Popularity::Latest(zipf) => {
                // The skew over 1 % more keys is the same to the third digit.
                if (visible - zipf.items()) * 100 > zipf.items() {
                    *zipf = zipf.resized(visible);
                }
                visible - 1 - zipf.draw(&mut self.rng)
            }
        };
        (operation, key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mix_is_drawn_in_its_shares() {
        let mix: Mix = "get=50, set=30,insert=15,rmw=5".parse().expect("a mix");
        let mut rng = Rng::from_seed(1);
        let mut counts = [0u32; 4];
        for _ in 0..100_000 {
            counts[mix.draw(&mut rng) as usize] += 1;
        }
        for (count, share) in counts.into_iter().zip([50, 30, 15, 5]) {
            assert!(count.abs_diff(share * 1_000) < 700, "{counts:?}");
        }
    }

    #[test]
    fn a_mix_that_means_nothing_is_refused() {
        for text in ["", "get", "get=x", "scan=5", "get=0"] {
            assert!(text.parse::<Mix>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn latest_reads_follow_the_inserts_and_never_overtake_them() {
        let population = Arc::new(Population::new(1_000, 10));
        let mix = "get=50,insert=50".parse().expect("a mix");
        let latest = Popularity::Latest(Zipf::new(1_000, 0.99));
        let mut workload = Workload::new(mix, latest, population, Rng::from_seed(2));
        let (mut inserted, mut near, mut reads) = (1_000, 0, 0);
        for _ in 0..100_000 {
            match workload.draw() {
                (Operation::Insert, key) => {
                    assert_eq!(key, inserted);
                    inserted += 1;
                }
                (_, key) => {
                    reads += 1;
                    assert!(key < 1_000.max(inserted - 10));
                    near += u32::from(key + 110 >= inserted);
                }
            }
        }
        assert!(near * 3 > reads, "a third of the reads go to the newest hundred: {near}/{reads}");
    }
}
