//! `stator serve`: one node.

use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;

use super::CliError;
use super::events;
use super::flags::Flags;
use crate::config::Config;
use crate::config::Loaded;
use crate::config::Sources;

/// Files that are open besides connections: logs, listeners, rings, maps.
pub(super) const RESERVED_FILES: u64 = 512;

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
    Err(CliError::failed("this build has no engine"))
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
