//! The public key of a server, as members get it.

use std::fmt;
use std::sync::Arc;

use openssl::bn::BigNum;
use openssl::ec::{EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Public};
use openssl::pkey_ctx::PkeyCtx;
use openssl::rsa::{Padding, Rsa};
use openssl::x509::X509;

use super::{Curve, MAXIMUM_KEY_OCTETS, is_one_der_element, message_digest};
use crate::Hash;

/// Bits of the shortest RSA key whose signatures are believed: what the oldest key servers use.
const MINIMUM_RSA_BITS: u32 = 1024;

/// Bits of the longest RSA key whose signatures are checked: one check takes less than a millisecond.
const MAXIMUM_RSA_BITS: u32 = 8192;

/// Bits of the longest public exponent: a long one makes every check slow.
const MAXIMUM_RSA_EXPONENT_BITS: i32 = 64;

/// Whether a signature over the bare hash, without DigestInfo, is as good as one with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BareHash {
    /// Only what RFC 6407 says is valid.
    Refused,
    /// RSA signatures of old key servers are valid too.
    Accepted,
}

/// What a public key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VerifyingKeyKind {
    /// RSA with a modulus of so many bits.
    Rsa {
        /// Bits of the modulus.
        bits: u32,
    },
    /// ECDSA on curve P-256 with SHA-256.
    EcdsaP256,
    /// ECDSA on curve P-384 with SHA-384.
    EcdsaP384,
    /// ECDSA on curve P-521 with SHA-512.
    EcdsaP521,
}

impl VerifyingKeyKind {
    /// Bits of the key, as SIG_KEY_LENGTH counts them.
    pub const fn bits(self) -> u32 {
        match self {
            Self::Rsa { bits } => bits,
            Self::EcdsaP256 => 256,
            Self::EcdsaP384 => 384,
            Self::EcdsaP521 => 521,
        }
    }

    /// The hash that the algorithm implies, if it implies one.
    pub const fn implied_hash(self) -> Option<Hash> {
        match self {
            Self::Rsa { .. } => None,
            Self::EcdsaP256 => Some(Curve::P256.hash()),
            Self::EcdsaP384 => Some(Curve::P384.hash()),
            Self::EcdsaP521 => Some(Curve::P521.hash()),
        }
    }
}

impl fmt::Display for VerifyingKeyKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rsa { bits } => write!(formatter, "rsa-{bits}"),
            Self::EcdsaP256 => formatter.write_str("ecdsa-256"),
            Self::EcdsaP384 => formatter.write_str("ecdsa-384"),
            Self::EcdsaP521 => formatter.write_str("ecdsa-521"),
        }
    }
}

/// How a public key was written. RFC 6407 does not say how it is; the first form is the one to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyForm {
    /// SubjectPublicKeyInfo (RFC 5280), in DER.
    SubjectPublicKeyInfo,
    /// RSAPublicKey (RFC 8017 appendix A.1.1), in DER.
    RsaPublicKey,
    /// A certificate (RFC 5280), in DER. Only its key is looked at: who sent it was authenticated otherwise.
    Certificate,
    /// A point of a curve: 04 and both coordinates, 02 or 03 and the first one, or both coordinates alone.
    Point,
}

impl fmt::Display for KeyForm {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::SubjectPublicKeyInfo => "SubjectPublicKeyInfo",
            Self::RsaPublicKey => "RSAPublicKey",
            Self::Certificate => "certificate",
            Self::Point => "point",
        })
    }
}

/// Why octets are not a key that signatures can be checked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyingKeyError {
    /// Longer than [`MAXIMUM_KEY_OCTETS`].
    #[error("a public key of {0} octets is too long")]
    TooLong(usize),
    /// None of the forms, or something follows it.
    #[error("the public key cannot be read")]
    Unreadable,
    /// Neither RSA nor ECDSA on a curve of RFC 4754.
    #[error("the public key is for an algorithm that is not supported")]
    Algorithm,
    /// The modulus is too short or too long.
    #[error("an RSA key of {0} bits, allowed are {MINIMUM_RSA_BITS} to {MAXIMUM_RSA_BITS}")]
    RsaLength(u32),
    /// The modulus is even, or the exponent is even, one, or too long.
    #[error("the numbers of the RSA key are not those of one")]
    RsaNumbers,
    /// The point is not on its curve.
    #[error("the point is not on its curve")]
    NotOnCurve,
}

