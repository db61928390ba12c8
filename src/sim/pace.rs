//! What a run must have seen to prove anything: so many operations, and so many faults among them.
//!
//! A fault is what the disk or the process suffered: a crash, a failed operation, a full disk, a
//! stall, harm at rest. What clients do, stops in order and jumps of the clock are none.
//!
//! Dice alone leave some seeds in peace. So a run that falls behind gets crashes besides, from a
//! stream of their own: until the first of them a seed means what it would mean without.

use crate::base::rng::Rng;

/// Operations of each seed, at least.
pub(super) const OPERATIONS_MIN: u64 = 2_000;

/// Faults of each seed, at least.
pub(super) const FAULTS_MIN: u64 = 10;

/// So many moments pass, on average, until a run that is behind gets its crash.
const MOMENTS_UNTIL_CRASH: u64 = 20;

/// Says when a run needs a crash.
#[derive(Debug)]
pub(super) struct Pace {
    rng: Rng,
    operations: u64,
    faults_min: u64,
}

impl Pace {
    /// Of a run with so many operations; `rng` is left as it is.
    pub(super) fn new(rng: &Rng, operations: u64, faults_min: u64) -> Self {
        Self { rng: rng.clone().fork(), operations, faults_min }
    }

    /// Whether so many operations may be the last, with so many faults.
    pub(super) fn is_done(&self, operations: u64, faults: u64) -> bool {
        operations >= self.operations && faults >= self.faults_min
    }

    /// Whether a crash comes at this moment, for want of other faults. Moments are turns of clients
    /// and, so that nothing is safe that takes several steps, effects.
    pub(super) fn wants_crash(&mut self, operations: u64, faults: u64) -> bool {
        let done = operations.min(self.operations);
        let is_behind = faults < self.faults_min * done / self.operations;
        is_behind && self.rng.chance(1, MOMENTS_UNTIL_CRASH)
    }
}
