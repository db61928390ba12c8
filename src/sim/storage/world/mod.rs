//! One store on one disk, a client that never rests, and power that goes.

mod client;
mod quiet;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fmt;

pub(super) use self::client::Looked;
use self::client::Purpose;
use self::client::Waiter;
pub(super) use self::client::look;
use crate::base::id::ActorId;
use crate::base::id::LogId;
use crate::base::id::Ticket;
use crate::base::outbox::Outbox;
use crate::base::rng::Rng;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::sim::coverage::Coverage;
use crate::sim::coverage::Sometimes;
use crate::sim::disk::Dials;
use crate::sim::disk::Disk;
use crate::sim::pace::Pace;
use crate::sim::storage::Report;
use crate::sim::storage::keys::Keys;
use crate::sim::storage::model::Answer;
use crate::sim::storage::model::Model;
use crate::sim::storage::model::Testimony;
use crate::sim::storage::plan::Plan;
use crate::sim::storage::twin::Twin;
use crate::sim::trace::Trace;
use crate::storage::Health;
use crate::storage::Notice;
use crate::storage::Settings;
use crate::storage::Store;
use crate::storage::commit::Settings as CommitSettings;
use crate::storage::effect::Bulk;
use crate::storage::effect::Effect;
use crate::storage::effect::File;
use crate::storage::recovery::StartError;

/// A start, a stop or a sync that takes longer than this without faults never comes.
const PATIENCE: Duration = Duration::from_secs(600);

/// So many starts in a row are interrupted, then one may end: a crash in every few effects would
/// never let a long recovery through.
const FAILED_STARTS_MAX: u32 = 6;

/// Where the store is in its life.
#[derive(Clone, Debug)]
enum Phase {
    /// It recovers.
    Starting,
    /// It said that it started; every key is read, and nothing else happens.
    Verifying { testimonies: Vec<Option<Testimony>> },
    /// The client works.
    Running,
    /// It was told to stop.
    Stopping,
    /// It said that it stopped.
    Stopped,
}

pub(super) struct World {
    plan: Plan,
    pace: Pace,
    rng: Rng,
    now: Instant,
    settings: Settings,
    disk: Disk,
    store: Store,
    out: Outbox<Effect>,
    phase: Phase,
    model: Model,
    trace: Trace,
    coverage: Coverage,
    keys: Keys,
    /// Several may wait for one ticket.
    waiters: BTreeMap<Ticket, Vec<Waiter>>,
    /// Writes for which the log has no room, until it says that it may have.
    roomless: VecDeque<Waiter>,
    actors: BTreeSet<ActorId>,
    turn_at: Instant,
    phase_since: Instant,
    effects: u64,
    operations: u64,
    /// Crashes and harm.
    faults: u64,
    starts: u64,
    /// Starts since the store last worked.
    failed_starts: u32,
    poisoned: bool,
    read_only: bool,
    is_crash_due: bool,
    /// Failures that the disk had reported when this start began.
    failures_at_start: u64,
    unread_at_start: u64,
    /// The number up to which the store called everything synced, in this start.
    synced: u64,
    scratch: Vec<u8>,
    /// Deadlines in a row with nothing else between them.
    deadlines_in_a_row: u32,
    faults_are_over: bool,
}

impl World {
    pub(super) fn new(mut rng: Rng, plan: Plan) -> Self {
        let pace = Pace::new(&rng, plan.operations, plan.faults_min);
        let disk = Disk::new(rng.fork(), plan.dials);
        let settings = settings(&plan);
        let keys = Keys::new(plan.keys, plan.partitions, plan.colliding, &mut rng);
        let mut world = Self {
            store: Store::new(settings.clone(), rng.next_u64()),
            model: Model::new(plan.keys, plan.colliding > 1),
            now: Instant::START,
            settings,
            disk,
            out: Outbox::default(),
            phase: Phase::Starting,
            trace: Trace::default(),
            coverage: Coverage::default(),
            keys,
            waiters: BTreeMap::new(),
            roomless: VecDeque::new(),
            actors: BTreeSet::new(),
            turn_at: Instant::START,
            phase_since: Instant::START,
            effects: 0,
            operations: 0,
            faults: 0,
            starts: 0,
            failed_starts: 0,
            poisoned: false,
            read_only: false,
            is_crash_due: false,
            failures_at_start: 0,
            unread_at_start: 0,
            synced: 0,
            scratch: Vec::new(),
            deadlines_in_a_row: 0,
            faults_are_over: false,
            plan,
            pace,
            rng,
        };
        world.start();
        world
    }

