//! `stator put KEY VALUE`: stores a value.

use std::ffi::OsString;
use std::io;
use std::io::Read;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use super::CliError;
use super::client::Client;
use super::client::Reply;
use super::client::Target;
use super::show;
use crate::base::limits;

/// Words of `put`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key: any bytes
    key: OsString,
    /// The value: any bytes; `-` reads them from standard input, `--` goes before one with a dash
    value: OsString,
    /// What was seen: its versions are superseded. Without it the value becomes a sibling of
    /// what is there
    #[arg(long, value_name = "TOKEN")]
    context: Option<String>,
    #[command(flatten)]
    target: Target,
}

/// Stores, and shows the new context.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<(), CliError> {
    let value = value(args, &mut io::stdin().lock())?;
    let context = args.context.as_deref().unwrap_or_default().as_bytes();
    let mut client = Client::connect(&args.target.node)?;
    let reply = client.call(&[b"DYN.PUT", args.key.as_bytes(), context, &value])?;
    let Reply::Text(context) = reply else { return Err(client.puzzled(&reply)) };
    if args.target.json {
        writeln!(out, "{}", show::json_context(&context))?;
    } else {
        writeln!(out, "context    {}", show::printable(&context))?;
    }
    Ok(())
}

fn value(args: &Args, input: &mut impl Read) -> Result<Vec<u8>, CliError> {
    if args.value != "-" {
        return Ok(args.value.as_bytes().to_vec());
    }
    let mut value = Vec::new();
    let most = limits::VALUE_BYTES_MAX as u64 + 1;
    let failed = |error| CliError::failed(format!("cannot read standard input: {error}"));
    let read = input.take(most).read_to_end(&mut value).map_err(failed)?;
    if read as u64 == most {
        return Err(CliError::failed("the value is longer than any store takes (64MiB)"));
    }
    Ok(value)
}
