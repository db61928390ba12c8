//! One operation of the background lane, by glommio: files through its rings, names through its
//! blocking threads.
//!
//! Nothing is written at once that would hold up the log's own writes in the device for long.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use glommio::GlommioError;
use glommio::io::BufferedFile;
use glommio::io::OpenOptions;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::base::aligned::AlignedBuffer;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::LogId;
use crate::engine::disk::failure;
use crate::engine::disk::failure_of;
use crate::engine::paths;
use crate::engine::paths::Paths;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::Failure;
use crate::storage::effect::File;

/// The longest read, in bytes.
const READ_BYTES: usize = 1024 * 1024;

/// How much is sent to the device at once, in bytes: the log's own writes queue behind it there. On
/// a disk that writes 64 KiB in 0.14 ms, the same beside others of 8 MiB take 1.2 ms (p99 4.0), beside
/// 1 MiB 0.4 (0.9), beside 128 KiB 0.2 (0.4). But each time that the lane waits, it must be woken,
/// and beside a core that is always busy that takes a millisecond or two.
const WRITE_BYTES: usize = 256 * 1024;

/// The same for zeros, of which a segment needs many.
const FILL_BYTES: usize = 1024 * 1024;

/// What is written without waiting until the device has it, in bytes: it goes with the next sync.
const SHORT_BYTES: usize = 64 * 1024;

/// Files are their owner's alone.
const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Does it, as [`Bulk`] says.
pub(super) async fn perform(paths: &Paths, operation: Bulk) -> Result<Done, Failure> {
    match operation {
        Bulk::Read { file, offset, length } => {
            let bytes = read(&paths.file(file), offset, length as usize).await.map_err(reason)?;
            return Ok(Done::Read(bytes));
        }
        Bulk::List { log } => {
            let directory = paths.log(log);
            let listed = blocking(move || list(log, &directory)).await?;
            return Ok(Done::Listed(listed));
        }
        Bulk::CreateZeroed { file, length } => create_zeroed(&paths.file(file), length).await?,
        Bulk::Write { file, offset, bytes } => {
            write(&paths.file(file), offset, bytes).await?;
        }
        Bulk::Sync { file } => sync(&paths.file(file)).await.map_err(reason)?,
        Bulk::CreateDirectory { log } => {
            let directory = paths.log(log);
            blocking(move || create_directory(&directory)).await?;
        }
        Bulk::Rename { from, to } => {
            let (from, to) = (paths.file(from), paths.file(to));
            blocking(move || fs::rename(from, to)).await?;
        }
        Bulk::SyncDirectory { log } => {
            let directory = paths.log(log);
            blocking(move || sync_directory(&directory)).await?;
        }
        Bulk::Unlink { file } => {
            let path = paths.file(file);
            blocking(move || unlink(&path)).await?;
        }
    }
    Ok(Done::Ok)
}

/// Makes a directory, and makes its name durable. It may be there already.
pub(super) fn create_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(DIRECTORY_MODE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Also if it was there: whoever made it may have died before this.
    sync_directory(path.parent().unwrap_or(Path::new(".")))
}

async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    glommio::executor().spawn_blocking(call).await.map_err(|error| failure(&error))
}

async fn read(path: &Path, offset: u64, length: usize) -> Result<Vec<u8>, GlommioError<()>> {
    let file = BufferedFile::open(path).await?;
    let mut bytes = Vec::new();
    let result = loop {
        let piece = READ_BYTES.min(length - bytes.len());
        if piece == 0 {
            break Ok(bytes);
        }
        match file.read_at(offset + bytes.len() as u64, piece).await {
            Ok(read) if read.is_empty() => break Ok(bytes),
            Ok(read) => bytes.extend_from_slice(&read),
            Err(error) => break Err(error),
        }
    };
    file.close().await?;
    result
}

async fn write(path: &Path, offset: u64, bytes: Vec<u8>) -> Result<(), Failure> {
    if bytes.len() <= SHORT_BYTES {
        return write_short(path, offset, bytes).await.map_err(reason);
    }
    let path = path.to_owned();
    blocking(move || write_long(&path, offset, &bytes)).await
}

async fn write_short(path: &Path, offset: u64, bytes: Vec<u8>) -> Result<(), GlommioError<()>> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(FILE_MODE);
    let file = options.buffered_open(path).await?;
    let result = write_all(&file, offset, bytes).await;
    file.close().await?;
    result
}

