//! Why a received message is refused, and what the peer is told.

use wire::codec::Violation;
use wire::isakmp::{Notification, PayloadChain};
use wire::registry::{Doi, NotifyType, ProtocolId};

use super::event::Failure;
use super::keys::{Iv, Keys};

/// A received message that an exchange does not take. The exchange itself goes on, because whoever can send a datagram
/// may have sent it; only a refusal of an authenticated message ends the exchange.
#[derive(Debug)]
pub(super) struct Refusal {
    /// What the peer is told.
    pub(super) notify: NotifyType,
    /// What the log is told.
    pub(super) reason: &'static str,
    /// What is wrong with which field.
    pub(super) error: Option<wire::Error>,
    /// Why the exchange will have failed, should nothing better arrive.
    pub(super) failure: Option<Box<Failure>>,
    /// The keys of both peers are the same, and the failure is certain.
    pub(super) authenticated: Option<Box<Authenticated>>,
}

/// What protects the notification of a refusal that both peers can decrypt.
#[derive(Debug)]
pub(super) struct Authenticated {
    pub(super) keys: Keys,
    pub(super) last_block: Iv,
    /// Whether the peer holds the SA for established, so that it must be deleted.
    pub(super) delete: bool,
}

impl Refusal {
    pub(super) fn new(notify: NotifyType, reason: &'static str) -> Self {
        Self { notify, reason, error: None, failure: None, authenticated: None }
    }

    /// The refusal of a message that the codec does not read.
    pub(super) fn malformed(error: wire::Error) -> Self {
        let notify = match error.violation {
            Violation::BadOrder => NotifyType::INVALID_PAYLOAD_TYPE,
            _ => NotifyType::PAYLOAD_MALFORMED,
        };
        Self { error: Some(error), ..Self::new(notify, "malformed message") }
    }

    pub(super) fn because(mut self, failure: Failure) -> Self {
        self.failure = Some(Box::new(failure));
        self
    }

    pub(super) fn authenticated(mut self, authenticated: Authenticated) -> Self {
        self.authenticated = Some(Box::new(authenticated));
        self
    }
}

/// What we could not write ourselves: identities or keys too long for their fields.
impl From<wire::Error> for Refusal {
    fn from(error: wire::Error) -> Self {
        Self::malformed(error)
    }
}

/// The payloads of a notification that is only a type.
pub(super) fn bare_notification(doi: Doi, kind: NotifyType) -> PayloadChain {
    let notification =
        Notification { doi, protocol: ProtocolId::ISAKMP, spi: (&[]).into(), kind, data: (&[]).into() };
    let mut chain = PayloadChain::new();
    chain.push(&notification).expect("twelve octets fit a payload");
    chain
}
