//! What a log does in the background: segments prepared ahead, keydir files, compaction,
//! the removal of what is not needed, and the clean stop.
//!
//! Each lane has at most one operation in flight. A lane that fails gives up what it did, waits a
//! while and begins anew: nothing of it was promised to anybody. Two failures are more than that,
//! and are treated so: files of a failed compaction are removed, durably, before the next one may
//! begin (they might hold records that others take for gone), and a segment counts as there until
//! its removal is durable.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;

use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::base::id::Ticket;
use crate::base::outbox::Outbox;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::storage::Health;
use crate::storage::Notice;
use crate::storage::Store;
use crate::storage::batch::SegmentHeader;
use crate::storage::compaction;
use crate::storage::compaction::Compaction;
use crate::storage::compaction::Next;
use crate::storage::compaction::Tables;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::Effect;
use crate::storage::effect::Failure;
use crate::storage::effect::File;
use crate::storage::index_file::IndexHeader;
use crate::storage::location::SegmentSlot;
use crate::storage::manifest::EpochEnd;
use crate::storage::record::Order;
use crate::storage::recovery::READ_FAILURES_MAX;
use crate::storage::script::Script;
use crate::storage::script::Temporaries;
use crate::storage::segments::Residency;
use crate::storage::segments::Segment;
use crate::storage::segments::Stage;

/// After a failure a lane waits so long.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Old files that are kept for use as new segments, at most: a start removes them all.
const RECYCLABLE_MAX: usize = 32;

/// Segments that no compaction takes: the active one, and that of the last batch called synced.
const UNTAKEN: usize = 2;

/// What an operation in flight belongs to.
#[derive(Debug)]
enum Job {
    Prepare { segment: SegmentId, temporary: File, script: Script },
    Index { slot: SegmentSlot, temporary: File, script: Script },
    Compact,
    CleanUp { files: Vec<File>, script: Script },
    Remove { slot: SegmentSlot, kept: Option<File>, script: Script },
    Stop { script: Script },
}

/// The state of all lanes.
#[derive(Debug, Default)]
pub(in crate::storage) struct Lanes {
    jobs: BTreeMap<Ticket, Job>,
    /// Segments that are ready to become the active one, in the order of their numbers.
    pub(in crate::storage) prepared: VecDeque<SegmentId>,
    preparing: bool,
    /// The segment whose preparation failed last. The next try is for the same one: if it had got
    /// its name after all, it would stand empty between others, as one that lost its batches does.
    unprepared: Option<SegmentId>,
    indexing: bool,
    removing: bool,
    /// The segment whose removal failed last: its file may have been renamed already.
    unsure_of: Option<SegmentSlot>,
    /// Old files kept for use as new segments: see [`Store::recyclable_max`].
    pub(in crate::storage) recyclable: Vec<File>,
    /// A segment was filled since the start.
    pub(in crate::storage) has_rolled: bool,
    compaction: Option<Box<Compaction>>,
    compacting: bool,
    /// Memory of the last compaction for the next one.
    arena: Vec<u8>,
    /// Adopted logs of which it was said that they are not needed here.
    released: BTreeSet<LogId>,
    /// Files of a compaction that failed, to be removed before the next.
    remains: Vec<File>,
    retry_at: Option<Instant>,
    /// The same for preparing.
    prepare_at: Option<Instant>,
    /// Something changed that may make a compaction worth while.
    pub(in crate::storage) consider_compaction: bool,
    pub(in crate::storage) temporaries: Temporaries,
    pub(in crate::storage) last_number: u32,
    pub(in crate::storage) start_is_untold: bool,
    /// The victim that could not be read, once for each time in a row.
    pub(in crate::storage) unread: Vec<SegmentSlot>,
    pub(in crate::storage) stopping: bool,
    pub(in crate::storage) failed: bool,
    stop_begun: bool,
}

impl Lanes {
    /// Gives memory back that the next compaction would use: nothing was written for a while.
    pub(in crate::storage) fn free_arena(&mut self) {
        self.arena = Vec::new();
    }

    /// Whether there is memory that no compaction uses.
    pub(in crate::storage) fn holds_arena(&self) -> bool {
        self.arena.capacity() > 0
    }

    /// What waited for a batch that calls it synced may be compacted.
    pub(in crate::storage) fn vouched_for_more(&mut self) {
        self.consider_compaction = true;
    }
}

