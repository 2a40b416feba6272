//! One key set, whoever makes it.

use super::*;

#[test]
fn a_follower_answers_from_the_records_and_the_leader_pushes_to_its_member() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    let keys = cluster.spis(0);
    assert_eq!(cluster.spis(1), keys, "it has them by the records");
    cluster.up(0);
    cluster.up(1);
    assert_eq!((cluster.member_spis(0), cluster.member_spis(1)), (keys.clone(), keys.clone()));
    assert_eq!((cluster.listed(0), cluster.listed(1)), (2, 2), "the list is the cluster's");
    let servers: Vec<_> =
        (0..2).map(|member| cluster.members[member].ike_security_associations(cluster.now)).collect();
    assert_ne!(servers[0][0].remote_address, servers[1][0].remote_address);

    // The successor comes by push, to the member of the follower too, and both acknowledge.
    cluster.run(3600);
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(0));
        assert_eq!((cluster.refused_pushes(member), cluster.pulls(member)), (0, 1));
    }
    assert_eq!(cluster.spis(0), cluster.spis(1));
    let statistics = cluster.server(1).statistics(cluster.now).swap_remove(0);
    assert_eq!((statistics.pull_succeeded, statistics.push_acknowledged), (2, 2), "{statistics:?}");
    assert!(cluster.pushes.iter().all(|(server, _)| *server == 0));
}

#[test]
fn a_registration_at_a_follower_right_after_a_rekey_gives_the_new_key() {
    for push in [None, Some(unicast())] {
        let settings = settings(1, push);
        let mut cluster = Cluster::new(2, 1, &settings);
        cluster.nodes[0].as_mut().unwrap().server.handle_timeout(cluster.now);
        cluster.run(3300);
        // Member 0 prefers server 0, which is not to be reached now.
        let before = cluster.spis(1);
        cluster.run(seconds(3600 - 3300 - 60).as_secs());
        assert_eq!(cluster.spis(0), cluster.spis(1));
        assert!(cluster.spis(1).iter().any(|spi| !before.contains(spi)) || before.len() == 2);
        let node = cluster.nodes[0].take();
        cluster.up(0);
        cluster.run(60);
        assert_eq!(cluster.member_spis(0), cluster.spis(1));
        cluster.nodes[0] = node;
    }
}

#[test]
fn a_follower_makes_no_keys_even_when_they_are_due_and_the_next_leader_goes_on_at_once() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    cluster.run(100);
    let (keys, kek) = (cluster.spis(1), cluster.kek(1));
    // The leader dies and nobody is elected for long.
    cluster.nodes[0] = None;
    cluster.leader = None;
    cluster.run(3400);
    assert_eq!(cluster.spis(1), keys);
    assert_eq!(cluster.kek(1), kek);
    cluster.elect(1);
    assert_eq!(cluster.kek(1).0, kek.0, "the KEK goes on");
    let sequence = cluster.kek(1).1;
    assert!(sequence > kek.1, "the push left under the next number");
    assert_eq!(cluster.spis(1).len(), 2);
    cluster.run(200);
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(1));
        assert_eq!(cluster.refused_pushes(member), 0);
    }
}

#[test]
fn sequence_numbers_go_on_from_leader_to_leader_and_no_push_is_refused() {
    let mut push = unicast();
    push.heartbeat = Some(seconds(60));
    let settings = settings(2, Some(push));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    let kek = cluster.kek(0).0;
    let mut last = 0;
    for round in 0..20 {
        cluster.run(61);
        let (spi, sequence) = cluster.kek(round % 2);
        assert_eq!(spi, kek);
        assert!(sequence > last, "{sequence} after {last}");
        assert_eq!(cluster.kek(1 - round % 2).1, sequence, "the other can tell it");
        last = sequence;
        // The one that leads starts anew, and the other goes on.
        cluster.nodes[round % 2] = None;
        cluster.elect((round + 1) % 2);
        cluster.start(round % 2, &settings);
    }
    for member in 0..2 {
        assert_eq!((cluster.refused_pushes(member), cluster.pulls(member)), (0, 1));
    }
    assert_eq!((cluster.listed(0), cluster.listed(1)), (2, 2));
    let distinct: BTreeSet<_> = cluster.pushes.iter().map(|(_, octets)| octets).collect();
    assert!(distinct.len() >= 20);
}

