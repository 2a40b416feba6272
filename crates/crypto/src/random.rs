//! Where random octets come from. Libraries take a [`Random`]; only the daemon constructs [`OsRandom`].

use std::fmt;

use aes::Aes256;
use cipher::{Array, BlockCipherEncrypt, KeyInit};
use openssl::error::ErrorStack;

use crate::Hash;

/// A source of random octets, handed to whatever needs them.
pub trait Random {
    /// Overwrites all of `bytes`.
    fn fill(&mut self, bytes: &mut [u8]);
}

impl<R: Random + ?Sized> Random for Box<R> {
    fn fill(&mut self, bytes: &mut [u8]) {
        (**self).fill(bytes);
    }
}

/// The operating system's generator (through OpenSSL's, which is seeded by it).
#[derive(Debug)]
pub struct OsRandom(());

/// The operating system has no randomness to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the random number generator of the system does not work")]
pub struct RandomError;

impl OsRandom {
    /// Opens the generator and draws from it once, so that a system without randomness is noticed at start.
    pub fn new() -> Result<Self, RandomError> {
        let mut probe = [0; 16];
        system_random(&mut probe).map_err(|_| RandomError)?;
        Ok(Self(()))
    }
}

impl Random for OsRandom {
    /// # Panics
    /// If the generator that worked at start fails: there is nothing safe to go on with.
    fn fill(&mut self, bytes: &mut [u8]) {
        if system_random(bytes).is_err() {
            panic!("{RandomError}");
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the system's randomness enters")]
fn system_random(bytes: &mut [u8]) -> Result<(), ErrorStack> {
    openssl::rand::rand_priv_bytes(bytes)
}

/// A deterministic source: AES-256 in counter mode under a key made of the seed.
///
/// For simulation, tests and benchmarks. Not for production: whoever knows the seed knows every key.
pub struct SeededRandom {
    cipher: Aes256,
    counter: u128,
    block: [u8; 16],
    used: usize,
}

impl SeededRandom {
    /// The stream that belongs to `seed`, from its start.
    pub fn new(seed: u64) -> Self {
        let key = Hash::Sha256.digest(&[b"groupvpn seeded random", &seed.to_be_bytes()]);
        let cipher = Aes256::new_from_slice(&key).expect("SHA-256 yields the 32 octets of an AES-256 key");
        Self { cipher, counter: 0, block: [0; 16], used: 16 }
    }
}

impl Random for SeededRandom {
    fn fill(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            if self.used == self.block.len() {
                let mut block = Array(self.counter.to_be_bytes());
                self.cipher.encrypt_block(&mut block);
                self.block = block.0;
                self.counter = self.counter.wrapping_add(1);
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

impl fmt::Debug for SeededRandom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SeededRandom").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_stream_however_it_is_cut() {
        let mut whole = [0; 100];
        SeededRandom::new(7).fill(&mut whole);
        let mut cut = [0; 100];
        let mut random = SeededRandom::new(7);
        for piece in cut.chunks_mut(7) {
            random.fill(piece);
        }
        assert_eq!(whole, cut);
        let mut other = [0; 100];
        SeededRandom::new(8).fill(&mut other);
        assert_ne!(whole, other);
    }

    #[test]
    fn the_system_generator_does_not_repeat_itself() {
        let mut random = OsRandom::new().unwrap();
        let (mut first, mut second) = ([0; 32], [0; 32]);
        random.fill(&mut first);
        random.fill(&mut second);
        assert_ne!(first, second);
        assert_ne!(first, [0; 32]);
    }
}
