//! Why a member registers again before the life of its keys asks for it: ESP under a key that it lacks, a Delete that
//! leaves it without one, a server that fell silent or has perhaps forgotten it.

use std::time::Duration;

use super::Member;
use super::state::{Awaiting, State, Trigger};
use super::vpn::Vpn;
use crate::log::{Entry, Facility, Level};
use crate::phase1::AssociationId;
use crate::time::Instant;
use crate::timeline::{EVICTION_SPREAD, TRIES_PER_SERVER};

/// A probe begins at a random point within this time: others lack the key too, and every moment costs packets.
const PROBE_SPREAD: Duration = Duration::from_secs(1);

/// Longest wait between two probes that brought nothing: whoever can send us datagrams can cause probes.
const LONGEST_PROBE_WAIT: Duration = Duration::from_secs(300);

/// A registration that is decided and waits for its moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) at: Instant,
    /// When it was decided: a PULL that began earlier does not replace it.
    decided: Instant,
}

/// The rate limit of recovery probes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Probes {
    not_before: Option<Instant>,
    /// The wait after the next one; doubled by each probe that brings no new key.
    wait: Option<Duration>,
    /// Whether the registration in progress is a probe.
    pub(super) running: bool,
    pub(super) sent: u64,
}

impl Member {
    /// The data path saw ESP for policies of the VPN with an SPI that it does not know: others may have a key that we
    /// lack. The VPN registers again, at once but for a short random wait, and not too often.
    ///
    /// It does with a server of ours, whose members never send with a key that all can have; with others only where
    /// `recovery-probe` is configured.
    pub fn unknown_spi(&mut self, now: Instant, vpn: &str) {
        let Some(index) = self.find(vpn) else { return };
        let vpn = &self.vpns[index];
        let probes = vpn.settings.recovery_probe || vpn.server_is_ours;
        let waiting = vpn.planned.is_some_and(|planned| planned.at <= now + PROBE_SPREAD);
        let limited = vpn.probes.not_before.is_some_and(|moment| now < moment);
        if !probes || waiting || limited || !matches!(vpn.state, State::Registered) {
            return;
        }
        let at = now + self.random_within(PROBE_SPREAD);
        let vpn = &mut self.vpns[index];
        let shortest = vpn.try_interval() * TRIES_PER_SERVER;
        let wait = vpn.probes.wait.unwrap_or(shortest).max(shortest);
        vpn.probes = Probes {
            not_before: Some(at + wait),
            wait: Some((wait * 2).min(LONGEST_PROBE_WAIT)),
            running: true,
            sent: vpn.probes.sent + 1,
        };
        vpn.plan(now, at);
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::PolicyManager, "ESP under an unknown key: registering again")
                .with("vpn", &vpn.name),
        );
    }

    /// Registers again at a random point of the time in which members do so after an eviction.
    pub(super) fn reregister_soon(&mut self, now: Instant, index: usize) {
        let at = now + self.random_within(EVICTION_SPREAD);
        self.vpns[index].plan(now, at);
    }

    /// Somebody says that the server does not know a phase 1 SA. If it is the server, it has started anew, and a question
    /// under that SA is asked in vain; if it is somebody else, a phase 1 exchange too many is all that he gets: the SA stays.
    /// One that was made for the question is known to the server whatever anybody says.
    pub(super) fn perhaps_forgotten(&mut self, now: Instant, association: AssociationId) {
        for index in 0..self.vpns.len() {
            let vpn = &self.vpns[index];
            let asks_in_vain = matches!(
                &vpn.state,
                State::Pulling(pull)
                    if pull.association == association && !pull.fresh && matches!(pull.awaiting, Awaiting::Message2)
            );
            let Some(server) = vpn.current_server().filter(|_| asks_in_vain) else { continue };
            let gateway = vpn.gateway.phase1.name.clone();
            let path = vpn.path(server);
            let key = (gateway, server);
            let connecting = match self.connecting.get(&key) {
                Some(connecting) => *connecting,
                None => match self.endpoint.connect(now, &key.0, path, &mut *self.random) {
                    Ok(connecting) => connecting,
                    Err(_) => continue,
                },
            };
            self.connecting.insert(key, connecting);
            self.end_pull(index);
            let vpn = &mut self.vpns[index];
            vpn.try_ends = now + vpn.try_interval();
            vpn.state.step(Trigger::Failed, State::Waiting(now));
            vpn.state.step(Trigger::Begin, State::Connecting(Some(connecting)));
            self.journal.record(
                now,
                Entry::new(Level::Info, Facility::Ike, "the server may have forgotten us: asking anew")
                    .with("vpn", &self.vpns[index].name)
                    .with("server", server),
            );
        }
    }

    /// A random part of `duration`.
    pub(super) fn random_within(&mut self, duration: Duration) -> Duration {
        let mut octets = [0; 4];
        self.random.fill(&mut octets);
        crate::timeline::scale(duration, u32::from_be_bytes(octets))
    }
}

impl Vpn {
    /// Registers at `at`, if nothing earlier is planned.
    fn plan(&mut self, now: Instant, at: Instant) {
        let at = self.planned.map_or(at, |planned| planned.at.min(at));
        self.planned = Some(Planned { at, decided: now });
    }

    /// A push brought what a probe was to ask for.
    pub(super) fn recovered_by_push(&mut self) {
        self.probes.wait = None;
    }

    /// When the server has been silent for so long that the member asks: so many of its signs of life are missing, and
    /// members do not ask all at once.
    pub(super) fn silence_due(&self) -> Option<Instant> {
        let kek = self.keks.newest()?;
        let interval = kek.heartbeat.filter(|_| self.settings.heartbeat_threshold > 0)?;
        Some(self.last_heard? + interval * self.settings.heartbeat_threshold + kek.spread(EVICTION_SPREAD))
    }

    /// Notes that a registration which began at `started` has succeeded, and whether it brought a key not held before.
    pub(super) fn recovered(&mut self, started: Instant, new_key: bool) {
        if self.planned.is_some_and(|planned| planned.decided <= started) {
            self.planned = None;
        }
        if std::mem::take(&mut self.probes.running) && new_key {
            self.probes.wait = None;
        }
    }
}
