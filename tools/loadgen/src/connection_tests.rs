//! A connection against answers that are written out, and a clock that the test moves.

use std::sync::Arc;

use super::*;
use crate::record::Counts;
use crate::request::{Dialect, Keys, Values};
use crate::rng::Rng;
use crate::workload::{Mix, Popularity, Population};

#[test]
fn a_queued_request_is_counted_from_the_time_it_was_due() {
    let mut script = script("get=1", false);
    let mut connection = Connection::new(1);
    // Three requests, a millisecond apart; the server answers nothing before 10 ms.
    for due in [0, 1, 2] {
        connection.queue(due * MS);
        connection.send_queued(due * MS, &mut script);
    }
    for _ in 0..3 {
        connection.receive(b"$1\r\nx\r\n", 10 * MS, &mut script).expect("RESP");
        connection.send_queued(10 * MS, &mut script);
    }
    let counts = script.recorder.roll(0, Counts::default()).counts;
    let gets = counts.latencies(Kind::Get);
    assert_eq!(gets.len(), 3);
    for (quantile, milliseconds) in [(0.1, 8), (0.5, 9), (1.0, 10)] {
        let value = gets.value_at_quantile(quantile);
        assert!(value.abs_diff(milliseconds * MS) < MS / 100, "{quantile}: {value}");
    }
    // Only the first could have gone at once, and it did.
    assert_eq!(counts.latencies(Kind::Lag).len(), 1);
    assert!(connection.is_idle());
}

#[test]
fn no_more_is_on_its_way_than_the_depth_allows() {
    let mut script = script("get=1", false);
    let mut connection = Connection::new(2);
    (0..5).for_each(|_| connection.queue(0));
    connection.send_queued(0, &mut script);
    assert!(!connection.has_room());
    assert_eq!(requests_in(&connection.take_outbox().expect("two requests")), 2);
    connection.receive(b"$1\r\nx\r\n", 1, &mut script).expect("RESP");
    connection.send_queued(1, &mut script);
    assert_eq!(connection.take_outbox(), None, "the first send is still on its way");
    connection.sent(Vec::new());
    assert_eq!(requests_in(&connection.take_outbox().expect("one request")), 1);
}

#[test]
fn errors_misses_and_oddities_are_not_successes() {
    let mut script = script("get=1", false);
    let mut connection = Connection::new(9);
    (0..5).for_each(|_| connection.send_next(0, &mut script));
    let replies = b"-BUSY x\r\n$-1\r\n-ERR y\r\n+OK\r\n$1\r\nx\r\n";
    connection.receive(replies, 1, &mut script).expect("RESP");
    let counts = script.recorder.roll(0, Counts::default()).counts;
    assert!(counts.errors.iter().eq([("BUSY", 1), ("ERR", 1), ("(unexpected)", 1)]));
    assert_eq!((counts.answered(), counts.misses, counts.mismatches), (2, 1, 1));
}

#[test]
fn a_lost_connection_fails_what_was_on_its_way_and_keeps_what_waits() {
    let mut script = script("get=1", false);
    let mut connection = Connection::new(1);
    connection.queue(0);
    connection.queue(0);
    connection.send_queued(0, &mut script);
    connection.lose(&mut script);
    assert_eq!(script.recorder.outstanding(), 0);
    assert!(connection.has_room());
    assert!(!connection.is_idle());
    let counts = script.recorder.roll(0, Counts::default()).counts;
    assert!(counts.errors.iter().eq([("(closed)", 1)]));
}

#[test]
fn a_read_modify_write_writes_with_the_context_it_read() {
    let mut script = script("rmw=1", true);
    let mut connection = Connection::new(1);
    connection.send_next(0, &mut script);
    let get = connection.take_outbox().expect("a request");
    assert!(get.starts_with(b"*2\r\n$7\r\nDYN.GET\r\n"));
    connection.sent(Vec::new());

    let answer = b"*2\r\n$4\r\nctx1\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n";
    connection.receive(answer, MS, &mut script).expect("RESP");
    assert!(!connection.has_room(), "the second half keeps the place of the first");
    let put = connection.take_outbox().expect("the write");
    assert!(put.starts_with(b"*4\r\n$7\r\nDYN.PUT\r\n$8\r\n"));
    assert!(put.windows(14).any(|bytes| bytes == b"\r\n$4\r\nctx1\r\n$1"));
    connection.sent(Vec::new());

    connection.receive(b"$4\r\nctx2\r\n", 3 * MS, &mut script).expect("RESP");
    let counts = script.recorder.roll(0, Counts::default()).counts;
    assert_eq!((counts.answered(), counts.siblings_max), (2, 2));
    assert!(counts.latencies(Kind::Set).max().abs_diff(2 * MS) < MS / 100);
    assert!(counts.latencies(Kind::ReadModifyWrite).max().abs_diff(3 * MS) < MS / 100);
}

#[test]
fn a_put_uses_the_context_of_the_last_answer_and_asks_when_it_has_none() {
    let mut script = script("set=1", true);
    let mut connection = Connection::new(1);
    let mut next = |reply: &[u8]| {
        if !reply.is_empty() {
            connection.receive(reply, 0, &mut script).expect("RESP");
        }
        if connection.has_room() {
            connection.send_next(0, &mut script);
        }
        let request = connection.take_outbox().expect("a request");
        connection.sent(Vec::new());
        String::from_utf8_lossy(&request).into_owned()
    };
    assert!(next(b"").contains("DYN.GET"));
    assert!(next(b"*2\r\n$1\r\nA\r\n*0\r\n").contains("\r\n$1\r\nA\r\n"));
    assert!(next(b"$1\r\nB\r\n").contains("\r\n$1\r\nB\r\n"));
    // An error leaves nothing to go by: the next put asks again.
    assert!(next(b"-BADCONTEXT\r\n").contains("DYN.GET"));
}

#[test]
fn answers_to_nothing_and_foreign_bytes_break_the_connection() {
    let mut script = script("get=1", false);
    let mut connection = Connection::new(1);
    assert_eq!(connection.receive(b"+OK\r\n", 0, &mut script), Err(Broken::Unasked));
    assert_eq!(connection.receive(b"<html>\r\n", 0, &mut script), Err(Broken::Malformed));
}

/// One key, so that tests know which one is asked for.
fn script(mix: &str, dyn_commands: bool) -> Script {
    let mix: Mix = mix.parse().expect("a mix");
    let keys = Keys::new("key:", 8, 1).expect("it fits");
    let population = Arc::new(Population::new(1, 1));
    let dialect = Dialect { dyn_commands, ..Dialect::default() };
    Script {
        workload: Workload::new(mix, Popularity::Uniform, population, Rng::from_seed(1)),
        templates: Templates::new(keys, Values::new(1), &dialect),
        contexts: Contexts::new(1),
        recorder: Recorder::new(0..u64::MAX),
        check_values: true,
    }
}

fn requests_in(bytes: &[u8]) -> usize {
    bytes.windows(3).filter(|bytes| bytes == b"GET").count()
}

const MS: u64 = 1_000_000;
