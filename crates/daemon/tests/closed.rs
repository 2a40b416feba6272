//! The interfaces stay closed: before registration, without keys, after a crash; and open again when all is detached.

mod network;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant as Clock;

use daemon::datapath::{DataPath, Options, Publication, StopBehaviour, detach_all};
use daemon::netlink::Links;
use dataplane::{
    AddressPair, Binding, Counters, DefaultPolicy, DfBit, InterfaceId, Policy, Registration, Selector,
    Tables, TablesBuilder, Vpn,
};
use network::{Capture, Network, Resident, privileged};

const ICMP: u8 = 1;

/// A VPN on `wan` with one policy between 10.1.0.0/24 and 10.2.0.0/24 that has no key.
fn keyless(registration: Registration, exclude: &[AddressPair]) -> impl Fn(&Links) -> Arc<Tables> + use<> {
    let exclude = exclude.to_vec();
    move |links| {
        let selector = Selector::between("10.1.0.0/24".parse().unwrap(), "10.2.0.0/24".parse().unwrap());
        let mut builder = TablesBuilder::new();
        let interfaces: Vec<InterfaceId> =
            links.by_name("wan").map(|link| InterfaceId(link.index)).into_iter().collect();
        for id in &interfaces {
            builder.interface(*id, 1500);
        }
        builder.default_policy(DefaultPolicy::PermitAll).local_addresses(links.local_addresses());
        builder.vpn(Vpn {
            name: "test".into(),
            interfaces,
            binding: Binding::Zone,
            registration,
            df_bit: DfBit::Clear,
            tunnel_mtu: None,
            policies: vec![Policy { selector, sas: Vec::new(), drop_clear_from: dataplane::Instant::ZERO }],
            exclude: exclude.clone(),
            fail_open: Vec::new(),
            counters: Arc::<Counters>::default(),
        });
        Arc::new(builder.build())
    }
}

fn publish(datapath: &mut DataPath, tables: &impl Fn(&Links) -> Arc<Tables>) {
    let links = Links::read().unwrap();
    let errors = datapath.publish(Publication { tables: &tables(&links), links: &links, peers: &[] });
    assert!(errors.is_empty(), "{errors:?}");
}

fn gateway(
    network: &Network,
    node: &str,
    tables: impl Fn(&Links) -> Arc<Tables> + Send + 'static,
) -> Resident<DataPath> {
    network.resident(node, move || {
        let mut datapath = DataPath::start(Options { clock_origin: Clock::now() }).expect("can start");
        publish(&mut datapath, &tables);
        datapath
    })
}

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

#[test]
fn nothing_leaks_before_registration_and_the_router_keeps_its_links() {
    if !privileged("nothing_leaks_before_registration_and_the_router_keeps_its_links") {
        return;
    }
    let network = Network::new();
    let mut capture = Capture::start(&network, "core");
    assert!(network.pings("ha", "10.2.0.2"), "the network is in order");
    assert_ne!(leaks(&mut capture, "10.1.0.2", "10.2.0.2"), 0, "the capture sees a leak");

    let gateway = gateway(&network, "ga", keyless(Registration::NotYet, &[]));
    assert!(!network.pings("ha", "10.2.0.2"));
    assert!(!network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "policies are not known: all forwarded is dropped");
    assert!(!network.pings("ga", "-I 10.1.0.1 10.2.0.2"), "own, and of the last known policy");
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
    let gateway = gateway(&network, "ga", keyless(Registration::Registered, &[exclude]));
    assert!(!network.pings("ha", "10.2.0.2"));
    assert!(!network.pings("hb", "10.1.0.2"), "clear from outside is not let in");
    assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "permit-all");
    assert!(network.pings("ha", "-I 10.1.0.2 10.2.0.1"), "excluded");
    assert_eq!(leaks(&mut capture, "10.1.0.2", "10.2.0.2"), 2, "hb's own request, arriving and leaving");

    gateway.take(|datapath| datapath.stop(StopBehaviour::Closed).unwrap());
    assert!(!network.pings("ha", "10.2.0.2"), "stopped, and closed");
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
    let gateway = gateway(&network, "ga", keyless(Registration::Registered, &[]));
    assert!(leftovers(&network, "ga").contains("gvpn_egress"), "the search finds what is there");
    drop(gateway);
    assert!(!network.pings("ha", "10.2.0.2"));
    assert_eq!(network.inside("ga", || detach_all().unwrap()).join().unwrap(), ["wan"]);
    assert!(network.pings("ha", "10.2.0.2"));
    assert_eq!(leftovers(&network, "ga"), "");
    assert!(network.inside("ga", || detach_all().unwrap()).join().unwrap().is_empty());
}

#[test]
fn an_orderly_stop_with_detach_leaves_nothing() {
    if !privileged("an_orderly_stop_with_detach_leaves_nothing") {
        return;
    }
    let network = Network::new();
    let gateway = gateway(&network, "ga", keyless(Registration::Registered, &[]));
    gateway.take(|datapath| datapath.stop(StopBehaviour::Detach).unwrap());
    assert_eq!(leftovers(&network, "ga"), "");
    assert!(network.pings("ha", "10.2.0.2"));
}

#[test]
fn a_successor_takes_over_and_frees_interfaces_that_are_external_no_longer() {
    if !privileged("a_successor_takes_over_and_frees_interfaces_that_are_external_no_longer") {
        return;
    }
    let network = Network::new();
    drop(gateway(&network, "ga", keyless(Registration::NotYet, &[])));
    let second = gateway(&network, "ga", keyless(Registration::Registered, &[]));
    assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"), "the second's rules hold");
    assert!(!network.pings("ha", "10.2.0.2"));
    drop(second);
    let third = gateway(&network, "ga", |_| Arc::new(TablesBuilder::new().build()));
    assert!(network.pings("ha", "10.2.0.2"));
    assert_eq!(leftovers(&network, "ga"), "");
    drop(third);
}

#[test]
fn an_interface_that_is_made_again_is_closed_again() {
    if !privileged("an_interface_that_is_made_again_is_closed_again") {
        return;
    }
    let network = Network::new();
    let gateway = gateway(&network, "ga", keyless(Registration::Registered, &[]));
    network.ip("ga", "link del wan");
    let tables = keyless(Registration::Registered, &[]);
    gateway.with(move |datapath| publish(datapath, &tables));
    assert_eq!(leftovers(&network, "ga"), "");
    network.link("ga", "wan", "12.1.1.1/30", "core", "to-a", "12.1.1.2/30");
    network.ip("ga", "route add default via 12.1.1.2");
    network.ip("core", "route add 10.1.0.0/24 via 12.1.1.1");
    network.ip("core", "route add 20.1.0.0/24 via 12.1.1.1");
    let tables = keyless(Registration::Registered, &[]);
    gateway.with(move |datapath| publish(datapath, &tables));
    assert!(network.pings("ha", "-I 20.1.0.2 20.2.0.2"));
    assert!(!network.pings("ha", "10.2.0.2"));
    drop(gateway);
}
