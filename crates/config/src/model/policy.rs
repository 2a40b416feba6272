//! Zones, scope policies, addresses and applications.

use ipnet::IpNet;

use super::algorithm::words;
use super::interface::InterfaceName;
use crate::place::Place;

/// `security zones security-zone Z`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its name.
    pub name: String,
    /// Its interfaces, in text order.
    pub interfaces: Vec<InterfaceName>,
    /// Where it was written.
    pub place: Place,
}

/// `security policies from-zone A to-zone B policy P`, in the order in which they are looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Zone the packet comes from.
    pub from_zone: String,
    /// Zone the packet goes to.
    pub to_zone: String,
    /// Its name.
    pub name: String,
    /// Policy index as `show security dynamic-policies` prints it: from 4, in text order, skipping none.
    pub index: u32,
    /// Source addresses.
    pub source: Addresses,
    /// Destination addresses.
    pub destination: Addresses,
    /// Applications.
    pub applications: Applications,
    /// What happens.
    pub action: PolicyAction,
    /// Where it was written.
    pub place: Place,
}

impl Policy {
    /// The VPN of a scope policy.
    pub fn vpn(&self) -> Option<&str> {
        match &self.action {
            PolicyAction::Tunnel { vpn } => Some(vpn),
            PolicyAction::Permit | PolicyAction::Deny | PolicyAction::Reject => None,
        }
    }
}

/// `then`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyAction {
    /// `permit`.
    Permit,
    /// `permit tunnel ipsec-group-vpn N`: this is a scope policy.
    Tunnel {
        /// The VPN's name.
        vpn: String,
    },
    /// `deny`: drop silently.
    Deny,
    /// `reject`: drop and answer.
    Reject,
}

/// Address match, resolved through the address books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// `any`.
    Any,
    /// `any-ipv4`.
    AnyIpv4,
    /// `any-ipv6`.
    AnyIpv6,
    /// One of these.
    Prefixes(Vec<IpNet>),
}

/// Application match, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applications {
    /// `any`.
    Any,
    /// One of these.
    Only(Vec<Application>),
}

/// One term of an application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// Its name.
    pub name: String,
    /// IP protocol; `None`: any.
    pub protocol: Option<u8>,
    /// First and last source port; `None`: any.
    pub source_ports: Option<(u16, u16)>,
    /// First and last destination port; `None`: any.
    pub destination_ports: Option<(u16, u16)>,
}

words! {
    /// `security policies default-policy`.
    DefaultPolicy {
        /// Forward in clear.
        PermitAll = "permit-all",
        /// Drop.
        DenyAll = "deny-all",
    }
}

/// `security ipsec-policy from-zone A to-zone B ipsec-group-vpn N`: binding without scope policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpsecPolicy {
    /// Zone the packet comes from.
    pub from_zone: String,
    /// Zone the packet goes to.
    pub to_zone: String,
    /// The VPN's name.
    pub vpn: String,
    /// Index as for `Policy::index`; these follow all policies.
    pub index: u32,
    /// Where it was written.
    pub place: Place,
}
