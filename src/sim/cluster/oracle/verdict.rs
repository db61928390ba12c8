//! What a run is refused for: the rule, the key, the events, and why.

use std::error::Error;
use std::fmt;

use super::KeyIndex;

/// What must hold.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Rule {
    /// I1: what was acknowledged is there, or something is that may have seen it.
    NothingLost,
    /// I2: what is answered was written.
    NoPhantom,
    /// I3: what is answered together did not see each other.
    NoFalseConflict,
    /// I7: what an acknowledged write saw does not come back.
    NoResurrection,
    /// I8: a session sees what it wrote and what it saw.
    Session,
    /// I9: whoever reads after an acknowledged write sees it.
    Register,
    /// I12: a dot names one write.
    OneDot,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingLost => "I1, no acknowledged write is lost",
            Self::NoPhantom => "I2, nothing is answered that was not written",
            Self::NoFalseConflict => "I3, nothing is answered beside what has seen it",
            Self::NoResurrection => "I7, what is superseded does not come back",
            Self::Session => "I8, a session sees what it wrote and saw",
            Self::Register => "I9, an acknowledged write is seen by whoever reads later",
            Self::OneDot => "I12, one dot names one write",
        })
    }
}

/// A rule that was broken.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// Of which key.
    pub key: KeyIndex,
    /// The numbers of the events that it is about.
    pub events: Vec<u32>,
    /// Why, with all that was known of these events.
    pub why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule, key, events, why } = self;
        write!(f, "{rule}: key {key}, events {events:?}: {why}")
    }
}

impl Error for Violation {}
