//! The key server: groups, their TEKs, and the members that register.
//!
//! ```text
//!   datagram → phase1::Endpoint → GROUPKEY-PULL message → registration → group
//!   time     → phase1::Endpoint, TEKs of each group (timeline), unfinished registrations
//! ```
//!
//! [`Server`] only routes: [`registration`] owns the exchanges, [`group`] a group with its TEKs ([`tek`]), its KEKs
//! ([`kek`]) and [`members`]. Nothing of a group changes before HASH(3) has proved the member live.
//!
//! Where the server pushes, [`rekey`] says what is told to whom until when, [`rounds`] sends it, [`acknowledgement`]
//! notes who has it, [`eviction`] and [`change`] are what commands do, and [`progress`] measures them.
//!
//! Where several servers share their groups, [`cluster`] says which of them does what.

mod acknowledgement;
mod change;
mod cluster;
mod departed;
mod durable;
mod event;
mod eviction;
mod group;
mod kek;
mod key_material;
#[cfg(test)]
mod many_members;
mod members;
mod owing;
mod progress;
mod registration;
mod rekey;
mod rounds;
mod sender_ids;
mod settings;
mod show;
mod tek;
mod transmit;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::Ipv4Addr;

use crypto::Random;
use wire::registry::ExchangeType;

use crate::Role;
use crate::log::{Entry, Facility, Journal, Level};
use crate::meter::Meter;
use crate::path::Path;
use crate::phase1::{self, Endpoint, OWN_VENDOR_IDS, Outcome};
use crate::policy::MessageSize;
use crate::pseudo_time::{PseudoClock, PseudoTime};
use crate::push::{self, AcknowledgementError, KekSpi};
use crate::time::Instant;

use group::{Group, Note, Numbers};
use registration::Registrations;

pub use cluster::{Cooperation, ForwardedEviction, Standing, heard};
pub use durable::{Change, Record, RestoreError};
pub use event::Event;
pub use eviction::{Eviction, EvictionError, EvictionNotice};
pub use progress::Cause;
pub use settings::{Communication, GroupSettings, IpsecSaSettings, MatchPolicy, PushSettings, Settings};
pub use transmit::{BATCH, PushBatch, Recipients};

/// Exchange type of a vendor's own acknowledgements, which are unpublished: they are counted and not answered.
const VENDOR_ACKNOWLEDGEMENT: ExchangeType = ExchangeType(34);

/// The key server role.
pub struct Server {
    settings: Settings,
    endpoint: Endpoint,
    meter: Meter,
    random: Box<dyn Random + Send>,
    groups: Vec<Group>,
    /// Groups that are no more, as long as their members are being told.
    dissolved: Vec<Group>,
    by_id: BTreeMap<u32, usize>,
    by_address: BTreeMap<Ipv4Addr, usize>,
    numbers: Numbers,
    /// The group of each KEK that acknowledgements may name.
    kek_spis: BTreeMap<KekSpi, usize>,
    /// What `kek_spis` is up to date with.
    keks_known: u32,
    /// Acknowledgements that belong to no group, by reason.
    stray_acknowledgements: [u64; AcknowledgementError::REASONS.len()],
    vendor_acknowledgements: u64,
    registrations: Registrations,
    groups_due: Option<Instant>,
    journal: Journal,
    events: VecDeque<Event>,
    outbox: VecDeque<PushBatch>,
    /// Records of groups that are not configured any more.
    forgotten: Vec<String>,
    /// Which one of several servers this is, and what it may do.
    cooperation: Option<Cooperation>,
    standing: Standing,
    /// What the servers share is out of reach.
    isolated: bool,
    /// News told in this life.
    news_told: u64,
    /// Evictions asked for in this life, and those that are not answered: group and number.
    evictions_asked: u64,
    evictions_awaited: VecDeque<(u32, u64)>,
}

