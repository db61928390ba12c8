//! Commands of the node: what it is, how it is, who serves which slot.
//!
//! What `INFO` and `DYN.STATS` count is of all cores: the core that was asked asks the others for
//! theirs and adds them up. On one core it is there at once. It is what the cores know at the moment,
//! also of writes that are not synced yet: whoever looks after a disk that hangs is answered.

use std::fmt::Write as _;

use crate::base::id::ShardId;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::protocol::coordinator::RequestError;
use crate::protocol::ring::slot_of;
use crate::protocol::session::Outcome;
use crate::protocol::session::RequestId;
use crate::protocol::shard::cluster;
use crate::protocol::shard::keeper::Keeper;
use crate::protocol::shard::mesh;
use crate::protocol::shard::mesh::Kind;
use crate::protocol::shard::parked::Origin;
use crate::protocol::shard::walk;
use crate::protocol::shard::walk::Walk;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::REDIS_VERSION;
use crate::protocol::wire::arguments::Request;
use crate::protocol::wire::command::NodeCommand;
use crate::protocol::wire::glob::Glob;
use crate::protocol::wire::reply;
use crate::storage::Health;
use crate::storage::effect::Resident;

/// What a question to another core begins with.
const QUESTION_TOTALS: u8 = 0;

/// Counts that can be added up over cores.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Totals([u64; NAMES.len()]);

/// What [`Totals`] has, in its order, by the names of `DYN.STATS`.
const NAMES: [&str; 30] = [
    "keys",
    "tombstones",
    "connections",
    "connections_total",
    "commands",
    "bytes_in",
    "bytes_out",
    "hits",
    "misses",
    "puts",
    "blind_writes",
    "sibling_warnings",
    "parked",
    "parked_reads",
    "parked_writes",
    "timeouts",
    "refused",
    "forwarded",
    "damaged",
    "reaped",
    "batches",
    "batch_bytes",
    "compactions",
    "disk_bytes",
    "garbage_bytes",
    "keydir_bytes",
    "client_bytes",
    "buffer_bytes",
    "unready_shards",
    "readonly_shards",
];

impl Totals {
    fn of(keeper: &Keeper, connections: usize) -> Self {
        let (keys, tombstones) = keeper.keys_and_tombstones();
        let opened = keeper.replica.is_some();
        let (counters, log) = (&keeper.counters, keeper.store.counters());
        let (disk, garbage) = keeper.store.disk_bytes();
        let serves = opened && matches!(keeper.store.health(), Health::Open | Health::ReadOnly);
        Self([
            keys,
            tombstones,
            connections as u64,
            counters.connections,
            counters.commands,
            counters.bytes_in,
            counters.bytes_out,
            counters.hits,
            counters.misses,
            counters.puts,
            counters.blind_writes,
            counters.sibling_warnings,
            keeper.parked.len() as u64,
            counters.parked_reads,
            counters.parked_writes,
            counters.timeouts,
            counters.refused,
            counters.forwarded,
            counters.damaged + log.damaged + log.start.bad_records,
            counters.reaped,
            log.batches,
            log.batch_bytes,
            log.compactions,
            disk,
            garbage,
            keeper.store.keydir_bytes() as u64,
            keeper.memory_bytes() as u64,
            keeper.store.buffer_bytes() as u64,
            u64::from(!serves),
            u64::from(keeper.store.health() == Health::ReadOnly),
        ])
    }

    fn add(&mut self, other: Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum += more;
        }
    }

    fn get(&self, name: &str) -> u64 {
        let at = NAMES.iter().position(|known| *known == name).expect("one of the names");
        self.0[at]
    }

    fn to_bytes(self) -> Vec<u8> {
        self.0.iter().flat_map(|count| count.to_le_bytes()).collect()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let mut totals = Self::default();
        for (count, bytes) in totals.0.iter_mut().zip(bytes.chunks_exact(8)) {
            *count = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        }
        totals
    }
}

/// A command of the node that needs all cores' counts.
#[derive(Clone, Debug)]
enum Summary {
    Info(Vec<String>),
    Stats(Option<String>),
}