#[test]
fn what_a_leader_made_that_was_replaced_is_forgotten_and_leaves_it_never() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    cluster.run(100);
    // Server 0 sleeps; server 1 is elected, and evicts.
    let mut frozen = cluster.nodes[0].take();
    cluster.elect(1);
    cluster.act(1, |server, now| server.evict(now, None, Eviction::Graceful)).unwrap();
    cluster.run(200);
    let (keys, pushes) = (cluster.spis(1), cluster.pushes.len());
    // It wakes and does what it thinks is due, before it hears anything.
    let node = frozen.as_mut().unwrap();
    node.server.evict(cluster.now, None, Eviction::Graceful).unwrap();
    node.server.handle_timeout(cluster.now);
    assert_ne!(
        node.server.ipsec_security_associations(cluster.now),
        cluster.server(1).ipsec_security_associations(cluster.now)
    );
    cluster.nodes[0] = frozen;
    cluster.settle();
    assert!(cluster.nodes[0].as_ref().unwrap().dropped > 0, "it had something to send");
    assert_eq!(cluster.pushes.len(), pushes, "and it did not leave");
    assert_eq!(cluster.server(0).standing(), Standing::Following);
    assert_eq!((cluster.spis(0), cluster.spis(1)), (keys.clone(), keys));
    cluster.run(60);
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(1));
    }
}

#[test]
fn a_server_that_is_cut_off_gives_what_it_has_until_it_ends_and_tells_the_rest_later() {
    for push in [None, Some(unicast())] {
        let settings = settings(2, push.clone());
        let mut cluster = Cluster::new(2, 2, &settings);
        cluster.up(0);
        let keys = cluster.spis(1);
        cluster.cut_off(1);
        cluster.up(1);
        assert_eq!(cluster.member_spis(1), keys, "registered at the server that is cut off");
        assert_eq!((cluster.listed(0), cluster.listed(1)), (1, 2));
        cluster.run(600);
        cluster.reconnect(1);
        assert_eq!((cluster.listed(0), cluster.listed(1)), (2, 2));
        cluster.run(2900);
        assert_eq!(cluster.member_spis(1), cluster.spis(0));
        if push.is_some() {
            assert_eq!(cluster.pulls(1), 1, "it was pushed to");
        }
        // Cut off for longer than its keys live, it has none, and makes none.
        cluster.cut_off(1);
        cluster.run(7300);
        assert!(cluster.spis(1).is_empty());
        assert_eq!(cluster.member_spis(1), cluster.spis(0), "it went to the other server");
    }
}

#[test]
fn sender_ids_are_given_once_whoever_gives_them() {
    for push in [None, Some(unicast())] {
        let mut settings = settings(6, push);
        for bits in [8, 16] {
            settings.groups[0].sender_id_bits = bits;
            settings.groups[0].ipsec_sas[0].suite = EspSuite::Gcm { key: GcmKeyLen::Bits128 };
            let mut cluster = Cluster::new(3, 6, &settings);
            (0..6).for_each(|member| cluster.up(member));
            for round in 0..6 {
                let leader = round % 3;
                cluster.elect(leader);
                cluster.run(20);
                for member in 0..6 {
                    cluster.members[member].reregister(cluster.now, "vpn-1");
                    cluster.settle();
                }
                cluster.run(20);
                // A server of another name now: what it had left is given by nobody.
                cluster.nodes[leader] = None;
                cluster.elect((leader + 1) % 3);
                cluster.start(leader, &settings);
            }
            let given = cluster.sender_ids.len();
            let distinct: BTreeSet<_> = cluster.sender_ids.iter().collect();
            let restarted = cluster.member_spis(0);
            assert!(given > 6 * 4, "{given}");
            // With 8 bits the group may have had to start over, which gives them again with other keys.
            if bits == 16 {
                assert_eq!(distinct.len(), given, "{restarted:x?}");
            }
        }
    }
}

