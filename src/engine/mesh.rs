//! Bytes between the cores of a node: a queue for each ordered pair, and no lock.
//!
//! What a shard says to another in one turn is one buffer, and buffers go back and forth: in the
//! steady state nothing is allocated. When a queue is full its bytes stay here and go with the next
//! turn's; nothing is dropped and nobody waits.

use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use crate::base::id::ShardId;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::engine::bell::Bell;
use crate::engine::uring::Uring;

/// Buffers on their way from one shard to one other. Each is a whole turn's.
const QUEUE_MAX: usize = 128;

/// Empty buffers that wait to be used again.
const EMPTY_MAX: usize = 16;

/// A longer buffer is not kept: one big transfer must not stay for ever.
const KEPT_BYTES_MAX: usize = 256 * 1024;

/// The way from one shard to one other.
#[derive(Debug)]
struct Way {
    full: ArrayQueue<Vec<u8>>,
    empty: ArrayQueue<Vec<u8>>,
}

/// All ways of a node, and the bells at their ends.
#[derive(Debug)]
pub(super) struct Exchange {
    ways: Vec<Way>,
    bells: Vec<Arc<Bell>>,
}

impl Exchange {
    /// Ways between shards that have these bells.
    pub(super) fn new(bells: Vec<Arc<Bell>>) -> Self {
        let way = || Way { full: ArrayQueue::new(QUEUE_MAX), empty: ArrayQueue::new(EMPTY_MAX) };
        let ways = (0..bells.len() * bells.len()).map(|_| way()).collect();
        Self { ways, bells }
    }

    fn way(&self, from: usize, to: usize) -> &Way {
        &self.ways[from * self.bells.len() + to]
    }
}

/// One shard's end of the exchange.
#[derive(Debug)]
pub(super) struct Mesh {
    own: usize,
    exchange: Arc<Exchange>,
    /// What is said to each other shard and has not left.
    outgoing: Vec<Vec<u8>>,
    /// To whom there is something to say.
    waiting: Vec<usize>,
    /// From whom the next look begins, so that none is always last.
    next_from: usize,
    spin: Duration,
    spin_until: Option<Instant>,
}

impl Mesh {
    /// The end of shard `own`. While an answer is outstanding it is worth while to look for it for
    /// as long as `spin`, for to be woken costs that much.
    pub(super) fn new(own: ShardId, exchange: Arc<Exchange>, spin: Duration) -> Self {
        let outgoing = exchange.bells.iter().map(|_| Vec::new()).collect();
        Self {
            own: usize::from(own.to_raw()),
            exchange,
            outgoing,
            waiting: Vec::new(),
            next_from: 0,
            spin,
            spin_until: None,
        }
    }

    /// Says something to another shard. It leaves with [`Mesh::flush`].
    pub(super) fn say(&mut self, to: ShardId, bytes: &[u8]) {
        let to = usize::from(to.to_raw());
        let outgoing = &mut self.outgoing[to];
        if outgoing.is_empty() {
            if outgoing.capacity() == 0
                && let Some(buffer) = self.exchange.way(self.own, to).empty.pop()
            {
                *outgoing = buffer;
            }
            self.waiting.push(to);
        }
        outgoing.extend_from_slice(bytes);
    }

    /// The end of a turn: what was said leaves, as far as there is room, and sleepers are woken.
    pub(super) fn flush(&mut self, now: Instant, ring: &mut Uring) {
        let (own, exchange, outgoing) = (self.own, &self.exchange, &mut self.outgoing);
        let mut left = false;
        self.waiting.retain(|&to| {
            let outgoing = &mut outgoing[to];
            match exchange.way(own, to).full.push(std::mem::take(outgoing)) {
                Ok(()) => left = true,
                Err(bytes) => *outgoing = bytes,
            }
            // Even if there was no room: whoever does not empty its queue may sleep.
            exchange.bells[to].ring_from(ring, ShardId::new(to as u16));
            !outgoing.is_empty()
        });
        if left && !self.spin.is_zero() {
            self.spin_until = Some(now + self.spin);
        }
    }

    /// Takes the next buffer that another shard sent.
    pub(super) fn hear(&mut self) -> Option<(ShardId, Vec<u8>)> {
        let count = self.outgoing.len();
        for step in 0..count {
            let from = (self.next_from + step) % count;
            if let Some(bytes) = self.exchange.way(from, self.own).full.pop() {
                self.next_from = from + 1;
                self.spin_until = None;
                return Some((ShardId::new(from as u16), bytes));
            }
        }
        None
    }

    /// Gives a buffer back to who sent it.
    pub(super) fn give_back(&mut self, from: ShardId, mut bytes: Vec<u8>) {
        if bytes.capacity() <= KEPT_BYTES_MAX {
            bytes.clear();
            let way = self.exchange.way(usize::from(from.to_raw()), self.own);
            // Enough of them are there already, if there is no room.
            let _ = way.empty.push(bytes);
        }
    }

    /// Whether [`Mesh::hear`] has something.
    pub(super) fn has_mail(&self) -> bool {
        (0..self.outgoing.len()).any(|from| !self.exchange.way(from, self.own).full.is_empty())
    }

