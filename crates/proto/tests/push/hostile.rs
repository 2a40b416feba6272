//! Pushes that are cut, changed, badly made or not the server's: refused by the cheapest check that can tell.

use std::sync::LazyLock;

use crypto::{BareHash, CbcCipher, Hash, SigningKey};
use proptest::prelude::*;
use proto::push::{Body, Kek, PushError, Verified, open, seal};
use wire::Violation;
use wire::gdoi::SequenceNumber;
use wire::isakmp::{
    Cookie, Delete, Flags, Header, MessageId, Nonce, PayloadChain, Signature, VendorId, Version,
};
use wire::registry::{Doi, ExchangeType, PayloadType, TekProtocol};

use super::support::{RSA, kek, push, sa_and_keys};

static KEK: LazyLock<Kek> = LazyLock::new(|| kek(20, CbcCipher::Aes128));
static PUSH: LazyLock<Vec<u8>> = LazyLock::new(|| push(&KEK, 9));

fn receive(datagram: &[u8], last: u32) -> Result<Verified, PushError> {
    open(&KEK, datagram)?.newer_than(last)?.verify(&RSA.verifying_key(), BareHash::Accepted)
}

/// A message of these payloads under [`struct@KEK`], signed as it should be if `signed`.
fn made(chain: &PayloadChain, signed: bool) -> Vec<u8> {
    let (initiator_cookie, responder_cookie) = KEK.spi.cookies();
    let header = Header {
        initiator_cookie,
        responder_cookie,
        next_payload: chain.first(),
        version: Version::V1_0,
        exchange: ExchangeType::GROUPKEY_PUSH,
        flags: Flags::ENCRYPTED,
        message_id: MessageId(0),
    };
    let mut whole = chain.clone();
    if signed {
        // The last payload announces SIG, so its octets are taken after SIG has been added.
        let before = chain.bytes().len();
        whole.push(&Signature::from(vec![0; RSA.signature_len()])).unwrap();
        let covered = header.octets(whole.bytes().len()).unwrap();
        let signature = RSA.sign(Hash::Sha256, &[b"rekey", &covered, &whole.bytes()[..before]]).unwrap();
        whole = chain.clone();
        whole.push(&Signature::from(signature)).unwrap();
    }
    let mut body = whole.padded(16);
    KEK.cipher.encrypt_in_place(KEK.key.expose(), KEK.iv.expose(), &mut body).unwrap();
    header.message(&body).unwrap()
}

fn chain(build: impl FnOnce(&mut PayloadChain)) -> PayloadChain {
    let mut chain = PayloadChain::new();
    chain.push(&SequenceNumber(9)).unwrap();
    build(&mut chain);
    chain
}

fn malformed(datagram: &[u8]) -> Violation {
    match open(&KEK, datagram) {
        Err(PushError::Malformed(error)) => error.violation,
        other => panic!("{other:?} instead of a malformed message"),
    }
}

#[test]
fn a_push_cut_anywhere_is_truncated() {
    for length in 0..PUSH.len() {
        assert_eq!(open(&KEK, &PUSH[..length]).unwrap_err(), PushError::Truncated);
    }
    assert_eq!(open(&KEK, &[&PUSH[..], &[0]].concat()).unwrap_err(), PushError::Truncated);
}

#[test]
fn a_push_cut_anywhere_with_the_length_put_right_is_refused() {
    for length in Header::LENGTH..PUSH.len() {
        let mut cut = PUSH[..length].to_vec();
        cut[24..28].copy_from_slice(&(length as u32).to_be_bytes());
        assert!(receive(&cut, 0).is_err());
        // Not before it was decrypted and read: no signature is checked of a message that is not whole.
        assert!(matches!(open(&KEK, &cut), Err(PushError::NotDecryptable(_) | PushError::Malformed(_))));
    }
}

#[test]
fn a_push_with_any_bit_changed_is_refused() {
    for bit in 0..PUSH.len() * 8 {
        let mut changed = PUSH.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let error = receive(&changed, 0).unwrap_err();
        match bit / 8 {
            0..16 => assert_eq!(error, PushError::UnknownKek),
            16 | 18..24 => assert!(matches!(error, PushError::Header(_)), "{error}"),
            17 => assert_eq!(error, PushError::Header("version")),
            24..28 => assert_eq!(error, PushError::Truncated),
            _ => assert!(
                matches!(
                    error,
                    PushError::Malformed(_) | PushError::Signature | PushError::OldSequence { .. }
                ),
                "{error}"
            ),
        }
    }
}

#[test]
fn a_signature_is_of_this_message_under_this_kek_only() {
    // The same payloads and the same signature under another KEK: what a member of two groups could try.
    let other = kek(21, CbcCipher::Aes128);
    let mut body = PUSH[Header::LENGTH..].to_vec();
    KEK.cipher.decrypt_in_place(KEK.key.expose(), KEK.iv.expose(), &mut body).unwrap();
    other.cipher.encrypt_in_place(other.key.expose(), other.iv.expose(), &mut body).unwrap();
    let moved = [&other.spi.0, &PUSH[16..Header::LENGTH], &body].concat();
    let opened = open(&other, &moved).unwrap().newer_than(0).unwrap();
    assert_eq!(opened.verify(&RSA.verifying_key(), BareHash::Accepted).unwrap_err(), PushError::Signature);
}

