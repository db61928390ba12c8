//! When the requests of an open loop are due.
//!
//! # Why the schedule knows nothing of the server
//!
//! A closed loop waits for an answer before it asks again, so a server that stalls for a second
//! delays one request and is not asked the thousand others that real users would have sent: the
//! stall hides itself ("coordinated omission"). Here the due times are drawn in advance and do
//! not move; a request that leaves late is counted from the time it was due.

use crate::rng::Rng;

/// How requests are spread over time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Spacing {
    /// Independent users: gaps are exponential, so bursts happen.
    Poisson,
    /// A metronome.
    Fixed,
}

/// An endless row of due times, in nanoseconds since the start of the run.
#[derive(Clone, Debug)]
pub struct Schedule {
    spacing: Spacing,
    start: u64,
    gap: f64,
    /// Nanoseconds after `start`. A double holds whole nanoseconds exactly for 104 days.
    elapsed: f64,
    rng: Rng,
}

impl Schedule {
    /// `rate` requests a second from `start` on.
    ///
    /// # Panics
    ///
    /// If the rate is not positive.
    pub fn new(start: u64, rate: f64, spacing: Spacing, rng: Rng) -> Self {
        assert!(rate > 0.0, "an open loop needs a rate");
        let mut schedule = Self { spacing, start, gap: 1e9 / rate, elapsed: 0.0, rng };
        if spacing == Spacing::Poisson {
            schedule.advance();
        }
        schedule
    }

    /// When the next request is due.
    pub fn next_due(&self) -> u64 {
        self.start + self.elapsed as u64
    }

    /// Takes the next due time if it is not after `now`.
    pub fn take_due(&mut self, now: u64) -> Option<u64> {
        let due = self.next_due();
        if due > now {
            return None;
        }
        self.advance();
        Some(due)
    }

    fn advance(&mut self) {
        self.elapsed += match self.spacing {
            Spacing::Fixed => self.gap,
            // 1 - fraction is never zero, so the logarithm is finite.
            Spacing::Poisson => -self.gap * (1.0 - self.rng.fraction()).ln(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_spacing_is_a_metronome_from_the_start() {
        let mut schedule = Schedule::new(5, 1_000_000.0, Spacing::Fixed, Rng::from_seed(0));
        let due: Vec<u64> = std::iter::from_fn(|| schedule.take_due(4_005)).collect();
        assert_eq!(due, [5, 1_005, 2_005, 3_005, 4_005]);
        assert_eq!(schedule.next_due(), 5_005);
    }

    #[test]
    fn poisson_gaps_have_the_mean_and_the_spread_of_an_exponential() {
        let mut schedule = Schedule::new(0, 10_000.0, Spacing::Poisson, Rng::from_seed(1));
        let mut before = 0;
        let mut gaps = Vec::new();
        for _ in 0..200_000 {
            let due = schedule.take_due(u64::MAX).expect("everything is due at the end of time");
            gaps.push((due - before) as f64);
            before = due;
        }
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance =
            gaps.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / gaps.len() as f64;
        assert!((mean / 100_000.0 - 1.0).abs() < 0.02, "mean {mean}");
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02, "spread {}", variance.sqrt());
        // Exponential: 1/e of the gaps are longer than the mean.
        let longer = gaps.iter().filter(|&&gap| gap > mean).count() as f64 / gaps.len() as f64;
        assert!((longer - (-1.0f64).exp()).abs() < 0.01, "longer than the mean: {longer}");
    }

    #[test]
    fn due_times_do_not_move_when_nobody_takes_them() {
        let mut late = Schedule::new(0, 1_000.0, Spacing::Poisson, Rng::from_seed(2));
        let mut punctual = late.clone();
        let mut on_time = Vec::new();
        for now in (0..50_000_000).step_by(1_000) {
            on_time.extend(std::iter::from_fn(|| punctual.take_due(now)));
        }
        let all_at_once: Vec<u64> = std::iter::from_fn(|| late.take_due(49_999_000)).collect();
        assert_eq!(on_time, all_at_once);
    }
}
