//! How large the messages of a GROUPKEY-PULL become: a group's policy must fit one UDP datagram.

use std::net::Ipv6Addr;
use std::time::Duration;

use crypto::signature::SigningKey;
use crypto::{CbcCipher, EspSuite, Hash, Secret};
use wire::codec::LengthWidth;
use wire::selector::Selector;

use super::encode::{GroupPolicy, TekView, Template};
use super::encode_kek::KekView;
use super::sender_ids;
use crate::phase1::OWN_VENDOR_IDS;
use crate::push::{AcknowledgementPrf, Kek, KekSpi};
use crate::time::Instant;
use crate::{pseudo_time, pull};

/// Octets that one UDP datagram over IPv4 carries.
pub const DATAGRAM_LIMIT: usize = 65_507;

/// Octets around the payload under discussion, at their largest: non-ESP marker, ISAKMP header, HASH of the longest
/// prf, our nonce, and padding to the longest block.
const OVERHEAD: usize = 4 + 28 + (4 + 64) + (4 + pull::NONCE_LENGTH) + 15;

/// Octets of our vendor ids, which message 2 tells again.
const VENDOR_IDS: usize = OWN_VENDOR_IDS.len() * (4 + 16);

/// Octets of the generic payload header.
const GENERIC_HEADER: usize = 4;

/// Octets of a GROUPKEY-PUSH around SA and KD, without its signature: non-ESP marker, ISAKMP header, SEQ, the generic
/// header of SIG, and padding to the longest block.
const PUSH_OVERHEAD: usize = 4 + 28 + 8 + 4 + 15;

/// TEKs of one ipsec-sa that live at a time: two. Where the server pushes, a change of policy makes a third.
const TEKS: usize = 2;
const TEKS_PUSHED: usize = 3;

/// Octets of the messages that carry a group's policy and keys, at their largest: every TEK has its successor, the
/// member is ours, the phase 1 SA has the longest prf and block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSize {
    /// Message 2: the policy.
    pub policy: usize,
    /// Message 4: the keys.
    pub keys: usize,
    /// The largest GROUPKEY-PUSH, which carries policy and keys of one ipsec-sa; 0 where members pull.
    pub push: usize,
}

impl MessageSize {
    /// The size for TEKs of these suites with these policies, whose identification lengths are of this width.
    /// `signing` is the key that a group is signed with whose server pushes.
    pub fn of<'a>(
        id_length: LengthWidth,
        signing: Option<&SigningKey>,
        teks: impl Iterator<Item = (EspSuite, &'a [Selector])> + Clone,
    ) -> Self {
        let encoded = |teks: &[(EspSuite, &[Selector])]| encoded(id_length, None, teks);
        // Each TEK is encoded on its own, so that a policy which exceeds the length field of one payload still has
        // a size. The headers are counted once.
        let (empty_policy, empty_keys) = encoded(&[]);
        let (kek_policy, kek_keys) = match signing {
            Some(signing) => self::encoded(id_length, Some(signing), &[]),
            None => (empty_policy, empty_keys),
        };
        let mut size = Self {
            policy: OVERHEAD + GENERIC_HEADER + kek_policy + GAP + VENDOR_IDS,
            // SEQ comes with a KEK only.
            keys: OVERHEAD + GENERIC_HEADER + kek_keys + if signing.is_some() { SEQ } else { 0 },
            push: 0,
        };
        let alive = if signing.is_some() { TEKS_PUSHED } else { TEKS };
        let mut largest = 0;
        if teks.clone().any(|(suite, _)| !suite.wants_random_iv()) {
            size.keys += sender_ids::PACKET + sender_ids::MOST_AT_A_TIME * sender_ids::VALUE;
        }
        for (suite, selectors) in teks {
            let (mut tek_policy, mut tek_keys) = (PRIVATE_CHANGE, encoded(&[(suite, &[])]).1 - empty_keys);
            for (index, chunk) in selectors.chunks(CHUNK).enumerate() {
                let (policy, keys) = encoded(&[(suite, chunk)]);
                // Private attributes stand in the first SAT of a TEK only; every chunk has a first one.
                let surplus = if index == 0 { 0 } else { PRIVATE };
                tek_policy += policy - empty_policy - surplus;
                tek_keys = keys - empty_keys;
            }
            size.policy += alive * tek_policy;
            size.keys += alive * tek_keys;
            largest = largest.max(alive * (tek_policy + tek_keys));
        }
        if let Some(signing) = signing {
            let payloads = 2 * GENERIC_HEADER + kek_policy + GAP + kek_keys;
            size.push = PUSH_OVERHEAD + signing.signature_len() + payloads + largest;
        }
        size
    }

    /// Whether all messages fit a datagram.
    pub fn fits(&self) -> bool {
        self.policy.max(self.keys).max(self.push) <= DATAGRAM_LIMIT
    }

    /// How many of `policies` policies, of the average size of these, would fit.
    pub fn policies_that_fit(&self, policies: usize) -> usize {
        // With the private attributes of one ipsec-sa, which are no policy's.
        let fixed = OVERHEAD + GENERIC_HEADER + GAP + VENDOR_IDS + 12 + TEKS * (PRIVATE + PRIVATE_CHANGE);
        let largest = self.policy.max(self.keys).max(self.push);
        let variable = largest.saturating_sub(fixed).max(1);
        (DATAGRAM_LIMIT - fixed) * policies / variable
    }
}

/// Policies encoded at a time; so many of the largest fit a payload.
const CHUNK: usize = 256;

/// Octets of a GAP payload with ATD, DTD and pseudo-time.
const GAP: usize = GENERIC_HEADER + 8 + pseudo_time::ATTRIBUTES_LENGTH;

/// Octets of a SEQ payload.
const SEQ: usize = GENERIC_HEADER + 4;

/// Octets of the private attributes that every TEK has.
const PRIVATE: usize = 12;

/// Octets of the one that a TEK has while the group's anti-replay changes.
const PRIVATE_CHANGE: usize = 4;

/// Octets of the bodies of SA, without GAP, and of KD.
fn encoded(
    id_length: LengthWidth,
    signing: Option<&SigningKey>,
    teks: &[(EspSuite, &[Selector])],
) -> (usize, usize) {
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
            anti_replay: None,
        })
        .collect();
    // The longest of everything: IPv6 addresses, a stated key length.
    let cipher = CbcCipher::Aes256;
    let kek = Kek {
        spi: KekSpi([0; 16]),
        cipher,
        key: Secret::new(vec![0; cipher.key_len()]),
        iv: Secret::new(vec![0; cipher.block_len()]),
        hash: Hash::Sha256,
        acknowledgement: Some(AcknowledgementPrf::Sha256),
    };
    let verifying_key = signing.map(SigningKey::verifying_key);
    let kek = verifying_key.as_ref().map(|verifying_key| KekView {
        kek: &kek,
        verifying_key,
        source: Some(Ipv6Addr::UNSPECIFIED.into()),
        multicast_group: Some(Ipv6Addr::UNSPECIFIED.into()),
        lifetime: Duration::ZERO,
        heartbeat: Some(Duration::ZERO),
        expires: Instant::ORIGIN,
    });
    let policy = GroupPolicy { kek, gap: None, pseudo_time: None, teks: &views, id_length, private: true };
    let template = Template::new(&policy).expect("a chunk of policies fits one payload");
    (template.sa(Instant::ORIGIN).len(), template.kd().len())
}
