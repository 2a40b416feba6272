//! Registration, undisturbed and with a network that loses, repeats and delays.

use std::cell::Cell;
use std::rc::Rc;

use proto::member::{Event, Phase, Removal};

use crate::world::*;

#[test]
fn a_member_registers_in_ten_messages() {
    let mut world = World::pair();
    world.up();
    world.run(seconds(1));
    assert_eq!(
        world.trace.join("\n"),
        "--> main (1)\n<-- main (2)\n--> main (3)\n<-- main (4)\n--> main (5)\n<-- main (6)\n\
         --> pull (1)\n<-- pull (2)\n--> pull (3)\n<-- pull (4)"
    );
    assert_eq!(world.registered(0), 1);
    assert_eq!(world.member_spis(0), world.server_spis());
    assert_eq!(world.statistics().pull_succeeded, 1);
    let sas = world.shown().ike_security_associations(world.now);
    let detail = sas[0].detail.as_ref().unwrap();
    assert_eq!((detail.input_packets, detail.output_packets), (2, 3), "counted from main (6) on");
    assert!(detail.input_bytes > 100 && detail.output_bytes > 200);
    assert_eq!(world.members[0].phase("vpn-1"), Some(Phase::Registered));
    let members = world.shown().registered_members(world.now);
    assert_eq!(members[0].members[0].gateway, "member-0");
    assert_eq!(members[0].members[0].address, member_address(0));
}

#[test]
fn the_first_registration_encrypts_at_once_with_the_servers_terms() {
    let mut world = World::pair();
    world.run(seconds(100));
    world.up();
    world.run(seconds(1));
    let (at, _, event) =
        world.member_events.iter().find(|(_, _, event)| matches!(event, Event::InstallSas { .. })).unwrap();
    let Event::InstallSas { vpn, sas, closed } = event else { unreachable!() };
    assert_eq!(&**vpn, "vpn-1");
    assert!(closed.is_empty());
    assert_eq!(sas.len(), 1);
    assert_eq!(sas[0].suite, SUITE);
    assert_eq!(*sas[0].selectors, [policy(1).selector]);
    assert!(sas[0].activate_at <= *at);
    let life = sas[0].hard_expiry - *at;
    assert!(life <= seconds(3500) && life > seconds(3498), "{life:?}");
    let soft = sas[0].hard_expiry - sas[0].soft_expiry;
    assert!((seconds(180)..=seconds(252)).contains(&soft), "{soft:?}");
    assert_eq!(sas[0].keys.cipher.len(), 16);
    assert_eq!(sas[0].keys.integrity.len(), 20);
}

#[test]
fn each_lost_message_is_made_good_by_a_repetition_with_the_same_bytes() {
    for label in
        ["pull (1)", "pull (2)", "pull (3)", "pull (4)", "main (1)", "main (4)", "main (5)", "main (6)"]
    {
        let lost = Rc::new(Cell::new(0));
        let count = Rc::clone(&lost);
        let mut world = World::pair().with_network(move |seen| {
            if seen.label == label && !seen.again {
                count.set(count.get() + 1);
                return Fate::Lose;
            }
            Fate::Deliver
        });
        world.up();
        world.run(seconds(9));
        assert_eq!(lost.get(), 1, "{label}");
        assert_eq!(world.registered(0), 1, "{label}: {:#?}", world.trace);
        assert_eq!(world.statistics().pull_succeeded, 1, "{label}");
        let again = world.trace.iter().filter(|line| line.contains("again")).count();
        assert!(again >= 1, "{label}: {:#?}", world.trace);
        assert_eq!(
            distinct(world.trace.iter().filter(|line| line.contains("pull") && !line.contains("again"))),
            4
        );
    }
}

#[test]
fn repeated_and_late_messages_change_nothing() {
    for fate in 0..3 {
        for label in ["pull (1)", "pull (2)", "pull (3)", "pull (4)"] {
            let mut world = World::pair().with_network(move |seen| match fate {
                0 if seen.label == label => Fate::Twice,
                1 if seen.label == label && !seen.again => Fate::Late(seconds(3)),
                2 => Fate::Twice,
                _ => Fate::Deliver,
            });
            world.up();
            world.run(seconds(9));
            assert_eq!(world.registered(0), 1, "{fate} {label}");
            assert_eq!(world.statistics().pull_succeeded, 1, "{fate} {label}");
            assert_eq!(world.statistics().pull_failed, 0, "{fate} {label}");
        }
    }
}

#[test]
fn a_third_of_all_datagrams_lost_delays_but_does_not_prevent() {
    for seed in 0_u64..20 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut world = World::pair().with_network(move |_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            if state.is_multiple_of(3) { Fate::Lose } else { Fate::Deliver }
        });
        world.up();
        assert!(
            world.run_until(seconds(300), |world| world.registered(0) == 1),
            "{seed}: {:#?}",
            world.trace
        );
    }
}

#[test]
fn the_member_registers_again_in_the_window_and_all_switch_together() {
    let mut world = World::new(
        server_settings(3, vec![group(GROUP, 1, &[policy(1)])]),
        (0..3).map(|index| member_settings(index, &[GROUP])).collect(),
    );
    let made = world.now;
    world.up();
    world.run(seconds(3240));
    assert_eq!(world.server_spis().len(), 2, "the successor is made with 360 s left");
    world.run(seconds(107));
    assert_eq!(
        (0..3).map(|member| world.registered(member)).sum::<usize>(),
        3,
        "nobody asks before 252 s are left"
    );
    world.run(seconds(75));
    assert!((0..3).all(|member| world.registered(member) == 2), "everybody has asked when 178 s are left");
    let activations: Vec<_> = (0..3)
        .map(|member| {
            let vpns = world.members[member].ipsec_security_associations(world.now);
            let successor = &vpns[0].security_associations[1];
            successor.detail.as_ref().unwrap().activation_in_secs + (world.now - made).as_secs()
        })
        .collect();
    assert!(activations.iter().all(|at| (3568..=3570).contains(at)), "{activations:?}");
    world.run(seconds(3600 - 3422 + 1));
    assert!((0..3).all(|member| world.member_spis(member) == world.server_spis()));
    assert_eq!(world.server_spis().len(), 1);
    let expired = world.member_events.iter().filter(|(_, _, event)| {
        matches!(event, Event::RemoveSas { reason: Removal::Expired, spis, .. } if spis.len() == 1)
    });
    assert_eq!(expired.count(), 3);
    // And so on.
    world.run(seconds(20_000));
    assert!((0..3).all(|member| world.member_spis(member) == world.server_spis()));
}

