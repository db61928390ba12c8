//! One connection's requests, without its socket: what is sent, what is waited for, what waits.
//!
//! Requests are appended to an outbox while the last one is on its way, and answered in order. In
//! an open loop, requests that are due while the connection is busy queue here with the time they
//! were due at, and are counted from then.

use std::collections::VecDeque;

use crate::contexts::Contexts;
use crate::record::Kind;
use crate::recorder::Recorder;
use crate::reply::{Inbox, Reply, elements};
use crate::request::Templates;
use crate::workload::{Operation, Workload};

/// What the connections of one thread share.
#[derive(Debug)]
pub struct Script {
    /// What to ask.
    pub workload: Workload,
    /// How to ask it.
    pub templates: Templates,
    /// What earlier answers said.
    pub contexts: Contexts,
    /// Where latencies go.
    pub recorder: Recorder,
    /// Whether values are compared with what this tool writes.
    pub check_values: bool,
}

/// See the module's page.
#[derive(Debug)]
pub struct Connection {
    inbox: Inbox,
    lane: Lane,
    backlog: VecDeque<Due>,
    depth: usize,
    spare: Vec<u8>,
    sending: bool,
}

/// The part that answers change.
#[derive(Debug, Default)]
struct Lane {
    outbox: Vec<u8>,
    in_flight: VecDeque<Pending>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    kind: Kind,
    key: u64,
    since: u64,
    /// When the operation began that this request is a part of, if it has two.
    operation_since: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: u64,
    /// The connection could take it at once, so any delay is the load generator's own.
    free: bool,
}

/// Why a connection cannot go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// What came is not RESP.
    Malformed,
    /// An answer came to which there was no question.
    Unasked,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Malformed => "the server sent something that is not RESP",
            Self::Unasked => "the server sent an answer to which there was no question",
        })
    }
}

impl Connection {
    /// A connection with at most `depth` requests on their way.
    pub fn new(depth: usize) -> Self {
        assert!(depth > 0, "a connection without requests");
        Self {
            inbox: Inbox::default(),
            lane: Lane::default(),
            backlog: VecDeque::new(),
            depth,
            spare: Vec::new(),
            sending: false,
        }
    }

    /// Allows another number of requests on their way.
    pub fn set_depth(&mut self, depth: usize) {
        assert!(depth > 0, "a connection without requests");
        self.depth = depth;
    }

    /// Whether another request may go out.
    pub fn has_room(&self) -> bool {
        self.lane.in_flight.len() < self.depth
    }

    /// Whether nothing is on its way and nothing waits.
    pub fn is_idle(&self) -> bool {
        self.lane.in_flight.is_empty() && self.backlog.is_empty()
    }

    /// Queues a request that is due at `at`; it goes out when there is room.
    pub fn queue(&mut self, at: u64) {
        let free = self.lane.in_flight.len() + self.backlog.len() < self.depth;
        self.backlog.push_back(Due { at, free });
    }

    /// How many requests are due and have no room.
    pub fn waiting(&self) -> usize {
        self.backlog.len()
    }

    /// Sends what is due and has room.
    pub fn send_queued(&mut self, now: u64, script: &mut Script) {
        while self.has_room() {
            let Some(due) = self.backlog.pop_front() else { return };
            if due.free {
                script.recorder.latency(Kind::Lag, due.at, now);
            }
            self.send_next(due.at, script);
        }
    }

    /// Sends the workload's next operation, counted from `since`.
    pub fn send_next(&mut self, since: u64, script: &mut Script) {
        let (operation, key) = script.workload.draw();
        self.lane.begin(operation, key, since, script);
    }

    /// Sends a plain `SET` of this key: the filling of an empty store.
    pub fn send_fill(&mut self, key: u64, since: u64, script: &mut Script) {
        script.templates.append_set(key, &mut self.lane.outbox);
        self.lane.expect(Pending { kind: Kind::Set, key, since, operation_since: None }, script);
    }

    /// Takes bytes that arrived at `now`.
    pub fn receive(&mut self, bytes: &[u8], now: u64, script: &mut Script) -> Result<(), Broken> {
        let mut unasked = false;
        let lane = &mut self.lane;
        self.inbox
            .feed(bytes, |reply| match lane.in_flight.pop_front() {
                Some(pending) => lane.answer(pending, reply, now, script),
                None => unasked = true,
            })
            .map_err(|_| Broken::Malformed)?;
        if unasked { Err(Broken::Unasked) } else { Ok(()) }
    }

    /// Bytes to send, if there are any and none are on their way.
    pub fn take_outbox(&mut self) -> Option<Vec<u8>> {
        if self.sending || self.lane.outbox.is_empty() {
            return None;
        }
        self.sending = true;
        Some(std::mem::replace(&mut self.lane.outbox, std::mem::take(&mut self.spare)))
    }

    /// What `take_outbox` gave is sent; `empty` is its memory, for the next time.
    pub fn sent(&mut self, empty: Vec<u8>) {
        assert!(empty.is_empty(), "what was sent is not sent again");
        self.sending = false;
        self.spare = empty;
    }

