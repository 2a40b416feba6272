//! What a configuration means: defaults, references, roles.

use config::model::*;
use config::{LoadMode, load, read};

const SERVER: &str = r#"
security group-vpn server {
    ike {
        proposal v1 { authentication-algorithm sha1; encryption-algorithm 3des-cbc; }
        proposal v2 { authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; lifetime-seconds 600; }
        policy p { proposals [ v2 v1 ]; pre-shared-key ascii-text "a key of more than twenty characters"; }
        policy h { mode aggressive; proposals v2; pre-shared-key hexadecimal 000102030405060708090a0b0c0d0e0f10111213; }
        gateway a { ike-policy p; address 10.0.0.1; }
        gateway b { ike-policy h; dynamic user-at-hostname b@member.example; dead-peer-detection { threshold 3; } }
    }
    ipsec { proposal e { authentication-algorithm hmac-sha1-96; encryption-algorithm aes-128-cbc; } }
    group g {
        group-id 4294967295;
        ike-gateway a;
        ike-gateway b;
        ipsec-sa s { proposal e; match-policy m { source 10.0.0.0/8; destination 10.0.0.0/8; } }
    }
}
"#;

#[test]
fn defaults_are_those_of_the_table() {
    let candidate = read(SERVER, &[]);
    let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
    let server = model.server.unwrap();
    assert_eq!(server.listen_ports, [848]);
    let group = server.group_by_id(u32::MAX).unwrap();
    assert_eq!(group.anti_replay, AntiReplay::Window { millis: 100_000 });
    assert_eq!(group.activation_time_delay_secs, 15);
    assert_eq!(group.sender_id_bits, 16);
    assert_eq!(group.compatibility.id_length_octets, 1);
    assert_eq!(group.member_threshold, None);
    assert!(group.communication.is_none());
    let policy = &group.gateways[0].policy;
    let proposals: Vec<_> =
        policy.proposals.iter().map(|it| (it.name.as_str(), it.dh_group, it.lifetime_secs)).collect();
    assert_eq!(proposals, [("v2", DhGroup::Group14, 600), ("v1", DhGroup::Group2, 28800)]);
    assert_eq!(policy.mode, IkeMode::Main);
    assert_eq!(policy.pre_shared_key.as_ref().unwrap().expose(), b"a key of more than twenty characters");
    let dynamic = &group.gateways[1];
    assert_eq!(dynamic.peer, Peer::Dynamic(Identity::UserAtHostname("b@member.example".into())));
    let expected: Vec<u8> = (0..0x14).collect();
    assert_eq!(dynamic.policy.pre_shared_key.as_ref().unwrap().expose(), expected);
    let probes = dynamic.dead_peer_detection.unwrap();
    assert_eq!((probes.interval_secs, probes.threshold), (10, 3));
    let sa = &group.security_associations[0];
    assert_eq!(sa.proposal.lifetime_secs, 3600);
    assert_eq!((sa.policies[0].protocol, sa.policies[0].source_port), (0, 0));
    assert_eq!(model.default_policy, DefaultPolicy::DenyAll);
}

const MEMBER: &str = r#"
security group-vpn member {
    ike {
        proposal p { authentication-algorithm sha1; encryption-algorithm aes-128-cbc; }
        policy p { proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }
        gateway v1 { ike-policy p; address 10.0.0.1; }
        gateway v2 { ike-policy p; server-address 10.0.0.2; server-address 10.0.0.1; }
    }
    ipsec {
        vpn one { ike-gateway v1; group 1; group-vpn-external-interface lo0.0; exclude { rule r { source-address address 10.9.0.0/16; application junos-ssh; } } }
        vpn two { ike-gateway v2; group 2; group-vpn-external-interface ge-0/0/3.7; compatibility { ike-doi 1; group-id-form ipv4-address; non-esp-marker; } }
    }
}
security policies {
    from-zone trust to-zone untrust { policy a { match { source-address inside; destination-address any; application any; } then { permit { tunnel { ipsec-group-vpn one; } } } } }
    from-zone untrust to-zone trust { policy b { match { source-address any; destination-address inside; application any; } then { permit { tunnel { ipsec-group-vpn one; } } } } }
    default-policy permit-all;
    dynamic-policy enable;
}
security ipsec-policy from-zone trust to-zone untrust ipsec-group-vpn two;
security address-book global { address-set inside { address n1; address n2; } address n1 10.1.0.0/16; address n2 10.2.0.0/16; }
security zones {
    security-zone trust { interfaces { ge-0/0/1.0; } }
    security-zone untrust { interfaces { ge-0/0/2.0; eth9; lo0.0; } }
}
interfaces {
    ge-0/0/1 { linux-device lan0; }
    ge-0/0/2 { linux-device wan0; }
    ge-0/0/3 { linux-device wan1; unit 7 { } }
}
"#;

