//! Fragments on both sides, and ICMP errors that routers send about our ESP.

mod support;

use dataplane::DropReason as D;
use dataplane::*;
use support::*;

/// A VPN that protects telnet only.
fn telnet_vpn() -> Vpn {
    let mut vpn = seed_vpn(&[sa(SPI)]);
    let telnet = Selector { destination_port: 23, protocol: 6, ..selector("31.1.1.0/24", "41.1.1.0/24") };
    vpn.policies =
        vec![policy(telnet, &[sa(SPI)]), policy(selector("31.1.1.0/24", "51.1.1.0/24"), &[sa(SPI)])];
    vpn
}

/// Cuts a packet into fragments with `size` octets of payload each.
fn fragments(packet: &Packet, size: usize) -> Vec<Packet> {
    let count = packet.payload.len().div_ceil(size);
    let cut = |(index, payload): (usize, &[u8])| Packet {
        payload: payload.to_vec(),
        fragment_offset: (index * size / 8) as u16,
        more_fragments: index + 1 < count,
        dont_fragment: false,
        ..packet.clone()
    };
    packet.payload.chunks(size).enumerate().map(cut).collect()
}

fn destinations(output: &[Out]) -> Vec<Destination> {
    output.iter().map(|out| out.destination).collect()
}

#[test]
fn a_fragment_behind_the_end_of_every_packet_is_not_cut() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let fragment = |more_fragments, fragment_offset| Packet {
        more_fragments,
        fragment_offset,
        ..Packet::new("31.1.1.2", "41.1.1.2", 17, vec![7; 1480])
    };
    let last = (65_535 - 1480) / 8;
    let sent = run(&mut engine(), &tables(&vpn), OWN_FORWARDED, &fragment(false, last).frame());
    assert_eq!(sent.len(), 2);
    assert_eq!(run(&mut engine(), &tables(&vpn), OWN_FORWARDED, &fragment(false, last + 1).frame()), []);
    assert_eq!(run(&mut engine(), &tables(&vpn), OWN_FORWARDED, &fragment(true, 8191).frame()), []);
    assert_eq!(reasons(&vpn), [(D::Malformed, 2)]);
}

#[test]
fn later_fragments_follow_their_first() {
    let vpn = telnet_vpn();
    let tables = tables(&vpn);
    let telnet = Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((999, 23), 1), &[1; 100]);
    let mut web = Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((999, 80), 1), &[1; 100]);
    web.identification += 1;
    let mut engine = engine();
    for (packet, expected) in [(telnet, Destination::WireEsp), (web, Destination::WireClear)] {
        for fragment in fragments(&packet, 40) {
            let out = single(run(&mut engine, &tables, OWN_FORWARDED, &fragment.frame()));
            assert_eq!(out.destination, expected);
        }
    }
    assert_eq!(reasons(&vpn), []);
}

#[test]
fn a_later_fragment_whose_first_is_unknown_is_dropped_where_ports_would_decide() {
    let vpn = telnet_vpn();
    let tables = tables(&vpn);
    let later = |source: &str, destination: &str| {
        let packet = Packet::tcp(source, destination, tcp_header((999, 80), 1), &[1; 100]);
        fragments(&packet, 40)[1].frame()
    };
    assert_eq!(run(&mut engine(), &tables, OWN_FORWARDED, &later("31.1.1.2", "41.1.1.2")), []);
    assert_eq!(run(&mut engine(), &tables, OWN_FORWARDED, &later("41.1.1.2", "31.1.1.2")), []);
    assert_eq!(run(&mut engine(), &tables, Origin::Ingress, &later("41.1.1.2", "31.1.1.2")), []);
    assert_eq!(reasons(&vpn), [(D::AmbiguousFragment, 3)]);
    // Here the addresses are enough.
    let out = single(run(&mut engine(), &tables, OWN_FORWARDED, &later("31.1.1.2", "51.1.1.2")));
    assert_eq!(out.destination, Destination::WireEsp);
    let out = single(run(&mut engine(), &tables, OWN_FORWARDED, &later("31.1.1.2", "61.1.1.2")));
    assert_eq!(out.destination, Destination::WireClear);
    // A first fragment too short for its ports shows none.
    let tiny = Packet { more_fragments: true, ..Packet::new("31.1.1.2", "41.1.1.2", 6, vec![0; 3]) };
    assert_eq!(run(&mut engine(), &tables, OWN_FORWARDED, &tiny.frame()), []);
}

