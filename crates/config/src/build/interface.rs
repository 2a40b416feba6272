//! Interfaces, service sets, service filters.

use super::{At, Builder};
use crate::finding::Kind;
use crate::model::*;
use crate::tree::{prefix, protocol_number};

impl Builder {
    pub(super) fn routing_instances(&mut self, top: &At<'_>) -> Vec<RoutingInstance> {
        let Some(all) = top.child("routing-instances") else { return Vec::new() };
        let instances: Vec<RoutingInstance> = all
            .children("<name>")
            .map(|at| RoutingInstance {
                name: at.key().to_owned(),
                namespace: at.text("linux-namespace").unwrap_or_else(|| at.key().to_owned()),
                interfaces: at
                    .node
                    .children_named("interface")
                    .filter(|node| !node.faulty)
                    .map(|node| InterfaceName(node.value().to_owned()))
                    .collect(),
                place: at.place(),
            })
            .collect();
        for (index, instance) in instances.iter().enumerate() {
            let place = &instance.place;
            if instance.name == "default" {
                let message = "`default` is the namespace in which gvpnd was started";
                let remedy = "leave its interfaces out: those that no instance names are in it";
                self.error(Kind::Conflict, place.span, &place.path, message, remedy);
            }
            if matches!(instance.namespace.as_str(), "." | "..") || instance.namespace.contains('/') {
                let message = format!("`{}` cannot be the name of a network namespace", instance.namespace);
                self.error(Kind::BadValue, place.span, &place.path, message, "name it as `ip netns` does");
            }
            if let Some(other) = instances[..index].iter().find(|other| other.namespace == instance.namespace)
            {
                let message =
                    format!("its network namespace is also that of routing instance `{}`", other.name);
                self.error(Kind::Duplicate, place.span, &place.path, message, "make one instance of the two");
            }
            for name in &instance.interfaces {
                if let Some(other) = instances[..index].iter().find(|other| other.has(name)) {
                    let message = format!("interface {name} is also in routing instance `{}`", other.name);
                    let remedy = "an interface is in one instance";
                    self.error(Kind::Duplicate, place.span, &place.path, message, remedy);
                }
            }
        }
        instances
    }

    pub(super) fn interfaces(&mut self, top: &At<'_>, instances: &[RoutingInstance]) -> Vec<Interface> {
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
            // Two namespaces may each have a device of the name.
            let place_of = |interface: &Interface| {
                let name = InterfaceName(interface.name.clone());
                let instance = instances.iter().find(|instance| instance.has(&name));
                instance.map(|instance| instance.name.clone())
            };
            let same = |other: &&Interface| {
                other.linux_device.is_some()
                    && other.linux_device == interface.linux_device
                    && place_of(other) == place_of(interface)
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
