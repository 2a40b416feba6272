//! Phase 1: proposals, policies, identities, gateways.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::{At, Builder, duplicates};
use crate::finding::Kind;
use crate::model::*;
use crate::obfuscation;
use crate::secret::SecretText;
use crate::tree::Node;

/// Shorter pre-shared keys are a warning; seed 001 asks for this many characters.
const SHORT_KEY_OCTETS: usize = 20;

/// Lifetime of phase 1 where none is written, in seconds: of a server or v1 member, and of a v2 member.
const DEFAULT_LIFETIME_SECS: u32 = 28800;
const DEFAULT_LIFETIME_OF_V2_MEMBER_SECS: u32 = 180;

/// The policies of one `ike` hierarchy, for gateways with either default lifetime.
pub(super) struct Policies {
    names: Vec<String>,
    usual: BTreeMap<String, Arc<IkePolicy>>,
    short: BTreeMap<String, Arc<IkePolicy>>,
}

impl Builder {
    pub(super) fn ike_policies(&mut self, ike: &At<'_>) -> Policies {
        let mut proposals: BTreeMap<String, (Option<IkeProposal>, bool)> = BTreeMap::new();
        for at in ike.children("proposal") {
            let has_lifetime = at.has("lifetime-seconds");
            proposals.insert(at.key().to_owned(), (self.ike_proposal(&at), has_lifetime));
        }
        let mut policies = Policies { names: Vec::new(), usual: BTreeMap::new(), short: BTreeMap::new() };
        for at in ike.children("policy") {
            let name = at.key().to_owned();
            policies.names.push(name.clone());
            let Some((policy, defaulted)) = self.ike_policy(&at, &proposals) else { continue };
            let mut short = policy.clone();
            for (proposal, defaulted) in short.proposals.iter_mut().zip(defaulted) {
                if defaulted {
                    proposal.lifetime_secs = DEFAULT_LIFETIME_OF_V2_MEMBER_SECS;
                }
            }
            policies.usual.insert(name.clone(), Arc::new(policy));
            policies.short.insert(name, Arc::new(short));
        }
        policies
    }

    fn ike_proposal(&mut self, at: &At<'_>) -> Option<IkeProposal> {
        let hash = self.require(at, "authentication-algorithm", IkeHash::from_word);
        let cipher = self.require(at, "encryption-algorithm", IkeCipher::from_word);
        let (hash, cipher) = (hash?, cipher?);
        let old = matches!(hash, IkeHash::Md5 | IkeHash::Sha1);
        let usual_group = if old { DhGroup::Group2 } else { DhGroup::Group14 };
        let proposal = IkeProposal {
            name: at.key().to_owned(),
            authentication_method: at
                .value("authentication-method", AuthenticationMethod::from_word)
                .unwrap_or(AuthenticationMethod::PreSharedKeys),
            hash,
            cipher,
            dh_group: at.value("dh-group", DhGroup::from_word).unwrap_or(usual_group),
            lifetime_secs: at.number("lifetime-seconds").unwrap_or(DEFAULT_LIFETIME_SECS),
            place: at.place(),
        };
        let mut weak = Vec::new();
        if matches!(proposal.cipher, IkeCipher::Des | IkeCipher::TripleDes) {
            weak.push(proposal.cipher.as_str());
        }
        if proposal.hash == IkeHash::Md5 {
            weak.push(proposal.hash.as_str());
        }
        if proposal.dh_group == DhGroup::Group1 {
            weak.push(proposal.dh_group.as_str());
        }
        if !weak.is_empty() {
            self.warn(
                Kind::Weak,
                at.node.span,
                &at.path,
                format!("weak: {}", weak.join(", ")),
                "use aes-256-cbc, sha-256 and group14 or better where the members can",
            );
        }
        Some(proposal)
    }

