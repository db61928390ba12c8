//! One key: its events, what each had seen for certain and may have seen, and what follows.

use std::collections::BTreeMap;

use super::Cause;
use super::Conflict;
use super::Content;
use super::KeyIndex;
use super::Moment;
use super::Outcome;
use super::Rules;
use super::Session;
use super::Shows;
use super::verdict::Rule;
use super::verdict::Violation;
use crate::sim::events::Events;

/// A get that was begun.
#[derive(Clone, Copy, Debug)]
pub(super) struct Get {
    pub(super) session: Session,
    pub(super) began: Moment,
    pub(super) phase: usize,
}

/// All that was written to a key.
#[derive(Clone, Debug)]
pub struct History {
    key: KeyIndex,
    conflict: Conflict,
    rules: Rules,
    events: Vec<Event>,
    /// Events that may stand somewhere without being shown: all but values that stay. None of them
    /// was refused.
    invisible: Events,
    /// Those that write again the value that they found.
    touches: Events,
    /// Whose values somebody was shown.
    shown: Events,
    tokens: Vec<Token>,
    /// What guaranteed gets had certainly seen, and when they ended, if they write back.
    written_back: Vec<(Moment, Events)>,
    /// What the guaranteed gets of a session had certainly seen.
    sessions: BTreeMap<Session, Events>,
}

/// One write.
#[derive(Clone, Debug)]
struct Event {
    session: Session,
    content: Stored,
    cause: Cause,
    /// What it has certainly superseded, if it is stored; whatever is in it, all that this has
    /// superseded is too.
    must: Events,
    may: May,
    began: Moment,
    ended: Option<Moment>,
    outcome: Option<Outcome>,
    is_excused: bool,
    phase: usize,
}

/// What a write stores.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stored {
    Value,
    Expiring,
    Tombstone,
    Touch,
}

/// What a write may have superseded.
#[derive(Clone, Debug)]
enum May {
    /// Some of these, which never grow.
    Exactly(Events),
    /// Whatever is numbered below: it began before this write was done.
    BegunBefore(u32),
}

/// What the holder of a context has seen, within bounds.
#[derive(Clone, Debug)]
struct Token {
    must: Events,
    may: Events,
}

impl Event {
    fn is_acked(&self) -> bool {
        matches!(self.outcome, Some(Outcome::Acked { .. })) && !self.is_excused
    }

    /// Whether each guaranteed get that begins at this moment has seen it.
    fn is_settled(&self, before: Moment) -> bool {
        let is_guaranteed = matches!(self.outcome, Some(Outcome::Acked { guaranteed: true }));
        is_guaranteed && !self.is_excused && self.ended.is_some_and(|ended| ended < before)
    }

    fn may_be_stored(&self) -> bool {
        !matches!(self.outcome, Some(Outcome::Refused | Outcome::NothingToDo))
    }
}

impl History {
    pub(super) fn new(key: KeyIndex, conflict: Conflict, rules: Rules) -> Self {
        Self {
            key,
            conflict,
            rules,
            events: Vec::new(),
            invisible: Events::default(),
            touches: Events::default(),
            shown: Events::default(),
            tokens: Vec::new(),
            written_back: Vec::new(),
            sessions: BTreeMap::new(),
        }
    }

    /// How many writes were begun.
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Whether there was none.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Whether its loss would be a fault of the cluster: it was acknowledged, or may be yet.
    pub fn is_owed(&self, number: u32) -> bool {
        let event = &self.events[number as usize];
        !event.is_excused && (event.is_acked() || event.outcome.is_none())
    }

    /// What it has certainly superseded.
    pub fn certainly_superseded_by(&self, number: u32) -> &Events {
        &self.events[number as usize].must
    }