    /// The connection is lost, and the answers with it. What waits, waits for the next one.
    pub fn lose(&mut self, script: &mut Script) {
        for pending in self.lane.in_flight.drain(..) {
            script.recorder.fail(CLOSED, pending.since);
        }
        self.lane.outbox.clear();
        self.inbox = Inbox::default();
        self.sending = false;
    }

    /// The run is over: nothing of this will be answered.
    pub fn give_up(&mut self, now: u64, script: &mut Script) {
        for pending in self.lane.in_flight.drain(..) {
            script.recorder.give_up(pending.kind, pending.since, now);
        }
        for due in self.backlog.drain(..) {
            let kind = match script.workload.draw().0 {
                Operation::Get | Operation::ReadModifyWrite => Kind::Get,
                Operation::Set | Operation::Insert => Kind::Set,
            };
            script.recorder.give_up(kind, due.at, now);
        }
    }
}

impl Lane {
    fn begin(&mut self, operation: Operation, key: u64, since: u64, script: &mut Script) {
        let Script { templates, contexts, .. } = script;
        let remembered = match operation {
            Operation::Set if templates.dyn_commands() => contexts.take(key),
            // A new key has no past that a context could cover.
            Operation::Insert if templates.dyn_commands() => Some(&b""[..]),
            _ => None,
        };
        let mut pending = Pending { kind: Kind::Set, key, since, operation_since: None };
        match (operation, remembered) {
            (_, Some(context)) => templates.append_put(key, context, &mut self.outbox),
            (Operation::Set | Operation::Insert, None) if !templates.dyn_commands() => {
                templates.append_set(key, &mut self.outbox);
            }
            (Operation::Get, None) => {
                templates.append_get(key, &mut self.outbox);
                pending.kind = Kind::Get;
            }
            // A put without a known context begins by asking for one.
            (Operation::ReadModifyWrite | Operation::Set | Operation::Insert, None) => {
                templates.append_get(key, &mut self.outbox);
                pending.kind = Kind::Get;
                pending.operation_since = Some(since);
            }
        }
        self.expect(pending, script);
    }

    fn answer(&mut self, pending: Pending, reply: Reply<'_>, now: u64, script: &mut Script) {
        let Pending { kind, key, since, operation_since } = pending;
        let context = match (kind, reply) {
            (_, Reply::Error(text)) => return script.recorder.fail(text, since),
            (Kind::Get, Reply::Bulk(value)) => script.found(key, since, std::iter::once(value)),
            (Kind::Get, Reply::Nil) => script.found(key, since, std::iter::empty()),
            (Kind::Get, Reply::Array { body, .. }) => match context_and_values(body) {
                Some((context, values)) => {
                    script.found(key, since, values);
                    context
                }
                None => return script.recorder.fail(UNEXPECTED, since),
            },
            (Kind::Set, Reply::Bulk(context)) => context,
            (Kind::Set, Reply::Status(_)) => b"",
            _ => return script.recorder.fail(UNEXPECTED, since),
        };
        script.recorder.finish(kind, since, now);
        match (kind, operation_since) {
            (Kind::Get, Some(_)) => self.write_back(pending, context, now, script),
            (_, Some(began)) => script.recorder.latency(Kind::ReadModifyWrite, began, now),
            (_, None) => {}
        }
        let followed = kind == Kind::Get && operation_since.is_some();
        if script.templates.dyn_commands() && !followed {
            script.contexts.remember(key, context);
        }
    }

    /// The second half of a read-modify-write.
    fn write_back(&mut self, read: Pending, context: &[u8], now: u64, script: &mut Script) {
        if script.templates.dyn_commands() {
            script.templates.append_put(read.key, context, &mut self.outbox);
        } else {
            script.templates.append_set(read.key, &mut self.outbox);
        }
        self.expect(Pending { kind: Kind::Set, since: now, ..read }, script);
    }

    fn expect(&mut self, pending: Pending, script: &mut Script) {
        script.recorder.start();
        self.in_flight.push_back(pending);
    }
}

impl Script {
    /// A get found these values; returns the context of a reply that has none.
    fn found<'v>(
        &mut self,
        key: u64,
        since: u64,
        values: impl Iterator<Item = &'v [u8]>,
    ) -> &'static [u8] {
        let Some(counts) = self.recorder.counts(since) else { return b"" };
        let mut siblings = 0;
        for value in values {
            siblings += 1;
            if self.check_values && !self.templates.values().is_of(key, value) {
                counts.mismatches += 1;
            }
        }
        counts.misses += u64::from(siblings == 0);
        counts.siblings_max = counts.siblings_max.max(siblings);
        b""
    }
}

/// The two parts of `DYN.GET`'s answer.
fn context_and_values(body: &[u8]) -> Option<(&[u8], impl Iterator<Item = &[u8]>)> {
    let mut parts = elements(body);
    let (Some(Reply::Bulk(context)), Some(Reply::Array { body, .. })) =
        (parts.next(), parts.next())
    else {
        return None;
    };
    let values = elements(body).filter_map(|reply| match reply {
        Reply::Bulk(value) => Some(value),
        _ => None,
    });
    Some((context, values))
}

/// Counted like an error of the server: the answer is of a kind that this command never gives.
const UNEXPECTED: &[u8] = b"(unexpected)";

/// Counted like an error of the server: the connection closed before the answer came.
const CLOSED: &[u8] = b"(closed)";

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
