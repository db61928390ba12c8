//! What clients may be told: judged from what they asked and what they were told, nothing else.
//!
//! - Each key by itself: some order of its operations explains every answer ([`history`]), where a
//!   version is an event and a context the set of events that it saw ([`state`]).
//! - A crash may undo what had no answer yet. In a buffered namespace it may undo more: the last
//!   writes of a shard, without a hole between keys. One moment must explain all of them.
//! - After harm on the disk a record may be damaged: then nothing is right but an error, until the
//!   key is written anew.

mod history;
pub mod state;
pub mod values;

use self::history::Cut;
use self::history::History;
use self::history::Lent;
use self::state::Command;
use self::state::Moment;
use self::state::OperationId;
use self::state::Rules;
use self::state::Said;
use self::state::Walls;
use self::values::Values;
use crate::base::id::ConnectionId;
use crate::base::time::Duration;
use crate::base::time::Instant;
use crate::sim::node::keys::Key;
use crate::sim::node::keys::KeyIndex;

/// How an operation ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum End {
    /// It has not.
    None,
    /// It was carried out, and this was said.
    Said(Said),
    /// It was refused: nothing was done.
    Refused,
    /// It met a damaged record: nothing was done.
    Damaged,
    /// An error that leaves open whether it was carried out, or no answer at all.
    Unknown,
}

/// One operation on one key.
#[derive(Clone, Debug)]
pub struct Operation {
    /// On what.
    pub key: KeyIndex,
    /// By whom, if what one connection asks of the key is carried out in order.
    pub connection: Option<ConnectionId>,
    /// What.
    pub command: Command,
    /// Its number among the key's operations.
    event: u32,
    /// When all of it was with the shard.
    came: Moment,
    /// When its answer was.
    ended: Moment,
    ended_at: Instant,
    walls: Walls,
    end: End,
    token_is_held: bool,
}

impl Operation {
    /// Whether it may have had an effect on its key, or told something of it.
    fn may_have_effect(&self) -> bool {
        let is_told = matches!(self.end, End::Said(_) | End::Damaged);
        is_told || (self.end == End::Unknown && self.command.writes())
    }

    /// Whether it may have had none.
    fn may_have_none(&self) -> bool {
        matches!(self.end, End::Unknown)
    }

    /// Whether it was acknowledged.
    fn has_effect(&self) -> bool {
        matches!(self.end, End::Said(_))
    }

    fn met_damage(&self) -> bool {
        matches!(self.end, End::Damaged)
    }

    fn said(&self) -> &Said {
        match &self.end {
            End::Said(said) => said,
            _ => &Said::Anything,
        }
    }
}

/// The judge of a run.
#[derive(Debug)]
pub struct Oracle {
    /// Every value sent.
    pub values: Values,
    operations: Vec<Operation>,
    histories: Vec<History>,
    counts: Vec<u32>,
    keys: Vec<Key>,
    rules: Rules,
    moment: Moment,
    /// For each shard, when the last write came that was acknowledged as synced.
    synced: Vec<Moment>,
    /// How often the disk was harmed.
    pub harm: u64,
}

impl Oracle {
    /// No key was ever written.
    pub fn new(keys: Vec<Key>, shards: usize, rules: Rules) -> Self {
        Self {
            values: Values::default(),
            operations: Vec::new(),
            histories: keys.iter().map(|key| History::new(key.buffered)).collect(),
            counts: vec![0; keys.len()],
            keys,
            rules,
            moment: 0,
            synced: vec![0; shards],
            harm: 0,
        }
    }

    /// Now: later than all before.
    pub fn tick(&mut self) -> Moment {
        self.moment += 1;
        self.moment
    }

    /// Keys of which too many orders of what nobody was answered explain what was told.
    pub fn undecided(&self) -> u64 {
        self.histories.iter().filter(|history| history.undecided).count() as u64
    }

