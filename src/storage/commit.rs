//! Group commit: records are gathered into batches, batches are written a few at a time, and what
//! is durable is told in order.
//!
//! # Why nobody is told too early
//!
//! [`Commit::synced`] moves only over batches whose write *completed*, and only without a gap: a
//! batch that overtook an earlier one waits for it. Recovery keeps a prefix, so an acknowledged
//! record behind a lost one would be lost too.
//!
//! # When a batch is closed
//!
//! A batch is what arrived while the last one was on its way to the disk. One more is sent beside
//! it when enough has gathered ([`Settings::eager_bytes`]): disks do several flushes at once for
//! nearly the price of one.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::base::aligned::AlignedBuffer;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::SegmentId;
use crate::storage::batch::BATCH_HEADER_BYTES;
use crate::storage::batch::BatchHeader;
use crate::storage::location::SegmentSlot;
use crate::storage::record::Order;

/// Bytes of buffers that are kept for batches to come in any case: those of a segment of 32 MiB.
const SPARE_BYTES_MIN: u64 = 32 * 1024 * 1024;

/// Buffers whose memory is given back in one turn, at most: some hundred microseconds.
const SPARES_FREED_AT_ONCE: usize = 16;

/// How batches are formed.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A batch is closed when it has this many bytes.
    pub batch_bytes: u32,
    /// Writes at once, at most.
    pub in_flight_max: usize,
    /// A waiting batch of this size does not wait for the one before it.
    pub eager_bytes: u32,
}

/// A batch on its way to the disk.
#[derive(Clone, Debug)]
pub struct ClosedBatch {
    /// The segment that it goes to.
    pub slot: SegmentSlot,
    /// The same by its name.
    pub segment: SegmentId,
    /// Where it goes.
    pub offset: u32,
    /// Its place among the batches of the epoch.
    pub number: u64,
    /// The highest number that it calls synced.
    synced_upto: u64,
    /// Everything up to this sequence is durable once it and all before it are.
    pub last_sequence: u64,
    /// Bytes of its records.
    record_bytes: usize,
    /// Its bytes, shared with the write buffer.
    pub buffer: Arc<AlignedBuffer>,
    done: bool,
}

impl ClosedBatch {
    /// Whether it only says how far the log is synced.
    pub fn is_empty(&self) -> bool {
        self.record_bytes == 0
    }
}

/// The batch that is being filled.
#[derive(Debug)]
pub struct OpenBatch {
    /// The segment that it will go to.
    pub slot: SegmentSlot,
    /// The same by its name.
    pub segment: SegmentId,
    /// Where it will stand.
    pub offset: u32,
    /// How long it may become, in bytes.
    pub limit: u32,
    /// Header and records so far.
    pub buffer: AlignedBuffer,
    records: u32,
    first_order: Order,
}

/// The batches of one log epoch.
#[derive(Debug)]
pub struct Commit {
    settings: Settings,
    epoch: u64,
    open: Option<OpenBatch>,
    /// Closed, not written yet, then written, not completed yet: oldest first.
    queue: VecDeque<ClosedBatch>,
    /// How many of `queue`, from its front, were given to the disk.
    in_flight: usize,
    last_number: u64,
    last_sequence: u64,
    synced_number: u64,
    synced_sequence: u64,
    /// The highest `synced_upto` of a synced batch.
    vouched_number: u64,
    /// The highest `synced_upto` that a closed batch carries.
    told_upto: u64,
    /// The last batch that has records.
    last_number_with_records: u64,
    wanted_upto: u64,
    unsynced_bytes: usize,
    /// Those of them in the open batch.
    open_bytes: usize,
    /// Buffers for batches to come: fresh memory costs the kernel's zeroing of each page.
    spares: Vec<AlignedBuffer>,
}

