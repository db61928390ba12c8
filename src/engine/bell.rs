//! How other threads wake the thread of a shard, and only when it sleeps.
//!
//! To wake a thread that waits in the kernel costs 20 to 30 µs, so a thread says when it is about to
//! wait. The order on both sides is what makes sure that no wake-up is lost:
//!
//! | the sleeper | the waker |
//! |---|---|
//! | says that it sleeps | puts something where the sleeper looks |
//! | fence | fence |
//! | looks everywhere once more | sees whether it sleeps, and takes that back |
//! | waits | if it did: wakes it |
//!
//! Whichever fence comes first, either the sleeper finds the thing or the waker finds it asleep.

use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::fd::RawFd;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicI32;
use std::sync::atomic::Ordering;
use std::sync::atomic::fence;

use rustix::event::EventfdFlags;

use crate::base::id::ShardId;
use crate::engine::uring::Uring;

/// No ring yet.
const NO_RING: RawFd = -1;

/// The bell of one shard's thread. On a cache line of its own: all cores look at it.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Bell {
    sleeping: AtomicBool,
    /// The number of the thread's ring, by which another ring wakes it.
    ring: AtomicI32,
    /// By which a thread without a ring wakes it.
    eventfd: OwnedFd,
}

impl Bell {
    /// A bell of a thread that is awake.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left.
    pub(super) fn new() -> std::io::Result<Self> {
        let eventfd = rustix::event::eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self { sleeping: AtomicBool::new(false), ring: AtomicI32::new(NO_RING), eventfd })
    }

    /// What the sleeper reads from on its ring.
    ///
    /// # Errors
    ///
    /// If there are no descriptors left.
    pub(super) fn eventfd(&self) -> std::io::Result<OwnedFd> {
        self.eventfd.try_clone()
    }

    /// The thread has this ring, or none any more.
    pub(super) fn set_ring(&self, ring: Option<RawFd>) {
        self.ring.store(ring.unwrap_or(NO_RING), Ordering::Release);
    }

    /// The thread is about to wait. It must look everywhere once more after this.
    pub(super) fn sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The thread is awake.
    pub(super) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Called after something was put where the thread looks, by a thread without a ring.
    pub(super) fn ring(&self) {
        if self.take_sleeping() {
            self.strike();
        }
    }

    /// The same by the thread of another shard: no system call of its own. The message leaves with
    /// the ring's next submission.
    pub(super) fn ring_from(&self, ring: &mut Uring, shard: ShardId) {
        if self.take_sleeping() {
            match self.ring.load(Ordering::Acquire) {
                NO_RING => self.strike(),
                number => ring.wake(shard, number),
            }
        }
    }

    /// Wakes the thread whether it sleeps or not.
    pub(super) fn strike(&self) {
        // It fails only when the counter is at its end: then it was rung often enough.
        let _ = rustix::io::write(self.eventfd.as_fd(), &1_u64.to_ne_bytes());
    }

    fn take_sleeping(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::SeqCst)
    }
}
