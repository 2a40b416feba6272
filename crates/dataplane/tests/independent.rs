//! The engine against implementations and examples that are not ours: OpenSSL, and the tunnel-mode examples of RFC 3602.

mod support;

use std::sync::Arc;

use crypto::esp::EspSuite;
use crypto::{CbcCipher, Integrity};
use dataplane::*;
use hex_literal::hex;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::sign::Signer;
use openssl::symm::{Cipher, Crypter, Mode};
use support::*;

fn openssl_cipher(cipher: CbcCipher) -> Cipher {
    match cipher {
        CbcCipher::Des => Cipher::des_cbc(),
        CbcCipher::TripleDes => Cipher::des_ede3_cbc(),
        CbcCipher::Aes128 => Cipher::aes_128_cbc(),
        CbcCipher::Aes192 => Cipher::aes_192_cbc(),
        CbcCipher::Aes256 => Cipher::aes_256_cbc(),
    }
}

/// Digest and octets of the ICV (RFC 2403, 2404, 4868).
fn openssl_digest(integrity: Integrity) -> (MessageDigest, usize) {
    match integrity {
        Integrity::HmacMd5_96 => (MessageDigest::md5(), 12),
        Integrity::HmacSha1_96 => (MessageDigest::sha1(), 12),
        Integrity::HmacSha256_128 => (MessageDigest::sha256(), 16),
        Integrity::HmacSha384_192 => (MessageDigest::sha384(), 24),
        Integrity::HmacSha512_256 => (MessageDigest::sha512(), 32),
    }
}

fn hmac(digest: MessageDigest, key: &[u8], data: &[u8]) -> Vec<u8> {
    let key = PKey::hmac(key).unwrap();
    Signer::new(digest, &key).unwrap().sign_oneshot_to_vec(data).unwrap()
}

#[test]
fn openssl_reads_what_the_engine_encrypts() {
    for suite in cbc_suites() {
        let EspSuite::Cbc { cipher, integrity } = suite else { continue };
        // Debian's OpenSSL keeps single DES in its legacy provider.
        if cipher == CbcCipher::Des {
            continue;
        }
        let cipher_key: Vec<u8> = (1..=suite.cipher_key_len() as u8).collect();
        let integrity_key: Vec<u8> = (101..101 + suite.integrity_key_len() as u8).collect();
        let key = GroupSa::new(&SaSettings {
            direction: SaDirection::Symmetric,
            spi: SPI,
            suite,
            cipher_key: &cipher_key,
            integrity_key: &integrity_key,
            activate_at: Instant::ZERO,
            hard_expiry: Instant::FAR_FUTURE,
            sender_ids: None,
            pseudo_clock: None,
        })
        .unwrap();
        let tables = tables(&seed_vpn(&[key]));
        for size in 0..40 {
            let packet = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &vec![7; size]);
            let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame()));
            let (_, esp) = sent.packet();
            let (digest, icv_length) = openssl_digest(integrity);
            let (authenticated, icv) = esp.split_at(esp.len() - icv_length);
            assert_eq!(hmac(digest, &integrity_key, authenticated)[..icv_length], *icv);

            let openssl = openssl_cipher(cipher);
            let (iv, encrypted) = authenticated[8..].split_at(openssl.block_size());
            let mut crypter = Crypter::new(openssl, Mode::Decrypt, &cipher_key, Some(iv)).unwrap();
            crypter.pad(false);
            let mut plain = vec![0; encrypted.len() + openssl.block_size()];
            let mut length = crypter.update(encrypted, &mut plain).unwrap();
            length += crypter.finalize(&mut plain[length..]).unwrap();
            plain.truncate(length);
            let inner = packet.bytes();
            let padding = length - inner.len() - 2;
            assert!(padding < openssl.block_size());
            let trailer: Vec<u8> = (1..=padding as u8).chain([padding as u8, 4]).collect();
            assert_eq!(plain, [inner, trailer].concat());
        }
    }
}

