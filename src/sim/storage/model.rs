//! What a store must answer: every operation in a list, and the state after each prefix of it.
//!
//! The model knows nothing of segments, batches or checksums. It knows what was applied in which
//! order, how much of it was called synced, and that a crash may take a tail and nothing else.

/// Names a key of the workload.
pub type KeyIndex = usize;

/// Names an operation. Its number is in the value that it wrote.
pub type OperationIndex = u32;

/// Values are at least this long, so that each says which operation wrote it.
pub const VALUE_BYTES_MIN: usize = 8;

/// What a store said of a key.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answer {
    /// It holds what this operation wrote.
    Value(OperationIndex),
    /// This operation deleted it.
    Deleted(OperationIndex),
    /// There is no such key.
    Absent,
    /// Something is there and cannot be read.
    Damaged,
}

/// An answer, and whether the store admits that it may not be the last word.
#[derive(Clone, Copy, Debug)]
pub struct Testimony {
    /// What it said.
    pub answer: Answer,
    /// Whether records of unknown keys were lost that may be newer than this one.
    pub suspect: bool,
}

#[derive(Clone, Copy, Debug)]
struct Operation {
    key: KeyIndex,
    length: usize,
    tombstone: bool,
    /// How often the disk had been harmed when it was applied.
    harm: u32,
}

/// The last operation of a key that counts; `None`: none ever did.
type State = Option<OperationIndex>;

/// How much of a run came back.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Recovered {
    /// Operations that the run had applied.
    pub applied: usize,
    /// The fewest and the most of them that explain the answers.
    pub prefix: (usize, usize),
    /// How many had to be there.
    pub synced: usize,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Model {
    /// Whether keys share hashes.
    collides: bool,
    operations: Vec<Operation>,
    /// For each key the states that it may be in: one, unless damage hid which.
    states: Vec<Vec<State>>,
    /// The states when the present run of the store began.
    base: Vec<Vec<State>>,
    /// What the present run applied, with the store's numbers.
    run: Vec<(OperationIndex, u64)>,
    synced: usize,
    harm: u32,
}

impl Model {
    /// No key was ever written.
    pub fn new(keys: usize, collides: bool) -> Self {
        Self {
            collides,
            operations: Vec::new(),
            states: vec![vec![None]; keys],
            base: vec![vec![None]; keys],
            run: Vec::new(),
            synced: 0,
            harm: 0,
        }
    }

    /// Begins an operation: its number, and the value that it writes.
    pub fn propose(&mut self, key: KeyIndex, length: usize, tombstone: bool) -> OperationIndex {
        let operation = Operation { key, length, tombstone, harm: self.harm };
        self.operations.push(operation);
        (self.operations.len() - 1) as OperationIndex
    }

    /// The bytes that an operation writes.
    pub fn value(&self, index: OperationIndex, into: &mut Vec<u8>) {
        let operation = &self.operations[index as usize];
        into.clear();
        into.extend_from_slice(&index.to_le_bytes());
        into.extend_from_slice(&(operation.key as u32).to_le_bytes());
        into.extend((VALUE_BYTES_MIN..operation.length).map(|at| filler(index, at)));
    }

    /// The store took it, under this number.
    pub fn apply(&mut self, index: OperationIndex, sequence: u64) {
        if let Some((_, before)) = self.run.last() {
            assert!(sequence > *before, "sequence {sequence} was given after {before}");
        }
        self.run.push((index, sequence));
        self.states[self.operations[index as usize].key] = vec![Some(index)];
    }

    /// The store says that everything up to this number is durable.
    pub fn synced_upto(&mut self, sequence: u64) {
        let synced = self.run.partition_point(|(_, number)| *number <= sequence);
        assert!(synced >= self.synced, "synced moved back from {} to {synced}", self.synced);
        self.synced = synced;
    }

    /// The number of the last operation that the store took in this run.
    pub fn last_sequence(&self) -> Option<u64> {
        self.run.last().map(|(_, sequence)| *sequence)
    }

    /// Bytes of keys and values that the store took and did not call synced.
    pub fn unsynced_bytes(&self) -> usize {
        let unsynced = &self.run[self.synced..];
        unsynced.iter().map(|(index, _)| self.operations[*index as usize].length).sum()
    }

    /// Bytes of the values that are there.
    pub fn live_bytes(&self) -> usize {
        let latest = self.states.iter().filter_map(|states| *states.first()?);
        latest
            .map(|index| &self.operations[index as usize])
            .filter(|operation| !operation.tombstone)
            .map(|operation| operation.length)
            .sum()
    }

    /// The disk was harmed behind the store's back.
    pub fn harmed(&mut self) {
        self.harm += 1;
    }

    /// Whether the disk ever was.
    pub fn is_harmed(&self) -> bool {
        self.harm > 0
    }

    /// Whether a key was written since the disk was last harmed: no excuse is left.
    pub fn is_fresh(&self, key: KeyIndex) -> bool {
        self.states[key].iter().all(|state| {
            state.is_some_and(|index| self.operations[index as usize].harm == self.harm)
        })
    }

    /// Whether keys share hashes.
    pub fn collides(&self) -> bool {
        self.collides
    }

