//! One round of a rekey, and the heartbeat: messages made, signed and addressed.

use std::sync::Arc;
use std::time::Duration;

use super::group::Group;
use super::kek::{Errand, Kek, KekState, SealFailure, current};
use super::members::{Member, MemberId};
use super::rekey::{Rekey, Subject};
use super::settings::Communication;
use super::tek::IpsecSa;
use super::transmit::{BATCH, PushBatch, Recipients};
use crate::log::{Entry, Facility, Level};
use crate::path::Path;
use crate::policy::{GroupPolicy, PendingTimes, TekView, Template};
use crate::push::{Body, Deletion};
use crate::time::Instant;

/// Port that messages to a group address go to.
const GDOI_PORT: u16 = 848;

/// Rounds that are due within this time are sent at one moment, so that those that may overtake each other take turns.
const TOGETHER: Duration = Duration::from_millis(500);

/// What a message is to say, before it is known under which KEK.
enum Say<'a> {
    /// The TEKs of one ipsec-sa, the one that waits among them.
    Keys(&'a str),
    /// The TEKs in use, of all or of one ipsec-sa: a sign of life.
    Heartbeat(Option<&'a str>),
    /// Nothing but the current KEK.
    Kek,
    /// That something is to be forgotten.
    Delete(&'a [Deletion]),
}

impl Group {
    /// Sends every round that is due.
    pub(super) fn run_rounds(&mut self, now: Instant) {
        if self.due_by(now, now).next().is_none() {
            return;
        }
        let mut due: Vec<usize> = self.due_by(now, now + TOGETHER).collect();
        // The KEK last: who was sent it with other keys needs no message of its own.
        due.sort_by_key(|&index| self.rekeys[index].subject == Subject::Kek);
        // Messages of one moment overtake each other on the way, and one that has been overtaken is refused for its
        // sequence number. The last one cannot be: it is another's turn in every round.
        let others = due.partition_point(|&index| self.rekeys[index].subject != Subject::Kek);
        if let Some(turn) = due[..others].first().map(|&index| self.rekeys[index].rounds as usize) {
            due[..others].rotate_left(turn % others);
        }
        let mut with_kek = Vec::new();
        for index in due {
            self.run_round(now, index, &with_kek);
            let rekey = &mut self.rekeys[index];
            if matches!(rekey.subject, Subject::Keys(_)) {
                with_kek.push(index);
            }
            rekey.rounds += 1;
            let next = rekey.next_round.unwrap_or(now) + rekey.period;
            let next = if next > now { next } else { now + rekey.period };
            rekey.next_round = (rekey.to_group || !rekey.owing.is_empty()).then_some(next);
        }
    }

    /// Rekeys that have a round to send by `limit`.
    fn due_by(&self, now: Instant, limit: Instant) -> impl Iterator<Item = usize> {
        let due = move |rekey: &Rekey| rekey.ends > now && rekey.next_round.is_some_and(|next| next <= limit);
        self.rekeys.iter().enumerate().filter(move |(_, rekey)| due(rekey)).map(|(index, _)| index)
    }

    /// Sends one round. `with_kek` are the rekeys whose rounds were sent at this moment with the current KEK in them.
    fn run_round(&mut self, now: Instant, index: usize, with_kek: &[usize]) {
        let subject = self.rekeys[index].subject.clone();
        let id = self.rekeys[index].id;
        let first = self.rekeys[index].rounds == 0;
        for position in 0..self.keks.len() {
            let kek = &self.keks[position];
            if !kek.is_alive(now) {
                continue;
            }
            let (state, kek_index, spi) = (kek.state, kek.index, kek.spi());
            let deletions;
            let say = match (&subject, state) {
                (Subject::Keys(name), KekState::Current | KekState::Succeeded) => Say::Keys(name),
                (Subject::Kek, KekState::Succeeded) => Say::Kek,
                (Subject::RemovedTeks(spis), _) => {
                    deletions = spis.iter().map(|spi| Deletion::Tek(*spi)).collect::<Vec<_>>();
                    Say::Delete(&deletions)
                }
                (Subject::RevokedKeks, KekState::Revoked) => {
                    // Also those that came under it: a member whose acknowledgement of such a push was lost holds one of
                    // which we do not know, and nothing else tells it that that is revoked too.
                    let newer = self.keks.iter().filter(|other| {
                        other.state == KekState::Revoked && other.index > kek_index && other.is_alive(now)
                    });
                    deletions = std::iter::once(spi).chain(newer.map(Kek::spi)).map(Deletion::Kek).collect();
                    Say::Delete(&deletions)
                }
                (Subject::CleanSlate, KekState::Revoked) => {
                    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.9
                    //# the GCKS SHOULD
                    //# send a delete payload with an SPI of zero and a Protocol-ID of a TEK
                    //# Protocol-ID value, followed by another delete payload with an SPI
                    //# value of zero and Protocol-ID of zero, indicating that the KEK SA
                    //# should be deleted.
                    deletions = vec![Deletion::EveryTek, Deletion::EveryKek];
                    Say::Delete(&deletions)
                }
                _ => continue,
            };
            let sent = if kek.settings.is_unicast() {
                let members = self.members_of(now, index, kek_index, with_kek);
                self.send_to_members(now, position, id, &say, &members)
            } else if matches!(say, Say::Kek) && !with_kek.is_empty() {
                Ok(())
            } else {
                self.send_to_group(now, position, id, &say)
            };
            if let Err(failure) = sent {
                self.report_failure(&failure);
            }
        }
        if first && matches!(subject, Subject::Keys(_)) {
            self.sas.iter_mut().for_each(|sa| sa.mark_distributed(now));
            self.postpone_heartbeat(now);
        }
    }

    /// The members that owe a rekey an acknowledgement and hold this KEK.
    fn members_of(&self, now: Instant, index: usize, kek: u32, with_kek: &[usize]) -> Vec<MemberId> {
        let rekey = &self.rekeys[index];
        let is_kek = rekey.subject == Subject::Kek;
        let sent = |member| is_kek && with_kek.iter().any(|&other| self.rekeys[other].owing.contains(member));
        let may_hold = self.may_hold(now, kek);
        let holds = |member| self.members.get(member).is_some_and(&may_hold);
        rekey.owing.iter().filter(|&member| holds(member) && !sent(member)).collect()
    }

    /// Whether a member holds a KEK as far as we know. Where the one we know of has ended, perhaps a later one came to it and
    /// what it said to that was lost.
    fn may_hold(&self, now: Instant, kek: u32) -> impl Fn(&Member) -> bool {
        let alive: Vec<u32> = self.keks.iter().filter(|kek| kek.is_alive(now)).map(|kek| kek.index).collect();
        move |member| {
            member.kek == kek || (member.kek != 0 && member.kek < kek && !alive.contains(&member.kek))
        }
    }

    /// Sends a heartbeat if one is due.
    ///
    /// Everybody gets it, and nobody owes an acknowledgement for it, though one is welcome as a sign of life.
    pub(super) fn keep_alive(&mut self, now: Instant) {
        if self.heartbeat_at.is_none_or(|at| at > now) {
            return;
        }
        self.postpone_heartbeat(now);
        let in_use = |sa: &&IpsecSa| sa.handed_out(now).any(|tek| tek.is_active(now));
        let one = self.sas.iter().find(in_use).map(|sa| sa.settings.name.clone());
        for position in 0..self.keks.len() {
            let kek = &self.keks[position];
            if !kek.is_alive(now) || kek.state == KekState::Revoked {
                continue;
            }
            let kek_index = kek.index;
            let members: Vec<_> = if kek.settings.is_unicast() {
                let may_hold = self.may_hold(now, kek_index);
                let holders = self.members.active().filter(|(_, member)| may_hold(member));
                holders.map(|(id, _)| id).collect()
            } else {
                Vec::new()
            };
            let unicast = kek.settings.is_unicast();
            let mut send = |say: &Say<'_>| match unicast {
                true => self.send_to_members(now, position, 0, say, &members),
                false => self.send_to_group(now, position, 0, say),
            };
            let mut sent = send(&Say::Heartbeat(None));
            if matches!(sent, Err(SealFailure::Seal(crate::push::SealError::TooLong(_)))) {
                // Too much for one datagram. Those of one ipsec-sa fit, or the group could not have been configured.
                sent = send(&Say::Heartbeat(one.as_deref()));
            }
            if let Err(failure) = sent {
                self.report_failure(&failure);
            }
        }
    }

    fn postpone_heartbeat(&mut self, now: Instant) {
        let interval = current(&self.keks).and(self.settings.push.as_ref()).and_then(|push| push.heartbeat);
        self.heartbeat_at = interval.map(|interval| now + interval);
    }

    /// One message, a copy for each of `members`.
    fn send_to_members(
        &mut self,
        now: Instant,
        position: usize,
        rekey: u64,
        say: &Say<'_>,
        members: &[MemberId],
    ) -> Result<(), SealFailure> {
        if members.is_empty() {
            return Ok(());
        }
        let datagram = self.compose(now, position, rekey, say)?;
        let own = self.server_name();
        for batch in members.chunks(BATCH) {
            let members = batch.iter().filter_map(|&id| self.members.get(id));
            let paths: Vec<Path> = members.map(|member| member.path_from(&own)).collect();
            self.outbox.push(PushBatch { datagram: Arc::clone(&datagram), to: Recipients::Unicast(paths) });
        }
        for &id in members {
            self.members.sent(id);
        }
        self.statistics.pushes_sent += members.len() as u64;
        Ok(())
    }

    /// One message to the group address, if there is anybody.
    fn send_to_group(
        &mut self,
        now: Instant,
        position: usize,
        rekey: u64,
        say: &Say<'_>,
    ) -> Result<(), SealFailure> {
        let settings = Arc::clone(&self.keks[position].settings);
        let Communication::Multicast { group, interface } = &settings.communication else { return Ok(()) };
        if self.members.count() == 0 {
            return Ok(());
        }
        let datagram = self.compose(now, position, rekey, say)?;
        let to = Recipients::Multicast { group: (*group, GDOI_PORT).into(), interface: interface.clone() };
        self.outbox.push(PushBatch { datagram, to });
        self.statistics.pushes_sent += 1;
        Ok(())
    }

    /// Makes the next message under a KEK.
    ///
    /// It is the same for all who get it. Private attributes are in it only if every registered member has shown our
    /// vendor id: another one would have to abort (RFC 6407 section 5.4). Without them our members go by GAP and by the
    /// life that remains, as others do.
    fn compose(
        &mut self,
        now: Instant,
        position: usize,
        rekey: u64,
        say: &Say<'_>,
    ) -> Result<Arc<[u8]>, SealFailure> {
        let state = self.keks[position].state;
        // Under an older KEK the current one always comes along.
        let along = current(&self.keks)
            .filter(|_| state == KekState::Succeeded && !matches!(say, Say::Delete(_)))
            .map(|kek| (kek.index, kek.view()));
        let errand = Errand { rekey, carried: along.map_or(0, |(index, _)| index) };
        if let Say::Delete(deletions) = say {
            let body = Body { deletions, sa: None, kd: None };
            return Ok(self.keks[position].seal(errand, &body)?.into());
        }
        let teks = self.teks_for(now, say);
        if teks.is_empty() && along.is_none() && self.told_time(now).is_none() {
            return Ok(self.keks[position].seal(errand, &Body::default())?.into());
        }
        let policy = GroupPolicy {
            kek: along.map(|(_, view)| view),
            gap: match say {
                Say::Keys(_) => PendingTimes::of_newest(&teks),
                Say::Heartbeat(_) | Say::Kek | Say::Delete(_) => None,
            },
            pseudo_time: self.told_time(now),
            teks: &teks,
            id_length: self.settings.id_length,
            private: self.members.foreign() == 0,
        };
        let template = Template::new(&policy).map_err(crate::push::SealError::from)?;
        let (sa, kd) = (template.sa(now), template.kd());
        let body = Body { deletions: &[], sa: Some(&sa), kd: Some(kd) };
        Ok(self.keks[position].seal(errand, &body)?.into())
    }

    fn teks_for(&self, now: Instant, say: &Say<'_>) -> Vec<TekView<'_>> {
        match *say {
            Say::Keys(name) => {
                let sas = self.sas.iter().filter(|sa| sa.settings.name == name);
                sas.flat_map(|sa| sa.handed_out(now)).map(|tek| tek.view(now)).collect()
            }
            Say::Heartbeat(name) => {
                let sas = self.sas.iter().filter(|sa| name.is_none_or(|name| sa.settings.name == name));
                sas.flat_map(|sa| sa.handed_out(now))
                    .filter(|tek| tek.is_active(now))
                    .map(|tek| tek.view(now))
                    .collect()
            }
            Say::Kek | Say::Delete(_) => Vec::new(),
        }
    }

    fn report_failure(&mut self, failure: &SealFailure) {
        let entry = Entry::new(Level::Error, Facility::PolicyManager, "a push could not be made");
        self.log(entry.with("error", failure));
    }
}