    /// All that is known of an event.
    pub fn describe(&self, number: u32) -> String {
        let Event { session, content, cause, began, ended, outcome, must, .. } =
            &self.events[number as usize];
        let ended = ended.map_or("..".to_owned(), |ended| format!("..{ended}"));
        let outcome = outcome.map_or("Pending".to_owned(), |outcome| format!("{outcome:?}"));
        let must: Vec<u32> = must.iter().collect();
        format!(
            "event {number} ({content:?} {cause:?} of session {session}, {began}{ended}, {outcome}, \
             surely saw {must:?})"
        )
    }

    pub(super) fn may_be_stored(&self, number: u32) -> bool {
        self.events[number as usize].may_be_stored()
    }

    pub(super) fn phase_of(&self, number: u32) -> usize {
        self.events[number as usize].phase
    }

    pub(super) fn begin(
        &mut self,
        session: Session,
        content: Content<'_>,
        cause: Cause,
        began: Moment,
        phase: usize,
    ) -> u32 {
        let number = self.begun();
        let content = match content {
            Content::Value(_) => Stored::Value,
            Content::Expiring(_) => Stored::Expiring,
            Content::Tombstone => Stored::Tombstone,
            Content::Touch => Stored::Touch,
        };
        if content != Stored::Value {
            self.invisible.insert(number);
        }
        if content == Stored::Touch {
            assert!(cause.is_plain(), "a touch writes what it finds, so it has seen that");
            self.touches.insert(number);
        }
        let (must, may) = self.past(cause, began);
        let (ended, outcome, is_excused) = (None, None, false);
        self.events.push(Event {
            session,
            content,
            cause,
            must,
            may,
            began,
            ended,
            outcome,
            is_excused,
            phase,
        });
        number
    }

    fn past(&self, cause: Cause, began: Moment) -> (Events, May) {
        let open = May::BegunBefore(u32::MAX);
        match cause {
            Cause::Blind => (Events::default(), May::Exactly(Events::default())),
            Cause::Context(token) => {
                let Token { must, may } = &self.tokens[token.number as usize];
                (must.clone(), May::Exactly(may.clone()))
            }
            Cause::Plain => (Events::default(), open),
            Cause::PlainStrict => (self.settled(began), open),
        }
    }

    /// Returns the number of the context that the acknowledgement carries.
    pub(super) fn end(
        &mut self,
        number: u32,
        outcome: Outcome,
        ended: Moment,
    ) -> Result<Option<u32>, Violation> {
        let begun = self.begun();
        let event = &mut self.events[number as usize];
        assert_eq!(event.outcome, None, "a write ends once");
        (event.outcome, event.ended) = (Some(outcome), Some(ended));
        let cause = event.cause;
        if !event.may_be_stored() {
            self.invisible.remove(number);
            self.touches.remove(number);
            if self.shown.has(number) {
                let why = format!("{} had been answered", self.describe(number));
                return Err(self.violation(Rule::NoPhantom, [number], why));
            }
        }
        if !matches!(outcome, Outcome::Acked { .. }) {
            return Ok(None); // an unknown one may be done at any later moment
        }
        if let May::BegunBefore(bound) = &mut self.events[number as usize].may {
            *bound = begun;
        }
        Ok((!cause.is_plain()).then(|| self.give_token_of(number)))
    }

    /// The context that an acknowledgement returns: what was given, and the write itself.
    fn give_token_of(&mut self, number: u32) -> u32 {
        let event = &self.events[number as usize];
        let (mut must, mut may) = (event.must.clone(), Events::default());
        match (self.conflict, &event.may) {
            // It replaced whatever was there, which its context did not need to know.
            (Conflict::LastWriterWins, _) => may.insert_first(self.begun()),
            (Conflict::Siblings, May::Exactly(events)) => may.join(events),
            (Conflict::Siblings, May::BegunBefore(_)) => unreachable!("no plain write returns one"),
        }
        must.insert(number);
        may.insert(number);
        self.give(Token { must, may })
    }