    /// Whether nothing excuses an answer that it cannot be read. Where keys share a hash, a damaged
    /// record may be that of any of them.
    fn must_be_readable(&self, key: KeyIndex) -> bool {
        self.is_fresh(key) && !self.collides
    }

    /// Reads a value back: which operation wrote it. No phantom: the bytes are exactly those that
    /// were once written for this key.
    pub fn recognise(&self, key: KeyIndex, value: &[u8], tombstone: bool) -> Answer {
        let number = value.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes));
        let index = number.unwrap_or_else(|| panic!("key {key}: {value:?} was never written"));
        let operation = self.operations.get(index as usize);
        let operation = operation.unwrap_or_else(|| panic!("key {key}: no operation {index}"));
        assert_eq!(operation.key, key, "key {key} holds what operation {index} wrote elsewhere");
        assert_eq!(operation.tombstone, tombstone, "operation {index} became another kind");
        assert_eq!(operation.length, value.len(), "the value of operation {index} has its length");
        let is_exact = value[4..VALUE_BYTES_MIN] == (key as u32).to_le_bytes()
            && (VALUE_BYTES_MIN..value.len()).all(|at| value[at] == filler(index, at));
        assert!(is_exact, "the value of operation {index} is not what was written");
        if tombstone { Answer::Deleted(index) } else { Answer::Value(index) }
    }

    /// The answer must be exactly the latest state; after harm it may admit that it is not known.
    pub fn judge(&self, key: KeyIndex, testimony: Testimony) {
        if self.states[key].iter().any(|state| self.matches(*state, testimony.answer)) {
            return;
        }
        assert!(
            self.is_excused(key, testimony),
            "key {key}: {testimony:?}, but its state is {:?}, harmed {} times",
            self.describe(key),
            self.harm,
        );
    }

    /// After a start: what is there must be the state after some prefix of what the run applied,
    /// and everything that was synced must be in it.
    pub fn judge_recovery(&mut self, testimonies: &[Testimony]) -> Recovered {
        let applied = self.run.len();
        let mut explained = vec![0_i64; applied + 2];
        let mut needed = 0;
        let timelines = self.timelines();
        for (key, timeline) in timelines.iter().enumerate() {
            if timeline.is_empty() || self.is_unknown(testimonies[key]) {
                continue;
            }
            needed += 1;
            for (from, below, states) in self.intervals(key, timeline) {
                if states.iter().any(|state| self.matches(*state, testimonies[key].answer)) {
                    explained[from] += 1;
                    explained[below] -= 1;
                }
            }
        }
        let prefix = self.prefixes(&explained, needed);
        let prefix = prefix.unwrap_or_else(|| self.explain_failure(testimonies, &timelines));
        self.settle(prefix, testimonies, &timelines);
        let recovered = Recovered { applied, prefix, synced: self.synced };
        for (key, testimony) in testimonies.iter().enumerate() {
            self.judge(key, *testimony);
        }
        self.run.clear();
        self.synced = 0;
        self.base.clone_from(&self.states);
        recovered
    }

    /// A run ends without an excuse to lose anything.
    pub fn stopped_clean(&mut self) {
        self.synced = self.run.len();
    }

    fn matches(&self, state: State, answer: Answer) -> bool {
        match (state, answer) {
            (None, Answer::Absent) => true,
            (Some(index), Answer::Value(other)) => index == other,
            // Once the newest was reaped, an older one may speak for the same absence.
            (Some(index), Answer::Deleted(other)) => {
                index == other || (other < index && self.operations[index as usize].tombstone)
            }
            (Some(index), Answer::Absent) => self.operations[index as usize].tombstone,
            _ => false,
        }
    }

    fn is_excused(&self, key: KeyIndex, testimony: Testimony) -> bool {
        let is_old = match testimony.answer {
            Answer::Damaged => return self.is_harmed() && !self.must_be_readable(key),
            Answer::Absent => true,
            Answer::Value(index) | Answer::Deleted(index) => {
                self.states[key].iter().flatten().any(|state| index < *state)
            }
        };
        is_old && self.is_harmed() && testimony.suspect && !self.is_fresh(key)
    }

    /// Whether an answer says nothing of how much came back.
    fn is_unknown(&self, testimony: Testimony) -> bool {
        self.is_harmed() && (testimony.suspect || testimony.answer == Answer::Damaged)
    }

    /// For each key where in the run it was written.
    fn timelines(&self) -> Vec<Vec<usize>> {
        let mut timelines = vec![Vec::new(); self.states.len()];
        for (at, (index, _)) in self.run.iter().enumerate() {
            timelines[self.operations[*index as usize].key].push(at);
        }
        timelines
    }

    /// The states of a key by the number of operations that came back: from, below, states.
    fn intervals<'a>(
        &'a self,
        key: KeyIndex,
        timeline: &'a [usize],
    ) -> impl Iterator<Item = (usize, usize, Vec<State>)> + 'a {
        let first = (0, timeline[0] + 1, self.base[key].clone());
        let later = timeline.iter().enumerate().map(|(place, at)| {
            let below = timeline.get(place + 1).map_or(self.run.len(), |next| *next) + 1;
            (*at + 1, below, vec![Some(self.run[*at].0)])
        });
        std::iter::once(first).chain(later)
    }

    fn prefixes(&self, explained: &[i64], needed: i64) -> Option<(usize, usize)> {
        let mut count = 0;
        let mut found: Option<(usize, usize)> = None;
        for (length, change) in explained[..=self.run.len()].iter().enumerate() {
            count += change;
            if count == needed && length >= self.synced {
                found = Some((found.map_or(length, |(low, _)| low), length));
            }
        }
        found
    }

    /// Takes the prefix that was found as what happened.
    fn settle(
        &mut self,
        (low, high): (usize, usize),
        testimonies: &[Testimony],
        timelines: &[Vec<usize>],
    ) {
        for (key, timeline) in timelines.iter().enumerate() {
            if timeline.is_empty() {
                continue;
            }
            let possible: Vec<State> = self
                .intervals(key, timeline)
                .filter(|(from, below, _)| *from <= high && low < *below)
                .flat_map(|(_, _, states)| states)
                .collect();
            let said = testimonies[key].answer;
            let matching: Vec<State> =
                possible.iter().copied().filter(|state| self.matches(*state, said)).collect();
            self.states[key] = if matching.is_empty() { possible } else { matching };
        }
    }

    fn explain_failure(&self, testimonies: &[Testimony], timelines: &[Vec<usize>]) -> ! {
        let mut lines = Vec::new();
        for (key, timeline) in timelines.iter().enumerate() {
            if timeline.is_empty() {
                continue;
            }
            let intervals: Vec<String> = self
                .intervals(key, timeline)
                .filter(|(_, _, states)| {
                    states.iter().any(|state| self.matches(*state, testimonies[key].answer))
                })
                .map(|(from, below, _)| format!("{from}..{below}"))
                .collect();
            let last = timeline.last().map(|at| at + 1);
            lines.push(format!(
                "key {key}, last written by {last:?}: {:?} fits {intervals:?}",
                testimonies[key]
            ));
        }
        panic!(
            "no prefix of {} applied, {} synced, explains what came back:\n{}",
            self.run.len(),
            self.synced,
            lines.join("\n")
        );
    }

    fn describe(&self, key: KeyIndex) -> Vec<String> {
        let describe = |state: &State| match state {
            None => "never written".to_owned(),
            Some(index) => format!("operation {index}: {:?}", self.operations[*index as usize]),
        };
        self.states[key].iter().map(describe).collect()
    }
}

