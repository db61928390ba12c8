//! Seeds for ever: runs fresh ones on some threads, and prints the first that fails.
//!
//!     cargo run --release -p stator-simulate -- --seconds 60 --jobs 2
//!     cargo run --release -p stator-simulate -- --from 4711 --seeds 1
//!
//! `--kind storage` or `--kind node` runs seeds of that world alone; otherwise they take turns.
//! `--aloud 1` tells every event and effect. Exits with 1 if a seed failed, and prints the line that runs it again.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use std::time::Instant;
use std::time::SystemTime;

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

/// They take turns: even seeds of the first, odd ones of the second, unless one kind is asked for.
const KINDS: [Kind; 2] = [
    Kind { name: "storage", run: storage::run, run_aloud: storage::run_aloud },
    Kind { name: "node", run: node::run, run_aloud: node::run_aloud },
];

thread_local! {
    static SEED: Cell<(&'static str, u64)> = const { Cell::new(("", 0)) };
}

struct Arguments {
    from: u64,
    seeds: u64,
    seconds: u64,
    jobs: u64,
    aloud: u64,
    kind: Option<Kind>,
}

fn main() {
    let arguments = parse();
    std::panic::set_hook(Box::new(|panic| {
        let (kind, seed) = SEED.get();
        eprintln!("{kind} seed {seed} failed: {panic}");
        eprintln!("SEED={seed} cargo test --test simulation {kind}::one_seed -- --nocapture");
        std::process::exit(1);
    }));
    println!("seeds from {}", arguments.from);
    let (next, total) = (AtomicU64::new(0), Mutex::new(Report::default()));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs {
            scope.spawn(|| work(&arguments, start, &next, &total));
        }
    });
    let total = total.into_inner().expect("no thread panicked: the hook would have exited");
    let (seeds, seconds) = (next.load(Relaxed).min(arguments.seeds), start.elapsed().as_secs_f64());
    let per_core = total.trace.events() as f64 / seconds / arguments.jobs as f64;
    print!("{total}");
    println!("{seeds} seeds from {}, {:.1} a second", arguments.from, seeds as f64 / seconds);
    println!("{per_core:.0} events per core-second, {} threads", arguments.jobs);
}

fn work(arguments: &Arguments, start: Instant, next: &AtomicU64, total: &Mutex<Report>) {
    let limit = Duration::from_secs(arguments.seconds);
    while start.elapsed() < limit {
        let index = next.fetch_add(1, Relaxed);
        if index >= arguments.seeds {
            return;
        }
        let seed = arguments.from.wrapping_add(index);
        let kind = arguments.kind.unwrap_or(KINDS[(seed % 2) as usize]);
        SEED.set((kind.name, seed));
        let report = if arguments.aloud == 0 { (kind.run)(seed) } else { (kind.run_aloud)(seed) };
        total.lock().expect("no thread panics and lives").join(&report);
    }
}

fn parse() -> Arguments {
    let clock = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let mut arguments = Arguments {
        from: clock,
        seeds: u64::MAX,
        seconds: u64::MAX,
        jobs: 1,
        aloud: 0,
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
            _ => {
                eprintln!(
                    "simulate [--from SEED] [--seeds N] [--seconds N] [--jobs N] [--aloud 1] \
                     [--kind storage|node]"
                );
                std::process::exit(2);
            }
        }
    }
    arguments
}
