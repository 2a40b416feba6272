//! The typed configuration as settings of the protocol roles.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use config::model;
use crypto::signature::SigningKey;
use crypto::{CbcCipher, DhGroup, EspSuite, GcmKeyLen, Hash, Integrity, Secret};
use proto::phase1::{self, DoiChoice, Mode, Peer, Proposal};
use proto::{member, server};
use wire::Selector;
use wire::codec::LengthWidth;
use wire::isakmp::Identity;
use wire::registry::{Doi, IdType};

use crate::durable::{ClusterSettings, TlsFiles};
use crate::instances::DEFAULT;

/// The port of GDOI.
pub const GDOI_PORT: u16 = 848;

/// Further sender ids, for when a count ends.
const SPARES: u16 = 2;

/// Settings of the key server. `key` gives each group that pushes the key that signs its rekeys; `None` where it has
/// none is the first such group. `epoch` is POSIX time at the origin of the roles' clock.
pub fn server<'k>(
    configured: &model::Server,
    epoch: Duration,
    key: impl Fn(&model::Group) -> Option<&'k SigningKey>,
) -> Result<server::Settings, NoSigningKey> {
    Ok(server::Settings {
        gateways: configured.gateways.iter().map(|gateway| server_gateway(gateway)).collect(),
        retransmission: phase1::Retransmission::default(),
        epoch,
        groups: configured
            .groups
            .iter()
            .map(|configured| {
                let push = configured.communication.as_ref().map(|communication| {
                    let key = key(configured).ok_or_else(|| NoSigningKey(configured.name.clone()))?;
                    Ok(push(configured, communication, key.clone()))
                });
                Ok(group(configured, push.transpose()?))
            })
            .collect::<Result<_, _>>()?,
    })
}

/// What the key server shares with others, where it does.
pub fn cluster(configured: &model::Server) -> Option<ClusterSettings> {
    let store = configured.cluster_store.as_ref()?;
    let mut addresses: Vec<_> = configured.groups.iter().filter_map(|group| group.server_address).collect();
    addresses.sort_unstable();
    addresses.dedup();
    Some(ClusterSettings {
        endpoints: store.endpoints.clone(),
        prefix: store.prefix.clone(),
        server_name: store.server_name.clone(),
        lease: Duration::from_secs(store.lease_secs.into()),
        longest_wait: Duration::from_secs(store.retransmission_period_secs.into()),
        is_sub_server: store.role == model::ServerRole::SubServer,
        key: store.cluster_key.as_ref().map(PathBuf::from),
        tls: store.tls.as_ref().map(|tls| TlsFiles {
            authorities: tls.certificate_authority.as_ref().map(PathBuf::from),
            own: tls.certificate.as_ref().map(|(certificate, key)| (certificate.into(), key.into())),
        }),
        user: store
            .user
            .as_ref()
            .map(|(name, password)| (name.clone(), Secret::from_slice(password.expose()))),
        addresses,
    })
}

/// A group that pushes has no key to sign with.
#[derive(Debug, thiserror::Error)]
#[error("group {0} has no key that signs its rekeys")]
pub struct NoSigningKey(pub String);

/// Settings of the member, whose data path has so many lanes: each sends with a sender id of its own.
pub fn member(configured: &model::Member, lanes: u16) -> member::Settings {
    // A checked configuration has VPNs of one gateway agree about its phase 1: the first stands for all.
    let mut gateways: Vec<member::GatewaySettings> = Vec::new();
    let mut vpns = Vec::new();
    for vpn in &configured.vpns {
        let gateway = member_gateway(vpn);
        let name = gateway.phase1.name.clone();
        if !gateways.iter().any(|known| known.phase1.name == name) {
            gateways.push(gateway);
        }
        vpns.push(member::VpnSettings {
            name: vpn.name.clone(),
            gateway: name,
            group_id: vpn.group_id,
            group_id_form: match vpn.group_id_form {
                model::GroupIdForm::KeyId => member::GroupIdForm::KeyId,
                model::GroupIdForm::Ipv4Address => member::GroupIdForm::Ipv4Address,
            },
            df_bit: vpn.df_bit.as_str().to_owned(),
            routing_instance: vpn.gateway.routing_instance.clone().unwrap_or_else(|| DEFAULT.to_owned()),
            recovery_probe: vpn.recovery_probe,
            heartbeat_threshold: vpn.heartbeat_threshold.into(),
            // A restarted daemon sends with others than before: enough for one restart at least.
            sender_ids: 2 * lanes + SPARES,
            paired_policies_only: vpn.paired_policies_only,
            rsa_bare_hash: vpn.rsa_bare_hash,
        });
    }
    member::Settings { gateways, retransmission: phase1::Retransmission::default(), vpns }
}

