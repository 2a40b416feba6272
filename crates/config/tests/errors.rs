//! What is said about wrong and about weak configurations: all of it at once, with place, expectation and remedy.

use config::{Report, read};

fn report(text: &str, at: &[&str]) -> String {
    let candidate = read(text, at);
    Report { name: "test.conf", text, findings: &candidate.findings }.for_people(false)
}

fn lines(text: &str) -> String {
    let candidate = read(text, &[]);
    Report { name: "test.conf", text, findings: &candidate.findings }.lines()
}

const BROKEN: &str = r#"security {
    group-vpn {
        server {
            ike {
                proposal strong {
                    authentication-method pre-shared-key;
                    authentication-algorithm sha-265;
                    encryption-algorithm aes-256-cbc
                    dh-group group14;
                    lifetime-seconds 10;
                }
                policy main {
                    mode main;
                    proposals strnog;
                    pre-shared-key ascii-text "short";
                }
                gatway lost { }
                gateway black {
                    ike-policy mian;
                    address 100.0.0.300;
                }
            }
            ipsec-propsal none;
            ipsec {
                proposal esp {
                    authentication-algorithm hmac-sha-256-128;
                    encryption-algorithm aes-256-cbc;
                }
            }
            group g1 {
                group-id 0;
                ike-gateway blakc;
                anti-replay-time-window 30;
                activation-time-delay 1000;
                ipsec-sa sa {
                    proposal espp;
                    match-policy one { source 10.0.0.0/33; destination 10.2.0.0/16; protocol 256; }
                    match-policy two { source 10.1.0.0/16; destination 2001:db8::/32; }
                    match-policy three { source 10.1.0.7/16; destination 10.2.0.0/16; source-port 80; }
                }
            }
        }
    }
    polices { }
}
"#;

#[test]
fn every_mistake_of_a_file_is_reported_at_once() {
    insta::assert_snapshot!(report(BROKEN, &[]));
}

#[test]
fn the_form_for_tools_is_one_line_each() {
    insta::assert_snapshot!(lines(BROKEN));
}

#[test]
fn the_form_for_programs_is_json() {
    let text = "security { group-vpn { server { group g { group-id 0; } } } }";
    let candidate = read(text, &[]);
    let report = Report { name: "test.conf", text, findings: &candidate.findings };
    insta::assert_snapshot!(serde_json::to_string_pretty(&report.json()).unwrap());
}

#[test]
fn syntax_errors_have_their_places() {
    insta::assert_snapshot!(report(
        "security {\n  group-vpn {\n    server {\n      ike-x \"open;\n    }\n}}}\n}\n/* never closed",
        &[]
    ));
}

#[test]
fn references_out_of_a_fragment_are_warnings() {
    let text = "gateway black {\n    ike-policy elsewhere;\n    address 10.0.0.1;\n}\n";
    let at = ["security", "group-vpn", "server", "ike"];
    assert!(!read(text, &at).has_errors());
    insta::assert_snapshot!(report(text, &at));
}

const SERVER: &str = r#"security {
    group-vpn {
        server {
            ike {
                listen-port 500;
                proposal old { authentication-algorithm md5; encryption-algorithm des-cbc; dh-group group1; }
                proposal new { authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }
                policy p { proposals [ old new ]; pre-shared-key ascii-text "nineteen characters"; }
                policy c { proposals new; pre-shared-key hexadecimal "00112233445566778899aabbccddeeff00112233"; }
                gateway a { ike-policy p; address 10.0.0.1; }
                gateway b { ike-policy c; address 10.0.0.1; }
                gateway d { ike-policy c; dynamic hostname member.example; }
            }
            ipsec {
                proposal esp { authentication-algorithm hmac-sha1-96; encryption-algorithm 3des-cbc; lifetime-seconds 240; }
                proposal gcm { encryption-algorithm aes-256-gcm; authentication-algorithm hmac-sha1-96; }
            }
            traceoptions { file kmd; gateway-filter { local-address 10.0.0.9; remote-address 10.0.0.1; } }
            group g1 {
                group-id 1;
                ike-gateway [ a b ];
                activation-time-delay 30;
                anti-replay-time-window 200ms;
                ipsec-sa sa {
                    proposal esp;
                    match-policy one { source 10.1.0.0/16; destination 10.2.0.0/16; }
                    match-policy two { source 10.1.0.0/16; destination 10.2.0.0/16; }
                }
                server-member-communication {
                    communication-type unicast;
                    lifetime-seconds 300;
                    retransmission-period 30;
                    number-of-retransmission 4;
                    encryption-algorithm aes-256-cbc;
                    sig-hash-algorithm sha-256;
                }
            }
            group g2 {
                group-id 1;
                ike-gateway d;
                compatibility { ike-doi 1; id-length-octets 2; }
                ipsec-sa sa { proposal gcm; match-policy six { source 2001:db8:1::/48; destination 2001:db8:2::/48; } }
            }
        }
    }
}
protocols { ospf { area 0 { interface all; } } }
chassis { cluster { reth-count 2; } }
"#;

#[test]
fn a_weak_and_contradictory_server_is_told_so() {
    insta::assert_snapshot!(lines(SERVER));
}

