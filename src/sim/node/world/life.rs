//! How a node lives: it starts, it is stopped, the power goes, and it starts again.

use std::net::SocketAddr;
use std::sync::Arc;

use super::Core;
use super::Phase;
use super::World;
use crate::base::id::ConnectionId;
use crate::base::id::ShardId;
use crate::base::time::Duration;
use crate::protocol::ring::Partitions;
use crate::protocol::session;
use crate::protocol::shard::Cluster;
use crate::protocol::shard::Event;
use crate::protocol::shard::NodeSettings;
use crate::protocol::shard::Settings;
use crate::protocol::shard::Shard;
use crate::protocol::version::ContextSecret;
use crate::sim::coverage::Sometimes;
use crate::sim::node::keys;
use crate::sim::node::plan::Plan;
use crate::sim::one_disk::log_of;
use crate::storage;
use crate::storage::Health;
use crate::storage::commit;
use crate::storage::recovery::StartError;

/// Starts in a row that may fail. Those that a crash cuts short are fewer by far, the others are of a
/// disk that does not let itself be read.
const STARTS_MAX: u32 = 100;

impl World {
    /// A process begins: every shard with fresh entropy.
    pub(super) fn start(&mut self) {
        self.starts += 1;
        self.failures_at_start = self.failures();
        self.poisoned = false;
        self.cores.clear();
        for number in 0..self.plan.shards {
            let settings = Settings {
                shard: ShardId::new(number),
                storage: storage_settings(&self.plan, usize::from(number)),
                node: Arc::clone(&self.node),
            };
            let shard = Shard::new(settings, self.rng.next_u64());
            self.cores.push(Core {
                shard,
                started: false,
                stopped: false,
                stop_at: None,
                turn_at: None,
            });
        }
        self.enter(Phase::Starting);
        for shard in 0..self.cores.len() {
            if self.is_crash_due {
                return;
            }
            self.handle(shard, Event::Start);
        }
    }

    pub(super) fn enter(&mut self, phase: Phase) {
        self.tell(|| format!("{phase:?}"));
        self.phase = phase;
        self.phase_since = self.now;
    }

    pub(super) fn on_started(&mut self, shard: usize) {
        let core = &mut self.cores[shard];
        assert!(!core.started, "it started twice");
        core.started = true;
        let actor = core.shard.store().actor();
        assert!(self.actors.insert(actor), "{actor} was used before");
        let lost_upto = core.shard.store().damaged_upto();
        if self.lost_upto[shard] < lost_upto {
            self.lost_upto[shard] = lost_upto;
            self.oracle.lost(shard);
        }
        if self.cores.iter().all(|core| core.started) {
            self.unverified = (0..self.keys.len()).collect();
            self.verifying.clear();
            self.enter(Phase::Verifying);
        }
    }

    /// A log that cannot be started says so; without a failure it must start.
    pub(super) fn start_failed(&mut self, error: StartError) {
        assert!(matches!(error, StartError::Disk(_)), "{error:?}, and nobody touched that");
        assert!(self.failures() > self.failures_at_start, "{error:?} without a failure");
        self.coverage.note(Sometimes::StartFailed);
        self.is_crash_due = true;
    }

    pub(super) fn on_stopped(&mut self, shard: usize) {
        if self.cores[shard].shard.store().health() == Health::Poisoned {
            self.is_crash_due = true;
            return;
        }
        assert_eq!(self.phase, Phase::Stopping, "it stopped and nobody had asked");
        // Its driver is gone: nothing reaches it any more, and its connections are closed.
        (self.cores[shard].stopped, self.cores[shard].turn_at) = (true, None);
        let own = self.links.iter().filter(|(_, link)| link.shard == shard);
        let own: Vec<ConnectionId> = own.map(|(connection, _)| *connection).collect();
        for connection in own {
            let waits = self.links[&connection].requests.iter().find(|request| request.arrived);
            assert!(waits.is_none(), "{connection} is closed without an answer to {waits:?}");
            self.lose(connection);
        }
    }

    /// Each core hears of it when it does, as its thread comes by.
    pub(super) fn begin_stop(&mut self) {
        self.enter(Phase::Stopping);
        for shard in 0..self.cores.len() {
            let later = self.rng.below(3) * self.rng.below(1_000_000);
            self.cores[shard].stop_at = Some(self.now + Duration::from_nanos(later));
        }
    }

    pub(super) fn end_in_order(&mut self) {
        self.coverage.note(Sometimes::CleanStop);
        self.disk.stop();
        self.end_process();
        self.oracle.stopped();
        self.rest();
    }

