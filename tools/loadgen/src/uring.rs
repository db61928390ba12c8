//! One thread's io_uring: sends and receives on stream sockets, and the only unsafe code here.
//!
//! # Why it is shaped like this
//!
//! A turn is one system call at most: it submits every send that was queued, and collects every
//! completion. Receiving is one multishot request per socket into a ring of buffers shared by all
//! of them; a send takes its buffer by value and gives it back when the kernel is done with it. So
//! the kernel never holds memory that the rest of the program could touch, and the interface is
//! safe.
//!
//! # Invariants
//!
//! - At most one send per socket is in flight, so bytes cannot overtake each other.
//! - Memory that the kernel may still write to or read from is never freed: what does not end
//!   when a [`Uring`] is dropped and its sockets are shut is leaked.
//! - A slot is never used again, so a late completion cannot be taken for another socket's.

#![allow(unsafe_code)]

use std::alloc::Layout;
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use std::{io, mem, slice};

use io_uring::types::{BufRingEntry, Fd, SubmitArgs, TimeoutFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};

/// What a turn found.
#[derive(Debug)]
pub enum Event<'a> {
    /// These bytes arrived on this slot.
    Received(usize, &'a [u8]),
    /// A send is complete; the buffer comes back, emptied.
    Sent(usize, Vec<u8>),
    /// The slot is finished: by the other end (`None`) or by an error. May come more than once.
    Closed(usize, Option<io::Error>),
}

/// How long a turn may sleep.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Wait {
    /// Not at all, and no system call if there is nothing to do.
    Poll,
    /// Until something happens, a tenth of a second at most.
    Event,
    /// Until something happens or this time is over.
    AtMost(Duration),
}

/// See the module's page.
pub struct Uring {
    ring: IoUring,
    sockets: Vec<Socket>,
    buffers: Buffers,
    /// Slots whose receive ended and must be asked for again.
    unarmed: Vec<usize>,
    /// Slots whose send was cut short.
    unsent: Vec<usize>,
    /// Requests of which the kernel may still touch memory of ours.
    in_flight: usize,
    /// The kernel reads it when it sees the request for ticks; a box, so that it does not move.
    tick: Box<Timespec>,
    ticking: bool,
}

struct Socket {
    stream: TcpStream,
    sending: Option<Vec<u8>>,
    sent: usize,
    open: bool,
}

