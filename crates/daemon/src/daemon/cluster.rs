//! `show security group-vpn server server-cluster`.

use std::net::IpAddr;

use config::model::{Group, Peer, ServerGateway};
use control::{ClusterDetail, ClusterPeer, ServerCluster, ServerRole};

use super::Daemon;
use crate::durable::{ClusterState, Connection, ServerInfo};

impl Daemon {
    /// Every group that is shared, as this server sees it.
    pub(super) fn server_cluster(&self) -> Vec<ServerCluster> {
        let Some(state) = self.durable.as_ref().and_then(|durable| durable.cluster()) else {
            return Vec::new();
        };
        let Some(configured) = &self.active.model.server else { return Vec::new() };
        let Some(store) = &configured.cluster_store else { return Vec::new() };
        let now = self.clock.now();
        let keks =
            self.server.as_ref().map(|server| server.kek_security_associations(now)).unwrap_or_default();
        let group = |group: &Group| {
            let sequence_number = keks
                .iter()
                .rfind(|kek| kek.group_id == group.id)
                .and_then(|kek| kek.detail.as_ref())
                .map(|detail| detail.sequence_number);
            let (standing, leader, reason) = standing(state);
            ServerCluster {
                group: group.name.clone(),
                group_id: group.id,
                server: state.name.clone(),
                role: role(store.role == config::model::ServerRole::SubServer),
                state: standing,
                since_secs: (now - state.since).as_secs(),
                reason,
                peers: peers(group, state, leader.as_deref()),
                leader,
                detail: Some(ClusterDetail {
                    store: state.store.clone(),
                    lease_secs: store.lease_secs.into(),
                    elections_won: state.elections_won,
                    commits_refused: state.commits_refused,
                    cut_offs: state.cut_offs,
                    datagrams_dropped: state.dropped,
                    sequence_number,
                }),
            }
        };
        configured.groups.iter().map(group).collect()
    }
}

fn role(is_sub_server: bool) -> ServerRole {
    if is_sub_server { ServerRole::SubServer } else { ServerRole::RootServer }
}

/// What the server does, who leads, and why it is cut off.
fn standing(state: &ClusterState) -> (control::ClusterState, Option<String>, Option<String>) {
    match &state.connection {
        Connection::Starting(reason) => (control::ClusterState::Starting, None, Some(reason.clone())),
        Connection::CutOff(reason) => (control::ClusterState::CutOff, None, Some(reason.clone())),
        Connection::Leading => (control::ClusterState::Leading, Some(state.name.clone()), None),
        Connection::Following(leader) => (control::ClusterState::Following, leader.clone(), None),
    }
}

fn peers(group: &Group, state: &ClusterState, leader: Option<&str>) -> Vec<ClusterPeer> {
    let gateways = group.cluster.iter().flat_map(|cluster| &cluster.gateways);
    let gateways: Vec<_> =
        gateways.filter_map(|gateway| Some((gateway.name.clone(), address(gateway)?))).collect();
    let connected = |info: &ServerInfo| ClusterPeer {
        server: Some(info.name.clone()),
        gateway: gateways
            .iter()
            .find(|(_, address)| info.about.addresses.contains(address))
            .map(|(name, _)| name.clone()),
        addresses: info.about.addresses.clone(),
        role: Some(role(info.about.sub_server)),
        connected: matches!(state.connection, Connection::Leading | Connection::Following(_)),
        leads: leader == Some(info.name.as_str()),
        differs: state
            .differences
            .iter()
            .find(|it| it.server == info.name && it.difference.group_id == group.id)
            .map(|it| it.difference.kind.to_string()),
    };
    let mut peers: Vec<ClusterPeer> =
        state.servers.iter().filter(|info| info.name != state.name).map(connected).collect();
    for (name, address) in &gateways {
        if peers.iter().all(|peer| peer.gateway.as_ref() != Some(name)) {
            peers.push(ClusterPeer {
                server: None,
                gateway: Some(name.clone()),
                addresses: vec![*address],
                role: None,
                connected: false,
                leads: false,
                differs: None,
            });
        }
    }
    peers
}

fn address(gateway: &ServerGateway) -> Option<IpAddr> {
    match gateway.peer {
        Peer::Address(address) => Some(address),
        Peer::Dynamic(_) => None,
    }
}
