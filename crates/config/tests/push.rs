//! Rekey by push: what the statements mean, what is refused and what is warned of.

use config::model::*;
use config::{Finding, Severity, read};

/// A server with one group; `{group}` and `{lifetime}` are filled in.
fn server(group: &str, lifetime: u32) -> String {
    format!(
        r#"security group-vpn server {{
    ike {{
        proposal p {{ authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; dh-group group14; }}
        policy p {{ proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }}
        gateway a {{ ike-policy p; address 10.0.0.1; }}
    }}
    ipsec {{ proposal e {{ authentication-algorithm hmac-sha-256-128; encryption-algorithm aes-256-cbc; lifetime-seconds {lifetime}; }} }}
    group g {{
        group-id 1;
        ike-gateway a;
        no-anti-replay;
        ipsec-sa s {{ proposal e; match-policy m {{ source 10.0.0.0/8; destination 10.0.0.0/8; }} }}
        {group}
    }}
}}
"#
    )
}

fn group(text: &str) -> Group {
    let candidate = read(text, &[]);
    let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
    model.server.unwrap().groups.remove(0)
}

fn said(text: &str, severity: Severity) -> Vec<Finding> {
    read(text, &[]).findings.into_iter().filter(|finding| finding.severity == severity).collect()
}

fn messages(text: &str, severity: Severity) -> Vec<String> {
    said(text, severity).into_iter().map(|finding| finding.message).collect()
}

const UNICAST: &str =
    "server-member-communication { encryption-algorithm aes-256-cbc; sig-hash-algorithm sha-256; }";
const MULTICAST: &str = "server-member-communication { communication-type multicast; multicast-group 226.1.1.1; \
     multicast-outgoing-interface lo0.0; encryption-algorithm aes-128-cbc; sig-hash-algorithm sha1; }";

#[test]
fn a_push_group_has_the_defaults_of_the_table() {
    let unicast = group(&server(UNICAST, 3600)).communication.unwrap();
    assert_eq!(unicast.communication_type, CommunicationType::Unicast);
    assert_eq!((unicast.lifetime_secs, unicast.heartbeat_secs), (3600, None));
    assert_eq!((unicast.retransmission_period_secs, unicast.number_of_retransmission), (10, 2));
    let multicast = group(&server(MULTICAST, 3600)).communication.unwrap();
    assert_eq!(multicast.heartbeat_secs, Some(300));
    assert_eq!(multicast.multicast_group, Some("226.1.1.1".parse().unwrap()));
    assert_eq!(multicast.multicast_outgoing_interface, Some(InterfaceName("lo0.0".into())));
    assert_eq!(multicast.signature_hash, Some(SignatureHash::Sha1));
    assert_eq!(messages(&server(UNICAST, 3600), Severity::Warning), Vec::<String>::new());
    assert_eq!(messages(&server(MULTICAST, 3600), Severity::Warning), Vec::<String>::new());
}

#[test]
fn multicast_needs_a_group_that_routers_forward_and_an_interface_that_exists() {
    for (wrong, message) in [
        ("multicast-group 226.1.1.1;", "`server-member-communication` has no `multicast-group`"),
        ("multicast-outgoing-interface lo0.0;", "has no `multicast-outgoing-interface`"),
    ] {
        let text = server(&MULTICAST.replace(wrong, ""), 3600);
        assert!(messages(&text, Severity::Error).iter().any(|it| it.contains(message)), "{message}");
    }
    for address in ["10.1.1.1", "224.0.0.9", "ff02::1", "fd00::1"] {
        let text = server(&MULTICAST.replace("226.1.1.1", address), 3600);
        let errors = messages(&text, Severity::Error);
        assert!(errors.iter().any(|it| it.contains("multicast-group")), "{address}: {errors:?}");
    }
    let text = server(&MULTICAST.replace("226.1.1.1", "ff35::8000:1"), 3600);
    assert_eq!(messages(&text, Severity::Error), [""; 0]);
    let text = server(&MULTICAST.replace("lo0.0", "ge-0/0/7.0"), 3600);
    assert_eq!(messages(&text, Severity::Error), ["interface ge-0/0/7.0 has no Linux device"]);
}

#[test]
fn a_kek_that_dies_before_its_successor_arrived_is_refused() {
    // Five rounds of 60 s before the last 7 % of its life: the replacement takes 349 s.
    let slow = |lifetime: u32| {
        let statements = format!(
            "server-member-communication {{ lifetime-seconds {lifetime}; retransmission-period 60; \
             number-of-retransmission 5; encryption-algorithm aes-256-cbc; sig-hash-algorithm sha-256; }}"
        );
        said(&server(&statements, 86400), Severity::Error)
    };
    let errors = slow(697);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].message.contains("less than twice the 349 s"), "{}", errors[0].message);
    assert_eq!(errors[0].remedy.as_deref(), Some("use `lifetime-seconds 698` or more"));
    assert!(slow(698).is_empty());
}

