//! Which orders a log may have given out before a start, also where that cannot be read.
//!
//! A start needs it twice. What a bad place lost was not newer than the last order of its epoch; and
//! what is written next must be newer than everything that may come back when the place can be read
//! again, or an older value would win over it. So the last order of each epoch is recorded when it
//! ends (`manifest`). That of an epoch whose process died is not known to the record: it is what can
//! be read, and as many more as the segments behind that have room for.
//!
//! # Why this does not use up the orders
//!
//! Numbers of segments are counted, not files: one that was written may be missing since, let go by
//! compaction. What compaction wrote is not counted: within an epoch a number is given to one file,
//! and no record was appended to that. What an epoch prepared and did not write is counted, as it
//! may be what cannot be read; but the next start removes it and gives its numbers again, after it
//! recorded the end of that epoch. So however many starts are killed before they append anything,
//! each skips no more orders than the segments that it prepared itself have room for.

use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::storage::manifest::EpochEnd;
use crate::storage::record::Order;
use crate::storage::record::RECORD_BYTES_MIN;
use crate::storage::recovery::Content;
use crate::storage::recovery::Found;
use crate::storage::scan::ScannedBatch;
use crate::storage::scan::ScannedSegment;

/// What is known of a log's epochs as a whole.
#[derive(Debug)]
pub struct Past {
    /// The last epoch that began.
    pub epoch: u64,
    /// No record of the log has a higher order.
    pub last_order: Order,
    /// The highest segment that could not be read, and of which no epoch is known.
    pub unread: Option<SegmentId>,
    ends: Vec<EpochEnd>,
}

impl Past {
    /// What was found of `log`. Its segments were made with `segment_bytes`, or as long as they are.
    pub fn new(log: LogId, found: &Found, segment_bytes: u32) -> Self {
        let segments = || found.segments.iter().filter(|(segment, _)| segment.log == log);
        let unread = segments().filter(|(_, (_, content))| is_unread(content));
        let manifest = found.manifests.get(&log);
        let recorded = found.manifests.values().flat_map(|manifest| &manifest.ends);
        let ends: Vec<EpochEnd> = recorded.filter(|end| end.log == log).copied().collect();
        let epoch = manifest.map_or(0, |manifest| manifest.epoch);
        let first = manifest.map_or(Order(0), |manifest| Order::new(manifest.generation, 0));
        let mut last_order = ends.iter().map(|end| end.last_order).max().unwrap_or(first);
        if !ends.iter().any(|end| end.epoch == epoch) {
            let longest = segments().map(|(_, (length, _))| *length).max().unwrap_or(0);
            let room = longest.max(u64::from(segment_bytes)) / RECORD_BYTES_MIN as u64;
            let known = segments().map(|(_, (_, content))| last_known(content)).max();
            let known = known.unwrap_or_default().max(last_order);
            last_order = known.after(room * segments_behind(segments()));
        }
        let unread = unread.map(|(segment, _)| *segment).max();
        Self { epoch, last_order, unread, ends }
    }

    /// No record of this epoch has a higher order.
    pub fn last_order_of(&self, epoch: u64) -> Order {
        let ends = self.ends.iter().filter(|end| end.epoch >= epoch);
        ends.map(|end| end.last_order).min().unwrap_or(self.last_order)
    }

    /// Whether what could not be read may be of this epoch.
    pub fn is_unread(&self, epoch: u64) -> bool {
        self.unread.is_some_and(|unread| self.last_order_in(unread) >= self.last_order_of(epoch))
    }

    /// No record of a segment of which the epoch is not known has a higher order.
    pub fn last_order_in(&self, segment: SegmentId) -> Order {
        let told = |end: &&EpochEnd| end.epoch == 0 && end.last_segment >= segment.number;
        let told = self.ends.iter().filter(told).map(|end| end.last_order).min();
        told.unwrap_or(self.last_order)
    }
}

/// The epoch that wrote a segment; 0: compaction did, or nothing in it can be read.
pub fn epoch_of(content: &ScannedSegment) -> u64 {
    let by_header =
        content.header.map(|header| if header.compacted.is_some() { 0 } else { header.epoch });
    by_header.or_else(|| content.batches.first().map(|batch| batch.header.epoch)).unwrap_or(0)
}

/// Whether the disk gave nothing of a segment that tells its epoch.
fn is_unread(content: &Content) -> bool {
    let Content::Scanned(content) = content else { return false };
    content.unreadable && content.header.is_none() && content.batches.is_empty()
}

