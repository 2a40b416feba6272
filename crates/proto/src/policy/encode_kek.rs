//! The KEK of a group on the wire: SA KEK payload and KEK key packet.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use crypto::signature::{VerifyingKey, VerifyingKeyKind};
use crypto::{CbcCipher, Hash};
use wire::attribute::{Attribute, Attributes};
use wire::codec::LengthWidth;
use wire::gdoi::{Endpoint, KeyPacket, SaKek};
use wire::isakmp::Identity;
use wire::registry::{
    KekAlgorithm, KekAttribute, KekKeyAttribute, KeyDownloadType, SignatureAlgorithm, SignatureHashAlgorithm,
};

use super::{KEK_CONFIGURED_LIFETIME, KEK_HEARTBEAT};
use crate::push::Kek;
use crate::time::Instant;
use crate::timeline::{wire_seconds, wire_seconds_short};

/// IP protocol of the messages.
const UDP: u8 = 17;

/// Port of the messages, at either end.
const GDOI_PORT: u16 = 848;

/// What encoding needs to know of a KEK.
#[derive(Debug, Clone, Copy)]
pub struct KekView<'a> {
    /// What both ends share.
    pub kek: &'a Kek,
    /// Verifies the signature.
    pub verifying_key: &'a VerifyingKey,
    /// Where the messages come from; `None` is told as an unspecified address.
    pub source: Option<IpAddr>,
    /// The group that messages are sent to; `None`: each member's own address.
    pub multicast_group: Option<IpAddr>,
    /// Configured lifetime.
    pub lifetime: Duration,
    /// Longest time between two messages, if they come regularly.
    pub heartbeat: Option<Duration>,
    /// When it is gone.
    pub expires: Instant,
}

/// The SA KEK payload, `private` with our private attributes. KEK_KEY_LIFETIME is its last attribute, and zero.
pub(super) fn sa_kek(kek: &KekView<'_>, id_length: LengthWidth, private: bool) -> SaKek<'static> {
    let unspecified = match kek.multicast_group.or(kek.source) {
        Some(IpAddr::V6(_)) => Ipv6Addr::UNSPECIFIED.into(),
        Some(IpAddr::V4(_)) | None => Ipv4Addr::UNSPECIFIED.into(),
    };
    SaKek {
        protocol: UDP,
        source: endpoint(kek.source.unwrap_or(unspecified)),
        destination: endpoint(kek.multicast_group.unwrap_or(unspecified)),
        spi: kek.kek.spi.cookies(),
        attributes: Attributes(attributes(kek, private)),
        id_length,
    }
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.3
//# The KEK_ALGORITHM and SIG_ALGORITHM attributes MUST be included;
//# others are OPTIONAL and are included depending on group policy.
fn attributes(kek: &KekView<'_>, private: bool) -> Vec<Attribute<'static>> {
    let (algorithm, key_bits) = match kek.kek.cipher {
        CbcCipher::Des => (KekAlgorithm::DES, None),
        CbcCipher::TripleDes => (KekAlgorithm::TRIPLE_DES, None),
        CbcCipher::Aes128 => (KekAlgorithm::AES, Some(128_u16)),
        CbcCipher::Aes192 => (KekAlgorithm::AES, Some(192)),
        CbcCipher::Aes256 => (KekAlgorithm::AES, Some(256)),
    };
    let kind = kek.verifying_key.kind();
    let signature = match kind {
        VerifyingKeyKind::Rsa { .. } => SignatureAlgorithm::RSA,
        VerifyingKeyKind::EcdsaP256 => SignatureAlgorithm::ECDSA_256,
        VerifyingKeyKind::EcdsaP384 => SignatureAlgorithm::ECDSA_384,
        VerifyingKeyKind::EcdsaP521 => SignatureAlgorithm::ECDSA_521,
    };
    let signature_bits = u16::try_from(kind.bits()).unwrap_or(u16::MAX);
    let hash = match kind.implied_hash().unwrap_or(kek.kek.hash) {
        Hash::Md5 => SignatureHashAlgorithm::MD5,
        Hash::Sha1 => SignatureHashAlgorithm::SHA1,
        Hash::Sha256 => SignatureHashAlgorithm::SHA256,
        Hash::Sha384 => SignatureHashAlgorithm::SHA384,
        Hash::Sha512 => SignatureHashAlgorithm::SHA512,
    };
    let mut attributes = vec![Attribute::basic(KekAttribute::ALGORITHM, algorithm)];
    attributes.extend(key_bits.map(|bits| Attribute::basic(KekAttribute::KEY_LENGTH, bits)));
    attributes.push(Attribute::basic(KekAttribute::SIGNATURE_HASH_ALGORITHM, hash));
    attributes.push(Attribute::basic(KekAttribute::SIGNATURE_ALGORITHM, signature));
    attributes.push(Attribute::basic(KekAttribute::SIGNATURE_KEY_LENGTH, signature_bits));
    //= https://www.rfc-editor.org/rfc/rfc8263#section-5
    //# When a GCKS policy includes requesting a GROUPKEY-PUSH ACK from GMs,
    //# it includes the KEK_ACK_REQUESTED attribute in the SA KEK payload.
    //# It does this each time the SA KEK is delivered, in both GROUPKEY-PULL
    //# exchanges and GROUPKEY-PUSH messages.
    if let Some(prf) = kek.kek.acknowledgement {
        attributes.push(Attribute::basic(KekAttribute::ACKNOWLEDGEMENT_REQUESTED, prf.value()));
    }
    if private {
        let heartbeat = kek.heartbeat.map(wire_seconds_short);
        attributes.extend(heartbeat.map(|seconds| Attribute::basic(KEK_HEARTBEAT, seconds)));
        let lifetime = wire_seconds(kek.lifetime);
        attributes.push(Attribute::variable_u32(KEK_CONFIGURED_LIFETIME, lifetime));
    }
    attributes.push(Attribute::variable_u32(KekAttribute::KEY_LIFETIME, 0));
    attributes
}

/// The KEK key packet.
pub(super) fn kek_packet<'a>(kek: &KekView<'a>) -> KeyPacket<'a> {
    KeyPacket {
        kind: KeyDownloadType::KEK,
        spi: kek.kek.spi.0.to_vec().into(),
        attributes: Attributes::from([
            Attribute::variable(KekKeyAttribute::ALGORITHM_KEY, kek.kek.algorithm_key().expose().to_vec()),
            Attribute::variable(KekKeyAttribute::SIGNATURE_KEY, kek.verifying_key.to_spki_der()),
        ]),
    }
}

fn endpoint(address: IpAddr) -> Endpoint<'static> {
    Endpoint { identity: Identity::address(address), port: GDOI_PORT }
}
