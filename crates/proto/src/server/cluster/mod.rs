//! One of several servers that share their groups: every one hands out the keys, one makes them.
//!
//! ```text
//!                 follow          lead                     what it writes
//!   (starts) ──────────▶ following ──────▶ leading         following: news, its own counters
//!                 records   ▲   │ hear       │             leading:   keys, members, its own counters;
//!                           └───┴── follow ──┘                        removes news that it took in
//! ```
//!
//! Whoever drives the server holds the records that all share, and tells it which they are ([`Server::follow`]), what
//! others changed ([`Server::hear`]), and that it was elected ([`Server::lead`]). What a leading server wants written is
//! taken only while its election stands, and nothing leaves before; when it was not taken, `follow` makes the server what
//! the records say, and whatever it made otherwise is forgotten: nobody has seen it.
//!
//! A server that follows writes nothing that another one writes. What the leader must know of it goes into records of its
//! own ([`News`]): who registered, who acknowledged, that sender ids run out. The leader takes them in and removes them; if
//! it fails before that, the next one does.
//!
//! Whether a group with a threshold has room for one more, the leader alone decides ([`room`]), and it does what an operator
//! asks of any server ([`eviction`]).
//!
//! In a cluster every sequence number is recorded before its message leaves, so that any server can tell a member which
//! was the last; a TEK counts as handed out from when it is recorded; and a gateway that is removed counts as one that
//! holds keys, because a server that is cut off may have registered its member.

mod eviction;
mod group;
mod room;

use std::collections::BTreeMap;
use std::sync::Arc;

use crypto::{Random, Secret};

use super::durable::{Kind, Record, RestoreError, parse_place, read_record, read_records};
use super::group::Group;
use super::{Server, Settings};
use crate::log::{Entry, Facility, Level};
use crate::time::Instant;

pub(super) use super::durable::Acknowledged;
pub use eviction::ForwardedEviction;
pub(super) use eviction::{EvictionOrder, EvictionOutcome};
pub(super) use group::Cooperating;
use group::Demand;
pub(super) use room::{Admission, Newcomer};

/// Which one of several servers this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cooperation {
    /// Its name, unique in the cluster and the same in every life.
    pub name: Arc<str>,
    /// This life of it: no two have the same. No slash in it.
    pub incarnation: Arc<str>,
}

/// What a server may do with the keys of its groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It is the only one: it makes them.
    #[default]
    Alone,
    /// One of several, and the one that makes them.
    Leading,
    /// One of several: it hands out what another one made.
    Following,
}

impl Server {
    /// One of several servers. It knows no keys before [`Server::follow`] tells it.
    pub fn cooperating(
        now: Instant,
        settings: Settings,
        random: Box<dyn Random + Send>,
        cooperation: Cooperation,
    ) -> Self {
        let mut server = Self::new(now, Settings::default(), random);
        server.cooperation = Some(cooperation);
        server.standing = Standing::Following;
        server.configure(now, settings);
        server
    }

    /// What it may do with the keys.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// These are the records that all servers share, and another one makes the keys or nobody does. Phase 1 SAs stay.
    ///
    /// # Errors
    /// A record that cannot be understood. The server is as it was, except that it makes no keys.
    pub fn follow(&mut self, now: Instant, records: &[Record]) -> Result<(), RestoreError> {
        // What was offered before may not be what the records say.
        self.forget_unfinished();
        self.standing = Standing::Following;
        self.groups.iter_mut().for_each(Group::stop_leading);
        let wanted = self.settings.groups.iter().map(|group| group.id).collect();
        let mut found = read_records(now, &wanted, records)?;
        self.numbers.spis.clear();
        let mut old: BTreeMap<u32, Group> =
            self.groups.drain(..).rev().map(|group| (group.settings.id, group)).collect();
        for settings in self.settings.groups.clone() {
            let mut group = self.new_group(settings);
            if let Some(old) = old.remove(&group.settings.id) {
                group.carry_over(old);
            }
            if let Some(found) = found.remove(&group.settings.id) {
                group.load(now, found, &mut self.numbers);
            }
            self.groups.push(group);
        }
        self.index_groups();
        (0..self.groups.len()).for_each(|index| self.tell_outcomes(index));
        self.update_due(now);
        Ok(())
    }

    /// Other servers changed records, in this order; `None` for one that was removed.
    ///
    /// # Errors
    /// A record that cannot be understood: those before it are taken, those after it are not.
    pub fn hear(&mut self, now: Instant, changes: &[(String, Option<Record>)]) -> Result<(), RestoreError> {
        let mut answers = false;
        for (place, record) in changes {
            let Some((id, kind)) = parse_place(place) else { continue };
            let Some(&index) = self.by_id.get(&id) else { continue };
            // Sender ids, and room.
            answers |= matches!((kind, record), (Kind::Keys, Some(_)) | (Kind::News, None));
            match record {
                Some(record) => {
                    let content = read_record(now, kind, record)?;
                    let group = &mut self.groups[index];
                    if let Some(news) = group.hear(now, place, content, &mut self.numbers) {
                        self.take_in(now, index, Some(place.clone()), news);
                    }
                }
                None => self.groups[index].hear_removal(kind, place, &mut self.numbers),
            }
            if kind == Kind::Outcomes {
                self.tell_outcomes(index);
            }
            self.collect_notes(now, index);
        }
        self.index_keks();
        if answers {
            self.answer_held(now);
        }
        self.update_due(now);
        Ok(())
    }

