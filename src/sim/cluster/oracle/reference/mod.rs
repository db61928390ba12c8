//! A cluster of one key that is right by construction, and so small that this can be seen.
//!
//! Three copies hold the true sets of events. Messages come late, twice or never; clients give up;
//! disks are wiped as the atlas allows; a quorum is two of three. The oracle must believe all of it,
//! and must not once one rule is left out: a [`Breach`].

mod copies;
mod gets;
mod puts;

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::base::rng::Rng;
use crate::sim::cluster::oracle::Cause;
use crate::sim::cluster::oracle::Conflict;
use crate::sim::cluster::oracle::EventId;
use crate::sim::cluster::oracle::GetId;
use crate::sim::cluster::oracle::Oracle;
use crate::sim::cluster::oracle::Outcome;
use crate::sim::cluster::oracle::Rules;
use crate::sim::cluster::oracle::Shows;
use crate::sim::cluster::oracle::TokenId;
use crate::sim::cluster::oracle::atlas::Atlas;
use crate::sim::cluster::oracle::dots::Dots;
use crate::sim::cluster::oracle::verdict::Violation;

/// The rule that is left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Breach {
    /// Of two concurrent siblings a join sometimes keeps one.
    JoinDropsConcurrent,
    /// A join sometimes takes what the other has seen without its siblings.
    JoinTakesClockAlone,
    /// A join sometimes keeps a sibling that the other has superseded.
    SupersededReturns,
    /// What a get read on one copy replaces what another holds.
    StaleRepairWins,
    /// A delete leaves nothing, not even the knowledge of what was deleted.
    DeleteWithoutTombstone,
    /// Each copy forgets a tombstone as it likes.
    ReapedAlone,
    /// A write counts the copies that it was sent to, and some messages are lost.
    AckBeforeCopies,
    /// The context of a get covers what other copies have seen.
    ContextTooLarge,
    /// The context of a put covers siblings that its client never saw.
    PutReturnsWholeClock,
    /// A blind put supersedes what its coordinator sees.
    BlindSupersedes,
    /// A guaranteed get asks one copy.
    WeakQuorumRead,
    /// A guaranteed write is acknowledged by one copy.
    WeakQuorumWrite,
    /// A strict `SET` supersedes what its coordinator sees, and no more.
    StrictSetAsksNobody,
    /// Reads write back, as clients are told; but they do not.
    ReadsDoNotWriteBack,
    /// A refused write is carried out.
    RefusedIsStored,
    /// A copy whose disk was wiped answers before it has asked the others.
    WipedCopyVotes,
    /// A disk is wiped against the word of the atlas.
    WipedLastCopy,
    /// A copy whose disk was wiped issues its dots again.
    DotsAgain,
}

impl Breach {
    pub(super) const ALL: [Self; 18] = [
        Self::JoinDropsConcurrent,
        Self::JoinTakesClockAlone,
        Self::SupersededReturns,
        Self::StaleRepairWins,
        Self::DeleteWithoutTombstone,
        Self::ReapedAlone,
        Self::AckBeforeCopies,
        Self::ContextTooLarge,
        Self::PutReturnsWholeClock,
        Self::BlindSupersedes,
        Self::WeakQuorumRead,
        Self::WeakQuorumWrite,
        Self::StrictSetAsksNobody,
        Self::ReadsDoNotWriteBack,
        Self::RefusedIsStored,
        Self::WipedCopyVotes,
        Self::WipedLastCopy,
        Self::DotsAgain,
    ];
}

/// What happened in a run, so that a test can demand that enough did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) operations: u64,
    pub(super) acked: u64,
    pub(super) unknown: u64,
    pub(super) siblings: u64,
    pub(super) wipes: u64,
    pub(super) excused: u64,
    pub(super) reaped: u64,
    /// Acknowledged writes that nothing at the end has truly seen.
    pub(super) lost: u64,
    /// Those of them that are values which stay, where siblings do.
    pub(super) lost_values: u64,
}

