//! One client thread: its connections, its ring, and the loop that drives them.
//!
//! A turn of the loop is: let everything out that may go, one system call, take in everything that
//! came. The clock is read before each half, never per request.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use crate::connection::{Connection, Script};
use crate::record::Counts;
use crate::schedule::Schedule;
use crate::thread::{Message, Progress};
use crate::uring::{Event, Uring, Wait};

/// Nanoseconds since the start of the program, the same on every thread.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that shows 0.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The time.
    pub fn now(self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).expect("584 years are enough")
    }
}

/// Where requests come from.
#[derive(Debug)]
pub enum Source {
    /// One `SET` of each key of the range.
    Fill(std::ops::Range<u64>),
    /// The next as soon as there is room; so many at most.
    Closed {
        /// Operations still to begin.
        left: u64,
    },
    /// At their times, whether there is room or not; so many at most.
    Open {
        /// The times.
        schedule: Schedule,
        /// Operations still to begin.
        left: u64,
    },
}

/// How a client waits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Waiting {
    /// Sleeps in the kernel: cheap, but each wake-up is late by some 30 microseconds.
    Sleep,
    /// Looks again and again: exact, and takes the whole core.
    Spin,
}

/// How to connect, and what to do about lost connections.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server.
    pub address: SocketAddr,
    /// Sent as `AUTH` on each new connection.
    pub password: Option<String>,
    /// Connect again, instead of ending the run.
    pub reconnect: bool,
}

/// What a thread shares with the one that started it.
#[derive(Debug)]
pub struct Control<'a> {
    /// End now.
    pub stop: &'a AtomicBool,
    /// What this thread has done so far.
    pub progress: &'a Progress,
    /// Which thread this is.
    pub index: usize,
    /// Where counted seconds go.
    pub messages: Sender<Message>,
    /// Counters that come back empty.
    pub spares: Receiver<Counts>,
}

/// When to stop.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    /// Nothing begins after this.
    pub issue_until: u64,
    /// So long it then waits for the last answers.
    pub drain: Duration,
}

/// See the module's page.
pub struct Client {
    ring: Uring,
    connections: Vec<Connection>,
    /// The ring's slot of each connection; none while it is down.
    slots: Vec<Option<usize>>,
    /// The connection of each of the ring's slots, past ones included.
    owners: Vec<usize>,
    /// Connections that may have something to send.
    ready: Vec<usize>,
    /// Which connection takes the next due request.
    turn: usize,
    /// How many connections have no socket.
    down: usize,
    reconnect_at: u64,
    target: Target,
    waiting: Waiting,
    clock: Clock,
    script: Script,
}

impl Client {
    /// Connects so many times.
    pub fn connect(
        target: Target,
        connections: usize,
        waiting: Waiting,
        clock: Clock,
        script: Script,
    ) -> Result<Self, String> {
        let ring = Uring::new(connections).map_err(|error| format!("io_uring: {error}"))?;
        let mut client = Self {
            ring,
            connections: (0..connections).map(|_| Connection::new(1)).collect(),
            slots: vec![None; connections],
            owners: Vec::new(),
            ready: Vec::new(),
            turn: 0,
            down: connections,
            reconnect_at: 0,
            target,
            waiting,
            clock,
            script,
        };
        for index in 0..connections {
            client.open(index, CONNECT_TIMEOUT)?;
        }
        Ok(client)
    }

    /// What the connections share.
    pub fn script(&mut self) -> &mut Script {
        &mut self.script
    }

    /// Sends what `source` gives, up to `depth` requests on their way per connection, until it is
    /// exhausted or the ending has come; then waits for the last answers and hands over the counts.
    pub fn drive(
        &mut self,
        source: &mut Source,
        depth: usize,
        ending: Ending,
        control: &Control<'_>,
    ) -> Result<(), String> {
        self.connections.iter_mut().for_each(|connection| connection.set_depth(depth));
        let outcome = self.turn_until_done(source, ending, control);
        self.publish(control);
        self.hand_over(control);
        outcome
    }

