//! Kills a real node under load, again and again, and looks whether anything acknowledged is missing.
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
use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::io::Write as _;
use std::net::TcpListener;
use std::net::TcpStream;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::ExitCode;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use clap::Parser;

/// Kill a node under load, again and again.
#[derive(Clone, Debug, Parser)]
struct Args {
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

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("stator-kill: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> io::Result<String> {
    let folder = tempfile::tempdir()?;
    let mut dice = Dice(args.seed);
    let mut known: Vec<Known> = vec![Known::new(); args.writers as usize];
    let (mut acknowledged, mut slowest) = (0, Duration::ZERO);
    for round in 0..=args.kills {
        let shards = args.shards[round as usize % args.shards.len()];
        let begun = Instant::now();
        let mut node = Node::start(args, folder.path(), shards, &mut dice)?;
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
    args: &Args,
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

fn command(out: &mut Vec<u8>, words: &[&str]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
}

struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    fn connect(port: u16) -> io::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        Ok(Self { stream: BufReader::new(stream) })
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    fn ask(&mut self, words: &[&str]) -> io::Result<String> {
        let mut request = Vec::new();
        command(&mut request, words);
        self.send(&request)?;
        self.line()
    }

    /// All keys, as SCAN shows them.
    fn walk(&mut self) -> io::Result<Vec<String>> {
        let mut keys = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let outer = self.ask(&["SCAN", &cursor, "COUNT", "100"])?;
            let next = self.bulk()?;
            let inner = self.line()?;
            let count = inner.strip_prefix('*').and_then(|count| count.parse::<usize>().ok());
            let (true, Some(next), Some(count)) = (outer == "*2", next, count) else {
                return Err(io::Error::other(format!("{outer} {inner}")));
            };
            for _ in 0..count {
                keys.extend(self.bulk()?);
            }
            if next == "0" {
                return Ok(keys);
            }
            cursor = next;
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }

    fn bulk(&mut self) -> io::Result<Option<String>> {
        let line = self.line()?;
        let Some(length) = line.strip_prefix('$') else { return Err(io::Error::other(line)) };
        let Ok(length) = length.parse::<usize>() else { return Ok(None) };
        let mut value = vec![0; length + 2];
        self.stream.read_exact(&mut value)?;
        value.truncate(length);
        Ok(Some(String::from_utf8_lossy(&value).into_owned()))
    }
}

struct Node {
    child: Child,
    port: u16,
}

impl Node {
    /// Starts the node, and returns when it answers.
    fn start(args: &Args, folder: &Path, shards: u16, dice: &mut Dice) -> io::Result<Self> {
        let port = free_block(shards, dice)?;
        let log = std::fs::File::create(folder.join("log"))?;
        let child = Command::new(&args.stator)
            .arg("serve")
            .arg("--data")
            .arg(folder.join("data"))
            .args(["--listen", &format!("127.0.0.1:{port}"), "--shards", &shards.to_string()])
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut node = Self { child, port };
        let output = node.child.stdout.take().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        if !line.starts_with("ready") {
            let why = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
            return Err(io::Error::other(format!("it did not start: {line}{why}")));
        }
        Ok(node)
    }

    fn kill_after(&mut self, after: Duration) -> io::Result<()> {
        // The dice say when; nothing is synchronised by it.
        let until = Instant::now() + after;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            std::thread::park_timeout(left);
        }
        self.kill()
    }

    fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(|_| ())
    }

    fn explain(&mut self, round: u32, why: String) -> io::Error {
        let _ = self.kill();
        io::Error::other(format!("after kill {round}: {why}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// A port with its neighbours free: the node takes P, P + 1, P + 2 and P + 10 + core.
fn free_block(shards: u16, dice: &mut Dice) -> io::Result<u16> {
    for _ in 0..100 {
        let base = 20_000 + dice.below(100) as u16 * 100;
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(base) && (0..shards).all(|core| free(base + 10 + core)) {
            return Ok(base);
        }
    }
    Err(io::Error::other("no free block of ports"))
}

/// A small generator: the same seed kills at the same moments.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
