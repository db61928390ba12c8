//! The driver for real machines.
mod background;
mod bell;
mod bulk;
mod clock;
mod disk;
mod maps;
mod mesh;
mod paths;
#[cfg(test)]
mod scratch;
mod uring;
