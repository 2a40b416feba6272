//! ICMP errors towards hosts: "fragmentation needed" for packets that do not fit into ESP, and what routers say about
//! our ESP, translated into what they would have said about the packet inside.

use std::time::Duration;

use crate::ip::{
    self, ETHERNET_LENGTH, ETHERTYPE_IPV4, IPV4_LENGTH, Ipv4, PROTOCOL_ICMP, checksum, put_long, put_word,
    sum,
};
use crate::{Destination, FrameBuffer, Instant, InterfaceId, VnetHeader};

/// As Linux' `icmp_msgs_per_sec`.
const PER_SECOND: u64 = 1000;
/// As Linux' `icmp_msgs_burst`.
const BURST: u64 = 50;

const ICMP_LENGTH: usize = 8;
/// RFC 1812 section 4.3.2.3: as much of the packet as fits into 576 octets.
const QUOTE_LENGTH: usize = 576 - IPV4_LENGTH - ICMP_LENGTH;

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

/// Tells the sender of `packet` that only `mtu` octets fit, unless the rate or RFC 1122 section 3.2.2 forbids it.
pub(super) fn fragmentation_needed(
    limit: &mut IcmpLimit,
    now: Instant,
    interface: InterfaceId,
    packet: &Ipv4<'_>,
    mtu: usize,
    output: &mut FrameBuffer,
) {
    let unicast = |address: u32| !matches!(address >> 24, 0 | 224..);
    let answerable = unicast(packet.source())
        && unicast(packet.destination())
        && packet.fragment_offset() == 0
        && packet.quoted().is_none();
    if answerable {
        let quote = &packet.bytes[..packet.bytes.len().min(QUOTE_LENGTH)];
        let message = Message { kind: 3, code: 4, rest: mtu as u32, source: 0, quote };
        message.send(limit, now, interface, packet.source(), output);
    }
}

/// An ICMP error.
pub(super) struct Message<'a> {
    pub(super) kind: u8,
    pub(super) code: u8,
    /// The four octets behind the checksum.
    pub(super) rest: u32,
    /// Whom it is from; 0 for this machine.
    pub(super) source: u32,
    pub(super) quote: &'a [u8],
}

impl Message<'_> {
    /// Appends the frame, unless the rate forbids it: then false.
    pub(super) fn send(
        &self,
        limit: &mut IcmpLimit,
        now: Instant,
        interface: InterfaceId,
        destination: u32,
        output: &mut FrameBuffer,
    ) -> bool {
        if !limit.allow(now) {
            return false;
        }
        let length = ETHERNET_LENGTH + IPV4_LENGTH + ICMP_LENGTH + self.quote.len();
        let (_, frame) = output.push(interface, Destination::IcmpToHost, VnetHeader::default(), length);
        let (ethernet, rest) = frame.split_at_mut(ETHERNET_LENGTH);
        let (header, icmp) = rest.split_at_mut(IPV4_LENGTH);
        ethernet.fill(0);
        put_word(ethernet, 12, ETHERTYPE_IPV4);
        header.fill(0);
        header[0] = 0x45;
        // Internetwork control, as routers send their errors (RFC 1812 section 4.3.2.5).
        header[1] = 0xc0;
        put_word(header, 2, (length - ETHERNET_LENGTH) as u16);
        header[8] = 64;
        header[9] = PROTOCOL_ICMP;
        put_long(header, 12, self.source);
        put_long(header, 16, destination);
        ip::set_header_checksum(header);
        (icmp[0], icmp[1]) = (self.kind, self.code);
        put_word(icmp, 2, 0);
        put_long(icmp, 4, self.rest);
        icmp[ICMP_LENGTH..].copy_from_slice(self.quote);
        let value = checksum(sum(icmp));
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
