//! One io_uring of one thread, wrapped so that nothing outside this file can harm memory by it.
//!
//! # Why it owns what is in flight
//!
//! The kernel reads and writes the buffers of an operation until it has completed, whatever became
//! of the connection or the request meanwhile. So an operation's buffer and file move into the ring
//! with it ([`Held`]) and come back with its [`Completion`]; a caller cannot free them too early.
//! For the same reason a stale completion cannot exist: an entry of the table is used again only
//! after the last completion of its operation, and its generation is in the number that the kernel
//! hands back.
//!
//! # What is used of io_uring
//!
//! `SINGLE_ISSUER | DEFER_TASKRUN`: the kernel does its part when this thread enters it and at no
//! other time. Multishot accept and receive: one submission serves many completions. A ring of
//! provided buffers: memory is held by connections that have data, not by those that have none.

#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU16;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use io_uring::IoUring;
use io_uring::cqueue;
use io_uring::opcode;
use io_uring::squeue;
use io_uring::types;
use memmap2::MmapMut;

use crate::base::aligned::AlignedBuffer;
use crate::base::id::ConnectionId;
use crate::base::id::ShardId;

/// What a completion is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Token {
    /// Another thread wrote to this thread's eventfd.
    Notified,
    /// Another ring sent its message: see [`Uring::wake`].
    Woken,
    /// The message to that shard's ring could not be sent.
    WakeFailed(ShardId),
    /// A client connected to this listener.
    Accept(u8),
    /// Bytes came from this connection.
    Receive(ConnectionId),
    /// Bytes left for this connection.
    Send(ConnectionId),
    /// An operation of the disk, by its place in the disk's own table.
    Disk(u32),
    /// Nobody waits for it.
    Ignored,
}

/// What an operation needs until it is done, and gives back then.
#[derive(Debug, Default)]
pub(super) enum Held {
    #[default]
    Nothing,
    Bytes(Vec<u8>),
    Batch(Arc<AlignedBuffer>),
    /// A connection that was accepted.
    Socket(OwnedFd),
}

/// Something that the kernel did.
#[derive(Debug)]
pub(super) struct Completion {
    pub(super) token: Token,
    /// The result of the call of that name, or its `errno`.
    pub(super) result: Result<u32, i32>,
    /// More completions of the same operation will follow.
    pub(super) more: bool,
    /// Bytes that were received. They must be given back.
    pub(super) lent: Option<Lent>,
    pub(super) held: Held,
}

/// A provided buffer that holds received bytes. Not `Clone`: who has it has the bytes.
#[derive(Debug)]
pub(super) struct Lent {
    buffer: u16,
    length: u32,
}

/// Names an operation in flight, to cancel it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct OperationId(u64);

/// How a ring is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    /// Operations that can be submitted at once.
    pub(super) submissions: u32,
    /// Completions that can wait to be seen.
    pub(super) completions: u32,
    /// Provided buffers: a power of two.
    pub(super) buffers: u16,
    /// The length of each, in bytes.
    pub(super) buffer_bytes: u32,
}

impl Default for Settings {
    /// A completion for each buffer, each send and each disk operation fits many times over. The
    /// count and length of buffers made no difference that could be measured.
    fn default() -> Self {
        Self { submissions: 512, completions: 8192, buffers: 256, buffer_bytes: 16 * 1024 }
    }
}

/// Why there is no ring, in terms of what the operator can do.
#[derive(Debug)]
pub(super) struct RefusedError(io::Error);

impl fmt::Display for RefusedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let advice = match rustix::io::Errno::from_io_error(&self.0) {
            Some(rustix::io::Errno::PERM) => {
                "it is forbidden here: set sysctl kernel.io_uring_disabled=0, \
                 and allow io_uring_setup in the container's seccomp profile"
            }
            Some(rustix::io::Errno::NOSYS) => "this kernel was built without it",
            Some(rustix::io::Errno::INVAL) => {
                "this kernel is too old: Linux 6.1 or later is needed"
            }
            Some(rustix::io::Errno::NOMEM) => {
                "too little memory may be locked: raise `ulimit -l` (LimitMEMLOCK) to 8 MiB or more"
            }
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
                "too few files may be open: raise `ulimit -n` (LimitNOFILE)"
            }
            _ => "the kernel refused it",
        };
        write!(f, "no io_uring ({}): {advice}", self.0)
    }
}

