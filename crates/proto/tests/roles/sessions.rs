//! Recorded sessions of other implementations, recomputed with our messages.
//!
//! The recordings lie with the tests of `wire`, whose README names their sources.

use crypto::{CbcCipher, Hash, PrfKey};
use proto::policy::Offer;
use proto::pull::{self, Encoded, Received};
use serde_json::Value;
use wire::isakmp::{Flags, Header, Message, MessageId, PayloadBody, Payloads};
use wire::registry::PayloadType;

const REFERENCE: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/vectors/gdoi-pull.json"));
const TRUSTCORE: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../wire/tests/vectors/trustcore-gdoi-pull.plaintexts.json"
));

/// SKEYID_a of the TrustCore run, from the keys it logged.
const TRUSTCORE_SKEYID_A: &str = "c1b9e46cbcd087417b66fdce75cf6db4e79c2300574c0e249f31bdaf84da9c885aae147b2c01bdf16c540ca415b222f46792ea47209eb9978020817876fceacf";

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2));
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn octets(value: &Value) -> Vec<u8> {
    unhex(value.as_str().unwrap())
}

/// Body of the first payload of a type.
fn body(first: PayloadType, plaintext: &[u8], kind: PayloadType) -> Vec<u8> {
    Payloads::parse_decrypted(first, plaintext).unwrap().find(kind).unwrap().body().to_vec()
}

#[test]
fn the_reference_session_is_recomputed_octet_by_octet() {
    let session: Value = serde_json::from_str(REFERENCE).unwrap();
    let session = &session["loopback"];
    let prf = PrfKey::new(Hash::Sha1, &octets(&session["skeyid_a"]));
    let key = octets(&session["key_3des_no_parity"]);
    let phase1 = octets(session["phase1_messages"].as_array().unwrap().last().unwrap());

    let recorded: Vec<_> = session["pull"].as_array().unwrap().iter().collect();
    let wires: Vec<Vec<u8>> = recorded.iter().map(|message| octets(&message["wire"])).collect();
    let plain: Vec<Vec<u8>> = recorded.iter().map(|message| octets(&message["plaintext"])).collect();
    let id = Message::parse(&wires[0]).unwrap().header.message_id;
    let first = PayloadType::HASH;
    let ni = body(first, &plain[0], PayloadType::NONCE);
    let group = wire::isakmp::Identity::key_id(1234);
    let nr = body(first, &plain[1], PayloadType::NONCE);
    let sa = body(first, &plain[1], PayloadType::SECURITY_ASSOCIATION);
    let kd = body(first, &plain[3], PayloadType::KEY_DOWNLOAD);

    let ours: [Encoded; 4] = [
        pull::message_1(&prf, id, &ni, &group, &[]).unwrap(),
        pull::message_2(&prf, id, &ni, &nr, &sa, &[]).unwrap(),
        pull::message_3(&prf, id, &ni, &nr, None).unwrap(),
        pull::message_4(&prf, id, &ni, &nr, None, &kd).unwrap(),
    ];
    let seed = Hash::Sha1.digest(&[&phase1[phase1.len() - 8..], &id.0.to_be_bytes()]);
    let mut iv = seed[..8].to_vec();
    for ((ours, theirs), plaintext) in ours.iter().zip(&wires).zip(&plain) {
        let header = Message::parse(theirs).unwrap().header;
        assert_eq!(header.flags, Flags::ENCRYPTED);
        assert_eq!(ours.first(), header.next_payload);
        let mut encrypted = ours.octets().to_vec();
        encrypted.resize(encrypted.len().next_multiple_of(8), 0);
        assert_eq!(&encrypted[..ours.octets().len()], &plaintext[..ours.octets().len()]);
        CbcCipher::TripleDes.encrypt_in_place(&key, &iv, &mut encrypted).unwrap();
        assert_eq!(header.message(&encrypted).unwrap(), *theirs);
        iv = encrypted[encrypted.len() - 8..].to_vec();
    }
    assert!(wires.iter().all(|wire| wire.len() > Header::LENGTH));
}

#[test]
fn the_reference_session_is_read_by_both_roles() {
    let session: Value = serde_json::from_str(REFERENCE).unwrap();
    let session = &session["loopback"];
    let prf = PrfKey::new(Hash::Sha1, &octets(&session["skeyid_a"]));
    let id = Message::parse(&octets(&session["pull"][0]["wire"])).unwrap().header.message_id;
    let plain: Vec<Vec<u8>> =
        session["pull"].as_array().unwrap().iter().map(|message| octets(&message["plaintext"])).collect();
    let received = |index: usize| Received { id, first: PayloadType::HASH, octets: &plain[index] };

    let request = pull::read_message_1(&prf, received(0)).unwrap();
    assert_eq!(request.group.as_group_number(), Some(1234));
    let policy = pull::read_message_2(&prf, received(1), &request.nonce).unwrap();
    let offer = Offer::judge(&policy.sa, false).unwrap();
    assert_eq!(offer.teks.iter().map(|tek| tek.spi).collect::<Vec<_>>(), [0x1122_aabb, 0x3344_ccdd]);
    assert_eq!(offer.teks[0].remaining.as_secs(), 3600);
    assert_eq!(offer.teks[0].selectors[0].destination, "239.192.1.1/32".parse().unwrap());
    assert_eq!(pull::read_message_3(&prf, received(2), &request.nonce, &policy.nonce).unwrap(), None);
    let keys = pull::read_message_4(&prf, received(3), &request.nonce, &policy.nonce).unwrap();
    assert_eq!(keys.sequence, None);
    let keys = offer.keys(&keys.keys).unwrap();
    assert_eq!(keys[0].cipher.expose(), b"ABCDEFGHIJKLMNOPQRSTUVWX");
    assert_eq!(keys[0].integrity.expose(), b"12345678901234567890");
}

#[test]
fn the_trustcore_session_is_read_by_both_roles() {
    let session: Value = serde_json::from_str(TRUSTCORE).unwrap();
    let prf = PrfKey::new(Hash::Sha512, &unhex(TRUSTCORE_SKEYID_A));
    let pulls: Vec<(MessageId, PayloadType, Vec<u8>)> = session["plaintexts"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|entry| {
            let header = octets(&entry["header"]);
            let id = u32::from_be_bytes(header[20..24].try_into().unwrap());
            (header[18] == 32).then(|| (MessageId(id), PayloadType(header[16]), octets(&entry["plaintext"])))
        })
        .collect();
    assert_eq!(pulls.len(), 4);
    let received = |index: usize| {
        let (id, first, octets) = &pulls[index];
        Received { id: *id, first: *first, octets }
    };
    let request = pull::read_message_1(&prf, received(0)).unwrap();
    assert_eq!(request.group.as_address(), Some("226.1.1.1".parse().unwrap()));
    let policy = pull::read_message_2(&prf, received(1), &request.nonce).unwrap();
    let offer = Offer::judge(&policy.sa, false).unwrap();
    assert_eq!(offer.teks[0].spi, 0x0992_cb0e);
    assert_eq!(pull::read_message_3(&prf, received(2), &request.nonce, &policy.nonce).unwrap(), None);
    let keys = pull::read_message_4(&prf, received(3), &request.nonce, &policy.nonce).unwrap();
    assert_eq!(keys.sequence, None, "no SEQ");
    assert_eq!(offer.keys(&keys.keys).unwrap()[0].cipher.len(), 16);
    // The policy parses again as we write it.
    let ours = policy.sa.to_octets().unwrap();
    assert_eq!(wire::gdoi::GroupSecurityAssociation::parse(&ours).unwrap(), policy.sa);
}
