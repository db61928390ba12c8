//! Makes keydirs and a table of segments of what recovery found.

use std::collections::BTreeMap;

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
    /// No record, and no statement about records, has a higher order.
    pub highest_order: Order,
    /// Records of unknown keys, up to this order, are lost to damage.
    pub damaged_upto: Order,
    /// Ends of all epochs that have segments.
    pub ends: Vec<EpochEnd>,
    /// Files that mean nothing.
    pub leftovers: Vec<File>,
    /// Records that shared their hash with another key when they were written: whose they are must
    /// be read. By partition and hash.
    pub collisions: BTreeMap<(PartitionId, u64), Vec<(Order, Location)>>,
    /// What was met on the way.
    pub counts: Counts,
    owned: Vec<bool>,
    /// Up to which order records of unknown keys are lost, for each place where some are. `None`:
    /// that is not known. Then what is lost is older than whatever will be written, and may be newer
    /// than all that is.
    losses: Vec<Option<Order>>,
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
pub fn restore(found: Found, settings: &Settings) -> Restored {
    let partitions = settings.partitions;
    let mut restored = Restored {
        keydirs: (0..partitions).map(|_| Keydir::recovering()).collect(),
        segments: Segments::default(),
        highest_order: Order(0),
        damaged_upto: Order(0),
        ends: Vec::new(),
        leftovers: found.leftovers,
        collisions: BTreeMap::new(),
        owned: settings.owned.clone(),
        losses: Vec::new(),
        counts: Counts { scanned: found.scanned, ..Counts::default() },
    };
    let mut epochs: BTreeMap<(LogId, u64), Vec<(FoundSegment, u64)>> = BTreeMap::new();
    for (segment, (length, content)) in found.segments {
        match content {
            Content::Indexed(header, entries) => {
                restored.counts.indexed += 1;
                restored.add_indexed(length, &header, &entries);
                let first_order = entries.iter().map(|entry| entry.order).min();
                let content = Err(Indexed { last_batch: header.last_batch, first_order });
                let key = (segment.log, header.epoch);
                epochs.entry(key).or_default().push((FoundSegment { segment, content }, length));
            }
            Content::Scanned(content) => {
                let key = (segment.log, epoch_of(&content));
                let content = Ok(content);
                epochs.entry(key).or_default().push((FoundSegment { segment, content }, length));
            }
        }
    }
    let firsts: BTreeMap<(LogId, u64), Order> =
        epochs.iter().filter_map(|(key, all)| Some((*key, first_order(all)?))).collect();
    for ((log, epoch), segments) in epochs {
        // Whoever wrote the next epoch knew the last order of this one, or that it had lost some.
        let later = firsts.range((log, epoch + 1)..=(log, u64::MAX)).map(|(_, order)| *order);
        // Nothing is written to an adopted log any more.
        let adopted = (log != settings.log).then(|| Order::new(settings.generation, 0));
        let below = if epoch == 0 { adopted } else { later.min().or(adopted) };
        let recorded = recorded_end(&found.manifests, log, epoch);
        restored.add_epoch(log, epoch, segments, recorded, below);
    }
    for manifest in found.manifests.values() {
        restored.damaged_upto = restored.damaged_upto.max(manifest.damaged_upto);
    }
    for loss in std::mem::take(&mut restored.losses) {
        // All that is known may be nothing, and a loss is one all the same.
        let lost_upto = loss.unwrap_or(restored.highest_order).max(Order(1));
        restored.damaged_upto = restored.damaged_upto.max(lost_upto);
    }
    // What is written next must be newer than what is lost, or it would be taken for suspect.
    restored.highest_order = restored.highest_order.max(restored.damaged_upto);
    restored
}

/// The epoch that wrote a segment; 0: compaction did, or nothing in it can be read.
fn epoch_of(content: &ScannedSegment) -> u64 {
    let by_header =
        content.header.map(|header| if header.compacted.is_some() { 0 } else { header.epoch });
    by_header.or_else(|| content.batches.first().map(|batch| batch.header.epoch)).unwrap_or(0)
}

impl Restored {
    fn add_indexed(&mut self, length: u64, header: &IndexHeader, entries: &[IndexEntry]) {
        let file_bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let mut segment = Segment::new(header.segment, file_bytes, header.epoch, Stage::Indexed);
        segment.last_batch = header.last_batch;
        segment.cleaned_at = header.cleaned_at;
        // New orders must be above those that compaction vouched for.
        self.highest_order = self.highest_order.max(header.cleaned_at);
        let slot = self.segments.add(segment);
        for entry in entries {
            self.add_record(slot, entry, false);
        }
    }

