//! A node of some shards on one disk, clients that speak bytes, and power that goes.

mod answers;
mod clients;
mod life;
mod quiet;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::sync::Arc;

use self::clients::Client;
use super::keys;
use super::keys::Key;
use super::link::Ending;
use super::link::Link;
use super::oracle::Oracle;
use super::oracle::state::OperationId;
use super::oracle::state::Rules;
use super::plan::Plan;
use super::workload::Tokens;
use crate::base::id::ActorId;
use crate::base::id::ConnectionId;
use crate::base::id::ShardId;
use crate::base::outbox::Outbox;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::base::time::Wall;
use crate::protocol::ring::Partitions;
use crate::protocol::shard::Effect;
use crate::protocol::shard::Event;
use crate::protocol::shard::NodeSettings;
use crate::protocol::shard::Shard;
use crate::sim::coverage::Coverage;
use crate::sim::coverage::Sometimes;
use crate::sim::disk::Disk;
use crate::sim::one_disk::tagged;
use crate::sim::one_disk::untagged;
use crate::sim::pace::Pace;
use crate::sim::storage::Report;
use crate::sim::trace::Trace;
use crate::storage::record::Order;

/// So many starts in a row are cut short, then one may end: see the storage's world.
const FAILED_STARTS_MAX: u32 = 6;

/// The wall clock when a run begins, in milliseconds.
const EPOCH_MILLIS: u64 = 1_700_000_000_000;

/// A start, a stop or an answer that takes longer than this without faults never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where the node is in its life.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Phase {
    /// Some shard reads its log.
    Starting,
    /// Every key is read, and nothing else happens.
    Verifying,
    /// Clients work.
    Running,
    /// The shards were told to stop.
    Stopping,
}

/// One shard and what the driver keeps for it.
struct Core {
    shard: Shard,
    started: bool,
    stopped: bool,
    /// When it is told to stop.
    stop_at: Option<Instant>,
    /// When the turn ends that is under way.
    turn_at: Option<Instant>,
}

/// Messages from one shard to another, with the times at which they arrive.
type Post = VecDeque<(Instant, Vec<u8>)>;

/// What happens next.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Next {
    Disk,
    Mesh(usize, usize),
    Link(ConnectionId),
    TurnEnd(usize),
    Stop(usize),
    Client(usize),
    Deadline(usize),
}

/// An effect with its bytes.
enum Owned {
    Plain(Effect),
    Send(ConnectionId, Vec<u8>),
    Mesh(usize, Vec<u8>),
}

pub(super) struct World {
    plan: Plan,
    pace: Pace,
    rng: Rng,
    now: Instant,
    /// How far the wall clock was set off, in milliseconds.
    jumped: i64,
    node: Arc<NodeSettings>,
    keys: Vec<Key>,
    disk: Disk,
    cores: Vec<Core>,
    out: Outbox<Effect>,
    /// Messages under way, by sender and receiver: they come in order.
    mesh: BTreeMap<(usize, usize), Post>,
    links: BTreeMap<ConnectionId, Link>,
    last_connection: u64,
    clients: Vec<Client>,
    /// Keys to be read before anything else happens.
    unverified: VecDeque<usize>,
    verifying: BTreeSet<usize>,
    tokens: Tokens,
    /// Requests that name a context, and operations whose context might be used.
    token_uses: BTreeMap<OperationId, u32>,
    /// Contexts that some client holds or uses.
    held_tokens: BTreeSet<(usize, OperationId)>,
    oracle: Oracle,
    /// Commands of a key that were sent and have no end.
    in_flight: Vec<usize>,
    /// Who asked for each key last.
    asked_by: Vec<ConnectionId>,
    /// Operations that came and have no end.
    open: BTreeSet<OperationId>,
    abandoned: usize,
    /// For each buffered key, how many of its writes in this process nobody knows the outcome of.
    doubts: Vec<u32>,
    /// Nobody asks anything until everything is answered.
    draining: bool,
    phase: Phase,
    phase_since: Instant,
    stalled_until: Option<Instant>,
    /// Something was asked of the disk while it stalls.
    stall_was_felt: bool,
    actors: BTreeSet<ActorId>,
    /// What each core knows to have lost.
    lost_upto: Vec<Option<Order>>,
    trace: Trace,
    coverage: Coverage,
    effects: u64,
    operations: u64,
    /// Crashes, stalls and harm.
    faults: u64,
    starts: u64,
    poisoned: bool,
    failures_at_start: u64,
    is_crash_due: bool,
    /// Starts in a row that a crash cut short.
    failed_starts: u32,
    faults_are_over: bool,
    deadlines_in_a_row: u32,
    /// The last count that was told, the last number of parked requests, and walks that ended.
    counted: Option<i64>,
    parked: Option<i64>,
    walks: u64,
    /// For whoever wants to understand a failure.
    last_error: String,
}

