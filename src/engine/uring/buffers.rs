//! Memory that received bytes arrive in, and the queue by which the kernel gets it back.
//!
//! The kernel takes a buffer from the queue when data comes, so that memory is held by connections
//! that have something to say. Whoever has the [`Lent`] of a buffer has its bytes, until it gives it
//! back.
//!
//! There are many short ones and a few long ones, so that whoever sends much cannot take those of
//! whoever sends little. The numbers of the long go on where those of the short end.

#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;

use io_uring::IoUring;
use io_uring::types;
use memmap2::MmapMut;

use crate::engine::uring::Settings;

/// Which buffers an operation receives into.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u16)]
pub(in crate::engine) enum BufferGroup {
    /// Of [`SHORT_BUFFER_BYTES`] each.
    Short = 0,
    /// Of [`LONG_BUFFER_BYTES`] each, and fewer.
    Long = 1,
}

/// The length of a short buffer, in bytes.
pub(in crate::engine) const SHORT_BUFFER_BYTES: usize = 8 * 1024;

/// The length of a long buffer, in bytes.
pub(in crate::engine) const LONG_BUFFER_BYTES: usize = 16 * 1024;

/// A provided buffer that holds received bytes. Not `Clone`: who has it has the bytes.
#[derive(Debug)]
pub(in crate::engine) struct Lent {
    buffer: u16,
    length: u32,
    group: BufferGroup,
}

impl Lent {
    /// How many bytes came.
    pub(in crate::engine) fn length(&self) -> usize {
        self.length as usize
    }

    /// Which kind of buffer they are in.
    pub(in crate::engine) fn group(&self) -> BufferGroup {
        self.group
    }
}

/// All buffers that a ring's kernel side receives into.
pub(super) struct Buffers {
    short: Queue,
    long: Queue,
}

impl Buffers {
    pub(super) fn new(ring: &IoUring, settings: &Settings) -> io::Result<Self> {
        let (short, long) = (settings.short_buffers, settings.long_buffers);
        Ok(Self {
            short: Queue::new(ring, BufferGroup::Short, 0, short, SHORT_BUFFER_BYTES)?,
            long: Queue::new(ring, BufferGroup::Long, short, long, LONG_BUFFER_BYTES)?,
        })
    }

    /// The kernel wrote so much into this buffer and gave it to us.
    pub(super) fn lend(&self, buffer: u16, length: u32) -> Lent {
        let is_short = buffer < self.long.first;
        let group = if is_short { BufferGroup::Short } else { BufferGroup::Long };
        Lent { buffer, length, group }
    }

    /// What the kernel wrote into a buffer that it gave to us.
    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        match lent.group {
            BufferGroup::Short => self.short.bytes(lent),
            BufferGroup::Long => self.long.bytes(lent),
        }
    }

    /// The kernel may use it again. It sees that after [`Buffers::publish`].
    pub(super) fn give_back(&mut self, lent: Lent) {
        match lent.group {
            BufferGroup::Short => self.short.give(lent.buffer),
            BufferGroup::Long => self.long.give(lent.buffer),
        }
    }

    /// Lets the kernel see all buffers that were given.
    pub(super) fn publish(&mut self) {
        self.short.publish();
        self.long.publish();
    }

    pub(super) fn leak(&mut self) {
        self.short.leak();
        self.long.leak();
    }
}

/// Buffers of one length, which the kernel takes when data comes, and the queue by which it gets them
/// back.
struct Queue {
    entries: Option<MmapMut>,
    bytes: Option<MmapMut>,
    /// The number of the first; the others follow.
    first: u16,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

impl Queue {
    fn new(
        ring: &IoUring,
        group: BufferGroup,
        first: u16,
        count: u16,
        buffer_bytes: usize,
    ) -> io::Result<Self> {
        assert!(count.is_power_of_two(), "the kernel takes powers of two");
        let size = usize::from(count) * size_of::<types::BufRingEntry>();
        let mut entries = MmapMut::map_anon(size)?;
        let bytes = MmapMut::map_anon(usize::from(count) * buffer_bytes)?;
        let address = entries.as_mut_ptr() as u64;
        // SAFETY: the queue is page-aligned and has room for `count` entries, and it is not
        // unmapped before the ring is gone: `Uring` declares the ring first, so that drops first.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(address, count, group as u16, 0)?;
        }
        let (entries, bytes) = (Some(entries), Some(bytes));
        let mut queue = Self { entries, bytes, first, count, buffer_bytes, tail: 0 };
        (first..first + count).for_each(|buffer| queue.give(buffer));
        queue.publish();
        Ok(queue)
    }

    /// Where in the map a buffer begins.
    fn start(&self, buffer: u16) -> usize {
        assert!(
            (self.first..self.first + self.count).contains(&buffer),
            "the kernel hands out what it was given"
        );
        usize::from(buffer - self.first) * self.buffer_bytes
    }

    fn bytes(&self, lent: &Lent) -> &[u8] {
        let map = self.bytes.as_ref().expect("it is there until the ring is gone");
        let start = self.start(lent.buffer);
        assert!(lent.length as usize <= self.buffer_bytes, "the kernel knows their length");
        // SAFETY: the part lies within the map. The kernel writes to it only between `give` and the
        // completion that made the `Lent`, and `give_back` consumes that, so nobody writes while it
        // is borrowed; a slice of the whole map would not do, for the kernel writes to other parts.
        unsafe { std::slice::from_raw_parts(map.as_ptr().add(start), lent.length as usize) }
    }

    /// Adds a buffer behind the tail. The kernel sees it after [`Queue::publish`].
    fn give(&mut self, buffer: u16) {
        let start = self.start(buffer);
        let bytes = self.bytes.as_ref().expect("it is there until the ring is gone");
        let address = bytes.as_ptr() as usize + start;
        let place = usize::from(self.tail & (self.count - 1));
        let entries = self.entries.as_mut().expect("it is there until the ring is gone");
        // SAFETY: `place` is below `count`, for which the queue has room; the map is aligned to a
        // page, and any bytes are a valid entry. There are `count` buffers, each of which is either
        // lent or in the queue, so the kernel does not read the entry that is written.
        let entry = unsafe { &mut *entries.as_mut_ptr().cast::<types::BufRingEntry>().add(place) };
        entry.set_addr(address as u64);
        entry.set_len(self.buffer_bytes as u32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&mut self) {
        let entries = self.entries.as_mut().expect("it is there until the ring is gone");
        // SAFETY: the pointer is to the start of the queue, whose first entry is initialized (by
        // zeros from the kernel, and by `give` later); the tail is two aligned bytes within it, and
        // the kernel reads them as an atomic too.
        let tail = unsafe {
            let base = entries.as_mut_ptr().cast::<types::BufRingEntry>();
            AtomicU16::from_ptr(types::BufRingEntry::tail(base).cast_mut())
        };
        tail.store(self.tail, Ordering::Release);
    }

    fn leak(&mut self) {
        std::mem::forget(self.entries.take());
        std::mem::forget(self.bytes.take());
    }
}
