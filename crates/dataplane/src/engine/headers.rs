//! What is written around an inner packet: the outer header and the trailer.

use crate::DfBit;
use crate::ip::{
    DONT_FRAGMENT, IPV4_LENGTH, IPV6_LENGTH, PROTOCOL_ESP, checksum, long, put_long, put_word, word,
};

/// The longest padding.
pub(super) const COUNTED: [u8; 255] = {
    let mut counted = [0; 255];
    let mut at = 0;
    while at < counted.len() {
        counted[at] = at as u8 + 1;
        at += 1;
    }
    counted
};

/// The outer header: a copy of the inner one (RFC 4301 section 5.1.2.1), addresses included (RFC 6407 section 5.3, RFC 5374
/// section 3.1), but of itself: no fragment even if the inner packet is one.
//= https://www.rfc-editor.org/rfc/rfc4301#section-5.1.2.1
//# Options              never copied                 no change
#[inline(always)]
pub(super) fn write_outer_v4(
    outer: &mut [u8],
    inner: &[u8],
    esp_length: usize,
    df_bit: DfBit,
    identification: u16,
) {
    let outer: &mut [u8; IPV4_LENGTH] = outer.first_chunk_mut().expect("as many octets");
    let inner: &[u8; IPV4_LENGTH] = inner.first_chunk().expect("a whole packet");
    let dont_fragment = match df_bit {
        DfBit::Clear => 0,
        DfBit::Set => DONT_FRAGMENT,
        DfBit::Copy => word(inner, 6) & DONT_FRAGMENT,
    };
    let length = (IPV4_LENGTH + esp_length) as u32;
    let mut words = [
        0x4500_0000 | u32::from(inner[1]) << 16 | length & 0xffff,
        u32::from(identification) << 16 | u32::from(dont_fragment),
        u32::from(inner[8]) << 24 | u32::from(PROTOCOL_ESP) << 16,
        long(inner, 12),
        long(inner, 16),
    ];
    words[2] |= u32::from(checksum(words.iter().map(|word| u64::from(*word)).sum()));
    for (at, word) in words.into_iter().enumerate() {
        put_long(outer, 4 * at, word);
    }
}

/// The outer header: version, traffic class, flow label, hop limit and addresses of the inner one, no extension headers.
//= https://www.rfc-editor.org/rfc/rfc4301#section-5.1.2.2
//# (7) IPsec does not copy the extension headers from the inner
//# packet into outer headers, nor does IPsec construct extension
//# headers in the outer header.
#[inline(always)]
pub(super) fn write_outer_v6(outer: &mut [u8], inner: &[u8], esp_length: usize) {
    outer.copy_from_slice(&inner[..IPV6_LENGTH]);
    put_word(outer, 4, esp_length as u16);
    outer[6] = PROTOCOL_ESP;
}

/// Padding, its length, and the protocol of what comes before it: `length` octets at the beginning of `behind`.
//= https://www.rfc-editor.org/rfc/rfc4303#section-2.4
//# The first padding byte appended
//# to the plaintext is numbered 1, with subsequent padding bytes making
//# up a monotonically increasing sequence: 1, 2, 3, ....
#[inline(always)]
pub(super) fn write_trailer(behind: &mut [u8], length: usize, protocol: u8) {
    let padding = length - 2;
    // What is written too much is the place of the ICV.
    match behind.first_chunk_mut::<8>() {
        Some(first) if padding <= first.len() => *first = *COUNTED.first_chunk().expect("it is longer"),
        _ => behind[..padding].copy_from_slice(&COUNTED[..padding]),
    }
    put_word(behind, padding, (padding as u16) << 8 | u16::from(protocol));
}
