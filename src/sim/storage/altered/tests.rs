//! Logs altered by hand, and what is told of them then.

use super::*;
use crate::base::aligned::PAGE_BYTES;
use crate::base::id::SegmentId;
use crate::storage::batch::BATCH_HEADER_BYTES;
use crate::storage::batch::BatchHeader;

#[test]
fn a_log_that_nobody_altered_is_as_it_was() {
    for shape in 0..32 {
        let report = run_altered(&written(shape));
        assert_eq!(report, Altered { written: 60, ..Altered::default() }, "shape {shape}");
    }
}

/// If no alteration were ever seen, the laws above would be empty.
#[test]
fn whatever_is_altered_is_told_or_does_not_matter() {
    let (mut rng, mut all) = (Rng::from_seed(1), [0; 4]);
    for round in 0..2000 {
        let mut input = written(round as u8);
        for _ in 0..rng.between(1, 4) {
            let honest = Alteration::ALL.len() as u64 - 1;
            input.push(rng.below(honest) as u8);
            input.extend((0..6).map(|_| rng.below(256) as u8));
        }
        let report = run_altered(&input);
        assert!(!report.forged);
        all[0] += usize::from(report.refused);
        all[1] += usize::from(report.damaged > 0);
        all[2] += usize::from(report.lost);
        all[3] += usize::from(!report.refused && report.damaged == 0 && !report.lost);
    }
    assert!(all.iter().all(|count| *count > 2), "{all:?}");
}

#[test]
fn whatever_is_forged_the_store_neither_panics_nor_hangs() {
    let mut rng = Rng::from_seed(2);
    for round in 0..300 {
        let mut input = written(round as u8);
        let forge = Alteration::ALL.len() as u8 - 1;
        input.extend([forge, rng.below(256) as u8, 0]);
        input.extend((0..4).map(|_| rng.below(256) as u8));
        input.extend((0..255).map(|_| rng.below(256) as u8));
        assert!(run_altered(&input).forged);
    }
}

/// Its three segments are empty files, and both index files are bad.
#[test]
fn a_log_of_which_nothing_is_left_is_not_taken_for_a_new_one() {
    let mut input = written(1);
    let (flip, cut) = (Alteration::FlipBit as u8, Alteration::Cut as u8);
    let alter = |kind, file| [kind, file, 0, 0, 0, 0, 0];
    (0..3).for_each(|file| input.extend(alter(cut, file)));
    (3..5).for_each(|file| input.extend(alter(flip, file)));
    let report = run_altered(&input);
    assert_eq!((report.files, report.refused), (5, false));
    assert!(report.lost, "sixty records were written, and none was missed");
}

/// A cable is loose at one start, and not at the next: what was not written anew is back, also
/// where the log went on and compacted in between. Keys that share a hash are left out: the one
/// that is written while the others are out of sight does not say that there are others.
#[test]
fn a_segment_that_cannot_be_read_at_one_start_is_read_at_the_next() {
    let mut back = 0;
    for shape in (0..32).filter(|bits| bits & 2 == 0) {
        let segments = Vec::from_iter(segments_of(&ended_world(shape).disk));
        let each = segments.iter().map(|segment| vec![*segment]);
        for unread in each.chain([segments.clone()]) {
            back += unread_once(shape, &unread, 0);
            back += unread_once(shape, &unread, PAGE_BYTES as u64);
            back += unread_once(shape, &unread, 2 * PAGE_BYTES as u64);
        }
    }
    assert!(back > 100, "{back} keys had been out of sight");
}

/// How many keys were not what they are, while these segments could not be read.
fn unread_once(shape: u8, segments: &[SegmentId], from: u64) -> usize {
    let mut world = ended_world(shape);
    let files = |id: &SegmentId| [(File::Segment(*id), from), (File::Index(*id), 0)];
    world.disk.unreadable = segments.iter().flat_map(files).collect();
    world.model.harmed();
    world.start().expect("it starts with what it can read");
    world.disk.unreadable.clear();
    let out_of_sight = world.ask_all();
    let _ = world.model.judge_recovery(&out_of_sight);
    for round in 0..24 {
        world.write(round % 4, 1500, false);
        world.sync();
    }
    world.end();
    world.start().expect("it starts");
    let expected = ask_undisturbed(shape);
    let missed = |key: &KeyIndex| !is_same(out_of_sight[*key].answer, expected[*key]);
    let missed = (4..KEYS).filter(missed).count();
    for (key, expected) in expected.into_iter().enumerate().skip(4) {
        let (testimony, _) = world.ask(key);
        let at = format!("shape {shape}, {segments:?} from {from} on, key {key}");
        assert!(is_same(testimony.answer, expected), "{at}: {testimony:?}");
    }
    missed
}

