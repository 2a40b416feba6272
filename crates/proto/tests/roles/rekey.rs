//! Keys over time where the server pushes: rounds, acknowledgements, KEKs, changes, evictions.

use proto::server::{Event, Eviction, EvictionError};

use crate::world::*;

pub fn world(members: usize, push: proto::server::PushSettings) -> World {
    let mut group = group(GROUP, 1, &[policy(1)]);
    group.push = Some(push);
    let settings = server_settings(members, vec![group]);
    let mut world =
        World::new(settings, (0..members).map(|index| member_settings(index, &[GROUP])).collect());
    world.up();
    world.run(seconds(1));
    for member in 0..members {
        assert_eq!(world.registered(member), 1);
    }
    world
}

pub fn pushes(world: &World) -> usize {
    world.trace.iter().filter(|line| line.starts_with("<-- push")).count()
}

#[test]
fn a_successor_is_pushed_to_every_member_acknowledged_and_used_without_any_registration() {
    let mut world = world(3, unicast());
    world.run(seconds(3238));
    assert_eq!(pushes(&world), 0);
    world.run(seconds(2));
    let keys = world.server_spis();
    assert_eq!(keys.len(), 2);
    for member in 0..3 {
        assert_eq!(world.member_spis(member), keys);
        assert_eq!(world.registered(member), 1);
    }
    assert_eq!(pushes(&world), 3, "{:#?}", world.trace);
    let statistics = world.statistics();
    assert_eq!((statistics.push_sent, statistics.push_acknowledged), (3, 3));
    world.run(seconds(3600 * 5));
    for member in 0..3 {
        assert_eq!(world.registered(member), 1, "{:#?}", world.member_log);
        assert_eq!(world.member_spis(member), world.server_spis());
    }
    assert_eq!(world.statistics().push_unacknowledged, 0);
    assert_eq!(world.statistics().acknowledgements_refused, []);
}

#[test]
fn multicast_reaches_every_member_with_one_message_a_round() {
    let mut world = world(3, multicast());
    assert_eq!(world.joined.len(), 3);
    world.run(seconds(3600 * 4));
    for member in 0..3 {
        assert_eq!(world.registered(member), 1, "{:#?}", world.member_log);
        assert_eq!(world.member_spis(member), world.server_spis());
    }
    let kek = &world.shown().kek_security_associations(world.now)[0];
    let detail = kek.detail.as_ref().unwrap();
    assert_eq!(world.statistics().push_sent, detail.pushes);
    assert_eq!(detail.communication, "Multicast");
}

#[test]
fn the_kek_rolls_under_the_old_one_and_begins_at_one() {
    let mut push = unicast();
    push.lifetime = seconds(3600);
    let mut world = world(2, push);
    world.run(seconds(3600 * 10));
    for member in 0..2 {
        assert_eq!(world.registered(member), 1, "{:#?}", world.member_log);
        assert_eq!(world.member_spis(member), world.server_spis());
        assert_eq!(world.members[member].kek_security_associations(world.now).len(), 1);
    }
    assert!(world.statistics().push_unacknowledged == 0);
}

#[test]
fn an_eviction_is_refused_where_members_pull_unless_it_is_graceful() {
    let mut world = World::pair();
    world.up();
    world.run(seconds(1));
    let now = world.now;
    let refused = world.server().evict(now, None, Eviction::Now);
    assert_eq!(refused, Err(EvictionError::Pulls("group-1".into())));
    let notices = world.server().evict(now, Some("group-1"), Eviction::Graceful).unwrap();
    assert_eq!(notices[0].done_in.as_secs(), 3600 - 30 - 1);
}

#[test]
fn a_graceful_eviction_gives_everybody_new_keys_and_says_how_long_it_took() {
    let mut world = world(3, unicast());
    world.run(seconds(100));
    let before = world.server_spis();
    let now = world.now;
    let notices = world.act(|world, _| world.server().evict(now, None, Eviction::Graceful)).unwrap();
    assert_eq!(notices[0].done_in, seconds(20 + 10 + 120));
    world.run(seconds(15));
    for member in 0..3 {
        assert_eq!(world.registered(member), 2);
        assert_eq!(world.member_spis(member), world.server_spis());
    }
    world.run(seconds(150 + 30));
    let completed = world.server_events.iter().find_map(|event| match event {
        Event::RekeyCompleted { took, members, missing, .. } => Some((*took, *members, *missing)),
        _ => None,
    });
    assert_eq!(completed, Some((seconds(150), 3, 0)));
    assert!(world.server_spis().iter().all(|spi| !before.contains(spi)));
}

