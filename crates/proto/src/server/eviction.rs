//! Eviction: somebody who holds keys shall not have the next ones.
//!
//! ```text
//!   graceful   command ── Delete of the KEK ── members register within J ──── all switch at D ── old TEKs end
//!   now        command ── Delete of everything ── members register; until then traffic stops
//! ```
//!
//! The one to go holds the KEK, so nothing new travels under it: it is revoked, and everybody else comes for new keys.

use std::time::Duration;

use crypto::Random;

use super::group::{Group, Numbers};
use super::kek::KekState;
use super::progress::Cause;
use super::rekey::Subject;
use super::sender_ids::SenderIds;
use super::{Server, Standing};
use crate::log::{Entry, Facility, Level};
use crate::time::Instant;
use crate::timeline::EVICTION_SPREAD;

/// How keys are replaced that somebody shall not have any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// Everybody registers again, and no packet is lost.
    Graceful,
    /// All keys die at once; traffic stops until members have registered.
    Now,
}

/// What an eviction does to a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvictionNotice {
    /// Name of the group.
    pub group: String,
    /// In how long everybody uses keys that were never out there before. With [`Eviction::Now`] this is when the last
    /// member should have registered.
    pub done_in: Duration,
}

/// Why there is no eviction.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvictionError {
    /// No group has that name.
    #[error("there is no group {0}")]
    UnknownGroup(String),
    /// Another server of the cluster makes the keys: [`Server::forward_eviction`] asks that one.
    #[error("another server of the cluster makes the keys: ask that one")]
    Follows,
    /// Nobody can be asked either.
    #[error(
        "this server is cut off from the others, and cannot tell the one that makes the keys: ask another server"
    )]
    CutOff,
    /// Nothing can be said to members before they ask.
    #[error("members of group {0} pull, so keys cannot be taken back: they end with their lifetime")]
    Pulls(String),
}

impl Server {
    /// Replaces the keys of one group, or of all. Nothing is done if it is refused for one of them.
    pub fn evict(
        &mut self,
        now: Instant,
        group: Option<&str>,
        eviction: Eviction,
    ) -> Result<Vec<EvictionNotice>, EvictionError> {
        if self.standing == Standing::Following {
            return Err(EvictionError::Follows);
        }
        let mut notices = Vec::new();
        for index in self.chosen_groups(group, eviction)? {
            let group = &mut self.groups[index];
            let done_in = group.replace_keys(now, eviction, &mut *self.random, &mut self.numbers);
            notices.push(EvictionNotice { group: group.settings.name.clone(), done_in });
            group.advance(now, &mut *self.random, &mut self.numbers);
            self.collect_notes(now, index);
        }
        self.update_due(now);
        Ok(notices)
    }

    /// One group, or all, if nothing forbids the eviction in any of them.
    pub(super) fn chosen_groups(
        &self,
        group: Option<&str>,
        eviction: Eviction,
    ) -> Result<Vec<usize>, EvictionError> {
        let is_chosen = |index: &usize| group.is_none_or(|name| name == self.groups[*index].settings.name);
        let chosen: Vec<usize> = (0..self.groups.len()).filter(is_chosen).collect();
        if let Some(name) = group.filter(|_| chosen.is_empty()) {
            return Err(EvictionError::UnknownGroup(name.to_owned()));
        }
        let pulls = chosen.iter().map(|&index| &self.groups[index].settings).find(|it| it.push.is_none());
        match (eviction, pulls) {
            (Eviction::Now, Some(group)) => Err(EvictionError::Pulls(group.name.clone())),
            _ => Ok(chosen),
        }
    }
}

impl Group {
    /// Replaces the keys. Returns in how long that is done.
    pub(super) fn replace_keys(
        &mut self,
        now: Instant,
        eviction: Eviction,
        random: &mut dyn Random,
        numbers: &mut Numbers,
    ) -> Duration {
        match eviction {
            Eviction::Graceful => self.evict(now, random, numbers),
            Eviction::Now => self.start_over(now, random, numbers),
        }
    }

    /// Graceful eviction. Returns in how long all use keys that nobody has now.
    pub(super) fn evict(&mut self, now: Instant, random: &mut dyn Random, numbers: &mut Numbers) -> Duration {
        let Some(push) = self.settings.timing().filter(|_| self.members.without_kek() == 0) else {
            return self.evict_at_the_next_roll(now, random, numbers);
        };
        // Nothing that brings keys goes on: what it would bring is known to the one who goes.
        self.rekeys.retain(|rekey| matches!(rekey.subject, Subject::RemovedTeks(_)));
        let mut delay = Duration::ZERO;
        let mut switch = Duration::ZERO;
        for sa in &mut self.sas {
            delay = delay.max(sa.evict(now, push, random, &mut numbers.spis).unwrap_or_default());
            switch = switch.max(sa.teks.back().map(|tek| tek.timeline.switch).unwrap_or_default());
        }
        // However soon the old TEKs end, members must have heard of it.
        let rounds = delay.max(push.span() + EVICTION_SPREAD);
        self.revoke_keks(now + rounds);
        self.make_kek(now, random, numbers);
        self.forget_offers();
        if let Some(rekey) = self.start_rekey(now, Subject::RevokedKeks, now + rounds, Instant::ORIGIN) {
            self.note_eviction(now, Cause::GracefulEviction, rekey, delay, switch);
        }
        delay
    }

