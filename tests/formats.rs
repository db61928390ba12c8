//! The bytes of versions: what they are for ever, and what bytes that are not ours do.
//!
//! Nothing that comes from a disk, a peer or a client may panic, and no two byte strings may be
//! the same object: digests compare bytes.

use std::fs;

use proptest::collection::btree_map;
use proptest::collection::btree_set;
use proptest::collection::vec;
use proptest::prelude::*;
use stator::base::id::ActorId;
use stator::base::limits::CONTEXT_BYTES_TYPICAL_MAX;
use stator::base::time::Wall;
use stator::protocol::version::BadContext;
use stator::protocol::version::Cause;
use stator::protocol::version::Conflict;
use stator::protocol::version::Content;
use stator::protocol::version::Context;
use stator::protocol::version::ContextSecret;
use stator::protocol::version::DotSource;
use stator::protocol::version::HybridClock;
use stator::protocol::version::Object;
use stator::protocol::version::Record;
use stator::protocol::version::Write;

const WALL: Wall = Wall::from_millis(1_790_000_000_000);
const KEY: &[u8] = b"cart:4711";
const SECRET: ContextSecret = ContextSecret::new([3; 32]);

/// One shard.
struct Writer {
    dots: DotSource,
    clock: HybridClock,
}

/// `tests/golden/object_v1.hex`: a name, a blank and the bytes of a record on each line. The file
/// is never edited: other bytes are another version.
#[test]
fn golden_bytes_stay() {
    let golden = fs::read_to_string("tests/golden/object_v1.hex").expect("it is in the repository");
    let written: String = golden_records()
        .map(|(name, bytes)| {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{name} {hex}\n")
        })
        .concat();
    assert_eq!(written, golden);
    for (name, bytes) in golden_records() {
        let record = Record::decode(&bytes).expect(name);
        assert_eq!(encode(&record), bytes, "{name}");
    }
}

#[test]
fn a_typical_record_is_small() {
    let [(_, bytes), ..] = golden_records();
    assert!(bytes.len() - 5 <= 56, "{} bytes beside the value", bytes.len() - 5);
}

#[test]
fn an_expired_value_is_a_tombstone_in_waiting() {
    let mut writer = Writer::start(1);
    let mut record = Record::new(&writer.dots, Conflict::Siblings);
    let expiry = Wall::from_millis(WALL.as_millis() + 1);
    writer.put(&mut record, Content::Value(b"early"), None, Cause::Blind);
    writer.put(&mut record, Content::Value(b"late"), Some(expiry), Cause::Blind);
    writer.put(&mut record, Content::Tombstone, Some(expiry), Cause::Blind);

    let object = record.object();
    let values = |wall: Wall| object.values(wall).collect::<Vec<_>>();
    assert_eq!(object.sibling_count(), 3);
    assert_eq!(values(expiry), [&b"early"[..], &b"late"[..]]);
    assert_eq!(values(Wall::from_millis(expiry.as_millis() + 1)), [&b"early"[..]]);
    let latest = object.latest().expect("there are three");
    assert_eq!((latest.content, latest.expiry), (Content::Tombstone, None));
}

/// Design: "10,000 chained puts keep it under 1 KiB", beside a sibling that the client never saw,
/// between writes of other keys, over 32 restarts of the coordinator.
#[test]
fn a_client_that_puts_on_and_on_has_a_short_context() {
    for first in [None, Some(Cause::Blind)] {
        let mut writer = Writer::start(0);
        let mut stored = Vec::new();
        let mut record = Record::new(&writer.dots, Conflict::Siblings);
        if let Some(cause) = first {
            writer.put(&mut record, Content::Value(b"not seen"), None, cause);
        }
        record.encode_into(&mut stored);
        let mut token = Vec::new();
        for turn in 1..=10_000 {
            if turn % 307 == 0 {
                writer = Writer::start(turn);
            }
            writer.put(
                &mut Record::new(&writer.dots, Conflict::Siblings),
                Content::Tombstone,
                None,
                Cause::Blind,
            );
            let mut record = Record::decode(&stored).expect("it was encoded");
            let context = Context::decode(&token, KEY, &SECRET).expect("it is ours");
            let context =
                writer.put(&mut record, Content::Value(b"on"), None, Cause::Context(&context));
            token = encode_context(&context);
            let next = encode(&record);
            assert!(token.len() < CONTEXT_BYTES_TYPICAL_MAX, "{} bytes", token.len());
            assert_eq!(record.object().sibling_count(), 1 + usize::from(first.is_some()));
            drop(record);
            stored = next;
        }
    }
}

#[test]
fn a_context_of_ten_siblings_of_ten_lives_is_short() {
    let token = encode_context(&ten_siblings().object().context());
    assert!(token.len() <= CONTEXT_BYTES_TYPICAL_MAX, "{} bytes", token.len());
    assert!(token.iter().all(u8::is_ascii_graphic));
}

#[test]
fn the_empty_token_is_the_empty_context() {
    assert_eq!(Context::decode(b"", KEY, &SECRET), Ok(Context::default()));
    assert_eq!(encode_context(&Context::default()), b"");
}

