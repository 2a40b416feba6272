//! The group member: registers each of its VPNs with a key server and keeps it in keys.
//!
//! ```text
//!             interface up           phase 1 SA             message 4
//!      Down ──────────────▶ Connecting ────────▶ Pulling ─────────────▶ Registered
//!        ▲                    ▲     │ failed        │ failed                 │ the window of the
//!        │ interface down     │     ▼               ▼                        │ timeline, or no keys
//!   (any state)               └── Waiting ◀─────────┘                        ▼
//!                                                                        Connecting
//! ```
//!
//! A try is one interval (10 s, less with short lives) of asking one server; after three the next server is asked,
//! round and round. Unexpired SAs keep working throughout, and are held while a link is down ([`link`]). VPNs whose gateways
//! are the same share phase 1 SAs.
//!
//! [`durable`] keeps what a restarted member goes on with.
//!
//! [`Member`] routes; [`registration`] does the exchanges, [`vpn`] and [`state`] hold where a VPN stands, [`sa_set`]
//! its TEKs, [`kek_set`] its KEKs, [`push`] takes what the server sends unasked, [`recovery`] decides to ask again.

mod durable;
mod event;
mod kek_set;
mod link;
mod push;
mod recovery;
mod registration;
mod sa_set;
mod settings;
mod show;
mod state;
mod vpn;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crypto::Random;

use crate::Role;
use crate::log::{Entry, Facility, Journal, Level};
use crate::meter::Meter;
use crate::path::Path;
use crate::phase1::{self, AssociationId, Endpoint, OWN_VENDOR_IDS, Outcome};
use crate::time::Instant;

use push::Outbox;
use state::{State, Trigger};
use vpn::Vpn;

pub use event::{Direction, Event, GroupSa, Keys, RegistrationFailure, Removal};
pub use settings::{GatewaySettings, GroupIdForm, Settings, VpnSettings};
pub use state::{Phase, Trigger as StateTrigger};

/// The group member role.
pub struct Member {
    settings: Settings,
    endpoint: Endpoint,
    meter: Meter,
    random: Box<dyn Random + Send>,
    vpns: Vec<Vpn>,
    /// Phase 1 exchanges of ours that are not finished, by gateway and server.
    connecting: BTreeMap<(String, IpAddr), AssociationId>,
    /// The try interval that phase 1 was last told.
    phase1_interval: Option<Duration>,
    next_tunnel_id: u32,
    next_kek_index: u32,
    /// What a restarted member has to know is another than was told.
    changed: bool,
    outbox: Outbox,
    journal: Journal,
    events: VecDeque<Event>,
}

impl Member {
    /// A member none of whose interfaces is up.
    pub fn new(now: Instant, settings: Settings, mut random: Box<dyn Random + Send>) -> Self {
        let endpoint = Endpoint::new(phase1::Settings::default(), &mut *random);
        let mut member = Self {
            settings: Settings::default(),
            endpoint,
            meter: Meter::default(),
            random,
            vpns: Vec::new(),
            connecting: BTreeMap::new(),
            phase1_interval: None,
            next_tunnel_id: 1,
            next_kek_index: 1,
            changed: false,
            outbox: Outbox::default(),
            journal: Journal::default(),
            events: VecDeque::new(),
        };
        member.configure(now, settings);
        member
    }

    /// Applies a new configuration. A VPN that registers as before keeps running; one that is changed loses its SAs
    /// and registers anew, if its interface is up; a new one waits for [`Member::interface_up`].
    pub fn configure(&mut self, now: Instant, settings: Settings) {
        let mut old = std::mem::take(&mut self.vpns);
        let mut restart = Vec::new();
        for wanted in &settings.vpns {
            let Some(gateway) = canonical_gateway(&settings, &wanted.gateway) else {
                self.journal.record(
                    now,
                    Entry::new(Level::Warn, Facility::Config, "VPN without gateway")
                        .with("vpn", &wanted.name)
                        .with("gateway", &wanted.gateway),
                );
                continue;
            };
            let known = old.iter().position(|vpn| *vpn.name == *wanted.name);
            let vpn = match known.map(|position| old.remove(position)) {
                Some(mut vpn) if vpn.registers_alike(wanted, gateway) => {
                    vpn.settings = wanted.clone();
                    vpn
                }
                Some(mut vpn) => {
                    let was_up = !matches!(vpn.state, State::Down);
                    self.stop(&mut vpn, Removal::Reconfigured);
                    let mut fresh = Vpn::new(wanted.clone(), gateway.clone());
                    fresh.local_address = vpn.local_address;
                    if was_up {
                        restart.push(self.vpns.len());
                    }
                    fresh
                }
                None => Vpn::new(wanted.clone(), gateway.clone()),
            };
            self.vpns.push(vpn);
        }
        for mut removed in old {
            self.stop(&mut removed, Removal::Reconfigured);
        }
        self.settings = settings;
        self.phase1_interval = None;
        self.tune_phase1(now);
        self.drain_endpoint(now);
        for index in restart {
            self.begin_try(now, index);
        }
    }

