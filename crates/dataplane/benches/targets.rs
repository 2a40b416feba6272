//! The engine alone on one core against what it should reach, measured interleaved in one run.
//!
//! `cargo bench -p dataplane --bench targets` prints two tables: AES-GCM against the library's own call, and CBC with HMAC
//! against OpenSSL one packet at a time. What a packet costs as tables grow: `cargo xtask bench data-path --flat`.

mod support;

use std::hint::black_box;
use std::time::Duration;

use crypto::esp::{EspSealer, EspSuite, Frame};
use dataplane::Origin;
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;
use openssl::sha::Sha1;

use support::{BATCH, CBC, FORWARDED, GCM, Lane, encrypted_batches, frames, key, tables};

const ROUNDS: usize = 15;

fn main() {
    // `cargo test --benches` only asks whether it runs.
    let quick = std::env::args().any(|argument| argument == "--test");
    let slice = if quick { Duration::ZERO } else { Duration::from_millis(15) };
    println!("nanoseconds a packet, medians of {ROUNDS} interleaved rounds\n");
    // One table alone: gcm or cbc.
    let wanted = |name: &str| {
        let named = |argument: &String| ["gcm", "cbc"].contains(&argument.as_str());
        std::env::args().find(named).is_none_or(|argument| argument == name)
    };
    if wanted("gcm") {
        against_the_library(slice);
    }
    if wanted("cbc") {
        against_openssl(slice);
    }
}

/// A way to spend time on batches: returns the time that counts, and the packets.
type Work<'a> = Box<dyn FnMut() -> (Duration, usize) + 'a>;

/// The processor time of this thread: what others do on the machine does not count.
struct Clock(Duration);

impl Clock {
    fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Self(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0 - self.0
    }
}

/// A plain function as work.
fn timed<'a>(mut batch: impl FnMut() + 'a) -> Work<'a> {
    Box::new(move || {
        let start = Clock::now();
        (0..16).for_each(|_| batch());
        (start.elapsed(), 16 * BATCH)
    })
}

