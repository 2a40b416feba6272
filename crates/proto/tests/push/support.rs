//! A KEK, a signing key and contents for pushes, all from fixed seeds.

use std::sync::LazyLock;

use crypto::{CbcCipher, Hash, Random, Secret, SeededRandom, SigningKey};
use proto::push::{AcknowledgementPrf, Body, Kek, KekSpi, seal};
use wire::attribute::{Attribute, Attributes};
use wire::gdoi::{
    Endpoint, GroupAssociatedPolicy, GroupSecurityAssociation, IpsecTek, KeyDownload, KeyPacket, SaTek,
};
use wire::isakmp::{Identity, PayloadBody};
use wire::registry::{
    AuthenticationAlgorithm, EncapsulationMode, EspTransform, GapAttribute, IpsecAttribute, KeyDownloadType,
    TekKeyAttribute,
};

/// The RSA key of all tests here; its signatures depend on nothing but the message.
pub static RSA: LazyLock<SigningKey> = LazyLock::new(|| {
    SigningKey::from_pkcs8_der(include_bytes!("../../testdata/push/signing-key.pkcs8"))
        .expect("a key of ours")
});

/// SPI of the TEK in [`sa_and_keys`].
pub const TEK_SPI: u32 = 0x6407_0001;

/// A KEK whose every octet comes from `seed`.
pub fn kek(seed: u64, cipher: CbcCipher) -> Kek {
    let mut random = SeededRandom::new(seed);
    let mut draw = |length: usize| {
        let mut octets = vec![0; length];
        random.fill(&mut octets);
        octets
    };
    Kek {
        spi: KekSpi(draw(16).try_into().expect("16 octets were drawn")),
        cipher,
        iv: Secret::new(draw(cipher.block_len())),
        key: Secret::new(draw(cipher.key_len())),
        hash: Hash::Sha256,
        acknowledgement: Some(AcknowledgementPrf::Sha256),
    }
}

/// Bodies of SA and KD: one AES-128 and SHA-256 TEK for everything between 10.0.0.0/8 and itself.
pub fn sa_and_keys() -> (Vec<u8>, Vec<u8>) {
    let subnet = || Endpoint { identity: Identity::subnet("10.0.0.0/8".parse().expect("a prefix")), port: 0 };
    let tek = IpsecTek {
        protocol: 0,
        source: subnet(),
        destination: subnet(),
        transform: EspTransform::AES_CBC.0,
        spi: TEK_SPI,
        attributes: Attributes::from([
            Attribute::basic(IpsecAttribute::LIFE_TYPE, 1_u16),
            Attribute::variable_u32(IpsecAttribute::LIFE_DURATION, 3600),
            Attribute::basic(IpsecAttribute::ENCAPSULATION_MODE, EncapsulationMode::TUNNEL.0),
            Attribute::basic(
                IpsecAttribute::AUTHENTICATION_ALGORITHM,
                AuthenticationAlgorithm::HMAC_SHA2_256.0,
            ),
            Attribute::basic(IpsecAttribute::KEY_LENGTH, 128_u16),
        ]),
        id_length: wire::codec::LengthWidth::One,
    };
    let policy = GroupAssociatedPolicy {
        attributes: Attributes::from([
            Attribute::basic(GapAttribute::ACTIVATION_TIME_DELAY, 15_u16),
            Attribute::basic(GapAttribute::DEACTIVATION_TIME_DELAY, 45_u16),
        ]),
    };
    let sa = GroupSecurityAssociation { kek: None, policy: Some(policy), teks: vec![SaTek::Esp(tek)] };
    let keys = KeyDownload {
        packets: vec![KeyPacket {
            kind: KeyDownloadType::TEK,
            spi: TEK_SPI.to_be_bytes().to_vec().into(),
            attributes: Attributes::from([
                Attribute::variable(TekKeyAttribute::ALGORITHM_KEY, (0x00..0x10).collect::<Vec<u8>>()),
                Attribute::variable(TekKeyAttribute::INTEGRITY_KEY, (0x20..0x40).collect::<Vec<u8>>()),
            ]),
        }],
    };
    (sa.to_octets().expect("a short SA"), keys.to_octets().expect("a short KD"))
}

/// A push with sequence number `sequence` that brings [`sa_and_keys`].
pub fn push(kek: &Kek, sequence: u32) -> Vec<u8> {
    let (sa, kd) = sa_and_keys();
    seal(kek, &RSA, sequence, &Body { deletions: &[], sa: Some(&sa), kd: Some(&kd) }).expect("a short push")
}
