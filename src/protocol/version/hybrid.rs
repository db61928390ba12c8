//! The clock that people see: milliseconds with a counter, above everything that it has met.
//!
//! It decides which of several concurrent versions a plain GET shows and which one stays under
//! last-writer-wins. Causality never depends on it: a wrong clock can pick the wrong sibling,
//! never lose one. It is a hybrid logical clock (Kulkarni et al., 2014) in one number, so that
//! comparing two is comparing two integers.
//!
//! # Why one from far ahead is refused
//!
//! A machine whose clock is an hour ahead would win every conflict for an hour, and adopting its
//! time would carry the error to every node that it talks to. So a shard's clock never goes more
//! than [`CLOCK_AHEAD_MILLIS_MAX`] ahead of its own wall clock because of another's.

use std::fmt;

use crate::base::limits::CLOCK_AHEAD_MILLIS_MAX;
use crate::base::time::Wall;

const LOGICAL_BITS: u32 = 16;
const MILLIS_MAX: u64 = u64::MAX >> LOGICAL_BITS;

/// A moment: 48 bits of milliseconds since the Unix epoch, then 16 bits of counter.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HybridTime(u64);

impl HybridTime {
    /// The first moment of `wall`'s millisecond; beyond 48 bits, the last millisecond.
    pub fn from_wall(wall: Wall) -> Self {
        Self(wall.as_millis().min(MILLIS_MAX) << LOGICAL_BITS)
    }

    /// Wraps the number that [`HybridTime::to_raw`] gave.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The whole number, for formats.
    pub const fn to_raw(self) -> u64 {
        self.0
    }

    /// Milliseconds since the Unix epoch.
    pub const fn millis(self) -> u64 {
        self.0 >> LOGICAL_BITS
    }

    /// The moment after this one. A full counter carries into the milliseconds.
    fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    fn is_too_far_ahead(self, wall: Wall) -> bool {
        self.millis() > wall.as_millis().saturating_add(CLOCK_AHEAD_MILLIS_MAX)
    }
}

impl fmt::Display for HybridTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms + {}", self.millis(), self.0 & (u64::MAX >> (64 - LOGICAL_BITS)))
    }
}

/// Why a version's clock was refused. The shard's clock is as it was.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HybridError {
    /// It is further ahead of this machine's wall clock than
    /// [`CLOCK_AHEAD_MILLIS_MAX`]: one of the two clocks is wrong. Refuse the version, count it.
    Ahead {
        /// By how much.
        millis: u64,
    },
}

impl fmt::Display for HybridError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ahead { millis } => write!(f, "its clock is {millis} ms ahead of this node's"),
        }
    }
}

impl std::error::Error for HybridError {}

/// The hybrid clock of one shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct HybridClock {
    last: HybridTime,
}

impl HybridClock {
    /// The time of a new version that supersedes versions up to `superseded` (zero for none):
    /// above those, above all that this clock gave or observed, not before `wall`.
    ///
    /// If what it supersedes is too far ahead, the version still goes above it, as it must, but
    /// this clock does not follow: the error stays with the one key. Replicas whose clocks agree
    /// with `wall` refuse such a version; the caller may ask [`HybridClock::check`] first.
    pub fn tick(&mut self, wall: Wall, superseded: HybridTime) -> HybridTime {
        let own = self.last.next().max(HybridTime::from_wall(wall));
        let time = own.max(superseded.next());
        self.last = if superseded.is_too_far_ahead(wall) { own } else { time };
        time
    }

    /// Goes up to `time`, which came with a version from elsewhere.
    ///
    /// # Errors
    ///
    /// [`HybridError::Ahead`]: the clock is unchanged and the version must not be stored.
    pub fn observe(&mut self, wall: Wall, time: HybridTime) -> Result<(), HybridError> {
        Self::check(wall, time)?;
        self.last = self.last.max(time);
        Ok(())
    }

    /// Whether a receiver whose wall clock shows `wall` takes a version of `time`.
    ///
    /// # Errors
    ///
    /// [`HybridError::Ahead`]: it does not.
    pub fn check(wall: Wall, time: HybridTime) -> Result<(), HybridError> {
        if time.is_too_far_ahead(wall) {
            return Err(HybridError::Ahead { millis: time.millis() - wall.as_millis() });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Wall = Wall::from_millis(1_000_000);

    #[test]
    fn it_moves_forward_while_the_wall_stands_or_jumps_back() {
        let mut clock = HybridClock::default();
        let first = clock.tick(NOON, HybridTime::default());
        assert_eq!(first, HybridTime::from_wall(NOON));
        let second = clock.tick(NOON, HybridTime::default());
        let third = clock.tick(Wall::from_millis(7), HybridTime::default());
        assert!(first < second);
        assert!(second < third);
    }

    #[test]
    fn a_full_counter_carries_into_the_milliseconds() {
        let full = HybridTime::from_raw(HybridTime::from_wall(NOON).to_raw() + 0xffff);
        assert_eq!(full.next().millis(), NOON.as_millis() + 1);
    }

    #[test]
    fn a_time_at_the_bound_is_adopted_and_one_beyond_is_refused() {
        let mut clock = HybridClock::default();
        let at =
            HybridTime::from_wall(Wall::from_millis(NOON.as_millis() + CLOCK_AHEAD_MILLIS_MAX));
        let beyond = HybridTime::from_wall(Wall::from_millis(at.millis() + 1));

        assert_eq!(clock.observe(NOON, beyond), Err(HybridError::Ahead { millis: 501 }));
        assert_eq!(clock.tick(NOON, HybridTime::default()), HybridTime::from_wall(NOON));

        assert_eq!(clock.observe(NOON, at), Ok(()));
        assert!(clock.tick(NOON, HybridTime::default()) > at);
    }

    /// An hour ahead on disk, from a day when this machine's clock was wrong: the key goes on above
    /// it, the other keys do not follow.
    #[test]
    fn superseding_a_version_from_far_ahead_does_not_move_the_clock() {
        let mut clock = HybridClock::default();
        let far = HybridTime::from_wall(Wall::from_millis(NOON.as_millis() + 3_600_000));
        assert!(clock.tick(NOON, far) > far);
        assert_eq!(clock.tick(NOON, HybridTime::default()).millis(), NOON.as_millis());
    }
}
