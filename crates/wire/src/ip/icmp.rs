//! ICMP (RFC 792, RFC 1191) and ICMPv6 (RFC 4443) headers.

use zerocopy::byteorder::network_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// The first eight octets of an ICMP or ICMPv6 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    /// Type: see [`icmp_type`] and [`icmpv6_type`].
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Checksum; of ICMPv6, over the pseudo header as well.
    pub checksum: U16,
    /// What the type makes of it: the MTU in the lower 16 bits (ICMP) or all 32 (ICMPv6), or identifier and sequence.
    pub rest: U32,
}

const _: () = assert!(size_of::<IcmpHeader>() == IcmpHeader::LENGTH);

impl IcmpHeader {
    /// Octets of the header.
    pub const LENGTH: usize = 8;

    /// Whether an ICMP message with this type quotes the packet that it is about.
    pub fn is_icmp_error(&self) -> bool {
        matches!(
            self.kind,
            icmp_type::DESTINATION_UNREACHABLE
                | icmp_type::SOURCE_QUENCH
                | icmp_type::REDIRECT
                | icmp_type::TIME_EXCEEDED
                | icmp_type::PARAMETER_PROBLEM
        )
    }

    /// Whether an ICMPv6 message with this type quotes the packet that it is about.
    pub fn is_icmpv6_error(&self) -> bool {
        self.kind < 128
    }
}

/// ICMP types and codes.
pub mod icmp_type {
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 0;
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 3;
    /// Code of "destination unreachable": fragmentation needed and DF set.
    pub const FRAGMENTATION_NEEDED: u8 = 4;
    /// Source quench.
    pub const SOURCE_QUENCH: u8 = 4;
    /// Redirect.
    pub const REDIRECT: u8 = 5;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 8;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 11;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 12;
}

/// ICMPv6 types.
pub mod icmpv6_type {
    /// Destination unreachable.
    pub const DESTINATION_UNREACHABLE: u8 = 1;
    /// Packet too big.
    pub const PACKET_TOO_BIG: u8 = 2;
    /// Time exceeded.
    pub const TIME_EXCEEDED: u8 = 3;
    /// Parameter problem.
    pub const PARAMETER_PROBLEM: u8 = 4;
    /// Echo request.
    pub const ECHO_REQUEST: u8 = 128;
    /// Echo reply.
    pub const ECHO_REPLY: u8 = 129;
    /// First type of neighbour discovery: router solicitation.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Last type of neighbour discovery: redirect.
    pub const REDIRECT: u8 = 137;
}
