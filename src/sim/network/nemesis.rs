//! Draws what happens to the ways between machines, and when.
//!
//! It does one thing after another: netsplits of several shapes, each healed after a while or
//! followed by another at once; clogs of one way or of all ways of a machine; and FoundationDB's
//! *swizzle-clogging*: the machines of a random subset are clogged one by one and come back in
//! another order.

use std::collections::VecDeque;
use std::fmt;

use super::Network;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;

/// What it may do, and how long things take.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The netsplits that it may make.
    pub shapes: Vec<Shape>,
    /// Of 100 netsplits, how many cut one direction only.
    pub one_way_percent: u64,
    /// It clogs single ways, and single machines.
    pub clogs: bool,
    /// It swizzles.
    pub swizzles: bool,
    /// Nanoseconds between two troubles, on average.
    pub calm_nanos: u64,
    /// Nanoseconds that a netsplit lasts, on average.
    pub split_nanos: u64,
    /// Nanoseconds that a clog lasts, on average.
    pub clog_nanos: u64,
}

impl Default for Settings {
    /// It does nothing.
    fn default() -> Self {
        Self {
            shapes: Vec::new(),
            one_way_percent: 0,
            clogs: false,
            swizzles: false,
            calm_nanos: 5_000_000_000,
            split_nanos: 5_000_000_000,
            clog_nanos: 500_000_000,
        }
    }
}

impl Settings {
    /// The draw of a seed: each enables a different subset.
    pub fn draw(rng: &mut Rng) -> Self {
        let mut settings = Self::default();
        for shape in Shape::ALL {
            if rng.chance(1, 2) {
                settings.shapes.push(*shape);
            }
        }
        settings.one_way_percent = *rng.pick(&[0, 30, 100]);
        settings.clogs = rng.chance(1, 2);
        settings.swizzles = rng.chance(1, 2);
        settings.calm_nanos = *rng.pick(&[500_000_000, 3_000_000_000, 10_000_000_000]);
        settings.split_nanos = *rng.pick(&[500_000_000, 5_000_000_000, 30_000_000_000]);
        settings.clog_nanos = *rng.pick(&[10_000_000, 300_000_000, 1_000_000_000]);
        settings
    }
}

/// Who sees whom in a netsplit.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Shape {
    /// One node on one side, all others on the other.
    One,
    /// Half and half.
    Halves,
    /// Any subset and the others.
    Subset,
    /// Each sees its neighbours of a chain, or of a ring, alone.
    Chain,
}

impl Shape {
    /// All that there are.
    pub const ALL: &'static [Self] = &[Self::One, Self::Halves, Self::Subset, Self::Chain];
}

/// Something that was done to the network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Deed {
    /// These directions were cut, and those that were before are whole again.
    Cut {
        /// Who sees whom.
        shape: Shape,
        /// From whom to whom nothing passes.
        cuts: Vec<(usize, usize)>,
    },
    /// All directions are whole again.
    Healed,
    /// One direction was clogged.
    CloggedWay {
        /// From here.
        from: usize,
        /// To there.
        to: usize,
        /// It lasts until then.
        until: Instant,
    },
    /// All ways from and to a machine were clogged.
    CloggedNode {
        /// This one.
        node: usize,
        /// It lasts until then.
        until: Instant,
    },
}

impl Deed {
    /// Whether it is something to suffer from.
    pub fn is_fault(&self) -> bool {
        *self != Self::Healed
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut { shape, cuts } => {
                write!(f, "netsplit {shape:?}:")?;
                cuts.iter().try_for_each(|(from, to)| write!(f, " {from}>{to}"))
            }
            Self::Healed => write!(f, "healed"),
            Self::CloggedWay { from, to, until } => {
                write!(f, "clog {from}>{to} until {}", until.as_nanos())
            }
            Self::CloggedNode { node, until } => {
                write!(f, "clog of node {node} until {}", until.as_nanos())
            }
        }
    }
}

/// What it chooses from.
#[derive(Clone, Copy, Debug)]
enum Trouble {
    Split(Shape),
    Clog,
    Swizzle,
}

/// The one who does it.
#[derive(Clone, Debug)]
pub struct Nemesis {
    settings: Settings,
    rng: Rng,
    nodes: usize,
    act_at: Instant,
    is_split: bool,
    /// The rest of a swizzle: when each machine is clogged, and until when.
    swizzle: VecDeque<(Instant, usize, Instant)>,
    is_over: bool,
}

impl Nemesis {
    /// One for a cluster of so many nodes.
    pub fn new(mut rng: Rng, settings: Settings, nodes: usize) -> Self {
        let act_at = Instant::START + around(&mut rng, settings.calm_nanos);
        let is_split = false;
        Self { settings, rng, nodes, act_at, is_split, swizzle: VecDeque::new(), is_over: false }
    }

    /// When it wants to act.
    pub fn next_at(&self) -> Option<Instant> {
        let may = self.nodes > 1 && !self.troubles().is_empty();
        (may && !self.is_over).then_some(self.act_at)
    }

    /// It does the next thing, and tells what.
    pub fn act(&mut self, now: Instant, network: &mut Network) -> Option<Deed> {
        self.next_at().filter(|at| *at <= now)?;
        if let Some((_, node, until)) = self.swizzle.pop_front() {
            return Some(self.clog_next(now, network, node, until));
        }
        let is_split = std::mem::replace(&mut self.is_split, false);
        if is_split {
            network.heal_all(now);
        }
        if is_split && !self.rng.chance(1, 4) {
            self.act_at = now + around(&mut self.rng, self.settings.calm_nanos);
            return Some(Deed::Healed);
        }
        let troubles = self.troubles();
        match *self.rng.pick(&troubles) {
            Trouble::Split(shape) => Some(self.split(now, network, shape)),
            Trouble::Clog => Some(self.clog(now, network)),
            Trouble::Swizzle => {
                self.plan_swizzle(now);
                let (_, node, until) = self.swizzle.pop_front().expect("at least one node");
                Some(self.clog_next(now, network, node, until))
            }
        }
    }

