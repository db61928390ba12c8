//! Scenarios in the virtual world: each names a danger, then states what must hold however the
//! dice fall. One file for each room.
//!
//! - `SEED=n` runs that seed alone, where a scenario takes seeds.
//!
//! Fresh seeds are run by `tools/simulate`.

mod cluster;
mod node;
mod storage;

/// Runs a scenario for a fixed set of seeds, or for the one that was asked for.
fn for_each_seed(seeds: std::ops::Range<u64>, mut scenario: impl FnMut(u64)) {
    let asked = std::env::var("SEED").ok();
    let seeds = match asked.map(|seed| seed.parse().expect("SEED is a number")) {
        Some(seed) => seed..seed + 1,
        None => seeds,
    };
    for seed in seeds {
        let replay = Replay(seed);
        scenario(seed);
        drop(replay);
    }
}

/// Prints the line to paste when a seed fails.
struct Replay(u64);

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or("one_seed").to_owned();
            eprintln!("SEED={} cargo test --test simulation {name}", self.0);
        }
    }
}
