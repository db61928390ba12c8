//! Seeded randomness, cheap enough to be drawn several times an operation.
//!
//! SplitMix64: eight bytes of state and a handful of instructions. A seed gives the same stream
//! for ever, so that a run can be repeated on another server with the very same requests.

/// A stream of random numbers that its seed determines.
#[derive(Clone, Debug)]
pub struct Rng {
    state: u64,
}

impl Rng {
    /// The stream of this seed.
    pub fn from_seed(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The stream of client thread `index`: streams of neighbours share nothing.
    pub fn for_thread(seed: u64, index: usize) -> Self {
        Self::from_seed(mix(seed ^ mix(index as u64 + 1)))
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.state)
    }

    /// A number below `bound`.
    ///
    /// # Panics
    ///
    /// If `bound` is zero.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "there is no number below zero");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from 0 (possible) to 1 (not possible).
    pub fn fraction(&mut self) -> f64 {
        // 53 bits: all that a double holds, so that 1.0 cannot come out by rounding.
        (self.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

/// Scatters the bits of a number; one to one.
pub fn mix(number: u64) -> u64 {
    let mut bits = number;
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_stream_and_threads_differ() {
        let stream = |mut rng: Rng| -> Vec<u64> { (0..8).map(|_| rng.next_u64()).collect() };
        assert_eq!(stream(Rng::for_thread(7, 0)), stream(Rng::for_thread(7, 0)));
        assert_ne!(stream(Rng::for_thread(7, 0)), stream(Rng::for_thread(7, 1)));
        assert_ne!(stream(Rng::for_thread(7, 0)), stream(Rng::for_thread(8, 0)));
    }

    #[test]
    fn fractions_stay_below_one_and_average_a_half() {
        let mut rng = Rng::from_seed(1);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.fraction()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / draws.len() as f64;
        assert!((mean - 0.5).abs() < 0.01, "mean {mean}");
    }
}
