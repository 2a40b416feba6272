//! ESP packets: RFC 3602 section 4 (cases 5 to 8), two captures of the tcpdump test suite, and AES-GCM of RFC 4106.
//! Every backend of this machine must agree with all of them.

use crypto::{
    Backend, CbcCipher, EspKey, EspOpener, EspSealer, EspSuite, Frame, GcmKeyLen, Integrity, PrfKey, Verdict,
};
use hex_literal::hex;

struct Packet {
    key: [u8; 16],
    header_and_iv: [u8; 24],
    plaintext: &'static [u8],
    ciphertext: &'static [u8],
}

/// The packets of the RFC carry no ICV; the one appended here is checked against the HMAC known answers' own code.
#[test]
fn packets_of_rfc_3602_are_reproduced_and_opened() {
    let packets = [
        Packet {
            key: hex!("90d382b410eeba7ad938c46cec1a82bf"),
            header_and_iv: hex!("0000432100000001e96e8c08ab465763fd098d45dd3ff893"),
            plaintext: &hex!(
                "08000ebda70a00008e9c083db95b070008090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
                "202122232425262728292a2b2c2d2e2f30313233343536370102030405060708090a0b0c0d0e0e01"
            ),
            ciphertext: &hex!(
                "f663c25d325c18c6a9453e194e120849a4870b66cc6b9965330013b4898dc856a4699e523a55db08"
                "0b59ec3a8e4b7e52775b07d1db34ed9c538ab50c551b874aa269add047ad2d5913ac19b7cfbad4a6"
            ),
        },
        Packet {
            key: hex!("90d382b410eeba7ad938c46cec1a82bf"),
            header_and_iv: hex!("000043210000000869d08df7d203329db093fc4924e5bd80"),
            plaintext: &hex!("0800b5e8a80a0500a69c083d0b660e0077777777777777777777777701020201"),
            ciphertext: &hex!("f51995881ec4e0c4488987ce742e8109689bb379d2d750c0d915dca346a89f75"),
        },
        Packet {
            key: hex!("0123456789abcdef0123456789abcdef"),
            header_and_iv: hex!("0000876500000002f4e765244f6407adf13dc1380f673f37"),
            plaintext: &hex!(
                "45000054090400004001f988c0a87b03c0a87bc808009f76a90a0100b49c083d02a2040008090a0b"
                "0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f30313233"
                "343536370102030405060708090a0a04"
            ),
            ciphertext: &hex!(
                "773b5241a4c449225e4f3ce5ed611b0c237ca96cf74a93013c1b0ea1a0cf70f8e4ecaec78ac53aad"
                "7a0f022b859243c647752e94a859352b8a4d4d2decd136e5c177f132ad3fbfb2201ac9904c74ee0a"
                "109e0ca1e4dfe9d5a100b842f1c22f0d"
            ),
        },
        Packet {
            key: hex!("0123456789abcdef0123456789abcdef"),
            header_and_iv: hex!("000087650000000585d47224b5f3dd5d2101d4ea8dffab22"),
            plaintext: &hex!(
                "45000044090c00004001f990c0a87b03c0a87bc80800d63caa0a0200c69c083da3de0300ffffffff"
                "ffffffffffffffffffffffffffffffffffffffffffffffffffffffff0102030405060708090a0a04"
            ),
            ciphertext: &hex!(
                "15b92683819596a8047232cc00f7048fe45318e11f8a0f62ede3c3fc61203bb50f980a08c9843fd3"
                "a1b06d5c07ff9639b7eb7dfb3512e5de435e7207ed971ef3d2726d9b5ef6affc6d17a0decbb13892"
            ),
        },
    ];
    let suite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };
    let integrity_key = [0x5a; 20];
    for backend in Backend::available() {
        for packet in &packets {
            let key = EspKey::with_backend(*backend, suite, &packet.key, &integrity_key).unwrap();
            let mut bytes = [&packet.header_and_iv, packet.plaintext, &[0; 12]].concat();
            seal_one(EspSealer::from_key(key.clone()).unwrap(), &mut bytes);

            let (covered, icv) = bytes.split_at(bytes.len() - 12);
            assert_eq!(covered[24..], *packet.ciphertext, "{backend:?}");
            let tag = PrfKey::new(Integrity::HmacSha1_96.hash(), &integrity_key).tag(&[covered]);
            assert_eq!(icv, &tag[..12], "{backend:?}");

            open_one(EspOpener::from_key(key).unwrap(), &mut bytes);
            assert_eq!(bytes[24..24 + packet.plaintext.len()], *packet.plaintext, "{backend:?}");
        }
    }
}

#[test]
fn the_triple_des_capture_opens_and_seals_again_to_the_same_octets() {
    check_capture(
        include_bytes!("../vectors/02-sunrise-sunset-esp.pcap"),
        EspSuite::Cbc { cipher: CbcCipher::TripleDes, integrity: Integrity::HmacMd5_96 },
        &hex!("4043434545464649494a4a4c4c4f4f515152525454575758"),
        &hex!("87658765876587658765876587658765"),
    );
}

#[test]
fn the_aes_256_capture_opens_and_seals_again_to_the_same_octets() {
    check_capture(
        include_bytes!("../vectors/08-sunrise-sunset-aes.pcap"),
        EspSuite::Cbc { cipher: CbcCipher::Aes256, integrity: Integrity::HmacSha1_96 },
        &hex!("aaaabbbbccccdddd4043434545464649494a4a4c4c4f4f515152525454575758"),
        &hex!("8765876587658765876587658765876587658765"),
    );
}

