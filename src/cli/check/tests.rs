//! Logs written by hand, then spoiled.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use super::Args;
use super::log;
use super::log::LogReport;
use super::run;
use crate::base::aligned::AlignedBuffer;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::ActorId;
use crate::base::id::LogId;
use crate::base::id::PartitionId;
use crate::base::id::SegmentId;
use crate::cli::CliError;
use crate::storage::batch::BATCH_HEADER_BYTES;
use crate::storage::batch::BatchHeader;
use crate::storage::batch::SegmentHeader;
use crate::storage::index_file::IndexBuilder;
use crate::storage::index_file::IndexEntry;
use crate::storage::index_file::IndexHeader;
use crate::storage::manifest::EpochEnd;
use crate::storage::manifest::Manifest;
use crate::storage::record;
use crate::storage::record::NewRecord;
use crate::storage::record::Order;
use crate::storage::record::RECORD_HEADER_BYTES;

const LOG: LogId = LogId::new(1);
const SEGMENT: SegmentId = SegmentId { log: LOG, number: 1 };
const EPOCH: u64 = 3;

/// Batches stand on one page each, the first on the second page.
const PAGE: usize = PAGE_BYTES;

/// A key of 3 bytes and a value of 7.
const RECORD_WITHOUT_PADDING: usize = RECORD_HEADER_BYTES + 10;
const RECORD: usize = 64;

#[test]
fn a_sound_log_is_sound_and_counted() {
    let data = data(Some(4));
    let report = report(&data);
    assert_eq!(report.damages, []);
    let LogReport { segments, batches, records, tombstones, bytes, cut_batches, .. } = report;
    assert_eq!((segments, batches, records, tombstones, cut_batches), (1, 4, 8, 4, 0));
    assert_eq!(bytes, 8 * PAGE as u64);
    assert!(verdict(&data).is_ok());
}

#[test]
fn every_flipped_byte_of_a_record_is_found_with_its_place() {
    let data = data(Some(4));
    let batch = 2 * PAGE;
    for record in [BATCH_HEADER_BYTES, BATCH_HEADER_BYTES + RECORD] {
        for byte in record..record + RECORD_WITHOUT_PADDING {
            let report = spoiled(&data, "00000001.seg", batch + byte);
            let damage = report.damages.first().unwrap_or_else(|| panic!("byte {byte}"));
            assert_eq!(damage.offset, (batch + record) as u64, "byte {byte}: {damage}");
            assert!(damage.file.ends_with("00000001.seg"), "{damage}");
            if byte - record >= RECORD_HEADER_BYTES {
                // A bad header hides what follows it in its batch; bad bytes hide nothing.
                assert_eq!(report.damages.len(), 1, "byte {byte}: {report:?}");
            }
        }
    }
}

#[test]
fn a_lost_batch_that_was_synced_is_found_and_one_at_the_torn_end_is_not_damage() {
    let crashed = data(None);
    let report = spoiled(&crashed, "00000001.seg", 2 * PAGE + 20);
    assert_eq!(report.damages.len(), 1, "{report:?}");
    assert_eq!(report.damages[0].offset, 2 * PAGE as u64);
    // The last batch calls the third synced, nobody calls the last one so.
    let report = spoiled(&crashed, "00000001.seg", 4 * PAGE + 20);
    assert_eq!(report.damages, []);
    assert_eq!(report.batches, 3);
    // A clean stop did.
    let report = spoiled(&data(Some(4)), "00000001.seg", 4 * PAGE + 20);
    let offsets: Vec<u64> = report.damages.iter().map(|damage| damage.offset).collect();
    let first = (4 * PAGE + BATCH_HEADER_BYTES) as u64;
    assert_eq!(offsets, [first, first + RECORD as u64], "its records are missed");
}

#[test]
fn garbage_behind_the_end_is_no_damage() {
    let data = data(Some(4));
    assert_eq!(spoiled(&data, "00000001.seg", 6 * PAGE).damages, []);
}

#[test]
fn what_is_behind_a_recorded_end_is_cut_off() {
    let report = report(&data(Some(2)));
    assert_eq!((report.batches, report.cut_batches, report.damages.len()), (2, 2, 0));
}

#[test]
fn the_first_page_both_copies_of_the_manifest_and_the_keydir_file_are_checked() {
    let data = data(Some(4));
    for (file, offset, place) in [
        ("00000001.seg", 30, 0),
        ("manifest", 20, 0),
        ("manifest", PAGE + 20, PAGE as u64),
        ("00000001.idx", 100, 0),
    ] {
        let report = spoiled(&data, file, offset);
        assert!(!report.damages.is_empty(), "{file} at {offset}");
        let named = |damage: &log::Damage| damage.file.ends_with(file) && damage.offset == place;
        assert!(report.damages.iter().any(named), "{file} at {offset}: {report:?}");
    }
    fs::remove_file(folder(&data).join("manifest")).expect("it is there");
    assert_eq!(report(&data).damages.len(), 1);
}

