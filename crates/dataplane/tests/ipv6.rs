//! IPv6 through the engine: what the outer header is, what is too big, and what the path says.

mod support;

use dataplane::DropReason as D;
use dataplane::*;
use support::*;

fn udp(data: &[u8]) -> Packet {
    Packet::udp("31.1.1.2", "41.1.1.2", (1000, 2000), data).six()
}

fn wires(sent: &[Out]) -> Vec<(Origin, VnetHeader, Vec<u8>)> {
    let wire = |out: &Out| {
        assert_eq!(out.destination, Destination::WireEsp);
        (Origin::Wire, VnetHeader::default(), out.bytes.clone())
    };
    sent.iter().map(wire).collect()
}

fn errors_of(output: &[Out]) -> (u8, u8, u32, Vec<u8>) {
    let out = single(output.to_vec());
    assert_eq!(out.destination, Destination::IcmpToHost);
    let (header, icmp) = out.packet6();
    assert_eq!(header.next_header.0, 58);
    assert_eq!(checksum_with_field(&header.source, &header.destination, icmp), 0xffff);
    (icmp[0], icmp[1], u32::from_be_bytes(icmp[4..8].try_into().unwrap()), icmp[8..].to_vec())
}

/// Over a message with its checksum in place: all ones, as for any right sum.
fn checksum_with_field(source: &[u8], destination: &[u8], icmp: &[u8]) -> u16 {
    let mut zeroed = icmp.to_vec();
    zeroed[2..4].fill(0);
    let expected = checksum6(source, destination, 58, &zeroed);
    if icmp[2..4] == expected.to_be_bytes() { 0xffff } else { 0 }
}

#[test]
fn the_outer_header_is_a_copy_without_extension_headers() {
    for suite in cbc_suites().chain(gcm_suites()) {
        let sender = tables(&seed_vpn(&[member_sa(suite, SPI, &[1], None)]));
        let vpn = seed_vpn(&[member_sa(suite, SPI, &[2], None)]);
        let packet = Packet { tos: 0xb9, flow_label: 0xabcde, ttl: 17, options: vec![1; 4], ..udp(b"data") };
        let sent = single(run(&mut engine(), &sender, OWN_FORWARDED, &packet.frame()));
        let (outer, _) = sent.packet6();
        assert_eq!(
            (outer.source, outer.destination),
            (packet.source6().octets(), packet.destination6().octets())
        );
        assert_eq!((outer.next_header.0, outer.hop_limit, outer.traffic_class), (50, 17, 0xb9));
        assert_eq!(outer.flow_label.value(), 0xabcde);
        let received = single(run(&mut engine(), &tables(&vpn), Origin::Wire, &sent.bytes));
        assert_eq!((received.destination, received.bytes), (Destination::Inject, packet.frame()));
        assert_eq!(vpn.counters.decrypted.octets(), packet.bytes().len() as u64);
    }
}

#[test]
fn congestion_on_the_way_reaches_the_inner_header_and_other_bits_do_not() {
    let tables = tables(&seed_vpn(&[sa(SPI)]));
    let packet = Packet { tos: 0xba, ..udp(b"data") };
    let mut sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame())).bytes;
    // Traffic class 0x03: CE, and another DSCP.
    (sent[14], sent[15]) = (0x60, sent[15] & 0x0f | 0x30);
    let received = single(run(&mut engine(), &tables, Origin::Wire, &sent));
    assert_eq!(received.bytes, Packet { tos: 0xbb, ..packet.clone() }.frame());
    // A packet that does not know ECN is dropped where congestion was met.
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = support::tables(&vpn);
    let mut sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &udp(b"data").frame())).bytes;
    sent[15] |= 0x30;
    assert_eq!(run(&mut engine(), &tables, Origin::Wire, &sent), []);
    assert_eq!(reasons(&vpn), [(D::EcnDrop, 1)]);
}

