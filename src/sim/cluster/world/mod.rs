//! A cluster of nodes on a network, clients that ask any of them, and everything that goes wrong.

mod clients;
mod life;
mod quiet;

use std::fmt;

use self::clients::Client;
use super::node;
use super::node::Node;
use super::node::Phase;
use super::node::member_of;
use super::node::node_of;
use super::oracle::Conflict;
use super::oracle::Oracle;
use super::oracle::Rules;
use super::plan::Plan;
use crate::base::id::ConnectionId;
use crate::base::id::LinkId;
use crate::base::id::ShardId;
use crate::base::id::ZoneId;
use crate::base::outbox::Outbox;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::base::time::Wall;
use crate::protocol::ring::Member;
use crate::protocol::ring::Members;
use crate::protocol::ring::Partitions;
use crate::protocol::ring::Preferences;
use crate::protocol::ring::Table;
use crate::protocol::shard::Effect;
use crate::protocol::shard::Event;
use crate::sim::coverage::Coverage;
use crate::sim::coverage::Sometimes;
use crate::sim::network::Endpoint;
use crate::sim::network::Network;
use crate::sim::network::Occurrence;
use crate::sim::network::nemesis::Nemesis;
use crate::sim::one_disk::tagged;
use crate::sim::one_disk::untagged;
use crate::sim::pace::Pace;
use crate::sim::storage::Report;
use crate::sim::trace::Trace;

/// The wall clocks when a run begins, in milliseconds.
const EPOCH_MILLIS: u64 = 1_700_000_000_000;

/// What takes longer than this without faults never comes.
const PATIENCE: Duration = Duration::from_secs(120);

/// What happens next.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Next {
    Disk(usize),
    Mesh(usize, usize, usize),
    Network,
    TurnEnd(usize, usize),
    Deadline(usize, usize),
    Request(usize),
    Taken(usize),
    Client(usize),
    Nemesis,
    Start(usize),
}

/// An effect with its bytes.
enum Owned {
    Plain(Effect),
    Send(ConnectionId, Vec<u8>),
    Mesh(usize, Vec<u8>),
    PeerSend(LinkId, Vec<u8>),
}

pub(super) struct World {
    plan: Plan,
    pace: Pace,
    rng: Rng,
    now: Instant,
    preferences: Preferences,
    nodes: Vec<Node>,
    network: Network,
    nemesis: Nemesis,
    clients: Vec<Client>,
    keys: Vec<Vec<u8>>,
    oracle: Oracle,
    out: Outbox<Effect>,
    last_connection: u64,
    last_value: u64,
    trace: Trace,
    coverage: Coverage,
    effects: u64,
    operations: u64,
    faults: u64,
    starts: u64,
    faults_are_over: bool,
    /// Clients ask for nothing more.
    draining: bool,
    /// Everybody sees everybody, and nothing goes wrong any more.
    peace: bool,
    /// What was last shown of all siblings.
    shown: Option<Vec<Vec<u8>>>,
    deadlines_in_a_row: u32,
}

impl World {
    pub(super) fn new(mut rng: Rng, plan: Plan) -> Self {
        let partitions = Partitions::new(plan.partitions).expect("a power of two");
        let member = |number| Member { id: member_of(number), weight: 1, zone: ZoneId::new(0) };
        let members = Members::new((0..plan.nodes).map(member)).expect("distinct members");
        let preferences = Preferences::new(Table::new(partitions, 1, &members));
        let keys: Vec<Vec<u8>> =
            (0..plan.keys).map(|key| format!("key:{key}").into_bytes()).collect();
        let nodes = (0..plan.nodes).map(|_| Node::new(rng.fork(), &plan)).collect();
        let mut network = Network::new(rng.fork(), plan.network);
        (0..plan.nodes).for_each(|node| network.kill(Instant::START, node));
        Self {
            pace: Pace::new(&rng, plan.operations, plan.faults_min),
            now: Instant::START,
            preferences,
            nodes,
            network,
            nemesis: Nemesis::new(rng.fork(), plan.nemesis.clone(), plan.nodes),
            clients: (0..plan.clients).map(|_| Client::new(plan.keys)).collect(),
            oracle: Oracle::new(&vec![Conflict::Siblings; plan.keys], Rules::default()),
            keys,
            out: Outbox::default(),
            last_connection: 0,
            last_value: 0,
            trace: Trace::default(),
            coverage: Coverage::default(),
            effects: 0,
            operations: 0,
            faults: 0,
            starts: 0,
            faults_are_over: false,
            draining: false,
            peace: false,
            shown: None,
            deadlines_in_a_row: 0,
            rng,
            plan,
        }
    }

    /// Everything: the workload among faults, then a quiet time in which all must come right.
    pub(super) fn run(mut self) -> Report {
        while !self.pace.is_done(self.operations, self.faults()) {
            self.step();
        }
        self.end_faults();
        self.everybody_sees_everybody();
        self.nothing_waits();
        self.peace = true;
        self.every_key_is_judged();
        self.every_node_takes_every_key();
        self.report()
    }

