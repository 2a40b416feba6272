//! Main mode with a pre-shared key (RFC 2409 section 5.4), both sides.
//!
//! ```text
//!   Initiator                        Responder
//!   HDR, SA, [ VID ]            -->
//!                               <--  HDR, SA, [ VID ]
//!   HDR, KE, Ni                 -->
//!                               <--  HDR, KE, Nr
//!   HDR*, IDii, HASH_I, [ N ]   -->
//!                               <--  HDR*, IDir, HASH_R
//! ```
//!
//! The key is chosen before the identity is known, so by the peer's address (RFC 2409 section 5.4).

use std::sync::Arc;

use crypto::DhSecret;
use wire::isakmp::{self, Identity, Message, MessageId, PayloadChain};
use wire::registry::{Doi, ExchangeType, NotifyType, PayloadType};

use super::authentication::{
    announces_initial_contact, expect_identity, fresh, key_exchange_and_nonce, local_identification,
    peer_identity, required, security_association, shared_secret, verify_hash, wrong_identity,
};
use super::exchange::{Context, State, Step};
use super::frame::clear_payloads;
use super::keys::Iv;
use super::negotiation::{self, Agreed};
use super::proof::{Nonces, Proof, Proven, decrypted};
use super::refusal::{Authenticated, Refusal};
use super::settings::{Gateway, Mode};
use super::vendor::{PeerVendorIds, announce};

const EXCHANGE: ExchangeType = ExchangeType::IDENTITY_PROTECTION;

/// Initiator after message 1.
#[derive(Debug)]
pub(super) struct SentOffer {
    pub(super) gateway: Arc<Gateway>,
    pub(super) doi: Doi,
    sa_i_b: Vec<u8>,
}

/// Initiator after message 3.
#[derive(Debug)]
pub(super) struct SentKeyExchange {
    pub(super) gateway: Arc<Gateway>,
    pub(super) doi: Doi,
    sa_i_b: Vec<u8>,
    agreed: Agreed,
    ours: DhSecret,
    nonce_i: Vec<u8>,
    vendor_ids: PeerVendorIds,
}

/// Initiator after message 5.
#[derive(Debug)]
pub(super) struct SentHash {
    pub(super) gateway: Arc<Gateway>,
    pub(super) doi: Doi,
    agreed: Agreed,
    pub(super) proof: Proof,
    /// Last block of message 5.
    pub(super) iv: Iv,
    local_identity: Identity<'static>,
    vendor_ids: PeerVendorIds,
}

/// Responder after message 2.
#[derive(Debug)]
pub(super) struct SentChoice {
    /// The first of the gateways that the peer may be; all others have the same key and proposals.
    pub(super) gateway: Arc<Gateway>,
    pub(super) doi: Doi,
    sa_i_b: Vec<u8>,
    agreed: Agreed,
    vendor_ids: PeerVendorIds,
}

/// Responder after message 4.
#[derive(Debug)]
pub(super) struct AnsweredKeyExchange {
    pub(super) gateway: Arc<Gateway>,
    pub(super) doi: Doi,
    agreed: Agreed,
    proof: Proof,
    vendor_ids: PeerVendorIds,
}

/// Message 1.
pub(super) fn start(
    gateway: &Arc<Gateway>,
    doi: Doi,
    context: &mut Context<'_>,
) -> Result<(SentOffer, Vec<u8>), Refusal> {
    let sa_i_b = negotiation::offer(doi, gateway.proposals.iter())?;
    let message = offer_or_choice(context, &sa_i_b)?;
    Ok((SentOffer { gateway: gateway.clone(), doi, sa_i_b }, message))
}