    /// All keys die. Returns when the last member should have registered.
    pub(super) fn start_over(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        numbers: &mut Numbers,
    ) -> Duration {
        self.drop_teks(numbers);
        let rounds = self.without_switch().max(EVICTION_SPREAD);
        self.revoke_keks(now + rounds);
        self.make_kek(now, random, numbers);
        self.forget_offers();
        if let Some(rekey) = self.start_rekey(now, Subject::CleanSlate, now + rounds, Instant::ORIGIN) {
            self.note_eviction(now, Cause::EvictionNow, rekey, Duration::ZERO, rounds);
        }
        EVICTION_SPREAD
    }

    /// All keys are replaced because no sender id is left, or because nobody could use them together with new ones. Where
    /// members pull, they keep what they have until it ends or they meet a key that they do not know.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-3.5
    //# The GCKS SHOULD send a GROUPKEY-PUSH message deleting all Data-
    //# Security SAs and the Rekey SA for the group.
    pub(super) fn replace_all_keys(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        numbers: &mut Numbers,
        reason: &'static str,
    ) {
        let entry = Entry::new(Level::Warn, Facility::PolicyManager, "all keys are replaced");
        self.log(entry.with("reason", reason));
        if self.settings.push.is_some() {
            self.start_over(now, random, numbers);
        } else {
            self.drop_teks(numbers);
            self.forget_offers();
        }
    }

    /// The group is no more: its members are to forget its keys. Whom no round reaches keeps them until they end. Returns
    /// whether there is anybody to tell.
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.9
    //# There are times the GCKS may want to signal to receivers to delete
    //# SAs, for example, at the end of a broadcast.
    pub(super) fn dissolve(&mut self, now: Instant, numbers: &mut Numbers) -> bool {
        let span = self.settings.timing().map_or(Duration::ZERO, |push| push.span());
        let until = now + span + Duration::from_secs(1);
        self.drop_teks(numbers);
        self.revoke_keks(until);
        self.start_rekey(now, Subject::CleanSlate, until, Instant::ORIGIN).is_some()
    }

    /// When the next round of a group is due that is no more; `None` after the last one.
    pub(super) fn next_farewell(&self) -> Option<Instant> {
        self.rekeys.iter().filter_map(|rekey| rekey.next_round.filter(|next| *next < rekey.ends)).min()
    }

    fn drop_teks(&mut self, numbers: &mut Numbers) {
        self.rekeys.clear();
        for sa in &mut self.sas {
            sa.start_over(&mut numbers.spis);
        }
        self.sas.retain(|sa| !sa.is_gone());
        self.sender_ids = SenderIds::new(self.settings.sender_id_bits);
        self.fresh_starts += 1;
    }

    /// Members that hold a KEK shall forget it: the server will not push any more.
    pub(super) fn stop_pushing(&mut self, now: Instant) {
        self.rekeys.retain(|rekey| matches!(rekey.subject, Subject::RemovedTeks(_)));
        let until = now + self.without_switch();
        self.revoke_keks(until);
        self.heartbeat_at = None;
        self.forget_offers();
        self.start_rekey(now, Subject::RevokedKeks, until, Instant::ORIGIN);
    }

    /// Where not everybody can be told, no life is cut: the next key that is made was never out there.
    fn evict_at_the_next_roll(
        &mut self,
        now: Instant,
        random: &mut dyn Random,
        numbers: &mut Numbers,
    ) -> Duration {
        if self.settings.push.is_some() {
            self.rekeys.retain(|rekey| matches!(rekey.subject, Subject::RemovedTeks(_)));
            let until = now + self.without_switch();
            self.revoke_keks(until);
            self.make_kek(now, random, numbers);
            self.start_rekey(now, Subject::RevokedKeks, until, Instant::ORIGIN);
        }
        let done_in = self.sas.iter().map(|sa| sa.fresh_in(now)).max().unwrap_or_default();
        self.note_next_roll(now, Cause::GracefulEviction, done_in);
        done_in
    }

    fn revoke_keks(&mut self, until: Instant) {
        for kek in self.keks.iter_mut().filter(|kek| kek.state != KekState::Revoked) {
            kek.revoke(until);
        }
        // New TEKs have not been handed out yet.
        let teks = self.sas.iter().flat_map(|sa| &sa.teks).filter(|tek| tek.distributed);
        let ends = teks.map(|tek| tek.expires).max().unwrap_or(until);
        let newest = self.keks.iter().map(|kek| kek.index).max().unwrap_or_default();
        self.members.revoke(newest, ends);
    }
}
