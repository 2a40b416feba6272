//! SA TEK payload (RFC 6407 section 5.5, RFC 8052 section 2.2).

use std::borrow::Cow;

use crate::attribute::Attributes;
use crate::codec::{LengthWidth, Reader, Result, Violation, Writer};
use crate::isakmp::{IdentityError, PayloadBody};
use crate::registry::{IecAuthentication, IecConfidentiality, PayloadType, TekProtocol};
use crate::selector::Selector;

use super::{Endpoint, read_either_width};

/// SA TEK payload: the policy of one TEK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaTek<'a> {
    /// GDOI_PROTO_IPSEC_ESP.
    Esp(IpsecTek<'a>),
    /// GDOI_PROTO_IPSEC_AH.
    Ah(IpsecTek<'a>),
    /// GDOI_PROTO_IEC_61850.
    Iec61850(Iec61850Tek<'a>),
    /// A protocol that we do not know.
    Other {
        /// Its number.
        protocol: TekProtocol,
        /// The protocol-specific payload.
        body: Cow<'a, [u8]>,
    },
}

/// Protocol-specific payload of ESP and AH.
///
/// ```text
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
///      !    Protocol   !  SRC ID Type  !         SRC ID Port           !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
///      !SRC ID Data Len!          SRC Identification Data              ~
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
///      ! DST ID Type   !         DST ID Port           !DST ID Data Len!
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
///      ! DST Identification Data                                       ~
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
///      ! Transform ID  !                        SPI                    !
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
///      !      SPI      !       RFC 2407 SA Attributes                  ~
///      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpsecTek<'a> {
    /// IP protocol of the traffic; 0 for any.
    pub protocol: u8,
    /// Source of the traffic.
    pub source: Endpoint<'a>,
    /// Destination of the traffic.
    pub destination: Endpoint<'a>,
    /// Transform: an [`EspTransform`](crate::registry::EspTransform) or
    /// [`AhTransform`](crate::registry::AhTransform).
    pub transform: u8,
    /// SPI.
    pub spi: u32,
    /// Attributes, of the classes of [`IpsecAttribute`](crate::registry::IpsecAttribute).
    pub attributes: Attributes<'a>,
    /// Width of the two identification lengths: one octet unless the peer's products write two.
    pub id_length: LengthWidth,
}

/// Protocol-specific payload of IEC 61850 (RFC 8052 section 2.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iec61850Tek<'a> {
    /// Object identifier of the traffic, in DER.
    pub oid: Cow<'a, [u8]>,
    /// What the object identifier needs besides, in DER.
    pub oid_payload: Cow<'a, [u8]>,
    /// SPI.
    pub spi: u32,
    /// Authentication algorithm.
    pub authentication: IecAuthentication,
    /// Confidentiality algorithm.
    pub confidentiality: IecConfidentiality,
    /// Remaining lifetime in seconds.
    pub remaining_lifetime_secs: u32,
    /// Attributes, of the classes of [`IecAttribute`](crate::registry::IecAttribute).
    pub attributes: Attributes<'a>,
}

impl<'a> SaTek<'a> {
    /// Its protocol.
    pub fn protocol(&self) -> TekProtocol {
        match self {
            SaTek::Esp(_) => TekProtocol::IPSEC_ESP,
            SaTek::Ah(_) => TekProtocol::IPSEC_AH,
            SaTek::Iec61850(_) => TekProtocol::IEC_61850,
            SaTek::Other { protocol, .. } => *protocol,
        }
    }

    /// The same payload, owning its octets.
    pub fn into_owned(self) -> SaTek<'static> {
        match self {
            SaTek::Esp(tek) => SaTek::Esp(tek.into_owned()),
            SaTek::Ah(tek) => SaTek::Ah(tek.into_owned()),
            SaTek::Iec61850(tek) => SaTek::Iec61850(tek.into_owned()),
            SaTek::Other { protocol, body } => SaTek::Other { protocol, body: Cow::Owned(body.into_owned()) },
        }
    }
}

