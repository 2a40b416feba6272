//! Notification payload (RFC 2408 section 3.14).
//!
//! ```text
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !              Domain of Interpretation  (DOI)                  !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !  Protocol-ID  !   SPI Size    !      Notify Message Type      !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     ~                Security Parameter Index (SPI)                 ~
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     ~                       Notification Data                       ~
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::borrow::Cow;

use crate::codec::{Reader, Result, Writer};
use crate::registry::{Doi, NotifyType, PayloadType, ProtocolId};

use super::PayloadBody;

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification<'a> {
    /// Domain of interpretation.
    pub doi: Doi,
    /// Protocol that the notification is about.
    pub protocol: ProtocolId,
    /// SPI that the notification is about; both cookies for ISAKMP.
    pub spi: Cow<'a, [u8]>,
    /// What is notified.
    pub kind: NotifyType,
    /// Data, depending on the kind.
    pub data: Cow<'a, [u8]>,
}

impl<'a> PayloadBody<'a> for Notification<'a> {
    const KIND: PayloadType = PayloadType::NOTIFICATION;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let doi = Doi(reader.u32("Domain of Interpretation")?);
        let protocol = ProtocolId(reader.u8("Protocol-ID")?);
        let spi_size = reader.u8("SPI Size")?;
        let kind = NotifyType(reader.u16("Notify Message Type")?);
        let spi = reader.take(spi_size.into(), "SPI")?.into();
        Ok(Self { doi, protocol, spi, kind, data: reader.take_rest().into() })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.doi.0);
        writer.u8(self.protocol.0);
        match u8::try_from(self.spi.len()) {
            Ok(size) => writer.u8(size),
            Err(_) => writer.fail("SPI Size"),
        }
        writer.u16(self.kind.0);
        writer.bytes(&self.spi);
        writer.bytes(&self.data);
    }
}
