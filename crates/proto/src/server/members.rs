//! The members of a group: who has registered, with what result.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::time::Instant;

/// A member is who registers from one address under one gateway.
pub(super) type MemberKey = (String, SocketAddr);

/// Members that are only known by failures, so that a listed gateway which never gets in cannot fill memory by
/// changing its port.
const FAILURES_ONLY: usize = 4096;

/// What is known of a member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Member {
    /// Last registration; `None` while it only failed.
    pub(super) registered_at: Option<Instant>,
    /// When the last key it was given is gone, and with it the membership.
    pub(super) keys_until: Instant,
    pub(super) pulls_succeeded: u64,
    pub(super) pulls_failed: u64,
}

/// The members of one group.
#[derive(Debug, Default)]
pub(super) struct Members {
    table: BTreeMap<MemberKey, Member>,
    registered: usize,
}

impl Members {
    /// Registered members.
    pub(super) fn count(&self) -> usize {
        self.registered
    }

    pub(super) fn is_registered(&self, key: &MemberKey) -> bool {
        self.table.get(key).is_some_and(|member| member.registered_at.is_some())
    }

    pub(super) fn register(&mut self, now: Instant, key: MemberKey, keys_until: Instant) {
        let member = self.table.entry(key).or_default();
        self.registered += usize::from(member.registered_at.is_none());
        member.registered_at = Some(now);
        member.keys_until = keys_until;
        member.pulls_succeeded += 1;
    }

    pub(super) fn failed(&mut self, key: MemberKey) {
        let room = self.table.len() - self.registered < FAILURES_ONLY;
        match self.table.get_mut(&key) {
            Some(member) => member.pulls_failed += 1,
            None if room => {
                self.table.insert(key, Member { pulls_failed: 1, ..Member::default() });
            }
            None => {}
        }
    }

    /// Forgets members whose keys are all gone.
    pub(super) fn expire(&mut self, now: Instant) {
        self.retain(|_, member| member.keys_until > now || member.registered_at.is_none());
    }

    /// Forgets members that `keep` does not name.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&MemberKey, &Member) -> bool) {
        self.table.retain(|key, member| keep(key, member));
        self.registered = self.table.values().filter(|member| member.registered_at.is_some()).count();
    }

    /// Registered members, by gateway name and address.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&MemberKey, &Member, Instant)> {
        self.table.iter().filter_map(|(key, member)| Some((key, member, member.registered_at?)))
    }

    /// Sets the counters of all members to zero.
    pub(super) fn clear_statistics(&mut self) {
        for member in self.table.values_mut() {
            (member.pulls_succeeded, member.pulls_failed) = (0, 0);
        }
        self.retain(|_, member| member.registered_at.is_some());
    }
}
