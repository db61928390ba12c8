//! The whole engine with a small machine in place of a shard: what clients see of it.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::io::BufReader;
use std::io::ErrorKind;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::TcpListener;
use std::net::TcpStream;

use super::*;
use crate::base::id::ConnectionId;
use crate::base::id::SegmentId;
use crate::base::id::Ticket;
use crate::base::outbox::Outbox;
use crate::base::time::Now;
use crate::engine::scratch::Scratch;
use crate::protocol::shard::Effect;
use crate::protocol::shard::Event;
use crate::protocol::shard::Peer;
use crate::storage::effect as disk;
use crate::storage::effect::Failure;
use crate::storage::effect::File;
use crate::storage::effect::Resident;

/// Answers lines: `PING`; `DOOR`; `BIG n`, n bytes; `QUIT`, and closes; `HOLD`, and reads nothing
/// for 20 ms; `FAR`, by the next shard's hand; `LATE`, after 20 ms; `READ n`, nothing, and reads of
/// that log; `RELEASE n`, nothing, and needs nothing of that log; `STALL port`, nothing, and stands
/// still until somebody who listens there closes; `PIECES`, how many pieces of input have come.
struct Double {
    own: ShardId,
    shards: u16,
    clients: BTreeMap<ConnectionId, (Peer, Vec<u8>)>,
    held: Vec<(crate::base::time::Instant, ConnectionId, &'static str)>,
    /// Answers that are owed to each client, and those whose client sends no more.
    owed: BTreeMap<ConnectionId, usize>,
    ended: Vec<ConnectionId>,
    pieces: usize,
    fail: bool,
    stopping: bool,
}

impl Double {
    fn new(own: ShardId, shards: u16) -> Self {
        let (clients, held) = Default::default();
        let (owed, ended) = Default::default();
        Self { own, shards, clients, held, owed, ended, pieces: 0, fail: false, stopping: false }
    }

    fn lines(&mut self, now: Now, connection: ConnectionId, out: &mut Outbox<Effect>) {
        let (peer, mut bytes) = self.clients.remove(&connection).expect("it is connected");
        let mut done = 0;
        while let Some(length) = bytes[done..].iter().position(|byte| *byte == b'\n') {
            let line = String::from_utf8_lossy(&bytes[done..done + length]).trim().to_owned();
            self.line(now, connection, peer, &line, out);
            done += length + 1;
        }
        bytes.drain(..done);
        self.clients.insert(connection, (peer, bytes));
    }

    fn line(
        &mut self,
        now: Now,
        connection: ConnectionId,
        peer: Peer,
        line: &str,
        out: &mut Outbox<Effect>,
    ) {
        let later = now.monotonic + Duration::from_millis(20);
        match line.split_once(' ').unwrap_or((line, "")) {
            ("PING", _) => send(out, connection, b"+PONG\r\n"),
            ("DOOR", _) => send(out, connection, format!("{:?}\n", peer.door).as_bytes()),
            ("BIG", count) => {
                send(out, connection, &vec![b'x'; count.parse().expect("a number")]);
            }
            ("QUIT", _) => {
                send(out, connection, b"+BYE\r\n");
                out.push(Effect::Close { connection });
            }
            ("HOLD", _) => {
                out.push(Effect::StopReading { connection });
                self.held.push((later, connection, "+HELD\r\n"));
            }
            ("LATE", _) => self.held.push((later, connection, "+LATE\r\n")),
            ("FAR", _) => {
                *self.owed.entry(connection).or_default() += 1;
                let next = ShardId::new((self.own.to_raw() + 1) % self.shards);
                self.say(next, self.own, connection, out);
            }
            ("READ", log) => {
                let (ticket, segment) = (Ticket::new(1), first_segment(log));
                let read = disk::Effect::Read { ticket, segment, offset: 0, length: 1 };
                out.push(Effect::Disk(read));
            }
            ("STALL", port) => {
                let mut there =
                    connect((Ipv4Addr::LOCALHOST, port.parse().expect("a port")).into());
                there.read_to_end(&mut Vec::new()).expect("it is closed well");
            }
            ("PIECES", _) => send(out, connection, format!("{}\n", self.pieces).as_bytes()),
            ("RELEASE", log) => out.push(Effect::Released(first_segment(log).log)),
            (other, _) => panic!("{other}"),
        }
    }