impl Facts {
    pub(super) fn add(&mut self, more: Self) {
        self.operations += more.operations;
        self.acked += more.acked;
        self.unknown += more.unknown;
        self.siblings += more.siblings;
        self.wipes += more.wipes;
        self.excused += more.excused;
        self.reaped += more.reaped;
        self.lost += more.lost;
        self.lost_values += more.lost_values;
    }
}

/// Runs a seed: until the oracle refuses what it is told, or to the end.
pub(super) fn run(seed: u64, breach: Option<Breach>) -> Result<Facts, Violation> {
    let mut cluster = Cluster::new(seed, breach);
    for _ in 0..cluster.steps {
        cluster.step()?;
    }
    cluster.finish()
}

const COPIES: usize = 3;
const QUORUM: usize = 2;
const CLIENTS: usize = 4;

type Set = BTreeSet<u32>;

/// Siblings, and all that was ever superseded by them, with themselves.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Object {
    seen: Set,
    siblings: Set,
}

#[derive(Clone, Debug)]
struct Copy {
    object: Object,
    clock: u64,
    life: u64,
    counter: u64,
}

/// A write that was carried out.
#[derive(Clone, Debug)]
struct Done {
    /// The write whose value it has.
    value: Option<u32>,
    clock: (u64, u32),
    dot: (u64, u64, u64),
}

#[derive(Clone, Debug)]
struct Message {
    to: usize,
    object: Object,
    put: Option<u32>,
    overwrites: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum What {
    Value,
    Expiring,
    Tombstone,
    Touch,
}

#[derive(Clone, Debug)]
struct Put {
    event: EventId,
    /// Who waits for it.
    client: Option<usize>,
    at: usize,
    what: What,
    cause: Cause,
    /// What the client's context had truly seen.
    context: Set,
    guaranteed: bool,
    asked: BTreeSet<usize>,
    found: Object,
    /// What the context that it returns has seen.
    returns: Option<Set>,
    acks: BTreeSet<usize>,
}

#[derive(Clone, Debug)]
struct Get {
    client: usize,
    guaranteed: bool,
    shows: Shows,
    wants: usize,
    read: BTreeMap<usize, Object>,
    found: Object,
    written_back: BTreeSet<usize>,
}

struct Cluster {
    rng: Rng,
    breach: Option<Breach>,
    conflict: Conflict,
    rules: Rules,
    oracle: Oracle,
    atlas: Atlas,
    dots: Dots,
    copies: Vec<Copy>,
    done: BTreeMap<u32, Done>,
    expiring: Set,
    expired: Set,
    messages: Vec<Message>,
    puts: BTreeMap<u32, Put>,
    gets: BTreeMap<GetId, Get>,
    tokens: Vec<(TokenId, Set)>,
    idle: BTreeSet<usize>,
    steps: u64,
    /// Which kinds of writes there are, out of ten each.
    odds: Odds,
    /// All that was forgotten with a tombstone.
    forgotten: Set,
    facts: Facts,
}

/// Each seed has its own mixture, so that what one kind would excuse is missed in another.
struct Odds {
    plain: u64,
    blind: u64,
    touches: u64,
    deletes: u64,
    wipes: u64,
    losses: u64,
    guaranteed: u64,
}

impl Cluster {
    fn new(seed: u64, breach: Option<Breach>) -> Self {
        let mut rng = Rng::from_seed(seed);
        let conflict = if rng.chance(1, 6) { Conflict::LastWriterWins } else { Conflict::Siblings };
        let must_write_back = breach == Some(Breach::ReadsDoNotWriteBack);
        let rules = Rules { reads_write_back: rng.chance(1, 3) || must_write_back };
        let some = |rng: &mut Rng, most: u64| rng.between(0, 1) * rng.between(1, most);
        let odds = Odds {
            plain: some(&mut rng, 10),
            blind: some(&mut rng, 6),
            touches: some(&mut rng, 2),
            deletes: *rng.pick(&[0, 0, 2, 5]),
            wipes: some(&mut rng, 10),
            losses: some(&mut rng, 6),
            guaranteed: *rng.pick(&[0, 5, 10]),
        };
        let empty = |clock| Copy { object: Object::default(), clock, life: clock % 2, counter: 0 };
        Self {
            breach,
            conflict,
            rules,
            oracle: Oracle::new(&[conflict], rules),
            atlas: Atlas::new(COPIES, 1),
            dots: Dots::default(),
            copies: (0..COPIES).map(|_| empty(rng.below(20))).collect(),
            done: BTreeMap::new(),
            expiring: Set::new(),
            expired: Set::new(),
            messages: Vec::new(),
            puts: BTreeMap::new(),
            gets: BTreeMap::new(),
            tokens: Vec::new(),
            idle: (0..CLIENTS).collect(),
            steps: rng.between(30, 400) * if rng.chance(1, 30) { 10 } else { 1 },
            odds,
            forgotten: Set::new(),
            facts: Facts::default(),
            rng,
        }
    }

