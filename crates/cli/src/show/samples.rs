//! Replies that the golden outputs are made of; the numbers are the seed's.

use control::*;

fn selector(source: &str, destination: &str) -> Selector {
    Selector::between(source.parse().unwrap(), destination.parse().unwrap())
}

pub fn ike_sas() -> Vec<IkeSecurityAssociation> {
    let sa = |index, address: &str, initiator: &str, responder: &str| IkeSecurityAssociation {
        index,
        remote_address: address.parse().unwrap(),
        state: SaState::Up,
        initiator_cookie: initiator.parse().unwrap(),
        responder_cookie: responder.parse().unwrap(),
        mode: IkeMode::Main,
        groups: vec![GroupReference { group: "g1".into(), group_id: 1 }],
        detail: Some(IkeDetail {
            gateway: "black".into(),
            role: IkeRole::Responder,
            local: "100.0.0.100:848".parse().unwrap(),
            remote: format!("{address}:848").parse().unwrap(),
            authentication_method: "Pre-shared-keys".into(),
            lifetime_remaining_secs: Some(28_482),
            peer_identity: Some(address.into()),
            authentication_algorithm: "hmac-sha1".into(),
            encryption_algorithm: "3des-cbc".into(),
            pseudo_random_function: "hmac-sha1".into(),
            diffie_hellman_group: "DH-group-2".into(),
            input_bytes: 888,
            output_bytes: 1204,
            input_packets: 5,
            output_packets: 5,
            doi: 2,
            non_esp_marker: false,
            pulls_completed: 1,
            pulls_in_progress: 0,
        }),
    };
    vec![
        sa(6550, "100.0.0.5", "4de435fce449e945", "0919f734abc97ec0"),
        sa(6549, "100.0.0.4", "2ac037f7e6c9e0bc", "0204ee7d2f0fbf72"),
        sa(6548, "100.0.0.3", "3430437e6ce7a424", "7b83d5a84304001b"),
    ]
}

pub fn server_cluster() -> Vec<ServerCluster> {
    let peer = |server: Option<&str>, gateway: Option<&str>, address: &str, leads| ClusterPeer {
        server: server.map(Into::into),
        gateway: gateway.map(Into::into),
        addresses: vec![address.parse().unwrap()],
        role: server.map(|_| ServerRole::RootServer),
        connected: server.is_some(),
        leads,
        differs: None,
    };
    vec![ServerCluster {
        group: "g1".into(),
        group_id: 1,
        server: "key-server-2".into(),
        role: ServerRole::SubServer,
        state: ClusterState::Following,
        since_secs: 4711,
        leader: Some("key-server-1".into()),
        reason: None,
        peers: vec![
            peer(Some("key-server-1"), Some("first"), "100.0.0.100", true),
            peer(Some("key-server-3"), None, "100.0.0.102", false),
            peer(None, Some("fourth"), "100.0.0.103", false),
        ],
        detail: Some(ClusterDetail {
            store: "etcd http://10.0.0.9:2379 /groupvpn".into(),
            lease_secs: 5,
            elections_won: 1,
            commits_refused: 0,
            cut_offs: 2,
            datagrams_dropped: 0,
            sequence_number: Some(17),
        }),
    }]
}

pub fn keks() -> Vec<KekSecurityAssociation> {
    vec![KekSecurityAssociation {
        index: 6541,
        remote_address: "0.0.0.0".parse().unwrap(),
        state: SaState::Up,
        initiator_cookie: "2540c18fd6c2acba".parse().unwrap(),
        responder_cookie: "df668ea522b69d91".parse().unwrap(),
        group: "g1".into(),
        group_id: 1,
        detail: Some(KekDetail {
            authentication_method: "RSA".into(),
            signature_hash: "sha1".into(),
            encryption_algorithm: "aes-256-cbc".into(),
            lifetime_remaining_secs: 1498,
            rekey_in_secs: Some(929),
            communication: "Unicast".into(),
            sequence_number: 3,
            pushes: 3,
        }),
    }]
}

