//! Several lanes serve one interface: packets are spread over them, and all of two hosts go by the same one.

mod gateway;
mod network;

use std::collections::BTreeSet;

use daemon::clock::Clock;
use daemon::datapath::Options;
use dataplane::{Instant, Session};
use gateway::{Running, Vpn, gateway_by};
use network::{Network, privileged};

const LANES: u16 = 4;
/// Hosts that host a plays.
const HOSTS: u8 = 20;

fn gateways(network: &Network, clock: Clock, lanes: u16) -> [Running; 2] {
    let options = Options { lanes, ..Options::at(clock) };
    ["ga", "gb"].map(|node| gateway_by(network, node, options, Vpn::keyed().tables()))
}

fn sessions(gateway: &Running, clock: Clock) -> Vec<Session> {
    gateway.with(move |datapath| datapath.sessions(Instant::from_micros(clock.now().as_micros())))
}

#[test]
fn two_hosts_keep_to_one_lane_both_ways_and_many_use_all() {
    if !privileged("two_hosts_keep_to_one_lane_both_ways_and_many_use_all") {
        return;
    }
    let network = Network::new();
    let clock = Clock::start();
    let gateways = gateways(&network, clock, LANES);
    for host in 0..HOSTS {
        let address = format!("10.1.0.{}", 100 + host);
        network.run("ha", &["ip", "address", "add", &format!("{address}/24"), "dev", "lan"]);
        assert!(network.pings("ha", &format!("-I {address} -c 3 -i 0.01 10.2.0.2")), "{address}");
        assert!(network.pings("ha", &format!("-I {address} -c 3 -i 0.01 -s 4000 10.2.0.2")), "{address}");
    }
    for gateway in &gateways {
        let sessions = sessions(gateway, clock);
        let numbers: BTreeSet<u64> = sessions.iter().map(|session| session.number).collect();
        assert_eq!(numbers.len(), sessions.len(), "numbers are unique over the lanes");
        let mut used = BTreeSet::new();
        for host in 0..HOSTS {
            let address = format!("10.1.0.{}", 100 + host).parse::<std::net::IpAddr>().expect("an address");
            let of_host = |session: &&Session| session.source == address || session.destination == address;
            let of_host: Vec<&Session> = sessions.iter().filter(of_host).collect();
            let lanes: BTreeSet<u64> =
                of_host.iter().map(|session| session.number % u64::from(LANES)).collect();
            assert_eq!(lanes.len(), 1, "{address} goes by one lane, fragments too: {of_host:?}");
            used.extend(lanes);
            assert!(
                of_host.iter().all(|session| session.forward.packets > 0 && session.backward.packets > 0),
                "both directions are of the same session: {of_host:?}"
            );
        }
        assert_eq!(used.len(), usize::from(LANES), "every lane has some of {HOSTS} hosts");
    }
}

#[test]
fn a_data_path_of_one_lane_works_like_one_of_many() {
    if !privileged("a_data_path_of_one_lane_works_like_one_of_many") {
        return;
    }
    let network = Network::new();
    let gateways = gateways(&network, Clock::start(), 1);
    assert!(network.pings("ha", "10.2.0.2"));
    assert!(network.pings("ha", "-s 4000 10.2.0.2"));
    assert!(network.pings("ha", "-f -c 300 10.2.0.2"));
    // What a ring holds that nobody empties, and what comes after it, is dropped.
    drop(gateways);
    assert!(network.is_closed("ha", "-c 2 -i 0.2 10.2.0.2"));
}

#[test]
fn a_lane_that_was_called_in_vain_is_called_again() {
    if !privileged("a_lane_that_was_called_in_vain_is_called_again") {
        return;
    }
    let network = Network::new();
    let _gateways = gateways(&network, Clock::start(), 1);
    assert!(network.pings("ha", "10.2.0.2"));
    // What wakes a lane goes by the TAP, and is lost where that is down.
    network.run("gb", &["ip", "link", "set", "gvpn-wan", "down"]);
    assert!(!network.pings("ha", "-c 3 -i 0.05 -W 1 10.2.0.2"));
    network.run("gb", &["ip", "link", "set", "gvpn-wan", "up"]);
    assert!(network.pings("ha", "-c 2 -i 0.1 -W 1 10.2.0.2"));
}
