//! Phase 1 as configured: proposals, policies, identities, gateways of both roles.

use std::net::IpAddr;
use std::sync::Arc;

use super::algorithm::{AuthenticationMethod, DhGroup, IkeCipher, IkeHash, words};
use crate::place::Place;
use crate::secret::SecretText;

/// `ike proposal N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeProposal {
    /// Its name.
    pub name: String,
    /// How the peers prove themselves.
    pub authentication_method: AuthenticationMethod,
    /// The hash, and through HMAC the prf.
    pub hash: IkeHash,
    /// The cipher.
    pub cipher: IkeCipher,
    /// The Diffie-Hellman group; `group2` where v1 text names none.
    pub dh_group: DhGroup,
    /// Lifetime of phase 1 in seconds, 180..86400.
    pub lifetime_secs: u32,
    /// Where it was written.
    pub place: Place,
}

words! {
    /// `ike policy mode`.
    IkeMode {
        /// Main mode: identities are protected.
        Main = "main",
        /// Aggressive mode: three messages.
        Aggressive = "aggressive",
    }
}

/// `ike policy N`, its proposals resolved, in order of preference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkePolicy {
    /// Its name.
    pub name: String,
    /// The mode an initiator uses and a responder accepts.
    pub mode: IkeMode,
    /// At least one, in order of preference.
    pub proposals: Vec<IkeProposal>,
    /// The pre-shared key; `None` only where every proposal uses certificates.
    pub pre_shared_key: Option<SecretText>,
    /// Name of our certificate, for signature methods.
    pub local_certificate: Option<String>,
    /// Where it was written.
    pub place: Place,
}

/// An IKE identity.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// `inet A`: ID_IPV4_ADDR (or ID_IPV6_ADDR).
    Address(IpAddr),
    /// `hostname H`: ID_FQDN.
    Hostname(String),
    /// `user-at-hostname U`: ID_USER_FQDN.
    UserAtHostname(String),
    /// `distinguished-name`: ID_DER_ASN1_DN; of our certificate (`None`) or as given.
    DistinguishedName(Option<String>),
}

/// How a server knows a member.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// `address A`: it comes from this address.
    Address(IpAddr),
    /// `dynamic { ... }`: it comes from anywhere and shows this identity.
    Dynamic(Identity),
}

/// `dead-peer-detection { ... }`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadPeerDetection {
    /// Probe regardless of traffic.
    pub always_send: bool,
    /// Seconds between probes, 10..60.
    pub interval_secs: u16,
    /// Unanswered probes until the peer counts as dead, 1..5.
    pub threshold: u8,
}

/// `server ike gateway N`: a member the server may talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerGateway {
    /// Its name.
    pub name: String,
    /// Its policy, resolved.
    pub policy: Arc<IkePolicy>,
    /// How the member is recognised.
    pub peer: Peer,
    /// The identity we show; absent: our address.
    pub local_identity: Option<Identity>,
    /// The identity the member must show; absent: its address, or that of `Peer::Dynamic`.
    pub remote_identity: Option<Identity>,
    /// Answer only at this address; absent: any.
    pub local_address: Option<IpAddr>,
    /// Routing instance of the local address; `default` is `None`.
    pub routing_instance: Option<String>,
    /// Dead peer detection, where configured.
    pub dead_peer_detection: Option<DeadPeerDetection>,
    /// Where it was written.
    pub place: Place,
}

/// `member ike gateway N`: the key servers of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberGateway {
    /// Its name.
    pub name: String,
    /// Its policy, resolved.
    pub policy: Arc<IkePolicy>,
    /// One to four servers, in order of preference.
    pub servers: Vec<IpAddr>,
    /// The address we talk from; absent: as the kernel routes.
    pub local_address: Option<IpAddr>,
    /// Routing instance of the local address; `default` is `None`.
    pub routing_instance: Option<String>,
    /// The identity we show; absent: our address.
    pub local_identity: Option<Identity>,
    /// The identity the server must show; absent: its address.
    pub remote_identity: Option<Identity>,
    /// Where it was written.
    pub place: Place,
}
