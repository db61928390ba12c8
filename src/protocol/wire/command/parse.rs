//! From the words of a request to the command that they are.
//!
//! The table says how many words a command has; here is what they mean.

use super::Command;
use super::ConnectionCommand;
use super::KeyCommand;
use super::KeysCommand;
use super::KeysKind;
use super::NodeCommand;
use super::Operation;
use super::SetExpiry;
use super::TtlForm;
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::limits::SLOTS;
use crate::base::time::Wall;
use crate::protocol::wire::arguments::Request;
use crate::protocol::wire::error::CommandError;
use crate::protocol::wire::number;
use crate::protocol::wire::options;
use crate::protocol::wire::table;
use crate::protocol::wire::table::Name;
use crate::protocol::wire::table::Spec;

/// Which command a request is, and that it has so many arguments. Nothing else is looked at: this
/// much a client may hear before it has said its password.
#[inline]
pub fn identify(request: Request<'_>) -> Result<Name, CommandError<'_>> {
    let Some(name) = table::lookup(request.get(0).unwrap_or_default()) else {
        return Err(unknown(request));
    };
    let spec = name.spec();
    if !spec.takes(request.len()) {
        return Err(CommandError::Arity(spec));
    }
    Ok(name)
}

/// The command that a request is. `wall` turns spans of time into times.
pub fn parse(request: Request<'_>, wall: Wall) -> Result<Command<'_>, CommandError<'_>> {
    let name = identify(request)?;
    parse_as(name, request, wall)
}

/// The command that a request is, whose name and arity [`identify`] has found.
#[inline]
pub fn parse_as(
    name: Name,
    request: Request<'_>,
    wall: Wall,
) -> Result<Command<'_>, CommandError<'_>> {
    match name {
        Name::Get => of_key(request, Operation::Get),
        Name::Set => of_key(request, options::set(request, wall)?),
        Name::SetEx => of_key(request, options::set_ex(request, options::Unit::Seconds, wall)?),
        Name::PSetEx => of_key(request, options::set_ex(request, options::Unit::Millis, wall)?),
        Name::GetSet => of_key(
            request,
            Operation::Set { value: word(request, 2), expiry: SetExpiry::Never, previous: true },
        ),
        Name::GetDel => of_key(request, Operation::GetDel),
        Name::GetEx => of_key(request, options::get_ex(request, wall)?),
        Name::StrLen => of_key(request, Operation::StrLen),
        Name::GetRange => {
            let [first, last] = [integer(word(request, 2))?, integer(word(request, 3))?];
            of_key(request, Operation::GetRange { first, last })
        }
        Name::Type => of_key(request, Operation::Type),
        Name::Expire | Name::PExpire | Name::ExpireAt | Name::PExpireAt => {
            of_key(request, Operation::Expire(options::expire(name, request, wall)?))
        }
        Name::Ttl => of_key(request, ttl(false, false)),
        Name::PTtl => of_key(request, ttl(true, false)),
        Name::ExpireTime => of_key(request, ttl(false, true)),
        Name::PExpireTime => of_key(request, ttl(true, true)),
        Name::Persist => of_key(request, Operation::Persist),
        Name::MGet => of_keys(request, KeysKind::Values),
        Name::MSet if request.len().is_multiple_of(2) => Err(CommandError::Arity(name.spec())),
        Name::MSet => of_keys(request, KeysKind::AllSet),
        Name::Del | Name::Unlink => of_keys(request, KeysKind::Deleted),
        Name::Exists | Name::Touch => of_keys(request, KeysKind::Existing),
        Name::DynGet => of_key(request, Operation::DynGet(options::read(request.from(2))?)),
        Name::DynPut => of_key(request, Operation::DynPut(options::put(request.from(2), wall)?)),
        Name::DynDel => {
            let options = options::delete(request.from(3))?;
            of_key(request, Operation::DynDel { context: word(request, 2), options })
        }
        Name::DynOwners => of_key(request, Operation::Owners),
        Name::DynExplain => explain(request, wall),
        Name::DbSize => Ok(Command::Node(NodeCommand::DbSize)),
        Name::Scan => Ok(Command::Node(NodeCommand::Scan(options::scan(request)?))),
        Name::Info => Ok(Command::Node(NodeCommand::Info(request.from(1)))),
        Name::Config => config(request),
        Name::Cluster => cluster(request),
        Name::DynRing => Ok(Command::Node(NodeCommand::Ring)),
        Name::DynMembers => Ok(Command::Node(NodeCommand::Members)),
        Name::DynStats if request.len() > 2 => Err(CommandError::Arity(name.spec())),
        Name::DynStats => Ok(Command::Node(NodeCommand::Stats(request.get(1)))),
        Name::Ping if request.len() > 2 => Err(CommandError::Arity(name.spec())),
        Name::Ping => Ok(Command::Connection(ConnectionCommand::Ping(request.get(1)))),
        Name::Echo => Ok(Command::Connection(ConnectionCommand::Echo(word(request, 1)))),
        Name::Hello => Ok(Command::Connection(ConnectionCommand::Hello(options::hello(request)?))),
        Name::Auth => Ok(Command::Connection(ConnectionCommand::Auth(options::auth(request)?))),
        Name::Quit => Ok(Command::Connection(ConnectionCommand::Quit)),
        Name::Reset => Ok(Command::Connection(ConnectionCommand::Reset)),
        Name::Select => select(request),
        Name::Client => client(request),
        Name::Command => command(request),
        Name::Time => Ok(Command::Connection(ConnectionCommand::Time)),
        Name::ReadOnly | Name::ReadWrite => {
            Ok(Command::Connection(ConnectionCommand::ReadWriteMode))
        }
    }
}

/// Why a known command of Redis is not offered, given its name in lower case, and what to use.
///
/// All of them decide by what is stored, and would have to be alone in deciding.
fn refusal(lower: &[u8]) -> Option<&'static str> {
    Some(match lower {
        b"setnx" | b"msetnx" => {
            "two nodes may both find a key free, so a conditional set would lose one of two writes; \
             use DYN.GET and DYN.PUT with its context, which keeps both as siblings"
        }
        b"incr" | b"incrby" | b"incrbyfloat" | b"decr" | b"decrby" => {
            "two nodes may count from the same value at once, so counting would lose updates; \
             use DYN.GET and DYN.PUT with its context, and add up the siblings"
        }
        b"append" | b"setrange" | b"setbit" => {
            "two nodes may change the same value at once, so changing a part would lose the other; \
             use DYN.GET and DYN.PUT with its context, and merge the siblings"
        }
        b"multi" | b"exec" | b"discard" | b"watch" | b"unwatch" => {
            "there are no transactions across keys; use a pipeline for speed, and DYN.GET and \
             DYN.PUT with its context for one key that others change too"
        }
        b"eval" | b"evalsha" | b"eval_ro" | b"evalsha_ro" | b"fcall" | b"fcall_ro" | b"script"
        | b"function" => {
            "there is no scripting, as no node could run a script alone; use DYN.GET and DYN.PUT \
             with its context, and compute in the client"
        }
        b"rename" | b"renamenx" | b"copy" | b"move" => {
            "two keys cannot change at once, as they live on different nodes; use DYN.GET, DYN.PUT \
             of the new key and DYN.DEL of the old one"
        }
        b"keys" => "KEYS would stop everything else for its time; use SCAN",
        b"flushall" | b"flushdb" => {
            "no node can say that all others forget at the same moment; use SCAN and DEL"
        }
        _ => return None,
    })
}

