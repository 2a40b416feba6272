//! What an operator decides about the key server: plain data, made by the daemon out of the configuration.

use std::net::Ipv4Addr;
use std::time::Duration;

use crypto::EspSuite;
use wire::codec::LengthWidth;
use wire::selector::Selector;

use crate::phase1;

/// Everything a [`Server`](super::Server) needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// The gateways that may open a phase 1 SA; groups refer to them by name.
    pub gateways: Vec<phase1::Gateway>,
    /// When phase 1 messages are sent again.
    pub retransmission: phase1::Retransmission,
    /// The groups. Names and ids are unique in a checked configuration; of two with the same id the first counts.
    pub groups: Vec<GroupSettings>,
}

/// One `group` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Name in the configuration.
    pub name: String,
    /// The number members ask for.
    pub id: u32,
    /// Names of the gateways that may register.
    pub gateways: Vec<String>,
    /// Most members at a time; `None` is no limit.
    pub member_threshold: Option<u32>,
    /// `activation-time-delay`, at least one second.
    pub activation_time_delay: Duration,
    /// The address a member may name the group by instead of its number: the multicast group of
    /// `server-member-communication`.
    pub multicast_group: Option<Ipv4Addr>,
    /// Width of the identification lengths in the policy we send: one octet, or two for members that want them.
    pub id_length: LengthWidth,
    /// The TEKs, in the order of the configuration, which is also the order of the policies.
    pub ipsec_sas: Vec<IpsecSaSettings>,
}

/// One `ipsec-sa` statement with the proposal it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpsecSaSettings {
    /// Name in the configuration.
    pub name: String,
    /// Algorithms of the TEK.
    pub suite: EspSuite,
    /// Configured lifetime of a TEK, whole seconds; at least [`crate::timeline::MINIMUM_LIFETIME`].
    pub lifetime: Duration,
    /// What the TEK protects, in order. Never empty in a checked configuration.
    pub policies: Vec<MatchPolicy>,
}

/// One `match-policy` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatchPolicy {
    /// Name in the configuration.
    pub name: String,
    /// The packets.
    pub selector: Selector,
}

impl GroupSettings {
    /// Match policies of all TEKs together.
    pub fn policy_count(&self) -> usize {
        self.ipsec_sas.iter().map(|sa| sa.policies.len()).sum()
    }
}
