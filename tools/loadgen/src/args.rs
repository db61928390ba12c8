//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::schedule::Spacing;
use crate::workload::Mix;

/// Puts load on a server that speaks RESP (Stator, Redis, Valkey) and measures its answers.
///
/// Closed loop by default: each connection asks again as soon as it is answered. With --rate the
/// loop is open: requests are due at their own times, a slow server does not slow them down, and
/// latencies are counted from when a request was due, so that stalls cannot hide.
///
/// A password for AUTH is read from STATOR_PASSWORD. Ctrl-C ends a run early and prints what was
/// measured so far.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do instead of a single run.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The run.
    #[command(flatten)]
    pub run: RunArgs,
}

const EXAMPLES: &str = "\
Examples:
  loadgen --load --mix get=90,set=10              fill a million keys, then 90 % reads
  loadgen --ycsb a --pipeline 16 --duration 30s   YCSB's update-heavy mix, pipelined
  loadgen --rate 20000 --histogram a.hlog         open loop at 20,000 requests a second
  loadgen plot a.hlog b.hlog -o latency.svg       latency by percentile
  loadgen compare --a 127.0.0.1:7000,PID --b 127.0.0.1:6379,PID -- --pipeline 16";

/// What to do instead of a single run.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure two servers in turns, and print medians and the ratio A/B.
    Compare(CompareArgs),
    /// Be nine kinds of client that no server wants, beside another run that measures what they cost.
    Hostile(HostileArgs),
    /// Draw histogram logs as one SVG: latency by percentile, both axes logarithmic.
    Plot(PlotArgs),
}

/// Options of hostile clients.
#[derive(Args, Clone, Debug)]
pub struct HostileArgs {
    /// The server's address.
    #[arg(short, long, value_name = "HOST:PORT", default_value = "127.0.0.1:6379")]
    pub server: String,

    /// How long.
    #[arg(short, long, default_value = "10s", value_parser = duration)]
    pub duration: Duration,

    /// How many clients of each kind a second.
    #[arg(short, long, default_value_t = 10.0, value_parser = rate)]
    pub rate: f64,

    /// Connections of those that flood.
    #[arg(short, long, default_value_t = 600, value_parser = 1..=20_000)]
    pub floods: i64,

    /// Which kinds; all of them unless told.
    #[arg(short, long, value_enum, value_delimiter = ',', value_name = "KINDS")]
    pub kinds: Vec<BadClient>,

    /// The seed of garbage.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A kind of client that no server wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum BadClient {
    /// 4 KiB of noise.
    Garbage,
    /// A key of 4 GiB is announced.
    LongKey,
    /// 4 billion arguments are announced.
    ManyArguments,
    /// Arrays in arrays, 10,000 deep.
    Nested,
    /// Half a request, then nothing; the connection stays.
    Half,
    /// 10,000 requests at once.
    Burst,
    /// 4 MiB of requests whose answers, as long, are never read; the connection stays.
    Unread,
    /// HTTP.
    Http,
    /// Requests without end, on many connections at once that all stay; the answers are read.
    Flood,
}

