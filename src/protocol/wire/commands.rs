//! Every command, as `COMMAND` describes it: the answers of Redis 7.0 where it has the command.
//!
//! The rows stand in the order of [`Name`], which indexes them. A row says nothing about what a
//! command means: `command` does.

use super::table::ADMIN;
use super::table::ALLOW_BUSY;
use super::table::DENYOOM;
use super::table::FAST;
use super::table::Group;
use super::table::LOADING;
use super::table::NO_AUTH;
use super::table::NONE;
use super::table::NOSCRIPT;
use super::table::READONLY;
use super::table::STALE;
use super::table::Spec;
use super::table::WRITE;
use super::table::spec;

/// A command, without its subcommand.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[expect(missing_docs, reason = "the rows below have a summary each")]
pub enum Name {
    Get,
    Set,
    GetDel,
    GetEx,
    MGet,
    MSet,
    Del,
    Unlink,
    Exists,
    StrLen,
    GetRange,
    Type,
    Touch,
    Expire,
    PExpire,
    ExpireAt,
    PExpireAt,
    Ttl,
    PTtl,
    ExpireTime,
    PExpireTime,
    Persist,
    SetEx,
    PSetEx,
    GetSet,
    DbSize,
    Scan,
    Ping,
    Echo,
    Hello,
    Auth,
    Quit,
    Reset,
    Select,
    Client,
    Command,
    Info,
    Config,
    Time,
    ReadOnly,
    ReadWrite,
    Cluster,
    DynGet,
    DynPut,
    DynDel,
    DynOwners,
    DynExplain,
    DynRing,
    DynMembers,
    DynStats,
}

/// Which command has this name, given in lower case.
pub(super) fn find(lower: &[u8]) -> Option<Name> {
    Some(match lower {
        b"get" => Name::Get,
        b"set" => Name::Set,
        b"getdel" => Name::GetDel,
        b"getex" => Name::GetEx,
        b"mget" => Name::MGet,
        b"mset" => Name::MSet,
        b"del" => Name::Del,
        b"unlink" => Name::Unlink,
        b"exists" => Name::Exists,
        b"strlen" => Name::StrLen,
        b"getrange" => Name::GetRange,
        b"type" => Name::Type,
        b"touch" => Name::Touch,
        b"expire" => Name::Expire,
        b"pexpire" => Name::PExpire,
        b"expireat" => Name::ExpireAt,
        b"pexpireat" => Name::PExpireAt,
        b"ttl" => Name::Ttl,
        b"pttl" => Name::PTtl,
        b"expiretime" => Name::ExpireTime,
        b"pexpiretime" => Name::PExpireTime,
        b"persist" => Name::Persist,
        b"setex" => Name::SetEx,
        b"psetex" => Name::PSetEx,
        b"getset" => Name::GetSet,
        b"dbsize" => Name::DbSize,
        b"scan" => Name::Scan,
        b"ping" => Name::Ping,
        b"echo" => Name::Echo,
        b"hello" => Name::Hello,
        b"auth" => Name::Auth,
        b"quit" => Name::Quit,
        b"reset" => Name::Reset,
        b"select" => Name::Select,
        b"client" => Name::Client,
        b"command" => Name::Command,
        b"info" => Name::Info,
        b"config" => Name::Config,
        b"time" => Name::Time,
        b"readonly" => Name::ReadOnly,
        b"readwrite" => Name::ReadWrite,
        b"cluster" => Name::Cluster,
        b"dyn.get" => Name::DynGet,
        b"dyn.put" => Name::DynPut,
        b"dyn.del" => Name::DynDel,
        b"dyn.owners" => Name::DynOwners,
        b"dyn.explain" => Name::DynExplain,
        b"dyn.ring" => Name::DynRing,
        b"dyn.members" => Name::DynMembers,
        b"dyn.stats" => Name::DynStats,
        _ => return None,
    })
}

