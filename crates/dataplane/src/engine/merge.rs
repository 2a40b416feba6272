//! Merges consecutive TCP segments of a batch into super-frames, which the kernel takes at the cost of one packet.
//!
//! The rules are those of the kernel's own receive offload: what would be cut out of the super-frame again is, but for
//! the identification of packets that must not be fragmented, exactly what came in. Packets of one flow stay in order.

use std::ops::Range;

use crate::ip::{
    self, DONT_FRAGMENT, ETHERNET_LENGTH, IPV4_LENGTH, Ipv4, PROTOCOL_TCP, long, pseudo_header_sum, put_word,
    set_header_checksum, sum, word,
};
use crate::{Destination, FrameBuffer, InterfaceId, VnetHeader};

/// Flows with a super-frame under construction at a time; more interleaved flows than this merge less.
const OPEN_FLOWS: usize = 16;
/// Largest IPv4 packet.
const LARGEST: usize = 65535;
const TCP_ACK: u8 = 0x10;
const TCP_PSH: u8 = 0x08;
const NONE: u32 = u32::MAX;

/// Collects a batch's packets and writes them out, merged.
#[derive(Debug, Default)]
pub(super) struct Merger {
    packets: Vec<Collected>,
    open: Vec<OpenFlow>,
}

/// One packet, or the first of several that are merged.
#[derive(Clone, Debug)]
struct Collected {
    interface: InterfaceId,
    /// The Ethernet header, in the memory that the caller reads from.
    ethernet: usize,
    packet: Range<usize>,
    /// Octets of IP and TCP header; 0 where the packet is not a segment that can be merged.
    header_length: usize,
    /// The packet that continues this one.
    next: u32,
    is_first: bool,
}

/// A super-frame that can still grow.
#[derive(Clone, Copy, Debug)]
struct OpenFlow {
    key: FlowKey,
    first: u32,
    last: u32,
    next_sequence: u32,
    segment_size: usize,
    length: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FlowKey {
    interface: InterfaceId,
    source: u32,
    destination: u32,
    ports: u32,
}

impl Merger {
    /// Appends a packet that lies at `packet` in `memory`, behind an Ethernet header at `ethernet` somewhere before it.
    pub(super) fn push(
        &mut self,
        interface: InterfaceId,
        memory: &[u8],
        ethernet: usize,
        packet: Range<usize>,
    ) {
        let index = self.packets.len() as u32;
        let bytes = &memory[packet.clone()];
        let mut collected = Collected {
            interface,
            ethernet,
            packet: packet.clone(),
            header_length: 0,
            next: NONE,
            is_first: true,
        };
        if let Some(key) = tcp_flow(interface, bytes) {
            let position = self.open.iter().position(|flow| flow.key == key);
            match mergeable_segment(bytes) {
                None => {
                    // Not to be overtaken by later segments of its flow.
                    position.map(|position| self.open.swap_remove(position));
                }
                Some(header_length) => {
                    collected.header_length = header_length;
                    collected.is_first = !self.append(position, memory, bytes, header_length, index);
                    if collected.is_first {
                        self.begin(key, bytes, header_length, index);
                    }
                }
            }
        }
        self.packets.push(collected);
    }

    /// Continues the flow's super-frame, if the segment does; closes it otherwise.
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
        let fits = long(bytes, IPV4_LENGTH + 4) == flow.next_sequence
            && header_length == first.header_length
            && payload <= flow.segment_size
            && flow.length + payload <= LARGEST
            && same_headers(
                &memory[first.packet.clone()],
                &memory[last.packet.clone()],
                bytes,
                header_length,
            );
        if !fits {
            self.open.swap_remove(position);
            return false;
        }
        self.packets[flow.last as usize].next = index;
        let flow = &mut self.open[position];
        flow.last = index;
        flow.next_sequence = flow.next_sequence.wrapping_add(payload as u32);
        flow.length += payload;
        if payload < flow.segment_size || bytes[IPV4_LENGTH + 13] & TCP_PSH != 0 {
            self.open.swap_remove(position);
        }
        true
    }

    fn begin(&mut self, key: FlowKey, bytes: &[u8], header_length: usize, index: u32) {
        if bytes[IPV4_LENGTH + 13] & TCP_PSH != 0 {
            return;
        }
        if self.open.len() == OPEN_FLOWS {
            self.open.remove(0);
        }
        let segment_size = bytes.len() - header_length;
        self.open.push(OpenFlow {
            key,
            first: index,
            last: index,
            next_sequence: long(bytes, IPV4_LENGTH + 4).wrapping_add(segment_size as u32),
            segment_size,
            length: bytes.len(),
        });
    }

    /// Writes everything out and starts afresh.
    pub(super) fn flush(&mut self, memory: &[u8], output: &mut FrameBuffer) {
        for first in self.packets.iter().filter(|packet| packet.is_first) {
            if first.next == NONE {
                self.write_single(first, memory, output);
            } else {
                self.write_merged(first, memory, output);
            }
        }
        self.packets.clear();
        self.open.clear();
    }

