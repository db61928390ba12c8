//! The other nodes as one shard sees them: connections to their shards, and who is there.
//!
//! Liveness is in-band, as in the paper (section 4.8.3, "a purely local notion of failure"): a node
//! is up as long as it is heard. Whoever is not is skipped, tried again, and taken back.
//!
//! # Connections
//!
//! Every shard asks for a connection to the first shard of each other node at its start, and hears on
//! it where that node's partitions are. To its other shards it connects when it has something to say
//! to them; until that connection is ready, the first shard passes things on. A connection is used for
//! the requests of the side that asked for it.
//!
//! # Invariants
//!
//! - A node counts as up only while this side can ask it: while a connection that this side asked for
//!   is ready, and was heard on lately.
//! - Only the newest start of a member is spoken to: connections of an older one are closed when it
//!   proves itself. A second instance that lives at the same time is let go and counted; each shard
//!   judges that by what it hears itself. (Two processes on copies of one directory are one instance:
//!   they take each other's place, again and again, which is seen as downs.)
//! - Every connection that is closed was told so once, and its number is never used again.

mod link;
mod secret;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use crate::base::id::LinkId;
use crate::base::id::MemberId;
use crate::base::id::PartitionId;
use crate::base::id::ShardId;
use crate::base::limits::PEER_LINKS_STRANGE_MAX;
use crate::base::outbox::Outbox;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::protocol::peers::link::Link;
use crate::protocol::peers::link::Step;
use crate::protocol::wire::greeting::Beliefs;
use crate::protocol::wire::greeting::Identity;
use crate::protocol::wire::greeting::Owners;
use crate::protocol::wire::greeting::Refusal;
use crate::protocol::wire::greeting::Words;
use crate::protocol::wire::peer::Word;

pub use secret::PeerSecret;

/// What all shards of a node are told of themselves and of the others.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The cluster that the node belongs to.
    pub cluster: Words,
    /// What its members know.
    pub secret: PeerSecret,
    /// Who this node is.
    pub own: Identity,
    /// All members, this one too, in order of their ids.
    pub members: Vec<MemberId>,
    /// What the others must hold to be true as well.
    pub beliefs: Beliefs,
    /// Which shard of this node owns each partition.
    pub owners: Owners,
    /// The longest frame.
    pub frame_bytes_max: usize,
    /// Bytes that may wait on this side of a connection.
    pub unsent_bytes_max: usize,
    /// A connection that was silent for so long is asked whether anybody is there.
    pub ping_after: Duration,
    /// A node that was silent for so long is down.
    pub down_after: Duration,
    /// After so long a handshake that does not end is given up, and a lost connection asked for again.
    pub retry_after: Duration,
}

impl Settings {
    fn is_other_member(&self, member: MemberId) -> bool {
        member != self.own.member && self.members.binary_search(&member).is_ok()
    }
}

/// What a driver is asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Effect {
    /// Connect to a shard of a member. The link is opened, or closed if that cannot be.
    Connect {
        /// From now on its name.
        link: LinkId,
        /// To whom.
        member: MemberId,
        /// To which of its shards.
        shard: ShardId,
    },
    /// Send these bytes of the arena after all that were sent before.
    Send {
        /// On what.
        link: LinkId,
        /// Bytes of the arena.
        bytes: Range<usize>,
    },
    /// Close it when everything has left. It is told that it is closed.
    Close {
        /// What.
        link: LinkId,
    },
}

/// What the hub should know.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notice {
    /// This member is there.
    Up(MemberId),
    /// It was not heard for too long.
    Down(MemberId),
    /// Nothing more comes on this link: what was asked on it has no answer.
    Lost(LinkId),
}

/// Plain integers, exported as they are.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Connections of both sides' proof.
    pub agreed: u64,
    /// Connections that this side refused, or that refused this side.
    pub refused: u64,
    /// Connections that said what nobody says: damage, or somebody who is no node.
    pub nonsense: u64,
    /// Times that a member was found down.
    pub downs: u64,
    /// Times that a member proved itself from two places at once.
    pub doubles: u64,
}

/// A member as it is seen from here.
#[derive(Clone, Debug)]
struct Standing {
    is_up: bool,
    heard_at: Instant,
    /// When a connection may be asked for again.
    retry_at: Instant,
    identity: Option<Identity>,
    owners: Option<Owners>,
    /// Why the last connection was refused.
    refusal: Option<Refusal>,
}

