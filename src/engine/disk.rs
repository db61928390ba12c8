//! Performs what a log waits for: writes of batches, and reads of records that are not in memory.
//!
//! A batch is one direct write that syncs itself: into a segment that was filled with zeros it
//! costs half of any other way, and one submission. A read first asks the page cache without
//! waiting, for a record that is there is 0.9 µs away; a miss has already begun to read the page, and
//! the ring tells when it is there. Given to a thread of the kernel, as the ring offers for reads that
//! are known to wait, it would cost this core a third more.

use std::collections::VecDeque;
use std::fs::OpenOptions;
use std::io;
use std::io::IoSliceMut;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::rc::Rc;
use std::sync::Arc;

use rustix::fs::Advice;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::io::ReadWriteFlags;

use crate::base::aligned::AlignedBuffer;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::base::id::Ticket;
use crate::engine::paths::Paths;
use crate::engine::uring::Completion;
use crate::engine::uring::Held;
use crate::engine::uring::Token;
use crate::engine::uring::Uring;
use crate::storage::effect::Failure;
use crate::storage::effect::File;

/// Descriptors of segments that are kept open for reads: a bound, because descriptors are one.
const READERS_MAX: usize = 128;

/// The active segment, the one before it, and those of late writes.
const WRITERS_MAX: usize = 4;

/// Buffers kept for the next read, and how long they may be: a pool must not grow by one big read.
const SPARE_MAX: usize = 32;
const SPARE_BYTES_MAX: usize = 64 * 1024;

/// What came of an effect.
#[derive(Debug)]
pub(super) enum Completed {
    Appended { ticket: Ticket, result: Result<(), Failure> },
    Read { ticket: Ticket, result: Result<Vec<u8>, Failure> },
}

#[derive(Debug)]
enum Operation {
    Append { ticket: Ticket, file: Rc<OwnedFd>, offset: u64, written: usize },
    Read { ticket: Ticket, file: Rc<OwnedFd>, offset: u64, filled: usize },
}

/// The disk of one shard.
#[derive(Debug)]
pub(super) struct Disk {
    paths: Paths,
    readers: Files,
    writers: Files,
    operations: Vec<Option<Operation>>,
    free: Vec<u32>,
    /// What was done without waiting, and is to be told.
    ready: VecDeque<Completed>,
    spare: Vec<Vec<u8>>,
    /// Reads that the page cache did not have.
    cold_reads: u64,
}

impl Disk {
    /// A disk with no file open.
    pub(super) fn new(paths: Paths) -> Self {
        Self {
            paths,
            readers: Files::new(READERS_MAX),
            writers: Files::new(WRITERS_MAX),
            operations: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            spare: Vec::new(),
            cold_reads: 0,
        }
    }

    /// Writes and syncs a batch.
    pub(super) fn append(
        &mut self,
        ring: &mut Uring,
        ticket: Ticket,
        segment: SegmentId,
        offset: u32,
        buffer: Arc<AlignedBuffer>,
    ) {
        match self.writer(segment) {
            Ok(file) => {
                let offset = u64::from(offset);
                let operation =
                    Operation::Append { ticket, file: file.clone(), offset, written: 0 };
                let token = self.begin(operation);
                ring.write_synced(token, &file, buffer, 0, offset);
            }
            Err(failure) => {
                self.ready.push_back(Completed::Appended { ticket, result: Err(failure) });
            }
        }
    }

    /// Reads a record.
    pub(super) fn read(
        &mut self,
        ring: &mut Uring,
        ticket: Ticket,
        segment: SegmentId,
        offset: u32,
        length: u32,
    ) {
        let file = match self.reader(segment) {
            Ok(file) => file,
            Err(failure) => {
                self.ready.push_back(Completed::Read { ticket, result: Err(failure) });
                return;
            }
        };
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.resize(length as usize, 0);
        let offset = u64::from(offset);
        let cached = rustix::io::preadv2(
            &file,
            &mut [IoSliceMut::new(&mut bytes)],
            offset,
            ReadWriteFlags::NOWAIT,
        );
        let filled = match cached {
            Ok(filled) if filled == bytes.len() => {
                self.ready.push_back(Completed::Read { ticket, result: Ok(bytes) });
                return;
            }
            // Part of it is in the cache, or the file ends there: the second read tells.
            Ok(filled) => filled,
            Err(_) => 0,
        };
        self.cold_reads += 1;
        let token = self.begin(Operation::Read { ticket, file: file.clone(), offset, filled });
        ring.read(token, &file, bytes, filled, offset + filled as u64);
    }