    fn report(mut self) -> Report {
        let faults = self.faults();
        self.coverage.join(&self.network.coverage);
        for node in &self.nodes {
            self.coverage.join(&node.disk.coverage);
        }
        Report {
            trace: self.trace,
            coverage: self.coverage,
            operations: self.operations,
            faults,
            effects: self.effects,
            starts: self.starts,
            undecided: 0,
        }
    }

    /// What the nodes and the network suffered.
    fn faults(&self) -> u64 {
        self.faults
    }

    fn now_of(&self, node: usize) -> Now {
        let millis = EPOCH_MILLIS + self.now.as_nanos() / 1_000_000;
        let jumped = self.nodes[node].jumped;
        let millis = millis.checked_add_signed(jumped).expect("no jump goes before the epoch");
        Now { monotonic: self.now, wall: Wall::from_millis(millis) }
    }

    /// Whatever comes next, one event.
    fn step(&mut self) {
        let (at, next) = self.next().expect("something always waits: a node has deadlines");
        self.now = self.now.max(at);
        self.deadlines_in_a_row = match next {
            Next::Deadline(..) => self.deadlines_in_a_row + 1,
            _ => 0,
        };
        assert!(self.deadlines_in_a_row < 1_000_000, "deadlines pass, and nothing else happens");
        match next {
            Next::Disk(node) => self.complete(node),
            Next::Mesh(node, from, to) => self.bring(node, from, to),
            Next::Network => self.on_network(),
            Next::TurnEnd(node, shard) => self.handle(node, shard, Event::TurnEnd),
            Next::Deadline(node, shard) => self.handle(node, shard, Event::Tick),
            Next::Request(client) => self.deliver_request(client),
            Next::Taken(client) => self.tell_taken(client),
            Next::Client(client) => self.turn(client),
            Next::Nemesis => self.on_nemesis(),
            Next::Start(node) => self.start(node),
        }
        self.nobody_waits_for_ever();
    }

    fn next(&self) -> Option<(Instant, Next)> {
        let mut first: Option<(Instant, Next)> = None;
        let mut meet = |at: Instant, next: Next| {
            let candidate = (at.max(self.now), next);
            if first.is_none_or(|first| candidate < first) {
                first = Some(candidate);
            }
        };
        for (number, node) in self.nodes.iter().enumerate() {
            self.next_of(number, node, &mut meet);
        }
        if let Some(at) = self.network.next_at() {
            meet(at, Next::Network);
        }
        if let Some(at) = self.nemesis.next_at() {
            meet(at, Next::Nemesis);
        }
        for (number, client) in self.clients.iter().enumerate() {
            if let Some(at) = client.delivers_at() {
                meet(at, Next::Request(number));
            }
            if let Some(at) = client.takes_at() {
                meet(at, Next::Taken(number));
            }
            if let Some(at) = client.acts_at().filter(|_| !self.draining) {
                meet(at, Next::Client(number));
            }
        }
        first
    }

    fn next_of(&self, number: usize, node: &Node, meet: &mut impl FnMut(Instant, Next)) {
        if let Phase::Down(until) = node.phase {
            return meet(until, Next::Start(number));
        }
        let stands = node.stands_until;
        if let Some(at) = node.disk.next_at() {
            meet(at.max(stands), Next::Disk(number));
        }
        for ((from, to), queue) in &node.mesh {
            if let Some((at, _)) = queue.front() {
                meet((*at).max(stands), Next::Mesh(number, *from, *to));
            }
        }
        for (shard, core) in node.cores.iter().enumerate().filter(|(_, core)| !core.stopped) {
            if let Some(at) = core.turn_at {
                meet(at.max(stands), Next::TurnEnd(number, shard));
            }
            if let Some(at) = core.shard.deadline() {
                meet(at.max(stands), Next::Deadline(number, shard));
            }
        }
    }

    /// One event for a shard, and everything that it asks for.
    fn handle(&mut self, node: usize, shard: usize, event: Event<'_>) {
        let is_turn_end = matches!(event, Event::TurnEnd);
        self.trace.number((node as u64) << 32 | shard as u64);
        self.tell(|| format!("node {node}, shard {shard} hears {}", Loud(&event)));
        let now = self.now_of(node);
        let one = &mut self.nodes[node];
        one.cores[shard].shard.handle(now, event, &one.disk, &mut self.out);
        self.perform(node, shard);
        // It may have ended with that.
        let Some(core) = self.nodes[node].cores.get_mut(shard).filter(|core| !core.stopped) else {
            return;
        };
        if is_turn_end {
            core.turn_at = None;
        } else if self.rng.chance(self.plan.turn_percent, 100) {
            self.handle(node, shard, Event::TurnEnd);
        } else {
            let later = Duration::from_nanos(self.rng.below(100_000));
            core.turn_at.get_or_insert(self.now + later);
        }
    }

