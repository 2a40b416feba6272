//! IPv4 and IPv6 headers as the packet path needs them: read once, lengths checked, no copies.

use crate::classifier::{Flow, Ports};

/// Octets of the Ethernet header every frame begins with.
pub(crate) const ETHERNET_LENGTH: usize = 14;
pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800;
pub(crate) const ETHERTYPE_ARP: u16 = 0x0806;
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd;

pub(crate) const PROTOCOL_ICMP: u8 = 1;
pub(crate) const PROTOCOL_IPV4: u8 = 4;
pub(crate) const PROTOCOL_TCP: u8 = 6;
pub(crate) const PROTOCOL_UDP: u8 = 17;
pub(crate) const PROTOCOL_IPV6: u8 = 41;
const PROTOCOL_ROUTING: u8 = 43;
pub(crate) const PROTOCOL_FRAGMENT: u8 = 44;
pub(crate) const PROTOCOL_ESP: u8 = 50;
pub(crate) const PROTOCOL_ICMPV6: u8 = 58;
pub(crate) const PROTOCOL_NONE: u8 = 59;
pub(crate) const PROTOCOL_PIM: u8 = 103;
const PROTOCOL_DCCP: u8 = 33;
const PROTOCOL_SCTP: u8 = 132;
const PROTOCOL_UDP_LITE: u8 = 136;

/// Octets of an IPv4 header without options.
pub(crate) const IPV4_LENGTH: usize = 20;
/// Octets of an IPv6 header without extension headers.
pub(crate) const IPV6_LENGTH: usize = 40;
/// No link carries less of IPv6 (RFC 8200 section 5).
pub(crate) const SMALLEST_IPV6_MTU: u16 = 1280;
/// More in one packet than anybody has a use for; what is behind them is not looked for.
const MOST_EXTENSION_HEADERS: usize = 16;
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The protocol's header begins with source and destination port.
#[inline]
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_DCCP | PROTOCOL_SCTP | PROTOCOL_UDP_LITE)
}

#[inline(always)]
fn octets<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("as many octets")
}

#[inline(always)]
pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(octets(bytes, at))
}

#[inline(always)]
pub(crate) fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(octets(bytes, at))
}

#[inline(always)]
pub(crate) fn eight(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(octets(bytes, at))
}

#[inline(always)]
pub(crate) fn wide(bytes: &[u8], at: usize) -> u128 {
    u128::from_be_bytes(octets(bytes, at))
}

#[inline(always)]
pub(crate) fn put_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

#[inline(always)]
pub(crate) fn put_long(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// The version of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Version {
    V4,
    V6,
}

impl Version {
    /// Octets of a header without options or extension headers.
    pub(crate) const fn header_length(self) -> usize {
        match self {
            Self::V4 => IPV4_LENGTH,
            Self::V6 => IPV6_LENGTH,
        }
    }

    /// The version's number as a protocol inside another.
    pub(crate) const fn protocol(self) -> u8 {
        match self {
            Self::V4 => PROTOCOL_IPV4,
            Self::V6 => PROTOCOL_IPV6,
        }
    }

    pub(crate) const fn ethertype(self) -> u16 {
        match self {
            Self::V4 => ETHERTYPE_IPV4,
            Self::V6 => ETHERTYPE_IPV6,
        }
    }

    /// The version of an Ethernet header's type.
    pub(crate) const fn of_ethertype(ethertype: u16) -> Option<Self> {
        match ethertype {
            ETHERTYPE_IPV4 => Some(Self::V4),
            ETHERTYPE_IPV6 => Some(Self::V6),
            _ => None,
        }
    }
}

/// An IP packet whose headers are whole and whose length lies within the octets given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// The packet, cut to its length.
    pub bytes: &'a [u8],
    pub version: Version,
    /// Octets before the upper layer: IPv4 options and IPv6 extension headers included.
    pub header_length: usize,
    protocol: u8,
    source: u128,
    destination: u128,
    /// Flags and offset of an IPv4 fragment; zero in IPv6.
    fragment: u16,
    /// The upper layer's protocol cannot be read off: a chain of extension headers that is cut, or that goes on in
    /// another fragment.
    hidden: bool,
    /// There is a routing header.
    routed: bool,
    /// Where the IPv6 fragment header is, and the octet that announces it; 0 if there is none.
    fragment_at: u16,
    fragment_link: u16,
}

