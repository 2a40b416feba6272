//! One group: its TEKs, its KEKs, its members, its counters, and what is being done to bring the former to the latter.
//!
//! What happens over time is in [`rekey`](super::rekey) (what is told to whom until when), [`rounds`](super::rounds) (a
//! round), [`acknowledgement`](super::acknowledgement), [`eviction`](super::eviction), [`change`](super::change) (of settings) and
//! [`progress`](super::progress) (how far a command got).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crypto::Random;

use super::cluster::{Cooperating, Newcomer};
use super::event::Event;
use super::kek::Kek;
use super::members::Members;
use super::progress::{Progress, Report};
use super::rekey::Rekey;
use super::sender_ids::SenderIds;
use super::settings::{GroupSettings, IpsecSaSettings};
use super::tek::{IpsecSa, SHORTEST_LIFE_TOLD};
use super::transmit::PushBatch;
use crate::log::Entry;
use crate::path::Path;
use crate::policy::{GroupPolicy, PendingTimes, SenderIdDownload, Template, ToldTime};
use crate::pseudo_time::PseudoClock;
use crate::pull::Refusal;
use crate::push::AcknowledgementError;
use crate::time::Instant;

/// Refusals that `show` remembers in words.
const RECENT_FAILURES: usize = 8;

/// Counters of a group since the start or the last `clear`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Statistics {
    pub(super) pulls_succeeded: u64,
    pub(super) pulls_failed: u64,
    pub(super) threshold_exceeded: u64,
    pub(super) pushes_sent: u64,
    pub(super) pushes_acknowledged: u64,
    pub(super) pushes_unacknowledged: u64,
    /// In the order of [`AcknowledgementError::REASONS`].
    pub(super) acknowledgements_refused: [u64; AcknowledgementError::REASONS.len()],
    pub(super) recent_failures: VecDeque<String>,
}

impl Statistics {
    /// Adds what another server counted.
    pub(super) fn add(&mut self, other: &Statistics) {
        self.pulls_succeeded += other.pulls_succeeded;
        self.pulls_failed += other.pulls_failed;
        self.threshold_exceeded += other.threshold_exceeded;
        self.pushes_sent += other.pushes_sent;
        self.pushes_acknowledged += other.pushes_acknowledged;
        self.pushes_unacknowledged += other.pushes_unacknowledged;
        for (sum, count) in self.acknowledgements_refused.iter_mut().zip(other.acknowledgements_refused) {
            *sum += count;
        }
        self.recent_failures.extend(other.recent_failures.iter().cloned());
    }
}

/// Numbers of all groups together.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// SPIs of all live TEKs.
    pub(super) spis: BTreeSet<u32>,
    /// Index of the last KEK made.
    pub(super) last_kek: u32,
}

/// What a group has to say to the shell.
#[derive(Debug)]
pub(super) enum Note {
    Event(Event),
    Log(Entry),
}

/// What is handed out to a registering member, and what it is up to date with.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) template: Template,
    /// Index of the KEK in it; 0 for none.
    pub(super) kek: u32,
    /// The last rekey that had begun then.
    pub(super) rekey: u64,
    /// How often the group had started over then.
    fresh_starts: u64,
}

