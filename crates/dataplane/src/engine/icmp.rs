//! ICMP errors towards hosts: "fragmentation needed" for packets that do not fit into ESP, and what routers say about
//! our ESP, translated into what they would have said about the packet inside.

use std::time::Duration;

use super::Context;
use crate::ip::{
    ETHERNET_LENGTH, PROTOCOL_ICMP, PROTOCOL_ICMPV6, Packet, Version, checksum, pseudo_header_sum, put_long,
    put_word, set_length, sum,
};
use crate::{Destination, FrameBuffer, Instant, InterfaceId, VnetHeader};

/// As Linux' `icmp_msgs_per_sec`.
const PER_SECOND: u64 = 1000;
/// As Linux' `icmp_msgs_burst`.
const BURST: u64 = 50;

const ICMP_LENGTH: usize = 8;

/// As much of the packet as fits into the smallest packet that everybody takes: 576 octets (RFC 1812 section 4.3.2.3),
/// and 1280 (RFC 4443 section 2.4).
const fn quote_length(version: Version) -> usize {
    let largest = match version {
        Version::V4 => 576,
        Version::V6 => 1280,
    };
    largest - version.header_length() - ICMP_LENGTH
}

/// A token bucket for one lane's ICMP errors.
#[derive(Debug)]
pub(super) struct IcmpLimit {
    tokens: u64,
    refilled_at: Instant,
}

impl IcmpLimit {
    pub(super) fn new() -> Self {
        Self { tokens: BURST, refilled_at: Instant::ZERO }
    }

    fn allow(&mut self, now: Instant) -> bool {
        let interval = Duration::from_micros(1_000_000 / PER_SECOND);
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let earned = (elapsed.as_micros() / interval.as_micros()) as u64;
        if earned > 0 {
            self.tokens = BURST.min(self.tokens.saturating_add(earned));
            self.refilled_at = now;
        }
        let allowed = self.tokens > 0;
        self.tokens -= u64::from(allowed);
        allowed
    }
}

/// Tells the sender of `packet` that only `mtu` octets fit, unless the rate, RFC 1122 section 3.2.2 or RFC 4443 section 2.4
/// forbids it.
pub(super) fn packet_too_big(
    limit: &mut IcmpLimit,
    context: Context<'_>,
    interface: InterfaceId,
    packet: &Packet<'_>,
    mtu: usize,
    output: &mut FrameBuffer,
) {
    let (kind, code, source) = match packet.version {
        Version::V4 => (3, 4, 0),
        Version::V6 => match context.tables.ipv6_source(packet.source()) {
            Some(source) => (2, 0, source),
            None => return,
        },
    };
    // Only "packet too big" is an answer to multicast: IPv6 finds the MTU of its trees so.
    let answerable = is_unicast(packet.version, packet.source())
        && (packet.version == Version::V6 || is_unicast(packet.version, packet.destination()))
        && packet.fragment_offset() == 0
        && !packet.is_icmp_error();
    if answerable {
        let quote = &packet.bytes[..packet.bytes.len().min(quote_length(packet.version))];
        let message = Message { version: packet.version, kind, code, rest: mtu as u32, source, quote };
        message.send(limit, context.now, interface, packet.source(), output);
    }
}

fn is_unicast(version: Version, address: u128) -> bool {
    match version {
        Version::V4 => !matches!(address as u32 >> 24, 0 | 224..),
        Version::V6 => address != 0 && address >> 120 != 0xff,
    }
}

/// An ICMP error.
pub(super) struct Message<'a> {
    pub(super) version: Version,
    pub(super) kind: u8,
    pub(super) code: u8,
    /// The four octets behind the checksum.
    pub(super) rest: u32,
    /// Whom it is from; 0 for this machine (IPv4 only: the checksum of IPv6 covers the address).
    pub(super) source: u128,
    pub(super) quote: &'a [u8],
}

impl Message<'_> {
    /// Appends the frame, unless the rate forbids it: then false.
    pub(super) fn send(
        &self,
        limit: &mut IcmpLimit,
        now: Instant,
        interface: InterfaceId,
        destination: u128,
        output: &mut FrameBuffer,
    ) -> bool {
        if !limit.allow(now) {
            return false;
        }
        let header_length = self.version.header_length();
        let length = ETHERNET_LENGTH + header_length + ICMP_LENGTH + self.quote.len();
        let (_, frame) = output.push(interface, Destination::IcmpToHost, VnetHeader::default(), length);
        let (ethernet, rest) = frame.split_at_mut(ETHERNET_LENGTH);
        let (header, icmp) = rest.split_at_mut(header_length);
        ethernet.fill(0);
        put_word(ethernet, 12, self.version.ethertype());
        header.fill(0);
        // Internetwork control, as routers send their errors (RFC 1812 section 4.3.2.5).
        match self.version {
            Version::V4 => {
                (header[0], header[1], header[8], header[9]) = (0x45, 0xc0, 64, PROTOCOL_ICMP);
                put_long(header, 12, self.source as u32);
                put_long(header, 16, destination as u32);
            }
            Version::V6 => {
                (header[0], header[6], header[7]) = (0x6c, PROTOCOL_ICMPV6, 64);
                header[8..24].copy_from_slice(&self.source.to_be_bytes());
                header[24..40].copy_from_slice(&destination.to_be_bytes());
            }
        }
        set_length(self.version, header, length - ETHERNET_LENGTH);
        (icmp[0], icmp[1]) = (self.kind, self.code);
        put_word(icmp, 2, 0);
        put_long(icmp, 4, self.rest);
        icmp[ICMP_LENGTH..].copy_from_slice(self.quote);
        let pseudo = match self.version {
            Version::V4 => 0,
            Version::V6 => pseudo_header_sum(self.version, header, PROTOCOL_ICMPV6, icmp.len()),
        };
        let value = checksum(pseudo + sum(icmp));
        put_word(icmp, 2, value);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_a_thousand_a_second_after_a_burst_of_fifty() {
        let mut limit = IcmpLimit::new();
        let start = Instant::from_micros(5_000_000);
        let allowed = |limit: &mut IcmpLimit, now| (0..1000).filter(|_| limit.allow(now)).count();
        assert_eq!(allowed(&mut limit, start), 50);
        assert_eq!(allowed(&mut limit, start.saturating_add(Duration::from_millis(10))), 10);
        assert_eq!(allowed(&mut limit, start.saturating_add(Duration::from_secs(60))), 50);
    }
}
