//! What a seed decides: the shape of the store, the workload, and which dangers come.
//!
//! Each seed enables another subset. A run in which everything fails at once hides what two faults
//! alone would show.

use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::sim::disk::Dials;
use crate::sim::pace::FAULTS_MIN;

/// How often callers wait for durability.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// After every write.
    Always,
    /// After some.
    Sometimes,
    /// Never: bounds and time decide.
    Never,
}

/// The draw of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tell every event and effect, for whoever wants to understand a failure.
    pub aloud: bool,
    /// Operations of the workload.
    pub operations: u64,
    /// How many keys there are. Few: overwrites. Many: live data.
    pub keys: usize,
    /// Partitions of the ring.
    pub partitions: u16,
    /// So many keys have one hash.
    pub colliding: usize,
    /// How long a segment is.
    pub segment_bytes: u32,
    /// How long a batch is.
    pub batch_bytes: u32,
    /// How many batches are in flight.
    pub batches_in_flight_max: usize,
    /// A batch of this size does not wait for the one before.
    pub eager_bytes: u32,
    /// After so long without a write the log says how far it is synced.
    pub checkpoint_after: Duration,
    /// The longest value of this run.
    pub value_bytes_max: u64,
    /// How many segments are prepared ahead.
    pub segments_ahead: usize,
    /// Memory for maps.
    pub resident_bytes_max: u64,
    /// Memory for records that were read.
    pub cache_bytes_max: usize,
    /// Compact from this share of garbage on.
    pub garbage_percent: u8,
    /// Who waits for durability.
    pub waiting: Waiting,
    /// Of 100 turns that write, how many delete.
    pub delete_percent: u64,
    /// Of 100 deleted keys that are met, how many are reaped.
    pub reap_percent: u64,
    /// Of 100 turns, how many read.
    pub read_percent: u64,
    /// Of 100 events, after how many a turn ends.
    pub flush_percent: u64,
    /// Nanoseconds between turns, on average.
    pub pause_nanos: u64,
    /// A crash comes before one in so many effects.
    pub crash_one_in: u64,
    /// Of 100 crashes, how many leave the machine running.
    pub kill_percent: u64,
    /// A crash comes this effect, and no other does.
    pub crash_at_effect: Option<u64>,
    /// A stop in order comes at one in so many turns.
    pub stop_one_in: u64,
    /// The disk is harmed at one in so many turns.
    pub damage_one_in: u64,
    /// An index file is harmed at one in so many turns.
    pub index_damage_one_in: u64,
    /// How many bytes beyond the present ones fit when the quota bites.
    pub quota_slack_bytes: Option<u64>,
    /// Of 100 starts, how many have another log and adopt those before.
    pub adopt_percent: u64,
    /// So many faults come at least.
    pub faults_min: u64,
    /// The disk's faults.
    pub dials: Dials,
}

impl Plan {
    /// The draw of a seed.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut plan = Self::calm(rng);
        plan.faults_min = FAULTS_MIN;
        if rng.chance(7, 8) {
            plan.crash_one_in = rng.between(150, 900);
            plan.kill_percent = *rng.pick(&[0, 20, 50]);
        }
        if rng.chance(1, 2) {
            plan.stop_one_in = rng.between(60, 400);
        }
        if rng.chance(1, 3) {
            plan.damage_one_in = rng.between(100, 800);
        }
        if rng.chance(1, 4) {
            plan.index_damage_one_in = rng.between(50, 400);
        }
        if rng.chance(1, 4) {
            let segments = rng.below(4);
            let beyond = rng.below(u64::from(plan.segment_bytes));
            plan.quota_slack_bytes = Some(segments * u64::from(plan.segment_bytes) + beyond);
        }
        if rng.chance(1, 5) {
            plan.adopt_percent = rng.between(10, 60);
        }
        plan.draw_disk_faults(rng);
        plan
    }

    /// The longest value of the quiet time.
    pub fn overwrite_bytes(&self) -> usize {
        self.batch_bytes as usize / 4
    }

    /// Memory for the records of keys that share a hash.
    pub fn colliding_bytes(&self) -> usize {
        let longest = self.overwrite_bytes().max(self.value_bytes_max as usize) + 256;
        if self.colliding > 1 { self.keys * longest } else { 0 }
    }

    /// A draw in which nothing goes wrong.
    pub fn calm(rng: &mut Rng) -> Self {
        let batch_bytes = 4096 * rng.between(1, 4) as u32;
        let colliding = if rng.chance(1, 3) { rng.between(2, 4) as usize } else { 1 };
        let segment_bytes: u32 = 16384 << rng.below(3);
        let longest = u64::from(batch_bytes.min(segment_bytes - 3 * 4096));
        let value_bytes_max = match rng.below(4) {
            0 => 16,
            1 => 200,
            2 => longest / 2,
            _ => longest,
        };
        Self {
            aloud: false,
            operations: 2000,
            keys: *rng.pick(&[1, 3, 12, 40, 120]),
            partitions: 1 << rng.below(5),
            colliding,
            segment_bytes,
            batch_bytes,
            batches_in_flight_max: rng.between(1, 4) as usize,
            eager_bytes: *rng.pick(&[512, 4096]),
            checkpoint_after: Duration::from_micros(*rng.pick(&[300, 20_000])),
            value_bytes_max,
            resident_bytes_max: *rng.pick(&[0, 40_000, 200_000, 10_000_000]),
            cache_bytes_max: *rng.pick(&[8192, 65536]),
            garbage_percent: *rng.pick(&[20, 40, 60]),
            waiting: *rng.pick(&[Waiting::Always, Waiting::Sometimes, Waiting::Never]),
            delete_percent: *rng.pick(&[0, 5, 30, 60]),
            reap_percent: *rng.pick(&[0, 20, 90]),
            read_percent: *rng.pick(&[10, 30, 60]),
            flush_percent: *rng.pick(&[20, 80, 100]),
            pause_nanos: *rng.pick(&[2_000, 20_000, 200_000]),
            crash_one_in: 0,
            kill_percent: 0,
            crash_at_effect: None,
            stop_one_in: 0,
            damage_one_in: 0,
            index_damage_one_in: 0,
            quota_slack_bytes: None,
            adopt_percent: 0,
            faults_min: 0,
            dials: Dials { resident_percent: *rng.pick(&[0, 50, 95, 100]), ..Dials::default() },
            segments_ahead: rng.between(1, 4) as usize,
        }
    }

    fn draw_disk_faults(&mut self, rng: &mut Rng) {
        if rng.chance(1, 4) {
            self.dials.append_failure_one_in = rng.between(50, 600);
        }
        if rng.chance(1, 4) {
            self.dials.read_failure_one_in = rng.between(50, 1000);
        }
        if rng.chance(1, 4) {
            self.dials.bulk_failure_one_in = rng.between(50, 1000);
        }
        if rng.chance(1, 3) {
            self.dials.slow_one_in = rng.between(20, 200);
        }
    }
}
