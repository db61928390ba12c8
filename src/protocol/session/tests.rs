//! Sessions against a model that answers one command after the other.

use super::*;
use crate::base::limits::OUTPUT_BYTES_MAX;
use crate::base::rng::Rng;
use crate::base::time::Wall;
use crate::protocol::wire::command::Operation;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn a_connection_is_greeted_named_and_let_go() {
    let mut client = Client::open(open_settings());
    assert_eq!(client.says("PING\r\nPING a\r\nECHO b\r\n"), "+PONG\r\n$1\r\na\r\n$1\r\nb\r\n");
    assert_eq!(client.says("CLIENT ID\r\n"), ":7\r\n");
    assert_eq!(client.says("CLIENT GETNAME\r\n"), "$-1\r\n");
    assert_eq!(client.says("CLIENT SETNAME me\r\nCLIENT GETNAME\r\n"), "+OK\r\n$2\r\nme\r\n");
    assert_eq!(client.says("SELECT 0\r\nREADONLY\r\nREADWRITE\r\n"), "+OK\r\n+OK\r\n+OK\r\n");
    assert_eq!(client.says("CLIENT NO-EVICT on\r\n"), "+OK\r\n");
    assert_eq!(client.says("CLIENT SETINFO lib-name x\r\n"), "+OK\r\n");
    assert_eq!(client.says("AUTH x\r\n").split(' ').next(), Some("-ERR"));
    assert_eq!(client.says("AUTH default x\r\n"), "+OK\r\n");
    assert_eq!(client.says("AUTH other x\r\n").split(' ').next(), Some("-WRONGPASS"));
    assert_eq!(client.says("QUIT\r\nPING\r\n"), "+OK\r\n");
    assert_eq!(client.session.state(), State::Flush(Closing::Quit));
    assert_eq!(client.says("PING\r\n"), "");
}

#[test]
fn hello_tells_who_serves() {
    let mut client = Client::open(open_settings());
    let fields = "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:3\r\n\
                  $2\r\nid\r\n:7\r\n$4\r\nmode\r\n$7\r\ncluster\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
                  $7\r\nmodules\r\n*0\r\n";
    assert_eq!(client.says("HELLO 3 SETNAME me\r\n"), format!("%7\r\n{fields}"));
    assert_eq!(client.says("GET nothing\r\nCLIENT GETNAME\r\n"), "_\r\n$2\r\nme\r\n");
    let fields = fields.replace(":3", ":2");
    assert_eq!(client.says("HELLO 2\r\n"), format!("*14\r\n{fields}"));
    assert_eq!(client.says("HELLO 3\r\nRESET\r\n").lines().last(), Some("+RESET"));
    assert_eq!(client.says("GET nothing\r\nCLIENT GETNAME\r\n"), "$-1\r\n$-1\r\n");
    assert_eq!(client.says("HELLO\r\n"), format!("*14\r\n{fields}"));
}

#[test]
fn a_connection_describes_itself() {
    let mut client = Client::open(open_settings());
    client.now = at_second(5);
    let line = client.says("CLIENT SETNAME me\r\nCLIENT INFO\r\n");
    for field in
        ["id=7 ", "addr=127.0.0.1:9 ", "laddr=127.0.0.1:1 ", "name=me ", "age=5 ", "resp=2 "]
    {
        assert!(line.contains(field), "{line}");
    }
    assert!(client.says("CLIENT LIST\r\n").contains("cmd=client|list "));
    assert!(client.says("CLIENT LIST ID 6 7\r\n").contains("id=7 "));
    assert_eq!(client.says("CLIENT LIST ID 70\r\n"), "$0\r\n\r\n");
    assert_eq!(client.says("CLIENT LIST TYPE pubsub\r\n"), "$0\r\n\r\n");
    assert!(client.says("HELLO 3\r\nCLIENT INFO\r\n").contains("txt:id=7 "));
}

/// It came in the third of three pieces, of which the second was kept with a request before it.
#[test]
fn a_connection_describes_itself_in_the_middle_of_what_it_kept() {
    let mut client = Client::open(open_settings());
    assert_eq!(client.says("PI"), "");
    assert_eq!(client.says("NG\r\nCLIENT INFO"), "+PONG\r\n");
    assert!(client.session.read > 0);
    assert!(client.says("\r\n").contains(" qbuf=0 "));
}

