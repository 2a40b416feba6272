//! Groups whose TEKs are of a counter mode: every member sends under ids that nobody else has.

use std::collections::BTreeSet;

use crypto::{EspSuite, GcmKeyLen};
use proto::member::Event;
use proto::policy::SenderIdDownload;
use proto::server::{PushSettings, Settings};

use crate::world::*;

fn settings(members: usize, bits: u8, push: Option<PushSettings>) -> Settings {
    let mut group = group(GROUP, 1, &[policy(1)]);
    group.ipsec_sas[0].suite = EspSuite::Gcm { key: GcmKeyLen::Bits256 };
    group.sender_id_bits = bits;
    group.push = push;
    server_settings(members, vec![group])
}

fn world(members: usize, bits: u8, push: Option<PushSettings>) -> World {
    let of_members = (0..members).map(|index| member_settings(index, &[GROUP])).collect();
    let mut world = World::new(settings(members, bits, push), of_members);
    world.disk = Some(Default::default());
    world.up();
    world.run(seconds(2));
    world
}

/// Everything that a member was given, with the SPIs that go with it.
fn given(world: &World, member: usize) -> Vec<(SenderIdDownload, Vec<u32>)> {
    let given = world.events_of(member).filter_map(|event| match event {
        Event::SenderIds { sender_ids, spis, .. } => Some((sender_ids.clone(), spis.clone())),
        _ => None,
    });
    given.collect()
}

/// No key was given to two members, or twice to one, with the same id. In a push group a member goes on with its ids
/// under later keys.
fn assert_disjoint(world: &World, pushed: bool) {
    let mut seen = BTreeSet::new();
    for member in 0..world.members.len() {
        let mut last: Vec<u32> = Vec::new();
        for event in world.events_of(member) {
            match event {
                Event::SenderIds { sender_ids, spis, .. } => {
                    for spi in spis {
                        for id in &sender_ids.ids {
                            assert!(seen.insert((*spi, *id)), "{spi:x} with {id} twice");
                        }
                    }
                    last.clone_from(&sender_ids.ids);
                }
                Event::InstallSas { sas, .. } if pushed => {
                    seen.extend(sas.iter().flat_map(|sa| last.iter().map(|id| (sa.spi, *id))));
                }
                _ => {}
            }
        }
    }
}

#[test]
fn every_member_gets_as_many_as_it_asks_for_and_its_own() {
    let world = world(3, 16, None);
    let ids: Vec<_> = (0..3).map(|member| given(&world, member)).collect();
    assert!(ids.iter().all(|given| given.len() == 1 && given[0].0.bits == 16 && given[0].0.ids.len() == 4));
    let all: BTreeSet<u32> = ids.iter().flat_map(|given| given[0].0.ids.clone()).collect();
    assert_eq!(all, (0..12).collect());
    assert_eq!(ids[0][0].1, world.server_spis());
    let installed = world.events_of(0).find_map(|event| match event {
        Event::InstallSas { sas, .. } => Some(sas[0].clone()),
        _ => None,
    });
    let shown = world.members[2].ipsec_security_associations(world.now).remove(0).security_associations;
    let own = shown[0].detail.as_ref().and_then(|detail| detail.sender_ids.clone()).expect("in detail");
    assert_eq!((own.bits, own.ids), (16, ids[2][0].0.ids.clone()));
    let shown = world.shown().ipsec_security_associations(world.now).remove(0).security_associations;
    let usage = shown[0].detail.as_ref().and_then(|detail| detail.sender_ids).expect("in detail");
    assert_eq!((usage.bits, usage.in_use, usage.free), (16, 12, 65_524));
    let key = &installed.expect("installed").keys;
    assert_eq!((key.cipher.len(), key.integrity.len()), (32 + 4, 0), "the salt follows the key");
}

#[test]
fn a_cbc_group_gives_none() {
    let mut world = World::pair();
    world.up();
    world.run(seconds(2));
    assert_eq!(world.registered(0), 1);
    assert!(given(&world, 0).is_empty());
}

