//! Peers of other makes: what members send to our server, and what servers send to our member.

use std::time::Duration;

use crypto::SeededRandom;
use hex_literal::hex;
use proto::Role;
use proto::member::{Event, GroupIdForm, Member};
use proto::pull;
use proto::server::Server;
use wire::attribute::Attribute;
use wire::codec::LengthWidth;
use wire::gdoi::{GroupAssociatedPolicy, GroupSecurityAssociation};
use wire::isakmp::{Hash, Identity, PayloadBody, PayloadChain};
use wire::registry::{ExchangeType, GapAttribute, IdType, NotifyType, PayloadType};

use crate::stranger::*;
use crate::world::*;

fn our_server(groups: Vec<proto::server::GroupSettings>) -> Server {
    let now = Stranger::member().now;
    Server::new(now, server_settings(1, groups), Box::new(SeededRandom::new(1)))
}

/// Registers with the group of this identity; returns the bodies of SA and KD.
fn register(
    stranger: &mut Stranger,
    server: &mut Server,
    group: &Identity<'_>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let id = stranger.start();
    let ni = [7; 8];
    let message = pull::message_1(stranger.association(), id, &ni, group, &[]).unwrap();
    stranger.send(id, &message);
    stranger.pump(server);
    if stranger.messages.is_empty() {
        return None;
    }
    let message = stranger.take();
    let reply = pull::read_message_2(stranger.association(), received(&message), &ni).unwrap();
    let sa = reply.sa.to_octets().unwrap();
    let nr = reply.nonce.clone();
    let message = pull::message_3(stranger.association(), id, &ni, &nr, None).unwrap();
    stranger.send(id, &message);
    stranger.pump(server);
    let message = stranger.take();
    let reply = pull::read_message_4(stranger.association(), received(&message), &ni, &nr).unwrap();
    assert_eq!(reply.sequence, None, "there is no KEK");
    Some((sa, reply.keys.to_octets().unwrap()))
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.4
//= type=test
//# A GDOI implementation MUST abort if it encounters an attribute or
//# capability that it does not understand.
#[test]
fn a_request_that_nobody_has_defined_gets_no_keys() {
    for (class, understood) in [(GapAttribute::SENDER_ID_REQUEST, true), (GapAttribute(99), false)] {
        let mut server = our_server(vec![group(GROUP, 2, &[policy(1)])]);
        let mut stranger = Stranger::member();
        stranger.connect(&mut server);
        let (id, ni) = (stranger.start(), [7; 8]);
        let message =
            pull::message_1(stranger.association(), id, &ni, &Identity::key_id(GROUP), &[]).unwrap();
        stranger.send(id, &message);
        stranger.pump(&mut server);
        let message = stranger.take();
        let nr = pull::read_message_2(stranger.association(), received(&message), &ni).unwrap().nonce;
        let gap = GroupAssociatedPolicy { attributes: [Attribute::basic(class, 1_u16)].into() };
        let gap = gap.to_octets().unwrap();
        let message = pull::message_3(stranger.association(), id, &ni, &nr, Some(&gap)).unwrap();
        stranger.send(id, &message);
        stranger.pump(&mut server);
        assert_eq!(stranger.messages.len(), usize::from(understood), "{class}");
        let told: Vec<_> = stranger.notifications.iter().map(|notification| notification.kind).collect();
        let refusal = (!understood).then_some(NotifyType::ATTRIBUTES_NOT_SUPPORTED);
        assert_eq!(told, Vec::from_iter(refusal));
    }
}

#[test]
fn a_foreign_member_gets_no_private_attributes_and_no_gap_without_a_successor() {
    let mut server = our_server(vec![group(GROUP, 2, &[policy(1), policy(2)])]);
    let mut stranger = Stranger::member();
    stranger.connect(&mut server);
    let (sa, kd) = register(&mut stranger, &mut server, &Identity::key_id(GROUP)).unwrap();
    let sa = GroupSecurityAssociation::parse(&sa).unwrap();
    assert!(sa.kek.is_none() && sa.policy.is_none());
    assert_eq!(sa.teks.len(), 4, "one SAT for each policy and TEK");
    for tek in &sa.teks {
        let wire::gdoi::SaTek::Esp(tek) = tek else { panic!("{tek:?}") };
        let classes: Vec<_> = tek.attributes.iter().map(|attribute| attribute.class).collect();
        assert_eq!(classes, [1, 2, 4, 5, 6]);
    }
    let keys = wire::gdoi::KeyDownload::parse(&kd).unwrap();
    assert_eq!(keys.packets.len(), 2, "one key packet for each TEK");
    let Some(proto::server::Event::Registered { gateway, .. }) = std::iter::from_fn(|| server.poll_event())
        .find(|event| !matches!(event, proto::server::Event::Log(_)))
    else {
        panic!("the registration is reported")
    };
    assert_eq!(gateway, "member-0");
}

#[test]
fn a_foreign_member_is_told_the_activation_of_a_successor_by_gap() {
    let mut server = our_server(vec![group(GROUP, 1, &[policy(1)])]);
    let mut stranger = Stranger::member();
    stranger.now += Duration::from_secs(3300);
    server.handle_timeout(stranger.now);
    stranger.connect(&mut server);
    let (sa, _) = register(&mut stranger, &mut server, &Identity::key_id(GROUP)).unwrap();
    let sa = GroupSecurityAssociation::parse(&sa).unwrap();
    assert_eq!(sa.teks.len(), 2);
    let gap = sa.policy.unwrap().attributes;
    assert_eq!(gap.number(GapAttribute::ACTIVATION_TIME_DELAY), Some(270), "the predecessor's 300 s, less S");
    assert_eq!(gap.number(GapAttribute::DEACTIVATION_TIME_DELAY), Some(300));
}

#[test]
fn a_group_may_be_named_by_its_address() {
    let address: std::net::Ipv4Addr = "226.1.1.1".parse().unwrap();
    let mut named = group(9, 1, &[policy(9)]);
    named.multicast_group = Some(address);
    let numbered = group(u32::from(std::net::Ipv4Addr::new(226, 1, 1, 2)), 1, &[policy(8)]);
    let mut server = our_server(vec![group(GROUP, 1, &[policy(1)]), named, numbered]);
    let mut stranger = Stranger::member();
    stranger.connect(&mut server);
    for (identity, known) in [
        (Identity::address(address.into()), true),
        (Identity::address("226.1.1.2".parse().unwrap()), true),
        (Identity::address("226.1.1.3".parse().unwrap()), false),
        (Identity::key_id(9), true),
        (Identity::new(IdType::KEY_ID, vec![0, 0, 9]), false),
        (Identity::new(IdType::KEY_ID, b"group-9".to_vec()), false),
        (Identity::fqdn("group-9"), false),
        (Identity::address("2001:db8::1".parse().unwrap()), false),
    ] {
        assert_eq!(register(&mut stranger, &mut server, &identity).is_some(), known, "{identity}");
        let told: Vec<_> = stranger.notifications.drain(..).map(|notification| notification.kind).collect();
        assert_eq!(told.is_empty(), known);
        assert!(told.iter().all(|kind| *kind == NotifyType::INVALID_ID_INFORMATION));
    }
}

#[test]
fn a_member_names_its_group_in_either_form() {
    // 239.1.1.1: a number whose four octets differ.
    let number = 0xef01_0101;
    for (form, kind) in [(GroupIdForm::KeyId, IdType::KEY_ID), (GroupIdForm::Ipv4Address, IdType::IPV4_ADDR)]
    {
        let mut settings = member_settings(0, &[number]);
        settings.vpns[0].group_id_form = form;

        let mut stranger = Stranger::server();
        let mut member = Member::new(stranger.now, settings.clone(), Box::new(SeededRandom::new(2)));
        member.interface_up(stranger.now, &format!("vpn-{number}"), None);
        stranger.pump(&mut member);
        let message = stranger.take();
        let request = pull::read_message_1(stranger.association(), received(&message)).unwrap();
        assert_eq!(request.group, Identity::new(kind, vec![239, 1, 1, 1]));

        let groups = vec![group(number, 1, &[policy(1)])];
        let mut world = World::new(server_settings(1, groups), vec![settings]);
        world.up();
        world.run(seconds(2));
        assert_eq!(world.member_spis(0), world.server_spis(), "our server takes {kind}");
    }
}

#[test]
fn a_change_of_the_form_of_the_group_id_asks_anew() {
    let mut world = World::pair();
    world.up();
    world.run(seconds(2));
    let registrations = |world: &World| {
        let events = world.member_events.iter();
        events.filter(|(_, _, event)| matches!(event, Event::Registered { .. })).count()
    };
    assert_eq!(registrations(&world), 1);
    let mut settings = member_settings(0, &[GROUP]);
    settings.vpns[0].group_id_form = GroupIdForm::Ipv4Address;
    world.act(|world, now| world.members[0].configure(now, settings));
    world.up();
    world.run(seconds(2));
    assert_eq!(registrations(&world), 2);
}

#[test]
fn identification_lengths_have_the_width_of_the_group_and_our_member_reads_both() {
    let policies: Vec<_> = (0..40).map(policy).collect();
    for width in [LengthWidth::One, LengthWidth::Two] {
        let mut settings = group(GROUP, 2, &policies);
        settings.id_length = width;

        let mut server = our_server(vec![settings.clone()]);
        let mut stranger = Stranger::member();
        stranger.connect(&mut server);
        let (sa, _) = register(&mut stranger, &mut server, &Identity::key_id(GROUP)).unwrap();
        for tek in GroupSecurityAssociation::parse(&sa).unwrap().teks {
            let wire::gdoi::SaTek::Esp(tek) = tek else { panic!("{tek:?}") };
            assert_eq!(tek.id_length, width);
        }

        let mut world = World::new(server_settings(1, vec![settings]), vec![member_settings(0, &[GROUP])]);
        world.up();
        world.run(seconds(3500));
        let vpns = world.members[0].ipsec_security_associations(world.now);
        let sas = &vpns[0].security_associations;
        assert_eq!(sas.len(), 4, "each TEK and its successor");
        let wanted: Vec<_> =
            policies.iter().map(|policy| (policy.selector.source, policy.selector.destination)).collect();
        for sa in sas {
            let received = sa.detail.as_ref().unwrap().policies.iter();
            assert_eq!(received.map(|it| (it.source, it.destination)).collect::<Vec<_>>(), wanted);
        }
    }
}

#[test]
fn a_quick_mode_is_refused_with_a_notification_and_phase_1_stays_up() {
    let mut server = our_server(vec![group(GROUP, 1, &[policy(1)])]);
    let mut stranger = Stranger::member();
    stranger.connect(&mut server);
    let id = stranger.start();
    let mut rest = PayloadChain::new();
    let sa = hex!(
        "00000001 00000001 0000002c 01030401 11223344 00000020 010c0000 80010001 00020004 00000e10 80040001 80050002 80060080"
    );
    rest.push_raw(PayloadType::SECURITY_ASSOCIATION, &sa).unwrap();
    rest.push_raw(PayloadType::NONCE, &[3; 16]).unwrap();
    let hash = stranger.association().prf_a(&[&id.0.to_be_bytes(), rest.bytes()]);
    let mut chain = PayloadChain::new();
    chain.push(&Hash::from(&*hash)).unwrap().append(&rest);
    let association = stranger.association.unwrap();
    stranger
        .endpoint
        .send_phase2(stranger.now, association, ExchangeType::GROUPKEY_PULL, id, chain.first(), chain.bytes())
        .unwrap();
    stranger.pump(&mut server);
    assert_eq!(stranger.notifications[0].kind, NotifyType::NO_PROPOSAL_CHOSEN);
    assert_eq!(stranger.closed, 0);
    assert!(
        register(&mut stranger, &mut server, &Identity::key_id(GROUP)).is_some(),
        "and carries registrations"
    );
}

#[test]
fn a_nonce_of_the_wrong_length_or_a_payload_out_of_place_is_told() {
    let mut server = our_server(vec![group(GROUP, 1, &[policy(1)])]);
    let mut stranger = Stranger::member();
    stranger.connect(&mut server);
    for (length, told) in [(7, true), (8, false), (128, false), (129, true)] {
        let id = stranger.start();
        let nonce = vec![1; length];
        let message =
            pull::message_1(stranger.association(), id, &nonce, &Identity::key_id(GROUP), &[]).unwrap();
        stranger.send(id, &message);
        stranger.pump(&mut server);
        let kinds: Vec<_> = stranger.notifications.drain(..).map(|notification| notification.kind).collect();
        assert_eq!(kinds, if told { vec![NotifyType::PAYLOAD_MALFORMED] } else { vec![] }, "{length}");
    }
}

fn our_member() -> Member {
    member_of(member_settings(0, &[GROUP]))
}

fn member_of(settings: proto::member::Settings) -> Member {
    let now = Stranger::server().now;
    let mut member = Member::new(now, settings, Box::new(SeededRandom::new(2)));
    member.interface_up(now, "vpn-1", None);
    member
}

fn events(member: &mut Member) -> Vec<Event> {
    std::iter::from_fn(|| member.poll_event()).filter(|event| !matches!(event, Event::Log(_))).collect()
}

/// The form that TrustCore sends: two-octet identification lengths, basic life duration, no SEQ in message 4.
const TRUSTCORE_SA: [u8; 65] = hex!(
    "00000002 00000000 00100000"
    "00000035 01 00 04 0000 0008 00000000ffffffff"
    "01 0000 0004 e2010101 0c 0992cb0e 80050002 80060080 80010001 800200f0 80040001"
);

fn aes_key_packet(spi: [u8; 4]) -> Vec<u8> {
    let mut kd = hex!("0001 0000 0100 0035 04").to_vec();
    kd.extend_from_slice(&spi);
    kd.extend_from_slice(&hex!("0001 0010 000102030405060708090a0b0c0d0e0f"));
    kd.extend_from_slice(&hex!("0002 0014 000102030405060708090a0b0c0d0e0f10111213"));
    kd
}

#[test]
fn the_forms_of_trustcore_are_understood() {
    for sequence in [None, Some(0)] {
        let mut member = our_member();
        let mut stranger = Stranger::server();
        assert!(stranger.serve(&mut member, &TRUSTCORE_SA, sequence, &aes_key_packet(hex!("0992cb0e"))));
        let events = events(&mut member);
        let [Event::InstallSas { sas, .. }, Event::Registered { .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(sas[0].spi, 0x0992_cb0e);
        assert_eq!(sas[0].hard_expiry - stranger.now, Duration::from_secs(240));
        assert_eq!(sas[0].selectors[0].destination, "226.1.1.1/32".parse().unwrap());
    }
}

/// One SAT in the RFC's form with these attributes, as the body of an SA payload.
fn one_sat(transform: u8, spi: u32, attributes: &[u8]) -> Vec<u8> {
    let mut body = hex!("01 00 04 0000 08 0a000000 ff000000 04 0000 08 14000000 ff000000").to_vec();
    body.push(transform);
    body.extend_from_slice(&spi.to_be_bytes());
    body.extend_from_slice(attributes);
    let mut sa = hex!("00000002 00000000 00100000 0000").to_vec();
    sa.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
    sa.extend_from_slice(&body);
    sa
}

const GOOD: [u8; 20] = hex!("80010001 80020e10 80040001 80050002 80060080");

#[test]
fn what_a_server_asks_beyond_our_means_is_refused_with_a_reason_and_phase_1_is_torn_down() {
    let with = |more: &[u8]| one_sat(12, 0x1000, &[&GOOD, more].concat());
    let cases: [(&str, Vec<u8>, &str); 12] = [
        ("no key length", one_sat(12, 0x1000, &GOOD[..16]), "no common policy"),
        (
            "no authentication",
            one_sat(12, 0x1000, &hex!("80010001 80020e10 80040001 80060080")),
            "no common policy",
        ),
        ("NULL cipher", one_sat(11, 0x1000, &GOOD), "no common policy"),
        ("counter mode", one_sat(20, 0x1000, &GOOD), "no common policy"),
        ("reserved SPI", one_sat(12, 255, &GOOD), "no common policy"),
        (
            "no life left",
            one_sat(12, 0x1000, &hex!("80010001 80020000 80040001 80050002 80060080")),
            "no common policy",
        ),
        (
            "transport mode",
            one_sat(12, 0x1000, &hex!("80010001 80020e10 80040002 80050002 80060080")),
            "no common policy",
        ),
        ("extended sequence numbers", with(&hex!("800b0001")), "no common policy"),
        ("no address preservation", with(&hex!("800e0001")), "no common policy"),
        ("duration without type", with(&hex!("80020e10")), "no common policy"),
        ("no TEK", hex!("00000002 00000000 00000000").to_vec(), "no TEK"),
        (
            "unknown group policy",
            [&hex!("00000002 00000000 00160000 10000008 80810001")[..], &one_sat(12, 0x1000, &GOOD)[12..]]
                .concat(),
            "unknown group policy attribute",
        ),
    ];
    for (name, sa, reason) in cases {
        let mut member = our_member();
        let mut stranger = Stranger::server();
        assert!(!stranger.serve(&mut member, &sa, None, &[]), "{name}");
        let events = events(&mut member);
        let [Event::RegistrationFailed { reason: told, .. }] = &events[..] else {
            panic!("{name}: {events:?}")
        };
        assert!(told.to_string().contains(reason), "{name}: {told}");
        assert_eq!(stranger.notifications.len(), 1, "{name}: the server is told");
        assert_eq!(stranger.closed, 1, "{name}: phase 1 is deleted");
    }
}

#[test]
fn what_a_server_may_say_besides_is_read_over() {
    let harmless: [&[u8]; 6] = [
        &hex!("80030002"),                   // group description: ignored
        &hex!("800e0004"),                   // address preservation: both
        &hex!("800f0003"),                   // direction: symmetric
        &hex!("80010002 00020004 00100000"), // a kilobyte life besides
        &hex!("fd010001"),                   // private use of another vendor
        &hex!("800a0001"),                   // ECN
    ];
    for more in harmless {
        let mut member = our_member();
        let mut stranger = Stranger::server();
        let sa = one_sat(12, 0x1000, &[&GOOD, more].concat());
        assert!(stranger.serve(&mut member, &sa, None, &aes_key_packet(hex!("00001000"))), "{more:02x?}");
        let events = events(&mut member);
        let [Event::InstallSas { sas, .. }, Event::Registered { .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!(sas[0].hard_expiry - stranger.now, Duration::from_secs(3600));
    }
}

#[test]
fn a_refused_tek_beside_a_good_one_stays_closed() {
    let mut sa = one_sat(12, 0x1000, &GOOD);
    sa[12] = PayloadType::SA_TEK.0;
    sa.extend_from_slice(&one_sat(11, 0x1001, &GOOD)[12..]);
    let mut member = our_member();
    let mut stranger = Stranger::server();
    assert!(stranger.serve(&mut member, &sa, None, &aes_key_packet(hex!("00001000"))));
    let events = events(&mut member);
    let [Event::InstallSas { sas, closed, .. }, Event::Registered { .. }] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!((sas.len(), closed.len()), (1, 1));
}

/// The same SAT with this SPI after another.
fn with_second_sat(first: &[u8], second: &[u8]) -> Vec<u8> {
    let mut sa = first.to_vec();
    sa[12] = PayloadType::SA_TEK.0;
    sa.extend_from_slice(&second[12..]);
    sa
}

#[test]
fn exceptions_of_a_foreign_server_are_read_over_and_not_kept_as_policies() {
    let good = one_sat(12, 0x1000, &GOOD);
    // No SPI, and a protocol for private use with anything behind it.
    let mut private = one_sat(12, 0x1001, &GOOD);
    private[16] = 200;
    for exception in [one_sat(12, 0, &GOOD), one_sat(0, 0, &[]), private] {
        let mut member = our_member();
        let mut stranger = Stranger::server();
        let sa = with_second_sat(&good, &exception);
        assert!(stranger.serve(&mut member, &sa, None, &aes_key_packet(hex!("00001000"))));
        let events = events(&mut member);
        let [Event::InstallSas { sas, closed, .. }, Event::Registered { .. }] = &events[..] else {
            panic!("{events:?}")
        };
        assert_eq!((sas.len(), closed.len()), (1, 0));
        // Alone it is no policy.
        let mut member = our_member();
        let mut stranger = Stranger::server();
        assert!(!stranger.serve(&mut member, &exception, None, &[]));
    }
    // Another protocol of the registry is no exception.
    let mut member = our_member();
    let mut stranger = Stranger::server();
    let mut unknown = one_sat(12, 0x1001, &GOOD);
    unknown[16] = 100;
    assert!(!stranger.serve(&mut member, &with_second_sat(&good, &unknown), None, &[]));
}

#[test]
fn unpaired_policies_are_accepted_unless_only_pairs_are_to_be() {
    let forth = one_sat(12, 0x1000, &GOOD);
    let mut back = forth.clone();
    // Where the two prefixes are.
    let (source, destination) = (22..30, 34..42);
    back[source.clone()].copy_from_slice(&forth[destination.clone()]);
    back[destination].copy_from_slice(&forth[source.clone()]);
    let mut other = forth.clone();
    other[source.start] ^= 0x40;
    for (second, is_pair) in [(&back, true), (&other, false)] {
        for only in [false, true] {
            let mut settings = member_settings(0, &[GROUP]);
            settings.vpns[0].paired_policies_only = only;
            let mut member = member_of(settings);
            let mut stranger = Stranger::server();
            let sa = with_second_sat(&forth, second);
            let served = stranger.serve(&mut member, &sa, None, &aes_key_packet(hex!("00001000")));
            assert_eq!(served, is_pair || !only);
            let events = events(&mut member);
            match &events[..] {
                [Event::InstallSas { sas, .. }, Event::Registered { .. }] => {
                    assert!(is_pair || !only);
                    assert_eq!(sas[0].selectors.len(), 2);
                }
                [Event::RegistrationFailed { reason, .. }] => {
                    assert!(!is_pair && only);
                    assert!(reason.to_string().contains("TEK 00001000 are not paired"), "{reason}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn keys_that_are_missing_repeated_short_or_weak_are_refused() {
    let good = aes_key_packet(hex!("00001000"));
    let mut short = hex!("0001 0000 0100 0034 04 00001000 0001 000f 000102030405060708090a0b0c0d0e").to_vec();
    short.extend_from_slice(&good[33..]);
    let mut twice = good.clone();
    twice[1] = 2;
    twice.extend_from_slice(&good[4..]);
    let other = aes_key_packet(hex!("00001001"));
    let none = hex!("0000 0000").to_vec();
    for (name, kd) in [("short", short), ("twice", twice), ("other", other), ("none", none)] {
        let mut member = our_member();
        let mut stranger = Stranger::server();
        assert!(stranger.serve(&mut member, &one_sat(12, 0x1000, &GOOD), None, &kd));
        let events = events(&mut member);
        let [Event::RegistrationFailed { reason, .. }] = &events[..] else { panic!("{name}: {events:?}") };
        assert!(reason.to_string().contains("no proper key for TEK 00001000"), "{name}: {reason}");
        assert_eq!(stranger.notifications[0].kind, NotifyType::INVALID_KEY_INFORMATION);
    }
    let weak = hex!(
        "0001 0000 0100 003d 04 00001000 0001 0018 010101010101010101010101010101010101010101010101"
        "0002 0014 000102030405060708090a0b0c0d0e0f10111213"
    );
    let mut member = our_member();
    let mut stranger = Stranger::server();
    let sa = one_sat(3, 0x1000, &hex!("80010001 80020e10 80040001 80050002"));
    assert!(stranger.serve(&mut member, &sa, None, &weak));
    assert!(
        matches!(&events(&mut member)[..], [Event::RegistrationFailed { reason, .. }] if reason.to_string().contains("weak"))
    );
}

#[test]
fn a_server_that_tells_no_configured_life_is_asked_again_in_time() {
    let mut member = our_member();
    let mut stranger = Stranger::server();
    let sa = one_sat(12, 0x1000, &GOOD);
    assert!(stranger.serve(&mut member, &sa, None, &aes_key_packet(hex!("00001000"))));
    let events = events(&mut member);
    let [Event::InstallSas { sas, .. }, _] = &events[..] else { panic!("{events:?}") };
    let left = sas[0].hard_expiry - sas[0].soft_expiry;
    assert!((Duration::from_secs(180)..=Duration::from_secs(252)).contains(&left), "{left:?}");
}
