//! The local persistence engine (Dynamo, section 5): one log and one index a shard.
//!
//! [`Store`] is the room's door. It is a machine without I/O: it asks for [`effect::Effect`]s and
//! hears [`effect::Event`]s; a driver performs them on a disk, real or simulated.
//!
//! # The way of a write
//!
//! [`Store::append`] puts a record into the open batch and points the keydir to it: from then on it
//! is read from memory. [`Store::flush`] closes the batch when somebody waits for it and sends it
//! to the disk; when it and all before it are there, [`Store::synced`] moves. Where there is no room
//! now, nothing is changed, and [`Notice::Room`] says when to try again.
//!
//! # The way of a read
//!
//! [`Store::find`] names the records that may be the key's, [`Store::fetch`] brings one if it is in
//! memory. If it is not, [`Store::read`] asks the disk, and when [`Notice::Fetched`] comes the
//! request begins anew: whatever happened meanwhile, it finds the newest.
//!
//! # Rooms inside
//!
//! | file | what it knows |
//! |---|---|
//! | `record`, `batch`, `index_file`, `manifest`, `layout` | bytes on the disk |
//! | `location`, `keydir`, `segments`, `cache` | what is where, in memory |
//! | `commit` | batches, and what is durable |
//! | `scan`, `log_end`, `past`, `recovery`, `restore`, `collisions` | a start |
//! | `reading` | from a location to its bytes |
//! | `residency` | which segments are read from memory |
//! | `script`, `lanes`, `compaction` | what goes on in the background |
//!
//! # Invariants
//!
//! - What [`Store::synced`] covers is there after any crash, or is known to be damaged.
//! - What a start finds is a prefix of what was appended: no holes.
//! - Damage is never "not found" and never an older value: see [`reading::Fetched::Damaged`].
//! - After the first write that failed nothing more is acknowledged ([`Health::Poisoned`]).

// The wall: what touches the world is listed in .clippy.toml and refused from here down.
#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

pub mod batch;
pub mod cache;
pub mod collisions;
pub mod commit;
pub mod compaction;
pub mod effect;
pub mod index_file;
pub mod keydir;
mod lanes;
pub mod layout;
pub mod location;
pub mod log_end;
pub mod manifest;
mod opening;
pub mod past;
pub mod reading;
pub mod record;
pub mod recovery;
mod residency;
pub mod restore;
pub mod scan;
pub mod script;
pub mod segments;

use std::collections::BTreeMap;
use std::collections::VecDeque;

use crate::base::aligned::PAGE_BYTES;
use crate::base::id::ActorId;
use crate::base::id::LogId;
use crate::base::id::PartitionId;
use crate::base::id::Ticket;
use crate::base::outbox::Outbox;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::storage::batch::BATCH_HEADER_BYTES;
use crate::storage::batch::FIRST_BATCH_OFFSET;
use crate::storage::cache::Cache;
use crate::storage::commit::Commit;
use crate::storage::effect::Effect;
use crate::storage::effect::Event;
use crate::storage::effect::Failure;
use crate::storage::index_file::IndexEntry;
use crate::storage::keydir::Keydir;
use crate::storage::lanes::Lanes;
use crate::storage::location::Location;
use crate::storage::location::Marks;
use crate::storage::location::SegmentSlot;
use crate::storage::manifest::Manifest;
use crate::storage::opening::Opening;
use crate::storage::reading::PendingRead;
use crate::storage::record::NewRecord;
use crate::storage::record::Order;
use crate::storage::recovery::StartError;
use crate::storage::restore::Counts;
use crate::storage::segments::Image;
use crate::storage::segments::Segments;
use crate::storage::segments::Stage;

/// Complete segments without a keydir file, at most: until they have one, their batches stay in
/// memory in any case. Where the background does not keep up, writes wait for it.
const UNINDEXED_MAX: usize = 8;

