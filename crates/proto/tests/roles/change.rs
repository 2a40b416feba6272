//! New configurations: what did not change keeps running.

use proto::member::{Event, Phase, Removal};

use std::time::Duration;

use crate::world::*;

fn three_groups() -> proto::server::Settings {
    server_settings(2, (1..=3).map(|id| group(id, 2, &[policy(id)])).collect())
}

#[test]
fn a_commit_that_changes_nothing_touches_nothing() {
    let mut world =
        World::new(three_groups(), vec![member_settings(0, &[1, 2, 3]), member_settings(1, &[1])]);
    world.up();
    world.run(seconds(1));
    let (keys, events) = (world.server_spis(), world.member_events.len());
    world.act(|world, now| world.server().configure(now, three_groups()));
    let settings = member_settings(0, &[1, 2, 3]);
    world.act(|world, now| world.members[0].configure(now, settings));
    world.run(seconds(10));
    assert_eq!(world.server_spis(), keys);
    assert_eq!(world.member_events.len(), events);
    assert_eq!(world.shown().ike_security_associations(world.now).len(), 2);
    assert_eq!(world.shown().registered_members(world.now)[0].members.len(), 2);
}

#[test]
fn a_changed_group_gets_new_keys_and_the_others_keep_theirs() {
    let mut world = World::new(three_groups(), vec![member_settings(0, &[1, 2, 3])]);
    world.up();
    world.run(seconds(1000));
    let before = world.server_spis();
    let mut changed = three_groups();
    changed.groups[1].ipsec_sas[0].policies = vec![policy(99)];
    world.act(|world, now| world.server().configure(now, changed));
    let after = world.server_spis();
    assert_eq!(after.len(), 7, "one successor, and nothing cut short");
    assert!(before.iter().all(|spi| after.contains(spi)));
    world.act(|world, now| world.members[0].reregister(now, "vpn-2"));
    world.run(seconds(1));
    let spis = world.member_spis(0);
    assert!(after.iter().all(|spi| spis.contains(spi)), "the next PULL brings it");
}

#[test]
fn a_gateway_that_is_removed_is_deregistered_and_refused() {
    let mut world = World::new(three_groups(), vec![member_settings(0, &[1]), member_settings(1, &[1])]);
    world.up();
    world.run(seconds(1));
    let before = world.server_spis();
    let mut changed = three_groups();
    changed.groups[0].gateways = vec![gateway_name(1)];
    world.act(|world, now| world.server().configure(now, changed));
    let members = world.shown().registered_members(world.now);
    assert_eq!(members[0].members.iter().map(|member| &*member.gateway).collect::<Vec<_>>(), ["member-1"]);
    assert_eq!(world.server_spis(), before);
    world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
    world.run(seconds(2));
    assert_eq!(world.failures(0), ["the server does not authorize this member for the group"]);
    assert_eq!(world.member_spis(0).len(), 2, "what it holds lives on until it expires");
}

#[test]
fn a_removed_and_a_new_group_come_and_go_alone() {
    let mut world = World::new(three_groups(), vec![member_settings(0, &[1, 2, 3, 4])]);
    world.up();
    world.run(seconds(1));
    let before = world.server_spis();
    let mut changed = three_groups();
    changed.groups.remove(0);
    changed.groups.push(group(4, 1, &[policy(4)]));
    changed.groups[2].gateways = vec![gateway_name(0), gateway_name(1)];
    world.act(|world, now| world.server().configure(now, changed));
    let after = world.server_spis();
    assert_eq!(after[..4], before[2..]);
    assert_eq!(after.len(), 5);
    world.run(seconds(15));
    assert_eq!(world.members[0].phase("vpn-4"), Some(Phase::Registered));
}

#[test]
fn a_registration_in_progress_does_not_outlive_its_group() {
    let mut world = World::pair().with_network(|seen| match (&*seen.label, seen.again) {
        ("pull (3)", false) => Fate::Late(seconds(2)),
        ("pull (3)", true) => Fate::Lose,
        _ => Fate::Deliver,
    });
    world.up();
    world.run(seconds(1));
    world
        .act(|world, now| world.server().configure(now, server_settings(1, vec![group(2, 1, &[policy(1)])])));
    world.run(seconds(4));
    assert_eq!(world.registered(0), 0);
    assert_eq!(world.failures(0), ["the server has no group with this number"]);
}

#[test]
fn a_refusal_of_message_3_that_is_lost_is_told_again() {
    let mut told = 0;
    let mut world = World::pair().with_network(move |seen| match (&*seen.label, seen.again) {
        ("pull (3)", false) => Fate::Late(seconds(1)),
        (label, _) if label.starts_with("info") => {
            told += 1;
            if told == 1 { Fate::Lose } else { Fate::Deliver }
        }
        _ => Fate::Deliver,
    });
    world.up();
    world.run(Duration::from_millis(500));
    world
        .act(|world, now| world.server().configure(now, server_settings(1, vec![group(2, 1, &[policy(1)])])));
    world.run(seconds(4));
    assert_eq!(world.failures(0), ["the server has no group with this number"], "{:#?}", world.trace);
}

