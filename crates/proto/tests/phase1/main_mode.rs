//! Main mode.

use std::time::Duration;

use crypto::{CbcCipher, DhGroup, Hash, Secret};
use proto::path::Path;
use proto::phase1::{DoiChoice, Event, Failure, Mode, Peer};
use wire::isakmp::{
    Flags, Header, Identity, Message, MessageId, Notification, PayloadChain, SecurityAssociation, Version,
};
use wire::registry::{Doi, ExchangeType, NotifyType, PayloadType, ProtocolId};

use crate::peers::{World, gateway, proposal};

#[test]
fn both_peers_establish_with_every_cipher_and_hash() {
    for cipher in CbcCipher::ALL {
        for hash in [Hash::Md5, Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let mut world = World::with(|gateway| {
                gateway.proposals = vec![proposal(cipher, hash, DhGroup::Ecp256)];
            });
            let (member, server) = world.establish();
            let member = world.member.endpoint.association(member).unwrap();
            let server = world.server.endpoint.association(server).unwrap();
            assert_eq!(member.skeyid_d(), server.skeyid_d());
            assert_eq!(member.prf_a(&[b"x"]), server.prf_a(&[b"x"]));
            assert_eq!(member.suite(), server.suite());
            assert_eq!(member.peer_identity(), server.local_identity());
            assert_eq!(world.sent.len(), 6);
        }
    }
}

#[test]
fn both_peers_establish_with_every_group() {
    for group in DhGroup::ALL {
        let mut world = World::with(|gateway| {
            gateway.proposals = vec![proposal(CbcCipher::Aes256, Hash::Sha256, group)];
        });
        world.establish();
    }
}

#[test]
fn a_lost_message_is_sent_again() {
    for lost in 0..6 {
        let mut world = World::with(|_| {});
        world.fate =
            Box::new(move |number, datagram| if number == lost { vec![] } else { vec![datagram.clone()] });
        world.establish();
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.member.told(), ["established server"], "message {lost}");
        assert_eq!(world.server.told(), ["established member"], "message {lost}");
    }
}

#[test]
fn duplicates_late_and_reordered_messages_change_nothing() {
    for delay in [0, 15, 200, 3000] {
        let mut world = World::with(|_| {});
        world.fate = Box::new(move |_, datagram| {
            let mut late = datagram.clone();
            late.arrives_at += Duration::from_millis(delay);
            vec![late, datagram.clone()]
        });
        world.establish();
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.member.told(), ["established server"], "{delay}");
        assert_eq!(world.server.told(), ["established member"], "{delay}");
        assert!(world.sent.len() < 20, "repetitions answer each other: {}", world.sent.len());
    }
}

#[test]
fn the_answer_to_a_repeated_message_is_the_same_octets() {
    let mut world = World::with(|_| {});
    world.fate = Box::new(|_, datagram| vec![datagram.clone(), datagram.clone()]);
    world.establish();
    let answers: Vec<_> = world
        .sent
        .iter()
        .filter(|sent| sent.path.local == world.server.address)
        .map(|sent| &sent.octets)
        .collect();
    assert_eq!(answers.len(), 6);
    assert!(answers.chunks(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn a_silent_peer_is_given_up_after_half_a_minute() {
    let mut world = World::with(|_| {});
    world.fate = Box::new(|_, _| vec![]);
    let start = world.now;
    world.connect();
    world.run_for(Duration::from_secs(29));
    assert!(world.member.told().is_empty());
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.member.told(), ["failed: no answer from the peer"]);
    let sent: Vec<u128> = world.sent.iter().map(|sent| (sent.arrives_at - start).as_millis()).collect();
    assert_eq!(sent, [20, 1020, 3020, 7020, 15_020, 25_020]);
}

#[test]
fn different_keys_are_told_at_both_ends() {
    let mut server = gateway("member", "192.0.2.2");
    server.pre_shared_key = Secret::from_slice(b"another");
    let mut world = World::new(gateway("server", "192.0.2.1"), server);
    world.connect();
    world.run_for(Duration::from_secs(3));
    let told = world.member.told();
    assert_eq!(told.len(), 1);
    assert!(told[0].starts_with("failed: the peer refuses: "), "{told:?}");
    assert!(world.server.log.iter().any(|line| line.contains("the pre-shared keys differ")));
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.server.told(), ["failed: authentication failed: the pre-shared keys differ"]);
}

#[test]
fn without_a_common_proposal_the_initiator_is_told() {
    let mut server = gateway("member", "192.0.2.2");
    server.proposals = vec![proposal(CbcCipher::Aes256, Hash::Sha512, DhGroup::Modp2048)];
    let mut world = World::new(gateway("server", "192.0.2.1"), server);
    world.connect();
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.member.told(), ["failed: the peer refuses: NO-PROPOSAL-CHOSEN (14)"]);
    assert!(world.server.told().is_empty(), "nothing was stored");
    assert_eq!(world.server.endpoint.half_open(), 0);
}

