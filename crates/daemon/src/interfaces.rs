//! External interfaces: names of the configuration, Linux devices, and what the kernel says of them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::model::{Configuration, ExternalInterface, Vpn};

use crate::netlink::{Link, Links};

/// The external interfaces of each VPN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interfaces {
    of_vpn: BTreeMap<String, Vec<ExternalInterface>>,
    /// Routing instances of the VPNs that are not in the default one.
    instances: BTreeMap<String, String>,
}

/// Whether a VPN can register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// One of its interfaces is up.
    Up,
    /// One exists, and none has its link up; the text says which.
    LinkDown(String),
    /// None can be used; the text says why.
    Down(String),
}

impl Readiness {
    /// Why it cannot.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Up => None,
            Self::LinkDown(reason) | Self::Down(reason) => Some(reason),
        }
    }
}

impl Interfaces {
    /// Those of a configuration.
    pub fn new(configuration: &Configuration) -> Interfaces {
        let vpns = || configuration.member.iter().flat_map(|member| &member.vpns);
        let instance = |vpn: &Vpn| Some((vpn.name.clone(), configuration.data_instance(vpn)?.to_owned()));
        Interfaces {
            of_vpn: vpns().map(|vpn| (vpn.name.clone(), configuration.external_interfaces(vpn))).collect(),
            instances: vpns().filter_map(instance).collect(),
        }
    }

    /// The routing instance that a VPN's external interfaces are in; `None`: the default one.
    pub fn instance(&self, vpn: &str) -> Option<&str> {
        self.instances.get(vpn).map(String::as_str)
    }

    /// Every link of a routing instance that is an external interface of some VPN, once.
    pub fn links<'a>(
        &'a self,
        instance: Option<&'a str>,
        links: &'a Links,
    ) -> impl Iterator<Item = &'a Link> {
        let here = move |vpn: &str| self.instance(vpn) == instance;
        links.iter().filter(move |link| {
            let mut of_vpns = self.of_vpn.iter().filter(|(vpn, _)| here(vpn));
            of_vpns.any(|(_, own)| own.iter().any(|interface| interface.device == link.name))
        })
    }

    /// The links of a VPN that exist, out of those of its instance.
    pub fn of_vpn<'a>(&'a self, vpn: &str, links: &'a Links) -> impl Iterator<Item = &'a Link> {
        self.of_vpn.get(vpn).into_iter().flatten().filter_map(|interface| links.by_name(&interface.device))
    }

    /// Whether a VPN can register now, from its `local-address` if it has one: another machine may have that at the moment.
    /// `links` are those of the VPN's instance, `towards_servers` those of the one in which its servers are reached.
    pub fn readiness(
        &self,
        vpn: &str,
        local_address: Option<IpAddr>,
        links: &Links,
        towards_servers: &Links,
    ) -> Readiness {
        let interfaces = self.of_vpn.get(vpn).map(Vec::as_slice).unwrap_or_default();
        if interfaces.is_empty() {
            return Readiness::Down(
                "no external interface: no zone of a scope policy that names this VPN has a usable interface"
                    .into(),
            );
        }
        let mut reasons = Vec::new();
        let mut exists = false;
        for ExternalInterface { name, device } in interfaces {
            match links.by_name(device) {
                Some(link) if link.up => return address_readiness(local_address, towards_servers),
                Some(_) => {
                    exists = true;
                    reasons.push(format!("external interface {name} is down"));
                }
                None if *device == name.0 => {
                    reasons.push(format!("external interface {name}: no such device"))
                }
                None => reasons.push(format!("external interface {name}: no device {device}")),
            }
        }
        let reason = reasons.join("; ");
        if exists { Readiness::LinkDown(reason) } else { Readiness::Down(reason) }
    }

    /// The first VPN whose `tunnel-mtu` is more than one of its interfaces carries, in words.
    pub fn too_large_tunnel_mtu(
        configuration: &Configuration,
        links: impl Fn(Option<&str>) -> Arc<Links>,
    ) -> Option<String> {
        configuration.member.iter().flat_map(|member| &member.vpns).find_map(|vpn| {
            let mtu = vpn.tunnel_mtu?;
            let interfaces = configuration.external_interfaces(vpn);
            let links = links(configuration.data_instance(vpn));
            let narrow = interfaces
                .iter()
                .filter_map(|interface| links.by_name(&interface.device))
                .find(|link| link.mtu < mtu.into())?;
            Some(format!(
                "vpn {}: `tunnel-mtu {mtu}` is more than interface {} carries, {} octets",
                vpn.name, narrow.name, narrow.mtu
            ))
        })
    }

    /// Each interface once: its name, device and routing instance, and the VPNs bound to it.
    pub fn bindings(&self) -> BTreeMap<(String, String, Option<&str>), Vec<String>> {
        let mut bindings: BTreeMap<_, Vec<String>> = BTreeMap::new();
        for (vpn, interfaces) in &self.of_vpn {
            for interface in interfaces {
                let key = (interface.name.0.clone(), interface.device.clone(), self.instance(vpn));
                bindings.entry(key).or_default().push(vpn.clone());
            }
        }
        bindings
    }
}

fn address_readiness(local_address: Option<IpAddr>, links: &Links) -> Readiness {
    match local_address.filter(|address| !links.has_address(*address)) {
        Some(address) => Readiness::Down(format!("this machine does not have the local-address {address}")),
        None => Readiness::Up,
    }
}
