//! The only place that reads a clock.
//!
//! A shard gets the time with each event, so that the simulator can give it any other.

use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::base::time::Wall;

/// Tells the time since its own start. Copies agree with each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    start: std::time::Instant,
}

impl Clock {
    /// A clock that begins now.
    pub(super) fn start() -> Self {
        Self { start: std::time::Instant::now() }
    }

    /// Both clocks.
    pub(super) fn now(&self) -> Now {
        let wall = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Now {
            monotonic: self.monotonic(),
            wall: Wall::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX)),
        }
    }

    /// The one that only moves forward.
    pub(super) fn monotonic(&self) -> Instant {
        let nanos = self.start.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_agree_and_never_go_back() {
        let clock = Clock::start();
        let first = clock.monotonic();
        let copy = clock;
        assert!(copy.monotonic() >= first);
        assert!(copy.now().wall > Wall::from_millis(1_700_000_000_000));
    }
}
