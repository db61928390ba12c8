//! Whether bytes are exactly one reply of a kind that commands of keys have.
//!
//! What another node answers is passed on to a client as it is. One reply too few or too many would
//! make the client take each later answer for another one's, so nothing is passed on unseen.

use super::number;

/// Arrays of siblings hold bulks, and an array of owners holds arrays of them.
const DEPTH_MAX: usize = 3;

/// Whether `bytes` are one reply and nothing else.
pub fn is_one_reply(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    take(&mut rest, DEPTH_MAX).is_some() && rest.is_empty()
}

fn take(bytes: &mut &[u8], depth: usize) -> Option<()> {
    let end = bytes.iter().position(|byte| *byte == b'\r')?;
    let (line, rest) = bytes.split_at(end);
    let (kind, line) = line.split_first()?;
    *bytes = rest.strip_prefix(b"\r\n")?;
    let is_text = !line.contains(&b'\n');
    match kind {
        b'+' | b'-' => is_text.then_some(()),
        b':' => number::parse(line).map(drop),
        b'_' | b'*' | b'$' if *kind == b'_' || line == b"-1" => {
            (*kind != b'_' || line.is_empty()).then_some(())
        }
        b'$' => {
            let length = usize::try_from(number::parse(line)?).ok()?;
            *bytes = bytes.get(length..)?.strip_prefix(b"\r\n")?;
            Some(())
        }
        b'*' | b'%' => {
            let count = usize::try_from(number::parse(line)?).ok()?;
            let each = if *kind == b'%' { 2 } else { 1 };
            // Each takes three bytes at least: no count is believed that the bytes do not bear out.
            if depth == 0 || count > bytes.len() {
                return None;
            }
            (0..each * count).try_for_each(|_| take(bytes, depth - 1))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_reply_is_one_and_nothing_else_is() {
        for whole in [
            &b"+OK\r\n"[..],
            b"-BUSY too much\r\n",
            b":-7\r\n",
            b"$3\r\na\r\n\r\n",
            b"$0\r\n\r\n",
            b"$-1\r\n",
            b"*-1\r\n",
            b"_\r\n",
            b"*2\r\n$1\r\nc\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
            b"%1\r\n+a\r\n:1\r\n",
        ] {
            assert!(is_one_reply(whole), "{:?}", whole.escape_ascii().to_string());
            for length in 0..whole.len() {
                assert!(!is_one_reply(&whole[..length]), "{length} bytes of it");
            }
            assert!(!is_one_reply(&[whole, b"+OK\r\n"].concat()), "and another one");
        }
    }

    #[test]
    fn what_would_take_a_client_out_of_step_is_none() {
        for bytes in [
            &b""[..],
            b"OK\r\n",
            b"+O\nK\r\n",
            b"+O\rK\r\n",
            b"$5\r\nabc\r\n",
            b"$-2\r\n",
            b"$99999999999999999999\r\n",
            b"*9223372036854775807\r\n",
            b"*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n",
            b":\r\n",
            b":+1\r\n",
            b":007\r\n",
            b":-0\r\n",
            b"_x\r\n",
            b"*2\r\n:1\r\n",
        ] {
            assert!(!is_one_reply(bytes), "{:?}", bytes.escape_ascii().to_string());
        }
    }
}
