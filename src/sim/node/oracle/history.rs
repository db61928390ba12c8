//! One key's operations, and whether some order of them explains every answer.
//!
//! An operation may have run at any moment between its arrival and its answer, once; operations of
//! one connection run in the order in which they came. All orders are tried, as far as the answers
//! leave several: each leaves a [`Way`] that the key may have gone.

use std::hash::Hash;
use std::hash::Hasher;
use std::rc::Rc;

use super::Operation;
use super::state::Event;
use super::state::Moment;
use super::state::OperationId;
use super::state::Rules;
use super::state::State;
use super::values::Values;

/// Ways that are looked at before the judge gives up. Of a buffered key each order of its writes is
/// another past, and half a dozen that were never answered have thousands. Few seeds get here.
const WAYS_MAX: usize = 20_000;

/// The last write of a buffered key, and the key before it.
#[derive(Debug)]
pub(super) struct Step {
    operation: OperationId,
    before: State,
    earlier: Option<Rc<Step>>,
}

/// Between which moments the log was cut, if a key came back in this way.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Cut {
    /// The last write that survived had come by then.
    pub(super) after: Moment,
    /// The first that was lost had been answered by then.
    pub(super) before: Moment,
}

impl Cut {
    pub(super) const ANYWHERE: Self = Self { after: 0, before: Moment::MAX };
}

/// One way that a key may have gone.
#[derive(Clone, Debug)]
pub(super) struct Way {
    /// Operations under way that have had their effect, or never will.
    done: Vec<OperationId>,
    pub(super) state: State,
    steps: Option<Rc<Step>>,
    pub(super) cut: Cut,
}

impl PartialEq for Way {
    fn eq(&self, other: &Self) -> bool {
        let mut steps = (&self.steps, &other.steps);
        while let (Some(own), Some(others)) = steps {
            if Rc::ptr_eq(own, others) {
                steps = (&None, &None);
                break;
            }
            if own.operation != others.operation || own.before != others.before {
                return false;
            }
            steps = (&own.earlier, &others.earlier);
        }
        steps.0.is_none() == steps.1.is_none()
            && (self.cut, &self.done) == (other.cut, &other.done)
            && self.state == other.state
    }
}

impl Eq for Way {}

impl Hash for Way {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.cut, &self.done, &self.state).hash(state);
    }
}

#[derive(Clone, Copy, Debug)]
enum Mark {
    Came(OperationId),
    Answered(OperationId),
}

/// What the oracle lends to a history.
pub(super) struct Lent<'a> {
    pub(super) operations: &'a [Operation],
    pub(super) values: &'a Values,
    pub(super) rules: Rules,
}

#[derive(Debug)]
pub(super) struct History {
    pub(super) ways: Vec<Way>,
    marks: Vec<Mark>,
    /// Operations that came and have neither answer nor end.
    open: usize,
    /// Operations that came and were looked at.
    present: Vec<OperationId>,
    /// The last answers, for whoever wants to understand a failure.
    told: Vec<OperationId>,
    pub(super) buffered: bool,
    /// The disk was harmed at some time.
    harmed: bool,
    /// Its core knows that records of unknown keys were lost: it keeps all tombstones.
    keeps_tombstones: bool,
    /// There were too many ways: it goes none any more, and whatever it answers is believed.
    pub(super) undecided: bool,
}

