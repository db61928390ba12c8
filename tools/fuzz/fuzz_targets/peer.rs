//! Any bytes from whoever connects to a node's port for other nodes, before and after it proved itself.
//!
//! The first byte says who speaks: a stranger, a node in the middle of its handshake, or one that proved
//! itself. In none of these may the node fall over, or hold more than it was sent; and whatever it
//! takes for a request or an answer must be one that can be written again.

#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use stator::base::id::LinkId;
use stator::base::id::MemberId;
use stator::base::id::ShardId;
use stator::base::outbox::Outbox;
use stator::base::time::Duration;
use stator::base::time::Instant;
use stator::protocol::peers::Effect;
use stator::protocol::peers::PeerSecret;
use stator::protocol::peers::Peers;
use stator::protocol::peers::Settings;
use stator::protocol::wire::greeting::Beliefs;
use stator::protocol::wire::greeting::Identity;
use stator::protocol::wire::greeting::Owners;
use stator::protocol::wire::peer::Forward;
use stator::protocol::wire::peer::Reply;
use stator::protocol::wire::peer::Word;

const NOW: Instant = Instant::START;
const ACCEPTED: LinkId = LinkId::accepted(1);

fuzz_target!(|bytes: &[u8]| {
    let Some((who, bytes)) = bytes.split_first() else { return };
    let mut node = peers(0);
    let mut out = Outbox::default();
    node.accepted(NOW, ACCEPTED, &mut out);
    let steps = who % 3;
    if steps > 0 {
        agree(&mut node, steps);
    }
    // In two pieces, cut anywhere.
    let (first, second) = bytes.split_at(usize::from(*who) % (bytes.len() + 1));
    for piece in [first, second] {
        let mut input = node.received(NOW, ACCEPTED, piece);
        while let Some((_, word, body)) = node.next_word(NOW, &mut input, &mut out) {
            look_at(word, body);
        }
    }
    assert!(node.counters.agreed <= u64::from(steps == 2), "a stranger proved itself");
});

/// What came as a request or an answer is one, and is written as it was read.
fn look_at(word: Word, body: &[u8]) {
    let mut again = Vec::new();
    match word {
        Word::Forward => match Forward::decode(body) {
            Ok(forward) => forward.encode_into(&mut again),
            Err(_) => return,
        },
        Word::Reply => match Reply::decode(body) {
            Ok(reply) => reply.encode_into(&mut again),
            Err(_) => return,
        },
        _ => return,
    }
    assert_eq!(again, body);
}

/// The first words of a real node reach the other: one of them, or all.
fn agree(node: &mut Peers, steps: u8) {
    let mut other = peers(1);
    let mut out = Outbox::default();
    other.start(NOW, &mut out);
    let link = LinkId::new(1);
    let mut said = Outbox::default();
    other.opened(NOW, link, &mut said);
    for _ in 0..steps {
        let bytes = sent(&mut said);
        let mut answer = Outbox::default();
        let mut input = node.received(NOW, ACCEPTED, &bytes);
        assert!(node.next_word(NOW, &mut input, &mut answer).is_none());
        let bytes = sent(&mut answer);
        let mut input = other.received(NOW, link, &bytes);
        assert!(other.next_word(NOW, &mut input, &mut said).is_none());
    }
}

fn sent(out: &mut Outbox<Effect>) -> Vec<u8> {
    let (effects, arena) = out.take();
    let mut bytes = Vec::new();
    for effect in effects {
        if let Effect::Send { bytes: range, .. } = effect {
            bytes.extend_from_slice(&arena[range]);
        }
    }
    out.clear();
    bytes
}

fn peers(number: u128) -> Peers {
    let members = vec![MemberId::new(0), MemberId::new(1)];
    let settings = Settings {
        cluster: [1; 16],
        secret: PeerSecret::new([2; 32]),
        own: Identity { member: MemberId::new(number), instance: [number as u8; 16], start: 1 },
        members,
        beliefs: Beliefs { namespaces: [3; 16], table: [4; 16] },
        owners: Owners { shards: 1, of: vec![ShardId::new(0); 16] },
        frame_bytes_max: 1 << 16,
        unsent_bytes_max: 1 << 20,
        ping_after: Duration::from_millis(200),
        down_after: Duration::from_millis(800),
        retry_after: Duration::from_millis(300),
    };
    Peers::new(Arc::new(settings), ShardId::new(0), number as u64)
}
