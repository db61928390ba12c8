//! What clients do: each asks one thing after the other, of whichever node it is connected to.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::Phase;
use super::World;
use crate::base::id::ConnectionId;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::protocol::shard::Door;
use crate::protocol::shard::Event;
use crate::protocol::shard::Peer;
use crate::sim::cluster::oracle::Cause;
use crate::sim::cluster::oracle::Content;
use crate::sim::cluster::oracle::EventId;
use crate::sim::cluster::oracle::GetEnd;
use crate::sim::cluster::oracle::GetId;
use crate::sim::cluster::oracle::KeyIndex;
use crate::sim::cluster::oracle::Outcome;
use crate::sim::cluster::oracle::Shows;
use crate::sim::cluster::oracle::TokenId;
use crate::sim::coverage::Sometimes;
use crate::sim::resp;
use crate::sim::resp::Reply;

/// Contexts that a client keeps of one key.
const TOKENS_KEPT: usize = 3;

/// How late a request may be told that it is: a shard looks every tenth of a second, and the word may
/// have to cross to another core and another node.
const LATENESS: Duration = Duration::from_millis(210);

/// An answer that is so much later than it may be never comes.
const FOR_EVER: Duration = Duration::from_secs(5);

/// What a client asked for.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Get(GetId, Shows),
    Write(EventId),
}

/// A request without an answer.
#[derive(Clone, Debug)]
struct Request {
    key: KeyIndex,
    asked: Asked,
    bytes: Vec<u8>,
    deliver_at: Instant,
    delivered: bool,
}

/// A virtual client.
pub(super) struct Client {
    act_at: Instant,
    /// Its connection, with the node and the shard.
    link: Option<(ConnectionId, usize, usize)>,
    request: Option<Request>,
    inbox: Vec<u8>,
    /// Bytes that its kernel took and its node was not told of, and when it is.
    taken: Option<(usize, Instant)>,
    /// The contexts that it holds of each key: the newest last.
    tokens: Vec<VecDeque<(TokenId, Vec<u8>)>>,
}

impl Client {
    pub(super) fn new(keys: usize) -> Self {
        let tokens = vec![VecDeque::new(); keys];
        Self {
            act_at: Instant::START,
            link: None,
            request: None,
            inbox: Vec::new(),
            taken: None,
            tokens,
        }
    }

    pub(super) fn delivers_at(&self) -> Option<Instant> {
        self.request.as_ref().filter(|one| !one.delivered).map(|one| one.deliver_at)
    }

    pub(super) fn acts_at(&self) -> Option<Instant> {
        self.request.is_none().then_some(self.act_at)
    }

    pub(super) fn takes_at(&self) -> Option<Instant> {
        self.taken.map(|(_, at)| at)
    }

    pub(super) fn waits(&self) -> bool {
        self.request.is_some()
    }
}

impl World {
    /// A client's turn.
    pub(super) fn turn(&mut self, client: usize) {
        self.trace.add_events(1);
        let pause = Duration::from_nanos(self.rng.below(2 * self.plan.pause_nanos + 1));
        self.clients[client].act_at = self.now + pause;
        self.trouble();
        if self.rng.chance(self.plan.move_percent, 100) {
            self.leave(client);
        }
        let wanted = self.rng.below(self.nodes.len() as u64) as usize;
        if self.connect(client, wanted) {
            let key = self.rng.below(self.keys.len() as u64) as usize;
            self.ask(client, key);
        }
    }

    /// Whether the client has a connection: to the node that it wants, if it had none.
    pub(super) fn connect(&mut self, client: usize, wanted: usize) -> bool {
        if self.clients[client].link.is_some() {
            return true;
        }
        let node = &self.nodes[wanted];
        if node.phase != Phase::Running || node.stands_until > self.now {
            return false;
        }
        let shard = self.rng.below(node.cores.len() as u64) as usize;
        self.last_connection += 1;
        let connection = ConnectionId::new(self.last_connection);
        self.clients[client].link = Some((connection, wanted, shard));
        let address = SocketAddr::from(([127, 0, 0, 1], 40_000));
        let peer = Peer { address, local: address, door: Door::Shared };
        self.handle(wanted, shard, Event::Accepted { connection, peer });
        self.clients[client].link.is_some()
    }