    /// Performs what was asked for, in order, as long as there is a process.
    fn perform(&mut self, node: usize, shard: usize) {
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
                Effect::PeerSend { link, bytes } => Owned::PeerSend(link, arena[bytes].to_vec()),
                other => Owned::Plain(other),
            });
        }
        self.out.clear();
        for effect in effects {
            if !self.nodes[node].is_alive() {
                return;
            }
            self.effects += 1;
            let at = Endpoint { node, shard };
            match effect {
                Owned::Send(connection, bytes) => self.on_sent(node, shard, connection, &bytes),
                Owned::Mesh(to, bytes) => self.post(node, shard, to, bytes),
                Owned::PeerSend(link, bytes) => {
                    self.trace.bytes(&bytes);
                    self.network.send(self.now, at, link, &bytes);
                }
                Owned::Plain(effect) => self.perform_plain(at, effect),
            }
        }
    }

    fn perform_plain(&mut self, at: Endpoint, effect: Effect) {
        let Endpoint { node, shard } = at;
        self.tell(|| format!("node {node}, shard {shard} asks for {}", Loud(&effect)));
        match effect {
            Effect::Disk(effect) => {
                self.trace.effect(&effect);
                self.nodes[node].disk.perform(self.now, tagged(effect, shard));
            }
            Effect::Close { connection } => self.on_close(connection),
            Effect::PeerConnect { link, member, shard } => {
                let to = Endpoint { node: node_of(member), shard: usize::from(shard.to_raw()) };
                self.network.connect(self.now, at, link, to);
            }
            Effect::PeerClose { link } => self.network.close(self.now, at, link),
            Effect::Started => self.on_started(node, shard),
            Effect::Stopped => self.on_stopped(node, shard),
            Effect::StopReading { .. } | Effect::StartReading { .. } => {}
            Effect::Abort { connection } => panic!("{connection} was cut off"),
            Effect::Released(log) => panic!("{log} was adopted by nobody"),
            Effect::Failed(error) => panic!("{error:?}, on a disk that does not fail"),
            Effect::Send { .. } | Effect::Mesh { .. } | Effect::PeerSend { .. } => {
                unreachable!("their bytes were taken")
            }
        }
    }

    /// A disk ends something.
    fn complete(&mut self, node: usize) {
        let completion = self.nodes[node].disk.complete().expect("its time has come");
        self.trace.event(&completion);
        let (shard, completion) = untagged(completion);
        if !self.nodes[node].cores[shard].stopped {
            self.handle(node, shard, Event::Disk(completion.event()));
        }
    }

    fn post(&mut self, node: usize, from: usize, to: usize, bytes: Vec<u8>) {
        assert_ne!(from, to, "a shard posts to itself");
        self.trace.bytes(&bytes);
        let delay = Duration::from_nanos(self.rng.below(self.plan.mesh_nanos) + 1);
        let queue = self.nodes[node].mesh.entry((from, to)).or_default();
        let before = queue.back().map_or(Instant::START, |(at, _)| *at);
        queue.push_back((before.max(self.now + delay), bytes));
    }

    fn bring(&mut self, node: usize, from: usize, to: usize) {
        let queue = self.nodes[node].mesh.get_mut(&(from, to)).expect("something is under way");
        let (_, bytes) = queue.pop_front().expect("something is under way");
        let from = ShardId::new(from as u16);
        self.trace.add_events(1);
        if !self.nodes[node].cores[to].stopped {
            self.handle(node, to, Event::Mesh { from, bytes: &bytes });
        }
    }

    fn on_network(&mut self) {
        let Some(occurrence) = self.network.take(self.now) else { return };
        occurrence.trace(&mut self.trace);
        let (Endpoint { node, shard }, _) = occurrence.place();
        let core = self.nodes[node].cores.get(shard);
        if core.is_none_or(|core| core.stopped) {
            return; // its process is gone, or this core of it
        }
        match occurrence {
            Occurrence::Opened { link, .. } => self.handle(node, shard, Event::PeerOpened { link }),
            Occurrence::Accepted { link, at } if !self.nodes[node].cores[shard].started => {
                self.network.close(self.now, at, link); // nobody listens yet
            }
            Occurrence::Accepted { link, .. } => {
                self.handle(node, shard, Event::PeerAccepted { link });
            }
            Occurrence::Received { link, bytes, .. } => {
                self.handle(node, shard, Event::PeerReceived { link, bytes: &bytes });
            }
            Occurrence::Sent { link, bytes, .. } => {
                self.handle(node, shard, Event::PeerSent { link, bytes });
            }
            Occurrence::Closed { link, .. } => self.handle(node, shard, Event::PeerClosed { link }),
        }
    }

    fn on_nemesis(&mut self) {
        let Some(deed) = self.nemesis.act(self.now, &mut self.network) else { return };
        self.faults += u64::from(deed.is_fault());
        self.trace.add_events(1);
        self.tell(|| deed.to_string());
    }

    fn note(&mut self, what: Sometimes) {
        self.coverage.note(what);
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.plan.aloud {
            println!("{:>14} {}", self.now.as_nanos(), what());
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
