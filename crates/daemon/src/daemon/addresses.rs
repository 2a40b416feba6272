//! Addresses that come and go, by VRRP for instance: what is bound to one is active only while this machine holds it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use config::model;
use control::{Diagnostic, Severity};

use super::Daemon;
use crate::configuration::without_place;
use crate::netlink::Links;

impl Daemon {
    /// Lets the groups rest whose `server-address` another machine holds, and the member register anew where its own address
    /// is gone.
    pub(super) fn follow_addresses(&mut self) {
        self.rest_groups();
        let links = self.links.borrow().clone();
        let now = self.clock.now();
        if let Some(member) = &mut self.member {
            member.addresses_changed(now, |address| links.has_address(address));
        }
    }

    /// Lets the groups rest whose `server-address` another machine holds.
    pub(super) fn rest_groups(&mut self) {
        let links = self.links.borrow().clone();
        let now = self.clock.now();
        if let (Some(server), Some(model)) = (&mut self.server, &self.active.model.server) {
            let elsewhere: BTreeSet<&str> =
                served_elsewhere(model, &links).map(|(group, _)| group.name.as_str()).collect();
            server.set_resting(now, |group| elsewhere.contains(group));
        }
    }

    /// What to know of a configuration some of whose groups another machine serves at the moment.
    pub(super) fn virtual_addresses(&self, model: &model::Configuration, source: &str) -> Vec<Diagnostic> {
        let links = self.links.borrow().clone();
        let server = model.server.iter();
        let elsewhere = server.flat_map(|server| served_elsewhere(server, &links).collect::<Vec<_>>());
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
    links: &'a Links,
) -> impl Iterator<Item = (&'a model::Group, IpAddr)> {
    let alone = server.groups.iter().filter(|group| group.cluster.is_none());
    let groups = alone.filter_map(|group| Some((group, group.server_address?)));
    groups.filter(|(_, address)| !links.has_address(*address))
}

fn words(group: &model::Group, address: IpAddr) -> String {
    format!(
        "group {}: this machine does not have the server-address {address}, and serves the group only while it has; \
         servers that do not share their state make keys of their own: when the address moves, members of the two do not \
         understand each other until they have registered again",
        group.name
    )
}
