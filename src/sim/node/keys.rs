//! The keys of a workload: their names, whose namespace they are in, and which core owns them.

use crate::base::id::ShardId;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::protocol::coordinator::Durability;
use crate::protocol::coordinator::Interval;
use crate::protocol::coordinator::Namespace;
use crate::protocol::coordinator::Namespaces;
use crate::protocol::ring::Partitions;
use crate::protocol::ring::slot_of;
use crate::protocol::version::Conflict;

/// Names a key of the workload.
pub type KeyIndex = usize;

/// The kinds of namespaces, by prefix.
const PREFIXES: [&str; 5] = ["sync:", "one:", "lww:", "buffered:", "bufferedlww:"];

/// One key.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its bytes.
    pub name: Vec<u8>,
    /// The core that owns it.
    pub shard: usize,
    /// Its slot.
    pub slot: u16,
    /// Acknowledged from the buffer.
    pub buffered: bool,
    /// Only the last write stays.
    pub last_writer_wins: bool,
}

/// `count` keys over all namespaces.
pub fn draw(rng: &mut Rng, count: usize, partitions: Partitions, owners: &[ShardId]) -> Vec<Key> {
    let first = rng.below(PREFIXES.len() as u64) as usize;
    let key = |index: usize| {
        let prefix = PREFIXES[(first + index) % PREFIXES.len()];
        let name = format!("{prefix}{index}").into_bytes();
        let slot = slot_of(&name);
        Key {
            shard: usize::from(owners[usize::from(partitions.of(slot).to_raw())].to_raw()),
            slot: slot.to_raw(),
            buffered: prefix.starts_with("buffered"),
            last_writer_wins: prefix.ends_with("lww:"),
            name,
        }
    };
    (0..count).map(key).collect()
}

/// The namespaces of those prefixes.
pub fn namespaces(interval: Duration, objects: Option<u64>) -> Namespaces {
    let buffered = Durability::Interval(Interval { time: interval, bytes: None, objects });
    let one = Durability::One(Duration::from_millis(100));
    let of = |prefix: &str| Namespace {
        durability: match prefix {
            "one:" => one,
            "buffered:" | "bufferedlww:" => buffered,
            _ => Durability::Sync,
        },
        conflict: if prefix.ends_with("lww:") { Conflict::Lww } else { Conflict::Siblings },
        ..Namespace::default()
    };
    Namespaces::new(PREFIXES.iter().map(|prefix| (prefix.as_bytes().to_vec(), of(prefix))))
}
