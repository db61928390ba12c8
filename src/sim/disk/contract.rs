//! The other side's half of the contract, asserted: a machine that asks for what the engine could
//! not do safely must fail in the simulator, not lose data on a machine.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Disk;
use super::names::Names;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::SegmentId;
use crate::base::id::Ticket;
use crate::storage::effect::Bulk;
use crate::storage::effect::File;

/// What one process asked for so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Contract {
    /// All tickets of this process; whether each is in flight.
    tickets: BTreeSet<Ticket>,
    in_flight: BTreeSet<Ticket>,
    /// Where each append began, to where it ended: no byte of a segment is written twice.
    appended: BTreeMap<(SegmentId, u32), u32>,
    appending: BTreeSet<(SegmentId, u32)>,
    reading: BTreeMap<SegmentId, usize>,
    /// Asked to be resident; whether it was answered.
    resident: BTreeMap<SegmentId, bool>,
    /// Asked for and dropped before the answer, so many times.
    abandoned: BTreeMap<SegmentId, usize>,
}

impl Contract {
    pub(super) fn begin(&mut self, ticket: Ticket) {
        assert!(self.tickets.insert(ticket), "{ticket} was used before");
        self.in_flight.insert(ticket);
    }

    pub(super) fn end(&mut self, ticket: Ticket) {
        assert!(self.in_flight.remove(&ticket), "{ticket} ended twice");
    }

    pub(super) fn begin_read(&mut self, segment: SegmentId) {
        *self.reading.entry(segment).or_default() += 1;
    }

    pub(super) fn end_read(&mut self, segment: SegmentId) {
        let count = self.reading.get_mut(&segment).expect("a read that ends began");
        *count -= 1;
        if *count == 0 {
            self.reading.remove(&segment);
        }
    }

    pub(super) fn end_append(&mut self, segment: SegmentId, offset: u32) {
        self.appending.remove(&(segment, offset));
    }

    pub(super) fn make_resident(&mut self, segment: SegmentId) {
        let before = self.resident.insert(segment, false);
        assert!(before.is_none(), "{segment} was asked to be resident twice");
        assert!(
            !self.appending.iter().any(|(appending, _)| *appending == segment),
            "{segment} is not sealed: an append is in flight"
        );
    }

    pub(super) fn drop_resident(&mut self, segment: SegmentId) {
        let before = self.resident.remove(&segment);
        assert!(before.is_some(), "{segment} was not asked to be resident");
        if before == Some(false) {
            *self.abandoned.entry(segment).or_default() += 1;
        }
    }

    /// Whether somebody still wants it.
    pub(super) fn became_resident(&mut self, segment: SegmentId) -> bool {
        if let Some(count) = self.abandoned.get_mut(&segment)
            && *count > 0
        {
            *count -= 1;
            return false;
        }
        self.resident.insert(segment, true);
        true
    }

    fn assert_nobody_reads(&self, file: File) {
        let File::Segment(segment) = file else { return };
        assert!(!self.reading.contains_key(&segment), "{segment} is retired while it is read");
        assert!(!self.resident.contains_key(&segment), "{segment} is retired while it is mapped");
        assert!(
            !self.appending.iter().any(|(appending, _)| *appending == segment),
            "{segment} is retired while it is written"
        );
    }

    fn assert_append_is_new(&self, segment: SegmentId, offset: u32, end: u32) {
        let before = self.appended.range(..(segment, end)).next_back();
        if let Some(((other, start), before_end)) = before
            && *other == segment
        {
            assert!(
                *before_end <= offset,
                "{segment}: an append to {offset}..{end} overlaps the one to {start}..{before_end}"
            );
        }
    }
}

impl Disk {
    pub(super) fn check_append(
        &mut self,
        ticket: Ticket,
        segment: SegmentId,
        offset: u32,
        length: usize,
    ) {
        self.contract.begin(ticket);
        let file = File::Segment(segment);
        let page = PAGE_BYTES as u32;
        assert!(length > 0, "{segment}: an append of nothing");
        assert!(offset.is_multiple_of(page), "{segment}: an append at {offset}, between two pages");
        assert!(length.is_multiple_of(PAGE_BYTES), "{segment}: an append of {length} bytes");
        let number = self.find(file).unwrap_or_else(|| panic!("{segment} does not exist"));
        let inode = &self.inodes[&number];
        let end = offset + length as u32;
        assert!(end as usize <= inode.len(), "{segment}: an append to {end} of {}", inode.len());
        assert!(inode.is_length_durable(), "{segment}: appended to before its zeros were synced");
        let names: &Names = &self.directories[&segment.log];
        assert!(names.is_durable(file, number), "{segment}: appended to before its name is synced");
        assert!(
            !self.contract.resident.contains_key(&segment),
            "{segment} is appended to while it is mapped as sealed"
        );
        self.contract.assert_append_is_new(segment, offset, end);
        self.contract.appended.insert((segment, offset), end);
        self.contract.appending.insert((segment, offset));
    }

    pub(super) fn check_bulk(&mut self, operation: &Bulk) {
        match operation {
            Bulk::Rename { from, to } => {
                assert_eq!(from.log(), to.log(), "a rename stays within its log");
                self.contract.assert_nobody_reads(*from);
                self.contract.assert_nobody_reads(*to);
                self.contract.forget(*from);
            }
            Bulk::Unlink { file } => {
                self.contract.assert_nobody_reads(*file);
                self.contract.forget(*file);
            }
            Bulk::CreateZeroed { file, .. } => self.contract.assert_nobody_reads(*file),
            Bulk::Write { file, .. } => {
                let is_temporary = matches!(file, File::Temporary { .. });
                assert!(is_temporary, "{file:?} is written in place, where readers see it");
            }
            _ => {}
        }
    }
}

impl Contract {
    fn forget(&mut self, file: File) {
        if let File::Segment(segment) = file {
            self.appended.retain(|(other, _), _| *other != segment);
        }
    }
}
