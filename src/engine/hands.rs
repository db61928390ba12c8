//! What a shard acts by: performs its effects on sockets, files, maps and the other cores.

use std::net::TcpListener;
use std::sync::Arc;

use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::base::id::ShardId;
use crate::base::time::Instant;
use crate::engine::background::Lane;
use crate::engine::background::Request;
use crate::engine::connection::Connections;
use crate::engine::connection::Limit;
use crate::engine::disk::Disk;
use crate::engine::fairness::Asking;
use crate::engine::listener::Listeners;
use crate::engine::maps::Maps;
use crate::engine::mesh::Mesh;
use crate::engine::paths::Paths;
use crate::engine::uring::Uring;
use crate::protocol::shard::Door;
use crate::protocol::shard::Effect;
use crate::storage::effect as disk;
use crate::storage::effect::Bulk;
use crate::storage::effect::File;
use crate::storage::recovery::StartError;

/// A queue that was full is tried again so soon, if nothing else happens before.
pub(super) const HELD_UP_FOR: crate::base::time::Duration =
    crate::base::time::Duration::from_millis(1);

/// What a shard says about itself.
#[derive(Clone, Debug)]
pub(super) enum News {
    Started,
    Failed(StartError),
    /// It needs nothing of this adopted log any more.
    Released(LogId),
    Stopped,
}

/// Everything that belongs to the thread of one shard, but for the shard.
#[derive(Debug)]
pub(super) struct Hands {
    pub(super) ring: Uring,
    pub(super) disk: Disk,
    pub(super) maps: Maps,
    pub(super) lane: Lane,
    pub(super) mesh: Mesh,
    pub(super) connections: Connections,
    pub(super) listeners: Listeners,
    pub(super) news: Vec<News>,
}

/// What the hands of a shard are made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) shard: ShardId,
    pub(super) paths: Paths,
    pub(super) lane: Lane,
    pub(super) mesh: Mesh,
    pub(super) limit: Arc<Limit>,
    pub(super) sockets: Vec<(Door, TcpListener)>,
}

impl Hands {
    pub(super) fn new(ring: Uring, parts: Parts) -> Self {
        Self {
            ring,
            disk: Disk::new(parts.paths),
            maps: Maps::default(),
            lane: parts.lane,
            mesh: parts.mesh,
            connections: Connections::new(parts.limit),
            listeners: Listeners::new(parts.sockets),
            news: Vec::new(),
        }
    }

    /// Does what a shard asks for. Nothing of it waits.
    pub(super) fn perform(&mut self, now: Instant, effect: Effect, arena: &[u8]) {
        match effect {
            Effect::Disk(effect) => self.perform_disk(effect),
            Effect::Send { connection, bytes } => self.connections.send(connection, &arena[bytes]),
            Effect::Close { connection } => self.connections.close(now, connection),
            Effect::Abort { connection } => self.connections.abort(connection),
            Effect::StopReading { connection } => self.connections.set_reading(connection, false),
            Effect::StartReading { connection } => self.connections.set_reading(connection, true),
            Effect::Mesh { to, bytes } => self.mesh.say(to, &arena[bytes]),
            Effect::PeerConnect { .. } | Effect::PeerSend { .. } | Effect::PeerClose { .. } => {
                unreachable!("a node that is a cluster by itself has no peers")
            }
            Effect::Released(log) => self.news.push(News::Released(log)),
            Effect::Started => self.news.push(News::Started),
            Effect::Failed(error) => self.news.push(News::Failed(error)),
            Effect::Stopped => self.news.push(News::Stopped),
        }
    }

    fn perform_disk(&mut self, effect: disk::Effect) {
        match effect {
            disk::Effect::Append { ticket, segment, offset, buffer } => {
                self.disk.append(&mut self.ring, ticket, segment, offset, buffer);
            }
            disk::Effect::Read { ticket, segment, offset, length } => {
                self.disk.read(&mut self.ring, ticket, segment, offset, length);
            }
            disk::Effect::Bulk { ticket, operation } => {
                self.forget_names(&operation);
                self.lane.ask(Request::Bulk { ticket, operation });
            }
            disk::Effect::MakeResident { segment } => {
                let asking = self.maps.ask(segment);
                self.lane.ask(Request::MakeResident { segment, asking });
            }
            disk::Effect::DropResident { segment } => {
                if let Some(map) = self.maps.drop_segment(segment) {
                    self.lane.ask(Request::Unmap(map));
                }
            }
        }
    }

    /// A name that changes its file must be opened anew.
    fn forget_names(&mut self, operation: &Bulk) {
        let mut forget = |file: File| {
            if let File::Segment(segment) = file {
                self.disk.forget(segment);
            }
        };
        match operation {
            Bulk::Rename { from, to } => [*from, *to].into_iter().for_each(&mut forget),
            Bulk::Unlink { file } | Bulk::CreateZeroed { file, .. } => forget(*file),
            _ => {}
        }
    }

    /// The background answered an asking for a map. Returns what the shard is to hear.
    pub(super) fn mapped(
        &mut self,
        segment: SegmentId,
        asking: u64,
        result: Result<crate::engine::maps::Map, disk::Failure>,
    ) -> Option<Result<(), disk::Failure>> {
        let (map, told) = match result {
            Ok(map) => (Some(map), Ok(())),
            Err(failure) => (None, Err(failure)),
        };
        match self.maps.answer(segment, asking, map) {
            Ok(()) => Some(told),
            Err(unwanted) => {
                if let Some(map) = unwanted {
                    self.lane.ask(Request::Unmap(map));
                }
                None
            }
        }
    }

    /// The end of a turn: what was decided in it is asked of the kernel and of other threads, and this
    /// of clients that send much.
    pub(super) fn flush(&mut self, now: Instant, asking: Asking) {
        self.lane.flush();
        self.mesh.flush(now, &mut self.ring);
        self.connections.expire(now);
        self.connections.flush(&mut self.ring, asking);
        self.listeners.flush(now, &mut self.ring);
    }

    /// Whether there is something to do that needs no look at the ring.
    pub(super) fn has_ready(&self) -> bool {
        self.disk.has_ready()
            || self.connections.has_closed()
            || self.connections.has_waiting()
            || self.mesh.has_mail()
            || self.lane.has_answers()
    }

    /// When [`Hands::flush`] is due, if nothing else happens.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let held_up = self.mesh.is_held_up() || self.lane.is_held_up();
        let again = held_up.then(|| now + HELD_UP_FOR);
        [again, self.connections.deadline(), self.listeners.deadline()].into_iter().flatten().min()
    }
}
