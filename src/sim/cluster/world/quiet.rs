//! The quiet time after the faults: whatever was acknowledged must be there, wherever one asks.

use super::PATIENCE;
use super::Phase;
use super::World;
use super::member_of;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::sim::cluster::oracle::Shows;
use crate::sim::network;

/// After so long nothing happens any more because of a fault: clogs are over, and so is the longest
/// patience of a connection.
const ECHOES: Duration = Duration::from_secs(10);

impl World {
    /// Nothing more goes wrong, everybody is brought back, and clients ask for nothing more.
    pub(super) fn end_faults(&mut self) {
        self.tell(|| "the faults end".to_owned());
        (self.faults_are_over, self.draining) = (true, true);
        self.nemesis.end(self.now, &mut self.network);
        let user_timeout = Duration::from_secs(2);
        self.network.dials = network::Dials { user_timeout, ..network::Dials::default() };
        for node in &mut self.nodes {
            node.disk.dials.slow_one_in = 0;
            if let Phase::Down(until) = &mut node.phase {
                *until = (*until).min(self.now + Duration::from_millis(1));
            }
        }
    }

    pub(super) fn everybody_sees_everybody(&mut self) {
        // A connection that a netsplit killed may be found dead only now.
        let over = self.now + ECHOES;
        self.run_until("what the faults left behind is over", |world| world.now >= over);
        self.run_until("everybody sees everybody", |world| {
            let nodes = world.nodes.len();
            world.nodes.iter().enumerate().all(|(number, node)| {
                node.phase == Phase::Running
                    && node.stands_until <= world.now
                    && node.cores.iter().all(|core| {
                        let peers = core.shard.peers().expect("a cluster has several members");
                        let mut others = (0..nodes).filter(|other| *other != number);
                        others.all(|other| peers.is_up(member_of(other)))
                    })
            })
        });
    }

    /// Everything that was asked is answered, and no shard holds anything for anybody.
    pub(super) fn nothing_waits(&mut self) {
        self.run_until("all are answered", |world| {
            world.clients.iter().all(|client| !client.waits())
                && world.nodes.iter().all(|node| {
                    node.cores.iter().all(|core| core.shard.waiting() == 0)
                        && node.mesh.values().all(|queue| queue.is_empty())
                })
        });
    }

    /// Each key is read, and the oracle says whether that may be.
    pub(super) fn every_key_is_judged(&mut self) {
        for key in 0..self.keys.len() {
            let node = self.rng.below(self.nodes.len() as u64) as usize;
            self.shown = None;
            self.go_to(node);
            self.ask_get(0, key, Shows::All);
            self.answered();
            let values = self.shown.take().expect("a read in peace is answered");
            let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            if let Err(violation) = self.oracle.final_read(key, &values) {
                panic!("{violation}");
            }
        }
    }

    /// Any node takes any key, and any other node shows it.
    pub(super) fn every_node_takes_every_key(&mut self) {
        for key in 0..self.keys.len().min(10) {
            for node in 0..self.nodes.len().min(5) {
                self.go_to(node);
                self.ask_set(0, key);
                self.answered();
                self.go_to((node + 1) % self.nodes.len());
                self.ask_get(0, key, Shows::Latest);
                self.answered();
            }
        }
    }

    fn go_to(&mut self, node: usize) {
        self.leave(0);
        assert!(self.connect(0, node), "node {node} takes no connection in peace");
    }

    fn answered(&mut self) {
        self.run_until("an answer", |world| !world.clients[0].waits());
    }

    fn run_until(&mut self, what: &str, mut is_done: impl FnMut(&mut Self) -> bool) {
        let stands = self.nodes.iter().map(|node| node.stands_until).max();
        let since = self.now.max(stands.unwrap_or(Instant::START));
        while !is_done(self) {
            let waited = self.now.since(since);
            assert!(waited < PATIENCE, "{what}: not in {PATIENCE:?}; next is {:?}", self.next());
            self.step();
        }
    }
}
