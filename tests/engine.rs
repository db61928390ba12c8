//! A node in this process, with real sockets and files: what is told is there after any end.

#![cfg(feature = "engine")]

use std::io::Read;
use std::io::Write;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::time::Duration;

use stator::base::id::LogId;
use stator::base::id::ShardId;
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

/// Small, so that a test fills many.
const SEGMENT_BYTES: u32 = 1024 * 1024;

#[test]
fn a_kill_loses_nothing_that_was_told() {
    let directory = Directory::new();
    let count = 500;
    {
        let engine = start(directory.path(), 2);
        let mut client = Client::connect(engine.addresses().shared);
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
        for number in 0..count {
            assert_eq!(client.call(&["SET", &key(number), &value(number)]), "+OK\r\n");
        }
        // Dropped without a stop: as a killed process ends.
    }
    let engine = start(directory.path(), 2);
    let mut client = Client::connect(engine.addresses().shared);
    for number in 0..count {
        assert_eq!(client.call(&["GET", &key(number)]), bulk(&value(number)));
    }
    engine.stop().expect("it stops");
}

#[test]
fn a_clean_stop_is_read_by_the_next_start() {
    let directory = Directory::new();
    for round in 0..4 {
        let engine = start(directory.path(), 1);
        let mut client = Client::connect(engine.addresses().cores[0]);
        for before in 0..round {
            assert_eq!(client.call(&["GET", &key(before)]), bulk(&value(before)));
        }
        assert_eq!(client.call(&["SET", &key(round), &value(round)]), "+OK\r\n");
        engine.stop().expect("it stops");
    }
}

/// More than the write buffer keeps: segments are sealed, indexed, and compacted, for most of each is
/// overwritten; what is alive in them is copied, and the copy is mapped.
#[test]
fn segments_come_and_go_under_pipelined_writes() {
    let directory = Directory::new();
    let engine = start(directory.path(), 2);
    let mut client = Client::connect(engine.addresses().shared);
    let (keys, rounds) = (2000, 3);
    let long = "x".repeat(4000);
    let name = |round: u32, number: u32| match number % 4 {
        0 => format!("of round {round}:{number}"),
        _ => key(number),
    };
    for round in 0..rounds {
        for number in 0..keys {
            client.send(&["SET", &name(round, number), &format!("{round} {long}")]);
        }
        for number in 0..keys {
            assert_eq!(client.receive(), "+OK\r\n", "{number} in round {round}");
        }
    }
    let read_all = |client: &mut Client| {
        for (round, number) in (0..rounds).flat_map(|round| (0..keys).map(move |it| (round, it))) {
            let newest = if number % 4 == 0 { round } else { rounds - 1 };
            let expected = bulk(&format!("{newest} {long}"));
            assert_eq!(client.call(&["GET", &name(round, number)]), expected);
        }
    };
    read_all(&mut client);
    let mapped = |engine: &Engine| engine.counters().iter().any(|it| it.mapped_bytes > 0);
    let begun = std::time::Instant::now();
    while !mapped(&engine) {
        assert!(begun.elapsed() < Duration::from_secs(20), "no segment became resident");
        assert_eq!(client.call(&["PING"]), "+PONG\r\n");
    }
    drop(engine);
    let engine = start(directory.path(), 2);
    let mut client = Client::connect(engine.addresses().shared);
    read_all(&mut client);
    engine.stop().expect("it stops");
}

#[test]
fn a_half_closed_client_gets_answers_that_wait_for_the_disk() {
    let directory = Directory::new();
    let engine = start(directory.path(), 2);
    let mut client = Client::connect(engine.addresses().shared);
    for number in 0..100 {
        client.send(&["SET", &key(number), "value"]);
    }
    client.0.shutdown(std::net::Shutdown::Write).expect("it is open");
    let mut answers = String::new();
    client.0.read_to_string(&mut answers).expect("it ends well");
    assert_eq!(answers, "+OK\r\n".repeat(100));
    engine.stop().expect("it stops");
}

fn key(number: u32) -> String {
    format!("key:{number}")
}

fn value(number: u32) -> String {
    format!("value of {number}")
}

fn bulk(value: &str) -> String {
    format!("${}\r\n{value}\r\n", value.len())
}

fn start(directory: &Path, shards: u16) -> Engine {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    let config = Config {
        data_dir: directory.to_owned(),
        listen: any,
        core_listen: vec![any; usize::from(shards)],
        shards,
        pin: Pin::None,
        clients_max: 100,
    };
    Engine::start(&config, |addresses| Ok(settings(addresses, shards))).expect("it starts")
}

fn settings(addresses: &Addresses, shards: u16) -> Vec<Settings> {
    let node = Arc::new(NodeSettings {
        name: "test".to_owned(),
        id: "0".repeat(40),
        process_id: std::process::id(),
        client_address: addresses.shared,
        core_addresses: addresses.cores.clone(),
        partitions: Partitions::new(PARTITIONS).expect("a power of two"),
        owners: (0..PARTITIONS).map(|number| ShardId::new(number % shards)).collect(),
        cluster: Cluster::alone(Partitions::new(PARTITIONS).expect("a power of two")),
        hash_seed: 7,
        context_secret: ContextSecret::new([7; 32]),
        namespaces: Namespaces::default(),
        sessions: Arc::new(session::Settings::default()),
        siblings_max: 100,
        memory_bytes_max: 256 * 1024 * 1024,
        request_timeout: Duration::from_secs(5),
        shown: Vec::new(),
    });
    let settings = |shard: u16| Settings {
        shard: ShardId::new(shard),
        storage: storage::Settings {
            segment_bytes: SEGMENT_BYTES,
            ..storage::Settings::new(LogId::new(u32::from(shard) + 1), PARTITIONS)
        },
        node: node.clone(),
    };
    (0..shards).map(settings).collect()
}

/// A client that speaks RESP 2.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        // A test that would hang fails.
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("it is not zero");
        stream.set_nodelay(true).expect("TCP has it");
        Self(stream)
    }

    fn call(&mut self, words: &[&str]) -> String {
        self.send(words);
        self.receive()
    }

    fn send(&mut self, words: &[&str]) {
        let mut request = format!("*{}\r\n", words.len());
        words.iter().for_each(|word| request += &bulk(word));
        self.0.write_all(request.as_bytes()).expect("it is open");
    }

    /// One simple or bulk reply, as it came.
    fn receive(&mut self) -> String {
        let mut reply = self.line();
        if let Some(length) = reply.strip_prefix('$') {
            let length: i64 = length.trim().parse().expect("a length");
            if length >= 0 {
                let mut rest = vec![0; length as usize + 2];
                self.0.read_exact(&mut rest).expect("a whole reply");
                reply += &String::from_utf8(rest).expect("text");
            }
        }
        reply
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("an answer");
            line.push(byte[0]);
        }
        String::from_utf8(line).expect("text")
    }
}

/// A data directory, removed at the end of its test.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("stator-engine-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
