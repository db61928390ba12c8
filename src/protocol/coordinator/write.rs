//! What a writing command means in terms of versions.
//!
//! Plain commands are coordinated by a primary and supersede what it sees; the `DYN.` commands
//! supersede what their context saw. Which of the two a command is, what it writes and what its
//! client gets is decided here; the replica does it.

use crate::base::time::Wall;
use crate::protocol::coordinator::read::shown;
use crate::protocol::version::Cause;
use crate::protocol::version::Content;
use crate::protocol::version::Context;
use crate::protocol::version::Object;
use crate::protocol::version::Write;
use crate::protocol::wire::command::ExpiryChange;
use crate::protocol::wire::command::Operation;
use crate::protocol::wire::command::SetExpiry;

/// What the client gets when the write is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Reply<'a> {
    /// `+OK`.
    Ok,
    /// A number.
    Integer(i64),
    /// The value that was there.
    Value(Option<&'a [u8]>),
    /// The context that the put returns.
    Context,
}

/// What a writing command does.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a, 'c> {
    /// Nothing is to be written: the key is not as the command wants it.
    Nothing(Reply<'a>),
    /// This.
    Write(Write<'a, 'c>, Reply<'a>),
}

/// Whether [`change_of`] must be told what is stored.
pub fn needs_present(operation: &Operation<'_>) -> bool {
    match operation {
        Operation::Set { expiry, previous, .. } => *previous || *expiry == SetExpiry::Keep,
        Operation::DynPut(_) | Operation::ExplainPut(_) | Operation::DynDel { .. } => false,
        _ => true,
    }
}

/// Decides what a writing `operation` does. `present` is what is stored, where
/// [`needs_present`]; `context` is the decoded one of a `DYN.` command.
///
/// # Panics
///
/// If the operation only reads: see [`super::answer_from`].
pub fn change_of<'a, 'c>(
    operation: &Operation<'a>,
    present: Option<&Object<'a>>,
    context: &'c Context,
    wall: Wall,
) -> Change<'a, 'c> {
    let shown = present.and_then(|object| shown(object, wall));
    let value = shown.map(|(_, value)| value);
    match operation {
        Operation::Set { value: new, expiry, previous } => {
            let expiry = match expiry {
                SetExpiry::Never => None,
                SetExpiry::Keep => shown.and_then(|(sibling, _)| sibling.expiry),
                SetExpiry::At(at) => Some(*at),
            };
            let reply = if *previous { Reply::Value(value) } else { Reply::Ok };
            Change::Write(set(new, expiry, wall, Cause::Seen), reply)
        }
        Operation::DynPut(put) | Operation::ExplainPut(put) => {
            Change::Write(set(put.value, put.expiry, wall, caused_by(context)), Reply::Context)
        }
        Operation::DynDel { .. } => Change::Write(delete(caused_by(context)), Reply::Context),
        Operation::Delete => match value {
            Some(_) => Change::Write(delete(Cause::Seen), Reply::Integer(1)),
            None => Change::Nothing(Reply::Integer(0)),
        },
        Operation::GetDel => match value {
            Some(_) => Change::Write(delete(Cause::Seen), Reply::Value(value)),
            None => Change::Nothing(Reply::Value(None)),
        },
        Operation::GetEx(change) => match value {
            None => Change::Nothing(Reply::Value(None)),
            Some(present) => {
                let expiry = match change {
                    ExpiryChange::At(at) => Some(*at),
                    ExpiryChange::Remove | ExpiryChange::Leave => None,
                };
                Change::Write(set(present, expiry, wall, Cause::Seen), Reply::Value(value))
            }
        },
        Operation::Expire(at) => match value {
            None => Change::Nothing(Reply::Integer(0)),
            Some(present) => {
                Change::Write(set(present, Some(*at), wall, Cause::Seen), Reply::Integer(1))
            }
        },
        Operation::Persist => match shown {
            Some((sibling, present)) if sibling.expiry.is_some() => {
                Change::Write(set(present, None, wall, Cause::Seen), Reply::Integer(1))
            }
            _ => Change::Nothing(Reply::Integer(0)),
        },
        _ => unreachable!("it reads: {operation:?}"),
    }
}

/// A value, or a tombstone if it would have expired by now.
fn set<'a, 'c>(
    value: &'a [u8],
    expiry: Option<Wall>,
    wall: Wall,
    cause: Cause<'c>,
) -> Write<'a, 'c> {
    match expiry {
        Some(at) if at <= wall => delete(cause),
        _ => Write { content: Content::Value(value), expiry, cause },
    }
}

fn delete<'a, 'c>(cause: Cause<'c>) -> Write<'a, 'c> {
    Write { content: Content::Tombstone, expiry: None, cause }
}

fn caused_by(context: &Context) -> Cause<'_> {
    if context.is_empty() { Cause::Blind } else { Cause::Context(context) }
}