impl<'a> Packet<'a> {
    /// The packet at the start of `bytes`, if it is of that version; link padding after it is cut off.
    #[inline(always)]
    pub(crate) fn parse(version: Version, bytes: &'a [u8]) -> Option<Self> {
        match version {
            Version::V4 => {
                let packet = Self::parse_v4(bytes)?;
                let total = usize::from(word(bytes, 2));
                (total >= packet.header_length).then_some(())?;
                Some(Self { bytes: bytes.get(..total)?, ..packet })
            }
            Version::V6 => {
                (bytes.len() >= IPV6_LENGTH).then_some(())?;
                Self::parse_v6(bytes.get(..IPV6_LENGTH + usize::from(word(bytes, 4)))?)
            }
        }
    }

    /// A packet of which perhaps only the beginning is there, as an ICMP error quotes it.
    #[inline]
    pub(crate) fn parse_quoted(version: Version, bytes: &'a [u8]) -> Option<Self> {
        match version {
            Version::V4 => Self::parse_v4(bytes),
            Version::V6 => Self::parse_v6(bytes),
        }
    }

    #[inline(always)]
    fn parse_v4(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; IPV4_LENGTH] = bytes.first_chunk()?;
        let header_length = usize::from(header[0] & 0x0f) * 4;
        (header[0] >> 4 == 4 && header_length >= IPV4_LENGTH && bytes.len() >= header_length).then_some(())?;
        Some(Self {
            bytes,
            version: Version::V4,
            header_length,
            protocol: header[9],
            source: mapped(long(header, 12)),
            destination: mapped(long(header, 16)),
            fragment: word(header, 6),
            hidden: false,
            routed: false,
            fragment_at: 0,
            fragment_link: 0,
        })
    }

    #[inline]
    fn parse_v6(bytes: &'a [u8]) -> Option<Self> {
        let header: &[u8; IPV6_LENGTH] = bytes.first_chunk()?;
        (header[0] >> 4 == 6).then_some(())?;
        let mut packet = Self {
            bytes,
            version: Version::V6,
            header_length: IPV6_LENGTH,
            protocol: header[6],
            source: wide(header, 8),
            destination: wide(header, 24),
            fragment: 0,
            hidden: false,
            routed: false,
            fragment_at: 0,
            fragment_link: 0,
        };
        if is_extension(packet.protocol) {
            packet.walk();
        }
        Some(packet)
    }

    /// Walks the extension headers up to the upper layer, as far as the packet shows them.
    #[cold]
    fn walk(&mut self) {
        let mut link = 6;
        for _ in 0..MOST_EXTENSION_HEADERS {
            let at = self.header_length;
            let Some(header) = self.bytes[at..].first_chunk::<8>() else { break };
            let mut length = 8;
            if self.protocol == PROTOCOL_FRAGMENT {
                if self.fragment_at != 0 {
                    break;
                }
                (self.fragment_at, self.fragment_link) = (at as u16, link as u16);
            } else {
                length = (usize::from(header[1]) + 1) * 8;
            }
            if at + length > self.bytes.len() {
                break;
            }
            self.routed |= self.protocol == PROTOCOL_ROUTING;
            self.protocol = header[0];
            self.header_length = at + length;
            link = at;
            if self.fragment_offset() != 0 {
                self.hidden = is_extension(self.protocol);
                return;
            }
            if !is_extension(self.protocol) {
                return;
            }
        }
        self.hidden = true;
    }

    /// The same packet with other octets behind the same headers.
    #[inline]
    pub(crate) fn with_bytes<'b>(&self, bytes: &'b [u8]) -> Packet<'b> {
        Packet { bytes, ..*self }
    }

    /// The protocol of the upper layer.
    #[inline]
    pub(crate) fn protocol(&self) -> u8 {
        self.protocol
    }

    /// There is a routing header: the destination is not the final one.
    #[inline]
    pub(crate) fn is_routed(&self) -> bool {
        self.routed
    }

    /// TOS or traffic class.
    #[inline]
    pub(crate) fn tos(&self) -> u8 {
        tos(self.version, self.bytes)
    }

    /// What names the fragments of the packet; 0 in an IPv6 packet without fragment header.
    #[inline]
    pub(crate) fn identification(&self) -> u32 {
        match (self.version, self.fragment_at) {
            (Version::V4, _) => word(self.bytes, 4).into(),
            (Version::V6, 0) => 0,
            (Version::V6, at) => long(self.bytes, usize::from(at) + 4),
        }
    }

    /// The bit of an IPv4 header. Routers never fragment IPv6.
    #[inline]
    pub(crate) fn dont_fragment(&self) -> bool {
        match self.version {
            Version::V4 => self.fragment & DONT_FRAGMENT != 0,
            Version::V6 => true,
        }
    }

    #[inline]
    pub(crate) fn more_fragments(&self) -> bool {
        match (self.version, self.fragment_at) {
            (Version::V4, _) => self.fragment & MORE_FRAGMENTS != 0,
            (Version::V6, 0) => false,
            (Version::V6, at) => self.bytes[usize::from(at) + 3] & 1 != 0,
        }
    }

    /// Offset of this fragment in octets.
    #[inline]
    pub(crate) fn fragment_offset(&self) -> usize {
        match (self.version, self.fragment_at) {
            (Version::V4, _) => usize::from(self.fragment & OFFSET_MASK) * 8,
            (Version::V6, 0) => 0,
            (Version::V6, at) => usize::from(word(self.bytes, usize::from(at) + 2) & !7),
        }
    }

    #[inline]
    pub(crate) fn is_fragment(&self) -> bool {
        match self.version {
            Version::V4 => self.fragment & (OFFSET_MASK | MORE_FRAGMENTS) != 0,
            Version::V6 => self.fragment_at != 0 && (self.fragment_offset() != 0 || self.more_fragments()),
        }
    }

    /// The IPv6 fragment header and the octet that announces it.
    #[inline]
    pub(crate) fn fragment_header(&self) -> Option<(usize, usize)> {
        (self.fragment_at != 0).then_some((self.fragment_at.into(), self.fragment_link.into()))
    }

    /// Where the part of the packet begins that fragments have a piece of each.
    #[inline]
    pub(crate) fn fragmentable_at(&self) -> usize {
        match self.fragment_at {
            0 => self.header_length,
            at => usize::from(at) + 8,
        }
    }

    /// The protocol that tells fragments of one packet from those of another.
    #[inline]
    pub(crate) fn fragment_protocol(&self) -> u8 {
        match self.fragment_at {
            0 => self.protocol,
            at => self.bytes[usize::from(at)],
        }
    }

    /// IPv4 addresses are mapped ones.
    #[inline]
    pub(crate) fn source(&self) -> u128 {
        self.source
    }

    #[inline]
    pub(crate) fn destination(&self) -> u128 {
        self.destination
    }

    /// The upper layer.
    #[inline]
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_length..]
    }

    /// Version, addresses, protocol and ports.
    #[inline(always)]
    pub(crate) fn flow(&self) -> Flow {
        let ports = if self.hidden {
            Ports::Hidden
        } else if !has_ports(self.protocol) {
            Ports::None
        } else {
            match self.payload().first_chunk() {
                Some(&[a, b, c, d]) if self.fragment_offset() == 0 => {
                    Ports::Known(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
                }
                _ => Ports::Unknown,
            }
        };
        Flow {
            version: self.version,
            source: self.source(),
            destination: self.destination(),
            protocol: self.protocol,
            ports,
        }
    }

    /// An ICMP error message.
    #[inline(always)]
    pub(crate) fn is_icmp_error(&self) -> bool {
        let kind = match (self.version, self.protocol) {
            (Version::V4, PROTOCOL_ICMP) | (Version::V6, PROTOCOL_ICMPV6) if self.fragment_offset() == 0 => {
                self.payload().first()
            }
            _ => None,
        };
        match (self.version, kind) {
            // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
            (Version::V4, Some(3 | 4 | 5 | 11 | 12)) => true,
            (Version::V6, Some(kind)) => *kind < 128,
            (Version::V4, _) | (Version::V6, None) => false,
        }
    }

    /// The quoted packet of an ICMP error; `None` for everything else.
    #[inline(always)]
    pub(crate) fn quoted(&self) -> Option<Packet<'a>> {
        if !self.is_icmp_error() {
            return None;
        }
        Self::parse_quoted(self.version, self.payload().get(8..)?)
    }
}

