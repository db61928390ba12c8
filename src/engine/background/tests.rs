//! The lane against real files.

use super::*;
use crate::base::id::LogId;
use crate::engine::scratch::Scratch;

const LOG: LogId = LogId::new(1);
const SHARD: ShardId = ShardId::new(0);

struct World {
    scratch: Scratch,
    lane: Lane,
    background: Background,
    last_ticket: u64,
}

impl World {
    fn new() -> Self {
        let scratch = Scratch::new();
        let paths = Paths::new(scratch.path());
        std::fs::create_dir(paths.logs()).expect("a fresh directory");
        let bell = Arc::new(Bell::new().expect("descriptors are left"));
        let background = Background::start(paths, &[bell]).expect("glommio works here");
        let lane = background.lane(SHARD);
        let mut world = Self { scratch, lane, background, last_ticket: 0 };
        assert_eq!(world.bulk(Bulk::CreateDirectory { log: LOG }), Ok(Done::Ok));
        world
    }

    fn ask(&mut self, operation: Bulk) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket::new(self.last_ticket);
        self.lane.ask(Request::Bulk { ticket, operation });
        ticket
    }

    /// The next answer. The bell has no thread here, so the test looks again and again.
    fn answer(&mut self) -> Answer {
        loop {
            self.lane.flush();
            if let Some(answer) = self.lane.next_answer() {
                return answer;
            }
            std::thread::yield_now();
        }
    }

    fn bulk(&mut self, operation: Bulk) -> Result<Done, Failure> {
        let asked = self.ask(operation);
        match self.answer() {
            Answer::Bulk { ticket, result } if ticket == asked => result,
            other => panic!("{other:?}"),
        }
    }

    fn stop(self) -> Scratch {
        drop(self.lane);
        self.background.stop();
        self.scratch
    }
}

fn temporary(number: u32) -> File {
    File::Temporary { log: LOG, number }
}

fn segment(number: u32) -> File {
    File::Segment(SegmentId { log: LOG, number })
}

fn read(file: File, offset: u64, length: u32) -> Bulk {
    Bulk::Read { file, offset, length }
}

#[test]
fn a_file_is_written_synced_renamed_listed_and_removed() {
    let mut world = World::new();
    let (file, to) = (temporary(1), segment(2));
    let bytes = b"some bytes".to_vec();
    assert_eq!(world.bulk(Bulk::Write { file, offset: 3, bytes }), Ok(Done::Ok));
    assert_eq!(world.bulk(Bulk::Sync { file }), Ok(Done::Ok));
    assert_eq!(world.bulk(Bulk::Rename { from: file, to }), Ok(Done::Ok));
    assert_eq!(world.bulk(Bulk::SyncDirectory { log: LOG }), Ok(Done::Ok));
    let foreign = world.scratch.path().join("logs/00000001/README");
    std::fs::write(foreign, b"not ours").expect("there is room");
    assert_eq!(world.bulk(Bulk::List { log: LOG }), Ok(Done::Listed(vec![(to, 13)])));
    assert_eq!(world.bulk(read(to, 3, 100)), Ok(Done::Read(b"some bytes".to_vec())));
    assert_eq!(world.bulk(read(to, 8, 2)), Ok(Done::Read(b"by".to_vec())));
    assert_eq!(world.bulk(read(to, 50, 2)), Ok(Done::Read(Vec::new())));
    assert_eq!(world.bulk(Bulk::Unlink { file: to }), Ok(Done::Ok));
    assert_eq!(world.bulk(Bulk::Unlink { file: to }), Ok(Done::Ok), "gone is as good");
    assert_eq!(world.bulk(Bulk::CreateDirectory { log: LOG }), Ok(Done::Ok), "it is there");
    assert_eq!(world.bulk(Bulk::List { log: LOG }), Ok(Done::Listed(Vec::new())));
    world.stop();
}

#[test]
fn a_zeroed_file_has_its_length_and_replaces_what_was_there() {
    let mut world = World::new();
    let file = temporary(1);
    let bytes = vec![7; 3 * 1024 * 1024];
    assert_eq!(world.bulk(Bulk::Write { file, offset: 0, bytes }), Ok(Done::Ok));
    let length = 2 * 1024 * 1024 + 4096;
    assert_eq!(world.bulk(Bulk::CreateZeroed { file, length }), Ok(Done::Ok));
    let expected = Done::Read(vec![0; length as usize]);
    assert_eq!(world.bulk(read(file, 0, 4 * 1024 * 1024)), Ok(expected));
    let blocks = std::fs::metadata(Paths::new(world.scratch.path()).file(file))
        .map(|data| std::os::unix::fs::MetadataExt::blocks(&data));
    assert!(blocks.expect("it is there") * 512 >= length, "it is really written");
    world.stop();
}

