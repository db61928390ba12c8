//! What a request costs the thread of a shard, sockets and disk included: one shard, one client
//! thread, loopback. `cargo bench --bench engine`; small under `cargo test --benches`.
//!
//! The figure to trust is the CPU time of the shard's thread for an operation: the client shares
//! the machine, so the rate is a joint limit.

mod cpu;

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use stator::base::id::LogId;
use stator::base::id::ShardId;
use stator::base::rng::Rng;
use stator::engine::Addresses;
use stator::engine::Config;
use stator::engine::Engine;
use stator::engine::Pin;
use stator::protocol::coordinator::Namespaces;
use stator::protocol::ring::Partitions;
use stator::protocol::session;
use stator::protocol::shard::Cluster;
use stator::protocol::shard::NodeSettings;
use stator::protocol::shard::Settings;
use stator::protocol::version::ContextSecret;
use stator::storage;

const PARTITIONS: u16 = 64;

/// Connections that ask in turn, as one client thread can serve without polling.
const CLIENTS: usize = 16;

const VALUE: &str = "0123456789012345678901234567890123456789012345678901234567890123456789\
                     012345678901234567890123456789";

fn main() {
    // `cargo test --benches` passes no `--bench`.
    let full = std::env::args().any(|argument| argument == "--bench");
    let (keys, operations) = if full { (100_000, 1_000_000) } else { (100, 1_000) };
    let directory = std::env::temp_dir().join(format!("stator-bench-{}", std::process::id()));
    let engine = start(&directory);
    let mut load = Load::new(engine.addresses().shared, keys);
    for number in 0..keys {
        load.send(0, &set(number));
        if number % 100 == 99 {
            load.receive(0, 100 * b"+OK\r\n".len());
        }
    }
    println!("{:<22}{:>10}{:>16}{:>14}", "", "kops/s", "shard CPU us/op", "mean RTT us");
    let pong = b"+PONG\r\n".len();
    let found = format!("${}\r\n{VALUE}\r\n", VALUE.len()).len();
    let few = operations / 10;
    load.measure("PING, alone", few, 1, 1, pong, |_| "*1\r\n$4\r\nPING\r\n".to_owned());
    load.measure("PING, 16 clients", operations, CLIENTS, 1, pong, |_| ping());
    load.measure("PING, 16 x 16", operations, CLIENTS, 16, pong, |_| ping());
    load.measure("GET, 16 clients", operations, CLIENTS, 1, found, get);
    load.measure("GET, 16 x 16", operations, CLIENTS, 16, found, get);
    load.measure("SET, alone", few / 100, 1, 1, 5, set);
    load.measure("SET, 16 clients", few / 10, CLIENTS, 1, 5, set);
    load.measure("SET, 16 x 16", operations, CLIENTS, 16, 5, set);
    engine.stop().expect("it stops");
    let _ = std::fs::remove_dir_all(&directory);
}

fn ping() -> String {
    "*1\r\n$4\r\nPING\r\n".to_owned()
}

fn get(number: u64) -> String {
    let key = format!("key:{number:012}");
    format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len())
}

fn set(number: u64) -> String {
    let key = format!("key:{number:012}");
    let length = VALUE.len();
    format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${length}\r\n{VALUE}\r\n", key.len())
}

struct Load {
    clients: Vec<TcpStream>,
    rng: Rng,
    keys: u64,
    buffer: Vec<u8>,
}

impl Load {
    fn new(address: SocketAddr, keys: u64) -> Self {
        let connect = |_| {
            let client = TcpStream::connect(address).expect("it listens");
            client.set_nodelay(true).expect("TCP has it");
            client
        };
        let clients = (0..CLIENTS).map(connect).collect();
        Self { clients, rng: Rng::from_seed(1), keys, buffer: vec![0; 1024 * 1024] }
    }

    fn send(&mut self, client: usize, request: &str) {
        self.clients[client].write_all(request.as_bytes()).expect("it is open");
    }

    fn receive(&mut self, client: usize, bytes: usize) {
        self.clients[client].read_exact(&mut self.buffer[..bytes]).expect("whole replies");
    }

    /// Each of `clients` sends `pipeline` requests, then each gets its replies, and so on.
    fn measure(
        &mut self,
        name: &str,
        operations: u64,
        clients: usize,
        pipeline: usize,
        reply_bytes: usize,
        request: impl Fn(u64) -> String,
    ) {
        // Made before, so that making them costs nothing that is measured.
        let requests: Vec<String> = (0..256)
            .map(|_| (0..pipeline).map(|_| request(self.rng.below(self.keys))).collect())
            .collect();
        let rounds = (operations as usize).div_ceil(clients * pipeline);
        let (cpu, begun) = (cpu::of_threads("stator-s"), Instant::now());
        for round in 0..rounds {
            for client in 0..clients {
                self.send(client, &requests[(round * clients + client) % requests.len()]);
            }
            for client in 0..clients {
                self.receive(client, pipeline * reply_bytes);
            }
        }
        let (taken, cpu) = (begun.elapsed(), cpu::of_threads("stator-s") - cpu);
        let done = (rounds * clients * pipeline) as f64;
        println!(
            "{name:<22}{:>10.1}{:>16.3}{:>14.1}",
            done / taken.as_secs_f64() / 1e3,
            cpu.as_secs_f64() * 1e6 / done,
            taken.as_secs_f64() * 1e6 / rounds as f64,
        );
    }
}

fn start(directory: &Path) -> Engine {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let config = Config {
        data_dir: directory.to_owned(),
        listen: any,
        core_listen: vec![any],
        shards: 1,
        pin: Pin::Spread,
        clients_max: 100,
    };
    Engine::start(&config, |addresses| Ok(settings(addresses))).expect("it starts")
}

fn settings(addresses: &Addresses) -> Vec<Settings> {
    let node = Arc::new(NodeSettings {
        name: "bench".to_owned(),
        id: "0".repeat(40),
        process_id: std::process::id(),
        client_address: addresses.shared,
        core_addresses: addresses.cores.clone(),
        partitions: Partitions::new(PARTITIONS).expect("a power of two"),
        owners: vec![ShardId::new(0); usize::from(PARTITIONS)],
        cluster: Cluster::alone(Partitions::new(PARTITIONS).expect("a power of two")),
        hash_seed: 7,
        context_secret: ContextSecret::new([7; 32]),
        namespaces: Namespaces::default(),
        sessions: Arc::new(session::Settings::default()),
        siblings_max: 100,
        memory_bytes_max: 1024 * 1024 * 1024,
        request_timeout: Duration::from_secs(5),
        shown: Vec::new(),
    });
    let storage = storage::Settings::new(LogId::new(1), PARTITIONS);
    vec![Settings { shard: ShardId::new(0), storage, node }]
}
