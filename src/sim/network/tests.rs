//! The network is tested too: one that lost what it should keep would be the bug that all hunt, and
//! one that lost nothing would find none.

use super::nemesis::Deed;
use super::nemesis::Nemesis;
use super::nemesis::Settings;
use super::nemesis::Shape;
use super::*;

const A: Endpoint = Endpoint { node: 0, shard: 0 };
const B: Endpoint = Endpoint { node: 1, shard: 0 };
const C: Endpoint = Endpoint { node: 2, shard: 0 };

/// Everything is there so long after the last trouble.
const PATIENCE: Duration = Duration::from_secs(300);

type Place = (Endpoint, LinkId);

/// What one side did and heard.
#[derive(Debug, Default)]
struct Known {
    sent: Vec<u8>,
    taken: usize,
    received: usize,
    is_open: bool,
    is_closing: bool,
    is_closed: bool,
    /// Its process was killed.
    is_dead: bool,
}

impl Known {
    fn is_over(&self) -> bool {
        self.is_closed || self.is_dead
    }
}

/// A network and somebody who knows what was sent, and judges whatever is heard.
struct Fixture {
    network: Network,
    now: Instant,
    seed: u64,
    /// By its number, who asked for a connection; and both sides by their names.
    openers: Vec<Place>,
    acceptors: Vec<Option<Place>>,
    known: BTreeMap<Place, Known>,
    trace: Trace,
    /// No process was ever stopped: no kernel had to keep what it got.
    is_never_stopped: bool,
}

impl Fixture {
    fn new(seed: u64, dials: Dials) -> Self {
        Self {
            network: Network::new(Rng::from_seed(seed), dials),
            now: Instant::START,
            seed,
            openers: Vec::new(),
            acceptors: Vec::new(),
            known: BTreeMap::new(),
            trace: Trace::default(),
            is_never_stopped: true,
        }
    }

    /// One with a connection that is open at both sides.
    fn connected(seed: u64, dials: Dials) -> (Self, Place, Place) {
        let mut fixture = Self::new(seed, dials);
        let opener = fixture.connect(A, B);
        fixture.pass(Duration::from_secs(200));
        let acceptor = fixture.acceptors[0].expect("nothing is in the way");
        assert!(fixture.known[&opener].is_open, "seed={seed}");
        (fixture, opener, acceptor)
    }

    fn connect(&mut self, from: Endpoint, to: Endpoint) -> Place {
        let link = LinkId::new(self.openers.len() as u64);
        self.network.connect(self.now, from, link, to);
        self.openers.push((from, link));
        self.acceptors.push(None);
        assert!(self.known.insert((from, link), Known::default()).is_none());
        (from, link)
    }

    fn send(&mut self, place: Place, length: usize) {
        let known = self.known.get_mut(&place).expect("a side that is known");
        let start = known.sent.len();
        let key = place.1.to_raw().wrapping_mul(31) as usize;
        known
            .sent
            .extend((start..start + length).map(|at| (at ^ (at >> 8)).wrapping_add(key) as u8));
        self.network.send(self.now, place.0, place.1, &known.sent[start..]);
    }

    fn close(&mut self, place: Place) {
        self.known.get_mut(&place).expect("a side that is known").is_closing = true;
        self.network.close(self.now, place.0, place.1);
    }

    fn end_processes(&mut self, node: usize) {
        for (place, known) in &mut self.known {
            known.is_dead |= place.0.node == node;
        }
    }

    fn kill(&mut self, node: usize) {
        self.network.kill(self.now, node);
        self.end_processes(node);
    }

    fn power_off(&mut self, node: usize) {
        self.network.power_off(self.now, node);
        self.end_processes(node);
    }

    fn pause(&mut self, node: usize, until: Instant) {
        self.network.pause(self.now, node, until);
        self.is_never_stopped = false;
    }

