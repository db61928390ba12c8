//! The background lane: bulk work on files for all shards of a node, by one glommio executor.
//!
//! It performs effects and knows nothing of records. Its thread has the lowest ordinary priority:
//! idle priority would be lower still, but then a node whose cores are all busy would never get its
//! next segment prepared, and would refuse writes. Queues with shares decide what goes first.
//!
//! # What is done by what
//!
//! New segments are filled by direct writes, which leave nothing in the page cache that the log's
//! own direct writes would have to throw out. Everything else goes through the page cache: what
//! compaction writes is mapped right after. Names (rename, unlink, directories) are given to
//! glommio's blocking threads, as is reading a map in.
//!
//! # Order
//!
//! Operations of one shard that touch the same file, or a directory and names in it, are done in
//! the order in which they were asked ([`comes_after`]); all others may overtake.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;
use glommio::Latency;
use glommio::LocalExecutorBuilder;
use glommio::Placement;
use glommio::PoolPlacement;
use glommio::Shares;
use glommio::TaskQueueHandle;

use crate::base::id::SegmentId;
use crate::base::id::ShardId;
use crate::base::id::Ticket;
use crate::engine::bell::Bell;
use crate::engine::bulk;
use crate::engine::disk;
use crate::engine::maps::Map;
use crate::engine::paths::Paths;
use crate::storage::effect::Bulk;
use crate::storage::effect::Done;
use crate::storage::effect::Failure;
use crate::storage::effect::File;

/// Requests of all shards on their way here.
const REQUESTS_MAX: usize = 1024;

/// Requests of one shard that are not answered. The rest waits with the shard.
const UNANSWERED_MAX: usize = 256;

/// Memory that glommio registers for direct writes. Its default is more than an ordinary user may
/// lock, and it says so only in its trace.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// Threads for calls that wait: names, one map that is read in, and one that is taken down.
const BLOCKING_THREADS: usize = 3;

/// The lowest ordinary priority.
const NICE: i32 = 19;

/// What a shard asks for.
#[derive(Debug)]
pub(super) enum Request {
    Bulk { ticket: Ticket, operation: Bulk },
    MakeResident { segment: SegmentId, asking: u64 },
    Unmap(Map),
}

/// What a shard hears. [`Request::Unmap`] has no answer.
#[derive(Debug)]
pub(super) enum Answer {
    Bulk { ticket: Ticket, result: Result<Done, Failure> },
    Mapped { segment: SegmentId, asking: u64, result: Result<Map, Failure> },
}

/// Where the answers for one shard arrive.
#[derive(Debug)]
pub(super) struct Mailbox {
    answers: ArrayQueue<Answer>,
    bell: Arc<Bell>,
}

impl Mailbox {
    /// The mailbox of the shard with this bell.
    pub(super) fn new(bell: Arc<Bell>) -> Self {
        Self { answers: ArrayQueue::new(UNANSWERED_MAX), bell }
    }

    fn put(&self, answer: Answer) {
        self.answers.push(answer).expect("a shard has no more requests out than fit");
        self.bell.ring();
    }
}

/// A shard's end of the lane. It never waits: what does not fit is kept here.
#[derive(Debug)]
pub(super) struct Lane {
    shard: ShardId,
    sender: flume::Sender<(ShardId, Request)>,
    mailbox: Arc<Mailbox>,
    kept: VecDeque<Request>,
    unanswered: usize,
}

impl Lane {
    /// Asks for something.
    pub(super) fn ask(&mut self, request: Request) {
        self.kept.push_back(request);
        self.flush();
    }

    /// Sends what was kept, as far as there is room.
    pub(super) fn flush(&mut self) {
        while self.unanswered < UNANSWERED_MAX
            && let Some(request) = self.kept.pop_front()
        {
            let has_answer = !matches!(request, Request::Unmap(_));
            match self.sender.try_send((self.shard, request)) {
                Ok(()) => self.unanswered += usize::from(has_answer),
                Err(flume::TrySendError::Full((_, request))) => {
                    self.kept.push_front(request);
                    return;
                }
                // The lane has ended, which it does after all shards, or when it failed: then
                // nothing is answered, and the log waits.
                Err(flume::TrySendError::Disconnected(_)) => {}
            }
        }
    }

