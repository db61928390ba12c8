//! Contexts that servers gave out, remembered by key for the next put.
//!
//! A table of fixed size, so that nothing is allocated while a run is measured and memory stays
//! bounded whatever the number of keys. Two keys that meet in one slot displace each other: the
//! one that was forgotten is read again before it is written, as a client without memory would.

use crate::rng::mix;

/// See the module's page.
#[derive(Debug)]
pub struct Contexts {
    slots: Vec<Slot>,
}

#[derive(Clone, Debug)]
struct Slot {
    key: u64,
    length: u16,
    bytes: [u8; CONTEXT_BYTES_MAX],
}

impl Contexts {
    /// Room for about so many keys, within [`SLOTS_MAX`].
    pub fn new(keys: u64) -> Self {
        let count = keys.min(SLOTS_MAX).next_power_of_two() as usize;
        Self { slots: vec![Slot { key: 0, length: 0, bytes: [0; CONTEXT_BYTES_MAX] }; count] }
    }

    /// Remembers the context of a key, unless it is too long.
    pub fn remember(&mut self, key: u64, context: &[u8]) {
        let slot = self.slot(key);
        slot.key = key;
        slot.length = 0;
        if context.len() <= CONTEXT_BYTES_MAX {
            slot.length = context.len() as u16;
            slot.bytes[..context.len()].copy_from_slice(context);
        }
    }

    /// The context of a key, once: a second put with it would be concurrent with the first.
    pub fn take(&mut self, key: u64) -> Option<&[u8]> {
        let slot = self.slot(key);
        let length = usize::from(slot.length);
        if slot.key != key || length == 0 {
            return None;
        }
        slot.length = 0;
        Some(&slot.bytes[..length])
    }

    fn slot(&mut self, key: u64) -> &mut Slot {
        let index = mix(key) as usize & (self.slots.len() - 1);
        &mut self.slots[index]
    }
}

/// 64 Mi of memory a thread, at 256 bytes a slot.
pub const SLOTS_MAX: u64 = 1 << 18;

/// Most contexts are below 100 bytes; a longer one is used at once and not remembered.
const CONTEXT_BYTES_MAX: usize = 246;

const _: () = assert!(size_of::<Slot>() == 256);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_is_given_out_once_and_only_for_its_key() {
        let mut contexts = Contexts::new(4);
        contexts.remember(3, b"abc");
        assert_eq!(contexts.take(4), None);
        assert_eq!(contexts.take(3), Some(&b"abc"[..]));
        assert_eq!(contexts.take(3), None);
    }

    #[test]
    fn what_is_too_long_or_displaced_is_forgotten() {
        let mut contexts = Contexts::new(1);
        contexts.remember(1, b"abc");
        contexts.remember(2, b"de");
        assert_eq!(contexts.take(1), None);
        contexts.remember(2, &[b'x'; CONTEXT_BYTES_MAX + 1]);
        assert_eq!(contexts.take(2), None);
        contexts.remember(2, &[b'x'; CONTEXT_BYTES_MAX]);
        assert_eq!(contexts.take(2).map(<[u8]>::len), Some(CONTEXT_BYTES_MAX));
    }
}
