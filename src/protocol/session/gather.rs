//! One reply made of the replies for several keys, which come in any order.
//!
//! A failed key fails the whole: an array with an error in the middle is more than most clients
//! expect, and half a sum is no answer. Which error is told does not depend on the order of arrival.
//!
//! Most errors of a write promise that nothing was stored. Where other keys of the request were
//! written, or may have been, that is not true of the whole: then the answer is `-UNKNOWN`.

use crate::protocol::wire::command::KeysKind;
use crate::protocol::wire::number;
use crate::protocol::wire::reply;

/// The replies so far.
#[derive(Debug)]
pub(super) struct Gather {
    kind: KeysKind,
    parts: usize,
    /// Parts that are parked.
    waiting: usize,
    /// Parts that are known to be written.
    written: usize,
    /// Some part was written, or may have been.
    may_be_stored: bool,
    /// `DEL` and its kin: the sum so far.
    sum: i64,
    /// The error of the first part that failed.
    error: Option<(u16, Vec<u8>)>,
    /// `MGET`: the replies as they came.
    values: Vec<u8>,
    /// `MGET`: where in `values` each part's lies. An empty one is not there.
    places: Vec<(usize, usize)>,
}

impl Gather {
    /// For a command of `parts` keys.
    pub(super) fn new(kind: KeysKind, parts: usize) -> Self {
        let places = if kind == KeysKind::Values { vec![(0, 0); parts] } else { Vec::new() };
        Self {
            kind,
            parts,
            waiting: 0,
            written: 0,
            may_be_stored: false,
            sum: 0,
            error: None,
            values: Vec::new(),
            places,
        }
    }

    /// One more part will be answered later.
    pub(super) fn park(&mut self) {
        self.waiting += 1;
    }

    /// How many parts are yet to be answered.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        self.values.len()
    }

    /// The reply of a parked part.
    pub(super) fn answer(&mut self, part: u16, bytes: &[u8]) {
        self.waiting = self.waiting.checked_sub(1).expect("a part is answered once");
        self.done(part, bytes);
    }

    /// The reply of every parked part: an error.
    pub(super) fn answer_rest(&mut self, error: &[u8]) {
        while self.waiting > 0 {
            self.answer(LAST_PART, error); // any other error is of a part before
        }
    }

    /// The reply of a part.
    pub(super) fn done(&mut self, part: u16, bytes: &[u8]) {
        assert!(!bytes.is_empty(), "each command has one reply");
        let may_be_stored = match self.kind {
            KeysKind::AllSet => !promises_nothing_stored(bytes),
            KeysKind::Deleted => !promises_nothing_stored(bytes) && bytes != b":0\r\n",
            KeysKind::Values | KeysKind::Existing => false,
        };
        self.may_be_stored |= may_be_stored;
        self.written += usize::from(may_be_stored && !bytes.starts_with(b"-"));
        match (bytes.first(), self.kind) {
            (Some(b'-'), _) => self.fail(part, bytes),
            (_, KeysKind::Values) if self.error.is_none() => {
                if self.values.is_empty() {
                    // Values of one request are often of one size; a few large ones may grow it.
                    let all = bytes.len().saturating_mul(self.places.len());
                    self.values.reserve(all.min(RESERVED_BYTES_MAX));
                }
                let start = self.values.len();
                self.values.extend_from_slice(bytes);
                self.places[usize::from(part)] = (start, self.values.len());
            }
            (Some(b':'), KeysKind::Deleted | KeysKind::Existing) => {
                let digits = bytes[1..].strip_suffix(b"\r\n").unwrap_or_default();
                // Another node's too: it is one, but may be any.
                let number = number::parse(digits).expect("one whole reply was passed on");
                self.sum = self.sum.saturating_add(number);
            }
            _ => {}
        }
    }

    /// A part failed with this error.
    pub(super) fn fail(&mut self, part: u16, error: &[u8]) {
        if self.error.as_ref().is_none_or(|(first, _)| part < *first) {
            self.error = Some((part, error.to_vec()));
        }
        // Nothing will be told but the error.
        self.values = Vec::new();
    }

    /// Appends the one reply.
    pub(super) fn finish(&self, out: &mut Vec<u8>) {
        assert_eq!(self.waiting, 0, "a part is still to come");
        match (&self.error, self.kind) {
            (Some((_, error)), _) if self.may_be_stored && promises_nothing_stored(error) => {
                let (had, needed) = (self.written, self.parts);
                let why = String::from_utf8_lossy(error[1..].trim_ascii_end());
                let told =
                    format_args!("UNKNOWN {had}/{needed} keys are written; of another: {why}");
                reply::error(out, told);
            }
            (Some((_, error)), _) => out.extend_from_slice(error),
            (None, KeysKind::AllSet) => reply::ok(out),
            (None, KeysKind::Deleted | KeysKind::Existing) => reply::integer(out, self.sum),
            (None, KeysKind::Values) => {
                reply::array(out, self.places.len());
                out.reserve(self.values.len());
                for &(start, end) in &self.places {
                    out.extend_from_slice(&self.values[start..end]);
                }
            }
        }
    }
}

