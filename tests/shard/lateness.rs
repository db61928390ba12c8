//! However long the disk takes, whoever asked is answered in time.

use stator::base::id::ShardId;
use stator::base::limits::OUTSTANDING_MAX;
use stator::base::time::Duration;
use stator::protocol::shard::Event;
use stator::protocol::shard::NodeSettings;

use crate::world::IN_TIME;
use crate::world::READER;
use crate::world::SYNC;
use crate::world::WRITER;
use crate::world::WRITES;
use crate::world::World;
use crate::world::bulk;
use crate::world::get;
use crate::world::key;
use crate::world::set;
use crate::world::value;

/// Nothing of what waited too long was stored, and its client is told so.
#[test]
fn a_wait_ends_with_the_time_of_the_request() {
    let mut world = World::new(SYNC, |_, node| node.request_timeout = Duration::from_millis(300));
    let pipeline: Vec<u8> =
        (0..WRITES).flat_map(|number| set(&key(number), &value(number))).collect();
    world.stalled = true;
    world.say(WRITER, &pipeline);
    world.pass(Duration::from_millis(1000));
    let heard = world.take(WRITER);
    let busy = heard.lines().filter(|line| line.starts_with("-BUSY")).count();
    let unknown = heard.lines().filter(|line| line.starts_with("-TIMEOUT")).count();
    assert_eq!(busy + unknown, WRITES, "{heard}");
    assert!(busy > 0 && unknown > 0, "{heard}");
    world.stalled = false;
    world.settle();
    for number in unknown..WRITES {
        world.say(READER, &get(&key(number)));
        assert_eq!(world.take(READER), "$-1\r\n", "{number} was refused and stored");
    }
}

/// Replies wait for a sync in the order of their records: one whose client has patience must not
/// hold up those behind it.
#[test]
fn a_patient_request_makes_nobody_else_wait() {
    let mut world = World::new(SYNC, |_, node| node.request_timeout = Duration::from_millis(300));
    world.stalled = true;
    let words = [bulk("DYN.PUT"), bulk("key"), bulk(""), bulk("value")].concat();
    let patience = [bulk("TIMEOUT"), bulk("600000")].concat();
    world.say(WRITER, format!("*6\r\n{words}{patience}").as_bytes());
    world.say(READER, &get("key"));
    world.pass(IN_TIME);
    assert!(world.take(READER).starts_with("-TIMEOUT"));
    assert_eq!(world.take(WRITER), "");
    world.stalled = false;
    world.settle();
    assert!(world.take(WRITER).starts_with('$'));
}

/// What a session holds back behind others counts from when it was read: once it is too late, it is
/// not begun.
#[test]
fn a_long_pipeline_is_answered_in_the_time_of_one_request() {
    let mut world = World::cold(WRITES);
    world.reads_stall = true;
    let requests = 3 * OUTSTANDING_MAX;
    let pipeline: Vec<u8> = (0..requests).flat_map(|number| get(&key(number % 8))).collect();
    world.say(READER, &pipeline);
    world.pass(IN_TIME);
    let heard = world.take(READER);
    let count = |word: &str| heard.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((count("-TIMEOUT"), count("-BUSY")), (OUTSTANDING_MAX, requests - OUTSTANDING_MAX));
}

/// A step that waits for a record tells in time what it has, and the next goes on there.
#[test]
fn a_step_of_a_walk_ends_in_time_with_what_it_has() {
    let mut world = World::cold(WRITES);
    let (mut cursor, mut met, mut parted, mut late) = ("0".to_owned(), Vec::new(), 0, 0);
    loop {
        world.say(READER, format!("SCAN {cursor} COUNT 1000\r\n").as_bytes());
        world.pass(Duration::from_millis(10));
        world.reads_stall = true;
        world.pass(IN_TIME);
        world.let_reads_end();
        let heard = world.take(READER);
        if heard.starts_with("-TIMEOUT") {
            late += 1;
            assert!(late < 10, "it gets nowhere");
            continue;
        }
        let mut words = heard.lines().filter(|line| !line.starts_with(['*', '$']));
        cursor = words.next().expect("a cursor").to_owned();
        met.extend(words.map(str::to_owned));
        if cursor == "0" {
            break;
        }
        parted += 1;
    }
    assert!(parted > 0, "no step was too long");
    met.sort();
    let mut all: Vec<String> = (0..WRITES).map(key).collect();
    all.sort();
    assert_eq!(met, all);
}

/// A request that crosses to another core has no more time there than its client gave it.
#[test]
fn a_request_takes_its_deadline_to_another_core() {
    let of_two = |node: &mut NodeSettings, owner: u16| {
        node.core_addresses = vec![node.client_address; 2];
        node.owners.fill(ShardId::new(owner));
        node.request_timeout = Duration::from_millis(300);
    };
    let mut asking = World::new(SYNC, |_, node| of_two(node, 1));
    let mut owning = World::cold_with(WRITES, |_, node| of_two(node, 0));
    let under_way = Duration::from_millis(250);
    asking.pass(owning.now.since(asking.now) - under_way);
    asking.say(READER, &get(&key(0)));
    let message = asking.mesh.pop().expect("another core owns it");

    owning.reads_stall = true;
    owning.handle(Event::Mesh { from: ShardId::new(1), bytes: &message });
    owning.pass(IN_TIME - under_way);
    let answer = owning.mesh.pop().expect("it is late");
    assert!(String::from_utf8_lossy(&answer).contains("-TIMEOUT"));
}

/// Half a count is none.
#[test]
fn a_count_of_keys_fails_in_time() {
    let mut world = World::cold(WRITES);
    world.reads_stall = true;
    world.say(WRITER, format!("CLUSTER KEYSLOT {}\r\n", key(1)).as_bytes());
    let slot = world.take(WRITER);
    let slot = slot.trim().trim_start_matches(':');
    world.say(READER, format!("CLUSTER COUNTKEYSINSLOT {slot}\r\n").as_bytes());
    world.pass(IN_TIME);
    assert!(world.take(READER).starts_with("-TIMEOUT"));
}

/// A log that is stopped lets its driver go: who waits for a record by then is answered before.
#[test]
fn a_stop_answers_those_who_wait_for_a_record() {
    let mut world = World::cold(WRITES);
    world.reads_stall = true;
    world.say(READER, &get(&key(0)));
    world.say(WRITER, b"SCAN 0 COUNT 1000\r\n");
    world.handle(Event::Stop);
    world.settle();
    assert!(world.stopped);
    for connection in [READER, WRITER] {
        assert_eq!(world.take(connection), "-BUSY this node is stopping\r\n");
    }
}
