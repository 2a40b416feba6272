//! The typed model: what a configuration means, with names resolved and defaults applied.
//!
//! Objects compare by meaning: the [`Place`](crate::place::Place) each carries for messages never makes two differ,
//! and references are resolved, so a gateway whose proposal changed is a changed gateway.

pub mod algorithm;
pub mod ike;
pub mod interface;
pub mod member;
pub mod policy;
pub mod server;
pub mod trace;

pub use algorithm::*;
pub use ike::*;
pub use interface::*;
pub use member::*;
pub use policy::*;
pub use server::*;
pub use trace::*;

/// A whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// The key server, where this machine is one.
    pub server: Option<Server>,
    /// The member, where this machine is one.
    pub member: Option<Member>,
    /// Zones, in text order.
    pub zones: Vec<Zone>,
    /// Policies of all zone pairs, in look-up order.
    pub policies: Vec<Policy>,
    /// What happens to traffic between zones that no policy matches; `deny-all` where none is named.
    pub default_policy: DefaultPolicy,
    /// `dynamic-policy enable`: policies from a key server are used.
    pub dynamic_policy: bool,
    /// Bindings of VPNs to zone pairs without policies.
    pub ipsec_policies: Vec<IpsecPolicy>,
    /// Interfaces, in text order.
    pub interfaces: Vec<Interface>,
    /// Routing instances, in text order.
    pub routing_instances: Vec<RoutingInstance>,
    /// Service sets.
    pub service_sets: Vec<ServiceSet>,
    /// Service filters.
    pub service_filters: Vec<ServiceFilter>,
    /// `group-vpn test-lifetimes`: lifetimes that only tests may have are allowed.
    pub test_lifetimes: bool,
    /// Every `traceoptions`.
    pub trace_options: Vec<TraceOptions>,
}

/// An interface on which a VPN protects traffic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExternalInterface {
    /// As configured.
    pub name: InterfaceName,
    /// The Linux device.
    pub device: String,
}

impl Configuration {
    /// The Linux device behind an interface name: the unit's `linux-device`, the interface's, or the name itself.
    /// `None` where a name that cannot be a device's (`ge-0/0/1.0`) has no `linux-device`.
    pub fn linux_device(&self, name: &InterfaceName) -> Option<String> {
        if name.is_loopback() {
            return Some("lo".to_owned());
        }
        if let Some(interface) = self.interfaces.iter().find(|interface| interface.name == name.0)
            && let Some(device) = &interface.linux_device
        {
            return Some(device.clone());
        }
        let (physical, unit) = name.split();
        if let (Some(unit), Some(interface)) =
            (unit, self.interfaces.iter().find(|interface| interface.name == physical))
        {
            let of_unit = interface.units.iter().find(|candidate| candidate.number == unit);
            if let Some(device) = of_unit.and_then(|unit| unit.linux_device.clone()) {
                return Some(device);
            }
            if let Some(device) = &interface.linux_device {
                // Unit 0 is the untagged interface; another unit is its VLAN device by Linux custom.
                return Some(if unit == 0 { device.clone() } else { format!("{device}.{unit}") });
            }
        }
        (!name.0.contains('/')).then(|| name.0.clone())
    }

    /// The interfaces on which a VPN protects traffic: its external interface; where that is a loopback, every
    /// interface of the to-zones of the scope policies that name the VPN; with service sets, where they are applied.
    /// Interfaces without a device are left out (the checks refuse them).
    pub fn external_interfaces(&self, vpn: &Vpn) -> Vec<ExternalInterface> {
        let mut names: Vec<InterfaceName> = Vec::new();
        let mut add = |name: InterfaceName| {
            if !name.is_loopback() && !names.contains(&name) {
                names.push(name);
            }
        };
        match &vpn.external_interface {
            Some(name) if !name.is_loopback() => add(name.clone()),
            Some(_) => {
                for zone in self.protected_zones(&vpn.name) {
                    zone.interfaces.iter().cloned().for_each(&mut add);
                }
            }
            None => {
                let sets: Vec<&str> = self
                    .service_sets
                    .iter()
                    .filter(|set| set.vpn.as_deref() == Some(&vpn.name))
                    .map(|set| set.name.as_str())
                    .collect();
                for interface in &self.interfaces {
                    for unit in &interface.units {
                        let mut applied = unit.service_input.iter().chain(&unit.service_output);
                        if applied.any(|application| sets.contains(&application.service_set.as_str())) {
                            add(InterfaceName(format!("{}.{}", interface.name, unit.number)));
                        }
                    }
                }
            }
        }
        names
            .into_iter()
            .filter_map(|name| self.linux_device(&name).map(|device| ExternalInterface { name, device }))
            .collect()
    }

