//! What the client does with the store, and what it does between: it reads, writes, waits, and
//! brings trouble.

use super::Phase;
use super::World;
use crate::base::time::Duration;
use crate::sim::coverage::Coverage;
use crate::sim::coverage::Sometimes;
use crate::sim::disk::Disk;
use crate::sim::storage::keys::Place;
use crate::sim::storage::model::Answer;
use crate::sim::storage::model::KeyIndex;
use crate::sim::storage::model::Model;
use crate::sim::storage::model::Testimony;
use crate::sim::storage::model::VALUE_BYTES_MIN;
use crate::sim::storage::plan::Waiting;
use crate::storage::Refusal;
use crate::storage::Store;
use crate::storage::Write;
use crate::storage::location::Location;
use crate::storage::reading::Fetched;
use crate::storage::record::Order;

/// Writes that wait for room, at most: with more the client only reads.
const ROOMLESS_MAX: usize = 8;

/// What a read is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    Verify,
    Read,
    Write { length: usize, tombstone: bool },
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Waiter {
    pub(super) key: KeyIndex,
    pub(super) purpose: Purpose,
    pub(super) attempts: u32,
    pub(super) waited_for_room: bool,
}

impl Waiter {
    pub(super) fn new(key: KeyIndex, purpose: Purpose) -> Self {
        Self { key, purpose, attempts: 0, waited_for_room: false }
    }
}

/// What a look at a key brought.
pub(in crate::sim::storage) enum Looked {
    /// The answer, and the place of the record that a write would replace.
    Known(Testimony, Option<Location>),
    /// This must be read first.
    Away(Location),
}

impl World {
    pub(super) fn turn(&mut self) {
        self.operations += 1;
        let pause = self.rng.below(2 * self.plan.pause_nanos + 1);
        self.turn_at = self.now + Duration::from_nanos(pause);
        self.trouble();
        if self.is_crash_due || !matches!(self.phase, Phase::Running) {
            return;
        }
        let key = self.rng.below(self.plan.keys as u64) as usize;
        let reads = self.rng.chance(self.plan.read_percent, 100);
        let purpose = if reads || self.roomless.len() >= ROOMLESS_MAX {
            Purpose::Read
        } else {
            let length = self.value_length();
            Purpose::Write { length, tombstone: self.rng.chance(self.plan.delete_percent, 100) }
        };
        self.look_for(Waiter::new(key, purpose));
        if self.rng.chance(self.plan.flush_percent, 100) {
            self.store.flush(self.now, &mut self.out);
        }
        self.after_call();
    }

    /// What goes wrong between turns.
    fn trouble(&mut self) {
        if self.faults_are_over {
            return;
        }
        let is_given_up = self.poisoned && self.rng.chance(1, 20);
        if is_given_up || self.pace.wants_crash(self.operations, self.faults()) {
            self.is_crash_due = true;
            return;
        }
        if self.is_time(self.plan.damage_one_in) {
            self.harm();
        }
        if self.is_time(self.plan.index_damage_one_in) && self.disk.damage_index(None).is_some() {
            self.faults += 1;
            self.coverage.note(Sometimes::IndexDamaged);
        }
        if let Some(slack) = self.plan.quota_slack_bytes {
            if self.disk.dials.quota_bytes == u64::MAX && self.rng.chance(1, 150) {
                self.disk.dials.quota_bytes = self.disk.used_bytes() + slack;
            } else if self.rng.chance(1, 150) {
                self.disk.dials.quota_bytes = u64::MAX;
            }
        }
        if self.is_time(self.plan.stop_one_in) && !self.poisoned {
            self.enter(Phase::Stopping);
            self.store.stop(self.now, &mut self.out);
            self.after_call();
        }
    }

