//! Gets of the reference cluster: what is read, answered and repaired.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Breach;
use super::COPIES;
use super::Cluster;
use super::Get;
use super::Message;
use super::Object;
use super::QUORUM;
use super::value;
use crate::sim::cluster::oracle::GetEnd;
use crate::sim::cluster::oracle::GetId;
use crate::sim::cluster::oracle::Shows;
use crate::sim::cluster::oracle::verdict::Violation;

impl Cluster {
    pub(super) fn begin_get(&mut self, client: usize) {
        let id = self.oracle.begin_get(0, client as u32);
        let guaranteed = self.rng.chance(self.odds.guaranteed, 10);
        let shows = if self.rng.chance(1, 4) { Shows::Latest } else { Shows::All };
        let is_weak = !guaranteed || self.is(Breach::WeakQuorumRead);
        let wants = if is_weak { 1 } else { QUORUM };
        let (read, found, written_back) = (BTreeMap::new(), Object::default(), BTreeSet::new());
        self.gets.insert(id, Get { client, guaranteed, shows, wants, read, found, written_back });
    }

    pub(super) fn advance_a_get(&mut self) -> Result<(), Violation> {
        let ids: Vec<GetId> = self.gets.keys().copied().collect();
        if ids.is_empty() {
            return Ok(());
        }
        let id = *self.rng.pick(&ids);
        let mut get = self.gets.remove(&id).expect("it was there");
        let writes_back = self.rules.reads_write_back && !self.is(Breach::ReadsDoNotWriteBack);
        if self.rng.chance(1, 25) {
            let end = if self.rng.chance(1, 2) { GetEnd::Refused } else { GetEnd::Unknown };
            self.oracle.end_get(id, end)?;
            self.idle.insert(get.client);
        } else if get.read.len() < get.wants {
            let from = self.other_than(&get.read.keys().copied().collect());
            let object = self.copies[from].object.clone();
            get.found = self.join(&get.found, &object);
            get.read.insert(from, object);
            self.gets.insert(id, get);
        } else if writes_back && get.guaranteed && get.written_back.len() < QUORUM {
            let to = self.other_than(&get.written_back);
            get.written_back.insert(to);
            self.receive(to, &get.found)?;
            self.gets.insert(id, get);
        } else {
            self.answer(id, get)?;
        }
        Ok(())
    }

    fn answer(&mut self, id: GetId, get: Get) -> Result<(), Violation> {
        let mut shown = self.visible(&get.found);
        self.facts.siblings += u64::from(shown.len() > 1);
        if get.shows == Shows::Latest {
            shown.truncate(1);
        }
        let values: Vec<Vec<u8>> = shown.into_iter().map(value).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let Get { guaranteed, shows, .. } = get;
        let end = GetEnd::Answered { values: &values, shows, guaranteed };
        let token = self.oracle.end_get(id, end)?;
        let mut seen = get.found.seen.clone();
        if self.is(Breach::ContextTooLarge) {
            self.copies.iter().for_each(|copy| seen.extend(&copy.object.seen));
        }
        self.tokens.extend(token.map(|token| (token, seen)));
        self.idle.insert(get.client);
        self.repair(&get);
        Ok(())
    }

    /// Sends what was answered to those who were read.
    fn repair(&mut self, get: &Get) {
        let overwrites = self.is(Breach::StaleRepairWins);
        for (to, object) in &get.read {
            let object = if overwrites { object } else { &get.found }.clone();
            let to = if overwrites { (to + 1) % COPIES } else { *to };
            self.messages.push(Message { to, object, put: None, overwrites });
        }
    }
}
