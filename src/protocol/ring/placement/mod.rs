//! Which member holds which place: the paper's strategy 3 (section 6.2), made deterministic.
//!
//! # What it does
//!
//! `table' = f(table, members')`, in integers alone, the same on every node. Every partition has N
//! places with distinct holders, in distinct zones where there are enough. Each member holds its
//! best reachable share (`shares`), and as few places as possible change hands: whoever holds more
//! than its share gives, whoever holds less takes, and a place moves through a third member only
//! where no direct move is left.
//!
//! # How
//!
//! 1. Places whose holder is gone, or that break the zone rule, fall vacant.
//! 2. Each vacant place goes to the member that has the largest part of its share still to get;
//!    between equals a number decides that mixes member and partition (`spread`), so that whoever
//!    fails has its partners all over the cluster.
//! 3. While somebody holds too few, it takes from whoever holds the most too many, or at the end of a
//!    chain of moves (a shortest augmenting path).
//! 4. Within a partition, who stays keeps its place: a plan never swaps two places.
//! 5. One holder of each partition comes first, in the same way: of all its places, each member is
//!    first for an equal part.

mod first;
mod moves;
mod shares;

use self::moves::Assignment;
use self::shares::Bounds;
use crate::protocol::ring::member::Members;
use crate::protocol::ring::table::Table;
use crate::protocol::ring::table::VACANT;

/// The table that follows from `before` when these are the members. `before` may be of other
/// members, or have nothing in it; partitions and the number of places stay as they are there.
pub(super) fn place(before: &Table, members: &Members) -> Table {
    let mut table = adopt(before, members);
    if !members.is_empty() {
        let holders = arrange(&table, members);
        settle(&mut table.holders, &holders, usize::from(table.places_wanted));
    }
    first::choose(&mut table);
    table
}

/// The same table in terms of these members: who is none of them holds nothing.
fn adopt(before: &Table, members: &Members) -> Table {
    let index_of: Vec<u16> = before
        .members
        .all()
        .iter()
        .map(|member| members.position(member.id).map_or(VACANT, |index| index as u16))
        .collect();
    let adopt = |holder: &u16| index_of.get(usize::from(*holder)).copied().unwrap_or(VACANT);
    Table {
        members: members.clone(),
        partitions: before.partitions,
        places_wanted: before.places_wanted,
        holders: before.holders.iter().map(adopt).collect(),
        first: before.first.clone(),
    }
}

/// Who holds places of which partition; which place of it is not decided.
fn arrange(table: &Table, members: &Members) -> Vec<u16> {
    let wanted = usize::from(table.places_wanted);
    let (zone_of, zones) = shares::zones_of(members.all());
    let bounds = Bounds {
        partitions: u32::from(table.partitions.count()),
        places: wanted.min(members.len()) as u32,
        zones,
    };
    let shares = shares::shares(members.all(), &zone_of, &bounds);
    let mut assignment = Assignment::new(table, members, zone_of, bounds, shares);
    assignment.vacate_what_breaks_the_zone_rule();
    assignment.fill();
    assignment.balance();
    assignment.into_holders()
}

/// Who stays in a partition keeps its place; who comes gets a place that fell vacant, the lowest
/// first.
fn settle(places: &mut [u16], holders: &[u16], wanted: usize) {
    for (row, new) in places.chunks_mut(wanted).zip(holders.chunks(wanted)) {
        for place in row.iter_mut() {
            if !new.contains(place) {
                *place = VACANT;
            }
        }
        for holder in new.iter().filter(|holder| **holder != VACANT) {
            if !row.contains(holder) {
                let vacant = row.iter().position(|place| *place == VACANT);
                row[vacant.expect("there are as many places as holders")] = *holder;
            }
        }
    }
}
