//! Message ids of our own, no two the same.

use crypto::Random;
use wire::isakmp::MessageId;

/// A random-looking order of all message ids, walked through once.
///
/// A set of the ids used so far would grow with every dead peer detection; a permutation does not.
#[derive(Clone, Debug)]
pub(super) struct MessageIds {
    counter: u32,
    keys: [u32; 2],
}

impl MessageIds {
    pub(super) fn new(random: &mut dyn Random) -> Self {
        let mut number = || {
            let mut octets = [0; 4];
            random.fill(&mut octets);
            u32::from_be_bytes(octets)
        };
        Self { counter: number(), keys: [number(), number()] }
    }

    /// The next id; never zero, which is phase 1.
    pub(super) fn next(&mut self) -> MessageId {
        loop {
            self.counter = self.counter.wrapping_add(1);
            let id = permute(self.counter ^ self.keys[0]) ^ self.keys[1];
            if id != 0 {
                return MessageId(id);
            }
        }
    }
}

/// A bijection of 32-bit numbers (each step has an inverse) that leaves no pattern to the eye.
fn permute(mut number: u32) -> u32 {
    number ^= number >> 16;
    number = number.wrapping_mul(0x85eb_ca6b);
    number ^= number >> 13;
    number = number.wrapping_mul(0xc2b2_ae35);
    number ^ number >> 16
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crypto::SeededRandom;

    use super::*;

    #[test]
    fn no_id_comes_twice_and_none_is_zero() {
        let mut ids = MessageIds::new(&mut SeededRandom::new(1));
        let drawn: BTreeSet<MessageId> = (0..100_000).map(|_| ids.next()).collect();
        assert_eq!(drawn.len(), 100_000);
        assert!(!drawn.contains(&MessageId::PHASE_ONE));
    }
}
