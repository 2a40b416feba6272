//! `show security group-vpn member ipsec statistics`.

use serde::{Deserialize, Serialize};

use crate::identifiers::Spi;

/// Counters of the data path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct IpsecStatistics {
    /// Totals of all SAs, living and gone.
    pub totals: SaCounters,
    /// Counters of each live SA.
    pub security_associations: Vec<SaStatistics>,
    /// Packets that passed in clear and why (`exclude`, `fail-open`, `default-policy`, …); every reason, zero or not.
    pub passed: Vec<DropCount>,
    /// Packets that were dropped and why; every reason, zero or not.
    pub drops: Vec<DropCount>,
    /// Counters of the programs in the kernel and of the wire sockets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceCounters>,
}

/// Counters of one external interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct InterfaceCounters {
    /// Linux device.
    pub interface: String,
    /// Names and packets.
    pub counters: Vec<(String, u64)>,
}

/// Packets and octets of an SA. Octets are those of the inner packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SaCounters {
    /// Packets made into ESP.
    pub encrypted_packets: u64,
    /// Octets of them.
    pub encrypted_bytes: u64,
    /// ESP packets accepted.
    pub decrypted_packets: u64,
    /// Octets of them.
    pub decrypted_bytes: u64,
}

/// Counters of one SA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SaStatistics {
    /// The number printed as `ID` by `ipsec security-associations`.
    pub tunnel_id: u32,
    /// Name of the VPN.
    pub vpn: String,
    /// The SA.
    pub spi: Spi,
    /// Its counters.
    pub counters: SaCounters,
}

/// One reason and how often it applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct DropCount {
    /// Short name in kebab-case, stable: `no-live-tek`.
    pub reason: String,
    /// One line for people.
    pub description: String,
    /// Packets.
    pub packets: u64,
}
