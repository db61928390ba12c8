//! Carries out commands of one key on the shard that owns it: coordinator, replica and log in one
//! turn where nothing must be waited for.
//!
//! # The hot path
//!
//! A get of a record in memory, and a set that is acknowledged from the buffer, are answered in the
//! turn in which they came, straight into the client's reply buffer, and allocate nothing. What
//! must wait is parked: see `parked`.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::base::id::PartitionId;
use crate::base::id::ShardId;
use crate::base::id::Ticket;
use crate::base::limits::SIBLINGS_WARN;
use crate::base::outbox::Outbox;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::protocol::coordinator;
use crate::protocol::coordinator::Change;
use crate::protocol::coordinator::Durability;
use crate::protocol::coordinator::Namespace;
use crate::protocol::coordinator::Reply;
use crate::protocol::coordinator::RequestError;
use crate::protocol::replica;
use crate::protocol::replica::Bounds;
use crate::protocol::replica::Lookup;
use crate::protocol::replica::PutError;
use crate::protocol::replica::Replica;
use crate::protocol::replica::Target;
use crate::protocol::ring::slot_of;
use crate::protocol::session::Outcome;
use crate::protocol::shard::abroad::Abroad;
use crate::protocol::shard::count::Count;
use crate::protocol::shard::counters::Counters;
use crate::protocol::shard::parked::Asked;
use crate::protocol::shard::parked::HeldReply;
use crate::protocol::shard::parked::Parked;
use crate::protocol::shard::parked::Waiting;
use crate::protocol::shard::settings::NodeSettings;
use crate::protocol::shard::walks::Walks;
use crate::protocol::version::Cause;
use crate::protocol::version::Content;
use crate::protocol::version::Context;
use crate::protocol::version::Object;
use crate::protocol::version::Record;
use crate::protocol::version::Write;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::ahead::AHEAD_MAX;
use crate::protocol::wire::command::KeyCommand;
use crate::protocol::wire::command::Operation;
use crate::protocol::wire::key_command;
use crate::protocol::wire::reply;
use crate::storage::Health;
use crate::storage::Refusal;
use crate::storage::Store;
use crate::storage::effect as disk;
use crate::storage::effect::Resident;
use crate::storage::key_hash;
use crate::storage::location::Location;
use crate::storage::record::Order;

/// Everything of a shard but its sessions.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) node: Arc<NodeSettings>,
    pub(super) shard: ShardId,
    pub(super) store: Store,
    /// There once the log is open.
    pub(super) replica: Option<Replica>,
    pub(super) parked: Parked,
    pub(super) walks: Walks,
    /// Counts of all cores' keys that this core adds up.
    pub(super) counts: Vec<Count>,
    /// The last write that may have changed how many keys there are, where nothing unsynced is shown.
    pub(super) counted_upto: u64,
    /// Requests that wait for room go on in the next turn.
    pub(super) resumes_writes: bool,
    pub(super) counters: Counters,
    /// When records that were acknowledged from the buffer must begin to be flushed.
    pub(super) flush_at: Option<Instant>,
    unflushed: Unflushed,
    /// What the log asks of the disk in this turn.
    pub(super) disk: Outbox<disk::Effect>,
    /// The other nodes.
    pub(super) abroad: Abroad,
    /// Messages for each of the other shards in this turn.
    pub(super) mesh: Vec<Vec<u8>>,
    pub(super) stopping: bool,
    /// Bytes that sessions hold, as of the last count.
    pub(super) session_bytes: usize,
    scratch: Vec<u8>,
    value: Vec<u8>,
}

/// What was acknowledged from the buffer and not flushed.
#[derive(Clone, Copy, Debug, Default)]
struct Unflushed {
    bytes: u64,
    objects: u64,
}

/// What is asked of a key, and how the key is kept.
#[derive(Clone, Copy, Debug)]
struct Request<'r, 'a> {
    target: &'r Target<'a>,
    protocol: Protocol,
    namespace: &'r Namespace,
    operation: &'r Operation<'a>,
}

/// A reply, or the wait for it.
enum Answer {
    /// It was appended.
    Ready,
    /// It was appended, and may be sent once this sequence is synced.
    After { sequence: u64, write: bool },
    /// The record must be read first.
    Away(Location),
    /// The log has no room for it now.
    NoRoom,
}

/// What came of a request that was carried out, or was not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Attempt {
    /// It is answered, or will be.
    Over(Outcome),
    /// Nothing was done: the log has no room for it now.
    NoRoom,
}

