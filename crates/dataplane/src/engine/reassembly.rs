//! ESP in fragments: collected until the packet is whole, or until the first fragment says that it is not ours.
//!
//! Bounded in memory (a number of packets of the largest size) and in time. Fragments that overlap are refused with the
//! whole packet, as IPv6 does it: nobody sends them but attackers.

use std::time::Duration;

use crate::ip::{ETHERNET_LENGTH, Packet, Version, put_word, set_length, set_tos};
use crate::{Instant, InterfaceId};

/// Packets under reassembly at a time. With the largest packets about 4 MiB; senders of ours do not make any, so this
/// serves paths that fragment, a few packets at a time.
const PACKETS: usize = 64;
/// Fragments of one packet; 65535 octets over an MTU of 1280 are 52.
const FRAGMENTS: usize = 64;
/// RFC 791 suggests 15 seconds.
const LIFETIME: Duration = Duration::from_secs(15);
const CONGESTION: u8 = 3;

/// What names the fragments of one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) interface: InterfaceId,
    pub(super) version: Version,
    pub(super) source: u128,
    pub(super) destination: u128,
    pub(super) identification: u32,
}

/// What is known of a packet in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Waiting for the rest.
    Collecting,
    /// Not ours: its fragments pass as they are.
    Foreign,
    /// Its fragments are dropped.
    Refused,
}

/// One packet in fragments.
#[derive(Debug)]
pub(super) struct Entry {
    key: Key,
    started_at: Instant,
    pub(super) state: State,
    /// Frames as they came, one after the other.
    memory: Vec<u8>,
    pieces: Vec<Piece>,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    /// The frame, in the entry's memory.
    start: usize,
    end: usize,
    /// Octets before the fragment's data.
    header_length: usize,
    /// Where the IPv6 fragment header is, and the octet that announces it.
    fragment_header: Option<(usize, usize)>,
    tos: u8,
    /// The payload's place in the packet.
    offset: usize,
    behind: usize,
    more: bool,
}

/// A fragment that cannot be part of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Invalid;

/// The bounded table.
#[derive(Debug, Default)]
pub(super) struct Reassembly {
    entries: Vec<Entry>,
    /// Entries that are not in use, for their memory.
    free: Vec<Entry>,
    /// Fragments given up since last asked: too old, and pushed out.
    pub(super) timed_out: u64,
    pub(super) pushed_out: u64,
}

impl Reassembly {
    /// The entry of a packet, a fresh one if need be.
    pub(super) fn entry(&mut self, now: Instant, key: Key) -> &mut Entry {
        while let Some(position) = self.entries.iter().position(|entry| entry.is_old(now)) {
            self.timed_out += self.entries[position].pieces.len() as u64;
            self.release(position);
        }
        let position = match self.entries.iter().position(|entry| entry.key == key) {
            Some(position) => position,
            None => {
                if self.entries.len() == PACKETS {
                    let oldest = (0..PACKETS).min_by_key(|&at| self.entries[at].started_at).unwrap_or(0);
                    self.pushed_out += self.entries[oldest].pieces.len() as u64;
                    self.release(oldest);
                }
                let (memory, pieces) = match self.free.pop() {
                    Some(old) => (old.memory, old.pieces),
                    None => (Vec::new(), Vec::new()),
                };
                self.entries.push(Entry { key, started_at: now, state: State::Collecting, memory, pieces });
                self.entries.len() - 1
            }
        };
        &mut self.entries[position]
    }

    /// Forgets a packet that is whole.
    pub(super) fn finish(&mut self, key: Key) {
        if let Some(position) = self.entries.iter().position(|entry| entry.key == key) {
            self.release(position);
        }
    }

    fn release(&mut self, position: usize) {
        let mut entry = self.entries.swap_remove(position);
        entry.clear();
        self.free.push(entry);
    }
}

impl Entry {
    /// Adds a fragment; true if the packet is whole now.
    pub(super) fn add(&mut self, ethernet: &[u8], packet: &Packet<'_>) -> Result<bool, Invalid> {
        let (offset, more) = (packet.fragment_offset(), packet.more_fragments());
        let header_length = packet.fragmentable_at();
        let behind = offset + packet.bytes.len() - header_length;
        let known = self.pieces.iter().any(|piece| (piece.offset, piece.behind) == (offset, behind));
        if known {
            return Ok(false);
        }
        let misshapen = behind == offset || more && !(behind - offset).is_multiple_of(8);
        let too_large = header_length + behind > 65535 || self.pieces.len() == FRAGMENTS;
        let overlaps = self.pieces.iter().any(|piece| {
            piece.offset < behind && offset < piece.behind
                || !piece.more && behind > piece.behind
                || !more && piece.behind > behind
        });
        if misshapen || too_large || overlaps {
            return Err(Invalid);
        }
        let start = self.memory.len();
        self.memory.extend_from_slice(ethernet);
        self.memory.extend_from_slice(packet.bytes);
        let (end, tos) = (self.memory.len(), packet.tos());
        let fragment_header = packet.fragment_header();
        self.pieces.push(Piece { start, end, header_length, fragment_header, tos, offset, behind, more });
        // Nothing overlaps: it is whole when there is as much of it as its last fragment says.
        let octets: usize = self.pieces.iter().map(|piece| piece.behind - piece.offset).sum();
        Ok(self.pieces.iter().any(|piece| !piece.more && piece.behind == octets))
    }

    /// The frames so far, in the order they came.
    pub(super) fn frames(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pieces.iter().map(|piece| &self.memory[piece.start..piece.end])
    }