impl<'a> PayloadBody<'a> for SaTek<'a> {
    const KIND: PayloadType = PayloadType::SA_TEK;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let protocol = TekProtocol(reader.u8("Protocol-ID")?);
        Ok(match protocol {
            TekProtocol::IPSEC_ESP => SaTek::Esp(read_either_width(reader, IpsecTek::read_with)?),
            TekProtocol::IPSEC_AH => SaTek::Ah(read_either_width(reader, IpsecTek::read_with)?),
            TekProtocol::IEC_61850 => SaTek::Iec61850(Iec61850Tek::read(reader)?),
            protocol => SaTek::Other { protocol, body: reader.take_rest().into() },
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.protocol().0);
        match self {
            SaTek::Esp(tek) | SaTek::Ah(tek) => tek.write(writer),
            SaTek::Iec61850(tek) => tek.write(writer),
            SaTek::Other { body, .. } => writer.bytes(body),
        }
    }
}

impl<'a> IpsecTek<'a> {
    /// The traffic as a selector, if both identities are prefixes.
    pub fn selector(&self) -> std::result::Result<Selector, IdentityError> {
        Ok(Selector {
            source: self.source.identity.prefix()?,
            destination: self.destination.identity.prefix()?,
            source_port: self.source.port,
            destination_port: self.destination.port,
            protocol: self.protocol,
        })
    }

    fn read_with(reader: &mut Reader<'a>, id_length: LengthWidth) -> Result<Self> {
        Ok(Self {
            protocol: reader.u8("Protocol")?,
            source: Endpoint::read(reader, id_length)?,
            destination: Endpoint::read(reader, id_length)?,
            transform: reader.u8("Transform ID")?,
            spi: reader.u32("SPI")?,
            attributes: Attributes::read(reader)?,
            id_length,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.protocol);
        self.source.write(writer, self.id_length);
        self.destination.write(writer, self.id_length);
        writer.u8(self.transform);
        writer.u32(self.spi);
        self.attributes.write(writer);
    }

    fn into_owned(self) -> IpsecTek<'static> {
        IpsecTek {
            protocol: self.protocol,
            source: self.source.into_owned(),
            destination: self.destination.into_owned(),
            transform: self.transform,
            spi: self.spi,
            attributes: self.attributes.into_owned(),
            id_length: self.id_length,
        }
    }
}

impl<'a> Iec61850Tek<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let oid_length = reader.u8("OID Length")?;
        if oid_length == 0 {
            return Err(reader.error(Violation::BadLength, "OID Length"));
        }
        let oid = reader.take(oid_length.into(), "OID")?.into();
        let payload_length = reader.u16("OID-Specific Payload Length")?;
        Ok(Self {
            oid,
            oid_payload: reader.take(payload_length.into(), "OID-Specific Payload")?.into(),
            spi: reader.u32("SPI")?,
            authentication: IecAuthentication(reader.u16("Auth Alg")?),
            confidentiality: IecConfidentiality(reader.u16("Enc Alg")?),
            remaining_lifetime_secs: reader.u32("Remaining Lifetime Value")?,
            attributes: Attributes::read(reader)?,
        })
    }

    fn write(&self, writer: &mut Writer) {
        writer.prefixed(LengthWidth::One, &self.oid, "OID Length");
        writer.prefixed(LengthWidth::Two, &self.oid_payload, "OID-Specific Payload Length");
        writer.u32(self.spi);
        writer.u16(self.authentication.0);
        writer.u16(self.confidentiality.0);
        writer.u32(self.remaining_lifetime_secs);
        self.attributes.write(writer);
    }

    fn into_owned(self) -> Iec61850Tek<'static> {
        Iec61850Tek {
            oid: Cow::Owned(self.oid.into_owned()),
            oid_payload: Cow::Owned(self.oid_payload.into_owned()),
            attributes: self.attributes.into_owned(),
            spi: self.spi,
            authentication: self.authentication,
            confidentiality: self.confidentiality,
            remaining_lifetime_secs: self.remaining_lifetime_secs,
        }
    }
}