/// Whether a reply is an error after which nothing is stored of what it answers.
fn promises_nothing_stored(reply: &[u8]) -> bool {
    let is_open = reply.starts_with(b"-UNKNOWN") || reply.starts_with(b"-TIMEOUT");
    reply.starts_with(b"-") && !is_open
}

/// No part stands behind this one.
const LAST_PART: u16 = u16::MAX;

/// What is set aside for the values of one request before they are there.
const RESERVED_BYTES_MAX: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_in_the_order_of_their_keys() {
        let mut gather = Gather::new(KeysKind::Values, 3);
        gather.park();
        gather.done(1, b"$1\r\nb\r\n");
        gather.park();
        gather.answer(2, b"$-1\r\n");
        gather.answer(0, b"$1\r\na\r\n");
        assert_eq!(finish(&gather), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$-1\r\n");
    }

    #[test]
    fn the_first_key_that_failed_speaks_for_all() {
        for kind in [KeysKind::Values, KeysKind::Deleted, KeysKind::Existing] {
            let mut gather = Gather::new(kind, 3);
            gather.done(2, b"-BUSY\r\n");
            gather.done(0, b":0\r\n");
            gather.done(1, b"-NOQUORUM 1/2\r\n");
            assert_eq!(finish(&gather), "-NOQUORUM 1/2\r\n");
        }
    }

    #[test]
    fn a_refusal_is_told_only_if_nothing_can_have_been_stored() {
        use KeysKind::AllSet;
        use KeysKind::Deleted;
        let partly = "-UNKNOWN 1/2 keys are written; of another: BUSY\r\n";
        let unclear = "-UNKNOWN 0/2 keys are written; of another: BUSY\r\n";
        for (kind, other, told) in [
            (AllSet, "+OK\r\n", partly),
            (AllSet, "-UNKNOWN 0/1\r\n", unclear),
            (AllSet, "-TIMEOUT\r\n", unclear),
            (AllSet, "-OOM\r\n", "-BUSY\r\n"),
            (Deleted, ":1\r\n", partly),
            (Deleted, ":0\r\n", "-BUSY\r\n"),
            (Deleted, "-TIMEOUT\r\n", unclear),
            (KeysKind::Existing, ":1\r\n", "-BUSY\r\n"),
            (KeysKind::Values, "$1\r\na\r\n", "-BUSY\r\n"),
        ] {
            for order in [[0, 1], [1, 0]] {
                let mut gather = Gather::new(kind, 2);
                for part in order {
                    gather.done(part, if part == 0 { b"-BUSY\r\n" } else { other.as_bytes() });
                }
                assert_eq!(finish(&gather), told, "{kind:?} {other}");
            }
        }
    }

    /// A key that was not there is not written by its deletion.
    #[test]
    fn only_keys_that_were_written_are_told_so() {
        let mut gather = Gather::new(KeysKind::Deleted, 4);
        for (part, reply) in [":1\r\n", ":0\r\n", "-BUSY\r\n", "-TIMEOUT\r\n"].iter().enumerate() {
            gather.done(part as u16, reply.as_bytes());
        }
        let told = "-UNKNOWN 1/4 keys are written; of another: BUSY\r\n";
        assert_eq!(finish(&gather), told);
    }

    /// It says by itself that something may be stored.
    #[test]
    fn an_unknown_outcome_of_the_first_key_speaks_for_all() {
        let mut gather = Gather::new(KeysKind::AllSet, 2);
        gather.done(0, b"-TIMEOUT\r\n");
        gather.done(1, b"-BUSY\r\n");
        assert_eq!(finish(&gather), "-TIMEOUT\r\n");
    }

    #[test]
    fn integers_are_added_up() {
        let mut gather = Gather::new(KeysKind::Deleted, 3);
        for part in 0..3 {
            gather.done(part, if part == 1 { b":0\r\n" } else { b":1\r\n" });
        }
        assert_eq!(finish(&gather), ":2\r\n");
    }

    fn finish(gather: &Gather) -> String {
        let mut out = Vec::new();
        gather.finish(&mut out);
        String::from_utf8(out).expect("text")
    }
}
