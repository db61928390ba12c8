//! One store, one disk, and everything that happens to them.

use stator::sim::storage;
use stator::sim::storage::Report;
use stator::sim::storage::Waiting;

use crate::for_each_seed;

/// Whatever the seed draws. `SEED=n cargo test --test simulation one_seed` replays a failure.
#[test]
fn one_seed() {
    for_each_seed(0..1, |seed| {
        let report = storage::run(seed);
        print!("{report}");
        assert_eq!(report.shortfall(), None);
    });
}

/// A simulator that never tears a write proves nothing about tearing.
#[test]
fn every_danger_comes_and_nothing_breaks() {
    let mut all = Report::default();
    for_each_seed(0..150, |seed| {
        let report = storage::run(seed);
        assert_eq!(report.shortfall(), None);
        all.join(&report);
    });
    print!("{all}");
    if std::env::var("SEED").is_err() {
        let mut missing = all.coverage.missing();
        missing.retain(|what| !what.is_of_node());
        assert_eq!(missing, []);
    }
}

/// If this fails, no failure can be had again: something depends on more than the seed.
#[test]
fn a_seed_gives_the_same_run_each_time() {
    for_each_seed(1000..1012, |seed| {
        assert_eq!(storage::run(seed), storage::run(seed));
    });
}

/// Every place where the power can go, one after the other, in a short life that nobody stops: what
/// was acknowledged by then is there.
#[test]
fn a_crash_anywhere_loses_nothing_that_was_acknowledged() {
    for_each_seed(0..4, |seed| {
        let report = storage::crash_everywhere(seed, |plan| {
            (plan.keys, plan.read_percent, plan.pause_nanos) = (12, 10, 200_000);
            plan.waiting = Waiting::Always;
        });
        assert!(report.faults > 30, "{} crashes", report.faults);
    });
}

/// Every place where the power can go, one after the other, in a short life with a stop in order
/// and the start after it in the middle.
#[test]
fn a_crash_anywhere_in_a_clean_stop_loses_nothing() {
    for_each_seed(0..4, |seed| {
        storage::crash_everywhere(seed, |plan| plan.stop_one_in = 20);
    });
}

/// As above, while another log takes over.
#[test]
fn a_crash_anywhere_in_an_adoption_loses_nothing() {
    for_each_seed(0..4, |seed| {
        storage::crash_everywhere(seed, |plan| {
            plan.stop_one_in = 20;
            plan.adopt_percent = 100;
        });
    });
}

/// As above, in a small log that compacts all the time.
#[test]
fn a_crash_anywhere_in_a_compaction_loses_nothing() {
    for_each_seed(0..3, |seed| {
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
