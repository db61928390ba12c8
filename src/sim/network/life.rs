//! What happens to nodes: processes are killed and stopped, machines lose their power.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::VecDeque;

use super::Endpoint;
use super::Entry;
use super::Network;
use super::Occurrence;
use super::What;
use super::connection::Life;
use super::connection::OPENER;
use super::connection::Piece;
use super::connection::Shake;
use super::connection::SideId;
use super::connection::WINDOW_BYTES;
use crate::base::id::LinkId;
use crate::base::time::Duration;
use crate::base::time::Instant;

/// What runs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Power {
    #[default]
    Up,
    /// The machine, without the process.
    MachineOnly,
    Off,
}

/// A machine and the process on it.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    power: Power,
    /// The process is stopped until then.
    stopped_until: Instant,
    /// What it has not heard because of that, in order.
    missed: VecDeque<Occurrence>,
    /// Bytes in there, by the side that they came to: its kernel holds a window, no more.
    missed_bytes: BTreeMap<(Endpoint, LinkId), usize>,
}

impl Machine {
    /// A side was closed: what came before and was not heard never will be.
    pub(super) fn forget_missed(&mut self, at: Endpoint, link: LinkId) {
        self.missed.retain(|occurrence| {
            let stays = matches!(occurrence, Occurrence::Sent { .. } | Occurrence::Closed { .. });
            stays || occurrence.place() != (at, link)
        });
        self.missed_bytes.remove(&(at, link));
    }

    fn miss(&mut self, occurrence: Occurrence) {
        if let Occurrence::Received { bytes, .. } = &occurrence {
            *self.missed_bytes.entry(occurrence.place()).or_default() += bytes.len();
        }
        self.missed.push_back(occurrence);
    }

    fn hear_missed(&mut self) -> Option<Occurrence> {
        let occurrence = self.missed.pop_front()?;
        if let Occurrence::Received { bytes, .. } = &occurrence {
            let held = self.missed_bytes.get_mut(&occurrence.place()).expect("counted before");
            *held -= bytes.len();
            if *held == 0 {
                self.missed_bytes.remove(&occurrence.place());
            }
        }
        Some(occurrence)
    }

    fn forget_process(&mut self, power: Power) {
        *self = Self { power, ..Self::default() };
    }
}

impl Network {
    /// The process ends and the machine does not: its kernel ends all connections, some after what
    /// it has taken arrived, others at once.
    pub fn kill(&mut self, now: Instant, node: usize) {
        if self.machine_mut(node).power != Power::Up {
            return;
        }
        self.forget_process(node, Power::MachineOnly);
        for id in self.sides_of(node) {
            // The other end may have been of the same node; this one may be the kernel's alone.
            let connection = self.connections.get(&id.connection);
            if connection.is_some_and(|connection| connection.sides[id.side].life != Life::Over) {
                self.end_by_kernel(now, id);
            }
        }
    }

    /// The machine stops: nobody hears of it until it is asked.
    pub fn power_off(&mut self, now: Instant, node: usize) {
        self.forget_process(node, Power::Off);
        for id in self.sides_of(node) {
            if self.connections.contains_key(&id.connection) {
                self.end_without_a_word(now, id);
            }
        }
    }

    /// A process starts, on a machine that runs. It has no connections.
    pub fn up(&mut self, now: Instant, node: usize) {
        self.machine_mut(node).power = Power::Up;
        self.wake(now, |connection| connection.touches(node));
    }

    /// Whether a process is there that can accept connections.
    pub fn is_up(&self, node: usize) -> bool {
        self.machines.get(&node).is_none_or(|machine| machine.power == Power::Up)
    }

    /// The process is stopped until then: it hears nothing, and nothing of what it sent is taken.
    /// Its kernel takes a window of bytes for each of its connections.
    pub fn pause(&mut self, now: Instant, node: usize, until: Instant) {
        let machine = self.machine_mut(node);
        if machine.power == Power::Up && until > now {
            machine.stopped_until = machine.stopped_until.max(until);
            self.resume_at(until, node);
        }
    }

