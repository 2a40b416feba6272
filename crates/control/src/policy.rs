//! Selectors, dynamic policies and what a member does with matching packets.

use std::fmt;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An inclusive range of ports; 0–65535 and the single port 0 both mean any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, at least `first`.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: PortRange = PortRange { first: 0, last: 65535 };

    /// One port; 0 means any, as in the configuration language.
    pub const fn single(port: u16) -> Self {
        if port == 0 { Self::ANY } else { PortRange { first: port, last: port } }
    }
}

/// Which packets a policy names: the server's wording, one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Selector {
    /// Source addresses.
    pub source: IpNet,
    /// Destination addresses.
    pub destination: IpNet,
    /// Source port; 0 is any.
    pub source_port: u16,
    /// Destination port; 0 is any.
    pub destination_port: u16,
    /// IP protocol; 0 is any.
    pub protocol: u8,
}

impl Selector {
    /// Any packet between two prefixes.
    pub const fn between(source: IpNet, destination: IpNet) -> Self {
        Selector { source, destination, source_port: 0, destination_port: 0, protocol: 0 }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}[{}] -> {}[{}]/{}",
            self.source, self.source_port, self.destination, self.destination_port, self.protocol
        )
    }
}

/// Time-based anti-replay of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AntiReplay {
    /// Off.
    Disabled,
    /// On, with a window of plus or minus so many milliseconds.
    WindowMillis(u32),
}

/// A policy received from the server, placed under one scope policy: an entry of `show security dynamic-policies`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DynamicPolicy {
    /// Zone that packets come from.
    pub from_zone: String,
    /// Zone that packets go to.
    pub to_zone: String,
    /// Name of the scope policy.
    pub scope: String,
    /// `enabled`, or why not: a scope policy that is narrower than the dynamic one, dynamic policies not enabled, ….
    pub state: String,
    /// Index of the scope policy: its place among all policies of the configuration, from 4 (0–3 are the built-in ones).
    pub scope_index: u32,
    /// Place of the policy in the server's order, from 1.
    pub sequence: u32,
    /// The packets.
    pub selector: Selector,
    /// The VPN that the policy was received for.
    pub vpn: String,
    /// The group of that VPN.
    pub group_id: u32,
}

impl DynamicPolicy {
    /// The number printed as `Index`: (sequence << 20) + scope policy index.
    pub const fn index(&self) -> u32 {
        (self.sequence << 20).wrapping_add(self.scope_index)
    }

    /// The name printed as `Policy`: the scope policy's, and the sequence number in four digits.
    pub fn name(&self) -> String {
        format!("{}-{:04}", self.scope, self.sequence)
    }
}

/// What a member does with the packets of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyType {
    /// Encrypted and decrypted.
    Secure,
    /// In clear while the member is not registered.
    #[serde(rename = "Fail-open")]
    FailOpen,
    /// In clear always.
    Exclude,
    /// Dropped.
    #[serde(rename = "Fail-close")]
    FailClose,
}

impl fmt::Display for PolicyType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(match self {
            PolicyType::Secure => "Secure",
            PolicyType::FailOpen => "Fail-open",
            PolicyType::Exclude => "Exclude",
            PolicyType::FailClose => "Fail-close",
        })
    }
}

/// An entry of `show security group-vpn member policy`, in the order of evaluation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct MemberPolicy {
    /// The VPN.
    pub vpn: String,
    /// Its group.
    pub group_id: u32,
    /// Zone that packets come from; empty with a service-set binding.
    pub from_zone: String,
    /// Zone that packets go to; empty with a service-set binding.
    pub to_zone: String,
    /// What is done.
    #[serde(rename = "type")]
    pub policy_type: PolicyType,
    /// The tunnel, for `Secure`.
    pub tunnel_id: Option<u32>,
    /// The packets.
    pub selector: Selector,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_and_name_of_a_dynamic_policy_are_the_seeds() {
        let policy = |sequence, scope_index| DynamicPolicy {
            from_zone: "trust".into(),
            to_zone: "untrust".into(),
            scope: "scope1".into(),
            state: "enabled".into(),
            scope_index,
            sequence,
            selector: Selector::between("31.1.1.0/24".parse().unwrap(), "41.1.0.0/16".parse().unwrap()),
            vpn: "gvpn".into(),
            group_id: 1,
        };
        assert_eq!((policy(1, 4).index(), policy(1, 4).name()), (1_048_580, "scope1-0001".to_owned()));
        assert_eq!((policy(3, 5).index(), policy(3, 5).name()), (3_145_733, "scope1-0003".to_owned()));
    }
}
