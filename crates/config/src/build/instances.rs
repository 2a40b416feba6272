//! Routing instances: a VPN is in one, and the peers of different ones can be told apart.

use std::net::IpAddr;

use super::Builder;
use crate::finding::Kind;
use crate::model::*;
use crate::place::Place;

pub(super) fn check(builder: &mut Builder, configuration: &Configuration) {
    for vpn in configuration.member.iter().flat_map(|member| &member.vpns) {
        check_vpn(builder, configuration, vpn);
    }
    check_peers(builder, configuration);
}

fn check_vpn(builder: &mut Builder, configuration: &Configuration, vpn: &Vpn) {
    let interfaces = configuration.external_interfaces(vpn);
    let Some((first, others)) = interfaces.split_first() else { return };
    let instance = configuration.instance_of(&first.name);
    let words = |instance: Option<&str>| {
        instance.map_or("no routing instance".to_owned(), |name| format!("routing instance `{name}`"))
    };
    let elsewhere = others.iter().map(|other| (other, configuration.instance_of(&other.name)));
    if let Some((other, theirs)) = elsewhere.into_iter().find(|(_, theirs)| *theirs != instance) {
        let message = format!(
            "vpn `{}` has its interface {} in {} and {} in {}",
            vpn.name,
            first.name,
            words(instance),
            other.name,
            words(theirs)
        );
        let remedy = "join the group by one vpn for each instance";
        builder.error(Kind::Conflict, vpn.place.span, &vpn.place.path, message, remedy);
    }
}

/// Whom gvpnd speaks with in which instance.
struct Reached<'a> {
    /// `None`: any address.
    peer: Option<IpAddr>,
    local: Option<IpAddr>,
    instance: Option<&'a str>,
    place: &'a Place,
}

impl Reached<'_> {
    /// A datagram may belong to either. Somebody whose address is known is not taken for somebody whose is not.
    fn meets(&self, other: &Reached<'_>) -> bool {
        let apart =
            |one: Option<IpAddr>, other| matches!((one, other), (Some(one), Some(other)) if one != other);
        self.peer == other.peer && !apart(self.local, other.local)
    }
}

/// A datagram shows the addresses of both ends: those tell which instance it belongs to.
fn check_peers(builder: &mut Builder, configuration: &Configuration) {
    let mut all: Vec<Reached<'_>> = Vec::new();
    for gateway in configuration.member.iter().flat_map(|member| &member.gateways) {
        all.extend(gateway.servers.iter().map(|server| Reached {
            peer: Some(*server),
            local: gateway.local_address,
            instance: gateway.routing_instance.as_deref(),
            place: &gateway.place,
        }));
    }
    for gateway in configuration.server.iter().flat_map(|server| &server.gateways) {
        let (local, instance) = (gateway.local_address, gateway.routing_instance.as_deref());
        let peer = match gateway.peer {
            Peer::Address(address) => Some(address),
            Peer::Dynamic(_) => None,
        };
        if peer.is_none() && local.is_none() && instance.is_some() {
            let place = &gateway.place;
            let message = "a member whose address is not known is recognised in a routing instance by ours";
            builder.error(Kind::Missing, place.span, &place.path, message, "add `local-address`");
            continue;
        }
        all.push(Reached { peer, local, instance, place: &gateway.place });
    }
    // Members without an address in the usual namespace may be anywhere: they are what no other gateway claims.
    all.retain(|one| one.peer.is_some() || one.local.is_some());
    for (index, one) in all.iter().enumerate() {
        let other = all[..index].iter().find(|other| other.instance != one.instance && other.meets(one));
        if let Some(other) = other {
            let message = format!(
                "its peer cannot be told from that of `{}`, which is in another routing instance",
                other.place.path
            );
            let remedy = "give both a `local-address` of their own";
            builder.error(Kind::Conflict, one.place.span, &one.place.path, message, remedy);
        }
    }
}