    fn give(&mut self, token: Token) -> u32 {
        self.tokens.push(token);
        (self.tokens.len() - 1) as u32
    }

    pub(super) fn excuse(&mut self, number: u32) {
        self.events[number as usize].is_excused = true;
        self.written_back.retain(|(_, seen)| !seen.has(number));
        // A strict write that is not surely done may find less than was there when it began.
        for index in 0..self.events.len() {
            let Event { cause, outcome, began, .. } = self.events[index];
            let is_done = matches!(outcome, Some(Outcome::Acked { .. }));
            if cause == Cause::PlainStrict && !is_done {
                self.events[index].must = self.settled(began);
            }
        }
    }

    /// Judges what a get was shown. Returns the number of the context that it was given.
    pub(super) fn judge_get(
        &mut self,
        get: &Get,
        values: &[u32],
        shows: Shows,
        guaranteed: bool,
        ended: Moment,
    ) -> Result<Option<u32>, Violation> {
        let shown = set(values);
        let mut seen = self.certainly_seen(&shown);
        self.check_no_false_conflict(values, &seen, shows)?;
        let settled = if guaranteed { self.settled(get.began) } else { Events::default() };
        seen.join(&settled);
        let explained = self.explained(&shown, shows, &self.superseded_by(seen.iter()));
        self.check_nothing_settled_is_missing(get, &shown, &settled, &explained)?;
        self.check_nothing_settled_is_undone(get, values, &settled)?;
        if guaranteed {
            self.sessions.entry(get.session).or_default().join(&seen);
            let is_excused = |number: u32| self.events[number as usize].is_excused;
            if self.rules.reads_write_back && !seen.iter().any(is_excused) {
                self.written_back.push((ended, seen.clone()));
            }
        }
        self.shown.join(&shown);
        let token = Token { must: seen, may: explained };
        Ok((shows == Shows::All).then(|| self.give(token)))
    }

    /// Judges the read of all replicas at the end.
    pub(super) fn judge_final(&self, values: &[u32]) -> Result<(), Violation> {
        let shown = set(values);
        self.check_no_false_conflict(values, &self.certainly_seen(&shown), Shows::All)?;
        self.check_no_resurrection(values)?;
        match self.conflict {
            Conflict::Siblings => self.check_nothing_lost(&shown),
            Conflict::LastWriterWins => self.check_one_is_left(&shown),
        }
    }

    /// What each guaranteed get that begins at this moment has seen.
    fn settled(&self, before: Moment) -> Events {
        let mut settled = Events::default();
        for (event, number) in self.events.iter().zip(0..) {
            if event.is_settled(before) {
                settled.insert(number);
                settled.join(&event.must);
            }
        }
        for (_, seen) in self.written_back.iter().filter(|(ended, _)| *ended < before) {
            settled.join(seen);
        }
        settled
    }

    /// What an answer that shows these had surely seen. Also if another write only touched one of
    /// them: that had seen it.
    fn certainly_seen(&self, shown: &Events) -> Events {
        let mut seen = shown.clone();
        shown.iter().for_each(|number| seen.join(&self.events[number as usize].must));
        seen
    }

    /// Everything that this answer may have seen, if it has surely seen what superseded these. What
    /// is not shown was superseded by something that is, or by something that cannot be shown.
    fn explained(&self, shown: &Events, shows: Shows, superseded: &Events) -> Events {
        let mut explained = shown.clone();
        let hides_values = match (self.conflict, shows) {
            (Conflict::LastWriterWins, _) => !shown.is_empty() || !self.invisible.is_empty(),
            (Conflict::Siblings, Shows::Latest) => !shown.is_empty(),
            (Conflict::Siblings, Shows::All) => false,
        };
        if hides_values {
            explained.insert_first(self.begun());
            return explained;
        }
        let mut roots = self.invisible.clone();
        roots.drop_all(superseded);
        roots.join(shown);
        explained.join(&roots);
        let mut before = 0;
        for root in roots.iter() {
            match &self.events[root as usize].may {
                May::Exactly(events) => explained.join(events),
                May::BegunBefore(bound) => before = before.max(*bound),
            }
        }
        explained.insert_first(before.min(self.begun()));
        explained
    }

