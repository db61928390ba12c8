//! What a key may hold, as explicit sets of events: no clocks, no dots.
//!
//! An event is one write. A version is superseded by a write that saw it; which events a client's
//! context saw is known from the answer that gave it. That is all there is to versions here.

use std::collections::BTreeMap;

use super::values::ValueId;
use super::values::Values;
use crate::sim::events::Events;

/// The moments of a run, counted. Each event has its own.
pub type Moment = u64;

/// Names an operation of the whole run; a writing one is an event.
pub type OperationId = u32;

/// When a value ends, in milliseconds of the wall clock.
pub type Expiry = Option<u64>;

/// What a write supersedes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Cause {
    /// Nothing.
    Blind,
    /// What the answer to this operation had seen.
    Token(OperationId),
}

/// What a plain write does to the expiry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum NewExpiry {
    /// This one.
    Is(Expiry),
    /// The one that is there.
    Keep,
}

/// A command of one key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "they are the commands of their names")]
pub enum Command {
    Get,
    StrLen,
    Exists,
    PTtl,
    PExpireTime,
    Set { value: ValueId, expiry: NewExpiry, previous: bool },
    GetDel,
    Delete,
    GetEx(Option<Expiry>),
    PExpireAt(u64),
    Persist,
    DynGet,
    DynPut { value: ValueId, expiry: Expiry, cause: Cause },
    DynDel(Cause),
}

impl Command {
    /// Whether it may write.
    pub fn writes(self) -> bool {
        use Command::*;
        !matches!(self, Get | StrLen | Exists | PTtl | PExpireTime | DynGet | GetEx(None))
    }

    /// Whether it writes whatever is there.
    pub fn always_writes(self) -> bool {
        matches!(self, Self::Set { .. } | Self::DynPut { .. } | Self::DynDel(_))
    }

    /// Whether it does not look at what is there.
    fn is_unconditional(self) -> bool {
        match self {
            Self::Set { expiry, previous, .. } => !previous && expiry != NewExpiry::Keep,
            other => other.always_writes(),
        }
    }
}

/// What a client was told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Said {
    /// `+OK`.
    Ok,
    /// A number.
    Integer(i64),
    /// A value, or none.
    Value(Option<ValueId>),
    /// The values of a `DYN.GET`, sorted, with a context.
    Siblings(Vec<ValueId>),
    /// A context.
    Context,
    /// Something that does not tell: all of it fits.
    Anything,
}

/// One version.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Version {
    event: u32,
    /// Between these it was written.
    came: Moment,
    ended: Moment,
    value: Option<ValueId>,
    expiry: Expiry,
}

impl Version {
    fn value_at(&self, wall: u64) -> Option<ValueId> {
        // As in Redis: the last millisecond is still its own.
        self.value.filter(|_| self.expiry.is_none_or(|expiry| wall <= expiry))
    }
}

/// How keys of a namespace behave.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Only the last write stays.
    pub last_writer_wins: bool,
    /// A crash may bring back what was superseded.
    pub comes_back: bool,
    /// The wall clock may jump: which of several siblings is the latest is open.
    pub any_is_latest: bool,
    /// Most versions of a key.
    pub siblings_max: usize,
}

/// When an operation ran, by the wall clock, which may have jumped meanwhile.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Walls {
    /// The earliest it can have been.
    pub low: u64,
    /// The latest.
    pub high: u64,
}

/// An operation as the state needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Its number among all.
    pub id: OperationId,
    /// Its number among those of its key.
    pub number: u32,
    /// It ran after this,
    pub came: Moment,
    /// and before this.
    pub ended: Moment,
    /// The same by the wall clock.
    pub walls: Walls,
}

/// One way that a key may be.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct State {
    /// In the order of their events' numbers, which says nothing of the order of writing.
    versions: Vec<Version>,
    /// Everything that was ever written here or seen by a writer.
    seen: Events,
    /// What the contexts saw that clients still hold.
    pub tokens: BTreeMap<OperationId, Events>,
    /// Its record cannot be read: it is as an operation meets it, never as one leaves it.
    damaged: bool,
    /// The disk was harmed since it was written.
    pub exposed: bool,
}

