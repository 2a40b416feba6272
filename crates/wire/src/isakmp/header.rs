//! The ISAKMP header (RFC 2408 section 3.1).
//!
//! ```text
//!                          1                   2                   3
//!      0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !                          Initiator                            !
//!     !                            Cookie                             !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !                          Responder                            !
//!     !                            Cookie                             !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !  Next Payload ! MjVer ! MnVer ! Exchange Type !     Flags     !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !                          Message ID                           !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !                            Length                             !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::fmt;

use crate::codec::{Error, Reader, Result, Violation, Writer};
use crate::registry::{ExchangeType, PayloadType};

/// An initiator or responder cookie.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Cookie(pub [u8; 8]);

impl Cookie {
    /// The cookie of a responder that has not answered yet.
    pub const ZERO: Self = Self([0; 8]);

    /// Whether all octets are zero.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }
}

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cookie({self})")
    }
}

/// Message ID: zero in phase 1, random and unique under one phase 1 SA after it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MessageId(pub u32);

impl MessageId {
    /// The message ID of phase 1.
    pub const PHASE_ONE: Self = Self(0);
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MessageId({self})")
    }
}

/// Major version in the upper four bits, minor version in the lower four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u8);

impl Version {
    /// ISAKMP version 1.0.
    pub const V1_0: Self = Self(0x10);

    /// Major version.
    pub fn major(self) -> u8 {
        self.0 >> 4
    }

    /// Minor version.
    pub fn minor(self) -> u8 {
        self.0 & 0x0f
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// Flags of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0x00);
    /// Everything after the header is encrypted.
    pub const ENCRYPTED: Self = Self(0x01);
    /// The sender waits for a CONNECTED notification.
    pub const COMMIT: Self = Self(0x02);
    /// Authenticated but not encrypted notification.
    pub const AUTHENTICATION_ONLY: Self = Self(0x04);

    /// Whether every flag of `other` is set.
    pub fn contains(self, other: Flags) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Display for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02x}", self.0)?;
        for (flag, name) in [
            (Self::ENCRYPTED, "encrypted"),
            (Self::COMMIT, "commit"),
            (Self::AUTHENTICATION_ONLY, "authentication only"),
        ] {
            if self.contains(flag) {
                write!(f, " {name}")?;
            }
        }
        Ok(())
    }
}

/// The header without its Length, which [`Header::message`] computes and [`Message::parse`](super::Message::parse)
/// verifies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Cookie of the initiator.
    pub initiator_cookie: Cookie,
    /// Cookie of the responder; zero in the first message.
    pub responder_cookie: Cookie,
    /// Type of the first payload.
    pub next_payload: PayloadType,
    /// Version of ISAKMP.
    pub version: Version,
    /// Exchange type.
    pub exchange: ExchangeType,
    /// Flags.
    pub flags: Flags,
    /// Message ID.
    pub message_id: MessageId,
}

impl Header {
    /// Octets of a header on the wire.
    pub const LENGTH: usize = 28;

    /// Reads a header and its Length (of header and body, in octets), of any version.
    pub fn read(reader: &mut Reader<'_>) -> Result<(Self, u32)> {
        let header = Self {
            initiator_cookie: Cookie(reader.array("Initiator Cookie")?),
            responder_cookie: Cookie(reader.array("Responder Cookie")?),
            next_payload: PayloadType(reader.u8("Next Payload")?),
            version: Version(reader.u8("Version")?),
            exchange: ExchangeType(reader.u8("Exchange Type")?),
            flags: Flags(reader.u8("Flags")?),
            message_id: MessageId(reader.u32("Message ID")?),
        };
        Ok((header, reader.u32("Length")?))
    }

    /// The octets of this header with a Length of `Header::LENGTH + body_length`.
    ///
    /// Signatures of GROUPKEY-PUSH cover them before the body exists.
    pub fn octets(&self, body_length: usize) -> Result<Vec<u8>> {
        let mut writer = Writer::new();
        writer.bytes(&self.initiator_cookie.0);
        writer.bytes(&self.responder_cookie.0);
        writer.u8(self.next_payload.0);
        writer.u8(self.version.0);
        writer.u8(self.exchange.0);
        writer.u8(self.flags.0);
        writer.u32(self.message_id.0);
        let length = u32::try_from(Self::LENGTH + body_length).map_err(|_| Error {
            violation: Violation::TooLong,
            field: "Length",
            offset: 24,
        })?;
        writer.u32(length);
        writer.finish()
    }

    /// The message: this header and a body, which is a payload chain or its encryption.
    pub fn message(&self, body: &[u8]) -> Result<Vec<u8>> {
        let mut message = self.octets(body.len())?;
        message.extend_from_slice(body);
        Ok(message)
    }
}
