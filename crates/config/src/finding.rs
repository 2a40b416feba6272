//! What is to be said about a configuration: errors, warnings and notes, each with place and remedy.

use std::fmt;

use serde::Serialize;

use crate::place::Span;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot be committed.
    Error,
    /// It can, and somebody should look.
    Warning,
    /// It can: a statement that has no effect here.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// What kind of finding it is, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The text does not follow the grammar.
    Syntax,
    /// A word no statement has.
    UnknownStatement,
    /// A value outside its range or form.
    BadValue,
    /// A statement that must be there is not.
    Missing,
    /// The same thing twice.
    Duplicate,
    /// A name that is defined nowhere.
    DanglingReference,
    /// Statements that contradict each other, or a limit that is exceeded.
    Conflict,
    /// Allowed, and weak.
    Weak,
    /// Timers that do not fit each other.
    Timing,
    /// Accepted; its behaviour comes with a later release.
    NotActiveYet,
    /// Accepted and kept; another program's business on Linux.
    NotManagedHere,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What kind.
    pub kind: Kind,
    /// Where; line 0 where it is about no place in the text.
    pub span: Span,
    /// Statement path, such as `security group-vpn server group g1`; may be empty.
    pub path: String,
    /// What is wrong, one line.
    pub message: String,
    /// What was expected there, with its range.
    pub expected: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
}

impl Finding {
    /// A finding with neither expectation nor remedy.
    pub fn new(
        severity: Severity,
        kind: Kind,
        span: Span,
        path: impl Into<String>,
        message: impl Into<String>,
    ) -> Finding {
        Finding {
            severity,
            kind,
            span,
            path: path.into(),
            message: message.into(),
            expected: None,
            remedy: None,
        }
    }

    /// An error.
    pub fn error(kind: Kind, span: Span, path: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Error, kind, span, path, message)
    }

    /// A warning.
    pub fn warning(kind: Kind, span: Span, path: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding::new(Severity::Warning, kind, span, path, message)
    }

    /// The same, saying what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Finding {
        self.expected = Some(expected.into());
        self
    }

    /// The same, saying what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Finding {
        self.remedy = Some(remedy.into());
        self
    }
}
