//! What virtual clients ask for, in bytes.

use super::keys::Key;
use super::keys::KeyIndex;
use super::link::Asked;
use super::link::Part;
use super::oracle::Oracle;
use super::oracle::state::Cause;
use super::oracle::state::Command;
use super::oracle::state::NewExpiry;
use super::oracle::state::OperationId;
use super::oracle::values::VALUE_BYTES_MIN;
use super::plan::Plan;
use crate::base::rng::Rng;
use crate::sim::resp::request;

/// Contexts that clients keep of one key.
const TOKENS_KEPT: usize = 5;

/// The contexts that clients hold, of all keys.
#[derive(Clone, Debug)]
pub(super) struct Tokens(Vec<Vec<(OperationId, Vec<u8>)>>);

impl Tokens {
    pub(super) fn new(keys: usize) -> Self {
        Self(vec![Vec::new(); keys])
    }

    /// Keeps one; tells which was thrown away for it.
    pub(super) fn keep(&mut self, key: KeyIndex, id: OperationId, token: Vec<u8>) {
        if self.0[key].len() == TOKENS_KEPT {
            self.0[key].remove(0);
        }
        self.0[key].push((id, token));
    }

    pub(super) fn holds(&self, key: KeyIndex, id: OperationId) -> bool {
        self.0[key].iter().any(|(other, _)| *other == id)
    }

    fn pick(&self, key: KeyIndex, rng: &mut Rng) -> (Cause, Vec<u8>) {
        let own = &self.0[key];
        if own.is_empty() || rng.chance(1, 4) {
            return (Cause::Blind, Vec::new());
        }
        // The newest mostly, old ones sometimes.
        let (id, token) = if rng.chance(2, 3) { &own[own.len() - 1] } else { rng.pick(own) };
        let cause = if token.is_empty() { Cause::Blind } else { Cause::Token(*id) };
        (cause, token.clone())
    }

    fn foreign(&self, key: KeyIndex) -> Option<&[u8]> {
        let others = self.0.iter().enumerate().filter(|(other, _)| *other != key);
        others.flat_map(|(_, own)| own).map(|(_, token)| &token[..]).find(|token| !token.is_empty())
    }
}

/// What a command is drawn with.
pub(super) struct Desk<'a> {
    pub(super) rng: &'a mut Rng,
    pub(super) plan: &'a Plan,
    pub(super) keys: &'a [Key],
    pub(super) tokens: &'a Tokens,
    pub(super) oracle: &'a mut Oracle,
    pub(super) wall: u64,
    /// What is drawn runs as soon as it arrives: it is known what its expiry counts from.
    pub(super) is_prompt: bool,
}

/// A command as words and as what it means.
struct Drawn {
    words: Vec<Vec<u8>>,
    command: Command,
    lives: Option<u64>,
}

impl Drawn {
    fn new(words: &[&[u8]], command: Command) -> Self {
        let words = words.iter().map(|word| word.to_vec()).collect();
        Self { words, command, lives: None }
    }

    fn with(mut self, words: &[&[u8]]) -> Self {
        self.words.extend(words.iter().map(|word| word.to_vec()));
        self
    }
}