    /// What is certainly superseded wherever these were seen.
    fn superseded_by(&self, seen: impl Iterator<Item = u32>) -> Events {
        let mut superseded = Events::default();
        seen.for_each(|number| superseded.join(&self.events[number as usize].must));
        superseded
    }

    /// Which writes may have stored what this one first wrote.
    fn candidates(&self, value: u32) -> Events {
        let mut candidates = Events::default();
        candidates.insert(value);
        for touch in self.touches.iter() {
            let may_be = match &self.events[touch as usize].may {
                May::Exactly(events) => events.has(value),
                May::BegunBefore(bound) => value < *bound,
            };
            if may_be {
                candidates.insert(touch);
            }
        }
        candidates
    }

    /// The first of these values that stands more often than writes of it can stand.
    fn standing_too_often(&self, values: &[u32], superseded: &Events) -> Option<u32> {
        let is_too_often = |same: &&[u32]| {
            let mut candidates = self.candidates(same[0]);
            candidates.drop_all(superseded);
            candidates.iter().count() < same.len()
        };
        values.chunk_by(|one, other| one == other).find(is_too_often).map(|same| same[0])
    }

    /// Which of these has surely seen a write of the value.
    fn first_to_supersede(&self, value: u32, mut seen: impl Iterator<Item = u32>) -> u32 {
        let candidates = self.candidates(value);
        let has_seen = |number: &u32| {
            let must = &self.events[*number as usize].must;
            candidates.iter().any(|candidate| must.has(candidate))
        };
        seen.find(has_seen).expect("what is superseded was superseded by something")
    }

    /// I3: nothing is shown beside what has surely seen it, and nothing twice.
    fn check_no_false_conflict(
        &self,
        values: &[u32],
        seen: &Events,
        shows: Shows,
    ) -> Result<(), Violation> {
        let is_one = shows == Shows::Latest || self.conflict == Conflict::LastWriterWins;
        if is_one && values.len() > 1 {
            let why = format!("one value at most is shown: {}", self.describe_all(values));
            return Err(self.violation(Rule::NoFalseConflict, values.iter().copied(), why));
        }
        let superseded = self.superseded_by(seen.iter());
        let Some(wrong) = self.standing_too_often(values, &superseded) else { return Ok(()) };
        let text = self.describe(wrong);
        let why = format!("{text} is shown in {}", self.describe_all(values));
        Err(self.violation(Rule::NoFalseConflict, values.iter().copied(), why))
    }

    /// I8, I9: what a quorum acknowledged before this get began is shown, or superseded by
    /// something that may be in the answer.
    fn check_nothing_settled_is_missing(
        &self,
        get: &Get,
        shown: &Events,
        settled: &Events,
        explained: &Events,
    ) -> Result<(), Violation> {
        let mut missing = settled.clone();
        missing.drop_all(explained);
        let Some(first) = missing.iter().next() else { return Ok(()) };
        let rule = self.promise(get, first);
        let text = self.describe(first);
        let shown: Vec<u32> = shown.iter().collect();
        let why = format!(
            "{text} was settled before a get of session {} began at {}, whose answer has not seen \
             it: {}",
            get.session,
            get.began,
            self.describe_all(&shown)
        );
        Err(self.violation(rule, [first], why))
    }