    /// Writes the whole packet, Ethernet header first, with the first fragment's headers.
    pub(super) fn assemble(&self, out: &mut Vec<u8>) {
        out.clear();
        let Some(first) = self.pieces.iter().find(|piece| piece.offset == 0) else { return };
        let length = self.pieces.iter().map(|piece| piece.behind).max().unwrap_or(0);
        // Without the fragment header, which the header before it no longer announces.
        let kept = first.fragment_header.map_or(first.header_length, |(at, _)| at);
        let headers = ETHERNET_LENGTH + kept;
        out.extend_from_slice(&self.memory[first.start..first.start + headers]);
        out.resize(headers + length, 0);
        for piece in &self.pieces {
            let payload = &self.memory[piece.start + ETHERNET_LENGTH + piece.header_length..piece.end];
            out[headers + piece.offset..headers + piece.behind].copy_from_slice(payload);
        }
        let header = &mut out[ETHERNET_LENGTH..headers];
        match first.fragment_header {
            None => put_word(header, 6, 0),
            Some((at, link)) => header[link] = self.memory[first.start + ETHERNET_LENGTH + at],
        }
        // Congestion met by any fragment was met by the packet (RFC 3168 section 5.3).
        let met = self.pieces.iter().any(|piece| piece.tos & CONGESTION == CONGESTION);
        set_tos(self.key.version, header, first.tos | if met { CONGESTION } else { 0 });
        set_length(self.key.version, header, kept + length);
    }

    /// Drops the fragments collected; the state stays.
    pub(super) fn clear(&mut self) {
        self.memory.clear();
        self.pieces.clear();
    }

    fn is_old(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.started_at) >= LIFETIME
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ip::{IPV4_LENGTH, MORE_FRAGMENTS};

    fn key(identification: u32) -> Key {
        Key { interface: InterfaceId(1), version: Version::V4, source: 1, destination: 2, identification }
    }

    fn fragment(offset: usize, data: &[u8], more: bool) -> Vec<u8> {
        let mut bytes = vec![0; IPV4_LENGTH];
        bytes[0] = 0x45;
        put_word(&mut bytes, 2, (IPV4_LENGTH + data.len()) as u16);
        put_word(&mut bytes, 6, (offset / 8) as u16 | if more { MORE_FRAGMENTS } else { 0 });
        bytes[9] = 50;
        bytes.extend_from_slice(data);
        bytes
    }

    fn add(entry: &mut Entry, offset: usize, data: &[u8], more: bool) -> Result<bool, Invalid> {
        entry.add(&[7; ETHERNET_LENGTH], &Packet::parse(Version::V4, &fragment(offset, data, more)).unwrap())
    }

    proptest! {
        #[test]
        fn fragments_in_any_order_and_number_give_the_packet(
            data in prop::collection::vec(any::<u8>(), 1..3000),
            size in 8usize..200,
            order in any::<u64>(),
        ) {
            let size = (size & !7).max(data.len().div_ceil(FRAGMENTS).next_multiple_of(8));
            let mut pieces: Vec<_> = data.chunks(size).enumerate().collect();
            let count = pieces.len();
            pieces.sort_by_key(|(index, _)| order.rotate_left(*index as u32).wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut reassembly = Reassembly::default();
            let entry = reassembly.entry(Instant::ZERO, key(1));
            for (seen, (index, piece)) in pieces.iter().enumerate() {
                let whole = add(entry, index * size, piece, index + 1 < count);
                prop_assert_eq!(whole, Ok(seen + 1 == count));
                // A copy of a fragment changes nothing.
                prop_assert_eq!(add(entry, index * size, piece, index + 1 < count), Ok(false));
            }
            let mut out = Vec::new();
            entry.assemble(&mut out);
            prop_assert_eq!(&out[ETHERNET_LENGTH + IPV4_LENGTH..], &data[..]);
        }
    }

    #[test]
    fn fragments_that_overlap_or_go_too_far_are_refused() {
        let mut reassembly = Reassembly::default();
        let entry = reassembly.entry(Instant::ZERO, key(1));
        assert_eq!(add(entry, 16, &[1; 16], true), Ok(false));
        assert_eq!(add(entry, 8, &[1; 16], true), Err(Invalid));
        assert_eq!(add(entry, 0, &[1; 15], true), Err(Invalid));
        assert_eq!(add(entry, 8, &[], true), Err(Invalid));
        assert_eq!(add(entry, 0, &[1; 8], false), Err(Invalid));
        assert_eq!(add(entry, 65528, &[1; 8], false), Err(Invalid));
        assert_eq!(add(entry, 32, &[1; 3], false), Ok(false));
        assert_eq!(add(entry, 40, &[1; 8], true), Err(Invalid));
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let mut reassembly = Reassembly::default();
        for identification in 0..1000 {
            let entry = reassembly.entry(Instant::ZERO, key(identification));
            add(entry, 0, &[1; 1400], true).unwrap();
        }
        assert_eq!((reassembly.entries.len(), reassembly.pushed_out), (PACKETS, 1000 - PACKETS as u64));
        reassembly.entry(Instant::ZERO.saturating_add(LIFETIME), key(0));
        assert_eq!((reassembly.entries.len(), reassembly.timed_out), (1, PACKETS as u64));
        assert!(reassembly.free.len() <= PACKETS);
        let entry = reassembly.entry(Instant::ZERO.saturating_add(LIFETIME), key(0));
        let added = (0..1000).filter(|at| add(entry, at * 8, &[1; 8], true) == Ok(false)).count();
        assert_eq!(added, FRAGMENTS);
    }
}
