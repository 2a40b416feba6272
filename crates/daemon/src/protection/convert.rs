//! What the configuration, the protocol and operators call by other types than the engine.

use config::model::{self, Configuration};
use dataplane::{AddressPair, Instant, InterfaceId, SaDirection, Selector, ServiceFilter, ServiceFilterTerm};
use ipnet::{Ipv4Net, Ipv6Net};
use proto::member::Direction;

use crate::netlink::Links;

/// Prefix pairs of exclude or fail-open rules. A rule for one application only is no rule about addresses: it is left
/// out, which is the closed side, and `gvpn check` says so.
pub fn pairs(rules: &[model::ClearRule]) -> Vec<AddressPair> {
    let mut pairs = Vec::new();
    for rule in rules.iter().filter(|rule| rule.application == model::Applications::Any) {
        let any = [Ipv4Net::default().into(), Ipv6Net::default().into()];
        let sources = rule.source.map_or(any.to_vec(), |prefix| vec![prefix]);
        let destinations = rule.destination.map_or(any.to_vec(), |prefix| vec![prefix]);
        for source in &sources {
            for destination in &destinations {
                if source.addr().is_ipv4() == destination.addr().is_ipv4() {
                    pairs.push(AddressPair { source: *source, destination: *destination });
                }
            }
        }
    }
    pairs
}

/// The service filters under which service sets apply a VPN to interfaces that exist.
pub(super) fn service_filters(configuration: &Configuration, vpn: &str, links: &Links) -> Vec<ServiceFilter> {
    let sets = configuration.service_sets.iter().filter(|set| set.vpn.as_deref() == Some(vpn));
    let sets: Vec<&str> = sets.map(|set| set.name.as_str()).collect();
    let mut filters = Vec::new();
    for interface in &configuration.interfaces {
        for unit in &interface.units {
            let name = model::InterfaceName(format!("{}.{}", interface.name, unit.number));
            let link = configuration.linux_device(&name).and_then(|device| links.by_name(&device));
            let Some(link) = link else { continue };
            for (leaving, applied) in [(false, &unit.service_input), (true, &unit.service_output)] {
                let applied = applied.iter().filter(|applied| sets.contains(&applied.service_set.as_str()));
                for filter in applied.filter_map(|applied| applied.service_filter.as_ref()) {
                    let known = configuration.service_filters.iter().find(|known| known.name == *filter);
                    let terms = known.iter().flat_map(|filter| &filter.terms).map(filter_term).collect();
                    filters.push(ServiceFilter { interface: InterfaceId(link.index), leaving, terms });
                }
            }
        }
    }
    filters
}

fn filter_term(term: &model::FilterTerm) -> ServiceFilterTerm {
    ServiceFilterTerm {
        sources: term.sources.clone(),
        destinations: term.destinations.clone(),
        protocols: term.protocols.clone(),
        skip: term.action == model::FilterAction::Skip,
    }
}

/// The directions of a key in the words of the engine.
pub(super) fn direction(direction: Direction) -> SaDirection {
    match direction {
        Direction::Symmetric => SaDirection::Symmetric,
        Direction::SenderOnly => SaDirection::SenderOnly,
        Direction::ReceiverOnly => SaDirection::ReceiverOnly,
    }
}

/// The roles' clock and the engine's have the same origin.
pub fn engine_time(instant: proto::time::Instant) -> Instant {
    Instant::from_micros(instant.as_micros())
}

/// The engine's form of a selector.
pub fn selector_of_wire(selector: &wire::Selector) -> Selector {
    Selector { source: selector.source.trunc(), destination: selector.destination.trunc(), ..*selector }
}

/// The engine's form of a selector that was recorded.
pub(super) fn engine_selector(selector: &control::Selector) -> Selector {
    let &control::Selector { source, destination, source_port, destination_port, protocol } = selector;
    selector_of_wire(&Selector { source, destination, source_port, destination_port, protocol })
}