#[test]
fn headers_that_the_path_has_put_before_esp_do_not_hide_it() {
    let tables = tables(&seed_vpn(&[sa(SPI)]));
    let packet = udp(b"data");
    let mut sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame())).bytes;
    let length = u16::from_be_bytes([sent[18], sent[19]]) + 8;
    sent[18..20].copy_from_slice(&length.to_be_bytes());
    sent[20] = 0;
    sent.splice(54..54, [50, 0, 1, 4, 0, 0, 0, 0]);
    assert_eq!(single(run(&mut engine(), &tables, Origin::Wire, &sent)).bytes, packet.frame());
}

#[test]
fn versions_do_not_mix_inside_and_outside() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let four = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), b"data");
    let plain = |packet: &Packet, next_header: u8| {
        let mut plain = packet.bytes();
        let padding = (16 - (plain.len() + 2) % 16) % 16;
        plain.extend((1..=padding as u8).chain([padding as u8, next_header]));
        plain
    };
    for (outer, inner, next_header, reason) in [
        (udp(b""), four.clone(), 4, D::BadNextHeader),
        (udp(b""), four.clone(), 41, D::InnerMalformed),
        (four.clone(), udp(b""), 41, D::BadNextHeader),
        (four, udp(b""), 4, D::InnerMalformed),
    ] {
        vpn.counters.reset();
        let outer = Packet { is_six: outer.is_six, ..outer };
        let esp = seal(AES128_SHA1, &outer, &plain(&inner, next_header));
        assert_eq!(run(&mut engine(), &tables, Origin::Wire, &esp), []);
        assert_eq!(reasons(&vpn), [(reason, 1)]);
    }
}

#[test]
fn a_forwarded_packet_that_is_too_big_is_answered_and_never_fragmented() {
    for suite in [AES128_SHA1, AES128_GCM] {
        let vpn = seed_vpn(&[member_sa(suite, SPI, &[1, 2, 3, 4], None)]);
        let tables = tables(&vpn);
        let mut engine = engine();
        let large = udp(&[7; 1452]);
        let (kind, code, mtu, quote) = errors_of(&run(&mut engine, &tables, OWN_FORWARDED, &large.frame()));
        assert_eq!((kind, code), (2, 0));
        assert_eq!(quote, large.bytes()[..1280 - 48]);
        let fitting = udp(&vec![7; mtu as usize - 48]);
        let sent = single(run(&mut engine, &tables, OWN_FORWARDED, &fitting.frame()));
        assert!(sent.bytes.len() <= 1514 && sent.bytes.len() > 1514 - 16);
        let fragment = Packet { more_fragments: true, payload: vec![7; 1440], ..large.clone() };
        assert_eq!(errors_of(&run(&mut engine, &tables, OWN_FORWARDED, &fragment.frame())).2, mtu);
        // Multicast, too, is answered: so IPv6 finds the MTU of its trees.
        assert_eq!(reasons(&vpn), [(D::TooBig, 2)]);
    }
}

#[test]
fn a_large_packet_of_this_machine_is_fragmented_unless_it_is_tcp() {
    let tables = tables(&seed_vpn(&[sa(SPI)]));
    for options in [vec![], vec![1; 4]] {
        let large = Packet { options, ..udp(&[7; 3000]) };
        let sent = run(&mut engine(), &tables, OWN, &large.frame());
        assert!(sent.iter().all(|out| out.bytes.len() <= 1514));
        let received = run_batch(&mut engine(), at(100), &tables, &wires(&sent));
        let mut collected = Vec::new();
        for (index, out) in received.iter().enumerate() {
            let headers = 40 + if large.options.is_empty() { 0 } else { 8 };
            let (header, rest) = out.bytes[14..].split_at(headers + 8);
            assert_eq!(header[headers..headers + 2], [17, 0]);
            let place = u16::from_be_bytes([header[headers + 2], header[headers + 3]]);
            assert_eq!(usize::from(place & !7), collected.len());
            assert_eq!(place & 1 == 0, index + 1 == received.len());
            collected.extend_from_slice(rest);
        }
        assert_eq!(collected, large.payload);
    }
    let tcp = Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((1, 2), 5), &[7; 1440]).six();
    assert_eq!(errors_of(&run(&mut engine(), &tables, OWN, &tcp.frame())).0, 2);
}