/// A [`Summary`] that waits for other cores.
#[derive(Debug)]
pub(super) struct Gathering {
    request: RequestId,
    protocol: Protocol,
    missing: usize,
    totals: Totals,
    summary: Summary,
    facts: Facts,
}

/// What a summary says besides counts.
#[derive(Clone, Debug)]
struct Facts {
    now: Now,
    process_id: u32,
    id: String,
    port: u16,
    partitions: u16,
    shards: u16,
    memory_bytes_max: usize,
}

impl Gathering {
    /// Adds another core's part. The reply, if it was the last one.
    pub(super) fn add(
        gatherings: &mut Vec<Self>,
        request: RequestId,
        part: &[u8],
    ) -> Option<Vec<u8>> {
        let at = gatherings.iter().position(|gathering| gathering.request == request)?;
        let gathering = &mut gatherings[at];
        gathering.totals.add(Totals::from_bytes(part));
        gathering.missing -= 1;
        if gathering.missing > 0 {
            return None;
        }
        let gathering = gatherings.remove(at);
        let mut reply = Vec::new();
        gathering.summary.write(
            &gathering.totals,
            &gathering.facts,
            gathering.protocol,
            &mut reply,
        );
        Some(reply)
    }
}

/// This core's part of a question. Empty: the question is answered by itself, later.
pub(super) fn part_of(keeper: &Keeper, connections: usize, body: &[u8]) -> Vec<u8> {
    assert_eq!(body.first(), Some(&QUESTION_TOTALS), "walks are begun, not answered here");
    Totals::of(keeper, connections).to_bytes()
}

/// Carries out a command of the node. Either appends its reply, or parks it.
#[allow(clippy::too_many_arguments)] // What an executor is given, and where it keeps things.
pub(super) fn execute(
    keeper: &mut Keeper,
    gatherings: &mut Vec<Gathering>,
    connections: usize,
    now: Now,
    read_at: Instant,
    resident: &dyn Resident,
    own_only: bool,
    request: RequestId,
    protocol: Protocol,
    command: &NodeCommand<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    let summary = match command {
        NodeCommand::DbSize => {
            let deadline = read_at + keeper.node.request_timeout;
            return keeper.count(request, deadline, own_only, out);
        }
        NodeCommand::Info(sections) => Summary::Info(words(*sections)),
        NodeCommand::Stats(section) => Summary::Stats(section.map(word)),
        NodeCommand::Scan(_) | NodeCommand::ClusterCountKeysInSlot(_) => {
            let deadline = read_at + keeper.node.request_timeout;
            return begin_walk(keeper, now, deadline, resident, own_only, request, command, out);
        }
        NodeCommand::ConfigGet(patterns) => {
            config_get(keeper, *patterns, protocol, out);
            return Outcome::Done;
        }
        NodeCommand::ClusterKeySlot(key) => {
            reply::integer(out, i64::from(slot_of(key).to_raw()));
            return Outcome::Done;
        }
        _ => {
            cluster::answer(keeper, protocol, command, out);
            return Outcome::Done;
        }
    };
    let totals = Totals::of(keeper, connections);
    let facts = Facts {
        now,
        process_id: keeper.node.process_id,
        id: keeper.node.id.clone(),
        port: keeper.node.client_address.port(),
        partitions: keeper.node.partitions.count(),
        shards: keeper.node.shards(),
        memory_bytes_max: keeper.node.memory_bytes_max,
    };
    if keeper.node.shards() == 1 {
        summary.write(&totals, &facts, protocol, out);
        return Outcome::Done;
    }
    if keeper.stopping {
        return keeper.refuse(RequestError::Stopping, out);
    }
    for shard in 0..keeper.node.shards() {
        if ShardId::new(shard) != keeper.shard {
            let queue = &mut keeper.mesh[shard as usize];
            mesh::put(queue, Kind::Question, request, protocol, |out| out.push(QUESTION_TOTALS));
        }
    }
    let missing = keeper.node.shards() as usize - 1;
    gatherings.push(Gathering { request, protocol, missing, totals, summary, facts });
    Outcome::Parked
}

