//! Whether cooperating servers are configured alike, as far as it matters: each tells the others a digest of every group.
//!
//! What may differ is left out: names and addresses of the servers themselves, roles, interfaces, key pairs that sign. So
//! are secrets: members whose pre-shared key differs are refused by one of the servers, which its log says.

use std::fmt::{self, Write as _};

use config::model::{Group, Identity, Peer, Server, ServerGateway};
use crypto::Hash;
use serde::{Deserialize, Serialize};

/// What goes into a digest. Those of another edition cannot be compared.
const EDITION: u32 = 1;

/// Statements of a group that are compared together, as messages call them.
const PARTS: [&str; 4] = ["ike-gateway", "ipsec-sa", "server-member-communication", "other statements"];

/// What a server tells of its groups.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Agreement {
    edition: u32,
    groups: Vec<GroupDigest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct GroupDigest {
    id: u32,
    name: String,
    /// One for each of [`PARTS`].
    digests: Vec<u64>,
}

/// A group that two servers have otherwise.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Its number.
    pub group_id: u32,
    /// Its name.
    pub group: String,
    /// What differs.
    pub kind: DifferenceKind,
}

/// What differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DifferenceKind {
    /// The other server does not have it.
    OnlyHere,
    /// Only the other server has it.
    OnlyThere,
    /// These statements.
    Statements(Vec<&'static str>),
}

impl fmt::Display for DifferenceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyHere => f.write_str("it does not have the group"),
            Self::OnlyThere => f.write_str("only it has the group"),
            Self::Statements(statements) => f.write_str(&statements.join(", ")),
        }
    }
}

impl Agreement {
    /// What a server with this configuration tells.
    pub fn of(server: &Server) -> Self {
        let mut groups: Vec<GroupDigest> = server.groups.iter().map(GroupDigest::of).collect();
        groups.sort_unstable_by_key(|group| group.id);
        Self { edition: EDITION, groups }
    }

    /// What another server has otherwise, by group number. Nothing if it tells something that cannot be compared.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        if self.edition != other.edition {
            return Vec::new();
        }
        let mut found = Vec::new();
        let mut add = |group: &GroupDigest, kind| {
            found.push(Difference { group_id: group.id, group: group.name.clone(), kind });
        };
        for own in &self.groups {
            match other.groups.iter().find(|group| group.id == own.id) {
                None => add(own, DifferenceKind::OnlyHere),
                Some(theirs) => {
                    let parts = PARTS.iter().zip(own.digests.iter().zip(&theirs.digests));
                    let statements: Vec<_> =
                        parts.filter(|(_, (own, theirs))| own != theirs).map(|(part, _)| *part).collect();
                    if !statements.is_empty() {
                        add(own, DifferenceKind::Statements(statements));
                    }
                }
            }
        }
        for theirs in &other.groups {
            if self.groups.iter().all(|group| group.id != theirs.id) {
                add(theirs, DifferenceKind::OnlyThere);
            }
        }
        found.sort_unstable();
        found
    }
}

impl GroupDigest {
    fn of(group: &Group) -> Self {
        let parts = [gateways(group), security_associations(group), communication(group), others(group)];
        Self {
            id: group.id,
            name: group.name.clone(),
            digests: parts.iter().map(|part| digest(part)).collect(),
        }
    }
}

fn digest(text: &str) -> u64 {
    let octets = Hash::Sha256.digest(&[text.as_bytes()]);
    octets.first_chunk().map_or(0, |octets| u64::from_be_bytes(*octets))
}

/// Lines of `name value`; no value can pretend to be two.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, name: &str, value: impl fmt::Debug) -> &mut Self {
        // A string cannot refuse.
        let _ = writeln!(self.0, "{name} {value:?}");
        self
    }

    fn add_word(&mut self, name: &str, value: impl fmt::Display) -> &mut Self {
        self.add(name, value.to_string())
    }
}

