//! Keys over time where the server pushes: rounds, acknowledgements, KEKs, changes, evictions.

use proto::server::{Event, Eviction, EvictionError};

use crate::world::*;

fn world(members: usize, push: proto::server::PushSettings) -> World {
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

fn pushes(world: &World) -> usize {
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