async fn write_all(
    file: &BufferedFile,
    offset: u64,
    bytes: Vec<u8>,
) -> Result<(), GlommioError<()>> {
    let mut written = 0;
    while written < bytes.len() {
        match file.write_at(bytes[written..].to_vec(), offset + written as u64).await? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            more => written += more,
        }
    }
    Ok(())
}

/// By a thread that waits until the device has each piece: a sync that finds all of it unwritten
/// would send it at once.
fn write_long(path: &Path, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(FILE_MODE).open(path)?;
    for (piece, at) in bytes.chunks(WRITE_BYTES).zip((offset..).step_by(WRITE_BYTES)) {
        file.write_all_at(piece, at)?;
        write_back(&file, at, piece.len())?;
    }
    Ok(())
}

/// Waits until the device has these bytes. They are durable only after a sync. An error is told
/// here and nowhere else: a sync of the file opened anew would not hear of it.
fn write_back(file: &fs::File, offset: u64, length: usize) -> io::Result<()> {
    let flags = libc::SYNC_FILE_RANGE_WRITE | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (offset, length) = (offset.cast_signed(), length as libc::off64_t);
    // SAFETY: no memory is passed, and `file` keeps its descriptor open.
    #[allow(unsafe_code)]
    let result = unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, flags) };
    match result {
        0 => Ok(()),
        _ => match io::Error::last_os_error() {
            error if is_unsupported(&error) => Ok(()),
            error => Err(error),
        },
    }
}

/// Whether the call is not to be had here: then all of it goes with the sync.
fn is_unsupported(error: &io::Error) -> bool {
    let without = [Errno::NOSYS, Errno::PERM, Errno::SPIPE, Errno::INVAL];
    Errno::from_io_error(error).is_some_and(|errno| without.contains(&errno))
}

async fn sync(path: &Path) -> Result<(), GlommioError<()>> {
    let file = BufferedFile::open(path).await?;
    let result = file.fdatasync().await;
    file.close().await?;
    result
}

/// Really written: `fallocate` would leave blocks whose first write moves metadata at each sync. A
/// blocking thread does it, for a direct write holds up whoever asks for it until the device has it.
async fn create_zeroed(path: &Path, length: u64) -> Result<(), Failure> {
    let path = path.to_owned();
    blocking(move || fill_with_zeros(&path, length)).await
}

fn fill_with_zeros(path: &Path, length: u64) -> io::Result<()> {
    // Unlinked, not truncated: somebody may hold the old file by another name.
    unlink(path)?;
    let file = create_direct(path)?;
    let mut zeros = AlignedBuffer::with_capacity(FILL_BYTES);
    zeros.extend(&[0]);
    zeros.pad_to(FILL_BYTES);
    let result = write_zeros(&file, &zeros, length);
    if result.is_err() {
        // What did not fit must not keep the little room that there is from whoever would make some.
        let _ = unlink(path);
    }
    result
}

fn write_zeros(file: &fs::File, zeros: &[u8], length: u64) -> io::Result<()> {
    let whole = length.next_multiple_of(PAGE_BYTES as u64);
    let mut written = 0;
    while written < whole {
        let wanted = (whole - written).min(FILL_BYTES as u64) as usize;
        match rustix::io::pwrite(file, &zeros[..wanted], written)? {
            more if more > 0 && more.is_multiple_of(PAGE_BYTES) => written += more as u64,
            _ => return Err(io::ErrorKind::WriteZero.into()),
        }
    }
    if whole == length { Ok(()) } else { file.set_len(length) }
}

/// A new file for direct writes, or for others where the filesystem has no direct ones.
fn create_direct(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    match options.clone().custom_flags(OFlags::DIRECT.bits() as i32).open(path) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
            unlink(path)?;
            options.open(path)
        }
        result => result,
    }
}

fn list(log: LogId, directory: &Path) -> io::Result<Vec<(File, u64)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let file = entry.file_name().to_str().and_then(|name| paths::file_of(log, name));
        if let Some(file) = file {
            files.push((file, entry.metadata()?.len()));
        }
    }
    Ok(files)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

fn unlink(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn reason(error: GlommioError<()>) -> Failure {
    error.raw_os_error().map_or(Failure::Io, failure_of)
}