/// Options of a run.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// The server's address.
    #[arg(short, long, value_name = "HOST:PORT", default_value = "127.0.0.1:6379")]
    pub server: String,

    /// Connections, over all threads.
    #[arg(short, long, default_value_t = 50, value_parser = 1..=20_000, help_heading = "Load")]
    pub connections: i64,

    /// Requests on their way per connection.
    #[arg(short = 'P', long, default_value_t = 1, value_parser = 1..=10_000, help_heading = "Load")]
    pub pipeline: i64,

    /// Open loop: so many operations a second, over all connections.
    #[arg(short, long, value_parser = rate, help_heading = "Load")]
    pub rate: Option<f64>,

    /// Open loop: gaps between requests.
    #[arg(long, value_enum, default_value = "poisson", help_heading = "Load")]
    pub spacing: SpacingArg,

    /// How the client waits: `spin` is exact and takes a whole core, `sleep` wakes up some 30 µs
    /// late; `auto` spins in an open loop and sleeps in a closed one.
    #[arg(long, value_enum, default_value = "auto", help_heading = "Load")]
    pub wait: WaitArg,

    /// Client threads.
    #[arg(long, default_value_t = 1, value_parser = 1..=64, help_heading = "Load")]
    pub threads: i64,

    /// Pin the client threads to these cores, in turn: `1` or `1,3`.
    #[arg(long, value_delimiter = ',', value_name = "CORES", help_heading = "Load")]
    pub cpu: Vec<usize>,

    /// How long to measure: `10s`, `500ms`, `2m`. Default 10s; with --requests ten minutes at most.
    #[arg(short, long, value_parser = duration, help_heading = "Load")]
    pub duration: Option<Duration>,

    /// Stop after so many operations (warm-up included).
    #[arg(short = 'n', long, help_heading = "Load")]
    pub requests: Option<u64>,

    /// Load before the measured time, not counted.
    #[arg(long, default_value = "1s", value_parser = duration, help_heading = "Load")]
    pub warmup: Duration,

    /// How long to wait for the last answers; what has none then is counted with its wait so far.
    #[arg(long, default_value = "5s", value_parser = duration, help_heading = "Load")]
    pub drain: Duration,

    /// Connect again when a connection is lost; its requests count as `(closed)` errors. Without
    /// this a lost connection ends the run.
    #[arg(long, help_heading = "Load")]
    pub reconnect: bool,

    /// The seed of keys, operations and gaps.
    #[arg(long, default_value_t = 1, help_heading = "Load")]
    pub seed: u64,

    /// Number of keys.
    #[arg(short, long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..),
        help_heading = "Data")]
    pub keys: u64,

    /// Bytes of each key: the prefix, then the number with leading zeros.
    #[arg(long, default_value_t = 16, help_heading = "Data")]
    pub key_length: usize,

    /// What each key begins with.
    #[arg(long, default_value = "key:", help_heading = "Data")]
    pub key_prefix: String,

    /// Bytes of each value.
    #[arg(long, default_value_t = 100, help_heading = "Data")]
    pub value_size: usize,

    /// Shares of get, set, insert (a new key) and rmw (get, then set): `get=95,set=5`.
    /// Default get=100.
    #[arg(short, long, conflicts_with = "ycsb", help_heading = "Data")]
    pub mix: Option<Mix>,

    /// Popularity of keys. Default uniform, or what --ycsb says.
    #[arg(long, value_enum, help_heading = "Data")]
    pub distribution: Option<DistributionArg>,

    /// Skew of zipf and latest, between 0 and 1.
    #[arg(long, default_value_t = 0.99, value_parser = theta, help_heading = "Data")]
    pub theta: f64,

    /// A core workload of YCSB: a (50 % get, 50 % set), b (95/5), c (get), d (95 % get of the
    /// newest, 5 % insert), f (50 % get, 50 % read-modify-write).
    #[arg(long, value_enum, help_heading = "Data")]
    pub ycsb: Option<YcsbArg>,

    /// Use DYN.GET and DYN.PUT with contexts. A set whose context is not known reads it first.
    #[arg(long = "dyn", help_heading = "Data")]
    pub dyn_commands: bool,

    /// Words added to each get: `--get-options "R 1"`.
    #[arg(long, default_value = "", value_name = "WORDS", help_heading = "Data")]
    pub get_options: String,

    /// Words added to each set (with --dyn: to each DYN.PUT): `--set-options "W 3"`.
    #[arg(long, default_value = "", value_name = "WORDS", help_heading = "Data")]
    pub set_options: String,

    /// First write every key once, pipelined, with plain SET. Not measured.
    #[arg(long, help_heading = "Data")]
    pub load: bool,

    /// Only fill the keys, measure nothing.
    #[arg(long, help_heading = "Data")]
    pub load_only: bool,

    /// --load gives up after this.
    #[arg(long, default_value = "10m", value_parser = duration, help_heading = "Data")]
    pub load_timeout: Duration,

    /// Compare every value read with what this tool writes under that key; a difference fails the
    /// run. Needs the --value-size of the writer.
    #[arg(long, help_heading = "Data")]
    pub check_values: bool,

    /// Report the CPU time that this process uses per operation.
    #[arg(long, value_name = "PID", help_heading = "Report")]
    pub server_pid: Option<u32>,

    /// Write the report as JSON; `-` is standard output, instead of the table.
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub json: Option<PathBuf>,

    /// Write a histogram of each second (HdrHistogram interval log, version 2).
    #[arg(long, value_name = "FILE", help_heading = "Report")]
    pub histogram: Option<PathBuf>,

    /// No progress on standard error.
    #[arg(short, long, help_heading = "Report")]
    pub quiet: bool,
}

/// Options of `compare`.
#[derive(Args, Debug)]
pub struct CompareArgs {
    /// The first server, and its process.
    #[arg(long, value_name = "HOST:PORT,PID")]
    pub a: Side,

    /// The second server, and its process.
    #[arg(long, value_name = "HOST:PORT,PID")]
    pub b: Side,

    /// Rounds; each measures A, then B.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,

    /// Stop the process of the other server (SIGSTOP) while one is measured.
    #[arg(long)]
    pub pause_other: bool,

    /// Print one row of a markdown table that begins with this text, instead of the whole table.
    #[arg(long, value_name = "TEXT")]
    pub row: Option<String>,

    /// Write rounds, medians and ratios as JSON; `-` is standard output, instead of the table.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Options of each run. --load fills each server once, before the first round.
    #[arg(last = true, value_name = "LOAD OPTIONS")]
    pub load: Vec<String>,
}

/// Options of `plot`.
#[derive(Args, Debug)]
pub struct PlotArgs {
    /// Histogram logs, a line each; `NAME=FILE` gives the line a name.
    #[arg(required = true, value_name = "FILE")]
    pub logs: Vec<String>,

