//! Where a request ends, and which bytes are its arguments: RESP 2 and 3 as clients send it.
//!
//! The parser is incremental, borrowed, bounded and total:
//!
//! - *Incremental.* It remembers its place in the frame. A value of 64 MiB that arrives in pieces of
//!   4 KiB is looked at once: each call costs what is new, and a length once read is not read again.
//! - *Borrowed.* Arguments are places in the caller's bytes. Nothing is copied but the words of an
//!   inline command, at most [`INLINE_BYTES_MAX`] of them.
//! - *Bounded.* A frame beyond a limit whose lengths are known is swallowed as it comes, without
//!   being kept, and answered with one error: the connection goes on. Where lengths cannot be
//!   trusted, or before a client has said its password, the connection ends instead.
//! - *Total.* Any bytes give a request, an error or a wait; none give a panic.
//!
//! Clients send arrays of bulk strings and nothing deeper, so there is no recursion to bound.
//!
//! Redis lets any two bytes stand for the CRLF behind an argument. Here they must be CRLF: a client
//! that counts its lengths wrongly learns it at once, before what follows is taken for a command.

use std::fmt;

use crate::base::limits::ARGUMENTS_MAX;
use crate::base::limits::INLINE_BYTES_MAX;
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::limits::VALUE_BYTES_MAX;
use crate::protocol::wire::arguments::Arguments;
use crate::protocol::wire::arguments::Request;
use crate::protocol::wire::inline;

/// How much one request may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestLimits {
    /// Arguments, the command's name included.
    pub arguments: usize,
    /// Bytes of one argument.
    pub argument_bytes: usize,
    /// Bytes of the whole frame.
    pub frame_bytes: usize,
    /// What becomes of a request beyond them.
    pub beyond: Beyond,
}

/// What becomes of a request beyond the limits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Beyond {
    /// It is swallowed and refused; the connection goes on.
    Skip,
    /// The connection ends: whoever has not said a password is given no patience.
    Close,
}

impl RequestLimits {
    /// For a client that may give commands, with values of up to `value_bytes`.
    ///
    /// The frame holds a value beside as many of the longest keys as a command may name.
    pub const fn admitted(value_bytes: usize) -> Self {
        assert!(value_bytes <= VALUE_BYTES_MAX, "beyond this one value stalls its core");
        Self {
            arguments: 1 + ARGUMENTS_MAX,
            argument_bytes: if value_bytes < KEY_BYTES_MAX { KEY_BYTES_MAX } else { value_bytes },
            frame_bytes: value_bytes + ARGUMENTS_MAX * (KEY_BYTES_MAX + HEADER_BYTES_MAX),
            beyond: Beyond::Skip,
        }
    }

    /// For a client that has yet to say its password: enough for `HELLO 3 AUTH … SETNAME …`.
    pub const STRANGER: Self = Self {
        arguments: 10,
        argument_bytes: 16 * 1024,
        frame_bytes: 64 * 1024,
        beyond: Beyond::Close,
    };
}

/// What the bytes so far are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Parsed {
    /// Not yet a whole request. The first `consumed` bytes are not needed again (they are part of
    /// a frame that is being swallowed); the rest must be given again with more behind it.
    Incomplete {
        /// Bytes that the caller drops.
        consumed: usize,
        /// So many bytes from the start of what was given (and not dropped) are needed before
        /// anything can come of another call.
        needed: usize,
    },
    /// A request, whose arguments are in the [`Arguments`]. The next one starts behind `consumed`.
    Request {
        /// Bytes of this request.
        consumed: usize,
    },
    /// An empty line or an empty array: not answered.
    Empty {
        /// Bytes of it.
        consumed: usize,
    },
    /// The end of a request that was too big, and is refused.
    Skipped {
        /// Bytes of its last part.
        consumed: usize,
        /// What to answer.
        error: TooBig,
    },
    /// Not the protocol. Answer this, if there is an answer, then close: nothing that follows can
    /// be understood.
    Fatal {
        /// What to answer.
        error: ProtocolError,
    },
}

/// A request beyond a limit. Nothing was done; the connection goes on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TooBig {
    /// More arguments than one request may have, its name not counted.
    Arguments {
        /// How many there were.
        found: usize,
        /// How many there may be.
        allowed: usize,
    },
    /// An argument longer than any may be.
    Argument {
        /// Its bytes.
        found: usize,
        /// How many they may be.
        allowed: usize,
    },
    /// All arguments together.
    Frame {
        /// How many bytes they may be.
        allowed: usize,
    },
}

