//! The private key of a server.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use openssl::ec::EcKey;
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::{Padding, Rsa};

use super::verifying_key::{KeyForm, VerifyingKey, VerifyingKeyError, VerifyingKeyKind};
use super::{Curve, MAXIMUM_KEY_OCTETS, is_one_der_element, message_digest};
use crate::{Hash, Secret};

/// The kinds of keys that groups are signed with. Members verify others too: [`VerifyingKey`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SigningKeyKind {
    /// RSA, modulus of 2048 bits.
    Rsa2048,
    /// RSA, modulus of 3072 bits.
    Rsa3072,
    /// RSA, modulus of 4096 bits: nobody needs to make one, certificates have them.
    Rsa4096,
    /// ECDSA on curve P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA on curve P-384 with SHA-384.
    EcdsaP384,
    /// ECDSA on curve P-521 with SHA-512.
    EcdsaP521,
}

impl SigningKeyKind {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Rsa2048, Self::Rsa3072, Self::Rsa4096, Self::EcdsaP256, Self::EcdsaP384, Self::EcdsaP521];

    /// The hash that the algorithm implies, if it implies one.
    pub const fn implied_hash(self) -> Option<Hash> {
        match self {
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => None,
            Self::EcdsaP256 => Some(Curve::P256.hash()),
            Self::EcdsaP384 => Some(Curve::P384.hash()),
            Self::EcdsaP521 => Some(Curve::P521.hash()),
        }
    }

    /// Octets of a signature.
    pub const fn signature_len(self) -> usize {
        match self {
            Self::Rsa2048 => 256,
            Self::Rsa3072 => 384,
            Self::Rsa4096 => 512,
            Self::EcdsaP256 => 2 * Curve::P256.coordinate_len(),
            Self::EcdsaP384 => 2 * Curve::P384.coordinate_len(),
            Self::EcdsaP521 => 2 * Curve::P521.coordinate_len(),
        }
    }

    /// The kind as `signature-algorithm` names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa3072 => "rsa-3072",
            Self::Rsa4096 => "rsa-4096",
            Self::EcdsaP256 => "ecdsa-256",
            Self::EcdsaP384 => "ecdsa-384",
            Self::EcdsaP521 => "ecdsa-521",
        }
    }

    fn of(kind: VerifyingKeyKind) -> Option<Self> {
        match kind {
            VerifyingKeyKind::Rsa { bits: 2048 } => Some(Self::Rsa2048),
            VerifyingKeyKind::Rsa { bits: 3072 } => Some(Self::Rsa3072),
            VerifyingKeyKind::Rsa { bits: 4096 } => Some(Self::Rsa4096),
            VerifyingKeyKind::Rsa { .. } => None,
            VerifyingKeyKind::EcdsaP256 => Some(Self::EcdsaP256),
            VerifyingKeyKind::EcdsaP384 => Some(Self::EcdsaP384),
            VerifyingKeyKind::EcdsaP521 => Some(Self::EcdsaP521),
        }
    }
}

impl fmt::Display for SigningKeyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for SigningKeyKind {
    type Err = SigningKeyError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.name() == name).ok_or(SigningKeyError::UnknownKind)
    }
}

/// Why there is no key or no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SigningKeyError {
    /// No kind has that name.
    #[error("no kind of signing key has that name")]
    UnknownKind,
    /// Not a PKCS #8 PrivateKeyInfo in DER, or its numbers do not belong together.
    #[error("the private key cannot be read")]
    Unreadable,
    /// A key that cannot be verified with.
    #[error(transparent)]
    Public(#[from] VerifyingKeyError),
    /// A key that members could verify with but that we do not sign with.
    #[error("groups are not signed with a key of kind {0}")]
    Kind(VerifyingKeyKind),
    /// ECDSA with a hash that does not belong to its curve.
    #[error("{kind} is not used with {hash:?}")]
    Hash {
        /// Kind of the key.
        kind: SigningKeyKind,
        /// The hash asked for.
        hash: Hash,
    },
    /// The library failed, which it does when it has no memory or no randomness.
    #[error("the cryptographic library failed")]
    Library,
}

impl From<ErrorStack> for SigningKeyError {
    fn from(_: ErrorStack) -> Self {
        Self::Library
    }
}

/// A private key, of which every copy shares the same memory. Two are equal if their public keys are.
#[derive(Clone)]
pub struct SigningKey(Arc<Inner>);

struct Inner {
    private: PrivateKey,
    kind: SigningKeyKind,
    verifying: VerifyingKey,
    pkcs8: Secret,
}

enum PrivateKey {
    Rsa(PKey<Private>),
    Ec(EcKey<Private>, Curve),
}