impl Commit {
    /// An epoch in which nothing was written, after `last_sequence`.
    pub fn new(settings: Settings, epoch: u64, last_sequence: u64) -> Self {
        Self {
            settings,
            epoch,
            open: None,
            queue: VecDeque::new(),
            in_flight: 0,
            last_number: 0,
            last_sequence,
            synced_number: 0,
            synced_sequence: last_sequence,
            vouched_number: 0,
            told_upto: 0,
            last_number_with_records: 0,
            wanted_upto: 0,
            unsynced_bytes: 0,
            open_bytes: 0,
            spares: Vec::new(),
        }
    }

    /// The log epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Everything up to this sequence is durable.
    pub fn synced(&self) -> u64 {
        self.synced_sequence
    }

    /// The epoch, and in it the number of the last batch that a durable one calls synced: whatever
    /// happens to it, a start knows that it was.
    pub fn last_vouched(&self) -> (u64, u64) {
        (self.epoch, self.vouched_number)
    }

    /// The number of the last batch that was closed.
    pub fn last_number(&self) -> u64 {
        self.last_number
    }

    /// The sequence of the last record that was appended.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Bytes that were appended and are not known to be durable.
    pub fn unsynced_bytes(&self) -> usize {
        self.unsynced_bytes
    }

    /// Whether everything appended is durable.
    pub fn is_quiet(&self) -> bool {
        self.queue.is_empty() && self.open.as_ref().is_none_or(|open| open.records == 0)
    }

    /// Whether a synced batch with records exists that no later batch calls synced.
    pub fn checkpoint_due(&self) -> bool {
        self.is_quiet() && self.last_number_with_records > self.told_upto
    }

    /// Somebody waits for everything appended so far.
    pub fn want_sync(&mut self) {
        self.wanted_upto = self.last_sequence;
    }

    /// The batch that is being filled.
    pub fn open(&self) -> Option<&OpenBatch> {
        self.open.as_ref()
    }

    /// Whether `length` more bytes fit into the open batch.
    pub fn fits(&self, length: usize) -> bool {
        self.open.as_ref().is_some_and(|open| open.buffer.len() + length <= open.limit as usize)
    }

    /// Begins a batch at `offset` of a segment, for a first record of `length` bytes in a place
    /// with room for `room` bytes.
    ///
    /// # Panics
    ///
    /// If one is open, or the record does not fit.
    pub fn begin(
        &mut self,
        slot: SegmentSlot,
        segment: SegmentId,
        offset: u32,
        length: usize,
        room: u32,
    ) {
        assert!(self.open.is_none(), "one batch is filled at a time");
        let needed = (BATCH_HEADER_BYTES + length).next_multiple_of(PAGE_BYTES) as u32;
        assert!(needed <= room, "the caller found a place with room for the record");
        let limit = self.settings.batch_bytes.max(needed).min(room);
        let mut buffer = match self.spares.pop() {
            Some(spare) if spare.capacity() >= limit as usize => spare,
            _ => AlignedBuffer::with_capacity(limit as usize),
        };
        buffer.clear();
        buffer.extend(&[0; BATCH_HEADER_BYTES]);
        self.open = Some(OpenBatch {
            slot,
            segment,
            offset,
            limit,
            buffer,
            records: 0,
            first_order: Order::default(),
        });
    }

    /// Takes the next sequence number and counts a record of `length` bytes; `write` appends its
    /// bytes to the open batch and is told where it stands.
    pub fn append(
        &mut self,
        generation: u16,
        length: usize,
        write: impl FnOnce(&mut AlignedBuffer, SegmentId, u32, Order),
    ) -> (u32, Order) {
        self.last_sequence += 1;
        let order = Order::new(generation, self.last_sequence);
        let open = self.open.as_mut().expect("the caller opened a batch");
        let offset = open.offset + open.buffer.len() as u32;
        let before = open.buffer.len();
        write(&mut open.buffer, open.segment, offset, order);
        assert_eq!(open.buffer.len() - before, length, "a record is as long as it was said to be");
        if open.records == 0 {
            open.first_order = order;
        }
        open.records += 1;
        self.unsynced_bytes += length;
        self.open_bytes += length;
        (offset, order)
    }

