//! Rounds: what reaches members although the network reorders and loses, and what evictions tell whom.

use std::time::Duration;

use proto::server::{Eviction, IpsecSaSettings};

use crate::rekey::{configure, newest_kek, pushes, settings_with, world};
use crate::world::*;

/// A second `ipsec-sa`, for another policy.
fn second(sas: &mut Vec<IpsecSaSettings>) {
    let another = IpsecSaSettings { name: "another".to_owned(), policies: vec![policy(2)], ..sas[0].clone() };
    sas.push(another);
}

/// Of two pushes that come shortly after each other the second one overtakes the first.
fn overtaking() -> impl FnMut(&Seen<'_>) -> Fate {
    let mut odd = false;
    move |seen| {
        if !seen.label.starts_with("push") {
            return Fate::Deliver;
        }
        odd = !odd;
        if odd { Fate::Late(Duration::from_millis(100)) } else { Fate::Deliver }
    }
}

fn multicast_with_two(change: u32) -> proto::server::Settings {
    settings_with(1, |group| {
        group.push = Some(multicast());
        second(&mut group.ipsec_sas);
        for (number, sa) in group.ipsec_sas.iter_mut().enumerate() {
            sa.policies = vec![policy(1 + change * 2 + number as u32)];
        }
    })
}

#[test]
fn messages_of_one_moment_take_turns_in_being_the_last_one() {
    let mut world = world(1, multicast());
    configure(&mut world, multicast_with_two(0));
    world.run(seconds(300));
    assert_eq!(world.member_spis(0), world.server_spis());
    world.set_network(overtaking());
    configure(&mut world, multicast_with_two(1));
    let wanted = world.server_spis();
    assert_eq!(wanted.len(), 4);
    let held = |world: &World| {
        let spis = world.member_spis(0);
        wanted.iter().filter(|spi| spis.contains(spi)).count()
    };
    world.run(seconds(1));
    assert_eq!(held(&world), 3, "the first message of the round was overtaken");
    world.run(seconds(10));
    assert_eq!(held(&world), 4, "in the next round it is the last");
    assert_eq!(world.registered(0), 1);
}

#[test]
fn rounds_of_almost_the_same_moment_are_of_one_moment() {
    let mut world = world(1, multicast());
    configure(&mut world, multicast_with_two(0));
    world.run(seconds(300));
    let mut settings = multicast_with_two(0);
    settings.groups[0].ipsec_sas[0].policies = vec![policy(8)];
    configure(&mut world, settings.clone());
    world.run(Duration::from_millis(200));
    settings.groups[0].ipsec_sas[1].policies = vec![policy(9)];
    configure(&mut world, settings);
    let begun = pushes(&world);
    assert!(world.run_until(seconds(11), |world| pushes(world) > begun));
    assert_eq!(pushes(&world), begun + 2);
}

/// The KEK has just rolled, and what member 0 acknowledges is lost.
fn kek_rolled_unacknowledged() -> World {
    let mut world = world(2, unicast());
    let before = newest_kek(&world);
    world.set_network(|seen| match (seen.member, &*seen.label) {
        (Some(0), label) if label.starts_with("acknowledgement") => Fate::Lose,
        _ => Fate::Deliver,
    });
    assert!(world.run_until(seconds(86_400), |world| newest_kek(world) != before));
    world
}

#[test]
fn a_member_whose_new_kek_the_server_does_not_know_of_is_told_that_it_is_revoked() {
    let mut world = kek_rolled_unacknowledged();
    world.run(seconds(1));
    assert_eq!(world.members[0].kek_security_associations(world.now).len(), 2);
    world.set_network(|_| Fate::Deliver);
    let registered = world.registered(0);
    world.act(|world, now| world.server().evict(now, None, Eviction::Graceful)).unwrap();
    world.run(seconds(12));
    assert_eq!(world.registered(0), registered + 1, "{:#?}", world.member_log);
    assert_eq!(world.member_spis(0), world.server_spis());
}

#[test]
fn it_is_told_so_under_the_new_kek_once_the_one_that_the_server_knows_of_has_ended() {
    let mut world = kek_rolled_unacknowledged();
    let left = |world: &World| {
        let keks = world.shown().kek_security_associations(world.now);
        keks[0].detail.as_ref().unwrap().lifetime_remaining_secs
    };
    assert!(world.run_until(seconds(86_400), |world| left(world) <= 5));
    let registered = world.registered(0);
    world.set_network(|_| Fate::Lose);
    world.act(|world, now| world.server().evict(now, None, Eviction::Graceful)).unwrap();
    world.run(seconds(6));
    world.set_network(|_| Fate::Deliver);
    world.run(seconds(22));
    assert_eq!(world.registered(0), registered + 1, "{:#?}", world.member_log);
    assert_eq!(world.member_spis(0), world.server_spis());
}

/// Of all pushes only the first one comes, so late.
fn only_the_first_push(late: Duration) -> impl FnMut(&Seen<'_>) -> Fate {
    let mut is_first = true;
    move |seen| match seen.label.starts_with("push") {
        false => Fate::Deliver,
        true if std::mem::replace(&mut is_first, false) => Fate::Late(late),
        true => Fate::Lose,
    }
}

#[test]
fn a_push_that_is_older_than_the_pull_which_brought_the_successor_of_its_kek_changes_nothing() {
    let mut world = world(1, unicast());
    world.set_network(only_the_first_push(seconds(20)));
    let changed = |group: &mut proto::server::GroupSettings| {
        group.push = Some(unicast());
        group.ipsec_sas[0].policies = vec![policy(8)];
    };
    configure(&mut world, settings_with(1, changed));
    world.run(Duration::from_millis(10));
    // A new KEK, of which the member learns by registering only.
    world.act(|world, now| world.server().evict(now, None, Eviction::Graceful)).unwrap();
    world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
    world.run(seconds(5));
    assert_eq!(world.members[0].kek_security_associations(world.now).len(), 2);
    let before = world.member_spis(0);
    world.run(seconds(20));
    assert_eq!(world.member_spis(0), before);
    let told = world.member_log.iter().any(|entry| entry.to_string().contains("older than the PULL"));
    assert!(told, "{:#?}", world.member_log);
}

#[test]
fn a_late_delete_of_everything_spares_what_the_first_registration_after_it_brought() {
    let mut world = world(1, unicast());
    world.set_network(only_the_first_push(seconds(30)));
    world.act(|world, now| world.server().evict(now, None, Eviction::Now)).unwrap();
    world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
    world.run(seconds(5));
    // The KEK of that registration is gone before the Delete comes, and so is everything that tells of it but itself.
    world.set_network(|_| Fate::Deliver);
    world.act(|world, now| world.server().evict(now, None, Eviction::Graceful)).unwrap();
    world.run(seconds(20));
    assert_eq!(world.registered(0), 3);
    assert_eq!(world.member_spis(0).len(), 3);
    world.run(seconds(10));
    assert_eq!(
        world.member_spis(0),
        world.server_spis(),
        "only the key of before the first eviction is gone"
    );
}
