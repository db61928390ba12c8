//! Some nodes with pipes between them, and somebody in between who bends what they say.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::base::rng::Rng;
use crate::protocol::wire::frame::Direction;
use crate::protocol::wire::greeting::Hello;
use crate::protocol::wire::greeting::VERSION;

const PING_AFTER: Duration = Duration::from_millis(200);
const DOWN_AFTER: Duration = Duration::from_millis(800);

/// The ends of a pipe.
type End = (usize, LinkId);

/// What a node has that others have not, and what it is told.
type Difference = (fn(&mut Settings), Refusal);

struct Node {
    peers: Peers,
    settings: Settings,
    notices: Vec<Notice>,
    is_frozen: bool,
}

struct World {
    nodes: Vec<Node>,
    /// The other end of each.
    pipes: BTreeMap<End, End>,
    /// Bytes under way, to whom.
    posts: Vec<(End, Vec<u8>)>,
    /// All bytes that ever went into a pipe at this end.
    told: BTreeMap<End, Vec<u8>>,
    now: Instant,
    last_link: u64,
    rng: Rng,
}

fn settings(number: usize, count: usize) -> Settings {
    let members: Vec<MemberId> = (0..count as u128).map(MemberId::new).collect();
    Settings {
        cluster: [1; 16],
        secret: PeerSecret::new([2; 32]),
        own: Identity { member: members[number], instance: [number as u8; 16], start: 100 },
        members,
        beliefs: Beliefs { namespaces: [3; 16], table: [4; 16] },
        owners: Owners { shards: 1, of: vec![ShardId::new(0); 16] },
        frame_bytes_max: 1000,
        unsent_bytes_max: 10_000,
        ping_after: PING_AFTER,
        down_after: DOWN_AFTER,
        retry_after: Duration::from_millis(300),
    }
}

impl World {
    fn new(count: usize, change: impl Fn(usize, &mut Settings)) -> Self {
        let mut world = Self {
            nodes: Vec::new(),
            pipes: BTreeMap::new(),
            posts: Vec::new(),
            told: BTreeMap::new(),
            now: Instant::START,
            last_link: 0,
            rng: Rng::from_seed(1),
        };
        for number in 0..count {
            let mut settings = settings(number, count);
            change(number, &mut settings);
            world.nodes.push(node(settings, number as u64));
        }
        for number in 0..count {
            world.with(number, |peers, now, out| peers.start(now, out));
        }
        world.settle();
        world
    }

    /// A node's turn, and everything that it asks for.
    fn with(&mut self, number: usize, act: impl FnOnce(&mut Peers, Instant, &mut Outbox<Effect>)) {
        let mut out = Outbox::default();
        act(&mut self.nodes[number].peers, self.now, &mut out);
        let (effects, arena) = out.take();
        for effect in effects {
            match effect {
                Effect::Connect { link, member, shard } => {
                    self.connect(number, link, member, shard)
                }
                Effect::Send { link, bytes } => {
                    let bytes = arena[bytes].to_vec();
                    self.told.entry((number, link)).or_default().extend(&bytes);
                    if let Some(other) = self.pipes.get(&(number, link)) {
                        self.posts.push((*other, bytes));
                    }
                }
                Effect::Close { link } => self.posts.push(((number, link), Vec::new())),
            }
        }
        let node = &mut self.nodes[number];
        while let Some(notice) = node.peers.next_notice() {
            node.notices.push(notice);
        }
    }

    fn connect(&mut self, from: usize, link: LinkId, member: MemberId, shard: ShardId) {
        assert_eq!(shard, ShardId::new(0));
        let to = member.to_raw() as usize;
        self.last_link += 1;
        let other = (to, LinkId::accepted(self.last_link));
        self.pipes.insert((from, link), other);
        self.pipes.insert(other, (from, link));
        self.posts.push((other, b"accept".to_vec()));
        self.posts.push(((from, link), b"open".to_vec()));
    }

