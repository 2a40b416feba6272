//! ESP batches on one core: every backend, the suites people use, three packet sizes, sealing and opening.
//!
//! `cargo bench -p crypto`. An element is a packet, so criterion's `elem/s` is packets per second; the decision page
//! `docs/decisions/0001-crypto-libraries.md` keeps a table.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crypto::{
    Backend, CbcCipher, EspKey, EspOpener, EspSealer, EspSuite, Frame, GcmKeyLen, Integrity, IvSource,
    SeededRandom,
};

/// What the packet engine hands over at a time.
const BATCH: usize = 64;

fn suites() -> Vec<(&'static str, EspSuite)> {
    let cbc = |cipher, integrity| EspSuite::Cbc { cipher, integrity };
    vec![
        ("3des-sha1", cbc(CbcCipher::TripleDes, Integrity::HmacSha1_96)),
        ("aes128-md5", cbc(CbcCipher::Aes128, Integrity::HmacMd5_96)),
        ("aes128-sha1", cbc(CbcCipher::Aes128, Integrity::HmacSha1_96)),
        ("aes256-sha256", cbc(CbcCipher::Aes256, Integrity::HmacSha256_128)),
        ("aes256-sha512", cbc(CbcCipher::Aes256, Integrity::HmacSha512_256)),
        ("aes128-gcm", EspSuite::Gcm { key: GcmKeyLen::Bits128 }),
        ("aes256-gcm", EspSuite::Gcm { key: GcmKeyLen::Bits256 }),
    ]
}

fn esp(criterion: &mut Criterion) {
    for (name, suite) in suites() {
        for direction in ["seal", "open"] {
            let mut group = criterion.benchmark_group(format!("{name}/{direction}"));
            group
                .sample_size(20)
                .warm_up_time(Duration::from_millis(200))
                .measurement_time(Duration::from_millis(800));
            for backend in Backend::available() {
                for payload_len in [64, 512, 1400] {
                    group.throughput(Throughput::Elements(BATCH as u64));
                    let id = BenchmarkId::new(format!("{backend:?}"), payload_len);
                    let key = prepare(*backend, suite);
                    let mut packets = vec![vec![0x11; suite.frame_len(payload_len)]; BATCH];
                    let mut sealer = EspSealer::from_key(key.clone()).expect("lengths fit the suite");
                    if direction == "seal" {
                        group.bench_function(id, |bencher| {
                            bencher.iter(|| sealer.seal(&mut frames(black_box(&mut packets))))
                        });
                        continue;
                    }
                    sealer.seal(&mut frames(&mut packets));
                    let mut opener = EspOpener::from_key(key).expect("lengths fit the suite");
                    group.bench_function(id, |bencher| {
                        bencher.iter_batched_ref(
                            || packets.clone(),
                            |packets| opener.open(&mut frames(black_box(packets))),
                            BatchSize::SmallInput,
                        )
                    });
                }
            }
            group.finish();
        }
    }
}

fn prepare(backend: Backend, suite: EspSuite) -> std::sync::Arc<EspKey> {
    let (cipher_key, integrity_key) =
        (vec![0x42; suite.cipher_key_len()], vec![0x17; suite.integrity_key_len()]);
    EspKey::with_backend(backend, suite, &cipher_key, &integrity_key).expect("lengths fit the suite")
}

fn frames(packets: &mut [Vec<u8>]) -> [Frame<'_>; BATCH] {
    let mut packets = packets.iter_mut();
    std::array::from_fn(|_| Frame::new(packets.next().expect("as many packets as frames")))
}

fn initialization_vectors(criterion: &mut Criterion) {
    let mut source = IvSource::new(&mut SeededRandom::new(1));
    let mut group = criterion.benchmark_group("iv");
    group.throughput(Throughput::Elements(1));
    group.bench_function("16 octets", |bencher| {
        bencher.iter(|| {
            let mut iv = [0; 16];
            source.fill(&mut iv);
            iv
        })
    });
    group.finish();
}

criterion_group!(benches, esp, initialization_vectors);
criterion_main!(benches);
