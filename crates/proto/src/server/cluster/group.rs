//! A group that several servers share.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Cooperation, EvictionOrder, EvictionOutcome};
use crate::log::{Entry, Facility, Level};
use crate::policy::SenderIdDownload;
use crate::server::Change;
use crate::server::durable::{self, Acknowledged, Content, Found, GroupKeys, Kind, News, Registered};
use crate::server::group::{Group, Numbers, Offer, Statistics};
use crate::server::kek::{Kek, KekState, RESERVED, Remembered, current};
use crate::server::members::{MemberId, Registration, only_failures};
use crate::server::rekey::Subject;
use crate::server::sender_ids::{SenderIds, Stock};
use crate::server::settings::{Communication, GroupSettings};
use crate::server::tek::IpsecSa;
use crate::time::Instant;

/// How often a server tells the others its counters while they change.
const TELL_COUNTERS: Duration = Duration::from_secs(2);

/// Acknowledgements that one server may have to pass on at a time. What is beyond that is as if the network had lost it:
/// the next round asks again.
const PASSED_ON: usize = 4096;

/// What a group needs to know where several servers share it.
#[derive(Debug)]
pub(in crate::server) struct Cooperating {
    pub(in crate::server) own: Cooperation,
    leads: bool,
    /// What members are still to be told to forget, for when this server leads.
    deletions: Vec<(Subject, Instant)>,
    /// Sender ids that this server may give while it follows.
    stock: Stock,
    /// Of which stock it asked for more: the start of the group, and what it covers.
    asked: Option<(u64, Option<Instant>)>,
    /// What the leader must know and is not told yet.
    pub(super) news: Vec<News>,
    /// Members for whom the leader is asked whether there is room.
    pub(super) wants_room: BTreeSet<SocketAddr>,
    acknowledged: Vec<Acknowledged>,
    /// What the leader was told, by anybody, and has not taken in yet.
    unread: BTreeMap<String, News>,
    /// News that this server took in as the leader.
    read: Vec<String>,
    /// What became of evictions that servers asked the leader for, oldest first.
    pub(super) outcomes: VecDeque<EvictionOutcome>,
    pub(super) outcomes_changed: bool,
    /// Counters of the other servers, by name.
    elsewhere: BTreeMap<String, Statistics>,
    /// What the others know of our counters, and when they may be told again.
    told: Statistics,
    tell_at: Instant,
    /// How often the counters of the cluster were set to zero.
    cleared: u64,
    clears: bool,
}

/// What news demand of the whole group.
pub(super) enum Demand {
    /// All sender ids have been given.
    FreshStart,
    Eviction(EvictionOrder),
}

impl Cooperating {
    pub(super) fn new(own: Cooperation) -> Self {
        Self {
            own,
            leads: false,
            deletions: Vec::new(),
            stock: Stock::default(),
            asked: None,
            news: Vec::new(),
            wants_room: BTreeSet::new(),
            acknowledged: Vec::new(),
            unread: BTreeMap::new(),
            read: Vec::new(),
            outcomes: VecDeque::new(),
            outcomes_changed: false,
            elsewhere: BTreeMap::new(),
            told: Statistics::default(),
            tell_at: Instant::ORIGIN,
            cleared: 0,
            clears: false,
        }
    }
}

impl Group {
    /// Whether another server makes the keys.
    pub(in crate::server) fn follows(&self) -> bool {
        self.cooperating.as_ref().is_some_and(|cooperating| !cooperating.leads)
    }

    /// The name of this server in its cluster; empty where it is alone.
    pub(in crate::server) fn server_name(&self) -> Arc<str> {
        self.cooperating.as_ref().map_or_else(|| "".into(), |cooperating| Arc::clone(&cooperating.own.name))
    }

    /// Sequence numbers that are reserved at a time.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-3.2
    //# When a SEQ payload is included in the GROUPKEY-PULL exchange, it
    //# includes the most recently used sequence number for the group.
    pub(in crate::server) fn reserved_ahead(&self) -> u32 {
        // The other servers must be able to tell it.
        if self.cooperating.is_some() { 0 } else { RESERVED }
    }

