//! What one side of a key agreement costs: a fresh key pair, and the shared secret.

use criterion::{Criterion, criterion_group, criterion_main};
use crypto::{DhGroup, DhSecret, SeededRandom};
use std::time::Duration;

fn diffie_hellman(criterion: &mut Criterion) {
    let mut random = SeededRandom::new(1);
    for group in DhGroup::ALL {
        let mut bench = criterion.benchmark_group(format!("{group:?}"));
        bench
            .sample_size(10)
            .warm_up_time(Duration::from_millis(100))
            .measurement_time(Duration::from_millis(400));
        let mut generate = || DhSecret::generate(group, &mut random).expect("memory is there");
        let (ours, peer) = (generate(), generate());
        bench.bench_function("generate", |bencher| bencher.iter(&mut generate));
        bench.bench_function("shared", |bencher| {
            bencher.iter(|| ours.shared(peer.public()).expect("an honest peer"))
        });
        bench.finish();
    }
}

criterion_group!(benches, diffie_hellman);
criterion_main!(benches);