    /// Everything that is under way arrives, in pieces.
    fn settle(&mut self) {
        while !self.posts.is_empty() {
            let frozen = |(to, _): &(End, Vec<u8>)| self.nodes[to.0].is_frozen;
            let Some(at) = self.posts.iter().position(|post| !frozen(post)) else { return };
            let ((number, link), mut bytes) = self.posts.remove(at);
            match &bytes[..] {
                b"" => self.close((number, link)),
                b"accept" => self.with(number, |peers, now, out| peers.accepted(now, link, out)),
                b"open" => self.with(number, |peers, now, out| peers.opened(now, link, out)),
                _ => {
                    while !bytes.is_empty() {
                        let length = self.rng.between(1, bytes.len() as u64) as usize;
                        let rest = bytes.split_off(length);
                        self.tell((number, link), &bytes);
                        bytes = rest;
                    }
                }
            }
        }
    }

    fn tell(&mut self, (number, link): End, bytes: &[u8]) {
        self.with(number, |peers, now, out| {
            let mut input = peers.received(now, link, bytes);
            let word = peers.next_word(now, &mut input, out).map(|(_, word, _)| word);
            assert_eq!(word, None, "nobody says anything but the handshake");
        });
    }

    fn close(&mut self, end: End) {
        let Some(other) = self.pipes.remove(&end) else { return };
        self.pipes.remove(&other);
        for (number, link) in [end, other] {
            self.with(number, |peers, now, _| peers.closed(now, link));
        }
    }

    /// Time goes by; everything arrives at once.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.now = self.now + Duration::from_millis(10);
            for number in 0..self.nodes.len() {
                if !self.nodes[number].is_frozen {
                    self.with(number, |peers, now, out| peers.tick(now, out));
                }
            }
            self.settle();
        }
    }

    /// The process ends and another begins, with other settings.
    fn restart(&mut self, number: usize, change: impl Fn(&mut Settings)) {
        let ends: Vec<End> = self.pipes.keys().filter(|end| end.0 == number).copied().collect();
        let mut settings = self.nodes[number].settings.clone();
        settings.own.start += 1;
        change(&mut settings);
        let entropy = settings.own.start;
        self.nodes[number] = node(settings, entropy);
        for end in ends {
            let Some(other) = self.pipes.remove(&end) else { continue };
            self.pipes.remove(&other);
            self.with(other.0, |peers, now, _| peers.closed(now, other.1));
        }
        self.posts.clear();
        self.with(number, |peers, now, out| peers.start(now, out));
        self.settle();
    }

    fn sees(&self, number: usize, other: usize) -> bool {
        self.nodes[number].peers.is_up(MemberId::new(other as u128))
    }

    /// Whether each sees the other, which must be the same.
    fn agree(&self, one: usize, other: usize) -> bool {
        assert_eq!(self.sees(one, other), self.sees(other, one));
        self.sees(one, other)
    }

    fn refusals(&self, one: usize, other: usize) -> [Option<Refusal>; 2] {
        let refusal =
            |one: usize, other: usize| self.nodes[one].peers.refusal(MemberId::new(other as u128));
        [refusal(one, other), refusal(other, one)]
    }

    /// A stranger connects to a node and says something.
    fn intrude(&mut self, number: usize, bytes: &[u8]) -> LinkId {
        self.last_link += 1;
        let link = LinkId::accepted(self.last_link);
        self.with(number, |peers, now, out| peers.accepted(now, link, out));
        self.tell((number, link), bytes);
        link
    }
}

fn node(settings: Settings, entropy: u64) -> Node {
    let peers = Peers::new(Arc::new(settings.clone()), ShardId::new(0), entropy);
    Node { peers, settings, notices: Vec::new(), is_frozen: false }
}

#[test]
fn members_find_each_other_and_learn_where_partitions_are() {
    let mut world = World::new(3, |_, _| {});
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        assert!(world.agree(one, other));
    }
    let mut out = Outbox::default();
    let (now, partition) = (world.now, PartitionId::new(3));
    let link = world.nodes[0].peers.link_to(now, MemberId::new(1), partition, &mut out);
    assert!(link.is_some());
    let ups = world.nodes[0].notices.iter().filter(|notice| matches!(notice, Notice::Up(_)));
    assert_eq!(ups.count(), 2);
    world.pass(Duration::from_secs(10));
    assert!(world.nodes.iter().all(|node| node.notices.len() == 2), "nothing happens in peace");
}

