//! One key on several copies, and beside each copy the set of events that it has received.
//!
//! The sets are the oracle. An event's past is what its client had seen, with the pasts of that. A
//! copy must hold exactly the events of its set that are in no other one's past, and its clock must
//! cover exactly the events of its set: anything less lets an old version return, anything more
//! destroys a write that nobody has read.

use stator::base::id::ActorId;
use stator::base::time::Wall;
use stator::protocol::version::Cause;
use stator::protocol::version::Clock;
use stator::protocol::version::Conflict;
use stator::protocol::version::Content;
use stator::protocol::version::Context;
use stator::protocol::version::ContextSecret;
use stator::protocol::version::Dot;
use stator::protocol::version::DotSource;
use stator::protocol::version::HybridClock;
use stator::protocol::version::HybridTime;
use stator::protocol::version::Object;
use stator::protocol::version::Record;
use stator::protocol::version::Write;

/// A set of events, each a number below 64.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Events(u64);

impl Events {
    pub(super) fn has(self, event: usize) -> bool {
        self.0 >> event & 1 == 1
    }

    pub(super) fn with(self, event: usize) -> Self {
        Self(self.0 | 1 << event)
    }

    pub(super) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn contains(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = usize> {
        (0..64).filter(move |event| self.has(*event))
    }
}

/// The bytes of a record or an object, and the events that they stand for.
#[derive(Clone, Debug)]
pub(super) struct Bytes {
    bytes: Vec<u8>,
    events: Events,
    conflict: Conflict,
}

/// What a client holds.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) context: Context,
    pub(super) events: Events,
}

/// What the client of a put wants superseded.
#[derive(Clone, Debug)]
pub(super) enum Intent {
    Blind,
    Set,
    With(Seen),
}

#[derive(Debug)]
struct Copy {
    dots: DotSource,
    clock: HybridClock,
    /// How far this machine's wall clock is off.
    skew_millis: u64,
    current: Option<Bytes>,
    synced: Option<Bytes>,
}

#[derive(Debug)]
struct Event {
    past: Events,
    dot: Dot,
    hybrid: HybridTime,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) wall_millis: u64,
    /// The namespace's choice, for records that come into being.
    pub(super) conflict: Conflict,
    copies: Vec<Copy>,
    events: Vec<Event>,
    acknowledged: Events,
    /// Contexts of puts that are not synced anywhere yet, with their event.
    withheld: Vec<(usize, Seen)>,
    /// Contexts that clients hold.
    pub(super) contexts: Vec<Seen>,
    starts: u64,
}

const SECRET: ContextSecret = ContextSecret::new([5; 32]);

impl World {
    pub(super) fn new(copies: usize, conflict: Conflict) -> Self {
        let mut world = Self {
            wall_millis: 1_000_000,
            conflict,
            copies: Vec::new(),
            events: Vec::new(),
            acknowledged: Events::default(),
            withheld: Vec::new(),
            contexts: Vec::new(),
            starts: 0,
        };
        for _ in 0..copies {
            let dots = world.fresh_dots();
            let clock = HybridClock::default();
            world.copies.push(Copy { dots, clock, skew_millis: 0, current: None, synced: None });
        }
        world
    }

    pub(super) fn event_count(&self) -> usize {
        self.events.len()
    }

    pub(super) fn skew(&mut self, at: usize, millis: u64) {
        self.copies[at].skew_millis = millis;
    }

    /// A write of another key on the same shard.
    pub(super) fn tick(&mut self, at: usize) {
        let Copy { dots, clock, .. } = &mut self.copies[at];
        let content = Content::Tombstone;
        let write = Write { content, expiry: None, cause: Cause::Blind };
        Record::new(dots, Conflict::Siblings).put(write, dots, clock, Wall::from_millis(0));
    }

