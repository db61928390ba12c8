//! The first words of two nodes: who they are, and that both know the cluster's secret.
//!
//! # The order
//!
//! ```text
//! connector                                     acceptor
//!     Hello      who I am, a random number   →
//!                ←   Challenge   who I am, a random number, a tag over both
//!     Proof      what I hold to be true, a tag over all
//!                ←   Welcome     where my partitions are, a tag over all
//! ```
//!
//! A tag is keyed by the cluster's secret and covers everything said before it and whose turn it is, so
//! none can be made without the secret, sent back, or used a second time. Whoever is refused hears
//! why in one [`Refusal`]; nothing of it is trusted, as it carries no tag.
//!
//! # Layout (version 1, little-endian; numbers are those of [`crate::base::codec`])
//!
//! | message | fields |
//! |---|---|
//! | Hello | `STATOR` (6), lowest and highest version (1, 1), cluster (16), member (16), instance (16), start (8), shard that speaks (2), shard that is meant (2), random (16) |
//! | Challenge | version (1), member (16), instance (16), start (8), random (16), tag (16) |
//! | Proof | digest of namespaces (16), digest of the table (16), tag (16) |
//! | Welcome | count of shards (number), runs of partitions: length and shard (numbers), tag (16) |
//! | Refusal | reason (1) |

use std::fmt;

use crate::base::codec::DecodeError;
use crate::base::codec::Reader;
use crate::base::codec::put_number;
use crate::base::id::MemberId;
use crate::base::id::ShardId;
use crate::base::limits::PARTITIONS_MAX;

/// The only version that this build speaks.
pub const VERSION: u8 = 1;

const MAGIC: &[u8; 6] = b"STATOR";

/// A digest, a random number, a tag.
pub type Words = [u8; 16];

/// A node as it names itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Identity {
    /// Of the operator.
    pub member: MemberId,
    /// Of its data directory.
    pub instance: Words,
    /// Of this process: drawn at its start.
    pub start: u64,
}

/// Who wants to speak, and with whom.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Hello {
    /// The lowest version that it speaks.
    pub lowest: u8,
    /// The highest.
    pub highest: u8,
    /// The cluster that it belongs to.
    pub cluster: Words,
    /// Who it is.
    pub own: Identity,
    /// Which of its shards speaks.
    pub from: ShardId,
    /// Which of the other's shards is meant.
    pub to: ShardId,
    /// Never used before.
    pub random: Words,
}

/// Who answers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Challenge {
    /// The version that both speak.
    pub version: u8,
    /// Who it is.
    pub own: Identity,
    /// Never used before.
    pub random: Words,
}

/// What must be equal on both sides.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Beliefs {
    /// Of the namespace table.
    pub namespaces: Words,
    /// Of the members and their places.
    pub table: Words,
}

/// Which shard of a node owns each partition.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Owners {
    /// How many shards there are.
    pub shards: u16,
    /// By partition.
    pub of: Vec<ShardId>,
}

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// No version is spoken by both.
    Version,
    /// It is another cluster's.
    Cluster,
    /// It does not know the secret, or this side does not.
    Secret,
    /// It names itself as no member of this cluster, or as the one that it speaks to.
    Member,
    /// The two have different namespace tables.
    Namespaces,
    /// The two have different members, or other places for them.
    Table,
    /// It speaks to a shard that there is not.
    Shard,
    /// It has too many connections.
    Busy,
}

impl Refusal {
    const ALL: [Self; 8] = [
        Self::Version,
        Self::Cluster,
        Self::Secret,
        Self::Member,
        Self::Namespaces,
        Self::Table,
        Self::Shard,
        Self::Busy,
    ];
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Version => "no version of the protocol is spoken by both",
            Self::Cluster => "the other node belongs to another cluster",
            Self::Secret => "the two nodes have different cluster secrets",
            Self::Member => "the other node is no other member of this cluster",
            Self::Namespaces => "the two nodes have different namespace tables",
            Self::Table => "the two nodes have different lists of members",
            Self::Shard => "the other node has no such shard",
            Self::Busy => "the other node has too many connections",
        })
    }
}

impl Hello {
    /// Appends it.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&[self.lowest, self.highest]);
        out.extend_from_slice(&self.cluster);
        put_identity(out, &self.own);
        out.extend_from_slice(&self.from.to_raw().to_le_bytes());
        out.extend_from_slice(&self.to.to_raw().to_le_bytes());
        out.extend_from_slice(&self.random);
    }

    /// Reads it. What follows a higher version's fields is left for that version.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        if reader.array()? != *MAGIC {
            return Err(DecodeError::Malformed);
        }
        let [lowest, highest] = reader.array()?;
        let hello = Self {
            lowest,
            highest,
            cluster: reader.array()?,
            own: identity(&mut reader)?,
            from: shard(&mut reader)?,
            to: shard(&mut reader)?,
            random: reader.array()?,
        };
        if hello.highest == VERSION {
            reader.end()?;
        }
        if hello.lowest > hello.highest { Err(DecodeError::Malformed) } else { Ok(hello) }
    }
}

impl Challenge {
    /// Appends it, but for its tag, which covers it.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(self.version);
        put_identity(out, &self.own);
        out.extend_from_slice(&self.random);
    }

    /// Reads it and its tag.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, Words), DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(VERSION)?;
        let own = identity(&mut reader)?;
        let challenge = Self { version: VERSION, own, random: reader.array()? };
        let tag = reader.array()?;
        reader.end()?;
        Ok((challenge, tag))
    }
}

