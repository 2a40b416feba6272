//! Truncated HMACs that authenticate ESP packets.

use crate::Hash;

/// An integrity algorithm of ESP. The name gives the hash and the bits that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Integrity {
    /// RFC 2403.
    HmacMd5_96,
    /// RFC 2404.
    HmacSha1_96,
    /// RFC 4868.
    HmacSha256_128,
    /// RFC 4868.
    HmacSha384_192,
    /// RFC 4868.
    HmacSha512_256,
}

impl Integrity {
    /// Every algorithm, weakest first.
    pub const ALL: [Self; 5] = [
        Self::HmacMd5_96,
        Self::HmacSha1_96,
        Self::HmacSha256_128,
        Self::HmacSha384_192,
        Self::HmacSha512_256,
    ];

    /// The hash under the HMAC.
    pub const fn hash(self) -> Hash {
        match self {
            Self::HmacMd5_96 => Hash::Md5,
            Self::HmacSha1_96 => Hash::Sha1,
            Self::HmacSha256_128 => Hash::Sha256,
            Self::HmacSha384_192 => Hash::Sha384,
            Self::HmacSha512_256 => Hash::Sha512,
        }
    }

    /// Octets of key: the output length of the hash, which the RFCs fix for IPsec.
    pub const fn key_len(self) -> usize {
        self.hash().output_len()
    }

    /// Octets of the integrity check value at the end of a packet.
    pub const fn icv_len(self) -> usize {
        match self {
            Self::HmacMd5_96 | Self::HmacSha1_96 => 12,
            Self::HmacSha256_128 => 16,
            Self::HmacSha384_192 => 24,
            Self::HmacSha512_256 => 32,
        }
    }
}
