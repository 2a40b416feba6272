//! Links and addresses that come and go, by VRRP for instance: what is bound to one is active only while this machine has it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use config::model;
use control::{Diagnostic, Severity};

use super::Daemon;
use crate::configuration::without_place;
use crate::instances::Instances;
use crate::interfaces::Readiness;

impl Daemon {
    /// Lets the groups rest whose `server-address` another machine holds, and the member register anew where its own address
    /// is gone.
    pub(super) fn follow_addresses(&mut self) {
        self.rest_groups();
        let now = self.clock.now();
        let instances = &self.instances;
        if let Some(member) = &mut self.member {
            member.addresses_changed(now, |address| has_address(instances, address));
        }
    }

    /// Lets the groups rest whose `server-address` another machine holds.
    pub(super) fn rest_groups(&mut self) {
        let now = self.clock.now();
        if let (Some(server), Some(model)) = (&mut self.server, &self.active.model.server) {
            let elsewhere: BTreeSet<&str> =
                served_elsewhere(model, &self.instances).map(|(group, _)| group.name.as_str()).collect();
            server.set_resting(now, |group| elsewhere.contains(group));
        }
    }

    /// Tells the member which of its VPNs can register.
    pub(super) fn tell_readiness(&mut self) {
        let Some(member) = &mut self.member else { return };
        let now = self.clock.now();
        for vpn in self.active.model.member.iter().flat_map(|member| &member.vpns) {
            let (data, control) =
                (self.interfaces.instance(&vpn.name), vpn.gateway.routing_instance.as_deref());
            let readiness = match (self.instances.get(data), self.instances.get(control)) {
                (Some(data), Some(control)) => {
                    let local = vpn.gateway.local_address;
                    self.interfaces.readiness(&vpn.name, local, &data.links(), &control.links())
                }
                (None, _) => Readiness::Down(self.instances.reason(data)),
                (_, None) => Readiness::Down(self.instances.reason(control)),
            };
            if self.readiness.get(&vpn.name) == Some(&readiness) {
                continue;
            }
            match &readiness {
                Readiness::Up => {
                    tracing::info!(target: "general", vpn = vpn.name, "external interface is up");
                    member.interface_up(now, &vpn.name, vpn.gateway.local_address);
                }
                Readiness::LinkDown(reason) => {
                    tracing::warn!(target: "general", vpn = vpn.name, reason, "VPN is inactive, its keys are held");
                    member.link_down(now, &vpn.name);
                }
                Readiness::Down(reason) => {
                    tracing::warn!(target: "general", vpn = vpn.name, reason, "VPN is inactive");
                    member.interface_down(now, &vpn.name);
                }
            }
            self.readiness.insert(vpn.name.clone(), readiness);
        }
    }

    /// What to know of a configuration some of whose groups another machine serves at the moment.
    pub(super) fn virtual_addresses(&self, model: &model::Configuration, source: &str) -> Vec<Diagnostic> {
        let server = model.server.iter();
        let elsewhere =
            server.flat_map(|server| served_elsewhere(server, &self.instances).collect::<Vec<_>>());
        elsewhere
            .map(|(group, address)| {
                let problem = words(group, address);
                Diagnostic { severity: Severity::Warning, ..without_place(source, problem) }
            })
            .collect()
    }
}

/// The groups whose `server-address` this machine does not have. Servers that share their state serve by any address.
fn served_elsewhere<'a>(
    server: &'a model::Server,
    instances: &'a Instances,
) -> impl Iterator<Item = (&'a model::Group, IpAddr)> {
    let alone = server.groups.iter().filter(|group| group.cluster.is_none());
    let groups = alone.filter_map(|group| Some((group, group.server_address?)));
    groups.filter(|(_, address)| !has_address(instances, *address))
}

/// Whether an address is one of this machine's, in any routing instance.
fn has_address(instances: &Instances, address: IpAddr) -> bool {
    instances.iter().any(|(_, instance)| instance.links().has_address(address))
}

fn words(group: &model::Group, address: IpAddr) -> String {
    format!(
        "group {}: this machine does not have the server-address {address}, and serves the group only while it has; \
         servers that do not share their state make keys of their own: when the address moves, members of the two do not \
         understand each other until they have registered again",
        group.name
    )
}
