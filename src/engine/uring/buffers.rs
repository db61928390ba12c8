//! Memory that received bytes arrive in, and the queue by which the kernel gets it back.
//!
//! The kernel takes a buffer from the queue when data comes, so that memory is held by connections
//! that have something to say. Whoever has the [`Lent`] of a buffer has its bytes, until it gives it
//! back.

#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use io_uring::IoUring;
use io_uring::types;
use memmap2::MmapMut;

/// The only group of provided buffers.
pub(super) const BUFFER_GROUP: u16 = 0;

/// A provided buffer that holds received bytes. Not `Clone`: who has it has the bytes.
#[derive(Debug)]
pub(in crate::engine) struct Lent {
    pub(super) buffer: u16,
    length: u32,
}

impl Lent {
    /// How many bytes came.
    pub(in crate::engine) fn length(&self) -> usize {
        self.length as usize
    }
}

/// Buffers that the kernel takes when data comes, and the queue by which it gets them back.
pub(super) struct Buffers {
    queue: Option<MmapMut>,
    bytes: Option<MmapMut>,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

impl Buffers {
    pub(super) fn new(ring: &IoUring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel takes powers of two");
        let buffer_bytes = buffer_bytes as usize;
        let mut queue = MmapMut::map_anon(usize::from(count) * size_of::<types::BufRingEntry>())?;
        let bytes = MmapMut::map_anon(usize::from(count) * buffer_bytes)?;
        let address = queue.as_mut_ptr() as u64;
        // SAFETY: the queue is page-aligned and has room for `count` entries, and it is not
        // unmapped before the ring is gone: `Uring` declares the ring first, so that drops first.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(address, count, BUFFER_GROUP, 0)?;
        }
        let mut buffers =
            Self { queue: Some(queue), bytes: Some(bytes), count, buffer_bytes, tail: 0 };
        (0..count).for_each(|buffer| buffers.give(buffer));
        buffers.publish();
        Ok(buffers)
    }

    /// The kernel wrote so much into this buffer and gave it to us.
    pub(super) fn lend(&self, buffer: u16, length: u32) -> Lent {
        Lent { buffer, length }
    }

    /// What the kernel wrote into a buffer that it gave to us.
    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        let map = self.bytes.as_ref().expect("it is there until the ring is gone");
        let start = usize::from(lent.buffer) * self.buffer_bytes;
        assert!(lent.buffer < self.count, "the kernel hands out what it was given");
        assert!(lent.length as usize <= self.buffer_bytes, "the kernel knows their length");
        // SAFETY: the part lies within the map. The kernel writes to it only between `give` and the
        // completion that made the `Lent`, and `give` consumes that, so nobody writes while it is
        // borrowed; a slice of the whole map would not do, for the kernel writes to other parts.
        unsafe { std::slice::from_raw_parts(map.as_ptr().add(start), lent.length as usize) }
    }

    /// Adds a buffer behind the tail. The kernel sees it after [`Buffers::publish`].
    pub(super) fn give(&mut self, buffer: u16) {
        let start = self.bytes.as_ref().expect("it is there until the ring is gone").as_ptr()
            as usize
            + usize::from(buffer) * self.buffer_bytes;
        let place = usize::from(self.tail & (self.count - 1));
        let queue = self.queue.as_mut().expect("it is there until the ring is gone");
        // SAFETY: `place` is below `count`, for which the queue has room; the map is aligned to a
        // page, and any bytes are a valid entry. There are `count` buffers, each of which is either
        // lent or in the queue, so the kernel does not read the entry that is written.
        let entry = unsafe { &mut *queue.as_mut_ptr().cast::<types::BufRingEntry>().add(place) };
        entry.set_addr(start as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see all buffers that were given.
    pub(super) fn publish(&mut self) {
        let queue = self.queue.as_mut().expect("it is there until the ring is gone");
        // SAFETY: the pointer is to the start of the queue, whose first entry is initialized (by
        // zeros from the kernel, and by `give` later); the tail is two aligned bytes within it, and
        // the kernel reads them as an atomic too.
        let tail = unsafe {
            let base = queue.as_mut_ptr().cast::<types::BufRingEntry>();
            AtomicU16::from_ptr(types::BufRingEntry::tail(base).cast_mut())
        };
        tail.store(self.tail, Ordering::Release);
    }

    pub(super) fn leak(&mut self) {
        std::mem::forget(self.queue.take());
        std::mem::forget(self.bytes.take());
    }
}
