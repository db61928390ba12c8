//! Who should hold which place of the ring.
//!
//! A partition has N places (Dynamo, section 4.3: the coordinator and its successors). A place is
//! what is handed over when the ring changes and what a quorum counts, so it has a number of its
//! own; which of the holders is asked first is another matter, and changes without moving data.

use crate::base::id::MemberId;
use crate::base::id::PartitionId;
use crate::protocol::ring::Partitions;
use crate::protocol::ring::member::Member;
use crate::protocol::ring::member::Members;
use crate::protocol::ring::placement;

/// No member: a place that nobody holds, for there are fewer members than places.
pub(super) const VACANT: u16 = u16::MAX;

/// The most places of a partition. Beyond a handful, more copies only cost.
pub const PLACES_MAX: u8 = 16;

/// The places of every partition and who holds them.
///
/// Two tables are equal if they were made from equal members in equal steps, on whatever machine.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Table {
    pub(super) members: Members,
    pub(super) partitions: Partitions,
    /// N.
    pub(super) places_wanted: u8,
    /// N for each partition, by the position of the member or [`VACANT`].
    pub(super) holders: Vec<u16>,
    /// For each partition, which of its places is asked first.
    pub(super) first: Vec<u8>,
}

impl Table {
    /// The table of a new cluster, in which each partition has `places` places.
    ///
    /// # Panics
    ///
    /// Unless `places` is from 1 to [`PLACES_MAX`].
    pub fn new(partitions: Partitions, places: u8, members: &Members) -> Self {
        assert!((1..=PLACES_MAX).contains(&places), "a partition has a few places: {places}");
        let count = usize::from(partitions.count());
        let empty = Self {
            members: Members::default(),
            partitions,
            places_wanted: places,
            holders: vec![VACANT; count * usize::from(places)],
            first: vec![0; count],
        };
        placement::place(&empty, members)
    }

    /// The table that follows from this one when the members are these.
    pub fn with_members(&self, members: &Members) -> Self {
        placement::place(self, members)
    }

    /// The members among whom the places are divided.
    pub fn members(&self) -> &Members {
        &self.members
    }

    /// The partitions of the ring.
    pub fn partitions(&self) -> Partitions {
        self.partitions
    }

    /// Effective N: places of each partition that somebody holds.
    pub fn places(&self) -> usize {
        usize::from(self.places_wanted).min(self.members.len())
    }

    /// N as it was wanted.
    pub fn places_wanted(&self) -> u8 {
        self.places_wanted
    }

    /// Who holds a place.
    ///
    /// # Panics
    ///
    /// If there is no such partition or place.
    pub fn holder(&self, partition: PartitionId, place: u8) -> Option<MemberId> {
        let holder = self.row(partition)[usize::from(place)];
        (holder != VACANT).then(|| self.member(holder).id)
    }

    /// Who holds places of a partition, in the order in which they are asked.
    pub fn primaries(&self, partition: PartitionId) -> impl Iterator<Item = &Member> {
        self.in_order(partition).map(|holder| self.member(holder))
    }

    /// The same, by their positions among [`Table::members`].
    pub(super) fn in_order(&self, partition: PartitionId) -> impl Iterator<Item = u16> {
        let first = usize::from(self.first[usize::from(partition.to_raw())]);
        let row = self.row(partition);
        row[first..].iter().chain(&row[..first]).copied().filter(|holder| *holder != VACANT)
    }

    pub(super) fn member(&self, holder: u16) -> &Member {
        &self.members.all()[usize::from(holder)]
    }

    pub(super) fn row(&self, partition: PartitionId) -> &[u16] {
        let wanted = usize::from(self.places_wanted);
        let start = usize::from(partition.to_raw()) * wanted;
        &self.holders[start..start + wanted]
    }
}
