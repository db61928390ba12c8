//! One connection to a shard of another node: how it is agreed on, and whether it is still of use.
//!
//! A link is asked for by one side and used for the requests of that side alone; answers come back
//! on it. Its machine knows the handshake and the frames, and nothing of what they say.
//!
//! # Invariants
//!
//! - Nothing but the handshake is heard or said before both sides have proved the secret.
//! - A link that heard anything wrong is over: it says why once, and hears nothing more.

use crate::base::id::MemberId;
use crate::base::id::ShardId;
use crate::base::limits::GREETING_BYTES_MAX;
use crate::base::limits::STRANGER_BYTES_MAX;
use crate::base::time::Instant;
use crate::protocol::peers::Settings;
use crate::protocol::peers::secret::Turn;
use crate::protocol::wire::frame::Direction;
use crate::protocol::wire::greeting::Beliefs;
use crate::protocol::wire::greeting::Challenge;
use crate::protocol::wire::greeting::Hello;
use crate::protocol::wire::greeting::Identity;
use crate::protocol::wire::greeting::Owners;
use crate::protocol::wire::greeting::Refusal;
use crate::protocol::wire::greeting::VERSION;
use crate::protocol::wire::greeting::Words;
use crate::protocol::wire::peer::Word;

/// How far two nodes have come with each other.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Stage {
    /// The connection is not there yet.
    Connecting,
    /// We said hello.
    Greeted,
    /// We proved ourselves.
    Proved,
    /// Somebody connected and said nothing yet.
    Accepted,
    /// We told somebody to prove itself.
    Challenged,
    /// Both have proved themselves.
    Ready,
    /// It is of no use any more.
    Over,
}

/// What came of a word of the other side's.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum Step {
    /// Nothing to tell: the other side's turn.
    GoOn,
    /// Both are sure of each other.
    Ready,
    /// This side will not speak with it; it was told why.
    Refused(Refusal),
    /// The other side will not speak with this one.
    RefusedBy(Refusal),
    /// It said what nobody says.
    Nonsense,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    stage: Stage,
    /// Whether this side asked for it.
    pub(super) is_ours: bool,
    /// The member at the other end: whom we want, or who proved to be.
    pub(super) member: Option<MemberId>,
    /// The shard there: which we want, or which speaks.
    pub(super) shard: ShardId,
    /// Who proved to be there.
    pub(super) identity: Option<Identity>,
    /// Where partitions are at the other end, once it said so.
    pub(super) owners: Option<Owners>,
    /// All that was said in the handshake: what tags cover.
    said: Vec<u8>,
    send: Direction,
    receive: Direction,
    /// Bytes of a frame that is not all there.
    pub(super) rest: Vec<u8>,
    /// To be sent at the end of this event.
    pub(super) outgoing: Vec<u8>,
    /// Sent, and still on this side.
    pub(super) unsent: usize,
    pub(super) began_at: Instant,
    pub(super) heard_at: Instant,
    pub(super) pinged_at: Instant,
}

impl Link {
    /// One that this side asks for.
    pub(super) fn connect(now: Instant, member: MemberId, shard: ShardId) -> Self {
        Self::new(now, Stage::Connecting, Some(member), shard)
    }

    /// One that somebody else asked for.
    pub(super) fn accept(now: Instant) -> Self {
        Self::new(now, Stage::Accepted, None, ShardId::new(0))
    }

    fn new(now: Instant, stage: Stage, member: Option<MemberId>, shard: ShardId) -> Self {
        Self {
            is_ours: stage == Stage::Connecting,
            stage,
            member,
            shard,
            identity: None,
            owners: None,
            said: Vec::new(),
            send: Direction::default(),
            receive: Direction::default(),
            rest: Vec::new(),
            outgoing: Vec::new(),
            unsent: 0,
            began_at: now,
            heard_at: now,
            pinged_at: now,
        }
    }

    /// Whether both sides have proved themselves and nothing went wrong since.
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Whether nothing more is heard of it.
    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    /// Whether the connection itself is still to come.
    pub(super) fn is_connecting(&self) -> bool {
        self.stage == Stage::Connecting
    }

