//! One connection: two sides, and what is under way from each.

use std::collections::VecDeque;

use super::Endpoint;
use crate::base::id::LinkId;
use crate::base::time::Instant;

/// As many bytes of one direction are under way or not acknowledged, at most: what a kernel's
/// buffers hold.
pub const WINDOW_BYTES: usize = 65_536;

/// The number of a connection, never used again.
pub(super) type ConnectionNumber = u64;

/// Of one connection: 0 for the side that asked for it, 1 for the one that accepted it.
pub(super) const OPENER: usize = 0;
pub(super) const ACCEPTOR: usize = 1;

/// One side of one connection.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct SideId {
    pub(super) connection: ConnectionNumber,
    pub(super) side: usize,
}

impl SideId {
    pub(super) fn opener(connection: ConnectionNumber) -> Self {
        Self { connection, side: OPENER }
    }

    /// The other end.
    pub(super) fn other(self) -> Self {
        Self { connection: self.connection, side: 1 - self.side }
    }
}

/// How far the handshake is, which the opener's `Timer::Shake` drives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Shake {
    /// The wish is on its way.
    Asking,
    /// The answer is on its way: somebody listens.
    Answering,
    /// The answer is on its way: nobody listens.
    Refusing,
    Done,
}

/// What a side's process knows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Life {
    /// An opener that was not told the outcome; an acceptor that knows of nothing.
    Opening,
    Open,
    /// It asked for the end and waits to hear of it.
    Closing,
    /// It heard of the end, or it is gone.
    Over,
}

/// What goes through one direction, in order.
#[derive(Clone, Debug)]
pub(super) enum Piece {
    /// The end of the handshake: the acceptor learns of the connection before anything else.
    Hello,
    Data(Vec<u8>),
    /// Nothing more comes.
    Fin,
}

/// What happens to a side by itself. Of each kind at most one is in the agenda.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Timer {
    /// The handshake goes one step on.
    Shake,
    /// Its kernel takes a piece of what it sends.
    Depart,
    /// The first piece under way from it arrives.
    Arrive,
    /// The other end's acknowledgement arrives.
    Acknowledge,
    /// It waited too long for one.
    GiveUp,
    /// It finds out that there is no other end any more.
    FindOut,
}

const TIMERS: usize = 6;

/// One side, and the bytes that go from it to the other.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) at: Endpoint,
    pub(super) link: LinkId,
    pub(super) life: Life,
    /// There is no other end any more.
    pub(super) orphaned: bool,
    /// Sent by its process, and not taken by its kernel.
    pub(super) unsent: VecDeque<u8>,
    /// Taken, and on the way: the first arrives at its time, each other when it is the first.
    pub(super) flight: VecDeque<(Instant, Piece)>,
    /// Arrived, and not acknowledged.
    pub(super) arrived: usize,
    /// Taken, and not acknowledged.
    pub(super) under_way: usize,
    /// Since when nothing was acknowledged of what should be.
    pub(super) waiting_since: Option<Instant>,
    /// What it sends from here on arrives nowhere.
    pub(super) lost: bool,
    /// The entry of the agenda that counts for each timer.
    timers: [Option<(Instant, u64)>; TIMERS],
}

impl Side {
    fn new(at: Endpoint, link: LinkId) -> Self {
        Self {
            at,
            link,
            life: Life::Opening,
            orphaned: false,
            unsent: VecDeque::new(),
            flight: VecDeque::new(),
            arrived: 0,
            under_way: 0,
            waiting_since: None,
            lost: false,
            timers: [None; TIMERS],
        }
    }

    pub(super) fn timer(&self, timer: Timer) -> Option<(Instant, u64)> {
        self.timers[timer as usize]
    }

    pub(super) fn set_timer(&mut self, timer: Timer, entry: Option<(Instant, u64)>) {
        self.timers[timer as usize] = entry;
    }

    /// Whether its kernel has something to take: bytes, or the wish that they end.
    pub(super) fn wants_to_depart(&self) -> bool {
        !self.unsent.is_empty() || self.life == Life::Closing
    }

    /// Whether something of it must be acknowledged. A greeting need not: it is never repeated by
    /// itself.
    pub(super) fn awaits_acknowledgement(&self) -> bool {
        self.under_way > 0 || matches!(self.flight.back(), Some((_, Piece::Fin)))
    }
}

/// Two sides and how far they got.
#[derive(Clone, Debug)]
pub(super) struct Connection {
    pub(super) sides: [Side; 2],
    pub(super) shake: Shake,
}

impl Connection {
    pub(super) fn new(opener: (Endpoint, LinkId), acceptor: (Endpoint, LinkId)) -> Self {
        let sides = [Side::new(opener.0, opener.1), Side::new(acceptor.0, acceptor.1)];
        Self { sides, shake: Shake::Asking }
    }

    /// Whether nobody hears of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.sides.iter().all(|side| side.life == Life::Over)
    }

    /// What waits until bytes pass again, of the connection of this number.
    pub(super) fn held_up(&self, number: ConnectionNumber) -> Vec<(SideId, Timer)> {
        let mut all = Vec::new();
        for (index, side) in self.sides.iter().enumerate() {
            let shakes = index == OPENER && self.shake != Shake::Done;
            for (timer, waits) in [
                (Timer::Shake, shakes),
                (Timer::Arrive, !side.flight.is_empty()),
                (Timer::Acknowledge, side.arrived > 0 && !side.lost),
                (Timer::FindOut, side.orphaned && side.life != Life::Over),
            ] {
                if waits && side.timer(timer).is_none() {
                    all.push((SideId { connection: number, side: index }, timer));
                }
            }
        }
        all
    }

    /// Whether one of its ends is at this machine.
    pub(super) fn touches(&self, node: usize) -> bool {
        self.sides.iter().any(|side| side.at.node == node)
    }
}
