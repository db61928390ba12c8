//! The bytes of an object and of a record.
//!
//! # Layout of an object (version 1)
//!
//! | bytes | field                                                                       |
//! |------:|-----------------------------------------------------------------------------|
//! |     1 | version: 1                                                                  |
//! |     1 | flags: bit 0 is set where the last writer wins, the others are zero         |
//! |   2–  | clock: see [`super::codec`]                                                 |
//! |  1–10 | siblings                                                                    |
//! |       | each, in order of dots:                                                     |
//! |  1–10 | place of its life among the clock's entries, from 0                         |
//! |  1–10 | that entry's counter − its own: 0 for the latest write of a life            |
//! |     1 | kind: 0 value, 1 tombstone, 2 value with expiry                             |
//! |     8 | hybrid time, little-endian                                                  |
//! |  1–10 | kind 2 only: expiry, in milliseconds since the Unix epoch                   |
//! |  1–10 | not kind 1: length of the value, then the value                             |
//!
//! # Layout of a record (version 1)
//!
//! | bytes | field                                                                       |
//! |------:|-----------------------------------------------------------------------------|
//! |     1 | version: 1                                                                  |
//! |  1–10 | own life: 1 + its place among the clock's entries, or 0                     |
//! |  9–18 | only after 0: actor (8), birth (1–10)                                       |
//! |     – | the object, to the end                                                      |
//!
//! The object stands last and whole, so that a replica ships and digests it as it lies on disk.
//!
//! # Properties
//!
//! - One encoding per value: whatever decodes, encodes to the same bytes.
//! - The decoder never panics, and its memory is bounded by the input's length (about ten times
//!   in the worst case, none for up to two lives and one sibling).
//!
//! `tests/golden/object_v1.hex` holds this still; `tests/formats.rs` bends and breaks it.

use super::clock::Run;
use super::codec;
use super::dot::Dot;
use super::dot::Life;
use super::hybrid::HybridTime;
use super::object::Conflict;
use super::object::Content;
use super::object::Object;
use super::object::Record;
use super::object::Sibling;
use crate::base::codec::DecodeError;
use crate::base::codec::Reader;
use crate::base::codec::number_len;
use crate::base::codec::put_number;
use crate::base::time::Wall;

const OBJECT_VERSION: u8 = 1;
const RECORD_VERSION: u8 = 1;

const FLAG_LWW: u8 = 1;

const KIND_VALUE: u8 = 0;
const KIND_TOMBSTONE: u8 = 1;
const KIND_EXPIRING: u8 = 2;

impl<'a> Object<'a> {
    /// Reads an object that fills `bytes`. Its values borrow from them.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if no encoder wrote them.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut object = Self::default();
        object.read(bytes)?;
        Ok(object)
    }

    /// How many bytes [`Object::encode_into`] appends.
    pub fn encoded_len(&self) -> usize {
        let siblings = self.placed().map(|(place, behind, sibling)| {
            number_len(place) + number_len(behind) + content_len(sibling)
        });
        2 + codec::clock_len(&self.clock)
            + number_len(self.siblings.len() as u64)
            + siblings.sum::<usize>()
    }

    /// Appends the object's bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        let flags = match self.conflict {
            Conflict::Siblings => 0,
            Conflict::Lww => FLAG_LWW,
        };
        out.extend_from_slice(&[OBJECT_VERSION, flags]);
        codec::put_clock(out, &self.clock);
        put_number(out, self.siblings.len() as u64);
        for (place, behind, sibling) in self.placed() {
            put_number(out, place);
            put_number(out, behind);
            put_content(out, sibling);
        }
    }

    fn read(&mut self, bytes: &'a [u8]) -> Result<(), DecodeError> {
        let mut reader = Reader::new(bytes);
        reader.version(OBJECT_VERSION)?;
        self.conflict = match reader.byte()? {
            0 => Conflict::Siblings,
            FLAG_LWW => Conflict::Lww,
            _ => return Err(DecodeError::Malformed),
        };
        reader.clock_into(&mut self.clock)?;
        self.read_siblings(&mut reader)?;
        reader.end()
    }

    fn read_siblings(&mut self, reader: &mut Reader<'a>) -> Result<(), DecodeError> {
        // Places grow, so one walk along the entries finds them all, however many there are.
        let mut entries = self.clock.entries().zip(0_u64..).peekable();
        for _ in 0..reader.number()? {
            let (place, behind) = (reader.number()?, reader.number()?);
            while entries.next_if(|(_, at)| *at < place).is_some() {}
            let (entry, _) =
                entries.peek().filter(|(_, at)| *at == place).ok_or(DecodeError::Malformed)?;
            let dot = dot_behind(entry, behind).ok_or(DecodeError::Malformed)?;
            if self.siblings.last().is_some_and(|previous| previous.dot >= dot) {
                return Err(DecodeError::Malformed);
            }
            self.siblings.push(read_content(reader, dot)?);
        }
        if self.conflict == Conflict::Lww && self.siblings.len() > 1 {
            return Err(DecodeError::Malformed);
        }
        Ok(())
    }

    /// The siblings, each with the place of its life among the clock's entries and how far it is
    /// behind that entry. Both are in order of lives: one walk.
    fn placed(&self) -> impl Iterator<Item = (u64, u64, &Sibling<'a>)> {
        let mut entries = self.clock.entries().zip(0..).peekable();
        self.siblings.iter().map(move |sibling| {
            let dot = sibling.dot;
            while entries.next_if(|(entry, _)| entry.life < dot.life).is_some() {}
            let (entry, place) = entries.peek().expect("a sibling's life has an entry");
            assert!(entry.life == dot.life, "a sibling's life has an entry in its object's clock");
            assert!(dot.counter <= entry.upto, "a sibling is under its object's clock");
            (*place, entry.upto - dot.counter, sibling)
        })
    }
}