    /// Nothing more is heard of it.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Over;
        self.rest = Vec::new();
    }

    /// Appends a word to what goes out.
    pub(super) fn say(&mut self, word: Word, write: impl FnOnce(&mut Vec<u8>)) {
        self.send.put(&mut self.outgoing, |out| {
            out.push(word.to_byte());
            write(out);
        });
    }

    /// The next word of the other side's that is all there.
    ///
    /// # Errors
    ///
    /// `()` if it is none: the link must be ended.
    pub(super) fn hear<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        ready_bytes_max: usize,
    ) -> Result<Option<(Word, &'a [u8])>, ()> {
        let most = match self.stage {
            Stage::Over => return Ok(None),
            Stage::Ready => ready_bytes_max,
            Stage::Accepted | Stage::Challenged => STRANGER_BYTES_MAX,
            Stage::Connecting | Stage::Greeted | Stage::Proved => GREETING_BYTES_MAX,
        };
        let heard = match self.receive.take(bytes, most) {
            Ok(None) => return Ok(None),
            Ok(Some(frame)) => frame.split_first().and_then(|(word, body)| {
                let word = Word::from_byte(*word)?;
                (word.is_greeting() != self.is_ready()).then_some((word, body))
            }),
            Err(_) => None,
        };
        heard.map(Some).ok_or(())
    }

    /// The connection is there: says hello.
    pub(super) fn opened(&mut self, settings: &Settings, from: ShardId, random: Words) {
        let hello = Hello {
            lowest: VERSION,
            highest: VERSION,
            cluster: settings.cluster,
            own: settings.own,
            from,
            to: self.shard,
            random,
        };
        hello.encode_into(&mut self.said);
        let said = self.said.clone();
        self.stage = Stage::Greeted;
        self.say(Word::Hello, |out| out.extend_from_slice(&said));
    }

    /// Hears a word of the handshake. `random` is a fresh number. Unless both go on or are ready, the
    /// link must be ended.
    pub(super) fn greet(
        &mut self,
        settings: &Settings,
        own_shard: ShardId,
        word: Word,
        body: &[u8],
        random: Words,
    ) -> Step {
        let step = match (&self.stage, word) {
            (Stage::Accepted, Word::Hello) => self.on_hello(settings, own_shard, body, random),
            (Stage::Greeted, Word::Challenge) => self.on_challenge(settings, body),
            (Stage::Challenged, Word::Proof) => self.on_proof(settings, body),
            (Stage::Proved, Word::Welcome) => self.on_welcome(settings, body),
            (Stage::Greeted | Stage::Proved, Word::Refusal) => {
                Refusal::decode(body).ok().map(Step::RefusedBy)
            }
            _ => None,
        };
        let step = step.unwrap_or(Step::Nonsense);
        if let Step::Refused(refusal) = step {
            self.say(Word::Refusal, |out| refusal.encode_into(out));
        }
        step
    }

    fn on_hello(
        &mut self,
        settings: &Settings,
        own_shard: ShardId,
        body: &[u8],
        random: Words,
    ) -> Option<Step> {
        let hello = Hello::decode(body).ok()?;
        // Unproved as yet: who it is said to be, for the operator to look at.
        (self.member, self.shard) = (Some(hello.own.member), hello.from);
        let is_stranger = !settings.is_other_member(hello.own.member);
        let refusal = [
            (hello.lowest > VERSION || hello.highest < VERSION, Refusal::Version),
            (hello.cluster != settings.cluster, Refusal::Cluster),
            (is_stranger, Refusal::Member),
            (hello.to != own_shard, Refusal::Shard),
        ];
        if let Some((_, refusal)) = refusal.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Some(Step::Refused(refusal));
        }
        self.identity = Some(hello.own);
        self.said.extend_from_slice(body);
        let start = self.said.len();
        let challenge = Challenge { version: VERSION, own: settings.own, random };
        challenge.encode_into(&mut self.said);
        self.say_tagged(settings, Word::Challenge, Turn::Challenge, start);
        self.stage = Stage::Challenged;
        Some(Step::GoOn)
    }

    fn on_challenge(&mut self, settings: &Settings, body: &[u8]) -> Option<Step> {
        let (challenge, tag) = Challenge::decode(body).ok()?;
        challenge.encode_into(&mut self.said);
        if !settings.secret.is_tag(Turn::Challenge, &self.said, &tag) {
            return Some(Step::Refused(Refusal::Secret));
        }
        if self.member != Some(challenge.own.member) {
            return Some(Step::Refused(Refusal::Member));
        }
        self.identity = Some(challenge.own);
        self.said.extend_from_slice(&tag);
        let start = self.said.len();
        settings.beliefs.encode_into(&mut self.said);
        self.say_tagged(settings, Word::Proof, Turn::Proof, start);
        self.stage = Stage::Proved;
        Some(Step::GoOn)
    }

    fn on_proof(&mut self, settings: &Settings, body: &[u8]) -> Option<Step> {
        let (beliefs, tag) = Beliefs::decode(body).ok()?;
        beliefs.encode_into(&mut self.said);
        if !settings.secret.is_tag(Turn::Proof, &self.said, &tag) {
            return Some(Step::Refused(Refusal::Secret));
        }
        if beliefs.namespaces != settings.beliefs.namespaces {
            return Some(Step::Refused(Refusal::Namespaces));
        }
        if beliefs.table != settings.beliefs.table {
            return Some(Step::Refused(Refusal::Table));
        }
        self.said.extend_from_slice(&tag);
        let start = self.said.len();
        settings.owners.encode_into(&mut self.said);
        self.say_tagged(settings, Word::Welcome, Turn::Welcome, start);
        Some(self.ready(settings))
    }

    fn on_welcome(&mut self, settings: &Settings, body: &[u8]) -> Option<Step> {
        let (owners, tag) = Owners::decode(body).ok()?;
        owners.encode_into(&mut self.said);
        if !settings.secret.is_tag(Turn::Welcome, &self.said, &tag) {
            return Some(Step::Refused(Refusal::Secret));
        }
        if owners.of.len() != settings.owners.of.len() {
            return None;
        }
        self.owners = Some(owners);
        self.said.extend_from_slice(&tag);
        Some(self.ready(settings))
    }

    /// Says what was appended to what is said since `start`, with its tag.
    fn say_tagged(&mut self, settings: &Settings, word: Word, turn: Turn, start: usize) {
        let tag = settings.secret.tag(turn, &self.said);
        self.said.extend_from_slice(&tag);
        let said = std::mem::take(&mut self.said);
        self.say(word, |out| out.extend_from_slice(&said[start..]));
        self.said = said;
    }

    /// From here on frames are of this connection alone.
    fn ready(&mut self, settings: &Settings) -> Step {
        let salts = settings.secret.salts(&self.said);
        let (own, others) = match self.is_ours {
            true => (salts.of_connector, salts.of_acceptor),
            false => (salts.of_acceptor, salts.of_connector),
        };
        self.send = Direction { salt: own, frames: 0 };
        self.receive = Direction { salt: others, frames: 0 };
        self.said = Vec::new();
        self.stage = Stage::Ready;
        Step::Ready
    }
}
