//! All phase 1 exchanges and SAs of one role, and the one place where datagrams enter and leave.
//!
//! Unfinished exchanges are handled in `unfinished.rs`, SAs in `established.rs`; here is what both share: names,
//! indices, timers, queues. Nothing looks at all exchanges or all SAs to find one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crypto::{Hash, Random, Secret};
use wire::codec::Violation;
use wire::isakmp::{Cookie, Header, Message, MessageId, Notification};
use wire::registry::{Doi, ExchangeType, NotifyType, PayloadType};
use wire::{codec::Reader, non_esp};

use super::association::Association;
use super::directory::Directory;
use super::event::{AssociationId, CloseReason, Event, Failure, Outcome, Phase2Error, Phase2Message};
use super::frame::Cookies;
use super::half_open::HalfOpen;
use super::message_ids::MessageIds;
use super::pending::Pending;
use super::refusal::bare_notification;
use super::settings::Settings;
use super::vendor::PeerVendorIds;
use crate::log::{self, Entry, Facility, Level};
use crate::path::Path;
use crate::time::Instant;

/// Notifications in clear that may leave in a row, and how long until one more may: they answer anybody, so an
/// attacker who lies about his address must not be able to flood somebody else with them.
const REFUSAL_BURST: u32 = 64;
const REFUSAL_REFILL: Duration = Duration::from_millis(20);

/// All phase 1 exchanges and SAs of one role.
///
/// The role routes to it every datagram that is not a GROUPKEY-PUSH, drains `poll_transmit`, `poll_event` and
/// `poll_log` after each call, and calls `handle_timeout` when `poll_timeout` says so.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) settings: Settings,
    pub(super) directory: Directory,
    cookie_secret: Secret,
    cookies_made: u64,
    last_id: u64,
    pub(super) message_ids: MessageIds,
    pub(super) pending: BTreeMap<AssociationId, Pending>,
    pub(super) associations: BTreeMap<AssociationId, Association>,
    /// Exchanges and SAs whose responder cookie is known.
    by_cookies: BTreeMap<Cookies, AssociationId>,
    /// Exchanges by the initiator's cookie and the peer: ours that wait for the responder's cookie, and those of peers
    /// that may repeat their first message.
    pub(super) by_first_message: BTreeMap<(Cookie, SocketAddr), AssociationId>,
    /// SAs by gateway and peer, to find the newest one and to count them.
    pub(super) by_peer: BTreeSet<(String, IpAddr, AssociationId)>,
    pub(super) half_open: HalfOpen,
    timers: BTreeSet<(Instant, AssociationId)>,
    timer_of: BTreeMap<AssociationId, Instant>,
    refusals: RefusalBudget,
    transmits: VecDeque<(Path, Vec<u8>)>,
    events: VecDeque<Event>,
    journal: log::Journal,
}

/// Why [`Endpoint::connect`] did not start an exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No gateway has that name.
    #[error("there is no gateway {0}")]
    UnknownGateway(String),
    /// The first message cannot be built: no proposal, an identity too long, or an unknown local address that
    /// aggressive mode needs as identity.
    #[error("no exchange can be started with gateway {0}: {1}")]
    NotPossible(String, &'static str),
}

#[derive(Debug)]
struct RefusalBudget {
    left: u32,
    refilled_at: Instant,
}

impl Endpoint {
    /// An endpoint without any exchange. Draws the secret of its cookies from `random`.
    pub fn new(settings: Settings, random: &mut dyn Random) -> Self {
        let mut secret = vec![0; 32];
        random.fill(&mut secret);
        Self {
            directory: Directory::new(&settings.gateways),
            settings,
            cookie_secret: Secret::new(secret),
            cookies_made: 0,
            last_id: 0,
            message_ids: MessageIds::new(random),
            pending: BTreeMap::new(),
            associations: BTreeMap::new(),
            by_cookies: BTreeMap::new(),
            by_first_message: BTreeMap::new(),
            by_peer: BTreeSet::new(),
            half_open: HalfOpen::default(),
            timers: BTreeSet::new(),
            timer_of: BTreeMap::new(),
            refusals: RefusalBudget { left: REFUSAL_BURST, refilled_at: Instant::ORIGIN },
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            journal: log::Journal::default(),
        }
    }

    /// Applies changed settings: exchanges and SAs of gateways that are the same continue, the others end.
    pub fn configure(&mut self, now: Instant, settings: Settings) {
        let old = std::mem::replace(&mut self.directory, Directory::new(&settings.gateways));
        self.settings = settings;
        let changed = |name: &str| old.named(name) != self.directory.named(name);
        let pending: Vec<AssociationId> = self
            .pending
            .values()
            .filter(|pending| changed(&pending.gateway().name))
            .map(|pending| pending.id)
            .collect();
        let closed: Vec<AssociationId> =
            self.associations.values().filter(|sa| changed(sa.gateway())).map(Association::id).collect();
        for id in pending {
            self.fail(now, id, Failure::Reconfigured);
        }
        for id in closed {
            self.close(now, id, CloseReason::Reconfigured);
        }
    }

