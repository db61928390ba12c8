//! Preference lists (Dynamo, section 4.3): who is asked for a partition, and in what order.
//!
//! First the N that hold its places, then those that stand in for them while they are away. The
//! paper goes on along the ring for the latter; here they are in an order of their own for each
//! partition, in proportion to weights, so that what a failed node would have taken is spread over
//! all others whatever the table looks like ("evenly dispersed", section 4.2).
//!
//! A list ends after twice N: whoever is not in it never coordinates, stands in or keeps a hint for
//! the partition. The reaping of tombstones counts on that.

use crate::base::id::PartitionId;
use crate::protocol::ring::member::Member;
use crate::protocol::ring::spread::Seed;
use crate::protocol::ring::table::Table;

/// Every partition's preference list, computed once for a table.
#[derive(Clone, Debug)]
pub struct Preferences {
    table: Table,
    /// Lists of equal length, one after the other, by positions of members.
    lists: Vec<u16>,
    length: usize,
}

/// One entry of a preference list.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Preferred {
    /// The member's position among those of the table.
    pub position: u16,
    /// Whether it holds a place; else it stands in for those who do.
    pub is_primary: bool,
}

impl Preferences {
    /// The lists that follow from a table. Takes time in proportion to partitions times members.
    pub fn new(table: Table) -> Self {
        let members = table.members().all();
        let seeds: Vec<Seed> = members.iter().map(|member| Seed::of(member.id)).collect();
        let length = (2 * table.places()).min(members.len());
        let mut lists = Vec::with_capacity(usize::from(table.partitions().count()) * length);
        let mut others: Vec<(u64, u16)> = Vec::with_capacity(members.len());
        for partition in table.partitions().all() {
            let start = lists.len();
            lists.extend(table.in_order(partition));
            let fallbacks = length - (lists.len() - start);
            if fallbacks == 0 {
                continue;
            }
            let primaries = &lists[start..];
            others.clear();
            others.extend(seeds.iter().zip(members).zip(0..).filter_map(
                |((seed, member), position)| {
                    let stands_in = !primaries.contains(&position);
                    stands_in.then(|| (seed.rank(partition, member.weight), position))
                },
            ));
            if fallbacks < others.len() {
                others.select_nth_unstable(fallbacks - 1);
                others.truncate(fallbacks);
            }
            others.sort_unstable();
            lists.extend(others.iter().map(|(_, position)| *position));
        }
        Self { table, lists, length }
    }

    /// The table that they follow from.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// A partition's list: primaries in the order in which they are asked, then fallbacks in theirs.
    pub fn of(&self, partition: PartitionId) -> impl ExactSizeIterator<Item = Preferred> {
        let start = usize::from(partition.to_raw()) * self.length;
        let primaries = self.table.places();
        let list = self.lists[start..start + self.length].iter().enumerate();
        list.map(move |(at, position)| Preferred {
            position: *position,
            is_primary: at < primaries,
        })
    }

    /// The member at a position.
    pub fn member(&self, position: u16) -> &Member {
        self.table.member(position)
    }
}
