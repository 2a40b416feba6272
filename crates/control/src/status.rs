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
    /// Rekey messages on their way out; absent on a machine that is no key server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rekey_messages: Option<RekeyMessages>,
    /// What needs the operator's attention.
    pub warnings: Vec<String>,
}

/// What became of the rekey messages of the server's groups. Each copy counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RekeyMessages {
    /// Handed to the kernel.
    pub sent: u64,
    /// Refused by the kernel: no route, for instance.
    pub refused: u64,
    /// Given up because the network was too far behind.
    pub given_up: u64,
    /// Waiting for room in the socket.
    pub waiting: u64,
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
