//! Versions against an oracle that cannot be wrong: explicit sets of events.
//!
//! `histories.rs` compares random lives of one key with the oracle after every step; `traces.rs`
//! holds the shortest histories by which each simpler scheme loses an acknowledged write or brings
//! a superseded one back. Both use one [`world::World`], which checks as it goes.

mod histories;
mod traces;
mod world;
