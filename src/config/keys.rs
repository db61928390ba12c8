//! Every key: its name, its comment, how it is read and how it is written.
//!
//! The file, the environment, the flags, `--help` and `--print-config` are all made from this one
//! table, so that none of them can lack a key.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::str::FromStr;

use super::Config;
use super::LogFormat;
use super::LogLevel;
use super::units::parse_size;
use super::units::parse_time;
use super::units::write_size;
use super::units::write_time;
use crate::base::limits;
use crate::base::time::Duration;

/// Shards of one node. Each has a port and threads of its own.
pub(super) const SHARDS_MAX: u16 = 256;

/// One key.
#[derive(Debug)]
pub struct Key {
    /// As it stands in the file. Its flag has dashes, its variable is `STATOR_` and capitals.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// What it is for, in lines of a comment.
    pub comment: &'static str,
    read: fn(&mut Config, &str) -> Result<(), String>,
    write: fn(&Config) -> String,
}

/// What a key takes in the file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A string; in help it is called so.
    Text(&'static str),
    /// An integer.
    Number,
    /// `true` or `false`.
    Switch,
}

impl Key {
    /// The key of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Sets it in `config` to what `text` says.
    ///
    /// # Errors
    ///
    /// What would have been right instead.
    pub fn set(&self, config: &mut Config, text: &str) -> Result<(), String> {
        (self.read)(config, text).map_err(|expected| format!("{text:?} is not {expected}"))
    }

    /// Its value in `config`, as [`Key::set`] takes it.
    pub fn text(&self, config: &Config) -> String {
        (self.write)(config)
    }

    /// Its value in `config`, as the file has it.
    pub fn show(&self, config: &Config) -> String {
        let text = self.text(config);
        match self.kind {
            Kind::Text(_) => toml::Value::String(text).to_string(),
            Kind::Number | Kind::Switch => text,
        }
    }

    /// Its environment variable.
    pub fn variable(&self) -> String {
        format!("STATOR_{}", self.name.to_uppercase())
    }

    /// Its flag, without the two dashes.
    pub fn flag(&self) -> String {
        self.name.replace('_', "-")
    }
}

/// All keys, in the order in which they are printed.
pub const KEYS: &[Key] = &[
    Key {
        name: "data",
        kind: Kind::Text("DIR"),
        comment: "Where everything is kept. One node a directory.",
        read: |config, text| path(text).map(|value| config.data = value),
        write: |config| config.data.display().to_string(),
    },
    Key {
        name: "name",
        kind: Kind::Text("NAME"),
        comment: "What this node is called. Empty: its address for clients stands for it.",
        read: |config, text| name(text).map(|value| config.name = value),
        write: |config| config.name.clone(),
    },
    Key {
        name: "listen",
        kind: Kind::Text("ADDR:PORT"),
        comment: "Where clients connect, any core. It implies the next ports: + 10 + c is core c alone,\n\
                  + 2 is for other nodes, + 1 is kept for HTTP.",
        read: |config, text| address(text).map(|value| config.listen = value),
        write: |config| config.listen.to_string(),
    },
    Key {
        name: "peer_listen",
        kind: Kind::Text("ADDR:PORT"),
        comment: "Where other nodes connect. Empty: the port of `listen` + 2.",
        read: |config, text| optional(text, address).map(|value| config.peer_listen = value),
        write: |config| written(config.peer_listen),
    },
    Key {
        name: "shards",
        kind: Kind::Number,
        comment: "Shards: each has a core, a log and a share of the partitions. 0: one a core.\n\
                  It may change between starts; all data stays.",
        read: |config, text| shards(text).map(|value| config.shards = value),
        write: |config| config.shards.unwrap_or(0).to_string(),
    },
    Key {
        name: "pin",
        kind: Kind::Switch,
        comment: "Whether each shard stays on one core. Several nodes on one machine: false.",
        read: |config, text| switch(text).map(|value| config.pin = value),
        write: |config| config.pin.to_string(),
    },
    Key {
        name: "maxclients",
        kind: Kind::Number,
        comment: "Connections of clients at one time. Fewer, with a warning, if files may not be as many.",
        read: |config, text| number(text, 1, 1_000_000).map(|value| config.maxclients = value),
        write: |config| config.maxclients.to_string(),
    },
    Key {
        name: "value_bytes_max",
        kind: Kind::Text("SIZE"),
        comment: "The longest value: up to 64MiB. Long values are slow for everyone on their core.",
        read: |config, text| size(text).map(|value| config.value_bytes_max = value),
        write: |config| write_size(config.value_bytes_max),
    },
    Key {
        name: "segment_bytes",
        kind: Kind::Text("SIZE"),
        comment: "The length of one file of a log: whole pages of 4KiB.",
        read: |config, text| size(text).map(|value| config.segment_bytes = value),
        write: |config| write_size(config.segment_bytes),
    },
    Key {
        name: "resident_bytes",
        kind: Kind::Text("SIZE"),
        comment: "Memory of the node for files of its logs, read without the disk: at most half of all there is.",
        read: |config, text| size(text).map(|value| config.resident_bytes = value),
        write: |config| write_size(config.resident_bytes),
    },
    Key {
        name: "cache_bytes",
        kind: Kind::Text("SIZE"),
        comment: "Memory of each shard for records that it had to read from the disk.",
        read: |config, text| size(text).map(|value| config.cache_bytes = value),
        write: |config| write_size(config.cache_bytes),
    },
    Key {
        name: "unsynced_bytes",
        kind: Kind::Text("SIZE"),
        comment: "Memory of each shard for writes that are not synced; beyond it writes wait.",
        read: |config, text| size(text).map(|value| config.unsynced_bytes = value),
        write: |config| write_size(config.unsynced_bytes),
    },
    Key {
        name: "client_bytes",
        kind: Kind::Text("SIZE"),
        comment: "Memory of each shard for its clients' requests and for replies that they do not take;\n\
                  beyond it writes get -OOM and reads go on.",
        read: |config, text| size(text).map(|value| config.client_bytes = value),
        write: |config| write_size(config.client_bytes),
    },
    Key {
        name: "request_timeout",
        kind: Kind::Text("TIME"),
        comment: "After so long a request that waits is answered -TIMEOUT, unless it says another time.",
        read: |config, text| time(text).map(|value| config.request_timeout = value),
        write: |config| write_time(config.request_timeout),
    },
    Key {
        name: "garbage_percent",
        kind: Kind::Number,
        comment: "Garbage in the complete files of a log, in percent, at which they are rewritten.",
        read: |config, text| number(text, 1, 99).map(|value| config.garbage_percent = value),
        write: |config| config.garbage_percent.to_string(),
    },
    Key {
        name: "partitions",
        kind: Kind::Number,
        comment: "Partitions of the ring: a power of two, 16 to 16384. Fixed when the data is created.",
        read: |config, text| number(text, 16, 16_384).map(|value| config.partitions = value),
        write: |config| config.partitions.to_string(),
    },
    Key {
        name: "log",
        kind: Kind::Text("FORMAT"),
        comment: "How events are written to standard error: text | json.",
        read: |config, text| word(text, LOG_FORMATS).map(|value| config.log = value),
        write: |config| word_of(config.log, LOG_FORMATS),
    },
    Key {
        name: "log_level",
        kind: Kind::Text("LEVEL"),
        comment: "Which events are written: error | warn | info | debug | trace.",
        read: |config, text| word(text, LOG_LEVELS).map(|value| config.log_level = value),
        write: |config| word_of(config.log_level, LOG_LEVELS),
    },
    Key {
        name: "password_file",
        kind: Kind::Text("FILE"),
        comment: "A file, mode 600, with the password that clients give to AUTH; or set STATOR_PASSWORD.\n\
                  Empty: no password, and only clients on this machine are served.",
        read: |config, text| optional(text, path).map(|value| config.password_file = value),
        write: |config| written(config.password_file.as_deref().map(Path::display)),
    },
    Key {
        name: "cluster_secret_file",
        kind: Kind::Text("FILE"),
        comment: "A file, mode 600, with the secret of the cluster; or set STATOR_CLUSTER_SECRET.\n\
                  It signs contexts; needed before other machines may reach the port for nodes.",
        read: |config, text| optional(text, path).map(|value| config.cluster_secret_file = value),
        write: |config| written(config.cluster_secret_file.as_deref().map(Path::display)),
    },
];

