//! Super-frames, checksum offload, and packets that do not fit.

mod support;

use dataplane::*;
use etherparse::TcpHeader;
use proptest::prelude::*;
use support::*;

fn super_frame(packet: &Packet, gso_size: u16) -> (VnetHeader, Vec<u8>) {
    let mut frame = packet.frame();
    let start = if packet.is_six { 14 + 40 } else { 14 + 20 };
    let tcp_length = usize::from(frame[start + 12] >> 4) * 4;
    put_partial_checksum(&mut frame, start, 6, 16);
    let vnet = VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: if packet.is_six { VnetHeader::GSO_TCPV6 } else { VnetHeader::GSO_TCPV4 },
        header_length: (start + tcp_length) as u16,
        gso_size,
        checksum_start: start as u16,
        checksum_offset: 16,
    };
    (vnet, frame)
}

/// The kernel leaves the sum of the pseudo-header in the field.
fn put_partial_checksum(frame: &mut [u8], start: usize, protocol: u32, offset: usize) {
    let addresses = if start == 54 { &frame[22..54] } else { &frame[26..34] };
    let mut sum = protocol + (frame.len() - start) as u32;
    for pair in addresses.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[start + offset..start + offset + 2].copy_from_slice(&(sum as u16).to_be_bytes());
}

