//! Scenarios in the virtual world: each names a danger, then states what must hold however the
//! dice fall. One file for each room.
//!
//! - `SEED=n` runs that seed alone, where a scenario takes seeds.
//! - `SIM_SEEDS=n` and `SIM_SECONDS=n` bound how many fresh seeds are run beside the fixed ones.

mod node;
mod storage;

use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

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

/// Runs fresh seeds, for as long as the environment allows.
fn for_fresh_seeds(mut scenario: impl FnMut(u64)) {
    let number = |name, usual| {
        let text = std::env::var(name).ok();
        text.map_or(usual, |text| text.parse().expect("a number of seeds or seconds"))
    };
    let (count, limit) = (number("SIM_SEEDS", 20), Duration::from_secs(number("SIM_SECONDS", 30)));
    let start = Instant::now();
    let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    println!("{count} fresh seeds from {clock}");
    for seed in clock..clock.saturating_add(count) {
        if start.elapsed() > limit {
            return;
        }
        for_each_seed(seed..seed + 1, &mut scenario);
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
