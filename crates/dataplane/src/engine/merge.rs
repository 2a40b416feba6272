//! Merges consecutive TCP segments and UDP datagrams of a batch into super-frames, which the kernel takes at the cost of
//! one packet.
//!
//! The rules are those of the kernel's own receive offload: what would be cut out of the super-frame again is, but for
//! the identification of packets that must not be fragmented, exactly what came in. Packets of one flow stay in order.

use std::ops::Range;

use crate::frame::FrameIndex;
use crate::ip::{
    self, DONT_FRAGMENT, ETHERNET_LENGTH, PROTOCOL_TCP, PROTOCOL_UDP, Packet, Version, long,
    pseudo_header_sum, put_word, set_length, sum, word,
};
use crate::{FrameBuffer, InterfaceId, VnetHeader};

/// Flows with a super-frame under construction at a time; more interleaved flows than this merge less.
const OPEN_FLOWS: usize = 16;
/// Octets of the largest packet, IPv4 or IPv6 without its header.
const LARGEST: usize = 65535;
/// As Linux' `UDP_GRO_CNT_MAX`.
const MOST_DATAGRAMS: u32 = 64;
const UDP_LENGTH: usize = 8;
const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;
const NONE: u32 = u32::MAX;

/// Makes frames of a batch's packets where they are in the output's memory, and merges those that can be.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// Merge datagrams too: older kernels do not take the result.
    pub(super) merges_udp: bool,
    packets: Vec<Collected>,
    open: Vec<OpenFlow>,
}

/// One packet that can be merged, or the first of several that are.
#[derive(Clone, Debug)]
struct Collected {
    /// Behind an Ethernet header.
    packet: Range<usize>,
    version: Version,
    protocol: u8,
    /// Octets of IP and transport header.
    header_length: usize,
    /// The packet that continues this one.
    next: u32,
    /// Of a packet that continues none.
    frame: Option<FrameIndex>,
}

/// A super-frame that can still grow.
#[derive(Clone, Copy, Debug)]
struct OpenFlow {
    key: FlowKey,
    first: u32,
    last: u32,
    /// Of TCP.
    next_sequence: u32,
    segment_size: usize,
    length: usize,
    count: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FlowKey {
    interface: InterfaceId,
    version: Version,
    protocol: u8,
    source: u128,
    destination: u128,
    ports: u32,
}

impl Merger {
    /// Packets of the protocol are merged.
    #[inline]
    pub(super) fn merges(&self, protocol: u8) -> bool {
        protocol == PROTOCOL_TCP || protocol == PROTOCOL_UDP && self.merges_udp
    }

    /// Makes a frame of a packet in the output's memory that has an Ethernet header in front, or adds it to one.
    pub(super) fn push(
        &mut self,
        interface: InterfaceId,
        version: Version,
        packet: Range<usize>,
        output: &mut FrameBuffer,
    ) {
        let index = self.packets.len() as u32;
        let memory = output.arena();
        let bytes = &memory[packet.clone()];
        let mut collected = None;
        if let Some(key) = self.flow_of(interface, version, bytes) {
            let position = self.open.iter().position(|flow| flow.key == key);
            match mergeable(&key, bytes) {
                None => {
                    // Not to be overtaken by later packets of its flow.
                    position.map(|position| self.open.swap_remove(position));
                }
                Some(header_length) => {
                    let is_first = !self.append(position, memory, bytes, header_length, index);
                    if is_first {
                        self.begin(key, bytes, header_length, index);
                    }
                    collected = Some((header_length, key.protocol, is_first));
                }
            }
        }
        let mut frame = || output.push_reserved(interface, packet.start - ETHERNET_LENGTH..packet.end);
        match collected {
            None => _ = frame(),
            Some((header_length, protocol, is_first)) => {
                let frame = is_first.then(frame);
                self.packets.push(Collected { packet, version, protocol, header_length, next: NONE, frame });
            }
        }
    }

    /// The flow of a packet whose protocol is merged. Fragments and packets with options or extension headers are in none.
    fn flow_of(&self, interface: InterfaceId, version: Version, bytes: &[u8]) -> Option<FlowKey> {
        let packet = Packet::parse(version, bytes)?;
        let protocol = packet.protocol();
        let least = if protocol == PROTOCOL_TCP { 20 } else { UDP_LENGTH };
        let is_merged = self.merges(protocol) && packet.payload().len() >= least;
        let is_plain = packet.header_length == version.header_length() && !packet.is_fragment();
        (is_merged && is_plain).then(|| FlowKey {
            interface,
            version,
            protocol,
            source: packet.source(),
            destination: packet.destination(),
            ports: long(packet.payload(), 0),
        })
    }

