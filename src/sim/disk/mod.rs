//! A disk that performs [`Effect`]s from a seed: it is late, it reorders, and it fails in every way
//! that the contract allows.
//!
//! # What survives
//!
//! An append that was answered with `Ok` is durable, and so are bytes that were synced and names
//! whose directory was synced. Of everything else a crash keeps what it likes: of bytes each
//! sector by itself ([`inode`]), of names any subset of the changes in order ([`names`]).
//! Operations in flight at a crash may have happened, wholly or in part.
//!
//! # What is asserted
//!
//! The contract has two sides. Whoever breaks the other one (overlapping appends, a retired segment
//! that is being read, a ticket used twice…) hears it at once: [`contract`].

mod contract;
mod damage;
mod inode;
mod names;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::BinaryHeap;
use std::sync::Arc;

pub use self::damage::Damage;
pub use self::inode::SECTOR_BYTES;

use self::contract::Contract;
use self::damage::History;
use self::inode::Fates;
use self::inode::Inode;
use self::names::InodeNumber;
use self::names::Names;
use super::coverage::Coverage;
use super::coverage::Sometimes;
use crate::base::aligned::AlignedBuffer;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::LogId;
use crate::base::id::SegmentId;
use crate::base::id::Ticket;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::Effect;
use crate::storage::effect::Event;
use crate::storage::effect::Failure;
use crate::storage::effect::File;
use crate::storage::effect::Resident;

/// Whatever is slow and stalls answers after this, in nanoseconds.
const LATENCY_NANOS_MAX: u64 = 10_000_000_000;

/// What may go wrong, and how often: one in so many operations, 0 for never.
#[derive(Clone, Copy, Debug)]
pub struct Dials {
    /// Appends that fail.
    pub append_failure_one_in: u64,
    /// Reads that fail, of records and in bulk.
    pub read_failure_one_in: u64,
    /// Operations in the background that fail, reads aside.
    pub bulk_failure_one_in: u64,
    /// Operations that take a hundred times as long.
    pub slow_one_in: u64,
    /// The usual latency, in nanoseconds; each operation draws around it.
    pub latency_nanos: u64,
    /// How many bytes of files fit.
    pub quota_bytes: u64,
    /// How many pages of a resident segment really are.
    pub resident_percent: u64,
}

impl Default for Dials {
    /// A disk that never fails.
    fn default() -> Self {
        Self {
            append_failure_one_in: 0,
            read_failure_one_in: 0,
            bulk_failure_one_in: 0,
            slow_one_in: 0,
            latency_nanos: 50_000,
            quota_bytes: u64::MAX,
            resident_percent: 100,
        }
    }
}

/// The virtual disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// What may go wrong from here on.
    pub dials: Dials,
    /// Files that cannot be read from this offset on.
    pub unreadable: BTreeMap<File, u64>,
    /// What happened, so that a test can tell that it did.
    pub coverage: Coverage,
    rng: Rng,
    inodes: BTreeMap<InodeNumber, Inode>,
    inode_next: InodeNumber,
    directories: BTreeMap<LogId, Names>,
    /// The earliest first.
    agenda: BinaryHeap<Reverse<Pending>>,
    order_next: u64,
    contract: Contract,
    /// Segments with a map, by the inode that it maps.
    maps: BTreeMap<SegmentId, InodeNumber>,
    residency_salt: u64,
    history: History,
    /// The quota that refused something last.
    full_at: Option<u64>,
    failures: u64,
}

/// The end of an operation, to be told to whoever asked for it.
#[derive(Clone, Debug)]
pub enum Completion {
    /// See [`Event::Appended`].
    Appended(Ticket, Result<(), Failure>),
    /// See [`Event::Read`].
    Read(Ticket, Result<Vec<u8>, Failure>),
    /// See [`Event::Bulk`].
    Bulk(Ticket, Result<Done, Failure>),
    /// See [`Event::Resident`].
    Resident(SegmentId, Result<(), Failure>),
}

