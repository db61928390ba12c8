//! Reads what is on the disk at a start. It decides nothing: `restore` makes a keydir of it.
//!
//! One operation at a time, in a fixed order: directory, lists, manifests, then for each segment
//! its keydir file or, where there is no good one, the segment itself.

use std::collections::BTreeMap;
use std::collections::VecDeque;

use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::Failure;
use crate::storage::effect::File;
use crate::storage::index_file;
use crate::storage::index_file::IndexEntry;
use crate::storage::index_file::IndexHeader;
use crate::storage::manifest::EpochEnd;
use crate::storage::manifest::Manifest;
use crate::storage::scan::Scan;
use crate::storage::scan::ScannedSegment;

/// Segments are read in pieces of at most this size, in bytes.
pub(in crate::storage) const PIECE_BYTES_MAX: u32 = 1024 * 1024;

/// What cannot be read at a start is tried again so often, then it is damage.
pub(in crate::storage) const READ_FAILURES_MAX: u32 = 3;

/// What a segment has, as far as it was found.
#[derive(Debug)]
pub enum Content {
    /// From a good keydir file.
    Indexed(IndexHeader, Vec<IndexEntry>),
    /// From the segment itself.
    Scanned(ScannedSegment),
}

/// Everything that was found.
#[derive(Debug, Default)]
pub struct Found {
    /// Manifests by log; a log may have none yet.
    pub manifests: BTreeMap<LogId, Manifest>,
    /// Segments with the lengths of their files.
    pub segments: BTreeMap<SegmentId, (u64, Content)>,
    /// Files that mean nothing: leftovers of a crash.
    pub leftovers: Vec<File>,
    /// Segments whose keydir file was missing or bad.
    pub scanned: u64,
}

/// Why a log cannot be started. Nothing was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StartError {
    /// The disk failed while it was read.
    Disk(Failure),
    /// There are segments, but the manifest is missing or bad in both its copies.
    NoManifest(LogId),
    /// The directory was made for another number of partitions.
    OtherPartitions {
        /// What the directory has.
        found: u16,
        /// What was asked for.
        asked: u16,
    },
}

/// Where an epoch ended, if an earlier start knew it: it said so in the log's own manifest or in
/// that of one that adopted it.
pub fn recorded_end(
    manifests: &BTreeMap<LogId, Manifest>,
    log: LogId,
    epoch: u64,
) -> Option<EpochEnd> {
    let of_others = || manifests.values().find_map(|manifest| manifest.end_of(log, epoch));
    manifests.get(&log).and_then(|manifest| manifest.end_of(log, epoch)).or_else(of_others)
}

#[derive(Debug)]
enum Step {
    CreateDirectory(LogId),
    List(LogId),
    Manifest(LogId, u64),
    Index(SegmentId, u64),
    Segment(Box<Scan>),
}

/// The reading of a shard's logs.
#[derive(Debug)]
pub struct Recovery {
    steps: VecDeque<Step>,
    found: Found,
    lengths: BTreeMap<SegmentId, u64>,
    /// Failures in a row to read the present piece.
    read_failures: u32,
    piece_bytes: u32,
}

impl Recovery {
    /// Reads `own`, which is made if it is not there, and the logs that were adopted, segments in
    /// pieces of so many bytes.
    pub fn new(own: LogId, adopted: &[LogId], piece_bytes: u32) -> Self {
        let mut steps = VecDeque::from([Step::CreateDirectory(own), Step::List(own)]);
        steps.extend(adopted.iter().map(|log| Step::List(*log)));
        let (found, lengths) = Default::default();
        Self { steps, found, lengths, read_failures: 0, piece_bytes }
    }

    /// The next operation. `None`: all was read, take it with [`Recovery::finish`].
    pub fn next_operation(&self) -> Option<Bulk> {
        Some(match self.steps.front()? {
            Step::CreateDirectory(log) => Bulk::CreateDirectory { log: *log },
            Step::List(log) => Bulk::List { log: *log },
            Step::Manifest(log, length) => {
                Bulk::Read { file: File::Manifest(*log), offset: 0, length: *length as u32 }
            }
            Step::Index(segment, length) => {
                Bulk::Read { file: File::Index(*segment), offset: 0, length: *length as u32 }
            }
            Step::Segment(scan) => Bulk::Read {
                file: File::Segment(scan.segment()),
                offset: u64::from(scan.wanted()),
                length: self.piece_bytes,
            },
        })
    }

