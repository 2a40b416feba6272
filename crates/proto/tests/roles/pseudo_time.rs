//! Time-based anti-replay: the server keeps the pseudo-time, and every PULL and PUSH tells it.

use std::time::Duration;

use control::AntiReplay;
use proto::member::{Event, GroupSa};
use proto::phase1::OWN_VENDOR_IDS;
use proto::server::{PushSettings, Settings};
use proto::time::Instant;

use crate::world::*;

const WINDOW: Duration = Duration::from_secs(100);

fn settings(members: usize, window: Option<Duration>, push: Option<PushSettings>) -> Settings {
    let mut group = group(GROUP, 1, &[policy(1)]);
    group.ipsec_sas[0].anti_replay = window;
    group.push = push;
    server_settings(members, vec![group])
}

fn world(members: usize, window: Option<Duration>, push: Option<PushSettings>) -> World {
    let of_members = (0..members).map(|index| member_settings(index, &[GROUP])).collect();
    let mut world = World::new(settings(members, window, push), of_members);
    world.disk = Some(Default::default());
    world.up();
    world.run(seconds(2));
    world
}

/// A time that a member was told.
struct Told {
    at: Instant,
    /// How far it is ahead of the time that began as POSIX time with the worlds' clock.
    ahead_micros: i128,
    window: Duration,
    set: bool,
}

fn told(world: &World, member: usize) -> Vec<Told> {
    let told = world.events_of(member).filter_map(|event| match event {
        Event::PseudoTime { at, anti_replay, set, .. } => Some(Told {
            at: *at,
            ahead_micros: i128::from(anti_replay.time.as_micros())
                - EPOCH.as_micros() as i128
                - i128::from(at.as_micros()),
            window: anti_replay.window,
            set: *set,
        }),
        _ => None,
    });
    told.collect()
}

fn installed(world: &World, member: usize) -> Vec<GroupSa> {
    let sas = world.events_of(member).filter_map(|event| match event {
        Event::InstallSas { sas, .. } => Some(sas.clone()),
        _ => None,
    });
    sas.last().expect("it has registered")
}

/// What is told left the server a way ago.
const ON_THE_WAY: i128 = -(ONE_WAY.as_micros() as i128);

#[test]
fn a_pull_sets_the_clock_to_the_servers_which_began_as_posix_time() {
    let world = world(2, Some(WINDOW), None);
    for member in 0..2 {
        let told = told(&world, member);
        assert_eq!(told.len(), 1);
        assert_eq!((told[0].ahead_micros, told[0].window, told[0].set), (ON_THE_WAY, WINDOW, true));
        assert!(installed(&world, member).iter().all(|sa| sa.carries_time));
        let shown = world.members[member].ipsec_security_associations(world.now);
        let detail = shown[0].security_associations[0].detail.as_ref().expect("in detail");
        assert_eq!(detail.anti_replay, AntiReplay::WindowMillis(100_000));
    }
    let shown = world.shown().ipsec_security_associations(world.now);
    let detail = shown[0].security_associations[0].detail.as_ref().expect("in detail");
    assert_eq!(detail.anti_replay, AntiReplay::WindowMillis(100_000));
}

#[test]
fn without_the_setting_nobody_is_told_and_nothing_carries_it() {
    let world = world(1, None, Some(unicast()));
    assert!(told(&world, 0).is_empty());
    assert!(installed(&world, 0).iter().all(|sa| !sa.carries_time));
}

#[test]
fn every_push_tells_it_again_to_move_the_clock_forward() {
    for mut push in [unicast(), multicast()] {
        push.heartbeat = Some(seconds(60));
        let mut world = world(2, Some(WINDOW), Some(push));
        world.run(seconds(7200));
        for member in 0..2 {
            let told = told(&world, member);
            assert!(told.iter().filter(|told| !told.set).count() >= 100, "{}", told.len());
            assert!(told.iter().all(|told| told.ahead_micros == ON_THE_WAY && told.window == WINDOW));
            assert!(told.is_sorted_by_key(|told| told.at));
        }
    }
}

#[test]
fn it_goes_on_through_a_restart_of_the_server() {
    let mut world = world(1, Some(WINDOW), None);
    for _ in 0..3 {
        world.run(seconds(500));
        world.server = None;
        world.run(seconds(77));
        // The wall clock is a year off by now: nobody asks it.
        let mut settings = settings(1, Some(WINDOW), None);
        settings.epoch += seconds(31_536_000);
        world.restart_server(settings);
        let before = world.registered(0);
        world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
        // The server has forgotten the phase 1 SA, which the member finds out first.
        assert!(world.run_until(seconds(120), |world| world.registered(0) > before));
    }
    let told = told(&world, 0);
    assert_eq!(told.len(), 4);
    assert!(told.iter().all(|told| told.ahead_micros == ON_THE_WAY && told.set));
}

