//! KEKs: one beside the other, their numbers, their ends, their acknowledgements, their multicast groups.

use std::net::SocketAddr;

use proto::Role;
use proto::member::Event;
use proto::path::Path;
use proto::push::{Acknowledgement, AcknowledgementPrf, Deletion};
use wire::attribute::Attribute;
use wire::registry::{KekAttribute, NotifyType};

use super::scripted::*;
use crate::world::*;

fn heartbeat(scripted: &Scripted) -> Push {
    let tek = Tek::new(0x1000, scripted.after(3600), &[1]);
    Push { teks: vec![tek], ..Push::default() }
}

#[test]
fn a_new_kek_lives_beside_the_old_one_and_counts_from_one() {
    let mut scripted = Scripted::ours().registered();
    let push = heartbeat(&scripted);
    scripted.push(1, 41, &push);
    let new = Push { kek: Some(scripted.rekey(2, 3600)), ..Push::default() };
    scripted.push(1, 42, &new);
    assert_eq!(scripted.keks(), [1, 2]);
    scripted.push(2, 1, &push);
    assert_eq!(scripted.counters().push_succeeded, 3);
    // Late rounds under the old one, which tell the new one again, are still taken.
    scripted.push(1, 43, &new);
    scripted.push(2, 2, &push);
    assert_eq!(scripted.counters().push_succeeded, 5);
    assert_eq!(scripted.counters().push_failed, 0);
    scripted.push(2, 2, &Push { deletions: vec![Deletion::EveryTek], ..Push::default() });
    assert_eq!(scripted.counters().push_rejected.old_sequence, 1);
    assert_eq!(scripted.spis(), [0x1000]);
}

#[test]
fn a_kek_is_gone_to_the_second() {
    let mut scripted = Scripted::ours();
    let (kek, tek) = (scripted.rekey(1, 100), Tek::new(0x1000, scripted.after(3600), &[1]));
    scripted.register(Some(kek), Some(0), &[tek]);
    let successor = Push { kek: Some(scripted.rekey(2, 300)), ..Push::default() };
    scripted.push(1, 1, &successor);
    let push = heartbeat(&scripted);
    scripted.run(secs(99));
    scripted.push(1, 2, &push);
    assert_eq!(scripted.counters().push_succeeded, 2);
    scripted.run(secs(1));
    scripted.push(1, 3, &push);
    assert_eq!(scripted.keks(), [2]);
    assert_eq!(scripted.counters().push_succeeded, 2);
    assert_eq!(scripted.counters().push_rejected.unknown_kek, 1);
}

#[test]
fn a_kek_without_successor_makes_the_member_ask_before_its_end() {
    let mut scripted = Scripted::foreign();
    let (kek, tek) = (scripted.rekey(1, 600), Tek::new(0x1000, scripted.after(3600), &[1]));
    scripted.register(Some(kek), Some(0), &[tek]);
    let asked = scripted.asks_within(secs(600)).unwrap();
    // From 7 to 5 percent of its life before the end.
    assert!((secs(558)..=secs(570)).contains(&asked), "{asked:?}");
}

