//! The binary: arguments to `cli`, its answer to an exit code; nothing else.

fn main() {}
