//! Packets per second of one core: the engine alone, without any I/O.
//!
//! `cargo bench -p dataplane` prints the time of a batch of 64 packets and, as throughput, packets per second.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use crypto::SeededRandom;
use crypto::esp::EspSuite;
use dataplane::*;

const WAN: InterfaceId = InterfaceId(1);
const BATCH: usize = 64;
const NOW: Instant = Instant::from_micros(1_000_000);
const FORWARDED: Origin = Origin::Egress { own: false, injected: false };

fn suites() -> impl Iterator<Item = EspSuite> {
    EspSuite::all().filter(|suite| suite.wants_random_iv())
}

fn name(suite: EspSuite) -> String {
    match suite {
        EspSuite::Cbc { cipher, integrity } => format!("{cipher:?}-{integrity:?}"),
        EspSuite::Gcm { key } => format!("Gcm-{key:?}"),
    }
}

fn sa(suite: EspSuite) -> Arc<GroupSa> {
    GroupSa::new(&SaSettings {
        spi: 4096,
        suite,
        cipher_key: &vec![1; suite.cipher_key_len()],
        integrity_key: &vec![2; suite.integrity_key_len()],
        activate_at: Instant::ZERO,
        hard_expiry: Instant::FAR_FUTURE,
        sender_ids: None,
        pseudo_clock: None,
    })
    .expect("the key has the suite's length")
}

/// `count` policies, of which the last one matches the benchmark's packets.
fn tables(suite: EspSuite, count: u32) -> Tables {
    let sa = sa(suite);
    let policy = |selector| Policy { selector, sas: vec![sa.clone()], drop_clear_from: Instant::ZERO };
    let other = |index: u32| {
        let net =
            |base: u32| ipnet::Ipv4Net::new((base | index << 8).into(), 24).expect("24 is a prefix length");
        Selector::between(net(0x0a00_0000).into(), net(0x6400_0000).into())
    };
    let matching =
        Selector::between("31.1.0.0/16".parse().expect("a net"), "41.1.0.0/16".parse().expect("a net"));
    let vpn = Vpn {
        name: "bench".into(),
        interfaces: vec![WAN],
        binding: Binding::Zone,
        registration: Registration::Registered,
        df_bit: DfBit::Clear,
        tunnel_mtu: None,
        policies: (1..count).map(other).chain([matching]).map(policy).collect(),
        exclude: vec![],
        fail_open: vec![],
        counters: Arc::default(),
    };
    let mut builder = TablesBuilder::new();
    builder.interface(WAN, 9000).default_policy(DefaultPolicy::PermitAll).vpn(vpn);
    builder.build()
}

/// UDP packets of `length` octets, each of another flow.
fn frames(length: usize, flows: u32) -> Vec<Vec<u8>> {
    (0..flows)
        .map(|flow| {
            let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
            frame.extend([0x45, 0]);
            frame.extend((length as u16).to_be_bytes());
            frame.extend([0, 1, 0, 0, 64, 17, 0, 0, 31, 1, 1, 2, 41, 1]);
            frame.extend((flow as u16 ^ 0x0102).to_be_bytes());
            frame.extend([0x10, 0, 0x20, 0]);
            frame.extend(((length - 20) as u16).to_be_bytes());
            frame.resize(14 + length, 0x5c);
            frame
        })
        .collect()
}

struct Bench {
    engine: Engine,
    output: FrameBuffer,
}

impl Bench {
    fn new() -> Self {
        Self { engine: Engine::new(&mut SeededRandom::new(1)), output: FrameBuffer::new() }
    }

    fn run(&mut self, tables: &Tables, origin: Origin, frames: &[Vec<u8>]) {
        let input: Vec<FrameIn<'_>> = frames
            .iter()
            .map(|bytes| FrameIn { interface: WAN, origin, vnet: VnetHeader::default(), bytes })
            .collect();
        self.output.clear();
        self.engine.process(NOW, tables, &input, &mut self.output);
        assert_eq!(self.output.len(), frames.len());
    }

    /// What these frames look like on the wire.
    fn encrypted(&mut self, tables: &Tables, frames: &[Vec<u8>]) -> Vec<Vec<u8>> {
        self.run(tables, FORWARDED, frames);
        self.output.iter().map(|frame| frame.bytes().to_vec()).collect()
    }
}

fn suites_and_sizes(criterion: &mut Criterion) {
    for suite in suites() {
        let tables = tables(suite, 3);
        for (direction, decrypt) in [("encrypt", false), ("decrypt", true)] {
            let mut group = criterion.benchmark_group(format!("{direction}/{}", name(suite)));
            group.throughput(Throughput::Elements(BATCH as u64));
            for length in [64, 512, 1400] {
                let mut bench = Bench::new();
                let mut input = frames(length, BATCH as u32);
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
    let tables = tables(suite, 3);
    let mut group = criterion.benchmark_group("clear");
    group.throughput(Throughput::Elements(BATCH as u64));
    for length in [64, 512, 1400] {
        let mut input = frames(length, BATCH as u32);
        input.iter_mut().for_each(|frame| frame[26] = 99);
        let mut bench = Bench::new();
        group.bench_function(BenchmarkId::from_parameter(length), |bencher| {
            bencher.iter(|| bench.run(&tables, FORWARDED, &input));
        });
    }
}

fn policies(criterion: &mut Criterion) {
    let suite = suites().find(|suite| name(*suite) == "Aes128-HmacSha1_96").expect("the seed's suite");
    let mut group = criterion.benchmark_group("policies");
    group.throughput(Throughput::Elements(BATCH as u64));
    for count in [3, 300, 65_000, 120_000] {
        let tables = tables(suite, count);
        // Few flows stay in the flow cache; of many, each packet is classified anew.
        for (what, flows) in [("few flows", BATCH as u32), ("many flows", 65_536)] {
            let frames = frames(64, flows);
            let mut bench = Bench::new();
            let mut batches = frames.chunks(BATCH).cycle();
            group.bench_function(BenchmarkId::new(what, count), |bencher| {
                bencher.iter(|| bench.run(&tables, FORWARDED, batches.next().expect("it cycles")));
            });
        }
    }
}

fn configuration() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .sample_size(20)
        .without_plots()
}

criterion_group! { name = engine; config = configuration(); targets = clear, suites_and_sizes, policies }
criterion_main!(engine);