    /// Continues the flow's super-frame, if the packet does; closes it otherwise.
    fn append(
        &mut self,
        position: Option<usize>,
        memory: &[u8],
        bytes: &[u8],
        header_length: usize,
        index: u32,
    ) -> bool {
        let Some(position) = position else { return false };
        let flow = self.open[position];
        let first = &self.packets[flow.first as usize];
        let last = &self.packets[flow.last as usize];
        let payload = bytes.len() - header_length;
        let fits = header_length == first.header_length
            && payload <= flow.segment_size
            && flow.length + payload <= LARGEST
            && same_headers(
                &flow.key,
                &memory[first.packet.clone()],
                &memory[last.packet.clone()],
                bytes,
                header_length,
            )
            && match flow.key.protocol {
                PROTOCOL_TCP => sequence(&flow.key, bytes) == flow.next_sequence,
                _ => flow.count < MOST_DATAGRAMS,
            };
        if !fits {
            self.open.swap_remove(position);
            return false;
        }
        self.packets[flow.last as usize].next = index;
        let flow = &mut self.open[position];
        flow.last = index;
        flow.next_sequence = flow.next_sequence.wrapping_add(payload as u32);
        flow.length += payload;
        flow.count += 1;
        if payload < flow.segment_size || is_pushed(&flow.key, bytes) {
            self.open.swap_remove(position);
        }
        true
    }

    fn begin(&mut self, key: FlowKey, bytes: &[u8], header_length: usize, index: u32) {
        if is_pushed(&key, bytes) {
            return;
        }
        if self.open.len() == OPEN_FLOWS {
            self.open.remove(0);
        }
        let segment_size = bytes.len() - header_length;
        let next_sequence = match key.protocol {
            PROTOCOL_TCP => sequence(&key, bytes).wrapping_add(segment_size as u32),
            _ => 0,
        };
        self.open.push(OpenFlow {
            key,
            first: index,
            last: index,
            next_sequence,
            segment_size,
            length: bytes.len(),
            count: 1,
        });
    }

    /// Puts together what is merged, and starts afresh.
    pub(super) fn flush(&mut self, output: &mut FrameBuffer) {
        for first in self.packets.iter().filter(|packet| packet.next != NONE) {
            if let Some(frame) = first.frame {
                self.write_merged(first, frame, output);
            }
        }
        self.packets.clear();
        self.open.clear();
    }

    fn write_merged(&self, first: &Collected, frame: FrameIndex, output: &mut FrameBuffer) {
        let (version, header_length) = (first.version, first.header_length);
        let ip_length = version.header_length();
        let followers = || {
            let next = |packet: &&Collected| self.packets.get(packet.next as usize);
            std::iter::successors(Some(first), next)
        };
        let payloads: usize = followers().map(|packet| packet.packet.len() - header_length).sum();
        let (gso_type, checksum_offset) = match (first.protocol, version) {
            (PROTOCOL_TCP, Version::V4) => (VnetHeader::GSO_TCPV4, 16),
            (PROTOCOL_TCP, Version::V6) => (VnetHeader::GSO_TCPV6, 16),
            _ => (VnetHeader::GSO_UDP_DATAGRAMS, 6),
        };
        let vnet = VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type,
            header_length: (ETHERNET_LENGTH + header_length) as u16,
            gso_size: (first.packet.len() - header_length) as u16,
            checksum_start: (ETHERNET_LENGTH + ip_length) as u16,
            checksum_offset,
        };
        let length = ETHERNET_LENGTH + header_length + payloads;
        let start = output.reserve(VnetHeader::LENGTH + length) + VnetHeader::LENGTH;
        output.replace(frame, vnet, start..start + length);
        let (memory, behind) = output.arena_mut().split_at_mut(start);
        let (ethernet, packet) = behind[..length].split_at_mut(ETHERNET_LENGTH);
        ethernet.copy_from_slice(&memory[first.packet.start - ETHERNET_LENGTH..][..ETHERNET_LENGTH]);
        let (header, mut rest) = packet.split_at_mut(header_length);
        header.copy_from_slice(&memory[first.packet.start..][..header_length]);
        let mut pushed = 0;
        for one in followers() {
            let bytes = &memory[one.packet.clone()];
            if first.protocol == PROTOCOL_TCP {
                pushed |= bytes[ip_length + 13] & TCP_PSH;
            }
            let (payload, behind) = rest.split_at_mut(bytes.len() - header_length);
            payload.copy_from_slice(&bytes[header_length..]);
            rest = behind;
        }
        let (ip, transport) = header.split_at_mut(ip_length);
        set_length(version, ip, header_length + payloads);
        let length = transport.len() + payloads;
        if first.protocol == PROTOCOL_TCP {
            transport[13] |= pushed;
        } else {
            put_word(transport, 4, length as u16);
        }
        // Only the pseudo-header's sum: the rest is left to whoever cuts or receives the frame.
        let pseudo = ip::fold(pseudo_header_sum(version, ip, first.protocol, length));
        put_word(transport, checksum_offset.into(), pseudo);
    }
}

