//! What is configured: the settings of servers and members, and what an operator changes of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::Duration;

use crypto::signature::SigningKey;
use crypto::{CbcCipher, DhGroup, EspSuite, GcmKeyLen, Hash, Integrity, Secret};
use ipnet::Ipv4Net;
use proto::member::{self, GatewaySettings, GroupIdForm, VpnSettings};
use proto::phase1::{self, DoiChoice, Gateway, Mode, Peer, Proposal};
use proto::server::{self, GroupSettings, IpsecSaSettings, MatchPolicy, PushSettings};
use proto::timeline::Timeline;
use wire::codec::LengthWidth;
use wire::selector::Selector;

use crate::bits::Bits;
use crate::parties::{member_address, server_address};
use crate::scenario::{Communication, Pushing, Scenario};

pub(crate) const GROUP: u32 = 1;
pub(crate) const VPN: &str = "vpn";
const MULTICAST_GROUP: Ipv4Addr = Ipv4Addr::new(239, 1, 2, 3);

/// The configuration of the servers, all of which have the same.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) sas: Vec<PlannedSa>,
    /// Members that may register.
    pub(crate) authorized: Bits,
    pub(crate) communication: Communication,
    push: Pushing,
    members: usize,
    ike_lifetime: Duration,
    counter_mode: bool,
}

/// One `ipsec-sa`.
#[derive(Clone, Debug)]
pub(crate) struct PlannedSa {
    pub(crate) number: u32,
    /// Which of many destinations it has.
    pub(crate) variant: u32,
    pub(crate) lifetime: Duration,
    pub(crate) cipher: CbcCipher,
}

impl Plan {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let mut authorized = Bits::default();
        (0..scenario.members).for_each(|index| authorized.insert(index));
        let sa = |number| PlannedSa {
            number,
            variant: 0,
            lifetime: scenario.tek_lifetime,
            cipher: CbcCipher::Aes128,
        };
        Self {
            sas: (0..scenario.ipsec_sas as u32).map(sa).collect(),
            authorized,
            communication: scenario.communication,
            push: scenario.push,
            members: scenario.members,
            ike_lifetime: scenario.ike_lifetime,
            counter_mode: scenario.counter_mode,
        }
    }

    /// The retry period of a member that holds keys of these lives: the longest that any of them asks for.
    pub(crate) fn try_interval(&self) -> Duration {
        let intervals = self.sas.iter().map(|sa| Timeline::pull(sa.lifetime).try_interval());
        intervals.max().unwrap_or_default()
    }

    pub(crate) fn round_period(&self) -> Duration {
        self.push.period
    }

    pub(crate) fn ike_lifetime(&self) -> Duration {
        self.ike_lifetime
    }

    pub(crate) fn server_settings(&self) -> server::Settings {
        let name = |index: usize| format!("member-{index}");
        server::Settings {
            epoch: Duration::ZERO,
            gateways: (0..self.members)
                .map(|index| gateway(self.ike_lifetime, name(index), vec![member_address(index)], None))
                .collect(),
            retransmission: phase1::Retransmission::default(),
            groups: vec![GroupSettings {
                name: "group".to_owned(),
                id: GROUP,
                gateways: (0..self.members)
                    .filter(|index| self.authorized.contains(*index))
                    .map(name)
                    .collect(),
                member_threshold: None,
                activation_time_delay: self.push.activation_delay,
                multicast_group: (self.communication == Communication::Multicast).then_some(MULTICAST_GROUP),
                id_length: LengthWidth::One,
                sender_id_bits: 16,
                push: self.push_settings(),
                ipsec_sas: self.sas.iter().map(|sa| sa.settings(self.counter_mode)).collect(),
            }],
        }
    }
}

impl Plan {
    pub(crate) fn pushes(&self) -> bool {
        self.communication != Communication::Pull
    }

    fn push_settings(&self) -> Option<PushSettings> {
        let communication = match self.communication {
            Communication::Pull => return None,
            Communication::Unicast => server::Communication::Unicast { acknowledgement_required: false },
            Communication::Multicast => server::Communication::Multicast {
                group: MULTICAST_GROUP.into(),
                interface: "lo0.0".to_owned(),
            },
        };
        Some(PushSettings {
            communication,
            source: None,
            lifetime: self.push.kek_lifetime,
            retransmission_period: self.push.period,
            number_of_retransmission: self.push.count,
            heartbeat: self.push.heartbeat,
            cipher: CbcCipher::Aes128,
            hash: Hash::Sha256,
            signing_key: signing_key(),
        })
    }
}

/// One key for all worlds: making one takes longer than an hour of a small world.
fn signing_key() -> SigningKey {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    let read = || SigningKey::from_pkcs8_der(include_bytes!("../testdata/signing-key.pkcs8"));
    KEY.get_or_init(|| read().expect("the committed key is a key")).clone()
}

impl PlannedSa {
    pub(crate) fn name(&self) -> String {
        format!("sa-{}", self.number)
    }

    fn settings(&self, counter_mode: bool) -> IpsecSaSettings {
        let net = |address: u32, length| Ipv4Net::new_assert(Ipv4Addr::from(address), length).into();
        let source = net(0x1f00_0000 + (self.number << 8), 24);
        let destination = net(0x2900_0000 + (self.number << 16) + ((self.variant % 256) << 8), 24);
        let policy = |name: &str, selector| MatchPolicy { name: name.to_owned(), selector };
        IpsecSaSettings {
            name: self.name(),
            suite: match (counter_mode, self.cipher) {
                (true, CbcCipher::Aes256) => EspSuite::Gcm { key: GcmKeyLen::Bits256 },
                (true, _) => EspSuite::Gcm { key: GcmKeyLen::Bits128 },
                (false, cipher) => EspSuite::Cbc { cipher, integrity: Integrity::HmacSha1_96 },
            },
            lifetime: self.lifetime,
            anti_replay: None,
            policies: vec![
                policy("there", Selector::between(source, destination)),
                policy("back", Selector::between(destination, source)),
            ],
        }
    }
}

pub(crate) fn member_settings(scenario: &Scenario, index: usize) -> member::Settings {
    let servers = (0..scenario.servers).map(server_address).collect();
    let local = Some(member_address(index));
    member::Settings {
        gateways: vec![GatewaySettings {
            phase1: gateway(scenario.ike_lifetime, "server".to_owned(), servers, local),
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
            sender_ids: 4,
            paired_policies_only: false,
            rsa_bare_hash: false,
        }],
    }
}

fn gateway(lifetime: Duration, name: String, peers: Vec<IpAddr>, local: Option<IpAddr>) -> Gateway {
    Gateway {
        name,
        peer: Peer::Addresses(peers),
        local_address: local,
        mode: Mode::Main,
        // The cheapest group there is: what the arithmetic costs is the same thing every time.
        proposals: vec![Proposal {
            hash: Hash::Sha256,
            cipher: CbcCipher::Aes128,
            group: DhGroup::Ecp256,
            lifetime,
        }],
        pre_shared_key: Secret::from_slice(b"a key of the simulation"),
        local_identity: None,
        remote_identity: None,
        doi: DoiChoice::default(),
        non_esp_marker: false,
        dead_peer_detection: None,
    }
}
