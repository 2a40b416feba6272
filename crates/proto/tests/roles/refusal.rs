//! Who is refused, what both ends say of it, and what the server remembers.

use std::cell::Cell;
use std::rc::Rc;

use crate::world::*;

fn log_of(entries: &[proto::log::Entry], message: &str) -> Vec<String> {
    entries.iter().filter(|entry| entry.message == message).map(ToString::to_string).collect()
}

#[test]
fn an_unknown_group_is_a_clear_error_at_both_ends() {
    let mut world =
        World::new(server_settings(1, vec![group(GROUP, 1, &[policy(1)])]), vec![member_settings(0, &[77])]);
    world.up();
    world.run(seconds(5));
    assert_eq!(world.failures(0), ["the server has no group with this number"]);
    let refused = log_of(&world.server_log, "registration refused");
    assert_eq!(refused.len(), 1);
    assert!(refused[0].contains("there is no group 77"), "{refused:?}");
    assert!(refused[0].contains("INVALID-ID-INFORMATION"), "{refused:?}");
    assert_eq!(world.shown().ike_security_associations(world.now).len(), 1, "phase 1 stays up");
    assert_eq!(world.members[0].ike_security_associations(world.now).len(), 1);
}

#[test]
fn a_member_that_is_not_listed_is_refused_told_logged_and_counted() {
    let mut settings = server_settings(2, vec![group(GROUP, 1, &[policy(1)])]);
    settings.groups[0].gateways = vec![gateway_name(1)];
    let mut world = World::new(settings, vec![member_settings(0, &[GROUP]), member_settings(1, &[GROUP])]);
    world.up();
    world.run(seconds(5));
    assert_eq!(world.failures(0), ["the server does not authorize this member for the group"]);
    assert_eq!(world.registered(0), 0);
    assert_eq!(world.registered(1), 1);
    let statistics = world.statistics();
    assert_eq!((statistics.pull_succeeded, statistics.pull_failed), (1, 1));
    assert!(statistics.recent_failures[0].contains("member-0"), "{statistics:?}");
    assert!(log_of(&world.server_log, "registration refused")[0].contains("not listed"));
    let inactive = world.members[0].inactive_tunnels(world.now);
    assert!(inactive[0].reason.contains("does not authorize"), "{inactive:?}");
    assert!(inactive[0].next_try_in_secs.is_some());
}

#[test]
fn the_member_threshold_refuses_newcomers_and_lets_members_come_back() {
    let mut settings = server_settings(3, vec![group(GROUP, 1, &[policy(1)])]);
    settings.groups[0].member_threshold = Some(2);
    let mut world = World::new(settings, (0..3).map(|index| member_settings(index, &[GROUP])).collect());
    for member in 0..3 {
        world.act(|world, now| world.members[member].interface_up(now, "vpn-1", None));
        world.run(seconds(1));
    }
    assert_eq!((0..3).map(|member| world.registered(member)).collect::<Vec<_>>(), [1, 1, 0]);
    assert_eq!(world.failures(2), ["the group has reached its member threshold"]);
    assert_eq!(world.statistics().pull_exceed_member_threshold, 1);
    world.act(|world, now| world.members[0].reregister(now, "vpn-1"));
    world.run(seconds(1));
    assert_eq!(world.registered(0), 2);
}

#[test]
fn wrong_pre_shared_keys_are_told_as_such() {
    let mut member = member_settings(0, &[GROUP]);
    member.gateways[0].phase1.pre_shared_key = crypto::Secret::from_slice(b"another key altogether");
    let mut world = World::new(server_settings(1, vec![group(GROUP, 1, &[policy(1)])]), vec![member]);
    world.up();
    world.run(seconds(40));
    assert_eq!(world.registered(0), 0);
    assert!(world.failures(0)[0].starts_with("phase 1 failed"), "{:?}", world.failures(0));
    let members = world.shown().registered_members(world.now);
    assert!(members[0].members.is_empty());
}

#[test]
fn a_wrong_hash_in_any_message_is_ignored_and_the_next_repetition_succeeds() {
    for label in ["pull (1)", "pull (2)", "pull (3)", "pull (4)"] {
        let spoiled = Rc::new(Cell::new(false));
        let done = Rc::clone(&spoiled);
        let mut world = World::pair().with_network(move |seen| {
            if seen.label == label && !done.replace(true) {
                let mut changed = seen.bytes.to_vec();
                changed[28 + 6] ^= 0x40;
                return Fate::Instead(vec![changed]);
            }
            Fate::Deliver
        });
        world.up();
        world.run(seconds(9));
        assert!(spoiled.get());
        assert_eq!(world.registered(0), 1, "{label}: {:#?} {:#?}", world.trace, world.failures(0));
        assert_eq!(world.statistics().pull_succeeded, 1, "{label}");
        assert_eq!(world.member_spis(0), world.server_spis());
    }
}

#[test]
fn nobody_is_registered_before_message_3_proves_it_live() {
    let mut world =
        World::pair().with_network(|seen| if seen.label == "pull (3)" { Fate::Lose } else { Fate::Deliver });
    world.up();
    world.run(seconds(5));
    assert!(world.shown().registered_members(world.now)[0].members.is_empty());
    assert_eq!(world.statistics().pull_succeeded, 0);
    assert_eq!(world.registered(0), 0);
    let sas = world.shown().ike_security_associations(world.now);
    assert_eq!(sas[0].detail.as_ref().unwrap().pulls_in_progress, 1);
    world.run(seconds(120));
    assert!(world.statistics().pull_failed >= 1, "broken off registrations are counted");
    let pulls: u32 = world
        .shown()
        .ike_security_associations(world.now)
        .iter()
        .map(|sa| sa.detail.as_ref().unwrap().pulls_in_progress)
        .sum();
    assert!(pulls <= 12, "and forgotten: {pulls}");
}

#[test]
fn members_leave_the_table_when_their_keys_are_gone() {
    let mut world = World::pair();
    world.up();
    world.run(seconds(1));
    world.members.clear();
    world.run(seconds(3500));
    assert_eq!(world.shown().registered_members(world.now)[0].members.len(), 1);
    world.run(seconds(100));
    assert!(world.shown().registered_members(world.now)[0].members.is_empty());
}