    fn ike_policy(
        &mut self,
        at: &At<'_>,
        known: &BTreeMap<String, (Option<IkeProposal>, bool)>,
    ) -> Option<(IkePolicy, Vec<bool>)> {
        let mut proposals = Vec::new();
        let mut defaulted = Vec::new();
        let mut complete = true;
        let leaves: Vec<&Node> = at.node.children_named("proposals").collect();
        if leaves.is_empty() && !at.has("proposal-set") {
            self.require(at, "proposals", |_| Some(()));
            complete = false;
        }
        for leaf in leaves {
            match known.get(leaf.value()) {
                Some((Some(proposal), has_lifetime)) => {
                    proposals.push(proposal.clone());
                    defaulted.push(!has_lifetime);
                }
                Some((None, _)) => complete = false,
                None => {
                    let names: Vec<String> = known.keys().cloned().collect();
                    self.dangling(at, leaf, "proposal", &names);
                    complete = false;
                }
            }
        }
        let pre_shared_key = match at.child("pre-shared-key") {
            Some(key) => self.pre_shared_key(&key),
            None => None,
        };
        let wants_key = proposals
            .iter()
            .any(|proposal| proposal.authentication_method == AuthenticationMethod::PreSharedKeys);
        if wants_key && at.child("pre-shared-key").is_none() {
            self.require(at, "pre-shared-key", |_| Some(()));
            complete = false;
        }
        if let Some(key) = &pre_shared_key
            && key.expose().len() < SHORT_KEY_OCTETS
        {
            let span = at.node.child("pre-shared-key").map_or(at.node.span, |node| node.span);
            self.warn(
                Kind::Weak,
                span,
                &at.path,
                format!("the pre-shared key is shorter than {SHORT_KEY_OCTETS} characters"),
                "use a long random key: it is all that keeps strangers out of the group",
            );
        }
        let policy = IkePolicy {
            name: at.key().to_owned(),
            mode: at.value("mode", IkeMode::from_word).unwrap_or(IkeMode::Main),
            proposals,
            pre_shared_key,
            local_certificate: at.child("certificate").and_then(|at| at.text("local-certificate")),
            place: at.place(),
        };
        complete.then_some((policy, defaulted))
    }

