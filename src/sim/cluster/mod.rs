//! A world of many nodes: what clients of a whole cluster may be told.
//!
//! Only the judge is in the house yet. It knows nothing of nodes, so it came first.

pub mod oracle;