    /// Starts an exchange with `gateway` over `path`. It ends in `Event::Established` or `Event::Failed`.
    pub fn connect(
        &mut self,
        now: Instant,
        gateway: &str,
        path: Path,
        random: &mut dyn Random,
    ) -> Result<AssociationId, ConnectError> {
        self.start_exchange(now, gateway, path, random)
    }

    /// Gives up an unfinished exchange, or deletes an SA and tells the peer. `Event::Failed` or `Event::Closed` follows.
    pub fn delete(&mut self, now: Instant, association: AssociationId) {
        self.fail(now, association, Failure::Abandoned);
        self.close(now, association, CloseReason::Deleted);
    }

    /// Closes the SAs between addresses of which ours is gone. Peers cannot be told from there.
    pub fn forget_addresses(&mut self, now: Instant, is_gone: impl Fn(IpAddr) -> bool) -> Vec<AssociationId> {
        let gone: Vec<AssociationId> = self
            .associations
            .values()
            .filter(|sa| is_gone(sa.path().local.ip()))
            .map(Association::id)
            .collect();
        for association in &gone {
            self.close(now, *association, CloseReason::AddressGone);
        }
        gone
    }

    /// Takes one UDP payload as it arrived, non-ESP marker included.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
        random: &mut dyn Random,
    ) -> Outcome {
        let (marker, octets) = non_esp::strip(datagram);
        let message = match Message::parse(octets) {
            Ok(message) => message,
            Err(error) => {
                self.refuse_unreadable(now, path, marker, octets, error);
                return Outcome::Handled;
            }
        };
        let digest = Hash::Sha256.digest(&[octets]);
        let cookies = Cookies::of(&message.header);
        if let Some(&id) = self.by_cookies.get(&cookies) {
            if self.associations.contains_key(&id) {
                return self.handle_established(now, id, path, &message, digest);
            }
            self.handle_unfinished(now, id, path, &message, digest, random);
            return Outcome::Handled;
        }
        let first = self.by_first_message.get(&(cookies.initiator, path.remote)).copied();
        match first.and_then(|id| self.pending.get(&id)) {
            // The peer repeats its first message, or answers ours.
            Some(pending)
                if pending.is_responder() == cookies.responder.is_zero() || pending.state.is_first() =>
            {
                let id = pending.id;
                self.handle_unfinished(now, id, path, &message, digest, random);
            }
            Some(_) => {
                self.refuse(now, path, marker, &message.header, NotifyType::INVALID_COOKIE, "unknown cookies")
            }
            // A late copy of the first message of what is an SA by now.
            None if first.is_some() && cookies.responder.is_zero() => {}
            None => self.handle_unknown(now, path, marker, &message, digest, random),
        }
        Outcome::Handled
    }

    /// Does what has become due: retransmission, expiry, dead peer detection.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(due, id)) = self.timers.first() {
            if due > now {
                break;
            }
            self.timers.pop_first();
            self.timer_of.remove(&id);
            self.time_out_unfinished(now, id);
            self.time_out_established(now, id);
            self.schedule(id);
        }
    }

    /// Starts a phase 2 exchange of ours: a message id that was never used under this SA.
    pub fn start_phase2(
        &mut self,
        now: Instant,
        association: AssociationId,
    ) -> Result<MessageId, Phase2Error> {
        let sa = self.associations.get_mut(&association).ok_or(Phase2Error::NoAssociation)?;
        let started = sa.start_phase2(now);
        self.schedule(association);
        started
    }

    /// Takes note that the HASH of `message` verified: its ciphertext becomes the IV of the next message of the
    /// exchange, its repetition will be answered with the message sent next (if the peer started the exchange).
    ///
    /// With `Phase2Error::Exhausted` the SA is closed: it has carried as many exchanges as it may.
    pub fn accept(&mut self, now: Instant, message: &Phase2Message) -> Result<(), Phase2Error> {
        let id = message.association;
        let sa = self.associations.get_mut(&id).ok_or(Phase2Error::NoAssociation)?;
        sa.liveness.heard(now);
        let accepted = sa.exchanges.accept(now, message);
        if accepted == Err(Phase2Error::Exhausted) {
            self.close(now, id, CloseReason::Exhausted);
        }
        self.schedule(id);
        accepted
    }

    /// Encrypts and queues the next message of a phase 2 exchange that was started or accepted.
    ///
    /// `payloads` are the encoded payloads, HASH first, without padding; `first_payload` is the type of the first one.
    pub fn send_phase2(
        &mut self,
        now: Instant,
        association: AssociationId,
        exchange: ExchangeType,
        message_id: MessageId,
        first_payload: PayloadType,
        payloads: &[u8],
    ) -> Result<(), Phase2Error> {
        let sa = self.associations.get_mut(&association).ok_or(Phase2Error::NoAssociation)?;
        let message = sa.seal_phase2(now, exchange, message_id, first_payload, payloads)?;
        self.send_protected(now, association, message);
        Ok(())
    }

    /// Queues the last message we sent in a phase 2 exchange once more, the same bytes.
    pub fn retransmit_phase2(
        &mut self,
        now: Instant,
        association: AssociationId,
        message_id: MessageId,
    ) -> Result<(), Phase2Error> {
        let sa = self.associations.get_mut(&association).ok_or(Phase2Error::NoAssociation)?;
        let message = sa.exchanges.last_sent(now, message_id).ok_or(Phase2Error::NoExchange)?.to_vec();
        self.send_protected(now, association, message);
        Ok(())
    }

    /// Ends a phase 2 exchange that we started: later messages of it are dropped. (An exchange of the peer needs no
    /// end: it is kept a while to answer repetitions, then forgotten.)
    pub fn end_phase2(&mut self, association: AssociationId, message_id: MessageId) {
        if let Some(sa) = self.associations.get_mut(&association) {
            sa.exchanges.end(message_id);
        }
    }

    /// Forgets what was answered in exchanges that peers started: repetitions of their messages get no answer any more.
    pub fn forget_answers(&mut self) {
        self.associations.values_mut().for_each(|sa| sa.exchanges.forget_answers());
    }

    /// Sends a notification under the protection of an SA, once.
    pub fn send_notification(
        &mut self,
        now: Instant,
        association: AssociationId,
        notification: &Notification<'_>,
    ) -> Result<(), Phase2Error> {
        let mut chain = wire::isakmp::PayloadChain::new();
        chain.push(notification).map_err(|_| Phase2Error::TooLong)?;
        self.send_informational(now, association, &chain)
    }

    /// Writes the next datagram to send into `buffer` (cleared first) and returns where it goes.
    #[must_use]
    pub fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> Option<Path> {
        buffer.clear();
        let (path, datagram) = self.transmits.pop_front()?;
        buffer.extend_from_slice(&datagram);
        Some(path)
    }

    /// Takes the next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes the next log entry, its rate limit already applied.
    #[must_use]
    pub fn poll_log(&mut self) -> Option<Entry> {
        self.journal.poll()
    }

    /// The earliest moment at which `handle_timeout` has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|&(due, _)| due)
    }

    /// An established SA.
    pub fn association(&self, association: AssociationId) -> Option<&Association> {
        self.associations.get(&association)
    }

    /// Takes what the peer of an SA has told again of itself, in a message whose HASH covers it.
    pub(crate) fn learn_vendor_ids(&mut self, association: AssociationId, vendor_ids: PeerVendorIds) {
        if let Some(association) = self.associations.get_mut(&association) {
            association.learn_vendor_ids(vendor_ids);
        }
    }

    /// All established SAs, oldest first.
    pub fn associations(&self) -> impl Iterator<Item = &Association> {
        self.associations.values()
    }

    /// The newest established SA with the peer at `remote` that belongs to `gateway`.
    pub fn find(&self, gateway: &str, remote: IpAddr) -> Option<AssociationId> {
        self.associations_of(gateway, remote).next_back()
    }

    /// How many exchanges that peers started are unfinished.
    pub fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All SAs with the peer at `remote` that belong to `gateway`, oldest first.
    pub(super) fn associations_of(
        &self,
        gateway: &str,
        remote: IpAddr,
    ) -> impl DoubleEndedIterator<Item = AssociationId> {
        let first = (gateway.to_owned(), remote, AssociationId(0));
        let last = (gateway.to_owned(), remote, AssociationId(u64::MAX));
        self.by_peer.range(first..=last).map(|&(_, _, id)| id)
    }

    pub(super) fn new_id(&mut self) -> AssociationId {
        self.last_id += 1;
        AssociationId(self.last_id)
    }

    /// A cookie that nobody else can make.
    //= https://www.rfc-editor.org/rfc/rfc2408#section-2.5.3
    //# It must not be possible for anyone other than the issuing
    //# entity to generate cookies that will be accepted by that
    //# entity.
    pub(super) fn new_cookie(&mut self, now: Instant, path: &Path) -> Cookie {
        loop {
            self.cookies_made += 1;
            let number = self.cookies_made.to_be_bytes();
            let between = format!("{path}");
            let parts: [&[u8]; 3] = [between.as_bytes(), &now.as_micros().to_be_bytes(), &number];
            let digest = Hash::Sha256.prf(self.cookie_secret.expose(), &parts);
            let octets = digest.expose().first_chunk().expect("SHA-256 yields 32 octets");
            // The first half of a message's first cookie must not look like a non-ESP marker.
            if octets[..4] != non_esp::MARKER {
                return Cookie(*octets);
            }
        }
    }

    pub(super) fn index(&mut self, cookies: Cookies, id: AssociationId) {
        self.by_cookies.insert(cookies, id);
    }

    pub(super) fn unindex(&mut self, cookies: Cookies, remote: SocketAddr, id: AssociationId) {
        if self.by_cookies.get(&cookies) == Some(&id) {
            self.by_cookies.remove(&cookies);
        }
        let first = (cookies.initiator, remote);
        if self.by_first_message.get(&first) == Some(&id) {
            self.by_first_message.remove(&first);
        }
    }

    pub(super) fn lookup(&self, cookies: Cookies) -> Option<AssociationId> {
        self.by_cookies.get(&cookies).copied()
    }

    /// Sets the timer of an exchange or SA to its next deadline.
    pub(super) fn schedule(&mut self, id: AssociationId) {
        let deadline = match (self.pending.get(&id), self.associations.get(&id)) {
            (Some(pending), _) => Some(pending.deadline()),
            (None, Some(association)) => Some(association.deadline()),
            (None, None) => None,
        };
        let old = match deadline {
            Some(deadline) => self.timer_of.insert(id, deadline),
            None => self.timer_of.remove(&id),
        };
        if old == deadline {
            return;
        }
        if let Some(old) = old {
            self.timers.remove(&(old, id));
        }
        if let Some(deadline) = deadline {
            self.timers.insert((deadline, id));
        }
    }

    pub(super) fn transmit(&mut self, path: Path, marker: bool, message: &[u8]) {
        self.transmits.push_back((path, non_esp::mirror(marker, message)));
    }

    pub(super) fn push(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn log(&mut self, now: Instant, entry: Entry) {
        self.journal.record(now, entry);
    }

    /// Tells the sender of a message why it is refused, in clear, if there is anything left of the budget.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        path: Path,
        marker: bool,
        header: &Header,
        kind: NotifyType,
        reason: &'static str,
    ) {
        let entry = Entry::new(Level::Debug, Facility::Ike, "message refused");
        self.log(now, entry.with("peer", path.remote).with("notify", kind).with("reason", reason));
        // Answers to informational messages would be answered in turn, for ever.
        if header.exchange == ExchangeType::INFORMATIONAL || header.initiator_cookie.is_zero() {
            return;
        }
        if !self.refusals.take(now) {
            return;
        }
        let chain = bare_notification(Doi::ISAKMP, kind);
        let message_id = self.message_ids.next();
        if let Ok(message) = Cookies::of(header).clear(ExchangeType::INFORMATIONAL, message_id, &chain) {
            self.transmit(path, marker, &message);
        }
    }

    /// Whether one more message may be refused aloud.
    pub(super) fn may_refuse(&mut self, now: Instant) -> bool {
        self.refusals.take(now)
    }

    /// Answers what is not even a message, as far as its header can be read.
    fn refuse_unreadable(
        &mut self,
        now: Instant,
        path: Path,
        marker: bool,
        octets: &[u8],
        error: wire::Error,
    ) {
        let Ok((header, _)) = Header::read(&mut Reader::new(octets)) else {
            let entry = Entry::new(Level::Debug, Facility::Ike, "datagram shorter than a header");
            return self.log(now, entry.with("peer", path.remote));
        };
        let kind = match error.violation {
            Violation::UnsupportedVersion if header.version.major() != 1 => NotifyType::INVALID_MAJOR_VERSION,
            Violation::UnsupportedVersion => NotifyType::INVALID_MINOR_VERSION,
            //= https://www.rfc-editor.org/rfc/rfc2408#section-5.1
            //# An Informational Exchange with a Notification payload containing
            //# the UNEQUAL-PAYLOAD-LENGTHS message type MAY be sent to the
            //# transmitting entity.
            _ => NotifyType::UNEQUAL_PAYLOAD_LENGTHS,
        };
        self.refuse(now, path, marker, &header, kind, "unreadable header");
    }
}

impl RefusalBudget {
    fn take(&mut self, now: Instant) -> bool {
        let refills = (now - self.refilled_at).as_micros() / REFUSAL_REFILL.as_micros();
        if refills > 0 {
            let refills = u32::try_from(refills).unwrap_or(u32::MAX);
            self.left = self.left.saturating_add(refills).min(REFUSAL_BURST);
            self.refilled_at = now;
        }
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}
