//! The loop of one core: events to the shard, its effects to the world, once a turn to the kernel.
//!
//! A turn delivers everything that is at hand, then [`Event::TurnEnd`], by which the shard closes
//! its batches; then everything that was decided leaves with one system call, in which the thread
//! also waits for the next event. So under load a turn serves many requests for one system call,
//! and a lone request costs two.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use ahash::AHashMap;
use smallvec::SmallVec;

use crate::base::id::ConnectionId;
use crate::base::id::LogId;
use crate::base::id::ShardId;
use crate::base::outbox::Outbox;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::engine::background::Answer;
use crate::engine::clock::Clock;
use crate::engine::connection::Received;
use crate::engine::counters::Gauges;
use crate::engine::disk::Completed;
use crate::engine::fairness::Asking;
use crate::engine::fairness::SERVED_BYTES;
use crate::engine::fairness::Share;
use crate::engine::hands::HELD_UP_FOR;
use crate::engine::hands::Hands;
use crate::engine::hands::News;
use crate::engine::hands::Parts;
use crate::engine::maps;
use crate::engine::uring::BufferGroup;
use crate::engine::uring::Completion;
use crate::engine::uring::Lent;
use crate::engine::uring::SHORT_BUFFER_BYTES;
use crate::engine::uring::Token;
use crate::engine::uring::Uring;
use crate::protocol::shard::Effect;
use crate::protocol::shard::Event;
use crate::protocol::shard::Shard;
use crate::storage::effect as disk;
use crate::storage::effect::Resident;

/// Completions taken in one turn. More wait: batches must be closed now and then.
const TURN_MAX: usize = 1024;

/// Pieces of input that the machine is shown before it receives them: more do not stay near.
const FORESEEN_MAX: usize = 64;

/// Reads that were answered at once in one turn: each may lead to the next.
const READY_MAX: usize = 256;

/// Buffers from other shards taken in one turn.
const MAIL_MAX: usize = 256;

/// What costs a system call is counted so often.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// When a shard has stopped, the last answers have so long to leave.
const LAST_ANSWERS_FOR: Duration = Duration::from_millis(200);

/// What the loop drives: a shard, or in this room's own tests something smaller.
pub(super) trait Machine {
    /// What it will receive in a moment. It may look, and must not change.
    fn foresee(&self, _pieces: &[&[u8]], _resident: &dyn Resident) {}
    fn handle(
        &mut self,
        now: Now,
        event: Event<'_>,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    );
    fn deadline(&self) -> Option<Instant>;
}

impl Machine for Shard {
    fn foresee(&self, pieces: &[&[u8]], resident: &dyn Resident) {
        self.foresee(pieces, resident);
    }

    fn handle(
        &mut self,
        now: Now,
        event: Event<'_>,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) {
        self.handle(now, event, resident, out);
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline()
    }
}

/// What others want of a shard's thread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub(super) enum Wish {
    /// Read the log.
    Start,
    /// All shards have started: take clients.
    Serve,
    /// Finish everything, then end.
    Stop,
    /// End as a killed process does.
    Die,
}

/// How others tell it. What they say takes effect when the thread's bell was struck.
#[derive(Debug)]
pub(super) struct Control {
    wish: AtomicU8,
    /// Adopted logs whose files are gone, and whether there are any: that is asked each turn.
    removed: Mutex<Vec<LogId>>,
    any_removed: AtomicBool,
}

impl Default for Control {
    fn default() -> Self {
        let wish = AtomicU8::new(Wish::Start as u8);
        Self { wish, removed: Mutex::default(), any_removed: AtomicBool::default() }
    }
}

impl Control {
    pub(super) fn wish(&self, wish: Wish) {
        self.wish.store(wish as u8, Ordering::Release);
    }

    /// Nobody needs this log any more, and its files have no names.
    pub(super) fn log_removed(&self, log: LogId) {
        self.removed.lock().expect("nobody panics with it").push(log);
        self.any_removed.store(true, Ordering::Release);
    }

    fn get(&self) -> Wish {
        match self.wish.load(Ordering::Acquire) {
            0 => Wish::Start,
            1 => Wish::Serve,
            2 => Wish::Stop,
            _ => Wish::Die,
        }
    }

    fn take_removed(&self) -> Vec<LogId> {
        if !self.any_removed.load(Ordering::Acquire) {
            return Vec::new();
        }
        self.any_removed.store(false, Ordering::Release);
        std::mem::take(&mut *self.removed.lock().expect("nobody panics with it"))
    }
}

