//! A network that carries bytes between the nodes of a virtual cluster, from a seed.
//!
//! It knows connections, as TCP has them, and nothing of what is said on them. It is late, cuts
//! what it carries in pieces, and fails in every way that a connection may.
//!
//! # What holds
//!
//! Per direction of a connection what is received is a prefix of what was sent: in order, nothing
//! twice. Order is lost only between connections. Each side hears of the end once, and of nothing
//! after it.
//!
//! # What goes wrong
//!
//! - A piece is lost: it comes again later, and all behind it waits ([`Dials`]).
//! - A connection breaks: its sides hear of it each in its time, and what was under way may be lost.
//! - A direction between two machines is cut (a netsplit) or clogged: [`Network::cut`],
//!   [`Network::clog`]. What is under way waits. Behind a cut, who waits for an acknowledgement too
//!   long gives its connection up, as with Linux's `TCP_USER_TIMEOUT`; the other side learns of it
//!   when bytes pass again.
//! - A process is killed, a machine loses power, a process is stopped for a while: [`Network::kill`],
//!   [`Network::power_off`], [`Network::pause`].
//!
//! [`nemesis`] draws what happens to the ways between machines.

mod connection;
mod flow;
mod life;
pub mod nemesis;
mod routes;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;

pub use self::connection::WINDOW_BYTES;

use self::connection::Connection;
use self::connection::ConnectionNumber;
use self::connection::Life;
use self::connection::Side;
use self::connection::SideId;
use self::connection::Timer;
use self::life::Machine;
use self::routes::Passage;
use self::routes::Routes;
use super::coverage::Coverage;
use super::trace::Trace;
use crate::base::id::LinkId;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;

/// Sides that accept are named from here on, so that no shard ever chooses such a number.
const ACCEPTED_FIRST: u64 = LinkId::accepted(0).to_raw();

/// What may go wrong, and how often: one in so many pieces, 0 for never.
#[derive(Clone, Copy, Debug)]
pub struct Dials {
    /// Of 100 pieces, how many are lost, each time that they are sent.
    pub loss_percent: u64,
    /// After about so long a lost piece is sent again; twice as long each time.
    pub retransmission_nanos: u64,
    /// What a way usually takes, in nanoseconds; each direction draws around it once.
    pub delay_nanos: u64,
    /// Each piece takes up to so much longer.
    pub jitter_nanos: u64,
    /// Pieces that take many times as long.
    pub tail_one_in: u64,
    /// Pieces that break their connection.
    pub reset_one_in: u64,
    /// A side that waits so long for an acknowledgement gives its connection up.
    pub user_timeout: Duration,
    /// A side that waits so long for a connection gives it up.
    pub connect_timeout: Duration,
}

impl Default for Dials {
    /// A network that loses nothing.
    fn default() -> Self {
        Self {
            loss_percent: 0,
            retransmission_nanos: 200_000_000,
            delay_nanos: 100_000,
            jitter_nanos: 50_000,
            tail_one_in: 0,
            reset_one_in: 0,
            user_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
        }
    }
}

impl Dials {
    /// The draw of a seed: each enables a different subset.
    pub fn draw(rng: &mut Rng) -> Self {
        let delay_nanos = *rng.pick(&[20_000, 100_000, 1_000_000, 20_000_000]);
        let mut dials = Self { delay_nanos, jitter_nanos: delay_nanos / 2, ..Self::default() };
        dials.retransmission_nanos = delay_nanos * rng.between(2, 10);
        dials.user_timeout = Duration::from_secs(*rng.pick(&[2, 10, 30]));
        dials.connect_timeout = Duration::from_secs(*rng.pick(&[1, 3, 10]));
        if rng.chance(1, 2) {
            dials.loss_percent = *rng.pick(&[1, 5, 30]);
        }
        if rng.chance(1, 3) {
            dials.jitter_nanos = delay_nanos * rng.between(2, 20);
        }
        if rng.chance(1, 2) {
            dials.tail_one_in = rng.between(10, 200);
        }
        if rng.chance(1, 2) {
            dials.reset_one_in = rng.between(100, 3_000);
        }
        dials
    }
}

/// Where a connection ends: a shard of a node.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Endpoint {
    /// The node's place in the cluster.
    pub node: usize,
    /// The shard's place on its node.
    pub shard: usize,
}

/// Something that a shard must be told.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Occurrence {
    /// The connection that it asked for is there.
    Opened {
        /// Who asked.
        at: Endpoint,
        /// As it named it.
        link: LinkId,
    },
    /// Somebody asked for a connection to it.
    Accepted {
        /// Who was asked.
        at: Endpoint,
        /// Its name from here on.
        link: LinkId,
    },
    /// Its kernel took some of what it sent.
    Sent {
        /// Who sent.
        at: Endpoint,
        /// On which connection.
        link: LinkId,
        /// How many.
        bytes: usize,
    },
    /// Bytes came.
    Received {
        /// To whom.
        at: Endpoint,
        /// On which connection.
        link: LinkId,
        /// The next ones.
        bytes: Vec<u8>,
    },
    /// There is no such connection, or none any more. The last that is said of it.
    Closed {
        /// Who had it.
        at: Endpoint,
        /// As it was named there.
        link: LinkId,
    },
}

