//! The tree of statements: what the text says, in order, with every statement tied to its row of the schema.

mod foreign;
mod load;
mod path;
mod put;
mod scope;
mod survey;
mod value;

use crate::place::Span;
use crate::schema::{Entry, Shape};
pub use crate::text::Word;

pub use load::{LoadMode, MAX_FINDINGS};
pub(crate) use survey::survey;
pub(crate) use value::{ports, prefix, protocol_number, size, window_millis};

/// One statement.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// Its name; the schema's name of it where only its key or value is written.
    pub name: String,
    /// Keys of a list entry, the value of a leaf (one node for each of several), or the further words of a statement
    /// that the schema does not know.
    pub values: Vec<Word>,
    /// The statements inside.
    pub children: Vec<Node>,
    /// Kept and shown, without effect.
    pub inactive: bool,
    /// Where it was written; a default span after the tree was changed by a later load.
    pub span: Span,
    pub(crate) entry: Option<&'static Entry>,
    /// Its value is wrong, which has been said.
    pub(crate) faulty: bool,
    /// Came out of brackets, in a part that the schema does not know.
    pub(crate) listed: bool,
}

/// A whole configuration, or several parts of one.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    pub(crate) root: Node,
}

/// Trees are equal if they say the same, wherever it was written.
impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.name == other.name
            && self.inactive == other.inactive
            && self.values.len() == other.values.len()
            && self.values.iter().zip(&other.values).all(|(ours, theirs)| ours.text == theirs.text)
            && self.children == other.children
    }
}

impl PartialEq for Tree {
    fn eq(&self, other: &Tree) -> bool {
        self.root == other.root
    }
}

impl Node {
    /// The words it is written with, keys and key words included.
    pub fn words(&self) -> Vec<&str> {
        let mut words = Vec::with_capacity(1 + self.values.len());
        match self.entry {
            Some(entry) if entry.row.nameless || entry.row.is_unnamed() => {}
            _ => words.push(self.name.as_str()),
        }
        for (index, value) in self.values.iter().enumerate() {
            if let Some(entry) = self.entry
                && let Some(between) = entry.row.key_word(index)
                && index > 0
            {
                words.push(between);
            }
            words.push(value.text.as_str());
        }
        words
    }

    /// The first child of that name that is not inactive.
    pub fn child(&self, name: &str) -> Option<&Node> {
        self.children.iter().find(|child| child.name == name && !child.inactive)
    }

    /// All children of that name that are not inactive, in order.
    pub fn children_named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Node> {
        self.children.iter().filter(move |child| child.name == name && !child.inactive)
    }

    /// Its first value: the key of a list entry, or what a leaf is set to.
    pub fn value(&self) -> &str {
        self.values.first().map_or("", |word| word.text.as_str())
    }

    /// Whether it holds a secret that must never be shown in clear.
    pub fn is_secret(&self) -> bool {
        matches!(self.entry.map(Entry::shape), Some(Shape::Leaf(value)) if value.is_secret())
    }

    /// Whether the schema knows it.
    pub fn is_known(&self) -> bool {
        self.entry.is_some_and(|entry| !matches!(entry.shape(), Shape::Foreign))
    }

    /// A copy without what is inside.
    pub(crate) fn without_children(&self) -> Node {
        Node {
            name: self.name.clone(),
            values: self.values.clone(),
            children: Vec::new(),
            inactive: self.inactive,
            span: self.span,
            entry: self.entry,
            faulty: self.faulty,
            listed: self.listed,
        }
    }

    fn forget_places(&mut self) {
        self.span = Span::default();
        for value in &mut self.values {
            value.span = Span::default();
        }
        self.children.iter_mut().for_each(Node::forget_places);
    }
}

impl Tree {
    /// The statements at the top.
    pub fn statements(&self) -> &[Node] {
        &self.root.children
    }
}
