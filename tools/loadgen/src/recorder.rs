//! Decides which requests count, and when a second of counting is over.
//!
//! A request counts by the time it *began*: when it was due (open loop) or when it was sent
//! (closed loop). So the slow requests at the end of the measured time count in full, and those
//! that the warm-up left behind do not count at all.

use std::ops::Range;

use crate::record::{Counts, Interval, Kind};

/// One thread's counting.
#[derive(Debug)]
pub struct Recorder {
    interval: Interval,
    window: Range<u64>,
    interval_end: u64,
    started: u64,
    finished: u64,
    failed: u64,
}

impl Recorder {
    /// Counts what begins within `window` (nanoseconds of the run's clock).
    pub fn new(window: Range<u64>) -> Self {
        let interval_end = window.start.saturating_add(INTERVAL_NS);
        Self {
            interval: Interval::default(),
            window,
            interval_end,
            started: 0,
            finished: 0,
            failed: 0,
        }
    }

    /// A request goes out.
    pub fn start(&mut self) {
        self.started += 1;
    }

    /// The answer to a request that began at `since` came at `now`.
    pub fn finish(&mut self, kind: Kind, since: u64, now: u64) {
        self.finished += 1;
        self.latency(kind, since, now);
    }

    /// A request that began at `since` was answered by an error.
    pub fn fail(&mut self, text: &[u8], since: u64) {
        self.finished += 1;
        self.failed += 1;
        if let Some(counts) = self.counts(since) {
            counts.errors.count(text);
        }
    }

    /// A request that began at `since` gets no answer any more. It is entered with the time that
    /// it has waited so far: leaving it out would make a server look better the less it answers.
    pub fn give_up(&mut self, kind: Kind, since: u64, now: u64) {
        if let Some(counts) = self.counts(since) {
            counts.unanswered += 1;
            counts.record(kind, now - since);
        }
    }

    /// A latency that is not a request of its own.
    pub fn latency(&mut self, kind: Kind, since: u64, now: u64) {
        if let Some(counts) = self.counts(since) {
            counts.record(kind, now - since);
        }
    }

    /// The counters, if what began at `since` counts.
    pub fn counts(&mut self, since: u64) -> Option<&mut Counts> {
        self.window.contains(&since).then_some(&mut self.interval.counts)
    }

    /// Requests that were sent and not answered.
    pub fn outstanding(&self) -> u64 {
        self.started - self.finished
    }

    /// Requests that were answered, by an error or not, counted or not.
    pub fn finished(&self) -> u64 {
        self.finished
    }

    /// Of the finished ones, those that were answered by an error.
    pub fn failed(&self) -> u64 {
        self.failed
    }

    /// Whether the current second is over.
    pub fn is_over(&self, now: u64) -> bool {
        now >= self.interval_end
    }

    /// Hands over what was counted, and goes on with empty counters in the second of `now`.
    pub fn roll(&mut self, now: u64, empty: Counts) -> Interval {
        // What is answered after the end began before it, and belongs to the last second.
        let index = now.saturating_sub(self.window.start) / INTERVAL_NS;
        let index = index.min(last_interval(&self.window));
        self.interval_end = self.window.start.saturating_add((index + 1) * INTERVAL_NS);
        if now >= self.window.end {
            self.interval_end = u64::MAX;
        }
        std::mem::replace(&mut self.interval, Interval { index, counts: empty })
    }
}

/// The index of the last second that begins within `window`.
pub fn last_interval(window: &Range<u64>) -> u64 {
    window.end.saturating_sub(window.start).saturating_sub(1) / INTERVAL_NS
}

/// One second.
pub const INTERVAL_NS: u64 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_decided_by_when_it_began() {
        let mut recorder = Recorder::new(100..200);
        for since in [50, 99, 100, 199, 200] {
            recorder.start();
            recorder.finish(Kind::Get, since, 1_000);
        }
        assert_eq!(recorder.finished(), 5);
        assert_eq!(recorder.roll(1_000, Counts::default()).counts.answered(), 2);
    }

    #[test]
    fn a_request_without_an_answer_is_entered_with_its_wait() {
        let mut recorder = Recorder::new(0..u64::MAX);
        recorder.start();
        recorder.give_up(Kind::Set, 1_000, 5_001_000);
        let counts = recorder.roll(0, Counts::default()).counts;
        assert_eq!(counts.unanswered, 1);
        assert_eq!(counts.answered(), 0);
        assert!(counts.latencies(Kind::Set).max() >= 5_000_000);
    }

    #[test]
    fn late_answers_belong_to_the_last_second() {
        let mut recorder = Recorder::new(0..2 * INTERVAL_NS);
        recorder.roll(INTERVAL_NS, Counts::default());
        assert_eq!(recorder.roll(2 * INTERVAL_NS, Counts::default()).index, 1);
        assert!(!recorder.is_over(9 * INTERVAL_NS));
        assert_eq!(recorder.roll(9 * INTERVAL_NS, Counts::default()).index, 1);
    }

    #[test]
    fn seconds_follow_the_clock_even_when_some_pass_unseen() {
        let mut recorder = Recorder::new(INTERVAL_NS..u64::MAX);
        assert!(!recorder.is_over(2 * INTERVAL_NS - 1));
        assert!(recorder.is_over(2 * INTERVAL_NS));
        assert_eq!(recorder.roll(4 * INTERVAL_NS + 5, Counts::default()).index, 0);
        assert!(!recorder.is_over(5 * INTERVAL_NS - 1));
        assert_eq!(recorder.roll(5 * INTERVAL_NS, Counts::default()).index, 3);
    }
}