    /// Lets time pass, and judges what happens in it.
    fn pass(&mut self, time: Duration) -> Vec<Occurrence> {
        let end = self.now + time;
        let mut all = Vec::new();
        while let Some(at) = self.network.next_at().filter(|at| *at <= end) {
            assert!(at >= self.now, "seed={}: time goes back", self.seed);
            self.now = at;
            all.extend(self.happen());
        }
        self.now = end;
        all
    }

    /// What happens up to now.
    fn happen(&mut self) -> Vec<Occurrence> {
        let mut all = Vec::new();
        while let Some(occurrence) = self.network.take(self.now) {
            self.judge(&occurrence);
            occurrence.trace(&mut self.trace);
            all.push(occurrence);
        }
        all
    }

    fn judge(&mut self, occurrence: &Occurrence) {
        let place = occurrence.place();
        let context = format!("seed={} {place:?}", self.seed);
        if let Occurrence::Accepted { .. } = occurrence {
            let number = (place.1.to_raw() - ACCEPTED_FIRST) as usize;
            assert_eq!(self.acceptors[number].replace(place), None, "{context}: accepted twice");
            let known = Known { is_open: true, ..Known::default() };
            assert!(self.known.insert(place, known).is_none(), "{context}: a name twice");
            return;
        }
        let peer = self.peer(place);
        let known = self.known.get_mut(&place).expect("a name that was given");
        assert!(!known.is_dead, "{context}: its process is gone");
        assert!(!known.is_closed, "{context}: something after the end");
        match occurrence {
            Occurrence::Accepted { .. } => unreachable!("it is above"),
            Occurrence::Opened { .. } => {
                assert!(!known.is_open && !known.is_closing, "{context}: opened");
                known.is_open = true;
            }
            Occurrence::Closed { .. } => known.is_closed = true,
            Occurrence::Sent { bytes, .. } => {
                known.taken += bytes;
                assert!(known.taken <= known.sent.len(), "{context}: took more than there is");
                let taken = known.taken;
                // Who closed its side or never knew of it counts nothing.
                let peer = peer.map(|peer| &self.known[&peer]);
                let bound = if self.is_never_stopped { 1 } else { 2 } * WINDOW_BYTES;
                if let Some(peer) = peer.filter(|peer| !peer.is_closing && !peer.is_over()) {
                    assert!(taken - peer.received <= bound, "{context}: window");
                }
            }
            Occurrence::Received { bytes, .. } => {
                assert!(known.is_open && !known.is_closing, "{context}: received");
                let from = known.received;
                known.received += bytes.len();
                let sender = &self.known[&peer.expect("somebody sent it")];
                let sent = sender.sent.get(from..from + bytes.len());
                assert_eq!(sent, Some(&bytes[..]), "{context}: not what was sent");
                assert!(from + bytes.len() <= sender.taken || sender.is_over(), "{context}: early");
            }
        }
    }

    fn peer(&self, place: Place) -> Option<Place> {
        match place.1.to_raw().checked_sub(ACCEPTED_FIRST) {
            Some(number) => Some(self.openers[number as usize]),
            None => self.acceptors[place.1.to_raw() as usize],
        }
    }

    fn received(&self, place: Place) -> usize {
        self.known[&place].received
    }

    fn is_closed(&self, place: Place) -> bool {
        self.known[&place].is_closed
    }

    /// After all troubles: who is open on both sides has everything, and who is over at one is so
    /// at the other.
    fn assert_all_came_right(&self) {
        let mut open = 0;
        for (number, opener) in self.openers.iter().enumerate() {
            let context = format!("seed={} {opener:?}", self.seed);
            let one = &self.known[opener];
            let Some(acceptor) = self.acceptors[number] else {
                assert!(one.is_over(), "{context}: hears nothing");
                continue;
            };
            let other = &self.known[&acceptor];
            assert_eq!(one.is_over(), other.is_over(), "{context}: {one:#?} {other:#?}");
            if !one.is_over() {
                open += 1;
                assert_eq!(one.sent.len(), other.received, "{context}: forth");
                assert_eq!(other.sent.len(), one.received, "{context}: back");
            }
        }
        assert_eq!(self.network.connections.len(), open, "seed={}: remembered", self.seed);
    }
}

