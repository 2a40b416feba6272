//! One VPN of the member: its state, its tries, its keys, its counters.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use control::PushRejections;
use wire::selector::Selector;

use super::kek_set::KekSet;
use super::recovery::{Planned, Probes};
use super::sa_set::SaSet;
use super::settings::{GatewaySettings, VpnSettings};
use super::state::State;
use crate::phase1::AssociationId;
use crate::policy::SenderIdDownload;
use crate::pseudo_time::AntiReplay;
use crate::time::Instant;
use crate::timeline::TRIES_PER_SERVER;

/// Time between two tries while no key tells a shorter one.
const TRY_INTERVAL: Duration = Duration::from_secs(10);

/// A server that pushes and has no TEK is asked less often: it will push the first one.
const TRIES_BETWEEN_KEYLESS_PULLS: u32 = 6;

/// Tunnel numbers that a VPN remembers; beyond it policies that come and go get new numbers.
const TUNNEL_IDS: usize = 2048;

/// Counters of a VPN since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counters {
    pub(super) pulls_succeeded: u64,
    pub(super) pulls_refused: u64,
    pub(super) pulls_timed_out: u64,
    pub(super) pulls_aborted: u64,
    pub(super) failovers: u64,
    pub(super) deletes_received: u64,
    pub(super) unsupported_algorithms: u64,
    pub(super) exceeded_keys: u64,
    pub(super) exceeded_policies: u64,
    pub(super) pushes_succeeded: u64,
    pub(super) rejections: PushRejections,
    pub(super) acknowledgements: u64,
}

/// The sender ids of a PULL that were not used yet, and the TEKs that it named: they are for those and for later ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnSenderIds {
    pub(super) bits: u8,
    pub(super) spares: VecDeque<u32>,
    pub(super) spis: Vec<u32>,
}

impl OwnSenderIds {
    pub(super) fn new(download: &SenderIdDownload, spis: &[u32]) -> Self {
        Self { bits: download.bits, spares: download.ids.iter().copied().collect(), spis: spis.to_vec() }
    }
}

/// One VPN.
#[derive(Debug)]
pub(super) struct Vpn {
    pub(super) settings: VpnSettings,
    pub(super) name: Arc<str>,
    pub(super) gateway: GatewaySettings,
    pub(super) state: State,
    /// Address that the shell told with the interface, where the gateway has none.
    pub(super) local_address: Option<IpAddr>,
    /// Place in the server list of the server that is tried.
    pub(super) server: usize,
    /// Tries at that server so far.
    pub(super) tries: u32,
    /// When the present try is over.
    pub(super) try_ends: Instant,
    pub(super) last_pull: Option<Instant>,
    /// The server that gave the present keys.
    pub(super) registered_with: Option<IpAddr>,
    pub(super) sas: SaSet,
    pub(super) keks: KekSet,
    /// The multicast groups that the shell was told to be in, and from which server.
    pub(super) joined: BTreeMap<IpAddr, IpAddr>,
    /// When the server last spoke: a PULL, or a push of whatever contents.
    pub(super) last_heard: Option<Instant>,
    /// Our address in the last PULL.
    pub(super) pulled_from: Option<IpAddr>,
    /// That address was gone when addresses changed last.
    pub(super) is_displaced: bool,
    /// The link is down, and the data path has the SAs still.
    pub(super) is_held: bool,
    pub(super) counters: Counters,
    pub(super) last_failure: Option<String>,
    /// The phase 1 SA of the last registration, and how many there were over it.
    pub(super) pulled_over: Option<AssociationId>,
    pub(super) pulls_there: u64,
    /// Whether the server of the present keys showed our vendor id.
    pub(super) server_is_ours: bool,
    /// A registration that waits for its moment.
    pub(super) planned: Option<Planned>,
    pub(super) probes: Probes,
    /// The sender ids of the last PULL.
    pub(super) sender_ids: Option<OwnSenderIds>,
    /// The pseudo-time as last told, and when it was so.
    pub(super) pseudo_time: Option<(Instant, AntiReplay)>,
    known_interval: Option<Duration>,
    tunnels: BTreeMap<Arc<[Selector]>, u32>,
}

impl Vpn {
    pub(super) fn new(settings: VpnSettings, gateway: GatewaySettings) -> Self {
        Self {
            name: settings.name.as_str().into(),
            settings,
            gateway,
            state: State::Down,
            local_address: None,
            server: 0,
            tries: 0,
            try_ends: Instant::ORIGIN,
            last_pull: None,
            registered_with: None,
            sas: SaSet::default(),
            keks: KekSet::default(),
            joined: BTreeMap::new(),
            last_heard: None,
            pulled_from: None,
            is_displaced: false,
            is_held: false,
            counters: Counters::default(),
            last_failure: None,
            pulled_over: None,
            pulls_there: 0,
            server_is_ours: false,
            planned: None,
            probes: Probes::default(),
            sender_ids: None,
            pseudo_time: None,
            known_interval: None,
            tunnels: BTreeMap::new(),
        }
    }

