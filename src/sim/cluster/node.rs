//! One node of a virtual cluster: its disk, which outlives it, and the process that runs on it.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use super::plan::Plan;
use crate::base::id::MemberId;
use crate::base::id::ShardId;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::protocol::coordinator::Namespace;
use crate::protocol::coordinator::Namespaces;
use crate::protocol::peers;
use crate::protocol::peers::PeerSecret;
use crate::protocol::ring::Preferences;
use crate::protocol::session;
use crate::protocol::shard::Cluster;
use crate::protocol::shard::NodeSettings;
use crate::protocol::shard::Settings;
use crate::protocol::shard::Shard;
use crate::protocol::version::ContextSecret;
use crate::protocol::wire::greeting::Beliefs;
use crate::protocol::wire::greeting::Identity;
use crate::protocol::wire::greeting::Owners;
use crate::sim::disk::Disk;
use crate::sim::one_disk::log_of;
use crate::storage;
use crate::storage::commit;

/// The longest value that a node takes.
pub(super) const VALUE_BYTES_MAX: usize = 1_000;

/// A node that was not heard for so long is down.
const DOWN_AFTER: Duration = Duration::from_millis(800);

/// Where a node is in its life.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Phase {
    /// There is no process, until then.
    Down(Instant),
    /// Some shard reads its log.
    Starting,
    /// It serves.
    Running,
    /// Its shards were told to stop.
    Stopping,
}

/// One shard and what the driver keeps for it.
pub(super) struct Core {
    pub(super) shard: Shard,
    pub(super) started: bool,
    pub(super) stopped: bool,
    /// When the turn ends that is under way.
    pub(super) turn_at: Option<Instant>,
}

/// Messages from one shard to another, with the times at which they arrive.
type Post = VecDeque<(Instant, Vec<u8>)>;

/// One node.
pub(super) struct Node {
    pub(super) phase: Phase,
    pub(super) disk: Disk,
    pub(super) cores: Vec<Core>,
    /// Messages under way, by sender and receiver: they come in order.
    pub(super) mesh: BTreeMap<(usize, usize), Post>,
    /// How far its wall clock is off, in milliseconds.
    pub(super) jumped: i64,
    /// It does nothing until then.
    pub(super) stands_until: Instant,
    pub(super) starts: u64,
}

impl Node {
    pub(super) fn new(rng: Rng, plan: &Plan) -> Self {
        Self {
            phase: Phase::Down(Instant::START),
            disk: Disk::new(rng, plan.disk),
            cores: Vec::new(),
            mesh: BTreeMap::new(),
            jumped: 0,
            stands_until: Instant::START,
            starts: 0,
        }
    }

    /// Whether there is a process.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.phase, Phase::Down(_))
    }

    /// A process begins: every shard with fresh entropy.
    pub(super) fn start(&mut self, settings: &Arc<NodeSettings>, rng: &mut Rng) {
        assert!(!self.is_alive(), "it runs already");
        self.starts += 1;
        self.phase = Phase::Starting;
        self.cores.clear();
        for number in 0..settings.shards() {
            let settings = Settings {
                shard: ShardId::new(number),
                storage: storage_settings(usize::from(number), settings.partitions.count()),
                node: Arc::clone(settings),
            };
            let shard = Shard::new(settings, rng.next_u64());
            self.cores.push(Core { shard, started: false, stopped: false, turn_at: None });
        }
    }

    /// The process is gone.
    pub(super) fn end(&mut self, until: Instant) {
        self.phase = Phase::Down(until);
        self.cores.clear();
        self.mesh.clear();
    }
}

fn storage_settings(shard: usize, partitions: u16) -> storage::Settings {
    storage::Settings {
        segment_bytes: 65_536,
        commit: commit::Settings { batch_bytes: 8192, in_flight_max: 3, eager_bytes: 4096 },
        checkpoint_after: Duration::from_millis(5),
        unsynced_bytes_max: 65_536,
        resident_bytes_max: 200_000,
        cache_bytes_max: 64 * 1024,
        garbage_percent: 40,
        ..storage::Settings::new(log_of(shard), partitions)
    }
}

/// What a node's shards are told, this time.
pub(super) fn settings(
    plan: &Plan,
    number: usize,
    preferences: &Preferences,
    start: u64,
) -> Arc<NodeSettings> {
    let partitions = preferences.table().partitions();
    let owner = |partition: u16| ShardId::new((partition / 2 + number as u16) % plan.shards);
    let owners: Vec<ShardId> = (0..partitions.count()).map(owner).collect();
    let port =
        |offset: u16| SocketAddr::from(([127, 0, 0, 1], 7000 + 100 * number as u16 + offset));
    let peers = peers::Settings {
        cluster: [1; 16],
        secret: PeerSecret::new([2; 32]),
        own: Identity { member: member_of(number), instance: [number as u8; 16], start },
        members: (0..plan.nodes).map(member_of).collect(),
        beliefs: Beliefs { namespaces: [3; 16], table: [4; 16] },
        owners: Owners { shards: plan.shards, of: owners.clone() },
        frame_bytes_max: 4 * VALUE_BYTES_MAX + 64 * 1024,
        unsent_bytes_max: 1 << 20,
        ping_after: Duration::from_millis(200),
        down_after: DOWN_AFTER,
        retry_after: Duration::from_millis(300),
    };
    let sessions = session::Settings { password: None, value_bytes_max: VALUE_BYTES_MAX };
    Arc::new(NodeSettings {
        name: format!("n{number}"),
        id: format!("{number:040}"),
        process_id: 1 + number as u32,
        client_address: port(0),
        core_addresses: (0..plan.shards).map(|shard| port(10 + shard)).collect(),
        partitions,
        owners,
        cluster: Cluster::of(preferences.clone(), Arc::new(peers)),
        hash_seed: 0x5eed,
        context_secret: ContextSecret::new([7; 32]),
        namespaces: Namespaces::new([(
            Vec::new(),
            Namespace { n: 1, r: 1, w: 1, ..Namespace::default() },
        )]),
        sessions: Arc::new(sessions),
        siblings_max: 100,
        memory_bytes_max: 1 << 24,
        request_timeout: plan.request_timeout,
        shown: Vec::new(),
    })
}

/// The member that a node is.
pub(super) fn member_of(number: usize) -> MemberId {
    MemberId::new(1 + number as u128)
}

/// The node that a member is.
pub(super) fn node_of(member: MemberId) -> usize {
    member.to_raw() as usize - 1
}
