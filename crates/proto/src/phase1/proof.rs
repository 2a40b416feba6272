//! HASH_I and HASH_R, the messages that carry them, and what a phase 1 exchange ends with.

use std::sync::Arc;

use crypto::Secret;
use wire::isakmp::{
    self, Identification, Identity, Message, MessageId, Notification, PayloadBody, PayloadChain, Payloads,
};
use wire::registry::{Doi, ExchangeType, NotifyType, ProtocolId};

use super::event::Failure;
use super::frame::{Cookies, known_payloads};
use super::keys::{Iv, Keys, skeyid_of_pre_shared_key};
use super::negotiation::Agreed;
use super::refusal::Refusal;
use super::settings::Gateway;
use super::vendor::PeerVendorIds;

/// Both peers' public values, nonces and what they offered: all that HASH_I and HASH_R cover but the identities.
#[derive(Debug)]
pub(super) struct Proof {
    pub(super) keys: Keys,
    pub(super) cookies: Cookies,
    pub(super) g_xi: Vec<u8>,
    pub(super) g_xr: Vec<u8>,
    /// SAi_b: the octets of the initiator's SA payload, as they were on the wire.
    pub(super) sa_i_b: Vec<u8>,
}

/// The nonces of both peers.
#[derive(Clone, Copy)]
pub(super) struct Nonces<'a> {
    pub(super) initiator: &'a [u8],
    pub(super) responder: &'a [u8],
}

impl Proof {
    /// Derives the keys of the exchange from the pre-shared key.
    pub(super) fn new(
        gateway: &Gateway,
        agreed: &Agreed,
        cookies: Cookies,
        nonces: Nonces<'_>,
        shared: &Secret,
        [g_xi, g_xr]: [&[u8]; 2],
        sa_i_b: &[u8],
    ) -> Result<Self, Refusal> {
        let (hash, cipher) = (agreed.suite.hash, agreed.suite.cipher);
        let skeyid =
            skeyid_of_pre_shared_key(hash, &gateway.pre_shared_key, nonces.initiator, nonces.responder);
        let keys = Keys::derive(hash, cipher, &skeyid, shared, cookies.initiator, cookies.responder)
            .map_err(|_| {
                Refusal::new(NotifyType::INVALID_KEY_INFORMATION, "all keys that came out are weak")
                    .because(Failure::UnusableKeys)
            })?;
        Ok(Self { keys, cookies, g_xi: g_xi.to_vec(), g_xr: g_xr.to_vec(), sa_i_b: sa_i_b.to_vec() })
    }

    //= https://www.rfc-editor.org/rfc/rfc2409#section-5
    //# HASH_I = prf(SKEYID, g^xi | g^xr | CKY-I | CKY-R | SAi_b | IDii_b )
    pub(super) fn hash_i(&self, id_ii_b: &[u8]) -> Secret {
        let Cookies { initiator, responder } = self.cookies;
        self.keys.prf(&[&self.g_xi, &self.g_xr, &initiator.0, &responder.0, &self.sa_i_b, id_ii_b])
    }

    //= https://www.rfc-editor.org/rfc/rfc2409#section-5
    //# HASH_R = prf(SKEYID, g^xr | g^xi | CKY-R | CKY-I | SAi_b | IDir_b )
    pub(super) fn hash_r(&self, id_ir_b: &[u8]) -> Secret {
        let Cookies { initiator, responder } = self.cookies;
        self.keys.prf(&[&self.g_xr, &self.g_xi, &responder.0, &initiator.0, &self.sa_i_b, id_ir_b])
    }

    /// The IV of the first encrypted message.
    pub(super) fn first_iv(&self) -> Iv {
        self.keys.protection.phase1_iv(&self.g_xi, &self.g_xr)
    }

    /// Encrypts the payloads of one of the last messages; returns it and its last block.
    pub(super) fn seal(
        &self,
        exchange: ExchangeType,
        iv: &Iv,
        payloads: &PayloadChain,
    ) -> wire::Result<(Vec<u8>, Iv)> {
        let content = (payloads.first(), payloads.bytes());
        self.cookies.sealed(exchange, MessageId::PHASE_ONE, content, &self.keys.protection, iv)
    }

    /// Decrypts one of the last messages; returns its payloads with padding, and its last block.
    pub(super) fn open(&self, iv: &Iv, message: &Message<'_>) -> Result<(Vec<u8>, Iv), Refusal> {
        if !message.is_encrypted() {
            return Err(Refusal::new(NotifyType::INVALID_FLAGS, "not encrypted although there are keys"));
        }
        self.keys.protection.open(iv, message.body()).map_err(|_| {
            Refusal::new(NotifyType::PAYLOAD_MALFORMED, "encrypted message is not a whole number of blocks")
        })
    }

    /// ID and HASH of the initiator, with the notification of initial contact if asked for.
    pub(super) fn identify_initiator(
        &self,
        identification: &Identification<'_>,
        initial_contact: bool,
    ) -> wire::Result<PayloadChain> {
        let hash = self.hash_i(&identification.to_octets()?);
        let mut chain = PayloadChain::new();
        chain.push(identification)?.push(&isakmp::Hash::from(hash.expose()))?;
        if initial_contact {
            self.push_initial_contact(&mut chain)?;
        }
        Ok(chain)
    }

    /// ID and HASH of the responder.
    pub(super) fn identify_responder(
        &self,
        identification: &Identification<'_>,
    ) -> wire::Result<PayloadChain> {
        let hash = self.hash_r(&identification.to_octets()?);
        let mut chain = PayloadChain::new();
        chain.push(identification)?.push(&isakmp::Hash::from(hash.expose()))?;
        Ok(chain)
    }

    pub(super) fn push_initial_contact(&self, chain: &mut PayloadChain) -> wire::Result<()> {
        let notification = Notification {
            doi: Doi::IPSEC,
            protocol: ProtocolId::ISAKMP,
            spi: self.cookies.spi().to_vec().into(),
            kind: NotifyType::INITIAL_CONTACT,
            data: (&[]).into(),
        };
        chain.push(&notification).map(|_| ())
    }
}

/// The payloads of a message that was decrypted with keys nobody has proved yet: if they make no sense, the keys differ.
pub(super) fn decrypted<'a>(message: &Message<'_>, clear: &'a [u8]) -> Result<Payloads<'a>, Refusal> {
    let keys_differ = |refusal: Refusal| {
        Refusal { reason: "the message does not decrypt", ..refusal }.because(Failure::PreSharedKeysDiffer)
    };
    let payloads = Payloads::parse_decrypted(message.header.next_payload, clear)
        .map_err(|error| keys_differ(Refusal::malformed(error)))?;
    known_payloads(&payloads).map_err(keys_differ)?;
    Ok(payloads)
}

/// Everything an SA is made of, once both peers have proved who they are.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) gateway: Arc<Gateway>,
    pub(super) agreed: Agreed,
    pub(super) keys: Keys,
    pub(super) last_block: Iv,
    pub(super) doi: Doi,
    pub(super) local_identity: Identity<'static>,
    pub(super) peer_identity: Identity<'static>,
    pub(super) vendor_ids: PeerVendorIds,
    /// The peer says that it knows of no other SA with us.
    pub(super) initial_contact: bool,
}