/// What comes on top of what the network and the nemesis draw.
#[derive(Clone, Copy, Default)]
struct Troubles {
    /// Of 1000 moments, at how many.
    kills: u64,
    powers: u64,
    pauses: u64,
    closes: u64,
}

const ALL: Troubles = Troubles { kills: 6, powers: 6, pauses: 10, closes: 60 };

/// A cluster in which everybody sends to everybody, and everything happens.
struct Cluster {
    fixture: Fixture,
    nemesis: Nemesis,
    rng: Rng,
    nodes: usize,
    deeds: Vec<Deed>,
    down: BTreeSet<usize>,
}

impl Cluster {
    fn new(seed: u64, dials: impl Fn(&mut Dials)) -> Self {
        let mut rng = Rng::from_seed(seed ^ 0x5eed);
        let mut drawn = Dials::draw(&mut rng);
        dials(&mut drawn);
        let nodes = rng.between(2, 5) as usize;
        let settings = Settings::draw(&mut rng);
        Self {
            fixture: Fixture::new(seed, drawn),
            nemesis: Nemesis::new(rng.fork(), settings, nodes),
            rng,
            nodes,
            deeds: Vec::new(),
            down: BTreeSet::new(),
        }
    }

    /// Everything, then a quiet time.
    fn run(mut self, troubles: Troubles) -> Self {
        for _ in 0..300 {
            let pause = *self.rng.pick(&[100_000, 10_000_000, 300_000_000]);
            let pause = Duration::from_nanos(self.rng.below(pause));
            self.pass(pause);
            self.act();
            self.trouble(troubles);
        }
        self.nemesis.end(self.fixture.now, &mut self.fixture.network);
        for node in std::mem::take(&mut self.down) {
            self.fixture.network.up(self.fixture.now, node);
        }
        self.fixture.pass(PATIENCE);
        self.fixture.assert_all_came_right();
        self
    }

    fn pass(&mut self, time: Duration) {
        let end = self.fixture.now + time;
        while let Some(at) = self.nemesis.next_at().filter(|at| *at <= end) {
            let rest = at.since(self.fixture.now);
            self.fixture.pass(rest);
            let now = self.fixture.now;
            self.deeds.extend(self.nemesis.act(now, &mut self.fixture.network));
        }
        self.fixture.pass(end.since(self.fixture.now));
    }

    /// Somebody connects or sends.
    fn act(&mut self) {
        let now = self.fixture.now;
        let from = self.endpoint();
        if self.rng.chance(1, 5) || self.fixture.known.is_empty() {
            let to = self.endpoint();
            let network = &self.fixture.network;
            let runs = network.is_up(from.node) && network.stopped_until(now, from.node).is_none();
            if from.node != to.node && runs {
                self.fixture.connect(from, to);
            }
            return;
        }
        for _ in 0..self.rng.between(1, 6) {
            let Some(place) = self.side() else { return };
            let most = *self.rng.pick(&[10, 10, 1000, 1000, 1000, 150_000]);
            let length = self.rng.below(most) as usize;
            self.fixture.send(place, length);
        }
    }

    fn trouble(&mut self, troubles: Troubles) {
        let node = self.rng.below(self.nodes as u64) as usize;
        let now = self.fixture.now;
        if self.rng.chance(troubles.closes, 1000)
            && let Some(place) = self.side()
        {
            self.fixture.close(place);
        }
        if self.rng.chance(troubles.pauses, 1000) {
            let until = now + Duration::from_millis(self.rng.below(5_000));
            self.fixture.pause(node, until);
        }
        if self.rng.chance(troubles.kills, 1000) && self.down.insert(node) {
            self.fixture.kill(node);
        }
        if self.rng.chance(troubles.powers, 1000) {
            self.fixture.power_off(node);
            self.down.insert(node);
        }
        if self.rng.chance(1, 30)
            && let Some(node) = self.down.pop_first()
        {
            self.fixture.network.up(now, node);
        }
    }

