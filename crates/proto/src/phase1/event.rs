//! What an [`Endpoint`](super::Endpoint) tells the layer above.

use std::fmt;

use crypto::Digest;
use wire::isakmp::{Delete, Identity, MessageId, Notification, Payloads};
use wire::registry::{ExchangeType, NotifyType, PayloadType};

use super::keys::Iv;
use crate::path::Path;

/// Names one phase 1 exchange and the SA that comes of it. Never reused by the same endpoint.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AssociationId(pub(super) u64);

impl AssociationId {
    /// A number for display, as the index column of `show`.
    pub fn index(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for AssociationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

/// What became of a datagram.
#[derive(Debug)]
#[must_use]
pub enum Outcome {
    /// It was taken, answered or dropped; events may have come of it.
    Handled,
    /// It belongs to a phase 2 exchange of an established SA and decrypts to these payloads.
    Phase2(Phase2Message),
}

/// A decrypted message of a phase 2 exchange. Nothing of it is authenticated until the layer above has verified the
/// HASH payload; only then may it call [`Endpoint::accept`](super::Endpoint::accept), which moves the exchange on.
/// A message that is not accepted leaves no trace.
pub struct Phase2Message {
    /// The SA under which it came.
    pub association: AssociationId,
    /// Exchange type of the header.
    pub exchange: ExchangeType,
    /// Message id of the header; not zero.
    pub message_id: MessageId,
    /// Whether this is the first message of an exchange the peer starts.
    pub first: bool,
    /// Type of the first payload.
    pub first_payload: PayloadType,
    /// The payloads and whatever padding follows them.
    pub payloads: Vec<u8>,
    /// IV of the next message, and the digest by which a repetition is known.
    pub(super) next_iv: Iv,
    pub(super) digest: Digest,
}

impl Phase2Message {
    /// The payloads, cut apart; the padding is dropped.
    pub fn parse(&self) -> wire::Result<Payloads<'_>> {
        Payloads::parse_decrypted(self.first_payload, &self.payloads)
    }
}

impl fmt::Debug for Phase2Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Phase2Message")
            .field("association", &self.association)
            .field("exchange", &self.exchange)
            .field("message_id", &self.message_id)
            .field("first", &self.first)
            .field("first_payload", &self.first_payload)
            .finish_non_exhaustive()
    }
}

/// Something happened to a phase 1 exchange or SA.
#[derive(Debug)]
pub enum Event {
    /// Both peers have proved who they are.
    Established {
        /// The new SA.
        association: AssociationId,
        /// The gateway it belongs to.
        gateway: String,
    },
    /// An exchange ended without an SA.
    Failed {
        /// The exchange, as returned by `connect` where it was ours.
        association: AssociationId,
        /// The gateway, where it was known already.
        gateway: Option<String>,
        /// Between whom.
        path: Path,
        /// Why.
        failure: Failure,
    },
    /// An established SA is gone.
    Closed {
        /// The SA.
        association: AssociationId,
        /// The gateway it belonged to.
        gateway: String,
        /// Why.
        reason: CloseReason,
    },
    /// An authenticated notification that phase 1 itself has no use for.
    Notified {
        /// The SA that protected it.
        association: AssociationId,
        /// Its content.
        notification: Notification<'static>,
    },
    /// Somebody at the peer's address says in clear that it does not know an SA (INVALID-COOKIE). Anybody can say that, so
    /// nothing was done: it is a reason to look sooner, never to believe it.
    PerhapsForgotten {
        /// The SA.
        association: AssociationId,
    },
    /// The peer says that it deleted SAs other than the phase 1 SA.
    Deleted {
        /// The SA that protected it.
        association: AssociationId,
        /// What it deleted.
        deletion: Delete<'static>,
    },
}

/// Why an exchange ended without an SA.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The peer did not answer at all.
    #[error("no answer from the peer")]
    NoAnswer,
    /// The peer fell silent in the middle of the exchange.
    #[error("the peer fell silent during the exchange")]
    TimedOut,
    /// The peer told us why it refuses; nothing proves that it was really the peer.
    #[error("the peer refuses: {0}{hint}", hint = likely_cause(*.0))]
    Refused(NotifyType),
    /// The hash of the peer does not verify, or its message does not decrypt.
    #[error("authentication failed: the pre-shared keys differ")]
    PreSharedKeysDiffer,
    /// The peer proved an identity that is not the one configured for it.
    #[error("the peer identifies itself as {claimed}, expected is {expected}")]
    WrongIdentity {
        /// The identity it proved.
        claimed: Identity<'static>,
        /// The identity the configuration asks for.
        expected: Identity<'static>,
    },
    /// The peer chose what we did not offer.
    #[error("the peer chose a proposal that was not offered")]
    ProposalNotOffered,
    /// The exchange would need our address as identity and the shell did not tell it.
    #[error("the local address is not known")]
    LocalAddressUnknown,
    /// Too many unfinished exchanges; this was the oldest.
    #[error("evicted by newer unfinished exchanges")]
    Evicted,
    /// The gateway is no longer configured as it was.
    #[error("the configuration of the gateway changed")]
    Reconfigured,
    /// The upper layer gave it up.
    #[error("given up on request")]
    Abandoned,
    /// The keys that came out of the exchange must not be used (RFC 2409 appendix A), or the arithmetic failed.
    #[error("no usable keys came out of the exchange")]
    UnusableKeys,
}

/// What a refusal most often means to the operator; empty where its name says enough.
fn likely_cause(notify: NotifyType) -> &'static str {
    match notify {
        // Under another key our message 5 decrypts to noise, and that is all the peer can say about it.
        NotifyType::PAYLOAD_MALFORMED | NotifyType::INVALID_HASH_INFORMATION => {
            "; most likely the pre-shared keys differ"
        }
        _ => "",
    }
}

/// Why an established SA ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// Its time, or the amount of data it may protect, is over.
    #[error("lifetime expired")]
    LifetimeExpired,
    /// The peer deleted it.
    #[error("deleted by the peer")]
    DeletedByPeer,
    /// We deleted it.
    #[error("deleted on request")]
    Deleted,
    /// The peer does not answer dead peer detection.
    #[error("the peer is dead")]
    PeerDead,
    /// The peer started afresh (INITIAL-CONTACT), or has more SAs than one peer needs.
    #[error("replaced by a newer one")]
    Superseded,
    /// Our address under it is not ours any more.
    #[error("our address is gone")]
    AddressGone,
    /// The gateway is no longer configured as it was.
    #[error("the configuration of the gateway changed")]
    Reconfigured,
    /// The peer started more exchanges than one SA may carry.
    #[error("too many exchanges")]
    Exhausted,
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
    /// The SA has carried as many exchanges as it may; a new one is needed.
    #[error("the phase 1 SA has carried too many exchanges")]
    Exhausted,
}