    /// Writes at a copy, in memory. The context comes out with the acknowledgement.
    pub(super) fn put(&mut self, at: usize, intent: &Intent, is_delete: bool) -> usize {
        let event = self.events.len();
        let wall = self.wall(at);
        let copy = &mut self.copies[at];
        let stored = copy.current.take();
        let value = [event as u8];
        let mut record = match &stored {
            Some(stored) => Record::decode(&stored.bytes).expect("it was encoded"),
            None => Record::new(&copy.dots, self.conflict),
        };
        let here = stored.as_ref().map_or(Events::default(), |stored| stored.events);
        let (cause, past) = match intent {
            Intent::Blind => (Cause::Blind, Events::default()),
            Intent::Set => (Cause::Seen, here),
            Intent::With(seen) => (Cause::Context(&seen.context), seen.events),
        };
        let content = if is_delete { Content::Tombstone } else { Content::Value(&value) };
        let write = Write { content, expiry: None, cause };
        let context = record.put(write, &mut copy.dots, &mut copy.clock, wall);

        let newest = record.object().siblings().iter().find(|s| !self.knows_dot(s.dot));
        let newest = newest.expect("the new version is there, under a dot never issued before");
        assert!(is_delete || newest.content == Content::Value(&value), "it is what was written");
        for before in past.iter() {
            assert!(self.events[before].hybrid < newest.hybrid, "later than what it supersedes");
        }
        self.events.push(Event { past, dot: newest.dot, hybrid: newest.hybrid });

        let events = here.union(past).with(event);
        let conflict = stored.as_ref().map_or(self.conflict, |stored| stored.conflict);
        let seen = match conflict {
            Conflict::Siblings => past.with(event),
            Conflict::Lww => events,
        };
        self.check_clock(context.seen(), seen, "a put returns what its client saw, and its own");
        let bytes = encode(&record);
        self.copies[at].current = Some(Bytes { bytes, events, conflict });
        self.withheld.push((event, Seen { context, events: seen }));
        self.check(at);
        event
    }

    /// Makes what a copy holds durable there; what was waiting for that is acknowledged.
    pub(super) fn sync(&mut self, at: usize) {
        let copy = &mut self.copies[at];
        copy.synced.clone_from(&copy.current);
        let durable = copy.synced.as_ref().map_or(Events::default(), |synced| synced.events);
        let (ready, withheld) = self.withheld.drain(..).partition(|(event, _)| durable.has(*event));
        self.withheld = withheld;
        for (event, seen) in ready {
            self.acknowledged = self.acknowledged.with(event);
            self.contexts.push(seen);
        }
    }

    /// Puts, syncs, and returns the event and the client's context.
    pub(super) fn put_acknowledged(&mut self, at: usize, intent: &Intent) -> (usize, Seen) {
        let event = self.put(at, intent, false);
        self.sync(at);
        (event, self.contexts.last().expect("it was acknowledged").clone())
    }

    /// The object of a copy, as it is shipped.
    pub(super) fn ship(&self, at: usize) -> Option<Bytes> {
        let current = self.copies[at].current.as_ref()?;
        let bytes = Record::object_bytes(&current.bytes).expect("it was encoded").to_vec();
        Some(Bytes { bytes, ..*current })
    }

    /// Joins a shipped object. Refused, and nothing changed, if its clock is too far ahead.
    pub(super) fn deliver(&mut self, message: &Bytes, to: usize) -> bool {
        let wall = self.wall(to);
        let copy = &mut self.copies[to];
        let stored = copy.current.clone();
        let object = Object::decode(&message.bytes).expect("it was encoded");
        if copy.clock.observe(wall, object.hybrid()).is_err() {
            return false;
        }
        let mut record = match &stored {
            Some(stored) => Record::decode(&stored.bytes).expect("it was encoded"),
            None => Record::new(&copy.dots, self.conflict),
        };
        let before = record.clone();
        let is_changed = record.join(&object);
        assert_eq!(is_changed, record != before, "a join tells whether it changed anything");
        let here = stored.as_ref().map_or(Events::default(), |stored| stored.events);
        let events = here.union(message.events);
        let conflict = stored.as_ref().map_or(self.conflict, |stored| stored.conflict);
        let conflict = conflict.max(message.conflict);
        copy.current = Some(Bytes { bytes: encode(&record), events, conflict });
        self.check(to);
        true
    }