fn is_same(answer: Answer, expected: Answer) -> bool {
    let is_gone = |answer| matches!(answer, Answer::Absent | Answer::Deleted(_));
    answer == expected || is_gone(answer) && is_gone(expected)
}

fn ask_undisturbed(shape: u8) -> Vec<Answer> {
    let mut world = ended_world(shape);
    world.start().expect("nothing was altered");
    world.ask_all().iter().map(|testimony| testimony.answer).collect()
}

/// Sixty records were written, and the process ended.
fn ended_world(shape: u8) -> World {
    let bytes = written(shape);
    let mut input = Input(&bytes);
    let mut world = World::new(Shape::take(&mut input));
    world.start().expect("an empty directory");
    world.write_what_is_drawn(&mut input);
    world.end();
    world
}

fn segments_of(disk: &Disk) -> BTreeSet<SegmentId> {
    let segment = |(file, _)| match file {
        File::Segment(segment) => Some(segment),
        _ => None,
    };
    disk.files().filter_map(segment).collect()
}

fn keydir_files_of(disk: &Disk) -> BTreeSet<SegmentId> {
    let segment = |(file, _)| match file {
        File::Index(segment) => Some(segment),
        _ => None,
    };
    disk.files().filter_map(segment).collect()
}

/// Until what it has is moved, which kills may put off for ever.
#[test]
fn an_adopted_log_is_read_whole_once() {
    for shape in [0, 16] {
        let mut world = ended_world(shape);
        world.disk.remove(|file| matches!(file, File::Index(_)));
        let (adopted, log) = (vec![world.settings.log], LogId::new(2));
        world.settings = Settings { log, adopted, generation: 1, ..world.settings };
        let mut scanned = Vec::new();
        for _ in 0..2 {
            world.start().expect("nothing was altered");
            scanned.push(world.store.counters().start.scanned);
            world.finish_background();
            world.disk.crash();
        }
        assert!(scanned[0] > 4, "{scanned:?}");
        assert!(scanned[1] <= 4, "{scanned:?}: only what was prepared, without a record");
        world.start().expect("nothing was altered");
        for (key, expected) in ask_undisturbed(shape).into_iter().enumerate() {
            assert!(is_same(world.ask(key).0.answer, expected), "key {key}");
        }
    }
}

/// Of the segment before it nothing is left, so it was synced: whoever harms it right after that
/// must not make it look torn.
#[test]
fn the_batch_behind_a_segment_that_compaction_let_go_is_never_taken_for_torn() {
    let mut harmed = 0;
    for shape in [8, 12, 24, 28] {
        let mut world = World::new(Shape::take(&mut Input(&[shape])));
        world.start().expect("an empty directory");
        for round in 0..40 {
            world.write(0, 300 * (1 + round % 5), false);
            world.sync();
            world.finish_background();
            for (segment, place) in batches_behind_a_gap(&world.disk) {
                let mut other = World::new(world.shape);
                other.disk = world.disk.clone();
                other.disk.crash();
                other.disk.remove(|file| file == File::Index(segment));
                other.disk.alter(File::Segment(segment), |bytes| bytes[place] ^= 1);
                other.start().expect("the manifest is good");
                let told = other.store.damaged_upto().is_some();
                assert!(told, "shape {shape}, round {round}: {segment} at {place}");
                harmed += 1;
            }
        }
    }
    assert!(harmed > 20, "{harmed} places");
}

/// A segment's header went bad behind its keydir file, which alone still tells the epoch. Then
/// compaction let the segment go and the process was killed in the middle of that: without the file
/// the next start bounded what the segment may have lost by the whole log. (Node seed
/// 1795438351062057865.)
#[test]
fn a_segment_that_goes_has_its_keydir_file_to_the_last() {
    let mut going = 0;
    for shape in [8, 24] {
        let mut world = World::new(Shape::take(&mut Input(&[shape])));
        world.start().expect("an empty directory");
        let mut indexed = BTreeSet::new();
        for round in 0..60 {
            world.write(round * 5 % (KEYS - 1), 1500, false);
            for _ in 0..40 {
                world.store.want_sync();
                world.store.flush(world.now, &mut world.out);
                world.step();
                let (segments, files) = (segments_of(&world.disk), keydir_files_of(&world.disk));
                indexed.extend(files.iter().copied());
                going += files.difference(&segments).count();
                let answers = [false, true].map(|bad| {
                    let mut other = World::new(world.shape);
                    (other.disk, other.model) = (world.disk.clone(), world.model.clone());
                    other.disk.stop();
                    for segment in indexed.intersection(&segments).filter(|_| bad) {
                        other.disk.alter(File::Segment(*segment), |bytes| bytes[..8].fill(0));
                    }
                    other.start().expect("the manifest is good");
                    other.ask_all().iter().map(|it| (it.answer, it.suspect)).collect::<Vec<_>>()
                });
                assert_eq!(answers[0], answers[1], "shape {shape}, round {round}");
            }
        }
    }
    assert!(going > 4, "{going} times a keydir file was there without its segment");
}

