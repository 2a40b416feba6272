//! Registrations in progress at the server: from message 1 to message 4 of a GROUPKEY-PULL.
//!
//! ```text
//!   message 1 ──accepted──▶ awaiting message 3 ──HASH(3) verifies──▶ registered, forgotten
//!      │ refused: notification, counted          │ silence, phase 1 closed: broken off, counted
//! ```
//!
//! Repetitions of messages 1 and 3 come here only while they are refused, each time anew: else phase 1 answers them with the
//! bytes it sent before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crypto::Random;
use wire::isakmp::{Identity, MessageId};
use wire::registry::{ExchangeType, GapAttribute, IdType};

use super::cluster::{Admission, Newcomer};
use super::group::{Offer, SenderIdShortage};
use super::{Event, Server};
use crate::log::{Entry, Facility, Level};
use crate::phase1::{AssociationId, Phase2Message, VENDOR_ID_D3P};
use crate::policy::DATAGRAM_LIMIT;
use crate::pull::{self, MessageError, NONCE_LENGTH, OwnNonce, Received, Refusal};
use crate::time::Instant;

/// How long a member may take from message 2 to message 3. Members repeat message 3 for half a minute at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// Registrations in progress under one phase 1 SA: a member of 250 groups, and no more.
const PER_ASSOCIATION: usize = 256;

/// Registrations in progress in all. Each is a few hundred octets and belongs to a peer that has done phase 1.
const IN_ALL: usize = 16_384;

/// Refused exchanges that are remembered, so that a repetition is answered again but counted once.
const REFUSED: usize = 256;

type Key = (AssociationId, MessageId);

/// Registrations in progress.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    awaiting: BTreeMap<Key, AwaitingMessage3>,
    /// Messages 3 whose answer the server that makes the keys must make possible: room, or sender ids.
    held: BTreeMap<Key, Phase2Message>,
    /// In the order in which they end, all having the same patience; some may have ended otherwise.
    ends: VecDeque<(Instant, Key)>,
    refused: VecDeque<Key>,
    /// Registrations completed under each living phase 1 SA.
    completed: BTreeMap<AssociationId, u64>,
}

/// A registration whose member has to prove that it is live.
#[derive(Debug)]
struct AwaitingMessage3 {
    group: u32,
    gateway: String,
    ni: Vec<u8>,
    nr: OwnNonce,
    /// Whether the member showed our vendor id.
    ours: bool,
    /// The policy that message 2 told, whose keys message 4 shall bring.
    offer: Arc<Offer>,
    /// It was refused, and counts as failed.
    refused: bool,
    /// The server that makes the keys was asked whether there is room for it.
    asked: bool,
}

/// What became of a message 3 that was not refused.
enum Answer {
    /// It was answered, or its phase 1 SA is gone.
    Given,
    /// It is answered when the server that makes the keys has answered.
    Awaited,
}

impl Registrations {
    pub(super) fn due(&self) -> Option<Instant> {
        self.ends.front().map(|(end, _)| *end)
    }

    /// Registrations in progress under one phase 1 SA.
    pub(super) fn under(&self, association: AssociationId) -> usize {
        self.awaiting.range(keys_of(association)).count()
    }

    /// Registrations completed under one phase 1 SA.
    pub(super) fn completed(&self, association: AssociationId) -> u64 {
        self.completed.get(&association).copied().unwrap_or_default()
    }

    /// Forgets those in progress: what they were offered does not count any more.
    pub(super) fn forget_all(&mut self) {
        self.awaiting.clear();
        self.held.clear();
        self.ends.clear();
    }

    fn has_room(&self, association: AssociationId) -> bool {
        self.awaiting.len() < IN_ALL && self.under(association) < PER_ASSOCIATION
    }

    fn insert(&mut self, now: Instant, key: Key, state: AwaitingMessage3) {
        self.awaiting.insert(key, state);
        self.ends.push_back((now + PATIENCE, key));
    }

    /// Whether this exchange is refused for the first time.
    fn is_news(&mut self, key: Key) -> bool {
        if self.refused.contains(&key) {
            return false;
        }
        self.refused.truncate(REFUSED - 1);
        self.refused.push_front(key);
        true
    }
}

fn keys_of(association: AssociationId) -> std::ops::RangeInclusive<Key> {
    (association, MessageId(0))..=(association, MessageId(u32::MAX))
}

