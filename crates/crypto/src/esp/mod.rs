//! ESP transforms on batches of packets, in place.
//!
//! ```text
//! SPI | sequence number | IV | payload, padding, pad length, next header | ICV
//!  4          4           iv_len     whole blocks, encrypted               icv_len
//! ```
//!
//! A [`Frame`] is one such packet. Whoever seals has filled in everything but the ciphertext and the ICV; whoever opens
//! finds the plaintext where the ciphertext was and a [`Verdict`] beside it. Nothing is allocated per packet.
//!
//! An [`EspKey`] holds the prepared key and is shared between lanes; an [`EspSealer`] or [`EspOpener`] is one lane's
//! handle to it.

mod iv;
mod portable;
mod suite;

use std::fmt;
use std::sync::Arc;

pub use iv::IvSource;
pub use suite::{EspSuite, GcmKeyLen};

/// Octets before the IV: SPI and sequence number.
pub const HEADER_LEN: usize = 8;

/// One ESP packet and what became of it.
#[derive(Debug)]
pub struct Frame<'a> {
    /// The packet from the SPI to the last octet of the ICV.
    pub bytes: &'a mut [u8],
    /// What the last [`EspSealer::seal`] or [`EspOpener::open`] said.
    pub verdict: Verdict,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// Not looked at yet.
    Pending,
    /// Sealed; or authentic and decrypted.
    Ok,
    /// Not authentic. What `bytes` holds is unspecified and no plaintext.
    BadIcv,
    /// Too short, or the encrypted part is not a whole number of blocks. `bytes` is untouched.
    BadLength,
}

impl<'a> Frame<'a> {
    /// A packet nobody looked at yet.
    pub fn new(bytes: &'a mut [u8]) -> Self {
        Self { bytes, verdict: Verdict::Pending }
    }
}

/// Which implementation does the work. All give the same octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// RustCrypto for CBC and HMAC, OpenSSL for GCM; one packet after the other.
    Portable,
}

impl Backend {
    /// The fastest backend that works on this machine.
    pub fn best() -> Self {
        Self::Portable
    }

    /// Every backend that works on this machine.
    pub fn available() -> &'static [Self] {
        &[Self::Portable]
    }
}

/// Why a key cannot be prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EspKeyError {
    /// The cipher key (with the salt, for GCM) has the wrong length.
    #[error("cipher key of {actual} octets where {expected} are needed")]
    CipherKeyLength {
        /// Octets the suite needs.
        expected: usize,
        /// Octets given.
        actual: usize,
    },
    /// The integrity key has the wrong length; it is empty for GCM.
    #[error("integrity key of {actual} octets where {expected} are needed")]
    IntegrityKeyLength {
        /// Octets the suite needs.
        expected: usize,
        /// Octets given.
        actual: usize,
    },
    /// The backend does not exist on this machine.
    #[error("this machine has no such backend")]
    BackendMissing,
    /// The library behind the backend failed: out of memory, or a policy of the system forbids the cipher.
    #[error("the cryptographic library refused the key")]
    Library,
}

/// A prepared key of a security association, shared by every lane. Wiped on drop.
pub struct EspKey {
    suite: EspSuite,
    backend: Backend,
    prepared: Prepared,
}

enum Prepared {
    Portable(portable::Key),
}

impl EspKey {
    /// Prepares a key for the best backend.
    ///
    /// `cipher_key` is [`EspSuite::cipher_key_len`] octets (for GCM the key followed by the salt, as RFC 4106 orders
    /// keying material), `integrity_key` [`EspSuite::integrity_key_len`] octets.
    pub fn new(suite: EspSuite, cipher_key: &[u8], integrity_key: &[u8]) -> Result<Arc<Self>, EspKeyError> {
        Self::with_backend(Backend::best(), suite, cipher_key, integrity_key)
    }

