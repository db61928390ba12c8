//! What clients are told: one reply for each request, in order, and only what may be told.

use super::World;
use super::clients::BUFFERED_MAX;
use super::clients::cause_of;
use crate::base::id::ConnectionId;
use crate::base::time::Duration;
use crate::sim::coverage::Sometimes;
use crate::sim::node::keys::KeyIndex;
use crate::sim::node::link::Asked;
use crate::sim::node::link::Ending;
use crate::sim::node::link::Part;
use crate::sim::node::oracle::End;
use crate::sim::node::oracle::state::Command;
use crate::sim::node::oracle::state::OperationId;
use crate::sim::node::oracle::state::Said;
use crate::sim::resp;
use crate::sim::resp::Reply;

/// What one session may hold beside what is counted when a request is taken.
const SLACK_BYTES: i64 = 256 * 1024;

/// How late a request may be told that it is: a shard looks every tenth of a second, and the word may
/// have to cross to another core.
const LATENESS: Duration = Duration::from_millis(102);

impl World {
    /// A shard sends bytes: the client is told now, whenever it reads them.
    pub(super) fn on_sent_by(&mut self, shard: usize, connection: ConnectionId, bytes: &[u8]) {
        self.trace.bytes(bytes);
        let now = self.now;
        let Some(link) = self.links.get_mut(&connection) else { return };
        assert_eq!(link.shard, shard, "a shard sends to another's client");
        assert!(!link.closing, "something is sent after the end");
        if link.unsent == 0 {
            link.sent_at = link.sent_at.max(now);
        }
        link.unsent += bytes.len();
        link.inbox.extend_from_slice(bytes);
        while let Some(link) = self.links.get_mut(&connection)
            && let Some((reply, length)) = resp::parse(&link.inbox)
        {
            link.inbox.drain(..length);
            let request = link.requests.pop_front();
            let request = request.unwrap_or_else(|| panic!("nobody asked for {reply:?}"));
            assert!(request.arrived, "{reply:?} to {request:?}, which is not all there");
            let waited = now.since(request.arrived_at);
            let most = self.plan.request_timeout + LATENESS;
            assert!(waited <= most, "{:?}: {reply:?} after {waited:?}", request.asked);
            let client = link.client;
            self.tell(|| format!("{connection} {:?}: {reply:?}", request.asked));
            self.judge_existing(&request.asked, &reply);
            let is_left = self.clients[client].link != Some(connection);
            if is_left && matches!(request.asked, Asked::Scan(_)) {
                continue; // a client that half-closed walks anew on its next connection
            }
            self.judge(client, request.asked, reply);
        }
    }

    /// A shard lets a connection go: only one that was half-closed, and when all is answered.
    pub(super) fn on_close(&mut self, connection: ConnectionId) {
        let link = self.links.get_mut(&connection).expect("a connection that is open");
        assert_eq!(link.ending, Ending::HalfClosed, "{connection} is closed, and nobody asked");
        assert!(link.requests.is_empty(), "closed without an answer to {:?}", link.requests);
        link.closing = true;
        link.sent_at = link.sent_at.max(self.now);
    }

    fn judge(&mut self, client: usize, asked: Asked, reply: Reply) {
        match (asked, reply) {
            (Asked::Keys(parts), reply) => self.judge_keys(client, &parts, reply),
            (Asked::ForeignContext, reply) => {
                let Reply::Error(error) = reply else { panic!("a foreign context: {reply:?}") };
                let other = ["BUSY", "READONLY", "OOM", "TIMEOUT"];
                let refused = other.iter().any(|word| error.starts_with(word))
                    || (error.starts_with("ERR the record") && self.may_refuse(&error));
                assert!(error.starts_with("BADCONTEXT") || refused, "a foreign context: {error}");
            }
            (Asked::Nothing, _) => {}
            (Asked::DbSize | Asked::CountSlot(_), Reply::Integer(count)) => {
                let most = self.keys.len() as i64;
                assert!((0..=most).contains(&count), "{count} of {most} keys");
                self.counted = Some(count);
            }
            (Asked::Stats, Reply::Array(rows)) => self.judge_stats(&rows),
            (Asked::Scan(_), Reply::Array(step)) => self.judge_step(client, step),
            (asked, Reply::Error(error)) => {
                if matches!(asked, Asked::Scan(_)) {
                    self.clients[client].walk = None;
                }
                assert!(self.may_refuse(&error), "{asked:?}: {error}");
            }
            (asked, reply) => panic!("{asked:?}: {reply:?}"),
        }
    }

