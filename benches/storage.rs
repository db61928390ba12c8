//! What the log and its index cost, on a disk of memory: `cargo bench --bench storage`.
//!
//! A record has a key of 16 bytes and a value of 100, as in the other benches.

#[path = "ram/files.rs"]
mod files;

use std::hint::black_box;

use criterion::BatchSize;
use criterion::Criterion;
use criterion::Throughput;
use files::Files;
use stator::base::id::LogId;
use stator::base::id::PartitionId;
use stator::base::outbox::Outbox;
use stator::base::rng::Rng;
use stator::base::time::Instant;
use stator::storage::Notice;
use stator::storage::Settings;
use stator::storage::Store;
use stator::storage::Write;
use stator::storage::effect::Effect;
use stator::storage::effect::File;
use stator::storage::key_hash;
use stator::storage::keydir::Keydir;
use stator::storage::location::Location;
use stator::storage::location::Marks;
use stator::storage::location::SegmentSlot;
use stator::storage::reading::Fetched;
use stator::storage::record::Order;

const PARTITIONS: u16 = 1024;
const VALUE: [u8; 100] = [b'v'; 100];
const RECORD_BYTES: usize = 160;

/// Records of one commit: what comes to a shard while one write is on its way.
const BATCH: u64 = 64;

/// Small enough that a bench's log has several.
const SEGMENT_BYTES: u32 = 4 * 1024 * 1024;

fn main() {
    // `cargo test --benches` passes no `--bench`.
    let testing = !std::env::args().any(|argument| argument == "--bench");
    let scale = |full| if testing { full / 100 } else { full };
    let mut criterion = Criterion::default().configure_from_args();
    append(&mut criterion);
    get(&mut criterion, scale(100_000));
    keydir(&mut criterion, scale(1_000_000));
    recovery(&mut criterion, scale(100_000));
    criterion.final_summary();
}

/// Over few keys, so that what compaction copies is next to nothing.
fn append(criterion: &mut Criterion) {
    let keys = 1_000;
    let mut log = Log::start(settings(), Files::default());
    log.fill(keys);
    let mut rng = Rng::from_seed(1);
    let mut group = criterion.benchmark_group("storage/append");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function(format!("batch of {BATCH}, and its commit"), |bencher| {
        bencher.iter(|| {
            (0..BATCH).for_each(|_| log.append(rng.below(keys)));
            log.commit();
        });
    });
    group.finish();
}

/// A get from each of the places where a record may be in memory.
fn get(criterion: &mut Criterion, keys: u64) {
    let mut written = Log::start(settings(), Files::default());
    written.fill(keys);
    written.stop();
    let files = written.files;

    let mut buffered = Log::start(settings(), Files::default());
    let fitting = keys.min(u64::from(SEGMENT_BYTES) / RECORD_BYTES as u64 / 2);
    buffered.fill(fitting);
    assert!(buffered.store.buffer_bytes() >= fitting as usize * RECORD_BYTES);

    let mapped = Log::start(settings(), files.clone());
    assert_eq!(mapped.store.buffer_bytes(), 0);

    let cold = Settings { resident_bytes_max: 0, cache_bytes_max: 1 << 30, ..settings() };
    let mut cached = Log::start(cold, files);
    (0..keys).for_each(|key| cached.read_once(key));
    assert_eq!(cached.store.counters().cold_reads, keys);

    let mut group = criterion.benchmark_group("storage/get");
    for (place, log, keys) in
        [("write buffer", &buffered, fitting), ("map", &mapped, keys), ("cache", &cached, keys)]
    {
        let mut rng = Rng::from_seed(2);
        group.bench_function(place, |bencher| {
            bencher.iter(|| assert_eq!(log.value_length(rng.below(keys)), VALUE.len()));
        });
    }
    group.finish();
}

/// The index alone: a table for each partition, as in a shard.
fn keydir(criterion: &mut Criterion, keys: u64) {
    let mut rng = Rng::from_seed(3);
    let hashes: Vec<u64> = (0..keys).map(|_| rng.next_u64()).collect();
    let filled = index(&hashes);
    let bytes: usize = filled.iter().map(Keydir::memory_bytes).sum();
    println!("keydir of {keys} keys: {:.1} bytes a key", bytes as f64 / keys as f64);

    let mut group = criterion.benchmark_group("storage/keydir");
    group.bench_function("lookup", |bencher| {
        bencher.iter(|| {
            let hash = hashes[rng.below(keys) as usize];
            assert!(!table(&filled, hash).find(hash).is_empty());
        });
    });
    group.bench_function("lookup of what is not there", |bencher| {
        bencher.iter(|| {
            let hash = rng.next_u64();
            black_box(table(&filled, hash).find(hash));
        });
    });
    group.sample_size(10).throughput(Throughput::Elements(keys));
    group.bench_function("insert all", |bencher| bencher.iter(|| index(&hashes)));
    group.finish();
}