pub fn settings_with(
    members: usize,
    change: impl FnOnce(&mut proto::server::GroupSettings),
) -> proto::server::Settings {
    let mut group = group(GROUP, 1, &[policy(1)]);
    group.push = Some(unicast());
    change(&mut group);
    server_settings(members, vec![group])
}

pub fn configure(world: &mut World, settings: proto::server::Settings) {
    world.act(|world, now| world.server().configure(now, settings));
}

/// Every member holds every key that the server hands out, and the server's KEK.
fn assert_in_step(world: &World, members: impl Iterator<Item = usize>) {
    let keks: Vec<_> = world.shown().kek_security_associations(world.now);
    for member in members {
        let held = world.member_spis(member);
        let wanted = world.server_spis();
        assert!(
            wanted.iter().all(|spi| held.contains(spi)),
            "{member}: {held:x?} {wanted:x?} {:#?}",
            world.member_log
        );
        let held: Vec<_> = world.members[member].kek_security_associations(world.now);
        let newest = keks.last().map(|kek| (kek.initiator_cookie, kek.responder_cookie));
        let held = held.iter().map(|kek| (kek.initiator_cookie, kek.responder_cookie));
        assert!(newest.is_none_or(|newest| held.into_iter().any(|held| held == newest)), "{member}");
    }
}

/// Loses what goes to some members, while that is wanted.
fn deaf(members: &'static [usize]) -> impl FnMut(&Seen<'_>) -> Fate {
    move |seen| match seen.member {
        Some(member) if members.contains(&member) && seen.label.starts_with("push") => Fate::Lose,
        _ => Fate::Deliver,
    }
}

#[test]
fn a_round_goes_to_those_that_owe_an_acknowledgement_and_is_a_message_of_its_own() {
    let mut world = world(3, unicast());
    world.set_network(deaf(&[2]));
    world.run(seconds(3239 + 25));
    let labels: Vec<_> = world.trace.iter().filter(|line| line.starts_with("<-- push")).cloned().collect();
    assert_eq!(
        labels,
        [
            "<-- push (1)",
            "<-- push (1) again",
            "<-- push (1) again lost",
            "<-- push (2) lost",
            "<-- push (3) lost"
        ]
    );
    world.set_network(|_| Fate::Deliver);
    world.run(seconds(10));
    assert_eq!(pushes(&world), 6);
    assert_in_step(&world, 0..3);
    world.run(seconds(100));
    assert_eq!(pushes(&world), 6, "nobody owes anything");
}

#[test]
fn a_member_that_leaves_three_rekeys_unacknowledged_is_lost_and_comes_back_by_registering() {
    let mut world = world(2, unicast());
    // It has to acknowledge something before its silence means anything.
    world.run(seconds(3600));
    world.set_network(|seen| match (seen.member, &*seen.label) {
        (Some(1), label) if label.starts_with("acknowledgement") => Fate::Lose,
        _ => Fate::Deliver,
    });
    world.run(seconds(3600 * 3));
    let lost = world.server_events.iter().filter(|event| matches!(event, Event::MemberLost { .. })).count();
    assert_eq!(lost, 1);
    let members = &world.shown().registered_members(world.now)[0].members;
    assert_eq!(
        members.iter().map(|member| member.state).collect::<Vec<_>>(),
        [control::MemberState::Active, control::MemberState::Unacknowledged]
    );
    assert_eq!(world.statistics().push_unacknowledged, 3);
    assert_eq!(world.registered(1), 1);
    world.run(seconds(3600));
    assert_eq!(world.registered(1), 2, "it heard of no successor and asked");
    assert_eq!(world.shown().registered_members(world.now)[0].members[1].state, control::MemberState::Active);
}

#[test]
fn a_member_that_never_acknowledged_stays_unless_acknowledgements_are_required() {
    for required in [false, true] {
        let mut world =
            world(2, pushing(proto::server::Communication::Unicast { acknowledgement_required: required }));
        world.set_network(|seen| match (seen.member, &*seen.label) {
            (Some(1), label) if label.starts_with("acknowledgement") => Fate::Lose,
            _ => Fate::Deliver,
        });
        world.run(seconds(3600 * 4 - 400));
        let lost =
            world.server_events.iter().filter(|event| matches!(event, Event::MemberLost { .. })).count();
        assert_eq!(lost, usize::from(required));
    }
}

