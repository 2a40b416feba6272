//! Key encryption keys, on either role.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::identifiers::Cookie;
use crate::ike::SaState;

/// One KEK: a line of `kek security-associations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KekSecurityAssociation {
    /// A number that is unique on this role and never reused.
    pub index: u32,
    /// The server (member) or 0.0.0.0 (server).
    pub remote_address: IpAddr,
    /// Usable or not.
    pub state: SaState,
    /// First half of the KEK's SPI.
    pub initiator_cookie: Cookie,
    /// Second half of the KEK's SPI.
    pub responder_cookie: Cookie,
    /// Name of the group (server) or VPN (member).
    pub group: String,
    /// The group it belongs to.
    pub group_id: u32,
    /// The rest; left out of a brief reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<KekDetail>,
}

/// What `detail` adds to a KEK.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct KekDetail {
    /// As in `RSA`.
    pub authentication_method: String,
    /// As in `sha256`.
    pub signature_hash: String,
    /// As in `aes-256-cbc`.
    pub encryption_algorithm: String,
    /// Seconds of life left.
    pub lifetime_remaining_secs: u64,
    /// Seconds until its successor is pushed; server only.
    pub rekey_in_secs: Option<u64>,
    /// `Unicast` or `Multicast`.
    pub communication: String,
    /// Sequence number of the last push sent or accepted.
    pub sequence_number: u32,
    /// Pushes sent or accepted under this KEK.
    pub pushes: u64,
}