fn server_gateway(gateway: &model::ServerGateway) -> phase1::Gateway {
    phase1::Gateway {
        name: gateway.name.clone(),
        peer: match &gateway.peer {
            model::Peer::Address(address) => Peer::Addresses(vec![*address]),
            model::Peer::Dynamic(identity) => Peer::Dynamic(identification(identity)),
        },
        local_address: gateway.local_address,
        mode: mode(gateway.policy.mode),
        proposals: proposals(&gateway.policy),
        pre_shared_key: pre_shared_key(&gateway.policy),
        local_identity: gateway.local_identity.as_ref().map(identification),
        remote_identity: gateway.remote_identity.as_ref().map(identification),
        doi: DoiChoice::default(),
        non_esp_marker: false,
        dead_peer_detection: gateway.dead_peer_detection.map(|detection| phase1::DeadPeerDetection {
            interval: Duration::from_secs(detection.interval_secs.into()),
            threshold: detection.threshold.into(),
            always_send: detection.always_send,
        }),
    }
}

fn member_gateway(vpn: &model::Vpn) -> member::GatewaySettings {
    let gateway = &vpn.gateway;
    // GDOI is tried first and IPsec after it; a VPN that asks for IPsec gets nothing else.
    let (name, doi) = match vpn.ike_doi {
        model::IkeDoi::Gdoi => (gateway.name.clone(), DoiChoice::GdoiThenIpsec),
        model::IkeDoi::Ipsec => (format!("{} (DOI 1)", gateway.name), DoiChoice::Only(Doi::IPSEC)),
    };
    member::GatewaySettings {
        phase1: phase1::Gateway {
            name,
            peer: Peer::Addresses(gateway.servers.clone()),
            local_address: gateway.local_address,
            mode: mode(gateway.policy.mode),
            proposals: proposals(&gateway.policy),
            pre_shared_key: pre_shared_key(&gateway.policy),
            local_identity: gateway.local_identity.as_ref().map(identification),
            remote_identity: gateway.remote_identity.as_ref().map(identification),
            doi,
            non_esp_marker: vpn.non_esp_marker,
            dead_peer_detection: None,
        },
        server_port: GDOI_PORT,
        local_port: GDOI_PORT,
    }
}

/// How a group announces its keys.
pub fn push(
    group: &model::Group,
    communication: &model::ServerMemberCommunication,
    signing_key: SigningKey,
) -> server::PushSettings {
    server::PushSettings {
        communication: match (communication.communication_type, communication.multicast_group) {
            (model::CommunicationType::Multicast, Some(address)) => server::Communication::Multicast {
                group: address,
                interface: communication
                    .multicast_outgoing_interface
                    .as_ref()
                    .map_or_else(String::new, |name| name.0.clone()),
            },
            // A checked configuration names a group wherever it says multicast.
            (model::CommunicationType::Multicast, None) | (model::CommunicationType::Unicast, _) => {
                server::Communication::Unicast { acknowledgement_required: group.acknowledgement_required }
            }
        },
        // Any server of a cluster may send them.
        source: group.server_address.filter(|_| group.cluster.is_none()),
        lifetime: Duration::from_secs(communication.lifetime_secs.into()),
        retransmission_period: Duration::from_secs(communication.retransmission_period_secs.into()),
        number_of_retransmission: communication.number_of_retransmission.into(),
        heartbeat: communication.heartbeat_secs.map(|secs| Duration::from_secs(secs.into())),
        cipher: cbc_cipher(communication.cipher),
        hash: match (signing_key.kind().implied_hash(), communication.signature_hash) {
            (Some(implied), _) => implied,
            (None, Some(model::SignatureHash::Md5)) => Hash::Md5,
            (None, Some(model::SignatureHash::Sha1)) => Hash::Sha1,
            (None, Some(model::SignatureHash::Sha256) | None) => Hash::Sha256,
            (None, Some(model::SignatureHash::Sha384)) => Hash::Sha384,
        },
        signing_key,
    }
}

