//! The phase 2 exchanges under one SA: their IVs, and the answers that repetitions get.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crypto::Digest;
use wire::isakmp::MessageId;

use super::event::{Phase2Error, Phase2Message};
use super::keys::Iv;
use crate::time::Instant;

/// Exchanges that one SA carries in its life. A member that registers with as many groups as a server can have (250)
/// once a quarter of an hour needs no more in four hours; then a new SA is due.
const MAXIMUM_EXCHANGES: usize = 4096;

/// Exchanges whose state is kept at the same time: more than a member has groups on one server at one moment.
const MAXIMUM_OPEN: usize = 256;

/// How long an exchange is kept after its last message, so that repetitions are answered: longer than peers repeat.
const RETENTION: Duration = Duration::from_secs(60);

/// How often one answer is repeated. A replayed question must not draw a long answer for ever.
const MAXIMUM_REPETITIONS: u32 = 16;

/// The phase 2 exchanges under one SA.
#[derive(Debug, Default)]
pub(super) struct Exchanges {
    open: BTreeMap<MessageId, Exchange>,
    /// Every message id that was ever accepted or started: an IV is never used twice.
    used: BTreeSet<MessageId>,
    /// When the first of `open` may be forgotten, or earlier.
    oldest: Option<Instant>,
}

#[derive(Debug)]
struct Exchange {
    ours: bool,
    iv: Iv,
    last_received: Option<Digest>,
    last_sent: Vec<u8>,
    repetitions: u32,
    touched: Instant,
}

/// What a message is to the exchange that its message id names.
pub(super) enum Place<'a> {
    /// The first message of an exchange, or the next one.
    Next,
    /// The last message once more, and what answered it.
    Repeated(&'a [u8]),
    /// Nothing that is wanted.
    Unwanted,
}

impl Exchanges {
    /// Where a received message belongs.
    pub(super) fn place(&mut self, message_id: MessageId, digest: &Digest) -> Place<'_> {
        let used = self.used.contains(&message_id);
        match self.open.get_mut(&message_id) {
            Some(exchange) if exchange.last_received.as_ref() == Some(digest) => {
                // Who started the exchange repeats by its own clock; if both sides repeated, they would never stop.
                if exchange.ours
                    || exchange.last_sent.is_empty()
                    || exchange.repetitions == MAXIMUM_REPETITIONS
                {
                    return Place::Unwanted;
                }
                exchange.repetitions += 1;
                Place::Repeated(&exchange.last_sent)
            }
            Some(_) => Place::Next,
            None if used => Place::Unwanted,
            None => Place::Next,
        }
    }

    /// The IV of the next message of an exchange.
    pub(super) fn iv(&self, message_id: MessageId) -> Option<&Iv> {
        self.open.get(&message_id).map(|exchange| &exchange.iv)
    }

    /// Whether this id was used in a phase 2 exchange.
    pub(super) fn was_used(&self, message_id: MessageId) -> bool {
        self.used.contains(&message_id)
    }

    /// Starts an exchange of ours.
    pub(super) fn start(&mut self, now: Instant, message_id: MessageId, iv: Iv) -> Result<(), Phase2Error> {
        self.insert(now, message_id, true, iv, None)
    }

    /// Moves an exchange past a message whose hash verified.
    //= https://www.rfc-editor.org/rfc/rfc2409#section-10
    //# To prevent retransmissions (or forged messages with valid
    //# cookies) from causing exchanges to get out of sync IKE
    //# implementations SHOULD NOT update their running IV until the
    //# decrypted message has passed a basic sanity check and has been
    //# determined to actually advance the IKE state machine-- i.e. it is not
    //# a retransmission.
    pub(super) fn accept(&mut self, now: Instant, message: &Phase2Message) -> Result<(), Phase2Error> {
        match self.open.get_mut(&message.message_id) {
            Some(exchange) => {
                exchange.iv = message.next_iv;
                exchange.last_received = Some(message.digest);
                exchange.last_sent.clear();
                exchange.repetitions = 0;
                exchange.touched = now;
                Ok(())
            }
            None if message.first => {
                self.insert(now, message.message_id, false, message.next_iv, Some(message.digest))
            }
            None => Err(Phase2Error::NoExchange),
        }
    }

    /// Takes note of a message that we send.
    pub(super) fn sent(&mut self, now: Instant, message_id: MessageId, next_iv: Iv, message: &[u8]) {
        if let Some(exchange) = self.open.get_mut(&message_id) {
            exchange.iv = next_iv;
            exchange.last_sent = message.to_vec();
            exchange.touched = now;
        }
    }

    /// The last message we sent, to be sent once more.
    pub(super) fn last_sent(&mut self, now: Instant, message_id: MessageId) -> Option<&[u8]> {
        let exchange = self.open.get_mut(&message_id).filter(|exchange| !exchange.last_sent.is_empty())?;
        exchange.touched = now;
        Some(&exchange.last_sent)
    }

    /// Forgets an exchange; its message id stays used.
    pub(super) fn end(&mut self, message_id: MessageId) {
        self.open.remove(&message_id);
    }

    /// Forgets every exchange of the peer; the message ids stay used.
    pub(super) fn forget_answers(&mut self) {
        self.open.retain(|_, exchange| exchange.ours);
    }

    /// Forgets what nobody has touched for long.
    pub(super) fn forget(&mut self, now: Instant) {
        if self.oldest.is_some_and(|oldest| oldest <= now) {
            self.open.retain(|_, exchange| exchange.touched + RETENTION > now);
            self.oldest = self.open.values().map(|exchange| exchange.touched + RETENTION).min();
        }
    }

    /// When `forget` has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.oldest
    }

    fn insert(
        &mut self,
        now: Instant,
        message_id: MessageId,
        ours: bool,
        iv: Iv,
        last_received: Option<Digest>,
    ) -> Result<(), Phase2Error> {
        if self.used.len() >= MAXIMUM_EXCHANGES {
            return Err(Phase2Error::Exhausted);
        }
        if !self.used.insert(message_id) {
            return Err(Phase2Error::NoExchange);
        }
        if self.open.len() >= MAXIMUM_OPEN {
            let stale = self.open.iter().min_by_key(|(_, exchange)| exchange.touched).map(|(&id, _)| id);
            stale.map(|id| self.open.remove(&id));
        }
        let exchange =
            Exchange { ours, iv, last_received, last_sent: Vec::new(), repetitions: 0, touched: now };
        self.open.insert(message_id, exchange);
        self.oldest.get_or_insert(now + RETENTION);
        Ok(())
    }
}
