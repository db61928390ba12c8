//! `stator del KEY`: deletes a key, or what a context has seen of it.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use serde_json::json;

use super::CliError;
use super::client::Client;
use super::client::Reply;
use super::client::Target;
use super::show;

/// Words of `del`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key: any bytes
    key: OsString,
    /// What was seen: its versions go, others stay. Without it everything goes that the node sees
    #[arg(long, value_name = "TOKEN")]
    context: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Deletes. A key that is not there is as good as deleted.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<(), CliError> {
    let mut client = Client::connect(&args.target.node)?;
    let key = args.key.as_bytes();
    let reply = match &args.context {
        Some(context) => client.call(&[b"DYN.DEL", key, context.as_bytes()])?,
        None => client.call(&[b"DEL", key])?,
    };
    match &reply {
        Reply::Text(context) if args.target.json => {
            writeln!(out, "{}", show::json_context(context))?;
        }
        Reply::Text(context) => writeln!(out, "context    {}", show::printable(context))?,
        Reply::Integer(deleted) if args.target.json => {
            writeln!(out, "{}", json!({ "deleted": deleted }))?;
        }
        Reply::Integer(0) => writeln!(out, "it was not there")?,
        Reply::Integer(_) => writeln!(out, "deleted")?,
        _ => return Err(client.puzzled(&reply)),
    }
    Ok(())
}
