//! Where a log ended, and which of its bad places are damage: decided once, without reading more.
//!
//! Recovery is a prefix of what the shard applied (no holes, ever), and everything that was synced
//! is in the prefix or is known to be damaged. See `batch` for why `synced_upto` decides it.

use crate::base::id::SegmentId;
use crate::storage::batch::FIRST_BATCH_OFFSET;
use crate::storage::manifest::EpochEnd;
use crate::storage::record::Order;
use crate::storage::scan::ScannedBatch;
use crate::storage::scan::ScannedSegment;

/// A segment of one epoch as it was found.
#[derive(Debug)]
pub struct FoundSegment {
    /// Which.
    pub segment: SegmentId,
    /// What is in it, or what its good keydir file says: then it is complete.
    pub content: Result<ScannedSegment, Indexed>,
}

impl FoundSegment {
    /// Whether the disk did not give all of it.
    pub fn is_unreadable(&self) -> bool {
        self.content.as_ref().is_ok_and(|content| content.unreadable)
    }
}

/// What a keydir file says of a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Indexed {
    /// Its last batch.
    pub last_batch: u64,
    /// The lowest and the highest order of its records, if it has any.
    pub orders: Option<(Order, Order)>,
}

/// What is to be made of an epoch's segments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    /// The number of the epoch's last batch: later ones never count.
    pub last_batch: u64,
    /// Batches that should be there and are not, or that lost records of unknown keys.
    pub damaged: bool,
}

/// Decides about an epoch. `segments` are all there are of it, in the order of their numbers;
/// `end` is what an earlier start or a clean stop recorded.
pub fn decide(segments: &[FoundSegment], end: Option<EpochEnd>) -> Verdict {
    let last_batch = end.map_or_else(|| find_end(segments), |end| end.last_batch);
    let mut damaged = end.is_none() && last_batch > 0 && !is_found(segments, last_batch);
    let mut before = None;
    let last_used = segments.iter().rposition(|found| is_used(found, last_batch));
    for (index, found) in segments.iter().enumerate() {
        match &found.content {
            Err(index) => {
                let next_order = index.orders.map(|(_, last)| Order(last.0 + 1));
                before = Some((index.last_batch, next_order));
            }
            Ok(content) => {
                let is_behind = last_used.is_none_or(|last| index > last);
                // What a recorded end covers may have been let go by compaction since.
                let before_end = before.filter(|_| end.is_none()).map(|(number, _)| number);
                let skipped = was_skipped(&segments[index..], before, last_batch);
                damaged |= !skipped && segment_damaged(content, last_batch, is_behind, before_end);
                damaged |= content.unreadable;
                damaged |= end.is_some_and(|end| {
                    let counts = found.segment.number <= end.last_segment;
                    counts && !skipped && !is_used(found, last_batch)
                });
                if let Some(last) = counted(content, last_batch).last() {
                    let header = last.header;
                    let next_order = Order(header.first_order.0 + u64::from(header.records));
                    before = Some((header.number, header.seal.then_some(next_order)));
                }
            }
        }
    }
    Verdict { last_batch, damaged }
}

/// The batches that count.
pub fn counted(
    content: &ScannedSegment,
    last_batch: u64,
) -> impl DoubleEndedIterator<Item = &ScannedBatch> {
    content.batches.iter().filter(move |batch| batch.header.number <= last_batch)
}

