//! What nodes say to each other, once both are sure of each other. Before that: [`super::greeting`].
//!
//! # Layout (version 1, little-endian; numbers are those of [`crate::base::codec`])
//!
//! The body of a frame is a word (1), then
//!
//! | word | number | fields |
//! |---|---:|---|
//! | Hello, Challenge, Proof, Welcome, Refusal | 0–4 | see [`super::greeting`] |
//! | Ping, Pong | 16, 17 | nothing |
//! | Forward | 18 | number of the request (number), milliseconds that it may take (number), RESP version (1: 2 or 3), a command by [`super::key_command`] |
//! | Reply | 19 | number of the request (number), one reply in RESP |
//!
//! A request's number is of the connection, and is used once.

use crate::base::codec::DecodeError;
use crate::base::codec::Reader;
use crate::base::codec::put_number;
use crate::base::limits::REQUEST_TIMEOUT_MILLIS_MAX;
use crate::protocol::wire::Protocol;
use crate::protocol::wire::command::KeyCommand;
use crate::protocol::wire::key_command;
use crate::protocol::wire::whole::is_one_reply;

/// What a frame says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Word {
    /// See [`super::greeting::Hello`].
    Hello,
    /// See [`super::greeting::Challenge`].
    Challenge,
    /// See [`super::greeting::Beliefs`].
    Proof,
    /// See [`super::greeting::Owners`].
    Welcome,
    /// See [`super::greeting::Refusal`].
    Refusal,
    /// Are you there?
    Ping,
    /// I am.
    Pong,
    /// See [`Forward`].
    Forward,
    /// See [`Reply`].
    Reply,
}

/// A command of a client, for a node that holds its key. It is not passed on again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forward<'a> {
    /// What its answer must carry.
    pub number: u64,
    /// How long its client will still wait.
    pub patience_millis: u32,
    /// In which form the answer must be.
    pub protocol: Protocol,
    /// What is to be done.
    pub command: KeyCommand<'a>,
}

/// The answer to a [`Forward`]: what its client is told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Reply<'a> {
    /// Of the request.
    pub number: u64,
    /// One reply.
    pub reply: &'a [u8],
}

impl<'a> Forward<'a> {
    /// Appends it.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_number(out, self.number);
        put_number(out, u64::from(self.patience_millis));
        out.push(match self.protocol {
            Protocol::Resp2 => 2,
            Protocol::Resp3 => 3,
        });
        key_command::encode(&self.command, out);
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`].
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let (number, patience) = (reader.number()?, reader.number()?);
        if patience > u64::from(REQUEST_TIMEOUT_MILLIS_MAX) {
            return Err(DecodeError::Malformed);
        }
        let protocol = match reader.byte()? {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(DecodeError::Malformed),
        };
        let command = key_command::decode(reader.rest())?;
        Ok(Self { number, patience_millis: patience as u32, protocol, command })
    }
}

impl<'a> Reply<'a> {
    /// Appends it.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        put_number(out, self.number);
        out.extend_from_slice(self.reply);
    }

    /// Reads it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`], also if it is not exactly one reply.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let number = reader.number()?;
        let reply = reader.rest();
        if is_one_reply(reply) { Ok(Self { number, reply }) } else { Err(DecodeError::Malformed) }
    }
}

const WORDS: [(Word, u8); 9] = [
    (Word::Hello, 0),
    (Word::Challenge, 1),
    (Word::Proof, 2),
    (Word::Welcome, 3),
    (Word::Refusal, 4),
    (Word::Ping, 16),
    (Word::Pong, 17),
    (Word::Forward, 18),
    (Word::Reply, 19),
];

impl Word {
    /// Its number.
    pub fn to_byte(self) -> u8 {
        let found = WORDS.iter().find(|(word, _)| *word == self);
        found.expect("all of them are listed").1
    }

    /// The word of a number.
    pub fn from_byte(byte: u8) -> Option<Self> {
        WORDS.iter().find(|(_, number)| *number == byte).map(|(word, _)| *word)
    }

    /// Whether it belongs to the handshake.
    pub fn is_greeting(self) -> bool {
        self.to_byte() < 16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::wire::command::Operation;

    #[test]
    fn words_come_back_and_only_whole() {
        let command = KeyCommand { key: b"k", operation: Operation::Persist };
        let protocol = Protocol::Resp3;
        let forward = Forward { number: 300, patience_millis: 5000, protocol, command };
        let mut bytes = Vec::new();
        forward.encode_into(&mut bytes);
        assert_eq!(Forward::decode(&bytes), Ok(forward));
        for length in 0..bytes.len() {
            assert!(Forward::decode(&bytes[..length]).is_err());
        }

        let reply = Reply { number: 300, reply: b"+OK\r\n" };
        let mut bytes = Vec::new();
        reply.encode_into(&mut bytes);
        assert_eq!(Reply::decode(&bytes), Ok(reply));
        for length in 0..bytes.len() {
            assert!(Reply::decode(&bytes[..length]).is_err());
        }
        assert!(Reply::decode(&[&bytes[..], b"+OK\r\n"].concat()).is_err(), "one reply at a time");
    }

    #[test]
    fn every_word_has_a_number_of_its_own() {
        for (word, number) in WORDS {
            assert_eq!((word.to_byte(), Word::from_byte(number)), (number, Some(word)));
        }
        assert_eq!(Word::from_byte(200), None);
    }
}
