//! What an operator decides about phase 1: plain data, made by the daemon out of the configuration.

use std::net::IpAddr;
use std::time::Duration;

use crypto::{CbcCipher, DhGroup, Hash, Secret};
use wire::isakmp::Identity;
use wire::registry::Doi;

/// Everything an [`Endpoint`](super::Endpoint) needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// The peers we talk to. Names are unique; where several match a peer the earlier one is taken.
    pub gateways: Vec<Gateway>,
    /// Vendor ids announced besides dead peer detection, for instance [`super::VENDOR_ID_GROUPVPN`].
    pub vendor_ids: Vec<Vec<u8>>,
    /// When unanswered messages are sent again.
    pub retransmission: Retransmission,
}

/// One `ike gateway` statement with its policy and proposals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Name in the configuration; also the name used in events and logs.
    pub name: String,
    /// Which peers this gateway stands for.
    pub peer: Peer,
    /// Only peers that address us here; `None` accepts any local address.
    pub local_address: Option<IpAddr>,
    /// The exchange we start, and the only one we answer.
    pub mode: Mode,
    /// Acceptable proposals, most wanted first. Never empty in a checked configuration.
    pub proposals: Vec<Proposal>,
    /// The pre-shared key.
    pub pre_shared_key: Secret,
    /// The identity we claim; `None` is our address on the path.
    pub local_identity: Option<Identity<'static>>,
    /// The identity the peer must prove; `None` is its address, or what [`Peer::Dynamic`] says.
    pub remote_identity: Option<Identity<'static>>,
    /// The DOI of the SA payload we offer, and whether to fall back.
    pub doi: DoiChoice,
    /// Whether we write the non-ESP marker in front of the messages of exchanges that we start.
    pub non_esp_marker: bool,
    /// Dead peer detection by us; queries of the peer are answered in any case.
    pub dead_peer_detection: Option<DeadPeerDetection>,
}

/// Which peers a gateway stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A peer at one of these addresses (a member may list several servers).
    Addresses(Vec<IpAddr>),
    /// A peer at any address that proves this identity.
    Dynamic(Identity<'static>),
}

/// The phase 1 exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Identity protection, six messages.
    Main,
    /// Three messages; identities travel in clear.
    Aggressive,
}

/// One phase 1 transform, authenticated by a pre-shared key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Hash, whose HMAC is the prf.
    pub hash: Hash,
    /// Cipher, key length included.
    pub cipher: CbcCipher,
    /// Diffie-Hellman group.
    pub group: DhGroup,
    /// The longest life of the SA; the shorter one of both peers counts. Whole seconds.
    pub lifetime: Duration,
}

/// The DOI of the phase 1 SA payload that an initiator offers. A responder answers with the DOI it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DoiChoice {
    /// GDOI as RFC 6407 asks, then IPsec if the peer does not support that.
    #[default]
    GdoiThenIpsec,
    /// Only this one.
    Only(Doi),
}

/// RFC 3706 as the configuration names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadPeerDetection {
    /// Silence after which the peer is asked, and the time between unanswered questions.
    pub interval: Duration,
    /// Unanswered questions after which the peer is dead.
    pub threshold: u32,
    /// Ask after silence even if we have sent nothing that the peer should have answered.
    pub always_send: bool,
}

/// When an unanswered message is sent again.
///
/// The first wait follows the round trip measured in this exchange, between `shortest` and `first`; every further
/// one is twice the one before, up to `longest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmission {
    /// First wait before a round trip was measured.
    pub first: Duration,
    /// The shortest first wait after one was measured.
    pub shortest: Duration,
    /// The longest wait.
    pub longest: Duration,
    /// How long an exchange may take from its first message to its last.
    pub give_up: Duration,
}

/// A member turns to its next server 30 s after the first message to a silent one (three tries of 10 s).
impl Default for Retransmission {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            shortest: Duration::from_millis(300),
            longest: Duration::from_secs(10),
            give_up: Duration::from_secs(30),
        }
    }
}

impl Gateway {
    /// The identity a peer at `address` must prove.
    pub fn expected_identity(&self, address: IpAddr) -> Identity<'static> {
        match (&self.remote_identity, &self.peer) {
            (Some(identity), _) | (None, Peer::Dynamic(identity)) => identity.clone(),
            (None, Peer::Addresses(_)) => Identity::address(address.to_canonical()),
        }
    }
}
