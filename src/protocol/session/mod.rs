//! One client connection as a machine without a socket: bytes in, commands out, replies in order.
//!
//! A driver owns the socket and a buffer of what is to be sent. It hands what arrives to
//! [`Session::receive`], tells what it has sent with [`Session::sent`], brings late replies with
//! [`Session::answer`], and wakes the session at [`Session::deadline`]. After each of these it looks
//! at [`Session::state`] and at [`Session::wants_input`].
//!
//! # Order
//!
//! Commands are executed in the order in which they came, and replies leave in that order. A command
//! may be *parked*: the next ones are executed meanwhile, and their replies wait. Two commands of one
//! pipeline on one key are therefore both under way at once; that the second sees the first is
//! the coordinator's doing, which gets them in order.
//!
//! # Bounds
//!
//! What a client can make us hold is bounded from each side: a request by the parser's limits,
//! parked commands by [`OUTSTANDING_MAX`], what was read and not looked at by [`UNREAD_BYTES_MAX`]
//! and by how many pieces it came in, replies by a soft bound at which no more commands are executed and a hard one at which the
//! connection is cut. Time is bounded too: a request that was begun, and replies that are not taken,
//! must make progress, and a password must come soon.
//!
//! # Invariants
//!
//! - Nothing is executed for a client that has not said the password.
//! - Each request has exactly one reply, unless its client said that it wants none.
//! - After a protocol error nothing more is read.

use std::mem;
use std::sync::Arc;

use crate::base::id::ConnectionId;
use crate::base::limits::OUTPUT_BYTES_SOFT;
use crate::base::limits::OUTSTANDING_MAX;
use crate::base::limits::PASSWORD_SECONDS;
use crate::base::limits::STRANGER_OUTPUT_BYTES_MAX;
use crate::base::limits::UNREAD_BYTES_MAX;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::arguments::Arguments;
use crate::protocol::wire::arguments::Request;
use crate::protocol::wire::command;
use crate::protocol::wire::command::Command;
use crate::protocol::wire::command::KeysCommand;
use crate::protocol::wire::command::KeysKind;
use crate::protocol::wire::reply;
use crate::protocol::wire::resp::Parsed;
use crate::protocol::wire::resp::RequestParser;
use crate::protocol::wire::table::NO_AUTH;
use crate::protocol::wire::table::Name;
use gather::Gather;
use pieces::Pieces;
use progress::Progress;
use queue::Queue;

mod executor;
mod gather;
mod identity;
mod pieces;
mod progress;
mod queue;
mod settings;

pub use executor::Executor;
pub use executor::Outcome;
pub use executor::RequestId;
pub use executor::Work;
pub use settings::Password;
pub use settings::Peer;
pub use settings::Settings;

/// What the driver should do with the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// Go on.
    Open,
    /// Send what is to be sent, then close. No more replies will come.
    Flush(Closing),
    /// Close at once; what is not sent is lost.
    Abort(Closing),
}

/// Why a connection ends. Drivers count them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Closing {
    /// The client said `QUIT`.
    Quit,
    /// The client sends no more, and all that it sent is answered.
    HalfClosed,
    /// What came is not the protocol.
    ProtocolError,
    /// There is no password, and the client is on another machine.
    Denied,
    /// No password came in time.
    NoPassword,
    /// A request was begun and did not go on.
    SlowRequest,
    /// Replies are not taken.
    SlowReader,
    /// More replies wait than may.
    TooMuchOutput,
}

/// One client connection.
#[derive(Debug)]
pub struct Session {
    settings: Arc<Settings>,
    id: ConnectionId,
    peer: Peer,
    opened: Instant,
    heard: Instant,
    /// From when on a request that is begun now is waited for: since all of it was read, or since
    /// its client took replies again.
    counted_from: Instant,
    /// When what is held back was read, if that was not all at that time.
    pieces: Pieces,
    /// Since when a password is waited for, while one is.
    asked: Instant,

    parser: RequestParser,
    arguments: Arguments,
    /// What has arrived and is needed again: the start of a request, or requests held back.
    input: Vec<u8>,
    /// How much of `input` is done with.
    read: usize,