    /// Keeps buffers that nobody reads any more for batches to come, in all so many bytes of them.
    pub fn keep_spares(&mut self, buffers: impl IntoIterator<Item = AlignedBuffer>, bytes: u64) {
        let whole =
            |buffer: &AlignedBuffer| buffer.capacity() == self.settings.batch_bytes as usize;
        let room = self.spares_in(bytes).saturating_sub(self.spares.len());
        self.spares.extend(buffers.into_iter().filter(whole).take(room));
    }

    /// Gives back the memory of buffers beyond so many bytes of them.
    pub fn keep_spare_bytes(&mut self, bytes: u64) {
        self.spares.truncate(self.spares_in(bytes));
    }

    /// Bytes of memory of buffers for batches to come.
    pub fn spare_bytes(&self) -> usize {
        self.spares.iter().map(AlignedBuffer::memory_bytes).sum()
    }

    /// How many buffers have so many bytes.
    fn spares_in(&self, bytes: u64) -> usize {
        (bytes.max(SPARE_BYTES_MIN) / u64::from(self.settings.batch_bytes)) as usize
    }

    /// One that was taken and is not needed.
    fn return_spare(&mut self, buffer: AlignedBuffer) {
        if buffer.capacity() == self.settings.batch_bytes as usize {
            self.spares.push(buffer);
        }
    }

    /// Gives the memory of some of them back: of all at once it would take long.
    pub fn free_some_spares(&mut self) {
        let left = self.spares.len().saturating_sub(SPARES_FREED_AT_ONCE);
        self.spares.truncate(left);
    }

    /// Whether the open batch should be closed now, at the end of a turn.
    pub fn close_due(&self) -> bool {
        let Some(open) = &self.open else { return false };
        let wanted = self.wanted_upto > self.synced_sequence && open.records > 0;
        let waiting = self.queue.len();
        let large = open.buffer.len() >= self.settings.eager_bytes as usize;
        wanted && (waiting == 0 || (large && waiting < self.settings.in_flight_max))
    }

    /// Closes the open batch, if it has records, and tells where the next one would stand.
    pub fn close(&mut self) -> Option<&ClosedBatch> {
        let open = self.open.take()?;
        if open.records == 0 {
            self.return_spare(open.buffer);
            return None;
        }
        let (records, first_order) = (open.records, open.first_order);
        let buffer =
            self.seal_bytes(open.segment, open.offset, open.buffer, records, first_order, false);
        self.last_number_with_records = self.last_number;
        Some(self.enqueue(open.slot, open.segment, open.offset, buffer))
    }

    /// Closes a batch without records at `offset`: a seal, or a checkpoint.
    ///
    /// # Panics
    ///
    /// If a batch is open.
    pub fn close_empty(
        &mut self,
        slot: SegmentSlot,
        segment: SegmentId,
        offset: u32,
        generation: u16,
        seal: bool,
    ) -> &ClosedBatch {
        assert!(self.open.is_none(), "records come first");
        let mut buffer = AlignedBuffer::with_capacity(PAGE_BYTES);
        buffer.extend(&[0; BATCH_HEADER_BYTES]);
        let next = Order::new(generation, self.last_sequence + 1);
        let buffer = self.seal_bytes(segment, offset, buffer, 0, next, seal);
        self.enqueue(slot, segment, offset, buffer)
    }

    /// The next batch to write, if one more may be in flight.
    pub fn next_write(&mut self) -> Option<&ClosedBatch> {
        if self.in_flight >= self.settings.in_flight_max.min(self.queue.len()) {
            return None;
        }
        self.in_flight += 1;
        self.queue.get(self.in_flight - 1)
    }

