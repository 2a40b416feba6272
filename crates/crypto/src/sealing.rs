//! Sealing of records at rest: AES-256-GCM, each under a key of its own.
//!
//! ```text
//!   sealed = version 1 | salt (16) | nonce (12) | ciphertext | tag (16)
//!   key    = HMAC-SHA256(sealing key, "groupvpn sealed record" | salt)
//! ```
//!
//! A random nonce of 96 bits alone would set a bound to the number of records under one key; with a random salt beside it
//! no such bound is within reach, so nobody has to count. The context (where the record belongs) is authenticated with it:
//! a record that was moved or exchanged does not open.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;

use crate::{Hash, PrfKey, Random, Secret};

const VERSION: u8 = 1;
const SALT: usize = 16;
const NONCE: usize = 12;
const TAG: usize = 16;
const LABEL: &[u8] = b"groupvpn sealed record";

/// Octets by which a sealed record is longer than its content.
pub const SEALING_OVERHEAD: usize = 1 + SALT + NONCE + TAG;

/// Octets of a sealing key.
pub const SEALING_KEY_LENGTH: usize = 32;

/// The key that records are sealed with.
#[derive(Clone, Debug)]
pub struct SealingKey(PrfKey);

/// Why there is no sealing key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sealing key has {SEALING_KEY_LENGTH} octets, this one has {0}")]
pub struct SealingKeyLength(pub usize);

/// A record that does not open: damaged, moved, or sealed with another key. Which of them cannot be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record does not open: it is damaged, or was sealed with another key")]
pub struct NotOpened;

impl SealingKey {
    /// Takes a key of [`SEALING_KEY_LENGTH`] random octets.
    pub fn new(key: &Secret) -> Result<Self, SealingKeyLength> {
        if key.len() != SEALING_KEY_LENGTH {
            return Err(SealingKeyLength(key.len()));
        }
        Ok(Self(PrfKey::new(Hash::Sha256, key.expose())))
    }

    /// Seals `content` for the place that `context` names.
    ///
    /// # Panics
    /// If OpenSSL has no AES-256-GCM or no memory.
    pub fn seal(&self, context: &[u8], content: &[u8], random: &mut dyn Random) -> Vec<u8> {
        let mut sealed = vec![0; 1 + SALT + NONCE];
        sealed[0] = VERSION;
        random.fill(&mut sealed[1..]);
        self.encrypt(context, content, &mut sealed).expect("OpenSSL encrypts with AES-256-GCM");
        sealed
    }

    /// Opens what [`SealingKey::seal`] made for the same `context`.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Secret, NotOpened> {
        if sealed.len() < SEALING_OVERHEAD || sealed[0] != VERSION {
            return Err(NotOpened);
        }
        let (head, rest) = sealed.split_at(1 + SALT + NONCE);
        let (content, tag) = rest.split_at(rest.len() - TAG);
        self.decrypt(context, head, content, tag).map_err(|_| NotOpened)
    }

    fn encrypt(&self, context: &[u8], content: &[u8], sealed: &mut Vec<u8>) -> Result<(), ErrorStack> {
        let head: [u8; 1 + SALT + NONCE] = sealed[..].try_into().expect("the caller wrote just the head");
        let mut cipher = CipherCtx::new()?;
        let key = self.record_key(&head);
        cipher.encrypt_init(Some(Cipher::aes_256_gcm()), Some(key.expose()), Some(&head[1 + SALT..]))?;
        cipher.cipher_update(&head, None)?;
        cipher.cipher_update(context, None)?;
        cipher.cipher_update_vec(content, sealed)?;
        cipher.cipher_final_vec(sealed)?;
        let mut tag = [0; TAG];
        cipher.tag(&mut tag)?;
        sealed.extend_from_slice(&tag);
        Ok(())
    }

    fn decrypt(&self, context: &[u8], head: &[u8], content: &[u8], tag: &[u8]) -> Result<Secret, ErrorStack> {
        let mut cipher = CipherCtx::new()?;
        let key = self.record_key(head);
        cipher.decrypt_init(Some(Cipher::aes_256_gcm()), Some(key.expose()), Some(&head[1 + SALT..]))?;
        cipher.cipher_update(head, None)?;
        cipher.cipher_update(context, None)?;
        // In place, in a vector that is exactly filled: the one copy of the content becomes the secret.
        let mut opened = zeroize::Zeroizing::new(content.to_vec());
        let length = opened.len();
        cipher.cipher_update_inplace(&mut opened, length)?;
        cipher.set_tag(tag)?;
        cipher.cipher_final(&mut [])?;
        Ok(Secret::new(std::mem::take(&mut *opened)))
    }

    fn record_key(&self, head: &[u8]) -> Secret {
        self.0.prf(&[LABEL, &head[1..1 + SALT]])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRandom;

    fn key(octet: u8) -> SealingKey {
        SealingKey::new(&Secret::new(vec![octet; SEALING_KEY_LENGTH])).unwrap()
    }

    #[test]
    fn what_was_sealed_opens_in_its_place_with_its_key_only() {
        let mut random = SeededRandom::new(1);
        for length in [0, 1, 16, 1000] {
            let content = vec![7; length];
            let sealed = key(1).seal(b"group/1/keys", &content, &mut random);
            assert_eq!(sealed.len(), length + SEALING_OVERHEAD);
            assert_eq!(key(1).open(b"group/1/keys", &sealed).unwrap().expose(), content);
            assert_eq!(key(1).open(b"group/2/keys", &sealed), Err(NotOpened));
            assert_eq!(key(2).open(b"group/1/keys", &sealed), Err(NotOpened));
        }
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let sealed = key(1).seal(b"place", b"content", &mut SeededRandom::new(2));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key(1).open(b"place", &damaged), Err(NotOpened), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(key(1).open(b"place", &sealed[..length]), Err(NotOpened), "{length} octets");
        }
    }

    #[test]
    fn the_same_content_never_seals_to_the_same_octets() {
        let mut random = SeededRandom::new(3);
        let first = key(1).seal(b"place", b"content", &mut random);
        let second = key(1).seal(b"place", b"content", &mut random);
        assert_ne!(first[1..1 + SALT], second[1..1 + SALT]);
        assert_ne!(first[1 + SALT + NONCE..], second[1 + SALT + NONCE..]);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        assert_eq!(SealingKey::new(&Secret::new(vec![0; 31])).unwrap_err(), SealingKeyLength(31));
    }

    #[test]
    fn opens_what_another_implementation_sealed() {
        // Made with Python's hmac and `cryptography` (AESGCM): salt 00..0f, nonce 10..1b, content "content".
        let sealed = hex_literal::hex!(
            "01000102030405060708090a0b0c0d0e0f101112131415161718191a1b"
            "d1f0b679e0b13e"
            "daa685f4ccc7a1eac2ef9cab765bea1b"
        );
        assert_eq!(key(1).open(b"place", &sealed).unwrap().expose(), b"content");
    }
}