#[test]
fn time_is_seconds_and_microseconds() {
    let mut client = Client::open(open_settings());
    client.now.wall = Wall::from_millis(1_700_000_000_123);
    assert_eq!(client.says("TIME\r\n"), "*2\r\n$10\r\n1700000000\r\n$6\r\n123000\r\n");
}

#[test]
fn replies_can_be_switched_off() {
    let mut client = Client::open(open_settings());
    assert_eq!(client.says("CLIENT REPLY SKIP\r\nPING\r\nECHO a\r\n"), "$1\r\na\r\n");
    assert_eq!(client.says("CLIENT REPLY OFF\r\nPING\r\nNOSUCH\r\nSET a 1\r\n"), "");
    assert_eq!(client.says("CLIENT REPLY ON\r\nGET a\r\n"), "+OK\r\n$1\r\n1\r\n");
    client.executor.parking = Parking::All;
    assert_eq!(client.says("CLIENT REPLY SKIP\r\nGET a\r\nGET a\r\n"), "");
    assert_eq!(client.answer_all(), "$1\r\n1\r\n");
}

#[test]
fn nothing_is_executed_before_the_password() {
    let mut client = Client::open(guarded_settings());
    for line in
        ["PING", "GET a", "SET a 1", "DYN.GET a", "INFO", "SCAN 0", "CLUSTER SLOTS", "MGET a b"]
    {
        assert_eq!(client.says(&format!("{line}\r\n")), "-NOAUTH Authentication required.\r\n");
    }
    assert!(client.says("HELLO 3\r\n").starts_with("-NOAUTH HELLO must be called"));
    for line in
        ["AUTH wrong", "AUTH default wrong", "AUTH nobody secret", "HELLO 3 AUTH default wrong"]
    {
        assert!(client.says(&format!("{line}\r\n")).starts_with("-WRONGPASS"), "{line}");
    }
    assert_eq!(client.executor.executed, 0);
    assert_eq!(client.says("AUTH secret\r\nSET a 1\r\n"), "+OK\r\n+OK\r\n");
    assert_eq!(client.executor.executed, 1);
    assert_eq!(client.says("RESET\r\nGET a\r\n"), "+RESET\r\n-NOAUTH Authentication required.\r\n");
    assert!(client.says("HELLO 3 AUTH default secret\r\n").starts_with("%7"));
    assert_eq!(client.says("GET a\r\n"), "$1\r\n1\r\n");
}

#[test]
fn a_stranger_has_little_room_and_little_time() {
    let mut client = Client::open(guarded_settings());
    assert_eq!(client.session.deadline(), Some(at_second(5).monotonic));
    client.now = at_second(5);
    client.session.tick(client.now);
    assert_eq!(client.session.state(), State::Abort(Closing::NoPassword));

    let mut client = Client::open(guarded_settings());
    let long = format!("*2\r\n$4\r\nAUTH\r\n$20000\r\n{}", "x".repeat(20_000));
    assert_eq!(client.says(&long), "-ERR Protocol error: unauthenticated bulk length\r\n");
    assert_eq!(client.session.state(), State::Flush(Closing::ProtocolError));

    // It takes no replies: after 64 KiB of them nothing more is looked at.
    let mut client = Client::open(guarded_settings());
    client.takes_replies = false;
    for _ in 0..100 {
        client.says(&"PING\r\n".repeat(1_000));
    }
    assert!(client.session.unsent < 2 * STRANGER_OUTPUT_BYTES_MAX);

    let mut client = Client::open(guarded_settings());
    client.says("AUTH secret\r\n");
    assert_eq!(client.session.deadline(), None);
}

#[test]
fn without_a_password_a_client_from_elsewhere_gets_one_line() {
    let peer = Peer { address: address("192.0.2.1:9"), local: address("192.0.2.2:1") };
    let mut out = Vec::new();
    let settings = Arc::new(open_settings());
    let session = Session::open(at_second(0), settings, ConnectionId::new(1), peer, &mut out);
    let line = String::from_utf8(out).expect("text");
    assert!(line.starts_with("-DENIED ") && line.matches("\r\n").count() == 1);
    assert_eq!(session.state(), State::Flush(Closing::Denied));
    assert!(!session.wants_input());

    let mut out = Vec::new();
    let settings = Arc::new(guarded_settings());
    let session = Session::open(at_second(0), settings, ConnectionId::new(1), peer, &mut out);
    assert_eq!((out.len(), session.state()), (0, State::Open));
}

