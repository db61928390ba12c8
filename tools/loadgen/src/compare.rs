//! `loadgen compare`: two servers under the same load, in turns.
//!
//! Machines drift, and shared ones drift more: A and B are measured alternately and compared by
//! the medians of their rounds, so that a slow minute hits both.

use std::fs::File;
use std::io;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;

use crate::args::{Cli, CompareArgs, RunArgs, Side};
use crate::cpu::children_of;
use crate::report::Report;
use crate::run;

/// The figures of one side, or of one round of it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Figures {
    /// Microseconds of the server's CPU an operation.
    pub cpu_us_per_op: f64,
    /// Good answers a second.
    pub throughput: f64,
    /// Microseconds.
    pub p50_us: f64,
    /// Microseconds.
    pub p99_us: f64,
    /// Microseconds.
    pub p99_9_us: f64,
    /// Microseconds of the load generator's CPU an operation.
    pub client_cpu_us_per_op: f64,
    /// The share of its core that the load generator used.
    pub client_utilisation: f64,
    /// Cores that the server waited for because somebody else used them.
    pub server_waiting: f64,
}

/// What `compare` found.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// What was asked of both.
    pub load: String,
    /// Medians of A.
    pub a: Figures,
    /// Medians of B.
    pub b: Figures,
    /// A's medians divided by B's.
    pub ratio: Figures,
    /// Errors and requests without an answer, over all rounds: A, B.
    pub failed: [u64; 2],
    /// Every round: A, B, A, B...
    pub rounds: Vec<Report>,
}

/// Does what `args` say, and prints the result to `out`.
pub fn run(
    args: &CompareArgs,
    stop: &AtomicBool,
    out: &mut impl Write,
    progress: &mut dyn Write,
) -> Result<(), String> {
    let line = std::iter::once("loadgen".to_owned()).chain(args.load.iter().cloned());
    let load = Cli::try_parse_from(line).map_err(|error| error.to_string())?.run;
    let comparison = measure(args, &load, stop, progress)?;
    if let Some(path) = &args.json {
        write_json(path, &comparison, out)?;
    }
    let print = match &args.row {
        Some(label) => comparison.print_row(label, out),
        None if args.json.as_deref() == Some(Path::new("-")) => Ok(()),
        None => comparison.print(out),
    };
    print.map_err(|error| error.to_string())
}

/// Writes `value` to a file, or to `out` for `-`.
pub fn write_json(path: &Path, value: &impl Serialize, out: &mut impl Write) -> Result<(), String> {
    let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = serde_json::to_string_pretty(value).map_err(|error| failed(&error))?;
    if path.as_os_str() == "-" {
        return writeln!(out, "{text}").map_err(|error| failed(&error));
    }
    File::create(path).and_then(|mut file| writeln!(file, "{text}")).map_err(|error| failed(&error))
}

fn measure(
    args: &CompareArgs,
    load: &RunArgs,
    stop: &AtomicBool,
    progress: &mut dyn Write,
) -> Result<Comparison, String> {
    let mut rounds = Vec::new();
    for round in 0..args.rounds {
        for (side, other) in [(&args.a, &args.b), (&args.b, &args.a)] {
            let _paused = args.pause_other.then(|| Paused::new(other.pid)).transpose()?;
            let report = run::run(&options(load, side, round), stop, progress)?;
            if let Some(failure) = report.failure() {
                return Err(format!("{}: {failure}", side.address));
            }
            rounds.push(report);
            if stop.load(Ordering::Relaxed) {
                // The round that was broken off may be too short to mean anything.
                rounds.pop();
            }
        }
        if stop.load(Ordering::Relaxed) {
            break;
        }
    }
    if rounds.len() < 2 {
        return Err("broken off before both servers were measured".to_owned());
    }
    Ok(Comparison::of(rounds))
}

/// The options of one round on one side.
fn options(load: &RunArgs, side: &Side, round: u32) -> RunArgs {
    RunArgs {
        server: side.address.clone(),
        server_pid: Some(side.pid),
        load: load.load && round == 0,
        // Both sides get the same requests; each round gets others.
        seed: load.seed.wrapping_add(u64::from(round)),
        json: None,
        histogram: None,
        quiet: true,
        ..load.clone()
    }
}

/// A process and its children, which stand still as long as this lives.
struct Paused(Vec<Pid>);

impl Paused {
    fn new(pid: u32) -> Result<Self, String> {
        let mut paused = Self(Vec::new());
        paused.stop(pid).map_err(|error| format!("cannot stop process {pid}: {error}"))?;
        for child in children_of(pid) {
            // It may have ended meanwhile.
            let _ = paused.stop(child);
        }
        Ok(paused)
    }

    fn stop(&mut self, pid: u32) -> io::Result<()> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("0 is not a process"))?;
        kill_process(pid, Signal::STOP)?;
        self.0.push(pid);
        Ok(())
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        for pid in &self.0 {
            // It may have ended by itself.
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}

