//! Rekey by multicast: by which interface and with which source address rekeys leave, and where members listen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;

use crate::instances::{Instance, InstanceId, Instances};
use crate::interfaces::Interfaces;
use crate::netlink::{Links, interface_towards};
use crate::sys::udp::{Membership, Source};

/// How a datagram to a group leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Local address and interface.
    pub source: Source,
    /// Whether the kernel loops a copy back: its multicast routing forwards only that to other interfaces.
    pub looped: bool,
}

/// Why a datagram to a group cannot leave.
#[derive(Debug, thiserror::Error)]
pub enum NoWayOut {
    /// The interface does not exist.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// A loopback lends its address, and it has none.
    #[error("{0} has no address but 127.0.0.0/8, which other machines cannot answer to")]
    NoAddress(String),
    /// A loopback stands for the route, and there is none.
    #[error("no route to {group}: {source}; add one, or run multicast routing on {device}")]
    NoRoute {
        /// The group.
        group: IpAddr,
        /// The loopback.
        device: String,
        /// What the kernel says.
        source: std::io::Error,
    },
}

/// Where a datagram to `group` leaves: by the interface itself. A loopback stands for its address as source, and for
/// where the multicast route points: the forwarding entries of a routing daemon that has the loopback among its
/// interfaces, else the kernel's route to the group.
pub fn outgoing(links: &Links, device: &str, group: IpAddr) -> Result<Outgoing, NoWayOut> {
    let link = links.by_name(device).ok_or_else(|| NoWayOut::NoInterface(device.to_owned()))?;
    if !link.loopback {
        let any = match group {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        return Ok(Outgoing { source: Source { address: any, interface: link.index }, looped: true });
    }
    let mut addresses = link.addresses.iter().map(|prefix| prefix.addr());
    let address = addresses
        .find(|address| address.is_ipv4() == group.is_ipv4() && !address.is_loopback())
        .ok_or_else(|| NoWayOut::NoAddress(device.to_owned()))?;
    if is_multicast_router(device, group) {
        // What is sent by the loopback comes back by it anyhow; a looped copy would be forwarded a second time.
        return Ok(Outgoing { source: Source { address, interface: link.index }, looped: false });
    }
    let interface = interface_towards(group).map_err(|source| NoWayOut::NoRoute {
        group,
        device: device.to_owned(),
        source,
    })?;
    Ok(Outgoing { source: Source { address, interface }, looped: true })
}

/// Whether a routing daemon forwards multicast that arrives by an interface.
fn is_multicast_router(device: &str, group: IpAddr) -> bool {
    let family = if group.is_ipv4() { "ipv4" } else { "ipv6" };
    fs::read_to_string(format!("/proc/sys/net/{family}/conf/{device}/mc_forwarding"))
        .is_ok_and(|value| value.trim() == "1")
}

/// The groups that the VPNs of the member listen to for rekeys.
#[derive(Clone, Debug, Default)]
pub struct Listening {
    /// By VPN and group, with the server that sends; two VPNs may have the same group.
    groups: BTreeMap<(String, IpAddr), IpAddr>,
}

impl Listening {
    /// A VPN has keys whose successors come by this group from a server.
    pub fn join(&mut self, vpn: &str, group: IpAddr, server: IpAddr) {
        self.groups.insert((vpn.to_owned(), group), server);
    }

    /// It has no more.
    pub fn leave(&mut self, vpn: &str, group: IpAddr) {
        self.groups.remove(&(vpn.to_owned(), group));
    }

    /// Keeps the VPNs that exist.
    pub fn retain(&mut self, exists: impl Fn(&str) -> bool) {
        self.groups.retain(|(vpn, _), _| exists(vpn));
    }

    /// The groups.
    pub fn groups(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.groups.keys().map(|(_, group)| *group)
    }

    /// Whether any VPN listens to a group.
    pub fn has(&self, group: IpAddr) -> bool {
        self.groups().any(|known| known == group)
    }

    /// Where they are to be joined: on every external interface of the VPN that exists, and on the one that leads to the
    /// server, which may be another. `control_instance` tells in which instance a VPN's servers are reached.
    pub fn memberships<'a>(
        &self,
        interfaces: &Interfaces,
        instances: &Instances,
        control_instance: impl Fn(&str) -> Option<&'a str>,
    ) -> BTreeSet<(InstanceId, Membership)> {
        let mut memberships = BTreeSet::new();
        for ((vpn, group), server) in &self.groups {
            let mut join = |instance: &Instance, interface| {
                memberships.insert((instance.id(), Membership { group: *group, interface }));
            };
            if let Some(instance) = instances.get(interfaces.instance(vpn)) {
                for link in interfaces.of_vpn(vpn, &instance.links()) {
                    join(instance, link.index);
                }
            }
            let Some(instance) = instances.get(control_instance(vpn)) else { continue };
            if let Ok(towards) = instance.namespace().within(|| interface_towards(*server)).flatten()
                && instance.links().by_index(towards).is_some_and(|link| !link.loopback)
            {
                join(instance, towards);
            }
        }
        memberships
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_used_as_it_is_and_a_loopback_lends_its_address() {
        let links = Links::read().unwrap();
        let group = "226.1.1.1".parse().unwrap();
        let error = outgoing(&links, "no-such-device", group).unwrap_err().to_string();
        assert_eq!(error, "there is no interface no-such-device");
        if let Some(link) = links.iter().find(|link| !link.loopback) {
            let outgoing = outgoing(&links, &link.name, group).unwrap();
            assert_eq!((outgoing.source.interface, outgoing.looped), (link.index, true));
            assert!(outgoing.source.address.is_unspecified());
        }
        let loopback = links.by_name("lo").unwrap();
        if loopback.addresses.iter().all(|prefix| prefix.addr().is_loopback()) {
            assert!(matches!(outgoing(&links, "lo", group), Err(NoWayOut::NoAddress(_))));
        }
    }

    #[test]
    fn a_group_is_listened_to_as_long_as_a_vpn_does() {
        let mut listening = Listening::default();
        let group: IpAddr = "226.1.1.1".parse().unwrap();
        let server: IpAddr = "10.0.0.1".parse().unwrap();
        listening.join("a", group, server);
        listening.join("b", group, server);
        listening.leave("a", group);
        assert!(listening.has(group));
        assert_eq!(listening.groups().collect::<Vec<_>>(), [group]);
        listening.retain(|vpn| vpn != "b");
        assert!(!listening.has(group));
    }
}
