//! The established phase 1 SA: what it knows, and the exchanges that it protects.

use std::collections::VecDeque;
use std::time::Duration;

use crypto::{CbcCipher, DhGroup, Digest, Hash, PrfKey, Random, Secret};
use wire::isakmp::{self, Cookie, Identity, Message, MessageId, PayloadChain, Payloads};
use wire::registry::{Doi, ExchangeType, PayloadType};

use super::event::{AssociationId, Phase2Error, Phase2Message};
use super::frame::Cookies;
use super::keys::{Iv, Protection};
use super::liveness::Liveness;
use super::message_ids::MessageIds;
use super::phase2::Exchanges;
use super::proof::Proven;
use super::settings::Mode;
use super::vendor::{OWN_VENDOR_IDS, PeerVendorIds, VENDOR_ID_DEAD_PEER_DETECTION, VENDOR_ID_GROUPVPN};
use crate::path::Path;
use crate::time::Instant;

/// Octets a UDP datagram over IPv4 can carry, less the non-ESP marker.
const MAXIMUM_MESSAGE: usize = 65_507 - 4;

/// How long the last phase 1 message is kept to answer a repetition of the one before: longer than any exchange.
const ANSWER_RETENTION: Duration = Duration::from_secs(60);

/// Informational messages by whose id a copy is known: a copy that the network or an attacker makes comes soon, and
/// what comes later changes nothing that its first copy did not.
const REMEMBERED_NOTICES: usize = 64;

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

/// An established phase 1 SA.
#[derive(Debug)]
pub struct Association {
    id: AssociationId,
    gateway: String,
    pub(super) path: Path,
    side: Side,
    mode: Mode,
    suite: Suite,
    cookies: Cookies,
    doi: Doi,
    non_esp_marker: bool,
    local_identity: Identity<'static>,
    peer_identity: Identity<'static>,
    vendor_ids: PeerVendorIds,
    established_at: Instant,
    expires_at: Instant,
    /// Octets of ciphertext that may still pass.
    octets_left: u64,
    skeyid_d: Secret,
    skeyid_a: PrfKey,
    protection: Protection,
    last_block: Iv,
    message_ids: MessageIds,
    pub(super) exchanges: Exchanges,
    pub(super) liveness: Liveness,
    last_answer: Option<LastAnswer>,
    /// Message ids of the last informational messages, newest last.
    notices: VecDeque<MessageId>,
}

/// The last message of phase 1, and the message it answers.
#[derive(Debug)]
pub(super) struct LastAnswer {
    pub(super) question: Digest,
    pub(super) answer: Vec<u8>,
}

/// What of an SA does not come out of the exchange's proof.
pub(super) struct Surroundings {
    pub(super) id: AssociationId,
    pub(super) path: Path,
    pub(super) side: Side,
    pub(super) mode: Mode,
    pub(super) cookies: Cookies,
    pub(super) non_esp_marker: bool,
    pub(super) last_answer: Option<LastAnswer>,
}

impl Association {
    pub(super) fn new(now: Instant, around: Surroundings, proven: Proven, random: &mut dyn Random) -> Self {
        let Proven { gateway, agreed, keys, .. } = proven;
        let detects = proven.vendor_ids.contains(&VENDOR_ID_DEAD_PEER_DETECTION);
        let detection = gateway.dead_peer_detection.filter(|_| detects);
        Self {
            id: around.id,
            gateway: gateway.name.clone(),
            path: around.path,
            side: around.side,
            mode: around.mode,
            suite: agreed.suite,
            cookies: around.cookies,
            doi: proven.doi,
            non_esp_marker: around.non_esp_marker,
            local_identity: proven.local_identity,
            peer_identity: proven.peer_identity,
            vendor_ids: proven.vendor_ids,
            established_at: now,
            expires_at: now + agreed.lifetime,
            octets_left: agreed.kilobytes.map_or(u64::MAX, |kilobytes| kilobytes.saturating_mul(1024)),
            skeyid_a: PrfKey::new(agreed.suite.hash, keys.skeyid_a.expose()),
            skeyid_d: keys.skeyid_d,
            protection: keys.protection,
            last_block: proven.last_block,
            message_ids: MessageIds::new(random),
            exchanges: Exchanges::default(),
            liveness: Liveness::new(now, detection, random),
            last_answer: around.last_answer,
            notices: VecDeque::new(),
        }
    }

