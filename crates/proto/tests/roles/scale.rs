//! The last row of the scaling table, each column for itself.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use proto::server::message_size;
use wire::codec::LengthWidth;

use crate::world::*;

fn all_registered(world: &mut World, members: usize, limit: u64) {
    let done = |world: &World| (0..members).all(|member| world.registered(member) > 0);
    assert!(world.run_until(seconds(limit), done));
}

#[test]
fn fifteen_hundred_members_register_at_once() {
    const MEMBERS: usize = 1500;
    let mut world = World::new(
        server_settings(MEMBERS, vec![group(GROUP, 1, &[policy(1)])]),
        (0..MEMBERS).map(|index| member_settings(index, &[GROUP])).collect(),
    );
    world.up();
    world.run(seconds(1));
    assert_eq!((0..MEMBERS).map(|member| world.registered(member)).sum::<usize>(), MEMBERS);
    assert_eq!(world.shown().registered_members(world.now)[0].members.len(), MEMBERS);
    assert_eq!(world.statistics().pull_succeeded, MEMBERS as u64);
}

#[test]
fn two_hundred_and_fifty_groups_on_one_server() {
    let ids: Vec<u32> = (1..=250).collect();
    let groups = ids.iter().map(|id| group(*id, 1, &[policy(*id)])).collect();
    let mut world = World::new(server_settings(1, groups), vec![member_settings(0, &ids)]);
    world.up();
    world.run(seconds(5));
    assert_eq!(world.registered(0), 250);
    assert_eq!(world.member_spis(0), world.server_spis());
    assert_eq!(distinct(world.server_spis()), 250);
}

#[test]
fn four_hundred_sas_in_a_group_through_a_rollover() {
    let mut settings = group(GROUP, 0, &[]);
    settings.ipsec_sas = (0..400).flat_map(|index| group(1, 1, &[policy(index)]).ipsec_sas).collect();
    for (index, sa) in settings.ipsec_sas.iter_mut().enumerate() {
        sa.name = format!("sa-{index}");
    }
    assert!(message_size(&settings).fits());
    let mut world = World::new(server_settings(1, vec![settings]), vec![member_settings(0, &[GROUP])]);
    world.up();
    all_registered(&mut world, 1, 2);
    assert_eq!(world.member_spis(0).len(), 400);
    assert_eq!(world.member_spis(0), world.server_spis());
    world.run(seconds(3500));
    assert_eq!(world.server_spis().len(), 800, "every TEK has its successor");
    assert_eq!(world.member_spis(0), world.server_spis(), "and the member has them all");
    world.run(seconds(3600));
    assert_eq!(world.member_spis(0), world.server_spis());
}

#[test]
fn a_heartbeat_that_exceeds_a_datagram_brings_the_keys_of_one_sa() {
    let with = |sas: u32| {
        let mut settings = group(GROUP, 0, &[]);
        settings.ipsec_sas = (0..sas).flat_map(|index| group(1, 1, &[policy(index)]).ipsec_sas).collect();
        for (index, sa) in settings.ipsec_sas.iter_mut().enumerate() {
            (sa.name, sa.lifetime) = (format!("sa-{index}"), seconds(600));
        }
        settings.push = Some(proto::server::PushSettings { heartbeat: Some(seconds(5)), ..unicast() });
        settings
    };
    let sas = (1..600).rev().find(|sas| message_size(&with(*sas)).fits()).unwrap();
    let mut world = World::new(server_settings(1, vec![with(sas)]), vec![member_settings(0, &[GROUP])]);
    world.up();
    all_registered(&mut world, 1, 2);
    // While old and new keys overlap, all of them together are too much.
    world.run(seconds(560));
    assert_eq!(world.server_spis().len(), 2 * sas as usize);
    let sizes = Rc::new(RefCell::new(BTreeSet::new()));
    let seen_sizes = Rc::clone(&sizes);
    world.set_network(move |seen| {
        seen_sizes.borrow_mut().insert((seen.label.clone(), seen.bytes.len()));
        Fate::Deliver
    });
    world.run(seconds(60));
    assert_eq!(world.server_spis().len(), sas as usize);
    let sizes = sizes.take();
    let smallest = sizes.iter().filter(|(label, _)| label.starts_with("push")).map(|(_, size)| *size).min();
    assert!(smallest.is_some_and(|size| (300..1000).contains(&size)), "{smallest:?}");
    assert!(world.server_log.iter().all(|entry| !entry.to_string().contains("could not be made")));
}

