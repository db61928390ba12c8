//! Laws of the ring: who holds which place, whatever members come and go.
//!
//! - `laws.rs`: balance, movement, zones, weights, on random clusters and random changes of them.
//! - `figure8.rs`: the paper's Figure 8, each of its 30 marks, and ours above them.

mod figure8;
mod laws;