fn unknown(request: Request<'_>) -> CommandError<'_> {
    let mut buffer = [0; table::NAME_BYTES_MAX];
    request
        .get(0)
        .and_then(|name| table::lower_case(name, &mut buffer))
        .and_then(|lower| refusal(lower))
        .map_or(CommandError::Unknown(request), CommandError::Refused)
}

#[inline]
fn of_key<'a>(
    request: Request<'a>,
    operation: Operation<'a>,
) -> Result<Command<'a>, CommandError<'a>> {
    let key = key(word(request, 1))?;
    Ok(Command::Key(KeyCommand { key, operation }))
}

/// Every key is looked at before any part is done.
fn of_keys(request: Request<'_>, kind: KeysKind) -> Result<Command<'_>, CommandError<'_>> {
    let keys = KeysCommand { kind, arguments: request.from(1) };
    for argument in keys.arguments.iter().step_by(keys.step()) {
        key(argument)?;
    }
    // One key's integer or +OK is the sum of it, and needs no collecting. An array of one does.
    if keys.len() == 1 && kind != KeysKind::Values {
        return Ok(Command::Key(keys.part(0)));
    }
    Ok(Command::Keys(keys))
}

#[inline]
fn key(bytes: &[u8]) -> Result<&[u8], CommandError<'_>> {
    match bytes.len() {
        1..=KEY_BYTES_MAX => Ok(bytes),
        0 => Err(CommandError::EmptyKey),
        found => Err(CommandError::KeyTooBig { found }),
    }
}

fn ttl(millis: bool, absolute: bool) -> Operation<'static> {
    Operation::Ttl(TtlForm { millis, absolute })
}

