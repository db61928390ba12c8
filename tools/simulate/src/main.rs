//! Seeds for ever: runs fresh ones on some threads, and prints the first that fails.
//!
//!     cargo run --release -p stator-simulate -- --seconds 60 --jobs 2
//!     cargo run --release -p stator-simulate -- --from 4711 --seeds 1
//!
//! `--kind storage`, `--kind node` or `--kind cluster` runs seeds of that world alone; otherwise they take turns.
//! `--aloud 1` tells every event and effect. Exits with 1 if a seed failed, saw too little, or did not
//! end within `--seed-seconds`, and prints the line that runs it again.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

use stator::sim::cluster;
use stator::sim::node;
use stator::sim::storage;
use stator::sim::storage::Report;

/// A world that seeds are run in.
#[derive(Clone, Copy)]
struct Kind {
    /// The name of its scenarios.
    name: &'static str,
    run: fn(u64) -> Report,
    run_aloud: fn(u64) -> Report,
}

/// They take turns, seed by seed, unless one kind is asked for.
const KINDS: [Kind; 3] = [
    Kind { name: "storage", run: storage::run, run_aloud: storage::run_aloud },
    Kind { name: "node", run: node::run, run_aloud: node::run_aloud },
    Kind { name: "cluster", run: cluster::run, run_aloud: cluster::run_aloud },
];

/// A seed takes less than a second: one that takes this long will never end.
const SEED_SECONDS_MAX: u64 = 180;

/// What a shell shows of a process that ended because nobody reads what it prints.
const NOBODY_READS: i32 = 141;

thread_local! {
    static SEED: Cell<(&'static str, u64)> = const { Cell::new(("", 0)) };
}

/// What each thread runs, and since when; a thread that is done has nothing.
type Running = Mutex<Vec<Option<(&'static str, u64, Instant)>>>;

struct Arguments {
    from: u64,
    seeds: u64,
    seconds: u64,
    jobs: u64,
    aloud: u64,
    seed_seconds: u64,
    kind: Option<Kind>,
}

fn main() {
    let arguments = parse();
    std::panic::set_hook(Box::new(|panic| {
        // Printing panics when nobody reads, as behind `head`: no seed has failed.
        let why = panic.payload_as_str().unwrap_or_default();
        if why.starts_with("failed printing to stdout") && why.contains("Broken pipe") {
            std::process::exit(NOBODY_READS);
        }
        let (kind, seed) = SEED.get();
        fail(kind, seed, &panic.to_string());
    }));
    println!("seeds from {}", arguments.from);
    let (next, total) = (AtomicU64::new(0), Mutex::new(Report::default()));
    let running: Running = Mutex::new(vec![None; arguments.jobs as usize]);
    let start = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..arguments.jobs as usize)
            .map(|job| {
                let (arguments, next, total, running) = (&arguments, &next, &total, &running);
                scope.spawn(move || work(arguments, start, next, total, job, running))
            })
            .collect();
        while !workers.iter().all(|worker| worker.is_finished()) {
            std::thread::sleep(Duration::from_millis(50));
            watch(&running, Duration::from_secs(arguments.seed_seconds));
        }
    });
    let total = total.into_inner().expect("no thread panicked: the hook would have exited");
    let (seeds, seconds) = (next.load(Relaxed).min(arguments.seeds), start.elapsed().as_secs_f64());
    let per_core = total.trace.events() as f64 / seconds / arguments.jobs as f64;
    print!("{total}");
    println!("{seeds} seeds from {}, {:.1} a second", arguments.from, seeds as f64 / seconds);
    println!("{per_core:.0} events per core-second, {} threads", arguments.jobs);
}

/// Of so many seeds the judge may give up one key, and one more in all: else it judges too little.
const UNDECIDED_ONE_IN: u64 = 100;

/// Prints the line that runs the seed again, and ends the process.
fn fail(kind: &str, seed: u64, why: &str) -> ! {
    eprintln!("{kind} seed {seed} failed: {why}");
    eprintln!("SEED={seed} cargo test --test simulation {kind}::one_seed -- --nocapture");
    std::process::exit(1);
}

/// Fails if a seed does not end: without its number nobody could ever look at it.
fn watch(running: &Running, seed_time_max: Duration) {
    let running = running.lock().expect("no thread panics and lives");
    let late = running.iter().flatten().find(|(_, _, since)| since.elapsed() > seed_time_max);
    if let Some((kind, seed, since)) = late {
        let cpu = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        fail(kind, *seed, &format!("not ended after {:?}; the process: {cpu}", since.elapsed()));
    }
}

fn work(
    arguments: &Arguments,
    start: Instant,
    next: &AtomicU64,
    total: &Mutex<Report>,
    job: usize,
    running: &Running,
) {
    let runs = |what| running.lock().expect("no thread panics and lives")[job] = what;
    let limit = Duration::from_secs(arguments.seconds);
    while start.elapsed() < limit {
        let index = next.fetch_add(1, Relaxed);
        if index >= arguments.seeds {
            break;
        }
        let seed = arguments.from.wrapping_add(index);
        let kind = arguments.kind.unwrap_or(KINDS[(seed % KINDS.len() as u64) as usize]);
        SEED.set((kind.name, seed));
        runs(Some((kind.name, seed, Instant::now())));
        let report = if arguments.aloud == 0 { (kind.run)(seed) } else { (kind.run_aloud)(seed) };
        if let Some(shortfall) = report.shortfall() {
            fail(kind.name, seed, &shortfall);
        }
        if report.undecided > 0 {
            eprintln!("{} seed {seed}: the judge gave up {} keys", kind.name, report.undecided);
        }
        let mut total = total.lock().expect("no thread panics and lives");
        total.join(&report);
        if total.undecided > index / UNDECIDED_ONE_IN + 1 {
            fail(kind.name, seed, "the judge gave up too many keys");
        }
    }
    runs(None);
}

fn parse() -> Arguments {
    let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let mut arguments = Arguments {
        from: clock,
        seeds: u64::MAX,
        seconds: u64::MAX,
        jobs: 1,
        aloud: 0,
        seed_seconds: SEED_SECONDS_MAX,
        kind: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().unwrap_or_default();
        let number = value.parse().ok();
        if word == "--kind" {
            arguments.kind = KINDS.into_iter().find(|kind| kind.name == value);
            continue;
        }
        match (word.as_str(), number) {
            ("--from", Some(number)) => arguments.from = number,
            ("--seeds", Some(number)) => arguments.seeds = number,
            ("--seconds", Some(number)) => arguments.seconds = number,
            ("--jobs", Some(number)) => arguments.jobs = number,
            ("--aloud", Some(number)) => arguments.aloud = number,
            ("--seed-seconds", Some(number)) => arguments.seed_seconds = number,
            _ => {
                eprintln!(
                    "simulate [--from SEED] [--seeds N] [--seconds N] [--jobs N] [--aloud 1] \
                     [--seed-seconds N] [--kind storage|node]"
                );
                std::process::exit(2);
            }
        }
    }
    arguments
}