/// Nanoseconds a packet of each, taken in turns.
fn measure(slice: Duration, candidates: &mut [Work<'_>]) -> Vec<f64> {
    let mut samples = vec![Vec::new(); candidates.len()];
    for _ in 0..ROUNDS {
        for (candidate, samples) in candidates.iter_mut().zip(&mut samples) {
            let (mut spent, mut packets) = (Duration::ZERO, 0);
            while packets == 0 || spent < slice {
                let (time, count) = candidate();
                spent += time;
                packets += count;
            }
            samples.push(spent.as_nanos() as f64 / packets as f64);
        }
    }
    let median = |mut samples: Vec<f64>| {
        samples.sort_by(f64::total_cmp);
        samples[samples.len() / 2]
    };
    samples.into_iter().map(median).collect()
}

fn row(name: &str, own: f64, other: f64, target: f64) {
    let ratio = other / own;
    let verdict = if ratio >= target { "met" } else { "NOT met" };
    println!("{name:<34} {own:>9.1} {other:>9.1} {ratio:>7.2} >= {target:<5} {verdict}");
}

fn against_the_library(slice: Duration) {
    println!("{:<34} {:>9} {:>9} {:>7}", "AES-128-GCM", "engine", "library", "ratio");
    for (length, target) in [(64, 0.7), (512, 0.8), (1400, 0.9)] {
        let frames = frames(length);
        let tables = tables(GCM, 1);
        let mut lane = Lane::new();
        let mut sealer = EspSealer::new(GCM, &key(GCM).0, &key(GCM).1).expect("the suite's lengths");
        let mut packets = vec![vec![7; GCM.frame_len(length)]; BATCH];
        let mut decrypting = Decrypting::new(GCM, &frames);
        let results = measure(
            slice,
            &mut [
                timed(|| lane.run(&tables, FORWARDED, &frames)),
                timed(|| library(&mut sealer, &mut packets)),
                Box::new(|| decrypting.run()),
            ],
        );
        row(&format!("encrypt {length}"), results[0], results[1], target);
        row(&format!("decrypt {length}"), results[2], results[1], target);
    }
    println!();
}

/// The library's call on packets that are ready, in place.
fn library(sealer: &mut EspSealer, packets: &mut [Vec<u8>]) {
    let mut packets = packets.iter_mut();
    let mut frames: [Frame<'_>; BATCH] =
        std::array::from_fn(|_| Frame::new(packets.next().expect("a batch of packets")));
    sealer.seal(black_box(&mut frames));
}

fn against_openssl(slice: Duration) {
    println!("{:<34} {:>9} {:>9} {:>7}", "AES-128-CBC, HMAC-SHA1-96", "engine", "OpenSSL", "ratio");
    for length in [64, 512, 1400] {
        let frames = frames(length);
        let tables = tables(CBC, 1);
        let (mut sender, mut receiver) = (Lane::new(), Lane::new());
        let wires = sender.encrypted(&tables, &frames);
        let mut single = SingleBuffer::new();
        let packet = vec![7; CBC.frame_len(length)];
        let (mut sealed, opened) = (packet.clone(), packet);
        let results = measure(
            slice,
            &mut [
                timed(|| sender.run(&tables, FORWARDED, &frames)),
                timed(|| receiver.run(&tables, Origin::Wire, &wires)),
            ],
        );
        let openssl =
            measure(slice, &mut [timed(|| (0..BATCH).for_each(|_| single.seal(black_box(&mut sealed))))]);
        let opening =
            measure(slice, &mut [timed(|| (0..BATCH).for_each(|_| single.open(black_box(&opened))))]);
        let (encrypt, decrypt) = if length == 1400 { (4.0, 2.5) } else { (0.0, 0.0) };
        row(&format!("encrypt {length}"), results[0], openssl[0], encrypt);
        row(&format!("decrypt {length}"), results[1], opening[0], decrypt);
    }
    println!();
}

/// OpenSSL's ciphers and hash, as fast as one packet at a time goes: nothing is keyed anew.
struct SingleBuffer {
    encrypt: CipherCtx,
    decrypt: CipherCtx,
    inner: Sha1,
    outer: Sha1,
    /// The binding wants a block more than it writes.
    text: Vec<u8>,
}

impl SingleBuffer {
    fn new() -> Self {
        let (cipher_key, integrity_key) = key(CBC);
        let context = |encrypts: bool| {
            let mut context = CipherCtx::new().expect("memory");
            let cipher = Some(Cipher::aes_128_cbc());
            let result = match encrypts {
                true => context.encrypt_init(cipher, Some(&cipher_key), None),
                false => context.decrypt_init(cipher, Some(&cipher_key), None),
            };
            result.expect("OpenSSL has AES");
            context
        };
        let padded = |octet: u8| {
            let mut block = [octet; 64];
            block.iter_mut().zip(&integrity_key).for_each(|(octet, key)| *octet ^= key);
            let mut state = Sha1::new();
            state.update(&block);
            state
        };
        let (inner, outer) = (padded(0x36), padded(0x5c));
        Self { encrypt: context(true), decrypt: context(false), inner, outer, text: vec![0; 2048] }
    }

    fn tag(&self, data: &[u8]) -> [u8; 20] {
        let (mut inner, mut outer) = (self.inner.clone(), self.outer.clone());
        inner.update(data);
        outer.update(&inner.finish());
        outer.finish()
    }

    fn seal(&mut self, packet: &mut [u8]) {
        let end = packet.len() - 12;
        let (clear, encrypted) = packet[..end].split_at_mut(24);
        self.encrypt.encrypt_init(None, None, Some(&clear[8..])).expect("an IV");
        self.encrypt.set_padding(false);
        let length = encrypted.len();
        self.encrypt.cipher_update(encrypted, Some(&mut self.text)).expect("whole blocks");
        encrypted.copy_from_slice(&self.text[..length]);
        let tag = self.tag(&packet[..end]);
        packet[end..].copy_from_slice(&tag[..12]);
    }

    fn open(&mut self, packet: &[u8]) {
        let end = packet.len() - 12;
        let tag = self.tag(&packet[..end]);
        black_box(tag[..12] == packet[end..]);
        let (clear, encrypted) = packet[..end].split_at(24);
        self.decrypt.decrypt_init(None, None, Some(&clear[8..])).expect("an IV");
        self.decrypt.set_padding(false);
        self.decrypt.cipher_update(encrypted, Some(&mut self.text)).expect("whole blocks");
    }
}

/// Packets of a counter-mode key can be decrypted once: many batches, and a new receiver when they are used up.
struct Decrypting {
    suite: EspSuite,
    batches: Vec<Vec<Vec<u8>>>,
    /// Copies of the next ones, made before the clock starts: the packets that the library gets are in a cache near the core, too,
    /// and a lane fetches what arrives before it hands it to the engine.
    near: Vec<Vec<Vec<u8>>>,
}

impl Decrypting {
    /// Octets that the second-level cache holds together with what is made of them.
    const NEAR: usize = 512 * 1024;

    fn new(suite: EspSuite, frames: &[Vec<u8>]) -> Self {
        let batches = encrypted_batches(suite, frames, 256);
        let octets: usize = batches[0].iter().map(Vec::len).sum();
        Self { suite, near: batches[..Self::NEAR / octets].to_vec(), batches }
    }

    fn run(&mut self) -> (Duration, usize) {
        let (tables, mut lane) = (tables(self.suite, 0), Lane::new());
        // Buffers and windows are made by the first batches.
        let (first, rest) = self.batches.split_at(self.batches.len() / 2);
        first.iter().for_each(|batch| lane.run(&tables, Origin::Wire, batch));
        let (mut spent, mut packets) = (Duration::ZERO, 0);
        for batches in rest.chunks_exact(self.near.len()) {
            self.near.clone_from_slice(batches);
            let start = Clock::now();
            self.near.iter().for_each(|batch| lane.run(&tables, Origin::Wire, batch));
            spent += start.elapsed();
            packets += self.near.len() * BATCH;
        }
        (spent, packets)
    }
}
