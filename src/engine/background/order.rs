//! Which operations of a shard wait for which: those that touch the same file, or a directory and
//! names in it. All others may overtake.

use crate::base::id::LogId;
use crate::storage::effect::Bulk;
use crate::storage::effect::File;

/// What an operation touches, as far as order is concerned.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Touches {
    Nothing,
    Maps,
    /// The bytes of a file, or its name.
    Files {
        files: Vec<File>,
        names: bool,
    },
    /// All names of a log.
    Directory(LogId),
}

impl Touches {
    pub(super) fn of(operation: &Bulk) -> Self {
        match operation {
            Bulk::CreateDirectory { log } | Bulk::List { log } | Bulk::SyncDirectory { log } => {
                Self::Directory(*log)
            }
            Bulk::Read { file, .. }
            | Bulk::CreateZeroed { file, .. }
            | Bulk::Write { file, .. }
            | Bulk::Sync { file } => Self::Files { files: vec![*file], names: false },
            Bulk::Rename { from, to } => Self::Files { files: vec![*from, *to], names: true },
            Bulk::Unlink { file } => Self::Files { files: vec![*file], names: true },
        }
    }
}

/// Whether an operation must wait for one of the same shard that was asked before it.
pub(super) fn comes_after(later: &Touches, earlier: &Touches) -> bool {
    match (later, earlier) {
        (Touches::Maps, Touches::Maps) => true,
        (Touches::Files { files, .. }, Touches::Files { files: others, .. }) => {
            files.iter().any(|file| others.contains(file))
        }
        // A new file's name becomes durable by the directory's sync too, but nobody counts on that
        // before it was renamed: so a sync need not wait for a segment that is being filled.
        (Touches::Directory(log), Touches::Files { files, names: true })
        | (Touches::Files { files, .. }, Touches::Directory(log)) => {
            files.iter().any(|file| file.log() == *log)
        }
        (Touches::Directory(log), Touches::Directory(other)) => log == other,
        _ => false,
    }
}
