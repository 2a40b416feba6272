//! A packet of either IP version.

use std::net::IpAddr;

use crate::codec::{Error, Result, Violation};

use super::{Ipv4Packet, Ipv6Packet, protocol};

/// Source and destination port.
pub type Ports = (u16, u16);

/// What policies look at: addresses, protocol, ports. Lengths have been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPacket<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Protocol of the payload. Extension headers are no payload.
    pub protocol: u8,
    /// The payload.
    pub payload: &'a [u8],
    /// Octets before the payload.
    pub header_length: usize,
    /// Offset in octets and "more fragments", if the packet is a fragment.
    pub fragment: Option<(usize, bool)>,
}

impl<'a> IpPacket<'a> {
    /// Reads a packet of the version that its first four bits say.
    pub fn parse(octets: &'a [u8]) -> Result<Self> {
        match octets.first().map(|first| first >> 4) {
            Some(4) => {
                let packet = Ipv4Packet::parse(octets)?;
                let header = packet.header;
                Ok(Self {
                    source: header.source().into(),
                    destination: header.destination().into(),
                    protocol: header.protocol,
                    payload: packet.payload,
                    header_length: header.header_length(),
                    fragment: header
                        .is_fragment()
                        .then(|| (header.fragment_offset(), header.more_fragments())),
                })
            }
            Some(6) => {
                let packet = Ipv6Packet::parse(octets)?;
                let payload = packet.payload()?;
                Ok(Self {
                    source: packet.header.source().into(),
                    destination: packet.header.destination().into(),
                    protocol: payload.protocol,
                    payload: payload.octets,
                    header_length: super::Ipv6Header::LENGTH + payload.extensions_length,
                    fragment: payload.fragment.map(|(header, _)| (header.offset(), header.more_fragments())),
                })
            }
            Some(_) => {
                Err(Error { violation: Violation::UnsupportedVersion, field: "IP version", offset: 0 })
            }
            None => Err(Error { violation: Violation::Truncated, field: "IP version", offset: 0 }),
        }
    }

    /// Whether the packet is a fragment without the beginning of its payload.
    pub fn is_later_fragment(&self) -> bool {
        matches!(self.fragment, Some((offset, _)) if offset != 0)
    }

    /// The ports, if the protocol has them and this packet shows them.
    pub fn ports(&self) -> Option<Ports> {
        let has_ports =
            matches!(self.protocol, protocol::TCP | protocol::UDP | protocol::SCTP | protocol::UDP_LITE);
        match self.payload {
            [a, b, c, d, ..] if has_ports && !self.is_later_fragment() => {
                Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hex_literal::hex;

    const TELNET: [u8; 24] = hex!("45000018 00010000 40060000 0a010101 14010101 04000017");

    #[test]
    fn ports_are_shown_by_first_fragments_only() {
        let mut octets = TELNET;
        assert_eq!(IpPacket::parse(&octets).unwrap().ports(), Some((1024, 23)));
        octets[6] = 0x20;
        assert_eq!(IpPacket::parse(&octets).unwrap().ports(), Some((1024, 23)));
        octets[7] = 1;
        let packet = IpPacket::parse(&octets).unwrap();
        assert_eq!((packet.ports(), packet.fragment), (None, Some((8, true))));
        octets = TELNET;
        octets[9] = 1;
        assert_eq!(IpPacket::parse(&octets).unwrap().ports(), None);
    }

    #[test]
    fn other_versions_are_refused() {
        assert!(IpPacket::parse(&[]).is_err());
        assert_eq!(IpPacket::parse(&[0x55; 40]).unwrap_err().violation, Violation::UnsupportedVersion);
    }
}