fn sequence(key: &FlowKey, bytes: &[u8]) -> u32 {
    long(bytes, key.version.header_length() + 4)
}

/// A TCP segment that ends what its sender wants delivered at once.
fn is_pushed(key: &FlowKey, bytes: &[u8]) -> bool {
    key.protocol == PROTOCOL_TCP && bytes[key.version.header_length() + 13] & TCP_PSH != 0
}

/// Octets of IP and transport header of a packet with data, without special flags, whose checksums are right.
fn mergeable(key: &FlowKey, bytes: &[u8]) -> Option<usize> {
    let (header, transport) = bytes.split_at(key.version.header_length());
    let transport_length = match key.protocol {
        PROTOCOL_TCP => {
            let length = usize::from(transport[12] >> 4) * 4;
            let plain = transport[12] & 0x0f == 0 && transport[13] & !TCP_PSH == TCP_ACK && length >= 20;
            plain.then_some(length)?
        }
        _ => {
            let with_checksum = word(transport, 6) != 0;
            (with_checksum && usize::from(word(transport, 4)) == transport.len()).then_some(UDP_LENGTH)?
        }
    };
    let header_is_right = key.version == Version::V6 || ip::fold(sum(header)) == 0xffff;
    let pseudo = pseudo_header_sum(key.version, header, key.protocol, transport.len());
    let plain =
        transport.len() > transport_length && header_is_right && ip::fold(pseudo + sum(transport)) == 0xffff;
    plain.then_some(header.len() + transport_length)
}

/// The headers differ only in what cutting a super-frame sets: lengths, sequence number, identification, checksums, PSH.
fn same_headers(key: &FlowKey, first: &[u8], last: &[u8], bytes: &[u8], header_length: usize) -> bool {
    let same = |range: Range<usize>| first[range.clone()] == bytes[range];
    let same_ip = match key.version {
        Version::V4 => {
            let flags = word(bytes, 6);
            let counted = flags & DONT_FRAGMENT != 0 || word(bytes, 4) == word(last, 4).wrapping_add(1);
            // TOS; DF; TTL.
            counted && same(1..2) && same(6..9)
        }
        // Traffic class and flow label; hop limit.
        Version::V6 => same(0..4) && same(7..8),
    };
    let at = key.version.header_length();
    // Acknowledgement, offset; window; urgent pointer and options.
    let same_tcp = || same(at + 8..at + 13) && same(at + 14..at + 16) && same(at + 18..header_length);
    same_ip && (key.protocol != PROTOCOL_TCP || same_tcp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_segment_is_passed_on_as_it_is() {
        let mut merger = Merger::default();
        let mut frame = vec![7; ETHERNET_LENGTH];
        frame.extend_from_slice(&[
            0x45, 0, 0, 24, 0, 0, 0, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4,
        ]);
        let mut output = FrameBuffer::new();
        let start = output.reserve(VnetHeader::LENGTH + frame.len()) + VnetHeader::LENGTH;
        output.arena_mut()[start..][..frame.len()].copy_from_slice(&frame);
        merger.push(InterfaceId(1), Version::V4, start + ETHERNET_LENGTH..start + frame.len(), &mut output);
        merger.flush(&mut output);
        assert_eq!(output.iter().next().unwrap().bytes(), frame);
        assert_eq!(output.len(), 1);
    }
}