/// Why there are no sender ids for an offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SenderIdShortage {
    /// Its keys have been dropped.
    Outdated,
    /// All have been given: everything has to start over.
    Exhausted,
    /// The server that makes the keys has been asked for more.
    Awaited,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) settings: GroupSettings,
    pub(super) gateways: BTreeSet<Arc<str>>,
    /// Another server is to serve it: it hears and says nothing, as if it were down.
    pub(super) rests: bool,
    pub(super) sas: Vec<IpsecSa>,
    /// Oldest first.
    pub(super) keks: Vec<Kek>,
    pub(super) members: Members,
    pub(super) statistics: Statistics,
    /// Rekeys whose rounds go on, oldest first.
    pub(super) rekeys: Vec<Rekey>,
    pub(super) last_rekey: u64,
    /// When the whole group must hear from us again.
    pub(super) heartbeat_at: Option<Instant>,
    /// The last command that asked for new keys, while it is not known that everybody uses them.
    pub(super) progress: Option<Progress>,
    pub(super) last_report: Option<Report>,
    pub(super) outbox: Vec<PushBatch>,
    pub(super) notes: Vec<Note>,
    /// What is handed out now: without private attributes, and with them.
    offers: [Option<Arc<Offer>>; 2],
    pub(super) distributed: bool,
    pub(super) sender_ids: SenderIds,
    pub(super) pseudo_clock: PseudoClock,
    /// How often all keys were dropped for new ones.
    pub(super) fresh_starts: u64,
    /// Whether keys, or what is to be deleted, are not durable as they are.
    keys_changed: bool,
    /// Where several servers share the group.
    pub(super) cooperating: Option<Box<Cooperating>>,
}

/// Whether there is something that its TEKs protect.
pub(super) fn is_active(sa: &IpsecSaSettings) -> bool {
    !sa.policies.is_empty()
}

pub(super) fn gateway_names(settings: &GroupSettings) -> BTreeSet<Arc<str>> {
    settings.gateways.iter().map(|name| name.as_str().into()).collect()
}

impl Group {
    /// A group without keys, whose pseudo-time begins as `pseudo_clock` shows it.
    pub(super) fn new(settings: GroupSettings, pseudo_clock: PseudoClock) -> Self {
        let push = settings.timing();
        let active = settings.ipsec_sas.iter().filter(|sa| is_active(sa)).cloned();
        Self {
            gateways: gateway_names(&settings),
            rests: false,
            sas: active.map(|sa| IpsecSa::new(sa, push)).collect(),
            keks: Vec::new(),
            members: Members::default(),
            statistics: Statistics::default(),
            rekeys: Vec::new(),
            last_rekey: 0,
            heartbeat_at: None,
            progress: None,
            last_report: None,
            outbox: Vec::new(),
            notes: Vec::new(),
            offers: [None, None],
            distributed: false,
            sender_ids: SenderIds::new(settings.sender_id_bits),
            pseudo_clock,
            fresh_starts: 0,
            keys_changed: true,
            cooperating: None,
            settings,
        }
    }

    /// Does what is due: keys made, succeeded and retired, rounds, heartbeats, what counts as unacknowledged.
    pub(super) fn advance(&mut self, now: Instant, random: &mut dyn Random, numbers: &mut Numbers) {
        let rolled = self.advance_keks(now, random, numbers);
        let at_once = self.reaches_everyone(now);
        let mut changed = rolled;
        let mut made = Vec::new();
        for sa in &mut self.sas {
            let done = sa.advance(now, random, &mut numbers.spis, at_once);
            changed |= done.changed;
            if done.made {
                made.push((Arc::clone(&sa.settings), done.cut));
            }
        }
        if changed {
            self.sas.retain(|sa| !sa.is_gone());
            self.forget_offers();
            let gone = self.members.expire(now, self.settings.push.is_none());
            self.left(&gone);
        }
        for (settings, cut) in made {
            self.announce_keys(now, &settings.name, cut);
        }
        if rolled {
            self.announce_kek(now);
        }
        self.run_rounds(now);
        self.keep_alive(now);
        self.judge(now);
        self.finish(now);
    }

