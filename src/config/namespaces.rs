//! The tables `[namespace."prefix"]`: how keys that begin so are kept.
//!
//! What a table leaves out is the built-in default, not another namespace's: a table can be read
//! without looking for the one that it would inherit from.

use std::collections::BTreeMap;

use toml::Table;
use toml::Value;

use super::ConfigError;
use super::load::nearest;
use crate::base::limits;
use crate::protocol::coordinator::Namespace;
use crate::protocol::version::Conflict;

/// Replicas of one key: each put goes to all of them.
const REPLICAS_MAX: u8 = 16;

/// Namespaces besides the default: each request looks through them.
const NAMESPACES_MAX: usize = 64;

const KEYS: [&str; 5] = ["n", "r", "w", "durability", "conflict"];

/// What the keys of a namespace mean, for the printed file.
pub(super) const COMMENT: &str = "\
How keys are kept, by their beginning: the longest that fits wins, \"\" fits every key.
n: replicas (as many as there are nodes, at most). r, w: how many of them answer a get, a put.
durability, when a replica acknowledges a put:
  \"sync\": its record is on the disk.
  \"one:100ms\": it is in memory; one of the n syncs at once, the others within the time.
  \"interval:50ms,1MiB,1000obj\": it is in memory, and is synced at whichever comes first.
conflict, what becomes of versions that did not see each other:
  \"siblings\": all are kept until a client has seen them. \"lww\": the last one.";

/// Adds the tables of a file.
pub(super) fn read(
    namespaces: &mut BTreeMap<String, Namespace>,
    value: &Value,
) -> Result<(), ConfigError> {
    let Value::Table(tables) = value else {
        return Err(ConfigError::new("namespace", "write [namespace.\"prefix\"] above its keys"));
    };
    for (prefix, value) in tables {
        let place = format!("[namespace.{}]", Value::String(prefix.clone()));
        let Value::Table(table) = value else {
            return Err(ConfigError::new(place, "is not a table"));
        };
        if prefix.len() > limits::KEY_BYTES_MAX {
            return Err(ConfigError::new("namespace", "a prefix is longer than any key"));
        }
        let namespace = read_one(table).map_err(|reason| ConfigError::new(place, reason))?;
        namespaces.insert(prefix.clone(), namespace);
    }
    if namespaces.len() > NAMESPACES_MAX + 1 {
        let reason = format!("{} prefixes, at most {NAMESPACES_MAX}", namespaces.len() - 1);
        return Err(ConfigError::new("namespace", reason));
    }
    Ok(())
}

/// A namespace as a table of the printed file.
pub(super) fn write(prefix: &str, namespace: &Namespace) -> String {
    let Namespace { n, r, w, durability, conflict } = namespace;
    let conflict = match conflict {
        Conflict::Siblings => "siblings",
        Conflict::Lww => "lww",
    };
    let prefix = Value::String(prefix.to_owned());
    format!(
        "[namespace.{prefix}]\nn = {n}\nr = {r}\nw = {w}\n\
         durability = \"{durability}\"\nconflict = \"{conflict}\"\n"
    )
}

fn read_one(table: &Table) -> Result<Namespace, String> {
    if let Some(unknown) = table.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(format!("unknown key {unknown:?}, {}", nearest(unknown, KEYS.into_iter())));
    }
    let mut namespace = Namespace::default();
    if let Some(n) = replicas(table, "n", REPLICAS_MAX)? {
        // A majority: what is read meets what was written.
        namespace.n = n;
        namespace.r = n / 2 + 1;
        namespace.w = n / 2 + 1;
    }
    namespace.r = replicas(table, "r", namespace.n)?.unwrap_or(namespace.r);
    namespace.w = replicas(table, "w", namespace.n)?.unwrap_or(namespace.w);
    if let Some(durability) = text(table, "durability")? {
        namespace.durability = durability.parse().map_err(|error| format!("{error}"))?;
    }
    if let Some(conflict) = text(table, "conflict")? {
        namespace.conflict = match conflict {
            "siblings" => Conflict::Siblings,
            "lww" => Conflict::Lww,
            _ => return Err(format!("conflict {conflict:?} is none of: siblings | lww")),
        };
    }
    Ok(namespace)
}

fn replicas(table: &Table, key: &str, most: u8) -> Result<Option<u8>, String> {
    let Some(value) = table.get(key) else { return Ok(None) };
    let number = value.as_integer().and_then(|number| u8::try_from(number).ok());
    let number = number.filter(|number| (1..=most).contains(number));
    let what = if key == "n" { "a number" } else { "a number of the n replicas" };
    number.map(Some).ok_or_else(|| format!("{key} = {value} is not {what} from 1 to {most}"))
}

fn text<'a>(table: &'a Table, key: &str) -> Result<Option<&'a str>, String> {
    let Some(value) = table.get(key) else { return Ok(None) };
    value.as_str().map(Some).ok_or_else(|| format!("{key} = {value} is not a text in quotes"))
}
