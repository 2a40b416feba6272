//! The key server.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ike::Policies;
use super::{At, Builder, duplicates};
use crate::finding::Kind;
use crate::model::*;
use crate::tree::{Node, prefix, window_millis};

/// The port of GDOI, always listened on.
const GDOI_PORT: u16 = 848;

/// Anti-replay window where none is written, in milliseconds.
const DEFAULT_WINDOW_MILLIS: u32 = 100_000;

/// Heartbeat period of multicast rekeys where none is written, in seconds.
const DEFAULT_HEARTBEAT_SECS: u16 = 300;

/// Names that are defined, each with its object unless that is faulty.
pub(super) type Defined<T> = BTreeMap<String, Option<Arc<T>>>;

impl Builder {
    pub(super) fn server(&mut self, at: &At<'_>) -> Server {
        let ike = at.child("ike");
        let mut gateways = Vec::new();
        let mut names: Defined<ServerGateway> = BTreeMap::new();
        let mut listen_ports = vec![GDOI_PORT];
        if let Some(ike) = &ike {
            let policies: Policies = self.ike_policies(ike);
            gateways = self.server_gateways(ike, &policies);
            names.extend(ike.children("gateway").map(|at| (at.key().to_owned(), None)));
            for gateway in &gateways {
                names.insert(gateway.name.clone(), Some(Arc::clone(gateway)));
            }
            let ports =
                ike.node.children_named("listen-port").filter_map(|node| node.value().parse::<u16>().ok());
            listen_ports.extend(ports.filter(|port| *port != GDOI_PORT));
        }
        let mut proposals: Defined<IpsecProposal> = BTreeMap::new();
        if let Some(ipsec) = at.child("ipsec") {
            for at in ipsec.children("proposal") {
                let proposal = self.ipsec_proposal(&at).map(Arc::new);
                proposals.insert(at.key().to_owned(), proposal);
            }
        }
        let groups: Vec<Group> =
            at.children("group").filter_map(|at| self.group(&at, &names, &proposals)).collect();
        let mut found = Vec::new();
        duplicates(
            &groups,
            |group| group.id,
            |later, first| {
                found.push((later.place.clone(), later.id, first.name.clone()));
            },
        );
        for (place, id, first) in found {
            let message = format!("group-id {id} is also that of group `{first}`");
            self.error(Kind::Duplicate, place.span, &place.path, message, "give every group its own number");
        }
        let cluster_store = self.cluster_store(at, &groups);
        Server { gateways, groups, listen_ports, cluster_store, place: at.place() }
    }

    fn ipsec_proposal(&mut self, at: &At<'_>) -> Option<IpsecProposal> {
        let cipher = self.require(at, "encryption-algorithm", EspCipher::from_word)?;
        let written = at.value("authentication-algorithm", EspIntegrity::from_word);
        let integrity = if cipher.is_authenticated() {
            if let Some(leaf) = at.node.child("authentication-algorithm") {
                let message = format!("`{cipher}` authenticates by itself");
                self.error(Kind::Conflict, leaf.span, &at.path, message, "remove `authentication-algorithm`");
            }
            None
        } else {
            if !at.has("authentication-algorithm") {
                self.require(at, "authentication-algorithm", |_| Some(()));
            }
            Some(written?)
        };
        if matches!(cipher, EspCipher::DesCbc | EspCipher::TripleDesCbc)
            || integrity == Some(EspIntegrity::HmacMd5_96)
        {
            let remedy = "use aes-256-cbc with hmac-sha-256-128 where the members can";
            self.warn(Kind::Weak, at.node.span, &at.path, "weak protection of traffic", remedy);
        }
        Some(IpsecProposal {
            name: at.key().to_owned(),
            cipher,
            integrity,
            lifetime_secs: at.number("lifetime-seconds").unwrap_or(3600),
            place: at.place(),
        })
    }