/// Settings of one group.
pub fn group(group: &model::Group, push: Option<server::PushSettings>) -> server::GroupSettings {
    server::GroupSettings {
        name: group.name.clone(),
        id: group.id,
        gateways: group.gateways.iter().map(|gateway| gateway.name.clone()).collect(),
        member_threshold: group.member_threshold,
        activation_time_delay: Duration::from_secs(group.activation_time_delay_secs.into()),
        multicast_group: group
            .communication
            .as_ref()
            .filter(|it| it.communication_type == model::CommunicationType::Multicast)
            .and_then(|communication| match communication.multicast_group? {
                IpAddr::V4(address) => Some(address),
                // The identities that name a group are those of IPv4.
                IpAddr::V6(_) => None,
            }),
        id_length: match group.compatibility.id_length_octets {
            2 => LengthWidth::Two,
            _ => LengthWidth::One,
        },
        push,
        sender_id_bits: group.sender_id_bits,
        ipsec_sas: group
            .security_associations
            .iter()
            .map(|sa| server::IpsecSaSettings {
                name: sa.name.clone(),
                suite: suite(&sa.proposal),
                lifetime: Duration::from_secs(sa.proposal.lifetime_secs.into()),
                anti_replay: match group.anti_replay {
                    model::AntiReplay::Off => None,
                    model::AntiReplay::Window { millis } => Some(Duration::from_millis(millis.into())),
                },
                policies: sa.policies.iter().map(match_policy).collect(),
            })
            .collect(),
    }
}

fn match_policy(policy: &model::MatchPolicy) -> server::MatchPolicy {
    server::MatchPolicy {
        name: policy.name.clone(),
        selector: Selector {
            source: policy.source,
            destination: policy.destination,
            source_port: policy.source_port,
            destination_port: policy.destination_port,
            protocol: policy.protocol,
        },
    }
}

fn mode(mode: model::IkeMode) -> Mode {
    match mode {
        model::IkeMode::Main => Mode::Main,
        model::IkeMode::Aggressive => Mode::Aggressive,
    }
}

/// The proposals with pre-shared keys: those with signatures are not active yet, which `check` says.
fn proposals(policy: &model::IkePolicy) -> Vec<Proposal> {
    policy
        .proposals
        .iter()
        .filter(|proposal| proposal.authentication_method == model::AuthenticationMethod::PreSharedKeys)
        .map(|proposal| Proposal {
            hash: match proposal.hash {
                model::IkeHash::Md5 => Hash::Md5,
                model::IkeHash::Sha1 => Hash::Sha1,
                model::IkeHash::Sha256 => Hash::Sha256,
                model::IkeHash::Sha384 => Hash::Sha384,
                model::IkeHash::Sha512 => Hash::Sha512,
            },
            cipher: cbc_cipher(proposal.cipher),
            group: DhGroup::from_iana(proposal.dh_group.number())
                .expect("every group of the language has an implementation; a test walks through them"),
            lifetime: Duration::from_secs(proposal.lifetime_secs.into()),
        })
        .collect()
}

fn cbc_cipher(cipher: model::IkeCipher) -> CbcCipher {
    match cipher {
        model::IkeCipher::Des => CbcCipher::Des,
        model::IkeCipher::TripleDes => CbcCipher::TripleDes,
        model::IkeCipher::Aes128 => CbcCipher::Aes128,
        model::IkeCipher::Aes192 => CbcCipher::Aes192,
        model::IkeCipher::Aes256 => CbcCipher::Aes256,
    }
}

fn pre_shared_key(policy: &model::IkePolicy) -> Secret {
    Secret::from_slice(policy.pre_shared_key.as_ref().map_or(&[], |key| key.expose()))
}

fn identification(identity: &model::Identity) -> Identity<'static> {
    match identity {
        model::Identity::Address(address) => Identity::address(*address),
        model::Identity::Hostname(name) => Identity::fqdn(name.clone()),
        model::Identity::UserAtHostname(name) => Identity::user_fqdn(name.clone()),
        // Certificates are not active yet: an identity that no peer with a pre-shared key proves.
        model::Identity::DistinguishedName(name) => {
            Identity::new(IdType::DER_ASN1_DN, name.clone().unwrap_or_default().into_bytes())
        }
    }
}

