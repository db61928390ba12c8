//! The ways between machines: how long each takes, and what stands in it.
//!
//! Each direction is a route of its own: bytes may pass in one and not in the other.

use std::collections::BTreeMap;

use super::Dials;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;

/// What becomes of something that is about to pass.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Passage {
    Open,
    /// It is held up until then.
    Clogged(Instant),
    /// It is lost, and so is everything else until somebody repairs the way.
    Cut,
}

/// One direction between two machines.
#[derive(Clone, Copy, Debug)]
struct Route {
    /// What everything takes that passes here.
    base_nanos: u64,
    is_cut: bool,
    clogged_until: Instant,
}

/// All directions that something passed or that somebody harmed.
#[derive(Clone, Debug, Default)]
pub(super) struct Routes {
    routes: BTreeMap<(usize, usize), Route>,
}

impl Routes {
    /// How long something takes that passes now.
    pub(super) fn delay(
        &mut self,
        from: usize,
        to: usize,
        dials: &Dials,
        rng: &mut Rng,
    ) -> Duration {
        let route = self.route_mut(from, to, dials, rng);
        let mut nanos = route.base_nanos + rng.below(dials.jitter_nanos + 1);
        if dials.tail_one_in > 0 && rng.chance(1, dials.tail_one_in) {
            nanos *= rng.between(2, 40);
        }
        Duration::from_nanos(nanos)
    }

    /// Whether something passes now.
    pub(super) fn passage(&self, now: Instant, from: usize, to: usize) -> Passage {
        match self.routes.get(&(from, to)) {
            Some(route) if route.is_cut => Passage::Cut,
            Some(route) if route.clogged_until > now => Passage::Clogged(route.clogged_until),
            _ => Passage::Open,
        }
    }

    /// When the last clog between the two ends or ended, in either direction.
    pub(super) fn clogged_until(&self, one: usize, other: usize) -> Instant {
        let until = |from, to| self.routes.get(&(from, to)).map(|route| route.clogged_until);
        until(one, other).max(until(other, one)).unwrap_or(Instant::START)
    }

    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.routes.get(&(from, to)).is_some_and(|route| route.is_cut)
    }

    pub(super) fn set_cut(&mut self, from: usize, to: usize, is_cut: bool) {
        assert_ne!(from, to, "nothing stands between a machine and itself");
        self.harmed(from, to).is_cut = is_cut;
    }

    pub(super) fn heal_all(&mut self) {
        self.routes.values_mut().for_each(|route| route.is_cut = false);
    }

    pub(super) fn clog(&mut self, from: usize, to: usize, until: Instant) {
        assert_ne!(from, to, "nothing stands between a machine and itself");
        let route = self.harmed(from, to);
        route.clogged_until = route.clogged_until.max(until);
    }

    /// The length of a way is drawn when something first passes it; harm may come before.
    fn route_mut(&mut self, from: usize, to: usize, dials: &Dials, rng: &mut Rng) -> &mut Route {
        let route = self.harmed(from, to);
        if route.base_nanos == 0 {
            let usual = dials.delay_nanos.max(1);
            route.base_nanos = rng.between(usual.div_ceil(2), usual * 2);
        }
        route
    }

    fn harmed(&mut self, from: usize, to: usize) -> &mut Route {
        let whole = Route { base_nanos: 0, is_cut: false, clogged_until: Instant::START };
        self.routes.entry((from, to)).or_insert(whole)
    }
}
