//! What a tree holds that has no effect here, not active yet or not managed here, and what only tests may have.

use super::Node;
use crate::finding::{Finding, Kind, Severity};
use crate::schema::{Shape, Status, Value};

/// Lists every active statement whose effect comes later, every part that is another program's business, and unless
/// `tests` says that they are meant, timers below what a network stands.
pub(crate) fn survey(root: &Node, tests: bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut path = Vec::new();
    visit(root, tests, &mut path, &mut findings);
    findings
}

fn visit(node: &Node, tests: bool, path: &mut Vec<String>, findings: &mut Vec<Finding>) {
    for child in node.children.iter().filter(|child| !child.inactive && !child.faulty) {
        let own = child.words();
        let shown = if child.is_secret() { vec![child.name.as_str()] } else { own.clone() };
        let whole = crate::text_of(&path.iter().map(String::as_str).chain(shown).collect::<Vec<_>>());
        let Some(entry) = child.entry else {
            findings.push(elsewhere(child, whole, None));
            continue;
        };
        match entry.row.status {
            Status::Elsewhere => {
                findings.push(elsewhere(child, whole, Some(entry.row.help)));
                continue;
            }
            Status::NotYet(feature) => {
                findings.push(not_yet(child, whole, feature));
                continue;
            }
            Status::Active => {}
        }
        if let Shape::Leaf(Value::Words(choices)) | Shape::Leaves { value: Value::Words(choices), .. } =
            entry.shape()
            && let Some(choice) = choices.iter().find(|choice| choice.word == child.value())
            && let Status::NotYet(feature) = choice.status
        {
            findings.push(not_yet(child, whole, feature));
            continue;
        }
        if let Shape::Leaf(value @ Value::Timer { min, .. }) = entry.shape()
            && !tests
            && child.value().parse::<u64>().is_ok_and(|number| number < min)
        {
            let message = format!("`{}`: {} is out of range", child.name, child.value());
            findings.push(
                Finding::error(Kind::BadValue, child.span, whole, message).expected(value.expectation()),
            );
            continue;
        }
        let length = path.len();
        path.extend(own.into_iter().map(str::to_owned));
        visit(child, tests, path, findings);
        path.truncate(length);
    }
}

fn not_yet(node: &Node, path: String, feature: &str) -> Finding {
    let message = format!("not active yet: `{}` comes with {feature}", crate::text_of(&named(node)));
    Finding::warning(Kind::NotActiveYet, node.span, path, message)
        .remedy("it is kept and shown, and has no effect in this version")
}

fn elsewhere(node: &Node, path: String, help: Option<&str>) -> Finding {
    let subject = help.map(|help| format!(" ({})", help.to_lowercase())).unwrap_or_default();
    let message = format!("not managed here: `{}`{subject}", crate::text_of(&named(node)));
    Finding::new(Severity::Note, Kind::NotManagedHere, node.span, path, message)
        .remedy("it is kept and shown; configure the Linux system for it")
}

fn named(node: &Node) -> Vec<&str> {
    if node.is_secret() { vec![node.name.as_str()] } else { node.words() }
}