pub fn server_groups() -> Vec<ServerGroupSas> {
    let sa = |name: &str, spi, lifetime_secs, policies: &[(&str, &str, &str)]| ServerIpsecSa {
        name: name.into(),
        algorithm: "ESP:aes-128/sha1".into(),
        spi: Spi(spi),
        lifetime_secs,
        detail: Some(ServerIpsecDetail {
            authentication_algorithm: "hmac-sha1-96".into(),
            encryption_algorithm: "aes-128-cbc".into(),
            configured_lifetime_secs: 240,
            activation_in_secs: 0,
            rekey_in_secs: Some(62),
            anti_replay: AntiReplay::Disabled,
            sender_ids: None,
            policies: policies
                .iter()
                .map(|(name, source, destination)| ServerMatchPolicy {
                    name: (*name).into(),
                    selector: selector(source, destination),
                })
                .collect(),
        }),
    };
    vec![ServerGroupSas {
        group: "g1".into(),
        group_id: 1,
        security_associations: vec![
            sa(
                "sa",
                0x0992_cb0e,
                86,
                &[("dynamic1", "31.1.1.0/24", "41.1.0.0/16"), ("dynamic2", "41.1.1.0/24", "31.1.0.0/16")],
            ),
            sa("sa2", 0x96d0_d680, 127, &[("dynamic3", "21.1.1.0/24", "31.1.1.0/24")]),
        ],
    }]
}

pub fn registered_members() -> Vec<RegisteredMembers> {
    let member = |gateway: &str, address: &str, last_update_secs_ago| RegisteredMember {
        gateway: gateway.into(),
        address: address.parse().unwrap(),
        port: 848,
        state: MemberState::Active,
        last_update_secs_ago,
        statistics: Some(MemberStatistics { pull_succeeded: 2, ..MemberStatistics::default() }),
    };
    vec![RegisteredMembers {
        group: "g1".into(),
        group_id: 1,
        members: vec![member("black", "100.0.0.3", 12), member("white", "100.0.0.4", 0)],
    }]
}

pub fn server_statistics() -> Vec<ServerStatistics> {
    vec![ServerStatistics {
        group: "g1".into(),
        group_id: 1,
        pull_succeeded: 3,
        pull_failed: 1,
        recent_failures: vec!["gateway stranger at 100.0.0.9: not listed in the group's ike-gateway".into()],
        ..ServerStatistics::default()
    }]
}

pub fn pushing_statistics() -> Vec<ServerStatistics> {
    let mut groups = server_statistics();
    groups[0].active_members = 3;
    groups[0].push_sent = 21;
    groups[0].push_acknowledged = 20;
    groups[0].push_unacknowledged = 1;
    groups[0].acknowledgements_refused =
        vec![ReasonCount { reason: "bad-hash".into(), description: "the HASH is wrong".into(), count: 2 }];
    groups[0].rekey = Some(RekeyProgress {
        cause: "graceful eviction".into(),
        members: 250,
        outstanding: 3,
        switch_after_secs: 140,
        done_in_secs: Some(132),
        took_millis: None,
    });
    groups
}

fn member_counters() -> MemberCounters {
    MemberCounters { pull_succeeded: 4, pull_timeout: 3, ..MemberCounters::default() }
}

pub fn member_vpns() -> Vec<MemberVpn> {
    vec![MemberVpn {
        vpn: "gvpn".into(),
        group_id: 1,
        server: "100.0.0.100".parse().unwrap(),
        port: 848,
        local_address: "100.0.0.3".parse().unwrap(),
        routing_instance: "default".into(),
        df_bit: "clear".into(),
        recovery_probe: false,
        rekey_needed: false,
        security_associations: vec![MemberIpsecSa {
            tunnel_id: 133_955_590,
            algorithm: "ESP:aes-128/sha1".into(),
            spi: Spi(0x217a_0d31),
            direction: SaDirection::BiDirectional,
            hard_lifetime_secs: 91,
            detail: Some(MemberIpsecDetail {
                authentication_algorithm: "hmac-sha1-96".into(),
                encryption_algorithm: "aes-128-cbc".into(),
                soft_lifetime_secs: Some(57),
                activation_in_secs: 0,
                anti_replay: AntiReplay::WindowMillis(100_000),
                sender_ids: None,
                policies: vec![
                    selector("31.1.1.0/24", "41.1.0.0/16"),
                    selector("41.1.1.0/24", "31.1.0.0/16"),
                ],
            }),
        }],
        counters: member_counters(),
    }]
}