    /// Gateways a group or cluster lists.
    pub(super) fn listed_gateways(
        &mut self,
        at: &At<'_>,
        known: &Defined<ServerGateway>,
    ) -> Vec<Arc<ServerGateway>> {
        let mut gateways = Vec::new();
        for leaf in at.node.children_named("ike-gateway") {
            match known.get(leaf.value()) {
                Some(gateway) => gateways.extend(gateway.clone()),
                None => {
                    let names: Vec<String> = known.keys().cloned().collect();
                    self.dangling(at, leaf, "gateway", &names);
                }
            }
        }
        gateways
    }

    fn group(
        &mut self,
        at: &At<'_>,
        gateways: &Defined<ServerGateway>,
        proposals: &Defined<IpsecProposal>,
    ) -> Option<Group> {
        let id = self.require(at, "group-id", |text| text.parse().ok());
        if !at.has("ike-gateway") {
            let message = format!("group `{}` lists no `ike-gateway`", at.key());
            let remedy = "add `ike-gateway NAME;` for each member: only listed gateways may register";
            self.warn(Kind::Missing, at.node.span, &at.path, message, remedy);
        }
        let security_associations: Vec<GroupSa> =
            at.children("ipsec-sa").filter_map(|at| self.group_sa(&at, proposals)).collect();
        if !at.has("ipsec-sa") {
            let message = format!("group `{}` has no `ipsec-sa`", at.key());
            let remedy = "add `ipsec-sa NAME { proposal P; match-policy ... }`: a group needs at least one";
            self.outside(Kind::Missing, at.node.span, &at.path, message, remedy);
        }
        self.same_traffic(&security_associations);
        if at.has("no-anti-replay")
            && let Some(window) = at.node.child("anti-replay-time-window")
        {
            let message = "`anti-replay-time-window` has no effect with `no-anti-replay`";
            self.warn(Kind::Conflict, window.span, &at.path, message, "keep one of them");
        }
        let anti_replay = if at.has("no-anti-replay") {
            AntiReplay::Off
        } else {
            let millis = at.value("anti-replay-time-window", window_millis).unwrap_or(DEFAULT_WINDOW_MILLIS);
            AntiReplay::Window { millis }
        };
        let compatibility = at.child("compatibility");
        let compatibility = compatibility.as_ref();
        let communication = at.child("server-member-communication");
        let signature_algorithm = at
            .value("signature-algorithm", SignatureAlgorithm::from_word)
            .unwrap_or(SignatureAlgorithm::Rsa2048);
        let communication = communication.and_then(|at| self.communication(&at, signature_algorithm));
        self.without_push(at, communication.as_ref());
        let cluster = at.child("server-cluster").and_then(|at| self.cluster(&at, gateways));
        let gateways = self.listed_gateways(at, gateways);
        Some(Group {
            name: at.key().to_owned(),
            id: id?,
            description: at.text("description"),
            member_threshold: at.number("member-threshold"),
            gateways,
            server_address: at.number("server-address"),
            anti_replay,
            signature_algorithm,
            acknowledgement_required: at.has("acknowledgement"),
            sender_id_bits: at.number("sender-id-bits").unwrap_or(16),
            activation_time_delay_secs: at.number("activation-time-delay").unwrap_or(15),
            security_associations,
            communication,
            cluster,
            compatibility: GroupCompatibility {
                rsa_bare_hash: compatibility.is_some_and(|at| at.has("rsa-bare-hash")),
                ike_doi: compatibility
                    .and_then(|at| at.value("ike-doi", IkeDoi::from_word))
                    .unwrap_or(IkeDoi::Gdoi),
                id_length_octets: compatibility.and_then(|at| at.number("id-length-octets")).unwrap_or(1),
            },
            place: at.place(),
        })
    }

