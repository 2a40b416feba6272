//! What the endpoint does with exchanges that are not finished: starts, answers, repeats, gives up.

use std::sync::Arc;

use crypto::{Digest, Random};
use wire::isakmp::{Cookie, Message, MessageId, Notification, Payloads};
use wire::registry::{Doi, ExchangeType, NotifyType, PayloadType};

use super::association::{Association, LastAnswer, Side, Surroundings, informational, informational_hash};
use super::endpoint::{ConnectError, Endpoint};
use super::event::{AssociationId, CloseReason, Event, Failure};
use super::exchange::{self, Context, Step};
use super::frame::{Cookies, has_correct_flags};
use super::half_open::MAXIMUM_FIRST_MESSAGE;
use super::pending::{Due, Pending};
use super::proof::Proven;
use super::refusal::{Authenticated, Refusal, bare_notification};
use super::settings::{DoiChoice, Gateway, Mode};
use crate::log::{Entry, Facility, Level};
use crate::path::Path;
use crate::time::Instant;

/// SAs of one gateway with one peer that are kept; more means that the peer forgets its own. The oldest is closed.
const MAXIMUM_PER_PEER: usize = 16;

impl Endpoint {
    pub(super) fn start_exchange(
        &mut self,
        now: Instant,
        gateway: &str,
        path: Path,
        random: &mut dyn Random,
    ) -> Result<AssociationId, ConnectError> {
        let named = self.directory.named(gateway).cloned();
        let gateway = named.ok_or_else(|| ConnectError::UnknownGateway(gateway.to_owned()))?;
        let doi = match gateway.doi {
            DoiChoice::GdoiThenIpsec => Doi::GDOI,
            DoiChoice::Only(doi) => doi,
        };
        let id = self.new_id();
        self.send_first_message(now, id, &gateway, path, doi, random)
            .map_err(|refusal| ConnectError::NotPossible(gateway.name.clone(), refusal.reason))?;
        Ok(id)
    }