impl Completion {
    /// The event that tells of it.
    pub fn event(&self) -> Event<'_> {
        match self {
            Self::Appended(ticket, result) => Event::Appended { ticket: *ticket, result: *result },
            Self::Read(ticket, result) => {
                let result = result.as_ref().map(Vec::as_slice).map_err(|failure| *failure);
                Event::Read { ticket: *ticket, result }
            }
            Self::Bulk(ticket, result) => Event::Bulk { ticket: *ticket, result: result.clone() },
            Self::Resident(segment, result) => {
                Event::Resident { segment: *segment, result: *result }
            }
        }
    }
}

/// An operation in flight.
#[derive(Clone, Debug)]
struct Pending {
    at: Instant,
    order: u64,
    request: Request,
}

#[derive(Clone, Debug)]
enum Request {
    Append { ticket: Ticket, segment: SegmentId, offset: u32, buffer: Arc<AlignedBuffer> },
    Read { ticket: Ticket, segment: SegmentId, offset: u32, length: u32 },
    Bulk { ticket: Ticket, operation: Bulk },
    MakeResident { segment: SegmentId },
}

impl Disk {
    /// An empty disk.
    pub fn new(rng: Rng, dials: Dials) -> Self {
        Self {
            dials,
            unreadable: BTreeMap::new(),
            coverage: Coverage::default(),
            rng,
            inodes: BTreeMap::new(),
            inode_next: 1,
            directories: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            order_next: 0,
            contract: Contract::default(),
            maps: BTreeMap::new(),
            residency_salt: 0,
            history: History::default(),
            full_at: None,
            failures: 0,
        }
    }

    /// Begins an operation.
    pub fn perform(&mut self, now: Instant, effect: Effect) {
        let request = match effect {
            Effect::Append { ticket, segment, offset, buffer } => {
                self.check_append(ticket, segment, offset, buffer.len());
                self.history.issue(ticket, segment, offset, &buffer);
                Request::Append { ticket, segment, offset, buffer }
            }
            Effect::Read { ticket, segment, offset, length } => {
                self.contract.begin(ticket);
                self.contract.begin_read(segment);
                Request::Read { ticket, segment, offset, length }
            }
            Effect::Bulk { ticket, operation } => {
                self.contract.begin(ticket);
                self.check_bulk(&operation);
                Request::Bulk { ticket, operation }
            }
            Effect::MakeResident { segment } => {
                self.contract.make_resident(segment);
                Request::MakeResident { segment }
            }
            Effect::DropResident { segment } => {
                self.contract.drop_resident(segment);
                self.maps.remove(&segment);
                return;
            }
        };
        let at = now + self.latency();
        self.agenda.push(Reverse(Pending { at, order: self.order_next, request }));
        self.order_next += 1;
    }

    /// When the next operation ends.
    pub fn next_at(&self) -> Option<Instant> {
        self.agenda.peek().map(|Reverse(pending)| pending.at)
    }

    /// Ends the next operation. It happens here, as far as anybody can tell.
    pub fn complete(&mut self) -> Option<Completion> {
        let Reverse(pending) = self.agenda.pop()?;
        if self.rng.chance(1, 64) {
            self.residency_salt = self.rng.next_u64();
        }
        Some(match pending.request {
            Request::Append { ticket, segment, offset, buffer } => {
                self.contract.end(ticket);
                Completion::Appended(ticket, self.append(ticket, segment, offset, &buffer))
            }
            Request::Read { ticket, segment, offset, length } => {
                self.contract.end(ticket);
                self.contract.end_read(segment);
                let result = self.read(File::Segment(segment), u64::from(offset), length);
                Completion::Read(ticket, result)
            }
            Request::Bulk { ticket, operation } => {
                self.contract.end(ticket);
                Completion::Bulk(ticket, self.bulk(operation))
            }
            Request::MakeResident { segment } => {
                Completion::Resident(segment, self.make_resident(segment))
            }
        })
    }