/// A public key, of which every copy shares the same memory. Two are equal if they are the same key, however written.
#[derive(Clone)]
pub struct VerifyingKey(Arc<Inner>);

struct Inner {
    public: PublicKey,
    kind: VerifyingKeyKind,
    form: KeyForm,
    spki: Vec<u8>,
}

enum PublicKey {
    Rsa(PKey<Public>),
    Ec(EcKey<Public>, Curve),
}

impl VerifyingKey {
    /// Reads a key in whichever form it comes. Nothing may follow it.
    pub fn from_wire(octets: &[u8]) -> Result<Self, VerifyingKeyError> {
        if octets.len() > MAXIMUM_KEY_OCTETS {
            return Err(VerifyingKeyError::TooLong(octets.len()));
        }
        if is_one_der_element(octets) {
            if let Ok(key) = PKey::public_key_from_der(octets) {
                return Self::new(key, KeyForm::SubjectPublicKeyInfo);
            }
            if let Ok(rsa) = Rsa::public_key_from_der_pkcs1(octets) {
                let key = PKey::from_rsa(rsa).map_err(|_| VerifyingKeyError::Unreadable)?;
                return Self::new(key, KeyForm::RsaPublicKey);
            }
            if let Ok(key) = X509::from_der(octets).and_then(|certificate| certificate.public_key()) {
                return Self::new(key, KeyForm::Certificate);
            }
        }
        Self::from_point(octets)
    }

    /// The key as SubjectPublicKeyInfo in DER.
    pub fn to_spki_der(&self) -> &[u8] {
        &self.0.spki
    }

    /// Algorithm and length.
    pub fn kind(&self) -> VerifyingKeyKind {
        self.0.kind
    }

    /// How the key was written where it was read.
    pub fn form(&self) -> KeyForm {
        self.0.form
    }

    /// Octets of a signature.
    pub fn signature_len(&self) -> usize {
        match &self.0.public {
            PublicKey::Rsa(key) => key.size(),
            PublicKey::Ec(_, curve) => 2 * curve.coordinate_len(),
        }
    }

    /// Whether `signature` is one of the concatenation of `parts`.
    ///
    /// Only a signature of exactly [`Self::signature_len`] octets is; with ECDSA, only if `hash` is that of the curve.
    #[must_use]
    pub fn verify(&self, hash: Hash, parts: &[&[u8]], signature: &[u8], bare_hash: BareHash) -> bool {
        if signature.len() != self.signature_len() {
            return false;
        }
        let digest = hash.digest(parts);
        match &self.0.public {
            PublicKey::Rsa(key) => {
                verify_rsa(key, Some(hash), &digest, signature)
                    || (bare_hash == BareHash::Accepted && verify_rsa(key, None, &digest, signature))
            }
            PublicKey::Ec(key, curve) => {
                hash == curve.hash() && verify_ecdsa(key, &digest, signature).unwrap_or(false)
            }
        }
    }