/// Requests that wait for room may take one part in so many of the memory for clients: the rest is
/// for those who only read.
const ROOMLESS_SHARE: usize = 2;

impl Keeper {
    pub(super) fn new(shard: ShardId, node: Arc<NodeSettings>, store: Store, entropy: u64) -> Self {
        let abroad = Abroad::new(node.cluster.peers(), shard, entropy);
        let shards = node.shards() as usize;
        Self {
            node,
            shard,
            store,
            replica: None,
            parked: Parked::default(),
            walks: Walks::default(),
            counts: Vec::new(),
            counted_upto: 0,
            resumes_writes: false,
            counters: Counters::default(),
            flush_at: None,
            unflushed: Unflushed::default(),
            disk: Outbox::default(),
            abroad,
            mesh: vec![Vec::new(); shards],
            stopping: false,
            session_bytes: 0,
            scratch: Vec::new(),
            value: Vec::new(),
        }
    }

    /// Carries out a command of a key that this shard owns, now or when it has waited for something.
    /// Either appends its reply, or parks it.
    pub(super) fn execute(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        asked: Asked,
        command: &KeyCommand<'_>,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let target = self.target_of(command);
        if let Some(ticket) = self.parked.queue_of(target.hash) {
            return self.wait(ticket, asked, command, target.hash, out);
        }
        if self.parked.must_await_room(target.hash, command.operation.is_write()) {
            return self.await_room(asked, command, target.hash, out);
        }
        match self.attempt(now, resident, asked, &target, command, out) {
            Attempt::Over(outcome) => outcome,
            Attempt::NoRoom => self.await_room(asked, command, target.hash, out),
        }
    }

    /// These keys are about to be asked for.
    pub(super) fn foresee(&self, keys: &[&[u8]], resident: &dyn Resident) {
        let places: SmallVec<[(PartitionId, u64); AHEAD_MAX]> = keys
            .iter()
            .map(|key| (self.node.partitions.of(slot_of(key)), key_hash(self.node.hash_seed, key)))
            .filter(|(partition, _)| self.node.owner(*partition) == self.shard)
            .collect();
        self.store.foresee(&places, resident);
    }