    /// One that may act.
    fn side(&mut self) -> Option<Place> {
        let (now, network) = (self.fixture.now, &self.fixture.network);
        let may = |(place, known): &(&Place, &Known)| {
            let is_stopped = network.stopped_until(now, place.0.node).is_some();
            !known.is_closing && !known.is_over() && !is_stopped
        };
        let all: Vec<Place> =
            self.fixture.known.iter().filter(may).map(|(place, _)| *place).collect();
        (!all.is_empty()).then(|| *self.rng.pick(&all))
    }

    fn endpoint(&mut self) -> Endpoint {
        let node = self.rng.below(self.nodes as u64) as usize;
        Endpoint { node, shard: self.rng.below(2) as usize }
    }
}

/// The order of what is heard, the prefix, the window, the ends: see `Fixture::judge` and what is
/// asserted at the end.
#[test]
fn whatever_happens_each_side_hears_a_prefix_and_one_end() {
    let mut coverage = Coverage::default();
    let mut closed = 0;
    for seed in 0..150 {
        let cluster = Cluster::new(seed, |_| ()).run(ALL);
        coverage.join(&cluster.fixture.network.coverage);
        closed += cluster.fixture.known.values().filter(|known| known.is_closed).count();
    }
    assert_eq!(coverage.missing_of_network(), [], "{coverage}");
    assert!(closed > 1000, "{closed}");
}

#[test]
fn without_ends_everything_arrives_after_the_last_trouble() {
    let mut bytes = 0;
    for seed in 0..100 {
        let patient = |dials: &mut Dials| {
            dials.reset_one_in = 0;
            dials.user_timeout = Duration::from_secs(1_000_000);
            dials.connect_timeout = dials.user_timeout;
        };
        let troubles = Troubles { pauses: 10, ..Troubles::default() };
        let cluster = Cluster::new(seed, patient).run(troubles);
        for known in cluster.fixture.known.values() {
            assert!(known.is_open && !known.is_over(), "seed={seed}");
            bytes += known.received;
        }
    }
    assert!(bytes > 10_000_000, "{bytes}");
}

/// If this fails, no failure can be had again.
#[test]
fn a_seed_gives_the_same_occurrences_each_time() {
    let run = |seed| {
        let cluster = Cluster::new(seed, |_| ()).run(ALL);
        (cluster.fixture.trace, cluster.deeds)
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed), "seed={seed}");
        assert_ne!(run(seed).0, run(seed + 1000).0, "seed={seed}");
    }
}

#[test]
fn a_cut_direction_delivers_nothing_and_healing_brings_everything() {
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.network.cut(0, 1);
        fixture.network.cut(1, 0);
        fixture.send(a, 10_000);
        fixture.send(b, 20_000);
        let heard = fixture.pass(Duration::from_secs(9));
        let is_sent = |occurrence: &Occurrence| matches!(occurrence, Occurrence::Sent { .. });
        assert!(heard.iter().all(is_sent), "seed={seed}: {heard:?}");
        fixture.network.heal_all(fixture.now);
        fixture.pass(Duration::from_secs(1));
        assert_eq!((fixture.received(a), fixture.received(b)), (20_000, 10_000), "seed={seed}");
    }
}

/// From A to B nothing passes, acknowledgements included.
#[test]
fn a_one_way_cut_lets_a_window_pass_and_then_nothing() {
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.network.cut(0, 1);
        fixture.send(b, 10 * WINDOW_BYTES);
        fixture.pass(Duration::from_secs(9));
        assert_eq!(fixture.received(a), WINDOW_BYTES, "seed={seed}");
        assert_eq!(fixture.known[&b].taken, WINDOW_BYTES, "seed={seed}");
        fixture.pass(Duration::from_secs(2));
        assert!(fixture.is_closed(b), "seed={seed}: who waits for acknowledgements gives up");
        assert!(!fixture.is_closed(a), "seed={seed}: who waits for nothing hears nothing");
        fixture.pass(Duration::from_secs(1000));
        assert!(!fixture.is_closed(a), "seed={seed}: while it is cut");
        fixture.network.heal(fixture.now, 0, 1);
        fixture.pass(Duration::from_secs(3));
        assert!(fixture.is_closed(a), "seed={seed}");
    }
}

