//! Which orders a log may have given out before a start, also where that cannot be read.
//!
//! A start needs it twice. What a bad place lost was not newer than the last order of its epoch; and
//! what is written next must be newer than everything that may come back when the place can be read
//! again, or an older value would win over it. So the last order of each epoch is recorded when it
//! ends (`manifest`). That of an epoch whose process died is not known to the record: it is what can
//! be read, and as many more as the segments behind that have room for.

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
    let appended = segments.rev().find(|(_, (_, content))| is_appended(content));
    u64::from(last - appended.map_or(0, |(segment, _)| segment.number)) + 1
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
