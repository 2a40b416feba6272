//! Group Associated Policy payload (RFC 6407 section 5.4).
//!
//! ```text
//!        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!        !               Group Associated Policy Attributes              ~
//!        +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//! ```

use crate::attribute::Attributes;
use crate::codec::{Reader, Result, Writer};
use crate::isakmp::PayloadBody;
use crate::registry::PayloadType;

/// Group associated policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupAssociatedPolicy<'a> {
    /// Attributes, of the classes of [`GapAttribute`](crate::registry::GapAttribute).
    pub attributes: Attributes<'a>,
}

impl GroupAssociatedPolicy<'_> {
    /// The same payload, owning its octets.
    pub fn into_owned(self) -> GroupAssociatedPolicy<'static> {
        GroupAssociatedPolicy { attributes: self.attributes.into_owned() }
    }
}

impl<'a> PayloadBody<'a> for GroupAssociatedPolicy<'a> {
    const KIND: PayloadType = PayloadType::GROUP_ASSOCIATED_POLICY;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        Ok(Self { attributes: Attributes::read(reader)? })
    }

    fn write(&self, writer: &mut Writer) {
        self.attributes.write(writer);
    }
}
