//! A server that dies and goes on with what was kept: members notice nothing.

use proto::server::{Eviction, PushSettings, Server, Settings};

use crate::rekey::{configure, newest_kek, settings_with};
use crate::world::*;

fn settings(members: usize, push: Option<PushSettings>) -> Settings {
    let mut group = group(GROUP, 2, &[policy(1)]);
    group.ipsec_sas[1].policies = vec![policy(2)];
    group.push = push;
    server_settings(members, vec![group])
}

fn world(members: usize, push: Option<PushSettings>) -> World {
    let of_members = (0..members).map(|index| member_settings(index, &[GROUP])).collect();
    let mut world = World::new(settings(members, push), of_members);
    world.disk = Some(Default::default());
    world.up();
    world.run(seconds(1));
    world
}

/// Rekeys that a member refused, for any reason.
fn refused(world: &World, member: usize) -> u64 {
    let vpns = world.members[member].ipsec_security_associations(world.now);
    vpns[0].counters.push_failed
}

fn assert_unnoticed(world: &World, members: usize) {
    for member in 0..members {
        assert_eq!(world.registered(member), 1, "{:#?}", world.member_log);
        assert_eq!(world.member_spis(member), world.server_spis());
        assert_eq!(refused(world, member), 0);
    }
}

#[test]
fn a_restarted_server_goes_on_with_the_same_keys_and_members_notice_nothing() {
    for push in [unicast(), multicast()] {
        let mut world = world(3, Some(push.clone()));
        for _ in 0..6 {
            world.run(seconds(1800));
            let before = world.server_spis();
            world.server = None;
            world.run(seconds(20));
            world.restart_server(settings(3, Some(push.clone())));
            assert_eq!(world.server_spis(), before);
            world.run(seconds(1));
        }
        assert_unnoticed(&world, 3);
        assert_eq!(world.shown().registered_members(world.now)[0].members.len(), 3);
    }
}

#[test]
fn sequence_numbers_go_on_and_acknowledgements_of_before_are_taken() {
    let mut push = unicast();
    push.heartbeat = Some(seconds(60));
    let mut world = world(2, Some(push.clone()));
    for _ in 0..20 {
        world.run(seconds(61));
        world.server = None;
        world.restart_server(settings(2, Some(push.clone())));
        world.run(seconds(1));
    }
    assert_unnoticed(&world, 2);
}

#[test]
fn in_a_pull_group_a_member_finds_the_keys_it_has() {
    let mut world = world(2, None);
    world.run(seconds(100));
    let before = world.server_spis();
    world.server = None;
    world.restart_server(settings(2, None));
    assert!(world.act(|world, now| world.members[0].reregister(now, "vpn-1")));
    world.run(seconds(5));
    assert_eq!(world.member_spis(0), before);
    assert_eq!(world.member_spis(1), before);
}

#[test]
fn a_server_that_dies_between_keeping_and_sending_confuses_nobody() {
    let mut push = unicast();
    push.lifetime = seconds(3600);
    push.heartbeat = Some(seconds(300));
    for crash in [Crash::BeforeKeeping, Crash::BeforeSending] {
        for moment in (0..40).step_by(3) {
            let mut world = world(2, Some(push.clone()));
            world.crash = Some((moment, crash));
            for _ in 0..380 {
                world.run(seconds(20));
                if world.server.is_none() {
                    world.restart_server(settings(2, Some(push.clone())));
                }
            }
            for member in 0..2 {
                assert_eq!(world.member_spis(member), world.server_spis(), "{crash:?} at {moment}");
                assert_eq!(refused(&world, member), 0, "{crash:?} at {moment}");
            }
        }
    }
}

#[test]
fn an_eviction_goes_on_after_a_restart_and_the_old_kek_carries_no_new_key() {
    let mut world = world(3, Some(unicast()));
    world.run(seconds(100));
    let before = world.server_spis();
    // The evicted one hears nothing of it, nor do the others while the server lives.
    world.set_network(|seen| if seen.label.starts_with("push") { Fate::Lose } else { Fate::Deliver });
    world.act(|world, now| world.server().evict(now, None, Eviction::Graceful)).unwrap();
    world.server = None;
    world.set_network(|_| Fate::Deliver);
    world.restart_server(settings(2, Some(unicast())));
    // Its phase 1 SAs are gone, which members find out by silence.
    world.run(seconds(30));
    for member in 0..2 {
        assert_eq!(world.registered(member), 2, "told by the restarted server");
        assert_eq!(world.member_spis(member), world.server_spis());
    }
    let evicted = world.member_spis(2);
    assert!(evicted.iter().all(|spi| before.contains(spi)), "{evicted:x?} against {before:x?}");
}

