//! Rekeys: what is told to whom, again and again, until it is known or too late.
//!
//! ```text
//!   subject           under which KEK            until                        settled by
//!   keys of one sa    current, succeeded (+SAK)  the switch to the new TEK    acknowledgement, registration
//!   a new KEK         succeeded (SAK)            the old KEK's end            acknowledgement, registration
//!   removed TEKs      any                        span + 2A + S                acknowledgement
//!   revoked KEKs      revoked (Delete)           the switch of the eviction   acknowledgement, registration
//!   a clean slate     revoked (Delete all)       span + 2A + S                acknowledgement, registration
//! ```
//!
//! Rounds that are due at the same moment and bring the same KEK to the same members are one: a TEK and a KEK that roll
//! together come in one message.

use std::sync::Arc;
use std::time::Duration;

use super::group::Group;
use super::kek::{KekState, current, successor_due};
use super::members::MemberId;
use super::owing::Owing;
use crate::log::{Entry, Facility, Level};
use crate::time::Instant;
use crate::timeline;

/// How long to wait at least for the acknowledgement of the last round that counts.
//= https://www.rfc-editor.org/rfc/rfc8263#section-6
//# a GCKS
//# SHOULD NOT declare an Acknowledgement Message as missing until it
//# has waited at least 10 seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a rekey is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    /// The TEKs of the ipsec-sa with this name.
    Keys(Arc<str>),
    /// The current KEK.
    Kek,
    /// These TEKs are to be forgotten.
    RemovedTeks(Vec<u32>),
    /// Every KEK that is revoked is to be forgotten.
    RevokedKeks,
    /// All keys are to be forgotten.
    CleanSlate,
}

/// A rekey whose rounds go on.
#[derive(Debug)]
pub(super) struct Rekey {
    /// Greater than that of every earlier rekey of the group.
    pub(super) id: u64,
    pub(super) subject: Subject,
    pub(super) period: Duration,
    pub(super) next_round: Option<Instant>,
    pub(super) rounds: u32,
    /// When it counts as unacknowledged; `None`: it did already.
    pub(super) judge_at: Option<Instant>,
    /// When members that never acknowledge anything are taken to have it.
    pub(super) assume_at: Option<Instant>,
    pub(super) ends: Instant,
    /// Who has not acknowledged it. Nobody in a group where nobody acknowledges.
    pub(super) owing: Owing,
    /// Whether its rounds go to a group address, and so to everybody.
    pub(super) to_group: bool,
    /// When the last of the keys it brings is gone.
    pub(super) keys_until: Instant,
}

impl Rekey {
    /// When there is something to do next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.next_round.into_iter().chain(self.judge_at).chain(self.assume_at).chain([self.ends]).min()
    }

    /// A member registered with what was true when rekey `up_to` was the last.
    pub(super) fn registered(&mut self, now: Instant, member: MemberId, up_to: u64) {
        match &self.subject {
            // Silence does not tell a member that something is gone.
            Subject::RemovedTeks(_) => {}
            Subject::Keys(_) | Subject::Kek | Subject::RevokedKeks | Subject::CleanSlate => {
                if self.id <= up_to {
                    self.owing.remove(member);
                }
            }
        }
        if self.id > up_to {
            self.owing.insert(member);
            let next = self.next_round.map_or(now, |next| next.min(now + self.period));
            self.next_round = Some(next).filter(|_| now < self.ends);
        }
    }
}

impl Group {
    /// The TEKs of an ipsec-sa changed: tells the members. `change` says that others were cut short for it.
    pub(super) fn announce_keys(&mut self, now: Instant, name: &str, change: bool) {
        let Some(sa) = self.sas.iter().find(|sa| sa.settings.name == name) else { return };
        let Some(newest) = sa.teks.back() else { return };
        let Some(push) = self.settings.timing() else { return };
        let switch = if newest.is_active(now) {
            // Nothing is replaced, so there is no switch: as long as a change of policy would give it.
            now + push.span() + 2 * push.activation_time_delay + newest.timeline.switch
        } else {
            newest.activates
        };
        let keys_until = newest.expires;
        self.rekeys.retain(|rekey| !matches!(&rekey.subject, Subject::Keys(other) if &**other == name));
        let Some(id) = self.start_rekey(now, Subject::Keys(name.into()), switch, keys_until) else { return };
        if change {
            self.note_policy_change(now, id, switch);
        }
    }

