//! Combinations of algorithms that protect an ESP packet, and the lengths that follow from them.

use std::ops::Range;

use super::{HEADER_LEN, MAX_FRAME_LEN};
use crate::{CbcCipher, Integrity};

/// What protects the packets of a security association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EspSuite {
    /// Encrypt in CBC mode, then authenticate with a truncated HMAC.
    Cbc {
        /// The block cipher.
        cipher: CbcCipher,
        /// The HMAC.
        integrity: Integrity,
    },
    /// AES-GCM with a 16-octet ICV (RFC 4106).
    Gcm {
        /// Length of the AES key.
        key: GcmKeyLen,
    },
}

/// Length of the AES key of a GCM suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum GcmKeyLen {
    /// 16 octets.
    Bits128,
    /// 24 octets.
    Bits192,
    /// 32 octets.
    Bits256,
}

impl GcmKeyLen {
    /// Every length, shortest first.
    pub const ALL: [Self; 3] = [Self::Bits128, Self::Bits192, Self::Bits256];

    /// Octets of the AES key, without the salt.
    pub const fn key_len(self) -> usize {
        match self {
            Self::Bits128 => 16,
            Self::Bits192 => 24,
            Self::Bits256 => 32,
        }
    }

    /// The length of so many bits, the unit of a key length attribute.
    pub const fn from_bits(bits: u16) -> Option<Self> {
        match bits {
            128 => Some(Self::Bits128),
            192 => Some(Self::Bits192),
            256 => Some(Self::Bits256),
            _ => None,
        }
    }
}

impl EspSuite {
    /// Every suite.
    pub fn all() -> impl Iterator<Item = Self> {
        let cbc = CbcCipher::ALL.into_iter().flat_map(|cipher| {
            Integrity::ALL.into_iter().map(move |integrity| Self::Cbc { cipher, integrity })
        });
        cbc.chain(GcmKeyLen::ALL.into_iter().map(|key| Self::Gcm { key }))
    }

    /// Octets of the cipher key as a key server hands it out: for GCM the AES key and the salt after it.
    pub const fn cipher_key_len(self) -> usize {
        match self {
            Self::Cbc { cipher, .. } => cipher.key_len(),
            Self::Gcm { key } => key.key_len() + self.salt_len(),
        }
    }

    /// Octets of the cipher key's end that are not AES key but salt of the nonce.
    pub const fn salt_len(self) -> usize {
        match self {
            Self::Cbc { .. } => 0,
            Self::Gcm { .. } => 4,
        }
    }

    /// Octets of the integrity key; none where the cipher authenticates.
    pub const fn integrity_key_len(self) -> usize {
        match self {
            Self::Cbc { integrity, .. } => integrity.key_len(),
            Self::Gcm { .. } => 0,
        }
    }

    /// Octets of the IV in each packet.
    pub const fn iv_len(self) -> usize {
        match self {
            Self::Cbc { cipher, .. } => cipher.block_len(),
            Self::Gcm { .. } => 8,
        }
    }

    /// The encrypted part (payload, padding, pad length, next header) is a multiple of so many octets.
    pub const fn alignment(self) -> usize {
        match self {
            Self::Cbc { cipher, .. } => cipher.block_len(),
            Self::Gcm { .. } => 4,
        }
    }

    /// Octets of the ICV in each packet.
    pub const fn icv_len(self) -> usize {
        match self {
            Self::Cbc { integrity, .. } => integrity.icv_len(),
            Self::Gcm { .. } => 16,
        }
    }

    /// Whether the IV must be unpredictable (CBC); otherwise it must never repeat under one key (GCM).
    pub const fn wants_random_iv(self) -> bool {
        matches!(self, Self::Cbc { .. })
    }

    /// Whether several packets at a time are faster than one after the other: CBC is sequential within a packet, GCM is not.
    #[inline]
    pub const fn is_batched(self) -> bool {
        matches!(self, Self::Cbc { .. })
    }

    /// The lengths above, to be kept where packets are made.
    pub const fn layout(self) -> Layout {
        Layout { start: HEADER_LEN + self.iv_len(), mask: self.alignment() - 1, icv_len: self.icv_len() }
    }

    /// Octets of a whole frame around `payload_len` octets of payload with the least padding.
    #[inline]
    pub const fn frame_len(self, payload_len: usize) -> usize {
        self.layout().frame_len(payload_len)
    }

    /// Where the encrypted part of a frame of `frame_len` octets lies, if it can be one.
    #[inline]
    pub const fn encrypted_range(self, frame_len: usize) -> Option<Range<usize>> {
        self.layout().encrypted_range(frame_len)
    }
}

/// The lengths in a suite's frames, all in octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    start: usize,
    /// A power of two, minus one: no division.
    mask: usize,
    icv_len: usize,
}

impl Layout {
    /// Of every GCM suite.
    pub const GCM: Self = EspSuite::Gcm { key: GcmKeyLen::Bits128 }.layout();

    /// Where the encrypted part begins: behind ESP header and IV.
    #[inline]
    pub const fn start(self) -> usize {
        self.start
    }

    /// Octets of the IV.
    #[inline]
    pub const fn iv_len(self) -> usize {
        self.start - HEADER_LEN
    }

    /// Octets of the ICV.
    #[inline]
    pub const fn icv_len(self) -> usize {
        self.icv_len
    }

    /// Octets of a whole frame around `payload_len` octets of payload with the least padding.
    #[inline]
    pub const fn frame_len(self, payload_len: usize) -> usize {
        self.start + ((payload_len + 2 + self.mask) & !self.mask) + self.icv_len
    }

    /// Octets of the most payload, pad length and next header not counted, that a frame of `frame_len` octets holds.
    #[inline]
    pub const fn most_payload(self, frame_len: usize) -> Option<usize> {
        let Some(room) = frame_len.checked_sub(self.start + self.icv_len) else { return None };
        (room & !self.mask).checked_sub(2)
    }

    /// Where the encrypted part of a frame of `frame_len` octets lies, if it can be one.
    #[inline]
    pub const fn encrypted_range(self, frame_len: usize) -> Option<Range<usize>> {
        let Some(end) = frame_len.checked_sub(self.icv_len) else { return None };
        if frame_len > MAX_FRAME_LEN || end <= self.start || (end - self.start) & self.mask != 0 {
            return None;
        }
        Some(self.start..end)
    }
}
