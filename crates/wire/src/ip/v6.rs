//! IPv6 (RFC 8200).

use std::net::Ipv6Addr;

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::codec::{Error, Result, Violation};

use super::protocol;

/// Extension headers in one packet: RFC 8200 section 4.1 lists at most eight, and no honest packet has more.
const MAXIMUM_EXTENSION_HEADERS: usize = 8;

/// An IPv6 header.
///
/// ```text
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |Version| Traffic Class |           Flow Label                  |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |         Payload Length        |  Next Header  |   Hop Limit   |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
///    |                         Source Address                        |
///    |                      Destination Address                      |
///    +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Ipv6Header {
    version_class_flow: U32,
    /// Octets after this header.
    pub payload_length: U16,
    /// Type of what follows.
    pub next_header: u8,
    /// Hop limit.
    pub hop_limit: u8,
    source: [u8; 16],
    destination: [u8; 16],
}

const _: () = assert!(size_of::<Ipv6Header>() == Ipv6Header::LENGTH);

impl Ipv6Header {
    /// Octets of the header.
    pub const LENGTH: usize = 40;

    /// A header with traffic class and flow label zero.
    pub fn new(
        source: Ipv6Addr,
        destination: Ipv6Addr,
        next_header: u8,
        hop_limit: u8,
        payload_length: u16,
    ) -> Self {
        Self {
            version_class_flow: 0x6000_0000.into(),
            payload_length: payload_length.into(),
            next_header,
            hop_limit,
            source: source.octets(),
            destination: destination.octets(),
        }
    }

    /// Sets the traffic class.
    pub fn set_traffic_class(&mut self, class: u8) {
        let rest = self.version_class_flow.get() & 0xf00f_ffff;
        self.version_class_flow = (rest | u32::from(class) << 20).into();
    }

    /// Sets the flow label, of which the lower 20 bits count.
    pub fn set_flow_label(&mut self, label: u32) {
        let rest = self.version_class_flow.get() & 0xfff0_0000;
        self.version_class_flow = (rest | label & 0x000f_ffff).into();
    }

    /// Version, as it says itself.
    pub fn version(&self) -> u8 {
        (self.version_class_flow.get() >> 28) as u8
    }

    /// Traffic class: DSCP and ECN.
    pub fn traffic_class(&self) -> u8 {
        (self.version_class_flow.get() >> 20) as u8
    }

    /// Flow label.
    pub fn flow_label(&self) -> u32 {
        self.version_class_flow.get() & 0x000f_ffff
    }

    /// Source address.
    pub fn source(&self) -> Ipv6Addr {
        self.source.into()
    }

    /// Destination address.
    pub fn destination(&self) -> Ipv6Addr {
        self.destination.into()
    }
}

/// Fragment header (RFC 8200 section 4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct FragmentHeader {
    /// Type of what follows in the first fragment.
    pub next_header: u8,
    reserved: u8,
    offset_and_flags: U16,
    /// Identification of the fragments of one packet.
    pub identification: U32,
}

const _: () = assert!(size_of::<FragmentHeader>() == FragmentHeader::LENGTH);

impl FragmentHeader {
    /// Octets of the header.
    pub const LENGTH: usize = 8;

    /// A fragment header; the offset in octets is a multiple of eight below 65536.
    pub fn new(next_header: u8, offset: usize, more: bool, identification: u32) -> Self {
        debug_assert!(offset.is_multiple_of(8) && offset < 65536);
        let offset_and_flags = (offset as u16 | u16::from(more)).into();
        Self { next_header, reserved: 0, offset_and_flags, identification: identification.into() }
    }

    /// The fragment offset in octets.
    pub fn offset(&self) -> usize {
        usize::from(self.offset_and_flags.get() & !7)
    }

    /// Whether more fragments follow.
    pub fn more_fragments(&self) -> bool {
        self.offset_and_flags.get() & 1 != 0
    }
}

/// What the extension headers of a packet lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Payload<'a> {
    /// Protocol of `octets`; in later fragments, of the beginning of the fragmented part.
    pub protocol: u8,
    /// What follows the last extension header.
    pub octets: &'a [u8],
    /// Octets between the fixed header and `octets`.
    pub extensions_length: usize,
    /// The fragment header, if there is one, and its offset from the fixed header's end.
    pub fragment: Option<(FragmentHeader, usize)>,
    /// Octets, from the fixed header's end, that every fragment must repeat: up to the last hop-by-hop or routing
    /// header.
    pub unfragmentable_length: usize,
}

/// An IPv6 packet whose length has been verified.
#[derive(Clone, Copy, Debug)]
pub struct Ipv6Packet<'a> {
    /// The fixed header.
    pub header: &'a Ipv6Header,
    /// Everything after it: extension headers and payload.
    pub body: &'a [u8],
}

impl<'a> Ipv6Packet<'a> {
    /// Reads a packet. Octets beyond its payload length are ignored. Jumbograms are not supported.
    pub fn parse(octets: &'a [u8]) -> Result<Self> {
        let error = |violation, field, offset| Err(Error { violation, field, offset });
        let Ok((header, rest)) = Ipv6Header::ref_from_prefix(octets) else {
            return error(Violation::Truncated, "IPv6 header", octets.len());
        };
        if header.version() != 6 {
            return error(Violation::UnsupportedVersion, "IP version", 0);
        }
        match rest.get(..header.payload_length.get().into()) {
            Some(body) => Ok(Self { header, body }),
            None => error(Violation::Truncated, "Payload Length", octets.len()),
        }
    }