/// Takes message 1, answers with message 2.
pub(super) fn respond(context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
    let payloads = clear_payloads(message)?;
    let sa_i_b = security_association(&payloads)?;
    let offered = negotiation::parse(sa_i_b)?;
    let mut refusal = Refusal::new(NotifyType::NO_PROPOSAL_CHOSEN, "no gateway is configured for this peer");
    for gateway in context.directory.candidates(&context.path) {
        if gateway.mode != Mode::Main {
            refusal = Refusal::new(NotifyType::INVALID_EXCHANGE_TYPE, "the gateway expects aggressive mode");
            continue;
        }
        match negotiation::choose(&offered, &gateway.proposals) {
            Ok((agreed, answer)) => {
                let reply = offer_or_choice(context, &answer)?;
                let state = SentChoice {
                    gateway: gateway.clone(),
                    doi: offered.doi,
                    sa_i_b: sa_i_b.to_vec(),
                    agreed,
                    vendor_ids: PeerVendorIds::default().with(&payloads),
                };
                return Ok(Step::Next(State::MainResponder2(state), reply));
            }
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

impl SentOffer {
    /// Takes message 2, answers with message 3.
    pub(super) fn handle(&self, context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
        let payloads = clear_payloads(message)?;
        let answer = negotiation::parse(security_association(&payloads)?)?;
        let agreed = negotiation::verify_answer(&answer, &self.gateway.proposals)?;
        let (ours, nonce_i) = fresh(context.random, agreed.suite.group)?;
        let reply = key_exchange(context, ours.public(), &nonce_i)?;
        let next = SentKeyExchange {
            gateway: self.gateway.clone(),
            // Peers that know only the IPsec DOI have been seen to answer with it.
            doi: answer.doi,
            sa_i_b: self.sa_i_b.clone(),
            agreed,
            ours,
            nonce_i,
            vendor_ids: PeerVendorIds::default().with(&payloads),
        };
        Ok(Step::Next(State::MainInitiator3(Box::new(next)), reply))
    }
}

impl SentKeyExchange {
    /// Takes message 4, answers with message 5.
    pub(super) fn handle(&self, context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
        let payloads = clear_payloads(message)?;
        let (g_xr, nonce_r) = key_exchange_and_nonce(&payloads, self.agreed.suite.group.public_len())?;
        let shared = shared_secret(&self.ours, g_xr)?;
        let nonces = Nonces { initiator: &self.nonce_i, responder: nonce_r };
        let public = [self.ours.public(), g_xr];
        let proof =
            Proof::new(&self.gateway, &self.agreed, context.cookies, nonces, &shared, public, &self.sa_i_b)?;
        let identification = local_identification(&self.gateway, &context.path)?;
        let payloads_5 = proof.identify_initiator(&identification, context.initial_contact)?;
        let (reply, iv) = proof.seal(EXCHANGE, &proof.first_iv(), &payloads_5)?;
        let next = SentHash {
            gateway: self.gateway.clone(),
            doi: self.doi,
            agreed: self.agreed,
            proof,
            iv,
            local_identity: identification.identity,
            vendor_ids: self.vendor_ids.with(&payloads),
        };
        Ok(Step::Next(State::MainInitiator5(Box::new(next)), reply))
    }
}

impl SentHash {
    /// Takes message 6.
    pub(super) fn handle(&self, context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
        let (clear, last_block) = self.proof.open(&self.iv, message)?;
        let payloads = decrypted(message, &clear)?;
        let identification = required(&payloads, PayloadType::IDENTIFICATION, "no ID payload")?;
        verify_hash(&payloads, &self.proof.hash_r(identification.body()))?;
        let refuse = |refusal: Refusal| {
            let keys = self.proof.keys.clone();
            refusal.authenticated(Authenticated { keys, last_block, delete: true })
        };
        let peer = peer_identity(identification).map_err(refuse)?;
        expect_identity(&self.gateway, context.path.remote.ip(), &peer).map_err(refuse)?;
        let proven = Proven {
            gateway: self.gateway.clone(),
            agreed: self.agreed,
            keys: self.proof.keys.clone(),
            last_block,
            doi: self.doi,
            local_identity: self.local_identity.clone(),
            peer_identity: peer,
            vendor_ids: self.vendor_ids,
            initial_contact: announces_initial_contact(&payloads),
        };
        Ok(Step::Done(Box::new(proven), None))
    }
}

impl SentChoice {
    /// Takes message 3, answers with message 4.
    pub(super) fn handle(&self, context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
        let payloads = clear_payloads(message)?;
        let (g_xi, nonce_i) = key_exchange_and_nonce(&payloads, self.agreed.suite.group.public_len())?;
        let (ours, nonce_r) = fresh(context.random, self.agreed.suite.group)?;
        let shared = shared_secret(&ours, g_xi)?;
        let nonces = Nonces { initiator: nonce_i, responder: &nonce_r };
        let public = [g_xi, ours.public()];
        let proof =
            Proof::new(&self.gateway, &self.agreed, context.cookies, nonces, &shared, public, &self.sa_i_b)?;
        let reply = key_exchange(context, ours.public(), &nonce_r)?;
        let next = AnsweredKeyExchange {
            gateway: self.gateway.clone(),
            doi: self.doi,
            agreed: self.agreed,
            proof,
            vendor_ids: self.vendor_ids.with(&payloads),
        };
        Ok(Step::Next(State::MainResponder4(Box::new(next)), reply))
    }
}

impl AnsweredKeyExchange {
    /// Takes message 5, answers with message 6.
    pub(super) fn handle(&self, context: &mut Context<'_>, message: &Message<'_>) -> Result<Step, Refusal> {
        let (clear, last_block) = self.proof.open(&self.proof.first_iv(), message)?;
        let payloads = decrypted(message, &clear)?;
        let identification = required(&payloads, PayloadType::IDENTIFICATION, "no ID payload")?;
        verify_hash(&payloads, &self.proof.hash_i(identification.body()))?;
        let refuse = |refusal: Refusal| {
            let keys = self.proof.keys.clone();
            refusal.authenticated(Authenticated { keys, last_block, delete: false })
        };
        let peer = peer_identity(identification).map_err(refuse)?;
        let gateway = context.directory.recognize(&context.path, &self.gateway, &peer).ok_or_else(|| {
            refuse(wrong_identity(&peer, self.gateway.expected_identity(context.path.remote.ip())))
        })?;
        let local = local_identification(&gateway, &context.path).map_err(refuse)?;
        let answer = self.proof.identify_responder(&local)?;
        let (reply, last_block) = self.proof.seal(EXCHANGE, &last_block, &answer)?;
        let proven = Proven {
            gateway,
            agreed: self.agreed,
            keys: self.proof.keys.clone(),
            last_block,
            doi: self.doi,
            local_identity: local.identity,
            peer_identity: peer,
            vendor_ids: self.vendor_ids,
            initial_contact: announces_initial_contact(&payloads),
        };
        Ok(Step::Done(Box::new(proven), Some(reply)))
    }
}

/// Messages 1 and 2.
fn offer_or_choice(context: &Context<'_>, body: &[u8]) -> wire::Result<Vec<u8>> {
    let mut chain = PayloadChain::new();
    chain.push_raw(PayloadType::SECURITY_ASSOCIATION, body)?;
    announce(&mut chain, context.vendor_ids)?;
    context.cookies.clear(EXCHANGE, MessageId::PHASE_ONE, &chain)
}

/// Messages 3 and 4.
fn key_exchange(context: &Context<'_>, public: &[u8], nonce: &[u8]) -> wire::Result<Vec<u8>> {
    let mut chain = PayloadChain::new();
    chain.push(&isakmp::KeyExchange::from(public))?.push(&isakmp::Nonce::from(nonce))?;
    context.cookies.clear(EXCHANGE, MessageId::PHASE_ONE, &chain)
}
