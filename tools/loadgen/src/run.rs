//! One run: fill, warm up, measure, sum up.
//!
//! Client threads count for themselves; this thread wakes once a second to print, and at the two
//! ends of the measured time to read the CPU clocks. Throughput and CPU per operation are taken
//! between those two readings, so that both see exactly the same operations.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use crate::args::{DistributionArg, RunArgs, WaitArg};
use crate::client::{Clock, Target, Waiting};
use crate::cpu::CpuTime;
use crate::hlog;
use crate::record::{Counts, ErrorCounts, Interval};
use crate::recorder::{INTERVAL_NS, last_interval};
use crate::report::{Filled, Latencies, Report};
use crate::request::{Dialect, Keys, Templates, Values};
use crate::thread::{self, Message, Plan, Progress};
use crate::workload::{Popularity, Population};
use crate::zipf::{Scrambled, Zipf};

/// Does what `args` say. Progress goes to `progress`, a line a second; `stop` ends it early.
pub fn run(args: &RunArgs, stop: &AtomicBool, progress: &mut dyn Write) -> Result<Report, String> {
    let plan = plan(args)?;
    // This thread too: it wakes once a second, and must not do so on the server's core.
    thread::pin(&args.cpu)?;
    let file = args.histogram.as_deref().map(hlog::create).transpose()?;
    let threads = args.threads as usize;
    let counters: Vec<Progress> = (0..threads).map(|_| Progress::default()).collect();
    let (sender, messages) = channel();
    std::thread::scope(|scope| {
        let mut lines = Vec::new();
        for (index, counter) in counters.iter().enumerate() {
            let (starts, start) = channel();
            let (spares, spare) = channel();
            lines.push(Line { start: Some(starts), spares });
            let (plan, sender) = (&plan, sender.clone());
            scope.spawn(move || thread::run(index, plan, counter, stop, sender, &start, spare));
        }
        drop(sender);
        let mut run = Run {
            args,
            clock: plan.clock,
            counters: &counters,
            lines,
            messages,
            stop,
            progress,
            seconds: Seconds::new(file),
        };
        let report = run.conduct();
        if report.is_err() {
            // Threads that still work see this; the others see that their channel is closed.
            stop.store(true, Ordering::Relaxed);
        }
        report
    })
}

/// Everything that the command line decides, checked.
fn plan(args: &RunArgs) -> Result<Plan, String> {
    let (connections, depth) = (args.connections as u64, args.pipeline as u64);
    if args.threads > args.connections {
        return Err("each thread needs a connection: fewer --threads, more --connections".into());
    }
    let mix = args.mix();
    let keys_at_most = if mix.insert > 0 { args.keys + INSERTS_MAX } else { args.keys };
    let keys = Keys::new(&args.key_prefix, args.key_length, keys_at_most)?;
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
    let dialect = Dialect {
        dyn_commands: args.dyn_commands,
        get_options: words(&args.get_options),
        set_options: words(&args.set_options),
    };
    let waiting = match args.wait {
        WaitArg::Spin => Waiting::Spin,
        WaitArg::Auto if args.rate.is_some() => Waiting::Spin,
        WaitArg::Auto | WaitArg::Sleep => Waiting::Sleep,
    };
    let popularity = match args.distribution() {
        DistributionArg::Uniform => Popularity::Uniform,
        DistributionArg::Zipf => Popularity::Zipf(Scrambled::new(args.keys, args.theta)),
        DistributionArg::Latest => Popularity::Latest(Zipf::new(args.keys, args.theta)),
    };
    Ok(Plan {
        clock: Clock::start(),
        target: Target {
            address: resolve(&args.server)?,
            password: std::env::var("STATOR_PASSWORD").ok(),
            reconnect: args.reconnect,
        },
        args: args.clone(),
        mix,
        popularity,
        population: Arc::new(Population::new(args.keys, connections * depth)),
        templates: Templates::new(keys, Values::new(args.value_size), &dialect),
        waiting,
    })
}

fn resolve(server: &str) -> Result<SocketAddr, String> {
    let wrong = |why: &str| format!("{server:?} is not an address: {why}");
    let mut addresses = server.to_socket_addrs().map_err(|error| wrong(&error.to_string()))?;
    addresses.next().ok_or_else(|| wrong("the name has none"))
}

/// The channels to one thread.
struct Line {
    start: Option<Sender<Range<u64>>>,
    spares: Sender<Counts>,
}

struct Run<'a> {
    args: &'a RunArgs,
    clock: Clock,
    counters: &'a [Progress],
    lines: Vec<Line>,
    messages: Receiver<Message>,
    stop: &'a AtomicBool,
    progress: &'a mut dyn Write,
    seconds: Seconds,
}

/// One reading of everything that rates are made of.
#[derive(Clone)]
struct Sample {
    at: u64,
    finished: u64,
    failed: u64,
    server: Option<CpuTime>,
    client: CpuTime,
}

