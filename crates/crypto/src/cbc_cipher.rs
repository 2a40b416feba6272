//! Block ciphers in CBC mode, for ISAKMP messages. ESP has its own batches in [`crate::esp`].

use aes::{Aes128, Aes192, Aes256};
use cbc::{Decryptor, Encryptor};
use cipher::{
    Array, BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt, InnerIvInit, KeyInit,
};
use des::{Des, TdesEde3};

/// A block cipher used in CBC mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CbcCipher {
    /// FIPS 46-3, one key; parity bits are ignored.
    Des,
    /// Three keys, encrypt-decrypt-encrypt (RFC 2451); parity bits are ignored.
    TripleDes,
    /// RFC 3602.
    Aes128,
    /// RFC 3602.
    Aes192,
    /// RFC 3602.
    Aes256,
}

/// Why a cipher refused to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    /// The key has another length than the algorithm asks for.
    #[error("key of {actual} octets where {expected} are needed")]
    KeyLength {
        /// Octets the algorithm needs.
        expected: usize,
        /// Octets given.
        actual: usize,
    },
    /// The initialization vector is not one block long.
    #[error("initialization vector of {actual} octets where {expected} are needed")]
    IvLength {
        /// Octets of one block.
        expected: usize,
        /// Octets given.
        actual: usize,
    },
    /// The data is not a whole number of blocks.
    #[error("{actual} octets are not a multiple of the block of {block}")]
    DataLength {
        /// Octets of one block.
        block: usize,
        /// Octets given.
        actual: usize,
    },
}

impl CbcCipher {
    /// Every cipher, weakest first.
    pub const ALL: [Self; 5] = [Self::Des, Self::TripleDes, Self::Aes128, Self::Aes192, Self::Aes256];

    /// Octets of key.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Des => 8,
            Self::TripleDes | Self::Aes192 => 24,
            Self::Aes128 => 16,
            Self::Aes256 => 32,
        }
    }

    /// Octets of a block, which is also the length of the initialization vector.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Des | Self::TripleDes => 8,
            Self::Aes128 | Self::Aes192 | Self::Aes256 => 16,
        }
    }

    /// Encrypts `data`, a whole number of blocks (none is allowed), in place.
    pub fn encrypt_in_place(self, key: &[u8], iv: &[u8], data: &mut [u8]) -> Result<(), CipherError> {
        self.check(key, iv, data)?;
        CbcKey::new(self, key)?.encrypt(iv, data);
        Ok(())
    }

    /// Decrypts `data`, a whole number of blocks (none is allowed), in place.
    pub fn decrypt_in_place(self, key: &[u8], iv: &[u8], data: &mut [u8]) -> Result<(), CipherError> {
        self.check(key, iv, data)?;
        CbcKey::new(self, key)?.decrypt(iv, data);
        Ok(())
    }

    /// Whether `key` is one that must not be used: a weak or semi-weak DES key (RFC 2409 appendix A), or a triple
    /// DES key two neighbouring parts of which are equal. Parity bits do not count.
    ///
    /// A key of the wrong length is not weak; it is refused where it is used.
    pub fn is_weak_key(self, key: &[u8]) -> bool {
        match self {
            Self::Des => <[u8; 8]>::try_from(key).is_ok_and(is_weak_des_key),
            Self::TripleDes => {
                let Ok(key) = <[u8; 24]>::try_from(key) else { return false };
                let part =
                    |index: usize| without_parity(key[index * 8..][..8].try_into().expect("8 of 24 octets"));
                let [first, second, third] = [part(0), part(1), part(2)];
                //= https://www.rfc-editor.org/rfc/rfc2451#section-2.3
                //# However, if the first two or last two independent 64-bit keys are
                //# equal (k1 == k2 or k2 == k3), then the 3DES operation is simply the
                //# same as DES.  Implementers MUST reject keys that exhibit this
                //# property.
                first == second || second == third
            }
            Self::Aes128 | Self::Aes192 | Self::Aes256 => false,
        }
    }

    fn check(self, key: &[u8], iv: &[u8], data: &[u8]) -> Result<(), CipherError> {
        if key.len() != self.key_len() {
            return Err(CipherError::KeyLength { expected: self.key_len(), actual: key.len() });
        }
        if iv.len() != self.block_len() {
            return Err(CipherError::IvLength { expected: self.block_len(), actual: iv.len() });
        }
        if !data.len().is_multiple_of(self.block_len()) {
            return Err(CipherError::DataLength { block: self.block_len(), actual: data.len() });
        }
        Ok(())
    }
}

