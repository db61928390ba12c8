//! Dynamo without I/O: every mechanism of the paper as a machine or a value.
//!
//! Machines take an event and the time, and leave effects in an outbox. They read no clock, open no
//! socket or file and never wait, so that the simulator and the engine run the same code.

// The wall: what touches the world is listed in .clippy.toml and refused from here down.
#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

pub mod coordinator;
pub mod peers;
pub mod replica;
pub mod ring;
pub mod session;
pub mod shard;
pub mod version;
pub mod wire;