#[test]
fn a_changed_policy_is_pushed_at_once_and_used_when_all_rounds_have_been() {
    let mut world = world(2, unicast());
    world.run(seconds(1000));
    configure(&mut world, settings_with(2, |group| group.ipsec_sas[0].policies = vec![policy(9)]));
    world.run(seconds(1));
    assert_in_step(&world, 0..2);
    let sas = world.shown().ipsec_security_associations(world.now).remove(0).security_associations;
    assert_eq!(sas.len(), 2);
    assert_eq!(sas[0].lifetime_secs, 179);
    assert_eq!(sas[1].detail.as_ref().unwrap().activation_in_secs, 149);
    world.run(seconds(180));
    assert!(world.server_events.iter().any(|event| matches!(
        event,
        Event::RekeyCompleted { cause: proto::server::Cause::PolicyChange, took, members: 2, missing: 0, .. }
            if took.as_secs() == 150
    )));
    assert_eq!(world.server_spis().len(), 1);
    assert_eq!(world.registered(0), 1);
    let progress = world.statistics().rekey.unwrap();
    assert_eq!((progress.took_millis, progress.outstanding), (Some(150_000), 0));
}

#[test]
fn a_change_while_a_successor_is_out_there_keeps_all_three_until_everybody_has_switched() {
    let mut world = world(2, unicast());
    world.run(seconds(3339));
    assert_eq!(world.server_spis().len(), 2);
    configure(&mut world, settings_with(2, |group| group.ipsec_sas[0].policies = vec![policy(9)]));
    world.run(seconds(1));
    assert_eq!(world.server_spis().len(), 3);
    assert_in_step(&world, 0..2);
    configure(&mut world, settings_with(2, |group| group.ipsec_sas[0].policies = vec![policy(8)]));
    world.run(seconds(1));
    assert_eq!(world.server_spis().len(), 3, "the next change waits for its turn");
    world.run(seconds(600));
    assert_in_step(&world, 0..2);
    assert_eq!(world.server_spis().len(), 1);
    assert_eq!(world.registered(0), 1);
}

#[test]
fn a_removed_ipsec_sa_is_deleted_at_the_members_and_a_new_one_arrives() {
    let mut world = world(2, unicast());
    world.run(seconds(100));
    let before = world.server_spis();
    configure(&mut world, settings_with(2, |group| group.ipsec_sas[0].name = "another".into()));
    world.run(seconds(1));
    assert_in_step(&world, 0..2);
    for member in 0..2 {
        assert!(!world.member_spis(member).contains(&before[0]));
        assert_eq!(world.member_spis(member).len(), 1);
        assert_eq!(world.registered(member), 1);
    }
}

#[test]
fn a_removed_gateway_is_evicted_and_refused_and_nobody_else_loses_a_key() {
    let mut world = world(3, unicast());
    world.run(seconds(100));
    let before = world.server_spis();
    configure(&mut world, settings_with(3, |group| group.gateways = vec![gateway_name(0), gateway_name(1)]));
    world.run(seconds(15));
    assert_in_step(&world, 0..2);
    assert_eq!(world.member_spis(0).len(), 2, "the old one until all have switched");
    assert_eq!(world.member_spis(2), before, "it was told nothing");
    world.run(seconds(200));
    assert_in_step(&world, 0..2);
    assert!(world.server_spis().iter().all(|spi| !before.contains(spi)));
    world.run(seconds(3600));
    assert_in_step(&world, 0..2);
    assert!(
        world.failures(2).iter().any(|failure| failure.contains("does not authorize")),
        "{:?}",
        world.failures(2)
    );
    assert!(world.member_spis(2).is_empty());
}

/// A world in which a member hears every push, is lost because nothing comes from it any more, and then forgotten.
pub fn with_a_forgotten_member(world: &mut World) {
    world.run(seconds(3600));
    world.set_network(|seen| match (seen.member, &*seen.label) {
        (Some(1), label) if !label.starts_with("push") => Fate::Lose,
        _ => Fate::Deliver,
    });
    world.run(seconds(3600 * 26));
    let members = &world.shown().registered_members(world.now)[0].members;
    assert_eq!(members.len(), 1, "{members:?}");
}

pub fn newest_kek(world: &World) -> (control::Cookie, control::Cookie) {
    let keks = world.shown().kek_security_associations(world.now);
    let newest = keks.last().unwrap();
    (newest.initiator_cookie, newest.responder_cookie)
}