/// The header says how long it is and what follows it.
#[inline]
fn is_extension(protocol: u8) -> bool {
    // Hop-by-hop options, routing, fragment, destination options, mobility, HIP, shim6.
    matches!(protocol, 0 | PROTOCOL_ROUTING | PROTOCOL_FRAGMENT | 60 | 135 | 139 | 140)
}

/// Writes a packet's length into its first header; for IPv4 the header's checksum too: it is all of `header`.
#[inline]
pub(crate) fn set_length(version: Version, header: &mut [u8], total: usize) {
    match version {
        Version::V4 => {
            put_word(header, 2, total as u16);
            set_header_checksum(header);
        }
        Version::V6 => put_word(header, 4, (total - IPV6_LENGTH) as u16),
    }
}

/// TOS or traffic class.
#[inline]
pub(crate) fn tos(version: Version, header: &[u8]) -> u8 {
    match version {
        Version::V4 => header[1],
        Version::V6 => (word(header, 0) >> 4) as u8,
    }
}

/// Writes TOS or traffic class; for IPv4 the header's checksum too: it is all of `header`.
pub(crate) fn set_tos(version: Version, header: &mut [u8], tos: u8) {
    match version {
        Version::V4 => {
            header[1] = tos;
            set_header_checksum(header);
        }
        Version::V6 => {
            let first = word(header, 0) & 0xf00f | u16::from(tos) << 4;
            put_word(header, 0, first);
        }
    }
}

