//! Where one message of a peer ends, and that it is whole, in order and of this connection.
//!
//! # Layout (version 1, little-endian)
//!
//! | offset | bytes | field                                                            |
//! |-------:|------:|------------------------------------------------------------------|
//! |      0 |     4 | length of what follows the checksum                              |
//! |      4 |     4 | CRC-32C of: the connection's salt (8), the number of this frame  |
//! |        |       | on it in this direction, from 0 (8), the length (4), the body    |
//! |      8 |     – | the body: see [`super::peer`]                                    |
//!
//! # Why the checksum covers what is not sent
//!
//! Salts come from the handshake, each direction has its own, and frames are counted: so a frame of
//! an earlier connection, of an earlier start, of the other direction, or one that comes twice or
//! out of its order, is as wrong as a damaged one. The checksum is against accidents; who may speak
//! at all is the handshake's affair.

use std::fmt;

use crate::base::checksum::checksum;
use crate::base::checksum::extend;

/// Bytes before the body.
pub const FRAME_HEADER_BYTES: usize = 8;

/// One direction of a connection: what its frames are told apart by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Direction {
    /// Of the handshake; zero during it.
    pub salt: u64,
    /// How many frames went this way.
    pub frames: u64,
}

/// Why bytes are no frame. The connection is of no use any more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FrameError {
    /// It says that it is longer than a frame may be here.
    TooLong(u32),
    /// It is damaged, or it is not the next one of this connection.
    Checksum,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(bytes) => write!(f, "a frame of {bytes} bytes"),
            Self::Checksum => f.write_str("a frame that is damaged or out of its order"),
        }
    }
}

impl std::error::Error for FrameError {}

impl Direction {
    /// Appends a frame, whose body `write` appends.
    pub fn put(&mut self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        let start = out.len();
        out.extend_from_slice(&[0; FRAME_HEADER_BYTES]);
        write(out);
        let body = start + FRAME_HEADER_BYTES;
        let length = u32::try_from(out.len() - body).expect("a frame is shorter than 4 GiB");
        let sum = self.sum(length, &out[body..]);
        out[start..start + 4].copy_from_slice(&length.to_le_bytes());
        out[start + 4..body].copy_from_slice(&sum.to_le_bytes());
        self.frames += 1;
    }

    /// Takes the first frame off `bytes` and returns its body; `None` if it is not all there.
    ///
    /// # Errors
    ///
    /// [`FrameError`]: `bytes` are as they were.
    pub fn take<'a>(
        &mut self,
        bytes: &mut &'a [u8],
        bytes_max: usize,
    ) -> Result<Option<&'a [u8]>, FrameError> {
        let Some((header, rest)) = bytes.split_first_chunk::<FRAME_HEADER_BYTES>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, s0, s1, s2, s3] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]);
        if length as usize > bytes_max {
            return Err(FrameError::TooLong(length));
        }
        let Some((body, rest)) = rest.split_at_checked(length as usize) else { return Ok(None) };
        if u32::from_le_bytes([s0, s1, s2, s3]) != self.sum(length, body) {
            return Err(FrameError::Checksum);
        }
        self.frames += 1;
        *bytes = rest;
        Ok(Some(body))
    }

    fn sum(&self, length: u32, body: &[u8]) -> u32 {
        let mut head = [0; 20];
        head[..8].copy_from_slice(&self.salt.to_le_bytes());
        head[8..16].copy_from_slice(&self.frames.to_le_bytes());
        head[16..].copy_from_slice(&length.to_le_bytes());
        extend(checksum(&head), body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 100;

    #[test]
    fn frames_come_back_whole_and_in_order_however_they_are_cut() {
        let mut sender = Direction { salt: 7, frames: 0 };
        let mut sent = Vec::new();
        for body in [&b"one"[..], b"", b"three"] {
            sender.put(&mut sent, |out| out.extend_from_slice(body));
        }
        for cut in 0..=sent.len() {
            let mut receiver = Direction { salt: 7, frames: 0 };
            let (mut bodies, mut buffer) = (Vec::new(), Vec::new());
            for piece in [&sent[..cut], &sent[cut..]] {
                buffer.extend_from_slice(piece);
                let mut rest = &buffer[..];
                while let Some(body) = receiver.take(&mut rest, MOST).expect("they are right") {
                    bodies.push(body.to_vec());
                }
                buffer = rest.to_vec();
            }
            assert_eq!(bodies, [&b"one"[..], b"", b"three"]);
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_frame_of_another_time_place_or_content_is_none() {
        let mut sender = Direction { salt: 7, frames: 0 };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        sender.put(&mut first, |out| out.extend_from_slice(b"one"));
        sender.put(&mut second, |out| out.extend_from_slice(b"two"));
        let take = |salt, frames, bytes: &[u8]| {
            Direction { salt, frames }
                .take(&mut { bytes }, MOST)
                .map(|body| body.map(<[u8]>::to_vec))
        };
        assert_eq!(take(7, 1, &second), Ok(Some(b"two".to_vec())));
        assert_eq!(take(7, 0, &second), Err(FrameError::Checksum), "the one before is missing");
        assert_eq!(take(7, 1, &first), Err(FrameError::Checksum), "it comes twice");
        assert_eq!(take(8, 0, &first), Err(FrameError::Checksum), "of another connection");
        for bit in 32..first.len() * 8 {
            let mut bent = first.clone();
            bent[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(take(7, 0, &bent), Err(FrameError::Checksum), "bit {bit}");
        }
        assert_eq!(take(7, 0, &[0xff; 20]), Err(FrameError::TooLong(u32::MAX)));
        for length in 0..first.len() {
            assert_eq!(
                take(7, 0, &first[..length]),
                Ok(None),
                "of {length} bytes nothing is known"
            );
        }
    }
}
