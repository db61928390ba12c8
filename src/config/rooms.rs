//! What each room is handed: its own settings, and nothing of where they came from.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Config;
use super::ConfigError;
use super::keys::KEYS;
use crate::base::id::LogId;
use crate::base::id::ShardId;
use crate::base::limits;
use crate::protocol::coordinator::Namespaces;
use crate::protocol::ring::Partitions;
use crate::protocol::session;
use crate::protocol::shard;
use crate::protocol::shard::Cluster;
use crate::protocol::shard::NodeSettings;
use crate::protocol::version::ContextSecret;
use crate::storage;
use crate::storage::layout::Layout;

/// What a configuration cannot know: where the node turned out to be.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The table of its data directory, laid out for as many shards as there are to be.
    pub layout: &'a Layout,
    /// The port that all cores share.
    pub client_address: SocketAddr,
    /// The port of each core.
    pub core_addresses: &'a [SocketAddr],
    /// The process, for people.
    pub process_id: u32,
}

impl Config {
    /// What the shards of a node are told, in order.
    ///
    /// # Errors
    ///
    /// If the data directory was made for another number of partitions: that cannot be changed.
    pub fn shards(&self, place: &Place<'_>) -> Result<Vec<shard::Settings>, ConfigError> {
        let layout = place.layout;
        if layout.partitions != self.partitions {
            let (found, asked) = (layout.partitions, self.partitions);
            let reason = format!("the data directory was made for {found}, not {asked}");
            return Err(ConfigError::new("partitions", reason));
        }
        let node = Arc::new(self.node(place));
        let of_shard = |(number, log): (u16, &LogId)| {
            let shard = ShardId::new(number);
            let storage = storage::Settings {
                adopted: layout.adopted.clone(),
                owned: layout.owned_by(shard),
                generation: layout.generation,
                ..self.storage(*log)
            };
            shard::Settings { shard, storage, node: Arc::clone(&node) }
        };
        Ok((0..).zip(&layout.logs).map(of_shard).collect())
    }

    /// How a shard keeps its log, in a directory that was never laid out anew.
    pub fn storage(&self, log: LogId) -> storage::Settings {
        storage::Settings {
            segment_bytes: self.segment_bytes as u32,
            unsynced_bytes_max: self.unsynced_bytes as usize,
            resident_bytes_max: self.resident_bytes / u64::from(self.shard_count()),
            cache_bytes_max: self.cache_bytes as usize,
            garbage_percent: self.garbage_percent,
            ..storage::Settings::new(log, self.partitions)
        }
    }

    /// What the connections of clients have in common.
    pub fn session(&self) -> session::Settings {
        let password = self.password.as_ref();
        session::Settings {
            password: password.map(|secret| session::Password::new(secret.reveal().as_bytes())),
            value_bytes_max: self.value_bytes_max as usize,
        }
    }

    /// How keys are kept.
    pub fn namespaces(&self) -> Namespaces {
        let by_prefix = self.namespaces.iter();
        Namespaces::new(by_prefix.map(|(prefix, namespace)| (prefix.clone().into(), *namespace)))
    }

    fn node(&self, place: &Place<'_>) -> NodeSettings {
        let layout = place.layout;
        let partitions = Partitions::new(layout.partitions).expect("a power of two, checked");
        let instance: String = layout.instance.iter().map(|byte| format!("{byte:02x}")).collect();
        NodeSettings {
            name: self.name(),
            // As long as the ids of Redis.
            id: format!("{instance:0<40}"),
            process_id: place.process_id,
            client_address: place.client_address,
            core_addresses: place.core_addresses.to_vec(),
            partitions,
            owners: layout.owners(),
            cluster: Cluster::alone(partitions),
            hash_seed: layout.hash_seed,
            context_secret: ContextSecret::new(self.context_secret(layout)),
            namespaces: self.namespaces(),
            sessions: Arc::new(self.session()),
            siblings_max: limits::SIBLINGS_MAX,
            memory_bytes_max: self.client_bytes as usize,
            request_timeout: self.request_timeout,
            shown: self.shown(),
        }
    }

    /// The key of the tags of contexts: nodes of a cluster have it from their secret, a node
    /// without one from its directory.
    fn context_secret(&self, layout: &Layout) -> [u8; 32] {
        match &self.cluster_secret {
            Some(secret) => blake3::derive_key(CONTEXT_KEY, secret.reveal().as_bytes()),
            None => layout.context_secret,
        }
    }

    /// What `CONFIG GET` tells. Secrets are no keys, only the files that they come from.
    fn shown(&self) -> Vec<(String, String)> {
        let own = KEYS.iter().map(|key| (key.name.to_owned(), key.text(self)));
        let redis = REDIS_KEYS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut shown: Vec<_> = own.chain(redis).collect();
        shown.sort();
        shown
    }
}

/// One secret makes many keys, each by the name of its use.
const CONTEXT_KEY: &str = "stator 2026 tags of contexts";

/// What clients of Redis ask for before they work.
const REDIS_KEYS: [(&str, &str); 4] =
    [("appendonly", "yes"), ("maxmemory", "0"), ("maxmemory-policy", "noeviction"), ("save", "")];