    fn say(&self, to: ShardId, about: ShardId, client: ConnectionId, out: &mut Outbox<Effect>) {
        let start = out.arena.len();
        out.arena.extend_from_slice(&about.to_raw().to_le_bytes());
        out.arena.extend_from_slice(&client.to_raw().to_le_bytes());
        out.push(Effect::Mesh { to, bytes: start..out.arena.len() });
    }
}

fn first_segment(log: &str) -> SegmentId {
    SegmentId { log: LogId::new(log.parse().expect("a number")), number: 1 }
}

fn send(out: &mut Outbox<Effect>, connection: ConnectionId, bytes: &[u8]) {
    let start = out.arena.len();
    out.arena.extend_from_slice(bytes);
    out.push(Effect::Send { connection, bytes: start..out.arena.len() });
}

impl Machine for Double {
    fn handle(&mut self, now: Now, event: Event<'_>, _: &dyn Resident, out: &mut Outbox<Effect>) {
        match event {
            Event::Start if self.fail => {
                out.push(Effect::Failed(StartError::Disk(Failure::Io)));
            }
            Event::Start => out.push(Effect::Started),
            Event::Accepted { connection, peer } => {
                self.clients.insert(connection, (peer, Vec::new()));
            }
            Event::Received { connection, bytes } => {
                self.pieces += 1;
                self.clients.get_mut(&connection).expect("it is connected").1.extend(bytes);
                self.lines(now, connection, out);
            }
            Event::EndOfInput { connection } => self.ended.push(connection),
            Event::LogRemoved(_) => {}
            Event::PeerOpened { .. }
            | Event::PeerAccepted { .. }
            | Event::PeerReceived { .. }
            | Event::PeerSent { .. }
            | Event::PeerClosed { .. } => unreachable!("it has no peers"),
            Event::Closed { connection } => {
                assert!(self.clients.remove(&connection).is_some(), "told once");
            }
            Event::Mesh { from, bytes } => {
                for message in bytes.chunks(10) {
                    let about = u16::from_le_bytes([message[0], message[1]]);
                    let client = message[2..].try_into().expect("eight bytes");
                    let client = ConnectionId::new(u64::from_le_bytes(client));
                    if ShardId::new(about) == self.own {
                        send(out, client, b"+FAR\r\n");
                        *self.owed.get_mut(&client).expect("it asked") -= 1;
                    } else {
                        self.say(from, ShardId::new(about), client, out);
                    }
                }
            }
            Event::Tick => {
                let due = |held: &(_, _, _)| held.0 <= now.monotonic;
                for (_, connection, answer) in self.held.extract_if(.., |held| due(held)) {
                    out.push(Effect::StartReading { connection });
                    send(out, connection, answer.as_bytes());
                }
            }
            Event::Stop => self.stopping = true,
            Event::TurnEnd if std::mem::take(&mut self.stopping) => out.push(Effect::Stopped),
            Event::Sent { .. } | Event::TurnEnd | Event::Disk(_) => {}
        }
        let owed = &self.owed;
        let done = |client: &ConnectionId| owed.get(client).is_none_or(|count| *count == 0);
        for connection in self.ended.extract_if(.., |client| done(client)) {
            out.push(Effect::Close { connection });
        }
    }

    fn deadline(&self) -> Option<crate::base::time::Instant> {
        self.held.iter().map(|held| held.0).min()
    }
}

fn config(scratch: &Scratch, shards: u16) -> Config {
    let any: SocketAddr = "127.0.0.1:0".parse().expect("an address");
    Config {
        data_dir: scratch.path().join("data"),
        listen: any,
        core_listen: vec![any; usize::from(shards)],
        shards,
        pin: Pin::None,
        clients_max: 100,
    }
}

fn start(config: &Config) -> Result<Engine, EngineError> {
    let shards = config.shards;
    Engine::start_machines(config, |_| Ok(move |own, _| Double::new(own, shards)))
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).expect("it listens");
    client.set_nodelay(true).expect("TCP has it");
    // A test that would hang fails.
    client.set_read_timeout(Some(Duration::from_secs(10))).expect("it is not zero");
    client
}