    /// There is a new KEK: tells the members that hold an older one.
    pub(super) fn announce_kek(&mut self, now: Instant) {
        let Some(new) = current(&self.keks) else { return };
        let keys_until = new.expires;
        let older = || self.keks.iter().filter(|kek| kek.state == KekState::Succeeded && kek.is_alive(now));
        let Some(ends) = older().map(|kek| kek.expires).max() else { return };
        let point = older()
            .map(|kek| kek.expires - successor_due(kek, self.settings.activation_time_delay))
            .max()
            .unwrap_or_default();
        let assume_at = ends.min(now + point);
        // Without acknowledgements there is nobody in particular who missed it.
        let silent = !new.settings.is_unicast() || older().all(|kek| !kek.settings.is_unicast());
        let ends = if silent { assume_at } else { ends };
        self.rekeys.retain(|rekey| rekey.subject != Subject::Kek);
        if self.start_rekey(now, Subject::Kek, ends, keys_until).is_some()
            && let Some(rekey) = self.rekeys.last_mut()
        {
            rekey.assume_at = Some(assume_at);
        }
        let entry = Entry::new(Level::Info, Facility::PolicyManager, "KEK succeeded");
        self.log(entry);
    }

    /// Begins a rekey: rounds from now on until `ends`. Returns its number, if anything can be sent.
    pub(super) fn start_rekey(
        &mut self,
        now: Instant,
        subject: Subject,
        ends: Instant,
        keys_until: Instant,
    ) -> Option<u64> {
        let newest = self.keks.iter().rfind(|kek| kek.is_alive(now))?;
        // What goes out under old KEKs goes at their pace; all of a group have the same, unless it was changed.
        let timing = newest.settings.timing(self.settings.activation_time_delay);
        self.last_rekey += 1;
        self.note_keys_changed();
        let current_unicast = current(&self.keks).is_some_and(|kek| kek.settings.is_unicast());
        // A group address without any member is not worth a message.
        let to_group = self.members.count() > 0
            && self.keks.iter().any(|kek| kek.is_alive(now) && !kek.settings.is_unicast());
        let owes = |held: u32| {
            let held = self.keks.iter().find(|kek| kek.index == held);
            let state = held.map(|kek| kek.state);
            // Who holds but a KEK that is forgotten missed its successor, and owes all the more.
            let can = held.is_none_or(|kek| current_unicast || kek.settings.is_unicast());
            can && match subject {
                Subject::Keys(_) => state != Some(KekState::Revoked),
                Subject::Kek => matches!(state, None | Some(KekState::Succeeded)),
                Subject::RemovedTeks(_) => true,
                Subject::RevokedKeks | Subject::CleanSlate => matches!(state, None | Some(KekState::Revoked)),
            }
        };
        let owing = if self.keks.iter().any(|kek| kek.settings.is_unicast()) {
            let members = self.members.active().filter(|(_, member)| member.kek != 0 && owes(member.kek));
            Owing::of(self.members.id_limit(), members.map(|(id, _)| id))
        } else {
            Owing::default()
        };
        let wait = timing.span() + timing.retransmission_period.max(PATIENCE);
        self.rekeys.push(Rekey {
            id: self.last_rekey,
            subject,
            period: timing.retransmission_period.max(Duration::from_secs(1)),
            next_round: (to_group || !owing.is_empty()).then_some(now),
            rounds: 0,
            // Where the present KEK asks for nothing, silence says nothing.
            judge_at: (!owing.is_empty() && (current_unicast || current(&self.keks).is_none()))
                .then(|| ends.min(now + wait)),
            assume_at: None,
            ends,
            owing,
            to_group,
            keys_until,
        });
        Some(self.last_rekey)
    }

    /// How long something is repeated that has no switch.
    pub(super) fn without_switch(&self) -> Duration {
        let push = self.settings.timing().or_else(|| {
            let kek = self.keks.last()?;
            Some(kek.settings.timing(self.settings.activation_time_delay))
        });
        let switch = self.sas.iter().flat_map(|sa| &sa.teks).map(|tek| tek.timeline.switch).max();
        push.map_or(Duration::ZERO, |push: timeline::Push| push.span() + 2 * push.activation_time_delay)
            + switch.unwrap_or(Duration::from_secs(30))
    }

    /// Ends what is over.
    pub(super) fn finish(&mut self, now: Instant) {
        self.finish_progress(now);
        self.rekeys.retain(|rekey| rekey.ends > now);
    }
}
