//! What a client carries from a get to its next put (Dynamo, section 4.1: "encodes system metadata
//! about the object that is opaque to the caller").
//!
//! # Why it has a tag
//!
//! A context says "all this is superseded". One that claims dots that are yet to be issued would
//! make later, acknowledged writes look already seen, and repair would erase them. So a token
//! carries a keyed tag: nobody without the cluster's secret can make one, cut one short, join two,
//! or use one key's for another. The key's bytes go into the tag and not into the token.
//!
//! # Layout (version 1), base64url without padding
//!
//! | bytes | field                                                                            |
//! |------:|----------------------------------------------------------------------------------|
//! |     1 | version: 1                                                                       |
//! |     1 | flags: zero. Bit 0 is kept for a hint of the node that answered the get fastest  |
//! |     8 | latest hybrid time among what was seen, little-endian                            |
//! |   2–  | clock: see [`super::codec`]; not empty                                           |
//! |    16 | BLAKE3, keyed, of: length of the key (8, little-endian), key, all of the above   |
//!
//! The empty context is the empty token. It has no tag, as it supersedes nothing.
//!
//! # Why it has a hybrid time
//!
//! A version's hybrid time is above all that it supersedes. The coordinator of a put may never
//! have met what the client saw; under last-writer-wins, copies would then disagree.

use std::fmt;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use smallvec::SmallVec;

use super::clock::Clock;
use super::codec;
use super::hybrid::HybridTime;
use crate::base::codec::DecodeError;
use crate::base::codec::Reader;

const TOKEN_VERSION: u8 = 1;
const TAG_BYTES: usize = 16;

/// What a client has seen of one key.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Context {
    pub(super) seen: Clock,
    pub(super) hybrid: HybridTime,
}

impl Context {
    /// Whether it has seen nothing: a put with it is blind.
    pub fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// What was seen.
    pub fn seen(&self) -> &Clock {
        &self.seen
    }

    /// The latest hybrid time among what was seen.
    pub fn hybrid(&self) -> HybridTime {
        self.hybrid
    }

    /// Appends the token of this context for `key`: printable ASCII without blanks, or nothing if
    /// the context is empty.
    pub fn encode_into(&self, key: &[u8], secret: &ContextSecret, out: &mut Vec<u8>) {
        if self.is_empty() {
            return;
        }
        let body_len = 10 + codec::clock_len(&self.seen);
        let mut bytes = Vec::with_capacity(body_len + TAG_BYTES);
        bytes.extend_from_slice(&[TOKEN_VERSION, 0]);
        bytes.extend_from_slice(&self.hybrid.to_raw().to_le_bytes());
        codec::put_clock(&mut bytes, &self.seen);
        assert!(bytes.len() == body_len, "the length of a clock is known before it is written");
        let tag = secret.tag(key, &bytes);
        bytes.extend_from_slice(&tag);

        let start = out.len();
        let token_len =
            base64::encoded_len(bytes.len(), false).expect("far below the address space");
        out.resize(start + token_len, 0);
        let written = BASE64_URL_SAFE_NO_PAD.encode_slice(&bytes, &mut out[start..]);
        assert!(written == Ok(token_len), "the length of base64 is known before it is written");
    }

    /// Reads a token that was made for `key`.
    ///
    /// # Errors
    ///
    /// [`BadContext`] for whatever [`Context::encode_into`] did not make for this key with this
    /// secret. Which byte was wrong is not told, nor by how long it took to find out.
    pub fn decode(token: &[u8], key: &[u8], secret: &ContextSecret) -> Result<Self, BadContext> {
        if token.is_empty() {
            return Ok(Self::default());
        }
        let mut bytes: SmallVec<[u8; 256]> = SmallVec::new();
        bytes.resize(base64::decoded_len_estimate(token.len()), 0);
        let len = BASE64_URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).map_err(|_| BadContext)?;
        let (body, tag) = bytes[..len].split_last_chunk::<TAG_BYTES>().ok_or(BadContext)?;
        if !equal_in_constant_time(tag, &secret.tag(key, body)) {
            return Err(BadContext);
        }
        Self::read(body).map_err(|_| BadContext)
    }

    fn read(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        reader.version(TOKEN_VERSION)?;
        if reader.byte()? != 0 {
            return Err(DecodeError::Malformed);
        }
        let hybrid = HybridTime::from_raw(reader.fixed()?);
        let mut seen = Clock::default();
        reader.clock_into(&mut seen)?;
        reader.end()?;
        if seen.is_empty() {
            return Err(DecodeError::Malformed);
        }
        Ok(Self { seen, hybrid })
    }
}

/// The token is none of this cluster's for this key: `-BADCONTEXT`. Nothing was stored.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadContext;

impl fmt::Display for BadContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the context was not made by this cluster for this key")
    }
}

impl std::error::Error for BadContext {}

/// The key of the tags: from the cluster's secret, or random at the cluster's creation.
#[derive(Clone)]
pub struct ContextSecret([u8; 32]);

impl ContextSecret {
    /// Wraps 32 secret bytes that are used for nothing else.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn tag(&self, key: &[u8], body: &[u8]) -> [u8; TAG_BYTES] {
        let mut hasher = blake3::Hasher::new_keyed(&self.0);
        hasher.update(&(key.len() as u64).to_le_bytes());
        hasher.update(key);
        hasher.update(body);
        let hash = hasher.finalize();
        let (tag, _) = hash.as_bytes().split_first_chunk().expect("a hash is longer than a tag");
        *tag
    }
}

impl fmt::Debug for ContextSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContextSecret(not shown)")
    }
}

/// The comparison of hashes takes the same time whatever differs, so tags are compared as such.
fn equal_in_constant_time(left: &[u8; TAG_BYTES], right: &[u8; TAG_BYTES]) -> bool {
    let widen = |tag: &[u8; TAG_BYTES]| {
        let mut wide = [0; 32];
        wide[..TAG_BYTES].copy_from_slice(tag);
        blake3::Hash::from_bytes(wide)
    };
    widen(left) == widen(right)
}
