//! Kills real nodes, and looks at what the next start finds.

mod client;
mod dice;
mod losses;
mod node;

use std::process::ExitCode;

use clap::Parser;

/// Kill a node under load, again and again: nothing acknowledged may be missing.
#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    losses: losses::Losses,
}

fn main() -> ExitCode {
    match losses::run(&Args::parse().losses) {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("stator-kill: {why}");
            ExitCode::FAILURE
        }
    }
}
