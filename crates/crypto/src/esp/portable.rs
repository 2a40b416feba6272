//! The backend that works everywhere: one packet after the other.

use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::error::ErrorStack;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::{EspKeyError, EspSuite, GcmKeyLen, HEADER_LEN, Verdict};
use crate::cbc_cipher::CbcKey;
use crate::{PrfKey, Secret};

const SALT_LEN: usize = 4;
const NONCE_LEN: usize = 12;

/// What lanes share.
#[expect(clippy::large_enum_variant, reason = "one per security association, behind an Arc")]
pub(super) enum Key {
    Cbc { cipher: CbcKey, integrity: PrfKey },
    Gcm { len: GcmKeyLen, key: Secret, salt: [u8; SALT_LEN] },
}

impl Key {
    /// The caller checked the lengths.
    pub(super) fn new(suite: EspSuite, cipher_key: &[u8], integrity_key: &[u8]) -> Self {
        match suite {
            EspSuite::Cbc { cipher, integrity } => Self::Cbc {
                cipher: CbcKey::new(cipher, cipher_key).expect("the caller checked the length"),
                integrity: PrfKey::new(integrity.hash(), integrity_key),
            },
            EspSuite::Gcm { key: len } => {
                let (key, salt) = cipher_key.split_at(len.key_len());
                let salt = salt.try_into().expect("the caller checked the length");
                Self::Gcm { len, key: Secret::from_slice(key), salt }
            }
        }
    }
}

/// What a lane keeps for itself: OpenSSL's GCM context is both key schedule and scratch space.
pub(super) enum Lane {
    Cbc,
    Gcm(CipherCtx),
}

impl Lane {
    pub(super) fn sealing(key: &Key) -> Result<Self, EspKeyError> {
        Self::prepare(key, |context, cipher, key| context.encrypt_init(Some(cipher), Some(key), None))
    }

    pub(super) fn opening(key: &Key) -> Result<Self, EspKeyError> {
        Self::prepare(key, |context, cipher, key| context.decrypt_init(Some(cipher), Some(key), None))
    }

    fn prepare(
        key: &Key,
        init: impl Fn(&mut CipherCtx, &openssl::cipher::CipherRef, &[u8]) -> Result<(), ErrorStack>,
    ) -> Result<Self, EspKeyError> {
        let Key::Gcm { len, key, .. } = key else { return Ok(Self::Cbc) };
        let cipher = match len {
            GcmKeyLen::Bits128 => Cipher::aes_128_gcm(),
            GcmKeyLen::Bits192 => Cipher::aes_192_gcm(),
            GcmKeyLen::Bits256 => Cipher::aes_256_gcm(),
        };
        let mut context = CipherCtx::new().map_err(|_| EspKeyError::Library)?;
        init(&mut context, cipher, key.expose()).map_err(|_| EspKeyError::Library)?;
        Ok(Self::Gcm(context))
    }

    /// Seals one packet whose length fits the suite.
    pub(super) fn seal(&mut self, suite: EspSuite, key: &Key, bytes: &mut [u8]) -> Verdict {
        let Some(Parts { header, iv, encrypted, icv }) = Parts::of(suite, bytes) else {
            return Verdict::BadLength;
        };
        match (key, self) {
            (Key::Cbc { cipher, integrity }, _) => {
                cipher.encrypt(iv, encrypted);
                icv.copy_from_slice(&integrity.tag(&[header, iv, encrypted])[..icv.len()]);
                Verdict::Ok
            }
            (Key::Gcm { salt, .. }, Self::Gcm(context)) => {
                let nonce = nonce(salt, iv);
                gcm_seal(context, &nonce, header, encrypted, icv)
                    .expect("OpenSSL encrypts under a key it took");
                Verdict::Ok
            }
            (Key::Gcm { .. }, Self::Cbc) => unreachable!("the lane was prepared with this key"),
        }
    }

    /// Opens one packet whose length fits the suite.
    pub(super) fn open(&mut self, suite: EspSuite, key: &Key, bytes: &mut [u8]) -> Verdict {
        let Some(Parts { header, iv, encrypted, icv }) = Parts::of(suite, bytes) else {
            return Verdict::BadLength;
        };
        match (key, self) {
            (Key::Cbc { cipher, integrity }, _) => {
                let tag = integrity.tag(&[header, iv, encrypted]);
                if !bool::from(tag[..icv.len()].ct_eq(icv)) {
                    return Verdict::BadIcv;
                }
                cipher.decrypt(iv, encrypted);
                Verdict::Ok
            }
            (Key::Gcm { salt, .. }, Self::Gcm(context)) => {
                let nonce = nonce(salt, iv);
                if gcm_open(context, &nonce, header, encrypted, icv).is_err() {
                    // GCM decrypts while it authenticates: what stands there now must not be used.
                    encrypted.zeroize();
                    return Verdict::BadIcv;
                }
                Verdict::Ok
            }
            (Key::Gcm { .. }, Self::Cbc) => unreachable!("the lane was prepared with this key"),
        }
    }
}

struct Parts<'a> {
    header: &'a [u8],
    iv: &'a [u8],
    encrypted: &'a mut [u8],
    icv: &'a mut [u8],
}

impl<'a> Parts<'a> {
    fn of(suite: EspSuite, bytes: &'a mut [u8]) -> Option<Self> {
        let range = suite.encrypted_range(bytes.len())?;
        let (rest, icv) = bytes.split_at_mut(range.end);
        let (clear, encrypted) = rest.split_at_mut(range.start);
        let (header, iv) = clear.split_at(HEADER_LEN);
        Some(Self { header, iv, encrypted, icv })
    }
}

//= https://www.rfc-editor.org/rfc/rfc4106#section-4
//# The salt field is a four-octet value that is assigned at the
//# beginning of the security association, and then remains constant
//# for the life of the security association.
fn nonce(salt: &[u8; SALT_LEN], iv: &[u8]) -> [u8; NONCE_LEN] {
    let mut nonce = [0; NONCE_LEN];
    nonce[..SALT_LEN].copy_from_slice(salt);
    nonce[SALT_LEN..].copy_from_slice(iv);
    nonce
}

fn gcm_seal(
    context: &mut CipherCtx,
    nonce: &[u8],
    header: &[u8],
    data: &mut [u8],
    icv: &mut [u8],
) -> Result<(), ErrorStack> {
    context.encrypt_init(None, None, Some(nonce))?;
    context.cipher_update(header, None)?;
    context.cipher_update_inplace(data, data.len())?;
    context.cipher_final(&mut [])?;
    context.tag(icv)
}

fn gcm_open(
    context: &mut CipherCtx,
    nonce: &[u8],
    header: &[u8],
    data: &mut [u8],
    icv: &[u8],
) -> Result<(), ErrorStack> {
    context.decrypt_init(None, None, Some(nonce))?;
    context.cipher_update(header, None)?;
    context.cipher_update_inplace(data, data.len())?;
    context.set_tag(icv)?;
    context.cipher_final(&mut [])?;
    Ok(())
}