    /// Settings of this server as they are where the key that signs is shared.
    pub(in crate::server) fn adapt(&self, wanted: &mut GroupSettings) {
        if let (true, Some(own), Some(shared)) =
            (self.cooperating.is_some(), &mut wanted.push, &self.settings.push)
            && own.signing_key.kind() == shared.signing_key.kind()
        {
            own.signing_key = shared.signing_key.clone();
        }
    }

    pub(super) fn stop_leading(&mut self) {
        if let Some(cooperating) = &mut self.cooperating {
            if std::mem::replace(&mut cooperating.leads, false) {
                // Nobody has seen what was not written.
                cooperating.news.clear();
                cooperating.acknowledged.clear();
                cooperating.wants_room.clear();
                cooperating.outcomes_changed = false;
            }
            cooperating.read.clear();
        }
        self.outbox.clear();
    }

    /// Takes over what is this server's own and in no record.
    pub(super) fn carry_over(&mut self, old: Group) {
        self.statistics = old.statistics;
        self.fresh_starts = old.fresh_starts;
        if let (Some(cooperating), Some(old)) = (&mut self.cooperating, old.cooperating) {
            cooperating.stock = old.stock;
            for news in &old.news {
                cooperating.note_question(news);
            }
            cooperating.news = old.news;
            cooperating.acknowledged = old.acknowledged;
            cooperating.told = old.told;
            cooperating.tell_at = old.tell_at;
            cooperating.cleared = old.cleared;
            cooperating.clears = old.clears;
        }
    }

    /// Takes over all records of the group.
    pub(super) fn load(&mut self, now: Instant, found: Found, numbers: &mut Numbers) {
        if let Some(keys) = found.keys {
            self.load_keys(now, keys, numbers);
        }
        for member in found.members {
            self.members.restore(member);
        }
        for member in found.departed {
            self.members.restore_departed(member);
        }
        self.load_cleared(found.cleared);
        if let Some(cooperating) = &mut self.cooperating {
            cooperating.load_outcomes(found.outcomes);
        }
        for (server, statistics) in found.statistics {
            self.load_statistics(&server, statistics);
        }
        for (place, news) in found.news {
            self.note_unread(place, news);
        }
        self.look_at_stock();
    }

