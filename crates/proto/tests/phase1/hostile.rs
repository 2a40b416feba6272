//! Peers that are not who they should be: floods, cuts, flipped octets, captures that crashed others.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Random, SeededRandom};
use proptest::prelude::*;
use proto::path::Path;
use proto::phase1::{MAXIMUM_HALF_OPEN, MAXIMUM_HALF_OPEN_PER_SOURCE, Mode, Peer, VENDOR_ID_GROUPVPN};
use wire::isakmp::Identity;

use crate::fuzz_body::phase1_responder;
use crate::peers::{Datagram, World, gateway};

/// First messages of an initiator that never goes on, one per call.
fn first_message(number: u64) -> Vec<u8> {
    let mut world = World::with(|_| {});
    world.connect();
    let mut octets = world.sent[0].octets.clone();
    octets[..8].copy_from_slice(&(number + 1).to_be_bytes().map(|octet| octet | 0x80));
    octets[4..8].copy_from_slice(&(number as u32).to_be_bytes());
    octets
}

#[test]
fn a_flood_of_first_messages_stays_bounded_and_ends() {
    let mut server = gateway("anybody", "192.0.2.2");
    server.peer = Peer::Dynamic(Identity::fqdn("anybody"));
    let mut world = World::new(gateway("server", "192.0.2.1"), server);
    let mut octets = first_message(0);
    let local = world.server.address;
    for number in 0_u32..3 * MAXIMUM_HALF_OPEN as u32 {
        let source = std::net::Ipv4Addr::from(0x0a00_0000 + number / 8);
        octets[4..8].copy_from_slice(&number.to_be_bytes());
        world.server.receive(world.now, Path::new(local, (source, 848).into()), &octets);
        world.server.drain(world.now);
        assert!(world.server.endpoint.half_open() <= MAXIMUM_HALF_OPEN);
    }
    assert_eq!(world.server.endpoint.half_open(), MAXIMUM_HALF_OPEN);
    world.run_for(Duration::from_secs(31));
    assert_eq!(world.server.endpoint.half_open(), 0);
    assert_eq!(world.server.endpoint.poll_timeout(), None);
}

#[test]
fn a_flood_from_one_address_leaves_room_for_others() {
    let mut world = World::with(|_| {});
    let path = Path::new(world.server.address, world.member.address);
    let mut octets = first_message(0);
    for number in 0_u32..2 * MAXIMUM_HALF_OPEN_PER_SOURCE as u32 {
        octets[4..8].copy_from_slice(&number.to_be_bytes());
        world.server.receive(world.now, path, &octets);
        world.server.drain(world.now);
    }
    assert_eq!(world.server.endpoint.half_open(), MAXIMUM_HALF_OPEN_PER_SOURCE);
    // The genuine peer at that address still gets through.
    world.server.events.clear();
    world.connect();
    world.run_for(Duration::from_secs(2));
    assert!(world.member.established().is_some());
}

#[test]
fn refusals_are_rate_limited() {
    let mut world = World::with(|_| {});
    let mut octets = first_message(0);
    // An exchange type that nobody has defined.
    octets[18] = 77;
    let mut answers = 0;
    for _ in 0..10_000 {
        let path = Path::new(world.server.address, world.member.address);
        world.server.receive(world.now, path, &octets);
        answers += world.server.drain(world.now).len();
    }
    assert!((1..100).contains(&answers), "{answers}");
    assert!(world.server.log.len() < 100);
}

/// Who sent a message and which one of the exchange it is, whatever its cookies: first payload, exchange type, flags.
fn kind(datagram: &Datagram) -> (SocketAddr, Vec<u8>) {
    let octets = &datagram.octets;
    (datagram.path.local, [&octets[16..17], &octets[18..20]].concat())
}

/// The kinds and lengths of the messages of an undisturbed exchange.
fn messages(mode: Mode) -> Vec<((SocketAddr, Vec<u8>), usize)> {
    let mut world = World::with(|gateway| gateway.mode = mode);
    world.establish();
    world.sent.iter().map(|sent| (kind(sent), sent.octets.len())).collect()
}

