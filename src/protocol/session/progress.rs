//! Whether a client goes on, however slowly, or only keeps a place.
//!
//! A fixed time for a whole request would cut off an honest client on a thin line with a large value,
//! and a time since the last byte lets a hostile one send a byte now and then for ever. So there is a
//! time for each so many bytes.

use crate::base::limits::PATIENCE_SECONDS;
use crate::base::limits::PROGRESS_BYTES;
use crate::base::time::Duration;
use crate::base::time::Instant;

/// How a transfer goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    since: Instant,
    bytes: usize,
}

impl Progress {
    /// It begins.
    pub(super) fn from(now: Instant) -> Self {
        Self { since: now, bytes: 0 }
    }

    /// So many bytes more.
    pub(super) fn advance(&mut self, now: Instant, bytes: usize) {
        self.bytes += bytes;
        if self.bytes >= PROGRESS_BYTES {
            *self = Self::from(now);
        }
    }

    /// When it is too slow.
    pub(super) fn deadline(&self) -> Instant {
        self.since + Duration::from_secs(PATIENCE_SECONDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_much_buys_more_time() {
        let at = |seconds: u64| Instant::START + Duration::from_secs(seconds);
        let mut progress = Progress::from(at(0));
        progress.advance(at(9), PROGRESS_BYTES - 1);
        assert_eq!(progress.deadline(), at(10));
        progress.advance(at(9), 1);
        assert_eq!(progress.deadline(), at(19));
    }
}
