//! Multicast data, and the Registers in which some of it travels.

mod support;

use dataplane::DropReason as D;
use dataplane::PassReason as P;
use dataplane::*;
use support::*;

/// The seed's example: a source behind this member, the group 226.1.1.100.
fn vpn(sas: &[std::sync::Arc<GroupSa>]) -> Vpn {
    let mut vpn = seed_vpn(&[]);
    vpn.policies = vec![policy(selector("31.1.1.0/24", "226.1.1.100/32"), sas)];
    vpn.policies.push(policy(selector("2001:db8::31.1.1.0/120", "ff0e::/16"), sas));
    vpn
}

fn data(is_six: bool) -> Packet {
    let packet = Packet::udp("31.1.1.2", "226.1.1.100", (4000, 5000), &[7; 300]);
    Packet { ttl: 9, tos: 0xb8, ..packet }.to_group(is_six)
}

trait ToGroup {
    fn to_group(self, is_six: bool) -> Packet;
}

impl ToGroup for Packet {
    fn to_group(self, is_six: bool) -> Packet {
        if is_six { self.six() } else { self }
    }
}

/// The frame of a packet; an IPv6 one goes to the group ff0e::226.1.1.100.
fn frame(packet: &Packet) -> Vec<u8> {
    let mut frame = packet.frame();
    frame[..6].copy_from_slice(&[1, 0, 0x5e, 0x62, 1, 100]);
    if packet.is_six {
        frame[38..54].copy_from_slice(&"ff0e::e201:164".parse::<std::net::Ipv6Addr>().unwrap().octets());
    }
    frame
}

#[test]
fn data_of_a_group_is_encrypted_to_the_same_group_and_comes_back() {
    for is_six in [false, true] {
        for suite in [AES128_SHA1, AES128_GCM] {
            let sender = tables(&vpn(&[member_sa(suite, SPI, &[1], None)]));
            let receiver = tables(&vpn(&[member_sa(suite, SPI, &[2], None)]));
            let clear = frame(&data(is_six));
            let sent = single(run(&mut engine(), &sender, OWN_FORWARDED, &clear));
            assert_eq!(sent.destination, Destination::WireEsp);
            // Link and outer header are those of the group: routed by PIM like the data.
            assert_eq!((&sent.bytes[..14], sent.protocol()), (&clear[..14], 50));
            let addresses = if is_six { 22..54 } else { 26..34 };
            assert_eq!(sent.bytes[addresses.clone()], clear[addresses]);
            let hops = if is_six { 21 } else { 22 };
            assert_eq!(sent.bytes[hops], 9);
            let received = single(run(&mut engine(), &receiver, Origin::Wire, &sent.bytes));
            assert_eq!((received.destination, received.bytes), (Destination::Inject, clear));
        }
    }
}

#[test]
fn another_group_of_the_same_source_is_not_protected_and_clear_data_does_not_enter() {
    let vpn = vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let other = Packet::udp("31.1.1.2", "226.1.1.101", (4000, 5000), &[7; 300]);
    let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &other.frame()));
    assert_eq!(sent.destination, Destination::WireClear);
    for is_six in [false, true] {
        vpn.counters.reset();
        assert_eq!(run(&mut engine(), &tables, Origin::Ingress, &frame(&data(is_six))), []);
        assert_eq!(reasons(&vpn), [(D::ClearInbound, 1)]);
    }
}

#[test]
fn data_too_large_for_the_tree_is_fragmented_or_dropped_in_silence() {
    let vpn = vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let mut large = Packet::udp("31.1.1.2", "226.1.1.100", (4000, 5000), &[7; 1472]);
    assert_eq!(run(&mut engine(), &tables, OWN_FORWARDED, &large.frame()).len(), 2);
    large.dont_fragment = true;
    // RFC 1122 section 3.2.2: no error about a packet to a group.
    assert_eq!(run(&mut engine(), &tables, OWN_FORWARDED, &large.frame()), []);
    assert_eq!(reasons(&vpn), [(D::TooBig, 1)]);
    // Of IPv6 the source is told: so it finds the MTU of the tree.
    let large = frame(&Packet::udp("31.1.1.2", "226.1.1.100", (4000, 5000), &[7; 1452]).six());
    let told = single(run(&mut engine(), &tables, OWN_FORWARDED, &large));
    assert_eq!(told.destination, Destination::IcmpToHost);
}

/// A Register from this router to the rendezvous point.
fn register(inner: &[u8], flags: u8, is_six: bool) -> Packet {
    let mut payload = vec![0x21, 0, 0xde, 0xad, flags, 0, 0, 0];
    payload.extend_from_slice(inner);
    let packet = Packet::new("100.0.0.3", "100.0.0.9", 103, payload);
    if is_six { packet.six() } else { packet }
}

