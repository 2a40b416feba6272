//! Signatures made by OpenSSL's command line and those of RFC 4754 section 8, and keys in every form they come in.

use crypto::signature::{KeyForm, SigningKeyError, VerifyingKeyError, VerifyingKeyKind};
use crypto::{BareHash, Hash, SigningKey, SigningKeyKind, VerifyingKey};
use hex_literal::hex;

macro_rules! vector {
    ($name:literal) => {
        include_bytes!(concat!("../vectors/signature/", $name)).as_slice()
    };
}

const HASHES: [(Hash, &[u8]); 5] = [
    (Hash::Md5, vector!("rsa2048.md5.sig")),
    (Hash::Sha1, vector!("rsa2048.sha1.sig")),
    (Hash::Sha256, vector!("rsa2048.sha256.sig")),
    (Hash::Sha384, vector!("rsa2048.sha384.sig")),
    (Hash::Sha512, vector!("rsa2048.sha512.sig")),
];

struct Rfc4754 {
    private: &'static [u8],
    x: &'static [u8],
    y: &'static [u8],
    r: &'static [u8],
    s: &'static [u8],
}

const P256: Rfc4754 = Rfc4754 {
    private: &hex!("dc51d3866a15bacde33d96f992fca99da7e6ef0934e7097559c27f1614c88a7f"),
    x: &hex!("2442a5cc0ecd015fa3ca31dc8e2bbc70bf42d60cbca20085e0822cb04235e970"),
    y: &hex!("6fc98bd7e50211a4a27102fa3549df79ebcb4bf246b80945cddfe7d509bbfd7d"),
    r: &hex!("cb28e0999b9c7715fd0a80d8e47a77079716cbbf917dd72e97566ea1c066957c"),
    s: &hex!("86fa3bb4e26cad5bf90b7f81899256ce7594bb1ea0c89212748bff3b3d5b0315"),
};

const P384: Rfc4754 = Rfc4754 {
    private: &hex!(
        "0beb646634ba87735d77ae4809a0ebea865535de4c1e1dcb692e84708e81a5af62e528c38b2a81b35309668d"
        "73524d9f"
    ),
    x: &hex!(
        "96281bf8dd5e0525ca049c048d345d3082968d10fedf5c5aca0c64e6465a97ea5ce10c9dfec2179741571072"
        "1f437922"
    ),
    y: &hex!(
        "447688ba94708eb6e2e4d59f6ab6d7edff9301d249fe49c33096655f5d502fad3d383b91c5e7edaa2b714cc9"
        "9d5743ca"
    ),
    r: &hex!(
        "fb017b914e29149432d8bac29a514640b46f53ddab2c69948084e2930f1c8f7e08e07c9c63f2d21a07dcb56a"
        "6af56eb3"
    ),
    s: &hex!(
        "b263a1305e057f984d38726a1b46874109f417bca112674c528262a40a629af1cbb9f516ce0fa7d2ff630863"
        "a00e8b9f"
    ),
};

const P521: Rfc4754 = Rfc4754 {
    private: &hex!(
        "0065fda3409451dcab0a0ead45495112a3d813c17bfd34bdf8c1209d7df5849120597779060a7ff9d704adf7"
        "8b570ffad6f062e95c7e0c5d5481c5b153b48b375fa1"
    ),
    x: &hex!(
        "0151518f1af0f563517edd5485190df95a4bf57b5cba4cf2a9a3f6474725a35f7afe0a6ddeb8bedbcd6a197e"
        "592d40188901cecd650699c9b5e456aea5add19052a8"
    ),
    y: &hex!(
        "006f3b142ea1bfff7e2837ad44c9e4ff6d2d34c73184bbad90026dd5e6e85317d9df45cad7803c6c20035b2f"
        "3ff63aff4e1ba64d1c077577da3f4286c58f0aeae643"
    ),
    r: &hex!(
        "0154fd3836af92d0dca57dd5341d3053988534fde8318fc6aaaab68e2e6f4339b19f2f281a7e0b22c269d93c"
        "f8794a9278880ed7dbb8d9362caeacee544320552251"
    ),
    s: &hex!(
        "017705a7030290d1ceb605a9a1bb03ff9cdd521e87a696ec926c8c10c8362df4975367101f67d1cf9bccbf2f"
        "3d239534fa509e70aac851ae01aac68d62f866472660"
    ),
};

