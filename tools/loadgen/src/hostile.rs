//! Clients that no server wants, one thread for each kind: what they cost those that behave is
//! measured by another run beside this one. All come a few a second, but those that flood: they are
//! there from the first moment to the last. None of it may hang a server, crash it, or fill its memory.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::ValueEnum;

use crate::args::{BadClient, HostileArgs};
use crate::rng::Rng;

/// How long an answer, or room for more, is waited for.
const PATIENCE: Duration = Duration::from_millis(200);

/// Commands that are sent at once.
const PIPELINED: usize = 10_000;

/// Connections of one kind that stay open. Beyond it the oldest goes.
const HELD_MAX: usize = 64;

/// Bytes for a server whose answers are never read.
const UNREAD_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of one system call: a kernel that does not preempt itself holds up whoever shares the core
/// with this client for as long as one takes.
const PIECE_BYTES: usize = 16 * 1024;

/// What came of one of them.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    tried: u64,
    answered: u64,
    closed: u64,
    open: u64,
    refused: u64,
}

impl BadClient {
    fn name(self) -> String {
        self.to_possible_value().expect("each has a name").get_name().to_owned()
    }

    fn bytes(self, rng: &mut Rng) -> Vec<u8> {
        match self {
            Self::Garbage => (0..4096).map(|_| rng.next_u64() as u8).collect(),
            Self::LongKey => b"*2\r\n$3\r\nGET\r\n$4294967296\r\n".to_vec(),
            Self::ManyArguments => b"*4294967296\r\n$3\r\nGET\r\n".to_vec(),
            Self::Nested => b"*1\r\n".repeat(10_000),
            Self::Half => b"*2\r\n$3\r\nGET\r\n$900\r\nabc".to_vec(),
            Self::Burst | Self::Flood => b"*1\r\n$4\r\nPING\r\n".repeat(PIPELINED),
            Self::Unread => never_read(),
            Self::Http => b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        }
    }

    /// Nothing is read, and the connection stays.
    fn is_held(self) -> bool {
        matches!(self, Self::Half | Self::Unread)
    }
}

fn never_read() -> Vec<u8> {
    let word = "x".repeat(16 * 1024);
    let echo = format!("*2\r\n$4\r\nECHO\r\n${}\r\n{word}\r\n", word.len());
    echo.as_bytes().repeat(UNREAD_BYTES / echo.len())
}

