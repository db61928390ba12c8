//! What a client is told that asked wrongly: in Redis's words, where Redis has the case.
//!
//! None of these does anything but answer. The connection goes on.

use super::arguments::Request;
use super::table::Spec;
use crate::base::limits::KEY_BYTES_MAX;

/// Why a request is no command.
#[derive(Clone, Copy, Debug)]
pub enum CommandError<'a> {
    /// No command has this name.
    Unknown(Request<'a>),
    /// The container has no such subcommand.
    UnknownSubcommand {
        /// The container.
        container: &'static Spec,
        /// What was asked of it.
        name: &'a [u8],
    },
    /// Too few or too many arguments.
    Arity(&'static Spec),
    /// A known command, or an option of one, that could not keep its promise here.
    Refused(&'static str),
    /// Arguments in an order that means nothing.
    Syntax,
    /// Not a number, or not one of 64 bits.
    NotInteger,
    /// A time that lies outside what can be kept.
    InvalidExpire {
        /// The command's name.
        command: &'static str,
    },
    /// Keys have at least one byte.
    EmptyKey,
    /// Keys have at most [`KEY_BYTES_MAX`] bytes.
    KeyTooBig {
        /// How many this one has.
        found: usize,
    },
    /// A text of Redis that names nothing of the request.
    Text(&'static str),
    /// A text around one word of the request.
    About {
        /// What stands before it.
        before: &'static str,
        /// The word.
        word: &'a [u8],
        /// What stands behind it.
        after: &'static str,
    },
}

/// How much of an unknown command is repeated to its sender.
const ECHO_BYTES: usize = 128;

impl CommandError<'_> {
    /// Appends the error as a reply.
    pub fn write(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.push(b'-');
        self.write_text(out);
        // What a client sent may hold an end-of-line, and must not forge a second reply.
        for byte in &mut out[start..] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
        out.extend_from_slice(b"\r\n");
    }

    fn write_text(&self, out: &mut Vec<u8>) {
        let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
        match self {
            Self::Unknown(request) => write_unknown(*request, out),
            Self::UnknownSubcommand { container, name } => {
                let container = container.name.to_ascii_uppercase();
                let name = &name[..name.len().min(ECHO_BYTES)];
                put(&[b"ERR unknown subcommand '", name, b"'. Try ", &container, b" HELP."]);
            }
            Self::Arity(spec) => {
                put(&[b"ERR wrong number of arguments for '", spec.name, b"' command"]);
            }
            Self::Refused(reason) => put(&[b"ERR ", reason.as_bytes()]),
            Self::Syntax => put(&[b"ERR syntax error"]),
            Self::NotInteger => put(&[b"ERR value is not an integer or out of range"]),
            Self::InvalidExpire { command } => {
                put(&[b"ERR invalid expire time in '", command.as_bytes(), b"' command"]);
            }
            Self::EmptyKey => put(&[b"ERR a key has at least one byte"]),
            Self::KeyTooBig { found } => {
                let text = format!("TOOBIG a key of {found} bytes, {KEY_BYTES_MAX} are the limit");
                put(&[text.as_bytes()]);
            }
            Self::Text(text) => put(&[text.as_bytes()]),
            Self::About { before, word, after } => {
                let word = &word[..word.len().min(ECHO_BYTES)];
                put(&[before.as_bytes(), word, after.as_bytes()]);
            }
        }
    }
}

fn write_unknown(request: Request<'_>, out: &mut Vec<u8>) {
    let name = request.get(0).unwrap_or_default();
    out.extend_from_slice(b"ERR unknown command '");
    out.extend_from_slice(&name[..name.len().min(ECHO_BYTES)]);
    out.extend_from_slice(b"', with args beginning with: ");
    let start = out.len();
    for argument in request.from(1).iter() {
        let said = out.len() - start;
        if said >= ECHO_BYTES {
            break;
        }
        out.push(b'\'');
        out.extend_from_slice(&argument[..argument.len().min(ECHO_BYTES - said)]);
        out.extend_from_slice(b"' ");
    }
}
