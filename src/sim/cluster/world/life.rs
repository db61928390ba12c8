//! How nodes live: they start, stop, stand still, die, and start again.

use super::Phase;
use super::World;
use super::node;
use crate::base::time::Duration;
use crate::protocol::shard::Event;
use crate::sim::coverage::Sometimes;

impl World {
    /// A node's process begins.
    pub(super) fn start(&mut self, number: usize) {
        self.starts += 1;
        self.tell(|| format!("node {number} starts"));
        let start = self.rng.next_u64();
        let settings = node::settings(&self.plan, number, &self.preferences, start);
        self.nodes[number].start(&settings, &mut self.rng);
        self.network.up(self.now, number);
        for shard in 0..self.nodes[number].cores.len() {
            self.handle(number, shard, Event::Start);
        }
    }

    pub(super) fn on_started(&mut self, number: usize, shard: usize) {
        let node = &mut self.nodes[number];
        assert!(!node.cores[shard].started, "it started twice");
        node.cores[shard].started = true;
        if node.phase == Phase::Starting && node.cores.iter().all(|core| core.started) {
            node.phase = Phase::Running;
        }
    }

    pub(super) fn on_stopped(&mut self, number: usize, shard: usize) {
        let node = &mut self.nodes[number];
        assert_eq!(node.phase, Phase::Stopping, "it stopped and nobody had asked");
        (node.cores[shard].stopped, node.cores[shard].turn_at) = (true, None);
        self.lose_clients_of(number, Some(shard));
        if self.nodes[number].cores.iter().all(|core| core.stopped) {
            self.note(Sometimes::CleanStop);
            self.nodes[number].disk.stop();
            self.end_process(number);
            self.network.kill(self.now, number);
        }
    }

    /// The process ends, or the machine with it.
    pub(super) fn die(&mut self, number: usize) {
        self.faults += 1;
        if self.rng.chance(self.plan.power_percent, 100) {
            self.tell(|| format!("node {number} loses power"));
            self.note(Sometimes::Crash);
            self.nodes[number].disk.crash();
            self.end_process(number);
            self.network.power_off(self.now, number);
        } else {
            self.tell(|| format!("node {number} is killed"));
            self.note(Sometimes::Kill);
            self.nodes[number].disk.stop();
            self.end_process(number);
            self.network.kill(self.now, number);
        }
    }

    fn end_process(&mut self, number: usize) {
        let down = Duration::from_nanos(self.rng.below(2 * self.plan.down_nanos + 1));
        self.nodes[number].end(self.now + Duration::from_millis(1) + down);
        self.lose_clients_of(number, None);
    }

    /// What goes wrong between turns of clients.
    pub(super) fn trouble(&mut self) {
        if self.faults_are_over {
            return;
        }
        let number = self.rng.below(self.nodes.len() as u64) as usize;
        let is_due = self.is_time(self.plan.crash_one_in)
            || self.pace.wants_crash(self.operations, self.faults());
        if is_due && self.nodes[number].is_alive() {
            return self.die(number);
        }
        if self.is_time(self.plan.stop_one_in) && self.nodes[number].phase == Phase::Running {
            self.tell(|| format!("node {number} is stopped"));
            self.nodes[number].phase = Phase::Stopping;
            for shard in 0..self.nodes[number].cores.len() {
                self.handle(number, shard, Event::Stop);
                if !self.nodes[number].is_alive() {
                    return;
                }
            }
        }
        if self.is_time(self.plan.pause_one_in) && self.nodes[number].is_alive() {
            self.faults += 1;
            self.note(Sometimes::StoodStill);
            let until = self.now + Duration::from_nanos(self.rng.below(self.plan.pause_nanos_max));
            self.tell(|| format!("node {number} stands still until {}", until.as_nanos()));
            self.nodes[number].stands_until = until;
            self.network.pause(self.now, number, until);
        }
        if self.is_time(self.plan.jump_one_in) {
            self.note(Sometimes::WallJumped);
            let far = 1 << self.rng.below(22);
            self.nodes[number].jumped += self.rng.between(0, 2 * far) as i64 - far as i64;
        }
    }

    fn is_time(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.rng.chance(1, one_in)
    }
}