impl State {
    /// The same key when its record cannot be read.
    pub fn as_damaged(&self) -> Self {
        Self { versions: Vec::new(), damaged: true, exposed: false, ..self.clone() }
    }

    /// Whether a value is there, be it expired: the log counts it.
    pub fn is_counted(&self) -> bool {
        self.versions.iter().any(|version| version.value.is_some())
    }

    /// Whether a value is there and will stay; `None` if that depends on the time.
    pub fn exists(&self) -> Option<bool> {
        let mut values = self.versions.iter().filter(|version| version.value.is_some());
        if values.clone().any(|version| version.expiry.is_none()) {
            return Some(true);
        }
        if values.next().is_none() { Some(false) } else { None }
    }

    /// The states that the command may leave, of all ways to carry it out that fit what was said.
    pub fn after(
        &self,
        event: Event,
        command: Command,
        said: &Said,
        rules: Rules,
        values: &Values,
    ) -> Vec<Self> {
        let mut states = Vec::new();
        if self.damaged && !command.is_unconditional() {
            return states; // nothing but an error is right
        }
        for wall in self.moments(command, event.walls) {
            for shown in self.shown(wall, rules) {
                let way = Way { event, wall, shown, rules, values };
                let Some(mut state) = self.apply(&way, command, said) else { continue };
                if !rules.comes_back {
                    state.forget_superseded();
                }
                if !states.contains(&state) {
                    states.push(state);
                }
            }
        }
        states
    }

    /// The times at which the outcome may differ.
    fn moments(&self, command: Command, walls: Walls) -> Vec<u64> {
        let own = match command {
            Command::Set { expiry: NewExpiry::Is(expiry), .. }
            | Command::GetEx(Some(expiry))
            | Command::DynPut { expiry, .. } => expiry,
            Command::PExpireAt(at) => Some(at),
            _ => None,
        };
        let expiries = self.versions.iter().filter_map(|version| version.expiry).chain(own);
        let mut moments = vec![walls.low];
        let around = expiries.flat_map(|at| [at, at.saturating_add(1)]);
        moments.extend(around.filter(|at| (walls.low + 1..=walls.high).contains(at)));
        moments.sort_unstable();
        moments.dedup();
        moments
    }

    /// Where nothing superseded comes back, only what is there matters of what was seen.
    pub(super) fn forget_superseded(&mut self) {
        let mut there = Events::default();
        self.versions.iter().for_each(|version| there.insert(version.event));
        self.seen.meet(&there);
        self.tokens.values_mut().for_each(|token| token.meet(&there));
    }

    /// The versions that plain commands may mean: those that may have been written last.
    fn shown(&self, wall: u64, rules: Rules) -> Vec<Option<&Version>> {
        let live = || self.versions.iter().filter(|version| version.value_at(wall).is_some());
        let is_last = |version: &&Version| {
            rules.any_is_latest || live().all(|other| other.came < version.ended)
        };
        let last: Vec<_> = live().filter(is_last).map(Some).collect();
        if last.is_empty() { vec![None] } else { last }
    }

    fn apply(&self, way: &Way<'_>, command: Command, said: &Said) -> Option<Self> {
        let value = way.shown.and_then(|version| version.value);
        let fits = |wanted: &Said| *said == Said::Anything || said == wanted;
        let told = |fits: bool, state: Self| fits.then_some(state);
        let as_value = fits(&Said::Value(value));
        let number = |yes: bool| fits(&Said::Integer(i64::from(yes)));
        match command {
            Command::Get | Command::GetEx(None) => told(as_value, self.clone()),
            Command::StrLen => {
                let length = value.map_or(0, |value| way.values.length(value));
                told(fits(&Said::Integer(length as i64)), self.clone())
            }
            Command::Exists => told(number(value.is_some()), self.clone()),
            Command::PTtl => told(way.is_ttl(said), self.clone()),
            Command::PExpireTime => {
                let expiry = way.shown.map_or(-2, |v| v.expiry.map_or(-1, |at| at as i64));
                told(fits(&Said::Integer(expiry)), self.clone())
            }
            Command::Set { value: new, expiry, previous } => {
                let expiry = match expiry {
                    NewExpiry::Is(expiry) => expiry,
                    NewExpiry::Keep => way.shown.and_then(|version| version.expiry),
                };
                let is_told = if previous { as_value } else { fits(&Said::Ok) };
                told(is_told, self.replaced(way, Some(new), expiry))
            }
            Command::Delete if value.is_none() => told(number(false), self.clone()),
            Command::Delete => told(number(true), self.replaced(way, None, None)),
            Command::GetDel | Command::GetEx(_) if value.is_none() => told(as_value, self.clone()),
            Command::GetDel => told(as_value, self.replaced(way, None, None)),
            Command::GetEx(Some(expiry)) => told(as_value, self.replaced(way, value, expiry)),
            Command::PExpireAt(_) if value.is_none() => told(number(false), self.clone()),
            Command::PExpireAt(at) => told(number(true), self.replaced(way, value, Some(at))),
            Command::Persist => match way.shown {
                Some(Version { expiry: Some(_), .. }) => {
                    told(number(true), self.replaced(way, value, None))
                }
                _ => told(number(false), self.clone()),
            },
            Command::DynGet => self.answer_siblings(way, said),
            Command::DynPut { value, expiry, cause } => {
                told(fits(&Said::Context), self.put(way, Some(value), expiry, cause)?)
            }
            Command::DynDel(cause) => told(fits(&Said::Context), self.put(way, None, None, cause)?),
        }
    }

