//! What happens on connections by itself: pieces depart, arrive and are acknowledged, or are not.

use super::Network;
use super::Occurrence;
use super::connection::ACCEPTOR;
use super::connection::Life;
use super::connection::Piece;
use super::connection::Shake;
use super::connection::SideId;
use super::connection::Timer;
use super::connection::WINDOW_BYTES;
use super::routes::Passage;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::sim::coverage::Sometimes;

/// A kernel takes what is sent within this.
const DEPART_NANOS_MAX: u64 = 20_000;

/// So soon, at most, a side finds out by itself that the other end is gone, while bytes pass.
const FIND_OUT_NANOS_MAX: u64 = 2_000_000_000;

/// A piece is lost so many times in a row, at most: its delay is bounded.
const LOSSES_MAX: u32 = 6;

impl Network {
    /// Something's time has come.
    pub(super) fn fire(&mut self, now: Instant, side: SideId, timer: Timer) -> Option<Occurrence> {
        match timer {
            Timer::Shake => self.shake(now, side),
            Timer::Depart => self.depart(now, side),
            Timer::Arrive => self.arrive(now, side),
            Timer::Acknowledge => self.acknowledge(now, side),
            Timer::GiveUp => self.give_up(now, side),
            Timer::FindOut => self.find_out(now, side),
        }
    }

    /// The kernel looks at what a side sends, unless it is about to.
    pub(super) fn depart_soon(&mut self, now: Instant, side: SideId) {
        if self.side(side).timer(Timer::Depart).is_none() {
            let soon = Duration::from_nanos(self.rng.below(DEPART_NANOS_MAX));
            self.schedule(now + soon, side, Timer::Depart);
        }
    }

    /// There is no other end any more: whoever is still there finds out when bytes pass.
    pub(super) fn orphan(&mut self, now: Instant, id: SideId) {
        let Some(connection) = self.connections.get_mut(&id.connection) else { return };
        let side = &mut connection.sides[id.side];
        (side.lost, side.orphaned) = (true, true);
        match side.life {
            Life::Over => {}
            // It was never told that there is a connection.
            Life::Opening if id.side == ACCEPTOR => self.bury(id),
            _ => {
                let at = now + Duration::from_nanos(self.rng.below(FIND_OUT_NANOS_MAX));
                self.schedule_sooner(at, id, Timer::FindOut);
            }
        }
    }

    /// What is under way from a side is lost from some point on, and so is all that follows.
    pub(super) fn cut_short(&mut self, now: Instant, id: SideId) {
        let is_cut = self.passage(now, id) == Passage::Cut;
        let flying = self.side(id).flight.len() as u64;
        let kept = if is_cut { 0 } else { self.rng.between(0, flying) };
        let side = self.side_mut(id);
        side.lost = true;
        side.flight.truncate(kept as usize);
    }

    fn shake(&mut self, now: Instant, opener: SideId) -> Option<Occurrence> {
        let shake = self.connection_mut(opener).shake;
        let from = if shake == Shake::Asking { opener } else { opener.other() };
        if !self.passes(now, from, (opener, Timer::Shake)) {
            return None;
        }
        match shake {
            Shake::Asking => {
                let (_, node) = self.nodes(opener);
                let answer = if self.is_up(node) { Shake::Answering } else { Shake::Refusing };
                self.connection_mut(opener).shake = answer;
                let way = self.way(opener.other()) + self.losses();
                self.schedule(now + way, opener, Timer::Shake);
                None
            }
            Shake::Answering => self.open(now, opener),
            Shake::Refusing => {
                self.coverage.note(Sometimes::ConnectRefused);
                self.bury(opener.other());
                self.hear_closed(opener)
            }
            Shake::Done => unreachable!("a handshake ends once"),
        }
    }

    fn open(&mut self, now: Instant, opener: SideId) -> Option<Occurrence> {
        self.connection_mut(opener).shake = Shake::Done;
        let side = self.side_mut(opener);
        side.waiting_since = None;
        side.set_timer(Timer::GiveUp, None);
        let (at, link) = (side.at, side.link);
        let is_wanted = side.life == Life::Opening;
        if is_wanted {
            side.life = Life::Open;
        }
        self.fly(now, opener, Piece::Hello);
        self.depart_soon(now, opener);
        is_wanted.then_some(Occurrence::Opened { at, link })
    }

