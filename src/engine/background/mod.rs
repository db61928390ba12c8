//! The background lane: bulk work on files for all shards of a node, by one glommio executor.
//!
//! It performs effects and knows nothing of records. Its thread has the lowest ordinary priority:
//! idle priority would be lower still, but then a node whose cores are all busy would never get its
//! next segment prepared, and its writes would wait. Queues with shares decide what goes first.
//!
//! # What is done by what
//!
//! New segments are filled by direct writes, which leave nothing in the page cache that the log's
//! own direct writes would have to throw out. Everything else goes through the page cache: what
//! compaction writes is mapped right after. Names (rename, unlink, directories) are given to
//! glommio's blocking threads, as is reading a map in, and as are those direct writes: see `bulk`.
//!
//! # Order
//!
//! Operations of one shard that touch the same file, or a directory and names in it, are done in
//! the order in which they were asked (`order`); all others may overtake.
//!
//! # Sleep
//!
//! glommio 0.9 may go to sleep with tasks that could run: its preemption timer's end, seen before the
//! first task of a round, ends the round as if there were none. A thread that was not let run (beside
//! shards that take their cores, or in a process that was stopped) meets that, and then a log waits
//! for its segment, or a stop for ever. Of 12,000 requests, each beside a signal handler of 110 ms,
//! 40 were heard only with the next one; with a timer that never ends, none of 3,600. As other
//! events look like that timer's end, a heartbeat bounds what such a sleep may cost.

mod order;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

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
use crate::engine::background::order::Touches;
use crate::engine::background::order::comes_after;
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

/// Nothing runs long between two waits here, so nothing needs to be preempted: see "Sleep".
const PREEMPT_AFTER: Duration = Duration::from_secs(24 * 3600);

/// How long a sleep lasts at most.
const HEARTBEAT: Duration = Duration::from_millis(200);

/// Memory that glommio registers for direct writes. Its default is more than an ordinary user may
/// lock, and it says so only in its trace.
const IO_MEMORY_BYTES: usize = 64 * 1024;

/// Threads for calls that wait: names, zeros, long writes of several shards, one map that is read in,
/// and one that is taken down.
const BLOCKING_THREADS: usize = 8;

/// Below that of the shards, beside which it runs where there are not more cores. On a core that
/// writes as fast as it can it needs 7 % of the time; the lowest priority would be given 1.5 %.
const NICE: i32 = 10;

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
                    .preempt_timer(PREEMPT_AFTER)
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
    // It is dropped, and so ended, with the executor.
    glommio::spawn_local(async {
        loop {
            glommio::timer::sleep(HEARTBEAT).await;
        }
    })
    .detach();
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
            // The writes of a log without a prepared segment wait.
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
