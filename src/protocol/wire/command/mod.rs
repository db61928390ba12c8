//! What one request asks for: a client command, parsed and typed, its bytes still borrowed.
//!
//! Commands are sorted by who can answer them: one key's coordinator, the session alone, or the
//! node. Commands over many keys are so many commands over one, and the session splits them.
//!
//! What cannot be right on a register that several nodes accept at once is refused here, each with
//! its reason and the way that is right: see `parse::refusal`.

use std::ops::Range;

use super::arguments::Request;
use crate::base::time::Wall;

mod parse;

pub use parse::identify;
pub(super) use parse::integer;
pub use parse::parse;
pub use parse::parse_as;
pub(super) use parse::word;

/// One client command.
#[derive(Clone, Copy, Debug)]
pub enum Command<'a> {
    /// About one key: its coordinator answers.
    Key(KeyCommand<'a>),
    /// About several keys: so many commands about one, and one answer of all.
    Keys(KeysCommand<'a>),
    /// About this node or its cluster: the node answers.
    Node(NodeCommand<'a>),
    /// About this connection: the session answers.
    Connection(ConnectionCommand<'a>),
}

/// What is asked of one key.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KeyCommand<'a> {
    /// The key: 1 to [`KEY_BYTES_MAX`](crate::base::limits::KEY_BYTES_MAX) bytes.
    pub key: &'a [u8],
    /// What to do with it.
    pub operation: Operation<'a>,
}

/// What can be asked of one key. Each names the reply that it gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation<'a> {
    /// The newest value, or null.
    Get,
    /// Its length as an integer; 0 if there is none.
    StrLen,
    /// Part of it as a bulk string: see [`range_within`]. Empty if there is none.
    GetRange {
        /// The first byte, counted from the end where negative.
        first: i64,
        /// The last byte, included.
        last: i64,
    },
    /// 1 or 0. `TOUCH` is this too: nothing is evicted by age here.
    Exists,
    /// `+string` or `+none`.
    Type,
    /// When it expires as an integer: −2 no key, −1 never, else [`TtlForm::value`].
    Ttl(TtlForm),
    /// `+OK`, or the previous value or null where that is asked for.
    Set {
        /// The new value.
        value: &'a [u8],
        /// When it goes away.
        expiry: SetExpiry,
        /// Whether the answer is the previous value.
        previous: bool,
    },
    /// The newest value or null; it is gone then.
    GetDel,
    /// The newest value or null; its expiry is changed.
    GetEx(ExpiryChange),
    /// 1 if there was a value, else 0.
    Delete,
    /// 1 if there was a value, else 0. A time in the past deletes it.
    Expire(Wall),
    /// 1 if there was a value with an expiry, else 0.
    Persist,
    /// An array: context, array of sibling values.
    DynGet(ReadOptions),
    /// The new context.
    DynPut(Put<'a>),
    /// The new context.
    DynDel {
        /// What its writer saw: a token, or empty.
        context: &'a [u8],
        /// How sure to be.
        options: WriteOptions,
    },
    /// Slot, partition, preference list.
    Owners,
    /// The story of a [`Operation::DynGet`].
    ExplainGet(ReadOptions),
    /// The story of a [`Operation::DynPut`].
    ExplainPut(Put<'a>),
}

impl Operation<'_> {
    /// Whether it may change the key.
    pub fn is_write(&self) -> bool {
        match self {
            Self::Get
            | Self::StrLen
            | Self::GetRange { .. }
            | Self::Exists
            | Self::Type
            | Self::Ttl(_)
            | Self::DynGet(_)
            | Self::Owners
            | Self::ExplainGet(_)
            | Self::GetEx(ExpiryChange::Leave) => false,
            Self::Set { .. }
            | Self::GetDel
            | Self::GetEx(_)
            | Self::Delete
            | Self::Expire(_)
            | Self::Persist
            | Self::DynPut(_)
            | Self::DynDel { .. }
            | Self::ExplainPut(_) => true,
        }
    }
}

/// A value with its causal past.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Put<'a> {
    /// What its writer saw: a token, or empty for a blind write.
    pub context: &'a [u8],
    /// The new value.
    pub value: &'a [u8],
    /// When it goes away, if it does.
    pub expiry: Option<Wall>,
    /// How sure to be.
    pub options: WriteOptions,
}

/// How a read departs from its namespace. Numbers are 1 to 255; whether there are so many
/// replicas only the coordinator knows.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ReadOptions {
    /// Replicas that must answer.
    pub r: Option<u8>,
    /// Of these, primaries.
    pub pr: Option<u8>,
    /// Whether fallbacks do not count.
    pub strict: bool,
    /// Whether all N are asked at once, as in the paper.
    pub fanout_all: bool,
    /// How long the client waits, in milliseconds.
    pub timeout_millis: Option<u32>,
}

