//! Whatever a client sends, and however the network cuts it.
//!
//! The first bytes of the input choose who the client is, how the stream is cut, and which commands
//! are answered late; the rest is the stream. What must hold:
//!
//! - Nothing panics, and no more is held than the limits say.
//! - The parser finds the same requests in pieces as in the whole, and never waits for bytes that it has.
//! - A client gets the same replies, whatever is cut and parked.
//! - Nothing is executed for a client that has not said the password.
//! - After the end of its input, and when all is answered, a connection ends.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stator::base::id::ConnectionId;
use stator::base::limits::INLINE_BYTES_MAX;
use stator::base::rng::Rng;
use stator::base::time::Instant;
use stator::base::time::Now;
use stator::protocol::session::Executor;
use stator::protocol::session::Outcome;
use stator::protocol::session::Password;
use stator::protocol::session::Peer;
use stator::protocol::session::RequestId;
use stator::protocol::session::Session;
use stator::protocol::session::Settings;
use stator::protocol::session::State;
use stator::protocol::session::Work;
use stator::protocol::wire::Protocol;
use stator::protocol::wire::arguments::Arguments;
use stator::protocol::wire::command::Operation;
use stator::protocol::wire::reply;
use stator::protocol::wire::resp::Beyond;
use stator::protocol::wire::resp::Parsed;
use stator::protocol::wire::resp::ProtocolError;
use stator::protocol::wire::resp::RequestLimits;
use stator::protocol::wire::resp::RequestParser;
use stator::protocol::wire::resp::TooBig;

/// Chosen so that no stream says it.
const PASSWORD: &[u8] = b"\x00 said by nobody";

/// The longest stream that is looked at: a session may answer it with a hundred times as much.
const STREAM_BYTES_MAX: usize = 8 * 1024;

/// A header, and what is read of the one that follows it.
const HEADER_BYTES: usize = 16;

fuzz_target!(|bytes: &[u8]| {
    let Some((&[shape, low, high], stream)) = bytes.split_first_chunk::<3>() else { return };
    let stream = &stream[..stream.len().min(STREAM_BYTES_MAX)];
    let seed = u64::from(u16::from_le_bytes([low, high]));
    let pieces = cut(stream, shape >> 2, &mut Rng::from_seed(seed));
    for limits in [tight(), RequestLimits::admitted(1 << 20), RequestLimits::STRANGER] {
        assert_eq!(parse(&[stream], limits), parse(&pieces, limits), "{limits:?}");
    }
    let is_guarded = shape & 1 != 0;
    let whole = Client::open(is_guarded, false, seed).says_all(&[stream]);
    let apart = Client::open(is_guarded, shape & 2 != 0, seed).says_all(&pieces);
    assert_eq!(whole.1, apart.1, "how it ended");
    // `CLIENT LIST` counts the bytes that wait, which parking changes.
    if !whole.0.contains(" tot-mem=") {
        assert_eq!(whole.0, apart.0, "what was sent");
    }
});

