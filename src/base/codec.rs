//! The small words of all formats, on disk and on the wire: bounded reading, and numbers.
//!
//! Numbers are LEB128: seven bits a byte, lowest first, and only the shortest spelling is
//! accepted, so that equal values have equal bytes.

use std::fmt;

/// Why bytes are not what they should be. Nothing was changed, nothing was kept.
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
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads these.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// What is left.
    pub fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    /// That nothing is left.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Trailing`].
    pub fn end(&self) -> Result<(), DecodeError> {
        if self.bytes.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    /// One byte.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    pub fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// One byte, which must be this version.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Version`] of another one.
    pub fn version(&mut self, known: u8) -> Result<(), DecodeError> {
        match self.byte()? {
            version if version == known => Ok(()),
            version => Err(DecodeError::Version(version)),
        }
    }

    /// So many bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (first, rest) = self.bytes.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*first)
    }

    /// Eight bytes, little-endian.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`].
    pub fn fixed(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A number. Most are one byte long.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`], or [`DecodeError::Malformed`] if it could be spelled shorter or has
    /// more than 64 bits.
    #[inline]
    pub fn number(&mut self) -> Result<u64, DecodeError> {
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
    ///
    /// # Errors
    ///
    /// As of [`Reader::number`].
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = usize::try_from(self.number()?).map_err(|_| DecodeError::Truncated)?;
        let (first, rest) = self.bytes.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(first)
    }
}

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a length, then these bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// How many bytes a number takes: 1 to 10.
pub fn number_len(number: u64) -> usize {
    let bits = (u64::BITS - number.leading_zeros()).max(1);
    bits.div_ceil(7) as usize
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