fn wires(sent: Vec<Out>) -> Vec<(Origin, VnetHeader, Vec<u8>)> {
    sent.into_iter()
        .map(|out| {
            assert_eq!(out.destination, Destination::WireEsp);
            assert!(out.bytes.len() <= 14 + 1500);
            (Origin::Wire, VnetHeader::default(), out.bytes)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_super_frame_crosses_in_segments_that_fit_and_is_merged_to_the_same_octets(
        length in 1usize..60_000,
        gso_size in 500u16..3000,
        options in prop::sample::select(vec![vec![], vec![1u8, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]]),
        sequence in any::<u32>(),
        psh in any::<bool>(),
        is_six in any::<bool>(),
    ) {
        let vpn = seed_vpn(&[sa(SPI)]);
        let tables = tables(&vpn);
        let data: Vec<u8> = (0..length).map(|at| (at * 7 + at / 256) as u8).collect();
        let mut header = tcp_header((40000, 23), sequence);
        header.psh = psh;
        header.set_options_raw(&options).unwrap();
        let packet = Packet::tcp("31.1.1.2", "41.1.1.2", header, &data);
        let packet = if is_six { packet.six() } else { packet };
        let ip_length = if is_six { 40 } else { 20 };
        let (vnet, frame) = super_frame(&packet, gso_size);
        let sent = run_batch(&mut engine(), at(1), &tables, &[(OWN_FORWARDED, vnet, frame.clone())]);
        let mtu_room = 1500 - ip_length - 8 - 16 - 12;
        let largest = mtu_room - mtu_room % 16 - 2;
        let segment = (largest - ip_length - 20 - options.len()).min(gso_size.into());
        prop_assert_eq!(sent.len(), length.div_ceil(segment));

        // Each segment alone is a right TCP packet, and together they are the data.
        let wires = wires(sent);
        let (mut expected_sequence, mut collected) = (sequence, Vec::new());
        for (index, wire) in wires.iter().enumerate() {
            let out = single(run(&mut engine(), &tables, Origin::Wire, &wire.2));
            let (tcp, payload) = TcpHeader::from_slice(&out.bytes[14 + ip_length..]).unwrap();
            let checksum = match is_six {
                true => tcp.calc_checksum_ipv6(&out.packet6().0, payload),
                false => tcp.calc_checksum_ipv4(&out.packet().0, payload),
            };
            prop_assert_eq!(tcp.checksum, checksum.unwrap());
            prop_assert_eq!(tcp.sequence_number, expected_sequence);
            prop_assert_eq!(tcp.psh, psh && index + 1 == wires.len());
            expected_sequence = expected_sequence.wrapping_add(payload.len() as u32);
            collected.extend_from_slice(payload);
        }
        prop_assert_eq!(&collected, &data);

        // In one batch they are merged.
        let merged = run_batch(&mut engine(), at(1), &tables, &wires);
        let merged = single(merged);
        prop_assert_eq!(merged.destination, Destination::Inject);
        prop_assert_eq!(&merged.bytes, &if wires.len() == 1 { packet.frame() } else { frame });
        if wires.len() > 1 {
            prop_assert_eq!(merged.vnet, VnetHeader { gso_size: segment as u16, ..vnet });
        }
    }
}

#[test]
fn datagrams_are_merged_where_the_kernel_takes_them_and_cut_again_to_the_same_octets() {
    for is_six in [false, true] {
        let tables = tables(&seed_vpn(&[sa(SPI)]));
        let datagram = |index: u16, size: usize| {
            let mut packet = Packet::udp("31.1.1.2", "41.1.1.2", (5, 6), &vec![index as u8; size]);
            packet.identification += index;
            if is_six { packet.six() } else { packet }
        };
        let sizes = [1000, 1000, 1000, 400, 1000, 1000, 1200, 0, 70];
        let packets: Vec<_> =
            sizes.iter().enumerate().map(|(index, size)| datagram(index as u16, *size)).collect();
        let input: Vec<_> =
            packets.iter().map(|packet| (OWN_FORWARDED, VnetHeader::default(), packet.frame())).collect();
        let wires = wires(run_batch(&mut engine(), at(1), &tables, &input));
        let plain = run_batch(&mut engine(), at(1), &tables, &wires);
        assert_eq!(plain.len(), sizes.len());
        let mut receiver = engine();
        receiver.merge_datagrams(true);
        let merged = run_batch(&mut receiver, at(1), &tables, &wires);
        let headers = if is_six { 62 } else { 42 };
        let shape: Vec<_> = merged.iter().map(|out| (out.bytes.len() - headers, out.vnet.gso_size)).collect();
        // A shorter one ends a run, a longer one begins another, and an empty one is alone.
        assert_eq!(shape, [(3400, 1000), (2000, 1000), (1200, 0), (0, 0), (70, 0)]);
        assert_eq!(merged[0].vnet.gso_type, VnetHeader::GSO_UDP_DATAGRAMS);
        let mut expected = merged[0].bytes.clone();
        put_partial_checksum(&mut expected, headers - 8, 17, 6);
        assert_eq!(merged[0].bytes, expected);
        assert_eq!(merged[0].bytes[headers - 4..headers - 2], (3408u16).to_be_bytes());
        // What goes out again as a super-frame arrives as the datagrams it was made of.
        let again: Vec<_> = merged.iter().map(|out| (OWN_FORWARDED, out.vnet, out.bytes.clone())).collect();
        let sent = run_batch(&mut engine(), at(1), &tables, &again);
        let input: Vec<_> =
            sent.into_iter().map(|out| (Origin::Wire, VnetHeader::default(), out.bytes)).collect();
        let received = run_batch(&mut engine(), at(1), &tables, &input);
        let frames: Vec<_> = received.into_iter().map(|out| out.bytes).collect();
        assert_eq!(frames, packets.iter().map(Packet::frame).collect::<Vec<_>>());
    }
}

#[test]
fn datagrams_without_or_with_a_wrong_checksum_are_not_merged() {
    let tables = tables(&seed_vpn(&[sa(SPI)]));
    for checksum in [[0, 0], [1, 2]] {
        let input: Vec<_> = (0..3)
            .map(|_| {
                let mut frame = Packet::udp("31.1.1.2", "41.1.1.2", (5, 6), &[7; 100]).frame();
                frame[40..42].copy_from_slice(&checksum);
                (OWN_FORWARDED, VnetHeader::default(), frame)
            })
            .collect();
        let wires = wires(run_batch(&mut engine(), at(1), &tables, &input));
        let mut receiver = engine();
        receiver.merge_datagrams(true);
        assert_eq!(run_batch(&mut receiver, at(1), &tables, &wires).len(), 3);
    }
}

#[test]
fn segments_of_interleaved_flows_are_merged_each_in_order() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let frame = |flow: u16, sequence: u32, psh: bool| {
        let mut header = tcp_header((40000 + flow, 23), sequence);
        header.psh = psh;
        let packet = Packet::tcp("31.1.1.2", "41.1.1.2", header, &[flow as u8; 100]);
        (OWN_FORWARDED, VnetHeader::default(), packet.frame())
    };
    let input: Vec<_> =
        (0..4).flat_map(|at| (0..3).map(move |flow| frame(flow, at * 100, at == 2))).collect();
    let sent = run_batch(&mut engine(), at(1), &tables, &input);
    let merged = run_batch(&mut engine(), at(1), &tables, &wires(sent));
    // Each flow: three segments up to the pushed one, and one after it.
    let shape: Vec<_> = merged.iter().map(|out| (out.bytes[35] - 64, out.bytes.len() - 54)).collect();
    assert_eq!(shape, [(0, 300), (1, 300), (2, 300), (0, 100), (1, 100), (2, 100)]);
}

#[test]
fn a_segment_with_a_wrong_checksum_is_not_merged() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let mut frames: Vec<Vec<u8>> = (0..3)
        .map(|at| Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((1, 2), at * 50), &[9; 50]).frame())
        .collect();
    *frames[1].last_mut().unwrap() ^= 1;
    let input: Vec<_> =
        frames.iter().map(|frame| (OWN_FORWARDED, VnetHeader::default(), frame.clone())).collect();
    let sent = run_batch(&mut engine(), at(1), &tables, &input);
    let received = run_batch(&mut engine(), at(1), &tables, &wires(sent));
    assert_eq!(received.iter().map(|out| out.bytes.clone()).collect::<Vec<_>>(), frames);
}