    /// I7, I8, I9: what a write had surely seen that a quorum acknowledged before this get began is
    /// not shown.
    fn check_nothing_settled_is_undone(
        &self,
        get: &Get,
        values: &[u32],
        settled: &Events,
    ) -> Result<(), Violation> {
        let superseded = self.superseded_by(settled.iter());
        let Some(wrong) = self.standing_too_often(values, &superseded) else { return Ok(()) };
        let by = self.first_to_supersede(wrong, settled.iter());
        let event = &self.events[by as usize];
        let is_own_delete = event.content == Stored::Tombstone && event.session == get.session;
        let rule = if is_own_delete { Rule::NoResurrection } else { self.promise(get, by) };
        let why = format!(
            "{} is shown to session {} by a get that began at {}, after {}",
            self.describe(wrong),
            get.session,
            get.began,
            self.describe(by)
        );
        Err(self.violation(rule, [wrong, by], why))
    }

    /// Which promise it was that this get sees the event.
    fn promise(&self, get: &Get, number: u32) -> Rule {
        let wrote = |event: &Event, own: u32| {
            let is_own = event.session == get.session && event.is_settled(get.began);
            is_own && (own == number || event.must.has(number))
        };
        let has_written = self.events.iter().zip(0..).any(|(event, own)| wrote(event, own));
        let has_seen = self.sessions.get(&get.session).is_some_and(|seen| seen.has(number));
        if has_written || has_seen { Rule::Session } else { Rule::Register }
    }

    /// I7: nothing is left that an acknowledged write has surely seen. So a key is empty if one
    /// acknowledged delete has surely seen all else.
    fn check_no_resurrection(&self, values: &[u32]) -> Result<(), Violation> {
        let superseded = self.superseded_by(self.acked());
        let Some(wrong) = self.standing_too_often(values, &superseded) else { return Ok(()) };
        let by = self.first_to_supersede(wrong, self.acked());
        let why = format!("{} is back after {}", self.describe(wrong), self.describe(by));
        Err(self.violation(Rule::NoResurrection, [wrong, by], why))
    }

    /// I1: what was acknowledged is left, or was superseded by what is left, or by something that
    /// cannot be shown.
    fn check_nothing_lost(&self, shown: &Events) -> Result<(), Violation> {
        let mut seen = self.certainly_seen(shown);
        self.acked().for_each(|number| seen.insert(number));
        let explained = self.explained(shown, Shows::All, &self.superseded_by(seen.iter()));
        let Some(lost) = self.acked().find(|number| !explained.has(*number)) else { return Ok(()) };
        let left: Vec<u32> = shown.iter().collect();
        let why = format!(
            "{} is gone, and nothing that is left has seen it: {}",
            self.describe(lost),
            self.describe_all(&left)
        );
        Err(self.violation(Rule::NothingLost, [lost], why))
    }

    /// I1 where the last writer wins: if values alone were written, one is left.
    fn check_one_is_left(&self, shown: &Events) -> Result<(), Violation> {
        let Some(acked) = self.acked().next() else { return Ok(()) };
        if !shown.is_empty() || !self.invisible.is_empty() {
            return Ok(());
        }
        let why = format!("nothing is left, and nothing was deleted: {}", self.describe(acked));
        Err(self.violation(Rule::NothingLost, [acked], why))
    }

    fn begun(&self) -> u32 {
        self.events.len() as u32
    }

    fn acked(&self) -> impl Iterator<Item = u32> + '_ {
        let acked = self.events.iter().zip(0..).filter(|(event, _)| event.is_acked());
        acked.map(|(_, number)| number)
    }

    fn describe_all(&self, numbers: &[u32]) -> String {
        let texts: Vec<String> = numbers.iter().map(|number| self.describe(*number)).collect();
        if texts.is_empty() { "nothing".to_owned() } else { texts.join(", ") }
    }

    fn violation(
        &self,
        rule: Rule,
        events: impl IntoIterator<Item = u32>,
        why: String,
    ) -> Violation {
        Violation { rule, key: self.key, events: events.into_iter().collect(), why }
    }
}

fn set(numbers: &[u32]) -> Events {
    let mut events = Events::default();
    numbers.iter().for_each(|number| events.insert(*number));
    events
}
