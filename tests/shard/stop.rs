//! A stop answers everybody, also who waits for another core that stops sooner or later.

use stator::base::id::ShardId;
use stator::base::limits::OUTPUT_BYTES_SOFT;
use stator::base::time::Duration;
use stator::protocol::shard::Event;
use stator::protocol::shard::NodeSettings;

use crate::world::READER;
use crate::world::SYNC;
use crate::world::WRITER;
use crate::world::World;
use crate::world::bulk;
use crate::world::get;
use crate::world::key;
use crate::world::set;

const STOPPING: &str = "-BUSY this node is stopping\r\n";

/// Two cores: that of the client, and that of its key. Each takes itself for the first.
fn two_cores() -> (World, World) {
    let of_two = |node: &mut NodeSettings, owner: u16| {
        node.core_addresses = vec![node.client_address; 2];
        node.owners.fill(ShardId::new(owner));
        node.request_timeout = Duration::from_millis(300);
    };
    (World::new(SYNC, |_, node| of_two(node, 1)), World::new(SYNC, |_, node| of_two(node, 0)))
}

/// Brings what was said to the other core.
fn bring(from: &mut World, to: &mut World) {
    for message in std::mem::take(&mut from.mesh) {
        to.hears_from(1, &message);
    }
}

#[test]
fn a_core_waits_for_the_answer_of_one_that_stops_later() {
    let (mut asking, mut owning) = two_cores();
    owning.stalled = true;
    asking.say(WRITER, &set(&key(0), "value"));
    bring(&mut asking, &mut owning);
    asking.handle(Event::Stop);
    asking.pass(Duration::from_millis(100));
    assert!(!asking.stopped, "its client has no answer");
    owning.handle(Event::Stop);
    owning.stalled = false;
    owning.pass(Duration::from_millis(100));
    assert!(!owning.stopped, "it may yet be asked");
    bring(&mut owning, &mut asking);
    assert_eq!(asking.take(WRITER), "+OK\r\n");
    assert!(asking.stopped);
    bring(&mut asking, &mut owning);
    assert!(owning.stopped);
}

#[test]
fn a_core_refuses_what_one_asks_that_stops_later() {
    let (mut asking, mut owning) = two_cores();
    owning.handle(Event::Stop);
    owning.pass(Duration::from_millis(100));
    bring(&mut owning, &mut asking);
    asking.say(READER, &get(&key(0)));
    asking.say(WRITER, b"DBSIZE\r\n");
    assert!(!owning.stopped);
    asking.handle(Event::Stop);
    asking.pass(Duration::from_millis(100));
    assert!(!asking.stopped);
    bring(&mut asking, &mut owning);
    assert!(owning.stopped, "it was told that this was all");
    bring(&mut owning, &mut asking);
    assert_eq!((asking.take(READER), asking.take(WRITER)), (STOPPING.to_owned(), ":0\r\n".into()));
    assert!(asking.stopped);
}

/// What would need the other cores is refused: they may be gone.
#[test]
fn a_core_that_stops_asks_no_other() {
    let (mut asking, _) = two_cores();
    asking.handle(Event::Stop);
    asking.mesh.clear();
    for question in ["DBSIZE", "INFO", "DYN.STATS", "SCAN 0", "GET key"] {
        asking.say(READER, format!("{question}\r\n").as_bytes());
        assert_eq!(asking.take(READER), STOPPING, "{question}");
    }
    assert!(asking.mesh.is_empty());
}

/// One that died says nothing.
#[test]
fn a_core_does_not_wait_for_ever() {
    let (mut asking, _) = two_cores();
    asking.say(READER, &get(&key(0)));
    asking.handle(Event::Stop);
    asking.pass(Duration::from_millis(1200));
    assert!(!asking.stopped);
    asking.pass(Duration::from_millis(200));
    assert!(asking.stopped);
    assert!(asking.take(READER).starts_with("-TIMEOUT"), "it may be stored");
}

/// The driver does not wait for a core as long as the most patient client.
#[test]
fn a_core_does_not_wait_as_long_as_a_client_might() {
    let mut world =
        World::new(SYNC, |_, node| node.request_timeout = Duration::from_millis(600_000));
    world.stalled = true;
    world.say(WRITER, &set(&key(0), "value"));
    world.handle(Event::Stop);
    world.pass(Duration::from_millis(20_900));
    assert_eq!(world.take(WRITER), "");
    world.pass(Duration::from_millis(200));
    assert!(world.take(WRITER).starts_with("-TIMEOUT"), "the disk hangs");
    world.stalled = false;
    world.settle();
    assert!(world.stopped);
    assert_eq!(world.take(WRITER), "", "it is answered once");
}

/// Requests that a client holds back itself, as it takes no replies, are answered if it goes on soon.
#[test]
fn a_stop_waits_a_little_for_those_who_take_no_replies() {
    for goes_on in [true, false] {
        let mut world = World::new(SYNC, |_, _| {});
        let long = "v".repeat(OUTPUT_BYTES_SOFT / 50);
        assert_eq!(world.asks(WRITER, &set("long", &long)), "+OK\r\n");
        world.settle();
        world.sends = false;
        world.say(READER, &get("long").repeat(200));
        world.handle(Event::Stop);
        world.pass(Duration::from_millis(900));
        assert!(!world.stopped, "requests are unanswered");
        if goes_on {
            world.send();
            world.pass(Duration::from_millis(1));
        } else {
            world.pass(Duration::from_millis(201));
        }
        assert!(world.stopped, "{goes_on}");
        let heard = world.take(READER);
        let refused = heard.matches(STOPPING).count();
        let answered = heard.matches(&bulk(&long)).count();
        assert!(answered > 40 && answered < 100, "{answered}");
        assert_eq!(refused, if goes_on { 200 - answered } else { 0 });
    }
}

/// The driver may go with that.
#[test]
fn a_core_says_nothing_after_its_end() {
    let (mut asking, mut owning) = two_cores();
    owning.handle(Event::Stop);
    owning.pass(Duration::from_millis(100));
    owning.mesh.clear();
    asking.say(READER, &get(&key(0)));
    asking.handle(Event::Stop);
    let messages = std::mem::take(&mut asking.mesh).concat();
    owning.hears_from(1, &messages);
    assert!(owning.stopped);
    assert_eq!(owning.mesh.len(), 1, "it answers before");
}

/// Also if its log has other reasons to refuse.
#[test]
fn a_core_that_stops_begins_no_walk() {
    let mut world = World::new(SYNC, |_, _| {});
    world.poison();
    world.handle(Event::Stop);
    assert_eq!(world.asks(READER, b"SCAN 0\r\n"), STOPPING);
}
