//! What only a member of the cluster can make: tags over what two nodes have said to each other.

use std::fmt;

use crate::protocol::wire::greeting::Words;

/// The key of the tags of handshakes: from the cluster's secret.
#[derive(Clone)]
pub struct PeerSecret([u8; 32]);

/// Whose turn it is to say something. Part of every tag, so that none can be sent back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Turn {
    Challenge,
    Proof,
    Welcome,
}

/// Salts of the two directions of a connection, once it is agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Salts {
    pub(super) of_connector: u64,
    pub(super) of_acceptor: u64,
}

impl PeerSecret {
    /// Wraps 32 secret bytes that are used for nothing else.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The tag over all that was said, by whose turn it is.
    pub(super) fn tag(&self, turn: Turn, said: &[u8]) -> Words {
        let label = match turn {
            Turn::Challenge => b"challenge",
            Turn::Proof => &b"proof"[..],
            Turn::Welcome => b"welcome",
        };
        let hash = self.hash(label, said);
        let (tag, _) = hash.as_bytes().split_first_chunk().expect("a hash is longer than a tag");
        *tag
    }

    /// Whether a tag is the right one, in a time that does not tell where it differs.
    pub(super) fn is_tag(&self, turn: Turn, said: &[u8], tag: &Words) -> bool {
        let widen = |tag: &Words| {
            let mut wide = [0; 32];
            wide[..tag.len()].copy_from_slice(tag);
            blake3::Hash::from_bytes(wide)
        };
        widen(&self.tag(turn, said)) == widen(tag)
    }

    pub(super) fn salts(&self, said: &[u8]) -> Salts {
        let hash = self.hash(b"salts", said);
        let number = |at: usize| {
            let bytes = hash.as_bytes()[at..at + 8].try_into().expect("eight bytes of 32");
            u64::from_le_bytes(bytes)
        };
        Salts { of_connector: number(0), of_acceptor: number(8) }
    }

    /// A number that nobody else can foresee and that comes once: `entropy` is of this start.
    pub(super) fn random(&self, entropy: u64, count: u64) -> Words {
        let words = [entropy.to_le_bytes(), count.to_le_bytes()].concat();
        let hash = self.hash(b"random", &words);
        let (random, _) = hash.as_bytes().split_first_chunk().expect("a hash is long enough");
        *random
    }

    /// Labels are told apart from what follows by their length.
    fn hash(&self, label: &[u8], words: &[u8]) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&[label.len() as u8]);
        hasher.update(label);
        hasher.update(words);
        hasher.finalize()
    }
}

impl fmt::Debug for PeerSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PeerSecret(not shown)")
    }
}
