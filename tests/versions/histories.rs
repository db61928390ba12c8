//! Random histories of one key, small and many.
//!
//! A million of them take about a quarter of a minute in the dev profile. `HISTORIES=n` runs n,
//! `SEED=n` replays the one that failed: `SEED=7 cargo test --test versions histories`.

use std::env;
use std::panic;
use std::panic::AssertUnwindSafe;

use stator::base::rng::Rng;
use stator::protocol::version::Conflict;

use super::world::Bytes;
use super::world::Intent;
use super::world::World;

const HISTORIES_DEFAULT: u64 = 1_000_000;

#[test]
fn random_histories_agree_with_sets_of_events() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().expect("a number"));
    let seeds = match number("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("HISTORIES").unwrap_or(HISTORIES_DEFAULT),
    };
    for seed in seeds {
        let result = panic::catch_unwind(AssertUnwindSafe(|| History::new(seed).run()));
        assert!(result.is_ok(), "reproduce with SEED={seed} cargo test --test versions histories");
    }
}

/// A world, its messages under way, and the dice.
struct History {
    rng: Rng,
    world: World,
    holders: u64,
    copies: u64,
    messages: Vec<Bytes>,
}

impl History {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::from_seed(seed);
        let holders = rng.between(3, 4);
        let copies = holders + rng.between(1, 2);
        let conflict = if rng.chance(1, 4) { Conflict::Lww } else { Conflict::Siblings };
        let mut world = World::new(copies as usize, conflict);
        if rng.chance(1, 4) {
            for at in 0..copies {
                world.skew(at as usize, rng.below(800));
            }
        }
        Self { rng, world, holders, copies, messages: Vec::new() }
    }

    fn run(mut self) {
        for _ in 0..self.rng.between(6, 30) {
            self.step();
            self.world.check_acknowledged();
            if self.world.event_count() == 20 {
                break;
            }
        }
    }

    fn step(&mut self) {
        let at = self.rng.below(self.copies) as usize;
        match self.rng.below(20) {
            0..=5 => self.put(at),
            6..=8 => self.messages.extend(self.world.ship(at)),
            9..=12 => self.deliver(at),
            13..=14 => self.world.sync(at),
            15 => self.get(at),
            16 => self.world.crash(at),
            17 => self.forget(at),
            18 if self.rng.chance(1, 8) => self.world.conflict = Conflict::Lww,
            18 => self.world.tick(at),
            _ => self.world.wall_millis += self.rng.below(300),
        }
    }

    fn put(&mut self, at: usize) {
        let intent = match self.rng.below(4) {
            0 => Intent::Blind,
            1 => Intent::Set,
            _ if self.world.contexts.is_empty() => Intent::Blind,
            // The last is fresh, the others are the staler the older.
            2 => Intent::With(self.world.contexts.last().expect("not empty").clone()),
            _ => Intent::With(self.rng.pick(&self.world.contexts).clone()),
        };
        let is_delete = self.rng.chance(1, 5);
        self.world.put(at, &intent, is_delete);
        if self.rng.chance(1, 2) {
            self.world.sync(at);
        }
        if self.rng.chance(1, 3) {
            self.messages.extend(self.world.ship(at));
        }
    }

    /// Any message to any copy, now or late, once or twice.
    fn deliver(&mut self, to: usize) {
        if self.messages.is_empty() {
            return;
        }
        let index = self.rng.below(self.messages.len() as u64) as usize;
        if self.rng.chance(1, 3) {
            self.check_laws();
        }
        self.world.deliver(&self.messages[index], to);
        if self.rng.chance(1, 2) {
            self.world.sync(to);
        }
        if self.rng.chance(3, 4) {
            self.messages.swap_remove(index);
        }
    }

    fn check_laws(&mut self) {
        let a = self.rng.pick(&self.messages).clone();
        let b = self.rng.pick(&self.messages).clone();
        let at = self.rng.below(self.copies) as usize;
        let c = self.world.ship(at).unwrap_or_else(|| a.clone());
        self.world.check_laws([&a, &b, &c]);
    }

    fn get(&mut self, at: usize) {
        let other = self.rng.below(self.copies) as usize;
        let from = if self.rng.chance(1, 2) { &[at, other][..] } else { &[at][..] };
        self.world.get(from);
    }

    /// A fallback forgets what it has delivered; a holder's record may be quarantined.
    fn forget(&mut self, at: usize) {
        let is_holder = (at as u64) < self.holders;
        if self.world.is_expendable(at) && (is_holder || self.world.is_delivered(at)) {
            self.world.forget(at);
        }
    }
}