    pub(super) fn new(key: PKey<Public>, form: KeyForm) -> Result<Self, VerifyingKeyError> {
        let spki = key.public_key_to_der().map_err(|_| VerifyingKeyError::Unreadable)?;
        match key.id() {
            Id::RSA => {
                let rsa = key.rsa().map_err(|_| VerifyingKeyError::Unreadable)?;
                let bits = rsa.n().num_bits().unsigned_abs();
                if !(MINIMUM_RSA_BITS..=MAXIMUM_RSA_BITS).contains(&bits) {
                    return Err(VerifyingKeyError::RsaLength(bits));
                }
                let exponent_bits = rsa.e().num_bits();
                if !rsa.n().is_bit_set(0)
                    || !rsa.e().is_bit_set(0)
                    || !(2..=MAXIMUM_RSA_EXPONENT_BITS).contains(&exponent_bits)
                    || rsa.n().is_negative()
                    || rsa.e().is_negative()
                {
                    return Err(VerifyingKeyError::RsaNumbers);
                }
                let kind = VerifyingKeyKind::Rsa { bits };
                Ok(Self(Arc::new(Inner { public: PublicKey::Rsa(key), kind, form, spki })))
            }
            Id::EC => {
                let ec = key.ec_key().map_err(|_| VerifyingKeyError::Unreadable)?;
                let curve = Curve::of(ec.group()).ok_or(VerifyingKeyError::Algorithm)?;
                ec.check_key().map_err(|_| VerifyingKeyError::NotOnCurve)?;
                let kind = match curve {
                    Curve::P256 => VerifyingKeyKind::EcdsaP256,
                    Curve::P384 => VerifyingKeyKind::EcdsaP384,
                    Curve::P521 => VerifyingKeyKind::EcdsaP521,
                };
                Ok(Self(Arc::new(Inner { public: PublicKey::Ec(ec, curve), kind, form, spki })))
            }
            _ => Err(VerifyingKeyError::Algorithm),
        }
    }

    fn from_point(octets: &[u8]) -> Result<Self, VerifyingKeyError> {
        for curve in Curve::ALL {
            let coordinate = curve.coordinate_len();
            let point = match octets {
                [4, xy @ ..] if xy.len() == 2 * coordinate => octets.to_vec(),
                [2 | 3, x @ ..] if x.len() == coordinate => octets.to_vec(),
                xy if xy.len() == 2 * coordinate => [&[4], xy].concat(),
                _ => continue,
            };
            let key = key_from_point(curve, &point).map_err(|_| VerifyingKeyError::NotOnCurve)?;
            return Self::new(key, KeyForm::Point);
        }
        Err(VerifyingKeyError::Unreadable)
    }
}

fn key_from_point(curve: Curve, point: &[u8]) -> Result<PKey<Public>, ErrorStack> {
    let group = curve.group()?;
    let mut context = openssl::bn::BigNumContext::new()?;
    let point = EcPoint::from_bytes(&group, point, &mut context)?;
    PKey::from_ec_key(EcKey::from_public_key(&group, &point)?)
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.3.6.1
//# This algorithm specifies the RSA digital signature algorithm using
//# the EMSA-PKCS1-v1_5 encoding method, as described in [RFC3447].
fn verify_rsa(key: &PKey<Public>, digest_info: Option<Hash>, digest: &[u8], signature: &[u8]) -> bool {
    let verify = || -> Result<bool, ErrorStack> {
        let mut context = PkeyCtx::new(key)?;
        context.verify_init()?;
        context.set_rsa_padding(Padding::PKCS1)?;
        if let Some(hash) = digest_info {
            context.set_signature_md(message_digest(hash))?;
        }
        context.verify(digest, signature)
    };
    verify().unwrap_or(false)
}

//= https://www.rfc-editor.org/rfc/rfc4754#section-7
//# When ECDSA-256, ECDSA-384, or ECDSA-521 is used as the digital
//# signature in IKE or IKEv2, the signature payload SHALL contain an
//# encoding of the computed signature consisting of the concatenation of
//# a pair of integers r and s.
fn verify_ecdsa(key: &EcKey<Public>, digest: &[u8], signature: &[u8]) -> Result<bool, ErrorStack> {
    let (r, s) = signature.split_at(signature.len() / 2);
    EcdsaSig::from_private_components(BigNum::from_slice(r)?, BigNum::from_slice(s)?)?.verify(digest, key)
}

impl PartialEq for VerifyingKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.spki == other.0.spki
    }
}

impl Eq for VerifyingKey {}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "VerifyingKey({})", self.0.kind)
    }
}
