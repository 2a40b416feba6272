//! Key material of phase 1 (RFC 2409 section 5 and appendix B).

use crypto::{CbcCipher, Digest, Hash, PrfKey, Secret};
use wire::isakmp::{Cookie, MessageId};

/// SKEYID for pre-shared key authentication.
//= https://www.rfc-editor.org/rfc/rfc2409#section-5
//# For pre-shared keys:       SKEYID = prf(pre-shared-key, Ni_b |
//# Nr_b)
pub(super) fn skeyid_of_pre_shared_key(hash: Hash, key: &Secret, nonce_i: &[u8], nonce_r: &[u8]) -> Secret {
    hash.prf(key.expose(), &[nonce_i, nonce_r])
}

/// Everything that phase 1 derives from SKEYID and the Diffie-Hellman secret.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    pub(super) hash: Hash,
    pub(super) skeyid: PrfKey,
    pub(super) skeyid_d: Secret,
    pub(super) skeyid_a: Secret,
    pub(super) protection: Protection,
}

/// No key of the cipher could be taken out of SKEYID_e that is not weak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoStrongKey;

impl Keys {
    /// Derives SKEYID_d, SKEYID_a, SKEYID_e and the encryption key.
    pub(super) fn derive(
        hash: Hash,
        cipher: CbcCipher,
        skeyid: &Secret,
        shared: &Secret,
        cookie_i: Cookie,
        cookie_r: Cookie,
    ) -> Result<Self, NoStrongKey> {
        let prf = PrfKey::new(hash, skeyid.expose());
        let [skeyid_d, skeyid_a, skeyid_e] = skeyids(&prf, shared, cookie_i, cookie_r);
        let key = encryption_key(hash, cipher, &skeyid_e)?;
        Ok(Self { hash, skeyid: prf, skeyid_d, skeyid_a, protection: Protection { hash, cipher, key } })
    }

    /// `prf(SKEYID, parts)`, which HASH_I and HASH_R are.
    pub(super) fn prf(&self, parts: &[&[u8]]) -> Secret {
        self.skeyid.prf(parts)
    }
}

/// SKEYID_d, SKEYID_a, SKEYID_e.
//= https://www.rfc-editor.org/rfc/rfc2409#section-5
//# SKEYID_d = prf(SKEYID, g^xy | CKY-I | CKY-R | 0)
//# SKEYID_a = prf(SKEYID, SKEYID_d | g^xy | CKY-I | CKY-R | 1)
//# SKEYID_e = prf(SKEYID, SKEYID_a | g^xy | CKY-I | CKY-R | 2)
pub(super) fn skeyids(prf: &PrfKey, shared: &Secret, cookie_i: Cookie, cookie_r: Cookie) -> [Secret; 3] {
    let g_xy = shared.expose();
    let skeyid_d = prf.prf(&[g_xy, &cookie_i.0, &cookie_r.0, &[0]]);
    let skeyid_a = prf.prf(&[skeyid_d.expose(), g_xy, &cookie_i.0, &cookie_r.0, &[1]]);
    let skeyid_e = prf.prf(&[skeyid_a.expose(), g_xy, &cookie_i.0, &cookie_r.0, &[2]]);
    [skeyid_d, skeyid_a, skeyid_e]
}

/// The key of the cipher.
pub(super) fn encryption_key(
    hash: Hash,
    cipher: CbcCipher,
    skeyid_e: &Secret,
) -> Result<Secret, NoStrongKey> {
    let length = cipher.key_len();
    if cipher == CbcCipher::Des {
        //= https://www.rfc-editor.org/rfc/rfc2409#appendix-B
        //# The key for DES-CBC is derived from the first eight (8) non-weak and
        //# non-semi-weak (see Appendix A) bytes of SKEYID_e.
        let strong = skeyid_e.expose().windows(length).find(|key| !cipher.is_weak_key(key));
        return strong.map(Secret::from_slice).ok_or(NoStrongKey);
    }
    let key = if skeyid_e.len() >= length {
        Secret::from_slice(&skeyid_e.expose()[..length])
    } else {
        expand(hash, skeyid_e, length)
    };
    if cipher.is_weak_key(key.expose()) { Err(NoStrongKey) } else { Ok(key) }
}