impl std::error::Error for RefusedError {}

/// Numbers in completions that name no entry of the table have this in their upper half.
const SPECIAL: u64 = 0xffff_ffff << 32;
const SPECIAL_WOKEN: u64 = SPECIAL;
const SPECIAL_WAKE_FAILED: u64 = SPECIAL + 1;

/// The only group of provided buffers.
const BUFFER_GROUP: u16 = 0;

/// Memory that was locked by a process that just died is free again only a moment later.
const RETRY_NO_MEMORY_FOR: Duration = Duration::from_secs(3);

/// A ring that dies waits so long for what is in flight.
const DRAIN_FOR: Duration = Duration::from_secs(2);

/// One entry of the table of operations.
#[derive(Debug, Default)]
struct Entry {
    generation: u32,
    operation: Option<Operation>,
}

#[derive(Debug)]
struct Operation {
    token: Token,
    held: Held,
    /// Kept open, so that its number cannot become another file's.
    _file: Option<Rc<OwnedFd>>,
}

/// The ring of one thread. It stays on the thread that made it.
pub(super) struct Uring {
    ring: IoUring,
    buffers: Buffers,
    table: Vec<Entry>,
    free: Vec<u32>,
    in_flight: usize,
    /// Submissions for which the queue had no room.
    overflow: VecDeque<squeue::Entry>,
}

impl fmt::Debug for Uring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a ring with {} operations in flight", self.in_flight)
    }
}

impl Uring {
    /// Makes a ring for the calling thread.
    ///
    /// # Errors
    ///
    /// [`RefusedError`] says what to change on this machine.
    pub(super) fn new(settings: Settings) -> Result<Self, RefusedError> {
        let begun = Instant::now();
        let mut pause = Duration::from_millis(10);
        loop {
            match Self::build(settings) {
                Err(error)
                    if rustix::io::Errno::from_io_error(&error)
                        == Some(rustix::io::Errno::NOMEM)
                        && begun.elapsed() < RETRY_NO_MEMORY_FOR =>
                {
                    std::thread::sleep(pause);
                    pause *= 2;
                }
                result => return result.map_err(RefusedError),
            }
        }
    }

    fn build(settings: Settings) -> io::Result<Self> {
        let ring = IoUring::builder()
            .dontfork()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_clamp()
            .setup_cqsize(settings.completions)
            .build(settings.submissions)?;
        let buffers = Buffers::new(&ring, settings.buffers, settings.buffer_bytes)?;
        Ok(Self {
            ring,
            buffers,
            table: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            overflow: VecDeque::new(),
        })
    }