    /// The power goes: what was in flight may have happened in part, what was not durable may stay.
    pub fn crash(&mut self) {
        let mut pending: Vec<Pending> = self.agenda.drain().map(|Reverse(p)| p).collect();
        pending.sort_unstable_by_key(|pending| pending.order);
        for pending in pending {
            self.cut_off(pending.request);
        }
        for names in self.directories.values_mut() {
            names.crash(&mut self.rng);
        }
        for inode in self.inodes.values_mut() {
            inode.crash(&mut self.rng);
        }
        self.forget_process();
    }

    /// The process ended and the machine did not: what was in flight is finished by the kernel.
    pub fn stop(&mut self) {
        while !self.agenda.is_empty() {
            self.complete();
        }
        self.forget_process();
    }

    /// Bytes of all files that have a name.
    pub fn used_bytes(&self) -> u64 {
        let names = self.directories.values().flat_map(Names::iter);
        names.map(|(_, inode)| self.inodes[&inode].len() as u64).sum()
    }

    /// The files and their lengths.
    pub fn files(&self) -> impl Iterator<Item = (File, u64)> + '_ {
        let names = self.directories.values().flat_map(Names::iter);
        names.map(|(name, inode)| (name, self.inodes[&inode].len() as u64))
    }

    /// How often it failed. While it is full that is once, however often it refuses.
    pub fn failures(&self) -> u64 {
        self.failures
    }

    /// Whether a durable file under such a name holds these bytes.
    pub fn durably_holds(&self, needle: &[u8], select: impl Fn(File) -> bool) -> bool {
        self.directories.values().any(|names| {
            names.iter().any(|(name, number)| {
                let inode = &self.inodes[&number];
                select(name)
                    && names.is_durable(name, number)
                    && inode.is_length_durable()
                    && inode.read(0, inode.len()).windows(needle.len()).any(|at| at == needle)
            })
        })
    }

    /// Removes the files of these names, durably: as if they had never been.
    pub fn remove(&mut self, select: impl Fn(File) -> bool) {
        for names in self.directories.values_mut() {
            let gone: Vec<File> = names.iter().map(|(f, _)| f).filter(|f| select(*f)).collect();
            for file in gone {
                names.unlink(file);
            }
            names.sync();
        }
    }

    fn forget_process(&mut self) {
        self.maps.clear();
        self.contract = Contract::default();
        self.history.forget_in_flight();
        self.free_inodes();
    }

    fn free_inodes(&mut self) {
        let (directories, maps) = (&self.directories, &self.maps);
        self.inodes.retain(|number, _| {
            directories.values().any(|names| names.reaches(*number))
                || maps.values().any(|mapped| mapped == number)
        });
    }

    fn latency(&mut self) -> Duration {
        let usual = self.dials.latency_nanos;
        let mut nanos = usual / 2 + self.rng.below(usual + 1);
        if self.rng.chance(1, 8) {
            nanos *= 1 + self.rng.below(8);
        }
        if self.is_time_to_fail(self.dials.slow_one_in) {
            nanos *= 100;
        }
        Duration::from_nanos(nanos.min(LATENCY_NANOS_MAX))
    }

    fn is_time_to_fail(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.rng.chance(1, one_in)
    }

    fn find(&self, file: File) -> Option<InodeNumber> {
        self.directories.get(&file.log())?.find(file)
    }

    fn inode_mut(&mut self, number: InodeNumber) -> &mut Inode {
        self.inodes.get_mut(&number).expect("a name leads to an inode")
    }

    fn append(
        &mut self,
        ticket: Ticket,
        segment: SegmentId,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        self.contract.end_append(segment, offset);
        let number = self.find(File::Segment(segment)).expect("checked when it was asked for");
        if self.is_time_to_fail(self.dials.append_failure_one_in) {
            self.failed(Sometimes::AppendFailed);
            let fates = Fates::draw(&mut self.rng);
            let inode = self.inodes.get_mut(&number).expect("a name leads to an inode");
            inode.tear(offset as usize, bytes, fates, &mut self.rng);
            self.history.fail(ticket);
            return Err(Failure::Io);
        }
        self.inode_mut(number).write_through(offset as usize, bytes);
        self.history.complete(segment, ticket);
        Ok(())
    }

    fn read(&mut self, file: File, offset: u64, length: u32) -> Result<Vec<u8>, Failure> {
        let from = self.unreadable.get(&file);
        let unreadable = from.is_some_and(|from| offset + u64::from(length) > *from);
        if unreadable || self.is_time_to_fail(self.dials.read_failure_one_in) {
            self.failed(Sometimes::ReadFailed);
            return Err(Failure::Io);
        }
        let number = self.find(file).ok_or(Failure::NotFound)?;
        let offset = usize::try_from(offset).expect("an address of this machine");
        Ok(self.inodes[&number].read(offset, length as usize).to_vec())
    }

    fn make_resident(&mut self, segment: SegmentId) -> Result<(), Failure> {
        if !self.contract.became_resident(segment) {
            return Ok(()); // dropped while it was being read in: there is no map
        }
        let unreadable = self.unreadable.contains_key(&File::Segment(segment));
        if unreadable || self.is_time_to_fail(self.dials.read_failure_one_in) {
            self.contract.drop_resident(segment);
            return Err(Failure::Io);
        }
        let Some(number) = self.find(File::Segment(segment)) else {
            self.contract.drop_resident(segment);
            return Err(Failure::NotFound);
        };
        self.maps.insert(segment, number);
        Ok(())
    }

    fn bulk(&mut self, operation: Bulk) -> Result<Done, Failure> {
        match operation {
            Bulk::Read { file, offset, length } => self.read(file, offset, length).map(Done::Read),
            Bulk::List { log } => {
                let names = self.directories.get(&log).ok_or(Failure::NotFound)?;
                let files = names.iter().map(|(name, n)| (name, self.inodes[&n].len() as u64));
                Ok(Done::Listed(files.collect()))
            }
            change => {
                if self.is_time_to_fail(self.dials.bulk_failure_one_in) {
                    self.failed(Sometimes::BulkFailed);
                    self.fail(change);
                    return Err(Failure::Io);
                }
                self.change(change).map(|()| Done::Ok)
            }
        }
    }

    fn change(&mut self, operation: Bulk) -> Result<(), Failure> {
        match operation {
            Bulk::CreateDirectory { log } => {
                self.directories.entry(log).or_default();
            }
            Bulk::CreateZeroed { file, length } => {
                let replaced = self.find(file).map_or(0, |n| self.inodes[&n].len());
                self.claim(length, replaced as u64)?;
                let length = usize::try_from(length).expect("an address of this machine");
                self.create(file, Inode::zeroed(length))?;
            }
            Bulk::Write { file, offset, bytes } => self.write(file, offset, &bytes)?,
            Bulk::Sync { file } => {
                let number = self.find(file).ok_or(Failure::NotFound)?;
                self.inode_mut(number).sync();
                self.directories.get_mut(&file.log()).expect("found in it").keep_link(number);
            }
            Bulk::Rename { from, to } => {
                let number = self.find(from).ok_or(Failure::NotFound)?;
                self.history.rename(from, to);
                let names = self.directories.get_mut(&from.log()).expect("found in it");
                names.rename(from, to, number);
            }
            Bulk::SyncDirectory { log } => {
                self.directories.get_mut(&log).ok_or(Failure::NotFound)?.sync();
                self.free_inodes();
            }
            Bulk::Unlink { file } => {
                if let Some(names) = self.directories.get_mut(&file.log())
                    && names.find(file).is_some()
                {
                    names.unlink(file);
                    self.history.unlink(file);
                }
            }
            Bulk::Read { .. } | Bulk::List { .. } => unreachable!("they change nothing"),
        }
        Ok(())
    }

    fn create(&mut self, file: File, inode: Inode) -> Result<InodeNumber, Failure> {
        let names = self.directories.get_mut(&file.log()).ok_or(Failure::NotFound)?;
        let number = self.inode_next;
        self.inode_next += 1;
        names.link(file, number);
        self.inodes.insert(number, inode);
        Ok(number)
    }

    fn write(&mut self, file: File, offset: u64, bytes: &[u8]) -> Result<(), Failure> {
        let offset = usize::try_from(offset).expect("an address of this machine");
        let before = self.find(file).map_or(0, |number| self.inodes[&number].len());
        let after = before.max(offset + bytes.len());
        if after > before {
            self.claim(after as u64, before as u64)?;
        }
        let number = match self.find(file) {
            Some(number) => number,
            None => self.create(file, Inode::default())?,
        };
        self.inode_mut(number).write(offset, bytes);
        Ok(())
    }

    /// Room for a file of `length` bytes that has `held` of them already.
    fn claim(&mut self, length: u64, held: u64) -> Result<(), Failure> {
        if self.used_bytes() - held + length > self.dials.quota_bytes {
            let quota = Some(self.dials.quota_bytes);
            if self.full_at != quota {
                (self.full_at, self.failures) = (quota, self.failures + 1);
            }
            self.coverage.note(Sometimes::NoSpace);
            return Err(Failure::NoSpace);
        }
        Ok(())
    }

    fn failed(&mut self, what: Sometimes) {
        self.failures += 1;
        self.coverage.note(what);
    }

    /// The operation failed: it happened, or half of it, or nothing.
    fn fail(&mut self, operation: Bulk) {
        match operation {
            Bulk::Sync { file } => {
                if let Some(number) = self.find(file) {
                    let inode = self.inodes.get_mut(&number).expect("a name leads to an inode");
                    inode.fail_sync(&mut self.rng);
                }
            }
            operation => self.half_perform(operation),
        }
    }

    /// A crash met the operation in flight.
    fn cut_off(&mut self, request: Request) {
        match request {
            Request::Append { segment, offset, buffer, .. } => {
                let Some(number) = self.find(File::Segment(segment)) else { return };
                let fates = Fates::draw(&mut self.rng);
                let inode = self.inodes.get_mut(&number).expect("a name leads to an inode");
                if inode.tear(offset as usize, &buffer, fates, &mut self.rng) {
                    self.coverage.note(Sometimes::AppendTorn);
                }
            }
            Request::Bulk { operation, .. } => self.half_perform(operation),
            Request::Read { .. } | Request::MakeResident { .. } => {}
        }
    }

    fn half_perform(&mut self, operation: Bulk) {
        if self.rng.chance(1, 2) {
            return;
        }
        let operation = match operation {
            Bulk::Write { file, offset, mut bytes } => {
                bytes.truncate(self.rng.below(bytes.len() as u64 + 1) as usize);
                Bulk::Write { file, offset, bytes }
            }
            Bulk::CreateZeroed { file, length } => {
                Bulk::CreateZeroed { file, length: self.rng.below(length + 1) }
            }
            Bulk::Read { .. } | Bulk::List { .. } => return,
            other => other,
        };
        // What it came to is nobody's business: nobody is told more than that it failed.
        let _ = self.change(operation);
    }

    /// The first segment files in use, for whoever wants to harm one.
    fn segments(&self) -> BTreeSet<SegmentId> {
        self.files()
            .filter_map(|(file, _)| match file {
                File::Segment(segment) => Some(segment),
                _ => None,
            })
            .collect()
    }
}

impl Resident for Disk {
    fn slice(&self, segment: SegmentId, offset: u32, length: u32) -> Option<&[u8]> {
        let number = self.maps.get(&segment)?;
        let first = offset as usize / PAGE_BYTES;
        let last = (offset as usize + length as usize).div_ceil(PAGE_BYTES);
        let is_resident = |page: usize| {
            let word = (u64::from(segment.number) << 32) ^ page as u64 ^ self.residency_salt;
            let mixed = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            mixed % 100 < self.dials.resident_percent
        };
        if !(first..last).all(is_resident) {
            return None;
        }
        let bytes = self.inodes[number].read(offset as usize, length as usize);
        (bytes.len() == length as usize).then_some(bytes)
    }
}

impl PartialEq for Pending {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Pending {}

impl PartialOrd for Pending {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Pending {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
