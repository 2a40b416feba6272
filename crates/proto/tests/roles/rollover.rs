//! Keys that roll by push over a network that loses, repeats and delays: nobody sends with a key that another member lacks.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use crypto::SeededRandom;
use proto::server::{Eviction, PushSettings, Server};

use crate::world::*;

fn world(members: usize, policies: &[u32], push: PushSettings) -> World {
    let mut world = World::new(settings(members, policies, push), (0..members).map(one).collect());
    world.up();
    world.run(seconds(1));
    assert!((0..members).all(|member| world.registered(member) == 1));
    world
}

fn one(member: usize) -> proto::member::Settings {
    member_settings(member, &[GROUP])
}

fn settings(members: usize, policies: &[u32], push: PushSettings) -> proto::server::Settings {
    let policies: Vec<_> = policies.iter().map(|number| policy(*number)).collect();
    let mut group = group(GROUP, 1, &policies);
    group.ipsec_sas[0].lifetime = seconds(600);
    group.push = Some(push);
    server_settings(members, vec![group])
}

/// The key that each member sends with, by policy.
fn sends(world: &World, member: usize) -> BTreeMap<String, u32> {
    let vpns = world.members[member].ipsec_security_associations(world.now);
    let sas = vpns.iter().flat_map(|vpn| &vpn.security_associations);
    let mut keys = BTreeMap::new();
    for sa in sas {
        let detail = sa.detail.as_ref().unwrap();
        if detail.activation_in_secs == 0 {
            keys.extend(detail.policies.iter().map(|policy| (format!("{policy:?}"), sa.spi.0)));
        }
    }
    keys
}

/// Lets time pass and looks each second: every member has a key, and all others have that key too.
fn run_watched(world: &mut World, duration: Duration) {
    let end = world.now + duration;
    while world.now < end {
        world.run(seconds(1));
        for sender in 0..world.members.len() {
            let keys = sends(world, sender);
            assert!(!keys.is_empty(), "member {sender} has no key at {:?}", world.now);
            for receiver in 0..world.members.len() {
                let held = world.member_spis(receiver);
                let missing: Vec<_> = keys.values().filter(|spi| !held.contains(spi)).collect();
                assert!(missing.is_empty(), "{sender} sends with {missing:x?}, {receiver} holds {held:x?}");
            }
        }
    }
}

fn registrations(world: &World) -> Vec<usize> {
    (0..world.members.len()).map(|member| world.registered(member)).collect()
}

#[test]
fn a_lost_round_is_made_good_by_the_next_one() {
    for communication in [unicast(), multicast()] {
        let mut world = world(3, &[1], communication);
        // Two of three rounds do not reach member 0.
        let count = Cell::new(0);
        world.set_network(move |seen| match seen.member {
            Some(0) if seen.label.starts_with("push") => {
                count.set(count.get() + 1);
                if count.get() % 3 == 0 { Fate::Deliver } else { Fate::Lose }
            }
            _ => Fate::Deliver,
        });
        run_watched(&mut world, seconds(3 * 600));
        assert_eq!(registrations(&world), [1, 1, 1]);
    }
}

#[test]
fn copies_and_rounds_that_overtake_each_other_change_nothing() {
    let mut world = world(3, &[1], unicast());
    let count = Cell::new(0_u64);
    world.set_network(move |seen| {
        count.set(count.get() + 1);
        match count.get() % 4 {
            0 => Fate::Twice,
            1 if seen.label.starts_with("push") => Fate::Late(seconds(25)),
            2 => Fate::Late(Duration::from_millis(700)),
            _ => Fate::Deliver,
        }
    });
    run_watched(&mut world, seconds(5 * 600));
    assert_eq!(registrations(&world), [1, 1, 1]);
    for member in 0..3 {
        assert_eq!(world.member_spis(member), world.server_spis());
    }
}

#[test]
fn a_member_that_no_round_reaches_asks_in_time_and_is_reached_again_later() {
    let mut world = world(3, &[1], unicast());
    let deaf = Rc::new(Cell::new(true));
    let off = Rc::clone(&deaf);
    world.set_network(move |seen| match seen.member {
        Some(0) if off.get() && seen.label.starts_with("push") => Fate::Lose,
        _ => Fate::Deliver,
    });
    run_watched(&mut world, seconds(2 * 600));
    let asked = world.registered(0);
    assert!(asked >= 2);
    assert_eq!(registrations(&world)[1..], [1, 1]);
    deaf.set(false);
    run_watched(&mut world, seconds(4 * 600));
    assert!(world.registered(0) <= asked + 1, "pushes reach it now");
}

#[test]
fn a_kek_that_rolls_again_and_again_is_followed_through_losses() {
    let mut push = unicast();
    push.lifetime = seconds(700);
    let mut world = world(3, &[1], push);
    let count = Cell::new(0_u64);
    world.set_network(move |_| {
        count.set(count.get() + 1);
        if count.get().is_multiple_of(5) { Fate::Lose } else { Fate::Deliver }
    });
    run_watched(&mut world, seconds(10 * 600));
    for member in 0..3 {
        assert_eq!(world.registered(member), 1, "{:#?}", world.member_log);
    }
}