#[test]
fn who_differs_in_something_is_refused_and_both_know_why() {
    let cases: [Difference; 5] = [
        (|settings| settings.secret = PeerSecret::new([9; 32]), Refusal::Secret),
        (|settings| settings.cluster = [9; 16], Refusal::Cluster),
        (|settings| settings.beliefs.namespaces = [9; 16], Refusal::Namespaces),
        (|settings| settings.beliefs.table = [9; 16], Refusal::Table),
        (|settings| settings.own.member = MemberId::new(77), Refusal::Member),
    ];
    for (change, refusal) in cases {
        let mut world = World::new(2, |number, settings| {
            if number == 1 {
                change(settings);
            }
        });
        world.pass(Duration::from_secs(2));
        assert!(!world.sees(0, 1) && !world.sees(1, 0), "{refusal:?}");
        let told = world.refusals(0, 1);
        assert!(told.contains(&Some(refusal)), "{refusal:?}: {told:?}");
        let counted = world.nodes.iter().all(|node| node.peers.counters.refused > 0);
        assert!(counted, "{refusal:?}: both count it");
        assert!(world.nodes.iter().all(|node| node.peers.counters.agreed == 0), "{refusal:?}");
    }
}

/// What a member said once is worth nothing on another connection.
#[test]
fn a_handshake_cannot_be_said_again() {
    let mut world = World::new(2, |_, _| {});
    let said: Vec<(End, Vec<u8>)> =
        world.told.iter().map(|(end, bytes)| (*end, bytes.clone())).collect();
    for ((number, _), bytes) in said {
        for target in [0, 1] {
            let before = world.nodes[target].peers.counters;
            world.intrude(target, &bytes);
            world.settle();
            let after = world.nodes[target].peers.counters;
            assert_eq!(after.agreed, before.agreed, "what {number} said, to {target}");
            assert!(after.refused + after.nonsense > before.refused + before.nonsense);
        }
    }
    assert!(world.agree(0, 1), "and nobody else is disturbed");
}

#[test]
fn a_version_that_is_not_spoken_is_refused() {
    let mut world = World::new(2, |_, _| {});
    let own = world.nodes[1].settings.own;
    let hello = Hello {
        lowest: VERSION + 1,
        highest: VERSION + 1,
        cluster: [1; 16],
        own,
        from: ShardId::new(0),
        to: ShardId::new(0),
        random: [0; 16],
    };
    let mut bytes = Vec::new();
    Direction::default().put(&mut bytes, |out| {
        out.push(Word::Hello.to_byte());
        hello.encode_into(out);
    });
    world.intrude(0, &bytes);
    assert_eq!(world.refusals(0, 1)[0], Some(Refusal::Version));
    assert!(world.agree(0, 1));
}

/// Any bytes, at any stage: nobody falls over, nobody believes a word.
#[test]
fn nonsense_ends_its_own_connection_alone() {
    let mut rng = Rng::from_seed(5);
    for _ in 0..300 {
        let mut world = World::new(2, |_, _| {});
        let agreed = world.nodes[0].peers.counters.agreed;
        let mut garbage = vec![0; rng.between(1, 600) as usize];
        rng.fill(&mut garbage);
        let kind = rng.below(3);
        let is_of_a_peer = kind == 2;
        match kind {
            0 => drop(world.intrude(0, &garbage)),
            1 => {
                // Said well once, and bent in one bit.
                let said = world.told.values().next().expect("they spoke").clone();
                let mut bent = said;
                let bit = rng.below(8 * bent.len() as u64) as usize;
                bent[bit / 8] ^= 1 << (bit % 8);
                world.intrude(0, &bent);
            }
            _ => {
                let end = *world.pipes.keys().find(|end| end.0 == 0).expect("they are connected");
                world.tell(end, &garbage);
                // A length that may be right waits for the rest.
                world.tell(end, &[0xff; 1100]);
            }
        }
        world.settle();
        assert_eq!(world.nodes[0].peers.counters.agreed, agreed);
        let lost = world.nodes[0].notices.iter().filter(|one| matches!(one, Notice::Lost(_)));
        assert_eq!(lost.count(), usize::from(is_of_a_peer), "what was asked on it has no answer");
        let (garbage, counters) = (garbage.len(), world.nodes[0].peers.counters);
        world.pass(Duration::from_secs(2));
        assert!(world.agree(0, 1), "{garbage} bytes, {counters:?}");
    }
}

