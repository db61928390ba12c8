//! A node of shards, clients that speak bytes, and everything that happens to them.

use stator::base::time::Duration;
use stator::sim::coverage::Sometimes;
use stator::sim::node;
use stator::sim::storage::Report;

use crate::for_each_seed;

/// Whatever the seed draws. `SEED=n cargo test --test simulation node::one_seed` replays a failure.
#[test]
fn one_seed() {
    let aloud = std::env::var("ALOUD").is_ok();
    for_each_seed(0..1, |seed| {
        let report = if aloud { node::run_aloud(seed) } else { node::run(seed) };
        print!("{report}");
        assert_eq!(report.shortfall(), None);
    });
}

/// A simulator in which nothing goes wrong proves nothing.
#[test]
fn every_danger_comes_and_nothing_breaks() {
    let mut all = Report::default();
    for_each_seed(0..150, |seed| {
        let report = node::run(seed);
        assert_eq!(report.shortfall(), None);
        all.join(&report);
    });
    print!("{all}");
    if std::env::var("SEED").is_err() {
        let mut missing = all.coverage.missing();
        missing.retain(|what| what.is_of_node());
        assert_eq!(missing, []);
        assert_eq!(all.undecided, 0, "the judge gave up keys");
    }
}

/// Crashes come so often that no start would end by luck: one is let through all the same.
#[test]
fn starts_that_crashes_cut_short_come_through() {
    for_each_seed(0..10, |seed| {
        let report = node::run_with(seed, |plan| {
            (plan.shards, plan.keys, plan.crash_one_in) = (3, 1, 4);
            plan.operations = 50;
        });
        assert!(report.coverage.count(Sometimes::CrashInRecovery) > 10, "{report}");
    });
}

/// A walk that is handed on may meet a core that is still opening: it is refused, and comes again.
#[test]
fn a_walk_may_reach_a_core_that_is_still_opening() {
    for_each_seed(0..20, |seed| {
        node::run_with(seed, |plan| {
            (plan.shards, plan.node_percent, plan.crash_one_in) = (3, 30, 300);
        });
    });
}

/// Nothing is in memory and the disk stalls for longer than requests wait: all of them are answered
/// in time, and once it is back every key is served.
#[test]
fn a_stalled_disk_that_comes_back_serves_every_key_again() {
    for_each_seed(0..20, |seed| {
        node::run_with(seed, |plan| {
            (plan.resident_bytes_max, plan.keys, plan.stall_one_in) = (0, 40, 60);
            plan.request_timeout = Duration::from_millis(120);
        });
    });
}

/// Whoever waits for a record when a core stops is answered before the core is gone: its driver never
/// wakes it again.
#[test]
fn a_stop_on_a_stalled_disk_answers_everybody() {
    for_each_seed(0..20, |seed| {
        node::run_with(seed, |plan| {
            (plan.resident_bytes_max, plan.keys, plan.stall_one_in) = (0, 40, 60);
            (plan.stop_one_in, plan.request_timeout) = (60, Duration::from_millis(120));
        });
    });
}

/// A last write that fails while the log stops ends the stop: it hung for ever.
#[test]
fn a_write_that_fails_while_the_log_stops_ends_the_stop() {
    for_each_seed(0..20, |seed| {
        node::run_with(seed, |plan| {
            (plan.stop_one_in, plan.pipeline) = (30, 12);
            plan.dials.append_failure_one_in = 20;
        });
    });
}

/// Records of unknown keys were lost: a deleted key's tombstone is all that tells it from them.
#[test]
fn a_tombstone_stays_where_records_of_unknown_keys_were_lost() {
    for_each_seed(0..20, |seed| {
        node::run_with(seed, |plan| {
            (plan.harm_percent, plan.keys, plan.crash_one_in) = (60, 40, 600);
        });
    });
}

/// A core over its clients' budget refuses writes and waits that cost more of it, and nothing else;
/// once they rest, every key takes a write again.
#[test]
fn a_core_over_its_budget_refuses_writes_until_its_clients_rest() {
    let mut all = Report::default();
    for_each_seed(0..20, |seed| {
        all.join(&node::run_with(seed, |plan| {
            (plan.memory_bytes_max, plan.pipeline, plan.big_percent) = (1_500, 12, 90);
        }));
    });
    let refused = all.coverage.count(Sometimes::OutOfMemory);
    assert!(refused > 100 || std::env::var("SEED").is_ok(), "{refused} were refused");
}

/// If this fails, no failure can be had again: something depends on more than the seed.
#[test]
fn a_seed_gives_the_same_run_each_time() {
    for_each_seed(1000..1006, |seed| {
        assert_eq!(node::run(seed), node::run(seed));
    });
}