pub fn inactive_tunnels() -> Vec<InactiveTunnel> {
    vec![InactiveTunnel {
        tunnel_id: 133_955_590,
        vpn: "gvpn".into(),
        group_id: 1,
        server: "100.0.0.100".parse().unwrap(),
        port: 848,
        reason: "the server does not answer (3 tries)".into(),
        next_try_in_secs: Some(7),
        counters: member_counters(),
    }]
}

pub fn member_policies() -> Vec<MemberPolicy> {
    let policy =
        |from: &str, to: &str, policy_type, tunnel_id, source: &str, destination: &str| MemberPolicy {
            vpn: "gvpn".into(),
            group_id: 1,
            from_zone: from.into(),
            to_zone: to.into(),
            policy_type,
            tunnel_id,
            selector: selector(source, destination),
        };
    vec![
        policy("trust", "untrust", PolicyType::Exclude, None, "31.1.1.9/32", "0.0.0.0/0"),
        policy("trust", "untrust", PolicyType::Secure, Some(133_955_590), "31.1.1.0/24", "41.1.0.0/16"),
        policy("untrust", "trust", PolicyType::Secure, Some(133_955_590), "31.1.1.0/24", "41.1.0.0/16"),
        policy("untrust", "trust", PolicyType::FailClose, None, "0.0.0.0/0", "0.0.0.0/0"),
    ]
}

pub fn dynamic_policies() -> Vec<DynamicPolicy> {
    let policy =
        |from: &str, to: &str, scope_index, sequence, source: &str, destination: &str| DynamicPolicy {
            from_zone: from.into(),
            to_zone: to.into(),
            scope: "scope1".into(),
            state: "enabled".into(),
            scope_index,
            sequence,
            selector: selector(source, destination),
            vpn: "gvpn".into(),
            group_id: 1,
        };
    vec![
        policy("trust", "untrust", 4, 1, "31.1.1.0/24", "41.1.0.0/16"),
        policy("untrust", "trust", 5, 1, "31.1.1.0/24", "41.1.0.0/16"),
        policy("trust", "untrust", 4, 2, "41.1.1.0/24", "31.1.0.0/16"),
        policy("untrust", "trust", 5, 2, "41.1.1.0/24", "31.1.0.0/16"),
    ]
}

pub fn ipsec_statistics() -> IpsecStatistics {
    let count = |reason: &str, description: &str, packets| DropCount {
        reason: reason.into(),
        description: description.into(),
        packets,
    };
    let counters = SaCounters {
        encrypted_packets: 40,
        encrypted_bytes: 2182,
        decrypted_packets: 31,
        decrypted_bytes: 1874,
    };
    IpsecStatistics {
        totals: counters,
        security_associations: vec![SaStatistics {
            tunnel_id: 133_955_590,
            vpn: "gvpn".into(),
            spi: Spi(0x217a_0d31),
            counters,
        }],
        passed: vec![count("clear-out", "Packets that left in clear, as the rules say.", 12)],
        drops: vec![
            count("no-live-key", "A policy protects the packet, but none of its keys is live.", 3),
            count("bad-integrity", "The integrity check failed.", 0),
        ],
        interfaces: vec![InterfaceCounters {
            interface: "wan0".into(),
            counters: vec![("leaving-to-engine".into(), 40), ("transit".into(), 0)],
        }],
    }
}
