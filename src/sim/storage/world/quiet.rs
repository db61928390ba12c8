//! The time after the faults: nothing may be lost for good, nothing may hang, nothing may grow.

use super::PATIENCE;
use super::Phase;
use super::World;
use super::client::Purpose;
use super::client::Waiter;
use crate::base::time::Duration;
use crate::sim::disk::Dials;
use crate::sim::storage::model::KeyIndex;
use crate::sim::storage::model::VALUE_BYTES_MIN;

impl World {
    pub(super) fn end_faults(&mut self) {
        self.faults_are_over = true;
        self.disk.dials =
            Dials { resident_percent: self.plan.dials.resident_percent, ..Dials::default() };
        self.phase_since = self.now;
        if self.poisoned {
            self.is_crash_due = true;
            self.restart();
        }
        self.run_until("the store runs", |world| {
            matches!(world.phase, Phase::Running) && !world.read_only
        });
    }

    /// Every key is written once more, and called durable within bounded time.
    pub(super) fn everything_is_acknowledged(&mut self) {
        for key in 0..self.plan.keys {
            self.write_surely(key, VALUE_BYTES_MIN);
        }
        self.settle();
    }

    fn settle(&mut self) {
        self.store.want_sync();
        self.store.flush(self.now, &mut self.out);
        self.after_call();
        self.run_until("everything is synced", |world| {
            // A write that waited for a read may come last: that is to be synced too.
            world.store.want_sync();
            world.model.last_sequence().is_none_or(|last| world.synced >= last)
        });
    }

    /// Overwriting few keys for long must not fill the disk.
    pub(super) fn garbage_is_reclaimed(&mut self) {
        let length = self.plan.overwrite_bytes();
        let rounds = 24 * self.settings.segment_bytes as usize / self.plan.batch_bytes as usize;
        for round in 0..rounds {
            self.write_surely(round % self.plan.keys.min(3), length);
            self.settle();
        }
        let until = self.now + Duration::from_secs(20);
        while self.now < until && (self.disk.next_at().is_some() || self.store.deadline().is_some())
        {
            self.step_quietly();
        }
        assert!(self.now < until, "the disk does not come to rest");
        if self.model.is_harmed() || !self.settings.adopted.is_empty() {
            return; // what is damaged stays where it is, and so do the files of adopted logs
        }
        let used = self.disk.used_bytes();
        let segment = u64::from(self.settings.segment_bytes);
        let live = (self.model.live_bytes() + 100 * self.plan.keys) as u64;
        let ahead = self.settings.segments_ahead as u64; // and as many old files to be used again
        let bound = 3 * live + (6 + 2 * ahead) * segment;
        assert!(used <= bound, "{used} bytes on the disk for {live} that count, {bound} may be");
    }

    pub(super) fn restart_in_order(&mut self) {
        self.enter(Phase::Stopping);
        self.store.stop(self.now, &mut self.out);
        self.after_call();
        let starts = self.starts;
        self.run_until("it stopped and started", |world| {
            world.starts > starts && matches!(world.phase, Phase::Running)
        });
    }

    fn write_surely(&mut self, key: KeyIndex, length: usize) {
        let before = self.model.last_sequence();
        self.run_until("a write is taken", |world| {
            let waits = !world.waiters.is_empty() || !world.roomless.is_empty();
            if !waits && world.model.last_sequence() == before {
                let purpose = Purpose::Write { length, tombstone: false };
                world.look_for(Waiter::new(key, purpose));
                world.store.want_sync();
                world.store.flush(world.now, &mut world.out);
                world.after_call();
            }
            world.model.last_sequence() != before
        });
    }

    fn run_until(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        let since = self.now;
        while !is_done(self) {
            assert!(self.now.since(since) < PATIENCE, "{what}: not in {PATIENCE:?}");
            self.step_quietly();
        }
    }

    /// A step in which the client does nothing.
    fn step_quietly(&mut self) {
        self.turn_at = self.now + Duration::from_millis(1);
        if matches!(self.phase, Phase::Running) && self.disk.next_at().is_none() {
            // Nothing is in flight: time passes until a deadline, or by itself.
            let deadline = self.store.deadline().unwrap_or(self.turn_at);
            self.now = self.now.max(deadline).max(self.turn_at);
            self.store.tick(self.now, &mut self.out);
            self.store.flush(self.now, &mut self.out);
            self.after_call();
            return;
        }
        self.step();
    }
}
