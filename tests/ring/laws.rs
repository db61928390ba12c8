//! What holds of every table: distinct holders, zones, shares, few moves, one answer on all nodes.
//!
//! Shares are compared with what a bisection over real numbers finds, which shares no code with them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use stator::base::id::MemberId;
use stator::base::id::PartitionId;
use stator::base::id::ZoneId;
use stator::base::rng::Rng;
use stator::protocol::ring::Member;
use stator::protocol::ring::Members;
use stator::protocol::ring::Partitions;
use stator::protocol::ring::Preferences;
use stator::protocol::ring::Table;

/// A cluster that changes, and the table that follows.
struct Cluster {
    members: Vec<Member>,
    last_id: u128,
    table: Table,
}

/// How many places changed hands, and how many had to.
#[derive(Clone, Copy, Debug)]
struct Moved {
    places: u32,
    least: u32,
}

impl Moved {
    fn is_within(self, percent: u32) -> bool {
        // One place is more than a few percent of very few.
        self.places <= (self.least * (100 + percent)).div_ceil(100)
    }
}

impl Cluster {
    fn new(partitions: u16, places: u8, members: &[(u16, u16)]) -> Self {
        let members: Vec<Member> = members
            .iter()
            .zip(1..)
            .map(|((weight, zone), id)| member(id, *weight, *zone))
            .collect();
        let last_id = members.len() as u128;
        let table = Table::new(ring(partitions), places, &set(&members));
        let cluster = Self { members, last_id, table };
        cluster.check();
        cluster
    }

    fn join(&mut self, weight: u16, zone: u16) -> Moved {
        self.last_id += 1;
        self.members.push(member(self.last_id, weight, zone));
        self.change()
    }

    fn leave(&mut self, index: usize) -> Moved {
        self.members.swap_remove(index);
        self.change()
    }

    fn change(&mut self) -> Moved {
        let before = self.table.clone();
        self.table = before.with_members(&set(&self.members));
        self.check();
        let again =
            before.with_members(&set(&self.members.iter().rev().copied().collect::<Vec<_>>()));
        assert_eq!(self.table, again, "the order in which members are named means nothing");
        let held_before = held(&before);
        let least = held(&self.table)
            .into_iter()
            .map(|(id, held)| held.saturating_sub(held_before.get(&id).copied().unwrap_or(0)));
        Moved { places: moved(&before, &self.table), least: least.sum() }
    }

    /// The laws of one table.
    fn check(&self) {
        let table = &self.table;
        let by_id: BTreeMap<MemberId, &Member> =
            self.members.iter().map(|member| (member.id, member)).collect();
        let zones: BTreeSet<ZoneId> = self.members.iter().map(|member| member.zone).collect();
        let places = usize::from(table.places_wanted()).min(self.members.len());
        assert_eq!(table.places(), places);
        for partition in table.partitions().all() {
            let holders: BTreeSet<MemberId> = holders(table, partition).into_iter().collect();
            assert_eq!(holders.len(), places, "{partition} has distinct holders");
            let in_zones: BTreeSet<ZoneId> = holders.iter().map(|id| by_id[id].zone).collect();
            assert_eq!(
                in_zones.len(),
                zones.len().min(places),
                "{partition} is in all zones it can"
            );
            let asked: Vec<MemberId> = table.primaries(partition).map(|member| member.id).collect();
            assert_eq!(asked.len(), places);
            assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), holders);
        }
        let fair = fair_shares(&self.members, table.partitions().count(), places, |share| share);
        let whole = fair_shares(&self.members, table.partitions().count(), places, f64::floor);
        for (id, held) in held(table) {
            let (held, fair) = (f64::from(held), fair[&id]);
            // Of few places, nobody can do better than the best division into whole ones.
            let most = (1.05 * fair).max(whole[&id]);
            assert!(held <= most, "{id} holds {held} places, {fair} are fair: {:?}", self.members);
            assert!(held >= 0.95 * fair - 1.0, "{id} holds {held} places, {fair} are fair");
        }
    }
}

#[test]
fn equal_members_hold_equal_parts_and_are_first_for_equal_parts() {
    for (partitions, members) in [(1024, 3), (1024, 5), (1024, 7), (256, 50), (16, 10), (16, 40)] {
        let cluster = Cluster::new(partitions, 3, &vec![(1, 0); members]);
        let share = 3 * u32::from(partitions) / members as u32;
        assert!(held(&cluster.table).values().all(|held| (share..=share + 1).contains(held)));
        let mut first: BTreeMap<MemberId, u32> = BTreeMap::new();
        for partition in cluster.table.partitions().all() {
            let member = cluster.table.primaries(partition).next().expect("there are members");
            *first.entry(member.id).or_default() += 1;
        }
        let share = u32::from(partitions) / members as u32;
        let most = first.values().max().expect("there are members");
        assert!(*most <= share + 1, "{partitions} partitions, {members} members: {first:?}");
    }
}

