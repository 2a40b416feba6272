//! Replies to `show` and `clear`.

use control::filter::Filtered;
use control::{
    ClearReply, ConfigurationFormat, ConfigurationQuery, ConfigurationReply, DropCount, Filter,
    InactiveTunnel, InterfaceCounters, InterfaceStatus, IpsecStatistics, MemberPolicy, PolicyType,
    RekeyMessages, SaCounters, SaStatistics, Selector, ServerStatistics, Spi, Status,
};
use dataplane::{AddressPair, Counters, DropReason, PassReason, Traffic};
use proto::control_selector;
use serde::Serialize;

use super::Daemon;
use crate::control_socket::{Refusal, Reply, Subject, reply};
use crate::flows::Flows;
use crate::instances::shown;
use crate::protection::{engine_time, pairs};
use crate::scope;
use crate::sockets::PushCounters;

pub(super) const NO_SERVER: &str =
    "this machine is no key server: `security group-vpn server` is not configured";
const NO_MEMBER: &str = "this machine is no group member: `security group-vpn member` is not configured";

impl Daemon {
    pub(super) fn show(&mut self, subject: Subject, filter: &Filter) -> Reply {
        let now = self.clock.now();
        let server = || self.server.as_ref().ok_or_else(|| Refusal::not_found(NO_SERVER));
        let member = || self.member.as_ref().ok_or_else(|| Refusal::not_found(NO_MEMBER));
        match subject {
            Subject::Status => reply(&self.status()),
            Subject::ServerIke => filtered(server()?.ike_security_associations(now), filter),
            Subject::ServerIpsec => filtered(server()?.ipsec_security_associations(now), filter),
            Subject::ServerKek => filtered(server()?.kek_security_associations(now), filter),
            Subject::ServerMembers => filtered(server()?.registered_members(now), filter),
            Subject::ServerStatistics => {
                let server = server()?;
                let mut statistics = server.statistics(now);
                let stray = server.stray_acknowledgements();
                if !stray.is_empty() {
                    let acknowledgements_refused = stray;
                    statistics.push(ServerStatistics { acknowledgements_refused, ..Default::default() });
                }
                filtered(statistics, filter)
            }
            Subject::MemberIke => filtered(member()?.ike_security_associations(now), filter),
            Subject::MemberIpsec => filtered(member()?.ipsec_security_associations(now), filter),
            Subject::MemberKek => filtered(member()?.kek_security_associations(now), filter),
            Subject::MemberInactive => {
                member()?;
                filtered(self.inactive_tunnels(), filter)
            }
            Subject::MemberStatistics => {
                member()?;
                filtered(self.statistics(filter.vpn.as_deref()), filter)
            }
            Subject::MemberPolicy => {
                member()?;
                filtered(self.member_policies(), filter)
            }
            Subject::DynamicPolicies => {
                member()?;
                reply(&scope::dynamic_policies(&self.active.model, &self.protection, engine_time(now)))
            }
            Subject::FlowSession => {
                member()?;
                let now = engine_time(now);
                let mut shown = Vec::new();
                for (name, instance) in self.instances.iter() {
                    let sessions = instance.data_path().map(|data_path| data_path.sessions(now));
                    let flows = Flows {
                        configuration: &self.active.model,
                        protection: &self.protection,
                        interfaces: &self.interfaces,
                        instance: name,
                        numbers_from: instance.id().number() << 40,
                        links: &instance.links(),
                        now,
                    };
                    shown.extend(flows.sessions(&sessions.unwrap_or_default(), filter.tunnel));
                }
                reply(&shown)
            }
            Subject::ServerCluster => {
                server()?;
                filtered(self.server_cluster(), filter)
            }
            Subject::ServerGroup | Subject::MemberGroup => {
                Err(Refusal::not_found("this can be cleared, not shown: use DELETE"))
            }
        }
    }