/// Begins a walk over keys on the core that has the keys it begins with.
#[allow(clippy::too_many_arguments)] // As `execute`.
fn begin_walk(
    keeper: &mut Keeper,
    now: Now,
    deadline: Instant,
    resident: &dyn Resident,
    own_only: bool,
    request: RequestId,
    command: &NodeCommand<'_>,
    out: &mut Vec<u8>,
) -> Outcome {
    let walk = match command {
        NodeCommand::Scan(scan) => {
            match Walk::scan(scan, deadline, keeper.node.partitions, own_only) {
                Ok(walk) => walk,
                Err(()) => {
                    walk::write_end(out);
                    return Outcome::Done;
                }
            }
        }
        NodeCommand::ClusterCountKeysInSlot(slot) => {
            Walk::count_slot(*slot, deadline, keeper.node.partitions)
        }
        _ => unreachable!("only walks come here"),
    };
    keeper.begin_walk(now, resident, Origin::Here(request), walk, out)
}

fn words(request: Request<'_>) -> Vec<String> {
    request.iter().map(word).collect()
}

fn word(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).to_ascii_lowercase()
}

fn config_get(keeper: &Keeper, patterns: Request<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let globs: Vec<Glob> =
        patterns.iter().map(|pattern| Glob::new(&pattern.to_ascii_lowercase())).collect();
    let matches: Vec<&(String, String)> = keeper
        .node
        .shown
        .iter()
        .filter(|(name, _)| globs.iter().any(|glob| glob.matches(name.as_bytes())))
        .collect();
    reply::map(out, protocol, matches.len());
    for (name, value) in matches {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, value.as_bytes());
    }
}

impl Summary {
    fn write(&self, totals: &Totals, facts: &Facts, protocol: Protocol, out: &mut Vec<u8>) {
        match self {
            Self::Info(sections) => {
                reply::verbatim(out, protocol, info(sections, totals, facts).as_bytes());
            }
            Self::Stats(section) => stats(section.as_deref(), totals, facts, protocol, out),
        }
    }
}

fn stats(
    section: Option<&str>,
    totals: &Totals,
    facts: &Facts,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    let ready = u64::from(totals.get("unready_shards") == 0);
    let mut rows: Vec<(&str, u64)> = vec![
        ("ready", ready),
        ("hints_pending", 0),
        ("members", 1),
        ("shards", u64::from(facts.shards)),
        ("partitions", u64::from(facts.partitions)),
    ];
    rows.extend(NAMES.iter().copied().zip(totals.0));
    if let Some(section) = section {
        rows.retain(|(name, _)| name.contains(section));
    }
    reply::map(out, protocol, rows.len());
    for (name, value) in rows {
        reply::bulk(out, name.as_bytes());
        reply::integer(out, value as i64);
    }
}

/// `INFO`, in Redis's sections and names as far as they mean something here.
fn info(sections: &[String], totals: &Totals, facts: &Facts) -> String {
    let all = sections.is_empty()
        || sections.iter().any(|name| matches!(name.as_str(), "all" | "default" | "everything"));
    let mut text = String::new();
    for (name, write) in SECTIONS {
        if all || sections.iter().any(|section| section == name) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let mut title = (*name).to_owned();
            title[..1].make_ascii_uppercase();
            let _ = write!(text, "# {title}\r\n");
            for (field, value) in write(totals, facts) {
                let _ = write!(text, "{field}:{value}\r\n");
            }
        }
    }
    text
}

