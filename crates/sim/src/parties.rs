//! Who takes part: addresses, settings, and what a member's data path would hold.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crypto::{CbcCipher, DhGroup, EspSuite, Hash, Integrity, Secret};
use ipnet::Ipv4Net;
use proto::member::{self, Event, GatewaySettings, GroupIdForm, GroupSa, VpnSettings};
use proto::phase1::{self, DoiChoice, Gateway, Mode, Peer, Proposal};
use proto::server::{self, GroupSettings, IpsecSaSettings, MatchPolicy};
use proto::time::Instant;
use wire::codec::LengthWidth;
use wire::selector::Selector;

use crate::scenario::Scenario;

pub(crate) const GROUP: u32 = 1;
pub(crate) const VPN: &str = "vpn";

const FIRST_SERVER: u32 = 0x6400_0064;
const FIRST_MEMBER: u32 = 0x0a00_0001;

/// Somebody with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Server(usize),
    Member(usize),
    /// An address without anybody.
    Nobody,
}

pub(crate) fn server_address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(FIRST_SERVER + index as u32))
}

pub(crate) fn member_address(index: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(FIRST_MEMBER + index as u32))
}

/// Who has an address.
pub(crate) fn party_at(scenario: &Scenario, address: IpAddr) -> Party {
    let IpAddr::V4(address) = address else { return Party::Nobody };
    let number = u32::from(address);
    let index = |first: u32, count: usize| {
        number.checked_sub(first).map(|index| index as usize).filter(|index| *index < count)
    };
    if let Some(index) = index(FIRST_SERVER, scenario.servers) {
        Party::Server(index)
    } else {
        index(FIRST_MEMBER, scenario.members).map_or(Party::Nobody, Party::Member)
    }
}

fn gateway(scenario: &Scenario, name: String, peers: Vec<IpAddr>, local: Option<IpAddr>) -> Gateway {
    Gateway {
        name,
        peer: Peer::Addresses(peers),
        local_address: local,
        mode: Mode::Main,
        proposals: vec![Proposal {
            hash: Hash::Sha256,
            cipher: CbcCipher::Aes128,
            group: DhGroup::Ecp256,
            lifetime: scenario.ike_lifetime,
        }],
        pre_shared_key: Secret::from_slice(b"a key of the simulation"),
        local_identity: None,
        remote_identity: None,
        doi: DoiChoice::default(),
        non_esp_marker: false,
        dead_peer_detection: None,
    }
}

/// The selector of the only policy of an `ipsec-sa`.
pub(crate) fn selector(sa: usize) -> Selector {
    let net = |base: u32| Ipv4Net::new_assert(Ipv4Addr::from(base + ((sa as u32) << 8)), 24).into();
    Selector::between(net(0x1f00_0000), net(0x2900_0000))
}

pub(crate) fn server_settings(scenario: &Scenario) -> server::Settings {
    let name = |index: usize| format!("member-{index}");
    let suite = EspSuite::Cbc { cipher: CbcCipher::Aes128, integrity: Integrity::HmacSha1_96 };
    server::Settings {
        gateways: (0..scenario.members)
            .map(|index| gateway(scenario, name(index), vec![member_address(index)], None))
            .collect(),
        retransmission: phase1::Retransmission::default(),
        groups: vec![GroupSettings {
            name: "group".to_owned(),
            id: GROUP,
            gateways: (0..scenario.members).map(name).collect(),
            member_threshold: None,
            activation_time_delay: Duration::from_secs(15),
            multicast_group: None,
            id_length: LengthWidth::One,
            push: None,
            ipsec_sas: (0..scenario.ipsec_sas)
                .map(|sa| IpsecSaSettings {
                    name: format!("sa-{sa}"),
                    suite,
                    lifetime: scenario.tek_lifetime,
                    policies: vec![MatchPolicy { name: "policy".to_owned(), selector: selector(sa) }],
                })
                .collect(),
        }],
    }
}

pub(crate) fn member_settings(scenario: &Scenario, index: usize) -> member::Settings {
    let servers = (0..scenario.servers).map(server_address).collect();
    member::Settings {
        gateways: vec![GatewaySettings {
            phase1: gateway(scenario, "server".to_owned(), servers, Some(member_address(index))),
            server_port: 848,
            local_port: 848,
        }],
        retransmission: phase1::Retransmission::default(),
        vpns: vec![VpnSettings {
            name: VPN.to_owned(),
            gateway: "server".to_owned(),
            group_id: GROUP,
            group_id_form: GroupIdForm::default(),
            df_bit: "clear".to_owned(),
            routing_instance: "default".to_owned(),
            recovery_probe: false,
            heartbeat_threshold: 3,
            rsa_bare_hash: false,
        }],
    }
}

/// What the data path of a member holds, made of nothing but events.
#[derive(Debug, Default)]
pub(crate) struct DataPath {
    sas: BTreeMap<u32, GroupSa>,
}

impl DataPath {
    pub(crate) fn apply(&mut self, event: &Event) {
        match event {
            Event::InstallSas { sas, .. } => {
                self.sas = sas.iter().map(|sa| (sa.spi, sa.clone())).collect();
            }
            Event::RemoveSas { spis, .. } => {
                for spi in spis {
                    self.sas.remove(spi);
                }
            }
            Event::Registered { .. }
            | Event::RegistrationFailed { .. }
            | Event::JoinGroup { .. }
            | Event::LeaveGroup { .. }
            | Event::Log(_) => {}
        }
    }

    /// Senders use the newest active TEK of a policy.
    pub(crate) fn sends_with(&self, now: Instant, selector: &Selector) -> Option<&GroupSa> {
        let usable =
            |sa: &&GroupSa| sa.activate_at <= now && sa.hard_expiry > now && sa.selectors.contains(selector);
        self.sas.values().filter(usable).max_by_key(|sa| (sa.activate_at, sa.hard_expiry, sa.spi))
    }

    /// Receivers use every live one.
    pub(crate) fn receives(&self, now: Instant, spi: u32) -> bool {
        self.sas.get(&spi).is_some_and(|sa| sa.hard_expiry > now)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &GroupSa> {
        self.sas.values()
    }
}
