//! Histories that must be refused, each with its correct neighbour, and a cluster that never must.

use super::atlas::Atlas;
use super::dots::Dots;
use super::reference;
use super::reference::Breach;
use super::reference::Facts;
use super::*;
use std::collections::BTreeSet;

const GUARANTEED: Outcome = Outcome::Acked { guaranteed: true };
const ACKED: Outcome = Outcome::Acked { guaranteed: false };

/// Whatever a right cluster does is believed.
#[test]
fn a_right_cluster_is_believed() {
    let mut facts = Facts::default();
    for seed in 0..seeds(4_000) {
        match reference::run(seed, None) {
            Ok(more) => facts.add(more),
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert_eq!(facts.lost, 0, "the reference is wrong");
    assert!(facts.acked > facts.operations / 5, "{facts:?}");
    for happened in [facts.unknown, facts.siblings, facts.wipes, facts.excused, facts.reaped] {
        assert!(happened > 100, "{facts:?}");
    }
}

/// A cluster that breaks one rule is caught, and soon.
#[test]
fn a_broken_rule_is_found() {
    let all = seeds(1_000);
    for breach in Breach::ALL {
        let mut found = BTreeMap::new();
        let mut missed = 0;
        for seed in 0..all {
            match reference::run(seed, Some(breach)) {
                Ok(facts) => missed += u64::from(facts.lost_values > 0),
                Err(violation) => drop(found.insert(seed, violation.rule)),
            }
        }
        let rules: BTreeSet<Rule> = found.values().copied().collect();
        let first = found.keys().next();
        eprintln!(
            "{breach:?}: found after {first:?} seeds, in {} of {all} by {rules:?}; in {missed} \
             a value was lost unseen",
            found.len()
        );
        assert!(first.is_some(), "{breach:?} was never found");
    }
}

/// So many, or as many as were asked for.
#[expect(clippy::disallowed_methods, reason = "whoever runs the test may ask for more seeds")]
fn seeds(few: u64) -> u64 {
    std::env::var("SEEDS").map_or(few, |seeds| seeds.parse().expect("SEEDS is a number"))
}

#[test]
fn what_nobody_wrote_is_refused() {
    let mut told = Told::new(2);
    told.refused(Rule::NoPhantom, |told| told.get(0, &["nothing"]).map(drop));
    let refused = told.begin(0, "refused", Cause::Blind);
    told.refused(Rule::NoPhantom, |told| told.get_of(1, 0, &["refused"], true).map(drop));
    told.get(0, &["refused"]).expect("it may be stored");
    told.refused(Rule::NoPhantom, |told| {
        told.oracle.end_write(refused, Outcome::Refused).map(drop)
    });
    let unknown = told.begin(0, "unknown", Cause::Blind);
    told.end(unknown, Outcome::Unknown);
    told.get(0, &["unknown"]).expect("it may be stored");
    let refused = told.begin(0, "again", Cause::Blind);
    told.end(refused, Outcome::Refused);
    told.refused(Rule::NoPhantom, |told| told.get(0, &["again"]).map(drop));
}

#[test]
fn what_a_writer_saw_does_not_stand_beside_its_write() {
    let mut told = Told::new(1);
    told.put(0, "a", Cause::Blind, ACKED);
    let a = told.get(0, &["a"]).expect("it is there");
    let b = told.put(0, "b", Cause::Context(a), ACKED);
    told.put(0, "c", Cause::Context(b), Outcome::Unknown);
    told.put(0, "d", Cause::Blind, ACKED);
    told.get(0, &["a"]).expect("stale, but nobody promised more");
    told.get(0, &["a", "d"]).expect("they are concurrent");
    told.refused(Rule::NoFalseConflict, |told| told.get(0, &["a", "b"]).map(drop));
    told.refused(Rule::NoFalseConflict, |told| told.get(0, &["a", "c"]).map(drop));
    told.refused(Rule::NoFalseConflict, |told| told.get(0, &["d", "d"]).map(drop));
}

#[test]
fn what_is_acknowledged_is_left_or_superseded() {
    let mut told = Told::new(1);
    told.put(0, "a", Cause::Blind, ACKED);
    told.put(0, "b", Cause::Blind, Outcome::Unknown);
    told.finally(&["a"]).expect("nobody acknowledged the other");
    told.finally(&["a", "b"]).expect("it may be stored");
    told.refused(Rule::NothingLost, |told| told.finally(&["b"]));
    told.refused(Rule::NothingLost, |told| told.finally(&[]));
    let all = told.get(0, &["a", "b"]).expect("both may be there");
    told.put(0, "c", Cause::Context(all), Outcome::Unknown);
    told.finally(&["c"]).expect("it was stored, and had seen the others");
    told.finally(&["a", "b"]).expect("it was not");
    told.finally(&["a"]).expect("the other was not stored where it was acknowledged");
}

/// A write that was there all the time, but not where a client read, was not seen by that client.
#[test]
fn a_context_has_not_seen_what_its_answer_could_not() {
    let lost = |before: fn(&mut Told)| {
        let mut told = Told::new(1);
        told.put(0, "a", Cause::Blind, ACKED);
        told.put(0, "b", Cause::Blind, ACKED);
        before(&mut told);
        let a = told.get(0, &["a"]).expect("one copy has only this");
        told.put(0, "c", Cause::Context(a), ACKED);
        told.finally(&["b", "c"]).expect("they are concurrent");
        told.finally(&["c"])
    };
    assert_eq!(lost(|_| ()).expect_err("nothing saw it").rule, Rule::NothingLost);
    // A delete by a coordinator that saw b may have been in that answer, which shows no deletes.
    lost(|told| {
        told.begin(0, "", Cause::Plain);
    })
    .expect("it may have been seen");
    lost(|told| told.put_nothing(Cause::Plain, Outcome::Unknown)).expect("it may have been seen");
    let refused = lost(|told| told.put_nothing(Cause::Plain, Outcome::Refused));
    assert_eq!(refused.expect_err("nothing saw it").rule, Rule::NothingLost);
    let blind = lost(|told| told.put_nothing(Cause::Blind, ACKED));
    assert_eq!(blind.expect_err("it had seen nothing").rule, Rule::NothingLost);
}

#[test]
fn a_plain_write_may_supersede_what_began_before_it_was_done() {
    let lost = |outcome: Outcome| {
        let mut told = Told::new(1);
        let plain = told.begin(0, "plain", Cause::Plain);
        told.put(1, "during", Cause::Blind, ACKED);
        told.end(plain, outcome);
        told.finally(&["plain"]).expect("it may have seen the other");
        told.put(1, "after", Cause::Blind, ACKED);
        told.finally(&["plain"])
    };
    assert_eq!(lost(ACKED).expect_err("it was done before").rule, Rule::NothingLost);
    lost(Outcome::Unknown).expect("it may have been done last");
}

#[test]
fn what_may_expire_is_not_missed_and_what_is_touched_may_come_twice() {
    let mut told = Told::new(1);
    let event = told.oracle.begin_write(0, 0, Content::Expiring(b"a"), Cause::Blind);
    told.end(event, GUARANTEED);
    told.get_of(0, 1, &[], true).expect("it may be over");
    told.finally(&[]).expect("it may be over");
    told.put(0, "b", Cause::Blind, ACKED);
    told.refused(Rule::NoFalseConflict, |told| told.get(0, &["b", "b"]).map(drop));
    let touch = told.oracle.begin_write(0, 0, Content::Touch, Cause::Plain);
    told.get(0, &["b", "b"]).expect("once as it was, once as it was touched");
    told.refused(Rule::NoFalseConflict, |told| told.get(0, &["b", "b", "b"]).map(drop));
    let seen = told.get(0, &["b"]).expect("it is there");
    told.put(0, "c", Cause::Context(seen), ACKED);
    told.finally(&["b", "c"]).expect("the touch may be concurrent with the last write");
    told.end(touch, Outcome::NothingToDo);
    told.refused(Rule::NoFalseConflict, |told| told.finally(&["b", "c"]));
}

#[test]
fn what_is_deleted_does_not_come_back() {
    let back = |outcome: Outcome| {
        let mut told = Told::new(1);
        told.put(0, "a", Cause::Blind, ACKED);
        let a = told.get(0, &["a"]).expect("it is there");
        told.put_nothing(Cause::Context(a), outcome);
        told.finally(&[]).expect("it is deleted");
        told.get(0, &["a"]).expect("a stale read, and nobody promised more");
        told.finally(&["a"])
    };
    assert_eq!(back(ACKED).expect_err("it was deleted").rule, Rule::NoResurrection);
    back(Outcome::Unknown).expect("perhaps it was not deleted");
}

#[test]
fn a_session_sees_its_own_delete() {
    let mut told = Told::new(1);
    told.put(0, "a", Cause::Blind, ACKED);
    let a = told.get(0, &["a"]).expect("it is there");
    told.put_nothing(Cause::Context(a), GUARANTEED);
    told.get_of(0, 0, &["a"], false).expect("it asked one copy alone");
    told.refused(Rule::NoResurrection, |told| told.get_of(0, 0, &["a"], true).map(drop));
    told.refused(Rule::Register, |told| told.get_of(0, 1, &["a"], true).map(drop));
    told.get_of(0, 1, &[], true).expect("it is deleted");
}

#[test]
fn whoever_reads_later_sees_what_a_quorum_acknowledged() {
    let mut told = Told::new(1);
    let early = told.oracle.begin_get(0, 1);
    let a = told.put(0, "a", Cause::Blind, GUARANTEED);
    told.end_get(early, &[], Shows::All, true).expect("they were concurrent");
    told.refused(Rule::Session, |told| told.get_of(0, 0, &[], true).map(drop));
    told.refused(Rule::Register, |told| told.get_of(0, 1, &[], true).map(drop));
    let b = told.begin(1, "b", Cause::Context(a));
    told.get_of(0, 2, &["a"], true).expect("the second is under way");
    told.get_of(0, 2, &["b"], true).expect("the second is under way");
    told.get_of(0, 2, &["a"], true).expect("a quorum need not read the same twice meanwhile");
    told.end(b, GUARANTEED);
    told.refused(Rule::Session, |told| told.get_of(0, 2, &["a"], true).map(drop));
    told.refused(Rule::Register, |told| told.get_of(0, 0, &["a"], true).map(drop));
    told.get_of(0, 0, &["b"], true).expect("it is the last");
}

#[test]
fn a_register_of_one_writer_is_regular() {
    let mut told = Told::new(1);
    told.put(0, "1", Cause::PlainStrict, GUARANTEED);
    told.put(0, "2", Cause::PlainStrict, GUARANTEED);
    told.refused(Rule::Register, |told| told.get_of(0, 1, &["1"], true).map(drop));
    let third = told.begin(0, "3", Cause::PlainStrict);
    told.get_of(0, 1, &["2"], true).expect("the third is under way");
    told.get_of(0, 1, &["3"], true).expect("the third is under way");
    told.refused(Rule::NoFalseConflict, |told| told.get_of(0, 1, &["2", "3"], true).map(drop));
    told.end(third, Outcome::Unknown);
    told.get_of(0, 1, &["2"], true).expect("the third may never be stored");
    told.put(0, "4", Cause::PlainStrict, GUARANTEED);
    told.refused(Rule::Register, |told| told.get_of(0, 1, &["2"], true).map(drop));
    told.get_of(0, 1, &["3"], true).expect("the third may be stored last");
}

#[test]
fn reads_that_write_back_are_monotonic() {
    let again = |reads_write_back| {
        let mut told = Told::with(&[Conflict::Siblings], Rules { reads_write_back });
        told.begin(0, "a", Cause::Blind);
        told.get_of(0, 1, &["a"], true).expect("it may be there");
        told.get_of(0, 2, &[], true)
    };
    assert_eq!(again(true).expect_err("it was seen before").rule, Rule::Register);
    again(false).expect("it was not acknowledged");
}

#[test]
fn a_strict_set_has_seen_what_a_quorum_acknowledged() {
    let both = |cause| {
        let mut told = Told::new(1);
        told.put(0, "a", Cause::Blind, GUARANTEED);
        told.put(1, "b", cause, GUARANTEED);
        told.finally(&["a", "b"])
    };
    assert_eq!(both(Cause::PlainStrict).expect_err("it asked").rule, Rule::NoFalseConflict);
    both(Cause::Plain).expect("its coordinator may have missed the first");
}

#[test]
fn one_value_of_several_may_hide_the_others() {
    let mut told = Told::new(1);
    told.put(0, "a", Cause::Blind, GUARANTEED);
    told.put(0, "b", Cause::Blind, GUARANTEED);
    let latest = |told: &mut Told, values: &[&str]| {
        let get = told.oracle.begin_get(0, 0);
        told.end_get(get, values, Shows::Latest, true).map(|token| assert_eq!(token, None))
    };
    latest(&mut told, &["a"]).expect("the other may be older");
    told.refused(Rule::Session, |told| latest(told, &[]));
    told.refused(Rule::NoFalseConflict, |told| latest(told, &["a", "b"]));
    told.refused(Rule::Session, |told| told.get_of(0, 0, &["a"], true).map(drop));
}

#[test]
fn where_the_last_writer_wins_one_is_left() {
    let mut told = Told::with(&[Conflict::LastWriterWins], Rules::default());
    told.put(0, "a", Cause::Plain, GUARANTEED);
    let b = told.put(0, "b", Cause::Blind, GUARANTEED);
    told.finally(&["a"]).expect("its clock may be later");
    told.finally(&["b"]).expect("its clock may be later");
    told.refused(Rule::NothingLost, |told| told.finally(&[]));
    told.refused(Rule::NoFalseConflict, |told| told.finally(&["a", "b"]));
    told.put(0, "c", Cause::Context(b), ACKED);
    told.refused(Rule::NoResurrection, |told| told.finally(&["b"]));
    told.put_nothing(Cause::Plain, Outcome::Unknown);
    told.finally(&[]).expect("it may be deleted");
}

#[test]
fn what_an_allowed_fault_destroyed_is_not_missed() {
    let mut told = Told::new(1);
    told.put(0, "a", Cause::Blind, ACKED);
    let a = told.get(0, &["a"]).expect("it is there");
    let b = told.begin(0, "b", Cause::Context(a));
    told.end(b, GUARANTEED);
    told.refused(Rule::NothingLost, |told| told.finally(&[]));
    told.refused(Rule::NoResurrection, |told| told.finally(&["a"]));
    told.oracle.lost_to_faults(b);
    told.get_of(0, 0, &["a"], true).expect("what had superseded it is lost");
    told.finally(&["a"]).expect("what had superseded it is lost");
    told.refused(Rule::NothingLost, |told| told.finally(&[]));
}

#[test]
fn the_last_copy_of_what_was_acknowledged_stays() {
    let mut told = Told::new(2);
    let mut atlas = Atlas::new(2, 2);
    let a = told.begin(0, "a", Cause::Blind);
    atlas.synced(a, 0);
    assert!(!atlas.may_wipe(&told.oracle, 0), "its acknowledgement may be on its way");
    let token = told.end(a, ACKED).expect("it was acknowledged");
    assert!(atlas.may_damage(&told.oracle, 0, 1), "there is nothing else");
    assert!(atlas.may_wipe(&told.oracle, 1), "there is nothing");
    let b = told.begin(0, "b", Cause::Context(token));
    atlas.synced(b, 1);
    assert!(atlas.may_wipe(&told.oracle, 0), "what superseded it is as good");
    assert_eq!(atlas.lost_with(&told.oracle, 1), [b]);
    told.end(b, Outcome::Unknown);
    assert!(atlas.may_wipe(&told.oracle, 1), "nobody was promised anything");
    atlas.gone(0, 0);
    assert_eq!(atlas.lost_with(&told.oracle, 1), [a], "what superseded it is its last copy");
    told.oracle.lost_to_faults(a);
    assert!(atlas.may_wipe(&told.oracle, 1), "its loss was owned up to");
    atlas.wiped(1);
    assert_eq!(atlas.add_node(), 2);
}

#[test]
fn a_dot_names_one_write_of_one_key() {
    let mut dots = Dots::default();
    for _ in 0..2 {
        dots.saw(0, (1, 2, 3), 7).expect("the same write, on another node");
    }
    dots.saw(0, (1, 2, 4), 7).expect("another dot");
    assert_eq!(dots.saw(0, (1, 2, 3), 8).expect_err("another content").rule, Rule::OneDot);
    assert_eq!(dots.saw(1, (1, 2, 3), 7).expect_err("another key").rule, Rule::OneDot);
    assert_eq!(dots.count(), 2);
}

#[test]
fn each_operation_is_counted_where_it_began() {
    let mut told = Told::new(1);
    let late = told.begin(0, "a", Cause::Blind);
    let get = told.oracle.begin_get(0, 0);
    told.put_nothing(Cause::Plain, Outcome::NothingToDo);
    told.oracle.begin_phase();
    told.end(late, ACKED);
    told.put(0, "b", Cause::Blind, Outcome::Refused);
    told.put(0, "c", Cause::Blind, Outcome::Unknown);
    told.get(0, &["a"]).expect("it is there");
    let first = Counts { begun: 2, acked: 2, ..Counts::default() };
    let second = Counts { begun: 2, refused: 1, unknown: 1, ..Counts::default() };
    let counts: Vec<Counts> = told.oracle.counts().iter().map(|phase| phase.writes).collect();
    assert_eq!(counts, [first, second]);
    assert_eq!(told.oracle.counts()[0].gets.open(), 1);
    told.oracle.end_get(get, GetEnd::Unknown).expect("it tells nothing");
    let gets = told.oracle.total().gets;
    assert_eq!(gets, Counts { begun: 2, acked: 1, unknown: 1, ..Counts::default() });
}

/// What clients were told, one thing after the other.
struct Told {
    oracle: Oracle,
}

impl Told {
    fn new(keys: usize) -> Self {
        Self::with(&vec![Conflict::Siblings; keys], Rules::default())
    }

    fn with(keys: &[Conflict], rules: Rules) -> Self {
        Self { oracle: Oracle::new(keys, rules) }
    }

    /// A write of key 0; of nothing, a delete.
    fn begin(&mut self, session: Session, value: &str, cause: Cause) -> EventId {
        let content = match value {
            "" => Content::Tombstone,
            value => Content::Value(value.as_bytes()),
        };
        self.oracle.begin_write(0, session, content, cause)
    }

    fn end(&mut self, event: EventId, outcome: Outcome) -> Option<TokenId> {
        self.oracle.end_write(event, outcome).expect("nobody was shown it")
    }

    /// A write with nothing beside it. Without an acknowledgement, the context is of no use.
    fn put(&mut self, session: Session, value: &str, cause: Cause, outcome: Outcome) -> TokenId {
        let event = self.begin(session, value, cause);
        self.end(event, outcome).unwrap_or(TokenId { key: 0, number: u32::MAX })
    }

    fn put_nothing(&mut self, cause: Cause, outcome: Outcome) {
        self.put(0, "", cause, outcome);
    }

    fn get(&mut self, session: Session, values: &[&str]) -> Result<TokenId, Violation> {
        self.get_of(0, session, values, false)
    }

    fn get_of(
        &mut self,
        key: KeyIndex,
        session: Session,
        values: &[&str],
        guaranteed: bool,
    ) -> Result<TokenId, Violation> {
        let get = self.oracle.begin_get(key, session);
        let token = self.end_get(get, values, Shows::All, guaranteed)?;
        Ok(token.expect("it was shown all"))
    }

    fn end_get(
        &mut self,
        get: GetId,
        values: &[&str],
        shows: Shows,
        guaranteed: bool,
    ) -> Result<Option<TokenId>, Violation> {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        self.oracle.end_get(get, GetEnd::Answered { values: &values, shows, guaranteed })
    }

    fn finally(&mut self, values: &[&str]) -> Result<(), Violation> {
        let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
        self.oracle.final_read(0, &values)
    }

    /// Something is refused for this reason.
    fn refused(&mut self, rule: Rule, tell: impl FnOnce(&mut Self) -> Result<(), Violation>) {
        let violation = tell(self).expect_err("it is wrong");
        assert_eq!(violation.rule, rule, "{violation}");
    }
}
