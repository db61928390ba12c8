//! I11: how many operations of each phase were carried out, refused, or left open.
//!
//! What rate a run demands depends on its faults, so it is for the run to say.

/// How operations of one kind ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Begun in this phase.
    pub begun: u64,
    /// Answered: acknowledged writes, also those that found nothing to do, and gets with an answer.
    pub acked: u64,
    /// Refused: nothing was stored, nothing was told.
    pub refused: u64,
    /// Nobody knows.
    pub unknown: u64,
}

impl Counts {
    /// Begun and not ended.
    pub fn open(&self) -> u64 {
        self.begun - self.acked - self.refused - self.unknown
    }
}

/// The operations that began in one phase of a run, whenever they ended.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Phase {
    /// Writes.
    pub writes: Counts,
    /// Gets.
    pub gets: Counts,
}
