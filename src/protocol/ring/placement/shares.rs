//! How many places each member should hold: the best that weights, zones and distinctness allow.
//!
//! # What is best
//!
//! The largest load for its weight is as small as can be, then the second largest, and so on. Bounds
//! nest: a member holds at most one place of a partition, and a zone at most as many as the zone
//! rule allows. For nested bounds, giving one place after the other to whoever bears it best
//! reaches that optimum (D'Hondt's rule, greedy over a laminar family).
//!
//! # The zone rule
//!
//! A partition's places are in as many zones as there can be: in all different ones if there are
//! enough zones, else in every zone. So with as many zones as places each zone holds one place of
//! every partition, whatever its members weigh.

use std::cmp::Ordering;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::protocol::ring::member::Member;

/// What bounds the shares.
pub(super) struct Bounds {
    /// Partitions of the ring.
    pub(super) partitions: u32,
    /// Places of each that are held: as many as wanted, or as there are members.
    pub(super) places: u32,
    /// Zones, by the numbers that [`zones_of`] gives them.
    pub(super) zones: u32,
}

/// The zones of members as numbers from 0, and how many there are.
pub(super) fn zones_of(members: &[Member]) -> (Vec<u16>, u32) {
    let mut names: Vec<_> = members.iter().map(|member| member.zone).collect();
    names.sort_unstable();
    names.dedup();
    let number = |member: &Member| names.partition_point(|name| *name < member.zone) as u16;
    (members.iter().map(number).collect(), names.len() as u32)
}

/// A member that could take one place more.
#[derive(Eq, PartialEq)]
struct Candidate {
    /// Places that it would have then.
    with_one_more: u32,
    weight: u16,
    index: usize,
}

impl Ord for Candidate {
    /// Less is better.
    fn cmp(&self, other: &Self) -> Ordering {
        let own = u64::from(self.with_one_more) * u64::from(other.weight);
        let others = u64::from(other.with_one_more) * u64::from(self.weight);
        // Of equal loads the one that is made of fewer places can be borne better.
        own.cmp(&others)
            .then(self.with_one_more.cmp(&other.with_one_more))
            .then(self.index.cmp(&other.index))
    }
}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

struct Division<'a> {
    members: &'a [Member],
    shares: Vec<u32>,
}

impl Division<'_> {
    fn candidate(&self, index: usize) -> Candidate {
        let with_one_more = self.shares[index] + 1;
        let weight = self.members[index].weight;
        Candidate { with_one_more, weight, index }
    }

    /// Gives `count` places to these members, where `may_take` lets them.
    fn give(
        &mut self,
        count: u32,
        among: impl Iterator<Item = usize>,
        mut may_take: impl FnMut(usize, u32) -> bool,
    ) {
        let mut heap: BinaryHeap<Reverse<Candidate>> =
            among.map(|index| Reverse(self.candidate(index))).collect();
        let mut left = count;
        while left > 0 {
            let Some(Reverse(best)) = heap.pop() else { return };
            if may_take(best.index, self.shares[best.index]) {
                self.shares[best.index] += 1;
                left -= 1;
                heap.push(Reverse(self.candidate(best.index)));
            }
        }
    }
}

/// The share of each member, in their order. It follows from the members alone: two that are equal may
/// differ by one place, which is the price of shares that do not depend on the past.
pub(super) fn shares(members: &[Member], zone_of: &[u16], bounds: &Bounds) -> Vec<u32> {
    let Bounds { partitions, places, zones } = *bounds;
    let mut division = Division { members, shares: vec![0; members.len()] };
    let mut in_zone = vec![0_u32; zones as usize];
    let mut left = partitions * places;
    if zones <= places {
        // Every partition is in every zone.
        for (zone, given) in in_zone.iter_mut().enumerate() {
            let own = (0..members.len()).filter(|index| usize::from(zone_of[*index]) == zone);
            division.give(partitions, own, |_, share| share < partitions);
            *given = partitions;
            left -= partitions;
        }
    }
    // And leaves the others their place, or holds one at most.
    let most = if zones >= places { partitions } else { partitions * (places - zones + 1) };
    division.give(left, 0..members.len(), |index, share| {
        let zone = &mut in_zone[usize::from(zone_of[index])];
        let may = share < partitions && *zone < most;
        *zone += u32::from(may);
        may
    });
    division.shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::MemberId;
    use crate::base::id::ZoneId;

    fn shares_of(members: &[(u16, u16)], partitions: u32, places: u32) -> Vec<u32> {
        let members: Vec<Member> = members
            .iter()
            .zip(0..)
            .map(|((weight, zone), id)| Member {
                id: MemberId::new(id),
                weight: *weight,
                zone: ZoneId::new(*zone),
            })
            .collect();
        let (zone_of, zones) = zones_of(&members);
        let bounds = Bounds { partitions, places, zones };
        shares(&members, &zone_of, &bounds)
    }

    #[test]
    fn shares_follow_weights_within_their_bounds() {
        assert_eq!(shares_of(&[(1, 0); 4], 64, 3), [48; 4]);
        assert_eq!(shares_of(&[(1, 0), (1, 0), (4, 0), (4, 0)], 100, 1), [10, 10, 40, 40]);
        // One that is worth four holds a place of each partition and no more.
        assert_eq!(shares_of(&[(1, 0), (1, 0), (1, 0), (4, 0)], 60, 3), [40, 40, 40, 60]);
        // Of three zones each holds one place of every partition.
        assert_eq!(shares_of(&[(1, 7), (1, 7), (1, 3), (1, 5)], 64, 3), [32, 32, 64, 64]);
        // Of two zones both do, and no zone takes the other's last place.
        assert_eq!(shares_of(&[(9, 0), (9, 0), (9, 0), (1, 1)], 60, 3), [40, 40, 40, 60]);
        // With more zones than places a zone holds at most one place of a partition.
        assert_eq!(shares_of(&[(9, 0), (9, 0), (1, 1), (1, 2)], 60, 2), [30, 30, 30, 30]);
        assert_eq!(shares_of(&[(1, 0)], 16, 1), [16]);
    }
}