    /// Whether the key is one of them.
    pub fn is_undecided(&self, key: KeyIndex) -> bool {
        self.histories[key].undecided
    }

    /// How many ways a key may have gone.
    pub fn ways(&self, key: KeyIndex) -> usize {
        self.histories[key].ways.len()
    }

    /// Operations on a key that may still have an effect.
    pub fn pending(&self, key: KeyIndex) -> usize {
        self.histories[key].pending()
    }

    /// All of an operation is with the shard: it may run from now on.
    pub fn came(
        &mut self,
        connection: Option<ConnectionId>,
        key: KeyIndex,
        command: Command,
        wall: u64,
    ) -> OperationId {
        let id = self.operations.len() as OperationId;
        let event = self.counts[key];
        self.counts[key] += 1;
        let came = self.tick();
        self.operations.push(Operation {
            key,
            connection,
            command,
            event,
            came,
            ended: Moment::MAX,
            ended_at: Instant::START,
            walls: Walls { low: wall, high: wall },
            end: End::None,
            token_is_held: true,
        });
        self.histories[key].came(id);
        id
    }

    /// The wall clock jumped: what is under way may have seen both times.
    pub fn wall_was(&mut self, open: impl Iterator<Item = OperationId>, wall: u64) {
        for id in open {
            self.saw_wall(id, wall);
        }
    }

    fn saw_wall(&mut self, id: OperationId, wall: u64) {
        let walls = &mut self.operations[id as usize].walls;
        walls.low = walls.low.min(wall);
        walls.high = walls.high.max(wall);
    }

    /// An operation ended.
    pub fn ended(&mut self, id: OperationId, end: End, wall: u64, at: Instant) {
        self.saw_wall(id, wall);
        let ended = self.tick();
        let operation = &mut self.operations[id as usize];
        (operation.ended, operation.ended_at, operation.end) = (ended, at, end);
        let (key, came) = (operation.key, operation.came);
        let (shard, buffered) = (self.keys[key].shard, self.keys[key].buffered);
        let operation = &self.operations[id as usize];
        let is_certain = operation.has_effect() && operation.command.always_writes();
        if is_certain && !buffered && operation.end != End::Said(Said::Anything) {
            self.synced[shard] = self.synced[shard].max(came);
        }
        let lent = lent(&self.operations, &self.values, self.rules, &self.keys[key]);
        self.histories[key].answered(id, &lent);
        if buffered {
            let (operations, synced) = (&self.operations, self.synced[shard]);
            self.histories[key].forget_steps(|id| operations[id as usize].ended < synced);
        }
    }

    /// Nobody will hear of it any more; it may still run.
    pub fn abandoned(&mut self, id: OperationId, wall: u64) {
        self.saw_wall(id, wall);
        // Its time is open: nothing that expires is certain for it.
        let operation = &mut self.operations[id as usize];
        operation.walls = Walls { low: 0, high: u64::MAX - 1 };
        (operation.end, operation.token_is_held) = (End::Unknown, false);
        let key = operation.key;
        let lent = lent(&self.operations, &self.values, self.rules, &self.keys[key]);
        self.histories[key].ended(&lent);
    }

    /// Nobody holds the context of this answer any more.
    pub fn token_dropped(&mut self, id: OperationId) {
        self.operations[id as usize].token_is_held = false;
    }

    /// Nothing is under way any more: what was abandoned has run or never will.
    pub fn settle(&mut self) {
        for (key, history) in self.histories.iter_mut().enumerate() {
            let lent = lent(&self.operations, &self.values, self.rules, &self.keys[key]);
            history.settle(&lent);
        }
    }

    /// The process ended. With `lost_within`, what was acknowledged from a buffer so long before
    /// is surely durable.
    pub fn crashed(&mut self, now: Instant, lost_within: Option<Duration>) {
        self.settle();
        for (key, history) in self.histories.iter_mut().enumerate() {
            if history.buffered {
                let synced = self.synced[self.keys[key].shard];
                history.cut(&self.operations, |operation| {
                    let is_old = |within| operation.ended_at + within < now;
                    operation.ended < synced || lost_within.is_some_and(is_old)
                });
            }
        }
    }