    /// The number by which other rings send messages to this one.
    pub(super) fn number(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Accepts connections until that ends: [`Held::Socket`] each.
    pub(super) fn accept(&mut self, token: Token, listener: &Rc<OwnedFd>) -> OperationId {
        let entry = opcode::AcceptMulti::new(types::Fd(listener.as_raw_fd()))
            .flags(rustix::net::SocketFlags::CLOEXEC.bits() as i32)
            .build();
        self.begin(token, Held::Nothing, Some(listener.clone()), |_| entry)
    }

    /// Receives into provided buffers until that ends.
    pub(super) fn receive(&mut self, token: Token, socket: &Rc<OwnedFd>) -> OperationId {
        let entry = opcode::RecvMulti::new(types::Fd(socket.as_raw_fd()), BUFFER_GROUP).build();
        self.begin(token, Held::Nothing, Some(socket.clone()), |_| entry)
    }

    /// Sends `bytes[from..to]`, all of it unless the connection ends.
    pub(super) fn send(
        &mut self,
        token: Token,
        socket: &Rc<OwnedFd>,
        bytes: Vec<u8>,
        from: usize,
        to: usize,
    ) {
        let fd = types::Fd(socket.as_raw_fd());
        self.begin(token, Held::Bytes(bytes), Some(socket.clone()), |held| {
            let Held::Bytes(bytes) = held else { unreachable!("it was just put there") };
            let part = &bytes[from..to];
            let flags = rustix::net::SendFlags::NOSIGNAL.bits() | MSG_WAITALL;
            opcode::Send::new(fd, part.as_ptr(), part.len() as u32).flags(flags as i32).build()
        });
    }

    /// Writes `batch[from..]` at `offset` of the file, and syncs it with the same operation.
    pub(super) fn write_synced(
        &mut self,
        token: Token,
        file: &Rc<OwnedFd>,
        batch: Arc<AlignedBuffer>,
        from: usize,
        offset: u64,
    ) {
        let fd = types::Fd(file.as_raw_fd());
        self.begin(token, Held::Batch(batch), Some(file.clone()), |held| {
            let Held::Batch(batch) = held else { unreachable!("it was just put there") };
            let part = &batch[from..];
            let flags = rustix::io::ReadWriteFlags::DSYNC.bits();
            opcode::Write::new(fd, part.as_ptr(), part.len() as u32)
                .offset(offset)
                .rw_flags(flags as i32)
                .build()
        });
    }

    /// Reads from `offset` of the file into `bytes[from..]`. `punted`: by a thread of the kernel,
    /// for a read that is known to wait for the disk; its submission takes 1 µs instead of 17.
    pub(super) fn read(
        &mut self,
        token: Token,
        file: &Rc<OwnedFd>,
        bytes: Vec<u8>,
        from: usize,
        offset: u64,
        punted: bool,
    ) {
        let fd = types::Fd(file.as_raw_fd());
        self.begin(token, Held::Bytes(bytes), Some(file.clone()), |held| {
            let Held::Bytes(bytes) = held else { unreachable!("it was just put there") };
            let part = &mut bytes[from..];
            let length = part.len() as u32;
            let entry = opcode::Read::new(fd, part.as_mut_ptr(), length).offset(offset).build();
            if punted { entry.flags(squeue::Flags::ASYNC) } else { entry }
        });
    }

    /// Wakes the thread of another ring, which sees [`Token::Woken`].
    pub(super) fn wake(&mut self, shard: ShardId, ring: RawFd) {
        let failed = SPECIAL_WAKE_FAILED + u64::from(shard.to_raw());
        let entry = opcode::MsgRingData::new(types::Fd(ring), 0, SPECIAL_WOKEN, None)
            .build()
            .user_data(failed)
            .flags(squeue::Flags::SKIP_SUCCESS);
        self.push(entry);
    }

    /// Ends an operation early. It completes, with an error or with what it just did.
    pub(super) fn cancel(&mut self, operation: OperationId) {
        let entry = opcode::AsyncCancel::new(operation.0).build();
        self.begin(Token::Ignored, Held::Nothing, None, |_| entry);
    }

    /// The received bytes.
    pub(super) fn bytes(&self, lent: &Lent) -> &[u8] {
        self.buffers.bytes(lent)
    }

    /// Lets the kernel use the buffer again.
    pub(super) fn give_back(&mut self, lent: Lent) {
        self.buffers.give(lent.buffer);
    }

    /// Submits what was asked for, and lets the kernel do what it put off, without waiting.
    ///
    /// # Errors
    ///
    /// What no operator can repair.
    pub(super) fn submit(&mut self) -> io::Result<()> {
        self.buffers.publish();
        self.refill();
        let mut queue = self.ring.submission();
        queue.sync();
        if queue.is_empty() && !queue.taskrun() && !queue.cq_overflow() {
            return Ok(());
        }
        drop(queue);
        tolerate(self.ring.submitter().submit_and_wait(0))
    }

    /// Submits, and waits for a completion, but not longer than `timeout`.
    ///
    /// # Errors
    ///
    /// What no operator can repair.
    pub(super) fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        self.buffers.publish();
        self.refill();
        let submitter = self.ring.submitter();
        match timeout {
            None => tolerate(submitter.submit_and_wait(1)),
            Some(timeout) => {
                let time = types::Timespec::from(timeout);
                let arguments = types::SubmitArgs::new().timespec(&time);
                tolerate(submitter.submit_with_args(1, &arguments))
            }
        }
    }

