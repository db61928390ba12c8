//! One partition's copy on this node (Riak's vnode): joins versions with what is stored.
//!
//! Reads and writes go to the log; what a version is, only this room and the coordinator know. A
//! put reads before it writes: the new version must know the clock of the old.

use crate::base::id::ActorId;
use crate::base::id::PartitionId;
use crate::base::outbox::Outbox;
use crate::base::time::Now;
use crate::protocol::version::Conflict;
use crate::protocol::version::Content;
use crate::protocol::version::Context;
use crate::protocol::version::DotSource;
use crate::protocol::version::HybridClock;
use crate::protocol::version::Record;
use crate::protocol::version::Write;
use crate::storage;
use crate::storage::Refusal;
use crate::storage::Store;
use crate::storage::effect::Effect;
use crate::storage::effect::Resident;
use crate::storage::location::Location;
use crate::storage::reading::Fetched;
use crate::storage::record::Order;

/// A key and what follows from it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its partition.
    pub partition: PartitionId,
    /// Its hash in the log.
    pub hash: u64,
}

/// What is stored of a key.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// Where.
    pub at: Location,
    /// When it was written.
    pub order: Order,
    /// The encoded record.
    pub bytes: &'a [u8],
}

/// What a look for a key found.
#[derive(Debug)]
pub enum Lookup<'a> {
    /// Nothing: the key has no record.
    Missing,
    /// Its record.
    Found(Held<'a>),
    /// This must be read first: [`Store::read`].
    Away(Location),
    /// It had a record, or may have had one, and nobody knows what it said. Where it is, if it is
    /// known: a put takes its place.
    Damaged(Option<Location>),
    /// This record is good, but a newer one may have been lost. A put takes its place.
    Doubtful(Location),
}

/// Looks for a key.
pub fn look_up<'a>(
    store: &'a Store,
    resident: &'a dyn Resident,
    target: &Target<'_>,
) -> Lookup<'a> {
    let (mut found, mut damaged): (Option<Held<'_>>, _) = (None, None);
    for at in store.find(target.partition, target.hash) {
        match store.fetch(at, resident) {
            Fetched::Away => return Lookup::Away(at),
            // It may be this key's, and newer than what else is found.
            Fetched::Damaged => damaged = Some(at),
            // Two stand side by side if one was written while the other could not be read.
            Fetched::Here(view) if view.key == target.key => {
                let order = view.header.order;
                if found.is_none_or(|held| held.order < order) {
                    found = Some(Held { at, order, bytes: view.value });
                }
            }
            Fetched::Here(_) => {}
        }
    }
    let lost_upto = store.damaged_upto();
    match (found, damaged) {
        (Some(held), None) if lost_upto.is_none_or(|upto| held.order > upto) => Lookup::Found(held),
        (Some(held), _) => Lookup::Doubtful(held.at),
        (None, Some(at)) => Lookup::Damaged(Some(at)),
        (None, None) if lost_upto.is_some() => Lookup::Damaged(None),
        (None, None) => Lookup::Missing,
    }
}

/// What a put came to.
#[derive(Debug)]
pub struct Stored {
    /// It is durable once [`Store::synced`] is at least this.
    pub sequence: u64,
    /// What the client gets when the put is acknowledged.
    pub context: Context,
    /// Versions that the object has now.
    pub siblings: usize,
}

/// Why a put was not stored. Nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PutError {
    /// The log refused it.
    Refused(Refusal),
    /// It would have been one sibling too many.
    TooManySiblings,
    /// The object would be longer than it may be.
    TooBig,
    /// What is stored cannot be read, though its checksum is right.
    Undecodable,
    /// What is stored must be read first: [`Store::read`], then try again.
    Away(Location),
}

/// Bounds on an object.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Versions of one key that a client may write.
    pub siblings_max: usize,
    /// Bytes of its values together. Its clock does not count: a write that supersedes all others
    /// must not be refused for what it makes smaller.
    pub object_bytes_max: usize,
}

/// A shard's writer: its dots, its clock.
#[derive(Debug)]
pub struct Replica {
    dots: DotSource,
    clock: HybridClock,
    /// The record that is being written, encoded.
    scratch: Vec<u8>,
}

impl Replica {
    /// The writer of this start. The actor is durable by now.
    pub fn new(actor: ActorId) -> Self {
        Self { dots: DotSource::new(actor), clock: HybridClock::default(), scratch: Vec::new() }
    }

    /// Writes a version of a key, in the place of its record, be that damaged or not.
    ///
    /// # Errors
    ///
    /// [`PutError`]: nothing was changed.
    #[allow(clippy::too_many_arguments)] // Each is another room's thing; a struct would only rename them.
    pub fn put(
        &mut self,
        now: Now,
        store: &mut Store,
        resident: &dyn Resident,
        target: &Target<'_>,
        write: Write<'_, '_>,
        conflict: Conflict,
        bounds: Bounds,
        out: &mut Outbox<Effect>,
    ) -> Result<Stored, PutError> {
        let lookup = look_up(store, resident, target);
        let (mut record, replaces) = match &lookup {
            Lookup::Found(held) => {
                let record = Record::decode(held.bytes).map_err(|_| PutError::Undecodable)?;
                (record, Some(held.at))
            }
            Lookup::Missing => (Record::new(&self.dots, conflict), None),
            Lookup::Damaged(at) => (Record::new(&self.dots, conflict), *at),
            Lookup::Doubtful(at) => (Record::new(&self.dots, conflict), Some(*at)),
            Lookup::Away(at) => return Err(PutError::Away(*at)),
        };
        let context = record.put(write, &mut self.dots, &mut self.clock, now.wall);
        let object = record.object();
        let siblings = object.sibling_count();
        if siblings > bounds.siblings_max {
            return Err(PutError::TooManySiblings);
        }
        let values = object.siblings().iter().map(|sibling| match sibling.content {
            Content::Value(value) => value.len(),
            Content::Tombstone => 0,
        });
        if values.sum::<usize>() > bounds.object_bytes_max {
            return Err(PutError::TooBig);
        }
        let tombstone =
            object.siblings().iter().all(|sibling| matches!(sibling.content, Content::Tombstone));
        self.scratch.clear();
        record.encode_into(&mut self.scratch);
        drop(record);
        let write = storage::Write {
            partition: target.partition,
            hash: target.hash,
            tombstone,
            key: target.key,
            value: &self.scratch,
            replaces,
        };
        let appended = store.append(now.monotonic, write, out).map_err(PutError::Refused)?;
        Ok(Stored { sequence: appended.sequence, context, siblings })
    }
}
