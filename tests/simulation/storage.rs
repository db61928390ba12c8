//! One store, one disk, and everything that happens to them.

use stator::sim::coverage::Sometimes;
use stator::sim::storage;
use stator::sim::storage::Report;
use stator::sim::storage::Waiting;

use crate::for_each_seed;
use crate::for_fresh_seeds;

/// Whatever the seed draws. `SEED=n cargo test --test simulation one_seed` replays a failure.
#[test]
fn one_seed() {
    for_each_seed(0..1, |seed| print!("{}", storage::run(seed)));
}

/// A simulator that never tears a write proves nothing about tearing.
#[test]
fn every_danger_comes_and_nothing_breaks() {
    let mut all = Report::default();
    for_each_seed(0..150, |seed| {
        let report = storage::run(seed);
        assert!(report.operations >= 2000, "too few operations");
        all.join(&report);
    });
    print!("{all}");
    assert!(all.faults >= 10 * 150, "{} faults", all.faults);
    if std::env::var("SEED").is_err() {
        assert_eq!(all.coverage.missing(), []);
    }
}

#[test]
fn fresh_seeds_break_nothing() {
    for_fresh_seeds(|seed| {
        storage::run(seed);
    });
}

/// If this fails, no failure can be had again: something depends on more than the seed.
#[test]
fn a_seed_gives_the_same_run_each_time() {
    for_each_seed(1000..1012, |seed| {
        assert_eq!(storage::run(seed), storage::run(seed));
    });
}

/// Every place where the power can go in a short life, one after the other.
#[test]
fn a_crash_before_any_effect_loses_nothing_that_was_synced() {
    for_each_seed(0..3, |seed| {
        let report = storage::crash_everywhere(seed, |_| {});
        assert!(report.coverage.count(Sometimes::Crash) > 50, "too few places");
    });
}

/// As above, with the stop in order and the start after it in the middle.
#[test]
fn a_crash_anywhere_in_a_clean_stop_loses_nothing() {
    for_each_seed(0..2, |seed| {
        storage::crash_everywhere(seed, |plan| plan.stop_one_in = 20);
    });
}

/// As above, while another log takes over.
#[test]
fn a_crash_anywhere_in_an_adoption_loses_nothing() {
    for_each_seed(0..2, |seed| {
        storage::crash_everywhere(seed, |plan| {
            plan.stop_one_in = 20;
            plan.adopt_percent = 100;
        });
    });
}

/// As above, in a small log that compacts all the time.
#[test]
fn a_crash_anywhere_in_a_compaction_loses_nothing() {
    for_each_seed(0..2, |seed| {
        storage::crash_everywhere(seed, |plan| {
            plan.keys = 3;
            plan.segment_bytes = 16384;
            plan.operations = 120;
            plan.value_bytes_max = 2000;
            plan.delete_percent = 30;
            plan.waiting = Waiting::Always;
        });
    });
}