impl Store {
    /// Begins whatever may begin now.
    pub(in crate::storage) fn run_lanes(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        if self.lanes.failed || self.health == Health::Poisoned {
            return;
        }
        if self.lanes.retry_at.is_some_and(|at| at <= now) {
            self.lanes.retry_at = None;
            self.lanes.consider_compaction = true;
        }
        if self.lanes.prepare_at.is_some_and(|at| at <= now) {
            self.lanes.prepare_at = None;
            self.lanes.consider_compaction = true;
        }
        self.begin_index(out);
        self.settle_images(out);
        self.begin_remove(out);
        if self.lanes.released.len() < self.settings.adopted.len() {
            self.release_logs(out);
        }
        if self.lanes.stopping {
            self.begin_stop(out);
        } else {
            if self.lanes.prepare_at.is_none() {
                self.begin_prepare(out);
            }
            if self.lanes.retry_at.is_none() {
                self.run_compaction(now, out);
            }
        }
    }

    pub(in crate::storage) fn lanes_deadline(&self) -> Option<Instant> {
        if self.lanes.failed || self.health == Health::Poisoned {
            return None;
        }
        let idle = !self.lanes.compacting && self.lanes.retry_at.is_none() && !self.lanes.stopping;
        if idle && self.lanes.compaction.is_none() && self.lanes.consider_compaction {
            return Some(Instant::START);
        }
        if let Some(compaction) = self.lanes.compaction.as_deref()
            && idle
            && !self.compaction_awaits(compaction)
        {
            return Some(Instant::START);
        }
        [self.lanes.retry_at, self.lanes.prepare_at].into_iter().flatten().min()
    }

    pub(in crate::storage) fn on_bulk(
        &mut self,
        now: Instant,
        ticket: Ticket,
        result: Result<Done, Failure>,
        out: &mut Outbox<Effect>,
    ) {
        let job = self.lanes.jobs.remove(&ticket).expect("it was asked for");
        if result == Err(Failure::NoSpace) {
            // A copy has no other room than theirs, and will make more.
            let compacts = matches!(job, Job::Compact);
            self.keep_recyclable(if compacts { 0 } else { self.settings.segments_ahead });
        }
        match (job, result) {
            (Job::Compact, result) => self.on_compact(now, result),
            (job, Ok(_)) => self.advance(job, out),
            (job, Err(failure)) => self.give_up(now, job, failure),
        }
    }

    fn begin(&mut self, job: Job, operation: Bulk, out: &mut Outbox<Effect>) {
        let ticket = self.ticket();
        self.lanes.jobs.insert(ticket, job);
        out.push(Effect::Bulk { ticket, operation });
    }

    /// Goes on with a job whose last operation is done.
    fn advance(&mut self, mut job: Job, out: &mut Outbox<Effect>) {
        let script = match &mut job {
            Job::Prepare { script, .. }
            | Job::Index { script, .. }
            | Job::CleanUp { script, .. }
            | Job::Remove { script, .. }
            | Job::Stop { script } => script,
            Job::Compact => unreachable!("a compaction goes on by itself"),
        };
        match script.next_operation() {
            Some(operation) => self.begin(job, operation, out),
            None => self.finish(job),
        }
    }

    fn finish(&mut self, job: Job) {
        match job {
            Job::Prepare { segment, .. } => {
                self.lanes.preparing = false;
                self.lanes.unprepared = None;
                self.lanes.prepared.push_back(segment);
                if self.health == Health::ReadOnly {
                    self.health = Health::Open;
                }
                self.tell_room();
                self.tell_start();
            }
            Job::Index { slot, .. } => {
                self.lanes.indexing = false;
                self.lanes.consider_compaction = true;
                self.segments.get_mut(slot).stage = Stage::Indexed;
                self.tell_room();
            }
            Job::CleanUp { files, .. } => {
                self.lanes.compacting = false;
                self.lanes.remains.retain(|file| !files.contains(file));
            }
            Job::Remove { slot, kept, .. } => {
                self.lanes.removing = false;
                self.lanes.unsure_of.take_if(|unsure| *unsure == slot);
                self.lanes.recyclable.extend(kept);
                self.cache.forget_segment(slot);
                self.segments.remove(slot);
                // A tombstone that was carried for what it held may go.
                self.lanes.consider_compaction = true;
            }
            Job::Stop { .. } => self.notices.push_back(Notice::Stopped),
            Job::Compact => unreachable!("a compaction ends by itself"),
        }
    }

