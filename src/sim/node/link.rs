//! One connection as the wire between a virtual client and a shard: bytes in pieces, both ways.

use std::collections::VecDeque;

use super::keys::KeyIndex;
use super::oracle::state::Command;
use super::oracle::state::OperationId;
use crate::base::time::Instant;

/// What a request asked for.
#[derive(Clone, Debug)]
pub(super) enum Asked {
    /// One key, or several by a command over several.
    Keys(Vec<Part>),
    /// A put with the context of another key.
    ForeignContext,
    /// `PING`, or anything that any answer fits.
    Nothing,
    /// `DBSIZE`.
    DbSize,
    /// `CLUSTER COUNTKEYSINSLOT`: of the only key of a slot, it says whether that exists.
    CountSlot(Vec<Part>),
    /// One step of a walk: of those of these keys that it tells, it says that they exist.
    Scan(Vec<Part>),
    /// `DYN.STATS`.
    Stats,
}

impl Asked {
    /// The keys of which its answer may say something.
    pub(super) fn parts(&self) -> &[Part] {
        match self {
            Self::Keys(parts) | Self::CountSlot(parts) | Self::Scan(parts) => parts,
            _ => &[],
        }
    }

    pub(super) fn parts_mut(&mut self) -> &mut [Part] {
        match self {
            Self::Keys(parts) | Self::CountSlot(parts) | Self::Scan(parts) => parts,
            _ => &mut [],
        }
    }
}

/// One key of a request.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) key: KeyIndex,
    pub(super) command: Command,
    /// Milliseconds from its arrival on.
    pub(super) lives: Option<u64>,
    /// Once it came.
    pub(super) id: Option<OperationId>,
}

impl Part {
    /// Whether a key exists, as something tells that is asked of more than keys.
    pub(super) fn exists(key: KeyIndex) -> Self {
        Self { key, command: Command::Exists, lives: None, id: None }
    }
}

/// A request that has no reply yet.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) asked: Asked,
    /// Where in the stream it ends.
    pub(super) end: u64,
    pub(super) arrived: bool,
    pub(super) arrived_at: Instant,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Ending {
    Open,
    /// The client will send no more, once everything is there.
    HalfClosing,
    /// It said so.
    HalfClosed,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) client: usize,
    pub(super) shard: usize,
    /// Sent by the client and not delivered.
    pub(super) upstream: VecDeque<u8>,
    /// Bytes ever sent by the client, and of those delivered.
    pub(super) written: u64,
    pub(super) delivered: u64,
    pub(super) deliver_at: Instant,
    /// The shard wants no more for now.
    pub(super) stopped: bool,
    /// A piece that the driver already had may still be delivered.
    pub(super) grace: bool,
    pub(super) requests: VecDeque<Request>,
    pub(super) ending: Ending,
    /// Replies not yet whole.
    pub(super) inbox: Vec<u8>,
    /// Sent by the shard and not taken.
    pub(super) unsent: usize,
    pub(super) sent_at: Instant,
    /// The shard said that it is over.
    pub(super) closing: bool,
}

impl Link {
    pub(super) fn new(client: usize, shard: usize, now: Instant) -> Self {
        Self {
            client,
            shard,
            upstream: VecDeque::new(),
            written: 0,
            delivered: 0,
            deliver_at: now,
            stopped: false,
            grace: false,
            requests: VecDeque::new(),
            ending: Ending::Open,
            inbox: Vec::new(),
            unsent: 0,
            sent_at: now,
            closing: false,
        }
    }

    /// The client sends a request.
    pub(super) fn send(&mut self, bytes: &[u8], asked: Asked) {
        self.upstream.extend(bytes);
        self.written += bytes.len() as u64;
        let end = self.written;
        let arrived_at = Instant::START;
        self.requests.push_back(Request { asked, end, arrived: false, arrived_at });
    }

    fn can_deliver(&self) -> bool {
        !self.closing && (!self.stopped || self.grace)
    }

    /// When something happens on it by itself.
    pub(super) fn next_at(&self) -> Option<Instant> {
        let has_piece = !self.upstream.is_empty() || self.ending == Ending::HalfClosing;
        let deliver = (has_piece && self.can_deliver()).then_some(self.deliver_at);
        let sent = (self.unsent > 0 || self.closing).then_some(self.sent_at);
        [deliver, sent].into_iter().flatten().min()
    }

    /// Whether that is a delivery.
    pub(super) fn delivers_first(&self) -> bool {
        let has_piece = !self.upstream.is_empty() || self.ending == Ending::HalfClosing;
        let sends = self.unsent > 0 || self.closing;
        has_piece && self.can_deliver() && (!sends || self.deliver_at <= self.sent_at)
    }

    /// Takes the first bytes of what the client sent.
    pub(super) fn take(&mut self, length: usize) -> Vec<u8> {
        self.delivered += length as u64;
        self.grace = false;
        self.upstream.drain(..length).collect()
    }
}
