//! Pushes and an acknowledgement from a fixed seed, octet by octet.
//!
//! `testdata/push/*.json` holds the same messages with the keys that open them. `lab/peers/gdoi_decrypt.py --vector FILE`,
//! which shares nothing with this program, opens and verifies them.
//! `UPDATE_PUSHES=1 cargo test -p proto --test push` writes the files anew, which is needed when what we send changes.

use std::path::PathBuf;

use crypto::{BareHash, CbcCipher, Hash, SigningKey, SigningKeyKind, VerifyingKey};
use hex_literal::hex;
use proto::push::{
    Acknowledgement, AcknowledgementPrf, Body, Deletion, HeaderLength, Kek, KekSpi, open, seal,
};
use serde_json::{Value, json};
use wire::isakmp::Identity;

use super::support::{RSA, kek};

/// Seed of the KEK under which the messages go, and of its successor.
const SEED: u64 = 6407;

fn old_kek() -> Kek {
    kek(SEED, CbcCipher::Aes128)
}

fn new_kek() -> Kek {
    kek(SEED + 1, CbcCipher::Aes128)
}

/// Body of the SA payload: a new KEK, a TEK that lives for another 45 s, and its successor.
fn sa() -> Vec<u8> {
    [
        &hex!("00000002")[..], // DOI: GDOI
        &hex!("00000000"),     // situation
        &hex!("000f 0000"),    // SA attribute next payload: SAK; RESERVED2
        // SA KEK payload
        &hex!("16 00 0049"),          // next: GAP; RESERVED; length 73
        &hex!("11"),                  // protocol: UDP
        &hex!("01 0350 04 c0000201"), // source: ID_IPV4_ADDR, port 848, 192.0.2.1
        &hex!("01 0350 04 00000000"), // destination: to each member's own address
        &new_kek().spi.0,             // SPI
        &hex!("00000000"),            // RESERVED2
        &hex!("8002 0003"),           // KEK_ALGORITHM: KEK_ALG_AES
        &hex!("8003 0080"),           // KEK_KEY_LENGTH: 128
        &hex!("8005 0003"),           // SIG_HASH_ALGORITHM: SIG_HASH_SHA256
        &hex!("8006 0001"),           // SIG_ALGORITHM: SIG_ALG_RSA
        &hex!("8007 0800"),           // SIG_KEY_LENGTH: 2048
        &hex!("8009 0001"),           // KEK_ACK_REQUESTED: REKEY_ACK_KEK_SHA256
        &hex!("0004 0004 00000e10"),  // KEK_KEY_LIFETIME: 3600 s
        // GAP payload
        &hex!("10 00 000c"), // next: SAT; RESERVED; length 12
        &hex!("8001 000f"),  // ACTIVATION_TIME_DELAY: 15 s
        &hex!("8002 002d"),  // DEACTIVATION_TIME_DELAY: 45 s
        // SA TEK payload of the old TEK
        &hex!("10 00 003b"),                   // next: SAT; RESERVED; length 59
        &hex!("01"),                           // Protocol-ID: GDOI_PROTO_IPSEC_ESP
        &hex!("00"),                           // protocol: any
        &hex!("04 0000 08 0a000000 ff000000"), // source: ID_IPV4_ADDR_SUBNET, any port, 10.0.0.0/8
        &hex!("04 0000 08 0a000000 ff000000"), // destination: the same
        &hex!("0c"),                           // transform: ESP_AES (CBC)
        &hex!("64070001"),                     // SPI
        &hex!("8001 0001 0002 0004 0000002d"), // SA life type seconds, SA life duration 45
        &hex!("8004 0001"),                    // encapsulation mode: tunnel
        &hex!("8005 0005"),                    // authentication algorithm: HMAC-SHA2-256
        &hex!("8006 0080"),                    // key length: 128
        // SA TEK payload of the new one
        &hex!("00 00 003b 01 00 04 0000 08 0a000000 ff000000 04 0000 08 0a000000 ff000000 0c"),
        &hex!("64070002"),                     // SPI
        &hex!("8001 0001 0002 0004 00000e10"), // SA life type seconds, SA life duration 3600
        &hex!("8004 0001 8005 0005 8006 0080"),
    ]
    .concat()
}