    fn answer_siblings(&self, way: &Way<'_>, said: &Said) -> Option<Self> {
        let mut values: Vec<ValueId> =
            self.versions.iter().filter_map(|version| version.value_at(way.wall)).collect();
        values.sort_unstable();
        if *said != Said::Anything && *said != Said::Siblings(values) {
            return None;
        }
        let mut state = self.clone();
        state.tokens.insert(way.event.id, self.seen.clone());
        Some(state)
    }

    /// A plain write: it has seen everything.
    fn replaced(&self, way: &Way<'_>, value: Option<ValueId>, expiry: Expiry) -> Self {
        let mut state = self.clone();
        state.versions.clear();
        state.write(way, value, expiry);
        state
    }

    /// A write that saw what its context saw, and nothing else.
    fn put(
        &self,
        way: &Way<'_>,
        value: Option<ValueId>,
        expiry: Expiry,
        cause: Cause,
    ) -> Option<Self> {
        let mut state = self.clone();
        let mut saw = match cause {
            Cause::Blind => Events::default(),
            Cause::Token(token) => self.tokens.get(&token).expect("a token is kept").clone(),
        };
        state.versions.retain(|version| !saw.has(version.event));
        state.seen.join(&saw);
        if way.rules.last_writer_wins {
            state.versions.clear();
        }
        state.write(way, value, expiry);
        let values = state.versions.iter().filter(|version| version.value.is_some()).count();
        if values > way.rules.siblings_max {
            return None;
        }
        saw.insert(way.event.number);
        let is_alone = state.versions.len() == 1;
        let token = if is_alone { state.seen.clone() } else { saw };
        state.tokens.insert(way.event.id, token);
        Some(state)
    }

    fn write(&mut self, way: &Way<'_>, value: Option<ValueId>, expiry: Expiry) {
        let is_over = expiry.is_some_and(|at| at <= way.wall);
        let value = value.filter(|_| !is_over);
        let expiry = expiry.filter(|_| value.is_some());
        (self.damaged, self.exposed) = (false, false);
        self.seen.insert(way.event.number);
        let Event { number, came, ended, .. } = way.event;
        self.versions.push(Version { event: number, came, ended, value, expiry });
        self.versions.sort_unstable_by_key(|version| version.event);
    }
}

/// One way to carry a command out: when, and what it met.
struct Way<'a> {
    event: Event,
    wall: u64,
    shown: Option<&'a Version>,
    rules: Rules,
    values: &'a Values,
}

impl Way<'_> {
    /// What is left is told for some moment in which the operation may have run.
    fn is_ttl(&self, said: &Said) -> bool {
        let Said::Integer(left) = *said else { return *said == Said::Anything };
        match self.shown {
            None => left == -2,
            Some(Version { expiry: None, .. }) => left == -1,
            Some(Version { expiry: Some(at), .. }) => {
                let read_at = *at as i64 - left;
                (self.event.walls.low as i64..=self.event.walls.high as i64).contains(&read_at)
            }
        }
    }
}
