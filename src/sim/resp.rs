//! The client's half of the protocol: requests written, replies read. It shares nothing with the
//! server's, so that a mistake there is not made here too.

/// A reply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::sim) enum Reply {
    /// `+…`
    Simple(Vec<u8>),
    /// `-…`
    Error(String),
    /// `:…`
    Integer(i64),
    /// `$…`, or one of the two forms of nothing.
    Bulk(Option<Vec<u8>>),
    /// `*…`, or a map as its keys and values in turn.
    Array(Vec<Reply>),
}

/// Appends a request.
pub(in crate::sim) fn request(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend(format!("*{}\r\n", words.len()).bytes());
    for word in words {
        out.extend(format!("${}\r\n", word.len()).bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// Reads the first reply and its length, if all of it is there.
///
/// # Panics
///
/// If it is no reply.
pub(in crate::sim) fn parse(bytes: &[u8]) -> Option<(Reply, usize)> {
    let end = bytes.windows(2).position(|two| two == b"\r\n")?;
    let (line, mut at) = (&bytes[1..end], end + 2);
    let number = || -> i64 {
        let text = str::from_utf8(line).expect("a number is text");
        text.parse().unwrap_or_else(|_| panic!("no number: {text:?}"))
    };
    let reply = match bytes[0] {
        b'+' => Reply::Simple(line.to_vec()),
        b'-' => Reply::Error(String::from_utf8_lossy(line).into_owned()),
        b':' => Reply::Integer(number()),
        b'_' => Reply::Bulk(None),
        b'$' if line == b"-1" => Reply::Bulk(None),
        b'$' => {
            let length = number() as usize;
            let body = bytes.get(at..at + length + 2)?;
            assert!(body.ends_with(b"\r\n"), "a bulk that does not end");
            at += length + 2;
            Reply::Bulk(Some(body[..length].to_vec()))
        }
        kind @ (b'*' | b'%') => {
            let count = number() * if kind == b'%' { 2 } else { 1 };
            let mut replies = Vec::new();
            for _ in 0..count {
                let (reply, length) = parse(&bytes[at..])?;
                at += length;
                replies.push(reply);
            }
            Reply::Array(replies)
        }
        other => panic!("a reply that begins with {:?}", char::from(other)),
    };
    Some((reply, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_whole_or_not_at_all() {
        let bytes = b"*2\r\n$3\r\na\r\n\r\n:-7\r\n+OK\r\n";
        let array = vec![Reply::Bulk(Some(b"a\r\n".to_vec())), Reply::Integer(-7)];
        for length in 0..18 {
            assert_eq!(parse(&bytes[..length]), None, "{length} bytes");
        }
        assert_eq!(parse(bytes), Some((Reply::Array(array), 18)));
        assert_eq!(parse(&bytes[18..]), Some((Reply::Simple(b"OK".to_vec()), 5)));
        assert_eq!(parse(b"$-1\r\n"), Some((Reply::Bulk(None), 5)));
    }
}
