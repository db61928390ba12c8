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
}

const WORDS: [(Word, u8); 7] = [
    (Word::Hello, 0),
    (Word::Challenge, 1),
    (Word::Proof, 2),
    (Word::Welcome, 3),
    (Word::Refusal, 4),
    (Word::Ping, 16),
    (Word::Pong, 17),
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
