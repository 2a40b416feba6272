//! What is shown is read back as the same, in every form; nothing that is read makes the reader fail.

use config::{LoadMode, Tree, load, read};
use fuzz_body::exercise;
use proptest::prelude::*;

mod fuzz_body;

/// Statements of every kind the schema has, some of them with parts that the schema does not know.
fn statement() -> impl Strategy<Value = String> {
    let name = "[a-z][a-z0-9_-]{0,6}";
    let value = prop_oneof!["[a-z0-9./:-]{1,8}", "\\PC{1,10}"];
    let quoted = |text: String| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    prop_oneof![
        (name, 1..5u32, any::<bool>()).prop_map(|(name, id, inactive)| format!(
            "security {{ group-vpn {{ server {{ {}group {name} {{ group-id {id}; ike-gateway a; ike-gateway b; no-anti-replay; }} }} }} }}",
            if inactive { "inactive: " } else { "" }
        )),
        (name, value.clone()).prop_map(move |(name, text)| format!(
            "security {{ group-vpn {{ server {{ group {name} {{ description {}; }} }} }} }}",
            quoted(text)
        )),
        (name, "[!-~]{1,30}").prop_map(move |(name, key)| format!(
            "security {{ group-vpn {{ member {{ ike {{ policy {name} {{ proposals [ x y ]; pre-shared-key ascii-text {}; }} }} }} }} }}",
            quoted(key)
        )),
        (name, any::<bool>()).prop_map(|(name, inactive)| format!(
            "security {{ group-vpn {{ member {{ ike {{ gateway {name} {{ server-address [ 10.0.0.1 10.0.0.2 ]; local-address 10.0.0.9 {{ {}routing-instance r; }} dynamic-x; }} }} }} }} }}",
            if inactive { "inactive: " } else { "" }
        )),
        (name, name).prop_map(|(one, other)| format!(
            "security {{ policies {{ from-zone {one} to-zone {other} {{ policy p {{ match {{ source-address [ any b ]; }} then {{ permit {{ tunnel {{ ipsec-group-vpn v; }} }} }} }} }} }} zones {{ security-zone {one} {{ interfaces {{ ge-0/0/1.0; lo0.0; }} }} }} }}"
        )),
        (name, 2..9u32).prop_map(|(name, files)| format!(
            "security {{ traceoptions {{ file {name} size 10m files {files} world-readable; flag [ ike all ]; level info; }} }}"
        )),
        (name, value).prop_map(move |(name, text)| format!(
            "protocols {{ {name} {{ area 0.0.0.0 {{ interface {}; x [ a b c ]; }} inactive: {name}; }} }} interfaces {{ ge-0/0/1 {{ linux-device eth1; mtu 1500; unit 0 {{ family inet {{ address 10.1.1.1/24; }} }} }} }}",
            quoted(text)
        )),
    ]
}

fn tree(text: &str) -> Tree {
    read(text, &[]).tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn braces_are_read_back_as_the_same_tree(statements in proptest::collection::vec(statement(), 1..6)) {
        let mut whole = Tree::default();
        for statement in statements {
            whole = load(&whole, &statement, &[], LoadMode::Merge).tree;
        }
        let text = whole.to_braces();
        prop_assert_eq!(&tree(&text), &whole, "{}", text);
        prop_assert_eq!(tree(&text).to_braces(), text);
    }

    #[test]
    fn set_lines_are_read_back_as_the_same_lines(statements in proptest::collection::vec(statement(), 1..6)) {
        let mut whole = Tree::default();
        for statement in statements {
            whole = load(&whole, &statement, &[], LoadMode::Merge).tree;
        }
        let lines = whole.to_set_lines();
        let back = tree(&lines);
        prop_assert_eq!(back.to_set_lines(), lines.clone());
        // Where the schema knows every statement the tree is the same, too.
        if !lines.contains("set protocols") && !lines.contains("set interfaces") {
            prop_assert_eq!(back, whole, "{}", lines);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in "\\PC{0,200}", at in any::<bool>()) {
        exercise(&text, at);
    }

    #[test]
    fn arbitrary_words_of_the_language_never_panic(words in proptest::collection::vec(word(), 0..60), at in any::<bool>()) {
        exercise(&words.join(" "), at);
    }

    #[test]
    fn cuts_of_a_configuration_never_panic(from in 0usize..3000, length in 0usize..3000) {
        let text = include_str!("../testdata/seed000/policies.conf").to_owned()
            + include_str!("../testdata/seed000/server-group-multicast.conf")
            + include_str!("../testdata/seed000/member.conf");
        let from = from.min(text.len());
        let to = (from + length).min(text.len());
        if let Some(cut) = text.get(from..to) {
            exercise(cut, false);
        }
    }
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => proptest::sample::select(vec![
            "{", "}", ";", "[", "]", "\n", "set", "delete", "deactivate", "inactive:", "replace:", "delete:", "security",
            "group-vpn", "server", "member", "ike", "ipsec", "vpn", "group", "gateway", "policy", "proposal", "policies",
            "from-zone", "to-zone", "co-location", "pre-shared-key", "ascii-text", "$9$abc", "\"", "/*", "*/", "#",
            "root@x# show security", "[edit]", "protocols", "interfaces", "unit", "0", "traceoptions", "file", "local-address",
            "10.0.0.1", "10.0.0.0/8", "address", "proposals", "match", "then", "permit", "tunnel", "zones", "services",
        ]).prop_map(str::to_owned),
        1 => "\\PC{1,6}",
    ]
}

