//! A running hash of everything that was heard and asked for, content included.
//!
//! Two runs of one seed must give the same hash. If they do not, something in the machine or in
//! the simulator depends on more than the seed, and no failure could be had again.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::disk::Completion;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::Effect;
use crate::storage::effect::Failure;
use crate::storage::effect::File;

/// The hash so far, and how much went into it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Trace {
    hash: u64,
    events: u64,
}

impl Trace {
    /// The hash of everything so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events were delivered.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Counts events of another run.
    pub fn add_events(&mut self, events: u64) {
        self.events += events;
    }

    /// A number that matters.
    pub fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    /// Bytes that matter.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.hash = xxh3_64_with_seed(bytes, self.hash.rotate_left(23) ^ bytes.len() as u64);
    }

    /// An event that a machine is about to hear.
    pub fn event(&mut self, event: &Completion) {
        self.events += 1;
        match event {
            Completion::Appended(ticket, result) => {
                self.head(1, ticket.to_raw(), result.err());
            }
            Completion::Read(ticket, result) => {
                self.head(2, ticket.to_raw(), result.as_ref().err().copied());
                self.bytes(result.as_deref().unwrap_or_default());
            }
            Completion::Bulk(ticket, result) => {
                self.head(3, ticket.to_raw(), result.as_ref().err().copied());
                if let Ok(done) = result {
                    self.done(done);
                }
            }
            Completion::Resident(segment, result) => {
                self.head(4, u64::from(segment.number), result.err());
                self.number(u64::from(segment.log.to_raw()));
            }
        }
    }

    /// An effect that a machine asked for.
    pub fn effect(&mut self, effect: &Effect) {
        match effect {
            Effect::Append { ticket, segment, offset, buffer } => {
                self.head(5, ticket.to_raw(), None);
                self.file(File::Segment(*segment));
                self.number(u64::from(*offset));
                self.bytes(buffer);
            }
            Effect::Read { ticket, segment, offset, length } => {
                self.head(6, ticket.to_raw(), None);
                self.file(File::Segment(*segment));
                self.number(u64::from(*offset) << 32 | u64::from(*length));
            }
            Effect::Bulk { ticket, operation } => {
                self.head(7, ticket.to_raw(), None);
                self.bulk(operation);
            }
            Effect::MakeResident { segment } => {
                self.number(8);
                self.file(File::Segment(*segment));
            }
            Effect::DropResident { segment } => {
                self.number(9);
                self.file(File::Segment(*segment));
            }
        }
    }

    fn head(&mut self, kind: u64, name: u64, failure: Option<Failure>) {
        let failure = match failure {
            None => 0,
            Some(Failure::NoSpace) => 1,
            Some(Failure::NotFound) => 2,
            Some(Failure::Io) => 3,
        };
        self.number(kind << 8 | failure);
        self.number(name);
    }

    fn done(&mut self, done: &Done) {
        match done {
            Done::Ok => self.number(0),
            Done::Listed(files) => {
                for (file, length) in files {
                    self.file(*file);
                    self.number(*length);
                }
            }
            Done::Read(bytes) => self.bytes(bytes),
        }
    }

    fn bulk(&mut self, operation: &Bulk) {
        match operation {
            Bulk::CreateDirectory { log } => self.number(1 << 32 | u64::from(log.to_raw())),
            Bulk::List { log } => self.number(2 << 32 | u64::from(log.to_raw())),
            Bulk::SyncDirectory { log } => self.number(3 << 32 | u64::from(log.to_raw())),
            Bulk::Read { file, offset, length } => {
                self.file(*file);
                self.number(*offset << 24 ^ u64::from(*length));
            }
            Bulk::CreateZeroed { file, length } => {
                self.file(*file);
                self.number(*length);
            }
            Bulk::Write { file, offset, bytes } => {
                self.file(*file);
                self.number(*offset);
                self.bytes(bytes);
            }
            Bulk::Sync { file } => {
                self.number(4);
                self.file(*file);
            }
            Bulk::Rename { from, to } => {
                self.file(*from);
                self.file(*to);
            }
            Bulk::Unlink { file } => {
                self.number(5);
                self.file(*file);
            }
        }
    }

    fn file(&mut self, file: File) {
        let (kind, number) = match file {
            File::Segment(segment) => (1, segment.number),
            File::Index(segment) => (2, segment.number),
            File::Manifest(_) => (3, 0),
            File::Temporary { number, .. } => (4, number),
        };
        self.number(kind << 32 | u64::from(number));
        self.number(u64::from(file.log().to_raw()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Ticket;

    #[test]
    fn content_failure_and_order_all_count() {
        let read = |bytes: &[u8]| Completion::Read(Ticket::new(1), Ok(bytes.to_vec()));
        let failed = Completion::Read(Ticket::new(1), Err(Failure::Io));
        let hash = |events: &[Completion]| {
            let mut trace = Trace::default();
            events.iter().for_each(|event| trace.event(event));
            trace.hash()
        };
        assert_eq!(hash(&[read(b"a"), read(b"b")]), hash(&[read(b"a"), read(b"b")]));
        assert_ne!(hash(&[read(b"a"), read(b"b")]), hash(&[read(b"b"), read(b"a")]));
        assert_ne!(hash(&[read(b"a")]), hash(&[read(b"b")]));
        assert_ne!(hash(&[failed]), hash(&[read(b"")]));
    }
}