#[test]
fn partial_checksums_are_completed_before_encryption() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let packet = Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((1, 2), 5), b"odd number of octets.");
    let (vnet, frame) = super_frame(&packet, 0);
    let vnet = VnetHeader { gso_type: VnetHeader::GSO_NONE, ..vnet };
    let sent = single(run_batch(&mut engine(), at(1), &tables, &[(OWN_FORWARDED, vnet, frame.clone())]));
    assert_eq!(single(run(&mut engine(), &tables, Origin::Wire, &sent.bytes)).bytes, packet.frame());

    let outside = VnetHeader { checksum_start: 14, ..vnet };
    assert_eq!(run_batch(&mut engine(), at(1), &tables, &[(OWN_FORWARDED, outside, frame.clone())]), []);
    let outside = VnetHeader { checksum_offset: 60000, ..vnet };
    assert_eq!(run_batch(&mut engine(), at(1), &tables, &[(OWN_FORWARDED, outside, frame)]), []);
    assert_eq!(reasons(&vpn), [(DropReason::BadChecksumOffload, 2)]);
}

#[test]
fn a_udp_super_frame_crosses_as_its_datagrams() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let data: Vec<u8> = (0..5000).map(|at| at as u8).collect();
    let frame = Packet::udp("31.1.1.2", "41.1.1.2", (5, 6), &data).frame();
    let vnet = |gso_size| VnetHeader {
        flags: VnetHeader::NEEDS_CHECKSUM,
        gso_type: VnetHeader::GSO_UDP_DATAGRAMS,
        gso_size,
        checksum_start: 34,
        checksum_offset: 6,
        ..VnetHeader::default()
    };
    let sent = run_batch(&mut engine(), at(1), &tables, &[(OWN_FORWARDED, vnet(1200), frame.clone())]);
    let received = run_batch(&mut engine(), at(1), &tables, &wires(sent));
    assert_eq!(received.len(), 5);
    for (index, (out, piece)) in received.iter().zip(data.chunks(1200)).enumerate() {
        let mut datagram = Packet::udp("31.1.1.2", "41.1.1.2", (5, 6), piece);
        datagram.identification += index as u16;
        assert_eq!(out.bytes, datagram.frame());
    }
    // Datagrams that do not fit are cut into fragments: their boundaries mean something.
    let sent = run_batch(&mut engine(), at(1), &tables, &[(OWN_FORWARDED, vnet(1472), frame)]);
    let received = run_batch(&mut engine(), at(1), &tables, &wires(sent));
    assert_eq!(received.len(), 3 * 2 + 1);
    assert!(received[0].packet().0.more_fragments);
    assert!(!received[1].packet().0.more_fragments);
}

#[test]
fn a_packet_too_large_for_the_outer_mtu_is_fragmented_before_encryption() {
    let options = vec![0x94, 4, 0, 0, 7, 3, 4, 0];
    for suite in cbc_suites() {
        let vpn = seed_vpn(&[sa_with(suite, SPI, Instant::ZERO, Instant::FAR_FUTURE)]);
        let tables = tables(&vpn);
        for (size, offset, more) in [(1480, 0, false), (1400, 0, true), (4000, 185, true), (1480, 100, false)]
        {
            let payload: Vec<u8> = (0..size).map(|at| (at * 3) as u8).collect();
            let mut packet = Packet::new("31.1.1.2", "41.1.1.2", 17, payload);
            packet.options = options.clone();
            (packet.fragment_offset, packet.more_fragments) = (offset, more);
            let sent = run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame());
            let received = run_batch(&mut engine(), at(1), &tables, &wires(sent));
            let mut collected = Vec::new();
            let last = received.len() - 1;
            for (index, out) in received.iter().enumerate() {
                let (ip, payload) = out.packet();
                assert_eq!(usize::from(ip.fragment_offset.value() - offset) * 8, collected.len());
                assert_eq!(ip.more_fragments, more || index < last);
                assert_eq!(ip.identification, packet.identification);
                assert_eq!(ip.options.as_slice(), if index == 0 { &options[..] } else { &options[..4] });
                collected.extend_from_slice(payload);
            }
            assert_eq!(collected, packet.payload);
        }
    }
}

