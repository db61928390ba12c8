//! The end of a core: who is waited for, for how long, and what those are told who waited in vain.
//!
//! A core that stops ends when its log is stopped, the others will ask for nothing more, and all of
//! its clients are answered. Some may never come to that: a client that takes no replies holds its
//! own requests back, a core that died says nothing, a disk may hang. So there are two bounds.

use crate::base::id::ConnectionId;
use crate::base::outbox::Outbox;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::base::time::Now;
use crate::protocol::coordinator::RequestError;
use crate::protocol::session::Session;
use crate::protocol::shard::Effect;
use crate::protocol::shard::Shard;
use crate::protocol::wire::reply;
use crate::storage::effect::Resident;

/// How long it waits for clients that must take replies before they are given more.
const READERS_FOR: Duration = Duration::from_secs(1);

/// The longest that it waits for the requests at hand, however patient their clients are. Whoever
/// stopped the node waits for it, and not for ever.
const REQUESTS_FOR_MAX: Duration = Duration::from_secs(20);

/// So much longer than a request may take does it wait for the others.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A stop that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    /// Until when clients may take replies behind which their requests are held back.
    readers_by: Instant,
    /// When those who still wait are told that it was in vain.
    by: Instant,
    gave_up: bool,
    told: bool,
}

impl Stop {
    /// One that begins.
    pub(super) fn new(now: Instant, request_timeout: Duration) -> Self {
        Self {
            readers_by: now + READERS_FOR,
            by: now + request_timeout.min(REQUESTS_FOR_MAX) + LAST_WORDS,
            gave_up: false,
            told: false,
        }
    }

    /// When it should be looked at, if nothing else happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.gave_up && !self.told).then_some(self.by)
    }
}

impl Shard {
    /// Goes on with a stop. Whether the core has ended with that.
    pub(super) fn go_on_stopping(
        &mut self,
        now: Now,
        resident: &dyn Resident,
        out: &mut Outbox<Effect>,
    ) -> bool {
        let Some(mut stop) = self.stop else { return false };
        if stop.by <= now.monotonic && !stop.gave_up && !stop.told {
            stop.gave_up = true;
            self.give_up(now, resident, out);
        }
        let ends = self.log_stopped && !stop.told && self.may_end(now.monotonic, stop);
        stop.told |= ends;
        self.stop = Some(stop);
        ends
    }

    /// Whether nobody waits for an answer that could still come, here or at another core.
    fn may_end(&self, now: Instant, stop: Stop) -> bool {
        let others_are_done = self.heard_last + 1 >= self.keeper.node.shards();
        let is_over = |session: &Session| {
            session.is_answered() || (stop.readers_by <= now && session.waits_for_its_client())
        };
        let mut sessions = self.open.iter().filter_map(|connection| self.sessions.get(connection));
        stop.gave_up || (others_are_done && sessions.all(|session| is_over(session)))
    }

    /// Tells those who still wait that nothing came in time, and lets them go: what comes later finds
    /// nobody.
    fn give_up(&mut self, now: Now, resident: &dyn Resident, out: &mut Outbox<Effect>) {
        let mut error = Vec::new();
        reply::error(&mut error, RequestError::TimedOut);
        let waits = |connection: &ConnectionId| {
            self.sessions.get(connection).is_some_and(|session| !session.is_answered())
        };
        for connection in self.open.iter().copied().filter(waits).collect::<Vec<_>>() {
            let mut late = 0;
            self.with_session(now, connection, resident, out, |session, hands, arena| {
                late = session.outstanding();
                session.answer_rest(now, &error, hands, arena);
            });
            self.keeper.counters.timeouts += late as u64;
            if self.open.contains(&connection) {
                self.forget(connection);
                out.push(Effect::Close { connection });
            }
        }
    }
}
