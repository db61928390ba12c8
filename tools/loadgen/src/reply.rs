//! Finds the replies in a stream of bytes, RESP 2 and 3.
//!
//! [`parse`] reads one whole reply from a slice and copies nothing. [`Inbox`] feeds it from pieces
//! that end anywhere: replies that arrive whole are read in place, only the torn tail is kept, and
//! it is not looked at again before it can be complete, so that a large value that comes in small
//! pieces costs one pass and not one per piece.

/// One reply, borrowed from the bytes it came in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reply<'a> {
    /// `+OK`, numbers, booleans: an answer without a body.
    Status(&'a [u8]),
    /// `-WORD what happened`, without the dash.
    Error(&'a [u8]),
    /// `$-1`, `*-1` or `_`: there is no such thing.
    Nil,
    /// A string of known length.
    Bulk(&'a [u8]),
    /// So many replies, one after the other in `body`.
    Array {
        /// How many.
        count: usize,
        /// Their bytes, complete and checked; [`elements`] walks them.
        body: &'a [u8],
    },
}

/// The reply cannot be read yet, or never.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Obstacle {
    /// The slice must be at least so long before another try can succeed.
    Incomplete {
        /// Bytes from the start of the reply.
        needed: usize,
    },
    /// This is not RESP.
    Malformed,
}

/// Reads the reply at the start of `bytes`; says how many bytes it takes.
pub fn parse(bytes: &[u8]) -> Result<(Reply<'_>, usize), Obstacle> {
    parse_at(bytes, 0, 0)
}

/// The elements of an array's body.
pub fn elements(body: &[u8]) -> impl Iterator<Item = Reply<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (reply, used) = parse(rest).ok()?;
        rest = &rest[used..];
        Some(reply)
    })
}

/// Puts the pieces of one connection's stream together.
#[derive(Debug, Default)]
pub struct Inbox {
    torn: Vec<u8>,
    needed: usize,
}

/// The stream is not RESP; nothing after this can be understood.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Malformed;

impl Inbox {
    /// Takes the next piece and hands over every reply that it completes.
    pub fn feed(
        &mut self,
        piece: &[u8],
        mut deliver: impl FnMut(Reply<'_>),
    ) -> Result<(), Malformed> {
        if self.torn.is_empty() {
            let (used, needed) = deliver_all(piece, &mut deliver)?;
            self.torn.extend_from_slice(&piece[used..]);
            self.needed = needed;
            return Ok(());
        }
        self.torn.extend_from_slice(piece);
        if self.torn.len() < self.needed {
            return Ok(());
        }
        let (used, needed) = deliver_all(&self.torn, &mut deliver)?;
        self.torn.drain(..used);
        self.needed = needed;
        Ok(())
    }

    /// Whether a reply has begun and not ended.
    pub fn is_torn(&self) -> bool {
        !self.torn.is_empty()
    }
}

/// Says how many bytes were used, and how many the torn reply after them needs.
fn deliver_all(
    bytes: &[u8],
    deliver: &mut impl FnMut(Reply<'_>),
) -> Result<(usize, usize), Malformed> {
    let mut used = 0;
    loop {
        match parse(&bytes[used..]) {
            Ok((reply, length)) => {
                deliver(reply);
                used += length;
            }
            Err(Obstacle::Incomplete { needed }) => return Ok((used, needed)),
            Err(Obstacle::Malformed) => return Err(Malformed),
        }
    }
}

fn parse_at(bytes: &[u8], start: usize, depth: usize) -> Result<(Reply<'_>, usize), Obstacle> {
    if depth > DEPTH_MAX {
        return Err(Obstacle::Malformed);
    }
    let Some(&mark) = bytes.get(start) else {
        return Err(Obstacle::Incomplete { needed: start + 1 });
    };
    let (line, body) = line_at(bytes, start + 1)?;
    match mark {
        b'+' | b':' | b',' | b'#' | b'(' => Ok((Reply::Status(line), body)),
        b'-' => Ok((Reply::Error(line), body)),
        b'_' => Ok((Reply::Nil, body)),
        b'$' | b'=' | b'!' => bulk_at(bytes, mark, line, body),
        b'*' | b'~' | b'>' => array_at(bytes, line, 1, body, depth),
        b'%' => array_at(bytes, line, 2, body, depth),
        _ => Err(Obstacle::Malformed),
    }
}

fn bulk_at<'a>(
    bytes: &'a [u8],
    mark: u8,
    line: &[u8],
    body: usize,
) -> Result<(Reply<'a>, usize), Obstacle> {
    let Some(length) = length_of(line)? else {
        return Ok((Reply::Nil, body));
    };
    let end = body + length;
    let Some(ending) = bytes.get(end..end + 2) else {
        return Err(Obstacle::Incomplete { needed: end + 2 });
    };
    if ending != b"\r\n" {
        return Err(Obstacle::Malformed);
    }
    let content = &bytes[body..end];
    Ok((if mark == b'!' { Reply::Error(content) } else { Reply::Bulk(content) }, end + 2))
}

fn array_at<'a>(
    bytes: &'a [u8],
    line: &[u8],
    replies_each: usize,
    body: usize,
    depth: usize,
) -> Result<(Reply<'a>, usize), Obstacle> {
    let Some(entries) = length_of(line)? else {
        return Ok((Reply::Nil, body));
    };
    let count = entries * replies_each;
    let mut end = body;
    for _ in 0..count {
        (_, end) = parse_at(bytes, end, depth + 1)?;
    }
    Ok((Reply::Array { count, body: &bytes[body..end] }, end))
}

