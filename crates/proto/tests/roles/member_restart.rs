//! A member that ends and goes on with what was kept: nobody notices, and nothing is used or believed twice.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use crypto::{EspSuite, GcmKeyLen, Secret, SeededRandom};
use proto::Role as _;
use proto::member::{Event, Member, Phase, Settings};
use proto::path::Path;
use proto::server::{GroupSettings, PushSettings};

use crate::world::*;

fn world(suite: EspSuite, push: Option<PushSettings>) -> World {
    let mut group: GroupSettings = group(GROUP, 2, &[policy(1)]);
    group.ipsec_sas[1].policies = vec![policy(2)];
    group.ipsec_sas.iter_mut().for_each(|sa| sa.suite = suite);
    group.push = push;
    let mut world = World::new(server_settings(1, vec![group]), vec![settings()]);
    world.up();
    world.run(seconds(2));
    world
}

fn settings() -> Settings {
    member_settings(0, &[GROUP])
}

/// Another process goes on with what the one before it kept last, `down` later.
fn restart(world: &mut World, settings: Settings, down: Duration) {
    let (now, state) = (world.now, world.members[0].state(world.now));
    world.members[0] = Member::new(now, Settings::default(), Box::new(SeededRandom::new(7)));
    world.run(down);
    let mut member = Member::new(world.now, settings, Box::new(SeededRandom::new(now.as_micros())));
    member.restore(world.now, &state, world.now - now).expect("it is whole");
    world.members[0] = member;
    world.up();
}

const GCM: EspSuite = EspSuite::Gcm { key: GcmKeyLen::Bits128 };

fn unicast_with_heartbeat() -> PushSettings {
    PushSettings { heartbeat: Some(seconds(60)), lifetime: seconds(7200), ..unicast() }
}

#[test]
fn a_restarted_member_goes_on_without_a_registration() {
    for push in [None, Some(unicast_with_heartbeat()), Some(multicast())] {
        let mut world = world(SUITE, push.clone());
        world.run(seconds(700));
        for _ in 0..5 {
            let before = world.server_spis();
            world.member_events.clear();
            restart(&mut world, settings(), seconds(3));
            assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Registered));
            let installed = world.events_of(0).find_map(|event| match event {
                Event::InstallSas { sas, .. } => Some(sas.clone()),
                _ => None,
            });
            let installed = installed.expect("the data path is told at once");
            assert_eq!(installed.iter().map(|sa| sa.spi).collect::<Vec<_>>(), before);
            assert!(installed.iter().any(|sa| sa.activate_at <= world.now), "it encrypts at once");
            assert_eq!(world.registered(0), 0);
            assert_eq!(world.joined.is_empty(), !matches!(&push, Some(push) if push.heartbeat.is_none()));
            // Keys roll as if nothing had been.
            world.run(seconds(5000));
            assert_eq!(world.member_spis(0), world.server_spis());
            assert!(world.failures(0).is_empty(), "{:?}", world.failures(0));
            if push.is_some() {
                assert_eq!(world.registered(0), 0, "{:#?}", world.member_log);
            }
        }
    }
}

#[test]
fn ends_come_when_they_would_have_come_and_after_them_it_registers() {
    let mut world = world(SUITE, None);
    world.run(seconds(100));
    restart(&mut world, settings(), seconds(3000));
    assert_eq!(world.registered(0), 1);
    world.run(seconds(480));
    assert_eq!(world.registered(0), 2, "in the window before the end");
    restart(&mut world, settings(), seconds(7200));
    assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Connecting));
    world.run(seconds(2));
    assert_eq!(world.registered(0), 3);
    assert_eq!(world.member_spis(0), world.server_spis());
}

#[test]
fn a_vpn_that_registers_otherwise_takes_nothing_over() {
    let mut other_key = settings();
    other_key.gateways[0].phase1.pre_shared_key = Secret::from_slice(b"another");
    let mut other_server = settings();
    other_server.gateways[0].server_port = 849;
    let mut other_group = settings();
    other_group.vpns[0].group_id = 2;
    for changed in [other_key, other_server, other_group] {
        let mut world = world(SUITE, None);
        restart(&mut world, changed, seconds(1));
        assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Connecting));
        assert!(world.member_spis(0).is_empty());
    }
    // What is only about the data path changes nothing.
    let mut shown = settings();
    shown.vpns[0].df_bit = "copy".to_owned();
    let mut world = world(SUITE, None);
    restart(&mut world, shown, seconds(1));
    assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Registered));
}

