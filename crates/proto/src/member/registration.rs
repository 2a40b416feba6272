//! Registration of one VPN: tries, phase 1, the member's side of GROUPKEY-PULL.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crypto::Random;
use wire::attribute::{Attribute, Attributes};
use wire::gdoi::GroupAssociatedPolicy;
use wire::isakmp::{Notification, PayloadBody};
use wire::registry::{ExchangeType, GapAttribute, NotifyType};

use super::event::{Event, RegistrationFailure};
use super::kek_set::Origin;
use super::state::{Awaiting, Pull, State, Trigger};
use super::vpn::OwnSenderIds;
use super::{Member, Removal, sa_set};
use crate::log::{Entry, Facility, Level};
use crate::phase1::{AssociationId, CloseReason, Failure, Phase2Message};
use crate::policy::{Offer, PolicyError};
use crate::pull::{self, MessageError, NONCE_LENGTH, Received};
use crate::time::Instant;
use crate::timeline::{TRIES_PER_SERVER, Timeline};

/// First two waits before a message of GROUPKEY-PULL is sent again; each further one is twice as long.
const REPEAT_AFTER: Duration = Duration::from_secs(1);

/// A message is sent at least so often within one try.
const REPEATS_PER_TRY: u32 = 3;

/// How a try ended.
enum End {
    /// We know why: the rest of the interval is waited out.
    Refused(RegistrationFailure),
    /// Nobody answered: the next try begins when the interval has passed, which it mostly has.
    Silent(RegistrationFailure),
}

impl Member {
    /// Begins a try at the current server.
    pub(super) fn begin_try(&mut self, now: Instant, index: usize) {
        let vpn = &mut self.vpns[index];
        vpn.try_ends = now + vpn.try_interval();
        vpn.state.step(Trigger::Begin, State::Connecting(None));
        let Some(server) = vpn.current_server() else {
            let reason = RegistrationFailure::CannotConnect("the gateway has no server address".to_owned());
            return self.end_try(now, index, End::Refused(reason));
        };
        let gateway = vpn.gateway.phase1.name.clone();
        let path = vpn.path(server);
        if let Some(association) = self.endpoint.find(&gateway, server) {
            return self.begin_pull(now, index, association, false);
        }
        let key = (gateway, server);
        let association = match self.connecting.get(&key) {
            Some(association) => *association,
            None => match self.endpoint.connect(now, &key.0, path, &mut *self.random) {
                Ok(association) => {
                    self.connecting.insert(key, association);
                    association
                }
                Err(error) => {
                    let reason = RegistrationFailure::CannotConnect(error.to_string());
                    return self.end_try(now, index, End::Refused(reason));
                }
            },
        };
        self.vpns[index].state = State::Connecting(Some(association));
    }

    pub(super) fn handle_vpn_timeout(&mut self, now: Instant, index: usize) {
        let vpn = &mut self.vpns[index];
        let try_ended = vpn.try_ends <= now;
        // Half of it is done, and done again it would take as long: message 3 goes on for three tries of its own.
        let patience = vpn.try_interval() * TRIES_PER_SERVER;
        let half_done = matches!(
            &vpn.state,
            State::Pulling(pull) if matches!(pull.awaiting, Awaiting::Message4 { heard, .. } if now - heard < patience)
        );
        match &mut vpn.state {
            State::Down => {}
            State::Connecting(_) if try_ended => self.continue_connecting(now, index),
            State::Connecting(_) => {}
            // Once is bad luck, twice is a server that has perhaps forgotten the phase 1 SA. What the server says of
            // times is counted from the first message, so an exchange must not go on for much longer than that.
            State::Pulling(_) if try_ended && half_done => {
                vpn.counters.pulls_timed_out += 1;
                vpn.try_ends = now + vpn.try_interval();
                self.repeat_pull(now, index);
            }
            State::Pulling(_) if try_ended && vpn.tries == 0 => {
                vpn.counters.pulls_timed_out += 1;
                vpn.count_try();
                vpn.try_ends = now + vpn.try_interval();
                self.repeat_pull(now, index);
            }
            State::Pulling(pull) if try_ended => {
                let association = pull.association;
                // An SA that was made for this exchange, or has brought an answer in it, is one that the server has:
                // another would cost three round trips and bring nothing.
                let forgotten = !pull.fresh && matches!(pull.awaiting, Awaiting::Message2);
                let reason = pull.told.map_or(RegistrationFailure::NoAnswer, RegistrationFailure::Refused);
                self.end_pull(index);
                if forgotten {
                    self.endpoint.delete(now, association);
                }
                self.end_try(now, index, End::Silent(reason));
            }
            State::Pulling(pull) if pull.repeat_at <= now => self.repeat_pull(now, index),
            State::Pulling(_) => {}
            State::Registered => {
                if vpn.next_registration().is_some_and(|due| due <= now) {
                    vpn.restart_tries();
                    self.begin_try(now, index);
                }
            }
            State::Waiting(until) if *until <= now => self.begin_try(now, index),
            State::Waiting(_) => {}
        }
    }

