//! What a session costs around a command that costs nothing: nanoseconds, printed.
//! `cargo bench --bench session`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use stator::base::id::ConnectionId;
use stator::base::time::Now;
use stator::protocol::session::Executor;
use stator::protocol::session::Outcome;
use stator::protocol::session::Peer;
use stator::protocol::session::RequestId;
use stator::protocol::session::Session;
use stator::protocol::session::Settings;
use stator::protocol::session::Work;
use stator::protocol::wire::Protocol;
use stator::protocol::wire::reply;

/// Answers OK, at once or as soon as all that came is handed out.
#[derive(Default)]
struct Nothing {
    parks: bool,
    parked: Vec<RequestId>,
}

impl Executor for Nothing {
    fn execute(
        &mut self,
        _now: Now,
        _read_at: stator::base::time::Instant,
        request: RequestId,
        _protocol: Protocol,
        work: Work<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        black_box(work);
        if self.parks {
            self.parked.push(request);
            return Outcome::Parked;
        }
        reply::ok(reply);
        Outcome::Done
    }
}

fn main() {
    // Under `cargo test --benches` it only has to run.
    let rounds = if std::env::args().any(|word| word == "--bench") { 100_000 } else { 2 };
    let value = "v".repeat(100);
    let set = format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:000012345678\r\n$100\r\n{value}\r\n");
    let mget = format!("*11\r\n$4\r\nMGET\r\n{}", "$16\r\nkey:000012345678\r\n".repeat(10));
    for (name, one, commands) in [("SET", set, 1.0), ("MGET of ten, a key", mget, 10.0)] {
        for pipeline in [1, 16] {
            for parks in [false, true] {
                let nanos = time(rounds, one.repeat(pipeline).as_bytes(), parks);
                let each = nanos / pipeline as f64 / commands;
                let how = if parks { "parked" } else { "at once" };
                println!("{name}, pipeline of {pipeline}, answered {how}: {each:.1} ns");
            }
        }
    }
}

/// Nanoseconds for one arrival of `bytes`.
fn time(rounds: u32, bytes: &[u8], parks: bool) -> f64 {
    let address = "127.0.0.1:1".parse().expect("an address");
    let peer = Peer { address, local: address };
    let (now, mut out) = (Now::default(), Vec::new());
    let mut executor = Nothing { parks, parked: Vec::new() };
    let settings = Arc::new(Settings::default());
    let mut session = Session::open(now, settings, ConnectionId::new(1), peer, &mut out);
    let start = Instant::now();
    for _ in 0..rounds {
        session.receive(now, black_box(bytes), &mut executor, &mut out);
        let mut parked = std::mem::take(&mut executor.parked);
        for request in parked.drain(..) {
            session.answer(now, request, b"+OK\r\n", &mut executor, &mut out);
        }
        executor.parked = parked;
        let sent = out.len();
        session.sent(now, sent, &mut executor, &mut out);
        out.clear();
    }
    start.elapsed().as_nanos() as f64 / f64::from(rounds)
}
