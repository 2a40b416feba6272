//! What one engine encrypts, another decrypts.

mod support;

use crypto::esp::EspSuite;
use dataplane::*;
use proptest::prelude::*;
use support::*;

#[test]
fn a_packet_crosses_the_wan_as_esp_with_its_own_addresses_outside() {
    for suite in cbc_suites() {
        let vpn = seed_vpn(&[sa_with(suite, SPI, Instant::ZERO, Instant::FAR_FUTURE)]);
        let tables = tables(&vpn);
        let mut packet =
            Packet::udp("31.1.1.2", "41.1.1.2", (1000, 2000), b"hello over the wide area network");
        packet.tos = 0xb9;
        let sent = single(run(&mut engine(), &tables, OWN_FORWARDED, &packet.frame()));
        assert_eq!(sent.destination, Destination::WireEsp);
        assert_eq!(sent.bytes[..14], ETHERNET);
        let (outer, esp) = sent.packet();
        assert_eq!((outer.source, outer.destination), (packet.source, packet.destination));
        assert_eq!((outer.protocol.0, outer.time_to_live, outer.dont_fragment), (50, 63, false));
        assert_eq!(sent.bytes[15], 0xb9);
        assert_eq!(esp[..8], [0x12, 0x34, 0x56, 0x78, 0, 0, 0, 1]);
        assert!(!sent.bytes.windows(16).any(|window| packet.payload.windows(16).any(|own| own == window)));

        let received = single(run(&mut engine(), &tables, Origin::Wire, &sent.bytes));
        assert_eq!(received.destination, Destination::Inject);
        assert_eq!(received.bytes, packet.frame());
        assert_eq!((vpn.counters.encrypted.packets(), vpn.counters.decrypted.packets()), (1, 1));
        assert_eq!(vpn.counters.encrypted.octets(), packet.bytes().len() as u64);
        assert_eq!(reasons(&vpn), []);
    }
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let fragment = prop_oneof![
        4 => Just((false, false, 0u16)),
        1 => Just((true, false, 0)),
        1 => (any::<bool>(), 1u16..0x1000).prop_map(|(more, offset)| (false, more, offset)),
    ];
    let options = prop::sample::select(vec![
        vec![],
        vec![1, 1, 1, 0],
        vec![0x94, 4, 0, 0],
        vec![7, 7, 4, 0, 0, 0, 0, 0],
    ]);
    (
        prop::collection::vec(any::<u8>(), 0..1380),
        any::<(u8, u8, u16)>(),
        any::<(u8, u8, u8, bool)>(),
        fragment,
        options,
    )
        .prop_map(
            |(
                payload,
                (tos, ttl, identification),
                (protocol, source, destination, mirrored),
                fragment,
                options,
            )| {
                let (source, destination) = (format!("31.1.1.{source}"), format!("41.1.9.{destination}"));
                let (source, destination) =
                    if mirrored { (destination, source) } else { (source, destination) };
                // A quoted packet would be what decides about an ICMP error.
                let protocol = if matches!(protocol, 1 | 58) { 2 } else { protocol };
                Packet {
                    tos,
                    ttl,
                    identification,
                    dont_fragment: fragment.0,
                    more_fragments: fragment.1,
                    fragment_offset: fragment.2,
                    options,
                    ..Packet::new(&source, &destination, protocol, payload)
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn what_one_engine_encrypts_another_decrypts_unchanged(
        packets in prop::collection::vec((any_packet(), any::<bool>()), 1..40),
        suite in prop::sample::select(EspSuite::all().collect::<Vec<_>>()),
        is_timed: bool,
    ) {
        let packets: Vec<Packet> = packets
            .into_iter()
            .map(|(packet, is_six)| match is_six {
                true => Packet { payload: packet.payload.into_iter().take(1200).collect(), ..packet }.six(),
                false => packet,
            })
            .collect();
        let clock = PseudoClock::new(at(1), PseudoTime::from_micros(5), std::time::Duration::from_secs(1));
        let member = |own| member_sa(suite, SPI, &[own], is_timed.then_some(&clock));
        let tables = tables(&seed_vpn(&[member(1)]));
        let receiver = support::tables(&seed_vpn(&[member(2)]));
        let input: Vec<_> =
            packets.iter().map(|packet| (OWN_FORWARDED, VnetHeader::default(), packet.frame())).collect();
        let sent = run_batch(&mut engine(), at(1), &tables, &input);
        prop_assert_eq!(sent.len(), packets.len());
        let input: Vec<_> = sent
            .into_iter()
            .map(|out| {
                assert_eq!(out.destination, Destination::WireEsp);
                assert!(matches!(out.protocol(), 50));
                (Origin::Wire, VnetHeader::default(), out.bytes)
            })
            .collect();
        let received = run_batch(&mut engine(), at(1), &receiver, &input);
        prop_assert_eq!(received.len(), packets.len());
        for (out, packet) in received.iter().zip(&packets) {
            prop_assert_eq!(&out.bytes, &packet.frame());
        }
    }
}
