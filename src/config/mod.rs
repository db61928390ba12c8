//! One checked [`Config`]: built-in defaults, then a file, then the environment, then flags.
//!
//! A node with a wrong configuration does not start: it says in one line what is wrong and where.
//! Nothing below the drivers reads a `Config`; each room is handed its own settings, which are made
//! here, and no room sees where they came from.
//!
//! | file | what it knows |
//! |---|---|
//! | `keys` | every key: its name, its comment, how it is read and written |
//! | `load` | where values come from, and what to say of a wrong one |
//! | `check` | what must hold between values |
//! | `namespaces` | the tables `[namespace."prefix"]` |
//! | `secrets` | passwords: by file or environment, never by flag |
//! | `units` | sizes as people write them |
//! | `rooms` | what each room is handed of it |
//! | `print` | the whole of it as a file with comments |

mod check;
mod keys;
mod load;
mod namespaces;
mod print;
mod rooms;
mod secrets;
mod units;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

pub use keys::KEYS;
pub use keys::Key;
pub use keys::Kind;
pub use load::Loaded;
pub use load::Sources;
pub use rooms::Place;
pub use secrets::Secret;

use crate::base::id::LogId;
use crate::base::limits;
use crate::base::time::Duration;
use crate::protocol::coordinator::Namespace;
use crate::storage;

/// Everything that can be set, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Where everything is kept.
    pub data: PathBuf,
    /// What this node is called.
    pub name: String,
    /// Where clients connect: the port that all cores share. See [`Config::core_listen`].
    pub listen: SocketAddr,
    /// Where other nodes connect, if not at [`Config::peer_listen`]'s default.
    pub peer_listen: Option<SocketAddr>,
    /// How many shards, if not one a core.
    pub shards: Option<u16>,
    /// Whether each shard's thread stays on one core.
    pub pin: bool,
    /// Connections of clients at one time.
    pub maxclients: u32,
    /// The longest value, in bytes.
    pub value_bytes_max: u64,
    /// The length of a segment's file, in bytes.
    pub segment_bytes: u64,
    /// Bytes of sealed segments that the node keeps in memory.
    pub resident_bytes: u64,
    /// Bytes of records that a shard keeps after it read them from the disk.
    pub cache_bytes: u64,
    /// Bytes that a shard holds unsynced before it refuses writes.
    pub unsynced_bytes: u64,
    /// Bytes that a shard holds for its clients: requests, and replies they did not take.
    pub client_bytes: u64,
    /// After so long a request that waits is answered `-TIMEOUT`.
    pub request_timeout: Duration,
    /// Garbage in complete segments, in percent, at which compaction begins.
    pub garbage_percent: u8,
    /// Partitions of the ring.
    pub partitions: u16,
    /// How the log of events is written.
    pub log: LogFormat,
    /// Which events are written.
    pub log_level: LogLevel,
    /// A file with the password of clients.
    pub password_file: Option<PathBuf>,
    /// A file with the secret of the cluster.
    pub cluster_secret_file: Option<PathBuf>,
    /// The password of user `default`.
    pub password: Option<Secret>,
    /// What the nodes of a cluster have in common.
    pub cluster_secret: Option<Secret>,
    /// Namespaces by prefix. The empty prefix is there always.
    pub namespaces: BTreeMap<String, Namespace>,
}

impl Default for Config {
    fn default() -> Self {
        let storage = storage::Settings::new(LogId::default(), limits::PARTITIONS_DEFAULT as u16);
        Self {
            data: PathBuf::from("./stator-data"),
            name: String::new(),
            listen: SocketAddr::from(([127, 0, 0, 1], 7000)),
            peer_listen: None,
            shards: None,
            pin: true,
            maxclients: 10_000,
            value_bytes_max: limits::VALUE_BYTES_DEFAULT as u64,
            segment_bytes: u64::from(storage.segment_bytes),
            resident_bytes: storage.resident_bytes_max,
            cache_bytes: storage.cache_bytes_max as u64,
            unsynced_bytes: storage.unsynced_bytes_max as u64,
            client_bytes: 256 * 1024 * 1024,
            request_timeout: Duration::from_secs(5),
            garbage_percent: storage.garbage_percent,
            partitions: storage.partitions,
            log: LogFormat::Text,
            log_level: LogLevel::Info,
            password_file: None,
            cluster_secret_file: None,
            password: None,
            cluster_secret: None,
            namespaces: BTreeMap::from([(String::new(), Namespace::default())]),
        }
    }
}

impl Config {
    /// How many shards this machine runs with it.
    pub fn shard_count(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.shards.unwrap_or_else(|| cores().min(usize::from(keys::SHARDS_MAX)) as u16)
    }

    /// The address of one core: for clients that know which core owns a key.
    pub fn core_listen(&self, core: u16) -> SocketAddr {
        SocketAddr::new(self.listen.ip(), self.listen.port() + CORE_PORT_OFFSET + core)
    }

    /// The address for other nodes.
    pub fn peer_listen(&self) -> SocketAddr {
        let implied = SocketAddr::new(self.listen.ip(), self.listen.port() + PEER_PORT_OFFSET);
        self.peer_listen.unwrap_or(implied)
    }

    /// The name, or what stands for it.
    pub fn name(&self) -> String {
        if self.name.is_empty() { self.listen.to_string() } else { self.name.clone() }
    }
}

/// How far the port of core 0 is from the one that all cores share.
const CORE_PORT_OFFSET: u16 = 10;

/// How far the port for other nodes is from the one for clients.
const PEER_PORT_OFFSET: u16 = 2;

/// How the log of events is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One object a line, for machines.
    Json,
}

/// Which events are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    /// What is lost or will not work.
    Error,
    /// And what an operator should look at.
    Warn,
    /// And what happens rarely.
    Info,
    /// And what helps to find a fault.
    Debug,
    /// And everything else.
    Trace,
}

/// Why a configuration was refused: one line that says what and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigError {
    place: String,
    reason: String,
}

impl ConfigError {
    fn new(place: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { place: place.into(), reason: reason.into() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.reason)
    }
}

impl std::error::Error for ConfigError {}
