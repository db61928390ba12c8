//! Kills a node under load, again and again, and looks whether anything acknowledged is missing.
//!
//! Each writer counts upwards in keys of its own: a key's value is the number of the last write.
//! After a kill at a random moment the node is started again, with another number of shards if
//! several are given, and every key must show its last acknowledged number or the one that was in
//! flight: a lower one is a lost write, a higher one was never written, nil is a lost key. And a walk
//! over all keys must show each of them once: a shard that kept what has moved to another would show
//! it twice.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use crate::client::Client;
use crate::client::command;
use crate::dice::Dice;
use crate::node::Node;

/// What is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Losses {
    /// The binary
    #[arg(long, default_value = "target/release/stator")]
    stator: PathBuf,
    /// How often
    #[arg(long, default_value_t = 200)]
    kills: u32,
    /// Shards of each start, in turn
    #[arg(long, value_delimiter = ',', default_value = "1")]
    shards: Vec<u16>,
    /// Connections that write
    #[arg(long, default_value_t = 8)]
    writers: u64,
    /// Keys of each
    #[arg(long, default_value_t = 200)]
    keys: u64,
    /// A kill comes at most so long after the node is ready, in milliseconds
    #[arg(long, default_value_t = 400)]
    within_ms: u64,
    /// The dice
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// What a writer knows of each of its keys: the last number acknowledged, the last one tried.
type Known = BTreeMap<u64, (u64, u64)>;

/// Kills as often as asked for, and says what came of it.
pub(crate) fn run(args: &Losses) -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let mut dice = Dice(args.seed);
    let mut known: Vec<Known> = vec![Known::new(); args.writers as usize];
    let (mut acknowledged, mut slowest) = (0, Duration::ZERO);
    for round in 0..=args.kills {
        let shards = args.shards[round as usize % args.shards.len()];
        let begun = Instant::now();
        let mut node = Node::start(&args.stator, folder.path(), shards, &mut dice)?;
        slowest = slowest.max(begun.elapsed());
        check(node.port, &known).map_err(|why| node.explain(round, why))?;
        if round == args.kills {
            node.kill()?;
            break;
        }
        let after = Duration::from_millis(dice.below(args.within_ms.max(1)));
        acknowledged += write_and_kill(args, &mut node, &mut known, after)?;
    }
    Ok(format!(
        "{} kills, {acknowledged} acknowledged writes, none missing, no key twice; slowest start {} ms",
        args.kills,
        slowest.as_millis()
    ))
}

/// Writes until the kill, and returns how many writes were acknowledged.
fn write_and_kill(
    args: &Losses,
    node: &mut Node,
    known: &mut [Known],
    after: Duration,
) -> io::Result<u64> {
    let over = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = known
        .iter_mut()
        .enumerate()
        .map(|(writer, known)| {
            let (over, known) = (Arc::clone(&over), std::mem::take(known));
            let (port, keys) = (node.port, args.keys);
            std::thread::spawn(move || write(port, writer as u64, keys, known, &over))
        })
        .collect();
    node.kill_after(after)?;
    over.store(true, Ordering::Relaxed);
    let mut acknowledged = 0;
    for (known, writer) in known.iter_mut().zip(writers) {
        let (after, count) = writer.join().expect("a writer does not panic");
        *known = after;
        acknowledged += count;
    }
    Ok(acknowledged)
}

/// One connection: pipelines of eight writes until the node is gone.
fn write(port: u16, writer: u64, keys: u64, mut known: Known, over: &AtomicBool) -> (Known, u64) {
    let mut acknowledged = 0;
    let Ok(mut client) = Client::connect(port) else { return (known, 0) };
    let mut next = known.values().map(|(_, tried)| *tried).max().unwrap_or(0);
    while !over.load(Ordering::Relaxed) {
        let mut batch = Vec::new();
        let mut request = Vec::new();
        for _ in 0..8 {
            next += 1;
            let key = next % keys;
            known.entry(key).or_insert((0, 0)).1 = next;
            batch.push((key, next));
            let padding = "x".repeat((next % 700) as usize);
            let value = format!("{next}:{padding}");
            command(&mut request, &["SET", &name(writer, key), &value]);
        }
        if client.send(&request).is_err() {
            break;
        }
        for (key, number) in batch {
            match client.line() {
                Ok(line) if line == "+OK" => {
                    known.entry(key).or_insert((0, 0)).0 = number;
                    acknowledged += 1;
                }
                _ => return (known, acknowledged),
            }
        }
    }
    (known, acknowledged)
}

/// Every key must show what was acknowledged, or what was tried after that.
fn check(port: u16, known: &[Known]) -> Result<(), String> {
    let mut client = Client::connect(port).map_err(|error| error.to_string())?;
    let mut present = BTreeSet::new();
    for (writer, known) in known.iter().enumerate() {
        for (key, (acknowledged, tried)) in known {
            let name = name(writer as u64, *key);
            let mut request = Vec::new();
            command(&mut request, &["GET", &name]);
            client.send(&request).map_err(|error| error.to_string())?;
            let found = client.bulk().map_err(|error| format!("{name}: {error}"))?;
            let number = match &found {
                Some(value) => value.split(':').next().and_then(|number| number.parse().ok()),
                None => Some(0),
            };
            if found.is_some() {
                present.insert(name.clone());
            }
            let good = number.is_some_and(|number| (*acknowledged..=*tried).contains(&number));
            if !good {
                let shown = found.map(|value| value.chars().take(20).collect::<String>());
                return Err(format!(
                    "{name}: {acknowledged} was acknowledged, {tried} tried last, found {shown:?}"
                ));
            }
        }
    }
    check_walk(&mut client, &present)
}

/// What the node counts and what a walk shows is what there is, each key once.
fn check_walk(client: &mut Client, present: &BTreeSet<String>) -> Result<(), String> {
    let size = client.ask(&["DBSIZE"]).map_err(|error| format!("DBSIZE: {error}"))?;
    if size != format!(":{}", present.len()) {
        return Err(format!("{} keys can be read, DBSIZE says {size}", present.len()));
    }
    let mut shown = client.walk().map_err(|error| format!("SCAN: {error}"))?;
    shown.sort_unstable();
    if shown.iter().eq(present) {
        return Ok(());
    }
    let twice = shown.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| &pair[0]);
    Err(format!("{} keys can be read, SCAN shows {}; twice: {twice:?}", present.len(), shown.len()))
}

fn name(writer: u64, key: u64) -> String {
    format!("w{writer}:{key}")
}