    fn write_single(&self, packet: &Collected, memory: &[u8], output: &mut FrameBuffer) {
        let length = ETHERNET_LENGTH + packet.packet.len();
        let (_, frame) = output.push(packet.interface, Destination::Inject, VnetHeader::default(), length);
        let (ethernet, ip) = frame.split_at_mut(ETHERNET_LENGTH);
        ethernet.copy_from_slice(&memory[packet.ethernet..][..ETHERNET_LENGTH]);
        ip.copy_from_slice(&memory[packet.packet.clone()]);
    }

    fn write_merged(&self, first: &Collected, memory: &[u8], output: &mut FrameBuffer) {
        let header_length = first.header_length;
        let followers = || {
            let next = |packet: &&Collected| self.packets.get(packet.next as usize);
            std::iter::successors(Some(first), next)
        };
        let payloads: usize = followers().map(|packet| packet.packet.len() - header_length).sum();
        let vnet = VnetHeader {
            flags: VnetHeader::NEEDS_CHECKSUM,
            gso_type: VnetHeader::GSO_TCPV4,
            header_length: (ETHERNET_LENGTH + header_length) as u16,
            gso_size: (first.packet.len() - header_length) as u16,
            checksum_start: (ETHERNET_LENGTH + IPV4_LENGTH) as u16,
            checksum_offset: 16,
        };
        let length = ETHERNET_LENGTH + header_length + payloads;
        let (_, frame) = output.push(first.interface, Destination::Inject, vnet, length);
        let (ethernet, packet) = frame.split_at_mut(ETHERNET_LENGTH);
        ethernet.copy_from_slice(&memory[first.ethernet..][..ETHERNET_LENGTH]);
        let (header, mut rest) = packet.split_at_mut(header_length);
        header.copy_from_slice(&memory[first.packet.start..][..header_length]);
        let mut pushed = 0;
        for one in followers() {
            let bytes = &memory[one.packet.clone()];
            pushed |= bytes[IPV4_LENGTH + 13] & TCP_PSH;
            let (payload, behind) = rest.split_at_mut(bytes.len() - header_length);
            payload.copy_from_slice(&bytes[header_length..]);
            rest = behind;
        }
        let (ip, tcp) = header.split_at_mut(IPV4_LENGTH);
        put_word(ip, 2, (header_length + payloads) as u16);
        set_header_checksum(ip);
        tcp[13] |= pushed;
        // Only the pseudo-header's sum: the rest is left to whoever cuts or receives the frame.
        put_word(tcp, 16, ip::fold(pseudo_header_sum(ip, tcp.len() + payloads)));
    }
}

/// The flow of a TCP packet, whatever its flags. Fragments and packets with IP options are in no flow.
fn tcp_flow(interface: InterfaceId, bytes: &[u8]) -> Option<FlowKey> {
    let packet = Ipv4::parse(bytes)?;
    let is_plain = packet.protocol() == PROTOCOL_TCP
        && packet.header_length == IPV4_LENGTH
        && !packet.is_fragment()
        && packet.payload().len() >= 20;
    is_plain.then(|| FlowKey {
        interface,
        source: packet.source(),
        destination: packet.destination(),
        ports: long(packet.payload(), 0),
    })
}

/// Octets of IP and TCP header of a data segment without special flags whose checksums are right.
fn mergeable_segment(bytes: &[u8]) -> Option<usize> {
    let (header, tcp) = bytes.split_at(IPV4_LENGTH);
    let tcp_length = usize::from(tcp[12] >> 4) * 4;
    let plain = tcp[12] & 0x0f == 0
        && tcp[13] & !TCP_PSH == TCP_ACK
        && tcp_length >= 20
        && tcp.len() > tcp_length
        && ip::fold(sum(header)) == 0xffff
        && ip::fold(pseudo_header_sum(header, tcp.len()) + sum(tcp)) == 0xffff;
    plain.then_some(IPV4_LENGTH + tcp_length)
}

/// The headers differ only in what cutting a super-frame sets: lengths, sequence number, identification, checksums, PSH.
fn same_headers(first: &[u8], last: &[u8], bytes: &[u8], header_length: usize) -> bool {
    let flags = word(bytes, 6);
    let counted = flags & DONT_FRAGMENT != 0 || word(bytes, 4) == word(last, 4).wrapping_add(1);
    // TOS; DF; TTL. Acknowledgement, offset; window; options.
    let ranges = [1..2, 6..8, 8..9, 28..33, 34..36, 38..40, 40..header_length];
    counted && ranges.into_iter().all(|range| first[range.clone()] == bytes[range])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_segment_is_passed_on_as_it_is() {
        let mut merger = Merger::default();
        let mut memory = vec![7; ETHERNET_LENGTH];
        memory.extend_from_slice(&[
            0x45, 0, 0, 24, 0, 0, 0, 0, 64, 6, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4,
        ]);
        merger.push(InterfaceId(1), &memory, 0, ETHERNET_LENGTH..memory.len());
        let mut output = FrameBuffer::new();
        merger.flush(&memory, &mut output);
        assert_eq!(output.iter().next().unwrap().bytes(), memory);
        assert_eq!(output.len(), 1);
    }
}
