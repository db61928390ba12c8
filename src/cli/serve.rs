//! `stator serve`: one node.

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

use super::CliError;
use super::events;
use super::flags::Flags;
use crate::base::id::ShardId;
use crate::base::limits::SIBLINGS_MAX;
use crate::config::Config;
use crate::config::KEYS;
use crate::config::Loaded;
use crate::config::Sources;
use crate::engine;
use crate::engine::Addresses;
use crate::engine::Engine;
use crate::engine::EngineError;
use crate::engine::Pin;
use crate::engine::data_dir;
use crate::protocol::ring::Partitions;
use crate::protocol::shard;
use crate::protocol::shard::NodeSettings;
use crate::protocol::version::ContextSecret;
use crate::storage;
use crate::storage::layout::Layout;

/// Files that are open besides connections: logs, listeners, rings, maps.
pub(super) const RESERVED_FILES: u64 = 512;

/// How often the node looks whether it is to stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What clients of Redis ask `CONFIG GET` for before they work.
const REDIS_KEYS: [(&str, &str); 4] =
    [("appendonly", "yes"), ("maxmemory", "0"), ("maxmemory-policy", "noeviction"), ("save", "")];

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
    let loaded = load(args)?;
    if args.print_config {
        out.write_all(loaded.config.print().as_bytes())?;
        return Ok(());
    }
    events::start(&loaded.config);
    for variable in &loaded.unknown_variables {
        tracing::warn!(variable, "an environment variable that means nothing");
    }
    serve(&loaded.config, out)
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
    let mut engine = Engine::start(&setup, |addresses| shard_settings(config, addresses))
        .map_err(CliError::failed)?;
    writeln!(out, "ready: {} on {shards} cores, data in {}", config.listen, config.data.display())?;
    out.flush()?;
    tracing::info!(listen = %config.listen, shards, "ready");
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

/// What each shard is told: from the configuration, and from what the data directory is.
fn shard_settings(
    config: &Config,
    addresses: &Addresses,
) -> Result<Vec<shard::Settings>, EngineError> {
    let shards = config.shard_count();
    let failed = |error| EngineError::Directory(config.data.clone(), error);
    let layout = data_dir::open(&config.data, config.partitions, shards).map_err(failed)?;
    if layout.partitions != config.partitions {
        let (found, asked) = (layout.partitions, config.partitions);
        let why = format!("the directory was made for {found} partitions, not {asked}");
        return Err(EngineError::Config(why));
    }
    let node = Arc::new(node_settings(config, addresses, &layout));
    let of_shard = |number: u16| {
        let shard = ShardId::new(number);
        let log = layout.logs[usize::from(number)];
        shard::Settings {
            shard,
            storage: storage::Settings {
                adopted: layout.adopted.clone(),
                owned: layout.owned_by(shard),
                generation: layout.generation,
                resident_bytes_max: config.resident_bytes / u64::from(shards),
                ..config.storage(log)
            },
            node: Arc::clone(&node),
        }
    };
    Ok((0..shards).map(of_shard).collect())
}

fn node_settings(config: &Config, addresses: &Addresses, layout: &Layout) -> NodeSettings {
    let instance: String = layout.instance.iter().map(|byte| format!("{byte:02x}")).collect();
    let secret = match &config.cluster_secret {
        // The same for all nodes of a cluster; another name makes another key of the same secret.
        Some(secret) => {
            blake3::derive_key("stator 2026 tags of contexts", secret.reveal().as_bytes())
        }
        None => layout.context_secret,
    };
    let shown = KEYS.iter().map(|key| (key.name.to_owned(), key.show(config)));
    let shown = shown.chain(REDIS_KEYS.map(|(name, value)| (name.to_owned(), value.to_owned())));
    NodeSettings {
        name: config.name(),
        id: format!("{instance}00000000"),
        process_id: std::process::id(),
        client_address: addresses.shared,
        core_addresses: addresses.cores.clone(),
        partitions: Partitions::new(layout.partitions).expect("the configuration was checked"),
        owners: layout.owners(),
        hash_seed: layout.hash_seed,
        context_secret: ContextSecret::new(secret),
        namespaces: config.namespaces(),
        sessions: Arc::new(config.session()),
        siblings_max: SIBLINGS_MAX,
        memory_bytes_max: config.client_bytes as usize,
        request_timeout: Duration::from_secs(5),
        shown: shown.collect(),
    }
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
