//! What a shard is told at its start.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::id::MemberId;
use crate::base::id::PartitionId;
use crate::base::id::ShardId;
use crate::base::id::ZoneId;
use crate::base::limits::OBJECT_TO_VALUE_RATIO;
use crate::base::time::Duration;
use crate::protocol::coordinator::Namespaces;
use crate::protocol::peers;
use crate::protocol::ring::Member;
use crate::protocol::ring::Members;
use crate::protocol::ring::Partitions;
use crate::protocol::ring::Preferences;
use crate::protocol::ring::Table;
use crate::protocol::session;
use crate::protocol::version::ContextSecret;
use crate::storage;

/// What one shard is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which shard of its node.
    pub shard: ShardId,
    /// Its log.
    pub storage: storage::Settings,
    /// What it shares with the others.
    pub node: Arc<NodeSettings>,
}

/// What all shards of a node are told alike.
#[derive(Clone, Debug)]
pub struct NodeSettings {
    /// The name that the operator gave it.
    pub name: String,
    /// 40 hexadecimal digits, as Redis has them.
    pub id: String,
    /// The process, for people.
    pub process_id: u32,
    /// The shared port for clients.
    pub client_address: SocketAddr,
    /// Each core's own port.
    pub core_addresses: Vec<SocketAddr>,
    /// How many partitions the ring has.
    pub partitions: Partitions,
    /// Which shard of this node owns each partition.
    pub owners: Vec<ShardId>,
    /// The cluster that it is a node of.
    pub cluster: Cluster,
    /// Of the hash of keys in the log.
    pub hash_seed: u64,
    /// Of the tags of contexts.
    pub context_secret: ContextSecret,
    /// How keys are kept.
    pub namespaces: Namespaces,
    /// What all sessions have in common.
    pub sessions: Arc<session::Settings>,
    /// Versions of one key that a client may write.
    pub siblings_max: usize,
    /// Bytes that one core may hold for clients and for the disk; beyond it writes are refused.
    pub memory_bytes_max: usize,
    /// After so long a request that waits is answered `-TIMEOUT`.
    pub request_timeout: Duration,
    /// What `CONFIG GET` tells, in order of names. No secrets.
    pub shown: Vec<(String, String)>,
}

/// A node's place in its cluster.
#[derive(Clone, Debug)]
pub struct Cluster {
    preferences: Preferences,
    /// Whether this node holds a place, by partition.
    holds: Vec<bool>,
    /// How to speak with the others, if there are any.
    peers: Option<Arc<peers::Settings>>,
}

impl Cluster {
    /// A node that is a cluster by itself.
    pub fn alone(partitions: Partitions) -> Self {
        let own = Member { id: MemberId::new(0), weight: 1, zone: ZoneId::new(0) };
        let members = Members::new([own]).expect("one member");
        let preferences = Preferences::new(Table::new(partitions, 1, &members));
        Self { preferences, holds: vec![true; usize::from(partitions.count())], peers: None }
    }

    /// A node among others, who it is and who they are being told by `peers`.
    pub fn of(preferences: Preferences, peers: Arc<peers::Settings>) -> Self {
        let own = peers.own.member;
        let holds = |partition| {
            let mut primaries = preferences.table().primaries(partition);
            primaries.any(|member| member.id == own)
        };
        let holds = preferences.table().partitions().all().map(holds).collect();
        Self { preferences, holds, peers: Some(peers) }
    }

    /// Whether this node holds a place of a partition.
    pub fn holds(&self, partition: PartitionId) -> bool {
        self.holds[usize::from(partition.to_raw())]
    }

    /// Whether a member is another node than this.
    pub fn is_other(&self, member: MemberId) -> bool {
        self.peers.as_ref().is_some_and(|peers| peers.own.member != member)
    }

    /// Whom to ask for a partition, in order.
    pub fn preferences(&self) -> &Preferences {
        &self.preferences
    }

    /// How to speak with the others, if there are any.
    pub fn peers(&self) -> Option<&Arc<peers::Settings>> {
        self.peers.as_ref()
    }
}

impl NodeSettings {
    /// How many shards there are.
    pub fn shards(&self) -> u16 {
        self.core_addresses.len() as u16
    }

    /// The shard that owns a partition.
    pub fn owner(&self, partition: PartitionId) -> ShardId {
        self.owners[partition.to_raw() as usize]
    }

    /// Bytes of an object's values together, at most.
    pub fn object_bytes_max(&self) -> usize {
        OBJECT_TO_VALUE_RATIO * self.sessions.value_bytes_max
    }
}
