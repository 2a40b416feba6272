//! The group member.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{At, Builder, duplicates};
use crate::finding::Kind;
use crate::model::*;
use crate::tree::prefix;

impl Builder {
    pub(super) fn member(&mut self, at: &At<'_>, top: &At<'_>) -> Member {
        let mut gateways: BTreeMap<String, Option<Arc<MemberGateway>>> = BTreeMap::new();
        let mut in_order = Vec::new();
        if let Some(ike) = at.child("ike") {
            let policies = self.ike_policies(&ike);
            for at in ike.children("gateway") {
                let gateway = self.member_gateway(&at, &policies).map(Arc::new);
                in_order.extend(gateway.clone());
                gateways.insert(at.key().to_owned(), gateway);
            }
        }
        let mut vpns = Vec::new();
        if let Some(ipsec) = at.child("ipsec") {
            vpns = ipsec.children("vpn").filter_map(|at| self.vpn(&at, &gateways, top)).collect();
        }
        self.phase_1_conflicts(&vpns);
        let mut found = Vec::new();
        duplicates(
            &vpns,
            |vpn| (vpn.gateway.name.clone(), vpn.group_id),
            |later, first| {
                found.push((later.place.clone(), later.group_id, first.name.clone()));
            },
        );
        for (place, id, first) in found {
            let message = format!("group {id} of the same server is already joined by vpn `{first}`");
            self.error(Kind::Duplicate, place.span, &place.path, message, "join a group once");
        }
        Member {
            gateways: in_order,
            vpns,
            stop_behaviour: at
                .value("stop-behaviour", StopBehaviour::from_word)
                .unwrap_or(StopBehaviour::Closed),
            place: at.place(),
        }
    }

    /// VPNs that share a phase 1 must agree about it.
    fn phase_1_conflicts(&mut self, vpns: &[Vpn]) {
        for (index, vpn) in vpns.iter().enumerate() {
            let other = vpns[..index].iter().find(|other| other.gateway.name == vpn.gateway.name);
            let Some(other) = other else { continue };
            let differing = [
                ("ike-doi", other.ike_doi != vpn.ike_doi),
                ("non-esp-marker", other.non_esp_marker != vpn.non_esp_marker),
            ];
            for (statement, _) in differing.into_iter().filter(|(_, differs)| *differs) {
                let message = format!(
                    "`{statement}` differs from that of vpn `{}`, which shares its gateway",
                    other.name
                );
                let remedy = format!("give them the same `{statement}`, or gateways of their own");
                self.error(Kind::Conflict, vpn.place.span, &vpn.place.path, message, &remedy);
            }
        }
    }

    fn vpn(
        &mut self,
        at: &At<'_>,
        gateways: &BTreeMap<String, Option<Arc<MemberGateway>>>,
        top: &At<'_>,
    ) -> Option<Vpn> {
        let named = self.require(at, "ike-gateway", |name| Some(name.to_owned()));
        let gateway = match (named, at.node.child("ike-gateway")) {
            (Some(name), Some(leaf)) => match gateways.get(&name) {
                Some(gateway) => gateway.clone(),
                None => {
                    let names: Vec<String> = gateways.keys().cloned().collect();
                    self.dangling(at, leaf, "gateway", &names);
                    None
                }
            },
            _ => None,
        };
        let group_id = self.require(at, "group", |text| text.parse().ok());
        let rules = |builder: &mut Builder, name: &str| -> Vec<ClearRule> {
            match at.child(name) {
                Some(list) => {
                    list.children("rule").filter_map(|rule| builder.clear_rule(&rule, top)).collect()
                }
                None => Vec::new(),
            }
        };
        let fail_open = rules(self, "fail-open");
        let exclude = rules(self, "exclude");
        let compatibility = at.child("compatibility");
        let compatibility = compatibility.as_ref();
        Some(Vpn {
            name: at.key().to_owned(),
            gateway: gateway?,
            group_id: group_id?,
            external_interface: at.text("group-vpn-external-interface").map(InterfaceName),
            df_bit: at.value("df-bit", DfBit::from_word).unwrap_or(DfBit::Clear),
            recovery_probe: at.has("recovery-probe"),
            heartbeat_threshold: at.number("heartbeat-threshold").unwrap_or(3),
            match_direction: at.value("match-direction", MatchDirection::from_word),
            tunnel_mtu: at.number("tunnel-mtu"),
            forward_policy_mismatch: at.has("forward-policy-mismatch"),
            paired_policies_only: at.has("paired-policies-only"),
            fail_open,
            exclude,
            ike_doi: compatibility
                .and_then(|at| at.value("ike-doi", IkeDoi::from_word))
                .unwrap_or(IkeDoi::Gdoi),
            group_id_form: compatibility
                .and_then(|at| at.value("group-id-form", GroupIdForm::from_word))
                .unwrap_or(GroupIdForm::KeyId),
            rsa_bare_hash: compatibility.is_some_and(|at| at.has("rsa-bare-hash")),
            non_esp_marker: compatibility.is_some_and(|at| at.has("non-esp-marker")),
            place: at.place(),
        })
    }

    fn clear_rule(&mut self, at: &At<'_>, top: &At<'_>) -> Option<ClearRule> {
        let mut address = |name: &str| {
            let address = at.child(name)?;
            if !address.has("address") {
                self.error(
                    Kind::Missing,
                    address.node.span,
                    &at.path,
                    format!("`{name}` has no prefix"),
                    "add a prefix",
                );
            }
            self.host_bits(at, address.node.child("address"));
            address.value("address", prefix)
        };
        let source = address("source-address");
        let destination = address("destination-address");
        if !at.has("source-address") && !at.has("destination-address") && !at.has("application") {
            let message = format!("rule `{}` lets everything pass in clear", at.key());
            let remedy = "add `source-address` and `destination-address`";
            self.warn(Kind::Weak, at.node.span, &at.path, message, remedy);
        }
        if let (Some(source), Some(destination)) = (&source, &destination)
            && source.addr().is_ipv4() != destination.addr().is_ipv4()
        {
            let message = "source and destination are of different address families";
            self.error(Kind::Conflict, at.node.span, &at.path, message, "write one rule for each family");
        }
        let names = at.node.child("application").into_iter().collect();
        let application = self.applications(at, names, top);
        Some(ClearRule { name: at.key().to_owned(), source, destination, application, place: at.place() })
    }
}
