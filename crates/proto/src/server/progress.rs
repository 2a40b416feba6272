//! How long it takes from a command until every member that stays uses new keys: measured, logged and shown.

use std::time::Duration;

use super::event::Event;
use super::group::{Group, Note};
use super::members::MemberId;
use super::owing::Owing;
use crate::log::{Entry, Facility, Level};
use crate::time::Instant;

/// Why keys are replaced out of turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A commit changed policies, algorithms or lifetimes.
    PolicyChange,
    /// A gateway was removed, or the operator asked for it.
    GracefulEviction,
    /// The operator asked for all keys to die at once.
    EvictionNow,
}

impl Cause {
    /// In words, as logs and `show` have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::PolicyChange => "policy change",
            Cause::GracefulEviction => "graceful eviction",
            Cause::EvictionNow => "eviction now",
        }
    }
}

/// What a command asked for, while it is under way.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) cause: Cause,
    pub(super) started: Instant,
    /// When all senders switch.
    pub(super) switch_at: Instant,
    /// When those who have not shown by then have missed it.
    deadline: Instant,
    pub(super) members: usize,
    /// Rekeys that bring it.
    rekeys: Vec<u64>,
    /// Who has to register for it, where nobody can be pushed to, and the rekey that says so.
    registering: Option<(Owing, u64)>,
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) cause: Cause,
    pub(super) finished: Instant,
    pub(super) took: Duration,
    pub(super) members: usize,
    pub(super) missing: usize,
}

impl Progress {
    pub(super) fn due(&self, now: Instant) -> Instant {
        if self.switch_at > now { self.switch_at } else { self.deadline }
    }

    pub(super) fn registered(&mut self, member: MemberId, up_to: u64) {
        if let Some((registering, since)) = &mut self.registering
            && *since <= up_to
        {
            registering.remove(member);
        }
    }

    pub(super) fn left(&mut self, member: MemberId) {
        if let Some((registering, _)) = &mut self.registering {
            registering.remove(member);
        }
    }
}

impl Group {
    /// A rekey of a changed policy begins; several of one commit count as one command.
    pub(super) fn note_policy_change(&mut self, now: Instant, rekey: u64, switch_at: Instant) {
        match &mut self.progress {
            Some(progress) if progress.cause == Cause::PolicyChange && progress.started == now => {
                progress.rekeys.push(rekey);
                progress.switch_at = progress.switch_at.max(switch_at);
                progress.deadline = progress.switch_at;
            }
            _ => self.begin_progress(Progress {
                cause: Cause::PolicyChange,
                started: now,
                switch_at,
                deadline: switch_at,
                members: self.members.count(),
                rekeys: vec![rekey],
                registering: None,
            }),
        }
    }

    /// An eviction begins: everybody has to register, as rekey `rekey` tells them. All switch after `delay`.
    pub(super) fn note_eviction(
        &mut self,
        now: Instant,
        cause: Cause,
        rekey: u64,
        delay: Duration,
        patience: Duration,
    ) {
        let members = self.members.active().map(|(id, _)| id);
        let registering = Owing::of(self.members.id_limit(), members);
        self.begin_progress(Progress {
            cause,
            started: now,
            switch_at: now + delay,
            deadline: now + delay + patience,
            members: registering.len(),
            rekeys: Vec::new(),
            registering: Some((registering, rekey)),
        });
    }

    /// Members get the new keys when they ask; nobody is told before. All have them after `delay`.
    pub(super) fn note_next_roll(&mut self, now: Instant, cause: Cause, delay: Duration) {
        self.begin_progress(Progress {
            cause,
            started: now,
            switch_at: now + delay,
            deadline: now + delay,
            members: self.members.count(),
            rekeys: Vec::new(),
            registering: None,
        });
    }

    fn begin_progress(&mut self, progress: Progress) {
        let entry = Entry::new(Level::Info, Facility::PolicyManager, "new keys for the group")
            .with("cause", progress.cause.as_str())
            .with("members", progress.members)
            .with("switch-in-secs", (progress.switch_at - progress.started).as_secs());
        self.log(entry);
        self.progress = Some(progress);
    }

    /// Members from whom we do not know yet that they have the new keys.
    pub(super) fn outstanding(&self, progress: &Progress) -> usize {
        if let Some((registering, _)) = &progress.registering {
            return registering.len();
        }
        let rekeys = self.rekeys.iter().filter(|rekey| progress.rekeys.contains(&rekey.id));
        rekeys.map(|rekey| rekey.owing.len()).max().unwrap_or_default()
    }

    /// Reports a command that is done, or that not everybody followed in time.
    pub(super) fn finish_progress(&mut self, now: Instant) {
        let Some(progress) = &self.progress else { return };
        let missing = self.outstanding(progress);
        if progress.switch_at > now || (missing > 0 && progress.deadline > now) {
            return;
        }
        let Progress { cause, started, members, .. } = *progress;
        let report = Report { cause, finished: now, took: now - started, members, missing };
        self.progress = None;
        self.last_report = Some(report);
        let level = if missing == 0 { Level::Info } else { Level::Warn };
        let entry = Entry::new(level, Facility::PolicyManager, "the group uses new keys")
            .with("cause", cause.as_str())
            .with("took-millis", report.took.as_millis())
            .with("members", members)
            .with("missing", missing);
        self.log(entry);
        self.notes.push(Note::Event(Event::RekeyCompleted {
            group: self.settings.name.clone(),
            cause,
            took: report.took,
            members,
            missing,
        }));
    }
}
