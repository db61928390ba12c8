//! The driver for real machines: one pinned thread a core, and one in the background.
//!
//! It owns what the shards may not touch (clocks, sockets, files, other threads), tells them what
//! happened and does what they ask for. The simulator does the same from a seed.
//!
//! | file | what it knows |
//! |---|---|
//! | `shard_loop`, `hands` | a turn: events in, effects performed |
//! | `uring` | the kernel's ring; nearly all `unsafe` of the house |
//! | `listener`, `connection` | clients |
//! | `fairness` | which of them is served next, and for how long |
//! | `disk`, `maps` | what a shard's log waits for |
//! | `background`, `bulk` | what it does not wait for, by glommio |
//! | `mesh`, `bell` | the other cores |
//! | `data_dir` | the table of logs, and its switch to other cores |
//! | `memory` | how much of it this process may have |
//! | `machine` | limits and cores of this machine, the lock of the directory |

mod background;
mod bell;
mod bulk;
mod clock;
mod connection;
mod counters;
pub mod data_dir;
mod disk;
mod fairness;
mod hands;
mod listener;
mod machine;
mod maps;
pub mod memory;
mod mesh;
mod paths;
#[cfg(test)]
mod scratch;
mod shard_loop;
#[cfg(test)]
mod tests;
mod uring;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use std::time::Instant;

pub use crate::engine::counters::Counters;

use crate::base::id::LogId;
use crate::base::id::ShardId;
use crate::engine::background::Background;
use crate::engine::bell::Bell;
use crate::engine::clock::Clock;
use crate::engine::connection::Limit;
use crate::engine::counters::Gauges;
use crate::engine::hands::News;
use crate::engine::hands::Parts;
use crate::engine::machine::DirectoryLock;
use crate::engine::mesh::Exchange;
use crate::engine::mesh::Mesh;
use crate::engine::paths::Paths;
use crate::engine::shard_loop::Control;
use crate::engine::shard_loop::Machine;
use crate::engine::shard_loop::Setup;
use crate::engine::shard_loop::ShardLoop;
use crate::engine::shard_loop::Wish;
use crate::engine::uring::Uring;
use crate::protocol::shard::Door;
use crate::protocol::shard::Settings;
use crate::protocol::shard::Shard;
use crate::storage::recovery::StartError;

/// An answer of another core comes within this time if that core is awake. To be woken takes about
/// as long.
const SPIN: crate::base::time::Duration = crate::base::time::Duration::from_micros(30);

/// A clean stop may take so long.
const STOP_FOR: Duration = Duration::from_secs(30);

/// How an engine is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything that the node keeps is in this directory. It is made if it is not there.
    pub data_dir: PathBuf,
    /// The port that all cores share. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// A port for each shard alone; empty for none.
    pub core_listen: Vec<SocketAddr>,
    /// How many shards there are.
    pub shards: u16,
    /// Which core each shard's thread keeps to.
    pub pin: Pin,
    /// Clients beyond this are turned away. Lowered to what the process may open.
    pub clients_max: usize,
}

/// Which core each shard's thread keeps to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Pin {
    /// The kernel moves them as it likes.
    None,
    /// The first of the process's cores, if it has as many as there are shards.
    Spread,
    /// One core a shard.
    To(Vec<usize>),
}

/// Where clients connect, as it turned out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Addresses {
    /// The port that all cores share.
    pub shared: SocketAddr,
    /// The port of each core.
    pub cores: Vec<SocketAddr>,
}

/// Why an engine does not run. Each is one line that says what to change.
#[derive(Debug)]
pub enum EngineError {
    /// The configuration contradicts itself.
    Config(String),
    /// The data directory cannot be used.
    Directory(PathBuf, io::Error),
    /// Another process uses the data directory.
    Locked(PathBuf),
    /// The port cannot be opened.
    Listen(SocketAddr, io::Error),
    /// The machine refuses what the engine needs.
    Machine(String),
    /// The log of a shard cannot be started.
    Start(ShardId, StartError),
    /// The thread of a shard ended without being told to.
    Died(ShardId, String),
    /// The shards did not stop in time: what was acknowledged is safe, the next start is slower.
    Stop(Vec<ShardId>),
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(why) | Self::Machine(why) => f.write_str(why),
            Self::Directory(path, error) => write!(f, "{}: {error}", path.display()),
            Self::Locked(path) => {
                write!(f, "{} is in use by another process: stop that one first", path.display())
            }
            Self::Listen(address, error) => write!(f, "cannot listen on {address}: {error}"),
            Self::Start(shard, StartError::Disk(failure)) => {
                write!(f, "shard {shard}: its log cannot be read ({failure:?})")
            }
            Self::Start(shard, StartError::NoManifest(log)) => {
                write!(f, "shard {shard}: {log} has segments and no good manifest: restore it")
            }
            Self::Start(shard, StartError::OtherPartitions { found, asked }) => write!(
                f,
                "shard {shard}: the directory was made for {found} partitions, not {asked}"
            ),
            Self::Died(shard, why) => write!(f, "shard {shard} ended: {why}"),
            Self::Stop(shards) => write!(f, "not stopped in time: {shards:?}"),
        }
    }
}

