//! What one client asks of one key happens in the order in which it asked.

use stator::base::limits::OUTSTANDING_MAX;

use crate::world::READER;
use crate::world::WRITES;
use crate::world::World;
use crate::world::get;
use crate::world::key;
use crate::world::set;

/// As many requests as a session lets out wait for one record, the last of them a write; one more
/// write is held back in the session. When the record comes, the first answer lets that one out:
/// it must not overtake those that waited.
#[test]
fn a_request_that_is_let_out_overtakes_none_that_waited_for_its_record() {
    let mut world = World::cold(WRITES);
    world.reads_stall = true;
    let mut pipeline: Vec<u8> = (1..OUTSTANDING_MAX).flat_map(|_| get(&key(0))).collect();
    pipeline.extend(set(&key(0), "first"));
    pipeline.extend(set(&key(0), "second"));
    world.say(READER, &pipeline);
    assert!(world.take(READER).is_empty(), "its record is on the disk");
    world.let_reads_end();
    world.settle();
    let heard = world.take(READER);
    assert_eq!(heard.matches("+OK").count(), 2);
    assert_eq!(world.asks(READER, &get(&key(0))), "$6\r\nsecond\r\n");
}
