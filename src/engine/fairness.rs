//! Nobody who sends much makes those wait who send little: who is received from next, and for how long
//! a turn handles what came.
//!
//! - A client with small requests is received from until that ends: one operation serves them all. The
//!   kernel then hands over whatever has come before it looks at anything else, as much as the short
//!   buffers hold. So that is for those that are known for it ([`Pace`]); of others one piece is asked
//!   at a time.
//! - Those with large pieces have a few long buffers of their own and take turns for them
//!   ([`Turns`]). Their pieces are handled when everything else of a turn is done, and for how long is
//!   bounded ([`Share`]): what one costs is not known before.
//! - What else a connection sends at once, it gets handled [`SERVED_BYTES`] a turn.

use std::collections::VecDeque;

use crate::base::id::ConnectionId;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::engine::uring::LONG_BUFFER_BYTES;
use crate::engine::uring::SHORT_BUFFER_BYTES;

/// A connection whose pieces of a turn are together this long is served again in the next. Short ones
/// do not wait: they could come faster than one a turn.
pub(super) const SERVED_BYTES: usize = SHORT_BUFFER_BYTES;

/// So many pieces, all of them short, tell of a client with small requests.
pub(super) const SHORT_PIECES: u8 = 4;

/// So many do after a large one: those that send both are better off among themselves.
const SHORT_PIECES_AFTER_LARGE: u8 = 64;

/// A turn handles a large request for so many small ones: its cost, most of it the kernel's.
const SMALL_FOR_EACH_LARGE: usize = 4;

/// So many large pieces are asked for or wait at most: half of the long buffers, for those that were
/// asked for earlier may come too. Fewer cost more of the CPU, most of it in TCP.
pub(super) const LARGE_MAX: usize = 16;

/// What the pieces of a connection tell of its client.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Pace {
    /// So many pieces came, all of them short.
    Unknown { short: u8 },
    /// It sends small requests.
    Small,
    /// It sends much, or large requests. So many short pieces came since the last large one.
    Large { short: u8 },
}

impl Pace {
    pub(super) const NEW: Self = Self::Unknown { short: 0 };

    /// What is known after one more piece.
    pub(super) fn after(self, bytes: usize) -> Self {
        match self {
            // It may be the part of a longer one that fits.
            _ if bytes >= SHORT_BUFFER_BYTES => Self::Large { short: 0 },
            Self::Unknown { short } if short + 1 < SHORT_PIECES => {
                Self::Unknown { short: short + 1 }
            }
            Self::Large { short } if short + 1 < SHORT_PIECES_AFTER_LARGE => {
                Self::Large { short: short + 1 }
            }
            Self::Unknown { .. } | Self::Large { .. } | Self::Small => Self::Small,
        }
    }

    /// There was no buffer. The next piece is asked for alone, or the first who asks takes the few
    /// that came back.
    pub(super) fn without_buffer(self) -> Self {
        if self == Self::Small { Self::Unknown { short: SHORT_PIECES - 1 } } else { self }
    }

    pub(super) fn is_large(self) -> bool {
        matches!(self, Self::Large { .. })
    }
}

/// Those with large pieces that are to be received from.
#[derive(Debug, Default)]
pub(super) struct Turns {
    /// The next first. Some may be gone: numbers of connections are not used again.
    queue: VecDeque<ConnectionId>,
}

impl Turns {
    pub(super) fn push(&mut self, id: ConnectionId) {
        self.queue.push_back(id);
    }

    /// It had its turn, and there was no buffer.
    pub(super) fn push_first(&mut self, id: ConnectionId) {
        self.queue.push_front(id);
    }

    pub(super) fn pop(&mut self) -> Option<ConnectionId> {
        self.queue.pop_front()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

/// What is asked of those with large pieces at the end of a turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Asking {
    pub(super) pieces: usize,
    /// No more than this of a client that has more to send than was asked for last.
    pub(super) bulk_bytes: u32,
}

impl Asking {
    pub(super) const NOTHING: Self = Self { pieces: 0, bulk_bytes: 0 };
}

/// How many large pieces a turn handles, and how many it asks for.
///
/// One that is all that its client sent is a large request, or a pipeline, and the client waits for the
/// answer: beside small requests there are some of them. One that fills what was asked for is a part
/// of more: bulk, which may be endless. Time is no measure for them, because the kernel's part, in
/// which the client sends the next, takes longer than ours.
#[derive(Debug)]
pub(super) struct Share {
    last_small: Instant,
    /// Pieces with small requests that this turn has handled.
    small_pieces: usize,
}

impl Share {
    /// After this time no turn handles more of them, whoever is there.
    const MOST: Duration = Duration::from_millis(1);

