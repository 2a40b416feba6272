//! What `show security group-vpn member …` prints.

use std::net::{IpAddr, Ipv4Addr};

use control::{
    GroupReference, IkeSecurityAssociation, InactiveTunnel, KekDetail, KekSecurityAssociation,
    MemberCounters, MemberIpsecDetail, MemberIpsecSa, MemberVpn, SaDirection, SaState,
};

use super::kek_set::HeldKek;
use super::sa_set::Held;
use super::state::State;
use super::vpn::Vpn;
use super::{Direction, Member};
use crate::show;
use crate::time::Instant;

/// Everything in detail; filters cut it down.
impl Member {
    /// `ike security-associations`.
    pub fn ike_security_associations(&self, now: Instant) -> Vec<IkeSecurityAssociation> {
        self.endpoint
            .associations()
            .map(|sa| {
                let users = || self.vpns.iter().filter(|vpn| vpn.gateway.phase1.name == sa.gateway());
                let groups = users().map(|vpn| GroupReference {
                    group: vpn.settings.name.clone(),
                    group_id: vpn.settings.group_id,
                });
                let pulling =
                    |vpn: &&Vpn| matches!(&vpn.state, State::Pulling(pull) if pull.association == sa.id());
                let pulls = show::Pulls {
                    completed: users()
                        .filter(|vpn| vpn.pulled_over == Some(sa.id()))
                        .map(|vpn| vpn.pulls_there)
                        .sum(),
                    in_progress: users().filter(pulling).count() as u32,
                };
                show::association(now, sa, groups.collect(), pulls, self.meter.of(sa.id()))
            })
            .collect()
    }

    /// `ipsec security-associations`: every VPN, also those without SA.
    pub fn ipsec_security_associations(&self, now: Instant) -> Vec<MemberVpn> {
        self.vpns.iter().map(|vpn| self.member_vpn(now, vpn)).collect()
    }

    /// `kek security-associations`: oldest first within a VPN.
    pub fn kek_security_associations(&self, now: Instant) -> Vec<KekSecurityAssociation> {
        self.vpns.iter().flat_map(|vpn| vpn.keks.iter().map(move |held| kek_sa(now, vpn, held))).collect()
    }

    /// `ipsec inactive-tunnels`.
    pub fn inactive_tunnels(&self, now: Instant) -> Vec<InactiveTunnel> {
        let is_down = |vpn: &Vpn| matches!(vpn.state, State::Down);
        let inactive = self.vpns.iter().filter(|vpn| vpn.sas.is_empty() || is_down(vpn));
        inactive.map(|vpn| inactive_tunnel(now, vpn)).collect()
    }

    fn member_vpn(&self, now: Instant, vpn: &Vpn) -> MemberVpn {
        let server = vpn.registered_with.or(vpn.current_server()).unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        let proven =
            self.endpoint.find(&vpn.gateway.phase1.name, server).and_then(|id| self.endpoint.association(id));
        let local =
            proven.map(|sa| sa.path().local.ip()).or(vpn.gateway.phase1.local_address).or(vpn.local_address);
        MemberVpn {
            vpn: vpn.settings.name.clone(),
            group_id: vpn.settings.group_id,
            server,
            port: vpn.gateway.server_port,
            local_address: local.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
            routing_instance: vpn.settings.routing_instance.clone(),
            df_bit: vpn.settings.df_bit.clone(),
            recovery_probe: vpn.settings.recovery_probe,
            rekey_needed: vpn.sas.next_registration().is_some_and(|due| due <= now),
            security_associations: vpn.sas.iter().map(|held| ipsec_sa(now, vpn, held)).collect(),
            counters: counters(vpn),
        }
    }
}

