//! From a key's hash to its record: in the write buffer, in a resident segment, or on the disk.
//!
//! Finding is the keydir's; here its locations become bytes. What left memory is checked each time
//! that it comes back, and a record whose bytes are bad is told apart from one that is not there.

use smallvec::SmallVec;

use crate::base::id::PartitionId;
use crate::base::id::Ticket;
use crate::base::outbox::Outbox;
use crate::storage::Notice;
use crate::storage::Store;
use crate::storage::cache::Cached;
use crate::storage::effect::Effect;
use crate::storage::effect::Failure;
use crate::storage::effect::Resident;
use crate::storage::keydir;
use crate::storage::keydir::Candidates;
use crate::storage::location::Location;
use crate::storage::record;
use crate::storage::record::Order;
use crate::storage::record::RECORD_HEADER_BYTES;
use crate::storage::record::RecordView;
use crate::storage::segments::Residency;

/// A record, or why it is not here.
#[derive(Debug)]
pub enum Fetched<'a> {
    /// Its bytes were checked, or never left memory.
    Here(RecordView<'a>),
    /// It must be read: [`Store::read`].
    Away,
    /// Its bytes are bad. The key had a value, and it is not known which.
    Damaged,
}

#[derive(Debug)]
pub(in crate::storage) struct PendingRead {
    at: Location,
    /// Only the header is read first, where the length does not fit into a location.
    header_only: bool,
}

impl Store {
    /// The records that may be this key's: their keys must be compared. If one of several is
    /// [`Fetched::Damaged`], it may be the newest of any key of this hash, and none of the others
    /// is the last word.
    pub fn find(&self, partition: PartitionId, hash: u64) -> Candidates {
        self.keydirs[partition.to_raw() as usize].find(hash)
    }

    /// These hashes are about to be looked for: reads from all the places where that will look, as
    /// far as they are in memory. One after the other each would wait for four or five places that
    /// are far from the core; here the waits of all of them overlap. It decides nothing.
    pub fn foresee(&self, hashes: &[(PartitionId, u64)], resident: &dyn Resident) {
        if self.keydirs.is_empty() {
            return; // the log is still being read
        }
        keydir::draw_near(&self.keydirs, hashes.iter().copied());
        let places: SmallVec<[Location; 16]> = hashes
            .iter()
            .filter_map(|(partition, hash)| self.find(*partition, *hash).first().copied())
            .collect();
        let records: SmallVec<[&[u8]; 16]> =
            places.iter().filter_map(|at| self.in_memory(*at, resident)).collect();
        let mut touched = 0;
        // Its header, and the lines after it that a short object has.
        for line in 0..3 {
            for bytes in &records {
                touched ^= bytes.get(line * 64).copied().unwrap_or(0);
            }
        }
        std::hint::black_box(touched);
    }

    /// Whether records of unknown keys were lost: then a key without a record may have had one, and
    /// a record with an order up to this may not be its key's newest.
    pub fn damaged_upto(&self) -> Option<Order> {
        (self.manifest.damaged_upto > Order(0)).then_some(self.manifest.damaged_upto)
    }

    /// Brings a record, if that needs no waiting.
    pub fn fetch<'a>(&'a self, at: Location, resident: &'a dyn Resident) -> Fetched<'a> {
        if at.marks().damaged {
            return Fetched::Damaged;
        }
        let segment = self.segments.get(at.slot());
        if let Some(bytes) = self.buffered(at) {
            segment.count_hit();
            let view = record::view_unchecked(bytes);
            return Fetched::Here(view.expect("a record in memory is whole"));
        }
        match self.cache.get(at) {
            Some(Cached::Damaged) => return Fetched::Damaged,
            Some(Cached::Good(bytes)) => {
                let view = record::view_unchecked(bytes);
                return Fetched::Here(view.expect("it was checked when it was read"));
            }
            None => {}
        }
        if segment.residency != Residency::Resident {
            return Fetched::Away;
        }
        segment.count_hit();
        let Some(length) = self.resident_length(at, resident) else { return Fetched::Away };
        let Some(bytes) = resident.slice(segment.id, at.offset(), length) else {
            return Fetched::Away;
        };
        match record::read(bytes, segment.id, at.offset()) {
            Ok(view) => Fetched::Here(view),
            Err(_) => Fetched::Damaged,
        }
    }