#[test]
fn a_secret_never_comes_out_in_clear() {
    let text = "set security group-vpn server ike policy p pre-shared-key ascii-text open-sesame-open-sesame\n\
                set security group-vpn server ike policy r pre-shared-key open-sesame-open-sesame\n\
                security { group-vpn { server { ike { policy s { mode wrong; pre-shared-key {\nascii-text\n\
                \"open-sesame\" \"open-sesame\"; } } } } } }\n\
                set security group-vpn server ike policy p pre-shared-key ascii-text open-sesame-open-sesame extra\n\
                set security group-vpn server ike policy q pre-shared-key hexadecimal open-sesame-open-sesame";
    let candidate = read(text, &[]);
    let report = config::Report { name: "x", text, findings: &candidate.findings };
    let shown = [
        candidate.tree.to_braces(),
        candidate.tree.to_set_lines(),
        candidate.tree.to_json().to_string(),
        candidate.tree.to_xml(),
        report.for_people(false),
        report.lines(),
        report.json().to_string(),
        format!("{candidate:?}"),
    ];
    for text in shown {
        assert!(!text.contains("open-sesame"), "{text}");
    }
}

#[test]
fn nesting_and_long_chains_of_lines_are_bounded() {
    let deep = "protocols { ".to_owned() + &"a { ".repeat(200_000);
    assert!(read(&deep, &[]).has_errors());
    let mut chain = String::new();
    let mut path = String::from("set protocols");
    for index in 0..300 {
        path.push_str(&format!(" a{index}"));
        chain.push_str(&path);
        chain.push('\n');
    }
    // Each of them is a statement of its own: they do not nest.
    assert_eq!(tree(&chain).to_set_lines(), chain);
}

#[test]
fn quoted_words_are_never_prefixes() {
    let tree = tree("protocols { \"inactive:\"; }");
    assert_eq!(tree.to_braces(), "protocols {\n    \"inactive:\";\n}\n");
}

#[test]
fn the_beginning_of_lines_of_a_foreign_part_can_be_deactivated() {
    let lines = "set protocols ospf area 0 interface a\nset protocols ospf area 0 interface b\ndeactivate protocols ospf area 0\n";
    let tree = tree(lines);
    assert_eq!(tree.to_set_lines(), lines);
    assert!(tree.to_braces().contains("inactive: ospf area 0 {"), "{}", tree.to_braces());
}

#[test]
fn a_foreign_statement_that_others_begin_with_stays_one_of_its_own() {
    let lines = "set protocols pim\nset protocols pim rp\nset protocols pim rp static\n";
    assert_eq!(tree(lines).to_set_lines(), lines);
    let braces = "protocols {\n    pim {\n        rp;\n    }\n}\n";
    let both = format!("{braces}set protocols pim static\n");
    assert_eq!(tree(&both).to_set_lines(), "set protocols pim rp\nset protocols pim static\n");
}
