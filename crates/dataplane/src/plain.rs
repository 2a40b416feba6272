//! The packets that nearly all are, TCP and UDP without options, extension headers and fragments, read in a few loads.
//!
//! Says nothing that [`Packet`](crate::ip::Packet) and its flow would not say: where a packet is not of this kind the caller
//! asks those.

use crate::flow_cache::CacheKey;
use crate::ip::{
    IPV4_LENGTH, IPV6_LENGTH, PROTOCOL_TCP, PROTOCOL_UDP, Version, eight, long, mapped, tos, wide,
};

/// Octets of the upper layer that have to be there: up to the flags of TCP; a UDP header.
const TCP_LENGTH: usize = 14;
const UDP_LENGTH: usize = 8;
const FIN_OR_RST: u8 = 0x05;

/// What is asked of each packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Plain {
    /// Octets of the packet; there may be padding behind it.
    pub(crate) length: usize,
    pub(crate) protocol: u8,
    /// TOS or traffic class.
    pub(crate) tos: u8,
    /// A TCP segment with FIN or RST.
    pub(crate) closes: bool,
    pub(crate) addresses: Addresses,
    /// Source above, destination below.
    ports: u32,
}

/// Source and destination, as comparable as possible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addresses {
    /// Source above, destination below.
    V4(u64),
    V6(u128, u128),
}

impl Plain {
    /// The packet at the start of `bytes`, if it is of the version and that plain.
    #[inline(always)]
    pub(crate) fn parse(version: Version, bytes: &[u8]) -> Option<Self> {
        match version {
            Version::V4 => Self::parse_v4(bytes),
            Version::V6 => Self::parse_v6(bytes),
        }
    }

    #[inline(always)]
    fn parse_v4(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; IPV4_LENGTH + TCP_LENGTH] = bytes.first_chunk()?;
        let (length, addresses) = (length_v4(head)?, Addresses::of(Version::V4, head));
        let upper = head.last_chunk().expect("it is shorter");
        Self::checked(bytes, IPV4_LENGTH, length, head[1], head[9], addresses, upper)
    }

    #[inline(always)]
    fn parse_v6(bytes: &[u8]) -> Option<Self> {
        let head: &[u8; IPV6_LENGTH + TCP_LENGTH] = bytes.first_chunk()?;
        let (length, addresses) = (length_v6(head)?, Addresses::of(Version::V6, head));
        let upper = head.last_chunk().expect("it is shorter");
        Self::checked(bytes, IPV6_LENGTH, length, tos(Version::V6, head), head[6], addresses, upper)
    }

    /// `None` where the protocol is another or something is missing.
    #[inline(always)]
    fn checked(
        bytes: &[u8],
        header_length: usize,
        length: usize,
        tos: u8,
        protocol: u8,
        addresses: Addresses,
        upper: &[u8; TCP_LENGTH],
    ) -> Option<Self> {
        let (least, closes) = match protocol {
            PROTOCOL_TCP => (TCP_LENGTH, upper[13] & FIN_OR_RST != 0),
            PROTOCOL_UDP => (UDP_LENGTH, false),
            _ => return None,
        };
        let fits = length >= header_length + least && length <= bytes.len();
        fits.then_some(Self { length, protocol, tos, closes, addresses, ports: long(upper, 0) })
    }

    /// The key of the packet's flow.
    #[inline(always)]
    pub(crate) fn key(&self, context: u64) -> CacheKey {
        CacheKey::with_ports(self.addresses, self.protocol, self.ports.into(), context)
    }

    /// As a [`Flow`](crate::classifier::Flow) has it.
    #[inline]
    pub(crate) fn destination(&self) -> u128 {
        match self.addresses {
            Addresses::V4(both) => mapped(both as u32),
            Addresses::V6(_, destination) => destination,
        }
    }
}

/// The length of a packet of the protocol right behind an IP header without options, with at least so many octets there.
#[inline(always)]
pub(crate) fn length_of(version: Version, protocol: u8, least: usize, bytes: &[u8]) -> Option<usize> {
    let (length, found) = match version {
        Version::V4 => {
            let head: &[u8; IPV4_LENGTH] = bytes.first_chunk()?;
            (length_v4(head)?, head[9])
        }
        Version::V6 => {
            let head: &[u8; IPV6_LENGTH] = bytes.first_chunk()?;
            (length_v6(head)?, head[6])
        }
    };
    let fits = found == protocol && length >= version.header_length() + least && length <= bytes.len();
    fits.then_some(length)
}

/// The length that a header without options says.
#[inline(always)]
fn length_v4(head: &[u8]) -> Option<usize> {
    /// Version and header length; "more fragments" and the fragment's offset.
    const LOOKED_AT: u64 = 0xff00_0000_0000_3fff;
    const WITHOUT_OPTIONS: u64 = 0x4500_0000_0000_0000;
    let first = eight(head, 0);
    (first & LOOKED_AT == WITHOUT_OPTIONS).then_some(usize::from((first >> 32) as u16))
}

#[inline(always)]
fn length_v6(head: &[u8]) -> Option<usize> {
    let first = eight(head, 0);
    (first >> 60 == 6).then_some(IPV6_LENGTH + usize::from((first >> 16) as u16))
}

impl Addresses {
    /// Of the header at the start of `bytes`, which is whole.
    #[inline(always)]
    pub(crate) fn of(version: Version, bytes: &[u8]) -> Self {
        match version {
            Version::V4 => Self::V4(eight(bytes, 12)),
            Version::V6 => Self::V6(wide(bytes, 8), wide(bytes, 24)),
        }
    }
}
