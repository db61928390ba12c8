//! How many keys a node has: `DBSIZE`.
//!
//! Each core knows how many it has without a look at any of them. The core that was asked asks the
//! others, and adds up. As no reader is shown what a crash could take back, each core's part waits
//! until the last write is synced that may have changed it; where writes are acknowledged from the
//! buffer they are counted at once, as they are read at once.

use crate::base::id::PartitionId;
use crate::base::id::ShardId;
use crate::base::time::Instant;
use crate::protocol::coordinator::RequestError;
use crate::protocol::session::Outcome;
use crate::protocol::session::RequestId;
use crate::protocol::shard::keeper::Keeper;
use crate::protocol::shard::mesh;
use crate::protocol::shard::mesh::Kind;
use crate::protocol::shard::parked::Asked;
use crate::protocol::shard::parked::Origin;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::number;
use crate::protocol::wire::reply;

/// What a question to another core begins with when it asks for a count. Its deadline follows.
const QUESTION_COUNT: u8 = 2;

/// A count that waits for the parts of some cores.
#[derive(Debug)]
pub(super) struct Count {
    request: RequestId,
    missing: u16,
    sum: i64,
}

impl Keeper {
    /// Counts the keys of all cores, or of this one alone.
    pub(super) fn count(
        &mut self,
        request: RequestId,
        deadline: Instant,
        own_only: bool,
        out: &mut Vec<u8>,
    ) -> Outcome {
        let shards = self.node.shards();
        if own_only || shards == 1 {
            return self.count_own(Origin::Here(request), deadline, out);
        }
        if self.stopping {
            return self.refuse(RequestError::Stopping, out);
        }
        for shard in (0..shards).filter(|shard| ShardId::new(*shard) != self.shard) {
            let queue = &mut self.mesh[usize::from(shard)];
            mesh::put(queue, Kind::Question, request, Protocol::default(), |out| {
                out.push(QUESTION_COUNT);
                mesh::put_deadline(deadline, out);
            });
        }
        self.counts.push(Count { request, missing: shards, sum: 0 });
        let mut part = Vec::new();
        let origin = Origin::Count(self.shard, request);
        let counted = self.count_own(origin, deadline, &mut part) == Outcome::Done;
        match counted.then(|| self.add_part(request, &part)).flatten() {
            Some(reply) => {
                out.extend_from_slice(&reply);
                Outcome::Done
            }
            None => Outcome::Parked,
        }
    }

    /// Counts the keys of this core.
    pub(super) fn count_own(
        &mut self,
        origin: Origin,
        deadline: Instant,
        out: &mut Vec<u8>,
    ) -> Outcome {
        match self.check_readable() {
            // What it counts is synced, and stays.
            Err(RequestError::Stopping) if self.counted_upto <= self.store.synced() => {}
            Err(error) => return self.refuse(error, out),
            Ok(()) => {}
        }
        let before = out.len();
        reply::integer(out, self.keys_and_tombstones().0 as i64);
        let asked = Asked { origin, protocol: Protocol::default(), deadline };
        self.tell_when_synced(asked, self.counted_upto, before, out)
    }

    /// Adds one core's part. The reply, if that was the last one, or says that there is none.
    pub(super) fn add_part(&mut self, request: RequestId, part: &[u8]) -> Option<Vec<u8>> {
        let at = self.counts.iter().position(|count| count.request == request)?;
        let count = &mut self.counts[at];
        if part.starts_with(b"-") {
            self.counts.remove(at);
            return Some(part.to_vec());
        }
        let digits = part.strip_prefix(b":").and_then(|part| part.strip_suffix(b"\r\n"));
        count.sum += number::parse(digits.unwrap_or_default()).expect("our own integer");
        count.missing -= 1;
        if count.missing > 0 {
            return None;
        }
        let mut reply = Vec::new();
        reply::integer(&mut reply, self.counts.remove(at).sum);
        Some(reply)
    }

    /// How many keys of this core have a value as far as the log knows, and how many have none.
    pub(super) fn keys_and_tombstones(&self) -> (u64, u64) {
        if self.replica.is_none() {
            return (0, 0);
        }
        let partitions = (0..self.node.partitions.count()).map(PartitionId::new);
        partitions.fold((0, 0), |(keys, tombstones), partition| {
            let keydir = self.store.keydir(partition);
            let values = keydir.values();
            (keys + values as u64, tombstones + (keydir.len() - values) as u64)
        })
    }
}

/// The deadline of another core's count, if a question is that.
pub(super) fn asked_by_another(question: &[u8]) -> Option<Instant> {
    let rest = question.strip_prefix(&[QUESTION_COUNT])?;
    Some(mesh::awaited(rest).0)
}
