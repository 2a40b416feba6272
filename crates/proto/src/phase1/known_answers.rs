//! Key derivation, hashes and messages against vectors and recorded sessions of others.

use std::collections::BTreeMap;

use crypto::{CbcCipher, DhGroup, Hash, PrfKey, Secret};
use serde_json::Value;
use wire::isakmp::{Cookie, Identification, Identity, Message, MessageId, Payloads};
use wire::registry::{Doi, ExchangeType, PayloadType};

use super::association::Suite;
use super::authentication::verify_hash;
use super::frame::Cookies;
use super::keys::{Keys, Protection, encryption_key, skeyid_of_pre_shared_key, skeyids};
use super::negotiation::{self, Agreed};
use super::proof::{Nonces, Proof, decrypted};
use super::settings::{DoiChoice, Gateway, Mode, Peer, Proposal};

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "odd number of digits");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn cookie(octets: &[u8]) -> Cookie {
    Cookie(octets.try_into().unwrap())
}

/// One case of a CAVP response file: its values by name.
type Case<'a> = BTreeMap<&'a str, Vec<u8>>;

/// The cases of a CAVP response file, and the hash of each.
fn cases(file: &str) -> Vec<(Option<Hash>, Case<'_>)> {
    let mut hash = None;
    let mut cases = Vec::new();
    for line in file.lines().map(str::trim) {
        match line {
            "[SHA-1]" => hash = Some(Hash::Sha1),
            "[SHA-224]" => hash = None,
            "[SHA-256]" => hash = Some(Hash::Sha256),
            "[SHA-384]" => hash = Some(Hash::Sha384),
            "[SHA-512]" => hash = Some(Hash::Sha512),
            _ => {}
        }
        match line.split_once(" = ") {
            Some(("COUNT", _)) => cases.push((hash, Case::new())),
            Some((name, value)) if !line.starts_with('[') => {
                cases.last_mut().expect("COUNT comes first").1.insert(name, unhex(value));
            }
            _ => {}
        }
    }
    cases
}

