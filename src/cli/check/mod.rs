//! `stator check DIR`: verifies a data directory that no node is using.
//!
//! Everything is read: every record of every segment, whatever its keydir file says, with the same
//! code that a start uses, so that both call the same things damage. The torn end of a log that was
//! not stopped cleanly is no damage: nothing in it was acknowledged.

mod log;

#[cfg(test)]
mod tests;

use std::fs;
use std::fs::File;
use std::fs::TryLockError;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use super::CliError;
use super::check::log::Damage;
use super::check::log::LogReport;
use crate::base::id::LogId;

/// Words of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The data directory
    #[arg(value_name = "DIR")]
    data: PathBuf,
}

/// Reads everything and tells what was found; damage is a failure.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<(), CliError> {
    let data = &args.data;
    let _lock = lock(data)?;
    let mut damages = 0;
    let mut total = LogReport::default();
    let columns =
        ["log", "segments", "batches", "records", "tombstones", "MiB", "cut off", "damage"];
    row(out, columns.map(str::to_owned))?;
    for (id, folder) in logs(data)? {
        let report = log::check(id, &folder).map_err(CliError::failed)?;
        row(out, cells(format!("{:08x}", id.to_raw()), &report))?;
        for damage in &report.damages {
            writeln!(out, "  {damage}")?;
        }
        damages += report.damages.len();
        total.add(&report);
    }
    row(out, cells("all".to_owned(), &total))?;
    if damages == 0 {
        return Ok(());
    }
    let first = total.damages.first().map(Damage::to_string).unwrap_or_default();
    Err(CliError::failed(format!("{}: {damages} damaged, first {first}", data.display())))
}

/// Keeps a node from starting while its files are read.
fn lock(data: &Path) -> Result<Option<File>, CliError> {
    let shown = data.display();
    if !data.is_dir() {
        return Err(CliError::failed(format!("{shown} is no directory")));
    }
    let path = data.join("LOCK");
    if !path.exists() {
        return Ok(None);
    }
    let failed = |error| CliError::failed(format!("{}: {error}", path.display()));
    let file = File::open(&path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {
            Err(CliError::failed(format!("a node is using {shown}: stop it first")))
        }
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

/// The logs of a data directory with their folders, in order.
fn logs(data: &Path) -> Result<Vec<(LogId, PathBuf)>, CliError> {
    let folder = data.join("logs");
    let failed = |error| CliError::failed(format!("{}: {error}", folder.display()));
    let mut logs = Vec::new();
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(id) = log::number(name).filter(|_| path.is_dir()) {
            logs.push((LogId::new(id), path));
        }
    }
    logs.sort();
    Ok(logs)
}

fn cells(name: String, report: &LogReport) -> [String; 8] {
    [
        name,
        report.segments.to_string(),
        report.batches.to_string(),
        report.records.to_string(),
        report.tombstones.to_string(),
        format!("{:.1}", report.bytes as f64 / f64::from(1 << 20)),
        report.cut_batches.to_string(),
        report.damages.len().to_string(),
    ]
}

fn row(out: &mut impl Write, cells: [String; 8]) -> Result<(), CliError> {
    let [name, rest @ ..] = cells;
    write!(out, "{name:<10}")?;
    for cell in rest {
        write!(out, "{cell:>11}")?;
    }
    Ok(writeln!(out)?)
}
