//! A log that somebody else wrote to while nobody was looking.
//!
//! The store writes a small log, stops or loses power, and then its files are altered: bits flip,
//! sectors turn to zeros or noise or to those of another place, files are cut. What log
//! it is and what is altered come as bytes from outside, so that a fuzzer can search them; the laws
//! are those of the other worlds ([`super`]).
//!
//! # What must hold
//!
//! - A start ends, and a refused one says that a manifest is bad, if one was altered.
//! - What a key holds was written for it, and is the last that was. If it is not, that is told: the
//!   record is damaged, or records were lost.
//! - The log goes on: what is written afterwards is read back, by another start too.
//!
//! Where power was lost, the last appends are spared: nothing on the disk says that they were synced,
//! and harm to them looks like a torn end ([`crate::storage::log_end`]).
//!
//! One alteration is no accident: bytes that the input chose may have a checksum that is right. Then
//! nothing is asked but that the store neither panics nor hangs.

use std::collections::BTreeSet;

use super::keys::Keys;
use super::model::Answer;
use super::model::KeyIndex;
use super::model::Model;
use super::model::Testimony;
use super::model::VALUE_BYTES_MIN;
use super::world::Looked;
use super::world::look;
use crate::base::id::LogId;
use crate::base::id::Ticket;
use crate::base::outbox::Outbox;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::sim::coverage::Coverage;
use crate::sim::disk::Dials;
use crate::sim::disk::Disk;
use crate::sim::disk::SECTOR_BYTES;
use crate::storage::Notice;
use crate::storage::Refusal;
use crate::storage::Settings;
use crate::storage::Store;
use crate::storage::Write;
use crate::storage::commit::Settings as CommitSettings;
use crate::storage::effect::File;
use crate::storage::location::Location;
use crate::storage::recovery::StartError;

/// What became of an altered log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Altered {
    /// Records that were written before.
    pub written: usize,
    /// Files that have other bytes than the store gave them.
    pub files: usize,
    /// Whether bytes were chosen, not harmed.
    pub forged: bool,
    /// Whether the log could not be started.
    pub refused: bool,
    /// Keys whose record is damaged.
    pub damaged: usize,
    /// Whether records of unknown keys were lost.
    pub lost: bool,
}

/// Writes a log, alters it, and starts it: `bytes` say what is written and what is altered.
///
/// # Panics
///
/// If what must hold does not.
pub fn run_altered(bytes: &[u8]) -> Altered {
    let mut input = Input(bytes);
    let shape = Shape::take(&mut input);
    let mut world = World::new(shape);
    let mut report = Altered::default();
    world.start().expect("an empty directory");
    report.written = world.write_what_is_drawn(&mut input);
    world.end();
    (report.files, report.forged) = world.alter(&mut input);
    if let Err(error) = world.start() {
        assert!(world.manifest_altered, "{error:?}, and the manifests are as they were");
        let honest = matches!(error, StartError::NoManifest(_)) || report.forged;
        assert!(honest, "{error:?} of an altered manifest");
        report.refused = true;
        return report;
    }
    let testimonies = world.ask_all();
    report.damaged = testimonies.iter().filter(|it| it.answer == Answer::Damaged).count();
    report.lost = world.store.damaged_upto().is_some();
    if report.forged {
        return report; // who can make checksums can make anything
    }
    world.model.judge_recovery(&testimonies);
    world.goes_on();
    report
}

const KEYS: usize = 12;
const PARTITIONS: u16 = 4;
const WRITES_MAX: usize = 96;
const ALTERATIONS_MAX: usize = 8;

/// Events that a start, a read or a write may take, at most.
const PATIENCE: u64 = 20_000;