    /// The operation that [`Recovery::next_operation`] gave is done.
    ///
    /// # Errors
    ///
    /// [`StartError::Disk`]; the recovery is over then.
    pub fn done(&mut self, result: Result<Done, Failure>) -> Result<(), StartError> {
        let step = self.steps.pop_front().expect("an operation was asked for");
        match (step, result) {
            (Step::CreateDirectory(_), Ok(_)) => {}
            (Step::List(log), Ok(Done::Listed(files))) => self.listed(log, files),
            (Step::Manifest(log, _), Ok(Done::Read(bytes))) => {
                if let Some(manifest) = Manifest::from_file(&bytes) {
                    self.found.manifests.insert(log, manifest);
                }
            }
            (Step::Index(segment, _), Ok(Done::Read(bytes))) => self.index_read(segment, &bytes),
            (Step::Index(segment, _), Err(_)) => self.scan(segment),
            (Step::Segment(mut scan), Ok(Done::Read(bytes))) => {
                self.read_failures = 0;
                scan.feed(&bytes, |_, _| {});
                if scan.at_end() || self.is_over(&scan) {
                    self.segment_read(*scan);
                } else {
                    self.steps.push_front(Step::Segment(scan));
                }
            }
            (Step::Segment(scan), Err(Failure::Io)) if self.read_failures < READ_FAILURES_MAX => {
                self.read_failures += 1;
                self.steps.push_front(Step::Segment(scan));
            }
            (Step::Segment(mut scan), Err(Failure::Io)) => {
                self.read_failures = 0;
                scan.skip_unreadable(self.piece_bytes);
                if scan.at_end() {
                    self.segment_read(*scan);
                } else {
                    self.steps.push_front(Step::Segment(scan));
                }
            }
            // Adopted before it ever started: its directory is made first of all.
            (Step::List(log), Err(Failure::NotFound)) => self.listed(log, Vec::new()),
            (_, Err(failure)) => return Err(StartError::Disk(failure)),
            (step, Ok(done)) => panic!("the disk answered {step:?} with {done:?}"),
        }
        Ok(())
    }

    /// What was found.
    pub fn finish(self) -> Found {
        assert!(self.steps.is_empty(), "not everything was read");
        self.found
    }

    fn listed(&mut self, log: LogId, mut files: Vec<(File, u64)>) {
        files.sort();
        let lengths: BTreeMap<File, u64> = files.iter().copied().collect();
        for (file, length) in files {
            match file {
                // Before any segment: it tells where their epochs ended.
                File::Manifest(_) => self.steps.push_front(Step::Manifest(log, length)),
                File::Temporary { .. } => self.found.leftovers.push(file),
                File::Index(segment) if !lengths.contains_key(&File::Segment(segment)) => {
                    self.found.leftovers.push(file);
                }
                File::Index(_) => {}
                File::Segment(segment) => {
                    self.lengths.insert(segment, length);
                    match lengths.get(&File::Index(segment)) {
                        Some(length) => self.steps.push_back(Step::Index(segment, *length)),
                        None => self.scan(segment),
                    }
                }
            }
        }
    }

    /// Whether nothing that follows in a segment can count. After many kills in a row there are many
    /// segments without a keydir file, each with little at its front.
    fn is_over(&self, scan: &Scan) -> bool {
        let SegmentId { log, number } = scan.segment();
        let end = |epoch| recorded_end(&self.found.manifests, log, epoch);
        let Some(last) = scan.last_batch() else {
            // What was prepared stays in an adopted log until all of it goes.
            let prepared = scan.header().and_then(|header| end(header.epoch));
            return prepared.is_some_and(|end| number > end.last_segment);
        };
        last.seal || end(last.epoch).is_some_and(|end| last.number >= end.last_batch)
    }

    fn index_read(&mut self, segment: SegmentId, bytes: &[u8]) {
        match index_file::read(bytes, segment) {
            Some((header, entries)) => {
                let content = Content::Indexed(header, entries.collect());
                self.found.segments.insert(segment, (self.lengths[&segment], content));
            }
            None => self.scan(segment),
        }
    }

    fn scan(&mut self, segment: SegmentId) {
        self.found.scanned += 1;
        let length = u32::try_from(self.lengths[&segment]).unwrap_or(u32::MAX);
        self.steps.push_back(Step::Segment(Box::new(Scan::new(segment, length))));
    }

    fn segment_read(&mut self, scan: Scan) {
        let segment = scan.segment();
        let content = Content::Scanned(scan.finish());
        self.found.segments.insert(segment, (self.lengths[&segment], content));
    }
}