    protocol: Protocol,
    /// Whether the client may give commands.
    admitted: bool,
    name: Vec<u8>,
    library_name: Vec<u8>,
    library_version: Vec<u8>,
    /// The client wants no replies.
    muted: bool,
    /// The client wants no reply to its next command.
    skip_next: bool,
    last_command: Option<Name>,

    queue: Queue,
    next_sequence: u64,
    /// Bytes handed to the driver and not yet sent.
    unsent: usize,

    /// Of the request that is arriving, if one is.
    request_progress: Option<Progress>,
    /// Of sending, while too much is unsent.
    reply_progress: Option<Progress>,

    /// No more input is looked at than what came before this was set.
    ending: Option<Closing>,
    aborted: Option<Closing>,
}

/// What is kept of the input buffer while a request is arriving.
const INPUT_BYTES_KEPT: usize = 16 * 1024;

/// Ten thousand idle connections should cost megabytes: their buffers are empty, and this is the rest.
const _: () = assert!(mem::size_of::<Session>() <= 640);

impl Session {
    /// A connection was accepted. A client from elsewhere gets a line and is let go, if there is no
    /// password that could tell it from any other.
    pub fn open(
        now: Now,
        settings: Arc<Settings>,
        id: ConnectionId,
        peer: Peer,
        out: &mut Vec<u8>,
    ) -> Self {
        let admitted = settings.password.is_none();
        let mut session = Self {
            id,
            peer,
            opened: now.monotonic,
            heard: now.monotonic,
            counted_from: now.monotonic,
            pieces: Pieces::default(),
            asked: now.monotonic,
            parser: RequestParser::new(settings.request_limits(admitted)),
            settings,
            arguments: Arguments::default(),
            input: Vec::new(),
            read: 0,
            protocol: Protocol::default(),
            admitted,
            name: Vec::new(),
            library_name: Vec::new(),
            library_version: Vec::new(),
            muted: false,
            skip_next: false,
            last_command: None,
            queue: Queue::default(),
            next_sequence: 0,
            unsent: 0,
            request_progress: None,
            reply_progress: None,
            ending: None,
            aborted: None,
        };
        if admitted && !peer.is_local() {
            let before = out.len();
            reply::error(out, DENIED);
            session.ending = Some(Closing::Denied);
            session.emitted(now, out.len() - before);
        }
        session
    }

    /// Bytes have arrived. Appends to `out` what is to be sent.
    pub fn receive(
        &mut self,
        now: Now,
        bytes: &[u8],
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        if !self.listens() {
            return;
        }
        self.heard = now.monotonic;
        if self.is_stalled() {
            if self.pieces.is_empty() {
                self.pieces.add(self.unread(), self.counted_from);
            }
            self.pieces.add(bytes.len(), now.monotonic);
        } else {
            // No whole request is kept: whichever comes next ends in these bytes.
            self.pieces.forget();
            self.counted_from = now.monotonic;
        }
        if let Some(progress) = &mut self.request_progress {
            progress.advance(now.monotonic, bytes.len());
        }
        if self.unread() == 0 && !self.is_stalled() {
            // The common case: whole requests, read where they arrived. Only the rest is copied.
            let consumed = self.run(now, bytes, executor, out);
            if self.listens() {
                self.keep(&bytes[consumed..]);
            }
        } else {
            self.input.extend_from_slice(bytes);
            self.resume(now, executor, out);
        }
    }

    /// The client will send no more. What it has sent is answered; a request cut short is not done.
    pub fn end_of_input(&mut self, now: Now) {
        self.ending.get_or_insert(Closing::HalfClosed);
        self.request_progress = None;
        self.emitted(now, 0);
    }

    /// The reply to a parked command. Appends to `out` what is to be sent.
    ///
    /// # Panics
    ///
    /// If nothing waits for it: a command is answered once.
    pub fn answer(
        &mut self,
        now: Now,
        request: RequestId,
        bytes: &[u8],
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        assert_eq!(request.connection, self.id, "an answer to another connection");
        let before = out.len();
        self.queue.answer(request.sequence, request.part, bytes, out);
        self.emitted(now, out.len() - before);
        self.resume(now, executor, out);
    }