fn filler(index: OperationIndex, at: usize) -> u8 {
    (index.wrapping_mul(0x9e37_79b9) >> 24) as u8 ^ (at as u8).wrapping_mul(29)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Key 0 written, key 1 written, key 0 written again; the first is synced.
    fn model() -> Model {
        let mut model = Model::new(2, false);
        for (key, sequence) in [(0, 10), (1, 11), (0, 12)] {
            let index = model.propose(key, 20, false);
            model.apply(index, sequence);
        }
        model.synced_upto(10);
        model
    }

    fn say(answers: [Answer; 2]) -> Vec<Testimony> {
        answers.iter().map(|answer| Testimony { answer: *answer, suspect: false }).collect()
    }

    #[test]
    fn a_prefix_is_accepted_and_told() {
        let recovered = model().judge_recovery(&say([Answer::Value(0), Answer::Absent]));
        assert_eq!(recovered.prefix, (1, 1));
        let recovered = model().judge_recovery(&say([Answer::Value(2), Answer::Value(1)]));
        assert_eq!(recovered.prefix, (3, 3));
    }

    #[test]
    #[should_panic(expected = "no prefix")]
    fn a_hole_is_refused() {
        model().judge_recovery(&say([Answer::Value(2), Answer::Absent]));
    }

    #[test]
    #[should_panic(expected = "no prefix")]
    fn the_loss_of_what_was_synced_is_refused() {
        model().judge_recovery(&say([Answer::Absent, Answer::Absent]));
    }

    #[test]
    #[should_panic(expected = "no prefix")]
    fn damage_without_harm_is_refused() {
        model().judge_recovery(&say([Answer::Damaged, Answer::Value(1)]));
    }

    #[test]
    fn after_harm_damage_is_an_answer_and_absence_is_one_only_if_admitted() {
        let mut model = model();
        model.harmed();
        let _ = model.judge_recovery(&say([Answer::Damaged, Answer::Value(1)]));
        let absent = |suspect| Testimony { answer: Answer::Absent, suspect };
        model.judge(0, absent(true));
        let lie = std::panic::catch_unwind(|| model.judge(0, absent(false)));
        assert!(lie.is_err());
    }

    #[test]
    #[should_panic(expected = "not what was written")]
    fn a_value_with_a_flipped_bit_is_a_phantom() {
        let mut model = model();
        let index = model.propose(0, 20, false);
        let mut value = Vec::new();
        model.value(index, &mut value);
        assert_eq!(model.recognise(0, &value, false), Answer::Value(index));
        value[19] ^= 1;
        model.recognise(0, &value, false);
    }
}
