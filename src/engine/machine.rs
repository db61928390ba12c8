//! What the engine needs of this machine: a directory of its own, descriptors, cores, randomness.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::fs::Mode;
use rustix::process::Resource;
use rustix::process::Rlimit;
use rustix::rand::GetRandomFlags;
use rustix::thread::CpuSet;

use crate::engine::EngineError;
use crate::engine::Pin;
use crate::engine::bulk;
use crate::engine::paths::Paths;

/// Descriptors that clients may not take: files of segments, rings, the background lane.
const RESERVED: usize = 128;
const RESERVED_EACH_SHARD: usize = 192;

/// A node for fewer clients is of no use.
const CLIENTS_MIN: usize = 16;

/// Holds the data directory for this process, until it is dropped.
#[derive(Debug)]
pub(super) struct DirectoryLock(#[expect(dead_code, reason = "held open")] fs::File);

/// Makes the data directory if it is not there, and takes it.
pub(super) fn prepare_directory(path: &Path) -> Result<DirectoryLock, EngineError> {
    // Whatever a library creates: data is its owner's alone.
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let failed = |error| EngineError::Directory(path.to_owned(), error);
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join("LOCK"))
        .map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(EngineError::Locked(path.to_owned())),
        Err(errno) => return Err(failed(io::Error::from(errno))),
    }
    bulk::create_directory(Paths::new(path).logs()).map_err(failed)?;
    Ok(DirectoryLock(file))
}

/// Lets the process open as much as it may. Returns for how many clients that is enough.
pub(super) fn raise_limits(clients_max: usize, shards: u16) -> Result<usize, EngineError> {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    // It stays as it is if that is refused.
    let _ = rustix::process::setrlimit(Resource::Nofile, raised);
    let may_open = rustix::process::getrlimit(Resource::Nofile).current;
    let may_open = may_open.map_or(usize::MAX, |count| count as usize);
    let reserved = RESERVED + RESERVED_EACH_SHARD * usize::from(shards);
    let for_clients = may_open.saturating_sub(reserved);
    if for_clients >= clients_max {
        return Ok(clients_max);
    }
    if for_clients < CLIENTS_MIN.min(clients_max) {
        let needed = reserved + clients_max;
        return Err(EngineError::Machine(format!(
            "only {may_open} files may be open: raise `ulimit -n` (LimitNOFILE) to {needed}"
        )));
    }
    tracing::warn!(
        "maxclients lowered from {clients_max} to {for_clients}: only {may_open} files may be open"
    );
    Ok(for_clients)
}

/// The core of each shard.
pub(super) fn cores(pin: &Pin, shards: u16) -> Result<Vec<Option<usize>>, EngineError> {
    let shards = usize::from(shards);
    let allowed = allowed_cores();
    match pin {
        Pin::None => Ok(vec![None; shards]),
        Pin::Spread if allowed.len() < shards => Ok(vec![None; shards]),
        Pin::Spread => Ok(allowed.into_iter().take(shards).map(Some).collect()),
        Pin::To(cores) if cores.len() != shards => Err(EngineError::Config(format!(
            "{} cores for {shards} shards: give one each",
            cores.len()
        ))),
        Pin::To(cores) => match cores.iter().find(|core| !allowed.contains(core)) {
            Some(core) => Err(EngineError::Config(format!(
                "core {core} is not among those that this process may use: {allowed:?}"
            ))),
            None => Ok(cores.iter().copied().map(Some).collect()),
        },
    }
}

/// Whether each shard can have a core: otherwise one that spins keeps another from answering.
pub(super) fn spare_cores(shards: u16) -> bool {
    shards > 1 && allowed_cores().len() >= usize::from(shards)
}

/// Keeps the calling thread on this core.
pub(super) fn pin_to(core: usize) {
    let mut set = CpuSet::new();
    set.set(core);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &set) {
        tracing::warn!("the thread is not kept on core {core}: {error}");
    }
}

/// 64 bits that nobody drew before, not even in a copy of this machine.
pub(super) fn entropy() -> u64 {
    let mut bytes = [0; 8];
    let drawn = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty());
    assert_eq!(drawn, Ok(bytes.len()), "the kernel gives so few bytes at once");
    u64::from_ne_bytes(bytes)
}

fn allowed_cores() -> Vec<usize> {
    match rustix::thread::sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|core| set.is_set(*core)).collect(),
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::scratch::Scratch;

    #[test]
    fn a_directory_has_one_owner_at_a_time() {
        let scratch = Scratch::new();
        let path = scratch.path().join("data");
        let lock = prepare_directory(&path).expect("it is made");
        let error = prepare_directory(&path).expect_err("it is taken");
        assert!(error.to_string().ends_with("is in use by another process: stop that one first"));
        drop(lock);
        assert!(prepare_directory(&path).is_ok());
        let blocked = path.join("LOCK");
        assert!(matches!(prepare_directory(&blocked), Err(EngineError::Directory(..))));
    }

    #[test]
    fn shards_are_spread_over_the_allowed_cores() {
        let allowed = allowed_cores();
        assert_eq!(cores(&Pin::Spread, 1).expect("one is enough"), [Some(allowed[0])]);
        let many = allowed.len() as u16 + 1;
        assert!(
            cores(&Pin::Spread, many).expect("then none is pinned").iter().all(Option::is_none)
        );
        assert!(cores(&Pin::To(vec![100_000]), 1).is_err());
        assert!(cores(&Pin::To(vec![]), 1).is_err());
        assert!(!spare_cores(1));
    }

    #[test]
    fn entropy_differs() {
        assert_ne!(entropy(), entropy());
    }
}
