//! What is sealed opens, with every cipher, every kind of key and every kind of contents.

use crypto::{BareHash, CbcCipher, Hash, SigningKey, SigningKeyKind};
use proto::push::{Body, Deletion, HeaderLength, KekSpi, PushError, exchange_of, kek_spi_of, open, seal};
use wire::gdoi::SaTek;
use wire::registry::ExchangeType;

use super::support::{RSA, TEK_SPI, kek, push, sa_and_keys};

#[test]
fn a_push_opens_with_every_cipher() {
    for cipher in CbcCipher::ALL {
        let kek = kek(1, cipher);
        let datagram = push(&kek, 7);
        assert_eq!(kek_spi_of(&datagram), Some(kek.spi));
        assert_eq!(exchange_of(&datagram), Some(ExchangeType::GROUPKEY_PUSH));
        let opened = open(&kek, &datagram).unwrap();
        assert_eq!(opened.sequence(), 7);
        let verified = opened.newer_than(6).unwrap().verify(&RSA.verifying_key(), BareHash::Refused).unwrap();
        assert_eq!(verified.header_length(), HeaderLength::WithoutPadding);
        let contents = verified.contents().unwrap();
        assert_eq!(contents.sequence, 7);
        assert_eq!(contents.deletions, []);
        assert!(matches!(&contents.sa.unwrap().teks[..], [SaTek::Esp(tek)] if tek.spi == TEK_SPI));
        assert_eq!(contents.keys.unwrap().packets.len(), 1);
    }
}

#[test]
fn a_push_verifies_with_every_kind_of_key_and_every_hash_of_rsa() {
    for kind in [SigningKeyKind::EcdsaP256, SigningKeyKind::EcdsaP384, SigningKeyKind::EcdsaP521] {
        let (kek, key) = (kek(2, CbcCipher::Aes128), SigningKey::generate(kind).unwrap());
        let datagram = seal(&kek, &key, 1, &Body::default()).unwrap();
        let verify = |key: &SigningKey| {
            open(&kek, &datagram)
                .unwrap()
                .newer_than(0)
                .unwrap()
                .verify(&key.verifying_key(), BareHash::Refused)
        };
        assert!(verify(&key).is_ok());
        assert_eq!(verify(&SigningKey::generate(kind).unwrap()).unwrap_err(), PushError::Signature);
        assert_eq!(verify(&RSA).unwrap_err(), PushError::Signature);
    }
    for hash in [Hash::Md5, Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        let mut kek = kek(3, CbcCipher::Aes256);
        kek.hash = hash;
        let opened = open(&kek, &push(&kek, 1)).unwrap();
        assert!(opened.newer_than(0).unwrap().verify(&RSA.verifying_key(), BareHash::Refused).is_ok());
    }
}

#[test]
fn deletes_travel_alone_or_before_the_policy() {
    let kek = kek(4, CbcCipher::Aes128);
    let deletions = [Deletion::Tek(0x0100_0000), Deletion::Tek(0x0200_0000), Deletion::Kek(KekSpi([9; 16]))];
    let everything = [Deletion::EveryTek, Deletion::EveryKek];
    let (sa, kd) = sa_and_keys();
    for body in [
        Body { deletions: &deletions, sa: None, kd: None },
        Body { deletions: &everything, sa: None, kd: None },
        Body { deletions: &deletions, sa: Some(&sa), kd: Some(&kd) },
        Body::default(),
    ] {
        let datagram = seal(&kek, &RSA, 1, &body).unwrap();
        let opened = open(&kek, &datagram).unwrap();
        let verified = opened.newer_than(0).unwrap().verify(&RSA.verifying_key(), BareHash::Refused).unwrap();
        let contents = verified.contents().unwrap();
        assert_eq!(contents.deletions, body.deletions);
        assert_eq!(contents.sa.is_some(), body.sa.is_some());
    }
}

#[test]
fn a_non_esp_marker_is_read_over() {
    let kek = kek(5, CbcCipher::Aes128);
    let datagram = wire::non_esp::mirror(true, &push(&kek, 1));
    assert_eq!(kek_spi_of(&datagram), Some(kek.spi));
    assert!(open(&kek, &datagram).is_ok());
}

#[test]
fn only_a_greater_sequence_number_is_newer() {
    let kek = kek(6, CbcCipher::Aes128);
    let datagram = push(&kek, 5);
    let open = || open(&kek, &datagram).unwrap();
    assert!(open().newer_than(0).is_ok());
    assert!(open().newer_than(4).is_ok());
    for last in [5, 6, u32::MAX] {
        assert_eq!(open().newer_than(last).unwrap_err(), PushError::OldSequence { received: 5, last });
    }
}

#[test]
fn a_push_that_fits_no_datagram_is_not_made() {
    let kek = kek(7, CbcCipher::Aes128);
    let (sa, kd) = (vec![0; 40_000], vec![0; 40_000]);
    assert!(seal(&kek, &RSA, 1, &Body { deletions: &[], sa: Some(&sa), kd: Some(&kd) }).is_err());
    let sa = vec![0; 70_000];
    assert!(seal(&kek, &RSA, 1, &Body { deletions: &[], sa: Some(&sa), kd: Some(&kd) }).is_err());
}
