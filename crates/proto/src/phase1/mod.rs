//! Phase 1: an authenticated, encrypted channel between two peers (RFC 2408, RFC 2409). It knows nothing of GDOI.

mod association;
mod endpoint;
mod event;
mod settings;
mod vendor;

pub use association::{Association, Side, Suite};
pub use endpoint::{ConnectError, Endpoint, Phase2Error};
pub use event::{AssociationId, CloseReason, Event, Failure, Outcome, Phase2Message};
pub use settings::{DeadPeerDetection, DoiChoice, Gateway, Mode, Peer, Proposal, Retransmission, Settings};
pub use vendor::{VENDOR_ID_D3P, VENDOR_ID_DEAD_PEER_DETECTION, VENDOR_ID_GROUPVPN};
