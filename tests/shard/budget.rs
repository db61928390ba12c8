//! A core that holds as much for its clients as it may.

use stator::base::time::Instant;
use stator::protocol::shard::Event;
use stator::protocol::shard::NodeSettings;
use stator::storage;

use crate::world::INTERVAL;
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

/// What walks hold counts like all else, and who begins one then is refused.
#[test]
fn a_core_over_its_budget_refuses_walks() {
    let mut world = world_of(1200, "key", |_, node| node.memory_bytes_max = 20_000);
    world.say(WRITER, &b"SCAN 0 COUNT 100000\r\n".repeat(500));
    assert!(world.asks(READER, &set("other", "value")).starts_with("-OOM"));
    world.settle();
    let heard = world.take(WRITER);
    let refused = heard.lines().filter(|line| line.starts_with("-OOM")).count();
    let answered = heard.lines().filter(|line| *line == "*2").count();
    assert!(refused > 100 && answered > 10, "{refused} refused, {answered} answered");
    assert_eq!(refused + answered, 500);
    assert_eq!(world.asks(READER, &set("other", "value")), "+OK\r\n", "it holds nothing more");
}

/// Many walks that were begun while there was room do not grow beyond it together.
#[test]
fn walks_of_a_core_over_its_budget_end_early() {
    let budget = 64 * 1024;
    let long = "k".repeat(1000);
    let mut world = world_of(200, &long, |_, node| node.memory_bytes_max = budget);
    world.say(WRITER, &b"SCAN 0 COUNT 100000\r\n".repeat(20));
    let mut most = 0;
    while world.shard.deadline() == Some(Instant::START) {
        most = most.max(world.stats("client_bytes") as usize);
        world.handle(Event::Tick);
        world.handle(Event::TurnEnd);
    }
    assert!(most > budget / 4 && most < 2 * budget, "{most}");
    let heard = world.take(WRITER);
    assert_eq!(heard.lines().filter(|line| *line == "*2").count(), 20, "each is answered");
}

/// A step that asks for much is told what fits, and where to go on: nothing is left out.
#[test]
fn a_step_of_a_walk_has_a_bound_in_bytes() {
    let long = "k".repeat(8000);
    let mut world = world_of(200, &long, |_, _| {});
    let (mut cursor, mut met, mut steps) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let step = world.asks(READER, format!("SCAN {cursor} COUNT 100000\r\n").as_bytes());
        assert!(step.len() < 300 * 1024, "{} bytes", step.len());
        let mut words = step.lines().filter(|line| !line.starts_with(['*', '$']));
        cursor = words.next().expect("a cursor").to_owned();
        met.extend(words.map(str::to_owned));
        steps += 1;
        if cursor == "0" {
            break;
        }
    }
    met.sort();
    let mut all: Vec<String> = (0..200).map(|number| format!("{long}:{number}")).collect();
    all.sort();
    assert!(met == all && steps > 4, "{} keys in {steps} steps", met.len());
}

/// However many walks there are, a turn stays short, and a short one is not behind all long ones.
#[test]
fn walks_share_the_entries_of_a_turn() {
    let mut world = world_of(1200, "key", |_, _| {});
    let walks = 20;
    world.say(WRITER, &b"SCAN 0 COUNT 100000\r\n".repeat(walks));
    world.say(READER, b"SCAN 0 COUNT 10\r\n");
    let (mut turns, mut short) = (0, None);
    while world.shard.deadline() == Some(Instant::START) {
        world.handle(Event::Tick);
        world.handle(Event::TurnEnd);
        turns += 1;
        if short.is_none() && !world.take(READER).is_empty() {
            short = Some(turns);
        }
    }
    assert_eq!(world.take(WRITER).lines().filter(|line| *line == "*2").count(), walks);
    assert!(turns >= walks * 1200 / 512 - 1, "{turns} turns");
    assert!(short.is_some_and(|turn| turn < 10), "{short:?} of {turns}");
}

/// Walks that are begun in one turn share it too.
#[test]
fn a_turn_does_not_begin_many_walks() {
    let mut world = world_of(400, "key", |_, _| {});
    world.say(WRITER, &b"SCAN 0 COUNT 100000\r\n".repeat(100));
    let at_once = world.take(WRITER).lines().filter(|line| *line == "*2").count();
    assert!(at_once <= 1, "{at_once} were answered in one turn");
    world.settle();
    let later = world.take(WRITER).lines().filter(|line| *line == "*2").count();
    assert_eq!(at_once + later, 100);
}

/// A core with so many keys, all of them in memory.
fn world_of(
    keys: usize,
    prefix: &str,
    change: impl FnOnce(&mut storage::Settings, &mut NodeSettings),
) -> World {
    let mut world = World::new(INTERVAL, change);
    for number in 0..keys {
        let told = world.asks(WRITER, &set(&format!("{prefix}:{number}"), "value"));
        assert_eq!(told, "+OK\r\n");
    }
    world.settle();
    world
}
