//! The established phase 1 SA.

use crypto::{CbcCipher, DhGroup, Digest, Hash, PrfKey, Secret};
use wire::isakmp::{Cookie, Identity};
use wire::registry::Doi;

use super::event::AssociationId;
use super::settings::Mode;
use crate::path::Path;
use crate::time::Instant;

/// Which side of the phase 1 exchange we were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We sent the first message.
    Initiator,
    /// The peer did.
    Responder,
}

/// The algorithms of an SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Hash, whose HMAC is the prf.
    pub hash: Hash,
    /// Cipher.
    pub cipher: CbcCipher,
    /// Diffie-Hellman group.
    pub group: DhGroup,
}

/// An established phase 1 SA: what the layers above may know about it.
#[derive(Debug)]
pub struct Association {
    pub(super) id: AssociationId,
    pub(super) gateway: String,
    pub(super) path: Path,
    pub(super) side: Side,
    pub(super) mode: Mode,
    pub(super) suite: Suite,
    pub(super) initiator_cookie: Cookie,
    pub(super) responder_cookie: Cookie,
    pub(super) doi: Doi,
    pub(super) non_esp_marker: bool,
    pub(super) local_identity: Identity<'static>,
    pub(super) peer_identity: Identity<'static>,
    pub(super) vendor_ids: Vec<Vec<u8>>,
    pub(super) established_at: Instant,
    pub(super) expires_at: Instant,
    pub(super) skeyid_d: Secret,
    pub(super) skeyid_a: PrfKey,
}

impl Association {
    /// Its name.
    pub fn id(&self) -> AssociationId {
        self.id
    }

    /// The gateway it belongs to.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Between whom.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Our side of the exchange.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The exchange it came from.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Its algorithms.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// CKY-I.
    pub fn initiator_cookie(&self) -> Cookie {
        self.initiator_cookie
    }

    /// CKY-R.
    pub fn responder_cookie(&self) -> Cookie {
        self.responder_cookie
    }

    /// The DOI of the phase 1 SA payload.
    pub fn doi(&self) -> Doi {
        self.doi
    }

    /// Whether the messages of this SA carry the non-ESP marker.
    pub fn non_esp_marker(&self) -> bool {
        self.non_esp_marker
    }

    /// The identity we proved.
    pub fn local_identity(&self) -> &Identity<'static> {
        &self.local_identity
    }

    /// The identity the peer proved.
    pub fn peer_identity(&self) -> &Identity<'static> {
        &self.peer_identity
    }

    /// Whether the peer announced this vendor id.
    pub fn has_vendor_id(&self, vendor_id: &[u8]) -> bool {
        self.vendor_ids.iter().any(|announced| announced == vendor_id)
    }

    /// When it was established.
    pub fn established_at(&self) -> Instant {
        self.established_at
    }

    /// When it ends at the latest.
    pub fn expires_at(&self) -> Instant {
        self.expires_at
    }

    /// `prf(SKEYID_a, parts)`: every HASH of the exchanges that this SA protects.
    pub fn prf_a(&self, parts: &[&[u8]]) -> Digest {
        self.skeyid_a.tag(parts)
    }

    /// SKEYID_d, from which keys of other SAs may be derived.
    pub fn skeyid_d(&self) -> &Secret {
        &self.skeyid_d
    }
}
