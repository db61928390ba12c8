//! Bytes that a disk takes directly: their address is a multiple of the page size.
//!
//! `O_DIRECT` needs aligned memory. This gets it without `unsafe`, by allocating one page more than
//! asked for and starting at the first aligned byte of it.

use std::fmt;
use std::ops::Deref;
use std::ops::DerefMut;

/// What direct writes are aligned to: address, offset and length.
pub const PAGE_BYTES: usize = 4096;

/// A growing run of bytes with a fixed capacity and an aligned start.
pub struct AlignedBuffer {
    /// One page longer than the capacity. Never reallocated, so that the start stays aligned.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl AlignedBuffer {
    /// An empty buffer for up to `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        let bytes = vec![0; capacity + PAGE_BYTES];
        let start = bytes.as_ptr().align_offset(PAGE_BYTES);
        assert!(start < PAGE_BYTES, "any address has an aligned one within a page");
        Self { bytes, start, len: 0 }
    }

    /// How many bytes fit.
    pub fn capacity(&self) -> usize {
        self.bytes.len() - PAGE_BYTES
    }

    /// What it takes of memory, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// How many more bytes fit.
    pub fn remaining(&self) -> usize {
        self.capacity() - self.len
    }

    /// Appends `bytes`.
    ///
    /// # Panics
    ///
    /// If they do not fit: the caller asked [`AlignedBuffer::remaining`].
    pub fn extend(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.remaining(), "an aligned buffer does not grow");
        let at = self.start + self.len;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len();
    }

    /// Appends zeros up to the next multiple of `unit`, and tells how many.
    pub fn pad_to(&mut self, unit: usize) -> usize {
        let padding = self.len.next_multiple_of(unit) - self.len;
        assert!(padding <= self.remaining(), "an aligned buffer does not grow");
        let at = self.start + self.len;
        self.bytes[at..at + padding].fill(0);
        self.len += padding;
        padding
    }

    /// Empties it and keeps the allocation.
    pub fn clear(&mut self) {
        self.len = 0;
    }
}

impl Deref for AlignedBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }
}

impl DerefMut for AlignedBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl fmt::Debug for AlignedBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of {}", self.len, self.capacity())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_address_is_aligned_and_its_padding_is_zero() {
        let mut buffer = AlignedBuffer::with_capacity(2 * PAGE_BYTES);
        assert_eq!(buffer.as_ptr().align_offset(PAGE_BYTES), 0);
        buffer.extend(&[7; 100]);
        assert_eq!(buffer.pad_to(PAGE_BYTES), PAGE_BYTES - 100);
        assert_eq!(&buffer[..100], &[7; 100]);
        assert!(buffer[100..].iter().all(|byte| *byte == 0));
        assert_eq!(buffer.remaining(), PAGE_BYTES);
    }
}