/// In the order of their names: another order of the text means the same.
fn gateways(group: &Group) -> String {
    let mut gateways: Vec<&ServerGateway> = group.gateways.iter().map(AsRef::as_ref).collect();
    gateways.sort_unstable_by(|one, other| one.name.cmp(&other.name));
    let mut lines = Lines::default();
    for gateway in gateways {
        lines.add("gateway", &gateway.name);
        match &gateway.peer {
            Peer::Address(address) => lines.add_word("address", address),
            Peer::Dynamic(identity) => lines.add("dynamic", words(identity)),
        };
        if let Some(identity) = &gateway.remote_identity {
            lines.add("remote-identity", words(identity));
        }
        lines.add_word("mode", gateway.policy.mode);
        for proposal in &gateway.policy.proposals {
            lines.add_word("authentication-method", proposal.authentication_method);
            lines.add_word("authentication-algorithm", proposal.hash);
            lines.add_word("encryption-algorithm", proposal.cipher);
            lines.add_word("dh-group", proposal.dh_group);
            lines.add("lifetime-seconds", proposal.lifetime_secs);
        }
    }
    lines.0
}

fn words(identity: &Identity) -> (&'static str, String) {
    match identity {
        Identity::Address(address) => ("inet", address.to_string()),
        Identity::Hostname(name) => ("hostname", name.clone()),
        Identity::UserAtHostname(name) => ("user-at-hostname", name.clone()),
        Identity::DistinguishedName(name) => ("distinguished-name", name.clone().unwrap_or_default()),
    }
}

/// In the order of the text, which is that of the policies.
fn security_associations(group: &Group) -> String {
    let mut lines = Lines::default();
    for sa in &group.security_associations {
        lines.add("ipsec-sa", &sa.name);
        lines.add_word("encryption-algorithm", sa.proposal.cipher);
        lines.add("authentication-algorithm", sa.proposal.integrity.map(|integrity| integrity.as_str()));
        lines.add("lifetime-seconds", sa.proposal.lifetime_secs);
        for policy in &sa.policies {
            lines.add("match-policy", &policy.name);
            lines.add_word("source", policy.source).add_word("destination", policy.destination);
            lines.add("source-port", policy.source_port).add("destination-port", policy.destination_port);
            lines.add("protocol", policy.protocol);
        }
    }
    lines.0
}

fn communication(group: &Group) -> String {
    let mut lines = Lines::default();
    if let Some(communication) = &group.communication {
        lines.add_word("communication-type", communication.communication_type);
        lines.add("multicast-group", communication.multicast_group.map(|address| address.to_string()));
        lines.add("lifetime-seconds", communication.lifetime_secs);
        lines.add("retransmission-period", communication.retransmission_period_secs);
        lines.add("number-of-retransmission", communication.number_of_retransmission);
        lines.add("heartbeat", communication.heartbeat_secs);
        lines.add_word("encryption-algorithm", communication.cipher);
        lines.add("sig-hash-algorithm", communication.signature_hash.map(|hash| hash.as_str()));
        lines.add_word("signature-algorithm", group.signature_algorithm);
        lines.add("acknowledgement-required", group.acknowledgement_required);
    }
    lines.0
}

