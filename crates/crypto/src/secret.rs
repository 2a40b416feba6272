//! Owned key bytes.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Key bytes: wiped on drop, compared in constant time, never printed.
///
/// The length is not secret. The bytes never move after construction, so no stale copy is left by growth.
#[derive(Clone)]
pub struct Secret(Zeroizing<Box<[u8]>>);

impl Secret {
    /// Takes ownership of `bytes`; spare capacity is wiped before it is given back to the allocator.
    pub fn new(bytes: Vec<u8>) -> Self {
        if bytes.len() == bytes.capacity() {
            return Self(Zeroizing::new(bytes.into_boxed_slice()));
        }
        // Shrinking in place would leave a copy of the key in freed memory.
        let bytes = Zeroizing::new(bytes);
        Self::from_slice(&bytes)
    }

    /// Copies `bytes`.
    pub fn from_slice(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves, for the one call that needs them.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Octets in this secret.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no octets at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares with bytes from elsewhere (a hash received from a peer) in constant time.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.0.ct_eq(bytes).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl From<Vec<u8>> for Secret {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self::from_slice(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_nothing_of_its_content() {
        assert_eq!(format!("{:?}", Secret::from_slice(b"psk")), "[redacted]");
        assert_eq!(format!("{:#?}", Some(Secret::from_slice(b"psk"))), "Some(\n    [redacted],\n)");
    }

    #[test]
    fn compares_by_content_and_length() {
        let secret = Secret::new(vec![1, 2, 3]);
        assert_eq!(secret, Secret::from_slice(&[1, 2, 3]));
        assert_ne!(secret, Secret::from_slice(&[1, 2, 4]));
        assert_ne!(secret, Secret::from_slice(&[1, 2]));
        assert!(secret.matches(&[1, 2, 3]));
        assert!(!secret.matches(&[]));
    }

    #[test]
    fn keeps_its_bytes_when_the_vector_had_spare_capacity() {
        let mut bytes = Vec::with_capacity(64);
        bytes.extend_from_slice(b"key");
        assert_eq!(Secret::new(bytes).expose(), b"key");
    }
}