#[test]
fn who_waits_longer_than_the_user_timeout_gives_up_and_not_before() {
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.network.cut(0, 1);
        fixture.network.cut(1, 0);
        fixture.pass(Duration::from_secs(1000));
        assert!(!fixture.is_closed(a), "seed={seed}: an idle connection waits for nothing");
        fixture.send(a, 1);
        fixture.pass(Duration::from_millis(9_990));
        assert!(!fixture.is_closed(a), "seed={seed}");
        fixture.pass(Duration::from_millis(20));
        assert!(fixture.is_closed(a), "seed={seed}");
        fixture.network.heal_all(fixture.now);
        fixture.send(b, 1);
        fixture.pass(Duration::from_millis(200));
        assert!(fixture.is_closed(b), "seed={seed}: it was told as soon as it sent");
        assert_eq!(fixture.received(b), 0, "seed={seed}: nobody repeats what was given up");
    }
}

#[test]
fn patience_counts_from_the_last_acknowledgement() {
    for seed in 0..100 {
        let (mut fixture, a, _) = Fixture::connected(seed, Dials::default());
        fixture.send(a, 1);
        fixture.pass(Duration::from_secs(4));
        fixture.network.cut(0, 1);
        fixture.send(a, 1);
        fixture.pass(Duration::from_millis(9_990));
        assert!(!fixture.is_closed(a), "seed={seed}");
        fixture.pass(Duration::from_millis(20));
        assert!(fixture.is_closed(a), "seed={seed}");
    }
}

#[test]
fn a_clog_delays_everything_and_ends_nothing() {
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.network.clog(0, 1, fixture.now + Duration::from_secs(60));
        fixture.send(a, 1000);
        fixture.send(b, 1000);
        fixture.pass(Duration::from_millis(59_990));
        assert_eq!((fixture.received(a), fixture.received(b)), (1000, 0), "seed={seed}");
        fixture.pass(Duration::from_millis(100));
        assert_eq!(fixture.received(b), 1000, "seed={seed}");
        fixture.pass(Duration::from_secs(100));
        assert!(!fixture.is_closed(a) && !fixture.is_closed(b), "seed={seed}");
    }
}

#[test]
fn a_connection_is_refused_where_no_process_is_and_times_out_where_nothing_is() {
    for seed in 0..100 {
        let mut fixture = Fixture::new(seed, Dials::default());
        fixture.kill(1);
        fixture.power_off(2);
        fixture.network.cut(1, 0);
        let behind = fixture.connect(A, B);
        fixture.network.heal_all(fixture.now);
        let refused = fixture.connect(A, B);
        let silent = fixture.connect(A, C);
        fixture.pass(Duration::from_millis(10));
        assert!(fixture.is_closed(refused) && fixture.is_closed(behind), "seed={seed}");
        fixture.network.cut(1, 0);
        let behind = fixture.connect(A, B);
        fixture.pass(Duration::from_millis(2_980));
        assert!(!fixture.is_closed(silent), "seed={seed}");
        fixture.pass(Duration::from_millis(30));
        assert!(fixture.is_closed(silent) && fixture.is_closed(behind), "seed={seed}");
        assert_eq!(fixture.network.connections.len(), 0, "seed={seed}");
    }
}

/// The answer does not come back: who was asked never hears that it was.
#[test]
fn a_handshake_that_ends_half_way_is_no_connection() {
    for seed in 0..100 {
        let mut fixture = Fixture::new(seed, Dials::default());
        fixture.network.cut(1, 0);
        let opener = fixture.connect(A, B);
        fixture.send(opener, 100);
        let heard = fixture.pass(Duration::from_secs(100));
        assert_eq!(heard, [Occurrence::Closed { at: opener.0, link: opener.1 }], "seed={seed}");
        fixture.network.heal_all(fixture.now);
        assert_eq!(fixture.pass(PATIENCE), [], "seed={seed}");
    }
}

