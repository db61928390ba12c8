//! Sealed segments in memory, served without a system call.
//!
//! # Why a read from here cannot stall its core
//!
//! A segment is served only after every page of it was read in, in the background, by
//! `MADV_POPULATE_READ`: an unreadable page is an error of that call and not a signal at some later
//! read. Where the limit of locked memory allows, the pages are locked too. Where it does not, the
//! kernel may take pages away under pressure; such a read waits for the disk, and is counted as a
//! major fault of the shard's thread ([`major_faults`]).
//!
//! # What remains
//!
//! A map shares its pages with the file. If somebody truncates a segment under a running node, or
//! the disk fails while a page that was taken away is read again, the process gets SIGBUS and ends;
//! its log survives that. Nothing in this program truncates a segment: files are replaced by rename
//! and removed by unlink, which leave a map whole.

#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io;
use std::path::Path;

use memmap2::Advice;
use memmap2::Mmap;
use memmap2::MmapOptions;

use crate::base::id::SegmentId;
use crate::storage::effect::Resident;

/// Pages are read in by so many bytes at once: between two pieces others may use the disk.
const POPULATE_BYTES: usize = 1024 * 1024;

/// A file whose pages are all in memory.
#[derive(Debug)]
pub(super) struct Map {
    bytes: Mmap,
    locked: bool,
}

impl Map {
    /// Maps a file and reads it in. Waits for the disk: not for the thread of a shard.
    ///
    /// # Errors
    ///
    /// Those of the file, and `EFAULT` or `EIO` if a page of it cannot be read.
    pub(super) fn read_in(path: &Path) -> io::Result<Self> {
        let file = std::fs::File::open(path)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if length == 0 {
            return Err(io::Error::other("an empty file is no segment"));
        }
        // SAFETY: the map is shared with the file, whose bytes must not change while they are lent.
        // A sealed segment is never written again by this process, which holds the lock of the data
        // directory, and whoever reads from a map checks the record's checksum; see the module's
        // documentation for what is left.
        let bytes = unsafe { MmapOptions::new().len(length).map(&file)? };
        for start in (0..length).step_by(POPULATE_BYTES) {
            let piece = POPULATE_BYTES.min(length - start);
            bytes.advise_range(Advice::PopulateRead, start, piece)?;
        }
        if file.metadata()?.len() != length as u64 {
            return Err(io::Error::other("the file changed its length while it was mapped"));
        }
        let locked = bytes.lock().is_ok();
        Ok(Self { bytes, locked })
    }
}

/// The maps of one shard.
#[derive(Debug, Default)]
pub(super) struct Maps {
    maps: HashMap<SegmentId, Map, ahash::RandomState>,
    /// What was asked for and has not come. The number tells two askings apart.
    asked: HashMap<SegmentId, u64, ahash::RandomState>,
    last_asking: u64,
}

impl Maps {
    /// The shard wants this segment. Returns the number of the asking.
    pub(super) fn ask(&mut self, segment: SegmentId) -> u64 {
        self.last_asking += 1;
        self.asked.insert(segment, self.last_asking);
        self.last_asking
    }

    /// The background answered an asking. True if the shard still waits for it; otherwise the map
    /// is given back, to be unmapped elsewhere.
    pub(super) fn answer(
        &mut self,
        segment: SegmentId,
        asking: u64,
        map: Option<Map>,
    ) -> Result<(), Option<Map>> {
        if self.asked.get(&segment) != Some(&asking) {
            return Err(map);
        }
        self.asked.remove(&segment);
        if let Some(map) = map {
            self.maps.insert(segment, map);
        }
        Ok(())
    }

    /// The shard wants it no more. Returns the map, to be unmapped elsewhere: that takes a while.
    pub(super) fn drop_segment(&mut self, segment: SegmentId) -> Option<Map> {
        self.asked.remove(&segment);
        self.maps.remove(&segment)
    }

    /// Bytes that are mapped, and those of them that are locked.
    pub(super) fn bytes(&self) -> (u64, u64) {
        self.maps.values().fold((0, 0), |(all, locked), map| {
            let bytes = map.bytes.len() as u64;
            (all + bytes, locked + if map.locked { bytes } else { 0 })
        })
    }
}

impl Resident for Maps {
    fn slice(&self, segment: SegmentId, offset: u32, length: u32) -> Option<&[u8]> {
        let start = offset as usize;
        self.maps.get(&segment)?.bytes.get(start..start.checked_add(length as usize)?)
    }
}

/// Page faults of the calling thread that waited for the disk.
pub(super) fn major_faults() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").ok()?;
    // The name of the thread, in parentheses, may hold blanks; the tenth word after it counts.
    stat.rsplit_once(')')?.1.split_whitespace().nth(9)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::LogId;
    use crate::engine::scratch::Scratch;

    const SEGMENT: SegmentId = SegmentId { log: LogId::new(1), number: 1 };

    fn map(bytes: &[u8]) -> (Scratch, Map) {
        let scratch = Scratch::new();
        let path = scratch.path().join("file");
        std::fs::write(&path, bytes).expect("there is room");
        let map = Map::read_in(&path).expect("it can be read");
        (scratch, map)
    }

    #[test]
    fn it_serves_what_is_in_the_file_and_nothing_beyond() {
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let (_scratch, map) = map(&bytes);
        let mut maps = Maps::default();
        assert_eq!(maps.slice(SEGMENT, 0, 1), None);
        let asking = maps.ask(SEGMENT);
        assert!(maps.answer(SEGMENT, asking, Some(map)).is_ok());
        assert_eq!(maps.slice(SEGMENT, 2_000_000, 9), Some(&bytes[2_000_000..2_000_009]));
        assert_eq!(maps.slice(SEGMENT, 2_999_999, 1), Some(&bytes[2_999_999..]));
        assert_eq!(maps.slice(SEGMENT, 2_999_999, 2), None);
        assert_eq!(maps.slice(SEGMENT, u32::MAX, u32::MAX), None);
        assert_eq!(maps.bytes().0, 3_000_000);
        assert!(maps.drop_segment(SEGMENT).is_some());
        assert_eq!(maps.slice(SEGMENT, 0, 1), None);
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_given_back() {
        let (_scratch, map) = map(b"bytes");
        let mut maps = Maps::default();
        let first = maps.ask(SEGMENT);
        assert!(maps.drop_segment(SEGMENT).is_none());
        let second = maps.ask(SEGMENT);
        let unwanted = maps.answer(SEGMENT, first, Some(map)).expect_err("it was dropped");
        assert!(maps.answer(SEGMENT, second, unwanted).is_ok());
        assert_eq!(maps.slice(SEGMENT, 0, 5), Some(&b"bytes"[..]));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_no_signal() {
        let scratch = Scratch::new();
        assert!(Map::read_in(&scratch.path().join("missing")).is_err());
        let empty = scratch.path().join("empty");
        std::fs::write(&empty, b"").expect("there is room");
        assert!(Map::read_in(&empty).is_err());
        assert!(Map::read_in(scratch.path()).is_err());
    }

    #[test]
    fn faults_are_counted() {
        assert!(major_faults().is_some());
    }
}
