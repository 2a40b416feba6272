//! Interfaces, service sets, service filters.

use super::{At, Builder};
use crate::finding::Kind;
use crate::model::*;
use crate::tree::{prefix, protocol_number};

impl Builder {
    pub(super) fn interfaces(&mut self, top: &At<'_>) -> Vec<Interface> {
        let Some(all) = top.child("interfaces") else { return Vec::new() };
        let interfaces: Vec<Interface> = all
            .children("<interface>")
            .map(|at| Interface {
                name: at.key().to_owned(),
                linux_device: at.text("linux-device"),
                units: at.children("unit").map(|at| self.unit(&at)).collect(),
                place: at.place(),
            })
            .collect();
        for (index, interface) in interfaces.iter().enumerate() {
            let same = |other: &&Interface| {
                other.linux_device.is_some() && other.linux_device == interface.linux_device
            };
            if let Some(other) = interfaces[..index].iter().find(same) {
                let message = format!("its linux-device is also that of `{}`", other.name);
                let place = &interface.place;
                self.error(
                    Kind::Duplicate,
                    place.span,
                    &place.path,
                    message,
                    "give each interface its own device",
                );
            }
        }
        interfaces
    }

    fn unit(&mut self, at: &At<'_>) -> Unit {
        let inet = at.children("family").find(|family| family.key() == "inet");
        let applied = |direction: &str| -> Vec<ServiceApplication> {
            let Some(list) = inet.as_ref().and_then(|inet| inet.descend(&["service", direction])) else {
                return Vec::new();
            };
            list.children("service-set")
                .map(|at| ServiceApplication {
                    service_set: at.key().to_owned(),
                    service_filter: at.text("service-filter"),
                })
                .collect()
        };
        Unit {
            number: at.key().parse().unwrap_or(0),
            linux_device: at.text("linux-device"),
            addresses: inet
                .iter()
                .flat_map(|inet| inet.node.children_named("address"))
                .filter_map(|node| node.value().parse().ok().or_else(|| prefix(node.value())))
                .collect(),
            service_input: applied("input"),
            service_output: applied("output"),
        }
    }

    pub(super) fn service_sets(&mut self, top: &At<'_>) -> Vec<ServiceSet> {
        let Some(services) = top.child("services") else { return Vec::new() };
        services
            .children("service-set")
            .map(|at| ServiceSet {
                name: at.key().to_owned(),
                service_interface: at
                    .child("interface-service")
                    .and_then(|at| at.text("service-interface"))
                    .map(InterfaceName),
                vpn: at.text("ipsec-group-vpn"),
                place: at.place(),
            })
            .collect()
    }

    pub(super) fn service_filters(&mut self, top: &At<'_>) -> Vec<ServiceFilter> {
        let Some(firewall) = top.child("firewall") else { return Vec::new() };
        let Some(inet) = firewall.children("family").find(|family| family.key() == "inet") else {
            return Vec::new();
        };
        inet.children("service-filter")
            .map(|at| ServiceFilter {
                name: at.key().to_owned(),
                terms: at.children("term").filter_map(|at| self.filter_term(&at)).collect(),
                place: at.place(),
            })
            .collect()
    }

    fn filter_term(&mut self, at: &At<'_>) -> Option<FilterTerm> {
        let from = at.child("from");
        let from = from.as_ref();
        let prefixes = |name: &str| -> Vec<ipnet::IpNet> {
            let list = from.and_then(|from| from.child(name));
            let nodes = list.iter().flat_map(|list| list.node.children_named("<prefix>"));
            nodes.filter_map(|node| prefix(node.value())).collect()
        };
        let protocols = from.iter().flat_map(|from| from.node.children_named("protocol"));
        let protocols = protocols.filter_map(|node| protocol_number(node.value())).collect();
        let then = at.child("then");
        let action = then
            .as_ref()
            .and_then(|then| FilterAction::ALL.iter().copied().find(|action| then.has(action.as_str())));
        if action.is_none() {
            let message = format!("term `{}` says neither `skip` nor `service`", at.key());
            self.outside(
                Kind::Missing,
                at.node.span,
                &at.path,
                message,
                "add `then skip;` or `then service;`",
            );
        }
        Some(FilterTerm {
            name: at.key().to_owned(),
            protocols,
            sources: prefixes("source-address"),
            destinations: prefixes("destination-address"),
            action: action?,
        })
    }
}
