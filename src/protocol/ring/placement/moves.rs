//! Places change hands until everybody holds its share, with as few moves as can be.
//!
//! # Invariants
//!
//! - The holders of a partition are distinct, after every single step.
//! - A step never leaves a partition in fewer zones than it could be in: the zone rule holds from
//!   [`Assignment::vacate_what_breaks_the_zone_rule`] on, for what is vacant counts as a zone.

use std::collections::VecDeque;

use super::shares::Bounds;
use crate::base::id::PartitionId;
use crate::protocol::ring::member::Members;
use crate::protocol::ring::spread::Seed;
use crate::protocol::ring::table::Table;
use crate::protocol::ring::table::VACANT;

/// Chains of moves are tried so often for each member, should they not come to an end.
const CHAINS_FOR_EACH: usize = 64;

/// Parts of a share that are told apart when a vacant place is given away. Fewer, and shares are not
/// kept pace with; more, and who lacks a place more than others is with the same others always.
const LEVELS: u32 = 32;

/// Who holds what while it is being arranged.
pub(super) struct Assignment {
    bounds: Bounds,
    /// Places in a row of `cells`.
    width: usize,
    /// Position of the holder or [`VACANT`], place by place.
    cells: Vec<u16>,
    seeds: Vec<Seed>,
    zone_of: Vec<u16>,
    shares: Vec<u32>,
    /// The cells of each member.
    held: Vec<Vec<u32>>,
}

impl Assignment {
    pub(super) fn new(
        table: &Table,
        members: &Members,
        zone_of: Vec<u16>,
        bounds: Bounds,
        shares: Vec<u32>,
    ) -> Self {
        let cells = table.holders.clone();
        let mut held = vec![Vec::new(); members.len()];
        for (holder, cell) in cells.iter().zip(0..) {
            if *holder != VACANT {
                held[usize::from(*holder)].push(cell);
            }
        }
        let seeds = members.all().iter().map(|member| Seed::of(member.id)).collect();
        let width = usize::from(table.places_wanted);
        Self { bounds, width, cells, seeds, zone_of, shares, held }
    }

    pub(super) fn into_holders(self) -> Vec<u16> {
        self.cells
    }

    /// Members or their zones may have changed: what no place may be any more falls vacant.
    pub(super) fn vacate_what_breaks_the_zone_rule(&mut self) {
        for partition in 0..self.bounds.partitions as usize {
            while let Some(cell) = self.worst_double(partition) {
                let holder = self.cells[cell];
                self.held[usize::from(holder)].retain(|own| *own as usize != cell);
                self.cells[cell] = VACANT;
            }
        }
    }

    /// A place whose zone has another one in this partition, if that is one too many: of several the
    /// one whose holder has the most too many.
    fn worst_double(&self, partition: usize) -> Option<usize> {
        let cells = self.row(partition);
        let in_zone = |zone: u16| {
            let row = self.row(partition);
            let holders = self.cells[row].iter().filter(|holder| **holder != VACANT);
            holders.filter(|holder| self.zone_of[usize::from(**holder)] == zone).count()
        };
        let held = self.cells[cells.clone()].iter().filter(|holder| **holder != VACANT).count();
        let free = (self.bounds.places as usize).saturating_sub(held);
        let covered = self.covered(partition, VACANT);
        let missing = (self.bounds.zones.min(self.bounds.places) as usize).saturating_sub(covered);
        if held <= self.bounds.places as usize && missing <= free {
            return None;
        }
        let doubles = cells.filter(|cell| {
            let holder = self.cells[*cell];
            holder != VACANT && in_zone(self.zone_of[usize::from(holder)]) > 1
        });
        doubles.max_by_key(|cell| (self.surplus(self.cells[*cell]), *cell))
    }