impl Comparison {
    fn of(rounds: Vec<Report>) -> Self {
        let figures: Vec<Figures> = rounds.iter().map(Figures::of).collect();
        let side = |first: usize| -> Vec<Figures> {
            figures.iter().skip(first).step_by(2).copied().collect()
        };
        let failed = |first: usize| {
            rounds.iter().skip(first).step_by(2).map(|one| one.failed() + one.unanswered).sum()
        };
        let (a, b) = (Figures::median(&side(0)), Figures::median(&side(1)));
        Self {
            load: rounds[0].load.clone(),
            a,
            b,
            ratio: a.zip(b, |a, b| if b == 0.0 { 0.0 } else { a / b }),
            failed: [failed(0), failed(1)],
            rounds,
        }
    }

    fn print(&self, out: &mut impl Write) -> std::io::Result<()> {
        writeln!(out, "{}  ({} rounds)", self.load, self.rounds.len().div_ceil(2))?;
        writeln!(out, "{:<24}{:>12}{:>12}{:>9}", "median", "A", "B", "A/B")?;
        let (a, b, ratio) = (self.a.named(), self.b.named(), self.ratio.named());
        for (((name, a), (_, b)), (_, ratio)) in a.into_iter().zip(b).zip(ratio) {
            writeln!(out, "{name:<24}{a:>12.3}{b:>12.3}{ratio:>9.2}")?;
        }
        let [a, b] = self.failed;
        writeln!(out, "{:<24}{a:>12}{b:>12}", "errors, unanswered")
    }

    /// The columns of the table in `tools/peers.sh`.
    fn print_row(&self, label: &str, out: &mut impl Write) -> std::io::Result<()> {
        let Self { a, b, ratio, failed, .. } = self;
        writeln!(
            out,
            "| {label} | {:.2} / {:.2} | **{:.2}** | {:.0} / {:.0} | {:.2} | {:.0} / {:.0} \
             | {:.0} / {:.0} | {:.2} | {:.0} / {:.0} | {:.2} / {:.2} | {:.2} / {:.2} | {} / {} |",
            a.cpu_us_per_op,
            b.cpu_us_per_op,
            ratio.cpu_us_per_op,
            a.throughput / 1e3,
            b.throughput / 1e3,
            ratio.throughput,
            a.p50_us,
            b.p50_us,
            a.p99_us,
            b.p99_us,
            ratio.p99_us,
            a.p99_9_us,
            b.p99_9_us,
            a.client_cpu_us_per_op,
            b.client_cpu_us_per_op,
            a.server_waiting,
            b.server_waiting,
            failed[0],
            failed[1]
        )
    }
}

impl Figures {
    fn of(report: &Report) -> Self {
        let all = &report.latency_us["all"];
        Self {
            cpu_us_per_op: report.server_cpu.unwrap_or_default().us_per_op,
            throughput: report.throughput,
            p50_us: all.p50,
            p99_us: all.p99,
            p99_9_us: all.p99_9,
            client_cpu_us_per_op: report.client_cpu.us_per_op,
            client_utilisation: report.client_utilisation,
            server_waiting: report.server_cpu.unwrap_or_default().waiting,
        }
    }

    fn median(rounds: &[Self]) -> Self {
        let of = |figure: fn(&Self) -> f64| {
            let mut values: Vec<f64> = rounds.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            let middle = values.len() / 2;
            if values.len() % 2 == 1 {
                values[middle]
            } else {
                (values[middle - 1] + values[middle]) / 2.0
            }
        };
        Self {
            cpu_us_per_op: of(|one| one.cpu_us_per_op),
            throughput: of(|one| one.throughput),
            p50_us: of(|one| one.p50_us),
            p99_us: of(|one| one.p99_us),
            p99_9_us: of(|one| one.p99_9_us),
            client_cpu_us_per_op: of(|one| one.client_cpu_us_per_op),
            client_utilisation: of(|one| one.client_utilisation),
            server_waiting: of(|one| one.server_waiting),
        }
    }

    fn zip(self, other: Self, combine: fn(f64, f64) -> f64) -> Self {
        Self {
            cpu_us_per_op: combine(self.cpu_us_per_op, other.cpu_us_per_op),
            throughput: combine(self.throughput, other.throughput),
            p50_us: combine(self.p50_us, other.p50_us),
            p99_us: combine(self.p99_us, other.p99_us),
            p99_9_us: combine(self.p99_9_us, other.p99_9_us),
            client_cpu_us_per_op: combine(self.client_cpu_us_per_op, other.client_cpu_us_per_op),
            client_utilisation: combine(self.client_utilisation, other.client_utilisation),
            server_waiting: combine(self.server_waiting, other.server_waiting),
        }
    }

    fn named(&self) -> [(&'static str, f64); 8] {
        [
            ("server CPU us/op", self.cpu_us_per_op),
            ("throughput /s", self.throughput),
            ("p50 us", self.p50_us),
            ("p99 us", self.p99_us),
            ("p99.9 us", self.p99_9_us),
            ("client CPU us/op", self.client_cpu_us_per_op),
            ("client utilisation", self.client_utilisation),
            ("server waited, cores", self.server_waiting),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_taken_by_figure() {
        let round = |throughput, p50_us| Figures { throughput, p50_us, ..Figures::default() };
        let odd = Figures::median(&[round(3.0, 1.0), round(1.0, 5.0), round(2.0, 9.0)]);
        assert_eq!((odd.throughput, odd.p50_us), (2.0, 5.0));
        let even = Figures::median(&[round(1.0, 4.0), round(2.0, 2.0)]);
        assert_eq!((even.throughput, even.p50_us), (1.5, 3.0));
    }
}
