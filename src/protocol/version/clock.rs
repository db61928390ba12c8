//! Which write events somebody has seen: a version vector that tolerates gaps.
//!
//! # One list for clock and exact dots
//!
//! In the algorithms, what was seen is a clock V (life to highest counter) and a set X of exact
//! dots above it. Both are runs of counters of a life here: an entry of V is the run that begins
//! at zero, what begins later is X. Union is then the only operation, and keeping X free of what
//! is under V is no separate step.
//!
//! # Why a run may cover numbers that are no dots
//!
//! The counter is shared by all keys of a shard. A write with counter `c`, whose life issued `p`
//! for this key before it, is entered as the run `(p, c]`: no dot of this key lies between, and
//! none ever will. So a client that supersedes its own writes a thousand times beside a sibling
//! that it never saw holds one run and not a thousand dots.
//!
//! # Invariants
//!
//! - Runs are sorted by life and start, not empty, and neither overlap nor touch within a life.
//! - Therefore equal knowledge is an equal value, and has equal bytes.
//!
//! `tests/versions.rs` compares coverage with explicit sets of events after every step.

use std::mem;

use smallvec::SmallVec;

use super::dot::Dot;
use super::dot::Life;

/// The counters of one life above `after` and up to `upto`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Run {
    /// Whose counters.
    pub life: Life,
    /// The highest counter below the run; 0 for an entry of the clock proper.
    pub after: u64,
    /// The last counter in it, above `after`.
    pub upto: u64,
}

/// What was seen: a set of dots.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Clock {
    /// Two inline: nearly every key is written through one or two lives.
    runs: SmallVec<[Run; 2]>,
}

impl Clock {
    /// Whether `dot` was seen.
    pub fn covers(&self, dot: Dot) -> bool {
        let at = self.runs.partition_point(|run| (run.life, run.upto) < (dot.life, dot.counter));
        self.runs.get(at).is_some_and(|run| run.life == dot.life && run.after < dot.counter)
    }

    /// Up to which counter everything of `life` was seen; 0 if its first was not.
    pub fn highest(&self, life: Life) -> u64 {
        let at = self.runs.partition_point(|run| run.life < life);
        match self.runs.get(at) {
            Some(run) if run.life == life && run.after == 0 => run.upto,
            _ => 0,
        }
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Everything seen, in order: for formats and for folding.
    pub fn runs(&self) -> &[Run] {
        &self.runs
    }

    /// The entries of the clock proper, in order of lives.
    pub(super) fn entries(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.after == 0)
    }

    /// The runs above gaps, in order.
    pub(super) fn exact(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter().filter(|run| run.after != 0)
    }

    /// Adds `run`, and tells whether anything in it was new.
    pub(super) fn insert(&mut self, run: Run) -> bool {
        assert!(run.after < run.upto, "a run is not empty");
        let first =
            self.runs.partition_point(|known| (known.life, known.upto) < (run.life, run.after));
        let touching = self.runs[first..]
            .iter()
            .take_while(|known| known.life == run.life && known.after <= run.upto)
            .count();
        if touching == 0 {
            self.runs.insert(first, run);
            return true;
        }
        let before = self.runs[first];
        let last = self.runs[first + touching - 1];
        let after = before.after.min(run.after);
        let upto = last.upto.max(run.upto);
        self.runs[first] = Run { life: run.life, after, upto };
        if touching > 1 {
            self.runs.drain(first + 1..first + touching);
        }
        self.runs[first] != before
    }

    /// Adds everything that `other` saw, and tells whether anything was new.
    pub(super) fn join(&mut self, other: &Self) -> bool {
        if self.runs == other.runs {
            return false;
        }
        if other.runs.len() > RUNS_FEW {
            return self.join_many(other);
        }
        let mut changed = false;
        for run in &other.runs {
            changed |= self.insert(*run);
        }
        changed
    }

    /// The same for long clocks: in order, so that every run is added at the end.
    fn join_many(&mut self, other: &Self) -> bool {
        let before = mem::take(&mut self.runs);
        let mut all: Vec<Run> = before.iter().chain(&other.runs).copied().collect();
        all.sort_unstable();
        for run in all {
            self.insert(run);
        }
        self.runs != before
    }

    #[cfg(test)]
    pub(super) fn is_spilled(&self) -> bool {
        self.runs.spilled()
    }

    /// Adds a run that claims to stand behind all others, apart from the last; `None` if it does
    /// not. The way of decoders, who must not repair what they read.
    pub(super) fn append(&mut self, run: Run) -> Option<()> {
        let stands_apart = self.runs.last().is_none_or(|last| {
            last.life < run.life || (last.life == run.life && last.upto < run.after)
        });
        if run.after >= run.upto || !stands_apart {
            return None;
        }
        self.runs.push(run);
        Some(())
    }
}

/// Up to so many runs, adding them one by one moves less than sorting does.
const RUNS_FEW: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ActorId;
    use crate::base::rng::Rng;

    /// Against a set of numbers, over every shape that a few runs in a few places can have.
    #[test]
    fn a_clock_is_a_set_of_dots() {
        let mut rng = Rng::from_seed(1);
        for _ in 0..20_000 {
            let mut clock = Clock::default();
            let mut set = [[false; 13]; 2];
            for _ in 0..rng.below(7) {
                let (actor, after) = (rng.below(2), rng.below(11));
                let upto = rng.between(after + 1, 12);
                let numbers = &mut set[actor as usize][after as usize + 1..=upto as usize];
                let is_new = numbers.iter().any(|seen| !seen);
                numbers.fill(true);
                assert_eq!(clock.insert(Run { life: life(actor), after, upto }), is_new);
            }
            for (actor, numbers) in set.iter().enumerate() {
                let life = life(actor as u64);
                for (counter, seen) in numbers.iter().enumerate() {
                    assert_eq!(clock.covers(Dot { life, counter: counter as u64 }), *seen);
                }
                let highest = numbers[1..].iter().take_while(|seen| **seen).count();
                assert_eq!(clock.highest(life), highest as u64);
            }
            let mut again = Clock::default();
            clock.runs.iter().for_each(|run| again.append(*run).expect("canonical"));
            assert_eq!(again, clock);
        }
    }

    /// Long clocks take another way to the same.
    #[test]
    fn short_and_long_joins_agree() {
        let mut rng = Rng::from_seed(2);
        for _ in 0..2_000 {
            let [left, right] = std::array::from_fn(|_| {
                let mut clock = Clock::default();
                for _ in 0..rng.below(60) {
                    let after = rng.below(40);
                    clock.insert(Run { life: life(rng.below(4)), after, upto: after + 1 });
                }
                clock
            });
            let mut one_by_one = left.clone();
            let mut changed = false;
            for run in &right.runs {
                changed |= one_by_one.insert(*run);
            }
            let mut at_once = left.clone();
            assert_eq!(at_once.join_many(&right), changed);
            assert_eq!(at_once, one_by_one);
            let mut either = left;
            assert_eq!((either.join(&right), either), (changed, one_by_one));
        }
    }

    fn life(actor: u64) -> Life {
        Life { actor: ActorId::new(actor), birth: 3 }
    }
}
