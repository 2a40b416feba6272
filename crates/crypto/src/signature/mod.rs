//! Signatures of group messages: RSA and ECDSA, one private key at the server and its public half at every member.
//!
//! | kind | signature | hash |
//! |---|---|---|
//! | RSA | EMSA-PKCS1-v1_5 with DigestInfo, as long as the modulus | the group's choice |
//! | ECDSA | r and s, each padded to the curve's octets (RFC 4754 section 7) | the one that belongs to the curve |
//!
//! The bare hash in type 1 padding, without DigestInfo (as IKEv1 signs, and old key servers push), is never made and is
//! accepted only where the caller says so.

mod signing_key;
mod verifying_key;

use openssl::ec::{EcGroup, EcGroupRef};
use openssl::error::ErrorStack;
use openssl::md::{Md, MdRef};
use openssl::nid::Nid;

use crate::Hash;

pub use signing_key::{SigningKey, SigningKeyError, SigningKeyKind};
pub use verifying_key::{BareHash, KeyForm, VerifyingKey, VerifyingKeyError, VerifyingKeyKind};

/// Octets of the longest encoding of a key that is looked at: a certificate of an RSA key of 8192 bits with room.
pub const MAXIMUM_KEY_OCTETS: usize = 16_384;

/// The curves of RFC 4754.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    pub(crate) const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    pub(crate) fn of(group: &EcGroupRef) -> Option<Self> {
        match group.curve_name()? {
            Nid::X9_62_PRIME256V1 => Some(Self::P256),
            Nid::SECP384R1 => Some(Self::P384),
            Nid::SECP521R1 => Some(Self::P521),
            _ => None,
        }
    }

    pub(crate) fn group(self) -> Result<EcGroup, ErrorStack> {
        EcGroup::from_curve_name(match self {
            Self::P256 => Nid::X9_62_PRIME256V1,
            Self::P384 => Nid::SECP384R1,
            Self::P521 => Nid::SECP521R1,
        })
    }

    /// Octets of a coordinate, and of r and s.
    //= https://www.rfc-editor.org/rfc/rfc4754#section-7
    //# The bit lengths of r and s are enforced, if necessary, by pre-pending
    //# the value with zeros.
    pub(crate) const fn coordinate_len(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.3.5
    //# If the SIG_ALGORITHM is SIG_ALG_ECDSA-256, SIG_ALG_ECDSA-384, or
    //# SIG_ALG_ECDSA-521, the hash algorithm is implicit in the definition,
    //# and SIG_HASH_ALGORITHM is OPTIONAL in a SAK payload.
    pub(crate) const fn hash(self) -> Hash {
        match self {
            Self::P256 => Hash::Sha256,
            Self::P384 => Hash::Sha384,
            Self::P521 => Hash::Sha512,
        }
    }
}

/// The identifier that DigestInfo holds.
fn message_digest(hash: Hash) -> &'static MdRef {
    match hash {
        Hash::Md5 => Md::md5(),
        Hash::Sha1 => Md::sha1(),
        Hash::Sha256 => Md::sha256(),
        Hash::Sha384 => Md::sha384(),
        Hash::Sha512 => Md::sha512(),
    }
}

/// Whether `octets` are one DER element and nothing after it. The library stops reading where the element ends and says
/// nothing about the rest.
fn is_one_der_element(octets: &[u8]) -> bool {
    let [_tag, first, rest @ ..] = octets else { return false };
    let (length, content) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x82 => {
            let Some((length, content)) = rest.split_at_checked(usize::from(first & 0x7f)) else {
                return false;
            };
            (length.iter().fold(0, |sum, &octet| sum << 8 | usize::from(octet)), content)
        }
        _ => return false,
    };
    length == content.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_of_der_ends_where_its_octets_end() {
        assert!(is_one_der_element(&[0x30, 0]));
        assert!(is_one_der_element(&[0x30, 2, 5, 0]));
        assert!(!is_one_der_element(&[0x30, 2, 5, 0, 0]));
        assert!(!is_one_der_element(&[0x30, 2, 5]));
        let mut long = vec![0x30, 0x82, 1, 0];
        long.resize(4 + 256, 0);
        assert!(is_one_der_element(&long));
        assert!(!is_one_der_element(&long[..259]));
        assert!(!is_one_der_element(&[0x30, 0x80, 0, 0]));
        assert!(!is_one_der_element(&[0x30, 0x84, 0, 0, 0, 0]));
        assert!(!is_one_der_element(&[0x30, 0x82, 1]));
        assert!(!is_one_der_element(&[]));
    }
}
