//! What a seed decides: the shape of the cluster, the workload, and which dangers come.
//!
//! Each seed enables another subset: see the plan of [`crate::sim::storage`].

use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::sim::disk;
use crate::sim::network;
use crate::sim::network::nemesis;
use crate::sim::pace::FAULTS_MIN;

/// The draw of one seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Tell every event and effect.
    pub aloud: bool,
    /// Operations of the workload.
    pub operations: u64,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Cores of each.
    pub shards: u16,
    /// Partitions of the ring.
    pub partitions: u16,
    /// Clients at once.
    pub clients: usize,
    /// How many keys. Few: conflicts. Many: every node has some.
    pub keys: usize,
    /// Of 100 commands, how many read.
    pub read_percent: u64,
    /// Nanoseconds between turns of a client, on average.
    pub pause_nanos: u64,
    /// Of 100 turns, before how many a client goes to another node.
    pub move_percent: u64,
    /// Of 100 events, after how many a turn ends at once.
    pub turn_percent: u64,
    /// Nanoseconds of a message between cores, at most.
    pub mesh_nanos: u64,
    /// After so long a request is answered `-TIMEOUT`.
    pub request_timeout: Duration,
    /// A node dies at one in so many turns of clients.
    pub crash_one_in: u64,
    /// Of 100 deaths, in how many the machine loses its power.
    pub power_percent: u64,
    /// Nanoseconds that a dead node stays so, on average.
    pub down_nanos: u64,
    /// A node is stopped in order at one in so many turns of clients.
    pub stop_one_in: u64,
    /// A node stands still at one in so many turns of clients.
    pub pause_one_in: u64,
    /// For how long, in nanoseconds, at most.
    pub pause_nanos_max: u64,
    /// A node's wall clock jumps at one in so many turns of clients.
    pub jump_one_in: u64,
    /// So many faults come at least.
    pub faults_min: u64,
    /// The faults of connections.
    pub network: network::Dials,
    /// What happens to the ways between machines.
    pub nemesis: nemesis::Settings,
    /// The disks' faults.
    pub disk: disk::Dials,
}

impl Plan {
    /// The draw of a seed.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut plan = Self::calm(rng);
        plan.faults_min = FAULTS_MIN;
        plan.crash_one_in = rng.between(80, 600);
        plan.power_percent = *rng.pick(&[0, 50, 100]);
        plan.down_nanos = *rng.pick(&[10_000_000, 500_000_000, 5_000_000_000]);
        plan.network = network::Dials::draw(rng);
        plan.nemesis = nemesis::Settings::draw(rng);
        if rng.chance(1, 2) {
            plan.stop_one_in = rng.between(200, 800);
        }
        if rng.chance(1, 2) {
            plan.pause_one_in = rng.between(100, 500);
            plan.pause_nanos_max = *rng.pick(&[50_000_000, 2_000_000_000, 10_000_000_000]);
        }
        if rng.chance(1, 2) {
            plan.jump_one_in = rng.between(50, 300);
        }
        if rng.chance(1, 3) {
            plan.disk.slow_one_in = rng.between(20, 200);
        }
        plan
    }

    /// A draw in which nothing goes wrong.
    pub fn calm(rng: &mut Rng) -> Self {
        // Mostly few: what many nodes can do wrong, five can. Large ones show that they can be.
        let is_large = rng.chance(1, 40);
        let nodes = if is_large { rng.between(10, 50) } else { rng.between(3, 7) };
        let plan = Self {
            aloud: false,
            operations: 2_200,
            nodes: nodes as usize,
            shards: rng.between(1, 3) as u16,
            partitions: *rng.pick(&[16, 64]),
            clients: rng.between(2, 8) as usize,
            keys: *rng.pick(&[3, 10, 40]),
            read_percent: *rng.pick(&[20, 40, 60]),
            pause_nanos: *rng.pick(&[200_000, 2_000_000, 20_000_000]),
            move_percent: *rng.pick(&[0, 5, 50]),
            turn_percent: *rng.pick(&[10, 50, 100]),
            mesh_nanos: *rng.pick(&[1_000, 20_000, 200_000]),
            request_timeout: Duration::from_millis(*rng.pick(&[300, 1000, 5000])),
            crash_one_in: 0,
            power_percent: 0,
            down_nanos: 0,
            stop_one_in: 0,
            pause_one_in: 0,
            pause_nanos_max: 0,
            jump_one_in: 0,
            faults_min: 0,
            network: network::Dials::default(),
            nemesis: nemesis::Settings::default(),
            disk: disk::Dials {
                resident_percent: *rng.pick(&[0, 95, 100]),
                ..disk::Dials::default()
            },
        };
        // Of many nodes each asks each other whether it is there: such a run must be short.
        if is_large { Self { shards: 1, clients: 8, pause_nanos: 200_000, ..plan } } else { plan }
    }
}
