//! What differs between two configurations: as text for `show | compare`, and by object for a reload.

use crate::model::{Configuration, Group, MemberGateway, ServerGateway, Vpn};
use crate::text::written;
use crate::tree::{Node, Tree};

/// How an object came to differ. References count: a gateway whose proposal changed is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// It is new.
    Added,
    /// It is there before and after, and means something else.
    Changed,
    /// It is gone.
    Removed,
}

/// Objects that differ, by name and in order of their names. What is not listed goes on undisturbed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Gateways of the server.
    pub server_gateways: Vec<(String, Change)>,
    /// Groups of the server.
    pub groups: Vec<(String, Change)>,
    /// Gateways of the member.
    pub member_gateways: Vec<(String, Change)>,
    /// VPNs of the member; a change of policies, zones, interfaces or service sets is not one of the VPN.
    pub vpns: Vec<(String, Change)>,
    /// Zones, policies, default policy, interfaces, service sets or filters differ: protection must be computed again.
    pub protection: bool,
    /// Trace options differ.
    pub trace_options: bool,
    /// The server's ports differ.
    pub listen_ports: bool,
    /// The member's behaviour at a stop differs.
    pub stop_behaviour: bool,
}

impl Changes {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        *self == Changes::default()
    }
}

/// What a reload has to do.
pub fn diff(old: &Configuration, new: &Configuration) -> Changes {
    let (old_server, new_server) = (old.server.as_ref(), new.server.as_ref());
    let (old_member, new_member) = (old.member.as_ref(), new.member.as_ref());
    let server_gateways = |gateway: &std::sync::Arc<ServerGateway>| gateway.name.clone();
    let member_gateways = |gateway: &std::sync::Arc<MemberGateway>| gateway.name.clone();
    let protection = |configuration: &Configuration| {
        (
            configuration.zones.clone(),
            configuration.policies.clone(),
            configuration.default_policy,
            configuration.dynamic_policy,
            configuration.ipsec_policies.clone(),
            configuration.interfaces.clone(),
            (configuration.service_sets.clone(), configuration.service_filters.clone()),
        )
    };
    Changes {
        server_gateways: by_name(
            old_server.map_or(&[][..], |server| &server.gateways),
            new_server.map_or(&[][..], |server| &server.gateways),
            server_gateways,
        ),
        groups: by_name(
            old_server.map_or(&[][..], |server| &server.groups),
            new_server.map_or(&[][..], |server| &server.groups),
            |group: &Group| group.name.clone(),
        ),
        member_gateways: by_name(
            old_member.map_or(&[][..], |member| &member.gateways),
            new_member.map_or(&[][..], |member| &member.gateways),
            member_gateways,
        ),
        vpns: by_name(
            old_member.map_or(&[][..], |member| &member.vpns),
            new_member.map_or(&[][..], |member| &member.vpns),
            |vpn: &Vpn| vpn.name.clone(),
        ),
        protection: protection(old) != protection(new),
        trace_options: old.trace_options != new.trace_options,
        listen_ports: old_server.map(|server| &server.listen_ports)
            != new_server.map(|server| &server.listen_ports),
        stop_behaviour: old_member.map(|member| member.stop_behaviour)
            != new_member.map(|member| member.stop_behaviour),
    }
}

fn by_name<T: PartialEq>(old: &[T], new: &[T], name: impl Fn(&T) -> String) -> Vec<(String, Change)> {
    let table = |items: &'_ [T]| {
        items.iter().map(&name).zip(0..).collect::<std::collections::BTreeMap<String, usize>>()
    };
    let (before, after) = (table(old), table(new));
    let mut changes: Vec<(String, Change)> = Vec::new();
    for (name, index) in &before {
        match after.get(name) {
            None => changes.push((name.clone(), Change::Removed)),
            Some(other) if new[*other] != old[*index] => changes.push((name.clone(), Change::Changed)),
            Some(_) => {}
        }
    }
    changes.extend(
        after.keys().filter(|name| !before.contains_key(*name)).map(|name| (name.clone(), Change::Added)),
    );
    changes.sort();
    changes
}

/// The difference of two trees as `show | compare` prints it: under each `[edit PATH]` the statements that went (`-`) and
/// came (`+`). Empty where nothing differs.
pub fn compare(old: &Tree, new: &Tree) -> String {
    let mut out = String::new();
    compare_nodes(&mut out, &mut Vec::new(), &old.root, &new.root);
    out
}