    pub(super) fn machine_mut(&mut self, node: usize) -> &mut Machine {
        self.machines.entry(node).or_default()
    }

    pub(super) fn is_off(&self, node: usize) -> bool {
        self.machines.get(&node).is_some_and(|machine| machine.power == Power::Off)
    }

    /// Until when the process is stopped, if it is.
    pub(super) fn stopped_until(&self, now: Instant, node: usize) -> Option<Instant> {
        let until = self.machines.get(&node)?.stopped_until;
        (until > now).then_some(until)
    }

    /// Until when a stopped process's kernel has no room for so many more bytes.
    pub(super) fn full_until(&self, now: Instant, to: SideId, length: usize) -> Option<Instant> {
        let side = self.side(to);
        let machine = self.machines.get(&side.at.node)?;
        let held = machine.missed_bytes.get(&(side.at, side.link)).copied().unwrap_or(0);
        let soon = now + Duration::from_nanos(1000);
        (held + length > WINDOW_BYTES).then_some(machine.stopped_until.max(soon))
    }

    /// Gives an occurrence to whom it is for, or keeps it while that one is stopped.
    pub(super) fn tell(&mut self, now: Instant, occurrence: Occurrence) -> Option<Occurrence> {
        let (at, _) = occurrence.place();
        let Some(machine) = self.machines.get_mut(&at.node) else { return Some(occurrence) };
        if machine.stopped_until <= now && machine.missed.is_empty() {
            return Some(occurrence);
        }
        machine.miss(occurrence);
        None
    }

    /// A process that was stopped hears the next that it missed.
    pub(super) fn resume(&mut self, now: Instant, node: usize) -> Option<Occurrence> {
        let machine = self.machine_mut(node);
        if machine.stopped_until > now {
            return None; // stopped again, for longer
        }
        let occurrence = machine.hear_missed();
        if !machine.missed.is_empty() {
            self.resume_at(now, node);
        }
        occurrence
    }

    fn resume_at(&mut self, at: Instant, node: usize) {
        let order = self.order_next;
        self.order_next += 1;
        self.agenda.push(Reverse(Entry { at, order, what: What::Resume(node) }));
    }

    fn forget_process(&mut self, node: usize, power: Power) {
        self.machine_mut(node).forget_process(power);
        self.chosen.retain(|(at, _)| at.node != node);
    }

    fn sides_of(&self, node: usize) -> Vec<SideId> {
        let all = self.connections.iter().flat_map(|(number, connection)| {
            let opener = SideId::opener(*number);
            [opener, opener.other()].map(|id| (id, connection.sides[id.side].at.node))
        });
        all.filter(|(_, at)| *at == node).map(|(id, _)| id).collect()
    }

    fn end_by_kernel(&mut self, now: Instant, id: SideId) {
        if self.connections[&id.connection].shake != Shake::Done {
            return self.end_handshake(id, Shake::Refusing);
        }
        self.side_mut(id).unsent.clear();
        if self.rng.chance(1, 2) {
            self.fly(now, id, Piece::Fin);
        } else {
            self.cut_short(now, id);
            self.cut_short(now, id.other());
            self.orphan(now, id.other());
        }
        self.bury(id);
    }

    fn end_without_a_word(&mut self, now: Instant, id: SideId) {
        if self.connections[&id.connection].shake != Shake::Done {
            return self.end_handshake(id, Shake::Asking);
        }
        self.cut_short(now, id);
        self.cut_short(now, id.other());
        self.orphan(now, id.other());
        self.bury(id);
    }

    /// One end goes during the handshake. The other may be told so, or be asked again in vain.
    fn end_handshake(&mut self, id: SideId, answer: Shake) {
        if id.side == OPENER {
            self.bury(id.other());
            self.bury(id);
        } else if self.connections[&id.connection].shake != Shake::Asking {
            self.connection_mut(id).shake = answer;
        }
    }
}