/// Runs all kinds until the time is over, then says what each got.
///
/// # Errors
///
/// If the server does not answer afterwards.
pub fn run(args: &HostileArgs, stop: &AtomicBool, out: &mut impl Write) -> Result<(), String> {
    let until = Instant::now() + args.duration;
    let kinds =
        if args.kinds.is_empty() { BadClient::value_variants() } else { args.kinds.as_slice() };
    let outcomes: Vec<Outcomes> = std::thread::scope(|scope| {
        let threads: Vec<_> = kinds
            .iter()
            .map(|kind| {
                scope.spawn(move || match kind {
                    BadClient::Flood => flood(args, until, stop),
                    kind => repeat(*kind, args, until, stop),
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no kind panics")).collect()
    });
    let head = ("bad clients", "tried", "answered", "closed", "open", "refused");
    let line = |name: &str, cells: [String; 5]| {
        let [tried, answered, closed, open, refused] = cells;
        format!("{name:<22} {tried:>7} {answered:>9} {closed:>7} {open:>7} {refused:>8}")
    };
    let headings = [head.1, head.2, head.3, head.4, head.5].map(str::to_owned);
    let mut lines = vec![line(head.0, headings)];
    for (kind, got) in kinds.iter().zip(&outcomes) {
        let cells = [got.tried, got.answered, got.closed, got.open, got.refused];
        lines.push(line(&kind.name(), cells.map(|count| count.to_string())));
    }
    writeln!(out, "{}", lines.join("\n")).map_err(|error| error.to_string())?;
    still_answers(&args.server).map_err(|error| format!("the server does not answer now: {error}"))
}

fn repeat(kind: BadClient, args: &HostileArgs, until: Instant, stop: &AtomicBool) -> Outcomes {
    let mut rng = Rng::from_seed(args.seed);
    let mut outcomes = Outcomes::default();
    let mut held = std::collections::VecDeque::new();
    let mut next = Instant::now();
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        outcomes.tried += 1;
        let bytes = kind.bytes(&mut rng);
        match act(kind, &args.server, &bytes, &mut outcomes) {
            Ok(Some(stream)) => held.push_back(stream),
            Ok(None) => {}
            Err(_) => outcomes.refused += 1,
        }
        if held.len() > HELD_MAX {
            held.pop_front();
        }
        next += Duration::from_secs_f64(1.0 / args.rate);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    outcomes
}

/// One that sends as long as the server takes it.
struct Flooding {
    stream: TcpStream,
    /// How much of the bytes it has sent; then it begins again.
    sent: usize,
    answered: bool,
}

/// All of them connect, then each sends and reads what it can without waiting.
fn flood(args: &HostileArgs, until: Instant, stop: &AtomicBool) -> Outcomes {
    let bytes = BadClient::Flood.bytes(&mut Rng::from_seed(args.seed));
    let mut answers = vec![0; 4 * PIECE_BYTES];
    let mut outcomes = Outcomes::default();
    let mut all = Vec::new();
    for _ in 0..args.floods {
        outcomes.tried += 1;
        match TcpStream::connect(&args.server) {
            Ok(stream) if stream.set_nonblocking(true).is_ok() => {
                all.push(Flooding { stream, sent: 0, answered: false });
            }
            _ => outcomes.refused += 1,
        }
    }
    while Instant::now() < until && !stop.load(Ordering::Relaxed) {
        let mut moved = false;
        all.retain_mut(|one| match one.go_on(&bytes, &mut answers) {
            Ok(any) => {
                moved |= any;
                true
            }
            Err(_) => {
                outcomes.closed += 1;
                outcomes.answered += u64::from(one.answered);
                false
            }
        });
        if !moved {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    outcomes.open = all.len() as u64;
    outcomes.answered += all.iter().filter(|one| one.answered).count() as u64;
    outcomes
}

impl Flooding {
    /// A piece of each direction. Returns whether anything moved.
    fn go_on(&mut self, bytes: &[u8], answers: &mut [u8]) -> io::Result<bool> {
        let to = bytes.len().min(self.sent + PIECE_BYTES);
        let sent = without_waiting(self.stream.write(&bytes[self.sent..to]))?;
        self.sent = (self.sent + sent.unwrap_or(0)) % bytes.len();
        let read = without_waiting(self.stream.read(answers))?;
        self.answered |= read.is_some();
        Ok(sent.is_some() || read.is_some())
    }
}

/// `None`: not now.
fn without_waiting(result: io::Result<usize>) -> io::Result<Option<usize>> {
    match result {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(count) => Ok(Some(count)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends it, and waits for what comes. The stream, if it is to be held.
fn act(
    kind: BadClient,
    server: &str,
    bytes: &[u8],
    outcomes: &mut Outcomes,
) -> io::Result<Option<TcpStream>> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // A server that closes, or takes no more, is within its rights.
    let _ = bytes.chunks(PIECE_BYTES).try_for_each(|piece| stream.write_all(piece));
    if kind.is_held() {
        outcomes.open += 1;
        return Ok(Some(stream));
    }
    let mut buffer = vec![0; 64 * 1024];
    let mut answered = false;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => outcomes.closed += 1,
            Ok(_) => {
                answered = true;
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => outcomes.open += 1,
            Err(_) => outcomes.closed += 1,
        }
        outcomes.answered += u64::from(answered);
        return Ok(None);
    }
}

fn still_answers(server: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    if &answer == b"+PONG\r\n" {
        return Ok(());
    }
    Err(io::Error::other(String::from_utf8_lossy(&answer).into_owned()))
}
