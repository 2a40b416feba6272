//! Links that go down and come back, addresses that are others then, and clocks that jump.

use crypto::{EspSuite, GcmKeyLen};
use proto::Role as _;
use proto::member::{Event, Phase, Removal};
use proto::server::PushSettings;

use crate::world::*;

fn world(suite: EspSuite, push: Option<PushSettings>) -> World {
    let mut group = group(GROUP, 1, &[policy(1)]);
    group.ipsec_sas[0].suite = suite;
    group.push = push;
    let mut world = World::new(server_settings(1, vec![group]), vec![member_settings(0, &[GROUP])]);
    world.up();
    world.run(seconds(2));
    world
}

fn link_down(world: &mut World) {
    world.act(|world, now| world.members[0].link_down(now, "vpn-1"));
    // Nothing passes by it.
    world.set_network(|_| Fate::Lose);
}

fn link_up(world: &mut World) {
    world.set_network(|_| Fate::Deliver);
    world.up();
}

/// Events that change what the data path has.
fn installs(world: &World) -> usize {
    let changes = |event: &&Event| {
        matches!(event, Event::InstallSas { .. } | Event::RemoveSas { .. } | Event::SenderIds { .. })
    };
    world.events_of(0).filter(changes).count()
}

#[test]
fn a_link_that_comes_back_finds_the_keys_it_had_and_nobody_is_asked() {
    for suite in [SUITE, EspSuite::Gcm { key: GcmKeyLen::Bits128 }] {
        for push in [None, Some(unicast())] {
            let mut world = world(suite, push);
            let (spis, before) = (world.member_spis(0), installs(&world));
            for outage in [0, 1, 60, 600] {
                link_down(&mut world);
                assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Down));
                assert_eq!(world.members[0].inactive_tunnels(world.now).len(), 1);
                world.run(seconds(outage));
                assert_eq!(world.member_spis(0), spis, "held");
                link_up(&mut world);
                assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Registered));
                world.run(seconds(10));
                assert_eq!((world.member_spis(0), world.registered(0)), (spis.clone(), 1));
                assert_eq!(installs(&world), before, "the data path was told nothing");
            }
            // It goes on as ever: the successor comes in its time.
            world.run(seconds(3600));
            assert_eq!(world.member_spis(0), world.server_spis());
        }
    }
}

#[test]
fn keys_end_while_the_link_is_down_and_a_link_that_comes_back_late_registers() {
    for push in [None, Some(unicast())] {
        let mut world = world(SUITE, push);
        link_down(&mut world);
        world.run(seconds(3601));
        assert!(world.member_spis(0).is_empty());
        assert!(
            world
                .events_of(0)
                .any(|event| matches!(event, Event::RemoveSas { reason: Removal::Expired, .. }))
        );
        assert_eq!(world.registered(0), 1, "nothing is tried meanwhile");
        link_up(&mut world);
        world.run(seconds(20));
        assert_eq!((world.registered(0), world.member_spis(0)), (2, world.server_spis()));
    }
}

#[test]
fn what_is_due_when_the_link_comes_back_is_done_at_once() {
    let mut world = world(SUITE, None);
    let first = world.member_spis(0);
    link_down(&mut world);
    // Into the last seconds of the key, of which the successor is long out.
    world.run(seconds(3590));
    link_up(&mut world);
    world.run(seconds(4));
    assert_eq!(world.registered(0), 2);
    assert_eq!(world.member_spis(0), world.server_spis());
    assert_ne!(world.member_spis(0), first);
}

#[test]
fn a_registration_in_progress_begins_anew_and_an_interface_that_is_gone_clears() {
    let mut world = world(SUITE, None);
    world.set_network(|_| Fate::Lose);
    assert!(world.act(|world, now| world.members[0].reregister(now, "vpn-1")));
    assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Pulling));
    link_down(&mut world);
    world.run(seconds(60));
    link_up(&mut world);
    assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Registered));
    link_down(&mut world);
    let spis = world.member_spis(0);
    world.act(|world, now| world.members[0].interface_down(now, "vpn-1"));
    assert!(world.member_spis(0).is_empty());
    assert!(world.events_of(0).any(|event| {
        matches!(event, Event::RemoveSas { spis: gone, reason: Removal::InterfaceDown, .. } if *gone == spis)
    }));
    link_up(&mut world);
    world.run(seconds(5));
    assert_eq!((world.registered(0), world.member_spis(0)), (2, spis));
}

#[test]
fn with_another_address_it_registers_again_and_keeps_its_keys_meanwhile() {
    let mut world = world(SUITE, Some(unicast()));
    let spis = world.member_spis(0);
    link_down(&mut world);
    world.act(|world, now| world.members[0].addresses_changed(now, |_| false));
    world.run(seconds(10));
    assert_eq!(world.member_spis(0), spis);
    link_up(&mut world);
    assert_eq!(world.member_spis(0), spis, "traffic goes on");
    world.run(seconds(5));
    assert_eq!((world.registered(0), world.member_spis(0)), (2, spis));

    // An address that was away and is back is no other one.
    link_down(&mut world);
    world.act(|world, now| world.members[0].addresses_changed(now, |_| false));
    world.act(|world, now| world.members[0].addresses_changed(now, |_| true));
    link_up(&mut world);
    world.run(seconds(5));
    assert_eq!(world.registered(0), 2);
}

/// Only the member sleeps: the server does what is due, and nothing of it arrives.
fn server_goes_on(world: &mut World, secs: u64) {
    let end = world.now + seconds(secs);
    while let Some(due) = world.server().poll_timeout().filter(|due| *due <= end) {
        world.now = world.now.max(due);
        let now = world.now;
        let server = world.server();
        server.handle_timeout(now);
        while server.poll_transmit(&mut Vec::new()).is_some() {}
        while server.poll_push().is_some() {}
        while server.poll_event().is_some() {}
    }
    world.now = end;
}

/// A member, or a server and its member, sleep: their clock has jumped when they wake.
fn jump(mut world: World, secs: u64, server_sleeps: bool) {
    let before = world.member_spis(0);
    match server_sleeps {
        true => world.now += seconds(secs),
        false => server_goes_on(&mut world, secs),
    }
    // The first thing that happens are the timers.
    let now = world.now;
    world.members[0].handle_timeout(now);
    let held = world.member_spis(0);
    assert!(secs < 3600 || held.iter().all(|spi| !before.contains(spi)), "{secs} s: {held:x?}");
    world.server().handle_timeout(now);
    let held = world.server_spis();
    assert!(secs < 7200 || held.iter().all(|spi| !before.contains(spi)), "{secs} s: {held:x?}");
    world.act(|_, _| ());
    world.run(seconds(60));
    assert!(!world.member_spis(0).is_empty(), "{secs} s");
    world.run(seconds(7200));
    assert_eq!(world.member_spis(0), world.server_spis(), "{secs} s");
}

#[test]
fn after_a_jump_of_the_clock_what_has_ended_is_gone_at_once_and_both_go_on() {
    let gcm = EspSuite::Gcm { key: GcmKeyLen::Bits128 };
    for (suite, push) in [(SUITE, None), (gcm, Some(unicast())), (SUITE, Some(multicast()))] {
        for secs in [1800, 3600, 7200, 100_000] {
            for server_sleeps in [true, false] {
                jump(world(suite, push.clone()), secs, server_sleeps);
            }
        }
    }
}
