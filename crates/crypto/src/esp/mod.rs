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
#[cfg(ipsec_mb)]
mod multibuffer;
mod portable;
mod suite;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub use iv::IvSource;
pub use suite::{EspSuite, GcmKeyLen, Layout};

/// Octets before the IV: SPI and sequence number.
pub const HEADER_LEN: usize = 8;

/// Octets of the longest frame: no IP packet is longer, and lengths of 16 bits are what vector lanes count in.
pub const MAX_FRAME_LEN: usize = 65_535;

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
    /// Too short, longer than [`MAX_FRAME_LEN`], or the encrypted part is not a whole number of blocks. `bytes` is untouched.
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
    /// intel-ipsec-mb: a batch in the vector lanes of one core.
    MultiBuffer,
    /// RustCrypto for CBC and HMAC, OpenSSL for GCM; one packet after the other.
    Portable,
}

impl Backend {
    /// The fastest backend that works on this machine.
    pub fn best() -> Self {
        Self::available()[0]
    }

    /// Every backend that was built and works on this machine, fastest first.
    pub fn available() -> &'static [Self] {
        static AVAILABLE: OnceLock<&[Backend]> = OnceLock::new();
        AVAILABLE.get_or_init(|| {
            #[cfg(ipsec_mb)]
            if multibuffer::is_available() {
                return &[Self::MultiBuffer, Self::Portable];
            }
            &[Self::Portable]
        })
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
    #[cfg(ipsec_mb)]
    MultiBuffer(multibuffer::Key),
    Portable(Box<portable::Key>),
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
            #[cfg(ipsec_mb)]
            Backend::MultiBuffer => {
                Prepared::MultiBuffer(multibuffer::Key::new(suite, cipher_key, integrity_key)?)
            }
            #[cfg(not(ipsec_mb))]
            Backend::MultiBuffer => return Err(EspKeyError::BackendMissing),
            Backend::Portable => {
                Prepared::Portable(Box::new(portable::Key::new(suite, cipher_key, integrity_key)))
            }
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

/// What one lane keeps beside the shared key.
enum Lane {
    #[cfg(ipsec_mb)]
    MultiBuffer,
    Portable(portable::Lane),
}

/// One lane's handle for encrypting and authenticating packets under one key.
pub struct EspSealer {
    key: Arc<EspKey>,
    lane: Lane,
}

/// One lane's handle for verifying and decrypting packets under one key.
pub struct EspOpener {
    key: Arc<EspKey>,
    lane: Lane,
}

fn prepare(
    key: &EspKey,
    portable: impl FnOnce(&portable::Key) -> Result<portable::Lane, EspKeyError>,
) -> Result<Lane, EspKeyError> {
    match &key.prepared {
        #[cfg(ipsec_mb)]
        Prepared::MultiBuffer(_) => Ok(Lane::MultiBuffer),
        Prepared::Portable(prepared) => portable(prepared).map(Lane::Portable),
    }
}

impl EspSealer {
    /// Prepares the key for the best backend; see [`EspKey::new`].
    pub fn new(suite: EspSuite, cipher_key: &[u8], integrity_key: &[u8]) -> Result<Self, EspKeyError> {
        Self::from_key(EspKey::new(suite, cipher_key, integrity_key)?)
    }

    /// A lane's handle to a shared key.
    pub fn from_key(key: Arc<EspKey>) -> Result<Self, EspKeyError> {
        let lane = prepare(&key, portable::Lane::sealing)?;
        Ok(Self { key, lane })
    }

