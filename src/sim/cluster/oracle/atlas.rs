//! Which disks hold what was acknowledged: so that faults leave one copy, and a loss is a bug.
//!
//! A node that has ever stored an event holds either that or what has superseded it, until its disk
//! or its record goes: both are as good. So a copy of whatever has surely seen an event counts for
//! it, also where the event itself never was.

use super::EventId;
use super::KeyIndex;
use super::Oracle;
use crate::sim::events::Events;

/// Names a node, by its disk.
pub type NodeIndex = usize;

/// The events that each node has synced, of each key.
#[derive(Clone, Debug)]
pub struct Atlas {
    nodes: Vec<Vec<Events>>,
}

impl Atlas {
    /// Empty disks.
    pub fn new(nodes: usize, keys: usize) -> Self {
        Self { nodes: vec![vec![Events::default(); keys]; nodes] }
    }

    /// Another node, with an empty disk.
    pub fn add_node(&mut self) -> NodeIndex {
        let keys = self.nodes.first().map_or(0, Vec::len);
        self.nodes.push(vec![Events::default(); keys]);
        self.nodes.len() - 1
    }

    /// The node has synced this event, as itself or within an object that has superseded it.
    pub fn synced(&mut self, event: EventId, node: NodeIndex) {
        self.nodes[node][event.key].insert(event.number);
    }

    /// What the node held of the key is gone: damaged, dropped, or handed over.
    pub fn gone(&mut self, node: NodeIndex, key: KeyIndex) {
        self.nodes[node][key] = Events::default();
    }

    /// All that the node held is gone.
    pub fn wiped(&mut self, node: NodeIndex) {
        self.nodes[node].fill(Events::default());
    }

    /// Whether nothing loses its last copy with this disk.
    pub fn may_wipe(&self, oracle: &Oracle, node: NodeIndex) -> bool {
        (0..oracle.key_count()).all(|key| self.may_damage(oracle, node, key))
    }

    /// Whether nothing loses its last copy with this record.
    pub fn may_damage(&self, oracle: &Oracle, node: NodeIndex, key: KeyIndex) -> bool {
        self.last_copies(oracle, node, key).is_empty()
    }

    /// What would be lost with this disk: to be told to [`Oracle::lost_to_faults`] if it goes.
    pub fn lost_with(&self, oracle: &Oracle, node: NodeIndex) -> Vec<EventId> {
        let keys = 0..oracle.key_count();
        keys.flat_map(|key| self.lost_with_record(oracle, node, key)).collect()
    }

    /// What would be lost with this record.
    pub fn lost_with_record(
        &self,
        oracle: &Oracle,
        node: NodeIndex,
        key: KeyIndex,
    ) -> Vec<EventId> {
        let lost = self.last_copies(oracle, node, key);
        lost.iter().map(|number| EventId { key, number }).collect()
    }

    /// What was acknowledged, or may be yet, and is nowhere but here. A write under way counts: the
    /// acknowledgement of this copy may be on its way.
    fn last_copies(&self, oracle: &Oracle, node: NodeIndex, key: KeyIndex) -> Events {
        let mut last = self.held(oracle, node, key);
        for other in (0..self.nodes.len()).filter(|other| *other != node) {
            if !last.is_empty() {
                last.drop_all(&self.held(oracle, other, key));
            }
        }
        let history = oracle.history(key);
        for number in last.clone().iter().filter(|number| !history.is_owed(*number)) {
            last.remove(number);
        }
        last
    }

    /// All of which the node has a copy.
    fn held(&self, oracle: &Oracle, node: NodeIndex, key: KeyIndex) -> Events {
        let mut held = self.nodes[node][key].clone();
        for number in self.nodes[node][key].iter() {
            held.join(oracle.history(key).certainly_superseded_by(number));
        }
        held
    }
}