    /// Takes a completion of the ring whose token is [`Token::Disk`] with this slot. `None`: the
    /// operation goes on.
    pub(super) fn complete(
        &mut self,
        ring: &mut Uring,
        slot: u32,
        completion: Completion,
    ) -> Option<Completed> {
        let operation = self.operations[slot as usize].take().expect("it is in flight");
        self.free.push(slot);
        match (operation, completion.held) {
            (Operation::Append { ticket, file, offset, written }, Held::Batch(batch)) => {
                let written = match completion.result {
                    Ok(more) => written + more as usize,
                    Err(errno) => {
                        let result = Err(failure_of(errno));
                        return Some(Completed::Appended { ticket, result });
                    }
                };
                if written == batch.len() {
                    return Some(Completed::Appended { ticket, result: Ok(()) });
                }
                if completion.result == Ok(0) || !written.is_multiple_of(PAGE_BYTES) {
                    return Some(Completed::Appended { ticket, result: Err(Failure::Io) });
                }
                let token =
                    self.begin(Operation::Append { ticket, file: file.clone(), offset, written });
                ring.write_synced(token, &file, batch, written, offset + written as u64);
                None
            }
            (Operation::Read { ticket, file, offset, filled }, Held::Bytes(mut bytes)) => {
                let filled = match completion.result {
                    Ok(0) => {
                        bytes.truncate(filled);
                        return Some(Completed::Read { ticket, result: Ok(bytes) });
                    }
                    Ok(more) => filled + more as usize,
                    Err(errno) => {
                        let result = Err(failure_of(errno));
                        return Some(Completed::Read { ticket, result });
                    }
                };
                if filled == bytes.len() {
                    return Some(Completed::Read { ticket, result: Ok(bytes) });
                }
                let token =
                    self.begin(Operation::Read { ticket, file: file.clone(), offset, filled });
                ring.read(token, &file, bytes, filled, offset + filled as u64);
                None
            }
            (operation, held) => panic!("{operation:?} was given {held:?}"),
        }
    }

    /// What was done without waiting, oldest first.
    pub(super) fn next_ready(&mut self) -> Option<Completed> {
        self.ready.pop_front()
    }

    /// Whether [`Disk::next_ready`] has something.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether nothing is in flight and nothing is to be told.
    #[cfg(test)]
    fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.free.len() == self.operations.len()
    }

    /// Takes back the buffer of a read.
    pub(super) fn recycle(&mut self, mut bytes: Vec<u8>) {
        if self.spare.len() < SPARE_MAX && bytes.capacity() <= SPARE_BYTES_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }

    /// Closes the segment's file as soon as nothing is in flight on it: it gets another name, or
    /// goes.
    pub(super) fn forget(&mut self, segment: SegmentId) {
        self.readers.forget(segment);
        self.writers.forget(segment);
    }

    /// Closes all files of a log that is gone.
    pub(super) fn forget_log(&mut self, log: LogId) {
        self.readers.forget_log(log);
        self.writers.forget_log(log);
    }

    /// Reads that the page cache did not have.
    pub(super) fn cold_reads(&self) -> u64 {
        self.cold_reads
    }

    fn begin(&mut self, operation: Operation) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.operations.push(None);
            (self.operations.len() - 1) as u32
        });
        self.operations[slot as usize] = Some(operation);
        Token::Disk(slot)
    }

    fn writer(&mut self, segment: SegmentId) -> Result<Rc<OwnedFd>, Failure> {
        let path = self.paths.file(File::Segment(segment));
        self.writers.open(segment, || {
            let mut options = OpenOptions::new();
            options.write(true);
            let direct = OFlags::DIRECT.bits() as i32;
            match options.clone().custom_flags(direct).open(&path) {
                // This filesystem has no direct writes. The sync that goes with each is what counts.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
                    options.open(&path)
                }
                result => result,
            }
        })
    }

    fn reader(&mut self, segment: SegmentId) -> Result<Rc<OwnedFd>, Failure> {
        let path = self.paths.file(File::Segment(segment));
        self.readers.open(segment, || {
            let file = OpenOptions::new().read(true).open(path)?;
            // Records are asked for at random: what the kernel would read ahead is wasted.
            let _ = rustix::fs::fadvise(&file, 0, None, Advice::Random);
            Ok(file)
        })
    }
}

