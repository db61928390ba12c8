//! What a change of the ring takes to compute: `cargo bench --bench ring`.
//!
//! It runs as an effect beside the shards, and an operator waits for its plan: a second is the bar for
//! a thousand members on the largest ring.

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use criterion::criterion_group;
use criterion::criterion_main;
use stator::base::id::MemberId;
use stator::base::id::ZoneId;
use stator::protocol::ring::Member;
use stator::protocol::ring::Members;
use stator::protocol::ring::Partitions;
use stator::protocol::ring::Preferences;
use stator::protocol::ring::Table;

fn tables(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("ring");
    group.sample_size(10).warm_up_time(Duration::from_millis(500));
    for (count, partitions) in [(3, 1024), (50, 1024), (1000, 16_384)] {
        let ring = Partitions::new(partitions).expect("a power of two");
        let before = members(count);
        let table = Table::new(ring, 3, &before);
        let name = |what: &str| format!("{what}, {count} members, {partitions} partitions");
        group.bench_function(name("from nothing"), |bencher| {
            bencher.iter(|| Table::new(black_box(ring), 3, &before));
        });
        let one_more = members(count + 1);
        group.bench_function(name("one joins"), |bencher| {
            bencher.iter(|| black_box(&table).with_members(&one_more));
        });
        group.bench_function(name("preference lists"), |bencher| {
            bencher.iter(|| Preferences::new(black_box(table.clone())));
        });
    }
    group.finish();
}

fn members(count: u128) -> Members {
    let member = |id: u128| Member {
        id: MemberId::new(id),
        weight: 1 + (id % 3) as u16,
        zone: ZoneId::new((id % 10) as u16),
    };
    Members::new((0..count).map(member)).expect("distinct members")
}

criterion_group!(benches, tables);
criterion_main!(benches);
