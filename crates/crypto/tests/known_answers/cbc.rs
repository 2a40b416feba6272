//! CBC: FIPS 81 (DES), SP 800-67 (triple DES), RFC 3602 section 4 (AES-128), SP 800-38A F.2 (AES-192, AES-256).

use crypto::{CbcCipher, CipherError};
use hex_literal::hex;

struct Case {
    cipher: CbcCipher,
    key: &'static [u8],
    iv: &'static [u8],
    plaintext: &'static [u8],
    ciphertext: &'static [u8],
}

#[test]
fn ciphers_match_published_vectors() {
    let cases = [
        Case {
            cipher: CbcCipher::Des,
            key: &hex!("0123456789abcdef"),
            iv: &hex!("1234567890abcdef"),
            plaintext: b"Now is the time for all ",
            ciphertext: &hex!("e5c7cdde872bf27c43e934008c389c0f683788499a7c05f6"),
        },
        // The vector is in ECB: one block at a time under a zero IV is the same.
        Case {
            cipher: CbcCipher::TripleDes,
            key: &hex!("0123456789abcdef23456789abcdef01456789abcdef0123"),
            iv: &[0; 8],
            plaintext: b"The qufc",
            ciphertext: &hex!("a826fd8ce53b855f"),
        },
        Case {
            cipher: CbcCipher::TripleDes,
            key: &hex!("0123456789abcdef23456789abcdef01456789abcdef0123"),
            iv: &[0; 8],
            plaintext: b"k brown ",
            ciphertext: &hex!("cce21c8112256fe6"),
        },
        Case {
            cipher: CbcCipher::TripleDes,
            key: &hex!("0123456789abcdef23456789abcdef01456789abcdef0123"),
            iv: &[0; 8],
            plaintext: b"fox jump",
            ciphertext: &hex!("68d5c05dd9b6b900"),
        },
        Case {
            cipher: CbcCipher::Aes128,
            key: &hex!("06a9214036b8a15b512e03d534120006"),
            iv: &hex!("3dafba429d9eb430b422da802c9fac41"),
            plaintext: b"Single block msg",
            ciphertext: &hex!("e353779c1079aeb82708942dbe77181a"),
        },
        Case {
            cipher: CbcCipher::Aes128,
            key: &hex!("c286696d887c9aa0611bbb3e2025a45a"),
            iv: &hex!("562e17996d093d28ddb3ba695a2e6f58"),
            plaintext: &hex!("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
            ciphertext: &hex!("d296cd94c2cccf8a3a863028b5e1dc0a7586602d253cfff91b8266bea6d61ab1"),
        },
        Case {
            cipher: CbcCipher::Aes128,
            key: &hex!("6c3ea0477630ce21a2ce334aa746c2cd"),
            iv: &hex!("c782dc4c098c66cbd9cd27d825682c81"),
            plaintext: b"This is a 48-byte message (exactly 3 AES blocks)",
            ciphertext: &hex!(
                "d0a02b3836451753d493665d33f0e8862dea54cdb293abc7506939276772f8d5"
                "021c19216bad525c8579695d83ba2684"
            ),
        },
        Case {
            cipher: CbcCipher::Aes128,
            key: &hex!("56e47a38c5598974bc46903dba290349"),
            iv: &hex!("8ce82eefbea0da3c44699ed7db51b7d9"),
            plaintext: &hex!(
                "a0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babbbcbdbebf"
                "c0c1c2c3c4c5c6c7c8c9cacbcccdcecfd0d1d2d3d4d5d6d7d8d9dadbdcdddedf"
            ),
            ciphertext: &hex!(
                "c30e32ffedc0774e6aff6af0869f71aa0f3af07a9a31a9c684db207eb0ef8e4e"
                "35907aa632c3ffdf868bb7b29d3d46ad83ce9f9a102ee99d49a53e87f4c3da55"
            ),
        },
        Case {
            cipher: CbcCipher::Aes192,
            key: &hex!("8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b"),
            iv: &hex!("000102030405060708090a0b0c0d0e0f"),
            plaintext: &hex!("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"),
            ciphertext: &hex!("4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a"),
        },
        Case {
            cipher: CbcCipher::Aes256,
            key: &hex!("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
            iv: &hex!("000102030405060708090a0b0c0d0e0f"),
            plaintext: &hex!("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"),
            ciphertext: &hex!("f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"),
        },
    ];
    for case in &cases {
        let mut data = case.plaintext.to_vec();
        case.cipher.encrypt_in_place(case.key, case.iv, &mut data).unwrap();
        assert_eq!(data, case.ciphertext, "{:?}", case.cipher);
        case.cipher.decrypt_in_place(case.key, case.iv, &mut data).unwrap();
        assert_eq!(data, case.plaintext, "{:?}", case.cipher);
    }
}

#[test]
fn wrong_lengths_are_errors_and_leave_the_data_alone() {
    for cipher in CbcCipher::ALL {
        let (key, iv) = (vec![1; cipher.key_len()], vec![2; cipher.block_len()]);
        let mut data = vec![3; cipher.block_len() * 2];
        let expected = cipher.key_len();
        let error = CipherError::KeyLength { expected, actual: expected - 1 };
        assert_eq!(cipher.encrypt_in_place(&key[1..], &iv, &mut data), Err(error));
        assert_eq!(cipher.decrypt_in_place(&key[1..], &iv, &mut data), Err(error));
        let block = cipher.block_len();
        let error = CipherError::IvLength { expected: block, actual: block - 1 };
        assert_eq!(cipher.encrypt_in_place(&key, &iv[1..], &mut data), Err(error));
        assert_eq!(cipher.decrypt_in_place(&key, &iv[1..], &mut data), Err(error));
        let error = CipherError::DataLength { block, actual: block * 2 - 1 };
        assert_eq!(cipher.encrypt_in_place(&key, &iv, &mut data[1..]), Err(error));
        assert_eq!(cipher.decrypt_in_place(&key, &iv, &mut data[1..]), Err(error));
        assert!(data.iter().all(|octet| *octet == 3));
        assert_eq!(cipher.encrypt_in_place(&key, &iv, &mut []), Ok(()));
    }
}

/// A key is weak when it decrypts what it encrypted, semi-weak when another key of the list does.
#[test]
fn every_listed_des_key_undoes_itself_or_another_but_for_the_two_misprints() {
    let listed: Vec<[u8; 8]> = (0..=u16::MAX).flat_map(listed_keys).collect();
    assert_eq!(listed.len(), 18);
    let alone = listed.iter().filter(|key| !listed.iter().any(|other| undoes(key, other))).count();
    assert_eq!(alone, 2);
}

/// The weak keys with odd parity are built from four octets only, in a pattern of halves.
fn listed_keys(pattern: u16) -> Option<[u8; 8]> {
    const OCTETS: [u8; 6] = [0x01, 0x0e, 0x1f, 0xe0, 0xf1, 0xfe];
    let [a, b, c, d] = [12, 8, 4, 0].map(|shift| OCTETS.get(usize::from(pattern >> shift & 15)).copied());
    let (a, b, c, d) = (a?, b?, c?, d?);
    let key = [a, b, a, b, c, d, c, d];
    CbcCipher::Des.is_weak_key(&key).then_some(key)
}

fn undoes(key: &[u8; 8], other: &[u8; 8]) -> bool {
    let mut data = *b"anything";
    CbcCipher::Des.encrypt_in_place(key, &[0; 8], &mut data).unwrap();
    CbcCipher::Des.encrypt_in_place(other, &[0; 8], &mut data).unwrap();
    &data == b"anything"
}

#[test]
fn weak_keys_are_recognised_with_any_parity() {
    assert!(CbcCipher::Des.is_weak_key(&[0x00; 8]));
    assert!(CbcCipher::Des.is_weak_key(&[0x01; 8]));
    assert!(CbcCipher::Des.is_weak_key(&hex!("1fe01fe00ef10ef1")));
    assert!(CbcCipher::Des.is_weak_key(&hex!("1ee01ee00ff00ff1")));
    assert!(!CbcCipher::Des.is_weak_key(&hex!("0123456789abcdef")));
    assert!(!CbcCipher::Des.is_weak_key(&[1; 7]));
}

#[test]
fn a_triple_des_key_with_equal_neighbours_is_weak() {
    let (a, b) = (hex!("0123456789abcdef"), hex!("23456789abcdef01"));
    let same_but_parity = hex!("0022446688aaccee");
    assert!(CbcCipher::TripleDes.is_weak_key(&[a, a, b].concat()));
    assert!(CbcCipher::TripleDes.is_weak_key(&[b, a, a].concat()));
    assert!(CbcCipher::TripleDes.is_weak_key(&[a, same_but_parity, b].concat()));
    assert!(!CbcCipher::TripleDes.is_weak_key(&[a, b, a].concat()));
    assert!(!CbcCipher::Aes192.is_weak_key(&[a, a, a].concat()));
}
