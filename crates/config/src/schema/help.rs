//! Completion, help and the documentation page, out of the rows.

use std::fmt::Write as _;

use super::{Entry, Row, Shape, Status, Value, rows, top, top_child};

/// One thing that can be typed next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The word, or a placeholder such as `<name>`.
    pub word: String,
    /// One line about it.
    pub help: String,
}

/// What can follow the words of a path of the set form: `completions(&["security", "group-vpn"])`.
/// Empty where the path leads nowhere, or into a part that is not managed here.
pub fn completions(path: &[&str]) -> Vec<Completion> {
    match walk(path) {
        Some(Position::Top) => top().map(of_entry).collect(),
        Some(Position::Inside(entry)) => {
            entry.children().filter(|child| !child.row.hidden).map(of_entry).collect()
        }
        Some(Position::Expects(entry, value)) => match value {
            Value::Words(choices) => choices
                .iter()
                .map(|choice| Completion { word: choice.word.to_owned(), help: choice.help.to_owned() })
                .collect(),
            other => vec![Completion {
                word: other.placeholder().to_owned(),
                help: format!("{} ({})", entry.meant().help, other.expectation()),
            }],
        },
        Some(Position::KeyWord(word)) => vec![Completion { word: word.to_owned(), help: String::new() }],
        None => Vec::new(),
    }
}

/// Help about the statement a path of the set form leads to; keys may be given or left out.
pub fn help(path: &[&str]) -> Option<String> {
    let entry = match walk(path)? {
        Position::Top | Position::KeyWord(_) => return None,
        Position::Inside(entry) | Position::Expects(entry, _) => entry,
    };
    let row = entry.meant();
    let mut out = format!("{}\n  {}\n", syntax(entry.row), row.help);
    if let Some(range) = range(row) {
        let _ = writeln!(out, "  expected: {range}");
    }
    if !row.default.is_empty() {
        let _ = writeln!(out, "  default: {}", row.default);
    }
    if !row.meaning.is_empty() {
        let _ = writeln!(out, "  {}", row.meaning);
    }
    match effective(entry.row) {
        Status::Active => {}
        Status::NotYet(feature) => {
            let _ = writeln!(out, "  not active yet: comes with {feature}");
        }
        Status::Elsewhere => out.push_str("  not managed here\n"),
    }
    Some(out)
}