impl<'a> Record<'a> {
    /// Reads a record that fills `bytes`. Its values borrow from them.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if no encoder wrote them.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let (own, object) = split(bytes)?;
        let mut record = Self { own: Life::default(), object: Object::default() };
        record.object.read(object)?;
        let clock = &record.object.clock;
        record.own = match own {
            Own::Place(place) => {
                let place = usize::try_from(place).map_err(|_| DecodeError::Malformed)?;
                clock.entries().nth(place).ok_or(DecodeError::Malformed)?.life
            }
            Own::Explicit(life) if clock.highest(life) == 0 => life,
            Own::Explicit(_) => return Err(DecodeError::Malformed),
        };
        Ok(record)
    }

    /// The bytes of the object within those of a record: what is shipped and digested. The object
    /// itself is not looked at.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] if the record's head is not one.
    pub fn object_bytes(bytes: &'a [u8]) -> Result<&'a [u8], DecodeError> {
        split(bytes).map(|(_, object)| object)
    }

    /// How many bytes [`Record::encode_into`] appends.
    pub fn encoded_len(&self) -> usize {
        let own = match self.own_place() {
            Some(place) => number_len(place + 1),
            None => 1 + codec::life_len(self.own),
        };
        1 + own + self.object.encoded_len()
    }

    /// Appends the record's bytes.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        out.push(RECORD_VERSION);
        match self.own_place() {
            Some(place) => put_number(out, place + 1),
            None => {
                put_number(out, 0);
                codec::put_life(out, self.own);
            }
        }
        self.object.encode_into(out);
    }

    fn own_place(&self) -> Option<u64> {
        self.object.clock.entries().zip(0..).find(|(run, _)| run.life == self.own).map(|(_, at)| at)
    }
}

/// How a record names its own life.
enum Own {
    Place(u64),
    Explicit(Life),
}

fn split(bytes: &[u8]) -> Result<(Own, &[u8]), DecodeError> {
    let mut reader = Reader::new(bytes);
    reader.version(RECORD_VERSION)?;
    let own = match reader.number()? {
        0 => Own::Explicit(reader.life()?),
        place => Own::Place(place - 1),
    };
    Ok((own, reader.rest()))
}

/// The dot that is `behind` the highest of an entry; `None` if that goes below the first.
fn dot_behind(entry: &Run, behind: u64) -> Option<Dot> {
    let counter = entry.upto.checked_sub(behind).filter(|counter| *counter > 0)?;
    Some(Dot { life: entry.life, counter })
}

fn read_content<'a>(reader: &mut Reader<'a>, dot: Dot) -> Result<Sibling<'a>, DecodeError> {
    let kind = reader.byte()?;
    let hybrid = HybridTime::from_raw(reader.fixed()?);
    let (expiry, content) = match kind {
        KIND_VALUE => (None, Content::Value(reader.bytes()?)),
        KIND_TOMBSTONE => (None, Content::Tombstone),
        KIND_EXPIRING => {
            (Some(Wall::from_millis(reader.number()?)), Content::Value(reader.bytes()?))
        }
        _ => return Err(DecodeError::Malformed),
    };
    Ok(Sibling { dot, hybrid, expiry, content })
}

fn put_content(out: &mut Vec<u8>, sibling: &Sibling<'_>) {
    let kind = match (sibling.content, sibling.expiry) {
        (Content::Tombstone, _) => KIND_TOMBSTONE,
        (Content::Value(_), None) => KIND_VALUE,
        (Content::Value(_), Some(_)) => KIND_EXPIRING,
    };
    out.push(kind);
    out.extend_from_slice(&sibling.hybrid.to_raw().to_le_bytes());
    if let Content::Value(value) = sibling.content {
        if let Some(expiry) = sibling.expiry {
            put_number(out, expiry.as_millis());
        }
        put_number(out, value.len() as u64);
        out.extend_from_slice(value);
    }
}

fn content_len(sibling: &Sibling<'_>) -> usize {
    let content = match sibling.content {
        Content::Tombstone => 0,
        Content::Value(value) => number_len(value.len() as u64) + value.len(),
    };
    let expiry = sibling.expiry.map_or(0, |expiry| number_len(expiry.as_millis()));
    1 + 8 + expiry + content
}
