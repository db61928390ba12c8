//! What a seed decides: the shape of the node, the workload, and which dangers come.
//!
//! Each seed enables another subset: see the plan of [`crate::sim::storage`].

use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::sim::disk::Dials;
use crate::sim::pace::FAULTS_MIN;

/// The draw of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tell every event and effect.
    pub aloud: bool,
    /// Commands of the workload, of single keys.
    pub operations: u64,
    /// Cores of the node.
    pub shards: u16,
    /// Clients at once.
    pub clients: usize,
    /// How many keys. Few: conflicts. Many: live data.
    pub keys: usize,
    /// Most commands in a pipeline.
    pub pipeline: u64,
    /// Of 100 commands, how many read.
    pub read_percent: u64,
    /// Of 100 commands, how many set an expiry.
    pub expiry_percent: u64,
    /// Of 100 commands, how many are of the node: scans and counts.
    pub node_percent: u64,
    /// Of 100 turns of a client, how many are trouble: half-closes, disconnects, no reading.
    pub rude_percent: u64,
    /// Nanoseconds between turns of a client, on average.
    pub pause_nanos: u64,
    /// Of 100 events, after how many a turn ends at once.
    pub turn_percent: u64,
    /// Nanoseconds of a message between cores, at most.
    pub mesh_nanos: u64,
    /// The longest value that the node takes.
    pub value_bytes_max: u64,
    /// Of 100 values, how many are of that length; the others are short.
    pub big_percent: u64,
    /// Most versions of a key.
    pub siblings_max: usize,
    /// Bytes that a core may hold for clients.
    pub memory_bytes_max: usize,
    /// After so long a request is answered `-TIMEOUT`.
    pub request_timeout: Duration,
    /// The interval of buffered namespaces.
    pub interval: Duration,
    /// Its bound in objects.
    pub interval_objects: Option<u64>,
    /// Of each log, as in the plan of a store.
    pub segment_bytes: u32,
    /// See there.
    pub batch_bytes: u32,
    /// See there.
    pub batches_in_flight_max: usize,
    /// See there.
    pub checkpoint_after: Duration,
    /// See there.
    pub resident_bytes_max: u64,
    /// See there.
    pub garbage_percent: u8,
    /// A crash comes before one in so many effects.
    pub crash_one_in: u64,
    /// Of 100 crashes, how many leave the machine running.
    pub kill_percent: u64,
    /// A stop in order comes at one in so many turns of clients.
    pub stop_one_in: u64,
    /// Of 100 starts, before how many the disk is harmed.
    pub harm_percent: u64,
    /// The wall clock jumps at one in so many turns of clients.
    pub jump_one_in: u64,
    /// The disk stalls for a while at one in so many turns of clients.
    pub stall_one_in: u64,
    /// How many bytes beyond the present ones fit when the quota bites.
    pub quota_slack_bytes: Option<u64>,
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
        plan.crash_one_in = rng.between(300, 1500);
        plan.kill_percent = *rng.pick(&[0, 20, 50]);
        if rng.chance(1, 2) {
            plan.stop_one_in = rng.between(100, 400);
        }
        if rng.chance(1, 4) {
            plan.harm_percent = rng.between(10, 60);
        }
        if rng.chance(1, 4) {
            plan.jump_one_in = rng.between(30, 200);
        }
        if rng.chance(1, 5) {
            plan.stall_one_in = rng.between(100, 400);
            plan.request_timeout = Duration::from_millis(*rng.pick(&[120, 250, 1000]));
        }
        if rng.chance(1, 5) {
            let beyond = rng.below(4 * u64::from(plan.segment_bytes));
            plan.quota_slack_bytes = Some(beyond);
        }
        if rng.chance(1, 2) {
            plan.rude_percent = rng.between(1, 10);
        }
        if rng.chance(1, 6) {
            // So few clients make a core hold little: with more than this it never refuses a write.
            plan.memory_bytes_max = *rng.pick(&[1_500, 4_000, 12_000]);
        }
        plan.draw_disk_faults(rng);
        plan
    }

    /// A draw in which nothing goes wrong.
    pub fn calm(rng: &mut Rng) -> Self {
        let batch_bytes = 4096 * rng.between(1, 4) as u32;
        Self {
            aloud: false,
            operations: 2_400,
            shards: rng.between(1, 3) as u16,
            clients: rng.between(2, 6) as usize,
            keys: *rng.pick(&[1, 3, 10, 10, 40, 120]),
            pipeline: *rng.pick(&[1, 3, 12]),
            read_percent: *rng.pick(&[20, 40, 60]),
            expiry_percent: *rng.pick(&[0, 10, 40]),
            node_percent: *rng.pick(&[0, 2, 10]),
            rude_percent: 0,
            pause_nanos: *rng.pick(&[5_000, 50_000, 500_000]),
            turn_percent: *rng.pick(&[10, 50, 100]),
            mesh_nanos: *rng.pick(&[1_000, 20_000, 200_000]),
            value_bytes_max: *rng.pick(&[300, 800, 1500]),
            big_percent: *rng.pick(&[2, 20, 90]),
            siblings_max: *rng.pick(&[3, 100, 100]),
            memory_bytes_max: 1 << 26,
            request_timeout: Duration::from_secs(5),
            interval: Duration::from_micros(*rng.pick(&[200, 5_000, 50_000])),
            interval_objects: *rng.pick(&[None, Some(3), Some(50)]),
            segment_bytes: 32768 << rng.below(3),
            batch_bytes,
            batches_in_flight_max: rng.between(1, 4) as usize,
            checkpoint_after: Duration::from_micros(*rng.pick(&[300, 20_000])),
            resident_bytes_max: *rng.pick(&[0, 40_000, 200_000, 10_000_000]),
            garbage_percent: *rng.pick(&[20, 40, 60]),
            crash_one_in: 0,
            kill_percent: 0,
            stop_one_in: 0,
            harm_percent: 0,
            jump_one_in: 0,
            stall_one_in: 0,
            quota_slack_bytes: None,
            faults_min: 0,
            dials: Dials { resident_percent: *rng.pick(&[0, 50, 95, 100]), ..Dials::default() },
        }
    }

    /// Whether the disk is never late by more than its usual latency, and never fails.
    pub fn is_disk_sound(&self) -> bool {
        let dials = &self.dials;
        let failures = [dials.append_failure_one_in, dials.bulk_failure_one_in, dials.slow_one_in];
        failures == [0; 3] && self.stall_one_in == 0 && self.quota_slack_bytes.is_none()
    }

    fn draw_disk_faults(&mut self, rng: &mut Rng) {
        if rng.chance(1, 5) {
            self.dials.append_failure_one_in = rng.between(50, 600);
        }
        if rng.chance(1, 5) {
            self.dials.read_failure_one_in = rng.between(50, 1000);
        }
        if rng.chance(1, 5) {
            self.dials.bulk_failure_one_in = rng.between(50, 1000);
        }
        if rng.chance(1, 4) {
            self.dials.slow_one_in = rng.between(20, 200);
        }
    }
}
