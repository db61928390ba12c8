//! A command of one key as bytes that its client's buffer no longer holds: for a request that waits
//! for the disk, for one that another core owns, and for one that another node holds.
//!
//! # Layout (version 1; numbers are those of [`crate::base::codec`])
//!
//! | field | bytes |
//! |---|---|
//! | key | length, then bytes |
//! | operation | 1 |
//! | what it needs | times are numbers of milliseconds since 1970, values and contexts have their length before them |
//!
//! Times are absolute: an expiry is meant by the clock of whoever read the client's request.
//!
//! The decoder takes nothing on trust: what one node says to another is as hostile as what a client
//! says.

use crate::base::codec::DecodeError;
use crate::base::codec::Reader;
use crate::base::codec::put_bytes;
use crate::base::codec::put_number;
use crate::base::limits::KEY_BYTES_MAX;
use crate::base::limits::REQUEST_TIMEOUT_MILLIS_MAX;
use crate::base::time::Wall;
use crate::protocol::wire::command::ExpiryChange;
use crate::protocol::wire::command::KeyCommand;
use crate::protocol::wire::command::Operation;
use crate::protocol::wire::command::Put;
use crate::protocol::wire::command::ReadOptions;
use crate::protocol::wire::command::SetExpiry;
use crate::protocol::wire::command::TtlForm;
use crate::protocol::wire::command::WriteOptions;

/// Appends a command.
pub fn encode(command: &KeyCommand<'_>, out: &mut Vec<u8>) {
    put_bytes(out, command.key);
    match &command.operation {
        Operation::Get => out.push(0),
        Operation::StrLen => out.push(1),
        Operation::GetRange { first, last } => {
            out.push(2);
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        Operation::Exists => out.push(3),
        Operation::Type => out.push(4),
        Operation::Ttl(form) => {
            out.extend_from_slice(&[5, u8::from(form.millis), u8::from(form.absolute)]);
        }
        Operation::Set { value, expiry, previous } => {
            out.extend_from_slice(&[6, u8::from(*previous)]);
            match expiry {
                SetExpiry::Never => out.push(0),
                SetExpiry::Keep => out.push(1),
                SetExpiry::At(at) => put_time(out, 2, *at),
            }
            put_bytes(out, value);
        }
        Operation::GetDel => out.push(7),
        Operation::GetEx(change) => {
            out.push(8);
            match change {
                ExpiryChange::Leave => out.push(0),
                ExpiryChange::Remove => out.push(1),
                ExpiryChange::At(at) => put_time(out, 2, *at),
            }
        }
        Operation::Delete => out.push(9),
        Operation::Expire(at) => put_time(out, 10, *at),
        Operation::Persist => out.push(11),
        Operation::DynGet(options) => {
            out.push(12);
            put_read_options(out, options);
        }
        Operation::DynPut(put) => {
            out.push(13);
            put_put(out, put);
        }
        Operation::DynDel { context, options } => {
            out.push(14);
            put_bytes(out, context);
            put_write_options(out, options);
        }
        Operation::Owners => out.push(15),
        Operation::ExplainGet(options) => {
            out.push(16);
            put_read_options(out, options);
        }
        Operation::ExplainPut(put) => {
            out.push(17);
            put_put(out, put);
        }
    }
}

/// Reads a command that fills `bytes`, from which it borrows.
///
/// # Errors
///
/// [`DecodeError`] if [`encode`] did not write them.
pub fn decode(bytes: &[u8]) -> Result<KeyCommand<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let key = reader.bytes()?;
    if !(1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Err(DecodeError::Malformed);
    }
    let operation = match reader.byte()? {
        0 => Operation::Get,
        1 => Operation::StrLen,
        2 => Operation::GetRange { first: integer(&mut reader)?, last: integer(&mut reader)? },
        3 => Operation::Exists,
        4 => Operation::Type,
        5 => Operation::Ttl(TtlForm { millis: flag(&mut reader)?, absolute: flag(&mut reader)? }),
        6 => {
            let previous = flag(&mut reader)?;
            let expiry = match reader.byte()? {
                0 => SetExpiry::Never,
                1 => SetExpiry::Keep,
                2 => SetExpiry::At(time(&mut reader)?),
                _ => return Err(DecodeError::Malformed),
            };
            Operation::Set { value: reader.bytes()?, expiry, previous }
        }
        7 => Operation::GetDel,
        8 => Operation::GetEx(match reader.byte()? {
            0 => ExpiryChange::Leave,
            1 => ExpiryChange::Remove,
            2 => ExpiryChange::At(time(&mut reader)?),
            _ => return Err(DecodeError::Malformed),
        }),
        9 => Operation::Delete,
        10 => Operation::Expire(time(&mut reader)?),
        11 => Operation::Persist,
        12 => Operation::DynGet(read_options(&mut reader)?),
        13 => Operation::DynPut(put(&mut reader)?),
        14 => Operation::DynDel { context: reader.bytes()?, options: write_options(&mut reader)? },
        15 => Operation::Owners,
        16 => Operation::ExplainGet(read_options(&mut reader)?),
        17 => Operation::ExplainPut(put(&mut reader)?),
        _ => return Err(DecodeError::Malformed),
    };
    reader.end()?;
    Ok(KeyCommand { key, operation })
}

