//! When input was read that is held back, piece by piece.
//!
//! A request is to be answered within some time of when its last byte was read. While requests are
//! held back more input may come, and its time must not become theirs: a client could put off its own
//! deadlines by sending on. So each piece keeps its own, until it is done with. Nothing is kept while
//! nothing is held back.

use std::collections::VecDeque;

use crate::base::time::Instant;

/// A connection is not read from while so many pieces of its input are held back. What was read
/// already when that is said may come on top.
pub(super) const PIECES_MAX: usize = 64;

/// Pieces of input that are held back: how long each is, and when it was read. Oldest first.
#[derive(Debug, Default)]
pub(super) struct Pieces(VecDeque<(usize, Instant)>);

impl Pieces {
    /// So many bytes more were read.
    pub(super) fn add(&mut self, bytes: usize, now: Instant) {
        if bytes > 0 {
            self.0.push_back((bytes, now));
        }
    }

    /// So many bytes are done with. Tells when the last of them was read, if that is known.
    pub(super) fn take(&mut self, mut bytes: usize) -> Option<Instant> {
        let mut last = None;
        while bytes > 0
            && let Some((length, at)) = self.0.front_mut()
        {
            last = Some(*at);
            let taken = bytes.min(*length);
            (*length, bytes) = (*length - taken, bytes - taken);
            if *length == 0 {
                self.0.pop_front();
            }
        }
        if self.0.is_empty() {
            self.forget(); // idle connections keep nothing
        }
        last
    }

    /// All of it counts from now on as read at one time.
    pub(super) fn forget(&mut self) {
        self.0 = VecDeque::new();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.0.len() >= PIECES_MAX
    }

    /// What it takes of memory.
    pub(super) fn bytes(&self) -> usize {
        self.0.capacity() * size_of::<(usize, Instant)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_says_when() {
        let at = Instant::from_nanos;
        let mut pieces = Pieces::default();
        pieces.add(10, at(1));
        pieces.add(0, at(2));
        pieces.add(5, at(3));
        pieces.add(5, at(4));
        assert_eq!(pieces.take(0), None);
        assert_eq!(pieces.take(4), Some(at(1)));
        assert_eq!(pieces.take(6), Some(at(1)));
        assert_eq!(pieces.take(6), Some(at(4)), "it ends in the third");
        assert_eq!(pieces.take(9), Some(at(4)), "more is not known of");
        assert_eq!((pieces.take(1), pieces.is_empty()), (None, true));
    }
}
