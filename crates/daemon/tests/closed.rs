//! The interfaces stay closed: before registration, without keys, after a crash; and open again when all is detached.

mod gateway;
mod network;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::datapath::{StopBehaviour, detach_abandoned, detach_all};
use dataplane::{AddressPair, TablesBuilder};
use gateway::{Vpn, gateway, publish};
use network::{Capture, Network, privileged};

const ICMP: u8 = 1;

/// Pings that cross the core in clear.
fn leaks(capture: &mut Capture, from: &str, to: &str) -> usize {
    let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
    let packets = capture.packets();
    packets
        .iter()
        .filter(|(source, destination, protocol)| {
            *protocol == ICMP
                && ((IpAddr::from(*source), IpAddr::from(*destination)) == (from, to)
                    || (IpAddr::from(*source), IpAddr::from(*destination)) == (to, from))
        })
        .count()
}

/// Everything of ours that `tc` and `ip` show in a node.
fn leftovers(network: &Network, node: &str) -> String {
    let mut found = String::new();
    for hook in ["ingress", "egress"] {
        for device in ["wan", "lan"] {
            let filters = network.command(node, &["tc", "filter", "show", "dev", device, hook]).output();
            found.push_str(&String::from_utf8_lossy(&filters.unwrap().stdout));
        }
    }
    let qdiscs = network.run(node, &["tc", "qdisc", "show"]);
    found.extend(qdiscs.lines().filter(|line| line.contains("clsact")));
    let links = network.ip(node, "-o link show");
    found.extend(links.lines().filter(|line| line.contains("gvpn-")));
    found
}

/// Nothing of ours is left. Looks again for a moment: a program that another test starts has a copy of our open files until it
/// has really begun, and a TAP goes with the last of them.
fn assert_nothing_left(network: &Network, node: &str) {
    let mut found = leftovers(network, node);
    for _ in 0..20 {
        if found.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
        found = leftovers(network, node);
    }
    panic!("left: {found}");
}

#[test]
fn nothing_leaks_before_registration_and_the_router_keeps_its_links() {
    if !privileged("nothing_leaks_before_registration_and_the_router_keeps_its_links") {
        return;
    }
    let network = Network::new();
    let mut capture = Capture::start(&network, "core");
    assert!(network.pings("ha", "10.2.0.2"), "the network is in order");
    assert_ne!(leaks(&mut capture, "10.1.0.2", "10.2.0.2"), 0, "the capture sees a leak");

    let gateway = gateway(&network, "ga", Vpn::unregistered().tables());
    assert!(network.is_closed("ha", "10.2.0.2"));
    assert!(
        network.is_closed("ha", "-I 20.1.0.2 20.2.0.2"),
        "policies are not known: all forwarded is dropped"
    );
    assert!(network.is_closed("ga", "-I 10.1.0.1 10.2.0.2"), "own, and of the last known policy");
    assert_eq!(leaks(&mut capture, "10.1.0.2", "10.2.0.2"), 0);
    assert_eq!(leaks(&mut capture, "20.1.0.2", "20.2.0.2"), 0);
    assert_eq!(leaks(&mut capture, "10.1.0.1", "10.2.0.2"), 0);

    network.ip("ga", "neigh flush all");
    assert!(network.pings("ga", "12.1.1.2"), "the neighbour");
    assert!(network.pings("ga", "12.1.2.1"), "own, of no policy");
    drop(gateway);
}

