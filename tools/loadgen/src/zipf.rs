//! Zipfian ranks, as YCSB draws them (Gray et al., "Quickly generating billion-record synthetic
//! databases", SIGMOD 1994): constant time per draw, whatever the number of items.
//!
//! The normalising sum zeta(n, theta) is computed by Euler and Maclaurin's formula instead of
//! n additions: YCSB's scrambled form draws from ten billion items, and the `latest` form needs a
//! new sum after each insert.

use crate::rng::Rng;

/// Draws ranks from 0, the most popular, to `items` - 1.
#[derive(Clone, Debug)]
pub struct Zipf {
    items: u64,
    theta: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
    /// Below this, scaled by zeta, the rank is 1.
    second: f64,
}

impl Zipf {
    /// # Panics
    ///
    /// If `theta` is not strictly between 0 and 1, or there are no items.
    pub fn new(items: u64, theta: f64) -> Self {
        assert!(items > 0, "a distribution over nothing");
        assert!(theta > 0.0, "theta 0 is the uniform distribution");
        assert!(theta < 1.0, "this method of drawing needs theta below 1");
        let zeta = zeta(items, theta);
        let share = 1.0 - (2.0 / items as f64).powf(1.0 - theta);
        let eta = share / (1.0 - zeta_by_adding(2, theta) / zeta);
        Self {
            items,
            theta,
            alpha: 1.0 / (1.0 - theta),
            zeta,
            eta,
            second: 1.0 + 0.5f64.powf(theta),
        }
    }

    /// The same skew over another number of items.
    pub fn resized(&self, items: u64) -> Self {
        Self::new(items, self.theta)
    }

    /// Over how many items it draws.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// One rank.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        let fraction = rng.fraction();
        let scaled = fraction * self.zeta;
        if scaled < 1.0 {
            return 0;
        }
        if scaled < self.second {
            return 1.min(self.items - 1);
        }
        let spread = (self.eta * fraction - self.eta + 1.0).powf(self.alpha);
        ((self.items as f64 * spread) as u64).min(self.items - 1)
    }
}

/// YCSB's scrambled form: the popular ranks scattered over the keys by a hash.
///
/// Ranks come from ten billion items as in YCSB, so that the hottest key has the share that
/// published results have (3.8 % at theta 0.99), however many keys there are.
#[derive(Clone, Debug)]
pub struct Scrambled {
    ranks: Zipf,
    keys: u64,
}

impl Scrambled {
    /// Scattered over `keys` keys.
    pub fn new(keys: u64, theta: f64) -> Self {
        assert!(keys > 0, "a distribution over nothing");
        Self { ranks: Zipf::new(SCRAMBLED_ITEMS, theta), keys }
    }

    /// The number of one key.
    pub fn draw(&self, rng: &mut Rng) -> u64 {
        fnv_1a(self.ranks.draw(rng)) % self.keys
    }
}

/// What YCSB calls `ITEM_COUNT`.
const SCRAMBLED_ITEMS: u64 = 10_000_000_000;

/// Terms that are added one by one before the formula takes over: at 64 its error is below 1e-12.
const ZETA_EXACT: u64 = 64;

fn zeta(items: u64, theta: f64) -> f64 {
    if items <= ZETA_EXACT {
        return zeta_by_adding(items, theta);
    }
    // Sum from a to n of f(i) = integral + (f(a) + f(n)) / 2 + (f'(n) - f'(a)) / 12 - ...
    let (first, last) = (ZETA_EXACT as f64, items as f64);
    let term = |at: f64| at.powf(-theta);
    let slope = |at: f64| -theta * at.powf(-theta - 1.0);
    let third = |at: f64| -theta * (theta + 1.0) * (theta + 2.0) * at.powf(-theta - 3.0);
    let integral = (last.powf(1.0 - theta) - first.powf(1.0 - theta)) / (1.0 - theta);
    zeta_by_adding(ZETA_EXACT - 1, theta)
        + integral
        + (term(first) + term(last)) / 2.0
        + (slope(last) - slope(first)) / 12.0
        - (third(last) - third(first)) / 720.0
}

fn zeta_by_adding(items: u64, theta: f64) -> f64 {
    (1..=items).map(|rank| (rank as f64).powf(-theta)).sum()
}

/// FNV-1a over the eight bytes of a number, as in YCSB's `Utils.fnvhash64`.
fn fnv_1a(number: u64) -> u64 {
    let hash = number.to_le_bytes().iter().fold(0xCBF2_9CE4_8422_2325u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01B3)
    });
    (hash as i64).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_agrees_with_adding_and_with_the_constant_in_ycsb() {
        for theta in [0.2, 0.5, 0.9, 0.99] {
            for items in [1, 2, 64, 65, 1_000, 100_000] {
                let (fast, slow) = (zeta(items, theta), zeta_by_adding(items, theta));
                assert!((fast / slow - 1.0).abs() < 1e-10, "{items} {theta}: {fast} {slow}");
            }
        }
        assert!((zeta(SCRAMBLED_ITEMS, 0.99) - 26.469_028_201_783_02).abs() < 1e-6);
    }

    #[test]
    fn each_rank_comes_up_as_often_as_its_weight_says() {
        let (items, draws) = (1_000, 1_000_000);
        let zipf = Zipf::new(items, 0.99);
        let mut rng = Rng::from_seed(3);
        let mut counts = vec![0u32; items as usize];
        for _ in 0..draws {
            counts[zipf.draw(&mut rng) as usize] += 1;
        }
        // The method is exact for the first two ranks and close for the rest.
        for (rank, tolerance) in [(0u32, 0.02), (1, 0.02), (9, 0.15), (99, 0.15)] {
            let expected = f64::from(draws) * f64::from(rank + 1).powf(-0.99) / zipf.zeta;
            let ratio = f64::from(counts[rank as usize]) / expected;
            assert!((ratio - 1.0).abs() < tolerance, "rank {rank}: {ratio}");
        }
    }

    #[test]
    fn scrambling_keeps_the_share_of_the_hottest_key_and_scatters_it() {
        let scrambled = Scrambled::new(1_000_000, 0.99);
        let mut rng = Rng::from_seed(4);
        let hottest = fnv_1a(0) % 1_000_000;
        let draws = 200_000;
        let hits = (0..draws).filter(|_| scrambled.draw(&mut rng) == hottest).count();
        let share = hits as f64 / f64::from(draws);
        assert!((share - 1.0 / 26.469).abs() < 0.004, "share {share}");
        assert!(hottest > 1_000, "the hottest key is not one of the first");
    }

    #[test]
    fn one_item_is_always_that_item() {
        let mut rng = Rng::from_seed(5);
        assert!((0..1_000).all(|_| Zipf::new(1, 0.5).draw(&mut rng) == 0));
        assert!((0..1_000).all(|_| Zipf::new(2, 0.5).draw(&mut rng) < 2));
    }
}
