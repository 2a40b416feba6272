//! What an operator decides about the key server: plain data, made by the daemon out of the configuration.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crypto::signature::SigningKey;
use crypto::{CbcCipher, EspSuite, Hash};
use wire::codec::LengthWidth;
use wire::selector::Selector;

use crate::{phase1, timeline};

/// Everything a [`Server`](super::Server) needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// The gateways that may open a phase 1 SA; groups refer to them by name.
    pub gateways: Vec<phase1::Gateway>,
    /// When phase 1 messages are sent again.
    pub retransmission: phase1::Retransmission,
    /// POSIX time at the origin of the time line: where the pseudo-time of a new group begins.
    pub epoch: Duration,
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
    /// Bits of a sender id of a counter mode: 8, 12, 16 or 24. Where it changes, all keys are replaced at once.
    pub sender_id_bits: u8,
    /// The TEKs, in the order of the configuration, which is also the order of the policies.
    pub ipsec_sas: Vec<IpsecSaSettings>,
    /// `server-member-communication`; `None`: members pull.
    pub push: Option<PushSettings>,
}

/// One `server-member-communication` statement: the KEK of a group and how its messages reach the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushSettings {
    /// How messages reach the members.
    pub communication: Communication,
    /// The address that messages come from, as members are told; `None` where the host chooses it.
    pub source: Option<IpAddr>,
    /// Configured lifetime of a KEK, whole seconds; more than [`crate::timeline::kek_push_point`].
    pub lifetime: Duration,
    /// Time between two rounds, at least one second.
    pub retransmission_period: Duration,
    /// Rounds after the first until a rekey counts as unacknowledged; 0 is allowed.
    pub number_of_retransmission: u32,
    /// Longest time without any message to the whole group; `None` for no heartbeat.
    pub heartbeat: Option<Duration>,
    /// Encrypts the messages.
    pub cipher: CbcCipher,
    /// Hash of the signature. A curve has its own, so it counts for RSA only.
    pub hash: Hash,
    /// Signs the messages; members get its public half by registering.
    pub signing_key: SigningKey,
}

/// `communication-type` and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Communication {
    /// One copy to the registered address of each member, who acknowledges it (RFC 8263).
    Unicast {
        /// Whether members that never acknowledged anything also leave the active list after three rekeys.
        acknowledgement_required: bool,
    },
    /// One datagram to a group address; nobody acknowledges.
    Multicast {
        /// `multicast-group`; messages go to its port 848.
        group: IpAddr,
        /// `multicast-outgoing-interface`.
        interface: String,
    },
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
    /// Whether packets carry the group's pseudo-time, and how far it may be away from the receiver's in either direction:
    /// whole milliseconds. It is the same for all of a group.
    pub anti_replay: Option<Duration>,
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

impl PushSettings {
    /// What the timeline needs to know of it.
    pub fn timing(&self, activation_time_delay: Duration) -> timeline::Push {
        timeline::Push {
            retransmission_period: self.retransmission_period,
            number_of_retransmission: self.number_of_retransmission,
            activation_time_delay,
        }
    }

    /// Whether both need the same KEK; the rest is only about when messages are sent.
    pub(super) fn keyed_alike(&self, other: &Self) -> bool {
        let keyed = |settings: &Self| {
            let Self { communication, source, lifetime, cipher, hash, signing_key, .. } = settings.clone();
            let communication = match communication {
                Communication::Unicast { .. } => None,
                multicast @ Communication::Multicast { .. } => Some(multicast),
            };
            (communication, source, lifetime, cipher, hash, signing_key)
        };
        keyed(self) == keyed(other)
    }

    /// Whether members are asked to acknowledge.
    pub(super) fn is_unicast(&self) -> bool {
        matches!(self.communication, Communication::Unicast { .. })
    }
}

impl GroupSettings {
    /// What the timeline needs to know of the push, if there is one.
    pub(super) fn timing(&self) -> Option<timeline::Push> {
        self.push.as_ref().map(|push| push.timing(self.activation_time_delay))
    }

    /// Match policies of all TEKs together.
    pub fn policy_count(&self) -> usize {
        self.ipsec_sas.iter().map(|sa| sa.policies.len()).sum()
    }
}
