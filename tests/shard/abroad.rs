//! Keys that another node holds: what is asked of it, on which way, and what is told when it is lost.
//!
//! The other node has two shards. The key belongs to the second, to which there is no connection before
//! something is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use stator::base::id::LinkId;
use stator::base::id::MemberId;
use stator::base::id::ShardId;
use stator::base::id::ZoneId;
use stator::base::outbox::Outbox;
use stator::base::time::Duration;
use stator::protocol::peers;
use stator::protocol::peers::PeerSecret;
use stator::protocol::peers::Peers;
use stator::protocol::ring::Member;
use stator::protocol::ring::Members;
use stator::protocol::ring::Partitions;
use stator::protocol::ring::Preferences;
use stator::protocol::ring::Table;
use stator::protocol::shard::Cluster;
use stator::protocol::shard::Event;
use stator::protocol::wire::command::Operation;
use stator::protocol::wire::greeting::Beliefs;
use stator::protocol::wire::greeting::Identity;
use stator::protocol::wire::greeting::Owners;
use stator::protocol::wire::peer::Forward;
use stator::protocol::wire::peer::Reply;
use stator::protocol::wire::peer::Word;

use crate::world::IN_TIME;
use crate::world::PARTITIONS;
use crate::world::PeerWish;
use crate::world::READER;
use crate::world::SYNC;
use crate::world::WRITER;
use crate::world::World;
use crate::world::get;
use crate::world::set;

const FIRST: usize = 0;
const SECOND: usize = 1;

/// A request as the other node heard it.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Heard {
    /// At which of its shards.
    at: usize,
    number: u64,
    /// The value of a SET; nothing of a GET.
    value: Vec<u8>,
}

/// A shard that holds nothing, and the node that holds everything.
struct Pair {
    world: World,
    /// The other node's shards.
    other: [Peers; 2],
    /// The connections: at which shard of the other node each ends.
    ends: BTreeMap<LinkId, usize>,
    heard: Vec<Heard>,
    /// No connection to its second shard opens.
    holds_second: bool,
    held: Vec<LinkId>,
}

impl Pair {
    fn new() -> Self {
        let world = World::new(SYNC, |_, node| {
            let ring = Partitions::new(PARTITIONS).expect("a power of two");
            // So light that nothing is its part.
            let member = |id, weight| {
                let (id, zone) = (MemberId::new(id), ZoneId::new(0));
                Member { id, weight, zone }
            };
            let members = Members::new([member(0, 1), member(1, 60_000)]).expect("two members");
            let preferences = Preferences::new(Table::new(ring, 1, &members));
            node.cluster = Cluster::of(preferences, Arc::new(settings(0)));
            node.request_timeout = Duration::from_millis(300);
        });
        let other = [0, 1].map(|shard| {
            Peers::new(Arc::new(settings(1)), ShardId::new(shard), 7 + u64::from(shard))
        });
        let (ends, heard, held) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut pair = Self { world, other, ends, heard, holds_second: true, held };
        pair.carry();
        pair
    }

    /// Everything that the two say to each other arrives.
    fn carry(&mut self) {
        while !self.world.peers.is_empty() {
            for wish in std::mem::take(&mut self.world.peers) {
                match wish {
                    PeerWish::Connect(link, shard) => {
                        self.ends.insert(link, usize::from(shard.to_raw()));
                        if shard == ShardId::new(1) && self.holds_second {
                            self.held.push(link);
                        } else {
                            self.open(link);
                        }
                    }
                    PeerWish::Send(link, bytes) => self.other_hears(link, &bytes),
                    PeerWish::Close(link) => self.lose(link),
                }
            }
        }
    }

    fn open(&mut self, link: LinkId) {
        let mut out = Outbox::default();
        let now = self.world.now;
        self.other[self.ends[&link]].accepted(now, there(link), &mut out);
        self.world.handle(Event::PeerOpened { link });
    }

    fn let_second_open(&mut self) {
        self.holds_second = false;
        for link in std::mem::take(&mut self.held) {
            self.open(link);
        }
        self.carry();
    }

    fn other_hears(&mut self, link: LinkId, bytes: &[u8]) {
        let (at, now) = (self.ends[&link], self.world.now);
        let mut out = Outbox::default();
        let mut input = self.other[at].received(now, there(link), bytes);
        while let Some((_, word, body)) = self.other[at].next_word(now, &mut input, &mut out) {
            assert_eq!(word, Word::Forward);
            let forward = Forward::decode(body).expect("a request");
            let value = match forward.command.operation {
                Operation::Set { value, .. } => value.to_vec(),
                _ => Vec::new(),
            };
            self.heard.push(Heard { at, number: forward.number, value });
        }
        self.other_says(link, out);
    }

    fn other_says(&mut self, link: LinkId, mut out: Outbox<peers::Effect>) {
        let (effects, arena) = out.take();
        for effect in effects {
            if let peers::Effect::Send { bytes, .. } = effect {
                self.world.handle(Event::PeerReceived { link, bytes: &arena[bytes] });
            }
        }
    }