impl fmt::Display for TooBig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arguments { found, allowed } => {
                write!(f, "TOOBIG {found} arguments, {allowed} are the limit")
            }
            Self::Argument { found, allowed } => {
                write!(f, "TOOBIG an argument of {found} bytes, {allowed} are the limit")
            }
            Self::Frame { allowed } => {
                write!(f, "TOOBIG the arguments together exceed the limit of {allowed} bytes")
            }
        }
    }
}

/// Why bytes are no request, in the words of Redis.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProtocolError {
    /// Not a count of arguments.
    MultibulkLength,
    /// Not a length of an argument.
    BulkLength,
    /// Something other than a bulk string as an argument.
    ExpectedBulk {
        /// The byte that stands there.
        found: u8,
    },
    /// An argument is longer or shorter than its length said.
    ExpectedEndOfLine,
    /// An inline command longer than people type.
    InlineTooBig,
    /// An inline command with an open quote.
    UnbalancedQuotes,
    /// Too many arguments before a password.
    StrangersMultibulk,
    /// Too long an argument before a password.
    StrangersBulk,
    /// A web browser or a TLS handshake. It gets no answer, for a browser would show it.
    Foreign,
}

impl ProtocolError {
    /// What to say before closing; nothing to one that does not speak the protocol at all.
    pub fn answer(self) -> Option<impl fmt::Display> {
        (self != Self::Foreign).then_some(self)
    }
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self {
            Self::MultibulkLength => "invalid multibulk length",
            Self::BulkLength => "invalid bulk length",
            Self::ExpectedBulk { found } => {
                let found = if found.is_ascii_control() { ' ' } else { char::from(*found) };
                return write!(f, "ERR Protocol error: expected '$', got '{found}'");
            }
            Self::ExpectedEndOfLine => "expected CRLF behind an argument",
            Self::InlineTooBig => "too big inline request",
            Self::UnbalancedQuotes => "unbalanced quotes in request",
            Self::StrangersMultibulk => "unauthenticated multibulk length",
            Self::StrangersBulk => "unauthenticated bulk length",
            Self::Foreign => "not RESP",
        };
        write!(f, "ERR Protocol error: {what}")
    }
}

/// A connection's place in the request that is arriving.
#[derive(Debug)]
pub struct RequestParser {
    limits: RequestLimits,
    /// Everything before this byte of the frame is understood.
    position: usize,
    /// Arguments still to come, the one that is arriving included. None are between frames.
    missing: usize,
    /// The length of the argument that is arriving, once it is known.
    length: Option<usize>,
    /// Why the frame that is arriving is swallowed, if it is. `position` is 0 then.
    swallowing: Option<TooBig>,
}

/// Redis's own bounds: a count or a length beyond them is no request that is too big, but nonsense.
const COUNT_MAX: i64 = 1024 * 1024;
const LENGTH_MAX: i64 = 512 * 1024 * 1024;

/// `$536870912\r\n` is the longest header that can be right.
const HEADER_BYTES_MAX: usize = 12;

/// The least that an argument takes: `$0\r\n\r\n`.
const ARGUMENT_BYTES_MIN: usize = 6;

// Places within a frame are kept in 32 bits.
const _: () = assert!(RequestLimits::admitted(VALUE_BYTES_MAX).frame_bytes < u32::MAX as usize / 2);

impl RequestParser {
    /// A parser between two requests.
    pub fn new(limits: RequestLimits) -> Self {
        Self { limits, position: 0, missing: 0, length: None, swallowing: None }
    }

    /// Other limits from the next request on. A frame that is arriving is judged by them from
    /// its next argument.
    pub fn set_limits(&mut self, limits: RequestLimits) {
        self.limits = limits;
    }

    /// Whether it is between two requests.
    pub fn is_idle(&self) -> bool {
        self.missing == 0 && self.position == 0 && self.swallowing.is_none()
    }

    /// Reads on.
    ///
    /// `bytes` starts where the last outcome said: at the frame that is arriving, which may have
    /// been appended to and not changed since. `arguments` belongs to this parser from the first
    /// byte of a frame to its request, and must be the same.
    #[inline]
    pub fn parse(&mut self, bytes: &[u8], arguments: &mut Arguments) -> Parsed {
        if self.missing == 0 && self.swallowing.is_none() {
            match bytes.first() {
                None => return Parsed::Incomplete { consumed: 0, needed: 1 },
                Some(b'*') => {}
                Some(_) => return self.inline(bytes, arguments),
            }
            if let Some(outcome) = self.begin(bytes, arguments) {
                return outcome;
            }
        }
        if self.swallowing.is_some() {
            return self.swallow(bytes);
        }
        self.arguments(bytes, arguments)
    }

