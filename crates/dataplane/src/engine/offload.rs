//! Checksums that the kernel has left to us.

use crate::ip::{ETHERNET_LENGTH, Packet, checksum, put_word, sum};
use crate::{DropReason, VnetHeader};

/// Where the frame's checksum is to be completed: start and field, from the start of the packet.
#[inline]
pub(super) fn checksum_offload(
    vnet: &VnetHeader,
    packet: &Packet<'_>,
) -> Result<Option<(usize, usize)>, DropReason> {
    if vnet.flags & VnetHeader::NEEDS_CHECKSUM == 0 {
        return Ok(None);
    }
    let start = usize::from(vnet.checksum_start).checked_sub(ETHERNET_LENGTH);
    let start = start.filter(|start| *start >= packet.header_length).ok_or(DropReason::BadChecksumOffload)?;
    let field = start + usize::from(vnet.checksum_offset);
    if field + 2 > packet.bytes.len() || packet.is_fragment() {
        return Err(DropReason::BadChecksumOffload);
    }
    Ok(Some((start, field)))
}

/// The field already holds the sum of the pseudo-header, so that it counts as data.
#[inline]
pub(super) fn complete_checksum(packet: &mut [u8], at: Option<(usize, usize)>) {
    if let Some((start, field)) = at {
        put_checksum(packet, start, field);
    }
}

#[inline(never)]
fn put_checksum(packet: &mut [u8], start: usize, field: usize) {
    let value = checksum(sum(&packet[start..]));
    // Zero would mean "no checksum" to UDP, and is the same number to everybody else.
    put_word(packet, field, if value == 0 { 0xffff } else { value });
}
