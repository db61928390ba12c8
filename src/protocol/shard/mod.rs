//! The hub of one core: the only room that knows every machine.
//!
//! [`Shard::handle`] takes what happened and leaves what is to be done. It delivers to the rooms and
//! carries what one of them asks for to another; it decides nothing of theirs.
//!
//! # The way of a request
//!
//! Bytes of a client go to its `Session`, which hands out commands. A command of one key goes to the
//! core that owns the key (`mesh`), is carried out by the `keeper` there, and its reply leaves in
//! the order of the client's requests. What must wait for the disk, be it for a record, for room in
//! the log or for a sync, is parked, and the core goes on.
//!
//! # Invariants
//!
//! - A reply that tells of a write leaves only after the write is as durable as its namespace says:
//!   it is held in `parked` until the log's own word that the record is synced. That holds for the
//!   one who wrote, for readers of the key, and for walks and counts that met it.
//! - A request is answered by its deadline, which counts from when all of it was read: the core that
//!   holds it looks every [`SWEEP_EVERY`]. Only what its client asked before it, with more patience,
//!   may keep the answer back.
//! - A stop answers everybody, also across cores. A core that is told to stop tells the others that
//!   it asks for nothing more. It ends when its log is stopped, when all others have said the same,
//!   so that nobody will ask it, and when all that its clients asked is answered; or when `stop`
//!   gives up.
//! - Each event ends with everything said: the driver may stop calling at any event, and a crash
//!   there loses nothing that was told.

mod abroad;
mod cluster;
mod count;
mod counters;
mod effect;
mod event;
mod keeper;
mod mesh;
mod node;
mod parked;
mod settings;
mod stop;
mod walk;
mod walks;

use std::collections::BTreeSet;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::id::ConnectionId;
use crate::base::id::LinkId;
use crate::base::id::ShardId;
use crate::base::id::Ticket;
use crate::base::outbox::Outbox;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::protocol::coordinator::RequestError;
use crate::protocol::peers;
use crate::protocol::replica::Replica;
use crate::protocol::ring::slot_of;
use crate::protocol::session;
use crate::protocol::session::Executor;
use crate::protocol::session::Outcome;
use crate::protocol::session::RequestId;
use crate::protocol::session::Session;
use crate::protocol::session::State;
use crate::protocol::session::Work;
use crate::protocol::shard::keeper::Attempt;
use crate::protocol::shard::keeper::Keeper;
use crate::protocol::shard::mesh::Kind;
use crate::protocol::shard::node::Gathering;
use crate::protocol::shard::parked::Asked;
use crate::protocol::shard::parked::Held;
use crate::protocol::shard::parked::HeldReply;
use crate::protocol::shard::parked::Origin;
use crate::protocol::shard::stop::Stop;
use crate::protocol::shard::walk::Walk;
use crate::protocol::shard::walks::PER_TURN;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::ahead::AHEAD_MAX;
use crate::protocol::wire::ahead::keys_ahead;
use crate::protocol::wire::ahead::only_key;
use crate::protocol::wire::command::KeyCommand;
use crate::protocol::wire::key_command;
use crate::protocol::wire::reply;
use crate::storage;
use crate::storage::Notice;
use crate::storage::Store;
use crate::storage::effect::Resident;

pub use counters::Counters;
pub use effect::Effect;
pub use event::Door;
pub use event::Event;
pub use event::Peer;
pub use settings::Cluster;
pub use settings::NodeSettings;
pub use settings::Settings;

/// While something waits or connections are open, the shard looks this often whether it waits too
/// long: so much later than its deadline may a request be answered.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Requests that waited for room and go on in one turn: they must not hold up those who read.
const RESUMED_PER_TURN: usize = 1024;

/// Entries of keydirs that one turn looks at for tombstones to reap.
const REAPED_PER_SWEEP: usize = 512;

/// One core's share of a node.
#[derive(Debug)]
pub struct Shard {
    keeper: Keeper,
    sessions: ahash::HashMap<ConnectionId, Box<Session>>,
    /// The same in order, for everything that goes over all of them.
    open: BTreeSet<ConnectionId>,
    /// Connections that came through this core's own port.
    at_own_port: BTreeSet<ConnectionId>,
    /// Connections that the driver was told not to read from.
    quiet: BTreeSet<ConnectionId>,
    /// Commands of the node that wait for other cores' parts.
    gatherings: Vec<Gathering>,
    sweep_at: Instant,
    reaper: node::Reaper,
    started: bool,
    log_stopped: bool,
    /// Cores that stop too, and ask for nothing more.
    heard_last: u16,
    stop: Option<Stop>,
}

