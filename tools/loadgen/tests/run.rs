//! Whole runs against a small server in the same process: what it saw is what the report says.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use clap::Parser;
use stator_loadgen::args::Cli;
use stator_loadgen::reply::{Reply, elements, parse};
use stator_loadgen::report::Report;
use stator_loadgen::{hlog, run};

#[test]
fn every_answer_is_counted_as_what_it_was() {
    let server = Server::start(|number, words, _| match words[0].as_str() {
        _ if number % 20 == 0 => b"-BUSY try again\r\n".to_vec(),
        _ if number % 50 == 1 => b"-TIMEOUT\r\n".to_vec(),
        "GET" if number % 10 == 3 => b"$-1\r\n".to_vec(),
        "GET" => b"$3\r\nabc\r\n".to_vec(),
        _ => b"+OK\r\n".to_vec(),
    });
    let report = measure(&server, "-c 4 -P 8 --threads 2 -n 5000 --warmup 0s -m get=50,set=50")
        .expect("a run");
    assert_eq!(server.served(), 5_000);
    let expected: BTreeMap<String, u64> =
        [("BUSY".to_owned(), 250), ("TIMEOUT".to_owned(), 100)].into();
    assert_eq!(report.errors, expected);
    assert_eq!(report.answered, 5_000 - 350);
    assert_eq!(report.unanswered, 0);
    assert!(report.client_cpu.us_per_op > 0.0, "ended threads have taken it with them");
    let (gets, sets) = (report.latency_us["get"].count, report.latency_us["set"].count);
    assert_eq!(gets + sets, report.answered);
    assert!(gets.abs_diff(sets) < 500, "{gets} gets, {sets} sets");
    assert!((100..400).contains(&report.misses), "a tenth of the gets: {}", report.misses);
}

#[test]
fn an_open_loop_counts_the_queue_behind_a_stall_and_a_closed_loop_does_not() {
    // The server answers at once, but for one request that takes 200 ms.
    let stalling = |number: u64, _: &[String], _: &Store| {
        if number == 100 {
            // Nobody ever sends: this is the stall itself, not a way to wait for somebody.
            let (_keep, silent) = mpsc::channel::<()>();
            let _ = silent.recv_timeout(Duration::from_millis(200));
        }
        b"$1\r\nx\r\n".to_vec()
    };
    let server = Server::start(stalling);
    let line = "-c 1 -n 600 --warmup 0s --rate 1000 --spacing fixed --wait sleep";
    let open = measure(&server, line).expect("a run");
    let all = &open.latency_us["all"];
    assert_eq!(all.count, 600);
    // Some 200 of the 600 were due during the stall, and half of those waited 100 ms or more.
    assert!(all.p90 > 50_000.0, "the tenth slowest sixth of the queue: {} us", all.p90);
    assert!(all.max >= 190_000.0, "the stall itself: {} us", all.max);

    let server = Server::start(stalling);
    let closed = measure(&server, "-c 1 -n 600 --warmup 0s").expect("a run");
    let all = &closed.latency_us["all"];
    assert!(all.max >= 190_000.0, "the stall itself: {} us", all.max);
    assert!(all.p99 < 100_000.0, "one request of 600 met it: {} us", all.p99);
}

#[test]
fn what_was_filled_is_found_and_a_wrong_value_fails_the_run() {
    let server = Server::start(keep);
    let line = "-c 3 -n 2000 --warmup 0s --keys 500 --check-values --value-size 40";
    let report = measure(&server, &format!("{line} --load --threads 2")).expect("a run");
    assert_eq!(server.store.lock().expect("no panic").len(), 500);
    assert_eq!((report.misses, report.mismatches), (0, 0));
    assert_eq!(report.answered, 2_000);
    assert_eq!(report.filled.as_ref().map(|filled| filled.keys), Some(500));
    assert_eq!(report.failure(), None);

    // Every value under another's key.
    server.store.lock().expect("no panic").values_mut().for_each(|value| value.reverse());
    let report = measure(&server, line).expect("a run");
    assert_eq!(report.mismatches, 2_000);
    assert!(report.failure().is_some());
}

#[test]
fn contexts_are_carried_from_get_to_put() {
    // A server with versions: a put must name the version that is there.
    let server = Server::start(|_, words, store| {
        let mut store = store.lock().expect("no panic");
        let version = store
            .get(&words[1])
            .map_or(String::new(), |bytes| String::from_utf8(bytes.clone()).expect("a number"));
        if words[0] == "DYN.GET" {
            let values = if version.is_empty() { "*0\r\n" } else { "*1\r\n$1\r\nv\r\n" };
            return format!("*2\r\n${}\r\n{version}\r\n{values}", version.len()).into_bytes();
        }
        if words[2] != version {
            return b"-BADCONTEXT\r\n".to_vec();
        }
        let next = (version.parse().unwrap_or(0) + 1).to_string();
        store.insert(words[1].clone(), next.clone().into_bytes());
        format!("${}\r\n{next}\r\n", next.len()).into_bytes()
    });
    let line = "-c 1 -n 3000 --warmup 0s --keys 20 --dyn -m get=40,set=40,rmw=20";
    let report = measure(&server, line).expect("a run");
    assert_eq!(report.errors, BTreeMap::new());
    assert!(report.latency_us["rmw"].count > 400);
    assert_eq!(report.answered, server.served());
}

