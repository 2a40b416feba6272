//! Sessions of other implementations: each payload read and written again, octet by octet.

use crate::fuzz_bodies::{self, rewrite};
use crate::support::{datagrams, hex, json};
use wire::codec::{LengthWidth, Reader};
use wire::gdoi::*;
use wire::isakmp::*;
use wire::registry::*;
use wire::{Violation, non_esp};

/// The decrypted bodies of the two reference sessions, with the headers of their messages.
fn plaintexts() -> Vec<(Header, Vec<u8>)> {
    let header = |octets: &[u8]| Header::read(&mut Reader::new(octets)).unwrap().0;
    let reference = &json("gdoi-pull.json")["loopback"];
    let phase_one = reference["phase1_messages"].as_array().unwrap()[4..].iter();
    let phase_one = phase_one.zip(reference["phase1_plaintexts"].as_array().unwrap());
    let pull = reference["pull"].as_array().unwrap().iter().map(|step| (&step["wire"], &step["plaintext"]));
    let trustcore = json("trustcore-gdoi-pull.plaintexts.json");
    let trustcore = trustcore["plaintexts"].as_array().unwrap().iter();
    let all =
        phase_one.chain(pull).chain(trustcore.map(|message| (&message["header"], &message["plaintext"])));
    all.map(|(message, plaintext)| (header(&hex(message)), hex(plaintext))).collect()
}

/// Whole messages, without non-ESP marker: of the reference session, and of three captures.
fn messages() -> Vec<Vec<u8>> {
    let reference = &json("gdoi-pull.json")["loopback"];
    let phase_one = reference["phase1_messages"].as_array().unwrap().iter().map(hex);
    let pull = reference["pull"].as_array().unwrap().iter().map(|step| hex(&step["wire"]));
    let captured = [datagrams("trustcore-gdoi-pull.pcap"), datagrams("ikev1-certs.pcap")].concat();
    let captured = captured.into_iter().map(|datagram| non_esp::strip(&datagram).1.to_vec());
    phase_one.chain(pull).chain(captured).collect()
}

#[test]
fn messages_are_the_same_when_written_again() {
    let messages = messages();
    assert_eq!(messages.len(), 6 + 4 + 12 + 10);
    for octets in messages {
        let message = Message::parse(&octets).unwrap();
        assert_eq!(message.header.message(message.body()).unwrap(), octets);
        if !message.is_encrypted() {
            let payloads = message.payloads().unwrap();
            for payload in payloads.iter() {
                assert_eq!(rewrite(message.header.exchange, payload).unwrap(), payload.body());
            }
            fuzz_bodies::chain_survives(message.header.exchange, &payloads);
        }
    }
}

#[test]
fn decrypted_bodies_are_the_same_when_written_again() {
    for (header, octets) in plaintexts() {
        let payloads = Payloads::parse_decrypted(header.next_payload, &octets).unwrap();
        let mut chain = PayloadChain::new();
        for payload in payloads.iter() {
            let body = rewrite(header.exchange, payload).unwrap();
            assert_eq!(body, payload.body());
            chain.push_raw(payload.kind, &body).unwrap();
        }
        assert_eq!(chain.padded(8), octets);
        assert_eq!(chain.first(), header.next_payload);
    }
}

#[test]
fn a_message_is_refused_when_cut_at_any_length() {
    for octets in messages() {
        for length in 0..octets.len() {
            assert!(Message::parse(&octets[..length]).is_err(), "{length}");
        }
        let longer = [&octets[..], &[0]].concat();
        assert_eq!(Message::parse(&longer).unwrap_err().violation, Violation::BadLength);
    }
}

#[test]
fn a_body_is_refused_when_cut_at_any_length_even_if_the_header_agrees() {
    for octets in messages() {
        let message = Message::parse(&octets).unwrap();
        if message.is_encrypted() {
            continue;
        }
        for length in 0..message.body().len() {
            let cut = message.header.message(&message.body()[..length]).unwrap();
            assert!(Message::parse(&cut).unwrap().payloads().is_err(), "{length}");
        }
    }
    for (header, octets) in plaintexts() {
        let chain = Payloads::parse_decrypted(header.next_payload, &octets).unwrap().chain().len();
        for length in 0..chain {
            assert!(Payloads::parse_decrypted(header.next_payload, &octets[..length]).is_err(), "{length}");
        }
        for length in chain..octets.len() {
            let payloads = Payloads::parse_decrypted(header.next_payload, &octets[..length]).unwrap();
            assert_eq!(payloads.padding().len(), length - chain);
        }
    }
}