const MEMBER: &str = r#"security {
    group-vpn {
        member {
            ike {
                proposal p { authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }
                policy p { proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }
                gateway one { ike-policy p; server-address [ 10.0.0.1 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5 ]; }
                gateway two { ike-policy p; address 10.0.1.1; server-address 10.0.1.2; }
                gateway three { ike-policy p; address 10.0.1.1; }
            }
            ipsec {
                vpn a { ike-gateway three; group 1; group-vpn-external-interface ge-0/0/9.0; fail-open { rule r { } } }
                vpn b { ike-gateway three; group 1; group-vpn-external-interface lo0.0; compatibility { ike-doi 1; non-esp-marker; } }
                vpn c { ike-gateway three; group 2; }
                vpn d { ike-gateway nowhere; group 3; group-vpn-external-interface eth0; recovery-probe; df-bit maybe; }
            }
        }
    }
    policies {
        from-zone trust to-zone untrust {
            policy p {
                match { source-address [ any headquarter ]; destination-address any; application any; }
                then { permit { tunnel { ipsec-group-vpn b; } } }
            }
            policy q { match { source-address any; destination-address any; application junos-telnt; } }
        }
        from-zone trust to-zone nowhere { policy r { match { source-address any; destination-address any; application any; } then { permit; deny; } } }
    }
    zones {
        security-zone trust { interfaces { eth1; } address-book { address headquarters 10.9.0.0/16; } }
        security-zone untrust { interfaces { eth1; ge-0/0/8.0; } }
    }
}
"#;

#[test]
fn a_contradictory_member_is_told_so() {
    insta::assert_snapshot!(lines(MEMBER));
}

#[test]
fn a_wrong_pre_shared_key_is_not_quoted() {
    let text = "security { group-vpn { server { ike { policy p { pre-shared-key ascii-text \"$9$damaged-secret\"; } } } } }";
    let shown = report(text, &[]);
    assert!(shown.contains("does not decode"), "{shown}");
    assert!(!shown.contains("damaged"), "{shown}");
}

fn member(gateway: &str, vpns: &str, rest: &str) -> String {
    format!(
        "security {{ group-vpn {{ member {{ ike {{
            proposal p {{ authentication-algorithm sha-256; encryption-algorithm aes-128-cbc; dh-group group14; }}
            policy p {{ proposals p; pre-shared-key ascii-text \"a key of more than twenty characters\"; }}
            {gateway} }}
            ipsec {{ {vpns} }} }} }} }}
        {rest}"
    )
}

const SERVICE_SETS: &str = "
    services { service-set s { ipsec-group-vpn v; } }
    interfaces {
        ge-0/0/1 { linux-device wan0; unit 0 { family inet { service { output { service-set s; } } } } }
        ge-0/0/2 { linux-device wan0; unit 0 { family inet { service { output { service-set s; } } } } }
    }";

#[test]
fn a_service_set_matches_where_packets_leave() {
    let gateway = "gateway g { ike-policy p; address 10.0.0.1; }";
    let sets = SERVICE_SETS.replace("ge-0/0/2 { linux-device wan0;", "ge-0/0/2 { linux-device wan1;");
    let vpn = |direction: &str| format!("vpn v {{ ike-gateway g; group 1; match-direction {direction}; }}");
    assert!(!lines(&member(gateway, &vpn("output"), &sets)).contains("match-direction"));
    let refused = lines(&member(gateway, &vpn("input"), &sets));
    assert!(refused.contains("error") && refused.contains("`match-direction input`"), "{refused}");
}

#[test]
fn a_routing_instance_is_one_namespace_and_a_vpn_is_in_one_of_them() {
    let gateway =
        |name: &str, rest: &str| format!("gateway {name} {{ ike-policy p; address 10.0.0.1; {rest} }}");
    let vpn = "vpn v { ike-gateway g; group 1; }";
    let instances = |blue: &str| {
        format!("{SERVICE_SETS} routing-instances {{ red {{ interface ge-0/0/1.0; }} blue {{ {blue} }} }}")
    };
    let said = |gateways: &str, blue: &str| lines(&member(gateways, vpn, &instances(blue)));
    let g = gateway("g", "local-address 10.0.0.2 routing-instance red;");
    let apart = said(&g, "interface ge-0/0/2.0;");
    assert!(apart.contains("`v` has its interface ge-0/0/1.0 in routing instance `red`"), "{apart}");
    assert!(apart.contains("ge-0/0/2.0 in routing instance `blue`"), "{apart}");
    assert!(!apart.contains("linux-device is also"), "two namespaces may have a device of one name: {apart}");
    let twice = said(&g, "interface ge-0/0/1;");
    assert!(twice.contains("interface ge-0/0/1 is also in routing instance `red`"), "{twice}");
    assert!(said(&g, "linux-namespace ../red;").contains("cannot be the name of a network namespace"));
    assert!(said(&g, "linux-namespace red;").contains("also that of routing instance `red`"));
    let both = |local: &str| said(&format!("{g} {}", gateway("h", local)), "");
    assert!(both("").contains("cannot be told from that of"));
    assert!(both("local-address 10.0.0.2;").contains("cannot be told from that of"));
    assert!(!both("local-address 10.0.0.3 routing-instance blue;").contains("cannot be told"));
}