#[test]
fn a_record_that_only_the_keydir_file_remembers_is_missed() {
    let data = data(Some(4));
    fs::write(folder(&data).join("00000001.idx"), index(&[99])).expect("written");
    let report = report(&data);
    assert_eq!(report.damages.len(), 1, "{report:?}");
    assert!(report.damages[0].what.contains("not there"), "{report:?}");
}

#[test]
fn damage_fails_and_a_node_at_work_is_not_disturbed() {
    let data = data(Some(4));
    spoil(&folder(&data).join("00000001.seg"), PAGE + BATCH_HEADER_BYTES + 42);
    let Err(CliError::Failed(why)) = verdict(&data) else { panic!("it was damaged") };
    assert!(why.contains("1 damaged") && why.contains("00000001.seg"), "{why}");

    let lock = fs::File::create(data.path().join("LOCK")).expect("made");
    lock.lock().expect("nobody has it");
    let Err(CliError::Failed(why)) = verdict(&data) else { panic!("a node uses it") };
    assert!(why.contains("a node is using"), "{why}");
    drop(lock);
    assert!(matches!(verdict(&data), Err(CliError::Failed(why)) if why.contains("1 damaged")));
}

fn verdict(data: &TempDir) -> Result<(), CliError> {
    run(&Args { data: data.path().to_owned() }, &mut Vec::new())
}

fn report(data: &TempDir) -> LogReport {
    log::check(LOG, &folder(data)).expect("it can be read")
}

/// What is found while one byte is wrong.
fn spoiled(data: &TempDir, file: &str, offset: usize) -> LogReport {
    let path = folder(data).join(file);
    spoil(&path, offset);
    let report = report(data);
    spoil(&path, offset);
    report
}

fn spoil(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).expect("it is there");
    bytes[offset] ^= 1;
    fs::write(path, bytes).expect("written");
}

fn folder(data: &TempDir) -> std::path::PathBuf {
    data.path().join("logs/00000001")
}

/// A directory with one log of four batches, two records each, whose epoch ended at this batch.
fn data(end: Option<u64>) -> TempDir {
    let data = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder(&data)).expect("made");
    let header = SegmentHeader { segment: SEGMENT, epoch: EPOCH, compacted: None };
    let mut segment = header.to_page();
    for number in 1..=4 {
        segment.extend_from_slice(&batch(number));
    }
    segment.resize(8 * PAGE, 0);
    fs::write(folder(&data).join("00000001.seg"), segment).expect("written");
    let end_at = |last_batch| EpochEnd {
        log: LOG,
        epoch: EPOCH,
        last_batch,
        last_segment: 1,
        last_order: Order(2 * last_batch + 1),
    };
    let ends = end.map(end_at);
    let manifest = Manifest {
        log: LOG,
        generation: 0,
        partitions: 16,
        epoch: EPOCH,
        actor: ActorId::new(5),
        damaged_upto: Order(0),
        ends: ends.into_iter().collect(),
    };
    fs::write(folder(&data).join("manifest"), manifest.to_file()).expect("written");
    if end == Some(4) {
        fs::write(folder(&data).join("00000001.idx"), index(&[])).expect("written");
    }
    data
}

/// Two records.
fn batch(number: u64) -> Vec<u8> {
    let offset = (number as usize * PAGE) as u32;
    let mut buffer = AlignedBuffer::with_capacity(PAGE);
    buffer.extend(&[0; BATCH_HEADER_BYTES]);
    for record in 0..2 {
        let new = NewRecord {
            order: Order(2 * number + record),
            hash: number,
            partition: PartitionId::new(3),
            tombstone: record == 1,
            collides: false,
            key: b"key",
            value: b"7 bytes",
        };
        let place = offset + buffer.len() as u32;
        record::write(&mut buffer, SEGMENT, place, &new);
    }
    let header = BatchHeader {
        epoch: EPOCH,
        number,
        synced_upto: number - 1,
        first_order: Order(2 * number),
        length: buffer.len() as u32,
        records: 2,
        seal: number == 4,
    };
    buffer.pad_to(PAGE);
    header.write(&mut buffer, SEGMENT, offset);
    buffer.to_vec()
}

/// The keydir file of the segment, with these orders besides at the end.
fn index(more: &[u64]) -> Vec<u8> {
    let mut builder = IndexBuilder::default();
    let entry = |order: u64, offset: usize| IndexEntry {
        order: Order(order),
        hash: order / 2,
        offset: offset as u32,
        length: 64,
        partition: PartitionId::new(3),
        tombstone: order % 2 == 1,
        collides: false,
    };
    for number in 1..=4 {
        for record in 0..2 {
            let offset = number * PAGE + BATCH_HEADER_BYTES + record * 64;
            builder.push(entry((2 * number + record) as u64, offset));
        }
    }
    for order in more {
        builder.push(entry(*order, 7 * PAGE));
    }
    let pieces = builder.finish(&IndexHeader {
        segment: SEGMENT,
        epoch: EPOCH,
        last_batch: 4,
        cleaned_at: Order(0),
        lowest_order: Order(2),
        segment_bytes: 8 * PAGE as u32,
    });
    pieces.concat()
}
