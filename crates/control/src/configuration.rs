//! Requests and replies about the configuration.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Form in which a configuration is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigurationFormat {
    /// Braces.
    #[default]
    Text,
    /// One `set` line per leaf.
    Set,
    /// JSON.
    Json,
    /// XML.
    Xml,
}

/// Query of `show configuration`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ConfigurationQuery {
    /// Words of the path, separated by spaces; empty: everything.
    #[serde(default)]
    pub path: String,
    /// Form of the text.
    #[serde(default)]
    pub format: ConfigurationFormat,
}

/// The configuration in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ConfigurationReply {
    /// In the form asked for; secrets are obfuscated.
    pub text: String,
}

/// Weight of a [`Diagnostic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Stops a commit.
    Error,
    /// Does not.
    Warning,
    /// Accepted, kept, without effect: "not active yet", "not managed here".
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}

/// Something wrong or remarkable in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Diagnostic {
    /// How bad.
    pub severity: Severity,
    /// Name of the file or other source.
    pub source: String,
    /// Line, from 1; 0 where the text has no place of its own.
    pub line: u32,
    /// Column, from 1.
    pub column: u32,
    /// Path of the statement.
    pub path: String,
    /// What is wrong, what was expected, and the remedy.
    pub message: String,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(formatter, "{}: {}: ", self.source, self.severity)?,
            line => write!(formatter, "{}:{line}:{}: {}: ", self.source, self.column, self.severity)?,
        }
        if !self.path.is_empty() {
            write!(formatter, "[{}] ", self.path)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Asks the daemon to take a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CommitRequest {
    /// A whole configuration that replaces the daemon's file first; without it the file is read again.
    pub text: Option<String>,
    /// Where the text comes from, for messages.
    pub source: Option<String>,
}

/// Asks the daemon to judge a text and change nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct CheckRequest {
    /// The text; without it the daemon's file is judged.
    pub text: Option<String>,
    /// Where the text comes from, for messages.
    pub source: Option<String>,
}

/// How `load` combines a text with the daemon's configuration file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoadMode {
    /// The text is a whole tree, added to the file's.
    #[default]
    Merge,
    /// The text is a whole tree that replaces the file's.
    Override,
    /// The text is a fragment, added below a path.
    Relative,
}

/// Asks the daemon to combine a text with its configuration file. `commit` then applies it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LoadRequest {
    /// The text.
    pub text: String,
    /// Where the text comes from, for messages.
    #[serde(default)]
    pub source: Option<String>,
    /// How.
    #[serde(default)]
    pub mode: LoadMode,
    /// Where, words separated by spaces.
    #[serde(default)]
    pub at: String,
}

/// What became of a commit, check or load.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct CommitReply {
    /// Whether it was done (commit, load) or could be done (check).
    pub success: bool,
    /// Everything found, errors first.
    pub diagnostics: Vec<Diagnostic>,
    /// What changed, as lines of the `set` language; bounded.
    pub changes: Vec<String>,
}