    /// The addresses of the machine have changed. A VPN that registered from one that is gone registers again: its server
    /// would send rekeys there. Its SAs go on meanwhile.
    pub fn addresses_changed(&mut self, now: Instant, is_ours: impl Fn(IpAddr) -> bool) {
        let is_gone = |address: IpAddr| !address.is_unspecified() && !is_ours(address);
        let closed = self.endpoint.forget_addresses(now, is_gone);
        for index in 0..self.vpns.len() {
            let vpn = &mut self.vpns[index];
            vpn.is_displaced = vpn.pulled_from.is_some_and(is_gone);
            let affected = match &vpn.state {
                State::Pulling(pull) => closed.contains(&pull.association),
                State::Registered => vpn.is_displaced,
                State::Down | State::Connecting(_) | State::Waiting(_) => false,
            };
            if !affected {
                continue;
            }
            let entry = Entry::new(Level::Info, Facility::General, "our address is gone: registering again");
            self.journal.record(now, entry.with("vpn", &vpn.name));
            if matches!(vpn.state, State::Pulling(_)) {
                vpn.state.step(Trigger::Failed, State::Waiting(now));
            }
            vpn.restart_tries();
            self.begin_try(now, index);
        }
        self.drain_endpoint(now);
    }

    /// Registers a VPN again, keeping its SAs meanwhile; does nothing while it is busy with that. Returns whether the
    /// VPN exists and its interface is up.
    pub fn reregister(&mut self, now: Instant, vpn: &str) -> bool {
        let Some(index) = self.find(vpn) else { return false };
        match self.vpns[index].state {
            State::Down => false,
            State::Connecting(_) | State::Pulling(_) => true,
            State::Registered | State::Waiting(_) => {
                self.vpns[index].restart_tries();
                self.begin_try(now, index);
                true
            }
        }
    }

    /// The sender ids of a VPN run out: new ones come with the next PULL, which begins now unless the last one was a moment
    /// ago.
    pub fn need_sender_ids(&mut self, now: Instant, vpn: &str) {
        let Some(index) = self.find(vpn) else { return };
        let vpn = &mut self.vpns[index];
        let rested = vpn.last_pull.is_none_or(|last| now >= last + vpn.try_interval());
        if matches!(vpn.state, State::Registered) && rested {
            self.journal.record(
                now,
                Entry::new(Level::Info, Facility::PolicyManager, "sender ids run out: registering again")
                    .with("vpn", &vpn.name),
            );
            vpn.restart_tries();
            self.begin_try(now, index);
        }
    }

    /// Removes the SAs of one VPN, or of all, and registers again. Returns how many SAs that were.
    pub fn clear_ipsec(&mut self, now: Instant, vpn: Option<&str>) -> u64 {
        let mut cleared = 0;
        for index in 0..self.vpns.len() {
            if vpn.is_some_and(|name| name != &*self.vpns[index].name) {
                continue;
            }
            let spis = self.vpns[index].sas.clear();
            cleared += spis.len() as u64;
            self.removed(index, spis, Removal::Cleared);
            let name = self.vpns[index].name.clone();
            self.reregister(now, &name);
        }
        cleared
    }