    /// Whether something is kept, so that [`Lane::flush`] is due again soon.
    pub(super) fn is_held_up(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Takes the next answer.
    pub(super) fn next_answer(&mut self) -> Option<Answer> {
        let answer = self.mailbox.answers.pop()?;
        self.unanswered -= 1;
        Some(answer)
    }

    /// Whether [`Lane::next_answer`] has something.
    pub(super) fn has_answers(&self) -> bool {
        !self.mailbox.answers.is_empty()
    }
}

/// The thread of the lane. It ends when every [`Lane`] and this are gone.
#[derive(Debug)]
pub(super) struct Background {
    sender: flume::Sender<(ShardId, Request)>,
    mailboxes: Vec<Arc<Mailbox>>,
    thread: std::thread::JoinHandle<()>,
}

impl Background {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// What keeps glommio from working here.
    pub(super) fn start(paths: Paths, bells: &[Arc<Bell>]) -> io::Result<Self> {
        let mailboxes: Vec<_> =
            bells.iter().map(|bell| Arc::new(Mailbox::new(bell.clone()))).collect();
        let (sender, receiver) = flume::bounded(REQUESTS_MAX);
        let (tell, told) = flume::bounded(1);
        let boxes = mailboxes.clone();
        let thread =
            std::thread::Builder::new().name("stator-bulk".to_owned()).spawn(move || {
                // Without the right to do so it stays at the priority that it has.
                let _ = rustix::process::setpriority_process(None, NICE);
                let executor = LocalExecutorBuilder::new(Placement::Unbound)
                    .name("stator-bulk")
                    .io_memory(IO_MEMORY_BYTES)
                    .blocking_thread_pool_placement(PoolPlacement::Unbound(BLOCKING_THREADS))
                    .make();
                match executor {
                    Ok(executor) => {
                        let _ = tell.send(Ok(()));
                        executor.run(serve(paths, boxes, receiver));
                    }
                    Err(error) => {
                        let _ = tell.send(Err(io::Error::other(error.to_string())));
                    }
                }
            })?;
        told.recv().map_err(io::Error::other)??;
        Ok(Self { sender, mailboxes, thread })
    }

    /// The end of a shard.
    pub(super) fn lane(&self, shard: ShardId) -> Lane {
        Lane {
            shard,
            sender: self.sender.clone(),
            mailbox: self.mailboxes[usize::from(shard.to_raw())].clone(),
            kept: VecDeque::new(),
            unanswered: 0,
        }
    }

    /// Waits until everything that was asked for is done. The lanes must be gone.
    pub(super) fn stop(self) {
        drop(self.sender);
        // It panicked: that was printed when it happened.
        let _ = self.thread.join();
    }
}

/// Takes requests until every sender is gone, then finishes what is at hand.
async fn serve(
    paths: Paths,
    mailboxes: Vec<Arc<Mailbox>>,
    receiver: flume::Receiver<(ShardId, Request)>,
) {
    let (tell, told) = flume::unbounded();
    let desk = Rc::new(Desk {
        paths,
        mailboxes,
        queues: Queues::new(),
        jobs: RefCell::default(),
        ended: tell,
    });
    while let Ok((shard, request)) = receiver.recv_async().await {
        desk.take(shard, request);
    }
    while !desk.jobs.borrow().is_empty() {
        // Every end of a job is told here; those of the past are harmless.
        let _ = told.recv_async().await;
    }
}

/// What goes first when there is much to do.
struct Queues {
    names: TaskQueueHandle,
    zeros: TaskQueueHandle,
    files: TaskQueueHandle,
    maps: TaskQueueHandle,
}

impl Queues {
    fn new() -> Self {
        let queue = |shares, name| {
            glommio::executor().create_task_queue(
                Shares::Static(shares),
                Latency::NotImportant,
                name,
            )
        };
        Self {
            // Quick, and what others wait for.
            names: queue(400, "names"),
            // A log without a prepared segment refuses writes.
            zeros: queue(300, "zeros"),
            files: queue(200, "files"),
            maps: queue(100, "maps"),
        }
    }
}

/// What is asked for and not done.
#[derive(Debug)]
struct Job {
    number: u64,
    shard: ShardId,
    work: Option<Work>,
    /// Of a bulk operation, to compare with later ones.
    touches: Touches,
}

#[derive(Debug)]
enum Work {
    Bulk(Ticket, Bulk),
    Map(SegmentId, u64),
    Unmap(Map),
}

struct Desk {
    paths: Paths,
    mailboxes: Vec<Arc<Mailbox>>,
    queues: Queues,
    jobs: RefCell<Jobs>,
    ended: flume::Sender<()>,
}

#[derive(Debug, Default)]
struct Jobs {
    /// In the order in which they were asked.
    open: Vec<Job>,
    last_number: u64,
}

impl Jobs {
    fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    fn add(&mut self, shard: ShardId, request: Request) {
        self.last_number += 1;
        let (touches, work) = match request {
            Request::Bulk { ticket, operation } => {
                (Touches::of(&operation), Work::Bulk(ticket, operation))
            }
            Request::MakeResident { segment, asking } => {
                (Touches::Maps, Work::Map(segment, asking))
            }
            Request::Unmap(map) => (Touches::Nothing, Work::Unmap(map)),
        };
        let number = self.last_number;
        self.open.push(Job { number, shard, work: Some(work), touches });
    }