/// All commands, in the order of [`Name`].
pub const COMMANDS: &[Spec] = &[
    spec(b"get", 2, READONLY | FAST, Group::String)
        .since("1.0.0")
        .summary("Get the value of a key")
        .keys(1, 1, 1, &["RO", "access"]),
    spec(b"set", -3, WRITE | DENYOOM, Group::String)
        .since("1.0.0")
        .summary("Set the string value of a key")
        .keys(1, 1, 1, &["RW", "access", "update", "variable_flags"])
        .notes("RW and ACCESS due to the optional `GET` argument"),
    spec(b"getdel", 2, WRITE | FAST, Group::String)
        .since("6.2.0")
        .summary("Get the value of a key and delete the key")
        .keys(1, 1, 1, &["RW", "access", "delete"]),
    spec(b"getex", -2, WRITE | FAST, Group::String)
        .since("6.2.0")
        .summary("Get the value of a key and optionally set its expiration")
        .keys(1, 1, 1, &["RW", "access", "update"])
        .notes("RW and UPDATE because it changes the TTL"),
    spec(b"mget", -2, READONLY | FAST, Group::String)
        .since("1.0.0")
        .cost("O(N) where N is the number of keys to retrieve")
        .summary("Get the values of all the given keys")
        .tips(&["request_policy:multi_shard"])
        .keys(1, -1, 1, &["RO", "access"]),
    spec(b"mset", -3, WRITE | DENYOOM, Group::String)
        .since("1.0.1")
        .cost("O(N) where N is the number of keys to set")
        .summary("Set multiple keys to multiple values")
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .keys(1, -1, 2, &["OW", "update"]),
    spec(b"del", -2, WRITE, Group::Generic)
        .since("1.0.0")
        .cost("O(N) where N is the number of keys that will be removed")
        .summary("Delete a key")
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .keys(1, -1, 1, &["RM", "delete"]),
    spec(b"unlink", -2, WRITE | FAST, Group::Generic)
        .since("4.0.0")
        .cost("O(1) for each key removed regardless of its size")
        .summary("Delete a key asynchronously in another thread. Otherwise it is just as DEL, but non blocking.")
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .keys(1, -1, 1, &["RM", "delete"]),
    spec(b"exists", -2, READONLY | FAST, Group::Generic)
        .since("1.0.0")
        .cost("O(N) where N is the number of keys to check")
        .summary("Determine if a key exists")
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .keys(1, -1, 1, &["RO"]),
    spec(b"strlen", 2, READONLY | FAST, Group::String)
        .since("2.2.0")
        .summary("Get the length of the value stored in a key")
        .keys(1, 1, 1, &["RO"]),
    spec(b"getrange", 4, READONLY, Group::String)
        .since("2.4.0")
        .cost("O(N) where N is the length of the returned string")
        .summary("Get a substring of the string stored at a key")
        .keys(1, 1, 1, &["RO", "access"]),
    spec(b"type", 2, READONLY | FAST, Group::Generic)
        .since("1.0.0")
        .summary("Determine the type stored at key")
        .keys(1, 1, 1, &["RO"]),
    spec(b"touch", -2, READONLY | FAST, Group::Generic)
        .since("3.2.1")
        .cost("O(N) where N is the number of keys that will be touched")
        .summary("Alters the last access time of a key(s). Returns the number of existing keys specified.")
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .keys(1, -1, 1, &["RO"]),
    spec(b"expire", -3, WRITE | FAST, Group::Generic)
        .since("1.0.0")
        .summary("Set a key's time to live in seconds")
        .keys(1, 1, 1, &["RW", "update"]),
    spec(b"pexpire", -3, WRITE | FAST, Group::Generic)
        .since("2.6.0")
        .summary("Set a key's time to live in milliseconds")
        .keys(1, 1, 1, &["RW", "update"]),
    spec(b"expireat", -3, WRITE | FAST, Group::Generic)
        .since("1.2.0")
        .summary("Set the expiration for a key as a UNIX timestamp")
        .keys(1, 1, 1, &["RW", "update"]),
    spec(b"pexpireat", -3, WRITE | FAST, Group::Generic)
        .since("2.6.0")
        .summary("Set the expiration for a key as a UNIX timestamp specified in milliseconds")
        .keys(1, 1, 1, &["RW", "update"]),
    spec(b"ttl", 2, READONLY | FAST, Group::Generic)
        .since("1.0.0")
        .summary("Get the time to live for a key in seconds")
        .tips(&["nondeterministic_output"])
        .keys(1, 1, 1, &["RO", "access"]),
    spec(b"pttl", 2, READONLY | FAST, Group::Generic)
        .since("2.6.0")
        .summary("Get the time to live for a key in milliseconds")
        .tips(&["nondeterministic_output"])
        .keys(1, 1, 1, &["RO", "access"]),
    spec(b"expiretime", 2, READONLY | FAST, Group::Generic)
        .since("7.0.0")
        .summary("Get the expiration Unix timestamp for a key")
        .keys(1, 1, 1, &["RO", "access"]),
    spec(b"pexpiretime", 2, READONLY | FAST, Group::Generic)
        .since("7.0.0")
        .summary("Get the expiration Unix timestamp for a key in milliseconds")
        .keys(1, 1, 1, &["RO", "access"]),
    spec(b"persist", 2, WRITE | FAST, Group::Generic)
        .since("2.2.0")
        .summary("Remove the expiration from a key")
        .keys(1, 1, 1, &["RW", "update"]),
    spec(b"setex", 4, WRITE | DENYOOM, Group::String)
        .since("2.0.0")
        .summary("Set the value and expiration of a key")
        .keys(1, 1, 1, &["OW", "update"]),
    spec(b"psetex", 4, WRITE | DENYOOM, Group::String)
        .since("2.6.0")
        .summary("Set the value and expiration in milliseconds of a key")
        .keys(1, 1, 1, &["OW", "update"]),
    spec(b"getset", 3, WRITE | DENYOOM | FAST, Group::String)
        .since("1.0.0")
        .summary("Set the string value of a key and return its old value")
        .keys(1, 1, 1, &["RW", "access", "update"]),
    spec(b"dbsize", 1, READONLY | FAST, Group::Server)
        .since("1.0.0")
        .summary("Return the number of keys in the selected database")
        .category(Some("@keyspace"))
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"]),
    spec(b"scan", -2, READONLY, Group::Generic)
        .since("2.8.0")
        .cost("O(1) for every call")
        .summary("Incrementally iterate the keys space")
        .tips(&["nondeterministic_output", "request_policy:special"]),
    spec(b"ping", -1, FAST, Group::Connection)
        .since("1.0.0")
        .summary("Ping the server")
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"]),
    spec(b"echo", 2, LOADING | STALE | FAST, Group::Connection)
        .since("1.0.0")
        .summary("Echo the given string"),
    spec(b"hello", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY, Group::Connection)
        .since("6.0.0")
        .summary("Handshake with Redis"),
    spec(b"auth", -2, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY, Group::Connection)
        .since("1.0.0")
        .cost("O(N) where N is the number of passwords defined for the user")
        .summary("Authenticate to the server"),
    spec(b"quit", -1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY, Group::Connection)
        .since("1.0.0")
        .summary("Close the connection"),
    spec(b"reset", 1, NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY, Group::Connection)
        .since("6.2.0")
        .summary("Reset the connection"),
    spec(b"select", 2, LOADING | STALE | FAST, Group::Connection)
        .since("1.0.0")
        .summary("Change the selected database for the current connection"),
    spec(b"client", -2, NONE, Group::Connection)
        .since("2.4.0")
        .cost("Depends on subcommand")
        .summary("A container for client connection commands")
        .subcommands(CLIENT)
        .category(None),
    spec(b"command", -1, LOADING | STALE, Group::Server)
        .since("2.8.13")
        .cost("O(N) where N is the total number of Redis commands")
        .summary("Get array of Redis command details")
        .category(Some("@connection"))
        .tips(&["nondeterministic_output_order"])
        .subcommands(COMMAND),
    spec(b"info", -1, LOADING | STALE, Group::Server)
        .since("1.0.0")
        .summary("Get information and statistics about the server")
        .tips(&["nondeterministic_output", "request_policy:all_shards", "response_policy:special"])
        .dangerous(),
    spec(b"config", -2, NONE, Group::Server)
        .since("2.0.0")
        .cost("Depends on subcommand")
        .summary("A container for server configuration commands")
        .subcommands(CONFIG),
    spec(b"time", 1, LOADING | STALE | FAST, Group::Server)
        .since("2.6.0")
        .summary("Return the current server time")
        .tips(&["nondeterministic_output"]),
    spec(b"readonly", 1, LOADING | STALE | FAST, Group::Cluster)
        .since("3.0.0")
        .summary("Enables read queries for a connection to a cluster replica node")
        .category(Some("@connection")),
    spec(b"readwrite", 1, LOADING | STALE | FAST, Group::Cluster)
        .since("3.0.0")
        .summary("Disables read queries for a connection to a cluster replica node")
        .category(Some("@connection")),
    spec(b"cluster", -2, NONE, Group::Cluster)
        .since("3.0.0")
        .cost("Depends on subcommand")
        .summary("A container for cluster commands")
        .subcommands(CLUSTER),
    spec(b"dyn.get", -2, READONLY | FAST, Group::Dynamo)
        .since("1.0.0")
        .summary("Every value of a key that no other supersedes, and the context that covers them")
        .keys(1, 1, 1, &["RO", "access"]),
    spec(b"dyn.put", -4, WRITE | DENYOOM | FAST, Group::Dynamo)
        .since("1.0.0")
        .summary("Put a value that supersedes what the context covers, and nothing else")
        .keys(1, 1, 1, &["OW", "update"]),
    spec(b"dyn.del", -3, WRITE | FAST, Group::Dynamo)
        .since("1.0.0")
        .summary("Delete what the context covers, and nothing else")
        .keys(1, 1, 1, &["RM", "delete"]),
    spec(b"dyn.owners", 2, READONLY | FAST, Group::Dynamo)
        .since("1.0.0")
        .summary("The slot, the partition and the preference list of a key")
        .keys(1, 1, 1, &["RO"]),
    spec(b"dyn.explain", -3, WRITE | DENYOOM, Group::Dynamo)
        .since("1.0.0")
        .summary("Do a DYN.GET or a DYN.PUT and tell its story")
        .keys(2, 2, 1, &["RW", "access", "update"]),
    spec(b"dyn.ring", 1, STALE, Group::Dynamo)
        .since("1.0.0")
        .cost("O(N) where N is the number of partitions")
        .summary("Who holds which partitions"),
    spec(b"dyn.members", 1, STALE, Group::Dynamo)
        .since("1.0.0")
        .cost("O(N) where N is the number of members")
        .summary("The members of the cluster and what is known of each"),
    spec(b"dyn.stats", -1, STALE, Group::Dynamo)
        .since("1.0.0")
        .summary("The counters of this node, or one section of them"),
];

