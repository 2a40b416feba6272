//! Deletes in a push.

use proto::Role;
use proto::member::{Event, Phase, Removal};
use proto::push::{Deletion, KekSpi};
use wire::registry::TekProtocol;

use super::scripted::*;
use crate::world::*;

fn deletes(deletions: &[Deletion]) -> Push {
    Push { deletions: deletions.to_vec(), ..Push::default() }
}

#[test]
fn a_graceful_eviction_deletes_the_kek_and_members_ask_within_ten_seconds_with_their_keys_in_use() {
    let mut scripted = Scripted::ours().registered();
    scripted.push(1, 1, &deletes(&[Deletion::Kek(KekSpi([1; 16]))]));
    assert_eq!((scripted.keks(), scripted.spis()), (vec![], vec![0x1000]));
    assert_eq!(scripted.acknowledgements.len(), 1, "also of the push that deletes its own KEK");
    assert_eq!(scripted.events, []);
    let asked = scripted.asks_within(SPREAD).unwrap();
    assert!(asked > secs(0));
    let old = Tek::new(0x1000, scripted.after(3000), &[1]);
    let new = Tek::new(0x1001, scripted.after(3600), &[1]).from(scripted.after(150));
    let kek = scripted.rekey(2, 3600);
    scripted.register(Some(kek), Some(0), &[old, new]);
    assert_eq!(scripted.keks(), [2]);
    assert_eq!(scripted.asks_within(secs(100)), None);
    // Rounds go on; who has asked does not know the old KEK any more.
    scripted.push(1, 2, &deletes(&[Deletion::Kek(KekSpi([1; 16]))]));
    assert_eq!(scripted.counters().push_rejected.unknown_kek, 1);
    assert_eq!(scripted.keks(), [2]);
}

#[test]
fn an_older_kek_that_is_left_does_not_keep_a_member_from_asking_when_the_last_one_is_deleted() {
    let mut scripted = Scripted::ours().registered();
    let successor = Push { kek: Some(scripted.rekey(2, 3600)), ..Push::default() };
    scripted.push(1, 1, &successor);
    scripted.push(2, 1, &deletes(&[Deletion::Kek(KekSpi([2; 16]))]));
    assert_eq!(scripted.keks(), [1]);
    assert!(scripted.asks_within(SPREAD).is_some());
    // The other way round nothing is missing.
    let mut scripted = Scripted::ours().registered();
    scripted.push(1, 1, &successor);
    scripted.push(2, 1, &deletes(&[Deletion::Kek(KekSpi([1; 16]))]));
    assert_eq!(scripted.keks(), [2]);
    assert_eq!(scripted.asks_within(secs(60)), None);
}

#[test]
fn members_do_not_all_ask_at_the_same_moment() {
    let moments: std::collections::BTreeSet<_> = (0..8)
        .map(|seed| {
            let mut scripted = Scripted::seeded(seed).registered();
            scripted.push(1, 1, &deletes(&[Deletion::EveryKek]));
            scripted.asks_within(SPREAD).unwrap()
        })
        .collect();
    assert_eq!(moments.len(), 8);
    assert!(*moments.last().unwrap() - *moments.first().unwrap() > SPREAD / 2);
}

#[test]
fn an_eviction_now_takes_everything_and_traffic_stays_closed_until_the_member_has_asked() {
    let mut scripted = Scripted::ours().registered();
    scripted.push(1, 1, &deletes(&[Deletion::EveryTek, Deletion::EveryKek]));
    assert_eq!((scripted.spis(), scripted.keks()), (vec![], vec![]));
    // The data path keeps the policies closed as long as nothing else is installed.
    let [Event::RemoveSas { spis, reason: Removal::Deleted, .. }] = &scripted.events[..] else {
        panic!("{:?}", scripted.events)
    };
    assert_eq!(spis, &[0x1000]);
    assert_eq!(scripted.acknowledgements.len(), 1);
    assert_eq!(scripted.member.phase("vpn-1"), Some(Phase::Registered));
    assert!(scripted.asks_within(SPREAD).is_some());
    assert_eq!(scripted.counters().delete_received, 2);
}

//= https://www.rfc-editor.org/rfc/rfc6407#section-5.9
//= type=test
//# the GCKS can signal deletion of all policy of
//# a particular TEK protocol by sending a TEK with an SPI value equal to
//# zero in the delete payload.
#[test]
fn a_delete_for_an_sa_that_is_not_ours_changes_nothing_and_is_counted() {
    let mut scripted = Scripted::new(true, |settings| {
        let mut second = settings.vpns[0].clone();
        second.name = "vpn-2".to_owned();
        second.group_id = 2;
        settings.vpns.push(second);
    });
    let (kek, tek) = (scripted.rekey(1, 3600), Tek::new(0x1000, scripted.after(3600), &[1]));
    scripted.register(Some(kek), Some(0), &[tek]);
    scripted.member.interface_up(scripted.now, "vpn-2", None);
    let (other, foreign) = (scripted.rekey(2, 3600), Tek::new(0x2000, scripted.after(3600), &[2]));
    scripted.register(Some(other), Some(0), &[foreign]);
    scripted.events.clear();
    let foreign = [Deletion::Tek(0x2000), Deletion::Kek(KekSpi([2; 16])), Deletion::Tek(0x3000)];
    scripted.push(1, 1, &deletes(&foreign));
    assert_eq!(scripted.spis(), [0x1000, 0x2000]);
    assert_eq!(scripted.keks(), [1, 2]);
    assert_eq!(scripted.events, []);
    assert_eq!(scripted.counters().push_rejected.foreign_delete, 3);
    assert_eq!(scripted.counters().push_failed, 0);
    // Everything of the group is everything of this group.
    scripted.push(1, 2, &deletes(&[Deletion::EveryTek, Deletion::EveryKek]));
    assert_eq!((scripted.spis(), scripted.keks()), (vec![0x2000], vec![2]));
}