    /// So long after their last request there are no clients with small requests.
    const SMALL_FOR: Duration = Duration::from_millis(10);

    pub(super) fn new() -> Self {
        Self { last_small: Instant::START, small_pieces: 0 }
    }

    /// A piece with small requests is handled.
    pub(super) fn heard_small(&mut self, now: Instant) {
        self.last_small = now;
        self.small_pieces += 1;
    }

    /// Whether one more large piece is handled in this turn, which handled some already, for so long.
    pub(super) fn allows(
        &self,
        handled: usize,
        spent: Duration,
        is_bulk: bool,
        now: Instant,
    ) -> bool {
        let share = if is_bulk { 1 } else { self.small_pieces / SMALL_FOR_EACH_LARGE };
        let is_alone = !self.is_beside_small(now);
        handled == 0 || (spent < Self::MOST && (is_alone || handled < share))
    }

    pub(super) fn end_turn(&mut self) {
        self.small_pieces = 0;
    }

    /// What to ask for while so many large pieces are not handled yet.
    pub(super) fn asking(&self, waiting: usize, now: Instant) -> Asking {
        let bulk_bytes =
            if self.is_beside_small(now) { SHORT_BUFFER_BYTES } else { LONG_BUFFER_BYTES };
        Asking { pieces: LARGE_MAX.saturating_sub(waiting), bulk_bytes: bulk_bytes as u32 }
    }

    fn is_beside_small(&self, now: Instant) -> bool {
        now.since(self.last_small) < Self::SMALL_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_short_pieces_in_a_row_tell_of_small_requests() {
        let after = |pace: Pace, pieces: &[usize]| {
            pieces.iter().fold(pace, |pace, bytes| pace.after(*bytes))
        };
        let (short, large) = (SHORT_BUFFER_BYTES - 1, SHORT_BUFFER_BYTES);
        let row = [short; SHORT_PIECES as usize];
        assert_eq!(after(Pace::NEW, &row), Pace::Small);
        assert_ne!(after(Pace::NEW, &row[1..]), Pace::Small);
        assert!(after(Pace::Small, &[large]).is_large());
        let row = [short; SHORT_PIECES_AFTER_LARGE as usize];
        assert!(after(Pace::Small, &[&[large], &row[1..]].concat()).is_large());
        assert_eq!(after(Pace::Small, &[&[large], &row[..]].concat()), Pace::Small);
    }

    #[test]
    fn beside_small_requests_there_are_some_large_ones_or_one_piece_of_bulk() {
        let mut share = Share::new();
        let heard = Instant::START + Duration::from_secs(1);
        (0..3 * SMALL_FOR_EACH_LARGE).for_each(|_| share.heard_small(heard));
        let beside = heard + Share::SMALL_FOR - Duration::from_nanos(1);
        let most = |share: &Share, is_bulk| {
            let allows = |handled: &usize| share.allows(*handled, Duration::ZERO, is_bulk, beside);
            (0..100).take_while(allows).count()
        };
        assert_eq!((most(&share, false), most(&share, true)), (3, 1));
        share.end_turn();
        assert_eq!((most(&share, false), most(&share, true)), (1, 1), "they may come any moment");
    }

    #[test]
    fn only_time_bounds_how_many_large_pieces_a_turn_handles_alone() {
        let mut share = Share::new();
        let heard = Instant::START + Duration::from_secs(1);
        share.heard_small(heard);
        share.end_turn();
        let alone = heard + Share::SMALL_FOR;
        for is_bulk in [true, false] {
            let short = Share::MOST - Duration::from_nanos(1);
            assert!(share.allows(1000, short, is_bulk, alone));
            assert!(!share.allows(1, Share::MOST, is_bulk, alone));
            assert!(share.allows(0, Share::MOST, is_bulk, alone), "one in any case");
        }
    }

    #[test]
    fn fewer_large_pieces_are_asked_for_while_some_wait_and_shorter_ones_beside_small_requests() {
        let mut share = Share::new();
        let heard = Instant::START + Duration::from_secs(1);
        share.heard_small(heard);
        for (waiting, pieces) in [(0, LARGE_MAX), (LARGE_MAX - 1, 1), (LARGE_MAX + 1, 0)] {
            let asking = |bytes| Asking { pieces, bulk_bytes: bytes as u32 };
            assert_eq!(share.asking(waiting, heard), asking(SHORT_BUFFER_BYTES));
            assert_eq!(share.asking(waiting, heard + Share::SMALL_FOR), asking(LONG_BUFFER_BYTES));
        }
    }
}