    pub(super) fn target_of<'a>(&self, command: &KeyCommand<'a>) -> Target<'a> {
        Target {
            key: command.key,
            partition: self.node.partitions.of(slot_of(command.key)),
            hash: key_hash(self.node.hash_seed, command.key),
        }
    }

    /// Carries out a command whose turn it is.
    pub(super) fn attempt(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        asked: Asked,
        target: &Target<'_>,
        command: &KeyCommand<'_>,
        out: &mut Vec<u8>,
    ) -> Attempt {
        let before = out.len();
        let outcome =
            match self.answer(now, resident, target, asked.protocol, &command.operation, out) {
                Ok(Answer::NoRoom) => return Attempt::NoRoom,
                Ok(Answer::Ready) => Outcome::Done,
                Ok(Answer::After { sequence, write }) => {
                    self.hold(asked, sequence, write, before, out);
                    Outcome::Parked
                }
                Ok(Answer::Away(at)) => {
                    self.counters.parked_reads += 1;
                    let ticket = self.store.read(at, &mut self.disk);
                    let outcome = self.wait(ticket, asked, command, target.hash, out);
                    if outcome == Outcome::Parked {
                        self.parked.follow(target.hash, ticket);
                    }
                    return Attempt::Over(outcome);
                }
                Err(error) => {
                    out.truncate(before);
                    self.count_error(error);
                    reply::error(out, error);
                    Outcome::Done
                }
            };
        self.counters.commands += 1;
        Attempt::Over(outcome)
    }

    /// Queues a command behind a read.
    fn wait(
        &mut self,
        ticket: Ticket,
        asked: Asked,
        command: &KeyCommand<'_>,
        hash: u64,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if self.memory_bytes() > self.node.memory_bytes_max {
            return self.refuse(RequestError::OutOfMemory, out);
        }
        self.parked.wait(ticket, waiting(asked, command, hash));
        Outcome::Parked
    }

    /// Queues a command behind all that wait for room in the log.
    fn await_room(
        &mut self,
        asked: Asked,
        command: &KeyCommand<'_>,
        hash: u64,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let most = self.node.memory_bytes_max;
        if self.parked.roomless_bytes() > most / ROOMLESS_SHARE || self.memory_bytes() > most {
            return self.refuse(RequestError::Busy, out);
        }
        self.counters.parked_writes += 1;
        self.parked.await_room(waiting(asked, command, hash));
        Outcome::Parked
    }

    pub(super) fn refuse(&mut self, error: RequestError, out: &mut Vec<u8>) -> Outcome {
        self.count_error(error);
        reply::error(out, error);
        Outcome::Done
    }

    /// Leaves a reply to a reader where it is if everything up to `sequence` is synced, else keeps it
    /// until then.
    pub(super) fn tell_when_synced(
        &mut self,
        asked: Asked,
        sequence: u64,
        before: usize,
        out: &mut Vec<u8>,
    ) -> Outcome {
        if sequence <= self.store.synced() {
            return Outcome::Done;
        }
        self.store.want_sync();
        self.hold(asked, sequence, false, before, out);
        Outcome::Parked
    }

    /// Takes the reply back out of the buffer and keeps it until its record is synced.
    fn hold(&mut self, asked: Asked, sequence: u64, write: bool, before: usize, out: &mut Vec<u8>) {
        let reply = match &out[before..] {
            b"+OK\r\n" => HeldReply::Fixed(b"+OK\r\n"),
            b":1\r\n" => HeldReply::Fixed(b":1\r\n"),
            other => HeldReply::Owned(other.into()),
        };
        out.truncate(before);
        self.parked.hold(sequence, asked, reply, write);
    }

    fn answer(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        target: &Target<'_>,
        protocol: Protocol,
        operation: &Operation<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Answer, RequestError> {
        self.check_health(operation)?;
        let node = Arc::clone(&self.node);
        let namespace = node.namespaces.of(target.key);
        let request = Request { target, protocol, namespace, operation };
        match operation {
            Operation::Owners => {
                self.answer_owners(target, out);
                Ok(Answer::Ready)
            }
            _ if operation.is_write() => self.write(now, resident, request, out),
            _ => self.read(now, resident, request, out),
        }
    }

    fn read(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        request: Request<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<Answer, RequestError> {
        let Request { target, protocol, namespace, operation } = request;
        if let Operation::DynGet(options) | Operation::ExplainGet(options) = operation {
            coordinator::check_read(namespace, options)?;
        }
        let secret = &self.node.context_secret;
        let (key, wall) = (target.key, now.wall);
        let order = match replica::look_up(&self.store, resident, target) {
            Lookup::Away(at) => return Ok(Answer::Away(at)),
            Lookup::Damaged(at) => {
                self.quarantine(target, at);
                return Err(RequestError::Damaged);
            }
            Lookup::Doubtful(_) => return Err(RequestError::Damaged),
            Lookup::Missing => {
                self.counters.misses += 1;
                coordinator::answer_from(operation, key, None, wall, secret, protocol, out);
                return Ok(Answer::Ready);
            }
            Lookup::Found(held) => {
                let bytes = Record::object_bytes(held.bytes).map_err(|_| RequestError::Damaged)?;
                let object = Object::decode(bytes).map_err(|_| RequestError::Damaged)?;
                self.counters.hits += 1;
                let object = Some(&object);
                coordinator::answer_from(operation, key, object, wall, secret, protocol, out);
                held.order
            }
        };
        Ok(self.shown(namespace, order))
    }

    /// Nothing unsynced is ever shown where writes are acknowledged when synced: the answer waits.
    fn shown(&mut self, namespace: &Namespace, order: Order) -> Answer {
        if self.is_shown_at_once(namespace, order) {
            return Answer::Ready;
        }
        self.store.want_sync();
        Answer::After { sequence: order.sequence(), write: false }
    }

    /// Whether a reader may be told of this record at once.
    pub(super) fn is_shown_at_once(&self, namespace: &Namespace, order: Order) -> bool {
        matches!(namespace.durability, Durability::Interval(_)) || self.store.is_synced(order)
    }

    fn write(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        request: Request<'_, '_>,
        out: &mut Vec<u8>,
    ) -> Result<Answer, RequestError> {
        let context = self.context_of(request)?;
        let mut present_value = std::mem::take(&mut self.value);
        present_value.clear();
        let answer = if coordinator::needs_present(request.operation) {
            self.rewrite(now, resident, request, out, &mut present_value)
        } else {
            let change = coordinator::change_of(request.operation, None, &context, now.wall);
            let Change::Write(write, reply) = change else {
                unreachable!("a write that looks at nothing always writes")
            };
            self.put(now, resident, request, write, reply, out)
        };
        self.value = present_value;
        answer
    }

    /// A write that depends on what is stored: reads it, decides, and writes in the same turn.
    /// `copy` is a buffer for the value that is there.
    fn rewrite(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        request: Request<'_, '_>,
        out: &mut Vec<u8>,
        copy: &mut Vec<u8>,
    ) -> Result<Answer, RequestError> {
        let Request { target, operation, .. } = request;
        let mut order = None;
        match replica::look_up(&self.store, resident, target) {
            Lookup::Away(at) => return Ok(Answer::Away(at)),
            Lookup::Damaged(at) => {
                self.quarantine(target, at);
                return Err(RequestError::Damaged);
            }
            Lookup::Doubtful(_) => return Err(RequestError::Damaged),
            Lookup::Missing => {}
            Lookup::Found(held) => {
                // The log changes below: what the decision borrows must not be the log's.
                let bytes = Record::object_bytes(held.bytes).map_err(|_| RequestError::Damaged)?;
                copy.extend_from_slice(bytes);
                order = Some(held.order);
            }
        }
        let object = match order {
            Some(_) => Some(Object::decode(copy).map_err(|_| RequestError::Damaged)?),
            None => None,
        };
        let context = Context::default();
        match coordinator::change_of(operation, object.as_ref(), &context, now.wall) {
            Change::Write(write, reply) => self.put(now, resident, request, write, reply, out),
            Change::Nothing(reply) => {
                self.reply(request, reply, &context, out);
                Ok(order.map_or(Answer::Ready, |order| self.shown(request.namespace, order)))
            }
        }
    }

    fn put(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        request: Request<'_, '_>,
        write: Write<'_, '_>,
        answer: Reply<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Answer, RequestError> {
        let Request { target, namespace, .. } = request;
        let blind = matches!(write.cause, Cause::Blind);
        let value_bytes = match write.content {
            Content::Value(value) => value.len(),
            Content::Tombstone => 0,
        };
        let bounds = Bounds {
            siblings_max: self.node.siblings_max,
            object_bytes_max: self.node.object_bytes_max(),
        };
        let replica = self.replica.as_mut().expect("the log is open");
        let conflict = namespace.conflict;
        let store = &mut self.store;
        let disk = &mut self.disk;
        let stored = match replica.put(now, store, resident, target, write, conflict, bounds, disk)
        {
            Ok(stored) => stored,
            Err(PutError::Away(at)) => return Ok(Answer::Away(at)),
            Err(PutError::Refused(Refusal::NoRoom)) => return Ok(Answer::NoRoom),
            Err(error) => return Err(self.refusal(error)),
        };
        self.counters.puts += 1;
        self.counters.blind_writes += u64::from(blind && stored.siblings > 1);
        self.counters.sibling_warnings += u64::from(stored.siblings >= SIBLINGS_WARN);
        self.reply(request, answer, &stored.context, out);
        match namespace.durability {
            Durability::Interval(interval) if !coordinator::wants_synced(request.operation) => {
                self.buffered(now, interval, (target.key.len() + value_bytes) as u64);
                Ok(Answer::Ready)
            }
            Durability::Interval(_) => {
                self.store.want_sync();
                Ok(Answer::After { sequence: stored.sequence, write: true })
            }
            Durability::Sync | Durability::One(_) => {
                self.counted_upto = stored.sequence;
                self.store.want_sync();
                Ok(Answer::After { sequence: stored.sequence, write: true })
            }
        }
    }

    /// Counts a record that was acknowledged from the buffer, and says when it must be flushed.
    fn buffered(&mut self, now: Now, interval: coordinator::Interval, bytes: u64) {
        self.unflushed.bytes += bytes;
        self.unflushed.objects += 1;
        let full = interval.bytes.is_some_and(|most| self.unflushed.bytes >= most)
            || interval.objects.is_some_and(|most| self.unflushed.objects >= most);
        let due = if full { now.monotonic } else { now.monotonic + interval.time };
        self.flush_at = Some(self.flush_at.map_or(due, |at| at.min(due)));
    }

    /// Flushes what was acknowledged from the buffer, if that is due.
    pub(super) fn flush_if_due(&mut self, now: Now) {
        if self.flush_at.is_some_and(|at| at <= now.monotonic) {
            self.flush_at = None;
            self.unflushed = Unflushed::default();
            self.store.want_sync();
        }
    }

    fn reply(
        &mut self,
        request: Request<'_, '_>,
        answer: Reply<'_>,
        context: &Context,
        out: &mut Vec<u8>,
    ) {
        match answer {
            Reply::Ok => reply::ok(out),
            Reply::Integer(number) => reply::integer(out, number),
            Reply::Value(Some(value)) => reply::bulk(out, value),
            Reply::Value(None) => reply::null(out, request.protocol),
            Reply::Context => {
                self.scratch.clear();
                let key = request.target.key;
                context.encode_into(key, &self.node.context_secret, &mut self.scratch);
                reply::bulk(out, &self.scratch);
            }
        }
    }

    /// Checks the numbers of a `DYN.` write and reads its context.
    fn context_of(&self, request: Request<'_, '_>) -> Result<Context, RequestError> {
        let (token, options) = match request.operation {
            Operation::DynPut(put) | Operation::ExplainPut(put) => (put.context, &put.options),
            Operation::DynDel { context, options } => (*context, options),
            _ => return Ok(Context::default()),
        };
        coordinator::check_write(request.namespace, options)?;
        Context::decode(token, request.target.key, &self.node.context_secret)
            .map_err(|_| RequestError::BadContext)
    }

    fn quarantine(&mut self, target: &Target<'_>, at: Option<Location>) {
        if let Some(at) = at {
            self.store.quarantine(target.partition, target.hash, at);
        }
    }

    fn check_health(&self, operation: &Operation<'_>) -> Result<(), RequestError> {
        self.check_readable()?;
        let full = operation.is_write() && self.memory_bytes() > self.node.memory_bytes_max;
        if full { Err(RequestError::OutOfMemory) } else { Ok(()) }
    }

    /// Whether anything may be read of the log.
    pub(super) fn check_readable(&self) -> Result<(), RequestError> {
        if self.replica.is_none() {
            return Err(RequestError::Starting);
        }
        match self.store.health() {
            Health::Poisoned => Err(RequestError::ReadOnlyPoisoned),
            Health::Opening => Err(RequestError::Starting),
            Health::Closed => Err(RequestError::Stopping),
            Health::Open | Health::ReadOnly => Ok(()),
        }
    }

    fn refusal(&self, error: PutError) -> RequestError {
        match error {
            PutError::TooManySiblings => {
                RequestError::TooManySiblings { most: self.node.siblings_max }
            }
            PutError::TooBig | PutError::Refused(Refusal::TooBig) => RequestError::TooBig,
            PutError::Undecodable => RequestError::Damaged,
            PutError::Refused(Refusal::ReadOnly) => RequestError::ReadOnlyFull,
            PutError::Refused(Refusal::NoNumbers) => RequestError::ReadOnlyNumbers,
            PutError::Refused(Refusal::Poisoned) => RequestError::ReadOnlyPoisoned,
            PutError::Refused(Refusal::Closed) => RequestError::Stopping,
            PutError::Away(_) | PutError::Refused(Refusal::NoRoom) => {
                unreachable!("it waits and is not refused")
            }
        }
    }

    pub(super) fn count_error(&mut self, error: RequestError) {
        match error {
            RequestError::Damaged => self.counters.damaged += 1,
            RequestError::Busy | RequestError::OutOfMemory => self.counters.refused += 1,
            _ => {}
        }
    }

    /// What this core holds for clients and for the disk, of what a client can make it hold.
    pub(super) fn memory_bytes(&self) -> usize {
        self.session_bytes + self.parked.bytes() + self.walks.bytes() + self.abroad.bytes()
    }

    /// Until when a request must be answered of which all had been read at `read_at`.
    pub(super) fn deadline_of(&self, read_at: Instant, operation: &Operation<'_>) -> Instant {
        let asked = match operation {
            Operation::DynGet(options) | Operation::ExplainGet(options) => options.timeout_millis,
            Operation::DynPut(put) | Operation::ExplainPut(put) => put.options.timeout_millis,
            Operation::DynDel { options, .. } => options.timeout_millis,
            _ => None,
        };
        let timeout = asked
            .map_or(self.node.request_timeout, |millis| Duration::from_millis(u64::from(millis)));
        read_at + timeout
    }

    /// Slot, partition, and the one node that holds it.
    fn answer_owners(&self, target: &Target<'_>, out: &mut Vec<u8>) {
        reply::array(out, 3);
        reply::integer(out, i64::from(slot_of(target.key).to_raw()));
        reply::integer(out, i64::from(target.partition.to_raw()));
        reply::array(out, 1);
        reply::array(out, 5);
        reply::bulk(out, self.node.name.as_bytes());
        reply::bulk(out, self.node.client_address.to_string().as_bytes());
        reply::integer(out, i64::from(self.node.owner(target.partition).to_raw()));
        reply::bulk(out, b"primary");
        reply::integer(out, 1);
    }
}

fn waiting(asked: Asked, command: &KeyCommand<'_>, hash: u64) -> Waiting {
    let mut bytes = Vec::new();
    key_command::encode(command, &mut bytes);
    Waiting { asked, command: bytes.into(), hash }
}