fn read_line(client: &mut impl BufRead) -> String {
    let mut line = String::new();
    client.read_line(&mut line).expect("an answer");
    line.trim_end().to_owned()
}

/// Waits until something that must come has come.
fn until(mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it never came");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn ten_thousand_pipelined_requests_are_answered_in_few_turns() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let mut client = connect(engine.addresses().shared);
    let count = 10_000;
    client.write_all(&b"PING\r\n".repeat(count)).expect("it is open");
    let mut answers = vec![0; 7 * count];
    client.read_exact(&mut answers).expect("an answer each");
    assert_eq!(answers, b"+PONG\r\n".repeat(count));
    let counters = engine.counters()[0];
    assert!(counters.turns < 200, "{} turns for {count} requests", counters.turns);
    engine.stop().expect("it stops");
}

#[test]
fn a_frame_may_come_byte_by_byte() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let mut client = connect(engine.addresses().shared);
    for byte in b"PING\r\nPING\r\n" {
        client.write_all(&[*byte]).expect("it is open");
    }
    let mut reader = BufReader::new(client);
    assert_eq!((read_line(&mut reader), read_line(&mut reader)), ("+PONG".into(), "+PONG".into()));
}

/// It sends its last request and closes its half at once; the answers take a while.
#[test]
fn a_half_closed_client_gets_its_answers() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 2)).expect("it starts");
    for (request, answer) in [("PING\n", "+PONG\r\n"), ("FAR\n", "+FAR\r\n")] {
        let mut client = connect(engine.addresses().shared);
        client.write_all(request.repeat(100).as_bytes()).expect("it is open");
        client.shutdown(Shutdown::Write).expect("it is open");
        let mut answers = String::new();
        client.read_to_string(&mut answers).expect("it ends well");
        assert_eq!(answers, answer.repeat(100));
    }
    until(|| engine.counters().iter().all(|counters| counters.connections == 0));
}

#[test]
fn what_was_sent_before_a_close_arrives() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let mut client = connect(engine.addresses().shared);
    // What follows is never read by the shard; it must not reset the connection either.
    client.write_all(b"BIG 3000000\nQUIT\n").expect("it is open");
    client.write_all(&b"PING\n".repeat(1000)).expect("it is open");
    let mut answers = Vec::new();
    client.read_to_end(&mut answers).expect("it ends well");
    assert!(answers.starts_with(&vec![b'x'; 3_000_000]));
    assert!(answers.ends_with(b"+BYE\r\n"));
    assert_eq!(answers.len(), 3_000_006, "nothing after the close was answered");
}

#[test]
fn a_client_that_never_reads_is_closed_and_bothers_nobody() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let mut greedy = connect(engine.addresses().shared);
    greedy.write_all(b"BIG 64000000\nQUIT\n").expect("it is open");
    until(|| engine.counters()[0].bytes_sent > 0);
    let mut other = BufReader::new(connect(engine.addresses().shared));
    other.get_mut().write_all(b"PING\n").expect("it is open");
    assert_eq!(read_line(&mut other), "+PONG");
    until(|| engine.counters()[0].connections == 1);
    assert!(engine.counters()[0].bytes_sent < 64_000_000);
    other.get_mut().write_all(b"PING\n").expect("it is open");
    assert_eq!(read_line(&mut other), "+PONG");
}