#[test]
fn what_was_sent_before_a_close_arrives_before_it() {
    for seed in 0..100 {
        let dials = Dials { loss_percent: 20, tail_one_in: 5, ..Dials::default() };
        let (mut fixture, a, b) = Fixture::connected(seed, dials);
        fixture.send(a, 200_000);
        fixture.close(a);
        fixture.pass(PATIENCE);
        assert_eq!(fixture.received(b), 200_000, "seed={seed}");
        fixture.assert_all_came_right();
        assert!(fixture.is_closed(a) && fixture.is_closed(b), "seed={seed}");
    }
}

#[test]
fn a_killed_process_is_heard_of_at_once_and_sometimes_after_its_last_words() {
    let (mut whole, mut part) = (0, 0);
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.send(a, 30_000);
        fixture.pass(Duration::from_micros(70));
        fixture.kill(0);
        fixture.pass(Duration::from_secs(3));
        assert!(fixture.is_closed(b), "seed={seed}");
        let received = fixture.received(b);
        whole += u64::from(received == 30_000);
        part += u64::from(received < 30_000);
    }
    assert!(whole > 10 && part > 10, "{whole} {part}");
}

#[test]
fn a_machine_without_power_says_nothing_until_it_is_up_again() {
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.power_off(0);
        fixture.pass(Duration::from_secs(1000));
        assert!(!fixture.is_closed(b), "seed={seed}");
        if seed % 2 == 0 {
            fixture.send(b, 10);
            fixture.pass(Duration::from_millis(9_000));
            assert!(!fixture.is_closed(b), "seed={seed}");
            fixture.pass(Duration::from_millis(1_100));
        } else {
            fixture.network.up(fixture.now, 0);
            fixture.pass(Duration::from_secs(3));
        }
        assert!(fixture.is_closed(b), "seed={seed}");
        assert_eq!(fixture.received(a), 0);
    }
}

/// What was on its way when the power went may arrive, if nothing stops it.
#[test]
fn a_machine_without_power_repeats_nothing() {
    let mut arrived = 0;
    for seed in 0..200 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        let is_cut = seed % 2 == 0;
        fixture.send(a, 1_000);
        fixture.pass(Duration::from_micros(40));
        fixture.power_off(0);
        if is_cut {
            fixture.network.cut(0, 1);
        }
        fixture.pass(Duration::from_secs(1));
        fixture.network.heal_all(fixture.now);
        fixture.pass(Duration::from_secs(1));
        let received = fixture.received(b);
        assert!(received == 0 || !is_cut, "seed={seed}");
        arrived += received;
    }
    assert!(arrived > 1_000, "{arrived}");
}

#[test]
fn a_stopped_process_hears_what_it_missed_and_its_kernel_takes_a_window() {
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        let until = fixture.now + Duration::from_secs(8);
        fixture.pause(1, until);
        fixture.send(a, 10 * WINDOW_BYTES);
        fixture.send(b, 100);
        let heard = fixture.pass(Duration::from_millis(7_999));
        assert!(heard.iter().all(|occurrence| occurrence.place() == a), "seed={seed}");
        let taken = fixture.known[&a].taken;
        assert!((WINDOW_BYTES + 1..=2 * WINDOW_BYTES).contains(&taken), "seed={seed}: {taken}");
        fixture.pass(Duration::from_secs(10));
        assert_eq!(fixture.received(b), 10 * WINDOW_BYTES, "seed={seed}");
        assert_eq!(fixture.received(a), 100, "seed={seed}");
    }
}