/// Bytes from outside; zeros when there are no more.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn number(&mut self) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()]))
    }

    fn bytes(&mut self, count: usize) -> &[u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// What the first bytes decide.
#[derive(Clone, Copy, Debug)]
struct Shape {
    segment_bytes: u32,
    colliding: usize,
    resident: bool,
    garbage_percent: u8,
    /// The store is told to stop, and records where its log ends.
    stops: bool,
}

impl Shape {
    fn take(input: &mut Input<'_>) -> Self {
        let bits = input.byte();
        Self {
            segment_bytes: if bits & 1 == 0 { 16 * 1024 } else { 64 * 1024 },
            colliding: if bits & 2 == 0 { 1 } else { 3 },
            resident: bits & 4 == 0,
            garbage_percent: if bits & 8 == 0 { 99 } else { 20 },
            stops: bits & 16 == 0,
        }
    }
}

/// What may be done to a file. The input chooses by number.
#[derive(Clone, Copy, Debug)]
enum Alteration {
    FlipBit,
    ZeroSector,
    ZeroPage,
    Noise,
    CopyPage,
    Cut,
    Forge,
}

impl Alteration {
    const ALL: [Self; 7] = [
        Self::FlipBit,
        Self::ZeroSector,
        Self::ZeroPage,
        Self::Noise,
        Self::CopyPage,
        Self::Cut,
        Self::Forge,
    ];
}

struct World {
    shape: Shape,
    settings: Settings,
    store: Store,
    disk: Disk,
    model: Model,
    keys: Keys,
    out: Outbox<crate::storage::effect::Effect>,
    now: Instant,
    starts: u64,
    coverage: Coverage,
    fetched: BTreeSet<Ticket>,
    started: Option<Result<(), StartError>>,
    stopped: bool,
    manifest_altered: bool,
}

impl World {
    fn new(shape: Shape) -> Self {
        let mut rng = Rng::from_seed(1);
        let resident_percent = if shape.resident { 100 } else { 0 };
        let dials = Dials { resident_percent, ..Dials::default() };
        let settings = settings(shape);
        Self {
            shape,
            store: Store::new(settings.clone(), 0),
            settings,
            disk: Disk::new(rng.fork(), dials),
            model: Model::new(KEYS, shape.colliding > 1),
            keys: Keys::new(KEYS, PARTITIONS, shape.colliding, &mut rng),
            out: Outbox::default(),
            now: Instant::START,
            starts: 0,
            coverage: Coverage::default(),
            fetched: BTreeSet::new(),
            started: None,
            stopped: false,
            manifest_altered: false,
        }
    }

    fn start(&mut self) -> Result<(), StartError> {
        self.starts += 1;
        self.store = Store::new(self.settings.clone(), self.starts);
        self.out.clear();
        self.fetched.clear();
        (self.started, self.stopped) = (None, false);
        self.store.start(&mut self.out);
        self.run_until("a start", |world| world.started.is_some());
        self.started.take().expect("it was waited for")
    }

    /// Writes from a seed: short inputs reach the alterations.
    fn write_what_is_drawn(&mut self, input: &mut Input<'_>) -> usize {
        let writes = usize::from(input.byte()).min(WRITES_MAX);
        let mut rng = Rng::from_seed(input.number() as u64);
        for _ in 0..writes {
            let key = rng.below(KEYS as u64) as usize;
            // Few are long, so that batches have several records and segments several batches.
            let longest = if rng.chance(1, 4) { 4000 } else { 64 };
            let length = rng.between(VALUE_BYTES_MIN as u64, longest) as usize;
            self.write(key, length, rng.chance(1, 8));
            if rng.chance(1, 4) {
                self.sync();
            }
        }
        self.sync();
        writes
    }

    /// The process ends, and everything is synced.
    fn end(&mut self) {
        if self.shape.stops {
            self.stop();
        }
        self.finish_all();
        self.disk.crash();
    }

    fn stop(&mut self) {
        self.store.stop(self.now, &mut self.out);
        self.run_until("a stop", |world| world.stopped);
        self.model.stopped_clean();
    }

    /// Returns how many files were altered, and whether anything was forged.
    fn alter(&mut self, input: &mut Input<'_>) -> (usize, bool) {
        let files: Vec<(File, u64)> = self.disk.files().filter(|(_, length)| *length > 0).collect();
        let before = self.contents(&files);
        let mut forged = false;
        for _ in 0..ALTERATIONS_MAX {
            if input.is_empty() {
                break;
            }
            let kind = Alteration::ALL[usize::from(input.byte()) % Alteration::ALL.len()];
            let file = files[usize::from(input.byte()) % files.len()].0;
            let donor = files[usize::from(input.byte()) % files.len()].0;
            let (place, detail) = (input.number(), input.number());
            let donated = self.contents(&[(donor, 0)]).remove(0);
            forged |= matches!(kind, Alteration::Forge);
            self.disk.alter(file, |bytes| alter(bytes, kind, place, detail, &donated, input));
        }
        if !self.shape.stops {
            self.spare_what_nothing_vouches_for(&files, &before);
        }
        let altered: Vec<File> = before
            .iter()
            .zip(self.contents(&files))
            .zip(&files)
            .filter(|((before, after), _)| *before != after)
            .map(|(_, (file, _))| *file)
            .collect();
        self.manifest_altered = altered.iter().any(|file| matches!(file, File::Manifest(_)));
        if altered.iter().any(|file| matches!(file, File::Segment(_))) {
            self.model.harmed();
        }
        (altered.len(), forged)
    }

    /// The end of a log that nobody stopped looks the same torn and harmed.
    fn spare_what_nothing_vouches_for(&mut self, files: &[(File, u64)], before: &[Vec<u8>]) {
        for spared in self.disk.unvouched() {
            let Some(index) = files.iter().position(|(file, _)| *file == spared.file) else {
                continue; // compaction let it go
            };
            let range = spared.range.start as usize..spared.range.end as usize;
            self.disk.alter(spared.file, |bytes| {
                bytes.resize(bytes.len().max(range.end), 0);
                bytes[range.clone()].copy_from_slice(&before[index][range]);
            });
        }
    }

    fn contents(&mut self, files: &[(File, u64)]) -> Vec<Vec<u8>> {
        let mut all = vec![Vec::new(); files.len()];
        for (content, (file, _)) in all.iter_mut().zip(files) {
            self.disk.alter(*file, |bytes| content.clone_from(bytes));
        }
        all
    }

    fn ask_all(&mut self) -> Vec<Testimony> {
        (0..KEYS).map(|key| self.ask(key).0).collect()
    }

    fn ask(&mut self, key: KeyIndex) -> (Testimony, Option<Location>) {
        for _ in 0..PATIENCE {
            match self.look(key) {
                Looked::Known(testimony, at) => return (testimony, at),
                Looked::Away(at) => {
                    let wanted = self.store.read(at, &mut self.out);
                    self.run_until("a read", |world| world.fetched.contains(&wanted));
                }
            }
        }
        panic!("key {key} is for ever away");
    }

    fn look(&mut self, key: KeyIndex) -> Looked {
        let place = self.keys.place(key);
        look(&self.store, &self.disk, &self.model, key, place, &mut self.coverage)
    }

    /// Every key is written once more, read back, and still there after another start.
    fn goes_on(&mut self) {
        for key in 0..KEYS {
            self.write(key, 40 * key + VALUE_BYTES_MIN, key == 5);
        }
        self.sync();
        for key in 0..KEYS {
            let (testimony, _) = self.ask(key);
            self.model.judge(key, testimony);
        }
        self.stop();
        self.finish_all();
        self.disk.crash();
        self.start().expect("a log that was open a moment ago");
        let testimonies = self.ask_all();
        self.model.judge_recovery(&testimonies);
    }

    fn write(&mut self, key: KeyIndex, length: usize, tombstone: bool) {
        let index = self.model.propose(key, length, tombstone);
        let mut value = Vec::new();
        self.model.value(index, &mut value);
        for _ in 0..PATIENCE {
            let (_, replaces) = self.ask(key);
            let (partition, hash, name) = self.keys.place(key);
            let write = Write { partition, hash, tombstone, key: name, value: &value, replaces };
            match self.store.append(self.now, write, &mut self.out) {
                Ok(appended) => {
                    self.model.apply(index, appended.sequence);
                    return;
                }
                Err(Refusal::NoRoom) => {
                    self.store.flush(self.now, &mut self.out);
                    self.step();
                }
                Err(refusal) => panic!("{length} bytes for an open log, and it says {refusal:?}"),
            }
        }
        panic!("a write is for ever refused");
    }

    fn sync(&mut self) {
        self.store.want_sync();
        self.store.flush(self.now, &mut self.out);
        self.run_until("a sync", |world| {
            world.store.want_sync();
            world.store.flush(world.now, &mut world.out);
            world.model.last_sequence().is_none_or(|last| world.store.synced() >= last)
        });
    }

    fn run_until(&mut self, what: &str, is_done: impl Fn(&mut Self) -> bool) {
        for _ in 0..PATIENCE {
            if is_done(self) {
                return;
            }
            self.step();
        }
        panic!("{what} that never ends");
    }

    /// Ends what is in flight.
    fn finish_all(&mut self) {
        for _ in 0..PATIENCE {
            self.perform();
            if self.disk.next_at().is_none() {
                return;
            }
            self.step();
        }
        panic!("the store works for ever");
    }

    /// Lets the store do whatever it need not wait for.
    #[cfg(test)]
    fn finish_background(&mut self) {
        for _ in 0..PATIENCE {
            self.perform();
            if self.disk.next_at().is_none() && self.store.deadline().is_none_or(|at| at > self.now)
            {
                return;
            }
            self.step();
        }
        panic!("the store works for ever");
    }

    /// An operation ends, or time passes until a deadline.
    fn step(&mut self) {
        self.perform();
        if let Some(at) = self.disk.next_at() {
            self.now = self.now.max(at);
            let completion = self.disk.complete().expect("it has a time");
            self.store.handle(self.now, completion.event(), &mut self.out);
        } else if let Some(at) = self.store.deadline() {
            self.now = self.now.max(at);
            self.store.tick(self.now, &mut self.out);
        }
        self.hear();
    }

    fn perform(&mut self) {
        let effects: Vec<_> = self.out.drain().collect();
        self.out.clear();
        for effect in effects {
            self.disk.perform(self.now, effect);
        }
    }

    fn hear(&mut self) {
        while let Some(notice) = self.store.next_notice() {
            match notice {
                Notice::Started => self.started = Some(Ok(())),
                Notice::Failed(error) => self.started = Some(Err(error)),
                Notice::Synced { upto } => self.model.synced_upto(upto),
                Notice::Fetched { ticket, result } => {
                    assert_eq!(result, Ok(()), "this disk reads what it has");
                    self.fetched.insert(ticket);
                }
                Notice::Room => {}
                Notice::Stopped => self.stopped = true,
                Notice::Poisoned => panic!("no write failed, and the log was given up"),
                Notice::Released(log) => assert!(self.settings.adopted.contains(&log), "{log:?}"),
            }
        }
    }
}

fn alter(
    bytes: &mut Vec<u8>,
    kind: Alteration,
    place: usize,
    detail: usize,
    donated: &[u8],
    input: &mut Input<'_>,
) {
    let length = bytes.len();
    if length == 0 {
        return;
    }
    let sector = place * SECTOR_BYTES % length;
    match kind {
        Alteration::FlipBit => bytes[place % length] ^= 1 << (detail % 8),
        Alteration::ZeroSector => bytes[sector..].iter_mut().take(SECTOR_BYTES).for_each(zero),
        Alteration::ZeroPage => {
            bytes[sector..].iter_mut().take(8 * SECTOR_BYTES).for_each(zero);
        }
        Alteration::Noise => {
            // From a seed, so that no input can choose bytes that fit their checksum.
            let mut noise = [0; SECTOR_BYTES];
            Rng::from_seed(detail as u64).fill(&mut noise);
            bytes[sector..].iter_mut().zip(noise).for_each(|(byte, noise)| *byte = noise);
        }
        Alteration::CopyPage => {
            let from = detail * SECTOR_BYTES % donated.len().max(1);
            let page = donated.iter().skip(from).take(8 * SECTOR_BYTES);
            bytes[sector..].iter_mut().zip(page).for_each(|(byte, donated)| *byte = *donated);
        }
        Alteration::Cut => bytes.truncate(place % length),
        Alteration::Forge => {
            let forged = input.bytes(detail % 256);
            bytes[place % length..].iter_mut().zip(forged).for_each(|(byte, new)| *byte = *new);
        }
    }
}

fn zero(byte: &mut u8) {
    *byte = 0;
}

fn settings(shape: Shape) -> Settings {
    Settings {
        segment_bytes: shape.segment_bytes,
        commit: CommitSettings { batch_bytes: 8192, in_flight_max: 2, eager_bytes: 4096 },
        checkpoint_after: Duration::from_millis(20),
        unsynced_bytes_max: 32 * 1024,
        resident_bytes_max: if shape.resident { 1 << 20 } else { 0 },
        cache_bytes_max: 64 * 1024,
        garbage_percent: shape.garbage_percent,
        ..Settings::new(LogId::new(1), PARTITIONS)
    }
}

#[cfg(test)]
mod tests;