    fn group_sa(&mut self, at: &At<'_>, proposals: &Defined<IpsecProposal>) -> Option<GroupSa> {
        let named = self.require(at, "proposal", |name| Some(name.to_owned()));
        let proposal = match (named, at.node.child("proposal")) {
            (Some(name), Some(leaf)) => match proposals.get(&name) {
                Some(proposal) => proposal.clone(),
                None => {
                    let names: Vec<String> = proposals.keys().cloned().collect();
                    self.dangling(at, leaf, "ipsec proposal", &names);
                    None
                }
            },
            _ => None,
        };
        if !at.has("match-policy") {
            let message = format!("ipsec-sa `{}` protects nothing", at.key());
            let remedy = "add `match-policy NAME { source P; destination P; }`";
            self.outside(Kind::Missing, at.node.span, &at.path, message, remedy);
        }
        let policies = at.children("match-policy").filter_map(|at| self.match_policy(&at)).collect();
        Some(GroupSa { name: at.key().to_owned(), proposal: proposal?, policies, place: at.place() })
    }

    fn match_policy(&mut self, at: &At<'_>) -> Option<MatchPolicy> {
        let source = self.require(at, "source", prefix);
        let destination = self.require(at, "destination", prefix);
        for name in ["source", "destination"] {
            self.host_bits(at, at.node.child(name));
        }
        let policy = MatchPolicy {
            name: at.key().to_owned(),
            source: source?,
            destination: destination?,
            source_port: at.number("source-port").unwrap_or(0),
            destination_port: at.number("destination-port").unwrap_or(0),
            protocol: at.number("protocol").unwrap_or(0),
            place: at.place(),
        };
        let families = (policy.source.addr().is_ipv4(), policy.destination.addr().is_ipv4());
        if families.0 != families.1 {
            self.error(
                Kind::Conflict,
                at.node.span,
                &at.path,
                "source and destination are of different address families",
                "write one match-policy for each family",
            );
        }
        let ports = policy.source_port != 0 || policy.destination_port != 0;
        if ports && !matches!(policy.protocol, 6 | 17 | 132) {
            let message = format!("ports are given for protocol {}, which has none", policy.protocol);
            let remedy = "add `protocol 6` (TCP) or `protocol 17` (UDP), or remove the ports";
            self.error(Kind::Conflict, at.node.span, &at.path, message, remedy);
        }
        Some(policy)
    }

    /// Addresses within a prefix that say nothing.
    pub(super) fn host_bits(&mut self, at: &At<'_>, leaf: Option<&Node>) {
        if let Some(leaf) = leaf.filter(|leaf| !leaf.faulty)
            && let Some(net) = prefix(leaf.value())
            && leaf.value().contains('/')
            && leaf.value().parse::<ipnet::IpNet>().is_ok_and(|written| written != net)
        {
            let message = format!("`{} {}` is read as {net}", leaf.name, leaf.value());
            self.warn(Kind::BadValue, leaf.span, &at.path, message, "write the address of the network");
        }
    }

    /// Policies of one group with the same traffic: the later never matches.
    fn same_traffic(&mut self, associations: &[GroupSa]) {
        let policies: Vec<&MatchPolicy> = associations.iter().flat_map(|sa| &sa.policies).collect();
        let key = |policy: &&MatchPolicy| {
            (policy.source, policy.destination, policy.source_port, policy.destination_port, policy.protocol)
        };
        let mut found = Vec::new();
        duplicates(&policies, key, |later, first| found.push((later.place.clone(), first.name.clone())));
        for (place, first) in found {
            let message = format!("the same traffic as match-policy `{first}`, which comes first");
            self.warn(Kind::Duplicate, place.span, &place.path, message, "remove it, or make it differ");
        }
    }