const CURVES: [(&Rfc4754, VerifyingKeyKind, Hash); 3] = [
    (&P256, VerifyingKeyKind::EcdsaP256, Hash::Sha256),
    (&P384, VerifyingKeyKind::EcdsaP384, Hash::Sha384),
    (&P521, VerifyingKeyKind::EcdsaP521, Hash::Sha512),
];

fn rsa() -> SigningKey {
    SigningKey::from_pkcs8_der(vector!("rsa2048.pkcs8")).unwrap()
}

#[test]
fn rsa_signs_as_openssl_does_and_verifies_what_it_signed() {
    let key = rsa();
    assert_eq!(key.kind(), SigningKeyKind::Rsa2048);
    for (hash, signature) in HASHES {
        assert_eq!(key.sign(hash, &[b"a", b"bc"]).unwrap(), signature, "{hash:?}");
        let public = key.verifying_key();
        assert!(public.verify(hash, &[b"ab", b"c"], signature, BareHash::Refused));
        assert!(!public.verify(hash, &[b"abd"], signature, BareHash::Accepted));
        let other = if hash == Hash::Sha256 { Hash::Sha512 } else { Hash::Sha256 };
        assert!(!public.verify(other, &[b"abc"], signature, BareHash::Accepted));
    }
}

#[test]
fn a_signature_over_the_bare_hash_is_valid_only_where_the_caller_says_so() {
    let (key, signature) = (rsa().verifying_key(), vector!("rsa2048.bare.sig"));
    assert!(!key.verify(Hash::Sha256, &[b"abc"], signature, BareHash::Refused));
    assert!(key.verify(Hash::Sha256, &[b"abc"], signature, BareHash::Accepted));
    assert!(!key.verify(Hash::Sha256, &[b"abd"], signature, BareHash::Accepted));
    assert!(!key.verify(Hash::Sha1, &[b"abc"], signature, BareHash::Accepted));
}

#[test]
fn ecdsa_verifies_the_signatures_of_rfc_4754_with_every_form_of_point() {
    for (vector, kind, hash) in CURVES {
        let signature = [vector.r, vector.s].concat();
        let compressed = [&[2 + (vector.y.last().unwrap() & 1)], vector.x].concat();
        for point in [[&[4], vector.x, vector.y].concat(), [vector.x, vector.y].concat(), compressed] {
            let key = VerifyingKey::from_wire(&point).unwrap();
            assert_eq!((key.kind(), key.form()), (kind, KeyForm::Point));
            assert_eq!(key.signature_len(), signature.len());
            assert!(key.verify(hash, &[b"abc"], &signature, BareHash::Refused));
            assert!(!key.verify(hash, &[b"abd"], &signature, BareHash::Accepted));
            assert!(!key.verify(Hash::Sha1, &[b"abc"], &signature, BareHash::Accepted));
            let again = VerifyingKey::from_wire(key.to_spki_der()).unwrap();
            assert_eq!(again, key);
            assert_eq!(again.form(), KeyForm::SubjectPublicKeyInfo);
        }
    }
}