    /// Decrypts a message of an exchange that is not phase 1, `None` if it is not encrypted in whole blocks.
    ///
    /// `iv` is that of the exchange, or `None` for its first message.
    fn open(&self, message: &Message<'_>, iv: Option<&Iv>) -> Option<(Vec<u8>, Iv)> {
        let first = || self.protection.phase2_iv(&self.last_block, message.header.message_id);
        let iv = iv.copied().unwrap_or_else(first);
        self.protection.open(&iv, message.body()).ok()
    }

    /// Decrypts a phase 2 message; nothing changes until it is accepted.
    pub(super) fn open_phase2(&self, message: &Message<'_>, digest: Digest) -> Option<Phase2Message> {
        let header = &message.header;
        let iv = self.exchanges.iv(header.message_id);
        let (payloads, next_iv) = self.open(message, iv)?;
        Some(Phase2Message {
            association: self.id,
            exchange: header.exchange,
            message_id: header.message_id,
            first: iv.is_none(),
            first_payload: header.next_payload,
            payloads,
            next_iv,
            digest,
        })
    }

    /// Decrypts an informational message and verifies its hash; returns its payloads with padding.
    pub(super) fn open_informational(&self, message: &Message<'_>) -> Option<Vec<u8>> {
        let (clear, _) = self.open(message, None)?;
        let payloads = Payloads::parse_decrypted(message.header.next_payload, &clear).ok()?;
        let hash = payloads.as_slice().first().filter(|payload| payload.kind == PayloadType::HASH)?;
        let expected = informational_hash(&self.skeyid_a, message.header.message_id, payloads.after_first());
        expected.matches(hash.body()).then_some(clear)
    }

    /// Whether an authenticated informational message is not one of the last ones once more.
    //= https://www.rfc-editor.org/rfc/rfc2409#section-5.7
    //# As noted the message ID in the ISAKMP header-- and used in the prf
    //# computation-- is unique to this exchange
    pub(super) fn is_notice_new(&mut self, message_id: MessageId) -> bool {
        if self.notices.contains(&message_id) {
            return false;
        }
        if self.notices.len() == REMEMBERED_NOTICES {
            self.notices.pop_front();
        }
        self.notices.push_back(message_id);
        true
    }

    /// An informational message with these payloads, HASH(1) put before them.
    pub(super) fn seal_informational(&mut self, payloads: &PayloadChain) -> wire::Result<Vec<u8>> {
        let message_id = self.fresh_message_id();
        informational(self.cookies, message_id, &self.skeyid_a, &self.protection, &self.last_block, payloads)
    }

    /// The next message of a phase 2 exchange.
    pub(super) fn seal_phase2(
        &mut self,
        now: Instant,
        exchange: ExchangeType,
        message_id: MessageId,
        first_payload: PayloadType,
        payloads: &[u8],
    ) -> Result<Vec<u8>, Phase2Error> {
        let iv = self.exchanges.iv(message_id).ok_or(Phase2Error::NoExchange)?;
        let content = (first_payload, payloads);
        let (message, next_iv) = self
            .cookies
            .sealed(exchange, message_id, content, &self.protection, iv)
            .map_err(|_| Phase2Error::TooLong)?;
        if message.len() > MAXIMUM_MESSAGE {
            return Err(Phase2Error::TooLong);
        }
        self.exchanges.sent(now, message_id, next_iv, &message);
        self.liveness.sent(now);
        Ok(message)
    }

