//! What an engine remembers changes nothing: one whose tables are exchanged before every frame, so that it remembers no verdict,
//! no SPI and no limits, gives the same frames, counters and sessions as one that keeps its tables.

mod support;

use std::sync::Arc;
use std::time::Duration;

use dataplane::*;
use proptest::prelude::*;
use support::*;

/// What happens to a lane next.
#[derive(Clone, Debug)]
enum Step {
    /// A host sends a frame.
    Leaves { origin: Origin, vnet: VnetHeader, frame: Vec<u8> },
    /// The other member sends a packet of the same kind: `corrupted` octets from its end, `tos` ORed into the outer one.
    Arrives { frame: Vec<u8>, corrupted: Option<usize>, tos: u8, padding: usize, times: usize },
    /// A router says that this packet, when sent, was too big.
    TooBig { frame: Vec<u8>, mtu: u16 },
    /// Milliseconds pass: fewer than a closed session lives, which a remembered one outlives.
    Waits(u32),
}

fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let hosts = (0u8..3, 0u8..2, any::<bool>());
    let kind = (prop::sample::select(vec![6u8, 6, 6, 17, 17, 17, 1, 47, 103]), any::<bool>(), 0u8..20);
    let length = prop_oneof![0usize..40, 1340usize..1500];
    (hosts, kind, length, any::<[u8; 4]>()).prop_map(|((host, net, is_forward), kind, length, octets)| {
        let (protocol, is_six, oddity) = kind;
        // The last is of no policy.
        let there = ["41.1.0.9", "21.1.1.9", "99.0.0.9"][usize::from(octets[0] % 8 / 3)];
        let here = format!("31.1.1.{}", host + 1);
        let (source, destination) = if is_forward { (&*here, there) } else { (there, &*here) };
        let mut packet = match protocol {
            6 => {
                let mut header = tcp_header((1000 + u16::from(net), 80), 7);
                (header.fin, header.rst) = (octets[1] % 8 == 0, octets[1] % 8 == 1);
                Packet::tcp(source, destination, header, &vec![octets[2]; length])
            }
            17 => Packet::udp(source, destination, (53 + u16::from(net), 53), &vec![octets[2]; length]),
            other => Packet::new(source, destination, other, vec![octets[2]; length]),
        };
        (packet.tos, packet.dont_fragment) = (octets[3] & 3, octets[3] & 4 != 0);
        match oddity {
            0 => packet.options = vec![1; 4],
            1 => packet.more_fragments = true,
            2 => packet.fragment_offset = 3,
            3 => packet.payload.truncate(octets[2].into()),
            _ => {}
        }
        let mut frame = if is_six { packet.six() } else { packet }.frame();
        match oddity {
            4 => frame.truncate(frame.len() - frame.len().min(9)),
            5 => frame.extend([0x77; 7]),
            6 => frame[13] ^= 1,
            7 => frame[14] ^= 1,
            _ => {}
        }
        frame
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let origin = prop::sample::select(vec![OWN_FORWARDED, OWN_FORWARDED, OWN, INJECTED, Origin::Ingress]);
    let vnet = prop_oneof![
        6 => Just(VnetHeader::default()),
        1 => Just(VnetHeader { flags: VnetHeader::DATA_VALID, ..VnetHeader::default() }),
        1 => Just(VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            checksum_start: 34,
            checksum_offset: 6,
            ..VnetHeader::default()
        }),
        1 => Just(VnetHeader { gso_type: VnetHeader::GSO_UDP_DATAGRAMS, gso_size: 700, ..VnetHeader::default() }),
    ];
    prop_oneof![
        8 => (origin, vnet, any_frame()).prop_map(|(origin, vnet, frame)| Step::Leaves { origin, vnet, frame }),
        6 => (any_frame(), prop::option::weighted(0.1, 0usize..60), 0u8..4, 0usize..3, 1usize..3).prop_map(
            |(frame, corrupted, tos, padding, times)| Step::Arrives { frame, corrupted, tos, padding, times }
        ),
        1 => (any_frame(), 500u16..1500).prop_map(|(frame, mtu)| Step::TooBig { frame, mtu }),
        2 => (0u32..30).prop_map(Step::Waits),
    ]
}

