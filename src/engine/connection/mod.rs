//! The client connections of one core: bytes in, bytes out, and an end that loses no answer.
//!
//! # Receiving
//!
//! [`Pace`] and [`Turns`] tell who is received from next. When buffers ran out all the same, those that got none
//! come first in the next turn, or the others would take all again. What comes after the end is thrown
//! away by the kernel.
//!
//! # Sending
//!
//! One send is in flight for each connection. What is to be sent meanwhile gathers in a second
//! buffer, and the two are swapped when the first has left: the answers of a turn are one send.
//!
//! # The end of a connection
//!
//! | stage | what holds |
//! |---|---|
//! | `Open` | requests are read, answers are sent |
//! | `Ended` | the client sends no more, but may still read: its answers are sent, and the shard closes after the last |
//! | `Closing` | we close: what was sent before leaves first. What the client still sends is read and thrown away, because closing a socket with unread bytes resets it, and then the last answer may never arrive |
//! | `Dead` | the socket is closed once nothing is in flight on it, and only then its slot is used again |
//!
//! A connection's number names its slot in its low bits and grows in the others, so that a late
//! completion or effect finds nothing.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use rustix::io::Errno;
use rustix::net::SendFlags;
use rustix::net::Shutdown;

use crate::base::id::ConnectionId;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::engine::fairness::Asking;
use crate::engine::fairness::Pace;
use crate::engine::fairness::Turns;
use crate::engine::uring::BufferGroup;
use crate::engine::uring::Completion;
use crate::engine::uring::Held;
use crate::engine::uring::LONG_BUFFER_BYTES;
use crate::engine::uring::Lent;
use crate::engine::uring::OperationId;
use crate::engine::uring::SHORT_BUFFER_BYTES;
use crate::engine::uring::Token;
use crate::engine::uring::Uring;
use crate::protocol::shard::Door;
use crate::protocol::shard::Peer;

/// Low bits of a connection's number: its slot. More than the descriptors of any process.
const SLOT_BITS: u32 = 20;

/// One send is no longer than this: the others wait while the kernel copies it.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// What comes after the end is thrown away in pieces of up to this: a turn is short for the others.
const DISCARD_BYTES_MAX: u32 = 256 * 1024;

/// A longer buffer is not kept for an idle connection.
const KEPT_BYTES_MAX: usize = 32 * 1024;

/// What was sent before a close has so long to leave.
const CLOSE_AFTER: Duration = Duration::from_secs(1);

/// To a client beyond the limit.
const TOO_MANY: &[u8] = b"-ERR max number of clients reached\r\n";

/// How many clients the node has, and may have. Shared by its cores.
#[derive(Debug)]
pub(super) struct Limit {
    clients: AtomicUsize,
    max: usize,
}

impl Limit {
    /// A limit of `max` clients.
    pub(super) fn new(max: usize) -> Self {
        Self { clients: AtomicUsize::new(0), max }
    }

    fn enter(&self) -> bool {
        let before = self.clients.fetch_add(1, Ordering::Relaxed);
        if before >= self.max {
            self.leave();
        }
        before < self.max
    }

    fn leave(&self) {
        self.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Open,
    Ended,
    Closing,
    Dead,
}

#[derive(Debug)]
struct Connection {
    id: ConnectionId,
    socket: Rc<OwnedFd>,
    stage: Stage,
    /// The shard wants its bytes.
    reading: bool,
    /// It will send no more.
    at_end: bool,
    /// We told it that we send no more.
    shut: bool,
    receiving: Option<OperationId>,
    /// It receives until that ends, not once.
    receives_on: bool,
    pace: Pace,
    /// So many bytes were asked for, and whether the last piece was as long: there is more.
    asked: u32,
    filled: bool,
    /// It waits for its turn to be received from, so nothing is in flight.
    takes_turns: bool,
    cancelling: bool,
    /// The send in flight has `leaving`.
    sending: bool,
    /// What is being sent, from `left` on; empty while the ring has it.
    leaving: Vec<u8>,
    leaving_bytes: usize,
    left: usize,
    /// What is to be sent after that.
    pending: Vec<u8>,
    /// It stands in the list of those that need a look at the end of the turn.
    listed: bool,
    /// The shard knows that it is closed.
    told: bool,
}

impl Connection {
    fn unsent(&self) -> usize {
        self.leaving_bytes - self.left + self.pending.len()
    }

    /// Whether what it sends is for the shard.
    fn wants_pieces(&self) -> bool {
        self.stage == Stage::Open && self.reading && !self.at_end
    }