/// All connections of one shard to other nodes.
#[derive(Debug)]
pub struct Peers {
    settings: std::sync::Arc<Settings>,
    shard: ShardId,
    entropy: u64,
    randoms: u64,
    last_link: u64,
    links: BTreeMap<LinkId, Link>,
    /// Connections that this side asked for, by the member's place among members and its shard.
    routes: BTreeMap<(usize, ShardId), LinkId>,
    standings: Vec<Standing>,
    notices: Vec<Notice>,
    /// The next time at which something is due.
    due_at: Option<Instant>,
    /// What was counted.
    pub counters: Counters,
}

/// Words that came on one link, to be taken one by one.
#[derive(Debug)]
pub struct Input<'a> {
    link: LinkId,
    /// What was left of before, and all that came; or nothing, if nothing was left.
    joined: Vec<u8>,
    came: &'a [u8],
    taken: usize,
}

impl Input<'_> {
    fn bytes(&self) -> &[u8] {
        if self.joined.is_empty() { self.came } else { &self.joined }
    }

    /// What is not taken, to be gone on with: the buffer itself, for a frame may come in many pieces.
    fn take_rest(&mut self) -> Vec<u8> {
        let taken = std::mem::take(&mut self.taken);
        if self.joined.is_empty() {
            return std::mem::take(&mut self.came)[taken..].to_vec();
        }
        self.joined.drain(..taken);
        std::mem::take(&mut self.joined)
    }
}

impl Peers {
    /// One that knows nobody yet. `entropy` is true randomness of this start.
    pub fn new(settings: std::sync::Arc<Settings>, shard: ShardId, entropy: u64) -> Self {
        let standing = Standing {
            is_up: false,
            heard_at: Instant::START,
            retry_at: Instant::START,
            identity: None,
            owners: None,
            refusal: None,
        };
        Self {
            standings: vec![standing; settings.members.len()],
            settings,
            shard,
            entropy,
            randoms: 0,
            last_link: 0,
            links: BTreeMap::new(),
            routes: BTreeMap::new(),
            notices: Vec::new(),
            due_at: None,
            counters: Counters::default(),
        }
    }

    /// Whether a member was heard lately.
    pub fn is_up(&self, member: MemberId) -> bool {
        self.position(member).is_some_and(|at| self.standings[at].is_up)
    }

    /// Whether something may be said on a link.
    pub fn is_ready(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(Link::is_ready)
    }

    /// Why the last connection with a member was refused, if it was.
    pub fn refusal(&self, member: MemberId) -> Option<Refusal> {
        self.standings[self.position(member)?].refusal
    }

    /// What happened since this was asked last, in order.
    pub fn next_notice(&mut self) -> Option<Notice> {
        if self.notices.is_empty() { None } else { Some(self.notices.remove(0)) }
    }