/// Octets of the messages that carry the policy and the keys of a group, at their largest. What does not
/// [fit](MessageSize::fits) cannot be handed out.
pub fn message_size(group: &GroupSettings) -> MessageSize {
    let selectors: Vec<Vec<_>> =
        group.ipsec_sas.iter().map(|sa| sa.policies.iter().map(|policy| policy.selector).collect()).collect();
    MessageSize::of(
        group.id_length,
        group.push.as_ref().map(|push| &push.signing_key),
        group.ipsec_sas.iter().zip(&selectors).map(|(sa, selectors)| (sa.suite, selectors.as_slice())),
    )
}

impl Server {
    /// A server with fresh TEKs for every group.
    pub fn new(now: Instant, settings: Settings, mut random: Box<dyn Random + Send>) -> Self {
        let endpoint = Endpoint::new(endpoint_settings(&Settings::default()), &mut *random);
        let mut server = Self {
            settings: Settings::default(),
            endpoint,
            meter: Meter::default(),
            random,
            groups: Vec::new(),
            dissolved: Vec::new(),
            by_id: BTreeMap::new(),
            by_address: BTreeMap::new(),
            numbers: Numbers::default(),
            kek_spis: BTreeMap::new(),
            keks_known: 0,
            stray_acknowledgements: Default::default(),
            vendor_acknowledgements: 0,
            registrations: Registrations::default(),
            groups_due: None,
            journal: Journal::default(),
            events: VecDeque::new(),
            outbox: VecDeque::new(),
            forgotten: Vec::new(),
            cooperation: None,
            standing: Standing::Alone,
            isolated: false,
            news_told: 0,
            evictions_asked: 0,
            evictions_awaited: VecDeque::new(),
        };
        server.configure(now, settings);
        server
    }

    /// Applies a new configuration. Groups, keys and phase 1 SAs that it does not touch keep running.
    ///
    /// A changed `ipsec-sa` takes effect with the next TEK, which is made and pushed at once where the server pushes. A
    /// member whose gateway is no longer listed is evicted gracefully.
    pub fn configure(&mut self, now: Instant, settings: Settings) {
        self.endpoint.configure(now, endpoint_settings(&settings));
        if self.standing == Standing::Following {
            return self.configure_following(now, settings);
        }
        self.settings.epoch = settings.epoch;
        let mut old = std::mem::take(&mut self.groups);
        for wanted in &settings.groups {
            let known = old
                .iter()
                .position(|group| (&group.settings.name, group.settings.id) == (&wanted.name, wanted.id));
            let group = match known {
                Some(position) => {
                    let mut group = old.swap_remove(position);
                    let mut wanted = wanted.clone();
                    group.adapt(&mut wanted);
                    if group.settings != wanted {
                        let changed = group.change(now, wanted.clone(), &mut *self.random, &mut self.numbers);
                        self.journal.record(
                            now,
                            Entry::new(Level::Info, Facility::Config, "group changed")
                                .with("group", &wanted.name)
                                .with("members-removed", changed.removed),
                        );
                    }
                    group
                }
                None => self.new_leading_group(wanted.clone()),
            };
            self.groups.push(group);
        }
        for mut removed in old {
            self.forget_records(&removed);
            // Of several servers the others may have it on.
            let is_alone = self.standing == Standing::Alone;
            let is_told = is_alone && !removed.rests && removed.dissolve(now, &mut self.numbers);
            removed.forget(&mut self.numbers.spis);
            self.journal.record(
                now,
                Entry::new(Level::Info, Facility::Config, "group removed")
                    .with("group", &removed.settings.name)
                    .with("members-told", is_told),
            );
            if is_told {
                self.dissolved.push(removed);
            }
        }
        // Nobody of a group that is there again is told to forget its keys.
        self.dissolved.retain(|gone| settings.groups.iter().all(|group| group.id != gone.settings.id));
        self.settings = settings;
        self.index_groups();
        self.bid_farewell(now);
        for index in 0..self.groups.len() {
            if !self.groups[index].rests {
                self.groups[index].advance(now, &mut *self.random, &mut self.numbers);
            }
            self.collect_notes(now, index);
        }
        self.update_due(now);
        self.drain_endpoint(now);
    }