    /// Prepares a key for the given backend.
    pub fn with_backend(
        backend: Backend,
        suite: EspSuite,
        cipher_key: &[u8],
        integrity_key: &[u8],
    ) -> Result<Arc<Self>, EspKeyError> {
        let (expected, actual) = (suite.cipher_key_len(), cipher_key.len());
        if expected != actual {
            return Err(EspKeyError::CipherKeyLength { expected, actual });
        }
        let (expected, actual) = (suite.integrity_key_len(), integrity_key.len());
        if expected != actual {
            return Err(EspKeyError::IntegrityKeyLength { expected, actual });
        }
        let prepared = match backend {
            Backend::Portable => Prepared::Portable(portable::Key::new(suite, cipher_key, integrity_key)),
        };
        Ok(Arc::new(Self { suite, backend, prepared }))
    }

    /// The suite this key is for.
    pub fn suite(&self) -> EspSuite {
        self.suite
    }

    /// The backend this key was prepared for.
    pub fn backend(&self) -> Backend {
        self.backend
    }
}

impl fmt::Debug for EspKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("EspKey")
            .field("suite", &self.suite)
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

/// One lane's handle for encrypting and authenticating packets under one key.
pub struct EspSealer {
    key: Arc<EspKey>,
    lane: portable::Lane,
}

/// One lane's handle for verifying and decrypting packets under one key.
pub struct EspOpener {
    key: Arc<EspKey>,
    lane: portable::Lane,
}

impl EspSealer {
    /// Prepares the key for the best backend; see [`EspKey::new`].
    pub fn new(suite: EspSuite, cipher_key: &[u8], integrity_key: &[u8]) -> Result<Self, EspKeyError> {
        Self::from_key(EspKey::new(suite, cipher_key, integrity_key)?)
    }

    /// A lane's handle to a shared key.
    pub fn from_key(key: Arc<EspKey>) -> Result<Self, EspKeyError> {
        let Prepared::Portable(prepared) = &key.prepared;
        let lane = portable::Lane::sealing(prepared)?;
        Ok(Self { key, lane })
    }

    /// Encrypts every frame and appends its ICV, setting each verdict to `Ok` or `BadLength`.
    pub fn seal(&mut self, frames: &mut [Frame<'_>]) {
        let Prepared::Portable(prepared) = &self.key.prepared;
        for frame in frames {
            frame.verdict = if self.key.suite.fits(frame.bytes.len()) {
                self.lane.seal(self.key.suite, prepared, frame.bytes)
            } else {
                Verdict::BadLength
            };
        }
    }

    /// The suite of the key.
    pub fn suite(&self) -> EspSuite {
        self.key.suite
    }
}

impl EspOpener {
    /// Prepares the key for the best backend; see [`EspKey::new`].
    pub fn new(suite: EspSuite, cipher_key: &[u8], integrity_key: &[u8]) -> Result<Self, EspKeyError> {
        Self::from_key(EspKey::new(suite, cipher_key, integrity_key)?)
    }

    /// A lane's handle to a shared key.
    pub fn from_key(key: Arc<EspKey>) -> Result<Self, EspKeyError> {
        let Prepared::Portable(prepared) = &key.prepared;
        let lane = portable::Lane::opening(prepared)?;
        Ok(Self { key, lane })
    }

    /// Verifies every frame and decrypts the authentic ones, setting each verdict to `Ok`, `BadIcv` or `BadLength`.
    pub fn open(&mut self, frames: &mut [Frame<'_>]) {
        let Prepared::Portable(prepared) = &self.key.prepared;
        for frame in frames {
            frame.verdict = if self.key.suite.fits(frame.bytes.len()) {
                self.lane.open(self.key.suite, prepared, frame.bytes)
            } else {
                Verdict::BadLength
            };
        }
    }

    /// The suite of the key.
    pub fn suite(&self) -> EspSuite {
        self.key.suite
    }
}

impl fmt::Debug for EspSealer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("EspSealer").field(&self.key).finish()
    }
}

impl fmt::Debug for EspOpener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("EspOpener").field(&self.key).finish()
    }
}