    /// Statements about rekeys by push that have nothing to act on.
    fn without_push(&mut self, at: &At<'_>, communication: Option<&ServerMemberCommunication>) {
        let unicast = communication.is_some_and(|it| it.communication_type == CommunicationType::Unicast);
        let pushes = at.has("server-member-communication");
        let statements = [
            (at.node.child("signature-algorithm"), pushes, "`server-member-communication`"),
            (at.node.child("acknowledgement"), unicast, "`communication-type unicast`"),
        ];
        for (statement, acts, condition) in statements {
            if let Some(statement) = statement.filter(|_| !acts) {
                let message = format!("`{}` has no effect without {condition}", statement.name);
                self.warn(Kind::Conflict, statement.span, &at.path, message, "remove one, or add the other");
            }
        }
    }

    fn communication(
        &mut self,
        at: &At<'_>,
        signature_algorithm: SignatureAlgorithm,
    ) -> Option<ServerMemberCommunication> {
        let communication_type = at
            .value("communication-type", CommunicationType::from_word)
            .unwrap_or(CommunicationType::Unicast);
        if communication_type == CommunicationType::Multicast {
            for name in ["multicast-group", "multicast-outgoing-interface"] {
                self.require(at, name, |_| Some(()));
            }
        } else {
            for name in ["multicast-group", "multicast-outgoing-interface"] {
                if let Some(leaf) = at.node.child(name) {
                    let message = format!("`{name}` has no effect with `communication-type unicast`");
                    self.warn(Kind::Conflict, leaf.span, &at.path, message, "remove it, or use `multicast`");
                }
            }
        }
        let cipher = self.require(at, "encryption-algorithm", IkeCipher::from_word);
        let signature_hash = self.signature_hash(at, signature_algorithm);
        let weak_cipher = matches!(cipher, Some(IkeCipher::Des | IkeCipher::TripleDes));
        if weak_cipher || signature_hash == Some(Some(SignatureHash::Md5)) {
            let remedy = "use aes-256-cbc and sha-256 where the members can";
            self.warn(Kind::Weak, at.node.span, &at.path, "weak protection of rekeys", remedy);
        }
        let heartbeat = at.number("heartbeat");
        Some(ServerMemberCommunication {
            communication_type,
            multicast_group: at.number("multicast-group"),
            multicast_outgoing_interface: at.text("multicast-outgoing-interface").map(InterfaceName),
            lifetime_secs: at.number("lifetime-seconds").unwrap_or(3600),
            retransmission_period_secs: at.number("retransmission-period").unwrap_or(10),
            number_of_retransmission: at.number("number-of-retransmission").unwrap_or(2),
            heartbeat_secs: match communication_type {
                CommunicationType::Unicast => heartbeat,
                CommunicationType::Multicast => Some(heartbeat.unwrap_or(DEFAULT_HEARTBEAT_SECS)),
            },
            cipher: cipher?,
            signature_hash: signature_hash?,
            certificate: at.text("certificate"),
            place: at.place(),
        })
    }

    /// RSA signs over a hash that must be named; ECDSA implies one. `None` where it is faulty.
    fn signature_hash(
        &mut self,
        at: &At<'_>,
        algorithm: SignatureAlgorithm,
    ) -> Option<Option<SignatureHash>> {
        let implied = match algorithm {
            SignatureAlgorithm::Rsa2048 | SignatureAlgorithm::Rsa3072 => {
                return self.require(at, "sig-hash-algorithm", SignatureHash::from_word).map(Some);
            }
            SignatureAlgorithm::Ecdsa256 => "sha-256",
            SignatureAlgorithm::Ecdsa384 => "sha-384",
            SignatureAlgorithm::Ecdsa521 => "sha-512",
        };
        let Some(leaf) = at.node.child("sig-hash-algorithm") else { return Some(None) };
        let written = at.value("sig-hash-algorithm", SignatureHash::from_word)?;
        if written.as_str() != implied {
            let message = format!("`{algorithm}` signs with {implied}, whatever `sig-hash-algorithm` says");
            self.warn(Kind::Conflict, leaf.span, &at.path, message, "remove `sig-hash-algorithm`");
        }
        Some(Some(written))
    }
}