    pub(super) fn clear(&mut self, subject: Subject, filter: &Filter) -> Reply {
        let now = self.clock.now();
        let no_server = || Refusal::not_found(NO_SERVER);
        let no_member = || Refusal::not_found(NO_MEMBER);
        let cleared = match subject {
            Subject::ServerIke => {
                let server = self.server.as_mut().ok_or_else(no_server)?;
                let mut chosen = server.ike_security_associations(now);
                chosen.keep(filter);
                chosen.iter().map(|sa| server.clear_ike(now, None, Some(sa.index))).sum()
            }
            Subject::MemberIke => {
                let member = self.member.as_mut().ok_or_else(no_member)?;
                let mut chosen = member.ike_security_associations(now);
                chosen.keep(filter);
                chosen.iter().map(|sa| member.clear_ike(now, None, Some(sa.index))).sum()
            }
            Subject::ServerStatistics => {
                let server = self.server.as_mut().ok_or_else(no_server)?;
                let mut chosen = server.statistics(now);
                chosen.keep(filter);
                chosen.iter().map(|group| server.clear_statistics(Some(&group.group))).sum()
            }
            Subject::MemberIpsec | Subject::MemberGroup => {
                self.clear_vpns(filter, subject == Subject::MemberGroup)?
            }
            Subject::MemberStatistics => {
                self.member.as_ref().ok_or_else(no_member)?;
                self.protection.clear_counters(filter.vpn.as_deref())
            }
            Subject::Status
            | Subject::ServerIpsec
            | Subject::ServerKek
            | Subject::ServerMembers
            | Subject::ServerCluster
            | Subject::ServerGroup
            | Subject::MemberInactive
            | Subject::MemberKek
            | Subject::MemberPolicy
            | Subject::DynamicPolicies
            | Subject::FlowSession => return Err(Refusal::not_found("this can be shown, not cleared")),
        };
        reply(&ClearReply { cleared })
    }

    /// Drops the SAs of the VPNs that a filter names and registers them again; with `phase1` over new phase 1 SAs.
    fn clear_vpns(&mut self, filter: &Filter, phase1: bool) -> Result<u64, Refusal> {
        let now = self.clock.now();
        let member = self.member.as_mut().ok_or_else(|| Refusal::not_found(NO_MEMBER))?;
        let holding = member.ipsec_security_associations(now);
        let mut cleared = 0;
        for vpn in self.active.model.member.iter().flat_map(|member| &member.vpns) {
            let has_index = |index: u32| {
                let sas = holding
                    .iter()
                    .filter(|held| held.vpn == vpn.name)
                    .flat_map(|held| &held.security_associations);
                sas.clone().any(|sa| sa.tunnel_id == index)
            };
            let chosen = filter.vpn.as_ref().is_none_or(|name| *name == vpn.name)
                && filter.group_id.is_none_or(|id| id == vpn.group_id)
                && filter.index.is_none_or(has_index);
            if !chosen {
                continue;
            }
            if phase1 {
                for server in &vpn.gateway.servers {
                    member.clear_ike(now, Some(*server), None);
                }
                cleared += member.clear_group(now, Some(&vpn.name));
            } else {
                cleared += member.clear_ipsec(now, Some(&vpn.name));
            }
        }
        Ok(cleared)
    }

    pub(super) fn show_configuration(&mut self, query: &ConfigurationQuery) -> Reply {
        let path: Vec<&str> = query.path.split_whitespace().collect();
        let tree = &self.active.tree;
        let text = match query.format {
            ConfigurationFormat::Text => tree.show_braces(&path),
            ConfigurationFormat::Set => tree.show_set_lines(&path),
            ConfigurationFormat::Json => tree
                .show_json(&path)
                .and_then(|json| serde_json::to_string_pretty(&json).ok())
                .map(|text| text + "\n"),
            ConfigurationFormat::Xml => tree.show_xml(&path),
        };
        // Nothing under a path is an answer, as it is for the vendor.
        reply(&ConfigurationReply { text: text.unwrap_or_default() })
    }