#[test]
fn only_the_very_token_of_the_key_is_a_context() {
    let context = ten_siblings().object().context();
    let token = encode_context(&context);
    let bad = |token: &[u8]| assert_eq!(Context::decode(token, KEY, &SECRET), Err(BadContext));
    assert_eq!(Context::decode(&token, KEY, &SECRET), Ok(context));

    // Edited: every bit, which includes every unused one, and every character.
    for at in 0..token.len() {
        for byte in (0..=255).filter(|byte| *byte != token[at]) {
            let mut edited = token.clone();
            edited[at] = byte;
            bad(&edited);
        }
    }
    // Cut, at both ends, and with something behind.
    for len in 1..token.len() {
        bad(&token[..len]);
        bad(&token[len..]);
    }
    for tail in [&b"A"[..], b"AA", b"AAAA", b"=", b"==", b"\n", b" "] {
        bad(&[&token, tail].concat());
    }
    // Spliced: the front of one token and the back of another. They begin alike: in the same
    // millisecond.
    let other = encode_context(&Writer::start(99).first_put());
    assert!(Context::decode(&other, KEY, &SECRET).is_ok());
    for len in 1..other.len() {
        let spliced = [&token[..len], &other[len..]].concat();
        if spliced != other {
            bad(&spliced);
        }
    }
    bad(&[&token[..], &other].concat());
    // Another key, another secret.
    assert_eq!(Context::decode(&token, b"cart:4712", &SECRET), Err(BadContext));
    let secret = ContextSecret::new([4; 32]);
    assert_eq!(Context::decode(&token, KEY, &secret), Err(BadContext));
}