    /// Reads the count of an array's elements. An outcome ends the call.
    #[inline]
    fn begin(&mut self, bytes: &[u8], arguments: &mut Arguments) -> Option<Parsed> {
        let (count, end) = match header(bytes, 0) {
            Header::Whole { value, end } if value <= COUNT_MAX => (value, end),
            Header::Whole { .. } | Header::Wrong => {
                return Some(fatal(ProtocolError::MultibulkLength));
            }
            Header::Incomplete => {
                return Some(Parsed::Incomplete { consumed: 0, needed: bytes.len() + 1 });
            }
        };
        if count <= 0 {
            return Some(Parsed::Empty { consumed: end });
        }
        arguments.clear();
        self.missing = count as usize;
        self.position = end;
        self.length = None;
        if self.missing > self.limits.arguments {
            if self.limits.beyond == Beyond::Close {
                return Some(fatal(ProtocolError::StrangersMultibulk));
            }
            let (found, allowed) = (self.missing - 1, self.limits.arguments - 1);
            self.swallowing = Some(TooBig::Arguments { found, allowed });
        }
        None
    }

    /// Reads arguments until the last or the end of the bytes.
    #[inline]
    fn arguments(&mut self, bytes: &[u8], arguments: &mut Arguments) -> Parsed {
        while self.missing > 0 {
            let length = match self.length {
                Some(length) => length,
                None => match self.argument_length(bytes) {
                    Ok(Some(length)) => length,
                    Ok(None) => return self.incomplete(bytes.len() + 1),
                    Err(error) => return fatal(error),
                },
            };
            if let Some(too_big) = self.judge(length) {
                if self.limits.beyond == Beyond::Close {
                    return fatal(ProtocolError::StrangersBulk);
                }
                arguments.clear();
                self.swallowing = Some(too_big);
                self.length = Some(length);
                return self.swallow(bytes);
            }
            let end = self.position + length;
            match bytes.get(end..end + 2) {
                Some(b"\r\n") => {}
                Some(_) => return fatal(ProtocolError::ExpectedEndOfLine),
                None => {
                    self.length = Some(length);
                    return self.incomplete(end + 2);
                }
            }
            arguments.push(self.position, end);
            self.position = end + 2;
            self.length = None;
            self.missing -= 1;
        }
        let consumed = std::mem::take(&mut self.position);
        Parsed::Request { consumed }
    }

    /// Reads `$length` at the current place. `None`: more bytes are needed.
    #[inline]
    fn argument_length(&mut self, bytes: &[u8]) -> Result<Option<usize>, ProtocolError> {
        match bytes.get(self.position) {
            None => return Ok(None),
            Some(b'$') => {}
            Some(&found) => return Err(ProtocolError::ExpectedBulk { found }),
        }
        match header(bytes, self.position) {
            Header::Whole { value: value @ 0..=LENGTH_MAX, end } => {
                self.position = end;
                Ok(Some(value as usize))
            }
            Header::Whole { .. } | Header::Wrong => Err(ProtocolError::BulkLength),
            Header::Incomplete => Ok(None),
        }
    }

    /// Whether an argument of this length takes the frame beyond a limit.
    #[inline]
    fn judge(&self, length: usize) -> Option<TooBig> {
        if length > self.limits.argument_bytes {
            let allowed = self.limits.argument_bytes;
            return Some(TooBig::Argument { found: length, allowed });
        }
        let allowed = self.limits.frame_bytes;
        (self.position + length + 2 > allowed).then_some(TooBig::Frame { allowed })
    }

    fn incomplete(&self, needed: usize) -> Parsed {
        let behind = self.missing.saturating_sub(1) * ARGUMENT_BYTES_MIN;
        Parsed::Incomplete { consumed: 0, needed: needed + behind }
    }

    /// Lets the rest of a frame pass. Here `position` counts from the start of `bytes` within the
    /// call, and `length` is what remains of an argument with its CRLF not counted.
    fn swallow(&mut self, bytes: &[u8]) -> Parsed {
        while self.missing > 0 {
            let length = match self.length {
                Some(length) => length,
                None => match self.argument_length(bytes) {
                    Ok(Some(length)) => length,
                    Ok(None) => return self.swallowed(bytes.len() + 1),
                    Err(error) => return fatal(error),
                },
            };
            let here = bytes.len() - self.position;
            if here < length + 2 {
                // Only the CRLF must be seen whole; the argument itself may go piece by piece.
                let gone = here.min(length);
                self.position += gone;
                self.length = Some(length - gone);
                return self.swallowed(self.position + length - gone + 2);
            }
            let end = self.position + length;
            if &bytes[end..end + 2] != b"\r\n" {
                return fatal(ProtocolError::ExpectedEndOfLine);
            }
            self.position = end + 2;
            self.length = None;
            self.missing -= 1;
        }
        let consumed = std::mem::take(&mut self.position);
        let error = self.swallowing.take().expect("only a swallowed frame comes here");
        Parsed::Skipped { consumed, error }
    }

