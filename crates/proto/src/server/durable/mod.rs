//! What a server must not forget, as records: the keys of each group, and its members.
//!
//! ```text
//!   group/00000007/keys                     TEKs, KEKs, signing keys, sequence numbers reserved, what is to be deleted
//!   group/00000007/member/192.0.2.1:848     who it is, what it holds
//!   group/00000007/departed/GATEWAY         what one may hold that is forgotten
//!   group/00000007/news/LIFE/NUMBER         what another server tells the one that makes the keys
//!   group/00000007/statistics/SERVER        counters of one of several servers
//!   group/00000007/cleared                  how often those were set to zero
//!   group/00000007/outcomes                 what became of evictions that other servers asked for
//! ```
//!
//! [`Server::take_changes`] tells what changed. Whoever drives the server stores it before the datagrams leave that the
//! same call made: those may depend on it. [`Server::restored`] goes on from there with the same keys, so that members
//! notice nothing.
//!
//! Sequence numbers are reserved in runs: a restarted server goes on after the run, and none is used twice. What is not
//! remembered, because it is made anew or only counts: who still owes an acknowledgement (all are told again; a rekey
//! is idempotent), counters, and how long the last command took.
//!
//! Moments are stored relative to the moment of writing, since no clock is known here; how old a record is, its reader
//! must be told.

mod keys;
mod member;
mod news;
mod outcomes;
mod statistics;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use crypto::{Random, Secret};
use wire::codec;

use super::cluster::EvictionOutcome;
use super::group::{Group, Statistics};
use super::kek::{Kek, KekState};
use super::members::RememberedMember;
use super::rekey::Subject;
use super::sender_ids::SenderIds;
use super::tek::IpsecSa;
use super::{Server, Settings};
use crate::log::{Entry, Facility, Level};
use crate::record::{Input, Output, Written};
use crate::time::Instant;

pub(super) use keys::GroupKeys;
pub(super) use news::{Acknowledged, News, Registered, write as write_news};
pub(super) use outcomes::write as write_outcomes;
pub(super) use statistics::write as write_statistics;

/// Members whose change one call of [`Server::take_changes`] tells. What waits is nothing that a datagram depends on.
const MEMBERS_AT_A_TIME: usize = 1024;

/// A record that is set, or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where the record belongs.
    pub place: String,
    /// What it holds; `None` removes it.
    pub content: Option<Secret>,
}

/// A record that was kept.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it belongs.
    pub place: String,
    /// What it holds.
    pub content: Secret,
    /// How long ago it was written.
    pub age: Duration,
}

/// A record that cannot be understood. Nothing was restored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("record `{place}`: {error}")]
pub struct RestoreError {
    /// Where it belongs.
    pub place: String,
    /// What is wrong.
    pub error: codec::Error,
}

impl Server {
    /// A server that goes on with what [`Server::take_changes`] told another one. Groups of `settings` that there is no
    /// record of begin afresh; what the settings say otherwise than when it was recorded is taken as a commit of now.
    /// Records of groups that are not configured stay untouched.
    pub fn restored(
        now: Instant,
        settings: Settings,
        random: Box<dyn Random + Send>,
        records: &[Record],
    ) -> Result<Self, RestoreError> {
        let mut server = Self::new(now, Settings::default(), random);
        let wanted: BTreeMap<u32, usize> =
            settings.groups.iter().enumerate().rev().map(|(index, group)| (group.id, index)).collect();
        let found = read_records(now, &wanted.keys().copied().collect(), records)?;
        for (id, found) in found {
            let Some(keys) = found.keys else { continue };
            let group_settings = settings.groups[wanted[&id]].clone();
            let mut group = Group::new(group_settings, super::beginning(&settings));
            server.numbers.last_kek =
                keys.keks.iter().map(|kek| kek.index).fold(server.numbers.last_kek, u32::max);
            let deletions = group.restore_keys(now, keys, &mut server.numbers.spis);
            for member in found.members {
                group.members.restore(member);
            }
            for member in found.departed {
                group.members.restore_departed(member);
            }
            // What the settings say now may differ from what they said then: gateways or policies removed.
            let settings = group.settings.clone();
            group.change(now, settings, &mut *server.random, &mut server.numbers);
            group.resume(now, deletions);
            server.journal.record(
                now,
                Entry::new(Level::Info, Facility::General, "group restored")
                    .with("group", &group.settings.name)
                    .with("members", group.members.count())
                    .with("teks", group.sas.iter().map(|sa| sa.teks.len()).sum::<usize>())
                    .with("keks", group.keks.len()),
            );
            server.groups.push(group);
        }
        server.configure(now, settings);
        Ok(server)
    }

