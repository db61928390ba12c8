//! A log that has no room right now: writes wait for it in their order, and others are served.
//!
//! A whole shard on a virtual disk, of which the test says when it goes on.

use std::collections::BTreeMap;
use std::sync::Arc;

use stator::base::id::ConnectionId;
use stator::base::id::LogId;
use stator::base::id::ShardId;
use stator::base::limits::OUTSTANDING_MAX;
use stator::base::outbox::Outbox;
use stator::base::rng::Rng;
use stator::base::time::Duration;
use stator::base::time::Instant;
use stator::base::time::Now;
use stator::base::time::Wall;
use stator::protocol::coordinator::Durability;
use stator::protocol::coordinator::Interval;
use stator::protocol::coordinator::Namespace;
use stator::protocol::coordinator::Namespaces;
use stator::protocol::ring::Partitions;
use stator::protocol::session;
use stator::protocol::shard::Door;
use stator::protocol::shard::Effect;
use stator::protocol::shard::Event;
use stator::protocol::shard::NodeSettings;
use stator::protocol::shard::Peer;
use stator::protocol::shard::Settings;
use stator::protocol::shard::Shard;
use stator::protocol::version::ContextSecret;
use stator::sim::disk::Completion;
use stator::sim::disk::Dials;
use stator::sim::disk::Disk;
use stator::storage;
use stator::storage::commit;

const WRITER: ConnectionId = ConnectionId::new(1);
const READER: ConnectionId = ConnectionId::new(2);

const PARTITIONS: u16 = 16;
const SEGMENT_BYTES: u32 = 64 * 1024;
const VALUE_BYTES: usize = 1000;

/// Several segments of writes.
const WRITES: usize = 400;

/// A request that is given 300 ms is answered after this: a shard looks every 100 ms.
const IN_TIME: Duration = Duration::from_millis(401);

const SYNC: Durability = Durability::Sync;
const INTERVAL: Durability = Durability::Interval(Interval {
    time: Duration::from_millis(1000),
    bytes: None,
    objects: None,
});

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

fn key(number: usize) -> String {
    format!("key:{number}")
}

fn value(number: usize) -> String {
    format!("{number:0>VALUE_BYTES$}")
}

fn bulk(value: &str) -> String {
    format!("${}\r\n{value}\r\n", value.len())
}

fn set(key: &str, value: &str) -> Vec<u8> {
    format!("*3\r\n{}{}{}", bulk("SET"), bulk(key), bulk(value)).into_bytes()
}

fn get(key: &str) -> Vec<u8> {
    format!("*2\r\n{}{}", bulk("GET"), bulk(key)).into_bytes()
}

/// A shard, its disk, and two clients.
struct World {
    shard: Shard,
    disk: Disk,
    /// Nothing that the disk does ends.
    stalled: bool,
    /// No read for a request ends.
    reads_stall: bool,
    stalled_reads: Vec<Completion>,
    out: Outbox<Effect>,
    now: Instant,
    heard: Vec<(ConnectionId, Vec<u8>)>,
    stopped: bool,
}

impl World {
    /// A shard that has started, of which `change` changed the settings.
    fn new(
        durability: Durability,
        change: impl FnOnce(&mut storage::Settings, &mut NodeSettings),
    ) -> Self {
        let mut world = Self {
            shard: Shard::new(settings(durability, change), 7),
            disk: Disk::new(Rng::from_seed(1), Dials::default()),
            stalled: false,
            reads_stall: false,
            stalled_reads: Vec::new(),
            out: Outbox::default(),
            now: Instant::START,
            heard: Vec::new(),
            stopped: false,
        };
        world.handle(Event::Start);
        let address = "127.0.0.1:1".parse().expect("an address");
        for connection in [WRITER, READER] {
            let peer = Peer { address, local: address, door: Door::Shared };
            world.handle(Event::Accepted { connection, peer });
        }
        world.settle();
        world
    }

    /// The same with so many keys, of which few records are in memory and requests wait for 300 ms.
    fn cold(keys: usize) -> Self {
        let mut world = World::new(SYNC, |storage, node| {
            (storage.resident_bytes_max, storage.cache_bytes_max) = (0, VALUE_BYTES);
            node.request_timeout = Duration::from_millis(300);
        });
        for number in 0..keys {
            world.say(WRITER, &set(&key(number), &value(number)));
            world.pass(Duration::from_millis(5));
        }
        assert_eq!(world.take(WRITER), "+OK\r\n".repeat(keys));
        world
    }

