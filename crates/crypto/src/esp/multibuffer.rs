//! The backend on intel-ipsec-mb: many packets in the vector lanes of one core.
//!
//! This is the crate's only `unsafe` module. Its C half, `multibuffer/shim.c`, takes batches of whole packets, or for GCM one.
#![expect(unsafe_code, reason = "calls C")]

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr::NonNull;

use super::{EspKeyError, EspSuite, Frame, MAX_FRAME_LEN, Verdict};
use crate::{CbcCipher, Integrity};

/// Packets handed to the C half at a time; `BATCH` of the shim.
const BATCH: usize = 64;

/// As `struct multibuffer_packet` of the shim.
#[repr(C)]
#[derive(Clone, Copy)]
struct Packet {
    bytes: *mut u8,
    key: *const c_void,
    encrypted_len: u32,
    authentic: u32,
}

unsafe extern "C" {
    fn multibuffer_manager_new() -> *mut c_void;
    fn multibuffer_manager_free(manager: *mut c_void);
    fn multibuffer_key_new(
        manager: *mut c_void,
        cipher: u32,
        key_len: u32,
        integrity: u32,
        iv_len: u32,
        icv_len: u32,
        cipher_key: *const u8,
        integrity_key: *const u8,
        integrity_key_len: usize,
    ) -> *mut c_void;
    fn multibuffer_key_free(key: *mut c_void);
    fn multibuffer_seal(manager: *mut c_void, packets: *mut Packet, count: usize) -> c_int;
    fn multibuffer_open(manager: *mut c_void, packets: *mut Packet, count: usize) -> c_int;
    fn multibuffer_gcm_seal(key: *const c_void, bytes: *mut u8, encrypted_len: usize);
    fn multibuffer_gcm_open(
        key: *const c_void,
        from: *const u8,
        text: *mut u8,
        encrypted_len: usize,
    ) -> c_int;
}

/// One of the two above.
type Transform = unsafe extern "C" fn(*mut c_void, *mut Packet, usize) -> c_int;

/// The library's scheduler: large, so one per thread, not per key. It holds nothing between two calls.
struct Manager(NonNull<c_void>);

impl Manager {
    fn new() -> Option<Self> {
        // SAFETY: no arguments; returns a manager of our own or null.
        NonNull::new(unsafe { multibuffer_manager_new() }).map(Self)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        // SAFETY: made by `multibuffer_manager_new`, freed only here.
        unsafe { multibuffer_manager_free(self.0.as_ptr()) }
    }
}