impl Run<'_> {
    fn conduct(&mut self) -> Result<Report, String> {
        let filled = self.await_ready()?;
        let start = self.clock.now() + START_NS + nanoseconds(self.args.warmup);
        let measured = if self.args.load_only { 0 } else { nanoseconds(self.args.measured()) };
        let window = start..start + measured;
        self.seconds.start(std::time::SystemTime::now() + self.args.warmup, &window)?;
        for line in &mut self.lines {
            let start = line.start.take().expect("a run starts once");
            // A thread that is gone has said why; that is found below.
            let _ = start.send(window.clone());
        }
        let (from, to) = self.await_finished(&window)?;
        self.seconds.flush_all(self.progress, self.args.quiet)?;
        Ok(self.report(&from, &to, filled))
    }

    /// Until every thread is connected and has filled its keys.
    fn await_ready(&mut self) -> Result<Option<Filled>, String> {
        let begin = self.clock.now();
        let mut errors = ErrorCounts::default();
        let mut ready = 0;
        let mut next_line = begin + INTERVAL_NS;
        while ready < self.lines.len() {
            match self.receive_until(next_line)? {
                Some(Message::Ready) => ready += 1,
                Some(Message::Interval { index, interval }) => {
                    errors.add(&interval.counts.errors);
                    self.give_back(index, interval.counts);
                }
                Some(Message::Finished(outcome)) => outcome?,
                None => {
                    next_line += INTERVAL_NS;
                    let done = self.finished();
                    self.say(format_args!("filling: {done} of {} keys", self.args.keys));
                }
            }
        }
        if errors.total() > 0 {
            let words: Vec<String> =
                errors.iter().map(|(word, count)| format!("{count} x {word}")).collect();
            return Err(format!("filling the keys met errors: {}", words.join(", ")));
        }
        let wanted = self.args.load || self.args.load_only;
        Ok(wanted.then(|| Filled {
            keys: self.args.keys,
            seconds: (self.clock.now() - begin) as f64 / 1e9,
            errors: BTreeMap::new(),
        }))
    }

    /// Until every thread is done; reads the clocks at both ends of `window`.
    fn await_finished(&mut self, window: &Range<u64>) -> Result<(Sample, Sample), String> {
        let (mut from, mut to) = (None, None);
        let mut running = self.lines.len();
        let mut next_line = self.clock.now() + INTERVAL_NS;
        let overdue = window.end + nanoseconds(self.args.drain) + PATIENCE_NS;
        while running > 0 {
            let now = self.clock.now();
            if now > overdue {
                return Err("a client thread did not end in time".to_owned());
            }
            if from.is_none() && now >= window.start {
                from = Some(self.sample()?);
            }
            if to.is_none() && (now >= window.end || self.stop.load(Ordering::Relaxed)) {
                to = Some(self.sample()?);
            }
            let wake = match (&from, &to) {
                (None, _) => window.start.min(next_line),
                (_, None) => window.end.min(next_line),
                _ => next_line,
            };
            match self.receive_until(wake)? {
                Some(Message::Interval { index, interval }) => {
                    let spare = self.seconds.take(*interval);
                    self.seconds.flush_complete(
                        self.lines.len(),
                        self.progress,
                        self.args.quiet,
                    )?;
                    self.give_back(index, spare);
                }
                Some(Message::Finished(outcome)) => {
                    outcome?;
                    running -= 1;
                }
                Some(Message::Ready) => return Err("a thread was ready twice".to_owned()),
                None if self.clock.now() >= next_line => {
                    next_line += INTERVAL_NS;
                    if from.is_none() {
                        self.say(format_args!("warming up: {} requests", self.finished()));
                    }
                }
                None => {}
            }
        }
        let to = match to {
            Some(sample) => sample,
            None => self.sample()?,
        };
        Ok((from.unwrap_or_else(|| to.clone()), to))
    }

    fn report(&self, from: &Sample, to: &Sample, filled: Option<Filled>) -> Report {
        let counts = &self.seconds.total;
        let wall_ns = to.at - from.at;
        let operations = to.finished - from.finished;
        let good = operations - (to.failed - from.failed);
        let seconds = wall_ns as f64 / 1e9;
        let usage =
            |earlier: &CpuTime, later: &CpuTime| later.usage_since(earlier, operations, wall_ns);
        let client_cpu = usage(&from.client, &to.client);
        Report {
            load: describe(self.args),
            server: self.args.server.clone(),
            seed: self.args.seed,
            seconds,
            interrupted: self.stop.load(Ordering::Relaxed),
            answered: counts.answered(),
            throughput: if wall_ns == 0 { 0.0 } else { good as f64 / seconds },
            misses: counts.misses,
            errors: counts.errors.iter().map(|(word, count)| (word.to_owned(), count)).collect(),
            unanswered: counts.unanswered,
            mismatches: counts.mismatches,
            siblings_max: counts.siblings_max,
            latency_us: Latencies::by_kind(counts),
            server_cpu: from.server.zip(to.server).map(|(from, to)| usage(&from, &to)),
            client_cpu,
            client_utilisation: client_cpu.cores / self.args.threads as f64,
            filled,
        }
    }

    fn sample(&self) -> Result<Sample, String> {
        let of = |process: u32| {
            CpuTime::of(process).map_err(|error| format!("CPU time of process {process}: {error}"))
        };
        Ok(Sample {
            at: self.clock.now(),
            finished: self.finished(),
            failed: self.counters.iter().map(|one| one.failed.load(Ordering::Relaxed)).sum(),
            server: self.args.server_pid.map(of).transpose()?,
            client: of(std::process::id())?,
        })
    }

    fn finished(&self) -> u64 {
        self.counters.iter().map(|one| one.finished.load(Ordering::Relaxed)).sum()
    }

    /// The next message, or nothing when `deadline` has come.
    fn receive_until(&self, deadline: u64) -> Result<Option<Message>, String> {
        let wait = Duration::from_nanos(deadline.saturating_sub(self.clock.now()));
        match self.messages.recv_timeout(wait) {
            Ok(message) => Ok(Some(message)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err("a client thread panicked".to_owned()),
        }
    }

    fn give_back(&self, index: usize, mut counts: Counts) {
        counts.reset();
        let _ = self.lines[index].spares.send(counts);
    }

    fn say(&mut self, what: std::fmt::Arguments<'_>) {
        if !self.args.quiet {
            let _ = writeln!(self.progress, "{what}");
        }
    }
}