/// What it missed comes one by one: it may close while more is there.
#[test]
fn who_closes_while_it_catches_up_hears_the_end_alone() {
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        let until = fixture.now + Duration::from_secs(1);
        fixture.pause(1, until);
        (0..20).for_each(|_| fixture.send(a, 3_000));
        fixture.pass(Duration::from_millis(999));
        fixture.now = until;
        let first = fixture.network.take(until).expect("something was missed");
        fixture.judge(&first);
        fixture.close(b);
        let heard = fixture.pass(Duration::from_secs(10));
        let (at, link) = b;
        let of_b: Vec<_> = heard.into_iter().filter(|o| o.place() == b).collect();
        assert_eq!(of_b, [Occurrence::Closed { at, link }], "seed={seed}");
        fixture.assert_all_came_right();
    }
}

/// It is stopped for longer than others wait: they give up, and it hears of that when it goes on,
/// after all that came before.
#[test]
fn a_process_that_is_stopped_for_too_long_loses_its_connections() {
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.pause(1, fixture.now + Duration::from_secs(60));
        fixture.send(a, 10 * WINDOW_BYTES);
        fixture.pass(Duration::from_secs(59));
        assert!(fixture.is_closed(a) && !fixture.is_closed(b), "seed={seed}");
        fixture.pass(Duration::from_secs(4));
        assert!(fixture.is_closed(b), "seed={seed}");
        assert!(fixture.received(b) > WINDOW_BYTES / 2, "seed={seed}");
    }
}

#[test]
fn a_broken_connection_ends_at_both_sides_in_their_time() {
    let (mut together, mut lost) = (0, 0);
    for seed in 0..100 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.network.dials.reset_one_in = 1;
        fixture.send(a, 50_000);
        let heard = fixture.pass(Duration::from_millis(500));
        together += u64::from(fixture.is_closed(a) == fixture.is_closed(b));
        fixture.pass(Duration::from_secs(3));
        assert!(fixture.is_closed(a) && fixture.is_closed(b), "seed={seed}: {heard:?}");
        lost += u64::from(fixture.received(b) < 50_000);
    }
    assert!(together < 95 && lost > 50, "{together} {lost}");
}

#[test]
fn bytes_come_in_pieces_cut_anywhere() {
    let (mut whole, mut cut, mut tiny) = (0, 0, 0);
    for seed in 0..200 {
        let (mut fixture, a, b) = Fixture::connected(seed, Dials::default());
        fixture.send(a, 1_000);
        let heard = fixture.pass(Duration::from_secs(1));
        let of_b: Vec<usize> = heard.iter().filter_map(received_bytes).collect();
        assert_eq!((of_b.iter().sum(), fixture.received(b)), (1_000, 1_000), "seed={seed}");
        whole += u64::from(of_b.len() == 1);
        cut += u64::from(of_b.len() > 2);
        tiny += u64::from(of_b.iter().any(|length| *length < 8));
    }
    assert!(whole > 50 && cut > 20 && tiny > 20, "{whole} {cut} {tiny}");
}

fn received_bytes(occurrence: &Occurrence) -> Option<usize> {
    match occurrence {
        Occurrence::Received { bytes, .. } => Some(bytes.len()),
        _ => None,
    }
}

#[test]
fn order_is_lost_between_connections_only() {
    let overtaken = (0..100).filter(|seed| {
        let dials = Dials { tail_one_in: 3, ..Dials::default() };
        let (mut fixture, a, b) = Fixture::connected(*seed, dials);
        let other = fixture.connect(A, B);
        fixture.pass(Duration::from_secs(1));
        fixture.send(a, 5);
        fixture.send(other, 5);
        let heard = fixture.pass(Duration::from_secs(1));
        let first = heard.iter().find(|o| matches!(o, Occurrence::Received { .. }));
        first.expect("both arrive").place() != b
    });
    assert!((20..80).contains(&overtaken.count()));
}

#[test]
#[should_panic(expected = "has had a connection l0")]
fn a_shard_that_names_two_connections_alike_hears_it_at_once() {
    let mut network = Network::new(Rng::from_seed(0), Dials::default());
    network.connect(Instant::START, A, LinkId::new(0), B);
    network.connect(Instant::START, A, LinkId::new(0), C);
}

