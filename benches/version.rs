//! What versioning costs a put and a get: `cargo bench --bench version`.
//!
//! Plain loops over one record with a value of 100 bytes. They compare one commit with another on
//! one machine; under `cargo test --benches` they only run, so that they never rot.

use std::hint::black_box;
use std::time::Instant;

use stator::base::id::ActorId;
use stator::base::time::Wall;
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
const VALUE: [u8; 100] = [7; 100];

fn main() {
    let mut dots = DotSource::new(ActorId::new(0x9d3e_71a2_55c8_0f14));
    let mut clock = HybridClock::default();
    let mut record = Record::new(&dots, Conflict::Siblings);
    let seen = record.put(write(Cause::Seen), &mut dots, &mut clock, WALL);
    let mut stored = Vec::new();
    record.encode_into(&mut stored);
    println!("a record of one life and one sibling: value + {} bytes", stored.len() - VALUE.len());

    let mut next = Vec::with_capacity(stored.len() + 32);
    let mut set = |name: &str, cause: Cause<'_>| {
        measure(name, || {
            next.clear();
            let mut record = Record::decode(black_box(&stored)).expect("it was encoded");
            black_box(record.put(write(cause), &mut dots, &mut clock, WALL));
            record.encode_into(&mut next);
        });
    };
    set("decode + SET + encode", Cause::Seen);
    set("decode + put with context + encode", Cause::Context(&seen));

    measure("decode", || {
        black_box(Record::decode(black_box(&stored)).expect("it was encoded"));
    });
    let object = Record::object_bytes(&stored).expect("it was encoded");
    measure("decode two equal objects and join", || {
        let mut left = Object::decode(black_box(object)).expect("it was encoded");
        black_box(left.join(&Object::decode(black_box(object)).expect("it was encoded")));
    });

    let secret = ContextSecret::new([9; 32]);
    let mut token = Vec::new();
    measure("context to token", || {
        token.clear();
        black_box(&seen).encode_into(b"cart:4711", &secret, &mut token);
    });
    measure("token to context", || {
        black_box(Context::decode(black_box(&token), b"cart:4711", &secret)).expect("it is ours");
    });
}

fn write(cause: Cause<'_>) -> Write<'static, '_> {
    Write { content: Content::Value(&VALUE), expiry: None, cause }
}

fn measure(name: &str, mut work: impl FnMut()) {
    let is_bench = std::env::args().any(|argument| argument == "--bench");
    let (rounds, turns) = if is_bench { (7, 1_000_000) } else { (1, 10) };
    let best = (0..rounds)
        .map(|_| {
            let start = Instant::now();
            (0..turns).for_each(|_| work());
            start.elapsed().as_nanos() as f64 / f64::from(turns)
        })
        .fold(f64::INFINITY, f64::min);
    println!("{name}: {best:.1} ns");
}
