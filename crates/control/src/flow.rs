//! `show security flow session`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// What a session stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionKind {
    /// A flow of hosts, as they see it.
    PlainText,
    /// What is decrypted under an SA: all of it, or that between two hosts.
    Tunnel,
    /// What arrives as ESP between two hosts and is not of the tunnel session's SPI: it is dropped.
    Shadow,
}

/// One session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FlowSession {
    /// Unique as long as the daemon runs.
    pub id: u64,
    /// What it stands for.
    pub kind: SessionKind,
    /// The dynamic policy and its index, as in `scope1-0002/2097156`; for sessions of flows only.
    pub policy: Option<String>,
    /// Seconds until it is forgotten if nothing else comes; for sessions of flows only.
    pub timeout_secs: Option<u64>,
    /// In the direction of the first packet.
    #[serde(rename = "in")]
    pub inward: FlowWing,
    /// The answers; for sessions of flows only.
    #[serde(rename = "out")]
    pub outward: Option<FlowWing>,
}

/// One direction of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FlowWing {
    /// Source address.
    pub source: IpAddr,
    /// Source port; of ESP the upper half of the SPI.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port; of ESP the lower half of the SPI.
    pub destination_port: u16,
    /// IP protocol.
    pub protocol: u8,
    /// Where such packets come in; `N/A` where that is not known.
    pub interface: String,
    /// Packets so far.
    pub packets: u64,
    /// Octets so far.
    pub bytes: u64,
}
