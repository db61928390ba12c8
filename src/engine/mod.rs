//! The driver for real machines.
mod clock;
mod disk;
mod maps;
mod paths;
#[cfg(test)]
mod scratch;
mod uring;
