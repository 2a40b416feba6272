//! UDP (RFC 768) and the part of TCP (RFC 9293) that the packet path looks at.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{Error, Result, Violation};

/// A UDP header.
///
/// ```text
///     +--------+--------+--------+--------+
///     |   Source Port   | Destination Port|
///     +--------+--------+--------+--------+
///     |     Length      |    Checksum     |
///     +--------+--------+--------+--------+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port.
    pub source_port: U16,
    /// Destination port.
    pub destination_port: U16,
    /// Octets of header and payload.
    pub length: U16,
    /// Checksum of pseudo header, header and payload; zero if there is none (IPv4 only).
    pub checksum: U16,
}

const _: () = assert!(size_of::<UdpHeader>() == UdpHeader::LENGTH);

impl UdpHeader {
    /// Octets of the header.
    pub const LENGTH: usize = 8;

    /// Splits a datagram into header and payload, which ends where the length says.
    pub fn split(octets: &[u8]) -> Result<(&Self, &[u8])> {
        let error = |violation, field, offset| Err(Error { violation, field, offset });
        let Ok((header, rest)) = Self::ref_from_prefix(octets) else {
            return error(Violation::Truncated, "UDP header", octets.len());
        };
        let Some(length) = usize::from(header.length.get()).checked_sub(Self::LENGTH) else {
            return error(Violation::BadLength, "UDP Length", 4);
        };
        match rest.get(..length) {
            Some(payload) => Ok((header, payload)),
            None => error(Violation::Truncated, "UDP Length", octets.len()),
        }
    }
}

/// The fixed part of a TCP header.
///
/// ```text
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |          Source Port          |       Destination Port        |
///    |                        Sequence Number                        |
///    |                    Acknowledgment Number                      |
///    | Offset|  Rsrvd|     Flags     |             Window            |
///    |           Checksum            |         Urgent Pointer        |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct TcpHeader {
    /// Source port.
    pub source_port: U16,
    /// Destination port.
    pub destination_port: U16,
    /// Sequence number of the first octet.
    pub sequence: U32,
    /// Acknowledgement number.
    pub acknowledgement: U32,
    data_offset: u8,
    /// CWR, ECE, URG, ACK, PSH, RST, SYN, FIN.
    pub flags: u8,
    /// Window.
    pub window: U16,
    /// Checksum of pseudo header, header and payload.
    pub checksum: U16,
    /// Urgent pointer.
    pub urgent: U16,
}

const _: () = assert!(size_of::<TcpHeader>() == TcpHeader::LENGTH);

impl TcpHeader {
    /// Octets of a header without options.
    pub const LENGTH: usize = 20;
    /// FIN, in `flags`.
    pub const FIN: u8 = 0x01;
    /// SYN, in `flags`.
    pub const SYN: u8 = 0x02;
    /// RST, in `flags`.
    pub const RST: u8 = 0x04;
    /// PSH, in `flags`.
    pub const PSH: u8 = 0x08;
    /// CWR, in `flags`.
    pub const CWR: u8 = 0x80;

    /// Splits a segment into fixed header, options and payload.
    pub fn split(octets: &[u8]) -> Result<(&Self, &[u8], &[u8])> {
        let error = |violation, field, offset| Err(Error { violation, field, offset });
        let Ok((header, rest)) = Self::ref_from_prefix(octets) else {
            return error(Violation::Truncated, "TCP header", octets.len());
        };
        let Some(options) = header.header_length().checked_sub(Self::LENGTH) else {
            return error(Violation::BadLength, "TCP Data Offset", 12);
        };
        match rest.split_at_checked(options) {
            Some((options, payload)) => Ok((header, options, payload)),
            None => error(Violation::Truncated, "TCP Data Offset", octets.len()),
        }
    }

    /// Octets of the header, as it says itself: 0 to 60.
    pub fn header_length(&self) -> usize {
        usize::from(self.data_offset >> 4) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    #[test]
    fn a_udp_datagram_is_cut_where_its_length_says() {
        let octets = hex!("03500351 000b0000 616263 ffff");
        let (header, payload) = UdpHeader::split(&octets).unwrap();
        assert_eq!(
            (header.source_port.get(), header.destination_port.get(), payload),
            (848, 849, &b"abc"[..])
        );
        for length in 0..11 {
            assert!(UdpHeader::split(&octets[..length]).is_err());
        }
        assert!(UdpHeader::split(&hex!("0350035000070000")).is_err());
    }

    #[test]
    fn a_tcp_segment_is_cut_at_its_data_offset() {
        let octets = hex!("04000017 00000001 00000002 60020fff 00000000 020405b4 61");
        let (header, options, payload) = TcpHeader::split(&octets).unwrap();
        assert_eq!((header.flags, options, payload), (TcpHeader::SYN, &hex!("020405b4")[..], &b"a"[..]));
        for length in 0..24 {
            assert!(TcpHeader::split(&octets[..length]).is_err());
        }
    }
}
