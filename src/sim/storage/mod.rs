//! A world of one store on one disk, and what must hold in it.
//!
//! # What is checked, all the time
//!
//! - **No phantom**: the bytes that come back were written for that key, unchanged ([`model`]).
//! - **Exact**: an answer is the key's latest applied record, never an older one, never "absent".
//! - **Prefix**: after a crash the state is that after some prefix of what was applied, and all that
//!   was ever called synced is in it. There are no holes.
//! - **Damage** is an answer of its own, or the partition is suspect; without harm there is neither.
//! - **Actors** are fresh at each start, and durable before they are used.
//! - **Given up is given up**: after a failed append nothing more is called synced.
//! - **Bounded**: unsynced bytes, and the disk when few keys are overwritten for long.
//! - **Index files** say what the records say.
//! - **Alive**: when faults end, everything is acknowledged in bounded time. A write without room
//!   waits only while something is under way that brings room, or the word that there is none.
//!
//! The disk besides asserts the store's half of their contract.

mod altered;
mod keys;
pub mod model;
mod plan;
mod twin;
mod world;

use std::fmt;

pub use self::altered::Altered;
pub use self::altered::run_altered;
pub use self::plan::Plan;
pub use self::plan::Waiting;
use self::world::World;
use crate::base::rng::Rng;
use crate::sim::coverage::Coverage;
use crate::sim::pace::FAULTS_MIN;
use crate::sim::pace::OPERATIONS_MIN;
use crate::sim::trace::Trace;

/// What a run came to. What must not happen panics instead.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Report {
    /// The hash of all events and effects.
    pub trace: Trace,
    /// Which dangers came.
    pub coverage: Coverage,
    /// Turns of the client.
    pub operations: u64,
    /// Crashes, failures, stalls and harm: what the disk and the process suffered.
    pub faults: u64,
    /// Effects that were performed.
    pub effects: u64,
    /// How often the store was started.
    pub starts: u64,
    /// Keys of which the judge had to give up.
    pub undecided: u64,
}

impl Report {
    /// What there was too little of for a seed that is to prove something.
    pub fn shortfall(&self) -> Option<String> {
        let kinds =
            [("operations", self.operations, OPERATIONS_MIN), ("faults", self.faults, FAULTS_MIN)];
        let short = kinds.into_iter().find(|(_, had, min)| had < min);
        short.map(|(what, had, min)| format!("{had} {what}, and {min} must be"))
    }

    /// Adds another run's.
    pub fn join(&mut self, other: &Self) {
        self.trace.number(other.trace.hash());
        self.trace.add_events(other.trace.events());
        self.coverage.join(&other.coverage);
        self.operations += other.operations;
        self.faults += other.faults;
        self.effects += other.effects;
        self.starts += other.starts;
        self.undecided += other.undecided;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} events, {} effects, {} operations, {} faults, {} starts, {} keys undecided",
            self.trace.events(),
            self.effects,
            self.operations,
            self.faults,
            self.starts,
            self.undecided
        )?;
        self.coverage.fmt(f)
    }
}

/// Runs a seed: shape, workload and dangers are drawn from it.
pub fn run(seed: u64) -> Report {
    run_with(seed, |_| {})
}

/// Runs a seed whose draw is changed first: a named danger.
pub fn run_with(seed: u64, change: impl FnOnce(&mut Plan)) -> Report {
    let mut rng = Rng::from_seed(seed);
    let mut plan = Plan::draw(&mut rng);
    change(&mut plan);
    World::new(rng, plan).run()
}

/// Runs a seed and prints every event and effect of it.
pub fn run_aloud(seed: u64) -> Report {
    run_with(seed, |plan| plan.aloud = true)
}

/// Runs a short calm workload once for each of its effects, with a crash just before that one.
pub fn crash_everywhere(seed: u64, change: impl Fn(&mut Plan)) -> Report {
    let mut all = Report::default();
    for effect in 0.. {
        let mut rng = Rng::from_seed(seed);
        let mut plan = Plan::calm(&mut rng);
        plan.operations = 60;
        change(&mut plan);
        plan.crash_at_effect = Some(effect);
        let report = World::new(rng, plan).run();
        all.join(&report);
        if report.faults == 0 {
            break;
        }
    }
    all
}
