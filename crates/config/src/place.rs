//! Where something was written: byte spans, lines and columns, statement paths.

use std::fmt;

/// A range of bytes in the source text, with the line and column of its start (both from 1; columns count characters).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
    /// Line of the first byte, from 1; 0 where nothing was written (a default).
    pub line: u32,
    /// Column of the first byte in characters, from 1.
    pub column: u32,
}

impl Span {
    /// The span from the start of `self` to the end of `last`.
    pub fn to(self, last: Span) -> Span {
        Span { end: last.end.max(self.end), ..self }
    }
}

/// Where an object of the model was written. Two places are always equal: moving a statement changes nothing.
#[derive(Clone, Default)]
pub struct Place {
    /// Statement path, such as `security group-vpn server group g1`.
    pub path: String,
    /// Where in the text.
    pub span: Span,
}

impl PartialEq for Place {
    fn eq(&self, _: &Place) -> bool {
        true
    }
}

impl Eq for Place {}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.span.line, self.span.column, self.path)
    }
}