impl Desk<'_> {
    /// A command of these keys: of the first alone, or of all where it takes several.
    pub(super) fn draw(&mut self, keys: &[KeyIndex], reads_only: bool, out: &mut Vec<u8>) -> Asked {
        if keys.len() > 1 {
            return self.draw_several(keys, reads_only, out);
        }
        let key = keys[0];
        if !reads_only && self.rng.chance(1, 60) && self.tokens.foreign(key).is_some() {
            return self.foreign_context(key, out);
        }
        let reads = reads_only || self.rng.chance(self.plan.read_percent, 100);
        let drawn = if reads { self.draw_read(key) } else { self.draw_write(key) };
        write(&drawn.words, out);
        let Drawn { command, lives, .. } = drawn;
        Asked::Keys(vec![Part { key, command, lives, id: None }])
    }

    /// The command by which every key is read after a start.
    pub(super) fn verify(&self, key: KeyIndex, out: &mut Vec<u8>) -> Asked {
        request(out, &[b"DYN.GET", &self.keys[key].name]);
        let command = Command::DynGet;
        Asked::Keys(vec![Part { key, command, lives: None, id: None }])
    }

    /// A plain write.
    pub(super) fn set(&mut self, key: KeyIndex, out: &mut Vec<u8>) -> Asked {
        let (value, bytes) = self.value(key);
        request(out, &[b"SET", &self.keys[key].name, &bytes]);
        let command = Command::Set { value, expiry: NewExpiry::Is(None), previous: false };
        Asked::Keys(vec![Part { key, command, lives: None, id: None }])
    }

    fn value(&mut self, key: KeyIndex) -> (u32, Vec<u8>) {
        let length = match self.rng.chance(self.plan.big_percent, 100) {
            true => self.plan.value_bytes_max,
            false => self.rng.between(VALUE_BYTES_MIN as u64, 40),
        };
        let length = length as usize;
        let value = self.oracle.values.propose(key, length);
        (value, self.oracle.values.bytes(value))
    }

    fn foreign_context(&mut self, key: KeyIndex, out: &mut Vec<u8>) -> Asked {
        let (_, bytes) = self.value(key);
        let token = self.tokens.foreign(key).expect("looked at before");
        request(out, &[b"DYN.PUT", &self.keys[key].name, token, &bytes]);
        Asked::ForeignContext
    }

    fn draw_several(&mut self, keys: &[KeyIndex], reads_only: bool, out: &mut Vec<u8>) -> Asked {
        let (name, mut words) = match self.rng.below(if reads_only { 2 } else { 4 }) {
            0 => ("MGET", vec![b"MGET".to_vec()]),
            1 => ("EXISTS", vec![b"EXISTS".to_vec()]),
            2 => ("DEL", vec![b"DEL".to_vec()]),
            _ => ("MSET", vec![b"MSET".to_vec()]),
        };
        let mut parts = Vec::new();
        for key in keys {
            words.push(self.keys[*key].name.clone());
            let command = match name {
                "MGET" => Command::Get,
                "EXISTS" => Command::Exists,
                "DEL" => Command::Delete,
                _ => {
                    let (value, bytes) = self.value(*key);
                    words.push(bytes);
                    Command::Set { value, expiry: NewExpiry::Is(None), previous: false }
                }
            };
            parts.push(Part { key: *key, command, lives: None, id: None });
        }
        write(&words, out);
        Asked::Keys(parts)
    }

    fn draw_read(&mut self, key: KeyIndex) -> Drawn {
        let name: &[u8] = &self.keys[key].name;
        let (words, command): (&[&[u8]], _) = match self.rng.below(12) {
            0 => (&[b"STRLEN", name], Command::StrLen),
            1 => (&[b"EXISTS", name], Command::Exists),
            2 => (&[b"PTTL", name], Command::PTtl),
            3 => (&[b"PEXPIRETIME", name], Command::PExpireTime),
            4 => (&[b"GETEX", name], Command::GetEx(None)),
            5..=7 => (&[b"DYN.GET", name], Command::DynGet),
            _ => (&[b"GET", name], Command::Get),
        };
        Drawn::new(words, command)
    }

    fn draw_write(&mut self, key: KeyIndex) -> Drawn {
        let name = &self.keys[key].name.clone()[..];
        if self.rng.chance(self.plan.expiry_percent, 100) {
            return self.draw_expiry(key, name);
        }
        match self.rng.below(16) {
            0 => Drawn::new(&[b"GETDEL", name], Command::GetDel),
            1 | 2 => Drawn::new(&[b"DEL", name], Command::Delete),
            3..=6 => {
                let (cause, token) = self.tokens.pick(key, self.rng);
                let (value, bytes) = self.value(key);
                let command = Command::DynPut { value, expiry: None, cause };
                Drawn::new(&[b"DYN.PUT", name, &token, &bytes], command)
            }
            7 => {
                let (cause, token) = self.tokens.pick(key, self.rng);
                Drawn::new(&[b"DYN.DEL", name, &token], Command::DynDel(cause))
            }
            8 => {
                let (value, bytes) = self.value(key);
                let expiry = NewExpiry::Is(None);
                let command = Command::Set { value, expiry, previous: true };
                Drawn::new(&[b"SET", name, &bytes, b"GET"], command)
            }
            9 => {
                let (value, bytes) = self.value(key);
                let expiry = NewExpiry::Keep;
                let command = Command::Set { value, expiry, previous: false };
                Drawn::new(&[b"SET", name, &bytes, b"KEEPTTL"], command)
            }
            _ => {
                let (value, bytes) = self.value(key);
                let expiry = NewExpiry::Is(None);
                let command = Command::Set { value, expiry, previous: false };
                Drawn::new(&[b"SET", name, &bytes], command)
            }
        }
    }

    fn draw_expiry(&mut self, key: KeyIndex, name: &[u8]) -> Drawn {
        // From long gone to long after the run, mostly within it.
        let lives = *self.rng.pick(&[1, 2, 5, 20, 100, 1000, 100_000]);
        let text = lives.to_string().into_bytes();
        let at = self.wall + lives - self.rng.below(2) * 3;
        let at_text = at.to_string().into_bytes();
        let kind = if self.is_prompt { self.rng.below(8) } else { *self.rng.pick(&[0, 1, 2, 6]) };
        let mut drawn = match kind {
            0 => return Drawn::new(&[b"PERSIST", name], Command::Persist),
            1 => return Drawn::new(&[b"GETEX", name, b"PERSIST"], Command::GetEx(Some(None))),
            2 => {
                let command = Command::PExpireAt(at);
                return Drawn::new(&[b"PEXPIREAT", name, &at_text], command);
            }
            3 => Drawn::new(&[b"PEXPIRE", name, &text], Command::PExpireAt(0)),
            4 => Drawn::new(&[b"GETEX", name, b"PX", &text], Command::GetEx(Some(None))),
            5 => {
                let (cause, token) = self.tokens.pick(key, self.rng);
                let (value, bytes) = self.value(key);
                let command = Command::DynPut { value, expiry: None, cause };
                let drawn = Drawn::new(&[b"DYN.PUT", name, &token, &bytes], command);
                let seconds = lives.div_ceil(1000).to_string().into_bytes();
                let lives = Some(lives.div_ceil(1000) * 1000);
                return Drawn { lives, ..drawn.with(&[b"EX", &seconds]) };
            }
            6 => {
                let (value, bytes) = self.value(key);
                let expiry = NewExpiry::Is(Some(at));
                let command = Command::Set { value, expiry, previous: false };
                return Drawn::new(&[b"SET", name, &bytes, b"PXAT", &at_text], command);
            }
            _ => {
                let (value, bytes) = self.value(key);
                let expiry = NewExpiry::Is(None);
                let command = Command::Set { value, expiry, previous: false };
                Drawn::new(&[b"SET", name, &bytes, b"PX", &text], command)
            }
        };
        drawn.lives = Some(lives);
        drawn
    }
}

/// The same command, with the expiry that it has when it comes.
pub(super) fn expiring(command: Command, at: u64) -> Command {
    match command {
        Command::PExpireAt(_) => Command::PExpireAt(at),
        Command::GetEx(Some(_)) => Command::GetEx(Some(Some(at))),
        Command::DynPut { value, cause, .. } => Command::DynPut { value, expiry: Some(at), cause },
        Command::Set { value, previous, .. } => {
            Command::Set { value, expiry: NewExpiry::Is(Some(at)), previous }
        }
        other => other,
    }
}

fn write(words: &[Vec<u8>], out: &mut Vec<u8>) {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    request(out, &words);
}