fn others(group: &Group) -> String {
    let mut lines = Lines::default();
    lines.add("name", &group.name);
    lines.add("member-threshold", group.member_threshold);
    lines.add("activation-time-delay", group.activation_time_delay_secs);
    lines.add(
        "anti-replay-time-window",
        match group.anti_replay {
            config::model::AntiReplay::Off => None,
            config::model::AntiReplay::Window { millis } => Some(millis),
        },
    );
    lines.add("sender-id-bits", group.sender_id_bits);
    lines.add("id-length-octets", group.compatibility.id_length_octets);
    lines.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"security group-vpn server {
        ike {
            proposal p { authentication-algorithm sha-256; encryption-algorithm aes-256-cbc; dh-group group14; }
            policy p { proposals p; pre-shared-key ascii-text "a key of more than twenty characters"; }
            gateway a { ike-policy p; address 10.0.0.2; }
            gateway b { ike-policy p; address 10.0.0.3; }
            gateway other { ike-policy p; address 10.0.0.4; }
        }
        ipsec { proposal e { authentication-algorithm hmac-sha1-96; encryption-algorithm aes-128-cbc; } }
        cluster-store etcd { endpoint http://10.0.0.9:2379; cluster-key "/k"; server-name one; }
        group g {
            group-id 7;
            member-threshold 20;
            ike-gateway a;
            ike-gateway b;
            server-address 10.0.0.1;
            server-cluster { server-role root-server; ike-gateway other; }
            server-member-communication { communication-type unicast; lifetime-seconds 3600;
                encryption-algorithm aes-256-cbc; sig-hash-algorithm sha-256; }
            ipsec-sa s { proposal e; match-policy m { source 10.1.0.0/16; destination 10.2.0.0/16; } }
        }
    }"#;

    fn agreement(text: &str) -> Agreement {
        let candidate = config::read(text, &[]);
        let model = candidate.model.unwrap_or_else(|| panic!("{:#?}", candidate.findings));
        Agreement::of(&model.server.unwrap())
    }

    #[test]
    fn what_members_see_is_compared_and_what_is_a_servers_own_is_not() {
        let own = agreement(TEXT);
        let differs = |from: &str, to: &str| {
            assert!(TEXT.contains(from), "{from}");
            own.differences(&agreement(&TEXT.replace(from, to)))
        };
        for (from, to) in [
            ("server-address 10.0.0.1;", "server-address 10.0.0.11;"),
            ("root-server", "sub-server"),
            ("server-name one;", "server-name two;"),
            ("endpoint http://10.0.0.9:2379;", "endpoint http://10.0.0.8:2379;"),
            ("a key of more than twenty", "another key of more than twenty"),
            ("ike-gateway a;\n            ike-gateway b;", "ike-gateway b; ike-gateway a;"),
            ("proposal e;", "proposal e; "),
        ] {
            assert_eq!(differs(from, to), [], "{to}");
        }
        for (from, to, part) in [
            ("ike-gateway a;\n            ike-gateway b;", "ike-gateway b;", PARTS[0]),
            ("address 10.0.0.2;", "address 10.0.0.22;", PARTS[0]),
            ("dh-group group14;", "dh-group group19;", PARTS[0]),
            ("10.2.0.0/16", "10.3.0.0/16", PARTS[1]),
            ("aes-128-cbc;", "aes-192-cbc;", PARTS[1]),
            ("aes-128-cbc;", "aes-128-cbc; lifetime-seconds 600;", PARTS[1]),
            ("lifetime-seconds 3600;", "lifetime-seconds 7200;", PARTS[2]),
            ("unicast;", "unicast; number-of-retransmission 7;", PARTS[2]),
            ("member-threshold 20;", "member-threshold 21;", PARTS[3]),
            ("group g {", "group h {", PARTS[3]),
        ] {
            let found = differs(from, to);
            assert_eq!(found.len(), 1, "{to}: {found:?}");
            assert_eq!((found[0].group_id, found[0].group.as_str()), (7, "g"));
            assert_eq!(found[0].kind, DifferenceKind::Statements(vec![part]), "{to}");
        }
        // One that only one of them has, seen from either.
        let other = agreement(&TEXT.replace("group-id 7", "group-id 8"));
        let kinds = |found: Vec<Difference>| -> Vec<_> {
            found.into_iter().map(|difference| (difference.group_id, difference.kind)).collect()
        };
        assert_eq!(
            kinds(own.differences(&other)),
            [(7, DifferenceKind::OnlyHere), (8, DifferenceKind::OnlyThere)]
        );
        assert_eq!(
            kinds(other.differences(&own)),
            [(7, DifferenceKind::OnlyThere), (8, DifferenceKind::OnlyHere)]
        );
    }

    #[test]
    fn what_another_edition_says_is_not_compared_and_it_comes_back_from_json() {
        let own = agreement(TEXT);
        let text = serde_json::to_string(&own).unwrap();
        assert!(!text.contains("key") && text.len() < 200, "{text}");
        assert_eq!(serde_json::from_str::<Agreement>(&text).unwrap(), own);
        let mut other = agreement(&TEXT.replace("10.2.0.0/16", "10.3.0.0/16"));
        other.edition += 1;
        assert_eq!(own.differences(&other), []);
        assert_eq!(own.differences(&Agreement::default()), []);
    }
}
