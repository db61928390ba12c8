//! The virtual world: the same machines as on Linux, driven from a seed.
//!
//! Here is everything that goes wrong once a decade on a machine, a thousand times a second: power
//! that goes between two sectors, syncs that fail and then lie, blocks that come back old. Whatever
//! happens is drawn from the seed, so that every failure can be had again.
//!
//! - [`disk`] performs what a log asks for, late, out of order, and not always.
//! - [`network`] carries bytes between nodes, late, in pieces, and not through netsplits.
//! - [`node`] is a node of shards with clients, and judges what these are told.
//! - [`storage`] is a world of one store on one disk, and judges what the store says.
//! - [`trace`] proves that a seed gives the same run each time.
//! - [`coverage`] proves that the dangers really came, and `pace` sees to it that each run has some.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

pub mod coverage;
pub mod disk;
pub mod network;
pub mod node;
mod pace;
pub mod storage;
pub mod trace;
