//! How this room's formats write lives and clocks.
//!
//! # Layout of a clock
//!
//! | bytes | field                                                                |
//! |------:|----------------------------------------------------------------------|
//! | 1–10  | entries of the clock proper                                          |
//! |       | each: actor (8, little-endian), birth (1–10), highest counter (1–10) |
//! | 1–10  | exact runs above gaps                                                |
//! |       | each: actor (8), birth (1–10), after (1–10), length (1–10)           |
//!
//! Both lists are sorted by life, the second then by `after`. Numbers are those of
//! [`crate::base::codec`].

use smallvec::SmallVec;

use super::clock::Clock;
use super::clock::Run;
use super::dot::Life;
use crate::base::codec::DecodeError;
use crate::base::codec::Reader;
use crate::base::codec::number_len;
use crate::base::codec::put_number;
use crate::base::id::ActorId;

impl Reader<'_> {
    pub(super) fn life(&mut self) -> Result<Life, DecodeError> {
        Ok(Life { actor: ActorId::new(self.fixed()?), birth: self.number()? })
    }

    /// Reads into an empty clock, in place: it is most of what a decoded record has to move.
    ///
    /// Nothing is reserved by the counts: memory grows only with bytes that were read.
    pub(super) fn clock_into(&mut self, clock: &mut Clock) -> Result<(), DecodeError> {
        for _ in 0..self.number()? {
            let run = Run { life: self.life()?, after: 0, upto: self.number()? };
            clock.append(run).ok_or(DecodeError::Malformed)?;
        }
        match self.number()? {
            0 => Ok(()),
            exact => self.exact_into(exact, clock),
        }
    }

    /// Between the entries, where they belong.
    fn exact_into(&mut self, exact: u64, clock: &mut Clock) -> Result<(), DecodeError> {
        let mut above = Clock::default();
        for _ in 0..exact {
            above.append(self.exact_run()?).ok_or(DecodeError::Malformed)?;
        }
        let mut runs: SmallVec<[Run; 2]> = SmallVec::from_slice(clock.runs());
        runs.extend_from_slice(above.runs());
        runs.sort_unstable();
        *clock = Clock::default();
        for run in runs {
            clock.append(run).ok_or(DecodeError::Malformed)?;
        }
        Ok(())
    }

    fn exact_run(&mut self) -> Result<Run, DecodeError> {
        let (life, after) = (self.life()?, self.number()?);
        let upto = after.checked_add(self.number()?).ok_or(DecodeError::Malformed)?;
        if after == 0 {
            return Err(DecodeError::Malformed);
        }
        Ok(Run { life, after, upto })
    }
}

pub(super) fn put_life(out: &mut Vec<u8>, life: Life) {
    out.extend_from_slice(&life.actor.to_raw().to_le_bytes());
    put_number(out, life.birth);
}

pub(super) fn life_len(life: Life) -> usize {
    8 + number_len(life.birth)
}

pub(super) fn put_clock(out: &mut Vec<u8>, clock: &Clock) {
    put_number(out, clock.entries().count() as u64);
    for run in clock.entries() {
        put_life(out, run.life);
        put_number(out, run.upto);
    }
    put_number(out, clock.exact().count() as u64);
    for run in clock.exact() {
        put_life(out, run.life);
        put_number(out, run.after);
        put_number(out, run.upto - run.after);
    }
}

pub(super) fn clock_len(clock: &Clock) -> usize {
    let exact = clock.exact().count();
    let entries = clock.runs().len() - exact;
    let runs = clock.runs().iter().map(|run| match run.after {
        0 => life_len(run.life) + number_len(run.upto),
        after => life_len(run.life) + number_len(after) + number_len(run.upto - after),
    });
    number_len(entries as u64) + number_len(exact as u64) + runs.sum::<usize>()
}