/// Open files, the last used first. A few, or seldom asked: a list is enough.
#[derive(Debug)]
struct Files {
    open: VecDeque<(SegmentId, Rc<OwnedFd>)>,
    max: usize,
}

impl Files {
    fn new(max: usize) -> Self {
        Self { open: VecDeque::new(), max }
    }

    fn open(
        &mut self,
        segment: SegmentId,
        open: impl FnOnce() -> io::Result<std::fs::File>,
    ) -> Result<Rc<OwnedFd>, Failure> {
        if let Some(index) = self.open.iter().position(|(id, _)| *id == segment) {
            if index > 0 {
                let entry = self.open.remove(index).expect("it was just found");
                self.open.push_front(entry);
            }
            return Ok(self.open[0].1.clone());
        }
        let file = open().map_err(|error| failure(&error))?;
        let file = Rc::new(OwnedFd::from(file));
        self.open.push_front((segment, file.clone()));
        self.open.truncate(self.max);
        Ok(file)
    }

    fn forget(&mut self, segment: SegmentId) {
        self.open.retain(|(id, _)| *id != segment);
    }

    fn forget_log(&mut self, log: LogId) {
        self.open.retain(|(id, _)| id.log != log);
    }
}

/// What an error of the system means for a log.
pub(super) fn failure(error: &io::Error) -> Failure {
    error.raw_os_error().map_or(Failure::Io, failure_of)
}

