//! Who is received from, and how much, by real sockets.

use std::io::Write;
use std::net::TcpListener;
use std::net::TcpStream;
use std::ops::Range;

use super::*;
use crate::engine::fairness::LARGE_MAX;
use crate::engine::fairness::SHORT_PIECES;
use crate::engine::uring::LONG_BUFFER_BYTES as LONG;
use crate::engine::uring::SHORT_BUFFER_BYTES as SHORT;
use crate::engine::uring::Settings;

const SHORT_BUFFERS: usize = 16;

struct Rig {
    ring: Uring,
    connections: Connections,
    listener: TcpListener,
    clients: Vec<TcpStream>,
    ids: Vec<ConnectionId>,
    asking: Asking,
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
        Self::with(clients, 2 * LARGE_MAX)
    }

    fn with(clients: usize, long_buffers: usize) -> Self {
        let settings = Settings {
            submissions: 8,
            completions: 64,
            short_buffers: SHORT_BUFFERS as u16,
            long_buffers: long_buffers as u16,
        };
        let mut rig = Self {
            ring: Uring::new(settings).expect("io_uring works here"),
            connections: Connections::new(Arc::new(Limit::new(64))),
            listener: TcpListener::bind("127.0.0.1:0").expect("a port"),
            clients: Vec::new(),
            ids: Vec::new(),
            asking: Asking { pieces: LARGE_MAX, bulk_bytes: LONG as u32 },
        };
        (0..clients).for_each(|_| rig.connect());
        rig
    }

    fn connect(&mut self) {
        let address = self.listener.local_addr().expect("it is bound");
        self.clients.push(TcpStream::connect(address).expect("it connects"));
        let (server, _) = self.listener.accept().expect("it connected");
        let accepted = self.connections.accept(server.into(), Door::Shared);
        self.ids.push(accepted.expect("there is room").0);
    }

    fn send(&mut self, client: usize, bytes: &[u8]) {
        self.clients[client].write_all(bytes).expect("it fits into the socket");
    }

    /// What one entry of the kernel brings.
    fn turn(&mut self) -> Vec<Piece> {
        self.connections.flush(&mut self.ring, self.asking);
        self.ring.submit_and_wait(None).expect("it works");
        let mut completions = Vec::new();
        self.ring.completions(&mut completions, usize::MAX);
        let mut pieces = Vec::new();
        for completion in completions {
            let Token::Receive(id) = completion.token else { continue };
            let more = completion.more;
            if let Received::Bytes(lent) = self.connections.received(id, completion) {
                let bytes = self.ring.bytes(&lent).len();
                let client = self.ids.iter().position(|known| *known == id).expect("it is known");
                pieces.push(Piece { client, bytes, more });
                self.ring.give_back(lent);
            }
        }
        pieces
    }

    /// The same, of whom; a client that has more pieces is there more often.
    fn turn_of(&mut self) -> Vec<usize> {
        let mut clients: Vec<_> = self.turn().iter().map(|piece| piece.client).collect();
        clients.sort_unstable();
        clients
    }

    /// Makes clients known for small requests.
    fn become_small(&mut self, clients: Range<usize>) {
        for _ in 0..SHORT_PIECES {
            self.each_sends(clients.clone(), b"PING");
        }
    }

    /// Clients connect that are known for large pieces, of which many are there.
    fn floods(&mut self, count: usize) -> Range<usize> {
        let first = self.clients.len();
        for client in first..first + count {
            self.connect();
            let connection = self.of(client).expect("it is open");
            (connection.pace, connection.filled) = (Pace::NEW.after(SHORT), true);
            self.send(client, &[b'x'; 8 * LONG]);
        }
        first..first + count
    }

    /// Each sends this, and all of it is received.
    fn each_sends(&mut self, clients: Range<usize>, bytes: &[u8]) {
        clients.clone().for_each(|client| self.send(client, bytes));
        let mut left = clients.len() * bytes.len();
        while left > 0 {
            left -= self.turn().iter().map(|piece| piece.bytes).sum::<usize>();
        }
    }

    fn of(&mut self, client: usize) -> Option<&mut Connection> {
        self.connections.get(self.ids[client])
    }
}

fn once(client: usize, bytes: usize) -> Piece {
    Piece { client, bytes, more: false }
}