impl std::error::Error for EngineError {}

/// What the thread of a shard tells the engine.
#[derive(Debug)]
enum Report {
    Started,
    Failed(ShardId, StartError),
    Released(ShardId, LogId),
    Stopped(ShardId),
    Died(ShardId, String),
}

/// A running node. Dropped without [`Engine::stop`], it ends as a killed process does.
#[derive(Debug)]
pub struct Engine {
    addresses: Addresses,
    bells: Vec<Arc<Bell>>,
    controls: Vec<Arc<Control>>,
    gauges: Vec<Arc<Gauges>>,
    reports: flume::Receiver<Report>,
    threads: Vec<JoinHandle<()>>,
    background: Option<Background>,
    data_dir: PathBuf,
    released: BTreeMap<LogId, BTreeSet<ShardId>>,
    _lock: DirectoryLock,
}

impl Engine {
    /// Where clients connect.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What was done so far, by shard.
    pub fn counters(&self) -> Vec<Counters> {
        self.gauges.iter().map(|gauges| gauges.read()).collect()
    }

    /// Waits until something fails, but not longer than this. Removes adopted logs that no shard
    /// needs any more, as they are told.
    pub fn wait_for_failure(&mut self, timeout: Duration) -> Option<EngineError> {
        match self.reports.recv_timeout(timeout) {
            Ok(Report::Released(shard, log)) => {
                self.released(shard, log);
                None
            }
            Ok(Report::Died(shard, why)) => Some(EngineError::Died(shard, why)),
            Ok(Report::Stopped(shard)) => {
                Some(EngineError::Died(shard, "it stopped by itself".to_owned()))
            }
            _ => None,
        }
    }

    /// Starts a node, and returns when all its shards answer requests. `settings` is called once,
    /// when the ports are open and the directory is locked, and gives the settings of each shard in
    /// order.
    ///
    /// # Errors
    ///
    /// [`EngineError`]; nothing is left running.
    pub fn start(
        config: &Config,
        settings: impl FnOnce(&Addresses) -> Result<Vec<Settings>, EngineError>,
    ) -> Result<Self, EngineError> {
        Self::start_machines(config, |addresses| {
            let settings = settings(addresses)?;
            assert_eq!(settings.len(), usize::from(config.shards), "settings for each shard");
            Ok(move |shard: ShardId, entropy| {
                Shard::new(settings[usize::from(shard.to_raw())].clone(), entropy)
            })
        })
    }

