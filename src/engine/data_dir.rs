//! The table of a data directory on a real disk: read, made, switched, and rid of what is not
//! needed any more.
//!
//! The file is written whole under another name, synced, renamed, and the directory synced: a crash
//! leaves the old table or the new one.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io;
use std::io::Read as _;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::base::id::LogId;
use crate::engine::paths::Paths;
use crate::storage::layout::Layout;

const NAME: &str = "node";
const NEW_NAME: &str = "node.new";

/// Reads the table of `dir` for a start with `shards` shards, and makes or switches it first if
/// that is needed. The caller holds the directory's lock.
///
/// # Errors
///
/// If the disk fails, if the table is damaged in both its copies, or if it is missing and there are
/// logs: then the directory is not new, and a new table would hide its data.
pub fn open(dir: &Path, partitions: u16, shards: u16) -> io::Result<Layout> {
    let layout = match fs::read(dir.join(NAME)) {
        Ok(bytes) => Layout::from_file(&bytes).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "the table of logs (node) is damaged")
        })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if has_logs(dir)? {
                let why = "there are logs, but no table of them (node): restore that file";
                return Err(io::Error::new(io::ErrorKind::InvalidData, why));
            }
            let layout = Layout::new(partitions, shards, entropy()?);
            write(dir, &layout)?;
            layout
        }
        Err(error) => return Err(error),
    };
    match layout.for_shards(shards) {
        None => Ok(layout),
        Some(next) => {
            write(dir, &next)?;
            Ok(next)
        }
    }
}

/// Takes an adopted log that no shard needs any more out of the table, then removes its files. A
/// crash in between leaves files that nobody reads.
///
/// # Errors
///
/// If the disk fails; the log is in the table, or is in nobody's way.
pub fn remove_log(dir: &Path, log: LogId) -> io::Result<()> {
    let bytes = fs::read(dir.join(NAME))?;
    let layout = Layout::from_file(&bytes).ok_or_else(|| {
        io::Error::new(io::ErrorKind::InvalidData, "the table of logs is damaged")
    })?;
    write(dir, &layout.without(log))?;
    match fs::remove_dir_all(Paths::new(dir).log(log)) {
        // It was adopted before it ever started.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// True randomness.
///
/// # Errors
///
/// If the kernel gives none.
pub fn entropy() -> io::Result<[u8; 64]> {
    let mut bytes = [0; 64];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn has_logs(dir: &Path) -> io::Result<bool> {
    match fs::read_dir(dir.join("logs")) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn write(dir: &Path, layout: &Layout) -> io::Result<()> {
    let new = dir.join(NEW_NAME);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
    file.write_all(&layout.to_file())?;
    file.sync_all()?;
    fs::rename(&new, dir.join(NAME))?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scratch::Scratch;

    #[test]
    fn a_table_is_made_once_switched_with_the_cores_and_never_made_over_logs() {
        let scratch = Scratch::new();
        let dir = scratch.path();
        let first = open(dir, 64, 2).expect("a new directory");
        assert_eq!(open(dir, 64, 2).expect("the same"), first);
        let second = open(dir, 64, 3).expect("another number of shards");
        assert_eq!(second.adopted, first.logs);
        let log = first.logs[0];
        fs::create_dir_all(Paths::new(dir).log(log)).expect("a log");
        remove_log(dir, log).expect("it is adopted");
        assert_eq!(open(dir, 64, 3).expect("the same").adopted, first.logs[1..]);
        assert!(!Paths::new(dir).log(log).exists());

        fs::create_dir_all(Paths::new(dir).log(second.logs[0])).expect("a log");
        fs::remove_file(dir.join(NAME)).expect("it is there");
        assert!(open(dir, 64, 3).is_err(), "data without a table is not a new directory");
    }
}