    fn turn_until_done(
        &mut self,
        source: &mut Source,
        ending: Ending,
        control: &Control<'_>,
    ) -> Result<(), String> {
        let mut give_up_at = None;
        self.ready = (0..self.connections.len()).collect();
        loop {
            let now = self.clock.now();
            let stopped = now >= ending.issue_until || control.stop.load(Ordering::Relaxed);
            let exhausted = stopped || source.is_exhausted();
            if !exhausted {
                self.schedule(source, now)?;
            }
            self.issue(source, exhausted)?;
            if exhausted {
                let give_up_at = *give_up_at.get_or_insert(now + nanoseconds(ending.drain));
                if self.connections.iter().all(Connection::is_idle) {
                    return Ok(());
                }
                if now >= give_up_at {
                    let script = &mut self.script;
                    self.connections.iter_mut().for_each(|one| one.give_up(now, script));
                    return Ok(());
                }
            }
            let wait = self.wait(source, exhausted);
            self.ring.turn(wait).map_err(|error| format!("io_uring: {error}"))?;
            self.take_in()?;
            self.publish(control);
            if self.script.recorder.is_over(self.clock.now()) {
                self.hand_over(control);
            }
        }
    }

    /// Queues what is due on the connections, in turn.
    fn schedule(&mut self, source: &mut Source, now: u64) -> Result<(), String> {
        let Source::Open { schedule, left } = source else { return Ok(()) };
        while *left > 0
            && let Some(due) = schedule.take_due(now)
        {
            *left -= 1;
            let connection = &mut self.connections[self.turn];
            if connection.waiting() * self.slots.len() > BACKLOG_MAX {
                return Err(format!("{BACKLOG_MAX} requests are due and wait: --rate is too high"));
            }
            connection.queue(due);
            self.ready.push(self.turn);
            self.turn = (self.turn + 1) % self.connections.len();
        }
        Ok(())
    }

    /// Lets out what may go.
    fn issue(&mut self, source: &mut Source, exhausted: bool) -> Result<(), String> {
        self.reopen()?;
        let now = self.clock.now();
        while let Some(index) = self.ready.pop() {
            let Some(slot) = self.slots[index] else { continue };
            let connection = &mut self.connections[index];
            match source {
                Source::Open { .. } => connection.send_queued(now, &mut self.script),
                _ if exhausted => {}
                Source::Closed { left } => {
                    while *left > 0 && connection.has_room() {
                        *left -= 1;
                        connection.send_next(now, &mut self.script);
                    }
                }
                Source::Fill(keys) => {
                    while connection.has_room()
                        && let Some(key) = keys.next()
                    {
                        connection.send_fill(key, now, &mut self.script);
                    }
                }
            }
            if let Some(bytes) = connection.take_outbox() {
                self.ring.send(slot, bytes).map_err(|error| format!("io_uring: {error}"))?;
            }
        }
        Ok(())
    }

    fn wait(&self, source: &Source, exhausted: bool) -> Wait {
        let Source::Open { schedule, .. } = source else {
            return if self.waiting == Waiting::Spin { Wait::Poll } else { Wait::Event };
        };
        if exhausted {
            return Wait::Event;
        }
        let ahead = schedule.next_due().saturating_sub(self.clock.now());
        if self.waiting == Waiting::Sleep {
            return Wait::AtMost(Duration::from_nanos(ahead));
        }
        // Nothing can happen before the next request is due: sleep, but wake in time for it.
        if self.script.recorder.outstanding() == 0 && ahead > 2 * WAKE_UP_NS {
            return Wait::AtMost(Duration::from_nanos(ahead - WAKE_UP_NS));
        }
        std::hint::spin_loop();
        Wait::Poll
    }

