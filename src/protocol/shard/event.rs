//! Everything that a shard may hear. With `effect`, the whole contract with a driver.

use std::net::SocketAddr;

use crate::base::id::ConnectionId;
use crate::base::id::LinkId;
use crate::base::id::LogId;
use crate::base::id::ShardId;
use crate::storage::effect as disk;

/// What happened. Bytes are lent for the time of the call.
#[derive(Debug)]
pub enum Event<'a> {
    /// The first event: begin to read the log. [`super::Effect::Started`] or
    /// [`super::Effect::Failed`] follows.
    Start,
    /// The disk did something, or could not.
    Disk(disk::Event<'a>),
    /// A client connected. Its number was never used before.
    Accepted {
        /// From now on its name.
        connection: ConnectionId,
        /// Where it comes from.
        peer: Peer,
    },
    /// Bytes came from a client, in order. Not called while [`super::Effect::StopReading`] holds,
    /// except for what the driver already had.
    Received {
        /// From whom.
        connection: ConnectionId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// The client will send no more. It still gets its answers.
    EndOfInput {
        /// Who.
        connection: ConnectionId,
    },
    /// Some of what was to be sent was sent.
    Sent {
        /// To whom.
        connection: ConnectionId,
        /// How many bytes left since this was told last.
        bytes: usize,
    },
    /// The client is gone, or the driver closed the connection as it was told to. Nothing more
    /// comes from it, nothing more is sent to it.
    Closed {
        /// Who.
        connection: ConnectionId,
    },
    /// Messages of another shard of this node, in the order in which they were sent.
    Mesh {
        /// Who sent them.
        from: ShardId,
        /// What an [`super::Effect::Mesh`] there named.
        bytes: &'a [u8],
    },
    /// The connection to another node is there that [`super::Effect::PeerConnect`] asked for.
    PeerOpened {
        /// Its name.
        link: LinkId,
    },
    /// Another node's shard connected to this one. Its number is one of [`LinkId::accepted`] and was
    /// never used before. Not before [`super::Effect::Started`].
    PeerAccepted {
        /// From now on its name.
        link: LinkId,
    },
    /// Bytes came from another node, in order.
    PeerReceived {
        /// On what.
        link: LinkId,
        /// At least one byte.
        bytes: &'a [u8],
    },
    /// Some of what was to be sent to another node was sent.
    PeerSent {
        /// On what.
        link: LinkId,
        /// How many bytes left since this was told last.
        bytes: usize,
    },
    /// The connection is gone, or could not be had. Nothing more comes of it.
    PeerClosed {
        /// Which.
        link: LinkId,
    },
    /// The files of an adopted log, which every shard of the node had released, are gone, durably.
    LogRemoved(LogId),
    /// The time that `Shard::deadline` named has come.
    Tick,
    /// All events that were at hand have been delivered: batches are closed now. Comes after every
    /// turn in which there was any other event.
    TurnEnd,
    /// Take no new requests, finish those at hand, write everything:
    /// [`super::Effect::Stopped`] follows.
    Stop,
}

/// Where a connection comes from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// The client's end.
    pub address: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Through which of the node's ports it came.
    pub door: Door,
}

/// A port of the node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Door {
    /// The one that all cores share.
    Shared,
    /// This core's own.
    Core,
}