const CLIENT: &[Spec] = &[
    spec(b"client|id", 2, NOSCRIPT | LOADING | STALE, Group::Connection)
        .since("5.0.0")
        .summary("Returns the client ID for the current connection"),
    spec(b"client|info", 2, NOSCRIPT | LOADING | STALE, Group::Connection)
        .since("6.2.0")
        .summary("Returns information about the current client connection.")
        .tips(&["nondeterministic_output"]),
    spec(b"client|list", -2, ADMIN | NOSCRIPT | LOADING | STALE, Group::Connection)
        .since("2.4.0")
        .cost("O(N) where N is the number of client connections")
        .summary("Get the list of client connections")
        .tips(&["nondeterministic_output"]),
    spec(b"client|setname", 3, NOSCRIPT | LOADING | STALE, Group::Connection)
        .since("2.6.9")
        .summary("Set the current connection name"),
    spec(b"client|getname", 2, NOSCRIPT | LOADING | STALE, Group::Connection)
        .since("2.6.9")
        .summary("Get the current connection name"),
    spec(b"client|no-evict", 3, ADMIN | NOSCRIPT | LOADING | STALE, Group::Connection)
        .since("7.0.0")
        .summary("Set client eviction mode for the current connection"),
    spec(b"client|reply", 3, NOSCRIPT | LOADING | STALE, Group::Connection)
        .since("3.2.0")
        .summary("Instruct the server whether to reply to commands"),
    spec(b"client|setinfo", 4, NOSCRIPT | LOADING | STALE, Group::Connection)
        .since("7.2.0")
        .summary("Tell the name or the version of the client's library"),
];