    /// Sends the last message of a GROUPKEY-PULL again.
    fn repeat_pull(&mut self, now: Instant, index: usize) {
        let vpn = &mut self.vpns[index];
        let longest = vpn.try_interval() / REPEATS_PER_TRY;
        let State::Pulling(pull) = &mut vpn.state else { return };
        pull.repeat_at = now + pull.repeat_after;
        pull.repeat_after = (pull.repeat_after * 2).min(longest);
        // The SA can only be gone if its end is being reported.
        let _ = self.endpoint.retransmit_phase2(now, pull.association, pull.id);
    }

    pub(super) fn established(&mut self, now: Instant, association: AssociationId) {
        self.connecting.retain(|_, connecting| *connecting != association);
        for index in 0..self.vpns.len() {
            if matches!(self.vpns[index].state, State::Connecting(Some(awaited)) if awaited == association) {
                self.begin_pull(now, index, association, true);
            }
        }
    }

    pub(super) fn phase1_failed(&mut self, now: Instant, association: AssociationId, failure: Failure) {
        self.connecting.retain(|_, connecting| *connecting != association);
        for index in 0..self.vpns.len() {
            if matches!(self.vpns[index].state, State::Connecting(Some(awaited)) if awaited == association) {
                let reason = RegistrationFailure::Phase1(failure.clone());
                let end = match failure {
                    Failure::NoAnswer | Failure::TimedOut => End::Silent(reason),
                    _ => End::Refused(reason),
                };
                self.end_try(now, index, end);
            }
        }
    }

    pub(super) fn phase1_closed(&mut self, now: Instant, association: AssociationId, reason: CloseReason) {
        for index in 0..self.vpns.len() {
            if matches!(&self.vpns[index].state, State::Pulling(pull) if pull.association == association) {
                self.end_try(now, index, End::Refused(RegistrationFailure::Phase1Closed(reason)));
            }
        }
    }