/// Body of the KD payload: the keys of all three.
fn kd() -> Vec<u8> {
    [
        &hex!("0003 0000")[..], // three key packets; RESERVED2
        // TEK key packet
        &hex!("01 00 0041"),                                 // TEK; RESERVED; length 65
        &hex!("04 64070001"),                                // SPI size; SPI
        &hex!("0001 0010 101112131415161718191a1b1c1d1e1f"), // TEK_ALGORITHM_KEY
        &hex!("0002 0020 202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"), // TEK_INTEGRITY_KEY
        // TEK key packet
        &hex!("01 00 0041 04 64070002"),
        &hex!("0001 0010 505152535455565758595a5b5c5d5e5f"),
        &hex!("0002 0020 606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"),
        // KEK key packet
        &hex!("02 00 0163"), // KEK; RESERVED; length 355
        &hex!("10"),         // SPI size
        &new_kek().spi.0,    // SPI
        &hex!("0001 0020"),  // KEK_ALGORITHM_KEY: IV, then key
        new_kek().iv.expose(),
        new_kek().key.expose(),
        &hex!("0002 0126"), // SIG_ALGORITHM_KEY: SubjectPublicKeyInfo
        RSA.verifying_key().to_spki_der(),
    ]
    .concat()
}

/// Everything between HDR and SIG of the push that brings the new keys.
fn rekey_payloads() -> Vec<u8> {
    let (sa, kd) = (sa(), kd());
    [
        &hex!("01 00 0008")[..], // SEQ; next: SA; RESERVED; length 8
        &hex!("00000005"),       // sequence number
        &hex!("11 00 00db"),     // SA; next: KD; RESERVED; length 219
        &sa,
        &hex!("09 00 01ed"), // KD; next: SIG; RESERVED; length 493
        &kd,
    ]
    .concat()
}

/// Everything between HDR and SIG of the push that deletes the old TEK and the old KEK.
fn delete_payloads() -> Vec<u8> {
    [
        &hex!("0c 00 0008 00000006")[..], // SEQ; next: D
        &hex!("0c 00 0010"),              // D; next: D; RESERVED; length 16
        &hex!("00000002"),                // DOI: GDOI
        &hex!("01 04 0001"),              // Protocol-ID: GDOI_PROTO_IPSEC_ESP; SPI size 4; one SPI
        &hex!("64070001"),
        &hex!("09 00 001c"), // D; next: SIG; RESERVED; length 28
        &hex!("00000002"),   // DOI: GDOI
        &hex!("00 10 0001"), // Protocol-ID: KEK; SPI size 16; one SPI
        &old_kek().spi.0,
    ]
    .concat()
}

/// A push written by hand: the payloads before SIG as they are, signed, padded with zeros and encrypted.
fn by_hand(kek: &Kek, payloads: &[u8]) -> Vec<u8> {
    let header = |length: usize| {
        [
            &kek.spi.0[..],                 // initiator cookie, responder cookie
            &hex!("12 10 21 01"),           // next: SEQ; version 1.0; GROUPKEY-PUSH; encrypted
            &hex!("00000000"),              // message id
            &(length as u32).to_be_bytes(), // length
        ]
        .concat()
    };
    let sig = [&hex!("00 00 0104")[..], &[0; 256]].concat(); // SIG; next: none; RESERVED; length 260
    let unpadded = 28 + payloads.len() + sig.len();
    //= https://www.rfc-editor.org/rfc/rfc6407#section-4
    //= type=test
    //# The HASH is taken over the string 'rekey', the
    //# GROUPKEY-PUSH HDR, followed by all payloads preceding the SIG
    //# payload.
    let signature = RSA.sign(Hash::Sha256, &[b"rekey", &header(unpadded), payloads]).unwrap();
    let mut body = [payloads, &sig[..4], &signature].concat();
    body.resize(body.len().next_multiple_of(16), 0);
    CbcCipher::Aes128.encrypt_in_place(kek.key.expose(), kek.iv.expose(), &mut body).unwrap();
    [header(28 + body.len()), body].concat()
}

fn rekey() -> Vec<u8> {
    seal(&old_kek(), &RSA, 5, &Body { deletions: &[], sa: Some(&sa()), kd: Some(&kd()) }).unwrap()
}