    /// Encrypts every frame and appends its ICV, setting each verdict to `Ok` or `BadLength`.
    pub fn seal(&mut self, frames: &mut [Frame<'_>]) {
        let suite = self.key.suite;
        match (&self.key.prepared, &mut self.lane) {
            #[cfg(ipsec_mb)]
            (Prepared::MultiBuffer(prepared), _) => multibuffer::seal(suite, |_| prepared, frames),
            (Prepared::Portable(prepared), Lane::Portable(lane)) => {
                frames.iter_mut().for_each(|frame| frame.verdict = lane.seal(suite, prepared, frame.bytes));
            }
            #[cfg(ipsec_mb)]
            (Prepared::Portable(_), Lane::MultiBuffer) => unreachable!("the lane was made for this key"),
        }
    }

    /// Seals one packet: as fast as many where the suite is not [batched](EspSuite::is_batched).
    #[inline]
    pub fn seal_one(&mut self, bytes: &mut [u8]) -> Verdict {
        #[cfg(ipsec_mb)]
        if let Prepared::MultiBuffer(prepared) = &self.key.prepared
            && !self.key.suite.is_batched()
        {
            return prepared.seal_gcm(self.key.suite, bytes);
        }
        let mut frame = [Frame::new(bytes)];
        self.seal(&mut frame);
        frame[0].verdict
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
        let lane = prepare(&key, portable::Lane::opening)?;
        Ok(Self { key, lane })
    }

    /// Verifies every frame and decrypts the authentic ones, setting each verdict to `Ok`, `BadIcv` or `BadLength`.
    pub fn open(&mut self, frames: &mut [Frame<'_>]) {
        let suite = self.key.suite;
        match (&self.key.prepared, &mut self.lane) {
            #[cfg(ipsec_mb)]
            (Prepared::MultiBuffer(prepared), _) => multibuffer::open(suite, |_| prepared, frames),
            (Prepared::Portable(prepared), Lane::Portable(lane)) => {
                frames.iter_mut().for_each(|frame| frame.verdict = lane.open(suite, prepared, frame.bytes));
            }
            #[cfg(ipsec_mb)]
            (Prepared::Portable(_), Lane::MultiBuffer) => unreachable!("the lane was made for this key"),
        }
    }

    /// Opens a copy of one packet: `copy` is as long, and holds header, IV and plaintext of an authentic packet afterwards;
    /// no plaintext of others.
    pub fn open_copy(&mut self, packet: &[u8], copy: &mut [u8]) -> Verdict {
        assert_eq!(packet.len(), copy.len());
        #[cfg(ipsec_mb)]
        if let Prepared::MultiBuffer(prepared) = &self.key.prepared
            && !self.key.suite.is_batched()
        {
            let Some(range) = self.key.suite.encrypted_range(packet.len()) else { return Verdict::BadLength };
            copy[..range.start].copy_from_slice(&packet[..range.start]);
            return prepared.open_gcm(self.key.suite, packet, &mut copy[range]);
        }
        copy.copy_from_slice(packet);
        let mut frame = [Frame::new(copy)];
        self.open(&mut frame);
        frame[0].verdict
    }

    /// The suite of the key.
    pub fn suite(&self) -> EspSuite {
        self.key.suite
    }
}

/// Seals packets under several keys of one [batched](EspSuite::is_batched) suite: as fast as under one key. `keys` are as
/// many as `frames`, and tell the key of each.
///
/// # Panics
///
/// Panics where keys are of different suites or backends, or of GCM.
pub fn seal_each(keys: &[&EspKey], frames: &mut [Frame<'_>]) {
    let Some(first) = of_one_kind(keys, frames) else { return };
    match &first.prepared {
        #[cfg(ipsec_mb)]
        Prepared::MultiBuffer(_) => multibuffer::seal(first.suite, |at| keys[at].multibuffer(), frames),
        Prepared::Portable(_) => {
            for (key, frame) in keys.iter().zip(frames) {
                frame.verdict = portable::Lane::Cbc.seal(key.suite, key.portable(), frame.bytes);
            }
        }
    }
}

/// Opens packets under several keys of one suite; see [`seal_each`].
///
/// # Panics
///
/// Panics where keys are of different suites or backends, or of GCM.
pub fn open_each(keys: &[&EspKey], frames: &mut [Frame<'_>]) {
    let Some(first) = of_one_kind(keys, frames) else { return };
    match &first.prepared {
        #[cfg(ipsec_mb)]
        Prepared::MultiBuffer(_) => multibuffer::open(first.suite, |at| keys[at].multibuffer(), frames),
        Prepared::Portable(_) => {
            for (key, frame) in keys.iter().zip(frames) {
                frame.verdict = portable::Lane::Cbc.open(key.suite, key.portable(), frame.bytes);
            }
        }
    }
}

/// The first key, if there is one.
fn of_one_kind<'k>(keys: &[&'k EspKey], frames: &[Frame<'_>]) -> Option<&'k EspKey> {
    assert_eq!(keys.len(), frames.len());
    let first = *keys.first()?;
    let alike = |key: &&EspKey| (key.suite, key.backend) == (first.suite, first.backend);
    assert!(first.suite.is_batched() && keys.iter().all(alike), "keys of one batched suite and backend");
    Some(first)
}

impl EspKey {
    #[cfg(ipsec_mb)]
    fn multibuffer(&self) -> &multibuffer::Key {
        match &self.prepared {
            Prepared::MultiBuffer(prepared) => prepared,
            Prepared::Portable(_) => unreachable!("the backends were compared"),
        }
    }

    fn portable(&self) -> &portable::Key {
        match &self.prepared {
            #[cfg(ipsec_mb)]
            Prepared::MultiBuffer(_) => unreachable!("the backends were compared"),
            Prepared::Portable(prepared) => prepared,
        }
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
