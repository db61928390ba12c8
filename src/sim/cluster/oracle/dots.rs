//! I12: one dot names one write, for ever and everywhere.
//!
//! A dot that is issued twice makes an acknowledged write look already seen; whatever this leads to
//! comes much later, if at all in a run. So all dots that are ever stored are compared as they are.

use std::collections::BTreeMap;

use super::KeyIndex;
use super::verdict::Rule;
use super::verdict::Violation;

/// A dot, taken apart by whoever knows what it is made of.
pub type OpaqueDot = (u64, u64, u64);

/// Every dot that was ever seen, and what it named.
#[derive(Clone, Debug, Default)]
pub struct Dots(BTreeMap<OpaqueDot, (KeyIndex, u128)>);

impl Dots {
    /// A sibling of this content, as a fingerprint, was seen somewhere under this dot.
    ///
    /// # Errors
    ///
    /// If the dot ever named another content, or another key.
    pub fn saw(&mut self, key: KeyIndex, dot: OpaqueDot, content: u128) -> Result<(), Violation> {
        let first = *self.0.entry(dot).or_insert((key, content));
        if first == (key, content) {
            return Ok(());
        }
        let (first_key, first_content) = first;
        let why = format!(
            "dot {dot:?} names content {content:032x}, and named {first_content:032x} of key \
             {first_key}"
        );
        Err(Violation { rule: Rule::OneDot, key, events: Vec::new(), why })
    }

    /// How many there were.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