    /// The client goes.
    pub(super) fn leave(&mut self, client: usize) {
        let Some((connection, node, shard)) = self.clients[client].link else { return };
        self.forget_link(client);
        if !self.nodes[node].cores[shard].stopped {
            self.handle(node, shard, Event::Closed { connection });
        }
    }

    fn ask(&mut self, client: usize, key: KeyIndex) {
        let reads = self.rng.chance(self.plan.read_percent, 100);
        let kind = self.rng.below(10);
        match (reads, kind) {
            (true, 0..6) => self.ask_get(client, key, Shows::All),
            (true, _) => self.ask_get(client, key, Shows::Latest),
            (false, 0..5) => self.ask_put(client, key),
            (false, 5..8) => self.ask_set(client, key),
            (false, 8) => self.ask_delete(client, key),
            (false, _) => self.ask_delete_seen(client, key),
        }
    }

    pub(super) fn ask_get(&mut self, client: usize, key: KeyIndex, shows: Shows) {
        let word: &[u8] = if shows == Shows::All { b"DYN.GET" } else { b"GET" };
        let words = [word.to_vec(), self.keys[key].clone()];
        let get = self.oracle.begin_get(key, client as u32);
        self.send(client, key, &words, Asked::Get(get, shows));
    }

    fn value(&mut self, key: KeyIndex) -> Vec<u8> {
        self.last_value += 1;
        let length = self.rng.below(100) as usize;
        format!("{key}:{}:{}", self.last_value, "x".repeat(length)).into_bytes()
    }

    pub(super) fn ask_set(&mut self, client: usize, key: KeyIndex) {
        let value = self.value(key);
        let words = [b"SET".to_vec(), self.keys[key].clone(), value.clone()];
        self.write(client, key, &words, Content::Value(&value), Cause::PlainStrict);
    }

    fn ask_delete(&mut self, client: usize, key: KeyIndex) {
        let words = [b"DEL".to_vec(), self.keys[key].clone()];
        self.write(client, key, &words, Content::Tombstone, Cause::PlainStrict);
    }

    fn ask_put(&mut self, client: usize, key: KeyIndex) {
        let (cause, token) = self.pick_token(client, key);
        let value = self.value(key);
        let words = [b"DYN.PUT".to_vec(), self.keys[key].clone(), token, value.clone()];
        self.write(client, key, &words, Content::Value(&value), cause);
    }

    fn ask_delete_seen(&mut self, client: usize, key: KeyIndex) {
        let (cause, token) = self.pick_token(client, key);
        let words = [b"DYN.DEL".to_vec(), self.keys[key].clone(), token];
        self.write(client, key, &words, Content::Tombstone, cause);
    }

    fn write(
        &mut self,
        client: usize,
        key: KeyIndex,
        words: &[Vec<u8>],
        content: Content<'_>,
        cause: Cause,
    ) {
        let event = self.oracle.begin_write(key, client as u32, content, cause);
        self.send(client, key, words, Asked::Write(event));
    }

    /// Some context of this client's, the newest mostly, or none.
    fn pick_token(&mut self, client: usize, key: KeyIndex) -> (Cause, Vec<u8>) {
        let own = &self.clients[client].tokens[key];
        if own.is_empty() || self.rng.chance(1, 6) {
            return (Cause::Blind, Vec::new());
        }
        let newest = self.rng.chance(2, 3);
        let at = if newest { own.len() - 1 } else { self.rng.below(own.len() as u64) as usize };
        let (id, token) = &own[at];
        (Cause::Context(*id), token.clone())
    }

