//! The command line: words in, an exit code out. One file a subcommand.
//!
//! # Exit codes
//!
//! | code | meaning |
//! |-----:|---------|
//! | 0 | done |
//! | 1 | refused or failed; one line on standard error says why |
//! | 2 | used wrongly; nothing was tried |
//!
//! What was asked for goes to standard output, everything else to standard error.

mod check;
mod client;
mod del;
mod doctor;
mod events;
mod flags;
mod get;
mod put;
mod serve;
mod show;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::Subcommand;

/// A Dynamo-style key-value store that speaks RESP.
#[derive(Debug, Parser)]
#[command(name = "stator", version, arg_required_else_help = true)]
struct Words {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node
    Serve(Box<serve::Args>),
    /// Show what is stored under a key: its context and its siblings
    Get(get::Args),
    /// Store a value under a key
    Put(put::Args),
    /// Delete a key, or the versions of it that a context has seen
    Del(del::Args),
    /// Verify a data directory that no node is using: every record, every checksum
    Check(check::Args),
    /// Say whether this machine can run a node, and what to change
    Doctor(doctor::Args),
}

/// Does what the words say.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words = match Words::try_parse_from(words) {
        Ok(words) => words,
        Err(error) => {
            // Help is one of these errors; it goes to standard output and is no failure.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    match dispatch(&words.command, &mut io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(CliError::Failed(why)) => {
            let _ = writeln!(io::stderr(), "stator: {}", why.replace('\n', " "));
            ExitCode::FAILURE
        }
        Err(CliError::Told) => ExitCode::FAILURE,
    }
}

fn dispatch(command: &Command, out: &mut impl Write) -> Result<(), CliError> {
    match command {
        Command::Serve(args) => serve::run(args, out),
        Command::Get(args) => get::run(args, out),
        Command::Put(args) => put::run(args, out),
        Command::Del(args) => del::run(args, out),
        Command::Check(args) => check::run(args, out),
        Command::Doctor(args) => doctor::run(args, out),
    }?;
    out.flush()?;
    Ok(())
}

const USAGE: u8 = 2;

/// Why a command ends with exit code 1.
#[derive(Debug)]
enum CliError {
    /// It is said in one line on standard error.
    Failed(String),
    /// It was said already.
    Told,
}

impl CliError {
    fn failed(why: impl fmt::Display) -> Self {
        Self::Failed(why.to_string())
    }
}

impl From<io::Error> for CliError {
    /// Of standard output: everything else that can fail is named where it does.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            // Whoever read it has seen enough.
            return Self::Told;
        }
        Self::Failed(format!("cannot write to standard output: {error}"))
    }
}
