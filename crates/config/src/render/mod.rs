//! The tree as text: braces, lines of the set form, JSON, XML. Secrets always as `$9$`.

mod braces;
mod json;
mod lines;
mod xml;

use crate::tree::{Node, Tree};
pub(crate) use braces::block;

impl Tree {
    /// The whole tree in braces.
    pub fn to_braces(&self) -> String {
        braces::block(self.statements())
    }

    /// The whole tree as lines of the set form.
    pub fn to_set_lines(&self) -> String {
        lines::lines(&[], self.statements().iter())
    }

    /// The whole tree as JSON, `{"configuration": {...}}`.
    pub fn to_json(&self) -> serde_json::Value {
        json::configuration(&self.root)
    }

    /// The whole tree as XML.
    pub fn to_xml(&self) -> String {
        xml::configuration(&self.root)
    }

    /// What `show configuration PATH` prints: the inside of the statement, or the statements themselves where they
    /// have none. `None` where there is no such statement.
    pub fn show_braces(&self, path: &[&str]) -> Option<String> {
        if path.is_empty() {
            return Some(self.to_braces());
        }
        let found = self.root.find_path(path);
        match found.as_slice() {
            [] => None,
            [only] if !only.children.is_empty() => Some(braces::block(&only.children)),
            several => Some(several.iter().map(|node| braces::block(std::slice::from_ref(*node))).collect()),
        }
    }

    /// As [`show_braces`](Tree::show_braces), as lines with their whole path.
    pub fn show_set_lines(&self, path: &[&str]) -> Option<String> {
        if path.is_empty() {
            return Some(self.to_set_lines());
        }
        let found = self.root.find_path(path);
        if found.is_empty() {
            return None;
        }
        Some(
            found
                .into_iter()
                .map(|node| lines::lines(&self.words_before(node), [node].into_iter()))
                .collect(),
        )
    }

    /// As [`show_braces`](Tree::show_braces), as JSON, with all levels above.
    pub fn show_json(&self, path: &[&str]) -> Option<serde_json::Value> {
        self.part(path).map(|part| json::configuration(&part))
    }

    /// As [`show_braces`](Tree::show_braces), as XML, with all levels above.
    pub fn show_xml(&self, path: &[&str]) -> Option<String> {
        self.part(path).map(|part| xml::configuration(&part))
    }

    /// The tree cut down to what a path leads to.
    fn part(&self, path: &[&str]) -> Option<Node> {
        if path.is_empty() {
            return Some(self.root.clone());
        }
        let found = self.root.find_path(path);
        (!found.is_empty()).then(|| cut(&self.root, &found))
    }

    /// The words of all levels above a node of this tree.
    fn words_before(&self, node: &Node) -> Vec<String> {
        fn search(here: &Node, node: &Node, words: &mut Vec<String>) -> bool {
            here.children.iter().any(|child| {
                if std::ptr::eq(child, node) {
                    return true;
                }
                let length = words.len();
                words.extend(child.words().into_iter().map(str::to_owned));
                let found = search(child, node, words);
                if !found {
                    words.truncate(length);
                }
                found
            })
        }
        let mut words = Vec::new();
        search(&self.root, node, &mut words);
        words
    }
}

/// A copy of `node` with only those children that are, or lead to, one of `kept`.
fn cut(node: &Node, kept: &[&Node]) -> Node {
    let leads = |child: &Node| {
        fn holds(node: &Node, kept: &[&Node]) -> bool {
            kept.iter().any(|wanted| std::ptr::eq(*wanted, node))
                || node.children.iter().any(|child| holds(child, kept))
        }
        holds(child, kept)
    };
    let mut copy = Node { children: Vec::new(), ..node.without_children() };
    for child in node.children.iter().filter(|child| leads(child)) {
        if kept.iter().any(|wanted| std::ptr::eq(*wanted, child)) {
            copy.children.push(child.clone());
        } else {
            copy.children.push(cut(child, kept));
        }
    }
    copy
}
