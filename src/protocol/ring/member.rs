//! Who may hold places of the ring: what an operator says of each node.

use std::fmt;

use crate::base::id::MemberId;
use crate::base::id::ZoneId;

/// What an operator says of one node.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Member {
    /// Bound to the operator's name of the node; survives a wiped disk.
    pub id: MemberId,
    /// Its capacity beside the others': at least 1. Twice the weight is twice the places.
    pub weight: u16,
    /// What fails together: a rack, a room. Only equality counts.
    pub zone: ZoneId,
}

/// The members of a cluster, in order of their ids.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Members {
    members: Vec<Member>,
}

/// Why these are no members of one cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BadMembers {
    /// Two have the same id.
    Twice(MemberId),
    /// One has the weight zero: whoever shall hold nothing leaves.
    Weightless(MemberId),
    /// There are more than [`MEMBERS_MAX`].
    TooMany(usize),
}

/// A place of the ring names its holder by 16 bits, of which one number means nobody.
pub const MEMBERS_MAX: usize = u16::MAX as usize;

impl fmt::Display for BadMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Twice(id) => write!(f, "member {id} is named twice"),
            Self::Weightless(id) => write!(f, "member {id} has weight 0; the least is 1"),
            Self::TooMany(count) => write!(f, "{count} members; the most are {MEMBERS_MAX}"),
        }
    }
}

impl std::error::Error for BadMembers {}

impl Members {
    /// These, in any order.
    ///
    /// # Errors
    ///
    /// [`BadMembers`].
    pub fn new(members: impl IntoIterator<Item = Member>) -> Result<Self, BadMembers> {
        let mut members: Vec<Member> = members.into_iter().collect();
        members.sort_unstable_by_key(|member| member.id);
        if members.len() > MEMBERS_MAX {
            return Err(BadMembers::TooMany(members.len()));
        }
        for (index, member) in members.iter().enumerate() {
            if member.weight == 0 {
                return Err(BadMembers::Weightless(member.id));
            }
            if index > 0 && members[index - 1].id == member.id {
                return Err(BadMembers::Twice(member.id));
            }
        }
        Ok(Self { members })
    }

    /// All of them, in order of their ids.
    pub fn all(&self) -> &[Member] {
        &self.members
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Where a member stands in the order of ids.
    pub fn position(&self, id: MemberId) -> Option<usize> {
        self.members.binary_search_by_key(&id, |member| member.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_an_order_and_no_doubles() {
        let member = |id, weight| Member { id: MemberId::new(id), weight, zone: ZoneId::new(0) };
        let members = Members::new([member(3, 1), member(1, 2)]).expect("two members");
        assert_eq!(members.all(), [member(1, 2), member(3, 1)]);
        assert_eq!(members.position(MemberId::new(3)), Some(1));
        assert_eq!(members.position(MemberId::new(2)), None);
        let twice = Members::new([member(1, 1), member(1, 1)]);
        assert_eq!(twice, Err(BadMembers::Twice(MemberId::new(1))));
        assert_eq!(Members::new([member(1, 0)]), Err(BadMembers::Weightless(MemberId::new(1))));
    }
}
