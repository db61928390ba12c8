//! How long a node with many keys takes to start: after a kill at rest, after a clean stop, and after
//! a kill under load.
//!
//! One shard holds all keys, for a shard starts alone. Time runs from the start of the process. The
//! kill at rest comes first: what the fill wrote last has no keydir file yet. What was written is in
//! the page cache, as it is after a killed process.

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use std::time::Instant;

use crate::client::Client;
use crate::client::command;
use crate::dice::Dice;
use crate::node::Node;

/// After a clean stop it may take so long.
const AFTER_STOP: Duration = Duration::from_secs(1);

/// After a kill.
const AFTER_KILL: Duration = Duration::from_secs(3);

/// Connections that write, and requests in each of their pipelines.
const WRITERS: u64 = 4;
const PIPELINE: u64 = 500;

/// What is asked for.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Starts {
    /// The binary
    #[arg(long, default_value = "target/release/stator")]
    stator: PathBuf,
    /// How many keys
    #[arg(long, default_value_t = 1_000_000)]
    keys: u64,
    /// Bytes of each value
    #[arg(long, default_value_t = 100)]
    value_bytes: usize,
    /// The load lasts so long before the kill, in milliseconds
    #[arg(long, default_value_t = 3000)]
    load_ms: u64,
    /// The dice: which keys are written under load
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// The times of one start.
struct Start {
    after: &'static str,
    /// Until it answers.
    ping: Duration,
    /// Until it knows all keys.
    all_keys: Duration,
    bar: Duration,
}

/// Measures the starts and says how long they took; an error if one took longer than it may.
pub(crate) fn run(args: &Starts) -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let mut dice = Dice(args.seed);
    let mut begin = || Node::start(&args.stator, folder.path(), 1, &mut dice);

    let mut node = begin()?;
    let begun = Instant::now();
    fill(args, node.port)?;
    let filled = begun.elapsed();
    node.kill()?;
    let (mut node, at_rest) = measure(args, "a kill at rest", AFTER_KILL, &mut begin)?;
    node.stop()?;
    let (mut node, stopped) = measure(args, "a clean stop", AFTER_STOP, &mut begin)?;
    let written = overwrite_and_kill(args, &mut node)?;
    let (_node, loaded) = measure(args, "a kill under load", AFTER_KILL, &mut begin)?;

    let starts = [at_rest, stopped, loaded];
    println!(
        "{} keys with values of {} bytes, one shard, filled in {:.1} s; {written} more writes under load",
        args.keys,
        args.value_bytes,
        filled.as_secs_f64()
    );
    starts.iter().for_each(Start::print);
    match starts.iter().find(|start| start.all_keys > start.bar) {
        Some(late) => Err(io::Error::other(format!("the start after {} is late", late.after))),
        None => Ok("all in time".to_owned()),
    }
}

impl Start {
    fn print(&self) {
        println!(
            "{:<20} PING after {:>6} ms, all keys after {:>6} ms; {} ms allowed",
            self.after,
            self.ping.as_millis(),
            self.all_keys.as_millis(),
            self.bar.as_millis()
        );
    }
}

/// Starts the node, and asks it until it has all keys.
fn measure(
    args: &Starts,
    after: &'static str,
    bar: Duration,
    begin: &mut impl FnMut() -> io::Result<Node>,
) -> io::Result<(Node, Start)> {
    let begun = Instant::now();
    let node = begin()?;
    let mut client = Client::connect(node.port)?;
    let answer = client.ask(&["PING"])?;
    let ping = begun.elapsed();
    let all = format!(":{}", args.keys);
    let mut size = client.ask(&["DBSIZE"])?;
    while size != all && begun.elapsed() < 10 * bar {
        size = client.ask(&["DBSIZE"])?;
    }
    let all_keys = begun.elapsed();
    if answer != "+PONG" || size != all {
        let why = format!("after {after}: PING says {answer}, DBSIZE says {size}, not {all}");
        return Err(io::Error::other(why));
    }
    Ok((node, Start { after, ping, all_keys, bar }))
}

/// Writes every key once.
fn fill(args: &Starts, port: u16) -> io::Result<()> {
    let written = each_writer(|writer| {
        let mut client = Client::connect(port)?;
        let mut keys = (0..args.keys).filter(|key| key % WRITERS == writer).peekable();
        while keys.peek().is_some() {
            let keys: Vec<u64> = keys.by_ref().take(PIPELINE as usize).collect();
            let written = write(args, &mut client, &keys)?;
            if written < keys.len() as u64 {
                return Err(io::Error::other("a write was refused"));
            }
        }
        Ok(0)
    });
    written.map(|_| ())
}

/// Writes keys at random until the kill, and says how many writes were acknowledged, in whole
/// pipelines.
fn overwrite_and_kill(args: &Starts, node: &mut Node) -> io::Result<u64> {
    let port = node.port;
    std::thread::scope(|scope| {
        let killer = scope.spawn(|| node.kill_after(Duration::from_millis(args.load_ms)));
        let written = each_writer(|writer| {
            let mut dice = Dice(1 + args.seed + writer);
            let mut client = Client::connect(port)?;
            let mut acknowledged = 0;
            loop {
                let keys: Vec<u64> = (0..PIPELINE).map(|_| dice.below(args.keys)).collect();
                // The kill ends the connection, and nothing else may.
                match write(args, &mut client, &keys) {
                    Ok(written) => acknowledged += written,
                    Err(_) => return Ok(acknowledged),
                }
            }
        });
        killer.join().expect("it does not panic")?;
        match written? {
            0 => Err(io::Error::other("there was no load")),
            written => Ok(written),
        }
    })
}

fn each_writer(work: impl Fn(u64) -> io::Result<u64> + Sync) -> io::Result<u64> {
    std::thread::scope(|scope| {
        let work = &work;
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || work(writer))).collect();
        writers.into_iter().map(|writer| writer.join().expect("a writer does not panic")).sum()
    })
}

/// One pipeline; says how many of its writes were acknowledged.
fn write(args: &Starts, client: &mut Client, keys: &[u64]) -> io::Result<u64> {
    let value = "x".repeat(args.value_bytes);
    let mut requests = Vec::new();
    for key in keys {
        command(&mut requests, &["SET", &format!("key:{key:09}"), &value]);
    }
    client.send(&requests)?;
    let mut acknowledged = 0;
    for _ in keys {
        acknowledged += u64::from(client.line()? == "+OK");
    }
    Ok(acknowledged)
}