    /// Everything: the workload among faults, then a quiet time in which all must come right.
    pub(super) fn run(mut self) -> Report {
        while !self.pace.is_done(self.operations, self.faults()) {
            self.step();
        }
        self.end_faults();
        self.everything_is_acknowledged();
        if self.plan.crash_at_effect.is_none() {
            self.garbage_is_reclaimed();
        }
        self.restart_in_order();
        self.report()
    }

    fn report(mut self) -> Report {
        self.coverage.join(&self.disk.coverage);
        let faults = self.faults();
        Report {
            trace: self.trace,
            coverage: self.coverage,
            operations: self.operations,
            faults,
            effects: self.effects,
            starts: self.starts,
            undecided: 0,
        }
    }

    /// Whatever comes next: an operation of the disk ends, a deadline passes, or the client acts.
    fn step(&mut self) {
        let works = matches!(self.phase, Phase::Running);
        let turn_at = works.then_some(self.turn_at);
        let disk_at = self.disk.next_at();
        let deadline = self.store.deadline();
        let is_under_way = disk_at.is_some() || deadline.is_some();
        let waits = works && !self.roomless.is_empty();
        assert!(!waits || is_under_way, "a write waits for room, and nothing brings it");
        let next = [turn_at, disk_at, deadline].into_iter().flatten().min();
        let next =
            next.unwrap_or_else(|| panic!("{:?}, and the store waits for nothing", self.phase));
        self.now = self.now.max(next);
        if disk_at == Some(next) {
            self.deadlines_in_a_row = 0;
            self.deliver();
        } else if turn_at == Some(next) {
            self.deadlines_in_a_row = 0;
            self.turn();
        } else {
            self.deadlines_in_a_row += 1;
            assert!(self.deadlines_in_a_row < 1000, "a deadline that passes and passes");
            self.store.tick(self.now, &mut self.out);
            self.store.flush(self.now, &mut self.out);
            self.after_call();
        }
        if matches!(self.phase, Phase::Stopped) || self.is_crash_due {
            self.restart();
        }
        if self.faults_are_over || self.starts < 2 {
            self.assert_patience();
        }
    }

    fn assert_patience(&self) {
        let waited = self.now.since(self.phase_since);
        let is_waiting = !matches!(self.phase, Phase::Running);
        assert!(!is_waiting || waited < PATIENCE, "still {:?} after {waited:?}", self.phase);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.phase_since = self.now;
    }

    fn deliver(&mut self) {
        let completion = self.disk.complete().expect("its time has come");
        self.trace.event(&completion);
        self.tell(|| Loud(&completion).to_string());
        self.store.handle(self.now, completion.event(), &mut self.out);
        if self.rng.chance(self.plan.flush_percent, 100) {
            self.store.flush(self.now, &mut self.out);
        }
        self.after_call();
    }

    /// After each call: what it asked for is performed, what it said is heard.
    fn after_call(&mut self) {
        self.perform();
        if self.is_crash_due {
            return;
        }
        self.hear_health();
        while let Some(notice) = self.store.next_notice() {
            self.hear(notice);
        }
        if self.is_crash_due {
            return;
        }
        self.perform();
        self.hear_synced();
        let unsynced = self.model.unsynced_bytes();
        let bound = self.settings.unsynced_bytes_max + self.plan.value_bytes_max as usize;
        assert!(unsynced <= bound, "{unsynced} bytes wait to be synced, {bound} may");
    }