#[test]
fn a_large_packet_with_more_headers_than_every_fragment_can_have_is_not_cut() {
    let vpn = seed_vpn(&[sa(SPI)]);
    // Destination options of 264 octets, and behind them a fragment header or the upper layer.
    for (next, following) in [(44, &[17, 0, 0, 1, 0, 0, 0, 9][..]), (43, &[17, 0, 0, 0, 0, 0, 0, 0])] {
        let mut payload = vec![next, 32];
        payload.resize(264, 0);
        payload.extend_from_slice(following);
        payload.resize(2000, 7);
        let large = Packet::new("31.1.1.2", "41.1.1.2", 60, payload).six();
        assert_eq!(run(&mut engine(), &tables(&vpn), OWN, &large.frame()), []);
    }
    assert_eq!(reasons(&vpn), [(D::TooBig, 2)]);
}

#[test]
fn over_the_smallest_link_the_esp_packet_is_cut_so_that_1280_octets_pass() {
    let vpn = Vpn { tunnel_mtu: Some(1280), ..seed_vpn(&[sa(SPI)]) };
    let tables = tables(&vpn);
    let packet = udp(&[7; 1280 - 48]);
    let sent = run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame());
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|out| out.bytes.len() <= 14 + 1280 && out.protocol() == 44));
    assert_eq!(sent[0].bytes[..14], udp(b"").frame()[..14]);
    // In either order.
    for order in [[0, 1], [1, 0]] {
        let arrive = order.map(|at| wires(&sent)[at].clone());
        let received = single(run_batch(&mut engine(), at(100), &tables, &arrive));
        assert_eq!(received.bytes, packet.frame());
    }
    let (_, _, mtu, _) =
        errors_of(&run(&mut engine(), &tables, OWN_FORWARDED, &udp(&[7; 1280 - 47]).frame()));
    assert_eq!(mtu, 1280);
}

#[test]
fn esp_in_fragments_is_reassembled_with_the_congestion_of_any() {
    let tables = tables(&seed_vpn(&[sa(SPI)]));
    let packet = Packet { tos: 2, ..udp(&[7; 1200]) };
    let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame())).bytes;
    let pieces: Vec<_> = sent[54..].chunks(400).collect();
    let count = pieces.len();
    let frame = |(index, payload): (usize, &&[u8])| Packet {
        protocol: 50,
        payload: payload.to_vec(),
        tos: if index == 1 { 3 } else { 2 },
        fragment_offset: (index * 50) as u16,
        more_fragments: index + 1 < count,
        ..packet.clone()
    };
    let fragments: Vec<_> = pieces
        .iter()
        .enumerate()
        .rev()
        .map(|piece| (Origin::Wire, VnetHeader::default(), frame(piece).frame()))
        .collect();
    let received = single(run_batch(&mut engine(), at(100), &tables, &fragments));
    assert_eq!(received.bytes, Packet { tos: 3, ..packet }.frame());
}