/// Buffers for batches to come, and what a compaction worked in, are for a log that is written to.
#[test]
fn a_log_that_rests_gives_its_memory_back() {
    let mut world = World::new(Shape::take(&mut Input(&[24])));
    world.settings.resident_bytes_max = 0;
    world.start().expect("an empty directory");
    let mut most = 0;
    for round in 0..400 {
        world.write(round % 3, 1500, false);
        most = most.max(world.store.buffer_bytes());
    }
    world.sync();
    world.finish_background();
    world.step();
    world.finish_background();
    assert!(most > 0, "nothing was held while it was written to");
    assert_eq!(world.store.buffer_bytes(), 0);
}

/// What a log needs for the same keys written again and again it has after a while, in no more room
/// than garbage may take; and it lets go of it when less is alive, or when the disk is full.
#[test]
fn old_segments_are_used_again_and_bounded_by_what_is_alive() {
    let mut world = World::new(Shape::take(&mut Input(&[24])));
    world.settings.segments_ahead = 1;
    world.settings.garbage_percent = 80;
    world.start().expect("an empty directory");
    let write_all = |world: &mut World| {
        for key in 0..KEYS {
            world.write(key, 3500, false);
            world.sync();
        }
        world.finish_background();
    };
    let fresh = |world: &World| {
        let counters = world.store.counters();
        let last = segments_of(&world.disk).last().expect("one is active").number;
        u64::from(last) - counters.compactions - counters.recycled
    };
    (0..20).for_each(|_| write_all(&mut world));
    let before = (fresh(&world), world.store.counters().compactions);
    (0..40).for_each(|_| write_all(&mut world));
    let after = (fresh(&world), world.store.counters().compactions);
    assert!(after.1 > before.1 + 10, "{before:?} {after:?}");
    assert_eq!(after.0, before.0, "segments that were written anew");
    let live = KEYS as u64 * 4096;
    let most = live * 100 / 20 + 6 * u64::from(world.settings.segment_bytes);
    assert!(world.disk.used_bytes() < most, "{} of {most}", world.disk.used_bytes());

    for round in 0..8 * KEYS {
        world.write(round % KEYS, 100, false);
    }
    world.sync();
    for _ in 0..10 {
        world.step();
        world.finish_background();
    }
    let used = world.disk.used_bytes();
    assert!(used < most / 3, "{used} bytes for next to nothing");
}

/// The second segment's first batch stays alone: the checkpoint calls it synced, and no other
/// event need come for the first segment to go.
#[test]
fn what_waits_to_be_vouched_for_is_compacted_after_the_checkpoint() {
    let mut world = World::new(Shape::take(&mut Input(&[24])));
    world.start().expect("an empty directory");
    let first = File::Segment(SegmentId { log: LogId::new(1), number: 1 });
    let second = File::Segment(SegmentId { log: LogId::new(1), number: 2 });
    let holds = |world: &World, file| world.disk.durably_holds(b"STB1", |it| it == file);
    while !holds(&world, second) {
        world.write(0, 1500, false);
        world.sync();
    }
    world.finish_background();
    assert!(holds(&world, first), "nothing calls the batch behind it synced");
    world.step();
    world.finish_background();
    assert!(!holds(&world, first), "all of it is garbage");
}

/// The first batches of segments, by a byte of their headers and one of their first records',
/// before which at least one is missing.
fn batches_behind_a_gap(disk: &Disk) -> Vec<(SegmentId, usize)> {
    let mut disk = disk.clone();
    disk.crash();
    let files: Vec<File> = disk.files().map(|(file, _)| file).collect();
    let mut batches = Vec::new();
    for file in files {
        let File::Segment(segment) = file else { continue };
        disk.alter(file, |bytes| {
            for at in (PAGE_BYTES..bytes.len()).step_by(PAGE_BYTES) {
                let header = BatchHeader::read(&bytes[at..], segment, at as u32);
                batches.extend(header.map(|header| (segment, at, header)));
            }
        });
    }
    let is_there = |number| batches.iter().any(|(_, _, it)| it.epoch > 0 && it.number == number);
    let behind = batches.iter().filter(|(_, at, header)| {
        let is_first = header.epoch > 0 && *at == PAGE_BYTES && header.records > 0;
        is_first && header.number > 1 && !is_there(header.number - 1)
    });
    behind
        .flat_map(|(segment, at, _)| [8, BATCH_HEADER_BYTES + 8].map(|byte| (*segment, at + byte)))
        .collect()
}

/// The bytes that make a log of sixty records.
fn written(shape: u8) -> Vec<u8> {
    vec![shape, 60, shape, 0]
}