    /// It heals everything and rests for ever. Clogs that last end in their time.
    pub fn end(&mut self, now: Instant, network: &mut Network) {
        self.is_over = true;
        network.heal_all(now);
    }

    fn troubles(&self) -> Vec<Trouble> {
        // In a chain of two each sees all.
        let mut shapes = self.settings.shapes.clone();
        shapes.retain(|shape| *shape != Shape::Chain || self.nodes > 2);
        let mut troubles: Vec<Trouble> = shapes.into_iter().map(Trouble::Split).collect();
        troubles.extend(self.settings.clogs.then_some(Trouble::Clog));
        troubles.extend(self.settings.swizzles.then_some(Trouble::Swizzle));
        troubles
    }

    fn split(&mut self, now: Instant, network: &mut Network, shape: Shape) -> Deed {
        let one_way = self.rng.chance(self.settings.one_way_percent, 100);
        let mut cuts = self.draw_cuts(shape);
        if one_way {
            // Which of the two is nobody's choice: the order of the nodes was drawn.
            cuts.retain(|(_, _, is_forth)| *is_forth);
        }
        let cuts: Vec<(usize, usize)> = cuts.iter().map(|(from, to, _)| (*from, *to)).collect();
        cuts.iter().for_each(|(from, to)| network.cut(*from, *to));
        self.is_split = true;
        self.act_at = now + around(&mut self.rng, self.settings.split_nanos);
        Deed::Cut { shape, cuts }
    }

    /// Both directions of each pair that does not see each other; of one it is said that it is the
    /// way forth.
    fn draw_cuts(&mut self, shape: Shape) -> Vec<(usize, usize, bool)> {
        let order = self.shuffled();
        let count = order.len();
        let flip = self.rng.chance(1, 2);
        let first = match shape {
            Shape::One => 1,
            Shape::Halves => count / 2,
            Shape::Subset | Shape::Chain => self.rng.between(1, count as u64 - 1) as usize,
        };
        // A ring of three or fewer cuts nothing.
        let is_ring = count > 3 && self.rng.chance(1, 2);
        let sees = |one: usize, other: usize| match shape {
            Shape::Chain => other - one == 1 || (is_ring && other - one == count - 1),
            _ => (one < first) == (other < first),
        };
        let mut cuts = Vec::new();
        for one in 0..count {
            for other in one + 1..count {
                if !sees(one, other) {
                    cuts.push((order[one], order[other], !flip));
                    cuts.push((order[other], order[one], flip));
                }
            }
        }
        cuts
    }

    fn clog(&mut self, now: Instant, network: &mut Network) -> Deed {
        let until = now + around(&mut self.rng, self.settings.clog_nanos);
        let order = self.shuffled();
        self.act_at = now + around(&mut self.rng, self.settings.calm_nanos);
        if self.rng.chance(1, 2) {
            return self.clog_node(network, order[0], until);
        }
        let (from, to) = (order[0], order[1]);
        network.clog(from, to, until);
        Deed::CloggedWay { from, to, until }
    }

    /// Who is clogged when: first one after the other, then each comes back, in another order.
    fn plan_swizzle(&mut self, now: Instant) {
        let mut nodes = self.shuffled();
        nodes.truncate(self.rng.between(1, nodes.len() as u64) as usize);
        let mut at = now;
        let starts: Vec<Instant> = nodes.iter().map(|_| self.step(&mut at)).collect();
        let mut ends: Vec<Instant> = nodes.iter().map(|_| self.step(&mut at)).collect();
        shuffle(&mut self.rng, &mut ends);
        let all = nodes.iter().zip(starts).zip(ends);
        self.swizzle = all.map(|((node, start), end)| (start, *node, end)).collect();
    }

    /// The moments of a swizzle lie one behind the other.
    fn step(&mut self, at: &mut Instant) -> Instant {
        let here = *at;
        *at = here + around(&mut self.rng, self.settings.clog_nanos / 4);
        here
    }

    fn clog_next(
        &mut self,
        now: Instant,
        network: &mut Network,
        node: usize,
        until: Instant,
    ) -> Deed {
        let next = self.swizzle.front().map(|(at, _, _)| *at);
        let rest = around(&mut self.rng, self.settings.calm_nanos);
        self.act_at = next.unwrap_or(until.max(now) + rest);
        self.clog_node(network, node, until)
    }

    fn clog_node(&self, network: &mut Network, node: usize, until: Instant) -> Deed {
        for other in (0..self.nodes).filter(|other| *other != node) {
            network.clog(node, other, until);
            network.clog(other, node, until);
        }
        Deed::CloggedNode { node, until }
    }

    fn shuffled(&mut self) -> Vec<usize> {
        let mut nodes: Vec<usize> = (0..self.nodes).collect();
        shuffle(&mut self.rng, &mut nodes);
        nodes
    }
}

fn shuffle<T>(rng: &mut Rng, items: &mut [T]) {
    for end in (1..items.len()).rev() {
        items.swap(end, rng.below(end as u64 + 1) as usize);
    }
}

/// Half of it to one and a half times it.
fn around(rng: &mut Rng, nanos: u64) -> Duration {
    Duration::from_nanos(nanos / 2 + rng.below(nanos + 1))
}