/// An IPv4 address as [`Flow`] holds it.
#[inline]
pub(crate) fn mapped(address: u32) -> u128 {
    0xffff_0000_0000 | u128::from(address)
}

/// One's complement sum of big-endian words, not folded; a last odd octet counts as the high one.
pub(crate) fn sum(bytes: &[u8]) -> u64 {
    // Sixteen-bit words of a native-order sum differ from the big-endian one by a byte swap only (RFC 1071 section 2 B).
    let mut total: u64 = 0;
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for at in [0, 4, 8, 12, 16, 20, 24, 28] {
            total += u64::from(u32::from_ne_bytes(chunk[at..at + 4].try_into().expect("four octets")));
        }
    }
    let mut pairs = chunks.remainder().chunks_exact(2);
    for pair in &mut pairs {
        total += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u64::from(u16::from_be(fold_native(total)))
}

#[inline]
fn fold_native(total: u64) -> u16 {
    // Each step adds the carries of the one before; the last has one at most.
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = (total >> 16) + (total & 0xffff);
    let total = (total >> 16) + (total & 0xffff);
    ((total >> 16) + (total & 0xffff)) as u16
}

/// Folds a sum of sums to 16 bits.
#[inline]
pub(crate) fn fold(total: u64) -> u16 {
    fold_native(total)
}

/// The checksum of an Internet header or message over sums.
#[inline]
pub(crate) fn checksum(total: u64) -> u16 {
    !fold(total)
}

/// Sum of the pseudo-header, given the IP header, the upper-layer protocol and the upper layer's length.
pub(crate) fn pseudo_header_sum(version: Version, header: &[u8], protocol: u8, length: usize) -> u64 {
    let addresses = match version {
        Version::V4 => &header[12..20],
        Version::V6 => &header[8..40],
    };
    sum(addresses) + u64::from(protocol) + length as u64
}

