//! `stator get KEY`: what is stored under a key.

use std::ffi::OsString;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;

use super::CliError;
use super::client::Client;
use super::client::Reply;
use super::client::Target;
use super::show;

/// Words of `get`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The key: any bytes
    key: OsString,
    /// Print the bytes of the value and nothing else; refused if there are siblings
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    #[command(flatten)]
    target: Target,
}

/// Shows the context and all siblings. A key without a value is a failure, as with `grep`: a script
/// can ask.
pub(super) fn run(args: &Args, out: &mut impl Write) -> Result<(), CliError> {
    let mut client = Client::connect(&args.target.node)?;
    let reply = client.call(&[b"DYN.GET", args.key.as_bytes()])?;
    let (context, siblings) = unpack(&reply).ok_or_else(|| client.puzzled(&reply))?;
    let key = || show::printable(args.key.as_bytes());
    if args.target.json {
        // Also without a value: its context covers the deletion.
        writeln!(out, "{}", show::json(&context, &siblings))?;
    }
    match siblings.as_slice() {
        [] => Err(CliError::failed(format!("{} has no value", key()))),
        _ if args.target.json => Ok(()),
        [value] if args.raw => Ok(out.write_all(value)?),
        [_, ..] if args.raw => {
            Err(CliError::failed(format!("{} has {} siblings", key(), siblings.len())))
        }
        _ => Ok(show::table(out, &context, &siblings)?),
    }
}

fn unpack(reply: &Reply) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Reply::List(parts) = reply else { return None };
    let [Reply::Text(context), Reply::List(siblings)] = parts.as_slice() else { return None };
    let values = siblings.iter().map(|sibling| match sibling {
        Reply::Text(value) => Some(value.clone()),
        _ => None,
    });
    Some((context.clone(), values.collect::<Option<_>>()?))
}
