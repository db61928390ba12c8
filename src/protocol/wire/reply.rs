//! Replies, as bytes.
//!
//! Each function appends one reply, or the head of one, to a buffer that the caller keeps. Where
//! RESP 2 has no type of its own, the form that Redis gives it there is written.

use std::fmt;
use std::fmt::Write;

use super::Protocol;
use super::number;

/// `+OK`.
pub fn ok(out: &mut Vec<u8>) {
    out.extend_from_slice(b"+OK\r\n");
}

/// A short text that is no error: `+PONG`. It must hold no end-of-line.
pub fn simple(out: &mut Vec<u8>, text: &str) {
    debug_assert!(!text.contains(['\r', '\n']), "a line that ends early would forge a reply");
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// An error. Its first word is for programs: `ERR`, `NOQUORUM`. Ends of line become blanks, so
/// that no argument of a client can forge a reply.
pub fn error(out: &mut Vec<u8>, text: impl fmt::Display) {
    out.push(b'-');
    write!(OneLine(out), "{text}").expect("writing to memory does not fail");
    out.extend_from_slice(b"\r\n");
}

/// A number.
#[inline]
pub fn integer(out: &mut Vec<u8>, value: i64) {
    head(out, b':', value);
}

/// Bytes of any kind and length.
#[inline]
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 16);
    head(out, b'$', bytes.len() as i64);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Nothing, where there could be a value.
