//! How large a packet may be that leaves as ESP.

use std::cmp::min;

use super::Context;
use crate::ip::{SMALLEST_IPV6_MTU, Version};
use crate::pseudo_time;
use crate::tables::{BoundSa, Interface};
use crate::{DfBit, GroupSa};

/// No IPv4 link may have a smaller MTU (RFC 791), and no ICMP error of ours asks for less.
const SMALLEST_MTU: usize = 68;

/// How large packets of a version may be that leave by an interface under an SA, and what becomes of larger ones.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Octets of the largest ESP packet.
    pub(super) mtu: u16,
    /// Octets of the largest inner packet that fits; 0: the MTU is too small for any.
    pub(super) largest: usize,
    pub(super) df_bit: DfBit,
}

impl Limits {
    /// With so many octets of other headers in front.
    pub(super) fn new(
        context: Context<'_>,
        interface: &Interface,
        bound: &BoundSa,
        version: Version,
        path_mtu: Option<u16>,
        before: usize,
    ) -> Self {
        let vpn = &context.tables.vpns()[bound.vpn as usize];
        let mut mtu =
            min(min(interface.mtu, vpn.tunnel_mtu.unwrap_or(u16::MAX)), path_mtu.unwrap_or(u16::MAX));
        if version == Version::V6 {
            mtu = mtu.max(SMALLEST_IPV6_MTU);
        }
        let room = usize::from(mtu).saturating_sub(before);
        Self { mtu, largest: largest_inner(&bound.sa, version, room).unwrap_or(0), df_bit: vpn.df_bit }
    }
}

/// Octets of the largest inner packet whose ESP packet has at most `mtu` octets.
pub(super) fn largest_inner(sa: &GroupSa, version: Version, mtu: usize) -> Option<usize> {
    let time_header = if sa.pseudo_clock().is_some() { pseudo_time::HEADER_LENGTH } else { 0 };
    let payload = sa.layout().most_payload(mtu.checked_sub(version.header_length())?)?;
    let largest = payload.checked_sub(time_header)?;
    (largest >= SMALLEST_MTU).then_some(largest)
}
