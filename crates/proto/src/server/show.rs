//! What `show security group-vpn server …` prints.

use control::{
    AntiReplay, GroupReference, IkeSecurityAssociation, KekSecurityAssociation, MemberStatistics,
    RegisteredMember, RegisteredMembers, ServerGroupSas, ServerIpsecDetail, ServerIpsecSa, ServerMatchPolicy,
    ServerStatistics,
};

use super::Server;
use super::group::Group;
use super::tek::{IpsecSa, Tek, remaining};
use crate::show;
use crate::time::Instant;

/// Everything in detail; filters cut it down.
impl Server {
    /// `ike security-associations`.
    pub fn ike_security_associations(&self, now: Instant) -> Vec<IkeSecurityAssociation> {
        self.endpoint
            .associations()
            .map(|sa| {
                let groups = self.groups.iter().filter(|group| group.is_authorized(sa.gateway()));
                let groups = groups.map(|group| GroupReference {
                    group: group.settings.name.clone(),
                    group_id: group.settings.id,
                });
                let pulls = show::Pulls {
                    completed: self.registrations.completed(sa.id()),
                    in_progress: self.registrations.under(sa.id()) as u32,
                };
                show::association(now, sa, groups.collect(), pulls, self.meter.of(sa.id()))
            })
            .collect()
    }

    /// `ipsec security-associations`.
    pub fn ipsec_security_associations(&self, now: Instant) -> Vec<ServerGroupSas> {
        self.groups
            .iter()
            .map(|group| ServerGroupSas {
                group: group.settings.name.clone(),
                group_id: group.settings.id,
                security_associations: group
                    .sas
                    .iter()
                    .flat_map(|sa| sa.teks.iter().map(move |tek| ipsec_sa(now, sa, tek)))
                    .collect(),
            })
            .collect()
    }

    /// `kek security-associations`: none yet.
    pub fn kek_security_associations(&self, _now: Instant) -> Vec<KekSecurityAssociation> {
        Vec::new()
    }

    /// `registered-members`.
    pub fn registered_members(&self, now: Instant) -> Vec<RegisteredMembers> {
        self.groups.iter().map(|group| registered_members(now, group)).collect()
    }

    /// `statistics`.
    pub fn statistics(&self) -> Vec<ServerStatistics> {
        self.groups
            .iter()
            .map(|group| ServerStatistics {
                group: group.settings.name.clone(),
                group_id: group.settings.id,
                pull_succeeded: group.statistics.pulls_succeeded,
                pull_failed: group.statistics.pulls_failed,
                pull_exceed_member_threshold: group.statistics.threshold_exceeded,
                recent_failures: group.statistics.recent_failures.iter().cloned().collect(),
                ..ServerStatistics::default()
            })
            .collect()
    }
}

fn ipsec_sa(now: Instant, sa: &IpsecSa, tek: &Tek) -> ServerIpsecSa {
    let newest = sa.teks.back().is_some_and(|newest| newest.spi == tek.spi);
    ServerIpsecSa {
        name: sa.settings.name.clone(),
        algorithm: show::suite(tek.settings.suite),
        spi: tek.spi.into(),
        lifetime_secs: remaining(now, tek.expires),
        detail: Some(ServerIpsecDetail {
            authentication_algorithm: show::authentication_algorithm(tek.settings.suite),
            encryption_algorithm: show::encryption_algorithm(tek.settings.suite),
            configured_lifetime_secs: tek.settings.lifetime.as_secs(),
            activation_in_secs: remaining(now, tek.activates),
            rekey_in_secs: sa.successor_due().filter(|_| newest).map(|due| remaining(now, due)),
            anti_replay: AntiReplay::Disabled,
            policies: tek
                .settings
                .policies
                .iter()
                .map(|policy| ServerMatchPolicy {
                    name: policy.name.clone(),
                    selector: show::selector(&policy.selector),
                })
                .collect(),
        }),
    }
}

fn registered_members(now: Instant, group: &Group) -> RegisteredMembers {
    RegisteredMembers {
        group: group.settings.name.clone(),
        group_id: group.settings.id,
        members: group
            .members
            .iter()
            .filter(|(_, member, _)| member.keys_until > now)
            .map(|((gateway, address), member, registered_at)| RegisteredMember {
                gateway: gateway.clone(),
                address: address.ip(),
                port: address.port(),
                state: control::MemberState::Active,
                last_update_secs_ago: (now - registered_at).as_secs(),
                statistics: Some(MemberStatistics {
                    pull_succeeded: member.pulls_succeeded,
                    pull_failed: member.pulls_failed,
                    ..MemberStatistics::default()
                }),
            })
            .collect(),
    }
}