/// What a session's commands are carried out with.
struct Hands<'a> {
    keeper: &'a mut Keeper,
    gatherings: &'a mut Vec<Gathering>,
    resident: &'a dyn Resident,
    connections: usize,
    /// Whether the client came through this core's own port: then what it asks of the node is of
    /// this core.
    own_only: bool,
}

impl Shard {
    /// A shard that has not begun. `entropy` is true randomness: the actor of this start is drawn
    /// from it.
    pub fn new(settings: Settings, entropy: u64) -> Self {
        let store = Store::new(settings.storage, entropy);
        Self {
            keeper: Keeper::new(settings.shard, settings.node, store, entropy),
            sessions: ahash::HashMap::default(),
            open: BTreeSet::new(),
            at_own_port: BTreeSet::new(),
            quiet: BTreeSet::new(),
            gatherings: Vec::new(),
            sweep_at: Instant::START,
            reaper: node::Reaper::default(),
            started: false,
            log_stopped: false,
            heard_last: 0,
            stop: None,
        }
    }

    /// These pieces of input will be [`Event::Received`] in a moment: looks for what their requests
    /// will need, all together. Nothing changes by it. Pipelines are left to their sessions.
    pub fn foresee(&self, pieces: &[&[u8]], resident: &dyn Resident) {
        for pieces in pieces.chunks(AHEAD_MAX) {
            let keys: SmallVec<[&[u8]; AHEAD_MAX]> =
                pieces.iter().filter_map(|piece| only_key(piece)).collect();
            if keys.len() > 1 {
                self.keeper.foresee(&keys, resident);
            }
        }
    }