    /// What changed since the last call, to be made durable before anything leaves that was made since then. At most a
    /// thousand members at a time: [`Server::has_changes`] tells whether there is more.
    #[must_use]
    pub fn take_changes(&mut self, now: Instant) -> Vec<Change> {
        let mut changes: Vec<Change> =
            self.forgotten.drain(..).map(|place| Change { place, content: None }).collect();
        for group in self.groups.iter_mut().filter(|group| !group.follows()) {
            let id = group.settings.id;
            if group.keys_changed() {
                group.keys_are_shared(now);
                let content = Some(keys::write(group, now));
                changes.push(Change { place: keys_place(id), content });
                group.keys_are_stored();
            }
            for (address, member) in group.members.take_changed(MEMBERS_AT_A_TIME) {
                let content = member.map(|member| member::write(&member, now));
                changes.push(Change { place: member_place(id, address), content });
            }
            for (gateway, member) in group.members.take_departed() {
                let content = member.map(|member| member::write(&member, now));
                changes.push(Change { place: departed_place(id, &gateway), content });
            }
        }
        if self.cooperation.is_some() {
            self.cooperative_changes(now, &mut changes);
        }
        changes
    }

    /// Whether [`Server::take_changes`] has something to tell.
    pub fn has_changes(&self) -> bool {
        !self.forgotten.is_empty()
            || self.groups.iter().any(|group| {
                group.has_news()
                    || (!group.follows() && (group.keys_changed() || group.members.has_changed()))
            })
    }

    /// A group was removed from the configuration: so are its records.
    pub(super) fn forget_records(&mut self, group: &Group) {
        if !group.members.is_recorded() {
            return;
        }
        let id = group.settings.id;
        self.forgotten.push(keys_place(id));
        self.forgotten.extend(group.members.addresses().map(|address| member_place(id, address)));
        self.forgotten.extend(group.members.departed().map(|gateway| departed_place(id, gateway)));
    }
}

/// What there is on record of a group.
#[derive(Default)]
pub(super) struct Found {
    pub(super) keys: Option<GroupKeys>,
    pub(super) members: Vec<RememberedMember>,
    pub(super) departed: Vec<RememberedMember>,
    pub(super) news: Vec<(String, News)>,
    pub(super) statistics: Vec<(String, Statistics)>,
    pub(super) cleared: u64,
    pub(super) outcomes: Vec<EvictionOutcome>,
}

/// Reads the records of some groups.
pub(super) fn read_records(
    now: Instant,
    wanted: &BTreeSet<u32>,
    records: &[Record],
) -> Result<BTreeMap<u32, Found>, RestoreError> {
    let mut all: BTreeMap<u32, Found> = BTreeMap::new();
    for record in records {
        let Some((id, kind)) = parse_place(&record.place).filter(|(id, _)| wanted.contains(id)) else {
            continue;
        };
        let found = all.entry(id).or_default();
        match read_record(now, kind, record)? {
            Content::Keys(keys) => found.keys = Some(keys),
            Content::Member(member) => found.members.push(member),
            Content::Departed(member) => found.departed.push(member),
            Content::News(news) => found.news.push((record.place.clone(), news)),
            Content::Statistics(server, statistics) => found.statistics.push((server, statistics)),
            Content::Cleared(cleared) => found.cleared = cleared,
            Content::Outcomes(outcomes) => found.outcomes = outcomes,
        }
    }
    Ok(all)
}

/// What a record holds.
pub(super) enum Content {
    Keys(GroupKeys),
    Member(RememberedMember),
    Departed(RememberedMember),
    News(News),
    /// With the name of the server.
    Statistics(String, Statistics),
    Cleared(u64),
    Outcomes(Vec<EvictionOutcome>),
}

pub(super) fn read_record(now: Instant, kind: Kind<'_>, record: &Record) -> Result<Content, RestoreError> {
    let mut input = Input::new(record.content.expose(), Written { now, age: record.age });
    let content = match kind {
        Kind::Keys => keys::read(input).map(Content::Keys),
        Kind::Member(_) => member::read(input).map(Content::Member),
        Kind::Departed(_) => member::read(input).map(Content::Departed),
        Kind::News => news::read(input).map(Content::News),
        Kind::Statistics(server) => {
            statistics::read(input).map(|read| Content::Statistics(server.to_owned(), read))
        }
        Kind::Cleared => {
            input.u64("count").and_then(|count| input.finish().map(|()| count)).map(Content::Cleared)
        }
        Kind::Outcomes => outcomes::read(input).map(Content::Outcomes),
    };
    content.map_err(|error| RestoreError { place: record.place.clone(), error })
}

