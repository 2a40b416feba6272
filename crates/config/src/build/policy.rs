//! Zones, addresses, applications, policies.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::{At, Builder};
use crate::finding::Kind;
use crate::model::*;
use crate::tree::{Node, ports, prefix, protocol_number};

/// Index of the first policy, as seed 000 prints it.
const FIRST_POLICY_INDEX: u32 = 4;

/// Deepest nesting of address sets.
const MAX_SETS: usize = 16;

/// Addresses and address sets by name, of one zone (`Some`) or of all.
pub(super) struct Book<'a> {
    zones: Option<Vec<String>>,
    addresses: BTreeMap<String, Option<IpNet>>,
    sets: BTreeMap<String, At<'a>>,
}

/// Name, protocol and destination ports of an application.
type Predefined = (&'static str, u8, Option<(u16, u16)>);

/// Applications that the vendor defines.
const PREDEFINED: &[Predefined] = &[
    ("junos-bgp", 6, Some((179, 179))),
    ("junos-dns-tcp", 6, Some((53, 53))),
    ("junos-dns-udp", 17, Some((53, 53))),
    ("junos-ftp", 6, Some((21, 21))),
    ("junos-gre", 47, None),
    ("junos-http", 6, Some((80, 80))),
    ("junos-https", 6, Some((443, 443))),
    ("junos-icmp-all", 1, None),
    ("junos-icmp-ping", 1, None),
    ("junos-icmp6-all", 58, None),
    ("junos-ike", 17, Some((500, 500))),
    ("junos-ntp", 17, Some((123, 123))),
    ("junos-ospf", 89, None),
    ("junos-ping", 1, None),
    ("junos-smtp", 6, Some((25, 25))),
    ("junos-ssh", 6, Some((22, 22))),
    ("junos-syslog", 17, Some((514, 514))),
    ("junos-tcp-any", 6, None),
    ("junos-telnet", 6, Some((23, 23))),
    ("junos-tftp", 17, Some((69, 69))),
    ("junos-udp-any", 17, None),
];

impl Builder {
    pub(super) fn zones(&mut self, top: &At<'_>) -> Vec<Zone> {
        let Some(all) = top.descend(&["security", "zones"]) else { return Vec::new() };
        let mut zones: Vec<Zone> = Vec::new();
        for at in all.children("security-zone") {
            let mut interfaces = Vec::new();
            for node in at.child("interfaces").iter().flat_map(|list| list.node.children_named("<interface>"))
            {
                let name = InterfaceName(node.value().to_owned());
                if let Some(other) = zones.iter().find(|zone| zone.interfaces.contains(&name)) {
                    let message = format!("interface {name} is already in zone `{}`", other.name);
                    self.error(Kind::Duplicate, node.span, &at.path, message, "an interface is in one zone");
                }
                interfaces.push(name);
            }
            zones.push(Zone { name: at.key().to_owned(), interfaces, place: at.place() });
        }
        zones
    }

    pub(super) fn default_policy(&mut self, at: Option<At<'_>>) -> DefaultPolicy {
        let Some(at) = at else { return DefaultPolicy::DenyAll };
        if at.has("permit-all") && at.has("deny-all") {
            let message = "`permit-all` and `deny-all` exclude each other";
            self.error(Kind::Conflict, at.node.span, &at.path, message, "keep one of them");
        }
        if at.has("permit-all") { DefaultPolicy::PermitAll } else { DefaultPolicy::DenyAll }
    }

    pub(super) fn address_books<'a>(&mut self, top: &At<'a>) -> Vec<Book<'a>> {
        let mut books = Vec::new();
        let Some(security) = top.child("security") else { return books };
        for at in security.children("address-book") {
            let zones = at
                .child("attach")
                .map(|attach| attach.children("zone").map(|at| at.key().to_owned()).collect());
            books.push(self.book(&at, zones));
        }
        for zone in security.child("zones").iter().flat_map(|zones| zones.children("security-zone")) {
            if let Some(at) = zone.child("address-book") {
                let book = self.book(&at, Some(vec![zone.key().to_owned()]));
                books.push(book);
            }
        }
        books
    }

    fn book<'a>(&mut self, at: &At<'a>, zones: Option<Vec<String>>) -> Book<'a> {
        let mut book = Book { zones, addresses: BTreeMap::new(), sets: BTreeMap::new() };
        for address in at.children("address") {
            if !address.has("prefix") {
                let message = format!("address `{}` has no prefix", address.key());
                self.error(
                    Kind::Missing,
                    address.node.span,
                    &at.path,
                    message,
                    "add one, such as 10.1.0.0/16",
                );
            }
            book.addresses.insert(address.key().to_owned(), address.value("prefix", prefix));
        }
        for set in at.children("address-set") {
            book.sets.insert(set.key().to_owned(), set);
        }
        book
    }

    fn addresses(
        &mut self,
        at: &At<'_>,
        name: &'static str,
        zone: &str,
        books: &[Book<'_>],
    ) -> Option<Addresses> {
        let matching = at.child("match")?;
        let nodes: Vec<&Node> = matching.node.children_named(name).collect();
        if nodes.is_empty() {
            self.require(&matching, name, |_| Some(()));
            return None;
        }
        let mut prefixes = Vec::new();
        let mut found = None;
        for node in nodes {
            match node.value() {
                "any" => found = Some(Addresses::Any),
                "any-ipv4" => found = found.or(Some(Addresses::AnyIpv4)),
                "any-ipv6" => found = found.or(Some(Addresses::AnyIpv6)),
                named => {
                    let seen = |book: &&Book<'_>| {
                        book.zones.as_ref().is_none_or(|zones| zones.iter().any(|attached| attached == zone))
                    };
                    let visible: Vec<&Book<'_>> = books.iter().filter(seen).collect();
                    if !collect(&visible, named, 0, &mut prefixes) {
                        let known: Vec<String> = visible
                            .iter()
                            .flat_map(|book| book.addresses.keys().chain(book.sets.keys()).cloned())
                            .collect();
                        self.dangling(at, node, "address", &known);
                    }
                }
            }
        }
        Some(found.unwrap_or(Addresses::Prefixes(prefixes)))
    }

    /// Resolves application names.
    pub(super) fn applications(&mut self, at: &At<'_>, nodes: Vec<&Node>, top: &At<'_>) -> Applications {
        let mut only = Vec::new();
        for node in nodes {
            if node.value() == "any" {
                return Applications::Any;
            }
            let defined = top.child("applications");
            let found = defined.as_ref().is_some_and(|all| self.application(all, node.value(), &mut only));
            if found {
                continue;
            }
            match PREDEFINED.iter().find(|(name, ..)| *name == node.value()) {
                Some((name, protocol, destination_ports)) => only.push(Application {
                    name: (*name).to_owned(),
                    protocol: Some(*protocol),
                    source_ports: None,
                    destination_ports: *destination_ports,
                }),
                None => {
                    let known: Vec<String> = PREDEFINED
                        .iter()
                        .map(|(name, ..)| (*name).to_owned())
                        .chain(
                            defined
                                .iter()
                                .flat_map(|all| all.children("application").map(|at| at.key().to_owned())),
                        )
                        .collect();
                    self.dangling(at, node, "application", &known);
                }
            }
        }
        if only.is_empty() { Applications::Any } else { Applications::Only(only) }
    }

    fn application(&mut self, all: &At<'_>, name: &str, only: &mut Vec<Application>) -> bool {
        if let Some(set) = all.children("application-set").find(|set| set.key() == name) {
            for member in set.children("application") {
                let known = all.children("application").any(|at| at.key() == member.key());
                let predefined = PREDEFINED.iter().find(|(name, ..)| *name == member.key());
                match predefined {
                    Some((name, protocol, destination_ports)) if !known => only.push(Application {
                        name: (*name).to_owned(),
                        protocol: Some(*protocol),
                        source_ports: None,
                        destination_ports: *destination_ports,
                    }),
                    _ if known => {
                        self.application(all, member.key(), only);
                    }
                    _ => self.dangling(&set, member.node, "application", &[]),
                }
            }
            return true;
        }
        let Some(at) = all.children("application").find(|at| at.key() == name) else { return false };
        only.push(Application {
            name: name.to_owned(),
            protocol: at.value("protocol", protocol_number),
            source_ports: at.value("source-port", ports),
            destination_ports: at.value("destination-port", ports),
        });
        true
    }

    pub(super) fn policies(
        &mut self,
        top: &At<'_>,
        zones: &[Zone],
        books: &[Book<'_>],
    ) -> (Vec<Policy>, Vec<IpsecPolicy>) {
        let mut policies = Vec::new();
        let mut bindings = Vec::new();
        let mut index = FIRST_POLICY_INDEX;
        let Some(security) = top.child("security") else { return (policies, bindings) };
        for pair in security.child("policies").iter().flat_map(|all| all.children("from-zone")) {
            let (from, to) = self.zone_pair(&pair, zones);
            for at in pair.children("policy") {
                policies.extend(self.policy(&at, &from, &to, index, books, top));
                index += 1;
            }
        }
        for pair in security.child("ipsec-policy").iter().flat_map(|all| all.children("from-zone")) {
            let (from_zone, to_zone) = self.zone_pair(&pair, zones);
            let Some(vpn) = self.require(&pair, "ipsec-group-vpn", |name| Some(name.to_owned())) else {
                continue;
            };
            bindings.push(IpsecPolicy { from_zone, to_zone, vpn, index, place: pair.place() });
            index += 1;
        }
        (policies, bindings)
    }

    fn zone_pair(&mut self, at: &At<'_>, zones: &[Zone]) -> (String, String) {
        let known: Vec<String> = zones.iter().map(|zone| zone.name.clone()).collect();
        let names: Vec<&str> = at.node.values.iter().map(|word| word.text.as_str()).collect();
        for (word, name) in at.node.values.iter().zip(&names) {
            // `junos-host` is the router itself.
            if *name != "junos-host" && !known.iter().any(|zone| zone == name) {
                let leaf = Node { values: vec![word.clone()], span: word.span, ..Node::default() };
                self.dangling(at, &leaf, "security-zone", &known);
            }
        }
        (names.first().copied().unwrap_or("").to_owned(), names.get(1).copied().unwrap_or("").to_owned())
    }

    fn policy(
        &mut self,
        at: &At<'_>,
        from: &str,
        to: &str,
        index: u32,
        books: &[Book<'_>],
        top: &At<'_>,
    ) -> Option<Policy> {
        if !at.has("match") {
            self.require(at, "match", |_| Some(()));
        }
        let source = self.addresses(at, "source-address", from, books);
        let destination = self.addresses(at, "destination-address", to, books);
        if let Some(matching) = at.child("match")
            && !matching.has("application")
        {
            self.require(&matching, "application", |_| Some(()));
        }
        let names = at
            .child("match")
            .map(|matching| matching.node.children_named("application").collect())
            .unwrap_or_default();
        let applications = self.applications(at, names, top);
        let action = self.policy_action(at);
        Some(Policy {
            from_zone: from.to_owned(),
            to_zone: to.to_owned(),
            name: at.key().to_owned(),
            index,
            source: source?,
            destination: destination?,
            applications,
            action: action?,
            place: at.place(),
        })
    }

    fn policy_action(&mut self, at: &At<'_>) -> Option<PolicyAction> {
        let then = at.child("then");
        let then = then.as_ref();
        let chosen: Vec<&str> = ["permit", "deny", "reject"]
            .into_iter()
            .filter(|name| then.is_some_and(|then| then.has(name)))
            .collect();
        match chosen.as_slice() {
            ["deny"] => Some(PolicyAction::Deny),
            ["reject"] => Some(PolicyAction::Reject),
            ["permit"] => match then.and_then(|then| then.descend(&["permit", "tunnel"])) {
                None => Some(PolicyAction::Permit),
                Some(tunnel) => self
                    .require(&tunnel, "ipsec-group-vpn", |name| Some(name.to_owned()))
                    .map(|vpn| PolicyAction::Tunnel { vpn }),
            },
            [] => {
                let message = format!("policy `{}` does not say what happens", at.key());
                let remedy = "add `then { permit { tunnel { ipsec-group-vpn NAME; } } }`, `then permit` or `then deny`";
                self.outside(Kind::Missing, at.node.span, &at.path, message, remedy);
                None
            }
            several => {
                let message = format!("policy `{}` says {}", at.key(), several.join(" and "));
                self.error(Kind::Conflict, at.node.span, &at.path, message, "keep one of them");
                None
            }
        }
    }
}

/// Adds the prefixes of an address or set; false if it is not defined.
fn collect(books: &[&Book<'_>], name: &str, depth: usize, prefixes: &mut Vec<IpNet>) -> bool {
    for book in books {
        if let Some(address) = book.addresses.get(name) {
            prefixes.extend(*address);
            return true;
        }
        if let Some(set) = book.sets.get(name) {
            if depth < MAX_SETS {
                for node in set.node.children_named("address").chain(set.node.children_named("address-set")) {
                    collect(std::slice::from_ref(book), node.value(), depth + 1, prefixes);
                }
            }
            return true;
        }
    }
    false
}