/// How a log behaves. Checked by [`Settings::check`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// The log that this shard writes.
    pub log: LogId,
    /// Logs of earlier layouts of shards, which it reads.
    pub adopted: Vec<LogId>,
    /// Which partitions are this shard's, by their numbers; empty: all of them. Records of others in
    /// adopted logs are other shards' business.
    pub owned: Vec<bool>,
    /// How many times the shards have been laid out anew: above that of every adopted log.
    pub generation: u16,
    /// Partitions of the ring.
    pub partitions: u16,
    /// The length of a segment's file, in bytes: whole pages.
    pub segment_bytes: u32,
    /// How batches are formed.
    pub commit: commit::Settings,
    /// Segments prepared ahead of a log that fills them, at least one.
    pub segments_ahead: usize,
    /// Bytes appended and not yet durable, beyond which appends must wait.
    pub unsynced_bytes_max: usize,
    /// Bytes of sealed segments that the driver keeps resident.
    pub resident_bytes_max: u64,
    /// Bytes of records kept after a read from the disk.
    pub cache_bytes_max: usize,
    /// Garbage in complete segments, in percent of their bytes, at which compaction begins.
    pub garbage_percent: u8,
    /// After so long without an append the log says on the disk how far it is synced.
    pub checkpoint_after: Duration,
}

impl Settings {
    /// What a node uses unless it is told otherwise.
    pub fn new(log: LogId, partitions: u16) -> Self {
        Self {
            log,
            adopted: Vec::new(),
            owned: Vec::new(),
            generation: 0,
            partitions,
            segment_bytes: 32 * 1024 * 1024,
            commit: commit::Settings {
                batch_bytes: 256 * 1024,
                in_flight_max: 3,
                eager_bytes: 16 * 1024,
            },
            // 96 MiB of a log that writes: a second or two of the fastest, in which the background
            // comes by even on a machine whose cores are all busy.
            segments_ahead: 3,
            unsynced_bytes_max: 16 * 1024 * 1024,
            resident_bytes_max: 1024 * 1024 * 1024,
            cache_bytes_max: 16 * 1024 * 1024,
            garbage_percent: 50,
            checkpoint_after: Duration::from_millis(200),
        }
    }

    /// The longest record that fits, in bytes with its header.
    pub fn record_bytes_max(&self) -> usize {
        (self.segment_bytes as usize)
            .saturating_sub(FIRST_BATCH_OFFSET as usize + PAGE_BYTES + BATCH_HEADER_BYTES)
    }

    /// # Panics
    ///
    /// If the settings contradict each other. They come from checked configuration.
    fn check(&self) {
        // A compaction may copy one segment more than it has room for.
        assert!(self.segment_bytes <= location::SEGMENT_BYTES_MAX / 2, "offsets must fit");
        assert!((self.segment_bytes as usize).is_multiple_of(PAGE_BYTES), "whole pages");
        assert!(self.segment_bytes as usize >= 4 * PAGE_BYTES, "room for records and a seal");
        assert!((self.commit.batch_bytes as usize).is_multiple_of(PAGE_BYTES), "whole pages");
        assert!(self.commit.batch_bytes > 0, "a batch of nothing");
        assert!(self.commit.in_flight_max > 0, "a log that writes nothing");
        assert!(self.segments_ahead > 0, "a log that never goes on");
        assert!((1..100).contains(&self.garbage_percent), "a share of the whole");
    }
}

/// A record to append.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// The partition of its key.
    pub partition: PartitionId,
    /// The hash of its key.
    pub hash: u64,
    /// Whether it says that the key is deleted.
    pub tombstone: bool,
    /// At least one byte, at most [`crate::base::limits::KEY_BYTES_MAX`].
    pub key: &'a [u8],
    /// For the log only bytes.
    pub value: &'a [u8],
    /// The record of this key that it takes the place of, as it was found just now.
    pub replaces: Option<Location>,
}

/// A record that is in the write buffer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Appended {
    /// Where it will be.
    pub location: Location,
    /// It is durable once [`Store::synced`] is at least this.
    pub sequence: u64,
}

/// Why a record was not taken. Nothing was changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The disk is full. It heals by itself when there is room.
    ReadOnly,
    /// A write failed; only a restart heals it.
    Poisoned,
    /// The log has no room now: no segment is ready, or too much waits to be synced.
    /// [`Notice::Room`] comes when that has changed.
    NoRoom,
    /// It is longer than any segment has room for.
    TooBig,
    /// The log's numbers are used up: see [`record::SEQUENCE_MAX`]. Reads go on.
    NoNumbers,
    /// The log is not open, or is stopping.
    Closed,
}

