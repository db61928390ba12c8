//! A node of shards, clients that speak bytes, and everything that happens to them.

use stator::sim::node;

use crate::for_each_seed;

/// Whatever the seed draws. `SEED=n cargo test --test simulation node::one_seed` replays a failure.
#[test]
fn one_seed() {
    let aloud = std::env::var("ALOUD").is_ok();
    for_each_seed(0..1, |seed| {
        print!("{}", if aloud { node::run_aloud(seed) } else { node::run(seed) });
    });
}

/// If this fails, no failure can be had again: something depends on more than the seed.
#[test]
fn a_seed_gives_the_same_run_each_time() {
    for_each_seed(1000..1006, |seed| {
        assert_eq!(node::run(seed), node::run(seed));
    });
}
