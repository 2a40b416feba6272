//! The group member as configured.

use std::sync::Arc;

use ipnet::IpNet;

use super::algorithm::words;
use super::ike::MemberGateway;
use super::interface::InterfaceName;
use super::server::IkeDoi;
use crate::place::Place;

/// `security group-vpn member`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key servers, in text order.
    pub gateways: Vec<Arc<MemberGateway>>,
    /// The VPNs, in text order.
    pub vpns: Vec<Vpn>,
    /// What an orderly stop of the daemon leaves behind.
    pub stop_behaviour: StopBehaviour,
    /// Where it was written.
    pub place: Place,
}

impl Member {
    /// The VPN of that name.
    pub fn vpn(&self, name: &str) -> Option<&Vpn> {
        self.vpns.iter().find(|vpn| vpn.name == name)
    }
}

words! {
    /// `member stop-behaviour`.
    StopBehaviour {
        /// Programs stay attached: protected traffic is dropped while the daemon is away.
        Closed = "closed",
        /// Everything added is removed: traffic flows in clear.
        Detach = "detach",
    }
}

words! {
    /// `df-bit`: the DF bit of the outer header.
    DfBit {
        /// Clear it.
        Clear = "clear",
        /// Set it.
        Set = "set",
        /// Copy the inner header's.
        Copy = "copy",
    }
}

words! {
    /// `match-direction` of a service-set VPN.
    MatchDirection {
        /// Match packets that arrive at the interface.
        Input = "input",
        /// Match packets that leave by the interface.
        Output = "output",
    }
}

words! {
    /// `compatibility group-id-form`: how the group is named in a GROUPKEY-PULL.
    GroupIdForm {
        /// ID_KEY_ID with four octets.
        KeyId = "key-id",
        /// ID_IPV4_ADDR.
        Ipv4Address = "ipv4-address",
    }
}

/// `member ipsec vpn N`: membership of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vpn {
    /// Its name.
    pub name: String,
    /// Its servers, resolved.
    pub gateway: Arc<MemberGateway>,
    /// The group's number.
    pub group_id: u32,
    /// `group-vpn-external-interface`; absent where a service set binds the VPN. See `Configuration::external_interfaces`.
    pub external_interface: Option<InterfaceName>,
    /// The DF bit outside.
    pub df_bit: DfBit,
    /// Probe the server when ESP with unknown SPIs arrives.
    pub recovery_probe: bool,
    /// Missed heartbeats until the member re-registers, 0..10; 0: never.
    pub heartbeat_threshold: u8,
    /// Direction in which a service set matches; a checked configuration with service sets has `output` or none.
    pub match_direction: Option<MatchDirection>,
    /// Largest ESP packet in octets, 256..9192; absent: the interface's MTU.
    pub tunnel_mtu: Option<u16>,
    /// Service sets: forward what no policy matches.
    pub forward_policy_mismatch: bool,
    /// Refuse a TEK with several policies that are not two mirror images.
    pub paired_policies_only: bool,
    /// Clear while not registered; at most ten.
    pub fail_open: Vec<ClearRule>,
    /// Always clear; at most ten.
    pub exclude: Vec<ClearRule>,
    /// DOI of the first phase 1 attempt.
    pub ike_doi: IkeDoi,
    /// How the group is named to the server.
    pub group_id_form: GroupIdForm,
    /// Accept rekeys signed over the bare hash, too.
    pub rsa_bare_hash: bool,
    /// Write the non-ESP marker before each message to the server.
    pub non_esp_marker: bool,
    /// Where it was written.
    pub place: Place,
}

/// `fail-open rule N` and `exclude rule N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClearRule {
    /// Its name.
    pub name: String,
    /// Source addresses; absent: any.
    pub source: Option<IpNet>,
    /// Destination addresses; absent: any.
    pub destination: Option<IpNet>,
    /// Applications; absent: any.
    pub application: super::policy::Applications,
    /// Where it was written.
    pub place: Place,
}
