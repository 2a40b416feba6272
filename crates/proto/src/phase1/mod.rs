//! Phase 1: an authenticated, encrypted channel between two peers (RFC 2408, RFC 2409). It knows nothing of GDOI.
//!
//! ```text
//!   Main mode                                 Aggressive mode
//!   HDR, SA               -->                 HDR, SA, KE, Ni, IDii  -->
//!                         <--  HDR, SA                               <--  HDR, SA, KE, Nr, IDir, HASH_R
//!   HDR, KE, Ni           -->                 HDR*, HASH_I           -->
//!                         <--  HDR, KE, Nr
//!   HDR*, IDii, HASH_I    -->
//!                         <--  HDR*, IDir, HASH_R
//!
//!   Informational, both directions:           HDR*, HASH(1), N/D     -->
//! ```
//!
//! Implemented: both modes and both sides with pre-shared keys; vendor ids; INITIAL-CONTACT; notifications and
//! deletions; dead peer detection (RFC 3706); the encryption of phase 2 exchanges, whose HASH payloads the layer above
//! makes and verifies. An [`Endpoint`] owns all exchanges and SAs of one role.
//!
//! Not implemented: signatures and public key encryption, New Group Mode, configuration mode, NAT traversal (its vendor
//! ids are not sent), the commit bit (ignored), negotiated prfs. Quick Mode is passed to the layer above, because its
//! exchange type is that of GROUPKEY-PULL.
//!
//! What the RFCs leave open:
//! - Who repeats: the initiator of main mode; in aggressive mode the responder too, since its last message has no
//!   answer. Everybody else repeats an answer when the question is repeated, the same octets, a bounded number of times.
//! - Whom to believe: a message that does not fit changes nothing, and neither does a notification in clear. Both are
//!   remembered as the reason, should the exchange get no further until the next repetition is due.
//! - An SA is not renewed: it ends at the shorter lifetime of both, or when its kilobytes are spent, and the peer is
//!   told. An offered lifetime is echoed even if ours is shorter.
//! - Message ids are never used twice under one SA, those of our own informational exchanges included.
//! - A peer's DOI (GDOI or IPsec) is answered in kind. We offer GDOI and fall back to IPsec when the peer says
//!   DOI-NOT-SUPPORTED or SITUATION-NOT-SUPPORTED.
//! - The non-ESP marker is mirrored.

mod aggressive_mode;
mod association;
mod authentication;
mod directory;
mod endpoint;
mod established;
mod event;
mod exchange;
mod frame;
mod half_open;
mod keys;
#[cfg(test)]
mod known_answers;
mod liveness;
mod main_mode;
mod message_ids;
mod negotiation;
mod pending;
mod phase2;
mod proof;
mod refusal;
mod settings;
mod unfinished;
mod vendor;

pub use association::{Association, Side, Suite};
pub use endpoint::{ConnectError, Endpoint};
pub use event::{AssociationId, CloseReason, Event, Failure, Outcome, Phase2Error, Phase2Message};
pub use half_open::{MAXIMUM_FIRST_MESSAGE, MAXIMUM_HALF_OPEN, MAXIMUM_HALF_OPEN_PER_SOURCE};
pub use settings::{DeadPeerDetection, DoiChoice, Gateway, Mode, Peer, Proposal, Retransmission, Settings};
pub(crate) use vendor::push_vendor_ids;
pub use vendor::{
    OWN_VENDOR_IDS, PeerVendorIds, VENDOR_ID_D3P, VENDOR_ID_DEAD_PEER_DETECTION, VENDOR_ID_GROUPVPN,
};
