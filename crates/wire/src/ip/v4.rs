//! IPv4 (RFC 791).

use std::net::Ipv4Addr;

use zerocopy::byteorder::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{Error, Result, Violation};

use super::{checksum, checksum_update};

/// The fixed part of an IPv4 header.
///
/// ```text
///     0                   1                   2                   3
///     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |Version|  IHL  |Type of Service|          Total Length         |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |         Identification        |Flags|      Fragment Offset    |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |  Time to Live |    Protocol   |         Header Checksum       |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |                       Source Address                          |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |                    Destination Address                        |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv4Header {
    version_and_length: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Octets of header and payload.
    pub total_length: U16,
    /// Identification of the fragments of one packet.
    pub identification: U16,
    /// Three flags and the fragment offset in units of eight octets.
    pub flags_and_offset: U16,
    /// Time to live.
    pub ttl: u8,
    /// Protocol of the payload.
    pub protocol: u8,
    /// Checksum of the header.
    pub checksum: U16,
    source: [u8; 4],
    destination: [u8; 4],
}

const _: () = assert!(size_of::<Ipv4Header>() == Ipv4Header::LENGTH);

impl Ipv4Header {
    /// Octets of a header without options.
    pub const LENGTH: usize = 20;
    /// "Don't fragment", in `flags_and_offset`.
    pub const DONT_FRAGMENT: u16 = 0x4000;
    /// "More fragments", in `flags_and_offset`.
    pub const MORE_FRAGMENTS: u16 = 0x2000;
    /// The fragment offset, in `flags_and_offset`.
    pub const OFFSET_MASK: u16 = 0x1fff;

    /// A header without options and with checksum zero; see [`Ipv4Header::update_checksum`].
    pub fn new(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, ttl: u8, total_length: u16) -> Self {
        Self {
            version_and_length: 0x45,
            tos: 0,
            total_length: total_length.into(),
            identification: 0.into(),
            flags_and_offset: 0.into(),
            ttl,
            protocol,
            checksum: 0.into(),
            source: source.octets(),
            destination: destination.octets(),
        }
    }

    /// Declares the header to be `length` octets long, a multiple of four from 20 to 60.
    pub fn set_header_length(&mut self, length: usize) {
        debug_assert!(length.is_multiple_of(4) && (20..=60).contains(&length));
        self.version_and_length = 0x40 | (length / 4) as u8;
    }

    /// Sets or clears "don't fragment".
    pub fn set_dont_fragment(&mut self, set: bool) {
        let flags = self.flags_and_offset.get();
        let flags = if set { flags | Self::DONT_FRAGMENT } else { flags & !Self::DONT_FRAGMENT };
        self.flags_and_offset = flags.into();
    }

    /// Sets "more fragments" and the fragment offset in octets, a multiple of eight below 65536; keeps "don't
    /// fragment".
    pub fn set_fragment(&mut self, offset: usize, more: bool) {
        debug_assert!(offset.is_multiple_of(8) && offset < 65536);
        let flags = self.flags_and_offset.get() & Self::DONT_FRAGMENT;
        let more = if more { Self::MORE_FRAGMENTS } else { 0 };
        self.flags_and_offset = (flags | more | (offset / 8) as u16).into();
    }

    /// Sets the source address.
    pub fn set_source(&mut self, source: Ipv4Addr) {
        self.source = source.octets();
    }

    /// Sets the destination address.
    pub fn set_destination(&mut self, destination: Ipv4Addr) {
        self.destination = destination.octets();
    }

    /// Computes the checksum of this header, which has no options.
    pub fn update_checksum(&mut self) {
        self.checksum = 0.into();
        self.checksum = checksum(self.as_bytes()).into();
    }

    /// Changes the type of service and adapts the checksum.
    pub fn replace_tos(&mut self, tos: u8) {
        let word = |tos| u16::from_be_bytes([self.version_and_length, tos]);
        self.checksum = checksum_update(self.checksum.get(), word(self.tos), word(tos)).into();
        self.tos = tos;
    }

    /// Octets of the header, as it says itself: 0 to 60.
    pub fn header_length(&self) -> usize {
        usize::from(self.version_and_length & 0x0f) * 4
    }

    /// Version, as it says itself.
    pub fn version(&self) -> u8 {
        self.version_and_length >> 4
    }

