//! What the member tells the shell besides datagrams.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crypto::{EspSuite, Secret};
use wire::registry::NotifyType;
use wire::selector::Selector;

use crate::policy::SenderIdDownload;
use crate::pseudo_time::AntiReplay;
use crate::time::Instant;
use crate::{log, phase1, policy};

/// An event of the member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The data path shall hold these SAs.
    InstallSas {
        /// Name of the VPN.
        vpn: Arc<str>,
        /// All SAs of the VPN that live now, in the order of their policies and oldest first within one: those
        /// known already (same SPI) keep their counters and sequence numbers and take over times and selectors.
        sas: Vec<GroupSa>,
        /// Policies of the server for which we have no usable SA (an algorithm we refuse): what they match and no
        /// SA does is dropped, never sent in clear. They come after the selectors of all SAs.
        closed: Vec<Selector>,
    },
    /// A PULL brought sender ids for TEKs of counter modes; `InstallSas` follows. They replace those of earlier PULLs for
    /// every SA named here, which may be known already; SAs that are not named keep what they have.
    SenderIds {
        /// Name of the VPN.
        vpn: Arc<str>,
        /// The ids: no other member has them. None yet, where the keys of before a restart are about to be installed.
        sender_ids: SenderIdDownload,
        /// SPIs of the SAs that they may be used with; later ones by push are others.
        spis: Vec<u32>,
    },
    /// The server told the pseudo-time of the VPN's group; SAs that carry it are known or follow.
    PseudoTime {
        /// Name of the VPN.
        vpn: Arc<str>,
        /// The moment at which it was as `anti_replay` says.
        at: Instant,
        /// The time, and the window around it.
        anti_replay: AntiReplay,
        /// Whether the clock is set: a PULL, which is fresh. A push only moves it forward.
        set: bool,
    },
    /// The data path shall forget these SAs. Their policies stay closed until others are installed; only
    /// [`Removal::Reconfigured`] says that the policies are gone too (then `spis` may be empty).
    RemoveSas {
        /// Name of the VPN.
        vpn: Arc<str>,
        /// The SAs.
        spis: Vec<u32>,
        /// Why.
        reason: Removal,
    },
    /// A registration succeeded; `InstallSas` came before.
    Registered {
        /// Name of the VPN.
        vpn: Arc<str>,
        /// The server.
        server: SocketAddr,
    },
    /// A try to register failed; more follow.
    RegistrationFailed {
        /// Name of the VPN.
        vpn: Arc<str>,
        /// The server that was tried.
        server: SocketAddr,
        /// Why.
        reason: RegistrationFailure,
    },
    /// The server sends its GROUPKEY-PUSH messages to this multicast group: join it, on the interface that leads to the
    /// server.
    JoinGroup {
        /// Name of the VPN.
        vpn: Arc<str>,
        /// The multicast group.
        group: IpAddr,
        /// The server.
        source: IpAddr,
    },
    /// No KEK of the VPN names the multicast group any more.
    LeaveGroup {
        /// Name of the VPN.
        vpn: Arc<str>,
        /// The multicast group.
        group: IpAddr,
    },
    /// Something worth a line in the log; its rate limit is already applied.
    Log(log::Entry),
}

/// One TEK: an SA that serves both directions, unless `direction` says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSa {
    /// SPI.
    pub spi: u32,
    /// Algorithms.
    pub suite: EspSuite,
    /// Keys.
    pub keys: Arc<Keys>,
    /// What it protects, in the server's order.
    pub selectors: Arc<[Selector]>,
    /// In which directions it may be used.
    pub direction: Direction,
    /// Whether its packets carry the group's pseudo-time.
    pub carries_time: bool,
    /// When it starts to encrypt; it decrypts from installation on.
    pub activate_at: Instant,
    /// When the member registers again because of it.
    pub soft_expiry: Instant,
    /// When it is gone, for both directions.
    pub hard_expiry: Instant,
}

/// Keys of a TEK, with the lengths that its suite asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Cipher key; for GCM the salt follows it.
    pub cipher: Secret,
    /// Integrity key; empty for GCM.
    pub integrity: Secret,
}

/// In which directions a TEK may be used (RFC 6407 section 5.5.1.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Direction {
    /// Sending only.
    SenderOnly,
    /// Receiving only.
    ReceiverOnly,
    /// Both.
    #[default]
    Symmetric,
}

/// Why SAs are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Their life is over.
    Expired,
    /// The external interface went down.
    InterfaceDown,
    /// An operator cleared them.
    Cleared,
    /// The server took them back or replaced their keys.
    Deleted,
    /// The VPN was changed or removed in the configuration: its policies are gone too.
    Reconfigured,
}

/// Why a registration failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistrationFailure {
    /// Phase 1 did not come to an SA.
    #[error("phase 1 failed: {0}")]
    Phase1(phase1::Failure),
    /// Phase 1 could not even start.
    #[error("phase 1 cannot start: {0}")]
    CannotConnect(String),
    /// The phase 1 SA went away under the registration.
    #[error("the phase 1 SA was closed: {0}")]
    Phase1Closed(phase1::CloseReason),
    /// The server fell silent.
    #[error("no answer to GROUPKEY-PULL")]
    NoAnswer,
    /// The server does not know the group.
    #[error("the server has no group with this number")]
    UnknownGroup,
    /// The server does not let us into the group.
    #[error("the server does not authorize this member for the group")]
    NotAuthorized,
    /// The server says that our capabilities do not suffice for the group's policy.
    #[error("no common policy, says the server")]
    NoCommonPolicy,
    /// The group has as many members as it may have.
    #[error("the group has reached its member threshold")]
    GroupFull,
    /// Another notification of the server.
    #[error("the server refuses: {0}")]
    Refused(NotifyType),
    /// What the server sent is not acceptable.
    #[error("the server's policy is refused: {0}")]
    Policy(policy::PolicyError),
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Removal::Expired => "expired",
            Removal::InterfaceDown => "interface down",
            Removal::Cleared => "cleared",
            Removal::Deleted => "deleted by the server",
            Removal::Reconfigured => "configuration changed",
        })
    }
}