    fn pre_shared_key(&mut self, at: &At<'_>) -> Option<SecretText> {
        let clear = |text: &str| obfuscation::decode(text).map(SecretText::new);
        let text = at.value("ascii-text", clear);
        let hexadecimal = at.value("hexadecimal", clear);
        if at.has("ascii-text") && at.has("hexadecimal") {
            self.error(
                Kind::Conflict,
                at.node.span,
                &at.path,
                "`ascii-text` and `hexadecimal` are both given",
                "keep one of them",
            );
        }
        if !at.has("ascii-text") && !at.has("hexadecimal") {
            self.error(
                Kind::Missing,
                at.node.span,
                &at.path,
                "the pre-shared key is missing",
                "add `ascii-text \"...\";`",
            );
        }
        text.or_else(|| {
            let digits = hexadecimal?;
            let octets = digits
                .expose()
                .chunks_exact(2)
                .map(|pair| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok()))
                .collect::<Option<Vec<u8>>>()?;
            Some(SecretText::new(octets))
        })
    }

    fn identity(&mut self, at: &At<'_>, name: &str) -> Option<Identity> {
        let at = at.child(name)?;
        self.identity_inside(&at)
    }

    fn identity_inside(&mut self, at: &At<'_>) -> Option<Identity> {
        let active: Vec<&Node> = at.node.children.iter().filter(|child| !child.inactive).collect();
        let node = match active.as_slice() {
            [] => {
                let message = format!("`{}` names no identity", at.node.name);
                self.error(
                    Kind::Missing,
                    at.node.span,
                    &at.path,
                    message,
                    "add `hostname`, `inet` or `user-at-hostname`",
                );
                return None;
            }
            [node] => *node,
            [_, second, ..] => {
                let message = format!("`{}` names more than one identity", at.node.name);
                self.error(Kind::Conflict, second.span, &at.path, message, "keep one of them");
                return None;
            }
        };
        if node.faulty {
            return None;
        }
        let value = node.value().to_owned();
        match node.name.as_str() {
            "inet" => value.parse::<IpAddr>().ok().map(Identity::Address),
            "hostname" => Some(Identity::Hostname(value)),
            "user-at-hostname" => Some(Identity::UserAtHostname(value)),
            "distinguished-name" => Some(Identity::DistinguishedName((!value.is_empty()).then_some(value))),
            _ => None,
        }
    }

    fn policy_of(&mut self, at: &At<'_>, policies: &Policies, short: bool) -> Option<Arc<IkePolicy>> {
        let name = self.require(at, "ike-policy", |name| Some(name.to_owned()))?;
        let leaf = at.node.child("ike-policy")?;
        if !policies.names.contains(&name) {
            self.dangling(at, leaf, "policy", &policies.names);
            return None;
        }
        let table = if short { &policies.short } else { &policies.usual };
        table.get(&name).cloned()
    }

    fn routing_instance(at: &At<'_>) -> Option<String> {
        at.text("routing-instance").filter(|name| name != "default")
    }

    pub(super) fn server_gateways(&mut self, ike: &At<'_>, policies: &Policies) -> Vec<Arc<ServerGateway>> {
        let gateways: Vec<Arc<ServerGateway>> = ike
            .children("gateway")
            .filter_map(|at| self.server_gateway(&at, policies))
            .map(Arc::new)
            .collect();
        let mut found = Vec::new();
        duplicates(
            &gateways,
            |gateway| (gateway.peer.clone(), gateway.local_address),
            |later, first| {
                found.push((later.place.clone(), later.peer.clone(), first.name.clone()));
            },
        );
        for (place, peer, first) in found {
            let what = match peer {
                Peer::Address(address) => format!("address {address}"),
                Peer::Dynamic(_) => "identity".to_owned(),
            };
            self.error(
                Kind::Duplicate,
                place.span,
                &place.path,
                format!("the {what} is also that of gateway `{first}`"),
                "a member has one gateway; list that one in several groups",
            );
        }
        gateways
    }

    fn server_gateway(&mut self, at: &At<'_>, policies: &Policies) -> Option<ServerGateway> {
        let policy = self.policy_of(at, policies, false);
        let peer = match (at.has("address"), at.child("dynamic")) {
            (true, Some(dynamic)) => {
                let message = "`address` and `dynamic` exclude each other";
                self.error(Kind::Conflict, dynamic.node.span, &at.path, message, "keep one of them");
                None
            }
            (true, None) => at.number("address").map(Peer::Address),
            (false, Some(dynamic)) => self.identity_inside(&dynamic).map(Peer::Dynamic),
            (false, None) => {
                self.require(at, "address", |_| Some(()));
                None
            }
        };
        let local_identity = self.identity(at, "local-identity");
        let remote_identity = self.identity(at, "remote-identity");
        let (policy, peer) = (policy?, peer?);
        if let (Peer::Dynamic(identity), IkeMode::Main) = (&peer, policy.mode)
            && !matches!(identity, Identity::Address(_))
            && policy.pre_shared_key.is_some()
        {
            self.error(
                Kind::Conflict,
                at.node.span,
                &at.path,
                "main mode chooses the pre-shared key by the member's address, which is not known here",
                "use `mode aggressive` in its policy, or `address`",
            );
        }
        Some(ServerGateway {
            name: at.key().to_owned(),
            policy,
            peer,
            local_identity,
            remote_identity,
            local_address: at.number("local-address"),
            routing_instance: Self::routing_instance(at),
            dead_peer_detection: at.child("dead-peer-detection").map(|at| DeadPeerDetection {
                always_send: at.has("always-send"),
                interval_secs: at.number("interval").unwrap_or(10),
                threshold: at.number("threshold").unwrap_or(5),
            }),
            place: at.place(),
        })
    }

    pub(super) fn member_gateway(&mut self, at: &At<'_>, policies: &Policies) -> Option<MemberGateway> {
        let listed: Vec<&Node> = at.node.children_named("server-address").collect();
        let policy = self.policy_of(at, policies, !listed.is_empty());
        if at.has("address")
            && let Some(first) = listed.first()
        {
            let message = "`address` and `server-address` exclude each other";
            self.error(
                Kind::Conflict,
                first.span,
                &at.path,
                message,
                "list every server with `server-address`",
            );
        }
        if !at.has("address") && listed.is_empty() {
            self.require(at, "address", |_| Some(()));
        }
        let mut servers: Vec<IpAddr> = at.number("address").into_iter().collect();
        servers.extend(
            listed.iter().filter(|node| !node.faulty).filter_map(|node| node.value().parse::<IpAddr>().ok()),
        );
        let local = at.child("local-address");
        let local_identity = self.identity(at, "local-identity");
        let remote_identity = self.identity(at, "remote-identity");
        if servers.is_empty() {
            return None;
        }
        let routing_instance =
            local.as_ref().and_then(Self::routing_instance).or_else(|| Self::routing_instance(at));
        Some(MemberGateway {
            name: at.key().to_owned(),
            policy: policy?,
            servers,
            local_address: local.filter(|at| !at.node.faulty).and_then(|at| at.key().parse().ok()),
            routing_instance,
            local_identity,
            remote_identity,
            place: at.place(),
        })
    }
}