#[test]
fn a_loopback_means_the_interfaces_of_the_outer_zone() {
    let candidate = read(MEMBER, &[]);
    let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
    let member = model.member.as_ref().unwrap();
    let devices = |vpn: &str| -> Vec<String> {
        model
            .external_interfaces(member.vpn(vpn).unwrap())
            .into_iter()
            .map(|interface| interface.device)
            .collect()
    };
    assert_eq!(devices("one"), ["wan0", "eth9"]);
    assert_eq!(devices("two"), ["wan1.7"], "a unit other than 0 is the VLAN device");
    // The pair may be written the other way round.
    let mut swapped = model.clone();
    swapped.policies.reverse();
    let outside = swapped.external_interfaces(member.vpn("one").unwrap());
    assert_eq!(outside.len(), 2);
    assert_eq!(outside[0].device, "wan0");
}

#[test]
fn policies_have_the_indexes_of_the_seed_and_their_addresses_resolved() {
    let model = read(MEMBER, &[]).model.unwrap();
    let indexes: Vec<_> = model.policies.iter().map(|policy| policy.index).collect();
    assert_eq!(indexes, [4, 5]);
    assert_eq!(model.ipsec_policies[0].index, 6);
    let inside = Addresses::Prefixes(vec!["10.1.0.0/16".parse().unwrap(), "10.2.0.0/16".parse().unwrap()]);
    assert_eq!(model.policies[0].source, inside);
    assert_eq!(model.policies[1].destination, inside);
    let member = model.member.unwrap();
    let rule = &member.vpns[0].exclude[0];
    assert!(
        matches!(&rule.application, Applications::Only(only) if only[0].destination_ports == Some((22, 22)))
    );
    let [one, two] = &member.vpns[..] else { panic!("two VPNs") };
    assert_eq!(
        (one.ike_doi, one.group_id_form, one.non_esp_marker),
        (IkeDoi::Gdoi, GroupIdForm::KeyId, false)
    );
    assert_eq!(
        (two.ike_doi, two.group_id_form, two.non_esp_marker),
        (IkeDoi::Ipsec, GroupIdForm::Ipv4Address, true)
    );
    assert_eq!(member.vpns[1].gateway.policy.proposals[0].lifetime_secs, 180);
    assert_eq!(member.vpns[0].gateway.policy.proposals[0].lifetime_secs, 28800);
}

#[test]
fn co_location_yields_both_roles() {
    let server = SERVER.replace("security group-vpn server", "security group-vpn co-location server");
    let member = MEMBER.replace("security group-vpn member", "security group-vpn co-location member");
    let candidate = read(&(server + &member), &[]);
    let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
    assert!(model.server.is_some() && model.member.is_some());
    let shown = candidate
        .tree
        .show_braces(&["security", "group-vpn", "co-location", "server", "group", "g"])
        .unwrap();
    assert!(shown.starts_with("group-id 4294967295;\n"), "{shown}");
}

#[test]
fn inactive_statements_have_no_effect() {
    let text = SERVER
        .replace("gateway b {", "inactive: gateway b {")
        .replace("ike-gateway b;", "inactive: ike-gateway b;");
    let candidate = read(&text, &[]);
    let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
    assert_eq!(model.server.unwrap().gateways.len(), 1);
    assert!(candidate.tree.to_braces().contains("inactive: gateway b {"));
    assert!(candidate.tree.to_set_lines().contains("deactivate security group-vpn server ike gateway b\n"));
}

#[test]
fn an_empty_text_is_no_configuration() {
    for text in ["", " \n", "/* all of it\n is gone */\n# and this\n"] {
        let candidate = read(text, &[]);
        assert!(candidate.has_errors() && candidate.model.is_none(), "{text}");
        assert!(candidate.findings[0].message.contains("no statement"), "{:?}", candidate.findings);
        assert!(!read(text, &["security", "group-vpn"]).has_errors(), "a part may be empty");
    }
}

