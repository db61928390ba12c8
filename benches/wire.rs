//! What it costs to read one request: nanoseconds, printed. `cargo bench --bench wire`.

use std::hint::black_box;
use std::time::Instant;

use stator::base::time::Wall;
use stator::protocol::wire::arguments::Arguments;
use stator::protocol::wire::command;
use stator::protocol::wire::resp::Parsed;
use stator::protocol::wire::resp::RequestLimits;
use stator::protocol::wire::resp::RequestParser;

fn main() {
    // Under `cargo test --benches` it only has to run.
    let rounds = if std::env::args().any(|word| word == "--bench") { 20_000 } else { 2 };
    for (name, words) in [
        ("GET key", vec!["GET".to_owned(), "key:000012345678".to_owned()]),
        (
            "SET key, 100 bytes",
            vec!["SET".to_owned(), "key:000012345678".to_owned(), "v".repeat(100)],
        ),
        ("TTL key", vec!["ttl".to_owned(), "key:000012345678".to_owned()]),
    ] {
        let one = frame(&words);
        let stream = one.repeat(100);
        let parse = time(rounds, &stream, |_| {});
        let whole = time(rounds, &stream, |request| {
            black_box(command::parse(request, Wall::from_millis(1)).is_ok());
        });
        println!("{name}: {parse:.1} ns to find, {whole:.1} ns to find and to understand");
    }
}

fn time(
    rounds: u32,
    stream: &[u8],
    mut look: impl FnMut(stator::protocol::wire::arguments::Request<'_>),
) -> f64 {
    let mut parser = RequestParser::new(RequestLimits::admitted(1 << 20));
    let mut arguments = Arguments::default();
    let mut found = 0;
    let start = Instant::now();
    for _ in 0..rounds {
        let mut rest = black_box(stream);
        while let Parsed::Request { consumed } = parser.parse(rest, &mut arguments) {
            look(black_box(arguments.of(rest)));
            rest = &rest[consumed..];
            found += 1;
        }
    }
    start.elapsed().as_nanos() as f64 / f64::from(found)
}

fn frame(words: &[String]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}
