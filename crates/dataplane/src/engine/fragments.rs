//! Cuts packets into fragments.

use crate::DropReason;
use crate::ip::{
    DONT_FRAGMENT, IPV4_LENGTH, MORE_FRAGMENTS, PROTOCOL_FRAGMENT, Packet, Version, put_long, put_word,
    set_length, word,
};

/// Octets of the IPv6 fragment header.
const FRAGMENT_HEADER: usize = 8;
/// Where a packet ends at the latest: no length and no offset says more.
const LONGEST_PACKET: usize = 65_535;
/// Headers before the fragments' own; IPv6 packets with more in front are not cut.
const LONGEST_HEADER: usize = 256;

/// A packet that is to be cut into fragments.
pub(super) struct Fragments<'a> {
    packet: Packet<'a>,
    /// What the fragments have a piece of each.
    data: &'a [u8],
    /// The header of fragments but the first: for IPv4 only with the options meant for every fragment.
    later_header: [u8; LONGEST_HEADER],
    later_header_length: usize,
    /// Octets of the first fragment's header.
    first_header_length: usize,
    /// Payload of fragments but the last, a multiple of 8.
    first_size: usize,
    later_size: usize,
}

impl<'a> Fragments<'a> {
    /// Cuts into packets of at most `largest` octets. The packet may itself be a fragment, unless it claims a place where none can
    /// be; `identification` is for an IPv6 packet that is not.
    pub(super) fn new(packet: &Packet<'a>, largest: usize, identification: u32) -> Result<Self, DropReason> {
        let mut later_header = [0; LONGEST_HEADER];
        let (data, first_header_length, later_header_length) = match packet.version {
            Version::V4 => {
                let later = copy_v4_header(packet, &mut later_header);
                (packet.payload(), packet.header_length, later)
            }
            Version::V6 => {
                let (data, length) = copy_v6_headers(packet, identification, &mut later_header)?;
                (data, length, length)
            }
        };
        if packet.fragment_offset() + data.len() > LONGEST_PACKET {
            return Err(DropReason::Malformed);
        }
        let size = |header: usize| largest.saturating_sub(header) & !7;
        let (first_size, later_size) = (size(first_header_length), size(later_header_length));
        if first_size == 0 {
            return Err(DropReason::TooSmallMtu);
        }
        Ok(Self {
            packet: *packet,
            data,
            later_header,
            later_header_length,
            first_header_length,
            first_size,
            later_size,
        })
    }

    /// Number of fragments.
    pub(super) fn count(&self) -> usize {
        let rest = self.data.len().saturating_sub(self.first_size);
        1 + rest.div_ceil(self.later_size)
    }

    fn header(&self, index: usize) -> &[u8] {
        match (index, self.packet.version) {
            (0, Version::V4) => &self.packet.bytes[..self.first_header_length],
            _ => &self.later_header[..self.later_header_length],
        }
    }

    fn range(&self, index: usize) -> std::ops::Range<usize> {
        let end = (self.first_size + index * self.later_size).min(self.data.len());
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
        let total = out.len();
        let (header, payload) = out.split_at_mut(self.header(index).len());
        header.copy_from_slice(self.header(index));
        payload.copy_from_slice(&self.data[range.clone()]);
        let more = self.packet.more_fragments() || range.end < self.data.len();
        let offset = self.packet.fragment_offset() + range.start;
        match self.packet.version {
            Version::V4 => {
                let kept = word(header, 6) & DONT_FRAGMENT;
                put_word(header, 6, kept | (offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 });
            }
            Version::V6 => {
                let at = header.len() - FRAGMENT_HEADER;
                put_word(header, at + 2, offset as u16 | u16::from(more));
            }
        }
        set_length(self.packet.version, header, total);
    }
}

/// Writes the headers that every fragment has and the fragment header; returns what follows them in the packet, and
/// their length.
fn copy_v6_headers<'a>(
    packet: &Packet<'a>,
    identification: u32,
    out: &mut [u8; LONGEST_HEADER],
) -> Result<(&'a [u8], usize), DropReason> {
    if let Some((at, _)) = packet.fragment_header() {
        let length = at + FRAGMENT_HEADER;
        let (Some(headers), Some(out)) = (packet.bytes.get(..length), out.get_mut(..length)) else {
            return Err(DropReason::TooBig);
        };
        out.copy_from_slice(headers);
        return Ok((&packet.bytes[length..], length));
    }
    // Per-fragment headers (RFC 8200 section 4.5): the IPv6 header, and all up to hop-by-hop options or routing header.
    let (mut link, mut at) = (6, crate::ip::IPV6_LENGTH);
    let bytes = packet.bytes;
    let (mut per_fragment, mut per_fragment_link) = (at, link);
    while at < packet.header_length && matches!(bytes[link], 0 | 43 | 60) {
        let is_destination_options = bytes[link] == 60;
        link = at;
        at += (usize::from(bytes[at + 1]) + 1) * 8;
        // Destination options are for every node on the way only where a routing header follows.
        if !is_destination_options || bytes[link] == 43 {
            (per_fragment, per_fragment_link) = (at, link);
        }
    }
    let length = per_fragment + FRAGMENT_HEADER;
    if length > out.len() {
        return Err(DropReason::TooBig);
    }
    out[..per_fragment].copy_from_slice(&bytes[..per_fragment]);
    out[per_fragment] = std::mem::replace(&mut out[per_fragment_link], PROTOCOL_FRAGMENT);
    out[per_fragment + 1] = 0;
    put_long(out, per_fragment + 4, identification);
    Ok((&bytes[per_fragment..], length))
}

/// Writes the header with the options whose copied flag is set (RFC 791 section 3.1); returns its length.
fn copy_v4_header(packet: &Packet<'_>, out: &mut [u8; LONGEST_HEADER]) -> usize {
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
