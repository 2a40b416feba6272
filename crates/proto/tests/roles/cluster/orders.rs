//! What a follower is asked for and only the leader can do.

use super::*;

#[test]
fn a_threshold_is_the_clusters_however_many_servers_are_asked_at_once() {
    for push in [None, Some(unicast())] {
        let mut settings = settings(6, push);
        settings.groups[0].member_threshold = Some(3);
        let mut cluster = Cluster::new(3, 6, &settings);
        let registered = |cluster: &Cluster| -> Vec<usize> {
            (0..6).filter(|member| !cluster.member_spis(*member).is_empty()).collect()
        };
        cluster.up(0);
        assert_eq!(registered(&cluster), [0]);
        // Members 1 and 4 come to server 1, 2 and 5 to server 2, and neither server hears of the other in time.
        cluster.slow_down(1);
        cluster.slow_down(2);
        for member in [1, 2, 4, 5] {
            cluster.up(member);
        }
        assert_eq!(registered(&cluster), [0], "nobody is let in before the leader has said so");
        cluster.catch_up(1);
        cluster.catch_up(2);
        assert_eq!(registered(&cluster), [0, 1, 2], "who asked first");
        assert_eq!((0..3).map(|server| cluster.listed(server)).collect::<Vec<_>>(), [3, 3, 3]);
        assert_eq!((cluster.pulls(1), cluster.pulls(2)), (1, 1));
        let statistics = |cluster: &Cluster, server: usize| {
            let statistics = cluster.server(server).statistics(cluster.now).swap_remove(0);
            (statistics.pull_succeeded, statistics.pull_exceed_member_threshold)
        };
        cluster.run(5);
        assert_eq!(statistics(&cluster, 0).0, 3);
        assert!(statistics(&cluster, 0).1 >= 2, "{:?}", statistics(&cluster, 0));
        // Who is on the list comes back at any server, and who is not does not get in at any.
        cluster.members[2].reregister(cluster.now, "vpn-1");
        cluster.settle();
        cluster.run(120);
        assert_eq!(cluster.pulls(2), 2);
        assert_eq!(registered(&cluster), [0, 1, 2]);

        // A server that is cut off goes by what it knows, which is that the group is full.
        cluster.cut_off(2);
        cluster.run(60);
        assert_eq!(registered(&cluster), [0, 1, 2]);
    }
}

#[test]
fn who_waits_for_room_gets_in_when_the_next_leader_knows_that_there_is_some() {
    let mut settings = settings(2, Some(unicast()));
    settings.groups[0].member_threshold = Some(1);
    let mut cluster = Cluster::new(2, 2, &settings);
    // The leader is dead, and nobody has been elected yet.
    cluster.nodes[0] = None;
    cluster.leader = None;
    cluster.up(1);
    assert!(cluster.member_spis(1).is_empty());
    cluster.run(2);
    assert!(cluster.member_spis(1).is_empty());
    cluster.elect(1);
    assert_eq!(cluster.member_spis(1), cluster.spis(1), "at once, by the message that waited");
    assert_eq!((cluster.pulls(1), cluster.listed(1)), (1, 1));
    cluster.up(0);
    cluster.run(60);
    assert!(cluster.member_spis(0).is_empty());
}

#[test]
fn acknowledgements_and_commands_at_a_follower_do_what_they_should() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    assert_eq!(
        cluster.act(1, |server, now| server.evict(now, None, Eviction::Now)),
        Err(EvictionError::Follows)
    );
    // Server 0 pushes; before the members answer, their way leads to server 1.
    let end = cluster.now + seconds(3300);
    while cluster.now < end && cluster.pushes.is_empty() {
        let next = cluster.server(0).poll_timeout().unwrap().max(cluster.now);
        cluster.now = next;
        cluster.nodes[0].as_mut().unwrap().server.handle_timeout(next);
        cluster.drain_server(0);
    }
    let pushed: Vec<_> = cluster.wire.drain(..).collect();
    assert!(!pushed.is_empty());
    for (member, mut path, octets) in pushed {
        path.remote.set_ip(server_address(1));
        let index = member.unwrap();
        cluster.members[index].handle_datagram(cluster.now, path, &octets);
    }
    cluster.settle();
    let statistics = |cluster: &Cluster, server: usize| {
        cluster.server(server).statistics(cluster.now)[0].push_acknowledged
    };
    assert_eq!(statistics(&cluster, 1), 2);
    cluster.run(120);
    assert_eq!(statistics(&cluster, 0), 2, "the counters are the cluster's");
    assert_eq!(cluster.pushes.len(), 2, "nobody owes anything, so there is no further round");
    // The counters are set to zero everywhere.
    assert_eq!(cluster.act(1, |server, _| server.clear_statistics(None)), 1);
    cluster.run(10);
    assert_eq!((statistics(&cluster, 0), statistics(&cluster, 1)), (0, 0));
}

