//! The small words of this room's formats: bounded reading, numbers, clocks.
//!
//! Numbers are LEB128: seven bits a byte, lowest first, and only the shortest spelling is
//! accepted, so that equal values have equal bytes.
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
//! Both lists are sorted by life, the second then by `after`.

use std::fmt;

use smallvec::SmallVec;

use super::clock::Clock;
use super::clock::Run;
use super::dot::Life;
use crate::base::id::ActorId;

/// Why bytes are no object, record or context. Nothing was changed, nothing was kept.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DecodeError {
    /// A format version that this build does not know: written by a newer one, or damage.
    Version(u8),
    /// The bytes end within a field.
    Truncated,
    /// There are bytes behind the end.
    Trailing,
    /// A field has a value that no encoder writes, or things are out of their order.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "format version {version} is not known"),
            Self::Truncated => write!(f, "the bytes end too early"),
            Self::Trailing => write!(f, "there are bytes behind the end"),
            Self::Malformed => write!(f, "no encoder writes these bytes"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads from the front of a slice and never past its end.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What is left.
    pub(super) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(super) fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    pub(super) fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    pub(super) fn version(&mut self, known: u8) -> Result<(), DecodeError> {
        match self.byte()? {
            version if version == known => Ok(()),
            version => Err(DecodeError::Version(version)),
        }
    }

    pub(super) fn fixed(&mut self) -> Result<u64, DecodeError> {
        let (first, rest) = self.bytes.split_first_chunk::<8>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(u64::from_le_bytes(*first))
    }

    /// Most numbers are one byte long.
    #[inline]
    pub(super) fn number(&mut self) -> Result<u64, DecodeError> {
        match self.bytes {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.bytes = rest;
                Ok(u64::from(*byte))
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Result<u64, DecodeError> {
        let mut number = 0;
        for (at, byte) in self.bytes.iter().enumerate() {
            let shift = 7 * at as u32;
            let bits = u64::from(byte & 0x7f);
            // The tenth byte holds the last bit of 64.
            if shift == 63 && *byte > 1 {
                return Err(DecodeError::Malformed);
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                self.bytes = &self.bytes[at + 1..];
                return if bits == 0 { Err(DecodeError::Malformed) } else { Ok(number) };
            }
        }
        Err(DecodeError::Truncated)
    }

    /// A length, then that many bytes.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        let (first, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(first)
    }

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

pub(super) fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

pub(super) fn number_len(number: u64) -> usize {
    let bits = (u64::BITS - number.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_their_length_is_known() {
        for bit in 0..64 {
            for number in [0, 1 << bit, (1 << bit) - 1, u64::MAX >> bit] {
                let mut bytes = Vec::new();
                put_number(&mut bytes, number);
                assert_eq!(bytes.len(), number_len(number));
                assert_eq!(Reader::new(&bytes).number(), Ok(number));
            }
        }
    }

    #[test]
    fn only_the_shortest_spelling_of_a_number_is_one() {
        assert_eq!(Reader::new(&[0x80, 0]).number(), Err(DecodeError::Malformed));
        let mut eleven = [0x80; 11];
        eleven[10] = 1;
        assert_eq!(Reader::new(&eleven).number(), Err(DecodeError::Malformed));
        let beyond = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2];
        assert_eq!(Reader::new(&beyond).number(), Err(DecodeError::Malformed));
        assert_eq!(Reader::new(&[0x80]).number(), Err(DecodeError::Truncated));
    }
}