#[test]
fn a_client_that_floods_is_received_from_one_buffer_a_turn() {
    let mut rig = Rig::new(1);
    rig.send(0, &[b'x'; SHORT + 4 * LONG]);
    assert_eq!(rig.turn(), [once(0, SHORT)], "nothing is known of it");
    for _ in 0..4 {
        assert_eq!(rig.turn(), [once(0, LONG)]);
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
    rig.each_sends(0..1, &[b'x'; 4 * SHORT]);
    rig.send(0, &[b'y'; 2 * LONG]);
    let mut received = 0;
    while received < 2 * LONG {
        let pieces = rig.turn();
        assert!(pieces.is_empty() || pieces == [once(0, LONG)], "{pieces:?}");
        received += pieces.iter().map(|piece| piece.bytes).sum::<usize>();
    }
}

/// Longer than a short buffer, and not so long that the tail is taken for another kind of client.
#[test]
fn a_request_that_fits_into_a_long_buffer_comes_in_one_piece() {
    for bytes in [SHORT + 100, LONG - 1] {
        let mut rig = Rig::new(1);
        rig.asking.bulk_bytes = SHORT as u32;
        rig.each_sends(0..1, &vec![b'x'; bytes]);
        for _ in 0..2 * SHORT_PIECES {
            rig.send(0, &vec![b'x'; bytes]);
            assert_eq!(rig.turn(), [once(0, bytes)]);
        }
    }
    let mut rig = Rig::new(1);
    rig.each_sends(0..1, &[b'x'; LONG + 100]);
    for _ in 0..2 * SHORT_PIECES {
        rig.send(0, &[b'x'; LONG + 100]);
        assert_eq!(rig.turn(), [once(0, LONG)]);
        assert_eq!(rig.turn(), [once(0, 100)]);
    }
}

#[test]
fn those_that_flood_take_turns_a_few_at_a_time() {
    let mut rig = Rig::new(0);
    let floods = rig.floods(2 * LARGE_MAX);
    for _ in 0..2 {
        let mut both = rig.turn_of();
        assert_eq!(both.len(), LARGE_MAX, "nobody else is there");
        both.extend(rig.turn_of());
        both.sort_unstable();
        assert_eq!(both, floods.clone().collect::<Vec<_>>(), "each once");
    }
}

#[test]
fn of_those_that_flood_is_asked_what_there_is_time_for() {
    let mut rig = Rig::new(1);
    rig.become_small(0..1);
    let floods = rig.floods(3);
    for pieces in [1, 0, 2] {
        rig.asking = Asking { pieces, bulk_bytes: 100 };
        rig.send(0, b"PING");
        let mut of_floods = rig.turn();
        of_floods.retain(|piece| floods.contains(&piece.client));
        assert_eq!(of_floods.len(), pieces);
        assert!(of_floods.iter().all(|piece| piece.bytes == 100), "{of_floods:?}");
    }
}

#[test]
fn those_that_wait_for_their_turn_may_be_unwanted_closed_or_gone() {
    let mut rig = Rig::new(1);
    rig.become_small(0..1);
    rig.asking.pieces = 1;
    rig.floods(4);
    rig.send(0, b"PING");
    rig.turn();
    let waiting: Vec<usize> =
        (1..5).filter(|client| rig.of(*client).expect("it is open").takes_turns).collect();
    let [unwanted, closed, gone] = waiting[..] else { panic!("{waiting:?}") };
    let served = (1..5).find(|client| !waiting.contains(client)).expect("one is received from");

    let ids = rig.ids.clone();
    rig.connections.set_reading(ids[unwanted], false);
    rig.connections.close(Instant::START, ids[closed]);
    rig.clients[closed].shutdown(std::net::Shutdown::Write).expect("it is open");
    rig.connections.abort(ids[gone]);
    rig.connections.flush(&mut rig.ring, rig.asking);
    rig.connect();
    assert_eq!(slot_of(rig.ids[5]), slot_of(ids[gone]), "it has the place of the one that is gone");
    rig.send(5, &[b'x'; SHORT]);
    for _ in 0..6 {
        rig.send(0, b"PING");
        let clients = rig.turn_of();
        assert!(clients.iter().all(|client| [0, served, 5].contains(client)), "{clients:?}");
    }
    assert!(rig.of(closed).is_none(), "what it still sent did not have to wait");

    rig.send(5, &[b'x'; 4 * LONG]);
    rig.connections.set_reading(ids[unwanted], true);
    rig.connections.set_reading(ids[served], false);
    let mut heard = Vec::new();
    while heard.len() < 7 {
        let mut clients = rig.turn_of();
        clients.retain(|client| *client != served);
        assert!(clients.is_sorted_by(|one, next| one < next), "each once a turn: {clients:?}");
        heard.append(&mut clients);
    }
    let of = |client: usize| heard.iter().filter(|heard| **heard == client).count();
    assert!(of(unwanted) >= 3 && of(5) >= 3 && of(unwanted) + of(5) == heard.len(), "{heard:?}");
}

#[test]
fn who_got_no_short_buffer_comes_first_in_the_next_turn() {
    let clients = 2 * SHORT_BUFFERS;
    let mut rig = Rig::new(clients);
    (0..clients).for_each(|client| rig.send(client, b"PING"));
    let mut first = rig.turn_of();
    assert_eq!(first.len(), SHORT_BUFFERS);
    first.iter().for_each(|client| rig.send(*client, b"PING"));
    first.extend(rig.turn_of());
    first.sort_unstable();
    assert_eq!(first, (0..clients).collect::<Vec<_>>(), "each once");
}

#[test]
fn who_got_no_long_buffer_comes_first_in_the_next_turn() {
    let mut rig = Rig::with(0, LARGE_MAX / 2);
    let floods = rig.floods(3 * LARGE_MAX / 2);
    for _ in 0..2 {
        let mut all: Vec<usize> = (0..3).flat_map(|_| rig.turn_of()).collect();
        all.sort_unstable();
        assert_eq!(all, floods.clone().collect::<Vec<_>>(), "each once");
    }
}

/// Otherwise the first of them would take all buffers that came back.
#[test]
fn who_got_no_buffer_is_received_from_once() {
    let mut rig = Rig::new(4);
    rig.become_small(0..4);
    rig.connections.flush(&mut rig.ring, rig.asking);
    rig.ring.submit().expect("it works");
    for client in 0..4 {
        rig.send(client, &[b'x'; SHORT_BUFFERS / 2 * SHORT]);
    }
    let first = rig.turn_of();
    assert_eq!(first, [[0; SHORT_BUFFERS / 2], [1; SHORT_BUFFERS / 2]].concat());
    let second = rig.turn();
    assert_eq!(second[..2], [once(2, SHORT), once(3, SHORT)]);
}