    /// Whether a queue was full, so that [`Mesh::flush`] is due again soon.
    pub(super) fn is_held_up(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Whether [`Mesh::spin`] would look at all.
    pub(super) fn would_spin(&self) -> bool {
        self.spin_until.is_some()
    }

    /// Looks for mail until it is there, `other` holds, or it is not worth while any more.
    pub(super) fn spin(&mut self, now: impl Fn() -> Instant, mut other: impl FnMut() -> bool) {
        let Some(until) = self.spin_until.take() else { return };
        while !self.has_mail() && !other() && now() < until {
            std::hint::spin_loop();
        }
    }

    /// The bell of a shard.
    pub(super) fn bell(&self, shard: ShardId) -> &Bell {
        &self.exchange.bells[usize::from(shard.to_raw())]
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::engine::clock::Clock;
    use crate::engine::uring::Settings;
    use crate::engine::uring::Token;

    const SETTINGS: Settings =
        Settings { submissions: 16, completions: 64, short_buffers: 4, long_buffers: 4 };

    fn exchange(count: usize) -> Arc<Exchange> {
        let bell = || Arc::new(Bell::new().expect("descriptors are left"));
        Arc::new(Exchange::new((0..count).map(|_| bell()).collect()))
    }

    /// Everything that a shard's loop does about the mesh, and nothing else.
    struct Core {
        clock: Clock,
        ring: Uring,
        mesh: Mesh,
        own: ShardId,
    }

    impl Core {
        fn new(own: u16, exchange: &Arc<Exchange>, spin: Duration) -> Self {
            let own = ShardId::new(own);
            let mut ring = Uring::new(SETTINGS).expect("io_uring works here");
            let mesh = Mesh::new(own, exchange.clone(), spin);
            mesh.bell(own).set_ring(Some(ring.number()));
            let eventfd = Rc::new(mesh.bell(own).eventfd().expect("descriptors are left"));
            ring.read(Token::Notified, &eventfd, vec![0; 8], 0, u64::MAX);
            Self { clock: Clock::start(), ring, mesh, own }
        }

        fn flush(&mut self) {
            self.mesh.flush(self.clock.monotonic(), &mut self.ring);
        }

        fn wait(&mut self) -> (ShardId, Vec<u8>) {
            let mut completions = Vec::new();
            loop {
                if let Some(mail) = self.mesh.hear() {
                    return mail;
                }
                self.ring.submit().expect("it works");
                let clock = self.clock;
                self.mesh.spin(|| clock.monotonic(), || false);
                self.mesh.bell(self.own).sleep();
                if !self.mesh.has_mail() {
                    self.ring.submit_and_wait(None).expect("it works");
                }
                self.mesh.bell(self.own).awake();
                self.ring.completions(&mut completions, usize::MAX);
                completions.clear();
            }
        }
    }

    /// If one wake-up were lost, this would never end: nothing else wakes either side.
    fn ping_pong(rounds: u64, spin: Duration) -> Duration {
        let exchange = exchange(2);
        let other = exchange.clone();
        let echo = std::thread::spawn(move || {
            let mut core = Core::new(1, &other, spin);
            for _ in 0..rounds {
                let (from, bytes) = core.wait();
                core.mesh.say(from, &bytes);
                core.mesh.give_back(from, bytes);
                core.flush();
                core.ring.submit().expect("it works");
            }
        });
        let mut core = Core::new(0, &exchange, spin);
        let begun = core.clock.monotonic();
        for round in 0..rounds {
            core.mesh.say(ShardId::new(1), &round.to_le_bytes());
            core.flush();
            let (from, bytes) = core.wait();
            assert_eq!((from, &bytes[..]), (ShardId::new(1), &round.to_le_bytes()[..]));
            core.mesh.give_back(from, bytes);
        }
        let taken = core.clock.monotonic().since(begun);
        assert!(echo.join().is_ok());
        taken
    }

    #[test]
    fn no_wake_up_is_lost() {
        let rounds = 80_000;
        let taken = ping_pong(rounds, Duration::from_micros(30));
        println!("spinning: {} ns a round trip", taken.as_nanos() as u64 / rounds);
        let rounds = 20_000;
        let taken = ping_pong(rounds, Duration::ZERO);
        println!("sleeping: {} ns a round trip", taken.as_nanos() as u64 / rounds);
    }

    #[test]
    fn what_is_said_in_one_turn_is_one_buffer() {
        let exchange = exchange(3);
        let mut sender = Core::new(0, &exchange, Duration::ZERO);
        let mut receiver = Core::new(2, &exchange, Duration::ZERO);
        sender.mesh.say(ShardId::new(2), b"one ");
        sender.mesh.say(ShardId::new(2), b"turn");
        assert!(!receiver.mesh.has_mail());
        sender.flush();
        assert_eq!(receiver.wait(), (ShardId::new(0), b"one turn".to_vec()));
        assert!(!receiver.mesh.has_mail());
    }

    #[test]
    fn a_full_queue_keeps_everything_in_order() {
        let exchange = exchange(2);
        let mut sender = Core::new(0, &exchange, Duration::ZERO);
        let mut receiver = Core::new(1, &exchange, Duration::ZERO);
        let count = 3 * QUEUE_MAX as u32;
        for number in 0..count {
            sender.mesh.say(ShardId::new(1), &number.to_le_bytes());
            sender.flush();
        }
        assert!(sender.mesh.is_held_up());
        let mut heard = Vec::new();
        while heard.len() < 4 * count as usize {
            let (from, bytes) = receiver.mesh.hear().expect("nothing was dropped");
            heard.extend_from_slice(&bytes);
            receiver.mesh.give_back(from, bytes);
            sender.flush();
        }
        let expected: Vec<u8> = (0..count).flat_map(u32::to_le_bytes).collect();
        assert_eq!(heard, expected);
        assert!(!sender.mesh.is_held_up());
    }
}
