//! Asking again: silence of the server, ESP under an unknown key, clearing.

use std::net::IpAddr;
use std::time::Duration;

use proto::Role;
use proto::member::Phase;
use proto::phase1::Peer;
use proto::time::Instant;

use super::scripted::*;
use crate::world::*;

fn with_heartbeat(threshold: u32) -> Scripted {
    let mut scripted = Scripted::new(true, |settings| settings.vpns[0].heartbeat_threshold = threshold);
    let kek = Rekey { heartbeat: Some(60), ..scripted.rekey(1, 3600) };
    let tek = Tek::new(0x1000, scripted.after(3600), &[1]);
    scripted.register(Some(kek), Some(0), &[tek]);
    scripted
}

#[test]
fn a_member_that_misses_so_many_signs_of_life_registers_again() {
    for threshold in [1_u32, 3, 10] {
        let mut scripted = with_heartbeat(threshold);
        scripted.run(secs(50));
        scripted.push(1, 1, &Push::default());
        let asked = scripted.asks_within(secs(3000)).unwrap();
        let silence = secs(60) * threshold;
        assert!((silence..=silence + SPREAD).contains(&asked), "{threshold}: {asked:?}");
    }
    let mut deaf = with_heartbeat(0);
    assert_eq!(deaf.asks_within(secs(3000)), None);
    // A KEK that comes by push takes the interval over, as it takes over the configured life.
    let mut scripted = with_heartbeat(3);
    let successor = Push { kek: Some(scripted.rekey(2, 3600)), ..Push::default() };
    scripted.push(1, 1, &successor);
    let asked = scripted.asks_within(secs(3000)).unwrap();
    assert!(asked >= secs(180) && asked <= secs(190), "{asked:?}");
    // The registration tells that there is none any more.
    let (kek, tek) = (scripted.rekey(2, 3600), Tek::new(0x1000, scripted.after(3600), &[1]));
    scripted.register(Some(kek), Some(0), &[tek]);
    assert_eq!(scripted.asks_within(secs(3000)), None);
}

#[test]
fn signs_of_life_keep_a_member_quiet() {
    let mut scripted = with_heartbeat(3);
    for sequence in 1..40 {
        scripted.run(secs(60));
        scripted.push(1, sequence, &Push::default());
        assert_eq!(scripted.member.phase("vpn-1"), Some(Phase::Registered));
    }
}

#[test]
fn esp_under_an_unknown_key_makes_a_member_of_ours_ask_at_once_but_not_too_often() {
    let mut scripted = Scripted::ours().registered();
    scripted.member.unknown_spi(scripted.now, "vpn-1");
    let asked = scripted.asks_within(secs(1)).unwrap();
    assert!(asked <= secs(1));
    let (kek, tek) = (scripted.rekey(1, 3500), Tek::new(0x1000, scripted.after(3500), &[1]));
    scripted.register(Some(kek), Some(0), &[tek]);
    // It brought nothing. The flood goes on; probes become rarer.
    let mut probes = Vec::new();
    for _ in 0..1200 {
        scripted.run(Duration::from_millis(500));
        scripted.member.unknown_spi(scripted.now, "vpn-1");
        if !scripted.stranger.messages.is_empty() {
            probes.push(scripted.now);
            let (kek, tek) = (scripted.rekey(1, 3000), Tek::new(0x1000, scripted.after(2900), &[1]));
            scripted.register(Some(kek), Some(0), &[tek]);
        }
    }
    assert!((3..=6).contains(&probes.len()), "{probes:?}");
    assert_eq!(scripted.counters().recovery_probes as usize, probes.len() + 1);
}

#[test]
fn with_a_server_of_another_make_only_a_configured_probe_asks() {
    let mut scripted = Scripted::foreign().registered();
    scripted.member.unknown_spi(scripted.now, "vpn-1");
    assert_eq!(scripted.asks_within(secs(60)), None);
    let mut scripted = Scripted::new(false, |settings| settings.vpns[0].recovery_probe = true).registered();
    scripted.member.unknown_spi(scripted.now, "vpn-1");
    assert!(scripted.asks_within(secs(1)).is_some());
}

#[test]
fn four_servers_are_tried_three_times_each_round_and_round_while_keys_go_on() {
    let servers: Vec<IpAddr> = (0..4).map(|last| IpAddr::from([100, 0, 0, 100 + last])).collect();
    assert_eq!(servers[0], SERVER);
    let listed = servers.clone();
    let mut scripted = Scripted::new(true, |settings| {
        settings.gateways[0].phase1.peer = Peer::Addresses(listed);
    })
    .registered();
    // Until the window, and then nobody answers.
    let mut asked: Vec<(IpAddr, Instant)> = Vec::new();
    let mut buffer = Vec::new();
    let end = scripted.after(3599);
    while let Some(now) = scripted.member.poll_timeout().filter(|now| *now < end) {
        scripted.member.handle_timeout(now);
        while let Some(path) = scripted.member.poll_transmit(&mut buffer) {
            if asked.last().is_none_or(|(server, _)| *server != path.remote.ip()) {
                asked.push((path.remote.ip(), now));
            }
        }
        scripted.now = now;
    }
    assert_eq!(scripted.spis(), [0x1000], "it lives to its end");
    let round_and_round: Vec<IpAddr> = servers.iter().cycle().take(asked.len()).copied().collect();
    assert_eq!(asked.iter().map(|(server, _)| *server).collect::<Vec<_>>(), round_and_round);
    assert!(asked.len() >= 5, "{asked:?}");
    // All four within the allowance for fail-over: the window's late end leaves that much before the switch.
    assert!(asked[3].1 - asked[0].1 <= secs(120), "{asked:?}");
    assert!(scripted.counters().server_failover >= 4);
    assert_eq!(scripted.counters().pull_succeeded, 1);
}

#[test]
fn a_cleared_group_is_registered_anew() {
    let mut scripted = Scripted::ours().registered();
    assert_eq!(scripted.member.clear_group(scripted.now, Some("vpn-2")), 0);
    assert_eq!(scripted.member.clear_group(scripted.now, Some("vpn-1")), 1);
    assert_eq!((scripted.spis(), scripted.keks()), (vec![], vec![]));
    assert!(scripted.asks_within(secs(1)).is_some());
}