#[test]
fn failures_are_told_apart() {
    let mut world = World::new();
    let (file, to) = (temporary(1), segment(1));
    assert_eq!(world.bulk(read(file, 0, 1)), Err(Failure::NotFound));
    assert_eq!(world.bulk(Bulk::Sync { file }), Err(Failure::NotFound));
    assert_eq!(world.bulk(Bulk::Rename { from: file, to }), Err(Failure::NotFound));
    assert_eq!(world.bulk(Bulk::List { log: LogId::new(9) }), Err(Failure::NotFound));
    let full = Paths::new(world.scratch.path()).file(file);
    std::os::unix::fs::symlink("/dev/full", full).expect("a link");
    let bytes = vec![1; 10];
    assert_eq!(world.bulk(Bulk::Write { file, offset: 0, bytes }), Err(Failure::NoSpace));
    world.stop();
}

/// Everything is asked at once, in an order that is wrong when anything overtakes.
#[test]
fn operations_on_one_file_keep_their_order() {
    let mut world = World::new();
    let rounds = 20;
    for round in 0..rounds {
        let (file, to) = (temporary(round), segment(1));
        world.ask(Bulk::CreateZeroed { file, length: 1024 * 1024 });
        world.ask(Bulk::Write { file, offset: 5, bytes: round.to_le_bytes().to_vec() });
        world.ask(Bulk::Sync { file });
        world.ask(Bulk::Rename { from: file, to });
        world.ask(Bulk::SyncDirectory { log: LOG });
        world.ask(read(to, 5, 4));
    }
    let mut seen = 0;
    for _ in 0..6 * rounds {
        match world.answer() {
            Answer::Bulk { result: Ok(Done::Read(bytes)), .. } => {
                assert_eq!(bytes, u32::to_le_bytes(seen), "each is read before the next comes");
                seen += 1;
            }
            Answer::Bulk { result, .. } => assert_eq!(result, Ok(Done::Ok)),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(seen, rounds);
    world.stop();
}

/// A log prepares its next segment and compacts at the same time.
#[test]
fn what_is_independent_may_overtake() {
    let zeros = Touches::of(&Bulk::CreateZeroed { file: temporary(1), length: 1 });
    let rename = Touches::of(&Bulk::Rename { from: temporary(2), to: segment(2) });
    let sync = Touches::of(&Bulk::SyncDirectory { log: LOG });
    let other = Touches::of(&Bulk::SyncDirectory { log: LogId::new(2) });
    assert!(!comes_after(&rename, &zeros));
    assert!(!comes_after(&sync, &zeros));
    assert!(comes_after(&sync, &rename));
    assert!(!comes_after(&other, &rename));
    assert!(comes_after(&Touches::of(&read(segment(2), 0, 1)), &rename));
}

#[test]
fn a_segment_becomes_resident_or_says_why_not() {
    let mut world = World::new();
    let file = segment(1);
    let bytes = b"a segment".to_vec();
    assert_eq!(world.bulk(Bulk::Write { file, offset: 0, bytes }), Ok(Done::Ok));
    for (number, good) in [(1, true), (2, false)] {
        let segment = SegmentId { log: LOG, number };
        world.lane.ask(Request::MakeResident { segment, asking: 5 });
        match world.answer() {
            Answer::Mapped { segment: told, asking: 5, result } if told == segment => {
                match result {
                    Ok(map) => world.lane.ask(Request::Unmap(map)),
                    Err(failure) => assert_eq!(failure, Failure::NotFound),
                }
                assert_eq!(good, number == 1);
            }
            other => panic!("{other:?}"),
        }
    }
    world.stop();
}

/// More than the lane takes at once: the rest waits with the shard, and nothing is lost.
#[test]
fn a_flood_is_kept_back_and_done() {
    let mut world = World::new();
    let count = 3 * UNANSWERED_MAX;
    for _ in 0..count {
        world.ask(Bulk::Unlink { file: segment(1) });
    }
    assert!(world.lane.is_held_up());
    (0..count).for_each(|_| drop(world.answer()));
    assert!(!world.lane.is_held_up() && !world.lane.has_answers());
    world.stop();
}

#[test]
fn a_stop_finishes_what_is_at_hand() {
    let mut world = World::new();
    let file = temporary(1);
    world.ask(Bulk::CreateZeroed { file, length: 8 * 1024 * 1024 });
    let to = segment(1);
    world.ask(Bulk::Rename { from: file, to });
    let scratch = world.stop();
    assert!(Paths::new(scratch.path()).file(to).exists());
}