#[test]
fn a_member_that_is_lost_and_forgotten_may_hold_the_kek_and_is_evicted_with_its_gateway() {
    let mut world = world(2, unicast());
    with_a_forgotten_member(&mut world);
    let before = newest_kek(&world);
    configure(&mut world, settings_with(2, |group| group.gateways = vec![gateway_name(0)]));
    assert_ne!(newest_kek(&world), before, "what it may hold carries nothing any more");
    world.run(seconds(3600));
    assert_in_step(&world, 0..1);
}

#[test]
fn a_gateway_that_never_held_anything_leaves_without_an_eviction() {
    let mut world = world(1, unicast());
    let three = settings_with(3, |_| {});
    configure(&mut world, three);
    let before = newest_kek(&world);
    configure(&mut world, settings_with(3, |group| group.gateways = vec![gateway_name(0)]));
    assert_eq!(newest_kek(&world), before);
}

#[test]
fn from_unicast_to_multicast_and_back_nobody_is_lost_who_hears_everything() {
    for pause in [5, 400, 7000] {
        let mut world = world(3, unicast());
        world.run(seconds(3300));
        for push in [multicast(), unicast()] {
            configure(&mut world, settings_with(3, |group| group.push = Some(push)));
            world.run(seconds(pause));
        }
        world.run(seconds(3600 * 4));
        let lost = |event: &&Event| matches!(event, Event::MemberLost { .. });
        assert_eq!(world.server_events.iter().filter(lost).count(), 0, "{pause}");
        assert_in_step(&world, 0..3);
    }
}

#[test]
fn an_eviction_now_kills_every_key_at_once() {
    let mut world = world(2, unicast());
    world.run(seconds(100));
    let before = world.server_spis();
    world.act(|world, now| world.server().evict(now, Some("group-1"), Eviction::Now)).unwrap();
    assert_eq!(world.server_spis().len(), 1);
    assert_ne!(world.server_spis(), before);
    world.run(ONE_WAY);
    assert!(world.member_spis(0).is_empty(), "until it has registered");
    world.run(seconds(15));
    assert_in_step(&world, 0..2);
    assert_eq!(world.registered(0), 2);
    let completed = world.server_events.iter().any(|event| {
        matches!(event, Event::RekeyCompleted { cause: proto::server::Cause::EvictionNow, missing: 0, .. })
    });
    assert!(completed);
}

#[test]
fn an_unknown_group_cannot_be_evicted() {
    let mut world = world(1, unicast());
    let now = world.now;
    let refused = world.server().evict(now, Some("nobody"), Eviction::Graceful);
    assert_eq!(refused, Err(EvictionError::UnknownGroup("nobody".into())));
}

#[test]
fn every_setting_of_the_push_can_be_changed_without_a_registration() {
    let mut world = world(2, unicast());
    world.run(seconds(100));
    let mut changed = unicast();
    changed.cipher = crypto::CbcCipher::Aes256;
    let steps = [changed, multicast(), unicast(), {
        let mut other = unicast();
        other.retransmission_period = seconds(5);
        other.heartbeat = Some(seconds(60));
        other
    }];
    for (step, push) in steps.into_iter().enumerate() {
        configure(&mut world, settings_with(2, |group| group.push = Some(push)));
        world.run(seconds(4000));
        assert_in_step(&world, 0..2);
        assert_eq!(world.registered(0), 1, "step {step} {:#?}", world.member_log);
    }
    assert_eq!(world.statistics().push_unacknowledged, 0);
}

#[test]
fn push_is_switched_off_and_on_by_commit() {
    let mut world = world(2, unicast());
    world.run(seconds(100));
    configure(&mut world, settings_with(2, |group| group.push = None));
    world.run(seconds(20));
    for member in 0..2 {
        assert!(world.members[member].kek_security_associations(world.now).is_empty());
        assert_eq!(world.registered(member), 2);
    }
    assert!(world.shown().kek_security_associations(world.now).is_empty());
    world.run(seconds(4000));
    let pulled = world.registered(0);
    assert!(pulled > 2, "members pull");
    configure(&mut world, settings_with(2, |_| {}));
    world.run(seconds(4000));
    assert_in_step(&world, 0..2);
    let pulled = world.registered(0);
    world.run(seconds(8000));
    assert_eq!(world.registered(0), pulled, "members are pushed to");
}

#[test]
fn heartbeats_keep_members_from_asking() {
    let mut push = multicast();
    push.heartbeat = Some(seconds(60));
    let mut world = world(2, push);
    world.run(seconds(3000));
    assert_eq!(world.registered(0), 1);
    assert_eq!(world.statistics().push_sent, 50);
    world.set_network(deaf(&[0]));
    world.run(seconds(300));
    assert_eq!((world.registered(0), world.registered(1)), (2, 1), "the one that heard nothing asks");
}