    /// Several places at once, and often the index file too, so that a start must look at them.
    fn harm(&mut self) {
        for _ in 0..self.rng.between(1, 4) {
            let damages = self.disk.damage();
            if damages.is_empty() {
                return;
            }
            self.model.harmed();
            self.faults += 1;
            self.coverage.note(Sometimes::SegmentDamaged);
            for damage in damages {
                self.tell(|| format!("{damage:?}"));
                self.trace.number(u64::from(damage.range.start));
                if self.rng.chance(1, 2) && self.disk.damage_index(Some(damage.file)).is_some() {
                    self.coverage.note(Sometimes::IndexDamaged);
                }
            }
        }
    }

    fn is_time(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.rng.chance(1, one_in)
    }

    fn value_length(&mut self) -> usize {
        let max = if self.rng.chance(1, 4) { self.plan.value_bytes_max } else { 64 };
        let max = max.min(self.plan.value_bytes_max).max(VALUE_BYTES_MIN as u64);
        self.rng.between(VALUE_BYTES_MIN as u64, max) as usize
    }

    /// Looks for a key now, or asks the disk and comes back.
    pub(super) fn look_for(&mut self, waiter: Waiter) {
        let key = waiter.key;
        let mut coverage = std::mem::take(&mut self.coverage);
        let place = self.keys.place(key);
        let looked = look(&self.store, &self.disk, &self.model, key, place, &mut coverage);
        self.coverage = coverage;
        match looked {
            Looked::Away(at) => {
                self.coverage.note(Sometimes::ReadAway);
                if waiter.attempts > 0 {
                    self.coverage.note(Sometimes::MovedWhileRead);
                    assert!(waiter.attempts < 100, "key {} is for ever away", waiter.key);
                }
                let ticket = self.store.read(at, &mut self.out);
                self.waiters.entry(ticket).or_default().push(waiter);
            }
            Looked::Known(testimony, at) => {
                self.coverage.note(Sometimes::ReadHere);
                self.answered(waiter, testimony, at);
            }
        }
    }

    fn answered(&mut self, waiter: Waiter, testimony: Testimony, at: Option<Location>) {
        let (key, answer) = (waiter.key, testimony.answer);
        self.note_testimony(testimony);
        if let Phase::Verifying { testimonies } = &mut self.phase {
            testimonies[key] = Some(testimony);
            return;
        }
        self.model.judge(key, testimony);
        if self.model.is_harmed() && self.model.is_fresh(key) {
            self.coverage.note(Sometimes::Rewritten);
        }
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        if let Some(at) = at {
            self.take_care_of(key, answer, at);
        }
        if let Purpose::Write { length, tombstone } = waiter.purpose {
            let replaces = at.and_then(|at| self.find_again(key, at));
            if self.write(key, length, tombstone, replaces) {
                self.note_room(waiter);
            } else {
                self.roomless.push_back(Waiter { attempts: 0, ..waiter });
            }
        }
    }

    fn note_testimony(&mut self, testimony: Testimony) {
        assert!(!testimony.suspect || self.model.is_harmed(), "records are lost without harm");
        if testimony.answer == Answer::Damaged {
            self.coverage.note(Sometimes::FoundDamaged);
        }
        if testimony.suspect {
            self.coverage.note(Sometimes::FoundSuspect);
        }
    }

    /// What an owner does besides: bad records are marked, old tombstones are reaped.
    fn take_care_of(&mut self, key: KeyIndex, answer: Answer, at: Location) {
        let (partition, hash, _) = self.keys.place(key);
        match answer {
            Answer::Damaged if !self.model.collides() && self.rng.chance(1, 2) => {
                self.store.quarantine(partition, hash, at);
            }
            // Beside a damaged record of the same hash an older one may have stayed.
            Answer::Deleted(_) if self.model.collides() && self.model.is_harmed() => {}
            Answer::Deleted(_) if self.rng.chance(self.plan.reap_percent, 100) => {
                if !matches!(self.store.fetch(at, &self.disk), Fetched::Here(_)) {
                    return;
                }
                if self.store.reap(partition, hash, at) {
                    self.coverage.note(Sometimes::Reaped);
                }
            }
            _ => {}
        }
    }