#[test]
fn a_first_fragment_from_outside_does_not_open_the_way_out() {
    let vpn = telnet_vpn();
    let tables = tables(&vpn);
    let mut engine = engine();
    let web = Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((999, 80), 1), &[1; 100]);
    let pieces = fragments(&web, 40);
    assert_eq!(run(&mut engine, &tables, Origin::Ingress, &pieces[0].frame()).len(), 1);
    assert_eq!(run(&mut engine, &tables, OWN_FORWARDED, &pieces[1].frame()), []);
}

#[test]
fn inner_fragments_are_checked_against_port_policies_at_the_far_end() {
    let vpn = telnet_vpn();
    let tables = tables(&vpn);
    let telnet = Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((999, 23), 1), &[1; 100]);
    let pieces: Vec<_> = fragments(&telnet, 40)
        .iter()
        .map(|piece| (OWN_FORWARDED, VnetHeader::default(), piece.frame()))
        .collect();
    let sent = run_batch(&mut engine(), at(1), &tables, &pieces);
    let wires: Vec<_> =
        sent.into_iter().map(|out| (Origin::Wire, VnetHeader::default(), out.bytes)).collect();
    assert_eq!(run_batch(&mut engine(), at(1), &tables, &wires).len(), pieces.len());
    assert_eq!(run_batch(&mut engine(), at(1), &tables, &wires[1..]), []);
}

#[test]
fn esp_in_fragments_is_reassembled_in_any_order() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let mut packet = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &[5; 1200]);
    packet.tos = 2;
    let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame()));
    let (outer, esp) = sent.packet();
    let mut whole = Packet::new("31.1.1.2", "41.1.1.2", 50, esp.to_vec());
    (whole.tos, whole.identification) = (2, outer.identification);
    let mut pieces = fragments(&whole, 400);
    pieces.rotate_left(2);
    pieces.swap(0, 1);
    pieces[1].tos = 3;
    let mut engine = engine();
    for (index, piece) in pieces.iter().enumerate() {
        let output = run(&mut engine, &tables, Origin::Wire, &piece.frame());
        if index + 1 < pieces.len() {
            assert_eq!(output, []);
        } else {
            // Congestion that one fragment met is carried inward.
            assert_eq!(single(output).bytes, Packet { tos: 3, ..packet.clone() }.frame());
        }
    }
    // The same packet again is reassembled again: nothing is left over.
    let again: Vec<_> =
        pieces.iter().map(|piece| (Origin::Wire, VnetHeader::default(), piece.frame())).collect();
    assert_eq!(run_batch(&mut engine, at(101), &tables, &again).len(), 1);
    assert_eq!(reasons(&vpn), []);
}

#[test]
fn fragments_of_foreign_esp_pass_untouched() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let pieces = fragments(&Packet::new("21.1.1.2", "41.1.1.2", 50, vec![9; 1000]), 304);
    let mut engine = engine();
    // Held until the first one shows the SPI, then all pass, and the rest at once.
    assert_eq!(run(&mut engine, &tables, Origin::Wire, &pieces[2].frame()), []);
    let output = run(&mut engine, &tables, Origin::Wire, &pieces[0].frame());
    assert_eq!(destinations(&output), [Destination::Inject; 2]);
    assert_eq!((&output[0].bytes, &output[1].bytes), (&pieces[2].frame(), &pieces[0].frame()));
    for piece in [&pieces[1], &pieces[3]] {
        assert_eq!(single(run(&mut engine, &tables, Origin::Wire, &piece.frame())).bytes, piece.frame());
    }
    // Between protected addresses they are dropped.
    let pieces = fragments(&Packet::new("31.1.1.2", "41.1.1.2", 50, vec![9; 1000]), 504);
    assert_eq!(run(&mut engine, &tables, Origin::Wire, &pieces[1].frame()), []);
    assert_eq!(run(&mut engine, &tables, Origin::Wire, &pieces[0].frame()), []);
    assert_eq!(reasons(&vpn), [(D::UnknownSpiProtected, 2)]);
}