    fn depart(&mut self, now: Instant, id: SideId) -> Option<Occurrence> {
        if self.connection_mut(id).shake != Shake::Done {
            return None; // the end of the handshake looks again
        }
        if let Some(until) = self.stopped_until(now, self.side(id).at.node) {
            self.schedule(until, id, Timer::Depart);
            return None;
        }
        let side = self.side(id);
        if side.unsent.is_empty() {
            return if side.life == Life::Closing { self.depart_last(now, id) } else { None };
        }
        let room = WINDOW_BYTES - side.under_way;
        if room == 0 {
            self.coverage.note(Sometimes::WindowFull);
            return None; // an acknowledgement looks again
        }
        let most = room.min(side.unsent.len());
        let taken = draw_piece(&mut self.rng, most);
        let side = self.side_mut(id);
        let bytes: Vec<u8> = side.unsent.drain(..taken).collect();
        side.under_way += taken;
        let (at, link, wants_more) = (side.at, side.link, side.wants_to_depart());
        self.fly(now, id, Piece::Data(bytes));
        if wants_more {
            self.depart_soon(now, id);
        }
        Some(Occurrence::Sent { at, link, bytes: taken })
    }

    /// Everything was taken of a side that wants no more: that is the end for it.
    fn depart_last(&mut self, now: Instant, id: SideId) -> Option<Occurrence> {
        self.fly(now, id, Piece::Fin);
        self.hear_closed(id)
    }

    /// Puts a piece on its way; when it arrives is drawn here, with all its losses.
    pub(super) fn fly(&mut self, now: Instant, id: SideId, piece: Piece) {
        if self.side(id).lost {
            self.send_into_nothing(now, id);
        } else {
            let at = now + self.way(id) + self.losses();
            self.side_mut(id).flight.push_back((at, piece));
            self.schedule_arrival(now, id);
        }
        let due = now + self.dials.user_timeout;
        let side = self.side_mut(id);
        if side.waiting_since.is_none() && side.awaits_acknowledgement() {
            side.waiting_since = Some(now);
            if side.timer(Timer::GiveUp).is_none() {
                self.schedule(due, id, Timer::GiveUp); // one that comes too early is put off
            }
        }
    }

    /// The other end is gone, and answers what it gets with that.
    fn send_into_nothing(&mut self, now: Instant, id: SideId) {
        if self.side(id).orphaned && self.side(id).life != Life::Over {
            let round_trip = self.way(id) + self.way(id.other());
            self.schedule_sooner(now + round_trip, id, Timer::FindOut);
        }
    }

    /// What its losses add to a piece's way.
    pub(super) fn losses(&mut self) -> Duration {
        let base = self.dials.retransmission_nanos.max(1);
        let mut nanos = 0;
        for time in 0..LOSSES_MAX {
            if !self.rng.chance(self.dials.loss_percent, 100) {
                break;
            }
            self.coverage.note(Sometimes::Retransmitted);
            nanos += self.rng.between(base.div_ceil(2), base) << time;
        }
        Duration::from_nanos(nanos)
    }

    fn schedule_arrival(&mut self, now: Instant, id: SideId) {
        let side = self.side(id);
        if let Some((at, _)) = side.flight.front()
            && side.timer(Timer::Arrive).is_none()
        {
            self.schedule(now.max(*at), id, Timer::Arrive);
        }
    }

    fn arrive(&mut self, now: Instant, from: SideId) -> Option<Occurrence> {
        if !self.passes(now, from, (from, Timer::Arrive)) {
            self.forget_unrepeated(now, from);
            return None;
        }
        let (_, piece) = self.side_mut(from).flight.pop_front()?;
        let length = if let Piece::Data(bytes) = &piece { bytes.len() } else { 0 };
        if let Some(until) = self.full_until(now, from.other(), length) {
            self.side_mut(from).flight.push_front((until, piece));
            self.schedule(until, from, Timer::Arrive);
            return None;
        }
        if length > 0 && !self.side(from).lost && self.is_time_to_break() {
            self.side_mut(from).flight.push_front((now, piece));
            self.break_off(now, from);
            return None;
        }
        self.schedule_arrival(now, from);
        match piece {
            Piece::Hello => self.accept(from.other()),
            Piece::Data(bytes) => self.receive(now, from, bytes),
            Piece::Fin => self.hear_closed(from.other()),
        }
    }

    /// Behind a cut, who is not there any more sends nothing again.
    fn forget_unrepeated(&mut self, now: Instant, from: SideId) {
        if self.side(from).lost && self.passage(now, from) == Passage::Cut {
            self.side_mut(from).flight.clear();
        }
    }

    fn accept(&mut self, id: SideId) -> Option<Occurrence> {
        let side = self.side_mut(id);
        if side.life != Life::Opening {
            return None; // its process was killed in between
        }
        side.life = Life::Open;
        let (at, link) = (side.at, side.link);
        Some(Occurrence::Accepted { at, link })
    }