#[test]
fn in_a_pull_group_ids_come_round_and_never_meet_a_key_twice() {
    let mut world = world(4, 8, None);
    // 4 members, each with 4 ids an hour: 256 ids are given several times over.
    world.run(seconds(3600 * 60));
    assert_disjoint(&world, false);
    assert!(given(&world, 0).len() > 50);
    assert_eq!(world.statistics().pull_failed, 0, "nobody ever had to wait");
}

#[test]
fn a_member_that_registers_in_haste_exhausts_the_ids_and_all_keys_are_replaced() {
    let mut world = world(2, 8, None);
    let before = world.server_spis();
    for _ in 0..70 {
        world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
        world.run(seconds(1));
    }
    world.run(seconds(30));
    assert!(world.server_spis().iter().all(|spi| !before.contains(spi)));
    assert!(
        world.server_log.iter().any(|entry| entry.to_string().contains("all sender ids have been given"))
    );
    assert_disjoint(&world, false);
    assert_eq!(given(&world, 0).last().unwrap().1, world.server_spis());
}

#[test]
fn where_the_server_pushes_exhaustion_deletes_everything_first_and_members_pull_anew() {
    for push in [unicast(), multicast()] {
        let mut world = world(2, 8, Some(push));
        let before = world.server_spis();
        for _ in 0..70 {
            world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
            world.run(seconds(1));
        }
        world.run(seconds(60));
        let after = world.server_spis();
        assert!(after.iter().all(|spi| !before.contains(spi)));
        for member in 0..2 {
            assert_eq!(world.member_spis(member), after, "{:#?}", world.member_log);
            assert_eq!(given(&world, member).last().unwrap().1, after);
        }
        assert_disjoint(&world, true);
        // They go on with their ids under keys that are pushed.
        let pulls = given(&world, 1).len();
        world.run(seconds(3600 * 3));
        assert_eq!(given(&world, 1).len(), pulls);
        assert_eq!(world.member_spis(1), world.server_spis());
        assert_disjoint(&world, true);
    }
}

#[test]
fn a_server_that_dies_gives_nothing_twice() {
    for crash in [Crash::BeforeKeeping, Crash::BeforeSending] {
        for moment in 0..6 {
            let mut world = world(3, 12, Some(unicast()));
            world.crash = Some((moment, crash));
            for round in 0..30 {
                world.act(|world, now| world.members[round % 3].reregister(now, "vpn-1"));
                world.run(seconds(11));
                if world.server.is_none() {
                    world.restart_server(settings(3, 12, Some(unicast())));
                }
            }
            world.server = None;
            world.restart_server(settings(3, 12, Some(unicast())));
            world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
            world.run(seconds(60));
            assert_disjoint(&world, true);
        }
    }
}

#[test]
fn another_width_replaces_all_keys() {
    let mut world = world(2, 16, Some(unicast()));
    let before = world.server_spis();
    world.act(|world, now| world.server().configure(now, settings(2, 24, Some(unicast()))));
    world.run(seconds(30));
    let after = world.server_spis();
    assert!(after.iter().all(|spi| !before.contains(spi)));
    for member in 0..2 {
        assert_eq!(world.member_spis(member), after);
        assert_eq!(given(&world, member).last().unwrap().0.bits, 24);
    }
}

#[test]
fn a_member_whose_ids_run_out_gets_others_for_the_same_keys() {
    let mut world = world(2, 16, Some(unicast()));
    let before = world.server_spis();
    world.run(seconds(200));
    world.act(|world, now| world.members[0].need_sender_ids(now, "vpn-1"));
    world.act(|world, now| world.members[0].need_sender_ids(now, "vpn-1"));
    world.run(seconds(2));
    world.act(|world, now| world.members[0].need_sender_ids(now, "vpn-1"));
    world.run(seconds(2));
    let given = given(&world, 0);
    assert_eq!(given.len(), 2, "once, and not again at once");
    assert_eq!(given[1].1, before);
    assert_disjoint(&world, true);
}