impl World {
    pub(super) fn new(mut rng: Rng, plan: Plan) -> Self {
        let pace = Pace::new(&rng, plan.operations, plan.faults_min);
        let disk = Disk::new(rng.fork(), plan.dials);
        let partitions = Partitions::new(16).expect("a power of two");
        let shards = u64::from(plan.shards);
        let owner = |_| ShardId::new(rng.below(shards) as u16);
        let owners: Vec<ShardId> = (0..partitions.count()).map(owner).collect();
        let keys = keys::draw(&mut rng, plan.keys, partitions, &owners);
        let node = Arc::new(life::node_settings(&plan, partitions, owners));
        let rules = Rules {
            last_writer_wins: false,
            comes_back: false,
            any_is_latest: plan.jump_one_in > 0,
            siblings_max: plan.siblings_max,
        };
        let count = keys.len();
        let mut world = Self {
            oracle: Oracle::new(keys.clone(), usize::from(plan.shards), rules),
            now: Instant::START,
            jumped: 0,
            node,
            keys,
            disk,
            cores: Vec::new(),
            out: Outbox::default(),
            mesh: BTreeMap::new(),
            links: BTreeMap::new(),
            last_connection: 0,
            clients: (0..=plan.clients).map(|_| Client::default()).collect(),
            unverified: VecDeque::new(),
            verifying: BTreeSet::new(),
            tokens: Tokens::new(count),
            token_uses: BTreeMap::new(),
            held_tokens: BTreeSet::new(),
            in_flight: vec![0; count],
            asked_by: vec![ConnectionId::new(0); count],
            open: BTreeSet::new(),
            abandoned: 0,
            doubts: vec![0; count],
            draining: false,
            phase: Phase::Starting,
            phase_since: Instant::START,
            stalled_until: None,
            stall_was_felt: false,
            actors: BTreeSet::new(),
            lost_upto: vec![None; usize::from(plan.shards)],
            trace: Trace::default(),
            coverage: Coverage::default(),
            effects: 0,
            operations: 0,
            faults: 0,
            starts: 0,
            poisoned: false,
            failures_at_start: 0,
            is_crash_due: false,
            failed_starts: 0,
            faults_are_over: false,
            deadlines_in_a_row: 0,
            counted: None,
            parked: None,
            walks: 0,
            last_error: String::new(),
            plan,
            pace,
            rng,
        };
        world.start();
        world
    }

    /// Everything: the workload among faults, then a quiet time in which all must come right.
    pub(super) fn run(mut self) -> Report {
        while !self.pace.is_done(self.operations, self.faults()) {
            self.step();
        }
        self.end_faults();
        self.everything_is_answered();
        self.counts_are_exact();
        self.everything_is_written_anew();
        self.restart_in_order();
        self.counts_are_exact();
        self.report()
    }

    fn report(mut self) -> Report {
        self.coverage.join(&self.disk.coverage);
        let faults = self.faults();
        Report {
            trace: self.trace,
            coverage: self.coverage,
            operations: self.operations,
            faults,
            effects: self.effects,
            starts: self.starts,
            undecided: self.oracle.undecided(),
        }
    }

    fn now(&self) -> Now {
        Now { monotonic: self.now, wall: Wall::from_millis(self.wall()) }
    }

    fn wall(&self) -> u64 {
        let millis = EPOCH_MILLIS + self.now.as_nanos() / 1_000_000;
        millis.checked_add_signed(self.jumped).expect("no jump goes before the epoch")
    }

    /// Whatever comes next, one event.
    fn step(&mut self) {
        let (at, next) = self.next().unwrap_or_else(|| panic!("{:?}: nothing waits", self.phase));
        self.now = self.now.max(at);
        self.deadlines_in_a_row = match next {
            Next::Deadline(_) => self.deadlines_in_a_row + 1,
            _ => 0,
        };
        assert!(self.deadlines_in_a_row < 3_000, "a deadline that passes and passes");
        match next {
            Next::Disk => self.complete(),
            Next::Mesh(from, to) => self.bring(from, to),
            Next::Link(connection) => self.on_link(connection),
            Next::TurnEnd(shard) => self.end_turn(shard),
            Next::Stop(shard) => {
                self.cores[shard].stop_at = None;
                self.handle(shard, Event::Stop);
            }
            Next::Client(client) => self.turn(client),
            Next::Deadline(shard) => self.handle(shard, Event::Tick),
        }
        self.settle_if_idle();
        if self.is_crash_due {
            self.crash();
        } else if self.phase == Phase::Stopping && self.cores.iter().all(|core| core.stopped) {
            self.end_in_order();
        }
        let waits = self.phase != Phase::Running && (self.faults_are_over || self.starts < 2);
        let waited = self.now.since(self.phase_since);
        assert!(!waits || waited < PATIENCE, "still {:?} after {waited:?}", self.phase);
    }

