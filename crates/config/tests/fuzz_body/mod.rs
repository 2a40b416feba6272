//! What must hold for any text. The fuzz target calls this with texts of the fuzzer, the tests with generated ones and
//! with the committed corpus.

use config::{Report, read};

/// Reads a text and shows what came of it in every form; what is shown is read back as the same.
pub fn exercise(text: &str, at: bool) {
    let at: &[&str] = if at { &["security", "group-vpn", "server"] } else { &[] };
    let candidate = read(text, at);
    let report = Report { name: "x", text, findings: &candidate.findings };
    let _ = (report.for_people(true), report.lines(), report.json());
    let braces = candidate.tree.to_braces();
    let _ = (candidate.tree.to_json(), candidate.tree.to_xml());
    assert_eq!(read(&braces, &[]).tree, candidate.tree, "{braces}");
    let lines = candidate.tree.to_set_lines();
    assert_eq!(read(&lines, &[]).tree.to_set_lines(), lines);
}

/// The body of the fuzz target: the first octet says where the text stands.
#[allow(dead_code)] // Each of those who include this file calls one of the two.
pub fn config_text(octets: &[u8]) {
    let Some((first, rest)) = octets.split_first() else { return };
    if let Ok(text) = std::str::from_utf8(rest) {
        exercise(text, first % 2 == 1);
    }
}
