//! Words that every room uses. This room imports nothing.
//!
//! Nothing here touches the world: time and randomness are values that a driver hands in, so that
//! the same run can be had again from the same seed.

#![deny(clippy::disallowed_methods, clippy::disallowed_types, clippy::iter_over_hash_type)]

pub mod aligned;
pub mod checksum;
pub mod codec;
pub mod id;
pub mod limits;
pub mod outbox;
pub mod rng;
pub mod time;