impl SigningKey {
    /// Makes a new key out of the system's randomness; RSA takes a tenth of a second to several seconds.
    #[expect(
        clippy::disallowed_methods,
        reason = "the library draws primes itself; only the daemon makes keys"
    )]
    pub fn generate(kind: SigningKeyKind) -> Result<Self, SigningKeyError> {
        let rsa = |bits| PKey::from_rsa(Rsa::generate(bits)?);
        let ec = |curve: Curve| PKey::from_ec_key(EcKey::generate(&*curve.group()?)?);
        Self::new(match kind {
            SigningKeyKind::Rsa2048 => rsa(2048),
            SigningKeyKind::Rsa3072 => rsa(3072),
            SigningKeyKind::Rsa4096 => rsa(4096),
            SigningKeyKind::EcdsaP256 => ec(Curve::P256),
            SigningKeyKind::EcdsaP384 => ec(Curve::P384),
            SigningKeyKind::EcdsaP521 => ec(Curve::P521),
        }?)
    }

    /// Reads a PKCS #8 PrivateKeyInfo in DER, not encrypted. Nothing may follow it, and its numbers must belong together,
    /// which takes up to half a second to see.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, SigningKeyError> {
        if der.len() > MAXIMUM_KEY_OCTETS || !is_one_der_element(der) {
            return Err(SigningKeyError::Unreadable);
        }
        let key = PKey::private_key_from_pkcs8(der).map_err(|_| SigningKeyError::Unreadable)?;
        let consistent = match key.id() {
            Id::RSA => key.rsa()?.check_key().unwrap_or(false),
            Id::EC => key.ec_key()?.check_key().is_ok(),
            _ => return Err(VerifyingKeyError::Algorithm.into()),
        };
        if consistent { Self::new(key) } else { Err(SigningKeyError::Unreadable) }
    }

    /// The key as PKCS #8 PrivateKeyInfo in DER, not encrypted.
    pub fn to_pkcs8_der(&self) -> Secret {
        self.0.pkcs8.clone()
    }

    /// The public key.
    pub fn verifying_key(&self) -> VerifyingKey {
        self.0.verifying.clone()
    }

    /// Algorithm and length.
    pub fn kind(&self) -> SigningKeyKind {
        self.0.kind
    }

    /// Octets of a signature.
    pub fn signature_len(&self) -> usize {
        self.0.kind.signature_len()
    }

    /// Signs the concatenation of `parts`. With ECDSA `hash` must be that of the curve.
    ///
    /// RSA signatures depend on nothing but the key and the parts; ECDSA draws on the system's randomness.
    pub fn sign(&self, hash: Hash, parts: &[&[u8]]) -> Result<Vec<u8>, SigningKeyError> {
        let digest = hash.digest(parts);
        match &self.0.private {
            PrivateKey::Rsa(key) => {
                let mut context = PkeyCtx::new(key)?;
                context.sign_init()?;
                context.set_rsa_padding(Padding::PKCS1)?;
                context.set_signature_md(message_digest(hash))?;
                let mut signature = Vec::with_capacity(self.signature_len());
                context.sign_to_vec(&digest, &mut signature)?;
                Ok(signature)
            }
            PrivateKey::Ec(key, curve) => {
                if hash != curve.hash() {
                    return Err(SigningKeyError::Hash { kind: self.0.kind, hash });
                }
                let signature = EcdsaSig::sign(&digest, key)?;
                let octets = curve.coordinate_len() as i32;
                Ok([signature.r().to_vec_padded(octets)?, signature.s().to_vec_padded(octets)?].concat())
            }
        }
    }

    fn new(key: PKey<Private>) -> Result<Self, SigningKeyError> {
        let public = PKey::public_key_from_der(&key.public_key_to_der()?)?;
        let verifying = VerifyingKey::new(public, KeyForm::SubjectPublicKeyInfo)?;
        let kind = SigningKeyKind::of(verifying.kind()).ok_or(SigningKeyError::Kind(verifying.kind()))?;
        let pkcs8 = Secret::new(key.private_key_to_pkcs8()?);
        let private = match key.id() {
            Id::RSA => PrivateKey::Rsa(key),
            _ => {
                let ec = key.ec_key()?;
                let curve = Curve::of(ec.group()).ok_or(VerifyingKeyError::Algorithm)?;
                PrivateKey::Ec(ec, curve)
            }
        };
        Ok(Self(Arc::new(Inner { private, kind, verifying, pkcs8 })))
    }
}

impl PartialEq for SigningKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.verifying == other.0.verifying
    }
}

impl Eq for SigningKey {}

impl fmt::Debug for SigningKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "SigningKey({})", self.0.kind)
    }
}