/// Computes the header checksum anew.
#[inline]
pub(crate) fn set_header_checksum(header: &mut [u8]) {
    put_word(header, 10, 0);
    let total = match header.first_chunk::<IPV4_LENGTH>() {
        // Without options, nearly always.
        Some(plain) if header.len() == IPV4_LENGTH => (0..5).map(|at| u64::from(long(plain, at * 4))).sum(),
        _ => sum(header),
    };
    let value = checksum(total);
    put_word(header, 10, value);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_sum_agrees_with_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut expected = 0u64;
            for pair in bytes.chunks(2) {
                expected += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
            }
            prop_assert_eq!(fold(sum(&bytes)), fold(expected));
        }

        #[test]
        fn random_octets_parse_or_not_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            for version in [Version::V4, Version::V6] {
                let mut bytes = bytes.clone();
                if let [first, ..] = bytes.as_mut_slice() {
                    *first = *first & 0x0f | if version == Version::V4 { 0x40 } else { 0x60 };
                }
                let packets = [Packet::parse(version, &bytes), Packet::parse_quoted(version, &bytes)];
                for packet in packets.into_iter().flatten() {
                    let _ = (packet.flow(), packet.quoted().map(|quoted| quoted.flow()));
                    let _ = (packet.tos(), packet.identification(), packet.is_fragment(), packet.payload());
                }
            }
        }
    }

    #[test]
    fn packets_longer_than_the_frame_are_refused() {
        let mut bytes = [0u8; 24];
        bytes[0] = 0x45;
        bytes[3] = 24;
        assert!(Packet::parse(Version::V4, &bytes).is_some());
        bytes[3] = 25;
        assert!(Packet::parse(Version::V4, &bytes).is_none());
        bytes[3] = 19;
        assert!(Packet::parse(Version::V4, &bytes).is_none());
        bytes[0] = 0x47;
        bytes[3] = 24;
        assert!(Packet::parse(Version::V4, &bytes).is_none());
    }

    /// An IPv6 packet of the given first protocol, with `rest` behind the header.
    fn ipv6(protocol: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x6a, 0xbc, 0xde, 0xf0, 0, rest.len() as u8, protocol, 64];
        bytes.extend([1; 16]);
        bytes.extend([2; 16]);
        bytes.extend(rest);
        bytes
    }

    #[test]
    fn extension_headers_are_walked_to_the_upper_layer() {
        let rest = [&[43, 0, 0, 0, 0, 0, 0, 0][..], &[60, 0, 4, 0, 0, 0, 0, 0]].concat();
        let rest = [&rest[..], &[17, 1], &[0; 14], &[0, 53, 0, 54, 0, 8, 0, 0]].concat();
        let bytes = ipv6(0, &rest);
        let packet = Packet::parse(Version::V6, &bytes).unwrap();
        assert_eq!((packet.protocol(), packet.header_length, packet.is_routed()), (17, 72, true));
        assert_eq!(packet.flow().ports, Ports::Known(53, 54));
        assert_eq!((packet.tos(), packet.is_fragment()), (0xab, false));
        for cut in 48..72 {
            let quoted = Packet::parse_quoted(Version::V6, &bytes[..cut]).unwrap();
            assert_eq!(quoted.flow().ports, Ports::Hidden, "{cut}");
        }
        let endless = ipv6(60, &[60, 0, 0, 0, 0, 0, 0, 0].repeat(20));
        assert_eq!(Packet::parse(Version::V6, &endless).unwrap().flow().ports, Ports::Hidden);
    }

    #[test]
    fn fragments_of_ipv6_show_their_place_and_the_first_its_ports() {
        let fragment = |next: u8, offset: u16, more: u16| {
            let mut rest = vec![next, 0, 0, 0, 1, 2, 3, 4, 60, 0, 0, 0, 0, 53, 0, 0];
            put_word(&mut rest, 2, offset << 3 | more);
            if next == 60 {
                rest.splice(8..8, [17, 0, 0, 0, 0, 0, 0, 0]);
            }
            ipv6(44, &rest)
        };
        let look = |bytes: &[u8]| {
            let packet = Packet::parse(Version::V6, bytes).unwrap();
            assert_eq!((packet.identification(), packet.fragment_header()), (0x0102_0304, Some((40, 6))));
            (packet.is_fragment(), packet.fragment_offset(), packet.protocol(), packet.flow().ports)
        };
        assert_eq!(look(&fragment(17, 0, 1)), (true, 0, 17, Ports::Known(15360, 0)));
        assert_eq!(look(&fragment(17, 0, 0)), (false, 0, 17, Ports::Known(15360, 0)));
        assert_eq!(look(&fragment(17, 5, 0)), (true, 40, 17, Ports::Unknown));
        assert_eq!(look(&fragment(60, 0, 1)), (true, 0, 17, Ports::Known(15360, 0)));
        assert_eq!(look(&fragment(60, 5, 1)), (true, 40, 60, Ports::Hidden));
    }

    #[test]
    fn traffic_class_and_length_are_written_in_place() {
        let mut bytes = ipv6(17, &[0; 8]);
        set_tos(Version::V6, &mut bytes, 0x12);
        assert_eq!(bytes[..4], [0x61, 0x2c, 0xde, 0xf0]);
        set_length(Version::V6, &mut bytes, 340);
        assert_eq!(bytes[4..6], [1, 44]);
    }
}