    /// Lets groups rest that another server is to serve: they hear and say nothing, as if the server were down. Those that
    /// rested and do no longer go on with the keys that they have, as far as those live.
    pub fn set_resting(&mut self, now: Instant, rests: impl Fn(&str) -> bool) {
        for index in 0..self.groups.len() {
            let group = &mut self.groups[index];
            let rests = rests(&group.settings.name);
            if group.rests == rests {
                continue;
            }
            group.rests = rests;
            let words = if rests { "group rests" } else { "group served again" };
            let entry = Entry::new(Level::Info, Facility::General, words);
            self.journal.record(now, entry.with("group", &group.settings.name));
            if !rests {
                group.advance(now, &mut *self.random, &mut self.numbers);
                group.resume(now, Vec::new());
                group.run_rounds(now);
            }
            self.collect_notes(now, index);
        }
        if !self.groups.is_empty() && self.groups.iter().all(|group| group.rests) {
            self.outbox.clear();
        }
        self.update_due(now);
    }

    /// Sets the counters of one group, or of all, to zero. Returns how many groups that were.
    pub fn clear_statistics(&mut self, group: Option<&str>) -> u64 {
        let mut cleared = 0;
        for candidate in &mut self.groups {
            if group.is_none_or(|name| name == candidate.settings.name) {
                candidate.statistics = group::Statistics::default();
                candidate.clear_elsewhere();
                candidate.members.clear_statistics();
                cleared += 1;
            }
        }
        cleared
    }

    /// Deletes phase 1 SAs: all, or those with a peer address or an index. Returns how many.
    pub fn clear_ike(&mut self, now: Instant, peer: Option<std::net::IpAddr>, index: Option<u32>) -> u64 {
        let cleared = phase1_clear(&mut self.endpoint, now, peer, index);
        self.drain_endpoint(now);
        cleared
    }

    /// Takes the next message to many. The shell drains it after every call, like `poll_transmit` and after it.
    #[must_use]
    pub fn poll_push(&mut self) -> Option<PushBatch> {
        self.outbox.pop_front()
    }

    /// Says goodbye to every peer: phase 1 SAs are deleted and the peers told. Group SAs live on at the members.
    pub fn shut_down(&mut self, now: Instant) {
        self.clear_ike(now, None, None);
    }

    fn index_groups(&mut self) {
        self.by_id.clear();
        self.by_address.clear();
        for (index, group) in self.groups.iter().enumerate() {
            self.by_id.entry(group.settings.id).or_insert(index);
            if let Some(address) = group.settings.multicast_group {
                self.by_address.entry(address).or_insert(index);
            }
        }
        self.index_keks();
    }

    fn index_keks(&mut self) {
        let groups = self.groups.iter().enumerate();
        self.kek_spis =
            groups.flat_map(|(index, group)| group.keks.iter().map(move |kek| (kek.spi(), index))).collect();
    }

    /// Takes what a group has to send and to say.
    fn collect_notes(&mut self, now: Instant, index: usize) {
        let group = &mut self.groups[index];
        self.outbox.extend(group.outbox.drain(..));
        for note in group.notes.drain(..) {
            match note {
                Note::Event(event) => self.events.push_back(event),
                Note::Log(entry) => self.journal.record(now, entry),
            }
        }
    }

    /// Tells members of groups that are no more.
    fn bid_farewell(&mut self, now: Instant) {
        for group in &mut self.dissolved {
            group.run_rounds(now);
            self.outbox.extend(group.outbox.drain(..));
        }
        self.dissolved.retain(|group| group.next_farewell().is_some());
    }

    /// Brings what depends on all groups up to date.
    fn update_due(&mut self, now: Instant) {
        if self.keks_known != self.numbers.last_kek {
            self.keks_known = self.numbers.last_kek;
            self.index_keks();
        }
        let farewells = self.dissolved.iter().filter_map(Group::next_farewell);
        self.groups_due = self.groups.iter().filter_map(|group| group.due(now)).chain(farewells).min();
    }

