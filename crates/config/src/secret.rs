//! Secrets as the model holds them: wiped when dropped, never printed.

use std::fmt;

use zeroize::Zeroize;

/// A pre-shared key as the octets that go into the key derivation. `Debug` prints `[redacted]`.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Vec<u8>);

impl SecretText {
    /// Takes the octets over.
    pub fn new(octets: Vec<u8>) -> SecretText {
        SecretText(octets)
    }

    /// The octets, for the key derivation only.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for SecretText {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_of_a_secret_is_redacted() {
        assert_eq!(format!("{:?}", SecretText::new(b"hello".to_vec())), "[redacted]");
    }
}