type Section = fn(&Totals, &Facts) -> Vec<(&'static str, String)>;

const SECTIONS: &[(&str, Section)] = &[
    ("server", |_, facts| {
        let uptime = facts.now.monotonic.as_nanos() / 1_000_000_000;
        vec![
            ("redis_version", REDIS_VERSION.to_owned()),
            ("redis_mode", "cluster".to_owned()),
            ("stator_version", env!("CARGO_PKG_VERSION").to_owned()),
            ("process_id", facts.process_id.to_string()),
            ("run_id", facts.id.clone()),
            ("tcp_port", facts.port.to_string()),
            ("server_time_usec", (facts.now.wall.as_millis() * 1000).to_string()),
            ("uptime_in_seconds", uptime.to_string()),
            ("uptime_in_days", (uptime / 86_400).to_string()),
            ("shards", facts.shards.to_string()),
        ]
    }),
    ("clients", |totals, _| vec![("connected_clients", totals.get("connections").to_string())]),
    ("memory", |totals, facts| {
        let used =
            totals.get("keydir_bytes") + totals.get("client_bytes") + totals.get("buffer_bytes");
        vec![
            ("used_memory", used.to_string()),
            ("client_bytes", totals.get("client_bytes").to_string()),
            ("client_bytes_max_per_core", facts.memory_bytes_max.to_string()),
            ("keydir_bytes", totals.get("keydir_bytes").to_string()),
        ]
    }),
    ("persistence", |totals, _| {
        vec![
            ("loading", u64::from(totals.get("unready_shards") > 0).to_string()),
            ("disk_bytes", totals.get("disk_bytes").to_string()),
            ("garbage_bytes", totals.get("garbage_bytes").to_string()),
            ("compactions", totals.get("compactions").to_string()),
            ("readonly_shards", totals.get("readonly_shards").to_string()),
            ("damaged", totals.get("damaged").to_string()),
        ]
    }),
    ("stats", |totals, _| {
        vec![
            ("total_connections_received", totals.get("connections_total").to_string()),
            ("total_commands_processed", totals.get("commands").to_string()),
            ("total_net_input_bytes", totals.get("bytes_in").to_string()),
            ("total_net_output_bytes", totals.get("bytes_out").to_string()),
            ("keyspace_hits", totals.get("hits").to_string()),
            ("keyspace_misses", totals.get("misses").to_string()),
            ("blind_writes", totals.get("blind_writes").to_string()),
            ("timeouts", totals.get("timeouts").to_string()),
            ("refused", totals.get("refused").to_string()),
        ]
    }),
    ("replication", |_, _| {
        vec![("role", "master".to_owned()), ("connected_slaves", "0".to_owned())]
    }),
    ("cluster", |_, _| vec![("cluster_enabled", "1".to_owned())]),
    ("keyspace", |totals, _| match totals.get("keys") {
        0 => Vec::new(),
        keys => vec![("db0", format!("keys={keys},expires=0,avg_ttl=0"))],
    }),
];

/// Forgets tombstones that nobody needs: with one member, every one that is synced and no longer in
/// the active segment. Walks keydirs a little at a time.
#[derive(Debug, Default)]
pub(super) struct Reaper {
    partition: u16,
    hash: u64,
    seen: usize,
    found: bool,
    /// Whether the last walk over everything met a tombstone.
    met: bool,
}

impl Reaper {
    /// Whether it should be woken again.
    pub(super) fn has_work(&self) -> bool {
        self.met || self.found
    }

    /// Looks at so many entries.
    pub(super) fn sweep(&mut self, keeper: &mut Keeper, entries: usize) {
        if keeper.replica.is_none() || !keeper.store.may_reap() {
            (self.met, self.found) = (false, false);
            return;
        }
        let partitions = keeper.node.partitions.count();
        for _ in 0..entries {
            let partition = crate::base::id::PartitionId::new(self.partition);
            let keydir = keeper.store.keydir(partition);
            let tombstones = keydir.len() - keydir.values();
            let next = if tombstones == 0 { None } else { keydir.entry_from(self.hash, self.seen) };
            let Some((hash, at)) = next else {
                self.found |= tombstones > 0;
                (self.hash, self.seen) = (0, 0);
                self.partition += 1;
                if self.partition == partitions {
                    self.partition = 0;
                    self.met = std::mem::take(&mut self.found);
                    return;
                }
                continue;
            };
            self.seen = if hash == self.hash { self.seen + 1 } else { 1 };
            self.hash = hash;
            if at.marks().tombstone && keeper.store.reap(partition, hash, at) {
                self.seen -= 1;
                keeper.counters.reaped += 1;
            }
        }
    }
}