    fn judge_keys(&mut self, client: usize, parts: &[Part], reply: Reply) {
        let ends: Vec<End> = match (&reply, parts) {
            (Reply::Error(error), [part]) => vec![self.end_of_error(part, error)],
            (Reply::Error(error), parts) => {
                self.check_error_of_several(error);
                let is_open = error.starts_with("TIMEOUT") || error.starts_with("UNKNOWN");
                let end = |part: &Part| match is_open && part.command.writes() {
                    true => End::Unknown,
                    false => End::Refused,
                };
                parts.iter().map(end).collect()
            }
            (reply, [part]) if part.command != Command::Get || !is_array(reply) => {
                vec![End::Said(self.said(part, reply))]
            }
            (Reply::Array(values), parts) => {
                assert_eq!(values.len(), parts.len(), "a value for each key");
                let each = parts.iter().zip(values);
                each.map(|(part, value)| End::Said(self.said(part, value))).collect()
            }
            (Reply::Integer(sum), parts) => {
                let all = parts.len() as i64;
                assert!((0..=all).contains(sum), "{sum} of {all} keys");
                let said = match *sum {
                    0 => Said::Integer(0),
                    sum if sum == all => Said::Integer(1),
                    _ => Said::Anything,
                };
                vec![End::Said(said); parts.len()]
            }
            (reply, parts) => parts.iter().map(|part| End::Said(self.said(part, reply))).collect(),
        };
        for (part, end) in parts.iter().zip(ends) {
            let id = part.id.expect("it arrived");
            let is_told = matches!(end, End::Said(_) | End::Damaged) || self.is_unreadable(&reply);
            self.keep_token(part.key, id, &reply);
            if self.keys[part.key].buffered && part.command.writes() {
                // An unknown outcome doubles the ways that a key may have gone.
                self.doubts[part.key] += if end == End::Unknown { 10 } else { 1 };
                self.draining |= self.doubts[part.key] >= BUFFERED_MAX && !self.faults_are_over;
            }
            self.operations += u64::from(matches!(end, End::Said(_)));
            self.end_part(part, end);
            if let Some(token) = cause_of(part.command) {
                self.release_token(part.key, token);
            }
            self.verified(client, part.key, is_told);
        }
    }

    fn end_part(&mut self, part: &Part, end: End) {
        let id = part.id.expect("it arrived");
        self.open.remove(&id);
        self.in_flight[part.key] -= 1;
        self.oracle.ended(id, end, self.wall(), self.now);
    }

    /// A walk that tells a key, and the count of a slot that has only one, are each an `EXISTS` of
    /// the key: not of what a crash may take back, nor without what it may bring back.
    fn judge_existing(&mut self, asked: &Asked, reply: &Reply) {
        if matches!(asked, Asked::Keys(_)) {
            return;
        }
        for part in asked.parts() {
            let told = match reply {
                Reply::Integer(count) => Some(*count),
                Reply::Array(step) => {
                    let name = Reply::Bulk(Some(self.keys[part.key].name.clone()));
                    let Some(Reply::Array(keys)) = step.get(1) else { panic!("a step: {step:?}") };
                    keys.contains(&name).then_some(1)
                }
                _ => None,
            };
            // A walk passes over what it cannot read, and an `EXISTS` does not.
            let is_sound =
                self.plan.dials.read_failure_one_in == 0 && !self.oracle.may_be_damaged(part.key);
            let end = match told.filter(|_| is_sound) {
                Some(number) => {
                    self.coverage.note(Sometimes::WalkMetWrite);
                    End::Said(Said::Integer(number))
                }
                None => End::Refused,
            };
            self.oracle.token_dropped(part.id.expect("it arrived"));
            self.end_part(part, end);
        }
    }

