//! How a request of one key may fail, in terms of what the client may do next.
//!
//! Each begins with the word that programs test.

use std::fmt;

/// Why a request was not answered as asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RequestError {
    /// More replicas were asked for than the namespace has. Nothing was done.
    QuorumAboveN {
        /// The option: R, W, PR, PW or DW.
        option: &'static str,
        /// What was asked for.
        asked: u8,
        /// What the namespace has.
        n: u8,
    },
    /// Too few replicas are known to be alive. Nothing was sent, nothing was stored.
    NoQuorum {
        /// Known to be alive.
        had: u8,
        /// How many are needed.
        needed: u8,
    },
    /// Strict was asked for, which this durability cannot give. Nothing was done.
    NotStrict,
    /// The context is none, or another key's, or was altered. Nothing was stored.
    BadContext,
    /// Key, value or object are too long. Nothing was stored.
    TooBig,
    /// So many siblings that one more is refused. Nothing was stored.
    TooManySiblings {
        /// How many may be.
        most: usize,
    },
    /// Too much waits for the disk. Nothing was done; try again in a moment.
    Busy,
    /// This core holds as much for its clients as it may. Nothing was done; reads go on.
    OutOfMemory,
    /// The disk is full. Nothing was stored; reads go on.
    ReadOnlyFull,
    /// The log has no numbers left for records. Nothing was stored; reads go on.
    ReadOnlyNumbers,
    /// A write to the disk failed: this node's log takes nothing until a restart. Nothing was done.
    ReadOnlyPoisoned,
    /// A write to the disk failed while this one was on its way: it may be stored.
    Unknown {
        /// Copies that are known to be stored.
        had: u8,
        /// Copies that were needed.
        needed: u8,
    },
    /// Time ran out. A put may be stored; nothing was answered of a get, which may be repeated.
    TimedOut,
    /// The record is damaged: there was a value, and it cannot be read.
    Damaged,
    /// The node reads its logs. Nothing was done; try again in a moment.
    Starting,
    /// The node stops. Nothing was done.
    Stopping,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::QuorumAboveN { option, asked, n } => {
                write!(f, "ERR {option} {asked} is above N {n} of this key's namespace")
            }
            Self::NoQuorum { had, needed } => {
                write!(f, "NOQUORUM {had}/{needed} replicas of this key are known to be alive")
            }
            Self::NotStrict => f.write_str(
                "NOTSTRICT this key's namespace acknowledges from memory; strict needs durability sync",
            ),
            Self::BadContext => f.write_str(
                "BADCONTEXT this is no context of this key; read one with DYN.GET",
            ),
            Self::TooBig => f.write_str("TOOBIG the object would be longer than it may be"),
            Self::TooManySiblings { most } => write!(
                f,
                "ERR the key has {most} siblings, which is the most; \
                 DYN.GET it and DYN.PUT one value with the context of that"
            ),
            Self::Busy => f.write_str("BUSY too much waits for the disk; try again in a moment"),
            Self::OutOfMemory => f.write_str(
                "OOM this core's memory for clients is used up; reads go on, try again in a moment",
            ),
            Self::ReadOnlyFull => {
                f.write_str("READONLY the disk is full; writes go on when there is room")
            }
            Self::ReadOnlyNumbers => f.write_str(
                "READONLY this core's log has used up its numbers for records; a start with another \
                 number of shards begins new logs",
            ),
            Self::ReadOnlyPoisoned => f.write_str(
                "READONLY a write to the disk failed; this node serves nothing of this log until \
                 it is started again",
            ),
            Self::Unknown { had, needed } => {
                write!(f, "UNKNOWN {had}/{needed} copies are known to be stored; it may be stored")
            }
            Self::TimedOut => f.write_str("TIMEOUT nothing came in time; a write may be stored"),
            Self::Damaged => f.write_str(
                "ERR the record of this key is damaged on this node, and no other has it; \
                 its value is lost, SET stores a new one",
            ),
            Self::Starting => f.write_str("BUSY this node is starting"),
            Self::Stopping => f.write_str("BUSY this node is stopping"),
        }
    }
}

impl std::error::Error for RequestError {}