/// A member of the group: an engine, its keys and counters.
struct Member {
    engine: Engine,
    vpn: Vpn,
    tables: Tables,
    /// Exchanges its tables before every frame.
    forgets: bool,
    now: Instant,
}

impl Member {
    fn new(shape: Shape, sender: u32, forgets: bool) -> Self {
        let clock = PseudoClock::new(at(0), PseudoTime::from_micros(7), Duration::from_secs(60));
        let clock = shape.is_timed.then_some(&clock);
        let ids = sender_ids(&[sender]);
        let sa = |suite, spi, end| sa_of(suite, spi, Some(&ids), clock, Instant::ZERO, end);
        let (gcm, cbc) = (
            sa(AES128_GCM, SPI, at(100).saturating_add(Duration::from_millis(80))),
            sa(AES128_SHA1, SPI + 16, Instant::FAR_FUTURE),
        );
        let mut vpn = seed_vpn(&[Arc::clone(&gcm), Arc::clone(&cbc)]);
        // The second and the third pair of nets have CBC alone.
        vpn.policies.iter_mut().skip(1).step_by(3).for_each(|policy| policy.sas = vec![Arc::clone(&cbc)]);
        (vpn.df_bit, vpn.tunnel_mtu) = (shape.df_bit, shape.tunnel_mtu);
        let tables = tables(&vpn, &Arc::default());
        Self { engine: engine(), vpn, tables, forgets, now: at(100) }
    }

    fn run(&mut self, origin: Origin, vnet: VnetHeader, frame: &[u8]) -> Vec<Out> {
        if self.forgets {
            self.tables = tables(&self.vpn, self.tables.counters());
        }
        run_batch(&mut self.engine, self.now, &self.tables, &[(origin, vnet, frame.to_vec())])
    }

    /// Everything that can be counted.
    fn state(&self) -> String {
        let counters = [&self.vpn.counters, self.tables.counters()];
        let traffic = |traffic: &Traffic| (traffic.packets(), traffic.octets());
        let counted = counters.map(|counters| {
            let drops: Vec<_> = counters.drops.occurred().collect();
            let passed: Vec<_> = counters.passed.occurred().collect();
            (drops, passed, traffic(&counters.encrypted), traffic(&counters.decrypted))
        });
        let sas = self.vpn.policies.iter().flat_map(|policy| &policy.sas);
        let sas: Vec<_> = sas.map(|sa| (traffic(sa.encrypted()), traffic(sa.decrypted()))).collect();
        let sessions = self.engine.sessions().snapshot(self.now);
        format!("{counted:?} {sas:?} {sessions:?} {}", self.engine.sessions().created())
    }
}

fn tables(vpn: &Vpn, counters: &Arc<Counters>) -> Tables {
    let mut builder = TablesBuilder::new();
    builder.interface(WAN, 1500).default_policy(DefaultPolicy::PermitAll).counters(Arc::clone(counters));
    builder.vpn(vpn.clone());
    builder.build()
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    is_timed: bool,
    df_bit: DfBit,
    tunnel_mtu: Option<u16>,
}

fn any_shape() -> impl Strategy<Value = Shape> {
    let df_bit = prop::sample::select(vec![DfBit::Clear, DfBit::Set, DfBit::Copy]);
    let tunnel_mtu = prop::sample::select(vec![None, None, Some(1400), Some(90)]);
    (any::<bool>(), df_bit, tunnel_mtu).prop_map(|(is_timed, df_bit, tunnel_mtu)| Shape {
        is_timed,
        df_bit,
        tunnel_mtu,
    })
}

