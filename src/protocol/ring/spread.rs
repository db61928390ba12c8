//! Numbers that look random and are the same on every node: ties between members are broken by them,
//! so that neighbours on the ring have different neighbours everywhere.
//!
//! What is computed here is a part of the protocol: another formula is another placement, and nodes
//! that differ in it refuse each other's tables.

use crate::base::id::MemberId;
use crate::base::id::PartitionId;

/// A member as these numbers see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn of(member: MemberId) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(&member.to_raw().to_le_bytes()))
    }

    /// The number of this member at a partition.
    #[inline]
    pub(super) fn at(self, partition: PartitionId) -> u64 {
        mix(self.0 ^ (u64::from(partition.to_raw()) + 1).wrapping_mul(GOLDEN))
    }

    /// The rank of this member at a partition, the lowest first: in the first place stands each with
    /// a chance in proportion to its weight, and whoever comes or goes changes no order of others
    /// (rendezvous hashing, Thaler and Ravishankar 1996).
    #[inline]
    pub(super) fn rank(self, partition: PartitionId, weight: u16) -> u64 {
        // The least of exponential variates with these rates is each with that chance.
        // Another number than the one by which holders were chosen, or they would be the first of all.
        (halvings(mix(self.at(partition).wrapping_add(GOLDEN))) << 24) / u64::from(weight)
    }
}

/// An odd number whose multiples are far apart.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// Every bit of the result depends on every bit of `number` (the last step of SplitMix64).
#[inline]
fn mix(number: u64) -> u64 {
    let mut mixed = number;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// How often one must be halved to become `number` / 2^64, in units of 2^-32: its logarithm, with
/// straight lines between powers of two (at most 0.09 too high, the same for all).
fn halvings(number: u64) -> u64 {
    let zeros = u64::from(number.leading_zeros());
    let fraction = if zeros == 64 { 0 } else { (number << zeros) << 1 >> 32 };
    ((zeros + 1) << 32) - fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halvings_are_a_logarithm() {
        assert_eq!(halvings(1 << 63), 1 << 32);
        assert_eq!(halvings(1 << 62), 2 << 32);
        for number in [u64::MAX, 3 << 62, 5 << 40, 12_345, 1] {
            let exact = 64.0 - (number as f64).log2();
            let ours = halvings(number) as f64 / (1_u64 << 32) as f64;
            assert!((0.0..0.09).contains(&(ours - exact + 1e-9)), "{number}: {ours}, {exact}");
        }
        assert!(halvings(0) > halvings(1));
    }

    /// Weights 1 to 4: who is first of all is so in proportion.
    #[test]
    fn ranks_follow_weights() {
        let members: Vec<(Seed, u16)> =
            (0..10).map(|id| (Seed::of(MemberId::new(id)), 1 + 3 * (id % 2) as u16)).collect();
        let mut heavy = 0;
        for partition in (0..16_384).map(PartitionId::new) {
            let first = members.iter().min_by_key(|(seed, weight)| seed.rank(partition, *weight));
            heavy += u32::from(first.expect("there are ten").1 == 4);
        }
        let share = f64::from(heavy) / 16_384.0;
        assert!((share - 0.8).abs() < 0.02, "{share}");
    }
}