#[test]
fn a_routers_error_about_our_esp_reaches_the_host_and_lowers_the_path() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let mut engine = engine();
    let packet = udp(&[7; 1300]);
    let sent = single(run(&mut engine, &tables, OWN_FORWARDED, &packet.frame())).bytes;
    let error = |kind: u8, rest: u32, length: usize| {
        let mut icmp = vec![kind, 0, 0, 0];
        icmp.extend(rest.to_be_bytes());
        icmp.extend(&sent[14..14 + length]);
        let mut error = Packet { payload: icmp, ..Packet::new("9.9.9.9", "31.1.1.2", 58, vec![]) };
        error.destination = packet.source;
        error.six().frame()
    };
    // Beyond a quarter of the packet, as a router may quote less.
    let (kind, _, rest, quote) = errors_of(&run(&mut engine, &tables, Origin::Wire, &error(3, 0, 300)));
    assert_eq!((kind, rest), (3, 0));
    assert_eq!(quote, packet.bytes()[..48]);
    let (kind, _, mtu, _) = errors_of(&run(&mut engine, &tables, Origin::Wire, &error(2, 1380, 300)));
    assert_eq!(kind, 2);
    assert!((1280..1380).contains(&mtu));
    let (_, _, same, _) = errors_of(&run(&mut engine, &tables, OWN_FORWARDED, &packet.frame()));
    assert_eq!(same, mtu);
    // Nobody is told of less than the smallest link carries, and our ESP is not cut further than that.
    let (_, _, mtu, _) = errors_of(&run(&mut engine, &tables, Origin::Wire, &error(2, 68, 300)));
    assert_eq!(mtu, 1280);
    let sent = run(&mut engine, &tables, OWN_FORWARDED, &udp(&[7; 1232]).frame());
    assert!(sent.iter().all(|out| out.bytes.len() <= 14 + 1280));
    assert_eq!(sent.len(), 2);
    // An error about a packet that was not sent by us tells nobody anything.
    let mut unknown = error(1, 0, 300);
    unknown[14 + 40 + 8 + 40 + 7] ^= 0xff;
    assert_eq!(run(&mut engine, &tables, Origin::Wire, &unknown), []);
    assert_eq!(vpn.counters.drops.count(D::IcmpQuotingEsp), 1);
}

#[test]
fn without_an_address_of_its_own_the_router_answers_nothing() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let mut builder = TablesBuilder::new();
    builder.interface(WAN, 1500).vpn(vpn.clone()).local_addresses(["fe80::1".parse().unwrap()]);
    assert_eq!(run(&mut engine(), &builder.build(), OWN_FORWARDED, &udp(&[7; 1452]).frame()), []);
    assert_eq!(reasons(&vpn), [(D::TooBig, 1)]);
}

#[test]
fn a_packet_that_hides_its_upper_layer_is_kept_where_ports_or_protocol_decide() {
    let mut vpn = seed_vpn(&[]);
    let telnet = Selector { protocol: 6, ..selector6("31.1.1.0/24", "41.1.1.0/24") };
    vpn.policies =
        vec![policy(telnet, &[sa(SPI)]), policy(selector6("31.1.1.0/24", "51.1.1.0/24"), &[sa(SPI)])];
    let tables = tables(&vpn);
    // Destination options that are longer than the packet.
    let hidden = |destination: &str| {
        Packet::new("31.1.1.2", destination, 60, vec![6, 9, 0, 0, 0, 0, 0, 0]).six().frame()
    };
    assert_eq!(run(&mut engine(), &tables, OWN_FORWARDED, &hidden("41.1.1.2")), []);
    assert_eq!(reasons(&vpn), [(D::AmbiguousFragment, 1)]);
    let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &hidden("51.1.1.2")));
    assert_eq!(sent.destination, Destination::WireEsp);
    let clear = single(run(&mut engine(), &tables, OWN_FORWARDED, &hidden("61.1.1.2")));
    assert_eq!(clear.destination, Destination::WireClear);
}

#[test]
fn a_policy_for_all_of_one_version_leaves_the_other_alone() {
    let mut vpn = seed_vpn(&[]);
    vpn.policies = vec![policy(selector("::/0", "::/0"), &[sa(SPI)])];
    vpn.exclude = vec![pair("2001:db8::31.1.1.9/128", "::/0")];
    let tables = tables(&vpn);
    let four = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), b"data");
    let fate =
        |packet: &Packet| single(run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame())).destination;
    assert_eq!(fate(&four), Destination::WireClear);
    assert_eq!(fate(&udp(b"data")), Destination::WireEsp);
    assert_eq!(fate(&Packet::udp("31.1.1.9", "41.1.1.2", (1, 2), b"data").six()), Destination::WireClear);
}