    fn say(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.handle(Event::Received { connection, bytes });
        self.handle(Event::TurnEnd);
    }

    /// What a client heard since the last call.
    fn take(&mut self, connection: ConnectionId) -> String {
        let (own, others) =
            std::mem::take(&mut self.heard).into_iter().partition(|(to, _)| *to == connection);
        self.heard = others;
        let own: Vec<(ConnectionId, Vec<u8>)> = own;
        String::from_utf8(own.into_iter().flat_map(|(_, bytes)| bytes).collect()).expect("text")
    }

    /// A count of `DYN.STATS`.
    fn stats(&mut self, name: &str) -> u64 {
        assert_eq!(self.take(READER), "");
        self.say(READER, b"DYN.STATS\r\n");
        let stats = self.take(READER);
        let mut lines = stats.lines().skip_while(|line| *line != name);
        let number = lines.nth(1).and_then(|line| line.strip_prefix(':')).map(str::parse);
        number.unwrap_or_else(|| panic!("no {name} in {stats}")).expect("a number")
    }

    /// Lets two seconds pass: all that can be done is done.
    fn settle(&mut self) {
        self.pass(Duration::from_millis(2000));
    }

    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let disk_at = self.disk.next_at().filter(|_| !self.stalled);
            let deadline = self.shard.deadline().filter(|_| !self.stopped);
            let Some(at) = [disk_at, deadline].into_iter().flatten().min() else { break };
            if at > until {
                break;
            }
            self.now = self.now.max(at);
            if disk_at == Some(at) {
                let completion = self.disk.complete().expect("its time has come");
                if self.reads_stall && matches!(completion, Completion::Read(..)) {
                    self.stalled_reads.push(completion);
                    continue;
                }
                self.handle(Event::Disk(completion.event()));
            } else {
                self.handle(Event::Tick);
            }
            self.handle(Event::TurnEnd);
        }
        self.now = until;
    }

    fn let_reads_end(&mut self) {
        self.reads_stall = false;
        for completion in std::mem::take(&mut self.stalled_reads) {
            self.handle(Event::Disk(completion.event()));
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        let wall = Wall::from_millis(1_790_000_000_000 + self.now.as_nanos() / 1_000_000);
        let now = Now { monotonic: self.now, wall };
        self.shard.handle(now, event, &self.disk, &mut self.out);
        let (effects, arena) = self.out.take();
        let mut sent = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { connection, bytes } => {
                    sent.push((connection, bytes.len()));
                    self.heard.push((connection, arena[bytes].to_vec()));
                }
                Effect::Disk(effect) => self.disk.perform(self.now, effect),
                Effect::Stopped => self.stopped = true,
                Effect::Failed(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        self.out.clear();
        for (connection, bytes) in sent {
            self.handle(Event::Sent { connection, bytes });
        }
    }
}

fn settings(
    durability: Durability,
    change: impl FnOnce(&mut storage::Settings, &mut NodeSettings),
) -> Settings {
    let address = "127.0.0.1:7000".parse().expect("an address");
    let mut storage = storage::Settings {
        segment_bytes: SEGMENT_BYTES,
        commit: commit::Settings { batch_bytes: 16 * 1024, in_flight_max: 3, eager_bytes: 4096 },
        ..storage::Settings::new(LogId::new(1), PARTITIONS)
    };
    let mut node = NodeSettings {
        name: "test".to_owned(),
        id: "0".repeat(40),
        process_id: 1,
        client_address: address,
        core_addresses: vec![address],
        partitions: Partitions::new(PARTITIONS).expect("a power of two"),
        owners: vec![ShardId::new(0); usize::from(PARTITIONS)],
        hash_seed: 1,
        context_secret: ContextSecret::new([1; 32]),
        namespaces: Namespaces::new([(
            Vec::new(),
            Namespace { durability, ..Namespace::default() },
        )]),
        sessions: Arc::new(session::Settings::default()),
        siblings_max: 100,
        memory_bytes_max: 1 << 30,
        request_timeout: Duration::from_secs(5),
        shown: Vec::new(),
    };
    change(&mut storage, &mut node);
    Settings { shard: ShardId::new(0), storage, node: Arc::new(node) }
}
