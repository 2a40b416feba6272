//! Where statements are put, and how.

use crate::schema::{self, Entry, Shape};
use crate::text::{Statement, Tag};

/// Where statements are put.
#[derive(Clone, Copy)]
pub(super) enum Scope {
    Top,
    In(&'static Entry),
    Foreign,
}

impl Scope {
    pub(super) fn child(self, name: &str) -> Option<&'static Entry> {
        match self {
            Scope::Top => schema::top_child(name),
            // Groups are applied anywhere.
            Scope::In(entry) => entry
                .child(name)
                .or_else(|| name.starts_with("apply-groups").then(|| schema::top_child(name)).flatten()),
            Scope::Foreign => None,
        }
    }

    pub(super) fn unnamed_child(self) -> Option<&'static Entry> {
        match self {
            Scope::In(entry) => entry.unnamed_child(),
            Scope::Top | Scope::Foreign => None,
        }
    }

    pub(super) fn children(self) -> Vec<&'static Entry> {
        match self {
            Scope::Top => schema::top().collect(),
            Scope::In(entry) => entry.children().collect(),
            Scope::Foreign => Vec::new(),
        }
    }

    pub(super) fn is_open(self) -> bool {
        match self {
            Scope::Top => false,
            Scope::In(entry) => entry.meant().open,
            Scope::Foreign => true,
        }
    }

    pub(super) fn is_one_line(self) -> bool {
        matches!(self, Scope::In(entry) if entry.meant().one_line)
    }

    /// The scope inside a statement.
    pub(super) fn inside(entry: &'static Entry) -> Scope {
        match entry.shape() {
            Shape::Foreign => Scope::Foreign,
            _ => Scope::In(entry),
        }
    }
}

/// What else is known about the statement that is put.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    pub(super) block: Option<&'a [Statement]>,
    pub(super) inactive: bool,
    pub(super) tag: Option<Tag>,
    /// From a line of the set form, where a later value silently replaces an earlier one.
    pub(super) line: bool,
}