/// A payload whose body is cut must be refused, unless it ends in octets of any length. What is accepted is the same
/// when written again, so a cut never goes unnoticed.
#[test]
fn a_payload_body_is_refused_or_kept_when_cut_at_any_length() {
    let clear = messages().into_iter().filter_map(|octets| {
        let message = Message::parse(&octets).ok()?;
        (!message.is_encrypted()).then(|| (message.header, message.body().to_vec()))
    });
    for (header, octets) in clear.chain(plaintexts()) {
        let payloads = Payloads::parse_decrypted(header.next_payload, &octets).unwrap();
        for payload in payloads.iter() {
            for length in 0..payload.body().len() {
                let mut chain = PayloadChain::new();
                chain.push_raw(payload.kind, &payload.body()[..length]).unwrap();
                let cut = Payloads::parse(chain.first(), chain.bytes()).unwrap();
                match rewrite(header.exchange, &cut.as_slice()[0]) {
                    Ok(written) => {
                        assert_eq!(written, payload.body()[..length]);
                        let open_ended = [
                            PayloadType::KEY_EXCHANGE,
                            PayloadType::IDENTIFICATION,
                            PayloadType::CERTIFICATE,
                            PayloadType::CERTIFICATE_REQUEST,
                            PayloadType::HASH,
                            PayloadType::SIGNATURE,
                            PayloadType::NONCE,
                            PayloadType::NOTIFICATION,
                            PayloadType::VENDOR_ID,
                            PayloadType::NAT_DISCOVERY,
                        ];
                        // Private and NAT traversal payload types are not read at all.
                        assert!(
                            open_ended.contains(&payload.kind) || payload.kind.0 > 19,
                            "{:?}",
                            payload.kind
                        );
                    }
                    Err(error) => assert!(error.offset <= 4 + length),
                }
            }
        }
    }
}

#[test]
fn the_reference_server_sends_two_teks_and_their_keys() {
    let pull = json("gdoi-pull.json")["loopback"]["pull"].clone();
    let message = hex(&pull[1]["plaintext"]);
    let payloads = Payloads::parse_decrypted(PayloadType::HASH, &message).unwrap();
    assert_eq!(
        payloads.kinds().collect::<Vec<_>>(),
        [PayloadType::HASH, PayloadType::NONCE, PayloadType::SECURITY_ASSOCIATION]
    );
    assert_eq!(payloads.only::<Hash<'_>>().unwrap().unwrap().octets(), hex(&pull[1]["hash"]));
    assert_eq!(payloads.after_first(), &payloads.chain()[24..]);
    let sa: GroupSecurityAssociation<'_> = payloads.only().unwrap().unwrap();
    assert!(sa.kek.is_none() && sa.policy.is_none());
    let spis = sa.teks.iter().map(|tek| match tek {
        SaTek::Esp(tek) => {
            assert_eq!(tek.id_length, LengthWidth::One);
            assert_eq!(EspTransform(tek.transform), EspTransform::TRIPLE_DES);
            assert_eq!(tek.attributes.number(IpsecAttribute::LIFE_DURATION), Some(3600));
            tek.spi
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(spis.collect::<Vec<_>>(), [0x1122_aabb, 0x3344_ccdd]);

    let message = hex(&pull[3]["plaintext"]);
    let payloads = Payloads::parse_decrypted(PayloadType::HASH, &message).unwrap();
    let keys: KeyDownload<'_> = payloads.only().unwrap().unwrap();
    assert_eq!(keys.packets.len(), 2);
    assert_eq!(*keys.packets[0].spi, [0x11, 0x22, 0xaa, 0xbb]);
    assert_eq!(
        keys.packets[0].attributes.bytes(TekKeyAttribute::ALGORITHM_KEY),
        Some(&b"ABCDEFGHIJKLMNOPQRSTUVWX"[..])
    );
    assert_eq!(keys.packets[0].attributes.bytes(TekKeyAttribute::INTEGRITY_KEY).map(<[u8]>::len), Some(20));
    assert!(!format!("{keys:?}").contains("65, 66"), "keys must not show in debug output");
}

#[test]
fn two_octet_identification_lengths_of_trustcore_are_recognized() {
    let (header, octets) = &plaintexts()[6 + 3];
    let payloads = Payloads::parse_decrypted(header.next_payload, octets).unwrap();
    let sa: GroupSecurityAssociation<'_> = payloads.only().unwrap().unwrap();
    let [SaTek::Esp(tek)] = &sa.teks[..] else { panic!("{sa:?}") };
    assert_eq!(tek.id_length, LengthWidth::Two);
    assert_eq!(tek.selector().unwrap().to_string(), "0.0.0.0/32 -> 226.1.1.1/32");
    assert_eq!((EspTransform(tek.transform), tek.spi), (EspTransform::AES_CBC, 0x0992_cb0e));
    assert_eq!(tek.attributes.number(IpsecAttribute::KEY_LENGTH), Some(128));
}
