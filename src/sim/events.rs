//! A set of events of one key: what a writer had seen, without any clock.
//!
//! Every judge of what clients are told thinks in these sets; the store thinks in clocks and dots.

/// A set of events of one key, by their numbers.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Events(Vec<u64>);

impl Events {
    /// Puts one in.
    pub fn insert(&mut self, number: u32) {
        let word = number as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (number % 64);
    }

    /// Puts in all that are numbered below `count`.
    pub fn insert_first(&mut self, count: u32) {
        let (whole, rest) = (count as usize / 64, count % 64);
        if self.0.len() < count.div_ceil(64) as usize {
            self.0.resize(count.div_ceil(64) as usize, 0);
        }
        self.0[..whole].fill(u64::MAX);
        if rest > 0 {
            self.0[whole] |= (1 << rest) - 1;
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, number: u32) {
        if let Some(word) = self.0.get_mut(number as usize / 64) {
            *word &= !(1 << (number % 64));
        }
        self.trim();
    }

    /// Whether it is in.
    pub fn has(&self, number: u32) -> bool {
        self.0.get(number as usize / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    /// Leaves only those that are in `other`, in one form.
    pub fn meet(&mut self, other: &Self) {
        self.0.truncate(other.0.len());
        for (word, mask) in self.0.iter_mut().zip(&other.0) {
            *word &= mask;
        }
        self.trim();
    }

    /// Puts in all that are in `other`.
    pub fn join(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (word, more) in self.0.iter_mut().zip(&other.0) {
            *word |= more;
        }
    }

    /// Leaves only those that are not in `other`, in one form.
    pub fn drop_all(&mut self, other: &Self) {
        for (word, mask) in self.0.iter_mut().zip(&other.0) {
            *word &= !mask;
        }
        self.trim();
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().zip(0..).flat_map(|(word, index)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                let bit = left.trailing_zeros();
                left &= left.checked_sub(1)?;
                Some(index * 64 + bit)
            })
        })
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;
    use std::collections::BTreeSet;

    /// Against the plain set, with numbers around the ends of words.
    #[test]
    fn it_is_a_set_of_one_form() {
        let mut rng = Rng::from_seed(1);
        let (mut events, mut model) = (Events::default(), BTreeSet::new());
        for _ in 0..5_000 {
            let number = rng.below(200) as u32;
            let other: BTreeSet<u32> = (0..rng.below(200) as u32).collect();
            let mut others = Events::default();
            others.insert_first(other.len() as u32);
            match rng.below(6) {
                0 | 1 => (events.insert(number), model.insert(number)).0,
                2 => (events.remove(number), model.remove(&number)).0,
                3 => (events.join(&others), model.extend(&other)).0,
                4 => (events.meet(&others), model.retain(|event| other.contains(event))).0,
                _ => (events.drop_all(&others), model.retain(|event| !other.contains(event))).0,
            }
            assert!(events.iter().eq(model.iter().copied()));
            assert_eq!(events.is_empty(), model.is_empty());
            assert_eq!(events.has(number), model.contains(&number));
            assert_eq!(events, events.iter().fold(Events::default(), with), "of one form");
        }
    }

    fn with(mut events: Events, number: u32) -> Events {
        events.insert(number);
        events
    }
}