    /// What is durable grows, and only while the log is whole.
    fn hear_synced(&mut self) {
        if !matches!(self.phase, Phase::Running | Phase::Stopping) {
            return;
        }
        let synced = self.store.synced();
        assert!(synced >= self.synced, "synced moved back from {} to {synced}", self.synced);
        if synced > self.synced {
            assert!(!self.poisoned, "synced moved on after the log was given up");
            self.synced = synced;
            self.model.synced_upto(synced);
        }
    }

    /// Performs what was asked for, unless the power goes before.
    fn perform(&mut self) {
        let effects: Vec<Effect> = self.out.drain().collect();
        for effect in effects {
            if self.is_crash_due || self.power_goes() {
                self.is_crash_due = true;
                continue;
            }
            self.trace.effect(&effect);
            self.tell(|| Loud(&effect).to_string());
            self.note_effect(&effect);
            self.effects += 1;
            self.disk.perform(self.now, effect);
        }
        self.out.clear();
    }

    fn power_goes(&mut self) -> bool {
        if self.faults_are_over || self.failed_starts >= FAILED_STARTS_MAX {
            return false;
        }
        if let Some(at) = self.plan.crash_at_effect {
            return self.effects == at && self.faults == 0;
        }
        let drawn = self.plan.crash_one_in > 0 && self.rng.chance(1, self.plan.crash_one_in);
        drawn || self.pace.wants_crash(self.operations, self.faults())
    }

    fn start(&mut self) {
        self.starts += 1;
        self.waiters.clear();
        self.roomless.clear();
        self.poisoned = false;
        self.read_only = false;
        self.is_crash_due = false;
        self.synced = 0;
        self.failures_at_start = self.failures();
        self.unread_at_start = self.disk.coverage.count(Sometimes::ReadFailed);
        self.failed_starts += 1;
        self.enter(Phase::Starting);
        self.store = Store::new(self.settings.clone(), self.rng.next_u64());
        self.store.start(&mut self.out);
        self.after_call();
        if self.is_crash_due {
            self.restart();
        }
    }

    /// The process ends, with or without the machine, and another begins.
    fn restart(&mut self) {
        drop(self.out.drain());
        self.out.clear();
        let was_clean = matches!(self.phase, Phase::Stopped);
        if !was_clean {
            self.faults += 1;
            self.note_interruption();
        }
        if self.rng.chance(self.plan.kill_percent, 100) {
            self.coverage.note(Sometimes::Kill);
            self.disk.stop();
        } else {
            self.coverage.note(Sometimes::Crash);
            self.disk.crash();
        }
        self.trace.number(u64::MAX);
        self.tell(|| "the end of the process".to_owned());
        if self.rng.chance(1, 4) {
            self.disk.dials.quota_bytes = u64::MAX; // somebody made room meanwhile
        }
        let may_adopt = self.settings.adopted.len() < 3;
        if may_adopt && self.rng.chance(self.plan.adopt_percent, 100) {
            self.coverage.note(Sometimes::Adopted);
            self.settings.adopted.push(self.settings.log);
            self.settings.log = LogId::new(self.settings.log.to_raw() + 1);
            self.settings.generation += 1;
        }
        self.start();
    }

    fn note_interruption(&mut self) {
        if matches!(self.phase, Phase::Starting) {
            self.coverage.note(Sometimes::CrashInRecovery);
        }
        if self.disk.files().any(|(file, _)| matches!(file, File::Temporary { .. })) {
            self.coverage.note(Sometimes::CompactionInterrupted);
        }
    }