    /// Forgets everything that a VPN, or each of them, got from its server, and registers it again: its policies stay
    /// closed meanwhile. Returns how many VPNs that were.
    pub fn clear_group(&mut self, now: Instant, vpn: Option<&str>) -> u64 {
        let wanted = |known: &Vpn| vpn.is_none_or(|name| name == &*known.name);
        let cleared = self.vpns.iter().filter(|known| wanted(known)).count() as u64;
        for index in (0..self.vpns.len()).filter(|&index| wanted(&self.vpns[index])).collect::<Vec<_>>() {
            let spis = self.vpns[index].sas.clear();
            self.removed(index, spis, Removal::Cleared);
            self.vpns[index].keks.clear();
            self.sync_multicast(index);
            let name = self.vpns[index].name.clone();
            self.reregister(now, &name);
        }
        cleared
    }

    /// Deletes phase 1 SAs: all, or those with a peer address or an index. Returns how many. SAs of groups stay.
    pub fn clear_ike(&mut self, now: Instant, peer: Option<IpAddr>, index: Option<u32>) -> u64 {
        let cleared = crate::server::phase1_clear(&mut self.endpoint, now, peer, index);
        self.drain_endpoint(now);
        cleared
    }

    /// Says goodbye to every server: phase 1 SAs are deleted and the servers told. Nothing is sent after that but
    /// what `poll_transmit` still holds.
    pub fn shut_down(&mut self, now: Instant) {
        for mut vpn in std::mem::take(&mut self.vpns) {
            self.stop(&mut vpn, Removal::InterfaceDown);
        }
        self.clear_ike(now, None, None);
    }

    /// Where a VPN stands.
    pub fn phase(&self, vpn: &str) -> Option<Phase> {
        self.find(vpn).map(|index| self.vpns[index].state.phase())
    }

    fn find(&self, vpn: &str) -> Option<usize> {
        self.vpns.iter().position(|candidate| &*candidate.name == vpn)
    }

    /// Ends what a VPN does and holds.
    fn stop(&mut self, vpn: &mut Vpn, reason: Removal) {
        if let State::Pulling(pull) = &vpn.state {
            self.endpoint.end_phase2(pull.association, pull.id);
        }
        vpn.state.step(Trigger::InterfaceDown, State::Down);
        vpn.is_held = false;
        vpn.restart_tries();
        vpn.last_failure = None;
        vpn.planned = None;
        vpn.probes = Default::default();
        vpn.keks.clear();
        for group in std::mem::take(&mut vpn.joined).into_keys() {
            self.events.push_back(Event::LeaveGroup { vpn: vpn.name.clone(), group });
        }
        vpn.sender_ids = None;
        let spis = vpn.sas.clear();
        self.changed |= !spis.is_empty();
        if !spis.is_empty() || reason == Removal::Reconfigured {
            self.events.push_back(Event::RemoveSas { vpn: vpn.name.clone(), spis, reason });
        }
    }

    /// Tells phase 1 how fast to send again: several times within the shortest try of any VPN.
    fn tune_phase1(&mut self, now: Instant) {
        let interval = self.vpns.iter().map(Vpn::try_interval).min();
        if interval.is_some() && interval == self.phase1_interval {
            return;
        }
        self.phase1_interval = interval;
        let mut settings = endpoint_settings(&self.settings);
        if let Some(interval) = interval {
            let retransmission = &mut settings.retransmission;
            retransmission.longest = retransmission.longest.min(interval);
            retransmission.first = retransmission.first.min(interval / 2);
            retransmission.shortest = retransmission.shortest.min(retransmission.first);
        }
        self.endpoint.configure(now, settings);
    }

    /// Forgets keys whose life is over.
    fn expire(&mut self, now: Instant, index: usize) {
        let vpn = &mut self.vpns[index];
        let gone = vpn.sas.expire(now);
        let keks = vpn.keks.expire(now);
        self.changed |= keks > 0;
        self.removed(index, gone.spis, Removal::Expired);
        if gone.policies_gone && !self.vpns[index].sas.is_empty() {
            self.install(index);
        }
        if !gone.bereft.is_empty() && !self.vpns[index].sas.is_empty() {
            self.reregister_soon(now, index);
        }
        if keks > 0 {
            self.sync_multicast(index);
            self.journal.record(
                now,
                Entry::new(Level::Info, Facility::Timer, "KEK expired")
                    .with("vpn", &self.vpns[index].name)
                    .with("left", self.vpns[index].keks.iter().count()),
            );
        }
    }