    /// Where to write the SVG; `-` is standard output.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,

    /// Only latencies of this kind: get, set, rmw. Default: all requests.
    #[arg(long)]
    pub tag: Option<String>,

    /// Text above the plot.
    #[arg(long, default_value = "Latency by percentile")]
    pub title: String,
}

/// A server to compare.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Side {
    /// `HOST:PORT`.
    pub address: String,
    /// Its process.
    pub pid: u32,
}

impl std::str::FromStr for Side {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not HOST:PORT,PID");
        let (address, pid) = text.rsplit_once(',').ok_or_else(wrong)?;
        Ok(Self { address: address.to_owned(), pid: pid.parse().map_err(|_| wrong())? })
    }
}

/// `--spacing`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum SpacingArg {
    /// Random, as from many independent users.
    Poisson,
    /// Equal.
    Fixed,
}

impl From<SpacingArg> for Spacing {
    fn from(arg: SpacingArg) -> Self {
        match arg {
            SpacingArg::Poisson => Self::Poisson,
            SpacingArg::Fixed => Self::Fixed,
        }
    }
}

/// `--wait`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum WaitArg {
    /// Spin in an open loop, sleep in a closed one.
    Auto,
    /// Sleep in the kernel.
    Sleep,
    /// Look again and again.
    Spin,
}

/// `--distribution`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum DistributionArg {
    /// All keys alike.
    Uniform,
    /// A few popular keys, scattered (YCSB's scrambled zipfian).
    Zipf,
    /// The newest keys are the popular ones.
    Latest,
}

/// `--ycsb`.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum YcsbArg {
    /// Update heavy.
    A,
    /// Read mostly.
    B,
    /// Read only.
    C,
    /// Read latest.
    D,
    /// Read-modify-write.
    F,
}

impl RunArgs {
    /// The mix that is asked for.
    pub fn mix(&self) -> Mix {
        let (get, set, insert, rmw) = match self.ycsb {
            None => return self.mix.unwrap_or(Mix { get: 100, set: 0, insert: 0, rmw: 0 }),
            Some(YcsbArg::A) => (50, 50, 0, 0),
            Some(YcsbArg::B) => (95, 5, 0, 0),
            Some(YcsbArg::C) => (100, 0, 0, 0),
            Some(YcsbArg::D) => (95, 0, 5, 0),
            Some(YcsbArg::F) => (50, 0, 0, 50),
        };
        Mix { get, set, insert, rmw }
    }

    /// The popularity of keys that is asked for.
    pub fn distribution(&self) -> DistributionArg {
        self.distribution.unwrap_or(match self.ycsb {
            None => DistributionArg::Uniform,
            Some(YcsbArg::D) => DistributionArg::Latest,
            Some(_) => DistributionArg::Zipf,
        })
    }

    /// How long to measure at most.
    pub fn measured(&self) -> Duration {
        let default = if self.requests.is_some() { 600 } else { 10 };
        self.duration.unwrap_or(Duration::from_secs(default))
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let scale = match unit {
        "ms" => 1e-3,
        "s" | "" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("{unit:?} is none of ms, s, m, h")),
    };
    let number: f64 = number.parse().map_err(|_| "not a length of time".to_owned())?;
    Duration::try_from_secs_f64(number * scale).map_err(|error| error.to_string())
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1e8).contains(&rate) => Ok(rate),
        _ => Err("not a number of operations a second".to_owned()),
    }
}

fn theta(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(theta) if theta > 0.0 && theta < 1.0 => Ok(theta),
        _ => Err("must lie between 0 and 1, both excluded".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn lengths_of_time_are_written_with_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1.5"), Ok(Duration::from_millis(1_500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        assert!(duration("fast").is_err());
        assert!(duration("-1s").is_err());
    }

    #[test]
    fn ycsb_names_a_mix_and_a_popularity() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' ')).map(|cli| cli.run);
        let d = parse("loadgen --ycsb d").expect("a command line");
        assert_eq!(d.mix(), Mix { get: 95, set: 0, insert: 5, rmw: 0 });
        assert_eq!(d.distribution(), DistributionArg::Latest);
        assert!(parse("loadgen --ycsb e").is_err());
        assert!(parse("loadgen --ycsb a --mix get=1").is_err());
    }

    #[test]
    fn compare_takes_two_sides_and_the_options_of_a_run() {
        let line = "loadgen compare --a [::1]:7000,12 --b h:6379,13 -- --pipeline 16";
        let cli = Cli::try_parse_from(line.split(' ')).expect("a command line");
        let Some(Command::Compare(args)) = cli.command else { panic!("not compare") };
        assert_eq!(args.a, Side { address: "[::1]:7000".to_owned(), pid: 12 });
        assert_eq!(args.load, ["--pipeline", "16"]);
        assert!("h:6379".parse::<Side>().is_err());
    }
}
