//! ESP suites and the numbers that name them in a SAT.

use crypto::{CbcCipher, EspSuite, GcmKeyLen, Integrity};
use wire::registry::{AuthenticationAlgorithm, EspTransform};

/// What a SAT says about a suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) transform: EspTransform,
    pub(super) authentication: Option<AuthenticationAlgorithm>,
    /// Bits of a cipher key whose length is not fixed.
    pub(super) key_length: Option<u16>,
}

/// The numbers of a suite.
pub(super) fn names(suite: EspSuite) -> Names {
    match suite {
        EspSuite::Cbc { cipher, integrity } => {
            let (transform, key_length) = match cipher {
                CbcCipher::Des => (EspTransform::DES, None),
                CbcCipher::TripleDes => (EspTransform::TRIPLE_DES, None),
                CbcCipher::Aes128 => (EspTransform::AES_CBC, Some(128)),
                CbcCipher::Aes192 => (EspTransform::AES_CBC, Some(192)),
                CbcCipher::Aes256 => (EspTransform::AES_CBC, Some(256)),
            };
            let authentication = match integrity {
                Integrity::HmacMd5_96 => AuthenticationAlgorithm::HMAC_MD5,
                Integrity::HmacSha1_96 => AuthenticationAlgorithm::HMAC_SHA1,
                Integrity::HmacSha256_128 => AuthenticationAlgorithm::HMAC_SHA2_256,
                Integrity::HmacSha384_192 => AuthenticationAlgorithm::HMAC_SHA2_384,
                Integrity::HmacSha512_256 => AuthenticationAlgorithm::HMAC_SHA2_512,
            };
            Names { transform, authentication: Some(authentication), key_length }
        }
        EspSuite::Gcm { key } => Names {
            transform: EspTransform::AES_GCM_16,
            authentication: None,
            key_length: Some(key.key_len() as u16 * 8),
        },
    }
}

/// The suite with these numbers, if it is one we use.
///
/// Ciphers with a fixed key length may state it, with or without parity bits.
pub(super) fn suite(names: Names) -> Option<EspSuite> {
    if names.transform == EspTransform::AES_GCM_16 {
        let key = match (names.key_length?, names.authentication) {
            (128, None) => GcmKeyLen::Bits128,
            (192, None) => GcmKeyLen::Bits192,
            (256, None) => GcmKeyLen::Bits256,
            _ => return None,
        };
        return Some(EspSuite::Gcm { key });
    }
    let cipher = match (names.transform, names.key_length) {
        (EspTransform::DES, None | Some(56 | 64)) => CbcCipher::Des,
        (EspTransform::TRIPLE_DES, None | Some(168 | 192)) => CbcCipher::TripleDes,
        (EspTransform::AES_CBC, Some(128)) => CbcCipher::Aes128,
        (EspTransform::AES_CBC, Some(192)) => CbcCipher::Aes192,
        (EspTransform::AES_CBC, Some(256)) => CbcCipher::Aes256,
        _ => return None,
    };
    let integrity = match names.authentication? {
        AuthenticationAlgorithm::HMAC_MD5 => Integrity::HmacMd5_96,
        AuthenticationAlgorithm::HMAC_SHA1 => Integrity::HmacSha1_96,
        AuthenticationAlgorithm::HMAC_SHA2_256 => Integrity::HmacSha256_128,
        AuthenticationAlgorithm::HMAC_SHA2_384 => Integrity::HmacSha384_192,
        AuthenticationAlgorithm::HMAC_SHA2_512 => Integrity::HmacSha512_256,
        _ => return None,
    };
    Some(EspSuite::Cbc { cipher, integrity })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_survives_a_round_trip() {
        for candidate in EspSuite::all() {
            assert_eq!(suite(names(candidate)), Some(candidate));
        }
    }

    #[test]
    fn a_counter_mode_with_an_integrity_algorithm_or_another_key_length_is_no_suite() {
        let full = names(EspSuite::Gcm { key: GcmKeyLen::Bits128 });
        assert_eq!(suite(Names { authentication: Some(AuthenticationAlgorithm::HMAC_SHA1), ..full }), None);
        // The key length counts the key only, not the salt.
        assert_eq!(suite(Names { key_length: Some(160), ..full }), None);
        assert_eq!(suite(Names { key_length: None, ..full }), None);
    }

    #[test]
    fn a_missing_algorithm_or_key_length_names_no_suite() {
        let full = names(EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 });
        assert_eq!(suite(Names { key_length: None, ..full }), None);
        assert_eq!(suite(Names { authentication: None, ..full }), None);
        assert_eq!(suite(Names { key_length: Some(127), ..full }), None);
    }
}