    fn next(&self) -> Option<(Instant, Next)> {
        let disk = self.disk.next_at().map(|at| (at, Next::Disk));
        let mesh = self.mesh.iter().filter_map(|((from, to), queue)| {
            queue.front().map(|(at, _)| (*at, Next::Mesh(*from, *to)))
        });
        let links = self
            .links
            .iter()
            .filter_map(|(connection, link)| Some((link.next_at()?, Next::Link(*connection))));
        let cores = self.cores.iter().enumerate().flat_map(|(shard, core)| {
            let turn = core.turn_at.map(|at| (at, Next::TurnEnd(shard)));
            let deadline = core.shard.deadline().map(|at| (at, Next::Deadline(shard)));
            let stop = core.stop_at.map(|at| (at, Next::Stop(shard)));
            [turn, stop, deadline.filter(|_| !core.stopped)].into_iter().flatten()
        });
        let clients = self.clients.iter().enumerate().filter_map(|(number, client)| {
            self.may_act(number).then_some((client.act_at, Next::Client(number)))
        });
        let all = disk.into_iter().chain(mesh).chain(links).chain(cores).chain(clients);
        all.map(|(at, next)| (at.max(self.now), next)).min()
    }

    /// One event for a shard, and everything that it asks for.
    fn handle(&mut self, shard: usize, event: Event<'_>) {
        let is_turn_end = matches!(event, Event::TurnEnd);
        self.trace.number(shard as u64);
        self.tell(|| format!("shard {shard} hears {}", Loud(&event)));
        let now = self.now();
        self.cores[shard].shard.handle(now, event, &self.disk, &mut self.out);
        self.perform(shard);
        if self.is_crash_due || self.cores[shard].stopped {
            return;
        }
        self.check_bounds(shard);
        if is_turn_end {
            self.cores[shard].turn_at = None;
        } else if self.rng.chance(self.plan.turn_percent, 100) {
            self.end_turn(shard);
        } else {
            let later = Duration::from_nanos(self.rng.below(100_000));
            self.cores[shard].turn_at.get_or_insert(self.now + later);
        }
    }

    fn end_turn(&mut self, shard: usize) {
        self.handle(shard, Event::TurnEnd);
    }

    fn check_bounds(&self, shard: usize) {
        let unsynced = self.cores[shard].shard.store().unsynced_bytes();
        let bound = life::unsynced_bytes_max(&self.plan) + life::record_bytes_max(&self.plan);
        assert!(unsynced <= bound, "{unsynced} bytes wait to be synced, {bound} may");
    }

    /// Performs what was asked for, in order, unless the power goes before.
    fn perform(&mut self, shard: usize) {
        let mut effects = Vec::new();
        let (asked, arena) = self.out.take();
        for effect in asked {
            effects.push(match effect {
                Effect::Send { connection, bytes } => {
                    Owned::Send(connection, arena[bytes].to_vec())
                }
                Effect::Mesh { to, bytes } => {
                    Owned::Mesh(usize::from(to.to_raw()), arena[bytes].to_vec())
                }
                other => Owned::Plain(other),
            });
        }
        self.out.clear();
        for effect in effects {
            if self.is_crash_due || self.power_goes() {
                self.is_crash_due = true;
                return;
            }
            self.effects += 1;
            match effect {
                Owned::Send(connection, bytes) => self.on_sent_by(shard, connection, &bytes),
                Owned::Mesh(to, bytes) => self.post(shard, to, bytes),
                Owned::Plain(effect) => self.perform_plain(shard, effect),
            }
        }
    }