#[test]
fn a_connection_that_closes_ends_the_run_or_counts_as_an_error() {
    let close = |number: u64, _: &[String], _: &Store| {
        if number == 50 { Vec::new() } else { b"+OK\r\n".to_vec() }
    };
    let server = Server::start(close);
    let line = "-c 1 -n 100 --warmup 0s -m set=1";
    let error = measure(&server, line).expect_err("the connection closed");
    assert!(error.contains("closed a connection"), "{error}");

    let server = Server::start(close);
    let report = measure(&server, &format!("{line} --reconnect")).expect("a run");
    assert_eq!(report.errors, [("(closed)".to_owned(), 1)].into());
    assert_eq!(report.answered, 99);
}

#[test]
fn a_server_that_is_not_there_or_not_resp_is_an_error() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|one| one.local_addr());
    let address = address.expect("a free port");
    assert!(run_at(address, "-d 1s").expect_err("nobody listens").contains("cannot connect"));
    let server = Server::start(|_, _, _| b"<html>\r\n".to_vec());
    assert!(measure(&server, "-d 1s").expect_err("no RESP").contains("not RESP"));
}

#[test]
fn a_silent_server_is_reported_as_unanswered_in_bounded_time() {
    let server = Server::start(|number, _, _| {
        // An empty bulk is never finished: the answer has no end.
        if number >= 10 { b"$1\r\n".to_vec() } else { b"$1\r\nx\r\n".to_vec() }
    });
    let line = "-c 1 -d 300ms --warmup 0s --drain 100ms --rate 100 --spacing fixed";
    let report = measure(&server, line).expect("a run");
    assert_eq!(report.answered, 9);
    assert!((15..=21).contains(&report.unanswered), "{} unanswered", report.unanswered);
    assert!(report.latency_us["all"].max > 300_000.0, "their wait counts");
}

#[test]
fn the_histogram_log_holds_what_the_report_says() {
    let server = Server::start(|_, _, _| b"$1\r\nx\r\n".to_vec());
    let path =
        PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("run{}.hlog", std::process::id()));
    let line = format!("-c 2 -d 1200ms --warmup 0s --rate 1000 --histogram {}", path.display());
    let report = measure(&server, &line).expect("a run");
    let read = hlog::read(&path).expect("a log");
    std::fs::remove_file(&path).expect("it was there");
    assert_eq!(read["get"].len(), report.answered);
    assert_eq!(read["get"].value_at_quantile(0.5) as f64 / 1e3, report.latency_us["get"].p50);
}

fn measure(server: &Server, line: &str) -> Result<Report, String> {
    run_at(server.address, line)
}

fn run_at(address: SocketAddr, line: &str) -> Result<Report, String> {
    let line = format!("loadgen -q -s {address} {line}");
    let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
    run::run(&cli.run, &AtomicBool::new(false), &mut io::sink())
}

type Store = Mutex<HashMap<String, Vec<u8>>>;
type Answer = fn(u64, &[String], &Store) -> Vec<u8>;

/// A plain map.
fn keep(_: u64, words: &[String], store: &Store) -> Vec<u8> {
    let mut store = store.lock().expect("no panic");
    if words[0] == "SET" {
        store.insert(words[1].clone(), words[2].clone().into_bytes());
        return b"+OK\r\n".to_vec();
    }
    let Some(value) = store.get(&words[1]) else { return b"$-1\r\n".to_vec() };
    [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat()
}

/// A thread per connection; a function answers the n-th request (from 1) of all of them. An empty
/// answer closes the connection.
struct Server {
    address: SocketAddr,
    served: Arc<AtomicU64>,
    store: Arc<Store>,
    ending: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<()>>,
}

impl Server {
    fn start(answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let served = Arc::new(AtomicU64::new(0));
        let store = Arc::new(Store::default());
        let ending = Arc::new(AtomicBool::new(false));
        let shared = (Arc::clone(&served), Arc::clone(&store), Arc::clone(&ending));
        let acceptor = std::thread::spawn(move || {
            let (served, store, ending) = shared;
            let mut threads = Vec::new();
            for stream in listener.incoming() {
                if ending.load(Ordering::SeqCst) {
                    break;
                }
                let stream = stream.expect("a connection");
                let (served, store) = (Arc::clone(&served), Arc::clone(&store));
                threads.push(std::thread::spawn(move || serve(stream, &served, &store, answer)));
            }
            for thread in threads {
                thread.join().expect("a connection's thread does not panic");
            }
        });
        Self { address, served, store, ending, acceptor: Some(acceptor) }
    }

    fn served(&self) -> u64 {
        self.served.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::SeqCst);
        // Wakes the acceptor; it looks at `ending` first.
        drop(TcpStream::connect(self.address));
        let acceptor = self.acceptor.take().expect("it ends once");
        assert!(acceptor.join().is_ok() || std::thread::panicking());
    }
}

fn serve(mut stream: TcpStream, served: &AtomicU64, store: &Store, answer: Answer) {
    let (mut pending, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let length = stream.read(&mut piece).unwrap_or(0);
        if length == 0 {
            return;
        }
        pending.extend_from_slice(&piece[..length]);
        let mut out = Vec::new();
        let mut used = 0;
        // A request is an array of strings: the tool's own parser reads it.
        while let Ok((Reply::Array { body, .. }, length)) = parse(&pending[used..]) {
            used += length;
            let words: Vec<String> = elements(body)
                .map(|word| match word {
                    Reply::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                    other => panic!("{other:?} in a request"),
                })
                .collect();
            let reply = answer(served.fetch_add(1, Ordering::SeqCst) + 1, &words, store);
            if reply.is_empty() {
                return;
            }
            out.extend_from_slice(&reply);
        }
        pending.drain(..used);
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}