    fn status(&self) -> Status {
        let roles = [("server", self.server.is_some()), ("member", self.member.is_some())];
        let mut warnings: Vec<String> = self.attach_problems.clone();
        let now = self.clock.now();
        warnings.extend(self.durable.iter().flat_map(|durable| durable.warnings(now)));
        warnings.extend(self.protection.warnings());
        for (vpn, readiness) in &self.readiness {
            if let Some(reason) = readiness.reason() {
                warnings.push(format!("VPN {vpn} is inactive: {reason}"));
            }
        }
        if self.command_line.control_plane_only && self.member.is_some() {
            warnings.push("--control-plane-only: nothing is protected".into());
        }
        warnings.extend(self.join_problems.iter().cloned());
        let PushCounters { sent, refused, given_up, waiting } = self.sockets.push_counters();
        Status {
            rekey_messages: self.server.is_some().then_some(RekeyMessages {
                sent,
                refused,
                given_up,
                waiting,
            }),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime_secs: (self.clock.now() - self.started).as_secs(),
            roles: roles.iter().filter(|(_, has)| *has).map(|(role, _)| (*role).to_owned()).collect(),
            configuration_file: self.command_line.config.display().to_string(),
            listening: self.sockets.listening(),
            interfaces: self
                .interfaces
                .bindings()
                .into_iter()
                .map(|((name, device, instance), vpns)| {
                    let links = self.links_of(instance);
                    let link = links.by_name(&device);
                    let device = shown(instance, &device);
                    let failed =
                        self.attach_problems.iter().any(|problem| problem.contains(&format!(" {device}:")));
                    let protects = self.instances.get(instance).is_some_and(|it| it.data_path().is_some());
                    InterfaceStatus {
                        attached: protects && link.is_some() && !failed,
                        up: link.is_some_and(|link| link.up),
                        name,
                        device,
                        vpns,
                    }
                })
                .collect(),
            warnings,
        }
    }

    /// What the member says, and for VPNs that cannot even try what the interfaces say.
    fn inactive_tunnels(&self) -> Vec<InactiveTunnel> {
        let mut tunnels =
            self.member.as_ref().map(|member| member.inactive_tunnels(self.clock.now())).unwrap_or_default();
        for tunnel in &mut tunnels {
            if let Some(reason) = self.readiness.get(&tunnel.vpn).and_then(|readiness| readiness.reason()) {
                reason.clone_into(&mut tunnel.reason);
            }
        }
        tunnels
    }

    fn statistics(&self, only: Option<&str>) -> IpsecStatistics {
        let mut statistics = IpsecStatistics::default();
        let mut drops = vec![0_u64; DropReason::ALL.len()];
        let mut passes = vec![0_u64; PassReason::ALL.len()];
        let mut add = |totals: &mut SaCounters, counters: &Counters| {
            add_traffic(totals, &counters.encrypted, &counters.decrypted);
            for (sum, reason) in passes.iter_mut().zip(PassReason::ALL) {
                *sum += counters.passed.count(*reason);
            }
            for (sum, reason) in drops.iter_mut().zip(DropReason::ALL) {
                *sum += counters.drops.count(*reason);
            }
        };
        let holding = self.member.as_ref().map(|member| member.ipsec_security_associations(self.clock.now()));
        let holding = holding.unwrap_or_default();
        for vpn in self.active.model.member.iter().flat_map(|member| &member.vpns) {
            if only.is_some_and(|only| only != vpn.name) {
                continue;
            }
            if let Some(counters) = self.protection.counters(&vpn.name) {
                add(&mut statistics.totals, counters);
            }
            for sa in self.protection.sas(&vpn.name) {
                let mut counters = SaCounters::default();
                add_traffic(&mut counters, sa.encrypted(), sa.decrypted());
                let tunnel = holding
                    .iter()
                    .filter(|held| held.vpn == vpn.name)
                    .flat_map(|held| &held.security_associations)
                    .find(|held| held.spi == Spi(sa.spi()));
                statistics.security_associations.push(SaStatistics {
                    tunnel_id: tunnel.map_or(0, |held| held.tunnel_id),
                    vpn: vpn.name.clone(),
                    spi: Spi(sa.spi()),
                    counters,
                });
            }
        }
        if only.is_none() {
            add(&mut statistics.totals, self.protection.other_counters());
            statistics.interfaces = self
                .instances
                .statistics()
                .into_iter()
                .map(|interface| InterfaceCounters {
                    interface: interface.interface,
                    counters: interface
                        .counters
                        .iter()
                        .map(|(name, value)| ((*name).to_owned(), *value))
                        .collect(),
                })
                .collect();
        }
        let count = |reason: &str, description: &str, packets| DropCount {
            reason: reason.to_owned(),
            description: description.to_owned(),
            packets,
        };
        statistics.passed = PassReason::ALL
            .iter()
            .zip(passes)
            .map(|(reason, packets)| count(reason.name(), reason.text(), packets))
            .collect();
        statistics.drops = DropReason::ALL
            .iter()
            .zip(drops)
            .map(|(reason, packets)| count(reason.name(), reason.text(), packets))
            .collect();
        statistics
    }