fn check(file: &str, skeyid_of: impl Fn(Hash, &Case<'_>) -> Secret) {
    let mut checked = 0;
    for (hash, case) in cases(file) {
        // SHA-224 has no number in IKE.
        let Some(hash) = hash else {
            continue;
        };
        let skeyid = skeyid_of(hash, &case);
        assert_eq!(skeyid.expose(), case["SKEYID"]);
        let prf = PrfKey::new(hash, skeyid.expose());
        let shared = Secret::from_slice(&case["g^xy"]);
        let derived = skeyids(&prf, &shared, cookie(&case["CKY_I"]), cookie(&case["CKY_R"]));
        let expected = ["SKEYID_d", "SKEYID_a", "SKEYID_e"].map(|name| Secret::from_slice(&case[name]));
        assert!(derived == expected, "{case:02x?}");
        checked += 1;
    }
    assert_eq!(checked, 220, "all cases but those of SHA-224");
}

#[test]
fn cavp_vectors_of_pre_shared_keys_are_derived() {
    check(include_str!("../../tests/vectors/ikev1_psk.rsp"), |hash, case| {
        let key = Secret::from_slice(&case["pre-shared-key"]);
        skeyid_of_pre_shared_key(hash, &key, &case["Ni"], &case["Nr"])
    });
}

#[test]
fn cavp_vectors_of_signatures_are_derived() {
    check(include_str!("../../tests/vectors/ikev1_dsa.rsp"), |hash, case| {
        //= https://www.rfc-editor.org/rfc/rfc2409#section-5
        //= type=test
        //# For signatures:            SKEYID = prf(Ni_b | Nr_b, g^xy)
        hash.prf(&[&case["Ni"][..], &case["Nr"]].concat(), &[&case["g^xy"]])
    });
}

fn gateway(key: &[u8], proposal: Proposal) -> Gateway {
    Gateway {
        name: "peer".to_owned(),
        peer: Peer::Addresses(vec!["127.0.0.2".parse().unwrap()]),
        local_address: None,
        mode: Mode::Main,
        proposals: vec![proposal],
        pre_shared_key: Secret::from_slice(key),
        local_identity: None,
        remote_identity: None,
        doi: DoiChoice::GdoiThenIpsec,
        non_esp_marker: false,
        dead_peer_detection: None,
    }
}

/// The session that the GDOI reference implementation logged.
struct ReferenceSession {
    session: Value,
    gateway: Gateway,
    agreed: Agreed,
    proof: Proof,
}

impl ReferenceSession {
    fn text(&self, name: &str) -> Vec<u8> {
        unhex(self.session[name].as_str().unwrap())
    }

    fn message(&self, number: usize) -> Vec<u8> {
        unhex(self.session["phase1_messages"][number - 1].as_str().unwrap())
    }

    fn load() -> Self {
        let file = include_str!("../../../wire/tests/vectors/gdoi-pull.json");
        let session: Value = serde_json::from_str::<Value>(file).unwrap()["loopback"].clone();
        let text = |name: &str| unhex(session[name].as_str().unwrap());
        let lifetime = std::time::Duration::from_secs(3600);
        let proposal =
            Proposal { hash: Hash::Sha1, cipher: CbcCipher::TripleDes, group: DhGroup::Modp1024, lifetime };
        let gateway = gateway(session["psk"].as_str().unwrap().as_bytes(), proposal);
        let suite = Suite { hash: proposal.hash, cipher: proposal.cipher, group: proposal.group };
        let agreed = Agreed { suite, lifetime, kilobytes: None };
        let cookies = Cookies { initiator: cookie(&text("cookie_i")), responder: cookie(&text("cookie_r")) };
        let (ni, nr) = (text("ni"), text("nr"));
        let nonces = Nonces { initiator: &ni, responder: &nr };
        let first = unhex(session["phase1_messages"][0].as_str().unwrap());
        let payloads = Message::parse(&first).unwrap().payloads().unwrap();
        let sa_i_b = payloads.find(PayloadType::SECURITY_ASSOCIATION).unwrap().body();
        let (g_xi, g_xr) = (text("g_xi"), text("g_xr"));
        let shared = Secret::new(text("g_xy"));
        let proof = Proof::new(&gateway, &agreed, cookies, nonces, &shared, [&g_xi, &g_xr], sa_i_b).unwrap();
        Self { session, gateway, agreed, proof }
    }
}

#[test]
fn the_reference_session_is_negotiated_as_recorded() {
    let session = ReferenceSession::load();
    let mut offer = negotiation::offer(Doi::GDOI, session.gateway.proposals.iter()).unwrap();
    // We number transforms from 1, the reference from 0.
    assert_eq!(std::mem::replace(&mut offer[20], 0), 1);
    assert_eq!(offer, session.proof.sa_i_b, "our offer of the same proposal");

    let offered = negotiation::parse(&session.proof.sa_i_b).unwrap();
    let (agreed, answer) = negotiation::choose(&offered, &session.gateway.proposals).unwrap();
    assert_eq!(agreed, session.agreed);
    let second = session.message(2);
    let second = Message::parse(&second).unwrap();
    let payloads = second.payloads().unwrap();
    let recorded = payloads.find(PayloadType::SECURITY_ASSOCIATION).unwrap();
    assert_eq!(answer, recorded.body(), "our answer to the same offer");

    let answer = negotiation::parse(recorded.body()).unwrap();
    assert_eq!(negotiation::verify_answer(&answer, &session.gateway.proposals).unwrap(), session.agreed);
}

#[test]
fn the_reference_session_is_encrypted_byte_for_byte() {
    let session = ReferenceSession::load();
    let proof = &session.proof;
    assert_eq!(proof.keys.skeyid_d.expose(), session.text("skeyid_d"));
    assert_eq!(proof.keys.skeyid_a.expose(), session.text("skeyid_a"));
    assert_eq!(proof.keys.protection.key.expose(), session.text("key_3des_no_parity"));

    let initiator = Identification::new(Identity::address("127.0.0.1".parse().unwrap()));
    let payloads = proof.identify_initiator(&initiator, true).unwrap();
    let plaintexts = &session.session["phase1_plaintexts"];
    assert_eq!(payloads.bytes(), unhex(plaintexts[0].as_str().unwrap()));
    let exchange = ExchangeType::IDENTITY_PROTECTION;
    let (fifth, iv) = proof.seal(exchange, &proof.first_iv(), &payloads).unwrap();
    assert_eq!(fifth, session.message(5));

    let responder = Identification::new(Identity::address("127.0.0.2".parse().unwrap()));
    let mut payloads = proof.identify_responder(&responder).unwrap();
    proof.push_initial_contact(&mut payloads).unwrap();
    assert_eq!(payloads.bytes(), unhex(plaintexts[1].as_str().unwrap()));
    let (sixth, last_block) = proof.seal(exchange, &iv, &payloads).unwrap();
    assert_eq!(sixth, session.message(6));

    // The whole GROUPKEY-PULL decrypts with the IVs that follow from the last block.
    let protection = &proof.keys.protection;
    let mut iv = None;
    for recorded in session.session["pull"].as_array().unwrap() {
        let octets = unhex(recorded["wire"].as_str().unwrap());
        let message = Message::parse(&octets).unwrap();
        let first = protection.phase2_iv(&last_block, message.header.message_id);
        let (clear, next) = protection.open(&iv.unwrap_or(first), message.body()).unwrap();
        let payloads = Payloads::parse_decrypted(message.header.next_payload, &clear).unwrap();
        assert!(unhex(recorded["plaintext"].as_str().unwrap()).starts_with(payloads.chain()));
        iv = Some(next);
    }
}

/// UDP payloads of a capture with Ethernet and IPv4 headers without options.
fn udp_payloads(capture: &[u8]) -> Vec<&[u8]> {
    let mut rest = &capture[24..];
    let mut payloads = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        payloads.push(&rest[16 + 14 + 20 + 8..16 + length]);
        rest = &rest[16 + length..];
    }
    payloads
}