#[test]
fn what_a_server_kept_while_it_was_alone_is_what_all_go_on_with() {
    for push in [None, Some(unicast())] {
        let settings = settings(2, push.clone());
        let mut cluster = Cluster::new(2, 2, &settings);
        // One server that shares nothing: what the harness keeps is its file.
        cluster.records.clear();
        cluster.nodes[1] = None;
        let alone = Server::new(cluster.now, settings.clone(), Box::new(SeededRandom::new(99)));
        cluster.nodes[0].as_mut().unwrap().server = alone;
        cluster.up(0);
        cluster.up(1);
        cluster.run(3560);
        let keys = cluster.spis(0);
        let kek = push.is_some().then(|| cluster.kek(0));
        assert_eq!((cluster.member_spis(0), cluster.member_spis(1)), (keys.clone(), keys.clone()));
        let file = cluster.records();
        let pulls = [cluster.pulls(0), cluster.pulls(1)];

        cluster.records.clear();
        cluster.leader = None;
        cluster.start(0, &settings);
        cluster.start(1, &settings);
        assert!(cluster.spis(0).is_empty() && cluster.spis(1).is_empty());
        assert!(Server::understand(&settings, &file).is_ok());
        cluster.leader = Some(0);
        cluster.act(0, |server, now| server.adopt(now, &file)).unwrap();
        assert_eq!((cluster.spis(0), cluster.spis(1)), (keys.clone(), keys));
        assert_eq!((cluster.listed(0), cluster.listed(1)), (2, 2), "its members are the cluster's");
        if let Some((spi, sequence)) = kek {
            assert_eq!(cluster.kek(1).0, spi);
            assert!(cluster.kek(1).1 >= sequence, "{:?} after {sequence}", cluster.kek(1));
        }
        cluster.run(1000);
        cluster.nodes[0] = None;
        cluster.elect(1);
        cluster.run(3000);
        for (member, pulls) in pulls.into_iter().enumerate() {
            assert_eq!(cluster.member_spis(member), cluster.spis(1));
            if push.is_some() {
                assert_eq!((cluster.refused_pushes(member), cluster.pulls(member)), (0, pulls));
            }
        }
    }
}

#[test]
fn a_leader_of_other_settings_takes_them_for_a_commit_and_keeps_the_key_that_signs() {
    let settings = settings(2, Some(unicast()));
    let mut cluster = Cluster::new(2, 2, &settings);
    cluster.up(0);
    cluster.up(1);
    let kek = cluster.kek(0).0;
    // Another key pair, as each server has its own.
    let mut other = settings.clone();
    let kind = crypto::signature::SigningKeyKind::EcdsaP256;
    other.groups[0].push.as_mut().unwrap().signing_key =
        crypto::signature::SigningKey::generate(kind).unwrap();
    cluster.nodes[0] = None;
    cluster.start(1, &other);
    cluster.elect(1);
    cluster.act(1, |server, now| server.configure(now, other.clone()));
    assert_eq!(cluster.kek(1).0, kek);
    other.groups[0].ipsec_sas[0].policies = vec![policy(2)];
    cluster.act(1, |server, now| server.configure(now, other.clone()));
    cluster.run(60);
    assert_eq!(cluster.kek(1).0, kek);
    assert_eq!(cluster.spis(1).len(), 2);
    for member in 0..2 {
        assert_eq!(cluster.member_spis(member), cluster.spis(1));
        assert_eq!((cluster.refused_pushes(member), cluster.pulls(member)), (0, 1));
    }
}