    fn drain_endpoint(&mut self, now: Instant) {
        while let Some(event) = self.endpoint.poll_event() {
            match event {
                phase1::Event::Closed { association, .. } => {
                    self.meter.closed(association);
                    self.abandon_registrations(now, association);
                }
                // A member that refuses our policy says so and deletes phase 1; the notice is what is worth a line.
                phase1::Event::Notified { association, notification } => {
                    let peer = self.endpoint.association(association).map(|sa| sa.path().remote.to_string());
                    self.journal.record(
                        now,
                        Entry::new(Level::Info, Facility::Ike, "notification from a member")
                            .with("peer", peer.unwrap_or_default())
                            .with("type", notification.kind),
                    );
                }
                phase1::Event::Established { association, .. } => {
                    if let Some(sa) = self.endpoint.association(association) {
                        self.meter.established(sa);
                    }
                }
                phase1::Event::Failed { .. }
                | phase1::Event::Deleted { .. }
                // We start no phase 1, so there is nothing to do sooner.
                | phase1::Event::PerhapsForgotten { .. } => {}
            }
        }
    }
}

impl Role for Server {
    type Event = Event;

    fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        if push::exchange_of(datagram) == Some(ExchangeType::GROUPKEY_PUSH_ACK) {
            return self.handle_acknowledgement(now, path, datagram);
        }
        if push::exchange_of(datagram) == Some(VENDOR_ACKNOWLEDGEMENT) {
            self.vendor_acknowledgements += 1;
            return;
        }
        self.meter.received(datagram);
        let outcome = self.endpoint.handle_datagram(now, path, datagram, &mut *self.random);
        self.drain_endpoint(now);
        match outcome {
            Outcome::Handled => {}
            Outcome::Phase2(message) => self.handle_phase2(now, message),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.endpoint.handle_timeout(now);
        self.drain_endpoint(now);
        if self.groups_due.is_some_and(|due| due <= now) {
            for group in &mut self.groups {
                if group.due(now).is_none_or(|due| due > now) {
                    continue;
                }
                if group.follows() {
                    group.pass_time(now, &mut self.numbers);
                } else {
                    group.advance(now, &mut *self.random, &mut self.numbers);
                }
            }
            for index in 0..self.groups.len() {
                self.collect_notes(now, index);
            }
            self.bid_farewell(now);
            self.update_due(now);
        }
        self.expire_registrations(now);
    }

    fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> Option<Path> {
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
        [self.endpoint.poll_timeout(), self.groups_due, self.registrations.due()].into_iter().flatten().min()
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("groups", &self.groups.len()).finish_non_exhaustive()
    }
}

fn endpoint_settings(settings: &Settings) -> phase1::Settings {
    phase1::Settings {
        gateways: settings.gateways.clone(),
        vendor_ids: OWN_VENDOR_IDS.map(Vec::from).to_vec(),
        retransmission: settings.retransmission,
    }
}

/// The pseudo-time of a group that begins now: POSIX time.
fn beginning(settings: &Settings) -> PseudoClock {
    let micros = u64::try_from(settings.epoch.as_micros()).unwrap_or(u64::MAX);
    PseudoClock::new(Instant::ORIGIN, PseudoTime::from_micros(micros))
}

/// Deletes the phase 1 SAs that both conditions name.
pub(crate) fn phase1_clear(
    endpoint: &mut Endpoint,
    now: Instant,
    peer: Option<std::net::IpAddr>,
    index: Option<u32>,
) -> u64 {
    let chosen: Vec<_> = endpoint
        .associations()
        .filter(|sa| peer.is_none_or(|peer| sa.path().remote.ip() == peer))
        .filter(|sa| index.is_none_or(|index| sa.id().index() == u64::from(index)))
        .map(|sa| sa.id())
        .collect();
    for association in &chosen {
        endpoint.delete(now, *association);
    }
    chosen.len() as u64
}
