//! The server on the ring of this repository's engine, in the manner of its loop: multishot accept
//! and receive into provided buffers, one submission and wait a turn.

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;

use stator::base::id::ConnectionId;

use self::uring::Completion;
use self::uring::Held;
use self::uring::Settings;
use self::uring::Token;
use self::uring::Uring;
use crate::resp::Conversation;
use crate::resp::Values;

// The very file, compiled once more: the store shows nobody its ring, and a copy would differ soon.
#[path = "../../src/engine/uring/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the store uses more of it")]
mod uring;

struct Connection {
    socket: Rc<OwnedFd>,
    conversation: Conversation,
    /// Replies that wait for those before them to have left.
    pending: Vec<u8>,
    /// A buffer to fill while the other leaves.
    spare: Vec<u8>,
    sending: bool,
    is_open: bool,
}

struct Server {
    ring: Uring,
    values: Values,
    connections: Vec<Connection>,
    /// Those that may have something to send at the end of the turn.
    listed: Vec<usize>,
}

/// Serves as long as the process lives.
pub(crate) fn serve(listener: TcpListener) -> ! {
    let ring = Uring::new(Settings::default()).expect("io_uring works here");
    let (values, connections, listed) = (Values::default(), Vec::new(), Vec::new());
    let mut server = Server { ring, values, connections, listed };
    let listener = Rc::new(OwnedFd::from(listener));
    server.ring.accept(Token::Accept(0), &listener);
    let mut completions = Vec::new();
    loop {
        server.ring.submit_and_wait(None).expect("the kernel takes it");
        server.ring.completions(&mut completions, usize::MAX);
        for completion in completions.drain(..) {
            match completion.token {
                Token::Accept(_) => server.accepted(completion),
                Token::Receive(id) => server.received(id.to_raw() as usize, completion),
                Token::Send(id) => server.sent(id.to_raw() as usize, completion),
                other => panic!("nobody asked for {other:?}"),
            }
        }
        server.end_turn();
    }
}

impl Server {
    fn accepted(&mut self, completion: Completion) {
        let Held::Socket(socket) = completion.held else { panic!("no client: {completion:?}") };
        let id = ConnectionId::new(self.connections.len() as u64);
        let socket = Rc::new(socket);
        self.ring.receive(Token::Receive(id), &socket);
        self.connections.push(Connection {
            socket,
            conversation: Conversation::new(),
            pending: Vec::new(),
            spare: Vec::new(),
            sending: false,
            is_open: true,
        });
    }

    fn received(&mut self, index: usize, completion: Completion) {
        let connection = &mut self.connections[index];
        if let Some(lent) = completion.lent {
            let bytes = self.ring.bytes(&lent);
            connection.conversation.receive(bytes, &mut self.values, &mut connection.pending);
            self.ring.give_back(lent);
            self.listed.push(index);
        }
        connection.is_open &= completion.result != Ok(0);
        if !completion.more && connection.is_open {
            // The kernel ran out of buffers, which it has again by now.
            let id = ConnectionId::new(index as u64);
            self.ring.receive(Token::Receive(id), &connection.socket);
        }
    }

    fn sent(&mut self, index: usize, completion: Completion) {
        let connection = &mut self.connections[index];
        connection.sending = false;
        if let Held::Bytes(mut bytes) = completion.held {
            bytes.clear();
            connection.spare = bytes;
        }
        self.listed.push(index);
    }

    fn end_turn(&mut self) {
        for index in self.listed.drain(..) {
            let connection = &mut self.connections[index];
            if connection.sending || connection.pending.is_empty() {
                continue;
            }
            connection.sending = true;
            let spare = std::mem::take(&mut connection.spare);
            let bytes = std::mem::replace(&mut connection.pending, spare);
            let (id, length) = (ConnectionId::new(index as u64), bytes.len());
            self.ring.send(Token::Send(id), &connection.socket, bytes, 0, length);
        }
    }
}
