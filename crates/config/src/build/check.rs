//! Contradictions between parts of the model: timers, interfaces, bindings.

use super::{Builder, instances, timeline};
use crate::finding::Kind;
use crate::model::*;

pub(super) fn check(builder: &mut Builder, configuration: &Configuration) {
    if let Some(server) = &configuration.server {
        for group in &server.groups {
            check_timers(builder, group);
            let communication = group.communication.as_ref();
            let outgoing = communication.and_then(|it| Some((it, it.multicast_outgoing_interface.as_ref()?)));
            if let Some((communication, name)) = outgoing
                && communication.communication_type == CommunicationType::Multicast
                && configuration.linux_device(name).is_none()
            {
                no_device(builder, name, &communication.place);
            }
        }
    }
    check_references(builder, configuration);
    if let Some(member) = &configuration.member {
        for vpn in &member.vpns {
            check_vpn(builder, configuration, vpn);
        }
        check_defaults(builder, configuration);
    }
    check_devices(builder, configuration);
    instances::check(builder, configuration);
}

fn check_timers(builder: &mut Builder, group: &Group) {
    let delay = u32::from(group.activation_time_delay_secs);
    for sa in &group.security_associations {
        let lifetime = sa.proposal.lifetime_secs;
        if lifetime < 10 * delay {
            let message = format!(
                "ipsec-sa `{}`: its lifetime of {lifetime} s is less than ten times the activation delay of {delay} s",
                sa.name
            );
            let remedy = format!(
                "use `lifetime-seconds {}` or more, or a shorter `activation-time-delay`",
                10 * delay
            );
            builder.warn(Kind::Timing, sa.place.span, &sa.place.path, message, &remedy);
        }
    }
    let Some(communication) = &group.communication else { return };
    for sa in &group.security_associations {
        let push = timeline::push(group, sa, communication);
        if push.needed > push.possible {
            let message = format!(
                "ipsec-sa `{}`: its rekey needs {:.1} s before the end of the key, half its lifetime is {:.1} s",
                sa.name,
                push.needed as f64 / 1000.0,
                push.possible as f64 / 1000.0
            );
            let remedy = match timeline::fitting_lifetime_secs(group, communication) {
                Some(secs) => format!("`lifetime-seconds {secs}` fits; or retransmit for a shorter time"),
                None => "retransmit for a shorter time".to_owned(),
            };
            builder.warn(Kind::Timing, sa.place.span, &sa.place.path, message, &remedy);
        }
    }
    let push_point = timeline::kek_push_millis(group, communication);
    if 1000 * u64::from(communication.lifetime_secs) < 2 * push_point {
        let push_point = push_point.div_ceil(1000);
        let message = format!(
            "the key encryption key lives {} s, less than twice the {push_point} s its replacement takes",
            communication.lifetime_secs
        );
        let fitting = timeline::fitting_kek_secs(group, communication);
        let remedy = format!("use `lifetime-seconds {fitting}` or more");
        builder.error(Kind::Timing, communication.place.span, &communication.place.path, message, &remedy);
    }
}

/// VPNs, service sets and filters named elsewhere.
fn check_references(builder: &mut Builder, configuration: &Configuration) {
    let known = |name: &str| configuration.member.as_ref().is_some_and(|member| member.vpn(name).is_some());
    // A VPN that is faulty has been reported; references to it are not reported again.
    if builder
        .findings
        .iter()
        .any(|finding| finding.severity == crate::Severity::Error && finding.path.contains(" ipsec vpn "))
    {
        return;
    }
    let mut unknown = Vec::new();
    for policy in &configuration.policies {
        unknown.extend(
            policy.vpn().filter(|name| !known(name)).map(|name| (name.to_owned(), policy.place.clone())),
        );
    }
    for policy in &configuration.ipsec_policies {
        if !known(&policy.vpn) {
            unknown.push((policy.vpn.clone(), policy.place.clone()));
        }
    }
    for set in &configuration.service_sets {
        unknown
            .extend(set.vpn.iter().filter(|name| !known(name)).map(|name| (name.clone(), set.place.clone())));
    }
    for (name, place) in unknown {
        let message = format!("vpn `{name}` is not defined");
        let remedy = format!("define it: `security group-vpn member ipsec vpn {name} {{ ... }}`");
        builder.outside(Kind::DanglingReference, place.span, &place.path, message, &remedy);
    }
    for interface in &configuration.interfaces {
        for applied in
            interface.units.iter().flat_map(|unit| unit.service_input.iter().chain(&unit.service_output))
        {
            let place = &interface.place;
            if !configuration.service_sets.iter().any(|set| set.name == applied.service_set) {
                let message = format!("service-set `{}` is not defined", applied.service_set);
                builder.outside(
                    Kind::DanglingReference,
                    place.span,
                    &place.path,
                    message,
                    "define it under `services`",
                );
            }
            let filter = applied.service_filter.as_ref();
            if let Some(filter) =
                filter.filter(|name| !configuration.service_filters.iter().any(|it| it.name == **name))
            {
                let message = format!("service-filter `{filter}` is not defined");
                let remedy = "define it under `firewall family inet`";
                builder.outside(Kind::DanglingReference, place.span, &place.path, message, remedy);
            }
        }
    }
}

