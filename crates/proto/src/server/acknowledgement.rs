//! Acknowledgements (RFC 8263): who has what, who stays silent.

use std::net::SocketAddr;

use super::Server;
use super::cluster::Acknowledged;
use super::event::Event;
use super::group::{Group, Note};
use super::kek::{Errand, current};
use super::members::MemberId;
use super::rekey::Subject;
use super::settings::Communication;
use crate::log::{Entry, Facility, Level};
use crate::path::Path;
use crate::push::{Acknowledgement, AcknowledgementError};
use crate::time::Instant;

impl Server {
    /// Takes a GROUPKEY-PUSH-ACK. A good one costs a few look-ups and one HMAC.
    pub(super) fn handle_acknowledgement(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let acknowledgement = match Acknowledgement::parse(datagram) {
            Ok(acknowledgement) => acknowledgement,
            Err(error) => return self.refuse_acknowledgement(now, path, None, &error),
        };
        let Some(&index) = self.kek_spis.get(&acknowledgement.spi) else {
            return self.refuse_acknowledgement(now, path, None, &AcknowledgementError::UnknownKek);
        };
        match self.groups[index].acknowledge(now, path, &acknowledgement) {
            Ok(()) => self.collect_notes(now, index),
            Err(error) => self.refuse_acknowledgement(now, path, Some(index), &error),
        }
    }

    fn refuse_acknowledgement(
        &mut self,
        now: Instant,
        path: Path,
        group: Option<usize>,
        error: &AcknowledgementError,
    ) {
        let counters = match group {
            Some(index) => &mut self.groups[index].statistics.acknowledgements_refused,
            None => &mut self.stray_acknowledgements,
        };
        counters[error.index()] += 1;
        //= https://www.rfc-editor.org/rfc/rfc8263#section-6
        //# A GCKS SHOULD log failure events, such as receiving
        //# Acknowledgement Messages for a group in which the GCKS has not
        //# requested Acknowledgements, receiving malformed Acknowledgements,
        //# and Acknowledgements that fail validation.
        let level = match error {
            AcknowledgementError::Duplicate | AcknowledgementError::UnknownKek => return,
            _ => Level::Warn,
        };
        let mut entry = Entry::new(level, Facility::PolicyManager, "acknowledgement refused")
            .with("peer", path.remote)
            .with("reason", error);
        if let Some(index) = group {
            entry = entry.with("group", &self.groups[index].settings.name);
        }
        self.journal.record(now, entry);
    }
}

impl Group {
    //= https://www.rfc-editor.org/rfc/rfc8263#section-5
    //# When a GCKS receives a GROUPKEY-PUSH ACK (identified by an Exchange
    //# Type of GROUPKEY-PUSH-ACK), it first verifies that the group policy
    //# includes receiving GROUPKEY-PUSH ACKs.  If not, the message is
    //# discarded.
    fn acknowledge(
        &mut self,
        now: Instant,
        path: Path,
        acknowledgement: &Acknowledgement<'_>,
    ) -> Result<(), AcknowledgementError> {
        let kek = self.keks.iter().find(|kek| kek.spi() == acknowledgement.spi);
        let kek = kek.filter(|kek| kek.forget_at > now).ok_or(AcknowledgementError::UnknownKek)?;
        // A message under a KEK that asks for nothing may bring one that does.
        let requested =
            kek.settings.is_unicast() || current(&self.keks).is_some_and(|kek| kek.settings.is_unicast());
        if !requested {
            return Err(AcknowledgementError::NotRequested);
        }
        let keys = kek.acknowledgement_keys();
        let (id, member) = self.members.find(path.remote).ok_or(AcknowledgementError::UnknownMember)?;
        //= https://www.rfc-editor.org/rfc/rfc8263#section-3.4
        //# The address
        //# provided in the ID payload represents the IP address of the GM and
        //# MUST match the source IP address used for the most recent
        //# GROUPKEY-PULL exchange.
        if acknowledgement.member.as_address() != Some(member.path.remote.ip()) {
            return Err(AcknowledgementError::UnknownMember);
        }
        let sequence = acknowledgement.sequence;
        let errand = kek.errand(sequence).ok_or(AcknowledgementError::UnknownSequence(sequence))?;
        let rekey = self.rekeys.iter().position(|rekey| rekey.id == errand.rekey);
        let owes = rekey.is_some_and(|rekey| self.rekeys[rekey].owing.contains(id));
        //= https://www.rfc-editor.org/rfc/rfc8263#section-5
        //# GCKS implementations SHOULD keep a record (e.g., a hash
        //# value) of recently received GROUPKEY-PUSH Acknowledgement Messages
        //# and reject duplicate messages prior to performing cryptographic
        //# operations.
        let (last_kek, last_sequence) = member.last_acknowledged;
        if !owes && last_kek == kek.index && sequence <= last_sequence {
            return Err(AcknowledgementError::Duplicate);
        }
        acknowledgement.verify(keys)?;
        let name = (kek.index, sequence);
        self.statistics.pushes_acknowledged += 1;
        if self.follows() {
            self.members.acknowledged(now, id, name, 0);
            let (kek, _) = name;
            self.tell_acknowledgement(Acknowledged { member: path.remote, kek, sequence });
            return Ok(());
        }
        self.accept(now, id, name, errand);
        Ok(())
    }

