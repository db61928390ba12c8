//! What clients do, well and ill: pipelines, walks, half-closes, disconnects, and not reading.

use std::net::SocketAddr;

use super::Core;
use super::Phase;
use super::World;
use crate::base::id::ConnectionId;
use crate::base::limits::OUTPUT_BYTES_SOFT;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::protocol::shard::Door;
use crate::protocol::shard::Event;
use crate::protocol::shard::Peer;
use crate::sim::coverage::Sometimes;
use crate::sim::node::keys::KeyIndex;
use crate::sim::node::link::Asked;
use crate::sim::node::link::Ending;
use crate::sim::node::link::Link;
use crate::sim::node::link::Part;
use crate::sim::node::oracle::state::Cause;
use crate::sim::node::oracle::state::Command;
use crate::sim::node::workload::Desk;
use crate::sim::node::workload::expiring;
use crate::sim::resp;
use crate::storage::Health;

/// The client that reads every key after a start.
const VERIFIER: usize = 0;

/// Operations of one key at once, so that the orders of them can all be tried.
const AT_ONCE: usize = 6;

/// Writes of a buffered key, each of which a crash may undo, before all are let reach the disk.
pub(super) const BUFFERED_MAX: u32 = 40;

/// Keys of which a step of a walk is judged as if it had been asked for each of them.
const WATCHED_MAX: usize = 3;

/// Ways that a key may have gone, above which it is only read.
const WAYS_MAX: usize = 32;

/// Requests that a client sends before it hears of the first.
const OUTSTANDING_MAX: usize = 32;

/// A client that waits for answers comes back after so many pauses.
const WAITING_PAUSES: u32 = 64;

/// A virtual client.
#[derive(Clone, Debug, Default)]
pub(super) struct Client {
    pub(super) act_at: Instant,
    pub(super) link: Option<ConnectionId>,
    pub(super) walk: Option<Walk>,
}

/// A walk over all keys, step by step.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    pub(super) cursor: Vec<u8>,
    pub(super) met: Vec<u32>,
    /// What was certain when it began, and how many operations had come by then.
    pub(super) began: Vec<(Option<bool>, u32)>,
    /// A step was asked for.
    pub(super) waits: bool,
}

impl World {
    pub(super) fn may_act(&self, client: usize) -> bool {
        if client == VERIFIER {
            return self.phase == Phase::Verifying
                && (!self.unverified.is_empty() || self.verifying.is_empty());
        }
        if self.draining || self.faults_are_over {
            return false;
        }
        match self.phase {
            Phase::Running | Phase::Stopping => true,
            Phase::Starting => client.is_multiple_of(2),
            Phase::Verifying => false,
        }
    }

    /// A client's turn.
    pub(super) fn turn(&mut self, client: usize) {
        self.trace.add_events(1);
        if client == VERIFIER {
            return self.verify();
        }
        let pause = Duration::from_nanos(self.rng.below(2 * self.plan.pause_nanos + 1));
        self.clients[client].act_at = self.now + pause;
        if self.phase == Phase::Running {
            self.trouble();
            if self.is_crash_due || self.phase != Phase::Running || self.draining {
                return;
            }
        }
        let connection = self.connect(client);
        if self.is_crash_due || self.is_rude(client, connection) {
            return;
        }
        if self.links[&connection].requests.len() >= OUTSTANDING_MAX {
            // Until it hears something it has nothing to do: some disks are slow for minutes.
            self.clients[client].act_at = self.now + pause * WAITING_PAUSES;
            return;
        }
        let commands = self.rng.between(1, self.plan.pipeline);
        for _ in 0..commands {
            self.ask(client, connection);
        }
    }

    /// The client's connection: a new one if it has none.
    pub(super) fn connect(&mut self, client: usize) -> ConnectionId {
        if let Some(connection) = self.clients[client].link {
            return connection;
        }
        self.last_connection += 1;
        let connection = ConnectionId::new(self.last_connection);
        let open: Vec<usize> =
            (0..self.cores.len()).filter(|shard| !self.cores[*shard].stopped).collect();
        let shard = *self.rng.pick(&open);
        self.links.insert(connection, Link::new(client, shard, self.now));
        self.clients[client].link = Some(connection);
        let address = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let local = self.node.core_addresses[shard];
        let peer = Peer { address, local, door: Door::Shared };
        self.handle(shard, Event::Accepted { connection, peer });
        if !self.is_crash_due && self.rng.chance(1, 4) {
            let mut bytes = Vec::new();
            resp::request(&mut bytes, &[b"HELLO", b"3"]);
            self.send(connection, &bytes, Asked::Nothing);
        }
        connection
    }

