//! What is checked and computed when a packet comes out of ESP.

use super::headers::COUNTED;
use crate::DropReason;
use crate::ip::PROTOCOL_NONE;

/// Checks padding and dummies; returns the octets of payload before the padding, and the next header.
#[inline(always)]
pub(super) fn check_trailer(plain: &[u8]) -> Result<(usize, u8), DropReason> {
    let [before @ .., padding, next_header] = plain else { return Err(DropReason::EspTooShort) };
    let payload_length = before.len().checked_sub(usize::from(*padding)).ok_or(DropReason::BadPadding)?;
    let is_right = match before[payload_length..] {
        [] => true,
        [1] => true,
        [1, 2] => true,
        [1, 2, 3] => true,
        ref padding => *padding == COUNTED[..padding.len()],
    };
    if !is_right {
        return Err(DropReason::BadPadding);
    }
    match *next_header {
        PROTOCOL_NONE => Err(DropReason::DummyPacket),
        next_header => Ok((payload_length, next_header)),
    }
}

/// The inner TOS with the congestion the outer header has met (RFC 6040 figure 4).
#[inline(always)]
pub(super) fn decapsulated_tos(inner: u8, outer: u8) -> Result<u8, DropReason> {
    const NOT_CAPABLE: u8 = 0;
    const ECT_1: u8 = 1;
    const ECT_0: u8 = 2;
    const CONGESTION: u8 = 3;
    let ecn = match (inner & 3, outer & 3) {
        (inner, outer) if inner == outer => inner,
        //= https://www.rfc-editor.org/rfc/rfc6040#section-4.2
        //# If the inner ECN field is Not-ECT and the outer ECN field is
        //# CE, the decapsulator MUST drop the packet.
        (NOT_CAPABLE, CONGESTION) => return Err(DropReason::EcnDrop),
        (NOT_CAPABLE, _) => NOT_CAPABLE,
        //= https://www.rfc-editor.org/rfc/rfc6040#section-4.2
        //# In all other cases where the inner supports ECN, the decapsulator
        //# MUST set the outgoing ECN field to the more severe marking of the
        //# outer and inner ECN fields, where the ranking of severity from
        //# highest to lowest is CE, ECT(1), ECT(0), Not-ECT.
        (_, CONGESTION) | (CONGESTION, _) => CONGESTION,
        (_, ECT_1) | (ECT_1, _) => ECT_1,
        (_, _) => ECT_0,
    };
    Ok(inner & !3 | ecn)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn congestion_is_carried_inward_as_in_figure_4() {
        const NOT: Option<u8> = Some(0);
        let figure = [
            [NOT, NOT, NOT, None],
            [Some(2), Some(2), Some(1), Some(3)],
            [Some(1), Some(1), Some(1), Some(3)],
            [Some(3), Some(3), Some(3), Some(3)],
        ];
        for (inner, row) in [0, 2, 1, 3].into_iter().zip(figure) {
            for (outer, expected) in [0, 2, 1, 3].into_iter().zip(row) {
                let result = decapsulated_tos(0xb8 | inner, 0x40 | outer).ok();
                assert_eq!(result, expected.map(|ecn| 0xb8 | ecn), "inner {inner} outer {outer}");
            }
        }
    }

    #[test]
    fn padding_that_does_not_count_is_refused() {
        assert_eq!(check_trailer(&[9, 1, 2, 3, 3, 4]), Ok((1, 4)));
        assert_eq!(check_trailer(&[9, 1, 2, 4, 3, 4]), Err(DropReason::BadPadding));
        assert_eq!(check_trailer(&[1, 2, 3, 4, 4]), Err(DropReason::BadPadding));
        assert_eq!(check_trailer(&[9, 0, 41]), Ok((1, 41)));
        assert_eq!(check_trailer(&[0, 59]), Err(DropReason::DummyPacket));
        assert_eq!(check_trailer(&[4]), Err(DropReason::EspTooShort));
    }
}
