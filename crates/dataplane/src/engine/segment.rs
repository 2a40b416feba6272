//! Cuts super-frames into segments and datagrams. Each cut writes one inner packet.

use crate::DropReason;
use crate::ip::{
    PROTOCOL_TCP, PROTOCOL_UDP, Packet, Version, checksum, long, pseudo_header_sum, put_long, put_word,
    set_length, sum, word,
};

const UDP_LENGTH: usize = 8;
const TCP_FIN_PSH: u8 = 0x09;
const TCP_CWR: u8 = 0x80;

/// A TCP super-frame and where to cut it.
pub(super) struct TcpSegments<'a> {
    packet: &'a [u8],
    version: Version,
    ip_length: usize,
    header_length: usize,
    segment_size: usize,
}

impl<'a> TcpSegments<'a> {
    /// `segment_size` is the payload of a segment as the sender wants it; it is lowered until a packet of
    /// `largest` octets holds it. TCP does not mind: boundaries of segments mean nothing to it.
    pub(super) fn new(packet: &Packet<'a>, segment_size: usize, largest: usize) -> Result<Self, DropReason> {
        let ip_length = packet.header_length;
        let tcp = packet.payload();
        if packet.protocol() != PROTOCOL_TCP || !is_plain(packet) || tcp.len() < 20 || segment_size == 0 {
            return Err(DropReason::BadSuperFrame);
        }
        let tcp_length = usize::from(tcp[12] >> 4) * 4;
        if tcp_length < 20 || tcp.len() < tcp_length {
            return Err(DropReason::BadSuperFrame);
        }
        let header_length = ip_length + tcp_length;
        let room =
            largest.checked_sub(header_length).filter(|room| *room > 0).ok_or(DropReason::TooSmallMtu)?;
        let (version, segment_size) = (packet.version, segment_size.min(room));
        Ok(Self { packet: packet.bytes, version, ip_length, header_length, segment_size })
    }

    fn payload_length(&self) -> usize {
        self.packet.len() - self.header_length
    }

    /// Number of segments; a super-frame without payload is one.
    pub(super) fn count(&self) -> usize {
        self.payload_length().div_ceil(self.segment_size).max(1)
    }

    /// Octets of a segment's packet.
    pub(super) fn length(&self, index: usize) -> usize {
        let rest = self.payload_length() - index * self.segment_size;
        self.header_length + rest.min(self.segment_size)
    }

    /// Writes a segment's packet with its checksums.
    pub(super) fn write(&self, index: usize, out: &mut [u8]) {
        let start = index * self.segment_size;
        let (header, payload) = out.split_at_mut(self.header_length);
        header.copy_from_slice(&self.packet[..self.header_length]);
        payload.copy_from_slice(&self.packet[self.header_length + start..][..payload.len()]);
        let (ip, tcp) = header.split_at_mut(self.ip_length);
        number(self.version, ip, index);
        set_length(self.version, ip, self.header_length + payload.len());
        put_long(tcp, 4, long(tcp, 4).wrapping_add(start as u32));
        if index > 0 {
            tcp[13] &= !TCP_CWR;
        }
        if index + 1 < self.count() {
            tcp[13] &= !TCP_FIN_PSH;
        }
        put_word(tcp, 16, 0);
        let length = tcp.len() + payload.len();
        let total = pseudo_header_sum(self.version, ip, PROTOCOL_TCP, length) + sum(tcp) + sum(payload);
        put_word(tcp, 16, checksum(total));
    }
}

/// A UDP super-frame: datagrams of equal size, the last perhaps shorter.
pub(super) struct UdpDatagrams<'a> {
    packet: &'a [u8],
    version: Version,
    ip_length: usize,
    datagram_size: usize,
}

impl<'a> UdpDatagrams<'a> {
    pub(super) fn new(packet: &Packet<'a>, datagram_size: usize) -> Result<Self, DropReason> {
        let bad = packet.protocol() != PROTOCOL_UDP
            || !is_plain(packet)
            || packet.payload().len() < UDP_LENGTH
            || datagram_size == 0;
        if bad {
            return Err(DropReason::BadSuperFrame);
        }
        let (version, ip_length) = (packet.version, packet.header_length);
        Ok(Self { packet: packet.bytes, version, ip_length, datagram_size })
    }

    fn payload_length(&self) -> usize {
        self.packet.len() - self.ip_length - UDP_LENGTH
    }

    /// Number of datagrams; a super-frame without payload is one.
    pub(super) fn count(&self) -> usize {
        self.payload_length().div_ceil(self.datagram_size).max(1)
    }

    /// Octets of a datagram's packet.
    pub(super) fn length(&self, index: usize) -> usize {
        let rest = self.payload_length() - index * self.datagram_size;
        self.ip_length + UDP_LENGTH + rest.min(self.datagram_size)
    }

    /// Writes a datagram's packet with its checksums.
    pub(super) fn write(&self, index: usize, out: &mut [u8]) {
        let header_length = self.ip_length + UDP_LENGTH;
        let (header, payload) = out.split_at_mut(header_length);
        header.copy_from_slice(&self.packet[..header_length]);
        let start = header_length + index * self.datagram_size;
        payload.copy_from_slice(&self.packet[start..][..payload.len()]);
        let (ip, udp) = header.split_at_mut(self.ip_length);
        number(self.version, ip, index);
        set_length(self.version, ip, header_length + payload.len());
        let length = UDP_LENGTH + payload.len();
        put_word(udp, 4, length as u16);
        put_word(udp, 6, 0);
        let pseudo = pseudo_header_sum(self.version, ip, PROTOCOL_UDP, length);
        let value = checksum(pseudo + sum(udp) + sum(payload));
        put_word(udp, 6, if value == 0 { 0xffff } else { value });
    }
}

/// No super-frame is a fragment, and checksums behind a routing header are not those of the addresses shown.
fn is_plain(packet: &Packet<'_>) -> bool {
    !packet.is_fragment() && packet.fragment_header().is_none() && !packet.is_routed()
}

/// Counts the identification of IPv4 on.
fn number(version: Version, ip: &mut [u8], index: usize) {
    if version == Version::V4 {
        put_word(ip, 4, word(ip, 4).wrapping_add(index as u16));
    }
}
