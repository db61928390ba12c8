//! What a session asks of whoever executes commands.

use crate::base::id::ConnectionId;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::command::KeyCommand;
use crate::protocol::wire::command::NodeCommand;

/// Names one command that was handed out: what its answer must carry.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RequestId {
    /// Whose it is.
    pub connection: ConnectionId,
    /// Which request of the connection; they count from 0.
    pub sequence: u64,
    /// Which key of it, where a request names several.
    pub part: u16,
}

/// One command to execute. It borrows the client's bytes: what is parked must be copied.
#[derive(Clone, Copy, Debug)]
pub enum Work<'a> {
    /// Of one key. Commands over several are handed out key by key.
    Key(KeyCommand<'a>),
    /// Of the node.
    Node(NodeCommand<'a>),
}

/// Whether a command is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Its one reply was appended.
    Done,
    /// Nothing was appended: [`Session::answer`](super::Session::answer) will bring the reply.
    Parked,
}

/// Executes commands: the hub of a shard.
pub trait Executor {
    /// Executes `work`. Either appends exactly one reply in the form of `protocol` to `reply`, or
    /// parks the command and appends nothing; what `reply` already holds is not its own.
    ///
    /// Commands of one connection come in the order in which its client gave them, and the next may
    /// come before an earlier one is answered. `read_at` is when all of it had been read, from which
    /// its client counts: it may have been held back since.
    fn execute(
        &mut self,
        now: Now,
        read_at: Instant,
        request: RequestId,
        protocol: Protocol,
        work: Work<'_>,
        reply: &mut Vec<u8>,
    ) -> Outcome;

    /// The first requests of `input` are about to be executed: what they will need may be looked for
    /// already. Returns how many bytes of it were looked at.
    fn foresee(&mut self, _input: &[u8]) -> usize {
        0
    }

    /// Appends a line of [`Session::describe`](super::Session::describe) for each connection that
    /// `CLIENT LIST` should show besides the one that asks.
    fn describe_others(&mut self, _now: Now, _asking: ConnectionId, _out: &mut Vec<u8>) {}
}