#[test]
fn a_changed_vpn_loses_its_sas_and_registers_anew_and_the_other_one_does_not() {
    let mut world = World::new(three_groups(), vec![member_settings(0, &[1, 2])]);
    world.up();
    world.run(seconds(1));
    let mut changed = member_settings(0, &[1, 2]);
    changed.vpns[0].group_id = 3;
    changed.vpns[1].df_bit = "copy".to_owned();
    world.act(|world, now| world.members[0].configure(now, changed));
    world.run(seconds(1));
    let removed: Vec<_> = world
        .events_of(0)
        .filter_map(|event| match event {
            Event::RemoveSas { vpn, reason, .. } => Some((vpn.to_string(), *reason)),
            _ => None,
        })
        .collect();
    assert_eq!(removed, [("vpn-1".to_owned(), Removal::Reconfigured)]);
    assert_eq!(world.registered(0), 3);
    let vpns = world.members[0].ipsec_security_associations(world.now);
    assert_eq!((vpns[0].group_id, &*vpns[1].df_bit), (3, "copy"));
}

#[test]
fn a_changed_gateway_makes_every_vpn_over_it_register_anew() {
    let mut world = World::new(three_groups(), vec![member_settings(0, &[1, 2])]);
    world.up();
    world.run(seconds(1));
    let mut changed = member_settings(0, &[1, 2]);
    changed.gateways[0].phase1.proposals[0].lifetime = seconds(600);
    world.act(|world, now| world.members[0].configure(now, changed));
    world.run(seconds(2));
    assert_eq!(world.registered(0), 4, "{:#?}", world.failures(0));
    assert_eq!(world.members[0].ike_security_associations(world.now).len(), 1);
}

#[test]
fn a_removed_vpn_is_gone_with_its_policies() {
    let mut world = World::new(three_groups(), vec![member_settings(0, &[1, 2])]);
    world.up();
    world.run(seconds(1));
    world.act(|world, now| world.members[0].configure(now, member_settings(0, &[2])));
    assert!(world.events_of(0).any(|event| {
        matches!(event, Event::RemoveSas { vpn, spis, reason: Removal::Reconfigured } if &**vpn == "vpn-1" && spis.len() == 2)
    }));
    assert_eq!(world.members[0].phase("vpn-1"), None);
}

#[test]
fn commands_clear_what_they_name() {
    let mut world = World::new(three_groups(), vec![member_settings(0, &[1, 2])]);
    world.up();
    world.run(seconds(1));
    assert_eq!(world.act(|world, now| world.members[0].clear_ipsec(now, Some("vpn-1"))), 2);
    world.run(seconds(1));
    assert_eq!(world.registered(0), 3);
    assert_eq!(world.act(|world, now| world.members[0].clear_ike(now, None, None)), 1);
    world.run(seconds(1));
    assert_eq!(world.member_spis(0).len(), 4, "group SAs do not depend on phase 1");
    assert!(world.shown().ike_security_associations(world.now).is_empty(), "the server was told");
    assert_eq!(world.server().clear_statistics(Some("group-1")), 1);
    assert_eq!(world.statistics().pull_succeeded, 0);
    world.act(|world, now| world.server().shut_down(now));
}

#[test]
fn members_of_a_group_that_is_removed_forget_its_keys_and_not_those_of_its_successor() {
    let mut settings = server_settings(2, vec![group(1, 1, &[policy(1)]), group(2, 1, &[policy(2)])]);
    settings.groups.iter_mut().for_each(|group| group.push = Some(unicast()));
    let of_members = (0..2).map(|index| member_settings(index, &[1, 2])).collect();
    let mut world = World::new(settings.clone(), of_members);
    world.disk = Some(Default::default());
    world.up();
    world.run(seconds(2));
    assert!((0..2).all(|member| world.member_spis(member).len() == 2));
    // The first round is lost, as far as one of them goes.
    let mut lost = false;
    world.set_network(move |datagram| {
        let loses = datagram.label.starts_with("push") && datagram.member == Some(1) && !lost;
        lost |= loses;
        if loses { Fate::Lose } else { Fate::Deliver }
    });
    let without = proto::server::Settings { groups: vec![settings.groups[1].clone()], ..settings.clone() };
    world.act(|world, now| world.server().configure(now, without.clone()));
    world.run(seconds(1));
    assert_eq!([world.member_spis(0).len(), world.member_spis(1).len()], [1, 2]);
    world.run(seconds(10));
    assert_eq!([world.member_spis(0).len(), world.member_spis(1).len()], [1, 1]);
    assert_eq!(world.member_spis(0), world.server_spis());
    assert!(world.records().iter().all(|record| !record.place.starts_with("group/00000001")));
    // It comes back, while members are still being told: whoever has registered anew keeps the keys.
    world.act(|world, now| world.server().configure(now, settings.clone()));
    world.act(|world, now| world.server().configure(now, without));
    world.act(|world, now| world.server().configure(now, settings));
    world.run(seconds(120));
    for member in 0..2 {
        assert_eq!(world.member_spis(member).len(), 2, "{:?}", world.failures(member));
    }
}
