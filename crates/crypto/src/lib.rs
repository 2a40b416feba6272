//! The only crate that names a cryptographic library: the audit boundary.
//!
//! - [`Secret`] holds key bytes; [`Random`] is where every random octet comes from.
//! - [`Hash`], [`CbcCipher`], [`Integrity`], [`DhGroup`]: the algorithms of phase 1 and of ESP.
//! - [`signature`]: RSA and ECDSA, for what a server says to all members at once.
//! - [`esp`]: batches of ESP packets, sealed and opened in place.
//! - [`SealingKey`]: records at rest.
//!
//! Nothing here knows a protocol, a clock or a socket. Why these libraries: `docs/decisions/0001-crypto-libraries.md`.

mod cbc_cipher;
mod dh;
pub mod esp;
mod hash;
mod integrity;
mod random;
mod sealing;
mod secret;
pub mod signature;

pub use cbc_cipher::{CbcCipher, CipherError};
pub use dh::{DhError, DhGroup, DhSecret};
pub use esp::{
    Backend, EspKey, EspKeyError, EspOpener, EspSealer, EspSuite, Frame, GcmKeyLen, IvSource, Verdict,
};
pub use hash::{Digest, Hash, PrfKey};
pub use integrity::Integrity;
pub use random::{OsRandom, Random, RandomError, SeededRandom};
pub use sealing::{NotOpened, SEALING_KEY_LENGTH, SEALING_OVERHEAD, SealingKey, SealingKeyLength};
pub use secret::Secret;
pub use signature::{BareHash, SigningKey, SigningKeyKind, VerifyingKey};
