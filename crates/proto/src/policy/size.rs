//! How large the messages of a GROUPKEY-PULL become: a group's policy must fit one UDP datagram.

use std::time::Duration;

use crypto::{EspSuite, Secret};
use wire::codec::LengthWidth;
use wire::selector::Selector;

use super::encode::{TekView, Template};
use crate::pull;
use crate::time::Instant;

/// Octets that one UDP datagram over IPv4 carries.
pub const DATAGRAM_LIMIT: usize = 65_507;

/// Octets around the payload under discussion, at their largest: non-ESP marker, ISAKMP header, HASH of the longest
/// prf, our nonce, and padding to the longest block.
const OVERHEAD: usize = 4 + 28 + (4 + 64) + (4 + pull::NONCE_LENGTH) + 15;

/// Octets of the generic payload header.
const GENERIC_HEADER: usize = 4;

/// Octets of the messages that carry a group's policy and keys, at their largest: every TEK has its successor, the
/// member is ours, the phase 1 SA has the longest prf and block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSize {
    /// Message 2: the policy.
    pub policy: usize,
    /// Message 4: the keys.
    pub keys: usize,
}

impl MessageSize {
    /// The size for TEKs of these suites with these policies, whose identification lengths are of this width.
    pub fn of<'a>(
        id_length: LengthWidth,
        teks: impl Iterator<Item = (EspSuite, &'a [Selector])> + Clone,
    ) -> Self {
        let encoded = |teks: &[(EspSuite, &[Selector])]| encoded(id_length, teks);
        let mut size = Self { policy: OVERHEAD + GENERIC_HEADER, keys: OVERHEAD + GENERIC_HEADER };
        // Each TEK is encoded on its own, so that a policy which exceeds the length field of one payload still has
        // a size. The headers are counted once.
        let (empty_policy, empty_keys) = encoded(&[]);
        size.policy += empty_policy + GAP;
        size.keys += empty_keys;
        for (suite, selectors) in teks {
            for chunk in selectors.chunks(CHUNK).enumerate() {
                let (policy, keys) = encoded(&[(suite, chunk.1)]);
                // Private attributes stand in the first SAT of a TEK only; every chunk has a first one.
                let surplus = if chunk.0 == 0 { 0 } else { PRIVATE };
                size.policy += 2 * (policy - empty_policy - surplus);
                if chunk.0 == 0 {
                    size.keys += 2 * (keys - empty_keys);
                }
            }
            if selectors.is_empty() {
                size.keys += 2 * (encoded(&[(suite, selectors)]).1 - empty_keys);
            }
        }
        size
    }

    /// Whether both messages fit a datagram.
    pub fn fits(&self) -> bool {
        self.policy <= DATAGRAM_LIMIT && self.keys <= DATAGRAM_LIMIT
    }

    /// How many of `policies` policies, of the average size of these, would fit.
    pub fn policies_that_fit(&self, policies: usize) -> usize {
        let fixed = OVERHEAD + GENERIC_HEADER + GAP + 12;
        let variable = (self.policy - fixed).max(self.keys.saturating_sub(fixed)).max(1);
        (DATAGRAM_LIMIT - fixed) * policies / variable
    }
}

/// Policies encoded at a time; so many of the largest fit a payload.
const CHUNK: usize = 256;

/// Octets of a GAP payload with ATD and DTD.
const GAP: usize = GENERIC_HEADER + 8;

/// Octets of the private attributes.
const PRIVATE: usize = 12;

fn encoded(id_length: LengthWidth, teks: &[(EspSuite, &[Selector])]) -> (usize, usize) {
    let keys: Vec<_> = teks
        .iter()
        .map(|(suite, _)| {
            let zeros = |length| Secret::new(vec![0; length]);
            (zeros(suite.cipher_key_len()), zeros(suite.integrity_key_len()))
        })
        .collect();
    let views: Vec<_> = teks
        .iter()
        .zip(&keys)
        .map(|(&(suite, selectors), (cipher_key, integrity_key))| TekView {
            spi: 256,
            suite,
            cipher_key,
            integrity_key,
            lifetime: Duration::ZERO,
            activates: Instant::ORIGIN,
            expires: Instant::ORIGIN,
            predecessor_expires: None,
            selectors,
        })
        .collect();
    let template = Template::new(&views, id_length, true).expect("a chunk of policies fits one payload");
    (template.sa(Instant::ORIGIN).len(), template.kd().len())
}
