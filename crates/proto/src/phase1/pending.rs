//! An unfinished phase 1 exchange with what surrounds its state: cookies, last messages, clock.

use std::sync::Arc;
use std::time::Duration;

use crypto::Digest;

use super::event::{AssociationId, Failure};
use super::exchange::State;
use super::frame::Cookies;
use super::settings::{Gateway, Retransmission};
use crate::path::Path;
use crate::time::Instant;

/// How often an answer is repeated on demand: a peer that repeats its question for half a minute asks five times.
const MAXIMUM_REPETITIONS: u32 = 16;

/// No settings make us repeat faster than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(10);

/// An unfinished exchange.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) id: AssociationId,
    pub(super) path: Path,
    pub(super) non_esp_marker: bool,
    pub(super) cookies: Cookies,
    pub(super) state: State,
    /// Digest of the last message that was taken, and what we sent after it.
    pub(super) last_received: Option<Digest>,
    /// Digests of the messages taken before that one: two at most, as an exchange has six messages.
    past: Vec<Digest>,
    pub(super) last_sent: Vec<u8>,
    repetitions: u32,
    /// When it ends at the latest.
    pub(super) gives_up_at: Instant,
    /// When `last_sent` was sent for the first time, and the wait until it is sent again.
    sent_at: Instant,
    wait: Duration,
    repeats_at: Option<Instant>,
    /// Why it will have failed, should nothing better arrive.
    pub(super) failure: Option<Failure>,
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    /// Send the last message again.
    Repeat,
    /// End it.
    GiveUp(Failure),
}

impl Pending {
    pub(super) fn new(
        now: Instant,
        (id, path, non_esp_marker): (AssociationId, Path, bool),
        cookies: Cookies,
        (state, message): (State, Vec<u8>),
        last_received: Option<Digest>,
        retransmission: &Retransmission,
    ) -> Self {
        let repeats_at = state.repeats().then_some(now + retransmission.first);
        Self {
            id,
            path,
            non_esp_marker,
            cookies,
            state,
            last_received,
            past: Vec::new(),
            last_sent: message,
            repetitions: 0,
            gives_up_at: now + retransmission.give_up,
            sent_at: now,
            wait: retransmission.first,
            repeats_at,
            failure: None,
        }
    }

    /// Goes to the next state and takes note of the message that is sent with it.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        received: Digest,
        (state, message): (State, Vec<u8>),
        retransmission: &Retransmission,
    ) {
        // A round trip that contains a repetition is not measured: nobody knows which one was answered.
        if self.repetitions == 0 {
            let measured = (now - self.sent_at) * 4;
            self.wait = measured.min(retransmission.first).max(retransmission.shortest).max(SHORTEST_WAIT);
        } else {
            self.wait = retransmission.first.max(SHORTEST_WAIT);
        }
        self.repeats_at = state.repeats().then_some(now + self.wait);
        self.state = state;
        self.past.extend(self.last_received.replace(received));
        self.last_sent = message;
        self.repetitions = 0;
        self.sent_at = now;
        self.failure = None;
    }

    /// Whether this is a copy of an earlier message than the last: one that the network delivers late, and which the
    /// peer must not be told is wrong.
    pub(super) fn is_past(&self, received: &Digest) -> bool {
        self.past.contains(received)
    }

    /// Whether the last message shall be sent again because the peer repeated its own.
    pub(super) fn repeat_on_demand(&mut self) -> bool {
        // The initiator repeats by its own clock; if both repeated on demand, they would never stop.
        if !self.is_responder() || self.repetitions >= MAXIMUM_REPETITIONS {
            return false;
        }
        self.repetitions += 1;
        true
    }

    /// Does what is due at `now`.
    //= https://www.rfc-editor.org/rfc/rfc2408#section-5.1
    //# NOTE: Implementations MUST NOT use a fixed timer.  Instead,
    //# transmission timer values should be adjusted dynamically based on
    //# measured round trip times.  In addition, successive
    //# retransmissions of the same packet should be separated by
    //# increasingly longer time intervals (e.g., exponential backoff).
    pub(super) fn handle_timeout(&mut self, now: Instant, retransmission: &Retransmission) -> Due {
        if now >= self.gives_up_at {
            return Due::GiveUp(self.failure.take().unwrap_or_else(|| self.state.silence()));
        }
        match self.repeats_at {
            Some(repeats_at) if now >= repeats_at => {}
            _ => return Due::Nothing,
        }
        // A refusal that nothing contradicted until now is believed.
        if let Some(failure) = self.failure.take() {
            return Due::GiveUp(failure);
        }
        self.repetitions += 1;
        self.wait = (self.wait * 2).min(retransmission.longest).max(SHORTEST_WAIT);
        self.repeats_at = Some(now + self.wait);
        Due::Repeat
    }

    /// The next moment at which something happens by itself.
    pub(super) fn deadline(&self) -> Instant {
        self.repeats_at.map_or(self.gives_up_at, |repeats_at| repeats_at.min(self.gives_up_at))
    }

    pub(super) fn gateway(&self) -> &Arc<Gateway> {
        self.state.gateway()
    }

    pub(super) fn is_responder(&self) -> bool {
        self.state.side() == super::association::Side::Responder
    }
}
