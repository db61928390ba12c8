//! Makes keydirs and a table of segments of what recovery found.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::base::id::LogId;
use crate::base::id::PartitionId;
use crate::base::id::SegmentId;
use crate::storage::Settings;
use crate::storage::compaction::location;
use crate::storage::effect::File;
use crate::storage::index_file::IndexEntry;
use crate::storage::index_file::IndexHeader;
use crate::storage::keydir::Keydir;
use crate::storage::location::Location;
use crate::storage::location::SegmentSlot;
use crate::storage::log_end;
use crate::storage::log_end::FoundSegment;
use crate::storage::log_end::Indexed;
use crate::storage::log_end::Verdict;
use crate::storage::manifest::EpochEnd;
use crate::storage::past;
use crate::storage::past::Past;
use crate::storage::record::Order;
use crate::storage::recovery::Content;
use crate::storage::recovery::Found;
use crate::storage::recovery::recorded_end;
use crate::storage::scan::ScannedSegment;
use crate::storage::segments::Segment;
use crate::storage::segments::Segments;
use crate::storage::segments::Stage;

/// A shard's tables as they were when it last ran.
#[derive(Debug)]
pub struct Restored {
    /// By partition.
    pub keydirs: Vec<Keydir>,
    /// All segments with records.
    pub segments: Segments,
    /// No record was ever given a higher order.
    pub highest_order: Order,
    /// Records of unknown keys, up to this order, are lost to damage.
    pub damaged_upto: Order,
    /// Ends of all epochs that have segments, and of the last one of each log.
    pub ends: Vec<EpochEnd>,
    /// Files that mean nothing.
    pub leftovers: Vec<File>,
    /// Records that shared their hash with another key when they were written: whose they are must
    /// be read. By partition and hash.
    pub collisions: BTreeMap<(PartitionId, u64), Vec<(Order, Location)>>,
    /// What was met on the way.
    pub counts: Counts,
    own: LogId,
    owned: Vec<bool>,
}

/// What a start met.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Segments read from their keydir files.
    pub indexed: u64,
    /// Segments read whole.
    pub scanned: u64,
    /// Batches behind the end of a crashed run, cut off.
    pub cut_batches: u64,
    /// Records found bad, whose keys are known.
    pub bad_records: u64,
}

/// Makes tables of `found`.
pub fn restore(mut found: Found, settings: &Settings) -> Restored {
    let logs = found.segments.keys().map(|segment| segment.log);
    let logs: BTreeSet<LogId> = logs.chain(found.manifests.keys().copied()).collect();
    let past = |log| (log, Past::new(log, &found, settings.segment_bytes));
    let pasts: BTreeMap<LogId, Past> = logs.into_iter().map(past).collect();
    let damaged_upto = found.manifests.values().map(|manifest| manifest.damaged_upto).max();
    let mut restored = Restored {
        keydirs: (0..settings.partitions).map(|_| Keydir::recovering()).collect(),
        segments: Segments::default(),
        highest_order: Order(0),
        damaged_upto: damaged_upto.unwrap_or_default(),
        ends: Vec::new(),
        leftovers: std::mem::take(&mut found.leftovers),
        collisions: BTreeMap::new(),
        own: settings.log,
        owned: settings.owned.clone(),
        counts: Counts { scanned: found.scanned, ..Counts::default() },
    };
    let mut epochs: BTreeMap<(LogId, u64), Vec<(FoundSegment, u64)>> = BTreeMap::new();
    for (segment, (length, content)) in found.segments {
        let (epoch, content) = match content {
            Content::Indexed(header, entries) => {
                restored.counts.indexed += 1;
                restored.add_indexed(length, &header, &entries);
                let orders = || entries.iter().map(|entry| entry.order);
                let orders = orders().min().zip(orders().max());
                (header.epoch, Err(Indexed { last_batch: header.last_batch, orders }))
            }
            Content::Scanned(content) => (past::epoch_of(&content), Ok(content)),
        };
        let found = (FoundSegment { segment, content }, length);
        epochs.entry((segment.log, epoch)).or_default().push(found);
    }
    for ((log, epoch), segments) in epochs {
        match recorded_end(&found.manifests, log, epoch) {
            _ if epoch == 0 => restored.add_compacted(segments, &pasts[&log]),
            recorded => restored.add_epoch((log, epoch), segments, recorded, &pasts[&log]),
        }
    }
    for (log, past) in &pasts {
        let recorded = recorded_end(&found.manifests, *log, past.epoch);
        restored.keep_last_end(*log, past, recorded);
    }
    // What is written next must be newer than what is lost, or it would be taken for suspect.
    let last_order = pasts.get(&settings.log).map_or(Order(0), |past| past.last_order);
    restored.highest_order = last_order.max(restored.damaged_upto);
    restored
}