/// How a write departs from its namespace. See [`ReadOptions`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct WriteOptions {
    /// Replicas that must acknowledge.
    pub w: Option<u8>,
    /// Of these, primaries.
    pub pw: Option<u8>,
    /// Distinct copies that must be synced.
    pub dw: Option<u8>,
    /// Whether fallbacks do not count.
    pub strict: bool,
    /// How long the client waits, in milliseconds.
    pub timeout_millis: Option<u32>,
}

/// When a set value goes away.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SetExpiry {
    /// Never.
    Never,
    /// When the value before it would have.
    Keep,
    /// At this time, which may have passed.
    At(Wall),
}

/// What becomes of a value's expiry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ExpiryChange {
    /// It stays as it is.
    Leave,
    /// There is none from here on.
    Remove,
    /// This one, which may have passed.
    At(Wall),
}

/// How `TTL` and its kin tell a time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TtlForm {
    /// In milliseconds, not in seconds.
    pub millis: bool,
    /// Since the epoch, not from here on.
    pub absolute: bool,
}

impl TtlForm {
    /// What to answer for a value that goes away at `expiry`. Seconds are rounded as Redis does.
    pub fn value(self, expiry: Wall, now: Wall) -> i64 {
        let base = if self.absolute { 0 } else { now.as_millis() };
        let millis = expiry.as_millis().saturating_sub(base);
        let told = if self.millis { millis } else { millis.saturating_add(500) / 1000 };
        i64::try_from(told).unwrap_or(i64::MAX)
    }
}

/// The bytes of a value of `len` that `GETRANGE` with these ends means.
pub fn range_within(len: usize, first: i64, last: i64) -> Range<usize> {
    if len == 0 || (first < 0 && last < 0 && first > last) {
        return 0..0;
    }
    let len = len as i64;
    let from_start = |at: i64| if at < 0 { at.saturating_add(len).max(0) } else { at };
    let (first, last) = (from_start(first), from_start(last).min(len - 1));
    if first > last { 0..0 } else { first as usize..last as usize + 1 }
}

/// A command over several keys, split with [`KeysCommand::part`].
#[derive(Clone, Copy, Debug)]
pub struct KeysCommand<'a> {
    /// What becomes of the parts' replies.
    pub kind: KeysKind,
    /// The keys, or keys and values in turn.
    arguments: Request<'a>,
}

/// How one answer is made of the answers for each key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeysKind {
    /// `MGET`: an array of them.
    Values,
    /// `MSET`: `+OK` if all are.
    AllSet,
    /// `DEL`, `UNLINK`: their sum.
    Deleted,
    /// `EXISTS`, `TOUCH`: their sum.
    Existing,
}

impl<'a> KeysCommand<'a> {
    /// How many keys it names; a key named twice counts twice.
    pub fn len(&self) -> usize {
        self.arguments.len() / self.step()
    }

    /// Whether it names none, which no parsed command does.
    pub fn is_empty(&self) -> bool {
        self.arguments.is_empty()
    }

    /// The command about its key at `index`.
    ///
    /// # Panics
    ///
    /// If it names fewer keys.
    pub fn part(&self, index: usize) -> KeyCommand<'a> {
        let at = |index| self.arguments.get(index).expect("a part within the command");
        let key = at(index * self.step());
        let operation = match self.kind {
            KeysKind::Values => Operation::Get,
            KeysKind::Deleted => Operation::Delete,
            KeysKind::Existing => Operation::Exists,
            KeysKind::AllSet => {
                let value = at(2 * index + 1);
                Operation::Set { value, expiry: SetExpiry::Never, previous: false }
            }
        };
        KeyCommand { key, operation }
    }

    fn step(&self) -> usize {
        if self.kind == KeysKind::AllSet { 2 } else { 1 }
    }
}

