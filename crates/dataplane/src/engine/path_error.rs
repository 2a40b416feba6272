//! ICMP errors that routers on the path send about our ESP packets.
//!
//! Anyone on the path can make them up; so they are believed as far as RFC 4301 section 6.1.1 allows: the path MTU is
//! lowered within bounds, and a host is told only about a packet that was really sent a moment ago.

use super::icmp::Message;
use super::limits::largest_inner;
use super::sent::smallest_path_mtu;
use super::{Context, Engine};
use crate::ip::{PROTOCOL_ESP, Packet, Version, long};
use crate::{DfBit, DropReason, FrameBuffer, InterfaceId};

const UNREACHABLE: u8 = 3;
const FRAGMENTATION_NEEDED: u8 = 4;
/// Of ICMPv6.
const PACKET_TOO_BIG: u8 = 2;

impl Engine {
    /// Row 6 of the packets that arrive. False if the packet is not an error about ESP with an SPI of ours.
    pub(super) fn path_error(
        &mut self,
        context: Context<'_>,
        id: InterfaceId,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) -> bool {
        let Some(interface) = context.tables.interface(id) else { return false };
        let about_esp = |quoted: &Packet<'_>| {
            quoted.protocol() == PROTOCOL_ESP && quoted.fragment_offset() == 0 && quoted.payload().len() >= 8
        };
        let Some(quoted) = packet.quoted().filter(about_esp) else { return false };
        let (spi, sequence) = (long(quoted.payload(), 0), long(quoted.payload(), 4));
        let Some((sa, _)) = context.sa_for(interface, spi, &quoted) else { return false };
        let bound = &context.tables.sas[sa as usize];

        let vpn = &context.tables.vpns()[bound.vpn as usize];

        let icmp = packet.payload();
        let (kind, code) = (icmp[0], icmp[1]);
        let mut rest = long(icmp, 4);
        let too_big = match packet.version {
            Version::V4 => (kind, code) == (UNREACHABLE, FRAGMENTATION_NEEDED),
            Version::V6 => kind == PACKET_TOO_BIG,
        };
        // No router says so about an IPv4 packet without DF.
        let possible = !too_big || packet.version == Version::V6 || vpn.df_bit != DfBit::Clear;
        if too_big && possible {
            // Routers older than RFC 1191 say nothing; then the smallest MTU that is believed is certain to pass.
            let said = match packet.version {
                Version::V4 => rest & 0xffff,
                Version::V6 => rest,
            };
            let smallest = smallest_path_mtu(packet.version);
            let mtu = said.clamp(smallest.into(), u16::MAX.into()) as u16;
            self.outbound.path_mtus.lower(context.now, packet.version, quoted.destination(), mtu);
            let largest = largest_inner(&bound.sa, packet.version, mtu.into()).unwrap_or_default() as u32;
            // No host of IPv6 goes below the smallest: we cut such packets' ESP.
            rest = if packet.version == Version::V6 { largest.max(smallest.into()) } else { largest };
        }
        let outbound = &mut self.outbound;
        let inner = outbound.sent.find(spi, sequence).filter(|inner| {
            possible && (inner.source(), inner.destination()) == (quoted.source(), quoted.destination())
        });
        let is_told = inner.is_some_and(|inner| {
            let (version, quote) = (packet.version, inner.bytes);
            let message = Message { version, kind, code, rest, source: packet.source(), quote };
            message.send(&mut outbound.icmp_limit, context.now, id, inner.source(), output)
        });
        if !is_told {
            context.drop(DropReason::IcmpQuotingEsp, Some(bound.vpn));
        }
        true
    }
}