    fn perform_plain(&mut self, shard: usize, effect: Effect) {
        self.tell(|| format!("shard {shard} asks for {}", Loud(&effect)));
        match effect {
            Effect::Disk(effect) => {
                self.trace.effect(&effect);
                if self.stalled_until.is_some() && !mem::replace(&mut self.stall_was_felt, true) {
                    self.faults += 1;
                }
                self.disk.perform(self.now, tagged(effect, shard));
            }
            Effect::Close { connection } => self.on_close(connection),
            Effect::Abort { connection } => panic!("{connection} was cut off"),
            Effect::StopReading { connection } => {
                let grace = self.rng.chance(1, 2);
                let link = self.links.get_mut(&connection).expect("a connection that is open");
                (link.stopped, link.grace) = (true, grace);
                self.coverage.note(Sometimes::StoppedReading);
            }
            Effect::StartReading { connection } => {
                let link = self.links.get_mut(&connection).expect("a connection that is open");
                assert!(link.stopped, "{connection} was never stopped");
                link.stopped = false;
            }
            Effect::PeerConnect { .. } | Effect::PeerSend { .. } | Effect::PeerClose { .. } => {
                panic!("a node that is a cluster by itself has no peers")
            }
            Effect::Released(log) => panic!("{log} was adopted by nobody"),
            Effect::Started => self.on_started(shard),
            Effect::Failed(error) => self.start_failed(error),
            Effect::Stopped => self.on_stopped(shard),
            Effect::Send { .. } | Effect::Mesh { .. } => unreachable!("their bytes were taken"),
        }
    }

    fn power_goes(&mut self) -> bool {
        let one_in = self.plan.crash_one_in;
        let may = self.phase != Phase::Starting || self.failed_starts < FAILED_STARTS_MAX;
        if !may || self.faults_are_over {
            return false;
        }
        let drawn = one_in > 0 && self.rng.chance(1, one_in);
        drawn || self.pace.wants_crash(self.operations, self.faults())
    }

    /// What the disk and the process suffered.
    fn faults(&self) -> u64 {
        self.faults + self.disk.failures()
    }

    /// The disk ends something.
    fn complete(&mut self) {
        let completion = self.disk.complete().expect("its time has come");
        self.trace.event(&completion);
        let (shard, completion) = untagged(completion);
        if !self.cores[shard].stopped {
            self.handle(shard, Event::Disk(completion.event()));
        }
    }

    fn post(&mut self, from: usize, to: usize, bytes: Vec<u8>) {
        assert_ne!(from, to, "a shard posts to itself");
        self.trace.bytes(&bytes);
        self.coverage.note(Sometimes::CrossedCores);
        let delay = Duration::from_nanos(self.rng.below(self.plan.mesh_nanos) + 1);
        let queue = self.mesh.entry((from, to)).or_default();
        let before = queue.back().map_or(Instant::START, |(at, _)| *at);
        queue.push_back((before.max(self.now + delay), bytes));
    }

    fn bring(&mut self, from: usize, to: usize) {
        let queue = self.mesh.get_mut(&(from, to)).expect("something is under way");
        let (_, bytes) = queue.pop_front().expect("something is under way");
        let from = ShardId::new(from as u16);
        self.trace.add_events(1);
        if !self.cores[to].stopped {
            self.handle(to, Event::Mesh { from, bytes: &bytes });
        }
    }

    /// Something happens on a connection: a piece comes, or what was sent is taken.
    fn on_link(&mut self, connection: ConnectionId) {
        self.trace.add_events(1);
        let link = self.links.get_mut(&connection).expect("it is in the agenda");
        let shard = link.shard;
        if link.delivers_first() {
            return self.deliver_piece(connection, shard);
        }
        if link.unsent == 0 {
            assert!(link.closing, "nothing happens on {connection}");
            self.links.remove(&connection);
            return self.handle(shard, Event::Closed { connection });
        }
        let bytes = self.rng.between(1, link.unsent as u64) as usize;
        link.unsent -= bytes;
        link.sent_at = self.now + Duration::from_nanos(self.rng.below(20_000));
        self.handle(shard, Event::Sent { connection, bytes });
    }

    fn deliver_piece(&mut self, connection: ConnectionId, shard: usize) {
        let link = self.links.get_mut(&connection).expect("it is in the agenda");
        link.deliver_at = self.now + Duration::from_nanos(self.rng.below(30_000));
        if link.upstream.is_empty() {
            link.ending = Ending::HalfClosed;
            return self.handle(shard, Event::EndOfInput { connection });
        }
        let all = link.upstream.len() as u64;
        let length = match self.rng.below(4) {
            0 => self.rng.between(1, all.min(8)),
            1 => self.rng.between(1, all),
            _ => all,
        };
        let bytes = link.take(length as usize);
        self.trace.bytes(&bytes);
        self.arrive(connection);
        self.cores[shard].shard.foresee(&[&bytes, &bytes], &self.disk);
        self.handle(shard, Event::Received { connection, bytes: &bytes });
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.plan.aloud {
            println!("{:>12} {}", self.now.as_nanos(), what());
        }
    }
}

/// One line of what may hold many bytes.
struct Loud<'a, T>(&'a T);

impl<T: fmt::Debug> fmt::Display for Loud<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.0);
        f.write_str(text.get(..160).unwrap_or(&text))
    }
}