/// From which record on everything that an epoch wrote is there: what it lost has a lower order.
/// `None`: nothing says so.
pub fn clean_from(segments: &[FoundSegment], last_batch: u64) -> Option<Order> {
    let mut from = None;
    let counts = |found: &FoundSegment| is_used(found, last_batch) || found.is_unreadable();
    let last_used = segments.iter().rposition(counts)?;
    for (index, found) in segments[..=last_used].iter().enumerate().rev() {
        let ends_whole = |last: u64, seal: bool| last == last_batch || (seal && index < last_used);
        let all = match &found.content {
            Err(indexed) => {
                let whole = ends_whole(indexed.last_batch, true);
                from = indexed.orders.filter(|_| whole).map(|(first, _)| first).or(from);
                whole
            }
            Ok(content) => {
                let last = counted(content, last_batch).last().map(|last| last.header);
                let whole = last.is_some_and(|last| ends_whole(last.number, last.seal));
                let (all, first) = match whole && !content.unreadable {
                    true => clean_batches(content, last_batch),
                    false => (false, None),
                };
                from = first.or(from);
                all
            }
        };
        if !all {
            break;
        }
    }
    from
}

/// Whether all batches of a segment are there without a loss, and the first order of the last ones
/// of which that is true.
fn clean_batches(content: &ScannedSegment, last_batch: u64) -> (bool, Option<Order>) {
    let mut after: Option<&ScannedBatch> = None;
    for batch in counted(content, last_batch).rev() {
        let adjoins = after.is_none_or(|after| {
            batch.offset + batch.header.padded_length() == after.offset
                && batch.header.number + 1 == after.header.number
        });
        if batch.lost_records || !adjoins {
            return (false, after.map(|batch| batch.header.first_order));
        }
        after = Some(batch);
    }
    let all = after.is_some_and(|first| first.offset == FIRST_BATCH_OFFSET);
    (all, after.map(|batch| batch.header.first_order))
}

/// The end of a run that crashed: what was synced, and whatever follows it without a gap. A segment
/// has its name before anything is written to it, and loses it only when a durable batch calls the
/// one that follows it synced: so the numbers that are missing between a complete segment and the
/// first batch of the next one were in segments that compaction let go, and that batch was synced.
fn find_end(segments: &[FoundSegment]) -> u64 {
    let synced = segments.iter().map(|found| match &found.content {
        Err(index) => index.last_batch,
        Ok(content) => {
            content.batches.iter().map(|batch| batch.header.synced_upto).max().unwrap_or(0)
        }
    });
    let mut end = synced.max().unwrap_or(0);
    let mut before = Some(0);
    for found in segments {
        let batches = found.content.as_ref().map_or(&[][..], |content| &content.batches);
        for batch in batches {
            let number = batch.header.number;
            let is_first = batch.offset == FIRST_BATCH_OFFSET;
            let was_synced = is_first && before.is_some_and(|before| before + 1 < number);
            if was_synced || (batch.is_whole() && number == end + 1) {
                end = end.max(number);
            }
        }
        before = last_of_complete(found, end);
    }
    end
}

/// The number of a segment's last batch, if all of them up to its seal count.
fn last_of_complete(found: &FoundSegment, end: u64) -> Option<u64> {
    match &found.content {
        Err(index) => Some(index.last_batch),
        Ok(content) => {
            let last = content.batches.last()?.header;
            (last.seal && last.number <= end).then_some(last.number)
        }
    }
}

fn scanned(segments: &[FoundSegment]) -> impl Iterator<Item = &ScannedBatch> {
    segments
        .iter()
        .filter_map(|found| found.content.as_ref().ok())
        .flat_map(|content| &content.batches)
}

fn is_found(segments: &[FoundSegment], number: u64) -> bool {
    scanned(segments).any(|batch| batch.header.number == number)
        || segments
            .iter()
            .any(|found| matches!(found.content, Err(index) if index.last_batch >= number))
}

/// The number of the last segment that has a batch that counts, or 0.
pub fn last_segment(segments: &[FoundSegment], last_batch: u64) -> u32 {
    let last = segments.iter().rfind(|found| is_used(found, last_batch));
    last.map_or(0, |found| found.segment.number)
}

/// Whether a segment has a batch that counts.
fn is_used(found: &FoundSegment, last_batch: u64) -> bool {
    match &found.content {
        Err(_) => true,
        Ok(content) => counted(content, last_batch).next().is_some(),
    }
}