    /// Hears what happened, and leaves what is to be done in `out`.
    pub fn handle(
        &mut self,
        now: Now,
        event: Event<'_>,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        match event {
            Event::Start => self.keeper.store.start(&mut self.keeper.disk),
            Event::Disk(event) => {
                self.keeper.store.handle(now.monotonic, event, &mut self.keeper.disk);
            }
            Event::Accepted { connection, peer } => self.accept(now, connection, peer, out),
            Event::Received { connection, bytes } => {
                self.keeper.counters.bytes_in += bytes.len() as u64;
                self.with_session(now, connection, resident, out, |session, hands, arena| {
                    session.receive(now, bytes, hands, arena);
                });
            }
            Event::EndOfInput { connection } => {
                self.with_session(now, connection, resident, out, |session, _, _| {
                    session.end_of_input(now);
                });
            }
            Event::Sent { connection, bytes } => {
                self.with_session(now, connection, resident, out, |session, hands, arena| {
                    session.sent(now, bytes, hands, arena);
                });
            }
            Event::Closed { connection } => self.forget(connection),
            Event::Mesh { from, bytes } => self.on_mesh(now, from, bytes, resident, out),
            Event::PeerOpened { link } => self.with_peers(now, |peers, now, out| {
                peers.opened(now, link, out);
            }),
            Event::PeerAccepted { link } => self.with_peers(now, |peers, now, out| {
                peers.accepted(now, link, out);
            }),
            Event::PeerReceived { link, bytes } => self.hear_peer(now, link, bytes, resident, out),
            Event::PeerSent { link, bytes } => {
                self.with_peers(now, |peers, _, _| peers.sent(link, bytes));
            }
            Event::PeerClosed { link } => {
                self.with_peers(now, |peers, now, _| peers.closed(now, link));
            }
            Event::LogRemoved(log) => self.keeper.store.forget_log(log),
            Event::Tick => self.tick(now, resident, out),
            Event::TurnEnd => {
                self.keeper.flush_if_due(now);
                self.keeper.store.flush(now.monotonic, &mut self.keeper.disk);
                self.keeper.walks.end_turn();
            }
            Event::Stop => {
                self.keeper.stopping = true;
                self.keeper.say_last();
                self.stop = Some(Stop::new(now.monotonic, self.keeper.node.request_timeout));
                self.keeper.store.stop(now.monotonic, &mut self.keeper.disk);
                self.refuse_roomless(now, RequestError::Stopping, resident, out);
            }
        }
        self.deliver_notices(now, resident, out);
        self.hear_of_peers(now, resident, out);
        let has_ended = self.go_on_stopping(now, resident, out);
        self.hand_over(out);
        if has_ended {
            out.push(Effect::Stopped); // after its last words: nothing follows
        }
    }

    /// When [`Event::Tick`] should come, if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let waits = !self.keeper.parked.is_empty() || self.keeper.walks.are_reading();
        let busy = !self.open.is_empty() || waits || self.keeper.abroad.len() > 0;
        let goes_on = self.keeper.walks.are_paused() || self.keeper.resumes_writes;
        let goes_on = goes_on.then_some(Instant::START);
        let sweep = (busy || self.reaper.has_work()).then_some(self.sweep_at);
        let stop = self.stop.and_then(|stop| stop.deadline());
        let abroad = self.keeper.abroad.deadline();
        [self.keeper.store.deadline(), self.keeper.flush_at, sweep, goes_on, stop, abroad]
            .into_iter()
            .flatten()
            .min()
    }

    /// What it counted.
    pub fn counters(&self) -> &Counters {
        &self.keeper.counters
    }

    /// Requests that wait in this core, also those of clients that are gone.
    pub fn waiting(&self) -> usize {
        self.keeper.parked.len() + self.keeper.abroad.len()
    }

    /// The other nodes as this core sees them, if there are any.
    pub fn peers(&self) -> Option<&peers::Peers> {
        self.keeper.abroad.peers.as_ref()
    }

    /// Its log, to look at.
    pub fn store(&self) -> &Store {
        &self.keeper.store
    }

    fn accept(&mut self, now: Now, connection: ConnectionId, peer: Peer, out: &mut Outbox<Effect>) {
        self.keeper.counters.connections += 1;
        let ends = session::Peer { address: peer.address, local: peer.local };
        let settings = Arc::clone(&self.keeper.node.sessions);
        let start = out.arena.len();
        let session = Session::open(now, settings, connection, ends, &mut out.arena);
        self.sessions.insert(connection, Box::new(session));
        self.open.insert(connection);
        if peer.door == Door::Core {
            self.at_own_port.insert(connection);
        }
        self.say(connection, start, out);
        self.settle(connection, out);
    }

    fn forget(&mut self, connection: ConnectionId) {
        if let Some(session) = self.sessions.remove(&connection) {
            let bytes = session.bytes_held();
            self.keeper.session_bytes = self.keeper.session_bytes.saturating_sub(bytes);
        }
        self.open.remove(&connection);
        self.at_own_port.remove(&connection);
        self.quiet.remove(&connection);
    }

    /// Lets a session do something, then says what it said and does what it wants.
    fn with_session(
        &mut self,
        _now: Now,
        connection: ConnectionId,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
        act: impl FnOnce(&mut Session, &mut Hands<'_>, &mut Vec<u8>),
    ) {
        let Some(session) = self.sessions.get_mut(&connection) else { return };
        let held = session.bytes_held();
        let start = out.arena.len();
        let connections = self.open.len();
        let own_only = self.at_own_port.contains(&connection);
        let keeper = &mut self.keeper;
        let mut hands =
            Hands { keeper, gatherings: &mut self.gatherings, resident, connections, own_only };
        act(session, &mut hands, &mut out.arena);
        let bytes = self.keeper.session_bytes + session.bytes_held();
        self.keeper.session_bytes = bytes.saturating_sub(held);
        self.say(connection, start, out);
        self.settle(connection, out);
    }

    /// Sends what was appended to the arena since `start`.
    fn say(&mut self, connection: ConnectionId, start: usize, out: &mut Outbox<Effect>) {
        let end = out.arena.len();
        if start == end {
            return;
        }
        self.keeper.counters.bytes_out += (end - start) as u64;
        if let Some(Effect::Send { connection: last, bytes }) = out.last_mut()
            && *last == connection
            && bytes.end == start
        {
            bytes.end = end;
            return;
        }
        out.push(Effect::Send { connection, bytes: start..end });
    }

    /// Tells the driver what a session wants of its socket.
    fn settle(&mut self, connection: ConnectionId, out: &mut Outbox<Effect>) {
        let Some(session) = self.sessions.get(&connection) else { return };
        match session.state() {
            State::Open => {}
            State::Flush(_) => {
                self.forget(connection);
                return out.push(Effect::Close { connection });
            }
            State::Abort(_) => {
                self.forget(connection);
                return out.push(Effect::Abort { connection });
            }
        }
        if session.wants_input() {
            if self.quiet.remove(&connection) {
                out.push(Effect::StartReading { connection });
            }
        } else if self.quiet.insert(connection) {
            out.push(Effect::StopReading { connection });
        }
    }

    fn on_mesh(
        &mut self,
        now: Now,
        from: ShardId,
        mut bytes: &[u8],
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        while let Some(message) = mesh::take(&mut bytes) {
            let (request, protocol) = (message.request, message.protocol);
            match message.kind {
                Kind::Request => {
                    let (deadline, command) = mesh::awaited(message.body);
                    let origin = Origin::There(from, request);
                    let asked = Asked { origin, protocol, deadline };
                    self.serve_other_core(now, asked, &written_here(command), resident, out);
                }
                Kind::Answer => self.answer(now, request, message.body, resident, out),
                Kind::Question => match walk::handed_on(message.body) {
                    Some((home, walk)) => {
                        let origin = match home == self.keeper.shard {
                            true => Origin::Here(request),
                            false => Origin::There(home, request),
                        };
                        self.take_over(now, origin, walk, resident, out);
                    }
                    None => {
                        self.answer_question(
                            now,
                            from,
                            request,
                            protocol,
                            message.body,
                            resident,
                            out,
                        );
                    }
                },
                Kind::PeerRequest => {
                    let link = LinkId::new(request.connection.to_raw());
                    let (deadline, command) = mesh::awaited(message.body);
                    let origin = Origin::PeerThere(from, link, request.sequence);
                    let asked = Asked { origin, protocol, deadline };
                    self.serve_other_core(now, asked, &written_here(command), resident, out);
                }
                Kind::PeerAnswer => {
                    let link = LinkId::new(request.connection.to_raw());
                    self.keeper.abroad.reply(link, request.sequence, message.body);
                }
                Kind::Last => self.heard_last += 1,
                Kind::Part => {
                    let counted = self.keeper.add_part(request, message.body);
                    let done = counted
                        .or_else(|| Gathering::add(&mut self.gatherings, request, message.body));
                    if let Some(reply) = done {
                        self.answer(now, request, &reply, resident, out);
                    }
                }
            }
        }
    }

    fn serve_other_core(
        &mut self,
        now: Now,
        asked: Asked,
        command: &KeyCommand<'_>,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        if self.keeper.stopping {
            return self.answer_error(now, asked.origin, RequestError::Stopping, resident, out);
        }
        let mut reply = Vec::new();
        let outcome = self.keeper.execute(now, resident, asked, command, &mut reply);
        if outcome == Outcome::Done {
            self.answer_origin(now, asked.origin, &reply, resident, out);
        }
    }

    #[allow(clippy::too_many_arguments)] // A message, and where to answer.
    fn answer_question(
        &mut self,
        now: Now,
        from: ShardId,
        request: RequestId,
        protocol: Protocol,
        body: &[u8],
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        if let Some(deadline) = count::asked_by_another(body) {
            let (origin, mut part) = (Origin::Count(from, request), Vec::new());
            if self.keeper.count_own(origin, deadline, &mut part) == Outcome::Done {
                self.answer_origin(now, origin, &part, resident, out);
            }
            return;
        }
        let part = node::part_of(&self.keeper, self.open.len(), body);
        let queue = &mut self.keeper.mesh[from.to_raw() as usize];
        mesh::put(queue, Kind::Part, request, protocol, |out| out.extend_from_slice(&part));
    }

    /// Goes on with a walk over keys that another core hands on.
    fn take_over(
        &mut self,
        now: Now,
        origin: Origin,
        walk: Walk,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        let mut reply = Vec::new();
        if self.keeper.begin_walk(now, resident, origin, walk, &mut reply) == Outcome::Done {
            self.answer_origin(now, origin, &reply, resident, out);
        }
    }

    /// Goes on with a walk over keys, which may look at so many entries.
    fn go_on(
        &mut self,
        now: Now,
        origin: Origin,
        walk: Walk,
        entries: usize,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        let mut reply = Vec::new();
        if self.keeper.walk(now, resident, origin, walk, entries, &mut reply) == Outcome::Done {
            self.answer_origin(now, origin, &reply, resident, out);
        }
    }

    /// Walks whose turn it is go on, until this turn has looked at enough entries.
    fn resume_walks(&mut self, now: Now, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        for _ in 0..PER_TURN {
            let Some((origin, walk, entries)) = self.keeper.walks.next_paused() else { return };
            self.go_on(now, origin, walk, entries, resident, out);
        }
    }

    /// Brings a reply to its client, if that is still there.
    fn answer(
        &mut self,
        now: Now,
        request: RequestId,
        reply: &[u8],
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        self.with_session(now, request.connection, resident, out, |session, hands, arena| {
            session.answer(now, request, reply, hands, arena);
        });
    }

    fn answer_origin(
        &mut self,
        now: Now,
        origin: Origin,
        reply: &[u8],
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        match origin {
            Origin::Here(request) => self.answer(now, request, reply, resident, out),
            Origin::There(shard, request) => {
                self.keeper.send(shard, Kind::Answer, request, reply);
            }
            Origin::Peer(link, number) => self.keeper.abroad.reply(link, number, reply),
            Origin::PeerThere(shard, link, number) => {
                self.keeper.send(shard, Kind::PeerAnswer, of_peer(link, number), reply);
            }
            Origin::Count(shard, request) if shard == self.keeper.shard => {
                if let Some(reply) = self.keeper.add_part(request, reply) {
                    self.answer(now, request, &reply, resident, out);
                }
            }
            Origin::Count(shard, request) => self.keeper.send(shard, Kind::Part, request, reply),
        }
    }

    fn answer_error(
        &mut self,
        now: Now,
        origin: Origin,
        error: RequestError,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        let mut bytes = Vec::new();
        reply::error(&mut bytes, error);
        self.answer_origin(now, origin, &bytes, resident, out);
    }

    fn deliver_notices(&mut self, now: Now, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        while let Some(notice) = self.keeper.store.next_notice() {
            match notice {
                Notice::Started => {
                    self.keeper.replica = Some(Replica::new(self.keeper.store.actor()));
                    self.started = true;
                    out.push(Effect::Started);
                    self.with_peers(now, |peers, now, out| peers.start(now, out));
                }
                Notice::Failed(error) => out.push(Effect::Failed(error)),
                Notice::Synced { upto } => {
                    while let Some(held) = self.keeper.parked.next_synced(upto) {
                        self.let_out(now, held, resident, out);
                    }
                }
                Notice::Fetched { ticket, result } => {
                    self.on_fetched(now, ticket, result, resident, out);
                }
                Notice::Room => self.resume_writes(now, resident, out),
                Notice::Released(log) => out.push(Effect::Released(log)),
                Notice::Poisoned => self.on_poisoned(now, resident, out),
                Notice::Stopped => {
                    self.refuse_rest(now, resident, out);
                    self.log_stopped = true;
                }
            }
        }
    }

    /// What was held is synced.
    fn let_out(&mut self, now: Now, held: Held, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        let origin = held.origin;
        match held.reply {
            HeldReply::Fixed(reply) => self.answer_origin(now, origin, reply, resident, out),
            HeldReply::Owned(reply) => self.answer_origin(now, origin, &reply, resident, out),
            HeldReply::Walk(walk) => {
                let entries = self.keeper.walks.entries_now();
                self.go_on(now, origin, *walk, entries, resident, out);
            }
        }
    }

    fn on_fetched(
        &mut self,
        now: Now,
        ticket: Ticket,
        result: Result<(), storage::effect::Failure>,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        for (origin, mut walk) in self.keeper.walks.fetched(ticket) {
            if result.is_err() {
                walk.skip();
            }
            // The record is in memory now, and may not be when its turn comes.
            let entries = self.keeper.walks.entries_now().max(1);
            self.go_on(now, origin, walk, entries, resident, out);
        }
        // An answer may let out what its session held back, of the same key: only after all of them.
        let mut replies = Vec::new();
        for waiting in self.keeper.parked.fetched(ticket) {
            let mut reply = Vec::new();
            let outcome = if result.is_ok() {
                let command = written_here(&waiting.command);
                self.keeper.execute(now, resident, waiting.asked, &command, &mut reply)
            } else {
                reply::error(&mut reply, RequestError::Damaged);
                Outcome::Done
            };
            if outcome == Outcome::Done {
                replies.push((waiting.asked.origin, reply));
            }
        }
        for (origin, reply) in replies {
            self.answer_origin(now, origin, &reply, resident, out);
        }
    }

    /// Requests that wait for room go on in their order, until there is none again.
    fn resume_writes(&mut self, now: Now, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        self.keeper.resumes_writes = false;
        let mut reply = Vec::new();
        for _ in 0..RESUMED_PER_TURN {
            let Some(waiting) = self.keeper.parked.next_roomless() else { return };
            let command = written_here(&waiting.command);
            let target = self.keeper.target_of(&command);
            reply.clear();
            let attempt =
                self.keeper.attempt(now, resident, waiting.asked, &target, &command, &mut reply);
            match attempt {
                Attempt::NoRoom => return self.keeper.parked.return_roomless(waiting),
                Attempt::Over(Outcome::Parked) => {}
                Attempt::Over(Outcome::Done) => {
                    self.answer_origin(now, waiting.asked.origin, &reply, resident, out);
                }
            }
        }
        self.keeper.resumes_writes = true;
    }

    /// There will be no room for those who wait: nothing of theirs was stored.
    fn refuse_roomless(
        &mut self,
        now: Now,
        error: RequestError,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        while let Some(waiting) = self.keeper.parked.next_roomless() {
            self.keeper.count_error(error);
            self.answer_error(now, waiting.asked.origin, error, resident, out);
        }
    }

    /// The log is stopped: those who wait for a record of it are told so. The driver goes after this,
    /// and whoever has no answer by then would get none.
    fn refuse_rest(&mut self, now: Now, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        let waiting = self.keeper.parked.all_waiting().into_iter().map(|one| one.asked.origin);
        let walks = self.keeper.walks.take_all().into_iter().map(|(origin, _)| origin);
        for origin in waiting.chain(walks).collect::<Vec<Origin>>() {
            self.keeper.count_error(RequestError::Stopping);
            self.answer_error(now, origin, RequestError::Stopping, resident, out);
        }
    }

    /// What was not synced by now never will be: those who wait for it are told what is known.
    fn on_poisoned(&mut self, now: Now, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        while let Some(held) = self.keeper.parked.pop_held() {
            let error = if held.write {
                RequestError::Unknown { had: 0, needed: 1 }
            } else {
                RequestError::ReadOnlyPoisoned
            };
            self.answer_error(now, held.origin, error, resident, out);
        }
        self.refuse_roomless(now, RequestError::ReadOnlyPoisoned, resident, out);
    }

    fn tick(&mut self, now: Now, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        self.keeper.store.tick(now.monotonic, &mut self.keeper.disk);
        self.keeper.flush_if_due(now);
        if self.started {
            self.with_peers(now, |peers, now, out| peers.tick(now, out));
        }
        self.resume_walks(now, resident, out);
        if self.keeper.resumes_writes {
            self.resume_writes(now, resident, out);
        }
        if now.monotonic < self.sweep_at {
            return;
        }
        self.sweep_at = now.monotonic + SWEEP_EVERY;
        self.answer_late(now, resident, out);
        self.reaper.sweep(&mut self.keeper, REAPED_PER_SWEEP);
        let due = |connection: &ConnectionId| {
            let deadline = self.sessions.get(connection).and_then(|session| session.deadline());
            deadline.is_some_and(|at| at <= now.monotonic)
        };
        let due: Vec<ConnectionId> = self.open.iter().copied().filter(due).collect();
        for connection in due {
            self.with_session(now, connection, resident, out, |session, _, _| session.tick(now));
        }
    }

    fn answer_late(&mut self, now: Now, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        let held = self.keeper.parked.late_held(now.monotonic);
        let mut late: Vec<Origin> = held.into_iter().map(|held| held.origin).collect();
        let waiting = self.keeper.parked.late_waiting(now.monotonic);
        late.extend(waiting.into_iter().map(|waiting| waiting.asked.origin));
        let abroad = self.keeper.abroad.late(now.monotonic);
        late.extend(abroad.into_iter().map(|passed| passed.asked.origin));
        self.keeper.counters.timeouts += late.len() as u64;
        for origin in late {
            self.answer_error(now, origin, RequestError::TimedOut, resident, out);
        }
        for (origin, walk) in self.keeper.walks.take_late(now.monotonic) {
            self.go_on(now, origin, walk, 0, resident, out); // it tells what it has
        }
        for waiting in self.keeper.parked.late_roomless(now.monotonic) {
            // Not `-TIMEOUT`: it is known that nothing was stored.
            self.keeper.count_error(RequestError::Busy);
            self.answer_error(now, waiting.asked.origin, RequestError::Busy, resident, out);
        }
    }

    /// Hands over what the log and the other cores are to be given.
    fn hand_over(&mut self, out: &mut Outbox<Effect>) {
        for effect in self.keeper.disk.drain() {
            out.push(Effect::Disk(effect));
        }
        self.hand_over_to_peers(out);
        for (shard, messages) in self.keeper.mesh.iter_mut().enumerate() {
            if messages.is_empty() {
                continue;
            }
            let start = out.arena.len();
            out.arena.append(messages);
            let bytes = start..out.arena.len();
            out.push(Effect::Mesh { to: ShardId::new(shard as u16), bytes });
        }
    }
}

