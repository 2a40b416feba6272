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
pub(crate) const PROTOCOL_ESP: u8 = 50;
pub(crate) const PROTOCOL_NONE: u8 = 59;
const PROTOCOL_DCCP: u8 = 33;
const PROTOCOL_SCTP: u8 = 132;
const PROTOCOL_UDP_LITE: u8 = 136;

/// Octets of an IPv4 header without options.
pub(crate) const IPV4_LENGTH: usize = 20;
pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET_MASK: u16 = 0x1fff;

/// The protocol's header begins with source and destination port.
fn has_ports(protocol: u8) -> bool {
    matches!(protocol, PROTOCOL_TCP | PROTOCOL_UDP | PROTOCOL_DCCP | PROTOCOL_SCTP | PROTOCOL_UDP_LITE)
}

pub(crate) fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

pub(crate) fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn put_word(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

pub(crate) fn put_long(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// An IPv4 packet whose header is whole and whose total length lies within the octets given.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ipv4<'a> {
    /// The packet, cut to its total length.
    pub bytes: &'a [u8],
    /// Octets of the header, options included.
    pub header_length: usize,
}

impl<'a> Ipv4<'a> {
    /// The packet at the start of `bytes`; link padding after it is cut off.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let packet = Self::parse_quoted(bytes)?;
        let total = usize::from(word(bytes, 2));
        (total >= packet.header_length).then_some(())?;
        Some(Self { bytes: bytes.get(..total)?, header_length: packet.header_length })
    }

    /// A packet of which perhaps only the beginning is there, as an ICMP error quotes it.
    pub(crate) fn parse_quoted(bytes: &'a [u8]) -> Option<Self> {
        let first = *bytes.first()?;
        let header_length = usize::from(first & 0x0f) * 4;
        (first >> 4 == 4 && header_length >= IPV4_LENGTH && bytes.len() >= header_length).then_some(())?;
        Some(Self { bytes, header_length })
    }

    pub(crate) fn protocol(&self) -> u8 {
        self.bytes[9]
    }

    pub(crate) fn tos(&self) -> u8 {
        self.bytes[1]
    }

    pub(crate) fn identification(&self) -> u16 {
        word(self.bytes, 4)
    }

    pub(crate) fn dont_fragment(&self) -> bool {
        word(self.bytes, 6) & DONT_FRAGMENT != 0
    }

    pub(crate) fn more_fragments(&self) -> bool {
        word(self.bytes, 6) & MORE_FRAGMENTS != 0
    }

    /// Offset of this fragment in octets.
    pub(crate) fn fragment_offset(&self) -> usize {
        usize::from(word(self.bytes, 6) & OFFSET_MASK) * 8
    }

    pub(crate) fn is_fragment(&self) -> bool {
        word(self.bytes, 6) & (OFFSET_MASK | MORE_FRAGMENTS) != 0
    }

    pub(crate) fn source(&self) -> u32 {
        long(self.bytes, 12)
    }

    pub(crate) fn destination(&self) -> u32 {
        long(self.bytes, 16)
    }

    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.bytes[self.header_length..]
    }

    /// Addresses, protocol and ports.
    pub(crate) fn flow(&self) -> Flow {
        let ports = if !has_ports(self.protocol()) {
            Ports::None
        } else if self.fragment_offset() != 0 || self.payload().len() < 4 {
            Ports::Unknown
        } else {
            Ports::Known(word(self.payload(), 0), word(self.payload(), 2))
        };
        Flow {
            source: mapped(self.source()),
            destination: mapped(self.destination()),
            protocol: self.protocol(),
            ports,
        }
    }

    /// The quoted packet of an ICMP error; `None` for everything else.
    pub(crate) fn quoted(&self) -> Option<Ipv4<'a>> {
        let is_error = self.protocol() == PROTOCOL_ICMP
            && self.fragment_offset() == 0
            // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
            && matches!(self.payload().first(), Some(3 | 4 | 5 | 11 | 12));
        if !is_error {
            return None;
        }
        Self::parse_quoted(self.payload().get(8..)?)
    }
}

/// An IPv4 address as [`Flow`] holds it.
pub(crate) fn mapped(address: u32) -> u128 {
    0xffff_0000_0000 | u128::from(address)
}

/// The flow of an IPv6 packet; extension headers are not walked, so ports behind them are unknown.
pub(crate) fn ipv6_flow(bytes: &[u8]) -> Option<Flow> {
    if bytes.len() < 40 || bytes[0] >> 4 != 6 {
        return None;
    }
    let address = |at: usize| u128::from_be_bytes(bytes[at..at + 16].try_into().expect("16 octets"));
    let protocol = bytes[6];
    let ports = match protocol {
        0 | 43 | 44 | 60 | 135 => Ports::Unknown,
        protocol if has_ports(protocol) && bytes.len() >= 44 => {
            Ports::Known(word(bytes, 40), word(bytes, 42))
        }
        protocol if has_ports(protocol) => Ports::Unknown,
        _ => Ports::None,
    };
    Some(Flow { source: address(8), destination: address(24), protocol, ports })
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

fn fold_native(mut total: u64) -> u16 {
    while total >> 16 != 0 {
        total = (total & 0xffff) + (total >> 16);
    }
    total as u16
}

/// Folds a sum of sums to 16 bits.
pub(crate) fn fold(total: u64) -> u16 {
    fold_native(total)
}

/// The checksum of an Internet header or message over sums.
pub(crate) fn checksum(total: u64) -> u16 {
    !fold(total)
}

/// Sum of the pseudo-header of TCP and UDP over IPv4, given the IPv4 header and the transport length.
pub(crate) fn pseudo_header_sum(header: &[u8], transport_length: usize) -> u64 {
    sum(&header[12..20]) + u64::from(header[9]) + transport_length as u64
}

/// Computes the header checksum anew.
pub(crate) fn set_header_checksum(header: &mut [u8]) {
    put_word(header, 10, 0);
    let value = checksum(sum(header));
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
            if let Some(packet) = Ipv4::parse(&bytes) {
                let _ = (packet.flow(), packet.quoted().map(|quoted| quoted.flow()));
            }
            let _ = ipv6_flow(&bytes);
        }
    }

    #[test]
    fn packets_longer_than_the_frame_are_refused() {
        let mut bytes = [0u8; 24];
        bytes[0] = 0x45;
        bytes[3] = 24;
        assert!(Ipv4::parse(&bytes).is_some());
        bytes[3] = 25;
        assert!(Ipv4::parse(&bytes).is_none());
        bytes[3] = 19;
        assert!(Ipv4::parse(&bytes).is_none());
        bytes[0] = 0x47;
        bytes[3] = 24;
        assert!(Ipv4::parse(&bytes).is_none());
    }
}