/// The sent packet with other octets.
fn changed(frame: &[u8], corrupted: Option<usize>, tos: u8, padding: usize) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if frame[14] >> 4 == 4 {
        frame[15] |= tos;
    } else {
        frame[15] |= tos << 4;
    }
    if let Some(position) = corrupted
        && let Some(at) = frame.len().checked_sub(position + 1)
        && at > 34
    {
        frame[at] ^= 0x10;
    }
    frame.resize(frame.len() + padding, 0x66);
    frame
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn an_engine_that_remembers_does_what_one_that_forgets_does(
        shape in any_shape(),
        steps in prop::collection::vec(any_step(), 1..60),
    ) {
        let mut both = [Member::new(shape, 1, false), Member::new(shape, 1, true)];
        let mut other = Member::new(shape, 2, false);
        for step in &steps {
            let outputs = match step {
                Step::Leaves { origin, vnet, frame } => {
                    both.each_mut().map(|member| member.run(*origin, *vnet, frame))
                }
                Step::Arrives { frame, corrupted, tos, padding, times } => {
                    let sent = other.run(OWN_FORWARDED, VnetHeader::default(), frame);
                    let received: Vec<_> =
                        sent.iter().map(|sent| changed(&sent.bytes, *corrupted, *tos, *padding)).collect();
                    let received = vec![received; *times].concat();
                    both.each_mut().map(|member| {
                        let run = |frame: &Vec<u8>| member.run(Origin::Wire, VnetHeader::default(), frame);
                        received.iter().flat_map(run).collect()
                    })
                }
                Step::TooBig { frame, mtu } => both.each_mut().map(|member| {
                    let sent = member.run(OWN_FORWARDED, VnetHeader::default(), frame);
                    let errors = sent.iter().filter(|sent| sent.destination == Destination::WireEsp);
                    let errors: Vec<_> = errors.map(|sent| too_big(&sent.bytes, *mtu)).collect();
                    let run = |frame: &Vec<u8>| member.run(Origin::Wire, VnetHeader::default(), frame);
                    errors.iter().flat_map(run).collect()
                }),
                Step::Waits(milliseconds) => {
                    let time = Duration::from_millis((*milliseconds).into());
                    both.iter_mut().chain([&mut other]).for_each(|member| member.now = member.now.saturating_add(time));
                    continue;
                }
            };
            prop_assert_eq!(&outputs[0], &outputs[1], "{:?}", step);
            prop_assert_eq!(both[0].state(), both[1].state(), "{:?}", step);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_batch_leaves_as_its_frames_do_one_by_one(
        is_timed in any::<bool>(),
        frames in prop::collection::vec(any_frame(), 1..80),
    ) {
        let shape = Shape { is_timed, df_bit: DfBit::Copy, tunnel_mtu: None };
        let (mut one_by_one, mut at_once) = (Member::new(shape, 1, false), Member::new(shape, 1, false));
        let (origin, vnet) = (OWN_FORWARDED, VnetHeader::default());
        let batch: Vec<_> = frames.iter().map(|frame| (origin, vnet, frame.clone())).collect();
        // Flows are known the second time.
        for _ in 0..2 {
            let expected: Vec<Out> =
                frames.iter().flat_map(|frame| one_by_one.run(origin, vnet, frame)).collect();
            let outputs = run_batch(&mut at_once.engine, at_once.now, &at_once.tables, &batch);
            prop_assert_eq!(outputs, expected);
            prop_assert_eq!(one_by_one.state(), at_once.state());
        }
    }
}

/// What a router says about a packet.
fn too_big(frame: &[u8], mtu: u16) -> Vec<u8> {
    let packet = &frame[14..];
    let is_six = packet[0] >> 4 == 6;
    let mut error = vec![if is_six { 2 } else { 3 }, if is_six { 0 } else { 4 }, 0, 0, 0, 0];
    error.extend(mtu.to_be_bytes());
    error.extend(&packet[..if is_six { 48 } else { 28 }]);
    let destination = std::net::Ipv4Addr::from([31, 1, 1, 1]).to_string();
    let error = Packet::new("100.9.9.9", &destination, if is_six { 58 } else { 1 }, error);
    if is_six { error.six() } else { error }.frame()
}
