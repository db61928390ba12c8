//! What clients of a cluster may be told: judged from what they asked and were told, nothing else.
//!
//! There are no dots and no clocks here. A write is an event, a version supersedes the events that
//! its writer had seen, and what a client had seen follows from the answer that it was given. That
//! is known only within bounds, for an answer shows neither tombstones nor what is superseded:
//!
//! - **Certainly seen**: the values shown, and what their writers had certainly seen. If the answer
//!   came from a quorum, also each write that another quorum had acknowledged before.
//! - **Maybe seen**: the values shown, each tombstone begun by then, and what their writers may have
//!   seen. What an answer had seen and did not show, something in it had superseded. So a write that
//!   nothing in the answer can have seen was not seen either, however long it has been there.
//!
//! A check that calls something superseded takes the first bound; one that excuses an absence
//! takes the second. So no correct history is refused. What this lets pass: a loss just where a
//! plain write was under way, or a tombstone whose past is unknown: it may have superseded anything.
//!
//! - [`history`] is one key with its checks.
//! - [`atlas`] knows which disks still hold what was acknowledged, so that faults leave a copy.
//! - [`dots`] compares dots, and [`counts`] is how many operations ended in which way.
//!
//! # What is not promised
//!
//! A quorum's read that met a write under way may be followed by one that does not meet it, unless
//! reads write back before they answer ([`Rules::reads_write_back`]). Last-writer-wins drops
//! acknowledged writes: of those keys, only what was certainly superseded is wrong.

pub mod atlas;
pub mod counts;
pub mod dots;
pub mod history;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod tests;
pub mod verdict;

use std::collections::BTreeMap;

use self::counts::Counts;
use self::counts::Phase;
use self::history::Get;
use self::history::History;
use self::verdict::Rule;
use self::verdict::Violation;

/// Names a key of the run.
pub type KeyIndex = usize;

/// Names a client, as long as it promises to do one thing after the other.
pub type Session = u32;

/// The moments of a run, counted.
pub type Moment = u64;

/// Names a write.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct EventId {
    /// Of which key.
    pub key: KeyIndex,
    /// Its number among the key's, in the order in which they began.
    pub number: u32,
}

/// Names a context that a client was given.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct TokenId {
    key: KeyIndex,
    number: u32,
}

/// Names a get.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct GetId(u64);

/// What keeps all of several concurrent versions, or not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conflict {
    /// All stay, until a write that has seen them.
    Siblings,
    /// One stays.
    LastWriterWins,
}

/// What the cluster promises, of all keys.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules {
    /// A guaranteed get stores what it answers on a quorum first: then whatever it showed, later
    /// guaranteed gets have seen.
    pub reads_write_back: bool,
}

/// What is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content<'a> {
    /// A value that no other write of the run has, and that stays.
    Value(&'a [u8]),
    /// One that may be over before the run is. It is not missed; write a [`Content::Value`] if the
    /// expiry is out of reach.
    Expiring(&'a [u8]),
    /// Nothing: the key is deleted.
    Tombstone,
    /// The value that the coordinator finds, with another expiry: `EXPIRE`, `PERSIST`, `GETEX`.
    Touch,
}

/// What a write supersedes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Nothing.
    Blind,
    /// What the answer that gave this context had seen.
    Context(TokenId),
    /// Whatever its coordinator sees.
    Plain,
    /// Whatever a quorum sees that the coordinator asks first: strict mode.
    PlainStrict,
}

impl Cause {
    fn is_plain(self) -> bool {
        matches!(self, Self::Plain | Self::PlainStrict)
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Acknowledged.
    Acked {
        /// By so many primaries that each guaranteed get asks one of them.
        guaranteed: bool,
    },
    /// Answered: there was nothing to delete or to touch, and nothing was stored.
    NothingToDo,
    /// Nothing was stored.
    Refused,
    /// It may be stored, or may be yet.
    Unknown,
}

/// What a get shows of several siblings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shows {
    /// All, with a context: `DYN.GET`.
    All,
    /// The one of the latest clock, without a context: `GET`.
    Latest,
}

/// How a get ended.
#[derive(Clone, Copy, Debug)]
pub enum GetEnd<'a> {
    /// With these values.
    Answered {
        /// None, if there is none.
        values: &'a [&'a [u8]],
        /// What of several.
        shows: Shows,
        /// From so many primaries that one of them has each guaranteed write.
        guaranteed: bool,
    },
    /// Told nothing, for a reason that was given.
    Refused,
    /// Told nothing.
    Unknown,
}

/// The judge of a run.
#[derive(Debug)]
pub struct Oracle {
    histories: Vec<History>,
    /// Which event wrote these bytes.
    values: BTreeMap<Vec<u8>, EventId>,
    gets: BTreeMap<GetId, (KeyIndex, Get)>,
    gets_begun: u64,
    phases: Vec<Phase>,
    moment: Moment,
}

impl Oracle {
    /// No key was ever written.
    pub fn new(keys: &[Conflict], rules: Rules) -> Self {
        let histories = keys.iter().enumerate();
        Self {
            histories: histories
                .map(|(key, conflict)| History::new(key, *conflict, rules))
                .collect(),
            values: BTreeMap::new(),
            gets: BTreeMap::new(),
            gets_begun: 0,
            phases: vec![Phase::default()],
            moment: 0,
        }
    }

