//! Delete payload (RFC 2408 section 3.15, RFC 6407 section 5.9).
//!
//! ```text
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !              Domain of Interpretation  (DOI)                  !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     !  Protocol-Id  !   SPI Size    !           # of SPIs           !
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//!     ~               Security Parameter Index(es) (SPI)              ~
//!     +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
//! ```

use std::borrow::Cow;

use crate::codec::{Reader, Result, Violation, Writer};
use crate::registry::{Doi, PayloadType};

use super::PayloadBody;

/// SPIs of one protocol to be deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete<'a> {
    /// Domain of interpretation.
    pub doi: Doi,
    /// Protocol: a [`ProtocolId`](crate::registry::ProtocolId), or a
    /// [`TekProtocol`](crate::registry::TekProtocol) in GDOI.
    pub protocol: u8,
    /// Octets of one SPI.
    pub spi_size: u8,
    spis: Cow<'a, [u8]>,
    count: u16,
}

impl<'a> Delete<'a> {
    /// A payload without SPIs; [`Delete::with_spi`] adds them.
    pub fn new(doi: Doi, protocol: impl Into<u8>, spi_size: u8) -> Self {
        Self { doi, protocol: protocol.into(), spi_size, spis: Cow::Borrowed(&[]), count: 0 }
    }

    /// The payload with one more SPI, which must have `spi_size` octets.
    ///
    /// # Panics
    /// If it has not, or if there are 65535 already: both are in the caller's hands.
    #[must_use]
    pub fn with_spi(mut self, spi: &[u8]) -> Self {
        assert_eq!(spi.len(), usize::from(self.spi_size), "all SPIs of a Delete payload have its SPI size");
        self.spis.to_mut().extend_from_slice(spi);
        self.count = self.count.checked_add(1).expect("a Delete payload holds at most 65535 SPIs");
        self
    }

    /// The SPIs.
    pub fn spis(&self) -> impl Iterator<Item = &[u8]> {
        self.spis.chunks_exact(usize::from(self.spi_size).max(1))
    }

    /// How many SPIs the payload says it has. With an SPI size of zero there are no octets to them.
    pub fn count(&self) -> u16 {
        self.count
    }

    /// Whether the payload names all SAs of its protocol: no SPI, or one of value zero.
    ///
    //= https://www.rfc-editor.org/rfc/rfc6407#section-5.9
    //# the GCKS can signal deletion of all policy of
    //# a particular TEK protocol by sending a TEK with an SPI value equal to
    //# zero in the delete payload.
    pub fn is_everything(&self) -> bool {
        self.count == 0 || self.spi_size == 0 || self.spis().any(|spi| spi.iter().all(|&octet| octet == 0))
    }

    /// The same payload, owning its octets.
    pub fn into_owned(self) -> Delete<'static> {
        Delete {
            doi: self.doi,
            protocol: self.protocol,
            spi_size: self.spi_size,
            spis: Cow::Owned(self.spis.into_owned()),
            count: self.count,
        }
    }
}

impl<'a> PayloadBody<'a> for Delete<'a> {
    const KIND: PayloadType = PayloadType::DELETE;

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let doi = Doi(reader.u32("Domain of Interpretation")?);
        let protocol = reader.u8("Protocol-Id")?;
        let spi_size = reader.u8("SPI Size")?;
        let count = reader.u16("# of SPIs")?;
        let expected = usize::from(spi_size) * usize::from(count);
        if reader.len() != expected {
            return Err(reader.error(Violation::BadLength, "# of SPIs"));
        }
        Ok(Self { doi, protocol, spi_size, spis: reader.take_rest().into(), count })
    }

    fn write(&self, writer: &mut Writer) {
        writer.u32(self.doi.0);
        writer.u8(self.protocol);
        writer.u8(self.spi_size);
        writer.u16(self.count);
        writer.bytes(&self.spis);
    }
}
