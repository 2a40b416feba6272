//! Members that the list has forgotten and that may hold a key all the same: a KEK brings its successors to everybody
//! who ever had it, heard of or not, until it is revoked.
//!
//! One of each gateway is enough, because a gateway is what leaves a group. So there are never more of them than gateways.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::members::Member;
use crate::time::Instant;

/// By gateway, what the one of its members held that held most.
#[derive(Debug, Default)]
pub(super) struct Departed {
    by_gateway: BTreeMap<Arc<str>, Member>,
    /// Gateways of which the record is behind.
    changed: BTreeSet<Arc<str>>,
    /// KEKs up to this one carry nothing any more.
    revoked: u32,
}

impl Departed {
    /// A member is forgotten.
    pub(super) fn insert(&mut self, mut member: Member) {
        if member.kek <= self.revoked {
            return;
        }
        if let Some(other) = self.by_gateway.get(&member.gateway) {
            member.kek = member.kek.max(other.kek);
            member.keys_until = member.keys_until.max(other.keys_until);
        }
        self.changed.insert(Arc::clone(&member.gateway));
        self.by_gateway.insert(Arc::clone(&member.gateway), member);
    }

    /// KEKs up to `kek` are revoked. What came under them lives until `until`.
    pub(super) fn revoke(&mut self, kek: u32, until: Instant) {
        for (gateway, member) in &mut self.by_gateway {
            if member.kek > self.revoked {
                member.keys_until = member.keys_until.max(until);
                self.changed.insert(Arc::clone(gateway));
            }
        }
        self.revoked = self.revoked.max(kek);
    }

    /// Forgets those whose keys are all gone.
    pub(super) fn expire(&mut self, now: Instant) {
        let revoked = self.revoked;
        let gone = self.by_gateway.extract_if(.., |_, member| !holds_keys(member, now, revoked));
        self.changed.extend(gone.map(|(gateway, _)| gateway));
    }

    /// Forgets those of other gateways. Returns whether one of them may hold keys.
    pub(super) fn keep_gateways(&mut self, now: Instant, gateways: &BTreeSet<Arc<str>>) -> bool {
        let revoked = self.revoked;
        let leaving: Vec<_> =
            self.by_gateway.extract_if(.., |gateway, _| !gateways.contains(gateway)).collect();
        let held = leaving.iter().any(|(_, member)| holds_keys(member, now, revoked));
        self.changed.extend(leaving.into_iter().map(|(gateway, _)| gateway));
        held
    }

    /// Another server has forgotten the one of this gateway.
    pub(super) fn restore_return(&mut self, gateway: &str) {
        self.by_gateway.remove(gateway);
        self.changed.remove(gateway);
    }

    /// Nothing of it is on record.
    pub(super) fn none_is_stored(&mut self) {
        self.changed = self.by_gateway.keys().cloned().collect();
    }

    /// What changed, as it is now.
    pub(super) fn take_changed(&mut self) -> Vec<(Arc<str>, Option<Member>)> {
        let changed = std::mem::take(&mut self.changed);
        let now = |gateway: Arc<str>| {
            let member = self.by_gateway.get(&gateway).cloned();
            (gateway, member)
        };
        changed.into_iter().map(now).collect()
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    pub(super) fn gateways(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_gateway.keys()
    }

    pub(super) fn revoked(&self) -> u32 {
        self.revoked
    }
}

fn holds_keys(member: &Member, now: Instant, revoked: u32) -> bool {
    member.kek > revoked || member.keys_until > now
}