/// What a log tells its owner.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notice {
    /// All records are known, the actor of this start is durable: requests may come.
    Started,
    /// The log cannot be started.
    Failed(StartError),
    /// Everything up to this sequence is durable.
    Synced {
        /// See [`Store::synced`].
        upto: u64,
    },
    /// A read ended. Find and fetch again; if it failed, the request fails.
    Fetched {
        /// Which read.
        ticket: Ticket,
        /// Whether the record is in the cache now.
        result: Result<(), Failure>,
    },
    /// Nothing of this adopted log is needed here any more. It stays in the tables until
    /// [`Store::forget_log`]: as long as its files are there, the next start reads them.
    Released(LogId),
    /// An append that had [`Refusal::NoRoom`] is worth another try: there is room, or it is known
    /// that there will be none ([`Refusal::ReadOnly`]).
    Room,
    /// A write failed. What was not synced by then never will be.
    Poisoned,
    /// The log was stopped cleanly.
    Stopped,
}

/// Whether a log takes writes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Health {
    /// Not open yet.
    Opening,
    /// It takes writes.
    Open,
    /// The disk is full: reads go on.
    ReadOnly,
    /// A write failed: see [`Refusal::Poisoned`].
    Poisoned,
    /// Stopping or stopped.
    Closed,
}

/// Plain counts of what a log did since its start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// What the start met.
    pub start: Counts,
    /// Batches written.
    pub batches: u64,
    /// Bytes of batches written, with their padding.
    pub batch_bytes: u64,
    /// Records read from the disk for requests.
    pub cold_reads: u64,
    /// Records found bad since the start.
    pub damaged: u64,
    /// Compactions that ended.
    pub compactions: u64,
    /// Compactions that were given up.
    pub compactions_abandoned: u64,
    /// Files used again instead of new ones.
    pub recycled: u64,
    /// Times that the disk had no room for a segment.
    pub no_space: u64,
}

/// The segment that records are appended to.
#[derive(Clone, Copy, Debug)]
struct Active {
    slot: SegmentSlot,
    /// Where the next batch will stand.
    offset: u32,
}

/// The log and the index of one shard.
#[derive(Debug)]
pub struct Store {
    settings: Settings,
    health: Health,
    opening: Option<Box<Opening>>,
    manifest: Manifest,
    keydirs: Vec<Keydir>,
    segments: Segments,
    commit: Commit,
    active: Option<Active>,
    cache: Cache,
    reads: BTreeMap<Ticket, PendingRead>,
    reading: BTreeMap<Location, Ticket>,
    appends: BTreeMap<Ticket, (u64, SegmentSlot)>,
    lanes: Lanes,
    /// Somebody had no room and is to hear when there is.
    room_is_awaited: bool,
    notices: VecDeque<Notice>,
    last_ticket: u64,
    last_append_at: Instant,
    counters: Counters,
}

impl Store {
    /// A log that is not open. `entropy` draws the actor of this start: true randomness on a real
    /// node, for an actor must never come twice.
    pub fn new(settings: Settings, entropy: u64) -> Self {
        settings.check();
        let manifest = Manifest {
            log: settings.log,
            generation: settings.generation,
            partitions: settings.partitions,
            epoch: 0,
            actor: ActorId::new(entropy),
            damaged_upto: Order(0),
            ends: Vec::new(),
        };
        Self {
            health: Health::Opening,
            opening: Some(Box::new(Opening::new(&settings))),
            manifest,
            keydirs: Vec::new(),
            segments: Segments::default(),
            commit: Commit::new(settings.commit, 0, 0),
            active: None,
            cache: Cache::new(settings.cache_bytes_max),
            reads: BTreeMap::new(),
            reading: BTreeMap::new(),
            appends: BTreeMap::new(),
            lanes: Lanes::default(),
            room_is_awaited: false,
            notices: VecDeque::new(),
            last_ticket: 0,
            last_append_at: Instant::START,
            counters: Counters::default(),
            settings,
        }
    }