/// The ESP suite of a proposal.
pub fn suite(proposal: &model::IpsecProposal) -> EspSuite {
    let cbc = |cipher| EspSuite::Cbc {
        cipher,
        integrity: match proposal.integrity {
            Some(model::EspIntegrity::HmacMd5_96) => Integrity::HmacMd5_96,
            Some(model::EspIntegrity::HmacSha1_96) | None => Integrity::HmacSha1_96,
            Some(model::EspIntegrity::HmacSha256_128) => Integrity::HmacSha256_128,
            Some(model::EspIntegrity::HmacSha384_192) => Integrity::HmacSha384_192,
            Some(model::EspIntegrity::HmacSha512_256) => Integrity::HmacSha512_256,
        },
    };
    match proposal.cipher {
        model::EspCipher::DesCbc => cbc(CbcCipher::Des),
        model::EspCipher::TripleDesCbc => cbc(CbcCipher::TripleDes),
        model::EspCipher::Aes128Cbc => cbc(CbcCipher::Aes128),
        model::EspCipher::Aes192Cbc => cbc(CbcCipher::Aes192),
        model::EspCipher::Aes256Cbc => cbc(CbcCipher::Aes256),
        model::EspCipher::Aes128Gcm => EspSuite::Gcm { key: GcmKeyLen::Bits128 },
        model::EspCipher::Aes192Gcm => EspSuite::Gcm { key: GcmKeyLen::Bits192 },
        model::EspCipher::Aes256Gcm => EspSuite::Gcm { key: GcmKeyLen::Bits256 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_for_other_implementations_reaches_the_protocol() {
        let text = r#"security group-vpn {
            server {
                ike {
                    proposal p { authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }
                    policy p { proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }
                    gateway a { ike-policy p; address 10.0.0.2; }
                }
                ipsec { proposal e { authentication-algorithm hmac-sha1-96; encryption-algorithm aes-128-cbc; } }
                group plain {
                    group-id 1;
                    ike-gateway a;
                    ipsec-sa s { proposal e; match-policy m { source 10.1.0.0/16; destination 10.2.0.0/16; } }
                }
                group wide {
                    group-id 2;
                    ike-gateway a;
                    compatibility { id-length-octets 2; }
                    ipsec-sa s { proposal e; match-policy m { source 10.1.0.0/16; destination 10.2.0.0/16; } }
                }
            }
        }"#;
        let candidate = config::read(text, &[]);
        let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
        let widths: Vec<_> = server(&model.server.unwrap(), Duration::ZERO, |_| None)
            .unwrap()
            .groups
            .iter()
            .map(|group| group.id_length)
            .collect();
        assert_eq!(widths, [LengthWidth::One, LengthWidth::Two]);

        let text = r#"security group-vpn {
            member {
                ike {
                    proposal p { authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }
                    policy p { proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }
                    gateway a { ike-policy p; address 10.0.0.1; }
                    gateway b { ike-policy p; address 10.0.1.1; }
                }
                ipsec {
                    vpn plain { ike-gateway a; group 1; group-vpn-external-interface eth0; }
                    vpn other {
                        ike-gateway b;
                        group 2;
                        group-vpn-external-interface eth0;
                        compatibility { ike-doi 1; group-id-form ipv4-address; non-esp-marker; }
                    }
                }
            }
        }"#;
        let candidate = config::read(text, &[]);
        let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
        let settings = member(&model.member.unwrap(), 2);
        let habits: Vec<_> = settings
            .gateways
            .iter()
            .zip(&settings.vpns)
            .map(|(gateway, vpn)| (gateway.phase1.doi, gateway.phase1.non_esp_marker, vpn.group_id_form))
            .collect();
        assert_eq!(
            habits,
            [
                (DoiChoice::GdoiThenIpsec, false, member::GroupIdForm::KeyId),
                (DoiChoice::Only(Doi::IPSEC), true, member::GroupIdForm::Ipv4Address),
            ]
        );
    }

    /// A server that pushes to one group, or what is wrong with it.
    fn pushing(lifetime: u64, kek: u64, period: u64, count: u64, delay: u64) -> config::Candidate {
        let text = format!(
            r#"security group-vpn {{ test-lifetimes; server {{
                ike {{
                    proposal p {{ authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; }}
                    policy p {{ proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }}
                    gateway a {{ ike-policy p; address 10.0.0.2; }}
                }}
                ipsec {{ proposal e {{ authentication-algorithm hmac-sha1-96; encryption-algorithm aes-128-cbc;
                    lifetime-seconds {lifetime}; }} }}
                group g {{
                    group-id 1;
                    ike-gateway a;
                    server-address 10.0.0.1;
                    activation-time-delay {delay};
                    server-member-communication {{
                        communication-type multicast; multicast-group 226.1.1.1; multicast-outgoing-interface lo0.0;
                        lifetime-seconds {kek}; retransmission-period {period}; number-of-retransmission {count};
                        heartbeat 60; encryption-algorithm aes-192-cbc; sig-hash-algorithm sha-384;
                    }}
                    ipsec-sa s {{ proposal e; match-policy m {{ source 10.1.0.0/16; destination 10.2.0.0/16; }} }}
                }}
            }} }}"#
        );
        config::read(&text, &[])
    }

    #[test]
    fn the_statements_of_a_push_reach_the_protocol() {
        let candidate = pushing(3600, 7200, 11, 4, 20);
        let configured =
            candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings)).server.unwrap();
        assert_eq!(server(&configured, Duration::ZERO, |_| None).unwrap_err().0, "g");
        let key = SigningKey::generate(crypto::signature::SigningKeyKind::EcdsaP256).unwrap();
        let settings = server(&configured, Duration::ZERO, |_| Some(&key)).unwrap();
        let push = settings.groups[0].push.as_ref().unwrap();
        let expected = server::PushSettings {
            communication: server::Communication::Multicast {
                group: "226.1.1.1".parse().unwrap(),
                interface: "lo0.0".into(),
            },
            source: Some("10.0.0.1".parse().unwrap()),
            lifetime: Duration::from_secs(7200),
            retransmission_period: Duration::from_secs(11),
            number_of_retransmission: 4,
            heartbeat: Some(Duration::from_secs(60)),
            cipher: CbcCipher::Aes192,
            hash: Hash::Sha256, // that of the curve
            signing_key: key.clone(),
        };
        assert_eq!(*push, expected);
        assert_eq!(settings.groups[0].multicast_group, Some("226.1.1.1".parse().unwrap()));
    }

    /// `config` repeats two formulas of the timeline for its warnings.
    #[test]
    fn the_warnings_of_the_configuration_are_those_of_the_timeline() {
        use proto::timeline::{Push, Timeline, fitting_lifetime, kek_push_point};
        for (period, count, delay) in [(10, 2, 15), (30, 3, 15), (2, 0, 10), (60, 5, 15), (5, 60, 120)] {
            let timing = Push {
                retransmission_period: Duration::from_secs(period),
                number_of_retransmission: count as u32,
                activation_time_delay: Duration::from_secs(delay),
            };
            for lifetime in [60, 61, 180, 240, 250, 260, 333, 3600, 7200, 86_400] {
                let findings = pushing(lifetime, 86_400, period, count, delay).findings;
                let capped = findings.iter().find(|it| it.message.contains("half its lifetime"));
                let expected = Timeline::push(Duration::from_secs(lifetime), timing).capped;
                assert_eq!(capped.is_some(), expected, "{lifetime} {timing:?}");
                let Some(remedy) = capped.and_then(|finding| finding.remedy.as_deref()) else { continue };
                let fits = remedy.split(['`', ' ']).find_map(|word| word.parse::<u64>().ok()).unwrap();
                let fitting = fitting_lifetime(timing).as_secs().max(180);
                assert!((fitting..fitting + 10).contains(&fits), "{fits} {fitting}");
            }
            for kek in [120, 240, 299, 300, 659, 660, 900, 1080, 3600] {
                let refused = pushing(86_400, kek, period, count, delay).has_errors();
                let point = kek_push_point(Duration::from_secs(kek), timing);
                assert_eq!(refused, Duration::from_secs(kek) < 2 * point, "{kek} {timing:?}");
            }
        }
    }

    #[test]
    fn every_group_of_the_language_has_an_implementation() {
        for group in model::DhGroup::ALL {
            assert_eq!(DhGroup::from_iana(group.number()).map(DhGroup::iana), Some(group.number()));
        }
    }
}
