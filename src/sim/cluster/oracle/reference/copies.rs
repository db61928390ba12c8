//! The copies of the reference cluster: how they join, and what befalls them.

use super::Breach;
use super::COPIES;
use super::Cluster;
use super::Object;
use super::Set;
use crate::sim::cluster::oracle::Conflict;
use crate::sim::cluster::oracle::EventId;
use crate::sim::cluster::oracle::GetEnd;
use crate::sim::cluster::oracle::verdict::Violation;

impl Cluster {
    pub(super) fn deliver_one(&mut self) -> Result<(), Violation> {
        if self.messages.is_empty() {
            return Ok(());
        }
        let index = self.rng.below(self.messages.len() as u64) as usize;
        let message = self.messages.swap_remove(index);
        if message.overwrites {
            self.copies[message.to].object = message.object;
        } else {
            self.receive(message.to, &message.object)?;
        }
        if let Some(put) = message.put.and_then(|put| self.puts.get_mut(&put)) {
            put.acks.insert(message.to);
        }
        Ok(())
    }

    pub(super) fn lose_or_repeat_one(&mut self) {
        if self.messages.is_empty() {
            return;
        }
        let index = self.rng.below(self.messages.len() as u64) as usize;
        if self.rng.chance(1, 2) {
            self.messages.swap_remove(index);
        } else {
            self.messages.push(self.messages[index].clone());
        }
    }

    pub(super) fn compare_two(&mut self) -> Result<(), Violation> {
        let from = self.rng.below(COPIES as u64) as usize;
        let to = (from + self.rng.between(1, 2) as usize) % COPIES;
        let object = self.copies[from].object.clone();
        self.receive(to, &object)
    }

    pub(super) fn expire_or_reap(&mut self) -> Result<(), Violation> {
        match self.rng.below(12) {
            0..4 => {
                let expiring: Vec<u32> = self.expiring.iter().copied().collect();
                self.expired.extend(expiring.last().map(|_| *self.rng.pick(&expiring)));
            }
            4..6 => {
                self.spread()?;
                self.reap();
            }
            _ => self.reap(),
        }
        Ok(())
    }

    /// Everything reaches everybody, and whoever reads gives up.
    pub(super) fn spread(&mut self) -> Result<(), Violation> {
        for (id, get) in std::mem::take(&mut self.gets) {
            self.oracle.end_get(id, GetEnd::Unknown)?;
            self.idle.insert(get.client);
        }
        while !self.messages.is_empty() {
            if self.rng.chance(1, 2) { self.deliver_one()? } else { self.lose_or_repeat_one() }
        }
        for (from, to) in [(0, 1), (1, 2), (2, 0), (0, 1)] {
            let object = self.copies[from].object.clone();
            self.receive(to, &object)?;
        }
        Ok(())
    }

    /// A tombstone is forgotten if all have it and nothing older is under way.
    pub(super) fn reap(&mut self) {
        let first = self.copies[0].object.clone();
        let is_agreed = self.copies.iter().all(|copy| copy.object == first)
            && self.messages.is_empty()
            && self.gets.is_empty()
            && self.puts.values().all(|put| put.asked.is_empty());
        if self.is_deleted(&first) && is_agreed {
            self.facts.reaped += 1;
            self.forgotten.extend(first.seen);
            self.copies.iter_mut().for_each(|copy| copy.object = Object::default());
            (0..COPIES).for_each(|node| self.atlas.gone(node, 0));
        } else if self.is(Breach::ReapedAlone) {
            let deleted = (0..COPIES).filter(|node| self.is_deleted(&self.copies[*node].object));
            for node in deleted.collect::<Vec<usize>>() {
                let object = std::mem::take(&mut self.copies[node].object);
                self.forgotten.extend(object.seen);
                self.atlas.gone(node, 0);
            }
        }
    }

    fn is_deleted(&self, object: &Object) -> bool {
        let is_tombstone = |event: &u32| self.done[event].value.is_none();
        object.siblings.len() == 1 && object.siblings.iter().all(is_tombstone)
    }

    /// A disk goes, if that is allowed or the loss is owned up to.
    pub(super) fn harm(&mut self) -> Result<(), Violation> {
        if !self.rng.chance(self.odds.wipes, 10) {
            return Ok(());
        }
        let node = self.rng.below(COPIES as u64) as usize;
        let is_allowed = self.atlas.may_wipe(&self.oracle, node);
        if !is_allowed && !self.is(Breach::WipedLastCopy) {
            if !self.rng.chance(1, 4) {
                return Ok(());
            }
            for event in self.atlas.lost_with(&self.oracle, node) {
                self.facts.excused += 1;
                self.oracle.lost_to_faults(event);
            }
        }
        self.facts.wipes += 1;
        self.atlas.wiped(node);
        let copy = &mut self.copies[node];
        copy.object = Object::default();
        copy.counter = 0;
        copy.life += if self.breach == Some(Breach::DotsAgain) { 0 } else { 1 };
        if self.is(Breach::WipedCopyVotes) {
            return Ok(());
        }
        for put in self.puts.values_mut() {
            put.acks.remove(&node);
        }
        for get in self.gets.values_mut() {
            get.written_back.remove(&node);
        }
        for other in (0..COPIES).filter(|other| *other != node) {
            let object = self.copies[other].object.clone();
            self.receive(node, &object)?;
        }
        Ok(())
    }

    pub(super) fn receive(&mut self, to: usize, object: &Object) -> Result<(), Violation> {
        let own = self.copies[to].object.clone();
        self.copies[to].object = self.join(&own, object);
        self.synced(to)
    }

    /// The atlas and the table of dots hear of all that a copy holds.
    pub(super) fn synced(&mut self, node: usize) -> Result<(), Violation> {
        for number in &self.copies[node].object.siblings {
            self.atlas.synced(EventId { key: 0, number: *number }, node);
            self.dots.saw(0, self.done[number].dot, u128::from(*number))?;
        }
        Ok(())
    }

    pub(super) fn join(&mut self, one: &Object, other: &Object) -> Object {
        let keeps = |own: &Object, other: &Object| -> Set {
            let stays =
                |event: &&u32| other.siblings.contains(event) || !other.seen.contains(event);
            own.siblings.iter().filter(stays).copied().collect()
        };
        let mut siblings: Set = &keeps(one, other) | &keeps(other, one);
        let seen: Set = &one.seen | &other.seen;
        if self.conflict == Conflict::LastWriterWins {
            let last = siblings.iter().copied().max_by_key(|event| self.done[event].clock);
            siblings = last.into_iter().collect();
        }
        if self.is(Breach::JoinDropsConcurrent) && siblings.len() > 1 && self.rng.chance(1, 4) {
            siblings.pop_first();
        }
        if self.is(Breach::JoinTakesClockAlone) && self.rng.chance(1, 10) {
            siblings = &one.siblings & &siblings;
        }
        if self.is(Breach::SupersededReturns) && self.rng.chance(1, 10) {
            siblings = &siblings | &one.siblings;
        }
        Object { seen, siblings }
    }

    /// The values of the siblings that can be shown, the latest first.
    pub(super) fn visible(&self, object: &Object) -> Vec<u32> {
        let mut live: Vec<&u32> = object.siblings.iter().collect();
        live.retain(|sibling| !self.expired.contains(sibling));
        live.sort_by_key(|sibling| std::cmp::Reverse(self.done[sibling].clock));
        live.into_iter().filter_map(|sibling| self.done[sibling].value).collect()
    }
}
