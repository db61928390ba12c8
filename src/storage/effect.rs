//! The whole contract between a log and the disk: what is asked for, and what is heard back.
//!
//! Plain data. The engine performs it with io_uring and glommio, the simulator on a disk that
//! tears, loses and reorders; neither knows what a record is.

use std::sync::Arc;

use crate::base::aligned::AlignedBuffer;
use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::base::id::Ticket;

/// A file of a log, by its meaning. Drivers give it a path in the log's directory.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum File {
    /// Records.
    Segment(SegmentId),
    /// Where the records of a sealed segment are: the keydir file.
    Index(SegmentId),
    /// What must be known of a log before its segments are read.
    Manifest(LogId),
    /// Whatever becomes one of the above by a rename. Left over after a crash, it means nothing.
    Temporary {
        /// The log in whose directory it stands.
        log: LogId,
        /// Never reused while the shard runs.
        number: u32,
    },
}

impl File {
    /// The log in whose directory the file stands.
    pub fn log(self) -> LogId {
        match self {
            Self::Segment(segment) | Self::Index(segment) => segment.log,
            Self::Manifest(log) | Self::Temporary { log, .. } => log,
        }
    }
}

/// What a log asks of the disk.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write this batch and sync it, as one operation (`O_DIRECT`, `RWF_DSYNC`). Several may be in
    /// flight and may complete in any order. Answered by [`Event::Appended`].
    Append {
        /// Names this write.
        ticket: Ticket,
        /// A prepared segment: the file exists, has its full length, and its name is synced.
        segment: SegmentId,
        /// A multiple of [`crate::base::aligned::PAGE_BYTES`].
        offset: u32,
        /// A multiple of the page long. Shared with the write buffer, from which it is read.
        buffer: Arc<AlignedBuffer>,
    },
    /// Read a record that is not in memory, for a request that waits. Answered by [`Event::Read`].
    Read {
        /// Names this read.
        ticket: Ticket,
        /// Not retired while the read is in flight.
        segment: SegmentId,
        /// Where it begins: any byte.
        offset: u32,
        /// How long it is: any length.
        length: u32,
    },
    /// Background work, in the order of its shares. Answered by [`Event::Bulk`].
    Bulk {
        /// Names this operation.
        ticket: Ticket,
        /// What to do.
        operation: Bulk,
    },
    /// Keep this sealed segment resident: map it and read it in. Answered by [`Event::Resident`].
    MakeResident {
        /// A sealed segment.
        segment: SegmentId,
    },
    /// Forget the map of this segment, at once.
    DropResident {
        /// A segment that was asked to be resident.
        segment: SegmentId,
    },
}

/// One operation in the background. Files are written once, under a temporary name, and become
/// visible by a rename.
#[derive(Clone, Debug)]
pub enum Bulk {
    /// Make the directory of this log, synced in its parent, if it is not there.
    CreateDirectory {
        /// Whose.
        log: LogId,
    },
    /// The files of this log with their lengths: [`Done::Listed`].
    List {
        /// Whose.
        log: LogId,
    },
    /// Read up to `length` bytes; less at the end of the file: [`Done::Read`].
    Read {
        /// Where from.
        file: File,
        /// Where it begins.
        offset: u64,
        /// How much.
        length: u32,
    },
    /// A new file of `length` zero bytes, really written so that a later sync moves no metadata.
    /// Not synced. An existing file of that name is replaced.
    CreateZeroed {
        /// What.
        file: File,
        /// How long, in bytes.
        length: u64,
    },
    /// Write into a file, made if it is not there. Not synced.
    Write {
        /// Where to.
        file: File,
        /// Where it begins.
        offset: u64,
        /// What.
        bytes: Vec<u8>,
    },
    /// Make what was written to the file durable, its length too.
    Sync {
        /// Which.
        file: File,
    },
    /// Give the file another name within its log, replacing what had it. Durable after
    /// [`Bulk::SyncDirectory`].
    Rename {
        /// The name it has.
        from: File,
        /// The name it gets.
        to: File,
    },
    /// Make the names of a log's directory durable: renames and unlinks.
    SyncDirectory {
        /// Whose.
        log: LogId,
    },
    /// Remove the file. Not there is as good as removed.
    Unlink {
        /// Which.
        file: File,
    },
}

/// What a log hears of the disk.
#[derive(Debug)]
pub enum Event<'a> {
    /// The batch is on the disk, synced, or the write failed and nothing is known of its pages.
    Appended {
        /// Which write.
        ticket: Ticket,
        /// Whether it is durable.
        result: Result<(), Failure>,
    },
    /// A record was read. Fewer bytes than asked for means that the file ended.
    Read {
        /// Which read.
        ticket: Ticket,
        /// Its bytes.
        result: Result<&'a [u8], Failure>,
    },
    /// An operation in the background ended.
    Bulk {
        /// Which.
        ticket: Ticket,
        /// What came of it.
        result: Result<Done, Failure>,
    },
    /// [`Resident::slice`] serves this segment from now on; or it cannot be made resident.
    Resident {
        /// Which.
        segment: SegmentId,
        /// Whether it is.
        result: Result<(), Failure>,
    },
}

/// What an operation in the background brought.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Done {
    /// It is done, and there is nothing more to say.
    Ok,
    /// The files of a log and their lengths in bytes, in any order.
    Listed(Vec<(File, u64)>),
    /// The bytes read.
    Read(Vec<u8>),
}

/// Why the disk did not do it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Failure {
    /// No room. Nothing was changed that cannot be done again later.
    NoSpace,
    /// There is no such file.
    NotFound,
    /// Anything else. What the file holds is unknown.
    Io,
}

/// Records that can be read without waiting, lent by the driver for one event.
///
/// The engine backs it with memory maps that are known to be resident, the simulator with vectors
/// whose residency is drawn from the seed.
pub trait Resident {
    /// The bytes, or `None`: then [`Effect::Read`] gets them.
    fn slice(&self, segment: SegmentId, offset: u32, length: u32) -> Option<&[u8]>;
}
