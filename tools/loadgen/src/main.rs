//! `loadgen`: words in, exit code out. 0 measured, 1 failed, 2 usage.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use stator_loadgen::args::{Cli, Command, RunArgs};
use stator_loadgen::{compare, hostile, plot, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let stop = Arc::new(AtomicBool::new(false));
    match watch_signals(&stop).and_then(|()| act(&cli, &stop)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("loadgen: {why}");
            ExitCode::FAILURE
        }
    }
}

fn act(cli: &Cli, stop: &AtomicBool) -> Result<(), String> {
    let mut out = io::stdout().lock();
    match &cli.command {
        None => single(&cli.run, stop, &mut out),
        Some(Command::Compare(args)) => compare::run(args, stop, &mut out, &mut io::stderr()),
        Some(Command::Hostile(args)) => hostile::run(args, stop, &mut out),
        Some(Command::Plot(args)) => plot::run(args),
    }
}

fn single(args: &RunArgs, stop: &AtomicBool, out: &mut impl Write) -> Result<(), String> {
    let report = run::run(args, stop, &mut io::stderr())?;
    if let Some(path) = &args.json {
        compare::write_json(path, &report, out)?;
    }
    if args.json.as_ref().is_none_or(|path| path.as_os_str() != "-") {
        report.print(out).map_err(|error| error.to_string())?;
    }
    report.failure().map_or(Ok(()), Err)
}

/// The first Ctrl-C (or SIGTERM) ends the run and prints what there is; the second ends at once.
fn watch_signals(stop: &Arc<AtomicBool>) -> Result<(), String> {
    use signal_hook::{consts, flag};
    for signal in [consts::SIGINT, consts::SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, Arc::clone(stop))
            .and_then(|_| flag::register(signal, Arc::clone(stop)))
            .map_err(|error| format!("cannot watch for signal {signal}: {error}"))?;
    }
    Ok(())
}
