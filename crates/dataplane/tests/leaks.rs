//! Whatever the tables, the state and the packets: no protected data leaves in clear, nothing clear of a policy enters,
//! every frame is accounted for, and no octets make the engine panic.

mod support;

#[path = "fuzz_bodies/mod.rs"]
mod fuzz_bodies;

use dataplane::*;
use proptest::prelude::*;
use support::*;

/// Marks the data of every packet; what is encrypted does not contain it.
const MARK: &[u8] = b"--cleartext-of-a-host--";

fn any_address() -> impl Strategy<Value = String> {
    // Few networks, so that policies, rules and packets meet.
    (0u8..4, 0u8..2, 0u8..4).prop_map(|(net, subnet, host)| format!("10.{net}.{subnet}.{host}"))
}

fn any_net() -> impl Strategy<Value = String> {
    (any_address(), prop::sample::select(vec![0u8, 8, 16, 24, 32])).prop_map(|(address, length)| {
        let net = ipnet::Ipv4Net::new(address.parse().unwrap(), length).unwrap();
        net.trunc().to_string()
    })
}

fn any_selector() -> impl Strategy<Value = Selector> {
    let protocol = prop::sample::select(vec![0u8, 6, 17]);
    (any_net(), any_net(), 0u16..3, 0u16..3, protocol, any::<bool>()).prop_map(
        |(source, destination, source_port, destination_port, protocol, is_six)| Selector {
            source_port,
            destination_port,
            protocol,
            ..if is_six { selector6(&source, &destination) } else { selector(&source, &destination) }
        },
    )
}

/// A pair of nets of one version.
fn any_pair() -> impl Strategy<Value = AddressPair> {
    (any_net(), any_net(), any::<bool>()).prop_map(|(source, destination, is_six)| match is_six {
        true => pair(&net6(&source), &net6(&destination)),
        false => pair(&source, &destination),
    })
}

/// The keys are of the seed's suite or of a counter mode, with or without pseudo-time.
fn any_key() -> impl Strategy<Value = std::sync::Arc<GroupSa>> {
    (any::<bool>(), any::<bool>()).prop_map(|(counter_mode, timed)| {
        let suite = if counter_mode { AES128_GCM } else { AES128_SHA1 };
        let clock = PseudoClock::new(at(0), PseudoTime::from_micros(7), std::time::Duration::from_secs(60));
        // A lane for each batch of the tests.
        let ids = sender_ids(&(0..8).collect::<Vec<_>>());
        sa_of(suite, SPI, Some(&ids), timed.then_some(&clock), at(0), at(500))
    })
}

fn any_vpn() -> impl Strategy<Value = Vpn> {
    let policies = prop::collection::vec((any_selector(), 0usize..3), 0..6);
    let rules = || prop::collection::vec(any_pair(), 0..2);
    (policies, rules(), rules(), any::<bool>(), any::<bool>(), any::<bool>(), any_key()).prop_map(
        |(policies, exclude, fail_open, registered, service_set, forward_mismatch, key)| {
            let sas = [vec![key], vec![], vec![sa_with(AES128_SHA1, SPI + 1, at(0), at(50))]];
            let mut vpn = seed_vpn(&[]);
            vpn.policies =
                policies.into_iter().map(|(selector, keys)| policy(selector, &sas[keys])).collect();
            (vpn.exclude, vpn.fail_open) = (exclude, fail_open);
            if !registered {
                vpn.registration = Registration::NotYet;
            }
            if service_set {
                vpn.binding = Binding::ServiceSet { forward_mismatch };
            }
            vpn
        },
    )
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let plain = (any_address(), any_address(), 1u16..3, 1u16..3, any::<bool>(), 0usize..1600, any::<bool>())
        .prop_map(|(source, destination, source_port, destination_port, is_tcp, length, dont_fragment)| {
            let mut data = MARK.to_vec();
            data.resize(MARK.len() + length, 0xaa);
            let ports = (source_port, destination_port);
            let mut packet = match is_tcp {
                true => Packet::tcp(&source, &destination, tcp_header(ports, 1), &data),
                false => Packet::udp(&source, &destination, ports, &data),
            };
            packet.dont_fragment = dont_fragment;
            packet
        });
    (plain, any_address(), any_address(), 0u8..8, any::<(bool, bool)>()).prop_map(
        |(packet, source, destination, kind, (is_six, with_options))| {
            let packet = if is_six { packet.six() } else { packet };
            let options = if is_six && with_options { vec![1; 4] } else { vec![] };
            match kind {
                0 => Packet { more_fragments: true, options, ..packet },
                1 => Packet { fragment_offset: 3, options, ..packet },
                2 => {
                    let mut error = Packet::icmp_error(&source, &destination, &packet);
                    error.payload.extend_from_slice(MARK);
                    error
                }
                _ => Packet { options, ..packet },
            }
        },
    )
}

