//! Interface names, the Linux devices behind them, and services applied to them.

use std::fmt;

use ipnet::IpNet;

use super::algorithm::words;
use crate::place::Place;

/// An interface as written: `ge-0/0/1.0`, `lo0.0`, or a Linux device name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(pub String);

impl InterfaceName {
    /// Whether this is the loopback.
    pub fn is_loopback(&self) -> bool {
        self.0 == "lo" || self.split().0 == "lo0"
    }

    /// Whether two names are of one logical interface: `ge-0/0/1` is `ge-0/0/1.0`.
    pub fn is_same(&self, other: &InterfaceName) -> bool {
        let unit = |(physical, unit): (_, Option<u32>)| (physical, unit.unwrap_or(0));
        unit(self.split()) == unit(other.split())
    }

    /// The physical part and the unit: `ge-0/0/1.0` is `ge-0/0/1` and 0.
    pub fn split(&self) -> (&str, Option<u32>) {
        match self.0.rsplit_once('.') {
            Some((device, unit)) => match unit.parse() {
                Ok(unit) => (device, Some(unit)),
                Err(_) => (&self.0, None),
            },
            None => (&self.0, None),
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `interfaces X`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, without a unit.
    pub name: String,
    /// `linux-device`: the device behind it.
    pub linux_device: Option<String>,
    /// Its units.
    pub units: Vec<Unit>,
    /// Where it was written.
    pub place: Place,
}

/// `interfaces X unit U`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit {
    /// Its number.
    pub number: u32,
    /// `linux-device` of the unit alone.
    pub linux_device: Option<String>,
    /// `family inet address`: the addresses, shown and checked; the kernel's own configuration sets them.
    pub addresses: Vec<IpNet>,
    /// `family inet service input`, in order.
    pub service_input: Vec<ServiceApplication>,
    /// `family inet service output`, in order.
    pub service_output: Vec<ServiceApplication>,
}

/// `service-set S [service-filter F]` on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceApplication {
    /// The service set.
    pub service_set: String,
    /// The filter that decides what goes to it.
    pub service_filter: Option<String>,
}

/// `services service-set S`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSet {
    /// Its name.
    pub name: String,
    /// `interface-service service-interface`.
    pub service_interface: Option<InterfaceName>,
    /// The VPN.
    pub vpn: Option<String>,
    /// Where it was written.
    pub place: Place,
}

/// `firewall family inet service-filter F`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFilter {
    /// Its name.
    pub name: String,
    /// Its terms, first match wins.
    pub terms: Vec<FilterTerm>,
    /// Where it was written.
    pub place: Place,
}

/// `term T { from { ... } then skip / service; }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterTerm {
    /// Its name.
    pub name: String,
    /// IP protocols; empty: any.
    pub protocols: Vec<u8>,
    /// Source prefixes; empty: any.
    pub sources: Vec<IpNet>,
    /// Destination prefixes; empty: any.
    pub destinations: Vec<IpNet>,
    /// What happens.
    pub action: FilterAction,
}

/// `routing-instances R`: a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoutingInstance {
    /// Its name.
    pub name: String,
    /// `linux-namespace`, or the name: the namespace as `ip netns` names it.
    pub namespace: String,
    /// The interfaces in it.
    pub interfaces: Vec<InterfaceName>,
    /// Where it was written.
    pub place: Place,
}

impl RoutingInstance {
    /// Whether an interface is in it.
    pub fn has(&self, interface: &InterfaceName) -> bool {
        self.interfaces.iter().any(|own| own.is_same(interface))
    }
}

words! {
    /// `then` of a service filter.
    FilterAction {
        /// Bypass the service set.
        Skip = "skip",
        /// Hand to the service set.
        Service = "service",
    }
}