    /// Begins to read what is on the disk. [`Notice::Started`] or [`Notice::Failed`] ends it.
    pub fn start(&mut self, out: &mut Outbox<Effect>) {
        self.continue_opening(out);
    }

    /// Hears of the disk.
    pub fn handle(&mut self, now: Instant, event: Event<'_>, out: &mut Outbox<Effect>) {
        match event {
            Event::Appended { ticket, result } => self.on_appended(ticket, result, out),
            Event::Read { ticket, result } => self.on_read(ticket, result, out),
            Event::Bulk { ticket, result } => {
                if self.opening.is_some() {
                    self.on_opening(result, out);
                } else {
                    self.on_bulk(now, ticket, result, out);
                }
            }
            Event::Resident { segment, result } => self.on_resident(segment, result),
        }
        if self.opening.is_none() {
            self.run_lanes(now, out);
        }
    }

    /// Does what is due by now: see [`Store::deadline`].
    pub fn tick(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        if self.opening.is_some() {
            return;
        }
        if self.checkpoint_at().is_some_and(|at| at <= now) {
            self.checkpoint(out);
        }
        if self.holds_idle_memory() {
            self.commit.free_some_spares();
            self.lanes.free_arena();
        }
        self.take_turn(now, out);
        self.run_lanes(now, out);
    }

    /// When [`Store::tick`] should be called, if nothing else happens.
    pub fn deadline(&self) -> Option<Instant> {
        let idle = self.holds_idle_memory().then_some(Instant::START);
        [self.checkpoint_at(), self.lanes_deadline(), idle].into_iter().flatten().min()
    }

    /// Whether there is memory for writes to come, and none came for a while.
    fn holds_idle_memory(&self) -> bool {
        let writes = !self.commit.is_quiet() || self.commit.checkpoint_due();
        !writes && (self.commit.spare_bytes() > 0 || self.lanes.holds_arena())
    }

    /// What there is to tell, oldest first.
    pub fn next_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether it takes writes.
    pub fn health(&self) -> Health {
        self.health
    }

    /// The writer of this start. Durable once [`Notice::Started`] was given.
    pub fn actor(&self) -> ActorId {
        self.manifest.actor
    }

    /// What was done so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Everything appended with at most this sequence is durable.
    pub fn synced(&self) -> u64 {
        self.commit.synced()
    }

    /// Whether a record that was fetched is durable.
    pub fn is_synced(&self, order: Order) -> bool {
        order.generation() != self.settings.generation || order.sequence() <= self.commit.synced()
    }

    /// The keys of a partition.
    pub fn keydir(&self, partition: PartitionId) -> &Keydir {
        &self.keydirs[partition.to_raw() as usize]
    }

    /// Bytes of memory of all keydirs.
    pub fn keydir_bytes(&self) -> usize {
        self.keydirs.iter().map(Keydir::memory_bytes).sum()
    }

    /// Bytes of segment files, with those that stand ready to be used, and the bytes of complete
    /// segments that no live record uses.
    pub fn disk_bytes(&self) -> (u64, u64) {
        let unused = self.lanes.prepared.len() + self.lanes.recyclable.len();
        let unused = unused as u64 * u64::from(self.settings.segment_bytes);
        self.segments.iter().fold((unused, 0), |(all, garbage), (_, segment)| {
            (all + u64::from(segment.file_bytes), garbage + segment.garbage_bytes())
        })
    }

    /// Bytes of memory of batches that are read as they were written, and of buffers for more.
    pub fn buffer_bytes(&self) -> usize {
        let images = self.segments.iter().filter_map(|(_, segment)| segment.image.as_ref());
        images.map(Image::bytes).sum::<usize>() + self.commit.spare_bytes()
    }

    /// Bytes that were appended and are not durable.
    pub fn unsynced_bytes(&self) -> usize {
        self.commit.unsynced_bytes()
    }