    /// Starts a phase 2 exchange of ours.
    pub(super) fn start_phase2(&mut self, now: Instant) -> Result<MessageId, Phase2Error> {
        let message_id = self.fresh_message_id();
        let iv = self.protection.phase2_iv(&self.last_block, message_id);
        self.exchanges.start(now, message_id, iv)?;
        Ok(message_id)
    }

    /// A message id that was never used under this SA by us, nor in a phase 2 exchange by the peer.
    fn fresh_message_id(&mut self) -> MessageId {
        loop {
            let message_id = self.message_ids.next();
            if !self.exchanges.was_used(message_id) {
                return message_id;
            }
        }
    }

    /// Counts ciphertext; false when the SA has protected as much as it may.
    #[must_use]
    pub(super) fn spend(&mut self, octets: usize) -> bool {
        self.octets_left = self.octets_left.saturating_sub(octets as u64);
        self.octets_left > 0
    }

    /// The answer to a repetition of the last phase 1 message.
    pub(super) fn last_answer(&self, now: Instant, digest: &Digest) -> Option<&[u8]> {
        if now - self.established_at > ANSWER_RETENTION {
            return None;
        }
        self.last_answer.as_ref().filter(|last| last.question == *digest).map(|last| last.answer.as_slice())
    }

    /// The next moment at which something happens by itself.
    pub(super) fn deadline(&self) -> Instant {
        let others = [self.liveness.deadline(), self.exchanges.deadline()];
        others.into_iter().flatten().fold(self.expires_at, Instant::min)
    }

    pub(super) fn cookies(&self) -> Cookies {
        self.cookies
    }

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
        self.cookies.initiator
    }

    /// CKY-R.
    pub fn responder_cookie(&self) -> Cookie {
        self.cookies.responder
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

    /// Whether the peer announced this vendor id, one of those that this module names.
    pub fn has_vendor_id(&self, vendor_id: &[u8]) -> bool {
        self.vendor_ids.contains(vendor_id)
    }

    /// Whether the peer is our own product.
    pub fn peer_is_groupvpn(&self) -> bool {
        self.has_vendor_id(&VENDOR_ID_GROUPVPN)
    }

    /// What to tell the peer again in GROUPKEY-PULL: nothing if it is a stranger.
    pub(crate) fn repeated_vendor_ids(&self) -> &'static [[u8; 16]] {
        if self.peer_is_groupvpn() { &OWN_VENDOR_IDS } else { &[] }
    }

    /// Takes what the peer has told again, authenticated.
    pub(super) fn learn_vendor_ids(&mut self, vendor_ids: PeerVendorIds) {
        self.vendor_ids = self.vendor_ids.and(vendor_ids);
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

//= https://www.rfc-editor.org/rfc/rfc2409#section-5.7
//# HASH(1) = prf(SKEYID_a, M-ID | N/D)
pub(super) fn informational_hash(skeyid_a: &PrfKey, message_id: MessageId, payloads: &[u8]) -> Secret {
    skeyid_a.prf(&[&message_id.0.to_be_bytes(), payloads])
}

/// `HDR*, HASH(1), N/D`.
pub(super) fn informational(
    cookies: Cookies,
    message_id: MessageId,
    skeyid_a: &PrfKey,
    protection: &Protection,
    last_block: &Iv,
    payloads: &PayloadChain,
) -> wire::Result<Vec<u8>> {
    let hash = informational_hash(skeyid_a, message_id, payloads.bytes());
    let mut chain = PayloadChain::new();
    chain.push(&isakmp::Hash::from(hash.expose()))?.append(payloads);
    let iv = protection.phase2_iv(last_block, message_id);
    let content = (chain.first(), chain.bytes());
    let (message, _) = cookies.sealed(ExchangeType::INFORMATIONAL, message_id, content, protection, &iv)?;
    Ok(message)
}