    /// A record that cannot be read says so again and again: it is not asked for ever.
    fn is_unreadable(&mut self, reply: &Reply) -> bool {
        let Reply::Error(error) = reply else { return false };
        error.starts_with("ERR the record") && self.rng.chance(1, 10)
    }

    fn keep_token(&mut self, key: KeyIndex, id: OperationId, reply: &Reply) {
        let token = match (self.oracle.operation(id).command, reply) {
            (Command::DynGet, Reply::Array(answer)) => answer.first(),
            (Command::DynPut { .. } | Command::DynDel(_), reply) => Some(reply),
            _ => None,
        };
        match token {
            Some(Reply::Bulk(Some(token))) => {
                self.tokens.keep(key, id, token.clone());
                self.held_tokens.insert((key, id));
            }
            _ => self.oracle.token_dropped(id),
        }
        let tokens = &self.tokens;
        let (oracle, uses) = (&mut self.oracle, &self.token_uses);
        self.held_tokens.retain(|(key, id)| {
            let is_held = tokens.holds(*key, *id) || uses.contains_key(id);
            if !is_held {
                oracle.token_dropped(*id);
            }
            is_held
        });
    }

    /// One use of a context less.
    pub(super) fn release_token(&mut self, _key: KeyIndex, token: OperationId) {
        let uses = self.token_uses.get_mut(&token).expect("it was used");
        *uses -= 1;
        if *uses == 0 {
            self.token_uses.remove(&token);
        }
    }

    /// Nothing is under way: contexts count only where clients hold them.
    pub(super) fn forget_tokens(&mut self) {
        self.token_uses.clear();
    }

    fn said(&self, part: &Part, reply: &Reply) -> Said {
        let recognise = |bytes: &[u8]| self.oracle.values.recognise(part.key, bytes);
        match (part.command, reply) {
            (Command::DynGet, Reply::Array(answer)) => {
                let [Reply::Bulk(Some(_)), Reply::Array(values)] = &answer[..] else {
                    panic!("{:?}: {answer:?}", part.command)
                };
                let value = |reply: &Reply| match reply {
                    Reply::Bulk(Some(bytes)) => recognise(bytes),
                    other => panic!("a sibling: {other:?}"),
                };
                let mut values: Vec<u32> = values.iter().map(value).collect();
                values.sort_unstable();
                Said::Siblings(values)
            }
            (Command::DynPut { .. } | Command::DynDel(_), Reply::Bulk(Some(_))) => Said::Context,
            (_, Reply::Simple(text)) if text == b"OK" => Said::Ok,
            (_, Reply::Integer(number)) => Said::Integer(*number),
            (_, Reply::Bulk(bytes)) => Said::Value(bytes.as_deref().map(recognise)),
            (command, reply) => panic!("{command:?}: {reply:?}"),
        }
    }

    fn end_of_error(&mut self, part: &Part, error: &str) -> End {
        self.check_error(error);
        if error.starts_with("ERR the record") && self.plan.dials.read_failure_one_in == 0 {
            return End::Damaged;
        }
        let is_open = error.starts_with("TIMEOUT") || error.starts_with("UNKNOWN");
        if is_open && part.command.writes() { End::Unknown } else { End::Refused }
    }

    fn check_error(&mut self, error: &str) {
        assert!(self.may_refuse(error), "an error that nothing excuses: {error}");
    }

