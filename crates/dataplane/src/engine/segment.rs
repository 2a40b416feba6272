//! Cuts: super-frames into segments and datagrams, packets into fragments. Each cut writes one inner packet.

use crate::DropReason;
use crate::ip::{
    DONT_FRAGMENT, IPV4_LENGTH, Ipv4, MORE_FRAGMENTS, PROTOCOL_TCP, PROTOCOL_UDP, checksum, long,
    pseudo_header_sum, put_long, put_word, set_header_checksum, sum, word,
};

const UDP_LENGTH: usize = 8;
const TCP_FIN_PSH: u8 = 0x09;
const TCP_CWR: u8 = 0x80;

/// A TCP super-frame and where to cut it.
pub(super) struct TcpSegments<'a> {
    packet: &'a [u8],
    ip_length: usize,
    header_length: usize,
    segment_size: usize,
}

impl<'a> TcpSegments<'a> {
    /// `segment_size` is the payload of a segment as the sender wants it; it is lowered until a packet of
    /// `largest` octets holds it. TCP does not mind: boundaries of segments mean nothing to it.
    pub(super) fn new(packet: &Ipv4<'a>, segment_size: usize, largest: usize) -> Result<Self, DropReason> {
        let ip_length = packet.header_length;
        let tcp = packet.payload();
        if packet.protocol() != PROTOCOL_TCP || packet.is_fragment() || tcp.len() < 20 || segment_size == 0 {
            return Err(DropReason::BadSuperFrame);
        }
        let tcp_length = usize::from(tcp[12] >> 4) * 4;
        if tcp_length < 20 || tcp.len() < tcp_length {
            return Err(DropReason::BadSuperFrame);
        }
        let header_length = ip_length + tcp_length;
        let room =
            largest.checked_sub(header_length).filter(|room| *room > 0).ok_or(DropReason::TooSmallMtu)?;
        Ok(Self { packet: packet.bytes, ip_length, header_length, segment_size: segment_size.min(room) })
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
        put_word(ip, 2, (self.header_length + payload.len()) as u16);
        put_word(ip, 4, word(ip, 4).wrapping_add(index as u16));
        set_header_checksum(ip);
        put_long(tcp, 4, long(tcp, 4).wrapping_add(start as u32));
        if index > 0 {
            tcp[13] &= !TCP_CWR;
        }
        if index + 1 < self.count() {
            tcp[13] &= !TCP_FIN_PSH;
        }
        put_word(tcp, 16, 0);
        let total = pseudo_header_sum(ip, tcp.len() + payload.len()) + sum(tcp) + sum(payload);
        put_word(tcp, 16, checksum(total));
    }
}

/// A UDP super-frame: datagrams of equal size, the last perhaps shorter.
pub(super) struct UdpDatagrams<'a> {
    packet: &'a [u8],
    ip_length: usize,
    datagram_size: usize,
}

impl<'a> UdpDatagrams<'a> {
    pub(super) fn new(packet: &Ipv4<'a>, datagram_size: usize) -> Result<Self, DropReason> {
        let bad = packet.protocol() != PROTOCOL_UDP
            || packet.is_fragment()
            || packet.payload().len() < UDP_LENGTH
            || datagram_size == 0;
        if bad {
            return Err(DropReason::BadSuperFrame);
        }
        Ok(Self { packet: packet.bytes, ip_length: packet.header_length, datagram_size })
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
        put_word(ip, 2, (header_length + payload.len()) as u16);
        put_word(ip, 4, word(ip, 4).wrapping_add(index as u16));
        set_header_checksum(ip);
        let length = UDP_LENGTH + payload.len();
        put_word(udp, 4, length as u16);
        put_word(udp, 6, 0);
        let value = checksum(pseudo_header_sum(ip, length) + sum(udp) + sum(payload));
        put_word(udp, 6, if value == 0 { 0xffff } else { value });
    }
}

/// A packet that is to be cut into fragments.
pub(super) struct Fragments<'a> {
    packet: Ipv4<'a>,
    /// The header of fragments but the first: only options meant for every fragment are kept.
    later_header: [u8; 60],
    later_header_length: usize,
    /// Payload of fragments but the last, a multiple of 8.
    first_size: usize,
    later_size: usize,
}

impl<'a> Fragments<'a> {
    /// Cuts into packets of at most `largest` octets. The packet may itself be a fragment.
    pub(super) fn new(packet: &Ipv4<'a>, largest: usize) -> Result<Self, DropReason> {
        let mut later_header = [0; 60];
        let later_header_length = copy_header(packet, &mut later_header);
        let size = |header: usize| largest.saturating_sub(header) & !7;
        let (first_size, later_size) = (size(packet.header_length), size(later_header_length));
        if first_size == 0 {
            return Err(DropReason::TooSmallMtu);
        }
        Ok(Self { packet: *packet, later_header, later_header_length, first_size, later_size })
    }

    /// Number of fragments.
    pub(super) fn count(&self) -> usize {
        let rest = self.packet.payload().len().saturating_sub(self.first_size);
        1 + rest.div_ceil(self.later_size)
    }

    fn header(&self, index: usize) -> &[u8] {
        match index {
            0 => &self.packet.bytes[..self.packet.header_length],
            _ => &self.later_header[..self.later_header_length],
        }
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let end = (self.first_size + index * self.later_size).min(self.packet.payload().len());
        match index {
            0 => 0..end,
            _ => self.first_size + (index - 1) * self.later_size..end,
        }
    }

    /// Octets of a fragment.
    pub(super) fn length(&self, index: usize) -> usize {
        self.header(index).len() + self.range(index).len()
    }

    /// Writes a fragment.
    pub(super) fn write(&self, index: usize, out: &mut [u8]) {
        let range = self.range(index);
        let (header, payload) = out.split_at_mut(self.header(index).len());
        header.copy_from_slice(self.header(index));
        payload.copy_from_slice(&self.packet.payload()[range.clone()]);
        put_word(header, 2, (header.len() + payload.len()) as u16);
        let more = self.packet.more_fragments() || range.end < self.packet.payload().len();
        let offset = (self.packet.fragment_offset() + range.start) / 8;
        let kept = word(header, 6) & DONT_FRAGMENT;
        put_word(header, 6, kept | offset as u16 | if more { MORE_FRAGMENTS } else { 0 });
        set_header_checksum(header);
    }
}

/// Writes the header with the options whose copied flag is set (RFC 791 section 3.1); returns its length.
fn copy_header(packet: &Ipv4<'_>, out: &mut [u8; 60]) -> usize {
    out[..IPV4_LENGTH].copy_from_slice(&packet.bytes[..IPV4_LENGTH]);
    let mut length = IPV4_LENGTH;
    let mut options = &packet.bytes[IPV4_LENGTH..packet.header_length];
    while let [kind, rest @ ..] = options {
        let size = match kind {
            0 => break,
            1 => 1,
            _ => usize::from(*rest.first().unwrap_or(&0)),
        };
        if size == 0 || *kind != 1 && size < 2 || size > options.len() {
            break;
        }
        if kind & 0x80 != 0 {
            out[length..length + size].copy_from_slice(&options[..size]);
            length += size;
        }
        options = &options[size..];
    }
    let padded = length.next_multiple_of(4);
    out[length..padded].fill(0);
    out[0] = 0x40 | (padded / 4) as u8;
    padded
}
