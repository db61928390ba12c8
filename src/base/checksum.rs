//! The one checksum used on disk and on the wire: CRC-32C, which processors compute.
//!
//! It finds accidents, not attacks; what an attacker could alter carries a keyed tag besides.

/// The checksum of `bytes`.
pub fn checksum(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The checksum of what `before` covered, followed by `bytes`.
pub fn extend(before: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(before, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The check value of CRC-32C (RFC 3720, appendix B.4 has more).
    #[test]
    fn it_is_castagnoli() {
        assert_eq!(checksum(b"123456789"), 0xe306_9283);
        assert_eq!(extend(checksum(b"12345"), b"6789"), 0xe306_9283);
    }
}