    fn send_first_message(
        &mut self,
        now: Instant,
        id: AssociationId,
        gateway: &Arc<Gateway>,
        path: Path,
        doi: Doi,
        random: &mut dyn Random,
    ) -> Result<(), Refusal> {
        if gateway.proposals.is_empty() {
            return Err(Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, "no proposal is configured"));
        }
        let cookies = Cookies { initiator: self.new_cookie(now, &path), responder: Cookie::ZERO };
        let mut context = Context {
            random,
            directory: &self.directory,
            vendor_ids: &self.settings.vendor_ids,
            path,
            cookies,
            initial_contact: false,
        };
        let (state, message) = exchange::start(gateway, doi, &mut context)?;
        let marker = gateway.non_esp_marker;
        self.transmit(path, marker, &message);
        let retransmission = &self.settings.retransmission;
        let pending = Pending::new(now, (id, path, marker), cookies, (state, message), None, retransmission);
        self.pending.insert(id, pending);
        self.by_first_message.insert((cookies.initiator, path.remote), id);
        self.schedule(id);
        let entry = Entry::new(Level::Debug, Facility::Ike, "phase 1 started");
        self.log(now, entry.with("gateway", &gateway.name).with("peer", path.remote).with("doi", doi));
        Ok(())
    }

    /// Takes a message whose cookies name nothing: the first one of a peer, or one of the past.
    pub(super) fn handle_unknown(
        &mut self,
        now: Instant,
        path: Path,
        marker: bool,
        message: &Message<'_>,
        digest: Digest,
        random: &mut dyn Random,
    ) {
        let header = &message.header;
        if header.initiator_cookie.is_zero() {
            return self.refuse(now, path, marker, header, NotifyType::INVALID_COOKIE, "no initiator cookie");
        }
        let Some(mode) = Mode::of(header.exchange) else {
            let (kind, reason) = match header.exchange {
                ExchangeType::INFORMATIONAL | ExchangeType::GROUPKEY_PULL | ExchangeType::GROUPKEY_PUSH => {
                    (NotifyType::INVALID_COOKIE, "unknown cookies")
                }
                _ => (NotifyType::INVALID_EXCHANGE_TYPE, "unknown exchange type"),
            };
            return self.refuse(now, path, marker, header, kind, reason);
        };
        let wrong = if !header.responder_cookie.is_zero() {
            Some((NotifyType::INVALID_COOKIE, "unknown cookies"))
        } else if header.message_id != MessageId::PHASE_ONE {
            Some((NotifyType::INVALID_MESSAGE_ID, "message id in phase 1"))
        } else if !has_correct_flags(header) {
            Some((NotifyType::INVALID_FLAGS, "flags that mean nothing here"))
        } else if message.octets().len() > MAXIMUM_FIRST_MESSAGE {
            Some((NotifyType::PAYLOAD_MALFORMED, "first message too long"))
        } else {
            None
        };
        if let Some((kind, reason)) = wrong {
            return self.refuse(now, path, marker, header, kind, reason);
        }
        let cookies = Cookies { initiator: header.initiator_cookie, responder: self.new_cookie(now, &path) };
        let mut context = Context {
            random,
            directory: &self.directory,
            vendor_ids: &self.settings.vendor_ids,
            path,
            cookies,
            initial_contact: false,
        };
        let (state, reply) = match exchange::respond(&mut context, mode, message) {
            Ok(Step::Next(state, reply)) => (state, reply),
            // No mode is finished after one message.
            Ok(Step::Done(..)) => return,
            Err(refusal) => {
                self.log_refusal(now, path, None, &refusal);
                return self.refuse(now, path, marker, header, refusal.notify, refusal.reason);
            }
        };
        let id = self.new_id();
        if let Some(evicted) = self.half_open.admit(id, path.remote.ip()) {
            self.fail(now, evicted, Failure::Evicted);
        }
        self.transmit(path, marker, &reply);
        let retransmission = &self.settings.retransmission;
        let names = (id, path, marker);
        let pending = Pending::new(now, names, cookies, (state, reply), Some(digest), retransmission);
        self.pending.insert(id, pending);
        self.index(cookies, id);
        self.by_first_message.insert((cookies.initiator, path.remote), id);
        self.schedule(id);
    }

    /// Takes a message of an exchange that is not finished.
    pub(super) fn handle_unfinished(
        &mut self,
        now: Instant,
        id: AssociationId,
        path: Path,
        message: &Message<'_>,
        digest: Digest,
        random: &mut dyn Random,
    ) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        if pending.path.remote != path.remote {
            return;
        }
        let (marker, gateway) = (pending.non_esp_marker, pending.gateway().clone());
        let header = &message.header;
        if header.exchange == ExchangeType::INFORMATIONAL {
            return self.handle_notice(now, id, message, random);
        }
        if pending.last_received == Some(digest) {
            if pending.repeat_on_demand() {
                let answer = pending.last_sent.clone();
                self.transmit(path, marker, &answer);
            }
            return;
        }
        if pending.is_past(&digest) {
            return;
        }
        let first = pending.state.is_first();
        let wrong = if header.exchange == ExchangeType::GROUPKEY_PULL
            && header.message_id != MessageId::PHASE_ONE
        {
            // Aggressive mode: the peer is done, but its last message is still on the way.
            return;
        } else if header.exchange != pending.state.mode().exchange() {
            //= https://www.rfc-editor.org/rfc/rfc2409#section-5
            //# Implementations
            //# MUST NOT switch exchange types in the middle of an exchange.
            Some((NotifyType::INVALID_EXCHANGE_TYPE, "another exchange type in the middle of an exchange"))
        } else if header.responder_cookie.is_zero() {
            Some((NotifyType::INVALID_COOKIE, "initiator cookie used twice"))
        } else if header.message_id != MessageId::PHASE_ONE {
            Some((NotifyType::INVALID_MESSAGE_ID, "message id in phase 1"))
        } else if !has_correct_flags(header) {
            Some((NotifyType::INVALID_FLAGS, "flags that mean nothing here"))
        } else {
            None
        };
        if let Some((kind, reason)) = wrong {
            return self.refuse(now, path, marker, header, kind, reason);
        }
        let initial_contact = self.associations_of(&gateway.name, path.remote.ip()).next().is_none();
        let mut context = Context {
            random,
            directory: &self.directory,
            vendor_ids: &self.settings.vendor_ids,
            path,
            cookies: Cookies::of(header),
            initial_contact,
        };
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let step = pending.state.handle(&mut context, message);
        let cookies = context.cookies;
        match step {
            Ok(Step::Next(state, reply)) => {
                pending.path = path;
                pending.cookies = cookies;
                pending.advance(now, digest, (state, reply.clone()), &self.settings.retransmission);
                if first {
                    self.by_first_message.remove(&(cookies.initiator, path.remote));
                    self.index(cookies, id);
                }
                self.transmit(path, marker, &reply);
                self.schedule(id);
            }
            Ok(Step::Done(proven, reply)) => {
                pending.path = path;
                pending.cookies = cookies;
                self.establish(now, id, *proven, digest, reply, random);
            }
            Err(refusal) => self.handle_refusal(now, id, message, refusal),
        }
    }

    /// A message of the exchange was refused: log it, tell the peer, remember it, and end the exchange if it is certain
    /// that the message is the peer's.
    fn handle_refusal(&mut self, now: Instant, id: AssociationId, message: &Message<'_>, refusal: Refusal) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let (path, marker, gateway) = (pending.path, pending.non_esp_marker, pending.gateway().clone());
        if let Some(failure) = &refusal.failure {
            pending.failure = Some((**failure).clone());
        }
        let (cookies, doi) = (Cookies::of(&message.header), pending.state.doi());
        self.log_refusal(now, path, Some(&gateway.name), &refusal);
        let Some(authenticated) = refusal.authenticated else {
            return self.refuse(now, path, marker, &message.header, refusal.notify, refusal.reason);
        };
        //= https://www.rfc-editor.org/rfc/rfc2408#section-5.14
        //# Once the keying
        //# material has been exchanged or the ISAKMP SA has been established,
        //# the Informational Exchange MUST be transmitted under the protection
        //# provided by the keying material or the ISAKMP SA.
        let Authenticated { keys, last_block, delete } = *authenticated;
        let skeyid_a = crypto::PrfKey::new(keys.hash, keys.skeyid_a.expose());
        let mut chains = vec![bare_notification(doi, refusal.notify)];
        if delete {
            chains.push(super::established::deletion(cookies));
        }
        for chain in &chains {
            let message_id = self.message_ids.next();
            if let Ok(message) =
                informational(cookies, message_id, &skeyid_a, &keys.protection, &last_block, chain)
            {
                self.transmit(path, marker, &message);
            }
        }
        if let Some(failure) = refusal.failure {
            self.fail(now, id, *failure);
        }
    }

    /// Takes an informational message for an unfinished exchange. In clear it proves nothing, so it is only remembered;
    /// encrypted with the keys of both it ends the exchange.
    fn handle_notice(
        &mut self,
        now: Instant,
        id: AssociationId,
        message: &Message<'_>,
        random: &mut dyn Random,
    ) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        let (path, gateway) = (pending.path, pending.gateway().clone());
        let opened = if message.is_encrypted() { open_notice(pending, message) } else { None };
        let payloads = match &opened {
            Some(clear) => Payloads::parse_decrypted(message.header.next_payload, clear),
            None if message.is_encrypted() => {
                // Whoever cannot decrypt our last message often says so under his own keys.
                if pending.state.keys().is_some() {
                    pending.failure = Some(Failure::PreSharedKeysDiffer);
                }
                return;
            }
            None => message.payloads(),
        };
        let Ok(payloads) = payloads else {
            return;
        };
        let error = payloads
            .all(PayloadType::NOTIFICATION)
            .filter_map(|payload| payload.parse::<Notification<'_>>().ok())
            .map(|notification| notification.kind)
            .find(|kind| kind.is_error());
        let Some(kind) = error else {
            return;
        };
        let entry = Entry::new(Level::Warn, Facility::Ike, "the peer refuses phase 1");
        let certain = opened.is_some();
        let entry = entry.with("gateway", &gateway.name).with("peer", path.remote).with("notify", kind);
        let unsupported = matches!(kind, NotifyType::DOI_NOT_SUPPORTED | NotifyType::SITUATION_NOT_SUPPORTED);
        if unsupported
            && pending.state.is_first()
            && pending.state.doi() == Doi::GDOI
            && gateway.doi == DoiChoice::GdoiThenIpsec
        {
            let old = pending.cookies;
            self.unindex(old, path.remote, id);
            self.log(now, entry.with("retry", "IPsec DOI"));
            if self.send_first_message(now, id, &gateway, path, Doi::IPSEC, random).is_err() {
                self.fail(now, id, Failure::Refused(kind));
            }
            return;
        }
        pending.failure = Some(Failure::Refused(kind));
        self.log(now, entry.with("authenticated", certain));
        if certain {
            self.fail(now, id, Failure::Refused(kind));
        }
    }

    /// Turns a finished exchange into an SA.
    fn establish(
        &mut self,
        now: Instant,
        id: AssociationId,
        proven: Proven,
        question: Digest,
        answer: Option<Vec<u8>>,
        random: &mut dyn Random,
    ) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        let (path, marker, cookies) = (pending.path, pending.non_esp_marker, pending.cookies);
        self.half_open.remove(id, path.remote.ip());
        if pending.is_responder() {
            // Kept, so that a late copy of message 1 does not start another exchange.
            self.by_first_message.insert((cookies.initiator, path.remote), id);
        } else {
            self.by_first_message.remove(&(cookies.initiator, path.remote));
        }
        self.index(cookies, id);
        if let Some(answer) = &answer {
            self.transmit(path, marker, answer);
        }
        let gateway = proven.gateway.name.clone();
        let remote = path.remote.ip();
        //= https://www.rfc-editor.org/rfc/rfc2407#section-4.6.3.3
        //# The receiver of this Notification Message might
        //# then elect to delete any existing SA's it has for the sending system
        //# under the assumption that the sending system has rebooted and no
        //# longer has access to the original SA's and their associated keying
        //# material.
        let superseded: Vec<AssociationId> = if proven.initial_contact {
            self.associations_of(&gateway, remote).collect()
        } else {
            let surplus =
                (self.associations_of(&gateway, remote).count() + 1).saturating_sub(MAXIMUM_PER_PEER);
            self.associations_of(&gateway, remote).take(surplus).collect()
        };
        for old in superseded {
            // Other members may share the address of this one.
            if self.associations.get(&old).is_some_and(|sa| sa.path.remote == path.remote)
                || !proven.initial_contact
            {
                self.close(now, old, CloseReason::Superseded);
            }
        }
        let surroundings = Surroundings {
            id,
            path,
            side: pending.state.side(),
            mode: pending.state.mode(),
            cookies,
            non_esp_marker: marker,
            last_answer: answer.map(|answer| LastAnswer { question, answer }),
        };
        let association = Association::new(now, surroundings, proven, random);
        let entry = Entry::new(Level::Info, Facility::Ike, "phase 1 established")
            .with("gateway", &gateway)
            .with("peer", path.remote)
            .with("identity", association.peer_identity())
            .with("side", if association.side() == Side::Initiator { "initiator" } else { "responder" });
        self.log(now, entry);
        self.associations.insert(id, association);
        self.by_peer.insert((gateway.clone(), remote, id));
        self.schedule(id);
        self.push(Event::Established { association: id, gateway });
    }

    /// Ends an unfinished exchange; does nothing if there is none of that name.
    pub(super) fn fail(&mut self, now: Instant, id: AssociationId, failure: Failure) {
        let Some(pending) = self.pending.remove(&id) else {
            return;
        };
        let path = pending.path;
        self.half_open.remove(id, path.remote.ip());
        self.unindex(pending.cookies, path.remote, id);
        self.schedule(id);
        let gateway = pending.gateway().name.clone();
        let level = match (&failure, pending.is_responder()) {
            // Whoever started and fell silent; port scanners do so all day.
            (Failure::TimedOut | Failure::Evicted, true) => Level::Debug,
            (Failure::Abandoned | Failure::Reconfigured, _) => Level::Info,
            _ => Level::Warn,
        };
        let entry = Entry::new(level, Facility::Ike, "phase 1 failed");
        self.log(now, entry.with("gateway", &gateway).with("peer", path.remote).with("reason", &failure));
        self.push(Event::Failed { association: id, gateway: Some(gateway), path, failure });
    }

    pub(super) fn time_out_unfinished(&mut self, now: Instant, id: AssociationId) {
        let Some(pending) = self.pending.get_mut(&id) else {
            return;
        };
        match pending.handle_timeout(now, &self.settings.retransmission) {
            Due::Nothing => {}
            Due::Repeat => {
                let (path, marker, message) =
                    (pending.path, pending.non_esp_marker, pending.last_sent.clone());
                self.transmit(path, marker, &message);
            }
            Due::GiveUp(failure) => self.fail(now, id, failure),
        }
    }

    fn log_refusal(&mut self, now: Instant, path: Path, gateway: Option<&str>, refusal: &Refusal) {
        let level = if refusal.failure.is_some() { Level::Warn } else { Level::Info };
        let mut entry = Entry::new(level, Facility::Ike, "phase 1 message not accepted")
            .with("peer", path.remote)
            .with("reason", refusal.reason);
        if let Some(gateway) = gateway {
            entry = entry.with("gateway", gateway);
        }
        if let Some(error) = &refusal.error {
            entry = entry.with("error", error);
        }
        if let Some(failure) = &refusal.failure {
            entry = entry.with("failure", failure);
        }
        self.log(now, entry.with("notify", refusal.notify));
    }
}

/// Decrypts an informational message that came instead of the last one of the exchange, if its hash verifies.
fn open_notice(pending: &Pending, message: &Message<'_>) -> Option<Vec<u8>> {
    let (keys, last_block) = pending.state.keys()?;
    let message_id = message.header.message_id;
    let iv = keys.protection.phase2_iv(last_block, message_id);
    let (clear, _) = keys.protection.open(&iv, message.body()).ok()?;
    let payloads = Payloads::parse_decrypted(message.header.next_payload, &clear).ok()?;
    let hash = payloads.as_slice().first().filter(|payload| payload.kind == PayloadType::HASH)?;
    let skeyid_a = crypto::PrfKey::new(keys.hash, keys.skeyid_a.expose());
    let expected = informational_hash(&skeyid_a, message_id, payloads.after_first());
    expected.matches(hash.body()).then_some(clear)
}
