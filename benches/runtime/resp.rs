//! What both servers do with bytes: PING, GET and SET on a map.

use ahash::AHashMap;
use stator::protocol::wire::Protocol;
use stator::protocol::wire::arguments::Arguments;
use stator::protocol::wire::arguments::Request;
use stator::protocol::wire::reply;
use stator::protocol::wire::resp::Parsed;
use stator::protocol::wire::resp::RequestLimits;
use stator::protocol::wire::resp::RequestParser;

/// The values of a server.
pub(crate) type Values = AHashMap<Vec<u8>, Vec<u8>>;

/// One client of a server.
pub(crate) struct Conversation {
    parser: RequestParser,
    arguments: Arguments,
    /// The start of a request.
    held: Vec<u8>,
}

impl Conversation {
    pub(crate) fn new() -> Self {
        let parser = RequestParser::new(RequestLimits::admitted(1 << 20));
        Self { parser, arguments: Arguments::default(), held: Vec::new() }
    }

    /// Bytes came: appends the replies to `out`.
    pub(crate) fn receive(&mut self, bytes: &[u8], values: &mut Values, out: &mut Vec<u8>) {
        if self.held.is_empty() {
            let read = self.run(bytes, values, out);
            self.held.extend_from_slice(&bytes[read..]);
        } else {
            let mut held = std::mem::take(&mut self.held);
            held.extend_from_slice(bytes);
            let read = self.run(&held, values, out);
            held.drain(..read);
            self.held = held;
        }
    }

    fn run(&mut self, bytes: &[u8], values: &mut Values, out: &mut Vec<u8>) -> usize {
        let mut read = 0;
        loop {
            let rest = &bytes[read..];
            match self.parser.parse(rest, &mut self.arguments) {
                Parsed::Request { consumed } => {
                    answer(self.arguments.of(rest), values, out);
                    read += consumed;
                }
                Parsed::Incomplete { consumed: 0, .. } => return read,
                other => panic!("the client of this bench says no such thing: {other:?}"),
            }
        }
    }
}

fn answer(request: Request<'_>, values: &mut Values, out: &mut Vec<u8>) {
    match (&request[0], request.len()) {
        (b"PING", 1) => reply::simple(out, "PONG"),
        (b"GET", 2) => match values.get(&request[1]) {
            Some(value) => reply::bulk(out, value),
            None => reply::null(out, Protocol::default()),
        },
        (b"SET", 3) => {
            match values.get_mut(&request[1]) {
                Some(value) => {
                    value.clear();
                    value.extend_from_slice(&request[2]);
                }
                None => drop(values.insert(request[1].to_vec(), request[2].to_vec())),
            }
            reply::ok(out);
        }
        _ => reply::error(out, "ERR unknown command"),
    }
}
