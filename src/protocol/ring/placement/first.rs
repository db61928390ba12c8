//! Which holder of a partition is asked first: of all its places, each member is first for an equal
//! part, for plain writes and stock cluster clients go there.
//!
//! It is no data that moves when this changes, but warm records do: whoever is first stays so as far
//! as the division allows.

use std::collections::VecDeque;

use crate::protocol::ring::table::Table;
use crate::protocol::ring::table::VACANT;

/// Who is first in which partition, while it is being chosen.
struct Choice<'a> {
    table: &'a Table,
    /// Position of the member that is first, or [`VACANT`].
    first: Vec<u16>,
    /// For how many partitions each member is first, and should be.
    counts: Vec<u32>,
    shares: Vec<u32>,
}

/// Chooses who is first in every partition.
pub(super) fn choose(table: &mut Table) {
    let members = table.members.len();
    let mut held = vec![0; members];
    for holder in table.holders.iter().filter(|holder| **holder != VACANT) {
        held[usize::from(*holder)] += 1;
    }
    let first = vec![VACANT; table.first.len()];
    let shares = shares(&held, table.first.len() as u32);
    let mut choice = Choice { table, first, counts: vec![0; members], shares };
    choice.keep();
    choice.fill();
    choice.balance();
    let first = choice.first;
    for (partition, (first, place)) in first.iter().zip(&mut table.first).enumerate() {
        let wanted = usize::from(table.places_wanted);
        let row = &table.holders[partition * wanted..(partition + 1) * wanted];
        *place = row.iter().position(|holder| holder == first).unwrap_or(0) as u8;
    }
}

/// Parts of `partitions` in proportion to places, rounded to the nearest.
fn shares(held: &[u32], partitions: u32) -> Vec<u32> {
    let total: u64 = held.iter().map(|held| u64::from(*held)).sum();
    let mut upto = 0;
    let bound = |places: u64| (places * u64::from(partitions) + total / 2) / total.max(1);
    held.iter()
        .map(|held| {
            let before = bound(upto);
            upto += u64::from(*held);
            (bound(upto) - before) as u32
        })
        .collect()
}

impl Choice<'_> {
    fn row(&self, partition: usize) -> &[u16] {
        let wanted = usize::from(self.table.places_wanted);
        &self.table.holders[partition * wanted..(partition + 1) * wanted]
    }

    fn is_short(&self, holder: u16) -> bool {
        self.counts[usize::from(holder)] < self.shares[usize::from(holder)]
    }

    fn set(&mut self, partition: usize, holder: u16) {
        let before = std::mem::replace(&mut self.first[partition], holder);
        if before != VACANT {
            self.counts[usize::from(before)] -= 1;
        }
        self.counts[usize::from(holder)] += 1;
    }

    /// Whoever was first and may be so stays first.
    fn keep(&mut self) {
        for partition in 0..self.first.len() {
            let place = usize::from(self.table.first[partition]);
            let holder = self.row(partition)[place];
            if holder != VACANT && self.is_short(holder) {
                self.set(partition, holder);
            }
        }
    }

    /// Nobody is first: whoever lacks the largest part of its share.
    fn fill(&mut self) {
        for partition in 0..self.first.len() {
            if self.first[partition] != VACANT {
                continue;
            }
            let lacks = |holder: &u16| {
                let (count, share) =
                    (self.counts[usize::from(*holder)], self.shares[usize::from(*holder)].max(1));
                (u64::from(count) << 32) / u64::from(share)
            };
            let held = self.row(partition).iter().copied().filter(|holder| *holder != VACANT);
            if let Some(holder) = held.min_by_key(|holder| (lacks(holder), *holder)) {
                self.set(partition, holder);
            }
        }
    }

    /// Along shortest chains, from one who is first too often to one who is not often enough.
    fn balance(&mut self) {
        while self.move_along_a_chain() {}
    }

    fn move_along_a_chain(&mut self) -> bool {
        let members = self.shares.len();
        let is_over =
            |holder: u16| self.counts[usize::from(holder)] > self.shares[usize::from(holder)];
        let mut queue: VecDeque<u16> = (0..members as u16).filter(|one| is_over(*one)).collect();
        let mut is_met: Vec<bool> = (0..members as u16).map(is_over).collect();
        if queue.is_empty() {
            return false;
        }
        let mut led = vec![Vec::new(); members];
        for (partition, first) in self.first.iter().enumerate().filter(|(_, one)| **one != VACANT) {
            led[usize::from(*first)].push(partition);
        }
        let mut through: Vec<Option<(u16, usize)>> = vec![None; members];
        while let Some(giver) = queue.pop_front() {
            for partition in &led[usize::from(giver)] {
                for place in 0..usize::from(self.table.places_wanted) {
                    let taker = self.row(*partition)[place];
                    if taker == VACANT || std::mem::replace(&mut is_met[usize::from(taker)], true) {
                        continue;
                    }
                    through[usize::from(taker)] = Some((giver, *partition));
                    if self.is_short(taker) {
                        self.shift(taker, &through);
                        return true;
                    }
                    queue.push_back(taker);
                }
            }
        }
        false
    }

    fn shift(&mut self, last: u16, through: &[Option<(u16, usize)>]) {
        let mut taker = last;
        while let Some((giver, partition)) = through[usize::from(taker)] {
            self.set(partition, taker);
            taker = giver;
        }
    }
}
