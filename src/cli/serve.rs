//! `stator serve`: one node.

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use super::CliError;
use super::events;
use super::flags::Flags;
use crate::config::Config;
use crate::config::Loaded;
use crate::config::LogFormat;
use crate::config::Place;
use crate::config::Sources;
use crate::engine;
use crate::engine::Addresses;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::Pin;
use crate::engine::data_dir;

/// Files that are open besides connections: logs, listeners, rings, maps.
pub(super) const RESERVED_FILES: u64 = 512;

/// How often the node looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Words of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration, in TOML; or set STATOR_CONFIG
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Print the configuration that all this makes, with comments, and end
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    flags: Flags,
}

/// Runs a node until it is told to stop.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<(), CliError> {
    let mut loaded = load(args)?;
    if args.print_config {
        out.write_all(loaded.config.print().as_bytes())?;
        return Ok(());
    }
    events::start(&loaded.config);
    for variable in &loaded.unknown_variables {
        tracing::warn!(variable, "an environment variable that means nothing");
    }
    let fits = engine::memory::resident_bytes_that_fit(loaded.config.resident_bytes);
    loaded.config.resident_bytes = fits;
    match serve(&loaded.config, out) {
        // Whoever reads the log by machine reads its last line so too.
        Err(CliError::Failed(why)) if loaded.config.log == LogFormat::Json => {
            tracing::error!("{why}");
            Err(CliError::Told)
        }
        done => done,
    }
}

/// Runs the node, and returns when it has stopped.
fn serve(config: &Config, out: &mut impl Write) -> Result<(), CliError> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let shards = config.shard_count();
    let setup = engine::Config {
        data_dir: config.data.clone(),
        listen: config.listen,
        core_listen: (0..shards).map(|core| config.core_listen(core)).collect(),
        shards,
        pin: if config.pin { Pin::Spread } else { Pin::None },
        clients_max: config.maxclients as usize,
    };
    let started = Engine::start(&setup, |addresses| {
        let failed = |error| EngineError::Directory(config.data.clone(), error);
        let layout = data_dir::open(&config.data, config.partitions, shards).map_err(failed)?;
        let place = Place {
            layout: &layout,
            client_address: addresses.shared,
            core_addresses: &addresses.cores,
            process_id: std::process::id(),
        };
        config.shards(&place).map_err(|error| EngineError::Config(error.to_string()))
    });
    let mut engine = started.map_err(CliError::failed)?;
    announce(config, &engine, out)?;
    loop {
        if let Some(error) = engine.wait_for_failure(LOOK_EVERY) {
            return Err(CliError::failed(error));
        }
        if signals.pending().next().is_some() {
            tracing::info!("stopping");
            return engine.stop().map_err(CliError::failed);
        }
    }
}

/// One line with every address, when requests are answered.
fn announce(config: &Config, engine: &Engine, out: &mut impl Write) -> Result<(), CliError> {
    let Addresses { shared, cores } = engine.addresses();
    let cores: Vec<String> = cores.iter().map(ToString::to_string).collect();
    let (cores, data) = (cores.join(" "), config.data.display());
    writeln!(out, "ready: clients on {shared}, cores on {cores}, data in {data}")?;
    out.flush()?;
    tracing::info!(name = config.name(), listen = %shared, cores, "ready");
    Ok(())
}

fn load(args: &Args) -> Result<Loaded, CliError> {
    let file = args.config.clone().or_else(|| env::var_os("STATOR_CONFIG").map(PathBuf::from));
    let file = match file {
        Some(path) => {
            let failed = |error| format!("cannot read {}: {error}", path.display());
            let text = fs::read_to_string(&path).map_err(failed).map_err(CliError::failed)?;
            Some((path, text))
        }
        None => None,
    };
    let sources = Sources { file, environment: environment()?, flags: args.flags.0.clone() };
    Config::load(&sources).map_err(CliError::failed)
}

/// The variables that may be ours.
fn environment() -> Result<Vec<(String, String)>, CliError> {
    let mut ours = Vec::new();
    for (name, text) in env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("STATOR_")) else { continue };
        let text = text.into_string();
        // The value is not shown: it may be a secret.
        let text = text.map_err(|_| CliError::failed(format!("{name}: is not UTF-8")))?;
        ours.push((name.to_owned(), text));
    }
    Ok(ours)
}