fn check_vpn(builder: &mut Builder, configuration: &Configuration, vpn: &Vpn) {
    let place = &vpn.place;
    let bound_by_policy = configuration.policies.iter().any(|policy| policy.vpn() == Some(&vpn.name))
        || configuration.ipsec_policies.iter().any(|policy| policy.vpn == vpn.name);
    let bound_by_service = configuration.service_sets.iter().any(|set| set.vpn.as_deref() == Some(&vpn.name));
    match &vpn.external_interface {
        None if !bound_by_service => {
            let message = format!("vpn `{}` has no `group-vpn-external-interface`", vpn.name);
            let remedy = "add the interface on which its traffic leaves, or bind the vpn by a service set";
            builder.outside(Kind::Missing, place.span, &place.path, message, remedy);
            return;
        }
        Some(name) if !name.is_loopback() && configuration.linux_device(name).is_none() => {
            no_device(builder, name, place);
        }
        _ => {}
    }
    if builder.fragment {
        return;
    }
    check_direction(builder, vpn, bound_by_service);
    if !bound_by_policy && !bound_by_service {
        let message = format!("no policy names vpn `{}`: it protects nothing", vpn.name);
        let remedy = format!(
            "add a scope policy: `security policies from-zone trust to-zone untrust policy NAME then permit tunnel ipsec-group-vpn {}`",
            vpn.name
        );
        builder.warn(Kind::Missing, place.span, &place.path, message, &remedy);
    } else if configuration.external_interfaces(vpn).is_empty() {
        let message = format!("vpn `{}` has no interface to protect traffic on", vpn.name);
        let remedy = "put the external interfaces into the to-zone of its scope policy, or name one as \
                      `group-vpn-external-interface`";
        builder.error(Kind::Missing, place.span, &place.path, message, remedy);
    }
}

/// `match-direction` says by which interface of a packet's way it is compared with the policies: the one it comes by, or the
/// one it leaves by. Only the latter is where ESP is made.
fn check_direction(builder: &mut Builder, vpn: &Vpn, bound_by_service: bool) {
    let Some(direction) = vpn.match_direction else { return };
    let place = &vpn.place;
    if !bound_by_service {
        let message = format!("vpn `{}` has a `match-direction`, and no service set binds it", vpn.name);
        let remedy = "leave it out: it says how a service set is applied";
        builder.warn(Kind::Conflict, place.span, &place.path, message, remedy);
    } else if direction == MatchDirection::Input {
        let message = format!(
            "vpn `{}`: `match-direction input` would protect what arrives by the interface of its service set; here a \
             packet is protected by the interface by which it leaves",
            vpn.name
        );
        let remedy =
            "apply the service set to the interface towards the other sites, with `match-direction output`";
        builder.error(Kind::Conflict, place.span, &place.path, message, remedy);
    }
}

fn check_defaults(builder: &mut Builder, configuration: &Configuration) {
    let scope = configuration.policies.iter().find(|policy| policy.vpn().is_some());
    let Some(scope) = scope.filter(|_| !builder.fragment) else { return };
    if !configuration.dynamic_policy {
        builder.warn(
            Kind::Missing,
            scope.place.span,
            "security policies dynamic-policy",
            "the policies of the key server are not used",
            "add `security policies dynamic-policy enable`",
        );
    }
    if configuration.default_policy == DefaultPolicy::DenyAll {
        builder.warn(
            Kind::Missing,
            scope.place.span,
            "security policies default-policy",
            "the default policy is deny-all: what no policy of the key server matches is dropped between the zones",
            "add `security policies default-policy permit-all` if such traffic is to pass in clear",
        );
    }
}

/// Interfaces of zones must have a device where a VPN uses them.
fn check_devices(builder: &mut Builder, configuration: &Configuration) {
    let used = |zone: &str| {
        configuration
            .policies
            .iter()
            .any(|policy| policy.vpn().is_some() && (policy.from_zone == zone || policy.to_zone == zone))
            || configuration
                .ipsec_policies
                .iter()
                .any(|policy| policy.from_zone == zone || policy.to_zone == zone)
    };
    for zone in configuration.zones.iter().filter(|zone| used(&zone.name)) {
        for name in &zone.interfaces {
            if configuration.linux_device(name).is_none() {
                no_device(builder, name, &zone.place);
            }
        }
    }
}

fn no_device(builder: &mut Builder, name: &InterfaceName, place: &crate::Place) {
    let physical = name.split().0;
    let message = format!("interface {name} has no Linux device");
    let remedy = format!("add `interfaces {physical} linux-device DEVICE`, or name the device itself");
    builder.outside(Kind::DanglingReference, place.span, &place.path, message, &remedy);
}
