//! A disk of memory: everything is done at once. For benches.

use std::collections::BTreeMap;

use stator::base::id::SegmentId;
use stator::base::id::Ticket;
use stator::storage::effect::Bulk;
use stator::storage::effect::Done;
use stator::storage::effect::Effect;
use stator::storage::effect::Event;
use stator::storage::effect::Failure;
use stator::storage::effect::File;
use stator::storage::effect::Resident;

/// The files by their meaning. Everything that is written is there, and all of it is resident.
#[derive(Clone, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<File, Vec<u8>>);

impl Resident for Files {
    fn slice(&self, segment: SegmentId, offset: u32, length: u32) -> Option<&[u8]> {
        self.0.get(&File::Segment(segment))?.get(offset as usize..(offset + length) as usize)
    }
}

/// What came of an effect.
pub(crate) enum Answer {
    Appended(Ticket),
    Read(Ticket, Vec<u8>),
    Bulk(Ticket, Result<Done, Failure>),
    Resident(SegmentId),
}

impl Answer {
    /// The event that tells of it.
    pub(crate) fn event(&self) -> Event<'_> {
        match self {
            Self::Appended(ticket) => Event::Appended { ticket: *ticket, result: Ok(()) },
            Self::Read(ticket, bytes) => Event::Read { ticket: *ticket, result: Ok(bytes) },
            Self::Bulk(ticket, result) => Event::Bulk { ticket: *ticket, result: result.clone() },
            Self::Resident(segment) => Event::Resident { segment: *segment, result: Ok(()) },
        }
    }
}

impl Files {
    /// Does it at once.
    pub(crate) fn perform(&mut self, effect: Effect) -> Option<Answer> {
        match effect {
            Effect::Append { ticket, segment, offset, buffer } => {
                self.write(File::Segment(segment), u64::from(offset), &buffer);
                Some(Answer::Appended(ticket))
            }
            Effect::Read { ticket, segment, offset, length } => {
                let bytes = self.slice(segment, offset, length).unwrap_or_default().to_vec();
                Some(Answer::Read(ticket, bytes))
            }
            Effect::Bulk { ticket, operation } => Some(Answer::Bulk(ticket, self.bulk(operation))),
            Effect::MakeResident { segment } => Some(Answer::Resident(segment)),
            Effect::DropResident { .. } => None,
        }
    }

    fn bulk(&mut self, operation: Bulk) -> Result<Done, Failure> {
        match operation {
            Bulk::List { .. } => {
                let files = self.0.iter().map(|(file, bytes)| (*file, bytes.len() as u64));
                return Ok(Done::Listed(files.collect()));
            }
            Bulk::Read { file, offset, length } => {
                let bytes = self.0.get(&file).ok_or(Failure::NotFound)?;
                let start = (offset as usize).min(bytes.len());
                let end = (start + length as usize).min(bytes.len());
                return Ok(Done::Read(bytes[start..end].to_vec()));
            }
            Bulk::CreateZeroed { file, length } => {
                self.0.insert(file, vec![0; length as usize]);
            }
            Bulk::Write { file, offset, bytes } => self.write(file, offset, &bytes),
            Bulk::Rename { from, to } => {
                let bytes = self.0.remove(&from).ok_or(Failure::NotFound)?;
                self.0.insert(to, bytes);
            }
            Bulk::Unlink { file } => {
                self.0.remove(&file);
            }
            Bulk::CreateDirectory { .. } | Bulk::Sync { .. } | Bulk::SyncDirectory { .. } => {}
        }
        Ok(Done::Ok)
    }

    fn write(&mut self, file: File, offset: u64, bytes: &[u8]) {
        let content = self.0.entry(file).or_default();
        let end = offset as usize + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(bytes);
    }
}