#[test]
fn an_eviction_asked_for_at_a_follower_is_done_by_the_leader_or_by_the_next_one_and_once() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(3, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    let forward = |cluster: &mut Cluster, server: usize, eviction| {
        cluster.act(server, |server, _| server.forward_eviction(Some(GROUP_NAME), eviction))
    };
    let kek = cluster.kek(0).0;
    let asked = forward(&mut cluster, 1, Eviction::Graceful).unwrap();
    assert_eq!((asked.number, asked.groups.as_slice()), (1, &[GROUP_NAME.to_owned()][..]));
    assert_eq!(cluster.answers, [(1, 1, true)]);
    assert_ne!(cluster.kek(1).0, kek, "another KEK");
    cluster.run(400);
    assert!(!cluster.records.keys().any(|place| place.contains("/news/")));

    // The leader is dead: the answer comes from the next one, be it the asker itself.
    cluster.nodes[0] = None;
    cluster.leader = None;
    let kek = cluster.kek(1).0;
    forward(&mut cluster, 1, Eviction::Now).unwrap();
    forward(&mut cluster, 2, Eviction::Graceful).unwrap();
    cluster.run(5);
    assert_eq!((cluster.answers.len(), cluster.kek(1).0), (1, kek));
    cluster.elect(2);
    assert_eq!(cluster.answers[1..], [(2, 1, true), (1, 2, true)]);
    let kek = cluster.kek(1).0;
    // A server that loads all records hears nothing twice, nor does the next leader do anything again.
    cluster.start(0, &settings);
    cluster.cut_off(1);
    cluster.reconnect(1);
    cluster.elect(1);
    cluster.run(100);
    assert_eq!((cluster.answers.len(), cluster.kek(0).0), (3, kek));
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(1));
    }

    let refused = cluster.act(0, |server, _| server.forward_eviction(Some("other"), Eviction::Now));
    assert_eq!(refused, Err(EvictionError::UnknownGroup("other".into())));
    cluster.cut_off(0);
    assert_eq!(forward(&mut cluster, 0, Eviction::Graceful), Err(EvictionError::CutOff));
}

#[test]
fn an_eviction_that_the_leader_refuses_is_told_to_who_asked() {
    let pushing = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &pushing);
    // The leader's configuration is another one, in which members pull.
    cluster.nodes[0] = None;
    cluster.start(0, &settings(2, None));
    cluster.elect(0);
    cluster.act(1, |server, _| server.forward_eviction(None, Eviction::Now)).unwrap();
    assert_eq!(cluster.answers, [(1, 1, false)]);
    let refused = cluster.act(0, |server, now| server.evict(now, None, Eviction::Now));
    assert!(matches!(refused, Err(EvictionError::Pulls(_))));
}

#[test]
fn a_gateway_that_leaves_is_evicted_even_if_nobody_knows_that_it_registered() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.cut_off(1);
    cluster.up(1);
    let before = cluster.spis(0);
    let mut without = settings.clone();
    without.groups[0].gateways.retain(|name| *name != gateway_name(1));
    cluster.act(0, |server, now| server.configure(now, without.clone()));
    cluster.run(300);
    assert!(cluster.spis(0).iter().all(|spi| !before.contains(spi)), "all keys were replaced");
    assert_eq!(cluster.member_spis(0), cluster.spis(0));
}