    /// Ships from one copy to another at once.
    pub(super) fn copy(&mut self, from: usize, to: usize) {
        let message = self.ship(from).expect("there is something to copy");
        assert!(self.deliver(&message, to), "the clocks agree");
    }

    /// A get answered from the join of synced copies, or `None` if one of them is not synced.
    pub(super) fn get(&mut self, from: &[usize]) -> Option<Seen> {
        let mut joined = Object::default();
        let mut events = Events::default();
        let mut conflict = Conflict::default();
        for at in from {
            let copy = &self.copies[*at];
            match (&copy.current, &copy.synced) {
                (Some(current), Some(synced)) if current.bytes == synced.bytes => {
                    let object = Record::object_bytes(&current.bytes).expect("it was encoded");
                    joined.join(&Object::decode(object).expect("it was encoded"));
                    events = events.union(current.events);
                    conflict = conflict.max(current.conflict);
                }
                (None, None) => {}
                _ => return None,
            }
        }
        self.check_object(&joined, events, conflict);
        let context = joined.context();
        let mut token = Vec::new();
        context.encode_into(b"key", &SECRET, &mut token);
        assert_eq!(Context::decode(&token, b"key", &SECRET).as_ref(), Ok(&context));
        let seen = Seen { context, events };
        self.contexts.push(seen.clone());
        Some(seen)
    }

    /// Loses what was not synced; the shard starts anew.
    pub(super) fn crash(&mut self, at: usize) {
        let dots = self.fresh_dots();
        let copy = &mut self.copies[at];
        copy.current.clone_from(&copy.synced);
        copy.dots = dots;
        copy.clock = HybridClock::default();
        self.check(at);
    }

    /// Whether another copy has synced all that this one holds: a stand-in copy is delivered.
    pub(super) fn is_delivered(&self, at: usize) -> bool {
        let held = self.events_at(at).union(self.synced_events(at));
        self.others(at).any(|other| self.synced_events(other).contains(held))
    }

    /// Whether every acknowledged write outlives this copy.
    pub(super) fn is_expendable(&self, at: usize) -> bool {
        let needed = self.synced_events(at).intersection(self.acknowledged);
        let elsewhere = self
            .others(at)
            .fold(Events::default(), |events, other| events.union(self.synced_events(other)));
        elsewhere.contains(needed)
    }

    /// The record goes: delivered, moved away or quarantined. The shard runs on.
    pub(super) fn forget(&mut self, at: usize) {
        assert!(self.is_expendable(at), "the history destroys the last copy of a write");
        self.copies[at].current = None;
        self.copies[at].synced = None;
    }

    /// Replaces what a copy has on disk by what it had once, as a restored backup does, or by
    /// another's, as a copied directory does; the shard starts anew.
    pub(super) fn restore(&mut self, at: usize, backup: Option<Bytes>) {
        self.forget(at);
        self.copies[at].synced = backup;
        self.crash(at);
    }

    /// What is on a copy's disk.
    pub(super) fn backup(&self, at: usize) -> Option<Bytes> {
        self.copies[at].synced.clone()
    }

    /// The events whose versions a copy shows.
    pub(super) fn siblings(&self, at: usize) -> Vec<usize> {
        let Some(current) = &self.copies[at].current else { return Vec::new() };
        let record = Record::decode(&current.bytes).expect("it was encoded");
        self.shown(record.object())
    }

