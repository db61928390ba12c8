//! `COMMAND`, `COMMAND INFO` and `COMMAND DOCS`: the command table as replies, as Redis 7.0 gives it.
//!
//! The documentation leaves out the grammar of arguments: it would describe options that are
//! refused here.

use super::Protocol;
use super::arguments::Request;
use super::reply;
use super::table;
use super::table::ADMIN;
use super::table::COMMANDS;
use super::table::FAST;
use super::table::FLAG_NAMES;
use super::table::Keys;
use super::table::READONLY;
use super::table::Spec;
use super::table::WRITE;

/// Every command: the answer to `COMMAND`.
pub fn all(out: &mut Vec<u8>, protocol: Protocol) {
    reply::array(out, COMMANDS.len());
    for spec in COMMANDS {
        row(out, protocol, spec);
    }
}

/// These commands, or every one if none are named: the answer to `COMMAND INFO`.
pub fn info(out: &mut Vec<u8>, protocol: Protocol, names: Request<'_>) {
    if names.is_empty() {
        return all(out, protocol);
    }
    reply::array(out, names.len());
    for name in names.iter() {
        match table::describe(name) {
            Some(spec) => row(out, protocol, spec),
            None => reply::null(out, protocol),
        }
    }
}

/// What documentation says of these commands, or of every one: the answer to `COMMAND DOCS`.
pub fn docs(out: &mut Vec<u8>, protocol: Protocol, names: Request<'_>) {
    if names.is_empty() {
        reply::map(out, protocol, COMMANDS.len());
        COMMANDS.iter().for_each(|spec| doc(out, protocol, spec));
        return;
    }
    reply::map(out, protocol, names.iter().filter_map(table::describe).count());
    names.iter().filter_map(table::describe).for_each(|spec| doc(out, protocol, spec));
}

fn row(out: &mut Vec<u8>, protocol: Protocol, spec: &Spec) {
    reply::array(out, 10);
    reply::bulk(out, spec.name);
    reply::integer(out, i64::from(spec.arity));
    let flags = FLAG_NAMES.iter().enumerate().filter(|(bit, _)| spec.flags >> bit & 1 == 1);
    words(out, protocol, flags.map(|(_, name)| *name));
    let (first, last, step) =
        spec.keys.map_or((0, 0, 0), |keys| (keys.first, keys.last, keys.step));
    for place in [first, last, step] {
        reply::integer(out, i64::from(place));
    }
    words(out, protocol, categories(spec));
    reply::set(out, protocol, spec.tips.len());
    spec.tips.iter().for_each(|tip| reply::bulk(out, tip.as_bytes()));
    reply::set(out, protocol, usize::from(spec.keys.is_some()));
    if let Some(keys) = &spec.keys {
        key_spec(out, protocol, keys);
    }
    reply::set(out, protocol, spec.subcommands.len());
    spec.subcommands.iter().for_each(|subcommand| row(out, protocol, subcommand));
}

/// Redis derives most of them from the flags, and lists them in this order.
fn categories(spec: &Spec) -> impl Iterator<Item = &'static str> + Clone {
    let has = |flag| spec.flags & flag != 0;
    let among = |names: &[&str]| spec.category.filter(|name| names.contains(name));
    let speed = if has(FAST) { "@fast" } else { "@slow" };
    let dangerous = has(ADMIN) || spec.dangerous;
    [
        among(&["@keyspace"]),
        has(READONLY).then_some("@read"),
        has(WRITE).then_some("@write"),
        among(&["@string"]),
        has(ADMIN).then_some("@admin"),
        Some(speed),
        dangerous.then_some("@dangerous"),
        among(&["@connection"]),
    ]
    .into_iter()
    .flatten()
}

fn key_spec(out: &mut Vec<u8>, protocol: Protocol, keys: &Keys) {
    reply::map(out, protocol, 3 + usize::from(keys.notes.is_some()));
    if let Some(notes) = keys.notes {
        reply::bulk(out, b"notes");
        reply::bulk(out, notes.as_bytes());
    }
    reply::bulk(out, b"flags");
    words(out, protocol, keys.flags.iter().copied());
    reply::bulk(out, b"begin_search");
    search(out, protocol, b"index", &[(b"index", keys.first)]);
    reply::bulk(out, b"find_keys");
    // A range is told relative to its first key, unless it is counted from the end.
    let last = if keys.last < 0 { keys.last } else { keys.last - keys.first };
    let range: [(&[u8], i8); 3] = [(b"lastkey", last), (b"keystep", keys.step), (b"limit", 0)];
    search(out, protocol, b"range", &range);
}

fn search(out: &mut Vec<u8>, protocol: Protocol, kind: &[u8], spec: &[(&[u8], i8)]) {
    reply::map(out, protocol, 2);
    reply::bulk(out, b"type");
    reply::bulk(out, kind);
    reply::bulk(out, b"spec");
    reply::map(out, protocol, spec.len());
    for (name, value) in spec {
        reply::bulk(out, name);
        reply::integer(out, i64::from(*value));
    }
}

fn words(out: &mut Vec<u8>, protocol: Protocol, words: impl Iterator<Item = &'static str> + Clone) {
    reply::set(out, protocol, words.clone().count());
    words.for_each(|word| reply::simple(out, word));
}

fn doc(out: &mut Vec<u8>, protocol: Protocol, spec: &Spec) {
    reply::bulk(out, spec.name);
    let has_subcommands = !spec.subcommands.is_empty();
    reply::map(out, protocol, 4 + usize::from(has_subcommands));
    let facts = [
        ("summary", spec.summary),
        ("since", spec.since),
        ("group", spec.group.text()),
        ("complexity", spec.cost),
    ];
    for (name, fact) in facts {
        reply::bulk(out, name.as_bytes());
        reply::bulk(out, fact.as_bytes());
    }
    if has_subcommands {
        reply::bulk(out, b"subcommands");
        reply::map(out, protocol, spec.subcommands.len());
        spec.subcommands.iter().for_each(|subcommand| doc(out, protocol, subcommand));
    }
}
