//! Scope policies and the dynamic policies under them, as operators see them.

use config::model::{Addresses, Application, Applications, Configuration};
use control::DynamicPolicy;
use dataplane::{Selector, scope_contains};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proto::control_selector;

use crate::protection::Protection;

/// A zone pair that a VPN is bound to.
pub struct Scope {
    /// Zone that packets come from.
    pub from_zone: String,
    /// Zone that packets go to.
    pub to_zone: String,
    name: String,
    index: u32,
    /// `None` where a binding without policies contains everything.
    selectors: Option<Vec<Selector>>,
}

impl Scope {
    /// The name of a dynamic policy under this scope policy with its index, as in `scope1-0002/2097156`.
    pub fn policy_name(&self, sequence: u32) -> String {
        format!("{}-{sequence:04}/{}", self.name, (sequence << 20).wrapping_add(self.index))
    }
}

/// The zone pairs of a VPN, in the order of the configuration.
pub fn scopes(configuration: &Configuration, vpn: &str) -> Vec<Scope> {
    let policies =
        configuration.policies.iter().filter(|policy| policy.vpn() == Some(vpn)).map(|policy| Scope {
            from_zone: policy.from_zone.clone(),
            to_zone: policy.to_zone.clone(),
            name: policy.name.clone(),
            index: policy.index,
            selectors: Some(selectors(&policy.source, &policy.destination, &policy.applications)),
        });
    let bindings =
        configuration.ipsec_policies.iter().filter(|policy| policy.vpn == vpn).map(|policy| Scope {
            from_zone: policy.from_zone.clone(),
            to_zone: policy.to_zone.clone(),
            name: policy.vpn.clone(),
            index: policy.index,
            selectors: None,
        });
    policies.chain(bindings).collect()
}

/// `show security dynamic-policies`: by sequence number, then in the order of the scope policies.
pub fn dynamic_policies(
    configuration: &Configuration,
    protection: &Protection,
    now: dataplane::Instant,
) -> Vec<DynamicPolicy> {
    let mut policies = Vec::new();
    for vpn in configuration.member.iter().flat_map(|member| &member.vpns) {
        let scopes = scopes(configuration, &vpn.name);
        let live = protection.sas(&vpn.name).any(|sa| sa.hard_expiry() > now);
        for (position, selector) in protection.policies(&vpn.name).enumerate() {
            for scope in &scopes {
                let narrow = scope.selectors.as_ref().is_some_and(|scope| !scope_contains(scope, selector));
                let state = match (live, narrow) {
                    (true, false) => "enabled",
                    (false, _) => "closed, no live key",
                    (true, true) => "enabled, error: the scope policy is narrower than this policy",
                };
                policies.push(DynamicPolicy {
                    from_zone: scope.from_zone.clone(),
                    to_zone: scope.to_zone.clone(),
                    scope: scope.name.clone(),
                    state: state.to_owned(),
                    scope_index: scope.index,
                    sequence: u32::try_from(position + 1).unwrap_or(u32::MAX),
                    selector: control_selector(selector),
                    vpn: vpn.name.clone(),
                    group_id: vpn.group_id,
                });
            }
        }
    }
    policies
}

fn selectors(source: &Addresses, destination: &Addresses, applications: &Applications) -> Vec<Selector> {
    let mut selectors = Vec::new();
    for source in prefixes(source) {
        for destination in prefixes(destination) {
            if source.addr().is_ipv4() != destination.addr().is_ipv4() {
                continue;
            }
            let pair = Selector::between(source, destination);
            match applications {
                Applications::Any => selectors.push(pair),
                Applications::Only(applications) => {
                    selectors
                        .extend(applications.iter().filter_map(|application| narrowed(pair, application)));
                }
            }
        }
    }
    selectors
}

/// A selector has single ports; an application with a range of ports contains no dynamic policy.
fn narrowed(pair: Selector, application: &Application) -> Option<Selector> {
    let port = |range: Option<(u16, u16)>| match range {
        None | Some((0, 65535)) => Some(0),
        Some((first, last)) if first == last => Some(first),
        Some(_) => None,
    };
    Some(Selector {
        source_port: port(application.source_ports)?,
        destination_port: port(application.destination_ports)?,
        protocol: application.protocol.unwrap_or(0),
        ..pair
    })
}

fn prefixes(addresses: &Addresses) -> Vec<IpNet> {
    match addresses {
        Addresses::Any => vec![Ipv4Net::default().into(), Ipv6Net::default().into()],
        Addresses::AnyIpv4 => vec![Ipv4Net::default().into()],
        Addresses::AnyIpv6 => vec![Ipv6Net::default().into()],
        Addresses::Prefixes(prefixes) => prefixes.clone(),
    }
}
