//! A core that holds as much for its clients as it may.

use crate::world::READER;
use crate::world::WRITER;
use crate::world::WRITES;
use crate::world::World;
use crate::world::bulk;
use crate::world::get;
use crate::world::key;
use crate::world::set;
use crate::world::value;

/// It refuses what would cost more of it, writes above all; what is in memory is read all the same.
#[test]
fn a_core_over_its_budget_refuses_writes_and_reads_on() {
    let mut world = World::cold_with(WRITES, |_, node| node.memory_bytes_max = 2_000);
    world.reads_stall = true;
    let pipeline: Vec<u8> = (0..100).flat_map(|number| get(&key(number))).collect();
    world.say(READER, &pipeline);
    assert!(world.shard.counters().parked_reads > 10, "it holds little");
    let refused = world.shard.counters().refused;
    assert!(refused > 0, "more than it may");
    assert!(world.asks(WRITER, &set("other", "value")).starts_with("-OOM"));
    let words = [bulk("DEL"), bulk(&key(WRITES - 1))].concat();
    assert!(world.asks(WRITER, format!("*2\r\n{words}").as_bytes()).starts_with("-OOM"));
    assert_eq!(world.asks(WRITER, &get(&key(WRITES - 1))), bulk(&value(WRITES - 1)));

    world.let_reads_end();
    assert_eq!(world.asks(WRITER, &get("other")), "$-1\r\n", "it was refused and stored");
    assert_eq!(world.asks(WRITER, &set("other", "value")), "+OK\r\n");
}
