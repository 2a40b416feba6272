//! The statements of seed 001, from text to meaning.

use config::{Kind, model::*, read};

#[test]
fn a_member_bound_by_a_service_set_loads() {
    let text = include_str!("../testdata/seed001/member.conf");
    let candidate = read(text, &[]);
    let model = candidate.model.as_ref().unwrap_or_else(|| panic!("{:#?}", candidate.findings));
    let vpn = &model.member.as_ref().unwrap().vpns[0];
    assert_eq!(vpn.gateway.servers.len(), 4);
    assert_eq!(vpn.gateway.routing_instance.as_deref(), Some("red"));
    assert_eq!(vpn.gateway.policy.proposals[0].lifetime_secs, 180, "the default of a v2 member");
    assert_eq!(vpn.tunnel_mtu, Some(1400));
    let external: Vec<_> =
        model.external_interfaces(vpn).into_iter().map(|interface| interface.device).collect();
    assert_eq!(external, ["eth1"]);
    let filter = &model.service_filters[0];
    assert_eq!(filter.terms[0].protocols, [89, 103]);
    assert_eq!(filter.terms[0].action, FilterAction::Skip);
    assert_eq!(filter.terms[1].action, FilterAction::Service);
    assert!(candidate.findings.iter().all(|finding| finding.kind != Kind::NotActiveYet));
    assert_eq!(
        candidate.tree.to_braces(),
        text.replace("\"at least twenty signs long\";", &secret(&candidate))
    );
}

/// The one line that is shown in another form than it was written in.
fn secret(candidate: &config::Candidate) -> String {
    let braces = candidate.tree.to_braces();
    let line = braces.lines().find(|line| line.contains("ascii-text")).unwrap();
    line.split_once("ascii-text ").unwrap().1.to_owned()
}

#[test]
fn every_rendering_of_a_member_is_kept() {
    let mut candidate = read(include_str!("../testdata/seed001/member.conf"), &[]);
    candidate = config::load(
        &candidate.tree,
        "deactivate security group-vpn member ipsec vpn group-one fail-open\n\
         deactivate interfaces xe-0/3/1 unit 0 family inet address\n\
         set protocols ospf area 0.0.0.0 interface all",
        &[],
        config::LoadMode::Merge,
    );
    insta::assert_snapshot!("braces", candidate.tree.to_braces());
    insta::assert_snapshot!("set", candidate.tree.to_set_lines());
    insta::assert_snapshot!("json", serde_json::to_string_pretty(&candidate.tree.to_json()).unwrap());
    insta::assert_snapshot!("xml", candidate.tree.to_xml());
}

#[test]
fn parts_of_a_configuration_are_shown_by_path() {
    let tree = read(include_str!("../testdata/seed001/member.conf"), &[]).tree;
    let path = ["security", "group-vpn", "member", "ipsec", "vpn", "group-one", "fail-open"];
    let shown = tree.show_braces(&path).unwrap();
    assert!(shown.starts_with("rule management {\n"), "{shown}");
    let lines = tree.show_set_lines(&path).unwrap();
    assert!(
        lines
            .lines()
            .all(|line| line.starts_with("set security group-vpn member ipsec vpn group-one fail-open "))
    );
    assert_eq!(tree.show_braces(&["security", "group-vpn", "server"]), None);
    let leaf = tree.show_braces(&["services", "service-set", "group-vpn-set", "ipsec-group-vpn"]).unwrap();
    assert_eq!(leaf, "ipsec-group-vpn group-one;\n");
    let json = tree.show_json(&["firewall"]).unwrap();
    assert_eq!(json["configuration"].as_object().unwrap().len(), 1);
}
