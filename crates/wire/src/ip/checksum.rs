//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use std::net::{Ipv4Addr, Ipv6Addr};

/// A one's complement sum in progress.
///
/// Only the last piece added may have an odd number of octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checksum(u64);

impl Checksum {
    /// An empty sum.
    pub fn new() -> Self {
        Self::default()
    }

    /// The sum with `octets` added.
    #[must_use]
    pub fn plus(self, octets: &[u8]) -> Self {
        // Eight octets at a time: a carry out of the 64-bit accumulator is added back, as one's complement wants.
        let mut sum = self.0;
        let mut chunks = octets.chunks_exact(8);
        for chunk in &mut chunks {
            let word = u64::from_be_bytes(chunk.try_into().expect("chunks_exact yields eight octets"));
            let (next, carry) = sum.overflowing_add(word);
            sum = next + u64::from(carry);
        }
        let mut last = [0; 8];
        last[..chunks.remainder().len()].copy_from_slice(chunks.remainder());
        let (next, carry) = sum.overflowing_add(u64::from_be_bytes(last));
        Self(next + u64::from(carry))
    }

    /// The sum with a 16-bit number added.
    #[must_use]
    pub fn plus_u16(self, value: u16) -> Self {
        let (sum, carry) = self.0.overflowing_add(value.into());
        Self(sum + u64::from(carry))
    }

    /// The sum folded to 16 bits, not complemented: what a partial checksum field holds.
    pub fn folded(self) -> u16 {
        let mut sum = self.0;
        while sum >> 16 != 0 {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    /// The checksum: the complement of the folded sum.
    pub fn finish(self) -> u16 {
        !self.folded()
    }
}

/// The checksum of `octets`; zero if they contain their own correct checksum.
pub fn checksum(octets: &[u8]) -> u16 {
    Checksum::new().plus(octets).finish()
}

/// A checksum after one 16-bit word that it covers changed from `old` to `new` (RFC 1624 equation 3).
pub fn checksum_update(checksum: u16, old: u16, new: u16) -> u16 {
    Checksum::new().plus_u16(!checksum).plus_u16(!old).plus_u16(new).finish()
}

/// A checksum after one aligned 32-bit word that it covers changed from `old` to `new`.
pub fn checksum_update_u32(checksum: u16, old: u32, new: u32) -> u16 {
    let high = checksum_update(checksum, (old >> 16) as u16, (new >> 16) as u16);
    checksum_update(high, old as u16, new as u16)
}

/// Addresses of a pseudo header.
pub trait PseudoAddress: Copy {
    /// The sum with the octets of the address added.
    fn sum(self, checksum: Checksum) -> Checksum;
}

impl PseudoAddress for Ipv4Addr {
    fn sum(self, checksum: Checksum) -> Checksum {
        checksum.plus(&self.octets())
    }
}

impl PseudoAddress for Ipv6Addr {
    fn sum(self, checksum: Checksum) -> Checksum {
        checksum.plus(&self.octets())
    }
}

/// The sum of a TCP, UDP or ICMPv6 pseudo header; `length` is that of the transport header and payload, in octets.
pub fn pseudo_header<A: PseudoAddress>(source: A, destination: A, protocol: u8, length: u32) -> Checksum {
    destination.sum(source.sum(Checksum::new())).plus(&length.to_be_bytes()).plus_u16(protocol.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_the_example_of_rfc_1071() {
        let octets = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Checksum::new().plus(&octets).folded(), 0xddf2);
        assert_eq!(Checksum::new().plus(&octets[..2]).plus(&octets[2..]).folded(), 0xddf2);
    }

    #[test]
    fn the_incremental_update_of_the_example_of_rfc_1624() {
        assert_eq!(checksum_update(0xdd2f, 0x5555, 0x3285), 0x0000);
    }

    proptest::proptest! {
        #[test]
        fn any_division_into_even_pieces_gives_the_same_sum(
            octets in proptest::collection::vec(0_u8.., 0..200), cut in 0_usize..100,
        ) {
            let cut = (cut * 2).min(octets.len() & !1);
            let pieces = Checksum::new().plus(&octets[..cut]).plus(&octets[cut..]);
            proptest::prop_assert_eq!(pieces.finish(), checksum(&octets));
        }

        #[test]
        fn an_update_equals_a_new_computation(mut words in proptest::array::uniform10(0_u16..), new in 0_u16..) {
            // A sum that is zero before complementing has two representations; a header never sums to it.
            words[9] = 0x4500;
            let octets = |words: [u16; 10]| words.map(u16::to_be_bytes).concat();
            let before = checksum(&octets(words));
            let old = std::mem::replace(&mut words[3], new);
            proptest::prop_assert_eq!(checksum_update(before, old, new), checksum(&octets(words)));
        }
    }
}
