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

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}