/// The rules, said once more and simply: may this packet leave in clear?
fn may_leave_clear(vpn: &Vpn, permit_all: bool, packet: &Packet, own: bool, injected: bool) -> bool {
    let (source, destination) = packet.addresses();
    let is_in = |pairs: &[AddressPair]| {
        pairs.iter().any(|pair| pair.contains(source, destination) || pair.contains(destination, source))
    };
    let has_ports = packet.fragment_offset == 0;
    let ports = (
        u16::from_be_bytes([packet.payload[0], packet.payload[1]]),
        u16::from_be_bytes([packet.payload[2], packet.payload[3]]),
    );
    // Without ports, whatever may be protected counts as protected.
    let matches = |selector: &Selector| {
        let selector = match has_ports {
            true => *selector,
            false => Selector { source_port: 0, destination_port: 0, ..*selector },
        };
        selector.matches(source, destination, packet.protocol, Some(ports))
    };
    let protected =
        vpn.policies.iter().any(|policy| matches(&policy.selector) || matches(&policy.selector.mirror()));
    if is_in(&vpn.exclude) {
        return true;
    }
    match vpn.registration {
        Registration::NotYet if own => !protected,
        Registration::NotYet => !injected && is_in(&vpn.fail_open),
        Registration::Registered if protected => false,
        Registration::Registered if own => true,
        Registration::Registered if injected => false,
        Registration::Registered => match vpn.binding {
            Binding::Zone => permit_all,
            Binding::ServiceSet { forward_mismatch } => forward_mismatch,
        },
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    #[test]
    fn no_protected_packet_leaves_in_clear(
        vpn in any_vpn(),
        permit_all: bool,
        packets in prop::collection::vec((any_packet(), 0u8..3), 1..30),
    ) {
        let default_policy = if permit_all { DefaultPolicy::PermitAll } else { DefaultPolicy::DenyAll };
        let tables = tables_of(std::slice::from_ref(&vpn), default_policy);
        let mut engine = engine();
        for (index, (mut packet, kind)) in packets.into_iter().enumerate() {
            // No fragment is of a packet seen before.
            packet.identification = index as u16;
            let (own, injected) = (kind == 1, kind == 2);
            let output = run(&mut engine, &tables, Origin::Egress { own, injected }, &packet.frame());
            let is_error = matches!(packet.protocol, 1 | 58);
            for out in &output {
                let contains_mark = out.bytes.windows(MARK.len()).any(|window| window == MARK);
                match out.destination {
                    Destination::WireClear => {
                        prop_assert_eq!(&out.bytes, &packet.frame());
                        if !is_error {
                            prop_assert!(may_leave_clear(&vpn, permit_all, &packet, own, injected));
                        }
                    }
                    Destination::WireEsp => {
                        prop_assert!(!contains_mark);
                        prop_assert_eq!(out.protocol(), 50);
                    }
                    Destination::IcmpToHost if packet.is_six => {
                        prop_assert_eq!(out.packet6().0.destination, packet.source6().octets());
                    }
                    Destination::IcmpToHost => prop_assert_eq!(out.packet().0.destination, packet.source),
                    Destination::Inject => prop_assert!(false, "{:?}", out),
                }
            }
            if !is_error && may_leave_clear(&vpn, permit_all, &packet, own, injected) {
                prop_assert_eq!(output.len(), 1);
            }
        }
    }

    #[test]
    fn an_icmp_error_that_quotes_protected_data_never_leaves_in_clear(
        vpn in any_vpn(),
        quoted in any_packet(),
        source in any_address(),
        destination in any_address(),
        kind in 0u8..3,
    ) {
        prop_assume!(!matches!(quoted.protocol, 1 | 58));
        let tables = tables_of(std::slice::from_ref(&vpn), DefaultPolicy::PermitAll);
        let (own, injected) = (kind == 1, kind == 2);
        let error = Packet::icmp_error(&source, &destination, &quoted);
        let output = run(&mut engine(), &tables, Origin::Egress { own, injected }, &error.frame());
        if output.iter().any(|out| out.destination == Destination::WireClear) {
            // The quoted flow itself may be clear, or nobody's whose error then is judged by its own addresses.
            let quoted_protected = vpn.registration == Registration::Registered
                && !may_leave_clear(&Vpn { binding: Binding::Zone, ..vpn.clone() }, true, &quoted, false, false);
            prop_assert!(!quoted_protected, "{:?}", quoted);
        }
    }

    #[test]
    fn a_register_never_carries_protected_data_in_clear(
        vpn in any_vpn(),
        permit_all: bool,
        inner in any_packet(),
        own: bool,
        flags in prop::sample::select(vec![0u8, 0x40, 0x80]),
    ) {
        let default_policy = if permit_all { DefaultPolicy::PermitAll } else { DefaultPolicy::DenyAll };
        let tables = tables_of(std::slice::from_ref(&vpn), default_policy);
        let mut payload = vec![0x21, 0, 0, 0, flags, 0, 0, 0];
        payload.extend(inner.bytes());
        let register = Packet { is_six: inner.is_six, ..Packet::new("100.0.0.3", "100.0.0.9", 103, payload) };
        let origin = Origin::Egress { own, injected: false };
        for out in run(&mut engine(), &tables, origin, &register.frame()) {
            let contains_mark = out.bytes.windows(MARK.len()).any(|window| window == MARK);
            if out.destination == Destination::WireClear && !matches!(inner.protocol, 1 | 58) {
                prop_assert!(may_leave_clear(&vpn, permit_all, &inner, false, false));
                prop_assert_eq!(vpn.registration, Registration::Registered);
            }
            if out.destination == Destination::WireEsp {
                prop_assert!(!contains_mark);
                // Whole, where the Register itself is user traffic of a policy.
                prop_assert!(out.protocol() == 103 || !own && out.protocol() == 50);
            }
        }
    }

    #[test]
    fn clear_packets_of_a_policy_do_not_enter(
        vpn in any_vpn(),
        packets in prop::collection::vec(any_packet(), 1..30),
    ) {
        let tables = tables(&vpn);
        let mut engine = engine();
        let packets = packets.into_iter().enumerate().filter(|(_, packet)| !matches!(packet.protocol, 1 | 58));
        for (index, mut packet) in packets {
            packet.identification = index as u16;
            let output = run(&mut engine, &tables, Origin::Ingress, &packet.frame());
            let registered = vpn.registration == Registration::Registered;
            let excluded = Vpn { registration: Registration::Registered, binding: Binding::Zone, ..vpn.clone() };
            // What may leave in clear may enter in clear, and nothing else of a registered VPN.
            let may = may_leave_clear(&excluded, true, &packet, false, false);
            if registered {
                prop_assert_eq!(output.len() == 1, may);
            } else if vpn.policies.is_empty() && vpn.exclude.is_empty() && vpn.fail_open.is_empty() {
                prop_assert_eq!(output.len(), 0);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz_bodies::engine_outbound(&octets);
        fuzz_bodies::engine_inbound(&octets);
    }

    #[test]
    fn damaged_seeds_never_panic(
        seed in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        kept in 0.5f64..1.0,
    ) {
        for (target, body) in TARGETS {
            let seeds = corpus(target);
            let mut octets = seeds[seed.index(seeds.len())].clone();
            for (at, value) in &damage {
                // Headers are in front, and they are what matters.
                let position = at.index(octets.len().min(80));
                octets[position] = *value;
            }
            body(&octets[..(octets.len() as f64 * kept) as usize]);
            body(&octets);
        }
    }
}

type Body = fn(&[u8]);

const TARGETS: [(&str, Body); 2] =
    [("engine_outbound", fuzz_bodies::engine_outbound), ("engine_inbound", fuzz_bodies::engine_inbound)];

#[expect(clippy::disallowed_methods, reason = "the test reads files, not the engine")]
fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target);
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files.into_iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn the_committed_fuzz_corpora_do_not_panic() {
    for (target, body) in TARGETS {
        corpus(target).iter().for_each(|octets| body(octets));
    }
}

#[test]
fn the_fuzz_targets_would_notice_a_leak() {
    use fuzz_bodies::oracle::{is_of_a_policy, is_sealed, may_be_clear, may_come_in};
    let protected = Packet::udp("20.1.1.1", "200.1.1.1", (1, 2), b"thirty octets of different letters");
    let open = Packet::udp("200.1.1.1", "201.1.1.1", (1, 2), b"data");
    assert!(!may_be_clear(&protected.frame(), true) && may_be_clear(&open.frame(), false));
    assert!(!may_be_clear(&protected.clone().six().frame(), false));
    assert!(!may_come_in(&protected.frame()) && may_come_in(&open.frame()));
    assert!(is_of_a_policy(&protected.frame()) && !is_of_a_policy(&open.frame()));
    let register = Packet::new(
        "200.1.1.1",
        "201.1.1.1",
        103,
        [&[0x21, 0, 0, 0, 0, 0, 0, 0][..], &protected.bytes()].concat(),
    );
    assert!(!may_be_clear(&register.frame(), true));
    // What says that it is ESP, and is not.
    let put_in = [(VnetHeader::default(), protected.frame())];
    let unsealed =
        Packet::new("20.1.1.1", "200.1.1.1", 50, [&[0; 16][..], &protected.bytes(), &[0; 8]].concat());
    assert!(!is_sealed(&unsealed.frame(), &put_in) && !is_sealed(&protected.frame(), &[]));
    let other = Packet::new("20.1.1.1", "200.1.1.1", 50, vec![7; 80]);
    assert!(is_sealed(&other.frame(), &put_in));
}