/// Runs an exchange in which each transmission of one message is changed; both ends must agree or fail.
fn with_message_changed(mode: Mode, changed: (SocketAddr, Vec<u8>), change: impl Fn(&mut Vec<u8>) + 'static) {
    let mut world = World::with(|gateway| gateway.mode = mode);
    world.fate = Box::new(move |_, datagram| {
        if kind(datagram) == changed {
            change(&mut datagram.octets);
        }
        vec![datagram.clone()]
    });
    world.connect();
    world.run_for(Duration::from_secs(35));
    let keys = |host: &crate::peers::Host| {
        let id = host.established()?;
        let sa = host.endpoint.association(id)?;
        Some((sa.skeyid_d().clone(), sa.peer_identity().clone(), sa.suite().cipher))
    };
    if let (Some(member), Some(server)) = (keys(&world.member), keys(&world.server)) {
        assert_eq!(member.0, server.0);
        assert_eq!(member.1, Identity::address("192.0.2.1".parse().unwrap()));
        assert_eq!(server.1, Identity::address("192.0.2.2".parse().unwrap()));
        assert_eq!(member.2, server.2);
    }
}

#[test]
fn a_flipped_octet_never_makes_peers_disagree() {
    for mode in [Mode::Main, Mode::Aggressive] {
        for (kind, length) in messages(mode) {
            for at in 0..length {
                let bit = 1 << (at % 8);
                with_message_changed(mode, kind.clone(), move |octets| octets[at] ^= bit);
            }
        }
    }
}

#[test]
fn a_message_cut_anywhere_establishes_nothing() {
    for mode in [Mode::Main, Mode::Aggressive] {
        for (cut, length) in messages(mode) {
            for at in 0..length {
                let mut world = World::with(|gateway| gateway.mode = mode);
                let cut_here = cut.clone();
                world.fate = Box::new(move |_, datagram| {
                    if kind(datagram) == cut_here {
                        datagram.octets.truncate(at);
                        // A header that says the cut length is believed as far as that goes.
                        if at >= 28 {
                            datagram.octets[24..28].copy_from_slice(&(at as u32).to_be_bytes());
                        }
                    }
                    vec![datagram.clone()]
                });
                world.connect();
                world.run_for(Duration::from_secs(35));
                let receiver = if cut.0 == world.member.address { &world.server } else { &world.member };
                assert!(receiver.established().is_none(), "{mode:?} {cut:?} cut at {at}");
            }
        }
    }
}

#[test]
fn an_exchange_survives_whatever_is_injected_before_each_genuine_message() {
    let mut world = World::with(|_| {});
    world.fate = Box::new(|_, datagram| {
        let mut datagrams = Vec::new();
        // The hash of message 5 does not cover the notification behind it (RFC 2409 section 10 warns of that).
        let covered = 28 + 12 + 24;
        for at in (28..datagram.octets.len().min(covered)).step_by(5) {
            let mut forged = datagram.clone();
            forged.octets[at] ^= 0x10;
            forged.arrives_at = forged.arrives_at - Duration::from_millis(1);
            // What nothing protects yet cannot be told from the genuine: the key exchange, and the first message.
            let genuine_first = forged.octets[19] & 1 == 0;
            if !genuine_first {
                datagrams.push(forged);
            }
        }
        datagrams.push(datagram.clone());
        datagrams
    });
    world.establish();
}

/// UDP payloads in a capture, if it is one of Ethernet frames; else the whole file is one datagram.
fn datagrams(capture: &[u8]) -> Vec<Vec<u8>> {
    let mut datagrams = vec![capture.to_vec()];
    for skipped in [14 + 20 + 8, 20 + 8, 8, 0] {
        let mut rest = capture.get(24..).unwrap_or_default();
        while rest.len() > 16 {
            let length = u32::from_le_bytes(rest[8..12].try_into().unwrap()) as usize;
            let frame = rest.get(16..16 + length.min(rest.len() - 16)).unwrap_or_default();
            datagrams.push(frame.get(skipped..).unwrap_or_default().to_vec());
            rest = rest.get(16 + length..).unwrap_or_default();
        }
    }
    datagrams
}

