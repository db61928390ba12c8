//! Writes of the reference cluster: from the request to the acknowledgement.

use std::collections::BTreeSet;

use super::Breach;
use super::COPIES;
use super::Cluster;
use super::Done;
use super::Message;
use super::Object;
use super::Put;
use super::QUORUM;
use super::Set;
use super::What;
use super::value;
use crate::sim::cluster::oracle::Cause;
use crate::sim::cluster::oracle::Conflict;
use crate::sim::cluster::oracle::Content;
use crate::sim::cluster::oracle::Outcome;
use crate::sim::cluster::oracle::verdict::Violation;

impl Cluster {
    pub(super) fn begin_put(&mut self, client: usize) {
        let guaranteed = self.rng.chance(self.odds.guaranteed, 10);
        let (cause, context) = self.draw_cause(guaranteed);
        let what = match self.rng.below(10) {
            draw if draw < self.odds.deletes => What::Tombstone,
            draw if draw < self.odds.deletes + self.odds.touches && cause.is_plain() => What::Touch,
            9 => What::Expiring,
            _ => What::Value,
        };
        let number = self.oracle.history(0).len() as u32;
        let bytes = value(number);
        let content = match what {
            What::Value => Content::Value(&bytes),
            What::Expiring => Content::Expiring(&bytes),
            What::Tombstone => Content::Tombstone,
            What::Touch => Content::Touch,
        };
        let event = self.oracle.begin_write(0, client as u32, content, cause);
        if matches!(what, What::Expiring | What::Touch) {
            self.expiring.insert(number);
        }
        let at = self.rng.below(COPIES as u64) as usize;
        let put = Put {
            event,
            client: Some(client),
            at,
            what,
            cause,
            context,
            guaranteed,
            asked: BTreeSet::new(),
            found: Object::default(),
            returns: None,
            acks: BTreeSet::new(),
        };
        self.puts.insert(number, put);
    }

    fn draw_cause(&mut self, guaranteed: bool) -> (Cause, Set) {
        let draw = self.rng.below(10);
        if draw < self.odds.plain {
            let is_strict = guaranteed && self.rng.chance(2, 3);
            (if is_strict { Cause::PlainStrict } else { Cause::Plain }, Set::new())
        } else if draw < self.odds.plain + self.odds.blind || self.tokens.is_empty() {
            (Cause::Blind, Set::new())
        } else {
            let last = self.tokens.len() as u64 - 1;
            let oldest = *self.rng.pick(&[0, last - last / 4, last]);
            let (token, seen) = self.tokens[self.rng.between(oldest, last) as usize].clone();
            (Cause::Context(token), seen)
        }
    }

    pub(super) fn advance_a_put(&mut self) -> Result<(), Violation> {
        let numbers: Vec<u32> = self.puts.keys().copied().collect();
        if numbers.is_empty() {
            return Ok(());
        }
        let number = *self.rng.pick(&numbers);
        let mut put = self.puts.remove(&number).expect("it was there");
        if self.advance_put(&mut put)? {
            self.puts.insert(number, put);
        }
        Ok(())
    }

    /// Whether it goes on.
    fn advance_put(&mut self, put: &mut Put) -> Result<bool, Violation> {
        if put.client.is_none() && put.returns.is_none() && self.rng.chance(1, 6) {
            return Ok(false); // its request never arrives
        }
        if put.client.is_some() && self.rng.chance(1, 15) {
            self.end_put(put, Outcome::Unknown)?;
        } else if put.returns.is_none() && put.client.is_some() && self.rng.chance(1, 15) {
            self.end_put(put, Outcome::Refused)?;
            if self.is(Breach::RefusedIsStored) {
                self.carry_out(put)?;
            }
            return Ok(false);
        } else if self.must_ask(put) {
            self.ask(put);
        } else if put.returns.is_none() {
            return self.carry_out(put);
        } else if self.is_stored(put) && put.client.is_some() {
            self.end_put(put, Outcome::Acked { guaranteed: put.guaranteed })?;
            return Ok(false);
        }
        Ok(put.client.is_some() || put.returns.is_none())
    }

