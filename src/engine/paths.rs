//! Which path each file of a log has, and which file a path is.
//!
//! `DIR/logs/<log>/<number>.seg`, `.idx` and `.tmp`, `DIR/logs/<log>/manifest`; both numbers are
//! eight hexadecimal digits, so that a listing sorts as the numbers do.

use std::path::Path;
use std::path::PathBuf;

use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::storage::effect::File;

/// Where the logs of a data directory are.
#[derive(Clone, Debug)]
pub(super) struct Paths {
    logs: PathBuf,
}

impl Paths {
    /// Those of this data directory.
    pub(super) fn new(data_dir: &Path) -> Self {
        Self { logs: data_dir.join("logs") }
    }

    /// The directory that holds a directory for each log.
    pub(super) fn logs(&self) -> &Path {
        &self.logs
    }

    /// The directory of one log.
    pub(super) fn log(&self, log: LogId) -> PathBuf {
        self.logs.join(format!("{:08x}", log.to_raw()))
    }

    /// A file of a log.
    pub(super) fn file(&self, file: File) -> PathBuf {
        let name = match file {
            File::Segment(segment) => format!("{:08x}.seg", segment.number),
            File::Index(segment) => format!("{:08x}.idx", segment.number),
            File::Temporary { number, .. } => format!("{number:08x}.tmp"),
            File::Manifest(_) => "manifest".to_owned(),
        };
        self.log(file.log()).join(name)
    }
}

/// What a name in the directory of `log` stands for. `None`: it is not ours.
pub(super) fn file_of(log: LogId, name: &str) -> Option<File> {
    if name == "manifest" {
        return Some(File::Manifest(log));
    }
    let (digits, kind) = name.split_once('.')?;
    let ours =
        digits.len() == 8 && digits.bytes().all(|digit| b"0123456789abcdef".contains(&digit));
    let number = u32::from_str_radix(digits, 16).ok().filter(|_| ours)?;
    match kind {
        "seg" => Some(File::Segment(SegmentId { log, number })),
        "idx" => Some(File::Index(SegmentId { log, number })),
        "tmp" => Some(File::Temporary { log, number }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_is_its_file() {
        let log = LogId::new(0x1f);
        let segment = SegmentId { log, number: 0xabcd };
        let paths = Paths::new(Path::new("data"));
        assert_eq!(
            paths.file(File::Segment(segment)),
            Path::new("data/logs/0000001f/0000abcd.seg")
        );
        let files = [
            File::Segment(segment),
            File::Index(segment),
            File::Manifest(log),
            File::Temporary { log, number: u32::MAX },
        ];
        for file in files {
            let path = paths.file(file);
            let name = path.file_name().and_then(|name| name.to_str()).expect("plain");
            assert_eq!(file_of(log, name), Some(file));
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in ["", "manifest~", "0000abcd", "abcd.seg", "0000ABCD.seg", "+000abcd.seg", "x.y"]
        {
            assert_eq!(file_of(LogId::new(1), name), None, "{name}");
        }
    }
}