    /// Whether a change of these settings needs a new registration; the rest is for display and the data path.
    pub(super) fn registers_alike(&self, settings: &VpnSettings, gateway: &GatewaySettings) -> bool {
        let asked = |settings: &VpnSettings| (settings.group_id, settings.group_id_form);
        asked(&self.settings) == asked(settings)
            && self.settings.gateway == settings.gateway
            && self.gateway == *gateway
    }

    /// The server that is tried, if there is any.
    pub(super) fn current_server(&self) -> Option<IpAddr> {
        self.gateway.servers().get(self.server).copied()
    }

    /// Time between two tries: what the lives of the keys demand that it has or last had.
    pub(super) fn try_interval(&self) -> Duration {
        self.known_interval.unwrap_or(TRY_INTERVAL)
    }

    /// Takes over what keys that are about to come demand.
    pub(super) fn expect_interval(&mut self, interval: Duration) {
        self.known_interval = Some(interval);
    }

    /// Counts a try that failed. After the last one at a server, the next server's turn has come: returns true then.
    pub(super) fn count_try(&mut self) -> bool {
        self.tries += 1;
        if self.tries < TRIES_PER_SERVER {
            return false;
        }
        self.tries = 0;
        let servers = self.gateway.servers().len().max(1);
        self.server = (self.server + 1) % servers;
        self.counters.failovers += u64::from(servers > 1);
        true
    }

    /// When a registered VPN registers again.
    pub(super) fn next_registration(&self) -> Option<Instant> {
        // Without any key there is nothing to wait for, unless a server that pushes has none; with keys, a PULL that brought
        // no successor is repeated. Neither faster than tries.
        let by_keys = [self.sas.next_registration(), self.keks.next_registration(), self.silence_due()];
        let wanted = match (self.sas.is_empty(), self.keks.newest()) {
            (true, None) => Some(Instant::ORIGIN),
            (true, Some(_)) => {
                self.last_pull.map(|last| last + self.try_interval() * TRIES_BETWEEN_KEYLESS_PULLS)
            }
            (false, _) => by_keys.into_iter().flatten().min(),
        };
        let by_life =
            wanted.map(|wanted| self.last_pull.map_or(wanted, |last| wanted.max(last + self.try_interval())));
        let planned = self.planned.map(|planned| planned.at);
        match (by_life, planned) {
            // What is planned after a loss of all keys is planned on purpose.
            (Some(_), Some(planned)) if self.sas.is_empty() => Some(planned),
            (Some(by_life), Some(planned)) => Some(by_life.min(planned)),
            (by_life, planned) => by_life.or(planned),
        }
    }

    /// The number printed as `ID` of the SAs with these policies.
    pub(super) fn tunnel_id(&self, selectors: &Arc<[Selector]>) -> u32 {
        self.tunnels.get(selectors).copied().unwrap_or_default()
    }

    /// The lowest number in use; 0 before the first registration.
    pub(super) fn first_tunnel_id(&self) -> u32 {
        self.tunnels.values().min().copied().unwrap_or_default()
    }

    /// Notes a registration over a phase 1 SA.
    pub(super) fn note_pull(&mut self, now: Instant, association: AssociationId) {
        self.last_pull = Some(now);
        self.last_heard = Some(now);
        self.learn_interval();
        self.pulls_there = if self.pulled_over == Some(association) { self.pulls_there + 1 } else { 1 };
        self.pulled_over = Some(association);
    }

    /// Derives the time between two tries from the keys. Without TEKs it is as urgent as it was with them.
    pub(super) fn learn_interval(&mut self) {
        let kek = self.keks.newest().map(|kek| kek.timeline.try_interval());
        let keys = self.sas.try_interval().or(self.known_interval);
        self.known_interval = keys.into_iter().chain(kek).min();
    }

    /// Gives every set of policies a number, `next` being the first free one.
    pub(super) fn number_tunnels(&mut self, next: &mut u32) {
        for held in self.sas.iter() {
            if self.tunnels.len() < TUNNEL_IDS && !self.tunnels.contains_key(&held.sa.selectors) {
                self.tunnels.insert(Arc::clone(&held.sa.selectors), *next);
                *next += 1;
            }
        }
    }

    /// The earliest moment at which something is to be done.
    pub(super) fn due(&self) -> Option<Instant> {
        let state = match &self.state {
            State::Down => None,
            State::Connecting(_) => Some(self.try_ends),
            State::Pulling(pull) => Some(pull.repeat_at.min(self.try_ends)),
            State::Registered => self.next_registration(),
            State::Waiting(until) => Some(*until),
        };
        state.into_iter().chain(self.sas.next_expiry()).chain(self.keks.next_expiry()).min()
    }
}
