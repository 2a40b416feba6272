//! Subjects of `show security group-vpn member`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::identifiers::Spi;
use crate::policy::{AntiReplay, Selector};

/// A VPN of the member and the SAs it holds: entries of `ipsec security-associations`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemberVpn {
    /// Name of the `ipsec vpn` statement.
    pub vpn: String,
    /// The group it registers with.
    pub group_id: u32,
    /// The server it is, or was last, registered with, else the first of the list.
    pub server: IpAddr,
    /// UDP port of the server.
    pub port: u16,
    /// Address that it registers from; unspecified while it is not known.
    pub local_address: IpAddr,
    /// Routing instance, `default`.
    pub routing_instance: String,
    /// `clear`, `set` or `copy`.
    pub df_bit: String,
    /// Whether recovery probes are configured.
    pub recovery_probe: bool,
    /// Whether a new key is being asked for because the present one runs out.
    pub rekey_needed: bool,
    /// Live SAs, oldest first.
    pub security_associations: Vec<MemberIpsecSa>,
    /// What happened so far.
    pub counters: MemberCounters,
}

/// In which directions a member uses a TEK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SaDirection {
    /// It sends and receives.
    #[default]
    BiDirectional,
    /// It sends.
    Outbound,
    /// It receives.
    Inbound,
}

impl SaDirection {
    fn is_usual(&self) -> bool {
        *self == Self::BiDirectional
    }
}

/// A TEK of the member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemberIpsecSa {
    /// The number printed as `ID`: the same for a TEK and its successor.
    pub tunnel_id: u32,
    /// As in `ESP:aes-128/sha1`.
    pub algorithm: String,
    /// SPI of the TEK.
    pub spi: Spi,
    /// Directions it is used in.
    #[serde(default, skip_serializing_if = "SaDirection::is_usual")]
    pub direction: SaDirection,
    /// Remaining seconds.
    pub hard_lifetime_secs: u64,
    /// The rest; left out of a brief reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<MemberIpsecDetail>,
}

/// What `detail` adds to a TEK of the member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemberIpsecDetail {
    /// As in `hmac-sha1-96`; empty with a combined-mode cipher.
    pub authentication_algorithm: String,
    /// As in `aes-128-cbc`.
    pub encryption_algorithm: String,
    /// Seconds until the member re-registers because of it; `None`: it does not.
    pub soft_lifetime_secs: Option<u64>,
    /// Seconds until it encrypts; 0: it does or has done.
    pub activation_in_secs: u64,
    /// Anti-replay of the group.
    pub anti_replay: AntiReplay,
    /// Of a counter mode: the member's sender ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_ids: Option<SenderIds>,
    /// The policies it protects, in the server's order.
    pub policies: Vec<Selector>,
}

/// The sender ids of one member: nobody else has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SenderIds {
    /// Bits of each.
    pub bits: u8,
    /// The ids.
    pub ids: Vec<u32>,
}

/// Counters of a VPN of the member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct MemberCounters {
    /// Registrations completed.
    pub pull_succeeded: u64,
    /// Registrations refused by the server.
    pub pull_failed: u64,
    /// Registrations that got no answer.
    pub pull_timeout: u64,
    /// Registrations that we broke off.
    pub pull_aborted: u64,
    /// Rekey messages accepted.
    pub push_succeeded: u64,
    /// Rekey messages rejected, for whatever reason.
    pub push_failed: u64,
    /// Rekey messages rejected, by reason.
    pub push_rejected: PushRejections,
    /// Rekey messages acknowledged.
    pub push_acknowledged: u64,
    /// Registrations because of ESP under an unknown key.
    pub recovery_probes: u64,
    /// Changes to another server.
    pub server_failover: u64,
    /// Delete payloads obeyed.
    pub delete_received: u64,
    /// SAs refused because the table is full.
    pub exceed_maximum_keys: u64,
    /// Policies refused because the table is full.
    pub exceed_maximum_policies: u64,
    /// SAs refused because their algorithm is unknown or weak.
    pub unsupported_algorithm: u64,
}

/// Rekey messages that changed nothing, by reason. A message counts once, for the first reason found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct PushRejections {
    /// From a server of the VPN, under a KEK that it does not hold.
    pub unknown_kek: u64,
    /// It has not the length that its header says.
    pub truncated: u64,
    /// Its header is not that of a rekey message.
    pub bad_header: u64,
    /// Its encrypted part is not a whole number of blocks.
    pub not_decryptable: u64,
    /// What it decrypts to cannot be read.
    pub malformed: u64,
    /// The very datagram was taken before.
    pub duplicate: u64,
    /// Its sequence number is not newer than the last one.
    pub old_sequence: u64,
    /// The signature is wrong.
    pub bad_signature: u64,
    /// Signed, and with an attribute that must not be read over.
    pub unknown_attribute: u64,
    /// Signed, and with a policy or keys that are not acceptable.
    pub bad_policy: u64,
    /// Signed, and deletes an SA that the VPN does not hold. The rest of such a message is obeyed.
    pub foreign_delete: u64,
}

impl PushRejections {
    /// Messages rejected. One that only deletes an SA that is not held is not.
    pub fn total(&self) -> u64 {
        self.all().iter().map(|(_, _, count)| count).sum::<u64>() - self.foreign_delete
    }

    /// Every reason: its name in kebab-case, a line for people, and how often it applied.
    pub fn all(&self) -> [(&'static str, &'static str, u64); 11] {
        [
            ("unknown-kek", "the cookies name no KEK that is held", self.unknown_kek),
            ("truncated", "the datagram has not the length that its header says", self.truncated),
            ("bad-header", "the header is not that of a rekey message", self.bad_header),
            ("not-decryptable", "the encrypted part is not a whole number of blocks", self.not_decryptable),
            ("malformed", "what it decrypts to cannot be read", self.malformed),
            ("duplicate", "a copy of a message that was accepted", self.duplicate),
            (
                "old-sequence",
                "older than the last one that was accepted, or than the last registration",
                self.old_sequence,
            ),
            ("bad-signature", "the signature is not the server's", self.bad_signature),
            ("unknown-attribute", "an attribute that must not be read over", self.unknown_attribute),
            ("bad-policy", "the policy or its keys are not acceptable", self.bad_policy),
            ("foreign-delete", "it deletes an SA that is not held", self.foreign_delete),
        ]
    }
}

/// A VPN that holds no usable SA: an entry of `ipsec inactive-tunnels`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct InactiveTunnel {
    /// The number printed as `ID`.
    pub tunnel_id: u32,
    /// Name of the `ipsec vpn` statement.
    pub vpn: String,
    /// The group it wants to register with.
    pub group_id: u32,
    /// The server it tries.
    pub server: IpAddr,
    /// UDP port of the server.
    pub port: u16,
    /// Why it is inactive, one line: the last failure and what it means, or what it waits for.
    pub reason: String,
    /// Seconds until the next try, where one is planned.
    pub next_try_in_secs: Option<u64>,
    /// What happened so far.
    pub counters: MemberCounters,
}
