//! HMAC: RFC 2202 (MD5, SHA-1), RFC 4231 and RFC 4868 section 2.7.2 (SHA-2); hashes: the "abc" of their standards.

use crypto::{Hash, Integrity, PrfKey};
use hex_literal::hex;

struct Case {
    hash: Hash,
    key: &'static [u8],
    data: &'static [u8],
    output: &'static [u8],
}

fn check(cases: &[Case]) {
    for (number, case) in cases.iter().enumerate() {
        let output = case.hash.prf(case.key, &[case.data]);
        assert!(output.matches(case.output), "{:?} case {}", case.hash, number + 1);
        let (head, tail) = case.data.split_at(case.data.len() / 3);
        let keyed = PrfKey::new(case.hash, case.key);
        assert_eq!(
            *keyed.tag(&[head, &[], tail]),
            *case.output,
            "{:?} case {} in parts",
            case.hash,
            number + 1
        );
        assert_eq!(keyed.prf(&[case.data]).expose(), case.output, "a prepared key can be used again");
    }
}

#[test]
fn hashes_give_the_published_digest_of_abc() {
    let cases: [(Hash, &[u8]); 5] = [
        (Hash::Md5, &hex!("900150983cd24fb0d6963f7d28e17f72")),
        (Hash::Sha1, &hex!("a9993e364706816aba3e25717850c26c9cd0d89d")),
        (Hash::Sha256, &hex!("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")),
        (
            Hash::Sha384,
            &hex!(
                "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed8086072ba1e7cc23"
                "58baeca134c825a7"
            ),
        ),
        (
            Hash::Sha512,
            &hex!(
                "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a2192992a274fc1a8"
                "36ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f"
            ),
        ),
    ];
    for (hash, digest) in cases {
        assert_eq!(*hash.digest(&[b"abc"]), *digest, "{hash:?}");
        assert_eq!(*hash.digest(&[b"a", b"", b"bc"]), *digest, "{hash:?} in parts");
        assert_eq!(digest.len(), hash.output_len());
    }
}

