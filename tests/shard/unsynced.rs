//! What is not synced yet is shown to nobody, also where no key was named: a crash may take it back.

use stator::base::id::ShardId;
use stator::base::time::Duration;
use stator::protocol::shard::NodeSettings;

use crate::world::IN_TIME;
use crate::world::INTERVAL;
use crate::world::READER;
use crate::world::SYNC;
use crate::world::WRITER;
use crate::world::World;
use crate::world::bulk;
use crate::world::set;

fn of_two_cores(node: &mut NodeSettings) {
    node.core_addresses = vec![node.client_address; 2];
    node.owners = (0..16).map(ShardId::new).map(|shard| ShardId::new(shard.to_raw() / 8)).collect();
}

/// Everything that tells of keys that it was not asked for, with what it tells of one key and none.
fn tellers(world: &mut World) -> [(Vec<u8>, String, String); 3] {
    world.say(READER, b"CLUSTER KEYSLOT key\r\n");
    let slot = world.take(READER);
    let slot = slot.trim().trim_start_matches(':');
    let (one, none) = (":1\r\n".to_owned(), ":0\r\n".to_owned());
    [
        (b"DBSIZE\r\n".to_vec(), one.clone(), none.clone()),
        (format!("CLUSTER COUNTKEYSINSLOT {slot}\r\n").into_bytes(), one, none),
        (
            b"SCAN 0 COUNT 100\r\n".to_vec(),
            format!("*2\r\n{}*1\r\n{}", bulk("0"), bulk("key")),
            format!("*2\r\n{}*0\r\n", bulk("0")),
        ),
    ]
}

#[test]
fn a_key_is_told_of_when_it_is_synced() {
    let mut world = World::new(SYNC, |_, _| {});
    for (question, one, _) in tellers(&mut world) {
        world.stalled = true;
        world.say(WRITER, &set("key", "value"));
        world.say(READER, &question);
        world.pass(Duration::from_millis(100));
        assert_eq!(world.take(READER), "");
        world.stalled = false;
        world.settle();
        assert_eq!((world.take(WRITER), world.take(READER)), ("+OK\r\n".to_owned(), one));
        world.asks(WRITER, b"DEL key\r\n");
    }
}

/// After a crash it would be there again.
#[test]
fn a_key_is_gone_when_its_deletion_is_synced() {
    let mut world = World::new(SYNC, |_, _| {});
    for (question, _, none) in tellers(&mut world) {
        assert_eq!(world.asks(WRITER, &set("key", "value")), "+OK\r\n");
        world.stalled = true;
        world.say(WRITER, b"DEL key\r\n");
        world.say(READER, &question);
        world.pass(Duration::from_millis(100));
        assert_eq!(world.take(READER), "");
        world.stalled = false;
        world.settle();
        assert_eq!((world.take(WRITER), world.take(READER)), (":1\r\n".to_owned(), none));
    }
}

/// Whoever asks for synced copies is told of none that is not, also where others are not asked to wait.
#[test]
fn a_synced_copy_that_was_asked_for_is_synced() {
    let mut world = World::new(INTERVAL, |_, _| {});
    world.stalled = true;
    for request in [&b"DYN.PUT key '' value DW 1\r\n"[..], b"DYN.DEL key '' DW 1\r\n"] {
        world.say(READER, request);
    }
    assert_eq!(world.asks(WRITER, &set("other", "value")), "+OK\r\n");
    assert_eq!(world.take(READER), "");
    world.stalled = false;
    world.pass(Duration::from_millis(50)); // far below the interval
    let told = world.take(READER);
    assert_eq!(told.matches('$').count(), 2, "two contexts: {told}");
}

