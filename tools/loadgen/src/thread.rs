//! The life of a client thread: pin, connect, fill, wait for the word, run.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Duration;

use crate::args::RunArgs;
use crate::client::{Client, Clock, Control, Ending, Source, Target, Waiting};
use crate::connection::Script;
use crate::contexts::Contexts;
use crate::record::{Counts, Interval};
use crate::recorder::Recorder;
use crate::request::Templates;
use crate::rng::Rng;
use crate::schedule::Schedule;
use crate::workload::{Mix, Popularity, Population, Workload};

/// What all threads of a run share.
#[derive(Debug)]
pub struct Plan {
    /// The run's clock.
    pub clock: Clock,
    /// Where to connect.
    pub target: Target,
    /// The command line.
    pub args: RunArgs,
    /// Which operations.
    pub mix: Mix,
    /// On which keys.
    pub popularity: Popularity,
    /// How many keys there are.
    pub population: Arc<Population>,
    /// How to write requests.
    pub templates: Templates,
    /// How to wait.
    pub waiting: Waiting,
}

/// What a thread has done, for others to read at any time.
#[derive(Debug, Default)]
pub struct Progress {
    /// Requests that were answered, by errors too.
    pub finished: AtomicU64,
    /// Of these, by errors.
    pub failed: AtomicU64,
}

/// What a thread says.
#[derive(Debug)]
pub enum Message {
    /// Connected, and its share of the keys is filled.
    Ready,
    /// A second of counting.
    Interval {
        /// Whose.
        index: usize,
        /// What was counted; boxed, so that the other messages stay small.
        interval: Box<Interval>,
    },
    /// It is over.
    Finished(Result<(), String>),
}

/// Runs client thread `index` to its end. `start` says when measuring begins and ends.
pub fn run(
    index: usize,
    plan: &Plan,
    progress: &Progress,
    stop: &AtomicBool,
    messages: Sender<Message>,
    start: &Receiver<Range<u64>>,
    spares: Receiver<Counts>,
) {
    let control = Control { stop, progress, index, messages, spares };
    let outcome = live(index, plan, &control, start);
    // Nobody listens any more when the run was broken off.
    let _ = control.messages.send(Message::Finished(outcome));
    // A thread that ends takes its CPU time out of /proc with it: stay until all is summed up.
    while control.spares.recv().is_ok() {}
}

fn live(
    index: usize,
    plan: &Plan,
    control: &Control<'_>,
    start: &Receiver<Range<u64>>,
) -> Result<(), String> {
    let args = &plan.args;
    if !args.cpu.is_empty() {
        pin(&[args.cpu[index % args.cpu.len()]])?;
    }
    let threads = args.threads as usize;
    let connections = args.connections as usize;
    let share = connections / threads + usize::from(index < connections % threads);
    let mut client =
        Client::connect(plan.target.clone(), share, plan.waiting, plan.clock, script(index, plan))?;
    if args.load || args.load_only {
        fill(&mut client, index, plan, control)?;
    }
    let _ = control.messages.send(Message::Ready);
    // Closed: another thread failed, and has said why.
    let Ok(window) = start.recv() else { return Ok(()) };
    if args.load_only {
        return Ok(());
    }

    let warmup = u64::try_from(args.warmup.as_nanos()).unwrap_or(u64::MAX);
    let begin = window.start.saturating_sub(warmup);
    // All threads begin together, and without a warm-up not before the measured time does.
    std::thread::sleep(Duration::from_nanos(begin.saturating_sub(plan.clock.now())));
    let left = args.requests.map_or(u64::MAX, |all| share_of(all, index, threads));
    let mut source = match args.rate {
        None => Source::Closed { left },
        Some(rate) => {
            let spacing = args.spacing.into();
            let rng = Rng::for_thread(args.seed ^ SCHEDULE_STREAM, index);
            let rate_each = rate / threads as f64;
            // Threads take turns, so that a fixed rate is even over all of them.
            let offset = (index as f64 * 1e9 / rate) as u64;
            Source::Open { schedule: Schedule::new(begin + offset, rate_each, spacing, rng), left }
        }
    };
    let ending = Ending { issue_until: window.end, drain: args.drain };
    client.script().recorder = Recorder::new(window);
    client.drive(&mut source, args.pipeline as usize, ending, control)
}

/// Writes this thread's share of the keys.
fn fill(
    client: &mut Client,
    index: usize,
    plan: &Plan,
    control: &Control<'_>,
) -> Result<(), String> {
    let args = &plan.args;
    let threads = args.threads as u64;
    let bound =
        |index: u64| (u128::from(args.keys) * u128::from(index) / u128::from(threads)) as u64;
    let mut source = Source::Fill(bound(index as u64)..bound(index as u64 + 1));
    let timeout = u64::try_from(args.load_timeout.as_nanos()).unwrap_or(u64::MAX / 4);
    let ending = Ending { issue_until: plan.clock.now() + timeout, drain: args.drain };
    client.drive(&mut source, FILL_DEPTH, ending, control)?;
    if matches!(source, Source::Fill(keys) if !keys.is_empty()) {
        return Err("filling the keys was broken off, by its timeout or by Ctrl-C".to_owned());
    }
    if client.script().recorder.outstanding() > 0 {
        return Err("the server did not answer while the keys were filled".to_owned());
    }
    Ok(())
}

fn script(index: usize, plan: &Plan) -> Script {
    let rng = Rng::for_thread(plan.args.seed, index);
    let (popularity, population) = (plan.popularity.clone(), Arc::clone(&plan.population));
    Script {
        workload: Workload::new(plan.mix, popularity, population, rng),
        templates: plan.templates.clone(),
        contexts: Contexts::new(if plan.args.dyn_commands { plan.args.keys } else { 1 }),
        // Filling counts its errors; the run replaces this.
        recorder: Recorder::new(0..u64::MAX),
        check_values: plan.args.check_values,
    }
}

/// Keeps the calling thread on these cores; on any, if there are none.
pub fn pin(cpus: &[usize]) -> Result<(), String> {
    if cpus.is_empty() {
        return Ok(());
    }
    let mut set = rustix::thread::CpuSet::new();
    for &cpu in cpus {
        if cpu >= rustix::thread::CpuSet::MAX_CPU {
            return Err(format!("there is no core {cpu}"));
        }
        set.set(cpu);
    }
    rustix::thread::sched_setaffinity(None, &set)
        .map_err(|error| format!("cannot pin to cores {cpus:?}: {error}"))
}

fn share_of(all: u64, index: usize, threads: usize) -> u64 {
    all / threads as u64 + u64::from((index as u64) < all % threads as u64)
}

/// Filling is not measured; this keeps any server busy.
const FILL_DEPTH: usize = 64;

/// Keeps the times of requests apart from their keys: another mix leaves the times as they are.
const SCHEDULE_STREAM: u64 = 0x5CED_0000_0000_0000;