/// Four pieces of one client, which had small requests until then, are there when that of the other
/// comes.
#[test]
fn a_client_that_sends_much_at_once_does_not_hold_up_another() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = listener.local_addr().expect("it is bound").port();
    let [mut greedy, mut modest] =
        [(); 2].map(|()| BufReader::new(connect(engine.addresses().shared)));
    for _ in 0..5 {
        for client in [&mut greedy, &mut modest] {
            client.get_mut().write_all(b"PING\n").expect("it is open");
            assert_eq!(read_line(client), "+PONG");
        }
    }

    greedy.get_mut().write_all(format!("STALL {port}\n").as_bytes()).expect("it is open");
    let (stalled, _) = listener.accept().expect("it connects");
    greedy.get_mut().write_all(&[b' '; 60_000]).expect("it is open");
    modest.get_mut().write_all(b"PIECES\n").expect("it is open");
    drop(stalled);
    // Ten PINGs, STALL, one of the four, and this.
    assert_eq!(read_line(&mut modest), "13");
    greedy.get_mut().write_all(b"PING\n").expect("it is open");
    assert_eq!(read_line(&mut greedy), "+PONG", "nothing of it is lost");
}

/// Clients that had small requests take all buffers at once, and what they sent is handled a piece of
/// each a turn: the one that found no buffer comes long before its end.
#[test]
fn many_clients_that_send_much_at_once_do_not_hold_up_another() {
    const GREEDY: usize = 60;
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = listener.local_addr().expect("it is bound").port();
    let mut clients: Vec<_> =
        (0..=GREEDY).map(|_| BufReader::new(connect(engine.addresses().shared))).collect();
    for client in &mut clients {
        for _ in 0..5 {
            client.get_mut().write_all(b"PING\n").expect("it is open");
            assert_eq!(read_line(client), "+PONG");
        }
    }

    let (modest, greedy) = clients.split_last_mut().expect("there are some");
    greedy[0].get_mut().write_all(format!("STALL {port}\n").as_bytes()).expect("it is open");
    let (stalled, _) = listener.accept().expect("it connects");
    for client in &mut *greedy {
        client.get_mut().write_all(&[b' '; 60_000]).expect("it is open");
    }
    modest.get_mut().write_all(b"PIECES\n").expect("it is open");
    drop(stalled);
    let pieces: usize = read_line(modest).parse().expect("a number");
    let (before, much) = ((GREEDY + 1) * 5 + 1, GREEDY * 60_000 / 8192);
    assert!(pieces < before + much / 3, "{pieces} of {}", before + much);
    for client in greedy {
        client.get_mut().write_all(b"PING\n").expect("it is open");
        assert_eq!(read_line(client), "+PONG", "nothing of it is lost");
    }
}

/// Large pieces are handled when all else of a turn is done.
#[test]
fn clients_that_send_much_do_not_hold_up_one_that_came_after_them() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = listener.local_addr().expect("it is bound").port();
    let mut clients: Vec<_> =
        (0..10).map(|_| BufReader::new(connect(engine.addresses().shared))).collect();
    let much = format!("{}PING\n", " ".repeat(10_000));
    let [modest, other, greedy @ ..] = &mut clients[..] else { panic!("there are ten") };
    for client in &mut *greedy {
        client.get_mut().write_all(much.as_bytes()).expect("it is open");
        assert_eq!(read_line(client), "+PONG");
    }
    modest.get_mut().write_all(b"PIECES\n").expect("it is open");
    let before: usize = read_line(modest).parse().expect("a number");

    other.get_mut().write_all(format!("STALL {port}\n").as_bytes()).expect("it is open");
    let (stalled, _) = listener.accept().expect("it connects");
    for client in &mut *greedy {
        client.get_mut().write_all(much.as_bytes()).expect("it is open");
    }
    modest.get_mut().write_all(b"PIECES\n").expect("it is open");
    drop(stalled);
    assert_eq!(read_line(modest), (before + 2).to_string(), "STALL, and this");
    for client in greedy {
        assert_eq!(read_line(client), "+PONG");
    }
}