    fn started(&mut self) {
        let actor = self.store.actor();
        assert!(self.actors.insert(actor), "{actor} was used by a start before");
        let bytes = actor.to_raw().to_le_bytes();
        let is_durable = self.disk.durably_holds(&bytes, |file| matches!(file, File::Manifest(_)));
        assert!(is_durable, "{actor} is used before it is durable");
        let unread = self.disk.coverage.count(Sometimes::ReadFailed) - self.unread_at_start;
        if self.store.damaged_upto().is_some() && unread > 3 {
            self.model.harmed(); // a place that was refused again and again is as good as damaged
        }
        let testimonies = vec![None; self.plan.keys];
        self.enter(Phase::Verifying { testimonies });
        for key in 0..self.plan.keys {
            self.look_for(Waiter::new(key, Purpose::Verify));
        }
        self.conclude_verification();
    }

    fn conclude_verification(&mut self) {
        let Phase::Verifying { testimonies } = &self.phase else { return };
        let Some(all) = testimonies.iter().copied().collect::<Option<Vec<Testimony>>>() else {
            return;
        };
        let recovered = self.model.judge_recovery(&all);
        self.trace.number(recovered.prefix.1 as u64);
        if recovered.prefix.1 < recovered.applied {
            self.coverage.note(Sometimes::TailLost);
        }
        if recovered.prefix.0 > recovered.synced {
            self.coverage.note(Sometimes::TailKept);
        }
        if self.rng.chance(1, 8) && !self.model.is_harmed() {
            self.compare_with_scan(&all);
        }
        self.failed_starts = 0;
        self.turn_at = self.now;
        self.synced = self.store.synced();
        self.enter(Phase::Running);
    }

    /// What the index files said must be what the records say.
    fn compare_with_scan(&mut self, testimonies: &[Testimony]) {
        let mut twin = self.disk.clone();
        twin.crash();
        twin.dials = Dials::default();
        twin.remove(|file| matches!(file, File::Index(_)));
        let entropy = self.rng.next_u64();
        let mut twin = Twin::start(self.settings.clone(), entropy, twin, &self.model);
        for (key, testimony) in testimonies.iter().enumerate() {
            let (loaded, scanned) = (testimony.answer, twin.ask(key, self.keys.place(key)));
            let both_gone = |answer| matches!(answer, Answer::Absent | Answer::Deleted(_));
            let is_same = loaded == scanned || both_gone(loaded) && both_gone(scanned);
            assert!(is_same, "key {key}: {loaded:?} by index files, {scanned:?} by records");
        }
        self.coverage.note(Sometimes::IndexCompared);
    }

    /// Tells what happens, if somebody wants to hear it.
    fn tell(&self, what: impl FnOnce() -> String) {
        if self.plan.aloud {
            println!("{:>12} {}", self.now.as_nanos(), what());
        }
    }

    fn hear(&mut self, notice: Notice) {
        self.tell(|| format!("{notice:?}"));
        match notice {
            Notice::Started => self.started(),
            Notice::Synced { upto } => {
                assert_eq!(upto, self.store.synced(), "the notice and the store agree");
            }
            Notice::Fetched { ticket, result } => {
                let waiters = self.waiters.remove(&ticket).expect("a read that ends was wanted");
                for waiter in waiters {
                    assert!(result.is_ok() || waiter.attempts < 50, "unreadable fifty times");
                    self.look_for(Waiter { attempts: waiter.attempts + 1, ..waiter });
                }
                self.conclude_verification();
            }
            Notice::Released(log) => self.remove_log(log),
            Notice::Room => self.room_came(),
            Notice::Poisoned => {
                self.coverage.note(Sometimes::Poisoned);
                let failures = self.failures() - self.failures_at_start;
                assert!(failures > 0, "the log was given up without a failure");
                self.poisoned = true;
                self.roomless.clear();
                if !matches!(self.phase, Phase::Running) {
                    self.is_crash_due = true;
                }
            }
            Notice::Failed(error) => self.start_failed(error),
            Notice::Stopped => self.stopped(),
        }
    }

    /// Nobody needs this log: its files go at once, durably, or only after the next start.
    fn remove_log(&mut self, log: LogId) {
        if self.rng.chance(1, 2) {
            self.disk.remove(|file| file.log() == log);
            self.settings.adopted.retain(|adopted| *adopted != log);
            self.store.forget_log(log);
        }
    }