    fn send(&mut self, client: usize, key: KeyIndex, words: &[Vec<u8>], asked: Asked) {
        let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let mut bytes = Vec::new();
        resp::request(&mut bytes, &words);
        let deliver_at = self.now + Duration::from_nanos(self.rng.below(50_000));
        let one = &mut self.clients[client];
        one.request = Some(Request { key, asked, bytes, deliver_at, delivered: false });
    }

    pub(super) fn deliver_request(&mut self, client: usize) {
        let (connection, node, shard) = self.clients[client].link.expect("it is connected");
        let request = self.clients[client].request.as_mut().expect("it asks");
        request.delivered = true;
        request.deliver_at = self.now;
        let bytes = std::mem::take(&mut request.bytes);
        let stands = self.nodes[node].stands_until;
        if stands > self.now {
            let request = self.clients[client].request.as_mut().expect("it asks");
            (request.delivered, request.deliver_at, request.bytes) = (false, stands, bytes);
            return;
        }
        self.trace.bytes(&bytes);
        self.handle(node, shard, Event::Received { connection, bytes: &bytes });
    }

    /// A node is told that a client's kernel took what was sent.
    pub(super) fn tell_taken(&mut self, client: usize) {
        let (bytes, _) = self.clients[client].taken.take().expect("it took something");
        let (connection, node, shard) = self.clients[client].link.expect("it is connected");
        self.handle(node, shard, Event::Sent { connection, bytes });
    }

    /// A shard sends bytes to a client: it is told now.
    pub(super) fn on_sent(
        &mut self,
        node: usize,
        shard: usize,
        connection: ConnectionId,
        bytes: &[u8],
    ) {
        self.trace.bytes(bytes);
        let is_its = |client: &Client| client.link == Some((connection, node, shard));
        let Some(client) = self.clients.iter().position(is_its) else { return };
        let taken_at = self.now + Duration::from_nanos(self.rng.below(20_000));
        let taken = self.clients[client].taken.get_or_insert((0, taken_at));
        taken.0 += bytes.len();
        self.clients[client].inbox.extend_from_slice(bytes);
        let Some((reply, length)) = resp::parse(&self.clients[client].inbox) else { return };
        self.clients[client].inbox.drain(..length);
        assert!(self.clients[client].inbox.is_empty(), "more than was asked for, after {reply:?}");
        let request = self.clients[client].request.take();
        let request = request.unwrap_or_else(|| panic!("nobody asked for {reply:?}"));
        self.tell(|| format!("client {client}, {:?}: {reply:?}", request.asked));
        let stood = self.nodes.iter().any(|node| node.stands_until >= request.deliver_at);
        let waited = self.now.since(request.deliver_at);
        let most = self.plan.request_timeout + LATENESS;
        assert!(stood || waited <= most, "{:?}: {reply:?} after {waited:?}", request.asked);
        self.judge(client, request.key, request.asked, &reply);
    }

    /// Whoever asks is answered, or its connection is lost.
    pub(super) fn nobody_waits_for_ever(&self) {
        let stand = self.nodes.iter().map(|node| node.stands_until).max().unwrap_or_default();
        for (number, client) in self.clients.iter().enumerate() {
            let Some(request) = client.request.as_ref().filter(|one| one.delivered) else {
                continue;
            };
            let waited = self.now.since(request.deliver_at.max(stand));
            let most = self.plan.request_timeout + FOR_EVER;
            assert!(waited < most, "client {number} has no answer to {:?}", request.asked);
        }
    }

