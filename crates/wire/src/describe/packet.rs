//! What carries messages: UDP datagrams, IP packets, captured frames; and ESP.

use std::net::SocketAddr;

use crate::esp::EspHeader;
use crate::ip::{IcmpHeader, IpPacket, LinkType, UdpHeader, protocol};
use crate::non_esp;
use crate::text::Hex;

use super::{Text, write_message};

/// Ports on which ISAKMP messages are expected: IKE, GDOI, IKE with NAT traversal.
const ISAKMP_PORTS: [u16; 3] = [500, 848, NAT_TRAVERSAL_PORT];

/// Port on which ESP and ISAKMP messages with a non-ESP marker share a port (RFC 3948).
const NAT_TRAVERSAL_PORT: u16 = 4500;

/// Packets quoted in one another, as an ICMP error or a tunnel without encryption has them.
const MAXIMUM_NESTING: usize = 4;

/// The payload of a UDP datagram between two ports.
pub fn datagram(source_port: u16, destination_port: u16, payload: &[u8]) -> String {
    let mut text = Text::default();
    write_datagram(&mut text, source_port, destination_port, payload);
    text.finish()
}

/// An IPv4 or IPv6 packet.
pub fn packet(octets: &[u8]) -> String {
    let mut text = Text::default();
    write_packet(&mut text, octets, 0);
    text.finish()
}

/// A captured frame.
pub fn frame(link_type: LinkType, octets: &[u8]) -> String {
    let mut text = Text::default();
    match link_type.ip_packet(octets) {
        Some(packet) => write_packet(&mut text, packet, 0),
        None => text.line(format_args!("frame of {} octets, not IP", octets.len())),
    }
    text.finish()
}

fn write_datagram(text: &mut Text, source_port: u16, destination_port: u16, payload: &[u8]) {
    let expected = |port| ISAKMP_PORTS.contains(&port);
    if !expected(source_port) && !expected(destination_port) {
        return text.line(format_args!("data: {} octets", payload.len()));
    }
    let (marker, message) = non_esp::strip(payload);
    if marker {
        text.line(format_args!("non-ESP marker"));
        return write_message(text, message);
    }
    if source_port == NAT_TRAVERSAL_PORT || destination_port == NAT_TRAVERSAL_PORT {
        return match payload {
            [0xff] => text.line(format_args!("NAT keepalive")),
            _ => write_esp(text, payload),
        };
    }
    write_message(text, payload);
}

fn write_packet(text: &mut Text, octets: &[u8], nesting: usize) {
    let packet = match IpPacket::parse(octets) {
        Ok(packet) => packet,
        Err(error) => {
            text.line(format_args!("IP packet, {} octets", octets.len()));
            return text.indented(|text| {
                text.malformed(error);
                text.line(format_args!("{}", Hex(octets)));
            });
        }
    };
    let version = if packet.source.is_ipv4() { "IPv4" } else { "IPv6" };
    let protocol = protocol_name(packet.protocol);
    text.line(format_args!("{version} {} -> {}, {protocol}", packet.source, packet.destination));
    text.indented(|text| {
        if let Some((offset, more)) = packet.fragment {
            let last = if more { "more follow" } else { "the last" };
            text.line(format_args!("fragment at {offset}, {last}"));
            if offset != 0 {
                return text.line(format_args!("data: {} octets", packet.payload.len()));
            }
        }
        match packet.protocol {
            protocol::UDP => match UdpHeader::split(packet.payload) {
                Ok((header, payload)) => {
                    let (source, destination) = (header.source_port.get(), header.destination_port.get());
                    text.line(format_args!(
                        "UDP {} -> {}",
                        SocketAddr::new(packet.source, source),
                        SocketAddr::new(packet.destination, destination)
                    ));
                    text.indented(|text| write_datagram(text, source, destination, payload));
                }
                Err(error) => text.malformed(error),
            },
            protocol::ESP => write_esp(text, packet.payload),
            protocol::ICMP | protocol::ICMPV6 => write_icmp(text, &packet, nesting),
            protocol::IPV4 | protocol::IPV6 if nesting < MAXIMUM_NESTING => {
                write_packet(text, packet.payload, nesting + 1);
            }
            _ => {
                if let Some((source, destination)) = packet.ports() {
                    text.line(format_args!("ports {source} -> {destination}"));
                }
                text.line(format_args!("data: {} octets", packet.payload.len()));
            }
        }
    });
}

fn write_icmp(text: &mut Text, packet: &IpPacket<'_>, nesting: usize) {
    let Ok((header, rest)) = <IcmpHeader as zerocopy::FromBytes>::ref_from_prefix(packet.payload) else {
        return text.line(format_args!("ICMP cut off, {} octets", packet.payload.len()));
    };
    text.line(format_args!("type {}, code {}, 0x{:08x}", header.kind, header.code, header.rest.get()));
    let is_error =
        if packet.protocol == protocol::ICMP { header.is_icmp_error() } else { header.is_icmpv6_error() };
    if is_error && nesting < MAXIMUM_NESTING {
        text.line(format_args!("about:"));
        // A quoted packet is cut off by design, so that a malformed one is no more than that.
        text.indented(|text| write_packet(text, rest, nesting + 1));
    } else {
        text.line(format_args!("data: {} octets", rest.len()));
    }
}

fn write_esp(text: &mut Text, octets: &[u8]) {
    match EspHeader::split(octets) {
        Ok((header, rest)) => {
            let (spi, sequence) = (header.spi.get(), header.sequence.get());
            text.line(format_args!(
                "ESP SPI 0x{spi:08x}, sequence {sequence}, encrypted, {} octets",
                rest.len()
            ));
        }
        Err(error) => text.malformed(error),
    }
}

fn protocol_name(protocol: u8) -> String {
    let name = match protocol {
        protocol::ICMP => "ICMP",
        protocol::IGMP => "IGMP",
        protocol::IPV4 => "IPv4",
        protocol::TCP => "TCP",
        protocol::UDP => "UDP",
        protocol::IPV6 => "IPv6",
        protocol::ESP => "ESP",
        protocol::AH => "AH",
        protocol::ICMPV6 => "ICMPv6",
        protocol::OSPF => "OSPF",
        protocol::PIM => "PIM",
        protocol::VRRP => "VRRP",
        protocol::SCTP => "SCTP",
        _ => return format!("protocol {protocol}"),
    };
    name.to_owned()
}
