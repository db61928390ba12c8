//! A log that has no room right now: writes wait for it in their order, and others are served.

use std::collections::BTreeMap;

use stator::base::rng::Rng;
use stator::base::time::Duration;
use stator::protocol::shard::Event;

use crate::world::INTERVAL;
use crate::world::READER;
use crate::world::SYNC;
use crate::world::VALUE_BYTES;
use crate::world::WRITER;
use crate::world::WRITES;
use crate::world::World;
use crate::world::bulk;
use crate::world::get;
use crate::world::key;
use crate::world::set;
use crate::world::value;

#[test]
fn writes_without_room_wait_and_go_on_in_their_order() {
    for durability in [SYNC, INTERVAL] {
        let mut world = World::new(durability, |_, _| {});
        world.say(WRITER, &set("other", "there"));
        world.settle();
        world.heard.clear();

        let mut pipeline: Vec<u8> =
            (0..WRITES).flat_map(|number| set(&key(number), &value(number))).collect();
        pipeline.extend(get(&key(WRITES - 1)));
        world.say(WRITER, &pipeline);
        assert!(world.stats("parked") > 0, "{durability:?}: the log had room for all of it");
        world.say(READER, &get("other"));
        assert_eq!(world.take(READER), bulk("there"), "{durability:?}: who reads does not wait");

        world.settle();
        let expected = "+OK\r\n".repeat(WRITES) + &bulk(&value(WRITES - 1));
        assert_eq!(world.take(WRITER), expected, "{durability:?}");
        assert_eq!(world.stats("parked"), 0, "{durability:?}");
        assert!(world.stats("parked_writes") > 0, "{durability:?}");
    }
}

/// The bound on what is not synced is met before the segment is full, and nobody else asks for a
/// sync.
#[test]
fn writes_beyond_the_unsynced_bound_wait_for_the_disk() {
    let mut world = World::new(INTERVAL, |storage, _| storage.unsynced_bytes_max = 3 * VALUE_BYTES);
    let pipeline: Vec<u8> =
        (0..WRITES).flat_map(|number| set(&key(number), &value(number))).collect();
    world.say(WRITER, &pipeline);
    assert!(world.stats("parked") > 0, "nothing waits");
    world.settle();
    assert_eq!(world.take(WRITER), "+OK\r\n".repeat(WRITES));
}

#[test]
fn a_full_disk_ends_the_wait_and_heals() {
    let mut world = World::new(SYNC, |_, _| {});
    world.disk.dials.quota_bytes = world.disk.used_bytes();
    let pipeline: Vec<u8> =
        (0..WRITES).flat_map(|number| set(&key(number), &value(number))).collect();
    world.say(WRITER, &pipeline);
    assert!(world.stats("parked") > 0, "nothing waits");
    world.settle();
    let heard = world.take(WRITER);
    let lines: Vec<&str> = heard.lines().collect();
    assert_eq!(lines.len(), WRITES, "{heard}");
    let stored = lines.iter().take_while(|line| **line == "+OK").count();
    assert!(stored > 0 && stored < WRITES, "{stored} were stored");
    assert!(lines[stored..].iter().all(|line| line.starts_with("-READONLY")), "{heard}");
    world.say(READER, &get(&key(stored - 1)));
    assert_eq!(world.take(READER), bulk(&value(stored - 1)));

    world.disk.dials.quota_bytes = u64::MAX;
    world.pass(Duration::from_millis(500));
    world.say(WRITER, &set("after", "it healed"));
    world.settle();
    assert_eq!(world.take(WRITER), "+OK\r\n");
}

#[test]
fn too_many_that_wait_are_refused() {
    let most = 100 * VALUE_BYTES;
    let mut world = World::new(SYNC, |_, node| node.memory_bytes_max = most);
    world.stalled = true;
    for number in 0..WRITES {
        world.say(WRITER, &set(&key(number), &value(number)));
    }
    world.stalled = false;
    world.settle();
    let heard = world.take(WRITER);
    let stored = heard.lines().take_while(|line| *line == "+OK").count();
    let waited = world.stats("parked_writes") as usize;
    assert!(waited > 0 && waited <= most / 2 / VALUE_BYTES + 1, "{waited} waited");
    assert!(heard.lines().skip(stored).all(|line| line.starts_with("-BUSY")), "{heard}");
    assert_eq!(heard.lines().count(), WRITES);
}

#[test]
fn a_stop_refuses_those_that_wait() {
    let mut world = World::new(SYNC, |_, _| {});
    let pipeline: Vec<u8> =
        (0..WRITES).flat_map(|number| set(&key(number), &value(number))).collect();
    world.say(WRITER, &pipeline);
    world.handle(Event::Stop);
    world.settle();
    let heard = world.take(WRITER);
    let stored = heard.lines().filter(|line| *line == "+OK").count();
    let refused =
        heard.lines().filter(|line| line.starts_with("-BUSY this node is stopping")).count();
    assert!(stored > 0 && refused > 0, "{stored} stored, {refused} refused");
    assert_eq!(stored + refused, WRITES);
    assert!(world.stopped);
}

/// One client's pipeline means what its commands mean one after the other, whichever of them wait
/// for room and whichever for a cold record.
#[test]
fn a_pipeline_keeps_its_order_whatever_its_requests_wait_for() {
    let (mut roomless, mut cold) = (0, 0);
    for seed in 0..40 {
        let mut rng = Rng::from_seed(seed);
        let durability = *rng.pick(&[SYNC, INTERVAL]);
        let mut world = World::new(durability, |storage, node| {
            storage.segments_ahead = 1 + seed as usize % 3;
            storage.resident_bytes_max = 0;
            storage.cache_bytes_max = 8 * VALUE_BYTES;
            storage.unsynced_bytes_max = 20 * VALUE_BYTES;
            node.request_timeout = Duration::from_millis(600_000);
        });
        let (mut present, mut expected, mut pipeline) =
            (BTreeMap::new(), String::new(), Vec::new());
        for step in 0..1500 {
            let number = rng.below(60) as usize;
            let before = present.get(&number).map(|step: &usize| bulk(&value(*step)));
            match rng.below(4) {
                0 => {
                    pipeline.extend(get(&key(number)));
                    expected += before.as_deref().unwrap_or("$-1\r\n");
                }
                1 => {
                    let words = [bulk("DEL"), bulk(&key(number))].concat();
                    pipeline.extend(format!("*2\r\n{words}").into_bytes());
                    expected += if before.is_some() { ":1\r\n" } else { ":0\r\n" };
                    present.remove(&number);
                }
                _ => {
                    pipeline.extend(set(&key(number), &value(step)));
                    expected += "+OK\r\n";
                    present.insert(number, step);
                }
            }
            if rng.chance(1, 100) {
                world.say(WRITER, &std::mem::take(&mut pipeline));
                world.pass(Duration::from_nanos(rng.below(2_000_000)));
            }
        }
        world.say(WRITER, &pipeline);
        world.settle();
        assert!(world.take(WRITER) == expected, "seed={seed}");
        roomless += world.stats("parked_writes");
        cold += world.stats("parked_reads");
    }
    assert!(roomless > 1000 && cold > 1000, "{roomless} waited for room, {cold} for a record");
}
