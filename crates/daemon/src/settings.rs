//! The typed configuration as settings of the protocol roles.

use std::time::Duration;

use config::model;
use crypto::{CbcCipher, DhGroup, EspSuite, GcmKeyLen, Hash, Integrity, Secret};
use proto::phase1::{self, DoiChoice, Mode, Peer, Proposal};
use proto::{member, server};
use wire::Selector;
use wire::codec::LengthWidth;
use wire::isakmp::Identity;
use wire::registry::{Doi, IdType};

/// The port of GDOI.
pub const GDOI_PORT: u16 = 848;

/// Settings of the key server.
pub fn server(configured: &model::Server) -> server::Settings {
    server::Settings {
        gateways: configured.gateways.iter().map(|gateway| server_gateway(gateway)).collect(),
        retransmission: phase1::Retransmission::default(),
        groups: configured.groups.iter().map(group).collect(),
    }
}

/// Settings of the member.
pub fn member(configured: &model::Member) -> member::Settings {
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
            routing_instance: vpn.gateway.routing_instance.clone().unwrap_or_else(|| "default".to_owned()),
            recovery_probe: vpn.recovery_probe,
            heartbeat_threshold: vpn.heartbeat_threshold.into(),
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

fn group(group: &model::Group) -> server::GroupSettings {
    server::GroupSettings {
        name: group.name.clone(),
        id: group.id,
        gateways: group.gateways.iter().map(|gateway| gateway.name.clone()).collect(),
        member_threshold: group.member_threshold,
        activation_time_delay: Duration::from_secs(group.activation_time_delay_secs.into()),
        multicast_group: group.communication.as_ref().and_then(|communication| communication.multicast_group),
        id_length: match group.compatibility.id_length_octets {
            2 => LengthWidth::Two,
            _ => LengthWidth::One,
        },
        push: None,
        ipsec_sas: group
            .security_associations
            .iter()
            .map(|sa| server::IpsecSaSettings {
                name: sa.name.clone(),
                suite: suite(&sa.proposal),
                lifetime: Duration::from_secs(sa.proposal.lifetime_secs.into()),
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
            cipher: match proposal.cipher {
                model::IkeCipher::Des => CbcCipher::Des,
                model::IkeCipher::TripleDes => CbcCipher::TripleDes,
                model::IkeCipher::Aes128 => CbcCipher::Aes128,
                model::IkeCipher::Aes192 => CbcCipher::Aes192,
                model::IkeCipher::Aes256 => CbcCipher::Aes256,
            },
            group: DhGroup::from_iana(proposal.dh_group.number())
                .expect("every group of the language has an implementation; a test walks through them"),
            lifetime: Duration::from_secs(proposal.lifetime_secs.into()),
        })
        .collect()
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
        let widths: Vec<_> =
            server(&model.server.unwrap()).groups.iter().map(|group| group.id_length).collect();
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
        let settings = member(&model.member.unwrap());
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

    #[test]
    fn every_group_of_the_language_has_an_implementation() {
        for group in model::DhGroup::ALL {
            assert_eq!(DhGroup::from_iana(group.number()).map(DhGroup::iana), Some(group.number()));
        }
    }
}