#[inline]
pub fn null(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// Nothing, where there could be an array.
pub fn null_array(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"*-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// The head of an array: `len` replies follow.
#[inline]
pub fn array(out: &mut Vec<u8>, len: usize) {
    head(out, b'*', len as i64);
}

/// The head of a map: `pairs` keys, each with its value, follow.
pub fn map(out: &mut Vec<u8>, protocol: Protocol, pairs: usize) {
    match protocol {
        Protocol::Resp2 => array(out, 2 * pairs),
        Protocol::Resp3 => head(out, b'%', pairs as i64),
    }
}

/// The head of a set: `len` replies follow.
pub fn set(out: &mut Vec<u8>, protocol: Protocol, len: usize) {
    match protocol {
        Protocol::Resp2 => array(out, len),
        Protocol::Resp3 => head(out, b'~', len as i64),
    }
}

/// The head of what the server says unasked: `len` replies follow.
pub fn push(out: &mut Vec<u8>, protocol: Protocol, len: usize) {
    match protocol {
        Protocol::Resp2 => array(out, len),
        Protocol::Resp3 => head(out, b'>', len as i64),
    }
}

/// Text for people, to be shown as it is: `INFO`.
pub fn verbatim(out: &mut Vec<u8>, protocol: Protocol, text: &[u8]) {
    match protocol {
        Protocol::Resp2 => bulk(out, text),
        Protocol::Resp3 => {
            head(out, b'=', text.len() as i64 + 4);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// A number with a fraction, in the shortest form that reads back as the same.
pub fn double(out: &mut Vec<u8>, protocol: Protocol, value: f64) {
    let mut text = Vec::with_capacity(24);
    match value {
        value if value.is_nan() => text.extend_from_slice(b"nan"),
        f64::INFINITY => text.extend_from_slice(b"inf"),
        f64::NEG_INFINITY => text.extend_from_slice(b"-inf"),
        value => write!(OneLine(&mut text), "{value}").expect("writing to memory does not fail"),
    }
    match protocol {
        Protocol::Resp2 => bulk(out, &text),
        Protocol::Resp3 => {
            out.push(b',');
            out.extend_from_slice(&text);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// Yes or no.
pub fn boolean(out: &mut Vec<u8>, protocol: Protocol, value: bool) {
    match protocol {
        Protocol::Resp2 => integer(out, i64::from(value)),
        Protocol::Resp3 => out.extend_from_slice(if value { b"#t\r\n" } else { b"#f\r\n" }),
    }
}

#[inline]
fn head(out: &mut Vec<u8>, kind: u8, value: i64) {
    out.push(kind);
    number::write(out, value);
    out.extend_from_slice(b"\r\n");
}

/// Text that stays on one line whatever is in it.
struct OneLine<'a>(&'a mut Vec<u8>);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let blank = |byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
        self.0.extend(text.bytes().map(blank));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_error_is_one_line() {
        let mut out = Vec::new();
        error(&mut out, "ERR a\r\n+OK\n");
        assert_eq!(out, b"-ERR a  +OK \r\n");
    }

    #[test]
    fn doubles_read_back_as_the_same() {
        for (value, text) in [(1.5, ",1.5\r\n"), (3.0, ",3\r\n"), (f64::INFINITY, ",inf\r\n")] {
            let mut out = Vec::new();
            double(&mut out, Protocol::Resp3, value);
            assert_eq!(out, text.as_bytes());
        }
        let mut out = Vec::new();
        double(&mut out, Protocol::Resp2, -0.25);
        assert_eq!(out, b"$5\r\n-0.25\r\n");
    }

    /// A reply as a tree, to be written and read back.
    #[derive(Clone, Debug, PartialEq)]
    enum Tree {
        Simple(String),
        Error(String),
        Integer(i64),
        Bulk(Vec<u8>),
        Null,
        Array(Vec<Tree>),
        Map(Vec<(Tree, Tree)>),
        Set(Vec<Tree>),
        Push(Vec<Tree>),
        Verbatim(Vec<u8>),
        Boolean(bool),
    }

    impl Tree {
        fn write(&self, out: &mut Vec<u8>, protocol: Protocol) {
            let all = |out: &mut Vec<u8>, trees: &[Tree]| {
                trees.iter().for_each(|tree| tree.write(out, protocol));
            };
            match self {
                Self::Simple(text) => simple(out, text),
                Self::Error(text) => error(out, text),
                Self::Integer(value) => integer(out, *value),
                Self::Bulk(bytes) => bulk(out, bytes),
                Self::Null => null(out, protocol),
                Self::Verbatim(text) => verbatim(out, protocol, text),
                Self::Boolean(value) => boolean(out, protocol, *value),
                Self::Array(trees) => {
                    array(out, trees.len());
                    all(out, trees);
                }
                Self::Set(trees) => {
                    set(out, protocol, trees.len());
                    all(out, trees);
                }
                Self::Push(trees) => {
                    push(out, protocol, trees.len());
                    all(out, trees);
                }
                Self::Map(pairs) => {
                    map(out, protocol, pairs.len());
                    for (key, value) in pairs {
                        key.write(out, protocol);
                        value.write(out, protocol);
                    }
                }
            }
        }

        /// What a client of RESP 2 sees of it.
        fn in_resp2(&self) -> Self {
            let all = |trees: &[Self]| Self::Array(trees.iter().map(Self::in_resp2).collect());
            match self {
                Self::Array(trees) | Self::Set(trees) | Self::Push(trees) => all(trees),
                Self::Map(pairs) => Self::Array(
                    pairs
                        .iter()
                        .flat_map(|(key, value)| [key.in_resp2(), value.in_resp2()])
                        .collect(),
                ),
                Self::Verbatim(text) => Self::Bulk(text.clone()),
                Self::Boolean(value) => Self::Integer(i64::from(*value)),
                other => other.clone(),
            }
        }
    }

    /// A decoder that shares nothing with the writers.
    fn decode(bytes: &mut &[u8]) -> Tree {
        let end = bytes.windows(2).position(|pair| pair == b"\r\n").expect("a line ends");
        let line = String::from_utf8(bytes[1..end].to_vec()).expect("heads are text");
        let kind = bytes[0];
        *bytes = &bytes[end + 2..];
        let count = || line.parse::<i64>().expect("a number");
        let mut body = |size: usize| {
            let body = bytes[..size].to_vec();
            assert_eq!(&bytes[size..size + 2], b"\r\n");
            *bytes = &bytes[size + 2..];
            body
        };
        match kind {
            b'+' => Tree::Simple(line),
            b'-' => Tree::Error(line),
            b':' => Tree::Integer(count()),
            b'_' => Tree::Null,
            b'#' => Tree::Boolean(line == "t"),
            b'$' if count() < 0 => Tree::Null,
            b'$' => Tree::Bulk(body(count() as usize)),
            b'=' => Tree::Verbatim(body(count() as usize)[4..].to_vec()),
            b'*' => Tree::Array((0..count()).map(|_| decode(bytes)).collect()),
            b'~' => Tree::Set((0..count()).map(|_| decode(bytes)).collect()),
            b'>' => Tree::Push((0..count()).map(|_| decode(bytes)).collect()),
            b'%' => Tree::Map((0..count()).map(|_| (decode(bytes), decode(bytes))).collect()),
            other => panic!("not a reply: {}", other as char),
        }
    }

    fn tree() -> impl Strategy<Value = Tree> {
        let leaf = prop_oneof![
            "[ -~]{0,12}".prop_map(Tree::Simple),
            "[ -~]{0,12}".prop_map(Tree::Error),
            any::<i64>().prop_map(Tree::Integer),
            any::<Vec<u8>>().prop_map(Tree::Bulk),
            any::<Vec<u8>>().prop_map(Tree::Verbatim),
            any::<bool>().prop_map(Tree::Boolean),
            Just(Tree::Null),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            let many = prop::collection::vec(inner.clone(), 0..4);
            prop_oneof![
                many.clone().prop_map(Tree::Array),
                many.clone().prop_map(Tree::Set),
                many.prop_map(Tree::Push),
                prop::collection::vec((inner.clone(), inner), 0..4).prop_map(Tree::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_what_was_meant(tree in tree()) {
            for protocol in [Protocol::Resp2, Protocol::Resp3] {
                let mut out = Vec::new();
                tree.write(&mut out, protocol);
                let rest = &mut &out[..];
                let seen = decode(rest);
                prop_assert!(rest.is_empty());
                let meant = if protocol == Protocol::Resp2 { tree.in_resp2() } else { tree.clone() };
                prop_assert_eq!(seen, meant);
            }
        }
    }
}