#[test]
fn no_process_sends_with_a_sender_id_of_one_before_it() {
    let mut world = world(GCM, Some(unicast()));
    let mut used = BTreeSet::new();
    let mut take = |world: &mut World, count: usize| {
        let ids = world.members[0].use_sender_ids("vpn-1", count);
        assert!(ids.iter().all(|id| used.insert(*id)), "{ids:?} of {used:?}");
        ids.len()
    };
    assert_eq!(take(&mut world, 2), 2);
    restart(&mut world, settings(), seconds(1));
    assert_eq!(take(&mut world, 1), 1);
    world.member_events.clear();
    restart(&mut world, settings(), seconds(1));
    // The last one is used, and others come by a registration that stops nothing.
    assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Registered));
    assert_eq!(take(&mut world, 1), 1);
    assert_eq!(take(&mut world, 1), 0);
    world.run(seconds(30));
    assert_eq!(world.registered(0), 1);
    assert_eq!(take(&mut world, 9), 4);
}

#[test]
fn the_keys_are_told_before_the_sender_ids_that_are_for_them() {
    let mut world = world(GCM, Some(unicast()));
    world.run(seconds(3500));
    let named = world.server_spis();
    world.member_events.clear();
    restart(&mut world, settings(), seconds(1));
    let order: Vec<_> = world
        .events_of(0)
        .map(|event| match event {
            Event::SenderIds { sender_ids, spis, .. } => (sender_ids.ids.len(), spis.clone()),
            Event::InstallSas { sas, .. } => (usize::MAX, sas.iter().map(|sa| sa.spi).collect()),
            other => panic!("{other:?}"),
        })
        .collect();
    let (mut sorted, installed) = (named.clone(), order[1].1.clone());
    sorted.sort_unstable();
    assert_eq!(order, [(0, vec![]), (usize::MAX, installed), (4, sorted)]);
}

#[test]
fn a_rekey_that_was_obeyed_is_not_obeyed_again() {
    let mut world = world(SUITE, Some(unicast_with_heartbeat()));
    let pushes: Rc<RefCell<Vec<Vec<u8>>>> = Rc::default();
    let seen = Rc::clone(&pushes);
    world.set_network(move |datagram| {
        if datagram.label.starts_with("push") {
            seen.borrow_mut().push(datagram.bytes.to_vec());
        }
        Fate::Deliver
    });
    world.run(seconds(200));
    restart(&mut world, settings(), seconds(1));
    let refused =
        |world: &World| world.members[0].ipsec_security_associations(world.now)[0].counters.push_failed;
    assert_eq!(refused(&world), 0);
    let copies = pushes.borrow().clone();
    assert!(copies.len() >= 3);
    for copy in &copies {
        let path = Path::new((member_address(0), 848).into(), (SERVER, 848).into());
        world.act(|world, now| world.members[0].handle_datagram(now, path, copy));
    }
    assert_eq!(refused(&world), copies.len() as u64);
    assert_eq!(world.member_spis(0), world.server_spis());
}

#[test]
fn a_state_that_is_not_whole_is_refused_and_changes_nothing() {
    let mut world = world(GCM, Some(multicast()));
    let state = world.members[0].state(world.now);
    assert!(!world.members[0].has_changed());
    let mut octets = state.expose().to_vec();
    let mut member = Member::new(world.now, settings(), Box::new(SeededRandom::new(7)));
    for length in 0..octets.len() {
        assert!(member.restore(world.now, &Secret::from_slice(&octets[..length]), seconds(1)).is_err());
    }
    octets[0] ^= 3;
    assert!(member.restore(world.now, &Secret::from_slice(&octets), seconds(1)).is_err());
    member.interface_up(world.now, "vpn-1", None);
    assert_eq!(member.phase("vpn-1"), Some(Phase::Connecting));
}

#[test]
fn a_member_that_leaves_keeps_nothing() {
    let mut world = world(GCM, None);
    let whole = world.members[0].state(world.now).len();
    world.act(|world, now| world.members[0].configure(now, Settings::default()));
    assert!(world.members[0].has_changed());
    assert!(world.members[0].state(world.now).len() < 10 && whole > 100);
}

#[test]
fn the_pseudo_time_goes_on_before_the_keys_that_carry_it() {
    let mut group: GroupSettings = group(GROUP, 1, &[policy(1)]);
    group.ipsec_sas[0].anti_replay = Some(seconds(100));
    let mut world = World::new(server_settings(1, vec![group]), vec![settings()]);
    world.up();
    world.run(seconds(30));
    let told = |world: &World| {
        let mut told = None;
        for event in world.events_of(0) {
            match event {
                Event::PseudoTime { at, anti_replay, .. } => told = Some((*at, *anti_replay)),
                Event::InstallSas { sas, .. } if sas.iter().any(|sa| sa.carries_time) => {
                    assert!(told.is_some(), "keys come after the clock that they carry");
                }
                _ => {}
            }
        }
        told
    };
    let (at, before) = told(&world).expect("the server told it");
    world.member_events.clear();
    restart(&mut world, settings(), seconds(3));
    let (again, after) = told(&world).expect("it is told again");
    assert_eq!((after.window, world.registered(0)), (before.window, 0));
    let (told, shown) = (after.time.as_micros() - before.time.as_micros(), (again - at).as_micros());
    assert_eq!(u128::from(told), shown, "the clock shows what it would have shown");
}