#[test]
fn fewer_members_than_places_hold_one_place_each() {
    let mut cluster = Cluster::new(64, 3, &[(1, 0)]);
    assert_eq!(held(&cluster.table)[&MemberId::new(1)], 64);
    for _ in 0..2 {
        let moved = cluster.join(1, 0);
        assert_eq!((moved.places, moved.least), (64, 64), "who was there keeps what it had");
    }
    let moved = cluster.leave(0);
    assert_eq!(moved.places, 0, "nobody is left to take its places");
    assert_eq!(cluster.table.places(), 2);
}

#[test]
fn zones_of_two_one_and_one() {
    let mut cluster = Cluster::new(1024, 3, &[(1, 0), (1, 0), (1, 1), (1, 2)]);
    let shares: Vec<u32> = held(&cluster.table).into_values().collect();
    assert_eq!(shares, [512, 512, 1024, 1024]);
    let moved = cluster.join(1, 1);
    assert_eq!((moved.places, moved.least), (512, 512));
    let moved = cluster.leave(4);
    assert_eq!((moved.places, moved.least), (512, 512));
}

#[test]
fn weights_of_one_and_four() {
    let members: Vec<(u16, u16)> = (0..10).map(|index| (1 + 3 * (index % 2), 0)).collect();
    let mut cluster = Cluster::new(4096, 3, &members);
    for weight in [1, 4] {
        let moved = cluster.join(weight, 0);
        assert!(moved.is_within(5), "{moved:?}");
    }
    for index in [1, 4] {
        let moved = cluster.leave(index);
        assert!(moved.is_within(10), "{moved:?}");
    }
}

#[test]
fn joins_and_leaves_move_hardly_more_than_they_must() {
    for members in [3, 4, 9, 30] {
        let mut cluster = Cluster::new(1024, 3, &vec![(1, 0); members]);
        for _ in 0..6 {
            let moved = cluster.join(1, 0);
            assert!(moved.is_within(5), "join beside {members}: {moved:?}");
            // And the least is what one would say by hand.
            let share = 3072.0 / cluster.members.len() as f64;
            assert!(f64::from(moved.least) <= share.ceil(), "{moved:?} of {share}");
        }
        for index in [0, 3, 1, 4, 2, 0] {
            let moved = cluster.leave(index % cluster.members.len());
            assert!(moved.is_within(10), "leave of {members}: {moved:?}");
        }
    }
}

/// Whatever an operator does, the laws hold after it; the bars of movement where zones stay.
#[test]
fn random_changes_of_random_clusters() {
    for seed in 0..120 {
        let mut rng = Rng::from_seed(seed);
        let partitions = *rng.pick(&[16, 64, 256]);
        let places = rng.between(1, 5) as u8;
        let zones = rng.between(1, 6);
        let weights: &[u16] = if rng.chance(1, 2) { &[1] } else { &[1, 2, 4] };
        let drawn: Vec<(u16, u16)> = (0..rng.between(1, 14))
            .map(|_| (*rng.pick(weights), rng.below(zones) as u16))
            .collect();
        let mut cluster = Cluster::new(partitions, places, &drawn);
        for _ in 0..12 {
            let index = rng.below(cluster.members.len() as u64) as usize;
            match rng.below(4) {
                0 if cluster.members.len() > 1 => drop(cluster.leave(index)),
                1 => {
                    cluster.members[index].weight = *rng.pick(weights);
                    cluster.change();
                }
                2 => {
                    cluster.members[index].zone = ZoneId::new(rng.below(zones) as u16);
                    cluster.change();
                }
                _ => drop(cluster.join(*rng.pick(weights), rng.below(zones) as u16)),
            }
        }
    }
}

/// A change of nothing moves nothing, also after a long history.
#[test]
fn the_same_members_are_the_same_table() {
    let mut cluster = Cluster::new(256, 3, &[(1, 0), (2, 1), (1, 2), (4, 0), (1, 1)]);
    for index in [0, 2, 1] {
        cluster.join(2, index);
        cluster.leave(usize::from(index));
    }
    let before = cluster.table.clone();
    let moved = cluster.change();
    assert_eq!(moved.places, 0);
    assert_eq!(cluster.table, before);
}

