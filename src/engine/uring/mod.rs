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
//! other time. Multishot accept, and receive where requests are small: one submission serves many
//! completions. A ring of provided buffers: memory is held by connections that have data, not by
//! those that have none.

#![allow(unsafe_code)]

mod buffers;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::AsRawFd;
use std::os::fd::FromRawFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;

use io_uring::IoUring;
use io_uring::cqueue;
use io_uring::opcode;
use io_uring::squeue;
use io_uring::types;

use crate::base::aligned::AlignedBuffer;
use crate::base::id::ConnectionId;
use crate::base::id::ShardId;
use crate::engine::uring::buffers::Buffers;

pub(super) use crate::engine::uring::buffers::BufferGroup;
pub(super) use crate::engine::uring::buffers::LONG_BUFFER_BYTES;
pub(super) use crate::engine::uring::buffers::Lent;
pub(super) use crate::engine::uring::buffers::SHORT_BUFFER_BYTES;

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
    /// Short provided buffers: a power of two.
    pub(super) short_buffers: u16,
    /// Long provided buffers: a power of two.
    pub(super) long_buffers: u16,
}

impl Default for Settings {
    /// A completion for each buffer, each send and each disk operation fits many times over.
    fn default() -> Self {
        Self { submissions: 512, completions: 8192, short_buffers: 256, long_buffers: 32 }
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
        let buffers = Buffers::new(&ring, &settings)?;
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

    /// Receives into one provided buffer, once: up to `bytes_max`, which fits into it.
    pub(super) fn receive_once(
        &mut self,
        token: Token,
        socket: &Rc<OwnedFd>,
        group: BufferGroup,
        bytes_max: u32,
    ) -> OperationId {
        // No memory: the kernel takes that from the buffer, and no more than its length.
        let fd = types::Fd(socket.as_raw_fd());
        let entry = opcode::Recv::new(fd, std::ptr::null_mut(), bytes_max)
            .buf_group(group as u16)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        self.begin(token, Held::Nothing, Some(socket.clone()), |_| entry)
    }

    /// Receives into short provided buffers until that ends.
    pub(super) fn receive(&mut self, token: Token, socket: &Rc<OwnedFd>) -> OperationId {
        let group = BufferGroup::Short as u16;
        let entry = opcode::RecvMulti::new(types::Fd(socket.as_raw_fd()), group).build();
        self.begin(token, Held::Nothing, Some(socket.clone()), |_| entry)
    }

    /// Throws away what comes next, up to `bytes_max`, once: the kernel does not even copy it.
    pub(super) fn discard(
        &mut self,
        token: Token,
        socket: &Rc<OwnedFd>,
        bytes_max: u32,
    ) -> OperationId {
        let fd = types::Fd(socket.as_raw_fd());
        let flags = rustix::net::RecvFlags::TRUNC.bits();
        let entry = opcode::Recv::new(fd, std::ptr::null_mut(), bytes_max);
        self.begin(token, Held::Nothing, Some(socket.clone()), |_| {
            entry.flags(flags as i32).build()
        })
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

    /// Reads from `offset` of the file into `bytes[from..]`.
    pub(super) fn read(
        &mut self,
        token: Token,
        file: &Rc<OwnedFd>,
        bytes: Vec<u8>,
        from: usize,
        offset: u64,
    ) {
        let fd = types::Fd(file.as_raw_fd());
        self.begin(token, Held::Bytes(bytes), Some(file.clone()), |held| {
            let Held::Bytes(bytes) = held else { unreachable!("it was just put there") };
            let part = &mut bytes[from..];
            let length = part.len() as u32;
            opcode::Read::new(fd, part.as_mut_ptr(), length).offset(offset).build()
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
        self.buffers.give_back(lent);
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
            .map(|buffer| self.buffers.lend(buffer, u32::try_from(result).unwrap_or(0)));
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
            self.buffers.publish();
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
