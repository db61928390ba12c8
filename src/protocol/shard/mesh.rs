//! What the cores of a node say to each other.
//!
//! A core that receives a request of a key that another core owns carries it there, and brings the
//! answer back to its client. Messages of one turn to one core travel as one piece.
//!
//! # Layout of a message, between parts of one process alone
//!
//! | bytes | field                                              |
//! |------:|----------------------------------------------------|
//! |     4 | length of what follows                             |
//! |     1 | 0: a request, 1: an answer, 2: a question, 3: its answer, 4: the last, 5: a request of another node, 6: its answer |
//! |     8 | connection                                         |
//! |     8 | sequence                                           |
//! |     2 | part                                               |
//! |     1 | protocol version, of a request                     |
//! |     – | the reply; or of a request its deadline (8), and the command by `wire::key_command` |

use crate::base::id::ConnectionId;
use crate::base::time::Instant;
use crate::protocol::session::RequestId;
use crate::protocol::wire::Protocol;

const HEADER_BYTES: usize = 4 + 1 + 8 + 8 + 2 + 1;

/// What a message is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// Carry out this command of one key.
    Request,
    /// The reply to that.
    Answer,
    /// A command of the node, of which each core answers its part.
    Question,
    /// That part.
    Part,
    /// Nothing more will be asked: the core that says it stops.
    Last,
    /// As a request, of another node: its link and its number stand for connection and sequence.
    PeerRequest,
    /// The reply to that.
    PeerAnswer,
}

/// One message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) kind: Kind,
    pub(super) request: RequestId,
    pub(super) protocol: Protocol,
    pub(super) body: &'a [u8],
}

/// Appends a message whose body `write` appends.
pub(super) fn put(
    out: &mut Vec<u8>,
    kind: Kind,
    request: RequestId,
    protocol: Protocol,
    write: impl FnOnce(&mut Vec<u8>),
) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.push(match kind {
        Kind::Request => 0,
        Kind::Answer => 1,
        Kind::Question => 2,
        Kind::Part => 3,
        Kind::Last => 4,
        Kind::PeerRequest => 5,
        Kind::PeerAnswer => 6,
    });
    out.extend_from_slice(&request.connection.to_raw().to_le_bytes());
    out.extend_from_slice(&request.sequence.to_le_bytes());
    out.extend_from_slice(&request.part.to_le_bytes());
    out.push(match protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    });
    write(out);
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Takes the first message off `bytes`.
///
/// # Panics
///
/// If they are not messages: they came from this process.
pub(super) fn take<'a>(bytes: &mut &'a [u8]) -> Option<Message<'a>> {
    if bytes.is_empty() {
        return None;
    }
    let length = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
    let (message, rest) = bytes.split_at(4 + length);
    *bytes = rest;
    let number = |at: usize| u64::from_le_bytes(message[at..at + 8].try_into().expect("eight"));
    Some(Message {
        kind: match message[4] {
            0 => Kind::Request,
            1 => Kind::Answer,
            2 => Kind::Question,
            3 => Kind::Part,
            4 => Kind::Last,
            5 => Kind::PeerRequest,
            _ => Kind::PeerAnswer,
        },
        request: RequestId {
            connection: ConnectionId::new(number(5)),
            sequence: number(13),
            part: u16::from_le_bytes([message[21], message[22]]),
        },
        protocol: if message[23] == 3 { Protocol::Resp3 } else { Protocol::Resp2 },
        body: &message[HEADER_BYTES..],
    })
}

/// Appends until when a request must be answered: what stands before its command.
pub(super) fn put_deadline(deadline: Instant, out: &mut Vec<u8>) {
    out.extend_from_slice(&deadline.as_nanos().to_le_bytes());
}

/// The deadline of a request, and its command. All cores of a node have one clock.
pub(super) fn awaited(body: &[u8]) -> (Instant, &[u8]) {
    let (deadline, command) = body.split_at(8);
    let nanos = u64::from_le_bytes(deadline.try_into().expect("eight bytes"));
    (Instant::from_nanos(nanos), command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_one_by_one() {
        let request = |sequence| RequestId { connection: ConnectionId::new(7), sequence, part: 3 };
        let mut bytes = Vec::new();
        put(&mut bytes, Kind::Request, request(1), Protocol::Resp3, |out| out.push(9));
        put(&mut bytes, Kind::Part, request(2), Protocol::Resp2, |_| {});
        let mut rest = &bytes[..];
        let first = take(&mut rest).expect("there are two");
        assert_eq!((first.kind, first.request, first.body), (Kind::Request, request(1), &[9][..]));
        assert_eq!(first.protocol, Protocol::Resp3);
        let second = take(&mut rest).expect("there are two");
        assert_eq!((second.kind, second.request, second.body), (Kind::Part, request(2), &[][..]));
        assert!(take(&mut rest).is_none());
    }
}
