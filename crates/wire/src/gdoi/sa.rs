//! Security Association payload of GDOI (RFC 6407 section 5.2), with the SA attribute payloads that follow in it.
//!
//! ```text
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!      !                              DOI                              !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      !                           Situation                           !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//!      ! SA Attribute Next Payload     !          RESERVED2            !
//!      +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-!
//! ```

use crate::codec::{Reader, Result, Violation, Writer};
use crate::isakmp::{Payload, PayloadBody, PayloadChain};
use crate::registry::{Doi, PayloadType};

use super::{GroupAssociatedPolicy, SaKek, SaTek};

/// SA TEK payloads in one SA payload. The smallest useful one has 34 octets and a UDP datagram carries less than 65536,
/// so no honest server reaches this.
const MAXIMUM_SA_TEKS: usize = 2048;

/// Security Association payload of GDOI. Its DOI is GDOI and its situation zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupSecurityAssociation<'a> {
    /// Policy of the Rekey SA.
    pub kek: Option<SaKek<'a>>,
    /// Policy of the group as a whole.
    pub policy: Option<GroupAssociatedPolicy<'a>>,
    /// Policies of the Data-Security SAs, in the server's order.
    pub teks: Vec<SaTek<'a>>,
}

impl GroupSecurityAssociation<'_> {
    /// The same payload, owning its octets.
    pub fn into_owned(self) -> GroupSecurityAssociation<'static> {
        GroupSecurityAssociation {
            kek: self.kek.map(SaKek::into_owned),
            policy: self.policy.map(GroupAssociatedPolicy::into_owned),
            teks: self.teks.into_iter().map(SaTek::into_owned).collect(),
        }
    }

    fn attribute_payloads(&self) -> Result<PayloadChain> {
        let mut chain = PayloadChain::new();
        if let Some(kek) = &self.kek {
            chain.push(kek)?;
        }
        if let Some(policy) = &self.policy {
            chain.push(policy)?;
        }
        for tek in &self.teks {
            chain.push(tek)?;
        }
        Ok(chain)
    }
}

impl<'a> PayloadBody<'a> for GroupSecurityAssociation<'a> {
    const KIND: PayloadType = PayloadType::SECURITY_ASSOCIATION;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let start = reader.clone();
        if reader.u32("DOI")? != Doi::GDOI.0 {
            return Err(start.error(Violation::BadValue, "DOI"));
        }
        let start = reader.clone();
        //= https://www.rfc-editor.org/rfc/rfc6407#section-5.2
        //# o  Situation (4 octets) -- MUST be zero.
        if reader.u32("Situation")? != 0 {
            return Err(start.error(Violation::BadValue, "Situation"));
        }
        let start = reader.clone();
        let first = reader.u16("SA Attribute Next Payload")?;
        let Ok(first) = u8::try_from(first) else {
            return Err(start.error(Violation::BadValue, "SA Attribute Next Payload"));
        };
        reader.reserved_u16("RESERVED2")?;
        let mut sa = Self::default();
        let mut next = PayloadType(first);
        while next != PayloadType::NONE {
            let start = reader.clone();
            let (payload, following) = Payload::read(next, reader)?;
            //= https://www.rfc-editor.org/rfc/rfc6407#section-5.2.1
            //# When present, the order of the SA Attribute payloads MUST be: SAK,
            //# GAP, and SATs.
            match next {
                PayloadType::SA_KEK if sa.kek.is_none() && sa.policy.is_none() && sa.teks.is_empty() => {
                    sa.kek = Some(payload.parse()?);
                }
                PayloadType::GROUP_ASSOCIATED_POLICY if sa.policy.is_none() && sa.teks.is_empty() => {
                    sa.policy = Some(payload.parse()?);
                }
                PayloadType::SA_TEK if sa.teks.len() < MAXIMUM_SA_TEKS => sa.teks.push(payload.parse()?),
                PayloadType::SA_TEK => return Err(start.error(Violation::TooMany, "SA TEK")),
                _ => return Err(start.error(Violation::BadOrder, "SA Attribute payload")),
            }
            next = following;
        }
        Ok(sa)
    }

    fn write(&self, writer: &mut Writer) {
        let Ok(chain) = self.attribute_payloads() else {
            return writer.fail("SA Attribute payload");
        };
        writer.u32(Doi::GDOI.0);
        writer.u32(0);
        writer.u16(chain.first().0.into());
        writer.u16(0);
        writer.bytes(chain.bytes());
    }
}
