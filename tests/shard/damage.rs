//! What cannot be read, or is not known to be the newest: an error, never another answer.

use std::cell::Cell;
use std::rc::Rc;

use stator::base::aligned::PAGE_BYTES;
use stator::base::id::SegmentId;
use stator::base::time::Duration;
use stator::sim::disk::Disk;
use stator::storage::effect::Effect;
use stator::storage::effect::File;

use crate::world::READER;
use crate::world::WRITER;
use crate::world::WRITES;
use crate::world::World;
use crate::world::bulk;
use crate::world::get;
use crate::world::key;
use crate::world::set;
use crate::world::value;

const DAMAGED: &str = "-ERR the record of this key is damaged";

/// A walk must not wait again and again for what cannot be read.
#[test]
fn a_walk_goes_on_over_a_record_that_cannot_be_read() {
    let mut world = World::cold(WRITES);
    let bad = Rc::new(Cell::new(None));
    let seen = Rc::clone(&bad);
    world.on_disk = Box::new(move |_, effect| {
        if let Effect::Read { segment, offset, .. } = effect {
            seen.set(Some((*segment, *offset)));
        }
        false
    });
    assert_eq!(world.asks(READER, &get(&key(17))), bulk(&value(17)));
    let bad = bad.get().expect("it was cold");
    world.on_disk = Box::new(
        move |_, effect| matches!(effect, Effect::Read { segment, offset, .. } if (*segment, *offset) == bad),
    );
    world.say(READER, b"SCAN 0 COUNT 1000\r\n");
    world.pass(Duration::from_millis(250));
    let heard = world.take(READER);
    let mut words = heard.lines().filter(|line| !line.starts_with(['*', '$']));
    assert_eq!(words.next(), Some("0"), "one step is enough for all");
    let mut met: Vec<&str> = words.collect();
    met.sort_unstable();
    let mut all: Vec<String> = (0..WRITES).filter(|number| *number != 17).map(key).collect();
    all.sort();
    assert_eq!(met, all);
}

/// Records were lost, and nobody knows of which keys: what is older may not be its key's newest,
/// and a key without a record may have had one. A write settles it.
#[test]
fn an_older_record_is_in_doubt_where_newer_ones_were_lost() {
    let mut world = World::cold(WRITES);
    world.crash(lose_a_segment);
    assert!(world.shard.store().damaged_upto().is_some(), "the loss was not noticed");
    let mut told = |number: usize| world.asks(READER, &get(&key(number)));
    let heard: Vec<String> = (0..WRITES).map(&mut told).collect();
    let in_doubt = heard.iter().take_while(|heard| heard.starts_with(DAMAGED)).count();
    assert!(in_doubt >= WRITES / 2, "{in_doubt} are in doubt or lost");
    for (number, heard) in heard.iter().enumerate().skip(in_doubt) {
        assert_eq!(*heard, bulk(&value(number)), "it is newer than all that was lost");
    }
    assert!(in_doubt < WRITES);
    assert!(told(WRITES).starts_with(DAMAGED), "it was never there, but who knows");

    let words = [bulk("DEL"), bulk(&key(0))].concat();
    assert!(world.asks(WRITER, format!("*2\r\n{words}").as_bytes()).starts_with(DAMAGED));
    assert_eq!(world.asks(WRITER, &set(&key(0), "new")), "+OK\r\n");
    assert_eq!(world.asks(READER, &get(&key(0))), bulk("new"));
    world.crash(|_| {});
    assert_eq!(world.asks(READER, &get(&key(0))), bulk("new"));
    assert!(world.asks(READER, &get(&key(1))).starts_with(DAMAGED));
}

/// The one in the middle of those that hold records.
fn lose_a_segment(disk: &mut Disk) {
    let mut segments: Vec<SegmentId> = disk
        .files()
        .filter_map(|(file, _)| match file {
            File::Segment(segment) => Some(segment),
            _ => None,
        })
        .collect();
    segments.sort();
    let lost = segments[segments.len() / 2];
    disk.remove(|file| file == File::Index(lost));
    disk.alter(File::Segment(lost), |bytes| bytes[PAGE_BYTES..].fill(0x5a));
}
