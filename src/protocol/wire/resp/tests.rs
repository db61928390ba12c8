//! The parser against whole streams, cut streams, and bytes of any kind.

use super::*;
use proptest::prelude::*;

#[test]
fn requests_are_found_one_after_the_other() {
    let stream = b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n\r\n*0\r\n*-1\r\nPING\nECHO \"a b\"\r\n";
    let meant = [said(&["GET", "k"]), said(&["PING"]), said(&["ECHO", "a b"])];
    assert_eq!(run(&[stream], admitted()), meant);
}

#[test]
fn what_is_no_request_is_named_in_redis_words() {
    for (bytes, error) in [
        (&b"*abc\r\n"[..], ProtocolError::MultibulkLength),
        (b"*99999999999999999999\r\n", ProtocolError::MultibulkLength),
        (b"*2147483648\r\n", ProtocolError::MultibulkLength),
        (b"*\r\n", ProtocolError::MultibulkLength),
        (b"*+1\r\n", ProtocolError::MultibulkLength),
        (b"*01\r\n", ProtocolError::MultibulkLength),
        (b"*-0\r\n", ProtocolError::MultibulkLength),
        (b"*1\n$4\r\nPING\r\n", ProtocolError::MultibulkLength),
        (b"*1\r\n+PING\r\n", ProtocolError::ExpectedBulk { found: b'+' }),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", ProtocolError::ExpectedBulk { found: b'*' }),
        (b"*1\r\n$-1\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$abc\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$99999999999999999999\r\n", ProtocolError::BulkLength),
        (b"*2\r\n$3\r\nGET\r\n$5368709120\r\n", ProtocolError::BulkLength),
        (b"*1\r\n$4\r\nPINGxx", ProtocolError::ExpectedEndOfLine),
        (b"*1\r\n$3\r\nPING\r\n", ProtocolError::ExpectedEndOfLine),
        (b"ECHO \"never closed\r\n", ProtocolError::UnbalancedQuotes),
        (&[b'x'; INLINE_BYTES_MAX], ProtocolError::InlineTooBig),
        (b"\x16\x03\x01\x02", ProtocolError::Foreign),
        (b"GET / HTTP/1.1\r\n", ProtocolError::Foreign),
        (b"post /index.html\r\n", ProtocolError::Foreign),
        (b"Host: localhost\r\n", ProtocolError::Foreign),
    ] {
        let outcome = run(&[bytes], admitted());
        assert_eq!(outcome, [Seen::Fatal(error)], "{:?}", String::from_utf8_lossy(bytes));
        let bytes_apart: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(run(&bytes_apart, admitted()), [Seen::Fatal(error)]);
    }
    let text = ProtocolError::ExpectedBulk { found: b'\n' }.to_string();
    assert_eq!(text, "ERR Protocol error: expected '$', got ' '");
    assert!(ProtocolError::Foreign.answer().is_none());
}

/// `GET` with two words behind it is a wrong command and not a browser.
#[test]
fn a_get_is_not_taken_for_a_browser() {
    assert_eq!(run(&[b"GET a b\r\n"], admitted()), [Seen::Request(said_words(&["GET", "a", "b"]))]);
}

#[test]
fn a_request_beyond_a_limit_is_swallowed_and_the_next_one_is_read() {
    let limits = RequestLimits { arguments: 3, argument_bytes: 10, frame_bytes: 60, ..admitted() };
    let big = [frame(&["SET", "k", &"v".repeat(11)]), frame(&["GET", "k"])].concat();
    let many = [frame(&["MGET", "a", "b", "c"]), frame(&["GET", "k"])].concat();
    let allowed = 10;
    let next = said(&["GET", "k"]);
    for size in 1..big.len() {
        let pieces: Vec<&[u8]> = big.chunks(size).collect();
        let error = Seen::Skipped(TooBig::Argument { found: 11, allowed });
        assert_eq!(run(&pieces, limits), [error, next.clone()]);
        let pieces: Vec<&[u8]> = many.chunks(size).collect();
        let error = Seen::Skipped(TooBig::Arguments { found: 3, allowed: 2 });
        assert_eq!(run(&pieces, limits), [error, next.clone()]);
    }
    let limits = RequestLimits { frame_bytes: 30, ..limits };
    let wide = frame(&["MGET", &"a".repeat(9), &"b".repeat(9)]);
    assert_eq!(run(&[&wide], limits), [Seen::Skipped(TooBig::Frame { allowed: 30 })]);
}