/// What arrives instead of a message of phase 1 whose vendor ids of ours are damaged.
fn without_vendor_ids(bytes: &[u8]) -> Fate {
    let mut changed = bytes.to_vec();
    for vendor_id in OWN_VENDOR_IDS {
        if let Some(place) = bytes.windows(16).position(|window| window == vendor_id) {
            changed[place] ^= 1;
        }
    }
    Fate::Instead(vec![changed])
}

#[test]
fn a_member_without_the_vendor_id_is_refused_and_told_so() {
    for window in [Some(WINDOW), None] {
        let mut world = World::new(settings(1, window, None), vec![member_settings(0, &[GROUP])])
            .with_network(|seen| without_vendor_ids(seen.bytes));
        world.up();
        world.run(seconds(5));
        let Some(failure) = world.failures(0).first().cloned() else {
            assert_eq!((window, world.registered(0)), (None, 1), "a group without it takes everybody");
            continue;
        };
        assert_eq!(window, Some(WINDOW));
        assert_eq!(failure, "no common policy, says the server");
        assert_eq!(world.statistics().pull_failed, 1);
        let said = world.server_log.iter().any(|entry| entry.to_string().contains("time-based anti-replay"));
        assert!(said, "{:#?}", world.server_log);
    }
}

#[test]
fn vendor_ids_that_are_damaged_in_phase_1_are_told_again_where_nobody_can_damage_them() {
    for damaged in ["main 1", "main 2"] {
        let network = move |seen: &Seen<'_>| match seen.label == damaged {
            true => without_vendor_ids(seen.bytes),
            false => Fate::Deliver,
        };
        let settings = settings(1, Some(WINDOW), None);
        let mut world = World::new(settings, vec![member_settings(0, &[GROUP])]).with_network(network);
        world.up();
        world.run(seconds(5));
        // A stranger is refused for want of the one, or refuses our private attributes for want of the other.
        assert_eq!((world.registered(0), told(&world, 0).len()), (1, 1), "{:#?}", world.member_log);
    }
}

#[test]
fn where_members_pull_a_change_comes_with_the_next_key_and_cuts_nothing() {
    for (before, after) in [(None, Some(WINDOW)), (Some(WINDOW), None)] {
        let mut world = world(2, before, None);
        let first = world.server_spis();
        world.run(seconds(2000));
        world.act(|world, now| world.server().configure(now, settings(2, after, None)));
        // Whoever comes now gets the old key as it is, and the new one beside it.
        world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
        world.run(seconds(2));
        let sas = installed(&world, 0);
        assert_eq!(
            sas.iter().map(|sa| sa.carries_time).collect::<Vec<_>>(),
            [before.is_some(), after.is_some()]
        );
        assert_eq!(sas[0].spi, first[0]);
        assert!(sas[1].activate_at > world.now, "it waits for the end of the old one");
        assert!(!told(&world, 0).is_empty());
        world.run(seconds(3600));
        for member in 0..2 {
            assert!(installed(&world, member).iter().all(|sa| sa.carries_time == after.is_some()));
        }
        assert_eq!(world.statistics().pull_failed, 0);
    }
}

#[test]
fn where_the_server_pushes_a_change_comes_with_a_new_key_at_once() {
    let other = Some(Duration::from_millis(250));
    for (before, after) in [(None, Some(WINDOW)), (Some(WINDOW), None), (Some(WINDOW), other)] {
        let mut world = world(3, before, Some(unicast()));
        world.run(seconds(1000));
        world.act(|world, now| world.server().configure(now, settings(3, after, Some(unicast()))));
        world.run(seconds(1));
        for member in 0..3 {
            let sas = installed(&world, member);
            let carried: Vec<_> = sas.iter().map(|sa| sa.carries_time).collect();
            assert_eq!(carried, [before.is_some(), after.is_some()], "one key after the other");
            let window = told(&world, member).last().map(|told| told.window);
            assert_eq!(window, after.or(before));
            assert_eq!(world.registered(member), 1, "nobody had to ask");
        }
        world.run(seconds(200));
        let shown = world.members[0].ipsec_security_associations(world.now).remove(0).security_associations;
        let expected =
            after.map_or(AntiReplay::Disabled, |window| AntiReplay::WindowMillis(window.as_millis() as u32));
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].detail.as_ref().expect("in detail").anti_replay, expected);
    }
}
