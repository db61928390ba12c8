//! Passwords: they come by file or by environment, because a flag is seen by everyone on the
//! machine who lists processes. They are in no printed configuration and in no log.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A word that is not shown.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// The word itself, for whoever must compare or derive a key from it.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Takes what an environment variable or a file says; blanks around it do not count.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.is_empty() {
            // Whoever set it believes to be protected.
            return Err("is empty".to_owned());
        }
        Ok(Self(text.to_owned()))
    }

    /// Reads a file that only its owner can read.
    pub(super) fn read(path: &Path) -> Result<Self, String> {
        let failed = |error| format!("cannot read {}: {error}", path.display());
        let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let path = path.display();
            return Err(format!("others may read {path}: its mode is {mode:o}, make it 600"));
        }
        let text = fs::read_to_string(path).map_err(failed)?;
        Self::new(&text).map_err(|why| format!("{} {why}", path.display()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}