impl Beliefs {
    /// Appends them, but for the tag.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.namespaces);
        out.extend_from_slice(&self.table);
    }

    /// Reads them and their tag.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<(Self, Words), DecodeError> {
        let mut reader = Reader::new(bytes);
        let beliefs = Self { namespaces: reader.array()?, table: reader.array()? };
        let tag = reader.array()?;
        reader.end()?;
        Ok((beliefs, tag))
    }
}

impl Owners {
    /// Appends them, but for the tag.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_number(out, u64::from(self.shards));
        for run in self.of.chunk_by(|left, right| left == right) {
            put_number(out, run.len() as u64);
            put_number(out, u64::from(run[0].to_raw()));
        }
        put_number(out, 0);
    }

    /// Reads them and their tag.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], also if a partition would be of a shard that there is not.
    pub fn decode(bytes: &[u8]) -> Result<(Self, Words), DecodeError> {
        let mut reader = Reader::new(bytes);
        let shards = u16::try_from(reader.number()?).map_err(|_| DecodeError::Malformed)?;
        let mut of: Vec<ShardId> = Vec::new();
        loop {
            let length = reader.number()?;
            if length == 0 {
                break;
            }
            let owner = u16::try_from(reader.number()?).map_err(|_| DecodeError::Malformed)?;
            if owner >= shards || length > (PARTITIONS_MAX - of.len()) as u64 {
                return Err(DecodeError::Malformed);
            }
            if of.last() == Some(&ShardId::new(owner)) {
                return Err(DecodeError::Malformed);
            }
            of.resize(of.len() + length as usize, ShardId::new(owner));
        }
        let tag = reader.array()?;
        reader.end()?;
        Ok((Self { shards, of }, tag))
    }
}

impl Refusal {
    /// Appends it.
    pub fn encode_into(self, out: &mut Vec<u8>) {
        let number = Self::ALL.iter().position(|reason| *reason == self);
        out.push(number.expect("all of them are listed") as u8);
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let number = usize::from(reader.byte()?);
        reader.end()?;
        Self::ALL.get(number).copied().ok_or(DecodeError::Malformed)
    }
}

fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    out.extend_from_slice(&identity.member.to_raw().to_le_bytes());
    out.extend_from_slice(&identity.instance);
    out.extend_from_slice(&identity.start.to_le_bytes());
}

fn identity(reader: &mut Reader<'_>) -> Result<Identity, DecodeError> {
    let member = MemberId::new(u128::from_le_bytes(reader.array()?));
    Ok(Identity { member, instance: reader.array()?, start: reader.fixed()? })
}

fn shard(reader: &mut Reader<'_>) -> Result<ShardId, DecodeError> {
    Ok(ShardId::new(u16::from_le_bytes(reader.array()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { member: MemberId::new(1 << 100), instance: [3; 16], start: 9 }
    }

    fn hello() -> Hello {
        Hello {
            lowest: VERSION,
            highest: VERSION,
            cluster: [1; 16],
            own: identity(),
            from: ShardId::new(2),
            to: ShardId::new(3),
            random: [4; 16],
        }
    }

    /// What is cut short, or longer than it says, is nothing.
    fn only_whole<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Result<T, DecodeError>) {
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
        assert!(decode(&[bytes, &[0]].concat()).is_err());
    }

    #[test]
    fn every_word_comes_back_and_nothing_else_does() {
        let mut bytes = Vec::new();
        hello().encode_into(&mut bytes);
        assert_eq!(Hello::decode(&bytes), Ok(hello()));
        only_whole(&bytes, Hello::decode);

        let challenge = Challenge { version: VERSION, own: identity(), random: [5; 16] };
        let mut bytes = Vec::new();
        challenge.encode_into(&mut bytes);
        bytes.extend_from_slice(&[6; 16]);
        assert_eq!(Challenge::decode(&bytes), Ok((challenge, [6; 16])));
        only_whole(&bytes, Challenge::decode);

        let beliefs = Beliefs { namespaces: [7; 16], table: [8; 16] };
        let mut bytes = Vec::new();
        beliefs.encode_into(&mut bytes);
        bytes.extend_from_slice(&[6; 16]);
        assert_eq!(Beliefs::decode(&bytes), Ok((beliefs, [6; 16])));
        only_whole(&bytes, Beliefs::decode);

        let owners = Owners { shards: 2, of: [0, 0, 1, 1, 0].map(ShardId::new).to_vec() };
        let mut bytes = Vec::new();
        owners.encode_into(&mut bytes);
        bytes.extend_from_slice(&[6; 16]);
        assert_eq!(Owners::decode(&bytes), Ok((owners, [6; 16])));
        only_whole(&bytes, Owners::decode);

        for refusal in Refusal::ALL {
            let mut bytes = Vec::new();
            refusal.encode_into(&mut bytes);
            assert_eq!(Refusal::decode(&bytes), Ok(refusal));
            only_whole(&bytes, Refusal::decode);
        }
    }

    /// A later build says more, and names the versions that it speaks: this one can tell.
    #[test]
    fn a_later_hello_can_be_read() {
        let mut bytes = Vec::new();
        Hello { highest: VERSION + 1, ..hello() }.encode_into(&mut bytes);
        bytes.extend_from_slice(b"something new");
        assert_eq!(Hello::decode(&bytes).map(|hello| hello.highest), Ok(VERSION + 1));
    }

    #[test]
    fn owners_are_bounded() {
        let mut bytes = vec![1];
        put_number(&mut bytes, PARTITIONS_MAX as u64 + 1);
        put_number(&mut bytes, 0);
        bytes.extend_from_slice(&[0; 17]);
        assert_eq!(Owners::decode(&bytes), Err(DecodeError::Malformed));
        let unknown = [&[1, 1, 1, 0][..], &[0; 16]].concat();
        assert_eq!(Owners::decode(&unknown), Err(DecodeError::Malformed), "there is no shard 1");
    }
}