    fn member_policies(&self) -> Vec<MemberPolicy> {
        let now = self.clock.now();
        let holding =
            self.member.as_ref().map(|member| member.ipsec_security_associations(now)).unwrap_or_default();
        let mut policies = Vec::new();
        for vpn in self.active.model.member.iter().flat_map(|member| &member.vpns) {
            let sas: Vec<_> = holding
                .iter()
                .filter(|held| held.vpn == vpn.name)
                .flat_map(|held| &held.security_associations)
                .collect();
            let mut zones: Vec<(String, String)> = scope::scopes(&self.active.model, &vpn.name)
                .into_iter()
                .map(|scope| (scope.from_zone, scope.to_zone))
                .collect();
            zones.dedup();
            if zones.is_empty() {
                zones.push(Default::default());
            }
            for (from_zone, to_zone) in zones {
                let mut add = |policy_type, tunnel_id, selector: Selector| {
                    policies.push(MemberPolicy {
                        vpn: vpn.name.clone(),
                        group_id: vpn.group_id,
                        from_zone: from_zone.clone(),
                        to_zone: to_zone.clone(),
                        policy_type,
                        tunnel_id,
                        selector,
                    });
                };
                for pair in pairs(&vpn.exclude) {
                    add(PolicyType::Exclude, None, selector(pair));
                }
                if self.protection.fails_open(&vpn.name) {
                    for pair in pairs(&vpn.fail_open) {
                        add(PolicyType::FailOpen, None, selector(pair));
                    }
                }
                for policy in self.protection.policies(&vpn.name).map(control_selector) {
                    let sa = sas.iter().find(|sa| {
                        sa.detail.as_ref().is_some_and(|detail| detail.policies.contains(&policy))
                    });
                    match sa {
                        Some(sa) => add(PolicyType::Secure, Some(sa.tunnel_id), policy),
                        None => add(PolicyType::FailClose, None, policy),
                    }
                }
                let unmatched_is_dropped = self.protection.knows_nothing(&vpn.name)
                    || match vpn.external_interface {
                        Some(_) => self.active.model.default_policy == config::model::DefaultPolicy::DenyAll,
                        None => !vpn.forward_policy_mismatch,
                    };
                if unmatched_is_dropped {
                    add(PolicyType::FailClose, None, selector_any());
                }
            }
        }
        policies
    }
}

fn filtered<T: Filtered + Serialize>(mut value: T, filter: &Filter) -> Reply {
    value.keep(filter);
    reply(&value)
}

fn add_traffic(sum: &mut SaCounters, encrypted: &Traffic, decrypted: &Traffic) {
    sum.encrypted_packets += encrypted.packets();
    sum.encrypted_bytes += encrypted.octets();
    sum.decrypted_packets += decrypted.packets();
    sum.decrypted_bytes += decrypted.octets();
}

fn selector(pair: AddressPair) -> Selector {
    Selector::between(pair.source, pair.destination)
}

fn selector_any() -> Selector {
    Selector::between(ipnet::Ipv4Net::default().into(), ipnet::Ipv4Net::default().into())
}