#[test]
fn captures_that_crashed_others_are_refused_quietly() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../wire/tests/vectors/malformed-ike");
    let mut world = World::with(|_| {});
    let path = Path::new(world.server.address, world.member.address);
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        for datagram in datagrams(&std::fs::read(entry.unwrap().path()).unwrap()) {
            world.server.receive(world.now, path, &datagram);
            world.server.drain(world.now);
            seen += 1;
        }
    }
    assert!(seen > 20);
    assert!(world.server.established().is_none());
}

#[test]
fn fifteen_hundred_members_at_once_all_get_their_sa() {
    let mut gateways = BTreeMap::new();
    for number in 0..1500_u32 {
        let address = std::net::Ipv4Addr::from(0x0a01_0000 + number);
        gateways.insert(address, gateway(&format!("member-{number}"), &address.to_string()));
    }
    let mut world = World::with(|_| {});
    let mut settings = world.server.endpoint.settings().clone();
    settings.gateways = gateways.values().cloned().collect();
    settings.vendor_ids = vec![VENDOR_ID_GROUPVPN.to_vec()];
    world.server.endpoint.configure(world.now, settings);
    let mut members: Vec<_> = gateways
        .keys()
        .map(|address| {
            let settings = proto::phase1::Settings {
                gateways: vec![gateway("server", "192.0.2.1")],
                ..proto::phase1::Settings::default()
            };
            let seed = u64::from(u32::from(*address));
            crate::peers::Host::new(&format!("{address}:848"), settings, seed)
        })
        .collect();
    let server = world.server.address;
    for member in &mut members {
        let path = Path::new(member.address, server);
        member.endpoint.connect(world.now, "server", path, &mut member.random).unwrap();
    }
    let by_address: BTreeMap<_, _> =
        members.iter().enumerate().map(|(index, member)| (member.address, index)).collect();
    for _ in 0..3 {
        let questions: Vec<_> = members.iter_mut().flat_map(|member| member.drain(world.now)).collect();
        for question in questions {
            world.server.receive(world.now, question.path.reversed(), &question.octets);
        }
        for answer in world.server.drain(world.now) {
            let member = &mut members[by_address[&answer.path.remote]];
            member.receive(world.now, answer.path.reversed(), &answer.octets);
        }
    }
    for member in &mut members {
        member.drain(world.now);
        assert!(member.established().is_some());
    }
    assert_eq!(world.server.endpoint.associations().count(), 1500);
}

#[test]
fn the_corpus_of_the_fuzz_target_holds() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/phase1_responder");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let octets = std::fs::read(&path).unwrap();
        // A panic does not say which file it was about.
        std::panic::catch_unwind(|| phase1_responder(&octets))
            .unwrap_or_else(|_| panic!("{} fails", path.display()));
        count += 1;
    }
    assert!(count > 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_interference_holds(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        phase1_responder(&octets);
    }

    #[test]
    fn random_octets_after_a_plausible_header_never_panic(
        seed in any::<u64>(),
        exchange in prop::sample::select(vec![1_u8, 2, 4, 5, 32, 33, 77]),
        first in 0_u8..24,
        flags in 0_u8..8,
        length in 0_usize..300,
    ) {
        let mut random = SeededRandom::new(seed);
        let mut octets = vec![0; 28 + length];
        random.fill(&mut octets);
        if seed % 2 == 0 {
            octets[8..16].fill(0);
        }
        octets[16] = first;
        octets[17] = 0x10;
        octets[18] = exchange;
        octets[19] = flags;
        if seed % 3 == 0 {
            octets[20..24].fill(0);
        }
        let total = octets.len() as u32;
        octets[24..28].copy_from_slice(&total.to_be_bytes());
        let mut world = World::with(|_| {});
        let path = Path::new(world.server.address, world.member.address);
        world.server.receive(world.now, path, &octets);
        world.server.drain(world.now);
        prop_assert!(world.server.established().is_none());
    }
}
