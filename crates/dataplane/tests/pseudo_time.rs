//! Time-based anti-replay: packets carry the group's pseudo-time, and come too late or too early at a price.

mod support;

use std::sync::Arc;
use std::time::Duration;

use dataplane::DropReason as D;
use dataplane::*;
use support::*;

const WINDOW: Duration = Duration::from_secs(100);
/// Pseudo-time at second 100 of the engines.
const TIME: PseudoTime = PseudoTime::from_micros(1_700_000_000_123_456);

fn clock() -> Arc<PseudoClock> {
    PseudoClock::new(at(100), TIME, WINDOW)
}

fn vpn_with(clock: Option<&Arc<PseudoClock>>) -> Vpn {
    seed_vpn(&[member_sa(AES128_SHA1, SPI, &[], clock)])
}

fn packet() -> Packet {
    Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), b"a datagram")
}

#[test]
fn packets_cross_with_the_header_between_esp_and_inner_packet() {
    let suites = cbc_suites().chain(gcm_suites());
    for suite in suites {
        let clock = clock();
        let sender = tables(&seed_vpn(&[member_sa(suite, SPI, &[1], Some(&clock))]));
        let vpn = seed_vpn(&[member_sa(suite, SPI, &[2], Some(&clock))]);
        let sent = single(run(&mut engine(), &sender, OWN_FORWARDED, &packet().frame()));
        assert_eq!(sent.bytes.len(), 34 + suite.frame_len(12 + packet().bytes().len()));
        let received = single(run(&mut engine(), &tables(&vpn), Origin::Wire, &sent.bytes));
        assert_eq!(received.bytes, packet().frame());
        assert_eq!(vpn.counters.decrypted.octets(), packet().bytes().len() as u64);
    }
}

#[test]
fn a_packet_is_accepted_within_the_window_around_the_receivers_time() {
    let sender = tables(&vpn_with(Some(&clock())));
    let sent = single(run(&mut engine(), &sender, OWN_FORWARDED, &packet().frame())).bytes;
    let own = TIME.as_micros();
    let window = WINDOW.as_micros() as u64;
    for (time, expected) in [
        (own, None),
        (own + window, None),
        (own - window, None),
        (own + window + 1, Some(D::TimestampTooOld)),
        (own - window - 1, Some(D::TimestampTooNew)),
    ] {
        let clock = PseudoClock::new(at(100), PseudoTime::from_micros(time), WINDOW);
        let vpn = vpn_with(Some(&clock));
        let received = run(&mut engine(), &tables(&vpn), Origin::Wire, &sent);
        assert_eq!(received.len(), usize::from(expected.is_none()));
        assert_eq!(reasons(&vpn).first().map(|(reason, _)| *reason), expected);
    }
}

#[test]
fn the_clock_moves_with_the_engines_time_and_can_be_set_while_packets_flow() {
    let clock = clock();
    let vpn = vpn_with(Some(&clock));
    let tables = tables(&vpn);
    let mut engine = engine();
    let sent = single(run(&mut engine, &tables, OWN_FORWARDED, &packet().frame())).bytes;
    let mut arrives = |seconds| {
        let input = [(Origin::Wire, VnetHeader::default(), sent.clone())];
        run_batch(&mut engine, at(seconds), &tables, &input).len()
    };
    assert_eq!([arrives(100), arrives(200), arrives(201)], [1, 1, 0]);
    clock.set_window(Duration::from_secs(360));
    assert_eq!(arrives(202), 1);
    assert!(clock.advance(at(202), PseudoTime::from_micros(TIME.as_micros() + 500_000_000)));
    assert_eq!(arrives(203), 0);
    assert_eq!(reasons(&vpn), [(D::TimestampTooOld, 2)]);
}

#[test]
fn a_missing_header_and_one_that_nobody_asked_for_are_refused() {
    for (sends, expects, reason) in
        [(false, true, D::TimestampMissing), (true, false, D::TimestampUnexpected)]
    {
        let clock = clock();
        let sender = tables(&vpn_with(sends.then_some(&clock)));
        let vpn = vpn_with(expects.then_some(&clock));
        let sent = single(run(&mut engine(), &sender, OWN_FORWARDED, &packet().frame())).bytes;
        assert_eq!(run(&mut engine(), &tables(&vpn), Origin::Wire, &sent), []);
        assert_eq!(reasons(&vpn), [(reason, 1)]);
    }
}

