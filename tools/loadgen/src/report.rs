//! The result of a run: as a table for people, as JSON for machines.

use std::collections::BTreeMap;
use std::io::{self, Write};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::cpu::Usage;
use crate::record::{Counts, Kind};

/// Everything that one run found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was asked for, as one line.
    pub load: String,
    /// The server's address.
    pub server: String,
    /// The seed of the run.
    pub seed: u64,
    /// Length of the measured time.
    pub seconds: f64,
    /// Whether the run was broken off before its time.
    pub interrupted: bool,
    /// Requests that began in the measured time and were answered, errors not counted.
    pub answered: u64,
    /// Answers a second that were not errors, over the measured time.
    pub throughput: f64,
    /// Gets that found nothing.
    pub misses: u64,
    /// Errors by first word.
    pub errors: BTreeMap<String, u64>,
    /// Requests that were never answered; they are in the latencies with the time they waited.
    pub unanswered: u64,
    /// Values that differ from what this tool writes.
    pub mismatches: u64,
    /// The most values that one get returned.
    pub siblings_max: u64,
    /// Latencies in microseconds: of all requests, and by kind.
    pub latency_us: BTreeMap<&'static str, Latencies>,
    /// The server's CPU per operation, errors included in the operations.
    pub server_cpu: Option<Usage>,
    /// The load generator's own.
    pub client_cpu: Usage,
    /// Its share of the cores that its threads could use; near 1 it may be the bottleneck.
    pub client_utilisation: f64,
    /// How the keys were filled, if they were.
    pub filled: Option<Filled>,
}

/// How `--load` went.
#[derive(Clone, Debug, Serialize)]
pub struct Filled {
    /// Keys written.
    pub keys: u64,
    /// How long it took.
    pub seconds: f64,
    /// Errors by first word.
    pub errors: BTreeMap<String, u64>,
}

/// The shape of some latencies, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latencies {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// 90 % are not slower.
    pub p90: f64,
    /// 99 % are not slower.
    pub p99: f64,
    /// 99.9 % are not slower.
    pub p99_9: f64,
    /// 99.99 % are not slower.
    pub p99_99: f64,
    /// The slowest.
    pub max: f64,
}

impl Latencies {
    /// The shape of these nanoseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1e3;
        Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e3,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p99_9: at(0.999),
            p99_99: at(0.9999),
            max: histogram.max() as f64 / 1e3,
        }
    }

    /// Of all requests and by kind, where there are any.
    pub fn by_kind(counts: &Counts) -> BTreeMap<&'static str, Self> {
        let kinds = Kind::ALL.iter().map(|&kind| (kind.name(), Self::of(counts.latencies(kind))));
        let mut latencies: BTreeMap<_, _> = kinds.filter(|(_, shape)| shape.count > 0).collect();
        latencies.insert("all", Self::of(&counts.requests()));
        latencies
    }
}

impl Report {
    /// Errors of all words.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// Why the run cannot count as a success, if so.
    pub fn failure(&self) -> Option<String> {
        if self.mismatches > 0 {
            return Some(format!("{} values were not what was written", self.mismatches));
        }
        let nothing = self.answered == 0 && self.failed() + self.unanswered > 0;
        nothing.then(|| "no request was answered without an error".to_owned())
    }

    /// Prints it for people.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}  {}  seed {}", self.server, self.load, self.seed)?;
        if let Some(filled) = &self.filled {
            let rate = filled.keys as f64 / filled.seconds.max(1e-9);
            writeln!(
                out,
                "filled      {} keys in {:.1} s, {rate:.0}/s",
                filled.keys, filled.seconds
            )?;
        }
        if self.seconds == 0.0 {
            return Ok(());
        }
        let interrupted = if self.interrupted { "  (broken off)" } else { "" };
        let throughput = self.throughput;
        writeln!(out, "throughput  {throughput:.0}/s over {:.2} s{interrupted}", self.seconds)?;
        writeln!(
            out,
            "answers     {} good ({} misses), {} errors, {} unanswered",
            self.answered,
            self.misses,
            self.failed(),
            self.unanswered
        )?;
        for (word, count) in &self.errors {
            writeln!(out, "  error     {count} x {word}")?;
        }
        if self.mismatches > 0 {
            writeln!(out, "  WRONG     {} values were not what was written", self.mismatches)?;
        }
        if self.siblings_max > 1 {
            writeln!(out, "siblings    {} at most", self.siblings_max)?;
        }
        self.print_latencies(out)?;
        if let Some(cpu) = &self.server_cpu {
            print_usage(out, "server CPU", cpu)?;
        }
        print_usage(out, "client CPU", &self.client_cpu)?;
        let waiting = self.server_cpu.map_or(0.0, |cpu| cpu.waiting).max(self.client_cpu.waiting);
        if waiting > WAITING_MAX {
            writeln!(out, "note: others used the cores too; latencies and throughput mean little")?;
        }
        if self.client_utilisation > 0.9 && !self.latency_us.contains_key("lag") {
            writeln!(
                out,
                "note: the client was busy {:.0} % of the time and may be the limit; \
                 trust the server's CPU per operation",
                self.client_utilisation * 100.0
            )?;
        }
        Ok(())
    }

    fn print_latencies(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(
            out,
            "{:<7}{:>11}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>11}",
            "us", "count", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"
        )?;
        for (name, shape) in &self.latency_us {
            let Latencies { count, mean, p50, p90, p99, p99_9, p99_99, max } = shape;
            writeln!(
                out,
                "{name:<7}{count:>11}{mean:>10.1}{p50:>10.1}{p90:>10.1}{p99:>10.1}{p99_9:>10.1}\
                 {p99_99:>10.1}{max:>11.1}"
            )?;
        }
        if self.latency_us.contains_key("lag") {
            writeln!(out, "(lag: how late the client itself sent requests that were free to go)")?;
        }
        Ok(())
    }
}

fn print_usage(out: &mut impl Write, name: &str, cpu: &Usage) -> io::Result<()> {
    let Usage { us_per_op, user_us_per_op, system_us_per_op, cores, waiting } = cpu;
    writeln!(
        out,
        "{name}  {us_per_op:.3} us/op (user {user_us_per_op:.3}, system {system_us_per_op:.3}), \
         {cores:.2} cores, waited for {waiting:.2}"
    )
}

/// More waiting than the kernel's own work explains.
const WAITING_MAX: f64 = 0.05;
