//! The XML form, element for element as the JSON form.

use super::json::{element_name, key_names};
use crate::schema::{Entry, Shape};
use crate::tree::Node;

pub(super) fn configuration(root: &Node) -> String {
    let mut out = String::from("<configuration>\n");
    write_children(&mut out, root, 1);
    out.push_str("</configuration>\n");
    out
}

fn write_children(out: &mut String, node: &Node, depth: usize) {
    for child in &node.children {
        let inactive = if child.inactive { " inactive=\"inactive\"" } else { "" };
        match child.entry.map(Entry::shape) {
            Some(Shape::Flag) => line(out, depth, &format!("<{}{inactive}/>", child.name)),
            Some(Shape::Leaf(_) | Shape::Leaves { .. }) => {
                line(out, depth, &format!("<{0}{inactive}>{1}</{0}>", child.name, escaped(child.value())));
            }
            Some(Shape::List { .. }) => {
                let name = element_name(child);
                line(out, depth, &format!("<{name}{inactive}>"));
                for (key, value) in key_names(child).iter().zip(&child.values) {
                    line(out, depth + 1, &format!("<{key}>{}</{key}>", escaped(&value.text)));
                }
                write_children(out, child, depth + 1);
                line(out, depth, &format!("</{name}>"));
            }
            Some(Shape::Container | Shape::Foreign | Shape::Same(_)) => {
                line(out, depth, &format!("<{}{inactive}>", child.name));
                write_children(out, child, depth + 1);
                line(out, depth, &format!("</{}>", child.name));
            }
            None => write_foreign(out, child, inactive, depth),
        }
    }
}

/// A statement the schema does not know: named by its first word where that can be an element.
fn write_foreign(out: &mut String, node: &Node, inactive: &str, depth: usize) {
    let words = node.words();
    let (name, rest) = match words.split_first() {
        Some((first, rest)) if is_name(first) => (*first, rest),
        _ => ("entry", words.as_slice()),
    };
    if rest.is_empty() && node.children.is_empty() {
        return line(out, depth, &format!("<{name}{inactive}/>"));
    }
    if node.children.is_empty() {
        return line(out, depth, &format!("<{name}{inactive}>{}</{name}>", escaped(&rest.join(" "))));
    }
    line(out, depth, &format!("<{name}{inactive}>"));
    if !rest.is_empty() {
        line(out, depth + 1, &format!("<name>{}</name>", escaped(&rest.join(" "))));
    }
    write_children(out, node, depth + 1);
    line(out, depth, &format!("</{name}>"));
}

fn is_name(word: &str) -> bool {
    word.starts_with(|first: char| first.is_ascii_alphabetic())
        && word
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || matches!(character, '-' | '_' | '.'))
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // XML has no way to write most control characters.
            control if control.is_control() && !matches!(control, '\n' | '\t') => out.push('\u{fffd}'),
            other => out.push(other),
        }
    }
    out
}

fn line(out: &mut String, depth: usize, text: &str) {
    for _ in 0..depth {
        out.push_str("    ");
    }
    out.push_str(text);
    out.push('\n');
}