impl Occurrence {
    /// Who hears it, and of which connection.
    pub fn place(&self) -> (Endpoint, LinkId) {
        match self {
            Self::Opened { at, link }
            | Self::Accepted { at, link }
            | Self::Sent { at, link, .. }
            | Self::Received { at, link, .. }
            | Self::Closed { at, link } => (*at, *link),
        }
    }

    /// Puts all of it in a trace.
    pub fn trace(&self, trace: &mut Trace) {
        let (at, link) = self.place();
        trace.add_events(1);
        trace.number((at.node as u64) << 32 | at.shard as u64);
        trace.number(link.to_raw());
        match self {
            Self::Opened { .. } => trace.number(1),
            Self::Accepted { .. } => trace.number(2),
            Self::Sent { bytes, .. } => trace.number(3 << 32 | *bytes as u64),
            Self::Received { bytes, .. } => trace.bytes(bytes),
            Self::Closed { .. } => trace.number(4),
        }
    }
}

/// One line of the agenda. It counts only while a side's timer names it by its order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Entry {
    at: Instant,
    order: u64,
    what: What,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum What {
    Timer(SideId, Timer),
    /// A process that was stopped goes on, and hears what it missed.
    Resume(usize),
}

/// The virtual network.
#[derive(Clone, Debug)]
pub struct Network {
    /// What may go wrong from here on.
    pub dials: Dials,
    /// What happened, so that a test can tell that it did.
    pub coverage: Coverage,
    rng: Rng,
    routes: Routes,
    machines: BTreeMap<usize, Machine>,
    connections: BTreeMap<ConnectionNumber, Connection>,
    connection_next: ConnectionNumber,
    /// The sides that hear something, by their names.
    sides: BTreeMap<(Endpoint, LinkId), SideId>,
    /// Names that the shards that run chose.
    chosen: BTreeSet<(Endpoint, LinkId)>,
    /// The earliest first.
    agenda: BinaryHeap<Reverse<Entry>>,
    order_next: u64,
}

impl Network {
    /// A network in which every machine is up and nothing stands between two.
    pub fn new(rng: Rng, dials: Dials) -> Self {
        Self {
            dials,
            coverage: Coverage::default(),
            rng,
            routes: Routes::default(),
            machines: BTreeMap::new(),
            connections: BTreeMap::new(),
            connection_next: 0,
            sides: BTreeMap::new(),
            chosen: BTreeSet::new(),
            agenda: BinaryHeap::new(),
            order_next: 0,
        }
    }

    /// A shard asks for a connection, which it calls `link`.
    ///
    /// # Panics
    ///
    /// If the shard had a connection of this name since its process started, or the name is one of
    /// those that the network gives.
    pub fn connect(&mut self, now: Instant, from: Endpoint, link: LinkId, to: Endpoint) {
        assert!(link.to_raw() < ACCEPTED_FIRST, "{link} is a name for the network to give");
        assert!(self.chosen.insert((from, link)), "{from:?} has had a connection {link}");
        let number = self.connection_next;
        self.connection_next += 1;
        let opener = SideId::opener(number);
        let accepted = LinkId::new(ACCEPTED_FIRST + number);
        self.connections.insert(number, Connection::new((from, link), (to, accepted)));
        self.sides.insert((from, link), opener);
        self.sides.insert((to, accepted), opener.other());
        self.side_mut(opener).waiting_since = Some(now);
        self.schedule(now + self.dials.connect_timeout, opener, Timer::GiveUp);
        let way = self.way(opener) + self.losses();
        self.schedule(now + way, opener, Timer::Shake);
    }

    /// A shard sends: these bytes go behind all that it sent before. It may do so as soon as it
    /// asked for the connection. What is over takes nothing more and says nothing.
    ///
    /// # Panics
    ///
    /// If the shard asked for the end.
    pub fn send(&mut self, now: Instant, at: Endpoint, link: LinkId, bytes: &[u8]) {
        let Some(side) = self.sides.get(&(at, link)).copied() else { return };
        let sender = self.side_mut(side);
        assert_ne!(sender.life, Life::Closing, "{link} was closed by who sends on it");
        sender.unsent.extend(bytes);
        self.depart_soon(now, side);
    }

