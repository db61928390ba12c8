//! The virtual world: the same machines as on Linux, driven from a seed.
//!
//! Here is everything that goes wrong once a decade on a machine, a thousand times a second: power
//! that goes between two sectors, syncs that fail and then lie, blocks that come back old. Whatever
//! happens is drawn from the seed, so that every failure can be had again.
//!
//! - [`disk`] performs what a log asks for, late, out of order, and not always.
//! - [`network`] carries bytes between nodes, late, in pieces, and not through netsplits.
//! - [`node`] is a node of shards with clients, and judges what these are told.
//! - [`cluster`] is many nodes on a network, and judges what clients of any of them are told.
//! - [`storage`] is a world of one store on one disk, and judges what the store says.
//! - [`trace`] proves that a seed gives the same run each time.
//! - [`events`] are the sets in which the judges think.
//! - [`coverage`] proves that the dangers really came, and `pace` sees to it that each run has some.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

pub mod cluster;
pub mod coverage;
pub mod disk;
pub mod events;
pub mod network;
pub mod node;
mod one_disk;
mod pace;
mod resp;
pub mod storage;
pub mod trace;
