//! What a shard is told at its start.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::base::id::PartitionId;
use crate::base::id::ShardId;
use crate::base::limits::OBJECT_TO_VALUE_RATIO;
use crate::base::time::Duration;
use crate::protocol::coordinator::Namespaces;
use crate::protocol::ring::Partitions;
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
    /// Which shard owns each partition.
    pub owners: Vec<ShardId>,
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