impl Server {
    pub(super) fn handle_phase2(&mut self, now: Instant, message: Phase2Message) {
        if message.exchange != ExchangeType::GROUPKEY_PULL {
            return self.journal.record(
                now,
                Entry::new(Level::Debug, Facility::Ike, "phase 2 exchange ignored")
                    .with("exchange", message.exchange),
            );
        }
        let key = (message.association, message.message_id);
        if message.first {
            self.handle_message_1(now, &message);
        } else if self.registrations.awaiting.contains_key(&key) {
            self.handle_message_3(now, message);
        }
    }

    /// Something changed that registrations may have waited for.
    pub(super) fn answer_held(&mut self, now: Instant) {
        for (_, message) in std::mem::take(&mut self.registrations.held) {
            self.handle_message_3(now, message);
        }
    }

    fn handle_message_1(&mut self, now: Instant, message: &Phase2Message) {
        match self.judge_message_1(now, message) {
            Ok(()) => {}
            Err((group, refusal)) => self.refuse(now, message, group, &refusal),
        }
    }

    /// Answers message 1, or says why not and which group was meant, if any.
    fn judge_message_1(
        &mut self,
        now: Instant,
        message: &Phase2Message,
    ) -> Result<(), (Option<usize>, Refusal)> {
        let Some(association) = self.endpoint.association(message.association) else { return Ok(()) };
        let request =
            pull::read_message_1(association, received(message)).map_err(|error| (None, error.into()))?;
        self.endpoint.learn_vendor_ids(message.association, request.vendor_ids);
        let Some(association) = self.endpoint.association(message.association) else { return Ok(()) };
        //= https://www.rfc-editor.org/rfc/rfc6407#section-3.4
        //# It
        //# verifies that its database contains the group information for the
        //# group identifier and that the GM is authorized to participate in the
        //# group.
        let index = self.find_group(&request.group).map_err(|refusal| (None, refusal))?;
        let group = &mut self.groups[index];
        if group.rests {
            return Ok(());
        }
        let private = association.peer_is_groupvpn();
        let member = (association.gateway().to_owned(), association.path().remote);
        let refused = |refusal| (Some(index), refusal);
        //= https://www.rfc-editor.org/rfc/rfc6407#section-3.1
        //# When the GCKS performs
        //# authorization, it MUST use the Phase 1 identity to authorize the
        //# GROUPKEY-PULL request for group policy and keying material.
        if !group.is_authorized(association.gateway()) {
            return Err(refused(Refusal::NotAuthorized));
        }
        if !group.has_room_for(now, member.1) {
            return Err(refused(Refusal::GroupFull));
        }
        let offer = group.offer(now, private).map_err(refused)?;
        if offer.template.tells_pseudo_time() && !association.has_vendor_id(&VENDOR_ID_D3P) {
            return Err(refused(Refusal::NoAntiReplay));
        }
        if !self.registrations.has_room(message.association) {
            self.journal.record(
                now,
                Entry::new(Level::Warn, Facility::Ike, "too many registrations in progress")
                    .with("peer", association.path().remote),
            );
            return Ok(());
        }
        let mut nr = [0; NONCE_LENGTH];
        self.random.fill(&mut nr);
        let sa = offer.template.sa(now);
        let vendor_ids = association.repeated_vendor_ids();
        let reply = pull::message_2(association, message.message_id, &request.nonce, &nr, &sa, vendor_ids)
            .ok()
            .filter(|reply| reply.octets().len() + 64 <= DATAGRAM_LIMIT)
            .ok_or(refused(Refusal::TooLarge))?;
        let state = AwaitingMessage3 {
            group: group.settings.id,
            gateway: member.0,
            ni: request.nonce,
            nr,
            ours: private,
            offer,
            refused: false,
            asked: false,
        };
        if self.endpoint.accept(now, message).is_ok() && self.reply(now, message, &reply) {
            self.registrations.insert(now, (message.association, message.message_id), state);
        }
        Ok(())
    }

    fn handle_message_3(&mut self, now: Instant, message: Phase2Message) {
        let key = (message.association, message.message_id);
        let Some(mut state) = self.registrations.awaiting.remove(&key) else { return };
        match self.complete(now, &message, &mut state) {
            Ok(Answer::Given) => {}
            Ok(Answer::Awaited) => {
                self.registrations.held.insert(key, message);
                self.registrations.awaiting.insert(key, state);
            }
            Err((group, refusal)) => {
                // The refusal may be lost, and is told again when message 3 comes again.
                state.refused |= group.is_some();
                self.registrations.awaiting.insert(key, state);
                self.refuse(now, &message, group, &refusal);
            }
        }
    }

