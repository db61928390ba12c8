//! Whether the engine's own loop is still the right one: the same small server on its io_uring and
//! on glommio's executor and sockets, the same clients, one after the other in turns.
//! `cargo bench --bench runtime`; small under `cargo test --benches`.
//!
//! The figure to trust is the CPU time of the server's thread for an operation, and of it the ratio:
//! the client shares the machine, so the rate is a joint limit. The loop won when the engine was
//! made, most clearly where little is to do. If glommio ever wins here, the engine should move.

#[path = "../cpu/mod.rs"]
mod cpu;
mod engine;
mod glommio;
mod resp;

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::thread::CpuSet;
use stator::base;
use stator::base::rng::Rng;

const CLIENTS: usize = 50;
const VALUE: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
                     012345678901234567890123456789";

/// A server, and the name of its thread.
struct Server {
    thread: &'static str,
    clients: Vec<TcpStream>,
}

/// What the clients do.
struct Load {
    name: &'static str,
    request: fn(u64) -> String,
    reply_bytes: usize,
    clients: usize,
    /// Requests that a client sends before it waits.
    pipeline: usize,
    operations: usize,
}

/// What one server made of a load once.
#[derive(Clone, Copy)]
struct Measured {
    rate: f64,
    cpu_micros: f64,
}

fn main() {
    // `cargo test --benches` passes no `--bench`.
    let full = std::env::args().any(|argument| argument == "--bench");
    let (keys, rounds, scale): (u64, usize, usize) =
        if full { (100_000, 7, 100) } else { (100, 1, 1) };
    let mut servers = servers();
    for server in &mut servers {
        fill(server, keys);
    }
    let found = format!("${}\r\n{VALUE}\r\n", VALUE.len()).len();
    let load = |name, request, reply_bytes, clients, pipeline, operations| Load {
        name,
        request,
        reply_bytes,
        clients,
        pipeline,
        operations: operations * scale,
    };
    let loads = [
        load("PING, one client", ping as fn(u64) -> String, 7, 1, 1, 100),
        load("GET, one client", get, found, 1, 1, 100),
        load("GET, 50 clients", get, found, CLIENTS, 1, 500),
        load("SET, 50 clients", set, 5, CLIENTS, 1, 500),
        load("GET, 50 clients x 16", get, found, CLIENTS, 16, 4000),
        load("SET, 50 clients x 16", set, 5, CLIENTS, 16, 4000),
    ];
    println!("medians of {rounds} rounds: thousands a second, and server CPU microseconds each");
    println!("{:<24}{:>16}{:>16}{:>8}", "", "io_uring", "glommio", "ratio");
    for load in loads {
        let mut measured = [Vec::new(), Vec::new()];
        for round in 0..rounds {
            // In turns, and each is first every other time.
            for place in 0..servers.len() {
                let index = (place + round) % servers.len();
                measured[index].push(load.run(&mut servers[index], keys, round as u64));
            }
        }
        let [ours, theirs] = measured.map(|all| median(&all));
        let show = |it: Measured| format!("{:.0}{:>8.2}", it.rate / 1e3, it.cpu_micros);
        let ratio = theirs.cpu_micros / ours.cpu_micros;
        println!("{:<24}{:>16}{:>16}{ratio:>8.2}", load.name, show(ours), show(theirs));
    }
}

/// Both on one core, this thread on another, if there are two: only one of them ever has work.
fn servers() -> [Server; 2] {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let ours = listener.local_addr().expect("bound");
    let (tell, told) = mpsc::channel();
    spawn("ours", move || engine::serve(listener));
    spawn("glommio", move || glommio::serve(&tell));
    let theirs = told.recv().expect("it listens");
    pin(1);
    [("ours", ours), ("glommio", theirs)].map(|(thread, address)| Server {
        thread,
        clients: (0..CLIENTS).map(|_| connect(address)).collect(),
    })
}

fn spawn(name: &str, serve: impl FnOnce() + Send + 'static) {
    let builder = thread::Builder::new().name(name.to_owned());
    let run = || {
        pin(0);
        serve();
    };
    builder.spawn(run).expect("a thread");
}

fn pin(core: usize) {
    if thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) {
        let mut cores = CpuSet::new();
        cores.set(core);
        // Where it is not allowed, the figures are less steady.
        let _ = rustix::thread::sched_setaffinity(None, &cores);
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("it listens");
    client.set_nodelay(true).expect("TCP has it");
    client
}

fn fill(server: &mut Server, keys: u64) {
    for first in (0..keys).step_by(100) {
        let requests: String = (first..first + 100).map(set).collect();
        server.clients[0].write_all(requests.as_bytes()).expect("it is open");
        let mut replies = [0; 500];
        server.clients[0].read_exact(&mut replies).expect("whole replies");
        assert!(replies.starts_with(b"+OK\r\n"));
    }
}

impl Load {
    /// Each client sends as soon as it has its replies, and they are looked at in turns.
    fn run(&self, server: &mut Server, keys: u64, seed: u64) -> Measured {
        // Made before, so that making them costs nothing that is measured.
        let mut rng = Rng::from_seed(seed);
        let requests: Vec<String> = (0..256)
            .map(|_| (0..self.pipeline).map(|_| (self.request)(rng.below(keys))).collect())
            .collect();
        let mut replies = vec![0; self.pipeline * self.reply_bytes];
        let clients = &mut server.clients[..self.clients];
        let turns = self.operations.div_ceil(self.clients * self.pipeline);
        let (cpu, begun) = (cpu::of_threads(server.thread), Instant::now());
        for turn in 0..=turns {
            for (number, client) in clients.iter_mut().enumerate() {
                if turn > 0 {
                    client.read_exact(&mut replies).expect("whole replies");
                }
                if turn < turns {
                    let request = &requests[(turn * self.clients + number) % requests.len()];
                    client.write_all(request.as_bytes()).expect("it is open");
                }
            }
        }
        let taken = begun.elapsed();
        let cpu: Duration = cpu::of_threads(server.thread) - cpu;
        let done = (turns * self.clients * self.pipeline) as f64;
        Measured { rate: done / taken.as_secs_f64(), cpu_micros: cpu.as_secs_f64() * 1e6 / done }
    }
}

/// The round with the median of the server's CPU time.
fn median(all: &[Measured]) -> Measured {
    let mut all = all.to_vec();
    all.sort_by(|one, other| one.cpu_micros.total_cmp(&other.cpu_micros));
    all[all.len() / 2]
}

fn ping(_: u64) -> String {
    "*1\r\n$4\r\nPING\r\n".to_owned()
}

fn get(number: u64) -> String {
    format!("*2\r\n$3\r\nGET\r\n$16\r\nkey:{number:012}\r\n")
}

fn set(number: u64) -> String {
    let length = VALUE.len();
    format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{number:012}\r\n${length}\r\n{VALUE}\r\n")
}
