//! The disk is tested too: one that keeps everything would find nothing.

use super::*;

const LOG: LogId = LogId::new(1);

fn segment(number: u32) -> SegmentId {
    SegmentId { log: LOG, number }
}

/// A disk, and tickets for it.
struct Fixture {
    disk: Disk,
    tickets: u64,
}

impl Fixture {
    fn new(seed: u64, dials: Dials) -> Self {
        let mut fixture = Self { disk: Disk::new(Rng::from_seed(seed), dials), tickets: 0 };
        fixture.bulk(Bulk::CreateDirectory { log: LOG }).expect("nothing fails yet");
        fixture
    }

    /// One with a prepared segment of so many pages.
    fn with_segment(seed: u64, pages: u64) -> Self {
        let mut fixture = Self::new(seed, Dials::default());
        let file = File::Segment(segment(1));
        let length = pages * PAGE_BYTES as u64;
        for operation in [
            Bulk::CreateZeroed { file, length },
            Bulk::Sync { file },
            Bulk::SyncDirectory { log: LOG },
        ] {
            fixture.bulk(operation).expect("nothing fails");
        }
        fixture
    }

    fn ticket(&mut self) -> Ticket {
        self.tickets += 1;
        Ticket::new(self.tickets)
    }

    fn bulk(&mut self, operation: Bulk) -> Result<Done, Failure> {
        let ticket = self.ticket();
        self.disk.perform(Instant::START, Effect::Bulk { ticket, operation });
        match self.disk.complete() {
            Some(Completion::Bulk(_, result)) => result,
            other => panic!("one operation was in flight, yet {other:?} ended"),
        }
    }

    fn append(&mut self, page: u32, byte: u8) {
        let mut buffer = AlignedBuffer::with_capacity(PAGE_BYTES);
        buffer.extend(&[byte; PAGE_BYTES]);
        let ticket = self.ticket();
        let offset = page * PAGE_BYTES as u32;
        let buffer = Arc::new(buffer);
        self.disk.perform(
            Instant::START,
            Effect::Append { ticket, segment: segment(1), offset, buffer },
        );
    }

    fn page(&mut self, page: u32) -> Vec<u8> {
        let file = File::Segment(segment(1));
        let offset = u64::from(page) * PAGE_BYTES as u64;
        match self.bulk(Bulk::Read { file, offset, length: PAGE_BYTES as u32 }) {
            Ok(Done::Read(bytes)) => bytes,
            other => panic!("a read brings bytes, not {other:?}"),
        }
    }
}

#[test]
fn an_append_that_was_answered_survives_and_one_in_flight_may_do_anything() {
    let (mut whole, mut absent, mut torn) = (0, 0, 0);
    for seed in 0..300 {
        let mut fixture = Fixture::with_segment(seed, 4);
        fixture.append(0, 1);
        assert!(matches!(fixture.disk.complete(), Some(Completion::Appended(_, Ok(())))));
        fixture.append(1, 2);
        fixture.disk.crash();
        assert_eq!(fixture.page(0), vec![1; PAGE_BYTES], "seed={seed}");
        let second = fixture.page(1);
        match second.iter().filter(|byte| **byte == 2).count() {
            PAGE_BYTES => whole += 1,
            0 => absent += 1,
            _ => torn += 1,
        }
    }
    assert!(whole > 40 && absent > 40 && torn > 40, "{whole} {absent} {torn}");
}

/// The hole that recovery must not read over: the second batch is there, the first is not.
#[test]
fn a_later_append_may_survive_an_earlier_one() {
    let holes = (0..300).filter(|seed| {
        let mut fixture = Fixture::with_segment(*seed, 4);
        fixture.append(0, 1);
        fixture.append(1, 2);
        fixture.disk.crash();
        fixture.page(0) != vec![1; PAGE_BYTES] && fixture.page(1) == vec![2; PAGE_BYTES]
    });
    assert!(holes.count() > 20);
}

#[test]
fn appends_complete_in_any_order() {
    let reordered = (0..100).filter(|seed| {
        let mut fixture = Fixture::with_segment(*seed, 4);
        fixture.append(0, 1);
        let first = fixture.tickets;
        fixture.append(1, 2);
        !matches!(fixture.disk.complete(), Some(Completion::Appended(t, _)) if t.to_raw() == first)
    });
    assert!((20..80).contains(&reordered.count()));
}