    /// Answers message 3 and registers the member, or says why not and of which group, if it is there.
    fn complete(
        &mut self,
        now: Instant,
        message: &Phase2Message,
        state: &mut AwaitingMessage3,
    ) -> Result<Answer, (Option<usize>, Refusal)> {
        let Some(association) = self.endpoint.association(message.association) else {
            return Ok(Answer::Given);
        };
        //= https://www.rfc-editor.org/rfc/rfc6407#section-3.2
        //# the GCKS MUST NOT adjust its internal state (e.g., keeping a record
        //# of the GM) until it receives a message with Nr included properly in
        //# the HASH payload.
        let index = self.by_id.get(&state.group).copied();
        let request = pull::read_message_3(association, received(message), &state.ni, &state.nr)
            .map_err(|error| (index.filter(|_| error.is_authentic()), error.into()))?;
        let asked = request.and_then(|it| it.attributes.number(GapAttribute::SENDER_ID_REQUEST)).unwrap_or(1);
        let path = association.path();
        let remote = path.remote;
        // The configuration may have changed since message 1, and others may have registered.
        let index = index.ok_or_else(|| (None, Refusal::UnknownGroup(Identity::key_id(state.group))))?;
        let refused = |refusal| (Some(index), refusal);
        let group = &mut self.groups[index];
        let gateway = group.authorized(&state.gateway).ok_or(refused(Refusal::NotAuthorized))?;
        let newcomer = Newcomer { gateway: &gateway, path, ours: state.ours, offer: &state.offer };
        match group.admit(now, &newcomer, state.asked, self.isolated) {
            Admission::Admitted => {}
            Admission::Full => return Err(refused(Refusal::GroupFull)),
            Admission::Asked => {
                state.asked = true;
                return Ok(Answer::Awaited);
            }
        }
        let sequence = group.sequence_for(now, &state.offer).map_err(refused)?;
        let sender_ids = match group.sender_ids_for(now, &state.offer, asked) {
            Ok(sender_ids) => sender_ids,
            Err(SenderIdShortage::Awaited) => {
                self.update_due(now);
                return Ok(Answer::Awaited);
            }
            Err(shortage) => {
                if shortage == SenderIdShortage::Exhausted {
                    let reason = "all sender ids have been given";
                    group.replace_all_keys(now, &mut *self.random, &mut self.numbers, reason);
                    group.advance(now, &mut *self.random, &mut self.numbers);
                    self.collect_notes(now, index);
                    self.update_due(now);
                }
                return Err(refused(Refusal::NoTek));
            }
        };
        let kd = sender_ids.map(|ids| state.offer.template.kd_with(&ids)).transpose();
        let Some(association) = self.endpoint.association(message.association) else {
            return Ok(Answer::Given);
        };
        //= https://www.rfc-editor.org/rfc/rfc6407#section-3.2
        //# The SEQ payload has no other use and is omitted from the GROUPKEY-
        //# PULL exchange when a KEK attribute is not included in the SA payload.
        let reply = kd.and_then(|kd| {
            let kd = kd.as_ref().map_or(state.offer.template.kd(), |kd| kd.expose());
            pull::message_4(association, message.message_id, &state.ni, &state.nr, sequence, kd)
        });
        let reply = reply.map_err(|_| refused(Refusal::TooLarge))?;
        if self.endpoint.accept(now, message).is_err() || !self.reply(now, message, &reply) {
            return Ok(Answer::Given);
        }
        *self.registrations.completed.entry(message.association).or_default() += 1;
        let group = &mut self.groups[index];
        group.register(now, &newcomer, state.asked);
        let name = group.settings.name.clone();
        self.collect_notes(now, index);
        self.update_due(now);
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::PolicyManager, "member registered")
                .with("group", &name)
                .with("gateway", &state.gateway)
                .with("peer", remote),
        );
        let gateway = state.gateway.clone();
        self.events.push_back(Event::Registered { group: name, gateway, remote });
        Ok(Answer::Given)
    }

    fn reply(&mut self, now: Instant, message: &Phase2Message, reply: &pull::Encoded) -> bool {
        let sent = self.endpoint.send_phase2(
            now,
            message.association,
            message.exchange,
            message.message_id,
            reply.first(),
            reply.octets(),
        );
        if let Err(error) = &sent {
            self.journal.record(
                now,
                Entry::new(Level::Warn, Facility::Ike, "an answer could not be sent").with("error", error),
            );
        }
        sent.is_ok()
    }

    fn find_group(&self, identity: &Identity<'_>) -> Result<usize, Refusal> {
        let unknown = || Refusal::UnknownGroup(identity.clone().into_owned());
        if let Some(number) = identity.as_group_number() {
            return self.by_id.get(&number).copied().ok_or_else(unknown);
        }
        // Some members name the group by its multicast address; where no group has it, the address is a number too.
        match (identity.kind, <[u8; 4]>::try_from(&*identity.data)) {
            (IdType::IPV4_ADDR, Ok(octets)) => {
                let by_address = self.by_address.get(&octets.into());
                by_address
                    .or_else(|| self.by_id.get(&u32::from_be_bytes(octets)))
                    .copied()
                    .ok_or_else(unknown)
            }
            _ => Err(Refusal::NotAGroup(identity.clone().into_owned())),
        }
    }

    /// Tells the member, the log and the counters. `group` is the group that was asked for, where there is one.
    fn refuse(&mut self, now: Instant, message: &Phase2Message, group: Option<usize>, refusal: &Refusal) {
        let Some(association) = self.endpoint.association(message.association) else { return };
        let private = association.peer_is_groupvpn();
        let path = association.path();
        let member = (association.gateway().to_owned(), path.remote);
        let kind = refusal.notify_type(private);
        if let Some(kind) = kind {
            let notification = pull::notification(kind, message.message_id);
            // A peer that is gone meanwhile needs no answer.
            let _ = self.endpoint.send_notification(now, message.association, &notification);
        }
        if !self.registrations.is_news((message.association, message.message_id)) {
            return;
        }
        let level = match refusal {
            Refusal::Message(MessageError::Unreadable(_) | MessageError::Hash) => Level::Debug,
            _ => Level::Warn,
        };
        let mut entry = Entry::new(level, Facility::Ike, "registration refused")
            .with("gateway", &member.0)
            .with("peer", member.1)
            .with("reason", refusal);
        if let Some(kind) = kind {
            entry = entry.with("told", kind);
        }
        if let Some(index) = group {
            let group = &mut self.groups[index];
            entry = entry.with("group", &group.settings.name);
            group.failed(&member.0, path, refusal, *refusal == Refusal::GroupFull);
        }
        self.journal.record(now, entry);
    }

    pub(super) fn expire_registrations(&mut self, now: Instant) {
        while let Some((_, key)) = self.registrations.ends.pop_front_if(|(end, _)| *end <= now) {
            self.registrations.held.remove(&key);
            if let Some(state) = self.registrations.awaiting.remove(&key) {
                self.broken_off(now, key.0, state, "the member fell silent");
            }
        }
    }

    pub(super) fn abandon_registrations(&mut self, now: Instant, association: AssociationId) {
        let keys: Vec<_> =
            self.registrations.awaiting.range(keys_of(association)).map(|(key, _)| *key).collect();
        self.registrations.completed.remove(&association);
        for key in keys {
            self.registrations.held.remove(&key);
            if let Some(state) = self.registrations.awaiting.remove(&key) {
                self.broken_off(now, association, state, "the phase 1 SA was closed");
            }
        }
    }

    fn broken_off(
        &mut self,
        now: Instant,
        association: AssociationId,
        state: AwaitingMessage3,
        reason: &'static str,
    ) {
        if state.refused {
            return;
        }
        let Some(&index) = self.by_id.get(&state.group) else { return };
        let path = self.endpoint.association(association).map(|sa| sa.path());
        let group = &mut self.groups[index];
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::Ike, "registration broken off")
                .with("group", &group.settings.name)
                .with("gateway", &state.gateway)
                .with("reason", reason),
        );
        match path {
            Some(path) => group.failed(&state.gateway, path, &reason, false),
            None => group.statistics.pulls_failed += 1,
        }
    }
}

fn received(message: &Phase2Message) -> Received<'_> {
    Received { id: message.message_id, first: message.first_payload, octets: &message.payloads }
}
