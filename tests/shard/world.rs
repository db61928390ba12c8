//! A whole shard on a virtual disk, of which the test says when it goes on, and two clients.

use std::collections::BTreeSet;
use std::sync::Arc;

use stator::base::id::ConnectionId;
use stator::base::id::LinkId;
use stator::base::id::LogId;
use stator::base::id::ShardId;
use stator::base::id::Ticket;
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
use stator::protocol::shard::Cluster;
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
use stator::storage::Health;
use stator::storage::commit;
use stator::storage::effect as disk;
use stator::storage::effect::Failure;

pub(super) const WRITER: ConnectionId = ConnectionId::new(1);
pub(super) const READER: ConnectionId = ConnectionId::new(2);

pub(super) const PARTITIONS: u16 = 16;
pub(super) const SEGMENT_BYTES: u32 = 64 * 1024;
pub(super) const VALUE_BYTES: usize = 1000;

/// Several segments of writes.
pub(super) const WRITES: usize = 400;

/// A request that is given 300 ms is answered after this: a shard looks every 100 ms.
pub(super) const IN_TIME: Duration = Duration::from_millis(401);

pub(super) const SYNC: Durability = Durability::Sync;
pub(super) const INTERVAL: Durability = Durability::Interval(Interval {
    time: Duration::from_millis(1000),
    bytes: None,
    objects: None,
});

pub(super) fn key(number: usize) -> String {
    format!("key:{number}")
}

pub(super) fn value(number: usize) -> String {
    format!("{number:0>VALUE_BYTES$}")
}

pub(super) fn bulk(value: &str) -> String {
    format!("${}\r\n{value}\r\n", value.len())
}

pub(super) fn set(key: &str, value: &str) -> Vec<u8> {
    format!("*3\r\n{}{}{}", bulk("SET"), bulk(key), bulk(value)).into_bytes()
}

pub(super) fn get(key: &str) -> Vec<u8> {
    format!("*2\r\n{}{}", bulk("GET"), bulk(key)).into_bytes()
}

/// What a shard wants of a connection to another node.
pub(super) enum PeerWish {
    Connect(LinkId, ShardId),
    Send(LinkId, Vec<u8>),
    Close(LinkId),
}

/// See [`World::on_disk`].
type OnDisk = dyn FnMut(&mut Disk, &disk::Effect) -> bool;

/// A shard, its disk, and two clients.
pub(super) struct World {
    pub(super) shard: Shard,
    pub(super) disk: Disk,
    /// Nothing that the disk does ends.
    pub(super) stalled: bool,
    /// No read for a request ends.
    pub(super) reads_stall: bool,
    pub(super) stalled_reads: Vec<Completion>,
    /// Sees the disk and what it is asked for. True: that fails.
    pub(super) on_disk: Box<OnDisk>,
    failing: BTreeSet<Ticket>,
    settings: Settings,
    pub(super) out: Outbox<Effect>,
    pub(super) now: Instant,
    pub(super) heard: Vec<(ConnectionId, Vec<u8>)>,
    /// What it says to other cores.
    pub(super) mesh: Vec<Vec<u8>>,
    /// What it wants of its connections to other nodes.
    pub(super) peers: Vec<PeerWish>,
    pub(super) stopped: bool,
    /// Clients take what they are told.
    pub(super) sends: bool,
    unsent: Vec<(ConnectionId, usize)>,
}

impl World {
    /// A shard that has started, of which `change` changed the settings.
    pub(super) fn new(
        durability: Durability,
        change: impl FnOnce(&mut storage::Settings, &mut NodeSettings),
    ) -> Self {
        let settings = settings(durability, change);
        let mut world = Self {
            shard: Shard::new(settings.clone(), 7),
            disk: Disk::new(Rng::from_seed(1), Dials::default()),
            stalled: false,
            reads_stall: false,
            stalled_reads: Vec::new(),
            on_disk: Box::new(|_, _| false),
            failing: BTreeSet::new(),
            settings,
            out: Outbox::default(),
            now: Instant::START,
            heard: Vec::new(),
            mesh: Vec::new(),
            peers: Vec::new(),
            stopped: false,
            sends: true,
            unsent: Vec::new(),
        };
        world.start();
        world
    }