#[test]
fn a_configuration_may_have_no_roles() {
    for text in ["security { group-vpn; }", "security { group-vpn { } }", "set security group-vpn"] {
        let candidate = read(text, &[]);
        assert_eq!(candidate.findings, [], "{text}");
        let model = candidate.model.unwrap();
        assert!(model.server.is_none() && model.member.is_none());
        // It is still there when it was written and read again.
        let again = read(&candidate.tree.to_braces(), &[]);
        assert_eq!((again.tree, again.findings), (candidate.tree, vec![]), "{text}");
    }
}

#[test]
fn a_load_merges_replaces_or_overrides() {
    let tree = read(SERVER, &[]).tree;
    let at = ["security", "group-vpn", "server"];
    let merged = load(&tree, "ike { gateway a { address 10.0.0.9; } }", &at, LoadMode::Merge);
    let server = merged.model.unwrap().server.unwrap();
    assert_eq!(server.gateway("a").unwrap().peer, Peer::Address("10.0.0.9".parse().unwrap()));
    assert_eq!(server.gateways.len(), 2);

    let text = "replace: group g { group-id 7; ike-gateway a; ipsec-sa s { proposal e; match-policy n { source 10.3.0.0/16; destination 10.4.0.0/16; } } }";
    let replaced = load(&tree, text, &at, LoadMode::Replace);
    let group = &replaced.model.unwrap().server.unwrap().groups[0];
    assert_eq!((group.id, group.gateways.len(), group.security_associations[0].policies.len()), (7, 1, 1));

    let overridden = load(&tree, "protocols { ospf { area 0; } }", &[], LoadMode::Override);
    assert!(overridden.model.unwrap().server.is_none());

    let deleted = load(&tree, "delete security group-vpn server group g ike-gateway b", &[], LoadMode::Merge);
    assert_eq!(deleted.model.unwrap().server.unwrap().groups[0].gateways.len(), 1);
    let without = load(&tree, "group g { delete: ike-gateway b; delete: group-id; }", &at, LoadMode::Merge);
    assert!(
        !without.tree.to_set_lines().contains("ike-gateway b")
            && !without.tree.to_set_lines().contains("group-id")
    );
    let missing = load(&tree, "delete security group-vpn server group x", &[], LoadMode::Merge);
    assert_eq!(missing.findings[0].kind, config::Kind::DanglingReference);
}

#[test]
fn a_repeated_entry_is_read_as_one_and_said() {
    let text = SERVER.to_owned()
        + "security group-vpn server { ike { gateway a { local-address 10.0.0.100; } gateway a { local-address 10.0.0.101; } } }";
    let candidate = read(&text, &[]);
    let said: Vec<_> =
        candidate.findings.iter().filter(|finding| finding.kind == config::Kind::Duplicate).collect();
    assert_eq!(said.len(), 1, "{said:#?}");
}

#[test]
fn the_largest_configurations_are_read_in_reasonable_time() {
    let mut text = String::from(
        "security group-vpn server {\nike {\nproposal p { authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }\n",
    );
    text.push_str(
        "policy p { proposals p; pre-shared-key ascii-text \"a key of more than twenty characters\"; }\n",
    );
    for member in 0..1500 {
        text.push_str(&format!(
            "gateway m{member} {{ ike-policy p; address 10.{}.{}.1; }}\n",
            member / 256,
            member % 256
        ));
    }
    text.push_str("}\nipsec { proposal e { authentication-algorithm hmac-sha-256-128; encryption-algorithm aes-256-cbc; } }\n");
    for group in 0..250 {
        text.push_str(&format!("group g{group} {{ group-id {}; ", group + 1));
        for member in 0..20 {
            text.push_str(&format!("ike-gateway m{}; ", (group * 6 + member) % 1500));
        }
        let associations = if group == 0 { 400 } else { 1 };
        for sa in 0..associations {
            text.push_str(&format!("ipsec-sa s{sa} {{ proposal e; "));
            let policies = if group == 1 { 300 } else { 2 };
            for policy in 0..policies {
                text.push_str(&format!(
                    "match-policy m{policy} {{ source {}.{}.{}.0/24; destination 10.0.{}.0/24; }}\n",
                    11 + sa / 256,
                    sa % 256,
                    policy % 256,
                    policy / 256
                ));
            }
            text.push_str("}\n");
        }
        text.push_str("}\n");
    }
    text.push_str("}\n");
    let started = std::time::Instant::now();
    let candidate = read(&text, &[]);
    eprintln!("{} octets in {:?}", text.len(), started.elapsed());
    let server = candidate.model.map(|model| model.server.unwrap());
    let server =
        server.unwrap_or_else(|| panic!("{:#?}", candidate.findings.iter().take(3).collect::<Vec<_>>()));
    assert_eq!((server.gateways.len(), server.groups.len()), (1500, 250));
    assert!(started.elapsed().as_secs() < 20);
}