#[test]
fn a_file_whose_directory_was_not_synced_may_be_gone() {
    let mut gone = 0;
    for seed in 0..100 {
        let mut fixture = Fixture::new(seed, Dials::default());
        let file = File::Temporary { log: LOG, number: 1 };
        fixture.bulk(Bulk::Write { file, offset: 0, bytes: vec![1; 100] }).expect("no fault");
        fixture.disk.crash();
        gone += usize::from(fixture.disk.find(file).is_none());
    }
    assert!((20..80).contains(&gone), "{gone}");
}

#[test]
fn the_quota_refuses_and_heals() {
    let mut fixture = Fixture::new(1, Dials { quota_bytes: 8192, ..Dials::default() });
    let create = |number| Bulk::CreateZeroed { file: File::Segment(segment(number)), length: 8192 };
    assert_eq!(fixture.bulk(create(1)), Ok(Done::Ok));
    assert_eq!(fixture.bulk(create(2)), Err(Failure::NoSpace));
    assert_eq!(fixture.bulk(create(1)), Ok(Done::Ok), "what is replaced makes room");
    fixture.disk.dials.quota_bytes = 16384;
    assert_eq!(fixture.bulk(create(2)), Ok(Done::Ok));
}

#[test]
fn a_read_beyond_the_end_is_short() {
    let mut fixture = Fixture::with_segment(1, 1);
    let file = File::Segment(segment(1));
    let read = Bulk::Read { file, offset: 4000, length: 4096 };
    assert_eq!(fixture.bulk(read), Ok(Done::Read(vec![0; 96])));
}

#[test]
fn only_a_mapped_segment_is_resident_and_not_all_of_it() {
    let mut fixture = Fixture::with_segment(1, 64);
    fixture.disk.dials.resident_percent = 50;
    assert_eq!(fixture.disk.slice(segment(1), 0, 10), None);
    fixture.disk.perform(Instant::START, Effect::MakeResident { segment: segment(1) });
    assert!(matches!(fixture.disk.complete(), Some(Completion::Resident(_, Ok(())))));
    let page = PAGE_BYTES as u32;
    let pages = (0..64).filter(|n| fixture.disk.slice(segment(1), n * page, page).is_some());
    assert!((10..54).contains(&pages.count()));
    fixture.disk.perform(Instant::START, Effect::DropResident { segment: segment(1) });
    assert_eq!(fixture.disk.slice(segment(1), 0, 10), None);
}

/// What nothing vouches for is never harmed, what is harmed differs from what was written.
#[test]
fn damage_spares_the_end_of_the_log() {
    for seed in 0..200 {
        let mut fixture = Fixture::with_segment(seed, 8);
        for page in 0..8 {
            fixture.append(page, 0xaa);
            fixture.disk.complete();
        }
        let damage = fixture.disk.damage();
        assert!(!damage.is_empty(), "seed={seed}");
        for harmed in damage {
            assert!(harmed.range.end <= 6 * PAGE_BYTES as u32, "{harmed:?} seed={seed}");
        }
        assert_eq!(fixture.page(7), vec![0xaa; PAGE_BYTES], "seed={seed}");
        let pages = (0..8).filter(|page| fixture.page(*page) != vec![0xaa; PAGE_BYTES]);
        assert!(pages.count() <= 2, "seed={seed}");
    }
}

#[test]
#[should_panic(expected = "overlaps")]
fn two_appends_to_one_page_are_refused() {
    let mut fixture = Fixture::with_segment(1, 4);
    fixture.append(1, 1);
    fixture.append(1, 2);
}

#[test]
#[should_panic(expected = "before its name is synced")]
fn an_append_to_a_segment_that_a_crash_could_take_is_refused() {
    let mut fixture = Fixture::with_segment(1, 4);
    let (from, to) = (File::Segment(segment(1)), File::Segment(segment(2)));
    fixture.bulk(Bulk::Rename { from, to }).expect("no fault");
    fixture.bulk(Bulk::Rename { from: to, to: from }).expect("no fault");
    fixture.append(0, 1);
}

#[test]
#[should_panic(expected = "retired while it is read")]
fn a_segment_that_is_read_is_not_retired() {
    let mut fixture = Fixture::with_segment(1, 4);
    let ticket = fixture.ticket();
    fixture.disk.perform(
        Instant::START,
        Effect::Read { ticket, segment: segment(1), offset: 0, length: 1 },
    );
    let _ = fixture.bulk(Bulk::Unlink { file: File::Segment(segment(1)) });
}

#[test]
#[should_panic(expected = "used before")]
fn a_ticket_is_used_once() {
    let mut fixture = Fixture::with_segment(1, 4);
    fixture.append(0, 1);
    fixture.tickets -= 1;
    fixture.append(1, 1);
}