#[test]
fn who_is_silent_is_down_and_is_taken_back() {
    let mut world = World::new(3, |_, _| {});
    world.nodes[2].is_frozen = true;
    world.pass(DOWN_AFTER + PING_AFTER);
    assert!(!world.sees(0, 2) && !world.sees(1, 2));
    assert!(world.agree(0, 1));
    let lost =
        |node: &Node| node.notices.iter().filter(|one| matches!(one, Notice::Lost(_))).count();
    assert!(lost(&world.nodes[0]) > 0, "what was asked of it has no answer");
    world.nodes[2].is_frozen = false;
    world.settle();
    world.pass(Duration::from_secs(4));
    for (one, other) in [(0, 1), (1, 2), (0, 2)] {
        assert!(world.agree(one, other), "{one} and {other}");
    }
}

/// Its own pause is nobody else's silence.
#[test]
fn who_stood_still_accuses_nobody() {
    let mut world = World::new(3, |_, _| {});
    world.now = world.now + Duration::from_secs(5);
    world.pass(Duration::from_secs(1));
    for node in &world.nodes {
        assert_eq!(node.peers.counters.downs, 0);
        assert!(!node.notices.iter().any(|one| matches!(one, Notice::Lost(_))));
    }
}

/// A frame that comes in many pieces is gathered once, not with each piece anew.
#[test]
fn a_long_frame_may_come_in_many_pieces() {
    let mut world = World::new(2, |_, settings| settings.frame_bytes_max = 1 << 20);
    let end = *world.pipes.keys().find(|end| end.0 == 0).expect("they are connected");
    let length = (1_u32 << 20).to_le_bytes();
    world.tell(end, &length);
    for _ in 0..20_000 {
        world.tell(end, &[7; 50]);
    }
    let rest = &world.nodes[0].peers.links[&end.1].rest;
    assert_eq!(rest.len(), 4 + 1_000_000);
    assert!(rest.capacity() > rest.len(), "it grows by doubling");
}

#[test]
fn a_new_start_takes_the_place_of_the_old_one() {
    let mut world = World::new(2, |_, _| {});
    let links: Vec<End> = world.pipes.keys().filter(|end| end.0 == 0).copied().collect();
    world.restart(1, |_| {});
    world.pass(Duration::from_secs(2));
    assert!(world.agree(0, 1));
    for (_, link) in links {
        assert!(world.nodes[0].notices.contains(&Notice::Lost(link)));
    }
    assert_eq!(world.nodes[0].peers.counters.doubles, 0);
}

/// A copied directory was started beside the first: the member is the one that is there.
#[test]
fn a_second_instance_of_a_living_member_is_fenced() {
    let mut world = World::new(3, |number, settings| {
        if number == 2 {
            settings.own.member = MemberId::new(1);
        }
    });
    world.pass(Duration::from_secs(2));
    let doubles = world.nodes[0].peers.counters.doubles;
    assert!(doubles > 0, "it is noticed");
    assert!(world.sees(0, 1), "and the first is spoken to");
}

#[test]
fn strangers_are_bounded() {
    let mut world = World::new(2, |_, _| {});
    for _ in 0..PEER_LINKS_STRANGE_MAX + 10 {
        world.intrude(0, b"");
    }
    assert_eq!(world.nodes[0].peers.counters.refused, 10);
    world.pass(Duration::from_secs(3));
    let left = world.nodes[0].peers.links.values().filter(|link| !link.is_over()).count();
    assert_eq!(left, 2, "who says nothing is let go");
    assert!(world.agree(0, 1));
}
