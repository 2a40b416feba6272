//! Sequence Number payload (RFC 6407 section 5.7).

use crate::codec::{Reader, Result, Writer};
use crate::isakmp::PayloadBody;
use crate::registry::PayloadType;

/// Sequence number of a Rekey SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceNumber(pub u32);

impl<'a> PayloadBody<'a> for SequenceNumber {
    const KIND: PayloadType = PayloadType::SEQUENCE_NUMBER;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        Ok(Self(reader.u32("Sequence Number")?))
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.0);
    }
}
