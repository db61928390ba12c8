//! `stator doctor`: whether this machine can run a node, and what to change.

use std::fs;
use std::fs::OpenOptions;
use std::io;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use rustix::fs::OFlags;
use rustix::process::Resource;
use rustix::process::getrlimit;

use super::CliError;
use super::show;
use crate::base::aligned::AlignedBuffer;
use crate::base::aligned::PAGE_BYTES;
use crate::config::Config;

/// Words of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the node will keep its data: the disk to measure
    #[arg(long, value_name = "DIR", default_value_os_t = Config::default().data)]
    data: PathBuf,
}

/// What was found of one thing.
struct Finding {
    what: &'static str,
    verdict: Verdict,
    found: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Verdict {
    Good,
    /// A node runs, less well.
    Weak,
    /// A node does not run.
    Bad,
}

/// Looks at everything; it is a failure if a node would not run.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<(), CliError> {
    let findings = [kernel(), io_uring(), memlock(), files(), sync(&args.data)];
    for Finding { what, verdict, found } in &findings {
        let verdict = match verdict {
            Verdict::Good => "good",
            Verdict::Weak => "weak",
            Verdict::Bad => "BAD",
        };
        writeln!(out, "{what:<12}{verdict:<6}{found}")?;
    }
    let bad: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad)
        .map(|finding| finding.what)
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(CliError::failed(format!("a node will not run here: {}", bad.join(", "))))
}

/// The first kernel with everything that the engine asks of io_uring.
const KERNEL_LEAST: (u32, u32) = (6, 1);

fn kernel() -> Finding {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let verdict = match version_of(&release) {
        Some(version) if version >= KERNEL_LEAST => Verdict::Good,
        Some(_) => Verdict::Bad,
        None => Verdict::Weak,
    };
    let (major, minor) = KERNEL_LEAST;
    let found = match verdict {
        Verdict::Good => release,
        _ => format!("{release}: a node needs Linux {major}.{minor} or later"),
    };
    Finding { what: "kernel", verdict, found }
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn io_uring() -> Finding {
    let switch = Path::new("/proc/sys/kernel/io_uring_disabled");
    let (verdict, found) = match fs::read_to_string(switch).as_deref().map(str::trim) {
        Ok("2") => (Verdict::Bad, "disabled: sysctl kernel.io_uring_disabled=0".to_owned()),
        Ok("1") => {
            let found = "for privileged processes: sysctl kernel.io_uring_disabled=0";
            (Verdict::Weak, found.to_owned())
        }
        Ok(_) => (Verdict::Good, "allowed".to_owned()),
        // The switch came with Linux 6.6; without it nobody can disable it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            (Verdict::Good, "allowed".to_owned())
        }
        Err(error) => (Verdict::Weak, format!("{}: {error}", switch.display())),
    };
    Finding { what: "io_uring", verdict, found }
}

fn memlock() -> Finding {
    let wanted = Config::default().resident_bytes;
    let limit = getrlimit(Resource::Memlock);
    let (verdict, found) = match limit.current {
        None => (Verdict::Good, "unlimited".to_owned()),
        Some(bytes) if bytes >= wanted => (Verdict::Good, format!("{} KiB", bytes / 1024)),
        Some(bytes) => {
            let found = format!(
                "{} KiB: resident data may be swapped out; LimitMEMLOCK=infinity, or ulimit -l",
                bytes / 1024
            );
            (Verdict::Weak, found)
        }
    };
    Finding { what: "memlock", verdict, found }
}

fn files() -> Finding {
    let wanted = u64::from(Config::default().maxclients) + super::serve::RESERVED_FILES;
    let limit = getrlimit(Resource::Nofile);
    let (verdict, found) = match limit.maximum {
        Some(most) if most < wanted => {
            let found = format!(
                "{most} may be open: fewer than maxclients needs ({wanted}); LimitNOFILE=65536"
            );
            (Verdict::Weak, found)
        }
        Some(most) => (Verdict::Good, format!("{most} may be open")),
        None => (Verdict::Good, "unlimited".to_owned()),
    };
    Finding { what: "files", verdict, found }
}

/// Longer than this for one synced page, and every put is slow.
const SYNC_SLOW: Duration = Duration::from_millis(10);

fn sync(data: &Path) -> Finding {
    let folder = existing(data);
    let (verdict, found) = match measure(&folder) {
        Ok((median, direct)) => {
            let slow = median > SYNC_SLOW || !direct;
            let micros = median.as_micros();
            let how = if direct { "direct" } else { "no direct writes here: use ext4 or xfs" };
            let verdict = if slow { Verdict::Weak } else { Verdict::Good };
            (verdict, format!("{micros} us for 4 KiB in {}, {how}", folder.display()))
        }
        Err(error) => {
            let folder = show::printable(folder.as_os_str().as_encoded_bytes());
            (Verdict::Bad, format!("cannot write in {folder}: {error}"))
        }
    };
    Finding { what: "disk sync", verdict, found }
}

/// The folder, or the nearest above it that is there.
fn existing(data: &Path) -> PathBuf {
    let above = data.ancestors().find(|folder| !folder.as_os_str().is_empty() && folder.is_dir());
    above.unwrap_or(Path::new(".")).to_owned()
}

/// Writes of the test, and the time after which it ends whatever their number.
const WRITES: u64 = 200;
const WRITES_TIME_MAX: Duration = Duration::from_secs(2);

/// The median time of a synced write of one page, and whether the file system takes direct ones.
fn measure(folder: &Path) -> io::Result<(Duration, bool)> {
    let path = folder.join(format!(".stator-doctor-{}", std::process::id()));
    let result = measure_at(&path, OFlags::DSYNC | OFlags::DIRECT)
        .map(|median| (median, true))
        .or_else(|_| measure_at(&path, OFlags::DSYNC).map(|median| (median, false)));
    let _ = fs::remove_file(&path);
    result
}

fn measure_at(path: &Path, flags: OFlags) -> io::Result<Duration> {
    // As a log does: into a file whose blocks are there already.
    fs::write(path, vec![0; WRITES as usize * PAGE_BYTES])?;
    let flags = i32::try_from(flags.bits()).expect("flags of open fit an int");
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    let mut page = AlignedBuffer::with_capacity(PAGE_BYTES);
    page.extend(&[0x5a; PAGE_BYTES]);
    let start = Instant::now();
    let mut times = Vec::new();
    for number in 0..WRITES {
        let before = Instant::now();
        file.write_all_at(&page, number * PAGE_BYTES as u64)?;
        times.push(before.elapsed());
        if start.elapsed() > WRITES_TIME_MAX {
            break;
        }
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
