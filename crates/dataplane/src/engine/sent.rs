//! Remembers what was inside the ESP packets sent last, so that an ICMP error about one can be sent on to its host, and
//! what such errors say about path MTUs.

use std::time::Duration;

use crate::Instant;
use crate::ip::{IPV4_LENGTH, IPV6_LENGTH, PROTOCOL_TCP, PROTOCOL_UDP, Packet, SMALLEST_IPV6_MTU, Version};

/// Packets remembered: a power of two. At 100,000 packets a second this is 40 ms, at ordinary rates seconds.
const PACKETS: usize = 4096;
/// Header and eight octets of the inner packet, what every ICMP error quotes; of IPv6 also some extension headers.
const QUOTE: usize = IPV6_LENGTH + 24 + 8;

/// Of an IPv4 packet without options.
const ORDINARY: usize = IPV4_LENGTH + 8;

/// Destinations with a lowered path MTU.
const PATHS: usize = 256;
/// RFC 1191 section 6.3 suggests to try again after ten minutes.
const PATH_LIFETIME: Duration = Duration::from_secs(600);
/// As Linux' `min_pmtu`, and for IPv6 what every link has: an error, which anyone on the path can forge, must not push packets below this size.
pub(super) const fn smallest_path_mtu(version: Version) -> u16 {
    match version {
        Version::V4 => 552,
        Version::V6 => SMALLEST_IPV6_MTU,
    }
}

/// What is written of an IPv4 packet is in the first cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Sent {
    spi: u32,
    sequence: u32,
    version: Version,
    length: u8,
    quote: [u8; QUOTE],
}

impl Sent {
    #[inline(never)]
    fn quote(&mut self, inner: &[u8]) {
        let wanted = match self.version {
            Version::V4 => usize::from(inner[0] & 0x0f) * 4 + 8,
            Version::V6 if matches!(inner[6], PROTOCOL_TCP | PROTOCOL_UDP) => IPV6_LENGTH + 8,
            Version::V6 => QUOTE,
        };
        let length = wanted.min(inner.len()).min(QUOTE);
        self.length = length as u8;
        self.quote[..length].copy_from_slice(&inner[..length]);
    }
}

/// The ring of sent packets. A sequence number has its place; a later packet at that place overwrites it.
#[derive(Debug)]
pub(super) struct SentRing(Box<[Sent; PACKETS]>);

impl SentRing {
    pub(super) fn new() -> Self {
        let nothing = Sent { spi: 0, sequence: 0, version: Version::V4, length: 0, quote: [0; QUOTE] };
        let places: Box<[Sent]> = vec![nothing; PACKETS].into();
        Self(places.try_into().expect("as many places"))
    }

    /// Remembers the inner packet sent with this SPI and sequence number.
    #[inline(always)]
    pub(super) fn record(&mut self, spi: u32, sequence: u32, version: Version, inner: &[u8]) {
        let slot = &mut self.0[place(spi, sequence)];
        (slot.spi, slot.sequence, slot.version) = (spi, sequence, version);
        match (version, inner.first_chunk::<ORDINARY>()) {
            // Nearly always: a copy of known length is no call.
            (Version::V4, Some(beginning @ [0x45, ..])) => {
                slot.length = ORDINARY as u8;
                *slot.quote.first_chunk_mut().expect("it is longer") = *beginning;
            }
            _ => slot.quote(inner),
        }
    }

    /// The beginning of the inner packet, if it is still known.
    pub(super) fn find(&self, spi: u32, sequence: u32) -> Option<Packet<'_>> {
        let slot = &self.0[place(spi, sequence)];
        let is_known = slot.length > 0 && (slot.spi, slot.sequence) == (spi, sequence);
        is_known.then(|| Packet::parse_quoted(slot.version, &slot.quote[..slot.length.into()])).flatten()
    }
}

fn place(spi: u32, sequence: u32) -> usize {
    sequence.wrapping_add(spi.wrapping_mul(0x9e37_79b1)) as usize % PACKETS
}

#[derive(Clone, Copy, Debug)]
struct Path {
    version: Version,
    destination: u128,
    mtu: u16,
    expires_at: Instant,
}

/// The path MTUs that are smaller than the interface's.
#[derive(Debug)]
pub(super) struct PathMtus {
    paths: Vec<Option<Path>>,
    /// Nothing was ever learnt: the usual case, at no cost.
    is_empty: bool,
}

impl PathMtus {
    pub(super) fn new() -> Self {
        Self { paths: vec![None; PATHS], is_empty: true }
    }

    /// Lowers the MTU of a path for a while; never raises it.
    pub(super) fn lower(&mut self, now: Instant, version: Version, destination: u128, mtu: u16) {
        let known = self.find(now, version, destination).unwrap_or(u16::MAX);
        let mtu = mtu.max(smallest_path_mtu(version)).min(known);
        let expires_at = now.saturating_add(PATH_LIFETIME);
        self.paths[slot(destination)] = Some(Path { version, destination, mtu, expires_at });
        self.is_empty = false;
    }

    /// The path's MTU, if it was lowered.
    #[inline(always)]
    pub(super) fn find(&self, now: Instant, version: Version, destination: u128) -> Option<u16> {
        if self.is_empty { None } else { self.look_up(now, version, destination) }
    }

    #[inline(never)]
    fn look_up(&self, now: Instant, version: Version, destination: u128) -> Option<u16> {
        let path = self.paths[slot(destination)]?;
        let same = (path.version, path.destination) == (version, destination);
        (same && now < path.expires_at).then_some(path.mtu)
    }
}

fn slot(destination: u128) -> usize {
    let mixed = destination as u64 ^ (destination >> 64) as u64;
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as usize % PATHS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_packets_sent_last() {
        let mut ring = SentRing::new();
        let mut inner = [0x45; 100];
        for sequence in 0..10_000u32 {
            inner[1] = sequence as u8;
            ring.record(500, sequence, Version::V4, &inner);
        }
        assert_eq!(ring.find(500, 9_999).unwrap().bytes[..2], [0x45, 9_999u32 as u8]);
        assert_eq!(ring.find(500, 9_999).unwrap().bytes.len(), 28);
        assert!(ring.find(501, 9_999).is_none());
        let found = (0..10_000).filter(|sequence| ring.find(500, *sequence).is_some()).count();
        assert_eq!(found, PACKETS);
    }

    #[test]
    fn path_mtus_are_bounded_below_and_forgotten() {
        let mut paths = PathMtus::new();
        let now = Instant::from_micros(7);
        assert_eq!(paths.find(now, Version::V4, 1), None);
        paths.lower(now, Version::V4, 1, 1300);
        paths.lower(now, Version::V4, 1, 1400);
        assert_eq!(paths.find(now, Version::V4, 1), Some(1300));
        paths.lower(now, Version::V4, 1, 60);
        assert_eq!(paths.find(now, Version::V4, 1), Some(552));
        assert_eq!(paths.find(now, Version::V6, 1), None);
        assert_eq!(paths.find(now.saturating_add(PATH_LIFETIME), Version::V4, 1), None);
        paths.lower(now, Version::V6, 2, 60);
        assert_eq!(paths.find(now, Version::V6, 2), Some(1280));
        (0..100_000).for_each(|destination| paths.lower(now, Version::V4, destination, 1000));
        assert_eq!(paths.paths.len(), PATHS);
    }
}