fn deletion() -> Vec<u8> {
    let deletions = [Deletion::Kek(old_kek().spi), Deletion::Tek(0x6407_0001)];
    seal(&old_kek(), &RSA, 6, &Body { deletions: &deletions, sa: None, kd: None }).unwrap()
}

/// A sign of life: the TEK in use, with 3300 s left. Bodies of SA and KD.
fn heartbeat() -> (Vec<u8>, Vec<u8>) {
    let sa = [
        &hex!("00000002 00000000 0010 0000")[..], // SA attribute next payload: SAT
        &hex!("00 00 003b 01 00 04 0000 08 0a000000 ff000000 04 0000 08 0a000000 ff000000 0c"),
        &hex!("64070002"),
        &hex!("8001 0001 0002 0004 00000ce4"), // SA life type seconds, SA life duration 3300
        &hex!("8004 0001 8005 0005 8006 0080"),
    ];
    let kd = [
        &hex!("0001 0000 01 00 0041 04 64070002")[..],
        &hex!("0001 0010 505152535455565758595a5b5c5d5e5f"),
        &hex!("0002 0020 606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"),
    ];
    (sa.concat(), kd.concat())
}

fn first_under_the_new_kek() -> Vec<u8> {
    let (sa, kd) = heartbeat();
    seal(&new_kek(), &RSA, 1, &Body { deletions: &[], sa: Some(&sa), kd: Some(&kd) }).unwrap()
}

#[test]
fn the_fixed_seed_gives_these_keks() {
    for (kek, spi, iv, key) in [
        (
            old_kek(),
            hex!("7dc56ae24cade6b801d9ea4f5a2b552c"),
            hex!("6a4e2fd210d74cea3bc656f709f92fb6"),
            hex!("983b75844498f8ddc9ca424b67eec9be"),
        ),
        (
            new_kek(),
            hex!("35e7528a7fc9a8097c72491e78b9e435"),
            hex!("82d3348e591f2b989dec9a2acd20006b"),
            hex!("685ffbb780c447764cdf163946452403"),
        ),
    ] {
        assert_eq!(kek.spi, KekSpi(spi));
        assert_eq!((kek.iv.expose(), kek.key.expose()), (&iv[..], &key[..]));
    }
}

#[test]
fn a_push_of_new_keys_has_these_octets() {
    assert_eq!(sa().len() + 4, 219);
    assert_eq!(kd().len() + 4, 493);
    assert_eq!(rekey(), by_hand(&old_kek(), &rekey_payloads()));
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.9
//= type=test
//# If a GCKS has no further SAs to send to
//# group members, the SA and KD payloads MUST be omitted from the
//# message.
#[test]
fn a_push_of_deletes_has_these_octets() {
    assert_eq!(deletion(), by_hand(&old_kek(), &delete_payloads()));
}

#[test]
fn the_first_push_under_a_new_kek_has_number_1() {
    let (sa, kd) = heartbeat();
    let payloads = [&hex!("01 00 0008 00000001 11 00 004b")[..], &sa, &hex!("09 00 0049"), &kd].concat();
    assert_eq!(first_under_the_new_kek(), by_hand(&new_kek(), &payloads));
}

fn folder() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "testdata", "push"].iter().collect()
}

fn text(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn octets(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hexadecimal text").as_bytes();
    text.chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).expect("hexadecimal text"))
        .collect()
}

fn cipher_name(cipher: CbcCipher) -> &'static str {
    match cipher {
        CbcCipher::Des => "des",
        CbcCipher::TripleDes => "3des",
        CbcCipher::Aes128 => "aes128",
        CbcCipher::Aes192 => "aes192",
        CbcCipher::Aes256 => "aes256",
    }
}

fn hash_name(hash: Hash) -> &'static str {
    match hash {
        Hash::Md5 => "md5",
        Hash::Sha1 => "sha1",
        Hash::Sha256 => "sha256",
        Hash::Sha384 => "sha384",
        Hash::Sha512 => "sha512",
    }
}