    /// Appends a record and points the keydir to it. It can be read at once.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: nothing was changed.
    ///
    /// # Panics
    ///
    /// If `replaces` is not in the keydir: the caller found it in the same turn.
    pub fn append(
        &mut self,
        now: Instant,
        write: Write<'_>,
        out: &mut Outbox<Effect>,
    ) -> Result<Appended, Refusal> {
        let length = record::record_length(write.key.len(), write.value.len());
        self.make_room(length, out)?;
        // Decided when a key comes into being, and kept as long as it lives: see `collisions`.
        let collides = match write.replaces {
            Some(old) => old.marks().collides,
            None => !self.find(write.partition, write.hash).is_empty(),
        };
        let record_of = |order| NewRecord {
            order,
            hash: write.hash,
            partition: write.partition,
            tombstone: write.tombstone,
            collides,
            key: write.key,
            value: write.value,
        };
        let slot = self.commit.open().expect("room was made in it").slot;
        let generation = self.settings.generation;
        let (offset, order) =
            self.commit.append(generation, length, |buffer, segment, offset, order| {
                record::write(buffer, segment, offset, &record_of(order));
            });
        let marks = Marks { tombstone: write.tombstone, damaged: false, collides };
        let at = Location::new(slot, offset, length, marks);
        self.count_append(at, order, &write);
        let keydir = &mut self.keydirs[write.partition.to_raw() as usize];
        match write.replaces {
            Some(old) => {
                assert!(keydir.replace(write.hash, old, at), "it was found in this turn");
                self.segments.bury(old, old.counted_length());
            }
            None => keydir.insert(write.hash, at, order),
        }
        self.last_append_at = now;
        Ok(Appended { location: at, sequence: order.sequence() })
    }

    /// Whether tombstones may be forgotten. Not once records of unknown keys were lost: a key with
    /// a newer tombstone is known to be deleted, and without it nobody would know what it was.
    pub fn may_reap(&self) -> bool {
        self.health == Health::Open && self.damaged_upto().is_none()
    }

    /// Forgets a tombstone that nobody needs any more: its key costs no memory then. False if it is
    /// not there, is no tombstone, its segment is not known to be synced to its end, or a damaged
    /// record may be its key's, which it alone outranks.
    pub fn reap(&mut self, partition: PartitionId, hash: u64, at: Location) -> bool {
        let stage = self.segments.get(at.slot()).stage;
        let synced = at.marks().tombstone && matches!(stage, Stage::Synced | Stage::Indexed);
        let damaged = self.find(partition, hash).into_iter().any(|other| other.marks().damaged);
        let ready = synced && !damaged && self.may_reap();
        if !ready || !self.keydirs[partition.to_raw() as usize].remove(hash, at) {
            return false;
        }
        self.segments.bury(at, at.counted_length());
        true
    }

    /// The files of an adopted log that was [`Notice::Released`] are gone, durably.
    pub fn forget_log(&mut self, log: LogId) {
        for slot in self.segments_of(log) {
            self.cache.forget_segment(slot);
            self.segments.remove(slot);
            self.lanes.consider_compaction = true;
        }
    }

    /// Somebody waits for everything appended so far.
    pub fn want_sync(&mut self) {
        self.commit.want_sync();
    }

    /// The end of a turn: closes the open batch if it is due, and writes what may be written.
    pub fn flush(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        self.send_due_batch(out);
        if self.opening.is_none() && self.wants_segment() {
            self.run_lanes(now, out);
        }
    }

    fn send_due_batch(&mut self, out: &mut Outbox<Effect>) {
        if self.commit.close_due() {
            self.close_batch();
        }
        self.write_batches(out);
    }

    /// Writes everything, then keydir files and the mark of a clean stop: [`Notice::Stopped`].
    pub fn stop(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        if self.health == Health::Poisoned || self.opening.is_some() {
            self.notices.push_back(Notice::Stopped);
            return;
        }
        self.health = Health::Closed;
        self.commit.want_sync();
        self.close_batch();
        self.write_batches(out);
        self.lanes.stopping = true;
        self.run_lanes(now, out);
    }

    fn segments_of(&self, log: LogId) -> Vec<SegmentSlot> {
        let all = self.segments.iter();
        all.filter(|(_, segment)| segment.id.log == log).map(|(slot, _)| slot).collect()
    }

    fn ticket(&mut self) -> Ticket {
        self.last_ticket += 1;
        Ticket::new(self.last_ticket)
    }