    /// Whether what it sends is thrown away.
    fn discards(&self) -> bool {
        self.stage == Stage::Closing && !self.at_end
    }
}

/// What is to be done about something that was received.
#[derive(Debug)]
pub(super) enum Received {
    /// Hand them to the shard, then give them back.
    Bytes(Lent),
    /// Nobody wants them: give them back.
    Unwanted(Lent),
    /// Tell the shard that no more will come.
    End,
    Nothing,
}

/// Plain counts.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) open: u64,
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) bytes_received: u64,
    pub(super) bytes_sent: u64,
}

/// The client connections of one core.
#[derive(Debug)]
pub(super) struct Connections {
    limit: Arc<Limit>,
    slots: Vec<Option<Connection>>,
    free: Vec<u32>,
    last_serial: u64,
    /// Slots that need a look at the end of the turn.
    listed: Vec<u32>,
    /// Those for which there was no buffer: they come first.
    without_buffer: Vec<ConnectionId>,
    turns: Turns,
    /// Those that were closed, and since when; the oldest first.
    closing: VecDeque<(Instant, ConnectionId)>,
    /// What the shard is to be told.
    closed: VecDeque<ConnectionId>,
    counts: Counts,
}

impl Connections {
    /// None yet.
    pub(super) fn new(limit: Arc<Limit>) -> Self {
        Self {
            limit,
            slots: Vec::new(),
            free: Vec::new(),
            last_serial: 0,
            listed: Vec::new(),
            without_buffer: Vec::new(),
            turns: Turns::default(),
            closing: VecDeque::new(),
            closed: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// A client connected. `None`: it was turned away.
    pub(super) fn accept(&mut self, socket: OwnedFd, door: Door) -> Option<(ConnectionId, Peer)> {
        // It may be gone already, and then has no address.
        let address = ip(rustix::net::getpeername(&socket).ok()??)?;
        let local = ip(rustix::net::getsockname(&socket).ok()?)?;
        if !self.limit.enter() {
            self.counts.refused += 1;
            let _ = rustix::net::send(&socket, TOO_MANY, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            let _ = rustix::net::shutdown(&socket, Shutdown::Write);
            return None;
        }
        self.counts.accepted += 1;
        self.counts.open += 1;
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.last_serial += 1;
        let id = ConnectionId::new(self.last_serial << SLOT_BITS | u64::from(slot));
        self.slots[slot as usize] = Some(Connection {
            id,
            socket: Rc::new(socket),
            stage: Stage::Open,
            reading: true,
            at_end: false,
            shut: false,
            receiving: None,
            receives_on: false,
            pace: Pace::NEW,
            asked: 0,
            filled: false,
            takes_turns: false,
            cancelling: false,
            sending: false,
            leaving: Vec::new(),
            leaving_bytes: 0,
            left: 0,
            pending: Vec::new(),
            listed: false,
            told: false,
        });
        self.list(id);
        Some((id, Peer { address, local, door }))
    }

    /// Takes a completion of [`Token::Receive`].
    pub(super) fn received(&mut self, id: ConnectionId, completion: Completion) -> Received {
        let connection = self.get(id).expect("its slot is not used again while it receives");
        if !completion.more {
            connection.receiving = None;
            connection.cancelling = false;
        }
        let stage = connection.stage;
        match completion.result {
            Ok(0) => {
                connection.at_end = true;
                self.list(id);
                return self.end_input(id, completion.lent);
            }
            Ok(_) => {}
            Err(errno) => match Errno::from_raw_os_error(errno) {
                Errno::NOBUFS => {
                    connection.pace = connection.pace.without_buffer();
                    self.without_buffer.push(id);
                }
                // It goes on when the shard wants it to.
                Errno::CANCELED | Errno::INTR => {}
                _ => self.die(id),
            },
        }
        self.list(id);
        match completion.lent {
            Some(lent) if stage == Stage::Open => {
                self.counts.bytes_received += lent.length() as u64;
                if let Some(connection) = self.get(id) {
                    connection.pace = connection.pace.after(lent.length());
                    connection.filled = lent.length() == connection.asked as usize;
                }
                Received::Bytes(lent)
            }
            Some(lent) => Received::Unwanted(lent),
            None => Received::Nothing,
        }
    }

    fn end_input(&mut self, id: ConnectionId, lent: Option<Lent>) -> Received {
        let connection = self.get(id).expect("it was just there");
        let was_open = connection.stage == Stage::Open;
        if was_open {
            connection.stage = Stage::Ended;
        }
        match lent {
            // The kernel gives no buffer with nothing in it; if it did, it must come back.
            Some(lent) => Received::Unwanted(lent),
            None if was_open => Received::End,
            None => Received::Nothing,
        }
    }

    /// Takes a completion of [`Token::Send`]. Returns how much left, if the shard is to hear.
    pub(super) fn sent(&mut self, id: ConnectionId, completion: Completion) -> Option<usize> {
        let connection = self.get(id).expect("its slot is not used again while it sends");
        connection.sending = false;
        if let Held::Bytes(bytes) = completion.held {
            connection.leaving = bytes;
        }
        match completion.result {
            Ok(count) if count > 0 => {
                connection.left += count as usize;
                let told = connection.told;
                self.counts.bytes_sent += u64::from(count);
                self.list(id);
                (!told).then_some(count as usize)
            }
            _ => {
                self.die(id);
                None
            }
        }
    }

    /// Sends after all that was sent before. Bytes for a connection that is gone go nowhere.
    pub(super) fn send(&mut self, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.get(id) else { return };
        if matches!(connection.stage, Stage::Open | Stage::Ended) {
            connection.pending.extend_from_slice(bytes);
            self.list(id);
        }
    }

    /// Closes it when everything sent so far has left.
    pub(super) fn close(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        if matches!(connection.stage, Stage::Open | Stage::Ended) {
            connection.stage = Stage::Closing;
            self.closing.push_back((now, id));
            self.list(id);
        }
    }

    /// Whether its bytes are wanted.
    pub(super) fn set_reading(&mut self, id: ConnectionId, reading: bool) {
        if let Some(connection) = self.get(id) {
            connection.reading = reading;
            self.list(id);
        }
    }

    /// The end of a turn: everything that was decided in it is asked of the ring, and this of those
    /// that take turns.
    pub(super) fn flush(&mut self, ring: &mut Uring, asking: Asking) {
        self.serve_without_buffer(ring);
        for slot in std::mem::take(&mut self.listed) {
            self.settle(slot, ring);
        }
        for _ in 0..asking.pieces {
            let Some(connection) = self.next_turn() else { break };
            receive(connection, ring, asking.bulk_bytes);
        }
    }

    /// They stand in the list too, and are found settled there.
    fn serve_without_buffer(&mut self, ring: &mut Uring) {
        let ids = std::mem::take(&mut self.without_buffer);
        for id in ids.iter().rev() {
            if let Some(connection) = self.get(*id)
                && connection.pace.is_large()
                && connection.wants_pieces()
            {
                connection.takes_turns = true;
                self.turns.push_first(*id);
            }
        }
        for id in ids {
            self.settle(slot_of(id) as u32, ring);
        }
    }

    /// The next of those that take turns. It may be gone, or not wanted any more.
    fn next_turn(&mut self) -> Option<&mut Connection> {
        loop {
            let id = self.turns.pop()?;
            let Some(connection) = self.get(id) else { continue };
            connection.takes_turns = false;
            if connection.wants_pieces() {
                return self.get(id);
            }
        }
    }

    /// Whether a piece of it that came is as long as was asked for: there is more.
    pub(super) fn is_bulk(&self, id: ConnectionId, piece: &Lent) -> bool {
        let connection = self.slots[slot_of(id)].as_ref().filter(|connection| connection.id == id);
        connection.is_some_and(|connection| connection.asked as usize == piece.length())
    }

    /// Whether some that take turns have had none: there is another turn to be begun.
    pub(super) fn has_waiting(&self) -> bool {
        !self.turns.is_empty()
    }

    /// Closes it at once.
    pub(super) fn abort(&mut self, id: ConnectionId) {
        self.die(id);
    }

    /// Ends what was closed long enough ago.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some((since, id)) = self.closing.front().copied()
            && (since + CLOSE_AFTER <= now || self.get(id).is_none())
        {
            self.closing.pop_front();
            self.die(id);
        }
    }

    /// When [`Connections::expire`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.closing.front().map(|(since, _)| *since + CLOSE_AFTER)
    }

    /// Those that the shard is to be told of, oldest first.
    pub(super) fn next_closed(&mut self) -> Option<ConnectionId> {
        self.closed.pop_front()
    }

    /// Whether [`Connections::next_closed`] has something.
    pub(super) fn has_closed(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Whether everything that was sent has left.
    pub(super) fn all_sent(&self) -> bool {
        self.slots.iter().flatten().all(|connection| connection.unsent() == 0)
    }

    /// Plain counts.
    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    fn get(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(slot_of(id))?;
        slot.as_mut().filter(|connection| connection.id == id)
    }

    fn list(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        if !connection.listed {
            connection.listed = true;
            self.listed.push(slot_of(id) as u32);
        }
    }

    /// Nothing more is sent or read. The kernel ends what is in flight.
    fn die(&mut self, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        if connection.stage == Stage::Dead {
            return;
        }
        connection.stage = Stage::Dead;
        connection.pending = Vec::new();
        if connection.receiving.is_some() || connection.sending {
            // It may be gone by itself.
            let _ = rustix::net::shutdown(&connection.socket, Shutdown::Both);
        }
        if !std::mem::replace(&mut connection.told, true) {
            self.closed.push_back(id);
        }
        self.list(id);
    }

    /// Makes what is in flight fit to what is wanted.
    fn settle(&mut self, slot: u32, ring: &mut Uring) {
        let Some(connection) = &mut self.slots[slot as usize] else { return };
        connection.listed = false;
        if connection.stage != Stage::Dead && !connection.sending {
            send_next(connection, ring);
        }
        if connection.stage == Stage::Closing && connection.unsent() == 0 {
            if !std::mem::replace(&mut connection.told, true) {
                self.closed.push_back(connection.id);
            }
            if !std::mem::replace(&mut connection.shut, true) {
                // It may be gone by itself.
                let _ = rustix::net::shutdown(&connection.socket, Shutdown::Write);
            }
            if connection.at_end {
                connection.stage = Stage::Dead;
            }
        }
        receive_or_not(connection, ring, &mut self.turns);
        let idle = connection.receiving.is_none() && !connection.sending;
        if connection.stage == Stage::Dead && idle {
            self.slots[slot as usize] = None;
            self.free.push(slot);
            self.counts.open -= 1;
            self.limit.leave();
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        self.slots.iter().flatten().for_each(|_| self.limit.leave());
    }
}

fn send_next(connection: &mut Connection, ring: &mut Uring) {
    if connection.left == connection.leaving_bytes {
        connection.leaving.clear();
        std::mem::swap(&mut connection.leaving, &mut connection.pending);
        (connection.left, connection.leaving_bytes) = (0, connection.leaving.len());
        for buffer in [&mut connection.leaving, &mut connection.pending] {
            if buffer.is_empty() && buffer.capacity() > KEPT_BYTES_MAX {
                *buffer = Vec::new();
            }
        }
    }
    let from = connection.left;
    let to = connection.leaving_bytes.min(from + SEND_BYTES_MAX);
    if from < to {
        connection.sending = true;
        let bytes = std::mem::take(&mut connection.leaving);
        ring.send(Token::Send(connection.id), &connection.socket, bytes, from, to);
    }
}

/// Begins or ends receiving, or lets it wait for its turn.
fn receive_or_not(connection: &mut Connection, ring: &mut Uring, turns: &mut Turns) {
    let wanted = connection.wants_pieces();
    match connection.receiving {
        None if connection.discards() => {
            let token = Token::Receive(connection.id);
            let discarding = ring.discard(token, &connection.socket, DISCARD_BYTES_MAX);
            connection.receiving = Some(discarding);
            connection.receives_on = false;
        }
        None if !wanted || connection.takes_turns => {}
        None if connection.pace.is_large() => {
            connection.takes_turns = true;
            turns.push(connection.id);
        }
        None => receive(connection, ring, SHORT_BUFFER_BYTES as u32),
        // The dead were shut down, which ends it by itself.
        Some(operation) if !connection.cancelling && connection.stage != Stage::Dead => {
            let unfit = connection.receives_on && connection.pace != Pace::Small;
            if unfit || !(wanted || connection.discards()) {
                connection.cancelling = true;
                ring.cancel(operation);
            }
        }
        Some(_) => {}
    }
}

/// Receives in the way that fits its pace; at most so many bytes where it has more than was asked for.
fn receive(connection: &mut Connection, ring: &mut Uring, bulk_bytes: u32) {
    let (token, socket) = (Token::Receive(connection.id), &connection.socket);
    let (group, asked) = match connection.pace {
        Pace::Unknown { .. } | Pace::Small => (BufferGroup::Short, SHORT_BUFFER_BYTES as u32),
        Pace::Large { .. } if connection.filled => (BufferGroup::Long, bulk_bytes),
        Pace::Large { .. } => (BufferGroup::Long, LONG_BUFFER_BYTES as u32),
    };
    connection.asked = asked;
    connection.receives_on = connection.pace == Pace::Small;
    connection.receiving = Some(if connection.receives_on {
        ring.receive(token, socket)
    } else {
        ring.receive_once(token, socket, group, asked)
    });
}

/// An IPv4 client of an IPv6 port is known by its IPv4 address.
fn ip(address: rustix::net::SocketAddrAny) -> Option<SocketAddr> {
    let address = SocketAddr::try_from(address).ok()?;
    Some(SocketAddr::new(address.ip().to_canonical(), address.port()))
}

fn slot_of(id: ConnectionId) -> usize {
    (id.to_raw() & ((1 << SLOT_BITS) - 1)) as usize
}
