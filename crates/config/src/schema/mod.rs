//! The schema: every statement of the language is one row. Parsing, errors, completion and documentation come from it.

mod features;
mod help;
mod member;
mod row;
mod security;
mod server;

use std::collections::HashMap;
use std::sync::LazyLock;

pub use help::{Completion, completions, help, statements_page};
pub use row::{Choice, Row, Shape, Status, Value};

/// Every row, in the order of the documentation.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    server::ROWS.iter().chain(member::ROWS).chain(security::ROWS)
}

/// A row at its place in the tree of statements.
pub struct Entry {
    /// The row.
    pub row: &'static Row,
    /// For a row that repeats another: that one, whose shape and statements count.
    target: usize,
    children: Vec<usize>,
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.row.path)
    }
}

struct Schema {
    entries: Vec<Entry>,
    root: Vec<usize>,
}

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut entries: Vec<Entry> = Vec::new();
    let mut by_path: HashMap<&'static str, usize> = HashMap::new();
    for row in rows() {
        by_path.insert(row.path, entries.len());
        entries.push(Entry { row, target: entries.len(), children: Vec::new() });
    }
    let mut root = Vec::new();
    for index in 0..entries.len() {
        let row = entries[index].row;
        if let Shape::Same(path) = row.shape {
            entries[index].target = by_path[path];
        }
        match row.parent() {
            "" => root.push(index),
            parent => entries[by_path[parent]].children.push(index),
        }
    }
    Schema { entries, root }
});

/// The statements at the top.
pub fn top() -> impl Iterator<Item = &'static Entry> {
    SCHEMA.root.iter().map(|index| &SCHEMA.entries[*index])
}

impl Entry {
    /// Name of the statement; `<...>` for a list whose entries have only a key.
    pub fn name(&self) -> &'static str {
        self.row.name()
    }

    /// The row whose shape counts.
    pub fn meant(&self) -> &'static Row {
        SCHEMA.entries[self.target].row
    }

    /// Its shape, never `Shape::Same`.
    pub fn shape(&self) -> Shape {
        self.meant().shape
    }

    /// The statements inside.
    pub fn children(&self) -> impl Iterator<Item = &'static Entry> + use<> {
        SCHEMA.entries[self.target].children.iter().map(|index| &SCHEMA.entries[*index])
    }

    /// The statement of that name inside.
    pub fn child(&self, name: &str) -> Option<&'static Entry> {
        self.children().find(|entry| !entry.row.nameless && !entry.row.is_unnamed() && entry.name() == name)
    }

    /// The list inside whose entries have only a key, or the value that is written without its name.
    pub fn unnamed_child(&self) -> Option<&'static Entry> {
        self.children().find(|entry| entry.row.nameless || entry.row.is_unnamed())
    }
}

/// The statement of that name at the top.
pub fn top_child(name: &str) -> Option<&'static Entry> {
    top().find(|entry| entry.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model;

    #[test]
    fn every_row_has_a_parent_and_stands_once() {
        let mut paths = std::collections::HashSet::new();
        for row in rows() {
            assert!(paths.insert(row.path), "{} twice", row.path);
        }
        for row in rows() {
            assert!(row.parent().is_empty() || paths.contains(row.parent()), "{}", row.path);
            if let Shape::Same(path) = row.shape {
                assert!(paths.contains(path), "{path}");
            }
            assert!(!row.help.is_empty());
        }
    }

    #[test]
    fn the_words_of_the_table_are_those_of_the_model() {
        fn same<T: Copy>(choices: &[Choice], all: &[T], word: fn(T) -> &'static str) {
            let ours: Vec<_> = choices.iter().map(|choice| choice.word).collect();
            let theirs: Vec<_> = all.iter().map(|value| word(*value)).collect();
            assert_eq!(ours, theirs);
        }
        same(
            server::AUTHENTICATION_METHODS,
            model::AuthenticationMethod::ALL,
            model::AuthenticationMethod::as_str,
        );
        same(server::IKE_HASHES, model::IkeHash::ALL, model::IkeHash::as_str);
        same(server::IKE_CIPHERS, model::IkeCipher::ALL, model::IkeCipher::as_str);
        same(server::DH_GROUPS, model::DhGroup::ALL, model::DhGroup::as_str);
        same(server::ESP_INTEGRITIES, model::EspIntegrity::ALL, model::EspIntegrity::as_str);
        same(server::ESP_CIPHERS, model::EspCipher::ALL, model::EspCipher::as_str);
        same(server::SIGNATURE_HASHES, model::SignatureHash::ALL, model::SignatureHash::as_str);
        same(server::SIGNATURE_ALGORITHMS, model::SignatureAlgorithm::ALL, model::SignatureAlgorithm::as_str);
        same(server::IKE_DOIS, model::IkeDoi::ALL, model::IkeDoi::as_str);
        same(server::FLAGS, model::TraceFlag::ALL, model::TraceFlag::as_str);
        same(server::LEVELS, model::TraceLevel::ALL, model::TraceLevel::as_str);
    }
}