/// The loop of one core.
pub(super) struct ShardLoop<M> {
    shard: ShardId,
    clock: Clock,
    machine: M,
    out: Outbox<Effect>,
    hands: Hands,
    control: Arc<Control>,
    gauges: Arc<Gauges>,
    tell: Box<dyn FnMut(News)>,
    /// Input that waits for the next turn: its connection has had its part of this one. It holds short
    /// buffers, and when those run out, the kernel keeps what comes.
    deferred: VecDeque<Completion>,
    /// Large pieces of which it is not the turn yet.
    large: VecDeque<Completion>,
    share: Share,
    /// How many bytes connections have had in this turn.
    served: AHashMap<ConnectionId, usize>,
    /// Something was delivered since the last turn ended.
    eventful: bool,
    serving: bool,
    stopping: bool,
    over: bool,
    last_counted: Instant,
}

/// What a loop is made of.
pub(super) struct Setup<M> {
    pub(super) clock: Clock,
    pub(super) machine: M,
    pub(super) ring: Uring,
    pub(super) parts: Parts,
    pub(super) control: Arc<Control>,
    pub(super) gauges: Arc<Gauges>,
    pub(super) tell: Box<dyn FnMut(News)>,
}

impl<M: Machine> ShardLoop<M> {
    pub(super) fn new(setup: Setup<M>) -> Self {
        let shard = setup.parts.shard;
        Self {
            shard,
            clock: setup.clock,
            machine: setup.machine,
            out: Outbox::default(),
            hands: Hands::new(setup.ring, setup.parts),
            control: setup.control,
            gauges: setup.gauges,
            tell: setup.tell,
            deferred: VecDeque::new(),
            large: VecDeque::new(),
            share: Share::new(),
            served: AHashMap::new(),
            eventful: false,
            serving: false,
            stopping: false,
            over: false,
            last_counted: Instant::START,
        }
    }

    /// Runs until the shard has stopped or failed, or somebody wants it to end.
    ///
    /// # Errors
    ///
    /// If the ring cannot be used any more.
    pub(super) fn run(mut self) -> io::Result<()> {
        let bell = self.hands.mesh.bell(self.shard);
        bell.set_ring(Some(self.hands.ring.number()));
        let eventfd = Rc::new(bell.eventfd()?);
        self.hands.ring.read(Token::Notified, &eventfd, vec![0; 8], 0, u64::MAX);
        self.deliver(Event::Start);
        let mut completions = Vec::new();
        let result = loop {
            self.turn(&mut completions, &eventfd);
            if self.over {
                break self.let_answers_leave(&mut completions);
            }
            if self.control.get() == Wish::Die {
                break Ok(());
            }
            if let Err(error) = self.rest() {
                break Err(error);
            }
        };
        self.hands.mesh.bell(self.shard).set_ring(None);
        result
    }

    /// Delivers everything that is at hand.
    fn turn(&mut self, completions: &mut Vec<Completion>, eventfd: &Rc<OwnedFd>) {
        completions.extend(self.deferred.drain(..));
        self.hands.ring.completions(completions, TURN_MAX);
        self.foresee(completions);
        self.served.clear();
        for completion in completions.drain(..) {
            if completion.token == Token::Notified {
                self.hands.ring.read(Token::Notified, eventfd, vec![0; 8], 0, u64::MAX);
            } else if self.must_wait(&completion) {
                self.deferred.push_back(completion);
            } else if is_large(&completion) {
                self.large.push_back(completion);
            } else {
                self.on_completion(completion);
            }
        }
        self.tell_mail();
        self.tell_background();
        self.tell_ready();
        self.handle_large();
        if self.control.get() == Wish::Serve && !std::mem::replace(&mut self.serving, true) {
            self.hands.listeners.open();
        }
        if self.control.get() == Wish::Stop && !std::mem::replace(&mut self.stopping, true) {
            self.hands.listeners.close(&mut self.hands.ring);
            self.deliver(Event::Stop);
        }
        for log in self.control.take_removed() {
            self.hands.disk.forget_log(log);
            self.deliver(Event::LogRemoved(log));
        }
        let now = self.clock.monotonic();
        if self.machine.deadline().is_some_and(|at| at <= now) {
            self.deliver(Event::Tick);
        }
        if std::mem::take(&mut self.eventful) {
            self.deliver(Event::TurnEnd);
            self.eventful = false;
        }
        self.hands.flush(now, self.share.asking(self.large.len(), now));
        self.count(now);
        for news in std::mem::take(&mut self.hands.news) {
            self.over |= matches!(news, News::Failed(_) | News::Stopped);
            (self.tell)(news);
        }
    }