/// They are received from in turn, and those whose turn it is have nothing more to say.
#[test]
fn clients_that_sent_much_are_heard_when_they_send_little() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = listener.local_addr().expect("it is bound").port();
    let mut clients: Vec<_> =
        (0..64).map(|_| BufReader::new(connect(engine.addresses().shared))).collect();
    let mut other = connect(engine.addresses().shared);
    until(|| engine.counters()[0].connections == 65);

    // None of them sends little yet.
    let stall = format!("{}STALL {port}\n", " ".repeat(16 * 1024));
    other.write_all(stall.as_bytes()).expect("it is open");
    let (stalled, _) = listener.accept().expect("it connects");
    for client in &mut clients {
        let much = format!("{}PING\n", " ".repeat(16 * 1024 - 5));
        client.get_mut().write_all(much.as_bytes()).expect("it is open");
    }
    drop(stalled);
    for client in &mut clients {
        assert_eq!(read_line(client), "+PONG");
    }
    // The last to come are the last in turn.
    for client in clients.iter_mut().rev() {
        client.get_mut().write_all(b"PING\n").expect("it is open");
        assert_eq!(read_line(client), "+PONG");
    }
}

#[test]
fn a_client_that_is_not_read_waits_and_loses_nothing() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 1)).expect("it starts");
    let mut client = connect(engine.addresses().shared);
    client.write_all(b"HOLD\n").expect("it is open");
    client.write_all(&b"PING\n".repeat(50_000)).expect("it is open");
    let mut reader = BufReader::new(client);
    let answers: Vec<String> = (0..50_001).map(|_| read_line(&mut reader)).collect();
    assert_eq!(answers.iter().filter(|answer| *answer == "+PONG").count(), 50_000);
    assert_eq!(answers.iter().filter(|answer| *answer == "+HELD").count(), 1);
}

#[test]
fn clients_beyond_the_limit_are_told_so() {
    let scratch = Scratch::new();
    let config = Config { clients_max: 3, ..config(&scratch, 1) };
    let engine = start(&config).expect("it starts");
    let mut clients: Vec<_> =
        (0..3).map(|_| BufReader::new(connect(engine.addresses().shared))).collect();
    for client in &mut clients {
        client.get_mut().write_all(b"PING\n").expect("it is open");
        assert_eq!(read_line(client), "+PONG");
    }
    let mut refused = String::new();
    connect(engine.addresses().shared).read_to_string(&mut refused).expect("it ends well");
    assert_eq!(refused, "-ERR max number of clients reached\r\n");
    until(|| engine.counters()[0].refused == 1);
    drop(clients);
    until(|| engine.counters()[0].connections == 0);
    let mut client = BufReader::new(connect(engine.addresses().shared));
    client.get_mut().write_all(b"PING\n").expect("it is open");
    assert_eq!(read_line(&mut client), "+PONG");
}

#[test]
fn each_core_has_a_door_of_its_own_and_all_share_one() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 2)).expect("it starts");
    let ask = |address| {
        let mut client = BufReader::new(connect(address));
        client.get_mut().write_all(b"DOOR\n").expect("it is open");
        read_line(&mut client)
    };
    assert_eq!(ask(engine.addresses().shared), "Shared");
    for (number, address) in engine.addresses().cores.iter().enumerate() {
        let before = engine.counters()[number].accepted;
        assert_eq!(ask(*address), "Core");
        until(|| engine.counters()[number].accepted == before + 1);
    }
    // The kernel spreads connections: fifty of them never all go to one core.
    (0..50).for_each(|_| assert_eq!(ask(engine.addresses().shared), "Shared"));
    until(|| engine.counters().iter().all(|counters| counters.accepted > 1));
}

#[test]
fn connections_that_come_and_go_leave_nothing() {
    let scratch = Scratch::new();
    let engine = start(&config(&scratch, 2)).expect("it starts");
    for round in 0..500 {
        let mut client = connect(engine.addresses().shared);
        match round % 3 {
            0 => client.write_all(b"PING\nPI").expect("it is open"),
            1 => client.write_all(b"BIG 100000\n").expect("it is open"),
            _ => client.shutdown(Shutdown::Both).expect("it is open"),
        }
    }
    let accepted = || engine.counters().iter().map(|counters| counters.accepted).sum::<u64>();
    // Those that were gone before they were looked at were never announced: on a busy machine many.
    until(|| accepted() > 20);
    until(|| engine.counters().iter().all(|counters| counters.connections == 0));
    engine.stop().expect("it stops");
}