    /// The process ended in order, or everything is on the disk: nothing may be lost.
    pub fn stopped(&mut self) {
        self.settle();
        self.histories.iter_mut().for_each(History::forget_cut);
    }

    /// The disk was harmed.
    pub fn harmed(&mut self) {
        self.harm += 1;
        self.histories.iter_mut().for_each(History::harm);
    }

    /// A core started and found that records of unknown keys were lost, or more than before.
    pub fn lost(&mut self, shard: usize) {
        let own = self.keys.iter().zip(&mut self.histories).filter(|(key, _)| key.shard == shard);
        own.for_each(|(_, history)| history.lost());
    }

    /// Every key was read after a start: there is one moment of each shard before which everything
    /// survived, and after which nothing did.
    pub fn judge_cuts(&mut self) {
        for shard in 0..self.synced.len() {
            let keys = self.keys.iter().zip(&self.histories);
            let histories: Vec<&History> = keys
                .filter(|(key, _)| key.shard == shard)
                .map(|(_, history)| history)
                .filter(|history| !history.undecided)
                .collect();
            let cuts = |history: &History| -> Vec<Cut> {
                history.ways.iter().map(|way| way.cut).collect()
            };
            let all: Vec<Vec<Cut>> = histories.iter().map(|history| cuts(history)).collect();
            let mut moments: Vec<Moment> = all.iter().flatten().map(|cut| cut.after).collect();
            moments.push(self.synced[shard]);
            let explains = |moment: Moment| {
                moment >= self.synced[shard]
                    && all.iter().all(|cuts| {
                        cuts.iter().any(|cut| (cut.after..=cut.before).contains(&moment))
                    })
            };
            assert!(
                moments.into_iter().any(explains),
                "a hole in what shard {shard} recovered: {all:?}, synced at {}",
                self.synced[shard]
            );
        }
        self.histories.iter_mut().for_each(History::forget_cut);
    }

    /// How many keys the logs count, if that is certain.
    pub fn count(&self, select: impl Fn(&Key) -> bool) -> Option<i64> {
        let mut count = 0;
        for (key, history) in self.keys.iter().zip(&self.histories) {
            if !select(key) {
                continue;
            }
            let mut ways = history.ways.iter().map(|way| way.state.is_counted());
            let first = ways.next()?;
            let uncertain = !history.is_settled() || history.may_be_damaged();
            if uncertain || ways.any(|other| other != first) {
                return None;
            }
            count += i64::from(first);
        }
        Some(count)
    }

    /// Whether a value of the key is there and stays; `None` if that is not certain.
    pub fn exists(&self, key: KeyIndex) -> Option<bool> {
        let history = &self.histories[key];
        let mut ways = history.ways.iter().map(|way| way.state.exists());
        let first = ways.next()??;
        let certain = history.is_settled() && !history.may_be_damaged();
        (certain && ways.all(|other| other == Some(first))).then_some(first)
    }

    /// Whether the record of a key is damaged, or may be.
    pub fn may_be_damaged(&self, key: KeyIndex) -> bool {
        self.histories[key].may_be_damaged()
    }

    /// How many operations came for a key: whether it was left alone meanwhile.
    pub fn operations_of(&self, key: KeyIndex) -> u32 {
        self.counts[key]
    }

    /// An operation.
    pub fn operation(&self, id: OperationId) -> &Operation {
        &self.operations[id as usize]
    }
}

fn lent<'a>(operations: &'a [Operation], values: &'a Values, rules: Rules, key: &Key) -> Lent<'a> {
    let last_writer_wins = key.last_writer_wins;
    let rules = Rules { last_writer_wins, comes_back: key.buffered, ..rules };
    Lent { operations, values, rules }
}