/// What is asked of the node or the cluster.
#[derive(Clone, Copy, Debug)]
pub enum NodeCommand<'a> {
    /// Verbatim text: these sections, or the default ones.
    Info(Request<'a>),
    /// A map of the settings whose names match one of these patterns.
    ConfigGet(Request<'a>),
    /// How many keys there are.
    DbSize,
    /// Some keys, and the cursor to go on with.
    Scan(Scan<'a>),
    /// Slots and who serves them.
    ClusterSlots,
    /// The same by shard.
    ClusterShards,
    /// The same as lines of text.
    ClusterNodes,
    /// The state of the cluster as text.
    ClusterInfo,
    /// This node's name in the cluster.
    ClusterMyId,
    /// The slot of this key, which may be any bytes.
    ClusterKeySlot(&'a [u8]),
    /// How many keys of this slot are here.
    ClusterCountKeysInSlot(u16),
    /// `DYN.RING`.
    Ring,
    /// `DYN.MEMBERS`.
    Members,
    /// `DYN.STATS`: all, or one section.
    Stats(Option<&'a [u8]>),
}

/// One step of a walk over keys.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scan<'a> {
    /// Where the last step stopped; 0 begins.
    pub cursor: u64,
    /// Only keys that match: see [`Glob`](super::glob::Glob), which takes it.
    pub pattern: Option<&'a [u8]>,
    /// How many keys to look at; at least 1.
    pub count: u64,
    /// Only keys of this type; there is none but `string`, in any case.
    pub kind: Option<&'a [u8]>,
    /// The whole keyspace and not only what is first here.
    pub cluster: bool,
}

/// What a connection can be told or asked about itself.
#[derive(Clone, Copy, Debug)]
pub enum ConnectionCommand<'a> {
    /// `+PONG`, or the argument.
    Ping(Option<&'a [u8]>),
    /// The argument.
    Echo(&'a [u8]),
    /// The protocol, with a password and a name if they are given.
    Hello(Hello<'a>),
    /// A password.
    Auth(Credentials<'a>),
    /// `+OK`, then close.
    Quit,
    /// All as it was at the start.
    Reset,
    /// `SELECT 0`.
    Select,
    /// `READONLY` and `READWRITE`: every node answers reads and writes anyway.
    ReadWriteMode,
    /// The connection's number.
    ClientId,
    /// The connection as a line of text.
    ClientInfo,
    /// Those connections as lines of text.
    ClientList(ClientFilter<'a>),
    /// The name that it gave itself.
    ClientGetName,
    /// A name; empty takes it back.
    ClientSetName(&'a [u8]),
    /// What its library is called.
    ClientLibraryName(&'a [u8]),
    /// Which version of it.
    ClientLibraryVersion(&'a [u8]),
    /// Accepted: no client is evicted for memory here.
    ClientNoEvict,
    /// Whether it wants replies.
    ClientReply(ReplyMode),
    /// The whole command table.
    Command,
    /// How long it is.
    CommandCount,
    /// Rows of it; all if none are named.
    CommandInfo(Request<'a>),
    /// What documentation says of these; of all if none are named.
    CommandDocs(Request<'a>),
    /// Seconds and microseconds.
    Time,
}

/// `HELLO`.
#[derive(Clone, Copy, Debug)]
pub struct Hello<'a> {
    /// The protocol from here on.
    pub protocol: Option<super::Protocol>,
    /// Who is there.
    pub auth: Option<Credentials<'a>>,
    /// A name for the connection.
    pub name: Option<&'a [u8]>,
}

/// A password, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// The user, if one was named.
    pub user: Option<&'a [u8]>,
    /// The password.
    pub password: &'a [u8],
}

/// Which connections `CLIENT LIST` lists.
#[derive(Clone, Copy, Debug)]
pub enum ClientFilter<'a> {
    /// All of them.
    All,
    /// None: all are of another type than was asked for.
    None,
    /// Those with one of these numbers, which are numbers.
    Ids(Request<'a>),
}

/// Whether a connection wants replies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReplyMode {
    /// All of them.
    On,
    /// None.
    Off,
    /// All but the next one.
    Skip,
}

#[cfg(test)]
mod tests;