#[test]
fn a_member_that_misses_the_kek_is_reached_under_the_old_one() {
    let mut push = unicast();
    push.lifetime = seconds(3600);
    let mut world = world(2, push);
    world.set_network(deaf(&[1]));
    world.run(seconds(3239 + 100));
    assert_eq!(world.member_spis(1).len(), 1);
    world.set_network(|_| Fate::Deliver);
    world.run(seconds(11));
    assert_in_step(&world, 0..2);
    assert_eq!(world.registered(1), 1);
}

#[test]
fn a_kek_and_a_tek_that_roll_together_come_in_one_message() {
    let mut push = unicast();
    push.lifetime = seconds(3600);
    let mut world = world(2, push);
    world.run(seconds(3240));
    assert_eq!(pushes(&world), 2, "one message, two copies");
    assert_in_step(&world, 0..2);
    assert_eq!(world.statistics().push_acknowledged, 2);
}

#[test]
fn a_registration_between_rounds_gets_the_current_sequence_number() {
    let mut world = world(2, multicast());
    world.run(seconds(3300));
    let now = world.now;
    world.act(|world, _| world.members[0].reregister(now, "vpn-1"));
    world.run(seconds(3600));
    assert_in_step(&world, 0..2);
    assert_eq!(world.registered(0), 2);
}

#[test]
fn a_third_of_all_datagrams_lost_costs_no_key() {
    let mut push = unicast();
    push.lifetime = seconds(3600);
    let mut world = world(4, push);
    let mut count = 0_u32;
    world.set_network(move |_| {
        count = count.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if (count >> 16).is_multiple_of(3) { Fate::Lose } else { Fate::Deliver }
    });
    for _ in 0..10 {
        world.run(seconds(1800));
        let active = world.shown().ipsec_security_associations(world.now).remove(0).security_associations;
        let active = active.iter().rfind(|sa| sa.detail.as_ref().unwrap().activation_in_secs == 0).unwrap();
        for member in 0..4 {
            assert!(world.member_spis(member).contains(&active.spi.0), "{:#?}", world.member_log);
        }
    }
}

#[test]
fn an_early_or_repeated_timeout_does_nothing() {
    use proto::Role;
    let mut world = world(2, unicast());
    world.run(seconds(3239 + 5));
    let now = world.now;
    let due = world.shown().poll_timeout();
    let before = world.statistics();
    for _ in 0..100 {
        world.server().handle_timeout(now);
    }
    assert!(world.server().poll_push().is_none());
    assert_eq!(world.shown().poll_timeout(), due);
    assert_eq!(world.statistics(), before);
}

#[test]
fn acknowledgements_that_do_not_count_are_counted_by_reason() {
    use proto::Role;
    use proto::path::Path;
    let recorded = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
    let recorder = std::rc::Rc::clone(&recorded);
    let mut world = world(2, unicast());
    world.set_network(move |seen| {
        if seen.label.starts_with("acknowledgement") {
            recorder.borrow_mut().push(seen.bytes.to_vec());
        }
        Fate::Deliver
    });
    world.run(seconds(3241));
    let good = recorded.borrow()[0].clone();
    let from = |port: u16| Path::new((SERVER, 848).into(), (member_address(0), port).into());
    let change = |place: usize| {
        let mut changed = good.clone();
        changed[place] ^= 1;
        changed
    };
    let now = world.now;
    // A later sequence number than was sent, the KEK of nobody, a port that nobody registered from.
    let sequence = good.len() - 12 - 4 + 3;
    for datagram in [good.clone(), change(0), change(sequence - 1), good[..40].to_vec(), change(17)] {
        world.server().handle_datagram(now, from(848), &datagram);
    }
    world.server().handle_datagram(now, from(849), &good);
    let counts: Vec<_> = world
        .statistics()
        .acknowledgements_refused
        .into_iter()
        .map(|reason| (reason.reason, reason.count))
        .collect();
    assert_eq!(
        counts,
        [("unknown-member".into(), 1), ("duplicate".into(), 1), ("unknown-sequence".into(), 1)]
    );
    let stray: Vec<_> =
        world.shown().stray_acknowledgements().into_iter().map(|reason| reason.reason).collect();
    assert_eq!(stray, ["truncated", "bad-header", "unknown-kek"]);
}