fn ipsec_sa(now: Instant, vpn: &Vpn, held: &Held) -> MemberIpsecSa {
    let sa = &held.sa;
    MemberIpsecSa {
        tunnel_id: vpn.tunnel_id(&sa.selectors),
        algorithm: show::suite(sa.suite),
        spi: sa.spi.into(),
        direction: match sa.direction {
            Direction::Symmetric => SaDirection::BiDirectional,
            Direction::SenderOnly => SaDirection::Outbound,
            Direction::ReceiverOnly => SaDirection::Inbound,
        },
        hard_lifetime_secs: (sa.hard_expiry - now).as_secs(),
        detail: Some(MemberIpsecDetail {
            authentication_algorithm: show::authentication_algorithm(sa.suite),
            encryption_algorithm: show::encryption_algorithm(sa.suite),
            soft_lifetime_secs: (held.named && !held.succeeded).then(|| (sa.soft_expiry - now).as_secs()),
            activation_in_secs: (sa.activate_at - now).as_secs(),
            sender_ids: vpn
                .sender_ids
                .as_ref()
                .filter(|_| !sa.suite.wants_random_iv())
                .map(|ids| control::SenderIds { bits: ids.bits, ids: ids.spares.iter().copied().collect() }),
            anti_replay: show::anti_replay(
                vpn.pseudo_time.filter(|_| sa.carries_time).map(|(_, told)| told.window),
            ),
            policies: sa.selectors.iter().map(show::selector).collect(),
        }),
    }
}

fn kek_sa(now: Instant, vpn: &Vpn, held: &HeldKek) -> KekSecurityAssociation {
    let (initiator, responder) = held.kek.spi.cookies();
    KekSecurityAssociation {
        index: held.index,
        remote_address: held.server,
        state: SaState::Up,
        initiator_cookie: control::Cookie(initiator.0),
        responder_cookie: control::Cookie(responder.0),
        group: vpn.settings.name.clone(),
        group_id: vpn.settings.group_id,
        detail: Some(KekDetail {
            authentication_method: held.verifying.kind().to_string().to_uppercase(),
            signature_hash: show::hash(held.kek.hash).to_owned(),
            encryption_algorithm: show::cipher(held.kek.cipher).to_owned(),
            lifetime_remaining_secs: (held.ends - now).as_secs(),
            rekey_in_secs: None,
            communication: if held.multicast.is_some() { "Multicast" } else { "Unicast" }.to_owned(),
            sequence_number: held.sequence,
            pushes: held.pushes,
        }),
    }
}

fn inactive_tunnel(now: Instant, vpn: &Vpn) -> InactiveTunnel {
    let (doing, next) = match &vpn.state {
        State::Down => ("the external interface is down", None),
        State::Connecting(_) => ("phase 1 with the server is in progress", None),
        State::Pulling(_) => ("registration is in progress", None),
        State::Registered => ("the keys have expired", vpn.next_registration()),
        State::Waiting(until) => ("waiting for the next try", Some(*until)),
    };
    InactiveTunnel {
        tunnel_id: vpn.first_tunnel_id(),
        vpn: vpn.settings.name.clone(),
        group_id: vpn.settings.group_id,
        server: vpn.current_server().unwrap_or(Ipv4Addr::UNSPECIFIED.into()),
        port: vpn.gateway.server_port,
        reason: match &vpn.last_failure {
            Some(failure) => format!("{doing}; last failure: {failure}"),
            None => doing.to_owned(),
        },
        next_try_in_secs: next.map(|next| (next - now).as_secs()),
        counters: counters(vpn),
    }
}

fn counters(vpn: &Vpn) -> MemberCounters {
    MemberCounters {
        pull_succeeded: vpn.counters.pulls_succeeded,
        pull_failed: vpn.counters.pulls_refused,
        pull_timeout: vpn.counters.pulls_timed_out,
        pull_aborted: vpn.counters.pulls_aborted,
        server_failover: vpn.counters.failovers,
        delete_received: vpn.counters.deletes_received,
        exceed_maximum_keys: vpn.counters.exceeded_keys,
        unsupported_algorithm: vpn.counters.unsupported_algorithms,
        push_succeeded: vpn.counters.pushes_succeeded,
        push_failed: vpn.counters.rejections.total(),
        push_rejected: vpn.counters.rejections,
        push_acknowledged: vpn.counters.acknowledgements,
        recovery_probes: vpn.probes.sent,
        exceed_maximum_policies: vpn.counters.exceeded_policies,
    }
}