/// The length in the tag keeps a byte from moving between the key and the context.
#[test]
fn a_context_is_bound_to_the_whole_key() {
    let token = encode_context(&ten_siblings().object().context());
    for key in [&KEY[..KEY.len() - 1], &[KEY, b"\x01"].concat(), b""] {
        assert_eq!(Context::decode(&token, key, &SECRET), Err(BadContext));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_never_panic(bytes in vec(any::<u8>(), 0..200)) {
        check_canonical(&bytes);
        let _ = Context::decode(&bytes, KEY, &SECRET);
    }

    /// Small numbers are counts, versions and kinds: they get deeper into the decoder.
    #[test]
    fn likely_bytes_never_panic(mut bytes in vec(0_u8..4, 0..120)) {
        check_canonical(&bytes);
        if let [first, second, ..] = &mut bytes[..] {
            (*first, *second) = (1, 1);
        }
        check_canonical(&bytes);
    }

    #[test]
    fn bent_and_broken_objects_never_decode_to_something_else(
        bytes in object_bytes(),
        at in any::<prop::sample::Index>(),
        bit in 0_u32..8,
    ) {
        prop_assert_eq!(Object::decode(&bytes).map(|object| encode_object(&object)), Ok(bytes.clone()));
        for len in 0..bytes.len() {
            prop_assert!(Object::decode(&bytes[..len]).is_err(), "a front is not an object");
        }
        prop_assert!(Object::decode(&[&bytes[..], &[0]].concat()).is_err(), "nor is more");
        let mut bent = bytes;
        let at = at.index(bent.len());
        bent[at] ^= 1_u8 << bit;
        check_canonical(&bent);
    }

    /// Whatever histories can or cannot make: join is a least upper bound.
    #[test]
    fn join_is_a_semilattice(
        a in object_bytes(),
        b in object_bytes(),
        c in object_bytes(),
    ) {
        let [a, b, c] = [&a, &b, &c].map(|bytes| Object::decode(bytes).expect("it was encoded"));
        prop_assert_eq!(joined(&a, &a), a.clone(), "idempotent");
        prop_assert_eq!(joined(&a, &b), joined(&b, &a), "commutative");
        prop_assert_eq!(joined(&joined(&a, &b), &c), joined(&a, &joined(&b, &c)), "associative");
        let upper = joined(&a, &b);
        prop_assert_eq!(joined(&upper, &a), upper.clone(), "an upper bound");
        prop_assert_eq!(a.clone().join(&b), upper != a, "it tells whether it changed");
        prop_assert_eq!(joined(&a, &Object::default()), a, "nothing is the least");
    }
}

/// If it decodes, it is the one encoding of what it decodes to.
fn check_canonical(bytes: &[u8]) {
    if let Ok(object) = Object::decode(bytes) {
        assert_eq!(encode_object(&object), bytes);
    }
    if let Ok(record) = Record::decode(bytes) {
        assert_eq!(encode(&record), bytes);
        assert_eq!(Record::object_bytes(bytes), Ok(&encode_object(record.object())[..]));
    }
}

/// Any clock and any dots under it, written byte by byte from the layout in the module's doc. The
/// value of a version follows from its dot, as it does in life.
fn object_bytes() -> impl Strategy<Value = Vec<u8>> {
    let life = || (0_u8..3, 0_u8..2);
    (btree_map(life(), 1_u8..6, 0..4), btree_set((life(), 6_u8..12), 0..3), any::<u64>()).prop_map(
        |(entries, exact, mut dice)| {
            let mut bytes = vec![1, 0, entries.len() as u8];
            for ((actor, birth), upto) in &entries {
                bytes.extend_from_slice(&[*actor, 0, 0, 0, 0, 0, 0, 0, *birth, *upto]);
            }
            // One of two counters, so that runs neither overlap nor touch.
            let exact: Vec<_> = exact.into_iter().filter(|(_, after)| after % 2 == 0).collect();
            bytes.push(exact.len() as u8);
            for ((actor, birth), after) in exact {
                bytes.extend_from_slice(&[actor, 0, 0, 0, 0, 0, 0, 0, birth, after, 1]);
            }
            let mut siblings = Vec::new();
            for (place, upto) in entries.values().enumerate() {
                for counter in 1..=*upto {
                    dice = dice.rotate_right(3);
                    if dice & 3 == 0 {
                        siblings.push((place as u8, upto - counter, counter));
                    }
                }
            }
            bytes.push(siblings.len() as u8);
            for (place, behind, counter) in siblings {
                bytes.extend_from_slice(&[
                    place,
                    behind,
                    counter % 3,
                    counter,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                ]);
                match counter % 3 {
                    0 => bytes.extend_from_slice(&[1, counter]),
                    1 => {}
                    _ => bytes.extend_from_slice(&[77, 0]),
                }
            }
            bytes
        },
    )
}

fn golden_records() -> [(&'static str, Vec<u8>); 4] {
    let mut one = Writer::start(1);
    let mut plain = Record::new(&one.dots, Conflict::Siblings);
    one.put(&mut plain, Content::Value(b"hello"), None, Cause::Seen);

    let mut deleted = Record::new(&one.dots, Conflict::Lww);
    one.put(&mut deleted, Content::Tombstone, None, Cause::Seen);

    // Two lives, three siblings, one superseded behind a gap.
    let mut many = plain.clone();
    let second = one.put(&mut many, Content::Value(b"second"), None, Cause::Blind);
    let mut two = Writer::start(2);
    let mut other = Record::new(&two.dots, Conflict::Siblings);
    let expiry = Some(Wall::from_millis(WALL.as_millis() + 60_000));
    two.put(&mut other, Content::Value(b"third"), expiry, Cause::Context(&second));
    let gap = other.clone();
    two.put(&mut other, Content::Tombstone, None, Cause::Blind);
    other.join(many.object());

    let encoded = [plain, deleted, gap, other].map(|record| encode(&record));
    let [plain, deleted, gap, many] = encoded;
    [("plain", plain), ("deleted_lww", deleted), ("gap_expiring", gap), ("three_siblings", many)]
}

fn ten_siblings() -> Record<'static> {
    let mut last = Writer::start(10);
    let mut record = Record::new(&last.dots, Conflict::Siblings);
    for start in 0..9 {
        let mut writer = Writer::start(start);
        let mut other = Record::new(&writer.dots, Conflict::Siblings);
        writer.put(&mut other, Content::Value(b"sibling"), None, Cause::Blind);
        record.join(other.object());
    }
    last.put(&mut record, Content::Value(b"sibling"), None, Cause::Blind);
    assert_eq!(record.object().sibling_count(), 10);
    record
}

impl Writer {
    /// A shard that has written other keys a hundred thousand times, so that numbers are long.
    fn start(number: u64) -> Self {
        let dots = DotSource::new(ActorId::new(
            number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ));
        let mut writer = Self { dots, clock: HybridClock::default() };
        let mut other = Record::new(&writer.dots, Conflict::Siblings);
        for _ in 0..100_000 {
            writer.put(&mut other, Content::Tombstone, None, Cause::Seen);
        }
        writer.clock = HybridClock::default();
        writer
    }

    fn put<'a>(
        &mut self,
        record: &mut Record<'a>,
        content: Content<'a>,
        expiry: Option<Wall>,
        cause: Cause<'_>,
    ) -> Context {
        record.put(Write { content, expiry, cause }, &mut self.dots, &mut self.clock, WALL)
    }

    fn first_put(&mut self) -> Context {
        let mut record = Record::new(&self.dots, Conflict::Siblings);
        self.put(&mut record, Content::Value(b"first"), None, Cause::Blind)
    }
}

fn joined<'a>(left: &Object<'a>, right: &Object<'a>) -> Object<'a> {
    let mut joined = left.clone();
    joined.join(right);
    joined
}

fn encode(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode_into(&mut bytes);
    assert_eq!(bytes.len(), record.encoded_len());
    bytes
}

fn encode_object(object: &Object<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    object.encode_into(&mut bytes);
    assert_eq!(bytes.len(), object.encoded_len());
    bytes
}

fn encode_context(context: &Context) -> Vec<u8> {
    let mut token = Vec::new();
    context.encode_into(KEY, &SECRET, &mut token);
    token
}