thread_local! {
    static MANAGER: RefCell<Option<Manager>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's manager; `None` when the machine cannot have one.
fn with_manager<T>(work: impl FnOnce(&Manager) -> T) -> Option<T> {
    MANAGER.with_borrow_mut(|slot| {
        if slot.is_none() {
            *slot = Manager::new();
        }
        slot.as_ref().map(work)
    })
}

/// Whether this processor has what the library needs.
pub(super) fn is_available() -> bool {
    with_manager(|_| ()).is_some()
}

/// Key schedules and HMAC states in the library's layout; never changed after construction. Wiped on drop.
pub(super) struct Key(NonNull<c_void>);

// SAFETY: the memory behind the pointer is owned by this value and only read between construction and drop.
unsafe impl Send for Key {}
// SAFETY: as above; concurrent reads are fine.
unsafe impl Sync for Key {}

impl Key {
    /// The caller checked the lengths of both keys against the suite.
    pub(super) fn new(suite: EspSuite, cipher_key: &[u8], integrity_key: &[u8]) -> Result<Self, EspKeyError> {
        assert_eq!(
            (cipher_key.len(), integrity_key.len()),
            (suite.cipher_key_len(), suite.integrity_key_len())
        );
        // Numbers of the enums in the shim.
        let (cipher, integrity) = match suite {
            EspSuite::Cbc { cipher, integrity } => {
                let cipher = match cipher {
                    CbcCipher::Des => 0,
                    CbcCipher::TripleDes => 1,
                    CbcCipher::Aes128 | CbcCipher::Aes192 | CbcCipher::Aes256 => 2,
                };
                let integrity = match integrity {
                    Integrity::HmacMd5_96 => 1,
                    Integrity::HmacSha1_96 => 2,
                    Integrity::HmacSha256_128 => 3,
                    Integrity::HmacSha384_192 => 4,
                    Integrity::HmacSha512_256 => 5,
                };
                (cipher, integrity)
            }
            EspSuite::Gcm { .. } => (3, 0),
        };
        let key_len = (suite.cipher_key_len() - suite.salt_len()) as u32;
        // SAFETY: the manager is valid; the shim reads `key_len` octets of the cipher key and for GCM four more, and
        // the given number of octets of the integrity key, which is what the assertion above guarantees.
        let key = with_manager(|manager| unsafe {
            multibuffer_key_new(
                manager.0.as_ptr(),
                cipher,
                key_len,
                integrity,
                suite.iv_len() as u32,
                suite.icv_len() as u32,
                cipher_key.as_ptr(),
                integrity_key.as_ptr(),
                integrity_key.len(),
            )
        });
        let key = key.ok_or(EspKeyError::BackendMissing)?;
        NonNull::new(key).map(Self).ok_or(EspKeyError::Library)
    }

    /// Seals one packet of a GCM key in place.
    #[inline]
    pub(super) fn seal_gcm(&self, suite: EspSuite, bytes: &mut [u8]) -> Verdict {
        assert!(!suite.is_batched());
        let Some(range) = suite.encrypted_range(bytes.len()) else { return Verdict::BadLength };
        // SAFETY: the key is one of GCM by the assertion (the caller passes the suite it was made with), and `bytes` is
        // of exactly `8 + 8 + encrypted_len + 16` octets by `encrypted_range`.
        unsafe { multibuffer_gcm_seal(self.0.as_ptr(), bytes.as_mut_ptr(), range.len()) };
        Verdict::Ok
    }

    /// Opens one packet of a GCM key; its plaintext goes to `text`, which is as long as the packet's encrypted part.
    #[inline]
    pub(super) fn open_gcm(&self, suite: EspSuite, packet: &[u8], text: &mut [u8]) -> Verdict {
        assert!(!suite.is_batched());
        let Some(range) = suite.encrypted_range(packet.len()) else { return Verdict::BadLength };
        assert_eq!(range.len(), text.len());
        // SAFETY: as above; the library writes `encrypted_len` octets, which is the length of `text`.
        let authentic =
            unsafe { multibuffer_gcm_open(self.0.as_ptr(), packet.as_ptr(), text.as_mut_ptr(), range.len()) };
        if authentic == 1 { Verdict::Ok } else { Verdict::BadIcv }
    }
}

/// Seals every frame that fits the suite, each under the key that `key_of` names for its position.
pub(super) fn seal<'k>(suite: EspSuite, key_of: impl Fn(usize) -> &'k Key, frames: &mut [Frame<'_>]) {
    run(suite, key_of, frames, multibuffer_seal, |_| Verdict::Ok);
}

/// Opens every frame that fits the suite, each under the key that `key_of` names for its position.
pub(super) fn open<'k>(suite: EspSuite, key_of: impl Fn(usize) -> &'k Key, frames: &mut [Frame<'_>]) {
    run(suite, key_of, frames, multibuffer_open, |packet| {
        if packet.authentic == 1 { Verdict::Ok } else { Verdict::BadIcv }
    });
}

/// Every key has to be one of the suite.
fn run<'k>(
    suite: EspSuite,
    key_of: impl Fn(usize) -> &'k Key,
    frames: &mut [Frame<'_>],
    transform: Transform,
    verdict: impl Fn(&Packet) -> Verdict,
) {
    for (turn, frames) in frames.chunks_mut(BATCH).enumerate() {
        let mut packets = [const { MaybeUninit::<Packet>::uninit() }; BATCH];
        let mut count = 0;
        for (at, frame) in frames.iter_mut().enumerate() {
            let Some(range) = suite.encrypted_range(frame.bytes.len()) else {
                frame.verdict = Verdict::BadLength;
                continue;
            };
            assert!(frame.bytes.len() <= MAX_FRAME_LEN);
            frame.verdict = Verdict::Pending;
            packets[count].write(Packet {
                bytes: frame.bytes.as_mut_ptr(),
                key: key_of(turn * BATCH + at).0.as_ptr(),
                encrypted_len: range.len() as u32,
                authentic: 0,
            });
            count += 1;
        }
        // SAFETY: the first `count` packets are initialised.
        let packets = unsafe { std::slice::from_raw_parts_mut(packets.as_mut_ptr().cast::<Packet>(), count) };
        // SAFETY: manager and keys are valid and of the same machine; each of the packets points to a frame exclusively
        // borrowed until after the call, of exactly `8 + iv_len + encrypted_len + icv_len` octets by `encrypted_range`, the
        // lengths with which all these keys were made.
        let failed =
            with_manager(|manager| unsafe { transform(manager.0.as_ptr(), packets.as_mut_ptr(), count) });
        assert_eq!(failed, Some(0), "the library takes packets whose lengths were checked");
        let judged = frames.iter_mut().filter(|frame| frame.verdict == Verdict::Pending);
        for (frame, packet) in judged.zip(&*packets) {
            frame.verdict = verdict(packet);
        }
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        // SAFETY: made by `multibuffer_key_new`, freed only here.
        unsafe { multibuffer_key_free(self.0.as_ptr()) }
    }
}