/// SEC 1 ECPrivateKey in PKCS #8, which is how a scalar of the RFC becomes a key.
#[test]
fn ecdsa_keys_of_rfc_4754_sign_what_their_public_keys_verify() {
    let names: [&[u8]; 3] = [&hex!("2a8648ce3d030107"), &hex!("2b81040022"), &hex!("2b81040023")];
    for ((vector, _, hash), name) in CURVES.into_iter().zip(names) {
        let element = |tag: u8, content: &[u8]| {
            let mut octets = vec![tag];
            match content.len() {
                length @ 0..=127 => octets.push(length as u8),
                length => octets.extend([0x82, (length >> 8) as u8, length as u8]),
            }
            octets.extend_from_slice(content);
            octets
        };
        let point = [&[0, 4], vector.x, vector.y].concat();
        let ec = [element(2, &[1]), element(4, vector.private), element(0xa1, &element(3, &point))].concat();
        let algorithm = [element(6, &hex!("2a8648ce3d0201")), element(6, name)].concat();
        let der = element(
            0x30,
            &[element(2, &[0]), element(0x30, &algorithm), element(4, &element(0x30, &ec))].concat(),
        );
        let key = SigningKey::from_pkcs8_der(&der).unwrap();
        let public = VerifyingKey::from_wire(&[vector.x, vector.y].concat()).unwrap();
        assert_eq!(key.verifying_key(), public);
        let signature = key.sign(hash, &[b"rekey"]).unwrap();
        assert!(public.verify(hash, &[b"rekey"], &signature, BareHash::Refused));
    }
}

#[test]
fn signatures_of_another_length_or_with_a_changed_bit_are_invalid() {
    let rsa = rsa().verifying_key();
    let ecdsa = VerifyingKey::from_wire(&[P521.x, P521.y].concat()).unwrap();
    let ecdsa_signature = [P521.r, P521.s].concat();
    for (key, hash, signature) in
        [(&rsa, Hash::Sha256, vector!("rsa2048.sha256.sig")), (&ecdsa, Hash::Sha512, &ecdsa_signature)]
    {
        let verify = |signature: &[u8]| key.verify(hash, &[b"abc"], signature, BareHash::Accepted);
        assert!(verify(signature));
        for length in 0..signature.len() {
            assert!(!verify(&signature[..length]));
        }
        assert!(!verify(&[signature, &[0]].concat()));
        assert!(!verify(&[&[0], signature].concat()));
        for octet in 0..signature.len() {
            let mut changed = signature.to_vec();
            changed[octet] ^= 1 << (octet % 8);
            assert!(!verify(&changed));
        }
        assert!(!verify(&vec![0; signature.len()]));
        assert!(!verify(&vec![0xff; signature.len()]));
    }
}

#[test]
fn public_rsa_keys_are_read_in_every_form() {
    let spki = vector!("rsa2048.spki");
    for (octets, form) in [
        (spki, KeyForm::SubjectPublicKeyInfo),
        (vector!("rsa2048.pkcs1"), KeyForm::RsaPublicKey),
        (vector!("rsa2048.crt"), KeyForm::Certificate),
    ] {
        let key = VerifyingKey::from_wire(octets).unwrap();
        assert_eq!((key.kind(), key.form()), (VerifyingKeyKind::Rsa { bits: 2048 }, form));
        assert_eq!(key.to_spki_der(), spki);
        assert_eq!(key, rsa().verifying_key());
        assert!(key.verify(Hash::Sha1, &[b"abc"], vector!("rsa2048.sha1.sig"), BareHash::Refused));
        assert_eq!(
            VerifyingKey::from_wire(&[octets, &[0]].concat()),
            Err(VerifyingKeyError::Unreadable),
            "something follows a {form}"
        );
        for length in 0..octets.len() {
            assert!(VerifyingKey::from_wire(&octets[..length]).is_err(), "{form} cut at {length}");
        }
    }
}

