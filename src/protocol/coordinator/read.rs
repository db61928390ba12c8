//! What a client is told of what is stored.
//!
//! Expiry is judged here, once, by the coordinator's clock: a value past it counts as a tombstone.

use crate::base::time::Wall;
use crate::protocol::version::ContextSecret;
use crate::protocol::version::Object;
use crate::protocol::version::Sibling;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::command::ExpiryChange;
use crate::protocol::wire::command::Operation;
use crate::protocol::wire::command::range_within;
use crate::protocol::wire::reply;

/// The sibling that plain commands mean: of those with a value, the one with the latest clock.
pub(in crate::protocol::coordinator) fn shown<'o, 'a>(
    object: &'o Object<'a>,
    wall: Wall,
) -> Option<(&'o Sibling<'a>, &'a [u8])> {
    // Nearly every object has one sibling.
    if let [only] = object.siblings() {
        return only.value(wall).map(|value| (only, value));
    }
    let live = object.siblings().iter().filter_map(|sibling| Some((sibling, sibling.value(wall)?)));
    live.max_by_key(|(sibling, _)| (sibling.hybrid, sibling.dot))
}

/// Appends the answer to a reading `operation`; `object` is what is stored, if anything is.
///
/// # Panics
///
/// If the operation writes: see [`super::change_of`].
pub fn answer_from(
    operation: &Operation<'_>,
    key: &[u8],
    object: Option<&Object<'_>>,
    wall: Wall,
    secret: &ContextSecret,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    if let Operation::DynGet(_) | Operation::ExplainGet(_) = operation {
        return answer_siblings(key, object, wall, secret, out);
    }
    let shown = object.and_then(|object| shown(object, wall));
    let value = shown.map(|(_, value)| value);
    match operation {
        Operation::Get | Operation::GetEx(ExpiryChange::Leave) => match value {
            Some(value) => reply::bulk(out, value),
            None => reply::null(out, protocol),
        },
        Operation::StrLen => reply::integer(out, value.map_or(0, <[u8]>::len) as i64),
        Operation::GetRange { first, last } => {
            let value = value.unwrap_or_default();
            reply::bulk(out, &value[range_within(value.len(), *first, *last)]);
        }
        Operation::Exists => reply::integer(out, i64::from(value.is_some())),
        Operation::Type => reply::simple(out, if value.is_some() { "string" } else { "none" }),
        Operation::Ttl(form) => {
            let ttl = match shown {
                None => -2,
                Some((sibling, _)) => sibling.expiry.map_or(-1, |expiry| form.value(expiry, wall)),
            };
            reply::integer(out, ttl);
        }
        _ => unreachable!("it writes: {operation:?}"),
    }
}

fn answer_siblings(
    key: &[u8],
    object: Option<&Object<'_>>,
    wall: Wall,
    secret: &ContextSecret,
    out: &mut Vec<u8>,
) {
    reply::array(out, 2);
    let Some(object) = object else {
        reply::bulk(out, b"");
        reply::array(out, 0);
        return;
    };
    let mut token = Vec::new();
    object.context().encode_into(key, secret, &mut token);
    reply::bulk(out, &token);
    reply::array(out, object.values(wall).count());
    for value in object.values(wall) {
        reply::bulk(out, value);
    }
}