impl History {
    pub(super) fn new(buffered: bool) -> Self {
        let cut = Cut::ANYWHERE;
        let way = Way { done: Vec::new(), state: State::default(), steps: None, cut };
        let (marks, present, told) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            ways: vec![way],
            marks,
            open: 0,
            present,
            told,
            buffered,
            harmed: false,
            keeps_tombstones: false,
            undecided: false,
        }
    }

    /// Operations that may still have an effect.
    pub(super) fn pending(&self) -> usize {
        self.open + self.present.len()
    }

    /// Whether every operation that came has an end.
    pub(super) fn is_settled(&self) -> bool {
        self.pending() == 0 && self.marks.is_empty()
    }

    /// Whether its record is damaged, or may be.
    pub(super) fn may_be_damaged(&self) -> bool {
        self.undecided || self.ways.iter().any(|way| self.may_find_damaged(&way.state))
    }

    pub(super) fn came(&mut self, operation: OperationId) {
        self.open += 1;
        self.marks.push(Mark::Came(operation));
    }

    /// It was answered. Looks at what can be looked at.
    pub(super) fn answered(&mut self, operation: OperationId, lent: &Lent<'_>) {
        self.marks.push(Mark::Answered(operation));
        self.ended(lent);
    }

    /// It will never be answered: it may yet have an effect.
    pub(super) fn ended(&mut self, lent: &Lent<'_>) {
        self.open -= 1;
        if self.open == 0 {
            self.look(lent);
        }
    }

    fn look(&mut self, lent: &Lent<'_>) {
        for mark in std::mem::take(&mut self.marks) {
            match mark {
                Mark::Came(id) => {
                    if lent.operations[id as usize].may_have_effect() {
                        self.present.push(id);
                    }
                }
                Mark::Answered(id) => self.close(id, lent),
            }
        }
        self.forget_tokens(lent);
    }

    /// Keeps the ways in which this operation has run by now.
    fn close(&mut self, id: OperationId, lent: &Lent<'_>) {
        if !self.present.contains(&id) {
            return;
        }
        if self.undecided {
            return self.present.retain(|other| *other != id);
        }
        self.told.push(id);
        let mut kept = Vec::new();
        let mut open: Vec<Way> = self.ways.clone();
        let mut seen: ahash::HashSet<Way> = open.iter().cloned().collect();
        while let Some(way) = open.pop() {
            if way.done.contains(&id) {
                kept.push(way);
                continue;
            }
            for next in self.next(&way, lent) {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
            if seen.len() > WAYS_MAX {
                self.give_up();
                return self.present.retain(|other| *other != id);
            }
        }
        if kept.is_empty() {
            self.fail(id, lent);
        }
        self.present.retain(|other| *other != id);
        for way in &mut kept {
            way.done.retain(|other| *other != id);
        }
        self.ways = unique(kept);
    }

    /// Nothing is decided about this key from now on. It is counted: see [`super::Oracle::undecided`].
    fn give_up(&mut self) {
        (self.undecided, self.ways) = (true, Vec::new());
    }

    /// The ways on from here by one more operation.
    fn next(&self, way: &Way, lent: &Lent<'_>) -> Vec<Way> {
        let mut ways = Vec::new();
        for id in &self.present {
            let operation = &lent.operations[*id as usize];
            let is_first = self.present.iter().all(|other| {
                let before = &lent.operations[*other as usize];
                let in_order = operation.connection.is_some();
                let before_it = in_order && before.connection == operation.connection && other < id;
                !before_it || way.done.contains(other)
            });
            if way.done.contains(id) || !is_first {
                continue;
            }
            let mut done = way.done.clone();
            done.push(*id);
            done.sort_unstable();
            for (state, cut) in self.states(way, *id, operation, lent) {
                let steps = if self.buffered && operation.command.writes() {
                    let (before, earlier) = (way.state.clone(), way.steps.clone());
                    Some(Rc::new(Step { operation: *id, before, earlier }))
                } else {
                    way.steps.clone()
                };
                ways.push(Way { done: done.clone(), state, steps, cut });
            }
            if operation.may_have_none() {
                ways.push(Way { done, ..way.clone() });
            }
        }
        ways
    }

    /// What the operation may leave, and what that says of where the log was cut.
    fn states(
        &self,
        way: &Way,
        id: OperationId,
        operation: &Operation,
        lent: &Lent<'_>,
    ) -> Vec<(State, Cut)> {
        let may_be_damaged = self.may_find_damaged(&way.state);
        if operation.met_damage() {
            // It may yet be read: from a copy, or from an index that says that it was deleted.
            let as_it_was = may_be_damaged.then(|| (way.state.clone(), Cut::ANYWHERE));
            return as_it_was.into_iter().collect();
        }
        let as_known = self.states_from(&way.state, id, operation, lent);
        let mut all: Vec<_> = as_known.into_iter().map(|state| (state, way.cut)).collect();
        if may_be_damaged {
            let after = self.states_from(&way.state.as_damaged(), id, operation, lent);
            all.extend(after.into_iter().map(|state| (state, Cut::ANYWHERE)));
        }
        all
    }

    fn states_from(
        &self,
        state: &State,
        id: OperationId,
        operation: &Operation,
        lent: &Lent<'_>,
    ) -> Vec<State> {
        let event = Event {
            id,
            number: operation.event,
            came: operation.came,
            ended: operation.ended,
            walls: operation.walls,
        };
        let (command, said) = (operation.command, operation.said());
        let mut states = state.after(event, command, said, lent.rules, lent.values);
        if operation.may_have_none() {
            // Nobody was given its context.
            states.iter_mut().for_each(|state| {
                state.tokens.remove(&id);
            });
        }
        states
    }

    /// Everything that can still have an effect has had it, or never will.
    pub(super) fn settle(&mut self, lent: &Lent<'_>) {
        assert_eq!(self.open, 0, "an operation has no end");
        self.look(lent);
        let mut all = Vec::new();
        let mut open = std::mem::take(&mut self.ways);
        let mut seen: ahash::HashSet<Way> = open.iter().cloned().collect();
        while let Some(way) = open.pop() {
            for next in self.next(&way, lent) {
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
            if seen.len() > WAYS_MAX {
                self.give_up();
                return self.present.clear();
            }
            all.push(way);
        }
        for way in &mut all {
            way.done.clear();
        }
        self.present.clear();
        self.ways = unique(all);
    }

    /// The process ended: a buffered key may have lost its last writes, but none that is `certain`.
    pub(super) fn cut(&mut self, operations: &[Operation], certain: impl Fn(&Operation) -> bool) {
        let came = |step: &Option<Rc<Step>>| {
            step.as_ref().map_or(0, |step| operations[step.operation as usize].came)
        };
        let mut all = Vec::new();
        for mut way in std::mem::take(&mut self.ways) {
            let mut step = way.steps.take();
            if way.cut == Cut::ANYWHERE {
                way.cut.after = came(&step);
            }
            let tokens = way.state.tokens.clone();
            all.push(way);
            while let Some(last) = step {
                let operation = &operations[last.operation as usize];
                if operation.has_effect() && certain(operation) {
                    break;
                }
                let answered = if operation.has_effect() { operation.ended } else { Moment::MAX };
                let cut = Cut { after: came(&last.earlier), before: answered };
                let mut state = last.before.clone();
                state.tokens.clone_from(&tokens);
                all.push(Way { done: Vec::new(), state, steps: None, cut });
                step = last.earlier.clone();
            }
        }
        self.ways = unique(all);
    }

    /// Whether its record may be found damaged from now on, after some harm. Harm shows itself late:
    /// when a record is read, or a segment. What was written since is safe from it; a deleted key
    /// is so only as long as its tombstone is kept.
    fn may_find_damaged(&self, state: &State) -> bool {
        let forgets = !self.keeps_tombstones && !state.is_counted();
        self.harmed && (state.exposed || forgets)
    }

    /// Its core found that records of unknown keys were lost: what it does not know by now may have
    /// been among them, and from now on it knows what is deleted.
    pub(super) fn lost(&mut self) {
        self.keeps_tombstones = true;
        for way in &mut self.ways {
            way.state.exposed |= !way.state.is_counted();
        }
        self.ways = unique(std::mem::take(&mut self.ways));
    }

    /// Its record may have been harmed on the disk.
    pub(super) fn harm(&mut self) {
        self.harmed = true;
        for way in &mut self.ways {
            way.state.exposed = true;
        }
        self.ways = unique(std::mem::take(&mut self.ways));
    }

    /// Where the log was cut is known, or does not matter any more.
    pub(super) fn forget_cut(&mut self) {
        for way in &mut self.ways {
            way.cut = Cut::ANYWHERE;
            way.steps = None;
            way.state.forget_superseded();
        }
        self.ways = unique(std::mem::take(&mut self.ways));
    }

    /// Forgets the steps before writes that are certain to be durable.
    pub(super) fn forget_steps(&mut self, is_old: impl Fn(OperationId) -> bool) {
        let mut changed = false;
        for way in &mut self.ways {
            if way.steps.as_ref().is_some_and(|step| is_old(step.operation)) {
                way.steps = None;
                way.state.forget_superseded();
                changed = true;
            }
        }
        if changed {
            self.ways = unique(std::mem::take(&mut self.ways));
        }
    }

    /// Forgets what contexts saw that nobody holds any more.
    fn forget_tokens(&mut self, lent: &Lent<'_>) {
        let used = |id: &OperationId| lent.operations[*id as usize].token_is_held;
        for way in &mut self.ways {
            way.state.tokens.retain(|id, _| used(id));
        }
    }

    fn fail(&self, id: OperationId, lent: &Lent<'_>) -> ! {
        let mut lines = Vec::new();
        for id in self.told.iter().rev().take(12).rev().chain(&self.present) {
            lines.push(format!("  {id}: {:?}", lent.operations[*id as usize]));
        }
        let states: Vec<String> = self
            .ways
            .iter()
            .take(12)
            .map(|way| format!("  {:?} {:?} {:?}", way.done, way.cut, way.state))
            .collect();
        panic!(
            "nothing explains operation {id}: {:?}\nof these {} ways of a key that is {}:\n{}\nafter:\n{}",
            lent.operations[id as usize],
            self.ways.len(),
            if self.buffered { "buffered" } else { "synced" },
            states.join("\n"),
            lines.join("\n")
        );
    }
}

fn unique(ways: Vec<Way>) -> Vec<Way> {
    let mut seen = ahash::HashSet::default();
    ways.into_iter().filter(|way| seen.insert(way.clone())).collect()
}