#[test]
fn the_registration_of_a_late_comer_delays_the_successor_only() {
    let mut world = World::pair();
    world.run(seconds(3300));
    world.up();
    world.run(seconds(1));
    let vpns = world.members[0].ipsec_security_associations(world.now);
    let sas = &vpns[0].security_associations;
    assert_eq!(sas.len(), 2);
    assert_eq!(sas[0].detail.as_ref().unwrap().activation_in_secs, 0);
    let delay = sas[1].detail.as_ref().unwrap().activation_in_secs;
    assert!((267..=270).contains(&delay), "{delay}");
    assert_eq!(sas[0].tunnel_id, sas[1].tunnel_id, "a successor keeps the number of its tunnel");
}

#[test]
fn an_interface_that_goes_down_clears_the_sas_and_up_again_registers() {
    let mut world = World::pair();
    world.up();
    world.run(seconds(1));
    let spis = world.member_spis(0);
    world.act(|world, now| world.members[0].interface_down(now, "vpn-1"));
    assert!(world.member_spis(0).is_empty());
    assert!(world.events_of(0).any(|event| {
        matches!(event, Event::RemoveSas { spis: gone, reason: Removal::InterfaceDown, .. } if *gone == spis)
    }));
    world.run(seconds(100));
    assert_eq!(world.registered(0), 1, "nothing is tried meanwhile");
    world.up();
    world.run(seconds(1));
    assert_eq!(world.registered(0), 2);
    assert_eq!(world.member_spis(0), spis);
}

#[test]
fn several_vpns_with_one_gateway_share_a_phase_1_sa() {
    let groups = || (1..=20).map(|id| group(id, 1, &[policy(id)])).collect();
    let ids: Vec<u32> = (1..=20).collect();
    let mut world = World::new(server_settings(1, groups()), vec![member_settings(0, &ids)]);
    world.up();
    world.run(seconds(2));
    assert_eq!(world.registered(0), 20);
    assert_eq!(world.trace.iter().filter(|line| line.contains("main (1)")).count(), 1);
    let associations = world.members[0].ike_security_associations(world.now);
    assert_eq!(associations.len(), 1);
    assert_eq!(associations[0].groups.len(), 20);
    assert_eq!(associations[0].detail.as_ref().unwrap().pulls_completed, 20);
    let associations = world.shown().ike_security_associations(world.now);
    assert_eq!(associations[0].detail.as_ref().unwrap().pulls_completed, 20);
}

#[test]
fn a_restarted_server_that_forgot_everything_is_registered_with_anew() {
    let mut world = World::pair();
    world.up();
    world.run(seconds(1));
    let before = world.member_spis(0);
    let settings = server_settings(1, vec![group(GROUP, 1, &[policy(1)])]);
    let now = world.now;
    world.server = Some(proto::server::Server::new(now, settings, Box::new(crypto::SeededRandom::new(77))));
    assert!(world.act(|world, now| world.members[0].reregister(now, "vpn-1")));
    world.run(seconds(30));
    assert_eq!(world.registered(0), 2, "{:#?}", world.trace);
    let after = world.member_spis(0);
    assert_eq!(after.len(), 2, "the old key lives on for receiving");
    assert!(after.contains(&before[0]));
    assert!(after.contains(&world.server_spis()[0]));
}

#[test]
fn a_silent_server_is_tried_three_times_and_then_the_next_one() {
    let second: std::net::IpAddr = "100.0.0.101".parse().unwrap();
    let mut world = World::new(
        server_settings(1, vec![group(GROUP, 1, &[policy(1)])]),
        vec![member_of_servers(0, &[GROUP], vec![second, SERVER])],
    );
    // Only the second of the list exists.
    let started = world.now;
    world.up();
    assert!(world.run_until(seconds(100), |world| world.registered(0) == 1), "{:#?}", world.failures(0));
    let passed = world.now - started;
    assert!((seconds(29)..seconds(34)).contains(&passed), "{passed:?}");
    assert_eq!(world.failures(0).len(), 1, "{:?}", world.failures(0));
    let vpns = world.members[0].ipsec_security_associations(world.now);
    assert_eq!(vpns[0].server, SERVER);
    assert_eq!(vpns[0].counters.server_failover, 1);
}

#[test]
fn keys_that_run_out_leave_the_member_trying_and_it_comes_back() {
    let mut world = World::pair();
    world.up();
    world.run(seconds(1));
    world.set_network(|_| Fate::Lose);
    world.run(seconds(3700));
    assert!(world.member_spis(0).is_empty());
    let inactive = world.members[0].inactive_tunnels(world.now);
    assert_eq!(inactive.len(), 1);
    assert!(inactive[0].reason.contains("last failure"), "{}", inactive[0].reason);
    world.set_network(|_| Fate::Deliver);
    world.run(seconds(45));
    assert_eq!(world.member_spis(0), world.server_spis());
    assert!(world.members[0].inactive_tunnels(world.now).is_empty());
}
