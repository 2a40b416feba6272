//! Filters of the `show` and `clear` commands: the query string of a request.

use std::net::IpAddr;

use crate::cluster::ServerCluster;
use crate::ike::IkeSecurityAssociation;
use crate::kek::KekSecurityAssociation;
use crate::member::{InactiveTunnel, MemberVpn};
use crate::policy::MemberPolicy;
use crate::server::{RegisteredMembers, ServerGroupSas, ServerStatistics};
use crate::statistics::IpsecStatistics;

/// How much of each entry a reply carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// One line each.
    #[default]
    Brief,
    /// Everything.
    Detail,
}

/// What a request is limited to; everything that is set must match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// `brief` (default) or `detail`.
    pub level: Level,
    /// Address of the peer.
    pub peer_address: Option<IpAddr>,
    /// Name of a group.
    pub group: Option<String>,
    /// Number of a group.
    pub group_id: Option<u32>,
    /// Index of an SA, or ID of a tunnel.
    pub index: Option<u32>,
    /// Name of a VPN.
    pub vpn: Option<String>,
    /// Gateway of another server.
    pub peer_gateway: Option<String>,
    /// Of a `clear` that can be graceful: at once instead.
    pub now: bool,
    /// Of sessions: those of tunnels only.
    pub tunnel: bool,
}

/// A reply that a [`Filter`] can cut down.
pub trait Filtered {
    /// Removes what the filter does not ask for.
    fn keep(&mut self, filter: &Filter);
}

impl Filter {
    fn allows_group(&self, group: &str, group_id: u32) -> bool {
        self.group.as_deref().is_none_or(|wanted| wanted == group)
            && self.group_id.is_none_or(|id| id == group_id)
    }

    fn allows_vpn(&self, vpn: &str, group_id: u32) -> bool {
        self.vpn.as_deref().is_none_or(|wanted| wanted == vpn)
            && self.group_id.is_none_or(|id| id == group_id)
    }

    fn allows_address(&self, address: IpAddr) -> bool {
        self.peer_address.is_none_or(|wanted| wanted == address)
    }

    fn allows_index(&self, index: u32) -> bool {
        self.index.is_none_or(|wanted| wanted == index)
    }

    fn is_brief(&self) -> bool {
        self.level == Level::Brief
    }
}

impl Filtered for Vec<IkeSecurityAssociation> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|sa| {
            filter.allows_address(sa.remote_address)
                && filter.allows_index(sa.index)
                && ((filter.group.is_none() && filter.group_id.is_none())
                    || sa.groups.iter().any(|group| filter.allows_group(&group.group, group.group_id)))
        });
        if filter.is_brief() {
            self.iter_mut().for_each(|sa| sa.detail = None);
        }
    }
}

impl Filtered for Vec<KekSecurityAssociation> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|sa| filter.allows_index(sa.index) && filter.allows_group(&sa.group, sa.group_id));
        if filter.is_brief() {
            self.iter_mut().for_each(|sa| sa.detail = None);
        }
    }
}

impl Filtered for Vec<ServerGroupSas> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|group| filter.allows_group(&group.group, group.group_id));
        if filter.is_brief() {
            self.iter_mut()
                .flat_map(|group| &mut group.security_associations)
                .for_each(|sa| sa.detail = None);
        }
    }
}

impl Filtered for Vec<ServerCluster> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|group| filter.allows_group(&group.group, group.group_id));
        for group in self.iter_mut() {
            if let Some(wanted) = &filter.peer_gateway {
                group.peers.retain(|peer| peer.gateway.as_ref() == Some(wanted));
            }
            if filter.is_brief() {
                group.detail = None;
            }
        }
    }
}

impl Filtered for Vec<RegisteredMembers> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|group| filter.allows_group(&group.group, group.group_id));
        for group in self.iter_mut() {
            group.members.retain(|member| filter.allows_address(member.address));
            if filter.is_brief() {
                group.members.iter_mut().for_each(|member| member.statistics = None);
            }
        }
        if filter.peer_address.is_some() {
            self.retain(|group| !group.members.is_empty());
        }
    }
}

impl Filtered for Vec<ServerStatistics> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|group| filter.allows_group(&group.group, group.group_id));
    }
}

impl Filtered for Vec<MemberVpn> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|vpn| filter.allows_vpn(&vpn.vpn, vpn.group_id));
        for vpn in self.iter_mut() {
            vpn.security_associations.retain(|sa| filter.allows_index(sa.tunnel_id));
            if filter.is_brief() {
                vpn.security_associations.iter_mut().for_each(|sa| sa.detail = None);
            }
        }
        self.retain(|vpn| !vpn.security_associations.is_empty());
    }
}

impl Filtered for Vec<InactiveTunnel> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|tunnel| {
            filter.allows_vpn(&tunnel.vpn, tunnel.group_id) && filter.allows_index(tunnel.tunnel_id)
        });
    }
}

impl Filtered for Vec<MemberPolicy> {
    fn keep(&mut self, filter: &Filter) {
        self.retain(|policy| filter.allows_vpn(&policy.vpn, policy.group_id));
    }
}

impl Filtered for IpsecStatistics {
    fn keep(&mut self, filter: &Filter) {
        self.security_associations.retain(|sa| {
            filter.allows_index(sa.tunnel_id) && filter.vpn.as_ref().is_none_or(|vpn| *vpn == sa.vpn)
        });
    }
}
