//! Views of IP, UDP, TCP and ICMP headers for the packet path: fixed-size, unaligned, read and written in place.

mod checksum;
mod icmp;
mod link;
mod packet;
mod transport;
mod v4;
mod v6;

pub use checksum::{Checksum, checksum, checksum_update, checksum_update_u32, pseudo_header};
pub use icmp::{IcmpHeader, icmp_type, icmpv6_type};
pub use link::LinkType;
pub use packet::{IpPacket, Ports};
pub use transport::{TcpHeader, UdpHeader};
pub use v4::{Ipv4Header, Ipv4Packet};
pub use v6::{FragmentHeader, Ipv6Header, Ipv6Packet, Ipv6Payload};

/// IP protocol numbers that the packet path looks at.
/// <https://www.iana.org/assignments/protocol-numbers>
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// IPv4 in IP.
    pub const IPV4: u8 = 4;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 in IP.
    pub const IPV6: u8 = 41;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// Encapsulating Security Payload.
    pub const ESP: u8 = 50;
    /// Authentication Header.
    pub const AH: u8 = 51;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6: no next header.
    pub const NO_NEXT_HEADER: u8 = 59;
    /// IPv6 destination options.
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// OSPF.
    pub const OSPF: u8 = 89;
    /// PIM.
    pub const PIM: u8 = 103;
    /// VRRP.
    pub const VRRP: u8 = 112;
    /// SCTP.
    pub const SCTP: u8 = 132;
    /// UDP-Lite.
    pub const UDP_LITE: u8 = 136;
    /// Mobility header.
    pub const MOBILITY: u8 = 135;
    /// Use for experimentation and testing; IP-D3P in ESP.
    pub const EXPERIMENT_253: u8 = 253;
}
