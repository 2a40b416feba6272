//! Copies of pushes that were accepted, thrown away before anything is computed.

use std::collections::VecDeque;

/// Pushes remembered per KEK: a retransmitting network repeats the last few, and a server's round is a push of its own.
const REMEMBERED: usize = 8;

/// Octets that tell one push from another: the last two blocks. In CBC they depend on everything before them.
const FINGERPRINT: usize = 32;

/// The last pushes that were accepted under one KEK.
///
/// Only accepted ones are remembered: whoever could make us remember others could keep us from taking genuine ones.
//= https://www.rfc-editor.org/rfc/rfc6407#section-7.3.4
//# Implementations SHOULD keep a record (e.g., a hash value) of recently
//# received GROUPKEY-PUSH messages and reject duplicate messages prior
//# to performing cryptographic operations.
#[derive(Clone, Debug, Default)]
pub struct Recent(VecDeque<[u8; FINGERPRINT]>);

impl Recent {
    /// Whether `datagram` is a copy of one that was remembered.
    pub fn contains(&self, datagram: &[u8]) -> bool {
        datagram.last_chunk().is_some_and(|fingerprint| self.0.contains(fingerprint))
    }

    /// Remembers a push that was accepted.
    pub fn remember(&mut self, datagram: &[u8]) {
        let Some(fingerprint) = datagram.last_chunk() else { return };
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(*fingerprint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_few_pushes_are_remembered_and_no_more() {
        let mut recent = Recent::default();
        let push = |number: u8| [vec![0; 100], vec![number; FINGERPRINT]].concat();
        assert!(!recent.contains(&push(0)));
        for number in 0..=REMEMBERED as u8 {
            recent.remember(&push(number));
            assert!(recent.contains(&push(number)));
        }
        assert!(!recent.contains(&push(0)));
        assert!(recent.contains(&push(1)));
        assert!(!recent.contains(&[]));
    }
}