/// Keys and messages as the files have them. `signature` is SIG_ALGORITHM, `acknowledge` is KEK_ACK_REQUESTED.
fn vector(
    description: &str,
    kek: &Kek,
    signature: u16,
    public: &VerifyingKey,
    messages: &[Vec<u8>],
) -> Value {
    let acknowledgements = kek.acknowledgement_keys().map(|keys| {
        let member = Identity::address([192, 0, 2, 7].into());
        text(&keys.seal(kek.spi, 5, &member).unwrap())
    });
    json!({
        "description": description,
        "kek": {
            "spi": text(&kek.spi.0),
            "cipher": cipher_name(kek.cipher),
            "iv": text(kek.iv.expose()),
            "key": text(kek.key.expose()),
            "hash": hash_name(kek.hash),
            "signature": signature,
            "acknowledge": kek.acknowledgement.map(|prf| prf.value().0),
            "public": text(public.to_spki_der()),
        },
        "messages": messages.iter().map(|message| text(message)).collect::<Vec<_>>(),
        "acknowledgement": {
            "description": "of sequence number 5 by 192.0.2.7",
            "message": acknowledgements,
        },
    })
}

fn read(name: &str) -> Value {
    let path = folder().join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

fn is_update() -> bool {
    std::env::var_os("UPDATE_PUSHES").is_some()
}

fn write(name: &str, vector: &Value) {
    std::fs::write(folder().join(name), format!("{vector:#}\n")).unwrap();
}

#[test]
fn the_files_for_independent_decryptors_hold_these_messages() {
    let (public, rsa) = (RSA.verifying_key(), 1);
    let mut others = Vec::new();
    for (cipher, hash, prf) in [
        (CbcCipher::TripleDes, Hash::Sha1, None),
        (CbcCipher::Aes192, Hash::Sha384, Some(AcknowledgementPrf::Sha512)),
        (CbcCipher::Aes256, Hash::Sha512, Some(AcknowledgementPrf::Sha256)),
    ] {
        let kek = Kek { hash, acknowledgement: prf, ..kek(SEED + 2, cipher) };
        let body = Body { deletions: &[], sa: Some(&sa()), kd: Some(&kd()) };
        let message = seal(&kek, &RSA, 5, &body).unwrap();
        let name = format!("rsa-{}-{}.json", hash_name(hash), cipher_name(cipher));
        others.push((name, vector("the same policy with other algorithms", &kek, rsa, &public, &[message])));
    }
    let messages = [rekey(), deletion(), first_under_the_new_kek()];
    let description = "new keys; Deletes of the old TEK and KEK; the first push under the new KEK";
    others.push(("rekey.json".to_owned(), vector(description, &old_kek(), rsa, &public, &messages)));
    for (name, expected) in others {
        if is_update() {
            write(&name, &expected);
        }
        assert_eq!(read(&name), expected, "{name}");
    }
}

/// ECDSA signatures differ each time, so these are kept and not made again.
#[test]
fn the_kept_pushes_that_are_signed_with_ecdsa_verify() {
    for (kind, signature) in
        [(SigningKeyKind::EcdsaP256, 4), (SigningKeyKind::EcdsaP384, 5), (SigningKeyKind::EcdsaP521, 6)]
    {
        let name = format!("{kind}.json");
        let hash = kind.implied_hash().expect("ECDSA implies one");
        let kek = Kek { hash, ..kek(SEED + 3, CbcCipher::Aes256) };
        if is_update() {
            let key = SigningKey::generate(kind).unwrap();
            let deletions = [Deletion::EveryTek, Deletion::EveryKek];
            let message = seal(&kek, &key, 5, &Body { deletions: &deletions, sa: None, kd: None }).unwrap();
            let description = "Deletes of everything, signed with ECDSA";
            write(&name, &vector(description, &kek, signature, &key.verifying_key(), &[message]));
        }
        let vector = read(&name);
        assert_eq!(octets(&vector["kek"]["key"]), kek.key.expose());
        let public = VerifyingKey::from_wire(&octets(&vector["kek"]["public"])).unwrap();
        let opened = open(&kek, &octets(&vector["messages"][0])).unwrap();
        let verified = opened.newer_than(4).unwrap().verify(&public, BareHash::Refused).unwrap();
        assert_eq!(verified.header_length(), HeaderLength::WithoutPadding);
        assert_eq!(verified.contents().unwrap().deletions, [Deletion::EveryTek, Deletion::EveryKek]);
        let acknowledgement = octets(&vector["acknowledgement"]["message"]);
        let keys = kek.acknowledgement_keys().unwrap();
        assert!(Acknowledgement::parse(&acknowledgement).unwrap().verify(&keys).is_ok());
    }
}