#[test]
fn the_length_of_the_signed_header_may_count_the_padding() {
    let chain = chain(|chain| {
        chain.push(&Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, 4)).unwrap();
    });
    let (initiator_cookie, responder_cookie) = KEK.spi.cookies();
    let header = Header {
        initiator_cookie,
        responder_cookie,
        next_payload: chain.first(),
        version: Version::V1_0,
        exchange: ExchangeType::GROUPKEY_PUSH,
        flags: Flags::ENCRYPTED,
        message_id: MessageId(0),
    };
    let mut announced = chain.clone();
    announced.push(&Signature::from(vec![0; 256])).unwrap();
    let padded = announced.padded(16).len();
    assert_ne!(padded, announced.bytes().len());
    let covered = header.octets(padded).unwrap();
    let before = &announced.bytes()[..chain.bytes().len()];
    let mut whole = chain.clone();
    whole.push(&Signature::from(RSA.sign(Hash::Sha256, &[b"rekey", &covered, before]).unwrap())).unwrap();
    let mut body = whole.padded(16);
    KEK.cipher.encrypt_in_place(KEK.key.expose(), KEK.iv.expose(), &mut body).unwrap();
    let datagram = header.message(&body).unwrap();
    assert_eq!(receive(&datagram, 0).unwrap().header_length(), proto::push::HeaderLength::OnTheWire);
}

#[test]
fn payloads_out_of_place_are_refused_before_the_signature_is_checked() {
    let (sa, kd) = sa_and_keys();
    let refused = [
        chain(|chain| {
            chain.push_raw(PayloadType::SECURITY_ASSOCIATION, &sa).unwrap();
        }),
        chain(|chain| {
            chain.push_raw(PayloadType::KEY_DOWNLOAD, &kd).unwrap();
        }),
        chain(|chain| {
            chain.push(&SequenceNumber(10)).unwrap();
        }),
        chain(|chain| {
            chain.push(&Nonce::from(&[1; 16])).unwrap();
        }),
        chain(|chain| {
            for _ in 0..2 {
                chain.push_raw(PayloadType::SECURITY_ASSOCIATION, &sa).unwrap();
                chain.push_raw(PayloadType::KEY_DOWNLOAD, &kd).unwrap();
            }
        }),
        chain(|chain| {
            chain.push(&Signature::from(&[1; 256])).unwrap();
        }),
    ];
    for chain in refused {
        assert_eq!(malformed(&made(&chain, true)), Violation::BadOrder);
    }
    let unsigned = chain(|chain| {
        chain.push(&Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, 4)).unwrap();
    });
    assert_eq!(malformed(&made(&unsigned, false)), Violation::BadOrder);
    let mut after_sig = chain(|_| {});
    after_sig.push(&Signature::from(&[1; 256])).unwrap();
    after_sig.push(&Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, 4)).unwrap();
    assert_eq!(malformed(&made(&after_sig, false)), Violation::BadOrder);
    let mut without_seq = PayloadChain::new();
    without_seq.push(&Delete::new(Doi::GDOI, TekProtocol::IPSEC_ESP, 4)).unwrap();
    assert_eq!(open(&KEK, &made(&without_seq, true)).unwrap_err(), PushError::Header("next payload"));
}

#[test]
fn a_vendor_id_may_come_along() {
    let (sa, kd) = sa_and_keys();
    let chain = chain(|chain| {
        chain.push(&VendorId::from(&[1; 16])).unwrap();
        chain.push_raw(PayloadType::KEY_DOWNLOAD, &kd).unwrap();
        chain.push_raw(PayloadType::SECURITY_ASSOCIATION, &sa).unwrap();
    });
    assert!(receive(&made(&chain, true), 8).is_ok());
}

#[test]
fn a_key_of_another_server_is_not_the_server_s() {
    let key = SigningKey::generate(crypto::SigningKeyKind::EcdsaP256).unwrap();
    let datagram = seal(&KEK, &key, 9, &Body::default()).unwrap();
    assert_eq!(receive(&datagram, 0).unwrap_err(), PushError::Signature);
    // An old one is not even looked at.
    assert_eq!(receive(&datagram, 9).unwrap_err(), PushError::OldSequence { received: 9, last: 9 });
}

#[test]
fn a_header_without_body_is_not_decryptable() {
    let header = Header {
        initiator_cookie: Cookie(KEK.spi.0[..8].try_into().unwrap()),
        responder_cookie: Cookie(KEK.spi.0[8..].try_into().unwrap()),
        next_payload: PayloadType::SEQUENCE_NUMBER,
        version: Version::V1_0,
        exchange: ExchangeType::GROUPKEY_PUSH,
        flags: Flags::ENCRYPTED,
        message_id: MessageId(0),
    };
    assert_eq!(open(&KEK, &header.message(&[]).unwrap()).unwrap_err(), PushError::NotDecryptable(0));
    assert_eq!(open(&KEK, &header.message(&[0; 15]).unwrap()).unwrap_err(), PushError::NotDecryptable(15));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_an_insider_encrypts_never_panics_and_never_verifies(
        body in prop::collection::vec(any::<u8>(), 0..400),
        blocks in any::<bool>(),
    ) {
        let mut body = body;
        if blocks {
            body.resize(body.len().next_multiple_of(16), 0);
        }
        KEK.cipher.encrypt_in_place(KEK.key.expose(), KEK.iv.expose(), &mut body).ok();
        let length = (Header::LENGTH + body.len()) as u32;
        let datagram =
            [&KEK.spi.0[..], &[18, 0x10, 33, 1, 0, 0, 0, 0], &length.to_be_bytes(), &body].concat();
        prop_assert!(receive(&datagram, 0).is_err());
    }
}