/// "If a node becomes unavailable … the load handled by this node is evenly dispersed across the
/// remaining available nodes" (Dynamo, section 4.2): its first fallbacks are everybody.
#[test]
fn fallbacks_of_a_failed_node_are_spread_over_all_others() {
    let cluster = Cluster::new(4096, 3, &[(1, 0); 9]);
    let preferences = Preferences::new(cluster.table.clone());
    let failed = MemberId::new(5);
    let mut takes: BTreeMap<MemberId, u32> = BTreeMap::new();
    for partition in cluster.table.partitions().all() {
        let list: Vec<_> = preferences.of(partition).collect();
        assert_eq!(list.len(), 6);
        let id = |at: usize| preferences.member(list[at].position).id;
        assert_eq!((0..6).map(id).collect::<BTreeSet<_>>().len(), 6, "a member stands there twice");
        assert!(list.iter().enumerate().all(|(at, entry)| entry.is_primary == (at < 3)));
        if (0..3).any(|at| id(at) == failed) {
            *takes.entry(id(3)).or_default() += 1;
        }
    }
    let mean = f64::from(takes.values().sum::<u32>()) / 8.0;
    assert_eq!(takes.len(), 8);
    assert!(takes.values().all(|taken| (f64::from(*taken) / mean - 1.0).abs() < 0.25), "{takes:?}");
}

/// A thousand members on the largest ring; how long it takes is in `benches/ring.rs`.
#[test]
fn a_thousand_members_on_the_largest_ring() {
    let members: Vec<(u16, u16)> = (0..1000).map(|index| (1 + index % 3, index % 10)).collect();
    let mut cluster = Cluster::new(16_384, 3, &members);
    let moved = cluster.join(2, 3);
    assert!(moved.is_within(5), "{moved:?}");
    let moved = cluster.leave(500);
    assert!(moved.is_within(10), "{moved:?}");
}

fn member(id: u128, weight: u16, zone: u16) -> Member {
    Member { id: MemberId::new(id), weight, zone: ZoneId::new(zone) }
}

fn set(members: &[Member]) -> Members {
    Members::new(members.iter().copied()).expect("distinct members")
}

fn ring(partitions: u16) -> Partitions {
    Partitions::new(partitions).expect("a power of two")
}

fn holders(table: &Table, partition: PartitionId) -> Vec<MemberId> {
    (0..table.places_wanted()).filter_map(|place| table.holder(partition, place)).collect()
}

fn held(table: &Table) -> BTreeMap<MemberId, u32> {
    let mut held: BTreeMap<MemberId, u32> =
        table.members().all().iter().map(|member| (member.id, 0)).collect();
    for partition in table.partitions().all() {
        for holder in holders(table, partition) {
            *held.get_mut(&holder).expect("a member holds it") += 1;
        }
    }
    held
}

/// Places that another member holds than before. Who was first does not count.
fn moved(before: &Table, after: &Table) -> u32 {
    let mut moved = 0;
    for partition in before.partitions().all() {
        for place in 0..before.places_wanted() {
            let (old, new) = (before.holder(partition, place), after.holder(partition, place));
            moved += u32::from(new.is_some() && old != new);
        }
    }
    moved
}

/// What each should hold at most: the least load for a weight at which there is room for all places,
/// found by bisection. `round` says of what parts places are made.
fn fair_shares(
    members: &[Member],
    partitions: u16,
    places: usize,
    round: impl Fn(f64) -> f64,
) -> BTreeMap<MemberId, f64> {
    let most = f64::from(partitions);
    let mut zones: BTreeMap<ZoneId, Vec<&Member>> = BTreeMap::new();
    members.iter().for_each(|member| zones.entry(member.zone).or_default().push(member));
    let count = zones.len();
    let (low, high) = match count <= places {
        true => (most, most * (places - count + 1) as f64),
        false => (0.0, most),
    };
    let share = |member: &Member, load: f64| round(load * f64::from(member.weight)).min(most);
    let of_zone = |zone: &[&Member], load: f64| -> f64 {
        zone.iter().map(|member| share(member, load)).sum()
    };
    let bisect = |holds: &dyn Fn(f64) -> f64, wanted: f64| {
        let (mut low, mut high) = (0.0, most);
        for _ in 0..200 {
            let middle = (low + high) / 2.0;
            if holds(middle) < wanted { low = middle } else { high = middle }
        }
        high
    };
    let all = |load: f64| zones.values().map(|zone| of_zone(zone, load).clamp(low, high)).sum();
    let load = bisect(&all, most * places as f64 - 1e-6);
    let mut fair = BTreeMap::new();
    for zone in zones.values() {
        let total = of_zone(zone, load).clamp(low, high);
        let load = bisect(&|load| of_zone(zone, load), total - 1e-6);
        for member in zone {
            fair.insert(member.id, share(member, load + 1e-9));
        }
    }
    fair
}