    /// A client sends a write.
    ///
    /// # Panics
    ///
    /// If the world breaks its own rules: a value twice, a context of another key, a touch that is
    /// not plain.
    pub fn begin_write(
        &mut self,
        key: KeyIndex,
        session: Session,
        content: Content<'_>,
        cause: Cause,
    ) -> EventId {
        if let Cause::Context(token) = cause {
            assert_eq!(token.key, key, "a context is of one key");
        }
        let (began, phase) = self.begin();
        self.phases[phase].writes.begun += 1;
        let number = self.histories[key].begin(session, content, cause, began, phase);
        let event = EventId { key, number };
        if let Content::Value(bytes) | Content::Expiring(bytes) = content {
            let before = self.values.insert(bytes.to_vec(), event);
            assert_eq!(before, None, "a value is written once");
        }
        event
    }

    /// A client was told how its write ended. An acknowledged one that was not plain gives a context.
    ///
    /// # Errors
    ///
    /// If a value was refused that somebody was shown.
    ///
    /// # Panics
    ///
    /// If it had ended.
    pub fn end_write(
        &mut self,
        event: EventId,
        outcome: Outcome,
    ) -> Result<Option<TokenId>, Violation> {
        let ended = self.tick();
        let history = &mut self.histories[event.key];
        let counts = &mut self.phases[history.phase_of(event.number)].writes;
        *match outcome {
            Outcome::Acked { .. } | Outcome::NothingToDo => &mut counts.acked,
            Outcome::Refused => &mut counts.refused,
            Outcome::Unknown => &mut counts.unknown,
        } += 1;
        let token = history.end(event.number, outcome, ended)?;
        Ok(token.map(|number| TokenId { key: event.key, number }))
    }

    /// A client asks.
    pub fn begin_get(&mut self, key: KeyIndex, session: Session) -> GetId {
        let (began, phase) = self.begin();
        self.phases[phase].gets.begun += 1;
        let id = GetId(self.gets_begun);
        self.gets_begun += 1;
        self.gets.insert(id, (key, Get { session, began, phase }));
        id
    }

    /// A client was answered; what it was shown is judged. If it was shown everything, it was given
    /// a context.
    ///
    /// # Errors
    ///
    /// If the answer is wrong.
    ///
    /// # Panics
    ///
    /// If it had ended.
    pub fn end_get(&mut self, id: GetId, end: GetEnd<'_>) -> Result<Option<TokenId>, Violation> {
        let ended = self.tick();
        let (key, get) = self.gets.remove(&id).expect("a get ends once");
        let counts = &mut self.phases[get.phase].gets;
        let (values, shows, guaranteed) = match end {
            GetEnd::Answered { values, shows, guaranteed } => {
                counts.acked += 1;
                (values, shows, guaranteed)
            }
            GetEnd::Refused | GetEnd::Unknown => {
                let is_refused = matches!(end, GetEnd::Refused);
                *(if is_refused { &mut counts.refused } else { &mut counts.unknown }) += 1;
                return Ok(None);
            }
        };
        let shown = self.recognise(key, values)?;
        let token = self.histories[key].judge_get(&get, &shown, shows, guaranteed, ended)?;
        Ok(token.map(|number| TokenId { key, number }))
    }

    /// All replicas were read, after everything that was stored anywhere had reached all of them.
    ///
    /// # Errors
    ///
    /// If something is lost, or is back.
    pub fn final_read(&mut self, key: KeyIndex, values: &[&[u8]]) -> Result<(), Violation> {
        let shown = self.recognise(key, values)?;
        self.histories[key].judge_final(&shown)
    }

    /// A fault that the world may cause destroyed every copy of this event, this very moment: it is
    /// not missed from now on, nor what only it is known to have superseded.
    pub fn lost_to_faults(&mut self, event: EventId) {
        self.histories[event.key].excuse(event.number);
    }

    /// What begins from here on is counted by itself.
    pub fn begin_phase(&mut self) {
        self.phases.push(Phase::default());
    }

    /// How operations ended, for each phase in which they began.
    pub fn counts(&self) -> &[Phase] {
        &self.phases
    }

    /// How writes and gets of the whole run ended.
    pub fn total(&self) -> Phase {
        let add = |sum: Counts, more: Counts| Counts {
            begun: sum.begun + more.begun,
            acked: sum.acked + more.acked,
            refused: sum.refused + more.refused,
            unknown: sum.unknown + more.unknown,
        };
        self.phases.iter().fold(Phase::default(), |sum, phase| Phase {
            writes: add(sum.writes, phase.writes),
            gets: add(sum.gets, phase.gets),
        })
    }

    /// The history of a key.
    pub fn history(&self, key: KeyIndex) -> &History {
        &self.histories[key]
    }

    /// How many keys there are.
    pub fn key_count(&self) -> usize {
        self.histories.len()
    }

    fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    fn begin(&mut self) -> (Moment, usize) {
        (self.tick(), self.phases.len() - 1)
    }

    /// I2: each value shown was written to this key, by a write that was not refused.
    fn recognise(&self, key: KeyIndex, values: &[&[u8]]) -> Result<Vec<u32>, Violation> {
        let phantom = |events: Vec<u32>, why: String| {
            Err(Violation { rule: Rule::NoPhantom, key, events, why })
        };
        let mut shown = Vec::new();
        for bytes in values {
            let text = bytes.escape_ascii();
            let Some(event) = self.values.get(*bytes) else {
                return phantom(Vec::new(), format!("\"{text}\" was answered and never written"));
            };
            if event.key != key {
                let owner = event.key;
                return phantom(Vec::new(), format!("\"{text}\" was written to key {owner}"));
            }
            if !self.histories[key].may_be_stored(event.number) {
                let text = self.histories[key].describe(event.number);
                return phantom(vec![event.number], format!("{text} was answered"));
            }
            shown.push(event.number);
        }
        shown.sort_unstable();
        Ok(shown)
    }
}
