//! What goes on in the background fails, and holds up nothing else.

use std::cell::Cell;
use std::rc::Rc;

use stator::base::aligned::PAGE_BYTES;
use stator::base::id::SegmentId;
use stator::base::time::Duration;
use stator::protocol::shard::Event;
use stator::storage::effect::Bulk;
use stator::storage::effect::Effect;
use stator::storage::effect::File;

use crate::world::READER;
use crate::world::SYNC;
use crate::world::WRITER;
use crate::world::WRITES;
use crate::world::World;
use crate::world::bulk;
use crate::world::get;
use crate::world::key;
use crate::world::set;
use crate::world::value;

/// A failed compaction waits a while before the next; writes need segments meanwhile.
#[test]
fn a_compaction_that_failed_does_not_hold_up_preparing() {
    let mut world = World::new(SYNC, |storage, _| storage.segments_ahead = 1);
    world.on_disk = Box::new(|_, effect| victim_read(effect).is_some());
    let mut written = 0;
    while world.shard.store().counters().compactions_abandoned == 0 {
        world.say(WRITER, &set(&key(written % 8), &value(written)));
        world.pass(Duration::from_millis(1));
        written += 1;
        assert!(written < 10 * WRITES, "no compaction was tried");
    }
    world.take(WRITER);
    let pipeline: Vec<u8> =
        (0..WRITES).flat_map(|number| set(&key(number % 8), &value(number))).collect();
    world.say(WRITER, &pipeline);
    world.pass(Duration::from_millis(60));
    assert_eq!(world.take(WRITER), "+OK\r\n".repeat(WRITES), "several segments of writes");
    assert_eq!(world.shard.store().counters().compactions_abandoned, 1, "it waits still");
}

/// A segment that is worth compacting cannot be read: it is left alone, and the others go.
#[test]
fn a_victim_that_cannot_be_read_does_not_stop_compaction() {
    let mut world = World::new(SYNC, |_, _| {});
    let chosen = Rc::new(Cell::new(None));
    let victim = Rc::clone(&chosen);
    world.on_disk = Box::new(move |_, effect| {
        let read = victim_read(effect);
        victim.set(victim.get().or(read));
        read.is_some() && read == victim.get()
    });
    overwrite(&mut world, 4 * WRITES);
    others_went(&world, chosen.get().expect("one was chosen"), 0);
}

/// The same if it is not what was written: its records are garbage, but who knows what else was.
#[test]
fn a_victim_that_was_altered_does_not_stop_compaction() {
    let mut world = World::new(SYNC, |_, _| {});
    overwrite(&mut world, 100);
    let segments = world.disk.files().filter_map(|(file, _)| match file {
        File::Segment(segment) => Some(segment),
        _ => None,
    });
    let first = segments.min().expect("there are two by now");
    world.disk.alter(File::Segment(first), |bytes| bytes[PAGE_BYTES..].fill(0x5a));
    let before = world.shard.store().counters().compactions;
    overwrite(&mut world, 4 * WRITES);
    others_went(&world, first, before);
}

/// Only a batch that is on the disk tells a start how far the log was synced. The batch of which it
/// tells must be found: without it, its segment let go or damaged would look the same.
#[test]
fn the_segment_of_the_last_batch_that_is_vouched_for_stays() {
    let mut world = World::new(SYNC, |storage, _| {
        (storage.checkpoint_after, storage.garbage_percent) = (Duration::from_secs(10), 1);
    });
    let written = Rc::new(Cell::new(None));
    let last = Rc::clone(&written);
    world.on_disk = Box::new(move |_, effect| {
        if let Effect::Append { segment, .. } = effect {
            last.set(Some(*segment));
        }
        false
    });
    let write = |world: &mut World| {
        assert_eq!(world.asks(WRITER, &set("key", &value(0))), "+OK\r\n");
        written.get().expect("a write is appended")
    };
    let first = write(&mut world);
    while write(&mut world) == first {}
    world.settle();
    let stays = |world: &World| world.disk.files().any(|(file, _)| file == File::Segment(first));
    assert!(stays(&world), "all of it is garbage, but nothing speaks for what came after it");
    world.pass(Duration::from_secs(10));
    assert!(!stays(&world), "a checkpoint does, and nothing holds it any more");
}

/// What was filled by another layout's shards and never got its keydir files is in nobody's way when
/// the node stops: the next start can do without them.
#[test]
fn a_stop_does_not_wait_for_the_keydir_files_of_adopted_logs() {
    let mut world = World::new(SYNC, |_, _| {});
    for number in 0..WRITES {
        assert_eq!(world.asks(WRITER, &set(&key(number), &value(number))), "+OK\r\n");
    }
    let adopted = world.adopt(|disk| disk.remove(|file| matches!(file, File::Index(_))));
    let count = |world: &World, is_kind: fn(File) -> bool| {
        world.disk.files().filter(|(file, _)| file.log() == adopted && is_kind(*file)).count()
    };
    let segments = count(&world, |file| matches!(file, File::Segment(_)));
    assert!(segments > 5, "{segments} segments");
    world.handle(Event::Stop);
    world.settle();
    assert!(world.stopped);
    let keydirs = count(&world, |file| matches!(file, File::Index(_)));
    assert!(keydirs <= 1, "one was under way, and {keydirs} of {segments} were written");
}

/// So many writes of few keys, of which the last are there.
fn overwrite(world: &mut World, writes: usize) {
    for number in 0..writes {
        world.say(WRITER, &set(&key(number % 8), &value(number)));
        world.pass(Duration::from_millis(2));
    }
    assert_eq!(world.take(WRITER), "+OK\r\n".repeat(writes));
    for number in writes - 8..writes {
        assert_eq!(world.asks(READER, &get(&key(number % 8))), bulk(&value(number)));
    }
    world.settle();
}

fn others_went(world: &World, victim: SegmentId, before: u64) {
    let counters = world.shard.store().counters();
    assert!(counters.compactions_abandoned > 0, "{counters:?}");
    assert!(counters.compactions > before + 3, "{counters:?}");
    assert!(world.disk.files().any(|(file, _)| file == File::Segment(victim)), "it stays");
}

/// The segment that a compaction reads.
fn victim_read(effect: &Effect) -> Option<SegmentId> {
    match effect {
        Effect::Bulk { operation: Bulk::Read { file: File::Segment(segment), .. }, .. } => {
            Some(*segment)
        }
        _ => None,
    }
}

/// What a start that was killed had prepared goes, and its numbers come again: else many such starts
/// would use up the orders, of which a segment's number says how many may be lost.
#[test]
fn starts_that_write_nothing_use_up_no_numbers_of_segments() {
    let mut world = World::new(SYNC, |_, _| {});
    let highest = Rc::new(Cell::new(0));
    let seen = Rc::clone(&highest);
    world.on_disk = Box::new(move |_, effect| {
        if let Effect::Bulk { operation: Bulk::Rename { to: File::Segment(to), .. }, .. } = effect {
            seen.set(seen.get().max(to.number));
        }
        false
    });
    world.crash(|_| {});
    let after_one = highest.get();
    assert!(after_one > 0, "it prepares segments");
    for _ in 0..20 {
        world.crash(|_| {});
    }
    assert_eq!(highest.get(), after_one);
}
