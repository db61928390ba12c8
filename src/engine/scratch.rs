//! A directory of a test, removed with what is in it when the test ends.

use std::path::Path;
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;

static COUNT: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub(super) struct Scratch(PathBuf);

impl Scratch {
    pub(super) fn new() -> Self {
        Self::within(&std::env::temp_dir())
    }

    pub(super) fn within(parent: &Path) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("stator-test-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("nobody else uses this name");
        Self(path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