    /// Every vacant place that is wanted gets a holder.
    pub(super) fn fill(&mut self) {
        let lacks = |assignment: &Self, partition: usize| {
            let row = &assignment.cells[assignment.row(partition)];
            let held = row.iter().filter(|holder| **holder != VACANT).count();
            (assignment.bounds.places as usize).saturating_sub(held)
        };
        let partitions = self.bounds.partitions as usize;
        let mut rows_left = (0..partitions).filter(|row| lacks(self, *row) > 0).count();
        for partition in 0..partitions {
            let lacking = lacks(self, partition);
            for _ in 0..lacking {
                let cell = self.row(partition).find(|cell| self.cells[*cell] == VACANT);
                let cell = cell.expect("a row is as wide as its places");
                let holder = self.best_for(cell, rows_left);
                self.give(cell, holder);
            }
            rows_left -= usize::from(lacking > 0);
        }
    }

    /// Who takes a vacant place. A member, or a zone, that needs a place in every partition that is
    /// left goes first; then whoever has the largest part of its share to get.
    fn best_for(&self, cell: usize, rows_left: usize) -> u16 {
        let partition = PartitionId::new((cell / self.width) as u16);
        let mut zone_lacks = vec![0; self.bounds.zones as usize];
        if self.bounds.zones > self.bounds.places {
            for index in 0..self.shares.len() {
                zone_lacks[usize::from(self.zone_of[index])] += self.lacking(index);
            }
        }
        let mut best: Option<(u16, (bool, u32), u64)> = None;
        for index in 0..self.shares.len() {
            let member = index as u16;
            if !self.may_take(cell, member) {
                continue;
            }
            let lacking = self.lacking(index);
            let must = lacking as usize >= rows_left
                || zone_lacks[usize::from(self.zone_of[index])] as usize >= rows_left;
            let part = (LEVELS * lacking).div_ceil(self.shares[index].max(1));
            let rank = (must && lacking > 0, part);
            if best.is_some_and(|(_, best, _)| rank < best) {
                continue;
            }
            let tie = self.seeds[index].at(partition);
            if best.is_none_or(|(_, best, best_tie)| (best, best_tie) < (rank, tie)) {
                best = Some((member, rank, tie));
            }
        }
        best.expect("there are more members than places, in enough zones").0
    }

    /// Everybody comes to its share.
    pub(super) fn balance(&mut self) {
        let mut chains = CHAINS_FOR_EACH * self.shares.len();
        while let Some(taker) = self.neediest() {
            if self.take_from_the_richest(taker) {
                continue;
            }
            if chains == 0 || !self.move_along_a_chain() {
                return;
            }
            chains -= 1;
        }
    }

    /// Who lacks the most places.
    fn neediest(&self) -> Option<u16> {
        let all = (0..self.shares.len()).map(|index| (self.lacking(index), index));
        let most = all.max_by_key(|(lacking, index)| (*lacking, std::cmp::Reverse(*index)));
        most.filter(|(lacking, _)| *lacking > 0).map(|(_, index)| index as u16)
    }

    /// Moves one place to this member, of whoever has the most too many and can give it one.
    fn take_from_the_richest(&mut self, taker: u16) -> bool {
        let mut rich: Vec<u16> =
            (0..self.shares.len() as u16).filter(|holder| self.surplus(*holder) > 0).collect();
        rich.sort_by_key(|holder| std::cmp::Reverse(self.surplus(*holder)));
        for giver in rich {
            let cells = &self.held[usize::from(giver)];
            // Begin anywhere, so that what is taken is from all over the ring.
            let seed = self.seeds[usize::from(taker)].at(PartitionId::new(giver));
            let start = (seed % cells.len() as u64) as usize;
            let order = (start..cells.len()).chain(0..start);
            let found = { order }.find(|at| self.may_take(cells[*at] as usize, taker));
            if let Some(at) = found {
                let cell = self.held[usize::from(giver)].swap_remove(at) as usize;
                self.give(cell, taker);
                return true;
            }
        }
        false
    }