    /// Takes in everything that the ring found.
    fn take_in(&mut self) -> Result<(), String> {
        let now = self.clock.now();
        let mut failure = None;
        let Self { ring, connections, slots, owners, ready, script, target, down, .. } = self;
        ring.drain(|event| {
            let (Event::Received(slot, _) | Event::Sent(slot, _) | Event::Closed(slot, _)) = event;
            let index = owners[slot];
            if slots[index] != Some(slot) {
                return;
            }
            let connection = &mut connections[index];
            match event {
                Event::Received(_, bytes) => {
                    if let Err(broken) = connection.receive(bytes, now, script) {
                        failure = Some(broken.to_string());
                    }
                }
                Event::Sent(_, buffer) => connection.sent(buffer),
                Event::Closed(_, error) => {
                    connection.lose(script);
                    slots[index] = None;
                    *down += 1;
                    if !target.reconnect {
                        failure = Some(match error {
                            Some(error) => format!("a connection failed: {error}"),
                            None => "the server closed a connection".to_owned(),
                        });
                    }
                }
            }
            ready.push(index);
        });
        failure.map_or(Ok(()), Err)
    }

    fn publish(&self, control: &Control<'_>) {
        let recorder = &self.script.recorder;
        control.progress.finished.store(recorder.finished(), Ordering::Relaxed);
        control.progress.failed.store(recorder.failed(), Ordering::Relaxed);
    }

    fn hand_over(&mut self, control: &Control<'_>) {
        let empty = control.spares.try_recv().unwrap_or_default();
        let interval = Box::new(self.script.recorder.roll(self.clock.now(), empty));
        // Nobody listens any more when the run was broken off.
        let _ = control.messages.send(Message::Interval { index: control.index, interval });
    }

    /// Connects again what was lost, now and then.
    fn reopen(&mut self) -> Result<(), String> {
        if self.down == 0 || !self.target.reconnect {
            return Ok(());
        }
        let now = self.clock.now();
        if now < self.reconnect_at {
            return Ok(());
        }
        self.reconnect_at = now + nanoseconds(RECONNECT_INTERVAL);
        for index in 0..self.slots.len() {
            if self.slots[index].is_none() {
                if self.open(index, RECONNECT_TIMEOUT).is_err() {
                    return Ok(());
                }
                self.ready.push(index);
            }
        }
        Ok(())
    }

    fn open(&mut self, index: usize, timeout: Duration) -> Result<(), String> {
        let stream = connect(&self.target, timeout)
            .map_err(|error| format!("cannot connect to {}: {error}", self.target.address))?;
        let slot = self.ring.attach(stream);
        self.slots[index] = Some(slot);
        self.owners.push(index);
        self.down -= 1;
        Ok(())
    }
}

impl Source {
    fn is_exhausted(&self) -> bool {
        match self {
            Self::Fill(keys) => keys.is_empty(),
            Self::Closed { left } | Self::Open { left, .. } => *left == 0,
        }
    }
}

/// Connects and says the password; everything after that goes through the ring.
fn connect(target: &Target, timeout: Duration) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&target.address, timeout)?;
    stream.set_nodelay(true)?;
    if let Some(password) = &target.password {
        stream.set_read_timeout(Some(timeout))?;
        let length = password.len();
        let auth = format!("*2\r\n$4\r\nAUTH\r\n${length}\r\n{password}\r\n");
        stream.write_all(auth.as_bytes())?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)?;
        if answer != *b"+OK\r\n" {
            return Err(std::io::Error::other("the server refused the password"));
        }
        stream.set_read_timeout(None)?;
    }
    Ok(stream)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 2)
}

/// A server that accepts nothing for so long is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Attempts are made on the thread that measures, so they must be short.
const RECONNECT_TIMEOUT: Duration = Duration::from_millis(50);

/// A server that restarts is found within this.
const RECONNECT_INTERVAL: Duration = Duration::from_millis(100);

/// Requests of an open loop that may wait in one thread: 64 MiB of due times, and more than a
/// minute of what any server here is asked.
const BACKLOG_MAX: usize = 1 << 22;

/// How much earlier than needed a sleep ends: waking a virtual core takes 20 to 60 microseconds.
const WAKE_UP_NS: u64 = 100_000;
