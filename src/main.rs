//! The binary: arguments to `cli`, its answer to an exit code; nothing else.

use std::process::ExitCode;

fn main() -> ExitCode {
    stator::cli::run(std::env::args_os())
}