/// How many segments may hold records of which nothing is known: the last one to which something
/// was appended that can be read, and those behind it.
fn segments_behind<'a>(
    segments: impl DoubleEndedIterator<Item = (&'a SegmentId, &'a (u64, Content))> + Clone,
) -> u64 {
    let is_appended = |content: &Content| match content {
        Content::Indexed(header, _) => header.epoch > 0,
        Content::Scanned(content) => epoch_of(content) > 0 && !content.batches.is_empty(),
    };
    let last = segments.clone().next_back().map_or(0, |(segment, _)| segment.number);
    let appended = segments.clone().rev().find(|(_, (_, content))| is_appended(content));
    let appended = appended.map_or(0, |(segment, _)| segment.number);
    let behind = segments.filter(|(segment, _)| segment.number > appended);
    let compacted = behind.filter(|(_, (_, content))| is_compacted(content)).count();
    u64::from(last - appended) - compacted as u64 + 1
}

/// Whether compaction wrote a segment, for certain.
fn is_compacted(content: &Content) -> bool {
    match content {
        Content::Indexed(header, _) => header.epoch == 0,
        Content::Scanned(content) => {
            content.header.is_some_and(|header| header.compacted.is_some())
        }
    }
}

/// The highest order that a segment tells of.
fn last_known(content: &Content) -> Order {
    let (last, cleaned_at) = match content {
        Content::Indexed(header, entries) => {
            (entries.iter().map(|entry| entry.order).max(), header.cleaned_at)
        }
        Content::Scanned(content) => {
            let compacted = content.header.and_then(|header| header.compacted);
            let cleaned_at = compacted.map_or(Order(0), |compacted| compacted.cleaned_at);
            (content.batches.iter().map(last_of_batch).max(), cleaned_at)
        }
    };
    last.unwrap_or(cleaned_at).max(cleaned_at)
}

/// Also of records that are bad, where orders follow each other: in what was appended.
fn last_of_batch(batch: &ScannedBatch) -> Order {
    let entries = batch.records.iter().chain(&batch.bad_records);
    let last = entries.map(|entry| entry.order).max().unwrap_or_default();
    let appended = if batch.header.epoch > 0 { u64::from(batch.header.records) } else { 0 };
    last.max(Order((batch.header.first_order.0 + appended).saturating_sub(1)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::base::id::ActorId;
    use crate::storage::batch::CompactedSegment;
    use crate::storage::batch::SegmentHeader;
    use crate::storage::manifest::Manifest;
    use crate::storage::record::SEQUENCE_MAX;

    const LOG: LogId = LogId::new(1);
    const SEGMENT_BYTES: u32 = 32 * 1024 * 1024;

    /// Each was killed when it had prepared its segments, and had appended nothing.
    #[test]
    fn starts_that_are_killed_one_after_the_other_do_not_use_up_the_orders() {
        let mut ends = Vec::new();
        let mut last_order = Order(0);
        for epoch in 1..=100_000 {
            let past = Past::new(LOG, &found(epoch, ends, 0, 4), SEGMENT_BYTES);
            assert!(past.last_order > last_order, "what it may have given out is not given again");
            last_order = past.last_order;
            ends = vec![end(epoch, last_order)];
        }
        assert!(last_order.sequence() < SEQUENCE_MAX / 100, "{last_order:?}");
    }

    /// What compaction wrote holds no record that was appended to it, however much there is of it.
    #[test]
    fn what_compaction_wrote_has_given_out_no_orders() {
        let last = |compacted| {
            let found = found(1, Vec::new(), compacted, 4);
            Past::new(LOG, &found, SEGMENT_BYTES).last_order
        };
        assert_eq!(last(1000), last(0));
    }

    fn end(epoch: u64, last_order: Order) -> EpochEnd {
        EpochEnd { log: LOG, epoch, last_batch: 0, last_segment: 0, last_order }
    }

    /// So many segments that compaction wrote, and so many that this epoch prepared.
    fn found(epoch: u64, ends: Vec<EpochEnd>, compacted: u32, prepared: u32) -> Found {
        let segment = |number| {
            let segment = SegmentId { log: LOG, number };
            let by = CompactedSegment { cleaned_at: Order(0), batches: 1, lowest_order: Order(0) };
            let by = (number <= compacted).then_some(by);
            let header = SegmentHeader { segment, epoch, compacted: by };
            let content = ScannedSegment { header: Some(header), ..ScannedSegment::default() };
            (segment, (u64::from(SEGMENT_BYTES), Content::Scanned(content)))
        };
        let (actor, damaged_upto) = (ActorId::new(5), Order(0));
        let manifest =
            Manifest { log: LOG, generation: 0, partitions: 16, epoch, actor, damaged_upto, ends };
        Found {
            segments: (1..=compacted + prepared).map(segment).collect(),
            manifests: BTreeMap::from([(LOG, manifest)]),
            ..Found::default()
        }
    }
}