    /// So many bytes of what was appended have been sent. May go on with requests held back.
    pub fn sent(
        &mut self,
        now: Now,
        bytes: usize,
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        if self.unsent > self.output_soft() {
            // What was held back until now was so by the client itself.
            self.counted_from = now.monotonic;
            self.pieces.forget();
        }
        self.unsent = self.unsent.saturating_sub(bytes);
        if let Some(progress) = &mut self.reply_progress {
            progress.advance(now.monotonic, bytes);
        }
        self.emitted(now, 0);
        self.resume(now, executor, out);
    }

    /// Whether the driver should go on receiving.
    pub fn wants_input(&self) -> bool {
        self.ending.is_none()
            && self.aborted.is_none()
            && self.queue.outstanding() < OUTSTANDING_MAX
            && !(self.is_stalled() && (self.unread() >= UNREAD_BYTES_MAX || self.pieces.is_full()))
    }

    /// The reply to every parked command, as there will be no other. Appends to `out` what is to be
    /// sent.
    pub fn answer_rest(
        &mut self,
        now: Now,
        bytes: &[u8],
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        let before = out.len();
        self.queue.answer_rest(bytes, out);
        self.emitted(now, out.len() - before);
        self.resume(now, executor, out);
    }

    /// Whether no request that has arrived waits for its answer, executed or held back.
    pub fn is_answered(&self) -> bool {
        self.queue.is_empty() && !self.holds_back()
    }

    /// Whether requests are held back until the client takes replies, and for nothing else.
    pub fn waits_for_its_client(&self) -> bool {
        self.queue.is_empty() && self.holds_back()
    }

    /// How many commands are yet to be answered.
    pub fn outstanding(&self) -> usize {
        self.queue.outstanding()
    }

    /// What the driver should do with the connection.
    pub fn state(&self) -> State {
        match (self.aborted, self.ending) {
            (Some(closing), _) => State::Abort(closing),
            (None, Some(closing)) if self.is_answered() => State::Flush(closing),
            _ => State::Open,
        }
    }

