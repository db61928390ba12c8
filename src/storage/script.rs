//! Background operations that follow one another: each begins when the one before it is done.
//!
//! Most of what a log does in the background is such a list: write, sync, rename, sync the
//! directory. The order is the crash safety, so it is written down as data.

use std::collections::VecDeque;

use crate::base::id::LogId;
use crate::storage::effect::Bulk;
use crate::storage::effect::File;

/// A list of operations, of which the first is not done.
#[derive(Debug, Default)]
pub struct Script {
    operations: VecDeque<Bulk>,
}

impl Script {
    /// These operations, in this order.
    pub fn new(operations: impl IntoIterator<Item = Bulk>) -> Self {
        Self { operations: operations.into_iter().collect() }
    }

    /// Writes a file so that a crash leaves the old one or the new one, whole: temporary name, sync,
    /// rename, sync of the directory. Its content is made of `pieces` that follow one another.
    pub fn replace_file(file: File, temporary: File, pieces: Vec<Vec<u8>>) -> Self {
        let log = file.log();
        let mut script = Self::write_and_rename(file, temporary, pieces);
        script.push(Bulk::SyncDirectory { log });
        script
    }

    /// The same without the sync of the directory, which the caller adds.
    pub fn write_and_rename(file: File, temporary: File, pieces: Vec<Vec<u8>>) -> Self {
        let mut offset = 0;
        let mut script = Self::new(pieces.into_iter().map(|bytes| {
            let at = offset;
            offset += bytes.len() as u64;
            Bulk::Write { file: temporary, offset: at, bytes }
        }));
        script.push(Bulk::Sync { file: temporary });
        script.push(Bulk::Rename { from: temporary, to: file });
        script
    }

    /// Adds an operation at the end.
    pub fn push(&mut self, operation: Bulk) {
        self.operations.push_back(operation);
    }

    /// Adds the operations of another list at the end.
    pub fn append(&mut self, mut other: Self) {
        self.operations.append(&mut other.operations);
    }

    /// Takes the next operation out.
    pub fn next_operation(&mut self) -> Option<Bulk> {
        self.operations.pop_front()
    }
}

/// Names temporary files. A name is never used twice while a shard runs.
#[derive(Debug, Default)]
pub struct Temporaries {
    last: u32,
}

impl Temporaries {
    /// A name in the directory of `log`.
    pub fn next(&mut self, log: LogId) -> File {
        self.last += 1;
        File::Temporary { log, number: self.last }
    }

    /// Skips a name that a crash left behind.
    pub fn skip(&mut self, number: u32) {
        self.last = self.last.max(number);
    }
}