fn put_time(out: &mut Vec<u8>, kind: u8, at: Wall) {
    out.push(kind);
    put_number(out, at.as_millis());
}

fn put_put(out: &mut Vec<u8>, put: &Put<'_>) {
    put_bytes(out, put.context);
    match put.expiry {
        None => out.push(0),
        Some(at) => put_time(out, 1, at),
    }
    put_write_options(out, &put.options);
    put_bytes(out, put.value);
}

fn put_read_options(out: &mut Vec<u8>, options: &ReadOptions) {
    out.extend_from_slice(&[options.r.unwrap_or(0), options.pr.unwrap_or(0)]);
    out.extend_from_slice(&[u8::from(options.strict), u8::from(options.fanout_all)]);
    put_number(out, u64::from(options.timeout_millis.unwrap_or(0)));
}

fn put_write_options(out: &mut Vec<u8>, options: &WriteOptions) {
    let numbers = [options.w, options.pw, options.dw].map(|number| number.unwrap_or(0));
    out.extend_from_slice(&numbers);
    out.push(u8::from(options.strict));
    put_number(out, u64::from(options.timeout_millis.unwrap_or(0)));
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
    match reader.byte()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Malformed),
    }
}

fn integer(reader: &mut Reader<'_>) -> Result<i64, DecodeError> {
    Ok(i64::from_le_bytes(reader.array()?))
}

fn time(reader: &mut Reader<'_>) -> Result<Wall, DecodeError> {
    Ok(Wall::from_millis(reader.number()?))
}

/// Zero is none.
fn nonzero(reader: &mut Reader<'_>) -> Result<Option<u8>, DecodeError> {
    Ok(Some(reader.byte()?).filter(|number| *number > 0))
}

fn timeout(reader: &mut Reader<'_>) -> Result<Option<u32>, DecodeError> {
    let millis = reader.number()?;
    if millis > u64::from(REQUEST_TIMEOUT_MILLIS_MAX) {
        return Err(DecodeError::Malformed);
    }
    Ok(Some(millis as u32).filter(|millis| *millis > 0))
}

fn read_options(reader: &mut Reader<'_>) -> Result<ReadOptions, DecodeError> {
    Ok(ReadOptions {
        r: nonzero(reader)?,
        pr: nonzero(reader)?,
        strict: flag(reader)?,
        fanout_all: flag(reader)?,
        timeout_millis: timeout(reader)?,
    })
}