    /// When the driver should call [`Session::tick`], if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        if self.aborted.is_some() {
            return None;
        }
        self.deadlines().iter().flatten().map(|(when, _)| *when).min()
    }

    /// The deadline may have passed.
    pub fn tick(&mut self, now: Now) {
        let due = self.deadlines().into_iter().flatten().find(|(when, _)| *when <= now.monotonic);
        if let Some((_, closing)) = due {
            self.aborted.get_or_insert(closing);
        }
    }

    /// How many bytes it holds for its client, for the budget of its core.
    pub fn bytes_held(&self) -> usize {
        self.input.capacity() + self.queue.held() + self.pieces.bytes()
    }

    /// Its number.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The two ends of it.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Which form of the protocol it speaks.
    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn deadlines(&self) -> [Option<(Instant, Closing)>; 3] {
        let password = self.asked + Duration::from_secs(PASSWORD_SECONDS);
        [
            (!self.admitted).then_some((password, Closing::NoPassword)),
            self.request_progress.map(|progress| (progress.deadline(), Closing::SlowRequest)),
            self.reply_progress.map(|progress| (progress.deadline(), Closing::SlowReader)),
        ]
    }

    /// Whether what arrives is looked at.
    fn listens(&self) -> bool {
        self.aborted.is_none() && self.ending.is_none()
    }

    /// Whether what has arrived is looked at. After a half-close it still is.
    fn reads(&self) -> bool {
        self.aborted.is_none() && matches!(self.ending, None | Some(Closing::HalfClosed))
    }

    /// Whether requests that have arrived wait until others are answered or replies are sent.
    fn holds_back(&self) -> bool {
        self.reads() && self.unread() > 0 && self.is_stalled()
    }

    #[inline]
    fn is_stalled(&self) -> bool {
        self.queue.outstanding() >= OUTSTANDING_MAX
            || self.unsent + self.queue.held() > self.output_soft()
    }

    fn output_soft(&self) -> usize {
        if self.admitted { OUTPUT_BYTES_SOFT } else { STRANGER_OUTPUT_BYTES_MAX }
    }

    fn unread(&self) -> usize {
        self.input.len() - self.read
    }

    /// Keeps bytes for the next call, which needs them again. An idle connection keeps no buffer:
    /// a core whose idle clients were over its budget would take no write until they left.
    fn keep(&mut self, bytes: &[u8]) {
        self.read = 0;
        if bytes.is_empty() {
            self.input = Vec::new();
            return;
        }
        self.input.clear();
        self.input.shrink_to(INPUT_BYTES_KEPT);
        self.input.extend_from_slice(bytes);
    }

    /// Goes on with what was kept.
    fn resume(&mut self, now: Now, executor: &mut impl Executor, out: &mut Vec<u8>) {
        if self.is_stalled() {
            // We hold the client up, so its request may take as long as it takes us.
            self.request_progress = None;
        }
        if self.unread() == 0 || self.is_stalled() || !self.reads() {
            return;
        }
        // While it runs, both say that nothing is kept: a command may ask (`CLIENT LIST`).
        let (input, read) = (mem::take(&mut self.input), mem::take(&mut self.read));
        self.read = read + self.run(now, &input[read..], executor, out);
        self.input = input;
        if !self.reads() || self.unread() == 0 {
            self.keep(&[]);
        } else if self.read > self.input.len() / 2 {
            // Moving what is left costs no more than what was read since the last time.
            self.input.drain(..self.read);
            self.read = 0;
        }
    }

    /// Executes the requests in `bytes`. Returns how many bytes of them are done with.
    fn run(
        &mut self,
        now: Now,
        bytes: &[u8],
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) -> usize {
        let mut arguments = mem::take(&mut self.arguments);
        let (mut at, mut whole, mut foreseen) = (0, false, 0);
        while self.reads() && !self.is_stalled() {
            let before = out.len();
            let rest = &bytes[at..];
            if at >= foreseen && self.parser.is_idle() {
                foreseen = match executor.foresee(rest) {
                    0 => bytes.len(),
                    length => at + length,
                };
            }
            let consumed = match self.parser.parse(rest, &mut arguments) {
                Parsed::Incomplete { consumed, .. } => {
                    self.done_with(consumed);
                    at += consumed;
                    break;
                }
                Parsed::Request { consumed } => {
                    self.done_with(consumed);
                    self.request(now, arguments.of(rest), executor, out);
                    consumed
                }
                Parsed::Empty { consumed } => {
                    self.done_with(consumed);
                    consumed
                }
                Parsed::Skipped { consumed, error } => {
                    self.done_with(consumed);
                    self.reply(out, |out| reply::error(out, error));
                    consumed
                }
                Parsed::Fatal { error } => {
                    if let Some(answer) = error.answer() {
                        self.reply(out, |out| reply::error(out, answer));
                    }
                    self.ending = Some(Closing::ProtocolError);
                    rest.len()
                }
            };
            self.emitted(now, out.len() - before);
            at += consumed;
            whole = true;
        }
        self.arguments = arguments;
        self.watch_request(now, bytes.len() - at, whole);
        at
    }

    /// So many bytes of what was kept are looked at: what ends with them counts from when the last of
    /// them was read.
    #[inline]
    fn done_with(&mut self, bytes: usize) {
        if !self.pieces.is_empty()
            && let Some(read_at) = self.pieces.take(bytes)
        {
            self.counted_from = read_at;
        }
    }

    /// Sets the watch over the request that is arriving. While we hold requests back, the client is
    /// not the one who is slow.
    fn watch_request(&mut self, now: Now, rest: usize, whole: bool) {
        let arriving = rest > 0 || !self.parser.is_idle();
        if !arriving || self.is_stalled() || !self.listens() {
            self.request_progress = None;
        } else if whole || self.request_progress.is_none() {
            self.request_progress = Some(Progress::from(now.monotonic));
        }
    }

    /// So many bytes were appended for the client. Sets the watch over those that wait for it.
    #[inline]
    fn emitted(&mut self, now: Now, bytes: usize) {
        self.unsent += bytes;
        // Before it is let go a client should take the rest, however little it is.
        let bound = if self.ending.is_none() { self.output_soft() } else { 0 };
        if self.unsent <= bound {
            self.reply_progress = None;
        } else {
            self.reply_progress.get_or_insert(Progress::from(now.monotonic));
        }
        if self.unsent + self.queue.held() > self.settings.output_bytes_max() {
            self.aborted.get_or_insert(Closing::TooMuchOutput);
        }
    }

    /// Executes one request.
    fn request(
        &mut self,
        now: Now,
        request: Request<'_>,
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        let name = match command::identify(request) {
            Ok(name) => name,
            Err(error) => return self.reply(out, |out| error.write(out)),
        };
        if !self.admitted && name.spec().flags & NO_AUTH == 0 {
            return self.reply(out, |out| reply::error(out, NO_PASSWORD));
        }
        self.last_command = Some(name);
        match command::parse_as(name, request, now.wall) {
            Ok(Command::Key(command)) => self.hand_out(now, Work::Key(command), executor, out),
            Ok(Command::Node(command)) => self.hand_out(now, Work::Node(command), executor, out),
            Ok(Command::Keys(command)) => self.hand_out_keys(now, command, executor, out),
            Ok(Command::Connection(command)) => self.connection(now, command, executor, out),
            Err(error) => self.reply(out, |out| error.write(out)),
        }
    }

    /// Hands out a command whose reply is the request's.
    #[inline]
    fn hand_out(
        &mut self,
        now: Now,
        work: Work<'_>,
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        let silent = self.take_silence();
        let (request, protocol) = (self.next_request(), self.protocol);
        let read_at = self.counted_from;
        let outcome = self.queue.write(out, |out| {
            let before = out.len();
            let outcome = executor.execute(now, read_at, request, protocol, work, out);
            let answered = out.len() > before;
            assert_eq!(answered, outcome == Outcome::Done, "each command has one reply");
            if silent {
                out.truncate(before);
            }
            outcome
        });
        if outcome == Outcome::Parked {
            self.queue.park(request.sequence, silent);
        }
    }

    /// Hands out a command key by key, and makes one reply of theirs.
    fn hand_out_keys(
        &mut self,
        now: Now,
        command: KeysCommand<'_>,
        executor: &mut impl Executor,
        out: &mut Vec<u8>,
    ) {
        let silent = self.take_silence();
        let mut request = self.next_request();
        let mut gather = Gather::new(command.kind, command.len());
        // Not kept: what idle connections hold counts against those who want to write.
        let mut scratch = Vec::new();
        for index in 0..command.len() {
            request.part = index as u16;
            scratch.clear();
            let work = Work::Key(command.part(index));
            let read_at = self.counted_from;
            match executor.execute(now, read_at, request, self.protocol, work, &mut scratch) {
                Outcome::Done => gather.done(request.part, &scratch),
                Outcome::Parked => gather.park(),
            }
            let waiting = self.unsent + self.queue.held() + gather.bytes();
            if command.kind == KeysKind::Values && waiting > self.settings.output_bytes_max() / 2 {
                gather.fail(0, TOO_MUCH_AT_ONCE);
                break;
            }
        }
        if gather.waiting() > 0 {
            self.queue.park_gather(request.sequence, silent, gather);
        } else if !silent {
            self.queue.write(out, |out| gather.finish(out));
        }
    }

    /// Answers a request whose reply is known here.
    fn reply(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if !self.take_silence() {
            self.queue.write(out, write);
        }
    }

    /// Whether the request at hand is to have no reply.
    #[inline]
    fn take_silence(&mut self) -> bool {
        mem::take(&mut self.skip_next) || self.muted
    }

    #[inline]
    fn next_request(&mut self) -> RequestId {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        RequestId { connection: self.id, sequence, part: 0 }
    }
}

const DENIED: &str = "DENIED this node has no password and serves clients on its own machine only; \
                      set STATOR_PASSWORD to serve others";

const NO_PASSWORD: &str = "NOAUTH Authentication required.";

const TOO_MUCH_AT_ONCE: &[u8] = b"-TOOBIG the values together exceed what one reply may hold; \
                                  ask for fewer keys at once\r\n";

#[cfg(test)]
mod tests;
