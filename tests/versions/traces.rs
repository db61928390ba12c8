//! The shortest histories by which simpler schemes fail, each with the right outcome.
//!
//! Every scheme named here was put into the code once, and its test then failed.

use stator::protocol::version::Conflict;

use super::world::Intent;
use super::world::World;

const A: usize = 0;
const B: usize = 1;
const F: usize = 2;
const C: usize = 3;

/// Variation: an actor per node and a counter per key. The second write would be (C, 1) again, and
/// F would take it for the first.
#[test]
fn a_forgotten_record_never_issues_its_dots_again() {
    let mut world = world();
    let (e0, _) = world.put_acknowledged(C, &Intent::Set);
    world.copy(C, F);
    world.sync(F);
    world.forget(C);
    let (e1, _) = world.put_acknowledged(C, &Intent::Set);
    world.copy(C, F);
    assert_eq!(world.siblings(F), [e0, e1]);
}

/// Variation: a counter per shard, without a birth. The second write would be (C, 2), and C's clock
/// would claim (C, 1), which C has forgotten.
#[test]
fn a_new_record_does_not_claim_what_the_old_one_saw() {
    let mut world = world();
    let (e0, _) = world.put_acknowledged(C, &Intent::Set);
    world.copy(C, F);
    world.sync(F);
    world.forget(C);
    let (e1, _) = world.put_acknowledged(C, &Intent::Set);
    world.copy(F, C);
    assert_eq!(world.siblings(C), [e0, e1]);
}

/// Variation: a shard's actor outlasts its start, while the counter begins again. The third write
/// would have the first one's dot.
#[test]
fn a_restarted_shard_begins_a_new_life() {
    let mut world = world();
    world.tick(B);
    let (_, seen) = world.put_acknowledged(B, &Intent::Set);
    world.crash(B);
    let (e1, _) = world.put_acknowledged(B, &Intent::With(seen));
    world.copy(B, F);
    world.sync(F);
    world.forget(B);
    let (e2, _) = world.put_acknowledged(B, &Intent::Blind);
    world.copy(B, F);
    assert_eq!(world.siblings(F), [e1, e2]);
}

/// Variation: the life in the record outlasts its shard's start. B shipped e1, forgot it in the
/// crash, and would issue its dot again.
#[test]
fn a_dot_lost_with_the_unsynced_tail_is_not_issued_again() {
    let mut world = world();
    world.put_acknowledged(B, &Intent::Set);
    let e1 = world.put(B, &Intent::Set, false);
    world.copy(B, F);
    world.sync(F);
    world.crash(B);
    let (e2, _) = world.put_acknowledged(B, &Intent::Set);
    world.copy(F, B);
    assert_eq!(world.siblings(B), [e1, e2]);
}

/// Variation: exact dots are left out of stored or shipped objects. B's object would not say that
/// it supersedes e1, and e1 would return beside e2.
#[test]
fn a_superseded_sibling_does_not_return() {
    let mut world = world();
    let (e0, _) = world.put_acknowledged(F, &Intent::Blind);
    let (_, seen) = world.put_acknowledged(F, &Intent::Blind);
    let (e2, _) = world.put_acknowledged(B, &Intent::With(seen));
    world.copy(F, B);
    assert_eq!(world.siblings(B), [e0, e2]);
}

/// Variation: exact dots are folded into the clock by maximum. B's clock would cover e0, which its
/// client never saw, and F would drop it.
#[test]
fn a_gap_in_what_was_seen_stays_a_gap() {
    let mut world = world();
    let (e0, _) = world.put_acknowledged(F, &Intent::Blind);
    let (_, seen) = world.put_acknowledged(F, &Intent::Blind);
    let (e2, _) = world.put_acknowledged(B, &Intent::With(seen));
    world.copy(B, F);
    assert_eq!(world.siblings(F), [e0, e2]);
}

/// Variation: a put returns its coordinator's whole clock while siblings remain. The client's next
/// put would supersede e0, which nobody has read.
#[test]
fn a_client_does_not_supersede_what_it_never_saw() {
    let mut world = world();
    let (e0, _) = world.put_acknowledged(A, &Intent::Blind);
    let (_, seen) = world.put_acknowledged(A, &Intent::Blind);
    let (e2, _) = world.put_acknowledged(A, &Intent::With(seen));
    assert_eq!(world.siblings(A), [e0, e2]);
}

/// A record may go by quarantine as well: the disk damaged it, the shard runs on.
#[test]
fn a_put_after_quarantine_does_not_hide_what_was_there() {
    let mut world = world();
    let (_, _) = world.put_acknowledged(A, &Intent::Set);
    let (e1, _) = world.put_acknowledged(A, &Intent::Set);
    world.copy(A, B);
    world.sync(B);
    world.forget(A);
    let (e2, _) = world.put_acknowledged(A, &Intent::Set);
    world.copy(A, B);
    world.copy(B, A);
    assert_eq!(world.siblings(A), [e1, e2]);
    assert_eq!(world.siblings(B), [e1, e2]);
}

/// A partition moves away and comes back: writes on the way are neither lost nor brought back.
#[test]
fn a_partition_that_returns_begins_new_lives() {
    let mut world = world();
    world.put_acknowledged(A, &Intent::Set);
    let late = world.ship(A).expect("it was written");
    world.copy(A, B);
    world.sync(B);
    world.forget(A);
    let (e1, _) = world.put_acknowledged(B, &Intent::Set);
    world.copy(B, A);
    world.sync(A);
    world.forget(B);
    let (e2, _) = world.put_acknowledged(A, &Intent::Blind);
    world.deliver(&late, A);
    assert_eq!(world.siblings(A), [e1, e2]);
}

/// Two directories with the same bytes: each start has an actor of its own.
#[test]
fn a_copied_directory_writes_under_dots_of_its_own() {
    let mut world = world();
    world.put_acknowledged(A, &Intent::Set);
    world.restore(B, world.backup(A));
    let (e1, _) = world.put_acknowledged(A, &Intent::Set);
    let (e2, _) = world.put_acknowledged(B, &Intent::Set);
    world.copy(A, B);
    assert_eq!(world.siblings(B), [e1, e2]);
}

/// A backup knows less than was written since; what it writes is beside that, not on top.
#[test]
fn a_restored_backup_does_not_hide_later_writes() {
    let mut world = world();
    world.put_acknowledged(A, &Intent::Set);
    let backup = world.backup(A);
    let (e1, _) = world.put_acknowledged(A, &Intent::Set);
    world.copy(A, B);
    world.sync(B);
    world.restore(A, backup);
    let (e2, _) = world.put_acknowledged(A, &Intent::Set);
    world.copy(B, A);
    assert_eq!(world.siblings(A), [e1, e2]);
}

/// The coordinator of e1 never met e0, whose clock is ahead. Without the time in the context, e1
/// would be earlier than what it supersedes, and copies would disagree on the last writer.
#[test]
fn the_last_writer_is_the_same_whatever_met_first() {
    let mut world = World::new(4, Conflict::Lww);
    world.skew(A, 400);
    world.skew(C, 200);
    let (_, seen) = world.put_acknowledged(A, &Intent::Set);
    let (e1, _) = world.put_acknowledged(B, &Intent::With(seen));
    world.put_acknowledged(C, &Intent::Set);
    let [a, b, c] = [A, B, C].map(|at| world.ship(at).expect("it was written"));
    world.check_laws([&a, &b, &c]);
    for message in [&c, &b, &a] {
        assert!(world.deliver(message, F));
    }
    assert_eq!(world.siblings(F), [e1]);
}

fn world() -> World {
    World::new(4, Conflict::Siblings)
}