    /// Walks the extension headers. ESP and AH are not walked: they are payloads here.
    pub fn payload(&self) -> Result<Ipv6Payload<'a>> {
        let mut protocol = self.header.next_header;
        let mut position = 0;
        let mut fragment = None;
        let mut unfragmentable_length = 0;
        let error = |violation, field, position| {
            Err(Error { violation, field, offset: Ipv6Header::LENGTH + position })
        };
        for _ in 0..=MAXIMUM_EXTENSION_HEADERS {
            let rest = &self.body[position..];
            let (next, length) = match protocol {
                protocol::HOP_BY_HOP
                | protocol::ROUTING
                | protocol::DESTINATION_OPTIONS
                | protocol::MOBILITY => match rest {
                    [next, length, ..] => (*next, (usize::from(*length) + 1) * 8),
                    _ => return error(Violation::Truncated, "extension header", position),
                },
                protocol::FRAGMENT => match FragmentHeader::read_from_prefix(rest) {
                    Ok((header, _)) if fragment.is_none() => {
                        fragment = Some((header, position));
                        (header.next_header, FragmentHeader::LENGTH)
                    }
                    Ok(_) => return error(Violation::TooMany, "fragment header", position),
                    Err(_) => return error(Violation::Truncated, "fragment header", position),
                },
                protocol => {
                    let extensions_length = position;
                    return Ok(Ipv6Payload {
                        protocol,
                        octets: rest,
                        extensions_length,
                        fragment,
                        unfragmentable_length,
                    });
                }
            };
            if rest.len() < length {
                return error(Violation::Truncated, "extension header", position);
            }
            if matches!(protocol, protocol::HOP_BY_HOP | protocol::ROUTING) {
                unfragmentable_length = position + length;
            }
            position += length;
            protocol = next;
            // What follows the fragment header of a later fragment is data, whatever it looks like.
            if let Some((header, _)) = fragment
                && header.offset() != 0
            {
                return Ok(Ipv6Payload {
                    protocol,
                    octets: &self.body[position..],
                    extensions_length: position,
                    fragment,
                    unfragmentable_length,
                });
            }
        }
        error(Violation::TooMany, "extension header", position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(next_header: u8, body: &[u8]) -> Vec<u8> {
        let (source, destination) = ("2001:db8::1".parse().unwrap(), "2001:db8::2".parse().unwrap());
        let header = Ipv6Header::new(source, destination, next_header, 64, body.len() as u16);
        [header.as_bytes(), body].concat()
    }

    #[test]
    fn traffic_class_and_flow_label_share_a_word_with_the_version() {
        let mut header = *Ipv6Packet::parse(&packet(59, &[])).unwrap().header;
        header.set_traffic_class(0xb9);
        header.set_flow_label(0xfff_ffff);
        assert_eq!((header.version(), header.traffic_class(), header.flow_label()), (6, 0xb9, 0xf_ffff));
        assert_eq!(header.as_bytes()[..4], [0x6b, 0x9f, 0xff, 0xff]);
    }

    #[test]
    fn extension_headers_are_walked_to_the_payload() {
        let hop_by_hop = [43, 0, 5, 2, 0, 0, 1, 0];
        let routing = [44, 0, 0, 0, 0, 0, 0, 0];
        let fragment = FragmentHeader::new(60, 0, true, 7);
        let options = [17, 0, 1, 4, 0, 0, 0, 0];
        let body = [&hop_by_hop[..], &routing, fragment.as_bytes(), &options, b"datagram"].concat();
        let octets = packet(0, &body);
        let payload = Ipv6Packet::parse(&octets).unwrap().payload().unwrap();
        assert_eq!((payload.protocol, payload.octets), (17, &b"datagram"[..]));
        assert_eq!((payload.extensions_length, payload.unfragmentable_length), (32, 16));
        assert_eq!(payload.fragment, Some((fragment, 16)));
        for length in 0..32 {
            let mut cut = octets[..40 + length].to_vec();
            cut[4..6].copy_from_slice(&(length as u16).to_be_bytes());
            assert!(Ipv6Packet::parse(&cut).unwrap().payload().is_err(), "{length}");
        }
    }

    #[test]
    fn a_later_fragment_is_not_searched_for_headers() {
        let fragment = FragmentHeader::new(60, 1232, false, 7);
        let octets = packet(44, &[fragment.as_bytes(), &[0xff; 3]].concat());
        let payload = Ipv6Packet::parse(&octets).unwrap().payload().unwrap();
        assert_eq!((payload.protocol, payload.octets), (60, &[0xff; 3][..]));
        assert_eq!((fragment.offset(), fragment.more_fragments()), (1232, false));
    }

    #[test]
    fn endless_extension_headers_are_refused() {
        let octets = packet(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(100));
        let error = Ipv6Packet::parse(&octets).unwrap().payload().unwrap_err();
        assert_eq!(error.violation, Violation::TooMany);
    }
}