#[test]
fn an_unknown_peer_is_refused() {
    let mut world = World::new(gateway("server", "192.0.2.1"), gateway("member", "192.0.2.77"));
    world.connect();
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.member.told(), ["failed: the peer refuses: NO-PROPOSAL-CHOSEN (14)"]);
    assert!(world.server.log.iter().any(|line| line.contains("no gateway is configured for this peer")));
}

#[test]
fn the_first_acceptable_transform_of_the_initiator_is_chosen() {
    let [a, b, c] = [
        proposal(CbcCipher::TripleDes, Hash::Sha1, DhGroup::Ecp256),
        proposal(CbcCipher::Aes192, Hash::Sha256, DhGroup::Ecp256),
        proposal(CbcCipher::Aes256, Hash::Sha384, DhGroup::Ecp256),
    ];
    let mut member = gateway("server", "192.0.2.1");
    member.proposals = vec![a, b, c];
    let mut server = gateway("member", "192.0.2.2");
    server.proposals = vec![c, b];
    let mut world = World::new(member, server);
    let (member, _) = world.establish();
    assert_eq!(world.member.endpoint.association(member).unwrap().suite().cipher, CbcCipher::Aes192);
}

#[test]
fn an_identity_that_is_not_configured_is_refused_at_both_ends() {
    let mut member = gateway("server", "192.0.2.1");
    member.local_identity = Some(Identity::fqdn("somebody.example"));
    let mut server = gateway("member", "192.0.2.2");
    server.remote_identity = Some(Identity::fqdn("member.example"));
    let mut world = World::new(member, server);
    world.connect();
    world.run_for(Duration::from_secs(3));
    // The refusal is encrypted with the keys that both have, so it is believed at once.
    assert_eq!(world.member.told(), ["failed: the peer refuses: INVALID-ID-INFORMATION (18)"]);
    assert_eq!(
        world.server.told(),
        ["failed: the peer identifies itself as somebody.example, expected is member.example"]
    );
}

#[test]
fn a_server_with_the_wrong_identity_is_refused_and_loses_its_sa() {
    let mut member = gateway("server", "192.0.2.1");
    member.remote_identity = Some(Identity::fqdn("server.example"));
    let mut world = World::new(member, gateway("member", "192.0.2.2"));
    world.connect();
    world.run_for(Duration::from_secs(3));
    assert_eq!(
        world.member.told(),
        ["failed: the peer identifies itself as 192.0.2.1, expected is server.example"]
    );
    let told = world.server.told();
    assert_eq!(told.first().map(String::as_str), Some("established member"));
    assert_eq!(told.last().map(String::as_str), Some("closed: deleted by the peer"));
}

#[test]
fn gateways_at_one_address_are_told_apart_by_identity() {
    let mut member = gateway("server", "192.0.2.1");
    member.local_identity = Some(Identity::fqdn("second.example"));
    let mut world = World::new(member, gateway("unused", "192.0.2.2"));
    let mut settings = world.server.endpoint.settings().clone();
    settings.gateways = ["first", "second", "third"]
        .map(|name| {
            let mut gateway = gateway(name, "192.0.2.2");
            gateway.remote_identity = Some(Identity::fqdn(format!("{name}.example")));
            gateway
        })
        .into();
    world.server.endpoint.configure(world.now, settings);
    world.establish();
    assert_eq!(world.server.told(), ["established second"]);
}

#[test]
fn a_dynamic_gateway_answers_any_address() {
    let mut member = gateway("server", "192.0.2.1");
    member.local_identity = Some(Identity::user_fqdn("black@example"));
    let mut server = gateway("black", "192.0.2.2");
    server.peer = Peer::Dynamic(Identity::user_fqdn("black@example"));
    let mut world = World::new(member, server);
    world.establish();
    assert_eq!(world.server.told(), ["established black"]);
}

#[test]
fn aggressive_mode_is_refused_where_main_mode_is_configured_and_the_reverse() {
    for (ours, theirs) in [(Mode::Main, Mode::Aggressive), (Mode::Aggressive, Mode::Main)] {
        let mut member = gateway("server", "192.0.2.1");
        member.mode = ours;
        let mut server = gateway("member", "192.0.2.2");
        server.mode = theirs;
        let mut world = World::new(member, server);
        world.connect();
        world.run_for(Duration::from_secs(3));
        assert_eq!(world.member.told(), ["failed: the peer refuses: INVALID-EXCHANGE-TYPE (7)"]);
    }
}

/// What a peer that refuses says in clear to the message in `octets`.
fn notification(octets: &[u8], kind: NotifyType) -> Vec<u8> {
    let asked = Message::parse(octets).unwrap().header;
    let mut chain = PayloadChain::new();
    let notification = Notification {
        doi: Doi::IPSEC,
        protocol: ProtocolId::ISAKMP,
        spi: (&[]).into(),
        kind,
        data: (&[]).into(),
    };
    chain.push(&notification).unwrap();
    let header = Header {
        next_payload: chain.first(),
        version: Version::V1_0,
        exchange: ExchangeType::INFORMATIONAL,
        flags: Flags::NONE,
        message_id: MessageId(5),
        ..asked
    };
    header.message(chain.bytes()).unwrap()
}

