//! Fresh keys.

use crypto::{CbcCipher, EspSuite, Random, Secret};

/// So many random octets.
pub(super) fn random_secret(length: usize, random: &mut dyn Random) -> Secret {
    let mut octets = vec![0; length];
    random.fill(&mut octets);
    Secret::new(octets)
}

/// A key of the cipher of a suite.
pub(super) fn cipher_key(suite: EspSuite, random: &mut dyn Random) -> Secret {
    match suite {
        EspSuite::Cbc { cipher, .. } => cbc_key(cipher, random),
        EspSuite::Gcm { .. } => random_secret(suite.cipher_key_len(), random),
    }
}

/// A key of a cipher, not a weak one.
pub(super) fn cbc_key(cipher: CbcCipher, random: &mut dyn Random) -> Secret {
    let mut octets = vec![0; cipher.key_len()];
    loop {
        random.fill(&mut octets);
        //= https://www.rfc-editor.org/rfc/rfc6407#section-5.6.1.1
        //# DES keys will consist of 64 bits (the 56 key bits with parity bits).
        if matches!(cipher, CbcCipher::Des | CbcCipher::TripleDes) {
            octets.iter_mut().for_each(|octet| *octet ^= u8::from(octet.count_ones() % 2 == 0));
        }
        if !cipher.is_weak_key(&octets) {
            return Secret::new(octets);
        }
    }
}
