//! ESP (RFC 4303): the header in clear. What follows is the business of the cipher.

use zerocopy::byteorder::network_endian::U32;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{Error, Result, Violation};

/// An ESP header.
///
/// ```text
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |               Security Parameters Index (SPI)                 |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |                      Sequence Number                          |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct EspHeader {
    /// Security Parameters Index.
    pub spi: U32,
    /// Sequence number.
    pub sequence: U32,
}

const _: () = assert!(size_of::<EspHeader>() == EspHeader::LENGTH);

impl EspHeader {
    /// Octets of the header.
    pub const LENGTH: usize = 8;

    /// A header.
    pub fn new(spi: u32, sequence: u32) -> Self {
        Self { spi: spi.into(), sequence: sequence.into() }
    }

    /// Splits the payload of an IP packet into header and what it protects.
    pub fn split(octets: &[u8]) -> Result<(&Self, &[u8])> {
        Self::ref_from_prefix(octets).map_err(|_| Error {
            violation: Violation::Truncated,
            field: "ESP header",
            offset: octets.len(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn the_header_of_rfc_3602_case_5() {
        let octets = hex!("00004321 00000001 e96e8c08");
        let (header, rest) = EspHeader::split(&octets).unwrap();
        assert_eq!((*header, rest), (EspHeader::new(0x4321, 1), &hex!("e96e8c08")[..]));
        for length in 0..8 {
            assert!(EspHeader::split(&octets[..length]).is_err());
        }
    }
}