    /// A notification of the server: it may refuse a registration in progress.
    pub(super) fn notified(
        &mut self,
        now: Instant,
        association: AssociationId,
        notification: &Notification<'_>,
    ) {
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::Ike, "notification from the server")
                .with("association", association.index())
                .with("type", notification.kind),
        );
        if !notification.kind.is_error() {
            return;
        }
        let refused = pull::refused_exchange(notification);
        let meant = |state: &State| match state {
            State::Pulling(pull) => pull.association == association && refused.is_none_or(|id| id == pull.id),
            _ => false,
        };
        // Where the server does not say which registration it means, it is the oldest one.
        let started = |state: &State| match state {
            State::Pulling(pull) => pull.started,
            _ => Instant::ORIGIN,
        };
        let candidates = self.vpns.iter().enumerate().filter(|(_, vpn)| meant(&vpn.state));
        let Some((index, _)) = candidates.min_by_key(|(_, vpn)| started(&vpn.state)) else { return };
        // Whoever changes a header on the way makes the server complain of it under the SA's protection, so complaints
        // of form that name no exchange of ours do not end one. They explain the silence that may follow.
        let of_form = !matches!(
            notification.kind,
            NotifyType::INVALID_ID_INFORMATION
                | NotifyType::AUTHENTICATION_FAILED
                | NotifyType::NO_PROPOSAL_CHOSEN
                | pull::NOTIFY_GROUP_FULL
        );
        if let (true, None, State::Pulling(pull)) = (of_form, refused, &mut self.vpns[index].state) {
            pull.told = Some(notification.kind);
            return;
        }
        let reason = match notification.kind {
            NotifyType::INVALID_ID_INFORMATION => RegistrationFailure::UnknownGroup,
            NotifyType::AUTHENTICATION_FAILED => RegistrationFailure::NotAuthorized,
            NotifyType::NO_PROPOSAL_CHOSEN => RegistrationFailure::NoCommonPolicy,
            pull::NOTIFY_GROUP_FULL => RegistrationFailure::GroupFull,
            kind => RegistrationFailure::Refused(kind),
        };
        self.end_pull(index);
        self.vpns[index].counters.pulls_refused += 1;
        self.end_try(now, index, End::Refused(reason));
    }

    pub(super) fn handle_phase2(&mut self, now: Instant, message: &Phase2Message) {
        let awaited = |state: &State| match state {
            State::Pulling(pull) => pull.association == message.association && pull.id == message.message_id,
            _ => false,
        };
        let index = self.vpns.iter().position(|vpn| awaited(&vpn.state));
        let Some(index) = index.filter(|_| message.exchange == ExchangeType::GROUPKEY_PULL) else {
            return self.journal.record(
                now,
                Entry::new(Level::Debug, Facility::Ike, "phase 2 message that nobody waits for")
                    .with("exchange", message.exchange),
            );
        };
        let State::Pulling(pull) = &self.vpns[index].state else { return };
        let verdict = match &pull.awaiting {
            Awaiting::Message2 => self.handle_message_2(now, index, message),
            Awaiting::Message4 { .. } => self.handle_message_4(now, index, message),
        };
        if let Err(refused) = verdict {
            self.refuse(now, index, refused);
        }
    }

    /// Forgets phase 1 exchanges that no VPN waits for any more.
    pub(super) fn forget_unused_connections(&mut self, now: Instant) {
        let used: Vec<_> = self
            .vpns
            .iter()
            .filter_map(|vpn| match vpn.state {
                State::Connecting(association) => association,
                State::Down | State::Pulling(_) | State::Registered | State::Waiting(_) => None,
            })
            .collect();
        let unused: Vec<_> =
            self.connecting.values().copied().filter(|association| !used.contains(association)).collect();
        for association in unused {
            self.connecting.retain(|_, connecting| *connecting != association);
            self.endpoint.delete(now, association);
        }
    }

    /// Phase 1 takes longer than one try; it goes on, sending again, until the server's tries are used up.
    fn continue_connecting(&mut self, now: Instant, index: usize) {
        let vpn = &mut self.vpns[index];
        let server = vpn.current_server();
        vpn.counters.pulls_timed_out += 1;
        // With nowhere else to go the exchange continues until phase 1 gives it up.
        if !vpn.count_try() || vpn.gateway.servers().len() == 1 {
            vpn.try_ends = now + vpn.try_interval();
            return;
        }
        let reason = RegistrationFailure::Phase1(Failure::NoAnswer);
        vpn.state.step(Trigger::Failed, State::Waiting(now));
        self.report(now, index, server, reason);
        self.forget_unused_connections(now);
        self.begin_try(now, index);
    }

    /// Asks for keys under a phase 1 SA; `fresh`: it was made for that.
    fn begin_pull(&mut self, now: Instant, index: usize, association: AssociationId, fresh: bool) {
        let mut ni = [0; NONCE_LENGTH];
        self.random.fill(&mut ni);
        let group = self.vpns[index].settings.group_identity();
        let Ok(id) = self.endpoint.start_phase2(now, association) else {
            return self.end_try(now, index, End::Refused(RegistrationFailure::NoAnswer));
        };
        let vpn = &mut self.vpns[index];
        let repeat_after = REPEAT_AFTER.min(vpn.try_interval() / REPEATS_PER_TRY);
        vpn.state.step(
            Trigger::Established,
            State::Pulling(Box::new(Pull {
                association,
                id,
                fresh,
                started: now,
                ni,
                awaiting: Awaiting::Message2,
                told: None,
                repeat_at: now + repeat_after,
                repeat_after,
            })),
        );
        // A new try interval: phase 1 may have used up most of the present one.
        vpn.try_ends = now + vpn.try_interval();
        let encoded = self
            .endpoint
            .association(association)
            .map(|sa| pull::message_1(sa, id, &ni, &group, sa.repeated_vendor_ids()));
        if let Some(Ok(encoded)) = encoded {
            let sent = self.endpoint.send_phase2(
                now,
                association,
                ExchangeType::GROUPKEY_PULL,
                id,
                encoded.first(),
                encoded.octets(),
            );
            if sent.is_ok() {
                return;
            }
        }
        self.end_pull(index);
        self.end_try(now, index, End::Refused(RegistrationFailure::NoAnswer));
    }

    fn handle_message_2(
        &mut self,
        now: Instant,
        index: usize,
        message: &Phase2Message,
    ) -> Result<(), PolicyError> {
        let vpn = &mut self.vpns[index];
        let repeat_after = REPEAT_AFTER.min(vpn.try_interval() / REPEATS_PER_TRY);
        let State::Pulling(state) = &mut vpn.state else { return Ok(()) };
        let Some(association) = self.endpoint.association(message.association) else { return Ok(()) };
        let reply = match pull::read_message_2(association, received(message), &state.ni) {
            Ok(reply) => reply,
            Err(error) => return self.unacceptable(now, 2, error),
        };
        self.endpoint.learn_vendor_ids(message.association, reply.vendor_ids);
        let Some(association) = self.endpoint.association(message.association) else { return Ok(()) };
        let server_is_ours = association.peer_is_groupvpn();
        let offer = Offer::judge(&reply.sa, server_is_ours)?;
        if vpn.settings.paired_policies_only
            && let Some(spi) = offer.first_unpaired()
        {
            return Err(PolicyError::Unpaired { spi });
        }
        //= https://www.rfc-editor.org/rfc/rfc6407#section-3.5
        //# A
        //# group member MUST request as many SIDs matching the number of
        //# encryption modules in which it will be installing the TEKs in the
        //# outbound direction.
        let request = offer.wants_sender_ids().then(|| GroupAssociatedPolicy {
            attributes: Attributes::from([Attribute::basic(
                GapAttribute::SENDER_ID_REQUEST,
                vpn.settings.sender_ids.max(1),
            )]),
        });
        let request = request.map(|request| request.to_octets()).transpose()?;
        let (id, nr) = (message.message_id, &reply.nonce);
        let encoded = pull::message_3(association, id, &state.ni, nr, request.as_deref())?;
        for refused in &offer.refused {
            vpn.counters.unsupported_algorithms += 1;
            self.journal.record(
                now,
                Entry::new(Level::Warn, Facility::PolicyManager, "TEK refused, its traffic stays closed")
                    .with("vpn", &vpn.name)
                    .with("spi", format_args!("{:08x}", refused.spi))
                    .with("reason", &refused.refusal),
            );
        }
        if offer.ignored > 0 {
            self.journal.record(
                now,
                Entry::new(
                    Level::Warn,
                    Facility::PolicyManager,
                    "the server's exceptions from protection are ignored: exclude rules make such",
                )
                .with("vpn", &vpn.name)
                .with("entries", offer.ignored),
            );
        }
        if let Some(kind) = offer.kek.as_ref().and_then(|kek| kek.unknown_acknowledgement) {
            self.journal.record(
                now,
                Entry::new(
                    Level::Info,
                    Facility::PolicyManager,
                    "pushes cannot be acknowledged as requested",
                )
                .with("vpn", &vpn.name)
                .with("requested", kind),
            );
        }
        state.awaiting = Awaiting::Message4 { nr: reply.nonce, offer: Box::new(offer), heard: now };
        state.repeat_at = now + repeat_after;
        state.repeat_after = repeat_after;
        // An SA that is gone by now is reported as closed, which ends the try.
        let _ = self.endpoint.accept(now, message).and_then(|()| {
            self.endpoint.send_phase2(
                now,
                message.association,
                message.exchange,
                message.message_id,
                encoded.first(),
                encoded.octets(),
            )
        });
        Ok(())
    }

    fn handle_message_4(
        &mut self,
        now: Instant,
        index: usize,
        message: &Phase2Message,
    ) -> Result<(), PolicyError> {
        let vpn = &mut self.vpns[index];
        let State::Pulling(state) = &vpn.state else { return Ok(()) };
        let Awaiting::Message4 { nr, offer, heard } = &state.awaiting else { return Ok(()) };
        let Some(association) = self.endpoint.association(message.association) else { return Ok(()) };
        let server = association.path().remote;
        let server_is_ours = association.peer_is_groupvpn();
        let reply = match pull::read_message_4(association, received(message), &state.ni, nr) {
            Ok(reply) => reply,
            Err(error) => return self.unacceptable(now, 4, error),
        };
        //= https://www.rfc-editor.org/rfc/rfc6407#section-3.3
        //# Keying
        //# material is matched by comparing the SPI in each key packet to SPI
        //# values previously sent in the SA payloads.
        let keys = offer.keys(&reply.keys)?;
        let known = vpn.keks.newest().map(|kek| &kek.verifying);
        let kek_keys = offer.kek_keys(&reply.keys, known)?;
        let sender_ids = offer.sender_ids(&reply.keys)?;
        let spis: Vec<u32> = offer.teks.iter().map(|tek| tek.spi).collect();
        let own_address = association.path().local.ip();
        let _ = self.endpoint.accept(now, message);
        self.endpoint.end_phase2(message.association, message.message_id);

        let (started, heard) = (state.started, *heard);
        // Of the server's times we know that they were true at some moment between our question and its answer. A member
        // without keys may have waited for longer than is good for them, and asks again now that it knows how fast.
        let timelines: Vec<_> =
            offer.teks.iter().map(|tek| sa_set::timeline(tek.lifetime.unwrap_or(tek.remaining))).collect();
        if timelines.iter().any(|timeline| heard - started > timeline.oldest_question()) {
            let interval = timelines.iter().map(Timeline::try_interval).min();
            vpn.expect_interval(interval.unwrap_or_default());
            vpn.state = State::Connecting(Some(message.association));
            self.tune_phase1(now);
            self.begin_pull(now, index, message.association, false);
            return Ok(());
        }
        let new_key = offer.teks.iter().any(|tek| vpn.sas.iter().all(|held| held.sa.spi != tek.spi));
        let anti_replay = offer.anti_replay;
        let random = &mut self.random;
        let replaced = vpn.sas.apply([started, heard], now, offer, keys, || random_number(&mut **random));
        if let (Some(received), Some(keys)) = (&offer.kek, kek_keys) {
            let origin = Origin::Pull { sequence: reply.sequence, came: now };
            let fraction = random_number(&mut **random);
            let number = self.next_kek_index;
            if vpn.keks.take(origin, started, received, keys, server.ip(), number, fraction) {
                self.next_kek_index += 1;
            }
        }
        vpn.pulled_from = Some(own_address);
        vpn.number_tunnels(&mut self.next_tunnel_id);
        vpn.state.step(Trigger::Completed, State::Registered);
        vpn.restart_tries();
        vpn.note_pull(now, message.association);
        vpn.server_is_ours = server_is_ours;
        vpn.recovered(started, new_key);
        vpn.last_failure = None;
        vpn.registered_with = Some(server.ip());
        vpn.counters.pulls_succeeded += 1;
        let name = vpn.name.clone();
        self.journal.record(
            now,
            Entry::new(Level::Info, Facility::PolicyManager, "registered")
                .with("vpn", &name)
                .with("group", vpn.settings.group_id)
                .with("server", server)
                .with("teks", offer_size(&vpn.sas)),
        );
        self.tune_phase1(now);
        self.removed(index, replaced, Removal::Deleted);
        self.changed = true;
        self.vpns[index].sender_ids = sender_ids.as_ref().map(|download| OwnSenderIds::new(download, &spis));
        if let Some(sender_ids) = sender_ids {
            self.events.push_back(Event::SenderIds { vpn: name.clone(), sender_ids, spis });
        }
        self.take_pseudo_time(index, heard, anti_replay, true);
        self.install(index);
        self.events.push_back(Event::Registered { vpn: name, server });
        self.sync_multicast(index);
        Ok(())
    }

    /// An answer that is not authentic is as if it had not come; an authentic one that cannot be used ends the try.
    fn unacceptable(&mut self, now: Instant, number: u8, error: MessageError) -> Result<(), PolicyError> {
        match error {
            MessageError::Unreadable(_) | MessageError::Hash => {
                self.journal.record(
                    now,
                    Entry::new(Level::Debug, Facility::Ike, "GROUPKEY-PULL message ignored")
                        .with("message", number)
                        .with("reason", error),
                );
                Ok(())
            }
            MessageError::Malformed(error) => Err(PolicyError::Malformed(error)),
            MessageError::Nonce(length) => Err(PolicyError::Nonce(length)),
            MessageError::Unexpected(_)
            | MessageError::Missing(_)
            | MessageError::UnknownAttribute(_)
            | MessageError::QuickMode => Err(PolicyError::Payloads { message: number }),
        }
    }

    //= https://www.rfc-editor.org/rfc/rfc6407#section-3.3
    //# Otherwise, the GM
    //# SHOULD tear down the Phase 1 session after notifying the GCKS with an
    //# ISAKMP Informational Exchange containing a Delete payload.
    fn refuse(&mut self, now: Instant, index: usize, error: PolicyError) {
        let State::Pulling(pull) = &self.vpns[index].state else { return };
        let (association, id) = (pull.association, pull.id);
        let _ =
            self.endpoint.send_notification(now, association, &pull::notification(error.notify_type(), id));
        self.end_pull(index);
        let others = self.vpns.iter().enumerate().any(|(other, vpn)| {
            other != index && matches!(&vpn.state, State::Pulling(pull) if pull.association == association)
        });
        if !others {
            self.endpoint.delete(now, association);
        }
        let counters = &mut self.vpns[index].counters;
        counters.pulls_aborted += 1;
        counters.unsupported_algorithms += u64::from(matches!(error, PolicyError::NoCommonPolicy(_)));
        counters.exceeded_keys += u64::from(error == PolicyError::TooManyTeks);
        self.end_try(now, index, End::Refused(RegistrationFailure::Policy(error)));
    }

    /// Forgets the exchange of a VPN that is pulling.
    pub(super) fn end_pull(&mut self, index: usize) {
        if let State::Pulling(pull) = &self.vpns[index].state {
            self.endpoint.end_phase2(pull.association, pull.id);
        }
    }

    fn end_try(&mut self, now: Instant, index: usize, end: End) {
        let vpn = &mut self.vpns[index];
        let server = vpn.current_server();
        vpn.count_try();
        match end {
            End::Refused(reason) => {
                let again = vpn.try_ends.max(now + vpn.try_interval() / 2);
                vpn.state.step(Trigger::Failed, State::Waiting(again));
                self.report(now, index, server, reason);
            }
            End::Silent(reason) => {
                vpn.counters.pulls_timed_out += 1;
                vpn.state.step(Trigger::Failed, State::Waiting(vpn.try_ends.max(now)));
                self.report(now, index, server, reason);
                if self.vpns[index].try_ends <= now {
                    self.begin_try(now, index);
                }
            }
        }
    }

    fn report(&mut self, now: Instant, index: usize, server: Option<IpAddr>, reason: RegistrationFailure) {
        let vpn = &mut self.vpns[index];
        let server = SocketAddr::new(server.unwrap_or(Ipv4Addr::UNSPECIFIED.into()), vpn.gateway.server_port);
        self.journal.record(
            now,
            Entry::new(Level::Warn, Facility::PolicyManager, "registration failed")
                .with("vpn", &vpn.name)
                .with("group", vpn.settings.group_id)
                .with("server", server)
                .with("reason", &reason),
        );
        vpn.last_failure = Some(format!("{server}: {reason}"));
        self.events.push_back(Event::RegistrationFailed { vpn: vpn.name.clone(), server, reason });
    }
}

fn offer_size(sas: &sa_set::SaSet) -> usize {
    sas.iter().filter(|held| held.named).count()
}

pub(super) fn random_number(random: &mut dyn Random) -> u32 {
    let mut octets = [0; 4];
    random.fill(&mut octets);
    u32::from_be_bytes(octets)
}

fn received(message: &Phase2Message) -> Received<'_> {
    Received { id: message.message_id, first: message.first_payload, octets: &message.payloads }
}