/// Whether the log went on from `before` to the next record without the first of `segments`: it had
/// its name, and its preparing failed after that.
fn was_skipped(
    segments: &[FoundSegment],
    before: Option<(u64, Option<Order>)>,
    last_batch: u64,
) -> bool {
    let Some((_, Some(next_order))) = before else { return false };
    let Some(next) = segments.iter().find(|found| is_used(found, last_batch)) else { return false };
    let first_order = match &next.content {
        Err(index) => index.orders.map(|(first, _)| first),
        Ok(content) => counted(content, last_batch)
            .next()
            .filter(|batch| batch.offset == FIRST_BATCH_OFFSET)
            .map(|batch| batch.header.first_order),
    };
    next.segment != segments[0].segment && first_order == Some(next_order)
}

/// Whether something that counted is missing from a segment. `is_behind`: nothing counts in it or
/// after it. `before`: the last batch that was seen before it.
fn segment_damaged(
    content: &ScannedSegment,
    last_batch: u64,
    is_behind: bool,
    before: Option<u64>,
) -> bool {
    let batches: Vec<&ScannedBatch> = counted(content, last_batch).collect();
    let (Some(first), Some(last)) = (batches.first(), batches.last()) else {
        // Behind the end there are empty ones: what was prepared ahead, and before it those whose
        // first batches were all on their way to the disk.
        return !is_behind || before.is_some_and(|number| number < last_batch);
    };
    let starts_late = first.offset != FIRST_BATCH_OFFSET;
    let gap = batches.windows(2).any(|pair| {
        pair[0].offset + pair[0].header.padded_length() != pair[1].offset
            || pair[0].header.number + 1 != pair[1].header.number
    });
    let cut = !last.header.seal && last.header.number != last_batch;
    starts_late || gap || cut || batches.iter().any(|batch| batch.lost_records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::LogId;
    use crate::storage::batch::BatchHeader;

    #[test]
    fn what_follows_the_synced_batches_without_a_gap_counts() {
        let segments = [segment(1, &[(1, 0), (2, 0), (3, 1), (5, 1)])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 3, damaged: false });
    }

    #[test]
    fn a_gap_that_a_later_batch_calls_synced_is_damage_and_the_log_goes_on_behind_it() {
        let segments = [segment(1, &[(1, 0), (3, 1), (4, 2)])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 4, damaged: true });
    }

    #[test]
    fn a_recorded_end_is_believed_whatever_stands_behind_it() {
        let segments = [segment(1, &[(1, 0), (2, 1), (4, 1)])];
        assert_eq!(decide(&segments, ended(2, 1)), Verdict { last_batch: 2, damaged: false });
        assert_eq!(decide(&segments, ended(3, 1)), Verdict { last_batch: 3, damaged: true });
    }

    #[test]
    fn an_empty_last_segment_was_prepared_and_an_empty_other_one_is_damage() {
        let mut first = segment(1, &[(1, 0), (2, 1)]);
        seal(&mut first);
        let segments = [first, segment(2, &[])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 2, damaged: false });

        let mut first = segment(1, &[(1, 0), (2, 1)]);
        seal(&mut first);
        let segments = [first, segment(2, &[]), segment(3, &[(5, 4)])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 5, damaged: true });
    }

    /// The second one's directory could not be synced when it was prepared: the log went on in the
    /// third.
    #[test]
    fn an_empty_segment_that_the_log_passed_over_is_no_damage() {
        let mut first = segment(1, &[(1, 0), (2, 1)]);
        seal(&mut first);
        let mut segments = [first, segment(2, &[]), segment(3, &[(3, 2)])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 3, damaged: false });
        assert_eq!(decide(&segments, ended(3, 3)), Verdict { last_batch: 3, damaged: false });
        segments[2] = segment(3, &[(4, 2)]);
        assert_eq!(decide(&segments, ended(4, 3)), Verdict { last_batch: 4, damaged: true });
    }

    /// The same, and the third has a keydir file by now.
    #[test]
    fn a_passed_over_segment_before_an_indexed_one_is_no_damage() {
        for (first_order, damaged) in [(3, false), (4, true)] {
            let mut first = segment(1, &[(1, 0), (2, 1)]);
            seal(&mut first);
            let orders = Some((Order(first_order), Order(9)));
            let third = FoundSegment {
                segment: SegmentId { log: LogId::new(1), number: 3 },
                content: Err(Indexed { last_batch: 9, orders }),
            };
            let segments = [first, segment(2, &[]), third];
            for end in [None, ended(9, 3)] {
                assert_eq!(decide(&segments, end), Verdict { last_batch: 9, damaged });
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_damage_even_at_the_end() {
        let mut last = segment(1, &[(1, 0), (2, 1)]);
        last.content.as_mut().expect("it was scanned").unreadable = true;
        assert_eq!(decide(&[last], None), Verdict { last_batch: 2, damaged: true });
    }

    /// The log went on in the second segment and prepared the third; of the second's batches none
    /// came to the disk.
    #[test]
    fn two_empty_segments_behind_the_end_are_no_damage() {
        let mut first = segment(1, &[(1, 0), (2, 1)]);
        seal(&mut first);
        let segments = [first, segment(2, &[]), segment(3, &[])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 2, damaged: false });
    }

    /// Several were prepared ahead; batches of two of them were on their way, and the later one's
    /// came to the disk alone.
    #[test]
    fn what_was_prepared_ahead_may_be_many_and_hides_nothing() {
        let mut first = segment(1, &[(1, 0), (2, 1)]);
        seal(&mut first);
        let mut segments = vec![first];
        segments.extend((2..7).map(|number| segment(number, &[])));
        assert_eq!(decide(&segments, None), Verdict { last_batch: 2, damaged: false });
        assert_eq!(last_segment(&segments, 2), 1);

        segments[2] = segment(3, &[(5, 2)]);
        assert_eq!(decide(&segments, None), Verdict { last_batch: 2, damaged: false });
        segments[2] = segment(3, &[(5, 4)]);
        assert_eq!(decide(&segments, None), Verdict { last_batch: 5, damaged: true });
    }

    #[test]
    fn a_segment_before_which_others_were_compacted_away_is_whole() {
        let segments = [segment(5, &[(40, 39), (41, 40)])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 41, damaged: false });
    }

    /// The rest was compacted away; a clean stop recorded the end and left a prepared segment.
    #[test]
    fn an_empty_segment_behind_a_recorded_end_was_prepared() {
        let mut first = segment(1, &[(1, 0), (2, 1)]);
        seal(&mut first);
        let segments = [first, segment(9, &[])];
        assert_eq!(decide(&segments, ended(7, 4)), Verdict { last_batch: 7, damaged: false });
    }

    /// Both of its batches were synced, and both are bad: the prepared segment behind it is not.
    #[test]
    fn an_empty_segment_before_a_recorded_end_lost_its_batches() {
        let segments = [segment(1, &[]), segment(2, &[])];
        assert_eq!(decide(&segments, ended(2, 1)), Verdict { last_batch: 2, damaged: true });
        assert_eq!(decide(&segments, ended(0, 0)), Verdict { last_batch: 0, damaged: false });
    }

    /// Batches 36 and 37 were in a segment that compaction let go. Batch 38 was built before they
    /// were synced, so nothing says that they were.
    #[test]
    fn a_batch_behind_retired_ones_counts() {
        let segments = [segment(195, &[(38, 35)]), segment(197, &[])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 38, damaged: false });
    }

    /// They were let go when a durable batch called batch 38 synced, whether its own word is of 35 or
    /// of 37.
    #[test]
    fn a_bad_batch_behind_retired_ones_is_damage() {
        for synced_upto in [35, 37] {
            let mut bad = segment(195, &[(38, synced_upto)]);
            bad.content.as_mut().expect("it was scanned").batches[0].lost_records = true;
            let segments = [bad, segment(197, &[])];
            assert_eq!(decide(&segments, None), Verdict { last_batch: 38, damaged: true });
        }
    }

    #[test]
    fn a_bad_batch_behind_a_complete_segment_is_the_torn_end() {
        let mut first = segment(1, &[(1, 0), (2, 1)]);
        seal(&mut first);
        let mut torn = segment(2, &[(3, 1)]);
        torn.content.as_mut().expect("it was scanned").batches[0].lost_records = true;
        assert_eq!(decide(&[first, torn], None), Verdict { last_batch: 2, damaged: false });
    }

    #[test]
    fn a_batch_behind_one_that_never_came_to_the_disk_does_not_count() {
        let segments = [segment(1, &[(1, 0), (2, 1)]), segment(2, &[(4, 1)])];
        assert_eq!(decide(&segments, None), Verdict { last_batch: 2, damaged: false });
    }

    /// Batch 2 is gone, then batch 5 lost records; what is before them may have been replaced by what
    /// they held, and what follows the last bad place was not.
    #[test]
    fn what_follows_the_last_bad_place_is_clean() {
        let mut first = segment(1, &[(1, 0), (3, 1)]);
        assert_eq!(clean_from(&[segment(1, &[(1, 0), (3, 2), (4, 3)])], 4), Some(Order(3)));
        assert_eq!(clean_from(&[segment(1, &[(1, 0), (3, 2), (4, 3)])], 5), None, "5 is gone");
        seal(&mut first);
        let indexed = FoundSegment {
            segment: SegmentId { log: LogId::new(1), number: 2 },
            content: Err(Indexed { last_batch: 6, orders: Some((Order(4), Order(6))) }),
        };
        let last = segment(3, &[(7, 5), (8, 6)]);
        let mut segments = vec![first, indexed, last];
        assert_eq!(clean_from(&segments, 8), Some(Order(3)), "across a segment with an index");
        segments[0].content.as_mut().expect("it was scanned").batches[1].lost_records = true;
        assert_eq!(clean_from(&segments, 8), Some(Order(4)));
        segments[2].content.as_mut().expect("it was scanned").batches[0].lost_records = true;
        assert_eq!(clean_from(&segments, 8), Some(Order(8)));
        let mut behind = segment(4, &[]);
        behind.content.as_mut().expect("it was scanned").unreadable = true;
        segments.push(behind);
        assert_eq!(clean_from(&segments, 8), None, "what comes behind the end is not known");
        segments.pop();
        segments[2].content.as_mut().expect("it was scanned").unreadable = true;
        assert_eq!(clean_from(&segments, 8), None);
    }

    fn ended(last_batch: u64, last_segment: u32) -> Option<EpochEnd> {
        let last_order = Order(last_batch);
        Some(EpochEnd { log: LogId::new(1), epoch: 1, last_batch, last_segment, last_order })
    }

    fn segment(number: u32, batches: &[(u64, u64)]) -> FoundSegment {
        let first = batches.first().map_or(0, |(number, _)| *number);
        let batch = |(number, synced_upto): &(u64, u64)| ScannedBatch {
            offset: FIRST_BATCH_OFFSET * (1 + (number - first) as u32),
            header: BatchHeader {
                epoch: 1,
                number: *number,
                synced_upto: *synced_upto,
                first_order: Order(*number),
                length: 100,
                records: 1,
                seal: false,
            },
            records: Vec::new(),
            bad_records: Vec::new(),
            lost_records: false,
        };
        let content =
            ScannedSegment { batches: batches.iter().map(batch).collect(), ..Default::default() };
        FoundSegment { segment: SegmentId { log: LogId::new(1), number }, content: Ok(content) }
    }

    fn seal(found: &mut FoundSegment) {
        let content = found.content.as_mut().expect("it was scanned");
        content.batches.last_mut().expect("it has batches").header.seal = true;
    }
}