    /// Whether [`Uring::completions`] would bring something, as far as is known without asking the
    /// kernel.
    pub(super) fn has_completions(&mut self) -> bool {
        let queue = self.ring.submission();
        let waiting = queue.taskrun() || queue.cq_overflow();
        drop(queue);
        waiting || !self.ring.completion().is_empty()
    }

    /// Takes up to `limit` completions.
    pub(super) fn completions(&mut self, into: &mut Vec<Completion>, limit: usize) {
        for _ in 0..limit {
            let Some(entry) = self.ring.completion().next() else { break };
            let completion = self.complete(entry.user_data(), entry.result(), entry.flags());
            into.push(completion);
        }
    }

    fn complete(&mut self, number: u64, result: i32, flags: u32) -> Completion {
        let more = cqueue::more(flags);
        let lent = cqueue::buffer_select(flags)
            .map(|buffer| Lent { buffer, length: u32::try_from(result).unwrap_or(0) });
        let result = u32::try_from(result).map_err(|_| -result);
        if number & SPECIAL == SPECIAL {
            let token = match number {
                SPECIAL_WOKEN => Token::Woken,
                failed => {
                    let shard = (failed - SPECIAL_WAKE_FAILED) as u16;
                    Token::WakeFailed(ShardId::new(shard))
                }
            };
            return Completion { token, result, more, lent, held: Held::Nothing };
        }
        let index = number as u32;
        let entry = &mut self.table[index as usize];
        assert_eq!(entry.generation, (number >> 32) as u32, "the operation is over");
        let operation = entry.operation.as_mut().expect("the operation is in flight");
        let token = operation.token;
        let mut held = Held::Nothing;
        if let (Token::Accept(_), Ok(number)) = (token, result) {
            // SAFETY: a successful accept made this descriptor, and nobody else has seen it.
            held = Held::Socket(unsafe { OwnedFd::from_raw_fd(number as RawFd) });
        }
        if !more {
            let operation = entry.operation.take().expect("it was just looked at");
            if !matches!(held, Held::Socket(_)) {
                held = operation.held;
            }
            // The upper half of `SPECIAL` is no generation.
            entry.generation = (entry.generation + 1) % (SPECIAL >> 32) as u32;
            self.free.push(index);
            self.in_flight -= 1;
        }
        Completion { token, result, more, lent, held }
    }

    /// Puts what the kernel needs into the table, then submits what `make` makes of it.
    fn begin(
        &mut self,
        token: Token,
        held: Held,
        file: Option<Rc<OwnedFd>>,
        make: impl FnOnce(&mut Held) -> squeue::Entry,
    ) -> OperationId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.table.push(Entry::default());
            (self.table.len() - 1) as u32
        });
        let slot = &mut self.table[index as usize];
        let operation = slot.operation.insert(Operation { token, held, _file: file });
        let entry = make(&mut operation.held);
        let number = u64::from(slot.generation) << 32 | u64::from(index);
        self.in_flight += 1;
        self.push(entry.user_data(number));
        OperationId(number)
    }

    fn push(&mut self, entry: squeue::Entry) {
        self.overflow.push_back(entry);
        self.refill();
        if !self.overflow.is_empty() {
            // A failure is met again at the next submission, which has somebody to tell.
            let _ = self.ring.submitter().submit();
            self.refill();
        }
    }

    fn refill(&mut self) {
        let mut queue = self.ring.submission();
        while let Some(entry) = self.overflow.front() {
            // SAFETY: entries are made in this file alone. What they point to is owned by the table
            // until their last completion, and neither a `Vec` nor an `Arc` moves its contents when
            // it is moved; a vector is not touched while its operation is in flight.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.overflow.pop_front();
        }
    }

    /// Cancels everything and waits for it. Returns whether nothing is in flight any more.
    fn drain(&mut self) -> bool {
        let builder = types::CancelBuilder::any();
        let entry = opcode::AsyncCancel2::new(builder).build();
        self.begin(Token::Ignored, Held::Nothing, None, |_| entry);
        let until = Instant::now() + DRAIN_FOR;
        let mut completions = Vec::new();
        while self.in_flight > 0 {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.submit_and_wait(Some(left)).is_err() {
                return false;
            }
            self.completions(&mut completions, usize::MAX);
            for lent in completions.drain(..).filter_map(|completion| completion.lent) {
                self.give_back(lent);
            }
        }
        true
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if self.in_flight > 0 && !self.drain() {
            // The kernel may still write there: memory that is lost is better than memory that is
            // somebody else's.
            std::mem::forget(std::mem::take(&mut self.table));
            self.buffers.leak();
        }
    }
}

