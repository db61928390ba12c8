//! Nodes on a network, clients that ask any of them, and everything that happens to both.

use stator::sim::cluster;
use stator::sim::coverage::Sometimes;
use stator::sim::storage::Report;

use crate::for_each_seed;

/// Whatever the seed draws. `SEED=n cargo test --test simulation cluster::one_seed` replays a failure.
#[test]
fn one_seed() {
    let aloud = std::env::var("ALOUD").is_ok();
    for_each_seed(0..1, |seed| {
        let report = if aloud { cluster::run_aloud(seed) } else { cluster::run(seed) };
        print!("{report}");
        assert_eq!(report.shortfall(), None);
    });
}

/// A simulator in which nothing goes wrong proves nothing.
#[test]
fn every_danger_comes_and_nothing_breaks() {
    let mut all = Report::default();
    for_each_seed(0..150, |seed| {
        let report = cluster::run(seed);
        assert_eq!(report.shortfall(), None);
        all.join(&report);
    });
    print!("{all}");
    if std::env::var("SEED").is_err() {
        let mut missing = all.coverage.missing_of_cluster();
        missing.retain(|what| *what != Sometimes::WindowFull); // what nodes say here is short
        assert_eq!(missing, []);
    }
}

/// Whatever depends on more than the seed could never be had again.
#[test]
fn a_seed_gives_the_same_run_each_time() {
    for_each_seed(0..10, |seed| {
        assert_eq!(cluster::run(seed), cluster::run(seed));
    });
}
