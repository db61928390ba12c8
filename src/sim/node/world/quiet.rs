//! The time after the faults: everything is answered, nothing hangs, and the counts are right.

use super::PATIENCE;
use super::Phase;
use super::World;
use crate::base::time::Duration;
use crate::sim::disk::Dials;
use crate::sim::node::link::Asked;
use crate::sim::resp;
use crate::storage::Health;

/// The client that asks in the quiet time.
const ASKER: usize = 1;

impl World {
    pub(super) fn end_faults(&mut self) {
        self.faults_are_over = true;
        self.disk.dials =
            Dials { resident_percent: self.plan.dials.resident_percent, ..Dials::default() };
        self.stalled_until = None;
        self.phase_since = self.now;
        let is_poisoned = |core: &super::Core| core.shard.store().health() == Health::Poisoned;
        if self.poisoned || self.cores.iter().any(is_poisoned) {
            self.crash();
        }
        self.run_until("the node runs", |world| {
            let takes = |core: &super::Core| core.shard.store().health() == Health::Open;
            world.phase == Phase::Running && world.cores.iter().all(takes)
        });
    }

    /// Every request has its reply, and nobody waits for the disk.
    pub(super) fn everything_is_answered(&mut self) {
        for link in self.links.values_mut() {
            link.sent_at = self.now;
        }
        self.run_until("everything is answered", |world| {
            world.open.is_empty() && world.links.values().all(|link| link.requests.is_empty())
        });
        self.run_until("the disk rests", |world| {
            world.disk.next_at().is_none()
                && world.mesh.values().all(|queue| queue.is_empty())
                && world.nobody_is_parked()
        });
        self.oracle.settle();
        self.abandoned = 0;
        self.draining = false;
    }

    /// What clients that are gone left behind may wait for a segment, and have its effect later.
    pub(super) fn nobody_is_parked(&self) -> bool {
        self.cores.iter().all(|core| core.shard.waiting() == 0)
    }

    /// `DBSIZE`, the counts of slots and a walk agree with what was written.
    pub(super) fn counts_are_exact(&mut self) {
        self.nobody_waits(); // what waits is held, and a walk of a full core is refused
        let all = self.oracle.count(|_| true);
        self.ask_quietly(&[b"DBSIZE"], Asked::DbSize);
        if let Some(all) = all {
            assert_eq!(self.counted, Some(all), "keys in all");
        }
        let slots: Vec<u16> = self.keys.iter().take(8).map(|key| key.slot).collect();
        for slot in slots {
            let words = [&b"CLUSTER"[..], b"COUNTKEYSINSLOT", &slot.to_string().into_bytes()];
            self.ask_quietly(&words, Asked::CountSlot(Vec::new()));
            let keys = (0..self.keys.len()).filter(|key| self.keys[*key].slot == slot);
            let exist: Option<Vec<bool>> = keys.map(|key| self.oracle.exists(key)).collect();
            if let Some(exist) = exist {
                let count = exist.iter().filter(|exists| **exists).count() as i64;
                assert_eq!(self.counted, Some(count), "keys in slot {slot}");
            }
        }
        self.walk_quietly();
    }

    /// What clients left behind that are gone by now may wait for a segment whose preparing failed
    /// before the faults ended: not for long.
    fn nobody_waits(&mut self) {
        let since = self.now;
        self.ask_quietly(&[b"DYN.STATS"], Asked::Stats);
        while self.parked != Some(0) {
            let waited = self.now.since(since);
            assert!(waited < Duration::from_secs(1), "{:?} requests wait", self.parked);
            self.now = self.now + Duration::from_millis(10);
            self.ask_quietly(&[b"DYN.STATS"], Asked::Stats);
        }
    }

    fn walk_quietly(&mut self) {
        let walks = self.walks;
        while self.walks == walks {
            let connection = self.connect(ASKER);
            let mut bytes = Vec::new();
            let asked = self.ask_step(ASKER, &mut bytes).expect("the step before is answered");
            self.send(connection, &bytes, asked);
            self.wait();
        }
    }

    /// Every key takes a write, within bounded time.
    pub(super) fn everything_is_written_anew(&mut self) {
        for key in 0..self.keys.len() {
            self.run_until_written(key);
        }
    }

    fn run_until_written(&mut self, key: usize) {
        let since = self.now;
        while self.oracle.exists(key) != Some(true) || self.oracle.operations_of(key) == 0 {
            if self.oracle.is_undecided(key) {
                return;
            }
            assert!(
                self.now.since(since) < PATIENCE,
                "key {key} takes no write: {}",
                self.last_error
            );
            let connection = self.connect(ASKER);
            let mut bytes = Vec::new();
            let asked = self.desk().set(key, &mut bytes);
            self.send(connection, &bytes, asked);
            self.wait();
            self.now = self.now + Duration::from_millis(1);
        }
        let mut bytes = Vec::new();
        let asked = self.desk().verify(key, &mut bytes);
        let connection = self.connect(ASKER);
        self.send(connection, &bytes, asked);
        self.wait();
    }

    pub(super) fn restart_in_order(&mut self) {
        self.begin_stop();
        let starts = self.starts;
        self.run_until("it stopped and started", |world| {
            world.starts > starts && world.phase == Phase::Running
        });
        self.everything_is_answered();
    }

    fn ask_quietly(&mut self, words: &[&[u8]], asked: Asked) {
        self.counted = None;
        let connection = self.connect(ASKER);
        let mut bytes = Vec::new();
        resp::request(&mut bytes, words);
        self.send(connection, &bytes, asked);
        self.wait();
    }

    fn wait(&mut self) {
        self.run_until("an answer", |world| {
            world.links.values().all(|link| link.requests.is_empty())
        });
    }

    fn run_until(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        let since = self.now;
        while !is_done(self) {
            assert!(
                self.now.since(since) < PATIENCE,
                "{what}: not in {PATIENCE:?}; next is {:?} after {:?}, the disk at {:?}",
                self.next(),
                self.now,
                self.disk.next_at()
            );
            self.step();
        }
    }
}
