//! What a member makes of a server's Rekey SA: a SAK and its key packet, or the reason why it cannot be used.
//!
//! A KEK that cannot be used makes the whole policy unacceptable: a registration without it would leave the member deaf to
//! rekeys and deletions that the server counts on. Only a kind of acknowledgement that we cannot give is no such reason.

use std::net::IpAddr;
use std::time::Duration;

use crypto::signature::{KeyForm, VerifyingKey, VerifyingKeyKind};
use crypto::{CbcCipher, Hash};
use wire::attribute::Attribute;
use wire::gdoi::{KeyDownload, SaKek};
use wire::registry::{
    KekAcknowledgement, KekAlgorithm, KekAttribute, KekKeyAttribute, KeyDownloadType, SignatureAlgorithm,
    SignatureHashAlgorithm,
};

use super::decode::{LONGEST_LIFE, exactly_one};
use super::{KEK_CONFIGURED_LIFETIME, KEK_HEARTBEAT};
use crate::push::{AcknowledgementPrf, Kek, KekSpi};

/// Why a Rekey SA cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KekRefusal {
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.3.2
    //# A
    //# GDOI implementation MUST abort if it encounters an attribute or
    //# capability that it does not understand.
    /// An attribute that we do not know, or do not know with this value.
    #[error("attribute {0} is not supported")]
    Attribute(KekAttribute),
    /// An attribute is there twice.
    #[error("attribute {0} is there twice")]
    Repeated(KekAttribute),
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.3
    //# The KEK_ALGORITHM and SIG_ALGORITHM attributes MUST be included;
    //# others are OPTIONAL and are included depending on group policy.
    /// An attribute is missing.
    #[error("attribute {0} is missing")]
    Missing(KekAttribute),
    /// The cipher is unknown or has no key of this length.
    #[error("{algorithm} with key length {key_length:?} is not supported")]
    Cipher {
        /// Algorithm.
        algorithm: KekAlgorithm,
        /// Bits of the key, if told.
        key_length: Option<u16>,
    },
    /// The signature algorithm is unknown or not used any more.
    #[error("{0} is not supported")]
    Signature(SignatureAlgorithm),
    /// There is not exactly one key packet with exactly one key of each kind.
    #[error("no proper key packet")]
    KeyPacket,
    /// IV and key are not as long as the cipher needs them.
    #[error("IV and key have the wrong length")]
    KeyLength,
    /// A key that must not be used.
    #[error("weak key")]
    WeakKey,
    /// The public key cannot be used.
    #[error("{0}")]
    PublicKey(crypto::signature::VerifyingKeyError),
    /// The public key is for another algorithm than the policy says.
    #[error("the public key is for {0}, which the policy does not say")]
    OtherPublicKey(VerifyingKeyKind),
}

/// A Rekey SA that we can use, once its keys have come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceivedKek {
    /// SPI.
    pub spi: KekSpi,
    /// Cipher of the pushes.
    pub cipher: CbcCipher,
    /// Algorithm of the signatures.
    pub signature: SignatureAlgorithm,
    /// Hash of the signatures; ECDSA implies its own.
    pub hash: Hash,
    /// Remaining life, ten years where it is not told.
    pub remaining: Duration,
    /// Configured life, if the server told it.
    pub lifetime: Option<Duration>,
    /// How acknowledgements are to be made, if they are and we can.
    pub acknowledgement: Option<AcknowledgementPrf>,
    /// Acknowledgements of a kind that we cannot make are requested.
    pub unknown_acknowledgement: Option<KekAcknowledgement>,
    /// Time between signs of life, if the server told it.
    pub heartbeat: Option<Duration>,
    /// The multicast group that pushes are sent to, if they are.
    pub multicast: Option<IpAddr>,
}

/// The keys of a Rekey SA.
#[derive(Clone, Debug)]
pub struct KekKeys {
    /// What opens pushes.
    pub kek: Kek,
    /// What proves that they come from the server.
    pub verifying: VerifyingKey,
}