impl Restored {
    fn add_indexed(&mut self, length: u64, header: &IndexHeader, entries: &[IndexEntry]) {
        let file_bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let mut segment = Segment::new(header.segment, file_bytes, header.epoch, Stage::Indexed);
        segment.last_batch = header.last_batch;
        segment.cleaned_at = header.cleaned_at;
        let slot = self.segments.add(segment);
        for entry in entries {
            self.add_record(slot, entry, false);
        }
    }

    /// Adds the segments of one epoch that have no keydir file, up to where the epoch ended.
    fn add_epoch(
        &mut self,
        (log, epoch): (LogId, u64),
        segments: Vec<(FoundSegment, u64)>,
        recorded: Option<EpochEnd>,
        past: &Past,
    ) {
        let (found, lengths): (Vec<FoundSegment>, Vec<u64>) = segments.into_iter().unzip();
        let mut verdict = log_end::decide(&found, recorded);
        let is_unread = past.is_unread(epoch) || found.iter().any(FoundSegment::is_unreadable);
        let is_unread = is_unread && recorded.is_none();
        verdict.damaged |= is_unread;
        let last_segment = recorded.map_or_else(
            || log_end::last_segment(&found, verdict.last_batch),
            |end| end.last_segment,
        );
        let last_batch = if is_unread { EpochEnd::UNREAD } else { verdict.last_batch };
        let last_order = past.last_order_of(epoch);
        self.ends.push(EpochEnd { log, epoch, last_batch, last_segment, last_order });
        for (found, length) in found.iter().zip(lengths) {
            if let Ok(content) = &found.content {
                self.add_scanned(found.segment, length, content, &verdict);
            }
        }
        if verdict.damaged {
            let clean_from = log_end::clean_from(&found, verdict.last_batch);
            let before = clean_from.map(|order| Order(order.0.saturating_sub(1)));
            self.lose(before.unwrap_or(last_order));
        }
    }

    /// The last epoch of a log ended too, if nothing is left of it.
    fn keep_last_end(&mut self, log: LogId, past: &Past, recorded: Option<EpochEnd>) {
        let epoch = past.epoch;
        if epoch == 0 || self.ends.iter().any(|end| (end.log, end.epoch) == (log, epoch)) {
            return;
        }
        let last_batch = if past.is_unread(epoch) { EpochEnd::UNREAD } else { 0 };
        let last_order = past.last_order_of(epoch);
        let nothing = EpochEnd { log, epoch, last_batch, last_segment: 0, last_order };
        self.ends.push(recorded.unwrap_or(nothing));
    }

    /// Records of unknown keys are lost, none of them newer than this.
    fn lose(&mut self, upto: Order) {
        self.damaged_upto = self.damaged_upto.max(upto);
    }

    fn add_scanned(
        &mut self,
        id: SegmentId,
        length: u64,
        content: &ScannedSegment,
        verdict: &Verdict,
    ) {
        let counted: Vec<_> = log_end::counted(content, verdict.last_batch).collect();
        self.counts.cut_batches += (content.batches.len() - counted.len()) as u64;
        let Some(last) = counted.last() else {
            if content.unreadable {
                self.segments.add(scanned_segment(id, length, 0, content));
            } else if !verdict.damaged {
                // Its number is given out again: what a keydir file said of it must go too.
                self.leftovers.extend([File::Segment(id), File::Index(id)]);
            }
            return;
        };
        let mut segment = scanned_segment(id, length, last.header.epoch, content);
        segment.last_batch = last.header.number;
        segment.quarantined |= counted.iter().any(|batch| !batch.is_whole());
        if verdict.damaged || counted.iter().any(|batch| batch.lost_records) {
            self.leave_to_others(&mut segment);
        }
        let slot = self.segments.add(segment);
        for batch in counted {
            self.add_batch(slot, &batch.records, &batch.bad_records);
        }
    }

