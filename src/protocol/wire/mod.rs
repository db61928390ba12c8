//! Bytes ⇄ messages. No sockets, no state but a parser's place in its frame.
//!
//! Those of clients, RESP 2 and 3 and the commands in it:
//!
//! | file | what it knows |
//! |---|---|
//! | `resp` | where a request ends, and which bytes are its arguments |
//! | `ahead` | the keys of requests that came together, before they are read |
//! | `arguments` | those arguments, borrowed from the bytes that came |
//! | `inline` | the words of a command typed by hand |
//! | `command` | what one request asks for, typed |
//! | `options` | the words that follow a command's key |
//! | `table` | every command's name, arity, flags and keys |
//! | `describe` | `COMMAND` and its kin: the table as replies |
//! | `error` | what a client is told that asked wrongly |
//! | `reply` | replies, as bytes |
//! | `number` | integers as Redis reads and writes them |
//! | `glob` | the patterns of `SCAN … MATCH` |
//!
//! And those of other nodes:
//!
//! | file | what it knows |
//! |---|---|
//! | `frame` | where one message ends, and that it is whole and the next one |
//! | `greeting` | the first words of two nodes, by which they become sure of each other |
//! | `key_command` | a command of one key, for whoever holds it |
//! | `peer` | what they say then |
//! | `whole` | whether bytes are one reply and nothing else |

pub mod ahead;
pub mod arguments;
pub mod command;
mod commands;
pub mod describe;
pub mod error;
pub mod frame;
pub mod glob;
pub mod greeting;
mod inline;
pub mod key_command;
pub mod number;
mod options;
pub mod peer;
pub mod reply;
pub mod resp;
pub mod table;
pub mod whole;

/// The version of Redis whose answers these are: `HELLO` and `INFO` tell it, and clients test it.
pub const REDIS_VERSION: &str = "7.0.15";

/// Which of the two forms of the protocol a connection speaks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Protocol {
    /// What a connection speaks until it says `HELLO 3`.
    #[default]
    Resp2,
    /// With maps, sets, nulls, doubles and booleans of their own.
    Resp3,
}
