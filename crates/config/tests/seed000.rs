//! Every configuration printed in seed 000 loads as it is printed.

use config::{Candidate, Kind, Severity, read};

fn load(file: &str, at: &[&str]) -> Candidate {
    let path = format!("{}/testdata/seed000/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap();
    let candidate = read(&text, at);
    let errors: Vec<_> = candidate.errors().collect();
    assert!(errors.is_empty(), "{file}: {errors:#?}");
    candidate
}

/// Leaves of the tree as set lines, to compare with what the text says.
fn lines(candidate: &Candidate) -> String {
    candidate.tree.to_set_lines()
}

#[test]
fn the_phase_1_configuration_of_the_server_loads() {
    let candidate = load("server-ike.conf", &[]);
    insta::assert_snapshot!(lines(&candidate));
}

#[test]
fn the_ipsec_proposal_of_the_server_loads() {
    insta::assert_snapshot!(lines(&load("server-ipsec.conf", &[])));
}

#[test]
fn the_group_loads_although_a_page_break_closed_its_blocks_twice() {
    let candidate = load("server-group.conf", &[]);
    insta::assert_snapshot!(lines(&candidate));
    let repaired = candidate.findings.iter().find(|finding| finding.kind == Kind::Syntax).unwrap();
    assert_eq!(repaired.severity, Severity::Warning);
}

#[test]
fn two_security_associations_load_at_their_place() {
    let candidate = load("ipsec-sa-two.conf", &["security", "group-vpn", "server", "group", "g1"]);
    insta::assert_snapshot!(lines(&candidate));
}

#[test]
fn one_security_association_loads_at_its_place() {
    let candidate = load("ipsec-sa-one.conf", &["security", "group-vpn", "server", "group", "g1"]);
    insta::assert_snapshot!(lines(&candidate));
}

#[test]
fn unicast_rekeys_load_although_the_prompt_is_wrapped() {
    insta::assert_snapshot!(lines(&load("unicast.conf", &[])));
}

#[test]
fn multicast_rekeys_load_although_the_prompt_is_abbreviated() {
    insta::assert_snapshot!(lines(&load("multicast.conf", &[])));
}

#[test]
fn the_group_with_multicast_loads() {
    insta::assert_snapshot!(lines(&load("server-group-multicast.conf", &[])));
}

#[test]
fn the_member_loads() {
    insta::assert_snapshot!(lines(&load("member.conf", &[])));
}

#[test]
fn the_policies_of_the_member_load() {
    insta::assert_snapshot!(lines(&load("policies.conf", &[])));
}

#[test]
fn routing_protocols_load_and_are_listed_as_not_managed_here() {
    for file in ["pim-server.conf", "igmp-pim-member.conf"] {
        let candidate = load(file, &[]);
        assert!(candidate.findings.iter().any(|finding| finding.kind == Kind::NotManagedHere), "{file}");
        insta::assert_snapshot!(file, candidate.tree.to_braces());
    }
}

#[test]
fn vrrp_on_interfaces_loads_at_its_place() {
    for file in ["vrrp-server1.conf", "vrrp-server2.conf"] {
        let candidate = load(file, &["interfaces"]);
        insta::assert_snapshot!(file, candidate.tree.to_braces());
    }
}

#[test]
fn the_commands_of_the_text_load() {
    let path = format!("{}/testdata/seed000/set-lines.conf", env!("CARGO_MANIFEST_DIR"));
    let mut tree = config::Tree::default();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let candidate = config::load(&tree, line, &[], config::LoadMode::Merge);
        let faults = |finding: &&config::Finding| !matches!(finding.kind, Kind::Missing);
        assert_eq!(candidate.errors().filter(faults).collect::<Vec<_>>(), Vec::<&config::Finding>::new());
        tree = candidate.tree;
    }
    insta::assert_snapshot!(tree.to_braces());
}

#[test]
fn the_listings_of_one_router_together_are_its_configuration() {
    let folder = format!("{}/testdata/seed000", env!("CARGO_MANIFEST_DIR"));
    let join = |files: &[&str]| -> String {
        files.iter().map(|file| std::fs::read_to_string(format!("{folder}/{file}")).unwrap()).collect()
    };
    let server = read(&join(&["server-ike.conf", "server-ipsec.conf", "server-group.conf"]), &[]);
    let model = server.model.unwrap_or_else(|| panic!("{:#?}", server.findings));
    let group = &model.server.unwrap().groups[0];
    assert_eq!((group.gateways.len(), group.security_associations[0].policies.len()), (3, 3));
    let part = read(&join(&["server-group.conf"]), &[]);
    assert!(part.model.is_none() && !part.has_errors());
    assert!(part.findings.iter().any(|finding| finding.message.contains("part of a configuration")));
}