    /// Adds segments that compaction wrote and that have no keydir file, and those of which it
    /// cannot be known.
    fn add_compacted(&mut self, segments: Vec<(FoundSegment, u64)>, past: &Past) {
        let mut unknown: Option<EpochEnd> = None;
        for (found, length) in segments {
            let FoundSegment { segment, content: Ok(content) } = found else { continue };
            let compacted = content.header.and_then(|header| header.compacted);
            if compacted.is_none() {
                let (last_order, last_batch) = (past.last_order_in(segment), EpochEnd::UNREAD);
                let last_order = unknown.map_or(last_order, |end| end.last_order.max(last_order));
                let (log, last_segment) = (segment.log, segment.number);
                unknown = Some(EpochEnd { log, epoch: 0, last_batch, last_segment, last_order });
            }
            let last_order = compacted.map(|compacted| compacted.cleaned_at);
            let last_order = last_order.unwrap_or_else(|| past.last_order_in(segment));
            self.add_compacted_one(segment, length, &content, last_order);
        }
        self.ends.extend(unknown);
    }

    /// `last_order`: it has no record with a higher one.
    fn add_compacted_one(
        &mut self,
        id: SegmentId,
        length: u64,
        content: &ScannedSegment,
        last_order: Order,
    ) {
        let compacted = content.header.and_then(|header| header.compacted);
        let mut segment = scanned_segment(id, length, 0, content);
        segment.last_batch = content.batches.len() as u64;
        segment.cleaned_at = compacted.map_or(Order(0), |compacted| compacted.cleaned_at);
        let complete = compacted.is_some_and(|compacted| compacted.batches == segment.last_batch);
        let lost = !complete
            || content.unreadable
            || content.batches.iter().any(|batch| batch.lost_records);
        let whole = content.batches.iter().all(|batch| batch.is_whole());
        segment.quarantined = lost || !whole;
        if lost {
            self.leave_to_others(&mut segment);
        }
        let slot = self.segments.add(segment);
        for batch in &content.batches {
            self.add_batch(slot, &batch.records, &batch.bad_records);
        }
        if lost {
            self.lose(last_order);
        }
    }

    /// A keydir file does not say what is lost. That of an adopted segment is for all shards, and one
    /// that has not recorded the loss by now must find it itself.
    fn leave_to_others(&self, segment: &mut Segment) {
        if segment.id.log != self.own {
            segment.stage = Stage::Indexed;
        }
    }

    fn add_batch(&mut self, slot: SegmentSlot, records: &[IndexEntry], bad: &[IndexEntry]) {
        let mut index = std::mem::take(&mut self.segments.get_mut(slot).index);
        for entry in records {
            self.add_record(slot, entry, false);
            index.push(*entry);
        }
        for entry in bad {
            self.counts.bad_records += 1;
            self.add_record(slot, entry, true);
            index.push(*entry);
        }
        let segment = self.segments.get_mut(slot);
        // Also those of others, if the log is an adopted one: its keydir file is for all.
        let lowest = records.iter().chain(bad).map(|entry| entry.order).min();
        segment.lowest_order =
            lowest.map_or(segment.lowest_order, |it| it.min(segment.lowest_order));
        if segment.stage == Stage::Synced {
            segment.index = index;
        }
    }

    /// Adds one record to its keydir, if it is the newest of its key so far.
    fn add_record(&mut self, slot: SegmentSlot, entry: &IndexEntry, damaged: bool) {
        if !is_owned(&self.owned, entry.partition) {
            return;
        }
        let good = location(slot, entry);
        let at = if damaged { good.damaged() } else { good };
        self.segments.get_mut(slot).count_record(at.counted_length(), entry.order);
        let Some(keydir) = self.keydirs.get_mut(entry.partition.to_raw() as usize) else { return };
        if entry.collides {
            let others = self.collisions.entry((entry.partition, entry.hash)).or_default();
            others.push((entry.order, at));
            return;
        }
        match keydir.find_with_order(entry.hash).first().copied() {
            None => keydir.insert(entry.hash, at, entry.order),
            Some((old, order)) if self.segments.supersedes(entry.order, at, order, old) => {
                keydir.replace_recovered(entry.hash, old, at, entry.order);
                self.segments.bury(old, old.counted_length());
            }
            Some(_) => return,
        }
        self.segments.enliven(at, at.counted_length());
    }
}

