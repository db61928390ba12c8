//! Where a machine leaves what it wants done.

use std::ops::Range;

/// Effects in the order they were decided, and one arena for the bytes that they speak of.
///
/// It is lent to the machine, not owned by it: one allocation serves a whole shard. The driver
/// performs the effects after each event, then calls [`Outbox::clear`].
#[derive(Debug)]
pub struct Outbox<E> {
    effects: Vec<E>,
    /// Bytes that effects name by their range: answers to clients are written straight into it.
    pub arena: Vec<u8>,
}

impl<E> Default for Outbox<E> {
    fn default() -> Self {
        Self { effects: Vec::new(), arena: Vec::new() }
    }
}

impl<E> Outbox<E> {
    /// Asks for `effect`.
    pub fn push(&mut self, effect: E) {
        self.effects.push(effect);
    }

    /// Takes the effects out, in order. The arena stays, for they may speak of it.
    pub fn drain(&mut self) -> std::vec::Drain<'_, E> {
        self.effects.drain(..)
    }

    /// Takes the effects and lends the arena that they speak of.
    pub fn take(&mut self) -> (std::vec::Drain<'_, E>, &[u8]) {
        (self.effects.drain(..), &self.arena)
    }

    /// The last effect, to be made longer.
    pub fn last_mut(&mut self) -> Option<&mut E> {
        self.effects.last_mut()
    }

    /// The effects so far.
    pub fn effects(&self) -> &[E] {
        &self.effects
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.effects.is_empty()
    }

    /// The bytes of a range that an effect names.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.arena[range]
    }

    /// Forgets the bytes of performed effects; what was allocated is kept for the next event.
    ///
    /// # Panics
    ///
    /// If an effect was not taken: its bytes would be gone.
    pub fn clear(&mut self) {
        assert!(self.effects.is_empty(), "an effect was never performed");
        self.arena.clear();
    }
}
