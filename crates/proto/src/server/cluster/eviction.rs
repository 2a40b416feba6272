//! Evictions that are asked for at a server while another one makes the keys: that one does them, and says so.
//!
//! ```text
//!   command at a follower ── news ──▶ leader: evicts ── outcome, news removed ──▶ the follower tells who gave the command
//! ```
//!
//! The leader keeps the last outcomes on record, so the answer comes from the next one if it dies, and none is done twice.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Cooperating;
use crate::log::{Entry, Facility, Level};
use crate::server::durable::News;
use crate::server::eviction::{Eviction, EvictionError};
use crate::server::{Event, Server, Standing};
use crate::time::Instant;

/// Outcomes that are kept: the server that asked hears of one within a moment.
const OUTCOMES: usize = 32;

/// Evictions that a server may have asked for and not heard of. Of older ones it does not tell the outcome.
const AWAITED: usize = 256;

/// An eviction that another server is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardedEviction {
    /// Comes back in [`Event::EvictionAnswered`], once for each group.
    pub number: u64,
    /// Names of the groups.
    pub groups: Vec<String>,
}

/// What is asked of the server that makes the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct EvictionOrder {
    /// The life of the server that asks.
    pub(in crate::server) asker: Arc<str>,
    pub(in crate::server) number: u64,
    pub(in crate::server) eviction: Eviction,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct EvictionOutcome {
    pub(in crate::server) asker: Arc<str>,
    pub(in crate::server) number: u64,
    /// In how long it was done, as of then; `None`: the members of the group pull.
    pub(in crate::server) done_in: Option<Duration>,
}

impl Server {
    /// Asks the server that makes the keys for an eviction: of one group, or of all.
    ///
    /// # Errors
    /// There is no such group, or this server reaches nobody. What that server refuses is told with its answer.
    pub fn forward_eviction(
        &mut self,
        group: Option<&str>,
        eviction: Eviction,
    ) -> Result<ForwardedEviction, EvictionError> {
        let Some(own) = self.cooperation.clone().filter(|_| !self.isolated) else {
            return Err(EvictionError::CutOff);
        };
        let chosen = self.chosen_groups(group, eviction)?;
        self.evictions_asked += 1;
        let number = self.evictions_asked;
        let mut groups = Vec::new();
        for index in chosen {
            let group = &mut self.groups[index];
            let Some(cooperating) = &mut group.cooperating else { continue };
            let asker = Arc::clone(&own.incarnation);
            cooperating.news.push(News::Evict(EvictionOrder { asker, number, eviction }));
            self.evictions_awaited.push_back((group.settings.id, number));
            groups.push(group.settings.name.clone());
        }
        let surplus = self.evictions_awaited.len().saturating_sub(AWAITED);
        self.evictions_awaited.drain(..surplus);
        Ok(ForwardedEviction { number, groups })
    }

    /// The leader does what another server asks it for.
    pub(super) fn carry_out(&mut self, now: Instant, index: usize, order: EvictionOrder) {
        let group = &mut self.groups[index];
        let EvictionOrder { asker, number, eviction } = order;
        let is_done = |cooperating: &Cooperating| {
            cooperating.outcomes.iter().any(|done| (&done.asker, done.number) == (&asker, number))
        };
        if self.standing != Standing::Leading || group.cooperating.as_deref().is_none_or(is_done) {
            return;
        }
        let cannot = eviction == Eviction::Now && group.settings.push.is_none();
        let done_in =
            (!cannot).then(|| group.replace_keys(now, eviction, &mut *self.random, &mut self.numbers));
        let server = asker.rsplit_once('.').map_or(&*asker, |(name, _)| name);
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::HighAvailability, "eviction asked for at another server")
                .with("group", &group.settings.name)
                .with("server", server)
                .with("now", eviction == Eviction::Now)
                .with("refused", cannot),
        );
        if let Some(cooperating) = &mut group.cooperating {
            cooperating.note_outcome(EvictionOutcome { asker, number, done_in });
        }
    }

    /// Tells what became of evictions that were asked for here.
    pub(super) fn tell_outcomes(&mut self, index: usize) {
        let Some(own) = &self.cooperation else { return };
        let group = &self.groups[index];
        let id = group.settings.id;
        for outcome in group.cooperating.iter().flat_map(|cooperating| &cooperating.outcomes) {
            let awaited = self.evictions_awaited.iter().position(|it| *it == (id, outcome.number));
            let Some(position) = awaited.filter(|_| outcome.asker == own.incarnation) else { continue };
            self.evictions_awaited.remove(position);
            let group = group.settings.name.clone();
            let outcome_told = outcome.done_in.ok_or_else(|| EvictionError::Pulls(group.clone()));
            let number = outcome.number;
            self.events.push_back(Event::EvictionAnswered { number, group, outcome: outcome_told });
        }
    }
}

impl Cooperating {
    /// Takes over what the leader has on record.
    pub(super) fn load_outcomes(&mut self, outcomes: Vec<EvictionOutcome>) {
        self.outcomes = VecDeque::from(outcomes);
        self.outcomes_changed = false;
    }

    fn note_outcome(&mut self, outcome: EvictionOutcome) {
        if self.outcomes.len() == OUTCOMES {
            self.outcomes.pop_front();
        }
        self.outcomes.push_back(outcome);
        self.outcomes_changed = true;
    }
}