    /// Sends bytes that ask for something.
    pub(super) fn send(&mut self, connection: ConnectionId, bytes: &[u8], asked: Asked) {
        for part in asked.parts() {
            self.in_flight[part.key] += 1;
            if let Some(token) = cause_of(part.command) {
                *self.token_uses.entry(token).or_default() += 1;
            }
        }
        let delay = Duration::from_nanos(self.rng.below(20_000));
        let link = self.links.get_mut(&connection).expect("it is open");
        if link.upstream.is_empty() {
            link.deliver_at = self.now + delay;
        }
        link.send(bytes, asked);
    }

    fn ask(&mut self, client: usize, connection: ConnectionId) {
        let link = &self.links[&connection];
        if link.ending != Ending::Open || link.closing || link.requests.len() >= OUTSTANDING_MAX {
            return;
        }
        let mut bytes = Vec::new();
        if self.rng.chance(self.plan.node_percent, 100) {
            let Some(asked) = self.ask_node(client, &mut bytes) else { return };
            return self.send(connection, &bytes, asked);
        }
        let keys = self.pick_keys(connection);
        if keys.is_empty() {
            resp::request(&mut bytes, &[b"PING"]);
            return self.send(connection, &bytes, Asked::Nothing);
        }
        let reads_only = self.phase == Phase::Starting;
        // Of a key that may be in many ways the next thing asked is which. A damaged one never says.
        let unclear = keys.iter().find(|key| self.oracle.ways(**key) > WAYS_MAX);
        let asked = match unclear {
            Some(key) if !self.rng.chance(1, 20) => self.desk().verify(*key, &mut bytes),
            _ => {
                let is_prompt = self.is_prompt(connection);
                Desk { is_prompt, ..self.desk() }.draw(&keys, reads_only, &mut bytes)
            }
        };
        self.send(connection, &bytes, asked);
    }

    /// Whether what is sent now runs as soon as it arrives. A session that has too much to send holds
    /// requests back, and what a key's life is counted from then, only the shard knows.
    fn is_prompt(&self, connection: ConnectionId) -> bool {
        let one = self.plan.value_bytes_max as usize + 200;
        let reply_bytes_max = |asked: &Asked| match asked {
            Asked::Keys(parts) => parts.iter().fold(0, |sum, part| match part.command {
                Command::DynGet => sum + one * self.plan.siblings_max,
                _ => sum + one,
            }),
            _ => OUTPUT_BYTES_SOFT,
        };
        let link = &self.links[&connection];
        let replies = link.requests.iter().map(|request| reply_bytes_max(&request.asked));
        link.unsent + replies.sum::<usize>() < OUTPUT_BYTES_SOFT
    }