/// The line that starts at `start`, and where the next byte after it is.
fn line_at(bytes: &[u8], start: usize) -> Result<(&[u8], usize), Obstacle> {
    let rest = &bytes[start..];
    match rest.iter().position(|&byte| byte == b'\r') {
        Some(length) => match rest.get(length + 1) {
            Some(b'\n') => Ok((&rest[..length], start + length + 2)),
            Some(_) => Err(Obstacle::Malformed),
            None => Err(Obstacle::Incomplete { needed: start + length + 2 }),
        },
        None if rest.len() > LINE_BYTES_MAX => Err(Obstacle::Malformed),
        None => Err(Obstacle::Incomplete { needed: bytes.len() + 2 }),
    }
}

/// A length of 0 to [`LENGTH_MAX`]; `None` is RESP 2's "-1, there is no such thing".
fn length_of(line: &[u8]) -> Result<Option<usize>, Obstacle> {
    if line == b"-1" {
        return Ok(None);
    }
    if line.is_empty() || line.len() > 10 || !line.iter().all(u8::is_ascii_digit) {
        return Err(Obstacle::Malformed);
    }
    let length = line.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    if length > LENGTH_MAX { Err(Obstacle::Malformed) } else { Ok(Some(length)) }
}

/// A reply is an array of arrays at most; deeper nesting would be a stream that is not RESP.
const DEPTH_MAX: usize = 8;

/// No status and no error is longer: 64 KiB.
const LINE_BYTES_MAX: usize = 1 << 16;

/// Redis's own limit of a string, 512 MiB. Longer lengths are a torn or foreign stream.
const LENGTH_MAX: usize = 512 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_kind_is_recognised() {
        let kinds: [(&[u8], Reply<'_>); 8] = [
            (b"+OK\r\n", Reply::Status(b"OK")),
            (b":42\r\n", Reply::Status(b"42")),
            (b"-BUSY later\r\n", Reply::Error(b"BUSY later")),
            (b"$-1\r\n", Reply::Nil),
            (b"_\r\n", Reply::Nil),
            (b"$5\r\na\r\nbc\r\n", Reply::Bulk(b"a\r\nbc")),
            (b"!4\r\nERR \r\n", Reply::Error(b"ERR ")),
            (b"%1\r\n+a\r\n:1\r\n", Reply::Array { count: 2, body: b"+a\r\n:1\r\n" }),
        ];
        for (bytes, reply) in kinds {
            assert_eq!(parse(bytes), Ok((reply, bytes.len())));
        }
    }

    #[test]
    fn what_is_not_resp_is_refused() {
        let foreign: [&[u8]; 6] = [
            b"HTTP/1.1 400\r\n",
            b"$x\r\n",
            b"$3\r\nabcde\r\n",
            b"+a\rb\r\n",
            b"$99999999999\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
        ];
        for bytes in foreign {
            assert_eq!(parse(bytes), Err(Obstacle::Malformed), "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_long_value_is_not_looked_at_before_it_is_there() {
        assert_eq!(parse(b"$1000\r\nab"), Err(Obstacle::Incomplete { needed: 1_009 }));
        assert_eq!(
            parse(b"*2\r\n+a\r\n$10\r\n"),
            Err(Obstacle::Incomplete { needed: 8 + 5 + 10 + 2 })
        );
    }

    fn encoded() -> impl Strategy<Value = Vec<u8>> {
        let leaf = prop_oneof![
            Just(b"+OK\r\n".to_vec()),
            Just(b"$-1\r\n".to_vec()),
            Just(b"_\r\n".to_vec()),
            "[A-Z]{1,9} [a-z ]{0,20}".prop_map(|text| format!("-{text}\r\n").into_bytes()),
            prop::collection::vec(any::<u8>(), 0..60).prop_map(|body| {
                let mut bytes = format!("${}\r\n", body.len()).into_bytes();
                bytes.extend_from_slice(&body);
                bytes.extend_from_slice(b"\r\n");
                bytes
            }),
        ];
        leaf.prop_recursive(3, 12, 4, |inner| {
            prop::collection::vec(inner, 0..4).prop_map(|items| {
                [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
            })
        })
    }

    proptest! {
        #[test]
        fn replies_are_the_same_however_the_stream_is_split(
            replies in prop::collection::vec(encoded(), 1..8),
            cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
        ) {
            let stream = replies.concat();
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let mut inbox = Inbox::default();
            let mut seen = Vec::new();
            for cut in cuts.windows(2) {
                inbox
                    .feed(&stream[cut[0]..cut[1]], |reply| seen.push(format!("{reply:?}")))
                    .expect("well formed");
            }
            let expected: Vec<String> = replies
                .iter()
                .map(|bytes| format!("{:?}", parse(bytes).expect("one whole reply").0))
                .collect();
            prop_assert_eq!(seen, expected);
            prop_assert!(!inbox.is_torn());
        }

        #[test]
        fn the_bytes_asked_for_are_never_more_than_the_reply_has(reply in encoded(), at in any::<prop::sample::Index>()) {
            let length = at.index(reply.len());
            match parse(&reply[..length]) {
                Err(Obstacle::Incomplete { needed }) => {
                    prop_assert!(needed > length);
                    prop_assert!(needed <= reply.len());
                }
                other => prop_assert!(false, "{:?} of a torn reply", other),
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
        }
    }
}
