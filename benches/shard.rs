//! What a whole shard costs per request, without sockets and disks: `cargo bench --bench shard`.
//!
//! Requests come as bytes and leave as bytes: parser, session, coordinator, replica, versions, log
//! and keydir are all in it. Before it measures time, it counts allocations and fails if a hot get
//! makes any.

mod ram;

use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use ram::Ram;
use stator::base::rng::Rng;
use stator::base::time::Duration;
use stator::protocol::coordinator::Durability;
use stator::protocol::coordinator::Interval;
use stator::protocol::coordinator::Namespace;

const PIPELINE: usize = 16;
const VALUE: [u8; 100] = [b'v'; 100];

fn main() {
    // `cargo test --benches` passes no `--bench`.
    let testing = !std::env::args().any(|argument| argument == "--bench");
    let keys = if testing { 1_000 } else { 1_000_000 };
    let mut criterion = Criterion::default().configure_from_args();
    let interval = Interval { time: Duration::from_secs(1), bytes: None, objects: None };
    for (name, durability) in
        [("interval", Durability::Interval(interval)), ("sync", Durability::Sync)]
    {
        let mut ram = Ram::new(Namespace { durability, ..Namespace::default() });
        fill(&mut ram, keys);
        count_allocations(&mut ram, name, keys);
        measure(&mut criterion, &mut ram, name, keys);
    }
    criterion.final_summary();
}

fn measure(criterion: &mut Criterion, ram: &mut Ram, name: &str, keys: u64) {
    let mut rng = Rng::from_seed(1);
    let mut group = criterion.benchmark_group(format!("shard/{name}"));
    group.throughput(Throughput::Elements(PIPELINE as u64));
    type Request = fn(u64) -> Vec<u8>;
    for (what, request) in [("get", get as Request), ("set", set as Request)] {
        group.bench_function(format!("{what} pipeline {PIPELINE}"), |bencher| {
            bencher.iter_batched(
                || pipeline(&mut rng, keys, request),
                |bytes| ram.turn(&bytes),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// Allocations per request, after a warm-up: a get must make none.
fn count_allocations(ram: &mut Ram, name: &str, keys: u64) {
    let mut rng = Rng::from_seed(2);
    type Request = fn(u64) -> Vec<u8>;
    for (what, request) in [("get", get as Request), ("set", set as Request)] {
        let turns: Vec<Vec<u8>> = (0..64).map(|_| pipeline(&mut rng, keys, request)).collect();
        turns.iter().for_each(|bytes| ram.turn(bytes));
        let counted = allocation_counter::measure(|| {
            turns.iter().for_each(|bytes| ram.turn(bytes));
        });
        let requests = (turns.len() * PIPELINE) as f64;
        println!(
            "{name} {what}: {:.3} allocations a request",
            counted.count_total as f64 / requests
        );
        if what == "get" {
            assert_eq!(counted.count_total, 0, "a hot get allocates nothing");
        }
    }
}

fn fill(ram: &mut Ram, keys: u64) {
    for first in (0..keys).step_by(PIPELINE) {
        let bytes: Vec<u8> = (first..(first + PIPELINE as u64).min(keys)).flat_map(set).collect();
        ram.turn(&bytes);
        assert!(ram.received.starts_with(b"+OK"), "{:?}", String::from_utf8_lossy(&ram.received));
    }
}

fn pipeline(rng: &mut Rng, keys: u64, request: fn(u64) -> Vec<u8>) -> Vec<u8> {
    (0..PIPELINE).flat_map(|_| request(rng.below(keys))).collect()
}

fn get(key: u64) -> Vec<u8> {
    format!("*2\r\n$3\r\nGET\r\n$16\r\nkey:{key:012}\r\n").into_bytes()
}

fn set(key: u64) -> Vec<u8> {
    let mut bytes = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{key:012}\r\n$100\r\n").into_bytes();
    bytes.extend_from_slice(&VALUE);
    bytes.extend_from_slice(b"\r\n");
    bytes
}