    fn give_up(&mut self, now: Instant, job: Job, failure: Failure) {
        // Writes wait for segments: nothing else that fails may hold their preparing up.
        let retry_at = match job {
            Job::Prepare { .. } => &mut self.lanes.prepare_at,
            _ => &mut self.lanes.retry_at,
        };
        *retry_at = Some(now + RETRY_AFTER);
        match job {
            Job::Prepare { segment, temporary, .. } => {
                self.lanes.preparing = false;
                self.lanes.remains.push(temporary);
                if failure == Failure::NoSpace {
                    self.counters.no_space += 1;
                }
                self.lanes.unprepared = Some(segment);
                if self.health == Health::Open && self.lanes.prepared.is_empty() {
                    self.health = Health::ReadOnly;
                    self.tell_room();
                }
                self.tell_start();
            }
            Job::Index { slot, temporary, .. } => {
                // Without a keydir file the segment is read at the next start: slower, not wrong.
                self.lanes.indexing = false;
                if temporary.log() == self.settings.log {
                    self.lanes.remains.push(temporary);
                }
                self.segments.get_mut(slot).stage = Stage::Indexed;
                self.tell_room();
            }
            Job::CleanUp { .. } => self.lanes.compacting = false,
            Job::Remove { slot, kept, .. } => {
                self.lanes.removing = false;
                self.lanes.unsure_of = Some(slot);
                self.lanes.remains.extend(kept);
            }
            Job::Stop { .. } => self.notices.push_back(Notice::Stopped),
            Job::Compact => unreachable!("a compaction fails by itself"),
        }
    }

    fn tell_start(&mut self) {
        if std::mem::take(&mut self.lanes.start_is_untold) {
            self.notices.push_back(Notice::Started);
        }
    }

    fn next_number(&mut self) -> SegmentId {
        self.lanes.last_number += 1;
        SegmentId { log: self.settings.log, number: self.lanes.last_number }
    }

    /// Whether another segment is to be prepared. A log that has not filled one since its start
    /// keeps one ahead, for most logs are small; one that does keeps several, because it may fill
    /// them faster than the background comes by.
    pub(in crate::storage) fn wants_segment(&self) -> bool {
        let ahead = if self.lanes.has_rolled { self.settings.segments_ahead } else { 1 };
        !self.lanes.preparing && self.lanes.prepared.len() < ahead
    }

    /// Keeps segments ready ahead: really written, synced, and their names synced. One after the
    /// other, so that they are ready in the order of their numbers.
    fn begin_prepare(&mut self, out: &mut Outbox<Effect>) {
        if !self.wants_segment() {
            return;
        }
        self.lanes.preparing = true;
        let log = self.settings.log;
        let segment = match self.lanes.unprepared {
            Some(segment) => segment,
            None => self.next_number(),
        };
        let header = SegmentHeader { segment, epoch: self.commit.epoch(), compacted: None };
        let mut script = Script::default();
        let temporary = match self.lanes.recyclable.pop() {
            Some(old) => {
                self.counters.recycled += 1;
                old
            }
            None => {
                let file = self.lanes.temporaries.next(log);
                let length = u64::from(self.settings.segment_bytes);
                script.push(Bulk::CreateZeroed { file, length });
                file
            }
        };
        script.push(Bulk::Write { file: temporary, offset: 0, bytes: header.to_page() });
        script.push(Bulk::Sync { file: temporary });
        script.push(Bulk::Rename { from: temporary, to: File::Segment(segment) });
        script.push(Bulk::SyncDirectory { log });
        self.advance(Job::Prepare { segment, temporary, script }, out);
    }

    /// Writes the keydir file of a segment that is complete and synced: first of those whose batches
    /// stay in memory until then, for writes may wait for that; then of the own log.
    fn begin_index(&mut self, out: &mut Outbox<Effect>) {
        if self.lanes.indexing {
            return;
        }
        let own = self.settings.log;
        let synced = |segment: &Segment| segment.stage == Stage::Synced;
        let in_memory = self.segments.find(|segment| synced(segment) && segment.image.is_some());
        let of_own = || self.segments.find(|segment| synced(segment) && segment.id.log == own);
        // A stop does not wait for those of adopted logs: the next start can do without.
        let of_any = || self.segments.find(synced).filter(|_| !self.lanes.stopping);
        let Some(slot) = in_memory.or_else(of_own).or_else(of_any) else { return };
        self.lanes.indexing = true;
        let SegmentId { log, number } = self.segments.get(slot).id;
        // Several shards write to an adopted log, each for other segments.
        let temporary = match log == own {
            true => self.lanes.temporaries.next(own),
            false => File::Temporary { log, number },
        };
        let segment = self.segments.get_mut(slot);
        let header = IndexHeader {
            segment: segment.id,
            epoch: segment.epoch,
            last_batch: segment.last_batch,
            cleaned_at: segment.cleaned_at,
            lowest_order: segment.lowest_order,
            segment_bytes: segment.file_bytes,
        };
        let pieces = std::mem::take(&mut segment.index).finish(&header);
        let mut script = Script::new([Bulk::Unlink { file: temporary }]);
        script.append(Script::replace_file(File::Index(segment.id), temporary, pieces));
        self.advance(Job::Index { slot, temporary, script }, out);
    }