impl Executor for Hands<'_> {
    fn foresee(&mut self, input: &[u8]) -> usize {
        let (keys, length) = keys_ahead(input);
        if keys.len() > 1 {
            self.keeper.foresee(&keys, self.resident);
        }
        length
    }

    fn execute(
        &mut self,
        now: Now,
        read_at: Instant,
        request: RequestId,
        protocol: Protocol,
        work: Work<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        let command = match work {
            Work::Key(command) => command,
            Work::Node(command) => {
                let connections = self.connections;
                return node::execute(
                    self.keeper,
                    self.gatherings,
                    connections,
                    now,
                    read_at,
                    self.resident,
                    self.own_only,
                    request,
                    protocol,
                    &command,
                    reply,
                );
            }
        };
        if self.keeper.stopping {
            reply::error(reply, RequestError::Stopping);
            return Outcome::Done;
        }
        let deadline = self.keeper.deadline_of(read_at, &command.operation);
        if deadline <= now.monotonic {
            // It was held back too long behind others of its connection: nothing was done.
            return self.keeper.refuse(RequestError::Busy, reply);
        }
        let partition = self.keeper.node.partitions.of(slot_of(command.key));
        let asked = Asked { origin: Origin::Here(request), protocol, deadline };
        if !self.keeper.holds(partition) {
            return self.keeper.pass_on(now, asked, &command, reply);
        }
        let owner = self.keeper.node.owner(partition);
        if owner == self.keeper.shard {
            return self.keeper.execute(now, self.resident, asked, &command, reply);
        }
        self.keeper.counters.forwarded += 1;
        let queue = &mut self.keeper.mesh[owner.to_raw() as usize];
        mesh::put(queue, Kind::Request, request, protocol, |out| {
            mesh::put_deadline(deadline, out);
            key_command::encode(&command, out);
        });
        Outcome::Parked
    }
}

/// How a request of another node is named between cores.
fn of_peer(link: LinkId, number: u64) -> RequestId {
    let connection = ConnectionId::new(link.to_raw());
    RequestId { connection, sequence: number, part: 0 }
}

/// A command that was parked here, or that another core of this node sent.
fn written_here(bytes: &[u8]) -> KeyCommand<'_> {
    key_command::decode(bytes).expect("this process wrote it")
}

impl Keeper {
    /// Tells the other cores that this one asks for nothing more.
    fn say_last(&mut self) {
        let nobody = RequestId { connection: ConnectionId::new(0), sequence: 0, part: 0 };
        for shard in (0..self.mesh.len()).filter(|shard| *shard != usize::from(self.shard.to_raw()))
        {
            mesh::put(&mut self.mesh[shard], Kind::Last, nobody, Protocol::default(), |_| {});
        }
    }

    fn send(&mut self, shard: ShardId, kind: Kind, request: RequestId, reply: &[u8]) {
        let queue = &mut self.mesh[shard.to_raw() as usize];
        mesh::put(queue, kind, request, Protocol::default(), |out| {
            out.extend_from_slice(reply);
        });
    }
}
