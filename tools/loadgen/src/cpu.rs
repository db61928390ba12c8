//! CPU time of a process, as the kernel accounts it.
//!
//! Server CPU per operation is the figure to trust on a shared machine: throughput of a closed
//! loop also depends on the client, and latency on everybody.

use std::time::Duration;
use std::{fs, io};

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use serde::Serialize;

/// CPU time of all threads of a process and of its children since they began: a server that forks to
/// tidy up its log does so for its clients.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CpuTime {
    /// Nanoseconds on a core, by the scheduler's own count.
    pub run_ns: u64,
    /// Nanoseconds ready to run, on a core that somebody else used.
    pub wait_ns: u64,
    /// Clock ticks in user mode: coarse, 10 ms each.
    pub user_ticks: u64,
    /// Clock ticks in the kernel.
    pub system_ticks: u64,
}

impl CpuTime {
    /// Of the process with this number, of its children that run, and of those that have ended.
    pub fn of(process: u32) -> io::Result<Self> {
        let mut time = Self::of_one(process)?;
        // One that ends meanwhile is counted next time, as one that has ended.
        for child in children_of(process).into_iter().filter_map(|it| Self::of_one(it).ok()) {
            time.run_ns += child.run_ns;
            time.wait_ns += child.wait_ns;
            time.user_ticks += child.user_ticks;
            time.system_ticks += child.system_ticks;
        }
        Ok(time)
    }

    /// `run_ns` is the process's own clock, which keeps the time of threads that have ended; the
    /// kernel keeps no such sum of `wait_ns`, which therefore is of the threads that still run.
    fn of_one(process: u32) -> io::Result<Self> {
        let pid = i32::try_from(process).map_err(io::Error::other)?;
        let clock = clock_getcpuclockid(Pid::from_raw(pid))?;
        let run_ns = Duration::from(clock_gettime(clock)?).as_nanos() as u64;
        let mut wait_ns = 0;
        for task in fs::read_dir(format!("/proc/{process}/task"))? {
            if let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) {
                let second = text.split_whitespace().nth(1).and_then(|word| word.parse().ok());
                wait_ns += second.unwrap_or(0);
            }
        }
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let [user, system, ended_user, ended_system] = ticks_in(&stat)
            .ok_or_else(|| io::Error::other(format!("/proc/{process}/stat is not understood")))?;
        Ok(Self {
            run_ns: run_ns + (ended_user + ended_system) * TICK_NS,
            wait_ns,
            user_ticks: user + ended_user,
            system_ticks: system + ended_system,
        })
    }

    /// What was used between `earlier` and this, for so many operations in so many nanoseconds.
    pub fn usage_since(&self, earlier: &Self, operations: u64, wall_ns: u64) -> Usage {
        let run_ns = self.run_ns.saturating_sub(earlier.run_ns) as f64;
        let user = self.user_ticks.saturating_sub(earlier.user_ticks) as f64;
        let system = self.system_ticks.saturating_sub(earlier.system_ticks) as f64;
        let operations = operations.max(1) as f64;
        Usage {
            us_per_op: run_ns / 1e3 / operations,
            user_us_per_op: user * TICK_US / operations,
            system_us_per_op: system * TICK_US / operations,
            cores: run_ns / wall_ns.max(1) as f64,
            waiting: self.wait_ns.saturating_sub(earlier.wait_ns) as f64 / wall_ns.max(1) as f64,
        }
    }
}

/// CPU that a process used over the measured time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Usage {
    /// Microseconds an operation.
    pub us_per_op: f64,
    /// Of these, in user mode (by clock ticks, so rough).
    pub user_us_per_op: f64,
    /// Of these, in the kernel.
    pub system_us_per_op: f64,
    /// How many cores it kept busy.
    pub cores: f64,
    /// How many cores more it would have used, had they been free: above a few hundredths,
    /// somebody else was there and the run is worth little.
    pub waiting: f64,
}

/// Those that run now.
pub fn children_of(process: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let lists =
        tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("children")).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}

/// Fields 14 to 17: own and ended children's, each in user mode and in the kernel. The name before
/// them is in brackets and may contain anything.
fn ticks_in(stat: &str) -> Option<[u64; 4]> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11).map(|field| field.parse().ok());
    Some([fields.next()??, fields.next()??, fields.next()??, fields.next()??])
}

/// Linux shows 100 ticks a second to programs on every architecture of today.
const TICK_US: f64 = 10_000.0;
const TICK_NS: u64 = 10_000_000;

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::process::{Command, Stdio};
    use std::thread;
    use std::time::Instant;

    use nix::time::ClockId;

    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_does_not_shift_the_fields() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194304 1 0 0 0 123 45 6 7 20 0 1 0 9 0 0";
        assert_eq!(ticks_in(stat), Some([123, 45, 6, 7]));
        assert_eq!(ticks_in("7 (short) S 1"), None);
    }

    #[test]
    fn a_thread_that_has_ended_still_counts() {
        let this = std::process::id();
        let before = CpuTime::of(this).expect("there is a /proc").run_ns;
        let used = thread::spawn(|| {
            let begin = Instant::now();
            while begin.elapsed() < Duration::from_millis(20) {
                std::hint::spin_loop();
            }
            clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("every thread has one")
        });
        let used = Duration::from(used.join().expect("no panic")).as_nanos() as u64;
        assert!(used > 0);
        let after = CpuTime::of(this).expect("there is a /proc").run_ns;
        assert!(after - before >= used, "{before} to {after}, of which the thread {used}");
    }

    /// Through `sh`, so that the child is another process's: those of the tests beside this one are
    /// this process's own.
    #[test]
    fn a_child_counts_while_it_runs_and_when_it_has_ended() {
        let script = "sh -c 'while :; do :; done' & read line; kill $!; wait $!; echo; read line";
        let mut parent = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is a shell");
        let id = parent.id();
        let used = || CpuTime::of(id).expect("it waits for a line").run_ns;
        while used() < 50_000_000 {
            thread::yield_now();
        }
        assert_eq!(children_of(id).len(), 1);
        let mut stdin = parent.stdin.take().expect("it was asked for");
        let mut stdout = parent.stdout.take().expect("it was asked for");
        stdin.write_all(b"\n").expect("it reads");
        stdout.read_exact(&mut [0]).expect("it says when the child has ended");
        assert!(children_of(id).is_empty());
        assert!(used() >= 40_000_000, "ticks are coarse, but not so");
        drop(stdin);
        parent.wait().expect("its input has ended");
    }

    #[test]
    fn no_such_process_is_an_error() {
        assert!(CpuTime::of(u32::MAX).is_err());
        // The largest that Linux gives out is 2^22.
        assert!(CpuTime::of(1 << 23).is_err());
    }

    #[test]
    fn usage_is_per_operation_and_per_time() {
        let before = CpuTime { run_ns: 1_000_000, wait_ns: 0, user_ticks: 10, system_ticks: 20 };
        let after =
            CpuTime { run_ns: 501_000_000, wait_ns: 250_000_000, user_ticks: 30, system_ticks: 50 };
        let usage = after.usage_since(&before, 100_000, 1_000_000_000);
        let expected = Usage {
            us_per_op: 5.0,
            user_us_per_op: 2.0,
            system_us_per_op: 3.0,
            cores: 0.5,
            waiting: 0.25,
        };
        assert_eq!(usage, expected);
    }
}