    /// The record as it is in the keydir by now: it may have been marked or reaped.
    fn find_again(&self, key: KeyIndex, at: Location) -> Option<Location> {
        let (partition, hash, _) = self.keys.place(key);
        let found = self.store.find(partition, hash);
        found.into_iter().find(|other| *other == at || *other == at.damaged())
    }

    /// Those who had no room try again, in their order.
    pub(super) fn room_came(&mut self) {
        let mut waiting = std::mem::take(&mut self.roomless);
        while self.roomless.is_empty()
            && let Some(waiter) = waiting.pop_front()
        {
            self.look_for(Waiter { waited_for_room: true, ..waiter });
        }
        self.roomless.append(&mut waiting);
    }

    fn note_room(&mut self, waiter: Waiter) {
        if waiter.waited_for_room {
            self.coverage.note(Sometimes::RoomCame);
        }
    }

    /// False: the log has no room now.
    fn write(
        &mut self,
        key: KeyIndex,
        length: usize,
        tombstone: bool,
        replaces: Option<Location>,
    ) -> bool {
        let index = self.model.propose(key, length, tombstone);
        let mut value = std::mem::take(&mut self.scratch);
        self.model.value(index, &mut value);
        let (partition, hash, name) = self.keys.place(key);
        let write = Write { partition, hash, tombstone, key: name, value: &value, replaces };
        let result = self.store.append(self.now, write, &mut self.out);
        self.scratch = value;
        match result {
            Ok(appended) => {
                self.tell(|| format!("key {key} by operation {index}: {appended:?}"));
                assert!(!self.poisoned, "a write was taken after the log was given up");
                self.model.apply(index, appended.sequence);
                let wants = match self.plan.waiting {
                    Waiting::Always => true,
                    Waiting::Sometimes => self.rng.chance(1, 10),
                    Waiting::Never => false,
                };
                if wants {
                    self.store.want_sync();
                }
            }
            Err(Refusal::NoRoom) => {
                self.coverage.note(Sometimes::NoRoom);
                return false;
            }
            Err(Refusal::ReadOnly) => assert!(self.read_only, "read-only, and it never said so"),
            Err(Refusal::Poisoned) => assert!(self.poisoned, "given up, and it never said so"),
            Err(refusal) => panic!("{length} bytes for an open log, and it says {refusal:?}"),
        }
        true
    }
}

/// What the store says of a key, without waiting.
pub(in crate::sim::storage) fn look(
    store: &Store,
    disk: &Disk,
    model: &Model,
    key: KeyIndex,
    (partition, hash, name): Place<'_>,
    coverage: &mut Coverage,
) -> Looked {
    let candidates = store.find(partition, hash);
    if candidates.len() > 1 {
        coverage.note(Sometimes::Collision);
    }
    let (lost_upto, collides) = (store.damaged_upto(), model.collides());
    let mut known = (Answer::Absent, None, lost_upto.is_some());
    let mut newest = Order(0);
    let mut damaged = None;
    for at in candidates {
        match store.fetch(at, disk) {
            Fetched::Here(record) if record.key == name && record.header.order >= newest => {
                newest = record.header.order;
                let answer = model.recognise(key, record.value, record.header.tombstone);
                let suspect = lost_upto.is_some_and(|upto| record.header.order <= upto);
                known = (answer, Some(at), suspect);
            }
            Fetched::Here(_) => {}
            Fetched::Away => return Looked::Away(at),
            Fetched::Damaged => damaged = Some(at),
        }
    }
    let (mut answer, at, suspect) = known;
    if damaged.is_some() {
        answer = Answer::Damaged; // it may be the newest record of this key
    }
    // A damaged record of a shared hash may be that of another key: then it stays.
    let bad = damaged.filter(|_| !collides);
    Looked::Known(Testimony { answer, suspect }, at.or(bad))
}
