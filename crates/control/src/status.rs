//! The daemon itself, and what a `clear` did.

use serde::{Deserialize, Serialize};

/// What a `clear` command did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClearReply {
    /// How many SAs, members or counters it removed.
    pub cleared: u64,
}

/// `gvpn status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Status {
    /// Version of the daemon.
    pub version: String,
    /// Process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_secs: u64,
    /// `server`, `member`, both or none.
    pub roles: Vec<String>,
    /// Configuration file.
    pub configuration_file: String,
    /// UDP addresses it listens on.
    pub listening: Vec<String>,
    /// External interfaces.
    pub interfaces: Vec<InterfaceStatus>,
    /// What needs the operator's attention.
    pub warnings: Vec<String>,
}

/// An external interface of the member.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct InterfaceStatus {
    /// Name in the configuration.
    pub name: String,
    /// Linux device.
    pub device: String,
    /// Whether the data path is attached to it.
    pub attached: bool,
    /// Whether it is up with carrier.
    pub up: bool,
    /// VPNs bound to it.
    pub vpns: Vec<String>,
}