    /// What another server wrote. Returns news for the leader to take in.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        place: &str,
        content: Content,
        numbers: &mut Numbers,
    ) -> Option<News> {
        match content {
            // Nobody else may write what the leader writes, so it is what a predecessor wrote, and known.
            Content::Keys(_) | Content::Member(_) | Content::Departed(_) | Content::Outcomes(_)
                if !self.follows() => {}
            Content::Keys(keys) => {
                self.load_keys(now, keys, numbers);
                self.look_at_stock();
            }
            Content::Member(member) => self.members.restore(member),
            Content::Departed(member) => self.members.restore_departed(member),
            Content::News(news) if self.follows() => self.note_unread(place.to_owned(), news),
            Content::News(news) => return Some(news),
            Content::Statistics(server, statistics) => self.load_statistics(&server, statistics),
            Content::Cleared(cleared) => self.load_cleared(cleared),
            Content::Outcomes(outcomes) => {
                if let Some(cooperating) = &mut self.cooperating {
                    cooperating.load_outcomes(outcomes);
                }
            }
        }
        None
    }

    /// What another server removed.
    pub(super) fn hear_removal(&mut self, kind: Kind<'_>, place: &str, numbers: &mut Numbers) {
        let Some(cooperating) = &mut self.cooperating else { return };
        let leads = cooperating.leads;
        match kind {
            Kind::News => {
                if let Some(news) = cooperating.unread.remove(place) {
                    cooperating.note_answer(&news);
                }
            }
            Kind::Statistics(server) => drop(cooperating.elsewhere.remove(server)),
            Kind::Cleared | Kind::Outcomes => {}
            Kind::Keys | Kind::Member(_) | Kind::Departed(_) if leads => {}
            Kind::Keys => {
                self.forget(&mut numbers.spis);
                self.sas.clear();
                self.keks.clear();
                self.forget_offers();
            }
            Kind::Member(address) => {
                if let Ok(address) = address.parse() {
                    self.members.restore_removal(address);
                }
            }
            Kind::Departed(gateway) => self.members.restore_return(gateway),
        }
    }

    /// From now on this server makes the keys. Returns what it must take in, and where that is on record.
    pub(super) fn start_leading(&mut self) -> Vec<(Option<String>, News)> {
        let Some(cooperating) = &mut self.cooperating else { return Vec::new() };
        cooperating.leads = true;
        cooperating.wants_room.clear();
        self.members.all_are_stored();
        let unread = std::mem::take(&mut cooperating.unread);
        let unread = unread.into_iter().map(|(place, news)| (Some(place), news));
        // What it has not told yet it need not tell itself by way of a record.
        let own = cooperating.news.drain(..).chain(
            Some(std::mem::take(&mut cooperating.acknowledged))
                .filter(|acknowledged| !acknowledged.is_empty())
                .map(News::Acknowledged),
        );
        unread.chain(own.map(|news| (None, news))).collect()
    }

    pub(super) fn take_deletions(&mut self) -> Vec<(Subject, Instant)> {
        self.cooperating
            .as_mut()
            .map(|cooperating| std::mem::take(&mut cooperating.deletions))
            .unwrap_or_default()
    }

    /// Takes in news as the leader. Returns what else is to be done.
    pub(super) fn take_in(&mut self, now: Instant, place: Option<String>, news: News) -> Option<Demand> {
        if let Some(cooperating) = &mut self.cooperating {
            cooperating.read.extend(place);
        }
        match news {
            News::Registered(registered) => self.take_in_registration(now, registered),
            News::WantsRoom(newcomer) => self.make_room_for(now, newcomer),
            News::Acknowledged(acknowledged) => {
                for Acknowledged { member, kek, sequence } in acknowledged {
                    self.acknowledged_elsewhere(now, member, kek, sequence);
                }
            }
            News::WantsSenderIds { incarnation, fresh_starts } => {
                // Who asked before it heard that all began anew asks again.
                if fresh_starts == self.fresh_starts {
                    let covers = self.sender_ids_cover();
                    let are_left = self.sender_ids.allot(now, &incarnation, covers);
                    return (!are_left).then_some(Demand::FreshStart);
                }
            }
            News::Evict(order) => return Some(Demand::Eviction(order)),
        }
        None
    }

    /// A member registered here while another server makes the keys.
    pub(in crate::server) fn tell_registration(&mut self, registered: &Registered) {
        if let Some(cooperating) = self.cooperating.as_mut().filter(|cooperating| !cooperating.leads) {
            cooperating.news.push(News::Registered(registered.clone()));
        }
    }

    /// An acknowledgement arrived here that proved to be authentic, while another server makes the keys.
    pub(in crate::server) fn tell_acknowledgement(&mut self, acknowledged: Acknowledged) {
        if let Some(cooperating) = &mut self.cooperating
            && cooperating.acknowledged.len() < PASSED_ON
        {
            cooperating.acknowledged.push(acknowledged);
        }
    }

    /// Sender ids for a member that registers here while another server makes the keys.
    pub(in crate::server) fn sender_ids_of_stock(
        &mut self,
        offer: &Offer,
        asked: u64,
    ) -> Option<SenderIdDownload> {
        let last_expiry = (offer.kek == 0).then(|| offer.template.last_tek_expiry());
        let bits = self.sender_ids.bits();
        let given = self.cooperating.as_mut()?.stock.give(bits, asked, last_expiry);
        self.look_at_stock();
        given
    }

    /// What is to be told and was not yet, with what it was told in words for the group.
    pub(super) fn take_news(&mut self) -> Vec<News> {
        let Some(cooperating) = &mut self.cooperating else { return Vec::new() };
        let mut news = std::mem::take(&mut cooperating.news);
        let acknowledged = std::mem::take(&mut cooperating.acknowledged);
        news.extend(Some(acknowledged).filter(|all| !all.is_empty()).map(News::Acknowledged));
        news
    }

    /// The leader is told something and has not taken it in.
    pub(super) fn note_unread(&mut self, place: String, news: News) {
        if let News::Registered(registered) = &news
            && self.authorized(&registered.gateway).is_some()
        {
            self.list_registration(registered);
        }
        if let Some(cooperating) = &mut self.cooperating {
            cooperating.note_question(&news);
            cooperating.unread.insert(place, news);
        }
    }

    /// Whether something is to be told that is in none of the leader's records.
    pub(in crate::server) fn has_news(&self) -> bool {
        self.cooperating.as_ref().is_some_and(|cooperating| {
            !cooperating.news.is_empty()
                || !cooperating.acknowledged.is_empty()
                || !cooperating.read.is_empty()
                || cooperating.clears
                || cooperating.outcomes_changed
        })
    }

    /// Records that are nobody's news: what was read is removed, and counters are told.
    pub(super) fn other_changes(&mut self, now: Instant) -> Vec<Change> {
        let id = self.settings.id;
        let Some(cooperating) = &mut self.cooperating else { return Vec::new() };
        let read = cooperating.read.drain(..).map(|place| Change { place, content: None });
        let mut changes: Vec<Change> = read.collect();
        if std::mem::replace(&mut cooperating.clears, false) {
            let content = Some(durable::write_cleared(cooperating.cleared));
            changes.push(Change { place: durable::cleared_place(id), content });
        }
        if std::mem::replace(&mut cooperating.outcomes_changed, false) {
            let content = Some(durable::write_outcomes(cooperating.outcomes.iter()));
            changes.push(Change { place: durable::outcomes_place(id), content });
        }
        if cooperating.told != self.statistics && cooperating.tell_at <= now {
            cooperating.told.clone_from(&self.statistics);
            cooperating.tell_at = now + TELL_COUNTERS;
            let content = Some(durable::write_statistics(&self.statistics));
            changes.push(Change { place: durable::statistics_place(id, &cooperating.own.name), content });
        }
        changes
    }

    /// When the counters are told next.
    pub(in crate::server) fn counters_due(&self) -> Option<Instant> {
        let cooperating = self.cooperating.as_ref()?;
        (cooperating.told != self.statistics).then_some(cooperating.tell_at)
    }

    /// The counters of all servers together.
    pub(in crate::server) fn total_statistics(&self) -> Statistics {
        let mut total = self.statistics.clone();
        for other in self.cooperating.iter().flat_map(|cooperating| cooperating.elsewhere.values()) {
            total.add(other);
        }
        total
    }

    /// All servers shall set their counters to zero.
    pub(in crate::server) fn clear_elsewhere(&mut self) {
        if let Some(cooperating) = &mut self.cooperating {
            cooperating.elsewhere.clear();
            cooperating.cleared += 1;
            cooperating.clears = true;
        }
    }

    /// What time does to a group whose keys another server makes: they end.
    pub(in crate::server) fn pass_time(&mut self, now: Instant, numbers: &mut Numbers) {
        let mut changed = false;
        for sa in &mut self.sas {
            changed |= sa.drop_expired(now, &mut numbers.spis);
        }
        self.sas.retain(|sa| !sa.teks.is_empty());
        let keks = self.keks.len();
        self.keks.retain(|kek| kek.forget_at > now);
        if changed || self.keks.len() != keks {
            self.forget_offers();
        }
    }

    /// When `pass_time` has something to do.
    pub(in crate::server) fn due_following(&self) -> Option<Instant> {
        let teks = self.sas.iter().flat_map(|sa| &sa.teks).map(|tek| tek.expires);
        teks.chain(self.keks.iter().map(|kek| kek.forget_at)).chain(self.counters_due()).min()
    }

    fn load_keys(&mut self, now: Instant, keys: GroupKeys, numbers: &mut Numbers) {
        self.forget(&mut numbers.spis);
        let timing = self.settings.timing();
        self.sas = keys
            .sas
            .into_iter()
            .filter_map(|kept| IpsecSa::loaded(now, kept, timing, &mut numbers.spis))
            .collect();
        self.last_rekey = keys.last_rekey;
        self.fresh_starts = keys.fresh_starts;
        if let Some(kept) = keys.sender_ids {
            self.sender_ids = SenderIds::restored(kept);
        }
        if let Some(kept) = keys.pseudo_clock {
            self.pseudo_clock = kept;
        }
        self.load_keks(now, keys.keks, numbers);
        self.forget_offers();
        if let Some(cooperating) = &mut self.cooperating {
            cooperating.deletions = keys.deletions;
            let own = Arc::clone(&cooperating.own.incarnation);
            cooperating.stock.take_in(&self.sender_ids, self.fresh_starts, &own);
        }
    }

    /// KEKs as another server made them: the key that signs becomes ours, and what only concerns how this server sends
    /// stays as it is configured here.
    fn load_keks(&mut self, now: Instant, keks: Vec<Remembered>, numbers: &mut Numbers) {
        let mut keks: Vec<_> = keks.into_iter().filter(|kek| kek.forget_at > now).collect();
        numbers.last_kek = keks.iter().map(|kek| kek.index).fold(numbers.last_kek, u32::max);
        if let Some(own) = &mut self.settings.push {
            let newest = keks.iter().rfind(|kek| kek.state == KekState::Current);
            if let Some(newest) = newest
                && newest.settings.signing_key.kind() == own.signing_key.kind()
            {
                own.signing_key = newest.settings.signing_key.clone();
            }
            for kek in &mut keks {
                let mut settings = (*kek.settings).clone();
                settings.source = own.source;
                if let (
                    Communication::Multicast { interface, .. },
                    Communication::Multicast { interface: ours, .. },
                ) = (&mut settings.communication, &own.communication)
                {
                    interface.clone_from(ours);
                }
                kek.settings = Arc::new(settings);
            }
        }
        let ahead = self.reserved_ahead();
        self.keks = keks.into_iter().map(|kek| Kek::restored(kek, ahead)).collect();
    }

    fn load_statistics(&mut self, server: &str, statistics: Statistics) {
        let Some(cooperating) = &mut self.cooperating else { return };
        if *server != *cooperating.own.name {
            cooperating.elsewhere.insert(server.to_owned(), statistics);
        } else if self.statistics == Statistics::default() {
            // An earlier life of this server counted them.
            cooperating.told.clone_from(&statistics);
            self.statistics = statistics;
        }
    }

    fn load_cleared(&mut self, cleared: u64) {
        let Some(cooperating) = &mut self.cooperating else { return };
        if cleared > cooperating.cleared {
            if cooperating.told != Statistics::default() {
                self.statistics = Statistics::default();
                self.members.clear_statistics();
            }
            cooperating.cleared = cleared;
        }
    }

    /// What sender ids that are allotted now go with.
    fn sender_ids_cover(&self) -> Option<Instant> {
        match current(&self.keks) {
            Some(_) => None,
            None => self.sas.iter().flat_map(|sa| &sa.teks).map(|tek| tek.expires).max(),
        }
    }

    /// Asks for sender ids while there are still some.
    fn look_at_stock(&mut self) {
        let covers = self.sender_ids_cover();
        let has_counter_mode = self.sas.iter().any(IpsecSa::has_counter_mode);
        let (bits, fresh_starts) = (self.sender_ids.bits(), self.fresh_starts);
        let Some(cooperating) = self.cooperating.as_mut().filter(|it| !it.leads && has_counter_mode) else {
            return;
        };
        if !cooperating.stock.is_low(bits, covers) {
            cooperating.asked = None;
        } else if cooperating.asked != Some((fresh_starts, covers)) {
            cooperating.asked = Some((fresh_starts, covers));
            let incarnation = Arc::clone(&cooperating.own.incarnation);
            cooperating.news.push(News::WantsSenderIds { incarnation, fresh_starts });
        }
    }

    pub(super) fn take_in_registration(&mut self, now: Instant, registered: Registered) {
        let Registration { path, server, .. } = &registered.registration;
        let known = self.members.find(path.remote);
        // It was heard of since: what it holds is known better than the server knew that was cut off.
        if known.is_some_and(|(_, member)| member.heard_at > registered.at && !only_failures(member)) {
            return;
        }
        if self.authorized(&registered.gateway).is_none() {
            let entry = Entry::new(
                Level::Warn,
                Facility::HighAvailability,
                "a member of no gateway of this group registered at another server",
            )
            .with("gateway", &registered.gateway)
            .with("peer", path.remote)
            .with("server", server);
            return self.log(entry);
        }
        let id = self.list_registration(&registered);
        self.note_registered(now, id, registered.rekey);
    }

    /// Puts a member on the list.
    pub(in crate::server) fn list_registration(&mut self, registered: &Registered) -> MemberId {
        let Registered { gateway, registration, at, .. } = registered;
        self.members.register(*at, Arc::clone(gateway), registration.clone())
    }
}