/// A descriptor would keep the space of a file long after its name is gone.
#[test]
fn a_log_that_all_shards_released_goes_and_nothing_of_it_stays_open() {
    let scratch = Scratch::new();
    let config = config(&scratch, 2);
    std::fs::create_dir(&config.data_dir).expect("a fresh directory");
    let adopt = |shards| data_dir::open(&config.data_dir, 64, shards).expect("a table of logs");
    let (first, second) = (adopt(1), adopt(2));
    assert_eq!(second.adopted, first.logs);
    let log = first.logs[0];
    let paths = Paths::new(&config.data_dir.canonicalize().expect("it is there"));
    let file = paths.file(File::Segment(SegmentId { log, number: 1 }));
    std::fs::create_dir_all(paths.log(log)).expect("a fresh directory");
    std::fs::write(&file, b"x").expect("there is room");
    let open = || {
        let all = std::fs::read_dir("/proc/self/fd").expect("Linux has it");
        let targets = all.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        targets.filter(|target| target.starts_with(paths.log(log))).count()
    };

    let mut engine = start(&config).expect("it starts");
    let doors = engine.addresses().cores.clone();
    let mut clients: Vec<TcpStream> = doors.into_iter().map(connect).collect();
    let number = log.to_raw();
    for client in &mut clients {
        client.write_all(format!("READ {number}\n").as_bytes()).expect("it is open");
    }
    until(|| open() == 2);
    for (before, client) in clients.iter_mut().enumerate() {
        assert!(file.exists(), "{before} of 2 shards released it");
        client.write_all(format!("RELEASE {number}\n").as_bytes()).expect("it is open");
        assert!(engine.wait_for_failure(Duration::from_secs(10)).is_none());
    }
    assert!(!paths.log(log).exists());
    until(|| open() == 0);
    engine.stop().expect("it stops");
}

#[test]
fn a_stop_ends_everything_and_the_port_is_free_at_once() {
    let scratch = Scratch::new();
    let config = config(&scratch, 2);
    let engine = start(&config).expect("it starts");
    let address = engine.addresses().shared;
    let mut client = BufReader::new(connect(address));
    client.get_mut().write_all(b"PING\n").expect("it is open");
    assert_eq!(read_line(&mut client), "+PONG");
    engine.stop().expect("it stops");
    let mut rest = Vec::new();
    assert!(client.read_to_end(&mut rest).is_err() || rest.is_empty());
    let refused = TcpStream::connect(address).expect_err("nobody listens");
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let again = start(&Config { listen: address, ..config }).expect("port and directory are free");
    drop(again);
}

#[test]
fn what_keeps_it_from_starting_is_said_in_one_line() {
    let scratch = Scratch::new();
    let config = config(&scratch, 2);
    let engine = start(&config).expect("it starts");
    assert!(matches!(start(&config), Err(EngineError::Locked(_))));
    let elsewhere = scratch.path().join("elsewhere");
    let taken = Config { listen: engine.addresses().shared, data_dir: elsewhere, ..config.clone() };
    assert!(matches!(start(&taken), Err(EngineError::Listen(..))));
    drop(engine);
    let one_port = Config { core_listen: vec![config.listen], ..config.clone() };
    assert!(matches!(start(&one_port), Err(EngineError::Config(_))));
    let failing = |own: ShardId, _| Double { fail: own == ShardId::new(1), ..Double::new(own, 2) };
    let error = Engine::start_machines(&config, |_| Ok(failing)).expect_err("shard 1 fails");
    assert_eq!(error.to_string(), "shard s1: its log cannot be read (Io)");
    let panicking = |_, _| -> Double { panic!("a broken rule") };
    let error = Engine::start_machines(&config, |_| Ok(panicking)).expect_err("it panics");
    assert!(matches!(error, EngineError::Died(..)));
}
