//! The SA payload of phase 1, with its proposals and transforms (RFC 2408 sections 3.4 to 3.6).

use std::borrow::Cow;

use crate::attribute::Attributes;
use crate::codec::{Reader, Result, Violation, Writer};
use crate::registry::{Doi, PayloadType, ProtocolId, TransformId};

use super::payload::write_payload;
use super::{Payload, PayloadBody};

/// Proposals in one SA: phase 1 allows one, and some initiators send one for each suite.
const MAXIMUM_PROPOSALS: usize = 32;

/// Transforms in one proposal: their number has one octet.
const MAXIMUM_TRANSFORMS: usize = 255;

/// SA payload of phase 1.
///
/// ```text
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///     !              Domain of Interpretation  (DOI)                  !
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///     !                           Situation                           ~
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityAssociation<'a> {
    /// Domain of interpretation.
    pub doi: Doi,
    /// Situation: 0 in GDOI, [`Self::SIT_IDENTITY_ONLY`] in the IPsec DOI.
    pub situation: u32,
    /// Proposals in order of preference.
    pub proposals: Vec<Proposal<'a>>,
}

/// A proposal.
///
/// ```text
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///     ! Next Payload  !   RESERVED    !         Payload Length        !
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///     !  Proposal #   !  Protocol-Id  !    SPI Size   !# of Transforms!
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///     !                        SPI (variable)                         !
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal<'a> {
    /// Number of the proposal.
    pub number: u8,
    /// Protocol.
    pub protocol: ProtocolId,
    /// SPI; empty or ignored in phase 1.
    pub spi: Cow<'a, [u8]>,
    /// Transforms in order of preference.
    pub transforms: Vec<Transform<'a>>,
}

/// A transform.
///
/// ```text
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///     ! Next Payload  !   RESERVED    !         Payload Length        !
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///     !  Transform #  !  Transform-Id !           RESERVED2           !
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///     ~                        SA Attributes                          ~
///     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transform<'a> {
    /// Number of the transform.
    pub number: u8,
    /// Transform identifier.
    pub id: TransformId,
    /// Attributes, of the classes of [`PhaseOneAttribute`](crate::registry::PhaseOneAttribute).
    pub attributes: Attributes<'a>,
}

impl SecurityAssociation<'_> {
    /// The situation that phase 1 of the IPsec DOI has.
    pub const SIT_IDENTITY_ONLY: u32 = 0x01;

    /// The same payload, owning its octets.
    pub fn into_owned(self) -> SecurityAssociation<'static> {
        SecurityAssociation {
            doi: self.doi,
            situation: self.situation,
            proposals: self.proposals.into_iter().map(Proposal::into_owned).collect(),
        }
    }
}

impl<'a> PayloadBody<'a> for SecurityAssociation<'a> {
    const KIND: PayloadType = PayloadType::SECURITY_ASSOCIATION;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let doi = Doi(reader.u32("Domain of Interpretation")?);
        let offset = reader.clone();
        let situation = reader.u32("Situation")?;
        // SIT_SECRECY and SIT_INTEGRITY put labels between the situation and the proposals.
        if situation & !Self::SIT_IDENTITY_ONLY != 0 {
            return Err(offset.error(Violation::BadValue, "Situation"));
        }
        let mut proposals = Vec::new();
        let mut next = PayloadType::PROPOSAL;
        while next != PayloadType::NONE {
            if next != PayloadType::PROPOSAL {
                return Err(reader.error(Violation::BadOrder, "Next Payload"));
            }
            if proposals.len() == MAXIMUM_PROPOSALS {
                return Err(reader.error(Violation::TooMany, "Proposal"));
            }
            let (payload, following) = Payload::read(next, reader)?;
            proposals.push(Proposal::read(&mut payload.reader())?);
            next = following;
        }
        Ok(Self { doi, situation, proposals })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.doi.0);
        writer.u32(self.situation);
        write_list(writer, PayloadType::PROPOSAL, &self.proposals, Proposal::write);
    }
}

impl<'a> Proposal<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let number = reader.u8("Proposal #")?;
        let protocol = ProtocolId(reader.u8("Protocol-Id")?);
        let spi_size = reader.u8("SPI Size")?;
        let count = usize::from(reader.u8("# of Transforms")?);
        let spi = reader.take(spi_size.into(), "SPI")?.into();
        let mut transforms = Vec::new();
        let mut next = if reader.is_empty() { PayloadType::NONE } else { PayloadType::TRANSFORM };
        while next != PayloadType::NONE {
            if next != PayloadType::TRANSFORM {
                return Err(reader.error(Violation::BadOrder, "Next Payload"));
            }
            if transforms.len() == MAXIMUM_TRANSFORMS {
                return Err(reader.error(Violation::TooMany, "Transform"));
            }
            let (payload, following) = Payload::read(next, reader)?;
            transforms.push(Transform::read(&mut payload.reader())?);
            next = following;
        }
        reader.finish("Proposal")?;
        if transforms.len() != count {
            return Err(reader.error(Violation::BadLength, "# of Transforms"));
        }
        Ok(Self { number, protocol, spi, transforms })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.number);
        writer.u8(self.protocol.0);
        match (u8::try_from(self.spi.len()), u8::try_from(self.transforms.len())) {
            (Ok(spi_size), Ok(count)) => {
                writer.u8(spi_size);
                writer.u8(count);
            }
            _ => writer.fail("# of Transforms"),
        }
        writer.bytes(&self.spi);
        write_list(writer, PayloadType::TRANSFORM, &self.transforms, Transform::write);
    }

    fn into_owned(self) -> Proposal<'static> {
        Proposal {
            number: self.number,
            protocol: self.protocol,
            spi: Cow::Owned(self.spi.into_owned()),
            transforms: self.transforms.into_iter().map(Transform::into_owned).collect(),
        }
    }
}

impl<'a> Transform<'a> {
    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let number = reader.u8("Transform #")?;
        let id = TransformId(reader.u8("Transform-Id")?);
        reader.reserved_u16("RESERVED2")?;
        Ok(Self { number, id, attributes: Attributes::read(reader)? })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u8(self.number);
        writer.u8(self.id.0);
        writer.u16(0);
        self.attributes.write(writer);
    }

    fn into_owned(self) -> Transform<'static> {
        Transform { number: self.number, id: self.id, attributes: self.attributes.into_owned() }
    }
}

fn write_list<T>(writer: &mut Writer, kind: PayloadType, list: &[T], write: fn(&T, &mut Writer)) {
    for (index, element) in list.iter().enumerate() {
        let next = if index + 1 < list.len() { kind } else { PayloadType::NONE };
        write_payload(writer, next, |writer| write(element, writer));
    }
}