/// A segment without a keydir file. It gets one if all of it could be read; otherwise the next start
/// tries again. Until then it stays as it is, and may hold anything, however old.
fn scanned_segment(id: SegmentId, length: u64, epoch: u64, content: &ScannedSegment) -> Segment {
    let file_bytes = u32::try_from(length).unwrap_or(u32::MAX);
    let stage = if content.unreadable { Stage::Indexed } else { Stage::Synced };
    let mut segment = Segment::new(id, file_bytes, epoch, stage);
    if content.unreadable {
        segment.quarantined = true;
        segment.lowest_order = Order(0);
    }
    segment
}

/// Whether a partition is a shard's, by the list that its settings have.
pub fn is_owned(owned: &[bool], partition: PartitionId) -> bool {
    owned.is_empty() || owned.get(partition.to_raw() as usize).is_some_and(|owned| *owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::ActorId;
    use crate::storage::batch::SegmentHeader;
    use crate::storage::manifest::Manifest;

    const OWN: LogId = LogId::new(2);
    const ADOPTED: SegmentId = SegmentId { log: LogId::new(1), number: 3 };

    /// Its one segment was written by compaction and is bad from the first byte on.
    #[test]
    fn a_log_of_which_nothing_is_left_is_damaged() {
        let restored = restore(found(ADOPTED, None), &settings());
        assert!(restored.damaged_upto > Order(0));
        assert!(restored.highest_order >= restored.damaged_upto, "what is written next is newer");
    }

    /// Its last batch was kept and told by an earlier start, and is bad by now.
    #[test]
    fn an_end_that_was_recorded_for_an_adopted_log_is_believed() {
        let restored = restore(found(ADOPTED, Some(7)), &settings());
        assert_eq!(restored.damaged_upto, Order(0), "a segment without batches was prepared");

        let mut found = found(ADOPTED, Some(7));
        let end = ended(ADOPTED, 7, Order(9));
        found.manifests.insert(OWN, manifest(1, vec![end]));
        let restored = restore(found, &settings());
        assert_eq!(restored.damaged_upto, Order(9));
        assert!(restored.ends.contains(&end), "it is recorded again");
    }

    /// The segment lost its batches. What followed it was compacted away, and the log went on.
    #[test]
    fn what_an_ended_epoch_lost_is_not_newer_than_its_last_order() {
        let own = SegmentId { log: OWN, number: 3 };
        let mut found = found(own, Some(7));
        let ends = vec![ended(own, 7, Order(9)), ended(own, 12, Order(500))];
        found.manifests.insert(OWN, manifest(12, ends.clone()));
        let restored = restore(found, &settings());
        assert_eq!(restored.damaged_upto, Order(9));
        assert_eq!(restored.highest_order, Order(500));
        assert_eq!(restored.ends, ends, "the last end is kept without a segment");
    }

    /// Nothing is known of what it lost but that the log was of generation 0: what is written in the
    /// present one is newer, and the number of its first record begins anew.
    #[test]
    fn what_an_adopted_log_lost_is_older_than_the_generation_that_adopts_it() {
        let mut found = found(ADOPTED, None);
        let mut old = manifest(7, Vec::new());
        old.log = ADOPTED.log;
        found.manifests.insert(ADOPTED.log, old);
        let settings = Settings { generation: 1, ..settings() };
        let restored = restore(found, &settings);
        assert!(restored.damaged_upto > Order(0));
        assert!(restored.damaged_upto < Order::new(1, 0));
        let end = restored.ends.iter().find(|end| (end.log, end.epoch) == (ADOPTED.log, 7));
        assert_eq!(end.map(|end| end.last_order), Some(restored.damaged_upto), "told for good");
    }

    /// A shard that read a keydir file instead would not know of the loss.
    #[test]
    fn an_adopted_segment_that_lost_records_gets_no_keydir_file() {
        for (segment, stage) in
            [(ADOPTED, Stage::Indexed), (SegmentId { log: OWN, ..ADOPTED }, Stage::Synced)]
        {
            let restored = restore(found(segment, None), &settings());
            assert!(restored.damaged_upto > Order(0));
            let stages: Vec<Stage> = restored.segments.iter().map(|(_, it)| it.stage).collect();
            assert_eq!(stages, [stage]);
        }
    }

    /// The log's records end below what it once lost: what is written next would look lost too.
    #[test]
    fn the_next_record_is_newer_than_all_that_was_ever_lost() {
        let mut manifest =
            manifest(7, vec![ended(SegmentId { log: OWN, number: 3 }, 7, Order(60))]);
        manifest.damaged_upto = Order(90);
        let manifests = BTreeMap::from([(OWN, manifest)]);
        let restored = restore(Found { manifests, ..Found::default() }, &settings());
        assert_eq!((restored.damaged_upto, restored.highest_order), (Order(90), Order(90)));
    }

    /// It was bad at an earlier start, which said what it can have lost.
    #[test]
    fn a_segment_of_which_nothing_is_known_is_bounded_once() {
        let own = SegmentId { log: OWN, number: 3 };
        let unknown = |number, last_order| EpochEnd {
            last_batch: EpochEnd::UNREAD,
            ..ended(SegmentId { number, ..own }, 0, last_order)
        };
        for (told, lost_upto) in [(3, Order(9)), (2, Order(500))] {
            let ends = vec![unknown(told, Order(9)), ended(own, 12, Order(500))];
            let mut found = found(own, None);
            found.manifests.insert(OWN, manifest(12, ends));
            let restored = restore(found, &settings());
            assert_eq!(restored.damaged_upto, lost_upto);
            assert!(restored.ends.contains(&unknown(3, lost_upto)), "the next start knows it too");
        }
    }

    /// A clean stop said what it gave out; then the segment that has it cannot be read.
    #[test]
    fn an_order_that_an_unreadable_segment_may_have_is_not_given_out_again() {
        let own = SegmentId { log: OWN, number: 3 };
        let mut unread = found(own, None);
        unread.manifests.insert(OWN, manifest(7, vec![ended(own, 7, Order(60))]));
        assert_eq!(restore(unread, &settings()).highest_order, Order(60));

        // Nobody stopped it: all that there was room for may have been given out.
        let mut unread = found(own, None);
        unread.manifests.insert(OWN, manifest(7, Vec::new()));
        let restored = restore(unread, &settings());
        let room = u64::from(settings().segment_bytes) / 48;
        assert!(restored.highest_order >= Order(3 * room), "three segments of short records");
        assert!(restored.ends.iter().all(|end| end.last_order == restored.highest_order));
    }

    /// It may be there, and not have been read. Under the number of a new segment it would be believed.
    #[test]
    fn a_segment_that_means_nothing_takes_its_keydir_file_with_it() {
        let own = SegmentId { log: OWN, number: 3 };
        let mut found = found(own, Some(7));
        found.manifests.insert(OWN, manifest(7, Vec::new()));
        let restored = restore(found, &settings());
        assert_eq!(restored.leftovers, [File::Segment(own), File::Index(own)]);
    }

    /// A reaped tombstone that is copied must go on shadowing what may stand in it.
    #[test]
    fn a_segment_that_could_not_be_read_stays_and_may_hold_anything() {
        let own = SegmentId { log: OWN, number: 3 };
        for epoch in [None, Some(7)] {
            let mut found = found(own, epoch);
            let Content::Scanned(content) = &mut found.segments.get_mut(&own).expect("there").1
            else {
                panic!("it was scanned")
            };
            content.unreadable = true;
            found.manifests.insert(OWN, manifest(7, Vec::new()));
            let restored = restore(found, &settings());
            let slot = restored.segments.slot(own).expect("it is no leftover");
            let segment = restored.segments.get(slot);
            assert_eq!((segment.stage, segment.quarantined), (Stage::Indexed, true));
            assert_eq!(segment.lowest_order, Order(0));
            assert_eq!(restored.leftovers, []);
        }
    }

    fn ended(segment: SegmentId, epoch: u64, last_order: Order) -> EpochEnd {
        let SegmentId { log, number: last_segment } = segment;
        EpochEnd { log, epoch, last_batch: 1, last_segment, last_order }
    }

    fn manifest(epoch: u64, ends: Vec<EpochEnd>) -> Manifest {
        let (actor, damaged_upto) = (ActorId::new(5), Order(0));
        Manifest { log: OWN, generation: 0, partitions: 16, epoch, actor, damaged_upto, ends }
    }

    /// One segment without batches: prepared in this epoch, or without a header.
    fn found(segment: SegmentId, epoch: Option<u64>) -> Found {
        let header = epoch.map(|epoch| SegmentHeader { segment, epoch, compacted: None });
        let content = ScannedSegment { header, ..ScannedSegment::default() };
        let segments = [(segment, (8192, Content::Scanned(content)))];
        Found { segments: BTreeMap::from(segments), ..Found::default() }
    }

    fn settings() -> Settings {
        Settings { adopted: vec![ADOPTED.log], ..Settings::new(OWN, 16) }
    }
}