fn offered_doi(octets: &[u8]) -> Option<(Doi, u32)> {
    let message = Message::parse(octets).ok()?;
    let payloads = message.payloads().ok()?;
    let sa = payloads.find(PayloadType::SECURITY_ASSOCIATION)?.parse::<SecurityAssociation<'_>>().ok()?;
    Some((sa.doi, sa.situation))
}

#[test]
fn a_peer_that_does_not_know_the_gdoi_doi_is_asked_again_with_the_ipsec_doi() {
    let mut world = World::with(|_| {});
    let server = world.server.address;
    world.fate = Box::new(move |_, datagram| {
        if datagram.path.remote == server && offered_doi(&datagram.octets) == Some((Doi::GDOI, 0)) {
            datagram.octets = notification(&datagram.octets, NotifyType::DOI_NOT_SUPPORTED);
            datagram.path = datagram.path.reversed();
        }
        vec![datagram.clone()]
    });
    let (member, server) = world.establish();
    assert_eq!(world.member.endpoint.association(member).unwrap().doi(), Doi::IPSEC);
    assert_eq!(world.server.endpoint.association(server).unwrap().doi(), Doi::IPSEC);
    assert_eq!(offered_doi(&world.sent[1].octets), Some((Doi::IPSEC, 1)));
}

#[test]
fn a_fixed_doi_is_not_changed() {
    for doi in [Doi::GDOI, Doi::IPSEC] {
        let mut world = World::with(|gateway| gateway.doi = DoiChoice::Only(doi));
        let (member, _) = world.establish();
        assert_eq!(world.member.endpoint.association(member).unwrap().doi(), doi);
    }
    let mut world = World::with(|gateway| gateway.doi = DoiChoice::Only(Doi::GDOI));
    world.fate = Box::new(|_, datagram| {
        datagram.octets = notification(&datagram.octets, NotifyType::DOI_NOT_SUPPORTED);
        datagram.path = datagram.path.reversed();
        vec![datagram.clone()]
    });
    world.connect();
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.member.told(), ["failed: the peer refuses: DOI-NOT-SUPPORTED (2)"]);
}

#[test]
fn a_forged_refusal_does_not_stop_an_exchange_that_goes_on() {
    let mut world = World::with(|_| {});
    world.fate = Box::new(|number, datagram| {
        let mut forged = datagram.clone();
        forged.octets = notification(&datagram.octets, NotifyType::AUTHENTICATION_FAILED);
        if number % 2 == 0 {
            forged.path = datagram.path.reversed();
        }
        if number < 5 { vec![forged, datagram.clone()] } else { vec![datagram.clone()] }
    });
    world.establish();
}

#[test]
fn the_non_esp_marker_is_mirrored() {
    let mut member = gateway("server", "192.0.2.1");
    member.non_esp_marker = true;
    let mut world = World::new(member, gateway("member", "192.0.2.2"));
    let (_, server) = world.establish();
    assert!(world.sent.iter().all(|sent| sent.octets.starts_with(&[0; 4])));
    assert!(world.server.endpoint.association(server).unwrap().non_esp_marker());
}

#[test]
fn a_message_from_another_address_is_ignored() {
    let mut world = World::with(|_| {});
    let server = world.server.address;
    world.fate = Box::new(move |number, datagram| {
        if number == 2 && datagram.path.remote == server {
            let elsewhere = Path::new("192.0.2.99:848".parse().unwrap(), server);
            datagram.path = elsewhere;
        }
        vec![datagram.clone()]
    });
    world.connect();
    world.run_for(Duration::from_millis(100));
    assert_eq!(world.sent.len(), 3);
    world.establish_rest();
}

#[test]
fn changed_gateways_end_their_exchanges_and_unchanged_ones_go_on() {
    let mut world = World::with(|_| {});
    let (member, _) = world.establish();
    let same = world.member.endpoint.settings().clone();
    world.member.endpoint.configure(world.now, same.clone());
    assert!(world.member.endpoint.association(member).is_some());
    let mut changed = same;
    changed.gateways[0].pre_shared_key = Secret::from_slice(b"another");
    world.member.endpoint.configure(world.now, changed);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.member.told()[1], "closed: the configuration of the gateway changed");
    assert_eq!(world.server.told()[1], "closed: deleted by the peer");
}

#[test]
fn an_abandoned_exchange_says_so() {
    let mut world = World::with(|_| {});
    let id = world.connect();
    world.member.endpoint.delete(world.now, id);
    world.flush();
    assert!(matches!(
        &world.member.events[..],
        [Event::Failed { association, failure: Failure::Abandoned, .. }] if *association == id
    ));
    world.run_for(Duration::from_secs(60));
    assert!(world.server.endpoint.half_open() == 0);
}
