//! Ends real nodes in every way, and looks at what the next start finds: whether anything that was
//! acknowledged is missing, and how long it takes until the node answers.

mod client;
mod dice;
mod losses;
mod node;
mod starts;

use std::process::ExitCode;

use clap::Parser;

/// Kill a node under load, again and again: nothing acknowledged may be missing.
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    other: Option<Other>,
    #[command(flatten)]
    losses: losses::Losses,
}

/// What there is besides.
#[derive(Debug, clap::Subcommand)]
enum Other {
    /// How long a node with many keys takes to start, after each way of ending.
    StartTimes(starts::Starts),
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.other {
        None => losses::run(&args.losses),
        Some(Other::StartTimes(args)) => starts::run(args),
    };
    match result {
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        super::Args::command().debug_assert();
    }
}