    /// Removes a retired segment that nobody reads, or keeps its file for use as a new one. The
    /// keydir file goes last: it may tell what the segment cannot tell any more, such as its epoch.
    /// Alone it means nothing, and a start removes it before the segment's number is used again.
    fn begin_remove(&mut self, out: &mut Outbox<Effect>) {
        if self.lanes.removing || self.lanes.retry_at.is_some() {
            return;
        }
        let gone = |segment: &Segment| segment.stage == Stage::Retired && segment.readers == 0;
        let Some(slot) = self.segments.find(gone) else { return };
        self.lanes.removing = true;
        self.drop_resident(slot, out);
        self.drop_image(slot);
        let (id, file_bytes) = {
            let segment = self.segments.get(slot);
            (segment.id, segment.file_bytes)
        };
        // A rename that failed may have happened; then only the unlink would not fail for ever.
        let recycle = self.lanes.unsure_of != Some(slot)
            && file_bytes == self.settings.segment_bytes
            && self.lanes.recyclable.len() < self.recyclable_max();
        let kept = recycle.then(|| self.lanes.temporaries.next(id.log));
        let vanish = match kept {
            Some(to) => Bulk::Rename { from: File::Segment(id), to },
            None => Bulk::Unlink { file: File::Segment(id) },
        };
        let gone = Bulk::SyncDirectory { log: id.log };
        let script = Script::new([vanish, gone, Bulk::Unlink { file: File::Index(id) }]);
        self.advance(Job::Remove { slot, kept, script }, out);
    }

    /// How many old files may be kept. To fill a new one with zeros holds up the log's own writes in
    /// the disk, so a log in which the same keys are written again and again should need none. The
    /// kept ones take the room that garbage may take before a compaction begins, and that of the
    /// segments that none can take yet.
    fn recyclable_max(&self) -> usize {
        let used = self.segments.iter().filter(|(_, segment)| segment.stage != Stage::Retired);
        let (all, live) = used.fold((0, 0), |(all, live), (_, segment)| {
            (all + u64::from(segment.file_bytes), live + segment.live_bytes)
        });
        let most = live * 100 / (100 - u64::from(self.settings.garbage_percent));
        let room = most.saturating_sub(all) / u64::from(self.settings.segment_bytes);
        let least = self.settings.segments_ahead + UNTAKEN;
        (room as usize).saturating_add(least).min(RECYCLABLE_MAX.max(least))
    }

    /// The others are removed with the next clean-up.
    fn keep_recyclable(&mut self, max: usize) {
        let kept = max.min(self.lanes.recyclable.len());
        self.lanes.remains.extend(self.lanes.recyclable.drain(kept..));
    }

    /// Goes on with the compaction, or begins one if that is worth while.
    fn run_compaction(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        if self.lanes.compacting {
            return;
        }
        if self.lanes.compaction.is_none() {
            if !self.lanes.remains.is_empty() {
                return self.clean_up(out);
            }
            self.choose_compaction();
        }
        let Some(mut compaction) = self.lanes.compaction.take() else { return };
        if let Some(piece) = compaction.piece_in_memory(&self.segments) {
            self.lanes.compaction = Some(compaction);
            return self
                .compact_piece(now, |compaction, tables| compaction.read_image(&piece, tables));
        }
        let mut tables = Tables {
            keydirs: &mut self.keydirs,
            segments: &mut self.segments,
            owned: &self.settings.owned,
        };
        match compaction.next_step() {
            Next::Do(operation) => {
                self.lanes.compacting = true;
                self.begin(Job::Compact, operation, out);
            }
            Next::Swap => {
                if let Some(placed) = compaction.place_output(&mut tables) {
                    self.make_resident(placed, out);
                }
            }
            Next::Sync(sequence) if self.commit.synced() >= sequence => compaction.synced(),
            Next::Sync(_) => {
                self.commit.want_sync();
                self.send_due_batch(out);
            }
            Next::Retire => {
                self.retire(&compaction.victims);
                self.keep_recyclable(self.recyclable_max());
                self.lanes.arena = compaction.into_arena();
                return;
            }
        }
        self.lanes.compaction = Some(compaction);
    }

