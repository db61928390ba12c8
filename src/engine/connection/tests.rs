//! Who is received from, and how much, by real sockets.

use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;

use super::*;
use crate::engine::uring::Settings;

const BUFFER_BYTES: usize = 2 * LARGE_PIECE_BYTES;
const BUFFERS: u16 = 16;

struct Rig {
    ring: Uring,
    connections: Connections,
    clients: Vec<TcpStream>,
}

/// Whose piece, how long, and whether more may follow by themselves.
#[derive(Debug, Eq, PartialEq)]
struct Piece {
    client: usize,
    bytes: usize,
    more: bool,
}

impl Rig {
    fn new(clients: usize) -> Self {
        let settings = Settings {
            submissions: 8,
            completions: 64,
            buffers: BUFFERS,
            buffer_bytes: BUFFER_BYTES as u32,
        };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut connections = Connections::new(Arc::new(Limit::new(clients)));
        let connect = |_| {
            let address = listener.local_addr().expect("it is bound");
            let client = TcpStream::connect(address).expect("it connects");
            let (server, _) = listener.accept().expect("it connected");
            connections.accept(server.into(), Door::Shared).expect("there is room");
            client
        };
        let clients = (0..clients).map(connect).collect();
        let ring = Uring::new(settings).expect("io_uring works here");
        Self { ring, connections, clients }
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].write_all(bytes).expect("it fits into the socket");
    }

    /// What one entry of the kernel brings.
    fn turn(&mut self) -> Vec<Piece> {
        self.connections.flush(&mut self.ring);
        self.ring.submit_and_wait(None).expect("it works");
        let mut completions = Vec::new();
        self.ring.completions(&mut completions, usize::MAX);
        let mut pieces = Vec::new();
        for completion in completions {
            let Token::Receive(id) = completion.token else { continue };
            let more = completion.more;
            if let Received::Bytes(lent) = self.connections.received(id, completion) {
                let bytes = self.ring.bytes(&lent).len();
                pieces.push(Piece { client: slot_of(id), bytes, more });
                self.ring.give_back(lent);
            }
        }
        pieces
    }

    /// Makes a client known for small requests.
    fn becomes_small(&mut self, client: usize) {
        for _ in 0..SHORT_PIECES {
            self.send(client, b"PING");
            while self.turn().is_empty() {}
        }
    }
}

fn total(pieces: &[Piece]) -> usize {
    pieces.iter().map(|piece| piece.bytes).sum()
}

fn clients_of(pieces: &[Piece]) -> Vec<usize> {
    pieces.iter().map(|piece| piece.client).collect()
}

#[test]
fn a_client_that_floods_is_received_from_one_buffer_a_turn() {
    let mut rig = Rig::new(1);
    rig.send(0, &[b'x'; LARGE_PIECE_BYTES + 4 * BUFFER_BYTES]);
    let first = Piece { client: 0, bytes: LARGE_PIECE_BYTES, more: false };
    assert_eq!(rig.turn(), [first], "nothing is known of it");
    for _ in 0..4 {
        assert_eq!(rig.turn(), [Piece { client: 0, bytes: BUFFER_BYTES, more: false }]);
    }
}

#[test]
fn small_requests_make_one_operation_serve_and_a_flood_ends_that() {
    let mut rig = Rig::new(1);
    for short in 0..2 * SHORT_PIECES {
        rig.send(0, b"PING");
        let more = short >= SHORT_PIECES;
        assert_eq!(rig.turn(), [Piece { client: 0, bytes: 4, more }]);
    }
    rig.send(0, &[b'x'; 4 * BUFFER_BYTES]);
    let mut received = total(&rig.turn());
    while received < 4 * BUFFER_BYTES {
        received += total(&rig.turn());
    }
    rig.send(0, &[b'y'; 4 * BUFFER_BYTES]);
    while received < 8 * BUFFER_BYTES {
        let pieces = rig.turn();
        let one = [Piece { client: 0, bytes: BUFFER_BYTES, more: false }];
        assert!(pieces.is_empty() || pieces == one, "{pieces:?}");
        received += total(&pieces);
    }
}

#[test]
fn beside_small_requests_those_that_flood_take_turns() {
    let floods = 2 * LARGE_BESIDE_SMALL;
    let mut rig = Rig::new(1 + floods);
    rig.becomes_small(0);
    let mut received = 0;
    for flood in 1..=floods {
        rig.send(flood, &[b'x'; 8 * LARGE_PIECE_BYTES]);
    }
    // Nothing is known of them before the first piece.
    while received < floods * LARGE_PIECE_BYTES {
        received += total(&rig.turn());
    }
    for round in 0..2 {
        rig.send(0, b"PING");
        let first = rig.turn();
        rig.send(0, b"PING");
        let second = rig.turn();
        let (mut first, mut second) = (clients_of(&first), clients_of(&second));
        assert_eq!((first.len(), second.len()), (1 + floods / 2, 1 + floods / 2), "{round}");
        first.append(&mut second);
        first.sort_unstable();
        assert_eq!(first.split_off(2), (1..=floods).collect::<Vec<_>>(), "each once");
        assert_eq!(first, [0, 0]);
    }
    rig.connections.turns_since_small = TURNS_AFTER_SMALL - 1;
    assert_eq!(rig.turn().len(), floods / 2, "it may come back");
    assert_eq!(rig.turn().len(), floods, "nobody waits for the others to end");
}

#[test]
fn who_got_no_buffer_comes_first_in_the_next_turn() {
    let clients = 2 * usize::from(BUFFERS);
    let mut rig = Rig::new(clients);
    (0..clients).for_each(|client| rig.send(client, b"PING"));
    let mut first = clients_of(&rig.turn());
    assert_eq!(first.len(), usize::from(BUFFERS));
    first.iter().for_each(|client| rig.send(*client, b"PING"));
    first.extend(clients_of(&rig.turn()));
    first.sort_unstable();
    assert_eq!(first, (0..clients).collect::<Vec<_>>(), "each once");
}