#[test]
fn what_is_not_the_protocol_ends_the_connection() {
    let mut client = Client::open(open_settings());
    let said = client.says("SET a 1\r\n*1\r\n+PING\r\nSET a 2\r\n");
    assert_eq!(said, "+OK\r\n-ERR Protocol error: expected '$', got '+'\r\n");
    assert_eq!(client.session.state(), State::Flush(Closing::ProtocolError));
    assert_eq!(client.executor.executed, 1);

    let mut client = Client::open(open_settings());
    assert_eq!(client.says("POST / HTTP/1.1\r\nHost: a\r\n\r\nSET a evil\r\n"), "");
    assert_eq!(client.session.state(), State::Flush(Closing::ProtocolError));
    assert_eq!(client.executor.executed, 0);
}

#[test]
fn what_is_too_big_is_refused_and_the_connection_goes_on() {
    let mut client = Client::open(open_settings());
    let value = "v".repeat(1_048_577);
    let said =
        client.says(&format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1048577\r\n{value}\r\nPING\r\n"));
    assert_eq!(said, "-TOOBIG an argument of 1048577 bytes, 1048576 are the limit\r\n+PONG\r\n");
    let keys = "$1\r\nk\r\n".repeat(1_025);
    let said = client.says(&format!("*1026\r\n$4\r\nMGET\r\n{keys}PING\r\n"));
    assert_eq!(said, "-TOOBIG 1025 arguments, 1024 are the limit\r\n+PONG\r\n");
    assert_eq!(client.executor.executed, 0);
    assert!(client.session.bytes_held() < 64 * 1024);
}

/// Its core would refuse writes for what it holds and nobody needs.
#[test]
fn a_connection_that_rests_holds_nothing() {
    let mut client = Client::open(open_settings());
    let value = "v".repeat(10_000);
    for text in [&format!("SET a {value}\r\nSET b {value}\r\n"), "MGET a b\r\n", "GET a\r\n"] {
        for piece in text.as_bytes().chunks(700) {
            client.says_bytes(piece);
        }
        assert_eq!(client.session.bytes_held(), 0, "after {text:.4}");
    }
}

#[test]
fn a_parked_request_holds_back_the_replies_after_it_and_not_the_commands() {
    let mut client = Client::open(open_settings());
    client.executor.parking = Parking::All;
    assert_eq!(client.says("SET a 1\r\n"), "");
    client.executor.parking = Parking::None;
    assert_eq!(client.says("GET a\r\nPING\r\nQUIT\r\n"), "");
    assert_eq!(client.executor.executed, 2);
    assert_eq!(client.session.state(), State::Open, "a reply is still to come");
    assert_eq!(client.answer_all(), "+OK\r\n$1\r\n1\r\n+PONG\r\n+OK\r\n");
    assert_eq!(client.session.state(), State::Flush(Closing::Quit));
}

#[test]
fn many_keys_are_answered_as_one() {
    for parking in [Parking::None, Parking::All, Parking::Some] {
        let mut client = Client::open(open_settings());
        client.executor.parking = parking;
        let mut says = |line: &str| client.says(line) + &client.answer_all();
        assert_eq!(says("MSET a 1 b 2 a 3\r\n"), "+OK\r\n");
        assert_eq!(says("MGET a nothing b\r\n"), "*3\r\n$1\r\n3\r\n$-1\r\n$1\r\n2\r\n");
        assert_eq!(says("EXISTS a a b nothing\r\n"), ":3\r\n");
        assert_eq!(says("TOUCH a b\r\n"), ":2\r\n");
        assert_eq!(says("DEL a b nothing\r\n"), ":2\r\n");
        assert_eq!(says("MGET a\r\n"), "*1\r\n$-1\r\n");
        assert_eq!(says("MGET broken a\r\n"), "-NOQUORUM 1/2\r\n");
        let partly = "-UNKNOWN 1/2 keys are written; of another: NOQUORUM 1/2\r\n";
        assert_eq!(says("MSET a 1 broken 2\r\n"), partly);
    }
}

#[test]
fn no_more_is_executed_than_may_be_outstanding() {
    let mut client = Client::open(open_settings());
    client.executor.parking = Parking::All;
    client.says(&"GET a\r\n".repeat(3_000));
    assert_eq!(client.executor.executed, OUTSTANDING_MAX);
    assert!(!client.session.wants_input());
    assert_eq!(client.session.deadline(), None, "it is us who are slow");
    client.now = at_second(3);
    let mut replies = 0;
    while !client.executor.parked.is_empty() {
        replies += client.answer_all().matches("$-1").count();
    }
    assert_eq!(replies, 3_000);
    assert_eq!(client.executor.waited, Duration::from_secs(3), "since it was read");
    assert!(client.session.wants_input());
}

#[test]
fn a_client_that_takes_nothing_is_served_no_more_and_then_let_go() {
    let mut client = Client::open(open_settings());
    client.says(&format!("SET a {}\r\n", "v".repeat(3_000)));
    let large =
        "*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$100000\r\n".to_owned() + &"v".repeat(100_000) + "\r\n";
    client.says(&large);
    client.takes_replies = false;
    client.says(&"GET b\r\n".repeat(1_000));
    assert!(client.session.unsent < OUTPUT_BYTES_SOFT + 200_000);
    assert!(client.session.wants_input(), "some more may be read");
    client.says(&"GET b\r\n".repeat(200_000));
    assert!(!client.session.wants_input());
    assert_eq!(client.session.deadline(), Some(at_second(10).monotonic));

    // It takes some: it gets more time, and more replies.
    client.now = at_second(9);
    let executed = client.executor.executed;
    client.takes(OUTPUT_BYTES_SOFT);
    assert!(client.executor.executed > executed);
    assert_eq!(client.executor.waited, Duration::ZERO, "the client itself held it back");
    client.takes_replies = false;
    assert!(client.session.deadline() >= Some(at_second(19).monotonic));

    client.now = at_second(30);
    client.session.tick(client.now);
    assert_eq!(client.session.state(), State::Abort(Closing::SlowReader));
}

#[test]
fn a_reply_beyond_the_hard_bound_cuts_the_connection() {
    let mut client = Client::open(open_settings());
    client.takes_replies = false;
    client.executor.parking = Parking::All;
    client.says(&"GET a\r\n".repeat(40));
    let parked = mem::take(&mut client.executor.parked);
    let megabyte = [&b"$1048576\r\n"[..], &vec![b'v'; 1 << 20], b"\r\n"].concat();
    for (request, _) in parked.into_iter().rev() {
        client.answer(request, &megabyte);
        if client.session.state() != State::Open {
            break;
        }
        assert!(client.session.queue.held() <= OUTPUT_BYTES_MAX);
    }
    assert_eq!(client.session.state(), State::Abort(Closing::TooMuchOutput));
}

#[test]
fn mget_of_too_much_is_an_error_and_not_a_cut() {
    let mut client = Client::open(open_settings());
    let value = "v".repeat(1 << 20);
    client.says(&format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}\r\n", value.len()));
    let said = client.says(&format!("MGET {}\r\nPING\r\n", "a ".repeat(100)));
    assert!(said.starts_with("-TOOBIG ") && said.ends_with("+PONG\r\n"), "{said:.100}");
    assert!(client.executor.executed < 60);
}

#[test]
fn a_request_that_does_not_go_on_is_cut_off() {
    let mut client = Client::open(open_settings());
    client.says("PING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1048576\r\n");
    assert_eq!(client.session.deadline(), Some(at_second(10).monotonic));
    client.now = at_second(9);
    client.says("v");
    assert_eq!(client.session.deadline(), Some(at_second(10).monotonic));
    client.says(&"v".repeat(300_000));
    assert_eq!(client.session.deadline(), Some(at_second(19).monotonic));
    client.now = at_second(18);
    client.session.tick(client.now);
    assert_eq!(client.session.state(), State::Open);
    client.now = at_second(19);
    client.session.tick(client.now);
    assert_eq!(client.session.state(), State::Abort(Closing::SlowRequest));

    // While its replies wait for others, its request may wait too.
    let mut client = Client::open(open_settings());
    client.executor.parking = Parking::All;
    client.says("GET a\r\nSET a");
    assert!(client.session.deadline().is_some());
    client.takes_replies = false;
    let (request, _) = client.executor.parked.remove(0);
    client.answer(request, &vec![b'v'; OUTPUT_BYTES_SOFT + 1]);
    assert!(client.session.request_progress.is_none());

    let mut client = Client::open(open_settings());
    client.says("PI");
    client.says("NG\r\n");
    assert_eq!(client.session.deadline(), None, "between requests a client may rest");
}

#[test]
fn what_was_sent_before_a_half_close_is_answered() {
    let mut client = Client::open(open_settings());
    client.executor.parking = Parking::All;
    client.says(&format!("{}SET a 1\r\nSET a", "GET a\r\n".repeat(2_000)));
    client.session.end_of_input(client.now);
    assert_eq!(client.session.state(), State::Open);
    let mut replies = String::new();
    while !client.executor.parked.is_empty() {
        replies += &client.answer_all();
    }
    assert_eq!(replies.lines().count(), 2_001);
    assert_eq!(client.session.state(), State::Flush(Closing::HalfClosed));
    assert_eq!(client.executor.store.len(), 1);
}

/// Where requests are held back, what is left must not be moved again for each that goes on.
#[test]
fn a_long_backlog_is_worked_off_in_little_time() {
    let mut client = Client::open(open_settings());
    client.executor.parking = Parking::All;
    client.says(&"GET a\r\n".repeat(150_000));
    let mut answered = 0;
    while let Some((request, reply)) = client.executor.parked.pop() {
        client.answer(request, &reply);
        answered += 1;
        let session = &client.session;
        assert!(session.read <= session.input.len() / 2, "what is done with is not kept");
    }
    assert_eq!(answered, 150_000);
    assert_eq!(client.session.unread(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// However the input is cut, whatever is parked and in whichever order it is answered: the
    /// client sees what one that executes one command after the other would send.
    #[test]
    fn a_client_cannot_tell_what_was_parked(
        lines in prop::collection::vec(line(), 1..60),
        seed: u64,
    ) {
        let stream = lines.concat();
        let mut model = Client::open(open_settings());
        let meant = model.says(&stream);

        let mut rng = Rng::from_seed(seed);
        let mut client = Client::open(open_settings());
        client.executor.parking = Parking::Some;
        let mut seen = String::new();
        let mut rest = stream.as_bytes();
        while !rest.is_empty() || !client.executor.parked.is_empty() {
            if rng.chance(1, 2) || client.executor.parked.is_empty() {
                let size = rng.below(40).min(rest.len() as u64) as usize;
                let (piece, after) = rest.split_at(size);
                rest = after;
                seen += &client.says_bytes(piece);
            } else {
                let index = rng.below(client.executor.parked.len() as u64) as usize;
                let (request, reply) = client.executor.parked.remove(index);
                seen += &client.answer(request, &reply);
            }
        }
        prop_assert_eq!(seen, meant);
        prop_assert_eq!(client.session.state(), model.session.state());
        prop_assert_eq!(client.session.queue.held(), 0);
        prop_assert_eq!(client.session.queue.outstanding(), 0);
    }

    #[test]
    fn any_bytes_leave_a_session_within_its_bounds(
        stream in prop::collection::vec(
            prop_oneof![3 => prop::sample::select(b"*$\r\n0123GETSaq ".to_vec()), 1 => any::<u8>()],
            0..800,
        ),
        size in 1_usize..60,
        guarded: bool,
    ) {
        let settings = if guarded { guarded_settings() } else { open_settings() };
        let mut client = Client::open(settings);
        client.executor.parking = Parking::Some;
        for piece in stream.chunks(size) {
            client.says_bytes(piece);
        }
        prop_assert!(!guarded || client.executor.executed == 0);
        prop_assert!(client.session.input.len() <= stream.len());
        while !client.executor.parked.is_empty() {
            client.answer_all();
        }
        client.session.end_of_input(client.now);
        prop_assert_ne!(client.session.state(), State::Open);
    }
}

/// One line of a pipeline.
fn line() -> impl Strategy<Value = String> {
    let key = prop::sample::select(vec!["a", "b", "c", "broken"]);
    prop_oneof![
        8 => (key.clone(), "[a-z]{1,9}").prop_map(|(key, value)| format!("SET {key} {value}\r\n")),
        8 => key.clone().prop_map(|key| format!("GET {key}\r\n")),
        4 => (key.clone(), key.clone()).prop_map(|(one, two)| format!("MGET {one} {two} x\r\n")),
        2 => (key.clone(), key.clone()).prop_map(|(one, two)| format!("MSET {one} 1 {two} 2\r\n")),
        2 => (key.clone(), key).prop_map(|(one, two)| format!("DEL {one} {two}\r\n")),
        1 => prop::sample::select(vec![
            "PING\r\n", "NOSUCH\r\n", "GET\r\n", "HELLO 3\r\n", "HELLO 2\r\n", "RESET\r\n", "\r\n",
            "CLIENT REPLY SKIP\r\n", "CLIENT REPLY OFF\r\n", "CLIENT REPLY ON\r\n", "DBSIZE\r\n",
            "CLIENT SETNAME me\r\n", "CLIENT GETNAME\r\n", "*1\r\n$4\r\nPING\r\n", "TIME\r\n",
        ]).prop_map(str::to_owned),
        1 => prop::sample::select(vec!["PING\r\n", "QUIT\r\n", "*x\r\n", "PING\r\n", "PING\r\n"])
            .prop_map(str::to_owned),
    ]
}

/// A client, its session, and what executes for it.
struct Client {
    session: Session,
    executor: Store,
    now: Now,
    takes_replies: bool,
}

impl Client {
    fn open(settings: Settings) -> Self {
        let peer = Peer { address: address("127.0.0.1:9"), local: address("127.0.0.1:1") };
        let mut out = Vec::new();
        let now = at_second(0);
        let session = Session::open(now, Arc::new(settings), ConnectionId::new(7), peer, &mut out);
        assert!(out.is_empty());
        Self { session, executor: Store::default(), now, takes_replies: true }
    }

    fn says(&mut self, text: &str) -> String {
        self.says_bytes(text.as_bytes())
    }

    fn says_bytes(&mut self, bytes: &[u8]) -> String {
        let mut out = Vec::new();
        self.session.receive(self.now, bytes, &mut self.executor, &mut out);
        self.taken(out)
    }

    fn answer(&mut self, request: RequestId, reply: &[u8]) -> String {
        let mut out = Vec::new();
        self.session.answer(self.now, request, reply, &mut self.executor, &mut out);
        self.taken(out)
    }

    /// Answers what is parked, the newest first.
    fn answer_all(&mut self) -> String {
        let mut said = String::new();
        for (request, reply) in mem::take(&mut self.executor.parked).into_iter().rev() {
            said += &self.answer(request, &reply);
        }
        said
    }

    /// The client takes what it was sent, which may let the session go on and send more.
    fn taken(&mut self, mut out: Vec<u8>) -> String {
        let mut done = 0;
        while self.takes_replies && done < out.len() {
            let bytes = out.len() - done;
            done = out.len();
            self.session.sent(self.now, bytes, &mut self.executor, &mut out);
        }
        String::from_utf8_lossy(&out).into_owned()
    }

    fn takes(&mut self, bytes: usize) {
        let mut out = Vec::new();
        self.session.sent(self.now, bytes, &mut self.executor, &mut out);
    }
}

/// It cannot put off its own deadlines by sending on.
#[test]
fn a_request_that_is_held_back_counts_from_when_its_last_byte_was_read() {
    let mut client = Client::open(open_settings());
    client.executor.parking = Parking::All;
    let first = "GET a\r\n".repeat(OUTSTANDING_MAX + 2);
    assert_eq!(client.says(&(first + "GET")), "");
    for (second, text) in [(1, " a\r\nGET a\r\nG"), (2, "ET "), (3, "a\r\n")] {
        client.now = at_second(second);
        assert_eq!(client.says(text), "");
    }
    assert_eq!(client.executor.executed, OUTSTANDING_MAX);
    client.now = at_second(4);
    client.executor.parking = Parking::None;
    client.answer_all();
    let seconds = [0, 0, 1, 1, 3].map(|second| at_second(second).monotonic);
    assert_eq!(client.executor.read_at[OUTSTANDING_MAX..], seconds);
    client.now = at_second(5);
    client.says("GET a\r\n");
    assert_eq!(client.executor.read_at.last(), Some(&at_second(5).monotonic));
    assert_eq!(client.session.bytes_held(), 0);
}

#[test]
fn what_is_held_back_comes_in_a_bounded_number_of_pieces() {
    let mut client = Client::open(open_settings());
    client.executor.parking = Parking::All;
    client.says("GET a\r\n");
    client.executor.parking = Parking::None;
    let value = "x".repeat(OUTPUT_BYTES_SOFT / 16);
    client.says(&format!("*3\r\n$3\r\nSET\r\n$1\r\na\r\n${}\r\n{value}\r\n", value.len()));
    client.says(&"GET a\r\n".repeat(17));
    let mut pieces = 0;
    while client.session.wants_input() {
        client.says("GET a\r\n");
        pieces += 1;
        assert!(pieces < 1000, "it reads for ever");
    }
    assert!(pieces >= 2, "some more may be read");
    client.answer_all();
    assert!(client.session.wants_input());
    assert_eq!(client.executor.executed, 1 + 1 + 17 + pieces);
}

/// Which commands are parked.
#[derive(Clone, Copy, Default)]
enum Parking {
    #[default]
    None,
    Some,
    All,
}

/// A map that decides on its answers at once, and may keep them for later.
#[derive(Default)]
struct Store {
    store: BTreeMap<Vec<u8>, Vec<u8>>,
    parked: Vec<(RequestId, Vec<u8>)>,
    parking: Parking,
    executed: usize,
    /// How long the last command had been held back.
    waited: Duration,
    /// From when on each command is waited for.
    read_at: Vec<Instant>,
}

impl Executor for Store {
    fn execute(
        &mut self,
        now: Now,
        read_at: Instant,
        request: RequestId,
        protocol: Protocol,
        work: Work<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome {
        self.executed += 1;
        self.waited = now.monotonic.since(read_at);
        self.read_at.push(read_at);
        let parks = match self.parking {
            Parking::None => false,
            Parking::Some => !(request.sequence + u64::from(request.part)).is_multiple_of(3),
            Parking::All => true,
        };
        if parks {
            let mut later = Vec::new();
            self.answer(protocol, work, &mut later);
            self.parked.push((request, later));
            return Outcome::Parked;
        }
        self.answer(protocol, work, reply);
        Outcome::Done
    }
}

impl Store {
    fn answer(&mut self, protocol: Protocol, work: Work<'_>, out: &mut Vec<u8>) {
        let Work::Key(command) = work else { return reply::integer(out, 0) };
        if command.key == b"broken" {
            return reply::error(out, "NOQUORUM 1/2");
        }
        match command.operation {
            Operation::Get => match self.store.get(command.key) {
                Some(value) => reply::bulk(out, value),
                None => reply::null(out, protocol),
            },
            Operation::Set { value, .. } => {
                self.store.insert(command.key.to_vec(), value.to_vec());
                reply::ok(out);
            }
            Operation::Delete => {
                reply::integer(out, i64::from(self.store.remove(command.key).is_some()));
            }
            Operation::Exists => {
                reply::integer(out, i64::from(self.store.contains_key(command.key)));
            }
            other => panic!("no test asks for {other:?}"),
        }
    }
}

fn open_settings() -> Settings {
    Settings::default()
}

fn guarded_settings() -> Settings {
    Settings { password: Some(Password::new(b"secret")), ..Settings::default() }
}

fn at_second(seconds: u64) -> Now {
    let monotonic = Instant::START + Duration::from_secs(seconds);
    Now { monotonic, wall: Wall::from_millis(1_700_000_000_000 + seconds * 1000) }
}

fn address(text: &str) -> std::net::SocketAddr {
    text.parse().expect("an address")
}
