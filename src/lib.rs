//! Stator: the store of the Dynamo paper (SOSP 2007), one deterministic shard a core.

pub mod base;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "engine")]
pub mod config;
#[cfg(feature = "engine")]
pub mod engine;
pub mod protocol;
pub mod sim;
pub mod storage;
