//! Vectors as octets.

use std::path::{Path, PathBuf};

use pcap_parser::{Linktype, PcapBlockOwned, PcapError, create_reader};
use wire::ip::{IpPacket, LinkType, UdpHeader, protocol};

/// The path of a vector.
pub fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name)
}

/// A vector in JSON.
pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_str(&std::fs::read_to_string(path(name)).unwrap()).unwrap()
}

/// Octets of a JSON string of hexadecimal digits.
pub fn hex(value: &serde_json::Value) -> Vec<u8> {
    let digits = value.as_str().unwrap();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

/// The IP packets of a capture.
pub fn packets(name: &str) -> Vec<Vec<u8>> {
    let file = std::fs::File::open(path(name)).unwrap();
    let mut reader = create_reader(1 << 20, file).unwrap();
    let mut link_type = Linktype::ETHERNET;
    let mut packets = Vec::new();
    let mut add = |link_type: Linktype, data: &[u8]| {
        packets.extend(LinkType(link_type.0).ip_packet(data).map(<[u8]>::to_vec));
    };
    loop {
        match reader.next() {
            Ok((consumed, block)) => {
                match block {
                    PcapBlockOwned::LegacyHeader(header) => link_type = header.network,
                    PcapBlockOwned::Legacy(block) => add(link_type, block.data),
                    PcapBlockOwned::NG(pcap_parser::Block::InterfaceDescription(block)) => {
                        link_type = block.linktype;
                    }
                    PcapBlockOwned::NG(pcap_parser::Block::EnhancedPacket(block)) => {
                        add(link_type, block.data)
                    }
                    PcapBlockOwned::NG(_) => {}
                }
                reader.consume(consumed);
            }
            Err(PcapError::Incomplete(_)) => reader.refill().unwrap(),
            // Some of the malformed captures are malformed as captures, too.
            Err(_) => return packets,
        }
    }
}

/// The payloads of the UDP datagrams of a capture.
pub fn datagrams(name: &str) -> Vec<Vec<u8>> {
    let datagram = |packet: Vec<u8>| {
        let packet = IpPacket::parse(&packet).ok()?;
        (packet.protocol == protocol::UDP).then_some(())?;
        Some(UdpHeader::split(packet.payload).ok()?.1.to_vec())
    };
    packets(name).into_iter().filter_map(datagram).collect()
}