#[test]
fn a_restarted_servers_new_kek_comes_by_pull_and_the_old_one_is_kept() {
    let mut scripted = Scripted::ours().registered();
    scripted.member.reregister(scripted.now, "vpn-1");
    let (kek, tek) = (scripted.rekey(9, 3600), Tek::new(0x1000, scripted.after(3600), &[1]));
    scripted.register(Some(kek), Some(0), &[tek]);
    assert_eq!(scripted.keks(), [1, 9]);
    // It is kept for what its server may still have to delete; a policy under it is older than the registration.
    let push = heartbeat(&scripted);
    scripted.push(1, 1, &push);
    scripted.push(9, 1, &push);
    assert_eq!(scripted.counters().push_succeeded, 1);
    assert_eq!(scripted.counters().push_rejected.old_sequence, 1);
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-3.2
//= type=test
//# At
//# the conclusion of a GROUPKEY-PULL exchange, the initiating group
//# member MUST NOT accept any rekey message with both the KEK attribute
//# SPI value and a sequence number less than or equal to the one
//# received during the GROUPKEY-PULL exchange.
#[test]
fn what_was_sent_before_a_registration_is_never_taken() {
    let mut scripted = Scripted::ours();
    let (kek, tek) = (scripted.rekey(1, 3600), Tek::new(0x1000, scripted.after(3600), &[1]));
    scripted.register(Some(kek), Some(5), std::slice::from_ref(&tek));
    let push = heartbeat(&scripted);
    for old in [0, 1, 4, 5] {
        scripted.push(1, old, &push);
    }
    assert_eq!(scripted.counters().push_rejected.old_sequence, 4);
    scripted.push(1, 8, &push);
    assert_eq!(scripted.counters().push_succeeded, 1);
    // A PULL that was under way says an older number: it is stale. One without number says nothing.
    for sequence in [Some(6), None] {
        scripted.member.reregister(scripted.now, "vpn-1");
        scripted.register(Some(kek), sequence, std::slice::from_ref(&tek));
        scripted.push(1, 7, &push);
        scripted.push(1, 8, &heartbeat(&scripted));
        assert_eq!(scripted.counters().push_succeeded, 1);
    }
    // Not even if the member forgot the KEK in between.
    scripted.member.clear_group(scripted.now, None);
    assert!(scripted.keks().is_empty());
    scripted.register(Some(kek), None, &[tek]);
    scripted.push(1, 8, &push);
    assert_eq!(scripted.counters().push_succeeded, 1);
    scripted.push(1, 9, &push);
    assert_eq!(scripted.counters().push_succeeded, 2);
}

//= https://www.rfc-editor.org/rfc/rfc8263#section-4
//= type=test
//# A GM recognizing the attribute MUST
//# honor the KEK_ACK_REQUESTED attribute by returning Acknowledgements,
//# because it can be expected that the GCKS is likely to take some
//# policy-specific action regarding unresponsive GMs, including ceasing
//# to deliver GROUPKEY-PUSH messages to it.
#[test]
fn each_round_is_acknowledged_under_the_kek_that_it_came_under() {
    let mut scripted = Scripted::ours().registered();
    let new = Push { kek: Some(scripted.rekey(2, 3600)), ..Push::default() };
    let push = heartbeat(&scripted);
    scripted.push(1, 1, &push);
    scripted.push(1, 2, &new);
    scripted.push(1, 3, &new);
    scripted.push(2, 1, &push);
    let told: Vec<_> = scripted
        .acknowledgements
        .iter()
        .map(|(path, message)| {
            let acknowledgement = Acknowledgement::parse(message).unwrap();
            let number = acknowledgement.spi.0[0];
            assert!(acknowledgement.verify(&kek(number).acknowledgement_keys().unwrap()).is_ok());
            assert_eq!(acknowledgement.member.as_address(), Some(member_address(0)));
            assert_eq!(path.remote, SocketAddr::new(SERVER, 848));
            assert_eq!(path.local, SocketAddr::new(member_address(0), 848));
            (number, acknowledgement.sequence)
        })
        .collect();
    assert_eq!(told, [(1, 1), (1, 2), (1, 3), (2, 1)]);
    assert_eq!(scripted.counters().push_acknowledged, 4);
}

#[test]
fn a_push_that_is_not_taken_is_not_acknowledged() {
    let mut scripted = Scripted::ours().registered();
    let datagram = scripted.seal(1, 1, &heartbeat(&scripted));
    scripted.deliver(&datagram);
    scripted.deliver(&datagram);
    scripted.push(1, 1, &Push::default());
    assert_eq!(scripted.acknowledgements.len(), 1);
}

#[test]
fn nothing_is_acknowledged_where_nobody_asks_and_the_last_kek_decides() {
    let mut scripted = Scripted::ours();
    let quiet = Rekey { acknowledge: false, ..scripted.rekey(1, 3600) };
    let tek = Tek::new(0x1000, scripted.after(3600), &[1]);
    scripted.register(Some(quiet), Some(0), &[tek]);
    let push = heartbeat(&scripted);
    scripted.push(1, 1, &push);
    assert_eq!(scripted.acknowledgements.len(), 0);
    let asking = Push { kek: Some(scripted.rekey(2, 3600)), ..Push::default() };
    scripted.push(1, 2, &asking);
    assert_eq!(scripted.acknowledgements.len(), 1);
    let silent =
        Push { kek: Some(Rekey { acknowledge: false, ..scripted.rekey(3, 3600) }), ..Push::default() };
    scripted.push(2, 1, &silent);
    scripted.push(2, 2, &push);
    assert_eq!(scripted.acknowledgements.len(), 1);
}

//= https://www.rfc-editor.org/rfc/rfc8263#section-4
//= type=test
//# If a GM cannot respond with the requested type of Acknowledgement, it
//# continues with protocol exchange and participates in the group.
#[test]
fn a_kind_of_acknowledgement_that_we_cannot_give_is_no_reason_not_to_join() {
    for kind in [2_u16, 4, 5, 200] {
        let mut scripted = Scripted::foreign();
        let (kek, tek) = (scripted.rekey(1, 3600), Tek::new(0x1000, scripted.after(3600), &[1]));
        scripted.register_with(Some(kek), Some(0), &[tek], |sa| {
            let attributes = &mut sa.kek.as_mut().unwrap().attributes.0;
            attributes.retain(|attribute| attribute.class != KekAttribute::ACKNOWLEDGEMENT_REQUESTED.0);
            attributes.push(Attribute::basic(KekAttribute::ACKNOWLEDGEMENT_REQUESTED, kind));
        });
        assert_eq!(scripted.keks(), [1], "{kind}");
        scripted.push(1, 1, &heartbeat(&scripted));
        assert_eq!((scripted.counters().push_succeeded, scripted.acknowledgements.len()), (1, 0));
    }
    assert_eq!(AcknowledgementPrf::requested(wire::registry::KekAcknowledgement(2)), None);
}

#[test]
fn a_non_esp_marker_is_mirrored() {
    let mut scripted = Scripted::ours().registered();
    let datagram = scripted.seal(1, 1, &heartbeat(&scripted));
    scripted.deliver(&[&[0; 4][..], &datagram].concat());
    assert_eq!(scripted.acknowledgements[0].1[..5], [0, 0, 0, 0, 1]);
}

#[test]
fn a_multicast_group_is_joined_with_its_kek_and_left_with_it() {
    let mut scripted = Scripted::ours();
    let multicast = Rekey { multicast: Some("226.1.1.1"), ..scripted.rekey(1, 100) };
    let tek = Tek::new(0x1000, scripted.after(3600), &[1]);
    scripted.register(Some(multicast), Some(0), &[tek]);
    let group = "226.1.1.1".parse().unwrap();
    let join = Event::JoinGroup { vpn: "vpn-1".into(), group, source: SERVER };
    assert!(scripted.events.contains(&join));
    scripted.events.clear();
    let other = Rekey { multicast: Some("226.1.1.2"), ..scripted.rekey(2, 3600) };
    scripted.push(1, 1, &Push { kek: Some(other), ..Push::default() });
    let moved = "226.1.1.2".parse().unwrap();
    assert_eq!(scripted.events, [Event::JoinGroup { vpn: "vpn-1".into(), group: moved, source: SERVER }]);
    scripted.events.clear();
    scripted.run(secs(100));
    assert_eq!(scripted.events, [Event::LeaveGroup { vpn: "vpn-1".into(), group }]);
    scripted.member.interface_down(scripted.now, "vpn-1");
    let events: Vec<_> = std::iter::from_fn(|| scripted.member.poll_event()).collect();
    assert!(events.contains(&Event::LeaveGroup { vpn: "vpn-1".into(), group: moved }));
}

//= https://www.rfc-editor.org/rfc/rfc8263#section-6
//= type=test
//# A GM MUST NOT delay
//# sending an Acknowledgement Message for more than 5 seconds.
#[test]
fn a_multicast_push_is_acknowledged_from_our_own_address_within_five_seconds() {
    let mut scripted = Scripted::foreign();
    let multicast = Rekey { multicast: Some("226.1.1.1"), ..scripted.rekey(1, 3600) };
    let tek = Tek::new(0x1000, scripted.after(3600), &[1]);
    scripted.register(Some(multicast), Some(0), &[tek]);
    let datagram = scripted.seal(1, 1, &heartbeat(&scripted));
    let path = Path::new("226.1.1.1:848".parse().unwrap(), SocketAddr::new(SERVER, 848));
    scripted.deliver_on(path, &datagram);
    assert_eq!(scripted.acknowledgements.len(), 0);
    scripted.run(secs(5));
    assert_eq!(scripted.acknowledgements.len(), 1);
    assert_eq!(scripted.acknowledgements[0].0.local, SocketAddr::new(member_address(0), 848));
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.3.2
//= type=test
//# A
//# GDOI implementation MUST abort if it encounters an attribute or
//# capability that it does not understand.
#[test]
fn a_rekey_sa_that_cannot_be_used_aborts_the_registration() {
    let replace = |class: KekAttribute, value: Option<u16>| (class.0, value);
    let cases = [
        (replace(KekAttribute::ALGORITHM, None), "is missing"),
        (replace(KekAttribute::ALGORITHM, Some(4)), "is not supported"),
        (replace(KekAttribute::KEY_LENGTH, None), "is not supported"),
        (replace(KekAttribute::KEY_LENGTH, Some(100)), "is not supported"),
        (replace(KekAttribute::KEY_LENGTH, Some(256)), "wrong length"),
        (replace(KekAttribute::SIGNATURE_ALGORITHM, None), "is missing"),
        (replace(KekAttribute::SIGNATURE_ALGORITHM, Some(2)), "is not supported"),
        (replace(KekAttribute::SIGNATURE_ALGORITHM, Some(1)), "which the policy does not say"),
        (replace(KekAttribute::SIGNATURE_HASH_ALGORITHM, Some(6)), "is not supported"),
        ((8, Some(1)), "is not supported"),
        ((10, Some(1)), "is not supported"),
        ((128, Some(300)), "is not supported"),
        ((200, Some(1)), "is not supported"),
    ];
    for ((class, value), expected) in cases {
        let mut scripted = Scripted::foreign();
        let (kek, tek) = (scripted.rekey(1, 3600), Tek::new(0x1000, scripted.after(3600), &[1]));
        scripted.register_with(Some(kek), Some(0), &[tek], |sa| {
            let attributes = &mut sa.kek.as_mut().unwrap().attributes.0;
            attributes.retain(|attribute| attribute.class != class);
            attributes.extend(value.map(|value| Attribute::basic(class, value)));
        });
        let [Event::RegistrationFailed { reason, .. }] = &scripted.events[..] else {
            panic!("{class} {value:?}: {:?}", scripted.events)
        };
        assert!(reason.to_string().contains(expected), "{class} {value:?}: {reason}");
        assert!(scripted.spis().is_empty() && scripted.keks().is_empty());
        assert!(scripted.stranger.notifications.iter().any(|told| told.kind != NotifyType::CONNECTED));
    }
}

#[test]
fn the_management_algorithm_of_a_pull_is_ignored_and_both_length_readings_are_understood() {
    let mut scripted = Scripted::foreign();
    let (kek, tek) = (scripted.rekey(1, 3600), Tek::new(0x1000, scripted.after(3600), &[1]));
    scripted.register_with(Some(kek), None, &[tek], |sa| {
        let sak = sa.kek.as_mut().unwrap();
        sak.attributes.0.insert(0, Attribute::basic(KekAttribute::MANAGEMENT_ALGORITHM, 1_u16));
        sak.id_length = wire::codec::LengthWidth::Two;
    });
    assert_eq!(scripted.keks(), [1]);
    let shown = scripted.member.kek_security_associations(scripted.now).remove(0);
    let detail = shown.detail.unwrap();
    assert_eq!(detail.authentication_method, "ECDSA-256");
    assert_eq!((&*detail.encryption_algorithm, &*detail.signature_hash), ("aes-128-cbc", "sha256"));
    assert_eq!((detail.lifetime_remaining_secs, detail.sequence_number), (3600, 0));
    assert_eq!((&*detail.communication, shown.remote_address), ("Unicast", SERVER));
}

#[test]
fn a_group_may_begin_with_its_kek_alone() {
    let mut scripted = Scripted::ours();
    let kek = scripted.rekey(1, 3600);
    scripted.register(Some(kek), Some(0), &[]);
    assert_eq!(scripted.keks(), [1]);
    assert_eq!(scripted.asks_within(secs(50)), None);
    let push = heartbeat(&scripted);
    scripted.push(1, 1, &push);
    assert_eq!(scripted.spis(), [0x1000]);
    assert_eq!(scripted.asks_within(secs(50)), None);
}
