//! Packets per second of one core: the engine alone, without any I/O.
//!
//! `cargo bench -p dataplane` prints the time of a batch of 64 packets and, as throughput, packets per second.

mod support;

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crypto::esp::EspSuite;
use dataplane::Origin;

use support::{BATCH, FORWARDED, Lane, frames};

fn suites() -> impl Iterator<Item = EspSuite> {
    EspSuite::all().filter(|suite| suite.wants_random_iv())
}

fn name(suite: EspSuite) -> String {
    match suite {
        EspSuite::Cbc { cipher, integrity } => format!("{cipher:?}-{integrity:?}"),
        EspSuite::Gcm { key } => format!("Gcm-{key:?}"),
    }
}

fn suites_and_sizes(criterion: &mut Criterion) {
    for suite in suites() {
        let tables = support::tables(suite, 1);
        for (direction, decrypt) in [("encrypt", false), ("decrypt", true)] {
            let mut group = criterion.benchmark_group(format!("{direction}/{}", name(suite)));
            group.throughput(Throughput::Elements(BATCH as u64));
            for length in [64, 512, 1400] {
                let mut bench = Lane::new();
                let mut input = frames(length);
                if decrypt {
                    input = bench.encrypted(&tables, &input);
                }
                let origin = if decrypt { Origin::Wire } else { FORWARDED };
                group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
                    bencher.iter(|| bench.run(&tables, origin, &input));
                });
            }
        }
    }
}

/// What the engine costs without cryptography: packets that leave in clear.
fn clear(criterion: &mut Criterion) {
    let suite = suites().next().expect("there are suites");
    let tables = support::tables(suite, 1);
    let mut group = criterion.benchmark_group("clear");
    group.throughput(Throughput::Elements(BATCH as u64));
    for length in [64, 512, 1400] {
        let mut input = frames(length);
        input.iter_mut().for_each(|frame| frame[26] = 99);
        let mut bench = Lane::new();
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            bencher.iter(|| bench.run(&tables, FORWARDED, &input));
        });
    }
}

fn configuration() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .sample_size(20)
        .without_plots()
}

criterion_group! { name = engine; config = configuration(); targets = clear, suites_and_sizes }
criterion_main!(engine);
