//! What the engine counts, for the page and for metrics: written by one thread each, read by any.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use crate::engine::connection::Counts;

/// What the engine did for one shard since the start, as of some moment in the last second.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counters {
    /// Client connections that are open.
    pub connections: u64,
    /// Clients that connected.
    pub accepted: u64,
    /// Clients that were turned away because there were too many.
    pub refused: u64,
    /// Bytes that clients sent.
    pub bytes_received: u64,
    /// Bytes that were sent to clients.
    pub bytes_sent: u64,
    /// Turns of the loop.
    pub turns: u64,
    /// Page faults of the shard's thread that waited for the disk: each stalled all its requests.
    pub major_faults: u64,
    /// Bytes of segments that are mapped.
    pub mapped_bytes: u64,
    /// Those of them that the kernel may not take away.
    pub locked_bytes: u64,
    /// Reads that the page cache did not have.
    pub cold_reads: u64,
}

/// The same, as they are shared.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Gauges {
    connections: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    bytes_received: AtomicU64,
    bytes_sent: AtomicU64,
    turns: AtomicU64,
    major_faults: AtomicU64,
    mapped_bytes: AtomicU64,
    locked_bytes: AtomicU64,
    cold_reads: AtomicU64,
}

impl Gauges {
    /// At the end of a turn.
    pub(super) fn set_connections(&self, counts: Counts) {
        self.connections.store(counts.open, Ordering::Relaxed);
        self.accepted.store(counts.accepted, Ordering::Relaxed);
        self.refused.store(counts.refused, Ordering::Relaxed);
        self.bytes_received.store(counts.bytes_received, Ordering::Relaxed);
        self.bytes_sent.store(counts.bytes_sent, Ordering::Relaxed);
        // One thread writes: no atomic addition is needed.
        self.turns.store(self.turns.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Now and then.
    pub(super) fn set_memory(&self, faults: Option<u64>, mapped: (u64, u64), cold_reads: u64) {
        if let Some(faults) = faults {
            self.major_faults.store(faults, Ordering::Relaxed);
        }
        self.mapped_bytes.store(mapped.0, Ordering::Relaxed);
        self.locked_bytes.store(mapped.1, Ordering::Relaxed);
        self.cold_reads.store(cold_reads, Ordering::Relaxed);
    }

    /// All of them.
    pub(super) fn read(&self) -> Counters {
        let get = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        Counters {
            connections: get(&self.connections),
            accepted: get(&self.accepted),
            refused: get(&self.refused),
            bytes_received: get(&self.bytes_received),
            bytes_sent: get(&self.bytes_sent),
            turns: get(&self.turns),
            major_faults: get(&self.major_faults),
            mapped_bytes: get(&self.mapped_bytes),
            locked_bytes: get(&self.locked_bytes),
            cold_reads: get(&self.cold_reads),
        }
    }
}
