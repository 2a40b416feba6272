//! Phase 1 security associations, on either role.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::identifiers::{Cookie, GroupReference};

/// Whether an SA can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SaState {
    /// Established.
    #[serde(rename = "UP")]
    Up,
    /// Being negotiated, or being taken down.
    #[serde(rename = "DOWN")]
    Down,
}

/// Exchange that made a phase 1 SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IkeMode {
    /// Main mode: six messages, identities encrypted.
    Main,
    /// Aggressive mode: three messages.
    Aggressive,
}

/// Our part in a phase 1 exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum IkeRole {
    /// We sent the first message.
    Initiator,
    /// The peer did.
    Responder,
}

/// One phase 1 SA: a line of `ike security-associations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IkeSecurityAssociation {
    /// A number that is unique among the SAs of this role and never reused.
    pub index: u32,
    /// Address of the peer.
    pub remote_address: IpAddr,
    /// Established or not.
    pub state: SaState,
    /// Cookie of the initiator.
    pub initiator_cookie: Cookie,
    /// Cookie of the responder; zero while it is not known.
    pub responder_cookie: Cookie,
    /// Exchange that made it.
    pub mode: IkeMode,
    /// Groups that the peer may register with (server) or that register over this SA (member). Filters use it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupReference>,
    /// The rest; left out of a brief reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<IkeDetail>,
}

/// What `detail` adds to a phase 1 SA.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct IkeDetail {
    /// Name of the `ike gateway` statement; empty while the peer is not identified.
    pub gateway: String,
    /// Initiator or responder.
    pub role: IkeRole,
    /// Our address and port.
    pub local: SocketAddr,
    /// The peer's address and port.
    pub remote: SocketAddr,
    /// `Pre-shared-keys`, `RSA-signatures`, ….
    pub authentication_method: String,
    /// Seconds until the SA is deleted; `None` while it is being negotiated.
    pub lifetime_remaining_secs: Option<u64>,
    /// Identity that the peer proved, as text.
    pub peer_identity: Option<String>,
    /// Hash, as in `hmac-sha1`.
    pub authentication_algorithm: String,
    /// Cipher, as in `3des-cbc`.
    pub encryption_algorithm: String,
    /// Pseudo-random function, as in `hmac-sha1`.
    pub pseudo_random_function: String,
    /// Group, as in `DH-group-2`.
    pub diffie_hellman_group: String,
    /// Octets received in this SA's datagrams.
    pub input_bytes: u64,
    /// Octets sent.
    pub output_bytes: u64,
    /// Datagrams received.
    pub input_packets: u64,
    /// Datagrams sent.
    pub output_packets: u64,
    /// DOI that the peer uses in phase 1: 1 or 2.
    pub doi: u32,
    /// Whether datagrams carry the four zero octets of the non-ESP marker.
    pub non_esp_marker: bool,
    /// Exchanges finished under this SA.
    pub pulls_completed: u64,
    /// Exchanges running under this SA.
    pub pulls_in_progress: u32,
}
