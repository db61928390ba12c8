//! What happened to the requests, second by second.
//!
//! A thread counts into an [`Interval`] of its own and hands it over once a second; nothing is
//! shared while it counts, and sums are made by whoever prints them.

use hdrhistogram::Histogram;

/// What a latency is of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One read request.
    Get,
    /// One write request.
    Set,
    /// A read and the write that followed it, together; its two requests count above as well.
    ReadModifyWrite,
    /// Not a latency: how late the load generator itself sent a request that was free to go.
    Lag,
}

impl Kind {
    /// In the order of reports.
    pub const ALL: [Self; 4] = [Self::Get, Self::Set, Self::ReadModifyWrite, Self::Lag];

    /// The kinds that are one request each.
    pub const REQUESTS: [Self; 2] = [Self::Get, Self::Set];

    /// Its name in reports and in the tags of histogram logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Set => "set",
            Self::ReadModifyWrite => "rmw",
            Self::Lag => "lag",
        }
    }
}

/// Everything that is counted, over a second or over a run.
#[derive(Clone, Debug)]
pub struct Counts {
    latencies: [Histogram<u64>; Kind::ALL.len()],
    /// Gets that found nothing.
    pub misses: u64,
    /// Values that are not what this tool writes under that key.
    pub mismatches: u64,
    /// The most values that one get returned.
    pub siblings_max: u64,
    /// Requests that were sent, or due, and never answered.
    pub unanswered: u64,
    /// Answers that were errors.
    pub errors: ErrorCounts,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            latencies: std::array::from_fn(|_| empty_histogram()),
            misses: 0,
            mismatches: 0,
            siblings_max: 0,
            unanswered: 0,
            errors: ErrorCounts::default(),
        }
    }
}

impl Counts {
    /// Enters one latency.
    pub fn record(&mut self, kind: Kind, nanoseconds: u64) {
        self.latencies[kind as usize].saturating_record(nanoseconds);
    }

    /// The latencies of one kind.
    pub fn latencies(&self, kind: Kind) -> &Histogram<u64> {
        &self.latencies[kind as usize]
    }

    /// The latencies of all requests.
    pub fn requests(&self) -> Histogram<u64> {
        let mut sum = empty_histogram();
        for kind in Kind::REQUESTS {
            sum.add(self.latencies(kind)).expect("all histograms have the same bounds");
        }
        sum
    }

    /// How many requests were answered, errors not counted.
    pub fn answered(&self) -> u64 {
        let entered: u64 = Kind::REQUESTS.iter().map(|&kind| self.latencies(kind).len()).sum();
        entered - self.unanswered
    }

    /// Adds what another thread, or another second, counted.
    pub fn add(&mut self, other: &Self) {
        for (sum, part) in self.latencies.iter_mut().zip(&other.latencies) {
            sum.add(part).expect("all histograms have the same bounds");
        }
        self.misses += other.misses;
        self.mismatches += other.mismatches;
        self.siblings_max = self.siblings_max.max(other.siblings_max);
        self.unanswered += other.unanswered;
        self.errors.add(&other.errors);
    }

    /// Forgets everything and keeps the memory.
    pub fn reset(&mut self) {
        self.latencies.iter_mut().for_each(Histogram::reset);
        self.misses = 0;
        self.mismatches = 0;
        self.siblings_max = 0;
        self.unanswered = 0;
        self.errors = ErrorCounts::default();
    }
}

/// What one thread counted in one second of the measured time.
#[derive(Debug, Default)]
pub struct Interval {
    /// Which second, from 0.
    pub index: u64,
    /// What was counted.
    pub counts: Counts,
}

/// Errors by their first word, as servers define them (`BUSY`, `TIMEOUT`, `ERR`...).
#[derive(Clone, Debug, Default)]
pub struct ErrorCounts {
    /// A handful, so that walking them is quicker than any map.
    words: Vec<(String, u64)>,
}

impl ErrorCounts {
    /// Counts one error; `text` is what the server said.
    pub fn count(&mut self, text: &[u8]) {
        let word = text.split(|&byte| byte == b' ').next().unwrap_or_default();
        self.count_word(word, 1);
    }

    /// Words and how often each came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.words.iter().map(|(word, count)| (word.as_str(), *count))
    }

    /// How many errors there were.
    pub fn total(&self) -> u64 {
        self.words.iter().map(|(_, count)| count).sum()
    }

    /// Adds what another thread counted.
    pub fn add(&mut self, other: &Self) {
        for (word, count) in &other.words {
            self.count_word(word.as_bytes(), *count);
        }
    }

    fn count_word(&mut self, word: &[u8], count: u64) {
        if let Some((_, sum)) = self.words.iter_mut().find(|(known, _)| known.as_bytes() == word) {
            *sum += count;
        } else if self.words.len() < WORDS_MAX {
            self.words.push((String::from_utf8_lossy(word).into_owned(), count));
        } else {
            // The last place is for all that found none: a server without words is no reason
            // to run out of memory.
            let (last, sum) = self.words.last_mut().expect("WORDS_MAX is not zero");
            *last = "(others)".to_owned();
            *sum += count;
        }
    }
}

/// A histogram with the bounds that all of them share.
pub fn empty_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, 3).expect("the bounds are in order")
}

/// Nothing on a socket is faster: finer steps would be noise.
const LATENCY_NS_MIN: u64 = 100;

/// Ten minutes. Longer latencies are entered as this.
const LATENCY_NS_MAX: u64 = 600_000_000_000;

/// Distinct error words that are kept apart.
const WORDS_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_counted_by_their_first_word() {
        let mut errors = ErrorCounts::default();
        for text in [&b"BUSY try later"[..], b"TIMEOUT", b"BUSY", b""] {
            errors.count(text);
        }
        assert!(errors.iter().eq([("BUSY", 2), ("TIMEOUT", 1), ("", 1)]));
        assert_eq!(errors.total(), 4);
    }

    #[test]
    fn a_server_that_invents_words_costs_bounded_memory() {
        let mut errors = ErrorCounts::default();
        (0..1_000).for_each(|word| errors.count(format!("W{word}").as_bytes()));
        assert_eq!(errors.iter().count(), WORDS_MAX);
        assert_eq!(errors.total(), 1_000);
        assert_eq!(errors.iter().last().map(|(word, _)| word), Some("(others)"));
    }

    #[test]
    fn sums_hold_what_their_parts_hold() {
        let mut first = Counts::default();
        first.record(Kind::Get, 1_000);
        first.record(Kind::ReadModifyWrite, 5_000);
        first.siblings_max = 2;
        let mut sum = Counts { misses: 1, ..Counts::default() };
        sum.record(Kind::Set, 2_000);
        sum.add(&first);
        assert_eq!(sum.answered(), 2);
        assert_eq!(sum.requests().len(), 2);
        assert_eq!((sum.misses, sum.siblings_max), (1, 2));
        sum.reset();
        assert_eq!(sum.answered() + sum.misses + sum.siblings_max, 0);
    }
}