#[test]
fn three_hundred_policies_in_an_sa_in_the_servers_order() {
    let policies: Vec<_> = (0..300).rev().map(policy).collect();
    let settings = group(GROUP, 1, &policies);
    assert!(message_size(&settings).fits());
    let mut world = World::new(server_settings(1, vec![settings]), vec![member_settings(0, &[GROUP])]);
    world.up();
    all_registered(&mut world, 1, 2);
    let vpns = world.members[0].ipsec_security_associations(world.now);
    let received = &vpns[0].security_associations[0].detail.as_ref().unwrap().policies;
    let sources: Vec<_> = received.iter().map(|selector| selector.source).collect();
    assert_eq!(sources, policies.iter().map(|policy| policy.selector.source).collect::<Vec<_>>());
    world.run(seconds(3500));
    assert_eq!(world.member_spis(0).len(), 2);
}

#[test]
fn a_policy_that_exceeds_a_datagram_is_refused_with_the_number_that_fits() {
    let many = |count: u32| {
        let policies: Vec<_> = (0..count).map(policy).collect();
        group(GROUP, 1, &policies)
    };
    let size = message_size(&many(2000));
    assert!(!size.fits());
    let fitting = size.policies_that_fit(2000) as u32;
    assert!(message_size(&many(fitting)).fits(), "{fitting}");
    assert!(!message_size(&many(fitting + 2)).fits(), "{fitting}");
    assert!((540..600).contains(&fitting), "{fitting}");

    let mut world = World::new(server_settings(1, vec![many(2000)]), vec![member_settings(0, &[GROUP])]);
    world.up();
    world.run(seconds(2));
    assert_eq!(world.failures(0), ["no common policy, says the server"]);

    let mut world = World::new(server_settings(1, vec![many(fitting)]), vec![member_settings(0, &[GROUP])]);
    world.up();
    world.run(seconds(3500));
    assert_eq!(world.member_spis(0).len(), 2, "both the TEK and its successor fit");
}

#[test]
fn the_computed_size_is_the_one_that_is_sent() {
    for width in [LengthWidth::One, LengthWidth::Two] {
        let mut settings = group(GROUP, 7, &[policy(1), policy(2), policy(3)]);
        settings.id_length = width;
        settings.ipsec_sas.iter_mut().for_each(|sa| sa.anti_replay = Some(seconds(100)));
        let size = message_size(&settings);
        let largest = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
        let seen_sizes = std::rc::Rc::clone(&largest);
        let mut world = World::new(server_settings(1, vec![settings]), vec![member_settings(0, &[GROUP])])
            .with_network(move |seen| {
                let (policy, keys) = seen_sizes.get();
                match &*seen.label {
                    "pull (2)" => seen_sizes.set((seen.bytes.len().max(policy), keys)),
                    "pull (4)" => seen_sizes.set((policy, seen.bytes.len().max(keys))),
                    _ => {}
                }
                Fate::Deliver
            });
        world.up();
        world.run(seconds(3500));
        let (policy, keys) = largest.get();
        // Above what is sent here are a longer prf, the marker and the padding of the worst case, and what each of the
        // fourteen TEKs says while the anti-replay of the group changes.
        assert!((policy..=policy + 64 + 14 * 4).contains(&size.policy), "{policy} {size:?}");
        assert!((keys..=keys + 96).contains(&size.keys), "{keys} {size:?}");
    }
}