    /// Adds the segments of one epoch that have no keydir file, up to where the epoch ended.
    /// `below`: everything in it has a lower order than this, if that is known.
    fn add_epoch(
        &mut self,
        log: LogId,
        epoch: u64,
        segments: Vec<(FoundSegment, u64)>,
        recorded: Option<EpochEnd>,
        below: Option<Order>,
    ) {
        if epoch == 0 {
            for (found, length) in segments {
                if let Ok(content) = found.content {
                    self.add_compacted(found.segment, length, &content, below);
                }
            }
            return;
        }
        let (found, lengths): (Vec<FoundSegment>, Vec<u64>) = segments.into_iter().unzip();
        let verdict = log_end::decide(&found, recorded);
        let last_segment = recorded.map_or_else(
            || log_end::last_segment(&found, verdict.last_batch),
            |end| end.last_segment,
        );
        self.ends.push(EpochEnd { log, epoch, last_batch: verdict.last_batch, last_segment });
        for (found, length) in found.iter().zip(lengths) {
            if let Ok(content) = &found.content {
                self.add_scanned(found.segment, length, content, &verdict);
                self.highest_order = self.highest_order.max(highest_order(content, &verdict));
            }
        }
        if verdict.damaged {
            let clean_from = log_end::clean_from(&found, verdict.last_batch).or(below);
            self.losses.push(clean_from.map(|order| Order(order.0.saturating_sub(1))));
        }
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
            if !verdict.damaged {
                self.leftovers.push(File::Segment(id));
            }
            return;
        };
        let file_bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let mut segment = Segment::new(id, file_bytes, last.header.epoch, Stage::Synced);
        segment.last_batch = last.header.number;
        segment.quarantined = counted.iter().any(|batch| !batch.is_whole());
        let slot = self.segments.add(segment);
        for batch in counted {
            self.add_batch(slot, &batch.records, &batch.bad_records);
        }
    }

    /// `below` is as for an epoch.
    fn add_compacted(
        &mut self,
        id: SegmentId,
        length: u64,
        content: &ScannedSegment,
        below: Option<Order>,
    ) {
        let compacted = content.header.and_then(|header| header.compacted);
        let file_bytes = u32::try_from(length).unwrap_or(u32::MAX);
        let mut segment = Segment::new(id, file_bytes, 0, Stage::Synced);
        segment.last_batch = content.batches.len() as u64;
        segment.cleaned_at = compacted.map_or(Order(0), |compacted| compacted.cleaned_at);
        self.highest_order = self.highest_order.max(segment.cleaned_at);
        let complete = compacted.is_some_and(|compacted| compacted.batches == segment.last_batch);
        let lost = !complete
            || content.unreadable
            || content.batches.iter().any(|batch| batch.lost_records);
        let whole = content.batches.iter().all(|batch| batch.is_whole());
        segment.quarantined = lost || !whole;
        let slot = self.segments.add(segment);
        for batch in &content.batches {
            self.add_batch(slot, &batch.records, &batch.bad_records);
        }
        if lost {
            self.losses.push(compacted.map(|compacted| compacted.cleaned_at).or(below));
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
        self.segments.get_mut(slot).index = index;
    }

    /// Adds one record to its keydir, if it is the newest of its key so far.
    fn add_record(&mut self, slot: SegmentSlot, entry: &IndexEntry, damaged: bool) {
        if !is_owned(&self.owned, entry.partition) {
            return;
        }
        let good = location(slot, entry);
        let at = if damaged { good.damaged() } else { good };
        self.segments.get_mut(slot).count_record(at.counted_length(), entry.order);
        self.highest_order = self.highest_order.max(entry.order);
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

/// Whether a partition is a shard's, by the list that its settings have.
pub fn is_owned(owned: &[bool], partition: PartitionId) -> bool {
    owned.is_empty() || owned.get(partition.to_raw() as usize).is_some_and(|owned| *owned)
}

/// The lowest order of an epoch's records, if anything tells.
fn first_order(segments: &[(FoundSegment, u64)]) -> Option<Order> {
    let first = |(found, _): &(FoundSegment, u64)| match &found.content {
        Ok(content) => content.batches.iter().map(|batch| batch.header.first_order).min(),
        Err(index) => index.first_order,
    };
    segments.iter().filter_map(first).min()
}

fn highest_order(content: &ScannedSegment, verdict: &Verdict) -> Order {
    // A batch without records tells the order of the next one, which was not given out.
    let batches = log_end::counted(content, verdict.last_batch);
    let after_last =
        batches.map(|batch| batch.header.first_order.0 + u64::from(batch.header.records));
    Order(after_last.max().unwrap_or(0).saturating_sub(1))
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
        let restored = restore(found(None), &settings());
        assert!(restored.damaged_upto > Order(0));
        assert!(restored.highest_order >= restored.damaged_upto, "what is written next is newer");
    }

    /// Its last batch was kept and told by an earlier start, and is bad by now.
    #[test]
    fn an_end_that_was_recorded_for_an_adopted_log_is_believed() {
        let header = SegmentHeader { segment: ADOPTED, epoch: 7, compacted: None };
        let restored = restore(found(Some(header)), &settings());
        assert_eq!(restored.damaged_upto, Order(0), "a segment without batches was prepared");

        let mut found = found(Some(header));
        let end = EpochEnd { log: ADOPTED.log, epoch: 7, last_batch: 1, last_segment: 3 };
        let manifest = Manifest {
            log: OWN,
            generation: 1,
            partitions: 16,
            epoch: 1,
            actor: ActorId::new(5),
            damaged_upto: Order(0),
            ends: vec![end],
        };
        found.manifests.insert(OWN, manifest);
        let restored = restore(found, &settings());
        assert!(restored.damaged_upto > Order(0));
        assert_eq!(restored.ends, [end], "it is recorded again");
    }

    fn found(header: Option<SegmentHeader>) -> Found {
        let content = ScannedSegment { header, ..ScannedSegment::default() };
        let segments = [(ADOPTED, (8192, Content::Scanned(content)))];
        Found { segments: BTreeMap::from(segments), ..Found::default() }
    }

    fn settings() -> Settings {
        Settings { adopted: vec![ADOPTED.log], ..Settings::new(OWN, 16) }
    }
}