#[test]
fn a_stranger_is_not_read_at_length() {
    let long = "x".repeat(16 * 1024 + 1);
    for (bytes, error) in [
        (frame(&["a"; 11]), ProtocolError::StrangersMultibulk),
        (frame(&["AUTH", &long]), ProtocolError::StrangersBulk),
        (frame(&[&long[1..]; 5]), ProtocolError::StrangersBulk),
        (b"a b c d e f g h i j k\r\n".to_vec(), ProtocolError::StrangersMultibulk),
    ] {
        assert_eq!(run(&[&bytes], RequestLimits::STRANGER), [Seen::Fatal(error)]);
    }
    let hello = ["HELLO", "3", "AUTH", "default", &long[1..], "SETNAME", "me"];
    assert_eq!(run(&[&frame(&hello)], RequestLimits::STRANGER), [said(&hello)]);
}

/// A swallowed frame is not kept: what must be held of it is less than a header.
#[test]
fn what_is_swallowed_takes_no_memory() {
    let bytes = frame(&["SET", "k", &"v".repeat(100_000)]);
    let limits = RequestLimits { argument_bytes: 1_000, ..admitted() };
    let (mut parser, mut arguments) = (RequestParser::new(limits), Arguments::default());
    let mut held = Vec::new();
    for piece in bytes.chunks(500) {
        held.extend_from_slice(piece);
        match parser.parse(&held, &mut arguments) {
            Parsed::Incomplete { consumed, .. } => drop(held.drain(..consumed)),
            Parsed::Skipped { consumed, .. } => drop(held.drain(..consumed)),
            other => panic!("{other:?}"),
        }
        assert!(held.len() <= 1_000, "{} bytes are held", held.len());
    }
    assert!(held.is_empty());
    assert!(parser.is_idle());
}

/// The hint is never more than what the frame needs, or the caller would wait for ever.
#[test]
fn no_more_is_asked_for_than_will_come() {
    let bytes = frame(&["SET", "key", "value", "EX", "10"]);
    let (mut parser, mut arguments) = (RequestParser::new(admitted()), Arguments::default());
    for len in 0..bytes.len() {
        match parser.parse(&bytes[..len], &mut arguments) {
            Parsed::Incomplete { consumed: 0, needed } => {
                assert!((len + 1..=bytes.len()).contains(&needed), "{needed} at {len}");
            }
            other => panic!("{other:?}"),
        }
    }
}

proptest! {
    #[test]
    fn any_cut_of_a_stream_gives_the_same_requests(
        requests in prop::collection::vec(request(), 1..12),
        cuts in prop::collection::vec(1_usize..40, 0..60),
    ) {
        let stream: Vec<u8> = requests.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        let meant: Vec<Seen> = requests.into_iter().filter_map(|(_, seen)| seen).collect();
        let mut pieces = Vec::new();
        let mut rest = &stream[..];
        for cut in cuts {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        pieces.push(rest);
        prop_assert_eq!(run(&pieces, tight()), meant);
    }

    #[test]
    fn any_bytes_end_in_an_outcome_and_little_is_held(
        stream in prop::collection::vec(
            prop_oneof![
                4 => prop::sample::select(b"*$\r\n0123456789-+ ".to_vec()),
                1 => any::<u8>(),
            ],
            0..600,
        ),
        size in 1_usize..50,
    ) {
        let pieces: Vec<&[u8]> = stream.chunks(size).collect();
        let whole = run(&[&stream], tight());
        let cut = run(&pieces, tight());
        prop_assert_eq!(whole, cut);
    }
}

/// What a client of the parser sees of a stream.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Request(Vec<Vec<u8>>),
    Skipped(TooBig),
    Fatal(ProtocolError),
}

