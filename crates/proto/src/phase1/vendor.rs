//! Vendor ids: how peers announce what goes beyond the RFCs.

use wire::isakmp::{PayloadChain, Payloads, VendorId};
use wire::registry::PayloadType;

/// A peer that is our own product: MD5 of `groupvpn 1`. It permits the private attributes we exchange.
pub const VENDOR_ID_GROUPVPN: [u8; 16] =
    [0xf0, 0x91, 0xc1, 0x2d, 0x4d, 0xac, 0x3f, 0xfa, 0x4b, 0x54, 0x58, 0xc3, 0x15, 0xa3, 0x72, 0xa5];

/// IP delivery delay detection protocol (draft-weis-delay-detection-03).
pub const VENDOR_ID_D3P: [u8; 16] =
    [0x11, 0x00, 0x88, 0x39, 0x7f, 0x51, 0xfe, 0x96, 0x69, 0xb9, 0x63, 0x04, 0x76, 0x35, 0x8b, 0xec];

/// Dead peer detection, version 1.0 (RFC 3706 section 5.1).
pub const VENDOR_ID_DEAD_PEER_DETECTION: [u8; 16] =
    [0xaf, 0xca, 0xd7, 0x13, 0x68, 0xa1, 0xf1, 0xc9, 0x6b, 0x86, 0x96, 0xfc, 0x77, 0x57, 0x01, 0x00];

/// What we announce besides dead peer detection.
pub const OWN_VENDOR_IDS: [[u8; 16]; 2] = [VENDOR_ID_GROUPVPN, VENDOR_ID_D3P];

/// The vendor ids that mean something to us.
const KNOWN: [&[u8]; 3] = [&VENDOR_ID_GROUPVPN, &VENDOR_ID_D3P, &VENDOR_ID_DEAD_PEER_DETECTION];

/// The vendor ids of a peer. Unknown ones are not kept, so that a peer cannot fill our memory with them.
///
/// No HASH of phase 1 covers a vendor id: one damaged on the way makes a peer of our own a stranger, which is told less than
/// it needs. So two that are ours tell theirs again in GROUPKEY-PULL, where the HASH does; a stranger gets nothing new.
//= https://www.rfc-editor.org/rfc/rfc2408#section-3.16
//# If a Vendor ID payload is sent, it MUST be sent during the Phase 1
//# negotiation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerVendorIds([bool; KNOWN.len()]);

impl PeerVendorIds {
    /// These, and those announced in `payloads`.
    #[must_use]
    pub(crate) fn with(mut self, payloads: &Payloads<'_>) -> Self {
        for payload in payloads.all(PayloadType::VENDOR_ID) {
            if let Some(index) = KNOWN.iter().position(|known| *known == payload.body()) {
                self.0[index] = true;
            }
        }
        self
    }

    /// Both.
    #[must_use]
    pub(super) fn and(self, other: PeerVendorIds) -> Self {
        Self(std::array::from_fn(|index| self.0[index] || other.0[index]))
    }

    pub(super) fn contains(self, vendor_id: &[u8]) -> bool {
        KNOWN.iter().zip(self.0).any(|(known, announced)| announced && *known == vendor_id)
    }
}

/// Adds dead peer detection's and the configured vendor ids to a message.
//= https://www.rfc-editor.org/rfc/rfc3706#section-5.1
//# An IKE peer MUST send the Vendor ID if it wishes to
//# take part in DPD exchanges.
pub(super) fn announce(chain: &mut PayloadChain, vendor_ids: &[Vec<u8>]) -> wire::Result<()> {
    push_vendor_ids(chain, &[VENDOR_ID_DEAD_PEER_DETECTION])?;
    push_vendor_ids(chain, vendor_ids)
}

/// Adds vendor ids to a message.
pub(crate) fn push_vendor_ids(chain: &mut PayloadChain, vendor_ids: &[impl AsRef<[u8]>]) -> wire::Result<()> {
    vendor_ids.iter().try_for_each(|id| chain.push(&VendorId::from(id.as_ref())).map(drop))
}