    /// When `advance` has something to do next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        if self.rests {
            return None;
        }
        if self.follows() {
            return self.due_following();
        }
        let sas = self.sas.iter().filter_map(|sa| sa.due(now));
        let rekeys = self.rekeys.iter().filter_map(Rekey::due);
        let progress = self.progress.as_ref().map(|progress| progress.due(now));
        let counters = self.counters_due();
        sas.chain(self.keks_due())
            .chain(rekeys)
            .chain(self.heartbeat_at)
            .chain(progress)
            .chain(counters)
            .min()
    }

    /// The name that members of a gateway share, if the group lists it.
    pub(super) fn authorized(&self, gateway: &str) -> Option<Arc<str>> {
        self.gateways.get(gateway).cloned()
    }

    pub(super) fn is_authorized(&self, gateway: &str) -> bool {
        self.gateways.contains(gateway)
    }

    pub(super) fn has_room_for(&mut self, now: Instant, remote: std::net::SocketAddr) -> bool {
        let threshold = self.settings.member_threshold;
        if !self.members.is_full(threshold) || self.members.is_registered(remote) {
            return true;
        }
        if self.follows() {
            // The server that makes the keys forgets members.
            return !self.members.is_full_at(now, threshold);
        }
        let gone = self.members.make_room(now);
        self.left(&gone);
        !self.members.is_full(threshold)
    }

    /// What a member is given now.
    pub(super) fn offer(&mut self, now: Instant, private: bool) -> Result<Arc<Offer>, Refusal> {
        if let Some(offer) = &self.offers[usize::from(private)]
            && offer.template.first_expiry() >= now + SHORTEST_LIFE_TOLD
        {
            return Ok(Arc::clone(offer));
        }
        let teks: Vec<_> =
            self.sas.iter().flat_map(|sa| sa.handed_out(now)).map(|tek| tek.view(now)).collect();
        if teks.is_empty() {
            return Err(Refusal::NoTek);
        }
        let kek = super::kek::current(&self.keks);
        let policy = GroupPolicy {
            kek: kek.map(Kek::view),
            gap: PendingTimes::of_all(&teks),
            pseudo_time: self.told_time(now),
            teks: &teks,
            id_length: self.settings.id_length,
            private,
        };
        let offer = Arc::new(Offer {
            template: Template::new(&policy).map_err(|_| Refusal::TooLarge)?,
            kek: kek.map_or(0, |kek| kek.index),
            rekey: self.last_rekey,
            fresh_starts: self.fresh_starts,
        });
        self.offers[usize::from(private)] = Some(Arc::clone(&offer));
        Ok(offer)
    }

    /// The pseudo-time, where packets under a key that is out there carry it.
    pub(super) fn told_time(&self, now: Instant) -> Option<ToldTime> {
        let teks = self.sas.iter().flat_map(|sa| sa.handed_out(now));
        let newest = teks.filter(|tek| tek.settings.anti_replay.is_some()).max_by_key(|tek| tek.expires)?;
        Some(ToldTime { clock: self.pseudo_clock, window: newest.settings.anti_replay? })
    }

    /// The sequence number that goes with the KEK of an offer, which may be a while old.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-3.2
    //# When a SEQ payload is included in the GROUPKEY-PULL exchange, it
    //# includes the most recently used sequence number for the group.
    pub(super) fn sequence_for(&self, now: Instant, offer: &Offer) -> Result<Option<u32>, Refusal> {
        if offer.kek == 0 {
            return Ok(None);
        }
        let kek = self.keks.iter().find(|kek| kek.index == offer.kek);
        // Somebody who was evicted meanwhile holds it: the member must ask again.
        let usable = kek.filter(|kek| kek.is_alive(now) && kek.state != super::kek::KekState::Revoked);
        usable.map(|kek| Some(kek.sequence())).ok_or(Refusal::NoTek)
    }

    /// The sender ids that go with the TEKs of an offer, which may be a while old.
    ///
    /// When there are none left, all keys are replaced, and the member must ask again.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-3.5
    //# Before
    //# distributing any new SID values, the GCKS MUST delete the Data-
    //# Security SAs for the group, followed by creation of new Data-
    //# Security SAs, and resetting the SID-counter to its initial value.
    pub(super) fn sender_ids_for(
        &mut self,
        now: Instant,
        offer: &Offer,
        asked: u64,
    ) -> Result<Option<SenderIdDownload>, SenderIdShortage> {
        // Ids of the new count must not meet keys of the old one.
        if offer.fresh_starts != self.fresh_starts {
            return Err(SenderIdShortage::Outdated);
        }
        if !offer.template.wants_sender_ids() {
            return Ok(None);
        }
        if self.follows() {
            return self.sender_ids_of_stock(offer, asked).map(Some).ok_or(SenderIdShortage::Awaited);
        }
        let last_expiry = (offer.kek == 0).then(|| offer.template.last_tek_expiry());
        self.sender_ids.give(now, asked, last_expiry).map(Some).ok_or(SenderIdShortage::Exhausted)
    }

    /// A member proved to be live and is given the keys of its offer. `listed`: the server that makes the keys has put it on
    /// the list already, if it is there.
    pub(super) fn register(&mut self, now: Instant, newcomer: &Newcomer<'_>, listed: bool) {
        if !self.distributed {
            self.sas.iter_mut().for_each(|sa| sa.mark_distributed(now));
            self.distributed = true;
        }
        let rekey = newcomer.offer.rekey;
        let known = self.members.find(newcomer.path.remote).map(|(id, _)| id).filter(|_| listed);
        let id = known.unwrap_or_else(|| {
            let registered = newcomer.registered(now, self.server_name());
            self.tell_registration(&registered);
            self.list_registration(&registered)
        });
        self.statistics.pulls_succeeded += 1;
        self.note_registered(now, id, rekey);
    }

    /// A member has what was true when rekey `up_to` was the last.
    pub(super) fn note_registered(&mut self, now: Instant, id: super::members::MemberId, up_to: u64) {
        for rekey in &mut self.rekeys {
            rekey.registered(now, id, up_to);
        }
        if let Some(progress) = &mut self.progress {
            progress.registered(id, up_to);
        }
        self.finish_progress(now);
    }

    /// A registration was refused or broken off.
    pub(super) fn failed(
        &mut self,
        gateway: &str,
        path: Path,
        refusal: &dyn std::fmt::Display,
        threshold: bool,
    ) {
        if threshold {
            self.statistics.threshold_exceeded += 1;
        } else {
            self.statistics.pulls_failed += 1;
        }
        let failures = &mut self.statistics.recent_failures;
        failures.truncate(RECENT_FAILURES - 1);
        failures.push_front(format!("{gateway} at {}: {refusal}", path.remote));
        let gateway = self.authorized(gateway).unwrap_or_else(|| gateway.into());
        self.members.failed(gateway, path);
    }

    pub(super) fn forget(&self, spis: &mut BTreeSet<u32>) {
        self.sas.iter().for_each(|sa| sa.forget(spis));
    }

    /// Members that left owe nothing any more.
    pub(super) fn left(&mut self, members: &[super::members::MemberId]) {
        for &member in members {
            for rekey in &mut self.rekeys {
                rekey.owing.remove(member);
            }
            if let Some(progress) = &mut self.progress {
                progress.left(member);
            }
        }
    }

    /// What is handed out changed.
    pub(super) fn forget_offers(&mut self) {
        self.offers = [None, None];
        self.distributed = false;
        self.keys_changed = true;
    }

    /// What is to be deleted changed.
    pub(super) fn note_keys_changed(&mut self) {
        self.keys_changed = true;
    }

    /// Whether the record of the keys is behind.
    pub(super) fn keys_changed(&self) -> bool {
        self.keys_changed || self.sender_ids.changed() || self.keks.iter().any(Kek::reserves)
    }

    /// The record of the keys is written.
    pub(super) fn keys_are_stored(&mut self) {
        self.keys_changed = false;
        self.sender_ids.is_stored();
        self.keks.iter_mut().for_each(Kek::is_stored);
    }

    /// Other servers hand out what is on record.
    pub(super) fn keys_are_shared(&mut self, now: Instant) {
        if self.cooperating.is_some() {
            self.sas.iter_mut().for_each(|sa| sa.mark_distributed(now));
        }
    }

    pub(super) fn log(&mut self, entry: Entry) {
        self.notes.push(Note::Log(entry.with("group", &self.settings.name)));
    }
}