/// Feeds the pieces as a session does, and watches what it has to hold.
fn run(pieces: &[&[u8]], limits: RequestLimits) -> Vec<Seen> {
    let (mut parser, mut arguments) = (RequestParser::new(limits), Arguments::default());
    let (mut held, mut seen) = (Vec::new(), Vec::new());
    for piece in pieces {
        held.extend_from_slice(piece);
        loop {
            let consumed = match parser.parse(&held, &mut arguments) {
                Parsed::Incomplete { consumed, needed } => {
                    held.drain(..consumed);
                    assert!(needed > held.len(), "it waits for what it has");
                    break;
                }
                Parsed::Request { consumed } => {
                    let words = arguments.of(&held).iter().map(<[u8]>::to_vec).collect();
                    seen.push(Seen::Request(words));
                    consumed
                }
                Parsed::Empty { consumed } => consumed,
                Parsed::Skipped { consumed, error } => {
                    seen.push(Seen::Skipped(error));
                    consumed
                }
                Parsed::Fatal { error } => {
                    seen.push(Seen::Fatal(error));
                    return seen;
                }
            };
            assert!(consumed <= held.len());
            held.drain(..consumed);
        }
        let bound = limits.frame_bytes.max(INLINE_BYTES_MAX) + piece.len() + HEADER_BYTES_MAX;
        assert!(held.len() <= bound, "{} bytes are held", held.len());
        assert!(arguments.len() <= limits.arguments.max(INLINE_BYTES_MAX));
    }
    seen
}

/// The bytes of one request of any form, and what is to be seen of it.
fn request() -> impl Strategy<Value = (Vec<u8>, Option<Seen>)> {
    let words = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 1..9);
    let array = words.prop_map(|words| (frame_of(&words), Some(judged(words))));
    // Letters that spell no method of HTTP: that is another protocol.
    let typed = prop::collection::vec("[a-f]{1,8}", 1..5).prop_map(|words| {
        let line = format!(" {} \r\n", words.join("  ")).into_bytes();
        let words = words.into_iter().map(String::into_bytes).collect();
        (line, Some(Seen::Request(words)))
    });
    let empty = prop::sample::select(vec!["\r\n", "*0\r\n", "*-1\r\n", "\n", "  \r\n"])
        .prop_map(|text| (text.as_bytes().to_vec(), None));
    prop_oneof![4 => array, 1 => typed, 1 => empty]
}

/// Limits within reach of a test.
fn tight() -> RequestLimits {
    RequestLimits { arguments: 6, argument_bytes: 25, frame_bytes: 120, beyond: Beyond::Skip }
}

/// What the limits make of an array of these words, found by looking at the words alone.
fn judged(words: Vec<Vec<u8>>) -> Seen {
    let limits = tight();
    if words.len() > limits.arguments {
        let (found, allowed) = (words.len() - 1, limits.arguments - 1);
        return Seen::Skipped(TooBig::Arguments { found, allowed });
    }
    let mut bytes = format!("*{}\r\n", words.len()).len();
    for word in &words {
        let (found, allowed) = (word.len(), limits.argument_bytes);
        if found > allowed {
            return Seen::Skipped(TooBig::Argument { found, allowed });
        }
        bytes += format!("${}\r\n", word.len()).len() + word.len() + 2;
        if bytes > limits.frame_bytes {
            return Seen::Skipped(TooBig::Frame { allowed: limits.frame_bytes });
        }
    }
    Seen::Request(words)
}

fn admitted() -> RequestLimits {
    RequestLimits::admitted(1 << 20)
}

fn said(words: &[&str]) -> Seen {
    Seen::Request(said_words(words))
}

fn said_words(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

fn frame(words: &[&str]) -> Vec<u8> {
    frame_of(&said_words(words))
}

fn frame_of(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