#[test]
fn who_waits_for_it_too_long_is_told_so() {
    let mut world = World::new(SYNC, |_, node| node.request_timeout = Duration::from_millis(300));
    for (question, ..) in tellers(&mut world) {
        world.stalled = true;
        world.say(WRITER, &set("key", "value"));
        world.say(READER, &question);
        world.pass(IN_TIME);
        assert!(world.take(READER).starts_with("-TIMEOUT"));
        world.stalled = false;
        world.settle();
        assert_eq!(world.take(READER), "", "it is answered once");
    }
}

/// A record of another namespace, a pattern that does not match: nothing that is told depends on it.
#[test]
fn nobody_waits_for_what_is_not_told() {
    let mut world = World::new(SYNC, |_, _| {});
    world.stalled = true;
    world.say(WRITER, &set("key", "value"));
    world.say(READER, b"SCAN 0 MATCH other* COUNT 100\r\n");
    assert_eq!(world.take(READER), format!("*2\r\n{}*0\r\n", bulk("0")));
}

/// Where writes are acknowledged from the buffer they are also read from there.
#[test]
fn what_is_acknowledged_from_the_buffer_is_told_of_at_once() {
    let mut world = World::new(INTERVAL, |_, _| {});
    world.stalled = true;
    world.say(WRITER, &set("key", "value"));
    for (question, one, _) in tellers(&mut world) {
        world.say(READER, &question);
        assert_eq!(world.take(READER), one);
    }
}

/// The other core cannot know what of this one's is synced.
#[test]
fn a_walk_goes_on_at_another_core_when_what_it_met_is_synced() {
    let mut world = World::new(SYNC, |_, node| of_two_cores(node));
    // Of a few keys some are this core's, which it stores itself.
    world.stalled = true;
    for number in 0..8 {
        world.say(WRITER, &set(&format!("key:{number}"), "value"));
    }
    world.mesh.clear();
    world.say(READER, b"SCAN 0 COUNT 100\r\n");
    world.pass(Duration::from_millis(100));
    assert!(world.mesh.is_empty(), "it is told to the other core");
    world.stalled = false;
    world.settle();
    assert_eq!(world.mesh.len(), 1);
}

/// A count of all cores is not told before each of them may tell its part.
#[test]
fn a_count_asks_the_other_core_and_waits_for_its_own() {
    let mut world = World::new(SYNC, |_, node| of_two_cores(node));
    world.stalled = true;
    for number in 0..8 {
        world.say(WRITER, &set(&format!("key:{number}"), "value"));
    }
    world.mesh.clear();
    world.say(READER, b"DBSIZE\r\n");
    let question = world.mesh.pop().expect("the other core is asked");
    world.hears_from(1, &question);
    assert_eq!(world.mesh.len(), 0, "its answer to the same question waits");
    world.stalled = false;
    world.settle();
    let part = world.mesh.pop().expect("it is synced");
    assert_eq!(world.take(READER), "", "one part is missing");
    world.hears_from(1, &part);
    let count = world.take(READER);
    let count: i64 = count.trim().trim_start_matches(':').parse().expect("a number");
    assert!((2..=16).contains(&count) && count % 2 == 0, "{count}: twice this core's keys");
}

/// A core that does not know its keys, or whose log lost some, does not count them.
#[test]
fn a_core_that_cannot_read_counts_nothing() {
    let mut asking = World::new(SYNC, |_, node| of_two_cores(node));
    asking.say(READER, b"DBSIZE\r\n");
    let question = asking.mesh.pop().expect("the other core is asked");
    let mut opening = World::new(SYNC, |_, node| of_two_cores(node));
    opening.stalled = true;
    opening.crash(|_| {});
    opening.hears_from(1, &question);
    let part = opening.mesh.pop().expect("a part");
    asking.hears_from(1, &part);
    assert_eq!(asking.take(READER), "-BUSY this node is starting\r\n");

    let mut poisoned = World::new(SYNC, |_, _| {});
    assert_eq!(poisoned.asks(READER, b"DBSIZE\r\n"), ":0\r\n");
    poisoned.poison();
    assert!(poisoned.asks(READER, b"DBSIZE\r\n").starts_with("-READONLY"));
}