const COMMAND: &[Spec] = &[
    spec(b"command|count", 2, LOADING | STALE, Group::Server)
        .since("2.8.13")
        .summary("Get total number of Redis commands")
        .category(Some("@connection")),
    spec(b"command|docs", -2, LOADING | STALE, Group::Server)
        .since("7.0.0")
        .cost("O(N) where N is the number of commands to look up")
        .summary("Get array of specific Redis command documentation")
        .category(Some("@connection"))
        .tips(&["nondeterministic_output_order"]),
    spec(b"command|info", -2, LOADING | STALE, Group::Server)
        .since("2.8.13")
        .cost("O(N) where N is the number of commands to look up")
        .summary("Get array of specific Redis command details, or all when no argument is given.")
        .category(Some("@connection"))
        .tips(&["nondeterministic_output_order"]),
];

const CONFIG: &[Spec] =
    &[spec(b"config|get", -3, ADMIN | NOSCRIPT | LOADING | STALE, Group::Server)
        .since("2.0.0")
        .cost("O(N) when N is the number of configuration parameters provided")
        .summary("Get the values of configuration parameters")];

const CLUSTER: &[Spec] = &[
    spec(b"cluster|slots", 2, STALE, Group::Cluster)
        .since("3.0.0")
        .cost("O(N) where N is the total number of Cluster nodes")
        .summary("Get array of Cluster slot to node mappings")
        .tips(&["nondeterministic_output"]),
    spec(b"cluster|shards", 2, STALE, Group::Cluster)
        .since("7.0.0")
        .cost("O(N) where N is the total number of cluster nodes")
        .summary("Get array of cluster slots to node mappings")
        .tips(&["nondeterministic_output"]),
    spec(b"cluster|nodes", 2, STALE, Group::Cluster)
        .since("3.0.0")
        .cost("O(N) where N is the total number of Cluster nodes")
        .summary("Get Cluster config for the node")
        .tips(&["nondeterministic_output"]),
    spec(b"cluster|info", 2, STALE, Group::Cluster)
        .since("3.0.0")
        .summary("Provides info about Redis Cluster node state")
        .tips(&["nondeterministic_output"]),
    spec(b"cluster|myid", 2, STALE, Group::Cluster).since("3.0.0").summary("Return the node id"),
    spec(b"cluster|keyslot", 3, STALE, Group::Cluster)
        .since("3.0.0")
        .cost("O(N) where N is the number of bytes in the key")
        .summary("Returns the hash slot of the specified key"),
    spec(b"cluster|countkeysinslot", 3, STALE, Group::Cluster)
        .since("3.0.0")
        .summary("Return the number of local keys in the specified hash slot"),
];