impl Uring {
    /// A ring for about so many sockets. Must be made on the thread that uses it.
    pub fn new(sockets: usize) -> io::Result<Self> {
        let entries = (sockets * 2).next_power_of_two().clamp(64, 4096) as u32;
        let ring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_cqsize(entries * 4)
            .build(entries)?;
        let buffers = Buffers::new(sockets.next_power_of_two().clamp(64, 1024) as u16);
        // SAFETY: both allocations of `Buffers` are whole pages of the registered number of
        // entries. They are freed only by `drop` below, after the ring, and only when nothing
        // in flight can select a buffer.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                buffers.entries.as_ptr() as u64,
                buffers.count,
                BUFFER_GROUP,
                0,
            )?;
        }
        let tick = Box::new(Timespec::from(TICK));
        Ok(Self {
            ring,
            sockets: Vec::new(),
            buffers,
            unarmed: Vec::new(),
            unsent: Vec::new(),
            in_flight: 0,
            tick,
            ticking: false,
        })
    }

    /// Takes over a connected socket and starts to receive from it; gives the slot's number.
    pub fn attach(&mut self, stream: TcpStream) -> usize {
        let slot = self.sockets.len();
        self.sockets.push(Socket { stream, sending: None, sent: 0, open: true });
        self.unarmed.push(slot);
        slot
    }

    /// Sends all of `bytes` with the next turn.
    ///
    /// # Panics
    ///
    /// If the slot's last send is not complete, or there is nothing to send.
    pub fn send(&mut self, slot: usize, bytes: Vec<u8>) -> io::Result<()> {
        let socket = &mut self.sockets[slot];
        assert!(socket.sending.is_none(), "one send at a time: bytes must not overtake each other");
        assert!(!bytes.is_empty(), "an empty send would read as a closed connection");
        socket.sending = Some(bytes);
        socket.sent = 0;
        self.push_send(slot)
    }

    /// Stops using the slot. Its receive, if any, ends by itself.
    pub fn close(&mut self, slot: usize) {
        self.sockets[slot].open = false;
        // An error means that the other end was faster.
        let _ = self.sockets[slot].stream.shutdown(std::net::Shutdown::Both);
    }

    /// Submits what was queued and waits as told.
    pub fn turn(&mut self, wait: Wait) -> io::Result<()> {
        self.resume()?;
        self.buffers.publish();
        let submission = self.ring.submission();
        let idle = submission.is_empty() && !submission.taskrun();
        drop(submission);
        let outcome = match wait {
            Wait::Poll if idle => return Ok(()),
            Wait::Poll => self.ring.submitter().submit(),
            Wait::Event => self.ring.submitter().submit_and_wait(1),
            Wait::AtMost(duration) => {
                let duration = Timespec::from(duration);
                let args = SubmitArgs::new().timespec(&duration);
                self.ring.submitter().submit_with_args(1, &args)
            }
        };
        match outcome {
            Err(error) if !is_harmless(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// Hands over everything that the last turn found.
    pub fn drain(&mut self, mut handle: impl FnMut(Event<'_>)) {
        let Self { ring, sockets, buffers, unarmed, unsent, in_flight, ticking, .. } = self;
        for entry in ring.completion() {
            let (slot, operation) = untag(entry.user_data());
            let (result, flags) = (entry.result(), entry.flags());
            match operation {
                RECEIVED => {
                    let more = cqueue::more(flags);
                    if let Some(buffer) = cqueue::buffer_select(flags) {
                        if result > 0 {
                            handle(Event::Received(slot, buffers.bytes(buffer, result as usize)));
                        }
                        buffers.give_back(buffer);
                    }
                    if more {
                        continue;
                    }
                    *in_flight -= 1;
                    if result > 0 || result == -libc::ENOBUFS || result == -libc::EINTR {
                        unarmed.push(slot);
                    } else {
                        sockets[slot].open = false;
                        handle(Event::Closed(slot, error_of(result)));
                    }
                }
                SENT => {
                    *in_flight -= 1;
                    let socket = &mut sockets[slot];
                    socket.sent += result.max(0) as usize;
                    let length = socket.sending.as_ref().map_or(0, Vec::len);
                    let retry = result > 0 || result == -libc::EINTR || result == -libc::EAGAIN;
                    if socket.sent < length && retry && socket.open {
                        unsent.push(slot);
                        continue;
                    }
                    let mut bytes = socket.sending.take().unwrap_or_default();
                    bytes.clear();
                    handle(Event::Sent(slot, bytes));
                    if socket.sent < length {
                        socket.open = false;
                        handle(Event::Closed(slot, error_of(result)));
                    }
                }
                // A tick has done its work by ending the wait.
                _ => *ticking = cqueue::more(flags),
            }
        }
    }

    fn resume(&mut self) -> io::Result<()> {
        if !self.ticking {
            let ticks = opcode::Timeout::new(&raw const *self.tick);
            let ticks = ticks.flags(TimeoutFlags::MULTISHOT).build();
            self.push(&ticks.user_data(tag(0, TICKED)))?;
            self.ticking = true;
        }
        while let Some(slot) = self.unarmed.pop() {
            if self.sockets[slot].open {
                let fd = Fd(self.sockets[slot].stream.as_raw_fd());
                let receive = opcode::RecvMulti::new(fd, BUFFER_GROUP).build();
                self.push(&receive.user_data(tag(slot, RECEIVED)))?;
                self.in_flight += 1;
            }
        }
        while let Some(slot) = self.unsent.pop() {
            self.push_send(slot)?;
        }
        Ok(())
    }

    fn push_send(&mut self, slot: usize) -> io::Result<()> {
        let socket = &self.sockets[slot];
        let rest = &socket.sending.as_ref().expect("a send has a buffer")[socket.sent..];
        let fd = Fd(socket.stream.as_raw_fd());
        let length = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let send = opcode::Send::new(fd, rest.as_ptr(), length).flags(libc::MSG_WAITALL).build();
        self.push(&send.user_data(tag(slot, SENT)))?;
        self.in_flight += 1;
        Ok(())
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        loop {
            // SAFETY: what an entry points to outlives the request. A send's bytes sit in
            // `Socket::sending`, untouched until its completion takes them out; the tick is a box
            // of `self`; received bytes go to `Buffers`. `drop` leaks each while it is in use.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            match self.ring.submitter().submit() {
                Err(error) if !is_harmless(&error) => return Err(error),
                _ => {}
            }
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        (0..self.sockets.len()).for_each(|slot| self.close(slot));
        for _ in 0..10 {
            let turned = self.turn(Wait::AtMost(Duration::from_millis(10)));
            self.drain(|_| {});
            if self.in_flight == 0 || turned.is_err() {
                break;
            }
        }
        if self.in_flight > 0 {
            for socket in &mut self.sockets {
                mem::forget(socket.sending.take());
            }
            self.buffers.leaked = true;
        }
        // The kernel copies the interval when it sees the request, which may not have happened.
        mem::forget(mem::take(&mut self.tick));
    }
}

/// The receive buffers that the kernel chooses from, and the queue that offers them to it.
struct Buffers {
    entries: NonNull<BufRingEntry>,
    memory: NonNull<u8>,
    count: u16,
    tail: u16,
    leaked: bool,
}

impl Buffers {
    fn new(count: u16) -> Self {
        assert!(count.is_power_of_two(), "the kernel masks indices");
        let (entries, memory) = Self::layouts(count);
        // SAFETY: neither layout is empty. Zero bytes are valid entries, and valid bytes.
        let (entries, memory) = unsafe {
            let queue = NonNull::new(std::alloc::alloc_zeroed(entries).cast::<BufRingEntry>());
            (queue, NonNull::new(std::alloc::alloc_zeroed(memory)))
        };
        let entries = entries.expect("a few KiB of memory");
        let memory = memory.expect("a few MiB of memory");
        let mut buffers = Self { entries, memory, count, tail: 0, leaked: false };
        (0..count).for_each(|buffer| buffers.give_back(buffer));
        buffers.publish();
        buffers
    }

    /// Bytes that the kernel put into a buffer.
    fn bytes(&self, buffer: u16, length: usize) -> &[u8] {
        assert!(buffer < self.count, "the kernel names buffers that it was given");
        assert!(length <= BUFFER_BYTES, "the kernel knows how long a buffer is");
        // SAFETY: inside the allocation by the assertions; initialised, as it was zeroed; the
        // kernel gave the buffer up with the completion that named it, and will not write there
        // before `give_back`, which needs `&mut self` and so waits for this borrow to end.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(buffer) * BUFFER_BYTES);
            slice::from_raw_parts(start, length)
        }
    }

    /// Queues a buffer for the kernel; it is offered by `publish`.
    fn give_back(&mut self, buffer: u16) {
        assert!(buffer < self.count, "only what came from here can be given back");
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: both indices are below `count`. The kernel does not read an entry between its
        // consumption and the tail that offers it again. The setters leave the last two bytes
        // of the entry alone, in which, in the first entry, the tail lives.
        unsafe {
            let start = self.memory.as_ptr().add(usize::from(buffer) * BUFFER_BYTES);
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(start as u64);
            entry.set_len(BUFFER_BYTES as u32);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    fn publish(&self) {
        // SAFETY: `entries` is the address of the first entry, in which the tail lives, aligned
        // for it; no reference to the entry exists here, and the kernel only reads the tail.
        let tail =
            unsafe { AtomicU16::from_ptr(BufRingEntry::tail(self.entries.as_ptr()).cast_mut()) };
        // Release: the kernel sees the entries before the tail that offers them.
        tail.store(self.tail, Ordering::Release);
    }

    fn layouts(count: u16) -> (Layout, Layout) {
        let entries = usize::from(count) * size_of::<BufRingEntry>();
        let memory = usize::from(count) * BUFFER_BYTES;
        let pages = |bytes| Layout::from_size_align(bytes, 4096).expect("sizes are small");
        (pages(entries), pages(memory))
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        let (entries, memory) = Self::layouts(self.count);
        // SAFETY: allocated in `new` with the same layouts. `Uring` drops its ring first (fields
        // drop in order), which unregisters the queue, and set `leaked` if a receive was in
        // flight, so the kernel uses neither.
        unsafe {
            std::alloc::dealloc(self.entries.as_ptr().cast(), entries);
            std::alloc::dealloc(self.memory.as_ptr(), memory);
        }
    }
}

fn is_harmless(error: &io::Error) -> bool {
    let codes = [libc::EINTR, libc::EBUSY, libc::EAGAIN, libc::ETIME];
    error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn error_of(result: i32) -> Option<io::Error> {
    (result < 0).then(|| io::Error::from_raw_os_error(-result))
}

fn tag(slot: usize, operation: u64) -> u64 {
    ((slot as u64) << 2) | operation
}

fn untag(tag: u64) -> (usize, u64) {
    ((tag >> 2) as usize, tag & 3)
}

const RECEIVED: u64 = 0;
const SENT: u64 = 1;
const TICKED: u64 = 2;

const BUFFER_GROUP: u16 = 0;

/// A receive that does not fit goes on in the next buffer; most replies of a pipeline fit.
const BUFFER_BYTES: usize = 16 * 1024;

/// Nothing sleeps longer, so that the end of a run and Ctrl-C are seen while a server is silent.
const TICK: Duration = Duration::from_millis(100);