#[test]
fn the_trustcore_session_verifies_and_decrypts() {
    let capture = include_bytes!("../../../wire/tests/vectors/trustcore-gdoi-pull.pcap");
    let datagrams = udp_payloads(capture);
    let messages: Vec<Message<'_>> =
        datagrams.iter().map(|datagram| Message::parse(datagram).unwrap()).collect();
    // From the log of that run.
    let skeyid = unhex(concat!(
        "0c511ee60d5951096cfea62b2c2c21d67a5b2ca7f2b9dd814c6944957c634645",
        "97c77d1fcb24639147d0efa94e348a38f48d3a36dc52805b3c8d58059e318d08"
    ));
    let skeyid_a = unhex(concat!(
        "c1b9e46cbcd087417b66fdce75cf6db4e79c2300574c0e249f31bdaf84da9c88",
        "5aae147b2c01bdf16c540ca415b222f46792ea47209eb9978020817876fceacf"
    ));
    let skeyid_e = unhex(concat!(
        "d88b59519ba81904c49b99ab79c0171ea42aafb676ee7c88bb47639177bbb1fc",
        "1fcdfb9aad8c5763568a0463103ecb433bd2da51eddcce7d76498df4d871e300"
    ));
    let hash = Hash::Sha512;
    let key = encryption_key(hash, CbcCipher::TripleDes, &Secret::new(skeyid_e)).unwrap();
    assert_eq!(key.expose(), unhex("d88b59519ba81904c49b99ab79c0171ea42aafb676ee7c88"));
    let skeyid_a = Secret::new(skeyid_a);
    let protection = Protection { hash, cipher: CbcCipher::TripleDes, key };
    let keys = Keys {
        hash,
        skeyid: PrfKey::new(hash, &skeyid),
        skeyid_d: Secret::new(Vec::new()),
        skeyid_a: skeyid_a.clone(),
        protection: protection.clone(),
    };
    let body = |number: usize, kind: PayloadType| {
        messages[number - 1].payloads().unwrap().find(kind).unwrap().body().to_vec()
    };
    let proof = Proof {
        keys,
        cookies: Cookies::of(&messages[1].header),
        g_xi: body(3, PayloadType::KEY_EXCHANGE),
        g_xr: body(4, PayloadType::KEY_EXCHANGE),
        sa_i_b: body(1, PayloadType::SECURITY_ASSOCIATION),
    };
    assert_eq!(proof.first_iv().octets(), unhex("a8002bee2527886f"));

    let (clear, iv) = proof.open(&proof.first_iv(), &messages[4]).unwrap();
    let payloads = decrypted(&messages[4], &clear).unwrap();
    let identification = payloads.find(PayloadType::IDENTIFICATION).unwrap();
    verify_hash(&payloads, &proof.hash_i(identification.body())).unwrap();

    let (clear, last_block) = proof.open(&iv, &messages[5]).unwrap();
    let payloads = decrypted(&messages[5], &clear).unwrap();
    let identification = payloads.find(PayloadType::IDENTIFICATION).unwrap();
    verify_hash(&payloads, &proof.hash_r(identification.body())).unwrap();

    // The first message of its GROUPKEY-PULL: HASH(1) covers the message id and what follows the hash.
    let pull = &messages[6];
    assert_ne!(pull.header.message_id, MessageId::PHASE_ONE);
    let iv = protection.phase2_iv(&last_block, pull.header.message_id);
    let (clear, _) = protection.open(&iv, pull.body()).unwrap();
    let payloads = Payloads::parse_decrypted(pull.header.next_payload, &clear).unwrap();
    let message_id = pull.header.message_id.0.to_be_bytes();
    let expected = hash.prf(skeyid_a.expose(), &[&message_id, payloads.after_first()]);
    verify_hash(&payloads, &expected).unwrap();

    // Its first message offers many transforms; the one its peer chose is the one we choose, unchanged.
    let offered = negotiation::parse(&proof.sa_i_b).unwrap();
    let answered = body(2, PayloadType::SECURITY_ASSOCIATION);
    let ours = Proposal {
        hash,
        cipher: CbcCipher::TripleDes,
        group: DhGroup::ALL
            .into_iter()
            .find(|group| group.public_len() == proof.g_xi.len())
            .expect("a group that we know"),
        lifetime: std::time::Duration::from_secs(28_800),
    };
    let (_, answer) = negotiation::choose(&offered, &[ours]).unwrap();
    let transform =
        |body: &[u8]| negotiation::parse(body).unwrap().into_owned().proposals[0].transforms.clone();
    assert_eq!(transform(&answer), transform(&answered));
}

#[test]
fn weak_des_keys_are_passed_over() {
    let skeyid_e = Secret::new(unhex("0101010101010101a1b2c3d4e5f60718"));
    let key = encryption_key(Hash::Md5, CbcCipher::Des, &skeyid_e).unwrap();
    assert!(!CbcCipher::Des.is_weak_key(key.expose()));
    assert_eq!(key.expose(), unhex("01010101010101a1"));
    let all_weak = Secret::new(vec![0x01; 16]);
    assert!(encryption_key(Hash::Md5, CbcCipher::Des, &all_weak).is_err());
}
