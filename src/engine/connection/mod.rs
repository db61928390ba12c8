//! The client connections of one core: bytes in, bytes out, and an end that loses no answer.
//!
//! # Receiving
//!
//! A client with small requests is received from until that ends: one operation serves them all. The
//! kernel then hands over whatever has come before it looks at anything else, which is megabytes
//! from a client that floods us. So a connection whose last piece was large, or of which nothing is
//! known yet, is received from one buffer at a time.
//!
//! Those with large pieces take turns: a turn of the loop asks for a piece of one of them, so
//! that it is short for the others however many flood. When buffers ran out all the same, those
//! that got none come first in the next turn, or the others would take all again.
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
use crate::engine::uring::Completion;
use crate::engine::uring::Held;
use crate::engine::uring::Lent;
use crate::engine::uring::OperationId;
use crate::engine::uring::Token;
use crate::engine::uring::Uring;
use crate::protocol::shard::Door;
use crate::protocol::shard::Peer;

/// Low bits of a connection's number: its slot. More than the descriptors of any process.
const SLOT_BITS: u32 = 20;

/// One send is no longer than this: the others wait while the kernel copies it.
const SEND_BYTES_MAX: usize = 64 * 1024;

/// A piece from this length on is large: handling it takes longer than asking for the next. No more
/// is asked of a connection of which nothing is known.
const LARGE_PIECE_BYTES: usize = 4 * 1024;

/// Of so many with large pieces a turn asks for one while there are clients with small requests:
/// these wait as long as that takes.
const LARGE_BESIDE_SMALL: usize = 1;

/// The same while there are none. Shorter turns cost more of the CPU, most of it in TCP.
const LARGE_ALONE: usize = 16;

/// So many turns after their last request there are no clients with small requests.
const TURNS_AFTER_SMALL: u32 = 64;

/// So many pieces in a row that were not large tell of a client with small requests.
const SHORT_PIECES: u8 = 4;

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
    /// Pieces since the last large one, up to [`SHORT_PIECES`].
    short_pieces: u8,
    /// The last piece was large.
    is_large: bool,
    /// It stands in the queue of those that take turns.
    queued: bool,
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

    fn wants_bytes(&self) -> bool {
        match self.stage {
            Stage::Open => self.reading && !self.at_end,
            Stage::Closing => !self.at_end,
            Stage::Ended | Stage::Dead => false,
        }
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
    /// Slots for which there was no buffer, so that they are looked at first.
    refused: Vec<u32>,
    /// Those with large pieces that are to be received from, the next first.
    taking_turns: VecDeque<ConnectionId>,
    /// Turns since a client with small requests sent one, up to [`TURNS_AFTER_SMALL`].
    turns_since_small: u32,
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
            refused: Vec::new(),
            taking_turns: VecDeque::new(),
            turns_since_small: TURNS_AFTER_SMALL,
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
            short_pieces: 0,
            is_large: false,
            queued: false,
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
                Errno::NOBUFS => self.refused.push(slot_of(id) as u32),
                // It goes on when the shard wants it to.
                Errno::CANCELED | Errno::INTR => {}
                _ => self.die(id),
            },
        }
        self.list(id);
        if let Some(lent) = &completion.lent {
            self.weigh(id, lent.length());
        }
        match completion.lent {
            Some(lent) if stage == Stage::Open => {
                self.counts.bytes_received += u64::from(completion.result.unwrap_or(0));
                Received::Bytes(lent)
            }
            Some(lent) => Received::Unwanted(lent),
            None => Received::Nothing,
        }
    }

    /// A piece came.
    fn weigh(&mut self, id: ConnectionId, bytes: usize) {
        let Some(connection) = self.get(id) else { return };
        if bytes >= LARGE_PIECE_BYTES {
            (connection.short_pieces, connection.is_large) = (0, true);
            return;
        }
        connection.is_large = false;
        connection.short_pieces = SHORT_PIECES.min(connection.short_pieces + 1);
        if connection.short_pieces == SHORT_PIECES {
            self.turns_since_small = 0;
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

    /// The end of a turn: everything that was decided in it is asked of the ring.
    pub(super) fn flush(&mut self, ring: &mut Uring) {
        // Whoever was refused stands in the other list too, and is found settled there.
        for slot in std::mem::take(&mut self.refused) {
            self.settle(slot, ring);
        }
        for slot in std::mem::take(&mut self.listed) {
            self.settle(slot, ring);
        }
        self.begin_turns(ring);
    }

    /// Receives from the next of those that take turns.
    fn begin_turns(&mut self, ring: &mut Uring) {
        let alone = self.turns_since_small == TURNS_AFTER_SMALL;
        let mut left = if alone { LARGE_ALONE } else { LARGE_BESIDE_SMALL };
        self.turns_since_small = TURNS_AFTER_SMALL.min(self.turns_since_small + 1);
        while left > 0
            && let Some(id) = self.taking_turns.pop_front()
        {
            // It may be gone, or not wanted any more.
            let Some(connection) = self.get(id) else { continue };
            connection.queued = false;
            if connection.receiving.is_none() && connection.wants_bytes() {
                left -= 1;
                receive(connection, ring);
            }
        }
    }

    /// Whether some that take turns have had none: there is another turn to be begun.
    pub(super) fn has_waiting(&self) -> bool {
        !self.taking_turns.is_empty()
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
        receive_or_not(connection, ring, &mut self.taking_turns);
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

/// Begins or ends receiving, or puts it in the queue of those that take turns.
fn receive_or_not(
    connection: &mut Connection,
    ring: &mut Uring,
    taking_turns: &mut VecDeque<ConnectionId>,
) {
    let wanted = connection.wants_bytes();
    match connection.receiving {
        None if !wanted => {}
        None if !connection.is_large => receive(connection, ring),
        None => {
            if !std::mem::replace(&mut connection.queued, true) {
                taking_turns.push_back(connection.id);
            }
        }
        // The dead were shut down, which ends it by itself.
        Some(operation)
            if (!wanted || (connection.receives_on && connection.short_pieces < SHORT_PIECES))
                && !connection.cancelling
                && connection.stage != Stage::Dead =>
        {
            connection.cancelling = true;
            ring.cancel(operation);
        }
        Some(_) => {}
    }
}

fn receive(connection: &mut Connection, ring: &mut Uring) {
    let token = Token::Receive(connection.id);
    connection.receives_on = connection.short_pieces == SHORT_PIECES;
    connection.receiving = Some(if connection.receives_on {
        ring.receive(token, &connection.socket)
    } else {
        let bytes_max = (!connection.is_large).then_some(LARGE_PIECE_BYTES as u32);
        ring.receive_once(token, &connection.socket, bytes_max)
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
