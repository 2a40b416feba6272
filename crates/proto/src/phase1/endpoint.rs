//! All phase 1 exchanges and SAs of one role, and the one place where datagrams enter and leave.

use std::net::IpAddr;

use crypto::Random;
use wire::isakmp::{MessageId, Notification};
use wire::registry::{ExchangeType, PayloadType};

use super::association::Association;
use super::event::{AssociationId, Event, Outcome, Phase2Message};
use super::settings::Settings;
use crate::log;
use crate::path::Path;
use crate::time::Instant;

/// All phase 1 exchanges and SAs of one role.
///
/// The role routes to it every datagram that is not a GROUPKEY-PUSH, drains `poll_transmit`, `poll_event` and
/// `poll_log` after each call, and calls `handle_timeout` when `poll_timeout` says so.
#[derive(Debug)]
pub struct Endpoint {
    settings: Settings,
    journal: log::Journal,
}

/// Why [`Endpoint::connect`] did not start an exchange.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No gateway has that name.
    #[error("there is no gateway {0}")]
    UnknownGateway(String),
    /// The gateway has no proposal at all.
    #[error("gateway {0} has no proposal")]
    NoProposal(String),
}

/// Why a phase 2 message cannot be sent or accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Phase2Error {
    /// The SA is gone.
    #[error("the phase 1 SA is gone")]
    NoAssociation,
    /// The exchange was never started, or is forgotten.
    #[error("there is no such exchange")]
    NoExchange,
    /// A UDP datagram cannot carry that many payloads.
    #[error("the message does not fit a datagram")]
    TooLong,
}

impl Endpoint {
    /// An endpoint without any exchange. Draws the secret of its cookies from `random`.
    pub fn new(settings: Settings, random: &mut dyn Random) -> Self {
        let _ = random;
        Self { settings, journal: log::Journal::default() }
    }

    /// Applies changed settings: exchanges and SAs of gateways that are the same continue, the others end.
    pub fn configure(&mut self, now: Instant, settings: Settings) {
        let _ = now;
        self.settings = settings;
    }

    /// Starts an exchange with `gateway` over `path`. It ends in `Event::Established` or `Event::Failed`.
    pub fn connect(
        &mut self,
        now: Instant,
        gateway: &str,
        path: Path,
        random: &mut dyn Random,
    ) -> Result<AssociationId, ConnectError> {
        let _ = (now, path, random);
        Err(ConnectError::UnknownGateway(gateway.to_owned()))
    }

    /// Gives up an unfinished exchange, or deletes an SA and tells the peer. `Event::Failed` or `Event::Closed` follows.
    pub fn delete(&mut self, now: Instant, association: AssociationId) {
        let _ = (now, association);
    }

    /// Takes one UDP payload as it arrived, non-ESP marker included.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
        random: &mut dyn Random,
    ) -> Outcome {
        let _ = (now, path, datagram, random);
        Outcome::Handled
    }

    /// Does what has become due: retransmission, expiry, dead peer detection.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// Starts a phase 2 exchange of ours: a message id that was never used under this SA.
    pub fn start_phase2(
        &mut self,
        now: Instant,
        association: AssociationId,
    ) -> Result<MessageId, Phase2Error> {
        let _ = (now, association);
        Err(Phase2Error::NoAssociation)
    }

    /// Takes note that the HASH of `message` verified: its ciphertext becomes the IV of the next message of the
    /// exchange, its repetition will be answered with the message sent next (if the peer started the exchange).
    pub fn accept(&mut self, now: Instant, message: &Phase2Message) -> Result<(), Phase2Error> {
        let _ = (now, message);
        Err(Phase2Error::NoAssociation)
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
        let _ = (now, association, exchange, message_id, first_payload, payloads);
        Err(Phase2Error::NoAssociation)
    }

    /// Queues the last message we sent in a phase 2 exchange once more, the same bytes.
    pub fn retransmit_phase2(
        &mut self,
        now: Instant,
        association: AssociationId,
        message_id: MessageId,
    ) -> Result<(), Phase2Error> {
        let _ = (now, association, message_id);
        Err(Phase2Error::NoAssociation)
    }

    /// Ends a phase 2 exchange that we started: later messages of it are dropped. (An exchange of the peer needs no
    /// end: it is kept a while to answer repetitions, then forgotten.)
    pub fn end_phase2(&mut self, association: AssociationId, message_id: MessageId) {
        let _ = (association, message_id);
    }

    /// Sends a notification under the protection of an SA, once.
    pub fn send_notification(
        &mut self,
        now: Instant,
        association: AssociationId,
        notification: &Notification<'_>,
    ) -> Result<(), Phase2Error> {
        let _ = (now, association, notification);
        Err(Phase2Error::NoAssociation)
    }

    /// Writes the next datagram to send into `buffer` (cleared first) and returns where it goes.
    #[must_use]
    pub fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> Option<Path> {
        buffer.clear();
        None
    }

    /// Takes the next event.
    #[must_use]
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// Takes the next log entry, its rate limit already applied.
    #[must_use]
    pub fn poll_log(&mut self) -> Option<log::Entry> {
        self.journal.poll()
    }

    /// The earliest moment at which `handle_timeout` has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// An established SA.
    pub fn association(&self, association: AssociationId) -> Option<&Association> {
        let _ = association;
        None
    }

    /// All established SAs, oldest first.
    pub fn associations(&self) -> impl Iterator<Item = &Association> {
        std::iter::empty()
    }

    /// The newest established SA with the peer at `remote` that belongs to `gateway`.
    pub fn find(&self, gateway: &str, remote: IpAddr) -> Option<AssociationId> {
        let _ = (gateway, remote);
        None
    }

    /// The settings in force.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}