    /// The write of batch `number` completed. Returns the batches that are durable by that, oldest
    /// first.
    pub fn completed(&mut self, number: u64) -> Vec<ClosedBatch> {
        let batch = self.queue.iter_mut().find(|batch| batch.number == number);
        batch.expect("it was in flight").done = true;
        let mut durable = Vec::new();
        while self.queue.front().is_some_and(|batch| batch.done) {
            let batch = self.queue.pop_front().expect("there is a front");
            self.in_flight -= 1;
            self.synced_number = batch.number;
            self.synced_sequence = batch.last_sequence;
            self.vouched_number = batch.synced_upto;
            durable.push(batch);
        }
        let written: usize = durable.iter().map(|batch| batch.record_bytes).sum();
        self.unsynced_bytes -= written;
        durable
    }

    /// Writes the header, pads, and moves the bytes to a buffer of just that size, so that the
    /// write buffer holds no unused room.
    fn seal_bytes(
        &mut self,
        segment: SegmentId,
        offset: u32,
        mut buffer: AlignedBuffer,
        records: u32,
        first_order: Order,
        seal: bool,
    ) -> Arc<AlignedBuffer> {
        self.last_number += 1;
        let header = BatchHeader {
            epoch: self.epoch,
            number: self.last_number,
            synced_upto: self.synced_number,
            first_order,
            length: buffer.len() as u32,
            records,
            seal,
        };
        self.told_upto = self.synced_number;
        header.write(&mut buffer, segment, offset);
        buffer.pad_to(PAGE_BYTES);
        if buffer.len() == buffer.capacity() {
            return Arc::new(buffer);
        }
        let mut exact = AlignedBuffer::with_capacity(buffer.len());
        exact.extend(&buffer);
        self.return_spare(buffer);
        Arc::new(exact)
    }

    fn enqueue(
        &mut self,
        slot: SegmentSlot,
        segment: SegmentId,
        offset: u32,
        buffer: Arc<AlignedBuffer>,
    ) -> &ClosedBatch {
        self.queue.push_back(ClosedBatch {
            slot,
            segment,
            offset,
            number: self.last_number,
            synced_upto: self.told_upto,
            last_sequence: self.last_sequence,
            record_bytes: std::mem::take(&mut self.open_bytes),
            buffer,
            done: false,
        });
        self.queue.back().expect("it was pushed just now")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::LogId;

    const HERE: SegmentId = SegmentId { log: LogId::new(1), number: 1 };

    #[test]
    fn a_batch_that_overtakes_another_waits_for_it() {
        let mut commit = commit();
        let first = closed(&mut commit, 4096);
        let second = closed(&mut commit, 8192);
        assert_eq!(commit.next_write().map(|batch| batch.number), Some(first));
        assert_eq!(commit.next_write().map(|batch| batch.number), Some(second));
        assert!(commit.next_write().is_none());

        assert!(commit.completed(second).is_empty());
        assert_eq!(commit.synced(), 10, "nothing is told while the first is missing");
        let durable: Vec<u64> = commit.completed(first).iter().map(|batch| batch.number).collect();
        assert_eq!(durable, [first, second]);
        assert_eq!(commit.synced(), 12);
    }

    #[test]
    fn a_checkpoint_is_due_until_one_was_closed() {
        let mut commit = commit();
        let first = closed(&mut commit, 4096);
        assert!(!commit.checkpoint_due(), "it is not synced yet");
        commit.next_write();
        commit.completed(first);
        assert!(commit.checkpoint_due());
        let checkpoint = commit.close_empty(SegmentSlot(0), HERE, 8192, 0, false).number;
        commit.next_write();
        commit.completed(checkpoint);
        assert!(!commit.checkpoint_due());
    }

    fn commit() -> Commit {
        let settings = Settings { batch_bytes: 4096, in_flight_max: 2, eager_bytes: 1024 };
        Commit::new(settings, 1, 10)
    }

    fn closed(commit: &mut Commit, offset: u32) -> u64 {
        commit.begin(SegmentSlot(0), HERE, offset, 8, 4096);
        commit.append(0, 8, |buffer, _, _, _| buffer.extend(&[1; 8]));
        commit.close().expect("it has a record").number
    }
}
