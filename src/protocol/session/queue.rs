//! Replies in the order of their requests, whichever are ready first.
//!
//! Only a parked request has a place here. A reply that is ready while none is parked goes straight
//! out; one that is ready behind a parked request waits with it, in the same buffer as others that do.

use std::collections::VecDeque;

use super::gather::Gather;

/// The parked requests of a connection, and the replies that wait behind them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Oldest first; sequences grow.
    parked: VecDeque<Parked>,
    /// Commands that are yet to be answered: one a request, or one a key of it.
    outstanding: usize,
    /// Bytes of replies in here.
    held: usize,
}

#[derive(Debug)]
struct Parked {
    sequence: u64,
    /// The client wants no reply to it.
    silent: bool,
    reply: Reply,
    /// Replies to the requests after it, up to the next parked one.
    behind: Vec<u8>,
}

#[derive(Debug)]
enum Reply {
    Waiting,
    Ready(Vec<u8>),
    Gather(Box<Gather>),
}

impl Queue {
    /// Whether every request is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// How many commands are yet to be answered.
    pub(super) fn outstanding(&self) -> usize {
        self.outstanding
    }

    /// How many bytes of replies wait behind a parked request.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Lets `write` append the reply of the newest request where it belongs: to `out` if all
    /// before it are answered.
    #[inline]
    pub(super) fn write<T>(
        &mut self,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> T {
        match self.parked.back_mut() {
            None => write(out),
            Some(last) => {
                let before = last.behind.len();
                let result = write(&mut last.behind);
                assert!(last.behind.len() >= before, "replies of others were cut");
                self.held += last.behind.len() - before;
                result
            }
        }
    }

    /// The newest request waits for one reply.
    pub(super) fn park(&mut self, sequence: u64, silent: bool) {
        self.push(sequence, silent, Reply::Waiting, 1);
    }

    /// The newest request waits for the replies of some of its keys.
    pub(super) fn park_gather(&mut self, sequence: u64, silent: bool, gather: Gather) {
        let waiting = gather.waiting();
        self.held += gather.bytes();
        self.push(sequence, silent, Reply::Gather(Box::new(gather)), waiting);
    }

    fn push(&mut self, sequence: u64, silent: bool, reply: Reply, waiting: usize) {
        assert!(self.parked.back().is_none_or(|last| last.sequence < sequence));
        self.outstanding += waiting;
        self.parked.push_back(Parked { sequence, silent, reply, behind: Vec::new() });
    }

    /// A reply has come. Appends to `out` what is in order with it.
    ///
    /// # Panics
    ///
    /// If nothing waits for it: a request is answered once.
    pub(super) fn answer(&mut self, sequence: u64, part: u16, bytes: &[u8], out: &mut Vec<u8>) {
        let found = self.parked.binary_search_by_key(&sequence, |parked| parked.sequence);
        let index = found.expect("an answer to a request that is not parked");
        self.outstanding -= 1;
        let parked = &mut self.parked[index];
        match &mut parked.reply {
            Reply::Waiting if index == 0 => {
                if !parked.silent {
                    out.extend_from_slice(bytes);
                }
                parked.reply = Reply::Ready(Vec::new());
            }
            Reply::Waiting => {
                let kept = if parked.silent { Vec::new() } else { bytes.to_vec() };
                self.held += kept.len();
                parked.reply = Reply::Ready(kept);
            }
            Reply::Gather(gather) => {
                let before = gather.bytes();
                gather.answer(part, bytes);
                self.held = self.held + gather.bytes() - before;
            }
            Reply::Ready(_) => panic!("a request is answered once"),
        }
        self.release(out);
    }

    /// There will be no other replies than this one. Appends to `out` all that waited.
    pub(super) fn answer_rest(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for parked in &mut self.parked {
            match &mut parked.reply {
                Reply::Waiting => {
                    let kept = if parked.silent { Vec::new() } else { bytes.to_vec() };
                    self.held += kept.len();
                    parked.reply = Reply::Ready(kept);
                }
                Reply::Gather(gather) => {
                    let before = gather.bytes();
                    gather.answer_rest(bytes);
                    self.held = self.held + gather.bytes() - before;
                }
                Reply::Ready(_) => {}
            }
        }
        self.outstanding = 0;
        self.release(out);
    }

    /// Appends every reply that has none before it.
    fn release(&mut self, out: &mut Vec<u8>) {
        while let Some(first) = self.parked.front() {
            match &first.reply {
                Reply::Waiting => return,
                Reply::Gather(gather) if gather.waiting() > 0 => return,
                Reply::Ready(reply) => {
                    out.extend_from_slice(reply);
                    self.held -= reply.len();
                }
                Reply::Gather(gather) => {
                    if !first.silent {
                        gather.finish(out);
                    }
                    self.held -= gather.bytes();
                }
            }
            out.extend_from_slice(&first.behind);
            self.held -= first.behind.len();
            self.parked.pop_front();
        }
        assert_eq!(self.held, 0, "nothing is parked, so nothing can wait");
        // One deep pipeline should not be remembered for the life of the connection.
        self.parked.shrink_to(PARKED_KEPT);
    }
}

/// Places for parked requests that a connection keeps.
const PARKED_KEPT: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::command::KeysKind;

    #[test]
    fn replies_leave_in_the_order_of_requests() {
        let (mut queue, mut out) = (Queue::default(), Vec::new());
        queue.park(1, false);
        queue.write(&mut out, |out| out.extend_from_slice(b"two "));
        queue.park(3, false);
        queue.write(&mut out, |out| out.extend_from_slice(b"four "));
        queue.answer(3, 0, b"three ", &mut out);
        assert_eq!((out.len(), queue.held(), queue.outstanding()), (0, 15, 1));
        queue.answer(1, 0, b"one ", &mut out);
        assert_eq!(out, b"one two three four ");
        assert!(queue.is_empty());
        assert_eq!((queue.held(), queue.outstanding()), (0, 0));
    }

    #[test]
    fn the_rest_is_answered_alike_and_in_order() {
        let (mut queue, mut out) = (Queue::default(), Vec::new());
        let mut gather = Gather::new(KeysKind::AllSet, 3);
        gather.done(0, b"+OK\r\n");
        gather.park();
        gather.park();
        queue.park_gather(1, false, gather);
        queue.write(&mut out, |out| out.extend_from_slice(b"two "));
        queue.park(3, false);
        queue.park(4, true);
        queue.park(5, false);
        queue.answer(5, 0, b"five ", &mut out);
        queue.answer_rest(b"-TIMEOUT late ", &mut out);
        assert_eq!(String::from_utf8_lossy(&out), "-TIMEOUT late two -TIMEOUT late five ");
        assert!(queue.is_empty());
        assert_eq!((queue.held(), queue.outstanding()), (0, 0));
    }

    #[test]
    fn a_silent_request_takes_its_turn_and_says_nothing() {
        let (mut queue, mut out) = (Queue::default(), Vec::new());
        queue.park(1, true);
        queue.park(2, true);
        queue.write(&mut out, |out| out.extend_from_slice(b"three"));
        queue.answer(2, 0, b"two", &mut out);
        queue.answer(1, 0, b"one", &mut out);
        assert_eq!(out, b"three");
    }
}
