//! One group: its TEKs, its members, its counters.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crypto::{EspSuite, Random};

use super::members::{MemberKey, Members};
use super::settings::{GroupSettings, IpsecSaSettings};
use super::tek::IpsecSa;
use crate::policy::{GroupPolicy, PendingTimes, Template};
use crate::pull::Refusal;
use crate::time::Instant;

/// Refusals that `show` remembers in words.
const RECENT_FAILURES: usize = 8;

/// Counters of a group since the start or the last `clear`.
#[derive(Clone, Debug, Default)]
pub(super) struct Statistics {
    pub(super) pulls_succeeded: u64,
    pub(super) pulls_failed: u64,
    pub(super) threshold_exceeded: u64,
    pub(super) recent_failures: VecDeque<String>,
}

/// One group.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) settings: GroupSettings,
    gateways: BTreeSet<String>,
    pub(super) sas: Vec<IpsecSa>,
    pub(super) members: Members,
    pub(super) statistics: Statistics,
    /// What is handed out now: without private attributes, and with them.
    templates: [Option<Arc<Template>>; 2],
    distributed: bool,
}

/// Whether TEKs of this suite can be handed out: a counter mode needs sender ids.
fn is_active(sa: &IpsecSaSettings) -> bool {
    match sa.suite {
        EspSuite::Cbc { .. } => !sa.policies.is_empty(),
        EspSuite::Gcm { .. } => false,
    }
}

impl Group {
    pub(super) fn new(settings: GroupSettings) -> Self {
        Self {
            gateways: settings.gateways.iter().cloned().collect(),
            sas: settings.ipsec_sas.iter().filter(|sa| is_active(sa)).cloned().map(IpsecSa::new).collect(),
            settings,
            members: Members::default(),
            statistics: Statistics::default(),
            templates: [None, None],
            distributed: false,
        }
    }

    /// Takes over changed settings of the same group. Returns the members that are no longer of it.
    pub(super) fn change(&mut self, settings: GroupSettings) -> usize {
        let mut old = std::mem::take(&mut self.sas);
        for wanted in settings.ipsec_sas.iter().filter(|sa| is_active(sa)) {
            let known = old.iter().position(|sa| sa.settings.name == wanted.name);
            let sa = match known {
                Some(position) => {
                    let mut sa = old.remove(position);
                    sa.change(wanted.clone());
                    sa
                }
                None => IpsecSa::new(wanted.clone()),
            };
            self.sas.push(sa);
        }
        for mut sa in old {
            sa.retire();
            self.sas.push(sa);
        }
        self.gateways = settings.gateways.iter().cloned().collect();
        self.settings = settings;
        self.templates = [None, None];
        let before = self.members.count();
        let gateways = &self.gateways;
        self.members.retain(|(gateway, _), _| gateways.contains(gateway));
        before - self.members.count()
    }

    /// Does what is due with the TEKs.
    pub(super) fn advance(&mut self, now: Instant, random: &mut dyn Random, spis: &mut BTreeSet<u32>) {
        let mut changed = false;
        for sa in &mut self.sas {
            changed |= sa.advance(now, random, spis);
        }
        if changed {
            self.sas.retain(|sa| !sa.is_gone());
            self.templates = [None, None];
            self.distributed = false;
            self.members.expire(now);
        }
    }

    /// When `advance` has something to do next.
    pub(super) fn due(&self, now: Instant) -> Option<Instant> {
        self.sas.iter().filter_map(|sa| sa.due(now)).min()
    }

    pub(super) fn is_authorized(&self, gateway: &str) -> bool {
        self.gateways.contains(gateway)
    }

    pub(super) fn has_room_for(&mut self, now: Instant, key: &MemberKey) -> bool {
        let Some(threshold) = self.settings.member_threshold else { return true };
        let full = |members: &Members| members.count() >= threshold as usize;
        if full(&self.members) && !self.members.is_registered(key) {
            self.members.expire(now);
            return !full(&self.members);
        }
        true
    }

    /// What a member is given now.
    pub(super) fn template(&mut self, now: Instant, private: bool) -> Result<Arc<Template>, Refusal> {
        let cached = &mut self.templates[usize::from(private)];
        if let Some(template) = cached {
            return Ok(Arc::clone(template));
        }
        let teks: Vec<_> = self.sas.iter().flat_map(|sa| sa.handed_out(now)).map(|tek| tek.view()).collect();
        if teks.is_empty() {
            return Err(Refusal::NoTek);
        }
        let policy = GroupPolicy {
            kek: None,
            gap: PendingTimes::of_all(&teks),
            teks: &teks,
            id_length: self.settings.id_length,
            private,
        };
        let template = Arc::new(Template::new(&policy).map_err(|_| Refusal::TooLarge)?);
        *cached = Some(Arc::clone(&template));
        Ok(template)
    }

    /// A member proved to be live and is given the keys of `template`.
    pub(super) fn register(&mut self, now: Instant, key: MemberKey, template: &Template) {
        if !self.distributed {
            self.sas.iter_mut().for_each(|sa| sa.mark_distributed(now));
            self.distributed = true;
        }
        self.members.register(now, key, template.last_expiry());
        self.statistics.pulls_succeeded += 1;
    }

    /// A registration was refused or broken off.
    pub(super) fn failed(&mut self, key: MemberKey, refusal: &dyn std::fmt::Display, threshold: bool) {
        if threshold {
            self.statistics.threshold_exceeded += 1;
        } else {
            self.statistics.pulls_failed += 1;
        }
        let failures = &mut self.statistics.recent_failures;
        failures.truncate(RECENT_FAILURES - 1);
        failures.push_front(format!("{} at {}: {refusal}", key.0, key.1));
        self.members.failed(key);
    }

    pub(super) fn forget(&self, spis: &mut BTreeSet<u32>) {
        self.sas.iter().for_each(|sa| sa.forget(spis));
    }
}