    /// Makes sure that the open batch has room for a record.
    fn make_room(&mut self, length: usize, out: &mut Outbox<Effect>) -> Result<(), Refusal> {
        match self.health {
            Health::Open | Health::ReadOnly => {}
            Health::Poisoned => return Err(Refusal::Poisoned),
            Health::Opening | Health::Closed => return Err(Refusal::Closed),
        }
        if length > self.settings.record_bytes_max() {
            return Err(Refusal::TooBig);
        }
        if self.commit.unsynced_bytes() + length > self.settings.unsynced_bytes_max
            && self.commit.unsynced_bytes() > 0
        {
            // No other event need come that would let what waits be synced.
            self.commit.want_sync();
            self.send_due_batch(out);
            return Err(self.no_room());
        }
        if self.commit.fits(length) {
            return Ok(());
        }
        self.close_batch();
        self.write_batches(out);
        if self.active.is_none_or(|active| self.room(active) < batch_length(length)) {
            self.roll(out)?;
        }
        let active = self.active.expect("there is one with room");
        let segment = self.segments.get(active.slot).id;
        self.commit.begin(active.slot, segment, active.offset, length, self.room(active));
        Ok(())
    }

    /// Bytes for batches that the active segment has left: its last page is kept for the seal.
    fn room(&self, active: Active) -> u32 {
        let seal = self.segments.get(active.slot).file_bytes - PAGE_BYTES as u32;
        seal.saturating_sub(active.offset)
    }

    /// Whether there are numbers for all the records that one more segment may have.
    fn has_numbers(&self) -> bool {
        let most = u64::from(self.settings.segment_bytes) / record::RECORD_BYTES_MIN as u64;
        self.commit.last_sequence() + most < record::SEQUENCE_MAX
    }

    /// Seals the active segment, if there is one, and goes on in the first one that is prepared.
    fn roll(&mut self, out: &mut Outbox<Effect>) -> Result<(), Refusal> {
        if !self.has_numbers() {
            return Err(Refusal::NoNumbers);
        }
        let unindexed = |segment: &segments::Segment| {
            matches!(segment.stage, Stage::Sealed | Stage::Synced) && segment.image.is_some()
        };
        if self.segments.iter().filter(|(_, it)| unindexed(it)).count() >= UNINDEXED_MAX {
            return Err(self.no_room());
        }
        let Some(next) = self.lanes.prepared.pop_front() else {
            return Err(match self.health {
                Health::ReadOnly => Refusal::ReadOnly,
                _ => self.no_room(),
            });
        };
        self.seal(out);
        let mut segment = segments::Segment::new(
            next,
            self.settings.segment_bytes,
            self.commit.epoch(),
            Stage::Active,
        );
        segment.image = Some(segments::Image::default());
        let slot = self.segments.add(segment);
        self.active = Some(Active { slot, offset: FIRST_BATCH_OFFSET });
        Ok(())
    }

    fn no_room(&mut self) -> Refusal {
        self.room_is_awaited = true;
        Refusal::NoRoom
    }

    /// Something changed for whoever had no room.
    fn tell_room(&mut self) {
        if std::mem::take(&mut self.room_is_awaited) {
            self.notices.push_back(Notice::Room);
        }
    }

    /// Ends the active segment with a batch that says so.
    fn seal(&mut self, out: &mut Outbox<Effect>) {
        self.close_batch();
        let Some(active) = self.active.take() else { return };
        self.lanes.has_rolled = true;
        self.push_empty(active, true);
        self.segments.get_mut(active.slot).stage = Stage::Sealed;
        self.write_batches(out);
    }

    /// Says on the disk how far the log is synced.
    fn checkpoint(&mut self, out: &mut Outbox<Effect>) {
        let Some(active) = self.active else { return };
        if self.room(active) < PAGE_BYTES as u32 {
            self.seal(out);
        } else {
            self.push_empty(active, false);
            self.active = Some(Active { offset: active.offset + PAGE_BYTES as u32, ..active });
            self.write_batches(out);
        }
    }