    /// Source address.
    pub fn source(&self) -> Ipv4Addr {
        self.source.into()
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv4Addr {
        self.destination.into()
    }

    /// Whether "don't fragment" is set.
    pub fn dont_fragment(&self) -> bool {
        self.flags_and_offset.get() & Self::DONT_FRAGMENT != 0
    }

    /// Whether "more fragments" is set.
    pub fn more_fragments(&self) -> bool {
        self.flags_and_offset.get() & Self::MORE_FRAGMENTS != 0
    }

    /// The fragment offset in octets.
    pub fn fragment_offset(&self) -> usize {
        usize::from(self.flags_and_offset.get() & Self::OFFSET_MASK) * 8
    }

    /// Whether the packet is a fragment, be it the first.
    pub fn is_fragment(&self) -> bool {
        self.flags_and_offset.get() & (Self::MORE_FRAGMENTS | Self::OFFSET_MASK) != 0
    }
}

/// An IPv4 packet whose lengths have been verified. Its checksum has not.
#[derive(Clone, Copy, Debug)]
pub struct Ipv4Packet<'a> {
    /// The fixed part of the header.
    pub header: &'a Ipv4Header,
    /// Options and their padding.
    pub options: &'a [u8],
    /// The payload.
    pub payload: &'a [u8],
}

impl<'a> Ipv4Packet<'a> {
    /// Reads a packet. Octets beyond its total length, such as the padding of a short Ethernet frame, are ignored.
    pub fn parse(octets: &'a [u8]) -> Result<Self> {
        let error = |violation, field, offset| Err(Error { violation, field, offset });
        let Ok((header, rest)) = Ipv4Header::ref_from_prefix(octets) else {
            return error(Violation::Truncated, "IPv4 header", octets.len());
        };
        if header.version() != 4 {
            return error(Violation::UnsupportedVersion, "IP version", 0);
        }
        let Some(options_length) = header.header_length().checked_sub(Ipv4Header::LENGTH) else {
            return error(Violation::BadLength, "IHL", 0);
        };
        let total = usize::from(header.total_length.get());
        let Some(payload_length) = total.checked_sub(header.header_length()) else {
            return error(Violation::BadLength, "Total Length", 2);
        };
        match rest.get(..options_length + payload_length) {
            Some(rest) => {
                let (options, payload) = rest.split_at(options_length);
                Ok(Self { header, options, payload })
            }
            None => error(Violation::Truncated, "Total Length", octets.len()),
        }
    }

    /// Whether the header checksum is right.
    pub fn has_valid_checksum(&self) -> bool {
        super::Checksum::new().plus(self.header.as_bytes()).plus(self.options).finish() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    // An echo request between the hosts of RFC 3602 section 4, with a wrong checksum.
    const PACKET: [u8; 28] = hex!("4500001c08f2 4000 4001 af3e c0a87b03 c0a87b64 0800f7ff00000000");

    #[test]
    fn fields_are_where_the_drawing_has_them() {
        let mut octets = PACKET;
        let mut header = *Ipv4Packet::parse(&octets).unwrap().header;
        assert_eq!(header.source(), Ipv4Addr::new(192, 168, 123, 3));
        assert_eq!(header.destination(), Ipv4Addr::new(192, 168, 123, 100));
        assert!(header.dont_fragment() && !header.is_fragment());
        header.update_checksum();
        octets[..20].copy_from_slice(header.as_bytes());
        assert!(Ipv4Packet::parse(&octets).unwrap().has_valid_checksum());
        header.replace_tos(0xb8);
        octets[..20].copy_from_slice(header.as_bytes());
        assert!(Ipv4Packet::parse(&octets).unwrap().has_valid_checksum());
    }

    #[test]
    fn a_cut_packet_is_refused_at_every_length_and_a_padded_one_is_not() {
        for length in 0..PACKET.len() {
            assert!(Ipv4Packet::parse(&PACKET[..length]).is_err(), "{length}");
        }
        let padded = [&PACKET[..], &[0; 18]].concat();
        assert_eq!(Ipv4Packet::parse(&padded).unwrap().payload, &PACKET[20..]);
    }

    #[test]
    fn fragment_fields_keep_dont_fragment() {
        let mut header = *Ipv4Packet::parse(&PACKET).unwrap().header;
        header.set_fragment(1480, true);
        assert_eq!(
            (header.fragment_offset(), header.more_fragments(), header.dont_fragment()),
            (1480, true, true)
        );
        header.set_dont_fragment(false);
        header.set_fragment(65528, false);
        assert_eq!(
            (header.fragment_offset(), header.more_fragments(), header.dont_fragment()),
            (65528, false, false)
        );
        assert!(header.is_fragment());
    }

    #[test]
    fn impossible_header_lengths_are_refused() {
        for (position, value) in [(0, 0x65), (0, 0x44), (0, 0x4f), (3, 19)] {
            let mut octets = PACKET;
            octets[position] = value;
            assert!(Ipv4Packet::parse(&octets).is_err(), "{position} {value}");
        }
    }
}