    /// An acknowledgement that another server found to be authentic.
    pub(super) fn acknowledged_elsewhere(
        &mut self,
        now: Instant,
        member: SocketAddr,
        kek: u32,
        sequence: u32,
    ) {
        let errand = self.keks.iter().find(|other| other.index == kek).and_then(|kek| kek.errand(sequence));
        if let (Some((id, _)), Some(errand)) = (self.members.find(member), errand) {
            self.accept(now, id, (kek, sequence), errand);
        }
    }

    /// A member has what a message brought.
    fn accept(&mut self, now: Instant, id: MemberId, name: (u32, u32), errand: Errand) {
        self.members.acknowledged(now, id, name, errand.carried);
        let rekey = self.rekeys.iter().position(|rekey| rekey.id == errand.rekey);
        let rekey = rekey.filter(|&rekey| self.rekeys[rekey].owing.contains(id));
        if let Some(rekey) = rekey {
            self.settle(now, rekey, id);
        }
        // What brought the present KEK along settles that rekey too, whatever else it was about.
        if errand.carried != 0 && current(&self.keks).is_some_and(|kek| kek.index == errand.carried) {
            let kek = self.rekeys.iter().position(|rekey| rekey.subject == Subject::Kek);
            if let Some(kek) = kek.filter(|&kek| self.rekeys[kek].owing.contains(id)) {
                self.settle(now, kek, id);
            }
        }
    }

    fn settle(&mut self, now: Instant, rekey: usize, member: MemberId) {
        let rekey = &mut self.rekeys[rekey];
        rekey.owing.remove(member);
        let empty = rekey.owing.is_empty();
        if empty && !rekey.to_group {
            rekey.next_round = None;
        }
        self.members.settled(member, rekey.keys_until);
        if empty {
            self.finish_progress(now);
        }
    }

    /// Counts what has become unacknowledged, and takes off the list who was silent too often.
    ///
    /// Rekeys that are judged at the same moment count as one: a member that is away for a minute has not missed as
    /// many as there are ipsec-sas.
    pub(super) fn judge(&mut self, now: Instant) {
        let due: Vec<usize> = (0..self.rekeys.len())
            .filter(|&index| self.rekeys[index].judge_at.is_some_and(|at| at <= now))
            .collect();
        let required = match self.settings.push.as_ref().map(|push| &push.communication) {
            Some(Communication::Unicast { acknowledgement_required }) => *acknowledgement_required,
            Some(Communication::Multicast { .. }) | None => false,
        };
        let mut lost = Vec::new();
        for (position, &index) in due.iter().enumerate() {
            let counted =
                |member| due[..position].iter().any(|&other| self.rekeys[other].owing.contains(member));
            let asked = |member| self.was_asked(member);
            let owing = self.rekeys[index].owing.iter();
            let silent: Vec<_> = owing.filter(|&member| !counted(member) && asked(member)).collect();
            for member in silent {
                self.statistics.pushes_unacknowledged += 1;
                if self.members.unacknowledged(member, required) {
                    lost.push(member);
                }
            }
        }
        for index in due {
            self.rekeys[index].judge_at = None;
        }
        for &member in &lost {
            self.report_lost(member);
        }
        self.left(&lost);
        self.assume(now);
    }

    /// Whether a member holds a KEK whose messages are acknowledged, as far as we know.
    fn was_asked(&self, member: MemberId) -> bool {
        let held = self.members.get(member).map_or(0, |member| member.kek);
        self.keks.iter().find(|kek| kek.index == held).is_none_or(|kek| kek.settings.is_unicast())
    }

    /// When the rounds that bring a new KEK are over, those are taken to have it of whom we cannot know: who never
    /// acknowledges anything, who was asked for nothing, or is not asked any more.
    fn assume(&mut self, now: Instant) {
        let current = current(&self.keks);
        for rekey in self.rekeys.iter_mut().filter(|rekey| rekey.assume_at.is_some_and(|at| at <= now)) {
            rekey.assume_at = None;
            let Some(current) = current else { continue };
            let silent: Vec<_> = rekey
                .owing
                .iter()
                .filter(|&member| {
                    let Some(member) = self.members.get(member) else { return true };
                    let asked = self.keks.iter().find(|kek| kek.index == member.kek);
                    let asked = asked.is_none_or(|kek| kek.settings.is_unicast());
                    !(member.acknowledges && asked && current.settings.is_unicast())
                })
                .collect();
            for member in silent {
                rekey.owing.remove(member);
                self.members.assume(member, current.index);
            }
        }
    }

    fn report_lost(&mut self, member: MemberId) {
        let Some(member) = self.members.get(member) else { return };
        let (gateway, remote) = (member.gateway.to_string(), member.path.remote);
        let entry = Entry::new(Level::Warn, Facility::PolicyManager, "member left the active list")
            .with("gateway", &gateway)
            .with("peer", remote)
            .with("unacknowledged", member.unacknowledged);
        self.log(entry);
        self.notes.push(Note::Event(Event::MemberLost {
            group: self.settings.name.clone(),
            gateway,
            remote,
        }));
    }
}