enum Position {
    Top,
    Inside(&'static Entry),
    Expects(&'static Entry, Value),
    KeyWord(&'static str),
}

fn walk(path: &[&str]) -> Option<Position> {
    let mut position = Position::Top;
    let mut words = path.iter();
    while let Some(word) = words.next() {
        let entry = match position {
            Position::Top => top_child(word)?,
            Position::Inside(entry) => entry.child(word).or_else(|| entry.unnamed_child())?,
            Position::Expects(..) | Position::KeyWord(_) => return None,
        };
        position = match entry.shape() {
            Shape::Container => Position::Inside(entry),
            Shape::List { keys } => {
                let mut position = Position::Inside(entry);
                let given = usize::from(entry.row.is_unnamed());
                for (index, key) in keys.iter().enumerate().skip(given) {
                    if index > 0
                        && let Some(between) = entry.row.key_word(index)
                        && words.next().is_none()
                    {
                        position = Position::KeyWord(between);
                        break;
                    }
                    if words.next().is_none() {
                        position = Position::Expects(entry, *key);
                        break;
                    }
                }
                position
            }
            Shape::Leaf(value) | Shape::Leaves { value, .. } => Position::Expects(entry, value),
            Shape::Flag | Shape::Foreign | Shape::Same(_) => {
                return words.next().is_none().then_some(Position::Inside(entry));
            }
        };
    }
    Some(position)
}

fn of_entry(entry: &'static Entry) -> Completion {
    let word = if entry.row.nameless {
        match entry.shape() {
            Shape::Leaf(value) => value.placeholder().to_owned(),
            _ => entry.name().to_owned(),
        }
    } else {
        entry.name().to_owned()
    };
    Completion { word, help: entry.row.help.to_owned() }
}

/// A statement as it is written.
fn syntax(row: &Row) -> String {
    let path = row.path.replace(" / ", " ");
    let (path, last) = match row.nameless {
        true => (row.parent().replace(" / ", " "), true),
        false => (path, false),
    };
    match row.shape {
        Shape::Leaf(value) if last => format!("{path} {}", value.placeholder()),
        Shape::Leaf(value) => format!("{path} {}", value.placeholder()),
        Shape::Leaves { value, .. } => format!("{path} [ {} ... ]", value.placeholder()),
        Shape::Container | Shape::List { .. } | Shape::Flag | Shape::Foreign | Shape::Same(_) => path,
    }
}

fn range(row: &Row) -> Option<String> {
    match row.shape {
        Shape::Leaf(value) => Some(value.expectation()),
        Shape::Leaves { value, max } => Some(format!("{}, up to {max}", value.expectation())),
        Shape::List { keys } => {
            let keys: Vec<String> = keys.iter().map(Value::expectation).collect();
            let most = if row.most > 0 { format!(", up to {}", row.most) } else { String::new() };
            Some(format!("{}{most}", keys.join(", ")))
        }
        Shape::Container | Shape::Flag | Shape::Foreign | Shape::Same(_) => None,
    }
}

/// `docs/statements.md`.
pub fn statements_page() -> String {
    let mut out = String::from(
        "# Statements\n\nEvery statement of the configuration language. Made from the schema table \
         (`crates/config/src/schema`); do not edit.\n\n\
         Status: *active*; *not active yet*: accepted, kept and shown, `gvpn check` lists it; *not managed here*: another \
         program's business on Linux, accepted, kept and shown.\n",
    );
    let mut section = "";
    for row in rows() {
        let start = match row.path.split(" / ").collect::<Vec<_>>().as_slice() {
            [_, "group-vpn", role, ..] => &row.path[..row.path.find(role).unwrap_or(0) + role.len()],
            ["security", second, ..] => &row.path[.."security / ".len() + second.len()],
            [first, ..] => first,
            [] => "",
        };
        if matches!(row.shape, Shape::Foreign) {
            continue;
        }
        if start != section {
            section = start;
            let title = start.replace(" / ", " ");
            let _ = write!(
                out,
                "\n## {title}\n\n| statement | expected | default | meaning | status |\n|---|---|---|---|---|\n"
            );
        }
        let cell = |text: &str| text.replace('|', "\\|");
        let meaning = match row.shape {
            Shape::Same(path) => format!("{}: as `{}`", row.help, path.replace(" / ", " ")),
            _ if row.meaning.is_empty() => row.help.to_owned(),
            _ => format!("{}. {}", row.help, row.meaning),
        };
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {} |",
            cell(&syntax(row)),
            cell(&expected_cell(row)),
            cell(row.default),
            cell(&meaning),
            status(effective(row))
        );
    }
    out.push_str("\n## Not managed here\n\nAccepted with everything inside, kept, shown back, and listed by `gvpn check`: ");
    let names: Vec<String> = rows()
        .filter(|row| matches!(row.shape, Shape::Foreign))
        .map(|row| format!("`{}`", row.path.replace(" / ", " ")))
        .collect();
    out.push_str(&names.join(", "));
    out.push_str(".\n");
    out
}

/// The range; words of an enumeration that are not active yet are marked.
fn expected_cell(row: &Row) -> String {
    match row.shape {
        Shape::Leaf(Value::Words(choices)) | Shape::Leaves { value: Value::Words(choices), .. } => choices
            .iter()
            .map(|choice| match choice.status {
                Status::NotYet(_) => format!("{} (not yet)", choice.word),
                Status::Active | Status::Elsewhere => choice.word.to_owned(),
            })
            .collect::<Vec<_>>()
            .join(", "),
        _ => range(row).unwrap_or_default(),
    }
}

fn status(status: Status) -> String {
    match status {
        Status::Active => "active".to_owned(),
        Status::NotYet(feature) => format!("not active yet ({feature})"),
        Status::Elsewhere => "not managed here".to_owned(),
    }
}

/// The status of a row is that of the statement around it where that is not active yet.
fn effective(row: &Row) -> Status {
    let mut status = row.status;
    for above in rows() {
        let inside = row.path.strip_prefix(above.path).is_some_and(|rest| rest.starts_with(" / "));
        if inside && above.status != Status::Active && status == Status::Active {
            status = above.status;
        }
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(path: &[&str]) -> Vec<String> {
        completions(path).into_iter().map(|completion| completion.word).collect()
    }

    #[test]
    fn completions_follow_keys_and_values() {
        assert_eq!(words(&["security", "group-vpn"]), ["server", "member", "co-location"]);
        let gateway = ["security", "group-vpn", "co-location", "member", "ike", "gateway"];
        assert_eq!(words(&gateway), ["<name>"]);
        let mut inside = gateway.to_vec();
        inside.push("one");
        assert!(words(&inside).contains(&"server-address".to_owned()));
        assert_eq!(words(&["security", "policies", "from-zone", "trust"]), ["to-zone"]);
        assert_eq!(words(&["security", "policies", "from-zone", "trust", "to-zone"]), ["<name>"]);
        assert_eq!(words(&["security", "policies", "from-zone", "trust", "to-zone", "untrust"]), ["policy"]);
        assert_eq!(
            words(&["interfaces", "eth0", "unit", "0", "family", "inet", "service"]),
            ["input", "output"]
        );
        let mode = ["security", "group-vpn", "server", "ike", "policy", "p", "mode"];
        assert_eq!(words(&mode), ["main", "aggressive"]);
        assert_eq!(words(&["protocols", "ospf"]), Vec::<String>::new());
        assert_eq!(words(&["nonsense"]), Vec::<String>::new());
    }

    #[test]
    fn help_says_range_default_and_status() {
        let help_of = |name| help(&["security", "group-vpn", "server", "group", "g", name]).unwrap();
        let window = help_of("anti-replay-time-window");
        assert!(window.contains("60..360 seconds") && window.contains("default: 100"), "{window}");
        assert!(!window.contains("not active yet"), "{window}");
        let method = ["security", "group-vpn", "server", "ike", "policy", "p", "proposal-set"];
        assert!(help(&method).unwrap().contains("not active yet"));
    }
}
