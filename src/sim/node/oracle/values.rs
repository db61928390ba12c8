//! The values of a run: each is written by one command and says which.

use crate::sim::node::keys::KeyIndex;

/// Names a value.
pub type ValueId = u32;

/// Every value that a client ever sent.
#[derive(Clone, Debug, Default)]
pub struct Values(Vec<(KeyIndex, usize)>);

/// Values are at least this long: number and key.
pub const VALUE_BYTES_MIN: usize = 8;

impl Values {
    /// A new value for this key.
    pub fn propose(&mut self, key: KeyIndex, length: usize) -> ValueId {
        self.0.push((key, length.max(VALUE_BYTES_MIN)));
        (self.0.len() - 1) as ValueId
    }

    /// How long it is.
    pub fn length(&self, value: ValueId) -> usize {
        self.0[value as usize].1
    }

    /// Its bytes.
    pub fn bytes(&self, value: ValueId) -> Vec<u8> {
        let (key, length) = self.0[value as usize];
        let mut bytes = value.to_le_bytes().to_vec();
        bytes.extend((key as u32).to_le_bytes());
        bytes.extend((VALUE_BYTES_MIN..length).map(|at| filler(value, at)));
        bytes
    }

    /// Which value these bytes are: no phantom, no other key's, not a bit changed.
    ///
    /// # Panics
    ///
    /// If they were never written for this key.
    pub fn recognise(&self, key: KeyIndex, bytes: &[u8]) -> ValueId {
        let number = bytes.first_chunk::<4>().map(|number| u32::from_le_bytes(*number));
        let value = number.filter(|number| (*number as usize) < self.0.len());
        let value = value.unwrap_or_else(|| panic!("key {key}: {bytes:?} was never written"));
        assert_eq!(self.0[value as usize].0, key, "key {key} holds value {value} of another");
        assert!(bytes == self.bytes(value), "value {value} of key {key} is not what was written");
        value
    }
}

fn filler(value: ValueId, at: usize) -> u8 {
    (value.wrapping_mul(0x9e37_79b9) >> 24) as u8 ^ (at as u8).wrapping_mul(29)
}