/// A server that shares its groups, with these statements of its store.
fn clustered(etcd: &str, cluster: &str) -> config::Candidate {
    let text = format!(
        r#"security group-vpn server {{
            ike {{
                proposal p {{ authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }}
                policy p {{ proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }}
                gateway a {{ ike-policy p; address 10.0.0.2; }}
                gateway other {{ ike-policy p; address 10.0.0.1; }}
            }}
            ipsec {{ proposal e {{ authentication-algorithm hmac-sha1-96; encryption-algorithm aes-128-cbc; }} }}
            {etcd}
            group g {{
                group-id 1;
                ike-gateway a;
                {cluster}
                ipsec-sa s {{ proposal e; match-policy m {{ source 10.1.0.0/16; destination 10.2.0.0/16; }} }}
            }}
        }}"#
    );
    config::read(&text, &[])
}

#[test]
fn servers_that_share_their_groups_are_told_where_and_as_whom() {
    let candidate = clustered(
        "cluster-store etcd { endpoint [ https://10.0.0.8:2379 \"https://[fd00::1]:2379\" ]; prefix /wan/; server-name one; \
         lease-seconds 3; cluster-key /etc/groupvpn/cluster.key; certificate-authority ca.pem; certificate a.pem; \
         private-key a.key; user gvpn; password \"secret words\"; }",
        "server-cluster { server-role sub-server; ike-gateway other; retransmission-period 4; }",
    );
    let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
    let server = model.server.unwrap();
    let store = server.cluster_store.as_ref().unwrap();
    assert_eq!(store.endpoints, ["https://10.0.0.8:2379", "https://[fd00::1]:2379"]);
    assert_eq!((store.prefix.as_str(), store.server_name.as_deref()), ("/wan", Some("one")));
    assert_eq!(
        (store.lease_secs, store.role, store.retransmission_period_secs),
        (3, config::model::ServerRole::SubServer, 4)
    );
    assert_eq!(store.cluster_key.as_deref(), Some("/etc/groupvpn/cluster.key"));
    let tls = store.tls.as_ref().unwrap();
    assert_eq!(tls.certificate, Some(("a.pem".to_owned(), "a.key".to_owned())));
    assert_eq!(store.user.as_ref().unwrap().1.expose(), b"secret words");
    assert_eq!(server.groups[0].cluster.as_ref().unwrap().gateways[0].name, "other");
    assert!(!candidate.tree.to_braces().contains("secret words"), "a password is not shown");
}

#[test]
fn a_store_that_cannot_be_reached_or_shared_is_an_error_that_names_the_statement() {
    let told = |etcd: &str, cluster: &str| {
        let candidate = clustered(etcd, cluster);
        let findings: Vec<String> =
            candidate.findings.iter().map(|finding| finding.message.clone()).collect();
        (candidate.model.is_some(), findings.join("\n"))
    };
    let role = "server-cluster { server-role root-server; }";
    for (etcd, cluster, words) in [
        ("cluster-store { etcd { lease-seconds 3; } }", role, "no `endpoint`"),
        ("cluster-store etcd { endpoint 10.0.0.1:2379; }", role, "begins with neither"),
        ("cluster-store etcd { endpoint http://10.0.0.1; }", role, "names no port"),
        (
            "cluster-store etcd { endpoint [ http://10.0.0.1:1 https://10.0.0.2:1 ]; }",
            role,
            "some endpoints speak TLS",
        ),
        (
            "cluster-store etcd { endpoint https://10.0.0.1:1; certificate a.pem; }",
            role,
            "without `private-key`",
        ),
        ("cluster-store etcd { endpoint http://10.0.0.1:1; user a; }", role, "without `password`"),
        ("cluster-store etcd { endpoint http://10.0.0.1:1; prefix wan; }", role, "begins with no name"),
        ("cluster-store etcd { endpoint http://10.0.0.1:1; }", "", "has no `server-cluster`"),
        ("cluster-store etcd { endpoint http://10.0.0.1:1; }", "server-cluster { }", "no `server-role`"),
    ] {
        let (accepted, findings) = told(etcd, cluster);
        assert!(!accepted && findings.contains(words), "{etcd} {cluster}: {findings}");
    }
    let (accepted, findings) = told("", role);
    assert!(accepted && findings.contains("without `cluster-store`"), "{findings}");
}