#[test]
fn esp_fragments_that_overlap_or_never_end_are_counted() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let mut engine = engine();
    let pieces = fragments(&Packet::new("31.1.1.2", "41.1.1.2", 50, vec![9; 1000]), 504);
    run(&mut engine, &tables, Origin::Wire, &pieces[1].frame());
    let overlapping = Packet { fragment_offset: pieces[1].fragment_offset - 1, ..pieces[1].clone() };
    run(&mut engine, &tables, Origin::Wire, &overlapping.frame());
    run(&mut engine, &tables, Origin::Wire, &pieces[0].frame());
    assert_eq!(tables.counters().drops.count(D::ReassemblyInvalid), 3);
    let lonely = Packet { identification: 9, ..pieces[1].clone() };
    run(&mut engine, &tables, Origin::Wire, &lonely.frame());
    let late = [(Origin::Wire, VnetHeader::default(), Packet { identification: 10, ..lonely }.frame())];
    run_batch(&mut engine, at(200), &tables, &late);
    assert_eq!(tables.counters().drops.count(D::ReassemblyTimeout), 1);
}

/// A router's error about the packet of a frame.
fn error_about(frame: &[u8], kind: u8, code: u8, mtu: u16) -> Packet {
    let mut icmp = vec![kind, code, 0, 0, 0, 0];
    icmp.extend(mtu.to_be_bytes());
    icmp.extend_from_slice(&frame[14..14 + 28]);
    Packet::new("9.9.9.9", "31.1.1.2", 1, icmp)
}

#[test]
fn a_routers_error_about_our_esp_reaches_the_host_about_its_own_packet() {
    let vpn = Vpn { df_bit: DfBit::Copy, ..seed_vpn(&[sa(SPI)]) };
    let tables = tables(&vpn);
    let mut engine = engine();
    let mut packet = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &[5; 1000]);
    packet.dont_fragment = true;
    let sent = single(run(&mut engine, &tables, OWN_FORWARDED, &packet.frame()));

    let expired = error_about(&sent.bytes, 11, 0, 0);
    let told = single(run(&mut engine, &tables, Origin::Wire, &expired.frame()));
    assert_eq!(told.destination, Destination::IcmpToHost);
    let (ip, icmp) = told.packet();
    assert_eq!((ip.source, ip.destination), (address("9.9.9.9"), address("31.1.1.2")));
    assert_eq!(icmp[..2], [11, 0]);
    assert_eq!(icmp[8..], packet.bytes()[..28]);

    // Too big: the host is told what fits, and what it sends later is cut or refused accordingly.
    let too_big = error_about(&sent.bytes, 3, 4, 900);
    let told = single(run(&mut engine, &tables, Origin::Wire, &too_big.frame()));
    let (_, icmp) = told.packet();
    let mtu = usize::from(u16::from_be_bytes([icmp[6], icmp[7]]));
    assert_eq!(mtu, (900 - 56) / 16 * 16 - 2);
    let refused = single(run(&mut engine, &tables, OWN_FORWARDED, &packet.frame()));
    assert_eq!(refused.destination, Destination::IcmpToHost);
    packet.dont_fragment = false;
    let cut = run(&mut engine, &tables, OWN_FORWARDED, &packet.frame());
    assert_eq!(destinations(&cut), [Destination::WireEsp; 2]);
    assert!(cut.iter().all(|out| out.bytes.len() <= 914));
}

#[test]
fn a_too_big_about_a_packet_without_df_is_not_believed() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let mut engine = engine();
    let packet = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &[5; 1000]).frame();
    let sent = single(run(&mut engine, &tables, OWN_FORWARDED, &packet));
    let too_big = error_about(&sent.bytes, 3, 4, 600);
    assert_eq!(run(&mut engine, &tables, Origin::Wire, &too_big.frame()), []);
    assert_eq!(reasons(&vpn), [(D::IcmpQuotingEsp, 1)]);
    assert_eq!(run(&mut engine, &tables, OWN_FORWARDED, &packet).len(), 1);
}

#[test]
fn an_error_about_esp_we_did_not_send_is_told_to_nobody() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let sent = single(run(
        &mut engine(),
        &tables,
        OWN_FORWARDED,
        &Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &[5]).frame(),
    ));
    let error = error_about(&sent.bytes, 3, 1, 0);
    assert_eq!(run(&mut engine(), &tables, Origin::Wire, &error.frame()), []);
    assert_eq!(reasons(&vpn), [(D::IcmpQuotingEsp, 1)]);
    // One about ESP with another SPI is judged like any packet from outside.
    let mut other = sent.bytes.clone();
    other[34] ^= 1;
    let error = error_about(&other, 3, 1, 0);
    assert_eq!(run(&mut engine(), &tables, Origin::Wire, &error.frame()), []);
    assert_eq!(reasons(&vpn), [(D::ClearInbound, 1), (D::IcmpQuotingEsp, 1)]);
}