    /// Whether what all share can be reached: while it cannot, this server decides by what it knows.
    pub fn set_isolated(&mut self, isolated: bool) {
        self.isolated = isolated;
    }

    /// It was elected: it goes on with the keys as they are, and makes what is due.
    pub fn lead(&mut self, now: Instant) {
        if self.standing != Standing::Following {
            return;
        }
        self.standing = Standing::Leading;
        for index in 0..self.groups.len() {
            let unread = self.groups[index].start_leading();
            for (place, news) in unread {
                self.take_in(now, index, place, news);
            }
            let group = &mut self.groups[index];
            // What the settings of this server say otherwise than those of the last leader.
            let settings = group.settings.clone();
            group.change(now, settings, &mut *self.random, &mut self.numbers);
            let deletions = group.take_deletions();
            group.resume(now, deletions);
            group.advance(now, &mut *self.random, &mut self.numbers);
            self.collect_notes(now, index);
        }
        self.index_keks();
        self.answer_held(now);
        self.update_due(now);
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::HighAvailability, "this server makes the keys now")
                .with("groups", self.groups.len()),
        );
    }

    /// Whether records of a server that was alone can be understood, as far as its groups are configured.
    ///
    /// # Errors
    /// The first one that cannot.
    pub fn understand(settings: &Settings, records: &[Record]) -> Result<(), RestoreError> {
        let wanted = settings.groups.iter().map(|group| group.id).collect();
        read_records(Instant::ORIGIN, &wanted, records).map(|_| ())
    }

    /// It was elected, and nothing is shared yet: it goes on with what a server that was alone has kept, and tells all of
    /// it to be written.
    ///
    /// # Errors
    /// A record that cannot be understood. The server does not lead then.
    pub fn adopt(&mut self, now: Instant, records: &[Record]) -> Result<(), RestoreError> {
        self.follow(now, records)?;
        self.lead(now);
        for group in &mut self.groups {
            group.members.none_is_stored();
            group.note_keys_changed();
        }
        Ok(())
    }

    /// Forgets the registrations in progress: answers that were made and did not leave must not leave when they are asked for
    /// again. Members begin anew.
    pub fn forget_unfinished(&mut self) {
        self.endpoint.forget_answers();
        self.registrations.forget_all();
        self.outbox.clear();
    }

    /// A server that follows takes over settings: they count when it leads. It must be told the records again.
    pub(super) fn configure_following(&mut self, now: Instant, settings: Settings) {
        let mut old: BTreeMap<u32, Group> =
            self.groups.drain(..).rev().map(|group| (group.settings.id, group)).collect();
        self.numbers.spis.clear();
        self.settings.epoch = settings.epoch;
        for settings in settings.groups.clone() {
            let mut group = self.new_group(settings);
            if let Some(old) = old.remove(&group.settings.id) {
                group.carry_over(old);
            }
            self.groups.push(group);
        }
        self.settings = settings;
        self.index_groups();
        self.update_due(now);
        self.drain_endpoint(now);
    }

    /// A group that is new to a server which makes keys.
    pub(super) fn new_leading_group(&self, settings: super::GroupSettings) -> Group {
        let mut group = self.new_group(settings);
        group.start_leading();
        group
    }

    /// A group without keys.
    pub(super) fn new_group(&self, settings: super::GroupSettings) -> Group {
        let mut group = Group::new(settings, super::beginning(&self.settings));
        group.cooperating = self.cooperation.clone().map(|own| Box::new(Cooperating::new(own)));
        group
    }

    /// The leader takes in what another server tells it.
    fn take_in(&mut self, now: Instant, index: usize, place: Option<String>, news: super::durable::News) {
        let group = &mut self.groups[index];
        match group.take_in(now, place, news) {
            Some(Demand::FreshStart) => {
                let reason = "all sender ids have been given";
                group.replace_all_keys(now, &mut *self.random, &mut self.numbers, reason);
            }
            Some(Demand::Eviction(order)) => {
                self.carry_out(now, index, order);
                self.tell_outcomes(index);
            }
            None => {}
        }
        self.groups[index].advance(now, &mut *self.random, &mut self.numbers);
    }

    /// Numbers the news of this life.
    pub(super) fn next_news(&mut self, group: u32) -> Option<String> {
        let own = self.cooperation.as_ref()?;
        self.news_told += 1;
        Some(super::durable::news_place(group, &own.incarnation, self.news_told))
    }

    /// The records of a group that others than the leader write too.
    pub(super) fn cooperative_changes(&mut self, now: Instant, changes: &mut Vec<super::Change>) {
        for index in 0..self.groups.len() {
            let id = self.groups[index].settings.id;
            for news in self.groups[index].take_news() {
                let Some(place) = self.next_news(id) else { continue };
                let content = super::durable::write_news(&news, now);
                changes.push(super::Change { place: place.clone(), content: Some(content) });
                self.groups[index].note_unread(place, news);
            }
            changes.extend(self.groups[index].other_changes(now));
        }
        if !changes.is_empty() {
            self.update_due(now);
        }
    }
}

/// A change that another server made, out of what a store tells.
pub fn heard(place: String, content: Option<Secret>, age: std::time::Duration) -> (String, Option<Record>) {
    let record = content.map(|content| Record { place: place.clone(), content, age });
    (place, record)
}
