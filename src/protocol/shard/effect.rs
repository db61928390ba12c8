//! Everything that a shard may ask for. With `event`, the whole contract with a driver.
//!
//! A driver performs effects in order. Ranges name bytes of the outbox's arena, which are valid
//! until the next event: the driver copies them or writes them out before that.

use std::ops::Range;

use crate::base::id::ConnectionId;
use crate::base::id::LinkId;
use crate::base::id::LogId;
use crate::base::id::MemberId;
use crate::base::id::ShardId;
use crate::storage::effect as disk;
use crate::storage::recovery::StartError;

/// What is to be done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Do this on the disk.
    Disk(disk::Effect),
    /// Send these bytes after all that were sent before. Never blocks: the driver buffers, and
    /// tells by [`super::Event::Sent`] how much it holds.
    Send {
        /// To whom.
        connection: ConnectionId,
        /// Bytes of the arena.
        bytes: Range<usize>,
    },
    /// Close the connection when everything sent so far has left, or after a second if that does
    /// not happen. [`super::Event::Closed`] follows, whoever closed it.
    Close {
        /// Whom.
        connection: ConnectionId,
    },
    /// Close the connection at once; what was not sent is lost. [`super::Event::Closed`] follows.
    Abort {
        /// Whom.
        connection: ConnectionId,
    },
    /// Read nothing more from it for now: its requests wait.
    StopReading {
        /// From whom.
        connection: ConnectionId,
    },
    /// Read from it again.
    StartReading {
        /// From whom.
        connection: ConnectionId,
    },
    /// Bring these messages to another shard of this node, in order, once.
    Mesh {
        /// To whom.
        to: ShardId,
        /// Bytes of the arena.
        bytes: Range<usize>,
    },
    /// Connect to a shard of another node: [`super::Event::PeerOpened`] follows, or
    /// [`super::Event::PeerClosed`] if that cannot be.
    PeerConnect {
        /// From now on its name.
        link: LinkId,
        /// To whom.
        member: MemberId,
        /// To which of its shards.
        shard: ShardId,
    },
    /// Send these bytes after all that were sent before, as [`Effect::Send`].
    PeerSend {
        /// On what.
        link: LinkId,
        /// Bytes of the arena.
        bytes: Range<usize>,
    },
    /// Close the connection as [`Effect::Close`]: [`super::Event::PeerClosed`] follows, whoever
    /// closed it.
    PeerClose {
        /// Which.
        link: LinkId,
    },
    /// This shard needs nothing of an adopted log any more. When all shards of the node have said
    /// so, its files are removed and the node's layout names it no more; then
    /// [`super::Event::LogRemoved`].
    Released(LogId),
    /// Requests are answered from now on.
    Started,
    /// The log cannot be started: the node says why and ends.
    Failed(StartError),
    /// Everything is written, nothing is in flight: the thread may end.
    Stopped,
}