    fn removed(&mut self, index: usize, spis: Vec<u32>, reason: Removal) {
        if !spis.is_empty() {
            self.changed = true;
            let vpn = self.vpns[index].name.clone();
            self.events.push_back(Event::RemoveSas { vpn, spis, reason });
        }
    }

    fn drain_endpoint(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                phase1::Event::Established { association, .. } => {
                    if let Some(sa) = self.endpoint.association(association) {
                        self.meter.established(sa);
                    }
                    self.established(now, association);
                }
                phase1::Event::Failed { association, failure, .. } => {
                    self.phase1_failed(now, association, failure)
                }
                phase1::Event::Closed { association, reason, .. } => {
                    self.phase1_closed(now, association, reason)
                }
                phase1::Event::Notified { association, notification } => {
                    self.notified(now, association, &notification);
                }
                phase1::Event::PerhapsForgotten { association } => self.perhaps_forgotten(now, association),
                // Outside GROUPKEY-PUSH the RFC gives a server no way to delete group SAs; a Delete under phase 1
                // speaks of SAs of phase 1's peers, which group SAs are not.
                phase1::Event::Deleted { association, deletion } => self.journal.record(
                    now,
                    Entry::new(Level::Info, Facility::Ike, "a Delete outside GROUPKEY-PUSH is ignored")
                        .with("association", association.index())
                        .with("protocol", deletion.protocol),
                ),
            }
        }
    }
}

impl Role for Member {
    type Event = Event;

    fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        // A push has cookies of its own and belongs to no phase 1 SA.
        if crate::push::kek_spi_of(datagram).is_some() {
            return self.handle_push(now, path, datagram);
        }
        self.meter.received(datagram);
        let outcome = self.endpoint.handle_datagram(now, path, datagram, &mut *self.random);
        self.drain_endpoint(now);
        match outcome {
            Outcome::Handled => {}
            Outcome::Phase2(message) => {
                self.handle_phase2(now, &message);
                self.drain_endpoint(now);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.outbox.handle_timeout(now);
        self.endpoint.handle_timeout(now);
        self.drain_endpoint(now);
        for index in 0..self.vpns.len() {
            self.expire(now, index);
            if self.vpns[index].due().is_some_and(|due| due <= now) {
                self.handle_vpn_timeout(now, index);
            }
        }
        self.drain_endpoint(now);
    }

    fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> Option<Path> {
        if let Some((path, message)) = self.outbox.poll() {
            buffer.clear();
            buffer.extend_from_slice(&message);
            return Some(path);
        }
        let path = self.endpoint.poll_transmit(buffer)?;
        self.meter.sent(buffer);
        Some(path)
    }

    fn poll_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        let event = event.or_else(|| self.endpoint.poll_log().map(Event::Log));
        event.or_else(|| self.journal.poll().map(Event::Log))
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let vpns = self.vpns.iter().filter_map(Vpn::due);
        vpns.chain(self.endpoint.poll_timeout()).chain(self.outbox.poll_timeout()).min()
    }
}

impl Vpn {
    /// The next registration begins with the first server again.
    fn restart_tries(&mut self) {
        self.server = 0;
        self.tries = 0;
    }

    fn path(&self, server: IpAddr) -> Path {
        let local = self.gateway.phase1.local_address.or(self.local_address);
        let unspecified = match server {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        Path {
            local: SocketAddr::new(local.unwrap_or(unspecified), self.gateway.local_port),
            remote: SocketAddr::new(server, self.gateway.server_port),
        }
    }
}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("vpns", &self.vpns).finish_non_exhaustive()
    }
}

/// The first gateway that equals the named one but for its name: all VPNs of such gateways use its phase 1 SAs.
fn canonical_gateway<'a>(settings: &'a Settings, name: &str) -> Option<&'a GatewaySettings> {
    let named = settings.gateways.iter().find(|gateway| gateway.phase1.name == name)?;
    settings.gateways.iter().find(|candidate| {
        let mut renamed = (*candidate).clone();
        renamed.phase1.name.clone_from(&named.phase1.name);
        renamed == *named
    })
}

fn endpoint_settings(settings: &Settings) -> phase1::Settings {
    phase1::Settings {
        gateways: settings.gateways.iter().map(|gateway| gateway.phase1.clone()).collect(),
        vendor_ids: OWN_VENDOR_IDS.map(Vec::from).to_vec(),
        retransmission: settings.retransmission,
    }
}