/// Pieces of up to `size` bytes, or of up to a kilobyte; at times none.
fn cut<'a>(stream: &'a [u8], size: u8, rng: &mut Rng) -> Vec<&'a [u8]> {
    let longest = if size < 8 { 1024 } else { u64::from(size) };
    let (mut pieces, mut rest) = (Vec::new(), stream);
    while !rest.is_empty() {
        let (piece, after) = rest.split_at((rng.below(longest + 1) as usize).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Limits within reach of a short stream.
fn tight() -> RequestLimits {
    RequestLimits { arguments: 6, argument_bytes: 25, frame_bytes: 120, beyond: Beyond::Skip }
}

#[derive(Debug, PartialEq)]
enum Seen {
    Request(Vec<Vec<u8>>),
    Skipped(TooBig),
    Fatal(ProtocolError),
}

/// What the parser makes of the pieces, held as a session holds them.
fn parse(pieces: &[&[u8]], limits: RequestLimits) -> Vec<Seen> {
    let (mut parser, mut arguments) = (RequestParser::new(limits), Arguments::default());
    let (mut held, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let consumed = match parser.parse(&held, &mut arguments) {
                Parsed::Incomplete { consumed, needed } => {
                    held.drain(..consumed);
                    assert!(needed > held.len(), "it waits for what it has");
                    break;
                }
                Parsed::Request { consumed } => {
                    let words = arguments.of(&held).iter().map(<[u8]>::to_vec).collect();
                    seen.push(Seen::Request(words));
                    consumed
                }
                Parsed::Empty { consumed } => consumed,
                Parsed::Skipped { consumed, error } => {
                    seen.push(Seen::Skipped(error));
                    consumed
                }
                Parsed::Fatal { error } => {
                    seen.push(Seen::Fatal(error));
                    return seen;
                }
            };
            assert!((1..=held.len()).contains(&consumed), "a step that goes on");
            held.drain(..consumed);
        }
        let bound = limits.frame_bytes.max(INLINE_BYTES_MAX) + piece.len() + HEADER_BYTES;
        assert!(held.len() <= bound, "{} bytes are held, {bound} may be", held.len());
    }
    seen
}

/// A client that takes its replies, and its session.
struct Client {
    session: Session,
    executor: Echo,
    rng: Rng,
    replies: Vec<u8>,
    is_guarded: bool,
}

impl Client {
    fn open(is_guarded: bool, parks: bool, seed: u64) -> Self {
        let address = "127.0.0.1:1".parse().expect("an address");
        let peer = Peer { address, local: address };
        let password = is_guarded.then(|| Password::new(PASSWORD));
        let settings = Arc::new(Settings { password, ..Settings::default() });
        let mut replies = Vec::new();
        let id = ConnectionId::new(7);
        let session = Session::open(Now::default(), settings, id, peer, &mut replies);
        let rng = Rng::from_seed(seed);
        let executor =
            Echo { parks, rng: Rng::from_seed(seed ^ 1), parked: Vec::new(), executed: 0 };
        Self { session, executor, rng, replies, is_guarded }
    }

    /// Sends it all, waits for every answer, and says that nothing more comes.
    fn says_all(mut self, pieces: &[&[u8]]) -> (String, State) {
        let now = Now::default();
        let (mut sent, mut held) = (0, 0);
        for piece in pieces {
            self.with(|session, executor, out| session.receive(now, piece, executor, out));
            sent += piece.len();
            held = held.max(self.session.bytes_held());
            if self.rng.chance(1, 4) {
                self.answer_one();
            }
        }
        while !self.executor.parked.is_empty() {
            self.answer_one();
        }
        self.session.end_of_input(now);
        assert!(!self.is_guarded || self.executor.executed == 0, "nobody said the password");
        // Buffers may be twice as long as what is in them, and are kept up to 16 KiB each.
        let bound = 2 * (sent + self.replies.len()) + 32 * 1024;
        assert!(held <= bound, "{held} bytes were held of {sent}, {bound} may be");
        let state = self.session.state();
        assert_ne!(state, State::Open, "all is answered, and nothing more comes");
        (String::from_utf8_lossy(&self.replies).into_owned(), state)
    }

    fn answer_one(&mut self) {
        let parked = &mut self.executor.parked;
        if parked.is_empty() {
            return;
        }
        let (request, reply) = parked.swap_remove(self.rng.below(parked.len() as u64) as usize);
        self.with(|session, executor, out| {
            session.answer(Now::default(), request, &reply, executor, out);
        });
    }

    /// The client takes what it is sent, which may let the session go on and send more.
    fn with(&mut self, act: impl FnOnce(&mut Session, &mut Echo, &mut Vec<u8>)) {
        let mut out = Vec::new();
        act(&mut self.session, &mut self.executor, &mut out);
        let mut taken = 0;
        while taken < out.len() {
            let bytes = out.len() - taken;
            taken = out.len();
            self.session.sent(Now::default(), bytes, &mut self.executor, &mut out);
        }
        self.replies.extend_from_slice(&out);
    }
}

/// Answers with what it was asked, in a form that the command may have; some answers come later.
struct Echo {
    parks: bool,
    rng: Rng,
    parked: Vec<(RequestId, Vec<u8>)>,
    executed: usize,
}

impl Executor for Echo {
    fn execute(
        &mut self,
        _now: Now,
        _read_at: Instant,
        request: RequestId,
        protocol: Protocol,
        work: Work<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        self.executed += 1;
        if self.parks && self.rng.chance(1, 2) {
            let mut later = Vec::new();
            echo(protocol, work, &mut later);
            self.parked.push((request, later));
            return Outcome::Parked;
        }
        echo(protocol, work, reply);
        Outcome::Done
    }
}

fn echo(protocol: Protocol, work: Work<'_>, out: &mut Vec<u8>) {
    let operation = match work {
        Work::Key(command) if command.key.starts_with(b"!") => {
            return reply::error(out, "NOQUORUM 1/2");
        }
        Work::Key(command) => command.operation,
        Work::Node(_) => Operation::Get,
    };
    match operation {
        Operation::Set { previous: false, .. } => reply::ok(out),
        Operation::Delete | Operation::Exists => reply::integer(out, 1),
        _ => reply::bulk(out, format!("{protocol:?} {work:?}").as_bytes()),
    }
}