/// `K1 | K2 | ...`, cut to `length`.
//= https://www.rfc-editor.org/rfc/rfc2409#appendix-B
//# K1 = prf(SKEYID_e, 0)
//# K2 = prf(SKEYID_e, K1)
//# K3 = prf(SKEYID_e, K2)
fn expand(hash: Hash, skeyid_e: &Secret, length: usize) -> Secret {
    let prf = PrfKey::new(hash, skeyid_e.expose());
    // Sized once, so that no partial copy of the key is left behind by growth.
    let mut material = Vec::with_capacity(length + hash.output_len());
    let mut block = prf.prf(&[&[0]]);
    while material.len() < length {
        material.extend_from_slice(block.expose());
        block = prf.prf(&[block.expose()]);
    }
    let whole = Secret::new(material);
    Secret::from_slice(&whole.expose()[..length])
}

/// Encryption of ISAKMP messages: cipher and key. The IV belongs to each exchange.
#[derive(Clone, Debug)]
pub(super) struct Protection {
    pub(super) hash: Hash,
    pub(super) cipher: CbcCipher,
    pub(super) key: Secret,
}

/// One cipher block: an IV, or the last ciphertext block that becomes the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Iv {
    octets: [u8; 16],
    length: u8,
}

impl Iv {
    fn new(block: &[u8]) -> Self {
        let mut octets = [0; 16];
        octets[..block.len()].copy_from_slice(block);
        Self { octets, length: u8::try_from(block.len()).expect("a block has at most 16 octets") }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..self.length.into()]
    }
}

/// The ciphertext is empty or not a whole number of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotWholeBlocks;

impl Protection {
    /// The IV of the first encrypted message of phase 1.
    //= https://www.rfc-editor.org/rfc/rfc2409#appendix-B
    //# In phase 1, material for the initialization vector (IV material) for
    //# CBC mode encryption algorithms is derived from a hash of a
    //# concatenation of the initiator's public Diffie-Hellman value and the
    //# responder's public Diffie-Hellman value using the negotiated hash
    //# algorithm.
    pub(super) fn phase1_iv(&self, g_xi: &[u8], g_xr: &[u8]) -> Iv {
        self.iv_of(&self.hash.digest(&[g_xi, g_xr]))
    }

    /// The IV of the first message of an exchange that the SA protects.
    //= https://www.rfc-editor.org/rfc/rfc2409#appendix-B
    //# In phase 2, material for the initialization vector for CBC mode
    //# encryption of the first message of a Quick Mode exchange is derived
    //# from a hash of a concatenation of the last phase 1 CBC output block
    //# and the phase 2 message id using the negotiated hash algorithm.
    pub(super) fn phase2_iv(&self, last_phase1_block: &Iv, message_id: MessageId) -> Iv {
        self.iv_of(&self.hash.digest(&[last_phase1_block.octets(), &message_id.0.to_be_bytes()]))
    }

    fn iv_of(&self, material: &Digest) -> Iv {
        Iv::new(&material[..self.cipher.block_len()])
    }

    /// Pads and encrypts `payloads`; returns the ciphertext and the IV of the next message.
    //= https://www.rfc-editor.org/rfc/rfc2409#appendix-B
    //# Each message
    //# should be padded up to the nearest block size using bytes containing
    //# 0x00.
    pub(super) fn seal(&self, iv: &Iv, payloads: &[u8]) -> (Vec<u8>, Iv) {
        let block = self.cipher.block_len();
        let padded = payloads.len().max(1).next_multiple_of(block);
        let mut data = Vec::with_capacity(padded);
        data.extend_from_slice(payloads);
        data.resize(padded, 0);
        self.cipher
            .encrypt_in_place(self.key.expose(), iv.octets(), &mut data)
            .expect("key, IV and padded data have the lengths that this cipher asked for");
        let next = last_block(&data, block);
        (data, next)
    }

    /// Decrypts a message body; returns the payloads with their padding and the IV of the next message.
    pub(super) fn open(&self, iv: &Iv, body: &[u8]) -> Result<(Vec<u8>, Iv), NotWholeBlocks> {
        let block = self.cipher.block_len();
        if body.is_empty() || !body.len().is_multiple_of(block) {
            return Err(NotWholeBlocks);
        }
        let next = last_block(body, block);
        let mut data = body.to_vec();
        self.cipher
            .decrypt_in_place(self.key.expose(), iv.octets(), &mut data)
            .map_err(|_| NotWholeBlocks)?;
        Ok((data, next))
    }
}

//= https://www.rfc-editor.org/rfc/rfc2409#appendix-B
//# Subsequent
//# messages MUST use the last CBC encryption block from the previous
//# message as their initialization vector.
fn last_block(ciphertext: &[u8], block: usize) -> Iv {
    Iv::new(&ciphertext[ciphertext.len() - block..])
}