#[test]
fn hmac_md5_and_sha1_match_rfc_2202() {
    check(&[
        Case {
            hash: Hash::Md5,
            key: &[0x0b; 16],
            data: b"Hi There",
            output: &hex!("9294727a3638bb1c13f48ef8158bfc9d"),
        },
        Case {
            hash: Hash::Md5,
            key: b"Jefe",
            data: b"what do ya want for nothing?",
            output: &hex!("750c783e6ab0b503eaa86e310a5db738"),
        },
        Case {
            hash: Hash::Md5,
            key: &[0xaa; 16],
            data: &[0xdd; 50],
            output: &hex!("56be34521d144c88dbb8c733f0e8b3f6"),
        },
        Case {
            hash: Hash::Md5,
            key: &hex!("0102030405060708090a0b0c0d0e0f10111213141516171819"),
            data: &[0xcd; 50],
            output: &hex!("697eaf0aca3a3aea3a75164746ffaa79"),
        },
        Case {
            hash: Hash::Md5,
            key: &[0x0c; 16],
            data: b"Test With Truncation",
            output: &hex!("56461ef2342edc00f9bab995690efd4c"),
        },
        Case {
            hash: Hash::Md5,
            key: &[0xaa; 80],
            data: b"Test Using Larger Than Block-Size Key - Hash Key First",
            output: &hex!("6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"),
        },
        Case {
            hash: Hash::Md5,
            key: &[0xaa; 80],
            data: b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data",
            output: &hex!("6f630fad67cda0ee1fb1f562db3aa53e"),
        },
        Case {
            hash: Hash::Sha1,
            key: &[0x0b; 20],
            data: b"Hi There",
            output: &hex!("b617318655057264e28bc0b6fb378c8ef146be00"),
        },
        Case {
            hash: Hash::Sha1,
            key: b"Jefe",
            data: b"what do ya want for nothing?",
            output: &hex!("effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
        },
        Case {
            hash: Hash::Sha1,
            key: &[0xaa; 20],
            data: &[0xdd; 50],
            output: &hex!("125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
        },
        Case {
            hash: Hash::Sha1,
            key: &hex!("0102030405060708090a0b0c0d0e0f10111213141516171819"),
            data: &[0xcd; 50],
            output: &hex!("4c9007f4026250c6bc8414f9bf50c86c2d7235da"),
        },
        Case {
            hash: Hash::Sha1,
            key: &[0x0c; 20],
            data: b"Test With Truncation",
            output: &hex!("4c1a03424b55e07fe7f27be1d58bb9324a9a5a04"),
        },
        Case {
            hash: Hash::Sha1,
            key: &[0xaa; 80],
            data: b"Test Using Larger Than Block-Size Key - Hash Key First",
            output: &hex!("aa4ae5e15272d00e95705637ce8a3b55ed402112"),
        },
        Case {
            hash: Hash::Sha1,
            key: &[0xaa; 80],
            data: b"Test Using Larger Than Block-Size Key and Larger Than One Block-Size Data",
            output: &hex!("e8e99d0f45237d786d6bbaa7965c7808bbff1a91"),
        },
    ]);
}

#[test]
fn hmac_sha2_matches_rfc_4231() {
    check(&[
        Case { hash: Hash::Sha256, key: &[0x0b; 20], data: b"Hi There", output: &hex!("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7") },
        Case { hash: Hash::Sha256, key: b"Jefe", data: b"what do ya want for nothing?", output: &hex!("5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843") },
        Case { hash: Hash::Sha256, key: &[0xaa; 20], data: &[0xdd; 50], output: &hex!("773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe") },
        Case { hash: Hash::Sha256, key: &hex!("0102030405060708090a0b0c0d0e0f10111213141516171819"), data: &[0xcd; 50], output: &hex!("82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b") },
        Case { hash: Hash::Sha256, key: &[0xaa; 131], data: b"Test Using Larger Than Block-Size Key - Hash Key First", output: &hex!("60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54") },
        Case { hash: Hash::Sha256, key: &[0xaa; 131], data: b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", output: &hex!("9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2") },
        Case { hash: Hash::Sha384, key: &[0x0b; 20], data: b"Hi There", output: &hex!(
            "afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f"
            "4af152e8b2fa9cb6"
        ) },
        Case { hash: Hash::Sha384, key: b"Jefe", data: b"what do ya want for nothing?", output: &hex!(
            "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c7"
            "8b3239ecfab21649"
        ) },
        Case { hash: Hash::Sha384, key: &[0xaa; 20], data: &[0xdd; 50], output: &hex!(
            "88062608d3e6ad8a0aa2ace014c8a86f0aa635d947ac9febe83ef4e55966144b2a5ab39dc13814b9"
            "4e3ab6e101a34f27"
        ) },
        Case { hash: Hash::Sha384, key: &hex!("0102030405060708090a0b0c0d0e0f10111213141516171819"), data: &[0xcd; 50], output: &hex!(
            "3e8a69b7783c25851933ab6290af6ca77a9981480850009cc5577c6e1f573b4e6801dd23c4a7d679"
            "ccf8a386c674cffb"
        ) },
        Case { hash: Hash::Sha384, key: &[0xaa; 131], data: b"Test Using Larger Than Block-Size Key - Hash Key First", output: &hex!(
            "4ece084485813e9088d2c63a041bc5b44f9ef1012a2b588f3cd11f05033ac4c60c2ef6ab4030fe82"
            "96248df163f44952"
        ) },
        Case { hash: Hash::Sha384, key: &[0xaa; 131], data: b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", output: &hex!(
            "6617178e941f020d351e2f254e8fd32c602420feb0b8fb9adccebb82461e99c5a678cc31e799176d"
            "3860e6110c46523e"
        ) },
        Case { hash: Hash::Sha512, key: &[0x0b; 20], data: b"Hi There", output: &hex!(
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cdedaa833b7d6b8a702"
            "038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
        ) },
        Case { hash: Hash::Sha512, key: b"Jefe", data: b"what do ya want for nothing?", output: &hex!(
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a"
            "6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        ) },
        Case { hash: Hash::Sha512, key: &[0xaa; 20], data: &[0xdd; 50], output: &hex!(
            "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39bf3e848279a722c8"
            "06b485a47e67c807b946a337bee8942674278859e13292fb"
        ) },
        Case { hash: Hash::Sha512, key: &hex!("0102030405060708090a0b0c0d0e0f10111213141516171819"), data: &[0xcd; 50], output: &hex!(
            "b0ba465637458c6990e5a8c5f61d4af7e576d97ff94b872de76f8050361ee3dba91ca5c11aa25eb4"
            "d679275cc5788063a5f19741120c4f2de2adebeb10a298dd"
        ) },
        Case { hash: Hash::Sha512, key: &[0xaa; 131], data: b"Test Using Larger Than Block-Size Key - Hash Key First", output: &hex!(
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f3526b56d037e05f2598"
            "bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"
        ) },
        Case { hash: Hash::Sha512, key: &[0xaa; 131], data: b"This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", output: &hex!(
            "e37b6a775dc87dbaa4dfa9f96e5e3ffddebd71f8867289865df5a32d20cdc944b6022cac3c4982b1"
            "0d5eeb55c3e4de15134676fb6de0446065c97440fa8c6a58"
        ) },
    ]);
}

/// The RFC prints 80 octets for the key of AUTH512-4 and says 64; the first line is a misprint, the output belongs to
/// the other four.
#[test]
fn hmac_sha2_matches_rfc_4868() {
    check(&[
        Case {
            hash: Hash::Sha256,
            key: &[0x0b; 32],
            data: b"Hi There",
            output: &hex!("198a607eb44bfbc69903a0f1cf2bbdc5ba0aa3f3d9ae3c1c7a3b1696a0b68cf7"),
        },
        Case {
            hash: Hash::Sha256,
            key: b"JefeJefeJefeJefeJefeJefeJefeJefe",
            data: b"what do ya want for nothing?",
            output: &hex!("167f928588c5cc2eef8e3093caa0e87c9ff566a14794aa61648d81621a2a40c6"),
        },
        Case {
            hash: Hash::Sha256,
            key: &[0xaa; 32],
            data: &[0xdd; 50],
            output: &hex!("cdcb1220d1ecccea91e53aba3092f962e549fe6ce9ed7fdc43191fbde45c30b0"),
        },
        Case {
            hash: Hash::Sha256,
            key: &hex!("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"),
            data: &[0xcd; 50],
            output: &hex!("372efcf9b40b35c2115b1346903d2ef42fced46f0846e7257bb156d3d7b30d3f"),
        },
        Case {
            hash: Hash::Sha384,
            key: &[0x0b; 48],
            data: b"Hi There",
            output: &hex!(
                "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee9737a959796489bddbc4c5df61d5b3297b4"
                "fb68dab9f1b582c2"
            ),
        },
        Case {
            hash: Hash::Sha384,
            key: b"JefeJefeJefeJefeJefeJefeJefeJefeJefeJefeJefeJefe",
            data: b"what do ya want for nothing?",
            output: &hex!(
                "2c7353974f1842fd66d53c452ca42122b28c0b594cfb184da86a368e9b8e16f5349524ca4e82400c"
                "bde0686d403371c9"
            ),
        },
        Case {
            hash: Hash::Sha384,
            key: &[0xaa; 48],
            data: &[0xdd; 50],
            output: &hex!(
                "809f439be00274321d4a538652164b53554a508184a0c3160353e3428597003d35914a18770f9443"
                "987054944b7c4b4a"
            ),
        },
        Case {
            hash: Hash::Sha384,
            key: &hex!(
                "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f200a0b0c0d0e0f10111213141516171819"
            ),
            data: &[0xcd; 50],
            output: &hex!(
                "5b540085c6e6358096532b2493609ed1cb298f774f87bb5c2ebf182c83cc7428707fb92eab2536a5"
                "812258228bc96687"
            ),
        },
        Case {
            hash: Hash::Sha512,
            key: &[0x0b; 64],
            data: b"Hi There",
            output: &hex!(
                "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8ac2878ebd5803f6f"
                "0b61dbce5e251ff8789a4722c1be65aea45fd464e89f8f5b"
            ),
        },
        Case {
            hash: Hash::Sha512,
            key: b"JefeJefeJefeJefeJefeJefeJefeJefeJefeJefeJefeJefeJefeJefeJefeJefe",
            data: b"what do ya want for nothing?",
            output: &hex!(
                "cb370917ae8a7ce28cfd1d8f4705d6141c173b2a9362c15df235dfb251b154546aa334ae9fb9afc2"
                "184932d8695e397bfa0ffb93466cfcceaae38c833b7dba38"
            ),
        },
        Case {
            hash: Hash::Sha512,
            key: &[0xaa; 64],
            data: &[0xdd; 50],
            output: &hex!(
                "2ee7acd783624ca9398710f3ee05ae41b9f9b0510c87e49e586cc9bf961733d8623c7b55cebefccf"
                "02d5581acc1c9d5fb1ff68a1de45509fbe4da9a433922655"
            ),
        },
        Case {
            hash: Hash::Sha512,
            key: &hex!(
                "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f40"
            ),
            data: &[0xcd; 50],
            output: &hex!(
                "5e6688e5a3daec826ca32eaea224eff5e700628947470e13ad01302561bab108b8c48cbc6b807dcf"
                "bd850521a685babc7eae4a2a2e660dc0e86b931d65503fd2"
            ),
        },
    ]);
}

#[test]
fn truncations_have_the_lengths_of_their_names() {
    let lengths = Integrity::ALL.map(|integrity| (integrity.key_len(), integrity.icv_len() * 8));
    assert_eq!(lengths, [(16, 96), (20, 96), (32, 128), (48, 192), (64, 256)]);
    for integrity in Integrity::ALL {
        assert_eq!(integrity.key_len(), integrity.hash().output_len());
        assert_eq!(integrity.hash().block_len(), if integrity.key_len() > 32 { 128 } else { 64 });
    }
}