/// A key schedule, made once and used for many messages.
pub(crate) enum CbcKey {
    Des(Des),
    TripleDes(TdesEde3),
    Aes128(Aes128),
    Aes192(Aes192),
    Aes256(Aes256),
}

impl CbcKey {
    pub(crate) fn new(cipher: CbcCipher, key: &[u8]) -> Result<Self, CipherError> {
        fn schedule<C: KeyInit>(key: &[u8]) -> Result<C, CipherError> {
            C::new_from_slice(key)
                .map_err(|_| CipherError::KeyLength { expected: C::key_size(), actual: key.len() })
        }
        Ok(match cipher {
            CbcCipher::Des => Self::Des(schedule(key)?),
            CbcCipher::TripleDes => Self::TripleDes(schedule(key)?),
            CbcCipher::Aes128 => Self::Aes128(schedule(key)?),
            CbcCipher::Aes192 => Self::Aes192(schedule(key)?),
            CbcCipher::Aes256 => Self::Aes256(schedule(key)?),
        })
    }

    /// `iv` is one block and `data` whole blocks: the caller checked; octets beyond the last block stay as they are.
    pub(crate) fn encrypt(&self, iv: &[u8], data: &mut [u8]) {
        fn run<C: BlockCipherEncrypt>(cipher: &C, iv: &[u8], data: &mut [u8]) {
            let (blocks, _) = Array::slice_as_chunks_mut(data);
            Encryptor::inner_iv_slice_init(cipher, iv)
                .expect("the caller checked lengths")
                .encrypt_blocks(blocks);
        }
        match self {
            Self::Des(cipher) => run(cipher, iv, data),
            Self::TripleDes(cipher) => run(cipher, iv, data),
            Self::Aes128(cipher) => run(cipher, iv, data),
            Self::Aes192(cipher) => run(cipher, iv, data),
            Self::Aes256(cipher) => run(cipher, iv, data),
        }
    }

    /// As [`Self::encrypt`], the other way.
    pub(crate) fn decrypt(&self, iv: &[u8], data: &mut [u8]) {
        fn run<C: BlockCipherDecrypt>(cipher: &C, iv: &[u8], data: &mut [u8]) {
            let (blocks, _) = Array::slice_as_chunks_mut(data);
            Decryptor::inner_iv_slice_init(cipher, iv)
                .expect("the caller checked lengths")
                .decrypt_blocks(blocks);
        }
        match self {
            Self::Des(cipher) => run(cipher, iv, data),
            Self::TripleDes(cipher) => run(cipher, iv, data),
            Self::Aes128(cipher) => run(cipher, iv, data),
            Self::Aes192(cipher) => run(cipher, iv, data),
            Self::Aes256(cipher) => run(cipher, iv, data),
        }
    }
}

/// The weak keys and the semi-weak keys of DES, with odd parity.
///
/// RFC 2409 prints the second and third weak key as `1F1F1F1FE0E0E0E0` and `E0E0E0E01F1F1F1F`, which are not weak; a
/// peer that follows its letter refuses them, so they are refused here beside the true ones.
//= https://www.rfc-editor.org/rfc/rfc2409#appendix-A
//# This is a list of DES Weak and Semi-Weak keys.
const WEAK_DES_KEYS: [u64; 18] = [
    0x0101010101010101,
    0x1f1f1f1f0e0e0e0e,
    0xe0e0e0e0f1f1f1f1,
    0xfefefefefefefefe,
    0x1f1f1f1fe0e0e0e0,
    0xe0e0e0e01f1f1f1f,
    0x01fe01fe01fe01fe,
    0x1fe01fe00ef10ef1,
    0x01e001e001f101f1,
    0x1ffe1ffe0efe0efe,
    0x011f011f010e010e,
    0xe0fee0fef1fef1fe,
    0xfe01fe01fe01fe01,
    0xe01fe01ff10ef10e,
    0xe001e001f101f101,
    0xfe1ffe1ffe0efe0e,
    0x1f011f010e010e01,
    0xfee0fee0fef1fef1,
];

fn without_parity(key: [u8; 8]) -> [u8; 8] {
    key.map(|octet| octet & 0xfe)
}

fn is_weak_des_key(key: [u8; 8]) -> bool {
    WEAK_DES_KEYS.iter().any(|weak| without_parity(weak.to_be_bytes()) == without_parity(key))
}