impl ReceivedKek {
    /// Judges a SAK. `None` is one whose life is over: it is as if it were not there. `server_is_ours`: it showed our
    /// vendor id, so private attributes are ours.
    pub(super) fn judge(sak: &SaKek<'_>, server_is_ours: bool) -> Result<Option<Self>, KekRefusal> {
        let mut algorithm = None;
        let mut key_length = None;
        let mut remaining = LONGEST_LIFE;
        let mut lifetime = None;
        let mut hash = None;
        let mut signature = None;
        let mut requested = None;
        let mut heartbeat = None;
        let mut seen = Vec::new();
        for attribute in sak.attributes.iter() {
            let class = KekAttribute(attribute.class);
            let number = || attribute.number().ok_or(KekRefusal::Attribute(class));
            let short = || short_number(attribute).ok_or(KekRefusal::Attribute(class));
            if seen.contains(&class) {
                return Err(KekRefusal::Repeated(class));
            }
            seen.push(class);
            match class {
                //= https://www.rfc-editor.org/rfc/rfc6407#section-5.3
                //# The
                //# KEK_MANAGEMENT_ALGORITHM attribute MUST NOT be included in a
                //# GROUPKEY-PULL message, and MUST be ignored if present.
                KekAttribute::MANAGEMENT_ALGORITHM => {}
                KekAttribute::ALGORITHM => algorithm = Some(KekAlgorithm(short()?)),
                KekAttribute::KEY_LENGTH => key_length = Some(short()?),
                KekAttribute::KEY_LIFETIME => {
                    remaining = Duration::from_secs(number()?).min(LONGEST_LIFE);
                }
                KekAttribute::SIGNATURE_HASH_ALGORITHM => {
                    let named = signature_hash(SignatureHashAlgorithm(short()?));
                    hash = Some(named.ok_or(KekRefusal::Attribute(class))?);
                }
                KekAttribute::SIGNATURE_ALGORITHM => signature = Some(SignatureAlgorithm(short()?)),
                // The key itself tells its length.
                KekAttribute::SIGNATURE_KEY_LENGTH => {}
                KekAttribute::ACKNOWLEDGEMENT_REQUESTED => requested = Some(KekAcknowledgement(short()?)),
                _ if server_is_ours && class.0 == KEK_HEARTBEAT => {
                    heartbeat = Some(Duration::from_secs(number()?)).filter(|interval| !interval.is_zero());
                }
                _ if server_is_ours && class.0 == KEK_CONFIGURED_LIFETIME => {
                    lifetime = Some(Duration::from_secs(number()?).min(LONGEST_LIFE));
                }
                _ => return Err(KekRefusal::Attribute(class)),
            }
        }
        let algorithm = algorithm.ok_or(KekRefusal::Missing(KekAttribute::ALGORITHM))?;
        let signature = signature.ok_or(KekRefusal::Missing(KekAttribute::SIGNATURE_ALGORITHM))?;
        let cipher = cipher(algorithm, key_length).ok_or(KekRefusal::Cipher { algorithm, key_length })?;
        let hash = match (signature, hash) {
            (SignatureAlgorithm::RSA, Some(hash)) => hash,
            (SignatureAlgorithm::RSA, None) => {
                return Err(KekRefusal::Missing(KekAttribute::SIGNATURE_HASH_ALGORITHM));
            }
            //= https://www.rfc-editor.org/rfc/rfc6407#section-5.3.5
            //# If the SIG_ALGORITHM is SIG_ALG_ECDSA-256, SIG_ALG_ECDSA-384, or
            //# SIG_ALG_ECDSA-521, the hash algorithm is implicit in the definition,
            //# and SIG_HASH_ALGORITHM is OPTIONAL in a SAK payload.
            (SignatureAlgorithm::ECDSA_256, _) => Hash::Sha256,
            (SignatureAlgorithm::ECDSA_384, _) => Hash::Sha384,
            (SignatureAlgorithm::ECDSA_521, _) => Hash::Sha512,
            _ => return Err(KekRefusal::Signature(signature)),
        };
        if remaining.is_zero() {
            return Ok(None);
        }
        //= https://www.rfc-editor.org/rfc/rfc8263#section-4
        //# If a GM cannot respond with the requested type of Acknowledgement, it
        //# continues with protocol exchange and participates in the group.
        let acknowledgement = requested.and_then(AcknowledgementPrf::requested);
        let address = sak.destination.identity.as_address();
        Ok(Some(Self {
            spi: KekSpi::from_cookies(sak.spi.0, sak.spi.1),
            cipher,
            signature,
            hash,
            remaining,
            lifetime,
            acknowledgement,
            unknown_acknowledgement: requested.filter(|_| acknowledgement.is_none()),
            heartbeat,
            multicast: address.filter(IpAddr::is_multicast),
        }))
    }