#[test]
fn the_sender_of_a_large_packet_with_df_is_told_the_mtu_that_fits_the_suite() {
    for suite in cbc_suites() {
        let vpn = seed_vpn(&[sa_with(suite, SPI, Instant::ZERO, Instant::FAR_FUTURE)]);
        let tables = tables(&vpn);
        let packet = |size: usize| {
            let mut packet = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &vec![3; size - 28]);
            packet.dont_fragment = true;
            packet
        };
        let out = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet(1500).frame()));
        assert_eq!(out.destination, Destination::IcmpToHost);
        let (ip, icmp) = out.packet();
        assert_eq!((ip.source, ip.destination, ip.protocol.0), ([0; 4], address("31.1.1.2"), 1));
        assert_eq!(icmp[..2], [3, 4]);
        assert_eq!(etherparse::checksum::Sum16BitWords::new().add_slice(icmp).ones_complement(), 0);
        assert_eq!(icmp[8..], packet(1500).bytes()[..548]);
        let mtu = usize::from(u16::from_be_bytes([icmp[6], icmp[7]]));
        let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet(mtu).frame()));
        assert_eq!(sent.destination, Destination::WireEsp);
        assert!(sent.bytes.len() <= 1514 && sent.bytes.len() > 1514 - 16);
        let refused = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet(mtu + 1).frame()));
        assert_eq!(refused.destination, Destination::IcmpToHost);
        assert_eq!(reasons(&vpn), [(DropReason::TooBig, 2)]);
    }
}

#[test]
fn icmp_errors_are_rate_limited_and_never_answer_errors() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let tables = tables(&vpn);
    let mut large = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &[3; 1472]);
    large.dont_fragment = true;
    let input: Vec<_> = (0..200).map(|_| (OWN_FORWARDED, VnetHeader::default(), large.frame())).collect();
    assert_eq!(run_batch(&mut engine(), at(1), &tables, &input).len(), 50);
    let mut error =
        Packet::icmp_error("31.1.1.2", "41.1.1.2", &Packet::udp("41.1.1.2", "31.1.1.2", (1, 2), &[]));
    error.payload.resize(1480, 0);
    error.dont_fragment = true;
    assert_eq!(run(&mut engine(), &tables, OWN_FORWARDED, &error.frame()), []);
    let mut multicast = Packet::udp("224.1.1.1", "41.1.1.2", (1, 2), &[3; 1472]);
    multicast.dont_fragment = true;
    assert_eq!(run(&mut engine(), &tables, OWN_FORWARDED, &multicast.frame()).len(), 1, "clear: no policy");
}

#[test]
fn df_of_the_outer_header_is_cleared_set_or_copied() {
    for (df_bit, inner, outer) in [
        (DfBit::Clear, false, false),
        (DfBit::Clear, true, false),
        (DfBit::Set, false, true),
        (DfBit::Set, true, true),
        (DfBit::Copy, false, false),
        (DfBit::Copy, true, true),
    ] {
        let vpn = Vpn { df_bit, ..seed_vpn(&[sa(SPI)]) };
        let mut packet = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), b"data");
        packet.dont_fragment = inner;
        let sent = single(run(&mut engine(), &tables(&vpn), OWN_FORWARDED, &packet.frame()));
        assert_eq!(sent.packet().0.dont_fragment, outer, "{df_bit:?} {inner}");
    }
}

#[test]
fn the_tunnel_mtu_lowers_that_of_the_interface() {
    let vpn = Vpn { tunnel_mtu: Some(600), ..seed_vpn(&[sa(SPI)]) };
    let packet = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &[1; 1000]);
    let sent = run(&mut engine(), &tables(&vpn), OWN_FORWARDED, &packet.frame());
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|out| out.bytes.len() <= 614));
    let vpn = Vpn { tunnel_mtu: Some(100), ..seed_vpn(&[sa(SPI)]) };
    assert_eq!(run(&mut engine(), &tables(&vpn), OWN_FORWARDED, &packet.frame()), []);
    assert_eq!(reasons(&vpn), [(DropReason::TooSmallMtu, 1)]);
}