    fn start_machines<M: Machine, F: Fn(ShardId, u64) -> M + Send + Sync + 'static>(
        config: &Config,
        make: impl FnOnce(&Addresses) -> Result<F, EngineError>,
    ) -> Result<Self, EngineError> {
        check(config)?;
        let lock = machine::prepare_directory(&config.data_dir)?;
        let clients_max = machine::raise_limits(config.clients_max, config.shards)?;
        let cores = machine::cores(&config.pin, config.shards)?;
        let shared = bind_shared(config)?;
        let address =
            shared[0].local_addr().map_err(|error| EngineError::Listen(config.listen, error))?;
        let (core_sockets, cores_at) = bind_cores(config)?;
        let addresses = Addresses { shared: address, cores: cores_at };
        let make = make(&addresses)?;

        let no_descriptor = |error: io::Error| EngineError::Machine(format!("no eventfd: {error}"));
        let bells: Vec<Arc<Bell>> = (0..config.shards)
            .map(|_| Bell::new().map(Arc::new))
            .collect::<io::Result<_>>()
            .map_err(no_descriptor)?;
        let paths = Paths::new(&config.data_dir);
        let background = Background::start(paths.clone(), &bells)
            .map_err(|error| EngineError::Machine(format!("no background lane: {error}")))?;
        let (report, reports) = flume::unbounded();
        let mut engine = Self {
            addresses,
            bells: bells.clone(),
            controls: bells.iter().map(|_| Arc::default()).collect(),
            gauges: bells.iter().map(|_| Arc::default()).collect(),
            reports,
            threads: Vec::new(),
            background: None,
            data_dir: config.data_dir.clone(),
            released: BTreeMap::new(),
            _lock: lock,
        };
        let common = Arc::new(Common {
            clock: Clock::start(),
            exchange: Arc::new(Exchange::new(bells)),
            limit: Arc::new(Limit::new(clients_max)),
            paths,
            spin: if machine::spare_cores(config.shards) { SPIN } else { Duration::ZERO },
            make,
        });
        for (number, shared) in shared.into_iter().enumerate() {
            let shard = ShardId::new(number as u16);
            let mut sockets = vec![(Door::Shared, shared)];
            if let Some(own) = core_sockets.get(number) {
                let own = own
                    .try_clone()
                    .map_err(|error| EngineError::Listen(engine.addresses.cores[number], error))?;
                sockets.push((Door::Core, own));
            }
            let plan = Plan {
                shard,
                core: cores[number],
                sockets,
                lane: background.lane(shard),
                control: engine.controls[number].clone(),
                gauges: engine.gauges[number].clone(),
                report: report.clone(),
            };
            let common = common.clone();
            let thread = std::thread::Builder::new()
                .name(format!("stator-{shard}"))
                .spawn(move || run_shard(&common, plan))
                .map_err(|error| EngineError::Machine(format!("no thread: {error}")))?;
            engine.threads.push(thread);
        }
        engine.background = Some(background);
        engine.await_start()?;
        engine.wish(Wish::Serve);
        Ok(engine)
    }

    /// A shard needs nothing of an adopted log any more. When that is true of all, it goes. The
    /// shards keep it in their tables until the next start: it costs them nothing.
    /// If that fails it is in nobody's way: the next start tries again as long as the table names it;
    /// a directory that the table names no more stays until somebody removes it.
    fn released(&mut self, shard: ShardId, log: LogId) {
        let shards = self.released.entry(log).or_default();
        shards.insert(shard);
        if shards.len() < self.bells.len() {
            return;
        }
        match data_dir::remove_log(&self.data_dir, log) {
            // Its space is free when the last shard has closed its files.
            Ok(()) => {
                self.controls.iter().for_each(|control| control.log_removed(log));
                self.bells.iter().for_each(|bell| bell.strike());
            }
            Err(error) => tracing::warn!("{log} is not needed any more, and stays: {error}"),
        }
    }

    fn await_start(&mut self) -> Result<(), EngineError> {
        let mut started = 0;
        while started < self.threads.len() {
            match self.reports.recv().expect("every thread reports before it ends") {
                Report::Started => started += 1,
                Report::Released(shard, log) => self.released(shard, log),
                Report::Failed(shard, error) => return Err(EngineError::Start(shard, error)),
                Report::Stopped(shard) => {
                    return Err(EngineError::Died(shard, "it stopped at its start".to_owned()));
                }
                Report::Died(shard, why) => return Err(EngineError::Died(shard, why)),
            }
        }
        Ok(())
    }

    /// Finishes what is at hand, writes everything, ends.
    ///
    /// # Errors
    ///
    /// [`EngineError::Stop`] or [`EngineError::Died`]; everything has ended even then.
    pub fn stop(mut self) -> Result<(), EngineError> {
        self.wish(Wish::Stop);
        let until = Instant::now() + STOP_FOR;
        let mut left: Vec<ShardId> =
            (0..self.threads.len()).map(|number| ShardId::new(number as u16)).collect();
        let mut died = None;
        while !left.is_empty() {
            match self.reports.recv_deadline(until) {
                Ok(Report::Stopped(shard)) => left.retain(|other| *other != shard),
                Ok(Report::Died(shard, why)) => {
                    left.retain(|other| *other != shard);
                    died = Some(EngineError::Died(shard, why));
                }
                Ok(Report::Released(shard, log)) => self.released(shard, log),
                Ok(Report::Started | Report::Failed(..)) => {}
                Err(_) => break,
            }
        }
        self.end();
        match died {
            Some(error) => Err(error),
            None if left.is_empty() => Ok(()),
            None => Err(EngineError::Stop(left)),
        }
    }

    fn wish(&self, wish: Wish) {
        self.controls.iter().for_each(|control| control.wish(wish));
        self.bells.iter().for_each(|bell| bell.strike());
    }

    /// Ends all threads, whatever they do.
    fn end(&mut self) {
        self.wish(Wish::Die);
        for thread in self.threads.drain(..) {
            // Its panic was reported when it happened.
            let _ = thread.join();
        }
        if let Some(background) = self.background.take() {
            background.stop();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}

fn check(config: &Config) -> Result<(), EngineError> {
    let cores = config.core_listen.len();
    if config.shards == 0 {
        return Err(EngineError::Config("a node needs at least one shard".to_owned()));
    }
    if cores != 0 && cores != usize::from(config.shards) {
        let shards = config.shards;
        let why = format!("{cores} ports of cores for {shards} shards: give one each, or none");
        return Err(EngineError::Config(why));
    }
    if config.clients_max == 0 {
        return Err(EngineError::Config("maxclients must be at least 1".to_owned()));
    }
    Ok(())
}

fn bind_shared(config: &Config) -> Result<Vec<TcpListener>, EngineError> {
    listener::bind_shared(config.listen, usize::from(config.shards))
        .map_err(|error| EngineError::Listen(config.listen, error))
}

fn bind_cores(config: &Config) -> Result<(Vec<TcpListener>, Vec<SocketAddr>), EngineError> {
    let mut sockets = Vec::new();
    let mut addresses = Vec::new();
    for address in &config.core_listen {
        let bound = listener::bind(*address).and_then(|socket| {
            let address = socket.local_addr()?;
            Ok((socket, address))
        });
        let (socket, bound) = bound.map_err(|error| EngineError::Listen(*address, error))?;
        sockets.push(socket);
        addresses.push(bound);
    }
    Ok((sockets, addresses))
}

/// What all shards' threads share.
struct Common<F> {
    clock: Clock,
    exchange: Arc<Exchange>,
    limit: Arc<Limit>,
    paths: Paths,
    spin: Duration,
    make: F,
}

/// What one shard's thread gets.
struct Plan {
    shard: ShardId,
    core: Option<usize>,
    sockets: Vec<(Door, TcpListener)>,
    lane: background::Lane,
    control: Arc<Control>,
    gauges: Arc<Gauges>,
    report: flume::Sender<Report>,
}

/// Tells of the end of a thread, however it ends.
struct Obituary {
    shard: ShardId,
    report: flume::Sender<Report>,
    why: Option<String>,
}

impl Drop for Obituary {
    fn drop(&mut self) {
        if let Some(why) = self.why.take() {
            let _ = self.report.send(Report::Died(self.shard, why));
        }
    }
}

fn run_shard<M: Machine, F: Fn(ShardId, u64) -> M>(common: &Common<F>, plan: Plan) {
    let Plan { shard, report, .. } = plan;
    let why = Some("it panicked".to_owned());
    let mut obituary = Obituary { shard, report: report.clone(), why };
    if let Some(core) = plan.core {
        machine::pin_to(core);
    }
    let ring = match Uring::new(uring::Settings::default()) {
        Ok(ring) => ring,
        Err(error) => {
            obituary.why = Some(error.to_string());
            return;
        }
    };
    let tell = move |news| {
        // Nobody listens when the engine is being dropped.
        let _ = report.send(match news {
            News::Started => Report::Started,
            News::Failed(error) => Report::Failed(shard, error),
            News::Released(log) => Report::Released(shard, log),
            News::Stopped => Report::Stopped(shard),
        });
    };
    let parts = Parts {
        shard,
        paths: common.paths.clone(),
        lane: plan.lane,
        mesh: Mesh::new(shard, common.exchange.clone(), common.spin),
        limit: common.limit.clone(),
        sockets: plan.sockets,
    };
    let setup = Setup {
        clock: common.clock,
        machine: (common.make)(shard, machine::entropy()),
        ring,
        parts,
        control: plan.control,
        gauges: plan.gauges,
        tell: Box::new(tell),
    };
    obituary.why = ShardLoop::new(setup).run().err().map(|error| {
        tracing::error!("{shard}: the ring failed: {error}");
        format!("its ring failed: {error}")
    });
}
