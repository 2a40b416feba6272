//! Key servers that cooperate.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// How it stands with a group that several servers share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerCluster {
    /// Name of the group.
    pub group: String,
    /// Its number.
    pub group_id: u32,
    /// Name of this server.
    pub server: String,
    /// What the configuration makes of it.
    pub role: ServerRole,
    /// What it does.
    pub state: ClusterState,
    /// For how many seconds.
    pub since_secs: u64,
    /// The server that makes the keys, if one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<String>,
    /// Why it is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The other servers: those that are connected, and those that are configured.
    pub peers: Vec<ClusterPeer>,
    /// More, unless brief.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<ClusterDetail>,
}

/// Preference for who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerRole {
    /// Leads where it can.
    RootServer,
    /// Leaves others the precedence.
    SubServer,
}

/// What a server of a cluster does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterState {
    /// It makes the keys, pushes them, and answers registrations.
    Leading,
    /// It answers registrations with what another server makes.
    Following,
    /// It answers registrations with the keys it knows, until they end, and makes none.
    CutOff,
    /// It has not learnt any key yet.
    Starting,
}

/// Another server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterPeer {
    /// Its name, if it was ever connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The gateway that stands for it in the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Where it answers.
    pub addresses: Vec<IpAddr>,
    /// Its preference, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<ServerRole>,
    /// Whether the store hears from it, as far as this server was told.
    pub connected: bool,
    /// Whether it makes the keys.
    pub leads: bool,
    /// Which statements of this group it has otherwise than this server, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub differs: Option<String>,
}

/// More about a server of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ClusterDetail {
    /// Where what is shared is kept.
    pub store: String,
    /// Seconds that others wait for a silent leader.
    pub lease_secs: u64,
    /// Elections that this server has won.
    pub elections_won: u64,
    /// Commits refused because another one had been elected.
    pub commits_refused: u64,
    /// How often the store was lost.
    pub cut_offs: u64,
    /// Datagrams not sent, because what they depended on was not taken.
    pub datagrams_dropped: u64,
    /// Sequence number of the last push that any server can have sent; absent in a group that pulls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence_number: Option<u32>,
}
