//! A commit changes the settings of a group that goes on.

use std::sync::Arc;
use std::time::Duration;

use crypto::Random;

use super::group::{Group, Numbers, gateway_names, is_active};
use super::kek::current;
use super::progress::Cause;
use super::rekey::Subject;
use super::sender_ids::SenderIds;
use super::settings::GroupSettings;
use super::tek::IpsecSa;
use crate::time::Instant;

/// What a commit did to the members of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    /// Members that are not of it any more.
    pub(super) removed: usize,
}

impl Group {
    /// Takes over changed settings of the same group. What is due because of them is done by `advance`.
    pub(super) fn change(
        &mut self,
        now: Instant,
        settings: GroupSettings,
        random: &mut dyn Random,
        numbers: &mut Numbers,
    ) -> Changed {
        let pushed = self.settings.push.is_some();
        let fresh_in = self.change_sas(now, &settings, numbers);
        let gateways = std::mem::replace(&mut self.gateways, gateway_names(&settings));
        // A server that is cut off may have registered its member and could not say so.
        let unknown = self.cooperating.is_some() && !gateways.is_subset(&self.gateways);
        let widths = (self.sender_ids.bits(), settings.sender_id_bits);
        self.settings = settings;
        self.forget_offers();
        self.change_push(now, pushed);
        // The same IV would stand for different senders.
        if widths.0 != widths.1 {
            if self.sas.iter().any(IpsecSa::has_counter_mode) {
                self.replace_all_keys(now, random, numbers, "sender ids have another width");
            }
            self.sender_ids = SenderIds::new(widths.1);
            self.note_keys_changed();
        }
        let before = self.members.count();
        let (left, holds_keys) = self.members.keep_gateways(now, &self.gateways);
        self.left(&left);
        if let Some(fresh_in) = fresh_in.filter(|_| !self.reaches_everyone(now)) {
            self.note_next_roll(now, Cause::PolicyChange, fresh_in);
        }
        if holds_keys || unknown {
            self.evict(now, random, numbers);
        }
        Changed { removed: before - self.members.count() }
    }

    /// Returns when everybody has what changed if nobody is told, where something changed that is out there.
    fn change_sas(
        &mut self,
        now: Instant,
        settings: &GroupSettings,
        numbers: &mut Numbers,
    ) -> Option<Duration> {
        let push = settings.timing();
        let mut fresh_in = None;
        let mut old = std::mem::take(&mut self.sas);
        for wanted in settings.ipsec_sas.iter().filter(|sa| is_active(sa)) {
            let known = old.iter().position(|sa| sa.settings.name == wanted.name);
            let sa = match known {
                Some(position) => {
                    let mut sa = old.remove(position);
                    if *sa.settings != *wanted {
                        fresh_in = fresh_in.max(Some(sa.fresh_in(now)).filter(|delay| !delay.is_zero()));
                    }
                    sa.change(wanted.clone(), push);
                    sa
                }
                None => IpsecSa::new(wanted.clone(), push),
            };
            self.sas.push(sa);
        }
        let told = self.settings.push.is_some() && current(&self.keks).is_some_and(|kek| kek.is_alive(now));
        for mut sa in old {
            if !told {
                sa.retire();
                self.sas.push(sa);
                continue;
            }
            let spis: Vec<u32> = sa.teks.iter().map(|tek| tek.spi).collect();
            let name: Arc<str> = sa.settings.name.as_str().into();
            self.rekeys.retain(|rekey| rekey.subject != Subject::Keys(Arc::clone(&name)));
            sa.forget(&mut numbers.spis);
            if !spis.is_empty() {
                let until = now + self.without_switch();
                self.start_rekey(now, Subject::RemovedTeks(spis), until, Instant::ORIGIN);
            }
        }
        fresh_in
    }

    /// Takes over what does not need a new KEK; `advance` sees for itself where one is needed.
    fn change_push(&mut self, now: Instant, pushed: bool) {
        match &self.settings.push {
            Some(push) => {
                if let Some(kek) =
                    self.keks.iter_mut().rfind(|kek| kek.state == super::kek::KekState::Current)
                    && kek.settings.keyed_alike(push)
                    && *kek.settings != *push
                {
                    kek.settings = Arc::new(push.clone());
                    self.heartbeat_at = push.heartbeat.map(|heartbeat| now + heartbeat);
                }
            }
            None if pushed => self.stop_pushing(now),
            None => {}
        }
    }
}