    /// Asks the disk for a record that is [`Fetched::Away`]. Several requests may wait for one
    /// ticket.
    pub fn read(&mut self, at: Location, out: &mut Outbox<Effect>) -> Ticket {
        if let Some(ticket) = self.reading.get(&at) {
            return *ticket;
        }
        let ticket = self.ticket();
        let header_only = at.length().is_none();
        let length = at.length().unwrap_or(RECORD_HEADER_BYTES as u32);
        self.reads.insert(ticket, PendingRead { at, header_only });
        self.reading.insert(at, ticket);
        let segment = self.segments.get_mut(at.slot());
        segment.readers += 1;
        segment.count_hit();
        self.counters.cold_reads += 1;
        let (segment, offset) = (segment.id, at.offset());
        out.push(Effect::Read { ticket, segment, offset, length });
        ticket
    }

    /// Marks a record as bad that was fetched as [`Fetched::Damaged`].
    pub fn quarantine(&mut self, partition: PartitionId, hash: u64, at: Location) {
        let keydir = &mut self.keydirs[partition.to_raw() as usize];
        if !at.marks().damaged && keydir.replace(hash, at, at.damaged()) {
            self.counters.damaged += 1;
            self.segments.get_mut(at.slot()).quarantined = true;
        }
    }

    /// The bytes of a record, unchecked, if they are in memory.
    fn in_memory<'a>(&'a self, at: Location, resident: &'a dyn Resident) -> Option<&'a [u8]> {
        self.buffered(at).or_else(|| {
            let segment = self.segments.get(at.slot());
            let resides = segment.residency == Residency::Resident;
            resident.slice(segment.id, at.offset(), at.length().filter(|_| resides)?)
        })
    }

    /// The bytes of a record that is in the write buffer, from its start.
    fn buffered(&self, at: Location) -> Option<&[u8]> {
        if let Some(open) = self.commit.open()
            && open.slot == at.slot()
            && at.offset() >= open.offset
        {
            return open.buffer.get((at.offset() - open.offset) as usize..);
        }
        self.segments.get(at.slot()).image.as_ref()?.from(at.offset())
    }

    fn resident_length(&self, at: Location, resident: &dyn Resident) -> Option<u32> {
        if let Some(length) = at.length() {
            return Some(length);
        }
        let segment = self.segments.get(at.slot()).id;
        let header = resident.slice(segment, at.offset(), RECORD_HEADER_BYTES as u32)?;
        let header = record::read_header(header, segment, at.offset())?;
        Some(header.record_length() as u32)
    }

    pub(in crate::storage) fn on_read(
        &mut self,
        ticket: Ticket,
        result: Result<&[u8], Failure>,
        out: &mut Outbox<Effect>,
    ) {
        let pending = self.reads.remove(&ticket).expect("it was asked for");
        let at = pending.at;
        let segment = self.segments.get(at.slot()).id;
        if pending.header_only
            && let Ok(bytes) = result
            && let Some(header) = record::read_header(bytes, segment, at.offset())
        {
            self.reads.insert(ticket, PendingRead { at, header_only: false });
            let length = header.record_length() as u32;
            out.push(Effect::Read { ticket, segment, offset: at.offset(), length });
            return;
        }
        self.reading.remove(&at);
        self.segments.get_mut(at.slot()).readers -= 1;
        if let Ok(bytes) = result {
            let cached = match record::read(bytes, segment, at.offset()) {
                Ok(_) => Cached::Good(bytes.into()),
                Err(_) => Cached::Damaged,
            };
            self.cache.insert(at, cached);
        }
        self.notices.push_back(Notice::Fetched { ticket, result: result.map(|_| ()) });
    }
}
