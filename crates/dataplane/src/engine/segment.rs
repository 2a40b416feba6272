//! Cuts super-frames into segments and datagrams. Each cut writes one inner packet.

use crate::DropReason;
use crate::ip::{
    PROTOCOL_TCP, PROTOCOL_UDP, Packet, Version, checksum, long, pseudo_header_sum, put_long, put_word,
    set_length, sum, word,
};

const UDP_LENGTH: usize = 8;
/// Bits of the word that begins with the data offset.
const TCP_FIN_PSH: u16 = 0x09;
const TCP_CWR: u16 = 0x80;

/// The IP header of the packets that a super-frame is cut into. What they have in common is summed up once: a header that was
/// just written in pieces is slow to read.
struct CutHeader<'a> {
    version: Version,
    ip: &'a [u8],
    /// Of IPv4, without length, identification and checksum.
    sum: u64,
}

impl<'a> CutHeader<'a> {
    fn new(version: Version, ip: &'a [u8]) -> Self {
        let sum = match version {
            Version::V4 => sum(&ip[..2]) + sum(&ip[6..10]) + sum(&ip[12..]),
            Version::V6 => 0,
        };
        Self { version, ip, sum }
    }

    /// Writes the header of a packet of `total` octets, which of IPv4 counts the identification on.
    #[inline]
    fn write(&self, index: usize, total: usize, out: &mut [u8]) {
        out.copy_from_slice(self.ip);
        match self.version {
            Version::V4 => {
                let (length, identification) = (total as u16, word(self.ip, 4).wrapping_add(index as u16));
                put_word(out, 2, length);
                put_word(out, 4, identification);
                put_word(out, 10, checksum(self.sum + u64::from(length) + u64::from(identification)));
            }
            Version::V6 => set_length(self.version, out, total),
        }
    }
}

/// A TCP super-frame and where to cut it.
pub(super) struct TcpSegments<'a> {
    packet: &'a [u8],
    ip: CutHeader<'a>,
    tcp: &'a [u8],
    /// Of pseudo-header and TCP header, without length, sequence number, flags and checksum.
    sum: u64,
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
        let ip = &packet.bytes[..ip_length];
        let tcp = &packet.bytes[ip_length..header_length];
        let sum = pseudo_header_sum(packet.version, ip, PROTOCOL_TCP, 0)
            + (sum(&tcp[..4]) + sum(&tcp[8..12]) + sum(&tcp[14..16]) + sum(&tcp[18..]));
        Ok(Self {
            packet: packet.bytes,
            ip: CutHeader::new(packet.version, ip),
            tcp,
            sum,
            header_length,
            segment_size: segment_size.min(room),
        })
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
        let total = out.len();
        let (header, payload) = out.split_at_mut(self.header_length);
        payload.copy_from_slice(&self.packet[self.header_length + start..][..payload.len()]);
        let (ip, tcp) = header.split_at_mut(self.ip.ip.len());
        self.ip.write(index, total, ip);
        tcp.copy_from_slice(self.tcp);
        let sequence = long(self.tcp, 4).wrapping_add(start as u32);
        let mut flags = word(self.tcp, 12);
        if index > 0 {
            flags &= !TCP_CWR;
        }
        if index + 1 < self.count() {
            flags &= !TCP_FIN_PSH;
        }
        let length = (tcp.len() + payload.len()) as u64;
        let common = self.sum + length + u64::from(sequence) + u64::from(flags);
        put_long(tcp, 4, sequence);
        put_word(tcp, 12, flags);
        put_word(tcp, 16, checksum(common + sum(payload)));
    }
}

/// A UDP super-frame: datagrams of equal size, the last perhaps shorter.
pub(super) struct UdpDatagrams<'a> {
    packet: &'a [u8],
    ip: CutHeader<'a>,
    /// Of pseudo-header and ports.
    sum: u64,
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
        let ip_length = packet.header_length;
        let (ip, udp) = packet.bytes.split_at(ip_length);
        let sum = pseudo_header_sum(packet.version, ip, PROTOCOL_UDP, 0) + sum(&udp[..4]);
        let ip = CutHeader::new(packet.version, ip);
        Ok(Self { packet: packet.bytes, ip, sum, ip_length, datagram_size })
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
        let total = out.len();
        let (header, payload) = out.split_at_mut(header_length);
        let start = header_length + index * self.datagram_size;
        payload.copy_from_slice(&self.packet[start..][..payload.len()]);
        let (ip, udp) = header.split_at_mut(self.ip_length);
        self.ip.write(index, total, ip);
        udp[..4].copy_from_slice(&self.packet[self.ip_length..][..4]);
        let length = (UDP_LENGTH + payload.len()) as u16;
        put_word(udp, 4, length);
        // The length is in the pseudo-header, too.
        let value = checksum(self.sum + 2 * u64::from(length) + sum(payload));
        put_word(udp, 6, if value == 0 { 0xffff } else { value });
    }
}

/// No super-frame is a fragment, and checksums behind a routing header are not those of the addresses shown.
fn is_plain(packet: &Packet<'_>) -> bool {
    !packet.is_fragment() && packet.fragment_header().is_none() && !packet.is_routed()
}
