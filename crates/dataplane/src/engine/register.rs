//! PIM Registers: multicast data that a designated router sends to the rendezvous point inside a unicast packet.
//!
//! ```text
//! IP | PIM: 0x21, checksum, flags | inner packet      ->      IP | PIM | ESP around the inner packet
//! ```
//!
//! The rendezvous point takes out what is inside and sends it down the tree, where group and source of the ESP packet are
//! those of the data.

use super::outbound::Enclosure;
use super::{Context, Engine, Rules};
use crate::classify::Verdict;
use crate::ip::{
    PROTOCOL_PIM, Packet, Version, checksum, long, pseudo_header_sum, put_word, set_length, sum,
};
use crate::sessions::Direction;
use crate::tables::Interface;
use crate::{Destination, DropReason, FrameBuffer, FrameIn, Registration, VnetHeader};

/// Octets of the PIM header and the flags.
const REGISTER_LENGTH: usize = 8;
const VERSION_2_REGISTER: u8 = 0x21;
const NULL_REGISTER: u32 = 0x4000_0000;
/// A Null-Register ends with the header of a packet, of IPv6 with an empty PIM header behind.
const LONGEST_NULL_REGISTER: usize = REGISTER_LENGTH + 40 + 8;

/// The packet is a Register with data, or a fragment of what may be one: those go to one router, other messages of PIM
/// that have data go to all.
pub(super) fn may_carry_data(packet: &Packet<'_>) -> bool {
    if packet.protocol() != PROTOCOL_PIM {
        return false;
    }
    let payload = packet.payload();
    if packet.is_fragment() {
        let is_multicast = match packet.version {
            Version::V4 => packet.destination() as u32 >> 28 == 0xe,
            Version::V6 => packet.destination() >> 120 == 0xff,
        };
        return !is_multicast;
    }
    payload.len() > REGISTER_LENGTH
        && payload[0] == VERSION_2_REGISTER
        && (long(payload, 4) & NULL_REGISTER == 0 || payload.len() > LONGEST_NULL_REGISTER)
}

impl Engine {
    /// Row 5 of the packets that leave: what is inside is judged, and protected in place.
    pub(super) fn register(
        &mut self,
        context: Context<'_>,
        interface: &Interface,
        frame: &FrameIn<'_>,
        packet: &Packet<'_>,
        output: &mut FrameBuffer,
    ) {
        if packet.is_fragment() || frame.vnet != VnetHeader::default() {
            return context.drop(DropReason::RegisterFragment, None);
        }
        let unregistered =
            |vpn: &&u32| context.tables.vpns()[**vpn as usize].registration == Registration::NotYet;
        if let Some(vpn) = interface.vpns.iter().find(unregistered) {
            return context.drop(DropReason::NotRegistered, Some(*vpn));
        }
        let (before, data) = packet.bytes.split_at(packet.header_length + REGISTER_LENGTH);
        let version = if data[0] >> 4 == 6 { Version::V6 } else { Version::V4 };
        let Some(inner) = Packet::parse(version, data) else {
            return context.drop(DropReason::Malformed, None);
        };
        let rules = Rules::Egress { own: false, injected: false };
        let (verdict, tracked) = self.verdict(context, interface, frame.interface, &inner, rules);
        match verdict {
            Verdict::Encrypt { sa } => {
                let enclosure = Enclosure { before, packet: &inner };
                let amount = self.outbound.protect(context, interface, frame, enclosure, sa, output);
                self.track(context, frame.interface, sa, Direction::Outward, &inner, tracked, amount);
            }
            verdict => context.pass_or_drop(verdict, frame, Destination::WireClear, output),
        }
    }
}

/// Completes the headers before the ESP packet of a Register of `total` octets.
///
/// The checksum does not cover what is inside (RFC 7761 section 4.9).
pub(super) fn finish(before: &mut [u8], total: usize) {
    let version = if before[0] >> 4 == 6 { Version::V6 } else { Version::V4 };
    let (ip, pim) = before.split_at_mut(before.len() - REGISTER_LENGTH);
    set_length(version, ip, total);
    put_word(pim, 2, 0);
    let pseudo = match version {
        Version::V4 => 0,
        Version::V6 => pseudo_header_sum(version, ip, PROTOCOL_PIM, REGISTER_LENGTH),
    };
    let value = checksum(pseudo + sum(pim));
    put_word(pim, 2, value);
}