/// Puts the threads' seconds together, prints and logs each, and keeps the sum.
struct Seconds {
    total: Counts,
    open: BTreeMap<u64, (usize, Counts)>,
    /// This second is complete only when the run is: late answers count in it.
    last: u64,
    log: Option<hlog::Log>,
}

impl Seconds {
    fn new(log: Option<hlog::Log>) -> Self {
        Self { total: Counts::default(), open: BTreeMap::new(), last: 0, log }
    }

    fn start(&mut self, at: std::time::SystemTime, window: &Range<u64>) -> Result<(), String> {
        self.last = last_interval(window);
        self.log.as_mut().map_or(Ok(()), |log| log.begin(at))
    }

    /// Takes one thread's part of a second; gives back counters to use again.
    fn take(&mut self, interval: Interval) -> Counts {
        let Interval { index, counts } = interval;
        self.total.add(&counts);
        let (parts, sum) = self.open.entry(index).or_default();
        *parts += 1;
        sum.add(&counts);
        counts
    }

    /// Prints and logs the seconds that every thread has handed over.
    fn flush_complete(
        &mut self,
        threads: usize,
        out: &mut dyn Write,
        quiet: bool,
    ) -> Result<(), String> {
        while let Some(entry) = self.open.first_entry()
            && entry.get().0 >= threads
            && *entry.key() < self.last
        {
            let (index, (_, counts)) = entry.remove_entry();
            self.flush(index, &counts, out, quiet)?;
        }
        Ok(())
    }

    fn flush_all(&mut self, out: &mut dyn Write, quiet: bool) -> Result<(), String> {
        while let Some((index, (_, counts))) = self.open.pop_first() {
            self.flush(index, &counts, out, quiet)?;
        }
        self.log.as_mut().map_or(Ok(()), hlog::Log::finish)
    }

    fn flush(
        &mut self,
        index: u64,
        counts: &Counts,
        out: &mut dyn Write,
        quiet: bool,
    ) -> Result<(), String> {
        if let Some(log) = &mut self.log {
            log.second(index, counts)?;
        }
        if !quiet {
            let requests = counts.requests();
            let at = |quantile| requests.value_at_quantile(quantile) as f64 / 1e3;
            let _ = writeln!(
                out,
                "{:>4} s {:>9} requests  p50 {:>8.1}  p99 {:>8.1}  p99.9 {:>8.1} us  {} errors",
                index + 1,
                counts.answered(),
                at(0.5),
                at(0.99),
                at(0.999),
                counts.errors.total()
            );
        }
        Ok(())
    }
}

fn describe(args: &RunArgs) -> String {
    let mix = args.mix();
    let mut text: Vec<String> =
        [("get", mix.get), ("set", mix.set), ("insert", mix.insert), ("rmw", mix.rmw)]
            .iter()
            .filter(|(_, share)| *share > 0)
            .map(|(name, share)| format!("{name}={share}"))
            .collect();
    let distribution = format!("{:?}", args.distribution()).to_lowercase();
    text.push(format!("{distribution} keys={}", args.keys));
    text.push(format!("value={} c={} P={}", args.value_size, args.connections, args.pipeline));
    if let Some(rate) = args.rate {
        text.push(format!("rate={rate} {:?}", args.spacing).to_lowercase());
    }
    if args.dyn_commands {
        text.push("dyn".to_owned());
    }
    text.join(" ")
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Between the word to start and the start, so that all threads have heard it.
const START_NS: u64 = 2_000_000;

/// Threads that are not done so long after the last answer could count never will be.
const PATIENCE_NS: u64 = 10_000_000_000;

/// Key numbers that inserts may need; the digits of a key must hold them.
const INSERTS_MAX: u64 = 1_000_000_000;