#[test]
fn headers_that_are_cut_or_of_another_form_are_refused() {
    let vpn = vpn_with(Some(&clock()));
    let tables = tables(&vpn);
    let seconds = ((TIME.as_micros() / 1_000_000) as u32).to_be_bytes();
    let header = [&[4, 1, 0, 12][..], &seconds, &[0, 0, 0, 0]].concat();
    let seal_with = |header: &[u8], next_header: u8| {
        let mut plain = [header, &packet().bytes()].concat();
        let padding = (16 - (plain.len() + 2) % 16) % 16;
        plain.extend((1..=padding as u8).chain([padding as u8, next_header]));
        seal(AES128_SHA1, &packet(), &plain)
    };
    let changed = |at: usize, octet: u8| {
        let mut header = header.clone();
        header[at] = octet;
        header
    };
    for (header, reason) in [
        (header.clone(), None),
        (changed(0, 41), Some(D::BadNextHeader)),
        (changed(0, 17), Some(D::BadNextHeader)),
        (changed(1, 2), Some(D::TimestampMalformed)),
        (changed(3, 8), Some(D::TimestampMalformed)),
        (changed(9, 0x10), Some(D::TimestampMalformed)),
    ] {
        vpn.counters.reset();
        let received = run(&mut engine(), &tables, Origin::Wire, &seal_with(&header, 253));
        assert_eq!(received.len(), usize::from(reason.is_none()), "{header:?}");
        assert_eq!(reasons(&vpn).first().map(|(reason, _)| *reason), reason);
    }
    vpn.counters.reset();
    let empty = seal(AES128_SHA1, &packet(), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 5, 253]);
    assert_eq!(run(&mut engine(), &tables, Origin::Wire, &empty), []);
}

#[test]
fn the_mtu_counts_the_header_for_fragments_icmp_errors_and_segments() {
    for suite in [AES128_SHA1, AES128_GCM] {
        let clock = clock();
        let sender = tables(&seed_vpn(&[member_sa(suite, SPI, &[1], Some(&clock))]));
        let receiver = tables(&seed_vpn(&[member_sa(suite, SPI, &[2], Some(&clock))]));
        let mut large = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &[3; 1472]);
        // One lane: there is one sender identifier.
        let mut lane = engine();
        let mut cross = |packet: &Packet| -> Vec<Out> {
            let sent = run(&mut lane, &sender, OWN_FORWARDED, &packet.frame());
            assert!(sent.iter().all(|out| out.bytes.len() <= 1514));
            let input: Vec<_> =
                sent.into_iter().map(|out| (Origin::Wire, VnetHeader::default(), out.bytes)).collect();
            run_batch(&mut engine(), at(100), &receiver, &input)
        };
        assert_eq!(cross(&large).len(), 2);
        large.dont_fragment = true;
        let told = single(run(&mut support::engine(), &sender, OWN_FORWARDED, &large.frame()));
        assert_eq!(told.destination, Destination::IcmpToHost);
        let mtu = usize::from(u16::from_be_bytes([told.bytes[40], told.bytes[41]]));
        let mut fitting = Packet::udp("31.1.1.2", "41.1.1.2", (1, 2), &vec![3; mtu - 28]);
        fitting.dont_fragment = true;
        assert_eq!(single(cross(&fitting)).bytes, fitting.frame());
        let mut segments = Vec::new();
        for index in 0..5 {
            let mut tcp =
                Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((1, 2), index * 1000), &[index as u8; 1000]);
            tcp.identification += index as u16;
            segments.push((OWN_FORWARDED, VnetHeader::default(), tcp.frame()));
        }
        let sent = run_batch(&mut lane, at(100), &sender, &segments);
        let input: Vec<_> =
            sent.into_iter().map(|out| (Origin::Wire, VnetHeader::default(), out.bytes)).collect();
        let merged = single(run_batch(&mut engine(), at(100), &receiver, &input));
        assert_eq!((merged.bytes.len(), merged.vnet.gso_size), (54 + 5000, 1000));
    }
}
