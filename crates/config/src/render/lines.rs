//! The set form: one line for each statement that says something by itself.

use crate::text::written;
use crate::tree::Node;

/// Lines of some statements, with the words of the levels above.
pub(super) fn lines<'a>(above: &[String], nodes: impl Iterator<Item = &'a Node>) -> String {
    let mut out = String::new();
    let mut path: Vec<String> = above.iter().map(|word| written(word)).collect();
    for node in nodes {
        write_node(&mut out, &mut path, node);
    }
    out
}

fn write_node(out: &mut String, path: &mut Vec<String>, node: &Node) {
    let length = path.len();
    path.extend(node.words().into_iter().map(written));
    if node.children.is_empty() {
        write_line(out, "set", path);
    }
    for child in &node.children {
        write_node(out, path, child);
    }
    if node.inactive {
        write_line(out, "deactivate", path);
    }
    path.truncate(length);
}

fn write_line(out: &mut String, command: &str, path: &[String]) {
    out.push_str(command);
    for word in path {
        out.push(' ');
        out.push_str(word);
    }
    out.push('\n');
}