    /// Handles large pieces, as many as their share of a turn allows.
    fn handle_large(&mut self) {
        let (mut handled, mut since) = (0, None);
        while let Some(completion) = self.large.front() {
            let now = self.clock.monotonic();
            let spent = now.since(*since.get_or_insert(now));
            if !self.share.allows(handled, spent, self.is_bulk(completion), now) {
                break;
            }
            let completion = self.large.pop_front().expect("it was just there");
            self.on_completion(completion);
            handled += 1;
        }
        self.share.end_turn();
    }

    fn is_bulk(&self, completion: &Completion) -> bool {
        match (completion.token, &completion.lent) {
            (Token::Receive(id), Some(piece)) => self.hands.connections.is_bulk(id, piece),
            _ => false,
        }
    }

    /// Whether it is more input of a connection that has had its part of this turn: one that sends
    /// thousands of requests at once must not hold up those that send one. What follows in the same
    /// turn waits behind it, so that a connection's input stays in order.
    fn must_wait(&mut self, completion: &Completion) -> bool {
        let Token::Receive(connection) = completion.token else { return false };
        let served = self.served.entry(connection).or_default();
        let waits = *served >= SERVED_BYTES;
        *served += completion.lent.as_ref().map_or(0, Lent::length);
        waits
    }

    /// Shows the machine what it is about to receive.
    fn foresee(&self, completions: &[Completion]) {
        let mut pieces: SmallVec<[&[u8]; FORESEEN_MAX]> = SmallVec::new();
        for completion in completions {
            if let (Token::Receive(_), Some(lent)) = (&completion.token, &completion.lent)
                && pieces.len() < FORESEEN_MAX
            {
                pieces.push(self.hands.ring.bytes(lent));
            }
        }
        if pieces.len() > 1 {
            self.machine.foresee(&pieces, &self.hands.maps);
        }
    }

    fn on_completion(&mut self, completion: Completion) {
        match completion.token {
            Token::Receive(connection) => {
                match self.hands.connections.received(connection, completion) {
                    Received::Bytes(lent) => {
                        let now = self.clock.now();
                        if lent.length() < SHORT_BUFFER_BYTES && lent.group() == BufferGroup::Short
                        {
                            self.share.heard_small(now.monotonic);
                        }
                        let bytes = self.hands.ring.bytes(&lent);
                        let event = Event::Received { connection, bytes };
                        self.machine.handle(now, event, &self.hands.maps, &mut self.out);
                        self.eventful = true;
                        self.hands.ring.give_back(lent);
                        self.perform(now.monotonic);
                    }
                    Received::Unwanted(lent) => self.hands.ring.give_back(lent),
                    Received::End => self.deliver(Event::EndOfInput { connection }),
                    Received::Nothing => {}
                }
            }
            Token::Send(connection) => {
                if let Some(bytes) = self.hands.connections.sent(connection, completion) {
                    self.deliver(Event::Sent { connection, bytes });
                }
            }
            Token::Disk(slot) => {
                let hands = &mut self.hands;
                if let Some(done) = hands.disk.complete(&mut hands.ring, slot, completion) {
                    self.tell_disk(done);
                }
            }
            Token::Accept(number) => {
                let now = self.clock.monotonic();
                let accepted = self.hands.listeners.complete(now, number, completion);
                if let Some((door, socket)) = accepted
                    && let Some((connection, peer)) = self.hands.connections.accept(socket, door)
                {
                    self.deliver(Event::Accepted { connection, peer });
                }
            }
            Token::WakeFailed(shard) => self.hands.mesh.bell(shard).strike(),
            Token::Notified | Token::Woken | Token::Ignored => {}
        }
    }

    fn tell_mail(&mut self) {
        for _ in 0..MAIL_MAX {
            let Some((from, bytes)) = self.hands.mesh.hear() else { break };
            self.deliver(Event::Mesh { from, bytes: &bytes });
            self.hands.mesh.give_back(from, bytes);
        }
    }

    fn tell_background(&mut self) {
        while let Some(answer) = self.hands.lane.next_answer() {
            match answer {
                Answer::Bulk { ticket, result } => {
                    self.deliver(Event::Disk(disk::Event::Bulk { ticket, result }));
                }
                Answer::Mapped { segment, asking, result } => {
                    if let Some(result) = self.hands.mapped(segment, asking, result) {
                        self.deliver(Event::Disk(disk::Event::Resident { segment, result }));
                    }
                }
            }
        }
    }

