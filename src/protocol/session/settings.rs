//! What all sessions of a node have in common, and what is known of the other end of one.

use std::net::SocketAddr;

use crate::base::limits::OBJECT_TO_VALUE_RATIO;
use crate::base::limits::OUTPUT_BYTES_MAX;
use crate::base::limits::VALUE_BYTES_DEFAULT;
use crate::protocol::wire::resp::RequestLimits;

/// What all sessions of a node have in common.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The password of user `default`. Without one, only this machine is served.
    pub password: Option<Password>,
    /// The longest value.
    pub value_bytes_max: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { password: None, value_bytes_max: VALUE_BYTES_DEFAULT }
    }
}

impl Settings {
    /// How much one request may hold.
    pub(super) fn request_limits(&self, admitted: bool) -> RequestLimits {
        if admitted {
            RequestLimits::admitted(self.value_bytes_max)
        } else {
            RequestLimits::STRANGER
        }
    }

    /// Replies that may wait for a client to take them. One object with its siblings always may.
    pub(super) fn output_bytes_max(&self) -> usize {
        OUTPUT_BYTES_MAX.max(2 * OBJECT_TO_VALUE_RATIO * self.value_bytes_max)
    }
}

/// A password, kept as its hash: it is in no dump of memory, and comparing hashes takes the same
/// time wherever they differ and however long the guess was.
#[derive(Clone)]
pub struct Password(blake3::Hash);

impl Password {
    /// Remembers `text` by its hash.
    pub fn new(text: &[u8]) -> Self {
        Self(blake3::hash(text))
    }

    /// Whether `guess` is the password. `blake3::Hash` compares in constant time.
    pub fn admits(&self, guess: &[u8]) -> bool {
        self.0 == blake3::hash(guess)
    }
}

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password")
    }
}

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Peer {
    /// The client's.
    pub address: SocketAddr,
    /// Ours.
    pub local: SocketAddr,
}

impl Peer {
    /// Whether the client is on this machine.
    pub fn is_local(&self) -> bool {
        self.address.ip().to_canonical().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_admits_itself_and_is_not_shown() {
        let password = Password::new(b"secret");
        assert!(password.admits(b"secret"));
        assert!(!password.admits(b"secre") && !password.admits(b""));
        let settings = Settings { password: Some(password), ..Settings::default() };
        assert!(!format!("{settings:?}").contains("secret"));
    }

    #[test]
    fn a_mapped_loopback_address_is_of_this_machine() {
        let local = "127.0.0.1:1".parse().expect("an address");
        for (address, is_local) in [
            ("127.0.0.1:5", true),
            ("[::1]:5", true),
            ("[::ffff:127.0.0.1]:5", true),
            ("192.0.2.1:5", false),
            ("[2001:db8::1]:5", false),
        ] {
            let peer = Peer { address: address.parse().expect("an address"), local };
            assert_eq!(peer.is_local(), is_local, "{address}");
        }
    }
}
