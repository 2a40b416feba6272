//! Replies of the daemon as OpenMetrics families.
//!
//! Names follow the Prometheus habits: a prefix, base units, `_total` on counters. Labels are names from the configuration
//! and fixed reasons, never SPIs or addresses, so that no series is born by a rekey or by a peer.

use std::collections::BTreeMap;

use anyhow::Result;
use control::{IpsecStatistics, KekSecurityAssociation, MemberCounters};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::snapshot::{MemberSnapshot, ServerSnapshot, Snapshot};

type Labels = Vec<(&'static str, String)>;
type Counters = Family<Labels, Counter>;
type Gauges = Family<Labels, Gauge>;

/// The text of everything that a snapshot holds.
///
/// # Errors
/// Never, as far as the library tells.
pub fn render(snapshot: &Snapshot) -> Result<String> {
    let mut exposition = Exposition { registry: Registry::with_prefix("groupvpn") };
    exposition.daemon(snapshot);
    if let Some(server) = &snapshot.server {
        exposition.server(server);
    }
    if let Some(member) = &snapshot.member {
        exposition.member(member);
    }
    let mut text = String::new();
    encode(&mut text, &exposition.registry)?;
    Ok(text)
}

struct Exposition {
    registry: Registry,
}

impl Exposition {
    fn counters(&mut self, name: &str, help: &str) -> Counters {
        let family = Counters::default();
        self.registry.register(name, help, family.clone());
        family
    }

    fn gauges(&mut self, name: &str, help: &str) -> Gauges {
        let family = Gauges::default();
        self.registry.register(name, help, family.clone());
        family
    }

    fn seconds(&mut self, name: &str, help: &str) -> Gauges {
        let family = Gauges::default();
        self.registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        family
    }

    fn daemon(&mut self, snapshot: &Snapshot) {
        let status = &snapshot.status;
        let info = self.gauges("build", "The daemon, always 1");
        set(&info, vec![("version", status.version.clone())], 1);
        set(&self.seconds("uptime", "Time since the daemon started"), Vec::new(), status.uptime_secs);
        let warnings =
            self.gauges("warnings", "Things that need the operator's attention: `gvpn status` names them");
        set(&warnings, Vec::new(), status.warnings.len() as u64);
        let attached =
            self.gauges("interface_attached", "Whether the data path is attached to an external interface");
        for interface in &status.interfaces {
            set(&attached, vec![("interface", interface.name.clone())], u64::from(interface.attached));
        }
        if let Some(messages) = &status.rekey_messages {
            let sent =
                self.counters("server_rekey_datagrams", "Copies of rekey messages, by what became of them");
            let outcomes =
                [("sent", messages.sent), ("refused", messages.refused), ("given-up", messages.given_up)];
            add_each(&sent, &[], "outcome", outcomes);
            let waiting =
                self.gauges("server_rekey_datagrams_waiting", "Copies that wait for room in the socket");
            set(&waiting, Vec::new(), messages.waiting);
        }
    }

    fn server(&mut self, server: &ServerSnapshot) {
        let members = self.gauges("server_members", "Members on the active list of a group");
        let pulls = self.counters("server_pulls", "Registrations, by outcome");
        let pushes = self.counters("server_pushes", "Rekey messages to members, by outcome");
        let refused = self
            .counters("server_acknowledgements_refused", "Acknowledgements that did not count, by reason");
        for group in &server.statistics {
            let of = vec![("group", group.group.clone())];
            set(&members, of.clone(), group.active_members);
            let outcomes = [
                ("succeeded", group.pull_succeeded),
                ("failed", group.pull_failed),
                ("threshold-exceeded", group.pull_exceed_member_threshold),
            ];
            add_each(&pulls, &of, "outcome", outcomes);
            let outcomes = [
                ("sent", group.push_sent),
                ("acknowledged", group.push_acknowledged),
                ("unacknowledged", group.push_unacknowledged),
            ];
            add_each(&pushes, &of, "outcome", outcomes);
            let reasons = group.acknowledgements_refused.iter();
            add_each(&refused, &of, "reason", reasons.map(|reason| (&*reason.reason, reason.count)));
        }
        let left = self.seconds("server_tek_remaining", "Life left of the newest TEK of an ipsec-sa");
        for group in &server.teks {
            for sa in &group.security_associations {
                let labels = vec![("group", group.group.clone()), ("ipsec_sa", sa.name.clone())];
                raise(&left, labels, sa.lifetime_secs);
            }
        }
        self.keks("server", "group", &server.keks);
    }

    fn keks(&mut self, role: &str, of: &'static str, keks: &[KekSecurityAssociation]) {
        let left = self.seconds(&format!("{role}_kek_remaining"), "Life left of the newest KEK");
        for kek in keks {
            let left_secs = kek.detail.as_ref().map_or(0, |detail| detail.lifetime_remaining_secs);
            raise(&left, vec![(of, kek.group.clone())], left_secs);
        }
    }

    fn member(&mut self, member: &MemberSnapshot) {
        let active = self.gauges("member_vpn_active", "Whether a VPN holds a usable TEK");
        let teks = self.gauges("member_teks", "TEKs that a VPN holds");
        let left = self.seconds("member_tek_remaining", "Life left of the TEK of a VPN that ends last");
        for vpn in &member.vpns {
            let labels = || vec![("vpn", vpn.vpn.clone())];
            let sas = &vpn.security_associations;
            set(&active, labels(), u64::from(!sas.is_empty()));
            set(&teks, labels(), sas.len() as u64);
            set(&left, labels(), sas.iter().map(|sa| sa.hard_lifetime_secs).max().unwrap_or(0));
        }
        // A VPN that holds nothing is told among the inactive ones, and may be missing among the others.
        let mut counted: BTreeMap<&str, &MemberCounters> = BTreeMap::new();
        for tunnel in &member.inactive {
            set(&active, vec![("vpn", tunnel.vpn.clone())], 0);
            counted.insert(&tunnel.vpn, &tunnel.counters);
        }
        counted.extend(member.vpns.iter().map(|vpn| (&*vpn.vpn, &vpn.counters)));
        self.member_counters(&counted);
        self.keks("member", "vpn", &member.keks);
        self.traffic(&member.traffic);
    }

    fn member_counters(&mut self, vpns: &BTreeMap<&str, &MemberCounters>) {
        let pulls = self.counters("member_pulls", "Registrations of a VPN, by outcome");
        let pushes = self.counters("member_pushes", "Rekey messages to a VPN, by outcome");
        let rejected =
            self.counters("member_pushes_rejected", "Rekey messages that changed nothing, by reason");
        let happened = self.counters("member_events", "What else happened to a VPN");
        for (vpn, counters) in vpns {
            let of = [("vpn", (*vpn).to_owned())];
            let outcomes = [
                ("succeeded", counters.pull_succeeded),
                ("failed", counters.pull_failed),
                ("timeout", counters.pull_timeout),
                ("aborted", counters.pull_aborted),
            ];
            add_each(&pulls, &of, "outcome", outcomes);
            let outcomes = [
                ("succeeded", counters.push_succeeded),
                ("failed", counters.push_failed),
                ("acknowledged", counters.push_acknowledged),
            ];
            add_each(&pushes, &of, "outcome", outcomes);
            let reasons = counters.push_rejected.all().into_iter();
            add_each(&rejected, &of, "reason", reasons.map(|(reason, _, count)| (reason, count)));
            let events = [
                ("recovery-probe", counters.recovery_probes),
                ("server-failover", counters.server_failover),
                ("delete-received", counters.delete_received),
                ("unsupported-algorithm", counters.unsupported_algorithm),
                ("exceed-maximum-keys", counters.exceed_maximum_keys),
                ("exceed-maximum-policies", counters.exceed_maximum_policies),
            ];
            add_each(&happened, &of, "event", events);
        }
    }

    fn traffic(&mut self, statistics: &IpsecStatistics) {
        let totals = &statistics.totals;
        let packets = self.counters("esp_packets", "Packets made into ESP and taken out of it");
        let octets = self.counters("esp_bytes", "Octets of those packets, without ESP");
        for (direction, count, size) in [
            ("encrypted", totals.encrypted_packets, totals.encrypted_bytes),
            ("decrypted", totals.decrypted_packets, totals.decrypted_bytes),
        ] {
            add(&packets, vec![("direction", direction.to_owned())], count);
            add(&octets, vec![("direction", direction.to_owned())], size);
        }
        for (name, help, counts) in [
            ("packets_passed", "Packets that passed in clear, by reason", &statistics.passed),
            ("packets_dropped", "Packets that were dropped, by reason", &statistics.drops),
        ] {
            let family = self.counters(name, help);
            add_each(&family, &[], "reason", counts.iter().map(|count| (&*count.reason, count.packets)));
        }
        let kernel = self
            .counters("interface_packets", "Packets seen by the programs of an interface, by what they did");
        for interface in &statistics.interfaces {
            for (what, count) in &interface.counters {
                let labels = vec![("device", interface.interface.clone()), ("what", what.clone())];
                add(&kernel, labels, *count);
            }
        }
    }
}

fn add(family: &Counters, labels: Labels, count: u64) {
    family.get_or_create(&labels).inc_by(count);
}

/// Adds counts that differ in one label, beside those `of` what they all are.
fn add_each<'a>(
    family: &Counters,
    of: &[(&'static str, String)],
    label: &'static str,
    counts: impl IntoIterator<Item = (&'a str, u64)>,
) {
    for (value, count) in counts {
        add(family, [of, &[(label, value.to_owned())]].concat(), count);
    }
}

fn set(family: &Gauges, labels: Labels, value: u64) {
    family.get_or_create(&labels).set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Sets it to the greatest of all values.
fn raise(family: &Gauges, labels: Labels, value: u64) {
    let gauge = family.get_or_create(&labels);
    gauge.set(gauge.get().max(i64::try_from(value).unwrap_or(i64::MAX)));
}

#[cfg(test)]
mod tests {
    use control::Status;

    use super::*;
    use crate::show::samples;

    fn server() -> Snapshot {
        let server = ServerSnapshot {
            statistics: samples::pushing_statistics(),
            teks: samples::server_groups(),
            keks: samples::keks(),
        };
        let status = Status { version: "0.1.0".into(), uptime_secs: 77, ..Status::default() };
        Snapshot { status, server: Some(server), member: None }
    }

    #[test]
    fn a_server_tells_groups_keys_and_outcomes() {
        // Families are kept in hash maps: lines come in any order.
        let text = render(&server()).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.pop(), Some("# EOF"));
        lines.retain(|line| !line.starts_with('#'));
        lines.sort_unstable();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn a_member_tells_vpns_traffic_and_reasons() {
        let member = MemberSnapshot {
            vpns: samples::member_vpns(),
            inactive: Vec::new(),
            traffic: samples::ipsec_statistics(),
            keks: samples::keks(),
        };
        let text = render(&Snapshot { member: Some(member), ..Snapshot::default() }).unwrap();
        assert!(text.contains("groupvpn_member_vpn_active{vpn=\"gvpn\"} 1\n"), "{text}");
        assert!(text.contains("groupvpn_esp_packets_total{direction=\"encrypted\"} "), "{text}");
        assert!(text.contains("groupvpn_member_pulls_total{vpn=\"gvpn\",outcome=\"timeout\"} 3\n"), "{text}");
    }

    #[test]
    fn a_vpn_without_keys_is_not_active() {
        let member = MemberSnapshot { inactive: samples::inactive_tunnels(), ..MemberSnapshot::default() };
        let text = render(&Snapshot { member: Some(member), ..Snapshot::default() }).unwrap();
        assert!(text.contains("groupvpn_member_vpn_active{vpn=\"gvpn\"} 0\n"), "{text}");
    }
}