fn compare_nodes(out: &mut String, path: &mut Vec<String>, old: &Node, new: &Node) {
    let same = |one: &Node, other: &Node| one.words() == other.words();
    let mut here = String::new();
    let mut index: std::collections::HashMap<Vec<&str>, &Node> = std::collections::HashMap::new();
    for child in &new.children {
        index.entry(child.words()).or_insert(child);
    }
    let mut known = std::collections::HashSet::new();
    for child in &old.children {
        known.insert(child.words());
        match index.get(&child.words()) {
            None => write_side(&mut here, '-', child),
            Some(other) if other.inactive != child.inactive => {
                let mark = if other.inactive { "inactive: " } else { "active: " };
                here.push_str(&format!("!   {mark}{};\n", shown(child)));
            }
            Some(_) => {}
        }
    }
    for child in new.children.iter().filter(|child| !known.contains(&child.words())) {
        write_side(&mut here, '+', child);
    }
    if !here.is_empty() {
        let place = if path.is_empty() { String::new() } else { format!(" {}", path.join(" ")) };
        out.push_str(&format!("[edit{place}]\n{here}"));
    }
    for child in &old.children {
        if let Some(other) = index.get(&child.words()).filter(|other| same(child, other)) {
            let length = path.len();
            path.extend(child.words().into_iter().map(written));
            compare_nodes(out, path, child, other);
            path.truncate(length);
        }
    }
}

fn shown(node: &Node) -> String {
    node.words().into_iter().map(written).collect::<Vec<_>>().join(" ")
}

fn write_side(out: &mut String, sign: char, node: &Node) {
    for line in crate::render::block(std::slice::from_ref(node)).lines() {
        out.push(sign);
        out.push_str("   ");
        out.push_str(line);
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = r#"
security {
    group-vpn {
        server {
            ike {
                proposal p { authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }
                policy q { proposals p; pre-shared-key ascii-text "twenty characters and more"; }
                gateway a { ike-policy q; address 10.0.0.1; }
                gateway b { ike-policy q; address 10.0.0.2; }
            }
            ipsec { proposal e { authentication-algorithm hmac-sha-256-128; encryption-algorithm aes-256-cbc; } }
            group g { group-id 1; ike-gateway a; ipsec-sa s { proposal e; match-policy m { source 10.1.0.0/16; destination 10.2.0.0/16; } } }
            group h { group-id 2; ike-gateway b; ipsec-sa s { proposal e; match-policy m { source 10.1.0.0/16; destination 10.2.0.0/16; } } }
        }
    }
}
"#;

    fn both(from: &str, to: &str) -> (crate::Candidate, crate::Candidate) {
        let changed = BEFORE.replace(from, to);
        assert_ne!(changed, BEFORE);
        (crate::read(BEFORE, &[]), crate::read(&changed, &[]))
    }

    fn changes(from: &str, to: &str) -> Changes {
        let (old, new) = both(from, to);
        diff(&old.model.unwrap(), &new.model.unwrap())
    }

    #[test]
    fn layout_and_order_of_words_change_nothing() {
        assert!(
            changes(
                "gateway a { ike-policy q; address 10.0.0.1; }",
                "gateway a { address 10.0.0.1;\n\n ike-policy q; }"
            )
            .is_empty()
        );
        assert!(
            changes(
                "\"twenty characters and more\"",
                &crate::obfuscation::encode(b"twenty characters and more")
            )
            .is_empty()
        );
    }

    #[test]
    fn a_change_reaches_what_refers_to_it_and_nothing_else() {
        let changed = |name: &str| (name.to_owned(), Change::Changed);
        let moved = changes("address 10.0.0.2", "address 10.0.0.3");
        assert_eq!(moved.server_gateways, [changed("b")]);
        assert_eq!(moved.groups, [changed("h")]);
        let key = changes("twenty characters and more", "another key of that length");
        assert_eq!(key.server_gateways, [changed("a"), changed("b")]);
        let gone = changes("group h {", "inactive: group h {");
        assert_eq!(gone.groups, [("h".to_owned(), Change::Removed)]);
        assert_eq!(gone.server_gateways, []);
    }

    #[test]
    fn the_text_form_shows_what_went_and_what_came() {
        let (old, new) = both(
            "gateway b { ike-policy q; address 10.0.0.2; }",
            "gateway b { ike-policy q; address 10.0.0.3; }",
        );
        assert_eq!(
            compare(&old.tree, &new.tree),
            "[edit security group-vpn server ike gateway b]\n-   address 10.0.0.2;\n+   address 10.0.0.3;\n"
        );
        let (old, new) = both("group h {", "inactive: group h {");
        assert_eq!(
            compare(&old.tree, &new.tree),
            "[edit security group-vpn server]\n!   inactive: group h;\n"
        );
        assert_eq!(compare(&old.tree, &old.tree), "");
    }
}