/// `DYN.EXPLAIN GET key …` or `DYN.EXPLAIN PUT key context value …`.
fn explain(request: Request<'_>, wall: Wall) -> Result<Command<'_>, CommandError<'_>> {
    let of = word(request, 1);
    let inner = request.from(1);
    if of.eq_ignore_ascii_case(b"get") {
        of_key(inner, Operation::ExplainGet(options::read(inner.from(2))?))
    } else if of.eq_ignore_ascii_case(b"put") {
        if inner.len() < 4 {
            return Err(CommandError::Arity(Name::DynExplain.spec()));
        }
        of_key(inner, Operation::ExplainPut(options::put(inner.from(2), wall)?))
    } else {
        Err(CommandError::Text("ERR syntax error: DYN.EXPLAIN takes GET or PUT"))
    }
}

fn config(request: Request<'_>) -> Result<Command<'_>, CommandError<'_>> {
    for name in [&b"SET"[..], b"REWRITE", b"RESETSTAT"] {
        if name.eq_ignore_ascii_case(word(request, 1)) {
            return Err(CommandError::Refused(
                "CONFIG only tells the settings; use the configuration file and a restart",
            ));
        }
    }
    // There is but one: finding it is deciding it.
    subcommand(Name::Config.spec(), request)?;
    Ok(Command::Node(NodeCommand::ConfigGet(request.from(2))))
}

fn cluster(request: Request<'_>) -> Result<Command<'_>, CommandError<'_>> {
    let spec = subcommand(Name::Cluster.spec(), request)?;
    Ok(Command::Node(match spec.name {
        b"cluster|slots" => NodeCommand::ClusterSlots,
        b"cluster|shards" => NodeCommand::ClusterShards,
        b"cluster|nodes" => NodeCommand::ClusterNodes,
        b"cluster|info" => NodeCommand::ClusterInfo,
        b"cluster|myid" => NodeCommand::ClusterMyId,
        b"cluster|keyslot" => NodeCommand::ClusterKeySlot(word(request, 2)),
        b"cluster|countkeysinslot" => {
            let slot = u16::try_from(integer(word(request, 2))?).ok();
            let slot = slot.filter(|&slot| usize::from(slot) < SLOTS);
            let slot = slot.ok_or(CommandError::Text("ERR Invalid slot"))?;
            NodeCommand::ClusterCountKeysInSlot(slot)
        }
        _ => unreachable!("a subcommand without a meaning"),
    }))
}

fn client(request: Request<'_>) -> Result<Command<'_>, CommandError<'_>> {
    let spec = subcommand(Name::Client.spec(), request)?;
    Ok(Command::Connection(match spec.name {
        b"client|id" => ConnectionCommand::ClientId,
        b"client|info" => ConnectionCommand::ClientInfo,
        b"client|list" => ConnectionCommand::ClientList(options::client_filter(request.from(2))?),
        b"client|getname" => ConnectionCommand::ClientGetName,
        b"client|setname" => {
            ConnectionCommand::ClientSetName(options::client_name(word(request, 2))?)
        }
        b"client|setinfo" => options::client_library(word(request, 2), word(request, 3))?,
        b"client|no-evict" => options::no_evict(word(request, 2))?,
        b"client|reply" => ConnectionCommand::ClientReply(options::reply_mode(word(request, 2))?),
        _ => unreachable!("a subcommand without a meaning"),
    }))
}

fn command(request: Request<'_>) -> Result<Command<'_>, CommandError<'_>> {
    if request.len() == 1 {
        return Ok(Command::Connection(ConnectionCommand::Command));
    }
    let spec = subcommand(Name::Command.spec(), request)?;
    Ok(Command::Connection(match spec.name {
        b"command|count" => ConnectionCommand::CommandCount,
        b"command|info" => ConnectionCommand::CommandInfo(request.from(2)),
        b"command|docs" => ConnectionCommand::CommandDocs(request.from(2)),
        _ => unreachable!("a subcommand without a meaning"),
    }))
}

fn select(request: Request<'_>) -> Result<Command<'_>, CommandError<'_>> {
    match integer(word(request, 1))? {
        0 => Ok(Command::Connection(ConnectionCommand::Select)),
        _ => Err(CommandError::Text("ERR SELECT is not allowed in cluster mode")),
    }
}

fn subcommand<'a>(
    container: &'static Spec,
    request: Request<'a>,
) -> Result<&'static Spec, CommandError<'a>> {
    let name = word(request, 1);
    let unknown = CommandError::UnknownSubcommand { container, name };
    let spec = container.subcommand(name).ok_or(unknown)?;
    if spec.takes(request.len()) { Ok(spec) } else { Err(CommandError::Arity(spec)) }
}

/// An argument that the command's arity promises.
#[inline]
pub(in crate::protocol::wire) fn word(request: Request<'_>, index: usize) -> &[u8] {
    request.get(index).expect("the arity was checked")
}

pub(in crate::protocol::wire) fn integer(text: &[u8]) -> Result<i64, CommandError<'_>> {
    number::parse(text).ok_or(CommandError::NotInteger)
}