fn check_capture(capture: &[u8], suite: EspSuite, cipher_key: &[u8], integrity_key: &[u8]) {
    let packets = esp_packets(capture);
    assert_eq!(packets.len(), 8);
    for backend in Backend::available() {
        let key = EspKey::with_backend(*backend, suite, cipher_key, integrity_key).unwrap();
        let mut opened = packets.clone();
        let mut frames: Vec<_> = opened.iter_mut().map(|bytes| Frame::new(bytes)).collect();
        EspOpener::from_key(key.clone()).unwrap().open(&mut frames);
        for frame in &frames {
            assert_eq!(frame.verdict, Verdict::Ok, "{backend:?}");
            let range = suite.encrypted_range(frame.bytes.len()).unwrap();
            let inner = &frame.bytes[range];
            // Tunnel mode: an IPv4 header first, at the end self-describing padding and next header 4.
            assert_eq!((inner[0], inner[inner.len() - 1]), (0x45, 4), "{backend:?}");
            let pad_len = inner[inner.len() - 2];
            let padding = &inner[inner.len() - 2 - usize::from(pad_len)..inner.len() - 2];
            assert!(padding.iter().copied().eq(1..=pad_len), "{backend:?}");
        }
        for frame in &mut frames {
            let icv = frame.bytes.len() - suite.icv_len();
            frame.bytes[icv..].fill(0);
        }
        EspSealer::from_key(key).unwrap().seal(&mut frames);
        assert_eq!(opened, packets, "{backend:?}");
    }
}

/// The ESP packets of a little-endian Ethernet pcap of IPv4 without options.
fn esp_packets(capture: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &capture[24..];
    let mut packets = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
        let ip = &rest[16 + 14..16 + len];
        let total_len = usize::from(u16::from_be_bytes([ip[2], ip[3]]));
        packets.push(ip[20..total_len].to_vec());
        rest = &rest[16 + len..];
    }
    packets
}

/// draft-mcgrew-gcm-test-01: an IPv4/UDP packet in ESP.
#[test]
fn an_aes_128_gcm_packet_matches_the_published_one() {
    let plaintext = hex!(
        "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000"
        "00000000037369700963796265726369747902646b0000010001 0001"
    );
    check_gcm(
        GcmKeyLen::Bits128,
        &hex!("feffe9928665731c6d6a8f9467308308 cafebabe"),
        &hex!("0000a5f80000000a facedbaddecaf888"),
        &plaintext,
        &hex!(
            "deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c3de81827c10e9a4f"
            "51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd183b70d3aa8bc6ee4c309e9d85a41ad4a"
        ),
    );
}

/// The same packet under longer keys, by an independent implementation (Python's `cryptography`).
#[test]
fn longer_aes_gcm_keys_match_an_independent_implementation() {
    let plaintext = hex!(
        "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d0010000010000"
        "00000000037369700963796265726369747902646b0000010001 0001"
    );
    check_gcm(
        GcmKeyLen::Bits192,
        &hex!("feffe9928665731c6d6a8f9467308308feffe9928665731c cafebabe"),
        &hex!("0000a5f80000000a facedbaddecaf888"),
        &plaintext,
        &hex!("a5b1f810ad0beea4ce4ebecde87700cfc391b4b8b9432e6b4ce380ca34406aee614a3195542ccc76"
            "80ddfa4c888ff300ccfaca17f197c0ea1db95c28b603300272b7306b4afd7dedd8d66122afff49d0"),
    );
    check_gcm(
        GcmKeyLen::Bits256,
        &hex!("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308 cafebabe"),
        &hex!("0000a5f80000000a facedbaddecaf888"),
        &plaintext,
        &hex!("ce1cf3eb085d7be2d13773aa45d965e52235248ea04937265bfeb1c31db45ad8908d82ddcc65b26e"
            "8b0cec441647447f11ee90ff4dce9e396daa8d5a932ec7f9bba6ca67fa41d5d15c46d3b829856cb2"),
    );
}

fn check_gcm(len: GcmKeyLen, key: &[u8], header_and_iv: &[u8], plaintext: &[u8], output: &[u8]) {
    for backend in Backend::available() {
        let key = EspKey::with_backend(*backend, EspSuite::Gcm { key: len }, key, &[]).unwrap();
        let mut bytes = [header_and_iv, plaintext, &[0; 16]].concat();
        seal_one(EspSealer::from_key(key.clone()).unwrap(), &mut bytes);
        assert_eq!(bytes[16..], *output, "{backend:?}");
        open_one(EspOpener::from_key(key).unwrap(), &mut bytes);
        assert_eq!(bytes[16..16 + plaintext.len()], *plaintext, "{backend:?}");
    }
}

fn seal_one(mut sealer: EspSealer, bytes: &mut [u8]) {
    let mut frames = [Frame::new(bytes)];
    sealer.seal(&mut frames);
    assert_eq!(frames[0].verdict, Verdict::Ok);
}

fn open_one(mut opener: EspOpener, bytes: &mut [u8]) {
    let mut frames = [Frame::new(bytes)];
    opener.open(&mut frames);
    assert_eq!(frames[0].verdict, Verdict::Ok);
}
