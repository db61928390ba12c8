//! One operation of the background lane, by glommio: files through its rings, names through its
//! blocking threads.
//!
//! Two traps of glommio 0.9 are stepped around. A file that is opened for reading and writing while
//! empty makes it believe that the device can be polled, after which every direct read fails: so
//! direct files are opened for writing alone, and reads go through the page cache. And an operation
//! of more than 1 MiB may be cut by the kernel, so none is longer.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::rc::Rc;

use glommio::GlommioError;
use glommio::io::BufferedFile;
use glommio::io::OpenOptions;

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
async fn create_zeroed(path: &Path, length: u64) -> Result<(), Failure> {
    let old = path.to_owned();
    // Unlinked, not truncated: somebody may hold the old file by another name.
    blocking(move || unlink(&old)).await?;
    fill_with_zeros(path, length).await.map_err(reason)
}

async fn fill_with_zeros(path: &Path, length: u64) -> Result<(), GlommioError<()>> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(FILE_MODE);
    let file = options.dma_open(path).await?;
    let whole = length.next_multiple_of(PAGE_BYTES as u64);
    let result = write_zeros(&file, whole).await;
    let result = match result {
        Ok(()) if whole != length => file.truncate(length).await,
        result => result,
    };
    file.close().await?;
    result
}

async fn write_zeros(file: &glommio::io::DmaFile, length: u64) -> Result<(), GlommioError<()>> {
    let mut zeros = file.alloc_dma_buffer(PIECE_BYTES);
    zeros.as_bytes_mut().fill(0);
    let mut zeros = Rc::new(zeros);
    let mut written = 0;
    while written < length {
        if (zeros.len() as u64) > length - written {
            let mut rest = file.alloc_dma_buffer((length - written) as usize);
            rest.as_bytes_mut().fill(0);
            zeros = Rc::new(rest);
        }
        match file.write_rc_at(zeros.clone(), written).await? as u64 {
            more if more > 0 && more.is_multiple_of(PAGE_BYTES as u64) => written += more,
            _ => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
        }
    }
    Ok(())
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
