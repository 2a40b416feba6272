//! Service filters: what of an interface's traffic does not go to a VPN that a service set applies there.

use ipnet::IpNet;

use crate::InterfaceId;
use crate::classifier::{Flow, Ports, Prefix};

/// A service filter as it is applied to one direction of an interface. The first term that matches decides; what none
/// matches goes to the VPN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFilter {
    /// Where it is applied.
    pub interface: InterfaceId,
    /// To packets that leave, or to those that arrive.
    pub leaving: bool,
    /// Its terms, in order.
    pub terms: Vec<ServiceFilterTerm>,
}

/// One term of a service filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFilterTerm {
    /// Source prefixes; empty: any.
    pub sources: Vec<IpNet>,
    /// Destination prefixes; empty: any.
    pub destinations: Vec<IpNet>,
    /// IP protocols; empty: any.
    pub protocols: Vec<u8>,
    /// The packets pass by the VPN.
    pub skip: bool,
}

/// The same, ready to be compared.
#[derive(Debug)]
pub(crate) struct CompiledFilter {
    interface: InterfaceId,
    leaving: bool,
    terms: Vec<CompiledTerm>,
}

#[derive(Debug)]
struct CompiledTerm {
    sources: Vec<Prefix>,
    destinations: Vec<Prefix>,
    protocols: Vec<u8>,
    skip: bool,
}

impl CompiledFilter {
    pub(crate) fn new(filter: &ServiceFilter) -> Self {
        let prefixes = |nets: &[IpNet]| nets.iter().map(|net| Prefix::from(net.trunc())).collect();
        let terms = filter.terms.iter().map(|term| CompiledTerm {
            sources: prefixes(&term.sources),
            destinations: prefixes(&term.destinations),
            protocols: term.protocols.clone(),
            skip: term.skip,
        });
        Self { interface: filter.interface, leaving: filter.leaving, terms: terms.collect() }
    }

    /// Whether a packet passes by the VPN.
    pub(crate) fn skips(&self, interface: InterfaceId, leaving: bool, flow: &Flow) -> bool {
        if (self.interface, self.leaving) != (interface, leaving) {
            return false;
        }
        let among = |prefixes: &[Prefix], address| {
            prefixes.is_empty() || prefixes.iter().any(|prefix| prefix.contains(flow.version, address))
        };
        for term in &self.terms {
            if !among(&term.sources, flow.source) || !among(&term.destinations, flow.destination) {
                continue;
            }
            match flow.ports {
                _ if term.protocols.is_empty() => return term.skip,
                // Nobody knows whether it matches: then the packet is not exempt.
                Ports::Hidden => return false,
                _ if term.protocols.contains(&flow.protocol) => return term.skip,
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classifier::address_bits;
    use crate::ip::Version;

    const OSPF: u8 = 89;
    const TCP: u8 = 6;
    const WAN: InterfaceId = InterfaceId(7);

    fn flow(source: &str, protocol: u8, ports: Ports) -> Flow {
        let source = source.parse().unwrap();
        let bits = address_bits(source);
        let version = if source.is_ipv4() { Version::V4 } else { Version::V6 };
        Flow { version, source: bits, destination: bits, protocol, ports }
    }

    fn term(sources: &[&str], protocols: &[u8], skip: bool) -> ServiceFilterTerm {
        ServiceFilterTerm {
            sources: sources.iter().map(|net| net.parse().unwrap()).collect(),
            destinations: Vec::new(),
            protocols: protocols.to_vec(),
            skip,
        }
    }

    fn filter(terms: &[ServiceFilterTerm]) -> CompiledFilter {
        CompiledFilter::new(&ServiceFilter { interface: WAN, leaving: true, terms: terms.to_vec() })
    }

    #[test]
    fn the_first_term_that_matches_decides_and_without_one_nothing_is_skipped() {
        let filter = filter(&[
            term(&["10.0.0.0/8"], &[TCP], false),
            term(&["10.0.0.0/8", "2001:db8::/32"], &[OSPF, TCP], true),
            term(&[], &[OSPF], true),
        ]);
        let skips = |source, protocol| filter.skips(WAN, true, &flow(source, protocol, Ports::None));
        assert!(!skips("10.1.1.1", TCP), "the first term keeps it");
        assert!(skips("10.1.1.1", OSPF) && skips("2001:db8::1", TCP) && skips("11.1.1.1", OSPF));
        assert!(!skips("11.1.1.1", TCP) && !skips("2001:db9::1", TCP));
    }

    #[test]
    fn another_interface_or_direction_is_not_concerned() {
        let filter = filter(&[term(&[], &[], true)]);
        let any = flow("10.1.1.1", TCP, Ports::None);
        assert!(filter.skips(WAN, true, &any));
        assert!(!filter.skips(WAN, false, &any) && !filter.skips(InterfaceId(8), true, &any));
    }

    #[test]
    fn what_does_not_show_its_protocol_is_not_exempted_by_one() {
        let hidden = flow("2001:db8::1", 0, Ports::Hidden);
        assert!(!filter(&[term(&[], &[OSPF], true), term(&[], &[], true)]).skips(WAN, true, &hidden));
        assert!(filter(&[term(&[], &[], true)]).skips(WAN, true, &hidden));
    }
}