    /// The other node answers a request with these bytes.
    fn answer(&mut self, heard: &Heard, reply: &[u8]) {
        let (link, _) = self.ends.iter().find(|(_, at)| **at == heard.at).expect("it asked");
        let (link, number) = (*link, heard.number);
        let mut out = Outbox::default();
        let is_said = self.other[heard.at].answer(there(link), Word::Reply, &mut out, |out| {
            Reply { number, reply }.encode_into(out);
        });
        assert!(is_said);
        self.other_says(link, out);
        self.carry();
    }

    fn lose(&mut self, link: LinkId) {
        if self.ends.remove(&link).is_some() {
            self.world.handle(Event::PeerClosed { link });
        }
    }

    fn asks(&mut self, bytes: &[u8]) {
        self.world.say(WRITER, bytes);
        self.carry();
    }

    /// The last request that was heard.
    fn last(&self) -> Heard {
        self.heard.last().expect("something was asked").clone()
    }
}

/// As the other side names a connection.
fn there(link: LinkId) -> LinkId {
    LinkId::accepted(link.to_raw())
}

fn settings(number: u128) -> peers::Settings {
    peers::Settings {
        cluster: [1; 16],
        secret: PeerSecret::new([2; 32]),
        own: Identity { member: MemberId::new(number), instance: [number as u8; 16], start: 1 },
        members: vec![MemberId::new(0), MemberId::new(1)],
        beliefs: Beliefs { namespaces: [3; 16], table: [4; 16] },
        owners: Owners { shards: 2, of: vec![ShardId::new(1); usize::from(PARTITIONS)] },
        frame_bytes_max: 1 << 20,
        unsent_bytes_max: 1 << 20,
        ping_after: Duration::from_secs(100),
        down_after: Duration::from_secs(300),
        retry_after: Duration::from_secs(1),
    }
}

/// The second request finds a shorter way, and would overtake the first, which still waits at a core
/// that it is no business of.
#[test]
fn what_is_asked_of_one_key_goes_one_way_as_long_as_any_of_it_is_under_way() {
    let mut pair = Pair::new();
    pair.asks(&set("key", "one"));
    assert_eq!(pair.last().at, FIRST, "there is no other way yet");
    let first = pair.last();
    pair.let_second_open();
    pair.asks(&set("key", "two"));
    assert_eq!((pair.last().at, &pair.last().value[..]), (FIRST, &b"two"[..]));
    let second = pair.last();
    for heard in [first, second] {
        pair.answer(&heard, b"+OK\r\n");
    }
    assert_eq!(pair.world.take(WRITER), "+OK\r\n+OK\r\n");
    pair.asks(&set("key", "three"));
    assert_eq!(pair.last().at, SECOND, "nothing is under way any more");
}

/// A write that may have been carried out is never asked again; a get may be.
#[test]
fn what_a_lost_node_was_asked_is_unknown_and_only_a_get_is_asked_again() {
    let mut pair = Pair::new();
    pair.let_second_open();
    pair.asks(&set("key", "one"));
    pair.answer(&pair.last(), b"+OK\r\n");
    pair.asks(&set("key", "two"));
    pair.world.say(READER, &get("key"));
    pair.carry();
    assert_eq!(pair.heard.len(), 3);
    let direct = *pair.ends.iter().find(|(_, at)| **at == pair.last().at).expect("it asked").0;
    assert_eq!(pair.last().at, SECOND);
    pair.lose(direct);
    pair.carry();
    assert_eq!(
        pair.world.take(WRITER),
        "+OK\r\n-UNKNOWN 0/1 copies are known to be stored; it may be stored\r\n"
    );
    assert_eq!(pair.heard.len(), 4, "the get alone");
    assert_eq!((pair.last().at, pair.last().value.len()), (FIRST, 0));
    pair.answer(&pair.last(), b"$3\r\none\r\n");
    assert_eq!(pair.world.take(READER), "$3\r\none\r\n");
}

#[test]
fn who_is_not_answered_in_time_is_told_so_once() {
    let mut pair = Pair::new();
    pair.asks(&set("key", "one"));
    let heard = pair.last();
    pair.world.pass(IN_TIME);
    assert!(pair.world.take(WRITER).starts_with("-TIMEOUT"));
    pair.answer(&heard, b"+OK\r\n");
    assert_eq!(pair.world.take(WRITER), "", "nobody waits for it any more");
    assert_eq!(pair.world.shard.waiting(), 0);
}

#[test]
fn where_nobody_who_holds_the_key_is_heard_nothing_is_sent() {
    let mut pair = Pair::new();
    let main = *pair.ends.keys().next().expect("it connected");
    pair.lose(main);
    pair.asks(&set("key", "one"));
    assert_eq!(
        pair.world.take(WRITER),
        "-NOQUORUM 0/1 replicas of this key are known to be alive\r\n"
    );
    assert!(pair.heard.is_empty());
}

/// What would take a client out of step with its answers is nothing that a node says.
#[test]
fn an_answer_that_is_not_one_reply_ends_the_connection() {
    for nonsense in [&b"+OK\r\n+OK\r\n"[..], b"", b"$9\r\nabc\r\n"] {
        let mut pair = Pair::new();
        pair.asks(&set("key", "one"));
        pair.answer(&pair.last(), nonsense);
        assert!(pair.world.take(WRITER).starts_with("-UNKNOWN 0/1"));
        let peers = pair.world.shard.peers().expect("it has some");
        assert_eq!(peers.counters.nonsense, 1);
    }
}