/// `MSG_WAITALL` of `send`: the kernel goes on after a partial send by itself.
const MSG_WAITALL: u32 = 0x100;

/// Interrupted, timed out, or the completions must be taken first: all mean "look and try again".
fn tolerate(result: io::Result<usize>) -> io::Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(error) => match rustix::io::Errno::from_io_error(&error) {
            Some(
                rustix::io::Errno::INTR
                | rustix::io::Errno::TIME
                | rustix::io::Errno::BUSY
                | rustix::io::Errno::AGAIN,
            ) => Ok(()),
            _ => Err(error),
        },
    }
}

/// Buffers that the kernel takes when data comes, and the queue by which it gets them back.
struct Buffers {
    queue: Option<MmapMut>,
    bytes: Option<MmapMut>,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

impl Buffers {
    fn new(ring: &IoUring, count: u16, buffer_bytes: u32) -> io::Result<Self> {
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

    /// What the kernel wrote into a buffer that it gave to us.
    fn bytes(&self, lent: &Lent) -> &[u8] {
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
    fn give(&mut self, buffer: u16) {
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
    fn publish(&mut self) {
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

    fn leak(&mut self) {
        std::mem::forget(self.queue.take());
        std::mem::forget(self.bytes.take());
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::io::Write;
    use std::net::TcpListener;
    use std::net::TcpStream;

    use super::*;

    fn small() -> Uring {
        let settings = Settings { submissions: 8, completions: 64, buffers: 4, buffer_bytes: 1024 };
        Uring::new(settings).expect("io_uring works here")
    }

    /// Waits for the next completion that somebody waits for.
    fn next(ring: &mut Uring) -> Completion {
        let mut completions = Vec::new();
        loop {
            ring.completions(&mut completions, 1);
            match completions.pop() {
                Some(completion) if completion.token != Token::Ignored => return completion,
                Some(_) => {}
                None => ring.submit_and_wait(None).expect("it works"),
            }
        }
    }

    fn pair() -> (TcpStream, Rc<OwnedFd>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (server, _) = listener.accept().expect("it connected");
        (client, Rc::new(OwnedFd::from(server)))
    }

    #[test]
    fn it_accepts_receives_and_sends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let listener = Rc::new(OwnedFd::from(listener));
        let mut ring = small();
        ring.accept(Token::Accept(0), &listener);
        let mut client = TcpStream::connect(address).expect("connects");
        let completion = next(&mut ring);
        assert_eq!((completion.token, completion.more), (Token::Accept(0), true));
        let Held::Socket(socket) = completion.held else { panic!("no socket") };
        let socket = Rc::new(socket);

        let token = Token::Receive(ConnectionId::new(1));
        ring.receive(token, &socket);
        client.write_all(b"hello").expect("it is open");
        let completion = next(&mut ring);
        assert_eq!((completion.token, completion.result), (token, Ok(5)));
        let lent = completion.lent.expect("bytes came");
        assert_eq!(ring.bytes(&lent), b"hello");
        ring.give_back(lent);

        let token = Token::Send(ConnectionId::new(1));
        ring.send(token, &socket, b"--world--".to_vec(), 2, 7);
        let completion = next(&mut ring);
        assert_eq!((completion.token, completion.result), (token, Ok(5)));
        let mut answer = [0; 5];
        client.read_exact(&mut answer).expect("it was sent");
        assert_eq!(&answer, b"world");
    }

    /// Four buffers, and a client that sends more than they hold: the receive ends, is asked for
    /// anew, and not a byte is missing.
    #[test]
    fn running_out_of_buffers_loses_nothing() {
        let (mut client, socket) = pair();
        let mut ring = small();
        let sent: Vec<u8> = (0..64 * 1024_u32).map(|number| (number % 251) as u8).collect();
        client.write_all(&sent).expect("it fits into the socket's buffer");
        drop(client);
        let token = Token::Receive(ConnectionId::new(1));
        ring.receive(token, &socket);
        let (mut received, mut ended, mut held) = (Vec::new(), 0, Vec::new());
        loop {
            let completion = next(&mut ring);
            match completion.result {
                Ok(0) => break,
                Ok(_) => {
                    let lent = completion.lent.expect("bytes came");
                    received.extend_from_slice(ring.bytes(&lent));
                    held.push(lent);
                }
                Err(errno) => assert_eq!(errno, rustix::io::Errno::NOBUFS.raw_os_error()),
            }
            if !completion.more {
                ended += 1;
                held.drain(..).for_each(|lent| ring.give_back(lent));
                ring.receive(token, &socket);
            }
        }
        assert_eq!(received, sent);
        assert!(ended > 0, "the buffers did run out");
    }

    #[test]
    fn a_receive_that_is_cancelled_ends() {
        let (_client, socket) = pair();
        let mut ring = small();
        let operation = ring.receive(Token::Receive(ConnectionId::new(1)), &socket);
        ring.submit().expect("it works");
        ring.cancel(operation);
        let completion = next(&mut ring);
        assert_eq!(completion.result, Err(rustix::io::Errno::CANCELED.raw_os_error()));
        assert!(!completion.more);
        assert!(ring.in_flight <= 1, "only the cancellation may be left");
    }

    #[test]
    fn more_submissions_than_the_queue_holds_are_all_made() {
        let file = std::fs::File::open("/dev/zero").expect("every Linux has it");
        let file = Rc::new(OwnedFd::from(file));
        let mut ring = small();
        for number in 0..50 {
            ring.read(Token::Disk(number), &file, vec![1; 16], 8, 0, false);
        }
        for _ in 0..50 {
            let completion = next(&mut ring);
            let Held::Bytes(bytes) = completion.held else { panic!("no bytes") };
            assert_eq!(bytes, [[1_u8; 8], [0; 8]].concat());
        }
        assert_eq!(ring.in_flight, 0);
    }

    #[test]
    fn a_ring_that_dies_ends_what_is_in_flight() {
        let (_client, socket) = pair();
        let mut ring = small();
        ring.receive(Token::Receive(ConnectionId::new(1)), &socket);
        ring.submit().expect("it works");
        drop(ring);
        assert_eq!(Rc::strong_count(&socket), 1);
    }

    #[test]
    fn a_ring_wakes_another() {
        let mut sender = small();
        let (tell, told) = std::sync::mpsc::channel();
        let sleeper = std::thread::spawn(move || {
            let mut ring = small();
            tell.send(ring.number()).expect("somebody listens");
            next(&mut ring).token
        });
        let number = told.recv().expect("it is made");
        sender.wake(ShardId::new(3), number);
        sender.submit().expect("it works");
        assert_eq!(sleeper.join().expect("it ended"), Token::Woken);

        sender.wake(ShardId::new(3), -1);
        assert_eq!(next(&mut sender).token, Token::WakeFailed(ShardId::new(3)));
    }
}
