//! What an operator decides about the member: plain data, made by the daemon out of the configuration.

use std::net::{IpAddr, Ipv4Addr};

use wire::isakmp::Identity;

use crate::phase1;

/// Everything a [`Member`](super::Member) needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Settings {
    /// The gateways; VPNs refer to them by name. Two that are equal but for their name share their phase 1 SAs.
    pub gateways: Vec<GatewaySettings>,
    /// When phase 1 messages are sent again.
    pub retransmission: phase1::Retransmission,
    /// The VPNs. Names are unique in a checked configuration.
    pub vpns: Vec<VpnSettings>,
}

/// One `ike gateway` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// How phase 1 is done. Its `peer` lists the servers in order of preference, one to
    /// [`crate::timeline::SERVERS_MAX`]; more are not asked.
    pub phase1: phase1::Gateway,
    /// UDP port of the servers, 848.
    pub server_port: u16,
    /// UDP port that we send from, 848. The address is `phase1.local_address`, or unspecified without one.
    pub local_port: u16,
}

/// One `ipsec vpn` statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpnSettings {
    /// Name in the configuration.
    pub name: String,
    /// Name of the gateway it registers over.
    pub gateway: String,
    /// Number of the group.
    pub group_id: u32,
    /// How the group is named to the server.
    pub group_id_form: GroupIdForm,
    /// `clear`, `set` or `copy`: shown, and the data path's business.
    pub df_bit: String,
    /// Routing instance, `default`: shown.
    pub routing_instance: String,
    /// Whether ESP with an unknown SPI makes the member ask for keys, whatever server it has; with a server of ours it
    /// does anyway.
    pub recovery_probe: bool,
    /// Heartbeats that may be missed in a row before the member registers again, 0 to 10; 0: any number.
    pub heartbeat_threshold: u32,
    /// Sender ids to ask for where TEKs are of a counter mode: one for each core that encrypts, and spares. At least 1.
    pub sender_ids: u16,
    /// Whether a TEK with several policies is refused unless they are two mirror images (`paired-policies-only`).
    pub paired_policies_only: bool,
    /// Whether RSA signatures over the bare hash are accepted besides those of RFC 6407 (`compatibility rsa-bare-hash`).
    pub rsa_bare_hash: bool,
}

/// How the number of a group stands in the ID payload of GROUPKEY-PULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum GroupIdForm {
    /// As ID_KEY_ID of four octets, the form of RFC 6407.
    #[default]
    KeyId,
    /// As ID_IPV4_ADDR, whose four octets are those of the number.
    Ipv4Address,
}

impl VpnSettings {
    /// The group as the server is asked for it.
    pub(super) fn group_identity(&self) -> Identity<'static> {
        match self.group_id_form {
            GroupIdForm::KeyId => Identity::key_id(self.group_id),
            GroupIdForm::Ipv4Address => Identity::address(Ipv4Addr::from(self.group_id).into()),
        }
    }
}

impl GatewaySettings {
    /// The servers in order of preference.
    pub fn servers(&self) -> &[IpAddr] {
        let servers: &[IpAddr] = match &self.phase1.peer {
            phase1::Peer::Addresses(addresses) => addresses,
            phase1::Peer::Dynamic(_) => &[],
        };
        &servers[..servers.len().min(crate::timeline::SERVERS_MAX as usize)]
    }
}