    /// The keys of this KEK. `known` is the public key of the KEK before: the same one again is not read anew, which
    /// takes longer than all the rest of a message.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.6.2
    //# If the KEK key packet is included, there MUST be only one present in
    //# the KD payload.
    pub(super) fn keys(
        &self,
        download: &KeyDownload<'_>,
        known: Option<&VerifyingKey>,
    ) -> Result<KekKeys, KekRefusal> {
        let mut packets = download.packets.iter().filter(|packet| packet.kind == KeyDownloadType::KEK);
        let (Some(packet), None) = (packets.next(), packets.next()) else {
            return Err(KekRefusal::KeyPacket);
        };
        if *packet.spi != self.spi.0 {
            return Err(KekRefusal::KeyPacket);
        }
        let only = |class: KekKeyAttribute| {
            exactly_one(&packet.attributes, class.0).ok().flatten().ok_or(KekRefusal::KeyPacket)
        };
        let algorithm_key = only(KekKeyAttribute::ALGORITHM_KEY)?;
        let public = only(KekKeyAttribute::SIGNATURE_KEY)?;
        let (iv, key) =
            Kek::split_algorithm_key(self.cipher, algorithm_key).map_err(|_| KekRefusal::KeyLength)?;
        if self.cipher.is_weak_key(key.expose()) {
            return Err(KekRefusal::WeakKey);
        }
        let the_same = |known: &&VerifyingKey| {
            known.form() == KeyForm::SubjectPublicKeyInfo && known.to_spki_der() == public
        };
        let verifying = match known.filter(the_same) {
            Some(known) => known.clone(),
            None => VerifyingKey::from_wire(public).map_err(KekRefusal::PublicKey)?,
        };
        let named = match verifying.kind() {
            VerifyingKeyKind::Rsa { .. } => SignatureAlgorithm::RSA,
            VerifyingKeyKind::EcdsaP256 => SignatureAlgorithm::ECDSA_256,
            VerifyingKeyKind::EcdsaP384 => SignatureAlgorithm::ECDSA_384,
            VerifyingKeyKind::EcdsaP521 => SignatureAlgorithm::ECDSA_521,
        };
        if named != self.signature {
            return Err(KekRefusal::OtherPublicKey(verifying.kind()));
        }
        let kek = Kek {
            spi: self.spi,
            cipher: self.cipher,
            key,
            iv,
            hash: self.hash,
            acknowledgement: self.acknowledgement,
        };
        Ok(KekKeys { kek, verifying })
    }
}

fn short_number(attribute: &Attribute<'_>) -> Option<u16> {
    attribute.number().and_then(|number| u16::try_from(number).ok())
}

/// The cipher with these numbers. One with a fixed key length may state it, with or without parity bits.
fn cipher(algorithm: KekAlgorithm, key_length: Option<u16>) -> Option<CbcCipher> {
    match (algorithm, key_length) {
        (KekAlgorithm::DES, None | Some(56 | 64)) => Some(CbcCipher::Des),
        (KekAlgorithm::TRIPLE_DES, None | Some(168 | 192)) => Some(CbcCipher::TripleDes),
        (KekAlgorithm::AES, Some(128)) => Some(CbcCipher::Aes128),
        (KekAlgorithm::AES, Some(192)) => Some(CbcCipher::Aes192),
        (KekAlgorithm::AES, Some(256)) => Some(CbcCipher::Aes256),
        _ => None,
    }
}

fn signature_hash(algorithm: SignatureHashAlgorithm) -> Option<Hash> {
    match algorithm {
        SignatureHashAlgorithm::MD5 => Some(Hash::Md5),
        SignatureHashAlgorithm::SHA1 => Some(Hash::Sha1),
        SignatureHashAlgorithm::SHA256 => Some(Hash::Sha256),
        SignatureHashAlgorithm::SHA384 => Some(Hash::Sha384),
        SignatureHashAlgorithm::SHA512 => Some(Hash::Sha512),
        _ => None,
    }
}