    /// What of a compaction takes the shard's own time: once a turn, however much else happens in it.
    pub(in crate::storage) fn take_turn(&mut self, now: Instant, out: &mut Outbox<Effect>) {
        let rests = self.lanes.compacting || self.lanes.retry_at.is_some() || self.lanes.stopping;
        if rests || self.lanes.failed || self.health == Health::Poisoned {
            return;
        }
        let Some(compaction) = self.lanes.compaction.as_deref() else { return };
        if !compaction.needs_a_turn(&self.segments) || self.compaction_awaits(compaction) {
            return;
        }
        match compaction.piece_in_memory(&self.segments) {
            Some(piece) => {
                self.compact_piece(now, |compaction, tables| compaction.read_image(&piece, tables));
            }
            None => self.swap_some(out),
        }
    }

    fn swap_some(&mut self, out: &mut Outbox<Effect>) {
        let mut tables = Tables {
            keydirs: &mut self.keydirs,
            segments: &mut self.segments,
            owned: &self.settings.owned,
        };
        let compaction = self.lanes.compaction.as_deref_mut().expect("it runs");
        compaction.swap(&mut tables, self.commit.last_sequence());
        if compaction.awaited_sequence().is_some() {
            // No other event need come that would ask for it.
            self.commit.want_sync();
            self.send_due_batch(out);
        }
    }

    /// Whether an event must come before it can go on: a sync, or the copy becoming resident.
    fn compaction_awaits(&self, compaction: &Compaction) -> bool {
        let asked = |slot: SegmentSlot| self.segments.get(slot).residency == Residency::Asked;
        compaction.awaited_sequence().is_some_and(|upto| upto > self.commit.synced())
            || (compaction.is_swapping() && compaction.output_slot().is_some_and(asked))
    }

    fn choose_compaction(&mut self) {
        if !std::mem::take(&mut self.lanes.consider_compaction) {
            return;
        }
        let eager = self.lanes.unprepared.is_some();
        let bytes = self.settings.segment_bytes;
        let adopted = compaction::choose_adopted(&self.segments, self.settings.log, bytes);
        if !adopted.is_empty() {
            return self.begin_compaction(adopted, bytes);
        }
        let percent = self.settings.garbage_percent;
        let bytes = self.settings.segment_bytes;
        let (own, vouched) = (self.settings.log, self.commit.last_vouched());
        let victims =
            compaction::choose_victims(&self.segments, own, vouched, percent, bytes, eager);
        if victims.is_empty() {
            return;
        }
        self.begin_compaction(victims, bytes);
    }

    fn begin_compaction(&mut self, victims: Vec<SegmentSlot>, bytes: u32) {
        let output = self.next_number();
        let log = self.settings.log;
        let temporaries = [self.lanes.temporaries.next(log), self.lanes.temporaries.next(log)];
        let synced = Order::new(self.settings.generation, self.commit.synced());
        let arena = std::mem::take(&mut self.lanes.arena);
        let compaction =
            Compaction::new(victims, &self.segments, bytes, output, temporaries, synced, arena);
        self.lanes.compaction = Some(Box::new(compaction));
    }

    fn on_compact(&mut self, now: Instant, result: Result<Done, Failure>) {
        self.lanes.compacting = false;
        match result {
            Ok(Done::Read(bytes)) => {
                self.compact_piece(now, |compaction, tables| compaction.read(&bytes, tables));
            }
            Ok(_) => {}
            Err(_) => {
                let compaction = self.lanes.compaction.as_deref().expect("it runs");
                if let Some(victim) = compaction.reading() {
                    self.lanes.unread.retain(|slot| *slot == victim);
                    self.lanes.unread.push(victim);
                    if self.lanes.unread.len() > READ_FAILURES_MAX as usize {
                        // It would be chosen again and again, and nothing else ever.
                        self.segments.get_mut(victim).quarantined = true;
                    }
                }
                self.abandon_compaction(now);
            }
        }
    }

