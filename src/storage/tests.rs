//! The store beside what the simulator judges: numbers that run out, memory, files that are late.

use super::*;
use crate::base::id::SegmentId;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::File;
use crate::storage::record::SEQUENCE_MAX;
use crate::storage::segments::Residency;

/// It would be a panic at every write.
#[test]
fn a_log_without_numbers_refuses_writes() {
    let settings = Settings::new(LogId::new(1), 16);
    let most = u64::from(settings.segment_bytes) / record::RECORD_BYTES_MIN as u64;
    for (last, expected) in [
        (SEQUENCE_MAX, Err(Refusal::NoNumbers)),
        (SEQUENCE_MAX - most, Err(Refusal::NoNumbers)),
        (SEQUENCE_MAX - most - 1, Ok(SEQUENCE_MAX - most)),
    ] {
        let mut store = open_store(&settings, 1);
        store.commit = Commit::new(settings.commit, 1, last);
        let appended = store.append(Instant::START, a_write(b"value"), &mut Outbox::default());
        assert_eq!(appended.map(|appended| appended.sequence), expected, "after {last}");
    }
}

/// Their batches are memory that no budget counts.
#[test]
fn writes_wait_for_keydir_files_that_are_not_written() {
    let settings = Settings { segment_bytes: 1 << 16, ..Settings::new(LogId::new(1), 16) };
    let mut store = open_store(&settings, 100);
    let mut out = Outbox::default();
    let mut asked = VecDeque::new();
    while let Ok(appended) = store.append(Instant::START, a_write(&[7; 9000]), &mut out) {
        assert!(appended.sequence < 1000, "it never waits");
        store.want_sync();
        store.flush(Instant::START, &mut out);
        perform_writes(&mut store, &mut out, &mut asked);
    }
    let images = store.segments.iter().filter(|(_, segment)| segment.image.is_some());
    assert_eq!(images.count(), UNINDEXED_MAX + 1, "with the active one");
    assert!(store.lanes.prepared.len() > 50);

    while store.next_notice() != Some(Notice::Room) {
        let (ticket, _) = asked.pop_front().expect("it was asked to write a keydir file");
        let event = Event::Bulk { ticket, result: Ok(Done::Ok) };
        store.handle(Instant::START, event, &mut out);
        perform_writes(&mut store, &mut out, &mut asked);
    }
    assert!(store.append(Instant::START, a_write(&[7; 9000]), &mut out).is_ok());
}

/// Those whose batches are in memory, for which writes may wait.
#[test]
fn new_segments_have_their_keydir_files_before_old_ones() {
    let settings = Settings { segment_bytes: 1 << 16, ..Settings::new(LogId::new(1), 16) };
    let mut store = open_store(&settings, 0);
    for number in 1..=20 {
        let id = SegmentId { log: settings.log, number };
        store.segments.add(segments::Segment::new(id, 1 << 16, 1, Stage::Synced));
    }
    let new = (21..=40).map(|number| SegmentId { log: settings.log, number });
    store.lanes.prepared.extend(new);
    let (mut out, mut asked) = (Outbox::default(), VecDeque::new());
    write_segments(&mut store, &[7; 7000], &mut out, &mut asked);
    let mut named = Vec::new();
    while named.len() < 6 {
        let (ticket, operation) = asked.pop_front().expect("there are more to write");
        if let Bulk::Rename { to: File::Index(segment), .. } = operation {
            named.push(segment.number);
        }
        let event = Event::Bulk { ticket, result: Ok(Done::Ok) };
        store.handle(Instant::START, event, &mut out);
        perform_writes(&mut store, &mut out, &mut asked);
    }
    assert_eq!(named, [1, 21, 22, 23, 2, 3], "the first was begun before there were others");
}

/// An image is a little longer than its file, and must not be too long for that.
#[test]
fn a_budget_of_one_segment_is_enough_for_one() {
    let default = Settings::new(LogId::new(1), 16);
    let settings = Settings {
        segment_bytes: 1 << 16,
        commit: commit::Settings { batch_bytes: 16_384, ..default.commit },
        resident_bytes_max: 1 << 16,
        ..default
    };
    let mut store = open_store(&settings, 20);
    let (mut out, mut asked) = (Outbox::default(), VecDeque::new());
    write_segments(&mut store, &[7; 15_000], &mut out, &mut asked);
    while let Some((ticket, _)) = asked.pop_front() {
        let event = Event::Bulk { ticket, result: Ok(Done::Ok) };
        store.handle(Instant::START, event, &mut out);
        perform_writes(&mut store, &mut out, &mut asked);
    }
    let resident = store.segments.iter().filter(|(_, it)| it.residency != Residency::Cold);
    assert_eq!(resident.count(), 1);
}

/// Appends, one record a batch, until four segments were begun.
fn write_segments(
    store: &mut Store,
    value: &[u8],
    out: &mut Outbox<Effect>,
    asked: &mut VecDeque<(Ticket, Bulk)>,
) {
    let prepared = store.lanes.prepared.len();
    while store.lanes.prepared.len() > prepared - 4 {
        store.append(Instant::START, a_write(value), out).expect("there is room");
        store.want_sync();
        store.flush(Instant::START, out);
        perform_writes(store, out, asked);
    }
}

/// Ends all writes of batches, and notes what is asked of the background.
fn perform_writes(
    store: &mut Store,
    out: &mut Outbox<Effect>,
    asked: &mut VecDeque<(Ticket, Bulk)>,
) {
    let effects: Vec<Effect> = out.drain().collect();
    for effect in effects {
        match effect {
            Effect::Append { ticket, .. } => {
                let event = Event::Appended { ticket, result: Ok(()) };
                store.handle(Instant::START, event, out);
                perform_writes(store, out, asked);
            }
            Effect::Bulk { ticket, operation } => asked.push_back((ticket, operation)),
            _ => {}
        }
    }
}

/// A log in which nothing was written, with so many segments prepared.
fn open_store(settings: &Settings, prepared: u32) -> Store {
    let mut store = Store::new(settings.clone(), 7);
    store.commit = Commit::new(settings.commit, 1, 0);
    store.keydirs = vec![Keydir::default()];
    let log = settings.log;
    store.lanes.prepared.extend((1..=prepared).map(|number| SegmentId { log, number }));
    (store.opening, store.health) = (None, Health::Open);
    store
}

fn a_write(value: &[u8]) -> Write<'_> {
    Write {
        partition: PartitionId::new(0),
        hash: 1,
        tombstone: false,
        key: b"key",
        value,
        replaces: None,
    }
}
