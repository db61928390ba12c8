//! A shard on a disk of memory: everything is done at once. For benches that measure a shard and
//! nothing else.

mod files;

use std::sync::Arc;

use files::Files;
use stator::base::id::ConnectionId;
use stator::base::id::LogId;
use stator::base::id::ShardId;
use stator::base::outbox::Outbox;
use stator::base::time::Duration;
use stator::base::time::Instant;
use stator::base::time::Now;
use stator::base::time::Wall;
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
use stator::storage;

/// The one client.
pub(crate) const CLIENT: ConnectionId = ConnectionId::new(1);

/// A shard, its disk, and its client's end of the connection.
pub(crate) struct Ram {
    shard: Shard,
    files: Files,
    out: Outbox<Effect>,
    clock: u64,
    /// What the client was sent.
    pub(crate) received: Vec<u8>,
}

impl Ram {
    /// A shard that has started, with one client connected. All keys are of one namespace.
    pub(crate) fn new(namespace: Namespace) -> Self {
        let mut ram = Self {
            shard: Shard::new(settings(namespace), 7),
            files: Files::default(),
            out: Outbox::default(),
            clock: 0,
            received: Vec::new(),
        };
        ram.handle(Event::Start);
        ram.handle(Event::TurnEnd);
        let address = "127.0.0.1:1".parse().expect("an address");
        let peer = Peer { address, local: address, door: Door::Shared };
        ram.handle(Event::Accepted { connection: CLIENT, peer });
        ram
    }

    /// One turn: these bytes of the client, and everything that follows from them.
    pub(crate) fn turn(&mut self, bytes: &[u8]) {
        self.received.clear();
        self.handle(Event::Received { connection: CLIENT, bytes });
        self.handle(Event::TurnEnd);
        let bytes = self.received.len();
        if bytes > 0 {
            self.handle(Event::Sent { connection: CLIENT, bytes });
        }
    }

    fn handle(&mut self, event: Event<'_>) {
        self.clock += 1000;
        let now = Now {
            monotonic: Instant::from_nanos(self.clock),
            wall: Wall::from_millis(1_790_000_000_000 + self.clock / 1_000_000),
        };
        self.shard.handle(now, event, &self.files, &mut self.out);
        self.perform();
    }

    fn perform(&mut self) {
        let mut answers = Vec::new();
        let (effects, arena) = self.out.take();
        for effect in effects {
            match effect {
                Effect::Send { bytes, .. } => self.received.extend_from_slice(&arena[bytes]),
                Effect::Disk(effect) => answers.extend(self.files.perform(effect)),
                _ => {}
            }
        }
        self.out.clear();
        for answer in answers {
            self.handle(Event::Disk(answer.event()));
        }
    }
}

fn settings(namespace: Namespace) -> Settings {
    let partitions = Partitions::new(1024).expect("a power of two");
    let address = "127.0.0.1:7000".parse().expect("an address");
    let sessions = session::Settings { password: None, value_bytes_max: 1 << 20 };
    Settings {
        shard: ShardId::new(0),
        storage: storage::Settings::new(LogId::new(1), 1024),
        node: Arc::new(NodeSettings {
            name: "bench".to_owned(),
            id: "0".repeat(40),
            process_id: 1,
            client_address: address,
            core_addresses: vec![address],
            partitions,
            owners: vec![ShardId::new(0); 1024],
            cluster: Cluster::alone(partitions),
            hash_seed: 1,
            context_secret: ContextSecret::new([1; 32]),
            namespaces: Namespaces::new([(Vec::new(), namespace)]),
            sessions: Arc::new(sessions),
            siblings_max: 100,
            memory_bytes_max: 1 << 30,
            request_timeout: Duration::from_secs(5),
            shown: Vec::new(),
        }),
    }
}