#[test]
fn a_repeated_round_of_a_delete_is_acknowledged_again() {
    let mut scripted = Scripted::ours();
    let kek = scripted.rekey(1, 3600);
    let teks = [Tek::new(0x1000, scripted.after(3600), &[1]), Tek::new(0x2000, scripted.after(3600), &[2])];
    scripted.register(Some(kek), Some(0), &teks);
    for sequence in 1..=3 {
        scripted.push(1, sequence, &deletes(&[Deletion::Tek(0x2000)]));
    }
    assert_eq!(scripted.acknowledgements.len(), 3);
    assert_eq!(scripted.spis(), [0x1000]);
}

#[test]
fn deleting_the_only_key_of_a_policy_keeps_it_closed_and_the_member_asks_what_becomes_of_it() {
    let mut scripted = Scripted::ours();
    let kek = scripted.rekey(1, 3600);
    let teks = [Tek::new(0x1000, scripted.after(3600), &[1]), Tek::new(0x2000, scripted.after(3600), &[2])];
    scripted.register(Some(kek), Some(0), &teks);
    scripted.push(1, 1, &deletes(&[Deletion::Tek(0x2000)]));
    assert_eq!(scripted.closed(), [policy(2).selector]);
    assert!(scripted.asks_within(SPREAD).is_some());
    scripted.register(Some(kek), Some(1), &teks[..1]);
    assert_eq!(scripted.closed(), []);
    assert_eq!(scripted.asks_within(secs(60)), None);
}

#[test]
fn a_deleted_key_whose_successor_waits_lets_it_encrypt_at_once() {
    let mut scripted = Scripted::ours().registered();
    let old = Tek::new(0x1000, scripted.after(3600), &[1]);
    let new = Tek::new(0x1001, scripted.after(3600), &[1]).from(scripted.after(60));
    scripted.push(1, 1, &Push { teks: vec![old, new], ..Push::default() });
    assert_eq!(scripted.installed_sa(0x1001).activate_at, scripted.after(60));
    scripted.push(1, 2, &deletes(&[Deletion::Tek(0x1000)]));
    assert_eq!(scripted.installed_sa(0x1001).activate_at, scripted.now);
    assert_eq!(scripted.asks_within(secs(60)), None, "nothing is missing");
}

#[test]
fn what_the_same_push_brings_is_not_deleted() {
    let mut scripted = Scripted::ours().registered();
    let push = Push {
        deletions: vec![Deletion::EveryTek, Deletion::EveryKek],
        teks: vec![Tek::new(0x1001, scripted.after(3600), &[1])],
        kek: Some(scripted.rekey(2, 3600)),
        gap: None,
    };
    scripted.push(1, 1, &push);
    assert_eq!((scripted.spis(), scripted.keks()), (vec![0x1001], vec![2]));
    assert_eq!(scripted.asks_within(secs(60)), None);
}

#[test]
fn sas_of_protocols_that_we_do_not_use_are_deleted_without_effect() {
    let mut scripted = Scripted::ours().registered();
    scripted.push(1, 1, &deletes(&[Deletion::Other(TekProtocol::IPSEC_AH)]));
    assert_eq!((scripted.spis(), scripted.keks()), (vec![0x1000], vec![1]));
}

#[test]
fn a_registration_that_is_under_way_when_keys_are_deleted_begins_anew_at_once() {
    for deletions in [&[Deletion::EveryTek, Deletion::EveryKek][..], &[Deletion::Kek(KekSpi([1; 16]))]] {
        let mut scripted = Scripted::ours().registered();
        scripted.member.reregister(scripted.now, "vpn-1");
        assert_eq!(scripted.member.phase("vpn-1"), Some(Phase::Pulling));
        scripted.push(1, 1, &deletes(deletions));
        assert_eq!(scripted.member.phase("vpn-1"), Some(Phase::Waiting));
        assert_eq!(scripted.member.poll_timeout(), Some(scripted.now), "it had asked for a reason");
    }
}

#[test]
fn a_late_round_that_deletes_everything_spares_what_the_member_has_asked_for_since() {
    let mut scripted = Scripted::ours().registered();
    scripted.run(secs(1));
    scripted.member.reregister(scripted.now, "vpn-1");
    let (kek, tek) = (scripted.rekey(2, 3600), Tek::new(0x1001, scripted.after(3600), &[1]));
    scripted.register(Some(kek), Some(0), &[tek]);
    assert_eq!((scripted.spis(), scripted.keks()), (vec![0x1001, 0x1000], vec![1, 2]));
    scripted.push(1, 1, &deletes(&[Deletion::EveryTek, Deletion::EveryKek]));
    assert_eq!((scripted.spis(), scripted.keks()), (vec![0x1001], vec![2]));
    assert_eq!(scripted.asks_within(secs(60)), None);
    // Under the KEK that it has asked for it means what it says.
    scripted.push(2, 1, &deletes(&[Deletion::EveryTek, Deletion::EveryKek]));
    assert_eq!((scripted.spis(), scripted.keks()), (vec![], vec![]));
}

#[test]
fn a_kek_that_came_by_push_is_deleted_with_everything_else_under_the_one_before() {
    let mut scripted = Scripted::ours().registered();
    let successor = Push { kek: Some(scripted.rekey(2, 3600)), ..Push::default() };
    scripted.push(1, 1, &successor);
    scripted.push(1, 2, &deletes(&[Deletion::EveryTek, Deletion::EveryKek]));
    assert_eq!((scripted.spis(), scripted.keks()), (vec![], vec![]));
}
