//! A world of many nodes: shards on disks, a network between them, and clients that ask any node.
//!
//! # What is checked
//!
//! - **Nothing acknowledged is lost**, nothing is answered that was not written, nothing that was
//!   superseded comes back, and sessions and registers are as promised ([`oracle`]).
//! - **Errors have an excuse**: in peace there are none, and no other words than a cluster has.
//! - **Alive**: each request is answered by its deadline and the moments in which a shard sees it;
//!   when faults end, everybody sees everybody, nothing waits, and any node takes any key.
//!
//! A run has two phases: faults, then a quiet time in which all must come right.

mod node;
pub mod oracle;
mod plan;
mod world;

pub use self::plan::Plan;
use self::world::World;
use crate::base::rng::Rng;
use crate::sim::storage::Report;

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