    /// Gives back what was swallowed in this call: the next starts at its first other byte.
    fn swallowed(&mut self, needed: usize) -> Parsed {
        let consumed = std::mem::take(&mut self.position);
        Parsed::Incomplete { consumed, needed: needed - consumed }
    }

    /// One line of words. `position` is how far no end of the line was found.
    fn inline(&mut self, bytes: &[u8], arguments: &mut Arguments) -> Parsed {
        if bytes[0] == TLS_HANDSHAKE {
            return fatal(ProtocolError::Foreign);
        }
        let window = &bytes[..bytes.len().min(INLINE_BYTES_MAX)];
        let Some(end) = window[self.position..].iter().position(|&byte| byte == b'\n') else {
            if bytes.len() >= INLINE_BYTES_MAX {
                return fatal(ProtocolError::InlineTooBig);
            }
            self.position = bytes.len();
            return Parsed::Incomplete { consumed: 0, needed: bytes.len() + 1 };
        };
        let end = self.position + end;
        let line = bytes[..end].strip_suffix(b"\r").unwrap_or(&bytes[..end]);
        let consumed = end + 1;
        self.position = 0;
        arguments.clear();
        if inline::split(line, arguments).is_err() {
            return fatal(ProtocolError::UnbalancedQuotes);
        }
        let request = arguments.of(bytes);
        if is_http(request) {
            return fatal(ProtocolError::Foreign);
        }
        if request.is_empty() {
            Parsed::Empty { consumed }
        } else if request.len() > self.limits.arguments {
            self.too_many_words(request.len(), consumed)
        } else {
            Parsed::Request { consumed }
        }
    }

    fn too_many_words(&self, found: usize, consumed: usize) -> Parsed {
        if self.limits.beyond == Beyond::Close {
            return fatal(ProtocolError::StrangersMultibulk);
        }
        let (found, allowed) = (found - 1, self.limits.arguments - 1);
        Parsed::Skipped { consumed, error: TooBig::Arguments { found, allowed } }
    }
}

/// The first byte of a TLS handshake, which no command begins with.
const TLS_HANDSHAKE: u8 = 0x16;

/// Whether a line is of HTTP. A browser can be made to send a page's text to this port: its body
/// must not be taken for commands. `GET` is a command as well, but never with a version behind it.
fn is_http(line: Request<'_>) -> bool {
    const NAMES: [&[u8]; 9] =
        [b"POST", b"PUT", b"HEAD", b"OPTIONS", b"DELETE", b"PATCH", b"CONNECT", b"TRACE", b"Host:"];
    let Some(first) = line.get(0) else { return false };
    NAMES.iter().any(|name| name.eq_ignore_ascii_case(first))
        || (first.eq_ignore_ascii_case(b"GET")
            && line.get(2).is_some_and(|version| version.starts_with(b"HTTP/")))
}

fn fatal(error: ProtocolError) -> Parsed {
    Parsed::Fatal { error }
}

/// A line of one type byte and one number.
enum Header {
    Whole { value: i64, end: usize },
    Incomplete,
    Wrong,
}

/// Reads the header whose type byte is at `start`. Numbers have one form, as in `number::parse`;
/// it is not used here because the digits and the end of the line are found in one pass.
#[inline]
fn header(bytes: &[u8], start: usize) -> Header {
    let mut at = start + 1;
    let negative = bytes.get(at) == Some(&b'-');
    at += usize::from(negative);
    let first = at;
    let mut value: i64 = 0;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        // Twelve digits are beyond every limit, and cannot overflow.
        if at - first >= 12 {
            return Header::Wrong;
        }
        value = value * 10 + i64::from(digit - b'0');
        at += 1;
    }
    let digits = at - first;
    match (bytes.get(at), bytes.get(at + 1)) {
        (None, _) | (Some(b'\r'), None) => Header::Incomplete,
        (Some(b'\r'), Some(b'\n')) => {
            let zero_first = bytes[first] == b'0' && (digits > 1 || negative);
            if digits == 0 || zero_first {
                return Header::Wrong;
            }
            Header::Whole { value: if negative { -value } else { value }, end: at + 2 }
        }
        _ => Header::Wrong,
    }
}

#[cfg(test)]
mod tests;
