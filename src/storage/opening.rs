//! A start, from an unread directory to an open log.
//!
//! Read what is there, make tables of it, tell colliding keys apart, then write the manifest of
//! this start: a new log epoch, a fresh actor, and the ends of all earlier epochs. Only then may a
//! record be written, for only then is the actor durable.

use crate::base::aligned::PAGE_BYTES;
use crate::base::id::PartitionId;
use crate::base::id::SegmentId;
use crate::base::outbox::Outbox;
use crate::storage::Health;
use crate::storage::Notice;
use crate::storage::Settings;
use crate::storage::Store;
use crate::storage::collisions::Collisions;
use crate::storage::commit::Commit;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::Effect;
use crate::storage::effect::Failure;
use crate::storage::effect::File;
use crate::storage::index_file::IndexBuilder;
use crate::storage::location::SegmentSlot;
use crate::storage::record::Order;
use crate::storage::recovery::Found;
use crate::storage::recovery::PIECE_BYTES_MAX;
use crate::storage::recovery::Recovery;
use crate::storage::recovery::StartError;
use crate::storage::restore;
use crate::storage::restore::Restored;
use crate::storage::restore::is_owned;
use crate::storage::script::Script;
use crate::storage::segments::Stage;

/// Where a start is.
#[derive(Debug)]
pub(in crate::storage) enum Opening {
    Reading(Recovery),
    TellingApart(Collisions, Box<Restored>),
    Writing(Script),
}

impl Opening {
    pub(in crate::storage) fn new(settings: &Settings) -> Self {
        // Small enough that the rest of a segment that ends early need not be read.
        let piece_bytes = (settings.segment_bytes / 8).clamp(PAGE_BYTES as u32, PIECE_BYTES_MAX);
        Self::Reading(Recovery::new(settings.log, &settings.adopted, piece_bytes))
    }
}

impl Store {
    pub(in crate::storage) fn on_opening(
        &mut self,
        result: Result<Done, Failure>,
        out: &mut Outbox<Effect>,
    ) {
        let outcome = match self.opening.as_deref_mut().expect("it is opening") {
            Opening::Reading(recovery) => recovery.done(result),
            Opening::TellingApart(collisions, restored) => {
                collisions.done(result, restored);
                Ok(())
            }
            Opening::Writing(_) => result.map(|_| ()).map_err(StartError::Disk),
        };
        match outcome {
            Ok(()) => self.continue_opening(out),
            Err(error) => self.fail_opening(error),
        }
    }

    /// Asks for the next operation of the start, or goes on to its next part.
    pub(in crate::storage) fn continue_opening(&mut self, out: &mut Outbox<Effect>) {
        loop {
            let opening = *self.opening.take().expect("it is opening");
            let (operation, opening) = match self.step(opening) {
                Ok((operation, opening)) => (operation, opening),
                Err(error) => return self.fail_opening(error),
            };
            self.opening = opening.map(Box::new);
            if let Some(operation) = operation {
                let ticket = self.ticket();
                out.push(Effect::Bulk { ticket, operation });
                return;
            }
            if self.opening.is_none() {
                self.health = Health::Open;
                self.lanes.start_is_untold = true;
                self.warm_up(out);
                self.lanes.consider_compaction = true;
                return;
            }
        }
    }

    fn step(&mut self, opening: Opening) -> Result<(Option<Bulk>, Option<Opening>), StartError> {
        Ok(match opening {
            Opening::Reading(recovery) => match recovery.next_operation() {
                Some(operation) => (Some(operation), Some(Opening::Reading(recovery))),
                None => {
                    let mut restored = self.restore(recovery.finish())?;
                    let collisions = Collisions::new(&mut restored);
                    (None, Some(Opening::TellingApart(collisions, Box::new(restored))))
                }
            },
            Opening::TellingApart(mut collisions, mut restored) => {
                match collisions.next_operation(&mut restored) {
                    Some(operation) => {
                        (Some(operation), Some(Opening::TellingApart(collisions, restored)))
                    }
                    None => (None, Some(Opening::Writing(self.adopt(*restored)))),
                }
            }
            Opening::Writing(mut script) => match script.next_operation() {
                Some(operation) => (Some(operation), Some(Opening::Writing(script))),
                None => (None, None),
            },
        })
    }

