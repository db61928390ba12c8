//! A command of one key as bytes that its client's buffer no longer holds: for a request that waits
//! for the disk, and for one that another core owns.
//!
//! Between parts of one process alone: it has no version, and what it reads it wrote itself.

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
pub(super) fn encode(command: &KeyCommand<'_>, out: &mut Vec<u8>) {
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
            let (kind, at) = match expiry {
                SetExpiry::Never => (0, 0),
                SetExpiry::Keep => (1, 0),
                SetExpiry::At(at) => (2, at.as_millis()),
            };
            put_kind(out, kind, at);
            put_bytes(out, value);
        }
        Operation::GetDel => out.push(7),
        Operation::GetEx(change) => {
            out.push(8);
            let (kind, at) = match change {
                ExpiryChange::Leave => (0, 0),
                ExpiryChange::Remove => (1, 0),
                ExpiryChange::At(at) => (2, at.as_millis()),
            };
            put_kind(out, kind, at);
        }
        Operation::Delete => out.push(9),
        Operation::Expire(at) => put_kind(out, 10, at.as_millis()),
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

/// Reads what [`encode`] wrote.
///
/// # Panics
///
/// If it did not.
pub(super) fn decode(bytes: &[u8]) -> KeyCommand<'_> {
    let mut reader = Reader { bytes };
    let key = reader.bytes();
    let operation = match reader.byte() {
        0 => Operation::Get,
        1 => Operation::StrLen,
        2 => Operation::GetRange { first: reader.integer(), last: reader.integer() },
        3 => Operation::Exists,
        4 => Operation::Type,
        5 => Operation::Ttl(TtlForm { millis: reader.flag(), absolute: reader.flag() }),
        6 => {
            let previous = reader.flag();
            let expiry = match reader.kind() {
                (0, _) => SetExpiry::Never,
                (1, _) => SetExpiry::Keep,
                (_, at) => SetExpiry::At(at),
            };
            Operation::Set { value: reader.bytes(), expiry, previous }
        }
        7 => Operation::GetDel,
        8 => Operation::GetEx(match reader.kind() {
            (0, _) => ExpiryChange::Leave,
            (1, _) => ExpiryChange::Remove,
            (_, at) => ExpiryChange::At(at),
        }),
        9 => Operation::Delete,
        10 => Operation::Expire(Wall::from_millis(reader.integer() as u64)),
        11 => Operation::Persist,
        12 => Operation::DynGet(reader.read_options()),
        13 => Operation::DynPut(reader.put()),
        14 => Operation::DynDel { context: reader.bytes(), options: reader.write_options() },
        15 => Operation::Owners,
        16 => Operation::ExplainGet(reader.read_options()),
        17 => Operation::ExplainPut(reader.put()),
        other => panic!("no operation has the number {other}"),
    };
    assert!(reader.bytes.is_empty(), "a command is followed by nothing");
    KeyCommand { key, operation }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn put_kind(out: &mut Vec<u8>, kind: u8, at: u64) {
    out.push(kind);
    out.extend_from_slice(&at.to_le_bytes());
}

fn put_put(out: &mut Vec<u8>, put: &Put<'_>) {
    put_bytes(out, put.context);
    put_kind(out, u8::from(put.expiry.is_some()), put.expiry.map_or(0, Wall::as_millis));
    put_write_options(out, &put.options);
    put_bytes(out, put.value);
}

fn put_read_options(out: &mut Vec<u8>, options: &ReadOptions) {
    let flags = [u8::from(options.strict), u8::from(options.fanout_all)];
    out.extend_from_slice(&[options.r.unwrap_or(0), options.pr.unwrap_or(0)]);
    out.extend_from_slice(&flags);
    out.extend_from_slice(&options.timeout_millis.unwrap_or(0).to_le_bytes());
}

fn put_write_options(out: &mut Vec<u8>, options: &WriteOptions) {
    let numbers = [options.w, options.pw, options.dw].map(|number| number.unwrap_or(0));
    out.extend_from_slice(&numbers);
    out.push(u8::from(options.strict));
    out.extend_from_slice(&options.timeout_millis.unwrap_or(0).to_le_bytes());
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(length);
        self.bytes = rest;
        taken
    }

    fn byte(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn flag(&mut self) -> bool {
        self.byte() != 0
    }

    fn number(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().expect("four bytes"))
    }

    fn integer(&mut self) -> i64 {
        i64::from_le_bytes(self.take(8).try_into().expect("eight bytes"))
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.number() as usize;
        self.take(length)
    }

    fn kind(&mut self) -> (u8, Wall) {
        (self.byte(), Wall::from_millis(self.integer() as u64))
    }

    fn nonzero(&mut self) -> Option<u8> {
        Some(self.byte()).filter(|number| *number > 0)
    }

    fn timeout(&mut self) -> Option<u32> {
        Some(self.number()).filter(|millis| *millis > 0)
    }

    fn read_options(&mut self) -> ReadOptions {
        ReadOptions {
            r: self.nonzero(),
            pr: self.nonzero(),
            strict: self.flag(),
            fanout_all: self.flag(),
            timeout_millis: self.timeout(),
        }
    }

    fn write_options(&mut self) -> WriteOptions {
        WriteOptions {
            w: self.nonzero(),
            pw: self.nonzero(),
            dw: self.nonzero(),
            strict: self.flag(),
            timeout_millis: self.timeout(),
        }
    }

    fn put(&mut self) -> Put<'a> {
        let context = self.bytes();
        let expiry = match self.kind() {
            (0, _) => None,
            (_, at) => Some(at),
        };
        let options = self.write_options();
        Put { context, value: self.bytes(), expiry, options }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_comes_back_as_it_was() {
        let read = ReadOptions { r: Some(2), strict: true, ..ReadOptions::default() };
        let write =
            WriteOptions { dw: Some(3), timeout_millis: Some(70_000), ..WriteOptions::default() };
        let at = Wall::from_millis(1 << 40);
        let put = Put { context: b"ctx", value: b"", expiry: Some(at), options: write };
        let operations = [
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
        ];
        for operation in operations {
            let command = KeyCommand { key: b"the key", operation };
            let mut bytes = Vec::new();
            encode(&command, &mut bytes);
            assert_eq!(decode(&bytes), command);
        }
    }
}