    /// Whoever closed its side gets nothing, and its kernel takes it all the same.
    fn receive(&mut self, now: Instant, from: SideId, bytes: Vec<u8>) -> Option<Occurrence> {
        self.side_mut(from).arrived += bytes.len();
        if self.side(from).timer(Timer::Acknowledge).is_none() {
            let way = self.way(from.other());
            self.schedule(now + way, from, Timer::Acknowledge);
        }
        let to = self.side(from.other());
        let (at, link) = (to.at, to.link);
        (to.life == Life::Open).then_some(Occurrence::Received { at, link, bytes })
    }

    /// An acknowledgement is of everything before it: one that was lost is in the next.
    fn acknowledge(&mut self, now: Instant, id: SideId) -> Option<Occurrence> {
        if self.side(id).lost || !self.passes(now, id.other(), (id, Timer::Acknowledge)) {
            return None;
        }
        let side = self.side_mut(id);
        side.under_way -= side.arrived;
        side.arrived = 0;
        side.waiting_since = side.awaits_acknowledgement().then_some(now);
        if side.wants_to_depart() {
            self.depart_soon(now, id);
        }
        None
    }

    fn give_up(&mut self, now: Instant, id: SideId) -> Option<Occurrence> {
        let since = self.side(id).waiting_since?;
        let (one, other) = self.nodes(id);
        let connects = self.connection_mut(id).shake != Shake::Done;
        let patience = if connects { self.dials.connect_timeout } else { self.dials.user_timeout };
        let due = since.max(self.routes.clogged_until(one, other)) + patience;
        if now < due {
            self.schedule(due, id, Timer::GiveUp);
            return None;
        }
        let what = if connects { Sometimes::ConnectTimedOut } else { Sometimes::GaveUp };
        self.coverage.note(what);
        self.cut_short(now, id);
        self.cut_short(now, id.other());
        self.orphan(now, id.other());
        self.hear_closed(id)
    }

    fn find_out(&mut self, now: Instant, id: SideId) -> Option<Occurrence> {
        let timer = (id, Timer::FindOut);
        if !self.passes(now, id, timer) || !self.passes(now, id.other(), timer) {
            return None;
        }
        self.hear_closed(id)
    }

    /// The connection breaks: neither end is one any more.
    fn break_off(&mut self, now: Instant, id: SideId) {
        self.coverage.note(Sometimes::ConnectionReset);
        for side in [id, id.other()] {
            self.cut_short(now, side);
            self.schedule_arrival(now, side);
        }
        for side in [id, id.other()] {
            self.orphan(now, side);
        }
    }

    /// The last that a side hears. Who was never told of a connection is buried before.
    fn hear_closed(&mut self, id: SideId) -> Option<Occurrence> {
        let side = &self.connections.get(&id.connection)?.sides[id.side];
        let hears = side.life != Life::Over;
        assert!(side.life != Life::Opening || id.side != ACCEPTOR, "it ends before it begins");
        let closed = Occurrence::Closed { at: side.at, link: side.link };
        self.bury(id);
        hears.then_some(closed)
    }

    /// A side hears nothing any more. With its second side a connection is forgotten.
    pub(super) fn bury(&mut self, id: SideId) {
        let Some(connection) = self.connections.get_mut(&id.connection) else { return };
        let side = &mut connection.sides[id.side];
        side.life = Life::Over;
        side.unsent.clear();
        let name = (side.at, side.link);
        self.sides.remove(&name);
        if connection.is_over() {
            self.connections.remove(&id.connection);
        }
    }

    /// Whether something passes from a side. If it waits for a clog, so does the timer; what waits
    /// behind a cut is woken when that is healed.
    fn passes(&mut self, now: Instant, from: SideId, timer: (SideId, Timer)) -> bool {
        match self.passage(now, from) {
            Passage::Open => true,
            Passage::Clogged(until) => {
                self.coverage.note(Sometimes::MetClog);
                self.schedule(until, timer.0, timer.1);
                false
            }
            Passage::Cut => {
                let (source, target) = self.nodes(from);
                if self.is_cut(source, target) {
                    self.coverage.note(Sometimes::MetNetsplit);
                    if !self.is_cut(target, source) {
                        self.coverage.note(Sometimes::MetOneWayNetsplit);
                    }
                }
                false
            }
        }
    }

    fn is_time_to_break(&mut self) -> bool {
        let one_in = self.dials.reset_one_in;
        one_in > 0 && self.rng.chance(1, one_in)
    }
}

/// Where the next cut is: often at the end of all that there is, sometimes after a few bytes.
fn draw_piece(rng: &mut Rng, all: usize) -> usize {
    let all = all as u64;
    let length = match rng.below(4) {
        0 => rng.between(1, all.min(8)),
        1 => rng.between(1, all),
        _ => all,
    };
    length as usize
}