    /// Where nobody who has too many can give directly: the shortest chain of moves from one who has
    /// too many to one who lacks.
    fn move_along_a_chain(&mut self) -> bool {
        let members = self.shares.len();
        // From whom, and which place, each would get.
        let mut through: Vec<Option<(u16, u32)>> = vec![None; members];
        let mut queue: VecDeque<u16> =
            (0..members as u16).filter(|holder| self.surplus(*holder) > 0).collect();
        let mut is_met: Vec<bool> =
            (0..members as u16).map(|holder| self.surplus(holder) > 0).collect();
        while let Some(giver) = queue.pop_front() {
            for cell in &self.held[usize::from(giver)] {
                for taker in 0..members as u16 {
                    let index = usize::from(taker);
                    if is_met[index] || !self.may_take(*cell as usize, taker) {
                        continue;
                    }
                    is_met[index] = true;
                    through[index] = Some((giver, *cell));
                    if self.lacking(index) > 0 {
                        return self.shift(taker, &through);
                    }
                    queue.push_back(taker);
                }
            }
        }
        false
    }

    /// Carries out a chain from its end, as far as each move is still allowed after the one before.
    fn shift(&mut self, last: u16, through: &[Option<(u16, u32)>]) -> bool {
        let (mut taker, mut moved) = (last, false);
        while let Some((giver, cell)) = through[usize::from(taker)] {
            if !self.may_take(cell as usize, taker) {
                break;
            }
            self.held[usize::from(giver)].retain(|own| *own != cell);
            self.give(cell as usize, taker);
            moved = true;
            taker = giver;
        }
        moved
    }

    fn give(&mut self, cell: usize, taker: u16) {
        self.cells[cell] = taker;
        self.held[usize::from(taker)].push(cell as u32);
    }

    /// Whether a place may be this member's, instead of whose it is.
    #[inline]
    fn may_take(&self, cell: usize, taker: u16) -> bool {
        let row = self.row(cell / self.width);
        let zone = self.zone_of[usize::from(taker)];
        let must_differ = self.bounds.zones >= self.bounds.places;
        let mut others_in_zone = false;
        for other in row.filter(|other| *other != cell) {
            let holder = self.cells[other];
            if holder == taker {
                return false;
            }
            others_in_zone |= holder != VACANT && self.zone_of[usize::from(holder)] == zone;
        }
        if self.cells[cell] == taker {
            return false;
        }
        !others_in_zone || (!must_differ && self.is_covered_without(cell))
    }

    /// Whether every zone that is not in a partition without this place could still be.
    fn is_covered_without(&self, cell: usize) -> bool {
        let partition = cell / self.width;
        let others = self.row(partition).filter(|other| *other != cell);
        let held = others.filter(|other| self.cells[*other] != VACANT).count();
        // This place goes to a zone that is there already.
        let free = (self.bounds.places as usize).saturating_sub(held + 1);
        let cell_in_row = (cell % self.width) as u16;
        self.covered(partition, cell_in_row) + free >= self.bounds.zones as usize
    }

    /// How many zones a partition is in, one of its places not counted.
    fn covered(&self, partition: usize, without: u16) -> usize {
        let row = &self.cells[self.row(partition)];
        let zones = |(at, holder): (usize, &u16)| {
            let counts = *holder != VACANT && at != usize::from(without);
            counts.then(|| self.zone_of[usize::from(*holder)])
        };
        let is_new = |(at, zone): &(usize, u16)| {
            !row.iter().enumerate().take(*at).filter_map(zones).any(|other| other == *zone)
        };
        let all = row.iter().enumerate().filter_map(|cell| Some((cell.0, zones(cell)?)));
        all.filter(is_new).count()
    }

    fn row(&self, partition: usize) -> std::ops::Range<usize> {
        partition * self.width..(partition + 1) * self.width
    }

    fn lacking(&self, index: usize) -> u32 {
        self.shares[index].saturating_sub(self.held[index].len() as u32)
    }

    fn surplus(&self, holder: u16) -> u32 {
        let index = usize::from(holder);
        (self.held[index].len() as u32).saturating_sub(self.shares[index])
    }
}