#[test]
fn what_is_inside_a_register_is_protected_in_place() {
    for (is_six, origin) in [(false, OWN), (true, OWN), (false, OWN_FORWARDED)] {
        let key = sa(SPI);
        let vpn = vpn(&[key]);
        let tables = tables(&vpn);
        let inner = frame(&data(is_six))[14..].to_vec();
        let clear = register(&inner, 0, is_six);
        let sent = single(run(&mut engine(), &tables, origin, &clear.frame()));
        assert_eq!(sent.destination, Destination::WireEsp);
        assert_eq!(sent.protocol(), 103);
        assert!(!sent.bytes.windows(32).any(|window| window == [7; 32]));
        let header = if is_six { 40 } else { 20 };
        let (outer, pim) = sent.bytes[14..].split_at(header);
        let (source, destination) = if is_six { (8..24, 24..40) } else { (12..16, 16..20) };
        assert_eq!(outer[source.clone()], clear.bytes()[source.clone()]);
        assert_eq!(outer[destination.clone()], clear.bytes()[destination.clone()]);
        // The checksum is that of eight octets.
        let expected = match is_six {
            true => checksum6(&outer[source], &outer[destination], 103, &[0x21, 0, 0, 0, 0, 0, 0, 0]),
            false => !0x2100,
        };
        assert_eq!(pim[..8], [&[0x21, 0][..], &expected.to_be_bytes(), &[0; 4]].concat());
        // The rendezvous point takes the ESP packet out; a member decrypts it to the data.
        let esp = [&frame(&data(is_six))[..14], &pim[8..]].concat();
        let received = single(run(&mut engine(), &tables, Origin::Wire, &esp));
        assert_eq!(received.bytes, frame(&data(is_six)));
    }
}

/// Row, VPN, Register, and why it passes in clear or is dropped.
type Row<'a> = (&'a str, &'a Vpn, Packet, (Option<PassReason>, Option<DropReason>));

#[test]
fn a_register_between_protected_addresses_is_user_traffic() {
    let mut vpn = vpn(&[sa(SPI)]);
    vpn.policies.push(policy(selector("100.0.0.0/24", "100.0.0.0/24"), &[sa(SPI)]));
    let tables = tables(&vpn);
    for inner in [vec![0x45; 19], frame(&data(false))[14..].to_vec()] {
        let clear = register(&inner, 0, false);
        let fragment =
            Packet { more_fragments: true, payload: clear.payload[..24].to_vec(), ..clear.clone() };
        for packet in [clear, fragment] {
            let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame()));
            assert_eq!((sent.destination, sent.protocol()), (Destination::WireEsp, 50));
        }
    }
}

#[test]
fn a_register_follows_what_is_inside() {
    let protected = frame(&data(false))[14..].to_vec();
    let other = Packet::udp("31.1.1.2", "226.1.1.101", (4000, 5000), &[7; 30]).bytes();
    let excluded = Packet::udp("31.1.1.77", "226.1.1.100", (4000, 5000), &[7; 30]).bytes();
    let null = Packet::new("31.1.1.2", "226.1.1.100", 103, vec![]).bytes();
    let live = vpn(&[sa(SPI)]);
    let live = Vpn { exclude: vec![pair("31.1.1.77/32", "226.0.0.0/8")], ..live };
    let keyless = Vpn { exclude: live.exclude.clone(), ..vpn(&[]) };
    let new = Vpn { registration: Registration::NotYet, ..keyless.clone() };
    let clear = |reason| (Some(reason), None);
    let drop = |reason| (None, Some(reason));
    #[rustfmt::skip]
    let rows: &[Row<'_>] = &[
        ("no live key",      &keyless, register(&protected, 0, false), drop(D::NoLiveKey)),
        ("not registered",   &new,     register(&protected, 0, false), drop(D::NotRegistered)),
        ("not registered",   &new,     register(&excluded, 0, false),  drop(D::NotRegistered)),
        ("no policy",        &live,    register(&other, 0, false),     clear(P::DefaultPolicy)),
        ("excluded",         &live,    register(&excluded, 0, false),  clear(P::Excluded)),
        ("null",             &live,    register(&null, 0x40, false),   clear(P::Own)),
        ("null, not registered", &new, register(&null, 0x40, false),   clear(P::Own)),
        ("null with data",   &keyless, register(&protected, 0x40, false), drop(D::NoLiveKey)),
        ("no packet inside", &live,    register(&[0x45; 19], 0, false), drop(D::Malformed)),
        ("first fragment",   &live,    Packet { more_fragments: true, ..register(&protected, 0, false) }, drop(D::RegisterFragment)),
        ("later fragment",   &live,    Packet { fragment_offset: 9, ..register(&protected, 0, false) }, drop(D::RegisterFragment)),
        ("join",             &live,    Packet::new("100.0.0.3", "224.0.0.13", 103, vec![0x23; 40]), clear(P::Own)),
    ];
    for (row, vpn, packet, (passed, dropped)) in rows {
        vpn.counters.reset();
        let tables = tables(vpn);
        let output = run(&mut engine(), &tables, OWN, &packet.frame());
        let all = [&vpn.counters, tables.counters()];
        let passes: Vec<_> =
            all.iter().flat_map(|counters| counters.passed.occurred().collect::<Vec<_>>()).collect();
        let drops: Vec<_> =
            all.iter().flat_map(|counters| counters.drops.occurred().collect::<Vec<_>>()).collect();
        assert_eq!(passes.first().map(|(reason, _)| *reason), *passed, "{row}");
        assert_eq!(drops.first().map(|(reason, _)| *reason), *dropped, "{row}");
        assert_eq!(output.len(), passes.len());
        assert!(output.iter().all(|out| out.bytes == packet.frame()));
    }
}

#[test]
fn large_data_is_cut_so_that_each_register_fits() {
    let tables = tables(&vpn(&[sa(SPI)]));
    let large = Packet::udp("31.1.1.2", "226.1.1.100", (4000, 5000), &[7; 1440]);
    let sent = run(&mut engine(), &tables, OWN, &register(&large.bytes(), 0, false).frame());
    assert_eq!(sent.len(), 2);
    for out in &sent {
        assert!(out.bytes.len() <= 1514);
        assert_eq!(out.packet().0.protocol.0, 103);
    }
}