#[test]
fn openssl_reads_the_gcm_packets_of_the_engine() {
    for (suite, cipher) in
        gcm_suites().zip([Cipher::aes_128_gcm(), Cipher::aes_192_gcm(), Cipher::aes_256_gcm()])
    {
        let tables = tables(&seed_vpn(&[member_sa(suite, SPI, &[0x0102], None)]));
        let mut engine = engine();
        for size in 0..40 {
            let packet = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &vec![7; size]);
            let sent = single(run(&mut engine, &tables, OWN_FORWARDED, &packet.frame()));
            let (_, esp) = sent.packet();
            let sequence = (size as u32 + 1).to_be_bytes();
            assert_eq!(esp[4..16], [&sequence[..], &[1, 2, 0, 0], &sequence[..]].concat());
            // Nonce: salt and IV; authenticated data: SPI and sequence number (RFC 4106 sections 4 and 5).
            let keys = cipher_key(suite);
            let (key, salt) = keys.split_at(keys.len() - 4);
            let (encrypted, icv) = esp[16..].split_at(esp.len() - 32);
            let nonce = [salt, &esp[8..16]].concat();
            let plain =
                openssl::symm::decrypt_aead(cipher, key, Some(&nonce), &esp[..8], encrypted, icv).unwrap();
            let inner = packet.bytes();
            let padding = plain.len() - inner.len() - 2;
            assert!(padding < 4);
            let trailer: Vec<u8> = (1..=padding as u8).chain([padding as u8, 4]).collect();
            assert_eq!(plain, [inner, trailer].concat());
        }
    }
}

/// Cases 7 and 8 of RFC 3602 section 4: tunnel mode between two hosts, so that inner and outer addresses are the same.
/// The examples have no authentication; the ICV is added by OpenSSL.
#[test]
fn the_tunnel_mode_examples_of_rfc_3602_are_decrypted() {
    let cipher_key = hex!("0123456789abcdef0123456789abcdef");
    let integrity_key = [9; 20];
    let key: Arc<GroupSa> = GroupSa::new(&SaSettings {
        direction: SaDirection::Symmetric,
        spi: 0x8765,
        suite: AES128_SHA1,
        cipher_key: &cipher_key,
        integrity_key: &integrity_key,
        activate_at: Instant::ZERO,
        hard_expiry: Instant::FAR_FUTURE,
        sender_ids: None,
        pseudo_clock: None,
    })
    .unwrap();
    let mut vpn = seed_vpn(&[]);
    vpn.policies = vec![policy(selector("192.168.123.0/24", "192.168.123.0/24"), &[key])];
    let tables = tables(&vpn);
    let examples = [
        (
            &hex!(
                "00008765 00000002 f4e765244f6407adf13dc1380f673f37
                 773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8
                 e4ecaec78ac53aad7a0f022b859243c647752e94a859352b8a4d4d2decd136e5
                 c177f132ad3fbfb2201ac9904c74ee0a109e0ca1e4dfe9d5a100b842f1c22f0d"
            )[..],
            &hex!(
                "4500005409040000 4001f988c0a87b03c0a87bc808009f76a90a0100b49c083d
                 02a2040008090a0b0c0d0e0f1011121314151617
                 18191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f3031323334353637"
            )[..],
        ),
        (
            &hex!(
                "00008765 00000005 85d47224b5f3dd5d2101d4ea8dffab22
                 15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb5
                 0f980a08c9843fd3a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3
                 d2726d9b5ef6affc6d17a0decbb13892"
            )[..],
            &hex!(
                "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083d
                 a3de0300ffffffffffffffffffffffffffffffffffffffffffffffffffffffff
                 ffffffff"
            )[..],
        ),
    ];
    for (esp, inner) in examples {
        let icv = &hmac(MessageDigest::sha1(), &integrity_key, esp)[..12];
        let packet = Packet::new("192.168.123.3", "192.168.123.200", 50, [esp, icv].concat());
        let received = single(run(&mut engine(), &tables, Origin::Wire, &packet.frame()));
        assert_eq!(received.bytes, [&ETHERNET[..], inner].concat());
    }
}
