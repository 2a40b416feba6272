//! Hashes, and HMAC as the pseudo-random function of IKE.

use std::fmt;
use std::ops::Deref;

use hmac::{Hmac, KeyInit, Mac};
use md5::Md5;
use sha1::Sha1;
use sha2::{Sha256, Sha384, Sha512};
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use crate::Secret;

/// A hash function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hash {
    /// RFC 1321.
    Md5,
    /// FIPS 180-4.
    Sha1,
    /// FIPS 180-4.
    Sha256,
    /// FIPS 180-4.
    Sha384,
    /// FIPS 180-4.
    Sha512,
}

/// The output of a hash: at most 64 octets, kept in place. Compares in constant time.
#[derive(Clone, Copy)]
pub struct Digest {
    bytes: [u8; 64],
    len: u8,
}

impl Hash {
    /// Octets of output.
    pub const fn output_len(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Octets of one input block, the unit of HMAC's key padding.
    pub const fn block_len(self) -> usize {
        match self {
            Self::Md5 | Self::Sha1 | Self::Sha256 => 64,
            Self::Sha384 | Self::Sha512 => 128,
        }
    }

    /// The hash of the concatenation of `parts`.
    pub fn digest(self, parts: &[&[u8]]) -> Digest {
        fn run<D: sha1::Digest>(parts: &[&[u8]]) -> Digest {
            let mut state = D::new();
            parts.iter().for_each(|part| state.update(part));
            Digest::from_slice(&state.finalize())
        }
        match self {
            Self::Md5 => run::<Md5>(parts),
            Self::Sha1 => run::<Sha1>(parts),
            Self::Sha256 => run::<Sha256>(parts),
            Self::Sha384 => run::<Sha384>(parts),
            Self::Sha512 => run::<Sha512>(parts),
        }
    }

    /// HMAC under `key` of the concatenation of `parts`: the `prf(key, msg)` of RFC 2409. Any key length.
    pub fn prf(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        PrfKey::new(self, key).prf(parts)
    }
}

impl Digest {
    fn from_slice(output: &[u8]) -> Self {
        let mut bytes = [0; 64];
        bytes[..output.len()].copy_from_slice(output);
        Self { bytes, len: output.len() as u8 }
    }

    /// Compares with bytes from elsewhere (a hash received from a peer) in constant time.
    #[must_use]
    pub fn matches(&self, bytes: &[u8]) -> bool {
        (**self).ct_eq(bytes).into()
    }
}

impl Deref for Digest {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for Digest {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for Digest {}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// A HMAC key with its inner and outer states already computed.
#[derive(Clone)]
pub struct PrfKey(State);

#[derive(Clone)]
enum State {
    Md5(Hmac<Md5>),
    Sha1(Hmac<Sha1>),
    Sha256(Hmac<Sha256>),
    Sha384(Hmac<Sha384>),
    Sha512(Hmac<Sha512>),
}

impl PrfKey {
    /// Prepares `key`, of any length.
    pub fn new(hash: Hash, key: &[u8]) -> Self {
        fn keyed<M: KeyInit>(key: &[u8]) -> M {
            M::new_from_slice(key).expect("HMAC takes keys of every length")
        }
        Self(match hash {
            Hash::Md5 => State::Md5(keyed(key)),
            Hash::Sha1 => State::Sha1(keyed(key)),
            Hash::Sha256 => State::Sha256(keyed(key)),
            Hash::Sha384 => State::Sha384(keyed(key)),
            Hash::Sha512 => State::Sha512(keyed(key)),
        })
    }

    /// HMAC of the concatenation of `parts`.
    pub fn prf(&self, parts: &[&[u8]]) -> Secret {
        let mut tag = self.tag(parts);
        let secret = Secret::from_slice(&tag);
        tag.bytes.zeroize();
        secret
    }

    /// HMAC of the concatenation of `parts`, without allocation; for values that travel in the clear.
    pub fn tag(&self, parts: &[&[u8]]) -> Digest {
        fn run<M: Mac + Clone>(keyed: &M, parts: &[&[u8]]) -> Digest {
            let mut state = keyed.clone();
            parts.iter().for_each(|part| state.update(part));
            Digest::from_slice(&state.finalize().into_bytes())
        }
        match &self.0 {
            State::Md5(keyed) => run(keyed, parts),
            State::Sha1(keyed) => run(keyed, parts),
            State::Sha256(keyed) => run(keyed, parts),
            State::Sha384(keyed) => run(keyed, parts),
            State::Sha512(keyed) => run(keyed, parts),
        }
    }
}

impl fmt::Debug for PrfKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}