#[test]
fn who_was_lost_and_forgotten_before_a_restart_is_evicted_after_it() {
    let mut world = crate::rekey::world(2, unicast());
    world.disk = Some(Default::default());
    crate::rekey::with_a_forgotten_member(&mut world);
    world.server = None;
    world.restart_server(settings_with(2, |_| {}));
    let before = newest_kek(&world);
    configure(&mut world, settings_with(2, |group| group.gateways = vec![gateway_name(0)]));
    assert_ne!(newest_kek(&world), before, "what it may hold carries nothing any more");
}

#[test]
fn what_was_committed_while_it_was_down_is_a_commit_of_now() {
    let mut world = world(2, Some(unicast()));
    world.run(seconds(100));
    world.server = None;
    let mut changed = settings(2, Some(unicast()));
    changed.groups[0].ipsec_sas.remove(0);
    changed.groups[0].ipsec_sas[0].lifetime = seconds(1800);
    world.restart_server(changed);
    world.run(seconds(200));
    for member in 0..2 {
        assert_eq!(world.registered(member), 2, "it asked whether the deleted policy is gone");
        assert_eq!(world.member_spis(member), world.server_spis());
    }
    assert!(world.server_spis().len() <= 2, "the TEKs of the removed ipsec-sa were deleted");
}

#[test]
fn keys_that_ended_while_the_server_was_down_do_not_come_back() {
    let mut world = world(1, Some(unicast()));
    world.run(seconds(100));
    let before = world.server_spis();
    world.server = None;
    world.run(seconds(3600));
    world.restart_server(settings(1, Some(unicast())));
    assert!(world.server_spis().iter().all(|spi| !before.contains(spi)));
    world.run(seconds(60));
    assert_eq!(world.member_spis(0), world.server_spis(), "it registered again");
}

#[test]
fn records_of_a_removed_group_are_removed_and_those_of_others_left_alone() {
    let mut world = world(1, Some(unicast()));
    world.run(seconds(10));
    assert!(!world.records().is_empty());
    let now = world.now;
    world.act(|world, _| world.server().configure(now, Settings::default()));
    assert!(world.records().is_empty());
}

#[test]
fn a_damaged_record_is_named_and_nothing_is_restored() {
    let mut world = world(1, Some(unicast()));
    world.run(seconds(10));
    let mut records = world.records();
    let mut named = 0;
    for index in 0..records.len() {
        let whole = records[index].content.clone();
        for length in 0..whole.len() {
            records[index].content = crypto::Secret::from_slice(&whole.expose()[..length]);
            let random = Box::new(crypto::SeededRandom::new(1));
            let outcome = Server::restored(world.now, settings(1, Some(unicast())), random, &records);
            let error = outcome.expect_err("a cut record");
            assert_eq!(error.place, records[index].place);
            named += 1;
        }
        records[index].content = whole;
    }
    assert!(named > 500, "{named}");
}

#[test]
fn a_thousand_members_are_kept_a_part_at_a_time_and_come_back_whole() {
    let mut world = world(1, Some(unicast()));
    world.run(seconds(1));
    let record = world.records().into_iter().find(|record| record.place.contains("member")).unwrap();
    let mut records = world.records();
    // The same member under another thousand addresses.
    for number in 0..3000_u32 {
        let mut octets = record.content.expose().to_vec();
        let at = octets.windows(4).rposition(|window| window == [10, 0, 0, 1]).unwrap();
        octets[at..at + 4].copy_from_slice(&(0x0b00_0000 + number).to_be_bytes());
        let place = format!("group/00000001/member/{number}");
        records.push(proto::server::Record { place, content: crypto::Secret::new(octets), age: record.age });
    }
    let random = Box::new(crypto::SeededRandom::new(1));
    let mut settings = settings(1, Some(unicast()));
    settings.groups[0].member_threshold = None;
    let server = Server::restored(world.now, settings, random, &records).unwrap();
    assert_eq!(server.registered_members(world.now)[0].members.len(), 3001);
}
