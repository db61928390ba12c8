//! The driver for real machines.
mod bell;
mod clock;
mod disk;
mod maps;
mod mesh;
mod paths;
#[cfg(test)]
mod scratch;
mod uring;