const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

fn path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("a path".to_owned()) } else { Ok(PathBuf::from(text)) }
}

fn name(text: &str) -> Result<String, String> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.:".contains(letter);
    if text.len() > 64 || !text.chars().all(plain) {
        return Err("a name of at most 64 letters, digits and -_.:".to_owned());
    }
    Ok(text.to_owned())
}

fn address(text: &str) -> Result<SocketAddr, String> {
    // Ports of cores are counted from this one, so it cannot be left to the system.
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    address.ok_or_else(|| "an address like 127.0.0.1:7000".to_owned())
}

fn shards(text: &str) -> Result<Option<u16>, String> {
    number(text, 0, SHARDS_MAX).map(|shards| (shards > 0).then_some(shards))
}

fn switch(text: &str) -> Result<bool, String> {
    text.parse().map_err(|_| "true or false".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    parse_size(text).ok_or_else(|| "a size with its unit, like 32MiB".to_owned())
}

fn time(text: &str) -> Result<Duration, String> {
    let most = Duration::from_millis(limits::REQUEST_TIMEOUT_MILLIS_MAX.into());
    let time = parse_time(text).filter(|time| (Duration::from_millis(1)..=most).contains(time));
    time.ok_or_else(|| "a time with its unit, like 100ms or 5s, up to 600s".to_owned())
}

fn number<T: FromStr + PartialOrd + Display>(text: &str, least: T, most: T) -> Result<T, String> {
    let number = text.parse().ok().filter(|number| *number >= least && *number <= most);
    number.ok_or_else(|| format!("a number from {least} to {most}"))
}

fn word<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let names = || words.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" | ");
    let found = words.iter().find(|(name, _)| *name == text);
    found.map(|(_, word)| *word).ok_or_else(|| format!("one of {}", names()))
}

fn word_of<T: PartialEq>(value: T, words: &[(&str, T)]) -> String {
    let found = words.iter().find(|(_, word)| *word == value);
    found.expect("every variant has a word").0.to_owned()
}

/// The empty text is none.
fn optional<T>(text: &str, read: fn(&str) -> Result<T, String>) -> Result<Option<T>, String> {
    if text.is_empty() { Ok(None) } else { read(text).map(Some) }
}

fn written<T: Display>(value: Option<T>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}