/// The nemesis does what its settings allow, each of it, and nothing else.
#[test]
fn a_nemesis_does_what_it_may_and_heals_in_the_end() {
    let mut shapes = 0;
    for seed in 0..200 {
        let mut rng = Rng::from_seed(seed);
        let settings = Settings::draw(&mut rng);
        let nodes = 2 + (seed % 5) as usize;
        let mut network = Network::new(rng.fork(), Dials::default());
        let mut nemesis = Nemesis::new(rng.fork(), settings.clone(), nodes);
        let mut healed = true;
        for _ in 0..60 {
            let Some(now) = nemesis.next_at() else { break };
            match nemesis.act(now, &mut network).expect("its time has come") {
                Deed::Cut { shape, cuts } => {
                    assert!(settings.shapes.contains(&shape), "seed={seed}");
                    let one_way = cuts.iter().any(|(from, to)| !network.is_cut(*to, *from));
                    assert!(!one_way || settings.one_way_percent > 0, "seed={seed}");
                    assert!(one_way || settings.one_way_percent < 100, "seed={seed}");
                    assert_cuts(shape, nodes, &network, one_way);
                    healed = false;
                    shapes += 1;
                }
                Deed::Healed => {
                    assert!(!healed, "seed={seed}");
                    assert_eq!(cut_ways(&network, nodes), 0, "seed={seed}");
                    healed = true;
                }
                Deed::CloggedWay { .. } => assert!(settings.clogs, "seed={seed}"),
                Deed::CloggedNode { .. } => {
                    assert!(settings.clogs || settings.swizzles, "seed={seed}");
                }
            }
        }
        nemesis.end(Instant::START, &mut network);
        assert_eq!((cut_ways(&network, nodes), nemesis.next_at()), (0, None), "seed={seed}");
    }
    assert!(shapes > 1000, "{shapes}");
}

/// All of a subset are clogged at once, each was so after another, and they come back in any order.
#[test]
fn a_swizzle_clogs_one_by_one_and_frees_in_another_order() {
    let (mut alike, mut other) = (0, 0);
    for seed in 0..300 {
        let settings = Settings { swizzles: true, ..Settings::default() };
        let mut network = Network::new(Rng::from_seed(seed), Dials::default());
        let mut nemesis = Nemesis::new(Rng::from_seed(seed), settings, 5);
        let (mut nodes, mut ends) = (BTreeSet::new(), Vec::new());
        loop {
            let now = nemesis.next_at().expect("it may act");
            if ends.iter().any(|until| *until <= now) {
                break; // the next swizzle
            }
            let deed = nemesis.act(now, &mut network);
            let Some(Deed::CloggedNode { node, until }) = deed else { panic!("{deed:?}") };
            assert!(nodes.insert(node), "seed={seed}: {node} twice");
            ends.push(until);
        }
        let count = if ends.is_sorted() { &mut alike } else { &mut other };
        *count += u64::from(ends.len() > 1);
    }
    assert!(alike > 20 && other > 100, "{alike} {other}");
}

fn cut_ways(network: &Network, nodes: usize) -> usize {
    let ways = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
    ways.filter(|(from, to)| network.is_cut(*from, *to)).count()
}

/// How many directions a netsplit of this shape cuts.
fn assert_cuts(shape: Shape, nodes: usize, network: &Network, one_way: bool) {
    let cut = cut_ways(network, nodes) * if one_way { 2 } else { 1 };
    let all = nodes * (nodes - 1);
    match shape {
        Shape::One => assert_eq!(cut, 2 * (nodes - 1)),
        Shape::Halves => assert_eq!(cut, 2 * (nodes / 2) * nodes.div_ceil(2)),
        Shape::Subset => assert!((2 * (nodes - 1)..=all).contains(&cut)),
        Shape::Chain => {
            let chain = all - 2 * (nodes - 1);
            assert!(cut == chain || (nodes > 3 && cut == chain - 2), "{nodes}: {cut}");
        }
    }
}
