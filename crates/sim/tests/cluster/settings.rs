//! One group of four members, by counter-mode keys of a minute.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::OnceLock;
use std::time::Duration;

use crypto::signature::{SigningKey, SigningKeyKind};
use crypto::{CbcCipher, DhGroup, EspSuite, GcmKeyLen, Hash, Secret};
use proto::member::{self, GatewaySettings, GroupIdForm, VpnSettings};
use proto::phase1::{self, DoiChoice, Gateway, Mode, Peer, Proposal};
use proto::server::{self, Communication, GroupSettings, IpsecSaSettings, MatchPolicy, PushSettings};
use wire::codec::LengthWidth;
use wire::selector::Selector;

pub const SERVERS: usize = 3;
pub const MEMBERS: usize = 4;
pub const VPN: &str = "vpn";

pub fn server_address(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, 1 + index as u8).into()
}

pub fn member_address(index: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 1, 1 + index as u8).into()
}

fn gateway(name: &str, peers: Vec<IpAddr>, local: Option<IpAddr>) -> Gateway {
    Gateway {
        name: name.to_owned(),
        peer: Peer::Addresses(peers),
        local_address: local,
        mode: Mode::Main,
        proposals: vec![Proposal {
            hash: Hash::Sha256,
            cipher: CbcCipher::Aes128,
            group: DhGroup::Ecp256,
            lifetime: Duration::from_secs(86_400),
        }],
        pre_shared_key: Secret::from_slice(b"a key of more than twenty characters"),
        local_identity: None,
        remote_identity: None,
        doi: DoiChoice::default(),
        non_esp_marker: false,
        dead_peer_detection: None,
    }
}

fn name(member: usize) -> String {
    format!("member-{member}")
}

pub fn server(push: bool) -> server::Settings {
    static KEY: OnceLock<SigningKey> = OnceLock::new();
    let signing_key = || SigningKey::generate(SigningKeyKind::EcdsaP256).expect("a key can be made");
    let push = push.then(|| PushSettings {
        communication: Communication::Unicast { acknowledgement_required: false },
        source: None,
        lifetime: Duration::from_secs(180),
        retransmission_period: Duration::from_secs(2),
        number_of_retransmission: 2,
        heartbeat: Some(Duration::from_secs(10)),
        cipher: CbcCipher::Aes128,
        hash: Hash::Sha256,
        signing_key: KEY.get_or_init(signing_key).clone(),
    });
    let prefix =
        |second: u8| ipnet::Ipv4Net::new(Ipv4Addr::new(31, second, 0, 0), 16).expect("16 is a length");
    server::Settings {
        gateways: (0..MEMBERS)
            .map(|member| gateway(&name(member), vec![member_address(member)], None))
            .collect(),
        retransmission: phase1::Retransmission::default(),
        epoch: Duration::ZERO,
        groups: vec![GroupSettings {
            name: "group".into(),
            id: 1,
            gateways: (0..MEMBERS).map(name).collect(),
            // There is room for all, but a follower must ask for it.
            member_threshold: Some(MEMBERS as u32),
            activation_time_delay: Duration::from_secs(5),
            multicast_group: None,
            id_length: LengthWidth::One,
            sender_id_bits: 24,
            push,
            ipsec_sas: vec![IpsecSaSettings {
                name: "sa".into(),
                suite: EspSuite::Gcm { key: GcmKeyLen::Bits128 },
                lifetime: Duration::from_secs(60),
                anti_replay: None,
                policies: vec![MatchPolicy {
                    name: "policy".into(),
                    selector: Selector::between(prefix(1).into(), prefix(2).into()),
                }],
            }],
        }],
    }
}

pub fn member(index: usize) -> member::Settings {
    let mut servers: Vec<_> = (0..SERVERS).map(server_address).collect();
    servers.rotate_left(index % SERVERS);
    member::Settings {
        gateways: vec![GatewaySettings {
            phase1: gateway("servers", servers, Some(member_address(index))),
            server_port: 848,
            local_port: 848,
        }],
        retransmission: phase1::Retransmission::default(),
        vpns: vec![VpnSettings {
            name: VPN.into(),
            gateway: "servers".into(),
            group_id: 1,
            group_id_form: GroupIdForm::default(),
            df_bit: "clear".into(),
            routing_instance: "default".into(),
            recovery_probe: false,
            paired_policies_only: false,
            heartbeat_threshold: 0,
            sender_ids: 4,
            rsa_bare_hash: false,
        }],
    }
}
