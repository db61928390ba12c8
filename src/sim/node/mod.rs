//! A world of one node: some shards on one disk, clients that speak bytes, and what must hold.
//!
//! # What is checked, all the time
//!
//! - **One reply for each request**, in the order of the requests, and only to whole requests.
//! - **Every answer is right**: of each key some order of the operations under way explains all
//!   answers, also over crashes; a connection's own operations run in its order ([`oracle`]).
//! - **Acknowledged is kept**: what was answered in a `sync` or `one` namespace, be it a write or a
//!   read, survives any crash. In `interval` namespaces a prefix of each shard does.
//! - **Siblings are exact**: what no write has seen stays, what one has seen never comes back.
//! - **Damage** is an error until the key is written anew; without harm there is none.
//! - **Errors have an excuse**: no `-TIMEOUT` without a slow disk, no `-READONLY` without a failure.
//! - **Walks** meet each key once that is there all the time; counts are exact when all is quiet.
//! - **Bounded**: bytes that wait for the disk, and those held for clients.
//! - **Alive**: each request is answered by its deadline and the tenth of a second in which a shard
//!   sees it; when faults end, each key takes a write in bounded time.

pub mod keys;
mod link;
pub mod oracle;
mod plan;
mod workload;
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