    pub(super) fn desk(&mut self) -> Desk<'_> {
        let wall = self.wall();
        Desk {
            rng: &mut self.rng,
            plan: &self.plan,
            keys: &self.keys,
            tokens: &self.tokens,
            oracle: &mut self.oracle,
            wall,
            is_prompt: true,
        }
    }

    /// Keys that are not asked for by too many already: one mostly, several now and then.
    fn pick_keys(&mut self, connection: ConnectionId) -> Vec<KeyIndex> {
        let wanted = if self.rng.chance(1, 12) { self.rng.between(2, 4) } else { 1 };
        let mut keys = Vec::new();
        for _ in 0..wanted {
            let key = self.rng.below(self.keys.len() as u64) as usize;
            let busy = self.in_flight[key] + self.oracle.pending(key);
            // Of a buffered key every order is another past that a crash may bring back: it is asked
            // for by one connection at a time, whose own order counts.
            let is_own = busy == 0 || self.asked_by[key] == connection;
            let is_free = !self.keys[key].buffered || (is_own && self.doubts[key] < BUFFERED_MAX);
            if is_free && busy < AT_ONCE && !keys.contains(&key) {
                self.asked_by[key] = connection;
                keys.push(key);
            }
        }
        keys
    }

    fn ask_node(&mut self, client: usize, bytes: &mut Vec<u8>) -> Option<Asked> {
        match self.rng.below(8) {
            0 => {
                resp::request(bytes, &[b"DBSIZE"]);
                Some(Asked::DbSize)
            }
            1 => {
                let slot = self.rng.pick(&self.keys).slot;
                let words: [&[u8]; 3] =
                    [b"CLUSTER", b"COUNTKEYSINSLOT", &slot.to_string().into_bytes()];
                resp::request(bytes, &words);
                let mut all = (0..self.keys.len()).filter(|key| self.keys[*key].slot == slot);
                let only = all.next().filter(|key| all.next().is_none() && self.is_watched(*key));
                Some(Asked::CountSlot(only.into_iter().map(Part::exists).collect()))
            }
            2 => {
                resp::request(bytes, &[b"DYN.STATS"]);
                Some(Asked::Stats)
            }
            _ => self.ask_step(client, bytes),
        }
    }

    /// The next step of the client's walk.
    pub(super) fn ask_step(&mut self, client: usize, bytes: &mut Vec<u8>) -> Option<Asked> {
        if self.clients[client].walk.is_none() {
            let keys = 0..self.keys.len();
            let certain = |key| (self.oracle.exists(key), self.oracle.operations_of(key));
            let walk = Walk {
                cursor: b"0".to_vec(),
                met: vec![0; self.keys.len()],
                began: keys.map(certain).collect(),
                waits: false,
            };
            self.clients[client].walk = Some(walk);
        }
        let walk = self.clients[client].walk.as_mut().expect("there is one now");
        if std::mem::replace(&mut walk.waits, true) {
            return None;
        }
        let count = self.rng.pick(&["1", "3", "10", "100"]);
        resp::request(bytes, &[b"SCAN", &walk.cursor, b"COUNT", count.as_bytes()]);
        let watched = (0..self.keys.len()).filter(|key| self.is_watched(*key));
        Some(Asked::Scan(watched.take(WATCHED_MAX).map(Part::exists).collect()))
    }

    /// Whether something is being done to a key, and what else tells of it is judged with that.
    fn is_watched(&self, key: KeyIndex) -> bool {
        let busy = self.in_flight[key] + self.oracle.pending(key);
        (1..AT_ONCE).contains(&busy) && !self.keys[key].buffered
    }

    /// A client that does not keep to what is polite. Whether it does nothing else now.
    fn is_rude(&mut self, client: usize, connection: ConnectionId) -> bool {
        if !self.rng.chance(self.plan.rude_percent, 100) {
            return false;
        }
        let freeze = Duration::from_micros(self.rng.below(50_000));
        let link = self.links.get_mut(&connection).expect("it is open");
        if link.ending != Ending::Open || link.closing {
            return true;
        }
        match self.rng.below(4) {
            0 => {
                let shard = link.shard;
                self.coverage.note(Sometimes::Disconnected);
                self.lose(connection);
                self.handle(shard, Event::Closed { connection });
            }
            1 => {
                self.coverage.note(Sometimes::HalfClosed);
                link.ending = Ending::HalfClosing;
                self.clients[client].link = None; // it goes on with another
                self.clients[client].walk = None;
            }
            _ => link.sent_at = self.now + freeze,
        }
        true
    }

    /// The connection is gone, with everything on it.
    pub(super) fn lose(&mut self, connection: ConnectionId) {
        let Some(link) = self.links.remove(&connection) else { return };
        let client = &mut self.clients[link.client];
        if client.link == Some(connection) {
            client.link = None;
            client.walk = None;
        }
        for request in link.requests {
            for part in request.asked.parts() {
                self.in_flight[part.key] -= 1;
                if let Some(id) = part.id {
                    self.open.remove(&id);
                    self.oracle.abandoned(id, self.wall());
                    self.abandoned += 1;
                    self.doubts[part.key] += 10;
                    continue;
                }
                if let Some(token) = cause_of(part.command) {
                    self.release_token(part.key, token);
                }
            }
        }
        // Many that are abandoned have many orders: from time to time all of them are let end.
        self.draining |= self.abandoned > 3;
    }

    /// Requests whose last byte is with the shard may run from now on.
    pub(super) fn arrive(&mut self, connection: ConnectionId) {
        let wall = self.wall();
        let link = self.links.get_mut(&connection).expect("it is open");
        let (delivered, now) = (link.delivered, self.now);
        for request in &mut link.requests {
            if request.arrived || request.end > delivered {
                continue;
            }
            (request.arrived, request.arrived_at) = (true, now);
            // What was not asked for by name has no place in the order of what was.
            let in_order = matches!(request.asked, Asked::Keys(_));
            for part in request.asked.parts_mut() {
                if let Some(lives) = part.lives {
                    part.command = expiring(part.command, wall + lives);
                }
                let by = in_order.then_some(connection);
                let id = self.oracle.came(by, part.key, part.command, wall);
                part.id = Some(id);
                self.open.insert(id);
            }
        }
    }

    /// What goes wrong between turns.
    fn trouble(&mut self) {
        if self.faults_are_over {
            return;
        }
        let is_given_up = self.poisoned && self.rng.chance(1, 30);
        if is_given_up || self.pace.wants_crash(self.operations, self.faults()) {
            self.is_crash_due = true;
            return;
        }
        if self.is_time(self.plan.jump_one_in) {
            self.coverage.note(Sometimes::WallJumped);
            let far = 1 << self.rng.below(22);
            let before = self.wall();
            self.jumped += self.rng.between(0, 2 * far) as i64 - far as i64;
            for wall in [before, self.wall()] {
                self.oracle.wall_was(self.open.iter().copied(), wall);
            }
        }
        self.stall();
        if let Some(slack) = self.plan.quota_slack_bytes {
            if self.disk.dials.quota_bytes == u64::MAX && self.rng.chance(1, 100) {
                self.disk.dials.quota_bytes = self.disk.used_bytes() + slack;
            } else if self.rng.chance(1, 100) {
                self.disk.dials.quota_bytes = u64::MAX;
            }
        }
        if self.is_time(self.plan.stop_one_in) && !self.poisoned {
            self.begin_stop();
        }
    }

    /// The disk answers nothing for longer than clients wait.
    fn stall(&mut self) {
        if self.stalled_until.is_some_and(|until| until <= self.now) {
            self.stalled_until = None;
            self.disk.dials.latency_nanos = self.plan.dials.latency_nanos;
        }
        if self.stalled_until.is_none() && self.is_time(self.plan.stall_one_in) {
            self.stall_was_felt = false;
            self.coverage.note(Sometimes::DiskStalled);
            self.stalled_until = Some(self.now + Duration::from_micros(300));
            self.disk.dials.latency_nanos = 600_000_000;
        }
    }

    fn is_time(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.rng.chance(1, one_in)
    }

    /// Reads the next keys after a start; when all are read, the clients may go on.
    fn verify(&mut self) {
        self.clients[VERIFIER].act_at = self.now + Duration::from_micros(20);
        if self.unverified.is_empty() {
            self.oracle.judge_cuts();
            return self.enter(Phase::Running);
        }
        let connection = self.connect(VERIFIER);
        while self.verifying.len() < 16
            && !self.is_crash_due
            && let Some(key) = self.unverified.pop_front()
        {
            self.verifying.insert(key);
            let mut bytes = Vec::new();
            let asked = self.desk().verify(key, &mut bytes);
            self.send(connection, &bytes, asked);
        }
    }

    /// The verifier was answered: read again what was refused for a reason that passes.
    pub(super) fn verified(&mut self, client: usize, key: KeyIndex, is_told: bool) {
        if client == VERIFIER && self.verifying.remove(&key) && !is_told {
            self.unverified.push_back(key);
        }
    }

    /// Everything under way has ended, as far as the node is concerned, and is on the disk.
    pub(super) fn settle_if_idle(&mut self) {
        if !self.draining || self.phase != Phase::Running {
            return;
        }
        let is_poisoned = |core: &Core| core.shard.store().health() == Health::Poisoned;
        if self.cores.iter().any(is_poisoned) {
            self.is_crash_due = true; // nothing will ever be on the disk
            return;
        }
        let is_idle = self.mesh.values().all(|queue| queue.is_empty())
            && self.disk.next_at().is_none()
            && self.open.is_empty()
            && self.links.values().all(|link| link.upstream.is_empty())
            && self.cores.iter().all(|core| core.shard.store().unsynced_bytes() == 0)
            && self.nobody_is_parked();
        if is_idle {
            self.oracle.stopped();
            self.abandoned = 0;
            self.doubts.fill(0);
            self.draining = false;
        }
    }
}

/// The context that a command uses.
pub(super) fn cause_of(command: Command) -> Option<u32> {
    match command {
        Command::DynPut { cause: Cause::Token(token), .. }
        | Command::DynDel(Cause::Token(token)) => Some(token),
        _ => None,
    }
}