    pub(super) fn must_ask(&self, put: &Put) -> bool {
        let is_asking = put.cause == Cause::PlainStrict && put.returns.is_none();
        is_asking && put.asked.len() < QUORUM && !self.is(Breach::StrictSetAsksNobody)
    }

    fn ask(&mut self, put: &mut Put) {
        let from = self.other_than(&put.asked);
        put.asked.insert(from);
        let object = self.copies[from].object.clone();
        put.found = self.join(&put.found, &object);
    }

    fn is_stored(&self, put: &Put) -> bool {
        let is_weak = !put.guaranteed || self.is(Breach::WeakQuorumWrite);
        put.acks.len() >= if is_weak { 1 } else { QUORUM }
    }

    pub(super) fn end_put(&mut self, put: &mut Put, outcome: Outcome) -> Result<(), Violation> {
        match outcome {
            Outcome::Acked { .. } => self.facts.acked += 1,
            Outcome::Unknown => self.facts.unknown += 1,
            _ => {}
        }
        if let Some(token) = self.oracle.end_write(put.event, outcome)? {
            let seen = put.returns.clone().expect("it was carried out");
            self.tokens.push((token, seen));
        }
        let client = put.client.take().expect("somebody waits for it");
        self.idle.insert(client);
        Ok(())
    }

    /// The write itself, at its coordinator. Whether it goes on.
    pub(super) fn carry_out(&mut self, put: &mut Put) -> Result<bool, Violation> {
        let (at, number) = (put.at, put.event.number);
        let mut object = self.join(&self.copies[at].object.clone(), &put.found);
        let visible = self.visible(&object);
        let value = match put.what {
            What::Value | What::Expiring => Some(number),
            What::Tombstone => None,
            What::Touch => visible.first().map(|_| *self.rng.pick(&visible)),
        };
        if put.cause.is_plain() && value.is_none() && visible.is_empty() {
            if put.client.is_some() {
                self.end_put(put, Outcome::NothingToDo)?;
            }
            return Ok(false);
        }
        let sees_all = put.cause.is_plain()
            || self.conflict == Conflict::LastWriterWins
            || (put.cause == Cause::Blind && self.is(Breach::BlindSupersedes));
        let mut past = put.context.clone();
        if sees_all {
            past.extend(&object.seen);
        }
        object.siblings.retain(|sibling| !past.contains(sibling));
        object.seen.extend(&past);
        object.seen.insert(number);
        object.siblings.insert(number);
        past.insert(number);
        if self.is(Breach::PutReturnsWholeClock) {
            past.extend(&object.seen);
        }
        put.returns = Some(past);
        self.note(at, number, value, &object)?;
        let forgets = self.is(Breach::DeleteWithoutTombstone) && value.is_none();
        if forgets {
            object = Object::default();
        }
        self.store(put, object, forgets)?;
        Ok(true)
    }

    /// What is true of a write that was carried out.
    fn note(
        &mut self,
        at: usize,
        number: u32,
        value: Option<u32>,
        object: &Object,
    ) -> Result<(), Violation> {
        let latest = object.seen.iter().filter_map(|event| self.done.get(event)).map(|d| d.clock.0);
        let copy = &mut self.copies[at];
        copy.clock = latest.fold(copy.clock, u64::max) + 1;
        copy.counter += 1;
        let dot = (at as u64, copy.life, copy.counter);
        self.done.insert(number, Done { value, clock: (copy.clock, number), dot });
        self.dots.saw(0, dot, u128::from(number))
    }

    fn store(&mut self, put: &mut Put, object: Object, overwrites: bool) -> Result<(), Violation> {
        let number = put.event.number;
        self.copies[put.at].object = object.clone();
        self.synced(put.at)?;
        put.acks.insert(put.at);
        for to in (0..COPIES).filter(|to| *to != put.at) {
            if self.is(Breach::AckBeforeCopies) {
                put.acks.insert(to);
                self.atlas.synced(put.event, to);
                if self.rng.chance(3, 4) {
                    continue;
                }
            }
            if self.rng.chance(self.odds.losses, 10) {
                continue;
            }
            let object = object.clone();
            self.messages.push(Message { to, object, put: Some(number), overwrites });
        }
        Ok(())
    }
}
