//! Messages of phase 1 as they are written and read: header, payloads, encryption.

use wire::isakmp::{Cookie, Flags, Header, Message, MessageId, PayloadChain, Payloads, Version};
use wire::registry::{ExchangeType, NotifyType, PayloadType};

use super::keys::{Iv, Protection};
use super::refusal::Refusal;

/// The cookies of both peers, which name an exchange and its SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cookies {
    pub(super) initiator: Cookie,
    pub(super) responder: Cookie,
}

impl Cookies {
    pub(super) fn of(header: &Header) -> Self {
        Self { initiator: header.initiator_cookie, responder: header.responder_cookie }
    }

    /// CKY-I | CKY-R: the SPI of an ISAKMP SA.
    pub(super) fn spi(self) -> [u8; 16] {
        let mut spi = [0; 16];
        spi[..8].copy_from_slice(&self.initiator.0);
        spi[8..].copy_from_slice(&self.responder.0);
        spi
    }

    /// The cookies in an SPI of 16 octets.
    pub(super) fn from_spi(spi: &[u8]) -> Option<Self> {
        let (initiator, rest) = spi.split_first_chunk()?;
        let responder = rest.try_into().ok()?;
        Some(Self { initiator: Cookie(*initiator), responder: Cookie(responder) })
    }

    fn header(
        self,
        exchange: ExchangeType,
        first: PayloadType,
        flags: Flags,
        message_id: MessageId,
    ) -> Header {
        Header {
            initiator_cookie: self.initiator,
            responder_cookie: self.responder,
            next_payload: first,
            version: Version::V1_0,
            exchange,
            flags,
            message_id,
        }
    }

    /// A message in clear.
    pub(super) fn clear(
        self,
        exchange: ExchangeType,
        message_id: MessageId,
        payloads: &PayloadChain,
    ) -> wire::Result<Vec<u8>> {
        self.header(exchange, payloads.first(), Flags::NONE, message_id).message(payloads.bytes())
    }

    /// An encrypted message, and the IV of the next one.
    pub(super) fn sealed(
        self,
        exchange: ExchangeType,
        message_id: MessageId,
        (first, payloads): (PayloadType, &[u8]),
        protection: &Protection,
        iv: &Iv,
    ) -> wire::Result<(Vec<u8>, Iv)> {
        let (body, next) = protection.seal(iv, payloads);
        let header = self.header(exchange, first, Flags::ENCRYPTED, message_id);
        Ok((header.message(&body)?, next))
    }
}

/// Whether a message has no flags but encryption and commit, which may come with any message and is not heeded.
///
/// "Authentication only" is for informational messages in clear, which we do not take at all.
//= https://www.rfc-editor.org/rfc/rfc2408#section-5.2
//# Check the Flags field to ensure it contains correct values.
pub(super) fn has_correct_flags(header: &Header) -> bool {
    Flags::ENCRYPTED.with(Flags::COMMIT).contains(header.flags)
}

/// The payloads of a phase 1 message that must be in clear.
pub(super) fn clear_payloads<'a>(message: &Message<'a>) -> Result<Payloads<'a>, Refusal> {
    if message.is_encrypted() {
        return Err(Refusal::new(NotifyType::INVALID_FLAGS, "encrypted before there are keys"));
    }
    let payloads = message.payloads().map_err(Refusal::malformed)?;
    known_payloads(&payloads)?;
    Ok(payloads)
}

/// Refuses messages with payload types that nobody has defined. Private types pass: what they mean is up to vendors.
//= https://www.rfc-editor.org/rfc/rfc2408#section-5.3
//# Check the Next Payload field to confirm it is valid.  If the Next
//# Payload field validation fails, the message is discarded and the
//# following actions are taken:
pub(super) fn known_payloads(payloads: &Payloads<'_>) -> Result<(), Refusal> {
    match payloads.kinds().find(|kind| kind.name().is_none() && kind.0 < 128) {
        Some(_) => Err(Refusal::new(NotifyType::INVALID_PAYLOAD_TYPE, "undefined payload type")),
        None => Ok(()),
    }
}