#[test]
fn a_changed_policy_reaches_everybody_at_once_without_any_registration() {
    let mut world = world(3, &[1, 2], unicast());
    run_watched(&mut world, seconds(100));
    for policies in [&[1, 3][..], &[4], &[4, 5, 6]] {
        let changed = settings(3, policies, unicast());
        world.act(|world, now| world.server().configure(now, changed));
        run_watched(&mut world, seconds(150));
        let expected: Vec<_> =
            policies.iter().map(|number| format!("{:?}", policy(*number).selector.source)).collect();
        for member in 0..3 {
            let keys = sends(&world, member);
            assert_eq!(keys.len(), policies.len(), "{keys:?}");
            assert!(expected.iter().all(|source| keys.keys().any(|key| key.contains(source))), "{keys:?}");
        }
    }
    assert_eq!(registrations(&world), [1, 1, 1]);
}

#[test]
fn a_graceful_eviction_loses_no_packet() {
    for communication in [unicast(), multicast()] {
        let mut world = world(4, &[1], communication);
        run_watched(&mut world, seconds(50));
        let before = world.server_spis();
        let notices = world.act(|world, now| world.server().evict(now, None, Eviction::Graceful)).unwrap();
        run_watched(&mut world, notices[0].done_in + seconds(30));
        assert_eq!(registrations(&world), [2; 4]);
        for member in 0..4 {
            assert!(world.member_spis(member).iter().all(|spi| !before.contains(spi)));
        }
        run_watched(&mut world, seconds(1200));
        assert_eq!(registrations(&world), [2; 4]);
    }
}

#[test]
fn an_eviction_now_closes_at_once_and_everybody_is_back_within_the_spread() {
    let mut world = world(4, &[1], unicast());
    let before = world.server_spis();
    world.act(|world, now| world.server().evict(now, None, Eviction::Now)).unwrap();
    world.run(Duration::from_millis(50));
    assert!((0..4).any(|member| world.member_spis(member).is_empty()));
    assert!((0..4).all(|member| world.member_spis(member).iter().all(|spi| !before.contains(spi))));
    world.run(seconds(11));
    run_watched(&mut world, seconds(1200));
    assert_eq!(registrations(&world), [2; 4]);
}

#[test]
fn an_evicted_member_is_refused_and_the_others_lose_nothing() {
    let mut world = world(3, &[1], unicast());
    let mut changed = settings(3, &[1], unicast());
    changed.groups[0].gateways.retain(|name| *name != gateway_name(2));
    world.act(|world, now| world.server().configure(now, changed));
    world.run(seconds(15));
    let evicted = world.members[2].ipsec_security_associations(world.now);
    world.run(seconds(700));
    assert!(world.failures(2).iter().any(|failure| failure.contains("not authorize")));
    assert!(world.member_spis(2).is_empty());
    let _gone = world.members.pop();
    run_watched(&mut world, seconds(700));
    let theirs: Vec<u32> = world.member_spis(0);
    let held = evicted.iter().flat_map(|vpn| &vpn.security_associations).map(|sa| sa.spi.0);
    assert!(held.into_iter().all(|spi| !theirs.contains(&spi)), "it never had the new ones");
}

#[test]
fn members_of_a_server_that_falls_silent_ask_and_get_its_new_kek() {
    let mut push = unicast();
    push.heartbeat = Some(seconds(60));
    let mut world = world(2, &[1], push.clone());
    run_watched(&mut world, seconds(300));
    assert_eq!(registrations(&world), [1, 1], "signs of life come");
    // A server that has lost everything takes its place.
    let fresh = Server::new(world.now, settings(2, &[1], push), Box::new(SeededRandom::new(77)));
    world.server = Some(fresh);
    let old = world.members[0].kek_security_associations(world.now)[0].initiator_cookie;
    world.run(seconds(220));
    for member in 0..2 {
        assert_eq!(world.registered(member), 2, "{:#?}", world.member_log);
        let keks = world.members[member].kek_security_associations(world.now);
        assert!(keks.iter().any(|kek| kek.initiator_cookie == old), "the old one is kept to its end");
        assert!(keks.iter().any(|kek| kek.initiator_cookie != old));
    }
    world.run(seconds(600));
    run_watched(&mut world, seconds(600));
    assert_eq!(registrations(&world), [2, 2]);
}

#[test]
fn who_registers_after_the_switch_encrypts_with_the_new_key_at_once() {
    let settings = server_settings(2, vec![group(GROUP, 1, &[policy(1)])]);
    let mut world = World::new(settings, vec![member_settings(0, &[GROUP]), member_settings(1, &[GROUP])]);
    world.up();
    world.run(seconds(3572));
    assert!(world.act(|world, now| world.members[1].clear_ipsec(now, None)) > 0);
    world.run(seconds(2));
    let keys = world.server_spis();
    assert_eq!(keys.len(), 2);
    let installed = world.events_of(1).filter_map(|event| match event {
        proto::member::Event::InstallSas { sas, .. } => Some(sas),
        _ => None,
    });
    let installed = installed.last().unwrap();
    let newest = installed.iter().max_by_key(|sa| sa.activate_at).unwrap();
    assert!(newest.activate_at <= world.now);
    assert_eq!(newest.spi, keys[1], "both are active, and the newer one is the one that counts");
    assert_ne!(installed[0].activate_at, installed[1].activate_at);
}
