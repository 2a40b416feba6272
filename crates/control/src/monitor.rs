//! The stream of log entries behind `gvpn monitor`: one JSON object a line.

use serde::{Deserialize, Serialize};

/// One log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MonitorEntry {
    /// Wall clock, RFC 3339.
    pub time: String,
    /// `ERROR`, `WARN`, `INFO`, `DEBUG`.
    pub level: String,
    /// Module.
    pub target: String,
    /// The message and its fields.
    pub message: String,
}