    fn checkpoint_at(&self) -> Option<Instant> {
        let open = matches!(self.health, Health::Open | Health::ReadOnly);
        (open && self.active.is_some() && self.commit.checkpoint_due())
            .then(|| self.last_append_at + self.settings.checkpoint_after)
    }

    fn push_empty(&mut self, active: Active, seal: bool) {
        let id = self.segments.get(active.slot).id;
        let generation = self.settings.generation;
        let batch = self.commit.close_empty(active.slot, id, active.offset, generation, seal);
        let (number, buffer) = (batch.number, batch.buffer.clone());
        let segment = self.segments.get_mut(active.slot);
        segment.unsynced_batches += 1;
        segment.last_batch = number;
        if let Some(image) = &mut segment.image {
            image.push(active.offset, buffer);
        }
    }

    fn close_batch(&mut self) {
        let Some(batch) = self.commit.close() else { return };
        let (slot, offset, buffer) = (batch.slot, batch.offset, batch.buffer.clone());
        let number = batch.number;
        let active = self.active.as_mut().expect("a batch is filled in the active segment");
        assert_eq!((active.slot, active.offset), (slot, offset), "batches follow one another");
        active.offset += buffer.len() as u32;
        let segment = self.segments.get_mut(slot);
        segment.unsynced_batches += 1;
        segment.last_batch = number;
        segment.image.as_mut().expect("the active segment is in memory").push(offset, buffer);
    }

    fn write_batches(&mut self, out: &mut Outbox<Effect>) {
        if self.health == Health::Poisoned {
            return;
        }
        while let Some(batch) = self.commit.next_write() {
            let (number, slot, segment) = (batch.number, batch.slot, batch.segment);
            let (offset, buffer) = (batch.offset, batch.buffer.clone());
            self.counters.batches += 1;
            self.counters.batch_bytes += buffer.len() as u64;
            let ticket = self.ticket();
            self.appends.insert(ticket, (number, slot));
            out.push(Effect::Append { ticket, segment, offset, buffer });
        }
    }

    fn count_append(&mut self, at: Location, order: Order, write: &Write<'_>) {
        let segment = self.segments.get_mut(at.slot());
        segment.count_record(at.counted_length(), order);
        segment.index.push(IndexEntry {
            order,
            hash: write.hash,
            offset: at.offset(),
            length: record::record_length(write.key.len(), write.value.len()) as u32,
            partition: write.partition,
            tombstone: write.tombstone,
            collides: at.marks().collides,
        });
        self.segments.enliven(at, at.counted_length());
    }

    fn on_appended(
        &mut self,
        ticket: Ticket,
        result: Result<(), Failure>,
        out: &mut Outbox<Effect>,
    ) {
        let (number, _) = self.appends.remove(&ticket).expect("it was asked for");
        if result.is_err() || self.health == Health::Poisoned {
            // The kernel marks the pages clean: a second try would succeed and mean nothing.
            self.poison();
            return;
        }
        let before = self.commit.synced();
        for batch in self.commit.completed(number) {
            let segment = self.segments.get_mut(batch.slot);
            segment.unsynced_batches -= 1;
            if segment.stage == Stage::Sealed && segment.unsynced_batches == 0 {
                segment.stage = Stage::Synced;
            }
            if batch.is_empty() {
                self.lanes.vouched_for_more();
            }
        }
        if self.commit.synced() > before {
            self.notices.push_back(Notice::Synced { upto: self.commit.synced() });
            self.tell_room();
        }
        self.write_batches(out);
    }

    fn poison(&mut self) {
        if self.health != Health::Poisoned {
            self.health = Health::Poisoned;
            self.notices.push_back(Notice::Poisoned);
            if self.lanes.stopping {
                // Nothing more will be written, so nothing else would end the stop.
                self.notices.push_back(Notice::Stopped);
            }
        }
    }
}

/// The hash of a key as the log keeps it: stable for ever, keyed so that nobody can choose keys
/// that collide without knowing the data directory.
pub fn key_hash(seed: u64, key: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64_with_seed(key, seed)
}

fn batch_length(record_length: usize) -> u32 {
    (BATCH_HEADER_BYTES + record_length).next_multiple_of(PAGE_BYTES) as u32
}

#[cfg(test)]
mod tests;