    /// A log that cannot be started says so; without a failure it must start.
    fn start_failed(&mut self, error: StartError) {
        let failures = self.failures() - self.failures_at_start;
        assert!(matches!(error, StartError::Disk(_)), "{error:?}, and nobody touched that");
        assert!(failures > 0, "{error:?} without a failure");
        self.coverage.note(Sometimes::StartFailed);
        self.is_crash_due = true;
    }

    /// Whether it takes writes: not for want of room, and again when there is room.
    fn hear_health(&mut self) {
        let read_only = self.store.health() == Health::ReadOnly;
        if read_only && !self.read_only {
            self.coverage.note(Sometimes::BecameReadOnly);
            let failures = self.failures() - self.failures_at_start;
            assert!(failures > 0, "read-only with room on the disk");
        }
        if self.read_only && self.store.health() == Health::Open {
            self.coverage.note(Sometimes::Healed);
        }
        self.read_only = read_only;
    }

    fn stopped(&mut self) {
        if self.poisoned {
            return;
        }
        assert!(matches!(self.phase, Phase::Stopping), "it stopped and nobody had asked");
        self.coverage.note(Sometimes::CleanStop);
        self.model.stopped_clean();
        self.enter(Phase::Stopped);
    }

    fn failures(&self) -> u64 {
        use Sometimes::AppendFailed;
        use Sometimes::BulkFailed;
        use Sometimes::NoSpace;
        use Sometimes::ReadFailed;
        let kinds = [AppendFailed, BulkFailed, ReadFailed, NoSpace];
        let harmed = self.coverage.count(Sometimes::SegmentDamaged);
        harmed + kinds.iter().map(|kind| self.disk.coverage.count(*kind)).sum::<u64>()
    }

    /// What the disk and the process suffered.
    fn faults(&self) -> u64 {
        self.faults + self.disk.failures()
    }

    fn note_effect(&mut self, effect: &Effect) {
        let Effect::Bulk { operation, .. } = effect else { return };
        let starting = matches!(self.phase, Phase::Starting);
        match operation {
            Bulk::Read { file: File::Index(_), .. } if starting => {
                self.coverage.note(Sometimes::LoadedIndex);
            }
            Bulk::Read { file: File::Segment(_), .. } if starting => {
                self.coverage.note(Sometimes::ScannedSegment);
            }
            Bulk::Rename { from: File::Segment(_), .. } => {
                self.coverage.note(Sometimes::SegmentRecycled);
                self.coverage.note(Sometimes::SegmentRetired);
            }
            Bulk::Unlink { file: File::Segment(_) } => {
                self.coverage.note(Sometimes::SegmentRetired);
            }
            _ => {}
        }
    }
}

/// One line of what may hold many bytes.
struct Loud<'a, T>(&'a T);

impl<T: fmt::Debug> fmt::Display for Loud<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{:?}", self.0);
        f.write_str(text.get(..160).unwrap_or(&text))
    }
}

fn settings(plan: &Plan) -> Settings {
    Settings {
        log: LogId::new(1),
        adopted: Vec::new(),
        owned: Vec::new(),
        generation: 1,
        partitions: plan.partitions,
        segment_bytes: plan.segment_bytes,
        commit: CommitSettings {
            batch_bytes: plan.batch_bytes,
            in_flight_max: plan.batches_in_flight_max,
            eager_bytes: plan.eager_bytes,
        },
        checkpoint_after: plan.checkpoint_after,
        segments_ahead: plan.segments_ahead,
        unsynced_bytes_max: 4 * plan.batch_bytes as usize,
        resident_bytes_max: plan.resident_bytes_max,
        // Records of one hash are read one after the other: all that are wanted at once must fit.
        cache_bytes_max: plan.cache_bytes_max + plan.colliding_bytes(),
        garbage_percent: plan.garbage_percent,
    }
}
