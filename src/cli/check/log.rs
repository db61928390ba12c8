//! One log, read whole.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::path::PathBuf;

use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::storage::batch::BATCH_HEADER_BYTES;
use crate::storage::batch::FIRST_BATCH_OFFSET;
use crate::storage::index_file;
use crate::storage::index_file::IndexEntry;
use crate::storage::log_end;
use crate::storage::log_end::FoundSegment;
use crate::storage::log_end::Indexed;
use crate::storage::manifest::EpochEnd;
use crate::storage::manifest::Manifest;
use crate::storage::scan::Scan;
use crate::storage::scan::ScannedBatch;
use crate::storage::scan::ScannedSegment;

/// What a log holds, and what of it is damaged.
#[derive(Debug, Default)]
pub(super) struct LogReport {
    pub(super) segments: u64,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) tombstones: u64,
    pub(super) bytes: u64,
    /// Behind the end of a run that crashed: never acknowledged.
    pub(super) cut_batches: u64,
    pub(super) damages: Vec<Damage>,
}

impl LogReport {
    pub(super) fn add(&mut self, other: &Self) {
        self.segments += other.segments;
        self.batches += other.batches;
        self.records += other.records;
        self.tombstones += other.tombstones;
        self.bytes += other.bytes;
        self.cut_batches += other.cut_batches;
        self.damages.extend(other.damages.iter().cloned());
    }
}

/// A place that is not as it was written.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Damage {
    pub(super) file: PathBuf,
    pub(super) offset: u64,
    pub(super) what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.file.display(), self.offset, self.what)
    }
}

/// A segment with everything that is known of it.
struct Segment {
    id: SegmentId,
    path: PathBuf,
    bytes: u64,
    content: ScannedSegment,
    /// The last batch that counts and the entries, of a good keydir file.
    index: Option<(u64, Vec<IndexEntry>)>,
}

/// Reads a log in its folder.
pub(super) fn check(log: LogId, folder: &Path) -> Result<LogReport, String> {
    let (mut report, mut epochs) = (LogReport::default(), BTreeMap::<u64, Vec<Segment>>::new());
    let numbers = segment_numbers(folder).map_err(|error| at(folder, &error))?;
    let manifest = read_manifest(&folder.join("manifest"), &numbers, &mut report)?;
    for number in numbers {
        let segment = read_segment(folder, SegmentId { log, number }, &mut report)?;
        epochs.entry(epoch_of(&segment.content)).or_default().push(segment);
    }
    for (epoch, segments) in epochs {
        let last_batch = if epoch == 0 {
            segments.iter().for_each(|segment| check_compacted(segment, &mut report));
            u64::MAX
        } else {
            let end = manifest.as_ref().and_then(|it| it.end_of(log, epoch));
            check_epoch(&segments, end, &mut report)
        };
        for segment in &segments {
            count(segment, last_batch, &mut report);
        }
    }
    report.damages.sort();
    report.damages.dedup();
    Ok(report)
}

/// The number that a name of eight hexadecimal digits is.
pub(super) fn number(name: &str) -> Option<u32> {
    let plain = name.len() == 8 && name.bytes().all(|digit| b"0123456789abcdef".contains(&digit));
    plain.then(|| u32::from_str_radix(name, 16).ok())?
}

fn segment_numbers(folder: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(|name| number(name.strip_suffix(".seg")?)));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn read_manifest(
    path: &Path,
    segments: &[u32],
    report: &mut LogReport,
) -> Result<Option<Manifest>, String> {
    let mut damaged = |offset, what: &str| {
        report.damages.push(Damage { file: path.to_owned(), offset, what: what.to_owned() });
    };
    let file = match fs::read(path) {
        Ok(file) => file,
        // Written before the first segment has its name.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if !segments.is_empty() {
                damaged(0, "the manifest is missing");
            }
            return Ok(None);
        }
        Err(error) => return Err(at(path, &error)),
    };
    let half = file.len() / 2;
    for (offset, copy) in [(0, &file[..half]), (half as u64, &file[half..])] {
        if Manifest::from_file(&[copy, copy].concat()).is_none() {
            damaged(offset, "one of the two copies of the manifest");
        }
    }
    Ok(Manifest::from_file(&file))
}

/// Pieces in which segments are read, in bytes.
const PIECE_BYTES: usize = 1024 * 1024;

fn read_segment(folder: &Path, id: SegmentId, report: &mut LogReport) -> Result<Segment, String> {
    let path = folder.join(format!("{:08x}.seg", id.number));
    let file = File::open(&path).map_err(|error| at(&path, &error))?;
    let bytes = file.metadata().map_err(|error| at(&path, &error))?.len();
    let mut scan = Scan::new(id, u32::try_from(bytes).unwrap_or(u32::MAX));
    let mut piece = vec![0; PIECE_BYTES];
    while !scan.at_end() {
        let wanted = (scan.missing() as usize).min(PIECE_BYTES);
        match file.read_at(&mut piece[..wanted], u64::from(scan.wanted())) {
            Ok(read) => scan.feed(&piece[..read], |_, _| {}),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let what = format!("cannot be read: {error}");
                let offset = u64::from(scan.wanted());
                report.damages.push(Damage { file: path.clone(), offset, what });
                piece[..wanted].fill(0);
                scan.feed(&piece[..wanted], |_, _| {});
            }
        }
    }
    let index = read_index(folder, id, report)?;
    Ok(Segment { id, path, bytes, content: scan.finish(), index })
}

