//! Aggressive mode.

use std::time::Duration;

use crypto::{CbcCipher, DhGroup, Hash, Secret};
use proto::phase1::{Gateway, Mode, Peer};
use wire::isakmp::Identity;

use crate::peers::{World, gateway, proposal};

fn aggressive() -> World {
    World::with(|gateway| gateway.mode = Mode::Aggressive)
}

#[test]
fn both_peers_establish_with_three_messages() {
    let mut world = aggressive();
    let (member, server) = world.establish();
    assert_eq!(world.sent.len(), 3);
    let member = world.member.endpoint.association(member).unwrap();
    let server = world.server.endpoint.association(server).unwrap();
    assert_eq!(member.skeyid_d(), server.skeyid_d());
    assert_eq!(member.prf_a(&[b"x"]), server.prf_a(&[b"x"]));
}

#[test]
fn a_lost_message_is_sent_again() {
    for lost in 0..3 {
        let mut world = aggressive();
        world.fate =
            Box::new(move |number, datagram| if number == lost { vec![] } else { vec![datagram.clone()] });
        world.establish();
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.member.told(), ["established server"], "message {lost}");
        assert_eq!(world.server.told(), ["established member"], "message {lost}");
    }
}

#[test]
fn duplicates_change_nothing() {
    for delay in [0, 15, 3000] {
        let mut world = aggressive();
        world.fate = Box::new(move |_, datagram| {
            let mut late = datagram.clone();
            late.arrives_at += Duration::from_millis(delay);
            vec![late, datagram.clone()]
        });
        world.establish();
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.member.told(), ["established server"], "{delay}");
        assert_eq!(world.server.told()[0], "established member", "{delay}");
        assert!(world.sent.len() < 20, "repetitions answer each other: {}", world.sent.len());
    }
}

#[test]
fn different_keys_are_told_at_both_ends() {
    let mut server = gateway("member", "192.0.2.2");
    server.mode = Mode::Aggressive;
    server.pre_shared_key = Secret::from_slice(b"another");
    let mut member = gateway("server", "192.0.2.1");
    member.mode = Mode::Aggressive;
    let mut world = World::new(member, server);
    world.connect();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.member.told(), ["failed: authentication failed: the pre-shared keys differ"]);
    assert_eq!(world.server.told(), ["failed: the peer refuses: AUTHENTICATION-FAILED (24)"]);
}

#[test]
fn the_key_is_chosen_by_identity() {
    let dynamic = |name: &str, key: &[u8]| Gateway {
        mode: Mode::Aggressive,
        peer: Peer::Dynamic(Identity::fqdn(name.to_owned())),
        pre_shared_key: Secret::from_slice(key),
        ..gateway(name, "192.0.2.2")
    };
    let mut member = gateway("server", "192.0.2.1");
    member.mode = Mode::Aggressive;
    member.local_identity = Some(Identity::fqdn("white"));
    member.pre_shared_key = Secret::from_slice(b"key of white");
    let mut world = World::new(member, dynamic("black", b"key of black"));
    let mut settings = world.server.endpoint.settings().clone();
    settings.gateways.push(dynamic("white", b"key of white"));
    world.server.endpoint.configure(world.now, settings);
    world.establish();
    assert_eq!(world.server.told(), ["established white"]);
}

#[test]
fn only_proposals_of_the_first_group_are_offered() {
    let mut world = World::with(|gateway| {
        gateway.mode = Mode::Aggressive;
        gateway.proposals = vec![
            proposal(CbcCipher::Aes128, Hash::Sha1, DhGroup::Ecp384),
            proposal(CbcCipher::Aes128, Hash::Sha1, DhGroup::Ecp256),
            proposal(CbcCipher::Aes256, Hash::Sha1, DhGroup::Ecp384),
        ];
    });
    let mut settings = world.server.endpoint.settings().clone();
    settings.gateways[0].proposals.remove(0);
    world.server.endpoint.configure(world.now, settings);
    let (member, _) = world.establish();
    let suite = world.member.endpoint.association(member).unwrap().suite();
    assert_eq!((suite.cipher, suite.group), (CbcCipher::Aes256, DhGroup::Ecp384));
}
