//! The curly form.

use crate::schema::{Entry, Shape};
use crate::text::written;
use crate::tree::Node;

/// Statements at the outermost level.
pub(crate) fn block(nodes: &[Node]) -> String {
    let mut out = String::new();
    write_block(&mut out, nodes, 0);
    out
}

fn write_block(out: &mut String, nodes: &[Node], depth: usize) {
    let mut index = 0;
    while index < nodes.len() {
        let node = &nodes[index];
        let together = run(&nodes[index..]);
        indent(out, depth);
        if node.inactive {
            out.push_str("inactive: ");
        }
        if together > 1 {
            let words = node.words();
            write_words(out, &words[..words.len() - 1]);
            out.push_str(" [");
            for sibling in &nodes[index..index + together] {
                out.push(' ');
                out.push_str(&written(sibling.words().last().unwrap_or(&"")));
            }
            out.push_str(" ];\n");
        } else {
            write_statement(out, node, depth);
        }
        index += together;
    }
}

fn write_statement(out: &mut String, node: &Node, depth: usize) {
    write_words(out, &node.words());
    let mut secret = node.is_secret();
    if on_one_line(node) {
        for child in &node.children {
            out.push(' ');
            write_words(out, &child.words());
            secret |= child.is_secret();
        }
    } else if !node.children.is_empty() {
        out.push_str(" {\n");
        write_block(out, &node.children, depth + 1);
        indent(out, depth);
        out.push_str("}\n");
        return;
    }
    out.push_str(if secret { "; ## SECRET-DATA\n" } else { ";\n" });
}

/// How many statements from the first on are values of one list in brackets.
fn run(nodes: &[Node]) -> usize {
    let first = &nodes[0];
    let in_brackets = |node: &Node| match node.entry.map(Entry::shape) {
        Some(Shape::Leaves { .. }) => true,
        Some(_) => false,
        None => node.listed,
    };
    if !in_brackets(first) || !first.children.is_empty() {
        return 1;
    }
    let words = first.words();
    let head = &words[..words.len() - 1];
    nodes
        .iter()
        .take_while(|node| {
            let own = node.words();
            in_brackets(node)
                && node.children.is_empty()
                && node.inactive == first.inactive
                && own.len() == words.len()
                && own.starts_with(head)
        })
        .count()
}

fn on_one_line(node: &Node) -> bool {
    let one_line = node.entry.is_some_and(|entry| entry.meant().one_line || entry.row.one_line);
    one_line
        && !node.children.is_empty()
        && node
            .children
            .iter()
            .all(|child| child.children.is_empty() && !child.inactive && child.entry.is_some())
}

fn write_words(out: &mut String, words: &[&str]) {
    for (index, word) in words.iter().enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(&written(word));
    }
}

fn indent(out: &mut String, depth: usize) {
    for _ in 0..depth {
        out.push_str("    ");
    }
}