    /// Takes the work of all jobs that nothing stands before.
    fn take_ready(&mut self) -> Vec<(u64, ShardId, Work)> {
        let mut ready = Vec::new();
        for index in 0..self.open.len() {
            let (before, rest) = self.open.split_at_mut(index);
            let job = &mut rest[0];
            let waits = |earlier: &Job| {
                // One map is read in at a time, whoever wants it; they share the disk anyway.
                let same = earlier.shard == job.shard || job.touches == Touches::Maps;
                same && comes_after(&job.touches, &earlier.touches)
            };
            if job.work.is_some() && !before.iter().any(waits) {
                let work = job.work.take().expect("it was just looked at");
                ready.push((job.number, job.shard, work));
            }
        }
        ready
    }

    fn end(&mut self, number: u64) {
        self.open.retain(|job| job.number != number);
    }
}

impl Desk {
    fn take(self: &Rc<Self>, shard: ShardId, request: Request) {
        self.jobs.borrow_mut().add(shard, request);
        self.begin_ready();
    }

    fn begin_ready(self: &Rc<Self>) {
        let ready = self.jobs.borrow_mut().take_ready();
        for (number, shard, work) in ready {
            let queue = self.queue_of(&work);
            let desk = self.clone();
            let job = async move {
                let answer = desk.perform(work).await;
                desk.jobs.borrow_mut().end(number);
                if let Some(answer) = answer {
                    desk.mailboxes[usize::from(shard.to_raw())].put(answer);
                }
                desk.begin_ready();
                let _ = desk.ended.send(());
            };
            glommio::spawn_local_into(job, queue).expect("the queue is there").detach();
        }
    }

    fn queue_of(&self, work: &Work) -> TaskQueueHandle {
        match work {
            Work::Bulk(_, Bulk::CreateZeroed { .. }) => self.queues.zeros,
            Work::Bulk(_, Bulk::Read { .. } | Bulk::Write { .. } | Bulk::Sync { .. }) => {
                self.queues.files
            }
            Work::Bulk(..) => self.queues.names,
            Work::Map(..) | Work::Unmap(_) => self.queues.maps,
        }
    }

    async fn perform(&self, work: Work) -> Option<Answer> {
        match work {
            Work::Bulk(ticket, operation) => {
                let result = bulk::perform(&self.paths, operation).await;
                Some(Answer::Bulk { ticket, result })
            }
            Work::Map(segment, asking) => {
                let path = self.paths.file(File::Segment(segment));
                let map = glommio::executor().spawn_blocking(move || Map::read_in(&path)).await;
                let result = map.map_err(|error| disk::failure(&error));
                Some(Answer::Mapped { segment, asking, result })
            }
            Work::Unmap(map) => {
                glommio::executor().spawn_blocking(move || drop(map)).await;
                None
            }
        }
    }
}

/// What an operation touches, as far as order is concerned.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Touches {
    Nothing,
    Maps,
    /// The bytes of a file, or its name.
    Files {
        files: Vec<File>,
        names: bool,
    },
    /// All names of a log.
    Directory(crate::base::id::LogId),
}

impl Touches {
    fn of(operation: &Bulk) -> Self {
        match operation {
            Bulk::CreateDirectory { log } | Bulk::List { log } | Bulk::SyncDirectory { log } => {
                Self::Directory(*log)
            }
            Bulk::Read { file, .. }
            | Bulk::CreateZeroed { file, .. }
            | Bulk::Write { file, .. }
            | Bulk::Sync { file } => Self::Files { files: vec![*file], names: false },
            Bulk::Rename { from, to } => Self::Files { files: vec![*from, *to], names: true },
            Bulk::Unlink { file } => Self::Files { files: vec![*file], names: true },
        }
    }
}

/// Whether an operation must wait for one of the same shard that was asked before it.
fn comes_after(later: &Touches, earlier: &Touches) -> bool {
    match (later, earlier) {
        (Touches::Maps, Touches::Maps) => true,
        (Touches::Files { files, .. }, Touches::Files { files: others, .. }) => {
            files.iter().any(|file| others.contains(file))
        }
        // A new file's name becomes durable by the directory's sync too, but nobody counts on that
        // before it was renamed: so a sync need not wait for a segment that is being filled.
        (Touches::Directory(log), Touches::Files { files, names: true })
        | (Touches::Files { files, .. }, Touches::Directory(log)) => {
            files.iter().any(|file| file.log() == *log)
        }
        (Touches::Directory(log), Touches::Directory(other)) => log == other,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
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
}
