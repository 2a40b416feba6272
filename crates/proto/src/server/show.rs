//! What `show security group-vpn server …` prints.

use control::{
    Cookie, GroupReference, IkeSecurityAssociation, KekDetail, KekSecurityAssociation, MemberState,
    MemberStatistics, RegisteredMember, RegisteredMembers, SaState, ServerGroupSas, ServerIpsecDetail,
    ServerIpsecSa, ServerMatchPolicy, ServerStatistics,
};

use super::Server;
use super::group::Group;
use super::kek::{Kek, KekState, successor_due};
use super::members::Standing;
use super::settings::Communication;
use super::tek::{IpsecSa, Tek, remaining};
use crate::push::AcknowledgementError;
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
                    .flat_map(|sa| sa.teks.iter().map(move |tek| ipsec_sa(now, group, sa, tek)))
                    .collect(),
            })
            .collect()
    }

    /// `kek security-associations`: those that can still be sent under.
    pub fn kek_security_associations(&self, now: Instant) -> Vec<KekSecurityAssociation> {
        self.groups
            .iter()
            .flat_map(|group| {
                let shown =
                    group.keks.iter().filter(|kek| kek.is_alive(now) && kek.state != KekState::Revoked);
                shown.map(|kek| kek_sa(now, group, kek))
            })
            .collect()
    }

    /// `registered-members`.
    pub fn registered_members(&self, now: Instant) -> Vec<RegisteredMembers> {
        self.groups.iter().map(|group| registered_members(now, group)).collect()
    }

    /// `statistics`.
    pub fn statistics(&self, now: Instant) -> Vec<ServerStatistics> {
        self.groups
            .iter()
            .map(|group| (group, group.total_statistics()))
            .map(|(group, statistics)| ServerStatistics {
                group: group.settings.name.clone(),
                group_id: group.settings.id,
                active_members: group.members.count() as u64,
                pull_succeeded: statistics.pulls_succeeded,
                pull_failed: statistics.pulls_failed,
                pull_exceed_member_threshold: statistics.threshold_exceeded,
                push_sent: statistics.pushes_sent,
                push_acknowledged: statistics.pushes_acknowledged,
                push_unacknowledged: statistics.pushes_unacknowledged,
                acknowledgements_refused: reasons(&statistics.acknowledgements_refused),
                rekey: rekey_progress(now, group),
                recent_failures: statistics.recent_failures.iter().cloned().collect(),
            })
            .collect()
    }

    /// Acknowledgements that belong to no group, by reason.
    pub fn stray_acknowledgements(&self) -> Vec<control::ReasonCount> {
        let mut counts = reasons(&self.stray_acknowledgements);
        counts.extend((self.vendor_acknowledgements > 0).then(|| control::ReasonCount {
            reason: "vendor-exchange".to_owned(),
            description: "an acknowledgement in a vendor's own, unpublished form".to_owned(),
            count: self.vendor_acknowledgements,
        }));
        counts
    }
}

fn reasons(counts: &[u64; AcknowledgementError::REASONS.len()]) -> Vec<control::ReasonCount> {
    let reasons = AcknowledgementError::REASONS.iter().zip(counts).filter(|(_, count)| **count > 0);
    reasons
        .map(|(&(reason, description), &count)| control::ReasonCount {
            reason: reason.to_owned(),
            description: description.to_owned(),
            count,
        })
        .collect()
}

fn rekey_progress(now: Instant, group: &Group) -> Option<control::RekeyProgress> {
    if let Some(progress) = &group.progress {
        return Some(control::RekeyProgress {
            cause: progress.cause.as_str().to_owned(),
            members: progress.members as u64,
            outstanding: group.outstanding(progress) as u64,
            switch_after_secs: (progress.switch_at - progress.started).as_secs(),
            done_in_secs: Some(remaining(now, progress.switch_at)),
            took_millis: None,
        });
    }
    let report = group.last_report?;
    Some(control::RekeyProgress {
        cause: report.cause.as_str().to_owned(),
        members: report.members as u64,
        outstanding: report.missing as u64,
        switch_after_secs: report.took.as_secs(),
        done_in_secs: None,
        took_millis: Some(u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX)),
    })
}

fn kek_sa(now: Instant, group: &Group, kek: &Kek) -> KekSecurityAssociation {
    let (initiator, responder) = kek.spi().cookies();
    let current = kek.state == KekState::Current;
    KekSecurityAssociation {
        index: kek.index,
        remote_address: std::net::Ipv4Addr::UNSPECIFIED.into(),
        state: SaState::Up,
        initiator_cookie: Cookie(initiator.0),
        responder_cookie: Cookie(responder.0),
        group: group.settings.name.clone(),
        group_id: group.settings.id,
        detail: Some(KekDetail {
            authentication_method: show::signature(kek.settings.signing_key.kind()).to_owned(),
            signature_hash: show::hash(
                kek.settings.signing_key.kind().implied_hash().unwrap_or(kek.settings.hash),
            )
            .to_owned(),
            encryption_algorithm: show::cipher(kek.settings.cipher).to_owned(),
            lifetime_remaining_secs: remaining(now, kek.expires),
            rekey_in_secs: current
                .then(|| remaining(now, successor_due(kek, group.settings.activation_time_delay))),
            communication: match kek.settings.communication {
                Communication::Unicast { .. } => "Unicast".to_owned(),
                Communication::Multicast { .. } => "Multicast".to_owned(),
            },
            sequence_number: kek.sequence(),
            pushes: kek.pushes,
        }),
    }
}

fn ipsec_sa(now: Instant, group: &Group, sa: &IpsecSa, tek: &Tek) -> ServerIpsecSa {
    let ids = &group.sender_ids;
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
            anti_replay: show::anti_replay(tek.settings.anti_replay),
            sender_ids: (!tek.settings.suite.wants_random_iv()).then(|| {
                let free = ids.free(now);
                control::SenderIdUse { bits: ids.bits(), in_use: (1 << ids.bits()) - free, free }
            }),
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
            .shown()
            .into_iter()
            .map(|member| RegisteredMember {
                gateway: member.gateway.to_string(),
                address: member.path.remote.ip(),
                port: member.path.remote.port(),
                state: match member.standing {
                    Standing::Lost => MemberState::Unacknowledged,
                    Standing::Active | Standing::OnlyFailures => MemberState::Active,
                },
                last_update_secs_ago: (now - member.heard_at).as_secs(),
                statistics: Some(MemberStatistics {
                    pull_succeeded: member.counters.pulls_succeeded.into(),
                    pull_failed: member.counters.pulls_failed.into(),
                    push_sent: member.counters.pushes_sent.into(),
                    push_acknowledged: member.counters.pushes_acknowledged.into(),
                    push_unacknowledged: member.counters.pushes_unacknowledged.into(),
                }),
            })
            .collect(),
    }
}
