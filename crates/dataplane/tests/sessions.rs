//! The sessions that the engine shows.

mod support;

use dataplane::*;
use support::*;

#[test]
fn a_session_counts_both_directions_and_the_packets_of_super_frames() {
    for is_six in [false, true] {
        let tables = tables(&seed_vpn(&[sa(SPI)]));
        let (mut near, mut far) = (engine(), engine());
        let version = |packet: Packet| if is_six { packet.six() } else { packet };
        let there = version(Packet::tcp("31.1.1.2", "41.1.1.2", tcp_header((999, 23), 1), &[1; 100]));
        let back = version(Packet::tcp("41.1.1.2", "31.1.1.2", tcp_header((23, 999), 1), &[2; 50]));
        for _ in 0..3 {
            let sent = single(run(&mut near, &tables, OWN_FORWARDED, &there.frame()));
            single(run(&mut far, &tables, Origin::Wire, &sent.bytes));
        }
        let sent = single(run(&mut far, &tables, OWN_FORWARDED, &back.frame()));
        single(run(&mut near, &tables, Origin::Wire, &sent.bytes));
        for (engine, is_outward) in [(&near, true), (&far, false)] {
            let sessions = engine.sessions().snapshot(at(100));
            let [session] = sessions.as_slice() else { panic!("{sessions:?}") };
            assert_eq!((session.source, session.destination), there.addresses());
            assert_eq!((session.source_port, session.destination_port, session.protocol), (999, 23, 6));
            let traffic = |packets, packet: &Packet| SessionTraffic {
                packets,
                octets: packets * packet.bytes().len() as u64,
                spi: SPI,
            };
            assert_eq!((session.forward, session.backward), (traffic(3, &there), traffic(1, &back)));
            assert_eq!((session.interface, session.is_outward), (WAN, is_outward));
            assert_eq!(session.expires_at, at(1900));
        }
        let vnet = VnetHeader {
            gso_type: if is_six { VnetHeader::GSO_TCPV6 } else { VnetHeader::GSO_TCPV4 },
            gso_size: 30,
            ..VnetHeader::default()
        };
        assert_eq!(run_batch(&mut near, at(101), &tables, &[(OWN_FORWARDED, vnet, there.frame())]).len(), 4);
        let session = near.sessions().snapshot(at(101))[0];
        let header = if is_six { 60 } else { 40 };
        assert_eq!(
            (session.forward.packets, session.forward.octets),
            (7, 3 * (100 + header) + 100 + 4 * header)
        );
        // A FIN ends it soon.
        let mut fin = tcp_header((999, 23), 101);
        fin.fin = true;
        let fin = version(Packet::tcp("31.1.1.2", "41.1.1.2", fin, &[]));
        run(&mut near, &tables, OWN_FORWARDED, &fin.frame());
        assert_eq!(near.sessions().snapshot(at(100))[0].expires_at, at(102));
    }
}

#[test]
fn sessions_outlive_the_tables_and_only_protected_flows_have_one() {
    let vpn = seed_vpn(&[sa(SPI)]);
    let mut engine = engine();
    let udp = |source: &str| Packet::udp(source, "41.1.1.2", (1, 2), b"data").frame();
    for seconds in 1..5 {
        let input =
            ["31.1.1.2", "21.1.1.2"].map(|source| (OWN_FORWARDED, VnetHeader::default(), udp(source)));
        run_batch(&mut engine, at(seconds), &tables(&vpn), &input);
    }
    let sessions = engine.sessions().snapshot(at(5));
    assert_eq!(sessions.len(), 1);
    assert_eq!((sessions[0].number, sessions[0].forward.packets), (1, 4));
    assert_eq!((sessions[0].created_at, sessions[0].expires_at), (at(1), at(64)));
    // What was forgotten begins anew.
    engine.sessions().clear();
    run_batch(&mut engine, at(6), &tables(&vpn), &[(OWN_FORWARDED, VnetHeader::default(), udp("31.1.1.2"))]);
    let sessions = engine.sessions().snapshot(at(6));
    assert_eq!((sessions[0].number, sessions[0].forward.packets), (2, 1));
    // Dropped for want of a key: no session.
    let keyless = Vpn { policies: vec![policy(selector("51.1.1.0/24", "61.1.1.0/24"), &[])], ..vpn };
    let lost = Packet::udp("51.1.1.1", "61.1.1.1", (1, 2), b"data").frame();
    run_batch(&mut engine, at(7), &tables(&keyless), &[(OWN_FORWARDED, VnetHeader::default(), lost)]);
    assert_eq!(engine.sessions().snapshot(at(7)).len(), 1);
}
