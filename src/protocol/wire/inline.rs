//! The words of a command typed by hand, quotes and escapes resolved as Redis resolves them.

use super::arguments::Arguments;

/// A quote was opened and not closed, or closed in the middle of a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct UnbalancedQuotes;

/// Splits `line`, which has lost its end-of-line, into `arguments`.
pub(super) fn split(line: &[u8], arguments: &mut Arguments) -> Result<(), UnbalancedQuotes> {
    arguments.inline();
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        let start = arguments.inline().len();
        rest = skip_blanks(word(rest, arguments.inline())?);
        arguments.end_word(start);
    }
    Ok(())
}

/// Appends one word to `out` and returns what follows it. Quotes may begin within a word, as in
/// `a"b c"`, but what follows the closing one must be a blank.
fn word<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    while let [first, after @ ..] = rest {
        match first {
            b'"' => return closed(double_quoted(after, out)?),
            b'\'' => return closed(single_quoted(after, out)?),
            byte if is_blank(*byte) => break,
            byte => out.push(*byte),
        }
        rest = after;
    }
    Ok(rest)
}

fn closed(rest: &[u8]) -> Result<&[u8], UnbalancedQuotes> {
    match rest.first() {
        Some(&byte) if !is_blank(byte) => Err(UnbalancedQuotes),
        _ => Ok(rest),
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Ok(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                out.push(hex(*high) << 4 | hex(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
            [] => return Err(UnbalancedQuotes),
        }
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        rest = match rest {
            [b'\'', after @ ..] => return Ok(after),
            [b'\\', b'\'', after @ ..] => {
                out.push(b'\'');
                after
            }
            [byte, after @ ..] => {
                out.push(*byte);
                after
            }
            [] => return Err(UnbalancedQuotes),
        }
    }
}

fn skip_blanks(mut rest: &[u8]) -> &[u8] {
    while let [byte, after @ ..] = rest
        && is_blank(*byte)
    {
        rest = after;
    }
    rest
}

/// `isspace` of C.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        letter => (letter | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_split_as_redis_splits_them() {
        assert_eq!(words(b"  PING\t a \x0b"), ["PING", "a"]);
        assert_eq!(words(br#"ECHO "a b\x41\n""#), ["ECHO", "a bA\n"]);
        assert_eq!(words(br"ECHO 'c \'d'"), ["ECHO", "c 'd"]);
        assert_eq!(words(br#"ECHO "a\x4g\q""#), ["ECHO", "ax4gq"]);
        assert_eq!(words(br#"ECHO a"b c""#), ["ECHO", "ab c"]);
        assert_eq!(words(br#""""#), [""]);
        assert_eq!(words(b"   "), [""; 0]);
    }

    #[test]
    fn a_quote_must_be_closed_and_followed_by_a_blank() {
        for line in
            [&br#"ECHO "a"#[..], b"ECHO 'a", br#"ECHO "a"b"#, b"ECHO 'a'b", br#"""#, br#""\"#]
        {
            assert_eq!(split(line, &mut Arguments::default()), Err(UnbalancedQuotes));
        }
    }

    fn words(line: &[u8]) -> Vec<String> {
        let mut arguments = Arguments::default();
        split(line, &mut arguments).expect("balanced");
        let words = arguments.of(b"").iter().map(|word| String::from_utf8_lossy(word).into_owned());
        words.collect()
    }
}