    /// The laws of a semilattice on the objects of three copies or messages.
    pub(super) fn check_laws(&self, bytes: [&Bytes; 3]) {
        let [a, b, c] = bytes.map(|bytes| Object::decode(&bytes.bytes).expect("it was encoded"));
        assert_eq!(joined(&a, &a), a, "idempotent");
        assert_eq!(joined(&a, &b), joined(&b, &a), "commutative");
        assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)), "associative");
    }

    /// Every acknowledged write is on some disk, itself or superseded by what is there.
    pub(super) fn check_acknowledged(&self) {
        let durable = (0..self.copies.len())
            .fold(Events::default(), |events, at| events.union(self.synced_events(at)));
        assert!(durable.contains(self.acknowledged), "an acknowledged write is gone");
    }

    fn check(&self, at: usize) {
        let Some(current) = &self.copies[at].current else { return };
        let record = Record::decode(&current.bytes).expect("it was encoded");
        assert_eq!(encode(&record), current.bytes, "one encoding for one record");
        self.check_object(record.object(), current.events, current.conflict);
    }

    fn check_object(&self, object: &Object<'_>, events: Events, conflict: Conflict) {
        assert_eq!(object.conflict(), conflict, "replicas obey the record");
        let expected = match conflict {
            Conflict::Siblings => self.maximal(events),
            Conflict::Lww => self.winner(events),
        };
        assert_eq!(self.shown(object), expected, "what is not superseded, and nothing else");
        self.check_clock(object.clock(), events, "a clock covers what was received");
    }

    fn check_clock(&self, clock: &Clock, events: Events, rule: &str) {
        for (number, event) in self.events.iter().enumerate() {
            assert_eq!(clock.covers(event.dot), events.has(number), "{rule}: event {number}");
        }
    }

    fn maximal(&self, events: Events) -> Vec<usize> {
        let superseded = events
            .iter()
            .fold(Events::default(), |past, event| past.union(self.events[event].past));
        events.iter().filter(|event| !superseded.has(*event)).collect()
    }

    fn winner(&self, events: Events) -> Vec<usize> {
        let rank = |event: &usize| (self.events[*event].hybrid, self.events[*event].dot);
        events.iter().max_by_key(rank).into_iter().collect()
    }

    fn shown(&self, object: &Object<'_>) -> Vec<usize> {
        let mut shown: Vec<usize> = Vec::new();
        for sibling in object.siblings() {
            let event = self.events.iter().position(|event| event.dot == sibling.dot);
            let event = event.expect("no version without a write");
            if let Content::Value(value) = sibling.content {
                assert_eq!(value, [event as u8], "a version keeps its value");
            }
            shown.push(event);
        }
        shown.sort_unstable();
        shown
    }

    fn knows_dot(&self, dot: Dot) -> bool {
        self.events.iter().any(|event| event.dot == dot)
    }

    fn events_at(&self, at: usize) -> Events {
        self.copies[at].current.as_ref().map_or(Events::default(), |current| current.events)
    }

    fn synced_events(&self, at: usize) -> Events {
        self.copies[at].synced.as_ref().map_or(Events::default(), |synced| synced.events)
    }

    fn others(&self, at: usize) -> impl Iterator<Item = usize> {
        (0..self.copies.len()).filter(move |other| *other != at)
    }

    fn wall(&self, at: usize) -> Wall {
        Wall::from_millis(self.wall_millis + self.copies[at].skew_millis)
    }

    fn fresh_dots(&mut self) -> DotSource {
        self.starts += 1;
        // Not in the order of starts, so that lives sort in other orders than they began.
        DotSource::new(ActorId::new(self.starts.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }
}

fn joined<'a>(left: &Object<'a>, right: &Object<'a>) -> Object<'a> {
    let mut joined = left.clone();
    joined.join(right);
    joined
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode_into(&mut bytes);
    assert_eq!(bytes.len(), record.encoded_len(), "the length is known before");
    check_equal(record, &Record::decode(&bytes).expect("it was encoded"));
    bytes
}

fn check_equal(left: &Record<'_>, right: &Record<'_>) {
    assert_eq!(left.own(), right.own(), "what was encoded comes back");
    assert_eq!(left.object().clock(), right.object().clock());
    assert_eq!(left.object().siblings(), right.object().siblings());
    assert_eq!(left.object().conflict(), right.object().conflict());
}