    fn judge(&mut self, client: usize, key: KeyIndex, asked: Asked, reply: &Reply) {
        if let Reply::Error(error) = reply {
            return self.judge_error(asked, error);
        }
        self.operations += 1;
        let (token, given) = match (asked, reply) {
            (Asked::Get(get, Shows::All), Reply::Array(parts)) => {
                let [Reply::Bulk(Some(context)), Reply::Array(values)] = &parts[..] else {
                    panic!("DYN.GET answered {parts:?}");
                };
                let values: Vec<&[u8]> = values.iter().map(bulk).collect();
                self.shown = Some(values.iter().map(|value| value.to_vec()).collect());
                let shows = Shows::All;
                let end = GetEnd::Answered { values: &values, shows, guaranteed: true };
                (self.oracle.end_get(get, end), context.clone())
            }
            (Asked::Get(get, shows), Reply::Bulk(value)) => {
                let values: Vec<&[u8]> = value.iter().map(Vec::as_slice).collect();
                let end = GetEnd::Answered { values: &values, shows, guaranteed: true };
                (self.oracle.end_get(get, end), Vec::new())
            }
            (Asked::Write(event), Reply::Integer(0)) => {
                (self.oracle.end_write(event, Outcome::NothingToDo), Vec::new())
            }
            (Asked::Write(event), Reply::Bulk(Some(context))) => {
                let outcome = Outcome::Acked { guaranteed: true };
                (self.oracle.end_write(event, outcome), context.clone())
            }
            (Asked::Write(event), Reply::Simple(_) | Reply::Integer(1)) => {
                let outcome = Outcome::Acked { guaranteed: true };
                (self.oracle.end_write(event, outcome), Vec::new())
            }
            (asked, reply) => panic!("{asked:?}: {reply:?}"),
        };
        let token = token.unwrap_or_else(|violation| panic!("{violation}"));
        // An empty context is that of a key that never was: it is none.
        if let Some(token) = token.filter(|_| !given.is_empty()) {
            let kept = &mut self.clients[client].tokens[key];
            kept.push_back((token, given));
            if kept.len() > TOKENS_KEPT {
                kept.pop_front();
            }
        }
    }

    fn judge_error(&mut self, asked: Asked, error: &str) {
        let word = error.split(' ').next().unwrap_or_default();
        let is_open = matches!(word, "UNKNOWN" | "TIMEOUT");
        assert!(is_open || matches!(word, "NOQUORUM" | "BUSY"), "{asked:?}: {error}");
        assert!(!self.peace, "{asked:?} in peace: {error}");
        self.note(match word {
            "UNKNOWN" => Sometimes::OutcomeUnknown,
            "NOQUORUM" => Sometimes::NoQuorum,
            "TIMEOUT" => Sometimes::TimedOut,
            _ => Sometimes::Busy,
        });
        self.end_without_answer(asked, is_open);
    }

    fn end_without_answer(&mut self, asked: Asked, is_open: bool) {
        let ended = match asked {
            Asked::Get(get, _) => {
                let end = if is_open { GetEnd::Unknown } else { GetEnd::Refused };
                self.oracle.end_get(get, end)
            }
            Asked::Write(event) => {
                let outcome = if is_open { Outcome::Unknown } else { Outcome::Refused };
                self.oracle.end_write(event, outcome)
            }
        };
        ended.unwrap_or_else(|violation| panic!("{violation}"));
    }

    /// A shard lets a connection go.
    pub(super) fn on_close(&mut self, connection: ConnectionId) {
        let is_its = |client: &Client| client.link.is_some_and(|link| link.0 == connection);
        if let Some(client) = self.clients.iter().position(is_its) {
            self.forget_link(client);
        }
    }

    /// The connections to a node, or to one of its shards, are gone.
    pub(super) fn lose_clients_of(&mut self, node: usize, shard: Option<usize>) {
        for client in 0..self.clients.len() {
            let link = self.clients[client].link;
            let is_lost = link.is_some_and(|(_, its_node, its_shard)| {
                its_node == node && shard.is_none_or(|shard| shard == its_shard)
            });
            if is_lost {
                self.forget_link(client);
            }
        }
    }

    /// Whatever the client asked may have been done.
    fn forget_link(&mut self, client: usize) {
        let one = &mut self.clients[client];
        (one.link, one.act_at) = (None, self.now + Duration::from_millis(1));
        one.inbox.clear();
        one.taken = None;
        if let Some(request) = one.request.take() {
            self.end_without_answer(request.asked, true);
        }
    }
}

fn bulk(reply: &Reply) -> &[u8] {
    match reply {
        Reply::Bulk(Some(value)) => value,
        other => panic!("a value, not {other:?}"),
    }
}
