//! The keys of requests that came together, before any of them is read in earnest.
//!
//! A request that follows in a pipeline is known while the one before it is carried out: whoever
//! looks for its key early need not wait for memory later. Only whole requests of the usual form
//! are seen, and what is seen decides nothing: [`super::resp`] reads them all again.

use smallvec::SmallVec;

/// Requests looked at together, at most. More keys than this do not stay near.
pub const AHEAD_MAX: usize = 16;

/// Arguments of a request that is looked at, at most.
const ARGUMENTS_MAX: usize = 8;

/// The first arguments after the names of the first whole requests in `bytes`, and how many bytes
/// those requests have.
pub fn keys_ahead(bytes: &[u8]) -> (SmallVec<[&[u8]; AHEAD_MAX]>, usize) {
    let (mut keys, mut at) = (SmallVec::new(), 0);
    while keys.len() < AHEAD_MAX
        && let Some((key, length)) = request(&bytes[at..])
    {
        keys.push(key);
        at += length;
    }
    (keys, at)
}

/// The key of the one request in `bytes`, if they are that and nothing else.
pub fn only_key(bytes: &[u8]) -> Option<&[u8]> {
    request(bytes).filter(|(_, length)| *length == bytes.len()).map(|(key, _)| key)
}

/// The key of the request at the front, and the length of that.
fn request(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let (count, mut at) = number(bytes, 0, b'*')?;
    if !(2..=ARGUMENTS_MAX).contains(&count) {
        return None;
    }
    let mut key = None;
    for argument in 0..count {
        let (length, start) = number(bytes, at, b'$')?;
        let end = start.checked_add(length)?;
        if argument == 1 {
            key = Some(bytes.get(start..end)?);
        }
        at = end.checked_add(2)?;
    }
    (at <= bytes.len()).then_some((key?, at))
}

/// The number behind `mark` at `at`, and where what follows its line begins.
fn number(bytes: &[u8], at: usize, mark: u8) -> Option<(usize, usize)> {
    let (first, rest) = bytes.get(at..)?.split_first()?;
    let mut value = 0;
    for (index, byte) in rest.iter().take(9).enumerate() {
        match byte {
            b'0'..=b'9' => value = value * 10 + usize::from(byte - b'0'),
            b'\r' if *first == mark && index > 0 => return Some((value, at + index + 3)),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn requests(all: &[&[&[u8]]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for words in all {
            bytes.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
            for word in *words {
                bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
                bytes.extend_from_slice(word);
                bytes.extend_from_slice(b"\r\n");
            }
        }
        bytes
    }

    #[test]
    fn keys_of_whole_requests_are_seen() {
        let bytes = requests(&[&[b"GET", b"a"], &[b"SET", b"bc", b"1"], &[b"GET", b"d"]]);
        let (keys, length) = keys_ahead(&bytes);
        assert_eq!((&keys[..], length), (&[&b"a"[..], b"bc", b"d"][..], bytes.len()));
        let (keys, length) = keys_ahead(&bytes[..bytes.len() - 1]);
        assert_eq!(keys.len(), 2);
        assert!(length < bytes.len() - 1);
    }

    #[test]
    fn one_request_alone_is_known() {
        let one = requests(&[&[b"GET", b"a"]]);
        assert_eq!(only_key(&one), Some(&b"a"[..]));
        assert_eq!(only_key(&one[..one.len() - 1]), None);
        assert_eq!(only_key(&[&one[..], b"*"].concat()), None);
    }

    #[test]
    fn it_stops_at_what_is_unusual() {
        for odd in
            [&requests(&[&[b"PING"]])[..], b"GET a\r\n", b"*-1\r\n", b"*2\r\n$-1\r\n", b"*\r\n"]
        {
            let bytes = [&requests(&[&[b"GET", b"a"]])[..], odd].concat();
            assert_eq!(keys_ahead(&bytes).0[..], [b"a"]);
        }
    }

    #[test]
    fn no_more_than_fit() {
        let bytes = requests(&[&[b"GET", b"k"]]).repeat(AHEAD_MAX + 3);
        let (keys, length) = keys_ahead(&bytes);
        assert_eq!(keys.len(), AHEAD_MAX);
        assert_eq!(keys_ahead(&bytes[length..]).0.len(), 3);
    }

    proptest! {
        #[test]
        fn any_bytes_are_borne(bytes in prop::collection::vec(prop::sample::select(b"*$123\r\n9a".to_vec()), 0..60)) {
            let (_, length) = keys_ahead(&bytes);
            prop_assert!(length <= bytes.len());
        }
    }
}