    fn restore(&mut self, found: Found) -> Result<Restored, StartError> {
        for segment in found.segments.keys() {
            if !found.manifests.contains_key(&segment.log) {
                return Err(StartError::NoManifest(segment.log));
            }
        }
        for manifest in found.manifests.values() {
            let asked = self.settings.partitions;
            if manifest.partitions != asked {
                return Err(StartError::OtherPartitions { found: manifest.partitions, asked });
            }
        }
        if let Some(manifest) = found.manifests.get(&self.settings.log) {
            self.manifest.epoch = manifest.epoch;
        }
        for file in &found.leftovers {
            if let File::Temporary { number, .. } = file {
                self.lanes.temporaries.skip(*number);
            }
        }
        let own = found.segments.keys().filter(|segment| segment.log == self.settings.log);
        let own: Vec<SegmentId> = own.copied().collect();
        let restored = restore::restore(found, &self.settings);
        // What earlier starts prepared and never wrote is gone, durably, before this one prepares
        // anything: its numbers come again. Else starts that are killed would leave wider and wider
        // gaps, all of which `past` must take for lost.
        let goes = |segment: &SegmentId| restored.leftovers.contains(&File::Segment(*segment));
        let stay = own.into_iter().filter(|segment| !goes(segment));
        self.lanes.last_number = stay.map(|segment| segment.number).max().unwrap_or(0);
        Ok(restored)
    }

    /// Takes over the tables, and lists what makes this start durable.
    fn adopt(&mut self, restored: Restored) -> Script {
        let own = self.settings.log;
        self.counters.start = restored.counts;
        self.keydirs = restored.keydirs;
        self.keydirs.iter_mut().for_each(|keydir| keydir.finish_recovery());
        self.segments = restored.segments;
        self.settle_adopted_segments();
        self.manifest.epoch += 1;
        self.manifest.ends = restored.ends;
        self.manifest.damaged_upto = restored.damaged_upto;
        let last = self.last_sequence(restored.highest_order);
        self.commit = Commit::new(self.settings.commit, self.manifest.epoch, last);
        let temporary = self.lanes.temporaries.next(own);
        let bytes = self.manifest.to_file();
        let leftovers = restored.leftovers.into_iter().filter(|file| file.log() == own);
        let (unnamed, named): (Vec<File>, Vec<File>) =
            leftovers.partition(|file| matches!(file, File::Temporary { .. }));
        // They mean nothing to any start, and a full disk may have no room before they go.
        let unlink = |file| Bulk::Unlink { file };
        let mut script = Script::new(unnamed.into_iter().map(unlink));
        // Where the log was cut is durable before anything that was cut off goes: of segments that
        // are missing a start believes that they were complete.
        script.append(Script::replace_file(File::Manifest(own), temporary, vec![bytes]));
        named.into_iter().for_each(|file| script.push(unlink(file)));
        script.push(Bulk::SyncDirectory { log: own });
        script
    }

    /// Segments of other logs are complete as they are. One of the shards that read them writes
    /// their keydir files, so that the next start need not read them whole again.
    fn settle_adopted_segments(&mut self) {
        let (own, partitions) = (self.settings.log, u32::from(self.settings.partitions));
        let is_ours = |number: u32| {
            is_owned(&self.settings.owned, PartitionId::new((number % partitions) as u16))
        };
        let others = self.segments.iter().filter(|(_, segment)| {
            segment.id.log != own && !(segment.stage == Stage::Synced && is_ours(segment.id.number))
        });
        let others: Vec<SegmentSlot> = others.map(|(slot, _)| slot).collect();
        for slot in others {
            let segment = self.segments.get_mut(slot);
            segment.stage = Stage::Indexed;
            segment.index = IndexBuilder::default();
        }
    }

    /// Where the sequence goes on. Each generation counts for itself.
    fn last_sequence(&self, highest: Order) -> u64 {
        if highest.generation() == self.settings.generation { highest.sequence() } else { 0 }
    }

    fn fail_opening(&mut self, error: StartError) {
        self.opening = None;
        self.health = Health::Closed;
        self.lanes.failed = true;
        self.notices.push_back(Notice::Failed(error));
    }
}