    fn is(&self, breach: Breach) -> bool {
        self.breach == Some(breach)
    }

    fn step(&mut self) -> Result<(), Violation> {
        if self.is(Breach::ReapedAlone) && self.rng.chance(1, 3) {
            self.reap(); // rare otherwise, and harmless most of the time
        }
        match self.rng.below(20) {
            0..4 => self.begin(),
            4..9 => self.advance_a_put()?,
            9..13 => self.advance_a_get()?,
            13..16 => self.deliver_one()?,
            16 => self.lose_or_repeat_one(),
            17 => self.compare_two()?,
            18 => self.expire_or_reap()?,
            _ => self.harm()?,
        }
        Ok(())
    }

    fn begin(&mut self) {
        let idle: Vec<usize> = self.idle.iter().copied().collect();
        if idle.is_empty() {
            return;
        }
        let client = *self.rng.pick(&idle);
        self.idle.remove(&client);
        self.facts.operations += 1;
        if self.rng.chance(1, 2) { self.begin_get(client) } else { self.begin_put(client) }
    }

    fn finish(mut self) -> Result<Facts, Violation> {
        for mut put in std::mem::take(&mut self.puts).into_values() {
            if put.client.is_some() {
                self.end_put(&mut put, Outcome::Unknown)?;
            }
            if put.returns.is_none() && !self.must_ask(&put) && self.rng.chance(1, 2) {
                self.carry_out(&mut put)?;
            }
        }
        self.spread()?;
        let mut all = Object::default();
        for copy in self.copies.clone() {
            all = self.join(&all, &copy.object);
        }
        let known = &all.seen | &self.forgotten;
        let is_lost =
            |number: &&u32| self.oracle.history(0).is_owed(**number) && !known.contains(number);
        let lost: Vec<&u32> = self.done.keys().filter(is_lost).collect();
        let stays = |number: u32| {
            let is_value = self.done[&number].value == Some(number);
            is_value && !self.expiring.contains(&number) && self.conflict == Conflict::Siblings
        };
        self.facts.lost = lost.len() as u64;
        self.facts.lost_values = lost.iter().filter(|number| stays(***number)).count() as u64;
        let values: Vec<Vec<u8>> = self.visible(&all).into_iter().map(value).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        self.oracle.final_read(0, &values)?;
        Ok(self.facts)
    }

    fn other_than(&mut self, copies: &BTreeSet<usize>) -> usize {
        let others: Vec<usize> = (0..COPIES).filter(|copy| !copies.contains(copy)).collect();
        *self.rng.pick(&others)
    }
}

fn value(number: u32) -> Vec<u8> {
    format!("v{number}").into_bytes()
}