#[test]
fn a_traffic_key_too_short_for_its_rounds_is_warned_of_with_one_that_fits() {
    let statements = "server-member-communication { retransmission-period 30; number-of-retransmission 3; \
                      encryption-algorithm aes-256-cbc; sig-hash-algorithm sha-256; }";
    let warnings = said(&server(statements, 240), Severity::Warning);
    let capped = warnings.iter().find(|it| it.message.contains("half its lifetime")).unwrap();
    assert!(capped.remedy.as_deref().unwrap().starts_with("`lifetime-seconds 260` fits"), "{capped:?}");
}

#[test]
fn ecdsa_needs_no_hash_and_says_when_another_is_named() {
    let without =
        "signature-algorithm ecdsa-384; server-member-communication { encryption-algorithm aes-256-cbc; }";
    let ecdsa = group(&server(without, 3600));
    assert_eq!(ecdsa.signature_algorithm, SignatureAlgorithm::Ecdsa384);
    assert_eq!(ecdsa.communication.unwrap().signature_hash, None);
    let other = format!("signature-algorithm ecdsa-384; {UNICAST}");
    let warnings = messages(&server(&other, 3600), Severity::Warning);
    assert_eq!(warnings, ["`ecdsa-384` signs with sha-384, whatever `sig-hash-algorithm` says"]);
    let rsa = "server-member-communication { encryption-algorithm aes-256-cbc; }";
    let errors = messages(&server(rsa, 3600), Severity::Error);
    assert_eq!(errors, ["`server-member-communication` has no `sig-hash-algorithm`"]);
}

#[test]
fn statements_without_anything_to_act_on_are_named() {
    let text = server("signature-algorithm rsa-3072; acknowledgement required;", 3600);
    assert_eq!(
        messages(&text, Severity::Warning),
        [
            "`signature-algorithm` has no effect without `server-member-communication`",
            "`acknowledgement` has no effect without `communication-type unicast`",
        ]
    );
    let text = server(&UNICAST.replace('{', "{ multicast-group 226.1.1.1;"), 3600);
    assert_eq!(
        messages(&text, Severity::Warning),
        ["`multicast-group` has no effect with `communication-type unicast`"]
    );
    let text = server(&UNICAST.replace("aes-256-cbc", "3des-cbc"), 3600);
    assert_eq!(messages(&text, Severity::Warning), ["weak protection of rekeys"]);
}

#[test]
fn lifetimes_for_tests_need_their_statement_and_are_warned_of() {
    let short = "activation-time-delay 1; server-member-communication { communication-type multicast; \
                 multicast-group 226.1.1.1; multicast-outgoing-interface eth0; lifetime-seconds 120; heartbeat 5; \
                 encryption-algorithm aes-256-cbc; sig-hash-algorithm sha-256; }";
    let text = server(short, 60);
    let errors = said(&text, Severity::Error);
    let expected: Vec<_> =
        errors.iter().map(|it| (it.message.as_str(), it.expected.as_deref().unwrap())).collect();
    assert_eq!(
        expected,
        [
            ("`lifetime-seconds`: 60 is out of range", "180..86400 seconds"),
            ("`activation-time-delay`: 1 is out of range", "10..900 seconds"),
            ("`lifetime-seconds`: 120 is out of range", "300..86400 seconds"),
            ("`heartbeat`: 5 is out of range", "60..3600 seconds"),
        ]
    );
    let allowed = text.clone() + "security group-vpn test-lifetimes;";
    let found = group(&allowed);
    assert_eq!(found.security_associations[0].proposal.lifetime_secs, 60);
    assert!(messages(&allowed, Severity::Warning).iter().any(|it| it.contains("for tests only")));
    for too_short in [text.replace("seconds 60", "seconds 59"), text.replace("seconds 120", "seconds 119")] {
        let errors = messages(&(too_short + "security group-vpn test-lifetimes;"), Severity::Error);
        assert_eq!(errors.len(), 1, "{errors:?}");
    }
    let inactive = text + "security { group-vpn { inactive: test-lifetimes; } }";
    assert_eq!(said(&inactive, Severity::Error).len(), 4);
    assert!(
        config::schema::completions(&["security", "group-vpn"]).iter().all(|it| it.word != "test-lifetimes")
    );
}