    fn tell_ready(&mut self) {
        for _ in 0..READY_MAX {
            let Some(done) = self.hands.disk.next_ready() else { break };
            self.tell_disk(done);
        }
        while let Some(connection) = self.hands.connections.next_closed() {
            self.deliver(Event::Closed { connection });
        }
    }

    fn tell_disk(&mut self, done: Completed) {
        match done {
            Completed::Appended { ticket, result } => {
                self.deliver(Event::Disk(disk::Event::Appended { ticket, result }));
            }
            Completed::Read { ticket, result } => {
                let lent = result.as_deref().map_err(|failure| *failure);
                self.deliver(Event::Disk(disk::Event::Read { ticket, result: lent }));
                if let Ok(bytes) = result {
                    self.hands.disk.recycle(bytes);
                }
            }
        }
    }

    fn deliver(&mut self, event: Event<'_>) {
        let now = self.clock.now();
        self.machine.handle(now, event, &self.hands.maps, &mut self.out);
        self.eventful = true;
        self.perform(now.monotonic);
    }

    fn perform(&mut self, now: Instant) {
        let (effects, arena) = self.out.take();
        for effect in effects {
            self.hands.perform(now, effect, arena);
        }
        self.out.clear();
    }

    /// Everything leaves; then waits for the next event, unless there is one.
    fn rest(&mut self) -> io::Result<()> {
        let now = self.clock.monotonic();
        let deadline = [self.machine.deadline(), self.hands.deadline(now)];
        let timeout = deadline.into_iter().flatten().min().map(|at| at.since(now));
        if self.has_ready() || timeout.is_some_and(|left| left.is_zero()) {
            return self.hands.ring.submit();
        }
        if self.hands.mesh.would_spin() {
            self.hands.ring.submit()?;
            let Hands { ring, mesh, lane, .. } = &mut self.hands;
            let clock = self.clock;
            mesh.spin(|| clock.monotonic(), || ring.has_completions() || lane.has_answers());
        }
        self.hands.mesh.bell(self.shard).sleep();
        let busy = self.has_ready() || self.control.get() == Wish::Die;
        let unheard = match self.control.get() {
            Wish::Serve => !self.serving,
            Wish::Stop => !self.stopping,
            Wish::Start | Wish::Die => false,
        };
        let result = if busy || unheard {
            self.hands.ring.submit()
        } else {
            self.hands.ring.submit_and_wait(timeout)
        };
        self.hands.mesh.bell(self.shard).awake();
        result
    }

    /// Whether there is something to do before the kernel tells anything.
    fn has_ready(&self) -> bool {
        !self.deferred.is_empty() || !self.large.is_empty() || self.hands.has_ready()
    }

    fn count(&mut self, now: Instant) {
        let counts = self.hands.connections.counts();
        self.gauges.set_connections(counts);
        if now >= self.last_counted + COUNT_EVERY {
            self.last_counted = now;
            let faults = maps::major_faults();
            self.gauges.set_memory(faults, self.hands.maps.bytes(), self.hands.disk.cold_reads());
        }
    }

    /// The shard has stopped: what it sent last must not die with the ring.
    fn let_answers_leave(&mut self, completions: &mut Vec<Completion>) -> io::Result<()> {
        let until = self.clock.monotonic() + LAST_ANSWERS_FOR;
        // Other cores may sleep, and wait for what this one said last.
        self.hands.ring.submit()?;
        loop {
            let now = self.clock.monotonic();
            let left = until.since(now);
            self.hands.mesh.flush(now, &mut self.hands.ring);
            let is_held_up = self.hands.mesh.is_held_up();
            if (self.hands.connections.all_sent() && !is_held_up) || left.is_zero() {
                return self.hands.ring.submit();
            }
            let look = if is_held_up { left.min(HELD_UP_FOR) } else { left };
            self.hands.ring.submit_and_wait(Some(look))?;
            self.hands.ring.completions(completions, TURN_MAX);
            for completion in completions.drain(..) {
                match completion.token {
                    Token::Send(connection) => {
                        self.hands.connections.sent(connection, completion);
                    }
                    _ => {
                        if let Some(lent) = completion.lent {
                            self.hands.ring.give_back(lent);
                        }
                    }
                }
            }
            self.hands.connections.flush(&mut self.hands.ring, Asking::NOTHING);
        }
    }
}

/// Whether it is input in a long buffer.
fn is_large(completion: &Completion) -> bool {
    completion.lent.as_ref().is_some_and(|lent| lent.group() == BufferGroup::Long)
}