    /// The power goes, or the process is killed.
    pub(super) fn crash(&mut self) {
        self.faults += 1;
        if self.phase == Phase::Starting {
            self.coverage.note(Sometimes::CrashInRecovery);
            self.failed_starts += 1;
            assert!(self.failed_starts < STARTS_MAX, "no start comes through");
        } else {
            self.failed_starts = 0;
        }
        self.tell(|| "crash".to_owned());
        if self.rng.chance(self.plan.kill_percent, 100) {
            self.coverage.note(Sometimes::Kill);
            self.disk.stop();
        } else {
            self.coverage.note(Sometimes::Crash);
            self.disk.crash();
        }
        self.end_process();
        // The flush begins by then, goes in order, and nothing holds it up for long.
        let flushing = Duration::from_nanos(400 * self.plan.dials.latency_nanos);
        let within = self.plan.interval + flushing + Duration::from_micros(100);
        let within = self.plan.is_disk_sound().then_some(within);
        self.oracle.crashed(self.now, within);
        self.rest();
    }

    /// The disk lies there; then a process begins.
    fn rest(&mut self) {
        self.forget_tokens();
        let harm = self.rng.chance(self.plan.harm_percent, 100) && !self.faults_are_over;
        if harm
            && let harmed = self.disk.damage()
            && !harmed.is_empty()
        {
            self.tell(|| format!("harmed: {harmed:?}"));
            self.faults += 1;
            self.coverage.note(Sometimes::SegmentDamaged);
            self.oracle.harmed();
        }
        if self.rng.chance(1, 4) {
            // A log may need room to start: somebody makes some, sooner or later.
            self.disk.dials.quota_bytes = u64::MAX;
        }
        self.now = self.now + Duration::from_millis(2);
        self.is_crash_due = false;
        self.start();
        if self.is_crash_due {
            self.crash();
        }
    }

    /// All connections and messages are gone.
    fn end_process(&mut self) {
        self.out.drain();
        self.out.clear();
        self.mesh.clear();
        let all: Vec<ConnectionId> = self.links.keys().copied().collect();
        for connection in all {
            self.lose(connection);
        }
        self.clients.iter_mut().for_each(|client| client.walk = None);
        self.stalled_until = None;
        self.disk.dials.latency_nanos = self.plan.dials.latency_nanos;
        self.abandoned = 0;
        self.doubts.fill(0);
        self.draining = false;
    }

    pub(super) fn failures(&self) -> u64 {
        use Sometimes::AppendFailed;
        use Sometimes::BulkFailed;
        use Sometimes::NoSpace;
        use Sometimes::ReadFailed;
        let kinds = [AppendFailed, BulkFailed, ReadFailed, NoSpace];
        self.oracle.harm + kinds.iter().map(|kind| self.disk.coverage.count(*kind)).sum::<u64>()
    }
}

fn storage_settings(plan: &Plan, shard: usize) -> storage::Settings {
    storage::Settings {
        log: log_of(shard),
        adopted: Vec::new(),
        owned: Vec::new(),
        generation: 1,
        partitions: 16,
        segment_bytes: plan.segment_bytes,
        commit: commit::Settings {
            batch_bytes: plan.batch_bytes,
            in_flight_max: plan.batches_in_flight_max,
            eager_bytes: 4096,
        },
        checkpoint_after: plan.checkpoint_after,
        segments_ahead: 2,
        unsynced_bytes_max: unsynced_bytes_max(plan),
        resident_bytes_max: plan.resident_bytes_max,
        cache_bytes_max: 4 * record_bytes_max(plan),
        garbage_percent: plan.garbage_percent,
    }
}

pub(super) fn unsynced_bytes_max(plan: &Plan) -> usize {
    4 * plan.batch_bytes as usize
}

/// The longest record, about: an object is at most four values, and what many starts leave in its
/// clock.
pub(super) fn record_bytes_max(plan: &Plan) -> usize {
    4 * plan.value_bytes_max as usize + 16 * 1024
}

pub(super) fn node_settings(
    plan: &Plan,
    partitions: Partitions,
    owners: Vec<ShardId>,
) -> NodeSettings {
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let value_bytes_max = plan.value_bytes_max as usize;
    NodeSettings {
        name: "virtual".to_owned(),
        id: "0123456789012345678901234567890123456789".to_owned(),
        process_id: 1,
        client_address: address(7000),
        core_addresses: (0..plan.shards).map(|shard| address(7100 + shard)).collect(),
        partitions,
        owners,
        cluster: Cluster::alone(partitions),
        hash_seed: 0x5eed,
        context_secret: ContextSecret::new([7; 32]),
        namespaces: keys::namespaces(plan.interval, plan.interval_objects),
        sessions: Arc::new(session::Settings { password: None, value_bytes_max }),
        siblings_max: plan.siblings_max,
        memory_bytes_max: plan.memory_bytes_max,
        request_timeout: plan.request_timeout,
        shown: Vec::new(),
    }
}
