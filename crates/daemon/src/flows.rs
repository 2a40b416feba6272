//! The engine's sessions as operators see them: for each flow its plain-text session, and for what is between two hosts a
//! tunnel session and its shadow.
//!
//! An SA has a tunnel session of its own from installation on, for whatever addresses.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use config::model::{Configuration, Vpn};
use control::{FlowSession, FlowWing, SessionKind};
use dataplane::{GroupSa, Instant, Session};

use crate::instances::shown;
use crate::interfaces::Interfaces;
use crate::netlink::Links;
use crate::protection::Protection;
use crate::scope;

const ESP: u8 = 50;

/// Numbers below are those of SAs; three for each session of a flow come after.
const FIRST_FLOW: u64 = 1 << 16;

/// What the sessions are told from.
pub struct Flows<'a> {
    /// The configuration in force.
    pub configuration: &'a Configuration,
    /// What is protected.
    pub protection: &'a Protection,
    /// Where external interfaces are.
    pub interfaces: &'a Interfaces,
    /// The routing instance that the sessions are of; `None`: the default one.
    pub instance: Option<&'a str>,
    /// The number before its first session's.
    pub numbers_from: u64,
    /// Its links.
    pub links: &'a Links,
    /// Now.
    pub now: Instant,
}

impl Flows<'_> {
    /// Everything, or with `only_tunnels` what is not a flow of hosts.
    pub fn sessions(&self, sessions: &[Session], only_tunnels: bool) -> Vec<FlowSession> {
        let mut shown = self.of_sas();
        let mut known: BTreeMap<(IpAddr, IpAddr, u32), usize> = BTreeMap::new();
        for session in sessions {
            let id = self.numbers_from + FIRST_FLOW + 3 * session.number;
            if !only_tunnels {
                shown.push(self.plain(id, session));
            }
            // Decrypted packets are those of the direction that does not leave.
            let inward = if session.is_outward { session.backward } else { session.forward };
            let spi = if inward.spi != 0 { inward.spi } else { session.forward.spi };
            let pair = (session.source, session.destination, spi);
            if let Some(&at) = known.get(&pair) {
                let wing = &mut shown[at].inward;
                wing.packets += inward.packets;
                wing.bytes += inward.octets;
                continue;
            }
            let external = self.external(session);
            let (upper, lower) = halves(spi);
            known.insert(pair, shown.len());
            let mut wing = FlowWing {
                source: session.source,
                source_port: upper,
                destination: session.destination,
                destination_port: lower,
                protocol: ESP,
                interface: external,
                packets: inward.packets,
                bytes: inward.octets,
            };
            let tunnel = |id, kind, inward| FlowSession {
                id,
                kind,
                policy: None,
                timeout_secs: None,
                inward,
                outward: None,
            };
            shown.push(tunnel(id + 1, SessionKind::Tunnel, wing.clone()));
            (wing.source_port, wing.destination_port, wing.packets, wing.bytes) = (0, 0, 0, 0);
            shown.push(tunnel(id + 2, SessionKind::Shadow, wing));
        }
        shown
    }

    /// The VPNs of the instance.
    fn vpns(&self) -> impl Iterator<Item = &Vpn> {
        let all = self.configuration.member.iter().flat_map(|member| &member.vpns);
        all.filter(|vpn| self.interfaces.instance(&vpn.name) == self.instance)
    }

    fn of_sas(&self) -> Vec<FlowSession> {
        let vpns = self.vpns();
        let live = |sa: &&std::sync::Arc<GroupSa>| sa.hard_expiry() > self.now;
        let sas = vpns.flat_map(|vpn| {
            let interface = vpn.external_interface.as_ref().map_or("N/A".to_owned(), |name| name.0.clone());
            self.protection.sas(&vpn.name).filter(live).map(move |sa| (interface.clone(), sa))
        });
        sas.enumerate()
            .map(|(position, (interface, sa))| {
                let (upper, lower) = halves(sa.spi());
                FlowSession {
                    id: self.numbers_from + position as u64 + 1,
                    kind: SessionKind::Tunnel,
                    policy: None,
                    timeout_secs: None,
                    inward: FlowWing {
                        source: Ipv4Addr::UNSPECIFIED.into(),
                        source_port: upper,
                        destination: Ipv4Addr::UNSPECIFIED.into(),
                        destination_port: lower,
                        protocol: ESP,
                        interface,
                        packets: sa.decrypted().packets(),
                        bytes: sa.decrypted().octets(),
                    },
                    outward: None,
                }
            })
            .collect()
    }

    fn plain(&self, id: u64, session: &Session) -> FlowSession {
        let external = self.external(session);
        let (forward, backward) = (&session.forward, &session.backward);
        let inside = |address| self.inside(address);
        let left = session.expires_at;
        let (comes_in, answers_in) = match session.is_outward {
            true => (inside(session.source), external),
            false => (external, inside(session.destination)),
        };
        FlowSession {
            id,
            kind: SessionKind::PlainText,
            policy: self.policy(session),
            timeout_secs: Some(left.as_micros().saturating_sub(self.now.as_micros()) / 1_000_000),
            inward: FlowWing {
                source: session.source,
                source_port: session.source_port,
                destination: session.destination,
                destination_port: session.destination_port,
                protocol: session.protocol,
                interface: comes_in,
                packets: forward.packets,
                bytes: forward.octets,
            },
            outward: Some(FlowWing {
                source: session.destination,
                source_port: session.destination_port,
                destination: session.source,
                destination_port: session.source_port,
                protocol: session.protocol,
                interface: answers_in,
                packets: backward.packets,
                bytes: backward.octets,
            }),
        }
    }

    /// The policy that a flow matches, in the words of `show security dynamic-policies`.
    fn policy(&self, session: &Session) -> Option<String> {
        let (source, destination) = (session.source, session.destination);
        let (source_port, destination_port) = (session.source_port, session.destination_port);
        for vpn in self.vpns() {
            let position = self.protection.policies(&vpn.name).position(|policy| {
                let ports = Some((source_port, destination_port));
                policy.matches(source, destination, session.protocol, ports)
                    || policy.mirror().matches(source, destination, session.protocol, ports)
            });
            if let Some(position) = position {
                let sequence = u32::try_from(position + 1).unwrap_or(u32::MAX);
                let scopes = scope::scopes(self.configuration, &vpn.name);
                return Some(match scopes.first() {
                    Some(scope) => scope.policy_name(sequence),
                    None => format!("{}-{sequence:04}", vpn.name),
                });
            }
        }
        None
    }

    /// The external interface of a session, by the name that the configuration has for it.
    fn external(&self, session: &Session) -> String {
        let link = self.links.by_index(session.interface.0);
        link.map_or("N/A".to_owned(), |link| shown(self.instance, &link.name))
    }

    /// The interface that leads to a host on one of our links.
    fn inside(&self, address: IpAddr) -> String {
        let link = self.links.iter().find(|link| link.addresses.iter().any(|net| net.contains(&address)));
        link.map_or("N/A".to_owned(), |link| shown(self.instance, &link.name))
    }
}

fn halves(spi: u32) -> (u16, u16) {
    ((spi >> 16) as u16, spi as u16)
}
