//! Unpredictable initialization vectors, made fast.

use std::fmt;

use aes::Aes256;
use cipher::{Array, BlockCipherEncrypt, KeyInit};
use zeroize::{Zeroize, Zeroizing};

use crate::Random;

/// Blocks made at a time: enough for the AES units to run in parallel, few enough to stay in the first-level cache.
const BLOCKS: usize = 64;

/// One lane's generator of unpredictable octets for CBC initialization vectors.
///
/// AES-256 in counter mode, keyed once from a [`Random`]. Every buffer's first 32 octets become the next key before
/// the rest is handed out, and used octets are gone, so that a later look at the memory tells nothing of earlier output.
pub struct IvSource {
    key: Zeroizing<[u8; 32]>,
    buffer: [[u8; 16]; BLOCKS],
    used: usize,
}

impl IvSource {
    /// Seeds a generator with 32 octets of `random`.
    pub fn new(random: &mut dyn Random) -> Self {
        let mut key = Zeroizing::new([0; 32]);
        random.fill(&mut *key);
        Self { key, buffer: [[0; 16]; BLOCKS], used: BLOCKS * 16 }
    }

    /// Overwrites `iv` (any length; 8 or 16 octets in practice).
    pub fn fill(&mut self, mut iv: &mut [u8]) {
        while !iv.is_empty() {
            if self.used == BLOCKS * 16 {
                self.refill();
            }
            let ready = &mut self.buffer.as_flattened_mut()[self.used..];
            let count = ready.len().min(iv.len());
            let (now, later) = iv.split_at_mut(count);
            now.copy_from_slice(&ready[..count]);
            ready[..count].fill(0);
            self.used += count;
            iv = later;
        }
    }

    fn refill(&mut self) {
        let cipher = Aes256::new(&Array(*self.key));
        for (counter, block) in self.buffer.iter_mut().enumerate() {
            *block = (counter as u128).to_be_bytes();
        }
        cipher.encrypt_blocks(Array::cast_slice_from_core_mut(&mut self.buffer));
        let (next_key, _) = self.buffer.as_flattened_mut().split_at_mut(32);
        self.key.copy_from_slice(next_key);
        next_key.zeroize();
        self.used = 32;
    }
}

impl Random for IvSource {
    fn fill(&mut self, bytes: &mut [u8]) {
        Self::fill(self, bytes);
    }
}

impl Drop for IvSource {
    fn drop(&mut self) {
        self.buffer.zeroize();
    }
}

impl fmt::Debug for IvSource {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::SeededRandom;

    #[test]
    fn ten_thousand_vectors_are_all_different() {
        let mut source = IvSource::new(&mut SeededRandom::new(1));
        let mut seen = BTreeSet::new();
        for _ in 0..10_000 {
            let mut iv = [0; 16];
            source.fill(&mut iv);
            assert!(seen.insert(iv));
        }
    }

    #[test]
    fn octets_handed_out_are_not_kept() {
        let mut source = IvSource::new(&mut SeededRandom::new(1));
        source.fill(&mut [0; 48]);
        assert_eq!(source.buffer.as_flattened()[..80], [0; 80]);
        assert_ne!(source.buffer.as_flattened()[80..96], [0; 16]);
    }

    #[test]
    fn lanes_differ() {
        let mut random = SeededRandom::new(1);
        let (mut first, mut second) = ([0; 16], [0; 16]);
        IvSource::new(&mut random).fill(&mut first);
        IvSource::new(&mut random).fill(&mut second);
        assert_ne!(first, second);
    }
}