    /// Gives the compaction the next piece of the victim that it reads.
    fn compact_piece(
        &mut self,
        now: Instant,
        read: impl FnOnce(&mut Compaction, &mut Tables<'_>) -> bool,
    ) {
        let mut tables = Tables {
            keydirs: &mut self.keydirs,
            segments: &mut self.segments,
            owned: &self.settings.owned,
        };
        let compaction = self.lanes.compaction.as_deref_mut().expect("it runs");
        if !read(compaction, &mut tables) {
            self.abandon_compaction(now);
        }
    }

    fn abandon_compaction(&mut self, now: Instant) {
        self.counters.compactions_abandoned += 1;
        let compaction = self.lanes.compaction.take().expect("it runs");
        self.lanes.remains.extend(compaction.files());
        self.lanes.arena = compaction.into_arena();
        self.lanes.retry_at = Some(now + RETRY_AFTER);
    }

    /// Removes the files of what failed. Until that is durable no other compaction begins.
    fn clean_up(&mut self, out: &mut Outbox<Effect>) {
        self.lanes.compacting = true;
        let files = self.lanes.remains.clone();
        let unlinks = files.iter().map(|file| Bulk::Unlink { file: *file });
        let mut script = Script::new(unlinks);
        script.push(Bulk::SyncDirectory { log: self.settings.log });
        self.advance(Job::CleanUp { files, script }, out);
    }

    fn retire(&mut self, victims: &[SegmentSlot]) {
        self.counters.compactions += 1;
        self.lanes.consider_compaction = true;
        for slot in victims {
            let segment = self.segments.get_mut(*slot);
            assert_eq!(segment.live_bytes, 0, "{}: all its records were copied", segment.id);
            let own = segment.id.log == self.settings.log;
            // Its memory goes with its removal, one after the other: of all at once it takes long.
            segment.stage = if own { Stage::Retired } else { Stage::Released };
        }
    }

    /// Says once of each adopted log that nothing of it is needed here any more.
    fn release_logs(&mut self, out: &mut Outbox<Effect>) {
        for slot in self.segments_in(Stage::Released) {
            self.drop_resident(slot, out);
        }
        for log in self.settings.adopted.clone() {
            let needed = |segment: &Segment| {
                segment.id.log == log && (segment.stage != Stage::Released || segment.readers > 0)
            };
            if self.lanes.released.contains(&log) || self.segments.find(needed).is_some() {
                continue;
            }
            self.lanes.released.insert(log);
            self.notices.push_back(Notice::Released(log));
        }
    }

    fn segments_in(&self, stage: Stage) -> Vec<SegmentSlot> {
        let all = self.segments.iter();
        all.filter(|(_, segment)| segment.stage == stage).map(|(slot, _)| slot).collect()
    }

    /// Once everything is written and indexed, records where the epoch ended.
    fn begin_stop(&mut self, out: &mut Outbox<Effect>) {
        if self.lanes.stop_begun || !self.commit.is_quiet() {
            return;
        }
        if let Some(active) = self.active.take() {
            let segment = self.segments.get_mut(active.slot);
            // Without a batch there is nothing to keep: the next start removes the file.
            segment.stage = if segment.last_batch > 0 { Stage::Synced } else { Stage::Indexed };
            self.begin_index(out);
        }
        let own = self.settings.log;
        let unwritten = |segment: &Segment| segment.stage == Stage::Synced && segment.id.log == own;
        if self.lanes.indexing || self.segments.find(unwritten).is_some() {
            return;
        }
        self.lanes.stop_begun = true;
        let epoch = self.commit.epoch();
        let used = |segment: &&Segment| {
            segment.id.log == own && segment.epoch == epoch && segment.last_batch > 0
        };
        let segments = self.segments.iter().map(|(_, segment)| segment);
        let last_segment = segments.filter(used).map(|segment| segment.id.number).max();
        let end = EpochEnd {
            log: own,
            epoch,
            last_batch: self.commit.last_number(),
            last_segment: last_segment.unwrap_or(0),
            last_order: Order::new(self.settings.generation, self.commit.last_sequence()),
        };
        self.manifest.ends.push(end);
        let temporary = self.lanes.temporaries.next(self.settings.log);
        let file = File::Manifest(self.settings.log);
        let script = Script::replace_file(file, temporary, vec![self.manifest.to_file()]);
        self.advance(Job::Stop { script }, out);
    }
}