#[test]
fn keys_beyond_the_limits_are_refused() {
    assert!(VerifyingKey::from_wire(vector!("rsa1024.spki")).is_ok());
    let refused = |octets: &[u8]| VerifyingKey::from_wire(octets).unwrap_err();
    assert_eq!(refused(vector!("rsa1000.spki")), VerifyingKeyError::RsaLength(1000));
    assert_eq!(refused(vector!("secp256k1.spki")), VerifyingKeyError::Algorithm);
    assert_eq!(refused(vector!("ed25519.spki")), VerifyingKeyError::Algorithm);
    assert_eq!(refused(&[0; 20_000]), VerifyingKeyError::TooLong(20_000));
    assert_eq!(refused(&[P256.x, P256.x].concat()), VerifyingKeyError::NotOnCurve);
    assert_eq!(refused(&[]), VerifyingKeyError::Unreadable);

    // RSAPublicKey with exponents 1 and 65536, and with an even modulus.
    let with = |exponent: &[u8], last: u8| {
        let mut modulus = vec![0x02, 0x82, 0x01, 0x01, 0x00];
        modulus.extend([0xc5; 255]);
        modulus.push(last);
        let exponent = [&[0x02, exponent.len() as u8], exponent].concat();
        let content = [modulus, exponent].concat();
        [&[0x30, 0x82, (content.len() >> 8) as u8, content.len() as u8], &content[..]].concat()
    };
    assert!(VerifyingKey::from_wire(&with(&[1, 0, 1], 0xc5)).is_ok());
    for octets in [with(&[1], 0xc5), with(&[1, 0, 0], 0xc5), with(&[1, 0, 1], 0xc4), with(&[1; 9], 0xc5)] {
        assert_eq!(refused(&octets), VerifyingKeyError::RsaNumbers);
    }
}

#[test]
fn private_keys_survive_being_written_and_read() {
    for (der, kind) in [
        (vector!("rsa2048.pkcs8"), SigningKeyKind::Rsa2048),
        (vector!("ecdsa-256.pkcs8"), SigningKeyKind::EcdsaP256),
        (vector!("ecdsa-384.pkcs8"), SigningKeyKind::EcdsaP384),
        (vector!("ecdsa-521.pkcs8"), SigningKeyKind::EcdsaP521),
    ] {
        let key = SigningKey::from_pkcs8_der(der).unwrap();
        assert_eq!(key.kind(), kind);
        assert_eq!(key.kind().to_string().parse::<SigningKeyKind>().unwrap(), kind);
        assert_eq!(key.to_pkcs8_der().expose(), der);
        assert_eq!(format!("{key:?}"), format!("SigningKey({kind})"));
        let hash = kind.implied_hash().unwrap_or(Hash::Sha256);
        let signature = key.sign(hash, &[b"rekey", b"message"]).unwrap();
        assert_eq!(signature.len(), key.signature_len());
        assert!(key.verifying_key().verify(hash, &[b"rekeymessage"], &signature, BareHash::Refused));
        assert_eq!(SigningKey::from_pkcs8_der(&[der, &[0]].concat()), Err(SigningKeyError::Unreadable));
    }
}

#[test]
fn made_keys_are_of_the_kind_asked_for_and_all_different() {
    for kind in [
        SigningKeyKind::Rsa2048,
        SigningKeyKind::EcdsaP256,
        SigningKeyKind::EcdsaP384,
        SigningKeyKind::EcdsaP521,
    ] {
        let key = SigningKey::generate(kind).unwrap();
        assert_eq!(key.kind(), kind);
        assert_eq!(SigningKey::from_pkcs8_der(key.to_pkcs8_der().expose()).unwrap(), key);
    }
    let make = || SigningKey::generate(SigningKeyKind::EcdsaP256).unwrap();
    assert_ne!(make(), make());
}

#[test]
fn ecdsa_does_not_sign_with_a_hash_that_is_not_its_own() {
    let key = SigningKey::from_pkcs8_der(vector!("ecdsa-384.pkcs8")).unwrap();
    assert_eq!(
        key.sign(Hash::Sha256, &[b"rekey"]),
        Err(SigningKeyError::Hash { kind: SigningKeyKind::EcdsaP384, hash: Hash::Sha256 })
    );
}