fn read_index(
    folder: &Path,
    id: SegmentId,
    report: &mut LogReport,
) -> Result<Option<(u64, Vec<IndexEntry>)>, String> {
    let path = folder.join(format!("{:08x}.idx", id.number));
    let file = match fs::read(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(at(&path, &error)),
    };
    let index = index_file::read(&file, id)
        .map(|(header, entries)| (header.last_batch, entries.collect::<Vec<_>>()));
    if index.is_none() {
        // It is renamed into place when it is whole: it was good once.
        let what = "the keydir file; its segment is read instead".to_owned();
        report.damages.push(Damage { file: path, offset: 0, what });
    }
    Ok(index)
}

/// The epoch that wrote a segment; 0: compaction did, or nothing of it can be read.
fn epoch_of(content: &ScannedSegment) -> u64 {
    match content.header {
        Some(header) if header.compacted.is_some() => 0,
        Some(header) => header.epoch,
        None => content.batches.first().map_or(0, |batch| batch.header.epoch),
    }
}

fn check_compacted(segment: &Segment, report: &mut LogReport) {
    check_header(segment, report);
    let compacted = segment.content.header.and_then(|header| header.compacted);
    let found = segment.content.batches.len() as u64;
    if compacted.is_some_and(|compacted| compacted.batches != found) {
        check_gaps(segment, FIRST_BATCH_OFFSET, u64::MAX, report);
    }
    check_records(segment, u64::MAX, report);
}

/// Says what of an epoch is damaged, and which of its batches is the last that counts.
fn check_epoch(segments: &[Segment], end: Option<EpochEnd>, report: &mut LogReport) -> u64 {
    let found: Vec<FoundSegment> = segments.iter().map(as_found).collect();
    let verdict = log_end::decide(&found, end);
    let before = report.damages.len();
    for segment in segments {
        check_header(segment, report);
        let last_batch = segment.index.as_ref().map_or(verdict.last_batch, |(last, _)| *last);
        check_records(segment, last_batch, report);
        if verdict.damaged {
            check_gaps(segment, FIRST_BATCH_OFFSET, verdict.last_batch, report);
        }
    }
    if verdict.damaged && report.damages.len() == before {
        // Whole batches are gone from the end of what was synced.
        let last = segments.last().expect("an epoch has segments");
        let offset = end_of_batches(last, verdict.last_batch);
        let what = "batches that were synced are missing from here on".to_owned();
        report.damages.push(Damage { file: last.path.clone(), offset, what });
    }
    verdict.last_batch
}

/// As a start sees it, which believes a good keydir file.
fn as_found(segment: &Segment) -> FoundSegment {
    let content = match &segment.index {
        Some((last_batch, _)) => Err(Indexed { last_batch: *last_batch, orders: None }),
        None => Ok(segment.content.clone()),
    };
    FoundSegment { segment: segment.id, content }
}

fn check_header(segment: &Segment, report: &mut LogReport) {
    if segment.content.header.is_none() {
        report.damages.push(segment.damage(0, "the first page of the segment"));
    }
}

fn check_records(segment: &Segment, last_batch: u64, report: &mut LogReport) {
    let mut good = BTreeMap::new();
    for batch in log_end::counted(&segment.content, last_batch) {
        good.extend(batch.records.iter().map(|record| (record.offset, record.order)));
        for record in &batch.bad_records {
            let what = format!("key or value of a record of partition {}", record.partition);
            report.damages.push(segment.damage(record.offset.into(), &what));
        }
        if batch.lost_records {
            let after = batch.records.iter().chain(&batch.bad_records);
            let end = after.map(|record| record.offset + record.length).max();
            let offset = end.unwrap_or(batch.offset + BATCH_HEADER_BYTES as u32);
            report.damages.push(segment.damage(offset.into(), "the header of a record"));
        }
    }
    let Some((_, entries)) = &segment.index else { return };
    let named: BTreeSet<u64> = report
        .damages
        .iter()
        .filter(|damage| damage.file == segment.path)
        .map(|damage| damage.offset)
        .collect();
    for entry in entries {
        if good.get(&entry.offset) != Some(&entry.order) {
            let what = format!("a record of partition {} is not there", entry.partition);
            let offset = u64::from(entry.offset);
            if !named.contains(&offset) {
                report.damages.push(segment.damage(offset, &what));
            }
        }
    }
}

/// Names the places between batches where one is missing.
fn check_gaps(segment: &Segment, first: u32, last_batch: u64, report: &mut LogReport) {
    let mut expected = first;
    for batch in log_end::counted(&segment.content, last_batch) {
        if batch.offset != expected {
            report.damages.push(segment.damage(expected.into(), "a batch is missing"));
        }
        expected = end_of(batch);
    }
}

fn end_of(batch: &ScannedBatch) -> u32 {
    batch.offset.saturating_add(batch.header.padded_length())
}

fn end_of_batches(segment: &Segment, last_batch: u64) -> u64 {
    let last = log_end::counted(&segment.content, last_batch).last();
    last.map_or(FIRST_BATCH_OFFSET, end_of).into()
}

fn count(segment: &Segment, last_batch: u64, report: &mut LogReport) {
    report.segments += 1;
    report.bytes += segment.bytes;
    let mut counted = 0;
    for batch in log_end::counted(&segment.content, last_batch) {
        counted += 1;
        report.records += batch.records.len() as u64;
        report.tombstones += batch.records.iter().filter(|record| record.tombstone).count() as u64;
    }
    report.batches += counted;
    report.cut_batches += segment.content.batches.len() as u64 - counted;
}

impl Segment {
    fn damage(&self, offset: u64, what: &str) -> Damage {
        Damage { file: self.path.clone(), offset, what: what.to_owned() }
    }
}

fn at(path: &Path, error: &io::Error) -> String {
    format!("{}: {error}", path.display())
}