    /// A shard wants no more of a connection. What it sent still arrives; it hears of nothing but
    /// that this was taken, and then of the end. What is over is left alone.
    ///
    /// # Panics
    ///
    /// If it did so before.
    pub fn close(&mut self, now: Instant, at: Endpoint, link: LinkId) {
        self.machine_mut(at.node).forget_missed(at, link);
        let Some(side) = self.sides.get(&(at, link)).copied() else { return };
        let closing = self.side_mut(side);
        assert_ne!(closing.life, Life::Closing, "{link} was closed twice");
        closing.life = Life::Closing;
        self.depart_soon(now, side);
    }

    /// When something happens by itself; nobody need hear of it.
    pub fn next_at(&self) -> Option<Instant> {
        self.agenda.peek().map(|Reverse(entry)| entry.at)
    }

    /// The next that somebody must hear of everything that happens up to now. To be called until
    /// there is nothing.
    pub fn take(&mut self, now: Instant) -> Option<Occurrence> {
        while self.agenda.peek().is_some_and(|Reverse(entry)| entry.at <= now) {
            let Reverse(entry) = self.agenda.pop().expect("it was seen");
            let occurrence = match entry.what {
                What::Resume(node) => self.resume(now, node),
                What::Timer(side, timer) if self.counts(side, timer, entry.order) => {
                    let occurrence = self.fire(now, side, timer);
                    occurrence.and_then(|occurrence| self.tell(now, occurrence))
                }
                What::Timer(..) => None,
            };
            if occurrence.is_some() {
                return occurrence;
            }
        }
        None
    }

    /// From here on nothing arrives from one node at another. The other direction is another cut.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.routes.set_cut(from, to, true);
    }

    /// Whether nothing arrives in this direction.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.routes.is_cut(from, to)
    }

    /// Everything between two nodes passes again in this direction.
    pub fn heal(&mut self, now: Instant, from: usize, to: usize) {
        self.routes.set_cut(from, to, false);
        self.wake(now, |connection| connection.touches(from) && connection.touches(to));
    }

    /// Heals every direction. Clogs end in their time.
    pub fn heal_all(&mut self, now: Instant) {
        self.routes.heal_all();
        self.wake(now, |_| true);
    }

    /// Until then whatever would arrive in this direction does not. It is no reason to give a
    /// connection up: that is waited for from the end of the clog on.
    pub fn clog(&mut self, from: usize, to: usize, until: Instant) {
        self.routes.clog(from, to, until);
    }

    /// What was held up by something that is no more comes soon.
    fn wake(&mut self, now: Instant, which: impl Fn(&Connection) -> bool) {
        let woken = self.connections.iter().filter(|(_, connection)| which(connection));
        let woken: Vec<ConnectionNumber> = woken.map(|(number, _)| *number).collect();
        for number in woken {
            for (side, timer) in self.connections[&number].held_up(number) {
                let soon = self.rng.below(self.dials.retransmission_nanos + 1);
                self.schedule(now + Duration::from_nanos(soon), side, timer);
            }
        }
    }

    /// Whether something passes from a side to the other.
    fn passage(&self, now: Instant, from: SideId) -> Passage {
        let (source, target) = self.nodes(from);
        if self.is_off(target) {
            return Passage::Cut;
        }
        self.routes.passage(now, source, target)
    }

    /// How long something takes from a side to the other.
    fn way(&mut self, from: SideId) -> Duration {
        let (source, target) = self.nodes(from);
        self.routes.delay(source, target, &self.dials, &mut self.rng)
    }

    fn nodes(&self, from: SideId) -> (usize, usize) {
        (self.side(from).at.node, self.side(from.other()).at.node)
    }

    fn side(&self, id: SideId) -> &Side {
        &self.connections[&id.connection].sides[id.side]
    }

    fn side_mut(&mut self, id: SideId) -> &mut Side {
        &mut self.connection_mut(id).sides[id.side]
    }

    fn connection_mut(&mut self, id: SideId) -> &mut Connection {
        self.connections.get_mut(&id.connection).expect("a connection that somebody hears of")
    }

    /// Puts a timer in the agenda, in the place of the one that was there.
    fn schedule(&mut self, at: Instant, side: SideId, timer: Timer) {
        let order = self.order_next;
        self.order_next += 1;
        self.side_mut(side).set_timer(timer, Some((at, order)));
        self.agenda.push(Reverse(Entry { at, order, what: What::Timer(side, timer) }));
    }

    /// The same, unless it is there for an earlier time.
    fn schedule_sooner(&mut self, at: Instant, side: SideId, timer: Timer) {
        if self.side(side).timer(timer).is_none_or(|(before, _)| at < before) {
            self.schedule(at, side, timer);
        }
    }

    /// Takes a timer out of its side, if this entry is the one that counts.
    fn counts(&mut self, side: SideId, timer: Timer, order: u64) -> bool {
        let Some(connection) = self.connections.get_mut(&side.connection) else { return false };
        let side = &mut connection.sides[side.side];
        let counts = side.timer(timer).is_some_and(|(_, current)| current == order);
        if counts {
            side.set_timer(timer, None);
        }
        counts
    }
}
