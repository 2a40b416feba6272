//! SA KEK payload (RFC 6407 section 5.3).
//!
//! ```text
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      !    Protocol   !  SRC ID Type  !         SRC ID Port           !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      !SRC ID Data Len!          SRC Identification Data              ~
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      ! DST ID Type   !         DST ID Port           !DST ID Data Len!
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      !                    DST Identification Data                    ~
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      !                                                               !
//!      ~                              SPI                              ~
//!      !                                                               !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      !                           RESERVED2                           !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      ~                        KEK Attributes                         ~
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//! ```
//!
//! The field list of the RFC also has a "DST ID Prot", which the drawing has not: we follow the drawing.

use crate::attribute::Attributes;
use crate::codec::{LengthWidth, Reader, Result, Writer};
use crate::isakmp::{Cookie, PayloadBody};
use crate::registry::PayloadType;

use super::{Endpoint, read_either_width};

/// SA KEK payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SaKek<'a> {
    /// IP protocol of the GROUPKEY-PUSH datagram.
    pub protocol: u8,
    /// Source of the GROUPKEY-PUSH datagram.
    pub source: Endpoint<'a>,
    /// Destination of the GROUPKEY-PUSH datagram.
    pub destination: Endpoint<'a>,
    /// SPI: initiator and responder cookie of GROUPKEY-PUSH messages.
    pub spi: (Cookie, Cookie),
    /// Attributes, of the classes of [`KekAttribute`](crate::registry::KekAttribute).
    pub attributes: Attributes<'a>,
    /// Width of the two identification lengths: one octet unless the peer's products write two.
    pub id_length: LengthWidth,
}

impl<'a> SaKek<'a> {
    /// The same payload, owning its octets.
    pub fn into_owned(self) -> SaKek<'static> {
        SaKek {
            protocol: self.protocol,
            source: self.source.into_owned(),
            destination: self.destination.into_owned(),
            spi: self.spi,
            attributes: self.attributes.into_owned(),
            id_length: self.id_length,
        }
    }

    fn read_with(reader: &mut Reader<'a>, id_length: LengthWidth) -> Result<Self> {
        let protocol = reader.u8("Protocol")?;
        let source = Endpoint::read(reader, id_length)?;
        let destination = Endpoint::read(reader, id_length)?;
        let spi = (Cookie(reader.array("SPI")?), Cookie(reader.array("SPI")?));
        reader.reserved_u32("RESERVED2")?;
        let attributes = Attributes::read(reader)?;
        Ok(Self { protocol, source, destination, spi, attributes, id_length })
    }
}

impl<'a> PayloadBody<'a> for SaKek<'a> {
    const KIND: PayloadType = PayloadType::SA_KEK;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        read_either_width(reader, Self::read_with)
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.protocol);
        self.source.write(writer, self.id_length);
        self.destination.write(writer, self.id_length);
        writer.bytes(&self.spi.0.0);
        writer.bytes(&self.spi.1.0);
        writer.u32(0);
        self.attributes.write(writer);
    }
}