    /// When [`Peers::tick`] should come, if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        self.due_at
    }

    /// Begins: asks for a connection to each other node.
    pub fn start(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        self.tick(now, out);
    }

    /// A connection that was asked for is there.
    pub fn opened(&mut self, now: Instant, link: LinkId, out: &mut Outbox<Effect>) {
        let random = self.random();
        let Some(one) = self.links.get_mut(&link).filter(|one| !one.is_over()) else { return };
        assert!(one.is_connecting(), "{link} was opened before");
        (one.began_at, one.heard_at) = (now, now);
        one.opened(&self.settings, self.shard, random);
        self.hand_over(link, out);
    }

    /// Somebody connected to this shard.
    pub fn accepted(&mut self, now: Instant, link: LinkId, out: &mut Outbox<Effect>) {
        let is_stranger = |link: &&Link| !link.is_ours && !link.is_ready() && !link.is_over();
        let strangers = self.links.values().filter(is_stranger);
        let is_full = strangers.count() >= PEER_LINKS_STRANGE_MAX;
        self.links.insert(link, Link::accept(now));
        if is_full {
            self.refuse_all(link, Refusal::Busy, out);
        }
    }

    /// Bytes came: its words are taken by [`Peers::next_word`], until there are none.
    pub fn received<'a>(&mut self, now: Instant, link: LinkId, bytes: &'a [u8]) -> Input<'a> {
        let mut joined = Vec::new();
        if let Some(one) = self.links.get_mut(&link) {
            one.heard_at = now;
            if !one.rest.is_empty() {
                joined = std::mem::take(&mut one.rest);
                joined.extend_from_slice(bytes);
            }
            if one.is_ready()
                && one.is_ours
                && let Some(at) = one.member.and_then(|member| self.position(member))
            {
                self.standings[at].heard_at = now;
            }
        }
        Input { link, joined, came: bytes, taken: 0 }
    }

    /// The next word of an input that is not this room's own affair.
    pub fn next_word<'i>(
        &mut self,
        now: Instant,
        input: &'i mut Input<'_>,
        out: &mut Outbox<Effect>,
    ) -> Option<(LinkId, Word, &'i [u8])> {
        let link = input.link;
        let (word, body) = loop {
            let one = self.links.get_mut(&link)?;
            let all = input.bytes();
            let mut rest = &all[input.taken..];
            match one.hear(&mut rest, self.settings.frame_bytes_max) {
                Ok(None) if one.is_over() => return None,
                Ok(None) => {
                    one.rest = input.take_rest();
                    return None;
                }
                Err(()) => {
                    self.counters.nonsense += 1;
                    self.close(link, out);
                    return None;
                }
                Ok(Some((word, body))) => {
                    let end = all.len() - rest.len();
                    let body = end - body.len()..end;
                    input.taken = end;
                    match word {
                        Word::Ping => {
                            one.say(Word::Pong, |_| {});
                            self.hand_over(link, out);
                        }
                        Word::Pong => {}
                        word if word.is_greeting() => {
                            self.greet(now, link, word, &input.bytes()[body], out)
                        }
                        word => break (word, body),
                    }
                }
            }
        };
        Some((link, word, &input.bytes()[body]))
    }

    /// Some of what was sent has left.
    pub fn sent(&mut self, link: LinkId, bytes: usize) {
        if let Some(one) = self.links.get_mut(&link) {
            one.unsent = one.unsent.saturating_sub(bytes);
        }
    }

    /// A connection is gone, or could not be had.
    pub fn closed(&mut self, now: Instant, link: LinkId) {
        let Some(one) = self.links.remove(&link) else { return };
        self.lost(link, &one);
        if let Some(at) = one.member.and_then(|member| self.position(member)) {
            let retry_at = now + self.settings.retry_after;
            self.standings[at].retry_at = self.standings[at].retry_at.min(retry_at);
        }
    }

    /// A connection for what concerns a partition: to the shard of this member that owns it, or, until
    /// there is one, to its first. `None`: there is none now.
    pub fn link_to(
        &mut self,
        now: Instant,
        member: MemberId,
        partition: PartitionId,
        out: &mut Outbox<Effect>,
    ) -> Option<LinkId> {
        let at = self.position(member)?;
        let first = self.ready_route(at, ShardId::new(0));
        let owners = self.standings[at].owners.as_ref();
        let owner =
            owners.and_then(|owners| owners.of.get(usize::from(partition.to_raw())).copied());
        let owner = owner.filter(|owner| *owner != ShardId::new(0));
        let Some(owner) = owner else { return first };
        if !self.routes.contains_key(&(at, owner)) && self.standings[at].retry_at <= now {
            self.connect(now, at, owner, out);
        }
        self.ready_route(at, owner).or(first)
    }

    /// Asks something on a link. `false`: it is of no use any more, or so much waits on this side that
    /// nothing may be added; nothing was said.
    pub fn ask(
        &mut self,
        link: LinkId,
        word: Word,
        out: &mut Outbox<Effect>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        !self.is_full(link) && self.answer(link, word, out, write)
    }

    /// Answers something that came on a link, however much waits on it: whoever asked would else wait
    /// in vain. What is taken up at all is bounded by [`Peers::is_full`]. `false`: it is of no use any
    /// more.
    pub fn answer(
        &mut self,
        link: LinkId,
        word: Word,
        out: &mut Outbox<Effect>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> bool {
        let Some(one) = self.links.get_mut(&link).filter(|one| one.is_ready()) else {
            return false;
        };
        one.say(word, write);
        self.hand_over(link, out);
        true
    }

    /// Whether so much waits on this side of a link that nothing new should be taken up on it.
    pub fn is_full(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|one| one.unsent > self.settings.unsent_bytes_max)
    }

    /// What came on a link was no word of this room, and none of any other: the link is over.
    pub fn is_nonsense(&mut self, link: LinkId, out: &mut Outbox<Effect>) {
        self.counters.nonsense += 1;
        self.close(link, out);
    }

    /// What is due at a time: silence, handshakes that do not end, connections to be asked for again.
    pub fn tick(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        if self.due_at.is_some_and(|at| now < at) {
            return;
        }
        self.stood_still(now);
        self.due_at = Some(now + self.settings.ping_after / 4);
        self.look_at_links(now, out);
        for at in 0..self.standings.len() {
            let silent = now.since(self.standings[at].heard_at);
            if silent > self.settings.down_after {
                self.is_down(at);
            }
            let is_wanted = self.settings.members[at] != self.settings.own.member
                && !self.routes.contains_key(&(at, ShardId::new(0)));
            if is_wanted && self.standings[at].retry_at <= now {
                self.connect(now, at, ShardId::new(0), out);
            }
        }
    }

    /// Whoever comes late to its own clock has heard nobody meanwhile, and accuses nobody of it.
    fn stood_still(&mut self, now: Instant) {
        let late = self.due_at.map_or(Duration::ZERO, |due_at| now.since(due_at));
        if late <= self.settings.ping_after {
            return;
        }
        for one in self.links.values_mut() {
            one.heard_at = (one.heard_at + late).min(now);
            one.began_at = (one.began_at + late).min(now);
        }
        for standing in &mut self.standings {
            standing.heard_at = (standing.heard_at + late).min(now);
        }
    }

    fn look_at_links(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        let Settings { ping_after, down_after, retry_after, .. } = *self.settings;
        let (mut silent, mut lost) = (Vec::new(), Vec::new());
        for (link, one) in self.links.iter().filter(|(_, one)| !one.is_over()) {
            let since_heard = now.since(one.heard_at);
            // Whoever asked for a connection asks on it; the other side waits for that to stop.
            let most = if one.is_ours { down_after } else { 3 * down_after };
            let is_late = match one.is_ready() {
                true => since_heard > most,
                false => now.since(one.began_at) > retry_after + down_after,
            };
            if is_late {
                lost.push(*link);
            } else if one.is_ready() && one.is_ours {
                let quiet = since_heard.min(now.since(one.pinged_at));
                silent.extend((quiet >= ping_after).then_some(*link));
            }
        }
        for link in silent {
            let one = self.links.get_mut(&link).expect("it was just met");
            one.pinged_at = now;
            one.say(Word::Ping, |_| {});
            self.hand_over(link, out);
        }
        for link in lost {
            self.close(link, out);
        }
    }

    fn greet(
        &mut self,
        now: Instant,
        link: LinkId,
        word: Word,
        body: &[u8],
        out: &mut Outbox<Effect>,
    ) {
        let random = self.random();
        let one = self.links.get_mut(&link).expect("it was just heard");
        let step = one.greet(&self.settings, self.shard, word, body, random);
        let at = one.member.and_then(|member| self.settings.members.binary_search(&member).ok());
        self.hand_over(link, out);
        match step {
            Step::GoOn => {}
            Step::Ready => self.agreed(now, link, at.expect("it proved to be a member"), out),
            Step::Refused(refusal) | Step::RefusedBy(refusal) => {
                self.counters.refused += 1;
                if let Some(at) = at {
                    self.standings[at].refusal = Some(refusal);
                }
                self.close(link, out);
            }
            Step::Nonsense => {
                self.counters.nonsense += 1;
                self.close(link, out);
            }
        }
    }

    /// Both sides have proved themselves.
    fn agreed(&mut self, now: Instant, link: LinkId, at: usize, out: &mut Outbox<Effect>) {
        let one = self.links.get_mut(&link).expect("it was just heard");
        let identity = one.identity.expect("it named itself");
        let (owners, is_ours) = (one.owners.take(), one.is_ours);
        let is_rival = |other: &Link| {
            let is_heard = now.since(other.heard_at) <= self.settings.down_after;
            let instance = other.identity.map(|other| other.instance);
            let is_other = other.is_ready() && instance != Some(identity.instance);
            is_other && is_heard && other.member == Some(identity.member)
        };
        if self.links.values().any(is_rival) {
            // Two processes say that they are this member, and both live: the first one is.
            self.counters.doubles += 1;
            return self.close(link, out);
        }
        let standing = &mut self.standings[at];
        let before = standing.identity.replace(identity);
        standing.refusal = None;
        if before.is_some_and(|before| before != identity) {
            standing.owners = None;
            self.close_older(at, identity, out);
        }
        let standing = &mut self.standings[at];
        standing.owners = owners.or(standing.owners.take());
        self.counters.agreed += 1;
        if !is_ours {
            // It is there: no reason to wait before it is asked.
            standing.retry_at = standing.retry_at.min(now);
            return;
        }
        standing.heard_at = now;
        if !standing.is_up {
            standing.is_up = true;
            self.notices.push(Notice::Up(self.settings.members[at]));
        }
    }

    /// A newer start of a member is there: nothing that is under way from an older one counts.
    fn close_older(&mut self, at: usize, newest: Identity, out: &mut Outbox<Effect>) {
        let member = self.settings.members[at];
        let is_older = |one: &Link| {
            let other = one.identity.is_some_and(|identity| identity != newest);
            one.member == Some(member) && other && !one.is_over()
        };
        let older = self.links.iter().filter(|(_, one)| is_older(one)).map(|(link, _)| *link);
        for link in older.collect::<Vec<LinkId>>() {
            self.close(link, out);
        }
    }

    fn connect(&mut self, now: Instant, at: usize, shard: ShardId, out: &mut Outbox<Effect>) {
        self.last_link += 1;
        let link = LinkId::new(self.last_link);
        let member = self.settings.members[at];
        self.links.insert(link, Link::connect(now, member, shard));
        self.routes.insert((at, shard), link);
        self.standings[at].retry_at = now + self.settings.retry_after;
        out.push(Effect::Connect { link, member, shard });
    }

    /// Tells whoever connected that it is not spoken to.
    fn refuse_all(&mut self, link: LinkId, refusal: Refusal, out: &mut Outbox<Effect>) {
        self.counters.refused += 1;
        let one = self.links.get_mut(&link).expect("it was just accepted");
        one.say(Word::Refusal, |out| refusal.encode_into(out));
        self.hand_over(link, out);
        self.close(link, out);
    }

    /// This side is done with a link: nothing more is heard of it, and nothing asked on it has an
    /// answer. It stays until the driver says that it is closed.
    fn close(&mut self, link: LinkId, out: &mut Outbox<Effect>) {
        let Some(mut one) = self.links.remove(&link) else { return };
        if !one.is_over() {
            self.lost(link, &one);
            one.end();
            out.push(Effect::Close { link });
        }
        self.links.insert(link, one);
    }

    /// Nothing more comes on a link, which is not among the others any more.
    fn lost(&mut self, link: LinkId, one: &Link) {
        self.routes.retain(|_, route| *route != link);
        if !one.is_ready() {
            return;
        }
        self.notices.push(Notice::Lost(link));
        let is_other =
            |other: &Link| other.is_ours && other.is_ready() && other.member == one.member;
        if one.is_ours
            && !self.links.values().any(is_other)
            && let Some(at) = one.member.and_then(|member| self.position(member))
        {
            self.is_down(at);
        }
    }

    fn is_down(&mut self, at: usize) {
        if std::mem::replace(&mut self.standings[at].is_up, false) {
            self.counters.downs += 1;
            self.notices.push(Notice::Down(self.settings.members[at]));
        }
    }

    fn ready_route(&self, at: usize, shard: ShardId) -> Option<LinkId> {
        let link = *self.routes.get(&(at, shard))?;
        self.links[&link].is_ready().then_some(link)
    }

    /// Passes what a link has to say to the driver.
    fn hand_over(&mut self, link: LinkId, out: &mut Outbox<Effect>) {
        let Some(one) = self.links.get_mut(&link) else { return };
        if one.outgoing.is_empty() {
            return;
        }
        let start = out.arena.len();
        one.unsent += one.outgoing.len();
        out.arena.append(&mut one.outgoing);
        out.push(Effect::Send { link, bytes: start..out.arena.len() });
    }

    fn position(&self, member: MemberId) -> Option<usize> {
        self.settings.members.binary_search(&member).ok()
    }

    fn random(&mut self) -> Words {
        self.randoms += 1;
        // Shards of a node have their own entropy, and so their own numbers.
        self.settings.secret.random(self.entropy, self.randoms)
    }
}
