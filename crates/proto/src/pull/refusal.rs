//! Why a server refuses a registration, and the one place that decides what the member is told.

use wire::isakmp::{Identity, MessageId, Notification};
use wire::registry::{NotifyType, ProtocolId};

use super::{MessageError, NOTIFICATION_DOI};

/// The group has as many members as it may have. No number is assigned for it; this one is of the range that a DOI
/// may use as it likes, and is sent only to members that show our vendor id.
pub const NOTIFY_GROUP_FULL: NotifyType = NotifyType(16001);

/// Why a server refuses a registration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message is not acceptable.
    #[error("{0}")]
    Message(MessageError),
    /// The identity does not name a group in a way we understand.
    #[error("{0} does not name a group")]
    NotAGroup(Identity<'static>),
    /// There is no such group.
    #[error("there is no group {0}")]
    UnknownGroup(Identity<'static>),
    /// The gateway is not on the group's list.
    #[error("the gateway is not listed for the group")]
    NotAuthorized,
    /// The member threshold is reached.
    #[error("the group has reached its member threshold")]
    GroupFull,
    /// The group has no TEK that could be handed out.
    #[error("the group has no TEK to hand out")]
    NoTek,
    /// The group goes by the age of packets, and the member has not shown the D3P vendor id.
    #[error("the member does not know time-based anti-replay, which the group has")]
    NoAntiReplay,
    /// The policy exceeds what a datagram carries.
    #[error("the group's policy does not fit a datagram")]
    TooLarge,
}

impl From<MessageError> for Refusal {
    fn from(error: MessageError) -> Self {
        Refusal::Message(error)
    }
}

impl Refusal {
    /// What the member is told; nothing, where nobody has proved to be a member.
    ///
    /// RFC 6407 names no notification for this exchange, so these are the ones of RFC 2408 section 3.14.1 whose
    /// name says it. A Quick Mode gets the answer that ends it without ending phase 1.
    pub fn notify_type(&self, member_is_ours: bool) -> Option<NotifyType> {
        match self {
            Refusal::Message(error) => match error {
                MessageError::Unreadable(_) | MessageError::Hash => None,
                MessageError::Malformed(_) | MessageError::Missing(_) | MessageError::Nonce(_) => {
                    Some(NotifyType::PAYLOAD_MALFORMED)
                }
                MessageError::Unexpected(_) => Some(NotifyType::INVALID_PAYLOAD_TYPE),
                MessageError::UnknownAttribute(_) => Some(NotifyType::ATTRIBUTES_NOT_SUPPORTED),
                MessageError::QuickMode => Some(NotifyType::NO_PROPOSAL_CHOSEN),
            },
            Refusal::NotAGroup(_) | Refusal::UnknownGroup(_) => Some(NotifyType::INVALID_ID_INFORMATION),
            Refusal::NotAuthorized => Some(NotifyType::AUTHENTICATION_FAILED),
            Refusal::GroupFull if member_is_ours => Some(NOTIFY_GROUP_FULL),
            Refusal::GroupFull => Some(NotifyType::AUTHENTICATION_FAILED),
            Refusal::NoTek | Refusal::NoAntiReplay | Refusal::TooLarge => {
                Some(NotifyType::NO_PROPOSAL_CHOSEN)
            }
        }
    }
}

/// A notification about one exchange. Its data is the exchange's message id, so that a member with several
/// registrations under one phase 1 SA knows which one is meant.
pub fn notification(kind: NotifyType, exchange: MessageId) -> Notification<'static> {
    Notification {
        doi: NOTIFICATION_DOI,
        protocol: ProtocolId::ISAKMP,
        spi: Vec::new().into(),
        kind,
        data: exchange.0.to_be_bytes().to_vec().into(),
    }
}

/// The exchange that a notification of this form is about.
pub fn refused_exchange(notification: &Notification<'_>) -> Option<MessageId> {
    let octets: [u8; 4] = (*notification.data).try_into().ok()?;
    Some(MessageId(u32::from_be_bytes(octets)))
}