#[test]
fn a_registered_gateway_without_keys_closes_its_policies_only() {
    if !privileged("a_registered_gateway_without_keys_closes_its_policies_only") {
        return;
    }
    let network = Network::new();
    let exclude =
        AddressPair { source: "10.1.0.2/32".parse().unwrap(), destination: "10.2.0.1/32".parse().unwrap() };
    let mut capture = Capture::start(&network, "core");
    let gateway = gateway(&network, "ga", Vpn::keyless().excluding(exclude).tables());
    assert!(network.is_closed("ha", "10.2.0.2"));
    assert!(network.is_closed("hb", "10.1.0.2"), "clear from outside is not let in");
    assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "permit-all");
    assert!(network.pings("ha", "-I 10.1.0.2 10.2.0.1"), "excluded");
    assert_eq!(leaks(&mut capture, "10.1.0.2", "10.2.0.2"), 2, "hb's own request, arriving and leaving");

    gateway.take(|datapath| datapath.stop(StopBehaviour::Closed).unwrap());
    assert!(network.is_closed("ha", "10.2.0.2"), "stopped, and closed");
    assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "the rest goes on");
    assert!(network.pings("ha", "-I 10.1.0.2 10.2.0.1"), "excluded");
    assert!(network.pings("ga", "12.1.2.1"), "own, of no policy");
    assert_eq!(leaks(&mut capture, "10.1.0.2", "10.2.0.2"), 0);
}

#[test]
fn detaching_without_a_daemon_leaves_nothing() {
    if !privileged("detaching_without_a_daemon_leaves_nothing") {
        return;
    }
    let network = Network::new();
    let gateway = gateway(&network, "ga", Vpn::keyless().tables());
    assert!(leftovers(&network, "ga").contains("gvpn_egress"), "the search finds what is there");
    let abandoned = || network.inside("ga", || detach_abandoned().unwrap()).join().unwrap();
    assert!(abandoned().is_empty(), "the daemon lives");
    drop(gateway);
    assert!(network.is_closed("ha", "10.2.0.2"));
    drop(self::gateway(&network, "ga", Vpn::keyless().tables()));
    assert_eq!(abandoned(), ["wan"]);
    drop(self::gateway(&network, "ga", Vpn::keyless().tables()));
    assert_eq!(network.inside("ga", || detach_all().unwrap()).join().unwrap(), ["wan"]);
    assert!(network.pings("ha", "10.2.0.2"));
    assert_nothing_left(&network, "ga");
    assert!(network.inside("ga", || detach_all().unwrap()).join().unwrap().is_empty());
}

#[test]
fn an_orderly_stop_with_detach_leaves_nothing() {
    if !privileged("an_orderly_stop_with_detach_leaves_nothing") {
        return;
    }
    let network = Network::new();
    let gateway = gateway(&network, "ga", Vpn::keyless().tables());
    gateway.take(|datapath| datapath.stop(StopBehaviour::Detach).unwrap());
    assert_nothing_left(&network, "ga");
    assert!(network.pings("ha", "10.2.0.2"));
}

#[test]
fn a_successor_takes_over_and_frees_interfaces_that_are_external_no_longer() {
    if !privileged("a_successor_takes_over_and_frees_interfaces_that_are_external_no_longer") {
        return;
    }
    let network = Network::new();
    drop(gateway(&network, "ga", Vpn::unregistered().tables()));
    let second = gateway(&network, "ga", Vpn::keyless().tables());
    assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "the second's rules hold");
    assert!(network.is_closed("ha", "10.2.0.2"));
    drop(second);
    let third = gateway(&network, "ga", |_| Arc::new(TablesBuilder::new().build()));
    assert!(network.pings("ha", "10.2.0.2"));
    assert_nothing_left(&network, "ga");
    drop(third);
}

#[test]
fn an_interface_that_is_made_again_is_closed_again() {
    if !privileged("an_interface_that_is_made_again_is_closed_again") {
        return;
    }
    let network = Network::new();
    let gateway = gateway(&network, "ga", Vpn::keyless().tables());
    network.ip("ga", "link del wan");
    let tables = Vpn::keyless().tables();
    gateway.with(move |datapath| publish(datapath, &tables));
    assert_nothing_left(&network, "ga");
    network.link("ga", "wan", "12.1.1.1/30", "core", "to-a", "12.1.1.2/30");
    network.ip("ga", "route add default via 12.1.1.2");
    network.ip("core", "route add 10.1.0.0/24 via 12.1.1.1");
    network.ip("core", "route add 20.1.0.0/24 via 12.1.1.1");
    let tables = Vpn::keyless().tables();
    gateway.with(move |datapath| publish(datapath, &tables));
    assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"));
    assert!(network.is_closed("ha", "10.2.0.2"));
    drop(gateway);
}
