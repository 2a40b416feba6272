//! Subjects of `show security group-vpn server`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::identifiers::Spi;
use crate::policy::{AntiReplay, Selector};

/// What `clear security group-vpn server` began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct EvictionReply {
    /// Whether the keys died at once.
    pub now: bool,
    /// The server that does it, where that is another one than was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The groups.
    pub groups: Vec<EvictedGroup>,
}

/// A group whose keys are replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct EvictedGroup {
    /// Its name.
    pub group: String,
    /// Milliseconds until every member that stays uses keys that were not out there before; with `now`, until the last
    /// member should have registered again.
    pub done_in_millis: u64,
}

/// The TEKs of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerGroupSas {
    /// Name of the group.
    pub group: String,
    /// Its number.
    pub group_id: u32,
    /// The TEKs, in the order of the configuration, oldest first within an `ipsec-sa`.
    pub security_associations: Vec<ServerIpsecSa>,
}

/// A TEK of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerIpsecSa {
    /// Name of the `ipsec-sa` statement.
    pub name: String,
    /// As in `ESP:aes-128/sha1`.
    pub algorithm: String,
    /// SPI of the TEK.
    pub spi: Spi,
    /// Remaining seconds.
    pub lifetime_secs: u64,
    /// The rest; left out of a brief reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<ServerIpsecDetail>,
}

/// What `detail` adds to a TEK of the server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerIpsecDetail {
    /// As in `hmac-sha1-96`; empty with a combined-mode cipher.
    pub authentication_algorithm: String,
    /// As in `aes-128-cbc`.
    pub encryption_algorithm: String,
    /// Configured lifetime, seconds.
    pub configured_lifetime_secs: u64,
    /// Seconds until senders use it; 0: they do.
    pub activation_in_secs: u64,
    /// Seconds until the successor is made, where that is known.
    pub rekey_in_secs: Option<u64>,
    /// Anti-replay of the group.
    pub anti_replay: AntiReplay,
    /// Of a counter mode: how many of the group's sender ids are in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_ids: Option<SenderIdUse>,
    /// What it protects.
    pub policies: Vec<ServerMatchPolicy>,
}

/// Sender ids of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SenderIdUse {
    /// Bits of each.
    pub bits: u8,
    /// Those that members may use.
    pub in_use: u64,
    /// Those that can be given. When there are none, all keys are replaced.
    pub free: u64,
}

/// A `match-policy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ServerMatchPolicy {
    /// Name of the statement.
    pub name: String,
    /// The packets.
    pub selector: Selector,
}

/// The members of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RegisteredMembers {
    /// Name of the group.
    pub group: String,
    /// Its number.
    pub group_id: u32,
    /// The members, by gateway name.
    pub members: Vec<RegisteredMember>,
}

/// A member that has registered and whose keys have not all expired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RegisteredMember {
    /// Name of the `ike gateway` statement.
    pub gateway: String,
    /// Address it registered from.
    pub address: IpAddr,
    /// Port it registered from.
    pub port: u16,
    /// Whether it is pushed to.
    #[serde(default)]
    pub state: MemberState,
    /// Seconds since its last registration or acknowledgement.
    pub last_update_secs_ago: u64,
    /// Its counters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statistics: Option<MemberStatistics>,
}

/// Where a registered member stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// On the active list.
    #[default]
    Active,
    /// It left three consecutive rekeys unacknowledged and is not pushed to until it registers.
    Unacknowledged,
}

/// Counters of one member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct MemberStatistics {
    /// Registrations completed.
    pub pull_succeeded: u64,
    /// Registrations refused or broken off.
    pub pull_failed: u64,
    /// Rekey messages sent.
    pub push_sent: u64,
    /// Rekey messages acknowledged.
    pub push_acknowledged: u64,
    /// Rekeys that stayed unacknowledged.
    pub push_unacknowledged: u64,
}

/// Counters of one group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ServerStatistics {
    /// Name of the group.
    pub group: String,
    /// Its number.
    pub group_id: u32,
    /// Members on the active list.
    pub active_members: u64,
    /// Registrations completed.
    pub pull_succeeded: u64,
    /// Registrations refused or broken off.
    pub pull_failed: u64,
    /// Registrations refused because the group is full.
    pub pull_exceed_member_threshold: u64,
    /// Rekey messages sent.
    pub push_sent: u64,
    /// Rekey messages acknowledged.
    pub push_acknowledged: u64,
    /// Rekeys that stayed unacknowledged.
    pub push_unacknowledged: u64,
    /// Acknowledgements that did not count, by reason; only reasons that occurred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub acknowledgements_refused: Vec<ReasonCount>,
    /// The last command that asked for new keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rekey: Option<RekeyProgress>,
    /// The last refusals, newest first, in words; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recent_failures: Vec<String>,
}

/// A reason and how often it applied.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct ReasonCount {
    /// Short name in kebab-case, stable.
    pub reason: String,
    /// One line for people.
    pub description: String,
    /// How often.
    pub count: u64,
}

/// How far a command got that asked for new keys: a commit, an eviction.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RekeyProgress {
    /// As in `policy change`, `graceful eviction`, `eviction now`.
    pub cause: String,
    /// Members that have to get the keys.
    pub members: u64,
    /// Members among them of whom it is not known that they have them.
    pub outstanding: u64,
    /// Seconds from the command until all switch.
    pub switch_after_secs: u64,
    /// Seconds from now until then; absent when it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub done_in_secs: Option<u64>,
    /// Milliseconds from the command until every remaining member used new keys; absent while that is under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub took_millis: Option<u64>,
}