pub(super) fn write_cleared(cleared: u64) -> Secret {
    let mut output = Output::default();
    output.u64(cleared);
    output.into_secret()
}

impl Group {
    /// Takes over the keys of a record. Returns what members were still being told to forget.
    fn restore_keys(
        &mut self,
        now: Instant,
        keys: keys::GroupKeys,
        spis: &mut BTreeSet<u32>,
    ) -> Vec<(Subject, Instant)> {
        self.last_rekey = keys.last_rekey;
        if let Some(kept) = keys.sender_ids {
            self.sender_ids = SenderIds::restored(kept);
        }
        if let Some(kept) = keys.pseudo_clock {
            self.pseudo_clock = kept;
        }
        let push = self.settings.timing();
        for remembered in keys.sas {
            match self.sas.iter_mut().find(|sa| sa.settings.name == remembered.name) {
                Some(sa) => sa.restore(now, remembered.teks, spis),
                None => self.sas.extend(IpsecSa::removed(now, remembered, push, spis)),
            }
        }
        self.fresh_starts = keys.fresh_starts;
        let kept = keys.keks.into_iter().filter(|kek| kek.forget_at > now);
        self.keks = kept.map(|kek| Kek::restored(kek, super::kek::RESERVED)).collect();
        keys.deletions
    }

    /// Tells members again what they may not have heard.
    pub(super) fn resume(&mut self, now: Instant, deletions: Vec<(Subject, Instant)>) {
        for (subject, ends) in deletions {
            if ends > now {
                self.start_rekey(now, subject, ends, Instant::ORIGIN);
            }
        }
        let holds_members = |kek: &Kek| kek.state != KekState::Revoked && kek.is_alive(now);
        if !self.keks.iter().any(holds_members) {
            return;
        }
        if self.settings.push.is_none() {
            return self.stop_pushing(now);
        }
        self.heartbeat_at = self.settings.push.as_ref().and_then(|push| push.heartbeat).map(|_| now);
        let waiting = |sa: &&IpsecSa| sa.teks.back().is_some_and(|tek| !tek.is_active(now));
        let names: Vec<String> = self.sas.iter().filter(waiting).map(|sa| sa.settings.name.clone()).collect();
        for name in names {
            self.announce_keys(now, &name, false);
        }
        if self.keks.iter().any(|kek| kek.state == KekState::Succeeded && kek.is_alive(now)) {
            self.announce_kek(now);
        }
    }
}

/// What a record is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    Keys,
    /// Its address.
    Member(&'a str),
    /// Its gateway.
    Departed(&'a str),
    News,
    /// Name of the server.
    Statistics(&'a str),
    Cleared,
    Outcomes,
}

fn keys_place(group: u32) -> String {
    format!("group/{group:08x}/keys")
}

fn member_place(group: u32, address: SocketAddr) -> String {
    format!("group/{group:08x}/member/{address}")
}

fn departed_place(group: u32, gateway: &str) -> String {
    format!("group/{group:08x}/departed/{gateway}")
}

pub(super) fn news_place(group: u32, incarnation: &str, number: u64) -> String {
    format!("group/{group:08x}/news/{incarnation}/{number:016x}")
}

pub(super) fn statistics_place(group: u32, server: &str) -> String {
    format!("group/{group:08x}/statistics/{server}")
}

pub(super) fn cleared_place(group: u32) -> String {
    format!("group/{group:08x}/cleared")
}

pub(super) fn outcomes_place(group: u32) -> String {
    format!("group/{group:08x}/outcomes")
}

/// The group that a record is about. Places that are none of ours belong to somebody else.
pub(super) fn parse_place(place: &str) -> Option<(u32, Kind<'_>)> {
    let (group, rest) = place.strip_prefix("group/")?.split_once('/')?;
    let id = u32::from_str_radix(group, 16).ok().filter(|_| group.len() == 8)?;
    match rest.split_once('/') {
        None if rest == "keys" => Some((id, Kind::Keys)),
        None if rest == "cleared" => Some((id, Kind::Cleared)),
        None if rest == "outcomes" => Some((id, Kind::Outcomes)),
        Some(("member", address)) => Some((id, Kind::Member(address))),
        Some(("departed", gateway)) => Some((id, Kind::Departed(gateway))),
        Some(("news", _)) => Some((id, Kind::News)),
        Some(("statistics", server)) => Some((id, Kind::Statistics(server))),
        _ => None,
    }
}