    fn start(&mut self) {
        self.handle(Event::Start);
        let address = "127.0.0.1:1".parse().expect("an address");
        for connection in [WRITER, READER] {
            let peer = Peer { address, local: address, door: Door::Shared };
            self.handle(Event::Accepted { connection, peer });
        }
        self.settle();
    }

    /// The power goes, `harm` comes to the disk, and the power comes back.
    pub(super) fn crash(&mut self, harm: impl FnOnce(&mut Disk)) {
        self.disk.crash();
        harm(&mut self.disk);
        self.shard = Shard::new(self.settings.clone(), self.now.as_nanos());
        self.start();
    }

    /// The power goes, `harm` comes to the disk, and another log adopts the one there is, which is
    /// told. Returns as soon as the shard is open, whatever goes on in the background.
    pub(super) fn adopt(&mut self, harm: impl FnOnce(&mut Disk)) -> LogId {
        self.disk.crash();
        harm(&mut self.disk);
        let storage = &mut self.settings.storage;
        let adopted = storage.log;
        storage.adopted.push(adopted);
        storage.log = LogId::new(adopted.to_raw() + 1);
        storage.generation += 1;
        self.shard = Shard::new(self.settings.clone(), self.now.as_nanos());
        self.handle(Event::Start);
        while self.shard.store().health() != Health::Open {
            self.pass(Duration::from_micros(1));
        }
        adopted
    }

    /// What the client is told in ten milliseconds.
    pub(super) fn asks(&mut self, connection: ConnectionId, bytes: &[u8]) -> String {
        self.say(connection, bytes);
        self.pass(Duration::from_millis(10));
        self.take(connection)
    }

    /// The same with so many keys, of which few records are in memory and requests wait for 300 ms.
    pub(super) fn cold(keys: usize) -> Self {
        Self::cold_with(keys, |_, _| {})
    }

    /// The same, of which `change` changed the settings.
    pub(super) fn cold_with(
        keys: usize,
        change: impl FnOnce(&mut storage::Settings, &mut NodeSettings),
    ) -> Self {
        let mut world = World::new(SYNC, |storage, node| {
            (storage.resident_bytes_max, storage.cache_bytes_max) = (0, VALUE_BYTES);
            node.request_timeout = Duration::from_millis(300);
            change(storage, node);
        });
        for number in 0..keys {
            world.say(WRITER, &set(&key(number), &value(number)));
            world.pass(Duration::from_millis(5));
        }
        assert_eq!(world.take(WRITER), "+OK\r\n".repeat(keys));
        world
    }

    pub(super) fn say(&mut self, connection: ConnectionId, bytes: &[u8]) {
        self.handle(Event::Received { connection, bytes });
        self.handle(Event::TurnEnd);
    }

    /// Another core says something.
    pub(super) fn hears_from(&mut self, core: u16, bytes: &[u8]) {
        self.handle(Event::Mesh { from: ShardId::new(core), bytes });
        self.handle(Event::TurnEnd);
    }

    /// What a client heard since the last call.
    pub(super) fn take(&mut self, connection: ConnectionId) -> String {
        let (own, others) =
            std::mem::take(&mut self.heard).into_iter().partition(|(to, _)| *to == connection);
        self.heard = others;
        let own: Vec<(ConnectionId, Vec<u8>)> = own;
        String::from_utf8(own.into_iter().flat_map(|(_, bytes)| bytes).collect()).expect("text")
    }