    /// An unknown outcome of several keys may be one that was refused, beside others that were not.
    fn check_error_of_several(&mut self, error: &str) {
        let refused = error.starts_with("UNKNOWN").then(|| error.split_once("of another: "));
        match refused.flatten() {
            Some((_, why)) => {
                self.coverage.note(Sometimes::PartlyStored);
                self.check_error(why);
            }
            None => self.check_error(error),
        }
    }

    /// Whether the node has an excuse for this error.
    fn may_refuse(&mut self, error: &str) -> bool {
        self.last_error = error.to_owned();
        let failed = self.failures() > self.failures_at_start;
        let (what, excused) = match error.split(' ').next().expect("a word") {
            "TIMEOUT" => {
                let is_slow = self.plan.stall_one_in > 0 || self.plan.dials.slow_one_in > 0;
                (Sometimes::TimedOut, is_slow)
            }
            "UNKNOWN" => {
                self.poisoned = true;
                (Sometimes::OutcomeUnknown, failed)
            }
            "READONLY" if error.contains("failed") => {
                self.poisoned = true;
                (Sometimes::Poisoned, failed)
            }
            "READONLY" => (Sometimes::BecameReadOnly, failed),
            "BUSY" => (Sometimes::Busy, true),
            "OOM" => (Sometimes::OutOfMemory, self.plan.memory_bytes_max < 1 << 20),
            "TOOBIG" => (Sometimes::TooBig, true),
            _ if error.starts_with("ERR the record") => {
                let read_failed = self.plan.dials.read_failure_one_in > 0;
                (Sometimes::FoundDamaged, self.oracle.harm > 0 || read_failed)
            }
            _ => (Sometimes::TooManySiblings, error.starts_with("ERR the key has")),
        };
        self.coverage.note(what);
        excused
    }

    fn judge_stats(&mut self, rows: &[Reply]) {
        let get = |name: &str| {
            let at = rows.iter().position(|row| *row == Reply::Bulk(Some(name.into())));
            let at = at.unwrap_or_else(|| panic!("no {name} in the counts"));
            let Reply::Integer(count) = rows[at + 1] else { panic!("{name} is no number") };
            count
        };
        let most = self.plan.memory_bytes_max as i64 + SLACK_BYTES;
        let held = get("client_bytes");
        assert!(held <= most * i64::from(self.plan.shards), "{held} bytes are held for clients");
        self.parked = Some(get("parked"));
    }

    fn judge_step(&mut self, client: usize, step: Vec<Reply>) {
        let [Reply::Bulk(Some(cursor)), Reply::Array(keys)] = &step[..] else {
            panic!("a step of a walk: {step:?}")
        };
        let Some(walk) = &mut self.clients[client].walk else { return };
        for key in keys {
            let Reply::Bulk(Some(name)) = key else { panic!("a key: {key:?}") };
            let found = self.keys.iter().position(|key| key.name == *name);
            let key = found.unwrap_or_else(|| panic!("{name:?} was never a key"));
            walk.met[key] += 1;
        }
        walk.cursor.clone_from(cursor);
        walk.waits = false;
        if cursor == b"0" {
            self.judge_walk(client);
        }
    }

    /// A walk is over: each key that was there all the time was met once.
    fn judge_walk(&mut self, client: usize) {
        let walk = self.clients[client].walk.take().expect("it is over");
        self.coverage.note(Sometimes::Walked);
        for (key, (met, (existed, operations))) in walk.met.iter().zip(&walk.began).enumerate() {
            assert!(*met <= 1, "key {key} was met {met} times");
            let untouched = self.oracle.operations_of(key) == *operations;
            let read_failures = self.plan.dials.read_failure_one_in > 0;
            if let (Some(existed), true, false) = (existed, untouched, read_failures) {
                self.coverage.note(Sometimes::WalkWasExact);
                assert_eq!(*met == 1, *existed, "key {key} in a walk");
            }
        }
        self.walks += 1;
    }
}

fn is_array(reply: &Reply) -> bool {
    matches!(reply, Reply::Array(_))
}