fn write_options(reader: &mut Reader<'_>) -> Result<WriteOptions, DecodeError> {
    Ok(WriteOptions {
        w: nonzero(reader)?,
        pw: nonzero(reader)?,
        dw: nonzero(reader)?,
        strict: flag(reader)?,
        timeout_millis: timeout(reader)?,
    })
}

fn put<'a>(reader: &mut Reader<'a>) -> Result<Put<'a>, DecodeError> {
    let context = reader.bytes()?;
    let expiry = match reader.byte()? {
        0 => None,
        1 => Some(time(reader)?),
        _ => return Err(DecodeError::Malformed),
    };
    let options = write_options(reader)?;
    Ok(Put { context, value: reader.bytes()?, expiry, options })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::rng::Rng;

    fn operations() -> Vec<Operation<'static>> {
        let read = ReadOptions { r: Some(2), strict: true, ..ReadOptions::default() };
        let write =
            WriteOptions { dw: Some(3), timeout_millis: Some(70_000), ..WriteOptions::default() };
        let at = Wall::from_millis(1 << 40);
        let put = Put { context: b"ctx", value: b"", expiry: Some(at), options: write };
        vec![
            Operation::Get,
            Operation::StrLen,
            Operation::GetRange { first: -5, last: i64::MAX },
            Operation::Exists,
            Operation::Type,
            Operation::Ttl(TtlForm { millis: true, absolute: false }),
            Operation::Set { value: b"v", expiry: SetExpiry::Keep, previous: true },
            Operation::Set { value: b"", expiry: SetExpiry::At(at), previous: false },
            Operation::GetDel,
            Operation::GetEx(ExpiryChange::Remove),
            Operation::GetEx(ExpiryChange::At(at)),
            Operation::Delete,
            Operation::Expire(at),
            Operation::Persist,
            Operation::DynGet(read),
            Operation::DynPut(put),
            Operation::DynDel { context: b"", options: write },
            Operation::Owners,
            Operation::ExplainGet(read),
            Operation::ExplainPut(put),
        ]
    }

    #[test]
    fn every_operation_comes_back_as_it_was_and_only_whole() {
        for operation in operations() {
            let command = KeyCommand { key: b"the key", operation };
            let mut bytes = Vec::new();
            encode(&command, &mut bytes);
            assert_eq!(decode(&bytes), Ok(command));
            for length in 0..bytes.len() {
                assert!(decode(&bytes[..length]).is_err(), "{command:?}, {length} bytes");
            }
            bytes.push(0);
            assert!(decode(&bytes).is_err(), "{command:?}, and one byte more");
        }
    }

    /// Whatever decodes, encodes to the same bytes: nothing is read that nobody writes.
    #[test]
    fn bent_bytes_are_an_error_or_another_command() {
        let mut rng = Rng::from_seed(3);
        let mut others = 0;
        for _ in 0..20_000 {
            let operation = *rng.pick(&operations());
            let mut bytes = Vec::new();
            encode(&KeyCommand { key: b"the key", operation }, &mut bytes);
            for _ in 0..rng.between(1, 3) {
                let at = rng.below(bytes.len() as u64) as usize;
                bytes[at] = rng.next_u64() as u8;
            }
            if let Ok(command) = decode(&bytes) {
                let mut again = Vec::new();
                encode(&command, &mut again);
                assert_eq!(again, bytes);
                others += 1;
            }
        }
        assert!(others > 100, "some of them are commands: {others}");
    }

    #[test]
    fn a_key_has_its_length() {
        for (length, is_key) in
            [(0, false), (1, true), (KEY_BYTES_MAX, true), (KEY_BYTES_MAX + 1, false)]
        {
            let key = vec![b'k'; length];
            let mut bytes = Vec::new();
            encode(&KeyCommand { key: &key, operation: Operation::Get }, &mut bytes);
            assert_eq!(decode(&bytes).is_ok(), is_key, "{length} bytes");
        }
    }
}