    /// A count of `DYN.STATS`.
    pub(super) fn stats(&mut self, name: &str) -> u64 {
        assert_eq!(self.take(READER), "");
        self.say(READER, b"DYN.STATS\r\n");
        let stats = self.take(READER);
        let mut lines = stats.lines().skip_while(|line| *line != name);
        let number = lines.nth(1).and_then(|line| line.strip_prefix(':')).map(str::parse);
        number.unwrap_or_else(|| panic!("no {name} in {stats}")).expect("a number")
    }

    /// Lets two seconds pass: all that can be done is done.
    pub(super) fn settle(&mut self) {
        self.pass(Duration::from_millis(2000));
    }

    pub(super) fn pass(&mut self, time: Duration) {
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
                let completion = self.failed(completion);
                self.handle(Event::Disk(completion.event()));
            } else {
                self.handle(Event::Tick);
            }
            self.handle(Event::TurnEnd);
        }
        self.now = until;
    }

    fn failed(&mut self, completion: Completion) -> Completion {
        match completion {
            Completion::Read(ticket, _) if self.failing.remove(&ticket) => {
                Completion::Read(ticket, Err(Failure::Io))
            }
            Completion::Bulk(ticket, _) if self.failing.remove(&ticket) => {
                Completion::Bulk(ticket, Err(Failure::Io))
            }
            other => other,
        }
    }

    pub(super) fn let_reads_end(&mut self) {
        self.reads_stall = false;
        for completion in std::mem::take(&mut self.stalled_reads) {
            self.handle(Event::Disk(completion.event()));
        }
    }

    pub(super) fn handle(&mut self, event: Event<'_>) {
        let wall = Wall::from_millis(1_790_000_000_000 + self.now.as_nanos() / 1_000_000);
        let now = Now { monotonic: self.now, wall };
        self.shard.handle(now, event, &self.disk, &mut self.out);
        let (effects, arena) = self.out.take();
        for effect in effects {
            match effect {
                Effect::Send { connection, bytes } => {
                    self.unsent.push((connection, bytes.len()));
                    self.heard.push((connection, arena[bytes].to_vec()));
                }
                Effect::Disk(effect) => {
                    if (self.on_disk)(&mut self.disk, &effect) {
                        self.failing.extend(ticket_of(&effect));
                    }
                    self.disk.perform(self.now, effect);
                }
                Effect::Mesh { bytes, .. } => {
                    assert!(!self.stopped, "it has ended");
                    self.mesh.push(arena[bytes].to_vec());
                }
                Effect::PeerConnect { link, shard, .. } => {
                    self.peers.push(PeerWish::Connect(link, shard));
                }
                Effect::PeerSend { link, bytes } => {
                    self.peers.push(PeerWish::Send(link, arena[bytes].to_vec()));
                }
                Effect::PeerClose { link } => self.peers.push(PeerWish::Close(link)),
                Effect::Stopped => self.stopped = true,
                Effect::Failed(error) => panic!("{error:?}"),
                _ => {}
            }
        }
        self.out.clear();
        if self.sends {
            self.send();
        }
    }

    /// Clients take what they were told.
    pub(super) fn send(&mut self) {
        self.sends = true;
        for (connection, bytes) in std::mem::take(&mut self.unsent) {
            self.handle(Event::Sent { connection, bytes });
        }
    }

    /// A write of the log fails: it serves nothing from then on.
    pub(super) fn poison(&mut self) {
        self.disk.dials.append_failure_one_in = 1;
        assert!(self.asks(WRITER, &set("poison", "value")).starts_with("-UNKNOWN"));
        assert_eq!(self.shard.store().health(), Health::Poisoned);
    }
}

fn ticket_of(effect: &disk::Effect) -> Option<Ticket> {
    match effect {
        disk::Effect::Read { ticket, .. } | disk::Effect::Bulk { ticket, .. } => Some(*ticket),
        _ => None,
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
        cluster: Cluster::alone(Partitions::new(PARTITIONS).expect("a power of two")),
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