fn index(hashes: &[u64]) -> Vec<Keydir> {
    let mut tables: Vec<Keydir> = (0..PARTITIONS).map(|_| Keydir::default()).collect();
    for (number, hash) in hashes.iter().enumerate() {
        let offset = (number * RECORD_BYTES) as u32 % SEGMENT_BYTES;
        let at = Location::new(SegmentSlot(0), offset, RECORD_BYTES, Marks::default());
        tables[place(*hash)].insert(*hash, at, Order(number as u64));
    }
    tables
}

fn table(tables: &[Keydir], hash: u64) -> &Keydir {
    &tables[place(hash)]
}

/// By other bits than those that order a table.
fn place(hash: u64) -> usize {
    hash as usize % usize::from(PARTITIONS)
}

/// A start after a clean stop, from keydir files and, without them, from the records.
fn recovery(criterion: &mut Criterion, keys: u64) {
    let mut log = Log::start(settings(), Files::default());
    log.fill(keys);
    log.stop();
    let indexed = log.files;
    let mut scanned = indexed.clone();
    scanned.0.retain(|file, _| !matches!(file, File::Index(_)));

    let mut group = criterion.benchmark_group("storage/recovery");
    group.sample_size(10).throughput(Throughput::Elements(keys));
    for (how, files) in [("index files", &indexed), ("records", &scanned)] {
        let log = Log::start(settings(), files.clone());
        let start = log.store.counters().start;
        assert_eq!(start.indexed > 0, how == "index files", "{start:?}");
        (0..keys).for_each(|key| assert_eq!(log.value_length(key), VALUE.len()));
        group.bench_function(format!("{keys} records from {how}"), |bencher| {
            bencher.iter_batched(
                || files.clone(),
                |files| Log::start(settings(), files),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A store that has started, and its disk.
struct Log {
    store: Store,
    files: Files,
    out: Outbox<Effect>,
    now: Instant,
    notices: Vec<Notice>,
}

impl Log {
    fn start(settings: Settings, files: Files) -> Self {
        let store = Store::new(settings, 7);
        let (out, now, notices) = (Outbox::default(), Instant::START, Vec::new());
        let mut log = Self { store, files, out, now, notices };
        log.store.start(&mut log.out);
        log.perform();
        assert!(log.notices.contains(&Notice::Started), "{:?}", log.notices);
        log
    }

    fn stop(&mut self) {
        self.store.stop(self.now, &mut self.out);
        self.perform();
        assert!(self.notices.contains(&Notice::Stopped), "{:?}", self.notices);
    }

    fn fill(&mut self, keys: u64) {
        for key in 0..keys {
            self.append(key);
            if key % BATCH == BATCH - 1 {
                self.commit();
            }
        }
        self.commit();
    }

    fn append(&mut self, key: u64) {
        let (name, hash, partition) = names(key);
        let replaces = self.store.find(partition, hash).first().copied();
        let write =
            Write { partition, hash, tombstone: false, key: &name, value: &VALUE, replaces };
        self.store.append(self.now, write, &mut self.out).expect("there is room");
    }

    /// One turn, or two where a segment ended: a small batch waits for the one before.
    fn commit(&mut self) {
        self.store.want_sync();
        for _ in 0..2 {
            self.store.flush(self.now, &mut self.out);
            self.perform();
            if self.store.unsynced_bytes() == 0 {
                return;
            }
        }
        panic!("{} bytes are not synced", self.store.unsynced_bytes());
    }

    /// The length of a key's value, which must be in memory.
    fn value_length(&self, key: u64) -> usize {
        let (name, hash, partition) = names(key);
        let at = self.store.find(partition, hash)[0];
        match self.store.fetch(at, &self.files) {
            Fetched::Here(record) if record.key == name => record.value.len(),
            other => panic!("key {key}: {other:?}"),
        }
    }

    fn read_once(&mut self, key: u64) {
        let (_, hash, partition) = names(key);
        let at = self.store.find(partition, hash)[0];
        self.store.read(at, &mut self.out);
        self.perform();
    }

    /// Until nothing is asked for any more.
    fn perform(&mut self) {
        self.notices.clear();
        while !self.out.is_empty() {
            let effects: Vec<Effect> = self.out.drain().collect();
            self.out.clear();
            for effect in effects {
                if let Some(answer) = self.files.perform(effect) {
                    self.store.handle(self.now, answer.event(), &mut self.out);
                }
            }
            while let Some(notice) = self.store.next_notice() {
                self.notices.push(notice);
            }
        }
    }
}

fn names(key: u64) -> ([u8; 16], u64, PartitionId) {
    let mut name = *b"key:000000000000";
    name[8..].copy_from_slice(&key.to_le_bytes());
    let hash = key_hash(1, &name);
    (name, hash, PartitionId::new(place(hash) as u16))
}

fn settings() -> Settings {
    Settings { segment_bytes: SEGMENT_BYTES, ..Settings::new(LogId::new(1), PARTITIONS) }
}
