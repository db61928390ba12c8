//! One operation of the background lane, by glommio: files through its rings, names through its
//! blocking threads.
//!
//! A trap of glommio 0.9 is stepped around: an operation of more than 1 MiB may be cut by the kernel,
//! so none is longer.

use std::fs;
use std::io;
use std::io::IoSlice;
use std::os::unix::fs::DirBuilderExt;
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

/// The longest single operation, in bytes.
const PIECE_BYTES: usize = 1024 * 1024;

/// The longest write of zeros, in bytes. The log's own writes queue behind it in the device.
const FILL_BYTES: usize = 8 * PIECE_BYTES;

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
            write(&paths.file(file), offset, bytes).await.map_err(reason)?;
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
        let piece = PIECE_BYTES.min(length - bytes.len());
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

async fn write(path: &Path, offset: u64, bytes: Vec<u8>) -> Result<(), GlommioError<()>> {
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
        let piece = &bytes[written..bytes.len().min(written + PIECE_BYTES)];
        match file.write_at(piece.to_vec(), offset + written as u64).await? {
            0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
            more => written += more,
        }
    }
    Ok(())
}

async fn sync(path: &Path) -> Result<(), GlommioError<()>> {
    let file = BufferedFile::open(path).await?;
    let result = file.fdatasync().await;
    file.close().await?;
    result
}

/// Really written: `fallocate` would leave blocks whose first write moves metadata at each sync.
///
/// By a thread that waits, with few large writes: the lane has the lowest priority, and beside a core
/// that is always busy it is the times that it must be woken that count, not the bytes.
async fn create_zeroed(path: &Path, length: u64) -> Result<(), Failure> {
    let path = path.to_owned();
    blocking(move || fill_with_zeros(&path, length)).await
}

fn fill_with_zeros(path: &Path, length: u64) -> io::Result<()> {
    // Unlinked, not truncated: somebody may hold the old file by another name.
    unlink(path)?;
    let file = create_direct(path)?;
    let mut zeros = AlignedBuffer::with_capacity(PIECE_BYTES);
    zeros.extend(&[0]);
    zeros.pad_to(PIECE_BYTES);
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
        let pieces: Vec<IoSlice<'_>> = (0..wanted)
            .step_by(PIECE_BYTES)
            .map(|at| IoSlice::new(&zeros[..PIECE_BYTES.min(wanted - at)]))
            .collect();
        match rustix::io::pwritev(file, &pieces, written)? {
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
