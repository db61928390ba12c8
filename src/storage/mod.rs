//! The local persistence engine (Dynamo, section 5): one log and one index a shard.

// The wall: what touches the world is listed in .clippy.toml and refused from here down.
#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

pub mod effect;