    /// The routing instance of an interface. `None`: the namespace in which the daemon was started.
    pub fn instance_of(&self, interface: &InterfaceName) -> Option<&str> {
        let instance = self.routing_instances.iter().find(|instance| instance.has(interface));
        instance.map(|instance| instance.name.as_str())
    }

    /// The routing instance in which a VPN protects traffic: that of its external interfaces, which are all in one.
    pub fn data_instance(&self, vpn: &Vpn) -> Option<&str> {
        self.external_interfaces(vpn).first().and_then(|interface| self.instance_of(&interface.name))
    }

    /// The network namespace of a routing instance, by its name under `/run/netns`.
    pub fn namespace_of<'a>(&'a self, instance: &'a str) -> &'a str {
        let known = self.routing_instances.iter().find(|known| known.name == instance);
        known.map_or(instance, |known| known.namespace.as_str())
    }

    /// Every routing instance that anything is in, without repetition.
    pub fn instances_in_use(&self) -> Vec<&str> {
        let members = self.member.iter();
        let of_members = members.clone().flat_map(|member| &member.gateways);
        let servers = self.server.iter();
        let of_servers = servers.clone().flat_map(|server| &server.gateways);
        let outgoing = servers.flat_map(|server| &server.groups).filter_map(|group| {
            let communication = group.communication.as_ref()?;
            self.instance_of(communication.multicast_outgoing_interface.as_ref()?)
        });
        let mut instances: Vec<&str> = of_members
            .filter_map(|gateway| gateway.routing_instance.as_deref())
            .chain(of_servers.filter_map(|gateway| gateway.routing_instance.as_deref()))
            .chain(members.flat_map(|member| &member.vpns).filter_map(|vpn| self.data_instance(vpn)))
            .chain(outgoing)
            .collect();
        instances.sort_unstable();
        instances.dedup();
        instances
    }

    /// The external zones of a VPN: the to-zones of the policies that tunnel into it. Scope policies come in pairs
    /// (trust to untrust and back), so of each pair one zone is inside: `untrust` is the outer one where it is
    /// concerned, else the to-zone of the policy that is written first.
    fn protected_zones(&self, vpn: &str) -> Vec<&Zone> {
        let mut outside: Vec<&str> = Vec::new();
        let mut inside: Vec<&str> = Vec::new();
        let scoped = self
            .policies
            .iter()
            .filter(|policy| policy.vpn() == Some(vpn))
            .map(|policy| (policy.from_zone.as_str(), policy.to_zone.as_str()));
        let bound = self
            .ipsec_policies
            .iter()
            .filter(|policy| policy.vpn == vpn)
            .map(|policy| (policy.from_zone.as_str(), policy.to_zone.as_str()));
        for (from, to) in scoped.chain(bound) {
            let (inner, outer) = if from == "untrust" { (to, from) } else { (from, to) };
            if !inside.contains(&outer) && !outside.contains(&outer) {
                outside.push(outer);
            }
            if !outside.contains(&inner) && !inside.contains(&inner) {
                inside.push(inner);
            }
        }
        self.zones.iter().filter(|zone| outside.contains(&zone.name.as_str())).collect()
    }

    /// The zone of an interface.
    pub fn zone_of(&self, name: &InterfaceName) -> Option<&Zone> {
        self.zones.iter().find(|zone| zone.interfaces.contains(name))
    }
}