/// The same for a number.
pub(super) fn failure_of(errno: i32) -> Failure {
    match Errno::from_raw_os_error(errno) {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Failure::NoSpace,
        Errno::NOENT => Failure::NotFound,
        _ => Failure::Io,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::engine::scratch::Scratch;
    use crate::engine::uring::Settings;

    struct World {
        scratch: Scratch,
        disk: Disk,
        ring: Uring,
    }

    impl World {
        fn new() -> Self {
            let scratch = Scratch::new();
            let paths = Paths::new(scratch.path());
            std::fs::create_dir_all(paths.log(LogId::new(1))).expect("a fresh directory");
            let ring = Uring::new(Settings::default()).expect("io_uring works here");
            Self { disk: Disk::new(paths), ring, scratch }
        }

        fn path(&self, number: u32) -> PathBuf {
            Paths::new(self.scratch.path()).file(File::Segment(segment(number)))
        }

        fn append(&mut self, number: u32, offset: u32, bytes: &[u8]) -> Result<(), Failure> {
            let mut buffer = AlignedBuffer::with_capacity(bytes.len());
            buffer.extend(bytes);
            let ticket = Ticket::new(7);
            self.disk.append(&mut self.ring, ticket, segment(number), offset, Arc::new(buffer));
            match self.next() {
                Completed::Appended { ticket: told, result } if told == ticket => result,
                other => panic!("{other:?}"),
            }
        }

        fn read(&mut self, number: u32, offset: u32, length: u32) -> Result<Vec<u8>, Failure> {
            let ticket = Ticket::new(8);
            self.disk.read(&mut self.ring, ticket, segment(number), offset, length);
            match self.next() {
                Completed::Read { ticket: told, result } if told == ticket => result,
                other => panic!("{other:?}"),
            }
        }

        fn next(&mut self) -> Completed {
            loop {
                if let Some(ready) = self.disk.next_ready() {
                    return ready;
                }
                self.ring.submit_and_wait(None).expect("it works");
                let mut completions = Vec::new();
                self.ring.completions(&mut completions, 1);
                for completion in completions {
                    let Token::Disk(slot) = completion.token else { panic!("{completion:?}") };
                    if let Some(done) = self.disk.complete(&mut self.ring, slot, completion) {
                        return done;
                    }
                }
            }
        }
    }

    fn segment(number: u32) -> SegmentId {
        SegmentId { log: LogId::new(1), number }
    }

    #[test]
    fn what_was_appended_is_read_at_any_offset() {
        let mut world = World::new();
        std::fs::write(world.path(1), vec![0; 16 * PAGE_BYTES]).expect("there is room");
        let bytes: Vec<u8> = (0..2 * PAGE_BYTES).map(|number| (number % 251) as u8).collect();
        assert_eq!(world.append(1, 4 * PAGE_BYTES as u32, &bytes), Ok(()));
        let read = world.read(1, 4 * PAGE_BYTES as u32 + 13, 5000);
        assert_eq!(read.as_deref(), Ok(&bytes[13..5013]));
        assert!(world.disk.is_idle());
    }

    #[test]
    fn a_read_beyond_the_end_is_short() {
        let mut world = World::new();
        std::fs::write(world.path(1), b"0123456789").expect("there is room");
        assert_eq!(world.read(1, 4, 100).as_deref(), Ok(&b"456789"[..]));
        assert_eq!(world.read(1, 50, 100).as_deref(), Ok(&b""[..]));
    }

    /// `/dev/full` takes no byte: every Linux has it, and no privilege is needed.
    #[test]
    fn failures_are_told_apart() {
        let mut world = World::new();
        std::os::unix::fs::symlink("/dev/full", world.path(2)).expect("a link");
        std::fs::create_dir(world.path(3)).expect("a directory");
        assert_eq!(world.append(2, 0, &[1; PAGE_BYTES]), Err(Failure::NoSpace));
        assert_eq!(world.append(4, 0, &[1; PAGE_BYTES]), Err(Failure::NotFound));
        assert_eq!(world.append(3, 0, &[1; PAGE_BYTES]), Err(Failure::Io));
        assert_eq!(world.read(4, 0, 10), Err(Failure::NotFound));
        assert_eq!(world.read(3, 0, 10), Err(Failure::Io));
    }

    #[test]
    fn a_file_that_was_forgotten_is_opened_by_its_name_again() {
        let mut world = World::new();
        std::fs::write(world.path(1), b"old").expect("there is room");
        assert_eq!(world.read(1, 0, 3).as_deref(), Ok(&b"old"[..]));
        std::fs::remove_file(world.path(1)).expect("it is there");
        std::fs::write(world.path(1), b"new").expect("there is room");
        assert_eq!(world.read(1, 0, 3).as_deref(), Ok(&b"old"[..]), "the descriptor is kept");
        world.disk.forget(segment(1));
        assert_eq!(world.read(1, 0, 3).as_deref(), Ok(&b"new"[..]));
    }

    #[test]
    fn of_a_log_that_is_gone_nothing_stays_open() {
        let mut world = World::new();
        let other = SegmentId { log: LogId::new(2), number: 1 };
        let paths = Paths::new(world.scratch.path());
        std::fs::create_dir_all(paths.log(other.log)).expect("a fresh directory");
        for path in [world.path(1), world.path(2), paths.file(File::Segment(other))] {
            std::fs::write(path, vec![0; PAGE_BYTES]).expect("there is room");
        }
        assert_eq!(world.append(1, 0, &[1; PAGE_BYTES]), Ok(()));
        assert_eq!(world.read(2, 0, 1), Ok(vec![0]));
        let of_other = world.disk.reader(other).expect("it is there");
        world.disk.forget_log(LogId::new(1));
        assert!(world.disk.writers.open.is_empty());
        let kept: Vec<SegmentId> = world.disk.readers.open.iter().map(|(id, _)| *id).collect();
        assert_eq!(kept, [other], "{of_other:?} is of another log");
    }

    #[test]
    fn descriptors_are_bounded() {
        let mut world = World::new();
        for number in 0..READERS_MAX as u32 + 10 {
            std::fs::write(world.path(number), b"x").expect("there is room");
            assert_eq!(world.read(number, 0, 1).as_deref(), Ok(&b"x"[..]));
        }
        assert_eq!(world.disk.readers.open.len(), READERS_MAX);
    }

    /// A file in memory has no disk under it, but its writes must succeed all the same.
    #[test]
    fn a_filesystem_in_memory_will_do() {
        let memory = PathBuf::from("/dev/shm");
        assert!(memory.is_dir(), "Linux has one");
        let scratch = Scratch::within(&memory);
        let paths = Paths::new(scratch.path());
        std::fs::create_dir_all(paths.log(LogId::new(1))).expect("a fresh directory");
        let ring = Uring::new(Settings::default()).expect("io_uring works here");
        let mut world = World { disk: Disk::new(paths), ring, scratch };
        std::fs::write(world.path(1), vec![0; 4 * PAGE_BYTES]).expect("there is room");
        assert_eq!(world.append(1, 0, &[9; PAGE_BYTES]), Ok(()));
        assert_eq!(world.read(1, 10, 20), Ok(vec![9; 20]));
    }
}
